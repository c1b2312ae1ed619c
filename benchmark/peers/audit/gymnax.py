"""Asks gymnax, environments in JAX that begin a new episode by themselves: CartPole-v1."""

import gymnax
import jax
import numpy as np
from gymnax.wrappers import GymnaxToGymWrapper

from benchmark.peers.audit.rows import answer_all, not_applicable, row


def episode(steps, limit=500, action=1):
    """CartPole with one action for some steps: for each the observation before it, step()'s answer, and the state."""
    env, params = gymnax.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=limit)
    obs, state = env.reset(jax.random.PRNGKey(0), params)
    found = []
    for k in range(steps):
        answer = env.step(jax.random.PRNGKey(k + 1), state, action, params)
        found.append((obs, answer, env.step_env(jax.random.PRNGKey(k + 1), state, action, params)[0]))
        obs, state = answer[:2]
    return found


def flags(limit):
    """terminated and truncated at the first end."""
    ends = [answer[3:5] for _, answer, _ in episode(20, limit) if answer[3] or answer[4]]
    return [int(flag) for flag in ends[0]]


@row(9)
def truncation():
    """A limit of 3 steps, and a fall after about 10: terminated and truncated."""
    return flags(3) + flags(500), [0, 1, 1, 0]


@row(10, "step")
def final_observation():
    """How far info["final_observation"] at a limit of 3 steps is from the observation of the third step itself."""
    _, answer, truth = episode(3, 3)[-1]
    return float(abs(answer[5]["final_observation"] - truth).max()), 0


@row(10, "GymnaxToGymWrapper")
def final_observation_of_the_wrapper():
    """How far the observation that the third step of a Gymnasium environment returns is from the final one in its info,
    which an environment of Gymnasium returns itself."""
    env, params = gymnax.make("CartPole-v1")
    wrapped = GymnaxToGymWrapper(env, params.replace(max_steps_in_episode=3), seed=0)
    wrapped.reset(seed=0)
    for _ in range(3):
        obs, _, _, _, info = wrapped.step(1)
    return float(abs(obs - info["final_observation"]).max()), 0


@row(11)
def no_step_over_a_reset():
    """The step after an end begins in the first state: the largest observation before steps 1, 4, 7 is below 0.05."""
    first = [float(abs(np.asarray(obs)).max()) for obs, _, _ in episode(7, 3)[::3]]
    return max(first), 0.05, max(first) > 0.05


@row(28)
@row(71)
def episodes_of_one_step():
    """Ends and rewards of 10 steps with a limit of one step."""
    answers = [answer for _, answer, _ in episode(10, 1)]
    return [sum(int(each[4]) for each in answers), sum(float(each[2]) for each in answers)], [10, 10]


@row(37)
def one_key_twice():
    """Different observations after 5 steps of the keys 1, 1 and 2."""
    env, params = gymnax.make("CartPole-v1")
    found = set()
    for seed in (1, 1, 2):
        key = jax.random.PRNGKey(seed)
        obs, state = env.reset(key, params)
        for _ in range(5):
            obs, state, *_ = env.step(key, state, 1, params)
        found.add(np.asarray(obs).tobytes())
    return len(found), 2


@row(38)
def episodes_begin_differently():
    """Different first observations of 6 episodes of 3 steps."""
    return len({np.asarray(obs).tobytes() for obs, _, _ in episode(16, 3)[::3]}), 6


@row(75)
def resets_do_not_rewind():
    """Different first observations of 6 episodes of GymnaxToGymWrapper after one seed."""
    wrapped = GymnaxToGymWrapper(*gymnax.make("CartPole-v1"), seed=0)
    return len({np.asarray(wrapped.reset()[0]).tobytes() for _ in range(6)}), 6


not_applicable("environments only", 3, 17, 20, 49)


if __name__ == "__main__":
    answer_all()
