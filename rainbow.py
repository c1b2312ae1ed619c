"""Rainbow: six ideas that each improve DQN, in one agent.

Each idea has a file of its own here, where it is explained; this file puts them together.

    Double (double_dqn.py)     the online network chooses a', the target network says what it is worth
    Dueling (dueling_dqn.py)   a stream for the state's value and one for the advantages of its actions
    Replay (per_dqn.py)        what surprised more is drawn more often, and importance weights correct for it
    N-step (n_step_dqn.py)     the target has n rewards before the network takes over
    Noise (noisy_dqn.py)       noise on the weights explores in place of ε
    C51 (c51.py)               the distribution of the return on N atoms, not its mean alone

What meets what, with k <= n the steps of a window:

    a* = argmax_a' Σ_i z_i p_i(s_k, a'; θ, ε'')               Double: chosen by the online network
    Z  = r_1 + γ r_2 + ... + γ^(k-1) r_k + γ^k z_i  with p_i(s_k, a*; θ_target, ε')        n-step, C51
    loss = w × cross-entropy of the projected Z and p(s, a; θ, ε)                          C51, replay

Hessel et al. (2018), "Rainbow: Combining improvements in deep reinforcement learning", AAAI, equation 3 and section
"The integrated agent". Their choices, and where this file has another one:

- A transition's priority is the Kullback-Leibler divergence of target and prediction, because that is what the loss
  makes small. It is the cross-entropy less the target's own entropy, which no learning can remove. α is 0.5 as there.
- ε, ε' and ε'' are drawn on their own for each update. (The paper does not say so; Fortunato et al., whose layers these
  are, draw three where the online network is asked for a* too.)
- The streams: logits of V and of A are added up, less the mean of A over actions, for each atom on its own; a softmax
  over the atoms follows. Both streams share all but the last hidden layer. Every layer has noise; in the paper it is
  every fully connected one, behind convolutions that have none.
- β grows from 0.4 to 1 over the run, ε-greedy is off (--start-e and --end-e are 0), n is 3: the paper's. Learning rate,
  batch and target network are dqn.py's, so that the files can be compared; the support is c51.py's.

There are no switches that leave an idea out: what one does by itself is what its own file shows.

Changed from dqn.py: `NoisyLinear`, `draw_noise`, `SumTree`, `look_ahead`, `project`, `clipped_mass` and `td_loss` are
the other files' text; `QNetwork`, `Batch`, `ReplayBuffer`, `td_target`, `backpropagate` and `train` put them together.

    python rainbow.py --env-id CartPole-v1
    python rainbow.py --env-id LunarLander-v3 --v-min -300 --v-max 300
"""

import ast
import importlib.util
import io
import json
import math
import os
import platform
import random
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import dropwhile, pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_origin, get_type_hints

import gymnasium as gym
import numpy as np
import psutil
import torch
import torch.nn as nn
import torch.nn.functional as F
import tyro
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

Count = Annotated[int, 1, math.inf]  # types with their ranges
Limit = Annotated[int | None, 1, math.inf]
Share = Annotated[float, 0, 1]
PositiveShare = Annotated[float, 1e-12, 1]
Positive = Annotated[float, 1e-12, math.inf]


@dataclass
class Args:
    exp_name: str = Path(__file__).stem  # name of the experiment, a part of the run folder's name
    seed: Annotated[int, 0, 2**31] = 1  # seed of weights, exploration, replay and environment
    cuda: bool = False  # learn on the GPU (a network as small as the default one is faster on the CPU)
    compile: bool = False  # compute loss and gradient with torch.compile: slow to start, then faster
    track: bool = False  # log to Weights & Biases too, not to TensorBoard alone
    wandb_project_name: str = "qladder"  # project in Weights & Biases
    wandb_entity: str | None = None  # team in Weights & Biases
    wandb_mode: Literal["online", "offline", "disabled"] | None = None  # offline: `wandb sync` later (None: WANDB_MODE)
    capture_video: bool = False  # record 1,000 frames of every evaluation's first episode, in videos/
    save_model: bool = False  # keep the last weights (model.pt), however the run ends, and the best (best_model.pt)
    evaluate: Path | None = None  # only play: a run's folder or weights, with the arguments in its args.json
    runs_dir: Path = Path("runs")  # where the run folder is made

    env_id: str = "CartPole-v1"  # Gymnasium id, or module:id if importing the module registers it
    env_kwargs: tuple[str, ...] = ()  # arguments of the environment, as is_slippery=False map_name=8x8
    max_episode_steps: Limit = None  # truncate episodes after so many steps (default: the limit of env-id, or 10,000)
    action_bins: Annotated[int, 2, math.inf] = 11  # values into which a one-dimensional continuous action is divided
    total_timesteps: Count = 100_000  # environment steps to train for
    learning_rate: Positive = 1e-2  # step size of Adam
    anneal_lr: bool = True  # let the learning rate fall linearly to 0 over the run
    hidden_sizes: Annotated[tuple[int, ...], 1, 10_000] = (64, 64)  # units of each hidden layer
    buffer_size: Annotated[int, 1, 10**12] = 100_000  # transitions kept in the replay buffer
    gamma: Share = 0.99  # discount factor γ
    tau: PositiveShare = 0.015  # fraction of the way to the online network in a target update (1: a copy)
    target_network_frequency: Count = 4  # environment steps between target updates (many for copies, --tau 1)
    batch_size: Count = 512  # transitions in an update
    start_e: Share = 0.0  # ε, the probability of a random action, at the start (0: the noise explores)
    end_e: Share = 0.0  # ε at the end
    exploration_fraction: PositiveShare = 0.25  # fraction of total-timesteps in which ε falls
    train_frequency: Count = 4  # environment steps between updates
    learning_starts: Annotated[int, 0, math.inf] = 2_000  # environment steps before the first update
    n_atoms: Annotated[int, 2, 10_000] = 51  # N, values of which the network learns the probabilities
    v_min: Annotated[float, -1e9, 1e9] = 0.0  # least discounted return, the first atom (not the least reward)
    v_max: Annotated[float, -1e9, 1e9] = 100.0  # largest discounted return, the last atom; r_max / (1 - γ) always is
    n_step: Annotated[int, 1, 10_000] = 3  # n, the rewards in a target
    noisy_std: Positive = 0.5  # σ₀: at the start a layer has the noise σ = σ₀ / √inputs
    prioritized_replay_alpha: Annotated[float, 0, math.inf] = 0.5  # α, how much priorities count (0: uniform replay)
    prioritized_replay_beta: Share = 0.4  # β, how much of the bias the weights correct, at the start; 1 at the end
    prioritized_replay_eps: Positive = 1e-6  # ε in priorities, so that what has no error is still drawn
    max_grad_norm: Positive = math.inf  # longer gradients are scaled down to this norm (inf: never)
    eval_frequency: Count = 10_000  # environment steps between greedy evaluations
    eval_episodes: Count = 20  # episodes in an evaluation


