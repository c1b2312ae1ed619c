"""The parts of C51's experiment on FrozenLake, on a corridor whose return has a distribution to follow on paper."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

import tabular_q
from benchmark.claims import base
from benchmark.claims import c51 as claim

# From state 0 action 0 leads to state 1, and action 1 ends the episode without a reward. In state 1 action 0 reaches
# the goal with probability 1/2, falls into a hole with 1/4 and stays where it is with 1/4; action 1 stays.
CORRIDOR = {
    0: {0: [(1.0, 1, 0.0, False)], 1: [(1.0, 2, 0.0, True)]},
    1: {0: [(0.5, 2, 1.0, True), (0.25, 2, 0.0, True), (0.25, 1, 0.0, False)], 1: [(1.0, 1, 0.0, False)]},
    2: {a: [(1.0, 2, 0.0, True)] for a in range(2)},
}
POLICY = np.array([0, 0, 0])


def corridor() -> tabular_q.Model:
    spaces = {"observation_space": Discrete(3), "action_space": Discrete(2)}
    world = SimpleNamespace(P=CORRIDOR, initial_state_distrib=[1.0, 0.0, 0.0])
    return tabular_q.read_model(SimpleNamespace(**spaces, unwrapped=world))


def test_exact_returns():
    """From state 1 the reward comes in step k with probability 1/2 (1/4)^(k - 1), in all 1/2 / (1 - 1/4) = 2/3, from
    state 0 a step later."""
    values, p = claim.exact_returns(corridor(), POLICY, gamma=0.5)
    assert values[:4].tolist() == [0, 1, 0.5, 0.25]
    assert p.sum(axis=1) == pytest.approx([1, 1, 1])
    assert p[1, :4] == pytest.approx([1 - 2 / 3, 0.5, 0.5 / 4, 0.5 / 16], abs=1e-4)
    assert p[0, :4] == pytest.approx([1 - 2 / 3, 0, 0.5, 0.5 / 4], abs=1e-4)
    assert p[2, 0] == 1


def test_optimal_q_of_the_corridor():
    """V(1) = 1/2 + 1/2 * 1/4 V(1), so 4/7, and V(0) = 1/2 V(1); the mean of the exact returns is the same."""
    model = corridor()
    q = tabular_q.value_iteration(model, gamma=0.5)
    assert q == pytest.approx(np.array([[2 / 7, 0], [4 / 7, 2 / 7], [0, 0]]))
    values, p = claim.exact_returns(model, POLICY, gamma=0.5)
    assert p @ values == pytest.approx(q[:, 0], abs=1e-3)


def test_fixed_point_keeps_the_mean_and_spreads_the_rest():
    """With atoms 0, 1/2, 1 and γ = 1/2, 1/2 moves to 1/4, halfway between 0 and 1/2. In state 1 with probabilities x of
    1 and y of 1/2: x = 1/2, y = (x + y / 2) / 4, so y = 1/7; in state 0 x = 0 and y = 1/2 + 1/14."""
    p = claim.fixed_point(corridor(), POLICY, 0.5, torch.tensor([0.0, 0.5, 1.0]))
    assert p[1] == pytest.approx([1 - 1 / 2 - 1 / 7, 1 / 7, 1 / 2])
    assert p[0] == pytest.approx([1 - 8 / 14, 8 / 14, 0])
    assert p @ [0, 0.5, 1] == pytest.approx([2 / 7, 4 / 7, 0])


def test_distance_is_how_far_probability_has_to_move():
    """Half of it from 0 to 1, and nothing."""
    p = np.array([[0.5, 0.5], [0.0, 1.0]])
    assert claim.distances(np.array([0.0, 1.0]), p, np.array([1.0]), np.ones((2, 1))) == pytest.approx([0.5, 0])


@pytest.mark.parametrize(("distance", "verdict"), [(0.0499, "reproduces: "), (0.05, "does NOT reproduce: ")])
def test_one_seed_that_fails_is_enough(capsys, tmp_path, distance, verdict):
    rest = {"worst_state": 0.1, "of_point_mass": 0.2, "of_fixed_point": 0.005, "of_optimal": 1.0}
    rows = [{"seed": seed, "distance": distance if seed == 2 else 0.01, **rest} for seed in range(1, 6)]
    claim.report(base.Findings("c51", base.Args(output=tmp_path), "a claim"), rows)
    assert capsys.readouterr().out.splitlines()[-1].startswith(verdict)
