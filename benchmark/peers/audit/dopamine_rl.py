"""Dopamine: its JAX agents JaxDQNAgent and JaxFullRainbowAgent, its replay, and the episodes of its Runner.

States are numbers. Most checks put a network in place whose output is readable: Q(s, a) = s + shift[a]. Optimizer: SGD
with a step size of 1, so that a change of the parameters is minus a gradient. Two packages are left out by mocks, as
they do not install or import beside this version: baselines (Atari) and tensorflow_probability (continuous actions).
"""

import os
import sys
import tempfile
from unittest.mock import MagicMock

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
for left_out in ("baselines", "baselines.common", "tensorflow_probability", "tensorflow_probability.substrates"):
    sys.modules[left_out] = MagicMock()

# ruff: noqa: E402
import gin
import jax
import jax.numpy as jnp
import numpy as np
from dopamine.discrete_domains import atari_lib, gym_lib, run_experiment
from dopamine.jax import networks
from dopamine.jax.agents.dqn.dqn_agent import JaxDQNAgent
from dopamine.jax.agents.full_rainbow.full_rainbow_agent import JaxFullRainbowAgent
from dopamine.jax.replay_memory.accumulator import TransitionAccumulator
from dopamine.jax.replay_memory.elements import TransitionElement
from dopamine.jax.replay_memory.replay_buffer import ReplayBuffer
from dopamine.jax.replay_memory.samplers import PrioritizedSamplingDistribution, UniformSamplingDistribution
from dopamine.jax.replay_memory.sum_tree import SumTree
from flax import linen as nn

from benchmark.peers.audit.rows import answer_all, not_applicable, row
from benchmark.peers.audit.stand_ins import Walk

ATOMS = jnp.arange(-2.0, 3.0)


class Shift(nn.Module):
    """Q(s, a) = s + shift[a]."""

    num_actions: int

    @nn.compact
    def __call__(self, x):
        return atari_lib.DQNNetworkType(x.reshape(-1)[-1] + self.param("shift", nn.initializers.zeros, (2,)))


class Table(nn.Module):
    """Logits of two actions and five atoms for states 0 and 1; or, with noise, Q from one of the package's layers."""

    num_actions: int
    num_atoms: int
    noisy: bool
    dueling: bool
    distributional: bool

    @nn.compact
    def __call__(self, x, support, eval_mode=False, key=None):
        if self.noisy:
            key = jax.random.PRNGKey(0) if key is None else key
            return atari_lib.DQNNetworkType(networks.NoisyNetwork(key, eval_mode)(jnp.ones(3), 2))
        table = self.param("logits", nn.initializers.zeros, (2, 2, 5))
        logits = table[x.reshape(-1)[-1].astype(int)]
        if not self.distributional:
            return atari_lib.DQNNetworkType(logits[:, 0])
        return atari_lib.RainbowNetworkType((nn.softmax(logits) * support).sum(1), logits, nn.softmax(logits))


def settings(
    gamma=0.9, horizon=1, batch_size=2, capacity=100, learn_after=10**6, period=10**6, exponent=1.0, learning_rate=1.0
):
    gin.clear_config()
    agent = {"gamma": gamma, "update_horizon": horizon, "min_replay_history": learn_after, "update_period": 1}
    agent |= {"target_update_period": period, "observation_shape": (1,), "observation_dtype": np.float32}
    for name, value in (agent | {"stack_size": 1, "optimizer": "sgd"}).items():
        gin.bind_parameter(f"JaxDQNAgent.{name}", value)
    gin.bind_parameter("create_optimizer.learning_rate", learning_rate)
    gin.bind_parameter("ReplayBuffer.batch_size", batch_size)
    gin.bind_parameter("ReplayBuffer.max_capacity", capacity)
    gin.bind_parameter(
        "PrioritizedSamplingDistribution.max_capacity", capacity + 1
    )  # a new row comes before an old goes
    gin.bind_parameter("PrioritizedSamplingDistribution.priority_exponent", exponent)


def dqn(online=(0.0, 0.0), target=(0.0, 0.0), agent=None, **args):
    settings(**args)
    made = JaxDQNAgent(2, network=Shift, seed=1, **agent or {})
    made.online_params, made.target_network_params = (
        {"params": {"shift": jnp.array(each)}} for each in (online, target)
    )
    return made


