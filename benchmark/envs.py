"""The environments that we wrote. Every script makes them by name, from the repository's root:

    python drqn.py --env-id benchmark.envs:Cue-v0
    python noisy_dqn.py --env-id benchmark.envs:DeepSea8-v0
    python dqn.py --env-id benchmark.envs:MinAtar/SpaceInvaders-v1    # needs pip install -e ".[minatar]"

- `Cue-v0`: a sign is shown once and asked for 8 steps later. `CueStack-v0` shows the last 4 observations.
- `Positions-v0`: CartPole without its velocities. `Flicker50-v0`: CartPole, with half of the observations blank (also
  0, 25, 75 and 90 %). `PositionsStack-v0` and `FlickerStack50-v0` show the last 4 observations.
- `Reach-v0`: an arm with two joints and a sparse reward. `Reach5-v0` and `Reach11-v0` have a grid of turns as actions.
- `DeepSea8-v0`, `DeepSea12-v0`: one sequence of actions of 2^8 or 2^12 pays.
- `Corridor5-v0`, `Corridor10-v0`, `Corridor20-v0`: 70 states in a row, and 5, 10 or 20 actions.
- `Gamble-v0`: one state and two actions, a chance of a prize or a sure reward. `BoxGamble-v0` has a continuous action.
- `MinAtar/Breakout-v1` and four other games of Young and Tian (2019), "MinAtar: An Atari-inspired testbed for thorough
  and reproducible reinforcement learning experiments": 10 x 10 cells with 4 to 10 channels. -v1 has only the actions
  that have a meaning in the game, -v0 has six in every game. The package is an extra because its licence is the GPL.
"""

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import FrameStackObservation, TransformObservation

DELAY = 8  # steps from the sign of Cue to the question
STACK = 4  # observations in the environments whose names contain Stack
BLANKS = (0.0, 0.25, 0.5, 0.75, 0.9)  # shares of blank observations for which there is an environment


class Cue(gym.Env):
    """Observation (sign, asked): first (-1 or 1, 0), then (0, 0), and after `delay` steps (0, 1).

    The action taken at (0, 1) ends the episode. It pays 1 if it is 0 after the sign -1, or 1 after the sign 1. Earlier
    actions have no effect.
    """

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, delay: int = DELAY):
        self.delay = delay

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.right = 0, int(self.np_random.integers(2))
        return np.float32([2 * self.right - 1, 0]), {}

    def step(self, action):
        self.t += 1
        asked, ends = self.t == self.delay, self.t > self.delay
        return np.float32([0, asked]), float(ends and action == self.right), ends, False, {}


class Flickering(gym.ObservationWrapper):
    """Replaces each observation, the first one too, by zeros with probability `blank`."""

    def __init__(self, env: gym.Env, blank: float):
        super().__init__(env)
        self.blank = blank

    def observation(self, observation):
        return observation * (self.np_random.random() >= self.blank)


class Reach(gym.Env):
    """An arm of two links of length 1/2 has 20 steps to move its tip within 0.1 of a point that it can reach.

    Without `bins` an action is the turn of both joints, in half radians. With `bins` it is the number of a pair.
    """

    observation_space = gym.spaces.Box(-2, 2, (6,))

    def __init__(self, bins: int | None = None):
        self.turns = bins and np.linspace(-1, 1, bins)
        self.action_space = gym.spaces.Discrete(bins**2) if bins else gym.spaces.Box(-1, 1, (2,))

    def tip(self, angles: np.ndarray) -> np.ndarray:
        one, both = angles[0], angles.sum()
        return np.array([np.cos(one) + np.cos(both), np.sin(one) + np.sin(both)]) / 2

    def observe(self) -> np.ndarray:
        way = self.goal - self.tip(self.angles)
        return np.concatenate([np.cos(self.angles), np.sin(self.angles), way]).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.angles, self.goal = self.np_random.uniform(-np.pi, np.pi, 2), self.tip(self.np_random.uniform(-3, 3, 2))
        return self.observe(), {}

    def step(self, action):
        turn = action if self.turns is None else self.turns[list(divmod(action, len(self.turns)))]
        self.angles = self.angles + 0.5 * turn
        reached = bool(np.linalg.norm(self.tip(self.angles) - self.goal) < 0.1)
        return self.observe(), float(reached), reached, False, {}


class DeepSea(gym.Env):
    """bsuite's DeepSea, deterministic: size x size cells; each step leads one row down and one column right or left.

    The observation is the cell, one-hot in (size, size), and all zeros at the end. A random draw with bsuite's seed 42
    decides for each cell which action leads right. A step right costs 0.01 / size, and pays 1 in the lower right cell.
    """

    def __init__(self, size: int):
        self.size = size
        self.observation_space, self.action_space = gym.spaces.Box(0, 1, (size, size)), gym.spaces.Discrete(2)
        self.right = np.random.RandomState(42).binomial(1, 0.5, (size, size))  # the action that leads right

    def observe(self) -> np.ndarray:
        obs = np.zeros((self.size, self.size), np.float32)
        if self.row < self.size:
            obs[self.row, self.column] = 1
        return obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.row, self.column = 0, 0
        return self.observe(), {}

    def step(self, action):
        right = action == self.right[self.row, self.column]
        reward = (self.column == self.size - 1) - 0.01 / self.size if right else 0.0
        self.row, self.column = self.row + 1, min(max(self.column + (1 if right else -1), 0), self.size - 1)
        return self.observe(), reward, self.row == self.size, False, {}


