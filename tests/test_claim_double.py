"""The claim of Double DQN: all that its page says of Pendulum comes from the rows of its CSV file."""

from types import SimpleNamespace

from benchmark.claims import double_dqn


def test_the_page_is_computed_from_the_csv():
    """DQN predicts 10 and realises 4, Double DQN 3 and 4: 6 too much and 1 too little, 7 apart. Returns differ by 2.

    All five seeds are alike, so an interval has equal ends.
    """
    numbers = {"dqn.py": (10, 4, 0.5, -9, -7), "double_dqn.py": (3, 4, 0, -6, -5)}
    names = ("predicted", "realised", "above_0", "late_return", "final_return")
    rows = [
        {"script": script, "seed": seed, **dict(zip(names, map(str, values), strict=True))}  # text, as from a CSV file
        for script, values in numbers.items()
        for seed in range(5)
    ]
    tables, lines = [], []
    found = SimpleNamespace(table=lambda _, rows: tables.extend(rows), say=lines.append)
    double_dqn.report(found, rows)

    def alike(number: float) -> str:
        return f"{number:.2f} ({number:.2f} to {number:.2f})"

    assert tables == [
        ["DQN", alike(6), alike(6), "50%", alike(-9), alike(-7)],
        ["Double DQN", alike(-1), alike(1), "0%", alike(-6), alike(-5)],
    ]
    claim = f"reproduces: DQN overestimates more than Double DQN; difference, paired by seed: {alike(7)}"
    returns = "Final greedy return of Double DQN minus that of DQN, paired by seed: 2.0 (2.0 to 2.0)."
    assert lines == [claim, returns]
