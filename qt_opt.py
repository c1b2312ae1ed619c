"""QT-Opt: Q-learning for continuous actions, with a search for the best action in place of a list of actions.

DQN computes Q(s, a) of all actions a and takes the maximum. Continuous actions, such as the torques of a robot's
joints, have no list, and a grid of them grows too fast: 11 values for each of 6 joints are 11^6 = 1.8 million actions.
In QT-Opt the network takes the action as a second input. The cross-entropy method (CEM) searches for the maximum: draw
samples from a normal distribution, keep the elites (the samples of the highest Q), fit a new normal distribution to
the elites, repeat. a* is the best of all samples. The agent acts with a*, and the target uses a* in s'. Two target
networks compute Q there, and the smaller value counts, because a value found by maximizing is easily too high:

    y = r                                                                     if s' is terminal
    y = r + γ min(Q_1(s', a*), Q_2(s', a*))  with a* = argmax_a' Q_1(s', a')  otherwise

Q_1 follows the Q-network slowly, as in dqn.py. Q_2 is an older copy of Q_1.

DDPG, TD3 and SAC learn a second network, the actor, which answers with the best action. QT-Opt has no actor that must
be tuned, lags behind Q or stays on a lower peak of Q. The price is time: each choice of an action, and each transition
of each update, needs 2 x 64 values of Q. With more dimensions of the action the samples lie further apart, so the
search ends further below the maximum.

Kalashnikov et al. (2018), "QT-Opt: Scalable deep reinforcement learning for vision-based robotic manipulation", CoRL,
section 4.2 and equation 1. Two rounds, 64 samples and 6 elites are the paper's values. The paper has slower targets,
for millions of updates on images: τ = 0.0001, Q_2 about 6,000 updates behind. Its γ is 0.9. Its returns lie between 0
and 1, so its loss can be the cross-entropy. Many robots and machines work at the same time.

Changed from dqn.py: `QNetwork` takes the action as an input; `cem` searches for the best action; `Batch` and
`ReplayBuffer` hold actions as vectors; `td_target` and `compute_loss` have two target networks; `train` and `evaluate`
act by the search; `scaled_actions`, in `make_env`, scales actions to [-1, 1]^action_dim, and `play` follows.

    python qt_opt.py --env-id Pendulum-v1
    python qt_opt.py --env-id MountainCarContinuous-v0 --total-timesteps 30000
"""

import ast
import hashlib
import io
import json
import math
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_type_hints

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import tyro
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, create_model
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

Fraction = Annotated[float, Field(ge=0, le=1)]
Width = Annotated[int, Field(gt=0, le=10_000)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]


@dataclass
class Args:
    exp_name: str = Path(__file__).stem  # name of the experiment, a part of the run folder's name
    seed: Annotated[int, Field(ge=0, le=2**31)] = 1  # seed of weights, exploration, replay and environment
    cuda: bool = False  # learn on the GPU (a network as small as the default one is faster on the CPU)
    compile: bool = False  # compile loss and gradient with torch.compile: a slow start, then faster updates
    track: bool = False  # log to Weights & Biases too (without internet: WANDB_MODE=offline, later `wandb sync`)
    wandb_project_name: str = "qladder"  # project in Weights & Biases
    wandb_entity: str | None = None  # team in Weights & Biases
    capture_video: bool = False  # record the first 1,000 frames of every evaluation in videos/
    save_model: bool = False  # keep the last weights (model.pt) and those of the best evaluation (best_model.pt)
    evaluate: Path | None = None  # do not train: play with the weights in this run folder, or in this file
    runs_dir: Path = Path("runs")  # folder for the run folders

    env_id: str = "Pendulum-v1"  # Gymnasium id, or module:id if importing the module registers it
    env_kwargs: tuple[str, ...] = ()  # arguments of the environment, such as is_slippery=False map_name=8x8
    eval_env_kwargs: tuple[str, ...] = ()  # arguments that only the environment of the evaluations gets as well
    max_episode_steps: PositiveInt | None = None  # time limit of an episode (default: the environment's, or 10,000)
    total_timesteps: PositiveInt = 10_000  # environment steps to train for
    learning_rate: PositiveFloat = 3e-3  # step size of Adam
    anneal_lr: bool = True  # decrease the learning rate linearly to 0 over the run
    hidden_sizes: tuple[Width, ...] = (64, 64)  # units of each hidden layer
    buffer_size: Annotated[int, Field(gt=0, le=10**12)] = 100_000  # transitions that the replay buffer keeps
    gamma: Fraction = 0.98  # discount factor γ
    tau: PositiveFraction = 0.01  # τ, how far an update moves the target network towards the Q-network (1: a copy)
    target_network_frequency: PositiveInt = 1  # environment steps between target updates
    target_lag: PositiveInt = 100  # environment steps between copies of the target network Q_1 to the lagged Q_2
    cem_iterations: PositiveInt = 2  # rounds of the search for the best action
    cem_samples: PositiveInt = 64  # actions tried in a round
    cem_elites: PositiveInt = 6  # best samples of a round; the next round's distribution is fitted to them
    batch_size: PositiveInt = 64  # transitions in an update
    start_e: Fraction = 1.0  # ε, the probability of a random action, at the start
    end_e: Fraction = 0.05  # ε at the end
    exploration_fraction: Fraction = 0.2  # fraction of total-timesteps over which ε decreases
    train_frequency: PositiveInt = 1  # environment steps between updates
    learning_starts: NonNegativeInt = 500  # environment steps before the first update
    loss: Literal["mse", "huber"] = "mse"  # squared error, or Huber's loss, which is linear for errors beyond 1
    max_grad_norm: PositiveFloat = 10.0  # longer gradients are scaled down to this norm (inf: never)
    eval_frequency: PositiveInt = 1_000  # environment steps between greedy evaluations
    eval_episodes: PositiveInt = 5  # episodes of an evaluation during training
    final_eval_episodes: PositiveInt = 20  # episodes of the evaluation at the end
    stop_at_return: FiniteFloat | None = None  # end the run when the mean return of an evaluation reaches this number

    def __post_init__(self):
        check(self)  # the types above, and flags that contradict each other
        if self.cem_elites > self.cem_samples:
            raise ValueError("--cem-elites is larger than --cem-samples")


