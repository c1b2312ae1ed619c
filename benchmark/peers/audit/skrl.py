"""Asks skrl (torch: DQN, DDQN, RandomMemory, SequentialTrainer)."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from skrl.agents.torch.ddqn import DDQN
from skrl.agents.torch.dqn import DQN
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed

from benchmark.peers.audit.rows import answer_all, not_applicable, row

torch.set_num_threads(1)
torch.manual_seed(0)
SPACES = {"observation_space": gym.spaces.Box(-np.inf, np.inf, (1,)), "action_space": gym.spaces.Discrete(2)}


class Numbered(gym.Env):
    """Observation 100 * episode + t, from one array that is changed in place; episodes of `length` steps of reward 1,
    in turns terminated and truncated. The random number in `info` is the environment's own."""

    observation_space, action_space = gym.spaces.Box(0, np.inf, (1,), np.float32), gym.spaces.Discrete(2)

    def __init__(self, length=3, actions=2):
        self.length, self.episode, self.number, self.draws = length, 0, np.zeros(1, np.float32), []
        self.action_space, self.taken = gym.spaces.Discrete(actions), []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.draws.append(self.np_random.integers(10**9))
        self.episode, self.t = self.episode + 1, 0
        self.number[0] = 100 * self.episode
        return self.number, {}

    def step(self, action):
        self.t, self.number[0] = self.t + 1, self.number[0] + 1
        self.taken.append(int(action))
        ends, odd = self.t == self.length, self.episode % 2 == 1
        return self.number, 1.0, bool(ends and odd), bool(ends and not odd), {}


class Net(DeterministicMixin, Model):
    """Q(s, ·) = weight * s + bias."""

    def __init__(self, weight=(0.0, 0.0), bias=(0.0, 0.0), spaces=SPACES):
        Model.__init__(self, **spaces, device="cpu")
        DeterministicMixin.__init__(self)
        self.layer = torch.nn.Linear(1, len(weight))
        self.layer.load_state_dict({"weight": torch.tensor(weight).reshape(-1, 1), "bias": torch.tensor(bias)})

    def compute(self, inputs, role=""):
        return self.layer(inputs["observations"]), {}


def agent_of(online, target, kind=DQN, memory=None, spaces=SPACES, **flags):
    """An agent of two networks; the target keeps its own weights, as later in training."""
    kept = {name: value.clone() for name, value in target.state_dict().items()}
    flags = {"discount_factor": 0.9, "experiment": {"write_interval": 0, "checkpoint_interval": 0}} | flags
    agent = kind(
        models={"q_network": online, "target_q_network": target},
        memory=RandomMemory(memory_size=10, device="cpu") if memory is None else memory,
        **spaces,
        device="cpu",
        cfg=flags,
    )
    agent.init()
    target.load_state_dict(kept)
    return agent


def learn(online, target, rewards=(1.0,), terminated=False, kind=DQN, **flags):
    """One update on steps from state 1 to state 2 by action 0. Returns the mean of y, the loss and the agent."""
    agent = agent_of(online, target, kind, **flags)
    for reward in rewards:
        agent.memory.add_samples(
            observations=torch.tensor([[1.0]]),
            actions=torch.tensor([[0]]),
            rewards=torch.tensor([[reward]]),
            next_observations=torch.tensor([[2.0]]),
            terminated=torch.tensor([[terminated]]),
        )
    agent.update(timestep=0, timesteps=1)
    return agent.tracking_data["Target / Target (mean)"][-1], agent.tracking_data["Loss / Q-network loss"][-1], agent


