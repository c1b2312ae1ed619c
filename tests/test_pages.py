"""Parts of pages between marks: replaced or added, whole, with everything else as it was. And that numbers on pages of
results are those of the files beside them.
"""

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest

from benchmark.pages import markdown, write_block
from benchmark.report.analysis import Analysis
from benchmark.report.records import read
from benchmark.report.statistics import said
from benchmark.report.write import Page, write_report
from benchmark.run_folder import DATA
from tools.blocks import with_block

BLOCK = "<!-- {0}: written by `{1}` -->\n{2}\n<!-- end of {0} -->\n"


def test_a_part_is_added_at_the_end():
    assert with_block("# Title\n\nText.\n", "a", "make a", "\n1\n\n") == "# Title\n\nText.\n\n" + BLOCK.format(
        "a", "make a", "1"
    )


def test_a_part_is_replaced_where_it_is_and_others_are_not():
    """Among them one whose name begins as its own does, before it and after it."""
    others = [BLOCK.format("a b", "make b", "2"), BLOCK.format("ab", "make ab", "3")]
    page = f"Before.\n{others[0]}" + "{}" + f"After.\n{others[1]}"
    new, empty = BLOCK.format("a", "make a", "new"), "<!-- a: written by `make a` -->\n<!-- end of a -->\n"
    for old in (BLOCK.format("a", "make a --old", "1\n\nold"), empty):
        assert with_block(page.format(old), "a", "make a", "new") == page.format(new)


@pytest.mark.parametrize("page", ["Text.\n", "Text.\n\n" + BLOCK.format("a", "make", "old")])
def test_content_is_not_a_pattern(page):
    r"""\1 and \g<0> are groups to re.sub, and \d is an error."""
    content = r"\1 \g<0> \d \\ $1 (.*)"
    assert with_block(page, "a", "make", content) == "Text.\n\n" + BLOCK.format("a", "make", content)


def test_a_name_is_not_a_pattern():
    page = BLOCK.format("axb", "make", "1")
    assert with_block(page, "a.b", "make", "2") == page + "\n" + BLOCK.format("a.b", "make", "2")


def test_a_page_that_is_missing_begins_with_a_title_or_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_block(tmp_path / "page.md", "a", "make", "1")
    for content in "12":
        write_block(tmp_path / "page.md", "a", "make", content, begun="# Title\n")
        assert (tmp_path / "page.md").read_text() == "# Title\n\n" + BLOCK.format("a", "make", content)


@pytest.mark.parametrize("fails", ["writing", "replacing"])
def test_what_cannot_be_written_leaves_the_page_as_it_was(tmp_path, monkeypatch, fails):
    """The disk is full after ten characters, or the page cannot be replaced."""
    page = tmp_path / "page.md"
    page.write_text(before := "# Title\n\n" + BLOCK.format("a", "make", "old"))
    write_text = Path.write_text

    def write_ten(self, text):
        write_text(self, text[:10])
        raise OSError(28, "No space left on device")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(*((Path, "write_text", write_ten) if fails == "writing" else (os, "replace", refuse)))
        with pytest.raises(OSError):
            write_block(page, "a", "make", "new")
    assert page.read_text() == before and os.listdir(tmp_path) == ["page.md"]


def test_markdown():
    assert markdown(["x", "y"], [["a", "1"], ["b", "2"]]) == "| x | y |\n| --- | ---: |\n| a | 1 |\n| b | 2 |"


# Pages of results

REPORTS = {  # parts of pages, and the report in docs/results/data from which each of their numbers can be computed
    ("hyperparameters", "hyperparameters"): "hyperparameters",
    ("hyperparameters", "n_step"): "n_step",
    ("tabular", "tabular"): "tabular",
    ("cartpole", "cartpole"): "cartpole",
    ("classic", "rl_zoo"): "rl_zoo",
    ("minatar", "minatar"): "minatar",
    ("minatar", "minatar_pilot and minatar_close"): "minatar_pilot",
    ("minatar", "minatar_rate"): "minatar_rate",
}
MACHINE = re.compile(r"\d+ cores.*?, (?=\d[\w ]* of computing)")  # of older runs it is known on their own machine only