class QNetwork(nn.Module):
    """Q(s, a): (..., obs_dim) and (..., action_dim) -> (...,)."""

    def __init__(self, obs_dim: int, action_dim: int, args: Args):
        super().__init__()
        self.hidden, inputs = nn.ModuleList(), obs_dim + action_dim
        for units in args.hidden_sizes:
            self.hidden.append(nn.Linear(inputs, units))
            inputs = units
        self.output = nn.Linear(inputs, 1)
        self.action_dim = action_dim

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        x = torch.cat([obs, action], -1)
        for layer in self.hidden:
            x = F.relu(layer(x), inplace=True)  # a quarter faster: a search has thousands of rows
        return self.output(x).squeeze(-1)

    def best_action(self, obs: np.ndarray, args: Args, generator: torch.Generator | None = None):
        """a* for one observation (obs_dim,), to act, and Q(s, a*): a (action_dim,) array and a number."""
        noise = torch.randn(args.cem_iterations, 1, args.cem_samples, self.action_dim, generator=generator)
        device = self.output.weight.device
        action, q = cem(self, torch.from_numpy(obs).to(device).unsqueeze(0), noise.to(device), args.cem_elites)
        return action[0].cpu().numpy(), q.item()


@torch.no_grad()
def cem(q_network: QNetwork, obs: torch.Tensor, noise: torch.Tensor, num_elites: int):
    """a* = argmax_a Q(s, a) over [-1, 1]^action_dim, found approximately, (B, action_dim), and Q(s, a*), (B,).

    noise is standard normal, (rounds, B, N, action_dim), with N samples per round and state. The first round draws
    around 0 with a standard deviation of 1.
    """
    obs = obs.unsqueeze(1).expand(-1, noise.shape[2], -1)  # (B, N, obs_dim)
    mean, std, samples, q = 0.0, 1.0, [], []
    for z in noise:  # (B, N, action_dim)
        samples.append((mean + std * z).clamp(-1, 1))
        q.append(q_network(obs, samples[-1]))  # (B, N)
        best = q[-1].topk(num_elites, dim=1).indices.unsqueeze(2)  # (B, elites, 1)
        elites = samples[-1].take_along_dim(best, dim=1)  # (B, elites, action_dim)
        mean = elites.mean(dim=1, keepdim=True)  # (B, 1, action_dim)
        std = elites.std(dim=1, keepdim=True, correction=0)  # without correction, so one elite has 0
    samples, q = torch.cat(samples, dim=1), torch.cat(q, dim=1)  # (B, rounds · N, action_dim), (B, rounds · N)
    # The best sample, because the mean of the elites may lie in the valley between two peaks.
    max_q, best = q.max(dim=1, keepdim=True)  # (B, 1)
    return samples.take_along_dim(best.unsqueeze(2), dim=1).squeeze(1), max_q.squeeze(1)


