"""python -m benchmark report and compare: what a page says, that it stands alone, and that names stay names in it."""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT
from fakes import write_events, write_run, write_script, write_suite
from torch.utils.tensorboard import SummaryWriter

from benchmark import __main__ as command_line
from benchmark.report import figures, sections
from benchmark.report.analysis import Analysis
from benchmark.report.figures import palette
from benchmark.report.records import (
    CURVES,
    RETURN,
    Record,
    Results,
    arguments_that_differ,
    numbers,
    read,
    side_by_side,
    together,
    values_of,
)
from benchmark.report.write import markdown, write_report
from benchmark.run_folder import read_events, read_scalars
from benchmark.suite import task

ENV_IDS = {"CartPole-v1": (20.0, 500.0), "Acrobot-v1": (-500.0, -80.0)}
FIGURES = ("curves", "curves_across", "finals", "profiles", "improvement", "q_values", "cost")


@pytest.fixture
def bench(tmp_path, monkeypatch, capfd):
    """bench(*arguments) -> (exit code, stdout, stderr) of python -m benchmark, run in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
        code = command_line.main()
        return code, *capfd.readouterr()

    return call


class Page(HTMLParser):
    """Tags with their attributes, and the visible text, of an HTML page."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.text, self.inside = [], "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data if self.inside != "style" else ""


def rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_everything_that_is_promised(bench, tmp_path):
    write_suite(tmp_path, {"good.py": 0.9, "bad.py": 0.3, "alike.py": 0.9}, ENV_IDS, 10)
    code, out, _ = bench("report", "suite")
    assert code == 0 and out.endswith("report: report/index.html\n")
    report = tmp_path / "report"
    page, text = Page(report / "index.html"), (report / "report.md").read_text()
    assert re.search(
        r"good.py is better than bad.py at 10 seeds: a run of good.py ends above .* probability (0.9|1.0)", out
    )
    assert "bad.py is worse than alike.py" in out
    assert "No evidence of a difference between good.py and alike.py at 10 seeds" in out
    for sentence in out.splitlines()[:3]:
        assert sentence in page.text and sentence in text
    titles = "Final returns|Learning curves|Learning curves across environments|Performance profiles|"
    titles += "Probability of improvement|Speed of learning|Are the Q-values right?|Cost|Reference scores|"
    titles += "Failed and missing runs|Protocol"
    for title in titles.split("|"):
        assert title in page.text and f"## {title}" in text
    for said in ("RL Zoo DQN", "None: every run is complete", "of 10 seeds", "100,000", "2.13", "abc", "SHA-256"):
        assert said in page.text or said in text
    assert str(tmp_path) not in page.text + text, "a report is sent around, and says nothing of this machine's folders"
    assert "Warning" not in page.text and "CleanRL" not in page.text, "returns during training are not comparable"
    for name in FIGURES:
        for form in ("svg", "png"):
            assert (report / "figures" / f"{name}.{form}").stat().st_size > 5000
        assert f"figures/{name}.svg" in text
    assert len([tag for tag, _ in page.tags if tag == "img"]) == len(FIGURES)
    widths = {of["alt"]: of["style"] for tag, of in page.tags if tag == "img"}
    assert widths["Share of runs against normalised return"] == "--inches: 5.0", "one panel"


LADDER = {"dqn.py": 0.5, "double_dqn.py": 0.52, "dueling_dqn.py": 0.48, "per_dqn.py": 0.5, "rainbow.py": 0.95}


def test_the_summary_becomes_a_part_of_a_page(bench, tmp_path):
    """Beside what somebody wrote there; a second report replaces the part, and links lead to its files."""
    write_suite(tmp_path, LADDER, {"CartPole-v1": (20.0, 500.0)}, 6)
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("# By hand\n")
    arguments = ("report", "suite", "--output", "docs/data/suite", "--page", "docs/page.md")
    for _ in range(2):
        assert bench(*arguments)[0] == 0
        text = page.read_text()
        assert text.startswith("# By hand\n\n<!-- suite: written by `python -m benchmark report suite --output ")
        assert text.count("<!-- end of suite -->") == 1
    assert "\n    python -m benchmark report suite --output docs/data/suite --page docs/page.md\n\n" in text
    assert "30 runs: 30 done; commit abc, PyTorch 2.13, 6 min of computing" in text, "30 times 12.5 s"
    assert "★" in text and "- rainbow.py is better than dqn.py" in text and str(tmp_path) not in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) == 4 and all((page.parent / link).exists() for link in links)
    for path in (tmp_path / "runs").rglob("args.json"):
        path.write_text(path.read_text().replace('"abc"', '"0123456789-dirty"'))
    bench(*arguments[:-1], "docs/new.md")
    assert "; commit 0123456+, PyTorch" in (tmp_path / "docs" / "new.md").read_text(), "files differed from that commit"
    assert (tmp_path / "docs" / "new.md").read_text().startswith("# suite\n\n<!-- suite: written by")


def test_the_origin_that_the_harness_noted_is_in_the_report(bench, tmp_path):
    """Two machines, one of them with a GPU; the scripts noted the versions that they used, and their own text."""
    suite_dir = write_suite(tmp_path, {"a.py": 0.5, "b.py": 0.5}, {"CartPole-v1": (20.0, 500.0)}, 1)
    machines = [{"cpu_count": 64, "processor": "Chip"}, {"cpu_count": 8, "processor": "Other", "gpu": "H200"}]
    for path, machine, digit in zip(sorted(suite_dir.glob("*/*/args.json")), machines, "12", strict=True):
        args = json.loads(path.read_text())
        del args["commit"]
        path.write_text(json.dumps(args | {"python": "3.11.7", "sha256": digit * 64}))
        noted = {"commit": "0123456789-dirty", "versions": {"python": "3.12.0", "numpy": "2.5"}, "platform": "Linux"}
        (path.parent.parent / "origin.json").write_text(json.dumps(noted | machine))
    assert bench("report", "suite", "--page", "page.md")[0] == 0
    line = "commit 0123456+, Python 3.11.7, PyTorch 2.13, 64 cores of Chip and 8 cores of Other, 25 s of computing"
    assert line in (tmp_path / "page.md").read_text()
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| commit | 0123456789-dirty |" in text and "| gpu | H200 |" in text and "| cpu_count | 64; 8 |" in text
    assert "1" * 12 not in text and "sha256" not in text, "the text of a script has its own table, and is no argument"
    stored = [record.args for record in read(tmp_path / "report").records]
    assert [args["sha256"] for args in stored] == ["1" * 64, "2" * 64]
    assert {args["commit"] for args in stored} == {"0123456789-dirty"}


def test_an_evaluation_at_the_end_may_have_more_episodes(bench, tmp_path):
    for flags, shown in (
        ({}, "20"),
        ({"final_eval_episodes": 20}, "20"),
        ({"final_eval_episodes": 50}, "20, the last 50"),
    ):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        write_suite(tmp_path, {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 1, suite={"arguments": flags})
        bench("report", "suite")
        assert (
            f"| CartPole-v1 | 100,000 | {shown} | 5,000 | its own | 1 |" in (tmp_path / "report/report.md").read_text()
        )


def test_a_script_without_environment_steps_has_no_steps_a_second(bench, tmp_path):
    """fqi.py learns from a fixed data set: its result.json has seconds, and no sps."""
    suite_dir = write_suite(tmp_path, {"a.py": 0.9, "fqi.py": 0.8}, {"CartPole-v1": (20.0, 500.0)}, 2)

    def report_without_sps(pattern: str) -> str:
        for path in suite_dir.glob(f"{pattern}/*/result.json"):
            result = json.loads(path.read_text())
            result.pop("sps", None)
            path.write_text(json.dumps(result))
        assert bench("report", "suite")[0] == 0
        return (tmp_path / "report" / "report.md").read_text()

    table = report_without_sps("fqi__*").split("Environment steps a second")[1]
    table, after = table.split("Wall time of a run")
    assert "| a.py | 8,000 (8,000 to 8,000) |" in table and not re.search(r"nan|fqi.py \| \d", table)
    assert "| fqi.py | 12 s (12 s to 12 s) |" in after
    sps = {row["script"]: row["sps"] for row in rows(tmp_path / "report" / "finals.csv")}
    assert sps == {"a.py": "8000.0", "fqi.py": ""}
    assert ["sps" in record.result for record in read(tmp_path / "report").records] == [True, False, True, False]
    assert "Environment steps a second" not in report_without_sps("*"), "nothing to show"


def test_pairs_that_matter_come_first_and_the_others_are_folded(bench, tmp_path):
    """Of five contenders each against dqn.py, and Rainbow against each: 4 + 3 pairs; the other 3 are folded away."""
    write_suite(tmp_path, LADDER, ENV_IDS, 6)
    _, out, _ = bench("report", "suite")
    *said, folded, _ = out.splitlines()
    assert len(said) == 7
    assert all(
        re.search(r"(and|than) dqn.py at|^rainbow.py is better than|between rainbow.py and", line) for line in said
    )
    others = {"double_dqn.py and dueling_dqn.py", "double_dqn.py and per_dqn.py", "dueling_dqn.py and per_dqn.py"}
    assert not any(pair in out for pair in others) and folded == "and of 3 more pairs in the report"
    page, text = Page(tmp_path / "report" / "index.html"), (tmp_path / "report" / "report.md").read_text()
    for shown in (page.text, text):
        # 10 pairs, over both environments and in each of them.
        assert "30 comparisons were made, of every pair over all environments and in each of them: " in shown
        assert all(sum(f"between {pair}" in line for line in shown.splitlines()) == 1 for pair in others)
        assert shown.index("3 more") > shown.index(said[0][:40])
    assert ("details", {}) in page.tags and "<details>" in text


def test_who_is_best_where(bench, tmp_path):
    """Rainbow alone has the star; it is better than the four others, and they are worse than one of four."""
    write_suite(tmp_path, LADDER, ENV_IDS, 6)
    bench("report", "suite")
    text = (tmp_path / "report" / "report.md").read_text()
    table = text[text.index("★: the highest") : text.index("- No evidence")]
    found = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in table.splitlines() if ".py |" in line}
    assert list(found) == list(LADDER)
    for label, (cartpole, acrobot, better, worse) in found.items():
        best = label == "rainbow.py"
        assert ("★" in cartpole) == ("★" in acrobot) == best
        assert (better.strip(), worse.strip()) == (("4 of 4", "0 of 4") if best else ("0 of 4", "1 of 4"))


