"""tabular_q.py: targets by hand, exact solutions against known ones, and whole runs."""

import re
import sys
from collections import Counter
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from conftest import Spaces, played, result, scalars, train
from exact_solutions import policy_iteration, policy_value
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
            "final_eval_episodes": 2,
            "runs_dir": tmp_path / "runs",
        }
        return tabular_q.Args(**defaults | flags)

    return make


def number_of(env, obs):
    """The number that make_env gives to an observation."""
    while not isinstance(env, gym.wrappers.TransformObservation):
        env = env.env
    return env.func(obs)


# The algorithm


def test_target_is_reward_plus_discounted_maximum():
    row = [2.0, 5.0, 3.0]
    assert tabular_q.td_target(row, 1.0, False, gamma=0.5) == 1 + 0.5 * 5
    assert tabular_q.td_target(row, 1.0, True, gamma=0.5) == 1


def test_double_target_is_the_other_tables_value_of_this_ones_choice():
    rows = [2.0, 5.0, 3.0], [10.0, 7.0, 20.0]
    assert tabular_q.double_td_target(*rows, 1.0, False, gamma=0.5) == 1 + 0.5 * 7
    assert tabular_q.double_td_target(*rows, 1.0, True, gamma=0.5) == 1


def test_step_size_falls_with_visits():
    assert [tabular_q.step_size(0.5, 0.0, n) for n in (1, 2, 100)] == [0.5, 0.5, 0.5]
    assert [tabular_q.step_size(1.0, 1.0, n) for n in (1, 2, 4)] == [1, 1 / 2, 1 / 4]
    assert tabular_q.step_size(0.8, 0.5, 16) == 0.8 / 4


def test_an_update_by_hand():
    """γ = 1/2, α = 1 / n. The first y = 3 + 5 / 2 = 5.5 replaces 0; the second y, 1 and terminal, counts half."""
    table = tabular_q.QTable(2, 2, tabular_q.Args(gamma=0.5, learning_rate_decay=1.0))
    table.q[1] = [5.0, 4.0]
    assert table.update(0, 1, 3.0, 1, False) == 5.5 and table.q[0] == [0.0, 5.5]
    assert table.update(0, 1, 1.0, 1, True) == 1 - 5.5 and table.q[0] == [0.0, 5.5 - 4.5 / 2]
    assert table.q[1] == [5.0, 4.0] and table.visits == [[0, 2], [0, 0]]
    assert table.array().tolist() == table.q and table.q_values(0) is table.q[0]


@pytest.mark.bug(3)
@pytest.mark.parametrize(("coin", "learner"), [(0.9, 0), (0.1, 1)])
def test_a_double_update_by_hand(coin, learner):
    """γ = 1/2, α = 1. The learner prefers action 0 in s' = 1, and the other table's value of action 0 is 6: y = 4."""
    rng = SimpleNamespace(random=lambda: coin)
    double = tabular_q.DoubleQTable(2, 2, tabular_q.Args(gamma=0.5, learning_rate_decay=0.0), rng)
    one, two = double.tables[learner], double.tables[1 - learner]
    one.q[1], two.q[1] = [5.0, 4.0], [6.0, 8.0]
    assert double.update(0, 1, 1.0, 1, False) == 4.0
    assert one.q == [[0.0, 4.0], [5.0, 4.0]] and two.q == [[0.0, 0.0], [6.0, 8.0]]
    assert double.q_values(1) == [5.5, 6.0] and double.array().tolist() == [[0.0, 2.0], [5.5, 6.0]]


class OneState(gym.Wrapper):
    """Counter with one state: observation 0 always, rewards 1, 2, 3, 4, 5, or `pays[action]`."""

    observation_space = Discrete(2)  # the second state never comes

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
    assert np.load(run_dir / "q.npy") == pytest.approx(np.array([[3.0, 0.0], [0.0, 0.0]])), "the second state stays 0"


@pytest.mark.bug(64)
def test_the_table_is_on_disk_before_it_is_evaluated(args, monkeypatch):
    """However the run ends after that."""
    found, evaluate = [], tabular_q.evaluate

    def look(env, q_values, args, episodes):
        (path,) = args.runs_dir.glob("*/q.npy")
        found.append(np.load(path)[0].tolist() == q_values(0).tolist() != [0.0, 0.0])
        return evaluate(env, q_values, args, episodes)

    monkeypatch.setattr(tabular_q, "make_env", lambda *_: OneState())
    monkeypatch.setattr(tabular_q, "evaluate", look)
    train(args())
    assert found == [True, True]


