"""CleanRL's dqn.py, c51.py and rainbow_atari.py, by running the code of these files.

CleanRL is a collection of scripts. Its package on PyPI is older: neither 1.2.0, which is for Python below 3.11, nor
0.4.8, which pip takes for newer ones, has rainbow_atari.py. So this needs a copy of the repository, and where it is:

    git clone https://github.com/vwxyzjn/cleanrl && git -C cleanrl checkout fe8d8a03c41a7ef5b523e2e354bd01c363e786bb
    CLEANRL=$PWD/cleanrl python -m benchmark.peers audit cleanrl

That commit is of 2026-04-20. Its files ask for Gymnasium 0.29.1. With newer versions two things stand in: a vector
environment that does what that of 0.29.1 did (class Vector), and numbers for arrays of one number in add() of
rainbow_atari.py, which NumPy 2.4 does not store as an element. With Gymnasium 0.29.1 and NumPy 1.26.4 the answers are
the same.

A file is run statement by statement: all before its loop, then, with readable weights in place, its loop, or only the
part of the loop that is an update. States are numbers.
"""

import ast
import contextlib
import io
import os
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
import torch
import torch.utils.tensorboard  # where the files import SummaryWriter from

from benchmark.peers.audit.rows import answer_all, not_applicable, row

if "CLEANRL" not in os.environ:
    sys.exit("error: the variable CLEANRL must name a copy of CleanRL's repository")
FOLDER = Path(os.environ["CLEANRL"])
sys.path.insert(0, str(FOLDER))
torch.set_num_threads(1)

LATER = 10**9  # steps until the first update
STATES = 100


class Walk(gym.Env):
    """Episode e visits 10 e, 10 e + 1, ... and ends after `length` steps, each of which pays 1. `reuse`: all
    observations are one array, changed in place. `chance`: the first state is a random number of 0 to 9 instead."""

    def __init__(self, length=3, truncated=False, reuse=False, chance=False, shape=(1,)):
        dtype = np.float32 if shape == (1,) else np.uint8
        self.observation_space, self.action_space = gym.spaces.Box(0, 255, shape, dtype), gym.spaces.Discrete(2)
        self.length, self.truncated, self.reuse, self.chance = length, truncated, reuse, chance
        self.episode, self.array, self.actions, self.seeds = 0, np.zeros(shape, dtype), [], []
        self.before_step = lambda: None

    def look(self):
        self.array = self.array if self.reuse else self.array.copy()
        self.array[:] = self.first + self.t
        return self.array

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode, self.t = self.episode + 1, 0
        self.first = int(self.np_random.integers(10)) if self.chance else 10 * self.episode
        return self.look(), {}

    def step(self, action):
        self.before_step()
        self.actions.append(int(action))
        self.t += 1
        end = self.t == self.length
        return self.look(), 1.0, end and not self.truncated, end and self.truncated, {}


class Vector(gym.vector.SyncVectorEnv):
    """One environment, as in Gymnasium 0.29.1: reset in the step that ends an episode, the final observation in
    infos["final_observation"]."""

    def __init__(self, makers):
        newer = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP} if hasattr(gym.vector, "AutoresetMode") else {}
        super().__init__(makers, **newer)

    def step(self, actions):
        *rest, infos = super().step(actions)
        if "final_obs" in infos:
            infos = {"final_observation": infos["final_obs"]}
        return (*rest, infos)


class Table(torch.nn.Module):
    """An output for each state, a row of `values`. `scale`: the states come divided by it."""

    def __init__(self, values, scale=1):
        super().__init__()
        self.values, self.scale = torch.nn.Parameter(torch.as_tensor(values, dtype=torch.float32)), scale

    def forward(self, x):
        return self.values[(x.flatten(1)[:, 0] * self.scale).round().long()]


@cache
def parts(name):
    """A file's statements before its loop, and the loop; the last statement of the loop is the update."""
    tree = ast.parse((FOLDER / "cleanrl" / name).read_text())
    main = tree.body.pop().body  # if __name__ == "__main__"
    at = next(i for i, statement in enumerate(main) if isinstance(statement, ast.For))
    return tree.body + main[:at], main[at]


