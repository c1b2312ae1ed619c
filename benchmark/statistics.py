"""Means with their intervals, and tables small enough to read."""

import csv
from pathlib import Path

import numpy as np
import scipy.stats


def mean_and_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds (axis 0) and its 95 % percentile-bootstrap interval."""
    rng = np.random.default_rng(0)
    interval = scipy.stats.bootstrap((values,), np.mean, axis=0, method="percentile", rng=rng).confidence_interval
    return values.mean(axis=0), interval.low, interval.high


def write_table(rows: list[dict], path: Path) -> None:
    """Writes rows that have the same keys as CSV, with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