def test_the_table_of_an_interrupted_run_is_kept(args, monkeypatch, tmp_path):
    """Ctrl-C in step 350, before the first evaluation: the table is that of a run of 349 steps."""

    class Interrupted(gym.Wrapper):
        steps = 0

        def step(self, action):
            self.steps += 1
            if self.steps == 350:
                raise KeyboardInterrupt
            return self.env.step(action)

    flags = {"env_id": "CliffWalking-v1", "end_e": 1.0, "eval_frequency": 10_000}
    whole = train(args(total_timesteps=349, **flags, runs_dir=tmp_path / "whole"))
    make_env = tabular_q.make_env
    monkeypatch.setattr(tabular_q, "make_env", lambda *a: Interrupted(make_env(*a)))
    monkeypatch.setattr(tabular_q, "warn_of_differences", lambda *_: None)  # it makes steps, too
    with pytest.raises(KeyboardInterrupt):
        train(args(**flags))
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert np.load(run_dir / "q.npy").tolist() == np.load(whole / "q.npy").tolist()
    assert np.load(run_dir / "q.npy").any() and not (run_dir / "result.json").exists()


@pytest.mark.bug(16)
def test_exploration_begins_with_the_first_step_and_is_logged(args):
    """From 1 to 0.2 in 1,600 steps: before step 1,000 999 of them are over; at step 2,000 all."""
    run_dir = train(args(end_e=0.2, exploration_fraction=0.8))
    (_, first), (_, last) = scalars(run_dir)["charts/epsilon"]
    assert first == pytest.approx(1 - 0.8 * 999 / 1600, rel=1e-6) and last == pytest.approx(0.2, rel=1e-6)


@pytest.mark.bug(9, 28)
def test_truncation_bootstraps_and_termination_does_not(args, monkeypatch):
    """Counter ends alternately by termination and by truncation, and its targets show it."""

    class Numbered(gym.Wrapper):
        observation_space = Discrete(6)

        def reset(self, **kwargs):
            super().reset(**kwargs)
            return 0, {}

        def step(self, action):
            _, reward, terminated, truncated, info = super().step(action)
            return self.unwrapped.t, reward, terminated, truncated, info

    calls, td_target = [], tabular_q.td_target

    def record(next_q, reward, terminated, gamma):
        calls.append((reward, terminated))
        return td_target(next_q, reward, terminated, gamma)

    monkeypatch.setattr(tabular_q, "td_target", record)
    monkeypatch.setattr(tabular_q, "make_env", lambda *_: Numbered(gym.make("Counter-v0", max_episode_steps=100)))
    train(args(total_timesteps=20))
    first, second = calls[:5], calls[5:10]
    assert [reward for reward, _ in calls] == [1, 2, 3, 4, 5] * 4
    assert [terminated for _, terminated in first] == [False] * 4 + [True]
    assert [terminated for _, terminated in second] == [False] * 5, "truncated: it would have gone on"


def test_double_uses_two_tables(args, spy):
    """Each learns from targets that the other one values; plain Q-learning has one table and never asks another one."""
    plain, double = spy("td_target", tabular_q), spy("double_td_target", tabular_q)
    train(args(double=True))
    assert len(double) == 2_000 and not plain
    assert not any(next_q is other_next_q for (next_q, other_next_q, *_), _ in double)
    double.clear()
    train(args())
    assert len(plain) == 2_000 and not double


@pytest.mark.parametrize(("double", "tables"), [(False, 1), (True, 2)])
def test_two_tables_learn_in_turns_by_a_coin(args, monkeypatch, spy, double, tables):
    """Of 2,000 steps half belong to each; 900 is 4.5 standard deviations away."""
    calls = spy("double_td_target" if double else "td_target", tabular_q)
    monkeypatch.setattr(tabular_q, "make_env", lambda *_: OneState())
    train(args(double=double))
    counts = Counter(id(next_q) for (next_q, *_), _ in calls)
    assert len(counts) == tables and min(counts.values()) > 900


