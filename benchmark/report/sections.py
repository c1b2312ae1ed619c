"""The first sections of a report: the better contender of each pair, and how the contenders learned."""

import itertools
import math
from collections import Counter

import numpy as np

from benchmark.report import figures
from benchmark.report.analysis import Q_PREDICTED, Q_REALISED, Analysis
from benchmark.report.parts import Picture, Section, Table, number, pivot, seeds_text, span, with_interval
from benchmark.report.records import Record, arguments_that_differ, base_of
from benchmark.report.statistics import FEWEST, area, at_least, interval, pooled_iqm, steps_to, stratified_mean
from benchmark.run_folder import RETURN
from benchmark.suite import underscored

SHARES = np.linspace(0, 1, 51)  # shares of the training steps, for curves across environments
MOST_PAIRS = 45  # with more pairs, the figure of all pairs is left out


def summary(analysis: Analysis) -> Section:
    """Warnings, the verdicts, and the standings."""
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
    if repeated := [record for record in analysis.results.records if record.repeated]:
        named = {}
        for record in repeated:
            named.setdefault(f"{record.label} on {record.env_id}", set()).add(record.seed)
        which = "; ".join(f"{name}: {seeds_text(seeds)}" for name, seeds in named.items())
        warnings.append(
            f"some seeds ran more than once with the same text and arguments ({which}); one complete run of each "
            "counts, in a folder the latest."
        )
    differing = {name for group in analysis.groups.values() for name in differing_in(group)}
    sentences, others = verdicts(analysis)
    if analysis.results.metric != RETURN:
        sentences.insert(0, f"This report is about {analysis.results.metric}, wherever it says return.")
    if analysis.told:
        sentences.append(comparisons_made(analysis))
    if differing and not analysis.results.sweeps:
        sentences.append(f"Not only the scripts differ, their arguments do: {', '.join(sorted(differing))} (Protocol).")
    words = f"Warning: {' '.join(warnings)}" if warnings else ""
    tables = [standings(analysis)] if len(analysis.labels) > 2 and not analysis.results.sweeps else []
    return Section("Summary", words, tables=tables, sentences=sentences, others=others)


def comparisons_made(analysis: Analysis) -> str:
    """The number of comparisons, and the number that remain after the correction."""
    told, decided = analysis.told, [key for key in analysis.told if analysis.comparisons[key].verdict != "no evidence"]
    made = f"{len(told)} comparisons were made, of every pair over all environments and in each of them"
    if len(analysis.results.env_ids) == 1:
        made = f"{len(told)} comparison{'s were' if len(told) > 1 else ' was'} made, one of each pair"
    return (
        f"{made}: {len(decided)} of them say better or worse, and {len(analysis.surviving)} still do after Holm's "
        "correction for all of them together, marked †."
    )


def standings(analysis: Analysis) -> Table:
    """The best contender of each environment, and the number of contenders that each is better or worse than."""
    cells = {}
    for env_id, group in analysis.groups.items():
        middle = {label: float(pooled_iqm(analysis.finals(env_id, label))) for label in group}
        best, few = max(middle, key=middle.get), min(map(len, group.values())) < FEWEST
        for label in group:
            beaten = label != best and analysis.comparison(best, label, [env_id]).verdict == "better"
            text = with_interval(middle[label], *map(float, interval([analysis.finals(env_id, label)])))
            cells[label, env_id] = text if beaten or few else f"★ {text}"
    compared = {key[:2]: one for key, one in analysis.comparisons.items() if key[2] is None}
    overall = compared | {(b, a): one.reversed for (a, b), one in compared.items()}
    for label, verdict in itertools.product(analysis.labels, ("better", "worse")):
        own = [one.verdict for (a, _), one in overall.items() if a == label]
        cells[label, f"{verdict} than"] = f"{own.count(verdict)} of {len(own)}"
    caption = "IQM of the final greedy returns. ★: the highest of its environment, or not shown to be below it. "
    caption += "Better and worse than: over all environments"
    return pivot(cells, analysis, caption, ("better than", "worse than"))


