"""Means with their intervals, comparisons of two scripts, corrections for many comparisons, and CSV tables.

Scores come as one array for each environment, (seeds,) or (seeds, steps). The bootstrap is stratified: it draws seeds
within an environment, as in Agarwal et al. (2021), "Deep reinforcement learning at the edge of the statistical
precipice". Their percentile interval is `interval(..., expand=False)`; the default is wider, see `expanded_level`.
"""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.stats

LEVEL = 0.95
RESAMPLES = 2000
FEWEST = 5  # seeds; with fewer, nothing is said about a difference


def mean_and_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds (axis 0) and its 95 % interval, see `interval`."""
    return values.mean(axis=0), *interval([values], stratified_mean)


def said(values: np.ndarray, digits: int = 2) -> str:
    """Mean over seeds and its 95 % interval, as text."""
    return with_span(*mean_and_interval(values), digits)


def with_span(middle: float, low: float, high: float, digits: int = 2) -> str:
    """A number and its interval as text; the number alone if there are too few seeds for an interval."""
    return f"{middle:.{digits}f}" + ("" if np.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})")


def verdict(claim: str, holds: bool, seeds: int) -> str:
    """A claim with its verdict; with fewer than FEWEST seeds there are too few seeds to tell."""
    found = "reproduces" if holds else "does NOT reproduce"
    return f"{found if seeds >= FEWEST else 'too few seeds to tell'}: {claim}"


def pooled_iqm(*samples: np.ndarray, axis: int = 0) -> np.ndarray:
    """Interquartile mean over the scores of all environments together, that is the mean of the middle half."""
    return scipy.stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)


def expanded_level(seeds: Sequence[int]) -> float:
    """The level at which a percentile bootstrap over these numbers of seeds (one an environment) really covers LEVEL.

    With few seeds the bootstrap is too narrow for two reasons: its variance is too small by (n - 1) / n, and it uses a
    normal quantile instead of Student's t. Hesterberg (2015), "What teachers should know about the bootstrap", section
    3.3, corrects both.
    """
    degrees, n = sum(n - 1 for n in seeds), np.mean(seeds)
    return 1 - 2 * scipy.stats.norm.sf(math.sqrt(n / (n - 1)) * scipy.stats.t.isf((1 - LEVEL) / 2, degrees))


def interval(
    samples: Sequence[np.ndarray], statistic: Callable = pooled_iqm, expand: bool = True, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of reports, pages and claims: (low, high) of statistic(*samples, axis=0).

    A stratified percentile bootstrap at an expanded level. benchmark/report/coverage.py measures it beside others.
    NaN with fewer than FEWEST seeds: with 2, 3 and 4 seeds it would cover 47, 74 and 86 % (1,000 normal samples each).

    samples: one array (seeds, ...) for each environment. expand: see expanded_level.
    """
    if min(map(len, samples)) < FEWEST:
        return (np.full(samples[0].shape[1:], np.nan)[()],) * 2
    level = expanded_level([len(sample) for sample in samples]) if expand else LEVEL
    options = {"n_resamples": resamples, "batch": 200, "method": "percentile", "vectorized": True, "axis": 0}
    rng = np.random.default_rng(0)
    found = scipy.stats.bootstrap(samples, statistic, confidence_level=level, rng=rng, **options).confidence_interval
    return found.low, found.high


def at_least(samples: Sequence[np.ndarray], levels: np.ndarray) -> list[np.ndarray]:
    """For a performance profile: whether each score reaches each level, one array (seeds, levels) an environment."""
    return [(np.asarray(sample)[:, None] >= levels).astype(float) for sample in samples]


