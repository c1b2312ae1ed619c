"""python -m benchmark run and status: what is run, what counts as done, and whatever may die meanwhile.

The scripts are fakes of a few milliseconds (fakes.py), but processes of their own all the same.
"""

import dataclasses
import io
import json
import math
import os
import platform
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
import tyro
from conftest import ROOT
from fakes import does_not_fit, write_script
from filelock import FileLock

import dqn
from benchmark import __main__ as command_line
from benchmark.launch import local, status
from benchmark.launch.supervise import CANNOT_WRITE, LOCKED
from benchmark.origin import own_origin
from benchmark.run_folder import (
    finite,
    is_locked,
    log_tail,
    read_args,
    read_attempts,
    text_hash,
    why_incomplete,
    write_attempts,
)
from benchmark.suite import (
    SUITES,
    BadInput,
    Run,
    check_flags,
    expand,
    find_suite,
    is_text,
    labels,
    parse_argument,
    read_plan,
    read_suite,
    slug,
    task,
    with_flags,
    write_plan,
)

ENVIRON = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def bench(tmp_path, monkeypatch, capfd):
    """bench(*arguments) -> (exit code, stdout, stderr) of python -m benchmark, run in tmp_path, where fake.py lies."""
    monkeypatch.chdir(tmp_path)
    write_script(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
        try:
            code = command_line.main()
        except SystemExit as exit:
            code = exit.code
        return code, *capfd.readouterr()

    return call


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "benchmark", *map(str, arguments)]


def results(folder: Path) -> dict[str, int]:
    """How many complete results each run of the suite in runs/default has."""
    runs, _ = read_plan(folder / "runs" / "default")
    own = {run.folder: list((folder / "runs" / "default" / run.folder).glob("*/result.json")) for run in runs}
    return {name: len(paths) for name, paths in own.items()}


def processes(folder: Path) -> list[psutil.Process]:
    """Processes that have something of this folder on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or ()) and process.pid != os.getpid():
            found.append(process)
    return found


def assert_nothing_is_left(folder: Path) -> None:
    """Within ten seconds no process of this folder lives."""
    for _ in range(100):
        if not processes(folder):
            return
        time.sleep(0.1)
    raise AssertionError(f"left behind: {[process.cmdline() for process in processes(folder)]}")


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("runs/*/*/log.txt")))


FAKE = ("--scripts", "fake.py", "--env-ids", "A")


# What is run


def test_scripts_environments_and_seeds(bench, tmp_path):
    code, out, err = bench("run", "--scripts", "fake.py", "--env-ids", "A", "B", "--num-seeds", "3", "--workers", "3")
    assert (code, err) == (0, "") and out.startswith("6 done, 0 running, 0 failed, 0 missing of 6 runs")
    found = [json.loads(path.read_text()) for path in tmp_path.glob("runs/default/*/*/args.json")]
    assert sorted((args["env_id"], args["seed"]) for args in found) == [(e, s) for e in "AB" for s in (1, 2, 3)]
    assert {args["threads"] for args in found} == {"1"}


def test_only_what_is_missing_is_run(bench, tmp_path):
    bench("run", *FAKE, "--num-seeds", "2")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/*/result.json")}
    assert bench("run", *FAKE, "--num-seeds", "3")[0] == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/*/result.json")}
    assert len(after) == 3 and before.items() <= after.items()


def test_changed_arguments_and_changed_code_are_other_runs(bench, tmp_path):
    bench("run", *FAKE, "--num-seeds", "1")
    for arguments in (["--arguments", "gamma=0.9"], ["--arguments", "gamma=0.9", "hidden_sizes=[8,4]"]):
        assert bench("run", *FAKE, "--num-seeds", "1", *arguments)[0] == 0
    assert len(list(tmp_path.glob("runs/*/*/*/result.json"))) == 3
    args = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/*/*/args.json")]
    assert [8, 4] in [one["hidden_sizes"] for one in args]
    write_script(tmp_path, more="# another text\n")
    assert len(bench("run", *FAKE, "--num-seeds", "1", "--dry-run")[1].splitlines()) == 1
    bench("run", *FAKE, "--num-seeds", "1")
    assert len(list(tmp_path.glob("runs/*/*/*/result.json"))) == 4
    assert bench("run", *FAKE, "--num-seeds", "1", "--dry-run")[1:] == (
        "", "nothing would be started: all 1 runs are done\n"
    )  # fmt: skip


def test_code_that_changes_while_the_suite_runs_is_not_run(bench, tmp_path):
    harness = subprocess.Popen(
        command("run", *FAKE, "--num-seeds", 3, "--arguments", "sleep=1"), cwd=tmp_path, env=ENVIRON
    )
    while not list(tmp_path.glob("runs/*/*/*/args.json")):
        time.sleep(0.02)
    write_script(tmp_path, more="# another text\n")
    assert harness.wait() == 1
    assert sorted(results(tmp_path).values()) == [0, 0, 1]
    assert "the script was changed or removed after this suite was started" in bench("status", "default")[1]


def test_dry_run_prints_commands_and_writes_nothing(bench, tmp_path):
    code, out, _ = bench("run", *FAKE, "--num-seeds", "2", "--arguments", "note=a b", "--dry-run")
    assert code == 0 and not (tmp_path / "runs").exists()
    first, _ = map(shlex.split, out.splitlines())
    assert first[:4] == [sys.executable, str(tmp_path / "fake.py"), "--env-id=A", "--seed=1"]
    assert first[-1] == "--note=a b"


def test_threads_and_wandb_group(bench, tmp_path):
    bench("run", *FAKE, "--num-seeds", "1", "--threads", "3", "--track", "--name", "my suite")
    (args,) = [json.loads(path.read_text()) for path in tmp_path.glob("runs/my-suite/*/*/args.json")]
    assert args["threads"] == "3" and args["track"] is True
    assert args["wandb"]["WANDB_RUN_GROUP"] == "my-suite" and args["wandb"]["WANDB_JOB_TYPE"] == "fake.py"
    assert args["wandb"]["WANDB_TAGS"] == "fake.py,A,seed 1"


def test_what_a_run_is_told(tmp_path):
    """Its command, its limits and its variables; that it failed before is forgotten."""
    run = Run("/x/a.py", "a.py" + "!" * 70, "A,B", {"gamma": 0.5}, 3, "text")
    write_attempts(tmp_path / "suite" / run.folder, [{"reason": "exit code 1"}])
    how = {"time_limit": 60.0, "retries": 1, "environ": local.threads(3)}
    folder = local.prepare(tmp_path / "suite", run, how, track=True)
    assert folder == tmp_path / "suite" / run.folder and read_attempts(folder) == []
    told = json.loads((folder / "job.json").read_text())
    assert told.pop("environ") == {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "3"),
        "WANDB_RUN_GROUP": "suite",
        "WANDB_JOB_TYPE": "a.py" + "!" * 60,
        "WANDB_TAGS": "a.py" + "!" * 60 + ",A B,seed 3",  # a comma would be another tag
        "WANDB_DIR": str(folder),
    }
    assert told == {
        "script": "/x/a.py", "sha256": "text", "command": run.command(folder, True), "cwd": os.getcwd(),
        "time_limit": 60.0, "retries": 1,
    }  # fmt: skip


def test_why_a_run_ended_is_noted_where_its_supervisor_could_not(tmp_path):
    run = Run("/x/a.py", "a.py", "A", {}, 3, "text")
    assert local.why_it_ended(tmp_path, run, 130, "") == "interrupted: a.py on A, seed 3"
    assert read_attempts(tmp_path / run.folder) == [], "nothing is decided"
    killed = "the process that watches over it was killed by SIGKILL, as happens when memory runs out"
    for said, reason in (("", killed), (" it said this \n", "it said this")):
        shutil.rmtree(tmp_path / run.folder, ignore_errors=True)
        assert local.why_it_ended(tmp_path, run, -9, said).startswith(f"failed: a.py on A, seed 3: {reason} (1 attempt")
        assert read_attempts(tmp_path / run.folder) == [{"reason": reason}]
    assert reason in local.why_it_ended(tmp_path, run, 1, "later"), "what is noted already stays"


SUITE = """
scripts = ["fake.py"]
num_seeds = 2
[arguments]
gamma = 0.5
[environments.A]
sleep = 0.01
[environments.B]
[script_arguments."fake.py"]
note = "mine"
[sweeps]
gamma = [0.5, 0.7]
hidden_sizes = [[8], [16, 16]]
"""


def test_a_suite_from_a_file(bench, tmp_path):
    (tmp_path / "mine.toml").write_text(SUITE)
    assert bench("run", "--suite", "mine.toml", "--workers", "4")[0] == 0
    runs, sweeps = read_plan(tmp_path / "runs" / "mine")
    assert len(runs) == 2 * 2 * 4 and set(sweeps) == {"gamma", "hidden_sizes"}  # base, γ 0.7, two sizes
    bases = [run for run in runs if not run.varied]
    assert {run.env_id: run.flags for run in bases} == {
        "A": {"gamma": 0.5, "sleep": 0.01, "note": "mine"},
        "B": {"gamma": 0.5, "note": "mine"},
    }
    assert {run.label for run in runs} >= {"fake.py", "fake.py --gamma=0.7", "fake.py --hidden-sizes 16 16"}
    assert bench("run", "--suite", "mine.toml")[1].startswith("16 done")


@pytest.mark.parametrize("suite", sorted(path.stem for path in SUITES.glob("*.toml")))
def test_suites_that_are_shipped(suite, tmp_path):
    read = read_suite(SUITES / f"{suite}.toml")
    for script, _ in map(with_flags, (*read["scripts"], *read.get("peers", []))):
        (tmp_path / script).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / script).touch()
    runs = expand(read, tmp_path, peers=True)
    assert len({run.folder for run in runs}) == len(runs) >= 8
    for run in runs:  # a day's work is not lost with the run
        assert "dqn_atari" not in run.script or 0 < run.flags["checkpoint_frequency"] < run.flags["total_timesteps"]


def test_a_script_with_flags_of_its_own_is_a_contender(tmp_path):
    """They win over what is given for all, and are a part of its name; the script without them is another contender."""
    write_script(tmp_path)
    names = ["fake.py", "fake.py --loss huber --no-anneal-lr --sizes 8 4 --note='a b' --env-kwargs k=1 --published"]
    suite = {"scripts": [*names, names[1]], "arguments": {"loss": "mse", "gamma": 0.9}}
    plain, own = expand(suite, tmp_path, env_ids=["A"], num_seeds=1, arguments={"gamma": 0.8})
    assert plain.flags == {"loss": "mse", "gamma": 0.8} and plain.label == "fake.py"
    flags = {"loss": "huber", "anneal_lr": False, "sizes": [8, 4], "note": "a b", "env_kwargs": ["k=1"]}
    assert (
        own.flags == flags | {"gamma": 0.8, "published": True}
        and plain.script == own.script
        and plain.folder != own.folder
    )
    words = "fake.py --loss=huber --no-anneal-lr --sizes 8 4 --note=a b --env-kwargs=k=1 --published"
    assert own.label == words and own.varied == {}
    for given in ({"arguments": {"loss": "mae"}}, {}):
        _, own = expand(suite, tmp_path, env_ids=["A"], num_seeds=1, **given)
        assert own.flags["loss"] == "huber"
    for wrong in ("fake.py --note='a", "fake.py -- ", "fake.py --seed 3"):
        with pytest.raises(BadInput, match=r"is not a name with flags|set by the harness"):
            expand({"scripts": [wrong]}, tmp_path, env_ids=["A"])


def test_flags_that_some_scripts_need_in_one_environment(tmp_path):
    """They win over the script's own for all environments, and no other script has them; a name must be known."""
    for name in ("a.py", "b.py"):
        write_script(tmp_path, name, f"# {name}\n")
    text = 'scripts = ["a.py", "b.py"]\nnum_seeds = 1\n[script_arguments."a.py"]\nlow = 1\nmore = 2\n'
    text += '[environments."A"]\ngamma = 0.5\n"a.py" = {low = -9}\n[environments."B"]\n'
    (tmp_path / "suite.toml").write_text(text)
    runs = expand(read_suite(tmp_path / "suite.toml"), tmp_path)
    assert {(run.label, run.env_id): run.flags for run in runs} == {
        ("a.py", "A"): {"gamma": 0.5, "low": -9, "more": 2},
        ("b.py", "A"): {"gamma": 0.5},
        ("a.py", "B"): {"low": 1, "more": 2},
        ("b.py", "B"): {},
    }
    (tmp_path / "suite.toml").write_text(
        text.replace('"a.py" = {low = -9}', '"a.py b.py" = {low = -9}\n"b.py" = {up = 2}')
    )
    runs = expand(read_suite(tmp_path / "suite.toml"), tmp_path, env_ids=["A"])
    expected = [{"gamma": 0.5, "low": -9, "more": 2}, {"gamma": 0.5, "low": -9, "up": 2}]
    assert [run.flags for run in runs] == expected
    (tmp_path / "suite.toml").write_text(text.replace('"a.py" = {low = -9}', '"a.py c.py" = {low = -9}'))
    with pytest.raises(BadInput, match=r"c\.py under A is none of the suite's scripts"):
        expand(read_suite(tmp_path / "suite.toml"), tmp_path)
    for wrong, said in (("{seed = 1}", r"'a.py'\] is set by the harness"), ("3", r"'a.py'\] must be a table of flags")):
        (tmp_path / "suite.toml").write_text(text.replace("{low = -9}", wrong))
        with pytest.raises(BadInput, match=said):
            read_suite(tmp_path / "suite.toml")


