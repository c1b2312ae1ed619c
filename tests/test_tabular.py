"""tabular_q.py: its targets by hand, its exact solutions against the known ones, and whole runs."""

import json
from collections import Counter
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from conftest import Spaces, played, scalars, train
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

import tabular_q
from tabular_q import Model


@pytest.fixture
def args(tmp_path):
    """args(**flags) -> Args of a run of 2,000 steps with two evaluations, which takes a fraction of a second."""

    def make(**flags):
        defaults = {
            "total_timesteps": 2_000,
            "eval_frequency": 1_000,
            "eval_episodes": 2,
            "runs_dir": tmp_path / "runs",
        }
        return tabular_q.Args(**defaults | flags)

    return make


def result(run_dir):
    return json.loads((run_dir / "result.json").read_text())


# The algorithm


def test_target_is_reward_plus_discounted_maximum():
    row = [2.0, 5.0, 3.0]
    assert tabular_q.td_target(row, row, 1.0, False, gamma=0.5) == 1 + 0.5 * 5
    assert tabular_q.td_target(row, row, 1.0, True, gamma=0.5) == 1


def test_double_target_is_the_other_tables_value_of_this_ones_choice():
    assert tabular_q.td_target([2.0, 5.0, 3.0], [10.0, 7.0, 20.0], 1.0, False, gamma=0.5) == 1 + 0.5 * 7


def test_step_size_falls_with_visits():
    assert [tabular_q.step_size(0.5, 0.0, n) for n in (1, 2, 100)] == [0.5, 0.5, 0.5]
    assert [tabular_q.step_size(1.0, 1.0, n) for n in (1, 2, 4)] == [1, 1 / 2, 1 / 4]
    assert tabular_q.step_size(0.8, 0.5, 16) == 0.8 / 4


class OneState(gym.Wrapper):
    """Counter without what tells states apart: observation 0, rewards 1, 2, 3, 4, 5, or those that `pays` has."""

    observation_space = Discrete(2)  # of which the second one never comes

    def __init__(self, pays=None):
        super().__init__(gym.make("Counter-v0", max_episode_steps=100))
        self.pays, self.actions = pays, []

    def reset(self, **kwargs):
        super().reset(**kwargs)
        return 0, {}

    def step(self, action):
        self.actions.append(action)
        _, reward, terminated, truncated, info = super().step(action)
        return 0, reward if self.pays is None else self.pays[action], terminated, truncated, info


def test_with_one_over_n_a_value_is_the_mean_of_its_targets(args, monkeypatch):
    """With γ = 0 the targets are 1, 2, 3, 4, 5 again and again, and 3 is their mean; the last one is 5."""
    monkeypatch.setattr(tabular_q, "make_env", lambda *_: OneState())
    run_dir = train(args(gamma=0.0, learning_rate_decay=1.0, start_e=0.0, end_e=0.0))
    assert np.load(run_dir / "q.npy") == pytest.approx(np.array([[3.0, 0.0], [0.0, 0.0]])), "what never comes stays 0"


def test_the_table_is_on_disk_before_it_is_evaluated(args, monkeypatch):
    """However the run ends after that."""
    found, evaluate = [], tabular_q.evaluate

    def look(args, q_values, *rest):
        (path,) = args.runs_dir.glob("*/q.npy")
        found.append(np.load(path)[0].tolist() == q_values(0).tolist() != [0.0, 0.0])
        return evaluate(args, q_values, *rest)

    monkeypatch.setattr(tabular_q, "make_env", lambda *_: OneState())
    monkeypatch.setattr(tabular_q, "evaluate", look)
    train(args())
    assert found == [True, True]


def test_exploration_begins_with_the_first_step_and_is_logged(args):
    """From 1 to 0.2 in 1,600 steps: before step 1,000 999 of them are over; at step 2,000 all."""
    run_dir = train(args(end_e=0.2, exploration_fraction=0.8))
    (_, first), (_, last) = scalars(run_dir)["charts/epsilon"]
    assert first == pytest.approx(1 - 0.8 * 999 / 1600, rel=1e-6) and last == pytest.approx(0.2, rel=1e-6)