class Batch(NamedTuple):
    """B transitions."""

    obs: torch.Tensor  # (B, obs_dim) float32
    action: torch.Tensor  # (B, action_dim) float32, in [-1, 1]
    reward: torch.Tensor  # (B,) float32
    next_obs: torch.Tensor  # (B, obs_dim) float32
    terminated: torch.Tensor  # (B,) bool; False if only a time limit ended the episode: then y includes Q of next_obs


class ReplayBuffer:
    """The last `capacity` transitions, in arrays where the newest transition overwrites the oldest."""

    def __init__(self, capacity: int, obs_dim: int, action_dim: int):
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.action = np.zeros((capacity, action_dim), np.float32)
        self.reward = np.zeros(capacity, np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), np.float32)
        self.terminated = np.zeros(capacity, np.bool_)
        self.capacity, self.size, self.position = capacity, 0, 0

    def add(self, obs, action, reward, next_obs, terminated) -> None:
        """Copies one transition. next_obs comes from env.step, even at the end of an episode, not from env.reset."""
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


def linear_schedule(start: float, end: float, duration: float, t: int) -> float:
    """The value after t steps: from `start` to `end` in `duration` steps, then constant."""
    return end if t >= duration else start + (end - start) * (t / duration)


def td_target(
    next_q: torch.Tensor, lagged_next_q: torch.Tensor, reward: torch.Tensor, terminated: torch.Tensor, gamma: float
) -> torch.Tensor:
    """y = r + γ min(Q_1(s', a*), Q_2(s', a*)), or r where s' is terminal. next_q is of Q_1, lagged_next_q of Q_2."""
    return reward + gamma * torch.minimum(next_q, lagged_next_q).masked_fill(terminated, 0.0)  # (B,)


def compute_loss(q_network: QNetwork, target_network: QNetwork, lagged_network: QNetwork, batch: Batch, args: Args):
    """The mean loss over the batch, a scalar, and, for the log, Q(s, a) of the actions taken, (B,)."""
    with torch.no_grad():  # the target is a constant: no gradient flows through it
        batch_size, action_dim = batch.action.shape
        noise = torch.randn(args.cem_iterations, batch_size, args.cem_samples, action_dim, device=batch.obs.device)
        best_action, next_q = cem(target_network, batch.next_obs, noise, args.cem_elites)  # (B, action_dim), (B,)
        lagged_next_q = lagged_network(batch.next_obs, best_action)  # (B,)
        y = td_target(next_q, lagged_next_q, batch.reward, batch.terminated, args.gamma)  # (B,)
    q_taken = q_network(batch.obs, batch.action)  # (B,)
    assert q_taken.shape == y.shape  # a (B,) and a (B, 1) would silently broadcast to (B, B)
    loss = F.mse_loss(q_taken, y) if args.loss == "mse" else F.huber_loss(q_taken, y)
    return loss, q_taken.detach()


@torch.no_grad()
def update_target(target_network: QNetwork, q_network: QNetwork, tau: float) -> None:
    """θ_target ← θ_target + τ (θ - θ_target), in place."""
    for target_parameter, parameter in zip(target_network.parameters(), q_network.parameters(), strict=True):
        target_parameter.lerp_(parameter, tau)


