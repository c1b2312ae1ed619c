"""Starting scripts as a user would, and reading what they leave in their run folders."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent


def run_script(script: str, runs_dir: Path, **flags) -> Path:
    """Runs `python script --flag value ...` and returns its run folder; CalledProcessError if it failed.

    Flags are given as in Args: learning_rate=1e-3, compile=True, hidden_sizes=(120, 84).
    """
    command = [sys.executable, str(ROOT / script), "--runs-dir", str(runs_dir)]
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            command.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            command += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Path(out.splitlines()[-1].split("see ")[-1])


def read_scalars(run_dir: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Every TensorBoard scalar of a run as {name: [(step, value, wall time in seconds), ...]}."""
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: [(event.step, event.value, event.wall_time) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def series(runs: list[dict], name: str) -> tuple[list[int], np.ndarray]:
    """Steps, and values (runs, steps), of a scalar that all of the runs, as read by read_scalars, logged alike."""
    return [step for step, _, _ in runs[0][name]], np.array([[value for _, value, _ in run[name]] for run in runs])


def complete_runs(runs_dir: Path) -> list[tuple[Path, dict, dict]]:
    """(folder, args.json, result.json) of every run that was completed."""
    return [
        (path.parent, json.loads((path.parent / "args.json").read_text()), json.loads(path.read_text()))
        for path in sorted(runs_dir.glob("*/result.json"))
    ]


def run_seeds(
    settings: dict[str, tuple[str, dict]], seeds: Iterable[int], runs_dir: Path, workers: int
) -> dict[str, dict[int, tuple[Path, dict]]]:
    """Runs every (script, flags) of `settings` with every seed, and returns {name: {seed: (folder, result.json)}}.

    What is complete already is not run again. A script whose text or flags have changed is another one and starts anew.
    Raises CalledProcessError, after the others have ended, if a run fails.
    """
    folders = {}
    for name, (script, flags) in settings.items():
        identity = hashlib.sha256((ROOT / script).read_bytes() + json.dumps(flags, sort_keys=True).encode()).hexdigest()
        folders[name] = runs_dir / f"{Path(script).stem}-{identity[:12]}"

    def complete(name: str) -> dict[int, tuple[Path, dict]]:
        return {args["seed"]: (folder, result) for folder, args, result in complete_runs(folders[name])}

    done = {name: complete(name) for name in settings}
    missing = [(name, seed) for seed in seeds for name in settings if seed not in done[name]]

    def run(job: tuple[str, int]) -> None:
        name, seed = job
        script, flags = settings[name]
        run_script(script, folders[name], seed=seed, **flags)

    with ThreadPoolExecutor(workers) as pool:
        list(tqdm(pool.map(run, missing), total=len(missing), desc="runs", disable=not missing))
    done = {name: complete(name) for name in settings}
    return {name: {seed: done[name][seed] for seed in seeds} for name in settings}
