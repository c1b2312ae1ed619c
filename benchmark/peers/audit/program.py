"""Runs released packages, and our own scripts, to see which of the bugs of docs/known-bugs.md they have.

python -m benchmark.peers audit                     # every package of packages.toml whose results are missing or old
python -m benchmark.peers audit tianshou cpprb      # these, again
python -m benchmark.peers audit --page-only         # only the table of docs/peers.md

Each package has a program here, which answers rows on numbers made by hand. It runs in a virtual environment with the
pinned version, two packages at a time. Each package's answers are written when they are there, so an interrupted audit
goes on where it ended.
"""

import csv
import hashlib
import io
import json
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from benchmark.package_venv import install, last_line, run
from benchmark.pages import write_block
from benchmark.run_folder import DATA, ROOT, write_whole

HERE = Path(__file__).parent
TABLE, PAGE, RESULTS = HERE / "packages.toml", ROOT / "docs" / "peers.md", DATA / "peers" / "audit.csv"
COLUMNS = ["package", "version", "row", "when", "state", "seen", "due", "date", "sha256"]
COMMAND = "python -m benchmark.peers audit"
WIDTH = 5  # packages in a table


@dataclass
class Args:
    names: Positional[tuple[str, ...]] = ()
    """packages to ask again (default: all whose version or program is new)"""
    folder: Path | None = None
    """where virtual environments are kept, outside the repository (default: a temporary folder)"""
    time_limit: float = 900.0
    """seconds to install a package, and again for its program"""
    page_only: bool = False
    """ask nothing: write the table from the results"""


@dataclass
class Package:
    """An entry of packages.toml."""

    program: str  # the file beside this one that asks
    version: str = ""  # empty: nothing to install
    requires: tuple[str, ...] = ()  # more packages, pinned
    pip: tuple[str, ...] = ()  # more arguments of pip
    free: tuple[str, ...] = ()  # of SHARED, those whose version the package chooses itself

    def pin(self, name: str) -> list[str]:
        """What pip installs."""
        return [f"{name}=={self.version}", *self.requires, *self.pip] if self.version else []

    def sha256(self) -> str:
        """Of the program and what all programs share, so that answers of older texts are asked again."""
        texts = (HERE / name for name in (self.program, "rows.py", "stand_ins.py"))
        return hashlib.sha256(b"".join(text.read_bytes() for text in texts)).hexdigest()


def read_table() -> dict[str, Package]:
    return {name: Package(**entry) for name, entry in tomllib.loads(TABLE.read_text()).items()}


def read_answers() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(RESULTS.read_text()))) if RESULTS.exists() else []


def write_answers(answers: list[dict], packages: dict[str, Package]) -> None:
    """In the order of packages.toml."""
    order = list(packages)
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(answers, key=lambda line: (order.index(line["package"]), int(line["row"]), line["when"])))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    write_whole(RESULTS, file.getvalue())


