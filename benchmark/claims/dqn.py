"""DQN's claim: with the defaults of dqn.py, CartPole-v1 is solved by the final weights of nearly every seed.

    python -m benchmark.claims.dqn
    python -m benchmark.claims.dqn --loss huber     # why mean squared error is the default

Runs 20 seeds, two at a time, and writes a table of all seeds and a figure of their learning curves. A seed whose run
is complete is not run again; runs of another version of dqn.py do not count.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
import tyro

from benchmark.claims.base import series
from benchmark.launch.local import run_seeds
from benchmark.report.statistics import draw_mean, mean_and_interval, write_table
from benchmark.run_folder import DATA, read_scalars


@dataclass
class Args:
    num_seeds: int = 20
    """seeds to run"""
    first_seed: int = 1
    """the first of them"""
    loss: Literal["mse", "huber"] = "mse"
    """loss of a TD error"""
    workers: int = 2
    """runs at the same time, one core each"""
    runs_dir: Path = Path("runs/claims")
    """where the runs are kept"""
    output: Path = DATA / "dqn"
    """where table and figure are written"""
    threshold: float = 475.0
    """mean greedy return from which CartPole-v1 counts as solved (Gymnasium's own)"""


def draw(folders: list[Path], loss: str, path: Path) -> None:
    """Greedy return, and predicted against realised value, over environment steps."""
    scalars = [read_scalars(folder) for folder in folders]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")

    def curve(axes, name, label, color, seeds=False):
        steps, values = series(scalars, name)
        if seeds:
            axes.plot(steps, values.T, color=color, alpha=0.15, linewidth=0.8)
        draw_mean(axes, steps, values, color=color, label=label)

    curve(left, "eval/episodic_return", f"mean of {len(folders)} seeds, 95 % interval", "C0", seeds=True)
    left.set(
        title=f"DQN on CartPole-v1 ({loss}): greedy return", xlabel="environment steps", ylabel="return", ylim=(0, 510)
    )
    curve(right, "eval/q_predicted", "predicted: max Q", "C1")
    curve(right, "eval/q_realised", "realised: discounted return", "C2")
    right.set(title="Are the Q-values accurate?", xlabel="environment steps", ylabel="value", ylim=(0, None))
    for axes in (left, right):
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    seeds = range(args.first_seed, args.first_seed + args.num_seeds)
    settings = {"DQN": ("dqn.py", {"env_id": "CartPole-v1", "loss": args.loss})}
    runs = run_seeds(settings, seeds, args.runs_dir, args.workers)["DQN"]
    rows = [
        {
            "seed": seed,
            "final_return": runs[seed][1]["eval/episodic_return"],
            "best_return": runs[seed][1]["best_return"],
            "steps": runs[seed][1]["global_step"],
            "updates": runs[seed][1]["updates"],
            "seconds": round(runs[seed][1]["seconds"], 1),
        }
        for seed in seeds
    ]
    name = "dqn_cartpole" if args.loss == "mse" else f"dqn_cartpole_{args.loss}"
    write_table(rows, args.output / f"{name}.csv")
    draw([runs[seed][0] for seed in seeds], args.loss, args.output / f"{name}.png")

    returns = np.array([row["final_return"] for row in rows])
    solved = int((returns >= args.threshold).sum())
    share = scipy.stats.binomtest(solved, len(rows)).proportion_ci()
    mean, low, high = mean_and_interval(returns)
    seconds = np.median([row["seconds"] for row in rows])
    print(f"{solved} of {len(rows)} seeds end at {args.threshold:g} or more", end=", ")
    print(f"95 % interval of their share {share.low:.2f} to {share.high:.2f}")
    print(f"final greedy return {mean:.1f}, 95 % interval {low:.1f} to {high:.1f}, lowest {returns.min():.1f}")
    print(f"{rows[0]['steps']:,} environment steps, {rows[0]['updates']:,} updates, median {seconds:.0f} s a run")


if __name__ == "__main__":
    main()
