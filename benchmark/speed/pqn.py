"""Steps of pqn.py on CartPole-v1, beside CleanRL's unchanged pqn.py.

    python -m benchmark.speed pqn --cleanrl ~/cleanrl --cleanrl-python ~/cleanrl/.venv/bin/python

The work has CleanRL's defaults: 4 environments of 128 steps, four epochs of four minibatches, a network of 120-84 with
layer normalisation, RAdam, clipped gradients. Each program has one thread, on the same core. `--compile` times pqn.py
compiled too, and `--own` times it with its own default of 32 environments of 32 steps too.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from benchmark.speed.timing import in_turns, on_one_core, publish, report, step_of_cleanrl, step_of_script

WORK = {"num_envs": 4, "num_steps": 128, "num_minibatches": 4, "update_epochs": 4, "hidden_sizes": (120, 84)}
PHASE = 4 * 128  # steps between two lines of CleanRL's output


@dataclass
class Args:
    repeats: int = 5  # times each program runs
    steps: int = 102_400  # environment steps of a run
    skip: int = 20_480  # steps that are not timed
    compile: bool = False  # time pqn.py --compile too
    own: bool = False  # time it with its own number of environments too
    before: Path | None = None  # folder of another checkout of this repository, to time its pqn.py too
    cleanrl: Path | None = None  # folder of a CleanRL checkout
    cleanrl_python: Path = Path(sys.executable)  # Python with the packages that CleanRL pins
    page: bool = False  # write the table into docs/results/speed.md


def ours(args: Args, script: str | Path = "pqn.py", **flags) -> float:
    """Microseconds a step of pqn.py; its one evaluation follows the timed steps."""
    length = {"total_timesteps": args.steps, "eval_frequency": args.steps, "eval_episodes": 1, "final_eval_episodes": 1}
    return step_of_script(script, args.skip, **length, **flags)


def cleanrl(args: Args) -> float:
    """Microseconds a step of CleanRL's pqn.py."""
    script, flags = args.cleanrl / "cleanrl" / "pqn.py", f"--total-timesteps {args.steps} --no-cuda"
    env = {"OMP_NUM_THREADS": "1"}
    return step_of_cleanrl(script, args.cleanrl_python, flags, args.steps - args.skip, env, every=PHASE)


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    on_one_core()
    programs = {"pqn.py": partial(ours, args, **WORK)}
    if args.compile:
        programs["pqn.py --compile"] = partial(ours, args, **WORK, compile=True)
    if args.own:
        programs["pqn.py, 32 x 32"] = partial(ours, args, hidden_sizes=(120, 84))
    mine = list(programs)
    if args.before:
        programs["before"] = partial(ours, args, script=args.before.resolve() / "pqn.py", **WORK)
    if args.cleanrl:
        programs["CleanRL"] = partial(cleanrl, args)
    title = "a step of PQN on CartPole-v1"
    table = report(in_turns(programs, args.repeats, title), title, mine)
    publish("speed", "pqn", args, [table])


if __name__ == "__main__":
    main()