class Script:
    """A file, run until its loop. Its variables are attributes."""

    def __init__(self, name, env=None, **flags):
        self.name, self.env = name, env or Walk()
        self.variables = {"__name__": "__main__", "__file__": name}
        flags = {"cuda": False, "buffer_size": 100, "learning_starts": LATER, "gamma": 0.9} | flags
        with (
            mock.patch("tyro.cli", lambda args: args(**flags)),
            mock.patch("torch.utils.tensorboard.SummaryWriter"),
            mock.patch("gymnasium.make", lambda env_id: self.env),
            mock.patch("gymnasium.vector.SyncVectorEnv", self.vector),
        ):
            self.run(*parts(name)[0])
        if name == "rainbow_atari.py":
            add = self.rb.add
            self.rb.add = lambda obs, *numbers: add(obs, *(each.item() if each.size == 1 else each for each in numbers))

    def vector(self, makers):
        """By make_env() of the file, but without the wrappers for Atari."""
        return Vector([lambda: self.env] if self.name == "rainbow_atari.py" else makers)

    def __getattr__(self, name):
        return self.variables[name]

    def run(self, *statements, **variables):
        self.variables |= variables
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(ast.Module(list(statements), []), self.name, "exec"), self.variables)
        return self

    def loop(self, steps):
        self.args.total_timesteps = steps
        return self.run(parts(self.name)[1])

    def update(self, rows):
        """One update, in which the buffer draws these rows."""
        self.args.learning_starts, self.args.batch_size, rows = -1, len(rows), list(rows)
        if hasattr(self.rb, "sum_tree"):
            drawn = iter(rows)
            self.rb.sum_tree.retrieve = lambda value: next(drawn)
        else:
            self.rb.sample = lambda size: self.rb._get_samples(np.array(rows))
        return self.run(parts(self.name)[1].body[-1], global_step=10 * self.args.train_frequency)

    def add(self, *rows):
        """Rows of state, action, reward, next state, terminated."""
        for state, action, reward, after, end in rows:
            obs, after, end = np.array([[state]]), np.array([[after]]), np.array([end])
            if hasattr(self.rb, "sum_tree"):
                self.rb.add(obs, np.array([action]), np.array([reward]), after, end)
            else:
                self.rb.add(obs, after, np.array([action]), np.array([reward]), end, [{}])
        return self


def dqn(online=0.0, target=1.0, shift=0.0, **flags):
    """dqn.py with Q(s, ·) = online * s + shift, and target * s in the target network."""
    script = Script("dqn.py", **flags)
    for net, weight, bias in ((script.q_network, online, shift), (script.target_network, target, 0.0)):
        net.network = torch.nn.Linear(1, 2)
        net.network.weight.data[:], net.network.bias.data[:] = weight, bias
    return script


def table(rows):
    """Logits of two actions and the atoms 0, 10 and 20: those of `rows` by state, else zeros."""
    values = torch.zeros(STATES, 2, 3)
    for state, logits in rows.items():
        values[state] = torch.tensor(logits)
    return values


def c51(online=None, target=None, name="c51.py", **flags):
    """c51.py or rainbow_atari.py with these logits, from which the latter subtracts their mean and adds the value's."""
    script = Script(name, n_atoms=3, v_min=0, v_max=20, **flags)
    for net, rows in ((script.q_network, online or {}), (script.target_network, target or {})):
        if name == "c51.py":
            net.network = Table(table(rows).flatten(1))
        else:
            net.network = torch.nn.Identity()
            net.value_head = torch.nn.Sequential(Table(table(rows).mean(1), 255))
            net.advantage_head = torch.nn.Sequential(Table(table(rows), 255))
    return script


def rainbow(online=None, target=None, **flags):
    """One step and a first β of 1, unless said."""
    flags = {"n_step": 1, "prioritized_replay_alpha": 1.0, "prioritized_replay_beta": 1.0} | flags
    return c51(online, target, "rainbow_atari.py", **flags)


