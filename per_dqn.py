"""Prioritized experience replay: learn more often from what surprised more.

DQN's replay buffer draws every transition equally often, although most of them teach nothing new. Here a transition is
drawn in proportion to its priority, which grows with its last TD error δ = y - Q(s, a):

    P(i) = p_i^α / Σ_k p_k^α    with p_i = |δ_i| + ε (proportional) or p_i = 1 / rank of |δ_i| (rank-based)

A new transition has no error yet and gets the highest priority, so that it is soon drawn. α = 0 is uniform replay.
Drawing some transitions more often changes what the network fits: its loss is an average over the draws. Importance
weights, multiplied onto each transition's loss, undo that; β grows from 0.4 to 1, where the correction is complete:

    w_i = (N P(i))^-β / max_j w_j    over the j of the batch, so that weights only ever shrink an update

Schaul, Quan, Antonoglou and Silver (2016), "Prioritized experience replay", ICLR, equation 1 and algorithm 1.

Changed from dqn.py: `SumTree` and `ReplayBuffer`, a weight in `Batch` and in `loss_and_gradient`, and in `train` β and
the new priorities. The loop learns with DQN's target; the paper combines this replay with Double DQN.

    python per_dqn.py --env-id CartPole-v1
    python per_dqn.py --env-id CartPole-v1 --priority rank --prioritized-replay-alpha 0.7
"""

import difflib
import importlib.util
import io
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import tyro
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.optim.adam import adam
from tqdm import tqdm


@dataclass
class Args:
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run folder's name"""
    seed: int = 1
    """seed of weights, exploration, replay and environment"""
    cuda: bool = False
    """learn on the GPU (a network as small as the default one is faster on the CPU)"""
    compile: bool = False
    """compile the update with torch.compile: slow to start, then faster"""
    track: bool = False
    """log to Weights & Biases too, not to TensorBoard alone"""
    wandb_project_name: str = "qladder"
    """project in Weights & Biases"""
    wandb_entity: str | None = None
    """team in Weights & Biases"""
    wandb_mode: Literal["online", "offline", "disabled"] | None = None
    """offline runs are uploaded later with `wandb sync` (default: WANDB_MODE, else online)"""
    capture_video: bool = False
    """record the first episode of every evaluation as mp4, in videos/ beside the weights"""
    save_model: bool = False
    """keep the final weights (model.pt) and the best evaluated ones (best_model.pt)"""
    evaluate: Path | None = None
    """load these weights and only play"""
    runs_dir: Path = Path("runs")
    """where the run folder is made"""

    env_id: str = "CartPole-v1"
    """Gymnasium id, or module:id if importing the module registers it"""
    max_episode_steps: int | None = None
    """truncate episodes after so many steps (default: the environment's limit, or 10,000 if it has none)"""
    action_bins: int = 11
    """values into which a one-dimensional continuous action is divided"""
    total_timesteps: int = 100_000
    """environment steps to train for"""
    learning_rate: float = 1e-2
    """step size of Adam"""
    anneal_lr: bool = True
    """let the learning rate fall linearly to 0 over the run"""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """units of each hidden layer"""
    buffer_size: int = 100_000
    """transitions kept in the replay buffer"""
    gamma: float = 0.99
    """discount factor γ"""
    tau: float = 0.015
    """fraction of the way to the online network in a target update (1: a copy)"""
    target_network_frequency: int = 4
    """environment steps between target updates (for the paper's copies: many steps, and --tau 1)"""
    batch_size: int = 512
    """transitions in an update"""
    start_e: float = 1.0
    """ε, the probability of a random action, at the start"""
    end_e: float = 0.1
    """ε at the end"""
    exploration_fraction: float = 0.25
    """fraction of total-timesteps in which ε falls"""
    learning_starts: int = 2_000
    """environment steps before the first update"""
    train_frequency: int = 4
    """environment steps between updates"""
    loss: Literal["mse", "huber"] = "mse"
    """loss of a TD error (huber, linear beyond 1, hardly learns from failures once they are rare)"""
    max_grad_norm: float = 10.0
    """longer gradients are scaled down to this norm (inf: never)"""
    priority: Literal["proportional", "rank"] = "proportional"
    """what a transition's priority is: its error, or the inverse of its error's rank"""
    prioritized_replay_alpha: float = 0.6
    """α, how much priorities count (0: uniform replay)"""
    prioritized_replay_beta: float = 0.4
    """β at the start, how much of the bias importance weights correct; 1 at the end"""
    prioritized_replay_eps: float = 1e-6
    """ε in proportional priorities, so that a transition without error can be drawn again"""
    eval_frequency: int = 10_000
    """environment steps between greedy evaluations"""
    eval_episodes: int = 20
    """episodes in an evaluation"""


