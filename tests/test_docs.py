"""README and docs: every link leads somewhere, every command that they show is one that its program takes, and the page
of known bugs names the tests that look for them.
"""

import ast
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from functools import cache
from importlib import import_module

import pytest
import tyro
from conftest import ROOT

from tools.ladder import HERE

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if page.name != "report.md"]  # written by the harness
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SCRIPTS = {rung.script for rung in HERE}


def name(path):
    return str(path.relative_to(ROOT))


def commands() -> dict[str, str]:
    """Every command line of a page, in a block or between backticks, once: {command: the first page that has it}."""
    found = {}
    for page in PAGES:
        text = page.read_text()
        lines = re.findall(r"^    (?=python |python3 )(.*)$", text, flags=re.MULTILINE)
        lines += [" ".join(code.split()) for code in re.findall(r"`(python [^`]*)`", text)]
        for line in lines:
            for part in re.split(r"&&|;", line.split("  #")[0]):
                if part.strip().startswith("python "):
                    found.setdefault(part.strip(), name(page))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve()
            assert found.exists(), f"{name(page)} links to {target}"
            if anchor:
                titles = re.findall(r"^#+ (.*)$", found.read_text(), flags=re.MULTILINE)
                assert anchor in [title.lower().replace(" ", "-") for title in titles], f"{name(page)}: {target}"


def test_there_are_commands_to_check():
    assert len(commands()) > 20 and "python dqn.py --env-id CartPole-v1" in commands()


@pytest.mark.parametrize("command", [c for c in commands() if c.split()[1] in SCRIPTS])
def test_commands_of_scripts_parse(command):
    _, script, *arguments = shlex.split(command.replace("SCRIPT.py", "dqn.py"))
    args = import_module(script.removesuffix(".py")).Args
    if arguments == ["--help"]:
        return
    parsed = tyro.cli(args, args=arguments)
    flags = {flag.lstrip("-").replace("-", "_") for flag in arguments if flag.startswith("--")}
    assert flags <= {field.name for field in fields(parsed)}


@cache
def flags_of(module: str) -> str:
    """What `python -m module --help` prints."""
    command = [sys.executable, "-m", *module.split(), "--help"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout


def test_commands_of_modules_know_their_flags():
    for command in commands():
        if command.startswith(("python -m benchmark", "python -m tools")):
            _, _, module, *arguments = shlex.split(command)
            module = f"{module} {arguments[0]}" if module in ("benchmark", "benchmark.speed") else module
            for flag in [argument for argument in arguments if argument.startswith("--")]:
                assert flag in flags_of(module), f"{command}: {flag} is no flag of {module}"


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 110
    assert text.index("## The ladder") < text.index("## Start")


def marked() -> set[tuple[int, str]]:
    """(row of known-bugs.md, "file::test") for every number in a marker `bug`. Files are read, not imported."""
    found = set()
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for mark in getattr(node, "decorator_list", []):
                if ast.unparse(mark).startswith("pytest.mark.bug"):
                    assert node.name.startswith("test_"), f"{node.name} in {path.name} is no test"
                    found |= {(ast.literal_eval(number), f"{path.name}::{node.name}") for number in mark.args}
    return found


def rows_of_bugs() -> list[list[str]]:
    """The cells of every row of the tables of known-bugs.md."""
    text = (ROOT / "docs" / "known-bugs.md").read_text()
    return [row.strip("| ").split(" | ") for row in re.findall(r"^\| \d.*$", text, flags=re.MULTILINE)]


def test_known_bugs_name_the_tests_that_look_for_them():
    """The page and the markers say the same, and no cell is empty."""
    rows = rows_of_bugs()
    assert sorted(int(number) for number, *_ in rows) == list(range(1, len(rows) + 1)), "each number once"
    assert all(len(row) == 6 and all(row) for row in rows)
    named = [(int(number), test) for number, *_, tests in rows for test in re.findall(r"`(.*?)`", tests)]
    assert len(named) == len(set(named)), "a test is named twice in a row"
    assert {number for number, _ in named} == set(range(1, len(rows) + 1)), "a row names no test"
    assert set(named) - marked() == set(), "the page names tests that do not exist or lack the row's number"
    assert marked() - set(named) == set(), "markers have numbers or tests that the page lacks"
