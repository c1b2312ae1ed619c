"""Runs as tasks of a Slurm job array.

The missing runs are submitted as one array, or as several if Slurm's MaxArraySize is smaller. A task is
`python -m benchmark.launch.supervise`, as on one machine. A run is complete if it has its result.json; a task that left
the queue without it is submitted again. All nodes must see the runs folder and this repository.
"""

import itertools
import json
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmark.launch.local import BAR, interruptible, prepare
from benchmark.launch.status import TimeLeft, failure, seconds_of
from benchmark.run_folder import ROOT, complete_folder, is_locked, write_json
from benchmark.suite import BadInput, Run, slug

PATIENCE = 10.0  # seconds before a Slurm command is tried again


@dataclass(frozen=True)
class Options:
    """Options of the job array, for --launcher slurm."""

    partition: str | None = None
    """partition to submit to (default: Slurm's)"""
    time: str | None = None
    """time limit of a task in Slurm's format (default: the time limit of all attempts together)"""
    cpus: int = 1
    """CPUs of a task"""
    gpus: int = 0
    """GPUs of a task"""
    memory: str | None = None
    """memory of a task, 4G for instance (default: Slurm's)"""
    array_limit: int | None = None
    """most tasks at the same time (default: Slurm's limit)"""
    submissions: int = 5
    """most submissions of a run whose task dies"""
    poll: float = 5.0
    """seconds between two questions to the queue"""
    sbatch: str = ""
    """more options for sbatch, written as in a shell: --slurm.sbatch="--account=mine --constraint=a100" for two"""


def script_text(listed: Path) -> str:
    """The batch script of an array; task i runs the i-th folder of this JSON list."""
    task = [sys.executable, "-m", "benchmark.launch.supervise", "--from", str(listed)]
    return f'#!/bin/bash\ncd {shlex.quote(str(ROOT))} || exit\nexec {shlex.join(task)} "$SLURM_ARRAY_TASK_ID"\n'


def command(options: Options, job_name: str, count: int, log: str, seconds: float, script: Path) -> list[str]:
    """sbatch's argument list, with --requeue: a task whose node dies starts again on another node. Raises BadInput."""
    try:
        further = shlex.split(options.sbatch)
    except ValueError as error:
        raise BadInput(f"--slurm.sbatch {options.sbatch} cannot be read: {error}") from error
    limit = f"%{options.array_limit}" if options.array_limit else ""
    hours, rest = divmod(round(seconds) + 60, 3600)
    given = ["--parsable", "--requeue", "--open-mode=append", f"--job-name={job_name}", f"--output={log}"]
    given += [f"--array=0-{count - 1}{limit}", f"--cpus-per-task={options.cpus}", "--ntasks=1"]
    given += [f"--time={options.time or f'{hours}:{rest // 60:02}:{rest % 60:02}'}"]
    given += [f"--partition={options.partition}"] if options.partition else []
    given += [f"--gres=gpu:{options.gpus}"] if options.gpus else []
    given += [f"--mem={options.memory}"] if options.memory else []
    return ["sbatch", *given, *further, str(script)]


def ask(arguments: list[str], tries: int = 1) -> str:
    """The output of a Slurm command. Raises BadInput if Slurm is missing, or if it refuses `tries` times in a row."""
    for left in reversed(range(tries)):
        try:
            return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip()
        except FileNotFoundError as error:
            raise BadInput(f"--launcher slurm needs {arguments[0]}, which is not here") from error
        except subprocess.CalledProcessError as error:
            if not left:
                raise BadInput(f"{arguments[0]} failed: {' '.join(error.stderr.split())}") from error
            time.sleep(PATIENCE)


