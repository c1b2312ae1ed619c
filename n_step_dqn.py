"""N-step DQN: the target is made of n rewards, not of one, before Q takes over.

DQN's target is one reward and, for all that follows, Q_target, which is wrong at first: news of a reward moves back by
one step at a time. Here the target looks ahead in the replay buffer, at the window of n steps that begins with (s, a).
A reward reaches n steps back at once, and an error of Q_target counts γ^n times, not γ times:

    y = r_1 + γ r_2 + ... + γ^(n-1) r_n + γ^n max_a' Q_target(s_n, a')

r_1 is the reward of (s, a), and s_n the state n steps after s. A window ends sooner, after k < n steps, where its
episode does, terminated or truncated, and at the newest transition. Then k stands in place of n; and where s_k is
terminal, the last term is missing. So every transition begins a window, the last ones of an episode too.

What is ignored: only the first action of the window is the one that Q(s, a) asks about. The others should be the best
ones, but are what an older, ε-greedy policy chose (they are off-policy), and no importance sampling corrects for that.
With n = 1 there are no others, and this is DQN. What a longer n costs:

- bias: the more of these actions were not the best ones, the further y lies, on average, below what the best would
  bring. Q converges to something else than Q*;
- variance: a sum of many rewards, each with its own chance, varies more than one of them.

So n is small. On Atari games Hessel et al. found 3 better than 1 and 5.

Sutton (1988), "Learning to predict by the methods of temporal differences", Machine Learning 3; for DQN, without a
correction as here, Hessel et al. (2018), "Rainbow: Combining improvements in deep reinforcement learning", AAAI,
equation 2.

Changed from dqn.py: `look_ahead`, `ReplayBuffer`, which keeps where episodes ended, γ^k in `Batch`, `td_target` and
`backpropagate`, and in `train` what the buffer is given.

    python n_step_dqn.py --env-id CartPole-v1
    python n_step_dqn.py --env-id CartPole-v1 --n-step 10
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
    n_step: Annotated[int, 1, 10_000] = 3  # n, the rewards in a target (1: DQN)
    tau: PositiveShare = 0.015  # fraction of the way to the online network in a target update (1: a copy)
    target_network_frequency: Count = 4  # environment steps between target updates (many for copies, --tau 1)
    batch_size: Count = 512  # transitions in an update
    start_e: Share = 1.0  # ε, the probability of a random action, at the start
    end_e: Share = 0.1  # ε at the end
    exploration_fraction: PositiveShare = 0.25  # fraction of total-timesteps in which ε falls
    train_frequency: Count = 4  # environment steps between updates
    learning_starts: Annotated[int, 0, math.inf] = 2_000  # environment steps before the first update
    loss: Literal["mse", "huber"] = "mse"  # loss of a TD error (huber: linear beyond 1)
    max_grad_norm: Positive = math.inf  # longer gradients are scaled down to this norm (inf: never)
    eval_frequency: Count = 10_000  # environment steps between greedy evaluations
    eval_episodes: Count = 20  # episodes in an evaluation


class QNetwork(nn.Sequential):
    """Q(s, ·) of a batch of observations: (B, obs_dim) -> (B, num_actions)."""

    def __init__(self, obs_dim: int, num_actions: int, args: Args):
        layers = []
        for inputs, outputs in pairwise([obs_dim, *args.hidden_sizes, num_actions]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        super().__init__(*layers[:-1])  # no ReLU after the last layer

    def as_numpy_function(self) -> Callable[[np.ndarray], np.ndarray]:
        """The same function of one observation, (obs_dim,) -> (num_actions,): to act, several times faster."""
        parameters = [p.detach().cpu().numpy() for p in self.parameters()]  # views, so up to date; from a GPU copies
        *hidden, (last_weight, last_bias) = zip(parameters[0::2], parameters[1::2], strict=True)

        def q_values(x: np.ndarray) -> np.ndarray:
            for weight, bias in hidden:
                x = np.maximum(weight @ x + bias, 0)
            return last_weight @ x + last_bias

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
    """The last `capacity` transitions: a ring of arrays in which the newest overwrites the oldest."""

    def __init__(self, capacity: int, obs_dim: int, n_step: int, gamma: float):
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.action = np.zeros(capacity, np.int64)
        self.reward = np.zeros(capacity, np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), np.float32)
        self.terminated = np.zeros(capacity, np.bool_)
        self.ended = np.zeros(capacity, np.bool_)  # terminated or truncated
        self.capacity, self.size, self.position = capacity, 0, 0
        self.n_step, self.gamma = n_step, gamma

    def add(self, obs, action, reward, next_obs, terminated, truncated) -> None:
        """Copies in one transition; next_obs is what the step returned, not what a reset returned after it."""
        i = self.position
        self.obs[i], self.action[i], self.reward[i] = obs, action, reward
        self.next_obs[i], self.terminated[i] = next_obs, terminated
        self.ended[i] = terminated or truncated
        self.position = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size: int, rng: np.random.Generator, device: torch.device) -> Batch:
        """Draws the first steps of windows uniformly, with replacement."""
        i = rng.integers(self.size, size=batch_size)
        newest = (self.position - 1) % self.capacity
        reward, discount, last = look_ahead(i, self.n_step, self.gamma, self.reward, self.ended, newest)
        obs, action = self.obs.take(i, axis=0), self.action.take(i)
        next_obs, terminated = self.next_obs.take(last, axis=0), self.terminated.take(last)
        rows = (obs, action, reward, next_obs, terminated, discount)
        return Batch(*(torch.from_numpy(row).to(device) for row in rows))


def linear_schedule(start_e: float, end_e: float, duration: float, t: int) -> float:
    """The value after t environment steps: from start_e to end_e in `duration` steps, and constant from then on."""
    return start_e + (end_e - start_e) * min(t / duration, 1.0)


def td_target(
    next_q: torch.Tensor, reward: torch.Tensor, terminated: torch.Tensor, discount: torch.Tensor
) -> torch.Tensor:
    """y = r_1 + ... + γ^(k-1) r_k + γ^k max_a' Q_target(s_k, a'), without the last term where s_k is terminal.

    next_q is Q_target(s_k, ·), (B, num_actions); reward, the sum of the k, terminated and discount, γ^k, are (B,).
    """
    return reward + discount * next_q.amax(dim=1).masked_fill(terminated, 0.0)


def td_loss(q_taken: torch.Tensor, y: torch.Tensor, loss: str) -> torch.Tensor:
    """The loss of each transition, from Q(s, a) of the action taken and its target; all three (B,)."""
    assert q_taken.shape == y.shape  # (B,) against (B, 1) would silently broadcast to (B, B)
    elementwise = F.huber_loss if loss == "huber" else F.mse_loss
    return elementwise(q_taken, y, reduction="none")


def backpropagate(q_network: QNetwork, target_network: QNetwork, batch: Batch, args: Args):
    """Puts the gradient of the mean loss into the parameters' .grad; returns that loss () and Q(s, a) (B,)."""
    with torch.no_grad():  # the target counts as a constant
        next_q = target_network(batch.next_obs)  # (B, num_actions)
        y = td_target(next_q, batch.reward, batch.terminated, batch.discount)  # (B,)
    q = q_network(batch.obs)  # (B, num_actions)
    q_taken = q.gather(1, batch.action.unsqueeze(1)).squeeze(1)  # (B, num_actions) -> (B, 1) -> (B,)
    loss = td_loss(q_taken, y, args.loss).mean()
    loss.backward()
    return loss.detach(), q_taken.detach()


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
    check_memory(args.buffer_size * (8 * obs_dim + 14))
    buffer = ReplayBuffer(args.buffer_size, obs_dim, args.n_step, args.gamma)
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
        obs, _ = env.reset(seed=args.seed)
        progress = tqdm(range(1, args.total_timesteps + 1), unit="step", disable=None)
        for global_step in progress:
            # Act: at random with probability ε, else greedily.
            epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step - 1)
            action = rng.integers(num_actions) if rng.random() < epsilon else q_values(obs).argmax()
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
                batch = buffer.sample(args.batch_size, rng, device)
                optimizer.zero_grad()
                loss, q_taken = compute_gradient(q_network, target_network, batch, args)
                if args.max_grad_norm < math.inf:
                    nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
                optimizer.step()
                updates += 1
                if args.cuda:
                    q_values = q_network.as_numpy_function()
            if global_step > args.learning_starts and global_step % args.target_network_frequency == 0:
                update_target(target_network, q_network, args.tau)

            # Report.
            if global_step % 100 == 0 and updates > 0:
                losses = {"losses/td_loss": loss.item(), "losses/q_values": q_taken.mean().item()}
                sps = global_step / (time.time() - start_time)
                log({**losses, "charts/epsilon": epsilon, "charts/SPS": sps}, global_step)
            if global_step % args.eval_frequency == 0 or global_step == args.total_timesteps:
                save_weights(args, q_network, run_dir / "model.pt")
                if global_step == args.total_timesteps:
                    env.close()  # of some environments there can be only one, and evaluate makes its own
                returns, metrics = evaluate(args, q_values, run_dir / "videos" / f"step-{global_step}")
                log(metrics, global_step)
                line = "step {:,}: greedy return {:.1f} ± {:.1f}, Q predicted {:.2f}, realised {:.2f}"
                progress.write(line.format(global_step, *metrics.values()))
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
