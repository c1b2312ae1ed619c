"""What claims find becomes a part of a page: command, origin and hours, tables and sentences, pictures."""

import json
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fakes import write_run

from benchmark.claims import base, dqn, drqn
from benchmark.origin import processor
from benchmark.pages import command_line, here, origin
from benchmark.speed import peers

HASH = "0123456789abcdef0123456789abcdef01234567"
STORED = {"commit": HASH, "python": "3.11.9", "torch": "2.13.0", "gymnasium": "1.4.0", "numpy": "2.4.1"}
STORED |= {"platform": "Linux-6.1-x86_64", "cpu_count": 2}


@dataclass
class Args(base.Args):
    loss: str = "mse"
    quick: bool = False
    tasks: tuple[str, ...] = ("one", "two")


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """The folder in which docs/results/SCRIPT.md and docs/results/data would be."""
    monkeypatch.setattr(base, "DATA", tmp_path / "results" / "data")
    return tmp_path / "results"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Runs that were never made, of as many hours as their seed, with STORED in args.json; their return is `final`.

    Returns what run_seeds was called with.
    """
    calls = []

    def run_seeds(settings, seeds, runs_dir, workers):
        calls.append((settings, list(seeds), runs_dir, workers))
        found = {}
        for name, (script, flags) in settings.items():
            found[name] = {}
            for seed in seeds:
                folder = tmp_path / "fake" / f"{len(calls)} {name.replace('/', ' ')} {seed}"
                curve = np.array([9.0, 500.0 if seed % 2 else 400.0])
                run_dir = write_run(
                    folder, STORED | flags | {"seed": seed, "exp_name": script}, curve, np.array([1, 2])
                )
                result = {"eval/episodic_return": curve[-1], "best_return": 500.0, "global_step": 2, "updates": 100}
                found[name][seed] = run_dir, result | {"seconds": 3600.0 * seed}
        return found

    monkeypatch.setattr(base, "run_seeds", run_seeds)
    return calls


def block(page: Path, name: str) -> str:
    """The one part of a page with this name, without its marks."""
    (found,) = re.findall(rf"<!-- {name}: written by .*? -->\n(.*?)\n<!-- end of {name} -->\n", page.read_text(), re.S)
    return found


def drawn(labelled: bool = True):
    figure, axes = plt.subplots()
    axes.plot([1, 2], label="a line" if labelled else None)
    return figure


def test_the_four_parts_of_a_page(pages, runs, tmp_path, capsys):
    """Two settings of seeds 1 and 2, which took as many hours: 1 + 2 + 1 + 2 = 6."""
    args = Args(num_seeds=2, workers=7, runs_dir=tmp_path / "runs", loss="huber")
    found = base.Findings("dqn", args, "A claim,\nin two lines.\n\nAnd more of it.\n")
    settings = {"a": ("dqn.py", {"env_id": "A"}), "b": ("dqn.py", {"env_id": "B"})}
    assert {name: list(own) for name, own in found.run(settings).items()} == {"a": [1, 2], "b": [1, 2]}
    assert runs == [(settings, [1, 2], tmp_path / "runs", 7)]
    found.table(["x", "y"], [["a", "1"], ["b", "2"]])
    found.csv([{"seed": 1, "y": 3}], "all")
    found.figure(drawn(), "curve", "A curve")
    found.say("It holds.")
    found.write()
    programs = f"Commit {HASH[:7]}, Python 3.11.9, PyTorch 2.13.0, Gymnasium 1.4.0, NumPy 2.4.1"
    expected = f"""# dqn.py: what was measured

<!-- dqn: written by `python -m benchmark.claims.dqn --num-seeds 2 --loss huber` -->
## A claim, in two lines

    python -m benchmark.claims.dqn --num-seeds 2 --loss huber

{programs}, 2 cores, Linux-6.1-x86_64; seeds 1 to 2; 4 runs; 6.00 hours of computing.

