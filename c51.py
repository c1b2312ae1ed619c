"""C51, distributional Q-learning: learn the distribution of the return, not its mean alone.

Q(s, a) is a mean. The mean 5 does not tell whether the return is always 5, or 0 and 10 equally often. C51 learns the
distribution of the random return Z(s, a): the probabilities p_1, ..., p_N of N fixed values, the atoms z_i, which
divide the support from v_min to v_max evenly (the paper's N = 51 gave the name). The target is a distribution too:

    Z(s, a) = r                         in distribution, if s' is terminal
    Z(s, a) = r + γ Z_target(s', a')    in distribution, otherwise, with a' = argmax_a' Q_target(s', a')
    Q(s, a) = Σ_i z_i p_i(s, a)         chooses the actions, a' too

The values r + γ z_i lie between the atoms, so each value gives its probability to the two atoms beside it, more to the
nearer one (`project`). This keeps the mean, which is DQN's target. The loss is the cross-entropy of the target m and
the prediction, -Σ_i m_i log p_i(s, a). It cannot fall below the entropy of m, so it stays above 0 where the return is
random.

The support clips values outside of it to its edge, and only this changes the mean. So choose v_min and v_max for the
discounted return Σ_t γ^t r_t instead of the reward. With rewards between r_min <= 0 and r_max >= 0, returns lie between
r_min / (1 - γ) and r_max / (1 - γ): in CartPole, with reward 1 and γ = 0.99, between 0 and 100. A single reward of 1 at
the end of an episode needs only 0 to 1. A wider support has its atoms further apart. losses/clipped_mass is the share
of the target's probability that was clipped, and the run ends with a warning where it is above 5 %.

Bellemare, Dabney and Munos (2017), "A distributional perspective on reinforcement learning", ICML, algorithm 1; the
projection is its equation 7.

Changed from dqn.py: `QNetwork` has an output for each atom, `td_target` and `project` make the target's distribution,
`compute_loss` is the cross-entropy, so there is no --loss; `train` logs the clipped share and warns.

    python c51.py --env-id CartPole-v1
    python c51.py --env-id FrozenLake-v1 --gamma 0.95 --v-max 1
"""

import ast
import hashlib
import io
import itertools
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
from typing import Annotated, NamedTuple, get_type_hints

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

    env_id: str = "CartPole-v1"  # Gymnasium id, or module:id if importing the module registers it
    env_kwargs: tuple[str, ...] = ()  # arguments of the environment, such as is_slippery=False map_name=8x8
    eval_env_kwargs: tuple[str, ...] = ()  # arguments that only the environment of the evaluations gets as well
    max_episode_steps: PositiveInt | None = None  # time limit of an episode (default: the environment's, or 10,000)
    action_bins: Annotated[int, Field(ge=2)] = 11  # values per dimension into which a continuous action is divided
    total_timesteps: PositiveInt = 100_000  # environment steps to train for
    learning_rate: PositiveFloat = 1e-2  # step size of Adam
    anneal_lr: bool = True  # decrease the learning rate linearly to 0 over the run
    hidden_sizes: tuple[Width, ...] = (64, 64)  # units of each hidden layer
    buffer_size: Annotated[int, Field(gt=0, le=10**12)] = 100_000  # transitions that the replay buffer keeps
    gamma: Fraction = 0.99  # discount factor γ
    tau: PositiveFraction = 0.015  # τ, how far an update moves the target network towards the Q-network (1: a copy)
    target_network_frequency: PositiveInt = 4  # environment steps between target updates
    batch_size: PositiveInt = 512  # transitions in an update
    start_e: Fraction = 1.0  # ε, the probability of a random action, at the start
    end_e: Fraction = 0.1  # ε at the end
    exploration_fraction: Fraction = 0.25  # fraction of total-timesteps over which ε decreases
    train_frequency: PositiveInt = 4  # environment steps between updates
    learning_starts: NonNegativeInt = 2_000  # environment steps before the first update
    max_grad_norm: PositiveFloat = 10.0  # longer gradients are scaled down to this norm (inf: never)
    eval_frequency: PositiveInt = 10_000  # environment steps between greedy evaluations
    eval_episodes: PositiveInt = 5  # episodes of an evaluation during training
    final_eval_episodes: PositiveInt = 20  # episodes of the evaluation at the end
    stop_at_return: FiniteFloat | None = None  # end the run when the mean return of an evaluation reaches this number
    n_atoms: Annotated[int, Field(ge=2, le=10_000)] = 51  # N, the values whose probabilities the network learns
    v_min: Annotated[float, Field(ge=-1e9, le=1e9)] = 0.0  # lowest discounted return, the first atom
    v_max: Annotated[float, Field(ge=-1e9, le=1e9)] = 100.0  # highest discounted return (at most r_max / (1 - γ))

    def __post_init__(self):
        check(self)  # the types above, and flags that contradict each other
        if not (torch.linspace(self.v_min, self.v_max, self.n_atoms).diff() > 0).all():
            raise ValueError(f"--v-min must be below --v-max, which {self.v_min:g} and {self.v_max:g} are not")


