"""Asks torchrl (DQNLoss, DistributionalDQNLoss, its replay buffers, Collector and NoisyLinear)."""

import contextlib
import functools
import importlib.util
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch.utils import cpp_extension

from benchmark.peers.audit.rows import answer_all, not_applicable, row

warnings.simplefilter("ignore")
torch.set_num_threads(1)
torch.manual_seed(0)

TREES = """
#include "segment_tree.h"
PYBIND11_MODULE(_torchrl, m) {
  torchrl::DefineSumSegmentTree<float>("Fp32", m);
  torchrl::DefineSumSegmentTree<double>("Fp64", m);
  torchrl::DefineMinSegmentTree<float>("Fp32", m);
  torchrl::DefineMinSegmentTree<double>("Fp64", m);
}
"""
HEADER = "#pragma once\n#include <torch/types.h>\n#include <torch/csrc/utils/pybind.h>\n"


def compile_trees() -> None:
    """The wheel's compiled part loads only with the PyTorch that it was built with. With another one, its priority
    trees are compiled from the sources that the wheel brings. HEADER stands for PyTorch's own, which takes minutes.
    Without a compiler, the rows of PrioritizedSampler have no answer."""
    place = Path(importlib.util.find_spec("torchrl").origin).parent
    try:
        for file in place.glob("_torchrl*.so"):
            torch.ops.load_library(file)
    except OSError:
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(RuntimeError):
            (Path(folder) / "torch").mkdir()
            for name in ("torch.h", "extension.h"):
                (Path(folder) / "torch" / name).write_text(HEADER)
            (Path(folder) / "trees.cpp").write_text(TREES)
            sys.modules["torchrl._torchrl"] = cpp_extension.load(
                "_torchrl",
                [f"{folder}/trees.cpp"],
                extra_cflags=["-O0"],
                extra_include_paths=[folder, str(place / "csrc")],
                build_directory=folder,
            )


compile_trees()

from tensordict import TensorDict  # noqa: E402
from torchrl.collectors import Collector  # noqa: E402
from torchrl.data import (  # noqa: E402
    Categorical,
    LazyTensorStorage,
    PrioritizedSampler,
    RandomSampler,
    TensorDictReplayBuffer,
)
from torchrl.data.replay_buffers.scheduler import LinearScheduler  # noqa: E402
from torchrl.envs import GymWrapper  # noqa: E402
from torchrl.envs.transforms import MultiStepTransform  # noqa: E402
from torchrl.envs.utils import ExplorationType, set_exploration_type  # noqa: E402
from torchrl.modules import (  # noqa: E402
    DistributionalQValueActor,
    EGreedyModule,
    NoisyLinear,
    QValueActor,
    reset_noise,
)
from torchrl.modules.models.models import DuelingMlpDQNet  # noqa: E402
from torchrl.objectives import DistributionalDQNLoss, DQNLoss, HardUpdate, ValueEstimators  # noqa: E402

logging.getLogger("torchrl").setLevel(logging.ERROR)


class Numbered(gym.Env):
    """Observation 1,000 * episode + t; episodes of `length` steps of reward 1, in turns terminated and truncated. With
    `in_place`, the observation is one array that is changed."""

    observation_space, action_space = gym.spaces.Box(0, np.inf, (1,), np.float32), gym.spaces.Discrete(2)

    def __init__(self, length=5, in_place=False):
        self.length, self.in_place, self.episode, self.number = length, in_place, -1, np.zeros(1, np.float32)
        self.draws = []

    def observe(self):
        self.number[0] = 1000 * self.episode + self.t
        return self.number if self.in_place else self.number.copy()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.draws.append(int(self.np_random.integers(10**9)))
        self.episode, self.t = self.episode + 1, 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        ends, odd = self.t == self.length, self.episode % 2 == 1
        return self.observe(), 1.0, ends and not odd, ends and odd, {}


def line(weight=(0.0, 0.0), bias=(0.0, 0.0)):
    """Q(s, ·) = weight * s + bias."""
    layer = torch.nn.Linear(1, len(weight))
    layer.load_state_dict({"weight": torch.tensor(weight).reshape(-1, 1), "bias": torch.tensor(bias)})
    return layer


def actor_of(net):
    return QValueActor(net, in_keys=["observation"], action_space="categorical")


