"""Tries environment packages that others wrote: installs each one, plays at random, trains, and writes the page.

python -m benchmark.third_party                        # every package of third_party.toml that has no result yet
python -m benchmark.third_party popgym highway-env     # these packages, again
python -m benchmark.third_party --page-only            # only the tables of docs/environments.md

Each package gets its own virtual environment. Behind its own packages it sees those of this Python. A package that asks
for another PyTorch, Gymnasium or NumPy fails to install, unless the table says `pip = ["--no-deps"]`.
"""

import csv
import io
import json
import shlex
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tyro
from tyro.conf import Positional

from benchmark.package_venv import SHARED, install, last_line, run
from benchmark.run_folder import DATA, ROOT, read_object, read_scalars, write_whole
from benchmark.third_party_page import write_page

TABLE, PAGE = Path(__file__).with_suffix(".toml"), ROOT / "docs" / "environments.md"
RESULTS = DATA / "environments" / "environments.csv"
SCRIPTS = {  # steps to train, and the last flags of the command
    "dqn.py": (2_000, "--learning-starts 200 --batch-size 64 --final-eval-episodes 10"),
    "drqn.py": (1_500, "--learning-starts 200 --final-eval-episodes 10"),
    "qt_opt.py": (1_000, "--learning-starts 200 --final-eval-episodes 10"),
    "tabular_q.py": (20_000, "--final-eval-episodes 10"),
}
COLUMNS = "name pin date python gymnasium numpy torch command exit_code failed last_line observation action limit "
COLUMNS += "random_sps random_return random_episodes sps greedy_return greedy_episodes warnings habits"
WARNINGS = {  # of our scripts, and what the page says
    "play different tasks": "two copies differ",
    "no time limit": "no time limit",
    "sends observations beyond": "large observations",
    "sends numbers below": "codes declared as pixels",
    "close() of": "close() fails",
}


@dataclass
class Args:
    names: Positional[tuple[str, ...]] = ()
    """packages to try again (default: all whose results have other versions or another command)"""
    folder: Path | None = None
    """where virtual environments are kept, outside the repository (default: a temporary folder)"""
    time_limit: float = 60.0
    """seconds for random play, and again for training; installing gets three times as many"""
    page_only: bool = False
    """try nothing: write the tables from the results"""


@dataclass
class Package:
    """An entry of third_party.toml."""

    version: str
    field: str  # its subject
    id: str  # of the environment, with the module that registers it
    remark: str = ""  # what to know
    script: str = "dqn.py"
    requires: tuple[str, ...] = ()  # more packages, pinned
    pip: tuple[str, ...] = ()  # more arguments of pip
    env_kwargs: tuple[str, ...] = ()
    limit: int = 0  # steps of an episode (0: the environment's own limit)
    steps: int = 0  # to train (0: as in SCRIPTS)
    register: str = ""  # the text of a module `registration`, for a package that registers nothing

    def pin(self, name: str) -> list[str]:
        """What pip installs."""
        return [f"{name}=={self.version}", *self.requires, *self.pip]

    def command(self) -> list[str]:
        """The script and its flags. The only evaluation is at the end, in an environment of its own."""
        default, flags = SCRIPTS[self.script]
        steps = str(self.steps or default)
        limit = ["--max-episode-steps", str(self.limit)] if self.limit else []
        kwargs = ["--env-kwargs", *self.env_kwargs] if self.env_kwargs else []
        steps = ["--total-timesteps", steps, "--eval-frequency", steps]
        return [self.script, "--env-id", self.id, *kwargs, *limit, *steps, *flags.split()]


def read_table(path: Path = TABLE) -> dict[str, Package]:
    return {name: Package(**entry) for name, entry in tomllib.loads(path.read_text()).items()}


def read_rows(path: Path = RESULTS) -> dict[str, dict[str, str]]:
    text = path.read_text() if path.exists() else ""
    return {row["name"]: row for row in csv.DictReader(io.StringIO(text))}


def write_rows(rows: dict[str, dict], path: Path = RESULTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS.split(), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in sorted(rows))
    write_whole(path, file.getvalue())


def try_package(name: str, package: Package, folder: Path, seconds: float) -> dict:
    """Installs a package, plays at random, and trains. Returns its row of environments.csv."""
    script, *flags = package.command()
    row = {"name": name, "pin": shlex.join(package.pin(name)), "command": shlex.join(["python", script, *flags])}
    row |= {"date": time.strftime("%Y-%m-%d"), "python": sys.version.split()[0]}
    row |= {each: version(each) for each in SHARED}

    def note(failed: str, code: int, output: str) -> None:
        line = f"not finished after {seconds:.0f} s" if code == 124 else last_line(output, folder) if code else ""
        row.update(exit_code=code, failed=failed if code else "", last_line=line)

    python, code, output = install(name, package.pin(name), folder, 3 * seconds)
    note("install", code, output)
    if code:
        return row
    with tempfile.TemporaryDirectory(dir=folder) as work:
        work = Path(work)
        if package.register:
            (work / "registration.py").write_text(package.register)
        code, out, err = run([python, "-m", "benchmark.random_play", script, *flags], work, seconds)
        found = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]
        note("random play", 0 if found else code, err)
        for part in found:  # spaces and returns; then, unless it took too long, habits
            row |= part
        code, out, err = run([python, ROOT / script, *flags, "--runs-dir", "runs"], work, seconds)
        if code:  # a user meets this failure, so it goes before that of random play
            note("training", code, err)
        row["warnings"] = ", ".join(short for long, short in WARNINGS.items() if long in err)
        result = None
        for run_dir in (work / "runs").glob("*"):
            speed, result = read_scalars(run_dir).get("charts/SPS"), read_object(run_dir / "result.json")
            row["sps"] = f"{speed[-1][1]:.4g}" if speed else ""  # none in a run of less than 100 steps after the start
        if result:
            row["greedy_return"] = f"{result['eval/episodic_return']:.4g}"
            row["greedy_episodes"] = len(result["returns"])
        elif code == 0:  # the environment ended the process
            row.update(exit_code=0, failed="training", last_line="no result.json: the environment ended the process")
    return row


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    packages, rows = read_table(), read_rows()
    if unknown := sorted(set(args.names) - set(packages)):
        sys.exit(f"error: {TABLE.name} has no {', '.join(unknown)}")
    rows = {name: row for name, row in rows.items() if name in packages}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in [] if args.page_only else args.names or packages:
            package, old = packages[name], rows.get(name, {})
            wanted = [shlex.join(package.pin(name)), shlex.join(["python", *package.command()])]
            if not args.names and [old.get("pin"), old.get("command")] == wanted:
                continue
            row = rows[name] = try_package(name, package, folder, args.time_limit)
            write_rows(rows)
            how = f"{row['failed']} failed: {row['last_line']}" if row["failed"] else "trained"
            print(f"{name}: {how}", row.get("random_return"), row.get("greedy_return"), flush=True)
    write_page(PAGE, packages, read_rows())


if __name__ == "__main__":
    main()
