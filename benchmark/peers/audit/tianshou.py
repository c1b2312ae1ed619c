"""Asks tianshou (DQN, C51, RainbowDQN, its buffers, Collector and trainer)."""

import contextlib
import io
import logging

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm import C51, DQN, RainbowDQN
from tianshou.algorithm.modelfree.c51 import C51Policy
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import TorchOptimizerFactory
from tianshou.data import (
    Batch,
    Collector,
    PrioritizedReplayBuffer,
    PrioritizedVectorReplayBuffer,
    ReplayBuffer,
    SegmentTree,
    VectorReplayBuffer,
)
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import NoisyLinear
from tianshou.utils.torch_utils import policy_within_training_step

from benchmark.peers.audit.rows import answer_all, row

torch.set_num_threads(1)
torch.manual_seed(0)
logging.disable(logging.WARNING)
TWO = gym.spaces.Discrete(2)


class Numbered(gym.Env):
    """Observation 1,000 * episode + t, from one array that is changed in place; episodes of `length` steps of reward 1,
    in turns terminated and truncated."""

    observation_space = gym.spaces.Box(0, np.inf, (1,), np.float32)

    def __init__(self, length=5, actions=2):
        self.length, self.episode, self.number = length, -1, np.zeros(1, np.float32)
        self.action_space, self.draws = gym.spaces.Discrete(actions), []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.draws.append(int(self.np_random.integers(10**9)))
        self.episode, self.t = self.episode + 1, 0
        self.number[0] = 1000 * self.episode
        return self.number, {}

    def step(self, action):
        self.t, self.number[0] = self.t + 1, self.number[0] + 1
        ends, odd = self.t == self.length, self.episode % 2 == 1
        return self.number, 1.0, ends and not odd, ends and odd, {}


class Line(torch.nn.Module):
    """Q(s, ·) = weight * s + bias."""

    def __init__(self, weight=(0.0, 0.0), bias=(0.0, 0.0)):
        super().__init__()
        self.layer = torch.nn.Linear(1, len(weight))
        self.layer.load_state_dict({"weight": torch.tensor(weight).reshape(-1, 1), "bias": torch.tensor(bias)})

    def forward(self, obs, state=None, info=None):
        return self.layer(torch.as_tensor(obs, dtype=torch.float32).reshape(-1, 1)), state


class Atoms(torch.nn.Module):
    """The same probabilities in every state, from logits (actions, atoms); without logits all of it on atom s."""

    def __init__(self, logits=None, atoms=3):
        super().__init__()
        self.one_hot, self.logits = logits is None, torch.nn.Parameter(torch.zeros(2, atoms))
        if logits is not None:
            self.logits.data = torch.as_tensor(logits)

    def forward(self, obs, state=None, info=None):
        numbers = torch.as_tensor(obs).long().reshape(-1)
        if self.one_hot:
            here = torch.nn.functional.one_hot(numbers, self.logits.shape[1])[:, None].expand(-1, 2, -1)
            return here + 0 * self.logits, state
        return self.logits.softmax(-1).expand(len(numbers), -1, -1), state


def algorithm(online, target=None, kind=DQN, actions=TWO, atoms=None, eps=0.0, eps_inference=0.0, **flags):
    """An algorithm with two networks, where the target network has its own weights, as later in training."""
    eps = {"eps_training": eps, "eps_inference": eps_inference}
    if atoms:
        policy = C51Policy(online, actions, num_atoms=atoms[0], v_min=atoms[1], v_max=atoms[2], **eps)
        kind = C51 if kind is DQN else kind
    else:
        policy = DiscreteQLearningPolicy(model=online, action_space=actions, **eps)
    flags = {"gamma": 0.9, "target_update_freq": 0 if target is None else 1000} | flags
    made = kind(policy=policy, optim=TorchOptimizerFactory(torch.optim.SGD, lr=0.1), **flags)
    if target is not None:
        made.model_old.module.load_state_dict(target.state_dict())
    return made


def kept(owner, name):
    """The results of a method's calls from now on."""
    found, method = [], getattr(owner, name)
    setattr(owner, name, lambda *values, **more: found.append(method(*values, **more)) or found[-1])
    return found


