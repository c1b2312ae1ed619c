"""Stable-Baselines3's DQN and sb3-contrib's QRDQN, their buffers, and learn().

States are numbers. Most checks put the weights of a linear network in place, so that Q(s, a) = s, or another line.
"""

import os
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import QRDQN
from sb3_contrib.qrdqn import qrdqn
from stable_baselines3 import DQN
from stable_baselines3.common.atari_wrappers import ClipRewardEnv
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack
from stable_baselines3.dqn import dqn

from benchmark.peers.audit.rows import answer_all, not_applicable, row

torch.set_num_threads(1)

STATES, ACTIONS = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32), gym.spaces.Discrete(2)
NEVER = 10**6  # steps until the first update


class Walk(gym.Env):
    """Episode e visits 100 e, 100 e + 1, ... and ends after `length` steps, each of which pays `pay`. `reuse`: all
    observations are one array, changed in place. `chance`: the first state is a random number below 1 instead."""

    observation_space, action_space = STATES, ACTIONS

    def __init__(self, length=3, truncated=False, reuse=False, chance=False, actions=2, pay=1.0):
        self.length, self.truncated, self.reuse, self.chance, self.pay = length, truncated, reuse, chance, pay
        self.episode, self.array, self.actions, self.seeds = 0, np.zeros(1, np.float32), [], []
        self.action_space = gym.spaces.Discrete(actions)

    def look(self):
        self.array = self.array if self.reuse else self.array.copy()
        self.array[:] = self.first + self.t
        return self.array

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode, self.t = self.episode + 1, 0
        self.first = self.np_random.random() if self.chance else 100 * self.episode
        return self.look(), {}

    def step(self, action):
        self.actions.append(int(action))
        self.t += 1
        end = self.t == self.length
        return self.look(), self.pay, end and not self.truncated, end and self.truncated, {}


def model(env=None, kind=DQN, **more):
    """A linear network, γ = 0.9, and plain gradient descent in steps of 1. `env`: an environment, or several."""
    if isinstance(env, list):
        env = DummyVecEnv([lambda each=each: each for each in env])
    policy = {"net_arch": [], "optimizer_class": torch.optim.SGD, **more.pop("policy_kwargs", {})}
    given = {"learning_rate": 1.0, "gamma": 0.9, "batch_size": 1, "buffer_size": 100, "learning_starts": NEVER}
    given |= {"train_freq": 1, "device": "cpu", "policy_kwargs": policy, "target_update_interval": NEVER}
    return kind("MlpPolicy", env or Walk(), **given | more)


def networks(made):
    """The online and the target network."""
    names = ("q_net", "q_net_target") if isinstance(made, DQN) else ("quantile_net", "quantile_net_target")
    return [getattr(made, name) for name in names]


def line(network, weight, bias):
    """Outputs weight * s + bias, one number for each output, or one for all."""
    weights, biases = network.parameters()
    weights.data[:], biases.data[:] = torch.tensor(weight).reshape(-1, 1), torch.tensor(bias)


def lines(made, online, target):
    for network, (weight, bias) in zip(networks(made), (online, target), strict=True):
        line(network, weight, bias)
    return made


def with_rows(made, *rows):
    """One draw of the buffer is these (state, action, reward, next state, terminated)."""
    buffer = made.replay_buffer
    for state, action, reward, after, end in rows:
        state, after = np.float32([[state]]), np.float32([[after]])
        buffer.add(state, after, np.array([action]), np.array([reward]), np.array([end]), [{}])
    return drawing(made, range(len(rows)))


def drawing(made, rows):
    """train() draws these rows of the buffer."""
    made.replay_buffer.sample = lambda size, env=None: made.replay_buffer._get_samples(np.array(rows), env)
    made.batch_size = len(rows)
    return made


def loss(made):
    """The loss of one update."""
    if not hasattr(made, "_logger"):
        made._setup_learn(1)
    made.train(1, made.batch_size)
    return made.logger.name_to_value.pop("train/loss")


