"""PFRL: its DQN, DoubleDQN and CategoricalDQN, its buffers, its noisy layer, and the loops train_agent and its kin.

States are numbers. Most checks put a network in place whose output is readable: Q(s, a) = s + shift[a].
"""

import logging
import os
import tempfile
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pfrl
import torch
from pfrl.action_value import DiscreteActionValue, DistributionalDiscreteActionValue
from pfrl.agents import DQN, CategoricalDQN, DoubleDQN
from pfrl.envs import SerialVectorEnv
from pfrl.experiments import (
    train_agent,
    train_agent_batch,
    train_agent_batch_with_evaluation,
    train_agent_with_evaluation,
)
from pfrl.explorers import ConstantEpsilonGreedy, Greedy, LinearDecayEpsilonGreedy
from pfrl.nn.noisy_linear import FactorizedNoisyLinear
from pfrl.q_functions import DistributionalDuelingDQN, DuelingDQN, FCStateQFunctionWithDiscreteAction
from pfrl.replay_buffer import batch_experiences
from pfrl.replay_buffers import PrioritizedReplayBuffer, ReplayBuffer

from benchmark.peers.audit import stand_ins
from benchmark.peers.audit.rows import answer_all, row

torch.set_num_threads(1)
logging.disable()


class Walk:
    """Episode e visits 100 e, 100 e + 1, ... and ends after `length` steps, each of which pays 1. Like Gym before 0.26,
    as PFRL wants it: step() returns four values, and info's needs_reset says that a time limit ends the episode."""

    observation_space = action_space = spec = None

    def __init__(self, length=3, truncated=False, reuse=False):
        self.length, self.truncated, self.reuse = length, truncated, reuse
        self.episode, self.array, self.actions, self.seeds = 0, np.zeros(1, np.float32), [], []

    def look(self):
        self.array = self.array if self.reuse else self.array.copy()
        self.array[:] = 100 * self.episode + self.step_number
        return self.array

    def seed(self, seed):
        self.seeds.append(seed)

    def reset(self):
        self.episode, self.step_number = self.episode + 1, 0
        return self.look()

    def step(self, action):
        self.actions.append(int(action))
        self.step_number += 1
        end = self.step_number == self.length
        return self.look(), 1.0, end and not self.truncated, {"needs_reset": end and self.truncated}


class Shift(stand_ins.Shift):
    """Q(s, a) = s + shift[a], as PFRL wants it."""

    def forward(self, obs):
        return DiscreteActionValue(super().forward(obs))


class Atoms(torch.nn.Module):
    """Logits of two actions and five atoms, -2 to 2, for each of five states."""

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(5, 2, 5))

    def forward(self, obs):
        return DistributionalDiscreteActionValue(self.logits[obs[:, 0].long()].softmax(-1), torch.arange(-2.0, 3.0))


def dqn(kind=DQN, net=None, memory=None, explorer=None, **args):
    """Without a capacity of the buffer it learns only when it is told to, unless `replay_start_size` is given."""
    net, memory = net or Shift(), ReplayBuffer() if memory is None else memory
    args = {"replay_start_size": memory.capacity or 10**6, "minibatch_size": 1} | args
    return kind(net, torch.optim.SGD(net.parameters(), lr=1.0), memory, 0.9, explorer or Greedy(), **args)


def shifted(online, target, kind=DQN):
    agent = dqn(kind)
    agent.model.shift.data, agent.target_model.shift.data = torch.tensor(online), torch.tensor(target)
    return agent


def step(state=1.0, reward=1.0, next_state=2.0, terminal=False, action=0, **more):
    one = {"state": np.float32([state]), "next_state": np.float32([next_state]), "next_action": None}
    return one | {"action": action, "reward": reward, "is_state_terminal": terminal} | more


def batch(windows):
    return batch_experiences(windows, torch.device("cpu"), lambda x: x, 0.9)


def target(agent, *windows):
    """The targets of the loss, for lists of steps."""
    return agent._compute_y_and_t(batch(windows))[1].flatten().tolist()


