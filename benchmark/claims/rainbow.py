"""Rainbow's claim: together the six ideas learn more from the same steps than DQN does.

    python -m benchmark.claims.rainbow             # needs pip install -e ".[minatar]"
    python -m benchmark.claims.rainbow --tune      # how the learning rates were chosen

MinAtar's Space Invaders, 300,000 steps, one update every 4 steps, batches of 32, two hidden layers of 128: rainbow.py
and dqn.py with the same flags. The learning rate of each was chosen from the same three, on one seed, 1001, because a
run takes minutes. The support of Rainbow's distributions covers all returns of these runs. The result is the ratio of
the scripts' means, with an interval over the seeds of both; the mean is over a run's last three evaluations.

Hessel et al. (2018), "Rainbow: Combining improvements in deep reinforcement learning", AAAI, figure 1.
"""

from dataclasses import dataclass
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import tyro

from benchmark.claims import base
from benchmark.report.statistics import draw_mean, interval, said, verdict, with_span

FLAGS = {
    "env_id": "benchmark.envs:MinAtar/SpaceInvaders-v1",
    "total_timesteps": 300_000,
    "hidden_sizes": [128, 128],
    "batch_size": 32,
    "train_frequency": 4,
    "learning_starts": 5_000,
    "eval_frequency": 25_000,
    "eval_episodes": 20,
    "compile": True,
}
SCRIPTS = {"DQN": ("dqn.py", {}), "Rainbow": ("rainbow.py", {"v_min": 0.0, "v_max": 20.0})}
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
CHOSEN = {"DQN": 1e-3, "Rainbow": 3e-4}  # by --tune
LEAST_RATIO = 1.2
TUNING_SEED = 1001


@dataclass
class Args(base.Args):
    num_seeds: int = 10  # seeds of each script; --tune uses seed 1001
    tune: bool = False  # try all learning rates, and print the best


def at(name: str, learning_rate: float) -> tuple[str, dict]:
    """A script and its flags with this learning rate."""
    script, own = SCRIPTS[name]
    return script, FLAGS | own | {"learning_rate": learning_rate}


def late_returns(name: str, learning_rate: float, runs: base.Runs) -> tuple[np.ndarray, list[dict]]:
    """The mean of the last three evaluations of each run, (seeds,), and a row of the CSV file for each run."""
    _, returns = base.series(base.scalars_of(runs), "eval/episodic_return")
    late, rows = returns[:, -3:].mean(axis=1), []
    for (seed, (_, result)), value in zip(runs.items(), late, strict=True):
        row = {"script": SCRIPTS[name][0], "learning_rate": learning_rate, "seed": seed}
        rows.append(row | {"late_return": round(value, 2), "seconds": round(result["seconds"])})
    return late, rows


def tune(args: Args) -> None:
    """The mean of the last three evaluations at each learning rate."""
    found, rows, means = base.Findings("rainbow", args, __doc__, "tune"), [], {}
    cases = list(product(SCRIPTS, LEARNING_RATES))
    runs = found.run({f"{name} {rate:g}": at(name, rate) for name, rate in cases}, [TUNING_SEED])
    for name, rate in cases:
        late, more = late_returns(name, rate, runs[f"{name} {rate:g}"])
        means[name, rate] = late.mean()
        rows += more
    lines = [[f"{rate:g}", *(f"{means[name, rate]:.1f}" for name in SCRIPTS)] for rate in LEARNING_RATES]
    found.table(["learning rate", *SCRIPTS], lines)
    for name in SCRIPTS:
        best = max(LEARNING_RATES, key=lambda rate, name=name: means[name, rate])
        found.say(f"{name}: best with {best:g}, chosen is {CHOSEN[name]:g}.")
    found.csv(rows, "rainbow_minatar_tuning")
    found.write()


def ratio_of_means(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    return x.mean(axis=axis) / y.mean(axis=axis)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    if args.tune:
        return tune(args)
    found = base.Findings("rainbow", args, __doc__)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    rows, lines, late = [], [], {}
    for name, runs in found.run({name: at(name, CHOSEN[name]) for name in SCRIPTS}).items():
        draw_mean(
            axes, *base.series(base.scalars_of(runs), "eval/episodic_return"), label=f"{name}, {SCRIPTS[name][0]}"
        )
        late[name], more = late_returns(name, CHOSEN[name], runs)
        rows += more
        seconds = np.mean([result["seconds"] for _, result in runs.values()])
        lines.append([name, said(late[name], 1), f"{seconds:.0f}"])
    axes.set(title="MinAtar Space Invaders: greedy return", xlabel="environment steps")
    found.table(["script", "mean of the last three evaluations", "seconds a run"], lines)
    samples = late["Rainbow"], late["DQN"]
    low, high = interval(samples, ratio_of_means)
    ratio = with_span(ratio_of_means(*samples), low, high)
    claim = f"Rainbow's mean over DQN's is above {LEAST_RATIO}: {ratio}"
    found.say(verdict(claim, low > LEAST_RATIO, args.num_seeds))
    found.csv(rows, "rainbow_minatar")
    found.figure(figure, "rainbow_minatar", "Greedy return of Rainbow and of DQN over steps")
    found.write()


if __name__ == "__main__":
    main()