def targets(made, rows):
    """y of rows that learn() stored, one at a time. Q(s, ·) = 0, and y > 1, so that Huber's loss is y - 0.5. The target
    network is Q(s, ·) = s."""
    return [loss(drawing(lines(made, (0.0, 0.0), (1.0, 0.0)), [i])) + 0.5 for i in rows]


def quantile_targets(made):
    """y of QRDQN as it goes into its loss."""
    with mock.patch.object(qrdqn, "quantile_huber_loss", wraps=qrdqn.quantile_huber_loss) as spy:
        loss(made)
    return spy.call_args.args[1][0].tolist()


def learned(env=None, steps=10, **more):
    """learn() of `steps`, without updates."""
    return model(env, **more).learn(steps)


def column(made, name, size=None):
    """What the buffer has: one list of numbers, for each environment in turn."""
    found = getattr(made.replay_buffer, name)[: size or made.replay_buffer.size()]
    return found.reshape(len(found), -1).T.ravel().tolist()


def crossings(made):
    """Rows that do not lead one state on."""
    pairs = zip(column(made, "observations"), column(made, "next_observations"), strict=True)
    return [f"{a:g} -> {b:g}" for a, b in pairs if b != a + 1]


def windows(made, rows):
    """Sum of rewards, discount of the value after it, and the state there, of windows that begin at these rows."""
    found = made.replay_buffer._get_samples(np.array(rows))
    return [each.flatten().tolist() for each in (found.rewards, found.discounts, found.next_observations)]


def filled(kind=ReplayBuffer, added=28, **more):
    """A ring of 10: transition k leads from k to k + 1, pays 1 and is never an end."""
    buffer = kind(10, STATES, ACTIONS, device="cpu", **more)
    for k in range(added):
        buffer.add(np.float32([[k]]), np.float32([[k + 1]]), np.array([0]), np.ones(1), np.array([False]), [{}])
    return buffer


not_applicable("no dueling network", 1, 2, 48)


not_applicable("no Double DQN", 3, 4)


@row(5)
def maximum_of_the_target_network():
    """max Q_target(2, ·) = 2, and Q(s, ·) = 100 online: the loss is 100 - y - 0.5."""
    made = lines(with_rows(model(), (1, 0, 1.0, 2, False)), (0.0, 100.0), (1.0, [0.0, -1.0]))
    return 100 - (loss(made) + 0.5), 1 + 0.9 * 2


@row(5, "QR-DQN")
def quantiles_of_the_target_network():
    """Two quantiles, s and s + 1, in the target network; 100 online."""
    made = with_rows(model(kind=QRDQN, policy_kwargs={"n_quantiles": 2}), (1, 0, 1.0, 2, False))
    return quantile_targets(lines(made, (0.0, 100.0), (1.0, [0.0, 0.0, 1.0, 1.0]))), [1 + 0.9 * 2, 1 + 0.9 * 3]


@row(6)
def alias():
    """Tensors that the two networks of DQN and of QRDQN share, and by how far an update moves the target's."""
    shared, moved = 0, 0.0
    for kind in (DQN, QRDQN):
        made = with_rows(model(kind=kind), (1, 0, 1.0, 2, False))
        online, target = ([p.data_ptr() for p in each.parameters()] for each in networks(made))
        before = [p.clone() for p in networks(made)[1].parameters()]
        loss(made)
        shared += len(set(online) & set(target))
        moved += sum((a - b).abs().sum().item() for a, b in zip(before, networks(made)[1].parameters(), strict=True))
    return [shared, moved], [0, 0]


def copies(envs, interval, steps):
    """Environment steps at which learn() updates the target network."""
    seen, made, update = [], model([Walk() for _ in range(envs)], target_update_interval=interval), dqn.polyak_update

    def watched(*arguments):
        seen.append(made.num_timesteps)
        update(*arguments)

    with mock.patch.object(dqn, "polyak_update", watched):
        made.learn(steps)
    return sorted(set(seen))


