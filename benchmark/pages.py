"""Writes tables and numbers into pages of results, with the origin of the runs (commit, versions, machine)."""

import platform
from collections.abc import Callable, Collection
from dataclasses import fields
from pathlib import Path

from benchmark.origin import own_origin, processor
from benchmark.run_folder import write_whole
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


def short_hash(commit: str) -> str:
    """Seven digits of a commit, with a plus if files differed from it."""
    return commit.removesuffix("-dirty")[:7] + ("+" if commit.endswith("-dirty") else "")


def machine(args: dict) -> str:
    """The machine of a run, from its args.json or origin.json; empty if neither names it."""
    if not args.get("cpu_count"):
        return ""
    here = args.get("platform") == platform.platform()
    name = args.get("processor") or (processor() if here else "")  # on Linux, older runs do not name the processor
    return f"{args['cpu_count']} cores" + (f" of {name}" if name else f", {args.get('platform', 'unknown')}")


def origin(stored: list[dict]) -> str:
    """Commit, versions and machine of runs in one line for a page, from what run_folder.read_args gives of each."""

    def every(name: str, short: Callable[[str], str] = str) -> str:
        return " and ".join(sorted({short(args[name]) for args in stored if args.get(name)}))

    versions = [f"{program} {every(name)}" for name, program in PROGRAMS.items() if every(name)]
    machines = " and ".join(sorted({machine(args) for args in stored} - {""}))
    named = [f"commit {every('commit', short_hash) or 'unknown'}", *versions, machines]
    return ", ".join(part for part in named if part)


def here() -> str:
    """Commit, versions and machine of this process, in one line."""
    own = own_origin()
    return origin([own | own["versions"]])
