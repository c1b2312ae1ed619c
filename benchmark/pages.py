"""Writes tables and numbers into pages of results, with the origin of the runs (commit, versions, machine)."""

import platform
import re
import subprocess
from collections.abc import Callable, Collection
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

from benchmark.run_folder import ROOT, write_whole
from benchmark.suite import as_arguments
from tools.blocks import with_block

PROGRAMS = {"python": "Python", "torch": "PyTorch", "gymnasium": "Gymnasium", "numpy": "NumPy"}
PROGRAMS |= {"stable_baselines3": "Stable-Baselines3"}


def write_block(path: Path, name: str, command: str, content: str, begun: str = "") -> None:
    """Writes a part of a page. A new page begins with the text `begun`; without it, raises FileNotFoundError."""
    page = begun if begun and not path.exists() else path.read_text()
    write_whole(path, with_block(page, name, command, content))


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def command_line(program: str, args, not_shown: Collection[str] = ()) -> str:
    """The command with these arguments for a page: only flags that differ from their defaults, and no path's value."""
    flags = []
    for field in fields(args):
        value = getattr(args, field.name)
        if field.name not in not_shown and value != field.default:
            shown = field.name.upper() if isinstance(value, Path) else value
            flags += [flag.replace("=", " ", 1) for flag in as_arguments(field.name, shown)]
    return " ".join([program, *flags])


def commit() -> str:
    """The hash of this repository's commit, with -dirty if files differ from it; empty outside a repository."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    return subprocess.run(git, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def short_hash(commit: str) -> str:
    """Seven digits of a commit, with a plus if files differed from it."""
    return commit.removesuffix("-dirty")[:7] + ("+" if commit.endswith("-dirty") else "")


def processor() -> str:
    """The name of this machine's processor."""
    known = Path("/proc/cpuinfo")  # of Linux
    names = re.findall(r"^model name\s*: (.*)$", known.read_text(), re.MULTILINE) if known.exists() else []
    if names:
        return f"{len(names)} cores of {names[0]}"
    return platform.processor() or platform.machine()


def origin(stored: list[dict]) -> str:
    """Commit, versions and machine of runs in one line for a page, from their args.json."""

    def every(name: str, short: Callable[[str], str] = str) -> str:
        return " and ".join(sorted({short(args[name]) for args in stored if args.get(name)}))

    versions = [f"{program} {every(name)}" for name, program in PROGRAMS.items() if every(name)]
    where = every("platform")
    machine = [f"{every('cpu_count')} cores", where] if every("cpu_count") else []
    if where == platform.platform():  # here
        machine = [processor()]
    return ", ".join([f"commit {every('commit', short_hash) or 'unknown'}", *versions, *machine])


def here() -> str:
    """Commit, versions and machine of this process, in one line."""
    versions = {name: version(name) for name in ("torch", "gymnasium", "numpy")}
    own = {"commit": commit(), "python": platform.python_version(), **versions, "platform": platform.platform()}
    return origin([own])
