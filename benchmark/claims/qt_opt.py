"""QT-Opt's claims: its search finds the maximum of Q, and with it Q-learning needs neither a grid nor an actor.

    python -m benchmark.claims.qt_opt --part search       # seconds
    python -m benchmark.claims.qt_opt --part pendulum     # needs stable-baselines3
    python -m benchmark.claims.qt_opt --part drift
    python -m benchmark.claims.qt_opt --part tune         # the hyperparameters of the reach, on other seeds
    python -m benchmark.claims.qt_opt --part reach
    python -m benchmark.claims.qt_opt --part others       # needs gymnasium[box2d], and for one task gymnasium[mujoco]

Complete runs are not repeated, so every part continues after an interruption.

**search**: the distance of qt_opt.cem's result from the maximum. Q has five peaks of heights 0.5 to 1 at random places
of [-1, 1]^n. Its maximum is 1, at the highest peak, so it is known exactly in any number of dimensions:

    Q(a) = max_j h_j exp(-|a - c_j|² / (2 n 0.3²))

The error is 1 - Q(a*), over 100 such Qs a seed. Elites are a tenth of the samples, as in the paper (6 of 64).

**pendulum**: Pendulum-v1, 6,000 steps, with the defaults of qt_opt.py. Beside it run dqn.py with 11 torques and the
same hyperparameters, and Stable-Baselines3's SAC and TD3 with the hyperparameters that their maintainers publish for
20,000 steps. We read SAC and TD3 at 6,000 steps, at their end, and at the seconds in which qt_opt.py makes its 6,000
steps; also dqn.py with 40,000 steps. Seconds are those of training, without evaluations; they are fair if nothing else
runs (--workers 1). With its published settings TD3 begins to learn at step 10,000. So it also runs for 6,000 steps and
learns from step 500 on, as qt_opt.py does. Claimed: a mean of at least -170, and at least 17 of 20 seeds at -200 or
more.

**drift**: the same with another loss, batch or lag, one at a time, to find the setting that makes seeds fail.

**reach**: two joints turn by up to half a radian a step. The reward is 1 when the tip of the arm is within 0.1 of a
point, and 0 before. dqn.py has a grid of 5 x 5 or 11 x 11 turns. All have the same hyperparameters except γ and
learning rate; each has the best of nine pairs on seeds 1001 to 1003 (`tune`). Claimed: success of at least 0.85, and
more than with both grids.

**others**: MountainCarContinuous-v0, LunarLanderContinuous-v3 and MuJoCo's InvertedDoublePendulum-v5, to see whether
qt_opt.py learns there. Nothing is claimed.

Kalashnikov et al. (2018), "QT-Opt: Scalable deep reinforcement learning for vision-based robotic manipulation", CoRL.
"""

import importlib.util
from dataclasses import dataclass
from itertools import product
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro

import qt_opt
from benchmark.claims import base
from benchmark.report.statistics import draw_mean, mean_and_interval, said, verdict

DIMENSIONS = (1, 2, 4, 8)
BUDGETS = ((1, 64), (2, 64), (4, 64), (1, 128), (2, 128), (1, 256), (4, 256))  # rounds, and samples in each
PEER = "benchmark/peers/sb3_continuous.py"
SAME = (  # dqn.py gets qt_opt.py's values of these hyperparameters
    *("learning_rate", "gamma", "tau", "target_network_frequency", "batch_size", "end_e", "exploration_fraction"),
    *("train_frequency", "learning_starts"),
)
AS_QT_OPT = {name: getattr(qt_opt.Args, name) for name in SAME}
PENDULUM = {"env_id": "Pendulum-v1", "total_timesteps": 6_000, "eval_frequency": 1_000, "eval_episodes": 20}
PUBLISHED = PENDULUM | {"total_timesteps": 20_000}
PENDULUM_SETTINGS = {
    "QT-Opt": ("qt_opt.py", PENDULUM),
    "DQN, 11 torques": ("dqn.py", PENDULUM | AS_QT_OPT),
    "DQN, 40,000 steps": ("dqn.py", PENDULUM | AS_QT_OPT | {"total_timesteps": 40_000}),
    "SAC": (PEER, PUBLISHED | {"algorithm": "sac"}),
    "TD3": (PEER, PUBLISHED | {"algorithm": "td3"}),
    "TD3, early start": (PEER, PENDULUM | {"algorithm": "td3", "learning_starts": 500}),
}
DRIFT_SETTINGS = {
    "as it is": ("qt_opt.py", PENDULUM),
    "Huber's loss": ("qt_opt.py", PENDULUM | {"loss": "huber"}),
    "no lag": ("qt_opt.py", PENDULUM | {"target_lag": 1}),
    "lag 1,000": ("qt_opt.py", PENDULUM | {"target_lag": 1_000}),
    "batch 32": ("qt_opt.py", PENDULUM | {"batch_size": 32}),
    "batch 256": ("qt_opt.py", PENDULUM | {"batch_size": 256}),
}
REACH = AS_QT_OPT | {"batch_size": 32, "total_timesteps": 10_000, "eval_frequency": 2_500}
REACH |= {"eval_episodes": 100, "final_eval_episodes": 100}
REACHERS = {
    "QT-Opt": ("qt_opt.py", "benchmark.envs:Reach-v0"),
    "DQN, 5 x 5": ("dqn.py", "benchmark.envs:Reach5-v0"),
    "DQN, 11 x 11": ("dqn.py", "benchmark.envs:Reach11-v0"),
}
TRIED = [{"learning_rate": rate, "gamma": gamma} for rate in (1e-3, 3e-3, 1e-2) for gamma in (0.8, 0.9, 0.95)]
TUNED = {
    "QT-Opt": {"learning_rate": 1e-3, "gamma": 0.9},
    "DQN, 5 x 5": {"learning_rate": 3e-3, "gamma": 0.9},
    "DQN, 11 x 11": {"learning_rate": 3e-3, "gamma": 0.8},
}
TUNING_SEEDS = range(1001, 1004)
OTHERS_SETTINGS = {
    "MountainCarContinuous-v0": {"total_timesteps": 30_000, "gamma": 0.99, "eval_frequency": 3_000},
    "LunarLanderContinuous-v3": {"total_timesteps": 60_000, "gamma": 0.99, "learning_rate": 1e-3},
    "InvertedDoublePendulum-v5": {"total_timesteps": 30_000, "gamma": 0.99, "learning_rate": 1e-3},
}


