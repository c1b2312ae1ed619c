"""Environments of users (known bugs 64 to 69): of some there is only one, some draw from the global generators, check
their actions, render long episodes or nothing, send arrays or NaN, or fail."""

import json
import math
import random
import traceback
import warnings
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
import wandb
from conftest import scalars, train
from moviepy import VideoFileClip

import dqn
import dqn_atari
import fqi
import pqn
import tabular_q


class User(gym.Env):
    """Episodes of so many steps with one of three observations; of two instances at a time the second one fails."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(2)
    there = False

    def __init__(self, length=5, alone=False, picture=None, arrays=False, fails=None, numbers=False, render_mode=None):
        """fails: (number of a step, an exception to raise there, or (observation, reward) to send there)."""
        if alone and User.there:
            raise RuntimeError("the port is taken")
        if fails == "at once":
            raise TypeError("a mistake in the constructor")
        if numbers:
            self.observation_space = gym.spaces.Box(-1, 3, ())
        self.length, self.alone, self.picture, self.render_mode = length, alone, picture, render_mode
        self.arrays, self.fails, self.steps = arrays, fails, 0
        User.there = True

    def close(self):
        User.there = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return random.randrange(3), {}

    def step(self, action):
        assert type(action) is int, f"{action!r} is no int"
        self.t, self.steps = self.t + 1, self.steps + 1
        obs, reward, terminated = int(np.random.randint(3)), float(np.random.normal()), self.t >= self.length
        if self.fails and self.steps == self.fails[0]:
            if isinstance(self.fails[1], BaseException):
                raise self.fails[1]
            obs, reward = self.fails[1]
        if self.arrays:
            return obs, np.array([reward]), np.array([terminated]), np.array([False]), {}
        return obs, reward, terminated, False, {}

    def render(self):
        return self.picture


SCRIPTS = [dqn, tabular_q, fqi, pqn]


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
        pqn: {**steps, "num_envs": 2, "num_steps": 20, "hidden_sizes": (16,), "learning_rate": 1e-2},
        fqi: {"dataset_size": 400, "iterations": 4, "eval_frequency": 2, "regressor": "linear"},
    }[script]
    episodes = {"eval_episodes": 2, "final_eval_episodes": arguments.get("eval_episodes", 2)}
    own |= {name: n for name, n in episodes.items() if name in script.Args.__dataclass_fields__}
    return script.Args(**{**own, "runs_dir": tmp_path / "runs", **arguments})


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_global_generators_are_seeded_and_actions_are_ints(tmp_path, register, script):
    """Actions are the same Python ints in training and in evaluation: User looks at each."""
    env_id = register()
    runs = [scalars(train(small(script, tmp_path, env_id=env_id, seed=seed))) for seed in (3, 3, 4)]
    for run in runs:
        run.pop("charts/SPS", None)  # only the clock may differ
    assert runs[0] == runs[1] and runs[0] != runs[2]


@pytest.mark.parametrize(("script", "file"), [(dqn, "model.pt"), (tabular_q, "q.npy")])
def test_an_environment_that_can_be_there_only_once(tmp_path, register, script, file):
    """Evaluated only at the end, it is trained and evaluated. Evaluated before, a second one is needed: its own error
    ends the run before training."""
    flags = {"env_id": register(alone=True)} | ({"save_model": True} if script is dqn else {})
    run_dir = train(small(script, tmp_path, eval_frequency=401, **flags))
    assert json.loads((run_dir / "result.json").read_text())["updates"] == (50 if script is dqn else 400)
    assert (run_dir / file).exists()
    User.there = False
    with pytest.raises(RuntimeError, match="the port is taken"):
        train(small(script, tmp_path / "early", **flags))
    assert not [*(tmp_path / "early").rglob(file), *(tmp_path / "early").rglob("events.*")]


def test_weights_before_a_failed_evaluation_are_the_learned_ones(tmp_path, register):
    """The second evaluation of three fails, at step 300 of 400: model.pt is not that of the first one, at 150."""
    seen, evaluate = [], dqn.evaluate

    def fails(env, q_values, args, episodes):
        (run_dir,) = args.runs_dir.iterdir()
        seen.append(torch.load(run_dir / "model.pt", weights_only=True)["output.weight"])
        if len(seen) == 2:
            raise RuntimeError("the simulator is gone")
        return evaluate(env, q_values, args, episodes)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="simulator"):
        patch.setattr(dqn, "evaluate", fails)
        flags = {"learning_starts": 100, "eval_frequency": 150, "save_model": True}
        train(small(dqn, tmp_path, env_id=register(), **flags))
    (run_dir,) = (tmp_path / "runs").iterdir()
    kept = torch.load(run_dir / "model.pt", weights_only=True)["output.weight"]
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
    with pytest.raises(script.Stop, match=r"render\(\) returns no picture"):
        train(small(script, tmp_path, env_id=register(picture=picture), capture_video=True))
    assert not (tmp_path / "runs").exists(), "no run folder"


def test_a_call_leaves_torchs_threads_as_they_were(tmp_path, register, call_main):
    """A call from a notebook; the command line, whose process it is, takes one thread and counts tiny numbers as 0."""

    def found():
        return torch.get_num_threads(), (torch.tensor([1e-40]) * 1.0).item() > 0

    torch.set_num_threads(2)
    torch.set_flush_denormal(False)
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
    torch.set_flush_denormal(False)
    try:
        seen, evaluate = [], dqn_atari.evaluate
        with pytest.MonkeyPatch.context() as patch:

            def watched(*arguments):
                seen.append(torch.get_num_threads())
                return evaluate(*arguments)

            patch.setattr(dqn_atari, "evaluate", watched)
            flags = {"total_timesteps": 60, "learning_starts": 40, "batch_size": 2, "buffer_size": 100}
            flags |= {"eval_episodes": 1, "max_frames": 80, "num_threads": 1, "runs_dir": tmp_path}
            train(dqn_atari.Args(**flags, cuda=False))
        assert seen == [1] and torch.get_num_threads() == 2 and (torch.tensor([1e-40]) * 1.0).item() > 0
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("script", SCRIPTS)
def test_rewards_and_ends_of_shape_1_are_numbers(tmp_path, register, script):
    plain, arrays = (
        train(small(script, tmp_path / str(arrays), env_id=register(arrays=arrays))) for arrays in (False, True)
    )
    found = [scalars(run_dir) for run_dir in (plain, arrays)]
    for run in found:
        run.pop("charts/SPS", None)
    assert found[0] == found[1]


def test_fqi_evaluates_in_one_environment(tmp_path, register):
    """In as many as there are episodes, three or one: the same."""
    flags = {"env_id": register(), "eval_episodes": 3, "regressor": "linear"}
    runs = [
        train(small(fqi, tmp_path / str(n), num_eval_envs=n, env_id="CartPole-v1", eval_episodes=3)) for n in (3, 2, 1)
    ]
    returns = [json.loads((run_dir / "result.json").read_text())["returns"] for run_dir in runs]
    assert len(returns[0]) == 3 and returns[0] == returns[1] == returns[2]
    flags["env_id"] = register(alone=True)
    with pytest.raises(RuntimeError, match="the port is taken"):
        train(small(fqi, tmp_path / "many", **flags))
    User.there = False
    assert (train(small(fqi, tmp_path / "alone", num_eval_envs=1, **flags)) / "result.json").exists()


@pytest.mark.parametrize("end", [KeyboardInterrupt(), OSError("the simulator is gone")], ids=["Ctrl-C", "error"])
def test_what_was_learned_is_kept_however_the_run_ends(tmp_path, register, spy, monkeypatch, end):
    """At step 350, between two evaluations (at 200 and 400), the weights of step 348."""
    monkeypatch.setattr(dqn, "warn_of_differences", lambda *_: None)  # it makes steps, too
    steps = spy("compute_loss")
    with pytest.raises(type(end)):
        train(small(dqn, tmp_path, env_id=register(fails=(350, end)), save_model=True))
    (run_dir,) = (tmp_path / "runs").iterdir()
    network = steps[-1][0][0]
    assert len(steps) == (348 - 200) / 4 and not (run_dir / "result.json").exists()
    assert torch.equal(torch.load(run_dir / "model.pt", weights_only=True)["output.weight"], network.output.weight)


def test_a_table_is_kept_however_the_run_ends(tmp_path, register, monkeypatch):
    """Every step that was learned from is in it: it is the table of a run of 349 steps."""
    monkeypatch.setattr(tabular_q, "warn_of_differences", lambda *_: None)  # it makes steps, too
    flags = {"end_e": 1.0, "eval_frequency": 1_000}
    with pytest.raises(KeyboardInterrupt):
        train(small(tabular_q, tmp_path, env_id=register(fails=(350, KeyboardInterrupt())), **flags))
    (run_dir,) = (tmp_path / "runs").iterdir()
    whole = train(small(tabular_q, tmp_path / "whole", env_id=register(), total_timesteps=349, **flags))
    assert np.load(run_dir / "q.npy").tolist() == np.load(whole / "q.npy").tolist() != [[0, 0]] * 3


def test_weights_that_are_not_finite_replace_none(tmp_path, register):
    with pytest.raises(dqn.Stop, match="--learning-rate is too high"):
        train(small(dqn, tmp_path, learning_rate=1e30, save_model=True, eval_frequency=1_000))
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert not (run_dir / "model.pt").exists()


MANY = [gym.spaces.MultiDiscrete([2, 3]), gym.spaces.MultiBinary(2), gym.spaces.Discrete(3, start=-1)]


class Choices(gym.Env):
    """One step an episode; the reward is the sum of the action's numbers."""

    def __init__(self, action_space, observation_space=None):
        self.action_space, self.observation_space = action_space, observation_space or gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not of {self.action_space}"
        return 1, float(np.sum(action)), True, False, {}


