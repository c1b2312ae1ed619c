"""The statistics of reports: against rliable, by hand, and by simulation of what they promise."""

import itertools
import math
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
from conftest import ROOT

from benchmark.report import coverage
from benchmark.report.statistics import (
    Comparison,
    area,
    at_least,
    compare,
    draw_mean,
    expanded_level,
    holm,
    interval,
    mean_and_interval,
    pooled_iqm,
    said,
    steps_to,
    stratified_mean,
    superiority,
    verdict,
)

# Ten seeds of five environments; rliable's numbers for them are of rliable 1.2.0 with pandas 2.3.3:
#   get_interval_estimates({"x": x, "y": y}, lambda s: np.array([metrics.aggregate_iqm(s)]), reps=50000,
#                          random_state=np.random.RandomState(0))
#   get_interval_estimates({"xy": (x, y)}, metrics.probability_of_improvement, ...) and
#   create_performance_profile({"x": x}, np.array([0.25, 0.5, 0.75, 1.0]), reps=20000)
rng = np.random.default_rng(7)
MEANS, SPREADS = ([0.6, 0.8, 0.3, 0.9, 0.5], [0.5, 0.8, 0.4, 0.8, 0.2]), [0.1, 0.3, 0.2, 0.05, 0.4]
X, Y = (np.round(rng.normal(means, SPREADS, size=(10, 5)), 3) for means in MEANS)


def test_iqm_and_its_interval_equal_rliables():
    """The IQM to rounding, the interval to 0.003: that is what 2,000 resamples differ from 50,000."""
    for scores, iqm, low, high in ((X, 0.61992308, 0.54507596, 0.68396154), (Y, 0.55392308, 0.49515385, 0.60769231)):
        assert pooled_iqm(*scores.T) == pytest.approx(iqm, abs=1e-8)
        assert interval(list(scores.T), expand=False, resamples=20_000) == pytest.approx([low, high], abs=0.003)


def test_the_expanded_level_by_hand():
    """Student's t at 97.5 % is 2.7764 with 4 degrees of freedom and 2.1604 with 13, times √(n / (n - 1)): so many
    standard deviations of a normal distribution the bootstrap is asked for."""
    for seeds, expected in (([5], 2.7764 * math.sqrt(5 / 4)), ([5, 10], 2.1604 * math.sqrt(7.5 / 6.5))):
        assert scipy.stats.norm.isf((1 - expanded_level(seeds)) / 2) == pytest.approx(expected, abs=1e-4)


def test_an_interval_is_expanded_if_not_told_otherwise_and_is_the_same_each_time():
    low, high = interval(list(X.T))
    plain_low, plain_high = interval(list(X.T), expand=False)
    assert low < plain_low < plain_high < high
    assert interval(list(X.T)) == (low, high)
    for first, second in zip(mean_and_interval(X), mean_and_interval(X), strict=True):
        assert (first == second).all()


def test_an_interval_of_fewer_than_five_seeds_is_unknown():
    low, high = interval([np.ones((4, 3))])
    assert low.shape == high.shape == (3,) and np.isnan([low, high]).all()
    assert np.isfinite(interval([np.arange(5.0)])).all()


def test_performance_profile_equals_rliables():
    reached = at_least(list(X.T), np.array([0.25, 0.5, 0.75, 1.0]))
    assert stratified_mean(*reached) == pytest.approx([0.84, 0.62, 0.38, 0.06])
    low, high = interval(reached, stratified_mean, expand=False, resamples=20_000)
    assert low == pytest.approx([0.76, 0.52, 0.30, 0.00], abs=0.02)  # one run in fifty
    assert high == pytest.approx([0.92, 0.72, 0.46, 0.12], abs=0.02)


def test_probability_of_improvement_equals_rliables():
    assert superiority(*X.T, *Y.T) == pytest.approx(0.615)
    found = compare(list(X.T), list(Y.T))  # another interval than rliable's bootstrap, (0.512, 0.716), but not far off
    assert (found.low, found.high) == pytest.approx((0.512, 0.716), abs=0.03)


def test_probability_of_improvement_by_hand():
    """1 beats none of 2, 2, 5; 2 ties with two, so 1 of 3; 3 beats two: 3 of 9. In the second environment all of 2."""
    first, second = (np.array([1, 2, 3]), np.array([2, 2, 5])), (np.array([4, 4]), np.array([1]))
    assert superiority(*first) == pytest.approx(3 / 9)
    assert superiority(first[0], second[0], first[1], second[1]) == pytest.approx((3 / 9 + 1) / 2)


def test_probability_of_improvement_of_many_scores_at_once():
    """Two columns, one environment: in the first 3 of 4 pairs are won; in the second one is, and one is a tie."""
    x, y = np.array([[1.0, 1.0], [3.0, 2.0]]), np.array([[0.0, 1.0], [2.0, 5.0]])
    assert superiority(x, y).tolist() == [3 / 4, (1 + 0.5) / 4]


