"""AgileRL: its DQN and RainbowDQN, its buffers, and its loop train_off_policy.

States are numbers. Most checks put a network in place whose output is readable: Q(s, a) = s + shift[a].
"""

import copy
import os
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
import torch
from agilerl.algorithms import DQN, RainbowDQN
from agilerl.components import MultiStepReplayBuffer, PrioritizedReplayBuffer, ReplayBuffer
from agilerl.modules.custom_components import NoisyLinear
from agilerl.modules.dummy import DummyEvolvable
from agilerl.training.train_off_policy import train_off_policy
from tensordict import TensorDict

from benchmark.peers.audit.rows import answer_all, not_applicable, row
from benchmark.peers.audit.stand_ins import Shift, Walk

torch.set_num_threads(1)
KEYS, ATOMS = ("obs", "action", "reward", "next_obs", "done"), torch.arange(-2.0, 3.0)
OBS, ACTIONS = gym.spaces.Box(-1e9, 1e9, (1,), np.float32), gym.spaces.Discrete(2)


class Logits(torch.nn.Module):
    """Logits of two actions and five atoms for each of five states (modulo 5): what RainbowDQN asks of its actor.

    `log_p`: instead of the logarithms of the probabilities in the loss, which is the sum of -m log p, these values by
    state. The loss is then m at atom i for -1 at i, and the mean of the target for minus the atoms.
    """

    log_p = None

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(5, 2, 5))

    def forward(self, obs, q=True, log=False):
        logits = self.logits[obs[:, 0].long() % 5]
        if log and self.log_p is not None:
            return self.log_p[obs[:, 0].long() % 5].unsqueeze(1) + 0 * logits
        if log:
            return logits.log_softmax(-1)
        return logits.softmax(-1) @ ATOMS if q else logits.softmax(-1)

    def reset_noise(self):
        pass


def dqn(online=(0.0, 0.0), target=(0.0, 0.0), **args):
    agent = DQN(OBS, ACTIONS, actor_network=DummyEvolvable("cpu", module_fn=Shift), gamma=0.9, **args)
    agent.actor.module.shift.data = torch.tensor(online)
    agent.actor_target.module.shift.data = torch.tensor(target)
    return agent


def rainbow(batch_size, gamma=0.9):
    """Five atoms: -2, -1, 0, 1, 2."""
    net, atoms = DummyEvolvable("cpu", module_fn=Logits), {"num_atoms": 5, "v_min": -2, "v_max": 2}
    return RainbowDQN(OBS, ACTIONS, actor_network=net, gamma=gamma, batch_size=batch_size, **atoms)


def own(**args):
    """RainbowDQN with the package's network: both heads' last layers are linear with noise."""
    return RainbowDQN(OBS, ACTIONS, **args)


def heads(net):
    """The last layers of the value and of the advantages."""
    layers = [[m for m in part.modules() if isinstance(m, NoisyLinear)][-1] for part in net.head_net.children()]
    return layers[0], layers[1]


def batch_of(obs, action=0.0, reward=0.0, next_obs=0.0, done=0.0, **more):
    """A batch of len(obs) transitions, each value the same for all or one for each."""
    n, columns = len(obs), dict(obs=obs, action=action, reward=reward, next_obs=next_obs, done=done, **more)
    full = {key: torch.as_tensor(value, dtype=torch.float32).expand(n).reshape(n, 1) for key, value in columns.items()}
    return TensorDict(full, [n])


def target(agent, batch):
    """What the loss of learn() compares: predictions, and targets."""
    seen, mse = SimpleNamespace(), agent.criterion
    agent.criterion = lambda q, y: setattr(seen, "q", q) or setattr(seen, "y", y) or mse(q, y)
    agent.learn(batch)
    return seen


def run(agent, envs, steps, memory=None, n_step_memory=None, cycle=None, **args):
    """train_off_policy without updates, unless the batches are smaller than the memory. Returns the stored rows."""
    memory = ReplayBuffer(1000) if memory is None else memory
    vec = envs[0] if len(envs) == 1 else gym.vector.SyncVectorEnv([lambda env=env: env for env in envs])
    args = {"verbose": False, "max_steps": steps, "evo_steps": cycle or steps, "eval_steps": 1} | args
    train_off_policy(vec, "walk", "DQN", [agent], memory, n_step_memory=n_step_memory, **args)
    return lists(memory if n_step_memory is None else n_step_memory)


