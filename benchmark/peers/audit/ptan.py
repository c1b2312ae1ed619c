"""PTAN: its experience sources, replay buffers, DQNAgent, TargetNet and QLearningPreprocessor. It has no training loop.

States are numbers. The network's output is readable: Q(s, a) = s + shift[a].
"""

import os
import random
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
import torch
from ptan.actions import ArgmaxActionSelector, EpsilonGreedyActionSelector, EpsilonTracker
from ptan.agent import DQNAgent, TargetNet
from ptan.common.utils import WeightedMSELoss
from ptan.experience import (
    Experience,
    ExperienceReplayBuffer,
    ExperienceSourceFirstLast,
    PrioReplayBufferNaive,
    PrioritizedReplayBuffer,
    QLearningPreprocessor,
    VectorExperienceSourceFirstLast,
)

from benchmark.peers.audit.rows import answer_all, not_applicable, row
from benchmark.peers.audit.stand_ins import Shift, Walk

torch.set_num_threads(1)


class WithDone(Experience):
    """An Experience with the field `done`, which QLearningPreprocessor reads and Experience no longer has."""

    @property
    def done(self):
        return self.done_trunc


def agent(selector=None):
    return DQNAgent(Shift(), selector or ArgmaxActionSelector())


def source(env, n=1, kind=ExperienceSourceFirstLast, **args):
    return kind(env, agent(EpsilonGreedyActionSelector(1.0)), gamma=0.9, steps_count=n, **args)


def run(env, rows, n=1, capacity=1000, **args):
    """A buffer after so many rows: lists of its states, actions, rewards and last states (None at an end)."""
    buffer = ExperienceReplayBuffer(source(env, n, **args), capacity)
    buffer.populate(rows)
    return SimpleNamespace(
        obs=[float(each.state[0]) for each in buffer],
        action=[int(each.action) for each in buffer],
        reward=[float(each.reward) for each in buffer],
        last=[None if each.last_state is None else float(each.last_state[0]) for each in buffer],
    )


def vector(lengths, rows, n):
    """The same of VectorExperienceSourceFirstLast, with a fresh environment for each length."""
    envs = gym.vector.SyncVectorEnv([lambda length=length: Walk(length) for length in lengths])
    return run(envs, rows, n, kind=VectorExperienceSourceFirstLast)


def numbers(capacity, added, kind=ExperienceReplayBuffer, *args):
    """A buffer that got the numbers 0, 1, ..."""
    buffer = kind(iter(range(added)), capacity, *args)
    buffer.populate(added)
    return buffer


def targets(preprocessor, kind=Experience):
    """y of action 0 from state 1 to state 2 with reward 1."""
    steps = [kind(np.float32([state]), 0, 1.0, False) for state in (1, 2)]
    return float(preprocessor.preprocess([steps])[1][0][0])


def chi_square(counts, due):
    due = np.array(due) / np.sum(due) * np.sum(counts)
    return float(((counts - due) ** 2 / due).sum())


@row(3)
def double():
    """QLearningPreprocessor.double_dqn. Online, action 1 is best; y = 1 + 0.9 * (2 + 5) of the target network."""
    return targets(QLearningPreprocessor.double_dqn(Shift(0.0, 1.0), Shift(9.0, 5.0), gamma=0.9)), 1 + 0.9 * (2 + 5)


@row(3, "with a field `done` added to Experience")
@row(4, "with a field `done` added to Experience")
def double_with_done():
    """The same."""
    made = QLearningPreprocessor.double_dqn(Shift(0.0, 1.0), Shift(9.0, 5.0), gamma=0.9)
    return targets(made, WithDone), 1 + 0.9 * (2 + 5)


@row(5, "with a field `done` added to Experience")
def online_maximum():
    """QLearningPreprocessor.target_dqn: max Q(2) = 2 + 5 of the target network; the online network says 100."""
    made = QLearningPreprocessor.target_dqn(Shift(0.0, 98.0), Shift(5.0, 3.0), gamma=0.9)
    return targets(made, WithDone), 1 + 0.9 * (2 + 5)


@row(6)
def alias():
    """TargetNet: tensors that the two networks share."""
    net = TargetNet(Shift())
    return len({each.data_ptr() for each in net.model.parameters()} & {net.target_model.shift.data_ptr()}), 0


not_applicable("no loss and no training loop: the user's part", 7, 8, 12, 13)


@row(9)
def truncation():
    """The step from 102 to 103 is truncated and pays 1: y = 1 + 0.9 * 103, and 1 where the last state is None."""
    stored = run(Walk(truncated=True), 9)
    last = stored.last[stored.obs.index(102)]
    return 1 if last is None else 1 + 0.9 * last, 1 + 0.9 * 103


