"""N-step DQN's claims: the longer n, the sooner it learns and the further from Q* it ends; on CartPole 3 beats 1.

    python -m benchmark.claims.n_step_dqn

**A corridor** of 20 states, of which everything can be computed. Actions lead left (in the first state: nowhere) and
right; right in the last state ends the episode with reward 1, all else pays 0; γ = 0.97. The data are 100,000 steps,
from the first state on, again and again, of a policy that goes right but acts at random with ε = 0.5. Q is a table that
starts at 0 and learns from them by the replay buffer and the target of n_step_dqn.py: in each update, each Q(s, a) goes
a tenth of the way to the mean of its targets in a batch of 512. The error is the root of the mean square of Q - Q* over
all 40 pairs of state and action.

Early, after 50 updates, the error should be the smaller the larger n is, because a reward reaches n steps back in one
update. Late, it should be 0 for n = 1 and the larger the larger n is, so that the curves cross: Q converges to that Q_n
which is its own target,

    Q_n(s, a) = E[r_1 + γ r_2 + ... + γ^(n-1) r_n + γ^n max_a' Q_n(s_n, a')]

where the first action is a and the n - 1 others are the policy's, with its ε. It is computed from the model, exactly,
and Q_n - Q* is the bias.

**CartPole-v1** with n_step_dqn.py's defaults, n = 3 against n = 1, which is dqn.py to the bit (a test compares them).
The mean return over the run is the mean of its ten evaluations. The claim is that with n = 3 it is more than 50 higher,
paired by seed.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro
from tqdm import tqdm

import n_step_dqn
from benchmark.claims.base import series
from benchmark.launch.local import run_seeds
from benchmark.report.statistics import draw_mean, mean_and_interval, said, verdict, write_table
from benchmark.run_folder import DATA, read_scalars

LENGTHS = (1, 3, 5, 10)  # n, in the corridor
STATES, GAMMA, EPSILON = 20, 0.97, 0.5
LEFT, RIGHT = 0, 1
STEP_SIZE, BATCH_SIZE, EARLY = 0.1, 512, 50
TOLERANCE = 0.02  # between learned and predicted error
LEAST_GAIN = 50  # of the mean return on CartPole
CPU = torch.device("cpu")


@dataclass
class Args:
    num_seeds: int = 20
    """seeds of each n, from 1 on"""
    walk_steps: int = 100_000
    """environment steps in the corridor's replay buffer"""
    updates: int = 600
    """updates in the corridor"""
    workers: int = 2
    """runs at the same time, one core each"""
    runs_dir: Path = Path("runs/claims")
    """where the runs are kept"""
    output: Path = DATA / "n_step_dqn"
    """where tables and figure are written"""


def step(state: int, action: int) -> tuple[int, float, bool]:
    """(next state, reward, terminated); after the end there is no state, so the last one is given again."""
    ends = state == STATES - 1 and action == RIGHT
    next_state = state if ends else max(state - 1, 0) if action == LEFT else state + 1
    return next_state, float(ends), ends


def exact_q(n: int) -> np.ndarray:
    """Q_n, (states, 2), by putting its own target in its place until nothing changes; Q_1 is Q*."""
    model = np.array([[step(s, a) for a in (LEFT, RIGHT)] for s in range(STATES)])  # (states, 2, 3)
    next_state, reward, discount = model[..., 0].astype(int), model[..., 1], GAMMA * (1 - model[..., 2])
    policy = np.array([EPSILON / 2, 1 - EPSILON / 2])
    q = np.zeros((STATES, 2))
    while True:
        v = q.max(axis=1)  # (states,), what is to come after step n
        for _ in range(n - 1):
            v = (reward + discount * v[next_state]) @ policy  # and one step of the policy before that
        backup = reward + discount * v[next_state]  # (states, 2)
        if np.abs(backup - q).max() < 1e-12:
            return backup
        q = backup


def walk(n: int, steps: int, rng: np.random.Generator) -> n_step_dqn.ReplayBuffer:
    """A replay buffer with so many steps of the policy."""
    buffer, state = n_step_dqn.ReplayBuffer(steps, 1, n, GAMMA), 0
    for action in np.where(rng.random(steps) < EPSILON, rng.integers(2, size=steps), RIGHT).tolist():
        next_state, reward, terminated = step(state, action)
        buffer.add(state, action, reward, next_state, terminated, truncated=False)
        state = 0 if terminated else next_state
    return buffer


