"""The state of each run of a suite, and the time that the rest will take."""

import shlex
import statistics
from collections import Counter
from pathlib import Path

from benchmark.run_folder import complete_folder, finite, is_locked, log_tail, read_attempts, read_object
from benchmark.suite import Run

STATES = ("done", "running", "failed", "missing")


def state(suite_dir: Path, run: Run) -> str:
    """One of STATES."""
    folder = suite_dir / run.folder
    if complete_folder(folder):
        return "done"
    if is_locked(folder):
        return "running"
    return "failed" if read_attempts(folder) else "missing"


def states(suite_dir: Path, runs: list[Run]) -> dict[str, str]:
    """{folder name: state} of every run."""
    return {run.folder: state(suite_dir, run) for run in runs}


def seconds_of(suite_dir: Path, run: Run) -> float | None:
    """The wall time in seconds in a complete run's result.json; the script's start is not included."""
    found = complete_folder(suite_dir / run.folder)
    return finite(read_object(found / "result.json").get("seconds")) if found else None


class TimeLeft:
    """The expected seconds of the remaining runs, from the complete runs."""

    def __init__(self, suite_dir: Path, runs: list[Run]):
        self.known = {}
        for run in runs:
            self.add(run, seconds_of(suite_dir, run))

    def add(self, run: Run, seconds: float | None) -> None:
        """Adds the seconds of a complete run."""
        if seconds is not None:
            for key in ((run.label, run.env_id), (run.env_id,), ()):
                self.known.setdefault(key, []).append(seconds)

    def of(self, run: Run) -> float | None:
        """The median of this contender here, else of this environment, else of all; None before any run is complete."""
        for key in ((run.label, run.env_id), (run.env_id,), ()):
            if key in self.known:
                return statistics.median(self.known[key])
        return None

    def text(self, runs: list[Run], workers: int) -> str:
        """The time that these runs will take, in words."""
        expected = [self.of(run) for run in runs]
        if not runs:
            return "nothing"
        if None in expected:
            return "unknown until a run is complete"
        return f"about {duration(max(sum(expected) / workers, max(expected)))} with {workers} at a time"


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def failure(suite_dir: Path, run: Run) -> str:
    """The name of a failed run, the end of its last attempt and of its log; '' if it has not failed."""
    attempts = read_attempts(suite_dir / run.folder)
    if not attempts:
        return ""
    log = suite_dir / run.folder / "log.txt"
    tried = f"{len(attempts)} attempt{'s' if len(attempts) > 1 else ''}"
    lines = [f"failed: {run.label} on {run.env_id}, seed {run.seed}: {attempts[-1]['reason']} ({tried}, see {log})"]
    tail = [line for line in log_tail(log.parent).splitlines() if not line.startswith("=== ")]
    return "\n".join(lines + [f"    {line}" for line in tail[-3:]])


def unsynced(suite_dir: Path) -> list[Path]:
    """The folders of W&B runs that were logged offline and are not uploaded."""
    found = sorted(suite_dir.glob("*/wandb/offline-run-*"))
    return [path for path in found if not list(path.glob("*.synced"))]


def summary(suite_dir: Path, runs: list[Run], workers: int) -> str:
    """The text that `status` prints."""
    of = states(suite_dir, runs)
    count = Counter(of.values())
    lines = [", ".join(f"{count[name]} {name}" for name in STATES) + f" of {len(runs)} runs in {suite_dir}"]
    rest = [run for run in runs if of[run.folder] != "done"]
    lines.append(f"time left: {TimeLeft(suite_dir, runs).text(rest, workers)}")
    lines += [failure(suite_dir, run) for run in rest if of[run.folder] == "failed"]
    if folders := unsynced(suite_dir):
        lines.append(f"{len(folders)} W&B runs were logged offline; to upload them:")
        lines.append(f"    wandb sync {shlex.quote(str(suite_dir))}/*/wandb/offline-run-*")
    return "\n".join(lines)