def test_arguments_of_an_environment_as_a_table(tmp_path, monkeypatch):
    """As the script gets them: text that looks like a number stays text."""
    (tmp_path / "suite.toml").write_text(
        'scripts = ["dqn.py"]\nnum_seeds = 1\n[environments."FrozenLake-v1"]\n'
        'env-kwargs = {is_slippery = false, map_name = "8x8", version = "3", rates = 0.5, desc = ["SF", "FG"]}\n'
        "[sweeps]\nenv_kwargs = [{is_slippery = true}]\n"
    )
    plain, swept = expand(read_suite(tmp_path / "suite.toml"), tmp_path)
    arguments = tyro.cli(dqn.Args, args=plain.command(tmp_path, False)[2:])
    made, make = {}, dqn.gym.make
    monkeypatch.setattr(dqn.gym, "make", lambda env_id, **given: made.update(given) or make(env_id))
    dqn.make_env(arguments).close()
    values = {name: made[name] for name in made.keys() - {"max_episode_steps"}}
    assert values == {"is_slippery": False, "map_name": "8x8", "version": "3", "rates": 0.5, "desc": ["SF", "FG"]}
    changed = tuple(pair.replace("False", "True") for pair in arguments.env_kwargs)
    assert tyro.cli(dqn.Args, args=swept.command(tmp_path, False)[2:]).env_kwargs == changed
    assert swept.label == "dqn.py --env-kwargs is_slippery=True"
    (tmp_path / "suite.toml").write_text("[arguments]\nenv_kwargs = {--seed = 3}\n")
    with pytest.raises(BadInput, match=r"'--seed' in env_kwargs in .* is not the name of an argument"):
        read_suite(tmp_path / "suite.toml")
    for value, shown in (("2026-01-01", "datetime.date(2026, 1, 1)"), ("inf", "inf"), ("[nan]", "[nan]")):
        text = f"[arguments]\nenv_kwargs = {{fine = [[1], {{a = true}}], start = {value}}}\n"
        (tmp_path / "suite.toml").write_text(text)
        with pytest.raises(BadInput, match=f"start in env_kwargs in .* cannot be {re.escape(shown)}: a script reads"):
            read_suite(tmp_path / "suite.toml")
    (tmp_path / "suite.toml").write_text("[arguments]\ngamma = {a = 1}\n")
    with pytest.raises(BadInput, match=r"gamma in .* must be a number"):
        read_suite(tmp_path / "suite.toml")


