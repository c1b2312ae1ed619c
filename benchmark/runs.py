"""Starting scripts as a user would, and reading what they leave in their run folders."""

import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
START = (
    b"\x3a\x02\x08\x01"  # how an event ends that says: a session has started, what was logged from its step on is void
)


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


def read_events(path: Path, wanted: str = "") -> tuple[list[Event], bool]:
    """The events of a TensorBoard file in which this text occurs or a session starts, and whether the file is whole.

    The framing is TFRecord's: length (8 bytes), checksum (4), the event, checksum (4). Checksums are not looked at:
    computing them in Python, as EventAccumulator does, takes twenty times as long as all the rest.
    """
    data, needle, offset, events = path.read_bytes(), wanted.encode(), 0, []
    while offset + 16 <= len(data):
        (length,) = struct.unpack_from("<Q", data, offset)
        if offset + 16 + length > len(data):
            break
        record = data[offset + 12 : offset + 12 + length]
        offset += 16 + length
        if needle in record or record.endswith(START):
            try:
                events.append(Event.FromString(record))
            except DecodeError:
                return events, False
    return events, offset == len(data)


def read_scalars(run_dir: Path, prefix: str = "", broken: list[Path] | None = None) -> dict[str, list[tuple]]:
    """The TensorBoard scalars of a run whose names begin so, as {name: [(step, value, wall time in seconds), ...]}.

    A file that breaks off counts as far as it goes, and is added to `broken`. What a run logged before it was killed
    and again after it was resumed counts once, as in TensorBoard.
    """
    scalars = {}
    for path in sorted(run_dir.glob("events.out.tfevents.*")):
        events, whole = read_events(path, prefix)
        if not whole and broken is not None:
            broken.append(path)
        for event in events:
            if event.session_log.status == event.session_log.START:
                scalars = {name: [row for row in rows if row[0] < event.step] for name, rows in scalars.items()}
            for value in event.summary.value:
                if value.HasField("simple_value") and value.tag.startswith(prefix):
                    scalars.setdefault(value.tag, []).append((event.step, value.simple_value, event.wall_time))
    return scalars


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