class BadInput(ValueError):
    """What was asked for cannot be done; the message is one sentence for the user."""


def check(args: Args) -> None:
    """Raises BadInput for the first argument that makes no sense."""
    low = dict.fromkeys("total_timesteps train_frequency max_episode_steps buffer_size batch_size".split(), 1)
    low |= dict.fromkeys("target_network_frequency eval_frequency eval_episodes".split(), 1) | {"action_bins": 2}
    low |= dict.fromkeys("seed gamma start_e end_e learning_starts".split(), 0)
    low |= dict.fromkeys("learning_rate tau exploration_fraction max_grad_norm".split(), 1e-12)
    low |= {"prioritized_replay_alpha": 0, "prioritized_replay_beta": 0, "prioritized_replay_eps": 1e-12}
    high = dict.fromkeys("gamma tau start_e end_e exploration_fraction prioritized_replay_beta".split(), 1)
    high |= {"batch_size": args.buffer_size, "train_frequency": args.total_timesteps, "seed": 2**31}
    high |= {"learning_starts": args.total_timesteps - args.train_frequency}  # at least one update
    for name, least in low.items():
        value, most = getattr(args, name), high.get(name, math.inf)
        if value is not None and not least <= value <= most:
            raise BadInput(f"--{name.replace('_', '-')} must be between {least} and {most}, not {value}")
    if min(args.hidden_sizes, default=1) < 1:
        raise BadInput(f"--hidden-sizes must be positive, not {args.hidden_sizes}")
    if args.cuda and not torch.cuda.is_available():
        raise BadInput("--cuda needs a GPU and a PyTorch built for it; this one finds none")
    if args.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl"))):
        raise BadInput("--compile needs a C++ compiler, such as g++")
    for wanted, package in ((args.track, "wandb"), (args.capture_video, "moviepy"), ("ALE/" in args.env_id, "ale_py")):
        if wanted and not importlib.util.find_spec(package):
            raise BadInput(f"{package} is missing: pip install {package.replace('_', '-')}")


def make_env(args: Args, video: Path | None = None) -> gym.Env:
    """An environment with observations (obs_dim,), float32, and actions 0 .. num_actions - 1. Raises BadInput."""
    env_id = f"ale_py:{args.env_id}" if args.env_id.startswith("ALE/") else args.env_id
    try:
        rendering = {"render_mode": "rgb_array"} if video else {}  # not all environments take the argument
        env = gym.make(env_id, max_episode_steps=args.max_episode_steps, **rendering)
        if args.capture_video and not video and "rgb_array" in env.metadata.get("render_modes", []):
            with closing(gym.make(env_id, render_mode="rgb_array")) as drawn:
                drawn.reset()
                drawn.render()  # what is missing for it is missed here, not after hours at the first evaluation
        if isinstance(env.action_space, gym.spaces.Box) and env.action_space.shape == (1,):
            env = gym.wrappers.DiscretizeAction(env, args.action_bins)
    except (gym.error.Error, ImportError, TypeError, ValueError) as error:
        near = difflib.get_close_matches(args.env_id, gym.registry)
        hint = f" Nearest names: {', '.join(near)}." if near and isinstance(error, gym.error.UnregisteredEnv) else ""
        raise BadInput(f"cannot make {args.env_id}: {error}{hint}") from error
    if args.capture_video and "rgb_array" not in env.metadata.get("render_modes", []):
        raise BadInput(f"{args.env_id} draws no pictures, so there is nothing to --capture-video")
    if not isinstance(env.action_space, gym.spaces.Discrete):
        raise BadInput(f"{args.env_id} has actions {env.action_space}; supported are Discrete and Box of shape (1,)")
    if start := int(env.action_space.start):
        env = gym.wrappers.TransformAction(env, lambda a: a + start, gym.spaces.Discrete(env.action_space.n))
    if env.spec.max_episode_steps is None:  # a greedy policy may walk in circles for ever
        env = gym.wrappers.TimeLimit(env, 10_000)
    if video:
        warnings.filterwarnings("ignore", ".*Overwriting existing videos")  # the folder is there, their names differ
        env = gym.wrappers.RecordVideo(env, str(video.parent), lambda episode: episode == 0, name_prefix=video.name)
    env = gym.wrappers.FlattenObservation(env)  # Discrete becomes one-hot; Tuple and Dict become one vector
    space = env.observation_space
    if not isinstance(space, gym.spaces.Box):
        raise BadInput(f"{args.env_id} has observations that do not flatten to a vector of fixed length")
    if space.dtype == np.uint8 and (space.high == 255).all():  # pixels: scaled here and nowhere else
        unit = gym.spaces.Box(0, 1, space.shape, np.float32)
        return gym.wrappers.TransformObservation(env, lambda obs: obs / np.float32(255), unit)
    return env if space.dtype == np.float32 else gym.wrappers.DtypeObservation(env, np.float32)


