"""The environments of benchmark/envs.py on episodes that can be followed on paper."""

import itertools
import json
import subprocess
import sys
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
from conftest import ROOT, train

import dqn
import noisy_dqn
from benchmark.envs import BLANKS, Corridor, Cue, DeepSea, Reach, flicker_id

GAME = "benchmark.envs:MinAtar/SpaceInvaders-v1"
UP, DOWN, LEFT, RIGHT, NOTHING = range(5)


def test_the_sign_is_seen_once_and_asked_for_after_the_delay():
    """With a delay of 3: the sign, twice nothing, the question; what is done before it does not matter."""
    env, signs = Cue(delay=3), set()
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        sign, asked = obs.tolist()
        signs.add(sign)
        assert abs(sign) == 1 and asked == 0
        for expected in ([0, 0], [0, 0], [0, 1]):
            obs, reward, terminated, truncated, _ = env.step(seed % 2)
            assert obs.tolist() == expected and (reward, terminated, truncated) == (0.0, False, False)
        answer = seed // 2 % 2
        _, reward, terminated, truncated, _ = env.step(answer)
        assert reward == (answer == (sign + 1) / 2) and terminated and not truncated
    assert signs == {-1, 1}


@pytest.mark.parametrize(
    ("env_id", "seen"), [("Positions-v0", [0, 2]), ("Flicker0-v0", [0, 1, 2, 3]), ("FlickerStack0-v0", [0, 1, 2, 3])]
)
def test_what_is_seen_of_cartpole(env_id, seen):
    env, cartpole = gym.make(env_id), gym.make("CartPole-v1")
    obs, state = env.reset(seed=3)[0], cartpole.reset(seed=3)[0]
    # A coin is thrown for the blanks, from the same generator, so only the first episode is the same.
    for action in (0, 1, 1, 0, 1):
        assert obs.ravel()[-len(seen) :].tolist() == state[seen].tolist()
        obs, state = env.step(action)[0], cartpole.step(action)[0]
    assert env.spec.max_episode_steps == cartpole.spec.max_episode_steps == 500


def test_a_stack_is_of_successive_observations():
    env, stacked = gym.make("Positions-v0"), gym.make("PositionsStack-v0")
    seen, (stack, _) = [env.reset(seed=1)[0].ravel()], stacked.reset(seed=1)
    for action in (0, 1, 1, 0, 1):
        seen.append(env.step(action)[0].ravel())
        stack, *_ = stacked.step(action)
    assert stack.tolist() == np.array(seen[-4:]).tolist() and len(np.unique(stack, axis=0)) == 4


@pytest.mark.parametrize("blank", BLANKS)
def test_share_of_blank_observations(blank):
    """Of 2,000: the share is off by less than four standard deviations, and what is not blank is whole."""
    with closing(dqn.make_env(dqn.Args(env_id=flicker_id(blank)))) as env:
        seen = [env.reset(seed=0)[0]]
        while len(seen) < 2_000:
            obs, _, terminated, truncated, _ = env.step(len(seen) % 2)
            seen.append(env.reset()[0] if terminated or truncated else obs)
    blanks = (np.array(seen) == 0).all(axis=1)
    assert blanks.mean() == pytest.approx(blank, abs=4 * (blank * (1 - blank) / 2_000) ** 0.5)
    assert (np.array(seen)[~blanks] != 0).all()


def test_one_seed_flickers_alike_and_two_do_not():
    def blanks(seed):
        env = gym.make("Flicker50-v0")
        seen = [env.reset(seed=seed)[0], *(env.step(t % 2)[0] for t in range(8))]
        return [not obs.any() for obs in seen]

    assert blanks(1) == blanks(1) and len({tuple(blanks(seed)) for seed in range(10)}) > 5


