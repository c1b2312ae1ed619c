"""Writes a report: index.html (self-contained), report.md, figures as SVG and PNG, every seed's numbers as CSV."""

import base64
import itertools
import json
import math
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np

from benchmark import figures
from benchmark.one import RETURN, finite
from benchmark.results import Record, Results, arguments_that_differ, base_of, read_references
from benchmark.runs import ROOT
from benchmark.statistics import (
    FEWEST,
    Comparison,
    area,
    at_least,
    compare,
    interval,
    pooled_iqm,
    steps_to,
    stratified_mean,
    write_table,
)  # fmt: skip
from benchmark.status import STATES, duration
from benchmark.suite import underscored

SHARES = np.linspace(0, 1, 51)  # of the training steps, for curves across environments
MOST_PAIRS = 45  # beyond that, the figure of all pairs is left out
FIGURES = ("finals", "curves", "curves_across", "profiles", "improvement", "sweeps", "q_values")
Q_PREDICTED, Q_REALISED = "eval/q_predicted", "eval/q_realised"


@dataclass
class Table:
    """Rows of texts; the first column is a name, the others are numbers or texts."""

    header: list[str]
    rows: list[list[str]]
    caption: str = ""
    text: bool = False  # all columns are left-aligned


@dataclass
class Section:
    """A part of the report: words, a figure, tables, sentences, and the ends of logs."""

    title: str
    words: str = ""
    figure: tuple[str, str] | None = None  # (name of the file, what it shows)
    tables: list[Table] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    logs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z]+", "-", self.title.lower())


def number(x: float) -> str:
    """A return, with as many digits as are of use."""
    if not math.isfinite(x):
        return "–"
    return f"{x:,.1f}" if abs(x) >= 10 else f"{x:.2f}" if abs(x) >= 1 else f"{x:.3f}"


def span(low: float, high: float) -> str:
    """An interval."""
    return f"{number(low)} to {number(high)}" if math.isfinite(low) else "–"


def with_interval(middle: float, low: float, high: float) -> str:
    """A number and its interval; without one if there is none."""
    return number(middle) if math.isnan(low) else f"{number(middle)}\n{span(low, high)}"


def pivot(cells: dict[tuple[str, str], str], analysis: "Analysis", caption: str, more: tuple[str, ...] = ()) -> Table:
    """A table of texts by contender and environment, in which empty columns are left out."""
    env_ids = [env_id for env_id in (*analysis.groups, *more) if any(key[1] == env_id for key in cells)]
    labels = [label for label in analysis.labels if any(key[0] == label for key in cells)]
    rows = [[label, *(cells.get((label, env_id), "–") for env_id in env_ids)] for label in labels]
    return Table(["script", *env_ids], rows, caption)


