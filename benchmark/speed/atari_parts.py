"""The parts of a step of dqn_atari.py, each timed by itself until it has finished.

    python -m benchmark.speed atari_parts --cuda --num-envs 1 8 16 32

A whole step takes less than the sum of its parts: in the script the games run while the network learns, and the CPU
does not wait for the GPU after an update.
"""

import statistics
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro

import dqn_atari
from benchmark.pages import markdown
from benchmark.speed.timing import median_time, publish


@dataclass
class Args:
    repeats: int = 5  # times each program runs
    steps: int = 12_000  # twenty times the number of calls of each part
    num_envs: tuple[int, ...] = (1, 8)  # games in parallel
    cuda: bool = False  # learn on the GPU
    page: bool = False  # write the table into docs/results/dqn_atari.md


def parts_of_a_step(env: gym.vector.VectorEnv, own: dqn_atari.Args, device: torch.device) -> dict:
    """{name: (call, steps that a call serves)} for the parts of dqn_atari.py, in the order of a step."""
    n, rng = env.num_envs, np.random.default_rng(1)
    buffer = dqn_atari.ReplayBuffer(10_000, n, device)
    q_network, target_network = (dqn_atari.QNetwork(4, 6, own).to(device) for _ in range(2))
    optimizer = torch.optim.Adam(q_network.parameters(), lr=own.learning_rate, fused=True)
    (obs, _), zeros = env.reset(seed=1), np.zeros(n, np.int64)

    def write() -> None:
        buffer.add(obs, zeros, zeros, zeros, zeros)

    def update() -> None:
        loss, *_ = dqn_atari.compute_loss(q_network, target_network, batch, own)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(10_000 // n):
        write()
    batch = buffer.sample(own.batch_size, rng, device)
    return {
        "acting, with both transfers": (lambda: q_network.q_values(obs), n),
        "of that the pictures' transfer": (lambda: dqn_atari.to_device(torch.from_numpy(obs), device), n),
        "games": (lambda: env.step(rng.integers(6, size=n)), n),
        "replay write": (write, n),
        "sampling": (lambda: buffer.sample(own.batch_size, rng, device), own.train_frequency),
        "update": (update, own.train_frequency),
    }


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    if args.cuda and not torch.cuda.is_available():
        sys.exit("error: --cuda needs a GPU and a PyTorch built for it; this one finds none")
    own = dqn_atari.with_protocol(dqn_atari.Args(env_id="PongNoFrameskip-v4", cuda=args.cuda))
    device = torch.device("cuda" if args.cuda else "cpu")
    calls = max(args.steps // 20, 1)  # of each part; an update takes tens of milliseconds on a CPU
    torch.set_num_threads(own.num_threads)
    wait = torch.cuda.synchronize if args.cuda else lambda: None
    lines = []
    for n in args.num_envs:
        with closing(dqn_atari.make_env(own, n)) as env:
            for name, (call, steps) in parts_of_a_step(env, own, device).items():

                def waited_for(call: Callable = call) -> None:
                    call()
                    wait()

                rows = {name: waited_for} | ({"until it is launched": call} if args.cuda else {})
                for what, timed in rows.items():
                    waited_for()
                    each = [median_time(timed, calls) for _ in range(args.repeats)]
                    took = statistics.median(each)
                    span = f"{min(each):.1f} to {max(each):.1f}"
                    lines.append([what, str(n), f"{took:.1f}", span, f"{took / steps:.1f}"])
    table = markdown([f"on the {device.type}", "games", "µs a call", "range", "µs a step"], lines)
    print(table)
    publish("dqn_atari", "atari_parts", args, [table])


if __name__ == "__main__":
    main()