def add(buffer, state, action=0, reward=1.0, terminated=False, truncated=False, following=None):
    following = state + 1 if following is None else following
    obs, obs_next = np.array([state], float), np.array([following], float)
    step = {"obs": obs, "act": action, "rew": reward, "terminated": terminated, "truncated": truncated}
    buffer.add(Batch(**step, obs_next=obs_next, info={}))


def filled(buffer, count=25, **more):
    """Transition k leads from k to k + 1, pays 1 and is never an end."""
    for k in range(count):
        add(buffer, k, **more)
    return buffer


def update(made, buffer):
    """One update with all rows of a buffer, from the oldest to the newest. Returns their targets y."""
    batches = kept(made, "_preprocess_batch")
    with policy_within_training_step(made.policy):
        made.update(buffer, 0)
    return batches[-1].returns.reshape(len(buffer), -1).squeeze(1).tolist()


def target_of(online, target, **more):
    """y of a step from state 1 to state 2 with reward 1."""
    return update(algorithm(online, target, **more), filled(ReplayBuffer(1), 2))[0]


def collector_of(made, buffer=None, envs=1, **more):
    """A Collector for training, or, outside of a training step, for evaluation."""
    buffer = VectorReplayBuffer(2000, envs) if buffer is None else buffer
    env = DummyVectorEnv([lambda: Numbered(**more)] * envs)
    collector = Collector(made.policy, env, buffer, exploration_noise=True)
    collector.reset()
    return collector


def collected(steps=10, buffer=None, made=None, training=True, **more):
    """The buffer after a Collector's steps, by default in one environment and with a policy that takes action 0."""
    made = algorithm(Line()) if made is None else made
    collector = collector_of(made, buffer, **more)
    with policy_within_training_step(made.policy, enabled=training):
        collector.collect(n_step=steps)
    return collector.buffer, collector


def train(made, collector, test=None, epochs=1):
    """run_training: 10 environment steps an epoch, an update after each, and an evaluation after each epoch."""
    params = {"max_epochs": epochs, "epoch_num_steps": 10, "collection_step_num_env_steps": 1, "batch_size": 4}
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        made.run_training(OffPolicyTrainerParams(**params, training_collector=collector, test_collector=test))


def prioritized(priorities=(1, 4)):
    """A row for each priority (α = β = 1), from state 1 to state 2, with actions 0, 1, 0, ..."""
    buffer = PrioritizedReplayBuffer(len(priorities), alpha=1.0, beta=1.0)
    for k in range(len(priorities)):
        add(buffer, 1, action=k % 2)
    buffer.update_weight(np.arange(len(priorities)), np.array(priorities, float))
    return buffer


def dueling(**more):
    heads = ({"hidden_sizes": [4]}, {"hidden_sizes": [4]})
    return Net(state_shape=(1,), action_shape=2, hidden_sizes=[4], dueling_param=heads, **more)


def rainbow(**flags):
    """RainbowDQN on a dueling network with noisy heads, three atoms, and its first noisy layer."""
    heads = ({"hidden_sizes": [4], "linear_layer": NoisyLinear}, {"hidden_sizes": [4], "linear_layer": NoisyLinear})
    net = Net(state_shape=(1,), action_shape=2, hidden_sizes=[4], softmax=True, num_atoms=3, dueling_param=heads)
    made = algorithm(net, kind=RainbowDQN, atoms=(3, 0.0, 20.0), **flags)
    return made, next(m for m in net.modules() if isinstance(m, NoisyLinear))


@row(1)
@row(48, "dueling with atoms")
def dueling_alone():
    """Q of one state alone, and in a batch with another one; the same with three atoms."""
    nets, one, both = [dueling(), dueling(num_atoms=3)], np.ones((1, 1)), np.array([[1.0], [5.0]])
    seen, due = ([v for net in nets for v in net(obs)[0][0].flatten().tolist()] for obs in (one, both))
    return seen, due


@row(2)
def dueling_mean():
    """The mean of Q over the actions is V."""
    net, obs = dueling(), np.ones((1, 1))
    return net(obs)[0].mean().item(), net.V(net.model(obs)).item()


