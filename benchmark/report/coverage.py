"""Measures how often 95 % intervals contain the truth, and writes the table into docs/compare.md.

    python -m benchmark.report.coverage

Returns are drawn from three known distributions. Each method gets the same draws. An interval without two finite ends
does not count as containing the truth.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.stats
import tyro

from benchmark.pages import command_line, markdown, write_block
from benchmark.report.statistics import LEVEL, interval, pooled_iqm, stratified_mean
from benchmark.run_folder import ROOT

PAGE = ROOT / "docs" / "compare.md"
RETURNS = {  # draws of an array of this size
    "bell-shaped": lambda rng, size: rng.normal(size=size),
    "skewed": lambda rng, size: rng.lognormal(0, 0.75, size),
    "at the ceiling": lambda rng, size: np.where(rng.random(size) < 0.7, 500.0, rng.uniform(100, 500, size)),
}
STATISTICS = {"mean": stratified_mean, "IQM": pooled_iqm}


@dataclass
class Args:
    experiments: int = 2_000  # experiments in each cell of the table
    resamples: int = 1_000  # resamples of a bootstrap
    seeds: tuple[int, ...] = (5, 10, 20)  # numbers of seeds in an experiment


def bootstrap(x: np.ndarray, statistic: Callable, args: Args, method: str) -> tuple[np.ndarray, np.ndarray]:
    """SciPy's bootstrap at the plain level."""
    options = {"n_resamples": args.resamples, "batch": 200, "vectorized": True, "rng": np.random.default_rng(0)}
    found = scipy.stats.bootstrap((x,), statistic, axis=0, method=method, **options).confidence_interval
    return found.low, found.high


def students_t(x: np.ndarray, statistic: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Student's t of the mean; of the IQM that of a trimmed mean, with the deviation of the winsorised scores."""
    n, cut = len(x), int(len(x) / 4) if statistic is pooled_iqm else 0
    ordered = np.sort(x, axis=0)
    kept, winsorised = n - 2 * cut, ordered.clip(ordered[cut], ordered[n - cut - 1])
    error = winsorised.std(axis=0, ddof=1) * math.sqrt(n) / kept
    half = scipy.stats.t.isf((1 - LEVEL) / 2, kept - 1) * error
    return statistic(x) - half, statistic(x) + half


def studentised(x: np.ndarray, statistic: Callable, args: Args) -> tuple[np.ndarray, np.ndarray]:
    """The bootstrap of the t statistic; SciPy has none. An end is infinite if too many resamples have no deviation."""
    rng, n = np.random.default_rng(0), len(x)
    samples = (x[rng.integers(n, size=n)] for _ in range(args.resamples))
    t = np.array([(statistic(own) - statistic(x)) / own.std(axis=0, ddof=1) for own in samples])
    low, high = np.nanquantile(t, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="nearest")
    return statistic(x) - high * x.std(axis=0, ddof=1), statistic(x) - low * x.std(axis=0, ddof=1)


METHODS = {
    "ours": lambda x, statistic, args: interval([x], statistic, resamples=args.resamples),
    "plain percentile": lambda x, statistic, args: bootstrap(x, statistic, args, "percentile"),
    "BCa": lambda x, statistic, args: bootstrap(x, statistic, args, "BCa"),
    "Student's t": lambda x, statistic, args: students_t(x, statistic),
    "studentised": studentised,
}


def share_covered(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    """The share of intervals that are finite and contain the truth."""
    return float(np.mean(np.isfinite(low) & np.isfinite(high) & (low <= truth) & (truth <= high)))


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    rows = []
    for name, statistic in STATISTICS.items():
        for kind, draw in RETURNS.items():
            truth = statistic(draw(np.random.default_rng(0), 2_000_000))
            for n in args.seeds:
                x = draw(np.random.default_rng(n), (n, args.experiments))
                with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):  # resamples of equal scores
                    shares = [share_covered(*method(x, statistic, args), truth) for method in METHODS.values()]
                rows.append([f"{name}, {kind}", str(n), *(f"{share:.1%}" for share in shares)])
                print(*rows[-1], flush=True)
    command = command_line("python -m benchmark.report.coverage", args)
    write_block(PAGE, "coverage", command, f"    {command}\n\n" + markdown(["returns", "seeds", *METHODS], rows))


if __name__ == "__main__":
    main()