@pytest.mark.parametrize("seed", range(1, 6))
def test_two_tables_act_by_their_sum(args, monkeypatch, seed):
    """Action 0 costs 1 and is tried first. After either table has learned its cost, action 0 is not chosen again."""
    env = OneState(pays=[-1.0, 0.0])
    monkeypatch.setattr(tabular_q, "warn_of_differences", lambda *_: None)  # it makes steps, too
    monkeypatch.setattr(tabular_q, "make_env", lambda *_: env)
    flags = {"double": True, "start_e": 0.0, "end_e": 0.0, "gamma": 0.0, "seed": seed, "eval_frequency": 20}
    train(args(total_timesteps=20, eval_episodes=1, **flags))
    assert env.actions[:20] == [0] + [1] * 19


# Exact solutions

CHAIN = Model(  # 0 -> 1 -> the end, by action 0, with reward 1 at the end; action 1 goes back to 0
    transition=np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]),
    reward=np.array([[0.0, 0.0], [1.0, 0.0]]),
    start=np.array([1.0, 0.0]),
    outcomes={(0, 0, 0.0, 1, False), (0, 1, 0.0, 0, False), (1, 0, 1.0, 1, True), (1, 1, 0.0, 0, False)},
)


@pytest.mark.parametrize("solve", [tabular_q.value_iteration, policy_iteration])
def test_exact_q_of_a_chain(solve):
    """Q(1, 0) = 1, Q(0, 0) = γ, and going back costs two more steps: Q(0, 1) = γ², Q(1, 1) = γ²."""
    assert solve(CHAIN, 0.5) == pytest.approx(np.array([[0.5, 0.25], [1.0, 0.25]]))


def test_q_of_a_loop_is_as_near_as_promised():
    """A state that leads to itself with reward 1: Q* = 1 / (1 - 0.99) = 100, and 1e-10 is asked for.

    A change of d in the last round leaves an error of 0.99 d / (1 - 0.99), so that d = 1e-10 would leave 1e-8.
    """
    loop = tabular_q.Model(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones(1), set())
    assert tabular_q.value_iteration(loop, 0.99)[0, 0] == pytest.approx(100, abs=1.1e-10, rel=0)


def test_value_of_a_policy():
    assert policy_value(CHAIN, np.array([0, 0]), 0.5).tolist() == [0.5, 1]
    assert policy_value(CHAIN, np.array([0, 1]), 0.5).tolist() == [0, 0], "this policy never reaches the end"


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
    model = Model(transition, np.zeros((4, 2)), np.array([1.0, 0, 0, 0]), set())
    assert tabular_q.reachable(model).tolist() == [True, False, True, False]


def test_model_of_an_environment():
    """FrozenLake's upper left corner, not slippery: right (2) leads to state 1, left (0) stays; next to the goal, the
    step onto it pays 1 and ends."""
    model = tabular_q.read_model(gym.make("FrozenLake-v1", is_slippery=False))
    assert model.transition[0, 2].tolist() == [0, 1] + [0] * 14
    assert model.transition[0, 0].tolist() == [1] + [0] * 15
    assert model.reward[14, 2] == 1 and model.transition[14, 2].sum() == 0
    assert model.start.tolist() == [1] + [0] * 15


def test_a_part_of_a_model_is_no_model():
    """P alone, a start alone, or P with another number of states than the observation space."""
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
    assert np.abs(q - policy_iteration(model, 0.99)).max() < 1e-8
    if value is not None:
        assert model.start @ q.max(axis=1) == pytest.approx(value, abs=5e-4)
    policy = q.argmax(axis=1)
    assert tabular_q.expected_return(model, policy, env.spec.max_episode_steps) == pytest.approx(best_return, abs=5e-3)


# Whole runs


@pytest.mark.bug(40)
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
    expected += "charts/info/prob eval/info/prob "  # in FrozenLake's info
    assert set(logged) == {*expected.split(), "eval/optimal_return"}
    assert [step for step, _ in logged["charts/q_error"]] == [1_000, 2_000]
    assert logged["eval/optimal_return"][0][1] == pytest.approx(0.7402, abs=5e-5)


