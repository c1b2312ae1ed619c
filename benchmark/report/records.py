"""Reads runs, complete or not: from a suite's folder, from any other folder, or from the tables of a report."""

import csv
import json
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.launch.status import state
from benchmark.run_folder import (
    RETURN,
    complete_folder,
    finite,
    log_tail,
    read_args,
    read_attempts,
    read_object,
    read_scalars,
    why_failed,
    why_incomplete,
    wrong_results,
)
from benchmark.suite import BadInput, labels, read_plan, task

CURVES = (RETURN, "eval/q_predicted", "eval/q_realised")
REFERENCES = Path(__file__).parent / "reference_scores.toml"
# Entries of args.json and origin.json that are no arguments of the algorithm.
ORIGIN = ("command", "sha256", "commit", "python", "torch", "gymnasium", "numpy", "stable_baselines3", "platform")
ORIGIN += ("processor", "cpu_count", "gpu")
NOT_COMPARED = {*ORIGIN, "exp_name", "seed", "env_id", "runs_dir", "track", "wandb_project_name", "wandb_entity"}
NOT_COMPARED |= {"wandb_mode", "evaluate", "capture_video", "save_model", "no_counterpart"}
KEPT = ("best_return", "global_step", "updates", "seconds", "sps")  # of result.json, beside the final returns


@dataclass(eq=False)
class Record:
    """One run of one contender, environment and seed."""

    label: str
    env_id: str  # with its arguments, see suite.task
    seed: int
    state: str  # done, running, failed or missing; in a folder without a suite also unfinished
    folder: Path  # the script's own run folder if there is one
    varied: dict = field(default_factory=dict)  # the flags that a sweep changed
    args: dict = field(default_factory=dict)  # args.json, and the origin that the harness noted
    result: dict = field(default_factory=dict)  # result.json
    curves: dict = field(default_factory=dict)  # {name: (steps (n,), values (n,))}
    clock: np.ndarray | None = None  # seconds since the start at each evaluation, if the run was never resumed
    problem: str = ""  # the reason of a failure, or a fault of a complete run
    log: str = ""  # the end of a failed run's log
    code: str = ""  # the version of the script
    repeated: bool = False  # another run has the same contender, environment and seed

    @property
    def final(self) -> float:
        """Mean greedy return of the final weights."""
        return float(self.result[RETURN])


@dataclass
class Results:
    """The runs of a report."""

    title: str
    records: list[Record]
    sweeps: dict = field(default_factory=dict)
    references: dict = field(default_factory=dict)  # {environment: {"random": return, "solved": return}} of suites
    metric: str = RETURN  # the number of result.json that the report is about

    @property
    def done(self) -> list[Record]:
        return [record for record in self.records if record.state == "done"]

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(record.label for record in self.records))

    @property
    def env_ids(self) -> list[str]:
        return list(dict.fromkeys(record.env_id for record in self.records))


def fill(record: Record, run_dir: Path) -> None:
    """Reads a complete run folder into the record."""
    record.folder = run_dir
    record.args, record.result = read_args(run_dir) or {}, read_object(run_dir / "result.json") or {}
    no_counterpart = record.args.get("no_counterpart")  # flags that a peer ignored
    for name in no_counterpart if isinstance(no_counterpart, list) else ():
        record.args[str(name)] = "not as asked"
    broken = []
    scalars = read_scalars(run_dir, "eval/", broken)
    problems = ["its event file breaks off"] if broken else []
    for name in CURVES:
        if name in scalars:
            steps, values, _ = zip(*scalars[name], strict=True)
            record.curves[name] = np.array(steps), np.array(values, np.float32)
    took = finite(record.result.get("seconds"))
    if RETURN in record.curves and took is not None:
        walls = np.array([wall for _, _, wall in scalars[RETURN]])
        clock = took - (walls[-1] - walls)  # the last evaluation ends the run
        record.clock = clock if (clock >= 0).all() else None  # negative in a resumed run, because of the pause
    if RETURN not in record.curves:
        problems.append(f"its event files have no {RETURN}")
    record.problem = "; ".join(problems)