def sizes(probabilities):
    """Logits of probabilities."""
    return torch.tensor(probabilities).log().tolist()


def stored(script):
    """What the buffer has, oldest first."""
    rb = script.rb
    names = ("observations", "next_observations", "rewards", "dones")
    names = [f"buffer_{name}" for name in ("obs", "next_obs", "rewards", "dones")] if hasattr(rb, "sum_tree") else names
    size = rb.size if isinstance(rb.size, int) else rb.size()
    found = [getattr(rb, name)[:size].reshape(size, -1)[:, 0].tolist() for name in names]
    return SimpleNamespace(**dict(zip(("obs", "next_obs", "rewards", "ends"), found, strict=True)))


def noisy(**flags):
    """rainbow_atari.py with its own networks, and pictures."""
    return Script("rainbow_atari.py", env=Walk(99, shape=(4, 84, 84)), batch_size=2, **flags)


def value(net, state=1.0):
    """An output of the network of rainbow_atari.py for a picture."""
    with torch.no_grad():
        return net(torch.full((1, 4, 84, 84), state))[0, 0, 0].item()


@row(1, "rainbow_atari.py")
@row(48, "rainbow_atari.py")
def dueling_batch():
    """A probability of one picture alone, and in a batch with another."""
    torch.manual_seed(0)
    net = noisy().q_network
    both = torch.stack([torch.full((4, 84, 84), 1.0), torch.full((4, 84, 84), 200.0)])
    with torch.no_grad():
        return net(both[:1])[0, 1, 5].item(), net(both)[0, 1, 5].item()


@row(2, "rainbow_atari.py")
@row(48, "rainbow_atari.py, the mean over the actions")
def dueling_mean():
    """log p of the atoms, minus that of atom 0, in the mean over the actions: the same of the value's stream."""
    net = noisy().q_network
    picture = torch.full((1, 4, 84, 84), 1.0)
    with torch.no_grad():
        logs, of_value = net(picture)[0].log(), net.value_head(net.network(picture / 255))[0]
    return (logs - logs[:, :1]).mean(0)[1:4].tolist(), (of_value - of_value[0])[1:4].tolist()


BEST = {True: [sizes([0.01, 0.01, 0.98]), sizes([0.98, 0.01, 0.01])], False: [sizes([0.98, 0.01, 0.01])] * 2}
FIRST, SECOND = BEST[True], BEST[True][::-1]  # logits of a state in which action 0 or action 1 is best


@row(3, "rainbow_atari.py")
@row(4, "rainbow_atari.py")
def double_chooses_online():
    """In state 2 the online network prefers action 0, in state 1 action 1. To the target network action 0 of state 2
    has the probabilities 0.5, 0.5, 0, action 1 has 0, 0, 1. Reward 0, γ = 1: the target is the former."""
    target = {2: [sizes([0.5, 0.5, 1e-9]), sizes([1e-9, 1e-9, 1.0])]}
    script = rainbow({1: SECOND, 2: FIRST}, target, gamma=1.0).add((1, 0, 0.0, 2, False)).update([0])
    return script.target_pmfs[0].tolist(), [0.5, 0.5, 0]


not_applicable("no Double DQN but in rainbow_atari.py", 3, 4)


@row(5)
def maximum_of_the_target_network():
    """max Q_target(2, ·) = 2, and 100 online."""
    return dqn(shift=100.0).add((1, 0, 1.0, 2, False)).update([0]).td_target.item(), 1 + 0.9 * 2


@row(6)
def alias():
    """Tensors that the two networks of a file share, of three files."""
    shared = 0
    for script in (Script("dqn.py"), Script("c51.py"), Script("rainbow_atari.py")):
        online, target = ({p.data_ptr() for p in net.parameters()} for net in (script.q_network, script.target_network))
        shared += len(online & target)
    return shared, 0


