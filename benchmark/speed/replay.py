"""Prioritized replay: the time to draw a batch of 32 and set its priorities, and to add one transition.

    python -m benchmark.speed replay

With 100,000 and a million transitions in the buffer: per_dqn.py, the same buffer with `numpy.random.choice(p=...)`
instead of the tree, and cpprb, which is written in C++ (`pip install cpprb`; without it, cpprb is left out).
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import tyro
from tqdm import tqdm

import per_dqn
from benchmark.speed.timing import in_turns, median_time, on_one_core, publish, report


@dataclass
class Args:
    repeats: int = 5  # times each program runs
    page: bool = False  # write the table into docs/results/speed.md


class ChoiceReplayBuffer(per_dqn.ReplayBuffer):
    """per_dqn.py's buffer with the priorities in an array; numpy.random.choice draws from it."""

    class Tree:
        def __init__(self, capacity: int):
            self.values = np.zeros(capacity)

        def set_one(self, i, value):
            self.values[i] = value

        set = set_one

        def get(self, i):
            return self.values[i]

        def find(self, u):
            return np.random.choice(len(self.values), len(u), p=self.values / self.nodes[1])

        @property
        def nodes(self):
            return 0.0, self.values.sum()

    def __init__(self, capacity: int, *arguments):
        super().__init__(capacity, *arguments)
        self.tree = self.Tree(capacity)


class Cpprb:
    """cpprb's PrioritizedReplayBuffer with the three methods of per_dqn.py's buffer."""

    def __init__(self, capacity: int, obs_dim: int, alpha: float, eps: float):
        from cpprb import PrioritizedReplayBuffer

        vector = {"shape": obs_dim}
        fields = {"obs": vector, "action": {"dtype": np.int64}, "reward": {}, "next_obs": vector}
        fields["terminated"] = {"dtype": np.bool_}
        self.buffer = PrioritizedReplayBuffer(capacity, fields, alpha=alpha, eps=eps)

    def add(self, obs, action, reward, next_obs, terminated):
        self.buffer.add(obs=obs, action=action, reward=reward, next_obs=next_obs, terminated=terminated)

    def sample(self, batch_size, beta, rng, device):
        batch = self.buffer.sample(batch_size, beta)
        return batch, batch["indexes"]

    def update_priorities(self, i, td_error):
        self.buffer.update_priorities(i, td_error)


def full_buffer(kind: Callable, size: int, batch_size: int = 32, obs_dim: int = 4) -> tuple[Callable, Callable]:
    """Fills a buffer and returns two calls: one draws a batch and sets its priorities, the other adds a transition."""
    rng = np.random.default_rng(1)
    buffer = kind(size, obs_dim, 0.6, 1e-6)
    obs, errors = np.ones(obs_dim, np.float32), rng.exponential(size=batch_size).astype(np.float32)

    def draw() -> None:
        _, i = buffer.sample(batch_size, 0.4, rng, torch.device("cpu"))
        buffer.update_priorities(i, errors)

    def add() -> None:
        buffer.add(obs, 1, 1.0, obs, False)

    for _ in tqdm(range(size), desc=f"{kind.__module__}.{kind.__name__}: adding {size:,}", disable=None):
        add()
    return draw, add


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    on_one_core()
    kinds = {"per_dqn.py": (per_dqn.ReplayBuffer, 1_000), "numpy.random.choice": (ChoiceReplayBuffer, 30)}
    if importlib.util.find_spec("cpprb"):
        kinds["cpprb"] = Cpprb, 1_000
    else:
        print("cpprb is missing (pip install cpprb) and left out")
    tables = []
    for size in (100_000, 1_000_000):
        draws, adds = {}, {}
        for name, (kind, times) in kinds.items():
            draw, add = full_buffer(kind, size)
            draws[name], adds[name] = partial(median_time, draw, times), partial(median_time, add, 10_000)
        for calls, what in ((draws, "sample 32 and update their priorities"), (adds, "add one")):
            title = f"{what}, {size:,} transitions"
            tables.append(report(in_turns(calls, args.repeats, title), title, ["per_dqn.py"]))
    publish("speed", "replay", args, tables)


if __name__ == "__main__":
    main()
