"""The corridor of the n-step claim: Q_n on numbers worked out by hand, an update, and that learning arrives there."""

import numpy as np
import pytest
import torch

from benchmark.claims import n_step_dqn as claim
from n_step_dqn import Batch

LEFT, RIGHT = claim.LEFT, claim.RIGHT


@pytest.fixture
def two_states(monkeypatch):
    """Of 20 states 2 are left, and γ = 1/2; the policy goes right with probability 3/4."""
    monkeypatch.setattr(claim, "STATES", 2)
    monkeypatch.setattr(claim, "GAMMA", 0.5)


def test_steps():
    assert claim.step(0, LEFT) == (0, 0.0, False) and claim.step(0, RIGHT) == (1, 0.0, False)
    assert claim.step(19, LEFT) == (18, 0.0, False) and claim.step(19, RIGHT) == (19, 1.0, True)


def test_exact_q_of_one_step_is_optimal(two_states):
    """From state 1 right pays 1; from 0 that is one step off, and left in either state leads to 0, one more."""
    assert claim.exact_q(1) == pytest.approx(np.array([[0.5**2, 0.5], [0.5**2, 1.0]]))


def test_exact_q_of_two_steps_by_hand(two_states):
    """Right is the best in both states, so V(0) = Q(0, right) and V(1) = Q(1, right) = 1. From 0, right leads to 1,
    where the policy goes right for 1 or left to 0; left stays in 0, from where the policy goes to 1 or stays:

        Q(0, right) = 1/2 (3/4 · 1 + 1/4 · 1/2 · V(0))             => 15/16 V(0) = 3/8    => V(0) = 0.4
        Q(0, left)  = 1/2 (3/4 · 1/2 · V(1) + 1/4 · 1/2 · V(0))    = 3/16 + 0.4 / 16      = Q(1, left)
    """
    left = 3 / 16 + 0.4 / 16
    assert claim.exact_q(2) == pytest.approx(np.array([[left, 0.4], [left, 1.0]]))


def test_bias_is_that_of_the_prototype():
    """As a prototype, written apart from this file, computed it for n = 1, 3, 5 and 10."""
    bias = [claim.rms(claim.exact_q(n) - claim.exact_q(1)) for n in (1, 3, 5, 10)]
    assert bias == pytest.approx([0, 0.103, 0.132, 0.155], abs=1e-3)


def test_walk_follows_the_policy_and_starts_again():
    buffer = claim.walk(3, 10_000, np.random.default_rng(0))
    state, action, next_state = buffer.obs[:, 0], buffer.action, buffer.next_obs[:, 0]
    for s, a, *rest in list(zip(state, action, next_state, buffer.reward, buffer.terminated, strict=True))[:500]:
        assert claim.step(int(s), int(a)) == tuple(rest)
    assert (state[1:] == np.where(buffer.terminated[:-1], 0, next_state[:-1])).all() and buffer.terminated.sum() > 100
    assert (action == RIGHT).mean() == pytest.approx(0.75, abs=0.015)  # three and a half standard deviations


def test_an_update_moves_to_the_mean_of_the_targets():
    """Q(2, left) has the targets 1 + 0.5 · 4 and 5, Q(5, right) has 7 + 0.25 · 4; the rest stays where it is."""
    q = torch.zeros(20, 2)
    q[9] = torch.tensor([4.0, 2.0])
    rows = ([[2.0], [2.0], [5.0]], [0, 0, 1], [1.0, 5.0, 7.0], [[9.0]] * 3, [False, True, False], [0.5, 0.5, 0.25])
    claim.update(q, Batch(*map(torch.tensor, rows)))
    expected = torch.zeros(20, 2)
    expected[9], expected[2, 0], expected[5, 1] = torch.tensor([4.0, 2.0]), 0.1 * (3 + 5) / 2, 0.1 * 8
    assert torch.allclose(q, expected)


@pytest.mark.parametrize("n", [1, 5])
def test_learning_arrives_at_q_n(n):
    """Before the first update the error is that of Q = 0. The same seed gives the same."""
    args = claim.Args(walk_steps=20_000, updates=400)
    errors, distance = claim.learn(n, 1, args)
    assert errors[0] == pytest.approx(claim.rms(claim.exact_q(1))) and errors.shape == (401,)
    assert distance < 0.02 and errors[-1] == pytest.approx(claim.rms(claim.exact_q(n) - claim.exact_q(1)), abs=0.02)
    assert claim.learn(n, 1, args)[0].tolist() == errors.tolist()