def read_suite_dir(suite_dir: Path) -> Results:
    """The runs of the last `run` command in a suite's folder. Raises BadInput if there are none."""
    runs, sweeps = read_plan(suite_dir)
    records, references = [], {}
    for run in runs:
        folder = suite_dir / run.folder
        code = f"SHA-256 {run.sha256[:12]}"
        begun = next((path for path in sorted(folder.glob("*/args.json"))), folder).parent
        env_id = task(run.env_id, run.flags | (read_args(begun) or {}))
        record = Record(run.label, env_id, run.seed, "done", folder, run.varied, code=code)
        if found := complete_folder(folder):
            fill(record, found)
        else:
            record.state = state(suite_dir, run)
        if attempts := read_attempts(folder):
            record.problem = record.problem or attempts[-1]["reason"]
        elif not found:
            record.problem = wrong_results(folder)
        if record.state == "failed":
            record.log = log_tail(folder)
        records.append(record)
        if run.reference:
            references[env_id] = run.reference
    return Results(suite_dir.name, records, sweeps, references)


def read_folders(folder: Path, suite_dirs: Collection[Path] = ()) -> Results:
    """All run folders below a folder, without those of suites.

    Runs of one script with different texts or arguments are different contenders; the name of a contender has the text
    and the arguments that differ. If two runs have the same text, arguments and seed, the later run counts.
    """
    found, within = [], set(suite_dirs)
    paths = [path for path in folder.rglob("args.json") if within.isdisjoint(path.parents)]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        args = read_args(path.parent)
        if args is None or "env_id" not in args or not isinstance(args.get("seed"), int):
            continue
        command = args.get("command")
        script = Path(str(command[0])).stem if isinstance(command, list) and command else path.parent.name
        label = str(args.get("exp_name") or script)
        code = f"SHA-256 {args['sha256'][:12]}" if isinstance(args.get("sha256"), str) else ""
        record = Record(label, task(str(args["env_id"]), args), args["seed"], "done", path.parent, args=args, code=code)
        if problem := why_incomplete(path.parent):
            failed, record.log = why_failed(path.parent)
            record.state, record.problem = ("failed", failed) if failed else ("unfinished", problem)
        else:
            fill(record, path.parent)
        found.append(record)
    alike, codes = {}, {}
    for record in found:
        codes.setdefault(record.label, set()).add(record.code)
        alike.setdefault((record.label, record.env_id), []).append(record)
    for records in alike.values():
        names = dict.fromkeys(name for record in records for name in record.args if name not in NOT_COMPARED)
        values = {name: {json.dumps(record.args.get(name)) for record in records} for name in names}
        for record in records:
            differing = (f"{name}={record.args.get(name)}" for name in names if len(values[name]) > 1)
            text = record.code.removeprefix("SHA-256 ")[:7] or "unknown"
            texts = [f"(text {text})"] if len(codes[record.label]) > 1 else []
            record.label = " ".join([record.label, *texts, *differing])
    return Results(folder.resolve().name, sorted(each_once(found[::-1])[::-1], key=lambda record: record.seed))


def each_once(records: Iterable[Record]) -> list[Record]:
    """One run of each contender, environment and seed: the first complete one, or else the first.

    Marks it as repeated if another run ended otherwise or took other seconds, and so is no copy.
    """
    once = {}
    for record in records:
        key = record.label, record.env_id, record.seed
        chosen = once.setdefault(key, record)
        first, other = ((one.state, one.result.get(RETURN), one.result.get("seconds")) for one in (chosen, record))
        repeated = first != other and {chosen.state, record.state}.isdisjoint(("missing", "running"))
        if record.state == "done" != chosen.state:
            once[key] = record
        once[key].repeated |= chosen.repeated or repeated
    return list(once.values())


def read(source: Path) -> Results:
    """The runs of a suite's folder; or of any folder and the suites below it; or of the report in a folder.

    Raises BadInput if there are no runs.
    """
    if not source.is_dir():
        raise BadInput(f"there is no folder {source}")
    if (source / "plan.json").is_file():
        return read_suite_dir(source)
    parts = {path.parent: read_suite_dir(path.parent) for path in sorted(source.rglob("plan.json"))}
    others = read_folders(source, list(parts))
    if others.records:
        parts[source] = others
    if not parts and (source / "finals.csv").is_file():
        return read_report(source)
    if not parts:
        raise BadInput(f"there are no runs in {source}")
    return together(parts)


