"""The claim about first weights: what counts as a dead unit, and that both networks get the same games and batches."""

import numpy as np
import pytest
import torch

from benchmark.claims.dqn_atari import FIRST_WEIGHTS, Args, learn, never


def test_a_unit_is_dead_if_it_is_0_in_all_observations():
    """Of four units, the second and the last are; a channel lives if it is above 0 anywhere."""
    x = torch.tensor([[0.0, 0.0, 2.0, 0.0], [1.0, 0.0, 3.0, 0.0]])
    assert never(x) == pytest.approx(2 / 4)
    channels = torch.zeros(2, 4, 3, 3)
    channels[1, 2, 0, 1] = 1.0
    assert never(channels) == pytest.approx(3 / 4)


def test_both_learn_from_the_same_games(monkeypatch):
    """At first the error is r - Q, and Q near 0: that of both is about the mean of r², the share of points."""
    step, moved = torch.optim.Adam.step, []

    def watched(self):
        before = [parameter.detach().clone() for parameter in self.param_groups[0]["params"]]
        step(self)
        after = self.param_groups[0]["params"]
        moved.append(max((a - b).abs().max().item() for a, b in zip(after, before, strict=True)))

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    args = Args(steps=2_000, updates=10, average=2)
    (own, measured), (other, _) = (learn(name, 1, args) for name in FIRST_WEIGHTS)
    assert len(moved) == 2 * 10 and min(moved) > 1e-5, "weights move in every update"
    assert own.shape == other.shape == (5,) and np.isfinite(own).all()
    assert own[0] == pytest.approx(other[0], abs=0.01) and not np.array_equal(own, other)
    assert {"td_error", "spread_of_q", "dead_in_layer_1", "dead_in_layer_4"} <= measured.keys()
    assert "dead_in_layer_5" not in measured, "the paper's network has four layers with a ReLU"
