"""Checkpoints of dqn_atari.py: a run that is killed and resumed ends as one that was never interrupted."""

import json
import multiprocessing
import os
import re
import signal
import time
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import wandb
from conftest import scalars, train

import dqn_atari
from dqn_atari import Args, Stop, load_checkpoint

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["dqn_atari"])  # so that a process starts in a tenth of a second


def small(tmp_path, **arguments):
    """780 steps in which the ring of 200 steps wraps, 180 updates and twelve checkpoints."""
    defaults = {"total_timesteps": 780, "learning_starts": 60, "batch_size": 4, "buffer_size": 200}
    defaults |= {"checkpoint_frequency": 60, "eval_frequency": 500, "eval_episodes": 1, "max_frames": 300}
    defaults |= {"env_id": "ALE/Breakout-v5", "target_network_frequency": 50, "learning_rate": 1e-3}
    defaults |= {"end_e": 0.5, "num_threads": 1, "save_model": True, "cuda": False, "runs_dir": tmp_path}
    return Args(**defaults | arguments)


def start(args):
    process = context.Process(target=train, args=(args,))
    process.start()
    return process


def outcome(run_dir):
    """All that must be equal: weights, what was logged, and the result, without clocks."""
    result = json.loads((run_dir / "result.json").read_text())
    del result["seconds"], result["sps"]
    logged = scalars(run_dir)
    del logged["charts/SPS"]
    weights = {name: torch.load(run_dir / name, weights_only=True) for name in ("model.pt", "best_model.pt")}
    return {(file, name): w for file, state in weights.items() for name, w in state.items()}, logged, result


@pytest.mark.parametrize(("num_envs", "num_threads"), [(1, 1), (3, 2)])
def test_killed_at_random_moments_and_resumed_is_equal_to_the_bit(tmp_path, num_envs, num_threads):
    begin = time.time()
    arguments = {"num_envs": num_envs, "num_threads": num_threads}
    reference = train(small(tmp_path / "whole", **arguments))
    interval = (time.time() - begin) / 13  # seconds from one checkpoint to the next
    process, kills, rng = start(small(tmp_path / "killed", **arguments)), 0, np.random.default_rng(num_envs)
    seen = None
    while process.is_alive():
        checkpoints = list((tmp_path / "killed").glob("*/checkpoint.pt"))
        now = [path.stat().st_mtime_ns for path in checkpoints]
        if kills < 5 and now not in ([], seen):
            time.sleep(rng.random() * interval)
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
            seen = [path.stat().st_mtime_ns for path in checkpoints]
            assert not list((tmp_path / "killed").glob("*/result.json"))
            time.sleep(1 - time.time() % 1)  # event files are ordered by the second in their names
            process = start(Args(resume=checkpoints[0].parent))
        time.sleep(0.002)
    process.join()
    assert kills == 5 and process.exitcode == 0
    (killed,) = (tmp_path / "killed").iterdir()  # all in one run folder
    weights, logged, result = outcome(killed)
    expected_weights, expected_logged, expected_result = outcome(reference)
    assert all(torch.equal(weights[name], expected_weights[name]) for name in expected_weights)
    assert logged == expected_logged, "nothing twice, nothing missing"
    assert result == expected_result and result["updates"] == (780 - 60) // 4
    assert not list(killed.glob("checkpoint.*")), "of no more use once the run is complete"


def test_games_are_cut_off_at_a_checkpoint_and_not_logged(tmp_path):
    """A game of at most 75 steps that begins anew every 60 steps never ends: there is no score to log."""
    run_dir = train(small(tmp_path, total_timesteps=180, env_id="ALE/Pong-v5"))
    assert "charts/episodic_return" not in scalars(run_dir)


class Interrupted(Exception):
    pass