def test_the_ends_of_the_interval_solve_its_equation():
    """(P - p)² = z² Var(p), with 10 seeds each; see `compare` for the variance."""
    found = compare([np.arange(10.0)], [np.arange(10.0) - 2.5])
    for p in (found.low, found.high):
        variance = p * (1 - p) * (1 + 9 * ((1 - p) / (2 - p) + p / (1 + p))) / 100
        assert (0.72 - p) ** 2 == pytest.approx(1.959964**2 * variance, rel=1e-5)


def test_nothing_is_said_of_four_seeds():
    found = compare([np.arange(4.0) + 9, np.arange(9.0)], [np.arange(4.0), np.arange(9.0) + 9])
    assert (found.probability, found.seeds, found.verdict, found.span) == (0.5, 4, "no evidence", "")
    assert math.isnan(found.low) and math.isnan(found.high)


def test_interval_of_no_difference_by_hand():
    """At 1/2 the variance is the Mann-Whitney test's, (m + n + 1) / (12 m n), and the interval symmetric."""
    same = np.arange(10.0)
    found = compare([same], [same])
    assert found.probability == 0.5 and found.low == pytest.approx(1 - found.high)
    # 0.5 ± 1.96 √(21 / 1200) is 0.24 to 0.76. Of 100 pairs, i > j - 2.5 holds for all but 28, so 0.72, within it; and
    # i > j - 3.5 for all but 21, so 0.79, outside.
    for shift, probability, said_of_it in ((2.5, 0.72, "no evidence"), (3.5, 0.79, "better")):
        shifted = compare([same], [same - shift])
        assert shifted.probability == pytest.approx(probability) and shifted.verdict == said_of_it


def test_complete_separation_is_not_certainty():
    found = compare([np.arange(10.0) + 20], [np.arange(10.0)])
    assert found.probability == 1 and 0.5 < found.low < 0.9 and found.high == 1
    assert found.verdict == "better" and compare([np.arange(10.0)], [np.arange(10.0) + 20]).verdict == "worse"


def test_an_interval_never_hides_on_which_side_of_one_half_it_ends():
    assert Comparison(0.24, 0.101, 0.4996, 10).span == "0.10 to 0.500"
    assert (
        Comparison(0.24, 0.101, 0.497, 10).span == "0.10 to 0.497"
        and Comparison(0.5, 0.2, 0.8, 10).span == "0.20 to 0.80"
    )
    for low, high, span in ((0.5, 0.9, "0.50 to 0.90"), (0.1, 0.5, "0.10 to 0.50")):  # one half itself is not beyond
        assert Comparison(0.5, low, high, 10).verdict == "no evidence" and Comparison(0.5, low, high, 10).span == span


def test_sentences():
    assert Comparison(0.8, 0.6, 0.9, 10).sentence("a", "b").startswith("a is better than b at 10 seeds: ")
    assert Comparison(0.2, 0.1, 0.4, 10).sentence("a", "b").startswith("a is worse than b at 10 seeds: ")
    undecided = Comparison(0.6, 0.4, 0.8, 10).sentence("a", "b")
    assert undecided.startswith("No evidence of a difference between a and b at 10 seeds: ")
    few = Comparison(1.0, 0.6, 1.0, 3)
    assert few.verdict == "no evidence" and "3 seeds are too few" in few.sentence("a", "b")

    assert Comparison(0.8, 0.6, 0.9, 5).sentence("a", "b") == (
        "a is better than b at 5 seeds: a run of a ends above one of b with probability 0.80 (0.60 to 0.90)."
    )


def test_a_mean_is_said_with_its_interval():
    assert said(np.full(5, 0.5)) == "0.50 (0.50 to 0.50)" and said(np.full(5, 0.5), 1) == "0.5 (0.5 to 0.5)"


def test_claims_and_reports_have_one_interval():
    """Of 5 ** 5 = 3,125 resamples of 1 to 5, one has the sum 5 and five have the sum 6: 6 / 5 is the 0.1 % quantile.

    The plain bootstrap's 2.5 % quantile would be 9 / 5, because 126 resamples have at most the sum 9.
    """
    values = np.arange(1.0, 6.0)
    mean, low, high = mean_and_interval(values)
    assert mean == 3 and [low, high] == pytest.approx([6 / 5, 24 / 5], abs=0.15)
    assert (low, high) == interval([values], stratified_mean)
    assert [low, high] != pytest.approx([9 / 5, 21 / 5], abs=0.3)
    assert said(values[:4]) == "2.50" and said(values[:4], 1) == "2.5", "four seeds are too few"
    places = [path.name for path in (ROOT / "benchmark").rglob("*.py") if "stats.bootstrap(" in path.read_text()]
    assert sorted(places) == ["coverage.py", "statistics.py"]


