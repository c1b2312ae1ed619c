"""Stable-Baselines3's DQN behind the command line and the run folder of dqn.py, for comparisons.

    python benchmark/peers/sb3_dqn.py --env-id CartPole-v1
    python benchmark/peers/sb3_dqn.py --env-id CartPole-v1 --published
    python -m benchmark run --scripts dqn.py "benchmark/peers/sb3_dqn.py --published" --env-ids CartPole-v1

Flags, environments, greedy evaluation and log are those of dqn.py; the learning is Stable-Baselines3's. Two flags have
no counterpart there: --loss mse (the loss is always Huber's) and --compile. args.json notes if they were given.

Flags set the hyperparameters. With --published they are those that the maintainers publish for the environment in RL
Zoo (rl-baselines3-zoo, hyperparams/dqn.yml at commit 22e3ff2). If they publish none, as for Pendulum-v1, the flags set
them. The flag always sets the number of steps, because contenders are compared at equal steps.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

import dqn
from benchmark.peers import sb3

RL_ZOO = {  # with the names of our flags; all others are Stable-Baselines3's defaults
    "CartPole-v1": {
        "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000, "gamma": 0.99,
        "target_network_frequency": 10, "train_frequency": 256, "gradient_steps": 128, "exploration_fraction": 0.16,
        "end_e": 0.04,
    },
    "MountainCar-v0": {
        "learning_rate": 4e-3, "batch_size": 128, "buffer_size": 10_000, "learning_starts": 1_000, "gamma": 0.98,
        "target_network_frequency": 600, "train_frequency": 16, "gradient_steps": 8, "exploration_fraction": 0.2,
        "end_e": 0.07,
    },
    "LunarLander-v3": {
        "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0, "gamma": 0.99,
        "target_network_frequency": 250, "train_frequency": 4, "gradient_steps": -1, "exploration_fraction": 0.12,
        "end_e": 0.1,
    },
}  # fmt: skip
RL_ZOO["Acrobot-v1"] = RL_ZOO["LunarLander-v3"]
DEFAULTS = {"hidden_sizes": (256, 256), "tau": 1.0, "max_grad_norm": 10.0, "anneal_lr": False, "start_e": 1.0}


@dataclass
class Args(dqn.Args):
    published: bool = False
    """use the hyperparameters that RL Zoo publishes for the environment instead of the flags"""
    gradient_steps: int = 1
    """updates every train_frequency steps (-1: one for each step)"""
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run folder's name"""


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises dqn.Stop, OSError, ..."""
    return train_with(args, Path(__file__), sb3.package(dqn).DQN, RL_ZOO, (), lambda model: model.q_net, lambda q: q)


def train_with(
    args: Args,
    program: Path,
    algorithm: type,
    published: dict,
    policy: tuple[str, ...],
    network: Callable,
    mean: Callable[..., torch.Tensor],
) -> Path:
    """Trains and evaluates; sb3_qrdqn.py calls it with another algorithm and other published hyperparameters.

    program: its file. policy: flags that are arguments of the policy, beside hidden_sizes. network: gives the network
    of a model. mean: turns the network's output into Q(s, ·), (1, num_actions).
    """
    if args.published:
        if args.env_id in published:
            theirs = DEFAULTS | published[args.env_id] | {"loss": "huber"}
            args = sb3.checked(dqn, lambda: replace(args, **theirs))
        else:
            name, flags = algorithm.__name__, "the flags' count"
            print(f"RL Zoo publishes no hyperparameters of {name} for {args.env_id}: {flags}", file=sys.stderr)
    if args.evaluate or args.capture_video:
        raise dqn.Stop("the programs of Stable-Baselines3 have neither --evaluate nor --capture-video", 2)
    torch.set_num_threads(1)
    env = dqn.make_env(args)
    model = algorithm(
        "MlpPolicy",
        env,
        learning_rate=(lambda remaining: args.learning_rate * remaining) if args.anneal_lr else args.learning_rate,
        buffer_size=args.buffer_size,
        learning_starts=args.learning_starts,
        batch_size=args.batch_size,
        tau=args.tau,
        gamma=args.gamma,
        train_freq=args.train_frequency,
        gradient_steps=args.gradient_steps,
        target_update_interval=args.target_network_frequency,
        exploration_fraction=args.exploration_fraction,
        exploration_initial_eps=args.start_e,
        exploration_final_eps=args.end_e,
        max_grad_norm=args.max_grad_norm,
        policy_kwargs={"net_arch": list(args.hidden_sizes)} | {name: getattr(args, name) for name in policy},
        seed=args.seed,
        device="cuda" if args.cuda else "cpu",
    )

    def q_values(obs: np.ndarray) -> np.ndarray:
        """Q(s, ·) of one observation, (obs_dim,) -> (num_actions,)."""
        with torch.inference_mode():
            return mean(network(model)(torch.as_tensor(obs, device=model.device)[None]))[0].cpu().numpy()

    def note(content: dict) -> dict:
        unused = {"loss": args.loss != "huber", "compile": args.compile}
        return {**content, "no_counterpart": [name for name, asked in unused.items() if asked]}

    def charts() -> dict[str, float]:
        return {"charts/epsilon": model.exploration_rate}

    with dqn.make_env(args) as eval_env:

        def evaluate(episodes: int) -> tuple[dict[str, float], list[float]]:
            return dqn.evaluate(eval_env, q_values, args, episodes)

        return sb3.learn(dqn, args, model, network(model), evaluate, note, program, charts)


if __name__ == "__main__":
    sb3.command_line(dqn, train, Args, __doc__)