@row(3)
@row(4)
def double():
    """In s' the online network prefers action 0, worth 5 to the target network, whose own choice is worth 9; at s it
    prefers action 1."""
    return target_of(Line((1.0, -1.0), (-1.5, 1.5)), Line(bias=(5.0, 9.0))), 1 + 0.9 * 5


@row(5)
def maximum_of_the_target_network():
    """is_double=False: max Q_target(2, ·) = 2; the online network's values are 100 higher."""
    return target_of(Line((1.0, 0.5), (100.0, 100.0)), Line((1.0, 0.5)), is_double=False), 1 + 0.9 * 2


@row(6)
@row(8)
def target_stays():
    """Gradients in the target network after the second update (the first one copies), and the change of its weights."""
    made = algorithm(Line((1.0, 0.5)), Line())
    update(made, filled(ReplayBuffer(1)))
    target = made.model_old.module.layer
    before = target.weight.clone()
    update(made, filled(ReplayBuffer(1)))
    return [sum(p.grad is not None for p in target.parameters()), (target.weight - before).abs().max().item()], [0, 0]


@row(7)
def target_updates():
    """target_update_freq=3, by its documentation in updates: the target moves with updates 4, 7, 10, before the step of
    each."""
    made, moved = algorithm(Line(), Line(), target_update_freq=3), []
    update(made, filled(ReplayBuffer(1)))
    for k in range(2, 11):
        before = made.model_old.module.layer.weight.clone()
        update(made, filled(ReplayBuffer(1)))
        moved += [k] if (before != made.model_old.module.layer.weight).any() else []
    return moved, [4, 7, 10]


@row(9)
def truncation():
    """Q(s) = s: y of a terminated step, and of one truncated at 1005."""
    y = update(algorithm(Line((1.0, 1.0))), collected()[0])
    return [y[4], y[9]], [1, 1 + 0.9 * 1005]


@row(10)
def final_observation():
    """obs_next of the last steps of episodes 0 and 1, of an array that changes in place."""
    return collected(20)[0].obs_next[[4, 9], 0].tolist(), [5, 1005]


@row(10, "ignore_obs_next, truncated")
def final_observation_left_out():
    """obs_next of the row of 1004, cut off at 1005: without a stored one it is the row's own observation."""
    buffer, _ = collected(20, buffer=VectorReplayBuffer(100, 1, ignore_obs_next=True))
    return buffer[np.array([9])].obs_next.item(), 1005


@row(11)
def no_row_over_a_reset():
    """20 steps: the rows begin at 0 to 4, 1000 to 1004, ... and lead to the next number."""
    buffer, _ = collected(20)
    due = [1000 * episode + t for episode in range(4) for t in range(5)]
    seen = [*buffer[:].obs[:, 0].tolist(), *buffer[:].obs_next[:, 0].tolist()]
    return seen, [*due, *(number + 1 for number in due)]


@row(12)
def shapes():
    """Targets 1 and 3 for Q = 0: the loss is the mean of 1 and 9, not of four differences."""
    buffer, made = ReplayBuffer(2), algorithm(Line())
    for reward in (1.0, 3.0):
        add(buffer, 1, reward=reward, terminated=True)
    losses = kept(made, "_update_with_batch")
    update(made, buffer)
    return losses[0].loss, (1**2 + 3**2) / 2


def gradient(buffer, **flags):
    """Of the two actions' biases where Q = 0."""
    made = algorithm(Line(), **flags)
    update(made, buffer)
    return made.policy.model.layer.bias.grad.tolist()


@row(13)
def huber_keeps_its_gradient():
    """δ = 1 and δ = 5."""
    buffers = [filled(ReplayBuffer(1), 1, reward=reward, terminated=True) for reward in (1.0, 5.0)]
    return [gradient(buffer, huber_loss_delta=1.0)[0] for buffer in buffers], [-1, -1]


@row(14)
@row(15)
@row(21, "squared error")
@row(74, "squared error")
def weights_with_the_squared_error():
    """δ = 1 in both rows; priorities 1 and 4 and β = 1 give weights 1 and 1/4: gradients -2 δ w / 2."""
    return gradient(prioritized()), [-1, -1 / 4]


