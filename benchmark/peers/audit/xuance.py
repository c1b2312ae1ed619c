"""Asks XuanCe (torch: DQN, DDQN, PerDQN, NoisyDQN, C51 and their buffers, DummyVecEnv)."""

from argparse import Namespace
from contextlib import redirect_stdout
from io import StringIO

import gymnasium as gym
import numpy as np
import torch
from xuance.common import BaseCallback, DummyOffPolicyBuffer, PerOffPolicyBuffer
from xuance.environment import REGISTRY_ENV, RawEnvironment, make_envs
from xuance.torch.agents import C51_Agent, DDQN_Agent, DQN_Agent, NoisyDQN_Agent, PerDQN_Agent
from xuance.torch.policies.core import DuelQhead
from xuance.torch.utils import set_seed

from benchmark.peers.audit.rows import answer_all, not_applicable, row

torch.set_num_threads(1)
set_seed(0)
ONE, TWO = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32), gym.spaces.Discrete(2)


class Numbered(RawEnvironment):
    """Observation 100 * episode + t; episodes of `length` steps of reward 1, in turns terminated and truncated.
    `copies`: each observation is a new array; otherwise one array is changed in place."""

    def __init__(self, config):
        self.env, self.observation_space, self.action_space = None, ONE, TWO
        self.length = self.max_episode_steps = config.length
        self.copies, self.episode, self.number = config.copies, 0, np.zeros(1, np.float32)

    def shown(self):
        return self.number.copy() if self.copies else self.number

    def reset(self, **kwargs):
        self.episode, self.t = self.episode + 1, 0
        self.number[0] = 100 * self.episode
        return self.shown(), {}

    def step(self, action):
        self.t, self.number[0] = self.t + 1, self.number[0] + 1
        ends, odd = self.t == self.length, self.episode % 2 == 1
        return self.shown(), 1.0, ends and odd, ends and not odd, {}

    def render(self, *args, **kwargs):
        return None

    def close(self):
        return None


REGISTRY_ENV["Numbered"] = Numbered
CONFIG = {
    "agent": "DQN", "env_name": "Numbered", "env_id": "numbered", "env_seed": 1, "vectorize": "DummyVecEnv",
    "policy": "Basic_Q_network", "representation": "Basic_Identical", "q_hidden_size": [], "activation": "relu",
    "learner": "DQN_Learner", "seed": 1, "parallels": 1, "buffer_size": 48, "batch_size": 4, "learning_rate": 0.01,
    "gamma": 0.9, "start_greedy": 0.0, "end_greedy": 0.0, "decay_step_greedy": 100, "sync_frequency": 1000,
    "training_frequency": 1, "running_steps": 1000, "start_training": 10**6, "use_grad_clip": False,
    "grad_clip_norm": 0.5, "use_obsnorm": False, "use_rewnorm": False, "obsnorm_range": 5, "rewnorm_range": 5,
    "log_dir": "logs", "model_dir": "models", "logger": "tensorboard", "device": "cpu", "render": False,
    "render_mode": None, "fps": 1, "dl_toolbox": "torch", "distributed_training": False, "length": 3, "copies": True,
    "PER_alpha": 0.5, "PER_beta0": 0.4, "start_noise": 0.5, "end_noise": 0.5, "decay_step_noise": 1000,
    "atom_num": 3, "v_min": 0.0, "v_max": 20.0,
}  # fmt: skip
NOISY = {"agent": "NoisyDQN", "policy": "Noisy_Q_network"}
PER = {"agent": "PerDQN", "learner": "PerDQN_Learner"}
C51 = {"agent": "C51DQN", "policy": "C51_Q_network", "learner": "C51_Learner"}


class Seen(BaseCallback):
    """Keeps what the learner shows after an update."""

    def on_update_end(self, iterations, **kwargs):
        self.last = kwargs
        return {}


