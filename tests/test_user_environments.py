"""Environments of users: of some there is only one, some draw from the global generators, check
their actions, render long episodes or nothing, send arrays or NaN, or fail. And foreign ones (issue 42): they draw from
their spaces or make another task each time, close twice badly, pay vectors, have no time limit, or report success."""

import itertools
import json
import math
import random
import sys
import traceback
import warnings
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
import wandb
from conftest import result, scalars, train
from moviepy import VideoFileClip

import dqn
import dqn_atari
import fqi
import pqn
import qt_opt
import tabular_q


class User(gym.Env):
    """Episodes of so many steps with one of three observations; of two instances at a time the second one fails."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(2)
    there = False

    def __init__(self, length=5, alone=False, picture=None, arrays=False, fails=None, numbers=False, seeds=False,
                 render_mode=None):  # fmt: skip
        """fails: (number of a step, an exception to raise there, or (observation, reward) to send there)."""
        if alone and User.there:
            raise RuntimeError("the port is taken")
        if fails == "at once":
            raise TypeError("a mistake in the constructor")
        if numbers:
            self.observation_space = gym.spaces.Box(-1, 3, ())
        self.length, self.alone, self.picture, self.render_mode = length, alone, picture, render_mode
        self.arrays, self.fails, self.steps, self.seeds = arrays, fails, 0, seeds
        User.there = True

    def close(self):
        User.there = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.seeds and seed is not None:
            random.seed(seed)
            np.random.seed(seed)
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


class Told(gym.Env):
    """Episodes of `length` steps that pay `pays` each and show `shows`; the last step's info is `info`."""

    def __init__(self, length=5, pays=1.0, shows=0.0, draws="", info=None, closes=2, made=False, **others):
        self.observation_space, self.action_space = gym.spaces.Box(-1e5, 1e5, (1,)), gym.spaces.Discrete(2)
        self.length, self.pays, self.shows, self.draws, self.info = length, pays, shows, draws, info or {}
        self.closes, self.others, self.first = closes, others, None
        if made:  # the task is drawn when the environment is made
            self.pays, self.shows = np.random.normal(size=2)
            self.P = np.full((2, 2), self.pays)  # not Gymnasium's lists

    def observe(self):
        if self.draws == "observation_space":
            self.shows = self.pays = float(self.observation_space.sample()[0])
        elif self.draws == "action_space":
            self.shows = self.pays = float(self.action_space.sample())
        elif self.draws == "np_random":
            self.shows = self.np_random.uniform(0, 20_000)
        elif self.draws == "first reset":
            self.shows = self.pays = self.first.normal()
        return np.float32([self.shows])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.seed = 0, seed
        if self.first is None:  # a generator that no later reset seeds
            self.first = np.random.default_rng(seed)
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        ends = self.t == self.length
        info = self.info(self) if ends and callable(self.info) else {}
        return self.observe(), self.pays, ends, False, info

    def close(self):
        self.closes -= 1
        if self.closes == 0:
            raise RuntimeError("it was closed before")


SCRIPTS = [dqn, tabular_q, fqi, pqn]
FLAGS = {dqn: "--total-timesteps 400 --learning-starts 200 --batch-size 16", tabular_q: "--total-timesteps 400"}
FLAGS[fqi] = "--dataset-size 400 --iterations 2 --dataset data.npz"
FLAGS[pqn] = "--total-timesteps 400 --num-envs 1"


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


@pytest.fixture
def told():
    """told(**arguments) -> id of a Told with these arguments."""
    made = []

    def make(max_episode_steps=100, **arguments):
        made.append(f"Told{len(made)}-v0")
        options = {"kwargs": arguments, "disable_env_checker": True, "max_episode_steps": max_episode_steps}
        gym.register(made[-1], Told, **options)
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