def test_the_share_of_intervals_that_contain_the_truth_by_hand():
    """Of 1: the first does, at its end; the second lies above; the third has no end, and the fourth is no number."""
    low, high = np.array([0, 2, 0, np.nan]), np.array([1, 3, np.inf, np.nan])
    assert coverage.share_covered(low, high, 1.0) == 1 / 4


def test_students_t_of_a_mean_and_of_a_trimmed_mean():
    """Of 1 to 5: 3 ± 2.7764 √(2.5 / 5). The other against SciPy's own, which cuts off 2 of 8 at either end."""
    low, high = coverage.students_t(np.arange(1.0, 6.0), stratified_mean)
    assert [low, high] == pytest.approx([3 - 2.7764 * math.sqrt(0.5), 3 + 2.7764 * math.sqrt(0.5)], abs=1e-4)
    scores = np.array([1.0, 2.0, 4.0, 4.5, 5.0, 7.0, 9.0, 30.0])
    expected = scipy.stats.mstats.trimmed_mean_ci(scores, limits=(0.25, 0.25))
    assert coverage.students_t(scores, pooled_iqm) == pytest.approx(expected)


def test_the_command_of_the_table_of_coverage(tmp_path, monkeypatch, capsys):
    """Student's t covers exactly 95 % of means of bell-shaped returns: of 400 experiments 92 to 98 %."""
    (tmp_path / "compare.md").write_text("# Title\n")
    monkeypatch.setattr(coverage, "PAGE", tmp_path / "compare.md")
    monkeypatch.setattr(sys, "argv", "coverage --experiments 400 --resamples 200 --seeds 5".split())
    coverage.main()
    text = (tmp_path / "compare.md").read_text()
    assert "    python -m benchmark.report.coverage --experiments 400 --resamples 200 --seeds 5\n" in text
    header, _, *lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert header == ["returns", "seeds", "ours", "plain percentile", "BCa", "Student's t", "studentised"]
    found = {
        line[0]: dict(zip(header[2:], (float(share.rstrip("%")) for share in line[2:]), strict=True)) for line in lines
    }
    assert len(found) == 6 and 92 <= found["mean, bell-shaped"]["Student's t"] <= 98
    for shares in found.values():
        assert shares["ours"] > shares["plain percentile"], "with five seeds"


def test_what_becomes_of_a_claim():
    assert verdict("a > b", True, 5) == "reproduces: a > b"
    assert verdict("a > b", False, 5) == "does NOT reproduce: a > b"
    assert verdict("a > b", True, 4) == "too few seeds to tell: a > b"


def test_a_score_at_the_level_reaches_it():
    assert [reached.tolist() for reached in at_least([[0.4, 0.5]], np.array([0.5, 0.6]))] == [[[0, 0], [1, 0]]]


def test_area_by_hand():
    """From 0 to 10 over 100 steps, then 10 for 300 steps: (5 × 100 + 10 × 300) / 400."""
    assert area(np.array([0, 100, 400]), np.array([[0.0, 10.0, 10.0]])) == pytest.approx([3500 / 400])
    assert area(np.array([100, 300]), np.array([[0.0, 10.0], [4.0, 4.0]])) == pytest.approx([5, 4])
    assert area(np.array([100]), np.array([[7.0]])).tolist() == [7]


def test_a_curve_is_drawn_with_its_band():
    """Two steps, at which ten seeds are 0 and 1, five times each, and all 3: the band has the interval's ends."""
    values = np.repeat([[0.0, 3.0], [1.0, 3.0]], 5, axis=0)
    _, low, high = mean_and_interval(values)
    figure, axes = plt.subplots()
    color = draw_mean(axes, [10, 20], values, color="#123456", label="a")
    (line,), (band,) = axes.lines, axes.collections
    assert color == line.get_color() == "#123456" and line.get_label() == "a"
    assert line.get_xydata().tolist() == [[10, 0.5], [20, 3]]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert corners == {(10, low[0]), (10, high[0]), (20, 3)} and low[0] < 0.5 < high[0]
    assert band.get_facecolor().tolist() == [[0x12 / 255, 0x34 / 255, 0x56 / 255, 0.25]]
    assert band.get_linewidth().tolist() == [0]
    plt.close(figure)


def test_steps_to_a_threshold_count_failures_as_infinite():
    curves = np.array([[0.0, 5.0, 9.0], [9.0, 0.0, 0.0], [0.0, 0.0, 4.9]])
    assert steps_to(np.array([10, 20, 30]), curves, 5.0).tolist() == [20, 10, np.inf]


