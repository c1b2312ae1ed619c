"""Steps of dqn.py and its rungs, and the cost of an update of each, eager and compiled.

    python -m benchmark.speed rungs
    python -m benchmark.speed rungs --scripts dqn.py rainbow.py --repeats 5
    python -m benchmark.speed rungs --before ~/qladder-as-it-was

All scripts do the work of `peers`, with the same flags. drqn.py draws sequences; its batch of 16 sequences of 8 has the
same number of steps, and it cannot be compiled. qt_opt.py runs on Pendulum-v1, because its actions are continuous, so
its step has another environment and its update another maximum. Two times give the cost of an update: that of a step
with an update in every step, minus that of a step with an update in every tenth step, times 10/9. With `--before`, the
same scripts of another checkout of this repository take turns with them; scripts that it lacks are left out.
"""

import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from benchmark.pages import markdown
from benchmark.run_folder import ROOT
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
    before: Path | None = None  # folder of another checkout of this repository, to time its scripts too
    page: bool = False  # write the table into docs/results/speed.md


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    on_one_core()
    work = peers.Args(steps=args.steps, skip=args.skip)
    kinds = [(script, compiled) for script in args.scripts for compiled in (False, True)[: 1 + args.compile]]
    kinds = [kind for kind in kinds if kind != ("drqn.py", True)]
    folders = [ROOT] if args.before is None else [ROOT, args.before.resolve()]
    programs = {
        (folder, script, compiled, every): partial(
            peers.step, work, every, script=folder / script, compile=compiled, **OWN.get(script, {})
        )
        for script, compiled in kinds
        for folder in folders
        if folder == ROOT or (folder / script).exists()
        for every in (SELDOM, ALWAYS)
    }
    times = in_turns(programs, args.repeats, "rungs")
    update = {}  # of each turn
    for *kind, _ in programs:
        pairs = zip(times[*kind, SELDOM], times[*kind, ALWAYS], strict=True)
        update[*kind] = [(always - seldom) / (1 / ALWAYS - 1 / SELDOM) for seldom, always in pairs]
    rows, against = [], {}
    for script, compiled in kinds:
        own = (ROOT, script, compiled)
        medians = [statistics.median(values) for values in (times[*own, SELDOM], times[*own, ALWAYS], update[own])]
        name = f"`{script}{' --compile' * compiled}`"
        first = ratio(update[own], update[ROOT, args.scripts[0], False])
        rows.append([name, *(f"{value:.0f}" for value in medians), f"{first:.2f}"])
        if args.before:
            before = update.get((folders[1], script, compiled))
            if before:
                against[name] = ratio(update[own], before)
            rows[-1] += [f"{statistics.median(before):.0f}", f"{against[name]:.2f}"] if before else ["", ""]
    header = ["µs", "a step, an update in ten", "a step, an update in each", "an update", f"times {args.scripts[0]}'s"]
    header += ["an update before", "times before's"] if args.before else []
    tables = [markdown(header, rows)]
    if against:
        slowest = max(against, key=against.get)
        tables.append(f"The slowest update beside the build before: {slowest}, {against[slowest]:.2f} times.")
    print("\n\n".join(tables))
    publish("speed", "rungs", args, [f"Medians of {args.repeats} runs of {args.steps:,} steps:", *tables])


if __name__ == "__main__":
    main()