def agent_of(kind=DQN_Agent, online=None, target=None, **flags):
    """An agent whose networks are Q(s, ·) = weight * s + bias, given as pairs (weight, bias)."""
    config = Namespace(**CONFIG | flags)
    agent = kind(config, make_envs(config), callback=Seen())
    for head, given in (("eval", online), ("target", target)):
        if given:
            layer = getattr(agent.policy, f"{head}_Qhead" if hasattr(agent.policy, "eval_Qhead") else f"{head}_Zhead")
            layer = layer.model[0]
            weight, bias = (torch.tensor(values, dtype=torch.float32) for values in given)
            layer.load_state_dict({"weight": weight.reshape(-1, 1), "bias": bias})
    return agent


ZERO, HALF = ((0, 0), (0, 0)), ((1, 0.5), (0, 0))


def batch(rewards=(1.0,), terminal=False):
    """Steps from state 1 to state 2 by action 0, as the buffers give them."""
    size = len(rewards)
    rows = {"obs": np.ones((size, 1), np.float32), "actions": np.zeros(size), "obs_next": np.full((size, 1), 2.0)}
    return rows | {"rewards": np.array(rewards, np.float32), "terminals": np.full(size, terminal)}


def target_of(kind=DQN_Agent, online=ZERO, target=HALF, terminal=False, **flags):
    agent = agent_of(kind, online, target, **flags)
    agent.learner.update(**batch(terminal=terminal))
    return agent.callback.last["targetQ"].item()


def trained(kind=DQN_Agent, steps=(24,), test=0, **flags):
    """The agent after calls of train(); between them an evaluation of `test` episodes in its own environment."""
    agent = agent_of(kind, **flags)
    with redirect_stdout(StringIO()):
        for k, number in enumerate(steps):
            agent.train(number)
            if test and k + 1 < len(steps):
                agent.test(test, make_envs(Namespace(**CONFIG | flags)))
    return agent


def jumps(agent):
    """Rows (obs -> next_obs) whose next_obs is not obs + 1, as a text."""
    memory = agent.memory
    pairs = zip(memory.observations[0, : memory.size, 0], memory.next_observations[0, : memory.size, 0], strict=True)
    found = [f"{a:g} -> {b:g}" for a, b in pairs if b != a + 1]
    return ", ".join(found[:2]) or "none", "none", bool(found)


@row(1)
def dueling_over_actions():
    """Q of one state alone, and in a batch with another one."""
    head = DuelQhead(1, 2, [4], None, torch.nn.init.orthogonal_, torch.nn.ReLU, "cpu")
    return head(torch.tensor([[1.0]]))[0].tolist(), head(torch.tensor([[1.0], [5.0]]))[0].tolist()


@row(3)
@row(4)
def double():
    """In s' the online network prefers action 0, worth 5 to the target network, whose own choice is worth 9; at s it
    prefers action 1."""
    seen = target_of(DDQN_Agent, ((1, -1), (-1.5, 1.5)), ((0, 0), (5, 9)), agent="DDQN", learner="DDQN_Learner")
    return seen, 1 + 0.9 * 5


@row(5)
def maximum_of_the_target_network():
    """max Q_target(2, ·) = 2; the online network's values are 100 higher."""
    return target_of(online=((1, 0.5), (100, 100))), 1 + 0.9 * 2


@row(6)
def target_is_another_object():
    """The target's weights after an update of the online ones."""
    agent = agent_of(online=ZERO, target=HALF)
    agent.learner.update(**batch())
    return agent.policy.target_Qhead.model[0].weight[:, 0].tolist(), [1, 0.5]


@row(7)
def target_updates():
    """sync_frequency=3, counted in updates: those after which the target moved, of 9."""
    agent, moved = agent_of(online=ZERO, target=HALF, sync_frequency=3), []
    weight = agent.policy.target_Qhead.model[0].weight
    for k in range(1, 10):
        before = weight.clone()
        agent.learner.update(**batch())
        moved += [k] if (before != weight).any() else []
    return moved, [3, 6, 9]