def lists(memory):
    stored = memory.storage[: len(memory)]
    return SimpleNamespace(**{key: value.flatten().tolist() for key, value in stored.items()})


def windows(env, steps=8, cycle=None):
    """First state: return of all windows of three steps, from the loop."""
    stored = run(dqn(batch_size=999), [env], steps, n_step_memory=MultiStepReplayBuffer(100, 3, 0.9), cycle=cycle)
    return dict(zip(stored.obs, stored.reward, strict=True))


def prioritized(priorities, alpha=0.6):
    memory = PrioritizedReplayBuffer(len(priorities), alpha)
    memory.add(batch_of(list(range(len(priorities)))))
    memory.update_priorities(np.arange(len(priorities)), np.array(priorities))
    return memory


def chi_square(counts, due):
    due = np.array(due) / np.sum(due) * np.sum(counts)
    return float(((counts - due) ** 2 / due).sum())


@row(1)
def dueling_batch():
    """RainbowDQN: Q(1) alone, minus Q(1) in a batch with 5 and 9."""
    net = own().actor.eval()
    alone, batch = net(torch.tensor([[1.0]])), net(torch.tensor([[1.0], [5.0], [9.0]]))
    return (batch[0] - alone[0]).abs().max().item(), 0


@row(3)
@row(4)
def double():
    """Online, action 1 is best; the target network prefers action 0, at 1 + 0 over -5 + 0: 1 + 0.9 * (10 - 5)."""
    return target(dqn((0.0, 1.0), (0.0, -5.0)), batch_of([1.0], reward=1, next_obs=10)).y.item(), 1 + 0.9 * (10 - 5)


@row(4, "Rainbow")
def double_rainbow():
    """At state 1 action 1 is best, at 0 action 0. The target network's: action 1 is worth 2, action 0 -2."""
    agent = rainbow(5, 1.0)
    agent.actor.module.logits.data[1, 1, 4] = agent.actor.module.logits.data[0, 0, 4] = 30
    agent.actor_target.module.logits.data[1, :, :] = torch.tensor([[30.0, 0, 0, 0, 0], [0, 0, 0, 0, 30]])
    return projected(agent, next_obs=1.0), [0, 0, 0, 0, 1]


def projected(agent, **batch):
    """The projected target, atom by atom."""
    agent.actor.module.log_p = -torch.eye(5)
    batch = batch_of([0.0, 1, 2, 3, 4], **batch)
    return agent._dqn_loss(*(batch[key] for key in KEYS), agent.gamma).tolist()


@row(5)
def online_maximum():
    """double=False: Q(2) = 2 of the target network; the online network says 102."""
    agent = dqn((100.0, 100.0), (0.0, 0.0), double=False)
    return target(agent, batch_of([1.0], reward=1, next_obs=2)).y.item(), 1 + 0.9 * 2


@row(6)
def alias():
    """Tensors that the two networks of a DQN as it is made share."""
    agent = DQN(OBS, ACTIONS)
    places = [{each.data_ptr() for each in net.parameters()} for net in (agent.actor, agent.actor_target)]
    return len(places[0] & places[1]), 0


not_applicable("no interval: a soft update with each update", 7)


@row(8)
def target_gradient():
    """The gradient of the squared error of Q(1) = 1 and 1 + 0.9 * 2, without a part of the target's Q(2)."""
    agent = dqn()
    target(agent, batch_of([1.0], reward=1, next_obs=2))
    return agent.actor.module.shift.grad[0].item(), -2 * (1 + 0.9 * 2 - 1)


@row(9)
def truncation():
    """State 102 to 103 is truncated and pays 1: 1 + 0.9 * 103."""
    memory = ReplayBuffer(100)
    stored = run(dqn(batch_size=999), [Walk(truncated=True)], 3, memory)
    return target(dqn(), memory.storage[stored.obs.index(102)].unsqueeze(0)).y.item(), 1 + 0.9 * 103


