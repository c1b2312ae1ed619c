"""The table of foreign environment packages, the page that is written from it, and the program on a small package."""

import re
import shlex
import sys
import zipfile
from importlib.metadata import distributions

import pytest
import tyro
from conftest import ROOT

from benchmark import third_party
from benchmark.third_party import COLUMNS, PAGE, SCRIPTS, Package, last_line, read_rows, read_table, try_package
from benchmark.third_party_page import habit_table, package_tables

# Not find_spec("pip"): it switches off setuptools' own distutils, and torch.compile then fails in this process.
NEEDS_PIP = pytest.mark.skipif(not any(distributions(name="pip")), reason="needs pip in this Python")
TINY = '''
import os
import gymnasium as gym

class Tiny(gym.Env):
    """Five steps; each one pays the number of the action, 0 or 1."""
    observation_space, action_space = gym.spaces.Discrete(5), gym.spaces.Discrete(2)
    def __init__(self, pays=1, quits=False):
        self.pays, self.quits = pays, quits
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return 0, {}
    def step(self, action):
        self.t += 1
        if self.quits:
            os._exit(0)
        return self.t % 5, self.pays * float(action), self.t == 5, False, {}

gym.register("Tiny-v0", Tiny, max_episode_steps=10)
'''


@pytest.fixture
def tiny(tmp_path):
    """tiny(**changes) -> an entry of the table for a package that lies in a folder of this machine."""
    wheel = tmp_path / "wheels" / "tiny_env-0.1-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tiny_env.py", TINY)
        file.writestr("tiny_env-0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-env\nVersion: 0.1\n")
        file.writestr("tiny_env-0.1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("tiny_env-0.1.dist-info/RECORD", "")

    def make(**changes):
        pip = ("--no-index", "--find-links", str(wheel.parent))
        entry = {"version": "0.1", "field": "tests", "id": "tiny_env:Tiny-v0", "pip": pip, "steps": 400}
        return Package(**entry | changes)

    return make


def test_every_package_is_pinned_and_its_command_parses():
    packages = read_table()
    assert len(packages) >= 60
    for name, package in packages.items():
        pins = [part for part in package.pin(name) if not part.startswith("-")]
        assert all(re.fullmatch(r"[\w.\-\[\]]+==[\w.]+", pin) for pin in pins), pins
        assert package.script in SCRIPTS and package.field
        assert bool(package.register) == package.id.startswith("registration:")
        script, *flags = package.command()
        module = __import__(script.removesuffix(".py"))
        tyro.cli(module.Args, args=flags)


def test_the_page_is_written_from_the_data():
    packages, rows = read_table(), read_rows()
    page = PAGE.read_text()
    assert package_tables(packages, rows) in page and habit_table(packages, rows) in page
    for name, row in rows.items():
        pinned = shlex.join(packages[name].pin(name)), shlex.join(["python", *packages[name].command()])
        assert (row["pin"], row["command"]) == pinned, f"{name} was tried with other versions or flags"
    assert sum(not row["failed"] for row in rows.values()) >= 60


def test_nothing_of_this_machine_is_in_the_data():
    for row in read_rows().values():
        assert not re.search(r"/tmp/|/home/|/root/|/work/|https?:", " ".join(row.values())), row["name"]


@NEEDS_PIP
def test_a_package_is_installed_played_and_trained_on(tiny, tmp_path):
    """The return of greedy play is pays * 5, of random play half of it."""
    package = tiny(env_kwargs=("pays=2",))
    row = try_package("tiny-env", package, tmp_path / "venvs", 60)
    assert row["failed"] == "" and row["exit_code"] == 0, row
    assert row["observation"] == "Discrete(5)" and row["action"] == "Discrete(2)" and row["limit"] == "10"
    assert float(row["greedy_return"]) == 10 and 3 < float(row["random_return"]) < 7
    assert row["random_episodes"] == "20" and row["greedy_episodes"] == 10
    assert float(row["random_sps"]) > 0 and float(row["sps"]) > 0 and row["warnings"] == ""
    assert row["command"].startswith("python dqn.py --env-id tiny_env:Tiny-v0 --env-kwargs pays=2 ")
    assert set(row) <= set(COLUMNS.split())


@NEEDS_PIP
def test_an_environment_that_ends_the_process_is_no_success(tiny, tmp_path):
    row = try_package("tiny-env", tiny(env_kwargs=("quits=True",)), tmp_path / "venvs", 60)
    assert (row["failed"], row["exit_code"]) == ("training", 0) and "ended the process" in row["last_line"]


@NEEDS_PIP
def test_failures_are_rows_and_results_are_not_made_again(tiny, tmp_path, monkeypatch, capsys):
    """One version is not to be had, and one id is wrong; the second time nothing is tried."""
    packages = {"missing-env": tiny(version="9"), "tiny-env": tiny(id="tiny_env:Huge-v0")}
    monkeypatch.setattr(third_party, "read_table", lambda: packages)
    monkeypatch.setattr(third_party, "RESULTS", tmp_path / "environments.csv")
    monkeypatch.setattr(third_party, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("# Page\n")
    monkeypatch.setattr(sys, "argv", ["third_party", "--folder", str(tmp_path / "venvs")])
    read, write = third_party.read_rows, third_party.write_rows
    monkeypatch.setattr(third_party, "read_rows", lambda: read(third_party.RESULTS))
    monkeypatch.setattr(third_party, "write_rows", lambda rows: write(rows, third_party.RESULTS))
    third_party.main()
    rows = third_party.read_rows()
    assert rows["missing-env"]["failed"] == "install" and "tiny-env==9" not in rows["missing-env"]["last_line"]
    assert rows["tiny-env"]["failed"] == "training" and rows["tiny-env"]["exit_code"] == "2"
    assert "Huge" in rows["tiny-env"]["last_line"] and "Huge" in (tmp_path / "page.md").read_text()
    assert len(capsys.readouterr().out.splitlines()) == 2
    third_party.main()
    assert capsys.readouterr().out == "" and third_party.read_rows() == rows


def test_the_last_line_is_the_error_without_paths_and_addresses(tmp_path):
    output = f"Traceback\n  File {tmp_path}/x.py\nValueError: no {tmp_path}/a at https://somewhere.org/x\nbye now\n\n"
    assert last_line(output, tmp_path) == "ValueError: no .../a at ..."
    assert last_line("one two\nthree four\n", tmp_path) == "three four"


def test_a_command_that_takes_too_long_ends(tmp_path):
    code, _, _ = third_party.run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, 1)
    assert code == 124


def test_the_page_is_linked():
    assert "(environments.md" in (ROOT / "docs" / "usage.md").read_text()


def test_warnings_are_those_that_the_scripts_give():
    text = (ROOT / "dqn.py").read_text()
    assert [warning for warning in third_party.WARNINGS if warning not in text] == []