class NoisyLinear(nn.Linear):
    """A linear layer with noise on weight and bias: (B, inputs) -> (B, outputs).

    nn.Linear's weight and bias are μ; their first values, uniform between ±1/√inputs, are the paper's too. noise is
    what draw_noise gives, f(ε_i) of the inputs and then f(ε_j) of the outputs, (inputs + outputs,); None is no noise.
    """

    def __init__(self, inputs: int, outputs: int, noisy_std: float):
        super().__init__(inputs, outputs)
        sigma = noisy_std / math.sqrt(inputs)
        self.sigma_weight = nn.Parameter(torch.full((outputs, inputs), sigma))
        self.sigma_bias = nn.Parameter(torch.full((outputs,), sigma))

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        if noise is None:
            return super().forward(x)
        noise_in, noise_out = noise.split([self.in_features, self.out_features])
        weight = self.weight + self.sigma_weight * noise_out.outer(noise_in)  # (outputs, inputs)
        return F.linear(x, weight, self.bias + self.sigma_bias * noise_out)


def draw_noise(shape: int | tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """f(ε) = sgn(ε) √|ε| of standard normal ε, float32."""
    epsilon = rng.standard_normal(shape, np.float32)
    return np.copysign(np.sqrt(np.abs(epsilon)), epsilon)


class QNetwork(nn.Module):
    """Logits of the probabilities p(s, ·) of a batch of observations: (B, obs_dim) -> (B, num_actions, n_atoms).

    Noise is an argument, (noise_size,), one part after the other for each layer; None is no noise. Half of the last
    hidden layer's units belong to each stream.
    """

    def __init__(self, obs_dim: int, num_actions: int, args: Args):
        super().__init__()
        if not args.hidden_sizes:
            raise BadInput("--hidden-sizes must have a layer for the two streams to share out")
        sizes, half = [obs_dim, *args.hidden_sizes[:-1]], math.ceil(args.hidden_sizes[-1] / 2)
        pairs = [*pairwise(sizes), (sizes[-1], half), (half, args.n_atoms), (sizes[-1], half)]
        pairs.append((half, num_actions * args.n_atoms))
        self.layers = nn.ModuleList(NoisyLinear(inputs, outputs, args.noisy_std) for inputs, outputs in pairs)
        ends = np.cumsum([0, *(inputs + outputs for inputs, outputs in pairs)]).tolist()
        self.parts, self.noise_size = [slice(*ends) for ends in pairwise(ends)], ends[-1]
        self.register_buffer("atoms", torch.linspace(args.v_min, args.v_max, args.n_atoms))  # saved with the weights
        if not (self.atoms.diff() > 0).all():
            raise BadInput(f"--v-min must be below --v-max, which {args.v_min:g} and {args.v_max:g} are not")

    def noise_of_layers(self, noise: torch.Tensor | np.ndarray | None) -> list:
        """Each layer's part of the noise."""
        return [None if noise is None else noise[part] for part in self.parts]

    def forward(self, obs: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        pairs = zip(self.layers, self.noise_of_layers(noise), strict=True)
        *shared, value_1, value_2, advantage_1, advantage_2 = [partial(layer, noise=part) for layer, part in pairs]
        x = obs
        for layer in shared:
            x = F.relu(layer(x))
        value = value_2(F.relu(value_1(x)))  # (B, n_atoms)
        advantage = advantage_2(F.relu(advantage_1(x)))  # (B, num_actions * n_atoms)
        value, advantage = value.unsqueeze(1), advantage.unflatten(1, (-1, len(self.atoms)))
        return value + advantage - advantage.mean(dim=1, keepdim=True)  # the mean over actions

    def as_numpy_function(self) -> Callable[..., np.ndarray]:
        """Q(s, ·), the means, of one observation, (obs_dim,) -> (num_actions,): to act, several times faster."""
        parameters = [p.detach().cpu().numpy() for p in self.parameters()]  # views, so up to date; from a GPU copies
        layers, atoms = list(zip(*(parameters[i::4] for i in range(4)), strict=True)), self.atoms.cpu().numpy()

        def linear(layer: tuple[np.ndarray, ...], noise: np.ndarray | None, x: np.ndarray) -> np.ndarray:
            weight, bias, sigma_weight, sigma_bias = layer
            y = weight @ x + bias
            if noise is None:
                return y
            noise_in, noise_out = noise[: len(x)], noise[len(x) :]
            # No matrix of noise need be made: (σ ⊙ out inᵀ) x = out ⊙ σ (in ⊙ x).
            return y + noise_out * (sigma_weight @ (noise_in * x) + sigma_bias)

        def q_values(x: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
            pairs = zip(layers, self.noise_of_layers(noise), strict=True)
            *shared, value_1, value_2, advantage_1, advantage_2 = [
                partial(linear, layer, part) for layer, part in pairs
            ]
            for layer in shared:
                x = np.maximum(layer(x), 0)
            value = value_2(np.maximum(value_1(x), 0))  # (n_atoms,)
            advantage = advantage_2(np.maximum(advantage_1(x), 0)).reshape(-1, len(atoms))  # (num_actions, n_atoms)
            logits = value + advantage - advantage.mean(axis=0)
            p = np.exp(logits - logits.max(axis=1, keepdims=True))  # the largest is 1: nothing overflows
            return p @ atoms / p.sum(axis=1)

        return q_values


class Batch(NamedTuple):
    """B windows of k <= n steps; obs and action are those of the first step, next_obs and terminated of the last.

    Not "done" but `terminated`: an episode cut off by a time limit would have gone on.
    """

    obs: torch.Tensor  # (B, obs_dim) float32
    action: torch.Tensor  # (B,) int64
    reward: torch.Tensor  # (B,) float32, r_1 + γ r_2 + ... + γ^(k-1) r_k
    next_obs: torch.Tensor  # (B, obs_dim) float32
    terminated: torch.Tensor  # (B,) bool
    discount: torch.Tensor  # (B,) float32, γ^k
    weight: torch.Tensor  # (B,) float32, the importance weight


class SumTree:
    """Values v_0, v_1, ... of which number i is found with probability v_i / Σ v, in log2(capacity) steps.

    A binary tree in one array: node 1 is the root, the children of node k are 2k and 2k + 1. The last level holds the
    values, every other node the sum of its two children. With four values 1, 2, 3, 4:

              [1] 10
          [2] 3       [3] 7           nodes = [-, 10, 3, 7, 1, 2, 3, 4]
        [4] 1 [5] 2 [6] 3 [7] 4

    To draw, throw u in [0, 10), say 5.5, and walk down. The left child of [1] has 3: u lies beyond, so go right, with
    5.5 - 3 = 2.5 left. The left child of [3] has 3: u lies within, so go left, to [6], which is v_2. Every u from 3 to
    6 ends there: 3 of 10. To change a value, change the sums above it, log2(capacity) of them.
    """

    def __init__(self, capacity: int):
        self.depth = (capacity - 1).bit_length()
        self.first_leaf = 2**self.depth
        self.nodes = np.zeros(2 * self.first_leaf)  # float64: float32 sums of a million values would drift

    def set_one(self, i: int, value: float) -> None:
        """v_i ← value, several times faster than `set` with one element."""
        node = i + self.first_leaf
        change = value - self.nodes[node]
        self.nodes[node] = value
        while node > 1:
            node //= 2
            self.nodes[node] += change

    def set(self, i: np.ndarray, value: np.ndarray) -> None:
        """v_i ← value for many i at once, both (B,); where i repeats, the last one counts."""
        node = i + self.first_leaf
        self.nodes[node] = value
        for _ in range(self.depth):
            node = node // 2
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def get(self, i: np.ndarray) -> np.ndarray:
        """v_i, (B,)."""
        return self.nodes[i + self.first_leaf]

    def find(self, u: np.ndarray) -> np.ndarray:
        """The i with v_0 + ... + v_(i-1) <= u < v_0 + ... + v_i, both (B,)."""
        node = np.ones(len(u), np.int64)
        for _ in range(self.depth):
            node = 2 * node
            left = self.nodes[node]
            go_right = u >= left
            u = u - left * go_right
            node = node + go_right
        return node - self.first_leaf


def look_ahead(start: np.ndarray, n_step: int, gamma: float, reward: np.ndarray, ended: np.ndarray, newest: int):
    """The windows from the places `start` (B,) of a ring: r_1 + γ r_2 + ... + γ^(k-1) r_k, γ^k, place of step k; (B,).

    `reward` and `ended` (capacity,) are of the whole ring, `newest` is the place of the last step added. A window has n
    steps, or ends with the first that ended its episode or is the newest: behind that one comes the oldest of all.
    """
    t = np.arange(n_step)
    place = (start[:, None] + t) % len(reward)  # (B, n)
    ends = ended.take(place) | (place == newest)  # (B, n)
    ends[:, -1] = True
    last = ends.argmax(axis=1)  # (B,), the t of the first True: k = last + 1
    weight = gamma**t * (t <= last[:, None])  # (B, n), γ^t within the window and 0 behind it
    n_step_return = (weight * reward.take(place)).sum(axis=1)
    discount = gamma ** (last + 1)
    return n_step_return.astype(np.float32), discount.astype(np.float32), place[np.arange(len(start)), last]


class ReplayBuffer:
    """The last `capacity` transitions: a ring of arrays in which the newest overwrites the oldest.

    Transition i begins a window, and is drawn in proportion to the tree's v_i = p_i^α, where p_i is its divergence, as
    it was in its last update, plus ε.
    """

    def __init__(self, capacity: int, obs_dim: int, args: Args):
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.action = np.zeros(capacity, np.int64)
        self.reward = np.zeros(capacity, np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), np.float32)
        self.terminated = np.zeros(capacity, np.bool_)
        self.ended = np.zeros(capacity, np.bool_)  # terminated or truncated
        self.capacity, self.size, self.position = capacity, 0, 0
        self.n_step, self.gamma = args.n_step, args.gamma
        self.alpha, self.eps = args.prioritized_replay_alpha, args.prioritized_replay_eps
        self.tree = SumTree(capacity)
        self.max_priority = 1.0  # the largest p_i so far

    def add(self, obs, action, reward, next_obs, terminated, truncated) -> None:
        """Copies in one transition; next_obs is what the step returned, not what a reset returned after it."""
        i = self.position
        self.obs[i], self.action[i], self.reward[i] = obs, action, reward
        self.next_obs[i], self.terminated[i] = next_obs, terminated
        self.ended[i] = terminated or truncated
        self.position = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)
        self.tree.set_one(i, self.max_priority**self.alpha)

    def sample(self, batch_size: int, beta: float, rng: np.random.Generator, device: torch.device):
        """Draws a Batch by priority, one window from each of B equal parts of the sum, and their places i (B,)."""
        total = self.tree.nodes[1]
        u = (np.arange(batch_size) + rng.random(batch_size)) * (total / batch_size)
        i = np.minimum(self.tree.find(u), self.size - 1)  # rounding could lead one past the last
        weight = (self.size * self.tree.get(i) / total) ** -beta
        weight = (weight / weight.max()).astype(np.float32)
        newest = (self.position - 1) % self.capacity
        reward, discount, last = look_ahead(i, self.n_step, self.gamma, self.reward, self.ended, newest)
        obs, action = self.obs.take(i, axis=0), self.action.take(i)
        next_obs, terminated = self.next_obs.take(last, axis=0), self.terminated.take(last)
        rows = (obs, action, reward, next_obs, terminated, discount, weight)
        return Batch(*(torch.from_numpy(row).to(device) for row in rows)), i

    def update_priorities(self, i: np.ndarray, divergence: np.ndarray) -> None:
        """Takes over the new divergences of the transitions i, both (B,)."""
        priority = divergence.astype(np.float64) + self.eps
        self.max_priority = max(self.max_priority, priority.max())
        self.tree.set(i, priority**self.alpha)


def linear_schedule(start_e: float, end_e: float, duration: float, t: int) -> float:
    """The value after t environment steps: from start_e to end_e in `duration` steps, and constant from then on."""
    return start_e + (end_e - start_e) * min(t / duration, 1.0)


def td_target(
    online_next_logits: torch.Tensor,
    next_logits: torch.Tensor,
    reward: torch.Tensor,
    terminated: torch.Tensor,
    discount: torch.Tensor,
    atoms: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The distribution of r_1 + ... + γ^(k-1) r_k + γ^k Z_target(s_k, a*): values and probabilities, (B, n_atoms).

    The logits are both networks' in s_k, (B, num_actions, n_atoms); the online one's choose a*. atoms is (n_atoms,).
    The others are (B,): reward, the sum of the k, discount, γ^k, and terminated, where the last term is missing.
    """
    best_action = (online_next_logits.softmax(dim=2) @ atoms).argmax(dim=1)  # a*, (B,): the largest mean
    next_logits = next_logits.take_along_dim(best_action.view(-1, 1, 1), dim=1).squeeze(1)  # (B, n_atoms)
    values = reward.unsqueeze(1) + (discount * ~terminated).unsqueeze(1) * atoms
    return values, next_logits.softmax(dim=1)


def project(values: torch.Tensor, p: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    """Moves the probabilities p of the values, both (B, n_atoms), to the evenly spaced atoms (n_atoms,): (B, n_atoms).

    A value between two atoms gives them shares that keep its mean: with atoms 0, 10, 20, a value of 13 gives 0.7 of its
    probability to 10 and 0.3 to 20. One beyond an edge gives all to the edge.
    """
    delta_z = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    position = ((values - atoms[0]) / delta_z).clamp(0, len(atoms) - 1)  # 0 on the first atom, 1 on the second, ...
    lower = position.floor().clamp(max=len(atoms) - 2)  # the last atom is the upper one of the pair before it
    fraction = position - lower  # 0: all to the lower atom, 1: all to the one above
    lower = lower.long()
    m = torch.zeros_like(p).scatter_add(1, lower, p * (1 - fraction))
    return m.scatter_add(1, lower + 1, p * fraction)


def clipped_mass(values: torch.Tensor, p: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    """The probability of values outside the support, by more than rounding, in the mean over the batch: ()."""
    margin = 0.01 * (atoms[1] - atoms[0])
    outside = (values < atoms[0] - margin) | (values > atoms[-1] + margin)
    return (p * outside).sum(dim=1).mean()


def td_loss(logits_taken: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """The cross-entropy -Σ_i m_i log p_i(s, a) of each transition, (B,); both arguments are (B, n_atoms)."""
    assert logits_taken.shape == m.shape
    return -(m * F.log_softmax(logits_taken, dim=1)).sum(dim=1)  # log of softmax would be log(0) for the smallest p


def backpropagate(q_network: QNetwork, target_network: QNetwork, batch: Batch, noise: torch.Tensor, args: Args):
    """Puts the gradient of the weighted loss into the parameters' .grad; returns that loss (), Q(s, a) (B,), the
    divergences (B,), and the share of the target's probability outside the support ().

    noise is (3, noise_size): ε of the prediction, ε' of the target, ε'' of the choice of a*.
    """
    atoms = q_network.atoms  # (n_atoms,)
    with torch.no_grad():  # the target counts as a constant
        next_logits = target_network(batch.next_obs, noise[1])  # (B, num_actions, n_atoms)
        online_next_logits = q_network(batch.next_obs, noise[2])  # (B, num_actions, n_atoms)
        rest = (batch.reward, batch.terminated, batch.discount, atoms)
        values, next_p = td_target(online_next_logits, next_logits, *rest)  # (B, n_atoms) each
        m = project(values, next_p, atoms)  # (B, n_atoms)
        entropy = -torch.xlogy(m, m).sum(dim=1)  # (B,), with 0 log 0 = 0
    logits = q_network(batch.obs, noise[0])  # (B, num_actions, n_atoms)
    logits_taken = logits.take_along_dim(batch.action.view(-1, 1, 1), dim=1).squeeze(1)  # (B, n_atoms)
    cross_entropy = td_loss(logits_taken, m)  # (B,)
    loss = (batch.weight * cross_entropy).mean()
    loss.backward()
    q_taken = logits_taken.detach().softmax(dim=1) @ atoms  # (B,)
    divergence = (cross_entropy.detach() - entropy).clamp(min=0)  # never negative but for rounding
    return loss.detach(), q_taken, divergence, clipped_mass(values, next_p, atoms)


@torch.no_grad()
def update_target(target_network: QNetwork, q_network: QNetwork, tau: float) -> None:
    """θ_target ← τ θ + (1 - τ) θ_target, in place."""
    for target_parameter, parameter in zip(target_network.parameters(), q_network.parameters(), strict=True):
        target_parameter.lerp_(parameter, tau)


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises BadInput, FloatingPointError, OSError."""
    check(args)
    random.seed(args.seed)  # some environments draw from the generators that Python and NumPy share out
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    device = torch.device("cuda" if args.cuda else "cpu")

    env = make_env(args)
    obs_dim, num_actions = env.observation_space.shape[0], int(env.action_space.n)
    check_memory(args.buffer_size * (8 * obs_dim + 14 + 32))
    buffer = ReplayBuffer(args.buffer_size, obs_dim, args)
    q_network = QNetwork(obs_dim, num_actions, args).to(device)
    target_network = QNetwork(obs_dim, num_actions, args).to(device)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate, fused=True)
    compute_gradient = compiled(backpropagate, args.cuda) if args.compile else backpropagate
    q_values = q_network.as_numpy_function()

    run_dir = make_run_dir(args)
    exploration_steps = args.exploration_fraction * args.total_timesteps
    with closing(env), open_log(args, run_dir) as log, ExitStack() as at_exit:
        at_exit.callback(save_weights, args, q_network, run_dir / "model.pt")
        rewards, updates, best_return, start_time = [], 0, -math.inf, time.time()
        clipped_masses, warned = [], False  # since the last evaluation
        obs, _ = env.reset(seed=args.seed)
        progress = tqdm(range(1, args.total_timesteps + 1), unit="step", disable=None)
        for global_step in progress:
            # Act: at random with probability ε, else greedily under new noise.
            epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step - 1)
            noise = draw_noise(q_network.noise_size, rng)
            action = rng.integers(num_actions) if rng.random() < epsilon else q_values(obs, noise).argmax()
            next_obs, reward, terminated, truncated, _ = env.step(action)
            buffer.add(obs, action, reward, next_obs, terminated, truncated)
            obs = next_obs
            rewards.append(reward)
            if terminated or truncated:
                log({"charts/episodic_return": sum(rewards), "charts/episodic_length": len(rewards)}, global_step)
                progress.set_postfix({"return": sum(rewards), "ε": epsilon}, refresh=False)
                obs, _ = env.reset()
                rewards.clear()

            # Learn.
            if global_step > args.learning_starts and global_step % args.train_frequency == 0:
                remaining = 1 - (global_step - 1) / args.total_timesteps if args.anneal_lr else 1.0
                optimizer.param_groups[0]["lr"] = args.learning_rate * remaining
                beta = linear_schedule(args.prioritized_replay_beta, 1.0, args.total_timesteps, global_step)
                batch, i = buffer.sample(args.batch_size, beta, rng, device)
                noise = torch.from_numpy(draw_noise((3, q_network.noise_size), rng)).to(device)
                optimizer.zero_grad()
                loss, q_taken, divergence, clipped = compute_gradient(q_network, target_network, batch, noise, args)
                if args.max_grad_norm < math.inf:
                    nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
                optimizer.step()
                buffer.update_priorities(i, divergence.cpu().numpy())
                updates += 1
                if args.cuda:
                    q_values = q_network.as_numpy_function()
            if global_step > args.learning_starts and global_step % args.target_network_frequency == 0:
                update_target(target_network, q_network, args.tau)

            # Report.
            if global_step % 100 == 0 and updates > 0:
                losses = {"losses/td_loss": loss.item(), "losses/q_values": q_taken.mean().item()}
                more = {"losses/clipped_mass": clipped.item(), "charts/beta": beta}
                clipped_masses.append(clipped.item())
                sps = global_step / (time.time() - start_time)
                log({**losses, **more, "charts/epsilon": epsilon, "charts/SPS": sps}, global_step)
            if global_step % args.eval_frequency == 0 or global_step == args.total_timesteps:
                save_weights(args, q_network, run_dir / "model.pt")
                if global_step == args.total_timesteps:
                    env.close()  # of some environments there can be only one, and evaluate makes its own
                returns, metrics = evaluate(args, q_values, run_dir / "videos" / f"step-{global_step}")
                log(metrics, global_step)
                line = "step {:,}: greedy return {:.1f} ± {:.1f}, Q predicted {:.2f}, realised {:.2f}"
                progress.write(line.format(global_step, *metrics.values()))
                share = sum(clipped_masses) / max(len(clipped_masses), 1)
                if share > 0.05 and not warned:
                    said = "warning: {:.0%} of the targets' probability lies outside --v-min {:g} and --v-max {:g}"
                    progress.write(said.format(share, args.v_min, args.v_max), file=sys.stderr)
                    warned = True
                clipped_masses.clear()
                if metrics["eval/episodic_return"] > best_return:
                    best_return, best_step = metrics["eval/episodic_return"], global_step
                    save_weights(args, q_network, run_dir / "best_model.pt")
        best = {"best_return": best_return, "best_step": best_step}
        result = {**metrics, "returns": returns, **best, "global_step": global_step, "updates": updates}
        write_result(args, run_dir, result, seconds=time.time() - start_time)
    return run_dir


