"""The seven states of Baird in the claim of pqn.py: what they look like, where steps lead, what the kinds share."""

import numpy as np
import pytest

from benchmark.claims import pqn as claim


def test_features_are_those_of_figure_11_1():
    states = claim.features().numpy()
    assert states[2].tolist() == [0, 0, 2, 0, 0, 0, 0, 1]
    assert states[6].tolist() == [0, 0, 0, 0, 0, 0, 1, 2]


def test_steps_lead_to_the_seventh_state_by_one_action_and_to_the_others_by_the_other_one():
    state, action, next_state = claim.transitions(np.random.default_rng(1), 70_000)
    assert set(next_state[action == 1]) == {6} and set(next_state[action == 0]) == set(range(6))
    for seen in (state, next_state):  # every state as often as every other one: 10,000 times, give or take four σ of 93
        assert np.bincount(seen) == pytest.approx(np.full(7, 10_000), abs=4 * 93)


def test_without_a_future_every_kind_learns_that_nothing_pays(monkeypatch):
    monkeypatch.setattr(claim, "GAMMA", 0.0)
    monkeypatch.setattr(claim, "UPDATES", 400)
    for kind in claim.KINDS:
        first, *_, last = claim.largest_q(1, kind)
        assert last < 0.1 * first < first


def test_a_target_network_acts_from_the_second_update_on_and_normalisation_from_the_first(monkeypatch):
    """Before its first step a target network is the same as the network itself."""
    monkeypatch.setattr(claim, "UPDATES", 2)
    monkeypatch.setattr(claim, "MEASURED_EVERY", 1)
    norm, neither, target = (claim.largest_q(1, kind) for kind in claim.KINDS)
    assert target[0] == neither[0] and target[1] != neither[1]
    assert norm[0] != neither[0]


def test_a_target_network_that_is_copied_after_every_update_is_none(monkeypatch):
    monkeypatch.setattr(claim, "UPDATES", 5)
    monkeypatch.setattr(claim, "MEASURED_EVERY", 1)
    monkeypatch.setattr(claim, "TAU", 1.0)
    assert claim.largest_q(1, claim.TARGET).tolist() == claim.largest_q(1, claim.NEITHER).tolist()