def train(args: Args) -> Path:
    """Trains and evaluates one agent. Returns its run folder. Raises Stop, a message that ends the program."""
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)  # draws actions and batches
    device = torch.device("cuda" if args.cuda else "cpu")
    env = make_env(args)
    run_dir = make_run_dir(args)
    # Some simulators allow one instance. If the only evaluation is after training, it reuses env, which cannot record.
    one_env = args.eval_frequency > args.total_timesteps and not (args.capture_video or args.eval_env_kwargs)
    eval_env = env if one_env else make_env(args, run_dir / "videos")
    obs_dim, action_dim = env.observation_space.shape[0], env.action_space.shape[0]

    q_network = QNetwork(obs_dim, action_dim, args).to(device)
    target_network = QNetwork(obs_dim, action_dim, args).to(device)
    lagged_network = QNetwork(obs_dim, action_dim, args).to(device)
    target_network.load_state_dict(q_network.state_dict())
    lagged_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate, fused=True)  # fused: faster
    loss_function = compiled(compute_loss, args) if args.compile else compute_loss  # both: backward() fills .grad
    buffer = ReplayBuffer(args.buffer_size, obs_dim, action_dim)
    exploration_steps = args.exploration_fraction * args.total_timesteps

    with Run(args, run_dir, q_network) as run, closed_at_end(env, eval_env):  # however the run ends
        warn_of_differences(env, eval_env, args)
        obs, _ = env.reset(seed=args.seed)
        episodes, episodic_return, episodic_length = [], 0.0, 0  # episodes: the finished ones, until they are logged
        best_return, updates, start_time = -math.inf, 0, time.time()
        progress = tqdm(range(1, args.total_timesteps + 1), unit="step", disable=None)  # None: only on a terminal
        for global_step in progress:
            # Act: at random with probability ε, else greedily.
            epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step - 1)
            if rng.random() < epsilon:
                action = rng.uniform(-1, 1, action_dim).astype(np.float32)
            else:
                action, _ = q_network.best_action(obs, args)
            next_obs, reward, terminated, truncated, info = env.step(action)
            buffer.add(obs, action, reward, next_obs, terminated)
            obs = next_obs
            episodic_return += reward
            episodic_length += 1
            if terminated or truncated:
                episode = {"episodic_return": episodic_return, "episodic_length": episodic_length}
                episodes.append(episode | info_numbers(info))
                progress.set_postfix({"return": episodic_return, "ε": epsilon}, refresh=False)
                obs, _ = env.reset()
                episodic_return, episodic_length = 0.0, 0

            # Learn.
            if global_step > args.learning_starts:
                if global_step % args.train_frequency == 0:
                    if args.anneal_lr:
                        rate = linear_schedule(args.learning_rate, 0.0, args.total_timesteps, global_step - 1)
                        optimizer.param_groups[0]["lr"] = rate
                    batch = buffer.sample(args.batch_size, rng, device)
                    loss, q_taken = loss_function(q_network, target_network, lagged_network, batch, args)
                    optimizer.zero_grad()
                    loss.backward()
                    if args.max_grad_norm < math.inf:
                        nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
                    optimizer.step()
                    updates += 1
                if global_step % args.target_network_frequency == 0:
                    update_target(target_network, q_network, args.tau)
                if global_step % args.target_lag == 0:
                    lagged_network.load_state_dict(target_network.state_dict())

            # Report.
            if global_step % 100 == 0 and episodes:
                run.log(means(episodes, "charts/"), global_step)
                episodes = []
            if global_step % 100 == 0 and updates > 0:
                run.log({"losses/td_loss": loss.item(), "losses/q_values": q_taken.mean().item()}, global_step)
                sps = global_step / (time.time() - start_time)
                run.log({"charts/epsilon": epsilon, "charts/SPS": sps}, global_step)
            last = global_step == args.total_timesteps
            if global_step % args.eval_frequency == 0 or last:
                run.save("model.pt")  # if --save-model
                if args.capture_video:
                    eval_env.start_recording(f"step-{global_step}")  # by RecordVideo, in make_env
                num_episodes = args.final_eval_episodes if last else args.eval_episodes
                with same_random_state():  # the evaluation must not change the training
                    metrics, returns = evaluate(eval_env, q_network.best_action, args, num_episodes)
                run.log(metrics, global_step)
                progress.write(f"step {global_step:,}: {summary(metrics, returns)}")
                if metrics["eval/episodic_return"] > best_return:
                    best_return, best_step = metrics["eval/episodic_return"], global_step
                    run.save("best_model.pt")
                if args.stop_at_return is not None and metrics["eval/episodic_return"] >= args.stop_at_return:
                    break
        result = {**metrics, "returns": returns, "best_return": best_return, "best_step": best_step, "updates": updates}
        run.finish(result, global_step, seconds=time.time() - start_time)
    return run_dir


def evaluate(env: gym.Env, best_action: Callable, args: Args, episodes: int) -> tuple[dict[str, float], list[float]]:
    """Plays greedily. Returns metrics, and the undiscounted return of each episode.

    eval/q_predicted is the mean of max_a Q(s, a) over the visited states, eval/q_realised the mean of the discounted
    return that followed them: predicted above realised is overestimation. If a time limit ended the episode, the later
    rewards are unknown, and max_a Q of the last state replaces them. Then only the first half of the states is counted,
    where γ gives this estimate little weight. eval/info/NAME is the mean of a number in the episodes' last `info`.
    """
    generator = torch.Generator().manual_seed(args.seed)  # its own, so evaluations leave training's numbers as they are
    returns, predicted, realised, infos = [], [], [], []
    for episode in range(episodes):
        obs, _ = env.reset(seed=1_000_000 + 1_000 * args.seed + episode)  # the same starts every time
        max_q, rewards, terminated, truncated = [], [], False, False
        while not (terminated or truncated):
            action, q = best_action(obs, args, generator)
            max_q.append(q)
            obs, reward, terminated, truncated, info = env.step(action)
            rewards.append(reward)
        return_from = np.zeros(len(rewards) + 1)  # return_from[t]: the discounted return from step t to the end
        return_from[-1] = 0.0 if terminated else best_action(obs, args, generator)[1]
        for t in reversed(range(len(rewards))):
            return_from[t] = rewards[t] + args.gamma * return_from[t + 1]
        counted = len(rewards) if terminated else (len(rewards) + 1) // 2
        predicted.extend(max_q[:counted])
        realised.extend(return_from[:counted])
        returns.append(sum(rewards))
        infos.append(info_numbers(info))
    metrics = {
        "eval/episodic_return": float(np.mean(returns)),
        "eval/episodic_return_std": float(np.std(returns)),
        "eval/q_predicted": float(np.mean(predicted)),
        "eval/q_realised": float(np.mean(realised)),
    }
    return metrics | means(infos, "eval/"), returns