def test_arguments_of_a_task_are_read_as_by_the_scripts():
    """`false` is False, `8x8` is text, and an evaluation on other arguments is another task."""
    for text in ("is_slippery=False", "is_slippery=false"):
        assert task("FrozenLake-v1", {"env_kwargs": [text, "map_name=8x8"]}) == (
            "FrozenLake-v1 (is_slippery=False, map_name='8x8')"
        )
    judged = task("FrozenLake-v1", {"env_kwargs": [], "eval_env_kwargs": ["is_slippery=False"]})
    assert judged == "FrozenLake-v1 (evaluated with is_slippery=False)"


def test_a_suite_holds_an_environment_with_and_without_arguments(tmp_path):
    """Arguments behind the name win over those of all runs; only what makes another task may stand there."""
    write_script(tmp_path)
    slippery, walled = "FrozenLake-v1", "FrozenLake-v1 --env-kwargs is_slippery=False --max-episode-steps 50"
    suite = {"scripts": ["fake.py"], "environments": {slippery: {"gamma": 0.9}, walled: {"gamma": 0.8}}, "num_seeds": 1}
    one, two = expand(suite, tmp_path, arguments={"max_episode_steps": 7})
    assert (one.env_id, one.flags) == (slippery, {"gamma": 0.9, "max_episode_steps": 7})
    assert (two.env_id, two.flags) == (
        slippery, {"gamma": 0.8, "env_kwargs": ["is_slippery=False"], "max_episode_steps": 50},
    )  # fmt: skip
    (alone,) = expand(suite, tmp_path, env_ids=[walled])
    assert alone == two and one.folder != two.folder
    with pytest.raises(BadInput, match="behind an environment stand only --env-kwargs and --max-episode-steps"):
        expand(suite, tmp_path, env_ids=["A --gamma 0.9"])


def test_commit_and_machine_are_noted_beside_each_run(bench, tmp_path):
    """The commit is that of the script's own repository, and says whether a file differed from it."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "fake.py"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    for seeds, commit in ((1, head), (2, f"{head}-dirty")):
        assert bench("run", *FAKE, "--num-seeds", seeds)[0] == 0
        (path,) = tmp_path.glob(f"runs/default/fake__A__{seeds}__*/origin.json")
        noted = json.loads(path.read_text())
        assert noted["commit"] == commit
        assert noted["platform"] == platform.platform() and noted["cpu_count"] == os.cpu_count()
        assert noted["processor"] and noted["versions"]["python"] == platform.python_version()
        assert noted["versions"]["torch"] == str(torch.__version__) and "gpu" in noted
        write_script(tmp_path, more="# another text\n")


def test_what_a_script_notes_itself_counts_before_what_the_harness_noted(tmp_path):
    """Older scripts noted commit and machine in args.json; and a script knows the versions that it used best."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    assert read_args(run_dir) is None
    (run_dir / "args.json").write_text('{"gamma": 0.9}')
    assert read_args(run_dir) == {"gamma": 0.9}, "made without the harness"
    noted = {"commit": "new", "cpu_count": 64, "versions": {"python": "3.14", "torch": "9.9"}}
    (tmp_path / "origin.json").write_text(json.dumps(noted))
    versions = noted.pop("versions")
    assert read_args(run_dir) == {"gamma": 0.9, **noted, **versions}
    own = {"gamma": 0.9, "commit": "old", "python": "3.11"}
    (run_dir / "args.json").write_text(json.dumps(own))
    assert read_args(run_dir) == own | {"cpu_count": 64}, "it had no PyTorch"


