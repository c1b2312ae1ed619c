"""What environments of users do (known bugs 64, 65 and 67): there is only one of them, they draw from the global
generators, they check what they get, they draw for a long time or not at all."""

import json
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import scalars, train
from moviepy import VideoFileClip

import dqn
import dqn_atari
import fqi
import tabular_q


class User(gym.Env):
    """Episodes of so many steps with one of three observations; of two instances at a time the second one fails."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(2)
    there = False

    def __init__(self, length=5, alone=False, picture=None, render_mode=None):
        if alone and User.there:
            raise RuntimeError("the port is taken")
        self.length, self.alone, self.picture, self.render_mode = length, alone, picture, render_mode
        User.there = True

    def close(self):
        User.there = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return random.randrange(3), {}

    def step(self, action):
        assert type(action) is int, f"{action!r} is no int"
        self.t += 1
        return int(np.random.randint(3)), float(np.random.normal()), self.t >= self.length, False, {}

    def render(self):
        return self.picture


SCRIPTS = [dqn, tabular_q, fqi]


@pytest.fixture
def register():
    """register(**arguments) -> id of the environment with these arguments."""
    made = []

    def make(**arguments):
        made.append(f"User{len(made)}-v0")
        gym.register(made[-1], User, kwargs=arguments, disable_env_checker=True, max_episode_steps=5_000)
        User.there = False
        return made[-1]

    yield make
    for env_id in made:
        del gym.registry[env_id]


def small(script, tmp_path, **arguments):
    """Arguments of a run of 400 steps, or of 400 transitions and four iterations, that is evaluated twice."""
    steps = {"total_timesteps": 400, "eval_frequency": 200}
    own = {
        dqn: {**steps, "learning_starts": 200, "batch_size": 16, "hidden_sizes": (16,)},
        tabular_q: steps,
        fqi: {"dataset_size": 400, "iterations": 4, "eval_frequency": 2, "regressor": "linear"},
    }[script]
    return script.Args(**{**own, "eval_episodes": 2, "runs_dir": tmp_path / "runs", **arguments})


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_global_generators_are_seeded_and_actions_are_ints(tmp_path, register, script):
    """Actions are the same Python ints in training and in evaluation: User looks at each."""
    env_id = register()
    runs = [scalars(train(small(script, tmp_path, env_id=env_id, seed=seed))) for seed in (3, 3, 4)]
    for run in runs:
        run.pop("charts/SPS", None)  # the clock is the one thing that may differ
    assert runs[0] == runs[1] and runs[0] != runs[2]


@pytest.mark.parametrize(("script", "file"), [(dqn, "model.pt"), (tabular_q, "q.npy")])
def test_an_environment_that_can_be_there_only_once(tmp_path, register, script, file):
    """Evaluated only at the end, it is trained and evaluated. Evaluated before, its own error ends the run, and what
    was learned until then is on disk."""
    flags = {"env_id": register(alone=True)} | ({"save_model": True} if script is dqn else {})
    run_dir = train(small(script, tmp_path, eval_frequency=401, **flags))
    assert json.loads((run_dir / "result.json").read_text())["updates"] == (50 if script is dqn else 400)
    assert (run_dir / file).exists()
    User.there = False
    with pytest.raises(RuntimeError, match="the port is taken"):
        train(small(script, tmp_path / "early", **flags))
    (run_dir,) = (tmp_path / "early" / "runs").iterdir()
    assert (run_dir / file).stat().st_size > 100 and not (run_dir / "result.json").exists()


def test_weights_before_a_failed_evaluation_are_the_learned_ones(tmp_path, register):
    """The second evaluation of three fails, at step 300 of 400: model.pt is not that of the first one, at 150."""
    seen, evaluate = [], dqn.evaluate

    def fails(args, *rest):
        (run_dir,) = args.runs_dir.iterdir()
        seen.append(torch.load(run_dir / "model.pt", weights_only=True)["0.weight"])
        if len(seen) == 2:
            raise RuntimeError("the simulator is gone")
        return evaluate(args, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="simulator"):
        patch.setattr(dqn, "evaluate", fails)
        flags = {"learning_starts": 100, "eval_frequency": 150, "save_model": True}
        train(small(dqn, tmp_path, env_id=register(), **flags))
    (run_dir,) = (tmp_path / "runs").iterdir()
    kept = torch.load(run_dir / "model.pt", weights_only=True)["0.weight"]
    assert torch.equal(kept, seen[1]) and not torch.equal(kept, seen[0])


@pytest.mark.parametrize("script", [dqn, tabular_q])
def test_a_recording_of_a_long_episode_is_bounded(tmp_path, register, script):
    env_id = register(length=3_000, picture=np.zeros((32, 32, 3), np.uint8))
    run_dir = train(small(script, tmp_path, env_id=env_id, eval_episodes=1, eval_frequency=400, capture_video=True))
    (video,) = (run_dir / "videos").iterdir()
    with VideoFileClip(str(video)) as clip:
        assert clip.n_frames == pytest.approx(1_000, abs=2)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("picture", [None, np.zeros((32, 32), np.uint8), "text"])
def test_what_is_no_picture_is_refused_before_training(tmp_path, register, script, picture):
    with pytest.raises(script.BadInput, match=r"render\(\) returns no picture"):
        train(small(script, tmp_path, env_id=register(picture=picture), capture_video=True))
    assert not (tmp_path / "runs").exists(), "no run folder"


def test_a_call_leaves_torchs_threads_as_they_were(tmp_path, register, call_main):
    """A call from a notebook; the command line, whose process it is, takes one thread and counts tiny numbers as 0."""

    def found():
        return torch.get_num_threads(), (torch.tensor([1e-40]) * 1.0).item() > 0

    torch.set_num_threads(2)
    try:
        train(small(dqn, tmp_path, env_id=register()))
        assert found() == (2, True)
        assert call_main(dqn, "--evaluate no/such/model.pt")[0] == 2
        assert found() == (1, False)
    finally:
        torch.set_num_threads(1)
        torch.set_flush_denormal(False)


def test_a_call_of_dqn_atari_puts_torchs_threads_back(tmp_path):
    torch.set_num_threads(2)
    try:
        seen, evaluate = [], dqn_atari.evaluate
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dqn_atari, "evaluate", lambda *a: (seen.append(torch.get_num_threads()), evaluate(*a))[1])
            flags = {"total_timesteps": 60, "learning_starts": 40, "batch_size": 2, "buffer_size": 100}
            flags |= {"eval_episodes": 1, "max_frames": 80, "num_threads": 1, "runs_dir": tmp_path}
            train(dqn_atari.Args(**flags, cuda=False))
        assert seen == [1] and torch.get_num_threads() == 2 and (torch.tensor([1e-40]) * 1.0).item() > 0
    finally:
        torch.set_num_threads(1)