def evaluate(args: Args, q_values: Callable, video: Path | None = None) -> tuple[list[float], dict[str, float]]:
    """Plays greedily, with the same seed every time, and returns the undiscounted returns and the metrics.

    eval/q_predicted is the mean of max_a Q(s, a) over visited states s, eval/q_realised that of the discounted return
    that followed: predicted above realised is overestimation. A truncated episode would have gone on, so its unseen
    tail counts as γ^n max_a Q(last obs, a), and only the first half of its states counts at all, where n is large.
    """
    returns, predicted, realised = [], [], []
    with closing(make_env(args, video)) as env:
        for episode in range(args.eval_episodes):
            obs, _ = env.reset(seed=args.seed + 1_000_000 if episode == 0 else None)
            max_q, rewards, terminated, truncated = [], [], False, False
            while not (terminated or truncated):
                q = q_values(obs)
                max_q.append(q.max())
                obs, reward, terminated, truncated, _ = env.step(q.argmax())
                rewards.append(reward)
            discounted = [0.0 if terminated else q_values(obs).max()]
            for reward in reversed(rewards):
                discounted.append(reward + args.gamma * discounted[-1])
            counted = len(rewards) if terminated else (len(rewards) + 1) // 2
            predicted += max_q[:counted]
            realised += discounted[: -counted - 1 : -1]  # it was built from the end
            returns.append(sum(rewards))
    return returns, {
        "eval/episodic_return": float(np.mean(returns)),
        "eval/episodic_return_std": float(np.std(returns)),
        "eval/q_predicted": float(np.mean(predicted)),
        "eval/q_realised": float(np.mean(realised)),
    }


