"""Fitted Q iteration's claim: from 50,000 transitions of a random policy, which regressions learn to balance the pole?

    python -m benchmark.claims.fqi
    python -m benchmark.claims.fqi --slow            # without the slow ones

fqi.py on CartPole-v1, every regressor of it with one model an action, and the linear one also with the action as a
one-hot vector. There its Q(s, a) = w s + v_a has the same best action in every state, so it cannot do better than to
push in one direction, which lasts some 9.4 steps. Each seed has a data set of its own. Reported are the last iteration
and the best one, chosen by evaluations every 5 iterations, on 20 other episodes.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tyro

from benchmark.claims.base import series
from benchmark.launch.local import run_seeds
from benchmark.report.statistics import draw_mean, mean_and_interval, write_table
from benchmark.run_folder import DATA, read_scalars

LINEAR_ONE_HOT = "linear, one-hot"


@dataclass
class Args:
    quick: tuple[str, ...] = ("linear", "polynomial", "kernel")
    """regressors of fqi.py that take about a second an iteration"""
    num_seeds: int = 10
    """data sets for them, with seeds from 1 on"""
    slow: tuple[str, ...] = ("k_neighbors", "decision_tree", "extra_trees", "gradient_boosting", "mlp")
    """regressors that take longer"""
    num_slow_seeds: int = 3
    """data sets for them"""
    iterations: int = 50
    """regressions of a run"""
    workers: int = 2
    """runs at the same time, one core each"""
    runs_dir: Path = Path("runs/claims")
    """where the runs are kept"""
    output: Path = DATA / "fqi"
    """where table and figure are written"""


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    common = {"env_id": "CartPole-v1", "iterations": args.iterations}
    quick = {LINEAR_ONE_HOT: ("fqi.py", {"regressor": "linear", "action_coding": "one_hot"} | common)}
    quick |= {name: ("fqi.py", {"regressor": name} | common) for name in args.quick}
    slow = {name: ("fqi.py", {"regressor": name} | common) for name in args.slow}
    runs = run_seeds(quick, range(1, args.num_seeds + 1), args.runs_dir, args.workers)
    runs |= run_seeds(slow, range(1, args.num_slow_seeds + 1), args.runs_dir, args.workers)

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    rows = []
    print(f"{'regressor':18} best iteration's return         last one's  seeds at 450  seconds")
    for name, seeds in runs.items():
        folders, results = zip(*seeds.values(), strict=True)
        iterations, curves = series([read_scalars(folder) for folder in folders], "eval/episodic_return")
        draw_mean(axes, iterations, curves, label=name)
        for seed, result in zip(seeds, results, strict=True):
            row = {"regressor": name, "seed": seed, "best_return": result["best_return"]}
            row |= {"best_iteration": result["best_iteration"], "last_return": result["eval/episodic_return"]}
            rows.append(row | {"iterations": result["updates"], "seconds": round(result["seconds"])})
        best = np.array([result["best_return"] for result in results])
        last = np.mean([result["eval/episodic_return"] for result in results])
        mean, low, high = mean_and_interval(best)
        print(f"{name:18} {mean:6.1f} ({low:5.1f} to {high:5.1f})  {last:18.1f}", end="")
        print(f"  {(best >= 450).sum():5} of {len(best)}  {np.median([result['seconds'] for result in results]):7.0f}")
    axes.set(title="CartPole-v1 from 50,000 random transitions", xlabel="iteration", ylabel="greedy return")
    figure.legend(loc="outside right upper")
    axes.grid(alpha=0.3)
    args.output.mkdir(parents=True, exist_ok=True)
    write_table(rows, args.output / "fqi.csv")
    figure.savefig(args.output / "fqi.png", dpi=110)


if __name__ == "__main__":
    main()