def rainbow(noisy=False, distributional=True, double=True, **args):
    """Atoms -2, -1, 0, 1, 2."""
    settings(**args)
    kinds = {"noisy": noisy, "distributional": distributional, "double_dqn": double, "mse_loss": True}
    return JaxFullRainbowAgent(2, network=Table, num_atoms=5, vmax=2.0, vmin=-2.0, seed=1, **kinds)


def tables(agent, online=None, target=None):
    """Sets logits [state, action, atom]."""
    for name, value in (("online_params", online), ("target_network_params", target)):
        if value is not None:
            setattr(agent, name, {"params": {"logits": jnp.array(value, jnp.float32)}})


def learn(agent, state, reward=0.0, next_state=0.0, terminal=False, action=0, probability=0.5):
    """The gradients of one _train_step with these transitions in place of drawn ones."""
    n = len(state)
    values = dict(reward=reward, terminal=terminal, action=action, sampling_probabilities=probability, indices=0)
    drawn = {name: np.broadcast_to(np.asarray(value), n) for name, value in values.items()}
    drawn |= {"state": np.reshape(state, (n, 1, 1)), "next_state": np.full((n, 1, 1), next_state)}
    agent._sample_from_replay_buffer = lambda: setattr(agent, "replay_elements", drawn)
    agent.min_replay_history, agent.training_steps = -1, 1
    before = agent.online_params
    agent._train_step()
    gradient = jax.tree_util.tree_map(lambda old, new: np.asarray(old - new), before, agent.online_params)
    return next(iter(gradient["params"].values()))


def runner(agent, env, steps_of_episode=1000, clip=False):
    def make(session, environment, summary_writer=None):
        return agent

    gym_env = gym_lib.GymPreprocessing(env)
    args = {"max_steps_per_episode": steps_of_episode, "clip_rewards": clip}
    return run_experiment.Runner(tempfile.mkdtemp(), make, lambda: gym_env, **args)


def stored(env, episodes=2, agent=None, **args):
    """The rows after some episodes: (state, reward, next state, terminal)."""
    agent = agent or dqn()
    loop = runner(agent, env, **args)
    for _ in range(episodes):
        loop._run_one_episode()
    return rows_of(agent._replay)


def rows_of(replay):
    each = [element.unpack() for element in replay._memory.values()]
    return [(e.state.item(), float(e.reward), e.next_state.item(), bool(e.is_terminal)) for e in each]


def replay(numbers, capacity=100, sampling=None, horizon=1, length=None, terminal=True):
    """A buffer with the states 0, 1, ... of endless episodes, or of episodes of `length` steps; each step pays 1."""
    settings(capacity=capacity)
    sampling = sampling or UniformSamplingDistribution(seed=0)
    made = ReplayBuffer(TransitionAccumulator(stack_size=1, update_horizon=horizon, gamma=0.9), sampling)
    more = {"priority": 1.0} if isinstance(sampling, PrioritizedSamplingDistribution) else {}
    for number in range(numbers):
        end = length is not None and number % length == length - 1
        made.add(TransitionElement(np.array([number], np.float32), 0, 1.0, end and terminal, end), **more)
    return made


def chi_square(counts, due):
    due = np.array(due) / np.sum(due) * np.sum(counts)
    return float(((counts - due) ** 2 / due).sum())


@row(3)
@row(4)
def double():
    """Rainbow without atoms: at state 1 the network prefers action 1, the target network action 0: 1 + 0.9 * 5."""
    agent, q = rainbow(distributional=False), np.zeros((2, 2, 2, 5))
    q[0, 1, :, 0], q[1, 1, :, 0] = (0, 1), (10, 5)
    tables(agent, *q)
    gradient = learn(agent, [0, 0], reward=1, next_state=1)
    return -gradient[0, 0, 0].item() / 2, 1 + 0.9 * 5


@row(5)
def online_maximum():
    """Q(2) = 2 of the target network; the network says 102, and 100 at state 0."""
    gradient = learn(dqn((100.0, 100.0)), [0, 0], reward=1, next_state=2)
    return 100 - gradient[0].item() / 2, 1 + 0.9 * 2


@row(6)
def alias():
    """Made with equal weights; after an update with a gradient of -2 the target network's have moved by:"""
    settings()
    agent = JaxDQNAgent(2, network=Shift, seed=1)
    before = agent.target_network_params["params"]["shift"]
    learn(agent, [0, 0], reward=1, terminal=True)
    return float(jnp.abs(agent.target_network_params["params"]["shift"] - before).max()), 0


