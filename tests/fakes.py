"""Scripts that write run folders in milliseconds, and folders of runs that were never made."""

import errno
import json
import struct
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from benchmark.suite import expand, write_plan

FAKE = '''
"""Does what its flags say and leaves a run folder, as dqn.py does, without learning anything."""
import argparse, json, os, resource, signal, subprocess, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--env-id")
parser.add_argument("--seed", type=int)
parser.add_argument("--runs-dir", type=Path)
parser.add_argument("--sleep", type=float, default=0.0)
parser.add_argument("--does", default="")
parser.add_argument("--note", default="")
parser.add_argument("--gamma", type=float, default=0.99)
parser.add_argument("--hidden-sizes", type=int, nargs="*", default=[64])
parser.add_argument("--track", action="store_true")
parser.add_argument("--resume", type=Path)
args = parser.parse_args()
if args.resume:  # takes no other flag
    result = {"eval/episodic_return": 0.0, "resumed_at": (args.resume / "checkpoint.pt").read_text()}
    (args.resume / "result.json").write_text(json.dumps(result))
    sys.exit()

folder = args.runs_dir / f"run__{args.seed}__{time.time_ns()}"
folder.mkdir(parents=True)
given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
given |= {"exp_name": Path(__file__).stem, "command": sys.argv, "threads": os.environ.get("OMP_NUM_THREADS")}
given["wandb"] = {key: value for key, value in os.environ.items() if key.startswith("WANDB_")}
(folder / "args.json").write_text(json.dumps(given))
print("started", flush=True)
if "checkpoint" in args.does:
    (folder / "checkpoint.pt").write_text(f"step {len(list(args.runs_dir.glob('run__*')))}")
if "forget" in args.does:  # as a script without --resume
    del given["resume"]
    (folder / "args.json").write_text(json.dumps(given))
if "child" in args.does:  # in a session of its own, as daemons do
    sleep = [sys.executable, "-c", "import time; time.sleep(60)", str(folder)]
    subprocess.Popen(sleep, start_new_session=True)
deadline = time.monotonic() + args.sleep
while time.monotonic() < deadline:
    time.sleep(0.01)
if "fail" in args.does:
    sys.exit("these are the last words")
if "once" in args.does and not (marker := args.runs_dir / "tried").exists():
    marker.touch()
    sys.exit("not the first time")
if "background" in args.does:  # as what a shell starts in the background: deaf to Ctrl-C
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end, it does"))
    time.sleep(60)
if "hang" in args.does:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)
if "killed" in args.does:
    os.kill(os.getpid(), signal.SIGKILL)
if "fill" in args.does:
    with open(folder / "big", "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
if "half" in args.does:
    (folder / "result.json").write_text(json.dumps({"eval/episodic_return": 1.0})[:10])
    sys.exit(0)
if "nan" in args.does:
    (folder / "result.json").write_text('{"eval/episodic_return": NaN}')
    sys.exit(0)
if "nothing" in args.does:
    sys.exit(0)
result = {"eval/episodic_return": float(args.seed), "seconds": args.sleep}
(folder / "result.part").write_text(json.dumps(result))
os.replace(folder / "result.part", folder / "result.json")
'''


def does_not_fit(*_):
    """Stands in for a function that writes a file: the disk is full."""
    raise OSError(errno.ENOSPC, "full", "a file")


def write_script(folder: Path, name: str = "fake.py", more: str = "") -> Path:
    """The fake script. `more` is a comment that makes its text another one."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(FAKE) + more)
    return path


def write_events(folder: Path, rows: list[tuple[int, dict[str, float]]]) -> Path:
    """A TensorBoard file of these (step, {name: value}), with zeros in place of checksums."""
    path = folder / "events.out.tfevents.1.fake"
    with path.open("wb") as file:
        for step, scalars in rows:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
            record = Event(step=step, wall_time=step / 8000, summary=Summary(value=values)).SerializeToString()
            file.write(struct.pack("<QI", len(record), 0) + record + bytes(4))
    return path


def write_run(folder: Path, args: dict, curve: np.ndarray, steps: np.ndarray, more: int = 0) -> Path:
    """A complete run folder with these greedy returns, (evaluations,), and `more` rows of other scalars."""
    run_dir = folder / f"run__{args['seed']}__1"
    run_dir.mkdir(parents=True)
    (run_dir / "args.json").write_text(json.dumps(args))
    rows = [(i, {"charts/episodic_return": 1.0, "charts/episodic_length": 2.0}) for i in range(more)]
    for step, value in zip(steps, curve, strict=True):
        scalars = {"eval/episodic_return": value, "eval/q_predicted": value / 2, "eval/q_realised": value / 3}
        rows.append((int(step), scalars))
    write_events(run_dir, rows)
    result = {"eval/episodic_return": float(curve[-1]), "best_return": float(max(curve)), "global_step": int(steps[-1])}
    result["returns"] = [float(curve[-1]) - 1, float(curve[-1]) + 1]  # of two episodes
    (run_dir / "result.json").write_text(json.dumps(result | {"seconds": 12.5, "sps": 8000.0, "updates": 100}))
    return run_dir


def write_suite(
    folder: Path, scripts: dict[str, float | Callable], env_ids: dict[str, tuple[float, float]], num_seeds: int,
    more: int = 0, suite: dict | None = None, evaluations: int = 20,
) -> Path:  # fmt: skip
    """A suite's folder as `run` leaves it.

    scripts: {name: skill from 0 to 1, or a function from its flags to a skill}; env_ids: {name: (worst, best) return}
    """
    for i, name in enumerate(scripts):
        write_script(folder / "scripts", name, f"# {i}\n")
    runs = expand(suite or {}, folder, [str(folder / "scripts" / name) for name in scripts], env_ids, num_seeds)
    suite_dir = folder / "runs" / "suite"
    write_plan(suite_dir, runs, (suite or {}).get("sweeps", {}))
    steps = np.linspace(100_000 / evaluations, 100_000, evaluations).astype(int)
    rng = np.random.default_rng(0)
    for run in runs:
        worst, best = next(scale for name, scale in env_ids.items() if name.startswith(run.env_id))
        good = scripts[Path(run.script).name]
        skill = np.clip((good(run.flags) if callable(good) else good) + rng.normal(0, 0.12), 0, 1.05)
        share = skill * (1 - np.exp(-np.linspace(0, 4, evaluations))) + rng.normal(0, 0.03, evaluations)
        args = {"env_id": run.env_id, "seed": run.seed, "exp_name": run.label, "gamma": 0.99, "eval_episodes": 20}
        args |= {"total_timesteps": 100_000, "eval_frequency": 5_000, "commit": "abc", "torch": "2.13", **run.flags}
        write_run(suite_dir / run.folder, args, np.minimum(worst + share * (best - worst), best), steps, more)
    return suite_dir