def loss_of(online, target=None, **flags):
    """A DQNLoss with γ = 0.9, where the target network has its own weights, as later in training."""
    loss = DQNLoss(actor_of(online), action_space="categorical", **flags)
    loss.make_value_estimator(ValueEstimators.TD0, gamma=0.9)
    if target is not None:
        other = DQNLoss(actor_of(target), action_space="categorical")
        loss.target_value_network_params.data.update_(other.value_network_params.data)
    return loss


def step(reward=1.0, terminated=False, action=0, size=1, **more):
    """`size` equal transitions from state 1 to state 2."""
    column, ends = torch.ones(size, 1), torch.full((size, 1), terminated)
    following = {"observation": 2 * column, "reward": reward * column, "done": ends, "terminated": ends}
    batch = {"observation": column, "action": torch.full((size,), action), "next": following}
    return TensorDict(batch | more, [size])


def targets(loss, batch):
    """y of each row."""
    estimate, found = loss.value_estimator.value_estimate, []
    loss.value_estimator.value_estimate = lambda *values, **more: found.append(estimate(*values, **more)) or found[-1]
    loss(batch)
    return found[0].flatten().tolist()


def gradient(batch, reduction="mean", **flags):
    """Of the two actions' biases where Q = 0."""
    loss = loss_of(line(), **flags, reduction=reduction)
    loss(batch)["loss"].sum().backward()
    return loss.value_network_params["module", "0", "module", "bias"].grad.tolist()


def collector_of(steps=10, policy=None, **more):
    """A Collector that gives `steps` rows at a time, and the environment in it."""
    env = Numbered(**more)
    policy = actor_of(line((1.0, 0.0))) if policy is None else policy
    wrapped = GymWrapper(env, categorical_action_encoding=True)
    return Collector(wrapped, policy, frames_per_batch=steps, total_frames=10 * steps), env


def collected(steps=10, **more):
    return next(iter(collector_of(steps, **more)[0])).clone()


def column(rows, *name):
    return rows[name].flatten().float().tolist()


def n_step_buffer(capacity=100, **flags):
    """Windows of three steps."""
    transform = MultiStepTransform(n_steps=3, gamma=0.9, **flags)
    return TensorDictReplayBuffer(storage=LazyTensorStorage(capacity), transform=transform, batch_size=4)


def windows(length=3, episodes=2, rows=None, **flags):
    """The windows from each step of some episodes; the last rows wait for more, so more is collected."""
    buffer = n_step_buffer(**flags)
    buffer.extend(collected(length * episodes + 3, length=length) if rows is None else rows)
    return buffer[: length * episodes]


def numbered_rows(count):
    """Transition k leads from k to k + 1, pays 1 and is never an end."""
    rows = step(size=count)
    rows["observation"] = torch.arange(count).float()[:, None]
    rows["next", "observation"] = rows["observation"] + 1
    return rows


def filled(buffer, count=25):
    for rows in numbered_rows(count).split(5):
        buffer.extend(rows)
    return buffer


def uniform(capacity=10):
    storage = LazyTensorStorage(capacity)
    return TensorDictReplayBuffer(storage=storage, sampler=RandomSampler(), batch_size=16)


def prioritized(*priorities, alpha=1.0, beta=1.0):
    """A row for each priority, from state k to k + 1."""
    sampler = PrioritizedSampler(len(priorities), alpha=alpha, beta=beta)
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(len(priorities)), sampler=sampler, batch_size=16, priority_key="td_error"
    )
    buffer.extend(numbered_rows(len(priorities)))
    buffer.update_priority(torch.arange(len(priorities)), torch.tensor(priorities).float())
    return buffer


def leaf(buffer, k):
    return float(buffer.sampler._sum_tree[k])


@row(1)
def dueling_alone():
    """Q of one state alone, and in a batch with another one."""
    net = DuelingMlpDQNet(2, mlp_kwargs_feature={"num_cells": [4], "out_features": 4})
    both = net(torch.tensor([[1.0], [5.0]]))[0].tolist()
    return net(torch.tensor([[1.0]]))[0].tolist(), both


@row(2)
def dueling_mean():
    """The mean of Q over the actions is V."""
    net, obs = DuelingMlpDQNet(2, mlp_kwargs_feature={"num_cells": [4], "out_features": 4}), torch.ones(1, 1)
    return net(obs).mean().item(), net.value(net.features(obs)).item()


