"""The claim of tabular_q.py: Sutton and Barto's maximisation-bias example, and the pictures of policies."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmark.claims.tabular_q import ARROWS, choices, grid


def test_q_learning_is_drawn_to_the_left_and_double_q_learning_less():
    """At first both actions look the same; then the largest of B's ten guesses, above 0, draws Q-learning there."""
    rng = np.random.default_rng(0)
    shares = {double: np.mean([choices(double, 60, rng) for _ in range(400)], axis=0) for double in (False, True)}
    assert all(0.35 < share[0] < 0.65 for share in shares.values()), "both actions are unknown"
    assert shares[False][10:60].mean() > shares[True][10:60].mean() + 0.15
    assert shares[False][10:60].mean() > 0.5


def test_the_same_generator_the_same_choices():
    one, two = (choices(True, 100, np.random.default_rng(3)) for _ in range(2))
    assert (one == two).all() and one.any() and not one.all()


@pytest.mark.parametrize(("env_id", "arrow", "states"), [("FrozenLake-v1", "←", 11), ("CliffWalking-v1", "↑", 37)])
def test_the_grid_shows_both_policies(env_id, arrow, states):
    """Learned: action 0 everywhere it matters. The value of the optimal start is that of Q*; unreachable is empty."""
    size = {"FrozenLake-v1": 16, "CliffWalking-v1": 48}[env_id]
    q = np.zeros((size, 4))
    q[:, 0] = 1.0
    figure = grid(env_id, q)
    learned, optimal = figure.axes[:2]
    assert {text.get_text() for text in learned.texts} == {arrow} and len(learned.texts) >= states
    assert {text.get_text() for text in optimal.texts} <= set(ARROWS[env_id]) and len(optimal.texts) == states
    start = {"FrozenLake-v1": (0, 0), "CliffWalking-v1": (3, 0)}[env_id]
    value = {"FrozenLake-v1": 0.5420, "CliffWalking-v1": -12.248}[env_id]
    assert optimal.images[0].get_array()[start] == pytest.approx(value, abs=5e-4)
    plt.close(figure)