class QNetwork(nn.Module):
    """The logits of the probabilities p_i(s, ·): (..., obs_dim) -> (..., num_actions, n_atoms)."""

    def __init__(self, obs_dim: int, num_actions: int, args: Args):
        super().__init__()
        self.hidden, inputs = nn.ModuleList(), obs_dim
        for units in args.hidden_sizes:
            self.hidden.append(nn.Linear(inputs, units))
            inputs = units
        self.output = nn.Linear(inputs, num_actions * args.n_atoms)
        self.register_buffer("atoms", torch.linspace(args.v_min, args.v_max, args.n_atoms))  # saved with the weights

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        x = obs
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.output(x).unflatten(-1, (-1, len(self.atoms)))

    def q_values(self, obs: np.ndarray) -> np.ndarray:
        """Q(s, ·) of one observation, to act: (obs_dim,) -> (num_actions,)."""
        with torch.inference_mode():
            logits = self(torch.from_numpy(obs).to(self.output.weight.device))
            return (logits.softmax(dim=-1) @ self.atoms).cpu().numpy()


class Batch(NamedTuple):
    """B transitions."""

    obs: torch.Tensor  # (B, obs_dim) float32
    action: torch.Tensor  # (B,) int64
    reward: torch.Tensor  # (B,) float32
    next_obs: torch.Tensor  # (B, obs_dim) float32
    terminated: torch.Tensor  # (B,) bool; False if only a time limit ended the episode: then y includes Q of next_obs


