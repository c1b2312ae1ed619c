"""Asks MushroomRL (DQN, DoubleDQN, DuelingDQN, NoisyDQN, CategoricalDQN, Rainbow, their replay memories, Core)."""

from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from mushroom_rl.algorithms.value import DQN, CategoricalDQN, DoubleDQN, DuelingDQN, NoisyDQN, Rainbow
from mushroom_rl.algorithms.value.dqn.noisy_dqn import NoisyNetwork
from mushroom_rl.approximators.parametric import TorchApproximator
from mushroom_rl.core import Core, Environment, MDPInfo
from mushroom_rl.policy import EpsGreedy
from mushroom_rl.utils.parameters import LinearParameter, Parameter
from mushroom_rl.utils.replay_memory import PrioritizedReplayMemory, ReplayMemory
from mushroom_rl.utils.spaces import Box, Discrete

from benchmark.peers.audit.rows import answer_all, not_applicable, row

torch.set_num_threads(1)
torch.manual_seed(0)
np.random.seed(0)


class Numbered(Environment):
    """Observation 100 * episode + t, from one array that is changed in place; episodes of `length` steps of reward 1:
    odd ones are terminated, even ones reach the horizon. `constant`: the observation is always 1."""

    def __init__(self, length=3, actions=2, constant=False):
        self.length, self.constant, self.episode, self.number = length, constant, 0, np.ones(1, np.float32)
        self.taken = []
        super().__init__(MDPInfo(Box(-1e6, 1e6, (1,)), Discrete(actions), 0.9, length))

    def reset(self, state=None):
        self.episode, self.t = self.episode + 1, 0
        self.number[0] = 1 if self.constant else 100 * self.episode
        return self.number

    def step(self, action):
        self.t += 1
        self.number[0] += not self.constant
        self.taken.append(int(action[0]))
        return self.number, 1.0, self.t == self.length and self.episode % 2 == 1, {}


class Net(torch.nn.Module):
    """Q(s, ·) = weight * s + bias, at first 0."""

    def __init__(self, input_shape, output_shape, **kwargs):
        super().__init__()
        self.layer = torch.nn.Linear(input_shape[0], output_shape[0])
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, state, action=None):
        q = self.layer(torch.atleast_2d(state).float())
        return q if action is None else torch.squeeze(q.gather(1, action.long()))


class State(torch.nn.Module):
    """The features of the other networks: the state itself."""

    def __init__(self, input_shape, output_shape, **kwargs):
        super().__init__()

    def forward(self, state):
        return torch.atleast_2d(state).float()


def agent_of(kind=DQN, env=None, epsilon=0.0, network=Net, loss=F.mse_loss, lr=0.1, rule=None, **arguments):
    env = env or Numbered()
    actions = env.info.action_space.n
    params = {"network": network, "n_features": 1, "input_shape": (1,), "output_shape": (actions,)}
    params |= {"n_actions": actions, "optimizer": {"class": torch.optim.SGD, "params": {"lr": lr}}}
    params |= {} if kind in (CategoricalDQN, Rainbow) else {"loss": loss}
    first = [TorchApproximator] if kind in (DQN, DoubleDQN) else []
    arguments = {"batch_size": 4, "target_update_frequency": 10**6, "initial_replay_size": 0} | arguments
    arguments = {"max_replay_size": 100, "approximator_params": params} | arguments
    return kind(env.info, EpsGreedy(rule or Parameter(epsilon)), *first, **arguments)


def setup(approximator, weight, bias):
    approximator.set_weights(np.array([*weight, *bias], np.float32))


def steps(rewards=(1.0,) * 8, absorbing=False):
    """Steps from state 1 to state 2 by action 0, as Core gives them."""
    one, two = np.ones(1, np.float32), np.full(1, 2, np.float32)
    return [(one, np.array([0]), reward, two, absorbing, absorbing) for reward in rewards]