class QNetwork(nn.Sequential):
    """Q(s, ·) of a batch of observations: (B, obs_dim) -> (B, num_actions)."""

    def __init__(self, obs_dim: int, num_actions: int, hidden_sizes: tuple[int, ...]):
        layers = []
        for inputs, outputs in pairwise([obs_dim, *hidden_sizes, num_actions]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        super().__init__(*layers[:-1])  # no ReLU after the last layer

    def numpy(self) -> Callable[[np.ndarray], np.ndarray]:
        """The same function of one observation, (obs_dim,) -> (num_actions,), several times faster than torch."""
        parameters = [p.detach().cpu().numpy() for p in self.parameters()]  # views, so up to date; from a GPU copies
        *hidden, (last_weight, last_bias) = zip(parameters[0::2], parameters[1::2], strict=True)

        def q_values(x: np.ndarray) -> np.ndarray:
            for weight, bias in hidden:
                x = np.maximum(weight @ x + bias, 0)
            return last_weight @ x + last_bias

        return q_values


class Batch(NamedTuple):
    """B transitions. Not "done" but `terminated`: an episode cut off by a time limit would have gone on."""

    obs: torch.Tensor  # (B, obs_dim) float32
    action: torch.Tensor  # (B,) int64
    reward: torch.Tensor  # (B,) float32
    next_obs: torch.Tensor  # (B, obs_dim) float32
    terminated: torch.Tensor  # (B,) bool
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


class ReplayBuffer:
    """The last `capacity` transitions: a ring of arrays in which the newest overwrites the oldest.

    Transition i is drawn in proportion to the tree's v_i = p_i^α. Its p_i is |δ_i| + ε, or 1 / rank, where the largest
    |δ| has rank 1. Ranks are counted among the errors as they were at the last sort. The buffer is sorted anew after as
    many changes as it has transitions, which makes the cost a matter of logarithms too.
    """

    def __init__(self, capacity: int, obs_dim: int, priority: str, alpha: float, eps: float):
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.action = np.zeros(capacity, np.int64)
        self.reward = np.zeros(capacity, np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), np.float32)
        self.terminated = np.zeros(capacity, np.bool_)
        self.capacity, self.size, self.position = capacity, 0, 0
        self.tree = SumTree(capacity)
        self.priority, self.alpha, self.eps = priority, alpha, eps
        self.max_priority = 1.0  # the largest p_i so far
        self.error = np.zeros(capacity)  # |δ_i|, for ranks
        self.sorted_error, self.changes = np.zeros(0), 0  # ascending, at the last sort; changes since then

    def add(self, obs, action, reward, next_obs, terminated) -> None:
        """Copies in one transition; next_obs is what the step returned, not what a reset returned after it."""
        i = self.position
        self.obs[i], self.action[i], self.reward[i] = obs, action, reward
        self.next_obs[i], self.terminated[i] = next_obs, terminated
        self.position = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)
        self.tree.set_one(i, self.max_priority**self.alpha)
        self.error[i] = np.inf  # ranks first
        self.changes += 1

    def sample(self, batch_size: int, beta: float, rng: np.random.Generator, device: torch.device):
        """Draws a Batch by priority, one transition from each of B equal parts of the sum, and their places i (B,)."""
        total = self.tree.nodes[1]
        u = (np.arange(batch_size) + rng.random(batch_size)) * (total / batch_size)
        i = np.minimum(self.tree.find(u), self.size - 1)  # rounding could lead one past the last
        weight = (self.size * self.tree.get(i) / total) ** -beta
        weight = (weight / weight.max()).astype(np.float32)
        arrays = (self.obs, self.action, self.reward, self.next_obs, self.terminated)
        rows = (*(array.take(i, axis=0) for array in arrays), weight)
        return Batch(*(torch.from_numpy(row).to(device) for row in rows)), i

    def update_priorities(self, i: np.ndarray, td_error: np.ndarray) -> None:
        """Takes over the new δ of the transitions i, both (B,)."""
        error = np.abs(td_error).astype(np.float64)
        if self.priority == "proportional":
            priority = error + self.eps
            self.max_priority = max(self.max_priority, priority.max())
        else:
            self.error[i] = error
            self.changes += len(i)
            if self.changes >= self.size:
                self.sort()
            rank = len(self.sorted_error) - np.searchsorted(self.sorted_error, error)  # how many are as large or larger
            priority = 1 / np.maximum(rank, 1)
        self.tree.set(i, priority**self.alpha)

    def sort(self) -> None:
        """Gives all transitions their exact ranks: n for the smallest error, 1 for the largest."""
        order = np.argsort(self.error[: self.size], kind="stable")  # the smallest first
        self.tree.set(order, (1 / np.arange(self.size, 0, -1)) ** self.alpha)
        self.sorted_error, self.changes = self.error[order], 0


