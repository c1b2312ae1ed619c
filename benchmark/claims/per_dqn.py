"""Prioritized replay's claim: a hidden reward is learned from with far fewer updates than by uniform replay.

    python -m benchmark.claims.per_dqn

The Blind Cliffwalk of Schaul et al. (2016), "Prioritized experience replay", section 3.1, figure 2 and appendix B.1: a
chain of n states, in each of which one action, the right one, leads on, and the other one ends the episode. Only the
right action in the last state is rewarded, by 1. Which action is right alternates, so that nothing can be guessed from
other states. The memory holds every transition of all 2^n sequences of actions, in random order: 2^(n+1) - 2
transitions, of which a single one is rewarded. Nothing is added to it. Counted are the updates until the mean squared
error of Q over all states and actions is below 1e-3.

As in the paper: γ = 1 - 1/n, step size 1/4, initial Q from N(0, 0.1), of which 0.1 is taken as the standard deviation,
one transition an update, and the oracle, which always takes the transition that then leaves the smallest error. As in
per_dqn.py: memory, draws and priorities, by its own ReplayBuffer (dqn.py's for uniform replay), and its ε. The paper
names no α here; taken is that of its Atari runs, 0.6 for proportional and 0.7 for rank-based priorities. β plays no
part: a weight is relative to the largest of its batch, and in a batch of one that is itself. Q is a table; the paper
has one for its greedy priorities, and shows these two kinds with a linear Q.

A transition keeps the error with which it was last drawn, and the highest priority until it first is, even when Q has
long been learned from one of its thousands of copies. So both kinds of prioritized replay go once through nearly the
whole memory before they can attend to what is rare, and need about one update for each transition in it, or more.

The same seed has the same memory and the same initial Q for all methods. A seed that does not get there in
--max-updates counts as having taken that many. All intervals are 95 % bootstrap intervals over seeds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
import torch
import tyro
from matplotlib.ticker import NullLocator

import dqn
import per_dqn
from benchmark.claims import base
from benchmark.report.statistics import verdict

COLORS = {"uniform": "black", "rank": "C3", "proportional": "C0", "oracle": "C9"}  # the paper's
METHODS = tuple(COLORS)
ALPHA = {"rank": 0.7, "proportional": 0.6}
STEP_SIZE = 0.25
GOAL = 1e-3  # mean squared error of Q
CPU = torch.device("cpu")


@dataclass
class Args(base.ArgsWithoutRuns):
    most_states: int = 13  # states of the longest chain, at least 4; the shortest has 2
    max_updates: int = 1_000_000  # updates after which a seed gives up


def cliffwalk(n: int) -> list[list[tuple]]:
    """The episodes of all 2^n sequences of actions, as transitions (state, action, reward, next state, terminated).

    In state s the action s % 2 is right. After the end there is no state, so the last one is given again.
    """
    episodes = []
    for sequence in range(2**n):
        episode = []
        for state in range(n):
            action = sequence >> state & 1  # one bit of the sequence for each state
            right, last = action == state % 2, state == n - 1
            terminated = last or not right
            episode.append((state, action, float(right and last), state if terminated else state + 1, terminated))
            if terminated:
                break
        episodes.append(episode)
    return episodes


def true_q(n: int, gamma: float) -> np.ndarray:
    """The Q to be learned, (n, 2): γ to the number of steps that remain after it for the right action, else 0."""
    q = np.zeros((n, 2))
    for state in range(n):
        q[state, state % 2] = gamma ** (n - 1 - state)
    return q


def mean_squared_error(q: np.ndarray, truth: np.ndarray) -> float:
    return np.square(q - truth).mean()


def learn(q: np.ndarray, batch: dqn.Batch | per_dqn.Batch, gamma: float) -> float:
    """One step of Q-learning, in place, from a batch of one transition; returns its δ as it was before."""
    state, action, next_state = int(batch.obs), int(batch.action), int(batch.next_obs)
    next_q = torch.from_numpy(q[next_state : next_state + 1])  # (1, 2)
    td_error = dqn.td_target(next_q, batch.reward, batch.terminated, gamma).item() - q[state, action]
    q[state, action] += STEP_SIZE * td_error
    return td_error


def learn_best(q: np.ndarray, truth: np.ndarray, kinds: dqn.Batch, gamma: float) -> None:
    """The oracle's step, in place: that one of all kinds of transitions which leaves the smallest error."""
    states, actions, next_states = kinds.obs[:, 0].long(), kinds.action, kinds.next_obs[:, 0].long()
    y = dqn.td_target(torch.from_numpy(q)[next_states], kinds.reward, kinds.terminated, gamma).numpy()
    before = q[states, actions]
    after = before + STEP_SIZE * (y - before)
    true = truth[states, actions]
    best = np.argmin((after - true) ** 2 - (before - true) ** 2)  # all that a step changes of the error
    q[states[best], actions[best]] = after[best]


