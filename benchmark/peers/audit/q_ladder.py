"""Our own scripts, on the rows that the other programs answer."""

import contextlib
import io
import tempfile
from pathlib import Path
from unittest import mock

import gymnasium as gym
import numpy as np
import torch

import c51
import double_dqn
import dqn
import dqn_atari
import dueling_dqn
import n_step_dqn
import noisy_dqn
import per_dqn
import rainbow
from benchmark.peers.audit.rows import answer_all, not_applicable, row

GAMMA, CPU = 0.9, torch.device("cpu")
torch.manual_seed(1)


class Numbered(gym.Env):
    """Observation 1,000 * episode + t, from one array that is changed in place; episodes of `length` steps of reward 1,
    in turns terminated and truncated."""

    observation_space, action_space = gym.spaces.Box(0, np.inf, (1,), np.float32), gym.spaces.Discrete(2)

    def __init__(self, length=5):
        self.length, self.episode, self.number = length, -1, np.zeros(1, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1 if seed is None else 0, 0
        self.number[0] = 1000 * self.episode
        return self.number, {}

    def step(self, action):
        self.t += 1
        self.number += 1
        ends, odd = self.t == self.length, self.episode % 2 == 1
        return self.number, 1.0, ends and not odd, ends and odd, {}


gym.register("Numbered-v0", Numbered, disable_env_checker=True)


def trained(script=dqn, length=5, **flags):
    """A run of 40 steps: its buffer, when the target network moved, and how much it then shared with the online one."""
    small = {"total_timesteps": 40, "learning_starts": 4, "train_frequency": 1, "batch_size": 4, "buffer_size": 100}
    small |= {"hidden_sizes": (4,), "eval_frequency": 20, "eval_episodes": 1, "final_eval_episodes": 1}
    made, moves, shared, make, update = [], [], [], script.ReplayBuffer, script.update_target

    def buffer(*arguments):
        made.append(make(*arguments))
        return made[0]

    def watched(target, online, tau):
        moves.append(made[0].size)
        shared.append(len({p.data_ptr() for p in target.parameters()} & {p.data_ptr() for p in online.parameters()}))
        update(target, online, tau)

    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(script, "ReplayBuffer", buffer),
        mock.patch.object(script, "update_target", watched),
    ):
        flags = small | {"env_id": "Numbered-v0", "env_kwargs": (f"length={length}",)} | flags
        script.train(script.Args(**flags, runs_dir=Path(folder)))
    return made[0], moves, shared


def filled(script=dqn, capacity=10, added=25, **arguments):
    """Transition k leads from k to k + 1, pays 1 and is never an end."""
    more = [False] if script is n_step_dqn else []
    buffer = script.ReplayBuffer(capacity, 1, **arguments)
    for k in range(added):
        buffer.add(np.array([k]), k % 2, 1.0, np.array([k + 1]), False, *more)
    return buffer


def network(script, weight, bias, **flags):
    """Q(s, ·) = weight * s + bias of two actions."""
    made = script.QNetwork(1, 2, script.Args(hidden_sizes=(), **flags))
    made.load_state_dict({"output.weight": torch.tensor(weight).reshape(2, 1), "output.bias": torch.tensor(bias)})
    return made


def step(reward=1.0, terminated=False, size=1):
    """`size` equal transitions from state 1 to state 2 by action 0."""
    rows = [torch.ones(size, 1), torch.zeros(size, dtype=torch.int64), torch.full((size,), reward)]
    return dqn.Batch(*rows, torch.full((size, 1), 2.0), torch.full((size,), terminated))


def loss_of(target, batch, online=None, **flags):
    """compute_loss with Q(s, ·) = 0 and the given target network: the loss is y², the mean over the batch."""
    online = online or network(dqn, [0.0, 0.0], [0.0, 0.0])
    return dqn.compute_loss(online, target, batch, dqn.Args(gamma=GAMMA, **flags))[0]


@row(1)
def dueling_over_actions():
    """Q of one state alone, and in a batch with another one."""
    made = dueling_dqn.QNetwork(1, 2, dueling_dqn.Args())
    both = made(torch.tensor([[1.0], [5.0]]))[0]
    return made(torch.tensor([[1.0]]))[0].tolist(), both.tolist()


@row(2)
def dueling_less_the_mean_advantage():
    """The mean of Q over the actions is V."""
    made, obs = dueling_dqn.QNetwork(1, 2, dueling_dqn.Args()), torch.ones(1)
    x = obs
    for layer in made.hidden:
        x = torch.relu(layer(x))
    return made(obs).mean().item(), made.value(torch.relu(made.value_hidden(x))).item()