@contextmanager
def a_folder(folder: Path | None) -> Iterator[Path]:
    """For virtual environments: this one, or a temporary one."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = (folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def run_in(name: str, package: Package, module: list[str], folder: Path, seconds: float) -> tuple[str, int, str, str]:
    """Runs a module of ours, with arguments, beside a package. Returns "install" if that failed, exit code, stdout and
    stderr."""
    python = Path(sys.executable)
    if package.version:
        python, code, output = install(name, package.pin(name), folder, seconds, package.free)
        if code:
            return "install", code, "", output
    with tempfile.TemporaryDirectory(dir=folder) as work:
        return "", *run([python, "-m", *module], Path(work), seconds)


def ask(name: str, package: Package, folder: Path, seconds: float) -> list[dict]:
    """Installs a package and runs its program. Returns its lines of audit.csv; row 0 says that there are no answers."""
    common = {"package": name, "version": package.version, "when": "", "state": "failed", "due": "", "row": 0}
    common |= {"date": time.strftime("%Y-%m-%d"), "sha256": package.sha256()}

    def none(what: str, code: int, output: str) -> list[dict]:
        seen = f"not finished after {seconds:.0f} s" if code == 124 else last_line(output, folder)
        return [common | {"seen": f"{what}: {seen}"}]

    failed, code, out, err = run_in(
        name, package, [f"benchmark.peers.audit.{Path(package.program).stem}"], folder, seconds
    )
    if failed:
        return none(failed, code, err)
    answers = [common | json.loads(line) for line in out.splitlines() if line.startswith('{"row"')]
    return answers + (none("the program", code, err) if code or not answers else [])


def cell(answers: list[dict[str, str]]) -> str:
    """All answers about one row and package: "no: 2.8", or "**has**: 11, due 2.8"."""
    texts = []
    for each in answers:
        when = f" ({each['when']})" if each["when"] else ""
        text = {
            "has": f"**has**{when}: {each['seen']}, due {each['due']}",
            "has not": f"no{when}: {each['seen']}",
            "not applicable": "n/a",
        }.get(each["state"], f"no answer{when}: {each['seen']}")
        texts.append(text.replace("|", "\\|").replace("<", "&lt;"))
    return "; ".join(dict.fromkeys(texts))


def table(packages: dict[str, Package], answers: list[dict[str, str]]) -> str:
    """A line for each number of known-bugs.md, a column for each package, a few packages a table; then those without
    answers."""
    asked = [name for name in packages if any(line["package"] == name and line["row"] != "0" for line in answers)]
    numbers = sorted({int(line["row"]) for line in answers} - {0})
    parts = []
    for first in range(0, len(asked), WIDTH):
        names = asked[first : first + WIDTH]
        lines = [["#", *(f"{name} {packages[name].version}".strip() for name in names)]]
        for number in numbers:
            of = [[a for a in answers if a["package"] == name and a["row"] == str(number)] for name in names]
            lines += [[str(number), *map(cell, of)]] if any(of) else []
        lines.insert(1, ["---"] * len(lines[0]))
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    none = [line for line in answers if line["row"] == "0"]
    parts += [f"{line['package']} {line['version']}: {line['seen']}".replace("<", "&lt;") for line in none]
    dates = sorted({line["date"] for line in answers})
    parts.append(f"Run from {dates[0]} to {dates[-1]}.")
    return "\n\n".join(parts)


def audit(args: Args) -> None:
    packages, answers = read_table(), read_answers()
    if unknown := sorted(set(args.names) - set(packages)):
        print(f"error: {TABLE.name} has no {', '.join(unknown)}; it has {', '.join(packages)}", file=sys.stderr)
        sys.exit(2)
    answers = [line for line in answers if line["package"] in packages]
    new = {(line["package"], line["version"], line["sha256"]) for line in answers if line["row"] != "0"}
    old = [name for name, package in packages.items() if (name, package.version, package.sha256()) not in new]
    names = [] if args.page_only else list(args.names) or old
    with a_folder(args.folder) as folder, ThreadPoolExecutor(2) as pool:
        start = time.monotonic()
        jobs = {pool.submit(ask, name, packages[name], folder, args.time_limit): name for name in names}
        for done, job in enumerate(as_completed(jobs), 1):
            name, found = jobs[job], job.result()
            answers = [line for line in answers if line["package"] != name] + found
            write_answers(answers, packages)
            has = [str(line["row"]) for line in found if line["state"] == "has"]
            said = f"{len(found)} answers, has {', '.join(has) or 'none'}" if found[0]["row"] else found[0]["seen"]
            print(f"{done} of {len(jobs)} after {time.monotonic() - start:.0f} s: {name}: {said}", flush=True)
    if answers:
        write_block(PAGE, "audit", COMMAND, table(packages, read_answers()))
    print(f"{len(read_answers())} answers in {RESULTS.relative_to(ROOT)}, the table in {PAGE.relative_to(ROOT)}")