def test_truncation_bootstraps_and_termination_does_not(args, monkeypatch):
    """Counter ends alternately by termination and by truncation; its targets say which was which."""

    class Numbered(gym.Wrapper):
        observation_space = Discrete(6)

        def reset(self, **kwargs):
            super().reset(**kwargs)
            return 0, {}

        def step(self, action):
            _, reward, terminated, truncated, info = super().step(action)
            return self.unwrapped.t, reward, terminated, truncated, info

    calls, td_target = [], tabular_q.td_target

    def record(next_q, other_next_q, reward, terminated, gamma):
        calls.append((reward, terminated))
        return td_target(next_q, other_next_q, reward, terminated, gamma)

    monkeypatch.setattr(tabular_q, "td_target", record)
    monkeypatch.setattr(tabular_q, "make_env", lambda *_: Numbered(gym.make("Counter-v0", max_episode_steps=100)))
    train(args(total_timesteps=20))
    first, second = calls[:5], calls[5:10]
    assert [reward for reward, _ in calls] == [1, 2, 3, 4, 5] * 4
    assert [terminated for _, terminated in first] == [False] * 4 + [True]
    assert [terminated for _, terminated in second] == [False] * 5, "truncated: it would have gone on"


def test_double_uses_two_tables(args, monkeypatch):
    """Each learns from targets that the other one values; plain Q-learning has one table in both roles."""
    pairs = []
    td_target = tabular_q.td_target

    def record(next_q, other_next_q, *rest):
        pairs.append(next_q is other_next_q)
        return td_target(next_q, other_next_q, *rest)

    monkeypatch.setattr(tabular_q, "td_target", record)
    train(args(double=True))
    assert not any(pairs)
    pairs.clear()
    train(args())
    assert all(pairs)


@pytest.mark.parametrize(("double", "tables"), [(False, 1), (True, 2)])
def test_two_tables_learn_in_turns_by_a_coin(args, monkeypatch, double, tables):
    """Of 2,000 steps half belong to each; 900 is 4.5 standard deviations away."""
    learning, td_target = [], tabular_q.td_target

    def record(next_q, *rest):
        learning.append(id(next_q))
        return td_target(next_q, *rest)

    monkeypatch.setattr(tabular_q, "td_target", record)
    monkeypatch.setattr(tabular_q, "make_env", lambda *_: OneState())
    train(args(double=double))
    counts = Counter(learning)
    assert len(counts) == tables and min(counts.values()) > 900


@pytest.mark.parametrize("seed", range(1, 6))
def test_two_tables_act_by_their_sum(args, monkeypatch, seed):
    """Action 0 costs 1 and is tried first; whichever table has learned that, it is not done again."""
    env = OneState(pays=[-1.0, 0.0])
    monkeypatch.setattr(tabular_q, "make_env", lambda *_: env)
    flags = {"double": True, "start_e": 0.0, "end_e": 0.0, "gamma": 0.0, "seed": seed, "eval_frequency": 20}
    train(args(total_timesteps=20, eval_episodes=1, **flags))
    assert env.actions[:20] == [0] + [1] * 19


# Exact solutions

CHAIN = Model(  # 0 -> 1 -> the end, by action 0, with reward 1 at the end; action 1 goes back to 0
    transition=np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]),
    reward=np.array([[0.0, 0.0], [1.0, 0.0]]),
    start=np.array([1.0, 0.0]),
)


@pytest.mark.parametrize("solve", [tabular_q.value_iteration, tabular_q.policy_iteration])
def test_exact_q_of_a_chain(solve):
    """Q(1, 0) = 1, Q(0, 0) = γ, and going back costs two more steps: Q(0, 1) = γ², Q(1, 1) = γ²."""
    assert solve(CHAIN, 0.5) == pytest.approx(np.array([[0.5, 0.25], [1.0, 0.25]]))


def test_q_of_a_loop_is_as_near_as_promised():
    """A state that leads to itself with reward 1: Q* = 1 / (1 - 0.99) = 100, and 1e-10 is asked for.

    A change of d in the last round leaves an error of 0.99 d / (1 - 0.99), so that d = 1e-10 would leave 1e-8.
    """
    loop = tabular_q.Model(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones(1))
    assert tabular_q.value_iteration(loop, 0.99)[0, 0] == pytest.approx(100, abs=1.1e-10, rel=0)


def test_value_of_a_policy():
    assert tabular_q.policy_value(CHAIN, np.array([0, 0]), 0.5).tolist() == [0.5, 1]
    assert tabular_q.policy_value(CHAIN, np.array([0, 1]), 0.5).tolist() == [0, 0], "it never gets there"