class Corridor(gym.Env):
    """`vertical` states up, `horizontal` to the right, `vertical` up; the observation is the state, one-hot.

    Actions are up, down, left, right and nothing; with more than 5 actions the others do nothing too. State 0 is the
    start, the last state is the goal. Arrival at the goal pays 1 and ends the episode.
    """

    def __init__(self, num_actions: int, vertical: int = 10, horizontal: int = 50):
        left = [(0, y) for y in range(vertical)]
        middle = [(x, vertical) for x in range(horizontal)]
        right = [(horizontal - 1, y) for y in range(vertical + 1, 2 * vertical + 1)]
        cells = left + middle + right
        state = {cell: i for i, cell in enumerate(cells)}
        goal = len(cells) - 1

        moves = [(0, 1), (0, -1), (-1, 0), (1, 0)] + [(0, 0)] * (num_actions - 4)
        # The model: three arrays of (states, actions). At the goal nothing happens.
        self.next_state = np.array([[state.get((x + dx, y + dy), state[x, y]) for dx, dy in moves] for x, y in cells])
        self.next_state[goal] = goal
        self.terminated = self.next_state == goal
        self.reward = self.terminated.astype(float)
        self.reward[goal] = 0.0
        self.observation_space = gym.spaces.Box(0, 1, (len(cells),))
        self.action_space = gym.spaces.Discrete(num_actions)

    def observe(self) -> np.ndarray:
        obs = np.zeros(len(self.next_state), np.float32)
        obs[self.state] = 1
        return obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 0
        return self.observe(), {}

    def step(self, action):
        reward, terminated = self.reward[self.state, action], self.terminated[self.state, action]
        self.state = self.next_state[self.state, action]
        return self.observe(), float(reward), bool(terminated), False, {}


class Gamble(gym.Env):
    """Action 0 pays `prize` with probability `chance`, else nothing; action 1 pays `sure`. Then the episode ends.

    With `steps` of 2 or more, both actions pay nothing before the last step. Observation: the number of the step. With
    `box`, the action is a number from -1 to 1, and means 0 below 0 and 1 from there on.
    """

    def __init__(self, chance: float = 0.1, prize: float = 1.0, sure: float = 0.0, steps: int = 1, box: bool = False):
        self.chance, self.prize, self.sure, self.steps = chance, prize, sure, steps
        self.observation_space = gym.spaces.Discrete(steps + 1)
        self.action_space = gym.spaces.Box(-1, 1, (1,)) if box else gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t += 1
        gambles = action[0] < 0 if isinstance(self.action_space, gym.spaces.Box) else action == 0
        won = self.prize if self.np_random.random() < self.chance else 0.0
        reward = (won if gambles else self.sure) if self.t == self.steps else 0.0
        return self.t, reward, self.t == self.steps, False, {}


def cue(stack: int) -> gym.Env:
    return FrameStackObservation(Cue(), stack)


def cartpole(seen: list[int], blank: float, stack: int, render_mode: str | None = None) -> gym.Env:
    """CartPole that shows the numbers `seen` of its last `stack` observations; a share `blank` of them is blank.

    Number 0 is the position of the cart, 1 its velocity, 2 the pole's angle, 3 its velocity.
    """
    env = CartPoleEnv(render_mode=render_mode)
    low, high = env.observation_space.low[seen], env.observation_space.high[seen]
    env = TransformObservation(env, lambda obs: obs[seen], gym.spaces.Box(low, high))
    return FrameStackObservation(Flickering(env, blank), stack)


def flicker_id(blank: float, stack: int = 1) -> str:
    """The id of a flickering CartPole, as Flicker50-v0 or FlickerStack50-v0, without the module's name."""
    return f"Flicker{'Stack' if stack > 1 else ''}{100 * blank:.0f}-v0"


for stack, more in ((1, ""), (STACK, "Stack")):
    gym.register(f"Cue{more}-v0", cue, kwargs={"stack": stack})
    seen = {"seen": [0, 2], "blank": 0.0, "stack": stack}
    gym.register(f"Positions{more}-v0", cartpole, kwargs=seen, max_episode_steps=500)
    for blank in BLANKS:
        seen = {"seen": [0, 1, 2, 3], "blank": blank, "stack": stack}
        gym.register(flicker_id(blank, stack), cartpole, kwargs=seen, max_episode_steps=500)
for name, bins in (("Reach-v0", None), ("Reach5-v0", 5), ("Reach11-v0", 11)):
    gym.register(name, Reach, kwargs={"bins": bins}, max_episode_steps=20)
for size in (8, 12):
    gym.register(f"DeepSea{size}-v0", DeepSea, kwargs={"size": size}, disable_env_checker=True)
for num_actions in (5, 10, 20):
    gym.register(f"Corridor{num_actions}-v0", Corridor, kwargs={"num_actions": num_actions}, max_episode_steps=1_000)
for name, box in (("Gamble-v0", False), ("BoxGamble-v0", True)):
    gym.register(name, Gamble, kwargs={"box": box}, max_episode_steps=100)
# As minatar.gym.register_envs does, but the package is only imported when one of its games is made.
for game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders"):
    for version, minimal in enumerate((False, True)):
        name = f"MinAtar/{game.title().replace('_', '')}-v{version}"
        gym.register(name, "minatar.gym:BaseEnv", kwargs={"game": game, "use_minimal_action_set": minimal})