@row(3)
@row(4)
def double_chooses_online():
    """In s' the online network prefers action 0, worth 5 to the target network, whose own choice is worth 9."""
    one = torch.ones(1)
    y = double_dqn.td_target(torch.tensor([[2.0, 1.0]]), torch.tensor([[5.0, 9.0]]), one, one == 0, GAMMA)
    return y.item(), 1 + 0.9 * 5


@row(5)
def maximum_of_the_target_network():
    """max Q_target(2, ·) = 2; the online network's values are 100 higher in every state."""
    target, online = network(dqn, [1.0, 0.5], [0.0, 0.0]), network(dqn, [0.0, 0.0], [100.0, 100.0])
    return loss_of(target, step(), online).item(), (100 - (1 + 0.9 * 2)) ** 2


@row(6)
def no_alias():
    """Parameters that online and target network share, in every update of the target."""
    shared = trained(target_network_frequency=10)[2]
    return shared, [0, 0, 0, 0]


@row(7)
def target_updates_count_steps():
    """Every 10 environment steps after learning starts, whatever the updates between them (here one in 4 steps)."""
    return trained(target_network_frequency=10, train_frequency=4)[1], [10, 20, 30, 40]


@row(8)
def no_gradient_through_the_target():
    """The target network's gradients after backward()."""
    target = network(dqn, [1.0, 0.5], [0.0, 0.0])
    online = network(dqn, [0.0, 0.0], [0.0, 0.0])
    loss_of(target, step(), online).backward()
    return sum(parameter.grad is not None for parameter in target.parameters()), 0


@row(9)
def truncation():
    """A truncated step to state 2, where max Q = 2, is stored as not terminated: y = 1 + 0.9 * 2."""
    buffer, *_ = trained(total_timesteps=10)
    ends = torch.from_numpy(buffer.terminated[[4, 9]])
    y = dqn.td_target(torch.tensor([[2.0, 1.0]] * 2), torch.ones(2), ends, GAMMA)
    return y.tolist(), [1, 1 + 0.9 * 2]


@row(10)
def final_observation():
    """next_obs of the last step of episode 0 (terminated) and 1 (truncated), of an array that changes in place."""
    buffer, *_ = trained()
    return buffer.next_obs[[4, 9], 0].tolist(), [5, 1005]


@row(11)
@row(73)
def no_row_over_a_reset():
    """40 steps with an evaluation after 20: the rows are 0 to 4, 1000 to 1004, ..."""
    buffer, *_ = trained()
    return buffer.obs[:40, 0].tolist(), [1000 * episode + t for episode in range(8) for t in range(5)]


@row(12)
def shapes():
    """Of two rows with y = 2.8 the mean of the squares is 2.8², not a mean over a (2, 2) of differences."""
    batch = step(size=2)._replace(reward=torch.tensor([1.0, 3.0]))
    return loss_of(network(dqn, [1.0, 0.5], [0.0, 0.0]), batch).item(), (2.8**2 + 4.8**2) / 2


@row(13)
def huber_keeps_its_gradient():
    """The gradient of Huber's loss at δ = 1 and at δ = 5."""
    found = []
    for reward in (1.0, 5.0):
        online = network(dqn, [0.0, 0.0], [0.0, 0.0])
        loss_of(online, step(reward, terminated=True), online, loss="huber").backward()
        found.append(online.output.bias.grad[0].item())
    return found, [-1, -1]


@row(16)
def epsilon():
    """At step 0, a tenth, half and all of 1,000 steps from 1 to 0.1."""
    return [dqn.linear_schedule(1, 0.1, 1_000, t) for t in (0, 100, 500, 1_000, 2_000)], [1, 0.91, 0.55, 0.1, 0.1]


@row(17)
def first_and_last_are_drawn():
    """How often the oldest and the newest of ten are in 100,000 draws."""
    batch = filled(added=10).sample(100_000, np.random.default_rng(0), CPU)
    share = [(batch.obs == k).float().mean().item() for k in (0, 9)]
    return share, [0.1, 0.1], not np.allclose(share, 0.1, atol=0.005)


@row(18)
def the_buffer_copies():
    buffer, obs = dqn.ReplayBuffer(2, 1), np.array([3.0])
    buffer.add(obs, 0, 0.0, obs, False)
    obs[:] = 9
    return [buffer.obs[0, 0], buffer.next_obs[0, 0]], [3, 3]


