"""Means with their intervals, as numbers and as curves, and tables small enough to read."""

import csv
from pathlib import Path

import numpy as np
import scipy.stats


def mean_and_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds (axis 0) and its 95 % percentile-bootstrap interval."""
    rng = np.random.default_rng(0)
    interval = scipy.stats.bootstrap((values,), np.mean, axis=0, method="percentile", rng=rng).confidence_interval
    return values.mean(axis=0), interval.low, interval.high


def draw_mean(axes, x, values: np.ndarray, **style) -> str:
    """Draws the mean of values (seeds, len(x)) and its 95 % interval as a band, and returns the color of both."""
    mean, low, high = mean_and_interval(values)
    (line,) = axes.plot(x, mean, **style)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
    return line.get_color()


def write_table(rows: list[dict], path: Path) -> None:
    """Writes rows that have the same keys as CSV, with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