@row(10)
def final_observation():
    """Last states of the rows of two truncated episodes that belong to another episode."""
    stored = run(Walk(truncated=True), 6)
    pairs = zip(stored.obs, stored.last, strict=True)
    return sum(last is not None and last // 100 != obs // 100 for obs, last in pairs), 0


@row(11)
def false_row():
    """States that begin rows: 103, the final one, is not among them."""
    return run(Walk(), 6).obs, [100, 101, 102, 200, 201, 202]


@row(11, "vector source")
def false_row_of_vector():
    """The same, of one environment in a vector."""
    return vector([3], 6, 1).obs, [100, 101, 102, 200, 201, 202]


@row(16)
def epsilon():
    """EpsilonTracker from 1 to 0.1 with eps_frames=40: at 0, 40 and 80."""
    selector, seen = EpsilonGreedyActionSelector(), []
    tracker = EpsilonTracker(selector, 1.0, 0.1, 40)
    for frame in (0, 40, 80):
        tracker.frame(frame)
        seen.append(selector.epsilon)
    return seen, [1, 0.1, 0.1]


@row(17)
def first_and_last():
    """10,000 draws of one from a ring of 10 that holds 18 to 27: chi-square with 9 degrees stays below 27.9 (0.1%)."""
    np.random.seed(0)
    buffer = numbers(10, 28)
    counts = np.bincount([buffer.sample(1)[0] - 18 for _ in range(10_000)], minlength=10)
    uneven = chi_square(counts, [1] * 10)
    return f"chi-square {uneven:.1f}, newest {counts[9]}", "below 27.9, newest 1000", uneven > 27.9


def share_of_newest(buffer, *args):
    """Of 4 rows with equal priorities."""
    random.seed(0)
    np.random.seed(0)
    drawn = [buffer.sample(1, *args)[0][0] for _ in range(4000)]
    seen = drawn.count(3) / 4000
    return seen, 1 / 4, abs(seen - 1 / 4) > 0.03


@row(17, "PrioritizedReplayBuffer")
def newest_prioritized():
    """4,000 draws, rows 0 to 3 in a buffer of 8 with equal priorities: the share of 3."""
    return share_of_newest(numbers(8, 4, PrioritizedReplayBuffer, 0.6), 0.4)


@row(17, "PrioReplayBufferNaive")
def newest_naive():
    """The same."""
    return share_of_newest(numbers(8, 4, PrioReplayBufferNaive, 0.6), 0.4)


@row(18, "an environment that reuses its array")
def reference():
    """The first three stored states."""
    return run(Walk(9, reuse=True), 3).obs, [100, 101, 102]


@row(19)
def ring():
    """25 numbers in a ring of 10: 15 to 24 are there."""
    return sorted(numbers(10, 25)), list(range(15, 25))


@row(20)
def leaf():
    """PrioritizedReplayBuffer: the priority 0.5, which the user gives, to the power of α = 0.6."""
    buffer = numbers(1, 1, PrioritizedReplayBuffer, 0.6)
    buffer.update_priorities([0], [0.5])
    return buffer._it_sum[0], 0.5**0.6


not_applicable("the user's part", 21, 23)


not_applicable("β is an argument of each draw", 22)


@row(24)
def overwritten():
    """Priorities 0.1 and 5; the third row overwrites the first and gets 5 (α = 1)."""
    buffer = PrioritizedReplayBuffer(iter(range(3)), 2, 1.0)
    buffer.populate(2)
    buffer.update_priorities([0, 1], [0.1, 5.0])
    buffer.populate(1)
    return [buffer.buffer[0], buffer._it_sum[0]], [2, 5]


@row(25)
def drift():
    """20,000 new priorities between 1e-4 and 1e4: the root minus the sum of the leaves, relative."""
    buffer, generator = numbers(64, 64, PrioritizedReplayBuffer, 1.0), np.random.default_rng(0)
    for _ in range(20_000):
        buffer.update_priorities([int(generator.integers(64))], [float(10 ** generator.uniform(-4, 4))])
    leaves = sum(buffer._it_sum[index] for index in range(64))
    return abs(buffer._it_sum.sum() - leaves) / leaves, 0


def frequencies(kind):
    """8,000 draws with priorities 1, 3, 2, 2 and α = 1: chi-square with 3 degrees stays below 16.3 (0.1%)."""
    random.seed(0)
    np.random.seed(0)
    buffer = numbers(4, 4, kind, 1.0)
    buffer.update_priorities(range(4), [1.0, 3.0, 2.0, 2.0])
    counts = np.bincount([buffer.sample(1, 0.4)[0][0] for _ in range(8000)], minlength=4)
    uneven = chi_square(counts, [1, 3, 2, 2])
    return " / ".join(map(str, counts)), "1000 / 3000 / 2000 / 2000", uneven > 16.3


@row(26, "PrioritizedReplayBuffer")
def frequencies_prioritized():
    return frequencies(PrioritizedReplayBuffer)


@row(26, "PrioReplayBufferNaive")
def frequencies_naive():
    return frequencies(PrioReplayBufferNaive)


@row(28)
def last_reward():
    """The rows from 102 and 202, which end episodes, pay 1."""
    stored = run(Walk(), 6)
    return [stored.reward[stored.obs.index(state)] for state in (102, 202)], [1, 1]


@row(29)
def window_end():
    """Each step pays 1, the episode ends at 103: the windows of 100, 101 and 102 have three, two and one steps."""
    return run(Walk(), 3, 3).reward, [1 + 0.9 + 0.81, 1 + 0.9, 1]


@row(29, "two environments")
def window_neighbour():
    """The episodes of one environment last 2 steps, of the other 5: the window of 101 of the latter has three steps."""
    stored = run([Walk(2), Walk(5)], 12, 3)
    pairs = zip(stored.obs, stored.reward, strict=True)
    return sorted(reward for obs, reward in pairs if obs == 101), [1, 1 + 0.9 + 0.81]


@row(29, "vector source")
def window_end_of_vector():
    """Windows of three steps: as for one environment."""
    return vector([3], 3, 3).reward, [1 + 0.9 + 0.81, 1 + 0.9, 1]


@row(30)
def window_starts():
    """All states of three episodes begin a window."""
    return run(Walk(), 9, 3).obs, [100, 101, 102, 200, 201, 202, 300, 301, 302]


@row(31)
def window_discount():
    """n = 3 in a long episode: windows with a last state have three rewards and a last state three steps on."""
    stored = run(Walk(99), 4, 3)
    return stored.reward + np.subtract(stored.last, stored.obs).tolist(), [2.71] * 4 + [3] * 4


@row(31, "vector source")
def window_discount_of_vector():
    """The same."""
    stored = vector([99], 4, 3)
    return stored.reward + np.subtract(stored.last, stored.obs).tolist(), [2.71] * 4 + [3] * 4


@row(32)
def window_ring():
    """An episode without end, a buffer of 10 filled 2.5 times: every row pays 1 + 0.9 + 0.81, 3 steps on."""
    stored = run(Walk(999), 25, 3, 10)
    steps = np.subtract(stored.last, stored.obs).tolist()
    return [min(stored.reward), max(stored.reward), min(steps), max(steps), min(stored.obs)], [2.71, 2.71, 3, 3, 115]


not_applicable("no C51", 33, 34, 45, 46)


not_applicable("no noisy layers", 35, 49, 51, 52)


def made(seed):
    """The actions of 40 steps."""
    np.random.seed(seed)
    return run(Walk(), 40).action


@row(37)
def seeds():
    """np.random.seed(), which the user calls: one seed twice gives equal actions, two seeds do not."""
    same, other = made(1) == made(1), made(1) == made(2)
    return f"{same}, {other}", "True, False", not same or other


def firsts(**args):
    """Different first states, which the environment draws, in ten episodes."""
    env = Walk(chance=True)
    run(env, 30, **args)
    return len(set(env.firsts[:10])), 10


@row(38)
def seeded_resets():
    return firsts()


@row(38, "env_seed")
def seeded_resets_by_flag():
    return firsts(env_seed=1)


@row(43)
def window_begin():
    """The actions of the windows are those that the environment got at their first steps."""
    np.random.seed(0)
    env = Walk(99)
    return run(env, 12, 3).action, env.actions[:12]


@row(71)
def one_step():
    """Six episodes of one step with reward 1: six rows that end, of one step and of three."""
    seen = []
    for n in (1, 3):
        stored = run(Walk(1), 6, n)
        seen += [len(set(stored.obs)), stored.last.count(None), sum(stored.reward)]
    return seen, [6, 6, 6, 6, 6, 6]


@row(72)
def looking():
    """Two greedy actions: the change of the weights, and the actions."""
    actor = agent()
    actions = [int(actor([np.float32([1])])[0][0]) for _ in range(2)]
    return [actor.model.shift.abs().max().item(), actions[1] - actions[0]], [0, 0]


@row(73, "a second iterator over a source")
def seam():
    """Two buffers filled from one source, four rows of three steps each: windows that reach into another episode."""
    walk = source(Walk(99), 3)
    stored = [next(iterator) for iterator in (iter(walk), iter(walk)) for _ in range(4)]
    return sum(each.last_state[0] // 100 != each.state[0] // 100 for each in stored), 0


@row(74)
def weight_ratio():
    """WeightedMSELoss: gradients of two rows with errors 1 and weights 1 and 0.25, then both halved."""
    seen = []
    for weights in ([1.0, 0.25], [0.5, 0.125]):
        q = torch.zeros(2, requires_grad=True)
        WeightedMSELoss()(q, torch.ones(2), torch.tensor(weights)).backward()
        seen += q.grad.tolist()
    return seen, [-1, -0.25, -0.5, -0.125]


not_applicable("no evaluation: the user's part", 63, 75)


if __name__ == "__main__":
    answer_all()