| x | y |
| --- | ---: |
| a | 1 |
| b | 2 |

It holds.

![A curve](data/dqn/curve.png)

Data: [all.csv](data/dqn/all.csv).
<!-- end of dqn -->
"""
    assert (pages / "dqn.md").read_text() == expected
    assert capsys.readouterr().out == "| x | y |\n| --- | ---: |\n| a | 1 |\n| b | 2 |\nIt holds.\n"
    assert (pages / "data/dqn/all.csv").read_text() == "seed,y\n1,3\n"
    assert (pages / "data/dqn/curve.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path) not in (pages / "dqn.md").read_text()


def test_a_second_write_replaces_the_first_and_no_other_text(pages):
    pages.mkdir()
    (pages / "dqn.md").write_text("# Title\n\nBy hand.\n")

    def write(line: str, part: str = "") -> None:
        found = base.Findings("dqn", Args(), "A claim.", part)
        found.say(line)
        found.write()

    write("first")
    write("of the part", "huber")
    (pages / "dqn.md").write_text((pages / "dqn.md").read_text() + "\n## By hand too\n")
    write("second")
    text = (pages / "dqn.md").read_text()
    assert text.startswith("# Title\n\nBy hand.\n") and text.endswith("\n## By hand too\n")
    assert "first" not in text and block(pages / "dqn.md", "dqn").endswith("\n\nsecond")
    assert block(pages / "dqn.md", "dqn huber").startswith("## A claim (huber)\n")


def test_another_output_leaves_the_page_alone(pages, tmp_path, capsys):
    pages.mkdir()
    (pages / "dqn.md").write_text("as it was")
    found = base.Findings("dqn", Args(output=tmp_path / "elsewhere" / "deep"), "A claim.")
    found.csv([{"seed": 1}], "all")
    found.figure(drawn(), "curve", "A curve")
    found.say("It holds.")
    found.write()
    assert os.listdir(pages) == ["dqn.md"] and (pages / "dqn.md").read_text() == "as it was"
    assert sorted(os.listdir(tmp_path / "elsewhere" / "deep")) == ["all.csv", "curve.png"]
    assert capsys.readouterr().out == "It holds.\n"


def test_a_failed_write_leaves_the_page_as_it_was(pages, monkeypatch):
    found = base.Findings("dqn", Args(), "A claim.")
    found.say("old")
    found.write()
    before = (pages / "dqn.md").read_text()
    found.say("new")
    write_text = Path.write_text

    def write_half(self, text):
        write_text(self, text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", write_half)
        with pytest.raises(OSError):
            found.write()
    assert (pages / "dqn.md").read_text() == before and sorted(os.listdir(pages)) == ["data", "dqn.md"]
    found.write()
    assert block(pages / "dqn.md", "dqn").endswith("\n\nold\n\nnew")


def test_without_runs_it_is_this_process(pages, monkeypatch):
    """1800 + 600 seconds of its own and 4200 + 600 of its workers are 7200, two hours; the clock does not count."""
    monkeypatch.setattr(os, "times", lambda: (1800.0, 600.0, 4200.0, 600.0, 1e9))
    monkeypatch.setattr(base, "here", lambda: "commit abc, a machine")
    assert base.Findings("dqn", Args(), "").made() == "commit abc, a machine; seeds 1 to 20; 2.00 hours of computing."
    one = base.Findings("dqn", Args(num_seeds=1, first_seed=41), "")
    assert one.made() == "commit abc, a machine; seed 41; 2.00 hours of computing."
    assert "; seeds 1001 to 1004; " in base.Findings("dqn", Args(), "", seeds=(1001, 1002, 1003, 1004)).made()


def test_the_commit_is_that_of_the_beginning(pages, monkeypatch):
    """What the claim itself has written by the end makes files differ from the commit."""
    monkeypatch.setattr(base, "here", lambda: "commit abc")
    found = base.Findings("dqn", Args(), "")
    monkeypatch.setattr(base, "here", lambda: "commit abc+")
    assert found.made().startswith("commit abc; ")


def test_runs_with_seeds_of_their_own(pages, runs):
    """Of seeds 1 and 2, and of 7 alone: 1 + 2 + 7 = 10 hours."""
    found = base.Findings("dqn", Args(num_seeds=2), "A claim.")
    found.run({"a": ("dqn.py", {"env_id": "A"})})
    found.run({"b": ("dqn.py", {"env_id": "A"})}, [7])
    assert found.made().endswith("; seeds 1 to 7; 3 runs; 10.00 hours of computing.")


def test_origin_names_all_that_differ():
    other = STORED | {"commit": "fedcba9876543210-dirty", "torch": "2.14.0", "stable_baselines3": "2.9.0"}
    assert origin([STORED, other, STORED]) == (
        "commit 0123456 and fedcba9+, Python 3.11.9, PyTorch 2.13.0 and 2.14.0, Gymnasium 1.4.0, NumPy 2.4.1, "
        "Stable-Baselines3 2.9.0, 2 cores, Linux-6.1-x86_64"
    )
    assert origin([{"commit": "", "python": "3.12.0"}]) == "commit unknown, Python 3.12.0", "outside a repository"


def test_the_machine_of_runs_is_named_by_its_processor_if_that_is_known(monkeypatch):
    """Older runs on Linux noted no processor: on this machine it is this one's, of another one the system is known."""
    monkeypatch.setattr("benchmark.pages.processor", lambda: "Own Chip")
    assert origin([{"commit": HASH, "cpu_count": 64, "processor": "Chip"}]).endswith(", 64 cores of Chip")
    assert origin([STORED | {"platform": platform.platform(), "processor": ""}]).endswith(", 2 cores of Own Chip")
    assert origin([STORED, {"cpu_count": 4, "processor": "Chip"}]).endswith(
        ", 2 cores, Linux-6.1-x86_64 and 4 cores of Chip"
    )


