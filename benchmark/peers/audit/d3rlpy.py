"""d3rlpy: its DQN and DoubleDQN, its replay buffer with both transition pickers, and the loop fit_online().

States are numbers. An encoder that passes the state on makes Q(s, a) = s + shift[a] of d3rlpy's own Q-function.
"""

import os
from dataclasses import dataclass
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import d3rlpy
import numpy as np
import torch
from d3rlpy.dataset import (
    Episode,
    FrameStackTransitionPicker,
    MultiStepTransitionPicker,
    TransitionMiniBatch,
    create_fifo_replay_buffer,
)
from d3rlpy.models.encoders import EncoderFactory
from d3rlpy.models.torch import Encoder

from benchmark.peers.audit.rows import answer_all, not_applicable, row
from benchmark.peers.audit.stand_ins import Walk

torch.set_num_threads(1)


class Pass(Encoder):
    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))  # an encoder must have a parameter

    def forward(self, x):
        return x * self.one


@dataclass
class PassFactory(EncoderFactory):
    def create(self, observation_shape):
        return Pass()

    @staticmethod
    def get_type():
        return "pass"


def dqn(online=(0.0, 0.0), target=(0.0, 0.0), config=d3rlpy.algos.DQNConfig, **args):
    agent = config(gamma=0.9, encoder_factory=PassFactory(), **args).create()
    agent.build_with_env(Walk())
    for nets, shift in ((agent.impl.modules.q_funcs, online), (agent.impl.modules.targ_q_funcs, target)):
        nets[0]._fc.weight.data.fill_(1)
        nets[0]._fc.bias.data = torch.tensor(shift)
    return agent


def memory(limit=1000, picker=None, env=None):
    return create_fifo_replay_buffer(limit, transition_picker=picker, env=env or Walk())


def run(agent, env, steps, buffer=None, **args):
    """fit_online() without updates, unless told otherwise. Returns the buffer."""
    buffer = buffer or memory(env=env)
    quiet = {"show_progress": False, "logger_adapter": d3rlpy.logging.NoopAdapterFactory()}
    args = {"update_start_step": steps, "n_steps_per_epoch": steps} | quiet | args
    agent.fit_online(env, buffer, n_steps=steps, **args)
    return buffer


def rows(buffer):
    """All transitions that sampling can draw, oldest first."""
    picked = [buffer.transition_picker(*buffer.buffer[index]) for index in range(buffer.transition_count)]
    return SimpleNamespace(
        obs=[float(each.observation[0]) for each in picked],
        next_obs=[float(each.next_observation[0]) for each in picked],
        reward=[float(each.reward[0]) for each in picked],
        terminal=[each.terminal for each in picked],
        interval=[each.interval for each in picked],
        action=[int(each.action[0]) for each in picked],
        picked=picked,
    )


def one(reward, first=1.0, terminal=False):
    """The first transition of an episode: action 0 leads from `first` to `first` + 1, or to the end."""
    states = np.array([[first]] if terminal else [[first], [first + 1]], np.float32)
    same = np.zeros((len(states), 1), np.int64), np.full((len(states), 1), reward, np.float32)
    buffer = memory()
    buffer.append_episode(Episode(states, *same, terminated=terminal))
    return rows(buffer).picked


def learn(agent, picked):
    """update() on a batch. Returns the loss and the gradient of shift[0] of the online network."""
    loss = agent.update(TransitionMiniBatch.from_transitions(picked))["loss"]
    return loss, agent.impl.modules.q_funcs[0]._fc.bias.grad[0].item()


def huber_target(loss, q):
    """The target of one transition with this Huber loss, if it is above q + 1: loss = y - q - 1/2."""
    return loss + q + 0.5


@row(3)
@row(4)
def double():
    """Online, action 1 is best at 10; the target network prefers action 0. y = 1 + 0.9 * (2 + 5), Q(1, 0) = 1."""
    agent = dqn((0.0, 1.0), (9.0, 5.0), d3rlpy.algos.DoubleDQNConfig)
    return huber_target(learn(agent, one(1.0))[0], 1), 1 + 0.9 * (2 + 5)


@row(5)
def online_maximum():
    """DQN: max Q(2) = 2 + 5 of the target network; the online network's best action is worth 100 there: Q(1, 0) = 1."""
    agent = dqn((0.0, 98.0), (5.0, 3.0))
    return huber_target(learn(agent, one(1.0))[0], 1), 1 + 0.9 * (2 + 5)