def learn(kind=DQN, online=((0, 0), (0, 0)), target=((1, 0.5), (0, 0)), rewards=(1.0,) * 8, absorbing=False):
    """One fit. Returns the first y, prediction and target as the loss gets them, and the agent."""
    seen = []

    def loss(y_hat, y, **kwargs):
        seen.extend((y_hat, y))
        return F.mse_loss(y_hat, y, **kwargs)

    agent = agent_of(kind, loss=loss)
    setup(agent.approximator, *online)
    setup(agent.target_approximator, *target)
    agent.fit(steps(rewards, absorbing))
    return seen[1][0].item(), seen, agent


def played(kind=DQN, env=None, runs=(24,), evaluate=0, per_fit=4, **arguments):
    """The agent after calls of learn(), which only fill its memory; between them an evaluation of some steps."""
    env = env or Numbered()
    agent = agent_of(kind, env, initial_replay_size=10**6, **arguments)
    core = Core(agent, env)
    for k, number in enumerate(runs):
        core.learn(n_steps=number, n_steps_per_fit=per_fit, quiet=True)
        if evaluate and k + 1 < len(runs):
            core.evaluate(n_steps=evaluate, quiet=True)
    return agent


def column(agent, name):
    memory = agent._replay_memory
    return np.array(getattr(memory, f"_{name}")[: memory.size], float).ravel().tolist()


@row(1)
def dueling_over_actions():
    """Q of one state alone, and in a batch with another one."""
    q = agent_of(DuelingDQN, network=State).approximator
    return q.predict(np.array([[1.0]]))[0].tolist(), q.predict(np.array([[1.0], [5.0]]))[0].tolist()


@row(3)
@row(4)
def double():
    """In s' the online network prefers action 0, worth 5 to the target network, whose own choice is worth 9; at s it
    prefers action 1."""
    return learn(DoubleDQN, ((1, -1), (-1.5, 1.5)), ((0, 0), (5, 9)))[0], 1 + 0.9 * 5


@row(5)
def maximum_of_the_target_network():
    """max Q_target(2, ·) = 2; the online network's values are 100 higher."""
    return learn(online=((1, 0.5), (100, 100)))[0], 1 + 0.9 * 2


@row(6)
def target_is_another_object():
    """The target's weights after a fit of the online ones."""
    return learn()[2].target_approximator.get_weights().tolist(), [1, 0.5, 0, 0]


@row(7, "n_steps_per_fit above 1")
def target_updates():
    """target_update_frequency=8, by its documentation in samples, and a fit each 4 samples: the samples after which
    the target moved, of 40."""
    env, moved = Numbered(), []
    agent = agent_of(env=env, target_update_frequency=8, lr=1e-7)
    last = [agent.target_approximator.get_weights()]

    def watch(dataset):
        now = agent.target_approximator.get_weights()
        moved.extend([len(env.taken)] if (now != last[0]).any() else [])
        last[0] = now

    Core(agent, env, callbacks_fit=[watch]).learn(n_steps=40, n_steps_per_fit=4, quiet=True)
    return moved, [8, 16, 24, 32, 40]


@row(8)
def no_gradient_through_the_target():
    """The target network's gradients after a fit."""
    network = learn()[2].target_approximator.model.network
    return sum(p.grad is not None for p in network.parameters()), 0


@row(9)
def truncation():
    """`absorbing` of the last steps of episodes of 3 steps, in turns terminated and ended by the horizon."""
    stored = column(played(), "absorbing")
    return [stored[2], stored[5]], [1, 0]


@row(9, "the target")
def target_of_an_end():
    """y of a step to state 2 with max Q = 2 that is not absorbing, and of one that is."""
    return [learn(absorbing=ends)[0] for ends in (False, True)], [1 + 0.9 * 2, 1]


@row(10)
def final_observation():
    """next_state of the last steps of episodes 1 and 2, of an array that changes in place."""
    stored = column(played(), "next_states")
    return [stored[2], stored[5]], [103, 203]


@row(11)
@row(73)
def no_row_over_a_reset():
    """learn(), an evaluation in the same environment, learn(): next_state - state of the rows."""
    agent = played(runs=(12, 12), evaluate=4)
    return (np.array(column(agent, "next_states")) - column(agent, "states")).tolist(), [1] * 24


