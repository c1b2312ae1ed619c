"""fqi.py: targets by hand, exactness where it is possible, data sets good and bad, and whole runs."""

import copy
import os
import subprocess
import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from conftest import ROOT, played, result, scalars, train
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from sklearn.neighbors import KNeighborsRegressor

import fqi
from fqi import Dataset

REGRESSORS = "linear polynomial kernel k_neighbors decision_tree extra_trees gradient_boosting mlp".split()


@pytest.fixture
def args(tmp_path):
    """args(**flags) -> Args of 4 iterations on 300 transitions, with two evaluations."""

    def make(**flags):
        defaults = {"dataset_size": 300, "iterations": 4, "eval_frequency": 2, "eval_episodes": 2}
        defaults |= {"final_eval_episodes": 2}
        return fqi.Args(**defaults | {"runs_dir": tmp_path / "runs"} | flags)

    return make


def random_data(size=300, num_actions=2, obs_dim=4, seed=0):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, size, obs_dim)).astype(np.float32)
    return Dataset(obs, rng.integers(num_actions, size=size), rng.normal(size=size), next_obs, rng.random(size) < 0.1)


# The algorithm


def test_target_is_reward_plus_discounted_maximum():
    next_q = np.array([[2.0, 5.0], [-3.0, -7.0], [np.nan, np.inf]])
    y = fqi.td_target(next_q, np.array([1.0, 10.0, 4.0]), np.array([False, False, True]), gamma=0.5)
    assert y.tolist() == [1 + 0.5 * 5, 10 + 0.5 * -3, 4]


@pytest.mark.bug(9, 10, 11, 18, 28)
def test_first_targets_are_the_rewards_and_truncation_bootstraps(args, monkeypatch):
    """Counter pays 1 to 5 in episodes that end alternately by termination and by truncation."""
    targets, fit = [], fqi.QFunction.fit

    def record(self, data, y):
        targets.append((data, y))
        fit(self, data, y)

    monkeypatch.setattr(fqi.QFunction, "fit", record)
    train(args(env_id="Counter-v0", dataset_size=100, regressor="decision_tree", gamma=0.5))
    data, first = targets[0]
    assert first.tolist() == data.reward.tolist() == [1, 2, 3, 4, 5] * 20
    assert data.terminated.tolist() == ([False] * 4 + [True] + [False] * 5) * 10
    assert data.obs[:10, 0].tolist() == [0, 1, 2, 3, 4, 1000, 1001, 1002, 1003, 1004]
    assert data.next_obs[9, 0] == 1005, "the final observation, not the reset's"
    _, second = targets[1]
    assert (second[data.terminated] == 5).all() and (second[9::10] > 5).all()


@pytest.mark.parametrize("coding", ["per_action", "one_hot"])
def test_actions_are_not_ordinal(coding):
    """Actions 0, 1 and 2 have the values 1, 5 and 2. They lie on no straight line, and a linear model learns them."""
    data = random_data(600, num_actions=3)
    y = np.array([1.0, 5.0, 2.0])[data.action]
    q = fqi.QFunction(fqi.make_regressor("linear", 0), 3, coding)
    q.fit(data, y)
    assert q(data.next_obs[:10]) == pytest.approx(np.tile([1.0, 5.0, 2.0], (10, 1)), abs=1e-5)


def test_an_action_that_was_never_tried_is_never_chosen():
    data = random_data()._replace(action=np.zeros(300, np.int64), reward=np.full(300, -5.0))
    q = fqi.QFunction(fqi.make_regressor("linear", 0), 2, "per_action")
    q.fit(data, data.reward)
    assert (q(data.obs).argmax(axis=1) == 0).all()


@pytest.mark.parametrize("coding", ["per_action", "one_hot"])
@pytest.mark.parametrize("name", REGRESSORS)
def test_every_regressor_learns_a_function(name, coding):
    """y = 3 s_0, and 2 more for one of the actions: two thirds and more of the variance are explained."""
    data = random_data(2_000)
    y = 3 * data.obs[:, 0] + 2.0 * (data.action == 0)
    q = fqi.QFunction(fqi.make_regressor(name, 0), 2, coding)
    q.fit(data, y)
    error = q(data.obs)[np.arange(2_000), data.action] - y
    assert error.var() < 0.35 * y.var()