@pytest.mark.bug(67)
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_global_generators_are_seeded_and_actions_are_ints(tmp_path, register, script):
    """Actions are the same Python ints in training and in evaluation: User looks at each."""
    env_id = register()
    runs = [scalars(train(small(script, tmp_path, env_id=env_id, seed=seed))) for seed in (3, 3, 4)]
    for run in runs:
        run.pop("charts/SPS", None)  # only the clock may differ
    assert runs[0] == runs[1] and runs[0] != runs[2]


@pytest.mark.bug(64)
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


@pytest.mark.bug(64)
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


@pytest.mark.bug(65)
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


@pytest.mark.bug(67)
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
MANY.append(gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Discrete(3)]))


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
    """As one number; the best is found: [1, 2], [1, 1], 1 and (1, 2), where the sum of 3, 2, 1 and 3 is the largest."""
    env_id = choices(space)
    env = script.make_env(script.Args(env_id=env_id))
    assert env.action_space.n == {0: 6, 1: 4, 2: 3, 3: 6}[MANY.index(space)]
    run_dir = train(small(script, tmp_path, env_id=env_id))
    result = json.loads((run_dir / "result.json").read_text())
    assert result["best_return"] == {0: 3, 1: 2, 2: 1, 3: 3}[MANY.index(space)]


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


@pytest.mark.bug(68)
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("sent", [(0, np.nan), (0, -np.inf), (np.nan, 1.0), (np.inf, 1.0)], ids=str)
def test_numbers_that_are_not_finite_end_the_run(tmp_path, register, script, call_main, sent):
    """Exit code 1 and one sentence: with both suspects, or, where numbers are checked at once, with the environment."""
    env_id = register(fails=(123, sent), numbers=not math.isfinite(sent[0]))
    code, _, err = call_main(script, f"--env-id {env_id} {FLAGS[script]}")
    last = err.splitlines()[-1]
    assert code == 1 and last.startswith("error: ") and "Traceback" not in err
    suspects = "--learning-rate is too high, or the environment sent a number that is not finite"
    assert suspects in last or (script in (tabular_q, fqi) and f"{env_id} sent " in last)


@pytest.mark.bug(69)
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
    assert code == 2 and "--env-kwargs takes NAME=VALUE, each NAME once, not ('length',)" in " ".join(err.split())
    assert "Traceback" not in err
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
    steps = [metrics["global_step"] for metrics in logged if any(name.startswith("videos/") for name in metrics)]
    assert steps == [200, 400], "each at the step of its evaluation"


# Foreign environments


@pytest.mark.parametrize("script", SCRIPTS)
def test_true_false_none_and_null_are_words_in_any_case(told, script):
    pairs = ("a=true", "b=False", "c=FALSE", "d=none", "e=Null", "f=no", "g=1")
    env = script.make_env(script.Args(env_id=told(), env_kwargs=pairs))
    expected = {"a": True, "b": False, "c": False, "d": None, "e": None, "f": "no", "g": 1}
    assert env.unwrapped.others == expected and env.unwrapped.others["a"] is True


@pytest.mark.parametrize("script", [dqn, tabular_q, pqn])
def test_arguments_of_the_environment_are_merged_by_name_when_it_is_played_again(tmp_path, told, call_main, script):
    """Stored are a = 1 and b = 2, and c = 3 for evaluations. What is given wins, and the rest stays."""
    flags = {"env_kwargs": ("a=1", "b=2"), "eval_env_kwargs": ("c=3",), "env_id": told(), "save_model": True}
    if script is tabular_q:
        del flags["save_model"]
    run_dir = train(small(script, tmp_path, **flags))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        evaluate = script.evaluate
        patch.setattr(script, "evaluate", lambda env, *rest: [seen.append(env), evaluate(env, *rest)][1])
        for given in ("", "--env-kwargs b=4 c=5", "--eval-env-kwargs d=6"):
            assert call_main(script, f"--evaluate {run_dir} {given}")[0] == 0
    stored = {"a": 1, "b": 2, "c": 3}
    assert [env.unwrapped.others for env in seen] == [stored, stored | {"b": 4, "c": 5}, stored | {"d": 6}]


