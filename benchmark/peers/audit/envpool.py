"""Asks EnvPool: CartPole-v1 through its interfaces of Gymnasium and dm_env."""

import envpool
import numpy as np

from benchmark.peers.audit.rows import answer_all, not_applicable, row


def make(kind="gymnasium", seed=1, limit=500, envs=2):
    maker = {"gymnasium": envpool.make_gymnasium, "dm": envpool.make_dm}[kind]
    return maker("CartPole-v1", num_envs=envs, seed=seed, max_episode_steps=limit)


def play(steps, **arguments):
    """Action 1 in two environments: the first observation, and what step() returned."""
    env = make(**arguments)
    return env.reset()[0], [env.step(np.ones(2, int)) for _ in range(steps)]


def flags(limit):
    """terminated and truncated of the first environment at its first end."""
    _, answers = play(20, limit=limit)
    return next([int(t[0]), int(cut[0])] for _, _, t, cut, _ in answers if t[0] or cut[0])


@row(9, "Gymnasium")
def truncation():
    """A limit of 3 steps, and a fall after about 10: terminated and truncated."""
    return flags(3) + flags(500), [0, 1, 1, 0]


@row(9, "dm_env")
def truncation_in_dm():
    """The discount of the third step, with limits of 500 and 3 steps: the pole still stands."""
    found = []
    for limit in (500, 3):
        env = make("dm", limit=limit)
        env.reset()
        shown = [env.step(np.ones(2, int)) for _ in range(3)][-1]
        found.append(float(shown.discount[0]))
    return found, [1, 1]


@row(10)
def final_observation():
    """How far the observation at a limit of 3 steps is from that of the third step without the limit."""
    cut, whole = (play(3, limit=limit)[1][-1][0] for limit in (3, 500))
    return float(abs(cut - whole).max()), 0


not_applicable("the user's part: such a step has elapsed_step 0", 11)


@row(18)
def observations_are_not_overwritten():
    """The difference between an observation and its copy after 20 more steps."""
    env = make()
    first = env.reset()[0]
    kept = first.copy()
    for _ in range(20):
        env.step(np.ones(2, int))
    return float(abs(first - kept).max()), 0


@row(28)
@row(71)
def episodes_of_one_step():
    """Ends and rewards of 10 steps with a limit of one step; every second one is the reset."""
    answers = play(10, limit=1)[1]
    return [sum(int(cut[0]) for _, _, _, cut, _ in answers), sum(float(each[1][0]) for each in answers)], [5, 5]


@row(37)
def one_seed_twice():
    """Different observations after 30 steps of the seeds 1, 1 and 2."""
    return len({play(30, seed=seed)[1][-1][0].tobytes() for seed in (1, 1, 2)}), 2


@row(37, "its environments")
def environments_differ():
    """Different first observations of 8 environments of one seed."""
    return len({obs.tobytes() for obs in make(envs=8).reset()[0]}), 8


@row(38)
def episodes_begin_differently():
    """Different first observations of 6 episodes of a limit of 3 steps."""
    first, answers = play(20, limit=3)
    later = [obs[0].tobytes() for obs, _, _, _, info in answers if info["elapsed_step"][0] == 0]
    return len({first[0].tobytes(), *later[:5]}), 6


not_applicable("environments only", 3, 17, 20, 49)


if __name__ == "__main__":
    answer_all()