def test_this_process_names_its_commit_versions_and_machine():
    found = here()
    assert re.match(rf"commit [0-9a-f]{{7}}\+?, Python {platform.python_version()}, PyTorch ", found)
    assert found.endswith(f"{os.cpu_count()} cores of {processor()}")


def test_claims_read_what_the_harness_noted_beside_their_runs(pages, runs, tmp_path, monkeypatch):
    """The runs of `runs` are of older scripts: one loses its commit, which is then the one beside it."""
    found = base.Findings("dqn", Args(num_seeds=2), "A claim.")
    run_seeds = base.run_seeds

    def as_now(*arguments):
        made = run_seeds(*arguments)
        for folder, _ in made["a"].values():
            args = json.loads((folder / "args.json").read_text())
            del args["commit"], args["cpu_count"], args["platform"]
            (folder / "args.json").write_text(json.dumps(args))
            noted = {"commit": "fedcba9876", "cpu_count": 8, "processor": "Chip"}
            (folder.parent / "origin.json").write_text(json.dumps(noted))
        return made

    monkeypatch.setattr(base, "run_seeds", as_now)
    found.run({"a": ("dqn.py", {"env_id": "A"})})
    assert found.made().startswith("commit fedcba9, Python 3.11.9, PyTorch 2.13.0, ")
    assert "NumPy 2.4.1, 8 cores of Chip; seeds 1 to 2; 2 runs; " in found.made()


def test_an_evaluation_may_come_without_a_log_of_the_speed():
    """The first evaluation starts at 10 s and takes 3 s. The second one ends at 16 s; its start is not known."""
    scalars = {
        "charts/SPS": [(100, 10.0, 1010.0)],
        "eval/episodic_return": [(100, -5.0, 1013.0), (120, -4.0, 1016.0)],
    }
    assert base.training_seconds(scalars).tolist() == [10.0, 16.0 - 3.0]