class ReplayBuffer:
    """The last `capacity` transitions, in arrays where the newest transition overwrites the oldest."""

    def __init__(self, capacity: int, obs_dim: int):
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.action = np.zeros(capacity, np.int64)
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
    next_logits: torch.Tensor, reward: torch.Tensor, terminated: torch.Tensor, atoms: torch.Tensor, gamma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The distribution of r + γ Z_target(s', a'), or of r where s' is terminal: values and probabilities, (B, n_atoms).

    next_logits are the target network's in s', (B, num_actions, n_atoms); atoms is (n_atoms,), the others are (B,).
    """
    next_p = next_logits.softmax(dim=2)
    best_action = (next_p @ atoms).argmax(dim=1)  # a', (B,): the action with the largest mean
    next_p = next_p.take_along_dim(best_action.view(-1, 1, 1), dim=1).squeeze(1)  # (B, 1, n_atoms) -> (B, n_atoms)
    values = reward.unsqueeze(1) + gamma * atoms * ~terminated.unsqueeze(1)
    return values, next_p


def project(values: torch.Tensor, p: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    """Moves the probabilities p of the values, both (B, n_atoms), to the evenly spaced atoms (n_atoms,): (B, n_atoms).

    A value between two atoms gives them shares that keep its mean: with atoms 0, 10, 20, a value of 13 gives 0.7 of its
    probability to 10 and 0.3 to 20. A value beyond an edge gives all of it to the edge.
    """
    delta_z = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    position = ((values - atoms[0]) / delta_z).clamp(0, len(atoms) - 1)  # 0 on the first atom, 1 on the second, ...
    lower = position.floor().clamp(max=len(atoms) - 2)  # a value on the last atom belongs to the last pair
    fraction = position - lower  # 0: all to the lower atom, 1: all to the atom above it
    lower = lower.long()
    m = torch.zeros_like(p).scatter_add(1, lower, p * (1 - fraction))
    return m.scatter_add(1, lower + 1, p * fraction)


def compute_loss(q_network: QNetwork, target_network: QNetwork, batch: Batch, args: Args):
    """The mean loss, a scalar; for the log, Q(s, a) of the actions taken, (B,), and clipped_mass, a scalar."""
    atoms = q_network.atoms  # (n_atoms,)
    with torch.no_grad():  # the target is a constant: no gradient flows through it
        next_logits = target_network(batch.next_obs)  # (B, num_actions, n_atoms)
        values, next_p = td_target(next_logits, batch.reward, batch.terminated, atoms, args.gamma)  # (B, n_atoms) each
        m = project(values, next_p, atoms)  # (B, n_atoms)
        outside = (values - values.clamp(atoms[0], atoms[-1])).abs() > 0.01 * (atoms[1] - atoms[0])  # not by rounding
        clipped_mass = (next_p * outside).sum(dim=1).mean()
    logits = q_network(batch.obs)  # (B, num_actions, n_atoms)
    logits_taken = logits.take_along_dim(batch.action.view(-1, 1, 1), dim=1).squeeze(1)  # of the action: (B, n_atoms)
    loss = F.cross_entropy(logits_taken, m)  # the mean of -Σ_i m_i log p_i(s, a)
    q_taken = logits_taken.detach().softmax(dim=1) @ atoms  # (B,)
    return loss, q_taken, clipped_mass


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
    obs_dim, num_actions = env.observation_space.shape[0], int(env.action_space.n)

    q_network = QNetwork(obs_dim, num_actions, args).to(device)
    target_network = QNetwork(obs_dim, num_actions, args).to(device)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate, fused=True)  # fused: faster
    loss_function = compiled(compute_loss, args) if args.compile else compute_loss  # both: backward() fills .grad
    buffer = ReplayBuffer(args.buffer_size, obs_dim)
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
                action = rng.integers(num_actions)
            else:
                action = q_network.q_values(obs).argmax()
            next_obs, reward, terminated, truncated, info = env.step(int(action))
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
                    loss, q_taken, clipped_mass = loss_function(q_network, target_network, batch, args)
                    optimizer.zero_grad()
                    loss.backward()
                    if args.max_grad_norm < math.inf:
                        nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
                    optimizer.step()
                    updates += 1
                if global_step % args.target_network_frequency == 0:
                    update_target(target_network, q_network, args.tau)

            # Report.
            if global_step % 100 == 0 and episodes:
                run.log(means(episodes, "charts/"), global_step)
                episodes = []
            if global_step % 100 == 0 and updates > 0:
                run.log({"losses/td_loss": loss.item(), "losses/q_values": q_taken.mean().item()}, global_step)
                run.log({"losses/clipped_mass": clipped_mass.item()}, global_step)
                sps = global_step / (time.time() - start_time)
                run.log({"charts/epsilon": epsilon, "charts/SPS": sps}, global_step)
            last = global_step == args.total_timesteps
            if global_step % args.eval_frequency == 0 or last:
                run.save("model.pt")  # if --save-model
                if args.capture_video:
                    eval_env.start_recording(f"step-{global_step}")  # by RecordVideo, in make_env
                num_episodes = args.final_eval_episodes if last else args.eval_episodes
                with same_random_state():  # the evaluation must not change the training
                    metrics, returns = evaluate(eval_env, q_network.q_values, args, num_episodes)
                run.log(metrics, global_step)
                progress.write(f"step {global_step:,}: {summary(metrics, returns)}")
                if metrics["eval/episodic_return"] > best_return:
                    best_return, best_step = metrics["eval/episodic_return"], global_step
                    run.save("best_model.pt")
                if args.stop_at_return is not None and metrics["eval/episodic_return"] >= args.stop_at_return:
                    break
        if updates > 0 and clipped_mass > 0.05:
            said = f"{clipped_mass:.0%} of the targets' probability lies outside --v-min {args.v_min:g}"
            progress.write(f"warning: {said} to --v-max {args.v_max:g}", file=sys.stderr)
        result = {**metrics, "returns": returns, "best_return": best_return, "best_step": best_step, "updates": updates}
        run.finish(result, global_step, seconds=time.time() - start_time)
    return run_dir


def evaluate(env: gym.Env, q_values: Callable, args: Args, episodes: int) -> tuple[dict[str, float], list[float]]:
    """Plays greedily. Returns metrics, and the undiscounted return of each episode.

    eval/q_predicted is the mean of max_a Q(s, a) over the visited states, eval/q_realised the mean of the discounted
    return that followed them: predicted above realised is overestimation. If a time limit ended the episode, the later
    rewards are unknown, and max_a Q of the last state replaces them. Then only the first half of the states is counted,
    where γ gives this estimate little weight. eval/info/NAME is the mean of a number in the episodes' last `info`.
    """
    returns, predicted, realised, infos = [], [], [], []
    for episode in range(episodes):
        obs, _ = env.reset(seed=1_000_000 + 1_000 * args.seed + episode)  # the same starts every time
        max_q, rewards, terminated, truncated = [], [], False, False
        while not (terminated or truncated):
            q = q_values(obs)
            max_q.append(q.max())
            obs, reward, terminated, truncated, info = env.step(int(q.argmax()))
            rewards.append(reward)
        return_from = np.zeros(len(rewards) + 1)  # return_from[t]: the discounted return from step t to the end
        return_from[-1] = 0.0 if terminated else q_values(obs).max()
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
    """The environment, with observations (obs_dim,) float32 and actions 0 .. num_actions - 1. Raises Stop.

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
        env = vector_observations(float_rewards(numbered_actions(env, args.action_bins)))
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


