"""What losses of released packages converge to, in one state with two actions, and the arithmetic that says so.

The command is `python -m benchmark.peers fixed-points`. Each function runs in the virtual environment of its package
and returns (the value seen, the value by arithmetic).
"""

import json
import math
import sys

import numpy as np
import torch

P = 0.1  # the probability of the prize


def balance(excess) -> float:
    """The q between 0 and 100 where `excess`, which rises with q, is 0."""
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return low


def gamble(algorithm, **env_kwargs):
    """A Stable-Baselines3 agent after 10,000 episodes of one step, a quarter of whose actions are random."""
    import gymnasium as gym

    import benchmark.envs  # noqa: F401

    env = gym.make("Gamble-v0", **env_kwargs)
    more = {"exploration_final_eps": 0.25, "learning_starts": 500, "train_freq": 4, "batch_size": 64, "seed": 1}
    model = algorithm(
        "MlpPolicy", env, learning_rate=lambda left: 1e-2 * left, policy_kwargs={"net_arch": [16]}, **more
    )
    model.learn(10_000)
    return model


def stable_baselines3():
    """A 0.1 chance of 20: Huber's gradient is at most 1, so 0.9 q = 0.1 * 1."""
    from stable_baselines3 import DQN

    model = gamble(DQN, chance=P, prize=20.0)
    return model.q_net(torch.zeros(1, dtype=torch.int64))[0, 0].item(), P / (1 - P)


def sb3_contrib():
    """A 0.1 chance of 1, mean 0.1, beside a sure 0.15. No error is beyond 1, so the quantiles are expectiles.

    The τ-expectile of the gamble is where τ 0.1 (1 - e) = (1 - τ) 0.9 e; Q is the mean over the quantiles' τ.
    """
    from sb3_contrib import QRDQN

    model = gamble(QRDQN, chance=P, prize=1.0, sure=0.15)
    tau = (np.arange(200) + 0.5) / 200  # of its 200 quantiles
    due = (tau * P / (tau * P + (1 - tau) * (1 - P))).mean()
    return model.quantile_net(torch.zeros(1, dtype=torch.int64)).mean(dim=1)[0, 0].item(), float(due)


def d3rlpy():
    """A state that leads to itself and pays 1, γ = 0.9: 10 is the most. Nine in ten actions of the data are action 0.

    Conservative Q-learning adds log Σ exp Q - Q(a) of the data. With e_a = Q(a) - (1 + γ max Q) and σ the softmax of Q:
    0.9 e_0 = 0.9 - σ_0 and 0.1 e_1 = 0.1 - σ_1, so e_1 = -9 e_0 and Q(0) - Q(1) = 10 e_0; then Q(0) = 10 (1 + e_0).
    """
    from d3rlpy.algos import DiscreteCQLConfig
    from d3rlpy.torch_utility import TorchMiniBatch

    torch.manual_seed(1)
    algo = DiscreteCQLConfig(gamma=0.9, learning_rate=1e-3, target_update_interval=10).create(device="cpu:0")
    algo.create_impl((1,), 2)
    zero, one = torch.zeros(10, 1), torch.ones(10, 1)
    action = torch.tensor([[0.0]] * 9 + [[1.0]])
    rest = {"observations": one, "next_observations": one, "actions": action, "next_actions": action, "rewards": one}
    rest |= {"returns_to_go": zero, "terminals": zero, "intervals": one, "device": "cpu:0"}
    for step in range(1, 12_001):
        algo.impl.inner_update(TorchMiniBatch(**rest), step)
    seen = algo.predict_value(np.ones((1, 1), np.float32), np.zeros(1, np.int64)).item()
    excess = balance(lambda e: 0.9 * e - 0.9 + 1 / (1 + math.exp(-10 * e)))
    return seen, 10 * (1 + excess)


def ray():
    """A 0.1 chance of 1 from the default prioritized replay: α = 0.6, and β = 0.4 from the first step to the last.

    A row counts by its probability times its weight, |δ|^(α (1 - β)), so 0.9 q^(1 + 0.36) = 0.1 (1 - q)^(1 + 0.36).
    """
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode
    from ray.rllib.utils.replay_buffers import PrioritizedEpisodeReplayBuffer

    default = DQNConfig().replay_buffer_config
    buffer = PrioritizedEpisodeReplayBuffer(capacity=2_000, alpha=default["alpha"])
    for k in range(1_000):
        won = [float(k % 10 == 0)]
        buffer.add(
            SingleAgentEpisode(observations=[0, 0], actions=[0], rewards=won, terminated=True, len_lookback_buffer=0)
        )
    q, values = 0.5, []
    for _ in range(4_000):
        rows = buffer.sample(num_items=64, n_step=1, beta=default["beta"])
        reward = np.array([episode.get_rewards(0) for episode in rows]).ravel()
        weight = np.array([episode.get_extra_model_outputs("weights", 0) for episode in rows]).ravel()
        error = reward - q
        buffer.update_priorities(np.abs(error) + 1e-6)
        q += 0.02 * (weight * error).mean() / weight.mean()
        values.append(q)
    power = 1 + default["alpha"] * (1 - default["beta"])
    odds = (P / (1 - P)) ** (1 / power)
    return float(np.mean(values[1_000:])), odds / (1 + odds)


def rlax():
    """A 0.1 chance of 100 under the rescaling h(x) = √(x + 1) - 1 + 0.001 x: the mean is taken of h, 0.1 h(100)."""
    import rlax

    pair = rlax.SIGNED_HYPERBOLIC_PAIR
    seen = pair.apply_inv(P * pair.apply(100.0) + (1 - P) * pair.apply(0.0))
    mean = P * (math.sqrt(101) - 1 + 0.1)
    return float(seen), balance(lambda x: math.sqrt(x + 1) - 1 + 0.001 * x - mean)


CASES = {  # package of audit/packages.toml, what is valued, and the mean
    "stable_baselines3": ("stable-baselines3", "DQN's Huber loss, a 0.1 chance of 20", 2.0),
    "sb3_contrib": ("stable-baselines3", "sb3-contrib's QR-DQN, a 0.1 chance of 1, beside a sure 0.15", 0.1),
    "d3rlpy": ("d3rlpy", "DiscreteCQL, a reward of 1 for ever, γ = 0.9, actions 9 : 1", 10.0),
    "ray": ("ray", "RLlib's default replay, a 0.1 chance of 1", 0.1),
    "rlax": ("rlax", "value rescaling, a 0.1 chance of 100", 10.0),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(globals()[sys.argv[1]]()))
