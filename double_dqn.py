"""Double DQN: one network chooses the action, the other one values it.

DQN's target takes the largest of the target network's values in s'. Each of them is off by some error, and the maximum
picks the one that happens to be too high: even if the errors average to zero, their maximum does not. So Q is
overestimated, and each update hands that on to the states before. With two networks that err in different ways, the
action that looks best to one need not be the one that the other overrates. Double DQN lets the online network choose
the action and the target network value it:

    y = r                                               if s' is terminal
    y = r + γ Q_target(s', argmax_a' Q(s', a'))         otherwise

van Hasselt, Guez and Silver (2016), "Deep reinforcement learning with double Q-learning", AAAI, equation 4.

Changed from dqn.py: `td_target`, and `loss_and_gradient`, which gives it the online network's values too.

    python double_dqn.py --env-id CartPole-v1
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
    """environment steps between target updates (the paper copies: --tau 1, and here for instance 500)"""
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
    """loss of a TD error (huber, linear beyond 1, learns little from rare failures, as CartPole's are in the end)"""
    max_grad_norm: float = 10.0
    """longer gradients are scaled down to this norm (inf: never)"""
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
    high = dict.fromkeys("gamma tau start_e end_e exploration_fraction".split(), 1)
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


class ReplayBuffer:
    """The last `capacity` transitions: a ring of arrays in which the newest overwrites the oldest."""

    def __init__(self, capacity: int, obs_dim: int):
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.action = np.zeros(capacity, np.int64)
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
    online_next_q: torch.Tensor, next_q: torch.Tensor, reward: torch.Tensor, terminated: torch.Tensor, gamma: float
) -> torch.Tensor:
    """y = r + γ Q_target(s', argmax_a' Q(s', a')), without the second term where s' is terminal.

    online_next_q is Q(s', ·) and next_q is Q_target(s', ·), both (B, num_actions); the others are (B,).
    """
    best_action = online_next_q.argmax(dim=1, keepdim=True)  # (B, 1)
    return reward + gamma * next_q.gather(1, best_action).squeeze(1).masked_fill(terminated, 0.0)


def td_loss(q_taken: torch.Tensor, td_target: torch.Tensor, loss: str) -> torch.Tensor:
    """The loss of each transition, from Q(s, a) of the action taken and its target; all three (B,)."""
    assert q_taken.shape == td_target.shape  # (B,) against (B, 1) would silently broadcast to (B, B)
    elementwise = F.huber_loss if loss == "huber" else F.mse_loss
    return elementwise(q_taken, td_target, reduction="none")


def loss_and_gradient(q_network: QNetwork, target_network: QNetwork, batch: Batch, args: Args):
    """The mean loss (), Q(s, a) of the actions taken (B,), and the clipped gradient by all parameters (P,)."""
    with torch.no_grad():  # the target counts as a constant
        online_next_q, next_q = q_network(batch.next_obs), target_network(batch.next_obs)  # (B, num_actions) each
        y = td_target(online_next_q, next_q, batch.reward, batch.terminated, args.gamma)  # (B,)
    q = q_network(batch.obs)  # (B, num_actions)
    q_taken = q.gather(1, batch.action.unsqueeze(1)).squeeze(1)  # (B, num_actions) -> (B, 1) -> (B,)
    loss = td_loss(q_taken, y, args.loss).mean()
    gradients = torch.autograd.grad(loss, list(q_network.parameters()))
    gradient = torch.cat([g.flatten() for g in gradients])
    too_long = (gradient.norm() / args.max_grad_norm).clamp(min=1.0)
    return loss.detach(), q_taken.detach(), gradient / too_long


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
    buffer = ReplayBuffer(args.buffer_size, obs_dim)
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
                batch = buffer.sample(args.batch_size, rng, device)
                loss, q_taken, gradient = update(q_network, target_network, batch, args)
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
                log(metrics, global_step)
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