def linear_schedule(start_e: float, end_e: float, duration: float, t: int) -> float:
    """The value after t environment steps: from start_e to end_e in `duration` steps, and constant from then on."""
    return start_e + (end_e - start_e) * min(t / duration, 1.0)


def td_target(next_q: torch.Tensor, reward: torch.Tensor, terminated: torch.Tensor, gamma: float) -> torch.Tensor:
    """y = r + γ max_a' Q_target(s', a'), or r where s' is terminal. next_q is Q_target(s', ·), (B, num_actions)."""
    return reward + gamma * next_q.amax(dim=1).masked_fill(terminated, 0.0)  # (B,), as reward and terminated are


def td_loss(q_taken: torch.Tensor, td_target: torch.Tensor, loss: str) -> torch.Tensor:
    """The loss of each transition, from Q(s, a) of the action taken and its target; all three (B,)."""
    assert q_taken.shape == td_target.shape  # (B,) against (B, 1) would silently broadcast to (B, B)
    elementwise = F.huber_loss if loss == "huber" else F.mse_loss
    return elementwise(q_taken, td_target, reduction="none")


def loss_and_gradient(q_network: QNetwork, target_network: QNetwork, batch: Batch, args: Args):
    """The mean weighted loss (), Q(s, a) of the actions taken (B,), δ (B,), and the clipped gradient (P,)."""
    with torch.no_grad():  # the target counts as a constant
        next_q = target_network(batch.next_obs)  # (B, num_actions)
        y = td_target(next_q, batch.reward, batch.terminated, args.gamma)  # (B,)
    q = q_network(batch.obs)  # (B, num_actions)
    q_taken = q.gather(1, batch.action.unsqueeze(1)).squeeze(1)  # (B, num_actions) -> (B, 1) -> (B,)
    loss = (batch.weight * td_loss(q_taken, y, args.loss)).mean()
    gradients = torch.autograd.grad(loss, list(q_network.parameters()))
    gradient = torch.cat([g.flatten() for g in gradients])
    too_long = (gradient.norm() / args.max_grad_norm).clamp(min=1.0)
    return loss.detach(), q_taken.detach(), (y - q_taken).detach(), gradient / too_long


