"""Asks cpprb (ReplayBuffer and PrioritizedReplayBuffer; it has no networks and no training loop)."""

import numpy as np
from cpprb import PrioritizedReplayBuffer, ReplayBuffer

from benchmark.peers.audit.rows import answer_all, not_applicable, row

NAMES = ("obs", "act", "rew", "next_obs", "done")
FIELDS = {name: {} for name in NAMES}
N_STEP = {"size": 3, "rew": "rew", "gamma": 0.9, "next": "next_obs"}


def add(buffer, state, terminated=False, **more):
    step = {"obs": state, "act": 0, "rew": 1, "next_obs": state + 1, "done": float(terminated)}
    buffer.add(**step | more)


def episodes(buffer, *ends, length=3, close=True):
    """An episode of states 100 * episode + t for each end, "terminated" or "truncated". The documentation asks for the
    call of on_episode_end after each."""
    for k, end in enumerate(ends):
        for t in range(length):
            add(buffer, 100 * k + t, end == "terminated" and t == length - 1)
        if close:
            buffer.on_episode_end()
    return buffer


def filled(buffer, count=25):
    """Transition k leads from k to k + 1, pays 1 and is never an end."""
    for k in range(count):
        add(buffer, k)
    return buffer


def column(buffer, name):
    """In the order of the states."""
    rows = buffer.get_all_transitions()
    return rows[name].flatten()[np.argsort(rows["obs"].flatten(), kind="stable")].tolist()


def prioritized(*priorities, alpha=1.0, eps=0.0):
    """A row for each priority, from state k to k + 1."""
    buffer = filled(PrioritizedReplayBuffer(len(priorities), FIELDS, alpha=alpha, eps=eps), len(priorities))
    buffer.update_priorities(np.arange(len(priorities)), np.array(priorities, float))
    return buffer


def weights(buffer, beta):
    """The weight of each row, from many draws."""
    batch = buffer.sample(1000, beta=beta)
    return [float(batch["weights"][batch["indexes"] == k][0]) for k in range(buffer.get_stored_size())]


def share(buffer, draws, count):
    """How often each of `count` rows is drawn."""
    batch = buffer.sample(draws)
    found = batch["indexes"] if "indexes" in batch else batch["obs"].flatten().astype(int)
    return np.bincount(found, minlength=count) / draws


def far(seen, due):
    return not np.allclose(seen, due, atol=0.005)


not_applicable("the user's part", 9)


@row(10)
@row(11)
def final_observation():
    """next_obs of two episodes of three steps."""
    buffer = episodes(ReplayBuffer(10, FIELDS), "terminated", "truncated")
    return column(buffer, "next_obs"), [1, 2, 3, 101, 102, 103]


@row(10, "next_of")
def final_observation_of_compressed_rows():
    """The same with next_of="obs", which stores each observation once."""
    fields = {name: {} for name in NAMES if name != "next_obs"}
    buffer = episodes(ReplayBuffer(10, fields, next_of="obs"), "terminated", "truncated")
    return column(buffer, "next_obs"), [1, 2, 3, 101, 102, 103]


@row(10, "n-step, truncated")
def final_observation_of_short_windows():
    """Windows of up to 3 steps from 0 to 4 of an episode that is cut off at 5."""
    buffer = episodes(ReplayBuffer(10, FIELDS, Nstep=N_STEP), "truncated", length=5)
    return column(buffer, "next_obs"), [3, 4, 5, 5, 5]


@row(17)
def first_and_last_are_drawn():
    """How often the oldest and the newest of ten are in 100,000 draws, of each buffer."""
    np.random.seed(0)
    buffers = [filled(ReplayBuffer(10, FIELDS), 10), prioritized(*[1.0] * 10)]
    seen = [float(share(buffer, 100_000, 10)[k]) for buffer in buffers for k in (0, 9)]
    return seen, [0.1] * 4, far(seen, 0.1)


@row(18)
def the_buffer_copies():
    buffer, obs = ReplayBuffer(2, FIELDS), np.array([3.0])
    add(buffer, obs, next_obs=obs)
    obs[:] = 9
    return [*column(buffer, "obs"), *column(buffer, "next_obs")], [3, 3]


@row(19)
def ring():
    return column(filled(ReplayBuffer(10, FIELDS)), "obs"), list(range(15, 25))


@row(19, "next_of")
def ring_of_compressed_rows():
    """The newest observation stands next to the oldest one."""
    fields = {name: {} for name in NAMES if name != "next_obs"}
    return column(filled(ReplayBuffer(10, fields, next_of="obs")), "next_obs"), list(range(16, 26))


@row(20)
def priority():
    """|δ| = 1 and 4, α = 0.5, ε = 0.01: the ratio of the weights for β = 1."""
    one, four = weights(prioritized(1, 4, alpha=0.5, eps=0.01), beta=1.0)
    return four / one, (1.01 / 4.01) ** 0.5


not_applicable("no loss", 21, 74)


@row(22)
def beta():
    """β is an argument of sample(): the weight of priority 4, beside 1, with β = 0, 0.5, 1, 1 and 0.5 again."""
    buffer = prioritized(1, 4)
    return [weights(buffer, beta)[1] for beta in (0, 0.5, 1, 1, 0.5)], [1, 0.5, 0.25, 0.25, 0.5]


not_applicable("the user's part", 23)


@row(24)
def new_rows_have_the_largest_priority():
    """A row that overwrites one of priority 0.5 beside one of 4: half of the draws."""
    buffer = prioritized(0.5, 4.0)
    add(buffer, 3)
    seen = float(share(buffer, 40_000, 2)[0])
    return seen, 1 / 2, far(seen, 1 / 2)


