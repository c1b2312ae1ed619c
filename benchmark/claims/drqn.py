"""DRQN's claim: a learned memory reaches further than a stack of observations, and does as well where both reach.

    python -m benchmark.claims.drqn
    python -m benchmark.claims.drqn --tasks cue             # or positions, or flickering: one of the three alone
    python drqn.py --env-id benchmark.claims.drqn:Cue-v0    # a run in one of the environments that are written here

Three tasks, and for each the LSTM of drqn.py, which is given one observation at a time, against dqn.py with a stack of
the last 4 (Gymnasium's FrameStackObservation) and with one observation alone.

**Cue**: which of two signs is shown is seen in the first observation alone, and asked for 8 steps later. The right
answer pays 1, and guessing succeeds in 0.5. From the sign to the answer there are 9 observations: a stack of 4 does not
reach so far, and drqn.py with sequences of 8 never learns to, although it carries its state from one to the other.

**Positions**: CartPole-v1 without its two velocities. Two positions tell a velocity, so a stack is enough here.

**Flickering**: the same, and every observation is blank, all zeros, with probability 0.5. What was learned then also
plays with other probabilities. The paper has two claims about that, and finds both in its games: trained on flickering
observations, DRQN gets better where less is blank; and trained on whole ones it loses less than DQN where they flicker.
For the second one, what was learned in Positions plays with blanks.

Numbers are greedy returns of the final weights (Cue: the share of right answers). All learn from the same number of
environment steps with the defaults of their scripts. All intervals are 95 % bootstrap intervals over seeds, and
differences are paired by seed.

Hausknecht and Stone (2015), "Deep recurrent Q-learning for partially observable MDPs", AAAI Fall Symposium.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import FrameStackObservation, TransformObservation
from tqdm import tqdm

import dqn
import drqn
from benchmark.local import run_seeds
from benchmark.runs import DATA, read_scalars, series
from benchmark.statistics import draw_mean, mean_and_interval, write_table

DELAY = 8
STACK = 4
BLANKS = (0.0, 0.25, 0.5, 0.75, 0.9)
MODULE = "benchmark.claims.drqn"
Task = Literal["cue", "positions", "flickering"]


class Cue(gym.Env):
    """Observation (sign, asked): the sign, -1 or 1, is in the first one, then (0, 0), and after `delay` steps (0, 1).

    The action that is then taken ends the episode and pays 1 if it is 0 after -1, or 1 after 1. No other action counts.
    """

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, delay: int = DELAY):
        self.delay = delay

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.right = 0, int(self.np_random.integers(2))
        return np.float32([2 * self.right - 1, 0]), {}

    def step(self, action):
        self.t += 1
        asked, ends = self.t == self.delay, self.t > self.delay
        return np.float32([0, asked]), float(ends and action == self.right), ends, False, {}


class Flickering(gym.ObservationWrapper):
    """Every observation, the first one too, is all zeros with this probability."""

    def __init__(self, env: gym.Env, blank: float):
        super().__init__(env)
        self.blank = blank

    def observation(self, observation):
        return observation * (self.np_random.random() >= self.blank)


def positions(blank: float, stack: int, render_mode: str | None = None) -> gym.Env:
    """CartPole of which one sees place and angle, no velocity, blank with this probability; stacked, if stack > 1."""
    env = CartPoleEnv(render_mode=render_mode)
    low, high = env.observation_space.low[[0, 2]], env.observation_space.high[[0, 2]]
    env = TransformObservation(env, lambda obs: obs[[0, 2]], gym.spaces.Box(low, high))
    env = Flickering(env, blank)
    return FrameStackObservation(env, stack) if stack > 1 else env


def stacked_cue(stack: int) -> gym.Env:
    return FrameStackObservation(Cue(), stack)


def name_of(blank: float, stack: int = 1) -> str:
    """Flicker50-v0 is `positions` with half of its observations blank; FlickerStack50-v0 shows the last 4 of them."""
    return f"Flicker{'Stack' if stack > 1 else ''}{100 * blank:.0f}-v0"


gym.register("Cue-v0", Cue)
gym.register("CueStack-v0", stacked_cue, kwargs={"stack": STACK})
for blank in BLANKS:
    for stack in (1, STACK):
        options = {"kwargs": {"blank": blank, "stack": stack}, "max_episode_steps": 500}
        gym.register(name_of(blank, stack), positions, **options)

LSTM, FRAMES, ONE, SHORT = "LSTM", f"stack of {STACK}", "one observation", f"LSTM, sequences of {DELAY}"
COLORS = {LSTM: "C0", FRAMES: "C1", ONE: "C2", SHORT: "C3"}
CUE = {"total_timesteps": 10_000, "eval_frequency": 1_000, "eval_episodes": 100}
CARTPOLE = {"total_timesteps": 30_000, "eval_frequency": 2_000, "save_model": True}


def on_cartpole(blank: float) -> dict[str, tuple[str, dict]]:
    one, stacked = (f"{MODULE}:{name_of(blank, stack)}" for stack in (1, STACK))
    return {
        LSTM: ("drqn.py", {"env_id": one, **CARTPOLE}),
        FRAMES: ("dqn.py", {"env_id": stacked, **CARTPOLE}),
        ONE: ("dqn.py", {"env_id": one, **CARTPOLE}),
    }


SETTINGS: dict[Task, dict[str, tuple[str, dict]]] = {
    "cue": {
        LSTM: ("drqn.py", {"env_id": f"{MODULE}:Cue-v0", **CUE}),
        SHORT: ("drqn.py", {"env_id": f"{MODULE}:Cue-v0", "sequence_length": DELAY, **CUE}),
        FRAMES: ("dqn.py", {"env_id": f"{MODULE}:CueStack-v0", **CUE}),
        ONE: ("dqn.py", {"env_id": f"{MODULE}:Cue-v0", **CUE}),
    },
    "positions": on_cartpole(0.0),
    "flickering": on_cartpole(0.5),
}


@dataclass
class Args:
    tasks: tuple[Task, ...] = ("cue", "positions", "flickering")
    """which of the tasks"""
    num_seeds: int = 20
    """seeds of each method, from 1 on, at least 2"""
    workers: int = 2
    """runs at the same time, one core each"""
    runs_dir: Path = Path("runs/claims")
    """where the runs are kept"""
    output: Path = DATA / "drqn"
    """where tables and figure are written"""


def said(values: np.ndarray) -> str:
    mean, low, high = mean_and_interval(values)
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def verdict(claim: str, holds: bool) -> None:
    print(f"  {'reproduces' if holds else 'does NOT reproduce'}: {claim}")


def surely_above(difference: np.ndarray) -> bool:
    """Whether the interval of the mean difference (seeds,) lies above 0."""
    return bool(mean_and_interval(difference)[1] > 0)


def played_with(blank: float, method: str, run_dir: Path, seed: int) -> float:
    """Mean greedy return of a run's final weights where this share of observations is blank."""
    script = drqn if method == LSTM else dqn
    args = script.Args(env_id=name_of(blank, STACK if method == FRAMES else 1), seed=seed)
    with script.closing(script.make_env(args)) as env:
        network = script.QNetwork(env.observation_space.shape[0], int(env.action_space.n), args)
    network.load_state_dict(torch.load(run_dir / "model.pt", weights_only=True))
    return float(np.mean(script.evaluate(args, network.as_numpy_function())[0]))