def test_what_survives_holms_correction_is_marked(tmp_path):
    """Ten seeds each. a is above b everywhere: p = 0.0002, times 3. c is above b in 79 of 100 pairs: p = 0.028,
    which times 2 is too much. d is above b in 55.
    """
    seeds = np.arange(10.0)
    finals = {"a": seeds + 20, "b": seeds, "c": seeds + 3.1, "d": seeds + 0.1}
    records = [
        Record(label, "X-v0", seed, "done", tmp_path, result={RETURN: value})
        for label, values in finals.items()
        for seed, value in enumerate(values)
    ]
    pairs = [("a", "b"), ("c", "b"), ("d", "b")]
    analysis = Analysis(Results("x", records), pairs)
    found = [analysis.comparisons[*pair, None] for pair in pairs]
    assert [one.probability for one in found] == pytest.approx([1, 0.79, 0.55])
    assert found[1].p_value == pytest.approx(0.028, abs=0.001) and analysis.surviving == {("a", "b", None)}
    above, some, none = write_report(Results("x", records), tmp_path / "report", pairs)
    assert above.endswith(" †") and "c is better than b" in some and "No evidence" in none and "†" not in some + none
    text = (tmp_path / "report" / "report.md").read_text()
    assert "3 comparisons were made, one of each pair: 2 of them say better or worse, and 1 still do" in text
    assert "1.00 better †" in text


def test_of_a_peers_settings_the_better_one_is_compared(tmp_path):
    skills = {"dqn.py": 5.0, "double_dqn.py": 5.0, "peer.py": 1.0, "peer.py --published": 9.0}
    records = [
        Record(label, "X-v0", seed, "done", tmp_path, result={RETURN: skill + seed / 10})
        for label, skill in skills.items()
        for seed in range(6)
    ]
    for more in ("more.py",):  # beyond six pairs
        records += [Record(more, "X-v0", seed, "done", tmp_path, result={RETURN: 0.0}) for seed in range(6)]
    analysis = Analysis(Results("x", records))
    assert analysis.matters("dqn.py", "peer.py --published") and not analysis.matters("dqn.py", "peer.py")
    assert analysis.matters("peer.py", "peer.py --published"), "and the two with each other"