# From here on: arguments, environments, files, the command line. Nothing of it is particular to the algorithm.


class BadInput(ValueError):
    """What was asked for cannot be done; the message is one sentence for the user."""


def check(args: Args) -> None:
    """Raises BadInput for the first argument out of its range. Takes 1e5 for a whole number too."""
    latest = args.total_timesteps - args.total_timesteps % max(args.train_frequency, 1) - 1  # before the last update
    tighter = {"batch_size": args.buffer_size, "train_frequency": args.total_timesteps, "learning_starts": latest}
    for name, hint in get_type_hints(Args, include_extras=True).items():
        if get_origin(hint) is Annotated and (value := getattr(args, name)) is not None:
            least, most = hint.__metadata__[0], tighter.get(name, hint.__metadata__[1])
            if not all(least <= number <= most for number in np.ravel(value)):
                raise BadInput(f"--{name.replace('_', '-')} must be between {least} and {most}, not {value}")
            setattr(args, name, int(value) if hint.__origin__ in (int, int | None) else value)
    if args.cuda and not torch.cuda.is_available():
        raise BadInput("--cuda needs a GPU and a PyTorch built for it; this one finds none")
    for wanted, package in ((args.track, "wandb"), (args.capture_video, "moviepy"), ("ALE/" in args.env_id, "ale_py")):
        if wanted and not importlib.util.find_spec(package):
            raise BadInput(f"{package} is missing: pip install {package.replace('_', '-')}")