@row(7)
def sync():
    """An endless episode, an update each step, a copy every 10 steps: steps between the copies."""
    env, steps = Walk(999), []
    agent = dqn(learn_after=2, period=10)
    copy = agent._sync_weights
    agent._sync_weights = lambda: steps.append(len(env.actions)) or copy()
    stored(env, 1, agent, steps_of_episode=45)
    return np.diff(steps).tolist(), [10, 10, 10]


@row(8)
def target_gradient():
    """The gradient of the squared error of Q(1) = 1 and 1 + 0.9 * 2, without a part of the target's Q(2)."""
    return learn(dqn(), [1, 1], reward=1, next_state=2)[0].item(), -2 * (1 + 0.9 * 2 - 1)


@row(9)
def truncation():
    """The Runner ends the episode after five steps, its max_steps_per_episode: terminal rows."""
    return sum(end for *_, end in stored(Walk(999), steps_of_episode=5)), 0


@row(10)
def final_observation():
    """Rows whose next state belongs to the next episode."""
    return sum(last // 100 != first // 100 for first, _, last, _ in stored(Walk())), 0


@row(11)
def false_row():
    """Rows that begin at the end of an episode, 103 or 203."""
    return sum(first % 100 == 3 for first, *_ in stored(Walk())), 0


@row(12)
def shapes():
    """Three predictions of 0, the last of them of action 1, for 1, 2 and 3: action 1 gets 2 * 3 / 3 of the gradient."""
    return learn(dqn(), [0, 0, 0], reward=[1, 2, 3], terminal=True, action=[0, 0, 1])[1].item(), -2 * 3 / 3


@row(13)
def clipping():
    """loss_type="huber": the gradient at an error of 5 is that of 1."""
    gradients = [learn(dqn(agent={"loss_type": "huber"}), [0, 0], reward=r, terminal=True)[0].item() for r in (5, 1)]
    return gradients, [-1, -1]


@row(16)
def epsilon():
    """Learning starts after 20 steps, then ε falls from 1 to 0.2 in 40: after 0, 20, 40 and 80 steps 1, 1, 0.6, 0.2."""
    seen = []
    for steps in (0, 20, 40, 80):
        agent = dqn(learn_after=20, agent={"epsilon_decay_period": 40, "epsilon_train": 0.2})
        if steps:
            stored(Walk(999), 1, agent, steps_of_episode=steps)
        args = (agent.epsilon_decay_period, agent.training_steps, agent.min_replay_history, agent.epsilon_train)
        seen.append(float(agent.epsilon_fn(*args)))
    return seen, [1, 1, 1 - 0.8 * 20 / 40, 0.2]


@row(17)
def first_and_last():
    """10,000 draws of a buffer that holds 18 to 27: chi-square with 9 degrees stays below 27.9 (0.1%)."""
    batch = replay(29, capacity=10).sample(10_000)
    counts = np.bincount(batch.state.ravel().astype(int) - 18, minlength=10)
    uneven = chi_square(counts, [1] * 10)
    return f"chi-square {uneven:.1f}, newest {counts[-1]}", "below 27.9, newest 1000", uneven > 27.9


@row(18, "the newest observation, until the next add")
def reference():
    """The array of the observation is changed from 1 to 1000 after add()."""
    made, array = replay(1), np.array([1.0], np.float32)
    made.add(TransitionElement(array, 0, 1.0, False, False))
    array[:] = 1000
    made.add(TransitionElement(np.array([2.0], np.float32), 0, 1.0, False, False))
    return rows_of(made)[1][0], 1


@row(18, "an environment that reuses its array")
def reference_loop():
    """The first states that the Runner's episodes store."""
    return [first for first, *_ in stored(Walk(6, reuse=True), 1)][:3], [100, 101, 102]


@row(19)
def ring():
    """25 rows into a buffer of 10: 15 to 24 are there."""
    return sorted(first for first, *_ in rows_of(replay(26, capacity=10))), list(range(15, 25))


@row(20)
def leaf():
    """Uniform over five atoms: the loss is log 5 in every update. After 20 updates: (log 5 + 1e-10) ** 0.5."""
    agent = rainbow(learn_after=2, batch_size=16, learning_rate=1e-9)
    stored(Walk(999), 1, agent, steps_of_episode=23)
    return float(agent._replay._sampling_distribution._sum_tree.get(0)), (np.log(5) + 1e-10) ** 0.5


@row(21)
@row(74)
def weights():
    """Drawn with 0.05 and 0.8, weights 0.05 ** -0.5 and 0.8 ** -0.5, 4 to 1: so the gradients of states 0 and 1."""
    gradient = learn(rainbow(), [0, 1], reward=2, terminal=True, probability=[0.05, 0.8])
    first, second = np.abs(gradient).max((1, 2)).tolist()
    return first / second, 4


not_applicable("β is a constant, 0.5", 22)


not_applicable("priorities are not updated: row 20", 23)


def newest_priority(exponent):
    """A buffer of two rows gets the priorities 0.1 and 5, then a row that overwrites the first. The priority of that.

    The scheme is set by hand, since the agent forgets it: row 20.
    """
    agent = rainbow(capacity=2, exponent=exponent)
    agent._replay_scheme = "prioritized"
    for number in range(3):
        agent._store_transition(np.array([number], np.float32), 0, 1.0, False)
    agent._replay.update(np.array([0, 1], np.int32), priorities=np.array([0.1, 5.0]))
    agent._store_transition(np.array([3], np.float32), 0, 1.0, False)
    sampling = agent._replay._sampling_distribution
    return sampling._sum_tree.get(sampling._index_by_key[2])


@row(24)
def overwritten():
    """It gets 5."""
    return newest_priority(1.0), 5


@row(24, "priority_exponent=0.5, not the default")
def overwritten_exponent():
    """It gets 5 ** 0.5."""
    return newest_priority(0.5), 5**0.5


@row(25)
def drift():
    """A million new priorities: the root minus the sum of the leaves, relative."""
    tree, random = SumTree(1000), np.random.default_rng(0)
    for _ in range(1000):
        tree.set(random.integers(1000, size=1000), random.random(1000))
    leaves = sum(tree.get(index) for index in range(1000))
    return abs(tree.root - leaves) / leaves, 0


@row(26)
def frequencies():
    """After an overwritten row, priorities 1, 3, 2, 2, 8,000 draws: chi-square, 3 degrees, below 16.3 (0.1%)."""
    made = replay(
        6, capacity=4, sampling=PrioritizedSamplingDistribution(seed=0, max_capacity=5, priority_exponent=1.0)
    )
    made.update(np.arange(1, 5, dtype=np.int32), priorities=np.array([1.0, 3, 2, 2]))
    counts = np.bincount(made.sample(8000).state.ravel().astype(int) - 1, minlength=4)
    uneven = chi_square(counts, [1, 3, 2, 2])
    return f"{' / '.join(map(str, counts))}, chi-square {uneven:.1f}", "1000 / 3000 / 2000 / 2000", uneven > 16.3


@row(28)
def last_step():
    """Episodes of three steps: the first states of the rows of the first."""
    return [first for first, *_ in stored(Walk(), 1)], [100, 101, 102]


@row(28, "terminal flags")
def terminal_flag():
    """The step from 101 to 102, the last but one, is not terminal."""
    return float(stored(Walk(), 1)[1][3]), 0


@row(29)
def window_end():
    """Three steps, episodes of 5, with both kinds of end: windows that begin in one and end in the next."""
    rows = rows_of(replay(15, horizon=3, length=5)) + rows_of(replay(15, horizon=3, length=5, terminal=False))
    return sum(first // 5 != last // 5 for first, _, last, _ in rows), 0


@row(30)
def window_starts():
    """All five states of the first episode begin windows of three steps."""
    return [first for first, *_ in rows_of(replay(5, horizon=3, length=5))], [0, 1, 2, 3, 4]


@row(31)
def window_discount():
    """A window of three steps without an end: rewards 1, then Q(3) = 3 is worth 0.9 ** 3."""
    first, reward, last, end = rows_of(replay(5, horizon=3))[0]
    gradient = learn(dqn(horizon=3), [first] * 2, reward=reward, next_state=last, terminal=end)
    return -gradient[0].item() / 2, 1 + 0.9 + 0.81 + 0.9**3 * 3


@row(32)
def window_ring():
    """An endless episode, a buffer of 10 filled 2.5 times: every row pays 2.71 and ends three states on."""
    rows = rows_of(replay(28, capacity=10, horizon=3))
    steps = [last - first for first, _, last, _ in rows]
    rewards = [reward for _, reward, _, _ in rows]
    return [min(rewards), max(rewards), min(steps), max(steps)], [2.71, 2.71, 3, 3]


def projected(agent, **args):
    """The projected target: the gradient of the logits of state 0 and action 0 is p - m."""
    p = jax.nn.softmax(agent.online_params["params"]["logits"][0, 0])
    return (p - learn(agent, [0, 0], **args)[0, 0]).tolist()


@row(33)
def projection():
    """γ = 1: rewards 0, 1 and 5 move the masses 0.1, 0.2, 0.4, 0.2, 0.1 by none, one and, to the edge, all atoms."""
    mass, seen = [0.1, 0.2, 0.4, 0.2, 0.1], []
    for reward in (0, 1, 5):
        agent = rainbow(gamma=1.0)
        tables(agent, target=np.log(np.full((2, 2, 5), mass)))
        seen += projected(agent, reward=reward)
    return seen, [*mass, 0, 0.1, 0.2, 0.4, 0.3, 0, 0, 0, 0, 1]


@row(34)
def log_clamp():
    """All mass is at the last of five atoms, p = 2e-9 there: the gradient of its logit is p - 1."""
    agent, online = rainbow(), np.zeros((2, 2, 5))
    online[0, 0, 4] = np.log(4 * 2e-9)
    tables(agent, online)
    return learn(agent, [0, 0], reward=2, terminal=True)[0, 0, 4].item(), -1


def noisy_matrix(inputs, outputs):
    """The noise of the weights of a layer: its output for each unit vector, with σ = 1 and all else 0."""
    layer, x = networks.NoisyNetwork(jax.random.PRNGKey(1)), jnp.eye(inputs)
    params = jax.tree_util.tree_map(jnp.zeros_like, layer.init(jax.random.PRNGKey(0), x[0], outputs))
    params["params"]["kernel_sigma"] = jnp.ones((inputs, outputs))
    return jnp.stack([layer.apply(params, each, outputs) for each in x])


@row(35)
def rank():
    """The rank of the weights' noise of 6 outputs and 5 inputs."""
    return np.linalg.matrix_rank(noisy_matrix(5, 6), rtol=1e-4).item(), 1


def trained(seed):
    """Weights and actions after 40 steps with updates."""
    settings(learn_after=4)
    env, agent = Walk(9), JaxDQNAgent(2, network=networks.ClassicControlDQNNetwork, seed=seed)
    stored(env, 5, agent)
    return [*map(float, jax.tree_util.tree_leaves(agent.online_params)[0].ravel()), *env.actions]


@row(37)
def seeds():
    """One seed twice gives equal weights and actions, two seeds do not."""
    same, other = trained(1) == trained(1), trained(1) == trained(2)
    return f"{same}, {other}", "True, False", not same or other


@row(38)
def seeded_resets():
    """Resets of the environment that get a seed, in four episodes."""
    env = Walk()
    stored(env, 4)
    return len([seed for seed in env.seeds if seed is not None]), 0


@row(39)
def logged_return():
    """Three rewards of 5, clipped to 1 for the agent: the Runner's return."""
    return float(runner(dqn(), Walk(reward=5.0), clip=True)._run_one_episode()[1]), 15


@row(45)
def double_c51():
    """double_dqn=False. At state 1 the network prefers action 0, the target network action 1, worth 2."""
    agent, logits = rainbow(gamma=1.0, double=False), np.zeros((2, 2, 2, 5))
    logits[0, 1, 0, 4] = logits[1, 1, 0, 0] = logits[1, 1, 1, 4] = 30
    tables(agent, *logits)
    return projected(agent, next_state=1), [0, 0, 0, 0, 1]


@row(46)
def by_mean():
    """At state 1, action 0: -2 or 2, 0.5 each, mean 0. Action 1: -1, 0, 1 with 0.3, 0.3, 0.4, mean 0.1, is the best."""
    agent, mass = rainbow(gamma=1.0), np.full((2, 2, 5), 0.2)
    mass[1] = [[0.5, 1e-9, 1e-9, 1e-9, 0.5], [1e-9, 0.3, 0.3, 0.4, 1e-9]]
    tables(agent, np.log(mass), np.log(mass))
    return projected(agent, next_state=1), [0, 0.3, 0.3, 0.4, 0]


def full_network(**args):
    """The package's Rainbow network for two actions and three atoms, and its parameters: all 0."""
    made, x = networks.FullRainbowNetwork(num_actions=2, num_atoms=3), jnp.zeros((84, 84, 4))
    args = {"support": jnp.arange(-1.0, 2.0)} | args
    params = made.init(jax.random.PRNGKey(0), x, **args)
    return made, x, jax.tree_util.tree_map(jnp.zeros_like, params), args


@row(48)
def dueling_atoms():
    """The mean of the logits over the actions is the value's: in V, atoms 0 and 1 differ by 0.7."""
    made, x, params, args = full_network(eval_mode=True)
    layers = params["params"]
    for name, layer in layers.items():
        if layer.get("bias_mu", jnp.zeros(0)).shape == (3,):
            layers[name] = layer | {"bias_mu": jnp.array([0.7, 0, 0])}
        if layer.get("bias_mu", jnp.zeros(0)).shape == (6,):
            layers[name] = layer | {"bias_mu": jnp.array([3.0, 0, 0, 0, 0, 0])}
    mean = made.apply(params, x, **args).logits.mean(0)
    return float(mean[0] - mean[1]), 0.7


def actions_of(eval_mode):
    """Different actions in 20 steps of an endless episode; with mean weights of 0, noise alone decides."""
    agent, env = rainbow(noisy=True, distributional=False), Walk(999)
    params = agent.online_params["params"]["NoisyNetwork_0"]
    zero = {name: value * 0 for name, value in params.items() if "mu" in name}
    agent.online_params = {"params": {"NoisyNetwork_0": {**params, **zero}}}
    agent.eval_mode, agent.epsilon_eval = eval_mode, 0.0
    stored(env, 1, agent, steps_of_episode=20)
    return len(set(env.actions))


@row(49)
def noise_before_updates():
    """Both actions in 20 steps before the first update."""
    return actions_of(eval_mode=False), 2


@row(50)
def shared_noise():
    """Different random keys of the three noisy layers of the package's Rainbow network."""
    made, x, params, args = full_network()
    keys = set()

    def record(call, call_args, kwargs, context):
        if isinstance(context.module, networks.NoisyNetwork) and context.method_name == "__call__":
            keys.add(tuple(np.asarray(context.module.rng_key).tolist()))
        return call(*call_args, **kwargs)

    with nn.intercept_methods(record):
        made.apply(params, x, key=jax.random.PRNGKey(1), **args)
    return len(keys), 3


@row(51)
def noise_switch():
    """Both actions in training, one in evaluation."""
    return [actions_of(eval_mode=False), actions_of(eval_mode=True)], [2, 1]


@row(52)
def sigma():
    """24 inputs, 6 outputs, σ₀ 0.1: both 0.1 / sqrt(24)."""
    layer = networks.NoisyNetwork(jax.random.PRNGKey(1))
    params = layer.init(jax.random.PRNGKey(0), jnp.ones(24), 6)["params"]
    return [float(params["kernel_sigma"][0, 0]), float(params["bias_sigma"][0])], [0.1 / 24**0.5] * 2


@row(52, "f(x)")
def noise_shape():
    """The mean of f(x) ** 2 in two million draws, to two decimals: sqrt(2 / π)."""
    x = networks.NoisyNetwork.sample_noise(jax.random.PRNGKey(0), (2_000_000,))
    return round(float((networks.NoisyNetwork.f(x) ** 2).mean()), 2), round((2 / np.pi) ** 0.5, 2)


@row(71)
def one_step():
    """Four episodes of one step: rows."""
    return len(stored(Walk(1), 4)), 4


@row(72)
def looking():
    """Two episodes in evaluation: the change of the weights."""
    agent = dqn(learn_after=0, online=(0.0, 1.0))
    agent.eval_mode = True
    stored(Walk(), 2, agent)
    return [float(each) for each in agent.online_params["params"]["shift"]], [0, 1]


@row(73)
def seam():
    """Episodes of training, evaluation in the same environment, training: rows that do not go one state on."""
    agent, env = dqn(), Walk(9)
    loop = runner(agent, env, steps_of_episode=5)
    for agent.eval_mode in (False, True, False):
        loop._run_one_episode()
    return sum(last != first + 1 for first, _, last, _ in rows_of(agent._replay)), 0


@row(75)
def evaluations():
    """First states, drawn by the environment, of episodes of training and evaluation in turn: any that come again."""
    agent, env = dqn(), Walk(3, chance=True)
    env.reset(seed=0)
    loop = runner(agent, env)
    for agent.eval_mode in (False, True) * 4:
        loop._run_one_episode()
    return len(env.firsts) - len(set(env.firsts)), 0


if __name__ == "__main__":
    answer_all()