@row(21, "Huber")
@row(74, "Huber")
def weights_with_huber():
    """The same with Huber's loss: gradients -w / 2."""
    return gradient(prioritized(), huber_loss_delta=1.0), [-1 / 2, -1 / 8]


def random_actions(envs=1, training=True):
    """Of 1,200 steps with eps_training = 0.5 and eps_inference = 0, which action is not the greedy one of 1,000."""
    np.random.seed(0)
    made = algorithm(Line((0.0,) * 1000, (0.0,) * 1000), eps=0.5, actions=gym.spaces.Discrete(1000))
    buffer, _ = collected(1200, VectorReplayBuffer(1200, envs), made, training, envs=envs, actions=1000)
    return buffer.act[:1200] != 0


@row(16)
def epsilon():
    """The share of random actions in training, and outside."""
    share = [float(random_actions(training=training).mean()) for training in (True, False)]
    return share, [0.5, 0], abs(share[0] - 0.5) > 0.05 or share[1] > 0


@row(16, "four environments")
def epsilon_of_each_environment():
    """How often 0, 1, 2, 3 and 4 of them take a random action: each has a coin of its own."""
    counts = np.bincount(random_actions(envs=4).reshape(4, 300).sum(0), minlength=5).tolist()
    return counts, [300 * n / 16 for n in (1, 4, 6, 4, 1)], sum(counts[1:4]) < 200


@row(17)
def first_and_last_are_drawn():
    """How often the oldest and the newest of ten are in 100,000 draws, of each buffer."""
    np.random.seed(0)
    buffers = [filled(ReplayBuffer(10)), filled(PrioritizedReplayBuffer(10, 0.5, 0.5))]
    obs = [buffer.sample(100_000)[0].obs for buffer in buffers]
    share = [float((each == k).mean()) for each in obs for k in (15, 24)]
    return share, [0.1] * 4, not np.allclose(share, 0.1, atol=0.005)


@row(18)
def the_buffer_copies():
    buffer, obs = ReplayBuffer(2), np.array([3.0])
    buffer.add(Batch(obs=obs, act=0, rew=0.0, terminated=False, truncated=False, obs_next=obs, info={}))
    obs[:] = 9
    return [buffer.obs[0, 0], buffer.obs_next[0, 0]], [3, 3]


@row(19)
def ring():
    return sorted(filled(ReplayBuffer(10)).obs[:, 0].tolist()), list(range(15, 25))


@row(20)
def priority():
    """|δ| = 4, α = 0.5, by an update."""
    buffer = filled(PrioritizedReplayBuffer(1, alpha=0.5, beta=1.0), 1, reward=-4.0, terminated=True)
    update(algorithm(Line()), buffer)
    return buffer.weight[0].item(), 4**0.5


def weights_after_set_beta(buffer):
    """Weights of priorities 1 and 4 with β = 0.5, and after set_beta(1)."""
    collected(2, buffer)
    buffer.update_weight(np.arange(2), np.array([1.0, 4.0]))
    before = buffer[np.arange(2)].weight.tolist()
    buffer.set_beta(1.0)
    return before + buffer[np.arange(2)].weight.tolist(), [1, 4**-0.5, 1, 4**-1]


@row(22)
def beta():
    return weights_after_set_beta(PrioritizedReplayBuffer(2, alpha=1.0, beta=0.5))


@row(22, "vector buffer")
def beta_of_the_vector_buffer():
    return weights_after_set_beta(PrioritizedVectorReplayBuffer(2, 1, alpha=1.0, beta=0.5))


@row(23)
def priority_without_the_weight():
    """|δ| = 1 in both rows, with weights 1 and 1/4."""
    buffer = prioritized()
    update(algorithm(Line()), buffer)
    return buffer.weight[np.arange(2)].tolist(), [1, 1]


@row(24)
def new_rows_have_the_largest_priority():
    """A row that overwrites one of priority 0.5, after a largest one of 4."""
    buffer = prioritized((0.5, 4))
    add(buffer, 3)
    return buffer.weight[0].item(), 4


