"""Dueling DQN's claim: the more actions there are that do nothing, the further it leads one stream in learning Q^π.

    python -m benchmark.claims.dueling_dqn
    python -m benchmark.claims.dueling_dqn --tune     # which learning rate suits which network, on other seeds

This is section 4.1 of Wang et al. (2016), "Dueling network architectures for deep reinforcement learning", in a small
version. A corridor leads 10 states up, 50 to the right and 10 up again. Five actions are up, down, left, right and
nothing; with 10 and 20 actions the others do nothing too. A policy π is given, and a network learns its values, with
the target

    y = r + γ Σ_a' π(a' | s') Q(s', a')

from the same network. The result is the squared error against exact Q^π, summed over all states and actions. One
network is dqn.py's, the other one dueling_dqn.py's, both with hidden layers of 50 and 50 units; the dueling network
divides the second layer between its streams, 25 units each. All of this is as in the paper, also the 70 states and the
policy π, which is ε-greedy with regard to Q*.

The paper leaves these open, and we chose:
- the reward is 1 on arrival at the upper right end, which ends the episode, and 0 elsewhere; γ = 0.99. So Q^π is 0.47
  at the start and 1 at the end, and an action that does nothing costs 1 % of it;
- each section has its own states (10 + 50 + 10 = 70), and the start is the lower left end, so π visits every state;
- the observation is the state as a one-hot vector;
- Adam with a constant learning rate; 10,000 updates of 32 transitions. Of four learning rates we use the one with the
  lowest mean log error over the run on seeds 1001 to 1004. `--tune` finds it for each network and number of actions; it
  is 3e-4 for all six.

Differences from the paper:
- ε is 0.1 instead of 0.001, so that all actions are seen. There are 69 · 20 = 1380 pairs of state and action. 100,000
  steps with ε = 0.1 contain 10,000 random actions, 7 for each pair, and miss about 1380 · exp(-7) = 1 pair. With
  ε = 0.001 they contain 100 random actions, and most of the error would be at pairs that were never observed;
- the steps go into a replay buffer before the first update. The paper does not mention a replay buffer.

Both networks get the same seed, so the same steps and the same batches.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro

import dqn
import dueling_dqn
from benchmark.claims import base
from benchmark.envs import Corridor
from benchmark.report.statistics import draw_mean, mean_and_interval, verdict, with_span

NETWORKS = {"single": dqn.QNetwork, "dueling": dueling_dqn.QNetwork}
NUM_ACTIONS = (5, 10, 20)
LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
TUNING_SEEDS = (1001, 1002, 1003, 1004)


@dataclass
class Args(base.ArgsWithoutRuns):
    tune: bool = False  # only compare the learning rates, on other seeds
    gamma: float = 0.99  # discount factor γ
    epsilon: float = 0.1  # ε, the probability with which π acts at random
    walk_steps: int = 100_000  # environment steps of π in the replay buffer
    updates: int = 10_000  # updates
    learning_rate: float = 3e-4  # step size of Adam, the best for both networks and all numbers of actions
    batch_size: int = 32  # transitions in an update
    eval_frequency: int = 200  # updates between measurements of the error


def optimal_q(model: Corridor, gamma: float) -> np.ndarray:
    """Q*, (states, actions), by value iteration."""
    q = np.zeros(model.reward.shape)
    while True:
        backup = model.reward + gamma * np.where(model.terminated, 0.0, q.max(axis=1)[model.next_state])
        if np.abs(backup - q).max() < 1e-12:
            return backup
        q = backup


def epsilon_greedy(q: np.ndarray, epsilon: float) -> np.ndarray:
    """π(a | s), (states, actions): any action with probability ε, else the best one."""
    num_actions = q.shape[1]
    return epsilon / num_actions + (1 - epsilon) * np.eye(num_actions)[q.argmax(axis=1)]


def exact_q(model: Corridor, policy: np.ndarray, gamma: float) -> np.ndarray:
    """Q^π, (states, actions), from the solution of V = R + γ P V."""
    num_states = len(policy)
    transition = np.zeros((num_states, num_states))
    np.add.at(transition, (np.arange(num_states)[:, None], model.next_state), policy * ~model.terminated)
    v = np.linalg.solve(np.eye(num_states) - gamma * transition, (policy * model.reward).sum(axis=1))
    q = model.reward + gamma * np.where(model.terminated, 0.0, v[model.next_state])

    expected_next_q = (policy * q).sum(axis=1)[model.next_state]
    residual = q - (model.reward + gamma * np.where(model.terminated, 0.0, expected_next_q))
    assert np.abs(residual).max() < 1e-9, "Bellman's equation holds"
    return q


def walk(model: Corridor, policy: np.ndarray, steps: int, rng: np.random.Generator) -> dqn.ReplayBuffer:
    """A replay buffer with `steps` steps of the policy; after the goal it begins at the start again."""
    obs = np.eye(len(policy), dtype=np.float32)
    buffer = dqn.ReplayBuffer(steps, len(policy))
    cumulative = policy.cumsum(axis=1)
    cumulative[:, -1] = 1.0  # rounding leaves 1 - 1e-16
    state = 0
    for uniform in rng.random(steps):
        action = cumulative[state].searchsorted(uniform, side="right")
        next_state, terminated = model.next_state[state, action], model.terminated[state, action]
        buffer.add(obs[state], action, model.reward[state, action], obs[next_state], terminated)
        state = 0 if terminated else next_state
    return buffer


def learn(network: str, num_actions: int, learning_rate: float, seed: int, args: Args) -> np.ndarray:
    """The summed squared error against exact Q^π after every eval_frequency updates."""
    torch.set_flush_denormal(True)  # as in dqn.train
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)

    model = Corridor(num_actions)
    policy = epsilon_greedy(optimal_q(model, args.gamma), args.epsilon)
    exact = torch.from_numpy(exact_q(model, policy, args.gamma))
    buffer = walk(model, policy, args.walk_steps, rng)
    all_obs, policy = torch.eye(len(policy)), torch.from_numpy(policy).float()

    q_network = NETWORKS[network](len(policy), num_actions, dqn.Args(hidden_sizes=(50, 50)))
    optimizer = torch.optim.Adam(q_network.parameters(), lr=learning_rate, fused=True)
    errors = []
    for update in range(1, args.updates + 1):
        batch = buffer.sample(args.batch_size, rng, torch.device("cpu"))
        with torch.no_grad():
            next_policy = batch.next_obs @ policy  # (B, num_actions): a one-hot observation picks its state's row
            expected_next_q = (next_policy * q_network(batch.next_obs)).sum(dim=1, keepdim=True)  # (B, 1)
            y = dqn.td_target(expected_next_q, batch.reward, batch.terminated, args.gamma)  # max of one column
        q_taken = q_network(batch.obs).gather(1, batch.action.unsqueeze(1)).squeeze(1)  # (B,)
        loss = (y - q_taken).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % args.eval_frequency == 0:
            with torch.no_grad():
                error = q_network(all_obs) - exact
            errors.append(error[:-1].square().sum().item())  # without the goal, where the episode has ended
    return np.array(errors)


def tune(args: Args) -> None:
    """The mean log10 error over the run at each learning rate."""
    found = base.Findings("dueling_dqn", args, __doc__, "tune", TUNING_SEEDS)
    cases = list(product(NETWORKS, NUM_ACTIONS))
    jobs = list(product(NETWORKS, NUM_ACTIONS, LEARNING_RATES, TUNING_SEEDS))
    errors = base.in_parallel(partial(learn, args=args), jobs, args.workers)
    lines = []
    for case in cases:
        means = {
            rate: np.mean([np.log10(errors[*case, rate, seed]) for seed in TUNING_SEEDS]) for rate in LEARNING_RATES
        }
        best = min(means, key=means.get)
        lines.append([f"{case[0]}, {case[1]} actions", *(f"{mean:.3f}" for mean in means.values()), f"{best:g}"])
    found.table(["mean log10 error at", *(f"{rate:g}" for rate in LEARNING_RATES), "best"], lines)
    found.write()


def draw(log_errors: dict[tuple[str, int], np.ndarray], args: Args) -> plt.Figure:
    """log10 of the error over updates, one panel for each number of actions."""
    figure, panels = plt.subplots(1, len(NUM_ACTIONS), figsize=(11, 4), sharey=True, layout="constrained")
    updates = np.arange(args.eval_frequency, args.updates + 1, args.eval_frequency)
    for axes, n in zip(panels, NUM_ACTIONS, strict=True):
        for network in NETWORKS:
            draw_mean(axes, updates, log_errors[network, n], label=network)
        axes.set(title=f"{n} actions", xlabel="updates")
    panels[0].set_ylabel("log10 of the summed squared error")
    figure.suptitle(f"Q of a given policy in the corridor: mean of {args.num_seeds} seeds, 95 % interval")
    return figure


def times(log_ratios: np.ndarray) -> tuple[str, str]:
    """The mean ratio of the errors with its interval, and on which side of 1 it is; from log10 ratios (seeds,)."""
    mean, low, high = 10 ** np.array(mean_and_interval(log_ratios))
    side = "below" if high < 1 else "above" if low > 1 else "neither"
    return with_span(mean, low, high), side


def report(found: base.Findings, log_errors: dict[tuple[str, int], np.ndarray]) -> None:
    """The ratios of the errors, and whether the claim holds."""
    ratios = {n: log_errors["dueling", n] - log_errors["single", n] for n in NUM_ACTIONS}  # log10, seed by seed
    words = {"below": "dueling is ahead", "above": "dueling is behind", "neither": "no difference can be seen"}
    lines = []
    for n, ratio in ratios.items():
        over_the_run, side = times(ratio.mean(axis=1))
        lines.append([f"{n} actions", over_the_run, times(ratio[:, -1])[0], words[side]])
    found.table(["error of dueling / single", "over the run", "at the end", "verdict over the run"], lines)
    few, many = NUM_ACTIONS[0], NUM_ACTIONS[-1]
    further = ratios[many] - ratios[few]
    larger, side = times(further.mean(axis=1))
    claim = f"with {many} actions dueling is further ahead than with {few}: the ratio is {larger} times as large"
    found.say(verdict(claim, side == "below", len(further)))


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    if args.tune:
        return tune(args)
    found = base.Findings("dueling_dqn", args, __doc__)
    jobs = list(product(NETWORKS, NUM_ACTIONS, [args.learning_rate], args.seeds))
    errors = base.in_parallel(partial(learn, args=args), jobs, args.workers)
    cases = [(network, n) for n in NUM_ACTIONS for network in NETWORKS]
    log_errors = {case: np.log10([errors[*case, args.learning_rate, seed] for seed in args.seeds]) for case in cases}
    rows = [
        {
            "num_actions": n,
            "architecture": network,
            "seed": seed,
            "final_error": round(10 ** log_error[-1], 5),
            "mean_log10_error": round(log_error.mean(), 3),
        }
        for network, n in cases
        for seed, log_error in zip(args.seeds, log_errors[network, n], strict=True)
    ]
    report(found, log_errors)
    found.csv(rows, "dueling_corridor")
    found.figure(draw(log_errors, args), "dueling_corridor", "Squared error in the corridor with 5, 10 and 20 actions")
    found.write()


if __name__ == "__main__":
    main()
