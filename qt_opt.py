"""QT-Opt: Q-learning for continuous actions, where a search finds the best one.

DQN takes the maximum of Q(s, ·) over a list of actions. Real numbers, such as the torques of a robot's joints, cannot
be listed, and a grid of them grows too fast: 11 values for each of 6 joints are 11^6 = 1.8 million actions. Here the
network takes the action as a second input, and the maximum is looked for by the cross-entropy method (CEM): draw
samples from a normal distribution, fit the next distribution to the elites, which are those of the highest Q, repeat.
The best of all samples is a*. It is what the agent does, and in s' it makes the target. Two target networks value it
there, and the smaller value counts, as a value that was found by maximizing is easily too high:

    y = r                                                                     if s' is terminal
    y = r + γ min(Q_1(s', a*), Q_2(s', a*))  with a* = argmax_a' Q_1(s', a')  otherwise

Q_1 follows the online network slowly, as in dqn.py. Q_2 is Q_1 as it was some time ago.

DDPG, TD3 and SAC learn a second network, the actor, to say the best action. Without it there is one network less to
tune and to fail, and no actor that lags behind Q or sits on a lesser peak. The price is time: each choice of an action
takes 2 x 64 values of Q in place of one actor's answer, and so does each transition of each update. And with every
dimension of the action the samples lie further apart, so that the search falls shorter of the maximum.

Kalashnikov et al. (2018), "QT-Opt: Scalable deep reinforcement learning for vision-based robotic manipulation", CoRL,
section 4.2 and equation 1. Two rounds, 64 samples and 6 elites are the paper's. Its targets are slower, for millions
of updates on images: τ = 0.0001, Q_2 about 6,000 updates behind. Its γ is 0.9, its returns lie between 0 and 1, so
that the loss can be cross-entropy, and many robots and machines work at the same time.

Changed from dqn.py: `QNetwork` takes the action as an input; `cem` and, to act, `cem_numpy` look for the best one;
`Batch` and `ReplayBuffer` hold vectors; `td_target` and `backpropagate` have two target networks; `train` and
`evaluate` choose by the search; in `PlainEnv`, `make_env` and `play` actions are vectors in [-1, 1]^action_dim.

    python qt_opt.py --env-id Pendulum-v1
    python qt_opt.py --env-id MountainCarContinuous-v0 --total-timesteps 30000
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

    env_id: str = "Pendulum-v1"  # Gymnasium id, or module:id if importing the module registers it
    env_kwargs: tuple[str, ...] = ()  # arguments of the environment, as is_slippery=False map_name=8x8
    max_episode_steps: Limit = None  # truncate episodes after so many steps (default: the limit of env-id, or 10,000)
    total_timesteps: Count = 10_000  # environment steps to train for
    learning_rate: Positive = 3e-3  # step size of Adam
    anneal_lr: bool = True  # let the learning rate fall linearly to 0 over the run
    hidden_sizes: Annotated[tuple[int, ...], 1, 10_000] = (64, 64)  # units of each hidden layer
    buffer_size: Annotated[int, 1, 10**12] = 100_000  # transitions kept in the replay buffer
    gamma: Share = 0.98  # discount factor γ
    tau: PositiveShare = 0.01  # fraction of the way to the online network in a target update (1: a copy)
    target_network_frequency: Count = 1  # environment steps between target updates (many for copies, --tau 1)
    target_lag: Count = 100  # environment steps between copies of the target network to the lagged one
    cem_iterations: Count = 2  # rounds of the search for the best action
    cem_samples: Count = 64  # actions tried in a round
    cem_elites: Count = 6  # the best of them, to which the next round's distribution is fitted
    batch_size: Count = 64  # transitions in an update
    start_e: Share = 1.0  # ε, the probability of a random action, at the start
    end_e: Share = 0.05  # ε at the end
    exploration_fraction: PositiveShare = 0.2  # fraction of total-timesteps in which ε falls
    train_frequency: Count = 1  # environment steps between updates
    learning_starts: Annotated[int, 0, math.inf] = 500  # environment steps before the first update
    loss: Literal["mse", "huber"] = "mse"  # loss of a TD error (huber: linear beyond 1)
    max_grad_norm: Positive = math.inf  # longer gradients are scaled down to this norm (inf: never)
    eval_frequency: Count = 1_000  # environment steps between greedy evaluations
    eval_episodes: Count = 20  # episodes in an evaluation


class QNetwork(nn.Module):
    """Q(s, a) of n actions in each state of a batch: (B, obs_dim) and (B, n, action_dim) -> (B, n).

    The first layer, of s and a side by side, is written as a sum, W_s s + W_a a + b, because its first part is the same
    for all actions of a state.
    """

    def __init__(self, obs_dim: int, action_dim: int, args: Args):
        super().__init__()
        sizes = [*args.hidden_sizes, 1]
        self.from_obs, self.from_action = nn.Linear(obs_dim, sizes[0]), nn.Linear(action_dim, sizes[0], bias=False)
        layers = []
        for inputs, outputs in pairwise(sizes):
            # In place, because to claim memory for so many rows again and again takes longer than the arithmetic.
            layers += [nn.ReLU(inplace=True), nn.Linear(inputs, outputs)]
        self.layers = nn.Sequential(*layers)

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        x = self.from_obs(obs).unsqueeze(1) + self.from_action(action)  # (B, 1, units) + (B, n, units)
        return self.layers(x).squeeze(2)

    def as_numpy_function(self) -> Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        """The same of one observation, (obs_dim,) -> Q(s, ·), itself a function (n, action_dim) -> (n,): to act."""
        parameters = [p.detach().cpu().numpy() for p in self.parameters()]  # views, so up to date; from a GPU copies
        obs_weight, obs_bias, action_weight, *rest = parameters
        layers = list(zip(rest[0::2], rest[1::2], strict=True))

        def q_values(obs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            from_obs = obs_weight @ obs + obs_bias

            def q_of_actions(action: np.ndarray) -> np.ndarray:
                x = action @ action_weight.T + from_obs
                for weight, bias in layers:
                    x = np.maximum(x, 0) @ weight.T + bias
                return x[:, 0]

            return q_of_actions

        return q_values


@torch.no_grad()
def cem(q_network: QNetwork, obs: torch.Tensor, noise: torch.Tensor, num_elites: int) -> torch.Tensor:
    """a* = argmax_a Q(s, a) over [-1, 1]^action_dim, as far as the search finds it: (B, obs_dim) -> (B, action_dim).

    noise is drawn from a standard normal distribution, (rounds, B, N, action_dim), for N samples a round and state. The
    first round is around 0 with a standard deviation of 1.
    """
    mean, std, samples, q = 0.0, 1.0, [], []
    for z in noise:  # (B, N, action_dim)
        samples.append((mean + std * z).clamp(-1, 1))
        q.append(q_network(obs, samples[-1]))  # (B, N)
        best = q[-1].topk(num_elites, dim=1).indices.unsqueeze(2)  # (B, elites, 1)
        elites = samples[-1].take_along_dim(best, dim=1)  # (B, elites, action_dim)
        mean = elites.mean(dim=1, keepdim=True)  # (B, 1, action_dim)
        std = elites.std(dim=1, keepdim=True, correction=0)  # without a correction, so that of one elite it is 0
    samples, q = torch.cat(samples, dim=1), torch.cat(q, dim=1)  # (B, rounds · N, action_dim) and (B, rounds · N)
    # The best sample and not the mean of the elites, which may lie in the valley between two peaks.
    return samples.take_along_dim(q.argmax(dim=1, keepdim=True).unsqueeze(2), dim=1).squeeze(1)


def cem_numpy(q_values: Callable, action_dim: int, rng: np.random.Generator, args: Args) -> tuple[np.ndarray, float]:
    """The same search in one state, to act: returns a* (action_dim,) and Q(s, a*). q_values is Q(s, ·)."""
    mean, std, samples, q = 0.0, 1.0, [], []
    for _ in range(args.cem_iterations):
        z = rng.standard_normal((args.cem_samples, action_dim), dtype=np.float32)
        samples.append(np.clip(mean + std * z, -1, 1))
        q.append(q_values(samples[-1]))
        elites = samples[-1][q[-1].argsort()[-args.cem_elites :]]
        mean, std = elites.mean(axis=0), elites.std(axis=0)
    samples, q = np.concatenate(samples), np.concatenate(q)
    return samples[q.argmax()], q.max()


class Batch(NamedTuple):
    """B transitions. Not "done" but `terminated`: an episode cut off by a time limit would have gone on."""

    obs: torch.Tensor  # (B, obs_dim) float32
    action: torch.Tensor  # (B, action_dim) float32, in [-1, 1]
    reward: torch.Tensor  # (B,) float32
    next_obs: torch.Tensor  # (B, obs_dim) float32
    terminated: torch.Tensor  # (B,) bool


class ReplayBuffer:
    """The last `capacity` transitions: a ring of arrays in which the newest overwrites the oldest."""

    def __init__(self, capacity: int, obs_dim: int, action_dim: int):
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.action = np.zeros((capacity, action_dim), np.float32)
        self.reward = np.zeros(capacity, np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), np.float32)
        self.terminated = np.zeros(capacity, np.bool_)
        self.capacity, self.size, self.position = capacity, 0, 0

    def add(self, obs, action, reward, next_obs, terminated) -> None:
        """Copies in one transition; next_obs is what the step returned, not what a reset returned after it."""
        i = self.position
        self.obs[i], self.action[i], self.reward[i] = obs, action, reward
        self.next_obs[i], self.terminated[i] = next_obs, terminated
        self.position = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size: int, rng: np.random.Generator, device: torch.device) -> Batch:
        """Draws uniformly, with replacement."""
        i = rng.integers(self.size, size=batch_size)
        arrays = (self.obs, self.action, self.reward, self.next_obs, self.terminated)
        return Batch(*(torch.from_numpy(array.take(i, axis=0)).to(device) for array in arrays))


def linear_schedule(start_e: float, end_e: float, duration: float, t: int) -> float:
    """The value after t environment steps: from start_e to end_e in `duration` steps, and constant from then on."""
    return start_e + (end_e - start_e) * min(t / duration, 1.0)


def td_target(
    next_q: torch.Tensor, lagged_next_q: torch.Tensor, reward: torch.Tensor, terminated: torch.Tensor, gamma: float
) -> torch.Tensor:
    """y = r + γ min(Q_1(s', a*), Q_2(s', a*)), or r where s' is terminal; next_q is by Q_1, lagged_next_q by Q_2."""
    return reward + gamma * torch.minimum(next_q, lagged_next_q).masked_fill(terminated, 0.0)  # all are (B,)