class Analysis:
    """The complete runs of a report by environment and contender, and all that is computed from them."""

    def __init__(self, results: Results, pairs: list[tuple[str, str]] | None = None):
        self.results, self.references = results, read_references()
        self.groups: dict[str, dict[str, list[Record]]] = {}  # {environment: {label: [record of each seed, ...]}}
        for env_id in results.env_ids:
            for label in results.labels:
                own = [record for record in results.done if (record.env_id, record.label) == (env_id, label)]
                if own:
                    self.groups.setdefault(env_id, {})[label] = sorted(own, key=lambda record: record.seed)
        self.failed = Counter((r.env_id, r.label) for r in results.records if r.state == "failed")
        self.labels = [label for label in results.labels if any(label in group for group in self.groups.values())]
        self.colors = figures.palette(self.labels)
        self.common = [env_id for env_id, group in self.groups.items() if len(group) == len(self.labels)]
        self.normalised = [env_id for env_id in self.common if env_id in self.references]
        self.svg: dict[str, str] = {}  # {name of a figure: its SVG}
        self.pairs = self.default_pairs() if pairs is None else pairs
        self.curves = {env_id: {} for env_id in self.groups}  # {environment: {label: (records, steps, values)}}
        for env_id, group in self.groups.items():
            for label, records in group.items():
                if found := self.curve(records, RETURN):
                    self.curves[env_id][label] = found
        self.curves = {env_id: by_label for env_id, by_label in self.curves.items() if by_label}

    def default_pairs(self) -> list[tuple[str, str]]:
        """Every pair, also with what failed in all runs; in a sweep, the bases, and every variant with its own."""
        there = [label for label in self.results.labels if label in self.labels or self.has_failed(label)]
        varied = {r.label for r in self.results.records if r.varied}
        pairs = list(itertools.combinations([label for label in there if label not in varied], 2))
        with_base = [(label, base_of(label)) for label in there if label in varied]
        return pairs + [(label, base) for label, base in with_base if base in there]

    def has_failed(self, label: str) -> bool:
        """Whether any run of this contender has failed."""
        return any(name == label for _, name in self.failed)

    def curve(self, records: list[Record], name: str) -> tuple[list[Record], np.ndarray, np.ndarray] | None:
        """Records, steps (steps,) and values (seeds, steps) of those that were evaluated at the same steps as most."""
        own = [record for record in records if name in record.curves]
        if not own:
            return None
        (steps, _), *_ = Counter(tuple(record.curves[name][0]) for record in own).most_common(1)
        same = [record for record in own if tuple(record.curves[name][0]) == steps]
        for record in own if name == RETURN else ():
            if record not in same:
                left_out = "its curve ends early or has other steps than the others, and is left out of curves"
                record.problem = "; ".join(filter(None, [record.problem, left_out]))
        return same, np.array(steps), np.stack([record.curves[name][1] for record in same])

    def finals(self, env_id: str, label: str) -> np.ndarray:
        """Final greedy returns (seeds,)."""
        return np.array([record.final for record in self.groups[env_id][label]])

    def normalise(self, env_id: str, values: np.ndarray) -> np.ndarray:
        """0 is the random policy, 1 the reference, of reference_scores.toml."""
        random, reference = self.references[env_id]["random"], self.references[env_id]["reference"]
        return (values - random) / (reference - random)

    def normalised_finals(self, label: str) -> list[np.ndarray]:
        """Normalised final returns (seeds,) of each environment that has a reference and all contenders."""
        return [self.normalise(env_id, self.finals(env_id, label)) for env_id in self.normalised]

    def outcomes(self, env_id: str, label: str) -> np.ndarray:
        """Final returns, and minus infinity for every run that failed: below all that did not."""
        finals = self.finals(env_id, label) if label in self.groups.get(env_id, {}) else np.zeros(0)
        return np.concatenate([finals, np.full(self.failed[env_id, label], -np.inf)])

    def comparison(self, a: str, b: str, env_ids: list[str] | None = None) -> Comparison | None:
        """Of the outcomes, over these environments or all that both have; None if there are none."""
        chosen = self.results.env_ids if env_ids is None else env_ids
        pairs = [(self.outcomes(env_id, a), self.outcomes(env_id, b)) for env_id in chosen]
        pairs = [(x, y) for x, y in pairs if len(x) and len(y)]
        return compare(*map(list, zip(*pairs, strict=True))) if pairs else None


def summary(analysis: Analysis) -> Section:
    """How many runs, and the verdicts."""
    warnings = []
    if few := sorted({len(r) for group in analysis.groups.values() for r in group.values() if len(r) < FEWEST}):
        seeds = "a single seed" if few[0] == 1 else f"{few[0]} seeds"
        warnings.append(f"some results rest on {seeds}; fewer than {FEWEST} say next to nothing, and have no interval.")
    states = Counter(record.state for record in analysis.results.records)
    if states["failed"]:
        warnings.append(
            f"{states['failed']} runs failed. Against other scripts they count as worse than any that did not; means, "
            "IQMs and curves are without them."
        )
    if left_out := sum(states[state] for state in ("running", "missing", "unfinished")):
        warnings.append(f"{left_out} runs are not complete, and left out.")
    differing = {name for group in analysis.groups.values() for name in differing_in(group)}
    sentences = verdicts(analysis)
    if differing and not analysis.results.sweeps:
        sentences.append(f"Not only the scripts differ, their arguments do: {', '.join(sorted(differing))} (Protocol).")
    words = f"Warning: {' '.join(warnings)}" if warnings else ""
    return Section("Summary", words, sentences=sentences)


def differing_in(group: dict[str, list[Record]]) -> dict[str, dict[str, str]]:
    """Arguments in which the contenders of an environment differ, as far as they have them in common."""
    found = arguments_that_differ([record for records in group.values() for record in records])
    return {name: texts for name, texts in found.items() if "–" not in texts.values()}