@row(10)
def final_observation():
    """The third step of the first episode leads from 102 to 103, not to 200."""
    stored = run(dqn(batch_size=999), [Walk()], 6)
    return stored.next_obs[stored.obs.index(102)], 103


@row(11)
def false_row():
    """Two environments: no stored row begins at the end of an episode, 103."""
    stored = run(dqn(batch_size=999), [Walk(), Walk()], 12)
    return stored.obs.count(103), 0


@row(12)
def shapes():
    """Prediction and target of four transitions: the same shape."""
    seen = target(dqn(), batch_of([1.0, 2, 3, 4], reward=1, next_obs=2))
    return list(seen.q.shape), list(seen.y.shape)


@row(12, "Rainbow's weights")
def weighted_loss():
    """Losses log 5 (uniform) and 0 (sure of the right atom), weights 1 and 0.25: (log 5 * 1 + 0 * 0.25) / 2."""
    agent = rainbow(2)
    agent.actor.module.logits.data[1, :, 4] = 100
    return learn_weighted(agent, [1, 0.25])[0], np.log(5) * 1 / 2


@row(21)
def weights_used():
    """Priorities 3 and 1, α = β = 1: of a batch of 4 the first makes 3, its weight is 1/3: 3 * 1/3 to 1 * 1."""
    agent, memory = rainbow(4), PrioritizedReplayBuffer(2, alpha=1.0)
    memory.add(batch_of([0.0, 1], reward=2, done=1))
    memory.update_priorities(np.arange(2), np.array([3.0, 1.0]))
    agent.learn(memory.sample(4, beta=1.0), per=True)
    first, second = agent.actor.module.logits.grad.abs().amax((1, 2)).tolist()[:2]
    return first / second, 1


@row(74)
def weights():
    """Weights 1 and 0.25, equal errors: gradients in the ratio 4."""
    return rainbow_gradients([1.0, 0.25])[0] / rainbow_gradients([1.0, 0.25])[1], 1 / 0.25


@row(74, "all weights halved")
def half_weights():
    """Half the gradient."""
    return rainbow_gradients([0.5, 0.5])[0] / rainbow_gradients([1.0, 1.0])[0], 0.5


def learn_weighted(agent, weights):
    """Learns from states 0 and 1, which end with reward 2, with weights of the shape of sample()'s."""
    batch = batch_of([0.0, 1], reward=2, done=1, idxs=[0, 1])
    batch["weights"] = torch.tensor(weights).reshape(prioritized([1.0, 1.0]).sample(2)["weights"].shape)
    return agent.learn(batch, per=True)


def rainbow_gradients(weights):
    """How strongly learn() moves states 0 and 1, both with uniform probabilities."""
    agent = rainbow(2)
    learn_weighted(agent, weights)
    return agent.actor.module.logits.grad.abs().amax((1, 2)).tolist()[:2]


@row(13)
def clipping():
    """Squared error: the gradient at an error of 5 is five times the one at 1."""
    gradients = []
    for error in (5.0, 1.0):
        agent = dqn()
        target(agent, batch_of([0.0], reward=error, done=1))
        gradients.append(agent.actor.module.shift.grad[0].item())
    return gradients[0] / gradients[1], 5


@row(15)
def element_loss():
    """Before the weights come in, the loss of two transitions has shape (2,)."""
    batch = batch_of([0.0, 1], reward=2, done=1)
    return list(rainbow(2)._dqn_loss(*(batch[key] for key in KEYS), 0.9).shape), [2]


def epsilons(envs):
    """ε at each call of get_action in 40 steps, with eps_decay 0.9."""
    agent, seen = dqn(batch_size=999), []
    act = agent.get_action
    agent.get_action = lambda obs, epsilon=0.0, **args: seen.append(epsilon) or act(obs, epsilon, **args)
    run(agent, envs, 40, eps_decay=0.9, eps_end=0.01)
    return [each for each in seen if each]  # the evaluation plays with 0


@row(16)
def epsilon():
    """At steps 0 and 10 of 40: 1 and 0.9 ** 10."""
    seen = epsilons([Walk()])
    return [seen[0], seen[10]], [1, 0.9**10]