def one_by_one(buffer: dqn.ReplayBuffer, rng: np.random.Generator) -> Iterator[dqn.Batch]:
    """Uniform draws in batches of one. They do not depend on Q, so a thousand are drawn at a time, which is faster."""
    while True:
        batch = buffer.sample(1000, rng, CPU)
        yield from map(dqn.Batch, *(field.split(1) for field in batch))


def updates_to_learn(method: str, n: int, seed: int, max_updates: int) -> int | None:
    """How many updates a method needs to learn the Q of n states; None if more than max_updates."""
    rng = np.random.default_rng(seed)
    gamma = 1 - 1 / n
    truth = true_q(n, gamma)
    q = rng.normal(0, 0.1, (n, 2))
    episodes = cliffwalk(n)
    transitions = [transition for k in rng.permutation(len(episodes)) for transition in episodes[k]]
    if method == "oracle":
        transitions = sorted(set(transitions))  # of the many that are alike, one is as good as another
    if method in ALPHA:
        eps = per_dqn.Args.prioritized_replay_eps
        buffer = per_dqn.ReplayBuffer(len(transitions), 1, method, ALPHA[method], eps)
    else:
        buffer = dqn.ReplayBuffer(len(transitions), 1)
    for transition in transitions:
        buffer.add(*transition)
    fields = (buffer.obs, buffer.action, buffer.reward, buffer.next_obs, buffer.terminated)
    everything = dqn.Batch(*map(torch.from_numpy, fields))
    draws = one_by_one(buffer, rng)

    for update in range(1, max_updates + 1):
        if method == "oracle":
            learn_best(q, truth, everything, gamma)
        elif method == "uniform":
            learn(q, next(draws), gamma)
        else:
            batch, i = buffer.sample(1, 0.0, rng, CPU)
            buffer.update_priorities(i, np.array([learn(q, batch, gamma)]))
        if mean_squared_error(q, truth) < GOAL:
            return update
    return None


def interval(statistic: Callable[[np.ndarray], float], num_seeds: int) -> tuple[float, float]:
    """95 % percentile-bootstrap interval of statistic(i), where i (num_seeds,) says which seeds are in the sample."""
    options = {"vectorized": False, "n_resamples": 2000, "method": "percentile", "rng": np.random.default_rng(0)}
    low, high = scipy.stats.bootstrap((np.arange(num_seeds),), statistic, **options).confidence_interval
    return float(low), float(high)


def growth(updates: np.ndarray, states: np.ndarray) -> float:
    """The factor by which each further state multiplies the median updates: a line fitted to their logarithms.

    updates is (seeds, sizes), states (sizes,).
    """
    return float(np.exp(np.polyfit(states, np.log(np.median(updates, axis=0)), 1)[0]))


def draw(rows: list[dict]) -> plt.Figure:
    """Median updates and their interval over the transitions in memory, both on logarithmic scales."""
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for method, color in COLORS.items():
        own = {name: [row[name] for row in rows if row["method"] == method] for name in rows[0]}
        axes.plot(own["transitions"], own["median"], color=color, marker=".", label=method)
        axes.fill_between(own["transitions"], own["low"], own["high"], color=color, alpha=0.25, linewidth=0)
    axes.plot(own["transitions"], own["transitions"], color="gray", linestyle=":", label="one for each transition")
    axes.set(xscale="log", yscale="log", xlabel="transitions in memory, of which one is rewarded")
    axes.set(ylabel="updates until Q is learned", title="Blind Cliffwalk: median of the seeds, 95 % interval")
    above = axes.secondary_xaxis("top")
    above.set_xticks(own["transitions"], own["states"])
    above.xaxis.set_minor_locator(NullLocator())
    above.set_xlabel("states")
    return figure