def about(source: Path, metric: str) -> Results:
    """The runs of `read`, with this number of result.json, and its curve if there is one, in place of the return.

    Raises BadInput if no run has it.
    """
    results = read(source)
    if results.metric == metric:
        return results
    if results.metric != RETURN:
        raise BadInput(f"{source} is a report on {results.metric}, not on {metric}")
    values = {id(record): finite(record.result.get(metric)) for record in results.done}
    if all(value is None for value in values.values()):
        known = {name for record in results.done for name, value in record.result.items() if finite(value) is not None}
        raise BadInput(f"no run in {source} has {metric}; its numbers are {', '.join(sorted(known)) or 'none'}")
    for record in results.done:
        scalars = read_scalars(record.folder, metric).get(metric, [])
        record.curves.pop(RETURN, None)
        if len(scalars) > 0:
            steps, series, _ = zip(*scalars, strict=True)
            record.curves[RETURN] = np.array(steps), np.array(series, np.float32)
        if len(scalars) != (0 if record.clock is None else len(record.clock)):
            record.clock = None
        record.result = {**record.result, RETURN: values[id(record)], "returns": []}
        if values[id(record)] is None:
            record.state, record.problem = "unfinished", f"its result.json has no {metric}"
    results.metric, results.references = metric, {}
    return results


def kept(args: dict) -> dict:
    """The entries of args.json that a report keeps: arguments and origin, without paths and W&B."""
    own = {*ORIGIN} - {"command"}
    return {name: value for name, value in args.items() if name not in NOT_COMPARED or name in own}


def number_of(text: str) -> float | int | None:
    """A number of a CSV file; None for an empty field."""
    return None if text == "" else int(text) if text.isdecimal() else float(text)


def read_report(folder: Path) -> Results:
    """The runs of a report, from the tables that write.write_tables wrote into its folder. Raises BadInput.

    Missing runs are left out, because another source may have them.
    """
    try:
        about = json.loads((folder / "arguments.json").read_text())
        contenders = {(own["script"], own["env_id"], seed): own for own in about["contenders"] for seed in own["seeds"]}
        curves = {}
        for row in read_table(folder / "curves.csv"):
            curves.setdefault((row["script"], row["env_id"], int(row["seed"])), []).append(row)
        records = []
        for i, row in enumerate(read_table(folder / "finals.csv")):
            if row["state"] not in ("done", "failed"):
                continue
            key = row["script"], row["env_id"], int(row["seed"])
            record = Record(*key, row["state"], folder / f"finals.csv:{i}", problem=row["problem"])
            record.code, record.varied, record.args = (contenders[key][name] for name in ("code", "varied", "args"))
            record.env_id = task(record.env_id, record.args)
            if record.state == "done":
                from_table(record, row, curves.get(key, []))
            records.append(record)
        metric = about.get("metric", RETURN)
        return Results(folder.name, records, dict(about["sweeps"]), about.get("references", {}), metric)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder} holds no report of this version: {error!r}") from error


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def from_table(record: Record, row: dict[str, str], points: list[dict[str, str]]) -> None:
    """Fills the record of a complete run with its row of finals.csv and its rows of curves.csv."""
    numbers = {name: value for name in KEPT if (value := number_of(row[name])) is not None}
    record.result = {RETURN: float(row["final_return"]), **numbers, "returns": json.loads(row["returns"])}
    for name in CURVES:
        column = name.removeprefix("eval/")
        if own := [(int(point["step"]), float(point[column])) for point in points if point[column]]:
            steps, values = zip(*own, strict=True)
            record.curves[name] = np.array(steps), np.array(values, np.float32)
    if points and all(point["seconds"] for point in points):
        record.clock = np.array([float(point["seconds"]) for point in points])


def base_of(label: str) -> str:
    """The contender that a sweep varies; without a sweep, the contender itself."""
    return label.split(" --")[0]


def version(record: Record) -> tuple[str, str]:
    """The script's text and the arguments: equal in all runs of one contender on one environment."""
    compared = {name: value for name, value in record.args.items() if name not in NOT_COMPARED}
    return record.code, json.dumps(compared, sort_keys=True)