def report_cue(final: dict[str, np.ndarray]) -> None:
    guessing = {method: abs(mean_and_interval(final[method])[0] - 0.5) < 0.1 for method in (SHORT, FRAMES, ONE)}
    verdict("drqn.py answers rightly, always, with every seed", bool((final[LSTM] == 1).all()))
    verdict(f"with sequences of {DELAY} it only guesses (0.4 to 0.6)", guessing[SHORT])
    verdict(f"a stack of {STACK} only guesses", guessing[FRAMES] and guessing[ONE])


def report_positions(final: dict[str, np.ndarray]) -> None:
    for other in (FRAMES, ONE):
        print(f"  LSTM minus {other}: {said(final[LSTM] - final[other])}")
        verdict(f"the LSTM is above {other}", surely_above(final[LSTM] - final[other]))


def report_generalisation(task: Task, played: dict[str, np.ndarray]) -> None:
    """played: {method: returns (seeds, BLANKS)} of what was learned in this task."""
    for method, returns in played.items():
        listed = "; ".join(f"{blank:g} {said(returns[:, i])}" for i, blank in enumerate(BLANKS))
        print(f"  {method}, by share of blank observations: {listed}")
    none, half = BLANKS.index(0.0), BLANKS.index(0.5)
    gain = {method: returns[:, none] - returns[:, half] for method, returns in played.items()}
    print(f"  from 0.5 blank to none: LSTM {said(gain[LSTM])}, stack {said(gain[FRAMES])}", end="; ")
    print(f"difference {said(gain[LSTM] - gain[FRAMES])}")
    if task == "flickering":
        verdict("trained on blanks, the LSTM is better where nothing is blank", surely_above(gain[LSTM]))
        verdict("and gains more by that than a stack", surely_above(gain[LSTM] - gain[FRAMES]))
    else:
        verdict(
            "trained without blanks, the LSTM loses less by them than a stack", surely_above(-gain[LSTM] + gain[FRAMES])
        )


