"""autonomous-learning-library: its DQN, DDQN and C51, its buffers, noisy layers, presets and SingleEnvExperiment.

States are numbers. The networks' outputs are readable: Q(s, a) = s + shift[a], or logits that do not depend on s.
"""

import os
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
import torch
from all import nn
from all.agents import C51, DDQN, DQN, DQNTestAgent
from all.approximation import FixedTarget, QDist, QNetwork
from all.core import State
from all.environments import GymEnvironment
from all.experiments import SingleEnvExperiment
from all.logging import DummyLogger
from all.memory import ExperienceReplayBuffer, NStepReplayBuffer, PrioritizedReplayBuffer
from all.optim import LinearScheduler
from all.policies import GreedyPolicy
from all.presets import classic_control

from benchmark.peers.audit.rows import answer_all, row
from benchmark.peers.audit.stand_ins import Shift, Walk

torch.set_num_threads(1)


gym.register("Walk-v0", Walk, disable_env_checker=True)


class Logits(torch.nn.Module):
    """Logits of two actions and of atoms, the same for every state."""

    def __init__(self, atoms):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(2 * atoms))

    def forward(self, obs):
        return self.logits.expand(len(obs), -1)


class Quiet(SingleEnvExperiment):
    def _make_logger(self, *args):
        return DummyLogger()


def walk(*args, **kwargs):
    env = GymEnvironment("Walk-v0", **dict(zip(("length", "truncated"), args, strict=False)), **kwargs)
    return env, env.env.unwrapped


def value(net=None, every=1000):
    net = net or Shift()
    return QNetwork(net, torch.optim.SGD(net.parameters(), lr=1.0), target=FixedTarget(every))


def agent(kind=DQN, q=None, buffer=None, epsilon=0.0, discount=0.9, **args):
    """Learns only when it is told to, unless `replay_start_size` is given."""
    q, buffer = q or value(), ExperienceReplayBuffer(1000) if buffer is None else buffer
    args = {"replay_start_size": 10**6, "minibatch_size": 1, "discount_factor": discount} | args
    return kind(q, GreedyPolicy(q, 2, epsilon), buffer, **args)


def run(actor, env, episodes, tests=()):
    """SingleEnvExperiment.train() for each number of episodes, with a test of so many episodes after it."""
    tester = DQNTestAgent(GreedyPolicy(actor.q, 2, 0.0))
    preset = SimpleNamespace(name="", hyperparameters={}, agent=lambda **args: actor, test_agent=lambda: tester)
    experiment = Quiet(preset, env, quiet=True, save_freq=float("inf"))
    for call, more in enumerate(np.atleast_1d(episodes).tolist()):
        experiment.train(episodes=experiment.episode - 1 + more)
        if call < len(tests):
            experiment.test(tests[call])
    return rows(actor.replay_buffer)


def rows(buffer):
    """All rows that sampling can draw, oldest first unless the ring is full."""
    stored = list(buffer.buffer.buffer if isinstance(buffer, NStepReplayBuffer) else buffer.buffer)
    return SimpleNamespace(
        stored=stored,
        obs=[each[0].observation.item() for each in stored],
        action=[int(each[1]) for each in stored],
        next_obs=[each[2].observation.item() for each in stored],
        reward=[each[2].reward for each in stored],
        mask=[each[2].mask for each in stored],
    )