def test_cost_is_drawn_over_the_seconds_of_the_run(bench, tmp_path):
    """8,000 steps a second; a run that took a rest, with more time between its events than it says, is left out."""
    suite_dir = write_suite(tmp_path, {"a.py": 0.5}, {"CartPole-v1": (20.0, 500.0)}, 5)
    record = read(suite_dir).records[0]
    steps = record.curves[RETURN][0]
    assert record.clock == pytest.approx(steps / 8000) and record.clock[-1] == 12.5
    bench("report", "suite")
    assert (tmp_path / "report" / "figures" / "cost.svg").exists()
    for path in suite_dir.glob("*/*/result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 5.0}))
    assert read(suite_dir).records[0].clock is None
    assert bench("report", "suite")[0] == 0 and not (tmp_path / "report" / "figures" / "cost.svg").exists()


def test_the_csv_holds_every_seed(bench, tmp_path):
    suite_dir = write_suite(tmp_path, {"good.py": 0.9}, ENV_IDS, 3)
    bench("report", "suite")
    finals, curves = rows(tmp_path / "report" / "finals.csv"), rows(tmp_path / "report" / "curves.csv")
    assert len(finals) == 6 and len(curves) == 6 * 20
    for row in finals:
        (path,) = suite_dir.glob(f"good__{row['env_id']}__{row['seed']}__*/*/result.json")
        final = json.loads(path.read_text())["eval/episodic_return"]
        assert float(row["final_return"]) == final and json.loads(row["returns"]) == [final - 1, final + 1]
    first = finals[0]  # CartPole: random 22.4, reference 500
    assert float(first["normalised"]) == pytest.approx((float(first["final_return"]) - 22.4) / (500 - 22.4))
    own = [float(row["episodic_return"]) for row in curves if row["env_id"] == "CartPole-v1" and row["seed"] == "1"]
    assert float(first["area"]) == pytest.approx(np.trapezoid(own, dx=5000) / 95_000, rel=1e-5)
    reached = [i for i, value in enumerate(own) if value >= 475]
    assert float(first["steps_to_threshold"]) == (5000 * (reached[0] + 1) if reached else float("inf"))


def test_a_limit_of_episodes_that_is_not_the_environments_own_is_named_beside_published_scores(bench, tmp_path):
    for suite, limit, env_id in (
        ({"arguments": {"max_episode_steps": 5000}}, "5,000", r"CartPole-v1 (5000 steps)"),
        ({}, "its own", "CartPole-v1"),
    ):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        write_suite(tmp_path, {"good.py": 0.9}, ENV_IDS, 1, suite=suite)
        bench("report", "suite")
        text = (tmp_path / "report" / "report.md").read_text()
        assert f"| {env_id} | 100,000 | 20 | 5,000 | {limit} | 1 |" in text
        assert re.search(rf"\| {re.escape(env_id)} \| good.py \| [\d.]+ \| 100,000 \| 1 \|", text)


@pytest.mark.parametrize(
    ("env_id", "args", "name"),
    [
        ("FrozenLake-v1", {"env_kwargs": [], "max_episode_steps": None}, "FrozenLake-v1"),
        ("A-v0", {"env_kwargs": ["b=8x8", "a='8'"], "max_episode_steps": 50}, "A-v0 (a='8', b='8x8', 50 steps)"),
        ("A-v0", {"env_kwargs": ["a='8'", "b='8x8'"], "max_episode_steps": 50}, "A-v0 (a='8', b='8x8', 50 steps)"),
        ("A-v0", {"env_kwargs": "a=8"}, "A-v0 (a=8)"),
        ("A-v0 (a=8)", {"env_kwargs": ["a=8"]}, "A-v0 (a=8)"),  # from the tables of a report
        ("ale_py:ALE/Pong-v5", {}, "ALE/Pong-v5"),
        ("PongNoFrameskip-v4", {"protocol": "mnih"}, "ALE/Pong-v5"),  # of dqn_atari.py
        ("PongNoFrameskip-v4", {}, "PongNoFrameskip-v4"),  # of Gymnasium: without sticky actions
    ],
)
def test_a_task_is_an_environment_with_its_arguments(env_id, args, name):
    assert task(env_id, args) == name


def test_an_environment_with_other_arguments_is_another_task(bench, tmp_path):
    """By itself FrozenLake's scale is 0.014 to 0.7402: a return of 0.3771 is in its middle. The other has no scale."""
    for i, (kwargs, final) in enumerate((([], 0.3771), (["is_slippery=False"], 1.0))):
        for seed in range(1, 6):
            args = {"env_id": "FrozenLake-v1", "seed": seed, "exp_name": "mine", "env_kwargs": kwargs}
            write_run(tmp_path / "runs" / f"{i} {seed}", args, np.array([0.0, final]), np.array([10, 20]))
    assert bench("report", "runs")[0] == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| FrozenLake-v1 | mine | 5 | 0.377 |" in text
    assert "| FrozenLake-v1 (is_slippery=False) | mine | 5 | 1.00 |" in text
    found = {(row["env_id"], row["normalised"][:3]) for row in rows(tmp_path / "report" / "finals.csv")}
    assert found == {("FrozenLake-v1", "0.5"), ("FrozenLake-v1 (is_slippery=False)", "")}
    assert read(tmp_path / "report").env_ids == ["FrozenLake-v1", "FrozenLake-v1 (is_slippery=False)"]


def test_a_suite_holds_two_tasks_of_one_environment(bench, tmp_path):
    """A run that failed before it wrote anything belongs to its task too."""
    names = {"FrozenLake-v1": (0.0, 0.7), "FrozenLake-v1 --env-kwargs is_slippery=False": (0.0, 1.0)}
    suite_dir = write_suite(tmp_path, {"a.py": 0.5}, dict.fromkeys(names, (0.0, 1.0)), 5)
    failed = next(suite_dir.glob("a__FrozenLake-v1__3__*"))
    shutil.rmtree(next(failed.glob("run__*")))
    (failed / "attempts.json").write_text(json.dumps({"attempts": [{"reason": "exit code 1"}]}))
    found = {(record.env_id, record.seed): record.state for record in read(suite_dir).records}
    assert {env_id for env_id, _ in found} == {"FrozenLake-v1", "FrozenLake-v1 (is_slippery=False)"}
    assert len(found) == 10 and list(found.values()).count("failed") == 1


def test_normalisation_does_not_depend_on_the_runs(bench, tmp_path):
    """The same runs beside others that are far better: the same normalised value."""
    values = []
    for scripts in ({"a.py": 0.5}, {"a.py": 0.5, "b.py": 1.0}):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        write_suite(tmp_path, scripts, {"CartPole-v1": (20.0, 500.0)}, 2)
        bench("report", "suite")
        first = rows(tmp_path / "report" / "finals.csv")[0]
        values.append((float(first["normalised"]), float(first["final_return"])))
    assert all((final - 22.4) / 477.6 == pytest.approx(normalised) for normalised, final in values)


def test_a_suite_gives_the_scale_of_its_own_environments(bench, tmp_path):
    """All runs return 46.5, halfway from 3 to 90. A report of the report has the same scale."""
    suite = {"references": {"Own-v0": {"random": 3.0, "solved": 90.0}}, "arguments": {"env_kwargs": ["a=1"]}}
    write_suite(tmp_path, {"a.py": 0.5}, {"Own-v0": (46.5, 46.5), "Other-v0": (1.0, 1.0)}, 5, suite=suite)
    for source, output in (("suite", "report"), ("report", "again")):
        assert bench("report", source, "--output", output)[0] == 0
        text = (tmp_path / output / "report.md").read_text()
        assert "Normalised (0: random policy, 1: reference score), over Own-v0 (a=1):" in text
        assert "| a.py | 0.500 | 0.500 | 0.500 to 0.500 |" in text
        assert "| Own-v0 (a=1) | 3.00 | 90.0 | solved, says the suite |" in text
        assert "| Other-v0 (a=1) | – | – | all runs are equal: left out" in text
        assert "| a.py | not by more than half (0 of 5 seeds) |" in text, "the threshold is the return that solves it"


def test_without_references_the_scale_is_the_range_of_all_runs(bench, tmp_path):
    """10, 20 and 30 become 0, 1/2 and 1. The page says so; finals.csv, which other reports read, has no such scale."""
    for name, final in (("a", 10.0), ("b", 20.0), ("c", 30.0)):
        for seed in range(1, 6):
            for env_id in ("Own-v0", "Equal-v0"):
                args = {"env_id": env_id, "seed": seed, "exp_name": name}
                curve = np.array([final if env_id == "Own-v0" else 7.0])
                write_run(tmp_path / "runs" / f"{name} {seed} {env_id}", args, curve, np.array([10]))
    assert bench("report", "runs")[0] == 0
    text = (tmp_path / "report" / "report.md").read_text()
    scale = "Own-v0 (no references: 0 is 10.0 and 1 is 30.0, the lowest and the highest final return here)"
    assert f"Normalised (0: random policy, 1: reference score), over {scale}:" in text
    for name, share in (("a", "0.000"), ("b", "0.500"), ("c", "1.00")):
        assert f"| {name} | {share} | {share} | {share} to {share} |" in text
    assert f"is at least τ, over {scale}." in text
    assert "| Own-v0 | 10.0 | 30.0 | none: the range of all runs here |" in text
    assert {row["normalised"] for row in rows(tmp_path / "report" / "finals.csv")} == {""}


def test_a_report_on_another_number_of_the_results(bench, tmp_path):
    """Both return 500, and a succeeds in all episodes, b in a quarter. One of b's runs did not say, and is left out."""
    for name, success in (("a", True), ("b", 0.25)):
        for seed in range(1, 7):
            args = {"env_id": "CartPole-v1", "seed": seed, "exp_name": name}
            steps = np.array([4000, 8000])
            run_dir = write_run(tmp_path / "runs" / f"{name}{seed}", args, np.array([1.0, 500.0]), steps)
            if (name, seed) != ("b", 6):
                result = json.loads((run_dir / "result.json").read_text())
                (run_dir / "result.json").write_text(json.dumps(result | {"eval/info/is_success": success}))
                curve = [(int(step), {"eval/info/is_success": float(success), RETURN: 9.0}) for step in steps]
                write_events(run_dir, curve)
    code, out, _ = bench("report", "runs", "--metric", "eval/info/is_success", "--page", "page.md")
    assert code == 1 and "a is better than b at 5 seeds" in out
    text = (tmp_path / "report" / "report.md").read_text()
    assert "# runs: eval/info/is_success" in text and "This report is about eval/info/is_success, wherever" in text
    assert "| CartPole-v1 | a | 6 | 1.00 |" in text and "| CartPole-v1 | b | 5 | 0.250 |" in text
    assert "its result.json has no eval/info/is_success |" in text and "RL Zoo" not in text, "its score is a return"
    assert "--metric eval/info/is_success" in (tmp_path / "page.md").read_text()
    curves = rows(tmp_path / "report" / "curves.csv")
    assert {(row["script"], row["episodic_return"]) for row in curves} == {("a", "1.0"), ("b", "0.25")}
    assert bench("report", "report", "--metric", "eval/info/is_success", "--output", "again")[0] == 0
    for arguments, said in (
        (("report", "report"), "report is a report on eval/info/is_success, not on eval/episodic_return"),
        (("compare", "report", "runs"), "report is a report on eval/info/is_success, not on eval/episodic_return"),
        (
            ("report", "runs", "--metric", "no"),
            "no run in runs has no; its numbers are best_return, eval/episodic_return",
        ),
    ):
        code, _, error = bench(*arguments, "--output", "none")
        assert code == 2 and said in error and error.count("\n") == 1


def test_few_seeds_are_warned_of(bench, tmp_path):
    """And nobody is called the best."""
    write_suite(tmp_path, {"a.py": 0.9, "b.py": 0.1, "c.py": 0.1}, ENV_IDS, 3)
    bench("report", "suite")
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.count("★") == 1, "where it is explained"
    shutil.rmtree(tmp_path / "runs")
    write_suite(tmp_path, {"a.py": 0.9, "b.py": 0.1}, ENV_IDS, 3)
    _, out, _ = bench("report", "suite")
    page = Page(tmp_path / "report" / "index.html")
    assert "3 seeds are too few to tell" in out and "better" not in out
    assert ("p", {"class": "warning", "role": "alert"}) in page.tags and "Warning: some results rest on 3" in page.text
    table = (tmp_path / "report" / "report.md").read_text().split("| pair |")[1].split("\n\n")[0]
    assert "| a.py over b.py | 1.00 |" in table, "a probability, but no interval"


@pytest.mark.bug(42)
def test_failed_and_missing_runs_are_rows(bench, tmp_path):
    write_script(tmp_path)
    base = ("run", "--scripts", "fake.py", "--env-ids", "CartPole-v1", "--num-seeds", "2")
    bench(*base, "--retries", "0", "--arguments", "does=fail")
    code, _, _ = bench("report", "default")
    page = Page(tmp_path / "report" / "index.html")
    assert code == 1 and "2 runs: 2 failed" in page.text
    assert page.text.count("these are the last words") == 2 and page.text.count("exit code 1") >= 2
    assert (tmp_path / "report" / "report.md").read_text().count("    these are the last words") == 2


def test_a_result_without_a_return_is_a_failure(bench, tmp_path):
    suite_dir = write_suite(tmp_path, {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 2)
    for path, text in zip(
        sorted(suite_dir.glob("*/*/result.json")), ("{}", '{"eval/episodic_return": NaN}'), strict=True
    ):
        path.write_text(text)
    assert bench("report", "suite")[0] == 1
    assert "result.json has no eval/episodic_return" in Page(tmp_path / "report" / "index.html").text


def test_a_truncated_event_file(bench, tmp_path):
    """The run's result counts, its curve is left out, and the report says so."""
    suite_dir = write_suite(tmp_path, {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 6)
    for path in suite_dir.glob("a__CartPole-v1__3__*/*/events*"):
        path.write_bytes(path.read_bytes()[:-100])
        assert len(read_scalars(path.parent)["eval/episodic_return"]) == 19
    for path in suite_dir.glob("a__CartPole-v1__4__*/*/events*"):
        path.write_bytes(b"")
    assert bench("report", "suite")[0] == 0
    text = Page(tmp_path / "report" / "index.html").text
    assert "its event file breaks off; its curve ends early" in text
    assert "its event files have no eval/episodic_return" in text
    assert len(rows(tmp_path / "report" / "finals.csv")) == 6


def test_events_are_read_as_far_as_they_go(tmp_path):
    path = write_events(tmp_path, [(1, {"a": 1.0}), (2, {"b": 2.0}), (3, {"a": 3.0})])
    whole = path.read_bytes()
    assert read_scalars(tmp_path) == {"a": [(1, 1.0, 1 / 8000), (3, 3.0, 3 / 8000)], "b": [(2, 2.0, 2 / 8000)]}
    assert read_scalars(tmp_path, "a") == {"a": [(1, 1.0, 1 / 8000), (3, 3.0, 3 / 8000)]}
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        events, complete = read_events(path)
        assert len(events) < 3 and complete == (length in (0, len(whole) // 3, 2 * len(whole) // 3))
    path.write_bytes(whole[:14] + bytes([255] * 8) + whole[22:])
    assert read_events(path)[1] is False
    broken = []
    read_scalars(tmp_path, "a", broken)
    assert broken == [path]
    path.write_bytes(bytes(16))  # an event that says nothing is one all the same
    events, complete = read_events(path)
    assert len(events) == 1 and complete


@pytest.mark.parametrize("prefix", ["", "eval/"])
def test_what_a_killed_run_logged_and_the_resumed_one_logs_again_counts_once(tmp_path, prefix):
    """Killed after step 3, resumed from a checkpoint at step 1."""
    for first, last, resumed in ((1, 3, None), (2, 4, 2)):
        writer = SummaryWriter(tmp_path, purge_step=resumed)
        for step in range(first, last + 1):
            writer.add_scalar("eval/x", 10 * first + step, step)
        writer.close()
    found = [(step, value) for step, value, _ in read_scalars(tmp_path, prefix)["eval/x"]]
    assert found == [(1, 11), (2, 22), (3, 23), (4, 24)]


def test_folders_without_a_suite(bench, tmp_path):
    """Runs that were started by hand; of two with the same seed the later complete one counts."""
    steps = np.array([10, 20])
    for seed, name, value in ((1, "x", 100.0), (2, "x", 110.0), (1, "y", 120.0)):
        args = {"env_id": "CartPole-v1", "seed": seed, "exp_name": "mine"}
        write_run(tmp_path / "runs" / name, args, np.array([1.0, value]), steps)
    (tmp_path / "runs" / "y" / "half").mkdir()
    (tmp_path / "runs" / "y" / "half" / "args.json").write_text(json.dumps(args | {"seed": 3}))
    found = read(tmp_path / "runs")
    states = sorted((record.seed, record.state) for record in found.records)
    assert states == [(1, "done"), (2, "done"), (3, "unfinished")]
    assert sorted(record.final for record in found.done) == [110.0, 120.0]
    assert bench("report", "runs")[0] == 1 and "has no result.json" in (tmp_path / "report/report.md").read_text()


def test_what_records_say_together(tmp_path):
    """Arguments that differ between contenders, numbers of results that are numbers, and the values of an entry."""
    values = {"a": [{"x": 1, "y": 1000}, {"x": 1, "y": 2, "seed": 7}], "b": [{"x": 1, "z": "", "loss": "huber"}]}
    records = [Record(name, "A", 1, "done", tmp_path, args=args) for name, some in values.items() for args in some]
    differing = {"y": ("1000, 2", "–"), "z": ("–", '""'), "loss": ("–", '"huber"')}
    expected = {name: dict(zip("ab", texts, strict=True)) for name, texts in differing.items()}
    assert arguments_that_differ(records) == expected
    for record, seconds in zip(records, (3, float("nan"), 4.5), strict=True):
        record.result = {"seconds": seconds, "sps": 1}
    assert numbers(records, "seconds") == [3.0, 4.5]
    for name, said in (("y", "1,000; 2"), ("x", "1"), ("z", ""), ("loss", "huber")):
        assert values_of(records, name) == said


def test_folders_that_hold_no_run_are_passed_over(tmp_path):
    """Half a file, a list, no environment, no seed: all older than the runs, of which one is not complete."""
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"seed": 1}'), ("d", '{"env_id": "A"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "args.json").write_text(text)
        os.utime(tmp_path / name / "args.json", (0, 0))
    args = {"env_id": "A", "seed": 1, "exp_name": "mine", "gamma": 0.9}
    write_run(tmp_path / "e", args, np.array([1.0]), np.array([10]))
    half = write_run(tmp_path / "f", args | {"seed": 2}, np.array([1.0]), np.array([10]))
    (half / "result.json").unlink()
    found = read(tmp_path)
    assert [(record.seed, record.state) for record in found.records] == [(1, "done"), (2, "unfinished")]
    assert found.records[1].args == args | {"seed": 2}
    assert found.title == tmp_path.name


def test_a_suites_records_know_its_sweeps_and_the_text_of_their_script(tmp_path):
    suite_dir = write_suite(
        tmp_path, {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 1, suite={"sweeps": {"gamma": [0.5]}}
    )
    found, text = read(suite_dir), (tmp_path / "scripts" / "a.py").read_bytes()
    assert found.title == "suite" and found.sweeps == {"gamma": [0.5]}
    assert {record.code for record in found.records} == {f"SHA-256 {hashlib.sha256(text).hexdigest()[:12]}"}
    for path in suite_dir.glob("*/*/events*"):
        path.write_bytes(path.read_bytes()[:20])
    problem = "its event file breaks off; its event files have no eval/episodic_return"
    assert {record.problem for record in read(suite_dir).records} == {problem}


def test_folders_with_different_arguments_are_different_contenders(tmp_path):
    """Seeds 1 to 3 with γ 0.9, and 2 to 4 with 0.99: six runs of two contenders, none of them lost."""
    for gamma, seeds in ((0.9, (1, 2, 3)), (0.99, (2, 3, 4))):
        for seed in seeds:
            args = {"env_id": "CartPole-v1", "seed": seed, "exp_name": "mine", "gamma": gamma}
            write_run(tmp_path / f"{gamma}-{seed}", args, np.array([1.0, 2.0]), np.array([10, 20]))
    for seed in (1, 2):  # a script without a name for its experiments has its own
        args = {"env_id": "A", "seed": seed, "command": ["my/script.py", "--seed", str(seed)]}
        write_run(tmp_path / "other" / str(seed), args, np.array([1.0]), np.array([10]))
    assert {record.label for record in read(tmp_path / "other").done} == {"script"}
    shutil.rmtree(tmp_path / "other")
    found = read(tmp_path)
    assert sorted((record.label, record.seed) for record in found.done) == [
        *[("mine gamma=0.9", seed) for seed in (1, 2, 3)],
        *[("mine gamma=0.99", seed) for seed in (2, 3, 4)],
    ]


def write_by_hand(folder: Path, text: str, seeds: range, final: float, at: int, name: str = "mine") -> None:
    """Runs of a script with this text (its first letter fills the hash) that were started by hand `at` this second."""
    for seed in seeds:
        args = {"env_id": "CartPole-v1", "seed": seed, "exp_name": name, "gamma": 0.9, "sha256": text[0] * 64}
        run_dir = write_run(folder / f"{text} {at} {seed}", args, np.array([0.0, final]), np.array([10, 20]))
        os.utime(run_dir / "args.json", (at, at))
        result = json.loads((run_dir / "result.json").read_text())
        (run_dir / "result.json").write_text(json.dumps(result | {"seconds": at}))


def test_another_text_of_a_script_is_another_contender_and_repeated_seeds_are_said(bench, tmp_path):
    """Five seeds return 3; a line is changed, and five more return 9; two of these return 11 when they run again.

    The two means are 3 and (11 + 11 + 9 + 9 + 9) / 5 = 9.8. A copy of a run is no other run.
    """
    write_by_hand(tmp_path / "runs", "a", range(1, 6), 3.0, at=1)
    write_by_hand(tmp_path / "runs", "b", range(6, 11), 9.0, at=2)
    shutil.copytree(tmp_path / "runs", tmp_path / "runs" / "copy")
    write_by_hand(tmp_path / "runs", "b", range(6, 8), 11.0, at=3)
    assert bench("report", "runs")[0] == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| CartPole-v1 | mine (text aaaaaaa) | 5 | 3.00 | 0.000 |" in text
    assert "| CartPole-v1 | mine (text bbbbbbb) | 5 | 9.80 |" in text
    assert "same text and arguments (mine (text bbbbbbb) on CartPole-v1: 6, 7); one complete run of each" in text
    shutil.rmtree(tmp_path / "runs")
    write_by_hand(tmp_path / "runs" / "old", "a", range(1, 6), 3.0, at=1)
    write_by_hand(tmp_path / "runs" / "new", "b", range(1, 6), 9.0, at=2)
    bench("report", "runs/old", "runs/new")
    assert {row["script"] for row in rows(tmp_path / "report" / "finals.csv")} == {"old: mine", "new: mine"}
    (old_text,) = set((tmp_path / "runs" / "old" / "a 1 1").glob("*/args.json"))
    args = json.loads(old_text.read_text())
    del args["sha256"]  # as older scripts left it
    old_text.write_text(json.dumps(args))
    assert read(tmp_path / "runs" / "old").labels == ["mine (text unknown)", "mine (text aaaaaaa)"]


def test_a_run_that_crashed_outside_a_suite_is_a_failure(bench, tmp_path):
    """Of a's eleven runs five return 100 and six leave error.txt; b's eleven return 50: a is above in 5 of 11."""
    for name, final in (("a", 100.0), ("b", 50.0)):
        write_by_hand(tmp_path / "runs" / name, name, range(1, 12), final, at=1, name=name)
    for seed in range(6, 12):
        run_dir = next((tmp_path / "runs" / "a" / f"a 1 {seed}").iterdir())
        (run_dir / "result.json").unlink()
        (run_dir / "error.txt").write_text("the environment failed\nTraceback:\n  in its step\n")
    code, out, _ = bench("report", "runs")
    assert code == 1 and "No evidence of a difference between b and a at 11 seeds" in out and "probability 0.55" in out
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Warning: 6 runs failed." in text and "| a | CartPole-v1 | 6 | failed | the environment failed |" in text
    assert "    Traceback:\n      in its step\n" in text


@pytest.mark.parametrize("result", [None, "{}"])
def test_a_run_to_which_nobody_wrote_for_ten_minutes_was_killed(tmp_path, result):
    """Nine minutes ago it may be in an evaluation. A new file in a folder below counts as well."""
    run_dir = tmp_path / "run"
    (run_dir / "videos").mkdir(parents=True)
    (run_dir / "args.json").write_text(json.dumps({"env_id": "A", "seed": 1, "exp_name": "mine"}))
    if result:
        (run_dir / "result.json").write_text(result)
    for minutes, state in ((9, "unfinished"), (11, "failed")):
        for path in run_dir.rglob("*"):
            os.utime(path, (then := time.time() - 60 * minutes, then))
        (record,) = read(tmp_path).records
        assert record.state == state and ("for 10 minutes" in record.problem) == (state == "failed")
    (run_dir / "videos" / "one.mp4").touch()
    assert read(tmp_path).records[0].state == "unfinished"
    (run_dir / "error.txt").write_text("")
    assert read(tmp_path).records[0].problem == "its error.txt is empty"
    (run_dir / "error.txt").write_text("Traceback (most recent call last):\n  File a, line 1\nValueError: boom\n\n")
    assert read(tmp_path).records[0].problem == "ValueError: boom"


def test_a_run_that_is_in_two_sources_counts_once(bench, tmp_path):
    write_suite(tmp_path, {"a.py": 0.5, "b.py": 0.6}, {"CartPole-v1": (20.0, 500.0)}, 5)
    code, out, _ = bench("report", "suite", "runs/suite")
    assert code == 0 and "at 5 seeds" in out
    shutil.copytree(tmp_path / "runs" / "suite", tmp_path / "runs" / "copy")
    code, out, _ = bench("report", "suite", "copy")
    assert code == 0 and "at 5 seeds" in out, "a copy adds no seeds"


def test_a_report_can_be_made_from_what_another_one_left(bench, tmp_path):
    """A study in two sittings: seeds 1 to 3 are reported; then 4 to 6, together with what the first report left."""
    env_ids = {"CartPole-v1": (20.0, 500.0)}
    for first in (1, 4):
        suite = {"arguments": {"gamma": 0.9}, "first_seed": first, "sweeps": {"gamma": [0.5]}}
        write_suite(tmp_path / f"from-{first}", {"a.py": 0.9}, env_ids, 3, suite=suite)
        (tmp_path / f"from-{first}" / "runs" / "suite").rename(tmp_path / f"from-{first}" / "study")
    once = tmp_path / "once"
    assert bench("report", "from-1/study", "from-4/study", "--output", str(once))[0] == 0
    parts = tmp_path / "docs" / "study"
    assert bench("report", "from-1/study", "--output", str(parts))[0] == 0
    shutil.rmtree(tmp_path / "from-1")
    code, out, _ = bench("report", "docs/study", "from-4/study", "--output", str(parts))
    assert code == 0 and "a.py --gamma=0.5" in out
    for name in ("finals.csv", "curves.csv", "arguments.json", "report.md"):
        assert (parts / name).read_bytes() == (once / name).read_bytes(), name
    assert len(rows(parts / "finals.csv")) == 12 and "# study" in (parts / "report.md").read_text()
    assert (parts / "figures" / "cost.svg").exists() and (parts / "figures" / "sweeps.svg").exists()
    code, _, _ = bench("report", "docs/study", "--output", str(tmp_path / "again"))
    assert code == 0 and (tmp_path / "again" / "finals.csv").read_bytes() == (once / "finals.csv").read_bytes()
    assert (tmp_path / "again" / "figures" / "sweeps.svg").exists(), "what was swept is kept too"
    kept = json.loads((once / "arguments.json").read_text())["contenders"]
    assert [(own["script"], own["args"]["gamma"], own["seeds"]) for own in kept] == [
        ("a.py", 0.9, [1, 2, 3, 4, 5, 6]),
        ("a.py --gamma=0.5", 0.5, [1, 2, 3, 4, 5, 6]),
    ]
    assert {own["code"] for own in kept} == {read(tmp_path / "from-4" / "study").records[0].code}


def test_runs_count_before_a_report_that_lies_beside_them(bench, tmp_path):
    """A report written into the folder of its runs does not stand for what is added there later."""
    for seed in (1, 2):
        args = {"env_id": "CartPole-v1", "seed": seed, "exp_name": "mine"}
        write_run(tmp_path / "mine", args, np.array([1.0, 2.0]), np.array([10, 20]))
        assert bench("report", "mine", "--output", "mine")[0] == 0
        assert len(rows(tmp_path / "mine" / "finals.csv")) == seed


def test_of_a_stored_run_everything_that_a_report_shows_is_kept(tmp_path):
    """A failed run with its reason, a resumed one without a clock; a missing one is left to other sources."""
    states = {1: "done", 2: "failed", 3: "missing"}
    records = [Record("a.py", "CartPole-v1", seed, state, tmp_path / str(seed)) for seed, state in states.items()]
    records[0].result = {"eval/episodic_return": 0.1 + 0.2, "best_return": 7, "seconds": 3.5, "returns": [1.5, 2]}
    values = np.array([0.1, 16777217.0, 1 / 3], np.float32)
    records[0].curves = {"eval/episodic_return": (np.array([10, 20, 30]), values)}
    records[0].args = {"gamma": 0.9, "runs_dir": "somewhere/else", "seed": 1, "command": ["a.py"], "commit": "abc"}
    records[0].args["sha256"] = "0123"
    records[0].problem, records[1].problem = "odd, but complete", "killed:\nout of memory"
    records[0].code = records[1].code = "SHA-256 0123"
    write_report(Results("study", records), tmp_path / "study")
    done, failed = read(tmp_path / "study").records
    assert (done.label, done.env_id, done.seed, done.state) == ("a.py", "CartPole-v1", 1, "done")
    assert done.result == records[0].result and done.args == {"gamma": 0.9, "commit": "abc", "sha256": "0123"}
    (steps, kept), *others = done.curves.values()
    assert steps.tolist() == [10, 20, 30] and kept.tobytes() == values.tobytes() and not others
    assert done.clock is None and done.problem == "odd, but complete" and done.code == "SHA-256 0123"
    assert (failed.seed, failed.state, failed.problem) == (2, "failed", "killed:\nout of memory")


def test_a_report_of_another_version_is_refused_in_a_sentence(bench, tmp_path):
    write_suite(tmp_path, {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 1)
    bench("report", "suite")
    for text in (None, "{}", '{"contenders": [], "sweeps": {}}', "no JSON"):
        path = tmp_path / "report" / "arguments.json"
        path.unlink(missing_ok=True) if text is None else path.write_text(text)
        code, _, error = bench("report", "report", "--output", str(tmp_path / "other"))
        assert code == 2 and "report holds no report of this version" in error and "Traceback" not in error


def test_contenders_of_the_same_name_from_two_suites_are_one_only_if_they_are_alike(bench, tmp_path):
    """Other arguments, or another text of the script, make another contender; other seeds do not."""
    env_ids = {"CartPole-v1": (20.0, 500.0)}
    for name, gamma in (("one", 0.9), ("two", 0.5)):
        write_suite(tmp_path / name, {"a.py": gamma}, env_ids, 5, suite={"arguments": {"gamma": gamma}})
    code, out, _ = bench("report", "one/runs/suite", "two/runs/suite")
    assert code == 0 and "one/runs/suite: a.py is better than two/runs/suite: a.py at 5 seeds" in out
    other = {"arguments": {"gamma": 0.9}}
    write_suite(tmp_path / "text", {"b.py": 0.5, "a.py": 0.9}, env_ids, 5, suite=other)  # a.py has another comment here
    found = together({part: read(part) for part in (tmp_path / "one/runs/suite", tmp_path / "text/runs/suite")})
    assert found.labels == ["one/runs/suite: a.py", "b.py", "text/runs/suite: a.py"]
    write_suite(tmp_path / "more", {"a.py": 0.9}, env_ids, 5, suite={"arguments": {"gamma": 0.9}, "first_seed": 6})
    code, out, _ = bench("report", "one/runs/suite", "more/runs/suite")
    finals = rows(tmp_path / "report" / "finals.csv")
    assert {row["script"] for row in finals} == {"a.py"} and len(finals) == 10


def test_the_variants_of_a_sweep_stay_with_their_base(tmp_path):
    """Two suites whose base differs: the variants of one are compared with its own base."""
    env_ids = {"CartPole-v1": (20.0, 500.0)}
    swept = {"arguments": {"gamma": 0.9}, "sweeps": {"gamma": [0.5]}}
    write_suite(tmp_path / "swept", {"a.py": 0.9}, env_ids, 5, suite=swept)
    write_suite(tmp_path / "plain", {"a.py": 0.9}, env_ids, 5, suite={"arguments": {"gamma": 0.99}})
    found = together({part: read(part) for part in (tmp_path / "swept/runs/suite", tmp_path / "plain/runs/suite")})
    one, other = "swept/runs/suite: a.py", "plain/runs/suite: a.py"
    assert Analysis(found).pairs == [(one, other), (f"{one} --gamma=0.5", one)]


def test_a_run_counts_once_also_where_its_contender_has_two_names(tmp_path):
    """In its suite it is a.py, and by itself what its exp_name says."""
    suite_dir = write_suite(tmp_path, {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 5)
    folder = next(suite_dir.glob("a__CartPole-v1__3__*"))
    args = next(folder.glob("*/args.json"))
    args.write_text(json.dumps(json.loads(args.read_text()) | {"exp_name": "mine"}))
    found = together({part: read(part) for part in (suite_dir, folder)})
    assert found.labels == ["a.py"] and len(found.records) == 5
    assert together({part: read(part) for part in (tmp_path, suite_dir)}).labels == ["a.py"]


def test_of_two_runs_of_one_seed_the_complete_one_counts_or_else_the_first(tmp_path):
    """In two suites; arguments in another order are the same arguments."""
    for states, expected in (("failed done", 1), ("done failed", 0), ("done done", 0), ("failed running", 0)):
        parts, records = {}, []
        for name, state in zip("xy", states.split(), strict=True):
            args = {"gamma": 0.9, "tau": 1.0} if name == "x" else {"tau": 1.0, "gamma": 0.9}
            records.append(Record("a.py", "A", 1, state, tmp_path / name / "run", args=args))
            parts[tmp_path / name] = Results(name, records[-1:], {name: [1]})
        found = together(parts)
        assert [id(record) for record in found.records] == [id(records[expected])] and found.labels == ["a.py"]
        assert found.title == "x and y" and found.sweeps == {"x": [1], "y": [1]}


def test_a_folder_of_suites_is_read_as_these_suites(bench, tmp_path):
    """What failed there has failed here too, and runs beside them count as well."""
    write_suite(tmp_path, {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 5)
    failed = next((tmp_path / "runs" / "suite").glob("a__CartPole-v1__3__*"))
    next(failed.glob("*/result.json")).unlink()  # what the failed script has left is no run of its own
    path = next(failed.glob("*/args.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"exp_name": "a"}))
    (failed / "attempts.json").write_text(json.dumps({"attempts": [{"reason": "exit code 1"}]}))
    args = {"env_id": "CartPole-v1", "seed": 1, "exp_name": "beside"}
    write_run(tmp_path / "runs" / "x", args, np.array([1.0]), np.array([10]))
    for seed in (None, "1"):
        write_run(tmp_path / "runs" / f"odd{seed}", args | {"seed": seed}, np.array([1.0]), np.array([10]))
    found = read(tmp_path / "runs")
    assert sorted((record.label, record.seed, record.state) for record in found.records) == [
        ("a.py", 1, "done"), ("a.py", 2, "done"), ("a.py", 3, "failed"), ("a.py", 4, "done"), ("a.py", 5, "done"),
        ("beside", 1, "done"),
    ]  # fmt: skip


def test_a_contender_whose_runs_all_failed_is_compared_too(bench, tmp_path):
    suite_dir = write_suite(tmp_path, {"a.py": 0.9, "b.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 10)
    for folder in suite_dir.glob("b__*"):
        shutil.rmtree(next(folder.glob("run__*")))
        (folder / "attempts.json").write_text(json.dumps({"attempts": [{"reason": "exit code 1"}]}))
    code, out, _ = bench("report", "suite")
    assert code == 1 and "a.py is better than b.py at 10 seeds" in out
    for folder in suite_dir.glob("b__*"):
        shutil.rmtree(folder)
    missing = write_suite(tmp_path / "other", {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 10)
    for path in missing.glob("*/*/result.json"):
        path.unlink()
    code, out, _ = bench("compare", "suite", "other/runs/suite")
    assert code == 1 and "There is no complete run of other/runs/suite: a.py." in out


def test_a_report_leaves_no_figures_of_an_older_one(bench, tmp_path):
    write_suite(tmp_path, {"a.py": 0.9, "b.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 5)
    bench("report", "suite")
    figure = tmp_path / "report" / "figures" / "improvement.svg"
    assert figure.exists()
    write_suite(tmp_path / "alone", {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 5)
    assert bench("report", "alone/runs/suite")[0] == 0 and not figure.exists()


def test_numbers_that_are_none(bench, tmp_path):
    """Seconds that are NaN or infinite are left out of the cost."""
    suite_dir = write_suite(tmp_path, {"a.py": 0.9}, {"CartPole-v1": (20.0, 500.0)}, 5)
    for seconds, path in zip(
        ("NaN", "Infinity", "7", "7", "7"), sorted(suite_dir.glob("*/*/result.json")), strict=True
    ):
        result = json.loads(path.read_text()) | {"seconds": float(seconds)}
        path.write_text(json.dumps(result))
    code, _, _ = bench("report", "suite")
    assert code == 0 and "| 7 s (7 s to 7 s) |" in (tmp_path / "report" / "report.md").read_text()


def test_runs_that_failed_count_as_worse_than_all_others(bench, tmp_path):
    """good.py is far better where it does not fail; but half of its ten runs fail."""
    write_suite(tmp_path, {"good.py": 0.9, "bad.py": 0.3}, {"CartPole-v1": (20.0, 500.0)}, 10)
    folders = [folder for folder in (tmp_path / "runs" / "suite").iterdir() if folder.name.startswith("good__")]
    for folder in sorted(folders)[:5]:
        (next(folder.glob("*/result.json"))).unlink()
        (folder / "attempts.json").write_text(json.dumps({"attempts": [{"reason": "exit code 1"}]}))
    code, out, _ = bench("report", "suite")
    assert code == 1 and "No evidence of a difference between good.py and bad.py at 10 seeds" in out
    assert "probability 0.50" in out
    finals = rows(tmp_path / "report" / "finals.csv")
    assert sorted((row["script"], row["state"], row["final_return"] == "") for row in finals) == [
        *[("bad.py", "done", False)] * 10,
        *[("good.py", "done", False)] * 5,
        *[("good.py", "failed", True)] * 5,
    ]
    text = (tmp_path / "report" / "report.md").read_text()
    assert (
        "5 runs failed. Against other scripts they count as worse" in text
        and "of 10 seeds" in text
        and "of 5 seeds" not in text
    )


def test_what_differs_between_environments_is_said(bench, tmp_path):
    """One is better on the first environment, the other on the second: on average nothing, taken singly all.

    No run of the one side reaches the other's: that is left after Holm's correction. Modules are not part of a name.
    """
    for name, env_id, skill in (("one", 0, 0.9), ("two", 0, 0.2), ("one", 1, 0.2), ("two", 1, 0.9)):
        for seed in range(1, 11):
            args = {"env_id": ("my_envs:CartPole-v1", "Acrobot-v1")[env_id], "seed": seed, "exp_name": name}
            values = np.array([0.0, 100 * skill + 0.1 * seed])
            write_run(tmp_path / "runs" / f"{name}{env_id}{seed}", args, values, np.array([10, 20]))
    _, out, _ = bench("report", "runs")
    assert "No evidence of a difference between one and two at 10 seeds" in out
    assert "Taking environments singly, one is better on CartPole-v1 †; worse on Acrobot-v1 †." in out
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| pair | all | CartPole-v1 | Acrobot-v1 |" in text
    assert "\n| CartPole-v1 | one | 10 |" in text


def test_what_a_peer_did_not_do_as_asked_is_said(bench, tmp_path):
    for name in ("dqn", "peer"):
        for seed in range(1, 6):
            args = {"env_id": "CartPole-v1", "seed": seed, "exp_name": name, "loss": "mse"}
            args |= {"no_counterpart": ["loss"]} if name == "peer" else {}
            write_run(tmp_path / "runs" / f"{name}{seed}", args, np.array([1.0, 100 + seed]), np.array([10, 20]))
    bench("report", "runs")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Not only the scripts differ, their arguments do: loss (Protocol)" in text
    assert '| loss | "mse" | "not as asked" |' in text


def test_sources_without_a_common_environment(bench, tmp_path):
    for name, env_id in (("a", "CartPole-v1"), ("b", "Acrobot-v1")):
        args = {"env_id": env_id, "seed": 1, "exp_name": "x"}
        write_run(tmp_path / name / "run", args, np.array([1.0, 2.0]), np.array([10, 20]))
    _, out, _ = bench("compare", "a", "b")
    assert "b: x and a: x have no environment in common." in out


def test_predicted_and_realised_come_from_the_same_runs(tmp_path):
    """Each of two runs lost another one of its curves' ends: none is left to compare, and nothing breaks."""
    records = []
    for seed, cut in ((1, "eval/q_predicted"), (2, "eval/q_realised")):
        curves = {name: (np.array([10, 20]), np.array([1.0, 2.0])) for name in CURVES}
        curves[cut] = tuple(values[:1] for values in curves[cut])
        final = {RETURN: 2.0}
        records.append(Record("a", "CartPole-v1", seed, "done", tmp_path, result=final, curves=curves))
    write_report(Results("cut", records), tmp_path / "report")
    assert "Are the Q-values right?" not in (tmp_path / "report" / "report.md").read_text()


def test_compare_gives_the_verdict(bench, tmp_path):
    """My change against the original: two suites with a script of the same name."""
    for name, skill in (("before", 0.3), ("after", 0.9)):
        write_suite(tmp_path / name, {"dqn.py": skill, "other.py": 0.5}, ENV_IDS, 6)
    code, out, _ = bench("compare", tmp_path / "before" / "runs" / "suite", tmp_path / "after" / "runs" / "suite")
    first, second, _ = out.splitlines()
    assert code == 0 and re.match(
        r"after/runs/suite: dqn.py is better than before/runs/suite: dqn.py at 6 seeds: ", first
    )
    assert "after/runs/suite: other.py" in second and "No evidence" in second
    a, b = (read(tmp_path / name / "runs" / "suite") for name in ("before", "after"))
    b.records = [record for record in b.records if record.label == "dqn.py"]
    a.records = [record for record in a.records if record.label == "other.py"]
    assert side_by_side(a, b, "a", "b")[1] == [("b: dqn.py", "a: other.py")]
    a, b = (Results("", [Record(name, "A", 1, "done", tmp_path) for name in names.split()]) for names in ("x y", "z y"))
    found, pairs = side_by_side(a, b, "a", "b")
    assert pairs == [("b: y", "a: y")] and found.labels == ["a: x", "a: y", "b: z", "b: y"]
    assert found.title == "b against a"


def test_sweeps_have_a_panel_for_each_argument(bench, tmp_path):
    suite = {"arguments": {"gamma": 0.9, "batch": 32}, "sweeps": {"gamma": [0.8, 0.9, 0.99], "batch": [32, 64]}}
    write_suite(tmp_path, {"a.py": 0.5}, {"CartPole-v1": (20.0, 500.0)}, 5, suite=suite)
    code, out, _ = bench("report", "suite")
    said = ["No evidence of a difference in 3 pairs.", "and of 3 more pairs in the report"]
    assert code == 0 and out.splitlines() == [*said, "report: report/index.html"]
    folded = (tmp_path / "report" / "report.md").read_text().split("<details>")[1].split("</details>")[0]
    sentences = [line for line in folded.splitlines() if line.startswith("- ")]
    assert len(sentences) == 3, "every variant against the base, and no other pair"
    assert all(line.startswith("- No evidence") and "and a.py at 5 seeds" in line for line in sentences)
    assert (tmp_path / "report" / "figures" / "sweeps.svg").exists()


def test_of_a_sweep_those_values_are_named_that_differ(bench, tmp_path):
    """Seeds differ by 0.12: with γ 0.8 all of ten end below all of those with 0.9; with 0.99 and 1 some."""
    suite = {"arguments": {"gamma": 0.9}, "sweeps": {"gamma": [0.8, 0.9, 0.99, 1.0]}}
    good = {"a.py": lambda flags: 0.1 if flags["gamma"] == 0.8 else 0.8}
    write_suite(tmp_path, good, {"CartPole-v1": (20.0, 500.0)}, 10, suite=suite)
    worse, alike, *_ = bench("report", "suite")[1].splitlines()
    assert worse.startswith("a.py --gamma=0.8 is worse than a.py at 10 seeds")
    assert alike == "No evidence of a difference in 2 other pairs."


def test_a_sweep_whose_base_differs_between_environments(bench, tmp_path):
    """0.9 is the base on the one and a variant on the other; it has its place in the panel all the same."""
    suite = {"environments": {"CartPole-v1": {"gamma": 0.9}, "Acrobot-v1": {"gamma": 0.8}}}
    suite_dir = write_suite(tmp_path, {"a.py": 0.5}, ENV_IDS, 5, suite=suite | {"sweeps": {"gamma": [0.8, 0.9]}})
    assert bench("report", "suite")[0] == 0
    text, panel = ((tmp_path / "report" / name).read_text() for name in ("report.md", "figures/sweeps.svg"))
    assert "CartPole-v1, Acrobot-v1, normalised final return, IQM:" in text
    assert "<!-- 0.8 -->" in panel and "<!-- 0.9 -->" in panel, "ticks of the values"
    assert read(suite_dir).labels == ["a.py", "a.py --gamma=0.8", "a.py --gamma=0.9"]


def remove_runs(suite_dir, pattern, name, value):
    """Those in folders like this that have this argument."""
    for folder in suite_dir.glob(pattern):
        if json.loads(next(folder.glob("*/args.json")).read_text())[name] == value:
            shutil.rmtree(folder)


def test_a_sweep_shows_every_environment_and_every_value_at_its_place(bench, tmp_path):
    """Environments without a scale have a panel and a table each; whatever is tried, one returns 7, the other 3."""
    suite = {"arguments": {"gamma": 0.9}, "sweeps": {"gamma": [0.8, 0.9, 0.99]}}
    env_ids = {"my_envs:Seven-v0": (7.0, 7.0), "Three-v0": (3.0, 3.0)}
    suite_dir = write_suite(tmp_path, {"a.py": 0.5, "b.py": 0.5}, env_ids, 5, suite=suite)
    remove_runs(suite_dir, "a__*Seven-v0__*", "gamma", 0.8)
    bench("report", "suite", "--output", "docs/data", "--page", "docs/page.md")
    header = "| gamma | 0.8 | 0.9 | 0.99 |\n|---|---:|---:|---:|\n"
    seven, three = "7.00 (7.00 to 7.00)", "3.00 (3.00 to 3.00)"
    for path in ("docs/data/report.md", "docs/page.md"):
        text = (tmp_path / path).read_text().replace("<br>", " ")
        assert f"\nSeven-v0, final return, IQM:\n\n{header}| a.py | – | {seven} | {seven} |\n| b.py | {seven} |" in text
        assert f"Three-v0, final return, IQM:\n\n{header}| a.py | {three} | {three} | {three} |" in text
    assert "finals.svg" not in text and "(data/figures/sweeps.svg)" in text, "on a page a sweep is about what it varies"
    analysis = Analysis(read(suite_dir))
    assert list(sections.swept(analysis, "a.py", "gamma", [0.8, 0.9, 0.99], ["my_envs:Seven-v0"])) == [1, 2]
    panel, _ = sections.sweeps(analysis).picture.figure.axes
    assert [list(line.get_xdata()) for line in panel.lines if len(line.get_xdata()) < 5] == [[1, 2], [0, 1, 2]]


def test_a_value_that_ran_in_one_of_two_environments_has_no_mean_over_both(tmp_path):
    suite = {"arguments": {"gamma": 0.9}, "sweeps": {"gamma": [0.8, 0.9]}}
    suite_dir = write_suite(tmp_path, {"a.py": 0.5}, ENV_IDS, 5, suite=suite)
    remove_runs(suite_dir, "a__Acrobot-v1__*", "gamma", 0.8)
    analysis = Analysis(read(suite_dir))
    assert list(sections.swept(analysis, "a.py", "gamma", [0.8, 0.9], list(ENV_IDS))) == [1]
    assert list(sections.swept(analysis, "a.py", "gamma", [0.8, 0.9], ["CartPole-v1"])) == [0, 1]


def test_pairs_that_have_too_few_seeds_are_counted_where_they_stand(bench, tmp_path):
    """Of five contenders 7 pairs matter and 3 are folded away, as above; the first of each is named."""
    write_suite(tmp_path, LADDER, ENV_IDS, 1)
    bench("report", "suite")
    lines = (tmp_path / "report" / "report.md").read_text().splitlines()
    for said in ("- The same holds for 6 more pairs.", "- The same holds for 2 more pairs."):
        assert lines[lines.index(said) - 1].endswith(": one seed is too few to tell.")


@pytest.mark.parametrize(
    "env_ids, shown",
    [
        ("CartPole-v1", "CartPole-v1"),
        ("benchmark.envs:MinAtar/SpaceInvaders-v1", "MinAtar/SpaceInvaders-v1"),
        ("my_envs:A-v0, B-v1, other.envs:C-v0", "A-v0, B-v1, C-v0"),
        ("my.envs:A-v0 (start='a:b')", "A-v0 (start='a:b')"),
        ("x:" + 30 * "a" + 30 * "b", 17 * "a" + "…" + 16 * "b"),
    ],
)
def test_a_panel_is_named_without_modules(env_ids, shown):
    assert figures.title(env_ids) == shown


@pytest.mark.parametrize("count", [2, 9, 17, 30])
def test_figures_of_many_contenders_have_room_for_their_panels(count):
    """However many lines the legend has, a panel is 1.5 inches high. Names that are too long are cut in the middle."""
    figures.setup()
    assert figures.few(range(count)) == (count <= 8)
    env_ids = [f"package:Environment-{'x' * 60}-v{i}" for i in range(4)]
    colors = palette([f"dqn.py --target-network-frequency={i}" for i in range(count)])
    steps = np.arange(3)
    by_env = {env_id: dict.fromkeys(colors, (steps, steps, steps, steps)) for env_id in env_ids}
    figure = figures.curves(by_env, colors, {})
    figure.draw_without_rendering()
    for panel in figure.axes[:4]:
        assert panel.get_position().height * figure.get_figheight() > 1.5
        title = panel._left_title.get_window_extent()
        assert title.x1 - title.x0 < 1.25 * panel.get_window_extent().width
        assert len(panel.lines) == count and len(panel.collections) == (count if count <= 8 else 0), "intervals"
    plt.close(figure)


def test_a_panel_by_itself_fits_on_a_phone():
    """5 inches of 96 px, of which a page shows no less than 0.7: 336 of 360. Ten names are in two columns."""
    figures.setup()
    colors = palette([f"script_{i:02}.py --flag" for i in range(10)])  # of 19 characters
    figure = figures.curves_across(dict.fromkeys(colors, (np.arange(3),) * 4), colors)
    figure.draw_without_rendering()
    assert figure.get_figwidth() == 5
    (legend,) = figure.legends
    extent = legend.get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width
    rows = {round(text.get_window_extent().y0) for text in legend.get_texts()}
    assert len(rows) == 5
    plt.close(figure)


def test_the_figure_of_finals_names_its_contenders_once():
    """Beside the first panel of each row: not on the others, nor in the legend. A contender's dots are on its row."""
    figures.setup()
    colors = palette(["a.py", "b.py"])
    finals = {"a.py": (np.array([1.0, 3.0]), 2.0, 1.0, 3.0), "b.py": (np.array([5.0]), 5.0, 5.0, 5.0)}
    figure = figures.finals({"E-v0": finals, "F-v0": {"b.py": finals["b.py"]}, "G-v0": finals, "H-v0": finals}, colors)
    names = [[tick.get_text() for tick in panel.get_yticklabels()] for panel in figure.axes[:4]]
    assert names == [["a.py", "b.py"], ["", ""], ["", ""], ["a.py", "b.py"]]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["IQM and 95 % interval"]
    dots = [line for line in figure.axes[1].lines if line.get_marker() == "."]
    assert [np.round(line.get_ydata()).tolist() for line in dots] == [[1.0]], "b.py's, though a.py has no run there"
    plt.close(figure)


@pytest.mark.parametrize("count", [3, 8, 9, 40])
def test_every_contender_has_a_color_of_its_own(count):
    colors = palette([str(i) for i in range(count)])
    assert len(colors) == count == len(set(colors.values()))


def test_a_report_that_cannot_be_written(bench, tmp_path):
    write_suite(tmp_path, {"a.py": 0.5}, {"CartPole-v1": (20.0, 500.0)}, 2)
    (tmp_path / "report").write_text("a file")
    code, _, err = bench("report", "suite")
    assert code == 2 and re.fullmatch("error: cannot write report.*: (File exists|Not a directory)\n", err)
    assert (tmp_path / "report").read_text() == "a file"


NASTY = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$\\frac{x$", "$x", "a|b*c_d`e", "{{ 7*7 }}",
         "_hidden", "](javascript:alert(1))", "a\nb", "%s")  # fmt: skip


def test_names_are_not_html_or_markdown_or_mathematics(bench, tmp_path):
    """As environments, contenders, arguments, and in the log of a run that failed."""
    steps = np.array([10, 20, 30])
    for i, name in enumerate(NASTY):
        for seed in (1, 2):
            args = {"env_id": NASTY[0], "seed": seed, "exp_name": name, "note": f"{name}{i}", "commit": NASTY[1]}
            write_run(tmp_path / "runs" / f"{i}", args, np.array([1.0, 2.0, seed + i]), steps)
        args = {"env_id": name, "seed": 1, "exp_name": NASTY[1]}
        write_run(tmp_path / "runs" / f"env{i}", args, np.array([1.0, 2.0, 3.0]), steps)
    assert bench("report", "runs")[0] == 0
    page = Page(tmp_path / "report" / "index.html")
    assert {tag for tag, _ in page.tags} <= set(
        "html head meta link title style body header h1 h2 p nav a main section ul li figure img div".split()
        + "table thead tbody tr th td small br details summary pre".split()
    )
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(name in page.text for name in NASTY if "\n" not in name), "as they are"
    text = (tmp_path / "report" / "report.md").read_text()
    assert "<script" not in text and "<img" not in text and not re.search(r"(?<!\\)\]\(javascript", text)
    assert markdown("a|b_c _d_ <x>\ny") == "a\\|b_c \\_d\\_ &lt;x&gt; (y)"


def test_the_smoke_suite_runs_and_is_reported(tmp_path):
    """What a fresh clone does first, in two minutes."""
    started = time.monotonic()
    for arguments in (("run", "--suite", "smoke", "--workers", "2"), ("report", "smoke")):
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *arguments], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert "8 runs: 8 done" in Page(tmp_path / "report" / "index.html").text and time.monotonic() < started + 120


def test_a_thousand_runs_in_a_minute_and_two_gigabytes(tmp_path):
    """Five contenders, five environments, forty seeds; each with 5,000 scalars beside those of the evaluations.

    The minute is one of CPU time, which is what the report takes where nothing else runs.
    """
    env_ids = ENV_IDS | {"MountainCar-v0": (-200, -100), "LunarLander-v3": (-200, 250), "Pendulum-v1": (-1230, -150)}
    write_suite(tmp_path, {f"{name}.py": 0.5 for name in "abcde"}, env_ids, 40, more=2500)
    # The kernel's own peak of the new process; getrusage's would begin at that of the process that started it.
    program = "import sys; from benchmark.__main__ import main; code = main(); "
    program += "print(open('/proc/self/status').read()); sys.exit(code)"
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "report", "runs/suite"], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = next(line for line in out.splitlines() if line.startswith("VmHWM"))
    seconds, gigabytes = time.monotonic() - started, int(peak.split()[1]) / 2**20
    print(f"{seconds:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s of CPU, {gigabytes:.2f} GiB")
    assert process.returncode == 0 and len(rows(tmp_path / "report" / "finals.csv")) == 1000
    assert usage.ru_utime + usage.ru_stime < 60 and gigabytes < 2


@pytest.fixture
def browser():
    """Headless Chromium through Selenium, with its console and its requests logged."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium and chromium-driver")
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1150,900",
    ):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def test_the_page_in_a_browser(bench, tmp_path, browser):
    """No errors on the console, no requests, every figure has a size and fits, and the page is not empty."""
    write_suite(tmp_path, {"good.py": 0.9, "<script>alert(1)<script>.py": 0.4}, ENV_IDS, 6)
    write_script(tmp_path)
    assert bench("report", "suite")[0] == 0
    browser.get((tmp_path / "report" / "index.html").as_uri())
    assert browser.get_log("browser") == []
    requests = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in requests if m["method"] == "Network.requestWillBeSent"]
    assert urls and all(url.startswith(("file:", "data:")) for url in urls)
    images = browser.execute_script(
        "return [...document.images].map(i => [i.alt, i.complete, i.naturalWidth, i.width, i.height,"
        " i.getBoundingClientRect().right])"
    )
    assert len(images) == len(FIGURES)
    for alt, complete, natural, width, height, right in images:
        assert alt and complete and natural > 300 and width > 300 and height > 100 and right <= 1150
    wide, visible = browser.execute_script("return [document.body.scrollWidth, innerWidth]")
    assert wide <= visible, "nothing makes the page wider than the window"
    browser.set_window_size(1150, browser.execute_script("return document.documentElement.scrollHeight"))
    assert browser.save_screenshot(str(tmp_path / "page.png")) and (tmp_path / "page.png").stat().st_size > 50_000
    assert "good.py is better than <script>alert(1)<script>.py" in browser.find_element("tag name", "body").text