def play(env, directions):
    """Return and cells of an episode that goes right where `directions` has True."""
    obs, _ = env.reset(seed=0)
    total, cells, terminated = 0.0, [], False
    for right in directions:
        assert not terminated and obs.sum() == 1
        row, column = np.argwhere(obs)[0].tolist()
        cells.append((row, column))
        action = env.right[row, column] if right else 1 - env.right[row, column]
        obs, reward, terminated, truncated, _ = env.step(action)
        total += reward
        assert not truncated
    assert terminated and obs.sum() == 0
    return total, cells


@pytest.mark.parametrize("size", [2, 5, 8])
def test_one_sequence_of_actions_is_paid(size):
    """Always right returns 1 - size * 0.01 / size = 0.99; any other -0.01 / size for each step to the right."""
    env = DeepSea(size)
    for directions in itertools.product((False, True), repeat=size):
        total, _ = play(env, directions)
        assert total == pytest.approx(0.99 if all(directions) else -0.01 / size * sum(directions))


def test_cells():
    """Down at every step, and to the left not beyond the edge."""
    env = DeepSea(4)
    assert play(env, [True] * 4)[1] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert play(env, [False, True, True, False])[1] == [(0, 0), (1, 0), (2, 1), (3, 2)]
    assert play(env, [True, False, False, False])[1] == [(0, 0), (1, 1), (2, 0), (3, 0)]


def test_no_action_is_right_everywhere():
    """Nor on the way that is paid: else a network's bias would solve it."""
    for size in (8, 12):
        assert set(DeepSea(size).right.diagonal()) == {0, 1}


def test_the_script_makes_it(small):
    for size in (8, 12):
        env = noisy_dqn.make_env(small(noisy_dqn, env_id=f"benchmark.envs:DeepSea{size}-v0"))
        obs, _ = env.reset(seed=0)
        assert obs.tolist() == [1] + [0] * (size * size - 1) and env.action_space.n == 2
        env.close()


def test_arm_by_hand():
    """Stretched out along x its tip is at (1, 0); the elbow bent by a right angle brings it to (1/2, 1/2)."""
    arm = Reach()
    assert arm.tip(np.array([0, 0])) == pytest.approx([1, 0])
    assert arm.tip(np.array([0, np.pi / 2])) == pytest.approx([0.5, 0.5])
    assert arm.tip(np.array([np.pi / 2, np.pi / 2])) == pytest.approx([-0.5, 0.5])


def test_reward_is_sparse():
    """From (1, 0), turns of the elbow by half a radian: the tip is at (1 + cos(t/2)) / 2, sin(t/2) / 2 after t."""
    arm = Reach()
    arm.reset(seed=0)
    arm.angles, arm.goal = np.zeros(2), np.array([1 + np.cos(1), np.sin(1)]) / 2
    obs, *rest = arm.step(np.float32([0, 1]))
    assert rest == [0.0, False, False, {}]
    assert obs == pytest.approx(
        [1, np.cos(0.5), 0, np.sin(0.5), (np.cos(1) - np.cos(0.5)) / 2, (np.sin(1) - np.sin(0.5)) / 2], abs=1e-6
    )
    assert arm.step(np.float32([0, 1]))[1:] == (1.0, True, False, {})


def test_numbers_of_the_grid_are_pairs_of_turns():
    """Of 5 x 5, 0 is (-1, -1), 24 (1, 1), 12 none, and 14 = 2 * 5 + 4 turns the elbow alone."""
    arm = gym.make("Reach5-v0").unwrapped
    assert arm.action_space.n == 25
    for action, turn in ((0, (-1, -1)), (24, (1, 1)), (12, (0, 0)), (14, (0, 1)), (1, (-1, -0.5))):
        arm.reset(seed=0)
        arm.angles = np.zeros(2)
        arm.step(action)
        assert arm.angles == pytest.approx(0.5 * np.array(turn))


def test_corridor_has_the_papers_size():
    """10 states up, 50 to the right, 10 up."""
    for num_actions in (5, 10, 20):
        assert Corridor(num_actions).next_state.shape == (10 + 50 + 10, num_actions)


