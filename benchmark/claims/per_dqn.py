"""Prioritized replay's claim: a hidden reward is learned from with far fewer updates than by uniform replay.

    python -m benchmark.claims.per_dqn

The task is the Blind Cliffwalk of Schaul et al. (2016), "Prioritized experience replay", section 3.1, figure 2 and
appendix B.1: a chain of n states. In each state the right action leads on, and the other action ends the episode. The
right action alternates from state to state. Only the right action in the last state has a reward, 1. The memory holds
every transition of all 2^n sequences of actions, in random order: 2^(n+1) - 2 transitions, one of them with a reward.
The memory never changes. We count the updates until the mean squared error of Q over all states and actions is below
1e-3.

As in the paper: γ = 1 - 1/n, step size 1/4, initial Q from N(0, 0.1) with 0.1 read as the standard deviation, one
transition an update, and the oracle, which always takes the transition with the smallest error after the update.
Uniform replay uses dqn.py's ReplayBuffer, and proportional priorities use per_dqn.py's with its ε. The paper's other
kind of priorities is rank-based, p_i = 1 / rank of |δ_i|. per_dqn.py does not have it, so its buffer is in this file.
The paper does not give α for this task; we take the values of its Atari runs, 0.6 for proportional and 0.7 for
rank-based priorities. β has no effect: a weight is relative to the largest weight of its batch, and the batch is one
transition. Q is a table. In the paper the greedy priorities use a table, and these two kinds use a linear Q.

A transition keeps the error of its last draw, and the highest priority until its first draw, even if Q has learned the
same from one of its thousands of copies. So both kinds of prioritized replay draw nearly the whole memory once before
they can prefer rare transitions, and need about one update for each transition in memory, or more.

A seed has the same memory and the same initial Q for all methods. A seed that does not finish within --max-updates
counts with --max-updates. All intervals are 95 % intervals over seeds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro
from matplotlib.ticker import NullLocator

import dqn
import per_dqn
from benchmark.claims import base
from benchmark.report import statistics
from benchmark.report.statistics import verdict, with_span

COLORS = {"uniform": "black", "rank": "C3", "proportional": "C0", "oracle": "C9"}  # the paper's
METHODS = tuple(COLORS)
ALPHA = {"rank": 0.7, "proportional": 0.6}
STEP_SIZE = 0.25
GOAL = 1e-3  # mean squared error of Q
CPU = torch.device("cpu")


@dataclass
class Args(base.ArgsWithoutRuns):
    most_states: int = 13  # states of the longest chain, at least 4; the shortest has 2
    max_updates: int = 1_000_000  # most updates of a seed


class RankReplayBuffer(per_dqn.ReplayBuffer):
    """Rank-based priorities: p_i = 1 / rank of |δ_i|, where the largest |δ| has rank 1.

    A rank is the place among the errors of the last sort. A buffer of n transitions is sorted after every n changes, so
    the average cost of a change is logarithmic.
    """

    def __init__(self, capacity: int, obs_dim: int, alpha: float):
        super().__init__(capacity, obs_dim, alpha, eps=0.0)
        self.error = np.zeros(capacity)  # |δ_i|
        self.sorted_error, self.changes = np.zeros(0), 0  # ascending, at the last sort; changes since then

    def add(self, *transition) -> None:
        """Copies one transition. It gets rank 1."""
        self.error[self.position] = np.inf
        self.changes += 1
        super().add(*transition)

    def update_priorities(self, i: np.ndarray, td_error: np.ndarray) -> None:
        """Sets the priorities of the transitions i from their new δ, both (B,)."""
        error = np.abs(td_error).astype(np.float64)
        self.error[i] = error
        self.changes += len(i)
        if self.changes >= self.size:
            self.sort()
        rank = len(self.sorted_error) - np.searchsorted(self.sorted_error, error)  # the number of errors >= this one
        self.tree.set(i, (1 / np.maximum(rank, 1)) ** self.alpha)

    def sort(self) -> None:
        """Gives all transitions their exact ranks: n for the smallest error, 1 for the largest."""
        order = np.argsort(self.error[: self.size], kind="stable")  # the smallest first
        self.tree.set(order, (1 / np.arange(self.size, 0, -1)) ** self.alpha)
        self.sorted_error, self.changes = self.error[order], 0


def cliffwalk(n: int) -> list[list[tuple]]:
    """The episodes of all 2^n sequences of actions, as transitions (state, action, reward, next state, terminated).

    In state s the action s % 2 is right. The next state of the last transition is its own state.
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
    """The true Q, (n, 2): γ to the power of the remaining steps for the right action, 0 for the other one."""
    q = np.zeros((n, 2))
    for state in range(n):
        q[state, state % 2] = gamma ** (n - 1 - state)
    return q