def differing_in(group: dict[str, list[Record]]) -> dict[str, dict[str, str]]:
    """The arguments that all contenders of an environment have and in which they differ."""
    found = arguments_that_differ([record for records in group.values() for record in records])
    return {name: texts for name, texts in found.items() if "–" not in texts.values()}


def verdicts(analysis: Analysis) -> tuple[list[str], list[str]]:
    """A sentence for each pair, over all environments that both have: first the pairs that matter most, then the rest.

    In a sweep the pairs that differ matter most; the table and the figure of the sweep show the rest.
    """
    found, few, alike = {True: [], False: []}, {True: 0, False: 0}, []  # by whether the pair matters
    for a, b in analysis.pairs:
        matters = analysis.matters(a, b)
        comparison = analysis.comparisons.get((a, b, None))
        if not comparison:
            without = [label for label in (a, b) if label not in analysis.labels and not analysis.has_failed(label)]
            nothing = f"There is no complete run of {' or '.join(without)}."
            found[matters].append(nothing if without else f"{a} and {b} have no environment in common.")
            continue
        if comparison.seeds < FEWEST:
            few[matters] += 1
            if few[matters] > 1:
                continue
        sentence = comparison.sentence(a, b) + " †" * ((a, b, None) in analysis.surviving)
        undecided, decided = comparison.seeds >= FEWEST and comparison.verdict == "no evidence", {}
        if undecided:
            singly = {e: analysis.comparisons.get((a, b, e)) for e in analysis.results.env_ids}
            decided = {e: one.verdict for e, one in singly.items() if one and one.verdict != "no evidence"}
        if decided:
            places = {verdict: [] for verdict in decided.values()}
            for env_id, verdict in decided.items():
                places[verdict].append(figures.without_modules(env_id) + " †" * ((a, b, env_id) in analysis.surviving))
            where = "; ".join(f"{verdict} on {', '.join(names)}" for verdict, names in places.items())
            sentence += f" Taking environments singly, {a} is {where}."
        of_a_sweep = matters and undecided and not decided and analysis.results.sweeps
        (alike if of_a_sweep else found[matters]).append(sentence)
    for matters, count in few.items():
        if count > 1:
            found[matters].append(f"The same holds for {count - 1} more {'pairs' if count > 2 else 'pair'}.")
    if len(alike) > 1:
        found[True].append(f"No evidence of a difference in {len(alike)} {'other ' if found[True] else ''}pairs.")
        return found[True], alike + found[False]
    return found[True] + alike, found[False]


def scaled_names(analysis: Analysis, env_ids: list[str]) -> str:
    """Environments as text, with the scale of those without references."""
    said = {
        name: f"{number(own['random'])} and 1 is {number(own['reference'])}" for name, own in analysis.ranges.items()
    }
    scale = " (no references: 0 is {}, the lowest and the highest final return here)"
    return ", ".join(name + (scale.format(said[name]) if name in said else "") for name in env_ids)


def final_returns(analysis: Analysis) -> Section:
    """Mean, standard deviation, IQM and interval, also normalised over environments; every seed as a dot."""
    rows, dots = [], {}
    for env_id, group in analysis.groups.items():
        for label in group:
            values = analysis.finals(env_id, label)
            low, high = interval([values])
            middle = float(pooled_iqm(values))
            dots.setdefault(env_id, {})[label] = (values, middle, float(low), float(high))
            std = number(values.std(ddof=1)) if len(values) > 1 else "–"
            row = [figures.without_modules(env_id), label, str(len(values)), number(values.mean()), std]
            rows.append([*row, number(middle), span(low, high), number(values.min()), number(values.max())])
    header = ["environment", "script", "seeds", "mean", "std", "IQM", "its 95 % interval", "lowest", "highest"]
    tables = [Table(header, rows)]
    if analysis.normalised:
        rows = []
        for label in analysis.labels:
            values = analysis.normalised_finals(label)
            row = [label, number(np.mean([one.mean() for one in values]))]
            rows.append([*row, number(float(pooled_iqm(*values))), span(*interval(values))])
        over = scaled_names(analysis, analysis.normalised)
        caption = f"Normalised (0: random policy, 1: reference score), over {over}"
        tables.append(Table(["script", "mean", "IQM", "its 95 % interval"], rows, caption))
    words = "Mean return of the final weights, in greedy play. A dot is a seed, the bar the interquartile mean (IQM)."
    figure = figures.finals(dots, analysis.colors, analysis.quantity)
    return Section("Final returns", words, Picture("finals", "Final greedy return of every seed", figure), tables)