def update(q: torch.Tensor, batch: n_step_dqn.Batch) -> None:
    """Each Q(s, a) a tenth of the way to the mean of its targets, in place; q is (states, 2)."""
    state, next_state = batch.obs[:, 0].long(), batch.next_obs[:, 0].long()
    y = n_step_dqn.td_target(q[next_state], batch.reward, batch.terminated, batch.discount)
    total, count = torch.zeros_like(q), torch.zeros_like(q)
    total.index_put_((state, batch.action), y - q[state, batch.action], accumulate=True)
    count.index_put_((state, batch.action), torch.ones_like(y), accumulate=True)
    q += STEP_SIZE * total / count.clamp(min=1)


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def learn(n: int, seed: int, args: Args) -> tuple[np.ndarray, float]:
    """The error, RMS of Q - Q*, before and after every update, and in the end the RMS of Q - Q_n."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    buffer, truth, q = walk(n, args.walk_steps, rng), exact_q(1), torch.zeros(STATES, 2)
    errors = [rms(q.numpy() - truth)]
    for _ in range(args.updates):
        update(q, buffer.sample(BATCH_SIZE, rng, CPU))
        errors.append(rms(q.numpy() - truth))
    return np.array(errors), rms(q.numpy() - exact_q(n))


def corridor(args: Args, axes) -> None:
    """Learns, draws the errors over updates, writes the table and says what holds."""
    seeds = range(1, args.num_seeds + 1)
    jobs = [(n, seed) for n in LENGTHS for seed in seeds]
    with ProcessPoolExecutor(args.workers) as pool:
        running = pool.map(partial(learn, args=args), *zip(*jobs, strict=True))
        found = dict(zip(jobs, tqdm(running, total=len(jobs), desc="corridor"), strict=True))
    bias = {n: rms(exact_q(n) - exact_q(1)) for n in LENGTHS}
    errors = {n: np.array([found[n, seed][0] for seed in seeds]) for n in LENGTHS}  # (seeds, updates + 1)

    print(f"corridor: RMS of Q - Q*, mean and 95 % interval over {args.num_seeds} seeds")
    for n in LENGTHS:
        color = draw_mean(axes, range(0, args.updates + 1, 10), errors[n][:, ::10], label=f"n = {n}")
        axes.axhline(bias[n], color=color, linestyle=":")
        print(f"  n = {n}: after {EARLY} updates {said(errors[n][:, EARLY], 3)}", end=", ")
        print(f"in the end {said(errors[n][:, -1], 3)}, exactly {bias[n]:.3f}", end="; ")
        print(f"RMS of Q - Q_n {said(np.array([found[n, seed][1] for seed in seeds]), 3)}")
    axes.set(title="Corridor: error, and exact bias (dotted)", xlabel="updates", ylabel="RMS of Q - Q*")
    rows = [
        {
            "n": n,
            "seed": seed,
            "early_error": round(found[n, seed][0][EARLY], 4),
            "final_error": round(found[n, seed][0][-1], 4),
            "exact_bias": round(bias[n], 4),
            "distance_to_exact": round(found[n, seed][1], 4),
        }
        for n, seed in jobs
    ]
    write_table(rows, args.output / "n_step_corridor.csv")

    gains = [mean_and_interval(errors[a][:, EARLY] - errors[b][:, EARLY]) for a, b in pairwise(LENGTHS)]
    print(verdict(f"the error after {EARLY} updates falls with n", all(low > 0 for _, low, _ in gains), args.num_seeds))
    off = [mean_and_interval(errors[n][:, -1] - bias[n]) for n in LENGTHS]
    holds = all(max(-low, high) < TOLERANCE for _, low, high in off)
    print(verdict(f"the final error is within {TOLERANCE} of the exact bias, for every n", holds, args.num_seeds))
    rising = all(bias[a] < bias[b] for a, b in pairwise(LENGTHS))
    best = {n: bool((exact_q(n).argmax(axis=1) == RIGHT).all()) for n in LENGTHS}
    print(f"the exact bias {'rises' if rising else 'does not rise'} with n; ", end="")
    print(f"going right is still the best of Q_n in every state: {'yes' if all(best.values()) else best}")


def cartpole(args: Args, axes) -> None:
    """Runs, draws the learning curves, writes the table and says what holds."""
    seeds = range(1, args.num_seeds + 1)
    settings = {f"n = {n}": ("n_step_dqn.py", {"env_id": "CartPole-v1", "n_step": n}) for n in (1, 3)}
    runs = run_seeds(settings, seeds, args.runs_dir, args.workers)
    rows, means = [], {}
    for name, (script, flags) in settings.items():
        steps, returns = series([read_scalars(runs[name][seed][0]) for seed in seeds], "eval/episodic_return")
        means[name] = returns.mean(axis=1)  # over the evaluations, (seeds,)
        draw_mean(axes, steps, returns, label=name)
        for seed, mean, final in zip(seeds, means[name], returns[:, -1], strict=True):
            row = {"script": script, "n": flags["n_step"], "seed": seed}
            rows.append(row | {"mean_return": round(mean, 2), "final_return": round(final, 2)})
        solved = int((returns[:, -1] >= 475).sum())
        print(f"CartPole-v1, {name}: mean return over the run {said(means[name], 1)}", end="; ")
        print(f"in the end {said(returns[:, -1], 1)}, 475 or more with {solved} of {args.num_seeds} seeds")
    axes.set(title="CartPole-v1: greedy return", xlabel="environment steps")
    write_table(rows, args.output / "n_step_cartpole.csv")
    gain = means["n = 3"] - means["n = 1"]
    print(f"n = 3 minus n = 1, paired by seed: {said(gain, 1)}")
    holds = mean_and_interval(gain)[1] > LEAST_GAIN
    print(verdict(f"with n = 3 the mean return over the run is more than {LEAST_GAIN} higher", holds, args.num_seeds))


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    args.output.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    corridor(args, left)
    cartpole(args, right)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(args.output / "n_step.png", dpi=110)


if __name__ == "__main__":
    main()
