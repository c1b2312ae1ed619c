"""The audit of released packages: its verdicts, its own column, and how it goes on."""

import json
import sys

import pytest

from benchmark.peers import __main__ as peers
from benchmark.peers import fixed_points
from benchmark.peers.audit import program, rows
from benchmark.peers.audit.program import Package


def refuses():
    raise rows.NotApplicable("no noise")


def breaks():
    raise KeyError("obs")


@pytest.mark.parametrize(
    ("check", "state", "seen", "due"),
    [
        (lambda: (2.8, 1 + 0.9 * 2), "has not", "2.8", "2.8"),
        (lambda: (11, 1 + 0.9 * 2), "has", "11", "2.8"),
        (lambda: ([1, 2.80001], [1, 2.8]), "has not", "1 / 2.8", "1 / 2.8"),
        (lambda: ([1, 2], [1, 2, 3]), "has", "1 / 2", "1 / 2 / 3"),
        (
            lambda: (list(range(8)), [7] * 8),
            "has",
            "0 / 1 / 2 / 3 / 4 / 5 / ... of 8",
            "7 / 7 / 7 / 7 / 7 / 7 / ... of 8",
        ),
        (lambda: (0.11, 0.1, False), "has not", "0.11", "0.1"),
        (lambda: (float("nan"), 1.0), "has", "nan", "1"),
        (refuses, "not applicable", "no noise", ""),
        (breaks, "failed", "KeyError: 'obs'", ""),
    ],
)
def test_a_verdict(check, state, seen, due):
    assert rows.answer(9, "", check) == {"row": 9, "when": "", "state": state, "seen": seen, "due": due}


@pytest.fixture
def audit(tmp_path, monkeypatch, capsys):
    """audit("words of the command line", packages) -> exit code, stdout, stderr, with files of its own."""
    monkeypatch.setattr(program, "RESULTS", tmp_path / "audit.csv")
    monkeypatch.setattr(program, "PAGE", tmp_path / "peers.md")
    monkeypatch.setattr(program, "ROOT", tmp_path)
    (tmp_path / "peers.md").write_text("# Peers\n")

    def call(words, packages):
        monkeypatch.setattr(program, "read_table", lambda: packages)
        monkeypatch.setattr(sys, "argv", ["peers", "audit", *words.split()])
        code = 0
        try:
            peers.main()
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call


def test_an_unknown_package_is_one_sentence(audit):
    code, out, err = audit("tianshoo", {"tianshou": Package("tianshou.py", "2.0.1")})
    assert (code, out, err) == (2, "", "error: packages.toml has no tianshoo; it has tianshou\n")


def test_our_own_column_has_none_of_the_bugs_and_an_interrupted_audit_goes_on(audit, monkeypatch):
    """A package that cannot be installed is a line that says so, and is tried again; the others are not."""
    packages = {"q-ladder": Package("q_ladder.py"), "not-there": Package("q_ladder.py", "9.9", pip=("--no-index",))}
    code, out, _ = audit("", packages)
    answers = program.read_answers()
    ours = [line for line in answers if line["package"] == "q-ladder"]
    assert code == 0 and len({line["row"] for line in ours}) >= 55
    assert {line["state"] for line in ours} == {"has not", "not applicable"}
    (missing,) = [line for line in answers if line["package"] == "not-there"]
    assert missing["row"] == "0" and missing["seen"].startswith("install: ERROR: No matching distribution")
    page = program.PAGE.read_text()
    assert "\n| 9 | no: 1 / 2.8 |\n" in page and "\nnot-there 9.9: install: ERROR" in page
    assert "q-ladder" in out and "2 of 2" in out
    asked = []
    monkeypatch.setattr(program, "ask", lambda name, *_: asked.append(name) or [missing])
    audit("", packages)
    audit("q-ladder", packages)
    assert asked == ["not-there", "q-ladder"]


def test_the_page_is_that_of_the_answers():
    answers, packages = program.read_answers(), program.read_table()
    assert program.table(packages, answers) in program.PAGE.read_text()
    known = {line["package"] for line in answers}
    assert set(packages) == known, "python -m benchmark.peers audit"


def test_every_line_of_a_program_is_json(capsys, monkeypatch):
    monkeypatch.setattr(rows, "CHECKS", [])
    rows.row(3, "twice")(lambda: (1, 1))
    monkeypatch.setattr(sys, "argv", ["program", "3"])
    rows.answer_all()
    assert json.loads(capsys.readouterr().out)["when"] == "twice"


def test_a_fixed_point_and_its_line():
    """A table learns the mean of a sure 0.15 and a gamble of 0; means over two seeds, 0.2 and 0.1, and their range."""
    case = fixed_points.Case("sure", ("chance=0", "sure=0.15"), 0.15)
    row = fixed_points.run("tabular_q", case, 1, 2_000)
    assert {row[f"at_{part}"] for part in (25, 50, 75, 100)} == {"0.15"}
    rows = [dict.fromkeys(("at_25", "at_50", "at_75", "at_100"), value) | {"case": "c", "script": "s.py", "due": "0.15"}
            for value in ("0.2", "0.1")]  # fmt: skip
    assert "| c | s.py | 0.15 | 0.15 | 0.15 | 0.15 | 0.15 | 0.1 to 0.2 |" in fixed_points.table(rows)
