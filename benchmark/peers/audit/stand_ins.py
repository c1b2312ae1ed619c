"""An environment and a network whose every number is known, for the programs in this folder."""

import gymnasium as gym
import numpy as np
import torch


class Walk(gym.Env):
    """Episode e visits 100 e, 100 e + 1, ... and ends after `length` steps, each of which pays `reward`.

    `truncated`: a time limit ends it. `reuse`: all observations are one array, changed in place. `chance`: the first
    state is a random number. It remembers the first states, the seeds of its resets, and its actions.
    """

    observation_space = gym.spaces.Box(-1e9, 1e9, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length=3, truncated=False, reward=1.0, reuse=False, chance=False):
        self.length, self.truncated, self.reward, self.reuse, self.chance = length, truncated, reward, reuse, chance
        self.episode, self.array, self.firsts, self.seeds, self.actions = 0, np.zeros(1, np.float32), [], [], []

    def look(self):
        self.array = self.array if self.reuse else self.array.copy()
        self.array[:] = self.first + self.step_number
        return self.array

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.step_number = self.episode + 1, 0
        self.first = int(self.np_random.integers(10**6)) if self.chance else 100 * self.episode
        self.firsts.append(self.first)
        self.seeds.append(seed)
        return self.look(), {}

    def step(self, action):
        self.actions.append(int(action))
        self.step_number += 1
        end = self.step_number == self.length
        return self.look(), self.reward, end and not self.truncated, end and self.truncated, {}


class Shift(torch.nn.Module):
    """Q(s, a) = s + shift[a]."""

    def __init__(self, *shift):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(shift or (0.0, 0.0)))

    def forward(self, obs):
        return obs + self.shift