@row(12)
def shapes():
    """The shapes of prediction and target of a batch of 4."""
    return [len(y.shape) for y in learn()[1]] + [len(y) for y in learn()[1]], [1, 1, 4, 4]


@row(13)
def large_errors_have_a_gradient():
    """The gradient by the bias of the squared error, -2δ, at δ = 1 and δ = 5, without clip_reward."""
    found = []
    for reward in (1.0, 5.0):
        agent = learn(rewards=(reward,) * 8, absorbing=True)[2]
        found.append(agent.approximator.model.network.layer.bias.grad[0].item())
    return found, [-2 * 1, -2 * 5]


@row(16)
def epsilon():
    """LinearParameter from 1 to 0.1 in 1,000 actions: after 100, 500, 1,000 and 2,000 actions of one agent."""
    rule, env = LinearParameter(1.0, threshold_value=0.1, n=1000), Numbered()
    core, found = Core(agent_of(env=env, rule=rule, initial_replay_size=10**6), env), []
    for number in (100, 400, 500, 1000):
        core.learn(n_steps=number, n_steps_per_fit=100, quiet=True)
        found.append(float(np.ravel(rule.get_value())[0]))
    return found, [0.91, 0.55, 0.1, 0.1]


def filled(rows=10, size=10):
    """Row k leads from k to k + 1, pays 1 and is no end."""
    memory = ReplayMemory(0, size)
    memory.add([(np.array([k]), np.array([0]), 1.0, np.array([k + 1]), False, False) for k in range(rows)])
    return memory


def prioritized(priorities, alpha=1.0, beta=0.5, **arguments):
    """Row k leads from k to k + 1, pays 1, is no end, and has this |δ|, beside ε = 0."""
    memory, size = PrioritizedReplayMemory(0, len(priorities), alpha, beta, 0.0), len(priorities)
    rows = [(np.array([k]), np.array([0]), 1.0, np.array([k + 1]), False, False) for k in range(size)]
    memory.add(rows, np.ones(size))
    memory.update(np.array(priorities, float), np.arange(size) + size - 1)
    return memory


def shares(memory, rows, batches=800):
    drawn = np.concatenate([memory.get(10)[0].ravel() for _ in range(batches)])
    return [float(np.mean(drawn == k)) for k in rows]


@row(17)
def first_and_last_are_drawn():
    """How often the oldest and the newest of ten are in 8,000 draws."""
    share = shares(filled(), (0, 9))
    return share, [0.1, 0.1], not np.allclose(share, 0.1, atol=0.02)


@row(17, "prioritized")
def first_and_last_are_drawn_by_priority():
    """Priorities 1 to 10 of 55."""
    share, due = shares(prioritized(range(1, 11)), (0, 9)), [1 / 55, 10 / 55]
    return share, due, min(share) == 0


@row(18)
def training_copies():
    """The first states of an environment that changes one array in place."""
    return column(played(), "states")[:3], [100, 101, 102]


@row(18, "ReplayMemory.add without Core")
def the_memory_copies():
    memory, state = ReplayMemory(0, 2), np.array([3.0])
    memory.add([(state, np.array([0]), 1.0, state, False, False)])
    state[:] = 9
    return [memory._states[0][0], memory._next_states[0][0]], [3, 3]


@row(19)
def ring():
    return sorted(float(state[0]) for state in filled(25)._states), list(range(15, 25))


@row(20)
def priority():
    """|δ| = 4, α = 0.5, ε = 0.01."""
    memory = PrioritizedReplayMemory(0, 2, 0.5, 0.5, 0.01)
    memory.add(steps((1.0, 1.0)), np.ones(2))
    memory.update(np.array([-4.0]), [1])
    return float(memory._tree._tree[1]), (4 + 0.01) ** 0.5


def gradient(weights):
    """By the two biases, of two rows with y = 1 and Q = 0, one for each action."""
    agent = agent_of()
    states, actions = np.zeros((2, 1), np.float32), np.array([[0], [1]])
    agent.approximator.fit(states, actions, np.ones(2, np.float32), weights=np.array(weights))
    return agent.approximator.model.network.layer.bias.grad.tolist()


