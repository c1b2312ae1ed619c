"""N-step DQN's claims: the longer n, the sooner it learns and the further from Q* it ends; on CartPole 3 beats 1.

    python -m benchmark.claims.n_step_dqn

**A corridor** of 20 states, in which everything can be computed. Actions lead left (in the first state: nowhere) and
right. Right in the last state ends the episode with reward 1; all other rewards are 0; γ = 0.97. The data are 100,000
steps of a policy that goes right and acts at random with ε = 0.5; each episode begins in the first state. Q is a table
that starts at 0. It learns with the replay buffer and the target of n_step_dqn.py: each update moves each Q(s, a) a
tenth of the way to the mean of its targets in a batch of 512. The error is the root of the mean square of Q - Q* over
all 40 pairs of state and action.

After 50 updates a larger n should have a smaller error, because a reward moves n steps back in one update. At the end
the error should be 0 for n = 1, and larger for a larger n, so the curves cross. Q converges to the fixed point Q_n of
its own target,

    Q_n(s, a) = E[r_1 + γ r_2 + ... + γ^(n-1) r_n + γ^n max_a' Q_n(s_n, a')]

where the first action is a, and the policy with its ε takes the other n - 1 actions. We compute Q_n exactly from the
model; Q_n - Q* is the bias.

**CartPole-v1** with n_step_dqn.py's defaults, n = 3 against n = 1. With n = 1 the script equals dqn.py to the bit (a
test compares them). The mean return over the run is the mean of its ten evaluations. The claim: with n = 3 it is more
than 50 higher, paired by seed.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro

import n_step_dqn
from benchmark.claims import base
from benchmark.report.statistics import draw_mean, mean_and_interval, said, verdict

LENGTHS = (1, 3, 5, 10)  # n, in the corridor
STATES, GAMMA, EPSILON = 20, 0.97, 0.5
LEFT, RIGHT = 0, 1
STEP_SIZE, BATCH_SIZE, EARLY = 0.1, 512, 50
TOLERANCE = 0.02  # between learned and predicted error
LEAST_GAIN = 50  # of the mean return on CartPole
CPU = torch.device("cpu")


@dataclass
class Args(base.Args):
    walk_steps: int = 100_000  # environment steps in the corridor's replay buffer
    updates: int = 600  # updates in the corridor


def step(state: int, action: int) -> tuple[int, float, bool]:
    """(next state, reward, terminated); the next state of the last step is the last state."""
    ends = state == STATES - 1 and action == RIGHT
    next_state = state if ends else max(state - 1, 0) if action == LEFT else state + 1
    return next_state, float(ends), ends


def exact_q(n: int) -> np.ndarray:
    """Q_n, (states, 2): replaces Q by its target until nothing changes; Q_1 is Q*."""
    model = np.array([[step(s, a) for a in (LEFT, RIGHT)] for s in range(STATES)])  # (states, 2, 3)
    next_state, reward, discount = model[..., 0].astype(int), model[..., 1], GAMMA * (1 - model[..., 2])
    policy = np.array([EPSILON / 2, 1 - EPSILON / 2])
    q = np.zeros((STATES, 2))
    while True:
        v = q.max(axis=1)  # (states,), the value after step n
        for _ in range(n - 1):
            v = (reward + discount * v[next_state]) @ policy  # one step of the policy before
        backup = reward + discount * v[next_state]  # (states, 2)
        if np.abs(backup - q).max() < 1e-12:
            return backup
        q = backup


def walk(n: int, steps: int, rng: np.random.Generator) -> n_step_dqn.ReplayBuffer:
    """A replay buffer with `steps` steps of the policy."""
    buffer, state = n_step_dqn.ReplayBuffer(steps, 1, n, GAMMA), 0
    for action in np.where(rng.random(steps) < EPSILON, rng.integers(2, size=steps), RIGHT).tolist():
        next_state, reward, terminated = step(state, action)
        buffer.add(state, action, reward, next_state, terminated, truncated=False)
        state = 0 if terminated else next_state
    return buffer


def update(q: torch.Tensor, batch: n_step_dqn.Batch) -> None:
    """Moves each Q(s, a) a tenth of the way to the mean of its targets, in place; q is (states, 2)."""
    state, next_state = batch.obs[:, 0].long(), batch.next_obs[:, 0].long()
    y = n_step_dqn.td_target(q[next_state], batch.reward, batch.terminated, batch.discount)
    total, count = torch.zeros_like(q), torch.zeros_like(q)
    total.index_put_((state, batch.action), y - q[state, batch.action], accumulate=True)
    count.index_put_((state, batch.action), torch.ones_like(y), accumulate=True)
    q += STEP_SIZE * total / count.clamp(min=1)


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def learn(n: int, seed: int, args: Args) -> tuple[np.ndarray, float]:
    """The RMS of Q - Q* before the first and after each update, and the RMS of Q - Q_n at the end."""
    rng = np.random.default_rng(seed)
    buffer, truth, q = walk(n, args.walk_steps, rng), exact_q(1), torch.zeros(STATES, 2)
    errors = [rms(q.numpy() - truth)]
    for _ in range(args.updates):
        update(q, buffer.sample(BATCH_SIZE, rng, CPU))
        errors.append(rms(q.numpy() - truth))
    return np.array(errors), rms(q.numpy() - exact_q(n))


def corridor(found: base.Findings, args: Args, axes) -> None:
    """Learns in the corridor; draws the errors over updates, and says the errors at the end."""
    jobs = [(n, seed) for n in LENGTHS for seed in args.seeds]
    learned = base.in_parallel(partial(learn, args=args), jobs, args.workers)
    bias = {n: rms(exact_q(n) - exact_q(1)) for n in LENGTHS}
    errors = {n: np.array([learned[n, seed][0] for seed in args.seeds]) for n in LENGTHS}  # (seeds, updates + 1)

    lines = []
    for n in LENGTHS:
        color = draw_mean(axes, range(0, args.updates + 1, 10), errors[n][:, ::10], label=f"n = {n}")
        axes.axhline(bias[n], color=color, linestyle=":")
        early, final = said(errors[n][:, EARLY], 3), said(errors[n][:, -1], 3)
        distance = said(np.array([learned[n, seed][1] for seed in args.seeds]), 3)
        lines.append([f"n = {n}", early, final, f"{bias[n]:.3f}", distance])
    header = [f"after {EARLY} updates", "in the end", "exact bias", "RMS of Q - Q_n in the end"]
    found.table(["corridor: RMS of Q - Q*", *header], lines)
    axes.set(title="Corridor: error, and exact bias (dotted)", xlabel="updates", ylabel="RMS of Q - Q*")
    rows = [
        {
            "n": n,
            "seed": seed,
            "early_error": round(learned[n, seed][0][EARLY], 4),
            "final_error": round(learned[n, seed][0][-1], 4),
            "exact_bias": round(bias[n], 4),
            "distance_to_exact": round(learned[n, seed][1], 4),
        }
        for n, seed in jobs
    ]
    found.csv(rows, "n_step_corridor")

    def claim(text: str, holds: bool) -> None:
        found.say(verdict(text, holds, args.num_seeds))

    gains = [mean_and_interval(errors[a][:, EARLY] - errors[b][:, EARLY]) for a, b in pairwise(LENGTHS)]
    claim(f"the error after {EARLY} updates falls with n", all(low > 0 for _, low, _ in gains))
    off = [mean_and_interval(errors[n][:, -1] - bias[n]) for n in LENGTHS]
    within = all(max(-low, high) < TOLERANCE for _, low, high in off)
    claim(f"the final error is within {TOLERANCE} of the exact bias, for every n", within)
    rising = all(bias[a] < bias[b] for a, b in pairwise(LENGTHS))
    best = all((exact_q(n).argmax(axis=1) == RIGHT).all() for n in LENGTHS)
    found.say(
        f"The exact bias {'rises' if rising else 'does not rise'} with n; "
        f"going right is {'still' if best else 'NOT'} the best of every Q_n in every state."
    )


def cartpole(found: base.Findings, args: Args, axes) -> None:
    """Runs CartPole-v1; draws and says the returns."""
    settings = {f"n = {n}": ("n_step_dqn.py", {"env_id": "CartPole-v1", "n_step": n}) for n in (1, 3)}
    rows, lines, means = [], [], {}
    for name, own in found.run(settings).items():
        steps, returns = base.series(base.scalars_of(own), "eval/episodic_return")
        means[name], final = returns.mean(axis=1), returns[:, -1]  # over the evaluations, (seeds,)
        draw_mean(axes, steps, returns, label=name)
        script, flags = settings[name]
        for seed, mean, last in zip(own, means[name], final, strict=True):
            row = {"script": script, "n": flags["n_step"], "seed": seed}
            rows.append(row | {"mean_return": round(mean, 2), "final_return": round(last, 2)})
        solved = f"{(final >= 475).sum()} of {len(final)} seeds"
        lines.append([name, said(means[name], 1), said(final, 1), solved])
    found.table(["CartPole-v1: return", "mean over the run", "in the end", "475 or more in the end"], lines)
    axes.set(title="CartPole-v1: greedy return", xlabel="environment steps")
    found.csv(rows, "n_step_cartpole")
    gain = means["n = 3"] - means["n = 1"]
    claim = f"with n = 3 the mean return over the run is more than {LEAST_GAIN} higher; paired by seed: {said(gain, 1)}"
    found.say(verdict(claim, mean_and_interval(gain)[1] > LEAST_GAIN, args.num_seeds))


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    found = base.Findings("n_step_dqn", args, __doc__)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    corridor(found, args, left)
    cartpole(found, args, right)
    found.figure(figure, "n_step", "Errors in the corridor, and greedy return on CartPole")
    found.write()


if __name__ == "__main__":
    main()