def test_speed_is_steps_by_seconds(args, monkeypatch):
    """A fake clock advances half a second with each update: 2 steps a second, 1,000 seconds in all."""
    clock, step_size = [1e9], tabular_q.step_size

    def slow(*rest):
        clock[0] += 0.5
        return step_size(*rest)

    monkeypatch.setattr(tabular_q, "step_size", slow)
    monkeypatch.setattr(tabular_q, "time", SimpleNamespace(time=lambda: clock[0]))
    run_dir = train(args())
    assert scalars(run_dir)["charts/SPS"] == [(1_000, 2.0), (2_000, 2.0)]
    assert (result(run_dir)["seconds"], result(run_dir)["sps"]) == (1_000.0, 2.0)


def test_td_error_is_the_mean_since_the_last_evaluation(args, monkeypatch):
    """γ = 0 and α = 1: Q is the last reward, so in every 5 steps of 1, 2, 3, 4, 5 the errors are 4, 1, 1, 1, 1.

    Only the first error of all is 1 in place of 4. A mean without the sign would be 0.
    """
    monkeypatch.setattr(tabular_q, "make_env", lambda *_: OneState(pays=None))
    run_dir = train(
        args(gamma=0.0, learning_rate_decay=0.0, start_e=0.0, end_e=0.0, eval_frequency=10, total_timesteps=20)
    )
    found = [value for _, value in scalars(run_dir)["losses/td_error"]]
    assert found == pytest.approx([(5 + 8) / 10, (8 + 8) / 10])


def test_the_first_of_the_best_evaluations_is_the_best_one(args, monkeypatch):
    returns = iter([3.0, 7.0, 7.0, 5.0])
    monkeypatch.setattr(tabular_q, "evaluate", lambda *_: (played(next(returns)), [0.0]))
    found = result(train(args(eval_frequency=500)))
    assert (found["best_return"], found["best_step"], found["eval/episodic_return"]) == (7.0, 1_000, 5.0)


def test_the_terminal_shows_the_exact_solution(args, capsys):
    run_dir = tabular_q.train(args(env_id="CliffWalking-v1", max_episode_steps=100))
    found = result(run_dir)
    line = f"exactly {found['eval/exact_return']:.4f} of -13.0000, max |Q - Q*| {found['charts/q_error']:.4f}"
    assert line in capsys.readouterr().out


def test_means_of_episodes_are_logged_every_1000_steps(args):
    """CliffWalking's goal is more than 4 steps from its start, so every episode has 4 steps of -1 (-100: the cliff)."""
    logged = scalars(train(args(env_id="CliffWalking-v1", max_episode_steps=4, start_e=0.0, end_e=0.0, gamma=0.0)))
    assert logged["charts/episodic_length"] == [(1_000, 4.0), (2_000, 4.0)]
    assert [step for step, _ in logged["charts/episodic_return"]] == [1_000, 2_000]
    assert logged["charts/episodic_return"][1][1] == -4.0, "greedy for the next reward: it avoids the cliff"


def test_q_error_is_the_largest_over_reachable_states(args):
    run_dir = train(args(env_id="CliffWalking-v1", max_episode_steps=100))
    model = tabular_q.read_model(gym.make("CliffWalking-v1"))
    states = np.ones(48, bool)
    states[37:48] = False  # the cliff and the goal: the agent never acts there
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
            assert number_of(env, np.array([x, y])) == 4 * i + j


def test_tuples_of_numbers_are_one_number(args, register):
    env = tabular_q.make_env(args(env_id=register(Tuple((Discrete(3), Discrete(5, start=1))), Discrete(2), obs=(2, 4))))
    assert env.observation_space.n == 15 and env.reset(seed=0)[0] == 2 * 5 + 3


def test_evaluate_plays_a_saved_table(args, monkeypatch, capsys):
    run_dir = train(args())
    monkeypatch.setattr(sys, "argv", ["tabular_q.py", "--evaluate", str(run_dir / "q.npy")])
    tabular_q.main()
    final = result(run_dir)
    mean, std = final["eval/episodic_return"], final["eval/episodic_return_std"]
    values = f"Q predicted {final['eval/q_predicted']:.2f}, realised {final['eval/q_realised']:.2f}"
    said = f"FrozenLake-v1: greedy return {mean:.1f} ± {std:.1f} over 2 episodes, {values}\n"
    assert capsys.readouterr().out == said, "--final-eval-episodes is in its args.json"