@row(25)
def the_tree_does_not_drift():
    """A million new priorities from 1e-4 to 1e4 in 64 rows, then 1 in row 0, 3 in row 1, and 1e-6 elsewhere."""
    buffer, rng = prioritized(*[1.0] * 64), np.random.default_rng(0)
    for _ in range(20_000):
        buffer.update_priorities(rng.integers(64, size=50), 10.0 ** rng.uniform(-4, 4, 50))
    buffer.update_priorities(np.arange(64), np.array([1.0, 3.0] + [1e-6] * 62))
    seen = share(buffer, 80_000, 64)[:2].tolist()
    return seen, [1 / 4, 3 / 4], far(seen, [1 / 4, 3 / 4])


@row(26)
def draws_follow_the_priorities():
    """Priorities 1, 3, 2, 2."""
    seen = share(prioritized(1, 3, 2, 2), 80_000, 4).tolist()
    return seen, [1 / 8, 3 / 8, 2 / 8, 2 / 8], far(seen, [1 / 8, 3 / 8, 2 / 8, 2 / 8])


@row(27)
def frames_of_one_episode():
    """stack_compress, three frames, a ring of 10 after four episodes of 4 steps: each stack is as it was added."""
    buffer, added = ReplayBuffer(10, {"obs": {"shape": (1, 3)}}, stack_compress="obs"), []
    for start in (0, 100, 200, 300):
        for t in range(4):
            added.append([start + max(0, t - k) for k in (2, 1, 0)])
            buffer.add(obs=[added[-1]])
        buffer.on_episode_end()
    stored = sorted(buffer.get_all_transitions()["obs"].reshape(-1, 3).tolist())
    return np.ravel(stored).tolist(), np.ravel(sorted(added[-10:])).tolist()


@row(28)
def last_steps_are_stored():
    """n-step: the first states of the windows of two episodes of three steps."""
    buffer = episodes(ReplayBuffer(10, FIELDS, Nstep=N_STEP), "terminated", "truncated")
    return column(buffer, "obs"), [0, 1, 2, 100, 101, 102]


@row(29)
@row(30)
def windows_end_with_their_episode():
    """The sums of rewards from each of the six steps."""
    buffer = episodes(ReplayBuffer(10, FIELDS, Nstep=N_STEP), "terminated", "truncated")
    return column(buffer, "rew"), [1 + 0.9 + 0.81, 1 + 0.9, 1] * 2


def bootstrap(end):
    """What V = 1 adds to the target by the documentation, which multiplies by a fixed γ³: (1 - done) γ³, in an episode
    of five steps."""
    buffer = episodes(ReplayBuffer(10, FIELDS, Nstep=N_STEP), end, length=5)
    return [(1 - done) * 0.9**3 for done in column(buffer, "done")]


@row(31, "terminated")
def discount_before_a_termination():
    """The window from the third step contains the terminal one, too."""
    return bootstrap("terminated"), [0.9**3, 0.9**3, 0, 0, 0]


@row(31, "truncated")
def discount_before_a_truncation():
    return bootstrap("truncated"), [0.9**3, 0.9**3, 0.9**3, 0.9**2, 0.9]


@row(32)
def windows_end_at_the_newest_step():
    """A ring of 10 after 25 steps of one episode and n = 3: windows from 13 to 22 are complete, later ones wait."""
    buffer = filled(ReplayBuffer(10, FIELDS, Nstep=N_STEP))
    seen = [*column(buffer, "obs"), *column(buffer, "rew"), *column(buffer, "next_obs")]
    return seen, [*range(13, 23), *[1 + 0.9 + 0.81] * 10, *range(16, 26)]


def draws(buffer, seed):
    np.random.seed(seed)
    return tuple(buffer.sample(16)["obs"].flatten())


@row(37, "uniform")
def seeds():
    """Different sequences of draws of NumPy's seeds 1, 1 and 2."""
    return len({draws(filled(ReplayBuffer(10, FIELDS)), seed) for seed in (1, 1, 2)}), 2


@row(37, "prioritized")
def seeds_of_prioritized_draws():
    return len({draws(prioritized(*[1.0] * 1000), seed) for seed in (1, 1, 2)}), 2


@row(43)
def row_of_the_first_step():
    """Actions 0 to 4 of windows from states 0 to 4."""
    buffer = ReplayBuffer(10, FIELDS, Nstep=N_STEP)
    for t in range(5):
        add(buffer, t, act=t)
    buffer.on_episode_end()
    return [*column(buffer, "obs"), *column(buffer, "act")], [0, 1, 2, 3, 4] * 2


@row(44)
def one_step():
    """Nstep of size 1, by the documentation the same as without: next_obs of an episode of three steps."""
    buffer = ReplayBuffer(10, FIELDS, Nstep=N_STEP | {"size": 1})
    try:
        return column(episodes(buffer, "truncated"), "next_obs"), [1, 2, 3]
    except ValueError as error:
        return f"ValueError: {error}", "1 / 2 / 3", True


@row(71)
def episodes_of_one_step():
    """Sums of rewards of two episodes of one step, and `done`."""
    buffer = episodes(ReplayBuffer(10, FIELDS, Nstep=N_STEP), "terminated", "truncated", length=1)
    return [*column(buffer, "rew"), *column(buffer, "done")], [1, 1, 1, 0]


@row(73, "clear() during an episode")
def rows_after_clear():
    """Two steps from 500, clear(), and an episode of three steps: no window begins before the seam."""
    buffer = ReplayBuffer(10, FIELDS, Nstep=N_STEP)
    for state in (500, 501):
        add(buffer, state)
    buffer.clear()
    return column(episodes(buffer, "terminated"), "obs"), [0, 1, 2]


if __name__ == "__main__":
    answer_all()