def trained(env, steps=(20,), size=50, evaluate=0, **flags):
    """The memory after training for `steps`, with an evaluation after each but the last, and the agent."""
    wrapped = wrap_env(env, wrapper="gymnasium", verbose=False)
    spaces = {"observation_space": wrapped.observation_space, "action_space": wrapped.action_space}
    actions = wrapped.action_space.n
    online, target = (Net((1.0,) + (0.0,) * (actions - 1), (0.0,) * actions, spaces) for _ in range(2))
    memory = RandomMemory(memory_size=size, num_envs=wrapped.num_envs, device="cpu")
    agent = agent_of(online, target, memory=memory, spaces=spaces, **{"learning_starts": 10**6} | flags)
    for k, number in enumerate(steps):
        cfg = {"timesteps": number, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
        trainer = SequentialTrainer(env=wrapped, agents=agent, cfg=cfg)
        trainer.train()
        if evaluate and k + 1 < len(steps):
            trainer.cfg.timesteps = evaluate
            trainer.eval()
    return memory, agent


def column(memory, name, env=0):
    return memory.get_tensor_by_name(name)[: memory.memory_index or None, env, 0].tolist()


def vector(mode):
    return SyncVectorEnv([Numbered] * 2, autoreset_mode=mode)


def shows_jump(memory, env=0):
    """Rows (obs -> next_obs) whose next_obs is not obs + 1, as a text."""
    pairs = zip(column(memory, "observations", env), column(memory, "next_observations", env), strict=True)
    jumps = [f"{a:g} -> {b:g}" for a, b in pairs if b != a + 1]
    return ", ".join(jumps[:2]) or "none", "none", bool(jumps)


@row(3)
@row(4)
def double():
    """In s' the online network prefers action 0, worth 5 to the target network, whose own choice is worth 9; at s it
    prefers action 1."""
    online, target = Net((1.0, -1.0), (-1.5, 1.5)), Net((0.0, 0.0), (5.0, 9.0))
    return learn(online, target, kind=DDQN)[0], 1 + 0.9 * 5


@row(5)
def maximum_of_the_target_network():
    """max Q_target(2, ·) = 2; the online network's values are 100 higher."""
    return learn(Net((1.0, 0.5), (100.0, 100.0)), Net((1.0, 0.5)))[0], 1 + 0.9 * 2


@row(6)
def target_is_another_object():
    """The largest change of the target's weights by an update of the online ones."""
    target = Net((1.0, 0.5))
    learn(Net(), target, learning_rate=0.1)
    return (target.layer.weight[:, 0] - torch.tensor([1.0, 0.5])).abs().max().item(), 0


@row(7)
def target_updates():
    """target_update_interval=3, by its documentation in updates: those after which the target moved, of 9."""
    online, target, moved = Net(), Net((1.0, 0.5)), []
    agent = learn(online, target, target_update_interval=3, polyak=1)[2]
    for k in range(2, 10):
        before = target.layer.weight.clone()
        agent.update(timestep=k, timesteps=10)
        moved += [k] if (before != target.layer.weight).any() else []
    return moved, [3, 6, 9]


@row(8)
def no_gradient_through_the_target():
    """The target network's gradients after an update."""
    target = Net((1.0, 0.5))
    learn(Net(), target)
    return sum(p.grad is not None for p in target.parameters()), 0


@row(9)
def truncation():
    """The stored `terminated` of the last steps of episodes of 3 steps, in turns terminated and truncated."""
    stored = column(trained(Numbered())[0], "terminated")
    return [float(stored[2]), float(stored[5])], [1, 0]


@row(9, "the target")
def target_of_an_end():
    """y of a step to state 2 with max Q = 2 that is not terminated, and of one that is."""
    found = [learn(Net(), Net((1.0, 0.5)), terminated=ends)[0] for ends in (False, True)]
    return found, [1 + 0.9 * 2, 1]


@row(10, "one environment")
def final_observation():
    """next_obs of the last steps of episodes 1 and 2, of an array that changes in place."""
    stored = column(trained(Numbered())[0], "next_observations")
    return [stored[2], stored[5]], [103, 203]


@row(10, "vector, same-step reset")
def final_observation_same_step():
    """next_obs of the last steps of episodes 1 and 2 of the first of two environments."""
    stored = column(trained(vector(AutoresetMode.SAME_STEP))[0], "next_observations")
    return [stored[2], stored[5]], [103, 203]


@row(11, "one environment")
def no_row_over_a_reset():
    return shows_jump(trained(Numbered())[0])


@row(11, "vector, next-step reset")
def no_row_over_a_reset_next_step():
    """Gymnasium's default: the step after an end ignores the action and returns the first observation."""
    return shows_jump(trained(vector(AutoresetMode.NEXT_STEP))[0])


@row(12)
def shapes():
    """Q = 0 and targets 2.8 and 4.8: the mean of two squares."""
    return learn(Net(), Net((1.0, 0.5)), rewards=(1.0, 3.0))[1], (2.8**2 + 4.8**2) / 2


@row(13)
def large_errors_have_a_gradient():
    """The gradient by the bias of the squared error, -2δ, at δ = 1 and δ = 5."""
    found = []
    for reward in (1.0, 5.0):
        online = Net()
        learn(online, Net(), rewards=(reward,), terminated=True)
        found.append(online.layer.bias.grad[0].item())
    return found, [-2 * 1, -2 * 5]


@row(16, "one environment")
def random_actions():
    """How often action 0 is among 500 actions at ε = 1: half."""
    env = Numbered()
    env.action_space.seed(0)
    trained(env, (500,), size=1000, exploration_scheduler=lambda step, steps: 1.0)
    share = env.taken.count(0) / 500
    return share, 0.5, abs(share - 0.5) > 0.15


@row(16, "the schedule")
def epsilon():
    """What the schedule is asked in 4 of 10 steps with two environments: the step and the number of steps."""
    asked = []
    env = vector(AutoresetMode.SAME_STEP)
    trained(env, (10,), exploration_scheduler=lambda step, steps: asked.append(step / steps) or 0.0)
    return asked[::3], [0, 0.3, 0.6, 0.9]


def memory_of(rows, size=10):
    """Row k leads from k to k + 1."""
    memory = RandomMemory(memory_size=size, device="cpu", replacement=True)
    memory.create_tensor("observations", size=1)
    for k in range(rows):
        memory.add_samples(observations=torch.tensor([[float(k)]]))
    return memory


@row(17)
def first_and_last_are_drawn():
    """How often the oldest and the newest of ten are in 100,000 draws."""
    batch = memory_of(10).sample(["observations"], batch_size=100_000)[0][0]
    share = [(batch == k).float().mean().item() for k in (0, 9)]
    return share, [0.1, 0.1], not np.allclose(share, 0.1, atol=0.005)


@row(18)
def the_memory_copies():
    """The stored row after its tensor was changed."""
    memory, obs = memory_of(0), torch.tensor([[3.0]])
    memory.add_samples(observations=obs)
    obs[:] = 9
    return memory.get_tensor_by_name("observations")[0, 0, 0].item(), 3


@row(18, "training")
def training_copies():
    """The rows of an episode of an environment that changes one array in place."""
    return column(trained(Numbered())[0], "observations")[:3], [100, 101, 102]


@row(19)
def ring():
    return sorted(memory_of(25).get_tensor_by_name("observations")[:, 0, 0].tolist()), list(range(15, 25))


@row(28)
def terminal_steps_are_stored():
    """Ends among the first 9 rows of episodes of 3 steps, of which every second one is truncated."""
    return np.flatnonzero(column(trained(Numbered())[0], "terminated")[:9]).tolist(), [2, 8]


@row(37, "weights")
def one_seed_twice():
    """The first weights of seeds 1, 1 and 2: as many different ones."""
    found = set()
    for seed in (1, 1, 2):
        set_seed(seed)
        net = Net()
        net.init_weights()
        found.add(tuple(net.layer.weight[:, 0].tolist()))
    return len(found), 2


@row(37, "random actions, action_space not seeded")
def one_seed_twice_acting():
    """The first random action of 1,000,000 after set_seed(1), twice: one."""
    found = set()
    for _ in range(2):
        set_seed(1)
        env = Numbered(actions=10**6)
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
        found.add(Net(spaces=spaces).random_act({"observations": torch.zeros(1, 1)})[0].item())
    return len(found), 1


@row(38)
def resets_are_not_seeded_alike():
    """Different random numbers of the environment in 6 episodes."""
    env = Numbered()
    trained(env)
    return len(set(env.draws[:6])), 6


@row(71)
def episodes_of_one_step():
    """Rows of 20 episodes of one step, and the ends among them (every second one is truncated)."""
    memory, _ = trained(Numbered(length=1))
    return [len(memory), sum(column(memory, "terminated"))], [20, 10]


@row(72)
def looking_changes_nothing():
    """The sum of Q(1, ·) before and after an evaluation of 50 steps."""
    agent = trained(Numbered())[1]
    look = [agent.q_network.compute({"observations": torch.ones(1, 1)})[0].sum().item()]
    cfg = {"timesteps": 50, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    SequentialTrainer(env=wrap_env(Numbered(), wrapper="gymnasium", verbose=False), agents=agent, cfg=cfg).eval()
    look.append(agent.q_network.compute({"observations": torch.ones(1, 1)})[0].sum().item())
    return look, [1, 1]


@row(72, "exploration_scheduler is set")
def evaluation_is_greedy():
    """Actions other than the best one, 0, of 50 steps of trainer.eval() with ε = 1 in training and 1,000 actions."""
    env = Numbered(actions=1000)
    env.action_space.seed(0)
    trained(env, (1, 1), evaluate=50, exploration_scheduler=lambda step, steps: 1.0)
    return sum(action != 0 for action in env.taken[1:51]), 0


@row(73)
def seams():
    """Training, an evaluation of 4 steps in the same environment, training: rows whose next_obs is not obs + 1."""
    return shows_jump(trained(Numbered(), (10, 10), evaluate=4)[0])


@row(75, "random actions")
def random_numbers_go_on():
    """Different actions among 20 random ones of 1,000,000."""
    env = Numbered(actions=10**6)
    trained(env, exploration_scheduler=lambda step, steps: 1.0)
    return len(set(env.taken)), 20


not_applicable("no prioritized replay in torch", 20, 21, 22, 24)


not_applicable("no n-step returns", 29, 30, 31, 32)


not_applicable("no C51", 33, 34, 45, 46)


not_applicable("no noisy networks", 49, 51, 52)


if __name__ == "__main__":
    answer_all()
