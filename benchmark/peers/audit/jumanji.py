"""Asks jumanji, environments in JAX: the discount at a time limit, and AutoResetWrapper."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.environments import Connector, SlidingTilePuzzle, Snake
from jumanji.wrappers import AutoResetWrapper

from benchmark.peers.audit.rows import answer_all, not_applicable, row


def play(env, steps, seed=0):
    """The time steps of the first legal action, from reset() on."""
    step = jax.jit(env.step)
    state, shown = jax.jit(env.reset)(jax.random.PRNGKey(seed))
    found = [shown]
    for _ in range(steps):
        action = jnp.argmax(shown.observation.action_mask, axis=-1)
        state, shown = step(state, action)
        found.append(shown)
    return found


def discounts(kind):
    """Of the second step, with limits of 100 and of 2 steps; the mean, where there is one for each agent."""
    return [float(np.mean(play(kind(time_limit=limit), 2)[-1].discount)) for limit in (100, 2)]


@row(9, "Snake")
def truncation_of_snake():
    """Legal moves only, which end no game: y looks at the next state, with and without the limit."""
    return discounts(Snake), [1, 1]


@row(9, "SlidingTilePuzzle")
def truncation_of_sliding_tile_puzzle():
    return discounts(SlidingTilePuzzle), [1, 1]


@row(9, "Connector")
def truncation_of_connector():
    return discounts(Connector), [1, 1]


def grid(shown):
    return np.asarray(shown.observation.grid if hasattr(shown.observation, "grid") else shown.observation.puzzle)


def puzzle(**arguments):
    return AutoResetWrapper(SlidingTilePuzzle(time_limit=3), **arguments)


@row(10, "AutoResetWrapper, next_obs_in_extras")
def final_observation():
    """Cells in which extras["next_obs"] of the third step of three differs from the puzzle played without the
    wrapper."""
    alone = play(SlidingTilePuzzle(time_limit=3), 3)[-1]
    kept = play(puzzle(next_obs_in_extras=True), 3)[-1].extras["next_obs"]
    return int((np.asarray(kept.puzzle) != grid(alone)).sum()), 0


@row(10, "AutoResetWrapper, the default")
def final_observation_by_default():
    """The same of `observation`, where there is no other."""
    alone, shown = play(SlidingTilePuzzle(time_limit=3), 3)[-1], play(puzzle(), 3)[-1]
    missing = "next_obs" not in (shown.extras or {})
    cells = int((grid(shown) != grid(alone)).sum())
    return cells, 0, missing and cells > 0


@row(11)
def no_step_over_a_reset():
    """Cells in which the puzzle changes in each step of AutoResetWrapper, from one to the next: a slide changes two."""
    found = play(puzzle(), 7)
    changed = [int((grid(a) != grid(b)).sum()) for a, b in pairwise(found)]
    inside = [cells for cells, after in zip(changed, found[1:], strict=True) if not after.last()]
    return inside, [2] * len(inside)


@row(28)
@row(71)
def episodes_of_one_step():
    """Ends in 6 steps with a limit of one step."""
    found = play(AutoResetWrapper(SlidingTilePuzzle(time_limit=1)), 6)[1:]
    return sum(int(each.last()) for each in found), 6


@row(37)
def one_key_twice():
    """Different puzzles after 2 steps of the keys 1, 1 and 2."""
    return len({grid(play(puzzle(), 2, seed)[-1]).tobytes() for seed in (1, 1, 2)}), 2


@row(38)
def episodes_begin_differently():
    """Different first puzzles of 5 episodes of AutoResetWrapper."""
    found = play(puzzle(), 12)
    return len({grid(each).tobytes() for each in found[::3]}), 5


not_applicable("environments only", 3, 17, 20, 49)


if __name__ == "__main__":
    answer_all()
