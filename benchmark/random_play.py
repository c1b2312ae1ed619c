"""Plays at random in the environment of a script's command line. Prints spaces, steps a second, returns and habits.

python -m benchmark.random_play dqn.py --env-id CartPole-v1
"""

import importlib
import json
import re
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro

from benchmark.habits import habits

EPISODES, SECONDS = 20, 4.0


def play(env, seed: int) -> dict[str, str]:
    """The mean return of the first episodes, as far as they end within the time, and the steps a second."""
    env.action_space.seed(seed)
    env.reset(seed=seed)
    env.step(env.action_space.sample())  # some environments compile themselves at their first step
    returns, steps, start, ended = [], 0, time.perf_counter(), True
    while ended and len(returns) < EPISODES:
        env.reset(seed=seed + len(returns))
        total, ended = 0.0, False
        while not ended and time.perf_counter() - start < SECONDS:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, steps, ended = total + reward, steps + 1, terminated or truncated
        if ended:
            returns.append(total)
    sps = steps / (time.perf_counter() - start)
    mean = f"{np.mean(returns):.4g}" if returns else ""
    return {"random_sps": f"{sps:.4g}", "random_return": mean, "random_episodes": str(len(returns))}


def short(space) -> str:
    """The text of a space without long arrays and addresses."""
    if isinstance(space, gym.spaces.Dict):
        return "Dict(" + ", ".join(f"{name}: {short(part)}" for name, part in space.items()) + ")"
    if isinstance(space, gym.spaces.Tuple):
        return "Tuple(" + ", ".join(map(short, space)) + ")"
    if isinstance(space, gym.spaces.Box) and (len(np.unique(space.low)) > 1 or len(np.unique(space.high)) > 1):
        return f"Box({space.shape}, {space.dtype})"
    if isinstance(space, gym.spaces.MultiDiscrete) and space.nvec.size > 6:
        return f"MultiDiscrete({space.shape}, up to {space.nvec.max()})"
    return re.sub(r" at 0x\w+", "", " ".join(str(space).split()))


def main() -> None:
    script, *flags = sys.argv[1:] or ["--help"]
    if script == "--help":
        sys.exit(print(__doc__))
    module = importlib.import_module(Path(script).stem)
    sys.path.append(str(Path.cwd()))  # for --env-id module:id, as in the script
    args = tyro.cli(module.Args, args=flags)
    try:
        env = module.make_env(args)
    except module.Stop as error:
        sys.exit(f"error: {error.args[0]}")
    inner = env.unwrapped
    found = {"observation": short(inner.observation_space), "action": short(inner.action_space)}
    limit = str(env.spec.max_episode_steps or "none")
    print(json.dumps(found | {"limit": limit} | play(env, args.seed)), flush=True)
    print(json.dumps({"habits": ", ".join(habits(lambda: module.make_env(args).unwrapped))}))


if __name__ == "__main__":
    main()
