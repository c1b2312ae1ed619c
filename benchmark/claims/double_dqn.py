"""Double DQN's claim: DQN overestimates, and choosing with one network what the other one values cures it.

    python -m benchmark.claims.double_dqn

Two studies. **Noisy action values**, the paper's figure 1: every action of a state has the value 0, and each network's
estimate is noise with standard deviation 1. The question is the error of the target, against the number of actions. In
DQN's target one network chooses the action and values it. In Double DQN's target another network, with its own noise,
chooses.

**Pendulum-v1** with 41 torques, both scripts with the same flags: constant learning rate 3e-3, batches of 32, a hard
copy of the target network every 200 steps. With these flags DQN overestimates; with the scripts' gentler defaults
neither overestimates much. No reward is positive, so a positive Q is certainly wrong. Overestimation is
eval/q_predicted minus eval/q_realised, averaged over the evaluations in the second half of a run. An episode of
Pendulum always ends by its time limit, and Q itself stands for the rest, as `evaluate` explains. So a part of the
overestimation (between a seventh and a third) is not measured.

van Hasselt, Guez and Silver (2016), "Deep reinforcement learning with double Q-learning", AAAI.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro

import double_dqn
import dqn
from benchmark.claims import base
from benchmark.report.statistics import draw_mean, mean_and_interval, said, verdict

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


def bias_from_noise(num_actions: int, seed: int, states: int = 1_000) -> tuple[float, float]:
    """Mean target, by DQN and by Double DQN, over states in which all actions have the true value 0."""
    noise = torch.randn(2, states, num_actions, generator=torch.Generator().manual_seed(seed))
    zero, going_on = torch.zeros(states), torch.zeros(states, dtype=torch.bool)
    plain = dqn.td_target(noise[0], zero, going_on, gamma=1.0)
    double = double_dqn.td_target(noise[1], noise[0], zero, going_on, gamma=1.0)
    return plain.mean().item(), double.mean().item()


def report(found: base.Findings, rows: list[dict]) -> None:
    """All numbers of Pendulum, from the rows of double_pendulum.csv: a row for each script and seed, in equal order."""
    over, lines, final = {}, [], {}
    for name, script in (("DQN", "dqn.py"), ("Double DQN", "double_dqn.py")):
        names = ("predicted", "realised", "above_0", "late_return", "final_return")
        own = [[float(row[key]) for key in names] for row in rows if row["script"] == script]
        predicted, realised, above_0, late_return, final[name] = np.array(own).T
        over[name] = predicted - realised
        returns = said(late_return), said(final[name])
        lines.append([name, said(over[name]), said(abs(over[name])), f"{above_0.mean():.0%}", *returns])
    header = ["Pendulum-v1, second half", "predicted minus realised", "distance of the two", "predicted above 0"]
    header += ["greedy return", "greedy return in the end"]
    found.table(header, lines)
    difference = over["DQN"] - over["Double DQN"]  # paired: a seed has the same first weights
    claim = f"DQN overestimates more than Double DQN; difference, paired by seed: {said(difference)}"
    found.say(verdict(claim, mean_and_interval(difference)[1] > 0, len(difference)))
    gain = said(final["Double DQN"] - final["DQN"], 1)
    found.say(f"Final greedy return of Double DQN minus that of DQN, paired by seed: {gain}.")


def main() -> None:
    args = tyro.cli(base.Args, description=__doc__)
    found = base.Findings("double_dqn", args, __doc__)
    settings = {"DQN": ("dqn.py", FLAGS), "Double DQN": ("double_dqn.py", FLAGS)}
    runs = found.run(settings)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")

    counts = [2**k for k in range(1, 11)]
    bias = np.array([[bias_from_noise(n, seed) for n in counts] for seed in args.seeds])  # (seeds, counts, 2)
    for k, name in enumerate(settings):
        draw_mean(left, counts, bias[:, :, k], label=name, marker="o")
    left.set(title="All actions worth 0, noise of deviation 1", xlabel="actions", ylabel="bias of the target")
    left.set_xscale("log", base=2)
    noise = [
        {"target": name, "actions": n, "seed": seed, "bias": round(bias[i, j, k], 4)}
        for k, name in enumerate(settings)
        for j, n in enumerate(counts)
        for i, seed in enumerate(args.seeds)
    ]
    found.csv(noise, "double_noise")
    shown = (0, 4, 9)
    found.table(
        ["noisy values: bias of the target", *(f"{counts[j]} actions" for j in shown)],
        [[name, *(said(bias[:, j, k]) for j in shown)] for k, name in enumerate(settings)],
    )

    rows = []
    for name, (script, _) in settings.items():
        scalars = base.scalars_of(runs[name])
        steps, predicted = base.series(scalars, "eval/q_predicted")
        realised, returns = (base.series(scalars, metric)[1] for metric in ("eval/q_realised", "eval/episodic_return"))
        late = np.array(steps) > FLAGS["total_timesteps"] / 2
        color = draw_mean(middle, steps, predicted, label=f"{name}: predicted")
        draw_mean(middle, steps, realised, label=f"{name}: realised", color=color, linestyle=":")
        draw_mean(right, steps, returns, label=name)
        for i, seed in enumerate(args.seeds):
            row = {"script": script, "seed": seed, "predicted": round(predicted[i, late].mean(), 3)}
            row |= {"realised": round(realised[i, late].mean(), 3), "above_0": np.mean(predicted[i, late] > 0)}
            row |= {"late_return": round(returns[i, late].mean(), 2), "final_return": round(returns[i, -1], 2)}
            rows.append(row)
    report(found, rows)
    middle.axhline(0, color="grey", linewidth=0.8)
    middle.set(title="Pendulum-v1: value (0 is the most there is)", xlabel="environment steps", ylim=(-100, 60))
    right.set(title="Pendulum-v1: greedy return", xlabel="environment steps")
    found.csv(rows, "double_pendulum")
    shows = "Bias against the number of actions; predicted and realised value on Pendulum"
    found.figure(figure, "double_pendulum", shows)
    found.write()


if __name__ == "__main__":
    main()
