"""What an environment does that a trainer must know: how far seeds reach, what closing does, ..."""

import random
import time
from collections.abc import Callable
from copy import deepcopy

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

STEPS, SECONDS, BUDGET = 200, 2.0, 6.0  # of one check, and of all


def episode(env: gym.Env, seed: int | None, actions, steps: int = 30) -> list:
    """What an episode's first steps send, with the same actions every time; seed None: the next episode."""
    actions.seed(seed or 0)
    sent, ended = [deepcopy(env.reset(seed=seed)[0])], False
    while len(sent) <= steps and not ended:
        obs, reward, terminated, truncated, _ = env.step(actions.sample())
        sent.append(deepcopy((obs, np.asarray(reward, float), bool(terminated))))
        ended = terminated or truncated
    return sent


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(data_equivalence(*pair) for pair in zip(one, other, strict=True))


def seed_globals(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)


def seeds(make: Callable[[], gym.Env], actions) -> list[str]:
    """How far reset(seed=...) reaches. Two copies are played while the global generators differ, then a used one."""
    episodes = {}
    for state in (1, 1, 2):
        seed_globals(7)
        env = make()
        seed_globals(state)
        first = [sent for seed in (1, 2, 3) for sent in episode(env, seed, actions)]
        seed_globals(state + 10)
        next_one, again = episode(env, None, actions), episode(env, 1, actions)
        episodes.setdefault(state, []).append((first, next_one, again))
    (a, b), (c,) = episodes[1], episodes[2]
    if not same(a[0], b[0]):
        return ["a seed does not repeat an episode"]
    if not same(a[0], c[0]):
        return ["draws from the global generators and not from its seed"]
    found = []
    if not same(a[1], c[1]):
        found.append("the seed reaches the first episode only")
    if not same(a[0][: len(a[2])], a[2]):
        found.append("a seed repeats no episode in a used environment")
    return found


def globals_seeded(make: Callable[[], gym.Env], actions) -> list[str]:
    env, drawn = make(), []
    for state in (1, 2):
        seed_globals(state)
        env.reset(seed=3)
        drawn.append((random.random(), np.random.random()))
    named = [name for name, one, other in zip(("Python's", "NumPy's"), *drawn, strict=True) if one == other]
    return [f"reset(seed=...) seeds {' and '.join(named)} global generator"] if named else []


def action_spaces(make: Callable[[], gym.Env], actions) -> list[str]:
    env = make()
    env.reset(seed=1)
    before = env.action_space
    before.seed(1)
    drawn = []
    for _ in range(2):
        env.reset()
        drawn.append(tuple(env.action_space.sample() for _ in range(20)))
    if data_equivalence(*drawn):
        return ["reset() rewinds action_space.sample()"]
    return ["reset() makes a new action_space"] if env.action_space is not before else []


def numbers(make: Callable[[], gym.Env], actions) -> list[str]:
    """Observations out of their space or changed later, and rewards that are no number."""
    env, found, start = make(), set(), time.perf_counter()
    actions.seed(0)
    obs, steps = env.reset(seed=1)[0], 0
    while steps < STEPS and time.perf_counter() - start < SECONDS:
        kept = deepcopy(obs)
        next_obs, reward, terminated, truncated, _ = env.step(actions.sample())
        if not data_equivalence(obs, kept):
            found.add("observations change after they were handed out")
        if next_obs not in env.observation_space:
            found.add("observations out of observation_space")
        if np.shape(reward) not in ((), (1,)):
            found.add(f"rewards of shape {np.shape(reward)}")
        obs, steps = next_obs, steps + 1
        if terminated or truncated:
            obs = env.reset()[0]
    return sorted(found)


def closing(make: Callable[[], gym.Env], actions) -> list[str]:
    env = make()
    env.reset(seed=1)
    for times in ("", " the second time"):
        try:
            env.close()
        except Exception as error:
            return [f"close() raises {type(error).__name__}{times}"]
    return []


CHECKS = (seeds, globals_seeded, action_spaces, numbers, closing)


def habits(make: Callable[[], gym.Env]) -> list[str]:
    """All that the checks find. A check that fails is left out, with the name of its error."""
    found, start = [], time.perf_counter()
    for check in CHECKS:
        if time.perf_counter() - start > BUDGET:
            found.append(f"{check.__name__} not checked: out of time")
            continue
        try:
            found += check(make, deepcopy(make().action_space))
        except Exception as error:
            found.append(f"{check.__name__} not checked: {type(error).__name__}")
    return found