def test_expected_return_within_a_time_limit():
    forth, back = np.array([0, 0]), np.array([0, 1])
    assert [tabular_q.expected_return(CHAIN, forth, steps) for steps in (1, 2, 100)] == [0, 1, 1]
    assert tabular_q.expected_return(CHAIN, back, 100) == 0


def test_exact_metrics_of_a_chain():
    """Q(1, 0) is 2 too low, so in state 1 going back looks best, and then the end and its reward are never reached."""
    exact_q = tabular_q.value_iteration(CHAIN, 0.5)
    q = exact_q - [[0.0, 0.0], [2.0, 0.0]]
    expected = {"eval/exact_return": 0.0, "eval/optimal_return": 1.0, "charts/q_error": 2.0}
    assert tabular_q.exact_metrics(CHAIN, q, exact_q, 100) == pytest.approx(expected)


def test_reachable_states():
    transition = np.zeros((4, 2, 4))
    transition[0, 1, 2] = transition[2, 0, 0] = transition[3, 0, 0] = 1
    model = Model(transition, np.zeros((4, 2)), np.array([1.0, 0, 0, 0]))
    assert tabular_q.reachable(model).tolist() == [True, False, True, False]


def test_model_of_an_environment():
    """FrozenLake's upper left corner, not slippery: right (2) leads to state 1, left (0) stays; next to the goal, the
    step onto it pays 1 and ends."""
    model = tabular_q.read_model(gym.make("FrozenLake-v1", is_slippery=False))
    assert model.transition[0, 2].tolist() == [0, 1] + [0] * 14
    assert model.transition[0, 0].tolist() == [1] + [0] * 15
    assert model.reward[14, 2] == 1 and model.transition[14, 2].sum() == 0
    assert model.start.tolist() == [1] + [0] * 15


def test_environments_that_show_only_a_part_of_a_model_have_none():
    """P alone, a start alone, or P of other states than those that a wrapper shows."""
    whole = {"P": {0: {0: [(1.0, 0, 1.0, True)]}}, "initial_state_distrib": [1.0]}
    for names, states, known in (
        (("P", "initial_state_distrib"), 1, True),
        (("P", "initial_state_distrib"), 2, False),
        (("P",), 1, False),
        (("initial_state_distrib",), 1, False),
    ):
        env = Spaces(Discrete(states), Discrete(1))
        for name in names:
            setattr(env, name, whole[name])
        assert (tabular_q.read_model(env) is not None) == known, (names, states)


def test_environments_without_a_model():
    assert tabular_q.read_model(tabular_q.make_env(tabular_q.Args(env_id="Blackjack-v1"))) is None
    assert tabular_q.read_model(tabular_q.make_env(tabular_q.Args(env_id="CartPole-v1"))) is None


@pytest.mark.parametrize(
    ("env_id", "value", "best_return"),
    [
        ("FrozenLake-v1", 0.5420, 0.7402),
        ("FrozenLake8x8-v1", None, 0.8630),
        ("CliffWalking-v1", -12.248, -13.0),
        ("Taxi-v4", None, 7.93),
    ],
)
def test_both_iterations_agree_with_each_other_and_with_the_known_optima(env_id, value, best_return):
    """Reference values computed elsewhere from the same models: V*(s0) at γ = 0.99, and the greedy policy's return."""
    env = tabular_q.make_env(tabular_q.Args(env_id=env_id))
    model = tabular_q.read_model(env)
    q = tabular_q.value_iteration(model, 0.99)
    assert np.abs(q - tabular_q.policy_iteration(model, 0.99)).max() < 1e-8
    if value is not None:
        assert model.start @ q.max(axis=1) == pytest.approx(value, abs=5e-4)
    policy = q.argmax(axis=1)
    assert tabular_q.expected_return(model, policy, env.spec.max_episode_steps) == pytest.approx(best_return, abs=5e-3)


# Whole runs


@pytest.mark.parametrize("double", [False, True])
def test_a_run_learns_and_repeats_itself(args, double):
    runs = [train(args(double=double, seed=7)) for _ in range(2)]
    first, second = (scalars(run_dir) for run_dir in runs)
    del first["charts/SPS"], second["charts/SPS"]
    assert first == second
    q, again = (np.load(run_dir / "q.npy") for run_dir in runs)
    assert (q == again).all() and (q != 0).any()
    assert result(runs[0])["updates"] == 2_000
    other = train(args(double=double, seed=8))
    assert not np.array_equal(np.load(other / "q.npy"), q)