def as_vector(network: nn.Module) -> torch.Tensor:
    """All parameters as one vector (P,), of which the network's own become views: one operation then changes all."""
    vector = nn.utils.parameters_to_vector(network.parameters()).detach()
    nn.utils.vector_to_parameters(vector, network.parameters())
    return vector


def adam_step(vector: torch.Tensor, gradient: torch.Tensor, moments: list[list[torch.Tensor]], lr: float) -> None:
    """θ ← θ - lr m / (√v + 1e-8), in place: torch.optim.Adam without the class around it, which takes as long again."""
    mean, square, steps = moments  # running means of gradient and its square, and the count of steps that corrects them
    constants = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False}
    adam([vector], [gradient], mean, square, [], steps, lr=lr, fused=True, **constants)


def update_target(target_vector: torch.Tensor, q_vector: torch.Tensor, tau: float) -> None:
    """θ_target ← τ θ + (1 - τ) θ_target, in place."""
    target_vector.lerp_(q_vector, tau)


def evaluate(args: Args, q_values: Callable, video: Path | None = None) -> tuple[list[float], dict[str, float]]:
    """Plays greedily, with the same seed every time, and returns the undiscounted returns and the metrics.

    eval/q_predicted is the mean of max_a Q(s, a) over visited states s, eval/q_realised that of the discounted return
    that followed: predicted above realised is overestimation. A truncated episode would have gone on, so its unseen
    tail counts as γ^n max_a Q(last obs, a), and only the first half of its states counts at all, where n is large.
    """
    returns, predicted, realised = [], [], []
    with closing(make_env(args, video if args.capture_video else None)) as env:
        for episode in range(args.eval_episodes):
            obs, _ = env.reset(seed=args.seed + 1_000_000 if episode == 0 else None)
            max_q, rewards, terminated, truncated = [], [], False, False
            while not (terminated or truncated):
                q = q_values(obs)
                max_q.append(q.max())
                obs, reward, terminated, truncated, _ = env.step(q.argmax())
                rewards.append(float(reward))
            discounted = [0.0 if terminated else q_values(obs).max()]
            for reward in reversed(rewards):
                discounted.append(reward + args.gamma * discounted[-1])
            counted = len(rewards) if terminated else (len(rewards) + 1) // 2
            predicted += max_q[:counted]
            realised += discounted[: -counted - 1 : -1]  # it was built from the end
            returns.append(sum(rewards))
    metrics = {"eval/episodic_return": np.mean(returns), "eval/episodic_return_std": np.std(returns)}
    metrics |= {"eval/q_predicted": np.mean(predicted), "eval/q_realised": np.mean(realised)}
    return returns, {name: float(value) for name, value in metrics.items()}


