"""Groups the complete runs of a report, and computes their curves and comparisons."""

import itertools
import re
from collections import Counter
from functools import cached_property

import numpy as np

from benchmark.report import figures
from benchmark.report.records import Record, Results, base_of, read_references
from benchmark.report.statistics import FEWEST, LEVEL, Comparison, compare, holm, interval, pooled_iqm
from benchmark.run_folder import RETURN

Q_PREDICTED, Q_REALISED = "eval/q_predicted", "eval/q_realised"
PARENT, SUM = "dqn.py", "rainbow.py"  # every script is compared with the first, the second with every script
FEW_PAIRS = 6  # up to this number, all pairs are shown first


class Analysis:
    """The complete runs of a report by environment and contender, with their curves and comparisons."""

    def __init__(self, results: Results, pairs: list[tuple[str, str]] | None = None):
        self.results, known = results, read_references() if results.metric == RETURN else {}
        self.quantity = "greedy return" if results.metric == RETURN else results.metric
        without_limit = {env_id: re.sub(r" \(\d+ steps\)$", "", env_id) for env_id in results.env_ids}
        self.references = {env_id: known[name] for env_id, name in without_limit.items() if name in known}
        for env_id, own in results.references.items():
            solved = {"reference": own["solved"], "threshold": own["solved"], "reference_is": "solved, says the suite"}
            self.references[env_id] = {"random": own["random"], **solved}
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
        self.ranges = {}  # {environment without references: the lowest and the highest final return of all runs}
        for env_id, group in self.groups.items():
            finals = [record.final for records in group.values() for record in records]
            if env_id not in self.references and min(finals) < max(finals):
                self.ranges[env_id] = {"random": min(finals), "reference": max(finals)}
        self.normalised = [env_id for env_id in self.common if env_id in self.references | self.ranges]
        self.asked_for, self.pairs = pairs is not None, self.default_pairs() if pairs is None else pairs
        self.curves = {env_id: {} for env_id in self.groups}  # {environment: {label: (records, steps, values)}}
        for env_id, group in self.groups.items():
            for label, records in group.items():
                if found := self.curve(records, RETURN):
                    self.curves[env_id][label] = found
        self.curves = {env_id: by_label for env_id, by_label in self.curves.items() if by_label}
        self.comparisons = {}  # {(a, b, environment or None for all that both have): Comparison}
        env_ids = results.env_ids if len(results.env_ids) > 1 else []
        for (a, b), env_id in itertools.product(self.pairs, (None, *env_ids)):
            if found := self.comparison(a, b, [env_id] if env_id else None):
                self.comparisons[a, b, env_id] = found
        self.told = [key for key, found in self.comparisons.items() if found.seeds >= FEWEST]
        adjusted = holm([self.comparisons[key].p_value for key in self.told])
        self.surviving = {key for key, p in zip(self.told, adjusted, strict=True) if p < 1 - LEVEL}

    @cached_property
    def bands(self) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """{(environment, label): (IQM over seeds, low, high) of its curve, each (steps,)}."""
        return {
            (env_id, label): (pooled_iqm(values), *interval([values]))
            for env_id, by_label in self.curves.items()
            for label, (_, _, values) in by_label.items()
        }

    def matters(self, a: str, b: str) -> bool:
        """Whether a reader asks for this pair first: every rung against DQN, Rainbow against every rung.

        Without DQN: every contender against the first contender. In a sweep every pair is a variant and its base.
        """
        bases, pair = [base_of(label) for label in self.results.labels], {base_of(a), base_of(b)}
        if self.asked_for or len(self.pairs) <= FEW_PAIRS or len(pair) == 1:
            return True
        first = {PARENT if PARENT in bases else bases[0], SUM}
        return not (pair.isdisjoint(first) or self.outdone(a) or self.outdone(b))

    def outdone(self, label: str) -> bool:
        """Whether the same script is better with other flags; only the best setting of a peer is shown first."""
        others = [other for other in self.labels if base_of(other) == base_of(label) and other != label]
        found = [self.comparison(other, label) for other in others]
        return any(one.probability > 0.5 for one in found if one)

    def default_pairs(self) -> list[tuple[str, str]]:
        """All pairs, also those of a contender whose runs all failed. In a sweep: the bases, and each variant with its
        base.
        """
        there = [label for label in self.results.labels if label in self.labels or self.has_failed(label)]
        varied = {r.label for r in self.results.records if r.varied}
        pairs = list(itertools.combinations([label for label in there if label not in varied], 2))
        turned = [base_of(a) == PARENT or base_of(b) == SUM for a, b in pairs]  # the rung comes first, DQN second
        pairs = [(b, a) if turn else (a, b) for (a, b), turn in zip(pairs, turned, strict=True)]
        with_base = [(label, base_of(label)) for label in there if label in varied]
        return pairs + [(label, base) for label, base in with_base if base in there]

    def has_failed(self, label: str) -> bool:
        """Whether any run of this contender has failed."""
        return any(name == label for _, name in self.failed)

    def curve(self, records: list[Record], name: str) -> tuple[list[Record], np.ndarray, np.ndarray] | None:
        """Records, steps (steps,) and values (seeds, steps) of the runs that have the most common evaluation steps."""
        own = [record for record in records if name in record.curves]
        if not own:
            return None
        (steps, _), *_ = Counter(tuple(record.curves[name][0]) for record in own).most_common(1)
        same = [record for record in own if tuple(record.curves[name][0]) == steps]
        for record in own if name == RETURN else ():
            left_out = "its curve ends early or has other steps than the others, and is left out of curves"
            if record not in same and left_out not in record.problem:
                record.problem = "; ".join(filter(None, [record.problem, left_out]))
        return same, np.array(steps), np.stack([record.curves[name][1] for record in same])

    def finals(self, env_id: str, label: str) -> np.ndarray:
        """Final greedy returns (seeds,)."""
        return np.array([record.final for record in self.groups[env_id][label]])

    def normalise(self, env_id: str, values: np.ndarray) -> np.ndarray:
        """Returns on a scale: 0 is the random policy, 1 the reference; without references the range of all runs."""
        scale = (self.ranges | self.references)[env_id]
        return (values - scale["random"]) / (scale["reference"] - scale["random"])

    def normalised_finals(self, label: str) -> list[np.ndarray]:
        """Normalised final returns (seeds,) of each environment that has a scale and all contenders."""
        return [self.normalise(env_id, self.finals(env_id, label)) for env_id in self.normalised]

    def outcomes(self, env_id: str, label: str) -> np.ndarray:
        """Final returns, with minus infinity for each failed run, so it counts as worse than all others."""
        finals = self.finals(env_id, label) if label in self.groups.get(env_id, {}) else np.zeros(0)
        return np.concatenate([finals, np.full(self.failed[env_id, label], -np.inf)])

    def comparison(self, a: str, b: str, env_ids: list[str] | None = None) -> Comparison | None:
        """Compares the outcomes of a and b over these environments, or over all that both have; None if none."""
        chosen = self.results.env_ids if env_ids is None else env_ids
        pairs = [(self.outcomes(env_id, a), self.outcomes(env_id, b)) for env_id in chosen]
        pairs = [(x, y) for x, y in pairs if len(x) and len(y)]
        return compare(*map(list, zip(*pairs, strict=True))) if pairs else None