def verdicts(analysis: Analysis) -> list[str]:
    """A sentence a pair, over all environments that both have."""
    sentences, few = [], 0
    for a, b in analysis.pairs:
        comparison = analysis.comparison(a, b)
        if not comparison:
            without = [label for label in (a, b) if label not in analysis.labels and not analysis.has_failed(label)]
            nothing = f"There is no complete run of {' or '.join(without)}."
            sentences.append(nothing if without else f"{a} and {b} have no environment in common.")
            continue
        if comparison.seeds < FEWEST:
            few += 1
            if few > 1:
                continue
        sentence = comparison.sentence(a, b)
        decided = {}
        if comparison.seeds >= FEWEST and comparison.verdict == "no evidence":
            singly = {e: analysis.comparison(a, b, [e]) for e in analysis.results.env_ids}
            decided = {e: one.verdict for e, one in singly.items() if one and one.verdict != "no evidence"}
        if decided:
            places = "; ".join(
                f"{verdict} on {', '.join(e for e in decided if decided[e] == verdict)}"
                for verdict in dict.fromkeys(decided.values())
            )
            sentence += f" Taking environments singly, {a} is {places}."
        sentences.append(sentence)
    if few > 1:
        sentences.append(f"The same holds for {few - 1} more {'pairs' if few > 2 else 'pair'}.")
    return sentences


def final_returns(analysis: Analysis, folder: Path) -> Section:
    """Mean, standard deviation, IQM and interval; every seed as a dot; normalised over environments."""
    rows, dots = [], {}
    for env_id, group in analysis.groups.items():
        for label in group:
            values = analysis.finals(env_id, label)
            low, high = interval([values])
            middle = float(pooled_iqm(values))
            dots.setdefault(env_id, {})[label] = (values, middle, float(low), float(high))
            std = number(values.std(ddof=1)) if len(values) > 1 else "–"
            row = [env_id, label, str(len(values)), number(values.mean()), std, number(middle), span(low, high)]
            rows.append([*row, number(values.min()), number(values.max())])
    header = ["environment", "script", "seeds", "mean", "std", "IQM", "its 95 % interval", "lowest", "highest"]
    tables = [Table(header, rows)]
    if analysis.normalised:
        rows = []
        for label in analysis.labels:
            values = analysis.normalised_finals(label)
            row = [label, number(np.mean([one.mean() for one in values]))]
            rows.append([*row, number(float(pooled_iqm(*values))), span(*interval(values))])
        over = ", ".join(analysis.normalised)
        caption = f"Normalised (0: random policy, 1: reference score), over {over}"
        tables.append(Table(["script", "mean", "IQM", "its 95 % interval"], rows, caption))
    words = "Mean return of the final weights, in greedy play. A dot is a seed, the bar the interquartile mean (IQM)."
    save(analysis, folder, "finals", figures.finals(dots, analysis.colors))
    return Section("Final returns", words, ("finals", "Final greedy return of every seed"), tables)


def bands(analysis: Analysis) -> str:
    """What is drawn around a line."""
    if figures.few(analysis.labels):
        return "with 95 % stratified bootstrap intervals"
    return "without intervals, which would hide each other"


def learning_curves(analysis: Analysis, folder: Path) -> Section | None:
    """IQM and interval over environment steps, in each environment."""
    if not analysis.curves:
        return None
    by_env = {}
    for env_id, by_label in analysis.curves.items():
        for label, (_, steps, values) in by_label.items():
            by_env.setdefault(env_id, {})[label] = (steps, pooled_iqm(values), *interval([values]))
    save(analysis, folder, "curves", figures.curves(by_env, analysis.colors, analysis.references))
    words = f"Greedy return during training: IQM over seeds, {bands(analysis)}."
    return Section("Learning curves", words, ("curves", "Greedy return over environment steps"))


def curves_across(analysis: Analysis, folder: Path) -> Section | None:
    """The same over all environments, normalised, against the share of the training steps."""
    env_ids = [env_id for env_id in analysis.normalised if len(analysis.curves.get(env_id, {})) == len(analysis.labels)]
    if len(env_ids) < 2:
        return None
    by_label = {}
    for label in analysis.labels:
        samples, first = [], 0.0
        for env_id in env_ids:
            _, steps, values = analysis.curves[env_id][label]
            values = analysis.normalise(env_id, values)
            samples.append(np.stack([np.interp(SHARES, steps / steps[-1], curve) for curve in values]))
            first = max(first, steps[0] / steps[-1])
        shown = first <= SHARES
        samples = [sample[:, shown] for sample in samples]
        by_label[label] = (SHARES[shown], pooled_iqm(*samples), *interval(samples))
    save(analysis, folder, "curves_across", figures.curves_across(by_label, analysis.colors))
    words = f"IQM of the normalised greedy return over {', '.join(env_ids)}, {bands(analysis)}."
    return Section("Learning curves across environments", words, ("curves_across", "Normalised return over training"))


