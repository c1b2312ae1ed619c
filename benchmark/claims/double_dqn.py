"""Double DQN's claim: DQN overestimates, and choosing with one network what the other one values cures it.

    python -m benchmark.claims.double_dqn

Two places. **Noisy action values**, the paper's figure 1: every action of a state is worth 0, and what a network says
of it is noise of standard deviation 1. How far is the target off, against the number of actions? With DQN's target
the same network chooses and values; with Double DQN's another one, whose noise is its own, chooses.

**Pendulum-v1** with 41 torques, both scripts with the same flags (constant learning rate 3e-3, batches of 32, a hard
copy of the target network every 200 steps, where DQN overestimates: with the scripts' own, gentler defaults neither
does much). No reward is ever positive, so a positive Q is wrong without further proof. Overestimation is
eval/q_predicted minus eval/q_realised, averaged over the evaluations in the second half of a run. An episode here
always ends by its time limit, and its tail is bootstrapped from Q itself, as `evaluate` explains, so that a part of
the overestimation (between a seventh and a third) does not show.

van Hasselt, Guez and Silver (2016), "Deep reinforcement learning with double Q-learning", AAAI.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro

import double_dqn
import dqn
from benchmark.claims.base import series
from benchmark.launch.local import run_seeds
from benchmark.report.statistics import draw_mean, mean_and_interval, said, write_table
from benchmark.run_folder import DATA, read_scalars

FLAGS = {
    "env_id": "Pendulum-v1",
    "action_bins": 41,
    "total_timesteps": 20_000,
    "learning_starts": 1_000,
    "learning_rate": 3e-3,
    "anneal_lr": False,
    "batch_size": 32,
    "train_frequency": 2,
    "tau": 1.0,
    "target_network_frequency": 200,
    "eval_frequency": 1_000,
}


@dataclass
class Args:
    num_seeds: int = 20
    """seeds of each script, from 1 on"""
    workers: int = 2
    """runs at the same time, one core each"""
    runs_dir: Path = Path("runs/claims")
    """where the runs are kept"""
    output: Path = DATA / "double_dqn"
    """where table and figure are written"""


def bias_from_noise(num_actions: int, seed: int, states: int = 1_000) -> tuple[float, float]:
    """Mean target minus its true value 0, by DQN and by Double DQN, over states in which all actions are worth 0."""
    noise = torch.randn(2, states, num_actions, generator=torch.Generator().manual_seed(seed))
    zero, going_on = torch.zeros(states), torch.zeros(states, dtype=torch.bool)
    plain = dqn.td_target(noise[0], zero, going_on, gamma=1.0)
    double = double_dqn.td_target(noise[1], noise[0], zero, going_on, gamma=1.0)
    return plain.mean().item(), double.mean().item()


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    seeds = range(1, args.num_seeds + 1)
    settings = {"DQN": ("dqn.py", FLAGS), "Double DQN": ("double_dqn.py", FLAGS)}
    runs = run_seeds(settings, seeds, args.runs_dir, args.workers)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")

    counts = [2**k for k in range(1, 11)]
    bias = np.array([[bias_from_noise(n, seed) for n in counts] for seed in seeds])  # (seeds, counts, 2)
    print("noisy values: bias of the target, mean and 95 % interval over the seeds")
    for k, name in enumerate(settings):
        draw_mean(left, counts, bias[:, :, k], label=name, marker="o")
        print(f"  {name:10}", "; ".join(f"{counts[j]} actions {said(bias[:, j, k])}" for j in (0, 4, 9)))
    left.set(title="All actions worth 0, noise of deviation 1", xlabel="actions", ylabel="bias of the target")
    left.set_xscale("log", base=2)

    rows, over = [], {}
    for name in settings:
        scalars = [read_scalars(runs[name][seed][0]) for seed in seeds]
        steps, predicted = series(scalars, "eval/q_predicted")
        realised, returns = (series(scalars, metric)[1] for metric in ("eval/q_realised", "eval/episodic_return"))
        late = np.array(steps) > FLAGS["total_timesteps"] / 2
        over[name] = (predicted - realised)[:, late].mean(axis=1)
        color = draw_mean(middle, steps, predicted, label=f"{name}: predicted")
        draw_mean(middle, steps, realised, label=f"{name}: realised", color=color, linestyle=":")
        draw_mean(right, steps, returns, label=name)
        for i, seed in enumerate(seeds):
            row = {"script": settings[name][0], "seed": seed, "overestimation": round(over[name][i], 3)}
            row |= {"predicted": round(predicted[i, late].mean(), 3), "realised": round(realised[i, late].mean(), 3)}
            rows.append(row | {"final_return": round(returns[i, -1], 2)})
        final = returns[:, late].mean(axis=1)
        print(f"Pendulum-v1, second half, {name}: predicted minus realised {said(over[name])}", end="; ")
        print(f"predicted above 0 in {np.mean(predicted[:, late] > 0):.0%} of evaluations; greedy return {said(final)}")
    middle.axhline(0, color="grey", linewidth=0.8)
    middle.set(title="Pendulum-v1: value (0 is the most there is)", xlabel="environment steps", ylim=(-100, 60))
    right.set(title="Pendulum-v1: greedy return", xlabel="environment steps")
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        axes.legend()
    write_table(rows, args.output / "double_pendulum.csv")
    figure.savefig(args.output / "double_pendulum.png", dpi=110)

    difference = over["DQN"] - over["Double DQN"]  # same seeds, same first weights
    _, low, _ = mean_and_interval(difference)
    verdict = "DQN overestimates more: the claim reproduces" if low > 0 else "no evidence that DQN overestimates more"
    print(f"DQN minus Double DQN, paired by seed: {said(difference)}; {verdict}")
    print(f"mean distance from the realised value: DQN {said(abs(over['DQN']))}, ", end="")
    print(f"Double DQN {said(abs(over['Double DQN']))}")


if __name__ == "__main__":
    main()
