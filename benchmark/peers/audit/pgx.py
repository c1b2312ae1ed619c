"""Asks pgx, games in JAX: MinAtar's Breakout and Freeway, with and without its wrapper auto_reset."""

import jax
import numpy as np
import pgx
from pgx.experimental import auto_reset

from benchmark.peers.audit.rows import answer_all, not_applicable, row

GAME = "minatar-breakout"


def play(steps, seed=0):
    """Breakout with action 0 through auto_reset: for each step the state before and after it, and the first states."""
    env = pgx.make(GAME)
    step, init = jax.jit(auto_reset(env.step, env.init)), jax.jit(env.init)
    state, found = init(jax.random.PRNGKey(seed)), []
    for k in range(steps):
        after = step(state, 0, jax.random.PRNGKey(1000 * seed + k + 1))
        found.append((state, after))
        state = after
    return env, found


not_applicable("its games end by their own rules", 9)


@row(10, "auto_reset")
def final_observation():
    """auto_reset returns the first observation of the next game at an end, and keeps the flag `terminated`, so that y
    does not look at it: the flags of the steps after which the observation is a first one."""
    _, found = play(60)
    return sum(bool(after.terminated) for _, after in found if int(after._step_count) == 0), sum(
        int(after._step_count) == 0 for _, after in found
    )


@row(11, "auto_reset")
def no_step_over_a_reset():
    """The step after an end begins in a first state: its number of steps, which grows by one, is then 1."""
    _, found = play(60)
    return [int(after._step_count) for before, after in found if before.terminated and not after.terminated][:3], [
        1
    ] * 3


@row(28, "auto_reset")
def ends_are_shown():
    """The ends in 60 steps of auto_reset, against those of games played without it from the same states."""
    env, found = play(60)
    step = jax.jit(env.step)
    alone = 0
    for k, (before, _) in enumerate(found):
        going = before.replace(terminated=jax.numpy.bool_(False), truncated=jax.numpy.bool_(False))
        alone += int(step(going, 0, jax.random.split(jax.random.PRNGKey(k + 1))[0]).terminated)
    return sum(int(after.terminated) for _, after in found), alone


@row(37)
def one_key_twice():
    """Different first states of 20 games of the keys 1, 1 and 2, as the side on which the ball begins."""
    init = jax.jit(pgx.make(GAME).init)
    sides = lambda seed: [np.asarray(init(key).observation) for key in jax.random.split(jax.random.PRNGKey(seed), 20)]  # noqa: E731
    return len({np.stack(sides(seed)).tobytes() for seed in (1, 1, 2)}), 2


@row(38, "auto_reset")
def games_begin_differently():
    """Breakout's ball begins at one of two sides: different first observations in 60 steps."""
    _, found = play(60)
    return len({np.asarray(after.observation).tobytes() for _, after in found if int(after._step_count) == 0}), 2


not_applicable("environments only", 3, 17, 20, 49)


if __name__ == "__main__":
    answer_all()