def performance_profiles(analysis: Analysis, folder: Path) -> Section | None:
    """The share of runs that reach each normalised return."""
    if not analysis.normalised:
        return None
    scores = {label: analysis.normalised_finals(label) for label in analysis.labels}
    highest = max(one.max() for values in scores.values() for one in values)
    levels = np.linspace(0, max(1.0, highest) * 1.02, 101)  # from random play on: one run far below it hides the rest
    by_label = {}
    for label, values in scores.items():
        reached = at_least(values, levels)
        by_label[label] = (levels, stratified_mean(*reached), *interval(reached, stratified_mean))[1:]
    save(analysis, folder, "profiles", figures.profiles(levels, by_label, analysis.colors))
    words = f"Share of runs whose normalised final return is at least τ, over {', '.join(analysis.normalised)}."
    return Section("Performance profiles", words, ("profiles", "Share of runs against normalised return"))


def improvement(analysis: Analysis, folder: Path) -> Section | None:
    """Probability of improvement of every pair, over all environments and in each of them."""
    rows, drawn = [], []
    singly = list(analysis.groups) if len(analysis.groups) > 1 else []
    for a, b in analysis.pairs:
        overall = analysis.comparison(a, b)
        if not overall:
            continue
        drawn.append((a, b, overall))
        row = [f"{a} over {b}"]
        for comparison in [overall, *(analysis.comparison(a, b, [env_id]) for env_id in singly)]:
            text = "–"
            if comparison:
                said = "" if comparison.verdict == "no evidence" else f" {comparison.verdict}"
                text = f"{comparison.probability:.2f}{said}\n{comparison.span}".rstrip()
            row.append(text)
        rows.append(row)
    if not rows:
        return None
    shown = None
    if len(drawn) <= MOST_PAIRS:
        save(analysis, folder, "improvement", figures.improvement(drawn))
        shown = ("improvement", "Probability of improvement of every pair, with 95 % intervals")
    words = (
        "The probability that a run of the one script ends above a run of the other, averaged over environments; ties "
        "count half, and a run that failed counts as below all that did not. Where the 95 % interval contains 0.5, "
        "there is no evidence of a difference at this number of seeds, which is not evidence of none. Every cell is a "
        "comparison of its own: of twenty that do not differ, one is expected to seem to, and more where the seeds of "
        "one script spread several times as far as those of the other. Intervals are Newcombe's (2006, method 5)."
    )
    return Section("Probability of improvement", words, shown, [Table(["pair", "all", *singly], rows)])


def speed_of_learning(analysis: Analysis) -> Section | None:
    """Area under the curve, and steps to a threshold."""
    areas, reached, normalised = {}, {}, {}
    for env_id, by_label in analysis.curves.items():
        threshold = analysis.references.get(env_id, {}).get("threshold")
        for label, (_, steps, values) in by_label.items():
            mean = area(steps, values)
            areas[label, env_id] = with_interval(float(pooled_iqm(mean)), *interval([mean]))
            if env_id in analysis.normalised:
                normalised.setdefault(label, []).append(analysis.normalise(env_id, mean))
            if threshold is not None:
                took = steps_to(steps, values, threshold)
                took = np.append(took, np.full(analysis.failed[env_id, label], np.inf))
                median = np.median(took)
                text = f"{median:,.0f}" if math.isfinite(median) else "not by more than half"
                column = f"{env_id}, {threshold:g}"
                reached[label, column] = f"{text}\n{np.isfinite(took).sum()} of {len(took)} seeds"
    if not areas:
        return None
    for label, values in normalised.items() if len(analysis.normalised) > 1 else ():
        if len(values) == len(analysis.normalised):
            areas[label, "normalised"] = with_interval(float(pooled_iqm(*values)), *interval(values))
    caption = "Area under the learning curve: mean greedy return over the training, IQM and 95 % interval"
    tables = [pivot(areas, analysis, caption, ("normalised",))]
    if reached:
        caption = "Median steps to a threshold; a seed that never reaches it counts as later than all that do"
        tables.append(pivot(reached, analysis, caption, tuple(dict.fromkeys(column for _, column in reached))))
    return Section("Speed of learning", tables=tables)