def run(agent, env, steps, first=0):
    """train_agent(), or train_agent_batch() with several environments. Returns the buffer's rows."""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(env, SerialVectorEnv):
            train_agent_batch(agent, env, steps, folder, step_offset=first)
        else:
            train_agent(agent, env, steps, folder, step_offset=first)
    return rows(agent.replay_buffer)


def rows(memory):
    """All windows that sampling can draw, oldest first."""
    windows = list(memory.memory)
    made = batch(windows)
    return SimpleNamespace(
        windows=windows,
        obs=made["state"].flatten().tolist(),
        next_obs=made["next_state"].flatten().tolist(),
        reward=made["reward"].tolist(),
        terminal=made["is_state_terminal"].tolist(),
        discount=made["discount"].tolist(),
        action=made["action"].tolist(),
    )


def crossings(stored):
    """Rows, not terminal, that lead from one episode to another, or back."""
    pairs = zip(stored.obs, stored.next_obs, stored.terminal, strict=True)
    return sum(not end and (a // 100 != b // 100 or b <= a) for a, b, end in pairs)


def prioritized(priorities, alpha=1.0, eps=0.0, **args):
    """States 0, 1, ... with these errors."""
    args = {"error_max": None} | args
    memory = PrioritizedReplayBuffer(len(priorities), alpha=alpha, eps=eps, **args)
    for number in range(len(priorities)):
        memory.append(**step(number))
    drawn = memory.sample(len(priorities))
    memory.update_errors([priorities[int(window[0]["state"][0])] for window in drawn])
    return memory


def chi_square(counts, due):
    due = np.array(due) / np.sum(due) * np.sum(counts)
    return float(((counts - due) ** 2 / due).sum())


def dueling(kind=DuelingDQN, **args):
    torch.manual_seed(0)
    net, images = kind(3, n_input_channels=1, **args), torch.rand(3, 1, 84, 84)
    return net, images


@row(1)
def dueling_batch():
    """DuelingDQN: Q of an image alone, minus its Q in a batch of three."""
    net, images = dueling()
    return round((net(images[:1]).q_values - net(images).q_values[:1]).abs().max().item(), 4), 0


@row(2)
def dueling_mean():
    """DuelingDQN: the mean of Q over the actions, minus the output of the value's stream."""
    net, images = dueling()
    values = []
    net.v_stream.register_forward_hook(lambda module, inputs, value: values.append(value[:, 0]))
    return round((net(images).q_values.mean(1) - values[0]).abs().max().item(), 4), 0


@row(3)
@row(4)
def double():
    """Online, action 1 is best; the target network prefers action 0: y = 1 + 0.9 * (2 + 5)."""
    return target(shifted((0.0, 1.0), (9.0, 5.0), DoubleDQN), [step()])[0], 1 + 0.9 * (2 + 5)


@row(5)
def online_maximum():
    """DQN: max Q(2) = 2 + 5 of the target network; the online network prefers action 1, at 100."""
    return target(shifted((0.0, 98.0), (5.0, 3.0)), [step()])[0], 1 + 0.9 * (2 + 5)


@row(6)
def alias():
    """Tensors that the two networks share."""
    agent = dqn()
    places = [{each.data_ptr() for each in net.parameters()} for net in (agent.model, agent.target_model)]
    return len(places[0] & places[1]), 0


def syncs(env):
    """The steps of the copies in 40 steps, target_update_interval=12, an update in four steps from step 6 on."""
    agent, seen = dqn(replay_start_size=6, update_interval=4, target_update_interval=12), []
    copy = agent.sync_target_network
    agent.sync_target_network = lambda: seen.append(agent.t) or copy()
    run(agent, env, 40)
    return seen


@row(7)
def sync():
    """Every 12 environment steps."""
    return syncs(Walk(99)), [12, 24, 36]


@row(7, "several environments")
def sync_of_many():
    """Every 12 steps of four environments together."""
    return syncs(SerialVectorEnv([Walk(99) for _ in range(4)])), [12, 24, 36]


@row(8)
def target_gradient():
    """Gradients of the target network after an update."""
    agent = dqn()
    agent.update([[step()]])
    return sum(each.grad is not None for each in agent.target_model.parameters()), 0


@row(9)
def truncation():
    """The step from 102 to 103 is truncated and pays 1: 1 + 0.9 * 103."""
    stored = run(dqn(), Walk(truncated=True), 9)
    return target(dqn(), stored.windows[stored.obs.index(102)])[0], 1 + 0.9 * 103


@row(10)
def final_observation():
    """The last steps of two truncated episodes lead to 103 and 203."""
    stored = run(dqn(), Walk(truncated=True), 9)
    return [stored.next_obs[stored.obs.index(state)] for state in (102, 202)], [103, 203]


@row(11)
def false_row():
    """States that begin rows, two episodes of two environments: no final state among them."""
    stored = run(dqn(), SerialVectorEnv([Walk(2), Walk(3)]), 12)
    return sorted(stored.obs), [100, 100, 101, 101, 102, 200, 200, 201, 201, 202, 300, 301]


@row(12)
def shapes():
    """Q(s) = s, y = 1 + 0.9 * (s + 1): errors 1.8 at 1 and 1.4 at 5, of which the mean Huber loss is taken."""
    agent = dqn()
    agent.update([[step()], [step(5.0, next_state=6.0)]])
    return agent.loss_record[0], ((1.8 - 0.5) + (1.4 - 0.5)) / 2


def gradient(*windows, memory=None):
    """Of shift[0], of the mean of the losses."""
    agent = dqn(memory=memory)
    agent.update(list(windows))
    return agent.model.shift.grad[0].item()


@row(13)
def clipping():
    """Huber: the gradients at errors of 1 and of 5, Q(0) = 0 and y = reward."""
    return [gradient([step(0.0, reward, terminal=True)]) for reward in (1.0, 5.0)], [-1, -1]


@row(14)
@row(21)
def weights():
    """PrioritizedReplayBuffer, β = 1: p = 0.8 and 0.2, so the weights are 1/4 and 1; errors 1 and 1, a batch of two."""
    memory, seen = prioritized([0.8, 0.2], beta0=1.0), []
    for window in memory.sample(2):
        ended = [window[0] | {"reward": window[0]["state"][0] + 1.0, "is_state_terminal": True}]
        alone = prioritized([1.0], beta0=1.0)
        alone.sample(1)
        seen.append(gradient(ended, memory=alone))
    return sorted(seen), [-1, -1 / 4]


@row(74)
def weight_ratio():
    """Errors of 1, weights 1 and 0.25, then 0.5: gradients."""
    seen = []
    for weight in (1.0, 0.25, 0.5):
        memory = prioritized([1.0])
        memory.sample(1)
        seen.append(gradient([step(0.0, 1.0, terminal=True, weight=weight)], memory=memory))
    return seen, [-1, -0.25, -0.5]


@row(15)
def element_loss():
    """Two steps with errors 1 and weights 1 and 0.5: the loss is (1 * 0.5 + 0.5 * 0.5) / 2."""
    memory = prioritized([1.0, 1.0])
    agent = dqn(memory=memory)
    memory.sample(2)
    agent.update([[step(0.0, terminal=True, weight=weight)] for weight in (1.0, 0.5)])
    return agent.loss_record[0], (0.5 + 0.25) / 2


@row(16)
def epsilon():
    """From 1 to 0.1 in 40 steps: ε of the actions after 0, 20, 40, 48 steps of four environments, updates or not."""
    explorer, seen = LinearDecayEpsilonGreedy(1.0, 0.1, 40, lambda: 0), []
    compute = explorer.compute_epsilon
    explorer.compute_epsilon = lambda t: seen.append(compute(t)) or seen[-1]
    env = SerialVectorEnv([Walk(99) for _ in range(4)])
    run(dqn(explorer=explorer, replay_start_size=8, update_interval=3, target_update_interval=3), env, 60)
    return [seen[taken] for taken in (0, 20, 40, 48)], [1, 1 - 0.9 / 2, 0.1, 0.1]


@row(17)
def first_and_last():
    """10,000 draws of one from a ring of 10 that holds 18 to 27: chi-square with 9 degrees stays below 27.9 (0.1%)."""
    np.random.seed(0)
    memory = ReplayBuffer(10)
    for number in range(28):
        memory.append(**step(number))
    counts = np.bincount([int(memory.sample(1)[0][0]["state"][0]) - 18 for _ in range(10_000)], minlength=10)
    uneven = chi_square(counts, [1] * 10)
    return f"chi-square {uneven:.1f}, newest {counts[9]}", "below 27.9, newest 1000", uneven > 27.9


@row(18)
def reference():
    """The array of the observation is changed from 5 to 1000 after append()."""
    memory, array = ReplayBuffer(10), np.float32([5])
    memory.append(**step() | {"state": array})
    array[:] = 1000
    return rows(memory).obs, [5]


@row(18, "an environment that reuses its array")
def reference_loop():
    """The first three stored observations of train_agent()."""
    return run(dqn(), Walk(9, reuse=True), 3).obs, [100, 101, 102]


@row(19)
def ring():
    """25 transitions in a ring of 10: 15 to 24 are there."""
    memory = ReplayBuffer(10)
    for number in range(25):
        memory.append(**step(number))
    return rows(memory).obs, list(range(15, 25))


@row(20)
def leaf():
    """DQN.update() with an error of 0.5: the leaf is (0.5 + 0.01) ** 0.6."""
    memory = PrioritizedReplayBuffer(1)
    memory.append(**step(0.0, 0.5, terminal=True))
    dqn(memory=memory).update(memory.sample(1))
    return memory.memory.priority_sums.sum(), (0.5 + 0.01) ** 0.6


@row(20, "error_max=None")
def large_leaf():
    """An error of 4: (4 + 0.01) ** 0.6. With the default of 1 for error_max, a cap, it would be (1 + 0.01) ** 0.6."""
    memory = PrioritizedReplayBuffer(1, error_max=None)
    memory.append(**step(0.0, 4.0, terminal=True))
    dqn(memory=memory).update(memory.sample(1))
    return memory.memory.priority_sums.sum(), (4 + 0.01) ** 0.6


@row(22)
def beta():
    """betasteps=10, which counts draws: β before the draws 0, 5, 10 and 20."""
    memory, seen = prioritized([1.0], beta0=0.4, betasteps=None), []
    memory.beta_add = PrioritizedReplayBuffer(betasteps=10).beta_add
    for _ in range(21):
        seen.append(memory.beta)
        memory.sample(1)
        memory.update_errors([1.0])
    return [seen[draws] for draws in (0, 5, 10, 20)], [0.4, 0.7, 1, 1]


@row(23)
def weighted_priority():
    """Errors of 0.5 and weights 1 and 0.25: the two leaves are 0.5."""
    memory = prioritized([1.0, 1.0])
    drawn = memory.sample(2)
    for window, weight in zip(drawn, (1.0, 0.25), strict=True):
        window[0].update(step(0.0, 0.5, terminal=True, weight=weight))
    dqn(memory=memory).update(drawn)
    return [memory.memory.priority_mins.min(), memory.memory.priority_sums.sum()], [0.5, 0.5 + 0.5]


@row(24)
def overwritten():
    """Priorities 0.1 and 5; the next transition overwrites the first and gets 5: the sum is 5 + 5."""
    memory = prioritized([0.1, 5.0])
    memory.append(**step(9))
    return memory.memory.priority_sums.sum(), 5 + 5


@row(25)
def drift():
    """100,000 new priorities between 1e-4 and 1e4: the root minus the sum of the leaves, relative."""
    memory, random = prioritized([1.0] * 64), np.random.default_rng(0)
    leaves = np.ones(64)
    for _ in range(100_000):
        index, value = int(random.integers(64)), float(10 ** random.uniform(-4, 4))
        memory.memory.priority_sums[index] = leaves[index] = value
    return abs(memory.memory.priority_sums.sum() - leaves.sum()) / leaves.sum(), 0


@row(26)
def frequencies():
    """8,000 draws with priorities 1, 3, 2, 2: chi-square with 3 degrees stays below 16.3 (0.1%)."""
    np.random.seed(0)
    memory, priorities, counts = prioritized([1.0, 3.0, 2.0, 2.0]), [1.0, 3.0, 2.0, 2.0], [0] * 4
    for _ in range(8000):
        state = int(memory.sample(1)[0][0]["state"][0])
        memory.update_errors([priorities[state]])
        counts[state] += 1
    uneven = chi_square(counts, priorities)
    return f"{' / '.join(map(str, counts))}, chi-square {uneven:.1f}", "1000 / 3000 / 2000 / 2000", uneven > 16.3


@row(28)
def last_reward():
    """Episodes of three steps, the first terminated, the second truncated: the rewards of the rows from 102 and 202."""
    env = Walk()
    agent = dqn()
    run(agent, env, 3)
    env.truncated = True
    stored = run(agent, env, 7, first=3)
    return [stored.reward[stored.obs.index(state)] for state in (102, 202)], [1, 1]


def windows(truncated=False, steps=9):
    """Windows of three steps of episodes of three."""
    return run(dqn(memory=ReplayBuffer(num_steps=3)), Walk(3, truncated), steps)


@row(29)
def window_end():
    """Each step pays 1: the windows of 100, 101, 102 have three, two and one steps, whether terminated or truncated."""
    return windows().reward[:3] + windows(truncated=True).reward[:3], [2.71, 1.9, 1, 2.71, 1.9, 1]


@row(29, "several environments")
def window_neighbour():
    """The episodes of one environment last 2 steps, of the other 5: the window of 101 of the latter has three steps."""
    stored = run(dqn(memory=ReplayBuffer(num_steps=3)), SerialVectorEnv([Walk(2), Walk(5)]), 10)
    long = [reward for obs, reward in zip(stored.obs, stored.reward, strict=True) if obs == 101]
    return sorted(long), [1, 1 + 0.9 + 0.81]


@row(30)
def window_starts():
    """All states of three episodes begin a window, truncated ones, too."""
    due = [100, 101, 102, 200, 201, 202, 300, 301, 302]
    return windows().obs + windows(truncated=True).obs, due + due


@row(31)
def window_discount():
    """Truncated at 103: y of 100, 101, 102 by Q(103) = 103."""
    stored = windows(truncated=True)
    return target(dqn(), *stored.windows[:3]), [2.71 + 0.9**3 * 103, 1.9 + 0.9**2 * 103, 1 + 0.9 * 103]


@row(32)
def window_ring():
    """An episode without end, rewards 1, a buffer of 10 filled 2.5 times: every row pays 1 + 0.9 + 0.81, 3 steps on."""
    stored = run(dqn(memory=ReplayBuffer(10, num_steps=3)), Walk(999), 27)
    steps = np.subtract(stored.next_obs, stored.obs).tolist()
    return [min(stored.reward), max(stored.reward), min(steps), max(steps)], [2.71, 2.71, 3, 3]


def atoms(online=None, mass=None):
    """CategoricalDQN whose networks have these probabilities in every state and for every action."""
    agent = dqn(CategoricalDQN, Atoms())
    for net, probabilities in ((agent.model, online), (agent.target_model, mass)):
        if probabilities is not None:
            net.logits.data[:] = torch.tensor(probabilities).clamp(1e-30).log()
    return agent


@row(33)
def projection():
    """Discounts of 1: rewards 0, 1 and 5 move the masses 0.1, 0.2, 0.4, 0.2, 0.1 by none, one and, to the edge, all."""
    agent, mass = atoms(mass=[0.1, 0.2, 0.4, 0.2, 0.1]), [0.1, 0.2, 0.4, 0.2, 0.1]
    agent.gamma, seen = 1.0, []
    for reward in (0.0, 1.0, 5.0):
        made = batch_experiences([[step(0.0, reward, 1.0)]], torch.device("cpu"), lambda x: x, 1.0)
        seen += agent._compute_y_and_t(made)[1][0].tolist()
    return seen, [*mass, 0, 0.1, 0.2, 0.4, 0.3, 0, 0, 0, 0, 1]


@row(34)
def log_clamp():
    """All of the target is at the last atom, where p = 2e-9: the gradient of its logit is p - 1."""
    return tiny(2e-9), -1


@row(34, "below p = 1e-10")
def log_clamp_far():
    """The same with p = 2e-11."""
    return tiny(2e-11), -1


def tiny(p):
    agent = atoms(online=[0.25, 0.25, 0.25, 0.25, p])
    agent.update([[step(0.0, 2.0, 1.0, terminal=True)]])
    return agent.model.logits.grad[0, 0, 4].item()


@row(35)
def rank():
    """The rank of the weights' noise of 6 outputs and 5 inputs: the outputs at the unit vectors, with μ = 0."""
    layer = FactorizedNoisyLinear(torch.nn.Linear(5, 6, bias=False))
    layer.mu.weight.data.zero_()
    return torch.linalg.matrix_rank(layer(torch.eye(5)), rtol=1e-4).item(), 1


def made(seed):
    """The weights after 60 steps of train_agent() with updates, and the actions."""
    pfrl.utils.set_random_seed(seed)
    explorer = ConstantEpsilonGreedy(0.5, lambda: np.random.randint(2))
    net, env = FCStateQFunctionWithDiscreteAction(1, 2, 8, 1), Walk()
    run(dqn(net=net, explorer=explorer, replay_start_size=4, minibatch_size=4), env, 60)
    return [*env.actions, *torch.cat([each.flatten() for each in net.parameters()]).tolist()]


@row(37)
def seeds():
    """set_random_seed(): one seed twice gives equal weights and actions, two seeds do not."""
    same, other = made(1) == made(1), made(1) == made(2)
    return f"{same}, {other}", "True, False", not same or other


@row(38)
def seeded_resets():
    """Calls of the environment's seed() in 12 steps."""
    env = Walk()
    run(dqn(), env, 12)
    return len(env.seeds), 0


@row(43)
def window_begin():
    """The actions of the windows are those that the environment got at their first steps."""
    np.random.seed(0)
    env, explorer = Walk(99), ConstantEpsilonGreedy(1.0, lambda: np.random.randint(2))
    stored = run(dqn(memory=ReplayBuffer(num_steps=3), explorer=explorer), env, 12)
    return stored.action[:10], env.actions[:10]


@row(45)
@row(46)
def next_action():
    """State 1, the target network: action 0 has mean 0.11 and mode 2, action 1 mean 0.44. Online, action 0 is best."""
    agent = atoms()
    first, second = [0.445, 0, 0, 0, 0.555], [0, 0.01, 0.54, 0.45, 0]
    agent.target_model.logits.data[1] = torch.tensor([first, second]).clamp(1e-30).log()
    agent.model.logits.data[1] = torch.tensor([second, first]).clamp(1e-30).log()
    mass = agent._compute_y_and_t(batch([[step(0.0, 0.0, 1.0)]]))[1][0]
    return (mass @ torch.arange(-2.0, 3.0)).item(), 0.9 * (0.45 - 0.01)


@row(48)
def dueling_atoms():
    """DistributionalDuelingDQN: log p, as differences to atom 0, in the mean over the actions, minus the value's."""
    net, images = dueling(DistributionalDuelingDQN, n_atoms=4, v_min=-1.0, v_max=1.0)
    values = []
    net.v_stream.register_forward_hook(lambda module, inputs, value: values.append(value))
    log_p = net(images).q_dist.log().mean(1)
    return round((log_p - log_p[:, :1] - values[0] + values[0][:, :1]).abs().max().item(), 4), 0


def noisy():
    """A Q-function with the package's noisy layers."""
    torch.manual_seed(0)
    net = FCStateQFunctionWithDiscreteAction(1, 2, 8, 1)
    pfrl.nn.to_factorized_noisy(net, sigma_scale=0.5)
    return net


def values(agent, looks, training):
    """Different values of state 1 in so many actions."""
    seen = set()
    agent.model.register_forward_hook(lambda net, inputs, out: seen.add(out.q_values[0, 0].item()))
    for _ in range(looks):
        if training:
            agent.act(np.float32([1]))
        else:
            with agent.eval_mode():
                agent.act(np.float32([1]))
    return len(seen)


@row(49)
@row(51, "while acting")
def noise_is_drawn_anew():
    """Different values of one state in five actions of training before the first update."""
    return values(dqn(net=noisy()), 5, training=True), 5


@row(50)
def noise_of_target():
    """Different targets of one step in five looks: the target network draws noise of its own."""
    agent = dqn(net=noisy())
    return len({target(agent, [step()])[0] for _ in range(5)}), 5


@row(51, "in evaluation")
@row(72, "with noisy layers")
def evaluation_has_no_noise():
    """Different values of one state in five actions of eval_mode()."""
    return values(dqn(net=noisy()), 5, training=False), 1


@row(52)
def first_sigma():
    """2 inputs, 8 outputs, σ₀ = 0.5: σ of weights and biases 0.5 / sqrt(2)."""
    layer = FactorizedNoisyLinear(torch.nn.Linear(2, 8), sigma_scale=0.5)
    return [layer.sigma.weight[0, 0].item(), layer.sigma.bias[0].item()], [0.5 / 2**0.5] * 2


@row(52, "f(x)")
def noise_shape():
    """The mean of f(x) ** 2 in two million draws, to two decimals: sqrt(2 / π). The biases' noise, with σ = 1."""
    torch.manual_seed(0)
    layer = FactorizedNoisyLinear(torch.nn.Linear(1, 2_000_000))
    for weights, value in ((layer.mu.weight, 0), (layer.mu.bias, 0), (layer.sigma.weight, 0), (layer.sigma.bias, 1)):
        weights.data.fill_(value)
    return round(layer(torch.ones(1)).square().mean().item(), 2), round((2 / np.pi) ** 0.5, 2)


@row(63)
@row(75)
def evaluation_draws():
    """Actions of two runs with the same seed, of which one has an evaluation each 10 steps, that differ."""
    seen = []
    for interval in (10, 1000):
        pfrl.utils.set_random_seed(1)
        env, explorer = Walk(), ConstantEpsilonGreedy(1.0, lambda: np.random.randint(2))
        evaluated(train_agent_with_evaluation, dqn(explorer=explorer), env, 60, interval, eval_env=Walk())
        seen.append(env.actions)
    return sum(a != b for a, b in zip(*seen, strict=True)), 0


def evaluated(loop, agent, env, steps, interval, **args):
    with tempfile.TemporaryDirectory() as folder:
        loop(agent, env, steps, None, 1, interval, folder, save_best_so_far_agent=False, **args)
    return rows(agent.replay_buffer)


@row(71)
def one_step():
    """Six episodes of one step with reward 1: six rows, all terminal, of one step and of three."""
    seen = []
    for n in (1, 3):
        stored = run(dqn(memory=ReplayBuffer(num_steps=n)), Walk(1), 6)
        seen += [len(stored.obs), sum(stored.terminal), sum(stored.reward)]
    return seen, [6, 6, 6, 6, 6, 6]


@row(72)
def looking():
    """Two actions of eval_mode(): different values."""
    return values(dqn(net=FCStateQFunctionWithDiscreteAction(1, 2, 8, 1)), 2, training=False), 1


def two_calls(n):
    """Two calls of four steps each, in an episode without end."""
    agent, env = dqn(memory=ReplayBuffer(num_steps=n)), Walk(99)
    run(agent, env, 4)
    return crossings(run(agent, env, 8, first=4))


@row(73, "a second train_agent")
def seam():
    """Rows that cross to another episode."""
    return two_calls(1), 0


@row(73, "a second train_agent, several steps")
def seam_of_windows():
    """Windows of three steps that cross to another episode."""
    return two_calls(3), 0


@row(73, "evaluation in the training environment")
def seam_of_evaluation():
    """train_agent_with_evaluation() without eval_env: rows that cross to another episode or begin at an end."""
    stored = evaluated(train_agent_with_evaluation, dqn(), Walk(), 20, 5)
    return crossings(stored) + sum(obs % 100 == 3 for obs in stored.obs), 0


@row(73, "evaluation in the training environments of a batch")
def seam_of_batch_evaluation():
    """train_agent_batch_with_evaluation() without eval_env, which means the same environments."""
    env = SerialVectorEnv([Walk(), Walk()])
    stored = evaluated(train_agent_batch_with_evaluation, dqn(), env, 20, 5)
    return crossings(stored) + sum(obs % 100 >= 3 for obs in stored.obs), 0


if __name__ == "__main__":
    answer_all()
