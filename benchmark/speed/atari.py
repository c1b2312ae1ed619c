"""Steps of dqn_atari.py on Pong in steady state, and of CleanRL's unchanged dqn_atari.py.

    python -m benchmark.speed atari --cleanrl ~/cleanrl --cleanrl-python ~/cleanrl/.venv/bin/python
    python -m benchmark.speed atari --cuda --compile --num-envs 1 8 16

Batch 32, one update every 4 steps, ε fixed at 0.05. Both programs use their default number of threads on all cores, and
learn on the CPU, or with `--cuda` on the GPU.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from benchmark.speed.timing import in_turns, publish, report, step_of_cleanrl, step_of_script

WORK = {"learning_starts": 1_000, "start_e": 0.05, "end_e": 0.05, "buffer_size": 10_000}


@dataclass
class Args:
    repeats: int = 5  # times each program runs
    steps: int = 5_000  # environment steps of a run
    skip: int = 2_000  # steps that are not timed; learning starts at 1,000
    num_envs: tuple[int, ...] = (1, 8)  # games in parallel
    compile: bool = False  # with torch.compile
    cuda: bool = False  # learn on the GPU
    before: Path | None = None  # folder of another checkout of this repository, to time its dqn_atari.py too
    cleanrl: Path | None = None  # folder of a CleanRL checkout
    cleanrl_python: Path = Path(sys.executable)  # Python with the packages that CleanRL pins
    page: bool = False  # write the table into docs/results/dqn_atari.md


def ours(args: Args, num_envs: int, script: str | Path = "dqn_atari.py") -> float:
    """Microseconds a step of dqn_atari.py."""
    # One short game of evaluation follows the timed steps.
    flags = {"eval_frequency": args.steps, "eval_episodes": 1, "max_frames": 2_000}
    flags |= {
        "env_id": "PongNoFrameskip-v4",
        "total_timesteps": args.steps,
        "num_envs": num_envs,
        "cuda": args.cuda,
        "compile": args.compile,
    }
    return step_of_script(script, args.skip, **WORK, **flags)


def cleanrl(args: Args) -> float:
    """Microseconds a step of CleanRL's dqn_atari.py."""
    flags = WORK | {"total-timesteps": args.steps, "env-id": "PongNoFrameskip-v4"}
    line = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in flags.items())
    line += f" --{'' if args.cuda else 'no-'}cuda"
    return step_of_cleanrl(
        args.cleanrl / "cleanrl" / "dqn_atari.py", args.cleanrl_python, line, args.steps - args.skip, {}
    )


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    programs = {f"dqn_atari.py, {n} game{'s' * (n > 1)}": partial(ours, args, n) for n in args.num_envs}
    mine = list(programs)
    if args.before:
        earlier = args.before.resolve() / "dqn_atari.py"
        programs |= {f"before, {n} game{'s' * (n > 1)}": partial(ours, args, n, earlier) for n in args.num_envs}
    if args.cleanrl:
        programs["CleanRL"] = partial(cleanrl, args)
    title = "a step of DQN on Pong"
    table = report(in_turns(programs, args.repeats, title), title, mine)
    publish("dqn_atari", "atari", args, [table])


if __name__ == "__main__":
    main()