@dataclass(kw_only=True)
class Args(base.Args):
    part: Literal["search", "pendulum", "drift", "tune", "reach", "others"]  # `tune` has its own seeds


def difference(own: np.ndarray, theirs: np.ndarray, digits: int = 1) -> tuple[str, str]:
    """The mean difference of two settings, paired by seed, with its interval, and the side of the first setting."""
    _, low, high = mean_and_interval(own - theirs)
    return said(own - theirs, digits), "above" if low > 0 else "below" if high < 0 else "no evidence"


# The search


class Peaks:
    """Q of B states, with `peaks` peaks in each state; its maximum is 1. qt_opt.cem takes it as a QNetwork."""

    def __init__(self, states: int, dimensions: int, generator: torch.Generator, peaks: int = 5):
        self.places = torch.rand(states, 1, peaks, dimensions, generator=generator) * 2 - 1
        self.heights = 0.5 + 0.5 * torch.rand(states, 1, peaks, generator=generator)
        self.heights[:, :, 0] = 1.0
        self.width = 0.3 * dimensions**0.5  # so peaks are equally wide in all numbers of dimensions

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """(B, n, dimensions) -> (B, n); obs is ignored."""
        distance = (action.unsqueeze(2) - self.places).norm(dim=3) / self.width  # (B, n, peaks)
        return (self.heights * torch.exp(-(distance**2) / 2)).amax(dim=2)


def search_error(dimensions: int, rounds: int, samples: int, seed: int, states: int = 100) -> float:
    """The mean of 1 - Q(a*)."""
    generator = torch.Generator().manual_seed(seed)
    q = Peaks(states, dimensions, generator)
    noise = torch.randn(rounds, states, samples, dimensions, generator=generator)
    _, largest = qt_opt.cem(q, torch.zeros(states, 1), noise, max(1, round(samples / 10)))  # Q(a*): (states,)
    return 1 - largest.mean().item()


def search(found: base.Findings) -> None:
    """The search finds the maximum of Q, and the less exactly the more dimensions an action has."""
    errors = {
        (n, *budget): np.array([search_error(n, *budget, seed) for seed in found.seeds])
        for n, budget in product(DIMENSIONS, BUDGETS)
    }
    rows = []
    for (n, rounds, samples), own in errors.items():
        mean, low, high = mean_and_interval(own)
        row = {"dimensions": n, "rounds": rounds, "samples": samples, "error": round(mean, 5)}
        rows.append(row | {"low": round(low, 5), "high": round(high, 5)})
    lines = [[f"{b[0]} x {b[1]}", *(said(100 * errors[n, *b]) for n in DIMENSIONS)] for b in BUDGETS]
    found.table(["error of the maximum in %, by rounds x samples", *(f"n = {n}" for n in DIMENSIONS)], lines)
    found.csv(rows, "qt_opt_search")

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for budget in BUDGETS:
        own = np.stack([100 * errors[n, *budget] for n in DIMENSIONS], axis=1)  # (seeds, dimensions)
        draw_mean(axes, DIMENSIONS, own, label=f"{budget[0]} x {budget[1]}", marker="o")
    axes.set(yscale="log", xlabel="dimensions of the action", ylabel="error of the maximum, %")
    axes.set_xscale("log", base=2)
    axes.set_xticks(DIMENSIONS, DIMENSIONS)
    axes.set_title("CEM: rounds x samples")
    found.figure(figure, "qt_opt_search", "Error of the maximum against the dimensions of an action")

    lines = [[f"n = {n}", *difference(100 * errors[n, 1, 128], 100 * errors[n, 2, 64], 2)] for n in DIMENSIONS]
    found.table(["error of 1 x 128 minus that of 2 x 64", "in %, paired by seed", "1 x 128 is"], lines)
    within = bool(mean_and_interval(errors[1, 2, 64])[2] < 0.01)
    found.say(verdict("2 x 64 finds the maximum of one dimension within 1 %", within, len(found.seeds)))
    growing = all(errors[n, 2, 64].mean() < errors[2 * n, 2, 64].mean() for n in DIMENSIONS[:-1])
    found.say(verdict("the error grows with every doubling of the dimensions", growing, len(found.seeds)))


