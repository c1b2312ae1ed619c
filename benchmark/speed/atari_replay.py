"""The memory of a transition and the time to draw 32, in dqn_atari.py's replay buffer and in one that stores stacks.

    python -m benchmark.speed atari_replay --sizes 100000 1000000

The buffer of stacks uses the next row as next_obs, as CleanRL's does. Sizes that do not fit into memory are left out.
"""

import os
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from tqdm import tqdm

import dqn_atari
from benchmark.pages import markdown
from benchmark.speed.timing import median_time, publish


@dataclass
class Args:
    repeats: int = 5  # times each program runs
    sizes: tuple[int, ...] = (100_000,)  # transitions in the buffers
    page: bool = False  # write the table into docs/results/dqn_atari.md


class StackBuffer:
    """A replay buffer that stores whole stacks; next_obs is the stack of the next row."""

    def __init__(self, capacity: int):
        self.obs = np.zeros((capacity, 4, 84, 84), np.uint8)
        self.others = [np.zeros(capacity, dtype) for dtype in (np.int64, np.float32, np.float32)]
        self.capacity, self.added = capacity, 0

    def add(self, obs, action, reward, terminated, final):
        i = self.added % self.capacity
        for array, value in zip((self.obs, *self.others), (obs, action, reward, terminated), strict=True):
            array[i] = value[0]
        self.added += 1

    def sample(self, batch_size: int, rng: np.random.Generator, device: torch.device):
        i = rng.integers(self.capacity - 1, size=batch_size)
        arrays = self.obs[i], self.obs[i + 1], *(array[i] for array in self.others)
        return [torch.from_numpy(array).to(device) for array in arrays]


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    cpu, rng = torch.device("cpu"), np.random.default_rng(1)
    kinds = {
        "dqn_atari.py": (lambda size: dqn_atari.ReplayBuffer(size, 1, cpu), 7_100),
        "stacks": (StackBuffer, 28_300),
    }
    lines = []
    obs, zero = rng.integers(256, size=(1, 4, 84, 84), dtype=np.uint8), np.zeros(1, np.int64)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for size in args.sizes:
        for name, (kind, each) in kinds.items():
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            if size * each > free:
                print(f"{name}: {size:,} transitions need {size * each / 2**30:.1f} GiB, {free / 2**30:.1f} are free")
                continue
            before, buffer = resident(), kind(size)
            for t in tqdm(range(size), desc=f"{name}: adding {size:,}", disable=None):
                buffer.add(obs, zero, zero, zero, np.array([t % 1_000 == 999]))
            memory = (resident() - before) / size
            times = [median_time(lambda buffer=buffer: buffer.sample(32, rng, cpu), 300) for _ in range(args.repeats)]
            span = f"{min(times):.0f} to {max(times):.0f}"
            lines.append([f"{name}, {size:,}", f"{memory:,.0f}", f"{statistics.median(times):.0f}", span])
            del buffer
    table = markdown(["replay, transitions", "bytes each", "µs to draw 32", "range"], lines)
    print(table)
    publish("dqn_atari", "atari_replay", args, [table])


if __name__ == "__main__":
    main()