def together(parts: dict[Path, Results]) -> Results:
    """Joins {folder: its runs}; a run that is in several of them counts once.

    Contenders with one name in several folders become one contender only if their code and arguments are equal.
    """
    by_folder = {}  # {run's own folder: (part, run)}
    for part, results in parts.items():
        for record in results.records:
            by_folder.setdefault(record.folder.resolve(), (part, record))
    found = {}  # {(label, environment): {part: versions}}
    for part, record in by_folder.values():
        if record.state == "done":
            found.setdefault((record.label, record.env_id), {}).setdefault(part, set()).add(version(record))
    differing = {base_of(label) for (label, _), own in found.items() if len(set(map(frozenset, own.values()))) > 1}
    names = distinct_names(list(parts))
    for part, record in by_folder.values():
        if base_of(record.label) in differing:
            record.label = f"{names[part]}: {record.label}"
    once = each_once(record for _, record in by_folder.values())
    sweeps = {name: values for results in parts.values() for name, values in results.sweeps.items()}
    references = {name: own for results in parts.values() for name, own in results.references.items()}
    same = {} if differing else dict.fromkeys(part.resolve().name for part in parts)  # one study in several places
    (metric,) = {results.metric for results in parts.values()}
    return Results(" and ".join(same or names.values()), once, sweeps, references, metric)


def distinct_names(folders: list[Path]) -> dict[Path, str]:
    """{path: its last parts}, enough of them to tell the paths apart."""
    named = labels([folder.resolve() for folder in folders])
    return {folder: named[folder.resolve()] for folder in folders}


def side_by_side(a: Results, b: Results, name_a: str, name_b: str) -> tuple[Results, list[tuple[str, str]]]:
    """Both sets of runs, with the set's name before each contender's name, and the pairs to judge, b against a.

    Contenders with the same name are a pair. If no names are equal, every contender of b is paired with every one of a.
    """
    shared = [label for label in b.labels if label in a.labels]
    pairs = [(label, label) for label in shared] or [(new, old) for new in b.labels for old in a.labels]
    for part, name in ((a, name_a), (b, name_b)):
        for record in part.records:
            record.label = f"{name}: {record.label}"
    found = Results(f"{name_b} against {name_a}", a.records + b.records, references=a.references | b.references)
    return found, [(f"{name_b}: {new}", f"{name_a}: {old}") for new, old in pairs]


def read_references() -> dict:
    """{environment: {random, reference, ...}} from reference_scores.toml. An Atari game stands under both its names."""
    scores = tomllib.loads(REFERENCES.read_text(encoding="utf-8"))
    for game, (random, human) in scores.pop("random_and_human").items():
        title = game.title().replace("_", "")
        known = {"random": random, "reference": human, "reference_is": "human", **scores.get(f"ALE/{title}-v5", {})}
        scores[f"ALE/{title}-v5"] = scores[f"{title}NoFrameskip-v4"] = known
    return scores


def arguments_that_differ(records: list[Record]) -> dict[str, dict[str, str]]:
    """{argument: {label: its values}} for the arguments in which contenders on one environment differ."""
    values = {}
    for record in records:
        for name, value in record.args.items():
            if name not in NOT_COMPARED:
                values.setdefault(name, {}).setdefault(record.label, set()).add(json.dumps(value))
    labels = {record.label for record in records}
    found = {}
    for name, by_label in values.items():
        texts = {label: ", ".join(sorted(by_label.get(label, {"–"}))) for label in labels}
        if len(set(texts.values())) > 1:
            found[name] = texts
    return found


def numbers(records: list[Record], name: str) -> list[float]:
    """The numbers of one entry of result.json in these runs."""
    return [value for record in records if (value := finite(record.result.get(name))) is not None]


def values_of(records: list[Record], name: str) -> str:
    """The values of one entry of args.json in these runs, as text."""
    values = [record.args[name] for record in records if record.args.get(name) not in (None, "")]
    texts = dict.fromkeys(f"{value:,}" if isinstance(value, int) else str(value) for value in values)
    return "; ".join(texts)