@pytest.mark.parametrize("script", [dqn, tabular_q, pqn])
def test_some_arguments_reach_only_the_environment_of_the_evaluations(tmp_path, told, script):
    """Episodes of 5 steps in training and of 3 in evaluations, 1 a step; also where the only one is at the end."""
    for frequency in (200, 2_000):
        flags = {"eval_env_kwargs": ("length=3",), "eval_frequency": frequency, "total_timesteps": 1_000}
        run_dir = train(small(script, tmp_path / str(frequency), env_id=told(), **flags))
        assert {length for _, length in scalars(run_dir)["charts/episodic_length"]} == {5.0}
        assert result(run_dir)["returns"] == [3.0, 3.0]


@pytest.mark.parametrize("script", SCRIPTS)
def test_why_a_run_failed_is_in_its_folder(tmp_path, register, script):
    """error.txt has the sentence of a Stop, else the traceback; Ctrl-C is no failure."""
    ends = {"nan": (0, np.nan), "gone": OSError("the simulator is gone"), "Ctrl-C": KeyboardInterrupt()}
    texts = {}
    for name, end in ends.items():
        with pytest.raises((script.Stop, OSError, KeyboardInterrupt)) as error:
            train(small(script, tmp_path / name, env_id=register(fails=(123, end))))
        (run_dir,) = (tmp_path / name / "runs").iterdir()
        texts[name] = (run_dir / "error.txt").read_text() if (run_dir / "error.txt").exists() else ""
        if name == "nan":
            assert texts[name] == f"{error.value.args[0]}\n"
    assert texts["gone"].startswith("Traceback") and __file__ in texts["gone"] and texts["Ctrl-C"] == ""
    assert texts["gone"].endswith("OSError: the simulator is gone\n\n")
    assert not (train(small(script, tmp_path, env_id=register())) / "error.txt").exists()


DIFFERENT = "play different tasks"


@pytest.mark.parametrize("script", SCRIPTS)
def test_training_and_evaluation_on_different_tasks(tmp_path, told, recwarn, script):
    """FrozenLake draws a map in each constructor. What is drawn from NumPy's global generator is the same, however."""
    steps = {} if script is fqi else {"total_timesteps": 1_000}
    run_dir = train(small(script, tmp_path, env_id=told(made=True), **steps))
    assert not [warning for warning in recwarn if DIFFERENT in str(warning.message)]
    if script is not fqi:  # it logs no episodes of the collection
        charts = scalars(run_dir)["charts/episodic_return"]
        assert charts[-1][1] == pytest.approx(result(run_dir)["returns"][-1]), "five steps of the same reward"
    train(small(script, tmp_path, env_id="FrozenLake-v1", env_kwargs=("map_name=none",)))
    (warning,) = [str(warning.message) for warning in recwarn if DIFFERENT in str(warning.message)]
    assert "FrozenLake-v1 is not the same if made twice" in warning


def test_the_environments_that_train_pqn_are_compared_if_one_of_them_evaluates(tmp_path, recwarn):
    flags = {"env_id": "FrozenLake-v1", "env_kwargs": ("map_name=none",), "eval_frequency": 1_000}
    train(small(pqn, tmp_path, **flags))
    assert [warning for warning in recwarn if DIFFERENT in str(warning.message)]


@pytest.mark.parametrize("script", [dqn, tabular_q, pqn])
def test_other_spaces_in_evaluation_are_said_before_training(tmp_path, script):
    """The lake of 8 x 8 has 64 states, not 16."""
    args = small(script, tmp_path, env_id="FrozenLake-v1", eval_env_kwargs=("map_name=8x8",))
    with pytest.raises(script.Stop, match=r"FrozenLake-v1 has other spaces in evaluation .*64.* not .*16") as error:
        train(args)
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert error.value.args[1] == 2 and not scalars(run_dir)


