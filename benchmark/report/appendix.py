"""The last sections of a report: cost, failures, published scores, arguments, versions."""

import numpy as np

from benchmark import pages
from benchmark.launch.status import duration
from benchmark.report import figures
from benchmark.report.analysis import Analysis
from benchmark.report.parts import Picture, Section, Table, number, pivot, seeds_text
from benchmark.report.records import ORIGIN, arguments_that_differ, numbers, values_of


def cost(analysis: Analysis) -> Section:
    """Return against wall time, steps per second, and the time of a run."""
    tables, by_env = [], {}
    for env_id, by_label in analysis.curves.items():
        for label, (records, *_) in by_label.items():
            clocks = [record.clock for record in records if record.clock is not None]
            if len(clocks) == len(records):
                by_env.setdefault(env_id, {})[label] = (np.median(clocks, axis=0), *analysis.bands[env_id, label])
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
    picture, words = None, "Comparable only if all runs had the machine in the same way."
    if by_env:
        words += " The figure is that of the learning curves, over the median time at which a step was reached."
        figure = figures.curves(by_env, analysis.colors, analysis.references, analysis.quantity, "seconds")
        picture = Picture("cost", "Greedy return over seconds", figure)
    return Section("Cost", words, picture, tables)


def troubles(analysis: Analysis) -> Section:
    """Failed and missing runs with the ends of their logs, and the faults of complete runs."""
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
    """Published scores of greedy play beside ours, and the scores that normalise returns."""
    published, normal = [], []
    for env_id, group in analysis.groups.items():
        known = analysis.references.get(env_id)
        if not known:
            own, why = analysis.ranges.get(env_id), "all runs are equal: left out of everything normalised"
            scale = [number(own["random"]), number(own["reference"]), "none: the range of all runs here"] if own else []
            normal.append([env_id, *(scale or ["–", "–", why])])
            continue
        normal.append([env_id, number(known["random"]), number(known["reference"]), known["reference_is"]])
        for label, records in group.items():
            values, steps = analysis.finals(env_id, label), records[0].result.get("global_step")
            spread = f" ± {number(values.std(ddof=1))}" if len(values) > 1 else ""
            steps = f"{steps:,}" if isinstance(steps, int) else "–"
            published.append([env_id, label, number(values.mean()) + spread, steps, str(len(values))])
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


def origin(analysis: Analysis) -> str:
    """Commit, versions, machine and hours of all runs together, in a line."""
    done = analysis.results.done
    seconds = sum(numbers(done, "seconds"))
    return f"{pages.origin([record.args for record in done])}, {duration(seconds)} of computing"


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
        names = ("total_timesteps", "eval_episodes", "final_eval_episodes", "eval_frequency", "max_episode_steps")
        steps, episodes, last, frequency, limit = (values_of(own, name) for name in names)
        if last not in ("", episodes):  # older scripts have one flag for all evaluations
            episodes = f"{episodes}, the last {last}" if episodes else last
        rows.append(
            [env_id, steps, episodes, frequency, limit or "its own", seeds_text({record.seed for record in own})]
        )
    header = ["environment", "training steps", "episodes an evaluation", "steps between evaluations"]
    header += ["steps an episode at most", "seeds"]
    tables.append(Table(header, rows, "Protocol: greedy play from starts of its own, in an environment of its own"))
    rows = [[name, values_of(done, name)] for name in ORIGIN if name not in ("command", "sha256")]
    seconds = numbers(done, "seconds")
    rows.append(["time of all runs together", duration(sum(seconds)) if seconds else ""])
    if code := dict.fromkeys((record.label, record.code) for record in done if record.code and not record.varied):
        tables.append(Table(["script", "its text"], list(map(list, code)), "Code", text=True))
    tables.append(Table(["what", "of the runs"], [row for row in rows if row[1]], "Versions and hardware", text=True))
    return Section("Protocol", tables=tables)