def test_neighbours_are_those_of_scikit_learn():
    """The 30 nearest, or all of fewer."""
    rng = np.random.default_rng(0)
    x, asked, y = rng.normal(size=(3_000, 4)), rng.normal(size=(2_000, 4)), rng.normal(size=(2, 3_000))
    mine = fqi.make_regressor("k_neighbors", 0)
    for outputs in y:
        mine.fit(x, outputs)
        theirs = KNeighborsRegressor(30).fit(x, outputs)
        assert mine.predict(asked) == pytest.approx(theirs.predict(asked))
        assert mine.predict(asked[:5]) == pytest.approx(theirs.predict(asked[:5]))
    mine.fit(x[:3], np.array([1.0, 2.0, 6.0]))
    assert mine.predict(asked[:2]).tolist() == [3.0, 3.0]


@pytest.mark.parametrize("name", ["k_neighbors", "kernel"])
def test_a_copy_does_not_change_with_further_fitting(name):
    data = random_data(1_500)
    q = fqi.QFunction(fqi.make_regressor(name, 0), 2, "per_action")
    q.fit(data, data.reward)
    kept, before = copy.deepcopy(q), q(data.obs)
    q.fit(data, data.reward + 7)
    assert kept(data.obs).tolist() == before.tolist()
    assert (q(data.obs) > before + 1).mean() > 0.9


def test_kernel_regression_is_zero_far_from_the_data():
    """So the greedy policy stays near the data, where Q is near the targets."""
    data = random_data(500)
    q = fqi.QFunction(fqi.make_regressor("kernel", 0), 2, "per_action")
    q.fit(data, np.full(500, 7.0))
    assert q(data.obs).mean() == pytest.approx(7, rel=0.1)
    assert np.abs(q(data.obs + 1_000)).max() < 1e-6


def test_linear_greedy_action_does_not_depend_on_the_state():
    """From [s, one-hot a] a linear model makes Q(s, a) = w s + v_a: the same action is the best in every state."""
    data = random_data(500)
    q = fqi.QFunction(fqi.make_regressor("linear", 0), 2, "one_hot")
    q.fit(data, data.reward)
    differences = np.diff(q(data.obs), axis=1)
    assert differences == pytest.approx(np.full((500, 1), differences[0, 0]), abs=1e-5)


# Exactness


def test_linear_on_one_hot_states_is_exact_q_iteration_on_the_empirical_model(args, spy):
    """FrozenLake: with a column for each state, least squares are the means over each (s, a), and so is the empirical
    model. 25 iterations of either are the same to 1e-6 for every pair that the data has."""
    kept, collected = spy("QFunction", fqi), spy("collect", fqi)
    train(args(env_id="FrozenLake-v1", regressor="linear", dataset_size=20_000, iterations=25, eval_frequency=25))
    _, data = collected[0]

    state, next_state = data.obs.argmax(axis=1), data.next_obs.argmax(axis=1)
    count, reward, transition = np.zeros((16, 4)), np.zeros((16, 4)), np.zeros((16, 4, 16))
    np.add.at(count, (state, data.action), 1)
    np.add.at(reward, (state, data.action), data.reward)
    np.add.at(transition, (state, data.action, next_state), ~data.terminated)
    seen = count > 0
    assert seen.any(axis=1).sum() == 11 and (seen.sum(axis=1) % 4 == 0).all(), (
        "every action of every state that does not end"
    )
    reward[seen] /= count[seen]
    transition[seen] /= count[seen][:, None]
    exact = np.zeros((16, 4))
    for _ in range(25):
        exact = reward + 0.99 * transition @ exact.max(axis=1)
    _, q_values = kept[0]
    learned = q_values(np.eye(16, dtype=np.float32))
    assert exact.max() > 0.2
    assert np.abs(learned - exact)[seen].max() < 1e-6


# Data sets