@pytest.mark.parametrize("script", SCRIPTS)
def test_one_environment_is_one_task(tmp_path, told, recwarn, script):
    """Where it also evaluates, there is nothing to compare: a second episode from the same seed may be another one."""
    one = {"num_eval_envs": 1} if script is fqi else {"eval_frequency": 1_000}
    train(small(script, tmp_path, env_id=told(draws="first reset"), **one))
    assert not [warning for warning in recwarn if DIFFERENT in str(warning.message)]


STANDARD = "CartPole-v1 Acrobot-v1 MountainCar-v0 Pendulum-v1 LunarLander-v3"
TOY_TEXT = "FrozenLake-v1 Taxi-v4 CliffWalking-v1 Blackjack-v1"


@pytest.mark.parametrize(("script", "env_ids"), [(dqn, STANDARD), (dqn, TOY_TEXT), (tabular_q, TOY_TEXT)])
def test_standard_environments_are_the_same_if_made_twice(tmp_path, recwarn, script, env_ids):
    for env_id in env_ids.split():
        for kwargs in ((), ("map_name=8x8",)) if env_id.startswith("Frozen") else ((),):
            args = script.Args(env_id=env_id, env_kwargs=kwargs)
            script.warn_of_differences(script.make_env(args), script.make_env(args, tmp_path), args)
    assert not [str(warning.message) for warning in recwarn if DIFFERENT in str(warning.message)]


@pytest.mark.bug(63, 75)
@pytest.mark.parametrize("seeds", [False, True])
@pytest.mark.parametrize("script", [dqn, tabular_q, pqn])
def test_evaluations_leave_the_global_generators_as_they_were(tmp_path, register, script, seeds):
    """User draws from them, and some environments seed them in their reset: training is that of one evaluation."""
    flags = {"env_id": register(seeds=seeds), "total_timesteps": 1_000} | ({"num_steps": 100} if script is pqn else {})
    often, once = (train(small(script, tmp_path, eval_frequency=frequency, **flags)) for frequency in (200, 1_000))
    assert scalars(often)["charts/episodic_return"] == scalars(once)["charts/episodic_return"]
    assert len(scalars(often)["eval/episodic_return"]) == 5


@pytest.mark.bug(63, 75)
def test_evaluations_of_fqi_leave_the_global_generators_as_they_were(tmp_path, register):
    """Between two parts of the collection, both at random, are one evaluation or two."""
    data = []
    for frequency in (1, 2):
        path, flags = tmp_path / f"{frequency}.npz", {"collections": 2, "epsilon": 1.0, "eval_frequency": frequency}
        train(small(fqi, tmp_path, env_id=register(), dataset=path, **flags))
        data.append(np.load(path)["reward"].tolist())
    assert data[0] == data[1] and len(data[0]) == 400