def test_text_for_paths_and_floats_for_whole_numbers_are_taken(args, tmp_path):
    """As a notebook gives them."""
    flags = {"total_timesteps": 2e3, "max_episode_steps": 5e1, "seed": 7.0, "runs_dir": str(tmp_path / "other")}
    given, plain = train(args(**flags)), train(args(max_episode_steps=50, seed=7))
    assert given.parent == tmp_path / "other"
    assert np.load(given / "q.npy").tolist() == np.load(plain / "q.npy").tolist()


def test_an_environment_without_pictures_is_found_before_training(args, register, tmp_path, monkeypatch):
    monkeypatch.setattr(Spaces, "render", lambda self: None, raising=False)
    with pytest.raises(tabular_q.Stop, match="returns no picture"):
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
    "too many bins": ({"env_id": "LunarLander-v3", "observation_bins": 20}, "more than 10,000,000"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(args, tmp_path, name):
    flags, said = BAD[name]
    with pytest.raises(tabular_q.Stop) as error:
        tabular_q.train(args(**flags))
    sentence, code = error.value.args
    assert said in sentence and code == 2 and not (tmp_path / "runs").exists()


RANGES = {
    "rate": ({"learning_rate": 0.0}, "--learning-rate: "),
    "largest rate": ({"learning_rate": 1.1}, "--learning-rate: "),
    "decay": ({"learning_rate_decay": 1.5}, "--learning-rate-decay: Input should be less than or equal to 1"),
    "bins": ({"observation_bins": 1}, "--observation-bins: "),
    "steps": ({"total_timesteps": 0}, "--total-timesteps: "),
    "gamma": ({"gamma": 1.1}, "--gamma: "),
    "seed": ({"seed": -1}, "--seed: Input should be greater than or equal to 0"),
    "kwargs": ({"env_kwargs": ("length",)}, "--env-kwargs takes NAME=VALUE, each NAME once"),
}


@pytest.mark.parametrize("name", RANGES)
def test_flags_out_of_their_ranges(args, name):
    flags, said = RANGES[name]
    with pytest.raises(ValueError, match=said):
        args(**flags)


def test_observations_that_have_no_table(args, register):
    with pytest.raises(tabular_q.Stop, match=r"hold a Text\(.*\), which no table can hold"):
        tabular_q.make_env(args(env_id=register(Dict(mission=Text(5), place=Discrete(3)), Discrete(2))))


def test_actions_that_cannot_be_listed(args, register):
    with pytest.raises(tabular_q.Stop, match="its actions are Box"):
        tabular_q.make_env(args(env_id=register(Discrete(3), Box(-np.inf, 1, (2,)))))


FINITE = {  # space, its observations in the order of their numbers
    "starts at 5": (Discrete(3, start=5), [5, 6, 7]),
    "MultiDiscrete": (MultiDiscrete([2, 3], start=[1, 0]), [[1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]]),
    "MultiBinary": (MultiBinary(2), [[0, 0], [0, 1], [1, 0], [1, 1]]),
    "MultiBinary of a shape": (MultiBinary((1, 2)), [[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]]),
    "whole numbers": (Box(-1, 1, (2,), np.int64), [[x, y] for x in (-1, 0, 1) for y in (-1, 0, 1)]),
    "one binary number": (Box(0, 1, (), np.int8), [0, 1]),
}


@pytest.mark.bug(66)
@pytest.mark.parametrize("name", FINITE)
def test_finite_spaces_alone_and_in_containers(args, register, name):
    """Gymnasium's own grid world is a Dict of whole numbers: the places of the agent and of its target."""
    space, observations = FINITE[name]
    n = len(observations)
    arrays = [one if isinstance(one, int) else np.array(one, space.dtype) for one in observations]
    env = tabular_q.make_env(args(env_id=register(space, Discrete(2))))
    assert env.observation_space.n == n and [number_of(env, one) for one in arrays] == list(range(n))
    env = tabular_q.make_env(args(env_id=register(Tuple((space, Discrete(2))), Discrete(2))))
    assert env.observation_space.n == 2 * n
    assert [number_of(env, (one, k)) for one in arrays for k in (0, 1)] == list(range(2 * n))
    env = tabular_q.make_env(args(env_id=register(Dict(agent=space, target=space), Discrete(2))))
    assert env.observation_space.n == n * n
    assert [number_of(env, {"agent": a, "target": b}) for a in arrays for b in arrays] == list(range(n * n))


def test_an_observation_that_is_not_of_its_space(args, register):
    """It must not get the row of another state."""
    for space, wrong in (
        (MultiDiscrete([2, 3]), [np.array([0, 3]), np.array([-1, 0])]),
        (Discrete(3), [3, -1]),
        (Box(-1, 1, (2,)), [np.array([0.0, np.nan]), np.array([np.inf, 0.0]), np.array([-np.inf, 0.0])]),
    ):
        env = tabular_q.make_env(args(env_id=register(space, Discrete(2))))
        for obs in wrong:
            with pytest.raises(tabular_q.Stop, match="not finite, or not in its observation space") as error:
                number_of(env, obs)
            assert error.value.args[1] == 1


@pytest.mark.bug(68)
def test_a_reward_that_is_not_finite_ends_the_run(args, monkeypatch):
    """Before the first evaluation, also where no episode ended and in a run shorter than the log's 1,000 steps."""
    for pays in (np.nan, np.inf):
        monkeypatch.setattr(tabular_q, "make_env", lambda *_, pays=pays: OneState(pays=[pays, 0.0]))
        for steps in (20, 2_000):
            with pytest.raises(tabular_q.Stop, match="the environment sent a number that is not finite"):
                train(args(total_timesteps=steps))


def test_tables_that_do_not_fit(args, tmp_path, monkeypatch):
    np.save(tmp_path / "small.npy", np.zeros((3, 4)))
    (tmp_path / "junk.npy").write_bytes(b"no array")
    np.save(tmp_path / "text.npy", np.full((16, 4), "a"))
    np.savez(tmp_path / "several.npz", q=np.zeros((16, 4)))
    for file in ("small.npy", "junk.npy", "none.npy", "text.npy", "several.npz"):
        monkeypatch.setattr(sys, "argv", ["tabular_q.py", "--evaluate", str(tmp_path / file)])
        with pytest.raises(tabular_q.Stop, match="does not hold a table"):
            tabular_q.play(args(evaluate=tmp_path / file))


def test_without_discounting_there_is_no_exact_solution(args):
    assert "charts/q_error" not in scalars(train(args(gamma=1.0)))


@pytest.mark.parametrize("fickle", [True, False])
def test_a_step_that_cannot_happen_in_p_ends_the_exact_values(args, capsys, fickle):
    """A fickle passenger of Taxi changes the destination on the way, and P knows nothing of it."""
    kwargs = ("fickle_passenger=true", "fickle_probability=1.0") if fickle else ()
    run_dir = tabular_q.train(args(env_id="Taxi-v4", env_kwargs=kwargs, total_timesteps=4_000))
    said = re.search(r"no exact values: step [\d,]+ cannot happen in the model P of Taxi-v4\n", capsys.readouterr().out)
    names = {"eval/exact_return", "eval/optimal_return", "charts/q_error"}
    assert bool(said) == fickle and names & set(result(run_dir)) == (set() if fickle else names)


def test_values_of_another_task_are_not_called_exact(args):
    found = result(train(args(env_id="FrozenLake-v1", eval_env_kwargs=("is_slippery=False",))))
    assert "eval/exact_return" not in found and found["updates"] == 2_000


STEP = (0.5, 0, 1.0, False)
MODELS = {
    "model": ([[[STEP, STEP]]], True),
    "function": (lambda s, a: [STEP, STEP], False),
    "fifth number": ([[[(*STEP, 7), (*STEP, 7)]]], False),
    "half": ([[[STEP]]], False),
    "no action": ([{1: [STEP, STEP]}], False),
    "state 1 of 1": ([[[STEP, (0.5, 1, 1.0, False)]]], False),
}


@pytest.mark.parametrize(("outcomes", "known"), MODELS.values(), ids=MODELS)
def test_what_is_no_model_though_its_name_is_p(outcomes, known):
    inner = SimpleNamespace(P=outcomes, initial_state_distrib=[1.0])
    env = SimpleNamespace(observation_space=Discrete(1), action_space=Discrete(1), unwrapped=inner)
    assert (tabular_q.read_model(env) is not None) == known