def test_a_data_set_is_saved_and_loaded(args, tmp_path):
    path = str(tmp_path / "data.npz")
    first = train(args(dataset=path))
    with np.load(path) as file:
        assert set(file) == set(Dataset._fields) and len(file["action"]) == 300
    second = train(args(dataset=path, dataset_size=7, seed=1))
    assert result(second)["global_step"] == 300, "those of the file, not 7 new ones"
    for name in ("eval/episodic_return", "losses/td_loss"):
        assert scalars(first)[name] == scalars(second)[name]


def good():
    return {name: array.copy() for name, array in random_data(20)._asdict().items()}


def changed(**arrays):
    return {name: array for name, array in (good() | arrays).items() if array is not None}


BAD = {
    "missing arrays": (changed(reward=None, terminated=None), "lacks reward, terminated"),
    "wrong width": (changed(obs=np.zeros((20, 3))), "obs in {} has the shape (20, 3), not (20, 4)"),
    "wrong length": (changed(reward=np.zeros(19)), "reward in {} has the shape (19,), not (20,)"),
    "NaN": (changed(next_obs=np.full((20, 4), np.nan)), "next_obs in {} holds something that is no finite number"),
    "text": (changed(reward=np.array(["a"] * 20)), "reward in {} holds something that is no finite number"),
    "action too large": (changed(action=np.full(20, 2)), "action in {} must be whole numbers from 0 to 1"),
    "negative action": (changed(action=np.full(20, -1)), "action in {} must be whole numbers from 0 to 1"),
    "half an action": (changed(action=np.full(20, 0.5)), "action in {} must be whole numbers from 0 to 1"),
    "empty": ({name: array[:0] for name, array in good().items()}, "{} is empty"),
    "scalars": ({name: np.float64(0) for name in good()}, "has the shape ()"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_sets(args, tmp_path, name):
    arrays, said = BAD[name]
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(fqi.Stop) as error:
        fqi.train(args(dataset=str(path)))
    sentence, code = error.value.args
    assert said.format(path) in sentence and "\n" not in sentence and code == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 cut off"])
def test_files_that_are_no_data_set(args, tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(fqi.Stop, match="is not a data set"):
        fqi.train(args(dataset=str(tmp_path / "bad.npz")))
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(fqi.Stop):
        fqi.train(args(dataset=str(tmp_path / "array.npy")))


def test_minari_is_named_where_it_is_missing(args, monkeypatch):
    monkeypatch.setattr(fqi, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install minari"):
        args(dataset="minari:D4RL/pen/human-v2")


def test_scikit_learn_is_named_where_it_is_missing(tmp_path):
    """One line with the extra and exit code 2."""
    (tmp_path / "sklearn.py").write_text("raise ModuleNotFoundError(\"No module named 'sklearn'\")")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", "import fqi"], cwd=ROOT, env=env, capture_output=True, text=True)
    said = "error: No module named 'sklearn'; fqi.py needs scikit-learn: pip install -e \".[fqi]\"\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.fixture
def minari(monkeypatch):
    """A stand-in for Minari that knows one data set, "two": an episode that ends and one that is cut off."""
    obs = np.arange(20.0).reshape(5, 4)
    ended = {"observations": obs[:3], "actions": [0, 1], "rewards": [1.0, 2.0], "terminations": [False, True]}
    cut_off = {"observations": obs[3:], "actions": [1], "rewards": [3.0], "terminations": [False]}
    episodes = [SimpleNamespace(**{k: np.array(v) for k, v in episode.items()}) for episode in (ended, cut_off)]

    def load(name: str):
        if name != "two":
            raise FileNotFoundError(f"Dataset {name} not found locally")
        return SimpleNamespace(iterate_episodes=lambda: iter(episodes))

    monkeypatch.setitem(sys.modules, "minari", SimpleNamespace(load_dataset=load))
    return episodes


@pytest.mark.bug(11)
def test_minari_episodes_become_transitions(args, minari):
    """Observations 0, 1, 2 and 3, 4 of the episodes make 0 to 1, 1 to 2 and 3 to 4, and none from 2 to 3."""
    data = fqi.load_dataset("minari:two", fqi.make_env(args()))
    assert (data.obs[:, 0] / 4).tolist() == [0, 1, 3] and (data.next_obs[:, 0] / 4).tolist() == [1, 2, 4]
    assert data.action.tolist() == [0, 1, 1] and data.reward.tolist() == [1, 2, 3]
    assert data.terminated.tolist() == [False, True, False] and data.obs.dtype == np.float32


def test_minari_data_that_does_not_fit(args, minari):
    with pytest.raises(fqi.Stop, match="minari download other"):
        fqi.load_dataset("minari:other", fqi.make_env(args()))
    with pytest.raises(fqi.Stop, match=r"shape \(3, 4\), not \(3, 6\)"):
        fqi.load_dataset("minari:two", fqi.make_env(args(env_id="Acrobot-v1")))
    with pytest.raises(fqi.Stop, match="cannot read two for FrozenLake-v1"):
        fqi.load_dataset("minari:two", fqi.make_env(args(env_id="FrozenLake-v1")))
    minari[0].actions = np.array([0.5, 1.0])
    with pytest.raises(fqi.Stop, match=r"holds the action 0.5, none of the 2 actions of CartPole-v1"):
        fqi.load_dataset("minari:two", fqi.make_env(args()))


@pytest.mark.bug(41)
def test_minari_pixels_are_scaled_as_by_make_env(args, minari, register):
    """uint8 frames of 0, 51 and 255 are 0, 0.2 and 1, for the network as for the regressor."""
    frames = np.array([0, 51, 255], np.uint8)
    env = fqi.make_env(args(env_id=register(Box(0, 255, (2, 2), np.uint8), Discrete(2), obs=np.full((2, 2), 51))))
    minari[0].observations = np.tile(frames[:, None, None], (1, 2, 2))
    del minari[1]
    data = fqi.load_dataset("minari:two", env)
    assert data.obs.shape == (2, 4) and data.obs[:, 0].tolist() == [0.0, np.float32(0.2)]
    assert data.next_obs[:, 3].tolist() == [np.float32(0.2), 1.0]
    obs, _ = env.reset(seed=0)
    assert obs.tolist() == data.next_obs[0].tolist()


PIXELS, NUMBERED = Box(0, 255, (2, 3), np.uint8), Discrete(3, start=1)
ACTIONS = {  # space, its actions in the order of their numbers; 3 bins of [-3, 3] have their middles at -2, 0 and 2
    "from 1": (NUMBERED, [1, 2, 3]),
    "MultiDiscrete": (MultiDiscrete([2, 2]), np.array([[0, 0], [0, 1], [1, 0], [1, 1]])),
    "MultiBinary": (MultiBinary(2), np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int8)),
    "Tuple": (Tuple([Discrete(2), NUMBERED]), [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]),
    "Box": (Box(-3, 3, (1,)), np.array([[-2], [0], [2]], np.float32)),
    "Box of no shape": (Box(-3, 3, ()), np.array([-2, 0, 2], np.float32)),
}
OBSERVATIONS = {  # space, the kind of actions with which it is tried
    "Box": (Box(-1, 1, (2,)), "from 1"),
    "pixels": (PIXELS, "MultiDiscrete"),
    "Discrete": (NUMBERED, "MultiBinary"),
    "MultiBinary": (MultiBinary((1, 3)), "Tuple"),
    "MultiDiscrete": (MultiDiscrete([2, 3]), "Box"),
    "Dict": (Dict(sees=PIXELS, at=NUMBERED, more=Dict(far=Box(-9, 9, (1,)))), "Box of no shape"),
    "Tuple": (Tuple([PIXELS, Box(-1, 1, ()), Dict(at=NUMBERED)]), "Tuple"),
}


class Recorded(gym.Env):
    """Episodes of 4 steps with observations that are drawn from their space, and the actions that go with it."""

    def __init__(self, name):
        self.observation_space, actions = OBSERVATIONS[name]
        self.action_space = ACTIONS[actions][0]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), float(self.t), self.t == 4, False, {}


def stacked(values):
    """As Minari keeps an episode: arrays, or dicts and tuples of arrays."""
    if isinstance(values[0], dict):
        return {key: stacked([value[key] for value in values]) for key in values[0]}
    return tuple(map(stacked, zip(*values, strict=True))) if isinstance(values[0], tuple) else np.array(values)


class Collector(gym.Wrapper):
    """A stand-in for minari.DataCollector."""

    made: dict = {}  # noqa: RUF012

    def __init__(self, env):
        super().__init__(env)
        self.episodes = []

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        self.episodes.append({"observations": [obs], "actions": [], "rewards": [], "terminations": []})
        return obs, info

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        row = {"observations": obs, "actions": action, "rewards": reward, "terminations": terminated}
        for name, value in row.items():
            self.episodes[-1][name].append(value)
        return obs, reward, terminated, truncated, info

    def create_dataset(self, dataset_id, **_):
        episodes = [SimpleNamespace(**{k: stacked(v) for k, v in one.items()}) for one in self.episodes]
        self.made[dataset_id] = SimpleNamespace(iterate_episodes=lambda: iter(episodes))


@pytest.fixture(params=["Minari", "stand-in"])
def record(request, monkeypatch, tmp_path):
    """record(name, actions) plays two episodes of 4 steps of Recorded, with seeds 1 and 2, into own/data-v0."""
    if request.param == "Minari":
        pytest.importorskip("jax", reason="Minari records with it")
        collector = pytest.importorskip("minari").DataCollector
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    else:
        collector = Collector
        monkeypatch.setitem(sys.modules, "minari", SimpleNamespace(load_dataset=Collector.made.__getitem__))
    gym.register("Recorded-v0", f"{__name__}:Recorded", max_episode_steps=100, disable_env_checker=True)

    def play(name, actions):
        env, left = collector(gym.make("Recorded-v0", name=name)), iter(actions)
        for seed in (1, 2):
            env.reset(seed=seed)
            for _ in range(4):
                env.step(next(left))
        env.create_dataset("own/data-v0", algorithm_name="by hand", code_permalink="none", author="a", author_email="b")

    yield play
    del gym.registry["Recorded-v0"]


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_recorded_data_are_what_the_environment_sends_and_gets(args, record, name):
    """Actions 0, 1, 2, ... in turns; their vectors are those of the same episodes in the environment of make_env."""
    actions = ACTIONS[OBSERVATIONS[name][1]][1]
    numbers = [step % len(actions) for step in range(8)]
    record(name, [actions[number] for number in numbers])
    env = fqi.make_env(args(env_id="Recorded-v0", env_kwargs=(f"name={name}",), action_bins=3))
    data = fqi.load_dataset("minari:own/data-v0", env)
    assert data.action.tolist() == numbers and env.action_space.n == len(actions)
    assert data.reward.tolist() == [1, 2, 3, 4] * 2 and data.terminated.tolist() == [False, False, False, True] * 2
    obs = None
    for step, number in enumerate(numbers):
        if step % 4 == 0:
            obs, _ = env.reset(seed=1 + step // 4)
        assert data.obs[step].tolist() == obs.tolist() and np.abs(obs).max() <= 9, "pixels are divided by 255"
        obs, *_ = env.step(number)
        assert data.next_obs[step].tolist() == obs.tolist()


def test_recorded_actions_that_are_none_of_the_environments(args, record):
    """0.5 is not one of -2, 0 and 2."""
    record("MultiDiscrete", [np.float32([0.5])] * 8)
    env = fqi.make_env(args(env_id="Recorded-v0", env_kwargs=("name=MultiDiscrete",), action_bins=3))
    said = r"^\('minari:own/data-v0 holds the action \[0.5\], none of the 3 actions of Recorded-v0', 2\)$"
    with pytest.raises(fqi.Stop, match=said):
        fqi.load_dataset("minari:own/data-v0", env)


# Whole runs


@pytest.mark.bug(40)
@pytest.mark.parametrize("regressor", REGRESSORS)
def test_a_run_repeats_itself(args, regressor):
    runs = [train(args(regressor=regressor, seed=7)) for _ in range(2)]
    first, second = (scalars(run_dir) for run_dir in runs)
    assert first == second
    assert [step for step, _ in first["eval/episodic_return"]] == [2, 4]
    expected = "losses/td_loss losses/bellman_residual losses/q_values eval/episodic_return eval/episodic_return_std "
    expected += "eval/q_predicted eval/q_realised eval/last_return eval/best_return"
    assert set(first) == set(expected.split())
    assert result(runs[0])["updates"] == 4
    other = scalars(train(args(regressor=regressor, seed=8)))
    assert other["losses/td_loss"] != first["losses/td_loss"]


def test_later_collections_follow_what_was_learned(args, monkeypatch):
    """Three parts of 100: the first at random, the others by the best Q so far with ε = 0.1."""
    calls, collect = [], fqi.collect

    def record(env, size, epsilon, q_values, rng):
        calls.append((size, epsilon, q_values is None))
        return collect(env, size, epsilon, q_values, rng)

    monkeypatch.setattr(fqi, "collect", record)
    run_dir = train(args(collections=3, iterations=6, epsilon=0.1))
    assert calls == [(100, 0.1, True), (100, 0.1, False), (100, 0.1, False)]
    final = result(run_dir)
    assert final["global_step"] == 300 and final["updates"] == 6 and 0 < final["seconds"] < 60
    assert [step for step, _ in scalars(run_dir)["eval/last_return"]] == [6], "logged with the last iteration"


@pytest.mark.parametrize(("epsilon", "best", "within"), [(0.0, 400, 0), (0.5, 300, 4 * 8.7), (1.0, 200, 4 * 10)])
def test_a_collection_is_greedy_but_for_epsilon(args, epsilon, best, within):
    """Action 1 of two looks best: of 400 steps it is taken in 1 - ε and in half of ε, give or take four σ."""
    env = fqi.make_env(args())
    data = fqi.collect(env, 400, epsilon, lambda obs: np.array([[0.0, 1.0]]), np.random.default_rng(1))
    assert data.action.sum() == pytest.approx(best, abs=within)
    assert len(fqi.collect(env, 400, epsilon, None, np.random.default_rng(1)).action) == 400


def test_best_is_chosen_on_other_episodes_than_it_is_reported_on(args, monkeypatch):
    seeds, evaluate = [], fqi.evaluate

    def fake(envs, q_values, args, episodes, seed):
        seeds.append(seed)
        metrics, returns = evaluate(envs, q_values, args, episodes, seed)
        return metrics | {"eval/episodic_return": [1.0, 9.0, 3.0, 4.0, 5.0][len(seeds) - 1]}, returns

    monkeypatch.setattr(fqi, "evaluate", fake)
    final = result(train(args(iterations=6)))
    assert final["best_iteration"] == 4, "evaluations at 2, 4 and 6 gave 1, 9 and 3"
    assert (final["eval/episodic_return"], final["best_return"]) == (4.0, 5.0), "and not 3 and 9"
    assert len(set(seeds[:3])) == 1 and len(set(seeds[3:])) == 1 and abs(seeds[3] - seeds[0]) >= 1_000


@pytest.mark.bug(70)
def test_episodes_of_evaluations_are_those_of_the_runs_seed(args, monkeypatch):
    """A thousand numbers for each --seed, counted up for choosing the best iteration and down for reporting it."""
    seeds = []

    def fake(envs, q_values, args, episodes, seed):
        seeds.append(seed)
        return played(0.0), [0.0]

    monkeypatch.setattr(fqi, "evaluate", fake)
    train(args(seed=7, regressor="decision_tree"))
    assert seeds == [1_007_000, 1_007_000, 1_999_993_000, 1_999_993_000]


def test_a_stored_data_set_is_there_from_the_start(args, tmp_path):
    """--collections divides only transitions that are still to be collected."""
    path = tmp_path / "data.npz"
    flags = {"dataset": path, "regressor": "decision_tree"}
    train(args(**flags))
    whole, divided = (scalars(train(args(**flags, collections=n, runs_dir=tmp_path / str(n)))) for n in (1, 2))
    assert whole["losses/td_loss"] == divided["losses/td_loss"]


def test_losses_by_hand(args, monkeypatch):
    """Q = 2 everywhere, γ = 1/2, and rewards 1 to 5, every second 5 of which is terminal: the targets are 2, 3, 4, 5,
    and 5 or 6, the squared errors 0, 1, 4, 9, and 9 or 16, which are 5.3 on average."""

    class Two(fqi.QFunction):
        def fit(self, data, y):
            pass

        def __call__(self, obs):
            return np.full((len(obs), self.num_actions), 2.0)

    monkeypatch.setattr(fqi, "QFunction", Two)
    logged = scalars(train(args(env_id="Counter-v0", gamma=0.5)))
    assert [value for _, value in logged["losses/td_loss"]] == pytest.approx([5.3] * 2)
    assert logged["losses/q_values"] == [(2, 2.0), (4, 2.0)]
    assert [value for _, value in logged["losses/bellman_residual"]] == pytest.approx([5.3**0.5] * 2)


def test_the_best_is_kept_as_it_was(args, monkeypatch):
    """Iterations 2, 4 and 6 return 1, 9 and 3: at the end the last Q plays, and then the Q of iteration 4."""
    probe, seen = np.eye(4, dtype=np.float32), []

    def fake(envs, q_values, args, episodes, seed):
        seen.append(q_values(probe).tolist())
        return played([1.0, 9.0, 3.0, 4.0, 5.0][len(seen) - 1]), [0.0]

    monkeypatch.setattr(fqi, "evaluate", fake)
    train(args(iterations=6))
    assert seen[3] == seen[2] and seen[4] == seen[1] and seen[1] != seen[2]


def test_of_iterations_that_are_equally_good_the_first_is_the_best(args, monkeypatch):
    returns = iter([1.0, 9.0, 9.0, 4.0, 5.0])
    monkeypatch.setattr(fqi, "evaluate", lambda *_: (played(next(returns)), [0.0]))
    assert result(train(args(iterations=6, regressor="decision_tree")))["best_iteration"] == 4


def test_parts_differ_in_size_by_one_at_most(args, spy):
    """8 transitions in 3 parts and 7 iterations: 3, 3 and 2, of which 2, 2 and 3 iterations learn."""
    collected, fitted = spy("collect", fqi), spy("td_target", fqi)
    run_dir = train(args(dataset_size=8, collections=3, iterations=7, eval_frequency=1, regressor="decision_tree"))
    assert [size for (_, size, *_), _ in collected] == [3, 3, 2]
    sizes = [len(reward) for (_, reward, *_), _ in fitted[::2]]  # the other calls are for the Bellman residual
    assert sizes == [3] * 2 + [6] * 2 + [8] * 3 and result(run_dir)["updates"] == 7


def test_text_for_paths_and_floats_for_whole_numbers_are_taken(args, tmp_path):
    """As a notebook gives them."""
    path = tmp_path / "data.npz"
    flags = {"runs_dir": str(tmp_path / "other"), "dataset_size": 3e2, "iterations": 4.0, "max_episode_steps": 1e2}
    runs = train(args(**flags, dataset=path, seed=2.0)), train(args(seed=2, max_episode_steps=100))
    assert runs[0].parent == tmp_path / "other" and path.exists()
    assert scalars(runs[0]) == scalars(runs[1])


def test_predicted_and_realised_value(args):
    """As in dqn.py: with γ = 1/2, Counter's terminated episode realises 5, 6.5, 6.25, 5.125 and 3.5625 from its end.

    All environments begin with their first episode here, which terminates.
    """
    flags = args(env_id="Counter-v0", gamma=0.5)
    envs = [fqi.make_env(flags) for _ in range(2)]
    metrics, returns = fqi.evaluate(envs, lambda obs: np.stack([np.zeros(len(obs)), obs[:, 0]], axis=1), flags, 2, 0)
    assert returns == [15.0, 15.0]
    assert metrics["eval/q_predicted"] == pytest.approx((0 + 1 + 2 + 3 + 4) / 5)
    assert metrics["eval/q_realised"] == pytest.approx((5 + 6.5 + 6.25 + 5.125 + 3.5625) / 5)


def test_a_truncated_episode_would_have_gone_on(args):
    """In one environment Counter's second episode is truncated. With max Q = 8 at its end it realises 5 + 8/2 = 9,
    8.5, 7.25, 5.625 and 3.8125 from there, of which the last three count: the first half of its five states, rounded
    up. Of four states, with max Q = 4 at the end, it is two: rewards 4 to 1 realise 6, 6, 5 and 3.5."""
    flags = {"env_id": "Counter-v0", "gamma": 0.5}

    def q_values(obs):
        best = np.where(obs[:, 0] % 1000 == 5, 8.0, obs[:, 0])
        return np.stack([best - 1, best], axis=1)

    metrics, returns = fqi.evaluate([fqi.make_env(args(**flags))], q_values, args(**flags), 2, 1_000_000)
    assert returns == [15.0, 15.0]
    assert metrics["eval/q_predicted"] == pytest.approx((0 + 1 + 2 + 3 + 4 + 1000 + 1001 + 1002) / 8)
    realised = [5, 6.5, 6.25, 5.125, 3.5625, 7.25, 5.625, 3.8125]
    assert metrics["eval/q_realised"] == pytest.approx(sum(realised) / 8)
    short = args(**flags, max_episode_steps=4)
    metrics, _ = fqi.evaluate([fqi.make_env(short)], q_values, short, 1, 1_000_000)
    assert metrics["eval/q_predicted"] == (0 + 1) / 2 and metrics["eval/q_realised"] == (3.5 + 5) / 2


def test_other_spaces(args, register):
    for env_id in ("FrozenLake-v1", "Pendulum-v1", register(Box(-1, 1, (2, 3)), Discrete(3, start=5))):
        assert result(train(args(env_id=env_id, regressor="decision_tree", action_bins=3)))["updates"] == 4


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"iterations": 0}, "--iterations: Input should be greater than 0"),
        ({"dataset_size": 0}, "--dataset-size: "),
        ({"collections": 0}, "--collections: "),
        ({"collections": 301}, "--collections is larger than --dataset-size"),
        ({"gamma": 1.5}, "--gamma: "),
        ({"epsilon": -0.1}, "--epsilon: "),
        ({"seed": 900_001}, "--seed: Input should be less than or equal to 900000"),
    ],
)
def test_flags_out_of_their_ranges(args, flags, said):
    with pytest.raises(ValueError, match=said):
        args(**flags)


