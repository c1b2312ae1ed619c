"""Runs on this machine, at most `workers` at a time, each under its own supervisor."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from benchmark.launch.status import TimeLeft, failure, seconds_of
from benchmark.launch.supervise import CANNOT_WRITE, DONE, INTERRUPTED, LOCKED, how_it_ended
from benchmark.run_folder import (
    ROOT,
    complete_folder,
    is_locked,
    read_attempts,
    read_object,
    text_hash,
    write_attempts,
    write_json,
)
from benchmark.suite import BadInput, Run

POLL = 0.05  # seconds
LOCKED_POLL = 2.0  # seconds between looks at a run that another harness is busy with
BAR = "{desc} {n_fmt}/{total_fmt} |{bar}|{postfix}"


def prepare(suite_dir: Path, run: Run, how: dict, track: bool) -> Path:
    """Makes the run's folder, writes job.json there and deletes the note of an earlier failure. Raises OSError.

    how: time_limit (seconds), retries, environ (variables for the script).
    """
    folder = (suite_dir / run.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "attempts.json").unlink(missing_ok=True)
    command = run.command(folder, track)
    job = {"script": run.script, "sha256": run.sha256, "command": command, "cwd": os.getcwd(), **how}
    write_json(folder / "job.json", job | {"environ": how["environ"] | wandb_environment(suite_dir, run, folder)})
    return folder


def threads(number: int) -> dict[str, str]:
    """The environment variables that set the number of threads of a script's numerical libraries."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(number))


def wandb_environment(suite_dir: Path, run: Run, folder: Path) -> dict[str, str]:
    """Variables for W&B: the suite is the group, the script the job type; environment and seed are tags."""
    tags = [text.replace(",", " ")[:64] for text in (run.label, run.env_id, f"seed {run.seed}")]
    named = {"WANDB_RUN_GROUP": suite_dir.name, "WANDB_JOB_TYPE": run.label[:64], "WANDB_TAGS": ",".join(tags)}
    return named | {"WANDB_DIR": str(folder)}


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the harness like Ctrl-C."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def start(folder: Path) -> subprocess.Popen:
    """Starts the supervisor of a run. It ends the run when our end of its stdin closes, so also when we are killed."""
    command = [sys.executable, "-m", "benchmark.launch.supervise", str(folder), "--watch-stdin"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes)


def stop(processes: list[subprocess.Popen]) -> None:
    """Interrupts runs and waits for their end. After a second Ctrl-C they are killed before they close their files."""
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.stdin.close()
        for process in processes:
            process.wait()


def why_it_ended(suite_dir: Path, run: Run, returncode: int, said: str) -> str:
    """Why a run is not complete. Writes it into the run's folder if the supervisor could not. Raises OSError."""
    folder = suite_dir / run.folder
    if returncode == INTERRUPTED:
        return f"interrupted: {run.label} on {run.env_id}, seed {run.seed}"
    if not read_attempts(folder):
        reason = said.strip() or f"the process that watches over it was {how_it_ended(returncode)}"
        write_attempts(folder, [{"reason": reason}])
    return failure(suite_dir, run)


