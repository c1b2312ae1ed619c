"""The claim of rainbow.py: what it makes of its runs."""

import numpy as np
import pytest

from benchmark.claims import base, rainbow


def test_late_return_is_the_mean_of_the_last_three_evaluations(monkeypatch):
    curves = {1: [0.0, 9.0, 1.0, 2.0, 3.0], 2: [0.0, 9.0, 4.0, 4.0, 7.0]}
    rows = {seed: [(step, value, 0.0) for step, value in enumerate(curve)] for seed, curve in curves.items()}
    monkeypatch.setattr(base, "read_scalars", lambda seed: {"eval/episodic_return": rows[seed]})
    late, rows = rainbow.late_returns("Rainbow", 1e-3, {seed: (seed, {"seconds": 60.4}) for seed in curves})
    assert late.tolist() == [2.0, 5.0]
    assert rows[1] == {"script": "rainbow.py", "learning_rate": 1e-3, "seed": 2, "late_return": 5.0, "seconds": 60}


def test_the_ratio_is_that_of_the_means():
    """(2 + 4) / (1 + 3), not the mean of 2 / 1 and 4 / 3."""
    assert rainbow.ratio_of_means(np.array([2.0, 4.0]), np.array([1.0, 3.0])) == pytest.approx(1.5)