@row(7)
def target_updates_count_steps():
    """Steps that end with a copy, due each ten, with an update in four steps."""
    script = Script("dqn.py", learning_starts=4, train_frequency=4, batch_size=2, target_network_frequency=10)
    seen, last = [], [None]

    def compare():
        now = script.target_network.network[0].weight.sum().item()
        if last[0] not in (None, now):
            seen.append(script.global_step - 1)
        last[0] = now

    script.env.before_step = compare
    script.loop(35)
    return seen, [10, 20, 30]


@row(8)
def no_gradient_through_the_target():
    """Gradients of the target networks of three files after an update."""
    made = [each.add((1, 0, 1.0, 2, False)).update([0]) for each in (dqn(), c51(), rainbow())]
    return sum(p.grad is not None for each in made for p in each.target_network.parameters()), 0


@row(9)
def truncation():
    """The steps to 13, truncated, or terminated: y = 1 + 0.9 * 13, and 1."""
    made = [dqn(env=Walk(truncated=truncated)).loop(6).update([2]) for truncated in (True, False)]
    return [each.td_target.item() for each in made], [1 + 0.9 * 13, 1]


@row(9, "rainbow_atari.py")
def truncation_of_a_window():
    """`done` of the window of three steps that is an episode, truncated, and terminated."""
    made = [rainbow(env=Walk(truncated=truncated), n_step=3).loop(3) for truncated in (True, False)]
    return [stored(each).ends[0] for each in made], [0, 1]


@row(10)
def final_observation():
    """Two truncated episodes lead to 13 and 23."""
    rows = stored(dqn(env=Walk(truncated=True)).loop(6))
    return [rows.next_obs[i] for i in (2, 5)], [13, 23]


@row(10, "rainbow_atari.py")
def final_observation_of_a_window():
    """Windows of three steps, which are as long as the episodes: the first leads to 13."""
    return stored(rainbow(env=Walk(truncated=True), n_step=3).loop(3)).next_obs[0], 13


@row(11)
def false_row():
    """The states that begin rows."""
    return stored(dqn().loop(6)).obs, [10, 11, 12, 20, 21, 22]


@row(12)
def shapes():
    """Q(s) = s, y = 1 + 0.9 * (s + 1): errors 1.8 at 1 and 1.4 at 5, of which the mean square is taken."""
    script = dqn(online=1.0).add((1, 0, 1.0, 2, False), (5, 0, 1.0, 6, False)).update([0, 1])
    return script.loss.item(), (1.8**2 + 1.4**2) / 2


@row(13)
def gradient_of_large_errors():
    """The gradient of the squared error at errors of 1 and 5: -2 and -10."""
    made = [dqn().add((0, 0, reward, 1, True)).update([0]) for reward in (1.0, 5.0)]
    return [each.q_network.network.bias.grad[0].item() for each in made], [-2, -10]


def weighted(weights=None):
    """Gradients of the last atom's logit, and the new priorities, of two rows that end with reward 20. Their priorities
    are 4 and 1, so p = 0.8 and 0.2. Q has 1/3 on each atom: without weights each gradient is (1/3 - 1) / 2."""
    script = rainbow().add((1, 0, 20.0, 2, True), (3, 0, 20.0, 4, True))
    script.rb.eps = 0.0
    script.rb.update_priorities([0, 1], np.array([4.0, 1.0]))
    if weights:
        sample = script.rb.sample
        script.rb.sample = lambda size: sample(size)._replace(weights=torch.tensor(weights)[:, None])
    script.update([0, 1])
    leaves = [float(script.rb.sum_tree.tree[i + script.rb.capacity - 1]) for i in range(2)]
    return script.q_network.value_head[0].values.grad[[1, 3], 2].tolist(), leaves


@row(14, "rainbow_atari.py")
@row(15, "rainbow_atari.py")
@row(21, "rainbow_atari.py")
def weights():
    """β = 1: weights 1 / (2 * 0.8) and 1 / (2 * 0.2), divided by the larger one: 1/4 and 1."""
    return weighted()[0], [-1 / 3 / 4, -1 / 3]


@row(74, "rainbow_atari.py")
def weight_ratio():
    """Weights 1 and 0.25, then half of these."""
    return weighted([1.0, 0.25])[0] + weighted([0.5, 0.125])[0], [-1 / 3, -1 / 12, -1 / 6, -1 / 24]