def check_memory(needed: int) -> None:
    """Raises BadInput if so many bytes, for the replay buffer, are not free: they are taken only as it fills."""
    size, free = f"{needed / 2**30:,.2f} GiB", psutil.virtual_memory().available
    if needed > free:
        raise BadInput(f"the replay buffer needs {size}, and {free / 2**30:.2f} are free: lower --buffer-size")
    if needed > 2**30:
        print(f"replay buffer: {size}")


def of_environment(error: BaseException) -> bool:
    """Whether the environment's own code raised it: then the traceback helps, not a sentence as for what is missing."""
    library = str(Path(gym.__file__).parent)  # which calls the environment
    for raised in (error, error.__cause__ or error):
        files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(raised.__traceback__)]
        behind = dropwhile(lambda file: not file.startswith(library), files)
        if any(not file.startswith((library, __file__)) and "importlib" not in file for file in behind):
            return not isinstance(error, ImportError | KeyboardInterrupt)
    return False


def literal(text: str):
    """The value of a Python literal, as of False, 0.5 or [1, 2]; of what is none, as of 8x8, the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def every_action(space: gym.Space) -> list:
    """What the environment takes for the actions 0, 1, 2, ... Raises BadInput if they cannot be listed."""
    if isinstance(space, gym.spaces.Discrete):
        return list(range(space.start, space.start + space.n))
    if not isinstance(space, gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        raise BadInput(f"its actions are {space}; supported are Box of shape (1,) and what can be listed")
    sizes, start = getattr(space, "nvec", np.full(space.shape, 2)), getattr(space, "start", 0)
    if math.prod(sizes.ravel().tolist()) > 1_000:
        raise BadInput(f"its actions {space} are more than 1,000 combinations")
    return [(start + np.reshape(row, space.shape)).astype(space.dtype) for row in np.ndindex(*sizes.ravel())]


def pixel_scale(space: gym.Space) -> np.ndarray:
    """What a flattened observation is divided by, (obs_dim,): 255 where it is a pixel, 1 elsewhere. Raises BadInput."""
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        parts = space.values() if isinstance(space, gym.spaces.Dict) else space
        return np.concatenate([pixel_scale(part) for part in parts])
    if not isinstance(space, gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        raise BadInput(f"its observations hold a {space}, no vector of fixed length: wrap it to leave that out")
    pixels = isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and (space.high == 255).all()
    return np.full(gym.spaces.flatdim(space), 255 if pixels else 1, np.float32)


class PlainEnv(gym.Wrapper):
    """Takes the number of an action; returns what `observe` makes of an observation, a float, and two bools.

    Raises FloatingPointError for rewards that are not finite, and observations for which `observe` returns None.
    """

    def __init__(self, env: gym.Env, observation_space: gym.Space, observe: Callable):
        super().__init__(env)
        self.actions, self.observe, self.steps = every_action(env.action_space), observe, 0
        self.observation_space, self.action_space = observation_space, gym.spaces.Discrete(len(self.actions))

    def reset(self, **options):
        obs, info = self.env.reset(**options)
        return self.observed(obs, 0.0), info

    def step(self, action):
        self.steps += 1
        obs, reward, terminated, truncated, info = self.env.step(self.actions[action])
        reward = float(np.asarray(reward).item())  # an array of one number too
        return self.observed(obs, reward), reward, bool(terminated), bool(truncated), info

    def observed(self, obs, reward):
        seen = self.observe(obs)
        if seen is None or not math.isfinite(reward):
            sent = f"{self.spec.id} sent {obs} and the reward {reward} at its step {self.steps:,}"
            raise FloatingPointError(f"{sent}: not finite, or not of its observation space")
        return seen


def make_env(args: Args, video: Path | None = None) -> gym.Env:
    """An environment with observations (obs_dim,), float32, and actions 0 .. num_actions - 1. Raises BadInput."""
    env_id = f"ale_py:{args.env_id}" if args.env_id.startswith("ALE/") else args.env_id
    drawing = {"render_mode": "rgb_array"} if args.capture_video else {}  # not all environments take the argument
    if unusable := [pair for pair in args.env_kwargs if "=" not in pair]:
        raise BadInput(f"--env-kwargs takes NAME=VALUE, not {unusable[0]}")
    kwargs = {name: literal(value) for name, _, value in (pair.partition("=") for pair in args.env_kwargs)}
    try:
        env = gym.make(env_id, max_episode_steps=args.max_episode_steps, **kwargs, **drawing)
        if drawing:  # what is missing for it is missed here, not after hours at the first evaluation
            env.reset()
            if np.shape(env.render())[2:] != (3,):
                raise BadInput("its render() returns no picture (height, width, 3)")
        if isinstance(env.action_space, gym.spaces.Box) and env.action_space.shape == (1,):
            env = gym.wrappers.DiscretizeAction(env, args.action_bins)
        if env.spec.max_episode_steps is None:  # a greedy policy may walk in circles for ever
            env = gym.wrappers.TimeLimit(env, 10_000)
        space, scale = env.observation_space, pixel_scale(env.observation_space)
        flat = np.ravel if isinstance(space, gym.spaces.Box) else partial(gym.spaces.flatten, space)

        def to_vector(obs) -> np.ndarray | None:
            vector = np.divide(flat(obs), scale, dtype=np.float32)  # a copy: some environments change theirs later
            return vector if np.isfinite(vector).all() else None

        env = PlainEnv(env, gym.spaces.Box(-np.inf, np.inf, scale.shape), to_vector)
    except Exception as error:
        if of_environment(error):
            raise
        raise BadInput(f"cannot make {args.env_id}: {str(error) or 'it draws no pictures'}") from error
    if drawing and video:
        warnings.filterwarnings("ignore", ".*Overwriting existing videos")  # the folder is there, their names differ
        options = {"name_prefix": video.name, "video_length": 1_000}  # so many frames are kept in memory, no more
        env = gym.wrappers.RecordVideo(env, str(video.parent), lambda episode: episode == 0, **options)
    return env


def compiled(function: Callable, cuda: bool) -> Callable:
    """The function, with its backward pass, as one graph by torch.compile."""
    torch.compiler.reset()  # forgets other runs of this process, which without guards would be taken for this one
    torch._dynamo.config.trace_autograd_ops = True  # loss.backward() too goes into the graph
    # No guards: within a run nothing changes that they look at, and an exception such as Ctrl-C gets lost in them.
    options = {"cpp_wrapper": not cuda, "guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    return torch.compile(function, fullgraph=True, options=options)


def make_run_dir(args: Args) -> Path:
    """Makes runs/{env_id}__{exp_name}__{seed}__{unix_time}, a second on where that exists, and its args.json."""
    name = f"{args.env_id}__{args.exp_name}__{args.seed}__".replace("/", "-").replace(":", "-")
    unix_time = int(time.time())
    while (run_dir := Path(args.runs_dir) / f"{name}{unix_time}").exists():
        unix_time += 1
    try:
        run_dir.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"cannot make a run folder in {args.runs_dir}: {error.strerror}") from error
    git = "git describe --always --dirty --abbrev=40 --exclude '*'"  # prints nothing outside a repository
    commit = subprocess.run(git, shell=True, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    versions = {package.__name__: str(package.__version__) for package in (torch, gym, np)}
    origin = {"command": sys.argv, "commit": commit, "python": platform.python_version(), **versions}
    machine = {"platform": platform.platform(), "processor": platform.processor(), "cpu_count": os.cpu_count()}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    content = {**asdict(args), **origin, **machine, "gpu": gpu}
    (run_dir / "args.json").write_text(json.dumps(content, indent=2, default=str))
    return run_dir


def start_wandb(args: Args, name: str):
    """Starts a W&B run; where there is no account or no network an offline one, so that nothing is lost."""
    import wandb  # only --track needs it, and it takes half a second

    names = {"project": args.wandb_project_name, "entity": args.wandb_entity, "name": name}
    options = {**names, "config": asdict(args), "save_code": True, "settings": wandb.Settings(init_timeout=10)}
    try:
        return wandb.init(mode=args.wandb_mode, **options)
    except ValueError as error:
        raise BadInput(f"W&B refuses its settings, such as WANDB_MODE: {' '.join(str(error).split()):.200}") from error
    except wandb.Error as error:
        reason = str(error).splitlines()[0]
        print(f"W&B is out of reach: {reason}; logging offline, `wandb sync` uploads it later", file=sys.stderr)
        return wandb.init(mode="offline", **options)


@contextmanager
def open_log(args: Args, run_dir: Path) -> Iterator[Callable]:
    """Yields log(metrics, global_step). What was logged is on disk however the run ends."""
    run = start_wandb(args, run_dir.name) if args.track else None
    with open(run_dir / f"events.out.tfevents.{time.time_ns()}", "wb") as file:
        writer = RecordWriter(file)  # what is below SummaryWriter, which takes four times as long, and a thread

        def log(metrics: dict[str, float], global_step: int) -> None:
            values = [{"tag": name, "simple_value": value} for name, value in metrics.items()]
            event = Event(wall_time=time.time(), step=global_step, summary={"value": values})
            writer.write(event.SerializeToString())
            writer.flush()
            if run:
                run.log({**metrics, "global_step": global_step})
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise FloatingPointError(f"{name} is {value} at step {global_step:,} (lower --learning-rate?)")

        try:
            yield log
        finally:
            if run:
                for path in sorted(run_dir.glob("videos/*.mp4")):
                    run.log({f"videos/{path.stem}": sys.modules["wandb"].Video(str(path))})
                run.finish(exit_code=0 if (run_dir / "result.json").exists() else 1)


def save_weights(args: Args, network: nn.Module, path: Path) -> None:
    """With --save-model writes a state_dict, in place of an older one only if whole and finite. Raises OSError."""
    if not (args.save_model and all(parameter.isfinite().all() for parameter in network.parameters())):
        return
    torch.save(network.state_dict(), content := io.BytesIO())  # to a full disk itself, torch would hide the OSError
    path.with_suffix(".part").write_bytes(content.getvalue())
    os.replace(path.with_suffix(".part"), path)


def write_result(args: Args, run_dir: Path, result: dict, seconds: float) -> None:
    """Writes result.json, last and at once, because a run that has it is complete; says how it went."""
    steps, returns, speed = result["global_step"], result["returns"], result["global_step"] / seconds
    (run_dir / "result.part").write_text(json.dumps({**result, "seconds": seconds, "sps": speed}, indent=2))
    os.replace(run_dir / "result.part", run_dir / "result.json")
    greedy = f"greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes"
    trained = f"trained {steps:,} steps in {seconds:.0f} s ({speed:,.0f} steps/s)"
    print(f"{args.env_id}: {greedy}, {trained}, see {run_dir}")


def as_trained(args: Args) -> Args:
    """The arguments with env_id and all below it as in the args.json beside the weights, where there is one."""
    path = Path(args.evaluate)
    stored = path / "args.json" if path.is_dir() else path.with_name("args.json")
    try:
        content = json.loads(stored.read_text()) if stored.exists() else {}
    except ValueError as error:
        raise BadInput(f"{stored} is not what a run writes: {error}") from error
    names = [field.name for field in fields(Args)]
    kept = {name: content[name] for name in names[names.index("env_id") :] if name in content}
    return replace(args, **{name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()})


def play(args: Args) -> None:
    """Loads the weights at args.evaluate, plays and prints the return. Raises BadInput if they do not fit."""
    check(args)
    path, trained_on = Path(args.evaluate), as_trained(args).env_id
    path = path / "model.pt" if path.is_dir() else path
    if trained_on != args.env_id:
        raise BadInput(f"{path} does not hold weights for {args.env_id}: they were trained on {trained_on}")
    with closing(make_env(args)) as env:
        q_network = QNetwork(env.observation_space.shape[0], int(env.action_space.n), args)
    try:
        q_network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    except Exception as error:  # reading a file that holds something else can fail in any way
        fit, reason = f"{args.env_id} with --hidden-sizes {args.hidden_sizes}", " ".join(str(error).split())
        raise BadInput(f"{path} does not hold weights for {fit} ({reason:.200})") from error
    returns, _ = evaluate(args, q_network.as_numpy_function(), path.parent / "videos" / "eval")
    print(f"{args.env_id}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes")


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(1)  # with matrices this small a second thread gains nothing
    torch.set_flush_denormal(True)  # Adam's moments of idle units shrink into numbers that a CPU is slow with
    args = tyro.cli(Args, description=__doc__)
    try:
        # Flags that are given win over those of the run that is played again.
        play(tyro.cli(Args, default=as_trained(args))) if args.evaluate else train(args)
    except (BadInput, FloatingPointError, MemoryError, OSError, KeyboardInterrupt) as error:
        if of_environment(error):
            raise
        print(f"error: {error}" if str(error) else "interrupted", file=sys.stderr)
        sys.exit({BadInput: 2, KeyboardInterrupt: 130}.get(type(error), 1))


if __name__ == "__main__":
    main()