def test_a_machine_without_git_and_with_gpus(monkeypatch, tmp_path):
    """nvidia-smi prints a line for each GPU; where it fails it prints its excuse, which is the name of no GPU."""
    for name, text in {"git": "exit 1", "nvidia-smi": "echo H200; echo H200; echo A100"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = own_origin()
    assert (found["commit"], found["gpu"]) == ("", "H200, A100")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho no driver\nexit 9\n")
    assert own_origin()["gpu"] is None
    monkeypatch.setenv("PATH", "")
    assert (own_origin()["commit"], own_origin()["gpu"]) == ("", None)


def test_flags_are_the_same_with_dashes_and_with_underscores(tmp_path):
    """What is nearer to the run takes precedence, however it is written."""
    write_script(tmp_path)
    suite = {"arguments": {"batch_size": 1}, "environments": {"A": {"batch-size": 2}}}
    for given, flags in ((None, {"batch_size": 2}), ({"batch_size": 3}, {"batch_size": 3})):
        (run,) = expand(suite, tmp_path, [str(tmp_path / "fake.py")], num_seeds=1, arguments=given)
        assert run.flags == flags


def test_the_command_of_a_run():
    flags = {"a": True, "b_c": False, "sizes": [8, 4], "least": -1}
    run = Run("/x/a.py", "a.py", "A", flags, 3, "")
    given = "--env-id=A --seed=3 --runs-dir=/r --a --no-b-c --sizes 8 4 --least=-1".split()
    assert run.command(Path("/r"), track=False) == [sys.executable, "/x/a.py", *given]
    assert run.command(Path("/r"), track=True) == [sys.executable, "/x/a.py", *given, "--track"]


def test_the_folder_of_a_run_is_its_identity():
    """Its script's text and name, environment, arguments in any order, and seed; not where the script lies."""
    run = Run("/x/a.py", "a.py", "A/B", {"b": 1, "c": 2}, 3, "text")
    assert run.folder.startswith("a__A-B__3__") and len(run.folder) == len("a__A-B__3__") + 16
    assert dataclasses.replace(run, script="/y/a.py", label="b", flags={"c": 2, "b": 1}).folder == run.folder
    for other in ({"script": "/x/b.py"}, {"env_id": "A-B"}, {"flags": {"b": 1}}, {"seed": 4}, {"sha256": "other"}):
        assert dataclasses.replace(run, **other).folder[-16:] != run.folder[-16:]


def test_names_of_contenders():
    a, b, c = Path("/x/old/dqn.py"), Path("/x/new/dqn.py"), Path("/x/new/per.py")
    assert labels([a, b, c]) == {a: "old/dqn.py", b: "new/dqn.py", c: "per.py"}
    a, b = Path("/dqn.py"), Path("/x/dqn.py")
    assert labels([a, b]) == {a: "//dqn.py", b: "x/dqn.py"}, "the whole path, if it takes that"


def test_peers_run_only_if_asked_for():
    suite = {"scripts": ["dqn.py"], "peers": ["benchmark/peers/sb3_dqn.py"], "environments": {"A": {}}, "num_seeds": 1}
    assert [run.label for run in expand(suite, ROOT)] == ["dqn.py"]
    assert [run.label for run in expand(suite, ROOT, peers=True)] == ["dqn.py", "sb3_dqn.py"]


def test_seeds_of_a_suite_and_of_the_command_line():
    """Ten from 1 on, if nobody says anything else."""
    suite = {"scripts": ["dqn.py"], "environments": {"A": {}}}
    assert [run.seed for run in expand(suite, ROOT)] == list(range(1, 11))
    suite |= {"num_seeds": 2, "first_seed": 5}
    assert [run.seed for run in expand(suite, ROOT)] == [5, 6]
    assert [run.seed for run in expand(suite, ROOT, num_seeds=1, first_seed=0)] == [0]
    with pytest.raises(BadInput, match="--first-seed at least 0"):
        expand(suite, ROOT, first_seed=-1)


def test_scripts_lie_beside_their_suite_or_in_the_current_folder(tmp_path, monkeypatch):
    for place in ("suite", "current"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.py").write_text(f"# {place}")
    monkeypatch.chdir(tmp_path / "current")
    suite = {"scripts": ["a.py"], "environments": {"A": {}}, "num_seeds": 1}
    (run,) = expand(suite, tmp_path / "suite")
    assert run.script == str(tmp_path / "suite" / "a.py")
    (run,) = expand(suite, tmp_path / "suite", scripts=["a.py"])  # named on the command line
    assert run.script == str(tmp_path / "current" / "a.py")
    with pytest.raises(BadInput, match="seed in --arguments is set by the harness itself"):
        expand(suite, tmp_path / "suite", arguments={"seed": 1})


def test_a_plan_is_what_the_last_command_said(tmp_path):
    run = Run("/x/a.py", "a.py", "A", {"gamma": 0.5}, 3, "text", {"gamma": 0.5})
    for runs, sweeps in (([], {}), ([run], {"gamma": [0.5]})):
        write_plan(tmp_path / "runs" / "suite", runs, sweeps)
        assert read_plan(tmp_path / "runs" / "suite") == (runs, sweeps)


def test_what_is_nearer_to_the_run_takes_precedence():
    """The environment over all, the script over the environment, the command line over both, and a sweep over that."""
    suite = {
        "scripts": ["dqn.py"],
        "num_seeds": 1,
        "arguments": dict.fromkeys("abcde", 0),
        "environments": {"A": dict.fromkeys("bcde", 1)},
        "script_arguments": {"dqn.py": dict.fromkeys("cde", 2)},
        "sweeps": {"e": [3, 4]},
    }
    base, swept = expand(suite, ROOT, arguments={"d": 3, "e": 3})  # e = 3 is the base itself
    assert base.flags == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 3} and base.varied == {}
    assert swept.flags == base.flags | {"e": 4} and swept.varied == {"e": 4} and swept.label == "dqn.py --e=4"


@pytest.mark.parametrize("more", ["env_kwargs={b=3,c=4}", "env-kwargs=['b=3', 'c=4']"])
def test_arguments_of_an_environment_are_merged_by_name(bench, tmp_path, more):
    """From the suite, from the environment and from the command line; and a sweep varies one and leaves the others."""
    text = 'scripts = ["fake.py"]\nnum_seeds = 1\n[arguments]\nenv_kwargs = {a = 1, b = 1}\n'
    text += "[environments.A]\nenv_kwargs = {b = 2}\n[sweeps]\nenv_kwargs = [{a = 1}, {a = 5}]\n"
    (tmp_path / "mine.toml").write_text(text)
    out = bench("run", "--suite", "mine.toml", "--dry-run", "--arguments", more)[1]
    given = [line.partition("--env-kwargs ")[2] for line in out.splitlines()]
    assert given == ["a=1 b=3 c=4", "a=5 b=3 c=4"]
    out = bench("run", "--suite", "mine.toml", "--dry-run", "--arguments", "env_kwargs=b=3")[1]
    assert out.splitlines()[0].endswith("--env-kwargs a=1 b=3")


def test_a_suite_that_is_none_is_told_which_there_are():
    with pytest.raises(BadInput) as told:
        find_suite("nothing")
    shipped = sorted(path.name.removesuffix(".toml") for path in (ROOT / "benchmark" / "suites").iterdir())
    assert str(told.value).endswith(f"give a TOML file or one of {', '.join(shipped)}") and "smoke" in shipped


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "zzz = 1": "unknown key 'zzz'",
        "scripts = [1]": "scripts must be a list of paths",
        "peers = [1]": "peers must be a list of paths",
        "num_seeds = 1.5": "num_seeds cannot be 1.5",
        "[environments]\nA = 1": "[environments.'A'] must be a table of flags",
        "[script_arguments]\nx = 1": "[script_arguments.'x'] must be a table of flags",
        "[sweeps]\ngamma = 0.5": "[sweeps] gamma must be a list of values",
        "[sweeps]\ngamma = []": "[sweeps] gamma must be a list of values",
        "[sweeps]\ngamma = [{a = 1}]": "gamma in suite.toml: [sweeps] must be a number",
        "[references.A]\nrandom = 1\nsolved = 2": "[references.'A'] needs an environment of the suite",
        "[environments.A]\n[references.A]\nrandom = 1": "[references.'A'] needs an environment of the suite",
        "[environments.A]\n[references.A]\nrandom = 1\nsolved = 1.0": "and two different numbers, random and solved",
        "[environments.A]\n[references.A]\nrandom = 1\nsolved = nan": "and two different numbers, random and solved",
        "[environments.A]\n[references.A]\nrandom = 1\nsolved = 2\nx = 3": "and two different numbers",
        "references = {A = 1}": "[references.'A'] needs an environment of the suite",
        "[arguments]\nruns-dir = 1": "runs-dir in suite.toml: [arguments] is set by the harness itself",
        '[arguments]\na = "\\u0000"': "a in suite.toml: [arguments] must be a number",
    }.items(),
)
def test_what_is_wrong_with_a_suite_is_said(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    Path("suite.toml").write_text(text)
    with pytest.raises(BadInput) as told:
        read_suite(Path("suite.toml"))
    assert said in str(told.value) and ("did you mean" not in str(told.value))


def test_what_a_program_can_be_given():
    assert is_text("é Σ \ud7ff \ue000")
    assert not any(is_text(text) for text in ("a\0b", "a\ud800", "\udfffb"))
    check_flags({"Gamma": 1, "batch-size": 2}, "a suite")  # raises nothing


def test_arguments_are_read_as_toml_or_as_text():
    given = {
        "a=1e-3": 0.001,
        "a=true": True,
        "a=[1,2]": [1, 2],
        "a=huber": "huber",
        "a=x=y": "x=y",
        "a=1\nb=2": "1\nb=2",
    }
    for text, value in given.items():
        assert parse_argument(text) == ("a", value)
    assert parse_argument("--Xbatch-size=3") == ("Xbatch_size", 3) and parse_argument(" a =3") == ("a", 3)


BAD = {
    "run": "give --scripts",
    "run --scripts fake.py": "give --env-ids",
    "run --scripts no.py --env-ids A": "there is no script no.py",
    "run --suite nothing": "there is no suite 'nothing'",
    "run --suite broken.toml": "cannot read broken.toml",
    "run --suite unknown.toml": "unknown key 'script', did you mean 'scripts'?",
    "run --suite taken.toml": "seed in taken.toml: [arguments] is set by the harness itself",
    "run --suite nested.toml": "must be a number, a string",
    "run --scripts fake.py --env-ids A --num-seeds 0": "--num-seeds must be at least 1",
    "run --scripts fake.py --env-ids A --workers 0": "--workers",
    "run --scripts fake.py --env-ids A --time-limit 0": "--time-limit",
    "run --scripts fake.py --env-ids A --arguments gamma": "'gamma' is not of the form NAME=VALUE",
    "run --scripts fake.py --env-ids A --arguments seed=3": "is set by the harness itself",
    "run --scripts fake.py --env-ids A --arguments ;x=3": "is not the name of a flag",
    "run --scripts fake.py --env-ids A --runs-dir /proc/no": "cannot write into /proc/no",
    "run --scripts fake.py --env-ids A --launcher slurm": "",
    "run --scripts fake.py --env-ids A --time-limit inf": "--time-limit",
    "run --scripts fake.py --env-ids \udcff": "is not the name of an environment",
    "run --scripts fake.py --env-ids A --arguments a=1 --arguments b=2": "--arguments is given twice",
    "run --suite many.toml": "num_seeds cannot be True",
    "status nothing": "holds no suite that was run",
    "status odd": "odd holds no suite that was run: seed cannot be '1'",
    "status other": "holds no suite that was run",
    "status empty --workers 0": "--workers must be at least 1",
    "report nothing": "there is no folder runs/nothing",
    "report": "give the name of a suite",
    "report empty": "there are no runs in empty",
    "compare empty empty": "cannot be compared with itself",
}


@pytest.mark.parametrize(("arguments", "said"), BAD.items())
def test_bad_input_is_one_sentence(bench, tmp_path, arguments, said, monkeypatch):
    if "slurm" in arguments:
        monkeypatch.setenv("PATH", "/nowhere")
        said = "needs squeue, which is not here"
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.toml").write_text("scripts = [")
    (tmp_path / "unknown.toml").write_text('script = ["fake.py"]')
    (tmp_path / "taken.toml").write_text("[arguments]\nseed = 1")
    (tmp_path / "nested.toml").write_text("[arguments]\na = {b = 1}")
    (tmp_path / "many.toml").write_text("num_seeds = true")
    run = {"script": "a", "label": "a", "env_id": "A", "flags": {}, "seed": "1", "sha256": ""}
    for name, plan in {"odd": {"sweeps": {}, "runs": [run]}, "other": {"sweeps": [1], "runs": []}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").write_text(json.dumps(plan))
    code, out, err = bench(*arguments.split())
    assert code == 2 and said in err and "Traceback" not in err and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert not list(tmp_path.glob("runs/*/*/*"))


# Faults


@pytest.mark.bug(42)
def test_a_script_that_fails(bench, tmp_path):
    """Two attempts, exit code 1, the others complete, and the end of its log is shown."""
    bench("run", *FAKE, "--num-seeds", "1")
    code, out, err = bench("run", *FAKE, "--num-seeds", "2", "--arguments", "does=fail")
    assert code == 1 and out.startswith("0 done, 0 running, 2 failed, 0 missing")
    for text in (out, err):
        assert "fake.py on A, seed 2: exit code 1 (2 attempts" in text and "these are the last words" in text
    assert out == bench("status", "default")[1]
    assert logs(tmp_path).count("=== exit code 1") == 4


def test_a_retry_that_succeeds(bench, tmp_path):
    code, out, err = bench("run", *FAKE, "--num-seeds", "2", "--arguments", "does=once")
    assert (code, err) == (0, "") and out.startswith("2 done")
    assert set(results(tmp_path).values()) == {1} and logs(tmp_path).count("attempt 2 of 2") == 2
    assert not list(tmp_path.rglob("attempts.json")), "of what succeeded in the end nothing failed"


@pytest.mark.parametrize("does", ["killed", "hang"])
def test_an_attempt_continues_from_the_checkpoint_of_the_one_before(bench, tmp_path, does):
    """It is killed, or stopped by its time limit of a second; the next attempt has one flag and the same folder."""
    flags = ("--num-seeds", "1", "--time-limit", "0.02", "--arguments", f"does=checkpoint {does}")
    assert bench("run", *FAKE, *flags, "--retries", "1")[0] == 0
    ((result, run_dir),) = [(json.loads(path.read_text()), path.parent) for path in tmp_path.rglob("result.json")]
    assert result["resumed_at"] == "step 1"
    resumed = shlex.join([sys.executable, str(tmp_path / "fake.py"), f"--resume={run_dir}"])
    assert f"attempt 2 of 2: {resumed}\n" in logs(tmp_path)


def test_the_same_command_continues_from_the_newest_checkpoint(bench, tmp_path):
    """The first run was begun twice. A script without --resume begins anew, whatever it leaves."""
    flags = (*FAKE, "--num-seeds", "1", "--retries", "0", "--arguments")
    assert bench("run", *flags, "does=checkpoint killed")[0] == 1
    (first,) = tmp_path.rglob("checkpoint.pt")
    shutil.copytree(first.parent, first.parent.with_name("run__later"))
    (first.parent.with_name("run__later") / "checkpoint.pt").write_text("step 2")
    os.utime(first, (0, 0))
    assert bench("run", *flags, "does=checkpoint killed")[0] == 0
    assert [json.loads(path.read_text())["resumed_at"] for path in tmp_path.rglob("result.json")] == ["step 2"]
    for _ in range(2):
        assert bench("run", *flags, "does=checkpoint forget killed")[0] == 1
    assert len(list(tmp_path.rglob("result.json"))) == 1 and logs(tmp_path).count("--resume") == 1


def test_a_script_that_does_not_hear_ctrl_c_is_asked_to_end_all_the_same(bench, tmp_path):
    """By SIGTERM, on which it says its last words; were it not to hear that either, it would be killed without."""
    flags = ("--retries", "0", "--time-limit", "0.02", "--arguments", "does=background")
    code, out, _ = bench("run", *FAKE, "--num-seeds", "1", *flags)
    assert code == 1 and "stopped after its time limit of 1.2 s (1 attempt" in out
    assert "asked to end, it does" in logs(tmp_path)


def test_a_script_that_hangs(bench, tmp_path):
    """It ignores the interrupt too, so it is killed, with a child that had left its process group."""
    code, out, _ = bench(
        "run", *FAKE, "--num-seeds", "1", "--retries", "0", "--time-limit", "0.02", "--arguments", "does=hang child"
    )
    assert code == 1 and "stopped after its time limit of 1.2 s (1 attempt" in out
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ("does", "said"),
    {
        "half": "its result.json is not whole",
        "nan": "its result.json has no eval/episodic_return",
        "nothing": "ended without a result.json",
        "killed": "killed by SIGKILL, as happens when memory runs out",
    }.items(),
)
def test_a_script_that_writes_half_a_result_or_none_or_is_killed_for_memory(bench, tmp_path, does, said):
    code, out, _ = bench("run", *FAKE, "--num-seeds", "1", "--retries", "0", "--arguments", f"does={does}")
    assert code == 1 and said in out and "0 done" in out


def test_a_child_that_a_complete_run_leaves_behind_is_ended(bench, tmp_path):
    assert bench("run", *FAKE, "--num-seeds", "1", "--arguments", "does=child")[0] == 0
    assert_nothing_is_left(tmp_path)


def test_a_script_that_fills_the_disk(tmp_path):
    """Every file of the harness and its children may have 100 kB: the run fails, the next one goes on."""
    write_script(tmp_path)
    limit = (100_000, 100_000)
    arguments = ("run", *FAKE, "--num-seeds", 2, "--retries", 0)
    full = subprocess.run(
        command(*arguments, "--arguments", "does=fill"), cwd=tmp_path, env=ENVIRON, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )  # fmt: skip
    assert full.returncode == 1 and full.stdout.startswith("0 done, 0 running, 2 failed")
    assert "File too large" in full.stdout and "Traceback" not in full.stderr.replace("    Traceback", "")
    assert subprocess.run(command(*arguments), cwd=tmp_path, env=ENVIRON).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_full(tmp_path):
    """A disk of 1 MB: the harness ends with one sentence, and goes on when there is room."""
    runs = tmp_path / "runs"
    runs.mkdir()
    write_script(tmp_path)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(runs)], capture_output=True).returncode:
        pytest.skip("this root may not mount")
    try:
        arguments = ("run", *FAKE, "--num-seeds", 3, "--retries", 0)
        assert subprocess.run(command(*arguments), cwd=tmp_path, env=ENVIRON).returncode == 0
        filled = command(*arguments, "--name", "other", "--arguments", "does=fill")
        full = subprocess.run(filled, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
        assert full.returncode == 2 and full.stderr.splitlines()[-1].startswith(
            "error: cannot write what the runs need"
        )
        assert "No space left on device" in full.stderr and set(results(tmp_path).values()) == {1}
        for path in runs.glob("other/*/*/big"):
            path.unlink()
        again = subprocess.run(command(*arguments, "--name", "other"), cwd=tmp_path, env=ENVIRON)
        assert again.returncode == 0 and set(results(tmp_path).values()) == {1}
    finally:
        subprocess.run(["umount", str(runs)], check=True)


def says_it_does_not_fit(_):
    says_so = f"import sys; print('full: a file', file=sys.stderr); sys.exit({CANNOT_WRITE})"
    return subprocess.Popen([sys.executable, "-c", says_so], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "name, instead",
    [("prepare", does_not_fit), ("start", says_it_does_not_fit), ("why_it_ended", does_not_fit)],
    ids=["before a run", "in its supervisor", "after it"],
)
def test_where_a_disk_is_full_makes_no_difference(bench, monkeypatch, name, instead):
    """One sentence and nothing more is started, whoever is the first to see it."""
    monkeypatch.setattr(local, name, instead)
    code, _, err = bench("run", *FAKE, "--num-seeds", "2", "--retries", "0", "--arguments", "does=fail")
    assert code == 2 and len(list(Path("runs").glob("*/*/*/args.json"))) == (name == "why_it_ended")
    assert err == "error: cannot write what the runs need (full: a file); the same command goes on from here\n"


def test_a_run_folder_deleted_in_the_middle(tmp_path):
    write_script(tmp_path)
    arguments = command("run", *FAKE, "--num-seeds", 2, "--workers", 2, "--arguments", "sleep=1")
    harness = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRON)
    while len(started := list(tmp_path.glob("runs/*/*/*/args.json"))) < 2:
        time.sleep(0.02)
    shutil.rmtree(started[0].parent)  # the script's folder
    shutil.rmtree(started[1].parent.parent)  # the whole run's
    assert harness.wait() == 0
    assert list(results(tmp_path).values()) == [1, 1]