@pytest.mark.bug(37)
@pytest.mark.parametrize("draws", ["action_space", "observation_space", "first reset"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_same_command_twice_is_the_same_run(tmp_path, told, script, draws):
    """Also where an environment draws from its spaces, or from a generator that only its first reset seeds."""
    env_id = told(draws=draws)
    runs = [scalars(train(small(script, tmp_path, env_id=env_id, seed=seed))) for seed in (3, 3, 4)]
    for run in runs:
        run.pop("charts/SPS", None)  # only the clock may differ
    assert runs[0] == runs[1] and runs[0] != runs[2]


def test_the_environments_of_pqn_draw_different_numbers_from_their_spaces(tmp_path, told, monkeypatch):
    played, step = {}, Told.step

    def watched(self, action):
        played.setdefault(id(self), []).append(self.shows)
        return step(self, action)

    monkeypatch.setattr(Told, "step", watched)
    monkeypatch.setattr(pqn, "evaluate", lambda *_: ({"eval/episodic_return": 0.0}, [0.0]))
    monkeypatch.setattr(pqn, "summary", lambda *_: "")
    train(small(pqn, tmp_path, env_id=told(draws="observation_space"), num_envs=4, num_steps=25))
    first, *others = (numbers[-100:] for numbers in played.values())  # without those of warn_of_differences
    assert len(others) == 4 and len({tuple(numbers) for numbers in (first, *others)}) == 5


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_environment_is_closed_once(tmp_path, told, recwarn, script):
    """Also where one both trains and evaluates. An error in the first close() is a warning after a complete run."""
    for one in ({}, {"num_eval_envs": 1} if script is fqi else {"eval_frequency": 1_000}):
        assert (train(small(script, tmp_path, env_id=told(), **one)) / "result.json").exists()
    assert not [warning for warning in recwarn if "close()" in str(warning.message)]
    assert (train(small(script, tmp_path, env_id=told(closes=1), **one)) / "result.json").exists()
    (said,) = {str(warning.message) for warning in recwarn if "close() of" in str(warning.message)}
    assert "it was closed before" in said


def test_an_exit_in_close_hides_no_error():
    """Else a run that failed would end with exit code 0."""

    class Quits(gym.Env):
        def close(self):
            sys.exit(0)

    with pytest.raises(ValueError, match="the fault"), dqn.closed_at_end(Quits()):
        raise ValueError("the fault")


@pytest.mark.parametrize("script", [*SCRIPTS, qt_opt])
def test_bounds_of_the_largest_float_are_none(tmp_path, choices, call_main, script):
    """They would send inf and nan to the environment."""
    code, _, err = call_main(script, f"--env-id {choices(gym.spaces.Box(-3.4e38, 3.4e38, (1,)))}")
    assert code == 2 and err.startswith("error: cannot make Choices-v0: its actions are Box(")
    assert "supported are" in err and err.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_vector_of_rewards_is_named_with_its_shape(told, call_main, script):
    code, _, err = call_main(script, f"--env-id {told(pays=np.ones(2))} {FLAGS[script]}")
    assert code == 2 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: the reward of Told0-v0 has shape (2,); a wrapper must make it one")


GRIDS = {  # space, the actions that 3 bins make of it: the middles of three parts of each range, and whole numbers once
    "whole numbers": (gym.spaces.Box(-2, 2, (2,), np.int64), [[x, y] for x in (-1, 0, 1) for y in (-1, 0, 1)]),
    "a small range": (gym.spaces.Box(0, 1, (2,), np.uint8), [[0, 0], [0, 1], [1, 0], [1, 1]]),
    "a byte": (gym.spaces.Box(-120, 120, (), np.int8), [-80, 0, 80]),
    "a float": (gym.spaces.Box(-3, 3, ()), [-2, 0, 2]),
    "an array of one": (gym.spaces.Box(-3, 3, (1,), np.float64), [[-2], [0], [2]]),
    "a matrix": (gym.spaces.Box(-3, 3, (1, 1)), [[[-2]], [[0]], [[2]]]),
    "a start": (gym.spaces.MultiDiscrete([2, 2], start=[0, 5]), [[0, 5], [0, 6], [1, 5], [1, 6]]),
    "a tuple": (gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Discrete(2, start=-1)]),
                [[0, -1], [0, 0], [1, -1], [1, 0]]),
}  # fmt: skip