@row(3)
@row(4)
def double():
    """In s' the online network prefers action 0, worth 5 to the target network, whose own choice is worth 9; at s it
    prefers action 1."""
    loss = loss_of(line((1.0, -1.0), (-1.5, 1.5)), line(bias=(5.0, 9.0)), double_dqn=True)
    return targets(loss, step())[0], 1 + 0.9 * 5


@row(5)
def maximum_of_the_target_network():
    """max Q_target(2, ·) = 2; the online network's values are 100 higher."""
    return targets(loss_of(line((1.0, 0.5), (100.0, 100.0)), line((1.0, 0.5))), step())[0], 1 + 0.9 * 2


@row(6)
@row(8)
def target_stays():
    """Gradients in the target network, and the change of its weights by an update of the online one."""
    loss = loss_of(line(), line((1.0, 0.5)))
    loss(step())["loss"].backward()
    torch.optim.SGD(loss.parameters(), lr=0.1).step()
    target = loss.target_value_network_params.flatten_keys(".")
    change = (target["module.0.module.weight"].flatten() - torch.tensor([1.0, 0.5])).abs().max()
    return [sum(p.grad is not None for p in target.values()), change.item()], [0, 0]


@row(7)
def target_updates():
    """HardUpdate with value_network_update_interval=3, "how often": those of 12 calls of step() after which the target
    is the online network, which changes before each."""
    loss, moved = loss_of(line()), []
    updater = HardUpdate(loss, value_network_update_interval=3)
    bias = ("module", "0", "module", "bias")
    for k in range(1, 13):
        loss.value_network_params.data[bias].fill_(k)
        updater.step()
        moved += [k] if loss.target_value_network_params[bias][0] == k else []
    return moved, [3, 6, 9, 12]


@row(9)
def truncation():
    """Q(s) = s: y of a terminated step, and of one truncated at 1005."""
    y = targets(loss_of(line((1.0, 1.0))), collected())
    return [y[4], y[9]], [1, 1 + 0.9 * 1005]


@row(10)
def final_observation():
    return [column(collected(), "next", "observation")[k] for k in (4, 9)], [5, 1005]


@row(11)
def no_row_over_a_reset():
    """20 steps: the rows begin at 0 to 4, 1000 to 1004, ... and lead to the next number."""
    rows, due = collected(20), [1000 * episode + t for episode in range(4) for t in range(5)]
    seen = column(rows, "observation") + column(rows, "next", "observation")
    return seen, due + [number + 1 for number in due]


@row(12)
def shapes():
    """Targets 1 and 3 for Q = 0: the loss is the mean of 1 and 9, not of four differences."""
    batch = torch.cat([step(reward, terminated=True) for reward in (1.0, 3.0)])
    return loss_of(line())(batch)["loss"].item(), (1**2 + 3**2) / 2


@row(13)
def huber_keeps_its_gradient():
    """δ = 1 and δ = 5."""
    return [gradient(step(r, terminated=True), loss_function="smooth_l1")[0] for r in (1.0, 5.0)], [-1, -1]


def weighted(*weights, **flags):
    """The gradients of two rows with δ = 1, of actions 0 and 1."""
    rows = [step(terminated=True, action=k, priority_weight=torch.tensor([w])) for k, w in enumerate(weights)]
    return np.array(gradient(torch.cat(rows), **flags))


@row(14)
@row(15)
@row(21)
@row(74, "within a batch")
def weights_are_used():
    """Weights 1 and 1/4: the ratio of the gradients."""
    one, quarter = weighted(1.0, 0.25)
    return float(one / quarter), 4


@row(74, "all weights halved, the default reduction")
def halved_weights():
    """The ratio of the gradients to those before; the default divides by the sum of the weights."""
    return (weighted(0.5, 0.125) / weighted(1.0, 0.25)).tolist(), [0.5, 0.5]


@row(74, "all weights halved, reduction none")
def halved_weights_without_reduction():
    flags = {"reduction": "none"}
    return (weighted(0.5, 0.125, **flags) / weighted(1.0, 0.25, **flags)).tolist(), [0.5, 0.5]