@row(8)
def no_gradient_through_the_target():
    """The target network's gradients after an update."""
    agent = agent_of(online=ZERO, target=HALF)
    agent.learner.update(**batch())
    return sum(p.grad is not None for p in agent.policy.target_Qhead.parameters()), 0


@row(9)
def truncation():
    """The stored `terminals` of the last steps of episodes of 3 steps, in turns terminated and truncated."""
    return trained().memory.terminals[0, [2, 5]].tolist(), [1, 0]


@row(9, "the target")
def target_of_an_end():
    """y of a step to state 2 with max Q = 2 that is not terminal, and of one that is."""
    return [target_of(), target_of(terminal=True)], [1 + 0.9 * 2, 1]


@row(10)
def final_observation():
    """next_obs of the last steps of episodes 2 and 3 (the first one begins at 100 or 200, by the resets before)."""
    agent = trained()
    return (agent.memory.next_observations[0, [2, 5], 0] % 100).tolist(), [3, 3]


@row(10, "the environment reuses its array")
def final_observation_in_place():
    agent = trained(copies=False)
    return (agent.memory.next_observations[0, [2, 5], 0] % 100).tolist(), [3, 3]


@row(11)
def no_row_over_a_reset():
    """Of one call of train(), but for its first row, which is row 73."""
    agent = trained()
    first, after = agent.memory.observations[0, 1:24, 0], agent.memory.next_observations[0, 1:24, 0]
    return (after - first).tolist(), [1] * 23


@row(12)
def shapes():
    """Q = 0 and targets 2.8 and 4.8: the mean of two squares."""
    return agent_of(online=ZERO, target=HALF).learner.update(**batch((1.0, 3.0)))["Qloss"], (2.8**2 + 4.8**2) / 2


@row(13)
def large_errors_have_a_gradient():
    """The gradient by the bias of the squared error, -2δ, at δ = 1 and δ = 5."""
    found = []
    for reward in (1.0, 5.0):
        agent = agent_of(online=ZERO, target=HALF)
        agent.learner.update(**batch((reward,), terminal=True))
        found.append(agent.policy.eval_Qhead.model[0].bias.grad[0].item())
    return found, [-2 * 1, -2 * 5]


@row(16)
def epsilon():
    """ε after 50, 100 and 150 of 100 steps from 1 to 0."""
    schedule = {"start_greedy": 1.0, "end_greedy": 0.0, "decay_step_greedy": 100}
    return [trained(steps=(n,), **schedule).e_greedy for n in (50, 100, 150)], [0.5, 0, 0]


@row(16, "the schedule, several environments")
def epsilon_of_several():
    """ε after 20 environment steps, of 100 from 1 to 0: of DQN and PerDQN with 1 environment, and with 4."""
    schedule = {"start_greedy": 1.0, "end_greedy": 0.0, "decay_step_greedy": 100}
    runs = [(DQN_Agent, {}, 20, 1), (PerDQN_Agent, PER, 20, 1), (DQN_Agent, {}, 5, 4), (PerDQN_Agent, PER, 5, 4)]
    found = [trained(kind, (n,), parallels=envs, **more, **schedule).e_greedy for kind, more, n, envs in runs]
    return found, [1 - 20 / 100] * 4


@row(16, "several environments, buffer in NumPy")
def coins():
    """Of 400 steps of 4 environments with ε = 0.5: the share in which some act at random and some do not. With a coin
    for each, 1 - 2 / 16. The greedy action is -1 here, so that random ones show."""
    agent = agent_of(parallels=4, start_greedy=0.5, end_greedy=0.5)
    greedy = torch.full((4,), -1)
    mixed = [0 < (agent.exploration(greedy) >= 0).sum() < 4 for _ in range(400)]
    share = float(np.mean(mixed))
    return share, 1 - 2 / 16, share < 0.7


def filled(kind=DummyOffPolicyBuffer, rows=10, size=10, **arguments):
    """Row k leads from k to k + 1."""
    buffer = kind(ONE, TWO, None, 1, size, size, **arguments)
    for k in range(rows):
        buffer.store(np.array([[k]]), np.array([k % 2]), np.array([1.0]), np.array([False]), np.array([[k + 1]]))
    return buffer