@row(21)
def weights_are_used():
    """The ratio of the gradients of two rows with weights 1 and 1/4."""
    first, second = gradient([1.0, 0.25])
    return first / second, 4


@row(74, "the loss")
def halved_weights_halve_the_step():
    """The gradient with both weights 1/2 against that with both 1."""
    return gradient([0.5, 0.5])[0] / gradient([1.0, 1.0])[0], 0.5


@row(74, "the weights")
def weights_fall_with_the_priority():
    """The memory's weights of priorities 1 and 9 of four (1, 9, 1, 1) with β = 0.5: 1 and (1 / 9)^0.5."""
    batch = prioritized([1, 9, 1, 1]).get(100)
    found = dict(zip(batch[0].ravel().tolist(), batch[7].tolist(), strict=True))
    return [max(found.get(k, 0) for k in (0, 2, 3)), found[1]], [1, (1 / 9) ** 0.5]


@row(22)
def beta():
    """LinearParameter from 0.4 to 1 in 1,000 draws, as the rate at which the weight of priority 9 falls: after 500,
    1,000 and 2,000 draws, from priorities 1 and 9."""
    memory = prioritized([1, 9], beta=LinearParameter(0.4, threshold_value=1, n=1000))
    found = [-np.log(memory.get(20)[7].min()) / np.log(9) for _ in range(2000)]
    return [float(found[k - 1]) for k in (500, 1000, 2000)], [0.7, 1, 1]


@row(23)
def weights_are_not_in_the_priority():
    """The priorities after a fit with β = 1 of rows with y = 1, 4 and Q = 0 (α = 1, ε = 0): leaves of 1 and 4."""
    agent = agent_of(replay_memory=PrioritizedReplayMemory(0, 8, 1.0, 1.0, 0.0), batch_size=64)
    agent.fit(steps((1.0, 4.0) * 4, absorbing=True))
    return sorted(agent._replay_memory._tree._tree[-8:].tolist()), [1] * 4 + [4] * 4


@row(24)
def new_rows_have_the_largest_priority():
    """After |δ| = 4 anywhere, the row that overwrites another one has it."""
    memory = prioritized([0.5, 4, 0.5, 0.5])
    memory.add(steps((1.0,)), np.ones(1) * memory.max_priority)
    return float(memory._tree._tree[3]), 4


@row(25)
def the_tree_does_not_drift():
    """The root against the sum of 64 leaves after 20,000 updates."""
    memory, rng = prioritized(np.ones(64)), np.random.default_rng(0)
    for _ in range(313):
        memory.update(10.0 ** rng.uniform(-4, 4, 64), np.arange(64) + 63)
    return float(memory._tree.total_p), float(memory._tree._tree[63:].sum())


@row(26)
def draws_follow_the_priorities():
    """Priorities 1, 3, 2, 2."""
    share, due = shares(prioritized([1, 3, 2, 2]), range(4), 4000), [1 / 8, 3 / 8, 2 / 8, 2 / 8]
    return share, due, not np.allclose(share, due, atol=0.02)


@row(28)
def terminal_steps_are_stored():
    """Ends among the first 12 rows of episodes of 3 steps, of which every second one is absorbing."""
    return np.flatnonzero(column(played(), "absorbing")[:12]).tolist(), [2, 8]


def windows(length=5, number=40, **fit):
    """Rainbow's memory, n = 3, after some steps of episodes of `length`: first states, returns, last states."""
    env = Numbered(length)
    more = {"n_atoms": 3, "v_min": 0.0, "v_max": 20.0, "n_steps_return": 3, "alpha_coeff": 1.0, "beta": Parameter(1.0)}
    agent = agent_of(Rainbow, env, network=State, initial_replay_size=10**6, **more)
    Core(agent, env).learn(n_steps=number, quiet=True, **fit)
    data = agent._replay_memory._tree._data[: agent._replay_memory._tree.size]
    return [[float(np.ravel(each[k])[0]) for each in data] for k in (0, 2, 3)]


