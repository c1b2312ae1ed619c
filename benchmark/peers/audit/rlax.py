"""Asks RLax, which has losses and targets, but no replay, no networks and no loop."""

import jax
import jax.numpy as jnp
import numpy as np
import rlax

from benchmark.peers.audit.rows import answer_all, not_applicable, row

ATOMS = jnp.array([0.0, 10.0, 20.0])


def target_mean(loss, *more):
    """The mean of the target of a categorical loss, r = 0 and discount 0.9: at equal logits its gradient is 1/3 - m."""
    gradient = jax.grad(lambda logits: loss(ATOMS, logits, 0, 0.0, 0.9, *more))(jnp.zeros((2, 3)))
    return float((1 / 3 - gradient[0]) @ ATOMS)


def logits(*distributions):
    return jnp.log(jnp.array(distributions))


@row(3)
def double():
    """The selector prefers action 0, worth 5; the maximum is 9. The TD error of Q = 0."""
    q, value, selector = jnp.zeros(2), jnp.array([5.0, 9.0]), jnp.array([2.0, 1.0])
    return float(rlax.double_q_learning(q, 0, 1.0, 0.9, value, selector)), 1 + 0.9 * 5


not_applicable("the caller gives the values of s'", 4, 5, 6, 7)


@row(8)
def no_gradient_through_the_target():
    """The gradients of half the squared TD error by Q(s', ·): Q-learning and Double Q-learning."""
    q, next_q = jnp.zeros(2), jnp.array([2.0, 1.0])
    one = jax.grad(lambda x: rlax.q_learning(q, 0, 1.0, 0.9, x) ** 2 / 2)(next_q)
    two = jax.grad(lambda x: rlax.double_q_learning(q, 0, 1.0, 0.9, x, x) ** 2 / 2)(next_q)
    return [*one.tolist(), *two.tolist()], [0] * 4


not_applicable("the caller gives the discount of each step", 9, 10, 11)


@row(12)
def shapes():
    """A batch of two rewards without vmap."""
    try:
        error = rlax.q_learning(jnp.zeros(2), 0, jnp.ones(2), 0.9, jnp.ones(2))
    except AssertionError:
        return "refused", "refused", False
    return f"shape {error.shape}", "refused", error.shape != (2,)


@row(13)
def huber_keeps_its_gradient():
    """The gradient of Huber's loss at 1 and 5."""
    return [float(jax.grad(rlax.huber_loss)(x)) for x in (1.0, 5.0)], [1, 1]


@row(29)
@row(30)
def windows_end_with_their_episode():
    """Five rewards 1, the third step terminates, n = 3: the return of each."""
    discount = jnp.array([0.9, 0.9, 0.0, 0.9, 0.9])
    found = rlax.n_step_bootstrapped_returns(jnp.ones(5), discount, jnp.zeros(5), 3)
    return found.tolist(), [1 + 0.9 + 0.81, 1 + 0.9, 1, 1 + 0.9, 1]


@row(31)
def discount_of_short_windows():
    """Five rewards 0, all values 1, n = 3; the sequence ends after five steps."""
    found = rlax.n_step_bootstrapped_returns(jnp.zeros(5), jnp.full(5, 0.9), jnp.ones(5), 3)
    return found.tolist(), [0.9**3, 0.9**3, 0.9**3, 0.9**2, 0.9]


@row(33)
def projection():
    """All probability on the values 0, 10 and 13, of the atoms 0, 10, 20."""
    found = rlax.categorical_l2_project(jnp.array([0.0, 10.0, 13.0]), jnp.array([0.25, 0.25, 0.5]), ATOMS)
    return found.tolist(), [0.25, 0.25 + 0.35, 0.15]


@row(34)
def gradient_of_a_tiny_probability():
    """Logits 0 and 20: the first atom has 2e-9 and all of the target: the gradient is p - 1."""
    start = jnp.array([[0.0, 20.0, 0.0], [0.0, 0.0, 0.0]])
    loss = lambda x: rlax.categorical_q_learning(ATOMS, x, 0, 0.0, 0.0, ATOMS, jnp.zeros((2, 3)))  # noqa: E731
    return float(jax.grad(loss)(start)[0, 0]), -1


MEANS = logits((0.6, 1e-9, 0.4), (0.3, 0.7, 1e-9))  # means 8 and 7


@row(46)
def next_action_of_c51():
    """Action 0 has 20 with 0.4, mean 8; action 1 has 10 with 0.7, mean 7. The target's mean is 0.9 * 8."""
    return target_mean(rlax.categorical_q_learning, ATOMS, MEANS), 0.9 * 8


@row(45)
def next_action_of_double_c51():
    """The same values, and a selector that prefers action 1: plain 0.9 * 8, double 0.9 * 7."""
    plain = target_mean(rlax.categorical_q_learning, ATOMS, MEANS)
    double = target_mean(rlax.categorical_double_q_learning, ATOMS, MEANS, jnp.array([1.0, 2.0]))
    return [plain, double], [0.9 * 8, 0.9 * 7]


@row(37)
def one_key_twice():
    """200 ε-greedy actions with ε = 0.5 of the keys 1, 1 and 2: as many different ones."""
    sample = rlax.epsilon_greedy(0.5).sample
    values = jnp.tile(jnp.array([1.0, 0.0]), (200, 1))
    return len({np.asarray(sample(jax.random.PRNGKey(k), values)).tobytes() for k in (1, 1, 2)}), 2


not_applicable("no replay buffer", 17, 18, 19, 20, 21, 28)


not_applicable("no noisy networks", 49, 51, 52)


if __name__ == "__main__":
    answer_all()
