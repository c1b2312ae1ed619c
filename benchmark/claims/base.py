"""What the claims have in common: arguments, runs, and the page that a claim's command writes.

A claim's `main` makes `Findings`, gives them every table, sentence, figure and CSV that it has, and `write` makes of
them a part of docs/results/SCRIPT.md. So no number of that part is older than the last run of the command.
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
from benchmark.run_folder import DATA, read_object, read_scalars

Runs = dict[int, tuple[Path, dict]]  # of one setting: {seed: (run folder, result.json)}
NOT_SHOWN = {"workers", "runs_dir", "output"}  # flags that change no number; two of them are paths of a machine


@dataclass
class ArgsWithoutRuns:
    """Of a claim that learns in processes of its own and not by runs of a script."""

    num_seeds: int = 20  # seeds of each setting
    first_seed: int = 1  # the first of them
    workers: int = 2  # seeds at the same time, one core each
    output: Path | None = None  # folder for files (None: docs/results/data/SCRIPT, and its page is written too)

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.num_seeds)


@dataclass
class Args(ArgsWithoutRuns):
    runs_dir: Path = Path("runs/claims")  # where the runs are kept; what is complete there is not run again


def scalars_of(runs: Runs) -> list[dict]:
    """The scalars that each run of a setting logged, in the order of seeds."""
    return [read_scalars(folder) for folder, _ in runs.values()]


def series(runs: list[dict], name: str) -> tuple[list[int], np.ndarray]:
    """Steps, and values (runs, steps), of a scalar that all of the runs, as read by read_scalars, logged alike."""
    return [step for step, _, _ in runs[0][name]], np.array([[value for _, value, _ in run[name]] for run in runs])


def training_seconds(scalars: dict[str, list[tuple]]) -> np.ndarray:
    """Seconds of training at every evaluation, without those of evaluations. Scripts log charts/SPS just before one."""
    charts = {step: (step / sps, clock) for step, sps, clock in scalars["charts/SPS"]}
    found, evaluating = [], 0.0
    for step, _, clock in scalars["eval/episodic_return"]:
        seconds, before = charts[step]
        found.append(seconds - evaluating)
        evaluating += clock - before
    return np.array(found)


def at_seconds(returns: np.ndarray, seconds: np.ndarray, limit: float) -> np.ndarray:
    """Each run's (seeds,) return at its last evaluation that was reached within `limit` seconds, or at its first."""
    last = np.maximum((seconds <= limit).sum(axis=1) - 1, 0)
    return returns[np.arange(len(returns)), last]


def in_parallel(function: Callable, jobs: list[tuple], workers: int) -> dict[tuple, object]:
    """{job: function(*job)}, so many at the same time, each with one thread."""
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        results = pool.map(function, *zip(*jobs, strict=True))
        return dict(zip(jobs, tqdm(results, total=len(jobs), desc="seeds", disable=None), strict=True))


class Findings:
    """What a claim's command finds. It is printed as it comes; files are written to `output`.

    script: its name without .py. title: a docstring, of which the first paragraph counts. part: "" if the claim has
    but one; each part of a page is replaced on its own. seeds: those of `args` where none are named.
    """

    def __init__(
        self, script: str, args: ArgsWithoutRuns, title: str, part: str = "", seeds: Sequence[int] | None = None
    ) -> None:
        self.script, self.args, self.part = script, args, part
        self.title = " ".join(title.split("\n\n")[0].split()).rstrip(".") + (f" ({part})" if part else "")
        self.seeds = args.seeds if seeds is None else seeds
        self.output = args.output or DATA / script
        self.output.mkdir(parents=True, exist_ok=True)
        self.begun_by = here()  # before files that it writes count as changes to the commit
        self.ran: list[tuple[int, dict, float]] = []  # seed, args.json and seconds of every run
        self.text: list[str] = []
        self.pictures: list[str] = []
        self.csvs: list[str] = []

    def run(self, settings: dict[str, tuple[str, dict]], seeds: Sequence[int] | None = None) -> dict[str, Runs]:
        """{name: runs} of every (script, flags) of `settings`, see run_seeds; these seeds, or else those of `args`."""
        runs = run_seeds(settings, self.seeds if seeds is None else seeds, self.args.runs_dir, self.args.workers)
        for own in runs.values():
            for seed, (folder, result) in own.items():
                self.ran.append((seed, read_object(folder / "args.json"), result["seconds"]))
        return runs

    def say(self, line: str) -> None:
        """A sentence, a paragraph of the page."""
        print(line)
        self.text.append(line)

    def table(self, header: list[str], rows: Iterable[list[str]]) -> None:
        """A table of the page; its first column is text, the others are numbers."""
        self.say(markdown(header, list(rows)))

    def csv(self, rows: list[dict], name: str) -> None:
        """A table that is too long for the page, which gets a link."""
        write_table(rows, self.output / f"{name}.csv")
        self.csvs.append(self.link(f"{name}.csv"))

    def figure(self, figure, name: str, shows: str, legend: bool = True) -> None:
        """A picture of the page. Axes get a grid, and with something labelled a legend; then the figure is closed.

        shows: what can be seen, for who cannot see it. legend: False where the figure has its own.
        """
        for axes in figure.axes:
            axes.grid(alpha=0.3)
            if legend and axes.get_legend_handles_labels()[0]:
                axes.legend()
        figure.savefig(self.output / f"{name}.png", dpi=110)
        plt.close(figure)
        self.pictures.append(f"!{self.link(f'{name}.png', shows)}")

    def link(self, file: str, text: str = "") -> str:
        """To a file in `output`, from the page."""
        return f"[{text or file}]({DATA.name}/{self.script}/{file})"

    def made(self) -> str:
        """Commit, versions and machine, seeds and hours of one core: of the runs, or of this process without any."""
        seeds = sorted({seed for seed, _, _ in self.ran} or self.seeds)
        named = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        if self.ran:
            by, named = origin([args for _, args, _ in self.ran]), f"{named}; {len(self.ran)} runs"
            seconds = sum(seconds for _, _, seconds in self.ran)
        else:
            by = self.begun_by
            seconds = sum(os.times()[:4])  # user and system, with the processes that this one started
        return f"{by}; {named}; {seconds / 3600:.2f} hours of computing."

    def write(self) -> None:
        """Writes its part of docs/results/SCRIPT.md, unless files went elsewhere: command, origin, text, pictures."""
        if self.args.output is not None:
            return
        line = command_line(f"python -m benchmark.claims.{self.script}", self.args, NOT_SHOWN)
        data = [f"Data: {', '.join(self.csvs)}."] if self.csvs else []
        made = self.made()
        parts = [f"## {self.title}", f"    {line}", made[0].upper() + made[1:], *self.text, *self.pictures, *data]
        name = f"{self.script} {self.part}".strip()
        begun = f"# {self.script}.py: what was measured\n"
        write_block(DATA.parent / f"{self.script}.md", name, line, "\n\n".join(parts), begun)