def test_metrics(args):
    logged = scalars(train(args()))
    expected = "charts/episodic_return charts/episodic_length charts/SPS charts/epsilon charts/q_error losses/td_error "
    expected += "eval/episodic_return eval/episodic_return_std eval/q_predicted eval/q_realised eval/exact_return "
    assert set(logged) == {*expected.split(), "eval/optimal_return"}
    assert [step for step, _ in logged["charts/q_error"]] == [1_000, 2_000]
    assert logged["eval/optimal_return"][0][1] == pytest.approx(0.7402, abs=5e-5)


def test_speed_is_steps_by_seconds(args, monkeypatch):
    """By a clock that an update moves on by half a second: 2 steps a second, 1,000 seconds in all."""
    clock, step_size = [1e9], tabular_q.step_size

    def slow(*rest):
        clock[0] += 0.5
        return step_size(*rest)

    monkeypatch.setattr(tabular_q, "step_size", slow)
    monkeypatch.setattr(tabular_q, "time", SimpleNamespace(time=lambda: clock[0], time_ns=lambda: int(clock[0])))
    run_dir = train(args())
    assert scalars(run_dir)["charts/SPS"] == [(1_000, 2.0), (2_000, 2.0)]
    assert (result(run_dir)["seconds"], result(run_dir)["sps"]) == (1_000.0, 2.0)


def test_the_first_of_the_best_evaluations_is_the_best_one(args, monkeypatch):
    returns = iter([3.0, 7.0, 7.0, 5.0])
    monkeypatch.setattr(tabular_q, "evaluate", lambda *_: ([0.0], played(next(returns))))
    found = result(train(args(eval_frequency=500)))
    assert (found["best_return"], found["best_step"], found["eval/episodic_return"]) == (7.0, 1_000, 5.0)


def test_what_is_drawn_and_said_of_a_model(args, monkeypatch, capsys):
    """CliffWalking, where the ten cells of the cliff are no states: heat maps of Q and Q* over the other states."""
    drawn = []
    monkeypatch.setattr(tabular_q, "draw", lambda env, *rest: drawn.extend(rest))
    run_dir = tabular_q.train(args(env_id="CliffWalking-v1"))
    q, exact_q, states, path = drawn
    model = tabular_q.read_model(gym.make("CliffWalking-v1"))
    assert np.array_equal(q, np.load(run_dir / "q.npy")) and path == run_dir / "q.png"
    assert np.array_equal(exact_q, tabular_q.value_iteration(model, 0.99))
    assert np.array_equal(states, tabular_q.reachable(model)) and not states.all()
    found = result(run_dir)
    line = f"exactly {found['eval/exact_return']:.4f} of -13.0000, max |Q - Q*| {found['charts/q_error']:.4f}"
    assert line in capsys.readouterr().out


def test_means_of_episodes_are_logged_every_1000_steps(args):
    """Nobody comes from CliffWalking's start to its goal in 4 steps, so every episode has 4, of -1 or, down, -100."""
    logged = scalars(train(args(env_id="CliffWalking-v1", max_episode_steps=4, start_e=0.0, end_e=0.0, gamma=0.0)))
    assert logged["charts/episodic_length"] == [(1_000, 4.0), (2_000, 4.0)]
    assert [step for step, _ in logged["charts/episodic_return"]] == [1_000, 2_000]
    assert logged["charts/episodic_return"][1][1] == -4.0, "greedy for the next reward alone: never into the cliff"


def test_q_error_is_the_largest_over_reachable_states(args):
    run_dir = train(args(env_id="CliffWalking-v1", max_episode_steps=100))
    model = tabular_q.read_model(gym.make("CliffWalking-v1"))
    states = np.ones(48, bool)
    states[37:48] = False  # the cliff, which throws back to the start, and the goal: nobody acts there
    error = np.abs(np.load(run_dir / "q.npy") - tabular_q.value_iteration(model, 0.99))[states].max()
    assert result(run_dir)["charts/q_error"] == pytest.approx(error)


