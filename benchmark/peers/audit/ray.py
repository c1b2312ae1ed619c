"""RLlib of Ray: the DQN of its new API stack, its episode buffers, and its loop Algorithm.train.

States are numbers. Most checks put a network in place whose output is readable: Q(s, a) = s + shift[a].
"""

import copy
import os

os.environ |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.execution.segment_tree import SumSegmentTree
from ray.rllib.utils.replay_buffers import EpisodeReplayBuffer, PrioritizedEpisodeReplayBuffer
from ray.rllib.utils.replay_buffers.utils import update_priorities_in_episode_replay_buffer

from benchmark.peers.audit import stand_ins
from benchmark.peers.audit.rows import answer_all, not_applicable, row
from benchmark.peers.audit.stand_ins import Shift

torch.set_num_threads(1)
OBS, ACTIONS, POLICY = gym.spaces.Box(-1e9, 1e9, (1,), np.float32), gym.spaces.Discrete(2), "default_policy"
UNIFORM, PRIORITIZED = "EpisodeReplayBuffer", "PrioritizedEpisodeReplayBuffer"


class Walk(stand_ins.Walk):
    """Takes its arguments as RLlib passes them."""

    def __init__(self, config):
        super().__init__(**config)


class Table(torch.nn.Module):
    """Logits of two actions and five atoms for states 0 and 1."""

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(2, 10))

    def forward(self, obs):
        return self.logits[obs[:, 0].long()]


class Same(torch.nn.Module):
    def forward(self, batch):
        return {"encoder_out": batch["obs"]}


class Readable(DefaultDQNTorchRLModule):
    """The package's module with these heads."""

    def setup(self):
        super().setup()
        self.encoder, self.af = Same(), Table() if self.num_atoms > 1 else Shift()


def config(
    env=None,
    readable=True,
    seed=1,
    envs=1,
    buffer=PRIORITIZED,
    beta=0.4,
    capacity=1000,
    evaluations=0,
    iteration=1,
    **training,
):
    made = (
        DQNConfig()
        .environment(Walk, env_config=env or {})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=envs)
        .learners(num_learners=0)
        .reporting(min_sample_timesteps_per_iteration=iteration)
        .debugging(seed=seed, log_level="ERROR")
    )
    if evaluations:
        made.evaluation(evaluation_interval=10**9, evaluation_num_env_runners=0, evaluation_duration=evaluations)
    more = {"beta": beta, "alpha": 0.6} if buffer == PRIORITIZED else {}
    made.training(replay_buffer_config={"type": buffer, "capacity": capacity, **more})
    made.training(**{"gamma": 0.9, "train_batch_size": 4, "num_steps_sampled_before_learning_starts": 10**9} | training)
    if readable:
        made.training(dueling=False)
        made.rl_module(rl_module_spec=RLModuleSpec(module_class=Readable))
    return made


def learner(online=(0.0, 0.0), target=(0.0, 0.0), **args):
    """A learner with shifts, or with tables of logits where there are atoms; and its module."""
    args = {"grad_clip": None, "lr": 1e-9} | args
    made = config(**args).build_learner(env=Walk({}))
    made.build()
    module = made.module[POLICY]
    if args.get("num_atoms", 1) == 1 and args.get("readable", True):
        module.af.shift.data, module._target_af.shift.data = torch.tensor(online), torch.tensor(target)
    return made, module


def transition(obs=0.0, action=0, reward=0.0, next_obs=0.0, end=False, weight=1.0, n_step=1):
    """A sampled transition, as the buffers make it."""
    values = [np.array([each], np.float32) for each in (obs, next_obs)]
    more = {"weights": [weight], "n_step": [n_step]}
    spaces = {"observation_space": OBS, "action_space": ACTIONS, "len_lookback_buffer": 0}
    args = dict(observations=values, actions=[action], rewards=[reward], terminated=end, extra_model_outputs=more)
    return SingleAgentEpisode(**args, **spaces)