@row(7)
def target_updates_count_steps():
    return copies(1, 100, 300), [100, 200, 300]


@row(7, "four environments")
def target_updates_count_steps_of_all():
    return copies(4, 100, 300), [100, 200, 300]


@row(8)
def no_gradient_through_the_target():
    """Gradients of the target networks of DQN and of QRDQN after an update."""
    made = [with_rows(model(kind=kind), (1, 0, 1.0, 2, False)) for kind in (DQN, QRDQN)]
    for each in made:
        loss(each)
    return sum(p.grad is not None for each in made for p in networks(each)[1].parameters()), 0


@row(9)
def truncation():
    """Of the steps to 103, truncated, and to 203: y = 1 + 0.9 * 103, 1 + 0.9 * 203, and 1 if terminated."""
    cut, over = (targets(learned(Walk(truncated=truncated)), [2, 5]) for truncated in (True, False))
    return cut + over, [1 + 0.9 * 103, 1 + 0.9 * 203, 1, 1]


@row(9, "several environments")
def truncation_of_several():
    """The first is cut off after two steps, the second ends after three: what `done` says of the first three rows."""
    made = learned([Walk(2, truncated=True), Walk(3)], 6)
    ends = made.replay_buffer.dones * (1 - made.replay_buffer.timeouts)
    return ends[:3].T.ravel().tolist(), [0, 0, 0, 0, 0, 1]


def final_observations(reuse):
    """Next states of the rows from 102 and 202, truncated and terminated."""
    made = [learned(Walk(truncated=truncated, reuse=reuse)) for truncated in (True, False)]
    return [column(each, "next_observations")[i] for each in made for i in (2, 5)]


@row(10)
def final_observation():
    return final_observations(False), [103, 203, 103, 203]


@row(10, "the environment reuses its array")
def final_observation_of_one_array():
    return final_observations(True), [103, 203, 103, 203]


@row(11)
def false_row():
    """The states that begin rows."""
    return column(learned(steps=6), "observations"), [100, 101, 102, 200, 201, 202]


@row(11, "several environments")
def false_row_of_several():
    """Episodes of two and of three steps: the states that begin the first three rows of each."""
    made = learned([Walk(2), Walk(3)], 6)
    return column(made, "observations"), [100, 101, 200, 100, 101, 102]


@row(12)
def shapes():
    """Q(s) = s, y = 1 + 0.9 * (s + 1): errors 1.8 at 1 and 1.4 at 5, of which the mean of Huber's loss is taken."""
    made = with_rows(model(), (1, 0, 1.0, 2, False), (5, 0, 1.0, 6, False))
    return loss(lines(made, (1.0, 0.0), (1.0, 0.0))), ((1.8 - 0.5) + (1.4 - 0.5)) / 2


@row(13)
def huber_keeps_its_gradient():
    """The gradient at errors of 1 and of 5: Q(s, ·) = 0 and y = reward."""
    found = []
    for reward in (1.0, 5.0):
        made = lines(with_rows(model(), (0, 0, reward, 1, True)), (0.0, 0.0), (0.0, 0.0))
        loss(made)
        found.append(networks(made)[0].q_net[0].bias.grad[0].item())
    return found, [-1, -1]


def watched(env, steps, **more):
    """ε of the action before each step, and learn()'s model."""
    found, made = [], model(env, learning_starts=0, gradient_steps=0, **more)
    made.learn(steps, callback=lambda locals_, globals_: found.append(made.exploration_rate) or True)
    return found, made