# The algorithm ends here. The rest is environments, files and the command line, the same in every script here.


class Stop(Exception):
    """Stop(sentence, code) ends the program; code 2: bad input, 1: the run failed."""


def check(args: Args) -> None:
    """Raises ValueError, which tyro prints (exit code 2), for a flag out of its range or a contradiction."""
    flags = {name: (hint, ...) for name, hint in get_type_hints(Args, include_extras=True).items()}  # ...: no default
    try:
        vars(args).update(create_model("Flags", **flags)(**vars(args)))  # pydantic checks; lists of JSON become tuples
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"--{first['loc'][0].replace('_', '-')}: {first['msg']}") from None
    for flag, pairs in (("--env-kwargs", args.env_kwargs), ("--eval-env-kwargs", args.eval_env_kwargs)):
        names = {pair.split("=")[0] for pair in pairs if "=" in pair}
        if len(names - {""}) < len(pairs):
            raise ValueError(f"{flag} takes NAME=VALUE, each NAME once, not {pairs}")
    last_update = args.total_timesteps - args.total_timesteps % args.train_frequency
    for wrong, sentence in (
        (args.batch_size > args.buffer_size, "--batch-size is larger than --buffer-size"),
        (args.learning_starts >= last_update, "--learning-starts and --train-frequency leave no step for an update"),
        (args.cuda and not torch.cuda.is_available(), "--cuda needs a GPU and a PyTorch built for it"),
        (args.track and not find_spec("wandb"), "--track needs: pip install wandb"),
        (args.capture_video and not find_spec("moviepy"), "--capture-video needs: pip install moviepy"),
    ):
        if wrong:
            raise ValueError(sentence)


def make_env(args: Args, video_dir: Path | None = None) -> gym.Env:
    """The environment, with observations (obs_dim,) float32 and actions [-1, 1]^action_dim float32. Raises Stop.

    With video_dir it is the environment of the evaluations.
    """
    random.seed(args.seed)  # some environments use the global random numbers of Python and NumPy, a few to make their
    np.random.seed(args.seed)  # task: so the environments of training and of evaluation get the same one
    words = {"true": True, "false": False, "none": None, "null": None}
    options = {"render_mode": "rgb_array"} if args.capture_video else {}
    for pair in args.env_kwargs + (args.eval_env_kwargs if video_dir else ()):
        name, text = pair.split("=", 1)
        options[name] = words.get(text.lower(), text)
        with suppress(ValueError, SyntaxError):  # text that is no Python literal, such as 8x8, stays text
            options[name] = ast.literal_eval(text)
    try:
        env_id = f"ale_py:{args.env_id}" if args.env_id.startswith("ALE/") else args.env_id
        env = gym.make(env_id, max_episode_steps=args.max_episode_steps, **options)
        if args.capture_video:
            env.reset(seed=args.seed)
            if not env.render_mode or np.shape(env.render())[2:] != (3,):
                raise gym.error.Error("its render() returns no picture (height, width, 3)")
        env.unwrapped.action_space.seed(args.seed)  # some environments draw from their spaces
        env.unwrapped.observation_space.seed(args.seed)
        env = vector_observations(float_rewards(scaled_actions(env)))
    except (gym.error.Error, ModuleNotFoundError, TypeError) as error:
        if isinstance(error, TypeError) and "argument" not in str(error):
            raise  # not a wrong argument: a fault inside the environment shows its traceback
        raise Stop(f"cannot make {args.env_id}: {error}", 2) from error
    if env.spec.max_episode_steps is None:  # a greedy policy may walk in circles for ever
        gym.logger.warn(f"{args.env_id} has no time limit: episodes end after 10,000 steps (see --max-episode-steps)")
        env = gym.wrappers.TimeLimit(env, 10_000)
    if args.capture_video and video_dir:  # records after start_recording, never by itself
        env = gym.wrappers.RecordVideo(env, str(video_dir), lambda episode: False, video_length=1_000)
    return env


