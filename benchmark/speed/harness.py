"""The cost of the harness for a run, and the gain of a second worker.

    python -m benchmark.speed harness

Runs of dqn.py by `python -m benchmark run` with one worker and with two, and one after the other without the harness.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from benchmark.pages import markdown
from benchmark.run_folder import ROOT
from benchmark.speed.timing import in_turns, publish, run_script


@dataclass
class Args:
    runs: int = 8  # runs in a turn
    steps: int = 12_000  # environment steps of a run
    repeats: int = 5  # times each program runs
    page: bool = False  # write the table into docs/results/speed.md


def main() -> None:
    args = tyro.cli(Args, description=__doc__)

    def with_workers(workers: int) -> float:
        command = [sys.executable, "-m", "benchmark", "run", "--scripts", "dqn.py", "--env-ids", "CartPole-v1"]
        command += ["--num-seeds", str(args.runs), "--workers", str(workers)]
        with tempfile.TemporaryDirectory() as folder:
            command += ["--runs-dir", folder, "--arguments", f"total_timesteps={args.steps}"]
            begin = time.perf_counter()
            subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            return time.perf_counter() - begin

    def without() -> float:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            for seed in range(1, args.runs + 1):
                run_script("dqn.py", Path(folder), env_id="CartPole-v1", seed=seed, total_timesteps=args.steps)
            return time.perf_counter() - begin

    programs = {"a loop": without, "one worker": partial(with_workers, 1), "two workers": partial(with_workers, 2)}
    times = in_turns(programs, args.repeats, "harness")
    ratios = [one / two for one, two in zip(times["one worker"], times["two workers"], strict=True)]
    added = [(one - alone) / args.runs for one, alone in zip(times["one worker"], times["a loop"], strict=True)]
    rows = {f"{args.runs} runs by {name}, s": values for name, values in times.items()}
    rows |= {"two workers are so many times as fast as one": ratios, "the harness adds to a run, s": added}
    lines = [
        [name, f"{statistics.median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}"]
        for name, values in rows.items()
    ]
    table = markdown([f"median of {args.repeats}", "", "range"], lines)
    print(table)
    publish("speed", "harness", args, [table])


if __name__ == "__main__":
    main()