@row(16)
def epsilon():
    """From 1 to 0.05, in half of 1,000 steps: at 0, 250, 500 and 900."""
    schedule, args = dqn().linear_schedule, (1, 0.05, 500)
    return [schedule(*args, t) for t in (0, 250, 500, 900)], [1, 0.525, 0.05, 0.05]


def share(buffer, rows):
    """How often these states are drawn, of 60,000 draws of ten."""
    np.random.seed(0)
    drawn = torch.cat([buffer.sample(20).observations.flatten() for _ in range(3000)])
    return [(drawn == k).float().mean().item() for k in rows]


def filled(script, added=28):
    """Transition k leads from k to k + 1, pays 1 and is never an end."""
    return script.add(*((k, 0, 1.0, k + 1, False) for k in range(added)))


@row(17)
def first_and_last_are_drawn():
    """A ring of 10 with 18 to 27: the shares of 18 and 27."""
    found = share(filled(dqn(buffer_size=10)).rb, (18, 27))
    return found, [0.1] * 2, not np.allclose(found, 0.1, atol=0.01)


@row(17, "rainbow_atari.py")
def first_and_last_are_drawn_by_priority():
    """The same, with equal priorities, of windows of one step."""
    found = share(filled(rainbow(buffer_size=10)).rb, (18, 27))
    return found, [0.1] * 2, not np.allclose(found, 0.1, atol=0.01)


@row(18)
def the_buffer_copies():
    """Both observations are 5 and are changed to 99 after add()."""
    rb, obs = dqn().rb, np.array([[5]])
    rb.add(obs, obs, np.array([0]), np.array([1.0]), np.array([False]), [{}])
    obs[:] = 99
    return [rb.observations[0].item(), rb.next_observations[0].item()], [5, 5]


@row(18, "the environment reuses its array")
def the_loops_copy():
    """States and next states of three rows, and of three windows of three steps."""
    made = [dqn(env=Walk(9, reuse=True)).loop(3), rainbow(env=Walk(9, reuse=True), n_step=3).loop(5)]
    seen = [state for each in map(stored, made) for state in each.obs + each.next_obs]
    return seen, [10, 11, 12, 11, 12, 13, 10, 11, 12, 13, 14, 15]


@row(19)
def ring():
    return sorted(stored(filled(dqn(buffer_size=10))).obs), list(range(18, 28))


@row(19, "rainbow_atari.py")
def ring_of_windows():
    """Windows of three steps: the newest is from 25."""
    return sorted(stored(filled(rainbow(buffer_size=10, n_step=3))).obs), list(range(16, 26))


@row(20, "rainbow_atari.py")
def leaf():
    """An error of -4, α = 0.5, ε = 0.01: the leaf is (4 + 0.01) ** 0.5."""
    rb = filled(rainbow(prioritized_replay_alpha=0.5, prioritized_replay_eps=0.01), 2).rb
    rb.update_priorities([1], np.array([-4.0]))
    return float(rb.sum_tree.tree[1 + rb.capacity - 1]), (4 + 0.01) ** 0.5


@row(22, "rainbow_atari.py")
def beta():
    """From 0.4 to 1 over 1,000 steps, and beyond."""
    script, seen = rainbow(prioritized_replay_beta=0.4, total_timesteps=1000), []
    for step in (0, 500, 1000, 2000):
        script.run(parts("rainbow_atari.py")[1].body[0], global_step=step)
        seen.append(script.rb.beta)
    return seen, [0.4, 0.7, 1, 1]


@row(23, "rainbow_atari.py")
def weighted_priority():
    """The loss of both rows is -log 1/3, their weights are 1/4 and 1."""
    return weighted()[1], [np.log(3)] * 2


@row(24, "rainbow_atari.py")
def overwritten():
    """Priorities of 5 and 0.1; the next row overwrites the second and gets 5: the sum is 5 + 5."""
    script = filled(rainbow(buffer_size=2, prioritized_replay_eps=0.0), 3)
    script.rb.update_priorities([0, 1], np.array([5.0, 0.1]))
    return float(filled(script, 1).rb.sum_tree.total()), 5 + 5