def update(made, *transitions):
    """Learns from these, and says what it logged."""
    return made.update(episodes=list(transitions), timesteps={"num_env_steps_sampled_lifetime": 0})[POLICY]


def td_errors(made, *transitions):
    """|y - Q|: y itself at state 0, where Q is 0."""
    errors = update(made, *transitions)["td_error"].peek()
    return np.concatenate([np.atleast_1d(np.asarray(each)) for each in errors]).tolist()


def episode(first, length, truncated=False):
    """States first, first + 1, ...; each step pays 1."""
    made = SingleAgentEpisode(observation_space=OBS, action_space=ACTIONS)
    made.add_env_reset(np.array([first], np.float32), {})
    for step in range(1, length + 1):
        end = step == length
        flags = {"terminated": end and not truncated, "truncated": end and truncated}
        made.add_env_step(np.array([first + step], np.float32), 0, 1.0, {}, **flags)
    return made


def fill(buffer, *episodes):
    for each in episodes:
        buffer.add(each)
    return buffer


class Draws:
    """The buffer's random numbers, up to a number of them: then a buffer draws for ever without an answer."""

    def __init__(self, limit):
        self.random_numbers, self.left = np.random.default_rng(0), limit

    def __getattr__(self, name):
        self.left -= 1
        if not self.left:
            raise TimeoutError
        return getattr(self.random_numbers, name)


def drawn(buffer, n_step=1, number=400):
    """First state: (reward, last state, terminated) of what was drawn."""
    buffer.rng, seen = Draws(100 * number), {}
    for _ in range(number):
        each = buffer.sample(1, n_step=n_step, gamma=0.9, beta=0.4, sample_episodes=True)[0]
        obs, next_obs = np.asarray(each.get_observations()).ravel().tolist()
        seen[obs] = (float(np.asarray(each.get_rewards())[0]), next_obs, each.is_terminated)
    return dict(sorted(seen.items()))


def run(steps, **args):
    """Algorithm.train, `steps` times, each by default one step of an environment; the algorithm."""
    if not ray.is_initialized():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    algorithm = config(**args).build_algo()
    for _ in range(steps):
        algorithm.train()
    return algorithm


def stored(steps, **args):
    return drawn(run(steps, **args).local_replay_buffer)


def training_env(algorithm):
    return algorithm.env_runner.env.unwrapped.envs[0].unwrapped


def chi_square(counts, due):
    due = np.array(due) / np.sum(due) * np.sum(counts)
    return float(((counts - due) ** 2 / due).sum())


def weighed(priorities, alpha=1.0):
    """One-step episodes from 0, 10, 20, ... with these priorities."""
    buffer = PrioritizedEpisodeReplayBuffer(capacity=len(priorities), alpha=alpha)
    fill(buffer, *(episode(10 * i, 1) for i in range(len(priorities))))
    buffer._last_sampled_indices = list(range(len(priorities)))
    buffer.update_priorities(np.array(priorities))
    return buffer


@row(1)
def dueling_batch():
    """Q(1) alone, minus Q(1) in a batch with 5 and 9."""
    _, module = learner(readable=False)
    q = [module.compute_q_values({"obs": torch.tensor(obs)})["qf_preds"] for obs in ([[1.0]], [[1.0], [5.0], [9.0]])]
    return (q[1][0] - q[0][0]).abs().max().item(), 0


@row(2)
def dueling_mean():
    """The mean of Q over the actions, minus V, at state 1."""
    _, module = learner(readable=False)
    batch = {"obs": torch.tensor([[1.0]])}
    value = module.vf(module.encoder(batch)["encoder_out"])
    return (module.compute_q_values(batch)["qf_preds"].mean() - value).item(), 0


@row(3)
@row(4)
def double():
    """At state 10 the network prefers action 1, the target network action 0: 1 + 0.9 * (10 - 5)."""
    made, _ = learner((0.0, 1.0), (0.0, -5.0))
    return td_errors(made, transition(reward=1, next_obs=10))[0], 1 + 0.9 * (10 - 5)


