"""Asks rliable, which computes intervals of scores: the one row that is about random numbers."""

import numpy as np
from rliable import library

from benchmark.peers.audit.rows import answer_all, not_applicable, row

SCORES = np.random.RandomState(0).normal(size=(10, 3))


def intervals(seed):
    """The 95% interval of the mean of 10 runs of 3 tasks, 200 resamples."""
    state = np.random.RandomState(seed)
    _, found = library.get_interval_estimates(
        {"a": SCORES}, lambda scores: np.array([scores.mean()]), reps=200, random_state=state
    )
    return tuple(found["a"].ravel().tolist())


@row(37, "random_state")
def one_seed_twice():
    """The intervals of random_state 1, 1 and 2: as many different ones."""
    return len({intervals(seed) for seed in (1, 1, 2)}), 2


@row(37, "np.random.seed")
def one_global_seed_twice():
    """The same with the global seed."""
    found = set()
    for seed in (1, 1, 2):
        np.random.seed(seed)
        found.add(intervals(0))
    return len(found), 2


not_applicable("statistics only", 3, 9, 17, 20, 49)


if __name__ == "__main__":
    answer_all()