@row(25, "rainbow_atari.py")
def drift():
    """The root and the sum of the leaves after 50,000 new priorities between 1e-4 and 1e4."""
    tree, rng = rainbow().SumSegmentTree(64), np.random.default_rng(0)
    for _ in range(50_000):
        tree.update(rng.integers(64), 10.0 ** rng.uniform(-4, 4))
    return float(tree.total()), float(tree.tree[63:].astype(np.float64).sum())


@row(26, "rainbow_atari.py")
def frequencies():
    """Priorities 1, 3, 2, 2."""
    rb = filled(rainbow(buffer_size=4, prioritized_replay_eps=0.0), 4).rb
    rb.update_priorities(range(4), np.array([1.0, 3.0, 2.0, 2.0]))
    np.random.seed(0)
    counts = np.bincount(np.concatenate([rb.sample(3).indices for _ in range(4000)]), minlength=4) / 12_000
    due = [1 / 8, 3 / 8, 2 / 8, 2 / 8]
    return counts.tolist(), due, not np.allclose(counts, due, atol=0.015)


@row(28)
def last_reward():
    """Two episodes of three steps that pay 1, terminated, then truncated: sums of ends and of rewards."""
    rows = [stored(dqn(env=Walk(truncated=truncated)).loop(6)) for truncated in (False, True)]
    return [sum(part) for each in rows for part in (each.ends, each.rewards)], [2, 6, 0, 6]


@row(28, "rainbow_atari.py")
def last_reward_of_a_window():
    """An episode of five steps: the last window, from 12, ends with it."""
    rows = stored(rainbow(env=Walk(5), n_step=3).loop(5))
    return [rows.obs[-1], rows.rewards[-1], rows.ends[-1]], [12, 1 + 0.9 + 0.81, 1]


@row(29, "rainbow_atari.py, a truncated episode")
def windows_end_at_truncations():
    """Sums and last states of the windows of three steps from 13 and 14 of an episode of five, which have two steps and
    one."""
    rows = stored(rainbow(env=Walk(5, truncated=True), n_step=3).loop(8))
    return [rows.rewards[3], rows.next_obs[3], rows.rewards[4], rows.next_obs[4]], [1 + 0.9, 15, 1, 15]


@row(29, "rainbow_atari.py, a terminated episode")
def windows_end_at_terminations():
    """Sum and end of the window from 10 of an episode of two steps."""
    rows = stored(rainbow(env=Walk(2), n_step=3).loop(3))
    return [rows.rewards[0], rows.ends[0]], [1 + 0.9, 1]


@row(30, "rainbow_atari.py")
def every_step_begins_a_window():
    """Two terminated episodes of five steps: states that begin a window of three."""
    return stored(rainbow(env=Walk(5), n_step=3).loop(10)).obs, [10 * e + t for e in (1, 2) for t in range(5)]


@row(31, "rainbow_atari.py")
def discount_of_windows():
    """n = 3 and the reward 0 three times, then an end with 0, 0 and 10. The next state has all on the atom 10: the
    means of the targets are 0.729 * 10 and 0.81 * 10."""
    script = rainbow({}, {3: [sizes([1e-9, 1.0, 1e-9])] * 2}, n_step=3)
    script.add((0, 0, 0.0, 1, False), (1, 0, 0.0, 2, False), (2, 0, 0.0, 3, False))
    script.add((3, 0, 0.0, 4, False), (4, 0, 10.0, 5, True)).update([0, 2])
    return (script.target_pmfs * torch.tensor([0.0, 10.0, 20.0])).sum(1).tolist(), [0.729 * 10, 0.81 * 10]


@row(32, "rainbow_atari.py")
def windows_in_a_ring():
    """A ring of 10 after 28 steps, windows of three: sums, and how far they lead on."""
    rows = stored(filled(rainbow(buffer_size=10, n_step=3)))
    steps = [after - state for state, after in zip(rows.obs, rows.next_obs, strict=True)]
    return [min(rows.rewards), max(rows.rewards), min(steps), max(steps)], [2.71, 2.71, 3, 3]