def random_actions(envs, steps):
    """Which actions of EGreedyModule with ε = 0.5 are not the greedy one of 1,000, of each step and environment."""
    torch.manual_seed(0)
    module = EGreedyModule(Categorical(1000), eps_init=0.5, eps_end=0.5)
    rows = [TensorDict({"action": torch.zeros(envs, dtype=torch.int64)}, [envs]) for _ in range(steps)]
    with set_exploration_type(ExplorationType.RANDOM):
        return torch.stack([module(each)["action"] != 0 for each in rows])


@row(16)
def epsilon():
    """From 1 to 0.1 over 1,000 steps: at step 0, a tenth, half and all of them, and beyond."""
    module, seen = EGreedyModule(Categorical(2), annealing_num_steps=1000), []
    for frames in (0, 100, 400, 500, 1000):
        module.step(frames)
        seen.append(module.eps.item())
    return seen, [1, 0.91, 0.55, 0.1, 0.1], not np.allclose(seen, [1, 0.91, 0.55, 0.1, 0.1], atol=0.001)


@row(16, "four environments")
def epsilon_of_each_environment():
    """How often 0, 1, 2, 3 and 4 of them take a random action: each has a coin of its own."""
    counts = torch.bincount(random_actions(4, 300).sum(1), minlength=5).tolist()
    return counts, [300 * n / 16 for n in (1, 4, 6, 4, 1)], sum(counts[1:4]) < 200


@row(17)
def first_and_last_are_drawn():
    """How often the oldest and the newest of ten are in 100,000 draws, of each sampler."""
    torch.manual_seed(0)
    np.random.seed(0)
    draws = [buffer.sample(100_000)["observation"] for buffer in (filled(uniform(), 10), prioritized(*[1.0] * 10))]
    share = [(each == k).float().mean().item() for each in draws for k in (0, 9)]
    return share, [0.1] * 4, not np.allclose(share, 0.1, atol=0.005)


@row(18, "the buffer")
def the_buffer_copies():
    buffer, rows = uniform(), numbered_rows(3)
    buffer.extend(rows)
    rows["observation"].fill_(9)
    return column(buffer[:3], "observation"), [0, 1, 2]


@row(18, "an environment that changes its observation in place")
def the_collector_copies():
    """The first observations of an episode of five steps, and the next ones."""
    rows = collected(4, in_place=True)
    return column(rows, "observation") + column(rows, "next", "observation"), [0, 1, 2, 3, 1, 2, 3, 4]


@row(19)
def ring():
    return sorted(column(filled(uniform())[:], "observation")), list(range(15, 25))


@row(20)
def priority():
    """|δ| = 4, α = 0.5: DQNLoss writes the priority, the buffer reads it."""
    buffer = prioritized(1.0, 1.0, alpha=0.5)
    rows = step(reward=-4.0, terminated=True, index=torch.tensor([0]))
    loss_of(line())(rows)
    buffer.update_tensordict_priority(rows)
    return leaf(buffer, 0), 4**0.5


@row(22)
def beta():
    """LinearScheduler from 0.4 to 1 over 10 steps: at the start, the middle, the end and twice the end."""
    sampler, seen = PrioritizedSampler(10, alpha=0.5, beta=0.4), []
    scheduler = LinearScheduler(sampler, "beta", final_value=1.0, num_steps=10)
    for steps in (0, 5, 5, 10):
        for _ in range(steps):
            scheduler.step()
        seen.append(float(sampler.beta))
    return seen, [0.4, 0.7, 1, 1]


@row(23)
def priority_without_the_weight():
    """δ = 1 with weights 1 and 1/4."""
    rows = [step(terminated=True, priority_weight=torch.tensor([w])) for w in (1.0, 0.25)]
    for each in rows:
        loss_of(line())(each)
    return [each["td_error"].item() for each in rows], [1, 1]


@row(24)
def new_rows_have_the_largest_priority():
    """A row that overwrites one of priority 0.5, after a largest one of 4."""
    buffer = prioritized(0.5, 4.0)
    buffer.extend(numbered_rows(1))
    return leaf(buffer, 0), 4