@row(16, "several environments")
def epsilon_of_many():
    """After 20 steps of the environments, four at a time: 0.9 ** 20 as with one."""
    return epsilons([Walk() for _ in range(4)])[5], 0.9**20


@row(17)
def first_and_last():
    """10,000 draws of one from a ring of 10 that holds 18 to 27: chi-square with 9 degrees stays below 27.9 (0.1%)."""
    torch.manual_seed(0)
    memory = ReplayBuffer(10)
    for number in range(28):
        memory.add(batch_of([number]))
    counts = np.bincount([int(memory.sample(1)["obs"].item()) - 18 for _ in range(10_000)], minlength=10)
    uneven = chi_square(counts, [1] * 10)
    return f"chi-square {uneven:.1f}, newest {counts[9]}", "below 27.9, newest 1000", uneven > 27.9


@row(18)
def reference():
    """The array of the observation is changed from 5 to 1000 after add()."""
    memory, array = ReplayBuffer(10), torch.tensor([5.0])
    memory.add(batch_of(array))
    array[:] = 1000
    return memory.storage["obs"][0].item(), 5


@row(18, "one environment that reuses its array")
def reference_loop():
    """The first three stored observations of the loop."""
    return run(dqn(batch_size=999), [Walk(reuse=True)], 3).obs, [100, 101, 102]


@row(19)
def ring():
    """25 transitions in a ring of 10, four at a time and one: 15 to 24 are there."""
    memory = ReplayBuffer(10)
    for first in range(0, 24, 4):
        memory.add(batch_of([first, first + 1, first + 2, first + 3]))
    memory.add(batch_of([24]))
    return sorted(lists(memory).obs), list(range(15, 25))


@row(20)
def leaf():
    """Uniform over five atoms: cross-entropy log 5 for an end with reward 2. The leaf: (log 5 + 1e-6) ** 0.6."""
    agent, memory = rainbow(1), PrioritizedReplayBuffer(1)
    memory.add(batch_of([0.0], reward=2, done=1))
    _, indices, priorities = agent.learn(memory.sample(1), per=True)
    memory.update_priorities(indices, priorities)
    return memory.sum_tree[0], (np.log(5) + 1e-6) ** 0.6


