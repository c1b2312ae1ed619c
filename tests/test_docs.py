"""README and docs: every link leads somewhere, and every command that they show is one that its program takes."""

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