def report(found: base.Findings, updates: dict[str, np.ndarray], states: np.ndarray) -> None:
    """Growth, ratios and what of the claim holds, from the updates (seeds, sizes) of each method."""
    num_seeds, n = len(updates["uniform"]), states[-1]
    growths, ratios, lines = {}, {}, []
    for method, own in updates.items():
        growths[method] = interval(lambda i, own=own: growth(own[i], states), num_seeds)
        pair = np.stack([updates["uniform"][:, -1], own[:, -1]])  # (2, seeds)
        ratios[method] = interval(lambda i, pair=pair: np.divide(*np.median(pair[:, i], axis=1)), num_seeds)
        grows, saves = "{:.2f} to {:.2f}".format(*growths[method]), "{:.1f} to {:.1f}".format(*ratios[method])
        uniform, median = np.median(pair, axis=1)
        per_transition = f"{median / (2 ** (n + 1) - 2):.2f}"
        line = [method, f"{growth(own, states):.2f} ({grows})", f"{median:,.0f}", per_transition]
        lines.append([*line, f"{uniform / median:.1f} ({saves})"])
    growing = f"factor of updates for each state from {states[0]} to {n}"
    header = [
        growing,
        f"updates at {n} states",
        "for each transition in memory",
        "uniform replay's updates over its own",
    ]
    found.table(["method (95 % intervals)", *header], lines)

    def claim(text: str, holds: bool) -> None:
        found.say(verdict(text, holds, num_seeds))

    slowest = growths["uniform"][0]  # the lower end of its interval
    for method in METHODS[1:]:
        claim(f"{method} needs fewer updates than uniform replay", ratios[method][0] > 1)
        claim(f"{method} saves two orders of magnitude", ratios[method][0] >= 100)
        claim(f"updates of {method} grow by a smaller factor, in this range", growths[method][1] < slowest)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    found = base.Findings("per_dqn", args, __doc__)
    states = np.arange(2, args.most_states + 1)
    trials = [
        (method, int(n), seed) for n in states[::-1] for method in METHODS for seed in args.seeds
    ]  # longest first
    needed = base.in_parallel(partial(updates_to_learn, max_updates=args.max_updates), trials, args.workers)

    updates, reached, rows = {}, {}, []
    for method in METHODS:
        counts = [[needed[method, int(n), seed] for n in states] for seed in args.seeds]  # (seeds, sizes)
        updates[method] = np.array([[count or args.max_updates for count in row] for row in counts])
        reached[method] = np.array([[count is not None for count in row] for row in counts])
        for n, own, there in zip(states, updates[method].T, reached[method].T, strict=True):
            low, high = interval(lambda i, own=own: np.median(own[i]), args.num_seeds)
            row = {"method": method, "states": n, "transitions": 2 ** (n + 1) - 2, "median": np.median(own)}
            row |= {"low": round(low, 1), "high": round(high, 1)}
            rows.append(row | {"seeds": args.num_seeds, "reached": there.sum()})
    found.csv(rows, "per_cliffwalk")
    found.figure(draw(rows), "per_cliffwalk", "Updates until Q is learned against the size of the memory")

    # Only sizes at which every seed of every method got there, and of these the longer half: where states are few, most
    # updates go into moving Q by steps of 1/4, whatever the method.
    compared = np.all([there.all(axis=0) for there in reached.values()], axis=0)
    if not compared.any():
        raise SystemExit("error: at no size did all seeds get there; try a higher --max-updates")
    compared &= states >= states[compared].max() / 2
    report(found, {method: own[:, compared] for method, own in updates.items()}, states[compared])
    found.write()


if __name__ == "__main__":
    main()