@row(19)
def ring():
    return sorted(filled().obs[:, 0].tolist()), list(range(15, 25))


@row(20)
def priority():
    """|δ| = 4, α = 0.5, ε = 0.01."""
    buffer = filled(per_dqn, added=2, alpha=0.5, eps=0.01)
    buffer.update_priorities(np.array([0]), np.array([-4.0]))
    return buffer.tree.get(np.array([0])).item(), (4 + 0.01) ** 0.5


def weighted(weight):
    """The gradient by Q(s, 0) of two equal rows with Q = 0 and y = 2.8."""
    online = network(per_dqn, [0.0, 0.0], [0.0, 0.0])
    batch = per_dqn.Batch(*step(size=2), torch.tensor(weight))
    per_dqn.compute_loss(online, network(per_dqn, [1.0, 0.5], [0.0, 0.0]), batch, per_dqn.Args(gamma=GAMMA))[
        0
    ].backward()
    return online.output.bias.grad[0].item()


@row(14)
@row(15)
@row(21)
@row(74)
def weights_are_used():
    """Weights 1 and 0, 0 and 1/4, both halved: -2 * 2.8 / 2 times the sum of the weights."""
    found = [weighted(weight) for weight in ([1.0, 0.0], [0.0, 0.25], [0.5, 0.125])]
    return found, [-2.8, -2.8 / 4, -2.8 * 0.625]


@row(22)
def beta():
    """From 0.4 to 1 over 1,000 steps, and beyond."""
    return [per_dqn.linear_schedule(0.4, 1, 1_000, t) for t in (0, 500, 1_000, 2_000)], [0.4, 0.7, 1, 1]


@row(23)
def priorities_do_not_depend_on_the_weights():
    """δ = 2.8 of two rows with the weights 1 and 0.1."""
    batch, online = per_dqn.Batch(*step(size=2), torch.tensor([1.0, 0.1])), network(per_dqn, [0.0, 0.0], [0.0, 0.0])
    target = network(per_dqn, [1.0, 0.5], [0.0, 0.0])
    return per_dqn.compute_loss(online, target, batch, per_dqn.Args(gamma=GAMMA))[2].tolist(), [2.8, 2.8]


@row(24)
def new_rows_have_the_largest_priority():
    """After |δ| = 4 anywhere, a row that overwrites another one has it, too (α = 1, ε = 0)."""
    buffer = filled(per_dqn, added=10, alpha=1.0, eps=0.0)
    buffer.update_priorities(np.arange(10), np.array([4.0] + [0.5] * 9))
    buffer.add(np.array([10]), 0, 1.0, np.array([11]), False)
    return buffer.tree.get(np.array([0])).item(), 4


@row(25)
def the_tree_does_not_drift():
    tree, rng = per_dqn.SumTree(64), np.random.default_rng(0)
    for _ in range(20_000):
        tree.set_one(rng.integers(64), 10.0 ** rng.uniform(-4, 4))
    return tree.nodes[1].item(), tree.nodes[64:].sum().item()


@row(26)
def draws_follow_the_priorities():
    """Priorities 1, 3, 2, 2."""
    buffer = filled(per_dqn, capacity=4, added=4, alpha=1.0, eps=0.0)
    buffer.update_priorities(np.arange(4), np.array([1.0, 3.0, 2.0, 2.0]))
    _, i = buffer.sample(80_000, 1.0, np.random.default_rng(0), CPU)
    share = (np.bincount(i) / 80_000).tolist()
    return share, [1 / 8, 3 / 8, 2 / 8, 2 / 8], not np.allclose(share, [1 / 8, 3 / 8, 2 / 8, 2 / 8], atol=0.005)


@row(27)
def stacks_keep_to_their_game():
    """Games with the frames 1 to 5 and 101 to 105, in turns, in a ring of 16 rows: stacks with frames of two games."""
    buffer, mixed = dqn_atari.ReplayBuffer(16, 1, CPU), 0
    for k in range(40):
        game, t = divmod(k, 5)
        frame = np.full((1, 4, 84, 84), 100 * (game % 2) + t + 1, np.uint8)
        buffer.add(frame, np.zeros(1), np.zeros(1), np.zeros(1, bool), np.full(1, t == 4))
    batch = buffer.sample(1_000, np.random.default_rng(0), CPU)
    for stack in torch.cat([batch.obs, batch.next_obs])[:, :, 0, 0]:
        frames = stack[stack > 0]
        mixed += bool((frames > 100).any() and (frames <= 100).any())
    return mixed, 0