def q_values(analysis: Analysis, folder: Path) -> Section | None:
    """Predicted against realised Q over time."""
    by_env, biases = {}, {}
    for env_id, group in analysis.groups.items():
        for label, records in group.items():
            whole = [r for r in records if {Q_PREDICTED, Q_REALISED} <= r.curves.keys()]
            whole = [r for r in whole if np.array_equal(r.curves[Q_PREDICTED][0], r.curves[Q_REALISED][0])]
            predicted, realised = analysis.curve(whole, Q_PREDICTED), analysis.curve(whole, Q_REALISED)
            if predicted and realised:
                middle = [np.median(values, axis=0) for _, _, values in (predicted, realised)]
                by_env.setdefault(env_id, {})[label] = (predicted[1], *middle)
                bias = predicted[2][:, -1] - realised[2][:, -1]
                biases[label, env_id] = with_interval(float(pooled_iqm(bias)), *interval([bias]))
    if not by_env:
        return None
    save(analysis, folder, "q_values", figures.q_values(by_env, analysis.colors))
    words = "Median over seeds, in greedy play. A solid line above its dashed one is overestimation."
    caption = "Predicted minus realised at the end, IQM and 95 % interval"
    shown = ("q_values", "Predicted and realised Q over environment steps")
    return Section("Are the Q-values right?", words, shown, [pivot(biases, analysis, caption)])


def sweeps(analysis: Analysis, folder: Path) -> Section | None:
    """One panel for each argument that was varied."""
    by_name = {}
    scripts = list(dict.fromkeys(base_of(label) for label in analysis.labels))
    referenced = [env_id for env_id in analysis.groups if env_id in analysis.references]
    env_ids = referenced or list(analysis.groups)[:1]
    for name, values in underscored(analysis.results.sweeps).items():
        for script, value in itertools.product(scripts, values):
            samples = []
            for env_id in env_ids:  # the base has this value in one environment, perhaps, and a variant in another
                for label, records in analysis.groups[env_id].items():
                    alone = all(set(r.varied) <= {name} and r.args.get(name) == value for r in records)
                    if alone and base_of(label) == script:
                        final = analysis.finals(env_id, label)
                        samples.append(analysis.normalise(env_id, final) if referenced else final)
            if len(samples) == len(env_ids):
                text = f"{value:g}" if isinstance(value, float) else str(value)
                row = (text, float(pooled_iqm(*samples)), *map(float, interval(samples)), np.concatenate(samples))
                by_name.setdefault(name, {}).setdefault(script, []).append(row)
    if not by_name:
        return None
    ylabel = "normalised final return, IQM" if referenced else "final return, IQM"
    save(analysis, folder, "sweeps", figures.sweeps(by_name, figures.palette(scripts), ylabel))
    words = "One argument varied at a time, everything else as it was. Dots are seeds, bands 95 % intervals of the IQM."
    return Section("Sweeps", words, ("sweeps", "Final return against each argument"))


def cost(analysis: Analysis) -> Section:
    """Steps a second and wall time."""
    tables = []
    for name, caption, form in (
        ("sps", "Environment steps a second", "{:,.0f}".format),
        ("seconds", "Wall time of a run", duration),
    ):
        cells = {}
        for env_id, group in analysis.groups.items():
            for label, records in group.items():
                if values := numbers(records, name):
                    cells[label, env_id] = f"{form(np.median(values))}\n{form(min(values))} to {form(max(values))}"
        if cells:
            tables.append(pivot(cells, analysis, f"{caption}: median, and range over seeds"))
    return Section("Cost", "Comparable only if all runs had the machine in the same way.", tables=tables)