def crossings(stored):
    return sum(a // 100 != b // 100 for a, b in zip(stored.obs, stored.next_obs, strict=True))


def state(number, reward=0.0, terminated=False):
    return State.from_gym((np.float32([number]), reward, terminated, False, {}))


def step(first=1.0, reward=1.0, last=2.0, terminated=False, action=0):
    return state(first), torch.tensor(action), state(last, reward, terminated)


def fixed(*steps, weights=None):
    """A buffer whose draw is all its rows in turn, with these weights."""
    buffer = ExperienceReplayBuffer(len(steps))
    for each in steps:
        buffer.store(*each)
    weights = torch.ones(len(steps)) if weights is None else torch.tensor(weights)
    buffer.sample = lambda size: buffer._reshape(buffer.buffer, weights)
    return buffer


def learn(buffer, kind=DQN, online=(0.0, 0.0), target=(0.0, 0.0), discount=0.9, loss=None):
    """One update with all rows of `buffer`: targets, loss, and what it adds to shift, by SGD with a step size of 1."""
    q, seen = value(), SimpleNamespace()
    q.model.model.shift.data = torch.tensor(online)
    q._target._target.model.shift.data = torch.tensor(target)
    loss = loss or (torch.nn.functional.mse_loss if kind is DQN else nn.weighted_mse_loss)

    def watched(q, y, *weights):
        seen.y, seen.loss = y.tolist(), loss(q, y, *weights)
        return seen.loss

    actor = agent(kind, q, buffer, 0.0, discount, loss=watched, replay_start_size=0, minibatch_size=len(buffer))
    actor._train()
    seen.added = (q.model.model.shift.detach() - torch.tensor(online)).tolist()
    seen.target_grads, seen.loss = sum(p.grad is not None for p in q._target._target.parameters()), seen.loss.item()
    return seen


def prioritized(priorities, alpha=1.0, capacity=None, **args):
    """Rows 0, 1, ... with these priorities."""
    buffer = PrioritizedReplayBuffer(capacity or len(priorities), alpha=alpha, **args)
    for number in range(len(priorities)):
        buffer.store(*step(number))
    buffer._cache = list(range(len(priorities)))
    buffer.update_priorities(torch.tensor(priorities))
    return buffer


def chi_square(counts, due):
    due = np.array(due) / np.sum(due) * np.sum(counts)
    return float(((counts - due) ** 2 / due).sum())


@row(1)
def dueling_batch():
    """nn.Dueling: Q(1) alone, minus Q(1) in a batch with 5 and 9."""
    torch.manual_seed(0)
    net = nn.Dueling(nn.Linear(1, 1), nn.Linear(1, 2))
    return round((net(torch.tensor([[1.0], [5.0], [9.0]]))[0] - net(torch.ones(1, 1))[0]).abs().max().item(), 4), 0


@row(2)
def dueling_mean():
    """nn.Dueling: the mean of Q over the actions is V."""
    torch.manual_seed(0)
    net, one = nn.Dueling(nn.Linear(1, 1), nn.Linear(1, 2)), torch.ones(1, 1)
    return net(one).mean().item(), net.value_model(one).item()


@row(3)
@row(4)
def double():
    """DDQN. Online, action 1 is best; the target network prefers action 0: y = 1 + 0.9 * (2 + 5)."""
    return learn(fixed(step()), DDQN, (0.0, 1.0), (9.0, 5.0)).y[0], 1 + 0.9 * (2 + 5)


@row(5)
def online_maximum():
    """DQN: max Q(2) = 2 + 5 of the target network; the online network prefers action 1, at 100."""
    return learn(fixed(step()), DQN, (0.0, 98.0), (5.0, 3.0)).y[0], 1 + 0.9 * (2 + 5)


@row(6)
def alias():
    """FixedTarget: tensors that the two networks share."""
    q = value()
    places = [{each.data_ptr() for each in net.parameters()} for net in (q.model, q._target._target)]
    return len(places[0] & places[1]), 0


def syncs(every):
    """The preset dqn with target_update_frequency=10, which is documented as timesteps, and an update in `every`
    steps: timesteps between copies."""
    env, inner = walk(99)
    flags = {"target_update_frequency": 10, "update_frequency": every, "replay_start_size": 4, "minibatch_size": 2}
    preset = classic_control.dqn.env(env).device("cpu").hyperparameters(**flags).build()
    actor, steps = preset.agent(), []
    net = actor.q._target._target
    copy = net.load_state_dict
    net.load_state_dict = lambda weights: steps.append(inner.step_number) or copy(weights)
    run(actor, env, 1)
    return np.diff(steps).tolist()[:3], [10] * 3


@row(7, "update_frequency 1")
def sync():
    return syncs(1)


@row(7, "update_frequency 2")
def sync_with_fewer_updates():
    return syncs(2)


@row(8)
def target_gradient():
    """Gradients of the target network after an update."""
    return learn(fixed(step())).target_grads, 0


@row(9)
def truncation():
    """The step from 102 to 103 is truncated and pays 1: 1 + 0.9 * 103."""
    stored = run(agent(), walk(3, True)[0], 2)
    return learn(fixed(stored.stored[stored.obs.index(102)])).y[0], 1 + 0.9 * 103


@row(10)
def final_observation():
    """The last steps of two truncated episodes lead to 103 and 203."""
    stored = run(agent(), walk(3, True)[0], 2)
    return [stored.next_obs[stored.obs.index(number)] for number in (102, 202)], [103, 203]


@row(11)
def false_row():
    """The states that begin rows, in two episodes: 103, the final one, is not among them."""
    return run(agent(), walk()[0], 2).obs, [100, 101, 102, 200, 201, 202]


@row(12)
def shapes():
    """Two rows, Q(s) = s, y = 1 + 0.9 * (s + 1): errors 1.8 at 1 and 1.4 at 5, the mean of the squares."""
    return learn(fixed(step(), step(5.0, 1.0, 6.0))).loss, (1.8**2 + 1.4**2) / 2


@row(13)
def clipping():
    """weighted_smooth_l1_loss, for DDQN: what errors of 1 and of 5 add to the value."""
    ended = [fixed(step(0.0, reward, terminated=True)) for reward in (1.0, 5.0)]
    return [learn(each, DDQN, loss=nn.weighted_smooth_l1_loss).added[0] for each in ended], [1, 1]


@row(15)
@row(74)
def weight_ratio():
    """DDQN: what two rows with errors 1, of actions 0 and 1, add with the weights 1 and 0.25, then half of these."""
    two, seen = [step(0.0, 1.0, terminated=True, action=action) for action in (0, 1)], []
    for weights in ([1.0, 0.25], [0.5, 0.125]):
        seen += learn(fixed(*two, weights=weights), DDQN).added
    return seen, [1, 0.25, 0.5, 0.125]


@row(16)
def epsilon():
    """LinearScheduler from 1 to 0.1 in 40 steps, an update in four: ε of the actions after 0, 20, 40 and 50 steps."""
    return scheduled(99, (0, 20, 40, 50)), [1, 1 - 0.9 / 2, 0.1, 0.1]


@row(16, "episodes of one step")
def epsilon_of_short_episodes():
    """The same, after 20 steps."""
    return scheduled(1, (20,)), [1 - 0.9 / 2]


def scheduled(length, steps):
    env, inner = walk(length)
    seen, schedule = {}, LinearScheduler(1.0, 0.1, 0, 40)
    get = schedule._get_value
    schedule._get_value = lambda: seen.setdefault(len(inner.actions), get())
    run(agent(epsilon=schedule, replay_start_size=8, update_frequency=4), env, 60 // length + 1)
    return [seen[taken] for taken in steps]


@row(17)
def first_and_last():
    """10,000 draws of a ring of 10 that holds 18 to 27: chi-square with 9 degrees stays below 27.9 (0.1%)."""
    np.random.seed(0)
    buffer = ExperienceReplayBuffer(10)
    for number in range(28):
        buffer.store(*step(number))
    drawn = buffer.sample(10_000)[0].observation.flatten().int() - 18
    counts = np.bincount(drawn, minlength=10)
    uneven = chi_square(counts, [1] * 10)
    return f"chi-square {uneven:.1f}, newest {counts[9]}", "below 27.9, newest 1000", uneven > 27.9


@row(17, "prioritized")
def newest_prioritized():
    """4,000 draws of one, rows 0 to 3 in a buffer of 8 with priorities 1, 1, 1 and 5: the share of 3."""
    np.random.seed(0)
    buffer = prioritized([1.0, 1.0, 1.0, 5.0], capacity=8)
    seen = sum(buffer.sample(1)[0].observation.item() == 3 for _ in range(4000)) / 4000
    return seen, 5 / 8, abs(seen - 5 / 8) > 0.03


@row(18)
def reference():
    """The first three stored states of an environment that reuses its array."""
    return run(agent(), walk(9, reuse=True)[0], 1).obs[:3], [100, 101, 102]


@row(19)
def ring():
    """25 rows in a ring of 10: 15 to 24 are there."""
    buffer = ExperienceReplayBuffer(10)
    for number in range(25):
        buffer.store(*step(number))
    return sorted(rows(buffer).obs), list(range(15, 25))


def leaves(weights_of):
    """DDQN with errors of 0.5 and α = 0.6: the leaves of two rows that had these priorities."""
    buffer = PrioritizedReplayBuffer(2, alpha=0.6, beta=1.0)
    for _ in range(2):
        buffer.store(*step(0.0, 0.5, terminated=True))
    buffer._cache = [0, 1]
    buffer.update_priorities(torch.tensor(weights_of))
    buffer._sample_proportional = lambda size: [0, 1]
    learn(buffer, DDQN)
    return [buffer._it_sum[0], buffer._it_sum[1]]


@row(20)
def leaf():
    """(0.5 + 1e-5) ** 0.6."""
    return leaves([1.0, 1.0])[0], (0.5 + 1e-5) ** 0.6


@row(23)
def weighted_priority():
    """Weights that differ: both leaves are 0.5 ** 0.6."""
    return leaves([0.8, 0.2]), [0.5**0.6] * 2


@row(14)
@row(21)
def weights():
    """β = 1, p = 0.8 and 0.2, so the weights are 1/4 and 1. Errors 1: what DDQN adds to the values of both actions."""
    buffer = prioritized([0.8, 0.2], beta=1.0)
    buffer.buffer = [step(0.0, 1.0, terminated=True, action=action) for action in (0, 1)]
    buffer._sample_proportional = lambda size: [0, 1]
    return learn(buffer, DDQN).added, [1 / 4, 1]


@row(22)
def beta():
    """LinearScheduler from 0.4 to 1 in 10 draws: β of the draws 0, 5, 10 and 20."""
    schedule, seen = LinearScheduler(0.4, 1.0, 0, 10), []
    get = schedule._get_value
    schedule._get_value = lambda: seen.append(get()) or seen[-1]
    buffer = prioritized([1.0, 1.0], beta=schedule)
    for _ in range(21):
        buffer.sample(1)
    return [seen[draw] for draw in (0, 5, 10, 20)], [0.4, 0.7, 1, 1]


@row(24)
def overwritten():
    """Priorities 0.1 and 5; the next row overwrites the first and gets 5."""
    buffer = prioritized([0.1, 5.0])
    buffer.store(*step(9))
    return buffer._it_sum[0], 5


@row(25)
def drift():
    """20,000 new priorities between 1e-4 and 1e4: the root minus the sum of the leaves, relative."""
    buffer, generator = prioritized([1.0] * 64), np.random.default_rng(0)
    for _ in range(20_000):
        buffer._cache = [int(generator.integers(64))]
        buffer.update_priorities(torch.tensor([10 ** generator.uniform(-4, 4)], dtype=torch.float64))
    total = sum(buffer._it_sum[index] for index in range(64))
    return abs(buffer._it_sum.sum() - total) / total, 0


@row(26)
def frequencies():
    """8,000 draws with priorities 1, 3, 2, 2: chi-square with 3 degrees stays below 16.3 (0.1%)."""
    np.random.seed(0)
    buffer = prioritized([1.0, 3.0, 2.0, 2.0])
    counts = np.bincount([int(buffer.sample(1)[0].observation.item()) for _ in range(8000)], minlength=4)
    uneven = chi_square(counts, [1, 3, 2, 2])
    return " / ".join(map(str, counts)), "1000 / 3000 / 2000 / 2000", uneven > 16.3


@row(28)
def last_reward():
    """The rows from 102 and 202, which end episodes, pay 1 and are terminal."""
    stored = run(agent(), walk()[0], 2)
    ends = [stored.obs.index(number) for number in (102, 202)]
    return [stored.reward[i] + 1 - stored.mask[i] for i in ends], [1 + 1] * 2


def windows(truncated=False, length=3, episodes=1, capacity=1000):
    """Windows of three steps."""
    actor = agent(buffer=NStepReplayBuffer(3, 0.9, ExperienceReplayBuffer(capacity)))
    return run(actor, walk(length, truncated)[0], episodes)


@row(29)
def window_end():
    """Each step pays 1: the windows of 100, 101, 102 have three, two and one steps, whether terminated or truncated."""
    return windows().reward + windows(truncated=True).reward, [2.71, 1.9, 1, 2.71, 1.9, 1]


@row(30)
def window_starts():
    """All states of three truncated episodes begin a window."""
    return windows(True, episodes=3).obs, [100, 101, 102, 200, 201, 202, 300, 301, 302]


@row(31)
def window_discount():
    """Truncated at 103: y of 100, 101, 102 by Q(103) = 103, of an agent with γ ** 3 as the presets make it."""
    seen = [learn(fixed(each), discount=0.9**3).y[0] for each in windows(truncated=True).stored]
    return seen, [2.71 + 0.9**3 * 103, 1.9 + 0.9**2 * 103, 1 + 0.9 * 103]


@row(31, "terminated")
def window_discount_terminated():
    """Terminated at 103: the sums of the rewards."""
    seen = [learn(fixed(each), discount=0.9**3).y[0] for each in windows().stored]
    return seen, [2.71, 1.9, 1]


@row(32)
def window_ring():
    """An episode of 27 steps, a buffer of 10 filled 2.7 times: states 117 to 126, rewards 2.71 but for the last two."""
    stored = windows(length=27, capacity=10)
    found = sorted(zip(stored.obs, stored.reward, strict=True))
    due = [(117 + k, 2.71) for k in range(8)] + [(125, 1.9), (126, 1)]
    return [number for pair in found for number in pair], [number for pair in due for number in pair]


def atoms(low=-2.0, high=2.0, mass=None, online=None, count=5, discount=1.0, steps=()):
    """C51 whose networks have these probabilities for both actions in every state."""
    net = Logits(count)
    q = QDist(net, torch.optim.SGD(net.parameters(), lr=1.0), 2, count, low, high, target=FixedTarget(1000))
    for logits, probabilities in ((q._target._target.model.model.logits, mass), (net.logits, online)):
        if probabilities is not None:
            logits.data = torch.tensor(probabilities, dtype=torch.float32).clamp(1e-30).log().expand(2, -1).flatten()
    args = {"discount_factor": discount, "replay_start_size": 0, "minibatch_size": len(steps), "exploration": 0.0}
    return C51(q, fixed(*steps) if steps else ExperienceReplayBuffer(10), **args)


def projected(actor, reward, terminated=False):
    batch = fixed(step(0.0, reward, 1.0, terminated)).sample(1)
    return actor._compute_target_dist(batch[3], batch[2])[0].tolist()


@row(33)
def projection():
    """γ = 1: rewards 0, 1 and 5 move the masses 0.1, 0.2, 0.4, 0.2, 0.1 by none, one and, to the edge, all atoms."""
    mass = [0.1, 0.2, 0.4, 0.2, 0.1]
    seen = [number for reward in (0.0, 1.0, 5.0) for number in projected(atoms(mass=mass), reward)]
    return seen, [*mass, 0, 0.1, 0.2, 0.4, 0.3, 0, 0, 0, 0, 1]


@row(33, "at an edge")
def projection_at_an_edge():
    """γ = 0.9, reward 0.4, all mass on atom 2: the value 2.2 lies beyond the edge, so all mass is at 2."""
    seen = projected(atoms(mass=[0, 0, 0, 0, 1], discount=0.9), 0.4)
    return [round(each, 4) for each in seen], [0, 0, 0, 0, 1]


@row(34)
def log_clamp():
    """Online p = 2e-9 at the last atom; the target is there, half a step inside: the loss's gradient by its logit."""
    actor = atoms(mass=[0, 0, 0, 1, 0], online=[0.25, 0.25, 0.25, 0.25, 2e-9], steps=[step(0.0, 0.5, 1.0)])
    before = actor.q_dist.model.model.model.logits.detach().clone()
    actor._train()
    return (before - actor.q_dist.model.model.model.logits.detach())[4].item(), -0.5


@row(35)
def rank():
    """NoisyFactorizedLinear: the rank of the weights' noise of 6 outputs and 5 inputs: the outputs at unit vectors."""
    layer = nn.NoisyFactorizedLinear(5, 6)
    for each in (layer.weight, layer.bias, layer.sigma_bias):
        each.data.zero_()
    return torch.linalg.matrix_rank(layer(torch.eye(5)), rtol=1e-4).item(), 1


def made(seed):
    """The preset dqn: the weights after 20 episodes with updates, and the actions."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    env, inner = walk()
    preset = classic_control.dqn.env(env).device("cpu").hyperparameters(replay_start_size=8, minibatch_size=4).build()
    run(preset.agent(), env, 20)
    return [*inner.actions, *torch.cat([each.flatten() for each in preset.model.parameters()]).tolist()]


@row(37)
def seeds():
    """Seeds of NumPy and PyTorch, set by the user: one twice gives equal weights and actions, two do not."""
    same, other = made(1) == made(1), made(1) == made(2)
    return f"{same}, {other}", "True, False", not same or other


@row(38)
def seeded_resets():
    """Different first states, which the environment draws, in ten episodes."""
    env, inner = walk(chance=True)
    run(agent(), env, 10)
    return len(set(inner.firsts)), 10


@row(43)
def window_begin():
    """The actions of the windows are those that the environment got at their first steps."""
    np.random.seed(0)
    env, inner = walk(12)
    actor = agent(buffer=NStepReplayBuffer(3, 0.9, ExperienceReplayBuffer(100)), epsilon=1.0)
    return run(actor, env, 1).action, inner.actions


@row(45)
def double_c51():
    """C51. The target network is sure of 1 for action 0 and of -1 for action 1; online, action 1 is best: 0.9 * 1."""
    actor = atoms(discount=0.9)
    for net, best in ((actor.q_dist._target._target, 0), (actor.q_dist.model, 1)):
        net.model.model.logits.data = torch.full((2, 5), -30.0)
        net.model.model.logits.data[best, 3] = net.model.model.logits.data[1 - best, 1] = 30
        net.model.model.logits.data = net.model.model.logits.data.flatten()
    return float(np.dot(projected(actor, 0.0), [-2, -1, 0, 1, 2])), 0.9 * 1


@row(46)
def by_mean():
    """Atoms -2 to 2. Action 0: 0.445 at -2, 0.555 at 2, mean 0.22. Action 1: 0.54 at 0, 0.46 at 1, mean 0.46."""
    actor = atoms()
    net = actor.q_dist.model.model.model
    net.logits.data = torch.tensor([0.445, 0, 0, 0, 0.555, 0, 0, 0.54, 0.46, 0]).clamp(1e-30).log()
    return actor.eval(state(1)), 1


@row(47, "a terminal step")
def terminal_value():
    """Atoms -10, 0, 10 and the reward 2 at an end: the mean of the target is 2."""
    seen = projected(atoms(-10.0, 10.0, count=3, discount=0.9), 2.0, terminated=True)
    return float(np.dot(seen, [-10, 0, 10])), 2


@row(47, "a terminal step, the middle of the support is not 0")
def terminal_value_of_shifted_atoms():
    """The same of the atoms 0, 10, 20. (2 + 0.9 * 10, if the next state counted as worth 10.)"""
    seen = projected(atoms(0.0, 20.0, count=3, discount=0.9), 2.0, terminated=True)
    return float(np.dot(seen, [0, 10, 20])), 2


@row(48)
def dueling_atoms():
    """nn.CategoricalDueling: the mean of the logits over two actions, minus those of the value."""
    torch.manual_seed(0)
    net, one = nn.CategoricalDueling(nn.Linear(1, 4), nn.Linear(1, 8)), torch.ones(1, 1)
    mean = net(one).reshape(2, 4).mean(0)
    return round((mean - net.value_model(one)[0]).abs().max().item(), 4), 0


def looks(act, q):
    """Different outputs of the network in five looks at one state."""
    seen = set()
    q.model.register_forward_hook(lambda net, inputs, out: seen.add(out.flatten()[0].item()))
    for _ in range(5):
        act(state(1.0))
    return len(seen)


def rainbow():
    torch.manual_seed(0)
    builder = classic_control.rainbow.env(walk()[0]).device("cpu")
    return builder.hyperparameters(initial_exploration=0.0, test_exploration=0.0, replay_start_size=0).build()


@row(49)
@row(51, "while acting")
def noise_is_drawn_anew():
    """The preset rainbow: different outputs of one state in five actions before the first update."""
    actor = rainbow().agent(train_steps=100)
    actor._should_train = lambda: False
    return looks(actor.act, actor.q_dist), 5


@row(50)
def noise_of_target():
    """The same of the target network, which has its own noise."""
    q = rainbow().agent(train_steps=100).q_dist
    seen = {q.target(State.array([state(1.0)])).flatten()[0].item() for _ in range(5)}
    return len(seen), 5


@row(51, "agent.eval()")
def evaluation_has_no_noise():
    """Different outputs of one state in five greedy actions."""
    actor = rainbow().agent(train_steps=100)
    return looks(actor.eval, actor.q_dist), 1


@row(51, "the preset's test agent")
@row(72, "the test agent of rainbow")
def test_agent_has_no_noise():
    """The same of preset.test_agent(), which SingleEnvExperiment.test() plays with."""
    actor = rainbow().test_agent()
    return looks(actor.act, actor.q_dist), 1


@row(52)
def first_sigma():
    """16 inputs, 4 outputs, σ₀ = 0.5: σ of weights and biases 0.5 / sqrt(16)."""
    layer = nn.NoisyFactorizedLinear(16, 4, sigma_init=0.5)
    return [layer.sigma_weight[0, 0].item(), layer.sigma_bias[0].item()], [0.5 / 4] * 2


@row(52, "f(x)")
def noise_shape():
    """The mean of f(x) ** 2 in two million draws, to two decimals: sqrt(2 / π). The biases' noise, with σ = 1."""
    torch.manual_seed(0)
    layer = nn.NoisyFactorizedLinear(1, 2_000_000)
    for each, number in ((layer.weight, 0), (layer.bias, 0), (layer.sigma_weight, 0), (layer.sigma_bias, 1)):
        each.data.fill_(number)
    return round(layer(torch.ones(1, 1)).square().mean().item(), 2), round((2 / np.pi) ** 0.5, 2)


def with_tests(tests):
    """The environment after two calls of train(), of 20 episodes each, with so many episodes of test() between."""
    np.random.seed(1)
    env, inner = walk(chance=True)
    env.reset(seed=0)
    run(agent(epsilon=1.0), env, [20, 20], tests)
    return inner


@row(63)
def evaluation_draws():
    """Actions of two runs with the same seed, with a test after 20 of 40 episodes and without, that differ."""
    often, never = with_tests([5]).actions, with_tests([]).actions
    return sum(a != b for a, b in zip(often[:60] + often[75:], never, strict=True)), 0


@row(71)
def one_step():
    """Six episodes of one step with reward 1: six rows, all terminal, of one step and of three."""
    seen = []
    for stored in (run(agent(), walk(1)[0], 6), windows(length=1, episodes=6)):
        seen += [len(stored.obs), stored.mask.count(0.0), sum(stored.reward)]
    return seen, [6, 6, 6, 6, 6, 6]


@row(72)
def looking():
    """DQN's agent.eval(): different outputs in five looks."""
    q = value(torch.nn.Linear(1, 2))
    return looks(agent(q=q).eval, q), 1


@row(73)
def seam():
    """Two calls of train() and a test between: rows, and windows of three steps, that cross to another episode."""
    stored = run(agent(), walk()[0], [2, 2], [1])
    several = agent(buffer=NStepReplayBuffer(3, 0.9, ExperienceReplayBuffer(100)))
    return [crossings(stored), crossings(run(several, walk()[0], [2, 2], [1]))], [0, 0]


@row(75)
def evaluations_do_not_rewind():
    """First states of training and test, drawn by the environment: each of them once."""
    firsts = with_tests([5]).firsts
    return len(firsts) - len(set(firsts)), 0


if __name__ == "__main__":
    answer_all()