def td_loss(q_taken: torch.Tensor, y: torch.Tensor, loss: str) -> torch.Tensor:
    """The loss of each transition, from Q(s, a) of the action taken and its target; all three (B,)."""
    assert q_taken.shape == y.shape  # (B,) against (B, 1) would silently broadcast to (B, B)
    elementwise = F.huber_loss if loss == "huber" else F.mse_loss
    return elementwise(q_taken, y, reduction="none")


def backpropagate(q_network: QNetwork, target_network: QNetwork, lagged_network: QNetwork, batch: Batch, args: Args):
    """Puts the gradient of the mean loss into the parameters' .grad; returns that loss () and Q(s, a) (B,)."""
    with torch.no_grad():  # the target counts as a constant
        batch_size, action_dim = batch.action.shape
        noise = torch.randn(args.cem_iterations, batch_size, args.cem_samples, action_dim, device=batch.obs.device)
        best_action = cem(target_network, batch.next_obs, noise, args.cem_elites).unsqueeze(1)  # (B, 1, action_dim)
        next_q = target_network(batch.next_obs, best_action).squeeze(1)  # (B,)
        lagged_next_q = lagged_network(batch.next_obs, best_action).squeeze(1)  # (B,)
        y = td_target(next_q, lagged_next_q, batch.reward, batch.terminated, args.gamma)  # (B,)
    q_taken = q_network(batch.obs, batch.action.unsqueeze(1)).squeeze(1)  # (B, 1, action_dim) -> (B, 1) -> (B,)
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
    obs_dim, action_dim = env.observation_space.shape[0], env.action_space.shape[0]
    check_memory(args.buffer_size * (8 * obs_dim + 4 * action_dim + 5))
    buffer = ReplayBuffer(args.buffer_size, obs_dim, action_dim)
    q_network = QNetwork(obs_dim, action_dim, args).to(device)
    target_network = QNetwork(obs_dim, action_dim, args).to(device)
    lagged_network = QNetwork(obs_dim, action_dim, args).to(device)
    target_network.load_state_dict(q_network.state_dict())
    lagged_network.load_state_dict(q_network.state_dict())
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
            if rng.random() < epsilon:
                action = rng.uniform(-1, 1, action_dim).astype(np.float32)
            else:
                action, _ = cem_numpy(q_values(obs), action_dim, rng, args)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            buffer.add(obs, action, reward, next_obs, terminated)
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
                loss, q_taken = compute_gradient(q_network, target_network, lagged_network, batch, args)
                if args.max_grad_norm < math.inf:
                    nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
                optimizer.step()
                updates += 1
                if args.cuda:
                    q_values = q_network.as_numpy_function()
            if global_step > args.learning_starts and global_step % args.target_network_frequency == 0:
                update_target(target_network, q_network, args.tau)
            if global_step % args.target_lag == 0:
                lagged_network.load_state_dict(target_network.state_dict())

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
    rng = np.random.default_rng(args.seed)  # its own, so that evaluations do not change what training draws
    with closing(make_env(args, video)) as env:
        action_dim = env.action_space.shape[0]
        for episode in range(args.eval_episodes):
            obs, _ = env.reset(seed=args.seed + 1_000_000 if episode == 0 else None)
            max_q, rewards, terminated, truncated = [], [], False, False
            while not (terminated or truncated):
                action, q = cem_numpy(q_values(obs), action_dim, rng, args)
                max_q.append(q)
                obs, reward, terminated, truncated, _ = env.step(action)
                rewards.append(reward)
            discounted = [0.0 if terminated else cem_numpy(q_values(obs), action_dim, rng, args)[1]]
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
    tighter["cem_elites"] = args.cem_samples
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
    """Takes an action in [-1, 1]^action_dim; returns what `observe` makes of an observation, a float, and two bools.

    Raises FloatingPointError for rewards that are not finite, and observations for which `observe` returns None.
    """

    def __init__(self, env: gym.Env, observation_space: gym.Space, observe: Callable):
        super().__init__(env)
        self.bounds, self.observe, self.steps = env.action_space, observe, 0
        self.observation_space = observation_space
        self.action_space = gym.spaces.Box(-1, 1, (gym.spaces.flatdim(env.action_space),))

    def reset(self, **options):
        obs, info = self.env.reset(**options)
        return self.observed(obs, 0.0), info

    def step(self, action):
        self.steps += 1
        a, low, high = action.reshape(self.bounds.shape), self.bounds.low, self.bounds.high
        scaled = np.clip(((1 - a) * low + (1 + a) * high) / 2, low, high)  # rounding may lead out of the bounds
        obs, reward, terminated, truncated, info = self.env.step(scaled.astype(self.bounds.dtype))
        reward = float(np.asarray(reward).item())  # an array of one number too
        return self.observed(obs, reward), reward, bool(terminated), bool(truncated), info

    def observed(self, obs, reward):
        seen = self.observe(obs)
        if seen is None or not math.isfinite(reward):
            sent = f"{self.spec.id} sent {obs} and the reward {reward} at its step {self.steps:,}"
            raise FloatingPointError(f"{sent}: not finite, or not of its observation space")
        return seen


def make_env(args: Args, video: Path | None = None) -> gym.Env:
    """An environment with observations (obs_dim,), float32, and actions [-1, 1]^action_dim. Raises BadInput."""
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
        actions = env.action_space
        if not (isinstance(actions, gym.spaces.Box) and actions.dtype.kind == "f" and actions.is_bounded()):
            raise BadInput(f"its actions are {actions}; supported are Box with finite bounds, and Discrete in dqn.py")
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
        q_network = QNetwork(env.observation_space.shape[0], env.action_space.shape[0], args)
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
