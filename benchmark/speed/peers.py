"""Steps of dqn.py in steady state, beside Stable-Baselines3 and CleanRL.

    python -m benchmark.speed peers --compile
    python -m benchmark.speed peers --cleanrl ~/cleanrl --cleanrl-python ~/cleanrl/.venv/bin/python --jax
    python -m benchmark.speed peers --before ~/qladder-as-it-was

The work has CleanRL's settings: CartPole-v1, network 120-84, batch 128, Adam at 2.5e-4, mean squared error, no
clipping, target copied every 500 steps. ε is fixed at 0.05, so nearly every step needs the network. Every program runs
in its own process with one thread, all on the same core. The timed steps are those from `skip` to the end, after the
start of learning. Stable-Baselines3 always uses the Huber loss.

CleanRL cannot be installed as a package. Give the folder of a checkout and a Python with its packages to time its
unchanged dqn.py, and with `--jax` its dqn_jax.py. With `--before`, the dqn.py of another checkout of this repository
takes part.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from benchmark.speed.timing import bars, in_turns, on_one_core, publish, report, step_of_cleanrl, step_of_script

WORK = {
    "learning_starts": 1_000,
    "start_e": 0.05,
    "end_e": 0.05,
    "hidden_sizes": (120, 84),
    "batch_size": 128,
    "buffer_size": 10_000,
    "learning_rate": 2.5e-4,
    "target_network_frequency": 500,
    "tau": 1.0,
    "max_grad_norm": "inf",
    "eval_episodes": 1,
    "final_eval_episodes": 1,
}


@dataclass
class Args:
    train_frequencies: tuple[int, ...] = (10, 1)  # environment steps between updates, one table for each
    repeats: int = 5  # times each program runs
    steps: int = 12_000  # environment steps of a run
    skip: int = 3_000  # steps that are not timed; learning starts at 1,000
    compile: bool = False  # time dqn.py --compile too
    before: Path | None = None  # folder of another checkout of this repository, to time its dqn.py too
    cleanrl: Path | None = None  # folder of a CleanRL checkout
    cleanrl_python: Path = Path(sys.executable)  # Python with the packages that CleanRL pins
    jax: bool = False  # time CleanRL's dqn_jax.py too
    page: bool = False  # write the table into docs/results/speed.md


def step(args: Args, train_frequency: int, script: str | Path = "dqn.py", **flags) -> float:
    """Microseconds a step of a program with our command line."""
    length = {"total_timesteps": args.steps, "eval_frequency": args.steps, "train_frequency": train_frequency}
    return step_of_script(script, args.skip, **{**WORK, **length, **flags})


def cleanrl(args: Args, train_frequency: int, script: str) -> float:
    """Microseconds a step of CleanRL's dqn.py or dqn_jax.py, with one thread."""
    flags = f"--start-e 0.05 --learning-starts 1000 --train-frequency {train_frequency} --total-timesteps {args.steps}"
    xla = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    env = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": xla}
    return step_of_cleanrl(args.cleanrl / "cleanrl" / script, args.cleanrl_python, flags, args.steps - args.skip, env)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    on_one_core()
    sb3 = partial(step, args, script="benchmark/peers/sb3_dqn.py", loss="huber")
    programs = {"dqn.py": partial(step, args), "Stable-Baselines3": sb3}
    if args.compile:
        programs["dqn.py --compile"] = partial(step, args, compile=True)
    if args.before:
        earlier = args.before.resolve() / "dqn.py"
        programs["before"] = partial(step, args, script=earlier)
        if args.compile:
            programs["before --compile"] = partial(step, args, script=earlier, compile=True)
    if args.cleanrl:
        programs["CleanRL"] = partial(cleanrl, args, script="dqn.py")
        if args.jax:
            programs["CleanRL dqn_jax.py"] = partial(cleanrl, args, script="dqn_jax.py")
    mine = [name for name in programs if name.startswith("dqn.py")]
    times, tables = {}, []
    for every in args.train_frequencies:
        title = f"a step, one update every {every} steps"
        turns = {name: partial(program, train_frequency=every) for name, program in programs.items()}
        times[title] = in_turns(turns, args.repeats, title)
        tables.append(report(times[title], title, mine))
    figure = bars(times, mine) if args.page else None
    publish("speed", "peers", args, tables, figure, "Microseconds a step of each program, medians and ranges")


if __name__ == "__main__":
    main()