class Pool:
    """Waiting and running runs; at most `workers` run at the same time."""

    def __init__(self, suite_dir: Path, runs: list[Run], workers: int):
        self.suite_dir, self.runs, self.workers = suite_dir, runs, workers
        done = {run.folder for run in runs if complete_folder(suite_dir / run.folder)}
        self.pending = deque((0.0, run) for run in runs if run.folder not in done)  # (earliest start, run)
        self.running: dict[subprocess.Popen, Run] = {}
        self.unwritable = ""  # why the disk cannot be written; then nothing more is started
        self.failed, self.left = 0, TimeLeft(suite_dir, runs)
        self.drawn, self.told = 0.0, time.monotonic()  # last progress on a terminal, and in a file
        self.bar = tqdm(
            total=len(runs), initial=len(done), desc="runs", dynamic_ncols=True, disable=None, bar_format=BAR
        )

    def busy(self) -> bool:
        return bool(self.running or (self.pending and not self.unwritable))

    def later(self, run: Run) -> None:
        """Puts back a run on which another harness works."""
        self.pending.append((time.monotonic() + LOCKED_POLL, run))

    def start_what_is_due(self, how: dict, track: bool) -> None:
        for _ in range(len(self.pending)):
            if len(self.running) == self.workers or self.unwritable:
                return
            due, run = self.pending.popleft()
            if due > time.monotonic():
                self.pending.append((due, run))
            elif is_locked(self.suite_dir / run.folder):
                self.later(run)
            elif complete_folder(self.suite_dir / run.folder):  # by another harness, meanwhile
                self.bar.update()
            else:
                try:
                    self.running[start(prepare(self.suite_dir, run, how, track))] = run
                except OSError as error:
                    self.unwritable = f"{error.strerror}: {error.filename}"

    def take_what_ended(self) -> None:
        for process in [process for process in self.running if process.poll() is not None]:
            run = self.running.pop(process)
            _, said = process.communicate()
            if process.returncode == LOCKED:
                self.later(run)
                continue
            self.bar.update()
            if process.returncode == CANNOT_WRITE:
                self.unwritable = said.strip()
            elif process.returncode == DONE:
                self.left.add(run, seconds_of(self.suite_dir, run))
            else:
                self.failed += 1
                try:
                    self.bar.write(why_it_ended(self.suite_dir, run, process.returncode, said), file=sys.stderr)
                except OSError as error:
                    self.unwritable = f"{error.strerror}: {error.filename}"

    def say_how_far(self) -> None:
        """Progress: once a second on a terminal, one line a minute in a file."""
        now = time.monotonic()
        if now <= self.drawn + 1:
            return
        self.drawn = now
        rest = [run for _, run in self.pending] + list(self.running.values())
        said = f"{len(self.running)} running, {self.failed} failed, left: {self.left.text(rest, self.workers)}"
        self.bar.set_postfix_str(said)
        if self.bar.disable and now > self.told + 60:
            self.told = now
            print(f"{len(self.runs) - len(rest)} of {len(self.runs)} runs, {said}", file=sys.stderr, flush=True)


def run_local(suite_dir: Path, runs: list[Run], how: dict, workers: int, track: bool) -> None:
    """Starts all runs that are not complete, and waits for their end; failed runs stay failed.

    If another harness works on a run, waits for it, and starts the run if the other harness leaves it incomplete.
    Raises KeyboardInterrupt after the child processes have ended, and BadInput if the disk is full.
    """
    pool = Pool(suite_dir, runs, workers)
    with pool.bar, interruptible():
        try:
            while pool.busy():
                pool.start_what_is_due(how, track)
                time.sleep(POLL)
                pool.take_what_ended()
                pool.say_how_far()
        finally:
            stop(list(pool.running))
    if pool.unwritable:
        raise BadInput(f"cannot write what the runs need ({pool.unwritable}); the same command goes on from here")


def run_seeds(
    settings: dict[str, tuple[str, dict]], seeds: Sequence[int], suite_dir: Path, workers: int
) -> dict[str, dict[int, tuple[Path, dict]]]:
    """Runs each (script, flags) of `settings` with each seed, and returns {name: {seed: (folder, result.json)}}.

    Complete runs are not repeated. If a run fails, exits with a sentence after the other runs have ended. Exits with
    code 130 on Ctrl-C or SIGTERM.
    """
    runs = {}
    for seed in seeds:
        for name, (script, flags) in settings.items():
            rest = {flag: value for flag, value in flags.items() if flag != "env_id"}
            path = ROOT / script
            runs[name, seed] = Run(str(path), name, flags["env_id"], rest, seed, text_hash(path))
    how = {"time_limit": 3600.0, "retries": 0, "environ": threads(1)}
    try:
        run_local(suite_dir, list(runs.values()), how, workers, track=False)
    except BadInput as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    found = {key: complete_folder(suite_dir / run.folder) for key, run in runs.items()}
    if failed := [key for key, folder in found.items() if not folder]:
        sys.exit(f"error: {len(failed)} of {len(runs)} runs failed; the same command runs them again")
    return {
        name: {seed: (found[name, seed], read_object(found[name, seed] / "result.json")) for seed in seeds}
        for name in settings
    }