@row(22)
def beta():
    """β at the start, the middle and the end of 100 steps: 0.4, 0.7, 1."""
    agent, memory, seen = own(beta=0.4, batch_size=2, learn_step=1), PrioritizedReplayBuffer(200), []
    sample = memory.sample
    memory.sample = lambda size, *, beta: seen.append(beta) or sample(size, beta=beta)
    run(agent, [Walk()], 100, memory)
    return [seen[0], seen[len(seen) // 2], seen[-1]], [0.4 + 0.6 * 2 / 100, 0.4 + 0.6 * 51 / 100, 1]


@row(23)
def weighted_priority():
    """Weights 0.25 and 1, the same error: the new priorities are equal, log 5 + 1e-6."""
    batch = batch_of([0.0, 1], reward=2, done=1, idxs=[0, 1], weights=[0.25, 1])
    return rainbow(2).learn(batch, per=True)[2].tolist(), [np.log(5) + 1e-6] * 2


@row(24)
def overwritten():
    """Priorities 0.1 and 5; the next transition overwrites the first and gets 5 ** 0.6."""
    memory = prioritized([0.1, 5.0])
    memory.add(batch_of([9.0]))
    return memory.sum_tree[0], 5**0.6


@row(25)
def drift():
    """A million new priorities: the root minus the sum of the leaves, relative."""
    memory, random = prioritized([1.0] * 1000), np.random.default_rng(0)
    for _ in range(1000):
        memory.update_priorities(random.integers(1000, size=1000), random.random(1000))
    leaves = sum(memory.sum_tree[index] for index in range(1000))
    return abs(memory.sum_tree.sum() - leaves) / leaves, 0


@row(26)
def frequencies():
    """Priorities 1, 3, 2, 2 with α = 1, 8,000 draws of one: chi-square with 3 degrees stays below 16.3 (0.1%)."""
    torch.manual_seed(0)
    memory = prioritized([1.0, 3, 2, 2], alpha=1.0)
    counts = np.bincount([int(memory.sample(1)["idxs"].item()) for _ in range(8000)], minlength=4)
    uneven = chi_square(counts, [1, 3, 2, 2])
    return f"{' / '.join(map(str, counts))}, chi-square {uneven:.1f}", "1000 / 3000 / 2000 / 2000", uneven > 16.3


@row(28)
def last_reward():
    """Every step pays 1: the last one, which begins at 102 and ends the episode, is stored with 1."""
    stored = run(dqn(batch_size=999), [Walk()], 6)
    return stored.reward[stored.obs.index(102)], 1


@row(29)
def window_end():
    """γ = 0.9, each step pays 1, the episode ends at 103. The window of 101 has two steps, that of 102 one."""
    seen = windows(Walk())
    return [seen[101], seen[102]], [1 + 0.9, 1]


@row(29, "a truncated end")
def window_truncation():
    """The window of 101 ends at 103, too."""
    memory = MultiStepReplayBuffer(100, 3, 0.9)
    stored = run(dqn(batch_size=999), [Walk(truncated=True)], 8, n_step_memory=memory)
    return stored.next_obs[stored.obs.index(101)], 103


@row(29, "an environment beside another")
def window_neighbour():
    """The episodes of one environment last 2 steps, of the other 5: the window of 101 of the latter pays 2.71."""
    memory, long = MultiStepReplayBuffer(100, 3, 0.9), Walk(5)
    long.episode = 10
    stored = run(dqn(batch_size=999), [Walk(2), long], 16, n_step_memory=memory)
    return stored.reward[stored.obs.index(1100)], 1 + 0.9 + 0.81


@row(30)
def window_starts():
    """100, 101 and 102, the states of the first episode, begin windows."""
    return sorted(set(windows(Walk())) & {100, 101, 102}), [100, 101, 102]


@row(31)
def window_discount():
    """Truncated after two steps, n = 3: rewards 0 and Q = 1 everywhere are worth 0.9 ** 2 to the first state, 100."""
    agent, memory = rainbow(1), MultiStepReplayBuffer(100, 3, 0.9)
    agent.actor_target.module.logits.data[:, :, 3] = 30.0
    agent.actor.module.log_p = -ATOMS.expand(5, 5)
    stored = run(dqn(batch_size=999), [Walk(2, truncated=True, reward=0.0)], 8, n_step_memory=memory)
    first = memory.sample_from_indices(torch.tensor([stored.obs.index(100)]))
    one_step = batch_of([0.0], idxs=[0])  # only its idxs are used
    return agent.learn(one_step, n_experiences=first)[0], 0.9**2


@row(32)
def window_ring():
    """An episode without end, rewards 1, a buffer of 10 filled 2.5 times: every row pays 1 + 0.9 + 0.81, 3 steps on."""
    memory = MultiStepReplayBuffer(10, 3, 0.9)
    stored = run(dqn(batch_size=999), [Walk(999)], 27, n_step_memory=memory)
    steps = np.subtract(stored.next_obs, stored.obs).tolist()
    return [min(stored.reward), max(stored.reward), min(steps), max(steps)], [2.71, 2.71, 3, 3]


@row(33)
def projection():
    """γ = 1: rewards 0, 1 and 5 move the masses 0.1, 0.2, 0.4, 0.2, 0.1 by none, one and, to the edge, all atoms."""
    mass, seen = [0.1, 0.2, 0.4, 0.2, 0.1], []
    for reward in (0, 1, 5):
        agent = rainbow(5, 1.0)
        agent.actor_target.module.logits.data[:] = torch.tensor(mass).log()
        seen += projected(agent, reward=reward)
    return seen, [*mass, 0, 0.1, 0.2, 0.4, 0.3, 0, 0, 0, 0, 1]


@row(33, "the distribution of the package's network")
def mass_of_network():
    """The target network of 51 atoms is sure of one: the sum of its probabilities."""
    net = own().actor_target.eval()
    heads(net)[0].bias_mu.data[25] += 100
    return net(torch.zeros(1, 1), q=False)[0, 0].sum().item(), 1


@row(34)
def log_clamp():
    """All mass is at the last of five atoms, p = 2e-9 there: the gradient of its logit is p - 1."""
    agent = own(num_atoms=5, v_min=-2, v_max=2, batch_size=1)
    for each in [*agent.actor.parameters(), *agent.actor_target.parameters()]:
        each.data.zero_()
    bias = heads(agent.actor)[0].bias_mu
    bias.data[4] = np.log(4 * 2e-9)
    batch = batch_of([0.0], reward=2, done=1)
    agent._dqn_loss(*(batch[key] for key in KEYS), 0.9).sum().backward()
    return bias.grad[4].item(), -1


@row(35)
def rank():
    """The rank of the weights' noise of 6 outputs and 5 inputs."""
    return torch.linalg.matrix_rank(NoisyLinear(5, 6).weight_epsilon, rtol=1e-4).item(), 1


def trained(seed):
    """The weights after 60 steps of the loop with updates."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    agent = DQN(OBS, ACTIONS, batch_size=4, learn_step=1)
    run(agent, [Walk()], 60)
    return torch.cat([each.flatten() for each in agent.actor.parameters()])


@row(37)
def seeds():
    """torch.manual_seed: one seed twice gives equal weights, two seeds do not."""
    same, other = torch.equal(trained(1), trained(1)), torch.equal(trained(1), trained(2))
    return f"{same}, {other}", "True, False", not same or other


@row(38)
def seeded_resets():
    """Resets of the environment that get a seed, in 12 steps."""
    env = Walk()
    run(dqn(batch_size=999), [env], 12)
    return len([seed for seed in env.seeds if seed is not None]), 0


@row(43)
def window_begin():
    """The window of state 101 has the action of its first step: the actions taken, in turn, are 0, 1, 0, 1."""
    agent, memory, turn = dqn(batch_size=999), MultiStepReplayBuffer(100, 3, 0.9), iter([0, 1] * 20)
    agent.get_action = lambda *args, **kwargs: np.array([next(turn)])
    stored = run(agent, [Walk(99)], 8, n_step_memory=memory)
    return stored.action[:4], [0, 1, 0, 1]


not_applicable("only Rainbow, which is double", 45)


def sure(net, *masses):
    """Makes the network say these probabilities, one row an action, for every state."""
    for each in net.parameters():
        each.data.zero_()
    logits = torch.tensor(masses).log()
    value, advantage = heads(net)
    value.bias_mu.data[:] = logits.mean(0)
    advantage.bias_mu.data[:] = logits.flatten()


@row(46)
def by_mean():
    """Atoms -1, 0, 1. Action 0: 0.44, 0.01, 0.55, mean 0.11, most likely 1. Action 1: 0.01, 0.54, 0.45, mean 0.44."""
    agent = own(num_atoms=3, v_min=-1, v_max=1)
    sure(agent.actor, [0.44, 0.01, 0.55], [0.01, 0.54, 0.45])
    return agent.get_action(np.zeros((1, 1), np.float32)).item(), 1


not_applicable("no log of the clipped probability; the support is a flag", 47)


@row(48)
def dueling_atoms():
    """The mean of the logits over the actions is the value's: in V, atoms 0 and 1 differ by 0.7."""
    net = own(num_atoms=3, v_min=-1, v_max=1).actor
    sure(net, [0.2, 0.3, 0.5], [0.5, 0.3, 0.2])
    heads(net)[0].bias_mu.data[:] = torch.tensor([0.7, 0.0, 0.0])
    log_p = net(torch.zeros(1, 1), q=False, log=True)[0].mean(0)
    return (log_p[0] - log_p[1]).item(), 0.7


def record_q(agent, record):
    """Gives each output of the actor to `record`."""
    forward = agent.actor.forward

    def recorded(*args, **kwargs):
        output = forward(*args, **kwargs)
        record(output)
        return output

    agent.actor.forward = recorded


def noise(agent):
    """Of all noisy layers."""
    layers = [each for each in agent.modules() if isinstance(each, NoisyLinear)]
    return torch.cat([each.weight_epsilon.flatten() for each in layers])


@row(49)
def noise_before_updates():
    """Different noises in five actions of the loop before the first update."""
    agent, seen = own(batch_size=999), []
    act = agent.get_action
    agent.get_action = lambda obs, **args: seen.append(noise(agent.actor).sum().item()) or act(obs, **args)
    run(agent, [Walk()], 5)
    return len(set(seen[:5])), 5


@row(49, "at updates")
def noise_of_updates():
    """Different noises in five updates."""
    agent, seen = own(batch_size=1), []
    for _ in range(5):
        seen.append(noise(agent.actor).sum().item())
        agent.learn(batch_of([0.0]))
    return len(set(seen)), 5


@row(50, "first update")
def target_noise_at_first():
    """Values of noise, of all, that both networks share at the first update."""
    agent = own(batch_size=1)
    return (noise(agent.actor) == noise(agent.actor_target)).float().mean().item(), 0


@row(50, "later")
def target_noise():
    """The same after one update."""
    agent = own(batch_size=1)
    agent.learn(batch_of([0.0]))
    return (noise(agent.actor) == noise(agent.actor_target)).float().mean().item(), 0


@row(51)
def noise_switch():
    """Different Q-values of state 0 in five actions of training with a new noise each, and in five of an evaluation."""
    agent, seen = own(), {True: set(), False: set()}
    record_q(agent, lambda q: seen[training].add(q.sum().item()))
    for training in (True, False):
        for _ in range(5):
            agent.actor.reset_noise()
            agent.get_action(np.zeros((1, 1), np.float32), training=training)
    return [len(seen[True]), len(seen[False])], [5, 1]


@row(52)
def sigma():
    """24 inputs, 6 outputs, σ₀ 0.5: both 0.5 / sqrt(24)."""
    layer = NoisyLinear(24, 6)
    return [layer.weight_sigma[0, 0].item(), layer.bias_sigma[0].item()], [0.5 / 24**0.5] * 2


@row(52, "f(x)")
def noise_shape():
    """The mean of f(x) ** 2 in two million draws, to two decimals: sqrt(2 / π)."""
    torch.manual_seed(0)
    square = NoisyLinear(1, 2_000_000).bias_epsilon.square().mean().item()
    return round(square, 2), round((2 / np.pi) ** 0.5, 2)


@row(71)
def one_step():
    """Every episode is one step with reward 1: the rows that begin an episode are terminal and pay 1."""
    stored = run(dqn(batch_size=999), [Walk(1)], 8)
    begin = [i for i, obs in enumerate(stored.obs) if obs % 100 == 0]
    return [stored.reward[i] + stored.done[i] for i in begin], [1 + 1] * 4


@row(71, "three steps")
def one_step_window():
    """The window of the first episode pays 1."""
    return windows(Walk(1))[100], 1


@row(72)
def looking():
    """Two greedy actions of RainbowDQN: the change of its weights and of its Q-values."""
    agent, seen = own(), []
    before = copy.deepcopy(agent.actor.state_dict())
    record_q(agent, seen.append)
    for _ in range(2):
        agent.get_action(np.zeros((1, 1), np.float32), training=False)
    moved = max((value - before[key]).abs().max().item() for key, value in agent.actor.state_dict().items())
    return [moved, (seen[0] - seen[1]).abs().max().item()], [0, 0]


@row(73)
def seam():
    """Two cycles of 5 steps of one endless episode each, with an evaluation between: rows that do not go one on."""
    stored = run(dqn(batch_size=999), [Walk(99)], 10, cycle=5)
    return sum(b - a != 1 for a, b in zip(stored.obs, stored.next_obs, strict=True)), 0


@row(73, "three steps")
def seam_window():
    """The windows that lie in one cycle end three states on; others, which cross the seam, are due 0 times."""
    memory = MultiStepReplayBuffer(100, 3, 0.9)
    stored = run(dqn(batch_size=999), [Walk(99)], 10, n_step_memory=memory, cycle=5)
    return sum(b - a != 3 for a, b in zip(stored.obs, stored.next_obs, strict=True)), 0


@row(75)
def evaluations():
    """The first states of training, drawn by the environment: each of them once, whatever the evaluations drew."""
    env = Walk(2, chance=True)
    env.reset(seed=0)
    run(dqn(batch_size=999), [env], 24, cycle=6)
    return len(env.firsts) - len(set(env.firsts)), 0


if __name__ == "__main__":
    answer_all()
