"""The Blind Cliffwalk experiment: rank-based priorities, and its parts on three states, with numbers by hand."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

import dqn
import per_dqn
from benchmark.claims import per_dqn as claim


def batch(*transitions) -> dqn.Batch:
    """Transitions (state, action, reward, next state, terminated) as a replay buffer gives them."""
    states, actions, rewards, next_states, terminated = zip(*transitions, strict=True)
    column = [torch.tensor([[float(state)] for state in own]) for own in (states, next_states)]
    return dqn.Batch(column[0], torch.tensor(actions), torch.tensor(rewards), column[1], torch.tensor(terminated))


def rank_buffer_of(n, alpha):
    """Transition k has observation k, and all transitions have the priority of new ones."""
    buffer = claim.RankReplayBuffer(n, 1, alpha)
    for k in range(n):
        buffer.add(np.array([k]), 0, 0.0, np.array([k]), False)
    return buffer


def leaves(buffer):
    return buffer.tree.get(np.arange(buffer.size))


def test_ranks():
    """Errors 5, 1, 9, 0, 3 have the ranks 2, 4, 1, 5, 3."""
    buffer = rank_buffer_of(5, alpha=0.7)
    assert leaves(buffer).tolist() == [1.0] * 5, "new ones rank first"
    buffer.update_priorities(np.arange(5), np.array([5.0, -1.0, 9.0, 0.0, 3.0]))
    assert leaves(buffer) == pytest.approx((1 / np.array([2.0, 4, 1, 5, 3])) ** 0.7)
    # Until the next sort, a new error finds its rank among these: as many as are as large or larger, at least 1.
    buffer.update_priorities(np.array([3, 2]), np.array([4.0, 100.0]))
    assert leaves(buffer) == pytest.approx((1 / np.array([2.0, 4, 1, 2, 3])) ** 0.7)
    buffer.add(np.array([9]), 0, 0.0, np.array([9]), False)  # over the first one
    assert leaves(buffer) == pytest.approx((1 / np.array([1.0, 4, 1, 2, 3])) ** 0.7)
    # Three changes so far, and a fourth; one more makes five, and all are ranked anew: new, 1, 100, 4, 3.
    buffer.update_priorities(np.array([4]), np.array([3.0]))
    assert leaves(buffer) == pytest.approx((1 / np.array([1.0, 4, 1, 2, 3])) ** 0.7)
    buffer.update_priorities(np.array([3]), np.array([4.0]))
    assert leaves(buffer) == pytest.approx((1 / np.array([1.0, 5, 2, 3, 4])) ** 0.7)


def test_equal_errors_still_have_different_ranks():
    """Else a buffer full of zeros, as with rare rewards, would be drawn uniformly: after a sort 2, 3 and 4."""
    buffer = rank_buffer_of(4, alpha=1.0)
    buffer.error[:4] = [0.0, 7.0, 0.0, 0.0]
    buffer.sort()
    assert leaves(buffer)[1] == 1.0 and sorted(1 / leaves(buffer)) == pytest.approx([1, 2, 3, 4])
    buffer.changes = -10  # and from then on the last of them
    buffer.update_priorities(np.array([0, 2]), np.array([0.0, 0.0]))
    assert 1 / leaves(buffer)[[0, 2]] == pytest.approx([4, 4])


def test_memory_holds_all_sequences():
    """Of 8 sequences 4 go wrong in state 0, 2 in state 1, 1 in state 2, and 1 is rewarded: 4 + 2 * 2 + 2 * 3 steps."""
    episodes = claim.cliffwalk(3)
    assert sorted(map(len, episodes)) == [1, 1, 1, 1, 2, 2, 3, 3]
    assert Counter(chain.from_iterable(episodes)) == {
        (0, 0, 0.0, 1, False): 4,  # right in state 0: half of the 8
        (0, 1, 0.0, 0, True): 4,
        (1, 1, 0.0, 2, False): 2,  # right in state 1: half of those 4
        (1, 0, 0.0, 1, True): 2,
        (2, 0, 1.0, 2, True): 1,  # right in state 2, and the only reward
        (2, 1, 0.0, 2, True): 1,
    }


@pytest.mark.parametrize("n", [2, 5, 8])
def test_size_of_memory(n):
    """n + (n - 1) + ... of 2^n sequences get to state 0, half of them to state 1 and so on: 2^n + ... + 2."""
    transitions = list(chain.from_iterable(claim.cliffwalk(n)))
    assert len(transitions) == 2 ** (n + 1) - 2
    assert len(set(transitions)) == 2 * n, "a kind for each state and action"
    assert sum(reward for _, _, reward, _, _ in transitions) == 1


def test_true_q():
    """With γ = 1/2 the reward of 1 after the last of three right actions is worth 1, 1/2 and 1/4."""
    assert claim.true_q(3, 0.5).tolist() == [[0.25, 0], [0, 0.5], [1, 0]]


def test_true_q_is_a_fixed_point():
    """No transition has anything to teach to it."""
    truth = claim.true_q(4, 0.75)
    q = truth.copy()
    errors = [claim.learn(q, batch(one), 0.75) for one in chain.from_iterable(claim.cliffwalk(4))]
    assert errors == pytest.approx([0] * 30)
    assert claim.mean_squared_error(q, truth) == 0


def test_one_step_of_learning():
    """Q(0, 0) = 0.4 and max Q(1, ·) = 2: δ = 0 + 0.5 * 2 - 0.4 = 0.6, of which a quarter, 0.15, is added."""
    q = np.array([[0.4, 7.0], [1.0, 2.0]])
    assert claim.learn(q, batch((0, 0, 0.0, 1, False)), 0.5) == pytest.approx(0.6)
    assert q == pytest.approx(np.array([[0.55, 7], [1, 2]]))
    assert claim.learn(q, batch((1, 1, 1.0, 1, True)), 0.5) == pytest.approx(-1), "terminated: the reward alone"
    assert q == pytest.approx(np.array([[0.55, 7], [1, 1.75]]))


def test_oracle_takes_the_step_that_leaves_the_smallest_error():
    """From Q = 0 with two states only the rewarded action has an error to learn from.

    Then Q(1, 1) is 0.25, and it is still that action: 0.75² - 0.5625² = 0.246. Q(0, 0) by 0.25 * 0.5 * 0.25 = 0.03
    closer to its 0.5 would be worth only 0.03.
    """
    truth = claim.true_q(2, 0.5)
    q = np.zeros((2, 2))
    kinds = batch(*sorted(set(chain.from_iterable(claim.cliffwalk(2)))))
    claim.learn_best(q, truth, kinds, 0.5)
    assert q.tolist() == [[0, 0], [0, 0.25]]
    claim.learn_best(q, truth, kinds, 0.5)
    assert q.tolist() == [[0, 0], [0, 0.4375]]


def test_oracle_takes_the_largest_gain_and_not_the_largest_td_error():
    """Q(0, 0) has δ = 0.5 * 2 - 0.5 = 0.5, but is already true. Q(1, 0) has only δ = 0 - 0.4, and is not."""
    q = np.array([[0.5, 0.0], [0.4, 2.0]])
    kinds = batch((0, 0, 0.0, 1, False), (0, 1, 0.0, 0, True), (1, 0, 0.0, 1, True))
    claim.learn_best(q, claim.true_q(2, 0.5), kinds, 0.5)
    assert q == pytest.approx(np.array([[0.5, 0], [0.3, 2]]))


@pytest.mark.parametrize("method", ["rank", "proportional"])
def test_every_update_is_drawn_by_priority_and_its_error_given_back(method, spy, monkeypatch):
    """The buffer holds the 14 transitions of three states."""
    module, name, options = {
        "rank": (claim, "RankReplayBuffer", (0.7,)),
        "proportional": (per_dqn, "ReplayBuffer", (0.6, 1e-6)),
    }[method]
    kind, given = getattr(module, name), []
    take_over = kind.update_priorities

    def update_priorities(self, i, td_error):
        given.append((len(i), *td_error))
        take_over(self, i, td_error)

    monkeypatch.setattr(kind, "update_priorities", update_priorities)
    buffers, errors = spy(name, module), spy("learn", claim)
    needed = claim.updates_to_learn(method, 3, 1, 10_000)
    ((arguments, buffer),) = buffers
    assert arguments == (14, 1, *options) and buffer.size == 14
    assert given == [(1, td_error) for _, td_error in errors] and len(given) == needed


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_order_of_the_methods(seed):
    """With six states the oracle is the fastest by far and uniform replay the slowest."""
    needs = {method: claim.updates_to_learn(method, 6, seed, 100_000) for method in claim.METHODS}
    assert needs["oracle"] < needs["proportional"] < needs["uniform"]
    assert needs["oracle"] < needs["rank"] < needs["uniform"]


@pytest.mark.parametrize("method", claim.METHODS)
def test_gives_up_exactly_after_max_updates(method):
    """Learning from the rewarded transition takes several steps of 1/4, so a few updates are never enough."""
    needed = claim.updates_to_learn(method, 3, 1, 10_000)
    assert needed > 5
    assert claim.updates_to_learn(method, 3, 1, needed) == needed, "the same seed, the same count"
    assert claim.updates_to_learn(method, 3, 1, needed - 1) is None


def test_growth():
    """Medians 10, 30, 90: a factor of 3 with each state."""
    updates = np.array([[9, 29, 80], [10, 30, 90], [1000, 31, 91]])
    assert claim.growth(updates, np.array([4, 5, 6])) == pytest.approx(3)


def test_interval():
    """Five seeds that agree leave no doubt; five that do not are all in the interval's range."""
    values = np.array([3.0, 3, 3, 3, 3])
    assert claim.interval(lambda i: np.median(values[i]), 5) == (3, 3)
    values = np.array([1.0, 2, 3, 4, 5])
    low, high = claim.interval(lambda i: np.median(values[i]), 5)
    assert 1 <= low < 3 < high <= 5
