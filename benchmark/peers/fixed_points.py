"""What the loss of each script converges to, in one state with two actions, against arithmetic.

python -m benchmark.peers fixed-points

Action 0 of benchmark.envs:Gamble-v0 pays a prize with some probability, action 1 pays a sure reward. Q should be the
mean. Three seeds a case; the table goes into docs/peers.md, and every run into fixed_points.csv.
"""

import contextlib
import csv
import importlib
import io
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark.package_venv import last_line
from benchmark.pages import markdown, write_block
from benchmark.peers.audit.program import a_folder, read_table, run_in
from benchmark.peers.their_fixed_points import CASES as CASES_OF_PACKAGES
from benchmark.run_folder import DATA, ROOT, read_object, read_scalars, write_whole

SCRIPTS = "dqn double_dqn dueling_dqn per_dqn n_step_dqn noisy_dqn c51 rainbow drqn qt_opt pqn tabular_q".split()
COMMAND = "python -m benchmark.peers fixed-points"
EPSILON = 0.2  # the probability of a random action in the cases where it matters


@dataclass
class Args:
    total_timesteps: int = 10_000
    """steps of each run; all other flags have the defaults of the script"""
    num_seeds: int = 3
    workers: int = 2
    """runs at a time"""
    folder: Path | None = None
    """where virtual environments are kept, outside the repository (default: a temporary folder)"""


@dataclass
class Case:
    title: str
    env_kwargs: tuple[str, ...]
    due: float  # max_a Q(s, a), the mean over the visited states
    most: float = 1.0  # the largest return, for scripts with a support
    flags: tuple[tuple[str, float | str], ...] = ()  # of scripts that have them
    only: tuple[str, ...] = ()  # scripts (empty: all)


CASES = [
    Case("0.1 chance of 1", ("chance=0.1", "prize=1"), 0.1),
    Case("0.1 chance of 20", ("chance=0.1", "prize=20"), 2.0, 20.0),
    # Huber's gradient is at most 1: it vanishes where 0.9 q = 0.1, at q = 1/9.
    Case("0.1 chance of 20, `--loss huber`", ("chance=0.1", "prize=20"), 1 / 9, 20.0, (("loss", "huber"),), ("dqn",)),
    Case("0.1 chance of 100", ("chance=0.1", "prize=100"), 10.0, 100.0),
    Case("0.1 chance of 1, or 0.15", ("chance=0.1", "prize=1", "sure=0.15"), 0.15),
]
# Two steps, and in the second one action 0 pays 1. So its state is worth 1 and the first one γ. A random action misses
# the reward in half of the cases, and a return of two steps contains these misses.
LATER = ("chance=1", "prize=1", "steps=2")
RANDOM = (("start_e", EPSILON), ("end_e", EPSILON))
GAMMA, LAMBDA = 0.99, 0.65
ONE_STEP = tuple(name for name in SCRIPTS if name not in ("n_step_dqn", "rainbow", "pqn", "noisy_dqn"))
CASES += [
    Case("1 in the second step, ε = 0.2", LATER, (1 + GAMMA) / 2, 1.0, RANDOM, ONE_STEP),
    Case(
        "1 in the second step, ε = 0.2, n = 3", LATER, (1 + GAMMA * (1 - EPSILON / 2)) / 2, 1.0, RANDOM, ("n_step_dqn",)
    ),
    Case(
        "1 in the second step, ε = 0.2, λ = 0.65",
        LATER,
        (1 + GAMMA * (1 - LAMBDA * EPSILON / 2)) / 2,
        1.0,
        RANDOM,
        ("pqn",),
    ),
]


def run(name: str, case: Case, seed: int, steps: int) -> dict:
    """One run: max_a Q(s, a) after a quarter, a half, three quarters and all of the steps."""
    torch.set_num_threads(1)
    script = importlib.import_module(name)
    flags = {"total_timesteps": steps, "eval_frequency": steps // 4, "eval_episodes": 1, "final_eval_episodes": 1}
    flags |= {"v_min": 0.0, "v_max": case.most, "save_model": True, **dict(case.flags)}
    flags |= {"env_id": f"benchmark.envs:{'Box' if name == 'qt_opt' else ''}Gamble-v0", "env_kwargs": case.env_kwargs}
    known = {flag: value for flag, value in flags.items() if flag in script.Args.__dataclass_fields__}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run_dir = script.train(script.Args(seed=seed, runs_dir=Path(folder), **known))
        first = [value for _, value, _ in read_scalars(run_dir)["eval/q_predicted"]]
        final = read_object(run_dir / "result.json")["eval/q_predicted"]
    row = {"case": case.title, "script": f"{name}.py", "seed": seed, "due": f"{case.due:.4g}"}
    return (
        row
        | {f"at_{part}": f"{value:.4g}" for part, value in zip((25, 50, 75), first, strict=False)}
        | {"at_100": f"{final:.4g}"}
    )


def table(rows: list[dict]) -> str:
    """A line for each case and script: means over the seeds, and the smallest and largest final value."""
    lines = []
    for case, script in dict.fromkeys((row["case"], row["script"]) for row in rows):
        of = [row for row in rows if (row["case"], row["script"]) == (case, script)]
        values = {part: np.array([float(row[f"at_{part}"]) for row in of]) for part in (25, 50, 75, 100)}
        spread = f"{values[100].min():.3g} to {values[100].max():.3g}"
        lines.append([case, script, of[0]["due"], *(f"{values[part].mean():.3g}" for part in values), spread])
    return markdown(["case", "script", "due", "at 25 %", "50 %", "75 %", "the end", "seeds"], lines)


def of_packages(given: Path | None) -> str:
    """A table of what losses of released packages converge to."""
    lines = []
    with a_folder(given) as folder:
        for function, (name, title, mean) in CASES_OF_PACKAGES.items():
            package = read_table()[name]
            _, code, out, err = run_in(name, package, ["benchmark.peers.their_fixed_points", function], folder, 900)
            seen, due = (
                (f"{x:.4g}" for x in json.loads(out.splitlines()[-1])) if code == 0 else (last_line(err, folder), "")
            )
            lines.append([title, f"{name} {package.version}", f"{mean:g}", due, seen])
            print(*lines[-1], flush=True)
    return markdown(["case", "package", "the mean, or the most", "by arithmetic", "seen"], lines)


def fixed_points(args: Args) -> None:
    write_block(ROOT / "docs" / "peers.md", "fixed points of packages", COMMAND, of_packages(args.folder))
    jobs = [
        (name, case, seed, args.total_timesteps)
        for case in CASES
        for name in case.only or SCRIPTS
        for seed in range(1, args.num_seeds + 1)
    ]
    rows, start = [], time.monotonic()
    with ProcessPoolExecutor(args.workers) as pool:
        for done, row in enumerate(pool.map(run, *zip(*jobs, strict=True)), 1):
            rows.append(row)
            print(f"{done} of {len(jobs)} after {time.monotonic() - start:.0f} s: {row}", flush=True)
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (DATA / "peers").mkdir(parents=True, exist_ok=True)
    write_whole(DATA / "peers" / "fixed_points.csv", file.getvalue())
    write_block(ROOT / "docs" / "peers.md", "fixed points", COMMAND, table(rows))
