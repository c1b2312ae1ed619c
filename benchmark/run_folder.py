"""Reads and writes the files of a run. Imports little, because the supervisor of every run imports it first.

The harness gives every run a folder:

    job.json       the command, its time limit and its retries
    lock           held while the run's supervisor lives; a second harness then leaves the run alone
    log.txt        output of all attempts
    origin.json    commit, versions and machine of the last attempt
    attempts.json  the end of each attempt, if the last one failed
    */             the script's own run folder: args.json, events, error.txt if it ended with an error, and result.json;
                   a run with result.json is complete, and one with checkpoint.pt continues there if its script can
"""

import hashlib
import json
import math
import os
import struct
import time
from pathlib import Path

from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "results" / "data"  # one folder for each script, beside its page
ABANDONED = 600  # seconds
RETURN = "eval/episodic_return"  # of the final weights; every result must have it
# The last bytes of the event "a session has started". It makes void all that was logged from its step on.
SESSION_START = b"\x3a\x02\x08\x01"


def read_object(path: Path) -> dict | None:
    """The JSON object in a file; None if there is no such file or only a part of it."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_whole(path: Path, text: str) -> None:
    """Writes a file; a reader finds either the old text or the new text, never a part."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """Writes a JSON file, as `write_whole` does."""
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
    """Why the run of a script's own run folder is not complete; "" if it is complete."""
    result = read_object(run_dir / "result.json")
    if result is None:
        return "its result.json is not whole" if (run_dir / "result.json").exists() else "has no result.json"
    if finite(result.get(RETURN)) is None:
        return f"its result.json has no {RETURN}"
    return "" if read_object(run_dir / "args.json") is not None else "has no whole args.json"


def why_failed(run_dir: Path) -> tuple[str, str]:
    """Why a run without a complete result failed, and the traceback if the script left one; ("", "") if it may go on.

    A script that ends with an error leaves a sentence or a traceback in error.txt. If nobody wrote to the folder for
    ABANDONED seconds, the run was killed.
    """
    try:
        text = (run_dir / "error.txt").read_text(errors="replace").strip()
        if text.startswith("Traceback"):
            return text.splitlines()[-1], text
        sentence, _, more = text.partition("\n")
        return sentence or "its error.txt is empty", more.strip()
    except OSError:
        written = max((path.stat().st_mtime for path in run_dir.rglob("*") if path.exists()), default=0.0)
        killed = f"{why_incomplete(run_dir)}, and nobody wrote to it for {ABANDONED // 60} minutes"
        return (killed if time.time() - written > ABANDONED else ""), ""


def read_args(run_dir: Path) -> dict | None:
    """args.json in a script's own run folder, with the origin that the harness noted beside the folder.

    The script's own entries win: older scripts noted commit and machine there. None if there is no whole args.json.
    """
    args = read_object(run_dir / "args.json")
    if args is None:
        return None
    noted = read_object(run_dir.parent / "origin.json") or {}
    versions = noted.pop("versions", None)
    if isinstance(versions, dict) and "python" not in args:
        noted |= versions
    return noted | args


def complete_folder(folder: Path) -> Path | None:
    """The script's own folder inside a run's folder; None if the run is not complete."""
    found = (path.parent for path in sorted(folder.glob("*/result.json")))
    return next((run_dir for run_dir in found if not why_incomplete(run_dir)), None)


def wrong_results(folder: Path) -> str:
    """The faults of the results in a run's folder; "" if there are no results."""
    return "; ".join(dict.fromkeys(why_incomplete(path.parent) for path in sorted(folder.glob("*/result.json"))))


def write_attempts(folder: Path, attempts: list[dict]) -> None:
    """Makes a run's folder and writes the end of its attempts there: the run now counts as failed. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "attempts.json", {"attempts": attempts})


def read_attempts(folder: Path) -> list[dict]:
    """The ends of a failed run's attempts; [] if it has not failed."""
    attempts = (read_object(folder / "attempts.json") or {}).get("attempts")
    found = attempts if isinstance(attempts, list) else []
    return [attempt for attempt in found if isinstance(attempt, dict) and isinstance(attempt.get("reason"), str)]


def log_tail(folder: Path, lines: int = 15) -> str:
    """The last lines of a run's log, at most 4 kB; '' without a log."""
    try:
        with open(folder / "log.txt", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.replace("\r", "\n").splitlines()[-lines:])


def is_locked(folder: Path) -> bool:
    """Whether a process works on this run, on this machine or on another node with the same file system."""
    if not (folder / "lock").exists():
        return False
    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except Timeout:
        return True
    except PermissionError:  # another user's suite: FileLock needs write access, flock does not
        import fcntl  # missing on Windows, where this cannot happen

        with open(folder / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            except BlockingIOError:
                return True


def read_events(path: Path, wanted: str = "") -> tuple[list, bool]:
    """The events of a TensorBoard file that contain `wanted` or start a session, and whether the file is whole.

    A record of the file is length (8 bytes), checksum (4), the event, checksum (4). Checksums are ignored: computing
    them in Python, as EventAccumulator does, takes twenty times as long as the rest.
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
    """A run's TensorBoard scalars whose names begin with `prefix`: {name: [(step, value, wall time in seconds), ...]}.

    A file that breaks off counts up to there and is added to `broken`. Steps that a killed run logged, and logged again
    after it was resumed, count once, as in TensorBoard.
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