@row(5)
def online_maximum():
    """double_q=False: Q(2) = 2 of the target network; the network says 102, and 100 at state 0."""
    made, _ = learner((100.0, 100.0), double_q=False)
    return 100 - td_errors(made, transition(reward=1, next_obs=2))[0], 1 + 0.9 * 2


@row(6)
def alias():
    """Tensors that network and target network share."""
    _, module = learner(readable=False)
    pairs = module.get_target_network_pairs()
    places = [{each.data_ptr() for pair in pairs for each in pair[i].parameters()} for i in (0, 1)]
    return len(places[0] & places[1]), 0


@row(7)
def sync():
    """A copy every 10 steps, one step at a time: the steps after which the target network has changed."""
    algorithm = run(0, num_steps_sampled_before_learning_starts=0, target_network_update_freq=10, lr=0.01)
    target, steps = algorithm.learner_group._learner.module[POLICY]._target_af.shift, []
    for step in range(1, 36):
        before = target.detach().clone()
        algorithm.train()
        if not torch.equal(before, target):
            steps.append(step)
    return steps, [10, 20, 30]


@row(8)
def target_gradient():
    """The gradient of the squared error of Q(1) = 1 and 1 + 0.9 * 2, without a part of the target's Q(2)."""
    made, module = learner(td_error_loss_fn="mse")
    update(made, transition(obs=1, reward=1, next_obs=2))
    return module.af.shift.grad[0].item(), -2 * (1 + 0.9 * 2 - 1)


@row(9)
def truncation():
    """Step 102 to 103 of the loop is truncated and pays 1: 1 + 0.9 * 103, minus Q(102) = 102."""
    reward, last, end = stored(6, env={"truncated": True})[102]
    made, _ = learner()
    return td_errors(made, transition(102, 0, reward, last, end))[0], abs(1 + 0.9 * 103 - 102)


@row(10)
def final_observation():
    """The third step of the first episode leads from 102 to 103, not to 200."""
    return stored(6)[102][1], 103


@row(11)
def false_row():
    """Two environments: no transition begins at the end of an episode, 103."""
    return list(stored(10, envs=2)).count(103), 0


@row(12)
def shapes():
    """Errors 1, 2 and 3: the loss is (1 + 4 + 9) / 3."""
    made, _ = learner(td_error_loss_fn="mse")
    logged = update(made, *(transition(reward=reward, end=True) for reward in (1, 2, 3)))
    return float(np.mean(logged["qf_loss"].peek())), (1 + 4 + 9) / 3


def gradient(error, **args):
    made, module = learner()
    update(made, transition(reward=error, end=True, **args))
    return module.af.shift.grad[0].item()


@row(13)
def clipping():
    """Huber: the gradient at an error of 5 is that of 1."""
    return [gradient(5.0), gradient(1.0)], [-1, -1]


@row(14)
@row(74)
def weights():
    """Weights 1 and 0.25, equal errors: gradients in the ratio 4, where a weight inside the square gives 16."""
    return gradient(1.0) / gradient(1.0, weight=0.25), 1 / 0.25


@row(74, "all weights halved")
def half_weights():
    """Half the gradient."""
    return gradient(1.0, weight=0.5) / gradient(1.0), 0.5


def epsilons(steps, **args):
    """Environment steps before an action: its ε, which falls from 1 to 0.2 in 40 steps of one endless episode."""
    algorithm, seen = run(0, epsilon=[(0, 1.0), (40, 0.2)], env={"length": 999}, **args), {}
    module, env = algorithm.env_runner.module, training_env(algorithm)
    explore = module.forward_exploration

    def recorded(batch, **kwargs):
        output = explore(batch, **kwargs)
        seen[len(env.actions)] = float(module.epsilon_schedule.get_current_value())
        return output

    module.forward_exploration = recorded
    while len(env.actions) < steps:
        algorithm.train()
    return seen