@row(16)
def epsilon():
    """From 1 to 0.1 over half of 100 steps: after 10, 25, 50 and 99 steps, with one environment and with five."""
    schedule = {"exploration_fraction": 0.5, "exploration_final_eps": 0.1}
    one, _ = watched(Walk(), 100, **schedule)
    five, _ = watched([Walk() for _ in range(5)], 100, **schedule)
    seen = [one[k] for k in (10, 25, 50, 99)] + [five[k // 5] for k in (10, 25, 50, 95)]
    return seen, [1 - 0.9 * 10 / 50, 1 - 0.9 * 25 / 50, 0.1, 0.1] * 2


@row(16, "learning_starts=0")
def first_epsilon():
    """ε of the first action."""
    return watched(Walk(), 2)[0][0], 1


@row(16, "four environments")
def epsilon_of_each_environment():
    """ε = 0.5, and 400 steps: how often 0, 1, 2, 3 and 4 of them act at random (not by the action that all prefer, of
    1,000), if each has a coin of its own."""
    envs = [Walk(actions=1000) for _ in range(4)]
    made = model(envs, learning_starts=0, gradient_steps=0, seed=1, buffer_size=4000)
    made.exploration_schedule = lambda remaining: 0.5
    lines(made, (0.0, [1.0] + [0.0] * 999), (0.0, 0.0)).learn(1604)
    by_chance = np.array([env.actions[1:] for env in envs]) != 0
    counts = np.bincount(by_chance.sum(0), minlength=5).tolist()
    return counts, [400 * n / 16 for n in (1, 4, 6, 4, 1)], sum(counts[1:4]) < 200


@row(17)
def first_and_last_are_drawn():
    """Shares of the oldest and the newest of ten in 100,000 draws, of both buffers."""
    np.random.seed(0)
    draws = [filled(kind).sample(100_000).observations for kind in (ReplayBuffer, NStepReplayBuffer)]
    share = [(each == k).float().mean().item() for each in draws for k in (18, 27)]
    return share, [0.1] * 4, not np.allclose(share, 0.1, atol=0.005)


@row(18)
def the_buffer_copies():
    """Both observations are 5 and are changed to 1000 after add()."""
    buffer, obs = ReplayBuffer(10, STATES, ACTIONS, device="cpu"), np.float32([[5]])
    buffer.add(obs, obs, np.array([0]), np.ones(1), np.array([False]), [{}])
    obs[:] = 1000
    return [buffer.observations[0].item(), buffer.next_observations[0].item()], [5, 5]


@row(18, "the environment reuses its array")
def the_loop_copies():
    """State and next state of the first episode's rows."""
    made = learned(Walk(reuse=True))
    seen = column(made, "observations", 3) + column(made, "next_observations", 3)
    return seen, [100, 101, 102, 101, 102, 103]


@row(19)
def ring():
    return sorted(filled().observations.ravel().tolist()), list(range(18, 28))


not_applicable("no prioritized replay", 14, 15, 20, 21, 22, 23, 24, 25, 26, 74)


@row(27)
def frame_stacks():
    """VecFrameStack of three, truncated: the last stacks of episode 1, then the first one of episode 2."""
    made = learned(VecFrameStack(DummyVecEnv([lambda: Walk(truncated=True)]), 3), 6)
    buffer = made.replay_buffer
    seen = [buffer.observations[2, 0], buffer.next_observations[2, 0], buffer.observations[3, 0]]
    return np.concatenate(seen).tolist(), [100, 101, 102, 101, 102, 103, 0, 0, 200]


@row(28)
def last_reward():
    """Two episodes of three steps that pay 1, terminated, then truncated: sums of ends and of rewards."""
    made = [learned(Walk(truncated=truncated), 6) for truncated in (False, True)]
    return [sum(column(each, name)) for each in made for name in ("dones", "rewards")], [2, 6, 2, 6]


def windows_of_an_episode(what):
    """n = 3, rewards 1, the windows of 100, 101 and 102, terminated, then truncated."""
    made = [learned(Walk(truncated=truncated), n_steps=3) for truncated in (False, True)]
    return [number for each in made for number in windows(each, range(3))[what]]


@row(29)
def windows_end_with_their_episode():
    """Sums of rewards, of terminated and of truncated windows."""
    return windows_of_an_episode(0), [1 + 0.9 + 0.81, 1 + 0.9, 1] * 2


@row(31)
def discounts_of_windows():
    """Discounts of the value at their end."""
    return windows_of_an_episode(1), [0.9**3, 0.9**2, 0.9] * 2


@row(29, "several environments")
def windows_of_several():
    """Episodes of two and of five steps: the sum and the last state of a window from 101 of the second."""
    made = learned([Walk(2), Walk(5)], 20, n_steps=3)
    found = [windows(made, [1]) for _ in range(20)]  # the environment of a row is drawn
    longest = max(found, key=lambda window: window[0][0])
    return [longest[0][0], longest[2][0]], [1 + 0.9 + 0.81, 104]


@row(29, "after a second learn()")
@row(73, "three steps, after a second learn()")
def windows_at_a_seam():
    """Two calls of four steps, episodes of ten: the second call begins with a new one. Sum, discount and last state of
    the window from 103."""
    made = learned(Walk(10), 4, n_steps=3).learn(4)
    return [numbers[0] for numbers in windows(made, [3])], [1, 0.9, 104]


@row(30)
def every_step_begins_a_window():
    """The states in 10,000 draws of nine rows, episodes of three steps, truncated."""
    np.random.seed(0)
    made = learned(Walk(truncated=True), 9, n_steps=3)
    found = made.replay_buffer.sample(10_000).observations.unique().tolist()
    return found, [100 * e + t for e in (1, 2, 3) for t in range(3)]


@row(31, "the target")
def target_of_windows():
    """Truncated at 103, Q(103) = 103: y of 100, 101 and 102."""
    made = learned(Walk(truncated=True), n_steps=3)
    return targets(made, range(3)), [2.71 + 0.729 * 103, 1.9 + 0.81 * 103, 1 + 0.9 * 103]


@row(32)
def windows_end_at_the_newest_step():
    """A ring of 10 that holds 18 to 27: sums of the windows from 18, 25, 26 and 27, which have 3, 3, 2 and 1 steps."""
    buffer = filled(NStepReplayBuffer, n_steps=3, gamma=0.9)
    sums = buffer._get_samples(np.array([8, 5, 6, 7])).rewards.flatten().tolist()
    return sums, [1 + 0.9 + 0.81, 1 + 0.9 + 0.81, 1 + 0.9, 1]


not_applicable("no C51", 33, 34, 45)


not_applicable("no noisy layers", 35, 49, 50, 51, 52)


def by_seed(seed):
    """Weights before and after 60 steps with updates, and the actions."""
    env = Walk(chance=True)
    made = model(env, seed=seed, learning_starts=10, learning_rate=0.01, target_update_interval=20)
    first = networks(made)[0].q_net[0].weight[0].item()
    made.learn(60)
    return first, networks(made)[0].q_net[0].weight[0].item(), tuple(env.actions)


@row(37)
def seeds():
    """Seeds 1, 1 and 2: as many different first weights, last weights and series of actions."""
    return [len(set(found)) for found in zip(*map(by_seed, (1, 1, 2)), strict=True)], [2, 2, 2]


@row(38)
def seeded_resets():
    """Resets with a seed, of four."""
    env = Walk()
    learned(env, 9, seed=1)
    return sum(seed is not None for seed in env.seeds), 1


@row(39)
def logged_return():
    """Three steps that pay 5, with rewards clipped to 1 by make_vec_env's `wrapper_class`."""
    made = learned(make_vec_env(lambda: Walk(pay=5.0), wrapper_class=ClipRewardEnv), 3)
    return [made.ep_info_buffer[0]["r"], made.replay_buffer.rewards[0].item()], [15, 1]


@row(41)
def pixels():
    """Frames of 0, 51 and 255 as the network sees them."""
    env = Walk()
    env.observation_space = gym.spaces.Box(0, 255, (3, 36, 36), np.uint8)
    network = networks(model(env))[0]
    frames = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 36, 36)
    return network.extract_features(frames, network.features_extractor)[:, 0].tolist(), [0, 51 / 255, 1]


@row(43)
def windows_keep_their_first_action():
    """State and action of the windows are those of their first steps."""
    env = Walk(10)
    found = learned(env, n_steps=3, seed=1).replay_buffer._get_samples(np.arange(10))
    return found.actions.flatten().tolist() + found.observations.flatten().tolist(), [*env.actions, *range(100, 110)]


@row(46)
def next_action_by_the_mean():
    """QR-DQN, two quantiles: action 0 has 0 and 8, mean 4, action 1 has 5 and 5, though 8 is the most of all."""
    made = with_rows(model(kind=QRDQN, policy_kwargs={"n_quantiles": 2}), (1, 0, 1.0, 2, False))
    made = lines(made, (0.0, 0.0), (0.0, [0.0, 5.0, 8.0, 5.0]))
    return quantile_targets(made), [1 + 0.9 * 5] * 2


def evaluated(often, **more):
    """What training with an EvalCallback every 10 steps, or without, leaves: weights and the first states of episodes,
    drawn by the environment, and actions."""
    env, callback = Walk(chance=True), None
    made = model(
        env, seed=1, learning_starts=10, learning_rate=0.01, exploration_fraction=1.0, target_update_interval=9
    )
    if often:
        callback = EvalCallback(DummyVecEnv([Walk]), eval_freq=10, n_eval_episodes=2, verbose=0, warn=False, **more)
    made.learn(100, callback=callback)
    firsts = column(made, "observations")
    return [networks(made)[0].q_net[0].weight[0].item(), *env.actions, *firsts]


@row(63)
@row(75)
def evaluations_leave_training_alone():
    """A weight, the actions and the states of 100 steps."""
    return evaluated(True), evaluated(False)


@row(63, "deterministic=False")
def random_evaluations_leave_training_alone():
    """The same, where EvalCallback explores, too."""
    seen, due = evaluated(True, deterministic=False), evaluated(False)
    equal = sum(a == b for a, b in zip(seen, due, strict=True))
    return f"{equal} of {len(due)} numbers equal", f"{len(due)}", seen != due


@row(71)
def episodes_of_one_step():
    """Six episodes of one step: as many rows, ends, first states, and the sum of their windows of three steps."""
    made = learned(Walk(1), 6, n_steps=3)
    sums = windows(made, range(6))[0]
    return [len(sums), sum(column(made, "dones")), len(set(column(made, "observations"))), sum(sums)], [6, 6, 6, 6]


@row(72)
def looking():
    """Five greedy actions and values of one state, of DQN and QRDQN: different outputs and weights."""
    seen = set()
    for kind in (DQN, QRDQN):
        made = model(kind=kind)
        for _ in range(5):
            action, _ = made.predict(np.float32([3]), deterministic=True)
            with torch.no_grad():
                output = networks(made)[0](torch.tensor([[3.0]])).flatten().tolist()
            seen.add((kind, int(action), *output, *(p.sum().item() for p in networks(made)[0].parameters())))
    return len(seen), 2


@row(73, "after a second learn()")
def rows_at_a_seam():
    """Calls of four steps, episodes of ten, with and without reset_num_timesteps: rows that cross a seam."""
    made = [learned(Walk(10), 4).learn(4, reset_num_timesteps=new) for new in (True, False)]
    return sum(len(crossings(each)) for each in made), 0


@row(73, "evaluate_policy on the model's environment, then learn(reset_num_timesteps=False)")
def rows_after_an_evaluation():
    """Two steps, an evaluation of one episode, two steps: rows that do not lead one state on."""
    made = learned(Walk(), 2)
    evaluate_policy(made, made.get_env(), 1, warn=False)
    found = crossings(made.learn(2, reset_num_timesteps=False))
    return ", ".join(found) or "none", "none", bool(found)


if __name__ == "__main__":
    answer_all()
