"""What the benchmarks lean on: which runs count as done, what a failed run does, and what is timed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import does_not_fit, write_script

import per_dqn
from benchmark.claims.base import series
from benchmark.launch import local
from benchmark.peers import sb3_dqn, sb3_qrdqn
from benchmark.report.statistics import mean_and_interval, write_table
from benchmark.run_folder import ROOT, read_scalars, text_hash
from benchmark.speed import __main__ as speed
from benchmark.speed import atari_parts, peers, replay, rungs, timing
from benchmark.speed.timing import run_script


@pytest.fixture
def run_seeds(monkeypatch, tmp_path):
    """run_seeds(flags, seeds) -> {seed: (folder, return)} with a fake script, whose return is the seed."""
    monkeypatch.setattr(local, "ROOT", tmp_path)  # where scripts are
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_script(tmp_path)

    def run(flags: dict, seeds: list[int]) -> dict[int, tuple[Path, float]]:
        settings = {"a": ("fake.py", {"env_id": "A"} | flags)}
        done = local.run_seeds(settings, seeds, tmp_path / "runs", workers=2)["a"]
        return {seed: (folder, result["eval/episodic_return"]) for seed, (folder, result) in done.items()}

    return run


def test_seeds_that_are_missing_are_run_and_others_are_not(run_seeds, tmp_path):
    one = run_seeds({"gamma": 0.5}, [1, 2])
    assert {seed: value for seed, (_, value) in one.items()} == {1: 1.0, 2: 2.0}
    two = run_seeds({"gamma": 0.5}, [1, 3])
    assert two[1] == one[1] and two[3][1] == 3.0
    assert json.loads((two[3][0] / "args.json").read_text())["gamma"] == 0.5
    assert run_seeds({"gamma": 0.6}, [1])[1][0] != one[1][0], "other flags are another run"
    write_script(tmp_path, more="# another text\n")
    assert run_seeds({"gamma": 0.5}, [1])[1][0] != one[1][0], "and so is another text"


def test_a_seed_is_tried_once_with_one_thread(run_seeds):
    (folder, _) = run_seeds({"gamma": 0.5}, [1])[1]
    args = json.loads((folder / "args.json").read_text())
    assert args["threads"] == "1" and args["track"] is False
    with pytest.raises(SystemExit):
        run_seeds({"does": "once"}, [1])


@pytest.mark.bug(42)
def test_a_failed_seed_is_not_averaged_away(run_seeds, capsys):
    with pytest.raises(SystemExit, match="1 of 1 runs failed"):
        run_seeds({"does": "fail"}, [1])
    assert "these are the last words" in capsys.readouterr().err


def test_a_study_that_cannot_write_says_so(run_seeds, monkeypatch):
    monkeypatch.setattr(local, "prepare", does_not_fit)
    with pytest.raises(SystemExit, match=r"error: cannot write what the runs need \(full: a file\)"):
        run_seeds({}, [1])


def test_a_study_that_is_ended_says_how_to_go_on(run_seeds, tmp_path, capsys):
    """By SIGTERM while a run goes on; the same as Ctrl-C."""

    def end():
        while not list(tmp_path.rglob("args.json")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()  # a run that never starts is a failure here, not a hang
    with pytest.raises(SystemExit) as ended:
        run_seeds({"sleep": 60}, [1])
    assert ended.value.code == 130 and "the same command goes on" in capsys.readouterr().err


def test_a_script_that_fails_is_an_error(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        run_script("dqn.py", tmp_path, total_timesteps=0)


def test_the_command_line_of_a_run(tmp_path):
    run_dir = run_script(
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
    steps, values = series([one, two], "x")
    assert steps == [10, 20] and values.tolist() == [[1, 2], [3, 4]]


def test_table(tmp_path):
    write_table([{"seed": 1, "x": 0.5}, {"seed": 2, "x": 1.5}], tmp_path / "new" / "table.csv")
    assert (tmp_path / "new" / "table.csv").read_bytes() == b"seed,x\n1,0.5\n2,1.5\n"
    for value in (0.5, 2.5):  # a table of one row, and once more in its place
        write_table([{"x": value}], tmp_path / "new" / "deeper" / "still" / "table.csv")
    assert (tmp_path / "new" / "deeper" / "still" / "table.csv").read_bytes() == b"x\n2.5\n"


def test_times_become_a_part_of_a_page(tmp_path, monkeypatch, capsys):
    """Medians 3 and 4 of three turns; in these the others take 2, 1 and 3 times as long: twice in the middle."""
    page = tmp_path / "docs" / "results" / "speed.md"
    page.parent.mkdir(parents=True)
    page.write_text("# Speed\n")
    monkeypatch.setattr(timing, "DATA", tmp_path / "docs" / "results" / "data")
    table = timing.report({"ours": [2.0, 4.0, 3.0], "theirs": [4.0, 4.0, 9.0]}, "a step", ["ours"])
    assert table in capsys.readouterr().out and table.startswith("a step, 3 runs of each:")
    assert "| ours | 3.0 | 2.0 to 4.0 |  |" in table and "| theirs | 4.0 | 4.0 to 9.0 | 2.00 |" in table
    timing.publish("speed", "replay", replay.Args(), [table])
    assert page.read_text() == "# Speed\n", "only if it is asked for"
    monkeypatch.setattr(timing, "BEGAN", time.perf_counter() - 240)
    timing.publish("speed", "replay", replay.Args(repeats=3, page=True), [table])
    text = page.read_text()
    assert re.search(r"\nCommit [^\n]+; it took 4 min\.\n", text)
    assert table in text and "\n    python -m benchmark.speed replay --repeats 3 --page\n\nCommit " in text


def test_every_part_of_speed_is_named_where_help_is_asked_for():
    named = re.findall(r"^python -m benchmark.speed (\w+) +# ", speed.__doc__, re.MULTILINE)
    assert named == list(speed.PARTS)


def test_bars_of_times_are_a_picture_of_the_page(tmp_path, monkeypatch):
    """A bar as long as the median of three turns, 3 and 4, with a line over their range, 2 to 4 and 4 to 9."""
    figure = timing.bars({"a step": {"ours": [2.0, 4.0, 3.0], "theirs": [4.0, 4.0, 9.0]}}, ["ours"])
    (panel,) = figure.axes
    lengths, (lines,) = panel.patches, panel.collections
    assert [bar.get_width() for bar in lengths] == [3.0, 4.0]
    assert lengths[0].get_facecolor() != lengths[1].get_facecolor()
    assert [line[:, 0].tolist() for line in lines.get_segments()] == [[2.0, 4.0], [4.0, 9.0]]
    monkeypatch.setattr(timing, "DATA", tmp_path / "docs" / "results" / "data")
    page = tmp_path / "docs" / "results" / "speed.md"
    page.parent.mkdir(parents=True)
    page.write_text("# Speed\n")
    timing.publish("speed", "peers", replay.Args(page=True), ["a table"], figure, "two bars")
    assert "\na table\n\n![two bars](data/speed/peers.svg)\n" in page.read_text()
    assert "theirs" in (page.parent / "data" / "speed" / "peers.svg").read_text()


def test_flags_that_the_build_before_lacks_are_left_out(tmp_path, monkeypatch):
    """Only for a script outside this repository: a flag that ours lacks is an error."""
    given = []

    def run_script(script, runs_dir, **flags):
        given.append(flags)
        return runs_dir

    monkeypatch.setattr(timing, "run_script", run_script)
    monkeypatch.setattr(timing, "read_scalars", lambda _: {"charts/SPS": [(100, 1.0, 0.5), (200, 1.0, 0.7)]})
    (tmp_path / "dqn.py").write_text("class Args:\n    eval_episodes: Count = 20\n")
    flags = {"eval_episodes": 1, "final_eval_episodes": 1}
    assert timing.step_of_script(tmp_path / "dqn.py", 0, **flags) == pytest.approx(0.2 / 100 * 1e6)
    timing.step_of_script("dqn.py", 0, **flags)
    assert given == [{"eval_episodes": 1}, flags]


def test_updates_are_compared_with_those_of_the_build_before(tmp_path, monkeypatch, capsys):
    """A step takes 100 µs and an update 300, before 250; that of per_dqn.py takes 600, and was not there before.

    With an update in ten steps a step takes 130 µs, with one in each 400: (400 - 130) * 10 / 9 = 300.
    """
    (tmp_path / "dqn.py").touch()
    updates = {ROOT / "dqn.py": 300, ROOT / "per_dqn.py": 600, tmp_path / "dqn.py": 250}
    monkeypatch.setattr(peers, "step", lambda args, every, script, compile: 100 + updates[script] / every)
    monkeypatch.setattr(rungs, "on_one_core", lambda: None)
    monkeypatch.setattr(sys, "argv", f"rungs --scripts dqn.py per_dqn.py --no-compile --before {tmp_path}".split())
    rungs.main()
    out = capsys.readouterr().out
    assert "| `dqn.py` | 130 | 400 | 300 | 1.00 | 250 | 1.20 |" in out
    assert "| `per_dqn.py` | 160 | 700 | 600 | 2.00 |  |  |" in out
    assert out.endswith("\nThe slowest update beside the build before: `dqn.py`, 1.20 times.\n")


def test_contenders_of_prioritized_replay_do_the_same_work():
    """The plain array draws by the same priorities as the tree, and stores the same ones."""
    rng = np.random.default_rng(0)
    tree, plain = (kind(8, 1, 1.0, 0.0) for kind in (per_dqn.ReplayBuffer, replay.ChoiceReplayBuffer))
    np.random.seed(0)
    for buffer in (tree, plain):
        for k in range(8):
            buffer.add(np.array([k]), 0, 0.0, np.array([k]), False)
        buffer.update_priorities(np.arange(8), np.arange(8.0))
        draws = np.concatenate([buffer.sample(32, 0.4, rng, torch.device("cpu"))[1] for _ in range(500)])
        assert np.bincount(draws, minlength=8) / len(draws) == pytest.approx(np.arange(8) / 28, abs=0.015)
    assert tree.tree.get(np.arange(8)) == pytest.approx(plain.tree.get(np.arange(8)))


def test_replay_is_timed(monkeypatch, capsys):
    monkeypatch.setattr(replay, "full_buffer", lambda kind, size: (lambda: None, lambda: None))
    monkeypatch.setattr(sys, "argv", ["replay", "--repeats", "1"])
    monkeypatch.setattr(replay, "on_one_core", lambda: None)
    replay.main()
    out = capsys.readouterr().out
    for title in ("sample 32 and update their priorities, 1,000,000 transitions", "add one, 100,000 transitions"):
        assert title in out


def test_parts_of_a_step_on_atari_are_timed(monkeypatch, capsys):
    """A call of what all games do at once serves 8 steps, an update 4."""
    monkeypatch.setattr(sys, "argv", "atari_parts --num-envs 8 --steps 20 --repeats 1".split())
    atari_parts.main()
    header, _, *rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.strip().splitlines()]
    assert header == ["on the cpu", "games", "µs a call", "range", "µs a step"]
    found = {name: numbers for name, *numbers in rows}
    assert list(found) == [
        "acting, with both transfers",
        "of that the pictures' transfer",
        "games",
        "replay write",
        "sampling",
        "update",
    ]
    for name, serves in {"games": 8, "replay write": 8, "sampling": 4, "update": 4}.items():
        games, a_call, _, a_step = found[name]
        a_call, a_step = float(a_call), float(a_step)
        assert games == "8"
        assert a_call > 0 and a_step == pytest.approx(a_call / serves, abs=0.1)


def test_stable_baselines3_learns_under_our_command_line(tmp_path):
    """Fifty updates of its own, weights that they move, and a run folder as dqn.py's."""
    weights = []
    for learning_rate in (1e-2, 1e-12):
        args = sb3_dqn.Args(total_timesteps=400, learning_starts=200, batch_size=16, hidden_sizes=(16,))
        args.learning_rate, args.save_model, args.eval_frequency = learning_rate, True, 200
        args.eval_episodes, args.final_eval_episodes = 1, 2
        args.runs_dir = tmp_path / str(learning_rate)
        run_dir = sb3_dqn.train(args)
        result = json.loads((run_dir / "result.json").read_text())
        assert result["updates"] == (400 - 200) / 4 and len(result["returns"]) == 2
        logged = read_scalars(run_dir)
        assert [step for step, *_ in logged["eval/episodic_return"]] == [200, 400]
        stored = json.loads((run_dir / "args.json").read_text())
        assert stored["no_counterpart"] == ["loss"] and stored["loss"] == "mse"
        assert stored["sha256"] == text_hash(Path(sb3_dqn.__file__)), "its own text, not that of dqn.py"
        assert (run_dir / "best_model.pt").exists()
        weights.append(torch.load(run_dir / "model.pt", weights_only=True))
    moved, still = weights
    assert all((moved[name] - still[name]).abs().max() > 1e-3 for name in moved if name.startswith("q_net."))