def scaled_actions(env: gym.Env) -> gym.Env:
    """The environment with actions [-1, 1]^action_dim float32: -1 is the lower bound, 1 the upper bound."""
    space = env.action_space
    bounded = isinstance(space, gym.spaces.Box) and (np.abs([space.low, space.high]) < 1e38).all()
    if not (bounded and space.dtype.kind == "f"):
        raise gym.error.Error(f"its actions are {space}; supported are Box of floats, finite; dqn.py takes others")

    def to_bounds(action: np.ndarray) -> np.ndarray:
        a = action.reshape(space.shape)
        scaled = ((1 - a) * space.low + (1 + a) * space.high) / 2
        return np.clip(scaled, space.low, space.high).astype(space.dtype)  # rounding may lead out of the bounds

    return gym.wrappers.TransformAction(env, to_bounds, gym.spaces.Box(-1, 1, (math.prod(space.shape),)))


def vector_observations(env: gym.Env) -> gym.Env:
    """The environment with observations (obs_dim,) float32, pixels divided by 255."""
    scale, seen = pixel_scale(env.observation_space), []

    def to_vector(obs) -> np.ndarray:
        vector = np.divide(gym.spaces.flatten(env.observation_space, obs), scale, dtype=np.float32)
        if len(seen) < 1_000:
            seen.append((np.abs(vector).max(initial=0), vector[scale > 1].max(initial=0)))
            largest, brightest = np.max(seen, axis=0) if len(seen) == 1_000 else (0, 1)
            if scale.max() > 1 and brightest < 0.1:  # probably codes of objects, as in MiniGrid
                gym.logger.warn(f"{env.spec.id} sends numbers below 26 as pixels: they are divided by 255")
            if largest > 100:
                advice = "a network learns best from numbers near 1: gymnasium.wrappers.NormalizeObservation"
                gym.logger.warn(f"{env.spec.id} sends observations beyond 100; {advice}")
        return vector

    return gym.wrappers.TransformObservation(env, to_vector, gym.spaces.Box(-np.inf, np.inf, scale.shape))


def float_rewards(env: gym.Env) -> gym.Env:
    """The environment with rewards of type float."""

    def to_float(reward) -> float:
        if np.size(reward) != 1:
            advice = "a wrapper must make it one number, for example gymnasium.wrappers.TransformReward(env, sum)"
            raise Stop(f"the reward of {env.spec.id} has shape {np.shape(reward)}; {advice}", 2)
        return float(np.asarray(reward).item())

    return gym.wrappers.TransformReward(env, to_float)


