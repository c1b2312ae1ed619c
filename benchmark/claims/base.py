"""What the claims have in common."""

import numpy as np


def series(runs: list[dict], name: str) -> tuple[list[int], np.ndarray]:
    """Steps, and values (runs, steps), of a scalar that all of the runs, as read by read_scalars, logged alike."""
    return [step for step, _, _ in runs[0][name]], np.array([[value for _, value, _ in run[name]] for run in runs])