@pytest.mark.parametrize(("page", "name"), REPORTS)
def test_a_part_of_a_page_says_what_its_tables_say(tmp_path, page, name):
    """Written once more from them: the same text, with every number."""
    part = re.compile(rf"<!-- {name}: written by `(.*?)` -->\n.*?<!-- end of {name} -->\n", re.DOTALL)
    found = part.search((DATA.parent / f"{page}.md").read_text())
    results = read(DATA / REPORTS[page, name])
    results.title, again = name, tmp_path / "page.md"
    write_report(results, tmp_path / "data" / REPORTS[page, name], page=Page(again, found[1]))
    assert MACHINE.sub("", part.search(again.read_text())[0]) == MACHINE.sub("", found[0])


def below(analysis: Analysis, label: str, least: float) -> int:
    """The seeds of this contender on CartPole that end below this return."""
    return int((analysis.finals("CartPole-v1", label) < least).sum())


def hyperparameters() -> list[str]:
    analysis = Analysis(read(DATA / "hyperparameters"))
    worse = [key[0].partition("=") for key, one in analysis.comparisons.items() if one.verdict == "worse"]
    assert [value for name, _, value in worse if name.endswith("frequency")] == ["64", "256"]
    assert [value for name, _, value in worse if name.endswith("learning-rate")] == ["0.0003"] and len(worse) == 3
    ((steps, seeds, tau),) = {
        (record.args["total_timesteps"], len(own), record.args["tau"])
        for own in analysis.groups["CartPole-v1"].values()
        for record in own
    }
    assert max(analysis.results.sweeps["learning_rate"]) == 0.03
    failed = {
        name: below(analysis, f"dqn.py{name}", 475)
        for name in ("", " --buffer-size=3000", " --buffer-size=10000", " --learning-rate=0.03", " --hidden-sizes 16")
    }
    none, small, larger, rate, layer = failed.values()
    return [
        f"{len(worse)} of {len(analysis.pairs)} changes to dqn.py are worse: ",
        "every 64 or 256 steps, and a learning rate of 3e-4. ",
        f"{steps:,} steps are too few. For the other changes {seeds} seeds are too few",
        f"at τ = {tau} only, so the target network goes {tau:.1%} of the way".replace("%", " %"),
        f"with the defaults {none} of {seeds} ends below 475.",
        f"With 3,000 and 10,000 transitions in the buffer {small} and {larger} seeds end below 475, ",
        f"with the largest learning rate {rate}, and with a single layer of 16 units {layer}.",
    ]


def tabular() -> list[str]:
    analysis = Analysis(read(DATA / "tabular"))
    overall = analysis.comparisons["tabular_q.py --double", "tabular_q.py", None]
    assert overall.verdict == "no evidence"
    two = analysis.groups["FrozenLake8x8-v1"]["tabular_q.py --double"]
    (episodes,) = {len(record.result["returns"]) for record in analysis.results.done}
    lost = sum(record.final == 0 for record in two)
    return [
        f"greedy returns of {episodes} episodes;",
        f"Over all {len(analysis.groups)} tasks together there is no evidence",
        f"({overall.probability:.2f}, {overall.span})",
        f"among {len(analysis.told)} comparisons one such difference",
        f"Of {len(two)} seeds with two tables {lost} has not found the goal there.",
    ]


@pytest.mark.parametrize("sentences", [hyperparameters, tabular], ids=lambda sentences: sentences.__name__)
def test_every_number_in_the_prose_of_a_page_is_that_of_its_tables(sentences):
    """No digit is left once these sentences, parts between marks, code, links and names of environments are gone."""
    text = (DATA.parent / f"{sentences.__name__}.md").read_text()
    prose = re.sub(
        r"<!-- (.+?): written by .*?<!-- end of \1 -->|`[^`]*`|\]\([^)]*\)|\w+-v\d", "", text, flags=re.DOTALL
    )
    prose = " ".join(prose.split())
    for sentence in sentences():
        assert sentence in prose
        prose = prose.replace(sentence, "")
    assert not re.findall(r".{0,40}\d.{0,40}", prose)


def test_the_page_of_double_dqn_says_how_far_returns_differ():
    with (DATA / "double_dqn" / "double_pendulum.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    dqn, double = (
        np.array([float(row["final_return"]) for row in rows if row["script"] == script])
        for script in ("dqn.py", "double_dqn.py")
    )
    higher, span = said(double - dqn, 1).rstrip(")").split(" (")
    text = " ".join((DATA.parent / "double_dqn.md").read_text().split())
    assert f"Its final greedy return is {higher} higher than DQN's ({span}, paired by seed)." in text