def max_array_size() -> int:
    """The largest number of tasks in one array."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]))
    return int(found[1]) if found else 1001


def numbered(folder: Path) -> Path:
    """Makes the next free N.json; two harnesses never get the same one."""
    for number in itertools.count(1):
        try:
            (folder / f"{number}.json").touch(exist_ok=False)
            return folder / f"{number}.json"
        except FileExistsError:
            continue


def submit(suite_dir: Path, folders: list[Path], seconds: float, options: Options) -> None:
    """Submits these run folders as arrays, and writes down the job ids. Raises BadInput."""
    most = max_array_size() - 1
    for chunk in [folders[i : i + most] for i in range(0, len(folders), most)]:
        own = (suite_dir / "slurm").resolve()
        own.mkdir(exist_ok=True)
        listed = numbered(own)
        number, script = listed.stem, listed.with_suffix(".sh")
        write_json(listed, [str(folder) for folder in chunk])
        script.write_text(script_text(listed))
        log = str(own / f"{number}.log").replace("%", "%%")
        job = ask(command(options, slug(suite_dir.name), len(chunk), log, seconds, script))
        (own / f"{number}.job").write_text(job.split(";")[0])


def queued(suite_dir: Path) -> dict[str, str]:
    """{run folder's name: job id} of pending and running tasks. Raises BadInput if Slurm does not answer."""
    listed = ask(["squeue", "--me", "-h", "-r", "-o", "%F %K"], tries=10)  # a busy controller may not answer at once
    tasks = {tuple(line.split()) for line in listed.splitlines()}
    found = {}
    for noted in (suite_dir / "slurm").glob("*.job"):
        for index, folder in enumerate(json.loads(noted.with_suffix(".json").read_text())):
            if (noted.read_text(), str(index)) in tasks:
                found[Path(folder).name] = noted.read_text()
    return found


def run_slurm(suite_dir: Path, runs: list[Run], how: dict, track: bool, options: Options) -> None:
    """Submits the runs that are neither complete nor queued, and again if they die, until each is complete or failed.

    Ctrl-C ends only the watching; the tasks stay in Slurm. Raises BadInput if Slurm refuses or the disk is full.
    """
    left = TimeLeft(suite_dir, runs)
    submitted = dict.fromkeys((run.folder for run in runs), 0)
    seconds = how["time_limit"] * (how["retries"] + 1)
    rest = [run for run in runs if not complete_folder(suite_dir / run.folder)]
    waiting = queued(suite_dir)
    for run in rest:
        if run.folder not in waiting:  # a run that failed earlier is tried again
            (suite_dir / run.folder / "attempts.json").unlink(missing_ok=True)
    bar = tqdm(total=len(runs), desc="runs", dynamic_ncols=True, disable=None, bar_format=BAR)
    with bar, interruptible():
        try:
            while True:
                waiting = queued(suite_dir)
                gone = [run for run in rest if run.folder not in waiting]  # they left the queue or never were in it
                for run in gone:
                    if complete_folder(suite_dir / run.folder):
                        left.add(run, seconds_of(suite_dir, run))
                        rest.remove(run)
                    elif failed := failure(suite_dir, run):
                        bar.write(failed, file=sys.stderr)
                        rest.remove(run)
                    elif submitted[run.folder] == options.submissions:
                        bar.write(f"died {options.submissions} times: {run.label} on {run.env_id}, seed {run.seed}")
                        rest.remove(run)
                again = [run for run in gone if run in rest and not is_locked(suite_dir / run.folder)]
                if again:
                    folders = [prepare(suite_dir, run, how, track) for run in again]
                    submit(suite_dir, folders, seconds, options)
                    for run in again:
                        submitted[run.folder] += 1
                if not rest:
                    return
                bar.n = len(runs) - len(rest)
                bar.set_postfix_str(f"{len(rest)} in the queue, left: {left.text(rest, len(waiting) or 1)}")
                time.sleep(options.poll)
        except OSError as error:
            raise BadInput(f"cannot write what the runs need ({error.strerror}: {error.filename})") from error
        except KeyboardInterrupt:
            jobs = " ".join(sorted(set(waiting.values())))
            print(f"the tasks stay in Slurm's queue; to cancel them: scancel {jobs}", file=sys.stderr)
            raise
