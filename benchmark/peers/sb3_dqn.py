"""Stable-Baselines3's DQN behind the command line and the run folder of dqn.py, for comparisons.

    python benchmark/peers/sb3_dqn.py --env-id CartPole-v1
    python -m benchmark run --scripts dqn.py benchmark/peers/sb3_dqn.py --env-ids CartPole-v1

Flags, environments, greedy evaluation and log are dqn.py's own; the learning is Stable-Baselines3's. Two flags have no
counterpart there, and args.json notes where they are asked for: --loss mse (it is always Huber's) and --compile.
"""

import json
import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import tyro

import dqn


@dataclass
class Args(dqn.Args):
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run folder's name"""


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises dqn.BadInput, OSError, ..."""
    try:
        import stable_baselines3
        from stable_baselines3.common.callbacks import BaseCallback
    except ImportError as error:
        raise dqn.BadInput("stable-baselines3 is missing: pip install stable-baselines3") from error
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

    run_dir = dqn.make_run_dir(args)
    noted = json.loads((run_dir / "args.json").read_text())
    noted["stable_baselines3"] = stable_baselines3.__version__
    noted["no_counterpart"] = [
        name for name, used in (("loss", args.loss != "huber"), ("compile", args.compile)) if used
    ]
    (run_dir / "args.json").write_text(json.dumps(noted, indent=2))
    best_return, best_step, start_time = -np.inf, 0, time.time()

    with closing(env), dqn.open_log(args, run_dir) as log:

        def evaluate(global_step: int) -> tuple[list[float], dict[str, float]]:
            nonlocal best_return, best_step
            returns, metrics = dqn.evaluate(args, q_values)
            log(metrics, global_step)
            print(f"step {global_step:,}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f}", flush=True)
            if metrics["eval/episodic_return"] > best_return:
                best_return, best_step = metrics["eval/episodic_return"], global_step
            return returns, metrics

        class Log(BaseCallback):
            def _on_step(self) -> bool:
                step = self.num_timesteps
                for info in self.locals["infos"]:
                    if episode := info.get("episode"):
                        length = {"charts/episodic_length": float(episode["l"])}
                        log({"charts/episodic_return": float(episode["r"])} | length, step)
                if step % 100 == 0:
                    sps = step / (time.time() - start_time)
                    log({"charts/epsilon": self.model.exploration_rate, "charts/SPS": sps}, step)
                if step % args.eval_frequency == 0 and step < args.total_timesteps:
                    evaluate(step)
                return True

        model.learn(args.total_timesteps, callback=Log())
        if args.save_model:
            torch.save(model.q_net.state_dict(), run_dir / "model.pt")
        returns, metrics = evaluate(args.total_timesteps)
        best = {"best_return": best_return, "best_step": best_step}
        result = {**metrics, "returns": returns, **best, "global_step": args.total_timesteps}
        dqn.write_result(args, run_dir, {**result, "updates": model._n_updates}, seconds=time.time() - start_time)
    return run_dir


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        train(tyro.cli(Args, description=__doc__))
    except (dqn.BadInput, FloatingPointError, OSError, KeyboardInterrupt) as error:
        print(f"error: {error}" if str(error) else "interrupted", file=sys.stderr)
        sys.exit({dqn.BadInput: 2, KeyboardInterrupt: 130}.get(type(error), 1))


if __name__ == "__main__":
    main()