def shares(buffer, draw, rows):
    obs = np.concatenate([draw()["obs"].ravel() for _ in range(800)])
    return [float(np.mean(obs == k)) for k in rows]


@row(17)
def first_and_last_are_drawn():
    """How often the oldest and the newest of ten are in 8,000 draws."""
    buffer = filled()
    share = shares(buffer, buffer.sample, (0, 9))
    return share, [0.1, 0.1], not np.allclose(share, 0.1, atol=0.02)


@row(17, "prioritized")
def first_and_last_are_drawn_by_priority():
    """The same, all priorities equal."""
    buffer = filled(PerOffPolicyBuffer, alpha=1.0)
    share = shares(buffer, lambda: buffer.sample(0.4), (0, 9))
    return share, [0.1, 0.1], not np.allclose(share, 0.1, atol=0.02)


@row(18)
def the_buffer_copies():
    buffer, obs = filled(rows=0), np.array([[3.0]])
    buffer.store(obs, np.zeros(1), np.zeros(1), np.zeros(1), obs)
    obs[:] = 9
    return [buffer.observations[0, 0, 0], buffer.next_observations[0, 0, 0]], [3, 3]


@row(19)
def ring():
    return sorted(filled(rows=25).observations[0, :, 0].tolist()), list(range(15, 25))


def prioritized(priorities, alpha):
    buffer = filled(PerOffPolicyBuffer, len(priorities), len(priorities), alpha=alpha)
    buffer.update_priorities(np.arange(len(priorities))[None], np.array(priorities, float))
    return buffer


@row(20)
def priority():
    """|δ| = 4 and 1, α = 0.5."""
    tree = prioritized([4, 1], 0.5)._it_sum[0]
    return [tree[0], tree[1]], [4**0.5, 1]


@row(21)
@row(74, "the loss")
def weights_are_used():
    """The gradient by the bias of two rows with y = 1 and Q = 0, at weights 1 and 1/4, and at 1 and 1: the mean of
    -2 * w."""
    found = []
    for weights in ([1.0, 0.25], [1.0, 1.0]):
        agent = agent_of(PerDQN_Agent, ZERO, HALF, **PER)
        agent.learner.update(**batch((1.0, 1.0), terminal=True), weights=np.array([weights]))
        found.append(agent.policy.eval_Qhead.model[0].bias.grad[0].item())
    return found, [-2 * (1 + 0.25) / 2, -2]


@row(74, "the weights")
def weights_fall_with_the_priority():
    """The buffer's weights of priorities 1 and 9 of four (1, 9, 1, 1) with β = 0.5: 1 and (1 / 9)^0.5."""
    drawn = prioritized([1, 9, 1, 1], 1.0).sample(0.5)
    found = dict(zip(drawn["step_choices"].ravel().tolist(), drawn["weights"].ravel().tolist(), strict=True))
    return [found[0], found[1]], [1, (1 / 9) ** 0.5]


@row(22, "a second train()")
def beta():
    """β from 0.4, after train(20), with an update in each step but the first, and after a second train(20), as the
    runner calls it between evaluations: at most 1."""
    seen = [trained(PerDQN_Agent, steps, start_training=0, **PER).PER_beta for steps in ((20,), (20, 20))]
    return seen, [0.4 + 0.6 * 19 / 20, 1]


@row(23)
def weights_are_not_in_the_priority():
    """The new priorities of two rows with y = 4 and 1 and Q = 0, at weights 1 and 1/4."""
    agent = agent_of(PerDQN_Agent, ZERO, HALF, **PER)
    rows = batch((4.0, 1.0), terminal=True)
    return agent.learner.update(**rows, weights=np.array([[1.0, 0.25]]))[0].tolist(), [4, 1]


