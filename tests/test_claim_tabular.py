"""Sutton and Barto's maximisation-bias example, as the claim of tabular_q.py plays it."""

import numpy as np

from benchmark.claims.tabular_q import choices


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