@pytest.mark.parametrize(
    ("changed", "flags"),
    [
        ({}, ""),
        ({"workers": 9, "runs_dir": Path("/home/me/runs"), "output": Path("/home/me/out")}, ""),
        ({"first_seed": 41}, " --first-seed 41"),
        ({"quick": True, "tasks": ("two",)}, " --quick --tasks two"),
        ({"tasks": ()}, " --tasks"),
    ],
)
def test_the_command_has_what_was_changed_but_no_path(changed, flags):
    program = "python -m benchmark.claims.dqn"
    assert command_line(program, Args(**changed), base.NOT_SHOWN) == program + flags


def test_a_path_that_is_shown_is_none_of_this_machine():
    args = peers.Args(cleanrl=Path("/home/me/cleanrl"), repeats=3, page=True)
    assert command_line("speed", args) == "speed --repeats 3 --cleanrl CLEANRL --page"


def test_seeds():
    assert list(Args(num_seeds=3).seeds) == [1, 2, 3] and list(Args(num_seeds=2, first_seed=41).seeds) == [41, 42]


@pytest.mark.parametrize(("labelled", "legend"), [(True, True), (True, False), (False, True)])
def test_axes_get_a_grid_and_where_something_is_labelled_a_legend(tmp_path, labelled, legend):
    figure = drawn(labelled)
    base.Findings("dqn", Args(output=tmp_path), "").figure(figure, "curve", "A curve", legend=legend)
    (axes,) = figure.axes
    assert (axes.get_legend() is not None) == (labelled and legend)
    assert all(line.get_visible() for line in axes.get_xgridlines()) and not plt.fignum_exists(figure.number)


def job(a: int, b: int) -> tuple[int, int]:
    return 10 * a + b, torch.get_num_threads()


def test_jobs_run_in_processes_of_one_thread():
    torch.set_num_threads(2)  # which they would inherit
    try:
        assert base.in_parallel(job, [(1, 2), (3, 4)], workers=2) == {(1, 2): (12, 1), (3, 4): (34, 1)}
    finally:
        torch.set_num_threads(1)


def test_dqns_command_writes_its_page(pages, runs, call_main):
    """Seeds 41 and 42 end at 500 and 400: one of them is at 475 or more, and the mean is 450."""
    for arguments, name in (("", "dqn"), (" --loss huber", "dqn huber")):
        code, out, _ = call_main(dqn, f"--num-seeds 2 --first-seed 41{arguments}")
        text = block(pages / "dqn.md", name)
        assert code == 0 and f"    python -m benchmark.claims.dqn --num-seeds 2 --first-seed 41{arguments}\n" in text
        for line in out.splitlines():
            assert line in text
        assert "1 of 2 seeds end at 475 or more" in text and "450.0, lowest 400.0" in text
        assert "seeds 41 to 42; 2 runs; 83.00 hours" in text, "41 + 42"
    for file in ("dqn_cartpole.csv", "dqn_cartpole.png", "dqn_cartpole_huber.csv", "dqn_cartpole_huber.png"):
        assert (pages / "data/dqn" / file).exists() and f"(data/dqn/{file})" in (pages / "dqn.md").read_text()
    assert len(re.findall("<!-- end of", (pages / "dqn.md").read_text())) == 2


def test_drqns_tasks_have_a_part_each(pages, runs, call_main):
    """Each with the command that makes it alone, whether or not others were asked for with it."""
    code, _, _ = call_main(drqn, "--num-seeds 2 --tasks cue positions")
    assert code == 0
    for task in ("cue", "positions"):
        text = block(pages / "drqn.md", f"drqn {task}")
        assert f"    python -m benchmark.claims.drqn --num-seeds 2 --tasks {task}\n" in text
        assert f"({task})\n" in text and f"(data/drqn/drqn_{task}.png)" in text
        assert "| LSTM | 450.00 | 5400 |" in text, "seeds 1 and 2 took one hour and two"
        assert f"{2 * len(drqn.SETTINGS[task])} runs; {3 * len(drqn.SETTINGS[task])}.00 hours" in text