def pixel_scale(space: gym.Space) -> np.ndarray:
    """The divisor of each number of a flattened observation, (obs_dim,): 255 for pixels, else 1."""
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        parts = space.values() if isinstance(space, gym.spaces.Dict) else space
        return np.concatenate([pixel_scale(part) for part in parts])
    if not isinstance(space, gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        raise gym.error.Error(f"its observations hold a {space}, no vector of fixed length: remove it with a wrapper")
    pixels = isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and (space.high == 255).all()
    return np.full(gym.spaces.flatdim(space), 255 if pixels else 1, np.float32)


def warn_of_differences(env: gym.Env, eval_env: gym.Env, args: Args) -> None:
    """Warns if training and evaluation are different tasks: plays the same ten actions from the same seed in both.

    Raises Stop if their spaces differ.
    """
    spaces, eval_spaces = ((one.observation_space, one.action_space) for one in (env, eval_env))
    if spaces != eval_spaces:
        raise Stop(f"{env.spec.id} has other spaces in evaluation than in training: {eval_spaces}, not {spaces}", 2)
    if env is eval_env or args.eval_env_kwargs:
        return
    played = []
    for one in (env, eval_env):
        random.seed(args.seed)
        np.random.seed(args.seed)
        rows, ended = [(one.reset(seed=args.seed)[0], 0.0)], False
        one.action_space.seed(args.seed)
        while len(rows) <= 10 and not ended:
            obs, reward, terminated, truncated, _ = one.step(one.action_space.sample())
            rows.append((obs, reward))
            ended = terminated or truncated
        model = getattr(one.unwrapped, "P", None)
        played.append((np.vstack([np.append(*row) for row in rows]), str(model) if isinstance(model, dict) else ""))
    (rows, model), (eval_rows, eval_model) = played
    if not np.array_equal(rows, eval_rows, equal_nan=True) or model != eval_model:
        gym.logger.warn(f"training and evaluation play different tasks: {env.spec.id} is not the same if made twice")


@contextmanager
def closed_at_end(*envs: gym.Env):
    """Closes each environment once. An error in close() is a warning, so that it does not spoil a finished run."""
    try:
        yield
    finally:
        for env in dict.fromkeys(envs):
            try:
                env.close()
            except (Exception, SystemExit) as error:
                gym.logger.warn(f"close() of {env} failed: {error!r}")


@contextmanager
def same_random_state():
    """Puts the global random numbers of Python and NumPy back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)


def info_numbers(info: dict) -> dict[str, float]:
    """The finite numbers and booleans in `info`, such as is_success."""
    kinds = bool | int | float | np.bool_ | np.integer | np.floating
    numbers = {name: x if isinstance(x, int) else float(x) for name, x in info.items() if isinstance(x, kinds)}
    return {f"info/{name}": float(x) for name, x in numbers.items() if -1e300 < x < 1e300}


def means(rows: list[dict[str, float]], prefix: str) -> dict[str, float]:
    """The mean of each name over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {prefix + name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def compiled(compute_loss: Callable, args: Args) -> Callable:
    """One graph of loss and gradients. backward() of the loss that it returns only copies these gradients to .grad."""

    def with_gradients(q_network, *rest):
        loss, *more = compute_loss(q_network, *rest)
        return loss.detach(), more, torch.autograd.grad(loss, list(q_network.parameters()))

    torch.compiler.reset()  # forgets the graphs of other runs in this process
    torch._dynamo.config.trace_autograd_ops = True  # takes torch.autograd.grad into the graph
    # No guards, which test whether shapes, types or settings changed: they never do, and a guard can swallow a Ctrl-C.
    # cpp_wrapper: C++ in place of Python calls the kernels, on a CPU.
    options = {"cpp_wrapper": not args.cuda, "guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    graph = torch.compile(with_gradients, fullgraph=True, options=options)

    def loss_function(q_network, *rest):
        loss, more, gradients = graph(q_network, *rest)
        pairs = zip(q_network.parameters(), gradients, strict=True)
        loss.backward = lambda: [setattr(parameter, "grad", gradient) for parameter, gradient in pairs]
        return loss, *more

    return loss_function


def make_run_dir(args: Args) -> Path:
    """Makes runs/{env_id}__{exp_name}__{seed}__{unix_time} with args.json. Raises Stop."""
    name = f"{args.env_id}__{args.exp_name}__{args.seed}__".replace("/", "-").replace(":", "-")
    unix_time = int(time.time())
    while True:
        run_dir = args.runs_dir / f"{name}{unix_time}"
        try:
            run_dir.mkdir(parents=True)
            break
        except FileExistsError:  # another run started in the same second
            unix_time += 1
        except OSError as error:
            raise Stop(f"cannot make a run folder in {args.runs_dir}: {error.strerror}", 2) from error
    sha256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()  # tells versions of this script apart
    versions = {package.__name__: str(package.__version__) for package in (torch, gym, np)}
    content = {**asdict(args), "command": sys.argv, "sha256": sha256, "python": sys.version.split()[0], **versions}
    (run_dir / "args.json").write_text(json.dumps(content, indent=2, default=str))
    return run_dir


class Run:
    """The files of a run: scalars for TensorBoard and, with --track, W&B; weights; result.json."""

    def __init__(self, args: Args, run_dir: Path, network: nn.Module):
        self.args, self.run_dir, self.network, self.wandb = args, run_dir, network, None
        if args.track:
            import wandb  # takes half a second, so only where it is asked for

            names = {"project": args.wandb_project_name, "entity": args.wandb_entity, "name": run_dir.name}
            try:
                self.wandb = wandb.init(**names, config=asdict(args), save_code=True)
            except (wandb.Error, ValueError) as error:
                reason = " ".join(str(error).split())
                raise Stop(f"W&B does not start ({reason:.200}); WANDB_MODE=offline needs no account", 2) from error
            self.wandb.define_metric("*", step_metric="global_step")
        self.writer = SummaryWriter(str(run_dir), flush_secs=5)

    def __enter__(self):
        return self

    def log(self, metrics: dict[str, float], global_step: int) -> None:
        """Writes scalars. Raises Stop if one is not finite."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, global_step)
        if self.wandb:
            self.wandb.log({**metrics, "global_step": global_step})
        for name, value in metrics.items():
            if not math.isfinite(value):
                reason = "--learning-rate is too high, or the environment sent a number that is not finite"
                raise Stop(f"{name} is {value} at step {global_step:,}: {reason}", 1)

    def save(self, name: str) -> None:
        """With --save-model writes finite weights to NAME.part and renames it, so that no file is half written."""
        if self.args.save_model and all(parameter.isfinite().all() for parameter in self.network.parameters()):
            file = io.BytesIO()  # torch.save to a file would hide the error of a full disk
            torch.save(self.network.state_dict(), file)
            (self.run_dir / f"{name}.part").write_bytes(file.getvalue())
            (self.run_dir / f"{name}.part").replace(self.run_dir / name)

    def finish(self, result: dict, global_step: int, seconds: float) -> None:
        """Writes result.json last: its presence marks a finished run. Prints a summary."""
        sps, part = global_step / seconds, self.run_dir / "result.part"
        self.writer.flush()  # raises here if the disk is full
        result |= {"global_step": global_step, "seconds": seconds, "sps": sps}
        part.write_text(json.dumps(result, indent=2))
        part.replace(self.run_dir / "result.json")
        trained = f"trained {global_step:,} steps in {seconds:.0f} s ({sps:,.0f} steps/s)"
        print(f"{self.args.env_id}: {summary(result, result['returns'])}, {trained}, see {self.run_dir}")

    def __exit__(self, kind, error, _) -> None:
        try:
            if error and kind is not KeyboardInterrupt:
                text = error.args[0] if kind is Stop else "".join(traceback.format_exception(error))
                (self.run_dir / "error.txt").write_text(f"{text}\n")
            self.save("model.pt")  # also if the run was interrupted
            self.writer.close()
        finally:
            if self.wandb:
                for path in sorted(self.run_dir.glob("videos/*.mp4")):
                    row = {f"videos/{path.stem}": sys.modules["wandb"].Video(str(path))}
                    self.wandb.log(row | {"global_step": int(path.stem.split("-")[1])})  # of step-500-episode-0.mp4
                self.wandb.finish(exit_code=0 if (self.run_dir / "result.json").exists() else 1)


def summary(metrics: dict, returns: list[float]) -> str:
    values = "Q predicted {eval/q_predicted:.2f}, realised {eval/q_realised:.2f}".format_map(metrics)
    return f"greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes, {values}"


def play(args: Args) -> None:
    """Plays with stored weights. args.json gives env_id and the fields below it, the command line wins. Raises Stop."""
    path = args.evaluate / "model.pt" if args.evaluate.is_dir() else args.evaluate
    stored, names = path.with_name("args.json"), [field.name for field in fields(Args)]
    try:
        content = json.loads(stored.read_text()) if stored.exists() else {}
        trained = replace(args, **{name: content[name] for name in names[names.index("env_id") :] if name in content})
    except ValueError as error:
        raise Stop(f"{stored} is not what a run writes: {error}", 2) from error
    default = replace(trained, env_kwargs=(), eval_env_kwargs=())
    args = tyro.cli(Args, default=default)  # reads the command line again, over the stored flags
    args.env_kwargs = trained.env_kwargs + trained.eval_env_kwargs + args.env_kwargs  # of a name the last wins
    env = make_env(args, path.parent / "videos")
    q_network = QNetwork(env.observation_space.shape[0], env.action_space.shape[0], args)
    try:
        if args.env_id != trained.env_id:
            raise ValueError(f"the weights were trained on {trained.env_id}")
        q_network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    except Exception as error:  # the file may hold anything
        raise Stop(f"{path} does not hold weights for {args.env_id}: {' '.join(str(error).split()):.300}", 2) from error
    with closed_at_end(env):
        if args.capture_video:
            env.start_recording("eval-episode-0")
        print(f"{args.env_id}: {summary(*evaluate(env, q_network.best_action, args, args.final_eval_episodes))}")


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    # Hides an OSError of TensorBoard's thread: the next add_scalar raises the same error in this thread.
    threading.excepthook = lambda error: issubclass(error.exc_type, OSError) or threading.__excepthook__(error)
    torch.set_num_threads(1)  # with matrices this small a second thread gains nothing
    torch.set_flush_denormal(True)  # a CPU is slow with tiny numbers, which Adam's averages reach where gradients are 0
    sys.path.append(str(Path.cwd()))  # for --env-id module:id
    args = tyro.cli(Args, description=__doc__)
    try:
        for flag in ("--env-kwargs", "--eval-env-kwargs", "--hidden-sizes"):
            if sum(word.split("=")[0].replace("_", "-") == flag for word in sys.argv) > 1:
                raise Stop(f"{flag} is given twice: write all its values after one {flag}", 2)
        play(args) if args.evaluate else train(args)
    except (Stop, OSError, MemoryError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        library = str(Path(gym.__file__).parent)
        if not isinstance(error, Stop) and any(frame.filename.startswith(library) for frame in frames):
            raise  # a frame of gymnasium means that the environment failed: it shows its traceback
        sentence, code = error.args if isinstance(error, Stop) else (error, 1)
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