def test_stable_baselines3_with_its_maintainers_own_hyperparameters(tmp_path, capsys):
    """Acrobot's: no step of waiting, and every 4 steps as many updates as there were steps, so 200 in 200 steps."""
    args = sb3_dqn.Args(env_id="Acrobot-v1", total_timesteps=200, learning_starts=9, learning_rate=1.0)
    args.eval_frequency, args.final_eval_episodes, args.max_episode_steps = 200, 1, 50
    args.published, args.runs_dir = True, tmp_path
    run_dir = sb3_dqn.train(args)
    stored = json.loads((run_dir / "args.json").read_text())
    assert json.loads((run_dir / "result.json").read_text())["updates"] == 200
    assert (stored["learning_rate"], stored["hidden_sizes"], stored["tau"]) == (6.3e-4, [256, 256], 1.0)
    assert stored["published"] is True and stored["no_counterpart"] == []
    args.env_id, args.learning_starts, args.batch_size, args.learning_rate = "Pendulum-v1", 100, 16, 1e-3
    run_dir = sb3_dqn.train(args)
    assert json.loads((run_dir / "args.json").read_text())["learning_rate"] == 1e-3
    assert "publishes no hyperparameters of DQN for Pendulum-v1: the flags' count" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--capture-video", "neither --evaluate nor --capture-video"),
        ("--published --learning-starts 5 --total-timesteps 500", "--train-frequency leave no step"),
        ("--env-id Missing-v0", "cannot make Missing-v0"),
    ],
)
def test_a_peer_refuses_in_a_sentence_what_it_cannot_do(tmp_path, flags, said):
    own = [] if "total" in flags else ["--total-timesteps", "3000"]
    command = [sys.executable, str(ROOT / "benchmark/peers/sb3_dqn.py"), *flags.split(), *own]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and said in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_quantile_regression_of_stable_baselines3(tmp_path, monkeypatch):
    """Q(s, ·) is the mean over the quantiles, (1, 25, 3) on Acrobot; 200 updates in 200 steps, as for its DQN."""
    args = sb3_qrdqn.Args(env_id="Acrobot-v1", total_timesteps=200, learning_starts=9, save_model=True)
    args.eval_frequency, args.final_eval_episodes, args.max_episode_steps = 200, 1, 50
    args.published, args.runs_dir = True, tmp_path
    shown = []
    monkeypatch.setattr(
        sb3_qrdqn.dqn,
        "evaluate",
        lambda env, q_values, *_: shown.append(q_values(np.zeros(6))) or ({"eval/episodic_return": 0.0}, [0.0]),
    )
    run_dir = sb3_qrdqn.train(args)
    assert json.loads((run_dir / "result.json").read_text())["updates"] == 200
    stored = json.loads((run_dir / "args.json").read_text())
    assert stored["n_quantiles"] == 25 and stored["sha256"] == text_hash(Path(sb3_qrdqn.__file__))
    weights = torch.load(run_dir / "model.pt", weights_only=True)
    hidden = torch.zeros(6)
    for layer in ("quantile_net.0", "quantile_net.2"):
        hidden = torch.relu(weights[f"{layer}.weight"] @ hidden + weights[f"{layer}.bias"])
    quantiles = weights["quantile_net.4.weight"] @ hidden + weights["quantile_net.4.bias"]  # (25 * 3,)
    assert shown[-1] == pytest.approx(quantiles.reshape(25, 3).mean(dim=0).numpy(), abs=1e-5)