def numbered_actions(env: gym.Env, action_bins: int) -> gym.Env:
    """The environment with actions 0, 1, 2, ... one for each combination of the values of its dimensions."""
    space, spaces = env.action_space, gym.spaces
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return gym.wrappers.TransformAction(env, lambda action: int(action) + start, spaces.Discrete(space.n))
    values = []  # of each dimension
    if isinstance(space, spaces.MultiDiscrete):
        values = [range(n) for n in space.nvec.flat]
    elif isinstance(space, spaces.MultiBinary):
        values = [range(2)] * math.prod(space.shape)
    elif isinstance(space, spaces.Tuple) and all(isinstance(part, spaces.Discrete) for part in space):
        values = [range(part.start, part.start + part.n) for part in space]
    elif isinstance(space, spaces.Box) and (np.abs([space.low, space.high]) < 1e38).all():
        middles = (np.arange(action_bins) + 0.5) / action_bins  # of equal parts of the range, as in DiscretizeAction
        bounds = zip(space.low.flat, space.high.flat, strict=True)
        values = [(1 - middles) * low + middles * high for low, high in bounds]
        if np.issubdtype(space.dtype, np.integer):
            values = [np.unique(np.rint(dimension)) for dimension in values]
    if not values or math.prod(map(len, values)) > 1_000:
        kinds = "Discrete, and Box with bounds, MultiDiscrete, MultiBinary and Tuples of Discrete"
        raise gym.error.Error(f"its actions are {space}; supported are {kinds} with at most 1,000 combinations")
    table = list(itertools.product(*values))  # table[i] is combination number i
    if not isinstance(space, spaces.Tuple):
        table = np.array(table, space.dtype).reshape(-1, *space.shape) + getattr(space, "start", 0)
    return gym.wrappers.TransformAction(env, table.__getitem__, spaces.Discrete(len(table)))


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
    q_network = QNetwork(env.observation_space.shape[0], int(env.action_space.n), args)
    try:
        if args.env_id != trained.env_id:
            raise ValueError(f"the weights were trained on {trained.env_id}")
        q_network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    except Exception as error:  # the file may hold anything
        raise Stop(f"{path} does not hold weights for {args.env_id}: {' '.join(str(error).split()):.300}", 2) from error
    with closed_at_end(env):
        if args.capture_video:
            env.start_recording("eval-episode-0")
        print(f"{args.env_id}: {summary(*evaluate(env, q_network.q_values, args, args.final_eval_episodes))}")


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
