"""What a run leaves on disk, and how to read it. Imports little, because every run's supervisor does so first.

The harness gives every run a folder:

    job.json       what to run, and how
    lock           held while the run's supervisor lives: a second harness leaves the run alone
    log.txt        output of every attempt
    attempts.json  how the attempts ended, if the last one failed
    */             the script's own run folder: args.json, events, result.json; with that last one it is complete
"""

import hashlib
import json
import math
import os
import struct
from pathlib import Path

from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "results" / "data"  # a folder a script, beside the page that shows it
RETURN = "eval/episodic_return"  # of the final weights: the one thing that every result must have
# How an event ends that says: a session has started, and what was logged from its step on is void.
SESSION_START = b"\x3a\x02\x08\x01"


def read_object(path: Path) -> dict | None:
    """The JSON object in a file; None if there is no such file or only a part of it."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a reader finds either the old one or the new one, whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """Writes JSON, whole."""
    write_whole(path, json.dumps(value, indent=1))


def finite(value) -> float | None:
    """A number of a JSON file as a float; None for anything else, NaN and the infinities."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def text_hash(script: Path) -> str:
    """SHA-256 of a script's text."""
    return hashlib.sha256(script.read_bytes()).hexdigest()


def why_incomplete(run_dir: Path) -> str:
    """What is wrong with a script's own run folder; "" if its run is complete."""
    result = read_object(run_dir / "result.json")
    if result is None:
        return "its result.json is not whole" if (run_dir / "result.json").exists() else "has no result.json"
    if finite(result.get(RETURN)) is None:
        return f"its result.json has no {RETURN}"
    return "" if read_object(run_dir / "args.json") is not None else "has no whole args.json"


def complete_folder(folder: Path) -> Path | None:
    """The script's run folder in a run's folder if the run is complete."""
    found = (path.parent for path in sorted(folder.glob("*/result.json")))
    return next((run_dir for run_dir in found if not why_incomplete(run_dir)), None)


def wrong_results(folder: Path) -> str:
    """What is wrong with the results in a run's folder; "" if there are none."""
    return "; ".join(dict.fromkeys(why_incomplete(path.parent) for path in sorted(folder.glob("*/result.json"))))


def write_attempts(folder: Path, attempts: list[dict]) -> None:
    """Notes in a run's folder, which is made, how its attempts ended: with that it counts as failed. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "attempts.json", {"attempts": attempts})


def read_attempts(folder: Path) -> list[dict]:
    """How the attempts of a failed run ended; [] if it has not failed."""
    attempts = (read_object(folder / "attempts.json") or {}).get("attempts")
    found = attempts if isinstance(attempts, list) else []
    return [attempt for attempt in found if isinstance(attempt, dict) and isinstance(attempt.get("reason"), str)]


def log_tail(folder: Path, lines: int = 15) -> str:
    """The end of a run's log, at most 4 kB of it; '' without one."""
    try:
        with open(folder / "log.txt", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.replace("\r", "\n").splitlines()[-lines:])


def is_locked(folder: Path) -> bool:
    """Whether a process is busy with this run, here or on another node that shares the file system."""
    if not (folder / "lock").exists():
        return False
    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except Timeout:
        return True
    except PermissionError:  # somebody else's suite: to take the lock one would have to write to it
        import fcntl  # not on Windows, where this cannot happen

        with open(folder / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            except BlockingIOError:
                return True


def read_events(path: Path, wanted: str = "") -> tuple[list, bool]:
    """The events of a TensorBoard file in which this text occurs or a session starts, and whether the file is whole.

    The framing is TFRecord's: length (8 bytes), checksum (4), the event, checksum (4). Checksums are not looked at:
    computing them in Python, as EventAccumulator does, takes twenty times as long as all the rest.
    """
    from google.protobuf.message import DecodeError  # slow to import
    from tensorboard.compat.proto.event_pb2 import Event

    data, needle, offset, events = path.read_bytes(), wanted.encode(), 0, []
    while offset + 16 <= len(data):
        (length,) = struct.unpack_from("<Q", data, offset)
        if offset + 16 + length > len(data):
            break
        record = data[offset + 12 : offset + 12 + length]
        offset += 16 + length
        if needle in record or record.endswith(SESSION_START):
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
