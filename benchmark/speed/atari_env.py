"""Only the game, random actions on Pong: dqn_atari.py's environment against the wrappers of CleanRL's dqn_atari.py.

    python -m benchmark.speed atari_env

CleanRL uses the wrappers of Stable-Baselines3 and Gymnasium, in a SyncVectorEnv with one environment.
"""

import time
from dataclasses import dataclass
from functools import partial

import gymnasium as gym
import numpy as np
import tyro

import dqn_atari
from benchmark.speed.timing import in_turns, publish, report


@dataclass
class Args:
    repeats: int = 5  # times each program runs
    steps: int = 12_000  # environment steps of a run
    num_envs: tuple[int, ...] = (1, 8)  # games in parallel
    page: bool = False  # write the table into docs/results/dqn_atari.md


def cleanrl_wrappers() -> gym.Env:
    """Pong with the wrappers of CleanRL's dqn_atari.py."""
    from stable_baselines3.common import atari_wrappers

    env = gym.make("ale_py:PongNoFrameskip-v4")
    env = gym.wrappers.RecordEpisodeStatistics(env)
    env = atari_wrappers.NoopResetEnv(env, noop_max=30)
    env = atari_wrappers.MaxAndSkipEnv(env, skip=4)
    env = atari_wrappers.EpisodicLifeEnv(env)
    env = atari_wrappers.FireResetEnv(env)
    env = atari_wrappers.ClipRewardEnv(env)
    env = gym.wrappers.ResizeObservation(env, (84, 84))
    env = gym.wrappers.GrayscaleObservation(env)
    return gym.wrappers.FrameStackObservation(env, 4)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    ours = dqn_atari.with_protocol(dqn_atari.Args(env_id="PongNoFrameskip-v4"))
    envs = {f"dqn_atari.py, {n} game{'s' * (n > 1)}": dqn_atari.make_env(ours, n) for n in args.num_envs}
    mine = list(envs)
    envs["CleanRL's wrappers"] = gym.vector.SyncVectorEnv([cleanrl_wrappers])

    def microseconds(env: gym.vector.VectorEnv) -> float:
        n, rng = env.num_envs, np.random.default_rng(1)
        env.reset(seed=1)
        begin = time.perf_counter()
        for _ in range(args.steps // n):
            env.step(rng.integers(6, size=n))
        return (time.perf_counter() - begin) / (args.steps // n * n) * 1e6

    title = "a step of Pong alone"
    programs = {name: partial(microseconds, env) for name, env in envs.items()}
    table = report(in_turns(programs, args.repeats, title), title, mine)
    publish("dqn_atari", "atari_env", args, [table])


if __name__ == "__main__":
    main()