def projected(make):
    """The target of next probabilities 1/4, 1/4, 1/2, with γ = 1 and the rewards 0 and 5, and of an end with 20."""
    script = make({}, {2: [sizes([0.25, 0.25, 0.5])] * 2}, gamma=1.0)
    script.add((1, 0, 0.0, 2, False), (1, 0, 5.0, 2, False), (1, 0, 20.0, 2, True)).update([0, 1, 2])
    return script.target_pmfs.flatten().tolist(), [0.25, 0.25, 0.5, 0.125, 0.25, 0.625, 0, 0, 1]


@row(33, "c51.py")
def projection():
    return projected(c51)


@row(33, "rainbow_atari.py")
def projection_of_rainbow():
    return projected(rainbow)


@row(34, "c51.py")
def gradient_of_a_tiny_probability():
    """The last atom has 2e-9, and all of the target: the gradient of its logit is p - 1."""
    script = c51({1: [[20.0, 0.0, -0.03]] * 2}).add((1, 0, 20.0, 2, True)).update([0])
    return script.q_network.network.values.grad[1, 2].item(), -1


@row(34, "rainbow_atari.py")
def gradient_of_a_tiny_probability_of_rainbow():
    """The same, by the logit of the value's stream."""
    script = rainbow().add((1, 0, 20.0, 2, True))
    script.q_network.value_head[0].values.data[1] = torch.tensor([20.0, 0.0, -0.03])
    return script.update([0]).q_network.value_head[0].values.grad[1, 2].item(), -1


@row(35, "rainbow_atari.py")
def rank_of_the_noise():
    """The noise of five inputs and five outputs."""
    return torch.linalg.matrix_rank(noisy().NoisyLinear(5, 5).weight_epsilon).item(), 1


@row(37)
def seeds():
    """Seeds 1, 1 and 2: as many different first weights, last weights, series of actions and of first states."""
    found = []
    for seed in (1, 1, 2):
        script = Script("dqn.py", env=Walk(chance=True), seed=seed, learning_starts=10, batch_size=4, train_frequency=1)
        first = script.q_network.network[0].weight.sum().item()
        last = script.loop(60).q_network.network[0].weight.sum().item()
        found.append((first, last, tuple(script.env.actions), tuple(stored(script).obs)))
    return [len(set(each)) for each in zip(*found, strict=True)], [2] * 4


@row(38)
def seeded_resets():
    """Resets with a seed, of four."""
    env = Walk()
    dqn(env=env).loop(9)
    return sum(seed is not None for seed in env.seeds), 1


@row(41, "rainbow_atari.py")
def pixels():
    """Pixels of 0, 51 and 255 as its first layer gets them."""
    net, seen = noisy().q_network, []
    net.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].flatten()[0].item()))
    for pixel in (0.0, 51.0, 255.0):
        value(net, pixel)
    return seen, [0, 51 / 255, 1]


@row(43, "rainbow_atari.py")
def windows_keep_their_first_action():
    """The actions of the windows are those that the environment got at their first steps."""
    script = rainbow({s: FIRST if s % 3 else SECOND for s in range(STATES)}, env=Walk(99), n_step=3).loop(12)
    return script.rb.buffer_actions[:10].tolist(), script.env.actions[:10]


@row(45, "c51.py")
@row(46, "c51.py")
def next_action_of_c51():
    """The target network: action 0 has mean 9.5, likeliest atom 0, action 1 mean 9 and atom 10. Online action 1 is
    best. Reward 0, γ = 1: the target is that of action 0."""
    target = {2: [sizes([0.5, 0.05, 0.45]), sizes([0.1, 0.9, 1e-9])]}
    script = c51({2: SECOND}, target, gamma=1.0).add((1, 0, 0.0, 2, False)).update([0])
    return script.target_pmfs[0].tolist(), [0.5, 0.05, 0.45]


