"""The dueling claim: Q^π on numbers worked out by hand, and that learning learns."""

import numpy as np
import pytest

from benchmark.claims.dueling_dqn import Args, epsilon_greedy, exact_q, learn, optimal_q, walk
from benchmark.envs import Corridor

UP, DOWN, LEFT, RIGHT, NOTHING = range(5)


def test_optimal_q():
    """The goal is 69 steps from the start and pays at the last: V*(start) = γ^68; a step lost costs one γ."""
    q = optimal_q(Corridor(5), gamma=0.9)
    assert q[68] == pytest.approx([1.0, 0.9**2, 0.9, 0.9, 0.9])  # up arrives; down is two steps lost, the rest one
    assert q[0] == pytest.approx([0.9**68, 0.9**69, 0.9**69, 0.9**69, 0.9**69])
    assert q[69].tolist() == [0.0] * 5
    best = q.argmax(axis=1)
    assert (best[:10] == UP).all() and (best[10:59] == RIGHT).all() and (best[59:69] == UP).all()


def test_epsilon_greedy():
    policy = epsilon_greedy(np.array([[0.0, 3.0, 1.0, 2.0]]), epsilon=0.2)
    assert policy == pytest.approx(np.array([[0.05, 0.85, 0.05, 0.05]]))  # 0.2 / 4 each, and 0.8 more for the best


def test_exact_q_of_a_greedy_policy_is_optimal():
    model = Corridor(10)
    q = optimal_q(model, gamma=0.99)
    assert exact_q(model, epsilon_greedy(q, 0.0), gamma=0.99) == pytest.approx(q)


def test_exact_q_by_hand():
    """Two states and the goal: 0 at the lower end, 1 above it, 2 the goal; γ = 1/2, ε = 1/2, so that of 5 actions the
    best has probability 0.6 and each other one 0.1. From 0 up leads to 1 and the rest stays; from 1 up arrives, down
    leads to 0, three actions stay:

        V(0) = 0.6 · V(1)/2 + 0.4 · V(0)/2            => 0.8 V(0) = 0.3 V(1)          => V(0) = 3/8 V(1)
        V(1) = 0.6 · 1 + 0.1 · V(0)/2 + 0.3 · V(1)/2  => 0.85 V(1) = 0.6 + 0.05 V(0)  => V(1) = 0.6 / 0.83125
    """
    model = Corridor(5, vertical=1, horizontal=1)
    assert model.next_state.tolist() == [[1, 0, 0, 0, 0], [2, 0, 1, 1, 1], [2, 2, 2, 2, 2]]
    q = exact_q(model, epsilon_greedy(optimal_q(model, gamma=0.5), epsilon=0.5), gamma=0.5)
    v1 = 0.6 / 0.83125
    v0 = 3 / 8 * v1
    assert q == pytest.approx(np.array([[v1 / 2, *[v0 / 2] * 4], [1.0, v0 / 2, *[v1 / 2] * 3], [0.0] * 5]))


def test_walk_follows_the_policy_and_starts_again():
    """Without ε, 69 steps from 0 to 69, and then the same again."""
    model = Corridor(5)
    policy = epsilon_greedy(optimal_q(model, gamma=0.99), epsilon=0.0)
    buffer = walk(model, policy, 2 * 69, np.random.default_rng(0))
    assert buffer.size == 2 * 69
    assert buffer.obs.argmax(axis=1).tolist() == [*range(69), *range(69)]
    assert buffer.next_obs.argmax(axis=1).tolist() == [*range(1, 70), *range(1, 70)]
    assert np.flatnonzero(buffer.reward).tolist() == np.flatnonzero(buffer.terminated).tolist() == [68, 137]


def test_walk_acts_at_random_as_often_as_it_should():
    """With ε = 0.5 of 10 actions, an action other than the best has probability 0.5 · 9/10 = 0.45."""
    model = Corridor(10)
    policy = epsilon_greedy(optimal_q(model, gamma=0.99), epsilon=0.5)
    buffer = walk(model, policy, 10_000, np.random.default_rng(0))
    other = buffer.action != policy.argmax(axis=1)[buffer.obs.argmax(axis=1)]
    assert other.mean() == pytest.approx(0.45, abs=0.015)  # three standard deviations, √(0.45 · 0.55 / 10,000) each


@pytest.mark.parametrize("network", ["single", "dueling"])
def test_learning_reduces_the_error(network):
    """Predicting 0 has the error Σ Q²; 500 updates leave less than a tenth of it. The same seed gives the same."""
    args = Args(walk_steps=10_000, updates=500, eval_frequency=250)
    model = Corridor(5)
    zero = (exact_q(model, epsilon_greedy(optimal_q(model, 0.99), 0.1), 0.99) ** 2).sum()
    errors = learn(network, 5, 3e-3, 1, args)
    assert errors.shape == (2,) and errors[-1] < zero / 10
    assert learn(network, 5, 3e-3, 1, args).tolist() == errors.tolist()
