"""The parts of a report: sections with words, pictures and tables, and the format of numbers in them."""

import math
import re
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from benchmark.report.analysis import Analysis
from benchmark.report.figures import without_modules


@dataclass
class Table:
    """Rows of texts; the first column is a name, the others are numbers or texts."""

    header: list[str]
    rows: list[list[str]]
    caption: str = ""
    text: bool = False  # all columns are left-aligned


@dataclass
class Picture:
    """A figure of the report."""

    name: str  # of its file
    shows: str
    figure: Figure


@dataclass
class Section:
    """A part of the report: words, a picture, tables, sentences, folded sentences and logs."""

    title: str
    words: str = ""
    picture: Picture | None = None
    tables: list[Table] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # folded away
    logs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z]+", "-", self.title.lower())


def number(x: float) -> str:
    """A return, with fewer digits the larger it is."""
    if not math.isfinite(x):
        return "–"
    return f"{x:,.1f}" if abs(x) >= 10 else f"{x:.2f}" if abs(x) >= 1 else f"{x:.3f}"


def span(low: float, high: float) -> str:
    """An interval as text."""
    return f"{number(low)} to {number(high)}" if math.isfinite(low) else "–"


def with_interval(middle: float, low: float, high: float) -> str:
    """A number and its interval as text; the number alone if there is no interval."""
    return number(middle) if math.isnan(low) else f"{number(middle)}\n{span(low, high)}"


def pivot(cells: dict[tuple[str, str], str], analysis: Analysis, caption: str, more: tuple[str, ...] = ()) -> Table:
    """A table of texts, contenders by environments, without empty columns."""
    env_ids = [env_id for env_id in (*analysis.groups, *more) if any(key[1] == env_id for key in cells)]
    labels = [label for label in analysis.labels if any(key[0] == label for key in cells)]
    rows = [[label, *(cells.get((label, env_id), "–") for env_id in env_ids)] for label in labels]
    return Table(["script", *map(without_modules, env_ids)], rows, caption)


def seeds_text(seeds: set[int]) -> str:
    """Seeds as text: 1 to 10, or 1, 3, 7."""
    ordered = sorted(seeds)
    whole = ordered == list(range(ordered[0], ordered[-1] + 1)) and len(ordered) > 2
    return f"{ordered[0]} to {ordered[-1]}" if whole else ", ".join(map(str, ordered))
