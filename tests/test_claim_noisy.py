"""DeepSea of the noisy claim, by playing all sequences of actions, and what its verdict says."""

import itertools

import numpy as np
import pytest

import noisy_dqn
from benchmark.claims import noisy_dqn as claim


def play(env, directions):
    """Return and cells of an episode that goes right where `directions` has True."""
    obs, _ = env.reset(seed=0)
    total, cells, terminated = 0.0, [], False
    for right in directions:
        assert not terminated and obs.sum() == 1
        row, column = np.argwhere(obs)[0].tolist()
        cells.append((row, column))
        action = env.right[row, column] if right else 1 - env.right[row, column]
        obs, reward, terminated, truncated, _ = env.step(action)
        total += reward
        assert not truncated
    assert terminated and obs.sum() == 0
    return total, cells


@pytest.mark.parametrize("size", [2, 5, 8])
def test_one_sequence_of_actions_is_paid(size):
    """Always right returns 1 - size * 0.01 / size = 0.99; any other -0.01 / size for each step to the right."""
    env = claim.DeepSea(size)
    for directions in itertools.product((False, True), repeat=size):
        total, _ = play(env, directions)
        assert total == pytest.approx(0.99 if all(directions) else -0.01 / size * sum(directions))


def test_cells():
    """Down at every step, and to the left not beyond the edge."""
    env = claim.DeepSea(4)
    assert play(env, [True] * 4)[1] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert play(env, [False, True, True, False])[1] == [(0, 0), (1, 0), (2, 1), (3, 2)]
    assert play(env, [True, False, False, False])[1] == [(0, 0), (1, 1), (2, 0), (3, 0)]


def test_no_action_is_right_everywhere():
    """Nor on the way that is paid: else a network's bias would solve it."""
    for size in (8, 12):
        assert set(claim.DeepSea(size).right.diagonal()) == {0, 1}


def test_the_script_makes_it(small):
    for size in (8, 12):
        env = noisy_dqn.make_env(small(noisy_dqn, env_id=f"benchmark.claims.noisy_dqn:DeepSea{size}-v0"))
        obs, _ = env.reset(seed=0)
        assert obs.tolist() == [1] + [0] * (size * size - 1) and env.action_space.n == 2
        env.close()


@pytest.mark.parametrize(
    ("noise", "fixed", "holds"), [(20, 3, True), (18, 10, True), (17, 3, False), (20, 11, False), (0, 20, False)]
)
def test_verdict(noise, fixed, holds):
    solved = {claim.NOISY: np.arange(20) < noise, claim.FIXED: np.arange(20) < fixed}
    assert claim.judge(solved).startswith("reproduces: " if holds else "does NOT reproduce: ")