@pytest.mark.bug(66)
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("name", GRIDS)
def test_an_environment_gets_actions_in_its_own_shape_and_type(choices, monkeypatch, script, name):
    (space, expected), sent = GRIDS[name], []
    monkeypatch.setattr(Choices, "step", lambda self, action: [sent.append(action), (1, 0.0, True, False, {})][1])
    env = script.make_env(script.Args(env_id=choices(space), action_bins=3))
    for action in range(int(env.action_space.n)):
        env.reset()
        env.step(action)
    assert np.array(sent) == pytest.approx(np.array(expected))
    for action in sent:
        if isinstance(space, gym.spaces.Tuple):
            assert type(action) is tuple and action in space
        else:
            assert (np.shape(action), action.dtype) == (space.shape, space.dtype) and space.contains(np.asarray(action))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_qt_opt_sends_actions_in_the_environments_shape(choices, monkeypatch, shape):
    """Half of the way from the middle of [-3, 3] to its upper bound is 1.5."""
    sent = []
    monkeypatch.setattr(Choices, "step", lambda self, action: [sent.append(action), (1, 0.0, True, False, {})][1])
    env = qt_opt.make_env(qt_opt.Args(env_id=choices(gym.spaces.Box(-3, 3, shape))))
    env.reset()
    env.step(np.float32([0.5]))
    assert (np.shape(sent[0]), sent[0].dtype, float(np.ravel(sent[0])[0])) == (shape, np.float32, 1.5)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_environment_without_a_time_limit(tmp_path, told, script):
    """One warning on the terminal, with the limit that it gets; none if one is given."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # as a terminal shows them
        train(small(script, tmp_path, env_id=told(max_episode_steps=None)))
        said = [str(warning.message) for warning in caught if "no time limit" in str(warning.message)]
        assert len(said) == 1 and "episodes end after 10,000 steps" in said[0]
        train(small(script, tmp_path, env_id=told(max_episode_steps=None), max_episode_steps=7))
        train(small(script, tmp_path, env_id=told()))
    assert len([warning for warning in caught if "no time limit" in str(warning.message)]) == 1


def reports(env):
    """Success in episodes of an even seed, and of none; the things below are no numbers."""
    success = env.seed is None or env.seed % 2 == 0
    numbers = {"is_success": success, "distance": np.float32(2.5), "steps": np.int64(env.t)}
    return numbers | {"text": "x", "array": np.ones(2), "nan": math.nan, "none": None}


@pytest.mark.parametrize("script", SCRIPTS)
def test_numbers_of_info_at_an_episodes_end(tmp_path, told, script):
    """The evaluation has four episodes with the seeds n, n + 1, n + 2 and n + 3: two are even, two a success."""
    steps = {} if script is fqi else {"total_timesteps": 1_000}
    run_dir = train(small(script, tmp_path, env_id=told(info=reports), seed=2, final_eval_episodes=4, **steps))
    means = {name: x for name, x in result(run_dir).items() if name.startswith("eval/info/")}
    assert means == {"eval/info/is_success": 0.5, "eval/info/distance": 2.5, "eval/info/steps": 5.0}
    charts = {name: rows[-1][1] for name, rows in scalars(run_dir).items() if name.startswith("charts/info/")}
    if script is not fqi:  # it logs no episodes of the collection
        assert charts == {"charts/info/is_success": 1.0, "charts/info/distance": 2.5, "charts/info/steps": 5.0}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_number_that_only_some_episodes_report(tmp_path, told, script):
    """Half of them report 3, so 3 is the mean of those that have it, also where two end in the same step."""
    env_id = told(info=lambda env: {"bonus": 3.0} if env.np_random.random() < 0.5 else {})
    steps = {} if script is fqi else {"total_timesteps": 1_000}
    run_dir = train(small(script, tmp_path, env_id=env_id, final_eval_episodes=20, **steps))
    assert result(run_dir)["eval/info/bonus"] == 3.0
    assert {mean for _, mean in scalars(run_dir).get("charts/info/bonus", [])} == (set() if script is fqi else {3.0})


def test_the_environments_of_pqn_send_infos_of_other_types_and_at_resets(tmp_path, told, monkeypatch):
    """Four episodes end in the same step and send an int, a float, an int of 30 digits and a text."""
    kinds, others, reset = itertools.cycle([0, 0.5, 10**30, "late"]), itertools.cycle(["x", 1]), Told.reset
    monkeypatch.setattr(pqn, "warn_of_differences", lambda *_: None)  # it makes steps, too
    monkeypatch.setattr(Told, "reset", lambda self, **kwargs: (reset(self, **kwargs)[0], {"seen": next(others)}))
    run_dir = train(
        small(
            pqn,
            tmp_path,
            env_id=told(info=lambda _: {"value": next(kinds)}),
            num_envs=4,
            num_steps=5,
            eval_frequency=500,
        )
    )
    (_, mean), *_ = scalars(run_dir)["charts/info/value"]
    assert mean == pytest.approx((0 + 0.5 + 1e30) / 3)


def test_numbers_of_info_that_no_float_can_hold():
    info = {"big": 10**400, "nan": math.nan, "inf": -math.inf, "byte": np.int8(-128), "yes": np.True_, "text": "3"}
    assert dqn.info_numbers(info) == {"info/byte": -128.0, "info/yes": 1.0}


@pytest.mark.filterwarnings("error")
def test_numbers_of_half_the_size_are_taken_without_a_warning():
    assert dqn.info_numbers({"x": np.float32(2.5), "y": np.float16(0.5)}) == {"info/x": 2.5, "info/y": 0.5}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_look_at_a_picture_resets_with_the_seed(tmp_path, register, script, monkeypatch):
    """Else an environment whose first reset alone seeds its generator would never repeat a run."""
    seeds, reset = [], User.reset

    def watched(self, *, seed=None, options=None):
        seeds.append(seed)
        return reset(self, seed=seed)

    monkeypatch.setattr(User, "reset", watched)
    picture = np.zeros((16, 16, 3), np.uint8)
    script.make_env(small(script, tmp_path, env_id=register(picture=picture), seed=7, capture_video=True))
    assert seeds == [7]


@pytest.mark.parametrize(("shows", "warned"), [(100.0, 0), (-101.0, 1), (20_000.0, 1)])
def test_observations_in_the_hundreds_and_thousands(told, shows, warned):
    """After 1,000 observations; however many follow, one warning."""
    env = dqn.make_env(dqn.Args(env_id=told(length=3_000, shows=shows, max_episode_steps=3_000)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env.reset()
        for step in range(2, 2_501):
            env.step(0)
            said = [str(w.message) for w in caught if "gymnasium.wrappers.NormalizeObservation" in str(w.message)]
            assert len(said) == (warned if step >= 1_000 else 0)


@pytest.mark.parametrize("script", [dqn, pqn])
def test_large_observations_are_said_once(tmp_path, told, script):
    """Not by each of the two or three environments that send 1,000 of them, all different."""
    flags = {"total_timesteps": 2_400, "eval_frequency": 2_400, "eval_episodes": 200}
    flags |= {"learning_starts": 2_300} if script is dqn else {"num_steps": 600}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # as a terminal shows them
        train(small(script, tmp_path, env_id=told(draws="np_random"), **flags))
    assert len([w for w in caught if "NormalizeObservation" in str(w.message)]) == 1


def test_nothing_is_said_of_cartpoles_observations(recwarn):
    env = dqn.make_env(dqn.Args())
    env.reset(seed=1)
    for step in range(1_100):
        _, _, terminated, truncated, _ = env.step(step % 2)
        if terminated or truncated:
            env.reset()
    assert len(recwarn) == 0


@pytest.mark.parametrize("script", [dqn, tabular_q, pqn])
def test_a_run_ends_at_the_evaluation_that_reaches_a_return(tmp_path, told, script):
    """Five steps of 1 return 5."""
    for aim, step in ((4.9, 200), (5.0, 200), (5.1, 400), (None, 400)):
        run_dir = train(small(script, tmp_path / str(aim), env_id=told(), stop_at_return=aim))
        assert (result(run_dir)["global_step"], result(run_dir)["best_step"]) == (step, 200)


def test_one_step_episodes_are_logged_every_100_steps(tmp_path, told, monkeypatch):
    """The k-th episode pays k: the means are those of 1 to 100, 101 to 200, ..."""
    monkeypatch.setattr(dqn, "warn_of_differences", lambda *_: None)  # it makes steps, too
    pays = itertools.count(1)
    monkeypatch.setattr(Told, "step", lambda self, action: (self.observe(), float(next(pays)), True, False, {}))
    logged = scalars(train(small(dqn, tmp_path, env_id=told(), eval_frequency=400)))
    assert logged["charts/episodic_return"] == [(100 * k, 100 * k - 49.5) for k in range(1, 5)]
    assert logged["charts/episodic_length"] == [(100 * k, 1.0) for k in range(1, 5)]
