"""PQN, the parallelised Q-network: many environments in place of a replay buffer, and no target network.

A network that learns from targets which it makes itself can drive them, and itself, to infinity; against that dqn.py
has a memory and a second network. Gallici et al. show that layer normalisation, which gives the outputs of a layer mean
0 and variance 1 in every state, bounds by how much a change of Q(s, a) can push Q(s', a'), and that this is enough. And
a batch need not come from a memory to be varied: 32 environments that are played at the same time are in 32 different
places. So PQN plays all of them for a few steps, learns from these steps, and forgets them.

As the steps are fresh and in order, a target can look further ahead than one of them. The λ-return

    G_t = r_t + γ ((1 - λ) max_a Q(s_t+1, a) + λ G_t+1)

is a mean of the targets with 1, 2, 3, ... rewards before Q takes over, in which each has λ times the weight of the one
before. After a terminal step nothing follows: G_t = r_t. Where an episode was truncated, and where the steps end, G_t+1
is not known: G_t = r_t + γ max_a Q(s_t+1, a). That some of the actions in it were random, and not the best ones, is
ignored (Peng's Q(λ)).

Gallici et al. (2025), "Simplifying deep temporal difference learning", ICLR, algorithm 1. The λ-return is Sutton and
Barto (2018), "Reinforcement learning", equation 12.18, with max_a Q for the value of a state.

Changed from dqn.py: `QNetwork` has layer normalisation; `lambda_returns` makes the targets; `backpropagate` takes a
`Batch` of them; `train` plays many environments, and learns, by RAdam, from their last steps alone.

    python pqn.py --env-id CartPole-v1
    python pqn.py --env-id Acrobot-v1 --num-envs 8 --num-steps 64
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
    total_timesteps: Count = 300_000  # steps to train for, all environments together
    learning_rate: Positive = 3e-3  # step size of RAdam
    anneal_lr: bool = True  # let the learning rate fall linearly to 0 over the run
    hidden_sizes: Annotated[tuple[int, ...], 1, 10_000] = (64, 64)  # units of each hidden layer
    layer_norm: bool = True  # normalise the outputs of each hidden layer
    gamma: Share = 0.99  # discount factor γ
    num_envs: Count = 32  # environments that are played at the same time
    num_steps: Count = 32  # steps of each of them between two phases of learning
    num_minibatches: Count = 4  # parts into which these steps are divided, one for an update
    update_epochs: Count = 4  # how often each step is learned from
    q_lambda: Share = 0.65  # λ: 0 is a target of one step, 1 the return of all steps there are
    start_e: Share = 1.0  # ε, the probability of a random action, at the start
    end_e: Share = 0.05  # ε at the end
    exploration_fraction: PositiveShare = 0.25  # fraction of total-timesteps in which ε falls
    max_grad_norm: Positive = 10.0  # longer gradients are scaled down to this norm (inf: never)
    eval_frequency: Count = 30_000  # steps between greedy evaluations, all environments together
    eval_episodes: Count = 20  # episodes in an evaluation


class QNetwork(nn.Sequential):
    """Q(s, ·) of observations: (..., obs_dim) -> (..., num_actions)."""

    def __init__(self, obs_dim: int, num_actions: int, args: Args):
        layers = []
        for inputs, outputs in pairwise([obs_dim, *args.hidden_sizes]):
            norm = nn.LayerNorm(outputs) if args.layer_norm else nn.Identity()
            layers += [nn.Linear(inputs, outputs), norm, nn.ReLU()]
        super().__init__(*layers, nn.Linear([obs_dim, *args.hidden_sizes][-1], num_actions))

    def as_numpy_function(self) -> Callable[[np.ndarray], np.ndarray]:
        """The same function of NumPy arrays."""
        device = self[-1].weight.device

        @torch.inference_mode()
        def q_values(x: np.ndarray) -> np.ndarray:
            return self(torch.from_numpy(x).to(device)).cpu().numpy()

        return q_values


class Batch(NamedTuple):
    """B steps, of any environments."""

    obs: torch.Tensor  # (B, obs_dim) float32
    action: torch.Tensor  # (B,) int64
    returns: torch.Tensor  # (B,) float32, their λ-returns


def linear_schedule(start_e: float, end_e: float, duration: float, t: int) -> float:
    """The value after t environment steps: from start_e to end_e in `duration` steps, and constant from then on."""
    return start_e + (end_e - start_e) * min(t / duration, 1.0)


def lambda_returns(
    next_value: torch.Tensor,
    reward: torch.Tensor,
    terminated: torch.Tensor,
    truncated: torch.Tensor,
    gamma: float,
    q_lambda: float,
) -> torch.Tensor:
    """G_t = r_t + γ ((1 - λ) max_a Q(s_t+1, a) + λ G_t+1), from the last step to the first; all (num_steps, num_envs).

    next_value is max_a Q(s_t+1, a), of the state that the step led to, not of the one after a reset.
    """
    returns = torch.empty_like(reward)
    following = next_value[-1]  # beyond the last step nothing is known but Q
    for t in reversed(range(len(reward))):
        beyond = (1 - q_lambda) * next_value[t] + q_lambda * following
        beyond = torch.where(truncated[t], next_value[t], beyond)  # what followed is of another episode
        following = returns[t] = reward[t] + gamma * beyond.masked_fill(terminated[t], 0.0)
    return returns


def backpropagate(q_network: QNetwork, batch: Batch, args: Args):
    """Puts the gradient of the mean loss into the parameters' .grad; returns that loss () and Q(s, a) (B,)."""
    q = q_network(batch.obs)  # (B, num_actions)
    q_taken = q.gather(1, batch.action.unsqueeze(1)).squeeze(1)  # (B, num_actions) -> (B, 1) -> (B,)
    loss = F.mse_loss(q_taken, batch.returns)
    loss.backward()
    return loss.detach(), q_taken.detach()


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises BadInput, FloatingPointError, OSError."""
    check(args)
    random.seed(args.seed)  # some environments draw from the generators that Python and NumPy share out
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    device = torch.device("cuda" if args.cuda else "cpu")

    same_step = gym.vector.AutoresetMode.SAME_STEP  # an episode's last step returns the first observation of the next
    envs = gym.vector.SyncVectorEnv([partial(make_env, args)] * args.num_envs, autoreset_mode=same_step)
    obs_dim, num_actions = envs.single_observation_space.shape[0], int(envs.single_action_space.n)
    q_network = QNetwork(obs_dim, num_actions, args).to(device)
    optimizer = torch.optim.RAdam(q_network.parameters(), lr=args.learning_rate)
    compute_gradient = compiled(backpropagate, args.cuda) if args.compile else backpropagate
    q_values = q_network.as_numpy_function()

    run_dir = make_run_dir(args)
    exploration_steps = args.exploration_fraction * args.total_timesteps
    phase = args.num_envs * args.num_steps  # steps between two phases of learning
    with closing(envs), open_log(args, run_dir) as log, ExitStack() as at_exit:
        at_exit.callback(save_weights, args, q_network, run_dir / "model.pt")
        global_step, updates, best_return, start_time = 0, 0, -math.inf, time.time()
        episodic_return, episodic_length = np.zeros(args.num_envs), np.zeros(args.num_envs)
        obs, _ = envs.reset(seed=args.seed)  # the environments have seed, seed + 1, ...
        progress = tqdm(range(args.total_timesteps // phase), unit_scale=phase, unit="step", disable=None)
        for _ in progress:
            # Act: in every environment at random with probability ε, else greedily.
            played = []
            for _ in range(args.num_steps):
                epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step)
                greedy, any_action = q_values(obs).argmax(axis=1), rng.integers(num_actions, size=args.num_envs)
                action = np.where(rng.random(args.num_envs) < epsilon, any_action, greedy)
                next_obs, reward, terminated, truncated, info = envs.step(action)
                global_step += args.num_envs
                led_to = next_obs.copy()
                episodic_return += reward
                episodic_length += 1
                for i in np.flatnonzero(terminated | truncated):
                    led_to[i] = info["final_obs"][i]  # next_obs is already of the next episode
                    ended = {"return": episodic_return[i], "length": episodic_length[i]}
                    log({f"charts/episodic_{name}": value for name, value in ended.items()}, global_step)
                    progress.set_postfix({**ended, "ε": epsilon}, refresh=False)
                    episodic_return[i] = episodic_length[i] = 0
                played.append((obs, action, reward.astype(np.float32), led_to, terminated, truncated))
                obs = next_obs

            # Learn from these steps.
            arrays = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*played, strict=True))
            seen, action, reward, led_to, terminated, truncated = arrays  # each (num_steps, num_envs, ...)
            with torch.no_grad():  # the targets count as constants
                next_value = q_network(led_to).amax(dim=2)
                returns = lambda_returns(next_value, reward, terminated, truncated, args.gamma, args.q_lambda)
            steps = Batch(seen.flatten(0, 1), action.flatten(), returns.flatten())
            remaining = 1 - (global_step - phase) / args.total_timesteps if args.anneal_lr else 1.0
            optimizer.param_groups[0]["lr"] = args.learning_rate * remaining
            for _ in range(args.update_epochs):
                for rows in torch.from_numpy(rng.permutation(phase)).to(device).chunk(args.num_minibatches):
                    optimizer.zero_grad()
                    loss, q_taken = compute_gradient(q_network, Batch(*(part[rows] for part in steps)), args)
                    if args.max_grad_norm < math.inf:
                        nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
                    optimizer.step()
                    updates += 1

            # Report.
            losses = {"losses/td_loss": loss.item(), "losses/q_values": q_taken.mean().item()}
            sps = global_step / (time.time() - start_time)
            log({**losses, "charts/epsilon": epsilon, "charts/SPS": sps}, global_step)
            last = global_step + phase > args.total_timesteps
            if global_step % args.eval_frequency < phase or last:
                save_weights(args, q_network, run_dir / "model.pt")
                if last:
                    envs.close()  # of some environments there can be only so many, and evaluate makes its own
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
    longest = args.total_timesteps // max(args.num_envs, 1)  # that leaves one phase of learning
    tighter = {"num_envs": args.total_timesteps, "num_steps": longest}
    tighter["num_minibatches"] = args.num_envs * args.num_steps
    for name, hint in get_type_hints(Args, include_extras=True).items():
        if get_origin(hint) is Annotated and (value := getattr(args, name)) is not None:
            least, most = hint.__metadata__[0], tighter.get(name, hint.__metadata__[1])
            if not all(least <= number <= most for number in np.ravel(value)):
                raise BadInput(f"--{name.replace('_', '-')} must be between {least} and {most}, not {value}")
            setattr(args, name, int(value) if hint.__origin__ in (int, int | None) else value)
    if args.num_envs * args.num_steps % args.num_minibatches:
        raise BadInput("--num-envs times --num-steps must be a multiple of --num-minibatches")
    if args.cuda and not torch.cuda.is_available():
        raise BadInput("--cuda needs a GPU and a PyTorch built for it; this one finds none")
    for wanted, package in ((args.track, "wandb"), (args.capture_video, "moviepy"), ("ALE/" in args.env_id, "ale_py")):
        if wanted and not importlib.util.find_spec(package):
            raise BadInput(f"{package} is missing: pip install {package.replace('_', '-')}")


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