def mean_squared_error(q: np.ndarray, truth: np.ndarray) -> float:
    return np.square(q - truth).mean()


def learn(q: np.ndarray, batch: dqn.Batch | per_dqn.Batch, gamma: float) -> float:
    """One step of Q-learning, in place, from a batch of one transition; returns δ from before the step."""
    state, action, next_state = int(batch.obs), int(batch.action), int(batch.next_obs)
    next_q = torch.from_numpy(q[next_state : next_state + 1])  # (1, 2)
    td_error = dqn.td_target(next_q, batch.reward, batch.terminated, gamma).item() - q[state, action]
    q[state, action] += STEP_SIZE * td_error
    return td_error


def learn_best(q: np.ndarray, truth: np.ndarray, kinds: dqn.Batch, gamma: float) -> None:
    """The oracle's step, in place: it takes the kind of transition that leaves the smallest error."""
    states, actions, next_states = kinds.obs[:, 0].long(), kinds.action, kinds.next_obs[:, 0].long()
    y = dqn.td_target(torch.from_numpy(q)[next_states], kinds.reward, kinds.terminated, gamma).numpy()
    before = q[states, actions]
    after = before + STEP_SIZE * (y - before)
    true = truth[states, actions]
    best = np.argmin((after - true) ** 2 - (before - true) ** 2)  # the change of the error by a step
    q[states[best], actions[best]] = after[best]


def one_by_one(buffer: dqn.ReplayBuffer, rng: np.random.Generator) -> Iterator[dqn.Batch]:
    """Uniform draws in batches of one. They do not depend on Q; drawing a thousand at a time is faster."""
    while True:
        batch = buffer.sample(1000, rng, CPU)
        yield from map(dqn.Batch, *(field.split(1) for field in batch))


def updates_to_learn(method: str, n: int, seed: int, max_updates: int) -> int | None:
    """The number of updates that a method needs to learn Q of n states; None if more than max_updates."""
    rng = np.random.default_rng(seed)
    gamma = 1 - 1 / n
    truth = true_q(n, gamma)
    q = rng.normal(0, 0.1, (n, 2))
    episodes = cliffwalk(n)
    transitions = [transition for k in rng.permutation(len(episodes)) for transition in episodes[k]]
    if method == "oracle":
        transitions = sorted(set(transitions))  # one of each kind is enough
    if method == "rank":
        buffer = RankReplayBuffer(len(transitions), 1, ALPHA[method])
    elif method == "proportional":
        buffer = per_dqn.ReplayBuffer(len(transitions), 1, ALPHA[method], per_dqn.Args.prioritized_replay_eps)
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
    """95 % interval of statistic(i); i (num_seeds,) are the seeds in the sample."""
    low, high = statistics.interval([np.arange(num_seeds)], partial(over_samples, statistic))
    return float(low), float(high)


def over_samples(statistic: Callable[[np.ndarray], float], i: np.ndarray, axis: int) -> np.ndarray:
    return np.apply_along_axis(statistic, axis, i)


def growth(updates: np.ndarray, states: np.ndarray) -> float:
    """The factor by which one more state multiplies the median updates: a line fitted to their logarithms.

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
    """Growth, ratios and the verdicts, from the updates (seeds, sizes) of each method."""
    num_seeds, n = len(updates["uniform"]), states[-1]
    growths, ratios, lines = {}, {}, []
    for method, own in updates.items():
        growths[method] = interval(lambda i, own=own: growth(own[i], states), num_seeds)
        pair = np.stack([updates["uniform"][:, -1], own[:, -1]])  # (2, seeds)
        ratios[method] = interval(lambda i, pair=pair: np.divide(*np.median(pair[:, i], axis=1)), num_seeds)
        uniform, median = np.median(pair, axis=1)
        per_transition = f"{median / (2 ** (n + 1) - 2):.2f}"
        line = [method, with_span(growth(own, states), *growths[method]), f"{median:,.0f}", per_transition]
        lines.append([*line, with_span(uniform / median, *ratios[method], 1)])
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

    # Only sizes at which every seed of every method finished, and of these the longer half. With few states most
    # updates move Q by steps of 1/4, whatever the method.
    compared = np.all([there.all(axis=0) for there in reached.values()], axis=0)
    if not compared.any():
        raise SystemExit("error: at no size did all seeds get there; try a higher --max-updates")
    compared &= states >= states[compared].max() / 2
    report(found, {method: own[:, compared] for method, own in updates.items()}, states[compared])
    found.write()


if __name__ == "__main__":
    main()
