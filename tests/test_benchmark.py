"""What the benchmarks lean on: which runs count as done, what a failed run does, and the contenders of speed.py."""

import json
import subprocess

import numpy as np
import pytest

from benchmark import runs, speed
from benchmark.statistics import mean_and_interval, write_table


@pytest.fixture
def started(monkeypatch):
    """Replaces the start of scripts by a finished run folder, and lists the (script, seed, flags) that were started."""
    calls = []

    def run_script(script, runs_dir, seed, **flags):
        calls.append((script, seed, flags))
        folder = runs_dir / f"run{len(calls)}"
        folder.mkdir(parents=True)
        (folder / "args.json").write_text(json.dumps({"seed": seed} | flags))
        if not flags.get("dies"):
            (folder / "result.json").write_text(json.dumps({"score": 10 * seed}))
        return folder

    monkeypatch.setattr(runs, "run_script", run_script)
    return calls


def test_only_what_is_missing_is_run(started, tmp_path):
    settings = {"a": ("dqn.py", {"gamma": 0.5}), "b": ("per_dqn.py", {})}
    done = runs.run_seeds(settings, [1, 2], tmp_path, workers=2)
    assert len(started) == 4
    assert {
        name: {seed: result["score"] for seed, (_, result) in by_seed.items()} for name, by_seed in done.items()
    } == {
        "a": {1: 10, 2: 20},
        "b": {1: 10, 2: 20},
    }
    again = runs.run_seeds(settings, [1, 2, 3], tmp_path, workers=2)
    assert sorted(started[4:], key=str) == [("dqn.py", 3, {"gamma": 0.5}), ("per_dqn.py", 3, {})]
    assert again["a"][1] == done["a"][1]


def test_changed_flags_or_scripts_are_not_done(started, tmp_path, monkeypatch):
    (tmp_path / "dqn.py").write_text("one")
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    for _ in range(2):
        runs.run_seeds({"a": ("dqn.py", {"gamma": 0.5})}, [1], tmp_path / "runs", 1)
    assert len(started) == 1
    runs.run_seeds({"a": ("dqn.py", {"gamma": 0.6})}, [1], tmp_path / "runs", 1)
    assert len(started) == 2
    (tmp_path / "dqn.py").write_text("two")
    runs.run_seeds({"a": ("dqn.py", {"gamma": 0.6})}, [1], tmp_path / "runs", 1)
    assert len(started) == 3


def test_a_folder_without_a_result_does_not_count(started, tmp_path):
    with pytest.raises(KeyError):
        runs.run_seeds({"a": ("dqn.py", {"dies": True})}, [1], tmp_path, 1)


def test_a_script_that_fails_is_an_error(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        runs.run_script("dqn.py", tmp_path, total_timesteps=0)


def test_the_command_line_of_a_run(tmp_path):
    run_dir = runs.run_script(
        "dqn.py", tmp_path, total_timesteps=30, learning_starts=20, batch_size=4, hidden_sizes=(8, 4), anneal_lr=False,
        eval_episodes=1, gamma=0.9,
    )  # fmt: skip
    args = json.loads((run_dir / "args.json").read_text())
    assert run_dir.parent == tmp_path and (run_dir / "result.json").exists()
    assert (args["hidden_sizes"], args["anneal_lr"], args["gamma"]) == ([8, 4], False, 0.9)


def test_mean_and_interval():
    values = np.repeat([[0.0, 5.0], [2.0, 5.0]], 50, axis=0)
    mean, low, high = mean_and_interval(values)
    assert mean.tolist() == [1.0, 5.0]
    # The mean of 100 draws from {0, 2} has the standard deviation 1 / √100: ± 1.96 of it.
    assert [low[0], high[0]] == pytest.approx([1 - 0.196, 1 + 0.196], abs=0.03)
    assert [low[1], high[1]] == [5.0, 5.0]


def test_series_of_several_runs():
    one, two = {"x": [(10, 1.0, 0.5), (20, 2.0, 0.6)]}, {"x": [(10, 3.0, 0.7), (20, 4.0, 0.8)]}  # (step, value, clock)
    steps, values = runs.series([one, two], "x")
    assert steps == [10, 20] and values.tolist() == [[1, 2], [3, 4]]


def test_table(tmp_path):
    write_table([{"seed": 1, "x": 0.5}, {"seed": 2, "x": 1.5}], tmp_path / "new" / "table.csv")
    assert (tmp_path / "new" / "table.csv").read_text() == "seed,x\n1,0.5\n2,1.5\n"


def test_contenders_of_prioritized_replay_do_the_same_work():
    """The plain array draws by the same priorities as the tree, and stores the same ones."""
    rng = np.random.default_rng(0)
    tree, plain = (
        kind(8, 1, "proportional", 1.0, 0.0) for kind in (speed.per_dqn.ReplayBuffer, speed.ChoiceReplayBuffer)
    )
    np.random.seed(0)
    for buffer in (tree, plain):
        for k in range(8):
            buffer.add(np.array([k]), 0, 0.0, np.array([k]), False)
        buffer.update_priorities(np.arange(8), np.arange(8.0))
        draws = np.concatenate([buffer.sample(32, 0.4, rng, speed.torch.device("cpu"))[1] for _ in range(500)])
        assert np.bincount(draws, minlength=8) / len(draws) == pytest.approx(np.arange(8) / 28, abs=0.015)
    assert tree.tree.get(np.arange(8)) == pytest.approx(plain.tree.get(np.arange(8)))


def test_replay_is_timed(monkeypatch, capsys):
    monkeypatch.setattr(speed, "full_buffer", lambda kind, size: (lambda: None, lambda: None))
    speed.replay(speed.Args(what="replay", repeats=1))
    out = capsys.readouterr().out
    for title in ("sample 32 and update their priorities, 1,000,000 transitions", "add one, 100,000 transitions"):
        assert title in out
