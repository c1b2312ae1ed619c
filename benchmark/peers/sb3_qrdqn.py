"""QR-DQN of Stable-Baselines3 behind the command line and the run folder of dqn.py, to compare with c51.py.

    python benchmark/peers/sb3_qrdqn.py --env-id CartPole-v1
    python benchmark/peers/sb3_qrdqn.py --env-id CartPole-v1 --published

QR-DQN learns the quantiles of the return, and c51.py learns the probabilities of atoms. So QR-DQN needs no support. It
is in the package sb3-contrib. The rest is as in sb3_dqn.py; --published takes hyperparams/qrdqn.yml of the same commit.

Dabney et al. (2018), "Distributional reinforcement learning with quantile regression", AAAI.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import dqn
from benchmark.peers import sb3, sb3_dqn

RL_ZOO = {
    env_id: sb3_dqn.RL_ZOO[env_id] | {"n_quantiles": n_quantiles}
    for env_id, n_quantiles in {"CartPole-v1": 10, "MountainCar-v0": 25, "Acrobot-v1": 25}.items()
}
RL_ZOO["LunarLander-v3"] = {
    "learning_rate": 1.5e-3, "anneal_lr": True, "batch_size": 128, "buffer_size": 100_000, "learning_starts": 10_000,
    "gamma": 0.995, "target_network_frequency": 1, "train_frequency": 256, "gradient_steps": -1,
    "exploration_fraction": 0.24, "end_e": 0.18, "n_quantiles": 170,
}  # fmt: skip


@dataclass
class Args(sb3_dqn.Args):
    n_quantiles: int = 51
    """quantiles of the return (c51.py has 51 atoms)"""
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run folder's name"""


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises dqn.Stop, OSError, ..."""
    sb3.package(dqn)
    try:
        from sb3_contrib import QRDQN
    except ImportError as error:
        raise dqn.Stop("sb3-contrib is missing: pip install sb3-contrib", 2) from error
    # the network gives (1, n_quantiles, num_actions)
    network, mean = lambda model: model.quantile_net, lambda quantiles: quantiles.mean(dim=1)
    return sb3_dqn.train_with(args, Path(__file__), QRDQN, RL_ZOO, ("n_quantiles",), network, mean)


if __name__ == "__main__":
    sb3.command_line(dqn, train, Args, __doc__)