@row(28)
def terminal_steps_are_stored():
    """Ends among the first 10 rows: one terminated, the truncated one is not."""
    return np.flatnonzero(trained()[0].terminated[:10]).tolist(), [4]


def windows():
    """Steps 0, 1, 2 of an episode that terminates, then 3 and 4 of one that was cut off, n = 3."""
    buffer = n_step_dqn.ReplayBuffer(10, 1, 3, GAMMA)
    for k in range(5):
        buffer.add(np.array([k]), 0, 1.0, np.array([k + 1]), k == 2, k == 4)
    return n_step_dqn.look_ahead(np.arange(5), 3, GAMMA, buffer.reward, buffer.ended, 4)


@row(29)
@row(30)
def windows_end_with_their_episode():
    """The sums of rewards from each of the five steps: every step begins a window."""
    return windows()[0].tolist(), [1 + 0.9 + 0.81, 1 + 0.9, 1, 1 + 0.9, 1]


@row(31)
def discount_of_short_windows():
    return windows()[1].tolist(), [0.9**3, 0.9**2, 0.9, 0.9**2, 0.9]


@row(32)
def windows_end_at_the_newest_step():
    """A ring of 10 after 25 steps, whose newest is 24: windows from 22, 23, 24 have 3, 2, 1 steps."""
    buffer = filled(n_step_dqn, n_step=3, gamma=GAMMA)
    start = [int(np.flatnonzero(buffer.obs[:, 0] == k)[0]) for k in (22, 23, 24)]
    found = n_step_dqn.look_ahead(np.array(start), 3, GAMMA, buffer.reward, buffer.ended, (buffer.position - 1) % 10)
    return found[0].tolist(), [1 + 0.9 + 0.81, 1 + 0.9, 1]


@row(33)
def projection():
    """All probability on the values 0, 10 and 13, of the atoms 0, 10, 20."""
    values, p = torch.tensor([[0.0, 10.0, 13.0]]), torch.tensor([[0.25, 0.25, 0.5]])
    return c51.project(values, p, torch.tensor([0.0, 10.0, 20.0]))[0].tolist(), [0.25, 0.25 + 0.35, 0.15]


@row(34)
def gradient_of_a_tiny_probability():
    """Logits 0 and 20: the first atom has 2e-9, and all of the target: the gradient is p - 1."""
    made = network_of_atoms()
    with torch.no_grad():
        made.output.bias.copy_(torch.tensor([0.0, 20.0, 0.0, 0.0]))
    args = c51.Args(hidden_sizes=(), v_min=0.0, v_max=1.0, n_atoms=2, gamma=GAMMA)
    c51.compute_loss(made, made, step(reward=0.0, terminated=True), args)[0].backward()
    return made.output.bias.grad[0].item(), -1


def network_of_atoms():
    """Two actions with the atoms 0 and 1 and no weights."""
    made = c51.QNetwork(1, 2, c51.Args(hidden_sizes=(), v_min=0.0, v_max=1.0, n_atoms=2))
    for parameter in made.parameters():
        parameter.data.zero_()
    return made


@row(35)
def rank_of_the_noise():
    layer = noisy_dqn.NoisyLinear(5, 5, 0.5)
    layer.resample_noise()
    return torch.linalg.matrix_rank(layer.noise_weight).item(), 1


@row(37)
def one_seed_twice():
    """The first weights of seeds 1, 1 and 2: as many different ones."""
    found = set()
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.add(dqn.QNetwork(1, 2, dqn.Args()).output.weight[0, 0].item())
    return len(found), 2


@row(38)
def episodes_begin_differently():
    """Different first observations among the episodes of 40 steps of CartPole."""
    buffer = trained(env_id="CartPole-v1", env_kwargs=(), max_episode_steps=5)[0]
    return len(set(buffer.obs[0:40:5, 0].tolist())), 8


not_applicable("dqn.py clips no rewards; dqn_atari.py has a test", 39)


@row(41)
def pixels_are_divided_once():
    """Pixels 0, 51 and 255."""
    space = gym.spaces.Box(0, 255, (3,), np.uint8)
    return (np.array([0, 51, 255]) / dqn.pixel_scale(space)).tolist(), [0, 0.2, 1]