@row(25)
def the_tree_does_not_drift():
    """The root and the sum of 64 leaves after 20,000 updates between 1e-4 and 1e4."""
    tree, rng = SegmentTree(64), np.random.default_rng(0)
    for _ in range(20_000):
        tree[np.array([rng.integers(64)])] = 10.0 ** rng.uniform(-4, 4, 1)
    return float(tree.reduce()), float(tree[np.arange(64)].sum())


@row(26)
def draws_follow_the_priorities():
    """Priorities 1, 3, 2, 2."""
    np.random.seed(0)
    share = (np.bincount(prioritized((1, 3, 2, 2)).sample_indices(80_000)) / 80_000).tolist()
    return share, [1 / 8, 3 / 8, 2 / 8, 2 / 8], not np.allclose(share, [1 / 8, 3 / 8, 2 / 8, 2 / 8], atol=0.005)


def stack(buffer, name):
    """The stack of three frames of the first row of episode 10, 11, 12, which follows episode 0, 1, 2."""
    for k in (0, 1, 2, 10, 11, 12):
        add(buffer, k, terminated=k in (2, 12))
    return buffer[np.array([3])][name].flatten().tolist()


@row(27, "obs")
def frames_of_one_episode():
    return stack(ReplayBuffer(10, stack_num=3), "obs"), [10, 10, 10]


@row(27, "obs_next")
def next_frames_of_one_episode():
    """The stack one step later begins with the same two frames."""
    return stack(ReplayBuffer(10, stack_num=3), "obs_next"), [10, 10, 11]


@row(27, "obs_next, ignore_obs_next")
def next_frames_without_stored_ones():
    return stack(ReplayBuffer(10, stack_num=3, ignore_obs_next=True), "obs_next"), [10, 10, 11]


@row(28)
def last_steps_are_stored():
    """Rows that end an episode, among the first ten, with their reward."""
    buffer, _ = collected()
    return [*np.flatnonzero(buffer.done[:10]).tolist(), *buffer.rew[[4, 9]].tolist()], [4, 9, 1, 1]


def windows(bootstrap):
    """y with n = 3 and Q = bootstrap of an episode of three steps that terminates and one that is truncated."""
    made = algorithm(Line(bias=(bootstrap, bootstrap)), n_step_return_horizon=3)
    return np.array(update(made, collected(6, length=3)[0]))


@row(29)
@row(30)
def windows_end_with_their_episode():
    """The sums of rewards from each of the six steps."""
    return windows(0.0).tolist(), [1 + 0.9 + 0.81, 1 + 0.9, 1] * 2


@row(31)
def discount_of_short_windows():
    """What Q = 1 adds: nothing before a termination, γ^k before a truncation."""
    return (windows(1.0) - windows(0.0)).tolist(), [0, 0, 0, 0.9**3, 0.9**2, 0.9]


@row(29, "steps collected before run_training")
@row(73, "n-step, steps collected before run_training")
def windows_at_a_seam():
    """7 steps, the last from 1001 to 1002, then run_training, which resets the environment: 2000, 2001, ... Q(s) = s,
    n = 3: the window from 1001 has one step."""
    made = algorithm(Line((1.0, 1.0)), n_step_return_horizon=3)
    buffer, collector = collected(7, made=made)
    train(algorithm(Line()), collector)
    found = buffer[:].obs[5:8, 0].tolist()
    assert found == [1000, 1001, 2000], found
    return update(made, buffer)[6], 1 + 0.9 * 1002


@row(73, "one step, steps collected before run_training")
def rows_at_a_seam():
    buffer, collector = collected(7)
    train(algorithm(Line()), collector)
    return buffer[:].obs_next[5:9, 0].tolist(), [1001, 1002, 2001, 2002]


@row(32)
def windows_end_at_the_newest_step():
    """A ring of 10 after 25 steps, the newest from 24 to 25; Q(s) = s, n = 3."""
    y = update(algorithm(Line((1.0, 1.0)), n_step_return_horizon=3), filled(ReplayBuffer(10)))
    due = [1 + 0.9 + 0.81 + 0.9**3 * 25, 1 + 0.9 + 0.9**2 * 25, 1 + 0.9 * 25]
    return y[-3:], due