def test_ctrl_c_stops_children_and_the_same_command_goes_on(tmp_path):
    write_script(tmp_path)
    arguments = command("run", *FAKE, "--num-seeds", 4, "--workers", 2, "--arguments", "sleep=0.7", "does=child")
    harness = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRON, stderr=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob("runs/*/*/*/args.json"))) < 3:
        time.sleep(0.02)
    harness.send_signal(signal.SIGINT)
    _, err = harness.communicate()
    assert harness.returncode == 130 and err == "interrupted; the same command goes on from here\n"
    assert processes(tmp_path) == []
    assert 1 <= sum(results(tmp_path).values()) < 4
    assert subprocess.run(arguments, cwd=tmp_path, env=ENVIRON).returncode == 0
    assert set(results(tmp_path).values()) == {1}


def test_after_a_second_ctrl_c_a_deaf_script_has_no_ten_seconds_left(tmp_path):
    write_script(tmp_path)
    arguments = command("run", *FAKE, "--num-seeds", 1, "--arguments", "does=hang")
    harness = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRON, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("runs/*/*/*/args.json")):
        time.sleep(0.02)
    for _ in range(2):
        time.sleep(1)  # until it hears nothing; until it is waited for
        assert harness.poll() is None
        harness.send_signal(signal.SIGINT)
    assert harness.wait(timeout=5) == 130 and processes(tmp_path) == []


