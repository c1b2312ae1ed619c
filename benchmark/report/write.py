"""Writes a report: index.html (self-contained), report.md, figures as SVG and PNG, every seed's numbers as CSV."""

import base64
import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from benchmark.launch.status import STATES
from benchmark.pages import write_block
from benchmark.report import appendix, figures, sections
from benchmark.report.analysis import Analysis
from benchmark.report.records import CURVES, KEPT, Record, Results, kept
from benchmark.report.statistics import area, steps_to, write_table
from benchmark.run_folder import RETURN, write_json

FIGURES = ("finals", "curves", "curves_across", "profiles", "improvement", "sweeps", "q_values", "cost")
WITHOUT_RUNS = (sections.summary, appendix.troubles, appendix.protocol)
SECTIONS = (
    sections.summary,
    sections.final_returns,
    sections.learning_curves,
    sections.curves_across,
    sections.performance_profiles,
    sections.improvement,
    sections.sweeps,
    sections.speed_of_learning,
    sections.q_values,
    appendix.cost,
    appendix.references,
    appendix.troubles,
    appendix.protocol,
)


@dataclass(frozen=True)
class Page:
    """A page of Markdown that gets the report's summary as a part."""

    path: Path
    command: str  # the command that writes the part


def write_tables(analysis: Analysis, folder: Path) -> None:
    """Writes the report's data; another report can read it (records.read_report).

    finals.csv: a row for each run, complete or not, with the returns of its last episodes. curves.csv: a row for each
    evaluation, with seconds since the start if the run was never resumed. arguments.json: code, arguments and origin of
    each contender.
    """
    finals, curves, contenders = [], [], {}
    for record in analysis.results.records:
        which = {"script": record.label, "env_id": record.env_id}
        own = which | {"code": record.code, "varied": record.varied, "args": kept(record.args)}
        contenders.setdefault(json.dumps(own, sort_keys=True), own | {"seeds": []})["seeds"].append(record.seed)
        row = which | {"seed": record.seed, "state": record.state}
        if record.state != "done":
            finals.append(row | {"problem": record.problem})
            continue
        row["final_return"] = record.final
        known = analysis.references.get(record.env_id, {})
        row["normalised"] = float(analysis.normalise(record.env_id, np.array(record.final))) if known else ""
        row["area"] = row["steps_to_threshold"] = ""
        if RETURN in record.curves:
            steps, values = record.curves[RETURN]
            row["area"] = float(area(steps, values[None])[0])
            if "threshold" in known:
                row["steps_to_threshold"] = float(steps_to(steps, values[None], known["threshold"])[0])
            curves += points(record)
        row |= {name: record.result.get(name, "") for name in KEPT}
        finals.append(row | {"returns": json.dumps(record.result.get("returns", [])), "problem": record.problem})
    whole = next((row for row in finals if row["state"] == "done"), {})
    finals = [dict.fromkeys(whole, "") | row for row in finals]
    for rows, name in ((finals, "finals.csv"), (curves, "curves.csv")):
        if rows:
            write_table(rows, folder / name)
    about = {"sweeps": analysis.results.sweeps, "references": analysis.results.references}
    about |= {"metric": analysis.results.metric, "contenders": list(contenders.values())}
    write_json(folder / "arguments.json", about)


def points(record: Record) -> list[dict]:
    """A row of curves.csv for each evaluation of a run."""
    steps, _ = record.curves[RETURN]
    clock = [""] * len(steps) if record.clock is None else [round(float(at), 3) for at in record.clock]
    by_name = {name: dict(zip(*record.curves.get(name, ((), ())), strict=True)) for name in CURVES}
    rows = []
    for step, seconds in zip(steps, clock, strict=True):
        row = {"script": record.label, "env_id": record.env_id, "seed": record.seed, "step": int(step)}
        for name, own in by_name.items():
            row[name.removeprefix("eval/")] = own.get(step, "")  # a float32, in the fewest digits
        rows.append(row | {"seconds": seconds})
    return rows


def markdown(text: str) -> str:
    """Escapes the characters of Markdown and HTML; further lines stand in brackets behind the first."""
    first, *rest = str(text).splitlines() or [""]
    line = " ".join([first, *(f"({one})" for one in rest)])
    line = re.sub(r"([\\`*\[\]|$#~]|(?<!\w)_|_(?!\w))", r"\\\1", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def indented(text: str) -> str:
    """The text as a block of code in Markdown."""
    return "\n".join(f"    {line}" for line in str(text).splitlines())


def data_uri(svg: str) -> str:
    """An SVG as the source of an image; so it cannot run scripts, and its names cannot clash with another SVG's."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def write_report(
    results: Results, folder: Path, pairs: list[tuple[str, str]] | None = None, page: Page | None = None
) -> list[str]:
    """Makes the folder, writes the report of these runs there, and returns the verdicts. Raises OSError.

    page: gets the summary and the first figures as a part.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    figures.setup()
    analysis = Analysis(results, pairs)
    made = [make(analysis) for make in (SECTIONS if analysis.groups else WITHOUT_RUNS)]
    written = [section for section in made if section]
    for name in FIGURES:
        for form in ("svg", "png"):  # of an earlier report
            (folder / "figures" / f"{name}.{form}").unlink(missing_ok=True)
    pictures = [section.picture for section in written if section.picture]
    images = {picture.name: figures.save(picture.figure, folder / "figures", picture.name) for picture in pictures}
    write_tables(analysis, folder)

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    templates = jinja2.Environment(
        loader=loader, autoescape=jinja2.select_autoescape(["html"]), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {"md": markdown, "indented": indented}
    states = Counter(record.state for record in results.records)
    context = {
        "title": results.title,
        "sections": written,
        "states": {state: states[state] for state in (*STATES, "unfinished") if states[state]},
        "total": len(results.records),
        "date": time.strftime("%Y-%m-%d"),
        "images": {name: data_uri(svg) for name, svg in images.items()},
    }
    for name in ("index.html", "report.md"):
        (folder / name).write_text(templates.get_template(name).render(context), encoding="utf-8")
    if page:
        swept = [section.picture for section in written if section.title == "Sweeps"]  # a sweep's pictures come first
        first = swept or pictures[:2]
        shown = [section for section in written if section.title == "Summary" or section.picture in first]
        place = Path(os.path.relpath(folder, page.path.parent)).as_posix()
        context |= {"sections": shown, "folder": place, "command": page.command, "origin": appendix.origin(analysis)}
        text = templates.get_template("page.md").render(context)
        write_block(page.path, results.title, page.command, text, f"# {results.title}\n")
    said, others = sections.verdicts(analysis)
    more = [f"and of {len(others)} more pairs in the report"] if others else []
    return [*said, *more]