@row(6)
def alias():
    """Tensors that the two networks share."""
    modules = dqn().impl.modules
    places = [{each.data_ptr() for each in nets.parameters()} for nets in (modules.q_funcs, modules.targ_q_funcs)]
    return len(places[0] & places[1]), 0


@row(7)
def sync():
    """target_update_interval=3 counts updates, as documented. With an update in two steps: the steps between copies."""
    agent, steps, now = dqn(batch_size=1, target_update_interval=3), [], []
    copy = agent.impl.update_target
    agent.impl.update_target = lambda: steps.append(now[-1] + 1) or copy()
    now.append(0)
    callback = lambda algo, epoch, step: now.append(step)  # noqa: E731
    run(agent, Walk(99), 40, update_interval=2, update_start_step=0, callback=callback)
    return np.diff(steps).tolist()[:4], [3 * 2] * 4


@row(8)
def target_gradient():
    """Gradients of the target network after an update."""
    agent = dqn()
    learn(agent, one(1.0))
    return sum(each.grad is not None for each in agent.impl.modules.targ_q_funcs.parameters()), 0


@row(9)
def truncation():
    """Episodes of three steps that are truncated: rows that count as terminal."""
    return sum(rows(run(dqn(), Walk(truncated=True), 9)).terminal), 0


@row(10)
def final_observation():
    """The next states of 101 and 201, the last rows that are stored of two truncated episodes."""
    stored = rows(run(dqn(), Walk(truncated=True), 7))
    return [stored.next_obs[stored.obs.index(first)] for first in (101, 201)], [102, 202]


@row(11)
def false_row():
    """Rows, not terminal, that lead from one episode to another, in 12 steps."""
    return crossings(rows(run(dqn(), Walk(), 12))), 0


