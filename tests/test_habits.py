"""Each habit that benchmark/habits.py looks for, in an environment that has it and in one that has none."""

import random

import gymnasium as gym
import numpy as np
import pytest

from benchmark.habits import habits


class Good(gym.Env):
    """Ten steps with observations drawn by its own generator."""

    def __init__(self):
        self.observation_space = gym.spaces.Box(0, 1, (2,), np.float64)
        self.action_space = gym.spaces.Discrete(5)

    def draw(self):
        return self.np_random.random(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.draw(), {}

    def step(self, action):
        self.t += 1
        obs = self.draw()
        obs[1] = obs[1] / 2 + action / 10  # not every action leads to the same
        return obs, 1.0, self.t == 10, False, {}


class FirstOnly(Good):
    def reset(self, *, seed=None, options=None):
        self.own = np.random.default_rng(seed if seed is not None else np.random.randint(10**6))
        return super().reset(seed=seed)

    def draw(self):
        return self.own.random(2)


class Global(Good):
    def draw(self):
        return np.random.random(2)


class Unseeded(Good):
    def draw(self):
        return np.random.default_rng().random(2)


class Remembers(Good):
    played = 0.0

    def draw(self):
        return np.full(2, self.played)

    def step(self, action):
        self.played = min(1.0, self.played + 0.001)
        return super().step(action)


class SeedsGlobals(Good):
    def reset(self, *, seed=None, options=None):
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed)
        return super().reset(seed=seed)


class NewSpace(Good):
    def reset(self, *, seed=None, options=None):
        self.action_space = gym.spaces.Discrete(5)
        return super().reset(seed=seed)


class Rewinds(Good):
    def reset(self, *, seed=None, options=None):
        self.action_space.seed(3)
        return super().reset(seed=seed)


class Outside(Good):
    def draw(self):
        return super().draw() + 1.0


class Live(Good):
    def draw(self):
        self.board = getattr(self, "board", np.zeros(2))
        self.board[:] = super().draw()
        return self.board


class Vector(Good):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, np.ones(2), *rest


class Closes(Good):
    closed = False

    def close(self):
        if self.closed:
            raise AttributeError("no display")
        self.closed = True


EXPECTED = {
    Good: "",
    FirstOnly: "the seed reaches the first episode only",
    Global: "draws from the global generators and not from its seed",
    Unseeded: "a seed does not repeat an episode",
    Remembers: "a seed repeats no episode in a used environment",
    SeedsGlobals: "reset(seed=...) seeds Python's and NumPy's global generator",
    NewSpace: "reset() makes a new action_space",
    Rewinds: "reset() rewinds action_space.sample()",
    Outside: "observations out of observation_space",
    Live: "observations change after they were handed out",
    Vector: "rewards of shape (2,)",
    Closes: "close() raises AttributeError the second time",
}


@pytest.mark.parametrize("env", EXPECTED, ids=lambda env: env.__name__)
def test_each_habit_is_found_and_no_other(env):
    assert habits(env) == [EXPECTED[env]] * bool(EXPECTED[env])


def test_a_check_that_fails_is_named():
    class Fails(Good):
        def step(self, action):
            raise ValueError("no")

    assert habits(Fails) == ["seeds not checked: ValueError", "numbers not checked: ValueError"]