@row(25)
def the_tree_does_not_drift():
    """The root and the sum of 64 leaves after 20,000 updates between 1e-4 and 1e4."""
    sampler, rng = prioritized(*[1.0] * 64).sampler, np.random.default_rng(0)
    for _ in range(20_000):
        sampler.update_priority(torch.tensor([rng.integers(64)]), torch.tensor([10.0 ** rng.uniform(-4, 4)]))
    leaves = torch.as_tensor(sampler._sum_tree[torch.arange(64)]).double().sum().item()
    return float(sampler._sum_tree.query(0, 64)), leaves


@row(26)
def draws_follow_the_priorities():
    """Priorities 1, 3, 2, 2."""
    np.random.seed(0)
    share = (np.bincount(prioritized(1, 3, 2, 2).sample(80_000)["index"]) / 80_000).tolist()
    return share, [1 / 8, 3 / 8, 2 / 8, 2 / 8], not np.allclose(share, [1 / 8, 3 / 8, 2 / 8, 2 / 8], atol=0.005)


@row(28)
def last_steps_are_stored():
    """Rows that end an episode, among the first ten, and their rewards."""
    buffer = uniform(20)
    buffer.extend(collected())
    ends = np.flatnonzero(column(buffer[:], "next", "done")).tolist()
    return ends + [column(buffer[:], "next", "reward")[k] for k in (4, 9)], [4, 9, 1, 1]


@row(29)
def windows_end_with_their_episode():
    """The sums of rewards from each of the three steps of an episode that terminates and one that is truncated."""
    return column(windows(), "next", "reward"), [1 + 0.9 + 0.81, 1 + 0.9, 1] * 2


@row(29, "collector.reset() during an episode")
@row(73, "n-step, collector.reset() during an episode")
def windows_at_a_seam():
    """7 steps, the last from 1001 to 1002, then reset(): 2000, 2001, ... The window from 1001 ends at 1002."""
    collector, _ = collector_of(7)
    rows = iter(collector)
    first = next(rows).clone()
    collector.reset()
    found = windows(rows=torch.cat([first, next(rows).clone()]), length=7, episodes=1)
    return column(found, "next", "observation")[6], 1002


@row(73, "one step, collector.reset() during an episode")
def rows_at_a_seam():
    collector, _ = collector_of(7)
    rows = iter(collector)
    first = next(rows).clone()
    collector.reset()
    found = torch.cat([first, next(rows)])[5:9]
    seen = column(found, "observation") + column(found, "next", "observation")
    return seen, [1000, 1001, 2000, 2001, 1001, 1002, 2001, 2002]


@row(30)
def every_state_begins_a_window():
    return column(windows(), "observation"), [0, 1, 2, 1000, 1001, 1002]


def bootstrap(rows):
    """What Q = 1 adds to the targets."""
    one, zero = (targets(loss_of(line(bias=(q, q))), rows) for q in (1.0, 0.0))
    return [a - b for a, b in zip(one, zero, strict=True)]


@row(31, "terminated, done_keys by default")
def discount_before_a_termination():
    """Every window of an episode of three steps contains its end: nothing is added."""
    return bootstrap(windows()[:3]), [0, 0, 0]


@row(31, "terminated, done_keys=[]")
def discount_before_a_termination_with_moved_ends():
    """The same where the ends move with the next observation."""
    return bootstrap(windows(done_keys=[])[:3]), [0, 0, 0]


@row(31, "truncated")
def discount_before_a_truncation():
    return bootstrap(windows()[3:]), [0.9**3, 0.9**2, 0.9]


@row(32)
def windows_of_a_full_buffer():
    """A ring of 10 after 28 steps, of which the last three wait: windows from 15 to 24."""
    rows = filled(n_step_buffer(10), 28)[:]
    rows = rows[torch.argsort(rows["observation"].flatten())]
    seen = [name for key in ("observation", "reward") for name in column(rows, "next", key)]
    return seen, [*range(18, 28), *[1 + 0.9 + 0.81] * 10]


class Atoms(torch.nn.Module):
    """Logits (state, atoms, actions) of states 1 and 2."""

    def __init__(self, here, following):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.stack([torch.as_tensor(x).float().T for x in (here, following)]))

    def forward(self, obs):
        return self.logits[obs.flatten().long() - 1]


