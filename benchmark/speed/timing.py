"""Times programs in turns, and writes the medians and a figure into a page."""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmark.launch.status import duration
from benchmark.pages import command_line, here, markdown, write_block
from benchmark.report import figures
from benchmark.run_folder import DATA, ROOT, read_scalars
from benchmark.suite import as_arguments

BEGAN = time.perf_counter()


def on_one_core() -> None:
    """Ties this process and its child processes to one core, on Linux.

    Otherwise a thread that writes a log on another core would slow the first core down.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def in_turns(programs: dict[str, Callable[[], float]], repeats: int, title: str) -> dict[str, list[float]]:
    """`repeats` times of each program. The programs take turns, so a slow hour slows all of them."""
    times = {name: [] for name in programs}
    for _ in tqdm(range(repeats), desc=title, disable=None):
        for name, program in programs.items():
            times[name].append(program())
    return times


def ratio(slower: list[float], faster: list[float]) -> float:
    """The factor by which one program is slower than the other: the median of the ratios of each turn."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def report(times: dict[str, list[float]], title: str, mine: list[str]) -> str:
    """Prints the medians, and the factors by which `mine` are faster than the others; returns them as Markdown."""
    rows = []
    for name, values in times.items():
        faster = ["" if name in mine else f"{ratio(values, times[own]):.2f}" for own in mine]
        span = f"{min(values):,.1f} to {max(values):,.1f}"
        rows.append([name, f"{statistics.median(values):,.1f}", span, *faster])
    header = ["", "median µs", "range", *(f"times as fast is {own}" for own in mine)]
    text = f"{title}, {len(next(iter(times.values())))} runs of each:\n\n{markdown(header, rows)}"
    print(f"\n{text}")
    return text


def bars(times: dict[str, dict[str, list[float]]], mine: list[str]) -> Figure:
    """A panel for each title of {title: {program: microseconds}}: medians, and a line over the range of the runs."""
    figures.setup()
    figure, axes = figures.panels(len(times), most=2)
    for panel, (title, by_program) in zip(axes, times.items(), strict=True):
        values = np.array(list(by_program.values()))  # (programs, repeats)
        middle = np.median(values, axis=1)
        beside = [middle - values.min(axis=1), values.max(axis=1) - middle]
        colors = [figures.COLORS[0] if name in mine else "#999999" for name in by_program]
        panel.barh(list(by_program), middle, xerr=beside, color=colors, ecolor="#222222", height=0.6)
        panel.invert_yaxis()
        panel.set(title=title, xlabel="µs")
    return figure


def publish(script: str, part: str, args, tables: list[str], figure: Figure | None = None, shows: str = "") -> None:
    """With --page: writes a part of docs/results/SCRIPT.md, with command, commit, versions, machine and time.

    shows: a description of the figure for readers who cannot see it.
    """
    if args.page:
        line, made = command_line(f"python -m benchmark.speed {part}", args), here()
        took = duration(time.perf_counter() - BEGAN)
        text = [f"    {line}", f"{made[0].upper()}{made[1:]}; it took {took}.", *tables]
        if figure:
            path = DATA / script / f"{part}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, metadata={"Date": None})
            plt.close(figure)
            text.append(f"![{shows}]({path.relative_to(DATA.parent)})")
        write_block(DATA.parent / f"{script}.md", f"speed {part}", line, "\n\n".join(text))


def median_time(call: Callable[[], None], times: int) -> float:
    """Median microseconds of a call."""
    clocks = [time.perf_counter()]
    for _ in range(times):
        call()
        clocks.append(time.perf_counter())
    return statistics.median(np.diff(clocks)) * 1e6


def run_script(script: str | Path, runs_dir: Path, **flags) -> Path:
    """Runs `python script --flag value ...` and returns its run folder. Raises CalledProcessError if it failed.

    script: a file of this repository, or a path. Flags are as in Args: compile=True, hidden_sizes=(120, 84).
    """
    given = [part for name, value in flags.items() for part in as_arguments(name, value)]
    command = [sys.executable, str(ROOT / script), "--runs-dir", str(runs_dir), *given]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Path(out.splitlines()[-1].split("see ")[-1])


def step_of_script(script: str | Path, skip: int, **flags) -> float:
    """Microseconds a step of a program with our command line, from the clock of its TensorBoard events after `skip`.

    The build before may lack flags: those that its text does not name are left out.
    """
    if Path(script).is_absolute():
        known = re.findall(r"^    (\w+): ", Path(script).read_text(), re.MULTILINE)
        flags = {name: value for name, value in flags.items() if name in known}
    with tempfile.TemporaryDirectory() as folder:
        run_dir = run_script(script, Path(folder), **flags)
        clocks = [(step, clock) for step, _, clock in read_scalars(run_dir)["charts/SPS"] if step >= skip]
    (first, begin), *_, (last, end) = clocks
    return (end - begin) / (last - first) * 1e6


def step_of_cleanrl(script: Path, python: Path, flags: str, timed: int, env: dict[str, str], every: int = 100) -> float:
    """Microseconds a step of the last `timed` steps of one of CleanRL's scripts.

    CleanRL prints its SPS once in `every` steps; only the times of these lines count.
    """
    command = [str(python), "-u", str(script), *flags.split()]
    env = os.environ | {"PYTHONPATH": str(script.parents[1]), "PYTHONWARNINGS": "ignore"} | env
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
        clocks = [time.perf_counter() for line in process.stdout if line.startswith("SPS")]
        if process.wait() != 0:
            raise subprocess.CalledProcessError(process.returncode, command)
    clocks = clocks[-timed // every :]
    return (clocks[-1] - clocks[0]) / (len(clocks) - 1) / every * 1e6
