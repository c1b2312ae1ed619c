"""Steps of tabular_q.py on FrozenLake-v1, with its evaluations and its log, and of the bare environment.

python -m benchmark.speed tabular
"""

import json
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro

from benchmark.speed.timing import in_turns, on_one_core, publish, report, run_script


@dataclass
class Args:
    repeats: int = 5  # times each program runs
    steps: int = 300_000  # environment steps of a run
    page: bool = False  # write the table into docs/results/tabular_q.md


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    on_one_core()

    def bare() -> float:
        rng = np.random.default_rng(1)
        with closing(gym.make("FrozenLake-v1")) as env:
            env.reset(seed=1)
            start = time.perf_counter()
            for _ in range(args.steps):
                _, _, terminated, truncated, _ = env.step(int(rng.integers(4)))
                if terminated or truncated:
                    env.reset()
            return (time.perf_counter() - start) / args.steps * 1e6

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            run_dir = run_script("tabular_q.py", Path(folder), env_id="FrozenLake-v1", total_timesteps=args.steps)
            return 1e6 / json.loads((run_dir / "result.json").read_text())["sps"]

    title = "a step on FrozenLake-v1"
    programs = {"tabular_q.py": ours, "environment alone": bare}
    table = report(in_turns(programs, args.repeats, title), title, ["tabular_q.py"])
    publish("tabular_q", "tabular", args, [table])


if __name__ == "__main__":
    main()