@row(29)
def windows_end_with_their_episode():
    """Fits of two whole episodes: the distinct returns of the windows, and the steps that they span."""
    first, returns, last = windows(n_episodes_per_fit=2)
    return [*sorted(set(returns)), *sorted(set(np.array(last) - first))], [1 + 0.9 + 0.81, 3]


@row(43)
def windows_begin_with_their_state():
    """Fits of two whole episodes of 5 steps: the first three windows."""
    return windows(n_episodes_per_fit=2)[0][:3], [100, 101, 102]


@row(30, "a fit after two episodes")
def every_step_begins_a_window():
    """Windows that begin in 40 steps."""
    return len(windows(n_episodes_per_fit=2)[0]), 40


@row(30, "a fit each 4 steps")
def every_step_begins_a_window_of_fits():
    return len(windows(n_steps_per_fit=4)[0]), 40


@row(30, "a fit each step")
def every_step_begins_a_window_of_single_fits():
    return len(windows(n_steps_per_fit=1)[0]), 40


not_applicable("short windows are not stored", 31)


@row(32)
def windows_in_a_full_ring():
    """A ring of 10 after 27 steps without an end, n = 3: the returns and starts of its windows."""
    memory = ReplayMemory(0, 10)
    rows = [(np.array([k]), np.array([0]), 1.0, np.array([k + 1]), False, False) for k in range(27)]
    memory.add(rows, n_steps_return=3, gamma=0.9)
    starts = sorted(float(state[0]) for state in memory._states)
    return [*sorted(set(memory._rewards)), *starts], [1 + 0.9 + 0.81, *range(15, 25)]


def categorical(next_logits, online=((0, 0, 0), (0, 0, 0)), reward=0.0, absorbing=False):
    """A fit of CategoricalDQN with the atoms 0, 10, 20. Returns the projected target, and the agent."""
    agent = agent_of(CategoricalDQN, network=State, n_atoms=3, v_min=0.0, v_max=20.0)
    for approximator, given in ((agent.approximator, online), (agent.target_approximator, next_logits)):
        for layer, values in zip(approximator.model.network._p, given, strict=True):
            layer.weight.data.zero_()
            layer.bias.data.copy_(torch.tensor(values))
    fit = agent.approximator.fit
    with mock.patch.object(agent.approximator, "fit", side_effect=fit) as seen:
        agent.fit(steps((reward,) * 8, absorbing))
    return seen.call_args.args[2][0], agent


def logits(*p):
    return tuple(np.log(p).tolist())


@row(33)
def projection():
    """p' = 0.25, 0.25, 0.5 on 0, 10, 20. r = 0: on 0, 9, 18 the sums are 0.25 + 0.025, 0.225 + 0.1, 0.4. r = 10 at an
    end: all on the atom 10."""
    target = (logits(0.25, 0.25, 0.5),) * 2
    found = categorical(target)[0].tolist() + categorical(target, reward=10.0, absorbing=True)[0].tolist()
    return found, [0.275, 0.325, 0.4, 0, 1, 0]


@row(34)
def gradient_of_a_tiny_probability():
    """Logits 0 and 20: the first atom has 2e-9 and all of the target: the gradient is p - 1."""
    _, agent = categorical(((0.0, 0.0, 0.0),) * 2, ((0.0, 20.0, 0.0), (0.0, 0.0, 0.0)), absorbing=True)
    return agent.approximator.model.network._p[0].bias.grad[0].item(), -1


@row(45)
@row(46)
def next_action_of_c51():
    """Action 0 has 20 with 0.4, mean 8, for the target network, action 1 has 10 with 0.7, mean 7; the online network
    prefers action 1. The target's mean is 0.9 * 8."""
    online = ((20.0, 0.0, 0.0), (0.0, 0.0, 20.0))
    seen = categorical((logits(0.6, 1e-9, 0.4), logits(0.3, 0.7, 1e-9)), online)[0]
    return float(seen @ [0, 10, 20]), 0.9 * 8


@row(37)
def one_seed_twice():
    """First weights and actions at ε = 1 of seeds 1, 1 and 2 of NumPy and PyTorch: as many different ones."""
    found = set()
    for seed in (1, 1, 2):
        np.random.seed(seed)
        torch.manual_seed(seed)
        agent = played(DuelingDQN, network=State, epsilon=1.0)
        found.add((*agent.approximator.get_weights().tolist(), *column(agent, "actions")))
    return len(found), 2


