"""Runs scripts × environments × seeds, on this machine or on a Slurm cluster, and reports the results.

python -m benchmark run --suite smoke
python -m benchmark run --scripts dqn.py my_dqn.py --env-ids CartPole-v1 Acrobot-v1 --num-seeds 10 --workers 2
python -m benchmark status smoke
python -m benchmark report smoke --output report
python -m benchmark report smoke --metric eval/info/is_success
python -m benchmark compare runs/before runs/after
"""

import math
import os
import shlex
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Union

import tyro
from tyro.conf import Positional, subcommand

from benchmark.launch import local, status
from benchmark.launch.slurm import Options, run_slurm
from benchmark.run_folder import RETURN
from benchmark.suite import BadInput, expand, find_suite, parse_argument, read_plan, read_suite, slug, write_plan


@dataclass
class Run:
    """Runs the missing runs of a suite, or of scripts × environments × seeds."""

    suite: str | None = None
    """a TOML file, or the name of one in benchmark/suites: smoke or classic, for instance"""
    scripts: tuple[str, ...] = ()
    """scripts to run (default: the suite's)"""
    env_ids: tuple[str, ...] = ()
    """environments to run the scripts on (default: the suite's)"""
    num_seeds: int | None = None
    """seeds of each script and environment (default: the suite's, or 10)"""
    first_seed: int | None = None
    """the first seed (default: the suite's, or 1)"""
    arguments: tuple[str, ...] = ()
    """flags of every run, as NAME=VALUE: learning_rate=1e-3 hidden_sizes=[64,64] loss=huber"""
    peers: bool = False
    """run the suite's peers too, for example Stable-Baselines3"""
    name: str | None = None
    """folder of these runs in runs-dir (default: the suite's name, or "default")"""
    runs_dir: Path = Path("runs")
    """where the runs are kept"""
    workers: int = 1
    """runs at the same time (local)"""
    threads: int = 1
    """threads of a run's numerical libraries (OMP_NUM_THREADS; dqn.py and its rungs always use one)"""
    time_limit: float | None = None
    """minutes after which a run is stopped (default: the suite's, or 120)"""
    retries: int = 1
    """more attempts after a failed one"""
    track: bool = False
    """log to Weights & Biases too, all runs in one group; `status` lists offline runs"""
    dry_run: bool = False
    """print the commands of the missing runs, and start nothing"""
    launcher: Literal["local", "slurm"] = "local"
    """start the runs on this machine, or as a Slurm job array"""
    slurm: Options = field(default_factory=Options)
    """options of the job array"""


@dataclass
class Status:
    """Shows how many runs are done, running, failed and missing, the time left, and how to upload offline W&B runs."""

    suite: Positional[str]
    """name of the suite, or its folder"""
    runs_dir: Path = Path("runs")
    """where the runs are kept"""
    workers: int = 1
    """runs at the same time, to estimate the time left"""


@dataclass
class Report:
    """Writes index.html, report.md, figures and CSV files of a suite, of all runs in a folder, or of a report."""

    sources: Positional[tuple[str, ...]]
    """name of a suite, or folders with runs or with a report"""
    output: Path = Path("report")
    """folder to write into"""
    page: Path | None = None
    """a page of Markdown that gets the summary as a part between marks"""
    metric: str = RETURN
    """the number of result.json to report, eval/info/is_success for instance"""
    runs_dir: Path = Path("runs")
    """where the runs of suites are kept"""


@dataclass
class Compare:
    """Compares two sets of runs, for example the original and your change, and gives the verdict."""

    a: Positional[str]
    """name of a suite, or a folder"""
    b: Positional[str]
    """the suite or folder to compare it with"""
    output: Path = Path("report")
    """folder to write the report into"""
    runs_dir: Path = Path("runs")
    """where the runs of suites are kept"""


def suite_folder(name: str, runs_dir: Path) -> Path:
    """The folder of a suite's runs, from its path, its name or its TOML file."""
    if (Path(name) / "plan.json").is_file():
        return Path(name)
    return runs_dir / slug(Path(name).stem if name.endswith(".toml") else name)