def crossings(stored):
    pairs = zip(stored.obs, stored.next_obs, stored.terminal, strict=True)
    return sum(a // 100 != b // 100 and not end for a, b, end in pairs)


@row(12)
@row(15)
def shapes():
    """Q(s, 0) = s and y = 1 + 0.9 * (s + 1) at 1 and at 5: Huber losses 1.8 - 0.5 and 1.4 - 0.5, and their mean."""
    return learn(dqn(), one(1.0) + one(1.0, first=5))[0], ((2.8 - 1 - 0.5) + (6.4 - 5 - 0.5)) / 2


@row(13)
def clipping():
    """Huber: the gradients at errors of 1 and of 5, Q(0) = 0 and y = reward."""
    return [learn(dqn(), one(reward, 0.0, terminal=True))[1] for reward in (1.0, 5.0)], [-1, -1]


@row(16)
def epsilon():
    """LinearDecayEpsilonGreedy from 1 to 0.1 in 40 steps, with an update in four steps: ε of steps 1, 20, 40, 50."""
    explorer, seen = d3rlpy.algos.LinearDecayEpsilonGreedy(1.0, 0.1, 40), []
    compute = explorer.compute_epsilon
    explorer.compute_epsilon = lambda step: seen.append(compute(step)) or seen[-1]
    run(dqn(batch_size=1), Walk(99), 50, explorer=explorer, update_interval=4, update_start_step=0)
    return [seen[step - 1] for step in (1, 20, 40, 50)], [1 - 0.9 / 40, 1 - 0.9 / 2, 0.1, 0.1]


def chi_square(counts):
    due = sum(counts) / len(counts)
    return float(sum((count - due) ** 2 / due for count in counts))


@row(17)
def first_and_last():
    """20,000 draws from a ring of 10 after 10 episodes of 3: chi-square with 9 degrees stays below 27.9 (0.1%)."""
    np.random.seed(0)
    buffer = run(dqn(), Walk(), 30, memory(10))
    drawn = buffer.sample_transition_batch(20_000).observations[:, 0].tolist()
    counts = [drawn.count(obs) for obs in rows(buffer).obs]
    uneven = chi_square(counts)
    return f"chi-square {uneven:.1f}, newest {counts[-1]}", "below 27.9, newest 2000", uneven > 27.9


@row(18)
def reference():
    """The array of the observation is changed from 5 to 1000 after append()."""
    buffer, array = memory(), np.array([5.0], np.float32)
    buffer.append(array, 0, 1.0)
    array[:] = 1000
    buffer.append(array, 0, 1.0)
    return rows(buffer).obs, [5]


@row(18, "an environment that reuses its array")
def reference_loop():
    """The first three stored observations of fit_online()."""
    return rows(run(dqn(), Walk(9, reuse=True), 4)).obs, [100, 101, 102]


@row(19)
def ring():
    """Steps 0 to 24 in episodes of five, a ring of 10: 15 to 24 are there."""
    buffer = memory(10)
    for number in range(25):
        buffer.append(np.array([number], np.float32), 0, 1.0)
        if number % 5 == 4:
            buffer.clip_episode(True)
    return rows(buffer).obs, list(range(15, 25))


not_applicable("no prioritized replay", 20, 21, 22, 23, 24, 25, 26, 74)


@row(27)
def frame_stack():
    """Stacks of three frames of two episodes of two steps, 1, 2 and 3, 4, padded with zeros as documented."""
    picker, seen = FrameStackTransitionPicker(n_frames=3), []
    for first in (1, 3):
        frames = np.array([first, first + 1], np.float32).reshape(2, 1, 1, 1)
        episode = Episode(frames, np.zeros((2, 1), np.int64), np.ones((2, 1), np.float32), terminated=True)
        seen += [frame for index in (0, 1) for frame in picker(episode, index).observation.flatten().tolist()]
    return seen, [0, 0, 1, 0, 1, 2, 0, 0, 3, 0, 3, 4]


@row(28)
def last_reward():
    """The step from 102 ends the episode: it is stored, terminal."""
    stored = rows(run(dqn(), Walk(), 6))
    return [stored.obs.count(102), stored.terminal[stored.obs.index(102)]], [1, 1]


@row(28, "truncated")
def last_reward_truncated():
    """Three truncated episodes of three steps: rewards that can be drawn."""
    return sum(rows(run(dqn(), Walk(truncated=True), 9)).reward), 9


def windows(truncated=False, length=3, steps=9):
    """Windows of three steps of fit_online()."""
    env = Walk(length, truncated)
    return rows(run(dqn(), env, steps, memory(picker=MultiStepTransitionPicker(3, 0.9), env=env)))


@row(29)
def window_end():
    """Each step pays 1, the episode ends at 103: the windows of 100, 101 and 102 have three, two and one steps."""
    return windows().reward[:3], [1 + 0.9 + 0.81, 1 + 0.9, 1]


@row(29, "truncated")
def window_truncated():
    """Five steps, of which four are stored: the windows of 100 to 103 have three, three, two and one steps."""
    stored = windows(truncated=True, length=5)
    return stored.reward[:4] + stored.next_obs[:4], [2.71, 2.71, 1.9, 1, 103, 104, 104, 104]


@row(30)
def window_starts():
    """All states of three episodes begin a window."""
    return windows().obs, [100, 101, 102, 200, 201, 202, 300, 301, 302]


@row(31)
def window_discount():
    """A truncated episode: 103's window has one step, y = 1 + 0.9 * 104; 101's has three. Online Q(s) = s - 999."""
    stored, seen = windows(truncated=True, length=5), []
    for first in (103, 101):
        index = stored.obs.index(first)
        loss, _ = learn(dqn(online=(-999.0, -999.0)), stored.picked[index : index + 1])
        seen.append(huber_target(loss, first - 999))
    return seen, [1 + 0.9 * 104, 2.71 + 0.9**3 * 104]


@row(32)
def window_ring():
    """A ring of 10 in an endless episode, filled 2.5 times: the oldest window is whole, the newest pay 1.9 and 1."""
    env = Walk(999)
    stored = rows(run(dqn(), env, 26, memory(10, MultiStepTransitionPicker(3, 0.9), env)))
    return [stored.obs[0], stored.obs[-1], stored.reward[0], *stored.reward[-3:]], [115, 124, 2.71, 2.71, 1.9, 1]


not_applicable("no C51", 33, 34, 45, 46)


not_applicable("no noisy layers", 35, 49, 51, 52)


def trained(seed):
    """The weights after 60 steps of fit_online() with updates, and the actions."""
    d3rlpy.seed(seed)
    agent, env = d3rlpy.algos.DQNConfig(batch_size=4, learning_rate=0.01).create(), Walk()
    run(agent, env, 60, explorer=d3rlpy.algos.ConstantEpsilonGreedy(0.5), update_start_step=0)
    return [*env.actions, *torch.cat([each.flatten() for each in agent.impl.modules.q_funcs.parameters()]).tolist()]


@row(37)
def seeds():
    """d3rlpy.seed(): one seed twice gives equal weights and actions, two seeds do not."""
    same, other = trained(1) == trained(1), trained(1) == trained(2)
    return f"{same}, {other}", "True, False", not same or other


@row(38)
def seeded_resets():
    """Resets of the environment that get a seed, in 12 steps."""
    env = Walk()
    run(dqn(), env, 12)
    return len([seed for seed in env.seeds if seed is not None]), 0


@row(43)
def window_begin():
    """The actions of the windows are those that the environment got at their first steps."""
    np.random.seed(0)
    env = Walk(99)
    buffer = memory(picker=MultiStepTransitionPicker(3, 0.9), env=env)
    run(dqn(), env, 12, buffer, explorer=d3rlpy.algos.ConstantEpsilonGreedy(1.0))
    return rows(buffer).action, env.actions[:11]


@row(63)
def evaluation_draws():
    """Actions of two runs with the same seed, of which one has an evaluation each 10 steps, that differ."""
    seen = []
    for evaluation in (Walk(), None):
        d3rlpy.seed(1)
        env = Walk()
        explorer = d3rlpy.algos.ConstantEpsilonGreedy(1.0)
        run(dqn(), env, 60, explorer=explorer, n_steps_per_epoch=10, eval_env=evaluation)
        seen.append(env.actions)
    return sum(a != b for a, b in zip(*seen, strict=True)), 0


@row(71)
def one_step():
    """Six episodes of one step with reward 1: six rows, all terminal."""
    stored = rows(run(dqn(), Walk(1), 6))
    return [len(stored.obs), sum(stored.terminal)], [6, 6]


@row(71, "one episode of one step beside longer ones")
def one_step_beside():
    """The states are 100, then 200, 201, 202: rows that lead from one episode to another."""
    env = Walk(1)
    buffer = run(dqn(), env, 1)
    env.length = 3
    run(dqn(), env, 3, buffer)
    return crossings(rows(buffer)), 0


@row(72)
def looking():
    """Two greedy actions and values: the change of the weights and of the value."""
    agent = d3rlpy.algos.DQNConfig().create()
    agent.build_with_env(Walk())
    state, action = np.ones((1, 1), np.float32), np.zeros((1, 1), np.int64)
    before = [each.clone() for each in agent.impl.modules.q_funcs.parameters()]
    values = [agent.predict_value(state, action)[0] for _ in range(2) if agent.predict(state) is not None]
    after = agent.impl.modules.q_funcs.parameters()
    moved = max((a - b).abs().max().item() for a, b in zip(before, after, strict=True))
    return [moved, abs(values[0] - values[1])], [0, 0]


@row(73, "a second fit_online")
def seam():
    """Two calls of five steps, episodes of three: the first call ends at 202. Rows that cross to another episode."""
    agent, env = dqn(), Walk()
    buffer = run(agent, env, 5)
    run(agent, env, 5, buffer)
    return crossings(rows(buffer)), 0


@row(73, "a second fit_online, the first ended one step into an episode")
def seam_of_one():
    """Two calls of four steps: the first ends at 201, one step into the second episode."""
    agent, env = dqn(), Walk()
    buffer = run(agent, env, 4)
    run(agent, env, 4, buffer)
    return crossings(rows(buffer)), 0


@row(75)
def evaluations():
    """Ten actions, an evaluation, ten actions: as many that are equal as by chance. Equal by a rewind: all of 200."""
    d3rlpy.seed(1)
    env, explorer = Walk(), d3rlpy.algos.ConstantEpsilonGreedy(1.0)
    run(dqn(), env, 400, explorer=explorer, n_steps_per_epoch=200, eval_env=Walk())
    same = sum(a == b for a, b in zip(env.actions[:200], env.actions[200:], strict=True))
    return f"{same} of 200 equal", "about 100", same > 150


if __name__ == "__main__":
    answer_all()
