"""The common parts of the claims: arguments, runs, and the page that a claim's command writes.

The `main` of a claim makes `Findings`, gives it all tables, sentences, figures and CSV files, and `write` turns them
into a part of docs/results/SCRIPT.md. So all numbers of this part are from the last run of the command.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm import tqdm

from benchmark.launch.local import run_seeds
from benchmark.pages import command_line, here, markdown, origin, write_block
from benchmark.report.statistics import write_table
from benchmark.run_folder import DATA, read_args, read_scalars

Runs = dict[int, tuple[Path, dict]]  # of one setting: {seed: (run folder, result.json)}
NOT_SHOWN = {"workers", "runs_dir", "output"}  # flags that change no number


@dataclass
class ArgsWithoutRuns:
    """Arguments of a claim that learns in its own processes, without runs of a script."""

    num_seeds: int = 20  # seeds of each setting
    first_seed: int = 1  # the first seed
    workers: int = 2  # seeds at the same time, one core each
    output: Path | None = None  # folder for files (None: docs/results/data/SCRIPT; then the page is written too)

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.num_seeds)


@dataclass
class Args(ArgsWithoutRuns):
    runs_dir: Path = Path("runs/claims")  # folder of the runs; complete runs are not repeated


def scalars_of(runs: Runs) -> list[dict]:
    """The logged scalars of each run of a setting, in the order of the seeds."""
    return [read_scalars(folder) for folder, _ in runs.values()]


def series(runs: list[dict], name: str) -> tuple[list[int], np.ndarray]:
    """Steps (steps,) and values (runs, steps) of a scalar that all runs logged at the same steps."""
    return [step for step, _, _ in runs[0][name]], np.array([[value for _, value, _ in run[name]] for run in runs])


def training_seconds(scalars: dict[str, list[tuple]]) -> np.ndarray:
    """Seconds of training at each evaluation, without evaluations. An evaluation starts at the charts/SPS before it."""
    step, sps, clock = scalars["charts/SPS"][0]
    start, found, evaluating, previous = clock - step / sps, [], 0.0, 0.0
    for _, _, end in scalars["eval/episodic_return"]:
        begin = max((clock for _, _, clock in scalars["charts/SPS"] if previous <= clock <= end), default=end)
        found.append(begin - start - evaluating)
        evaluating += end - begin
        previous = end
    return np.array(found)


def at_seconds(returns: np.ndarray, seconds: np.ndarray, limit: float) -> np.ndarray:
    """Each run's return (seeds,) at its last evaluation within `limit` seconds; if there is none, at its first."""
    last = np.maximum((seconds <= limit).sum(axis=1) - 1, 0)
    return returns[np.arange(len(returns)), last]


def in_parallel(function: Callable, jobs: list[tuple], workers: int) -> dict[tuple, object]:
    """{job: function(*job)}, `workers` at the same time, each with one thread."""
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        results = pool.map(function, *zip(*jobs, strict=True))
        return dict(zip(jobs, tqdm(results, total=len(jobs), desc="seeds", disable=None), strict=True))


class Findings:
    """The results of a claim's command. Text is printed at once; files are written to `output`.

    script: its name without .py. title: a docstring; its first paragraph is the title. part: "" if the claim has only
    one part; each part of a page is replaced on its own. seeds: by default those of `args`.
    """

    def __init__(
        self, script: str, args: ArgsWithoutRuns, title: str, part: str = "", seeds: Sequence[int] | None = None
    ) -> None:
        self.script, self.args, self.part = script, args, part
        self.title = " ".join(title.split("\n\n")[0].split()).rstrip(".") + (f" ({part})" if part else "")
        self.seeds = args.seeds if seeds is None else seeds
        self.output = args.output or DATA / script
        self.output.mkdir(parents=True, exist_ok=True)
        self.begun_by = here()  # now, because the files that it writes will count as changes to the commit
        self.ran: list[tuple[int, dict, float]] = []  # seed, arguments with origin, and seconds of every run
        self.text: list[str] = []
        self.pictures: list[str] = []
        self.csvs: list[str] = []

    def run(self, settings: dict[str, tuple[str, dict]], seeds: Sequence[int] | None = None) -> dict[str, Runs]:
        """{name: runs} of every (script, flags) of `settings`, see run_seeds; by default with the seeds of `args`."""
        runs = run_seeds(settings, self.seeds if seeds is None else seeds, self.args.runs_dir, self.args.workers)
        for own in runs.values():
            for seed, (folder, result) in own.items():
                self.ran.append((seed, read_args(folder), result["seconds"]))
        return runs

    def say(self, line: str) -> None:
        """Adds a paragraph to the page."""
        print(line)
        self.text.append(line)

    def table(self, header: list[str], rows: Iterable[list[str]]) -> None:
        """Adds a table to the page; the first column is text, the others are numbers."""
        self.say(markdown(header, list(rows)))

    def csv(self, rows: list[dict], name: str) -> None:
        """Writes a long table as CSV; the page gets a link."""
        write_table(rows, self.output / f"{name}.csv")
        self.csvs.append(self.link(f"{name}.csv"))

    def figure(self, figure, name: str, shows: str, legend: bool = True) -> None:
        """Adds a picture to the page, and closes it. Axes get a grid, and a legend if anything has a label.

        shows: a description for readers who cannot see it. legend: False if the figure has its own.
        """
        for axes in figure.axes:
            axes.grid(alpha=0.3)
            if legend and axes.get_legend_handles_labels()[0]:
                axes.legend()
        figure.savefig(self.output / f"{name}.png", dpi=110)
        plt.close(figure)
        self.pictures.append(f"!{self.link(f'{name}.png', shows)}")

    def link(self, file: str, text: str = "") -> str:
        """A link from the page to a file in `output`."""
        return f"[{text or file}]({DATA.name}/{self.script}/{file})"

    def made(self) -> str:
        """Commit, versions, machine, seeds and hours of one core: of the runs, or of this process if there are none."""
        seeds = sorted({seed for seed, _, _ in self.ran} or self.seeds)
        named = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        if self.ran:
            by, named = origin([args for _, args, _ in self.ran]), f"{named}; {len(self.ran)} runs"
            seconds = sum(seconds for _, _, seconds in self.ran)
        else:
            by = self.begun_by
            seconds = sum(os.times()[:4])  # user and system, with child processes
        return f"{by}; {named}; {seconds / 3600:.2f} hours of computing."

    def write(self) -> None:
        """Writes the part of docs/results/SCRIPT.md, unless `output` is set: command, origin, text, pictures."""
        if self.args.output is not None:
            return
        line = command_line(f"python -m benchmark.claims.{self.script}", self.args, NOT_SHOWN)
        data = [f"Data: {', '.join(self.csvs)}."] if self.csvs else []
        made = self.made()
        parts = [f"## {self.title}", f"    {line}", made[0].upper() + made[1:], *self.text, *self.pictures, *data]
        name = f"{self.script} {self.part}".strip()
        begun = f"# {self.script}.py: what was measured\n"
        write_block(DATA.parent / f"{self.script}.md", name, line, "\n\n".join(parts), begun)