# Runs


Curves = dict[str, tuple[list[int], np.ndarray, list[dict]]]


def curves(found: base.Findings, settings: dict[str, tuple[str, dict]], seeds=None) -> Curves:
    """For each setting: the steps (K,) and greedy returns (seeds, K) of its evaluations, and all scalars."""
    scalars = {name: base.scalars_of(runs) for name, runs in found.run(settings, seeds).items()}
    return {name: (*base.series(own, "eval/episodic_return"), own) for name, own in scalars.items()}


def draw_curves(axes, learned: Curves, title: str, ylabel: str = "greedy return") -> None:
    for name, (steps, returns, _) in learned.items():
        draw_mean(axes, steps, returns, label=name)
    axes.set(title=title, xlabel="environment steps", ylabel=ylabel)


def final_rows(final: dict[str, np.ndarray], seeds, column: str, digits: int) -> list[dict]:
    """A row for each setting and seed."""
    return [
        {"setting": name, "seed": seed, column: round(value, digits)}
        for name, own in final.items()
        for seed, value in zip(seeds, own, strict=True)
    ]


def pendulum(found: base.Findings) -> None:
    """Pendulum-v1 is learned without a grid of actions and without an actor."""
    learned = curves(found, PENDULUM_SETTINGS)
    clocks = {
        name: np.array([base.training_seconds(one) for one in scalars]) for name, (_, _, scalars) in learned.items()
    }
    limit = clocks["QT-Opt"][:, -1].mean()
    found.say(f"QT-Opt makes {PENDULUM['total_timesteps']:,} steps in {limit:.0f} seconds.")
    rows, lines, readings = [], [], {}
    for name, (steps, returns, _) in learned.items():
        seconds = clocks[name]  # (seeds, K)
        readings[name] = own = {
            "at 6,000 steps": returns[:, steps.index(PENDULUM["total_timesteps"])],
            "at equal seconds": base.at_seconds(returns, seconds, np.inf if name == "QT-Opt" else limit),
            "at the end": returns[:, -1],
        }
        length = [f"{steps[-1]:,}", f"{seconds[:, -1].mean():.0f}"]
        lines.append([name, *length, *(said(values, 1) for values in own.values())])
        for i, seed in enumerate(found.seeds):
            row = {"setting": name, "seed": seed, "seconds": round(seconds[i, -1], 1)}
            rows.append(row | {when.replace(" ", "_"): round(values[i], 1) for when, values in own.items()})
    found.table(["greedy return", "steps", "seconds", *readings["QT-Opt"]], lines)
    found.csv(rows, "qt_opt_pendulum")

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True, layout="constrained")
    draw_curves(left, learned, "Pendulum-v1")
    for name, (_, returns, _) in learned.items():
        draw_mean(right, clocks[name].mean(axis=0), returns, label=name)
    right.axvline(limit, color="grey", linewidth=0.8)
    right.set(xlabel="seconds of training", title="the same over seconds")
    found.figure(figure, "qt_opt_pendulum", "Greedy return on Pendulum over steps and over seconds")

    final = readings["QT-Opt"]["at the end"]
    good = int((final >= -200).sum())
    claim = "a mean of at least -170, and 85 % of the seeds at -200 or more"
    claim += f": {said(final, 1)}, {good} of {len(final)} seeds"
    found.say(verdict(claim, bool(final.mean() >= -170 and good >= 0.85 * len(final)), len(final)))
    pairs = product([name for name in readings if name != "QT-Opt"], ("at 6,000 steps", "at equal seconds"))
    lines = [[f"{name} {when}", *difference(final, readings[name][when])] for name, when in pairs]
    found.table(["QT-Opt minus", "paired by seed", "QT-Opt is"], lines)