def refused(function, *arguments):
    """The sentence with which the call ends; its exit code is 2."""
    with pytest.raises(Stop) as error:
        function(*arguments)
    sentence, code = error.value.args
    assert code == 2 and "\n" not in sentence
    return sentence


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The folder of a run that stopped behind its third checkpoint, at step 180."""
    save, saved = dqn_atari.save_checkpoint, []

    def save_three(*arguments):
        step = save(*arguments)
        saved.append(arguments)
        if len(saved) == 3:
            raise Interrupted
        return step

    with monkeypatch.context() as patch:
        patch.setattr(dqn_atari, "save_checkpoint", save_three)
        with pytest.raises(Interrupted):
            train(small(tmp_path))
    (run_dir,) = tmp_path.iterdir()
    return run_dir


def test_after_a_resume_events_count_once_and_the_best_before_is_kept(tmp_path, monkeypatch):
    """Stopped at step 230, behind the events of step 200, and resumed from the checkpoint of step 180."""
    arguments = {"total_timesteps": 300, "eval_frequency": 100, "learning_rate": 1e-9}  # all evaluations alike
    _, expected_logged, expected_result = outcome(train(small(tmp_path / "whole", **arguments)))
    assert expected_result["best_step"] == 100, "else it would not have to be kept"
    schedule = dqn_atari.linear_schedule

    def stop(start, end, duration, t):
        if t == 230:
            raise Interrupted
        return schedule(start, end, duration, t)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(dqn_atari, "linear_schedule", stop)
        train(small(tmp_path / "stopped", **arguments))
    (run_dir,) = (tmp_path / "stopped").iterdir()
    assert scalars(run_dir)["losses/td_loss"][-1][0] == 200
    before = load_checkpoint(Args(resume=run_dir))[1]["counters"][-1]
    _, logged, result = outcome(train(Args(resume=run_dir)))
    assert logged == expected_logged and result == expected_result
    seconds = json.loads((run_dir / "result.json").read_text())["seconds"]
    assert 0 < before < seconds < 600, "those before the checkpoint, and those after it"


def test_resume_has_the_arguments_of_the_run(stopped):
    args, saved = load_checkpoint(Args(resume=stopped))
    nature = dict(zip(dqn_atari.PROTOCOL, dqn_atari.PROTOCOLS["nature"], strict=True))
    assert asdict(args) == asdict(small(stopped.parent)) | nature
    step, updates, *_ = saved["counters"]
    assert (step, updates) == (180, 30)
    assert "give no others" in refused(load_checkpoint, Args(resume=stopped, seed=3))


def test_a_run_that_goes_on_has_not_failed(stopped):
    assert "Interrupted" in (stopped / "error.txt").read_text()
    load_checkpoint(Args(resume=stopped))
    assert not (stopped / "error.txt").exists()


def test_a_half_written_checkpoint_is_ignored(stopped):
    (stopped / "checkpoint.part").write_bytes(b"half")
    assert json.loads((train(Args(resume=stopped)) / "result.json").read_text())["global_step"] == 780


def test_resume_of_what_cannot_be_resumed(stopped, tmp_path):
    checkpoint, whole = stopped / "checkpoint.pt", (stopped / "checkpoint.pt").read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"not a checkpoint"):
        checkpoint.write_bytes(content)
        sentence = refused(train, Args(resume=stopped))
        assert re.search(r"has no whole checkpoint \(.+\): start anew, or remove the file$", sentence)
    checkpoint.write_bytes(whole)
    (stopped / "args.json").write_text((stopped / "args.json").read_text().replace("Breakout", "Pong"))
    sentence = refused(train, Args(resume=stopped))
    assert "of another run, with env_id ALE/Breakout-v5, not ALE/Pong-v5" in sentence
    assert "has no whole checkpoint" in refused(train, Args(resume=tmp_path / "no_such_run"))
    (stopped / "result.json").write_text("{}")
    assert "is complete" in refused(train, Args(resume=stopped))


def test_a_resumed_run_continues_its_run_of_wandb(tmp_path, monkeypatch):
    """Its id is in the checkpoint, and W&B reads it from the environment of the process; another run gets its own."""
    seen, save = [], dqn_atari.save_checkpoint

    def init(**_):
        names = {name: os.environ.get(name) for name in ("WANDB_RUN_ID", "WANDB_RESUME")}
        seen.append(names)
        nothing = dict.fromkeys(("log", "finish", "define_metric"), lambda *_, **__: None)
        return SimpleNamespace(id="the first", **nothing)

    def interrupted(*arguments):
        save(*arguments)
        raise Interrupted

    for name in ("WANDB_RUN_ID", "WANDB_RESUME"):
        monkeypatch.setitem(os.environ, name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(wandb, "init", init)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(dqn_atari, "save_checkpoint", interrupted)
        train(small(tmp_path, track=True, total_timesteps=70))
    (run_dir,) = tmp_path.iterdir()
    train(Args(resume=run_dir))
    train(small(tmp_path, track=True, total_timesteps=70))
    none = {"WANDB_RUN_ID": None, "WANDB_RESUME": None}
    assert seen == [none, {"WANDB_RUN_ID": "the first", "WANDB_RESUME": "allow"}, none]
