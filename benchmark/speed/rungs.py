"""Steps of dqn.py and its rungs, and the cost of an update of each, eager and compiled.

    python -m benchmark.speed rungs
    python -m benchmark.speed rungs --scripts dqn.py rainbow.py --repeats 5

All scripts do the work of `peers`, with the same flags. drqn.py draws sequences; its batch of 16 sequences of 8 has the
same number of steps, and it cannot be compiled. qt_opt.py runs on Pendulum-v1, because its actions are continuous, so
its step has another environment and its update another maximum. Two times give the cost of an update: that of a step
with an update in every step, minus that of a step with an update in every tenth step, times 10/9.
"""

import statistics
from dataclasses import dataclass
from functools import partial

import tyro

from benchmark.pages import markdown
from benchmark.speed import peers
from benchmark.speed.timing import in_turns, on_one_core, publish, ratio
from tools.ladder import DQN_FAMILY

OWN = {"drqn.py": {"batch_size": 16, "sequence_length": 8}, "qt_opt.py": {"env_id": "Pendulum-v1"}}
SELDOM, ALWAYS = 10, 1  # environment steps between updates


@dataclass
class Args:
    scripts: tuple[str, ...] = tuple(DQN_FAMILY)  # the scripts; the others are compared with the first
    repeats: int = 3  # times each program runs
    steps: int = 4_000  # environment steps of a run
    skip: int = 1_500  # steps that are not timed; learning starts at 1,000
    compile: bool = True  # time them with --compile too
    page: bool = False  # write the table into docs/results/speed.md


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    on_one_core()
    work = peers.Args(steps=args.steps, skip=args.skip)
    kinds = [(script, compiled) for script in args.scripts for compiled in (False, True)[: 1 + args.compile]]
    kinds = [kind for kind in kinds if kind != ("drqn.py", True)]
    programs = {
        (script, compiled, every): partial(
            peers.step, work, every, script=script, compile=compiled, **OWN.get(script, {})
        )
        for script, compiled in kinds
        for every in (SELDOM, ALWAYS)
    }
    times = in_turns(programs, args.repeats, "rungs")
    update = {}  # of each turn
    for kind in kinds:
        pairs = zip(times[*kind, SELDOM], times[*kind, ALWAYS], strict=True)
        update[kind] = [(always - seldom) / (1 / ALWAYS - 1 / SELDOM) for seldom, always in pairs]
    first, rows = (args.scripts[0], False), []
    for kind in kinds:
        script, compiled = kind
        medians = [statistics.median(values) for values in (times[*kind, SELDOM], times[*kind, ALWAYS], update[kind])]
        name = f"`{script}{' --compile' * compiled}`"
        rows.append([name, *(f"{value:.0f}" for value in medians), f"{ratio(update[kind], update[first]):.2f}"])
    header = ["µs", "a step, an update in ten", "a step, an update in each", "an update", f"times {first[0]}'s"]
    table = markdown(header, rows)
    print(table)
    publish("speed", "rungs", args, [f"Medians of {args.repeats} runs of {args.steps:,} steps:\n\n{table}"])


if __name__ == "__main__":
    main()