def draw(curves: dict, played: dict, path: Path) -> None:
    """Learning curves of each task, and how what was learned plays where more or less is blank."""
    titles = {"cue": "Cue: share of right answers", "positions": "Positions: greedy return"}
    titles |= {"flickering": "Flickering: greedy return"}
    learned = {"positions": "learned without blanks", "flickering": "learned with half of them blank"}
    figure, panels = plt.subplots(1, len(curves) + len(played), squeeze=False, layout="constrained")
    figure.set_size_inches(4.5 * panels.size, 4)
    panels = list(panels[0])
    for task, methods in curves.items():
        axes = panels.pop(0)
        for method, (steps, returns) in methods.items():
            draw_mean(axes, steps, returns, label=method, color=COLORS[method])
        axes.set(title=titles[task], xlabel="environment steps", ylim=(0, None))
    for task, methods in played.items():
        axes = panels.pop(0)
        for method, returns in methods.items():
            draw_mean(axes, BLANKS, returns, label=method, color=COLORS[method], marker="o")
        axes.set(title=f"What was {learned[task]}", xlabel="share of observations that are blank", ylim=(0, None))
    for axes in figure.axes:
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    seeds = range(1, args.num_seeds + 1)
    settings = {f"{task}, {method}": SETTINGS[task][method] for task in args.tasks for method in SETTINGS[task]}
    runs = run_seeds(settings, seeds, args.runs_dir, args.workers)

    curves, played, rows = {}, {}, []
    for task in args.tasks:
        methods = SETTINGS[task]
        folders = {method: [runs[f"{task}, {method}"][seed][0] for seed in seeds] for method in methods}
        curves[task] = {
            method: series([read_scalars(folder) for folder in own], "eval/episodic_return")
            for method, own in folders.items()
        }
        final = {method: returns[:, -1] for method, (_, returns) in curves[task].items()}
        print(f"{task}, {args.num_seeds} seeds, {methods[LSTM][1]['total_timesteps']:,} steps:", end=" ")
        print("; ".join(f"{method} {said(returns)}" for method, returns in final.items()))
        seconds = [np.median([runs[f"{task}, {method}"][seed][1]["seconds"] for seed in seeds]) for method in methods]
        print("  seconds a run:", "; ".join(f"{m} {s:.0f}" for m, s in zip(methods, seconds, strict=True)))
        for method in methods:
            blank = {"cue": "", "positions": 0.0, "flickering": 0.5}[task]
            common = {"learned": task, "method": method}
            rows += [
                {**common, "seed": s, "blank": blank, "return": r} for s, r in zip(seeds, final[method], strict=True)
            ]
        if task == "cue":
            report_cue(final)
            continue
        report_positions(final)
        jobs = tqdm([(method, i) for method in methods for i in range(args.num_seeds)], desc=f"{task}: more blanks")
        found = {(m, i): [played_with(blank, m, folders[m][i], seeds[i]) for blank in BLANKS] for m, i in jobs}
        played[task] = {method: np.array([found[method, i] for i in range(args.num_seeds)]) for method in methods}
        report_generalisation(task, played[task])
        for (method, i), returns in found.items():
            common = {"learned": f"{task}, played with blanks", "method": method, "seed": seeds[i]}
            rows += [{**common, "blank": b, "return": r} for b, r in zip(BLANKS, returns, strict=True)]
    write_table(rows, args.output / "drqn_memory.csv")
    draw(curves, played, args.output / "drqn_memory.png")


if __name__ == "__main__":
    main()
