"""Stable-Baselines3's SAC and TD3 behind the command line and the run folder of qt_opt.py, for comparisons.

    python benchmark/peers/sb3_continuous.py --algorithm sac --env-id Pendulum-v1
    python benchmark/peers/sb3_continuous.py --algorithm td3 --env-id Pendulum-v1 --learning-starts 500

The maintainers publish these hyperparameters for Pendulum-v1 and 20,000 steps in RL Zoo (rl-baselines3-zoo,
hyperparams/sac.yml and td3.yml). All others are Stable-Baselines3's defaults. Environments, greedy evaluation and log
are those of qt_opt.py.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

import qt_opt
from benchmark.peers import sb3

RL_ZOO = {
    "sac": {"learning_rate": 1e-3},
    "td3": {
        "gamma": 0.98,
        "buffer_size": 200_000,
        "learning_starts": 10_000,
        "learning_rate": 1e-3,
        "policy_kwargs": {"net_arch": [400, 300]},
    },
}
TD3_NOISE = 0.1  # standard deviation of the normal noise on its actions in [-1, 1]


@dataclass
class Args:
    algorithm: Literal["sac", "td3"] = "sac"
    """the algorithm"""
    learning_starts: int | None = None
    """environment steps before the first update (default: the published value; for td3 it is 10,000 of 20,000 steps)"""
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run folder's name"""
    env_id: str = "Pendulum-v1"
    """Gymnasium id, or module:id if importing the module registers it"""
    seed: int = 1
    """seed of everything"""
    total_timesteps: int = 20_000
    """environment steps to train for"""
    eval_frequency: int = 1_000
    """environment steps between greedy evaluations"""
    eval_episodes: int = 5
    """episodes of an evaluation during training"""
    final_eval_episodes: int = 20
    """episodes of the evaluation at the end"""
    runs_dir: Path = Path("runs")
    """folder of the run folder"""


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises qt_opt.Stop, OSError, ..."""
    stable_baselines3 = sb3.package(qt_opt)
    from stable_baselines3.common.noise import NormalActionNoise

    shared = {name: value for name, value in asdict(args).items() if name not in ("algorithm", "learning_starts")}
    ours = sb3.checked(qt_opt, lambda: qt_opt.Args(**shared, learning_starts=0))
    torch.set_num_threads(1)
    env = qt_opt.make_env(ours)
    published = dict(RL_ZOO[args.algorithm])
    if args.learning_starts is not None:
        published["learning_starts"] = args.learning_starts
    if args.algorithm == "td3":
        zeros = np.zeros(env.action_space.shape)
        published["action_noise"] = NormalActionNoise(zeros, np.full_like(zeros, TD3_NOISE))
    kind = {"sac": stable_baselines3.SAC, "td3": stable_baselines3.TD3}[args.algorithm]
    model = kind("MlpPolicy", env, **published, seed=args.seed, device="cpu")

    def evaluate(episodes: int) -> tuple[dict[str, float], list[float]]:
        """The metric, and the undiscounted returns of the greedy policy, from the starts of qt_opt.evaluate."""
        returns = []
        for episode in range(episodes):
            obs, _ = eval_env.reset(seed=1_000_000 + 1_000 * args.seed + episode)
            episodic_return, terminated, truncated = 0.0, False, False
            while not (terminated or truncated):
                action, _ = model.predict(obs, deterministic=True)
                obs, reward, terminated, truncated, _ = eval_env.step(action)
                episodic_return += reward
            returns.append(episodic_return)
        return {"eval/episodic_return": float(np.mean(returns))}, returns

    def note(content: dict) -> dict:
        own = {name: value for name, value in content.items() if name in shared or name not in asdict(ours)}
        used = {name: str(value) if name == "action_noise" else value for name, value in published.items()}
        return {**own, "algorithm": args.algorithm, **used}

    with qt_opt.make_env(ours) as eval_env:
        return sb3.learn(qt_opt, ours, model, model.policy, evaluate, note, Path(__file__))


if __name__ == "__main__":
    sb3.command_line(qt_opt, train, Args, __doc__)
