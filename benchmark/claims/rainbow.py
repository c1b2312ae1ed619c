"""Rainbow's claim: together the six ideas learn more from the same steps than DQN does.

    python -m benchmark.claims.rainbow             # needs pip install -e ".[minatar]"
    python -m benchmark.claims.rainbow --tune      # how the learning rates were chosen

MinAtar's Space Invaders, 300,000 steps, one update in 4 of a batch of 32, two hidden layers of 128: rainbow.py and
dqn.py with the same flags. The learning rate of each was chosen from the same three, on seed 1001 (a single one: a run
takes minutes); the support of Rainbow's distributions is wide enough for all that was seen there. What is compared is
the mean of a run's last three evaluations: the ratio of the scripts' means, with a bootstrap interval over the
seeds of both.

Hessel et al. (2018), "Rainbow: Combining improvements in deep reinforcement learning", AAAI, figure 1.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
import tyro

from benchmark.claims.base import series
from benchmark.launch.local import run_seeds
from benchmark.report.statistics import draw_mean, mean_and_interval, write_table
from benchmark.run_folder import DATA, read_scalars

FLAGS = {
    "env_id": "benchmark.minatar:MinAtar/SpaceInvaders-v1",
    "total_timesteps": 300_000,
    "hidden_sizes": [128, 128],
    "batch_size": 32,
    "train_frequency": 4,
    "learning_starts": 5_000,
    "eval_frequency": 25_000,
    "compile": True,
}
SCRIPTS = {"DQN": ("dqn.py", {}), "Rainbow": ("rainbow.py", {"v_min": 0.0, "v_max": 20.0})}
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
CHOSEN = {"DQN": 1e-3, "Rainbow": 3e-4}  # by --tune
LEAST_RATIO = 1.2


@dataclass
class Args:
    num_seeds: int = 10
    """seeds of each script, from 1 on; with --tune it is seed 1001"""
    tune: bool = False
    """try all learning rates, and say which is best"""
    workers: int = 2
    """runs at the same time, one core each"""
    runs_dir: Path = Path("runs/claims")
    """where the runs are kept"""
    output: Path = DATA / "rainbow"
    """where table and figure are written"""


def late_returns(name: str, learning_rate: float, runs: dict[int, tuple[Path, dict]]) -> tuple[np.ndarray, list[dict]]:
    """The mean of the last three evaluations of each run, (seeds,), and a row of the table for each."""
    _, returns = series([read_scalars(folder) for folder, _ in runs.values()], "eval/episodic_return")
    late, rows = returns[:, -3:].mean(axis=1), []
    for (seed, (_, result)), value in zip(runs.items(), late, strict=True):
        row = {"script": SCRIPTS[name][0], "learning_rate": learning_rate, "seed": seed}
        rows.append(row | {"late_return": round(value, 2), "seconds": round(result["seconds"])})
    return late, rows


def tune(args: Args) -> None:
    seeds, rows = [1001], []
    settings = {
        f"{name} {rate:g}": (script, FLAGS | own | {"learning_rate": rate})
        for rate in LEARNING_RATES
        for name, (script, own) in SCRIPTS.items()
    }
    runs = run_seeds(settings, seeds, args.runs_dir, args.workers)
    for name in SCRIPTS:
        means = {}
        for rate in LEARNING_RATES:
            late, more = late_returns(name, rate, runs[f"{name} {rate:g}"])
            means[rate] = late.mean()
            rows += more
            print(f"{name}, --learning-rate {rate:g}: {', '.join(f'{value:.1f}' for value in late)}")
        print(f"{name}: best with {max(means, key=means.get):g}, chosen is {CHOSEN[name]:g}")
    write_table(rows, args.output / "rainbow_minatar_tuning.csv")


def ratio_of_means(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    return x.mean(axis=axis) / y.mean(axis=axis)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    if args.tune:
        return tune(args)
    seeds = range(1, args.num_seeds + 1)
    settings = {
        name: (script, FLAGS | own | {"learning_rate": CHOSEN[name]}) for name, (script, own) in SCRIPTS.items()
    }
    runs = run_seeds(settings, seeds, args.runs_dir, args.workers)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    rows, late = [], {}
    for name in settings:
        steps, returns = series([read_scalars(folder) for folder, _ in runs[name].values()], "eval/episodic_return")
        draw_mean(axes, steps, returns, label=f"{name}, {settings[name][0]}")
        late[name], more = late_returns(name, CHOSEN[name], runs[name])
        rows += more
        mean, low, high = mean_and_interval(late[name])
        seconds = np.mean([result["seconds"] for _, result in runs[name].values()])
        print(f"{name}: mean of the last three evaluations {mean:.1f} ({low:.1f} to {high:.1f}), {seconds:.0f} s a run")
    axes.set(title="MinAtar Space Invaders: greedy return", xlabel="environment steps")
    axes.grid(alpha=0.3)
    axes.legend()
    write_table(rows, args.output / "rainbow_minatar.csv")
    figure.savefig(args.output / "rainbow_minatar.png", dpi=110)
    samples, rng = (late["Rainbow"], late["DQN"]), np.random.default_rng(0)
    low, high = scipy.stats.bootstrap(samples, ratio_of_means, method="percentile", rng=rng).confidence_interval
    verdict = "reproduces" if low > LEAST_RATIO else "does NOT reproduce"
    print(f"Rainbow over DQN: {ratio_of_means(*samples):.2f} ({low:.2f} to {high:.2f}); above {LEAST_RATIO}: {verdict}")


if __name__ == "__main__":
    main()
