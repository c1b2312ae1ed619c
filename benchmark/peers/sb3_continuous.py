"""Stable-Baselines3's SAC and TD3 behind the command line and the run folder of qt_opt.py, for comparisons.

    python benchmark/peers/sb3_continuous.py --algorithm sac --env-id Pendulum-v1
    python benchmark/peers/sb3_continuous.py --algorithm td3 --env-id Pendulum-v1 --learning-starts 500

The hyperparameters are those that its maintainers publish for Pendulum-v1, in RL Zoo (rl-baselines3-zoo, hyperparams/
sac.yml and td3.yml), for 20,000 steps; what is not listed there is Stable-Baselines3's default. Environments, greedy
evaluation and log are qt_opt.py's own.
"""

import json
import signal
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import tyro

import qt_opt

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
    """what learns"""
    learning_starts: int | None = None
    """environment steps before the first update (default: as published; td3 has 10,000 of its 20,000 steps)"""
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
    eval_episodes: int = 20
    """episodes in an evaluation"""
    runs_dir: Path = Path("runs")
    """where the run folder is made"""


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises qt_opt.BadInput, OSError, ..."""
    try:
        import stable_baselines3
        from stable_baselines3.common.callbacks import BaseCallback
        from stable_baselines3.common.noise import NormalActionNoise
    except ImportError as error:
        raise qt_opt.BadInput("stable-baselines3 is missing: pip install stable-baselines3") from error
    shared = {name: value for name, value in asdict(args).items() if name not in ("algorithm", "learning_starts")}
    ours = qt_opt.Args(**shared, learning_starts=0)
    qt_opt.check(ours)
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

    def evaluate() -> tuple[list[float], float]:
        """The undiscounted returns of the greedy policy, from the starts of qt_opt.evaluate, and their mean."""
        returns = []
        with closing(qt_opt.make_env(ours)) as env:
            for episode in range(args.eval_episodes):
                obs, _ = env.reset(seed=args.seed + 1_000_000 if episode == 0 else None)
                rewards, terminated, truncated = [], False, False
                while not (terminated or truncated):
                    action, _ = model.predict(obs, deterministic=True)
                    obs, reward, terminated, truncated, _ = env.step(action)
                    rewards.append(float(reward))
                returns.append(sum(rewards))
        return returns, float(np.mean(returns))

    run_dir = qt_opt.make_run_dir(ours)
    noted = json.loads((run_dir / "args.json").read_text())
    noted = {name: value for name, value in noted.items() if name in shared or name not in asdict(ours)}
    published = {name: str(value) if name == "action_noise" else value for name, value in published.items()}
    noted |= {"algorithm": args.algorithm, **published, "stable_baselines3": stable_baselines3.__version__}
    (run_dir / "args.json").write_text(json.dumps(noted, indent=2))
    best_return, best_step, start_time = -np.inf, 0, time.time()

    with closing(env), qt_opt.open_log(ours, run_dir) as log:

        def report(step: int) -> list[float]:
            nonlocal best_return, best_step
            log({"charts/SPS": step / (time.time() - start_time)}, step)
            returns, mean = evaluate()
            log({"eval/episodic_return": mean}, step)
            print(f"step {step:,}: greedy return {mean:.1f} ± {np.std(returns):.1f}", flush=True)
            if mean > best_return:
                best_return, best_step = mean, step
            return returns

        class Log(BaseCallback):
            def _on_step(self) -> bool:
                step = self.num_timesteps
                for info in self.locals["infos"]:
                    if episode := info.get("episode"):
                        length = {"charts/episodic_length": float(episode["l"])}
                        log({"charts/episodic_return": float(episode["r"])} | length, step)
                if step % args.eval_frequency == 0 and step < args.total_timesteps:
                    report(step)
                return True

        model.learn(args.total_timesteps, callback=Log())
        returns = report(args.total_timesteps)
        result = {"eval/episodic_return": float(np.mean(returns)), "returns": returns}
        result |= {"best_return": best_return, "best_step": best_step, "global_step": args.total_timesteps}
        qt_opt.write_result(ours, run_dir, {**result, "updates": model._n_updates}, seconds=time.time() - start_time)
    return run_dir


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        train(tyro.cli(Args, description=__doc__))
    except (qt_opt.BadInput, FloatingPointError, OSError, KeyboardInterrupt) as error:
        print(f"error: {error}" if str(error) else "interrupted", file=sys.stderr)
        sys.exit({qt_opt.BadInput: 2, KeyboardInterrupt: 130}.get(type(error), 1))


if __name__ == "__main__":
    main()