def bands(analysis: Analysis) -> str:
    """The words on the intervals around a line."""
    if figures.few(analysis.labels):
        return "with 95 % stratified bootstrap intervals"
    return "without intervals, which would hide each other"


def learning_curves(analysis: Analysis) -> Section | None:
    """IQM and interval over environment steps, for each environment."""
    if not analysis.curves:
        return None
    by_env = {}
    for env_id, by_label in analysis.curves.items():
        for label, (_, steps, _) in by_label.items():
            by_env.setdefault(env_id, {})[label] = (steps, *analysis.bands[env_id, label])
    words = f"Greedy return during training: IQM over seeds, {bands(analysis)}."
    figure = figures.curves(by_env, analysis.colors, analysis.references, analysis.quantity)
    return Section("Learning curves", words, Picture("curves", "Greedy return over environment steps", figure))


def curves_across(analysis: Analysis) -> Section | None:
    """The normalised learning curve over all environments, against the share of the training steps."""
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
    words = f"IQM of the normalised greedy return over {scaled_names(analysis, env_ids)}, {bands(analysis)}."
    figure = figures.curves_across(by_label, analysis.colors)
    return Section(
        "Learning curves across environments",
        words,
        Picture("curves_across", "Normalised return over training", figure),
    )


def performance_profiles(analysis: Analysis) -> Section | None:
    """The share of runs that reach each normalised return."""
    if not analysis.normalised:
        return None
    scores = {label: analysis.normalised_finals(label) for label in analysis.labels}
    highest = max(one.max() for values in scores.values() for one in values)
    levels = np.linspace(0, max(1.0, highest) * 1.02, 101)  # from random play on: one very low run hides the rest
    by_label = {}
    for label, values in scores.items():
        reached = at_least(values, levels)
        by_label[label] = (levels, stratified_mean(*reached), *interval(reached, stratified_mean))[1:]
    over = scaled_names(analysis, analysis.normalised)
    words = f"Share of runs whose normalised final return is at least τ, over {over}."
    figure = figures.profiles(levels, by_label, analysis.colors)
    return Section(
        "Performance profiles", words, Picture("profiles", "Share of runs against normalised return", figure)
    )


