"""Stable-Baselines3's DQN behind the command line and the run folder of dqn.py, for comparisons.

    python benchmark/peers/sb3_dqn.py --env-id CartPole-v1
    python -m benchmark run --scripts dqn.py benchmark/peers/sb3_dqn.py --env-ids CartPole-v1

Flags, environments, greedy evaluation and log are dqn.py's own; the learning is Stable-Baselines3's. Two flags have no
counterpart there, and args.json notes where they are asked for: --loss mse (it is always Huber's) and --compile.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

import dqn
from benchmark.peers import sb3


@dataclass
class Args(dqn.Args):
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run folder's name"""


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises dqn.BadInput, OSError, ..."""
    stable_baselines3 = sb3.package(dqn)
    dqn.check(args)
    if args.evaluate or args.capture_video:
        raise dqn.BadInput("sb3_dqn.py has neither --evaluate nor --capture-video")
    torch.set_num_threads(1)
    env = dqn.make_env(args)
    model = stable_baselines3.DQN(
        "MlpPolicy",
        env,
        learning_rate=(lambda remaining: args.learning_rate * remaining) if args.anneal_lr else args.learning_rate,
        buffer_size=args.buffer_size,
        learning_starts=args.learning_starts,
        batch_size=args.batch_size,
        tau=args.tau,
        gamma=args.gamma,
        train_freq=args.train_frequency,
        gradient_steps=1,
        target_update_interval=args.target_network_frequency,
        exploration_fraction=args.exploration_fraction,
        exploration_initial_eps=args.start_e,
        exploration_final_eps=args.end_e,
        max_grad_norm=args.max_grad_norm,
        policy_kwargs={"net_arch": list(args.hidden_sizes)},
        seed=args.seed,
        device="cuda" if args.cuda else "cpu",
    )

    def q_values(obs: np.ndarray) -> np.ndarray:
        """Q(s, ·) of one observation, (obs_dim,) -> (num_actions,)."""
        with torch.inference_mode():
            return model.q_net(torch.as_tensor(obs, device=model.device)[None])[0].cpu().numpy()

    def note(content: dict) -> dict:
        unused = {"loss": args.loss != "huber", "compile": args.compile}
        return {**content, "no_counterpart": [name for name, asked in unused.items() if asked]}

    def save(run_dir: Path) -> None:
        if args.save_model:
            torch.save(model.q_net.state_dict(), run_dir / "model.pt")

    def charts() -> dict[str, float]:
        return {"charts/epsilon": model.exploration_rate}

    return sb3.learn(dqn, args, model, lambda: dqn.evaluate(args, q_values), note, charts, save)


if __name__ == "__main__":
    sb3.command_line(dqn, train, Args, __doc__)