def test_a_run_that_is_interrupted_while_it_is_tried_again_has_not_failed(tmp_path):
    write_script(tmp_path)
    arguments = command("run", *FAKE, "--num-seeds", 1, "--retries", 1, "--arguments", "does=once", "sleep=0.5")
    harness = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRON, stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("runs/*/*/*/args.json"))) < 2:
        time.sleep(0.02)
    harness.send_signal(signal.SIGINT)
    assert harness.wait() == 130
    status = subprocess.run(command("status", "default"), cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    assert status.stdout.startswith("0 done, 0 running, 0 failed, 1 missing")


def test_sigkill_of_the_harness_at_20_moments(tmp_path):
    """No process outlives it, and in the end every run is there exactly once.

    A moment is up to 0.3 s after so many further runs were started, none included, so that a slow machine does as well.
    """
    write_script(tmp_path)
    arguments = command("run", *FAKE, "--num-seeds", 60, "--workers", 4, "--arguments", "sleep=0.1", "does=child")
    moments, found = random.Random(0), []
    for _ in range(20):
        started = len(list(tmp_path.glob("runs/*/*/*/args.json"))) + moments.randint(0, 4)
        harness = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRON)
        while len(list(tmp_path.glob("runs/*/*/*/args.json"))) < started and harness.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        harness.kill()
        harness.wait()
        assert_nothing_is_left(tmp_path)
        if (tmp_path / "runs" / "default" / "plan.json").exists():
            found.append(sum(results(tmp_path).values()))
    assert len(set(found)) > 5 and found == sorted(found), "it was killed before, between and after runs"
    assert subprocess.run(arguments, cwd=tmp_path, env=ENVIRON).returncode == 0
    assert set(results(tmp_path).values()) == {1} and len(results(tmp_path)) == 60


def start_of_a_long_run(tmp_path) -> tuple[subprocess.Popen, psutil.Process]:
    """A harness whose only run has started and sleeps half a minute, and the process that watches over the run."""
    write_script(tmp_path)
    arguments = command("run", *FAKE, "--num-seeds", 1, "--arguments", "sleep=30")
    harness = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("runs/*/*/*/args.json")):
        time.sleep(0.02)
    (watching,) = [p for p in psutil.Process(harness.pid).children() if "benchmark.launch.supervise" in p.cmdline()]
    return harness, watching


def test_sigkill_of_the_harness_ends_a_long_run_too(tmp_path):
    """Within ten seconds, of its thirty."""
    harness, watching = start_of_a_long_run(tmp_path)
    assert os.getsid(watching.pid) == watching.pid, "a terminal's Ctrl-C is for the harness"
    harness.kill()
    harness.communicate()
    assert_nothing_is_left(tmp_path)


def test_a_supervisor_whose_terminal_is_closed_ends_its_run(tmp_path):
    """By SIGHUP: the run has not failed, it can go on."""
    harness, watching = start_of_a_long_run(tmp_path)
    watching.send_signal(signal.SIGHUP)
    out, _ = harness.communicate()
    assert harness.returncode == 1 and out.startswith("0 done, 0 running, 0 failed, 1 missing")
    assert "=== killed" not in logs(tmp_path), "that is for runs that failed"
    assert_nothing_is_left(tmp_path)


def test_what_a_supervisor_tells_by_its_exit_code(tmp_path):
    """75: somebody has the lock; 74: not a byte can be written; 1: no result. The script runs where the job says."""
    script = tmp_path / "script.py"
    script.write_text("open('here', 'w')")
    job = {"script": str(script), "sha256": text_hash(script), "command": [sys.executable, str(script)], "retries": 0}
    job |= {"cwd": str(tmp_path / "elsewhere"), "environ": {}, "time_limit": 60}
    for name in ("elsewhere", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "job.json").write_text(json.dumps(job))

    def supervise(most_bytes: int) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "benchmark.launch.supervise", str(tmp_path / "run")], cwd=ROOT, capture_output=True,
            text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
        )  # fmt: skip

    with FileLock(tmp_path / "run" / "lock"):
        assert supervise(10_000).returncode == 75
    full = supervise(0)
    assert full.returncode == 74 and full.stderr.startswith("File too large: ")
    assert supervise(10_000).returncode == 1 and (tmp_path / "elsewhere" / "here").exists()
    assert read_attempts(tmp_path / "run")[0]["reason"] == "ended without a result.json"


def test_a_supervisor_is_our_own_and_says_in_words_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "filelock.py").write_text("raise SystemExit('a file of the user, with the name of what we import')")
    supervisor = local.start(tmp_path)
    _, said = supervisor.communicate(timeout=60)
    assert supervisor.returncode == 1 and said == f"{tmp_path / 'job.json'} is missing or not whole\n"


def test_sigkill_of_a_supervisor(tmp_path):
    """The kernel ends the script with it, and the harness counts the run as failed and says why."""
    harness, watching = start_of_a_long_run(tmp_path)
    watching.kill()
    out, _ = harness.communicate()
    assert harness.returncode == 1 and out.startswith("0 done, 0 running, 1 failed, 0 missing")
    assert "fake.py on A, seed 1: the process that watches over it was killed by SIGKILL" in out
    assert_nothing_is_left(tmp_path)


