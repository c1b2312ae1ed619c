"""The common part of the Stable-Baselines3 programs in this folder. They log, evaluate and leave a run folder like one
of our scripts; `script` is the module of that script.
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import numpy as np
import torch.nn as nn
import tyro

from benchmark.run_folder import text_hash, write_json


def package(script: ModuleType) -> ModuleType:
    """The module stable_baselines3. Raises the script's Stop if it is missing."""
    try:
        import stable_baselines3
    except ImportError as error:
        raise script.Stop("stable-baselines3 is missing: pip install stable-baselines3", 2) from error
    return stable_baselines3


def checked(script: ModuleType, make: Callable):
    """The arguments that `make()` returns. Raises the script's Stop if they contradict each other."""
    try:
        return make()
    except ValueError as error:
        raise script.Stop(error, 2) from error


def learn(
    script: ModuleType,
    args,
    model,
    network: nn.Module,
    evaluate: Callable[[int], tuple[dict[str, float], list[float]]],
    note: Callable[[dict], dict],
    program: Path,
    charts: Callable[[], dict[str, float]] = dict,
) -> Path:
    """Trains the model in its environment, evaluates it, and returns the run folder.

    args: the script's arguments. network: its weights are saved. evaluate: plays this number of episodes and gives
    metrics and returns. note: changes the script's args.json for this program, a file. charts: logged beside the speed.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    run_dir = script.make_run_dir(args)
    noted = note(json.loads((run_dir / "args.json").read_text()))
    noted |= {"sha256": text_hash(program), "stable_baselines3": package(script).__version__}
    (run_dir / "args.json").write_text(json.dumps(noted, indent=2))
    best_return, best_step, start_time = -np.inf, 0, time.time()

    with script.Run(args, run_dir, network) as run, closing(model.get_env()):

        def report(step: int, episodes: int) -> tuple[dict[str, float], list[float]]:
            nonlocal best_return, best_step
            run.save("model.pt")
            metrics, returns = evaluate(episodes)
            run.log(metrics, step)
            print(f"step {step:,}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f}", flush=True)
            if metrics["eval/episodic_return"] > best_return:
                best_return, best_step = metrics["eval/episodic_return"], step
                run.save("best_model.pt")
            return metrics, returns

        class Log(BaseCallback):
            def _on_step(self) -> bool:
                step = self.num_timesteps
                for info in self.locals["infos"]:
                    if episode := info.get("episode"):
                        length = {"charts/episodic_length": float(episode["l"])}
                        run.log({"charts/episodic_return": float(episode["r"])} | length, step)
                due = step % args.eval_frequency == 0 or step == args.total_timesteps
                if step % 100 == 0 or due:
                    run.log({**charts(), "charts/SPS": step / (time.time() - start_time)}, step)
                if due and step < args.total_timesteps:
                    report(step, args.eval_episodes)
                return True

        model.learn(args.total_timesteps, callback=Log())
        metrics, returns = report(args.total_timesteps, args.final_eval_episodes)
        run.writer.flush()
        best = {"best_return": best_return, "best_step": best_step}
        result = {**metrics, "returns": returns, **best, "global_step": args.total_timesteps}
        seconds = time.time() - start_time
        result |= {"updates": model._n_updates, "seconds": seconds, "sps": args.total_timesteps / seconds}
        write_json(run_dir / "result.json", result)
    greedy = f"greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes"
    print(f"{args.env_id}: {greedy}, trained {args.total_timesteps:,} steps in {seconds:.0f} s, see {run_dir}")
    return run_dir


def command_line(script: ModuleType, train: Callable, args: type, description: str) -> None:
    """Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        train(tyro.cli(args, description=description))
    except (script.Stop, OSError, MemoryError) as error:
        sentence, code = error.args if isinstance(error, script.Stop) else (error, 1)
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