@row(16)
def epsilon():
    """Iterations of one step. At steps 0, 20, 40 and 60: 1, 0.6, 0.2, 0.2."""
    seen = epsilons(62)
    return [seen[step] for step in (0, 20, 40, 60)], [1, 1 - 0.8 * 20 / 40, 0.2, 0.2]


@row(16, "four environments")
def epsilon_of_many():
    """The same with four environments, of which each has made a quarter of the steps."""
    seen = epsilons(16, envs=4)
    return [seen[step] for step in (0, 5, 10, 15)], [1, 1 - 0.8 * 20 / 40, 0.2, 0.2]


@row(16, "within an iteration")
def epsilon_in_iteration():
    """Iterations of 20 steps (1,000 by default). At steps 0, 10, 20 and 30: 1, 0.8, 0.6, 0.4."""
    seen = epsilons(40, iteration=20)
    return [seen[step] for step in (0, 10, 20, 30)], [1, 1 - 0.8 * 10 / 40, 1 - 0.8 * 20 / 40, 1 - 0.8 * 30 / 40]


@row(17)
def first_and_last():
    """5,000 draws of a uniform buffer that holds 10 steps, two an episode: chi-square, 9 degrees, below 27.9 (0.1%)."""
    buffer = fill(EpisodeReplayBuffer(capacity=10), *(episode(first, 2) for first in range(0, 140, 10)))
    buffer.rng = np.random.default_rng(0)
    batch = buffer.sample(5000, n_step=1, sample_episodes=True)
    firsts = [float(each.get_observations(0)[0]) for each in batch]
    counts = [firsts.count(first) for first in (90, 91, 100, 101, 110, 111, 120, 121, 130, 131)]
    uneven = chi_square(np.array(counts), [1] * 10)
    return f"chi-square {uneven:.1f}, newest {counts[-1]}", "below 27.9, newest 500", uneven > 27.9


@row(18)
def reference():
    """The environment reuses its array: the first states that the loop has stored."""
    return list(stored(3, env={"reuse": True, "length": 999})), [100, 101, 102]


@row(19)
def ring():
    """25 steps, five an episode, into both buffers of 10: the steps of the last two episodes are there."""
    newest = [60, 61, 62, 63, 64, 80, 81, 82, 83, 84]
    episodes, seen = [episode(first, 5) for first in (0, 20, 40, 60, 80)], []
    for kind in (EpisodeReplayBuffer, PrioritizedEpisodeReplayBuffer):
        seen += list(drawn(fill(kind(capacity=10), *episodes)))
    return seen, newest * 2


def priorities_after(made, buffer, *transitions):
    """Draws, learns from the transitions in place of the drawn, and gives the errors to the buffer."""
    buffer._last_sampled_indices = list(range(len(transitions)))
    errors = {POLICY: {"td_error": np.array(td_errors(made, *transitions))}}
    update_priorities_in_episode_replay_buffer(replay_buffer=buffer, td_errors=errors)
    return [buffer._sum_segment[i] for i in range(len(transitions))]


@row(20)
def leaf():
    """An error of 0.5, α = 0.6, no ε: 0.5 ** 0.6."""
    made, _ = learner()
    return priorities_after(made, weighed([1.0], alpha=0.6), transition(reward=0.5, end=True))[0], 0.5**0.6


@row(21)
def weights_used():
    """Priorities 3 and 1, α = β = 1: weights 1/3 and 1, and gradients of an error of 1 like them."""
    buffer, seen = weighed([3.0, 1.0]), {}
    buffer.rng = np.random.default_rng(0)
    while len(seen) < 2:
        drawn_one = buffer.sample(1, n_step=1, beta=1.0, sample_episodes=True)[0]
        obs = float(drawn_one.get_observations(0)[0])
        made, module = learner((-obs, -obs))
        update(made, drawn_one)
        seen[obs] = module.af.shift.grad[0].item()
    return [seen[0], seen[10]], [-1 / 3, -1]


not_applicable("β is a constant, 0.4", 22)