def atoms_loss(here, following, support, target=None, gamma=0.9):
    """A DistributionalDQNLoss with logits (actions, atoms) of states 1 and 2, and a target network with its own."""

    def actor(net):
        return DistributionalQValueActor(net, support=torch.tensor(support), action_space="categorical")

    loss = DistributionalDQNLoss(actor(Atoms(here, following)), gamma=gamma)
    if target is not None:
        other = DistributionalDQNLoss(actor(Atoms(here, target)), gamma=gamma)
        loss.target_value_network_params.data.update_(other.value_network_params.data)
    loss.make_value_estimator(ValueEstimators.TD0)
    return loss


def distribution(following, support=(0.0, 10.0, 20.0), target=None, gamma=0.9, **more):
    """The target distribution m of two equal steps from 1, where p = 1/3 for each atom, to 2. The loss is -Σ m log p,
    so Σ m = loss / log 3, and its gradient by the logits is p Σ m - m."""
    loss = atoms_loss(np.zeros((2, 3)), following, support, target, gamma)
    value = loss(step(size=2, **more))["loss"]
    value.backward()
    gradients = [p.grad for p in loss.parameters() if p.grad is not None]
    return (value.item() / np.log(3) / 3 - gradients[0][0, :, 0]).tolist()


@row(33)
def projection():
    """Atoms 0, 10, 20 with probabilities 1/4, 1/4, 1/2 and γ = 1: reward 0 changes nothing; reward 3 gives the values
    3, 13 and 20; a terminal reward of 10 is one atom."""
    following = np.log([[0.25, 0.25, 0.5]] * 2)
    steps = [(0.0, False), (3.0, False), (10.0, True)]
    seen = [p for r, ends in steps for p in distribution(following, gamma=1.0, reward=r, terminated=ends)]
    return seen, [0.25, 0.25, 0.5, 0.25 * 0.7, 0.25 * 0.3 + 0.25 * 0.7, 0.25 * 0.3 + 0.5, 0, 1, 0]


@row(34)
def gradient_of_a_tiny_probability():
    """Logits 0 and 20: the first atom has p = 2e-9, and all of the target: the gradient is p - 1."""
    loss = atoms_loss([[0.0, 20.0]] * 2, [[0.0, 0.0]] * 2, (0.0, 1.0))
    loss(step(reward=0.0, terminated=True, size=2))["loss"].backward()
    return next(p.grad for p in loss.parameters() if p.grad is not None)[0, 0, 0].item(), -1


@row(35)
def rank_of_the_noise():
    return torch.linalg.matrix_rank(NoisyLinear(5, 5).weight_epsilon, rtol=1e-4).item(), 1


