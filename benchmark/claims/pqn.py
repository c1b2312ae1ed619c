"""PQN's claims: without replay and without a target network Q-learning is stable, if layers are normalised.

    python -m benchmark.claims.pqn --part cartpole
    python -m benchmark.claims.pqn --part norm
    python -m benchmark.claims.pqn --part baird
    python -m benchmark.claims.pqn --part minatar     # needs pip install -e ".[minatar]"

**cartpole**: CartPole-v1, pqn.py and dqn.py with their defaults: the greedy return at the end, and its cost in steps,
updates and seconds. Claimed: at least 9 of 10 seeds end at 475 or more.

**norm**: the same with learning rates up to 0.03, with and without layer normalisation. Claimed: with the largest rate
the mean return over the run is higher with layer normalisation, paired by seed.

**baird**: a problem on which Q-learning with a function diverges, from Baird (1995), "Residual algorithms", in the
version of Sutton and Barto (2018), figure 11.1. There are seven states and two actions: action 1 leads to the seventh
state, action 0 to one of the other six. All rewards are 0, so Q* is 0. The actions are drawn at random, action 0 six
times in seven, so all states are seen equally often; no policy that follows Q would do that. pqn.py's network and loss
learn from batches of new steps with its default learning rate: with layer normalisation, without it, and without it but
with dqn.py's target network. Rate and number of updates were chosen on seeds 1001 to 1006. Claimed: in the second half
of the updates the largest |Q| is smaller with layer normalisation than without.

**minatar**: Space Invaders, two hidden layers of 128, beside dqn.py and rainbow.py as in the claim of rainbow.py. PQN
makes more steps in the same time. We read its last evaluation within the seconds that each of the others needs for its
300,000 steps (without evaluations). Nothing is claimed. Learning rate and minibatches were not tuned.

Gallici et al. (2025), "Simplifying deep temporal difference learning", ICLR.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro

import dqn
import pqn
from benchmark.claims import base, rainbow
from benchmark.report.statistics import draw_mean, mean_and_interval, said, verdict

RETURN = "eval/episodic_return"
CARTPOLE = {"env_id": "CartPole-v1"}
RATES = (3e-3, 1e-2, 3e-2)
SOLVED = 475

UPDATES, MEASURED_EVERY, BATCH_SIZE = 20_000, 100, 32  # of the part baird
GAMMA, TAU = pqn.Args().gamma, dqn.Args().tau  # dqn.py also moves its target network once an update
KINDS = NORM, NEITHER, TARGET = "layer normalisation", "neither", "target network"


@dataclass
class Args(base.Args):
    part: Literal["cartpole", "norm", "baird", "minatar"] = "cartpole"  # the part of the claim
    num_seeds: int = 10  # seeds of each setting; use 20 for `norm` and `baird`


def cartpole(args: Args, found: base.Findings) -> None:
    settings = {"PQN": ("pqn.py", CARTPOLE), "DQN": ("dqn.py", CARTPOLE)}
    runs = found.run(settings)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    table, rows, solved = [], [], {}
    for name, (script, _) in settings.items():
        steps, returns = base.series(base.scalars_of(runs[name]), RETURN)
        draw_mean(axes, steps, returns, label=f"{name}, {script}")
        solved[name] = int((returns[:, -1] >= SOLVED).sum())
        results = [result for _, result in runs[name].values()]
        updates, seconds = results[0]["updates"], np.median([result["seconds"] for result in results])
        reached = f"{solved[name]} of {args.num_seeds}"
        table.append([script, said(returns[:, -1], 1), reached, f"{steps[-1]:,}", f"{updates:,}", f"{seconds:.0f}"])
        for seed, final, result in zip(args.seeds, returns[:, -1], results, strict=True):
            row = {"script": script, "seed": seed, "final_return": round(final, 2)}
            rows.append(row | {"seconds": round(result["seconds"], 1)})
    axes.set(title="CartPole-v1: greedy return", xlabel="environment steps", ylim=(0, 510))
    found.table(["", "greedy return", f"seeds at {SOLVED}", "environment steps", "updates", "seconds"], table)
    found.say(
        verdict(
            f"at least 9 of 10 seeds end at {SOLVED} or more", solved["PQN"] >= 0.9 * args.num_seeds, args.num_seeds
        )
    )
    found.csv(rows, "pqn_cartpole")
    found.figure(figure, "pqn_cartpole", "Greedy return on CartPole over environment steps, PQN and DQN")


def norm(args: Args, found: base.Findings) -> None:
    names = {(rate, on): f"{rate:g}, {'with' if on else 'without'}" for rate in RATES for on in (True, False)}
    settings = {
        name: ("pqn.py", CARTPOLE | {"learning_rate": rate, "layer_norm": on}) for (rate, on), name in names.items()
    }
    runs = found.run(settings)
    figure, panels = plt.subplots(1, len(RATES), figsize=(12, 4), sharey=True, layout="constrained")
    table, rows, means = [], [], {}
    for (rate, on), name in names.items():
        steps, returns = base.series(base.scalars_of(runs[name]), RETURN)
        means[rate, on] = returns.mean(axis=1)  # over the evaluations, (seeds,)
        axes = panels[RATES.index(rate)]
        draw_mean(axes, steps, returns, label="with layer normalisation" if on else "without")
        axes.set(title=f"learning rate {rate:g}", xlabel="environment steps", ylim=(0, 510))
        good = int((returns[:, -1] >= SOLVED).sum())
        table.append([name, said(means[rate, on], 1), said(returns[:, -1], 1), f"{good} of {args.num_seeds}"])
        for seed, mean, final in zip(args.seeds, means[rate, on], returns[:, -1], strict=True):
            row = {"learning_rate": rate, "layer_norm": on, "seed": seed}
            rows.append(row | {"mean_return": round(mean, 2), "final_return": round(final, 2)})
    panels[0].set_ylabel("greedy return")
    header = ["learning rate, layer normalisation", "return over the run", "return in the end", f"seeds at {SOLVED}"]
    found.table(header, table)
    for rate in RATES:
        gain = means[rate, True] - means[rate, False]
        found.say(f"Learning rate {rate:g}: with minus without, paired by seed: {said(gain, 1)}.")
    holds = bool(mean_and_interval(means[RATES[-1], True] - means[RATES[-1], False])[1] > 0)
    found.say(verdict(f"with a rate of {RATES[-1]:g} it is better with layer normalisation", holds, args.num_seeds))
    found.csv(rows, "pqn_norm")
    found.figure(figure, "pqn_norm", "Greedy return on CartPole with and without layer normalisation")


def features() -> torch.Tensor:
    """The observations of the seven states, (7, 8): 2 e_i + e_8 for the first six, and e_7 + 2 e_8."""
    states = torch.cat([2 * torch.eye(7), torch.ones(7, 1)], dim=1)
    states[6, 6:] = torch.tensor([1, 2])
    return states


def transitions(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State, action, next state of `size` steps. Action 1, one time in seven, leads to state 6, action 0 to another."""
    state, action = rng.integers(7, size=size), (rng.random(size) < 1 / 7).astype(int)
    return state, action, np.where(action == 1, 6, rng.integers(6, size=size))


