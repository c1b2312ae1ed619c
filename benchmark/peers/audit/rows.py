"""What the programs in this folder share: each answers rows of docs/known-bugs.md about one package, by running it.

    from benchmark.peers.audit.rows import answer_all, row

    @row(9)
    def truncation():
        ...
        return 2.8, 1 + 0.9 * 2  # seen, due

    answer_all()

A program imports nothing else from this repository but stand_ins, since it may run beside other versions of NumPy and
PyTorch. It prints one line of JSON for each check. A check that raises an exception is an answer, too: `failed`, with
its text.
"""

import json
import math
import sys
import traceback
from collections.abc import Callable
from numbers import Number

CHECKS: list[tuple[int, str, Callable]] = []


class NotApplicable(Exception):
    """The package has nothing to which the row applies; the message says why, in a few words."""


def row(number: int, when: str = "") -> Callable:
    """Marks a check of the row `number` of known-bugs.md. `when`: only under this condition, such as "n-step only".

    The check returns (seen, due), numbers or lists of numbers: what the package did, and the right value by arithmetic.
    It has the bug if they differ by more than 1e-4 of the larger one. Where that is not the question, it returns
    (seen, due, has), with its own verdict, and seen and due may be short texts.
    """

    def mark(check: Callable) -> Callable:
        CHECKS.append((number, when, check))
        return check

    return mark


def not_applicable(reason: str, *numbers: int) -> None:
    """Says of whole rows, in a few words, why the package has nothing to which they apply."""

    def check():
        raise NotApplicable(reason)

    for number in numbers:
        row(number)(check)


def differ(seen, due) -> bool:
    if isinstance(seen, Number) and isinstance(due, Number):
        return not math.isclose(seen, due, rel_tol=1e-4, abs_tol=1e-6)
    if len(seen) != len(due):
        return True
    return any(differ(*pair) for pair in zip(seen, due, strict=True))


def shown(value) -> str:
    """A value in a few characters: 2.8, or 1 / 2.8 for a list, of which the first six are shown."""
    if isinstance(value, Number):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.6g}"
    if isinstance(value, str):
        return value
    more = [f"... of {len(value)}"] if len(value) > 6 else []
    return " / ".join([*map(shown, list(value)[:6]), *more])


def answer(number: int, when: str, check: Callable) -> dict:
    line = {"row": number, "when": when}
    try:
        seen, due, *verdict = check()
        has = verdict[0] if verdict else differ(seen, due)
        return line | {"state": "has" if has else "has not", "seen": shown(seen), "due": shown(due)}
    except NotApplicable as reason:
        return line | {"state": "not applicable", "seen": str(reason), "due": ""}
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return line | {"state": "failed", "seen": f"{type(error).__name__}: {error}"[:200], "due": ""}


def answer_all() -> None:
    """Prints the answers. With numbers on the command line, only those of these rows."""
    wanted = [int(word) for word in sys.argv[1:]]
    for number, when, check in CHECKS:
        if number in wanted or not wanted:
            print(json.dumps(answer(number, when, check)), flush=True)
