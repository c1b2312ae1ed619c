"""C51's claim: it learns the distribution of the return, not its mean alone.

    python -m benchmark.claims.c51

FrozenLake-v1 has slippery ice: a step goes in the chosen direction with probability 1/3, and to either side with 1/3
each. The reward is 1 at the goal and 0 elsewhere. So an episode that arrives in step k returns γ^(k - 1), and one that
falls into a hole returns 0. The environment's model gives the exact probability of each k under the learned greedy
policy. We compare it with the network's distribution of the greedy action, p(s, argmax_a Q(s, a)), in each of the 11
states that are neither a hole nor the goal.

The measure is Wasserstein-1, the area between two cumulative distributions, in units of return. For each seed we report
its mean over the states. Two numbers stand beside it:
- the distance of a point mass at the exact mean, which is the best that DQN's Q can do;
- the distance of the exact fixed point of C51's own update, by dynamic programming with `project` of c51.py. The atoms
  lie 0.02 apart, and this is the error that they alone make.

The claim is that the distance of every seed is below 0.05. The flags were chosen on seeds 1001 to 1003.

Bellemare, Dabney and Munos (2017), "A distributional perspective on reinforcement learning", ICML.
"""

from pathlib import Path

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro
from scipy.stats import wasserstein_distance

import c51
from benchmark.claims import base
from benchmark.report.statistics import said, verdict
from tabular_q import Model, read_model, value_iteration

GAMMA = 0.95
FLAGS = {
    "env_id": "FrozenLake-v1",
    "gamma": GAMMA,
    "v_max": 1.0,
    "total_timesteps": 100_000,
    "end_e": 0.5,
    "train_frequency": 20,
    "learning_rate": 2e-3,
    "hidden_sizes": (64,),
    "eval_frequency": 50_000,
    "eval_episodes": 100,
    "final_eval_episodes": 100,
    "save_model": True,
}
GOAL = 0.05  # the distance below which a distribution counts as learned
SHOWN = {0: "the start", 6: "between two holes", 10: "two steps from the goal", 14: "beside the goal"}