def noisy():
    return agent_of(NoisyDQN, network=State)


def looks(approximator):
    return [float(approximator.predict(np.ones((1, 1), np.float32))[0, 0]) for _ in range(5)]


@row(35)
def rank_of_the_noise():
    """μ = 0 and σ = 1: at the 5 unit vectors the outputs are (f(ε_in) + 1) f(ε_out)."""
    layer = NoisyNetwork.NoisyLinear(5, 5, False)
    for name, parameter in layer.named_parameters():
        parameter.data.fill_(float(name.startswith("sigma")))
    return int(torch.linalg.matrix_rank(layer(torch.eye(5)))), 1


@row(49)
@row(51, "while acting")
def noise_is_drawn_anew():
    """Different values of one state in 5 looks, as in 5 steps."""
    return len(set(looks(noisy().approximator))), 5


@row(50)
def target_has_its_own_noise():
    """How many of 5 looks at the target network, with equal weights, equal those at the online network."""
    agent = noisy()
    return len(set(looks(agent.approximator)) & set(looks(agent.target_approximator))), 0


@row(51, "in evaluation")
@row(72, "NoisyDQN")
def evaluation_has_no_noise():
    """Different values of one state in Core.evaluate() of 5 steps."""
    env = Numbered(constant=True)
    agent, seen = agent_of(NoisyDQN, env, network=State), set()
    predict = agent.approximator.predict

    def watched(*args, **kwargs):
        q = predict(*args, **kwargs)
        seen.add(float(np.ravel(q)[0]))
        return q

    with mock.patch.object(agent.approximator, "predict", watched):
        Core(agent, env).evaluate(n_steps=5, quiet=True)
    return len(seen), 1


@row(52)
def first_sigma():
    """σ₀ = 0.5 and 16 inputs, weight and bias."""
    layer = NoisyNetwork.NoisyLinear(16, 4, False)
    return [layer.sigma_weight[0, 0].item(), layer.sigma_bias[0].item()], [0.5 / 4, 0.5 / 4]


@row(52, "the noise itself")
def noise_is_normal():
    """Mean of f(ε) and of its square, for ε of a normal distribution 0 and (2 / π)^0.5, in 20,000 values of a bias."""
    layer = NoisyNetwork.NoisyLinear(1, 20_000, False)
    layer.mu_bias.data.zero_()
    layer.sigma_bias.data.fill_(1)
    seen = layer(torch.zeros(1))
    found, due = [seen.mean().item(), seen.square().mean().item()], [0, (2 / np.pi) ** 0.5]
    return found, due, not np.allclose(found, due, atol=0.05)


@row(71)
def episodes_of_one_step():
    """Rows of 24 episodes of one step, and the ends among them (every second one is absorbing)."""
    stored = column(played(env=Numbered(1)), "absorbing")
    return [len(stored), sum(stored)], [24, 12]


@row(71, "n-step")
def windows_of_one_step():
    """Rainbow with n = 3, episodes of one step, fits of 10 episodes: windows that begin in 40 steps."""
    return len(windows(length=1, n_episodes_per_fit=10)[0]), 40


@row(72)
def looking_changes_nothing():
    """Q(1, 0) of DQN before and after an evaluation of 50 steps."""
    env = Numbered()
    agent = agent_of(env=env)
    setup(agent.approximator, (1, 0.5), (0, 0))
    before = looks(agent.approximator)[0]
    Core(agent, env).evaluate(n_steps=50, quiet=True)
    return [before, looks(agent.approximator)[0]], [1, 1]


@row(75)
def evaluations_do_not_rewind():
    """Different actions of 1,000,000 at ε = 1 in 8 steps, an evaluation of 4, 8 steps, one of 4, 8 steps."""
    env = Numbered(actions=10**6)
    played(env=env, runs=(8, 8, 8), evaluate=4, epsilon=1.0)
    return len(set(env.taken)), 32


if __name__ == "__main__":
    answer_all()