@pytest.fixture
def choices():
    """choices(action_space, observation_space) -> the id of Choices with these spaces."""

    def make(action_space, observation_space=None):
        kwargs = {"action_space": action_space, "observation_space": observation_space}
        gym.register("Choices-v0", Choices, kwargs=kwargs)
        return "Choices-v0"

    yield make
    gym.registry.pop("Choices-v0", None)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("space", MANY, ids=str)
def test_actions_that_can_be_listed(tmp_path, choices, script, space):
    """As one number; the best of them is found: [1, 2], [1, 1] and 1, where the sum of 3, 2 and 1 is the largest."""
    env_id = choices(space)
    env = script.make_env(script.Args(env_id=env_id))
    assert env.action_space.n == {0: 6, 1: 4, 2: 3}[MANY.index(space)]
    run_dir = train(small(script, tmp_path, env_id=env_id))
    result = json.loads((run_dir / "result.json").read_text())
    assert result["best_return"] == {0: 3, 1: 2, 2: 1}[MANY.index(space)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_grid_over_continuous_actions(choices, script):
    """2 dimensions x 3 bins = 9 actions, 3 numbers within the bounds of each dimension, in all combinations."""
    space = gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 10]))
    env, sent = script.make_env(script.Args(env_id=choices(space), action_bins=3)), []
    assert env.action_space.n == 9
    step = env.unwrapped.step

    def watched(action):
        sent.append(tuple(action.tolist()))
        return step(action)

    env.unwrapped.step = watched
    for action in range(9):
        env.reset(seed=0)
        env.step(action)
    first, second = (sorted({pair[i] for pair in sent}) for i in (0, 1))
    assert sorted(sent) == [(one, two) for one in first for two in second] and len(first) == len(second) == 3
    assert -1 <= first[0] < -0.5 < first[1] < 0.5 < first[2] <= 1
    assert 0 <= second[0] < 2.5 < second[1] < 7.5 < second[2] <= 10