def under(model: Model, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Under the policy: the probabilities of the next states (states, states), and of the reward (states,)."""
    states = np.arange(len(policy))
    return model.transition[states, policy], model.reward[states, policy]


def exact_returns(model: Model, policy: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """The returns 0, 1, γ, γ², ..., (K + 1,), and their probabilities under the policy, (states, K + 1).

    A reward of 1 ends the episode. The model gives its probability in step 1. Its probability in step k + 1 from s is
    that in step k from the states after s. Returns below 1e-4 are left out and count as 0.
    """
    going_on, rewarded = under(model, policy)
    steps = int(np.ceil(np.log(1e-4) / np.log(gamma))) + 1
    reached = [rewarded]
    for _ in range(steps - 1):
        reached.append(going_on @ reached[-1])
    p = np.stack(reached, axis=1)  # (states, steps)
    return np.append(0.0, gamma ** np.arange(steps)), np.column_stack([1 - p.sum(axis=1), p])


def fixed_point(model: Model, policy: np.ndarray, gamma: float, atoms: torch.Tensor) -> np.ndarray:
    """The fixed point of C51's update under the policy, with exact expectations, (states, n_atoms)."""
    going_on, rewarded = map(torch.from_numpy, under(model, policy))
    atoms = atoms.double()
    zero, one = torch.zeros_like(atoms), torch.ones_like(atoms)
    zero, one = (c51.project(value[None], one[None] / len(atoms), atoms) for value in (zero, one))  # (1, n_atoms)
    p, change = zero.repeat(len(policy), 1), torch.inf
    while change > 1e-12:
        shifted = c51.project((gamma * atoms).expand_as(p), p, atoms)
        ended = 1 - rewarded - going_on.sum(dim=1)  # with reward 0
        backup = going_on @ shifted + rewarded[:, None] * one + ended[:, None] * zero
        change, p = (backup - p).abs().max(), backup
    return p.numpy()


def learned(run_dir: Path, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """A run's greedy policy at the end, (states,), and the distributions of its actions, (states, n_atoms)."""
    states, actions = model.reward.shape
    network = c51.QNetwork(states, actions, c51.Args(v_max=FLAGS["v_max"], hidden_sizes=FLAGS["hidden_sizes"]))
    network.load_state_dict(torch.load(run_dir / "model.pt", weights_only=True))
    with torch.no_grad():
        p = network(torch.eye(states)).softmax(dim=2)  # (states, actions, n_atoms)
        policy = (p @ network.atoms).argmax(dim=1).numpy()
    return policy, p.numpy()[np.arange(states), policy]


def distances(values: np.ndarray, p: np.ndarray, others: np.ndarray, other_p: np.ndarray) -> np.ndarray:
    """Wasserstein-1 of each state, (states,): between p (states, K) over values (K,) and other_p over others."""
    return np.array([wasserstein_distance(values, others, *rows) for rows in zip(p, other_p, strict=True)])


def draw(seeds: dict[int, dict], shown: int, atoms: np.ndarray) -> plt.Figure:
    """Some states. Above: the probabilities of the atoms, one seed against the fixed point. Below: the cumulative
    probabilities, all seeds against the true distribution.
    """
    figure, panels = plt.subplots(2, len(SHOWN), figsize=(14, 6.5), sharex=True, layout="constrained")
    one, width = seeds[shown], atoms[1] - atoms[0]
    order = np.argsort(one["values"])
    for (above, below), (state, where) in zip(panels.T, SHOWN.items(), strict=True):
        above.bar(atoms, one["p"][state], 0.9 * width, color="C0", label=f"learned, seed {shown}")
        above.plot(atoms, one["fixed_point"][state], "k_", markersize=7, label="exact fixed point of C51's update")
        mean = one["exact"][state] @ one["values"]
        for seed in seeds.values():
            below.step(atoms, seed["p"][state].cumsum(), where="post", color="C0", alpha=0.3, linewidth=0.8)
        below.plot([], [], color="C0", label=f"learned, {len(seeds)} seeds")
        cumulative = one["exact"][state][order].cumsum()
        below.step(one["values"][order], cumulative, where="post", color="black", label="exact")
        for axes in (above, below):
            axes.axvline(mean, color="C1", linestyle="--", label="exact mean, all that Q says")
        above.set(title=f"state {state}: {where}", yscale="log", ylim=(1e-4, 1))
        below.set(xlabel="discounted return", ylim=(0, 1.02))
    panels[0, 0].set_ylabel("probability")
    panels[1, 0].set_ylabel("cumulative probability")
    for axes in panels[:, -1]:
        axes.legend(fontsize=8, loc="best")
    figure.suptitle(f"FrozenLake-v1, γ = {GAMMA}: the return of the greedy policy, as C51 learned it and as it is")
    return figure


def report(found: base.Findings, rows: list[dict]) -> None:
    """The distances, and whether the claim holds."""
    measured = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    of = {
        "distance": "C51",
        "of_point_mass": "a point mass at the exact mean",
        "of_fixed_point": "the exact fixed point",
    }
    found.table(
        ["Wasserstein-1 of", "mean (95 % interval)", "lowest seed", "highest seed"],
        [[text, said(own := measured[name], 4), f"{own.min():.4f}", f"{own.max():.4f}"] for name, text in of.items()],
    )
    found.say(f"Worst single state of all seeds: {measured['worst_state'].max():.4f}.")
    share = measured["of_optimal"].min()
    found.say(f"The greedy policy's value at the start, of the best there is: at least {share:.1%}.")
    below = int((measured["distance"] < GOAL).sum())
    found.say(verdict(f"every seed is below {GOAL} ({below} of {len(rows)} are)", below == len(rows), len(rows)))


def main() -> None:
    args = tyro.cli(base.Args, description=__doc__)
    found = base.Findings("c51", args, __doc__)
    runs = found.run({"C51": ("c51.py", FLAGS)})["C51"]
    with gym.make(FLAGS["env_id"]) as env:
        model, actions = read_model(env), [action for state in env.unwrapped.P.values() for action in state.values()]
    assert all(r == 0 or (r == 1 and end) for outcomes in actions for _, _, r, end in outcomes), "see exact_returns"
    best = value_iteration(model, GAMMA).max(axis=1)
    states = best > 0  # neither a hole nor the goal
    atoms = torch.linspace(0, FLAGS["v_max"], c51.Args.n_atoms)

    rows, kept = [], {}
    for seed, (folder, _) in runs.items():
        policy, p = learned(folder, model)
        values, exact = exact_returns(model, policy, GAMMA)
        mean, limit = exact @ values, fixed_point(model, policy, GAMMA, atoms)
        own = distances(atoms.numpy(), p, values, exact)[states]
        point = np.array([exact[s] @ np.abs(values - mean[s]) for s in np.flatnonzero(states)])
        measured = {"distance": own.mean(), "worst_state": own.max(), "of_point_mass": point.mean()}
        measured["of_fixed_point"] = distances(atoms.numpy(), limit, values, exact)[states].mean()
        measured["of_optimal"] = mean[0] / best[0]
        rows.append({"seed": seed, **{name: round(float(value), 4) for name, value in measured.items()}})
        kept[seed] = {"p": p, "values": values, "exact": exact, "fixed_point": limit}
    report(found, rows)
    found.csv(rows, "c51_frozenlake")
    middle = sorted(rows, key=lambda row: row["distance"])[len(rows) // 2]["seed"]
    shows = "Learned and exact distribution of the return in four states of FrozenLake"
    found.figure(draw(kept, middle, atoms.numpy()), "c51_frozenlake", shows, legend=False)
    found.write()


if __name__ == "__main__":
    main()