def stratified_mean(*samples: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean over the scores of all environments together."""
    return np.concatenate(samples, axis=axis).mean(axis=axis)


def superiority(*samples: np.ndarray, axis: int = 0) -> np.ndarray:
    """P(X > Y) + P(X = Y) / 2, mean over environments. samples: x_1, ..., x_K, y_1, ..., y_K, with seeds along axis."""
    moved = [np.moveaxis(sample, axis, -1) for sample in samples]
    half = len(moved) // 2
    shares = []
    for x, y in zip(moved[:half], moved[half:], strict=True):
        x, y = x[..., :, None], y[..., None, :]  # every seed of x with every seed of y
        shares.append(((x > y) + 0.5 * (x == y)).mean(axis=(-2, -1)))
    return np.mean(shares, axis=0)


@dataclass(frozen=True)
class Comparison:
    """The probability that a seed of a ends above a seed of b, with its interval (NaN if unknown)."""

    probability: float
    low: float
    high: float
    seeds: int  # the smallest number of seeds of any environment and script
    p_value: float = math.nan  # of the two-sided Mann-Whitney test that the probability is one half

    @property
    def verdict(self) -> str:
        """better, worse, or no evidence; always no evidence with fewer than FEWEST seeds."""
        if self.seeds < FEWEST or self.low <= 0.5 <= self.high:
            return "no evidence"
        return "better" if self.low > 0.5 else "worse"

    @property
    def reversed(self) -> "Comparison":
        """The comparison of b with a."""
        return Comparison(1 - self.probability, 1 - self.high, 1 - self.low, self.seeds, self.p_value)

    @property
    def span(self) -> str:
        """The interval as text; "" without one. An end that would be rounded to 0.50 gets a third digit."""
        if math.isnan(self.low):
            return ""
        return " to ".join(
            f"{x:.3f}" if f"{x:.2f}" == "0.50" and x != 0.5 else f"{x:.2f}" for x in (self.low, self.high)
        )

    def sentence(self, a: str, b: str) -> str:
        """The verdict in words."""
        if self.seeds < FEWEST:
            few = f"{self.seeds} seeds are" if self.seeds > 1 else "one seed is"
            return f"No evidence of a difference between {a} and {b}: {few} too few to tell."
        chance = f"a run of {a} ends above one of {b} with probability {self.probability:.2f}"
        chance += f" ({self.span})"
        if self.verdict == "no evidence":
            return f"No evidence of a difference between {a} and {b} at {self.seeds} seeds: {chance}."
        return f"{a} is {self.verdict} than {b} at {self.seeds} seeds: {chance}."


def compare(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> Comparison:
    """Compares the final scores (seeds,) of each environment, in the same order; no interval below FEWEST seeds.

    The interval is the score interval of Newcombe (2006), "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2", method 5, for the mean over environments. If a and b are equal, its variance is
    exactly that of the Mann-Whitney test.

    A bootstrap finds no variance if every seed of one script ends above every seed of the other, which is common: with
    10 seeds its 95 % interval of a probability of 0.93 covers 70 %. Newcombe's interval covers 94 to 96 % there, and
    93 % if one script spreads three times as far as the other.

    Its variance assumes that the environments agree. If they do not, the interval is too wide: with shifts of 2, -2, 0,
    1 and -1 standard deviations in five environments it covers 99 %. A variance for each environment would be narrower
    there, but with five seeds it finds a difference between equal scripts in 8 % of 1,000 experiments with five
    environments; this interval in 4 %.
    """
    probability = float(superiority(*a, *b))
    sizes = [(len(x), len(y)) for x, y in zip(a, b, strict=True)]
    seeds = min(map(min, sizes))
    if seeds < FEWEST:
        return Comparison(probability, math.nan, math.nan, seeds)
    z = scipy.stats.norm.isf((1 - LEVEL) / 2)

    def variance(p: float) -> float:
        terms = [1 + ((m + n) / 2 - 1) * ((1 - p) / (2 - p) + p / (1 + p)) for m, n in sizes]
        parts = [p * (1 - p) * term / (m * n) for term, (m, n) in zip(terms, sizes, strict=True)]
        return sum(parts) / len(sizes) ** 2

    def outside(p: float) -> float:
        return (probability - p) ** 2 - z**2 * variance(p)

    inside = min(max(probability, 1e-9), 1 - 1e-9)  # at 0 and 1 the variance is 0
    low = scipy.optimize.brentq(outside, 0, inside) if probability > 0 else 0.0
    high = scipy.optimize.brentq(outside, inside, 1) if probability < 1 else 1.0
    p_value = 2 * scipy.stats.norm.sf(abs(probability - 0.5) / math.sqrt(variance(0.5)))
    return Comparison(probability, low, high, seeds, float(p_value))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values (Holm, 1979): below α if significant at level α among all comparisons together."""
    p, n = np.asarray(p_values, float), len(p_values)
    order = np.argsort(p)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (n - np.arange(n))), 1)
    return adjusted


def area(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Area under the curves (seeds, steps) divided by the steps: the mean return over training, (seeds,)."""
    return np.trapezoid(values, steps, axis=1) / (steps[-1] - steps[0]) if len(steps) > 1 else values[:, -1]


def steps_to(steps: np.ndarray, values: np.ndarray, threshold: float) -> np.ndarray:
    """The first evaluated step of each curve (seeds, steps) at the threshold or above; infinity if there is none."""
    reached = values >= threshold
    return np.where(reached.any(axis=1), np.asarray(steps, float)[reached.argmax(axis=1)], np.inf)


def draw_mean(axes, x, values: np.ndarray, **style) -> str:
    """Draws the mean of values (seeds, len(x)) and its 95 % interval as a band, and returns the color of both."""
    mean, low, high = mean_and_interval(values)
    (line,) = axes.plot(x, mean, **style)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
    return line.get_color()


def write_table(rows: list[dict], path: Path) -> None:
    """Writes rows with equal keys as CSV, with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