def troubles(analysis: Analysis) -> Section:
    """Runs that failed or are missing, with the ends of their logs, and what is odd about complete ones."""
    section = Section("Failed and missing runs")
    rows = []
    for record in analysis.results.records:
        if record.state != "done" or record.problem:
            state = "complete, but" if record.state == "done" else record.state
            rows.append([record.label, record.env_id, str(record.seed), state, record.problem])
        if record.log:
            title = f"{record.label} on {record.env_id}, seed {record.seed}: {record.problem}"
            section.logs.append((title, record.log))
    if rows:
        section.tables = [Table(["script", "environment", "seed", "state", "why"], rows, text=True)]
    else:
        section.words = "None: every run is complete."
    return section


def references(analysis: Analysis) -> Section | None:
    """Published scores of greedy play beside ours, and by what was normalised."""
    published, normal = [], []
    for env_id, group in analysis.groups.items():
        known = analysis.references.get(env_id)
        if not known:
            normal.append([env_id, "–", "–", "no reference score: left out of everything normalised"])
            continue
        normal.append([env_id, number(known["random"]), number(known["reference"]), known["reference_is"]])
        for label, records in group.items():
            values, steps = analysis.finals(env_id, label), records[0].result.get("global_step")
            spread = f" ± {number(values.std(ddof=1))}" if len(values) > 1 else ""
            steps = f"{steps:,}" if isinstance(steps, int) else "–"
            limit = values_of(records, "max_episode_steps")
            script = f"{label}, episodes of at most {limit} steps" if limit else label
            published.append([env_id, script, number(values.mean()) + spread, steps, str(len(values))])
        own_limit = not values_of([r for records in group.values() for r in records], "max_episode_steps")
        for row in known.get("published", []):
            if row["protocol"] == "greedy" and own_limit:
                spread = f" ± {number(row['std'])}" if "std" in row else ""
                score = number(row["score"]) + spread
                published.append([env_id, row["source"], score, f"{row['steps']:,}", str(row["runs"])])
    caption = (
        "Normalisation (the random policy's return is that with the environment's own limit of an episode's steps)"
    )
    tables = [Table(["environment", "random", "reference", "the reference is"], normal, caption)]
    if published:
        caption = "Greedy returns, ours (mean ± standard deviation of seeds) and published (± as published), those "
        caption += "with the environment's own limit of an episode's steps only"
        tables.append(Table(["environment", "script", "return", "steps", "runs"], published, caption))
    return Section("Reference scores", tables=tables)


def protocol(analysis: Analysis) -> Section:
    """Arguments that differ, the protocol, versions, commit and hardware."""
    done = analysis.results.done
    tables = []
    for env_id, group in analysis.groups.items():
        if differing := arguments_that_differ([record for records in group.values() for record in records]):
            rows = [[name, *(by_label.get(label, "–") for label in group)] for name, by_label in differing.items()]
            tables.append(Table(["argument", *group], rows, f"Arguments that differ on {env_id}", text=True))
    rows = []
    for env_id, group in analysis.groups.items():
        own = [record for records in group.values() for record in records]
        values = [values_of(own, name) for name in ("total_timesteps", "eval_episodes", "eval_frequency")]
        values.append(values_of(own, "max_episode_steps") or "its own")
        rows.append([env_id, *values, seeds_text({record.seed for record in own})])
    header = ["environment", "training steps", "episodes an evaluation", "steps between evaluations"]
    header += ["steps an episode at most", "seeds"]
    tables.append(Table(header, rows, "Protocol: greedy play from starts of its own, in an environment of its own"))
    names = ("commit", "python", "torch", "gymnasium", "numpy", "stable_baselines3", "platform", "processor")
    origin = [[name, values_of(done, name)] for name in (*names, "cpu_count", "gpu")]
    seconds = numbers(done, "seconds")
    origin.append(["time of all runs together", duration(sum(seconds)) if seconds else ""])
    if code := dict.fromkeys((record.label, record.code) for record in done if record.code and not record.varied):
        tables.append(Table(["script", "its text"], list(map(list, code)), "Code", text=True))
    tables.append(Table(["what", "of the runs"], [row for row in origin if row[1]], "Versions and hardware", text=True))
    return Section("Protocol", tables=tables)


def numbers(records: list[Record], name: str) -> list[float]:
    """The numbers that an entry of result.json has in these runs."""
    return [value for record in records if (value := finite(record.result.get(name))) is not None]


def values_of(records: list[Record], name: str) -> str:
    """The values that an entry of args.json has in these runs."""
    values = [record.args[name] for record in records if record.args.get(name) not in (None, "")]
    texts = dict.fromkeys(f"{value:,}" if isinstance(value, int) else str(value) for value in values)
    return "; ".join(texts)