@row(24)
def new_rows_have_the_largest_priority():
    """After |δ| = 4 anywhere, the row that overwrites another one has it (α = 1)."""
    buffer = prioritized([0.5, 4, 0.5, 0.5], 1.0)
    buffer.store(np.array([[9]]), np.zeros(1), np.zeros(1), np.zeros(1), np.array([[9]]))
    return buffer._it_sum[0][0], 4


@row(25)
def the_tree_does_not_drift():
    """The root against the sum of 64 leaves after 20,000 updates."""
    buffer, rng = prioritized(np.ones(64), 1.0), np.random.default_rng(0)
    for _ in range(313):
        buffer.update_priorities(np.arange(64)[None], 10.0 ** rng.uniform(-4, 4, 64))
    tree = buffer._it_sum[0]
    return tree.sum(), sum(tree[k] for k in range(64))


@row(26)
def draws_follow_the_priorities():
    """Priorities 1, 3, 2, 2."""
    buffer = prioritized([1, 3, 2, 2], 1.0)
    share, due = shares(buffer, lambda: buffer.sample(0.4), range(4)), [1 / 8, 3 / 8, 2 / 8, 2 / 8]
    return share, due, not np.allclose(share, due, atol=0.03)


@row(28)
def terminal_steps_are_stored():
    """Ends among the first 12 rows of episodes of 3 steps, of which every second one is truncated."""
    found = np.flatnonzero(trained().memory.terminals[0, :12])
    return np.diff(found).tolist(), [6]


def c51(online=None, target=None, terminal=False):
    """An update of C51 with the atoms 0, 10, 20. Returns what the learner shows and the agent."""
    agent = agent_of(C51_Agent, online, target, **C51)
    agent.learner.update(**batch((0.0,), terminal))
    return agent.callback.last, agent


def logits(*distributions):
    return (0,) * 6, tuple(float(np.log(p)) for each in distributions for p in each)


@row(33)
def projection():
    """r = 0 and p' = 0.25, 0.25, 0.5 on 0, 10, 20: on 0, 9, 18 the sums are 0.25 + 0.025, 0.225 + 0.1, 0.4."""
    target = logits((0.25, 0.25, 0.5), (0.25, 0.25, 0.5))
    return c51(target, target)[0]["target_dist"][0].tolist(), [0.275, 0.325, 0.4]


@row(34)
def gradient_of_a_tiny_probability():
    """Logits 0 and 20: the first atom has 2e-9 and all of the target: the gradient is p - 1."""
    _, agent = c51(((0,) * 6, (0, 20, 0, 0, 0, 0)), ((0,) * 6, (0,) * 6), terminal=True)
    return agent.policy.eval_Zhead.model[0].bias.grad[0].item(), -1


@row(45)
@row(46)
def next_action_of_c51():
    """Action 0 has 20 with 0.4, mean 8, for the target network, action 1 has 10 with 0.7, mean 7; the online network
    prefers action 1. The target's mean is 0.9 * 8."""
    online = logits((1 - 2e-9, 1e-9, 1e-9), (1e-9, 1e-9, 1 - 2e-9))
    seen = c51(online, logits((0.6, 1e-9, 0.4), (0.3, 0.7, 1e-9)))[0]["target_dist"][0]
    return (seen * torch.tensor([0.0, 10.0, 20.0])).sum().item(), 0.9 * 8


@row(37)
def one_seed_twice():
    """The first weight and the first actions at ε = 1 of seeds 1, 1 and 2: as many different ones."""
    found = set()
    for seed in (1, 1, 2):
        agent = trained(seed=seed, start_greedy=1.0, end_greedy=1.0)
        found.add((agent.policy.eval_Qhead.model[0].weight[0, 0].item(), *agent.memory.actions[0, :24].tolist()))
    return len(found), 2


@row(49)
def noise_is_drawn_anew():
    """Different values of one state in 5 looks, as in 5 steps before the first update."""
    agent = agent_of(NoisyDQN_Agent, **NOISY)
    agent.policy.noise_scale = 0.5
    return len({agent.policy(np.ones((1, 1)))[2][0, 0].item() for _ in range(5)}), 5