def distribution(made, buffer):
    """The target distribution of a buffer's first row."""
    found = kept(made, "_target_dist")
    update(made, buffer)
    return found[0][0].tolist()


@row(33)
def projection():
    """Atoms 0, 10, 20 with probabilities 1/4, 1/4, 1/2 and γ = 1: reward 0 changes nothing; reward 3 gives the values
    3, 13 and 20; a terminal reward of 10 is one atom."""
    made = algorithm(Atoms(np.log([[0.25, 0.25, 0.5]] * 2)), atoms=(3, 0.0, 20.0), gamma=1.0)
    steps = [(0.0, False), (3.0, False), (10.0, True)]
    made.optim.step = lambda loss: None  # the distributions stay as they are
    rows = [filled(ReplayBuffer(1), 1, reward=reward, terminated=ends) for reward, ends in steps]
    found = [p for buffer in rows for p in distribution(made, buffer)]
    return found, [0.25, 0.25, 0.5, 0.25 * 0.7, 0.25 * 0.3 + 0.25 * 0.7, 0.25 * 0.3 + 0.5, 0, 1, 0]


@row(34)
def gradient_of_a_tiny_probability():
    """Logits 0 and 20: the first atom has p = 2e-9, and all of the target: the gradient is p - 1."""
    made = algorithm(Atoms(torch.tensor([[0.0, 20.0]] * 2)), atoms=(2, 0.0, 1.0))
    update(made, filled(ReplayBuffer(1), 1, reward=0.0, terminated=True))
    return made.policy.model.logits.grad[0, 0].item(), -1


@row(35)
def rank_of_the_noise():
    layer = NoisyLinear(5, 5)
    weight = [layer.train(mode)(torch.eye(5)) - layer(torch.zeros(1, 5)) for mode in (True, False)]
    return torch.linalg.matrix_rank(weight[0] - weight[1], rtol=1e-4).item(), 1


def draws(seed, **flags):
    """16 draws after seeding NumPy and PyTorch, as tianshou's own experiments do."""
    np.random.seed(seed)
    torch.manual_seed(seed)
    return tuple(filled(ReplayBuffer(10, **flags)).sample_indices(16))


@row(37, "replay, random_seed left at its default")
def seeds_of_the_replay():
    """Different sequences of draws of seeds 1, 1 and 2."""
    return len({draws(seed) for seed in (1, 1, 2)}), 2


@row(37, "replay, random_seed given")
def seeds_given_to_the_replay():
    return len({draws(seed, random_seed=seed) for seed in (1, 1, 2)}), 2


@row(38)
def episodes_begin_differently():
    """Different random numbers that the environment draws at its resets."""
    draws = collected(40)[1].env.get_env_attr("draws")[0]
    return len(set(draws)), len(draws)


@row(43, "C51")
def next_state_of_a_window():
    """n = 3 from state 0 to state 3, a state's value is its number: the mean of the target."""
    made = algorithm(Atoms(atoms=11), atoms=(11, 0.0, 10.0), n_step_return_horizon=3)
    p = distribution(made, filled(ReplayBuffer(5), 5))
    return float(np.dot(p, np.arange(11))), 1 + 0.9 + 0.81 + 0.9**3 * 3


@row(45, "with a target network")
def next_action_of_c51():
    """Atoms 0, 10, 20. In s' the online network prefers action 0, worth 5 to the target network, whose own choice is
    worth 9: C51 takes that one."""
    target, online = (
        torch.tensor([[0.5, 0.5, 1e-9], [0.1, 0.9, 1e-9]]),
        torch.tensor([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]),
    )
    made = algorithm(Atoms(online.log()), Atoms(target.log()), atoms=(3, 0.0, 20.0))
    made._iter = 1  # no copy in this update
    return float(np.dot(distribution(made, filled(ReplayBuffer(1), 1)), [0, 10, 20])), 1 + 0.9 * 9


@row(46)
def next_action_by_the_mean():
    """Action 0 has 20 with 0.4, mean 8; action 1 has 10 with 0.7, mean 7."""
    made = algorithm(Atoms(torch.tensor([[0.6, 1e-9, 0.4], [0.3, 0.7, 1e-9]]).log()), atoms=(3, 0.0, 20.0))
    return float(np.dot(distribution(made, filled(ReplayBuffer(1), 1)), [0, 10, 20])), 1 + 0.9 * 8