def run(args: Run) -> int:
    """Exit code 0 if all runs are complete, 1 if some failed."""
    path = find_suite(args.suite) if args.suite else None
    suite = read_suite(path) if path else {}
    given = dict(map(parse_argument, args.arguments))
    runs = expand(
        suite, path.parent if path else Path.cwd(), args.scripts, args.env_ids, args.num_seeds, args.first_seed,
        given, args.peers,
    )  # fmt: skip
    minutes = suite.get("time_limit", 120.0) if args.time_limit is None else args.time_limit
    if min(args.workers, args.threads) < 1 or args.retries < 0 or not 0 < minutes < math.inf:
        raise BadInput("--workers and --threads must be at least 1, --retries at least 0, --time-limit above 0, finite")
    suite_dir = args.runs_dir / slug(args.name or (path.stem if path else "default"))
    if args.dry_run:
        missing = [each for each in runs if status.state(suite_dir, each) != "done"]
        for each in missing:
            print(shlex.join(each.command(suite_dir / each.folder, args.track)))
        if not missing:
            print(f"nothing would be started: all {len(runs)} runs are done", file=sys.stderr)
        return 0
    try:
        write_plan(suite_dir, runs, suite.get("sweeps", {}))
    except OSError as error:
        raise BadInput(f"cannot write into {suite_dir}: {error.strerror}") from error

    how = {"time_limit": 60.0 * minutes, "retries": args.retries, "environ": local.threads(args.threads)}
    if args.launcher == "slurm":
        run_slurm(suite_dir, runs, how, args.track, args.slurm)
    else:
        local.run_local(suite_dir, runs, how, args.workers, args.track)
    print(status.summary(suite_dir, runs, args.workers))
    return 0 if set(status.states(suite_dir, runs).values()) == {"done"} else 1


def show_status(args: Status) -> int:
    if args.workers < 1:
        raise BadInput("--workers must be at least 1")
    suite_dir = suite_folder(args.suite, args.runs_dir)
    print(status.summary(suite_dir, read_plan(suite_dir)[0], args.workers))
    return 0


def source_folder(name: str, runs_dir: Path) -> Path:
    """The folder of a suite, or the given folder."""
    folder = suite_folder(name, runs_dir)
    return folder if (folder / "plan.json").is_file() or not Path(name).is_dir() else Path(name)


def report(args: Report) -> int:
    """Exit code 1 if runs failed or are missing; the report is written also then."""
    from benchmark.report import records  # here, because matplotlib takes a second to import and `run` does not need it
    from benchmark.report.write import Page, write_report

    if not args.sources:
        raise BadInput("give the name of a suite, or folders with runs")
    folders = {folder.resolve(): folder for folder in (source_folder(name, args.runs_dir) for name in args.sources)}
    found = records.together({folder: records.about(folder, args.metric) for folder in folders.values()})
    command = f"python -m benchmark report {shlex.join(args.sources)} --output {args.output} --page {args.page}"
    if args.metric != RETURN:
        found.title += f": {args.metric}"
        command += f" --metric {args.metric}"
    page = Page(args.page, command) if args.page else None
    return written(lambda: write_report(found, args.output, page=page), found, args.output)


def compare(args: Compare) -> int:
    """Exit code 1 if runs failed or are missing; the report is written also then."""
    from benchmark.report import records
    from benchmark.report.write import write_report

    a, b = folders = [source_folder(name, args.runs_dir) for name in (args.a, args.b)]
    if a.resolve() == b.resolve():
        raise BadInput(f"{a} cannot be compared with itself")
    names = records.distinct_names(folders)
    found, pairs = records.side_by_side(*(records.about(folder, RETURN) for folder in (a, b)), names[a], names[b])
    return written(lambda: write_report(found, args.output, pairs), found, args.output)


def written(write, found, output: Path) -> int:
    """Writes a report, prints its verdicts and its path, and returns the exit code."""
    try:
        verdicts = write()
    except OSError as error:
        raise BadInput(f"cannot write {error.filename or output}: {error.strerror}") from error
    print("\n".join([*verdicts, f"report: {output / 'index.html'}"]))
    return 0 if len(found.done) == len(found.records) else 1


def main() -> int:
    """The command line. Exit code 1: some runs failed or are missing; 2: bad input; 130: Ctrl-C."""
    commands = {Run: run, Status: show_status, Report: report, Compare: compare}
    named = [Annotated[command, subcommand(command.__name__.lower())] for command in commands]
    try:
        if os.name == "nt":
            raise BadInput("the harness starts and ends processes as Linux and macOS do; on Windows it runs in WSL")
        flags = Counter(argument.partition("=")[0] for argument in sys.argv if argument.startswith("--"))
        if twice := [flag for flag, times in flags.items() if times > 1]:  # tyro would take the last one
            raise BadInput(f"{twice[0]} is given twice: give all its values behind one")
        args = tyro.cli(Union[tuple(named)], description=__doc__)  # noqa: UP007
        return commands[type(args)](args)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
