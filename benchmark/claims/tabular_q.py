"""Tabular Q-learning's claims: it finds the optimal policies, Q comes to equal Q*, and a maximum of guesses is
biased.

    python -m benchmark.claims.tabular_q

**Optimal policies.** tabular_q.py with its defaults on FrozenLake (4x4 and 8x8, slippery), CliffWalking and Taxi,
against the exact solution from the environments' models. We compute the expected return of the learned greedy policy
within the time limit, without playing, and max |Q - Q*| over the reachable states.

**Maximisation bias**, Sutton and Barto (2018), "Reinforcement learning", example 6.7 and figure 6.5. In state A the
action right ends the episode with reward 0. The action left leads to state B, where each of 10 actions ends the episode
with a reward from N(-0.1, 1). So left has the value -0.1. But the largest of ten estimates around -0.1 is above 0, and
Q-learning uses it. We count the choices of left in each episode, with ε = 0.1, α = 0.1, γ = 1: an optimal policy with
ε = 0.1 chooses left in 5 % of the episodes. In Double Q-learning one table chooses the best action and the other table
values it.
"""

from dataclasses import dataclass

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import tyro
from tqdm import tqdm

import tabular_q
from benchmark.claims import base
from benchmark.report.statistics import draw_mean, said

ENV_IDS = ("FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "Taxi-v4")
ARROWS = {"FrozenLake-v1": "←↓→↑", "CliffWalking-v1": "↑→↓←"}  # of the actions 0 to 3 in the grids that are drawn
A, B, END = 0, 1, 2
RIGHT, LEFT = 0, 1
ACTIONS = {A: 2, B: 10}
ALPHA, EPSILON = 0.1, 0.1


@dataclass
class Args(base.Args):
    bias_runs: int = 10_000  # runs of the maximisation-bias example
    bias_episodes: int = 300  # episodes of each such run


def choices(double: bool, episodes: int, rng: np.random.Generator) -> np.ndarray:
    """Whether left was chosen in A, in each episode (episodes,), by tabular_q.py's own targets."""
    q_a, q_b = ({state: [0.0] * n for state, n in ACTIONS.items()} | {END: [0.0]} for _ in range(2))
    if not double:
        q_b = q_a  # one table in both roles
    left = np.zeros(episodes, bool)
    for episode in range(episodes):
        state = A
        while state != END:
            values = [a + b for a, b in zip(q_a[state], q_b[state], strict=True)]
            best = [action for action, value in enumerate(values) if value == max(values)]  # ties at random
            action = int(rng.integers(ACTIONS[state])) if rng.random() < EPSILON else best[int(rng.integers(len(best)))]
            next_state = B if (state, action) == (A, LEFT) else END
            reward = rng.normal(-0.1, 1.0) if state == B else 0.0
            q, other_q = (q_b, q_a) if double and rng.random() < 0.5 else (q_a, q_b)
            if double:
                y = tabular_q.double_td_target(q[next_state], other_q[next_state], reward, next_state == END, gamma=1.0)
            else:
                y = tabular_q.td_target(q[next_state], reward, next_state == END, gamma=1.0)
            q[state][action] += ALPHA * (y - q[state][action])
            left[episode] |= (state, action) == (A, LEFT)
            state = next_state
    return left


def maximisation_bias(found: base.Findings, args: Args) -> None:
    """The share of left choices over episodes."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    episodes, lines = np.arange(1, args.bias_episodes + 1), []
    for name, double in (("Q-learning", False), ("double Q-learning", True)):
        rng = np.random.default_rng(0)
        runs = tqdm(range(args.bias_runs), desc=name, disable=None)
        left = np.array([choices(double, args.bias_episodes, rng) for _ in runs])
        share = left.mean(axis=0)
        error = 1.96 * np.sqrt(share * (1 - share) / len(left))  # of a proportion, 95 %
        (line,) = axes.plot(episodes, share, label=name)
        axes.fill_between(episodes, share - error, share + error, color=line.get_color(), alpha=0.25, linewidth=0)
        peak = share.argmax()
        lines.append([name, f"{share[peak]:.1%} in episode {peak + 1}", f"{share[-50:].mean():.1%}"])
    lines.append(["optimal", "", f"{EPSILON / 2:.1%}"])
    found.table([f"left, of {args.bias_runs:,} runs", "at the peak", "over the last 50 episodes"], lines)
    axes.axhline(EPSILON / 2, color="grey", linestyle=":", label="optimal")
    axes.set(title="Maximisation bias", xlabel="episode", ylabel="share of runs that go left", ylim=(0, 1))
    found.figure(figure, "tabular_bias", "Share of runs that go left, by Q-learning and by double Q-learning")


def optimal_policies(found: base.Findings) -> None:
    """The distance of runs with the defaults from the exact solutions."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    rows, lines = [], []
    by_env = found.run({env_id: ("tabular_q.py", {"env_id": env_id}) for env_id in ENV_IDS})
    for env_id, runs in by_env.items():
        scalars = base.scalars_of(runs)
        steps, error = base.series(scalars, "charts/q_error")
        _, exact = base.series(scalars, "eval/exact_return")
        optimal = scalars[0]["eval/optimal_return"][0][1]
        draw_mean(left, steps, error, label=env_id)
        draw_mean(right, steps, exact - optimal, label=env_id)
        for i, seed in enumerate(runs):
            row = {"env_id": env_id, "seed": seed, "exact_return": round(exact[i, -1], 4)}
            rows.append(row | {"optimal": round(optimal, 4), "q_error": round(error[i, -1], 4)})
        final = exact[:, -1]
        lines.append([env_id, said(final, 4), f"{final.min():.4f}", f"{optimal:.4f}", f"{error[:, -1].mean():.4f}"])
    header = ["expected return", "of the lowest seed", "of the optimal policy", "largest distance of Q from Q*"]
    found.table(["environment", *header], lines)
    left.set(title="max |Q - Q*| over reachable states", xlabel="environment steps", yscale="log")
    right.set(title="greedy policy: expected return below the optimal one", xlabel="environment steps")
    right.set(yscale="symlog")
    found.csv(rows, "tabular")
    found.figure(
        figure, "tabular", "Distance of Q from Q*, and of the expected return from the optimal one, over steps"
    )
    for env_id in ARROWS:
        folder, _ = by_env[env_id][found.seeds[0]]
        name = f"tabular_{env_id.split('-')[0].lower()}"
        shows = f"{env_id}: V(s) and greedy actions, learned with seed {found.seeds[0]} and optimal"
        found.figure(grid(env_id, np.load(folder / "q.npy")), name, shows)


def grid(env_id: str, q: np.ndarray):
    """A figure of V(s) and the greedy actions in the grid, of Q (S, A) and of Q*; unreachable states stay empty."""
    env = gym.make(env_id)
    model, (height, width) = tabular_q.read_model(env), getattr(env.unwrapped, "shape", (4, 4))
    reachable = tabular_q.reachable(model)
    tables = {"learned": q, "optimal": tabular_q.value_iteration(model, tabular_q.Args.gamma)}
    values = [np.where(reachable, table.max(axis=1), np.nan).reshape(height, width) for table in tables.values()]
    colours = {"vmin": np.nanmin(values), "vmax": np.nanmax(values)}  # the same scale in both pictures
    figure, plots = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for plot, (title, table), value in zip(plots, tables.items(), values, strict=True):
        image = plot.imshow(value, **colours)
        plot.set(title=f"{env_id}, {title}: V(s) and the greedy action", xticks=[], yticks=[])
        for state in np.flatnonzero(reachable & (np.ptp(table, axis=1) > 0)):  # where the action matters
            y, x = divmod(state, width)
            plot.text(x, y, ARROWS[env_id][table[state].argmax()], color="white", ha="center", va="center")
    figure.colorbar(image, ax=plots)
    return figure


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    found = base.Findings("tabular_q", args, __doc__)
    maximisation_bias(found, args)
    optimal_policies(found)
    found.write()


if __name__ == "__main__":
    main()