def improvement(analysis: Analysis) -> Section | None:
    """Probability of improvement of every pair, over all environments and in each."""
    rows, drawn = [], []
    singly = list(analysis.groups) if len(analysis.groups) > 1 else []
    for a, b in analysis.pairs:
        overall = analysis.comparisons.get((a, b, None))
        if not overall:
            continue
        drawn.append((a, b, overall))
        row = [f"{a} over {b}"]
        for env_id in (None, *singly):
            text, comparison = "–", analysis.comparisons.get((a, b, env_id))
            if comparison:
                said = "" if comparison.verdict == "no evidence" else f" {comparison.verdict}"
                said += " †" * ((a, b, env_id) in analysis.surviving)
                text = f"{comparison.probability:.2f}{said}\n{comparison.span}".rstrip()
            row.append(text)
        rows.append(row)
    if not rows:
        return None
    shown = None
    if len(drawn) <= MOST_PAIRS:
        figure = figures.improvement(drawn)
        shown = Picture("improvement", "Probability of improvement of every pair, with 95 % intervals", figure)
    words = (
        "The probability that a run of the one script ends above a run of the other, averaged over environments; ties "
        "count half, and a run that failed counts as below all that did not. Where the 95 % interval contains 0.5, "
        "there is no evidence of a difference at this number of seeds, which is not evidence of none. Every cell is a "
        "comparison. With many comparisons some differences appear by chance (about 1 in 20, and more if the seeds of "
        "one script spread several times as far as those of the other); a † remains after Holm's correction for all of "
        "them. Intervals are Newcombe's (2006, method 5)."
    )
    table = Table(["pair", "all", *map(figures.without_modules, singly)], rows)
    return Section("Probability of improvement", words, shown, [table])


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
    if any(env_id == "normalised" for _, env_id in areas):
        caption += f"; normalised over {scaled_names(analysis, analysis.normalised)}"
    tables = [pivot(areas, analysis, caption, ("normalised",))]
    if reached:
        caption = "Median steps to a threshold; a seed that never reaches it counts as later than all that do"
        tables.append(pivot(reached, analysis, caption, tuple(dict.fromkeys(column for _, column in reached))))
    return Section("Speed of learning", tables=tables)


def q_values(analysis: Analysis) -> Section | None:
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
    words = "Median over seeds, in greedy play. A solid line above its dashed one is overestimation."
    caption = "Predicted minus realised at the end, IQM and 95 % interval"
    figure = figures.q_values(by_env, analysis.colors)
    shown = Picture("q_values", "Predicted and realised Q over environment steps", figure)
    return Section("Are the Q-values right?", words, shown, [pivot(biases, analysis, caption)])


def sweeps(analysis: Analysis) -> Section | None:
    """A panel and a table for each varied argument: over all environments with a reference score, and for each other
    environment.
    """
    scripts = list(dict.fromkeys(base_of(label) for label in analysis.labels))
    scaled = [env_id for env_id in analysis.groups if env_id in analysis.references]
    places = {", ".join(scaled): scaled} if scaled else {}
    places |= {env_id: [env_id] for env_id in analysis.groups if env_id not in scaled}
    panels, tables = [], []
    for (name, values), (place, env_ids) in itertools.product(
        underscored(analysis.results.sweeps).items(), places.items()
    ):
        found = {script: own for script in scripts if (own := swept(analysis, script, name, values, env_ids))}
        if found:
            texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
            quantity = "normalised final return, IQM" if env_ids is scaled else "final return, IQM"
            panels.append((place, name, texts, quantity, found))
            rows = [
                [script, *(with_interval(*own[i][:3]) if i in own else "–" for i in range(len(values)))]
                for script, own in found.items()
            ]
            tables.append(Table([name, *texts], rows, f"{figures.without_modules(place)}, {quantity}"))
    if not panels:
        return None
    words = "One argument varied at a time, everything else as it was. Dots are seeds, bands 95 % intervals of the IQM."
    figure = figures.sweeps(panels, figures.palette(scripts))
    return Section("Sweeps", words, Picture("sweeps", "Final return against each argument", figure), tables)


def swept(analysis: Analysis, script: str, name: str, values: list, env_ids: list[str]) -> dict[int, tuple]:
    """{i: (IQM, low, high, returns of the seeds)} of each values[i] with which the script ran in all environments."""
    found = {}
    for i, value in enumerate(values):
        samples = []
        for env_id in env_ids:  # this value may be the base in one environment and a variant in another
            for label, records in analysis.groups[env_id].items():
                alone = all(set(r.varied) <= {name} and r.args.get(name) == value for r in records)
                if alone and base_of(label) == script:
                    final = analysis.finals(env_id, label)
                    samples.append(analysis.normalise(env_id, final) if env_id in analysis.references else final)
        if len(samples) == len(env_ids):
            found[i] = (float(pooled_iqm(*samples)), *map(float, interval(samples)), np.concatenate(samples))
    return found
