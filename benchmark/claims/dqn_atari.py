"""Why dqn_atari.py draws its own first weights: with PyTorch's, the Nature paper's network is slow to see the ball.

    python -m benchmark.claims.dqn_atari

A replay buffer holds random play of Pong. The same updates are made from two kinds of first weights: dqn_atari.py's
(orthogonal, no biases, outputs near 0) and PyTorch's defaults. A point is won or lost in about one of 40 steps. If Q is
equal in all states, the TD error cannot be lower than the variance of the rewards, 0.02; a network that sees the ball
behind the paddle can have a lower one.

We measure the TD error during the updates. After them we measure how much Q differs between states, and the share of
dead units. A dead unit is 0 in all of 256 observations, so it cannot learn from them.

Both networks begin with the same seed, so they get the same games and the same batches.
"""

from contextlib import closing
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro

import dqn_atari
from benchmark.claims import base
from benchmark.report.statistics import draw_mean, said

FIRST_WEIGHTS = ("dqn_atari.py's", "PyTorch's")
CPU = torch.device("cpu")


@dataclass
class Args(base.ArgsWithoutRuns):
    num_seeds: int = 10  # seeds of each kind of first weights
    steps: int = 20_000  # steps of random play in the replay buffer, in eight games together
    updates: int = 2_000  # updates, with dqn_atari.py's batches, step size and period of target updates
    average: int = 100  # updates over which a TD error is averaged, a divisor of `updates`


def random_play(args: Args, defaults: dqn_atari.Args, seed: int) -> tuple[dqn_atari.ReplayBuffer, int]:
    """A full replay buffer, and the number of actions of the game."""
    rng, num_envs = np.random.default_rng(seed), 8
    buffer = dqn_atari.ReplayBuffer(args.steps, num_envs, CPU)
    with closing(dqn_atari.make_env(defaults, num_envs)) as env:
        num_actions = int(env.single_action_space.n)
        obs, _ = env.reset(seed=dqn_atari.game_seeds(num_envs, seed))
        ended = np.zeros(num_envs, np.bool_)
        for _ in range(buffer.rows):
            action = rng.integers(num_actions, size=num_envs)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            buffer.add(obs, action, reward, terminated, final=ended)
            obs, ended = next_obs, terminated | truncated
    return buffer, num_actions


def dead_units(network: dqn_atari.QNetwork, obs: torch.Tensor) -> list[float]:
    """For each layer with a ReLU: the share of units (or channels) that are 0 in all observations."""
    shares, hooks = [], []

    def measure(layer, inputs, x) -> None:
        shares.append(never(x))  # a ReLU follows: a unit that is never above 0 is 0

    for layer in (network.conv1, network.conv2, network.conv3, network.hidden):
        hooks.append(layer.register_forward_hook(measure))
    network(obs)
    for hook in hooks:
        hook.remove()
    return shares


def never(x: torch.Tensor) -> float:
    """The share of units of (B, units, ...) that are never above 0."""
    return 1.0 - (x > 0).transpose(0, 1).flatten(1).any(dim=1).float().mean().item()


def learn(first_weights: str, seed: int, args: Args) -> tuple[np.ndarray, dict[str, float]]:
    """The TD error, averaged over every `args.average` updates, and the measures after the last update."""
    torch.set_flush_denormal(True)  # as in dqn_atari.main
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    defaults = dqn_atari.with_protocol(dqn_atari.Args(env_id="ALE/Pong-v5", cuda=False))
    buffer, num_actions = random_play(args, defaults, seed)
    q_network, target_network = (dqn_atari.QNetwork(4, num_actions, defaults) for _ in range(2))
    if first_weights == "PyTorch's":
        for layer in q_network.children():
            layer.reset_parameters()
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=defaults.learning_rate, fused=True)
    losses = []
    for update in range(1, args.updates + 1):
        batch = buffer.sample(defaults.batch_size, rng, CPU)
        loss, _ = dqn_atari.compute_loss(q_network, target_network, batch, defaults)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if update * defaults.train_frequency % defaults.target_network_frequency == 0:
            dqn_atari.update_target(target_network, q_network, tau=1.0)
    obs = buffer.sample(256, rng, CPU).obs
    with torch.inference_mode():
        dead = dead_units(q_network, obs)
        spread = q_network(obs).std(dim=0).mean().item()
    curve = np.array(losses).reshape(-1, args.average).mean(axis=1)
    measured = {"td_error": float(curve[-5:].mean()), "spread_of_q": spread}
    return curve, measured | {f"dead_in_layer_{i}": share for i, share in enumerate(dead, start=1)}


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    if min(args.updates, args.average) < 1 or args.updates % args.average or args.steps < 64:
        raise SystemExit("error: --updates must be a multiple of --average, and --steps at least 64")
    found = base.Findings("dqn_atari", args, __doc__)
    jobs = [(name, seed) for seed in args.seeds for name in FIRST_WEIGHTS]
    results = base.in_parallel(partial(learn, args=args), jobs, args.workers)

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    lines, updates = [], np.arange(args.average, args.updates + 1, args.average)
    for name in FIRST_WEIGHTS:
        curves, measured = zip(*(results[name, seed] for seed in args.seeds), strict=True)
        draw_mean(axes, updates, np.array(curves), label=name)
        lines.append([name, *(said(np.array([own[measure] for own in measured]), 4) for measure in measured[0])])
    title = f"TD error from {' and '.join(FIRST_WEIGHTS)} first weights"
    axes.set(title=title, xlabel="updates", ylabel="mean squared TD error", ylim=(0, None))
    found.table(["first weights", *(measure.replace("_", " ") for measure in measured[0])], lines)
    found.csv(
        [{"first_weights": name, "seed": seed} | results[name, seed][1] for name, seed in jobs],
        "dqn_atari_first_weights",
    )
    found.figure(figure, "dqn_atari_first_weights", "TD error from orthogonal and from PyTorch's first weights")
    found.write()


if __name__ == "__main__":
    main()