@row(46, "rainbow_atari.py")
def next_action_of_rainbow():
    """The same distributions online, which chooses, and in the target network."""
    both = {2: [sizes([0.5, 0.05, 0.45]), sizes([0.1, 0.9, 1e-9])]}
    script = rainbow(both, both, gamma=1.0).add((1, 0, 0.0, 2, False)).update([0])
    return script.target_pmfs[0].tolist(), [0.5, 0.05, 0.45]


def acting(learning_starts, steps):
    """Values of one picture before each step. The mean weights stay."""
    script, seen = noisy(learning_starts=learning_starts, learning_rate=0.0, train_frequency=4), []
    script.env.before_step = lambda: seen.append(value(script.q_network))
    script.loop(steps)
    return seen


@row(49, "rainbow_atari.py, before learning")
def noise_before_learning():
    """Different values of one picture in five steps."""
    return len(set(acting(LATER, 5))), 5


@row(49, "rainbow_atari.py, between updates")
def noise_between_updates():
    """Different values in the eight steps after the first update, one update in four steps."""
    return len(set(acting(3, 13)[5:])), 8


@row(50, "rainbow_atari.py")
def noise_of_target():
    """Layers, of four, whose noise after an update is the same in both networks."""
    script = noisy(n_step=1)
    for _ in range(2):
        script.add((1, 0, 1.0, 2, False))
    script.update([0, 1])
    layers = [[*net.value_head[::2], *net.advantage_head[::2]] for net in (script.q_network, script.target_network)]
    return sum(torch.equal(a.weight_epsilon, b.weight_epsilon) for a, b in zip(*layers, strict=True)), 0


@row(51, "rainbow_atari.py, while acting")
def noise_while_acting():
    """The value of a picture in the loop is that without noise, in steps of five."""
    script, seen = noisy(), []

    def compare():
        acted = value(script.q_network)
        seen.append(acted == value(script.q_network.eval()))
        script.q_network.train()

    script.env.before_step = compare
    script.loop(5)
    return sum(seen), 0


@row(51, "rainbow_atari.py, eval()")
@row(72, "rainbow_atari.py, eval()")
def evaluation_has_no_noise():
    """Different values of one picture in five looks, with a new noise before each."""
    net, seen = noisy().q_network.eval(), set()
    for _ in range(5):
        net.reset_noise()
        seen.add(value(net))
    return len(seen), 1


@row(52, "rainbow_atari.py")
def first_sigma():
    """σ₀ = 0.5, 16 inputs, 4 outputs: σ of weights and of biases 0.5 / sqrt(16)."""
    layer = noisy().NoisyLinear(16, 4)
    return [layer.weight_sigma[0, 0].item(), layer.bias_sigma[0].item()], [0.5 / 4, 0.5 / 4]


not_applicable("no evaluation before the end of training", 63, 75)


not_applicable("a script trains once", 73)


@row(70, "rainbow_atari.py, --start-e and --end-e")
def epsilon_of_rainbow():
    """Action 0 is best in all states: its share in 400 steps with ε = 1 is half."""
    script = rainbow(dict.fromkeys(range(STATES), FIRST), env=Walk(9, chance=True), start_e=1.0, end_e=1.0).loop(400)
    found = script.env.actions.count(0) / 400
    return found, 0.5, abs(found - 0.5) > 0.15


@row(71)
def episodes_of_one_step():
    """Six episodes of one step: first states."""
    return stored(dqn(env=Walk(1)).loop(6)).obs, [10, 20, 30, 40, 50, 60]


@row(71, "rainbow_atari.py")
def windows_of_one_step():
    """The same, with windows of three steps: first states, in ten episodes."""
    return stored(rainbow(env=Walk(1), n_step=3).loop(9)).obs, [10 * e for e in range(1, 10)]


@row(72)
def looking():
    """Five values of one state: as many different ones."""
    net = Script("dqn.py").q_network
    return len({net(torch.tensor([[3.0]]))[0, 0].item() for _ in range(5)}), 1


if __name__ == "__main__":
    answer_all()