@row(23)
def weighted_priority():
    """Weights 0.25 and 1, errors of 0.5: equal priorities."""
    made, _ = learner()
    batch = [transition(reward=0.5, end=True, weight=weight) for weight in (0.25, 1)]
    return priorities_after(made, weighed([1.0, 1.0], alpha=0.6), *batch), [0.5**0.6] * 2


@row(24)
def overwritten():
    """Priorities 0.1 and 5; the next episode takes the place of the first and gets 5 ** 0.6."""
    buffer = fill(weighed([0.1, 5.0], alpha=0.6), episode(20, 1))
    return buffer._sum_segment[buffer._indices[-1][2]], 5**0.6


@row(25)
def drift():
    """A million new priorities: the root minus the sum of the leaves, relative."""
    tree, random = SumSegmentTree(64), np.random.default_rng(0)
    for index, value in zip(random.integers(64, size=10**6).tolist(), random.random(10**6).tolist(), strict=True):
        tree[index] = value
    leaves = sum(tree[index] for index in range(64))
    return abs(tree.sum() - leaves) / leaves, 0


@row(26)
def frequencies():
    """Priorities 1, 3, 2, 2 with α = 1, 8,000 draws: chi-square with 3 degrees stays below 16.3 (0.1%)."""
    buffer = weighed([1.0, 3.0, 2.0, 2.0])
    buffer.rng = np.random.default_rng(0)
    batch = buffer.sample(8000, n_step=1, sample_episodes=True)
    counts = np.bincount([int(each.get_observations(0)[0]) // 10 for each in batch], minlength=4)
    uneven = chi_square(counts, [1, 3, 2, 2])
    return f"{' / '.join(map(str, counts))}, chi-square {uneven:.1f}", "1000 / 3000 / 2000 / 2000", uneven > 16.3


@row(28)
def last_reward():
    """The last step of the first episode, from 102, is drawn: it pays 1 and is terminal."""
    reward, _, end = stored(6)[102]
    return [reward, float(end)], [1, 1]


@row(29)
def window_end():
    """Three steps, both buffers, episodes of 5: no window ends beyond the last state of its episode, 105 or 205."""
    beyond = 0
    for kind in (EpisodeReplayBuffer, PrioritizedEpisodeReplayBuffer):
        windows = drawn(fill(kind(capacity=99), episode(100, 5), episode(200, 5, truncated=True)), n_step=3)
        beyond += sum(last > 100 * (first // 100) + 5 for first, (_, last, _) in windows.items())
    return beyond, 0


@row(30, "uniform buffer")
def window_starts():
    """All five states of an episode begin windows of three steps; the shorter pay 1 + 0.9 and 1."""
    windows = drawn(fill(EpisodeReplayBuffer(capacity=99), episode(0, 5)), n_step=3)
    full = 1 + 0.9 + 0.81
    return [*windows, *(reward for reward, _, _ in windows.values())], [0, 1, 2, 3, 4, full, full, full, 1.9, 1]


@row(30, "prioritized, the default buffer")
def window_starts_prioritized():
    """The states that begin windows of three steps."""
    windows = drawn(fill(PrioritizedEpisodeReplayBuffer(capacity=99), episode(0, 5)), n_step=3)
    return list(windows), [0, 1, 2, 3, 4]


@row(31, "uniform buffer")
def window_discount():
    """A truncation after two steps: rewards 1 and 1, then Q(2) = 2 is worth 0.9 ** 2 to the first state."""
    buffer = fill(EpisodeReplayBuffer(capacity=99), episode(0, 2, truncated=True))
    made, _ = learner()
    window = next(each for each in iter(lambda: sampled(buffer), None) if each.get_observations(0)[0] == 0)
    return td_errors(made, window)[0], 1 + 0.9 + 0.9**2 * 2


def sampled(buffer):
    return buffer.sample(1, n_step=3, gamma=0.9, sample_episodes=True)[0]


@row(31, "prioritized")
def window_discount_prioritized():
    """Three steps: rewards 1, then Q(3) = 3 is worth 0.9 ** 3. Shorter windows are never drawn."""
    buffer = fill(PrioritizedEpisodeReplayBuffer(capacity=99), episode(0, 3, truncated=True))
    made, _ = learner()
    return td_errors(made, sampled(buffer))[0], 1 + 0.9 + 0.81 + 0.9**3 * 3


@row(32)
def window_ring():
    """25 steps, five an episode, into both buffers of 10: every full window pays 2.71 and ends three states on."""
    episodes, wrong = [episode(first, 5) for first in (0, 20, 40, 60, 80)], 0
    for kind in (EpisodeReplayBuffer, PrioritizedEpisodeReplayBuffer):
        windows = drawn(fill(kind(capacity=10), *episodes), n_step=3)
        full = [first for first in windows if first % 20 <= 2]
        wrong += len(full) != 6 or sum(windows[first][1] != first + 3 for first in full)
        wrong += sum(abs(windows[first][0] - 2.71) > 1e-4 for first in full)
    return wrong, 0


def c51(**args):
    """Atoms -2, -1, 0, 1, 2."""
    return learner(num_atoms=5, v_min=-2.0, v_max=2.0, **{"gamma": 1.0} | args)


def projected(made, module, **args):
    """The projected target: the gradient of the logits of state 0 and action 0 is p - m."""
    update(made, transition(**args))
    logits = module.af.logits
    return (logits[0, :5].softmax(0) - logits.grad[0, :5]).tolist()


@row(33)
def projection():
    """γ = 1: rewards 0, 1 and 5 move the masses 0.1, 0.2, 0.4, 0.2, 0.1 by none, one and, to the edge, all atoms."""
    mass, seen = [0.1, 0.2, 0.4, 0.2, 0.1], []
    for reward in (0.0, 1.0, 5.0):
        made, module = c51()
        module._target_af.logits.data[:] = torch.tensor(mass * 2).log()
        seen += projected(made, module, reward=reward)
    return seen, [*mass, 0, 0.1, 0.2, 0.4, 0.3, 0, 0, 0, 0, 1]


@row(34)
def log_clamp():
    """All mass is at the last of five atoms, p = 2e-9 there: the gradient of its logit is p - 1."""
    made, module = c51()
    module.af.logits.data[0, 4] = np.log(4 * 2e-9)
    update(made, transition(reward=2.0, end=True))
    return module.af.logits.grad[0, 4].item(), -1


@row(45)
def double_c51():
    """double_q=False. At state 1 the network prefers action 0, the target network action 1, worth 2: all mass there."""
    made, module = c51(double_q=False)
    module.af.logits.data[1, 4] = 30
    module._target_af.logits.data[1] = torch.tensor([30.0, 0, 0, 0, 0, 0, 0, 0, 0, 30])
    return projected(made, module, next_obs=1.0), [0, 0, 0, 0, 1]


@row(46)
def by_mean():
    """At state 1, action 0: 2 with 0.4, -2 with 0.6; action 1: 2 with 0.5, 1 with 0.5 less. The means say action 1."""
    made, module = c51()
    masses = torch.tensor([0.5, 1e-9, 1e-9, 1e-9, 0.5, 1e-9, 0.3, 0.3, 0.4, 1e-9])
    module.af.logits.data[1] = module._target_af.logits.data[1] = masses.log()
    return projected(made, module, next_obs=1.0), [0, 0.3, 0.3, 0.4, 0]


@row(48)
def dueling_atoms():
    """The mean of the logits over the actions, minus V, atom by atom. Advantages: 3, 0, 0 for action 0 and 0 for 1."""
    _, module = learner(readable=False, num_atoms=3, v_min=-1.0, v_max=1.0)
    for each in [*module.af.parameters(), *module.vf.parameters()]:
        each.data.zero_()
    list(module.af.parameters())[-1].data[0] = 3
    return module.compute_q_values({"obs": torch.zeros(1, 1)})["qf_logits"][0].mean(0).tolist(), [0, 0, 0]


not_applicable("noisy=True makes no noisy layer: row 70", 35, 49, 50, 51, 52)


@row(70, "noisy=True")
def noisy_flag():
    """Different Q-values of state 0 in five passes for exploration, and parameters more than without the flag."""
    modules = [learner(readable=False, noisy=noisy)[1] for noisy in (False, True)]
    plain, noisy = [sum(each.numel() for each in module.parameters()) for module in modules]
    batch, compute, seen = {"obs": torch.zeros(1, 1)}, modules[1].compute_q_values, []
    modules[1].compute_q_values = lambda batch: seen.append(compute(batch)) or seen[-1]
    for t in range(5):
        modules[1].forward_exploration(batch, t=t)
    different = len({each["qf_preds"].sum().item() for each in seen})
    return f"{different}, {noisy - plain} more", "5, some more", different == 1 and noisy == plain


def trained(seed):
    """The weights after 40 steps of the loop with updates."""
    algorithm = run(40, readable=False, seed=seed, num_steps_sampled_before_learning_starts=5)
    module = algorithm.learner_group._learner.module[POLICY]
    return torch.cat([each.detach().flatten() for each in module.af.parameters()])


@row(37)
def seeds():
    """config.debugging(seed=...): one seed twice gives equal weights, two seeds do not."""
    first = trained(1)
    same, other = torch.equal(first, trained(1)), torch.equal(first, trained(2))
    return f"{same}, {other}", "True, False", not same or other


@row(38)
def seeded_resets():
    """Resets of the environment after the first one that get a seed, in 12 steps."""
    seeds = training_env(run(12)).seeds
    return len([seed for seed in seeds[1:] if seed is not None]), 0


@row(71)
def one_step():
    """Every episode is one step with reward 1: of the first four, all are drawn, pay 1 and are terminal."""
    seen = stored(6, env={"length": 1})
    return [seen[first][0] + seen[first][2] for first in (100, 200, 300, 400)], [1 + 1] * 4


@row(71, "three steps, the default buffer")
def one_step_window():
    """Draws after which the buffer has no window yet: it has none to give, and draws on."""
    try:
        return drawn(fill(PrioritizedEpisodeReplayBuffer(capacity=9), episode(0, 1)), n_step=3, number=100)[0][0], 1
    except TimeoutError:
        return "none in 10,000 draws", "1", True


@row(72)
def looking():
    """Two greedy actions at state 1: the changes of weights and actions."""
    _, module = learner(readable=False)
    before = copy.deepcopy(module.state_dict())
    actions = [module.forward_inference({"obs": torch.ones(1, 1)})["actions"].item() for _ in range(2)]
    moved = max((value - before[key]).abs().max().item() for key, value in module.state_dict().items())
    return [moved, actions[1] - actions[0]], [0, 0]


def with_evaluations(number, **env):
    """40 steps with so many evaluations between. The algorithm, and the environment of training."""
    algorithm = run(0, env=env, evaluations=number)
    for _ in range(4):
        for _ in range(10):
            algorithm.train()
        if number:
            algorithm.evaluate()
    return algorithm, training_env(algorithm)


@row(73)
def seam():
    """An endless episode, one step a call, evaluations between: windows of two steps that do not end two states on."""
    algorithm, _ = with_evaluations(1, length=999)
    windows = drawn(algorithm.local_replay_buffer, n_step=2)
    return sum(last != first + 2 for first, (_, last, _) in windows.items()), 0


@row(75)
def evaluations():
    """First states, drawn by the environment, and actions of 40 steps, without and with two evaluations each 10."""
    without, with_two = (with_evaluations(number, chance=True)[1] for number in (0, 2))
    firsts, actions = without.firsts == with_two.firsts, without.actions == with_two.actions
    return f"{firsts}, {actions}", "True, True", not (firsts and actions)


if __name__ == "__main__":
    answer_all()