def seeds_text(seeds: set[int]) -> str:
    """1 to 10, or 1, 3, 7."""
    ordered = sorted(seeds)
    whole = ordered == list(range(ordered[0], ordered[-1] + 1)) and len(ordered) > 2
    return f"{ordered[0]} to {ordered[-1]}" if whole else ", ".join(map(str, ordered))


def save(analysis: Analysis, folder: Path, name: str, figure) -> None:
    """Writes a figure and keeps its SVG for the page."""
    analysis.svg[name] = figures.save(figure, folder / "figures", name)


def write_csv(analysis: Analysis, folder: Path) -> None:
    """finals.csv: a row a run, complete or not, with its last episodes' returns; curves.csv: a row an evaluation."""
    finals, curves = [], []
    for record in analysis.results.records:
        row = {"script": record.label, "env_id": record.env_id, "seed": record.seed, "state": record.state}
        if record.state != "done":
            finals.append(row)
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
            others = {name: dict(zip(*record.curves[name], strict=True)) for name in record.curves}
            for step, value in zip(steps, values, strict=True):
                point = {"script": record.label, "env_id": record.env_id, "seed": record.seed, "step": int(step)}
                point |= {"episodic_return": float(value)}
                for name in (Q_PREDICTED, Q_REALISED):
                    point[name.removeprefix("eval/")] = float(others.get(name, {}).get(step, math.nan))
                curves.append(point)
        kept = ("best_return", "global_step", "updates", "seconds", "sps")
        row |= {name: record.result.get(name, "") for name in kept}
        finals.append(row | {"returns": json.dumps(record.result.get("returns", []))})
    whole = next((row for row in finals if row["state"] == "done"), {})
    finals = [dict.fromkeys(whole, "") | row for row in finals]
    for rows, name in ((finals, "finals.csv"), (curves, "curves.csv")):
        if rows:
            write_table(rows, folder / name)


def markdown(text: str) -> str:
    """Escapes what Markdown or HTML would read as anything but text; a second line comes in brackets."""
    first, *rest = str(text).splitlines() or [""]
    line = " ".join([first, *(f"({one})" for one in rest)])
    line = re.sub(r"([\\`*\[\]|$#~]|(?<!\w)_|_(?!\w))", r"\\\1", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def indented(text: str) -> str:
    """As a block of code in Markdown."""
    return "\n".join(f"    {line}" for line in str(text).splitlines())


def data_uri(svg: str) -> str:
    """An SVG as the source of an image: it can neither run scripts nor clash with the names of another."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def write_report(results: Results, folder: Path, pairs: list[tuple[str, str]] | None = None) -> list[str]:
    """Writes the report of these runs into a folder, which is made, and returns the verdicts. Raises OSError."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    figures.setup()
    analysis = Analysis(results, pairs)
    sections = [summary(analysis)]
    if analysis.groups:
        sections += [final_returns(analysis, folder), learning_curves(analysis, folder)]
        sections += [curves_across(analysis, folder), performance_profiles(analysis, folder)]
        sections += [improvement(analysis, folder), sweeps(analysis, folder), speed_of_learning(analysis)]
        sections += [q_values(analysis, folder), cost(analysis), references(analysis)]
    sections += [troubles(analysis), protocol(analysis)]
    for name in FIGURES:
        for form in ("svg", "png") if name not in analysis.svg else ():  # of another report, written here before
            (folder / "figures" / f"{name}.{form}").unlink(missing_ok=True)
    write_csv(analysis, folder)

    loader = jinja2.FileSystemLoader(ROOT / "benchmark" / "templates")
    templates = jinja2.Environment(
        loader=loader, autoescape=jinja2.select_autoescape(["html"]), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {"md": markdown, "indented": indented}
    states = Counter(record.state for record in results.records)
    context = {
        "title": results.title,
        "sections": [section for section in sections if section],
        "states": {state: states[state] for state in (*STATES, "unfinished") if states[state]},
        "total": len(results.records),
        "date": time.strftime("%Y-%m-%d"),
        "images": {name: data_uri(svg) for name, svg in analysis.svg.items()},
    }
    for name in ("index.html", "report.md"):
        (folder / name).write_text(templates.get_template(name).render(context), encoding="utf-8")
    return verdicts(analysis)
