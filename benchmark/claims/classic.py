"""The four scripts of the DQN family on four classic tasks: final greedy returns of 10 seeds each.

    python -m benchmark.claims.classic
    python -m benchmark.claims.classic --env-ids LunarLander-v3 --scripts per_dqn.py

The settings stand in benchmark/suites/classic.toml, with a word where they are not settled. Acrobot and CartPole take
20 minutes on two cores, the other two about 90; what is complete is not run again. Writes one row a seed, and one
figure with the learning curves, of the environments that were asked for.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tyro

from benchmark.ladder import DQN_FAMILY
from benchmark.runs import ROOT, read_scalars, run_seeds, series
from benchmark.statistics import draw_mean, mean_and_interval, write_table

SUITE = ROOT / "benchmark" / "suites" / "classic.toml"


@dataclass
class Args:
    scripts: tuple[str, ...] = DQN_FAMILY
    """scripts to run"""
    env_ids: tuple[str, ...] = tuple(tomllib.loads(SUITE.read_text())["environments"])
    """environments of the suite to run them on"""
    num_seeds: int = 10
    """seeds of each, from 1 on"""
    workers: int = 2
    """runs at the same time, one core each"""
    runs_dir: Path = Path("runs/classic")
    """where the runs are kept"""
    output: Path = ROOT / "benchmark" / "results"
    """where table and figure are written"""


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    suite = tomllib.loads(SUITE.read_text())["environments"]
    seeds = range(1, args.num_seeds + 1)
    rows = []
    figure, panels = plt.subplots(1, len(args.env_ids), figsize=(4 * len(args.env_ids), 3.5), layout="constrained")
    for env_id, axes in zip(args.env_ids, np.atleast_1d(panels), strict=True):
        flags = {name: tuple(value) if isinstance(value, list) else value for name, value in suite[env_id].items()}
        settings = {script: (script, {"env_id": env_id} | flags) for script in args.scripts}
        print(env_id)
        for script, runs in run_seeds(settings, seeds, args.runs_dir, args.workers).items():
            steps, curves = series([read_scalars(runs[seed][0]) for seed in seeds], "eval/episodic_return")
            draw_mean(axes, steps, curves, label=script)
            returns = np.array([runs[seed][1]["eval/episodic_return"] for seed in seeds])
            seconds = np.median([runs[seed][1]["seconds"] for seed in seeds])
            mean, low, high = mean_and_interval(returns)
            print(f"  {script:15} {mean:7.1f} ({low:.1f} to {high:.1f}), lowest {returns.min():.1f}", end=", ")
            print(f"{steps[-1]:,} steps, median {seconds:.0f} s a run")
            for seed in seeds:
                result = runs[seed][1]
                row = {"env_id": env_id, "script": script, "seed": seed, "steps": result["global_step"]}
                row |= {"final_return": round(result["eval/episodic_return"], 2), "best_return": result["best_return"]}
                rows.append(row | {"seconds": round(result["seconds"], 1)})
        axes.set(title=env_id, xlabel="environment steps", ylabel="greedy return")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    write_table(rows, args.output / "classic.csv")
    figure.savefig(args.output / "classic.png", dpi=110)
    print(f"mean greedy return of the final weights over {args.num_seeds} seeds, 95 % interval in brackets")


if __name__ == "__main__":
    main()
