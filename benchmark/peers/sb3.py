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
import tyro


def package(script: ModuleType) -> ModuleType:
    """The module stable_baselines3. Raises the script's BadInput if it is missing."""
    try:
        import stable_baselines3
    except ImportError as error:
        raise script.BadInput("stable-baselines3 is missing: pip install stable-baselines3") from error
    return stable_baselines3


def learn(
    script: ModuleType,
    args,
    model,
    evaluate: Callable[[], tuple[list[float], dict[str, float]]],
    note: Callable[[dict], dict],
    charts: Callable[[], dict[str, float]] = dict,
    save: Callable[[Path], None] = lambda run_dir: None,
) -> Path:
    """Trains the model in its environment, evaluates it, and returns the run folder.

    args: the script's arguments. evaluate: gives returns and metrics. note: changes the script's args.json for this
    program. charts: logged beside the speed. save: writes the weights.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    run_dir = script.make_run_dir(args)
    noted = note(json.loads((run_dir / "args.json").read_text()))
    noted["stable_baselines3"] = package(script).__version__
    (run_dir / "args.json").write_text(json.dumps(noted, indent=2))
    best_return, best_step, start_time = -np.inf, 0, time.time()

    with closing(model.get_env()), script.open_log(args, run_dir) as log:

        def report(step: int) -> tuple[list[float], dict[str, float]]:
            nonlocal best_return, best_step
            returns, metrics = evaluate()
            log(metrics, step)
            print(f"step {step:,}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f}", flush=True)
            if metrics["eval/episodic_return"] > best_return:
                best_return, best_step = metrics["eval/episodic_return"], step
            return returns, metrics

        class Log(BaseCallback):
            def _on_step(self) -> bool:
                step = self.num_timesteps
                for info in self.locals["infos"]:
                    if episode := info.get("episode"):
                        length = {"charts/episodic_length": float(episode["l"])}
                        log({"charts/episodic_return": float(episode["r"])} | length, step)
                due = step % args.eval_frequency == 0 or step == args.total_timesteps
                if step % 100 == 0 or due:
                    log({**charts(), "charts/SPS": step / (time.time() - start_time)}, step)
                if due and step < args.total_timesteps:
                    report(step)
                return True

        model.learn(args.total_timesteps, callback=Log())
        save(run_dir)
        returns, metrics = report(args.total_timesteps)
        best = {"best_return": best_return, "best_step": best_step}
        result = {**metrics, "returns": returns, **best, "global_step": args.total_timesteps}
        result["updates"] = model._n_updates
        script.write_result(args, run_dir, result, seconds=time.time() - start_time)
    return run_dir


def command_line(script: ModuleType, train: Callable, args: type, description: str) -> None:
    """Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        train(tyro.cli(args, description=description))
    except (script.BadInput, FloatingPointError, OSError, KeyboardInterrupt) as error:
        if script.of_environment(error):
            raise
        print(f"error: {error}" if str(error) else "interrupted", file=sys.stderr)
        sys.exit({script.BadInput: 2, KeyboardInterrupt: 130}.get(type(error), 1))
