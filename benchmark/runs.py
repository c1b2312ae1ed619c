"""Starting scripts as a user would, and reading what they leave in their run folders."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "results" / "data"  # a folder a script, beside the page that shows it
# How an event ends that says: a session has started, and what was logged from its step on is void.
START = b"\x3a\x02\x08\x01"


def as_arguments(name: str, value) -> list[str]:
    """A flag as given on a script's command line: True is --name, False --no-name, a list --name A B, else --name=A."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list | tuple):
        return [f"--{flag}", *map(str, value)]
    return [f"--{flag}={value}"]  # in one word, because a value may begin with a dash


def run_script(script: str | Path, runs_dir: Path, **flags) -> Path:
    """Runs `python script --flag value ...` and returns its run folder; CalledProcessError if it failed.

    A script is a file of this repository, or a whole path. Flags are as in Args: compile=True, hidden_sizes=(120, 84).
    """
    given = [part for name, value in flags.items() for part in as_arguments(name, value)]
    command = [sys.executable, str(ROOT / script), "--runs-dir", str(runs_dir), *given]
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