@pytest.mark.parametrize(
    ("env_id", "exact", "steps"), [("FrozenLake-v1", 0.73, 200_000), ("CliffWalking-v1", -13, 100_000)]
)
def test_learns_the_optimal_policy(args, env_id, exact, steps):
    run_dir = train(args(env_id=env_id, total_timesteps=steps, eval_frequency=steps // 4, max_episode_steps=100))
    assert result(run_dir)["eval/exact_return"] >= exact - 1e-9
    errors = [error for _, error in scalars(run_dir)["charts/q_error"]]
    assert errors[-1] < errors[0] / 2, "with a falling learning rate Q comes closer to Q*"


def test_grid_pictures_and_heat_maps(args):
    for env_id in ("FrozenLake-v1", "CliffWalking-v1", "Taxi-v4", "Blackjack-v1"):
        run_dir = train(args(env_id=env_id))
        assert (run_dir / "q.png").read_bytes().startswith(b"\x89PNG") and (run_dir / "q.png").stat().st_size > 5_000


def test_continuous_environments_run_in_a_table(args):
    for env_id, states, actions in (("CartPole-v1", 6**4, 2), ("Pendulum-v1", 6**3, 5), ("MountainCar-v0", 6**2, 3)):
        run_dir = train(args(env_id=env_id, observation_bins=6, action_bins=5))
        q = np.load(run_dir / "q.npy")
        assert q.shape == (states, actions) and (q != 0).sum() > 10


def test_bins_of_bounded_and_unbounded_dimensions(args, register):
    """[0, 4] in 4 bins has its edges at 1, 2, 3. Without bounds, arctan cuts at -1, 0 and 1: [-π/2, π/2] in 4 parts."""
    space = Box(np.array([0.0, -np.inf]), np.array([4.0, np.inf]), dtype=np.float64)
    env = tabular_q.make_env(args(env_id=register(space, Discrete(2)), observation_bins=4))
    assert env.observation_space.n == 16
    numbers = {0.5: 0, 1.5: 1, 2.5: 2, 3.5: 3}, {-1.1: 0, -0.9: 1, 0.9: 2, 1.1: 3, 1e9: 3}
    for x, i in numbers[0].items():
        for y, j in numbers[1].items():
            assert env.observe(np.array([x, y])) == 4 * i + j


def test_tuples_of_numbers_are_one_number(args, register):
    env = tabular_q.make_env(args(env_id=register(Tuple((Discrete(3), Discrete(5, start=1))), Discrete(2), obs=(2, 4))))
    assert env.observation_space.n == 15 and env.reset(seed=0)[0] == 2 * 5 + 3


def test_evaluate_plays_a_saved_table(args, capsys):
    run_dir = train(args())
    tabular_q.play(args(evaluate=run_dir / "q.npy", eval_episodes=2))
    final = result(run_dir)
    mean, std = final["eval/episodic_return"], final["eval/episodic_return_std"]
    assert capsys.readouterr().out == f"FrozenLake-v1: greedy return {mean:.1f} ± {std:.1f} over 2 episodes\n"


def test_text_for_paths_and_floats_for_whole_numbers_are_taken(args, tmp_path, capsys):
    """As they come from a notebook."""
    flags = {"total_timesteps": 2e3, "max_episode_steps": 5e1, "seed": 7.0, "runs_dir": str(tmp_path / "other")}
    given, plain = train(args(**flags)), train(args(max_episode_steps=50, seed=7))
    assert given.parent == tmp_path / "other"
    assert np.load(given / "q.npy").tolist() == np.load(plain / "q.npy").tolist()
    tabular_q.play(args(evaluate=str(given / "q.npy")))
    assert capsys.readouterr().out.startswith("FrozenLake-v1: greedy return")


def test_what_draws_no_pictures_is_missed_before_training(args, register, tmp_path):
    with pytest.raises(tabular_q.BadInput, match="draws no pictures"):
        tabular_q.train(args(env_id=register(Discrete(3), Discrete(2)), capture_video=True))
    assert not (tmp_path / "runs").exists()


def test_actions_that_do_not_start_at_0(args, register):
    """Spaces itself asserts that it gets actions 5 and 6."""
    env = tabular_q.make_env(args(env_id=register(Discrete(1), Discrete(2, start=5))))
    env.reset(seed=0)
    for action in (0, 1):
        env.step(action)
    assert env.unwrapped.actions == [5, 6] and env.action_space == Discrete(2)


BAD = {
    "unknown environment": ({"env_id": "FrozenLak-v1"}, "Did you mean: `FrozenLake`?"),
    "observations": ({"env_id": "ALE/Pong-v5"}, "ALE/Pong-v5"),
    "too many bins": ({"env_id": "LunarLander-v3", "observation_bins": 20}, "at most 10,000,000"),
    "rate": ({"learning_rate": 0.0}, "--learning-rate must be between"),
    "decay": ({"learning_rate_decay": 1.5}, "--learning-rate-decay must be between 0 and 1"),
    "bins": ({"observation_bins": 1}, "--observation-bins"),
    "steps": ({"total_timesteps": 0}, "--total-timesteps"),
    "gamma": ({"gamma": 1.1}, "--gamma"),
    "seed": ({"seed": -1}, "--seed must be between 0 and"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(args, tmp_path, name):
    flags, said = BAD[name]
    with pytest.raises(tabular_q.BadInput) as error:
        tabular_q.train(args(**flags))
    assert said in str(error.value) and not (tmp_path / "runs").exists()


def test_observations_that_have_no_table(args, register):
    with pytest.raises(tabular_q.BadInput, match="which no table has a place for"):
        tabular_q.make_env(args(env_id=register(Dict(mission=Text(5), place=Discrete(3)), Discrete(2))))


def test_actions_that_cannot_be_listed(args, register):
    with pytest.raises(tabular_q.BadInput, match=r"Box of shape \(1,\)"):
        tabular_q.make_env(args(env_id=register(Discrete(3), Box(-1, 1, (2,)))))


FINITE = {  # space, its observations in the order of their numbers
    "starts at 5": (Discrete(3, start=5), [5, 6, 7]),
    "MultiDiscrete": (MultiDiscrete([2, 3], start=[1, 0]), [[1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]]),
    "MultiBinary": (MultiBinary(2), [[0, 0], [0, 1], [1, 0], [1, 1]]),
    "MultiBinary of a shape": (MultiBinary((1, 2)), [[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]]),
    "whole numbers": (Box(-1, 1, (2,), np.int64), [[x, y] for x in (-1, 0, 1) for y in (-1, 0, 1)]),
    "one binary number": (Box(0, 1, (), np.int8), [0, 1]),
}


@pytest.mark.parametrize("name", FINITE)
def test_finite_spaces_alone_and_in_containers(args, register, name):
    """Gymnasium's own grid world is a Dict of whole numbers, where the agent is and where it shall go."""
    space, observations = FINITE[name]
    n = len(observations)
    arrays = [one if isinstance(one, int) else np.array(one, space.dtype) for one in observations]
    env = tabular_q.make_env(args(env_id=register(space, Discrete(2))))
    assert env.observation_space.n == n and [env.observe(one) for one in arrays] == list(range(n))
    env = tabular_q.make_env(args(env_id=register(Tuple((space, Discrete(2))), Discrete(2))))
    assert env.observation_space.n == 2 * n
    assert [env.observe((one, k)) for one in arrays for k in (0, 1)] == list(range(2 * n))
    env = tabular_q.make_env(args(env_id=register(Dict(agent=space, target=space), Discrete(2))))
    assert env.observation_space.n == n * n
    assert [env.observe({"agent": a, "target": b}) for a in arrays for b in arrays] == list(range(n * n))


def test_an_observation_that_is_not_of_its_space(args, register):
    """Never another state's row."""
    env = tabular_q.make_env(args(env_id=register(MultiDiscrete([2, 3]), Discrete(2))))
    assert env.observe(np.array([0, 3])) is None and env.observe(np.array([-1, 0])) is None


def test_tables_that_do_not_fit(args, tmp_path):
    np.save(tmp_path / "small.npy", np.zeros((3, 4)))
    (tmp_path / "junk.npy").write_bytes(b"no array")
    np.save(tmp_path / "text.npy", np.full((16, 4), "a"))
    np.savez(tmp_path / "several.npz", q=np.zeros((16, 4)))
    for file in ("small.npy", "junk.npy", "none.npy", "text.npy", "several.npz"):
        with pytest.raises(tabular_q.BadInput, match="does not hold a table"):
            tabular_q.play(args(evaluate=tmp_path / file))


def test_without_discounting_there_is_no_exact_solution(args):
    assert "charts/q_error" not in scalars(train(args(gamma=1.0)))