def test_two_harnesses_on_one_suite(tmp_path):
    """Each run is made by one of them, once; both end when all is complete."""
    write_script(tmp_path)
    arguments = command("run", *FAKE, "--num-seeds", 8, "--workers", 2, "--arguments", "sleep=0.3")
    harnesses = [
        subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    for harness in harnesses:
        out, _ = harness.communicate(timeout=60)
        assert harness.returncode == 0 and out.startswith("8 done")
    assert set(results(tmp_path).values()) == {1} and logs(tmp_path).count("=== ") == 8


def test_status_while_it_runs(bench, tmp_path):
    bench("run", *FAKE, "--num-seeds", "1")
    arguments = command("run", *FAKE, "--num-seeds", 3, "--arguments", "sleep=1")
    harness = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE)
    while not list(tmp_path.glob("runs/*/*3__*/log.txt")) and not list(tmp_path.glob("runs/*/*__2__*/log.txt")):
        time.sleep(0.02)
    code, out, _ = bench("status", "default")
    assert code == 0 and out.startswith("1 done, 1 running, 0 failed, 1 missing of 3 runs")
    assert "time left: about 2 s with 1 at a time" in out
    harness.communicate()


def test_where_it_does_not_run_it_says_so(bench, monkeypatch):
    monkeypatch.setattr(command_line, "os", SimpleNamespace(name="nt"))
    code, _, err = bench("status", "default")
    assert code == 2 and "WSL" in err and err.count("\n") == 1


def test_wandb_out_of_reach(tmp_path):
    """A real script with WANDB_MODE=offline: the run completes, and `status` says how to upload its log."""
    small = "total_timesteps=300 learning_starts=100 batch_size=8 final_eval_episodes=1 hidden_sizes=[8]".split()
    arguments = ("run", "--scripts", ROOT / "dqn.py", "--env-ids", "CartPole-v1", "--num-seeds", 1, "--track")
    unreachable = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}
    environ = {name: value for name, value in ENVIRON.items() if not name.startswith("WANDB")} | unreachable
    done = subprocess.run(
        command(*arguments, "--name", "far away", "--arguments", *small), cwd=tmp_path, env=environ,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "wandb sync" in line)
    assert line.strip() == "wandb sync runs/far-away/*/wandb/offline-run-*"
    environ = ENVIRON | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}  # wandb is there
    sync = subprocess.run(f"{line} --dry-run", shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert sync.returncode == 0 and "offline-run-" in sync.stdout + sync.stderr, sync.stderr
    (logged,) = tmp_path.glob("runs/far-away/*/wandb/offline-run-*/*.wandb")
    for text in (b"far-away", b"dqn.py", b"CartPole-v1"):  # group, job type, a field of the config
        assert text in logged.read_bytes()


def test_a_script_that_is_removed_fails_alone(bench, tmp_path):
    """a.py removes b.py while it runs: b.py's runs fail, and those of c.py are made."""
    for name in "abc":
        shutil.copy(tmp_path / "fake.py", tmp_path / f"{name}.py")
    with (tmp_path / "a.py").open("a") as file:
        file.write("\nPath(__file__).with_name('b.py').unlink(missing_ok=True)\n")
    code, out, _ = bench("run", "--scripts", "a.py", "b.py", "c.py", "--env-ids", "A", "--num-seeds", "2")
    assert code == 1 and out.startswith("4 done, 0 running, 2 failed, 0 missing of 6 runs")
    assert out.count("the script was changed or removed after this suite was started") == 2


def test_the_same_script_twice_is_refused(bench, tmp_path):
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "fake.py", tmp_path / "copy")
    code, _, err = bench("run", "--scripts", "fake.py", "copy/fake.py", "--env-ids", "A")
    assert code == 2 and "nothing to compare" in err and err.count("\n") == 1


def test_arguments_of_a_script_hold_however_it_is_named(bench, tmp_path):
    text = 'scripts = ["fake.py"]\n[environments.A]\n[script_arguments."fake.py"]\ngamma = 0.5\n'
    (tmp_path / "suite.toml").write_text(text)
    for script in ("fake.py", "./fake.py", tmp_path / "fake.py"):
        _, out, _ = bench("run", "--suite", "suite.toml", "--scripts", script, "--num-seeds", "1", "--dry-run")
        assert "--gamma=0.5" in out


# Names are data

NASTY = ("a b", "it's", 'say "x"', "x;touch HACKED", "$(touch HACKED)", "`touch HACKED`", "../../up")
NASTY += ("<script>alert(1)</script>", "-rf", "x\ny", "%s%d", "é/ü", ".hidden", "|", "$x$", "_under")


def test_names_neither_run_nor_leave_the_folder(bench, tmp_path):
    """As environments, arguments and names of scripts, on one machine."""
    nested, scripts = tmp_path / "a" / "b" / "c", ("-rf.py", "$(touch HACKED).py", "a b;touch HACKED.py")
    for script in scripts:
        shutil.copy(tmp_path / "fake.py", tmp_path / script)
    tables = [f"[environments.{json.dumps(name, ensure_ascii=False)}]" for name in NASTY]
    suite = [f"scripts = {json.dumps(scripts)}", "[arguments]", 'note = "-rf;touch${IFS}HACKED;../<script>"', *tables]
    (tmp_path / "suite.toml").write_text("\n".join(suite), encoding="utf-8")
    code, out, err = bench(
        "run", "--suite", "suite.toml", "--num-seeds", "1", "--workers", "4", "--runs-dir", nested,
        "--name", "../$(touch HACKED)<b>",
    )  # fmt: skip
    assert code == 0, out + err
    found = [json.loads(path.read_text()) for path in nested.glob("*/*/*/args.json")]
    assert {args["env_id"] for args in found} == set(NASTY) and len(found) == len(scripts) * len(NASTY)
    assert {f"{args['exp_name']}.py" for args in found} == set(scripts)
    assert {args["note"] for args in found} == {"-rf;touch${IFS}HACKED;../<script>"}
    assert not list(tmp_path.rglob("HACKED")) and not list(ROOT.glob("HACKED"))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(["a", "fake.py", "suite.toml", *scripts]) and len(list(nested.iterdir())) == 1


def test_no_value_becomes_a_flag(bench, tmp_path):
    code, _, err = bench("run", *FAKE, "--arguments", 'hidden_sizes=["8","--does","fail"]')
    assert code == 2 and "cannot begin with two dashes" in err and not (tmp_path / "runs").exists()


def test_odd_files_are_no_failures_and_no_times(tmp_path):
    """Seconds that are no number, attempts that are none."""
    for text in ('{"attempts": 3}', '{"attempts": [{}, 1]}', '{"att', "[]"):
        (tmp_path / "attempts.json").write_text(text)
        assert read_attempts(tmp_path) == []
    for value in (math.nan, math.inf, 10**400, "1", None):
        assert finite(value) is None
    assert finite(3) == 3.0


def test_why_a_run_is_not_complete(tmp_path):
    for file, text, said in (
        ("other", "", "has no result.json"),
        ("result.json", '{"eval/epis', "its result.json is not whole"),
        ("result.json", '{"seconds": 1}', "its result.json has no eval/episodic_return"),
        ("result.json", '{"eval/episodic_return": 1}', "has no whole args.json"),
        ("args.json", "{}", ""),
    ):
        (tmp_path / file).write_text(text)
        assert why_incomplete(tmp_path) == said


def test_attempts_are_read_as_they_were_written(tmp_path):
    attempts = [{"reason": "exit code 1", "seconds": 2.5}]
    for _ in range(2):  # also into a folder that is there
        write_attempts(tmp_path / "suite" / "run", attempts)
    assert json.loads((tmp_path / "suite" / "run" / "attempts.json").read_text()) == {"attempts": attempts}
    assert read_attempts(tmp_path / "suite" / "run") == attempts and read_attempts(tmp_path) == []


def test_the_end_of_a_log(tmp_path):
    """15 lines or 4,096 bytes, whatever the bytes are; a bar that was drawn over and over counts a line each time."""
    assert log_tail(tmp_path) == ""
    for content, expected in (
        (b"\n".join(b"%d" % i for i in range(20)), "\n".join(map(str, range(5, 20)))),
        (b"a" * 5_000, "a" * 4_096),
        (b"x\xff\r50%\r100%", "x\ufffd\n50%\n100%"),
    ):
        (tmp_path / "log.txt").write_bytes(content)
        assert log_tail(tmp_path) == expected


