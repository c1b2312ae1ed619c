"""Supervises one run, from the job.json in its folder. This process ends with the run, and with the harness.

    python -m benchmark.launch.supervise FOLDER [--watch-stdin]
    python -m benchmark.launch.supervise --from LIST.json INDEX      # a task of a Slurm array

`python -m benchmark run` starts one supervisor for every run, here or on a cluster. So lock, log, time limit, retries
and the end of all child processes are the same everywhere. It imports little, to start fast.

Exit code 0: complete; 1: failed; 75: another process has the lock; 130: interrupted; 74: the folder cannot be written.
"""

import contextlib
import ctypes
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark.origin import own_origin
from benchmark.run_folder import complete_folder, read_object, text_hash, write_attempts, write_json, wrong_results

DONE, FAILED, CANNOT_WRITE, LOCKED, INTERRUPTED = 0, 1, 74, 75, 130
GRACE = 10.0  # seconds that a script gets to end by itself after an interrupt
POLL = 0.05  # seconds
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    """Calls Linux's prctl; does nothing on other systems."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Stop:
    """Whether to end the run: `asked` by a signal, then it has time to close its files; `alone` if the harness is gone,
    then it has not.
    """

    def __init__(self, watch_stdin: bool):
        self.watch_stdin, self.asked, self.alone = watch_stdin, False, False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.ask)

    def ask(self, *_) -> None:
        self.asked = True

    def wait(self, seconds: float) -> None:
        """Sleeps. Wakes up if the harness vanishes: the harness holds the other end of stdin and never writes."""
        if not self.watch_stdin or self.alone:
            time.sleep(seconds)
        elif select.select([0], [], [], seconds)[0]:
            self.alone = True

    def __bool__(self) -> bool:
        return self.asked or self.alone


def kill_all(process: subprocess.Popen) -> None:
    """Kills the script and all processes that it started, also outside its process group, and waits for their end."""
    import psutil  # only here: it takes as long to import as all the rest together

    with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while children := psutil.Process().children(recursive=True):  # orphans become our children (subreaper)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=1)


def end(process: subprocess.Popen, stop: Stop) -> None:
    """Asks the script to end and gives it time to close its files, unless the harness has vanished.

    Sends SIGTERM, because a process that a shell started in the background ignores Ctrl-C.
    """
    if not stop.alone:
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while process.poll() is None and not stop.alone and time.monotonic() < deadline:
            stop.wait(POLL)


def how_it_ended(returncode: int) -> str:
    """The exit status of a process in words."""
    if returncode >= 0:
        return f"exit code {returncode}"
    memory = ", as happens when memory runs out" if returncode == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-returncode).name}{memory}"


def command_of(job: dict, folder: Path) -> list[str]:
    """The command of a run; if an earlier attempt left a checkpoint and its script has --resume, it continues there."""
    newest = sorted(folder.glob("*/checkpoint.pt"), key=lambda path: path.stat().st_mtime)[-1:]
    for path in newest:
        if "resume" in (read_object(path.with_name("args.json")) or {}):
            return [*job["command"][:2], f"--resume={path.parent}"]
    return job["command"]


def attempt(job: dict, folder: Path, stop: Stop, title: str) -> str:
    """Runs the script once; returns the reason of a bad end, or ''. Raises OSError (disk full, ...)."""
    script = Path(job["script"])
    if not script.is_file() or text_hash(script) != job["sha256"]:
        return "the script was changed or removed after this suite was started"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "origin.json", own_origin(script.parent))
    supervisor, command = os.getpid(), command_of(job, folder)

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # the supervisor died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    with open(folder / "log.txt", "ab", buffering=0) as log:
        log.write(f"=== {time.strftime('%Y-%m-%d %H:%M:%S')}, {title}: {shlex.join(command)}\n".encode())
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=job["cwd"], env=os.environ | job["environ"], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, preexec_fn=in_child,
        )  # fmt: skip
        reason = ""
        try:
            while process.poll() is None and not stop:
                if time.monotonic() - started > job["time_limit"]:
                    reason = f"stopped after its time limit of {job['time_limit']:g} s"
                    break
                stop.wait(POLL)
            if process.poll() is None:
                end(process, stop)
        finally:
            kill_all(process)
        if not reason and process.returncode:
            reason = how_it_ended(process.returncode)
        if reason and not stop:
            log.write(f"=== {reason}\n".encode())
    return reason


def run(folder: Path, stop: Stop) -> int:
    """Starts attempts until the run is complete or no retry is left; returns the exit code."""
    job = read_object(folder / "job.json")
    if job is None:
        print(f"{folder / 'job.json'} is missing or not whole", file=sys.stderr)
        return FAILED
    attempts = []
    for number in range(1, job["retries"] + 2):
        if complete_folder(folder):
            break
        reason = attempt(job, folder, stop, f"attempt {number} of {job['retries'] + 1}")
        if complete_folder(folder):
            break
        if stop:
            (folder / "attempts.json").unlink(missing_ok=True)  # it has not failed: attempts are left
            return INTERRUPTED
        reason = reason or wrong_results(folder) or "ended without a result.json"
        attempts.append({"reason": reason})
        write_attempts(folder, attempts)
    else:
        return FAILED
    (folder / "attempts.json").unlink(missing_ok=True)
    return DONE


def main() -> int:
    if sys.argv[1] == "--from":
        listed = Path(sys.argv[2])
        folder = Path(json.loads(listed.read_text())[int(sys.argv[3])])
    else:
        folder = Path(sys.argv[1])
    stop = Stop("--watch-stdin" in sys.argv)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        with FileLock(folder / "lock", timeout=1):
            return run(folder, stop)
    except Timeout:
        return LOCKED
    except FileNotFoundError as error:  # the run's folder was removed
        print(f"{error.strerror}: {error.filename or folder}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"{error.strerror or error}: {error.filename or folder}", file=sys.stderr)
        return CANNOT_WRITE


if __name__ == "__main__":
    sys.exit(main())