def largest_q(seed: int, kind: str) -> np.ndarray:
    """The largest |Q| after every MEASURED_EVERY updates of learning with one of the three KINDS."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    args = pqn.Args(layer_norm=kind == NORM)
    states = features()
    q_network = pqn.QNetwork(states.shape[1], 2, args)
    target_network = deepcopy(q_network) if kind == TARGET else q_network
    optimizer = torch.optim.RAdam(q_network.parameters(), lr=args.learning_rate)
    found = []
    for update in range(1, UPDATES + 1):
        state, action, next_state = transitions(rng, BATCH_SIZE)
        with torch.no_grad():
            target = GAMMA * target_network(states[next_state]).amax(dim=1)  # all rewards are 0
        loss, _ = pqn.compute_loss(q_network, pqn.Batch(states[state], torch.from_numpy(action), target), args)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if kind == TARGET:
            dqn.update_target(target_network, q_network, TAU)
        if update % MEASURED_EVERY == 0:
            with torch.no_grad():
                found.append(q_network(states).abs().max().item())
    return np.array(found)


def baird(args: Args, found: base.Findings) -> None:
    jobs = [(seed, kind) for kind in KINDS for seed in args.seeds]
    curves = base.in_parallel(largest_q, jobs, args.workers)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    updates = np.arange(MEASURED_EVERY, UPDATES + 1, MEASURED_EVERY)
    table, rows, errors = [], [], {}
    for kind in KINDS:
        own = np.array([curves[seed, kind] for seed in args.seeds])
        errors[kind] = own[:, len(updates) // 2 :].max(axis=1)  # (seeds,)
        axes.plot(updates, np.median(own, axis=0), label=kind)
        table.append([kind, said(errors[kind]), f"{np.median(errors[kind]):.2f}", f"{errors[kind].max():.2f}"])
        rows += [{"with": kind, "seed": seed, "largest_q": q} for seed, q in zip(args.seeds, errors[kind], strict=True)]
    axes.set(title="Baird's seven states: largest |Q|, median of the seeds", xlabel="updates", yscale="log")
    found.table(["largest error of Q in the second half", "mean", "median of the seeds", "worst seed"], table)
    gain = errors[NEITHER] - errors[NORM]
    found.say(f"With neither minus with layer normalisation, paired by seed: {said(gain)}.")
    holds = bool(mean_and_interval(gain)[1] > 0)
    found.say(verdict("with layer normalisation Q stays nearer to Q*, which is 0", holds, args.num_seeds))
    found.csv(rows, "pqn_baird")
    shows = "Largest absolute Q over updates, with layer normalisation, with a target network and with neither"
    found.figure(figure, "pqn_baird", shows)


def minatar(args: Args, found: base.Findings) -> None:
    others = {
        name: (script, rainbow.FLAGS | own | {"learning_rate": rainbow.CHOSEN[name]})
        for name, (script, own) in rainbow.SCRIPTS.items()
    }
    game = {name: rainbow.FLAGS[name] for name in ("env_id", "hidden_sizes")}
    ours = game | {"total_timesteps": 3_000_000, "eval_frequency": 100_000, "learning_rate": 1e-3}
    settings = {"PQN": ("pqn.py", ours), **others}
    runs = found.run(settings)
    curves, clocks = {}, {}
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name in settings:
        scalars = base.scalars_of(runs[name])
        curves[name] = base.series(scalars, RETURN)[1]
        clocks[name] = np.array([base.training_seconds(one) for one in scalars])  # (seeds, evaluations)
        draw_mean(axes, clocks[name].mean(axis=0), curves[name], label=name)
    axes.set(title="MinAtar Space Invaders: greedy return", xlabel="seconds of training")
    table, rows = [], []
    for name in others:
        limit = clocks[name][:, -1].mean()
        at_once = base.at_seconds(curves["PQN"], clocks["PQN"], limit)
        difference = said(at_once - curves[name][:, -1], 1)
        table.append([name, f"{limit:.0f}", said(curves[name][:, -1], 1), said(at_once, 1), difference])
        for seed, theirs, mine in zip(args.seeds, curves[name][:, -1], at_once, strict=True):
            rows.append({"against": name, "seed": seed, "theirs": round(theirs, 2), "pqn": round(mine, 2)})
    found.table(["", "seconds", "its greedy return", "PQN's in that time", "PQN minus it, by seed"], table)
    found.csv(rows, "pqn_minatar")
    found.figure(figure, "pqn_minatar", "Greedy return on Space Invaders over seconds of training")


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    found = base.Findings("pqn", args, __doc__, args.part)
    {"cartpole": cartpole, "norm": norm, "baird": baird, "minatar": minatar}[args.part](args, found)
    found.write()


if __name__ == "__main__":
    main()
