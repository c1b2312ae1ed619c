"""Runs on this machine: so many at a time, each under a supervisor of its own."""

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
    """Writes job.json into the run's folder, which is made; forgets that it failed before. Raises OSError.

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
    """The environment variables that give a script's numerical libraries so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(number))


def wandb_environment(suite_dir: Path, run: Run, folder: Path) -> dict[str, str]:
    """W&B reads these: one group for the suite; environment and seed are in the run's config, the script is its job."""
    tags = [text.replace(",", " ")[:64] for text in (run.label, run.env_id, f"seed {run.seed}")]
    named = {"WANDB_RUN_GROUP": suite_dir.name, "WANDB_JOB_TYPE": run.label[:64], "WANDB_TAGS": ",".join(tags)}
    return named | {"WANDB_DIR": str(folder)}


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the harness as Ctrl-C does."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def start(folder: Path) -> subprocess.Popen:
    """Starts the supervisor of a run. It ends its run when our end of its stdin closes, so when we vanish too."""
    command = [sys.executable, "-m", "benchmark.launch.supervise", str(folder), "--watch-stdin"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes)


def stop(processes: list[subprocess.Popen]) -> None:
    """Interrupts runs and waits until they have ended; a second Ctrl-C does not let them close their files."""
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
    """Why a run is not complete, noted in its folder where its supervisor could not do so. Raises OSError."""
    folder = suite_dir / run.folder
    if returncode == INTERRUPTED:
        return f"interrupted: {run.label} on {run.env_id}, seed {run.seed}"
    if not read_attempts(folder):
        reason = said.strip() or f"the process that watches over it was {how_it_ended(returncode)}"
        write_attempts(folder, [{"reason": reason}])
    return failure(suite_dir, run)


def run_local(suite_dir: Path, runs: list[Run], how: dict, workers: int, track: bool) -> None:
    """Runs what is not complete; what fails is left as failed.

    A run that another harness is busy with is left to it, and taken over if it does not complete it. Raises
    KeyboardInterrupt after the children have ended, BadInput if the disk is full.
    """
    done = {run.folder for run in runs if complete_folder(suite_dir / run.folder)}
    pending = deque((0.0, run) for run in runs if run.folder not in done)  # (not before this time, run)
    running: dict[subprocess.Popen, Run] = {}
    left = TimeLeft(suite_dir, runs)
    failed, unwritable, drawn, told = 0, "", 0.0, time.monotonic()
    bar = tqdm(total=len(runs), initial=len(done), desc="runs", dynamic_ncols=True, disable=None, bar_format=BAR)
    with bar, interruptible():
        try:
            while running or (pending and not unwritable):
                for _ in range(len(pending)):
                    if len(running) == workers or unwritable:
                        break
                    due, run = pending.popleft()
                    if due > time.monotonic():
                        pending.append((due, run))
                        continue
                    if is_locked(suite_dir / run.folder):
                        pending.append((time.monotonic() + LOCKED_POLL, run))
                        continue
                    if complete_folder(suite_dir / run.folder):  # by another harness, meanwhile
                        bar.update()
                        continue
                    try:
                        running[start(prepare(suite_dir, run, how, track))] = run
                    except OSError as error:
                        unwritable = f"{error.strerror}: {error.filename}"
                time.sleep(POLL)
                for process in [process for process in running if process.poll() is not None]:
                    run = running.pop(process)
                    _, said = process.communicate()
                    if process.returncode == LOCKED:
                        pending.append((time.monotonic() + LOCKED_POLL, run))
                        continue
                    bar.update()
                    if process.returncode == CANNOT_WRITE:
                        unwritable = said.strip()
                    elif process.returncode == DONE:
                        left.add(run, seconds_of(suite_dir, run))
                    else:
                        failed += 1
                        try:
                            bar.write(why_it_ended(suite_dir, run, process.returncode, said), file=sys.stderr)
                        except OSError as error:
                            unwritable = f"{error.strerror}: {error.filename}"
                if time.monotonic() > drawn + 1:
                    drawn = time.monotonic()
                    rest = [run for _, run in pending] + list(running.values())
                    said = f"{len(running)} running, {failed} failed, left: {left.text(rest, workers)}"
                    bar.set_postfix_str(said)
                    if bar.disable and drawn > told + 60:  # into a file: a line a minute
                        told = drawn
                        print(f"{len(runs) - len(rest)} of {len(runs)} runs, {said}", file=sys.stderr, flush=True)
        finally:
            stop(list(running))
    if unwritable:
        raise BadInput(f"cannot write what the runs need ({unwritable}); the same command goes on from here")


def run_seeds(
    settings: dict[str, tuple[str, dict]], seeds: Sequence[int], suite_dir: Path, workers: int
) -> dict[str, dict[int, tuple[Path, dict]]]:
    """Runs every (script, flags) of `settings` with every seed, and returns {name: {seed: (folder, result.json)}}.

    What is complete already is not run again. If a run fails, exits with a sentence once the others have ended.
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
    found = {key: complete_folder(suite_dir / run.folder) for key, run in runs.items()}
    if failed := [key for key, folder in found.items() if not folder]:
        sys.exit(f"error: {len(failed)} of {len(runs)} runs failed; the same command runs them again")
    return {
        name: {seed: (found[name, seed], read_object(found[name, seed] / "result.json")) for seed in seeds}
        for name in settings
    }