@row(49, "while acting")
def noise_before_the_first_update():
    """Different noises in 20 steps of a training step's Collector, whether the network uses them or not."""
    made, layer = rainbow()
    seen = []
    layer.register_forward_hook(lambda *_: seen.append(layer.eps_p[0].item()))
    collected(20, made=made)
    return len(set(seen)), 20


@row(49, "at updates")
def noise_of_updates():
    made, layer = rainbow()
    seen = set()
    for _ in range(5):
        update(made, filled(ReplayBuffer(1), 1))
        seen.add(layer.eps_p[0].item())
    return len(seen), 5


@row(50, "updates that copy the network")
def noise_of_the_target_network():
    """target_update_freq=3: of 9 updates, those in which both networks have the same noise."""
    made, layer = rainbow(target_update_freq=3)
    target, same = next(m for m in made.model_old.modules() if isinstance(m, NoisyLinear)), []
    for k in range(1, 10):
        update(made, filled(ReplayBuffer(1), 1))
        same += [k] if torch.equal(layer.eps_p, target.eps_p) else []
    return f"updates {', '.join(map(str, same))}" if same else "none", "none", bool(same)


def noisy_passes(training):
    """Of 20 steps of a Collector, those in which the layer's output is not that of its mean weights."""
    made, layer = rainbow()
    found = []
    layer.register_forward_hook(
        lambda _, x, out: found.append(
            not torch.equal(out, torch.nn.functional.linear(x[0], layer.mu_W, layer.mu_bias))
        )
    )
    collected(20, made=made, training=training)
    assert len(found) == 20
    return sum(found)


@row(51, "while acting")
def noise_while_acting():
    return noisy_passes(training=True), 20


@row(51, "in evaluation")
def noise_in_evaluation():
    return noisy_passes(training=False), 0


@row(52)
def first_sigma():
    """σ₀ = 0.5 and 16 inputs, weight and bias; the mean of f(x)² is √(2/π)."""
    layer, square = NoisyLinear(16, 4), NoisyLinear(100_000, 1).eps_p.square().mean().item()
    seen = [layer.sigma_W[0, 0].item(), layer.sigma_bias[0].item(), square]
    due = [0.5 / 4, 0.5 / 4, (2 / np.pi) ** 0.5]
    return seen, due, not np.allclose(seen, due, atol=0.01)


@row(71)
def episodes_of_one_step():
    """40 episodes of one step: rows, ends among them, and the mean of y with n = 3 and Q = 0, which is 1."""
    buffer, _ = collected(40, length=1)
    y = update(algorithm(Line(), n_step_return_horizon=3), buffer)
    return [len(buffer), int(buffer.terminated.sum()), float(np.mean(y))], [40, 20, 1]


@row(72)
def looking_changes_nothing():
    """The largest change of a noisy network's values and parameters between two evaluations, without an update."""
    made, _ = rainbow()
    policy, batch = made.policy.eval(), Batch(obs=np.ones((1, 1)), info=None)
    looks = [[policy(batch).logits, *(p.clone() for p in policy.parameters())] for _ in range(2)]
    return max((a - b).abs().max().item() for a, b in zip(*looks, strict=True)), 0


def trained_actions(test, **eps):
    """The actions of 40 steps with ε = 0.5, with or without an evaluation after every ten."""
    np.random.seed(1)
    torch.manual_seed(1)
    made = algorithm(Line(), eps=0.5, **eps)
    collector = collector_of(made)
    train(made, collector, collector_of(made) if test else None, epochs=4)
    return collector.buffer.act[:40].tolist()


@row(75)
@row(63)
def evaluations_do_not_rewind():
    return trained_actions(True), trained_actions(False)


@row(63, "eps_inference above 0")
def random_actions_in_evaluation():
    """How many of the 40 actions are the same."""
    with_tests, without = trained_actions(True, eps_inference=0.5), trained_actions(False, eps_inference=0.5)
    return sum(a == b for a, b in zip(with_tests, without, strict=True)), 40


if __name__ == "__main__":
    answer_all()