def drift(found: base.Findings) -> None:
    """Which hyperparameter makes seeds fail on Pendulum-v1, one at a time."""
    learned = curves(found, DRIFT_SETTINGS)
    final = {name: returns[:, -1] for name, (_, returns, _) in learned.items()}
    lines = []
    for name, own in final.items():
        good = f"{(own >= -200).sum()} of {len(own)} seeds"
        lines.append([name, said(own, 1), good, *difference(final["as it is"], own)])
    lines[0][-2:] = ["", ""]  # the first setting minus itself
    found.table(["setting", "greedy return", "-200 or more", "as it is minus this", "as it is is"], lines)
    found.csv(final_rows(final, found.seeds, "final_return", 1), "qt_opt_drift")
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    draw_curves(axes, learned, "Pendulum-v1: one hyperparameter at a time")
    found.figure(figure, "qt_opt_drift", "Greedy return on Pendulum with one hyperparameter changed at a time")


def tune(found: base.Findings) -> None:
    """Learning rate and γ of the reach."""
    settings = {}
    for (name, (script, env_id)), tried in product(REACHERS.items(), TRIED):
        label = ", ".join(f"{flag} {value:g}" for flag, value in tried.items())
        settings[f"{name}: {label}"] = script, REACH | {"env_id": env_id} | tried
    success = {label: returns[:, -1].mean() for label, (_, returns, _) in curves(found, settings, TUNING_SEEDS).items()}
    found.table(["setting", "success"], [[label, f"{mean:.3f}"] for label, mean in success.items()])
    for name in REACHERS:
        best = max((label for label in success if label.startswith(f"{name}: ")), key=success.get)
        found.say(f"Best of {best}.")


def reach(found: base.Findings) -> None:
    """A sparse reach with two joints is learned, and better than on a grid of turns."""
    settings = {name: (script, REACH | {"env_id": env} | TUNED[name]) for name, (script, env) in REACHERS.items()}
    learned = curves(found, settings)
    success = {name: returns[:, -1] for name, (_, returns, _) in learned.items()}  # a return is 1 or 0
    own = success["QT-Opt"]
    against = {name: difference(own, other, 3) for name, other in success.items() if name != "QT-Opt"}
    lines = [[name, said(other, 3), *against.get(name, ("", ""))] for name, other in success.items()]
    found.table(["setting", "success", "QT-Opt minus this, paired by seed", "QT-Opt is"], lines)
    found.csv(final_rows(success, found.seeds, "success", 3), "qt_opt_reach")
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    draw_curves(axes, learned, "A sparse reach with two joints", "success")
    axes.set_ylim(0, 1)
    found.figure(figure, "qt_opt_reach", "Success in a sparse reach over steps, of QT-Opt and of DQN on two grids")
    holds = bool(own.mean() >= 0.85 and all(side == "above" for _, side in against.values()))
    found.say(verdict("success of at least 0.85, and above both grids", holds, len(own)))


def others(found: base.Findings) -> None:
    """Does the return grow on other tasks?"""
    settings = {
        name: ("qt_opt.py", {"env_id": name, "eval_episodes": 20} | flags) for name, flags in OTHERS_SETTINGS.items()
    }
    for name, package in (("LunarLanderContinuous-v3", "Box2D"), ("InvertedDoublePendulum-v5", "mujoco")):
        if not importlib.util.find_spec(package):
            found.say(f"{name} is left out: {package} is missing (pip install gymnasium[{package.lower()}]).")
            del settings[name]
    learned = curves(found, settings)
    rows, lines = [], []
    figure, panels = plt.subplots(1, len(learned), figsize=(5 * len(learned), 4), layout="constrained", squeeze=False)
    for axes, (name, (steps, returns, _)) in zip(panels[0], learned.items(), strict=True):
        draw_curves(axes, {"QT-Opt": learned[name]}, name)
        first, final = returns[:, 0], returns[:, -1]
        grew = "it grows" if mean_and_interval(final - first)[1] > 0 else "no evidence that it grows"
        gained = f"{said(final - first, 1)} since step {steps[0]:,}: {grew}"
        lines.append([name, f"{steps[-1]:,}", said(final, 1), f"{final.max():.1f}", gained])
        for seed, own in zip(found.seeds, returns, strict=True):
            rows.append({"env_id": name, "seed": seed, "first": round(own[0], 1), "final": round(own[-1], 1)})
    found.table(["environment", "steps", "greedy return", "best seed", "gained"], lines)
    found.csv(rows, "qt_opt_others")
    found.figure(figure, "qt_opt_others", "Greedy return over steps on other tasks")


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    part = {"search": search, "pendulum": pendulum, "drift": drift, "tune": tune, "reach": reach, "others": others}
    found = base.Findings("qt_opt", args, part[args.part].__doc__, args.part)
    part[args.part](found)
    found.write()


if __name__ == "__main__":
    main()