@row(50)
def target_has_its_own_noise():
    """How many of the two weights' noises the target network shares with the online one."""
    policy = agent_of(NoisyDQN_Agent, **NOISY).policy
    policy.update_noise(0.5)
    return (policy.eval_noise_parameter[0] == policy.target_noise_parameter[0]).sum().item(), 0


@row(51, "while acting")
def noise_while_acting():
    """The scale of the noise that get_actions() of a training step adds."""
    agent = agent_of(NoisyDQN_Agent, **NOISY)
    agent.get_actions(np.ones((1, 1), np.float32))
    return agent.policy.noise_scale, 0.5


@row(51, "in evaluation")
def evaluation_has_no_noise():
    """The scale in test(), which sets it to 0 before its first step."""
    agent = agent_of(NoisyDQN_Agent, **NOISY)
    with redirect_stdout(StringIO()):
        agent.test(1, make_envs(agent.config))
    return agent.policy.noise_scale, 0


not_applicable("noise of one scale, neither learned nor factorised", 52, 35)


@row(71)
def episodes_of_one_step():
    """Rows of 24 episodes of one step, and the ends among them (every second one is truncated)."""
    memory = trained(length=1).memory
    return [memory.size, float(memory.terminals[0, :24].sum())], [24, 12]


@row(72)
def looking_changes_nothing():
    """Q(1, 0) of DQN before and after an evaluation of 4 episodes."""
    agent = agent_of(online=HALF)
    look = [agent.policy(np.ones((1, 1)))[2][0, 0].item()]
    agent.test(4, make_envs(agent.config))
    return [*look, agent.policy(np.ones((1, 1)))[2][0, 0].item()], [1, 1]


@row(72, "NoisyDQN, acting")
def acting_leaves_the_weights():
    """How far the weights 1, 1/2 and the biases 0, 0 are, root mean square, after 10,000 actions without an update,
    noise of scale 0.05 (a random walk is at 0.05 * 10,000^0.5 = 5)."""
    agent = agent_of(NoisyDQN_Agent, online=HALF, start_noise=0.05, end_noise=0.05, **NOISY)
    for _ in range(10_000):
        agent.get_actions(np.ones((1, 1), np.float32))
    return moved(agent), 0


@row(72, "NoisyDQN, evaluation")
def evaluating_leaves_the_weights():
    """The same after an evaluation of 30 episodes of 3 steps, noise of scale 0.5."""
    agent = agent_of(NoisyDQN_Agent, online=HALF, **NOISY)
    agent.test(30, make_envs(agent.config))
    return moved(agent), 0


def moved(agent):
    """Root mean square of the differences from the weights of HALF."""
    now = torch.cat([p.detach().flatten() for p in agent.policy.eval_Qhead.parameters()])
    return (now - torch.tensor([1, 0.5, 0, 0])).square().mean().sqrt().item()


@row(73, "DummyVecEnv without use_obsnorm")
def seams():
    """Two calls of train(), as the runner makes between evaluations: rows whose next_obs is not obs + 1."""
    return jumps(trained(steps=(7, 7)))


@row(75)
def evaluations_do_not_rewind():
    """The actions at ε = 1 of two runs of 40 steps, with an evaluation after 10 and 20 and with none."""
    runs = (trained(steps=(10, 10, 20), test=test, start_greedy=1.0, end_greedy=1.0) for test in (3, 0))
    often, never = (agent.memory.actions[0, :40].tolist() for agent in runs)
    return often, never


@row(38)
def resets_are_not_seeded_alike():
    """Different first observations of CartPole-v1 in 6 episodes of its own wrapper."""
    envs = make_envs(Namespace(**CONFIG | {"env_name": "Classic Control", "env_id": "CartPole-v1"}))
    return len({float(envs.reset()[0][0, 0]) for _ in range(6)}), 6


not_applicable("no n-step returns", 29, 30, 31, 32)


if __name__ == "__main__":
    answer_all()