@pytest.fixture
def draw():
    """draw(kind, *size) -> scores: bell-shaped, skewed, mostly good with some failures, or cut off."""
    rng = np.random.default_rng(1)

    def scores(kind: str, *size: int) -> np.ndarray:
        if kind == "skewed":
            return rng.lognormal(0, 0.75, size)
        if kind == "failures":
            good = rng.random(size) < 0.75
            return np.where(good, rng.normal(1, 0.1, size), rng.uniform(0, 0.8, size))
        values = rng.normal(size=size)
        return np.minimum(values, 0.5) if kind == "ceiling" else values

    return scores


@pytest.mark.parametrize("kind", ["normal", "skewed", "failures"])
@pytest.mark.parametrize(("seeds", "environments"), [(10, 1), (20, 1), (10, 5), (5, 5)])
def test_intervals_of_the_iqm_cover_95_percent(draw, kind, seeds, environments):
    """± 2 %, of 2,000 experiments, and half a percent, which is the simulation's own standard error."""
    truth = pooled_iqm(draw(kind, 1_000_000))
    low, high = interval([draw(kind, seeds, 2000) for _ in range(environments)], resamples=1000)
    assert 0.925 <= np.mean((low <= truth) & (truth <= high)) <= 0.975


def test_five_seeds_of_one_environment_cover_less(draw):
    """Five values say little of their spread: 92 to 94 % is what can be had, and what is promised nowhere."""
    low, high = interval([draw("normal", 5, 2000)], resamples=1000)
    assert 0.92 <= np.mean((low <= 0) & (high >= 0)) <= 0.97


def test_the_plain_percentile_interval_covers_less(draw):
    """Why `interval` expands it: with five seeds it misses every tenth time."""
    low, high = interval([draw("normal", 5, 2000)], expand=False, resamples=1000)
    assert np.mean((low <= 0) & (high >= 0)) < 0.92


@pytest.mark.parametrize("kind", ["normal", "failures", "ceiling"])
@pytest.mark.parametrize("environments", [1, 5])
def test_false_alarms_where_two_scripts_are_the_same(draw, kind, environments):
    """With 10 seeds each, a difference that is not there is seen in at most 6 % of 2,000 experiments."""
    alarms = 0
    for _ in range(2000):
        a, b = ([draw(kind, 10) for _ in range(environments)] for _ in "ab")
        alarms += compare(a, b).verdict != "no evidence"
    assert alarms / 2000 <= 0.06


def test_false_alarms_with_five_seeds_exactly():
    """Of the 252 ways to deal ten different scores to two scripts, 14 look like a difference: 5.6 %."""
    deals = [set(deal) for deal in itertools.combinations(range(10), 5)]
    split = [(np.array(sorted(deal)), np.array(sorted(set(range(10)) - deal))) for deal in deals]
    assert sum(compare([a], [b]).verdict != "no evidence" for a, b in split) == 14


@pytest.mark.parametrize(
    ("shifts", "most"), [([0.5], 0.97), ([1.0], 0.97), ([2.0], 0.97), ([1.0] * 5, 0.97), ([2, -2, 0, 1, -1], 1.0)]
)
def test_intervals_of_the_probability_of_improvement_cover_95_percent(draw, shifts, most):
    """± 2 % with 10 seeds each, more where environments disagree; P(x + shift > y) is Φ(shift / √2)."""
    truth, covered = scipy.stats.norm.cdf(np.array(shifts) / np.sqrt(2)).mean(), 0
    for _ in range(2000):
        found = compare([draw("normal", 10) + shift for shift in shifts], [draw("normal", 10) for _ in shifts])
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / 2000 <= most


def test_p_value_is_the_mann_whitney_tests():
    """Each of 5 above each of 5: z = (1 - 1/2) / √(11 / 300). The interval leaves 1/2 out exactly where p < 0.05."""
    found = compare([np.arange(5.0) + 5], [np.arange(5.0)])
    assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(0.5 / np.sqrt(11 / 300)))
    rng = np.random.default_rng(0)
    both = set()
    for shift in np.linspace(0, 2, 40):
        one = compare([rng.normal(shift, 1, 6)], [rng.normal(0, 1, 6)])
        both.add(outcome := one.p_value < 0.05)
        assert outcome == (not one.low <= 0.5 <= one.high)
        turned = compare([np.arange(5.0)], [np.arange(5.0) + 5])
    assert both == {True, False}
    assert (turned.reversed.probability, turned.reversed.low) == pytest.approx((found.probability, found.low))
    assert np.isnan(compare([np.arange(3.0)], [np.arange(3.0)]).p_value), "too few seeds"


def test_holms_correction_by_hand():
    """Of four the smallest times 4, the next times 3, 2 and 1; none below the one before it, none above 1."""
    assert holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0]) and len(holm([])) == 0
