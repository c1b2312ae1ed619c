"""--launcher slurm: on a real Slurm of two nodes where there is one to be had, always in CI; and what it writes."""

import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from fakes import write_script
from slurm_cluster import Cluster, missing

from benchmark.launch import slurm
from benchmark.run_folder import complete_folder, write_json
from benchmark.suite import BadInput, expand, read_plan, write_plan


@pytest.fixture
def cluster(tmp_path_factory):
    if lacking := missing():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {', '.join(lacking)}")
        pytest.skip(f"needs {', '.join(lacking)}")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def launch(folder, *arguments) -> subprocess.Popen:
    own = ("--launcher", "slurm", "--slurm.poll", 1, "--slurm.memory", "200M", "--scripts", "fake.py")
    own += ("--slurm.sbatch=--nodes=1 --comment=ours", *arguments)
    command = [sys.executable, "-m", "benchmark", "run", *map(str, own)]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def test_an_array_over_two_nodes_of_which_one_dies(cluster, tmp_path):
    """Runs finish on both, a node is killed in the middle of one, and in the end each is complete, once."""
    folder = tmp_path / "it's $(touch HACKED); 100%"
    folder.mkdir()
    write_script(folder)
    harness = launch(folder, "--env-ids", "$(touch HACKED)", "--num-seeds", 6, "--arguments", "sleep=3", "note=; x '")
    started = time.monotonic()
    while len(list(folder.glob("runs/*/*/*/result.json"))) < 2:
        time.sleep(0.1)
        assert harness.poll() is None and time.monotonic() < started + 60, harness.stderr.read()
    while len(list(folder.glob("runs/*/*/*/args.json"))) < 4:
        time.sleep(0.1)
    cluster.kill_node("n1")
    killed = time.monotonic()
    while time.monotonic() < killed + 300 and harness.poll() is None:
        # Slurm lets a task that it requeues wait for two minutes; an administrator need not.
        waiting = subprocess.run(
            ["squeue", "-h", "-r", "-t", "PD", "-o", "%A %r"], capture_output=True, text=True
        ).stdout
        for job in [line.split()[0] for line in waiting.splitlines() if "BeginTime" in line]:
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)
        time.sleep(1)
    out, err = harness.communicate(timeout=10)
    print(f"complete {time.monotonic() - killed:.0f} s after the node was killed\n{err}")
    assert harness.returncode == 0 and out.startswith("6 done, 0 running, 0 failed, 0 missing")
    runs, _ = read_plan(folder / "runs" / "default")
    for run in runs:
        assert len(list((folder / "runs" / "default" / run.folder).glob("*/result.json"))) == 1
    logs = [path.read_text() for path in folder.glob("runs/default/*/log.txt")]
    assert sum(log.count("=== ") for log in logs) > 6, "one was started twice"
    assert not list(tmp_path.rglob("HACKED"))

    # A script that fails is not submitted again, and the exit code says so.
    failing = launch(folder, "--env-ids", "A", "--num-seeds", 1, "--retries", 0, "--arguments", "does=fail")
    out, err = failing.communicate(timeout=120)
    assert failing.returncode == 1 and out.startswith("0 done, 0 running, 1 failed") and "last words" in err


def test_what_dies_is_submitted_again(tmp_path, monkeypatch):
    """With a queue that loses tasks: run 1 dies once, 2 always and is given up; 4 fails by itself, which is final."""
    monkeypatch.chdir(tmp_path)
    write_script(tmp_path)
    submitted = []

    def submit(suite_dir, folders, seconds, options):
        submitted.append(sorted(folder.name.split("__")[2] for folder in folders))
        assert len(submitted) <= 3
        for folder in folders:
            if "__4__" in folder.name:
                write_json(folder / "attempts.json", {"attempts": [{"reason": "exit code 1"}]})
                continue
            if "__2__" in folder.name or ("__1__" in folder.name and len(submitted) == 1):
                continue  # dies
            subprocess.run([sys.executable, "-m", "benchmark.launch.supervise", str(folder)], cwd=ROOT, check=True)

    monkeypatch.setattr(slurm, "submit", submit)
    monkeypatch.setattr(slurm, "queued", lambda suite_dir: {})
    runs = expand({}, tmp_path, ["fake.py"], ["A"], 4)
    write_plan(tmp_path / "suite", runs, {})
    how = {"time_limit": 60, "retries": 0, "environ": {}}
    slurm.run_slurm(tmp_path / "suite", runs, how, False, slurm.Options(submissions=3, poll=0.01))
    assert submitted == [["1", "2", "3", "4"], ["1", "2"], ["2"]]
    complete = [complete_folder(tmp_path / "suite" / run.folder) is not None for run in runs]
    assert complete == [True, False, True, False]


def test_ctrl_c_names_the_jobs_that_are_in_the_queue(tmp_path, monkeypatch, capsys):
    """Job 7 is; job 6, of an earlier command, has long ended."""
    write_script(tmp_path)
    runs = expand({}, tmp_path, [str(tmp_path / "fake.py")], ["A"], 1)
    write_plan(tmp_path / "suite", runs, {})
    (tmp_path / "suite" / "slurm").mkdir()
    for job in "67":
        write_json(tmp_path / "suite" / "slurm" / f"{job}.json", [runs[0].folder])
        (tmp_path / "suite" / "slurm" / f"{job}.job").write_text(job)
    monkeypatch.setattr(slurm, "ask", lambda *_, **__: "7 0")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm.time, "sleep", interrupt)
    how = {"time_limit": 60, "retries": 0, "environ": {}}
    with pytest.raises(KeyboardInterrupt):
        slurm.run_slurm(tmp_path / "suite", runs, how, False, slurm.Options())
    assert "to cancel them: scancel 7\n" in capsys.readouterr().err


def test_two_harnesses_never_share_a_list(tmp_path):
    """The second finds the first's list still empty and without a job, and takes another number."""
    assert [slurm.numbered(tmp_path).name for _ in "ab"] == ["1.json", "2.json"]


def test_the_batch_script_and_its_options(tmp_path, monkeypatch):
    """Names reach neither the shell nor sbatch's patterns, not even that of the folder where the repository is."""
    nasty = tmp_path / "$(touch HACKED) '; x"
    nasty.mkdir()
    (nasty / "1.json").write_text("[]")
    (nasty / "clone").symlink_to(ROOT)
    monkeypatch.setattr(slurm, "ROOT", nasty / "clone")
    done = subprocess.run(["bash", "-c", slurm.script_text(nasty / "1.json")], capture_output=True, text=True)
    assert "IndexError" in done.stderr or "ValueError" in done.stderr, "it came as far as looking for its task"
    assert not list(tmp_path.rglob("HACKED")) and not (ROOT / "HACKED").exists()
    options = slurm.Options("gpu", None, 4, 1, "8G", 20, sbatch="--account=mine --comment='two words'")
    assert slurm.command(options, "name", 7, "log", 3600.0, tmp_path / "x.sh") == [
        "sbatch", "--parsable", "--requeue", "--open-mode=append", "--job-name=name", "--output=log",
        "--array=0-6%20", "--cpus-per-task=4", "--ntasks=1", "--time=1:01:00", "--partition=gpu", "--gres=gpu:1",
        "--mem=8G", "--account=mine", "--comment=two words", str(tmp_path / "x.sh"),
    ]  # fmt: skip
    with pytest.raises(BadInput, match="--comment='two cannot be read"):
        slurm.command(slurm.Options(sbatch="--comment='two"), "name", 7, "log", 3600.0, tmp_path / "x.sh")