@pytest.mark.parametrize("script", SCRIPTS)
def test_too_many_actions(choices, script):
    """MultiBinary(10) has 2 ** 10 = 1,024 of them, 3 dimensions of 10 bins 1,000 and of 11 bins 1,331."""
    cube = gym.spaces.Box(-1, 1, (3,))
    assert script.make_env(script.Args(env_id=choices(cube), action_bins=10)).action_space.n == 1_000
    for space in (gym.spaces.MultiBinary(10), cube):
        with pytest.raises(script.Stop, match="at most 1,000 combinations"):
            script.make_env(script.Args(env_id=choices(space), action_bins=11))


@pytest.mark.parametrize(("brightest", "warned"), [(10, 1), (25, 1), (26, 0), (255, 0)])
def test_numbers_declared_as_pixels(choices, monkeypatch, brightest, warned):
    """MiniGrid declares Box(0, 255, uint8) and sends 0 to 10: one warning after 1,000 observations, however many
    follow. Real pixels get none, even if only one of the 1,000 pictures is bright."""
    env = dqn.make_env(dqn.Args(env_id=choices(gym.spaces.Discrete(2), gym.spaces.Box(0, 255, (2, 2), np.uint8))))
    picture = np.array([[0, 1], [2, 10]], np.uint8)
    monkeypatch.setattr(Choices, "reset", lambda self, **_: (picture, {}))
    monkeypatch.setattr(Choices, "step", lambda self, action: (picture, 0.0, False, False, {}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env.reset()
        for step in range(2, 2_501):
            picture[1, 1] = brightest if step == 500 else 10
            env.step(0)
            said = [warning for warning in caught if "sends numbers below 26 as pixels" in str(warning.message)]
            assert len(said) == (warned if step >= 1_000 else 0)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("sent", [(0, np.nan), (0, -np.inf), (np.nan, 1.0), (np.inf, 1.0)], ids=str)
def test_numbers_that_are_not_finite_end_the_run(tmp_path, register, script, call_main, sent):
    """Exit code 1 and one sentence: with both suspects, or, where numbers are checked at once, with the environment."""
    env_id = register(fails=(123, sent), numbers=not math.isfinite(sent[0]))
    flags = {dqn: "--total-timesteps 400 --learning-starts 200 --batch-size 16", tabular_q: "--total-timesteps 400"}
    flags[fqi] = "--dataset-size 400 --iterations 2 --dataset data.npz"
    flags[pqn] = "--total-timesteps 400 --num-envs 1"
    code, _, err = call_main(script, f"--env-id {env_id} {flags[script]}")
    last = err.splitlines()[-1]
    assert code == 1 and last.startswith("error: ") and "Traceback" not in err
    suspects = "--learning-rate is too high, or the environment sent a number that is not finite"
    assert suspects in last or (script in (tabular_q, fqi) and f"{env_id} sent " in last)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_error_of_the_environment_keeps_its_traceback(register, script, call_main):
    """It leaves `main` as it is, not as a sentence; Ctrl-C in the environment's code is no error of it."""
    for fails, kind in (("at once", TypeError), ((7, ConnectionRefusedError(111, "refused")), OSError)):
        with pytest.raises(kind) as error:
            call_main(script, f"--env-id {register(fails=fails)}")
        text = "".join(traceback.format_exception(error.value))
        assert __file__ in text and "raise " in text
    assert call_main(script, f"--env-id {register(fails=(7, KeyboardInterrupt()))}")[0] == 130
    code, _, err = call_main(script, f"--env-id {register()} --env-kwargs length")
    assert code == 2 and "--env-kwargs takes NAME=VALUE, not ('length',)" in err and "Traceback" not in err
    code, _, err = call_main(script, f"--env-id {register()} --env-kwargs heigth=3")
    assert code == 2 and "unexpected keyword argument 'heigth'" in err and err.count("\n") == 1, "an error of the call"


@pytest.mark.parametrize("script", [dqn, fqi])
def test_a_space_that_cannot_be_flattened_is_named(tmp_path, choices, script):
    """As in MiniGrid, whose mission is a space of its own kind in a Dict."""

    class Mission(gym.spaces.Space):
        def __repr__(self):
            return "Mission()"

    space = gym.spaces.Dict(image=gym.spaces.Box(0, 255, (3, 3), np.uint8), mission=Mission())
    with pytest.raises(script.Stop, match=r"hold a Mission\(\), no vector of fixed length: remove it"):
        train(small(script, tmp_path, env_id=choices(gym.spaces.Discrete(2), space)))


@pytest.mark.parametrize("script", SCRIPTS)
def test_arguments_of_the_environment(tmp_path, script):
    """Numbers, true and false as Python writes them, else text; kept in args.json."""
    kwargs = ("is_slippery=False", "map_name=8x8", "success_rate=0.5", "reward_schedule=(2, 0, 0)")
    env = script.make_env(script.Args(env_id="FrozenLake-v1", env_kwargs=kwargs))
    outcomes = [outcome for row in env.unwrapped.P.values() for outcome in row.values()]
    assert env.unwrapped.nrow == 8 and {len(outcome) for outcome in outcomes} == {1}, "not slippery"
    assert {reward for outcome in outcomes for _, _, reward, _ in outcome} == {0, 2}
    run_dir = train(small(script, tmp_path, env_id="FrozenLake-v1", env_kwargs=kwargs))
    assert json.loads((run_dir / "args.json").read_text())["env_kwargs"] == list(kwargs)


@pytest.mark.parametrize("script", [dqn, tabular_q])
def test_playing_again_reads_the_run(tmp_path, script, call_main):
    """The folder alone is enough: environment, its arguments, sizes, bins. What is given wins; another environment, of
    the same shape as it may be, is refused by its name."""
    flags = {"env_id": "FrozenLake-v1", "env_kwargs": ("map_name=8x8",), "max_episode_steps": 9}
    run_dir = train(small(script, tmp_path, **flags, **({"save_model": True} if script is dqn else {})))
    final = json.loads((run_dir / "result.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        played, evaluate = [], script.evaluate

        def watched(env, q_values, args, episodes):
            played.append(args)
            return evaluate(env, q_values, args, episodes)

        patch.setattr(script, "evaluate", watched)
        code, out, err = call_main(script, f"--evaluate {run_dir}")
        assert (code, err) == (0, "") and f"greedy return {final['eval/episodic_return']:.1f}" in out
        assert {name: getattr(played[0], name) for name in flags} == flags
        code, out, _ = call_main(script, f"--evaluate {run_dir} --final-eval-episodes 5 --max-episode-steps 3")
        assert code == 0 and "over 5 episodes" in out and played[1].max_episode_steps == 3
    gym.register("Twin-v0", gym.spec("FrozenLake-v1").entry_point, kwargs={"map_name": "8x8"})
    try:
        code, _, err = call_main(script, f"--evaluate {run_dir} --env-id Twin-v0")
    finally:
        del gym.registry["Twin-v0"]
    assert code == 2 and "Twin-v0" in err and "on FrozenLake-v1" in err and err.count("\n") == 1
    (run_dir / "args.json").write_text('{"env_id": "Fro')
    code, _, err = call_main(script, f"--evaluate {run_dir}")
    assert code == 2 and "args.json is not what a run writes" in err and err.count("\n") == 1


def test_videos_go_to_wandb(tmp_path, monkeypatch):
    logged = []
    run = SimpleNamespace(
        log=logged.append, finish=lambda exit_code: None, define_metric=lambda name, step_metric: None
    )
    monkeypatch.setattr(wandb, "init", lambda **options: run)
    run_dir = train(small(dqn, tmp_path, track=True, capture_video=True))
    videos = {name: value for metrics in logged for name, value in metrics.items() if name.startswith("videos/")}
    assert (
        sorted(videos) == sorted(f"videos/{path.stem}" for path in (run_dir / "videos").iterdir()) and len(videos) == 2
    )
    assert all(isinstance(video, wandb.Video) for video in videos.values())