def make_run_dir(args: Args) -> Path:
    """Makes runs/{env_id}__{exp_name}__{seed}__{unix_time}, a second on where that exists, and its args.json."""
    for unix_time in count(int(time.time())):
        name = f"{args.env_id}__{args.exp_name}__{args.seed}__{unix_time}"
        run_dir = args.runs_dir / name.replace("/", "-").replace(":", "-")
        try:
            run_dir.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise BadInput(f"cannot make a run folder in {args.runs_dir}: {error.strerror}") from error
    git = "git describe --always --dirty --abbrev=40 --exclude '*'"  # prints nothing outside a repository
    commit = subprocess.run(git, shell=True, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    origin = {"command": sys.argv, "commit": commit, "python": platform.python_version()}
    origin |= {package.__name__: str(package.__version__) for package in (torch, gym, np)}
    origin |= {"platform": platform.platform(), "processor": platform.processor(), "cpu_count": os.cpu_count()}
    origin["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    (run_dir / "args.json").write_text(json.dumps(asdict(args) | origin, indent=2, default=str))
    return run_dir


def start_wandb(args: Args, name: str):
    """Starts a W&B run; where there is no account or no network an offline one, so that nothing is lost."""
    import wandb  # only --track needs it, and it takes half a second

    options = {"project": args.wandb_project_name, "entity": args.wandb_entity, "name": name, "config": asdict(args)}
    options |= {"save_code": True, "settings": wandb.Settings(init_timeout=10)}  # seconds
    mode = args.wandb_mode or os.environ.get("WANDB_MODE", "online")
    try:
        if mode == "online" and not wandb.login(prompt=False):
            raise wandb.Error("no account here (wandb login)")
        return wandb.init(mode=mode, **options)
    except wandb.Error as error:
        reason = str(error).splitlines()[0]
        print(f"W&B is out of reach: {reason}; logging offline, `wandb sync` uploads it later", file=sys.stderr)
        return wandb.init(mode="offline", **options)


@contextmanager
def open_log(args: Args, run_dir: Path) -> Iterator[Callable]:
    """Yields log(metrics, global_step). What was logged is on disk however the run ends."""
    run = start_wandb(args, run_dir.name) if args.track else None
    exit_code = 1
    with open(run_dir / f"events.out.tfevents.{time.time_ns()}", "wb") as file:
        writer = RecordWriter(file)  # what is below SummaryWriter, which takes four times as long, and a thread

        def log(metrics: dict[str, float], global_step: int) -> None:
            values = [{"tag": name, "simple_value": value} for name, value in metrics.items()]
            event = Event(wall_time=time.time(), step=global_step, summary={"value": values})
            writer.write(event.SerializeToString())
            writer.flush()
            if run:
                run.log(metrics | {"global_step": global_step})
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise FloatingPointError(f"{name} is {value} at step {global_step:,} (lower --learning-rate?)")

        try:
            yield log
            exit_code = 0
        finally:
            if run:
                run.finish(exit_code=exit_code)


def save_weights(network: nn.Module, path: Path) -> None:
    """Writes a state_dict, in place of an older one only when it is whole. Raises OSError."""
    content = io.BytesIO()  # writing to the file itself, torch would hide the OSError of a full disk
    torch.save(network.state_dict(), content)
    path.with_suffix(".part").write_bytes(content.getvalue())
    os.replace(path.with_suffix(".part"), path)


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises BadInput, FloatingPointError, OSError."""
    check(args)
    torch.set_num_threads(1)  # with matrices this small a second thread gains nothing
    torch.set_flush_denormal(True)  # Adam's moments of idle units shrink into numbers that a CPU is slow with
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    device = torch.device("cuda" if args.cuda else "cpu")

    env = make_env(args)
    obs_dim, num_actions = env.observation_space.shape[0], int(env.action_space.n)
    alpha, eps = args.prioritized_replay_alpha, args.prioritized_replay_eps
    buffer = ReplayBuffer(args.buffer_size, obs_dim, args.priority, alpha, eps)
    q_network = QNetwork(obs_dim, num_actions, args.hidden_sizes).to(device)
    target_network = QNetwork(obs_dim, num_actions, args.hidden_sizes).to(device)
    q_vector, target_vector = as_vector(q_network), as_vector(target_network)
    update_target(target_vector, q_vector, tau=1.0)
    moments = [[torch.zeros_like(q_vector)], [torch.zeros_like(q_vector)], [torch.zeros((), device=device)]]
    q_values = q_network.numpy()
    update = loss_and_gradient
    if args.compile:
        torch.compiler.reset()  # forgets other runs of this process, which without guards would be taken for this one
        torch._dynamo.config.trace_autograd_ops = True  # the backward pass too goes into the graph
        # No guards: within a run nothing changes that they look at, they take time, and Ctrl-C gets lost in them.
        options = {"cpp_wrapper": not args.cuda, "guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
        update = torch.compile(loss_and_gradient, fullgraph=True, options=options)

    run_dir = make_run_dir(args)
    exploration_steps = args.exploration_fraction * args.total_timesteps
    with closing(env), open_log(args, run_dir) as log:
        rewards, updates, best_return, start_time = [], 0, -math.inf, time.time()
        obs, _ = env.reset(seed=args.seed)
        progress = tqdm(range(1, args.total_timesteps + 1), unit="step", disable=None)
        for global_step in progress:
            # Act: at random with probability ε, else greedily.
            epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step - 1)
            action = rng.integers(num_actions) if rng.random() < epsilon else q_values(obs).argmax()
            next_obs, reward, terminated, truncated, _ = env.step(action)
            buffer.add(obs, action, reward, next_obs, terminated)
            obs = next_obs
            rewards.append(float(reward))
            if terminated or truncated:
                log({"charts/episodic_return": sum(rewards), "charts/episodic_length": len(rewards)}, global_step)
                progress.set_postfix({"return": sum(rewards), "ε": epsilon}, refresh=False)
                obs, _ = env.reset()
                rewards.clear()

            # Learn.
            if global_step > args.learning_starts and global_step % args.train_frequency == 0:
                beta = linear_schedule(args.prioritized_replay_beta, 1.0, args.total_timesteps, global_step)
                batch, i = buffer.sample(args.batch_size, beta, rng, device)
                loss, q_taken, td_error, gradient = update(q_network, target_network, batch, args)
                buffer.update_priorities(i, td_error.cpu().numpy())
                remaining = 1 - (global_step - 1) / args.total_timesteps if args.anneal_lr else 1.0
                adam_step(q_vector, gradient, moments, args.learning_rate * remaining)
                updates += 1
                if args.cuda:
                    q_values = q_network.numpy()
            if global_step > args.learning_starts and global_step % args.target_network_frequency == 0:
                update_target(target_vector, q_vector, args.tau)

            # Report.
            if global_step % 100 == 0 and updates > 0:
                metrics = {"losses/td_loss": loss.item(), "losses/q_values": q_taken.mean().item()}
                metrics |= {"charts/epsilon": epsilon, "charts/SPS": global_step / (time.time() - start_time)}
                log(metrics | {"charts/beta": beta}, global_step)
            if global_step % args.eval_frequency == 0 or global_step == args.total_timesteps:
                returns, metrics = evaluate(args, q_values, run_dir / "videos" / f"step-{global_step}")
                log(metrics, global_step)
                line = "step {:,}: greedy return {:.1f} ± {:.1f}, Q predicted {:.2f}, realised {:.2f}"
                progress.write(line.format(global_step, *metrics.values()))
                if metrics["eval/episodic_return"] > best_return:
                    best_return, best_step = metrics["eval/episodic_return"], global_step
                    if args.save_model:
                        save_weights(q_network, run_dir / "best_model.pt")
        if args.save_model:
            save_weights(q_network, run_dir / "model.pt")

    seconds = time.time() - start_time
    result = metrics | {"returns": returns, "best_return": best_return, "best_step": best_step}
    result |= {"global_step": global_step, "updates": updates, "seconds": seconds, "sps": global_step / seconds}
    (run_dir / "result.part").write_text(json.dumps(result, indent=2))
    os.replace(run_dir / "result.part", run_dir / "result.json")  # last and at once: a run that has it is complete
    greedy = f"greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes"
    speed = f"{global_step:,} steps in {seconds:.0f} s ({global_step / seconds:,.0f} steps/s)"
    print(f"{args.env_id}: {greedy}, trained {speed}, see {run_dir}")
    return run_dir


def play(args: Args) -> None:
    """Loads the weights at args.evaluate, plays and prints the return. Raises BadInput if they do not fit."""
    check(args)
    with closing(make_env(args)) as env:
        q_network = QNetwork(env.observation_space.shape[0], int(env.action_space.n), args.hidden_sizes)
    try:
        q_network.load_state_dict(torch.load(args.evaluate, weights_only=True, map_location="cpu"))
    except Exception as error:  # reading a file that holds something else can fail in any way
        fit = f"{args.env_id} with --hidden-sizes {' '.join(map(str, args.hidden_sizes))}"
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"{args.evaluate} does not hold weights for {fit} ({reason:.200})") from error
    returns, _ = evaluate(args, q_network.numpy(), args.evaluate.parent / "videos" / "eval")
    print(f"{args.env_id}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes")


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C."""
    args = tyro.cli(Args, description=__doc__)
    try:
        play(args) if args.evaluate else train(args)
    except (BadInput, FloatingPointError, MemoryError, OSError, KeyboardInterrupt) as error:
        print(f"error: {error}" if str(error) else "interrupted", file=sys.stderr)
        sys.exit({BadInput: 2, KeyboardInterrupt: 130}.get(type(error), 1))


if __name__ == "__main__":
    main()