def draws(make, seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    return tuple(make().sample(16)["observation"].flatten().tolist())


@row(37, "uniform")
def seeds():
    """Different sequences of draws after torch.manual_seed and np.random.seed with 1, 1 and 2."""
    return len({draws(lambda: filled(uniform()), seed) for seed in (1, 1, 2)}), 2


@row(37, "prioritized")
def seeds_of_prioritized_draws():
    return len({draws(functools.partial(prioritized, *[1.0] * 100), seed) for seed in (1, 1, 2)}), 2


@row(38)
def episodes_begin_differently():
    """Different random numbers that the environment draws at its resets."""
    collector, env = collector_of(40)
    next(iter(collector))
    return len(set(env.draws)), len(env.draws)


@row(43)
def row_of_the_first_step():
    """Observations and actions of the windows from states 0 to 5, whose actions are 0, 1, 0, ..."""
    rows = numbered_rows(9)
    rows["action"] = torch.arange(9) % 2
    found = windows(rows=rows)
    return column(found, "observation") + column(found, "action"), [0, 1, 2, 3, 4, 5, 0, 1, 0, 1, 0, 1]


@row(45, "documented as double")
def next_action_of_c51():
    """Atoms 0, 10, 20. In s' the online network prefers action 0, worth 5 to the target network, whose own choice is
    worth 9."""
    target, online = [[0.5, 0.5, 1e-9], [0.1, 0.9, 1e-9]], [[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]
    return float(np.dot(distribution(np.log(online), target=np.log(target)), [0, 10, 20])), 1 + 0.9 * 5


@row(46)
def next_action_by_the_mean():
    """Action 0 has 20 with 0.4, mean 8; action 1 has 10 with 0.7, mean 7."""
    m = distribution(np.log([[0.6, 1e-9, 0.4], [0.3, 0.7, 1e-9]]))
    return float(np.dot(m, [0, 10, 20])), 1 + 0.9 * 8


not_applicable("the user's part", 49)


@row(50, "two layers")
def noise_of_two_layers():
    """After reset_noise of the whole network: layers with the same noise."""
    net = torch.nn.Sequential(NoisyLinear(4, 4), NoisyLinear(4, 4)).apply(reset_noise)
    return int(torch.equal(net[0].weight_epsilon, net[1].weight_epsilon)), 0


def noisy_passes(play):
    """Of the last 20 passes of a noisy layer, those whose output is not that of its mean weights. (The first pass of a
    Collector is a trial.)"""
    layer, found = NoisyLinear(1, 2), []
    layer.register_forward_hook(
        lambda _, x, out: found.append(
            not torch.allclose(out, torch.nn.functional.linear(x[0], layer.weight_mu, layer.bias_mu))
        )
    )
    play(actor_of(layer))
    return sum(found[-20:])


@row(51, "while acting")
def noise_while_acting():
    return noisy_passes(lambda policy: collected(20, policy=policy)), 20


@row(51, "in evaluation")
def noise_in_evaluation():
    """env.rollout with ExplorationType.DETERMINISTIC."""

    def play(policy):
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            GymWrapper(Numbered(), categorical_action_encoding=True).rollout(20, policy, break_when_any_done=False)

    return noisy_passes(play), 0


def sigma_is_learned(**attributes):
    """Whether DQNLoss has a gradient by σ: in each loss, noise is on or off as its deterministic_sampling_mode says."""
    loss = loss_of(NoisyLinear(1, 2))
    for name, value in attributes.items():
        setattr(loss, name, value)
    loss(step())["loss"].backward()
    names = [name for name, p in loss.named_parameters() if "sigma" in name and p.grad is not None]
    return "a gradient" if names else "no gradient", "a gradient", not names


@row(51, "in the loss, by default")
def noise_in_the_loss():
    return sigma_is_learned()


@row(51, "in the loss, deterministic_sampling_mode = RANDOM")
def noise_in_the_loss_by_the_attribute():
    return sigma_is_learned(deterministic_sampling_mode=ExplorationType.RANDOM)


@row(52)
def first_sigma():
    """σ₀ = 0.5 and 16 inputs, 4 outputs, weight and bias; the mean of f(x)² is √(2/π)."""
    layer, square = NoisyLinear(16, 4), NoisyLinear(1, 100_000).bias_epsilon.square().mean().item()
    seen = [layer.weight_sigma[0, 0].item(), layer.bias_sigma[0].item(), square]
    due = [0.5 / 4, 0.5 / 4, (2 / np.pi) ** 0.5]
    return seen, due, not np.allclose(seen, due, atol=0.01)


@row(71)
def episodes_of_one_step():
    """40 episodes of one step: windows, terminated ones among them, and the mean of their sums."""
    rows = windows(length=1, episodes=40)
    return [len(rows), sum(column(rows, "next", "terminated")), np.mean(column(rows, "next", "reward"))], [40, 20, 1]


@row(72)
def looking_changes_nothing():
    """The largest change of a noisy network's values and parameters between two looks, without an update."""
    net, obs = torch.nn.Sequential(NoisyLinear(1, 4), NoisyLinear(4, 2)), torch.ones(1, 1)
    looks = [[net(obs), *(p.clone() for p in net.parameters())] for _ in range(2)]
    return max((a - b).abs().max().item() for a, b in zip(*looks, strict=True)), 0


@row(75)
def evaluations_do_not_rewind():
    """Random actions of 40 steps, and of 40 with an evaluation in a seeded environment of its own after 20."""
    env, policy = GymWrapper(Numbered(), categorical_action_encoding=True), actor_of(line((1.0, 0.0)))
    module, runs = EGreedyModule(Categorical(2), eps_init=0.5, eps_end=0.5), []
    for evaluate in (True, False):
        torch.manual_seed(0)
        runs.append([])
        for t in range(40):
            with set_exploration_type(ExplorationType.RANDOM):
                runs[-1].append(module(TensorDict({"action": torch.tensor(0)}, []))["action"].item())
            if evaluate and t == 19:
                env.set_seed(0)
                with set_exploration_type(ExplorationType.DETERMINISTIC):
                    env.rollout(5, policy)
    return runs[0], runs[1]


if __name__ == "__main__":
    answer_all()