def test_a_run_whose_lock_was_taken_meanwhile_is_tried_again(bench, monkeypatch):
    """The first supervisor finds that another one was faster; nothing has failed by that."""
    started, start = [], local.start

    def once_locked(folder):
        started.append(folder)
        if len(started) > 1:
            return start(folder)
        says_so = [sys.executable, "-c", f"raise SystemExit({LOCKED})"]
        return subprocess.Popen(says_so, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    monkeypatch.setattr(local, "start", once_locked)
    monkeypatch.setattr(local, "LOCKED_POLL", 0.05)
    code, out, err = bench("run", *FAKE, "--num-seeds", "2")
    assert (code, err) == (0, "") and out.startswith("2 done") and len(started) == 3


def test_how_long_a_run_takes_and_how_many_failed_is_learned_on_the_way(bench, monkeypatch):
    known = []
    monkeypatch.setattr(local.Pool, "say_how_far", lambda self: known.append((self.left.of(self.runs[0]), self.failed)))
    bench("run", *FAKE, "--num-seeds", "1", "--arguments", "sleep=0.3")
    assert known[0] == (None, 0) and known[-1] == (0.3, 0)
    bench("run", *FAKE, "--num-seeds", "2", "--retries", "0", "--arguments", "does=fail")
    assert known[-1] == (None, 2)


@pytest.fixture
def pool(bench, tmp_path):
    """pool() is a new Pool of three runs, two at a time, of which the first is complete and says it took 40 s."""
    bench("run", *FAKE, "--num-seeds", "1")
    suite = tmp_path / "runs" / "default"
    (first,), _ = read_plan(suite)
    (result,) = suite.glob("*/*/result.json")
    result.write_text(json.dumps(json.loads(result.read_text()) | {"seconds": 40.0}))
    return lambda: local.Pool(suite, [dataclasses.replace(first, seed=seed) for seed in (1, 2, 3)], 2)


def test_a_run_that_another_harness_is_busy_with_is_looked_at_again_two_seconds_later(pool, monkeypatch):
    """The third is started meanwhile; the second once its time has come, and not as soon as its lock is free."""
    waiting = pool()
    monkeypatch.setattr(local, "start", Path)  # in place of a process, its folder
    monkeypatch.setattr(local.time, "monotonic", lambda: 100.0)
    how = {"time_limit": 60.0, "retries": 0, "environ": {}}
    (_, second), (_, third) = waiting.pending
    (waiting.suite_dir / second.folder).mkdir()
    with FileLock(waiting.suite_dir / second.folder / "lock"):
        waiting.start_what_is_due(how, track=False)
    for now, expected in ((100.0, [third]), (101.9, [third]), (102.0, [third, second])):
        monkeypatch.setattr(local.time, "monotonic", lambda now=now: now)
        waiting.start_what_is_due(how, track=False)
        assert list(waiting.running.values()) == expected
        assert list(waiting.pending) == ([] if second in expected else [(102.0, second)])


def test_how_far_it_is_stands_in_a_file_once_a_minute(pool, monkeypatch, capfd):
    """One run is done, two wait, of 40 s each."""
    waiting, now = pool(), time.monotonic()
    assert (waiting.bar.total, waiting.bar.n) == (3, 1)
    for seconds, expected in ((58, 0), (60.5, 1), (119, 0), (121, 1)):
        monkeypatch.setattr(local.time, "monotonic", lambda seconds=seconds: now + seconds)
        waiting.say_how_far()
        line = "1 of 3 runs, 0 running, 0 failed, left: about 40 s with 2 at a time\n"
        assert capfd.readouterr() == ("", line * expected)
    waiting.running[None] = waiting.pending.popleft()[1]
    waiting.failed = 1
    monkeypatch.setattr(local.time, "monotonic", lambda: now + 200)
    waiting.say_how_far()
    assert capfd.readouterr().err.startswith("1 of 3 runs, 1 running, 1 failed, left: about 40 s")


def test_how_far_it_is_is_drawn_once_a_second_on_a_terminal(pool, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    waiting, drawn, now = pool(), [], time.monotonic()
    monkeypatch.setattr(waiting.bar, "set_postfix_str", drawn.append)
    for seconds in (0, 0.5, 1.5, 2, 62, 122):
        monkeypatch.setattr(local.time, "monotonic", lambda seconds=seconds: now + seconds)
        waiting.say_how_far()
    assert drawn == ["0 running, 0 failed, left: about 40 s with 2 at a time"] * 4
    assert terminal.getvalue().startswith("\rruns 1/3 |") and "1 of 3 runs" not in terminal.getvalue()


def test_sigterm_means_what_it_did_once_the_runs_have_ended():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), local.interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_lock_is_seen(tmp_path):
    assert not is_locked(tmp_path) and list(tmp_path.iterdir()) == []
    with FileLock(tmp_path / "lock"):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_lock_of_somebody_else_is_seen(tmp_path, monkeypatch):
    """In a colleague's suite one may read the lock but not take it."""

    class Refused:
        def __init__(self, *_, **__):
            raise PermissionError

    lock = FileLock(tmp_path / "lock")
    with lock:
        monkeypatch.setattr("benchmark.run_folder.FileLock", Refused)
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("name", NASTY)
def test_slugs(name):
    made = slug(name)
    assert made and not set(made) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert made[0] not in ".-" and made not in (".", "..")


def test_slugs_keep_what_is_safe():
    assert slug("A b/C.d_e-9") == "A-b-C.d_e-9" and slug("é/ü") == "unnamed"
    assert slug(".-Xa.-") == "Xa" and slug("aX") == "aX" and slug("a" * 70) == "a" * 60
    assert slug("a" * 59 + "-b") == "a" * 59, "no dash at the end after the cut either"


def test_what_status_says(tmp_path):
    """One run of each state; the complete one took 89.6 s, so three more take 4 min. Of its three logs of W&B one
    is uploaded."""
    write_script(tmp_path)
    runs = expand({}, tmp_path, [str(tmp_path / "fake.py")], ["A"], num_seeds=4)
    suite_dir = tmp_path / "my suite"
    done, failed, running, missing = (suite_dir / run.folder for run in runs)
    for folder in (done / "run", running, *(done / "wandb" / f"offline-run-{i}" for i in (1, 2, 3))):
        folder.mkdir(parents=True)
    (done / "run" / "result.json").write_text('{"eval/episodic_return": 1.0, "seconds": 89.6}')
    (done / "run" / "args.json").write_text("{}")
    (done / "wandb" / "offline-run-3" / "run-3.wandb.synced").touch()
    write_attempts(failed, [{"reason": "exit code 1"}])
    (failed / "log.txt").write_text("=== attempt 1\na\nb\nc\nd\n=== exit code 1\n")
    with FileLock(running / "lock"):
        states = [status.state(suite_dir, run) for run in runs]
        said = status.summary(suite_dir, runs, workers=1).splitlines()
    assert states == ["done", "failed", "running", "missing"]
    assert said == [
        f"1 done, 1 running, 1 failed, 1 missing of 4 runs in {suite_dir}",
        "time left: about 4 min with 1 at a time",
        f"failed: fake.py on A, seed 2: exit code 1 (1 attempt, see {failed / 'log.txt'})",
        *("    b", "    c", "    d"),
        "2 W&B runs were logged offline; to upload them:",
        f"    wandb sync '{suite_dir}'/*/wandb/offline-run-*",
    ]
    assert status.failure(suite_dir, runs[3]) == "" and not missing.exists()
    assert status.seconds_of(suite_dir, runs[0]) == 89.6 and status.seconds_of(suite_dir, runs[3]) is None
    assert (status.duration(89.4), status.duration(90)) == ("89 s", "2 min")


def test_time_left():
    left = status.TimeLeft(Path("."), [])
    run = expand({}, ROOT, [str(ROOT / "dqn.py")], ["A", "B"], 1)
    assert left.text(run, 1) == "unknown until a run is complete" and left.text([], 1) == "nothing"
    left.add(run[0], 60.0)
    assert left.text(run * 2, 2) == "about 2 min with 2 at a time"
    assert status.duration(12_000) == "3 h 20 min"