@row(43)
def observation_of_the_start():
    """Observation, action and reward of windows of three steps that begin at step k."""
    batch = filled(n_step_dqn, capacity=10, added=10, n_step=3, gamma=GAMMA).sample(50, np.random.default_rng(0), CPU)
    k = batch.obs[:, 0]
    return torch.stack([batch.action.float(), batch.next_obs[:, 0]]).flatten().tolist(), [
        *(k % 2).tolist(),
        *(k + 3).clamp(max=10).tolist(),
    ]


@row(44)
def one_step_is_dqn():
    """Rewards and discounts of windows of one step."""
    batch = filled(n_step_dqn, n_step=1, gamma=GAMMA).sample(5, np.random.default_rng(0), CPU)
    return [*batch.reward.tolist(), *batch.discount.tolist()], [1] * 5 + [GAMMA] * 5


@row(45)
@row(46)
def next_action_of_c51():
    """Atoms 0, 10, 20: action 0 has 20 with 0.4, mean 8; action 1 has 10 with 0.7, mean 7. y's mean is 0.9 * 8."""
    p = torch.tensor([[[0.6, 1e-9, 0.4], [0.3, 0.7, 1e-9]]])
    atoms = torch.tensor([0.0, 10.0, 20.0])
    values, next_p = c51.td_target(p.log(), torch.zeros(1), torch.tensor([False]), atoms, GAMMA)
    return (values * next_p).sum().item(), 0.9 * 8


@row(47)
def too_narrow_a_support_is_logged():
    """All of the target beyond the last atom, 1: a reward of 5."""
    args = c51.Args(hidden_sizes=(), v_min=0.0, v_max=1.0, n_atoms=2, gamma=GAMMA)
    made = network_of_atoms()
    return c51.compute_loss(made, made, step(reward=5.0), args)[2].item(), 1


@row(48)
def dueling_with_atoms():
    """Q of one state alone, and in a batch with another one, without noise."""
    made = rainbow.QNetwork(1, 2, rainbow.Args()).eval()
    q = made(torch.tensor([[1.0], [5.0]]))[0].flatten()
    return made(torch.tensor([[1.0]]))[0].flatten().tolist()[:4], q.tolist()[:4]


@row(50)
def noises_of_two_networks():
    """Of 8 inputs and 8 units: noises of a hidden layer that are equal in the online and the target network."""
    made = [noisy_dqn.QNetwork(8, 8, noisy_dqn.Args(hidden_sizes=(8,))) for _ in range(2)]
    for each in made:
        each.resample_noise()
    return int((made[0].hidden[0].noise_weight == made[1].hidden[0].noise_weight).sum()), 0


def noisy():
    return noisy_dqn.QNetwork(4, 2, noisy_dqn.Args(hidden_sizes=(8,)))


@row(49)
@row(51, "while acting")
def noise_is_drawn_anew():
    """Different values of one state under 5 noises, as in 5 steps or updates."""
    made, seen = noisy(), set()
    for _ in range(5):
        made.resample_noise()
        seen.add(made(torch.ones(4))[0].item())
    return len(seen), 5


@row(51, "in evaluation")
@row(72)
def evaluation_has_no_noise():
    """Different values of one state in eval mode, of 5 looks with a new noise before each."""
    made, seen = noisy().eval(), set()
    for _ in range(5):
        made.resample_noise()
        seen.add(made(torch.ones(4))[0].item())
    return len(seen), 1


@row(52)
def first_sigma():
    """σ₀ = 0.5 and 16 inputs, weight and bias."""
    layer = noisy_dqn.NoisyLinear(16, 4, 0.5)
    return [layer.sigma_weight[0, 0].item(), layer.sigma_bias[0].item()], [0.5 / 4, 0.5 / 4]


@row(71)
def episodes_of_one_step():
    """Rows of 40 episodes of one step, and the ends among them (every second one is truncated)."""
    buffer, *_ = trained(length=1)
    return [buffer.size, int(buffer.terminated.sum())], [40, 20]


@row(70)
def episodes_of_an_evaluation_differ():
    """Returns of 10 episodes of CartPole under a policy that always pushes to the left, with at least two lengths."""
    args = dqn.Args()
    returns = dqn.evaluate(dqn.make_env(args), lambda obs: np.array([1.0, 0.0]), args, 10)[1]
    return f"{len(set(returns))} different returns", "2 or more", len(set(returns)) < 2


@row(63)
@row(75)
def evaluations_do_not_rewind():
    """The actions of two runs, with an evaluation every 5 steps and with one."""
    often, seldom = (trained(eval_frequency=n)[0].action[:40].tolist() for n in (5, 40))
    return often, seldom


if __name__ == "__main__":
    answer_all()