def test_walls_and_corners():
    """States 0 to 9 go up, 10 to 59 right, 60 to 69 up; the corners are 10 and 59; a move into a wall stays."""
    next_state = Corridor(5).next_state
    assert next_state[0].tolist() == [1, 0, 0, 0, 0]  # lower end: up, down, left, right, nothing
    assert next_state[5].tolist() == [6, 4, 5, 5, 5]
    assert next_state[10].tolist() == [10, 9, 10, 11, 10]  # first corner: from below, and on to the right
    assert next_state[30].tolist() == [30, 30, 29, 31, 30]
    assert next_state[59].tolist() == [60, 59, 58, 59, 59]  # second corner: from the left, and on upwards
    assert next_state[68].tolist() == [69, 67, 68, 68, 68]  # one before the goal


def test_more_actions_do_nothing():
    few, many = Corridor(5), Corridor(20)
    assert np.array_equal(many.next_state[:, :5], few.next_state)
    assert np.array_equal(many.next_state[:, 5:], np.repeat(np.arange(70)[:, None], 15, axis=1))


def test_reward_on_arrival_at_the_goal_alone():
    model = Corridor(10)
    assert np.argwhere(model.reward).tolist() == [[68, UP]] and model.reward[68, UP] == 1.0
    assert np.argwhere(model.terminated[:69]).tolist() == [[68, UP]]
    assert model.terminated[69].all(), "the goal has no future"


def test_a_game_is_a_vector_of_its_cells(small):
    """Ten by ten cells with six channels, each 0 or 1; four actions, of which -v0 has six."""
    env = dqn.make_env(dqn.Args(env_id=GAME))
    obs, _ = env.reset(seed=1)
    assert obs.shape == (600,) and set(obs) == {0.0, 1.0} and env.action_space.n == 4
    run_dir = train(small(env_id=GAME))
    assert json.loads((run_dir / "result.json").read_text())["updates"] == 50


def test_the_corridor_is_walked():
    """Ten up, 49 to the right and ten up are 69 steps; the last one pays 1 and ends the episode."""
    env = gym.make("benchmark.envs:Corridor10-v0")
    obs, _ = env.reset(seed=0)
    total = 0.0
    for t, action in enumerate([UP] * 10 + [RIGHT] * 49 + [UP] * 10):
        assert np.flatnonzero(obs).tolist() == [t] and obs.sum() == 1
        obs, reward, terminated, truncated, _ = env.step(action)
        total += reward
        assert terminated == (t == 68) and not truncated
    assert total == 1.0 and np.flatnonzero(obs).tolist() == [69]


def test_minatar_is_imported_by_its_games_alone():
    """The package is an extra, and the other environments are there without it."""
    code = "import sys, benchmark.envs; assert not {'minatar', 'seaborn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("env_id", ["Gamble-v0", "BoxGamble-v0"])
def test_a_gamble_pays_in_its_last_step(env_id):
    """Action 0 pays 3 with probability 1 or 0, action 1 pays 0.5; in the first of two steps nothing is paid."""
    for chance, action, paid in ((1.0, 0, 3.0), (0.0, 0, 0.0), (1.0, 1, 0.5)):
        env = gym.make(env_id, chance=chance, prize=3.0, sure=0.5, steps=2)
        env.reset(seed=1)
        played = np.array([-0.5 if action == 0 else 0.5], np.float32) if env_id == "BoxGamble-v0" else action
        assert env.step(played)[:4] == (1, 0.0, False, False)
        assert env.step(played)[:4] == (2, paid, True, False)


def test_a_gamble_pays_as_often_as_it_says():
    """One in ten of 2,000 steps: 200, with a standard deviation of √180 = 13."""
    env, won = gym.make("Gamble-v0", chance=0.1), 0.0
    for seed in range(2_000):
        env.reset(seed=seed)
        won += env.step(0)[1]
    assert 140 < won < 260