def test_an_unknown_environment(args, tmp_path):
    with pytest.raises(fqi.Stop, match="Did you mean: `CartPole`") as error:
        fqi.train(args(env_id="CartPol-v1"))
    assert error.value.args[1] == 2 and not (tmp_path / "runs").exists()


def test_what_a_finished_run_leaves(args, capsys):
    """`sps` means environment steps a second in result.json, and this script has none."""
    run_dir = fqi.train(args())
    found = result(run_dir)
    assert "sps" not in found and found["seconds"] > 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"CartPole-v1: greedy return {found['eval/episodic_return']:.1f} ± ")
    best = f"best iteration {found['best_iteration']}: return {found['best_return']:.1f}"
    assert f"; {best}; 4 iterations over 300 transitions in " in last and last.endswith(f"see {run_dir}")


@pytest.mark.bug(68)
@pytest.mark.parametrize("sent", ["obs", "reward"])
def test_a_number_that_is_not_finite_ends_the_run(args, monkeypatch, tmp_path, sent):
    """Nothing is learned from it, and no data set is written."""

    class Broken(gym.Wrapper):
        steps = 0

        def step(self, action):
            obs, reward, *rest = self.env.step(action)
            self.steps += 1
            if self.steps == 50:
                obs, reward = (obs * np.nan, reward) if sent == "obs" else (obs, np.inf)
            return obs, reward, *rest

    make_env = fqi.make_env
    monkeypatch.setattr(fqi, "make_env", lambda *a: Broken(make_env(*a)))
    with pytest.raises(fqi.Stop, match="CartPole-v1 sent a number that is not finite"):
        train(args(dataset=tmp_path / "data.npz"))
    assert not (tmp_path / "data.npz").exists()


def test_cartpole_is_learned_from_random_steps(args):
    """20,000 random steps and 30 iterations: far beyond the 22 steps of a random policy."""
    run_dir = train(args(dataset_size=20_000, iterations=30, eval_frequency=10, eval_episodes=10))
    assert result(run_dir)["best_return"] > 5 * 22
    assert gym.spec("CartPole-v1").max_episode_steps == 500
