"""Fitted Q iteration: Q-learning as a sequence of regressions on a fixed data set.

Given transitions (s, a, r, s') that someone collected, at random for example, and no environment to try things in, what
is the best to do? Bellman's equation says what Q should be if Q were known for all s'. So start from Q_0 = 0, and in
iteration k let any regression method of supervised learning learn Q_k from the inputs (s, a) and the outputs

    y = r                            if s' is terminal
    y = r + γ max_a' Q_(k-1)(s', a')   otherwise

Q_1 predicts the next reward, Q_2 the rewards of two steps, and so on. Nothing but the regression is learned: no step
size, no exploration, no replay. What can go wrong is what DQN then has to deal with: the maximum picks what is
overrated, errors go from one iteration into the next, and outside of the data the regression has to guess. So returns
rise and fall over the iterations, and the last Q need not be the best one. Both are reported, on episodes by which the
best one was not chosen.

Gordon (1995), "Stable function approximation in dynamic programming", ICML; Ernst, Geurts and Wehenkel (2005),
"Tree-based batch mode reinforcement learning", JMLR 6, figure 1; Riedmiller (2005), "Neural fitted Q iteration", ECML.

    python fqi.py --env-id CartPole-v1 --regressor kernel
    python fqi.py --env-id CartPole-v1 --regressor extra_trees --dataset transitions.npz
"""

import copy
import difflib
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import tyro
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm


@dataclass
class Args:
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run folder's name"""
    seed: int = 1
    """seed of data, regression and environment"""
    track: bool = False
    """log to Weights & Biases too, not to TensorBoard alone"""
    wandb_project_name: str = "qladder"
    """project in Weights & Biases"""
    wandb_entity: str | None = None
    """team in Weights & Biases"""
    wandb_mode: Literal["online", "offline", "disabled"] | None = None
    """offline runs are uploaded later with `wandb sync` (default: WANDB_MODE, else online)"""
    capture_video: bool = False
    """record the first of the final episodes as mp4"""
    runs_dir: Path = Path("runs")
    """where the run folder is made"""

    env_id: str = "CartPole-v1"
    """Gymnasium id, or module:id if importing the module registers it"""
    max_episode_steps: int | None = None
    """truncate episodes after so many steps (default: the environment's limit, or 10,000 if it has none)"""
    action_bins: int = 11
    """values into which a one-dimensional continuous action is divided"""
    dataset: str | None = None
    """an .npz file to learn from (if it does not exist, it is made), or minari:NAME (default: collect anew)"""
    dataset_size: int = 50_000
    """transitions to collect"""
    collections: int = 1
    """parts in which they are collected: the first at random, each further one by the Q learned from those before"""
    epsilon: float = 0.1
    """probability of a random action in those further parts"""
    regressor: Literal[
        "linear", "polynomial", "kernel", "k_neighbors", "decision_tree", "extra_trees", "gradient_boosting", "mlp"
    ] = "kernel"
    """what learns Q from (s, a)"""
    action_coding: Literal["per_action", "one_hot"] = "per_action"
    """a model for each action, or one model whose input has the action as a one-hot vector"""
    iterations: int = 100
    """regressions"""
    gamma: float = 0.99
    """discount factor γ"""
    eval_frequency: int = 5
    """iterations between greedy evaluations"""
    eval_episodes: int = 20
    """episodes in an evaluation"""


class BadInput(ValueError):
    """What was asked for cannot be done; the message is one sentence for the user."""


def check(args: Args) -> None:
    """Raises BadInput for the first argument that makes no sense."""
    low = dict.fromkeys("max_episode_steps dataset_size collections iterations eval_frequency eval_episodes".split(), 1)
    low |= {"action_bins": 2, "seed": 0, "gamma": 0, "epsilon": 0}
    high = {"gamma": 1, "epsilon": 1, "collections": args.dataset_size}
    for name, least in low.items():
        value, most = getattr(args, name), high.get(name, math.inf)
        if value is not None and not least <= value <= most:
            raise BadInput(f"--{name.replace('_', '-')} must be between {least} and {most}, not {value}")
    minari = (args.dataset or "").startswith("minari:")
    needed = {"wandb": args.track, "moviepy": args.capture_video, "minari": minari, "ale_py": "ALE/" in args.env_id}
    for package, wanted in needed.items():
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


class Dataset(NamedTuple):
    """N transitions. Not "done" but `terminated`: an episode cut off by a time limit would have gone on."""

    obs: np.ndarray  # (N, obs_dim) float32
    action: np.ndarray  # (N,) int64
    reward: np.ndarray  # (N,) float64
    next_obs: np.ndarray  # (N, obs_dim) float32
    terminated: np.ndarray  # (N,) bool


def collect(args: Args, size: int, epsilon: float, q_values: Callable | None, rng: np.random.Generator) -> Dataset:
    """Plays `size` steps, at random with probability ε, else greedily by q_values: (1, obs_dim) -> (1, num_actions)."""
    rows = []
    with closing(make_env(args)) as env:
        num_actions = int(env.action_space.n)
        obs, _ = env.reset(seed=int(rng.integers(2**31)))
        for _ in range(size):
            greedy = q_values is not None and rng.random() >= epsilon
            action = int(q_values(obs[None]).argmax()) if greedy else int(rng.integers(num_actions))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            rows.append((obs.copy(), action, reward, next_obs.copy(), terminated))
            obs = env.reset()[0] if terminated or truncated else next_obs
    obs, action, reward, next_obs, terminated = map(np.array, zip(*rows, strict=True))
    return Dataset(obs, action.astype(np.int64), reward.astype(np.float64), next_obs, terminated.astype(np.bool_))


def load_dataset(source: str, args: Args, obs_dim: int, num_actions: int) -> Dataset:
    """An .npz file with the fields of Dataset, or minari:NAME. Raises BadInput for what it cannot learn from."""
    arrays = read_minari(source, args) if source.startswith("minari:") else read_npz(source)
    if missing := [name for name in Dataset._fields if name not in arrays]:
        raise BadInput(f"{source} lacks {', '.join(missing)}; a data set has {', '.join(Dataset._fields)}")
    size = len(arrays["obs"]) if arrays["obs"].ndim else 0
    shapes = {"obs": (size, obs_dim), "next_obs": (size, obs_dim)}
    for name, array in arrays.items():
        if array.shape != shapes.get(name, (size,)):
            raise BadInput(f"{name} in {source} has the shape {array.shape}, not {shapes.get(name, (size,))}")
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise BadInput(f"{name} in {source} holds what is no finite number")
    if size == 0:
        raise BadInput(f"{source} is empty")
    action = arrays["action"]
    if (action != action.astype(np.int64)).any() or action.min() < 0 or action.max() >= num_actions:
        raise BadInput(f"action in {source} must be whole numbers from 0 to {num_actions - 1}")
    types = (np.float32, np.int64, np.float64, np.float32, np.bool_)
    return Dataset(*(arrays[name].astype(kind) for name, kind in zip(Dataset._fields, types, strict=True)))


def read_npz(path: str) -> dict[str, np.ndarray]:
    """The arrays of a file that have names of Dataset's fields."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in Dataset._fields if name in file}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is not a data set: {str(error).splitlines()[0]}") from error


def read_minari(source: str, args: Args) -> dict[str, np.ndarray]:
    """The same from a Minari data set that was downloaded; observations are flattened as make_env does it."""
    import minari  # only minari:NAME needs it

    name, parts = source.removeprefix("minari:"), []
    with closing(make_env(args)) as env:
        space = env.unwrapped.observation_space
    try:
        for episode in minari.load_dataset(name).iterate_episodes():
            obs = np.array([gym.spaces.flatten(space, one) for one in episode.observations])
            parts.append((obs[:-1], episode.actions, episode.rewards, obs[1:], episode.terminations))
        return dict(zip(Dataset._fields, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    except FileNotFoundError as error:
        raise BadInput(f"{name} is not on this machine: minari download {name}") from error
    except (ImportError, ValueError, TypeError, IndexError, OSError) as error:
        raise BadInput(f"cannot read {name} for {args.env_id}: {str(error).splitlines()[0]}") from error


class KNeighbors(RegressorMixin, BaseEstimator):
    """The mean output of the k nearest inputs.

    Neighbours do not change from one iteration to the next, only their outputs do. So they are looked up once for
    inputs that come again: fitting to the same array again costs nothing, and predicting for it again costs one mean.
    Distances are in the environment's own units: scaled to equal variances they made worse policies on CartPole.
    """

    def __init__(self, k: int):
        self.k, self.x, self.asked = k, None, None

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        if x is not self.x:
            self.tree = NearestNeighbors(n_neighbors=min(self.k, len(x))).fit(x)
            self.x, self.asked = x, None
        self.y = y

    def predict(self, x: np.ndarray) -> np.ndarray:
        if x is self.asked:
            return self.y[self.neighbours].mean(axis=1)
        neighbours = self.tree.kneighbors(x, return_distance=False)  # (N, k)
        if len(x) > 1_000:  # the data set, not an evaluation
            self.asked, self.neighbours = x, neighbours
        return self.y[neighbours].mean(axis=1)


def make_regressor(name: str, seed: int) -> RegressorMixin:
    """An untrained regression method by its name in --regressor."""
    # Without an intercept a sum of Gaussians is 0 far from the data, and where rewards are positive that is pessimism:
    # the greedy policy stays where Q is known. A polynomial is anything there.
    gaussians = Nystroem(gamma=0.1, n_components=200, random_state=seed)
    mlp = MLPRegressor(hidden_layer_sizes=(64, 64), max_iter=10, random_state=seed)  # 10 epochs an iteration
    return {
        "linear": LinearRegression(),
        "polynomial": make_pipeline(StandardScaler(), PolynomialFeatures(2), LinearRegression()),
        "kernel": make_pipeline(StandardScaler(), gaussians, Ridge(1.0, fit_intercept=False)),
        "k_neighbors": KNeighbors(30),
        "decision_tree": DecisionTreeRegressor(min_samples_leaf=20, random_state=seed),
        "extra_trees": ExtraTreesRegressor(50, min_samples_leaf=5, random_state=seed),
        "gradient_boosting": HistGradientBoostingRegressor(random_state=seed),
        "mlp": make_pipeline(StandardScaler(), mlp),
    }[name]


class QFunction:
    """Q(s, ·) of N observations, (N, obs_dim) -> (N, num_actions), by a regressor."""

    def __init__(self, regressor: RegressorMixin, num_actions: int, action_coding: str):
        self.num_actions, self.one_hot = num_actions, action_coding == "one_hot"
        self.models = [clone(regressor) for _ in range(1 if self.one_hot else num_actions)]
        self.inputs = {}  # of the data set, made once

    def with_action(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """(N, obs_dim) and (N,) -> (N, obs_dim + num_actions). One-hot: action 2 is not more than action 1."""
        return np.hstack([obs, np.eye(self.num_actions, dtype=obs.dtype)[action]])

    def fit(self, data: Dataset, y: np.ndarray) -> None:
        """Learns Q(s, a) from the targets y (N,)."""
        if not self.inputs:
            if self.one_hot:
                self.inputs = {0: (self.with_action(data.obs, data.action), np.arange(len(y)))}
            else:
                rows = {action: np.flatnonzero(data.action == action) for action in range(self.num_actions)}
                self.inputs = {action: (data.obs[i], i) for action, i in rows.items() if len(i) > 0}
        for k, (x, i) in self.inputs.items():
            self.models[k].fit(x, y[i])

    def frozen(self) -> "QFunction":
        """A copy that further fitting does not change."""
        return copy.deepcopy(self)

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        q = np.full((len(obs), self.num_actions), -np.inf)  # an action that was never tried is never chosen
        for action in range(self.num_actions):
            if self.one_hot:
                q[:, action] = self.models[0].predict(self.with_action(obs, np.full(len(obs), action)))
            elif action in self.inputs:
                q[:, action] = self.models[action].predict(obs)
        return q


def td_target(next_q: np.ndarray, reward: np.ndarray, terminated: np.ndarray, gamma: float) -> np.ndarray:
    """y = r + γ max_a' Q_(k-1)(s', a'), without the second term where s' is terminal.

    next_q is Q_(k-1)(s', ·), (N, num_actions); reward, terminated and the result are (N,).
    """
    return reward + gamma * np.where(terminated, 0.0, next_q.max(axis=1))


def evaluate(args: Args, q_values: Callable, seed: int, video: Path | None = None):
    """Plays eval_episodes greedily, all at the same time, because a regressor takes as long for one state as for many.

    Returns the list of undiscounted returns, and the metrics. eval/q_predicted is the mean of max_a Q(s, a) over
    visited states s, eval/q_realised that of the discounted return that followed: predicted above realised is
    overestimation. A truncated episode would have gone on, so its unseen tail counts as γ^n max_a Q(last obs, a),
    and only the first half of its states counts at all, where n is large.
    """
    envs = [make_env(args, video if k == 0 else None) for k in range(args.eval_episodes)]
    obs = np.array([env.reset(seed=seed + k)[0] for k, env in enumerate(envs)])  # (episodes, obs_dim)
    max_q, rewards = [[] for _ in envs], [[] for _ in envs]
    predicted, realised, running = [], [], list(range(len(envs)))
    while running:
        q = q_values(obs[running])  # (running, num_actions)
        still = []
        for k, values in zip(running, q, strict=True):
            max_q[k].append(values.max())
            obs[k], reward, terminated, truncated, _ = envs[k].step(values.argmax())
            rewards[k].append(float(reward))
            if not (terminated or truncated):
                still.append(k)
                continue
            envs[k].close()
            discounted = [0.0 if terminated else q_values(obs[[k]]).max()]
            for reward in reversed(rewards[k]):
                discounted.append(reward + args.gamma * discounted[-1])
            counted = len(rewards[k]) if terminated else (len(rewards[k]) + 1) // 2
            predicted += max_q[k][:counted]
            realised += discounted[: -counted - 1 : -1]  # it was built from the end
        running = still
    returns = [sum(one) for one in rewards]
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


def train(args: Args) -> Path:
    """Collects or loads the data, iterates, evaluates, and returns the run folder. Raises BadInput and OSError."""
    check(args)
    warnings.filterwarnings("ignore", category=ConvergenceWarning)  # of the MLP: a few epochs an iteration are meant
    warnings.filterwarnings("ignore", message="n_components > n_samples")  # with little data there are fewer Gaussians
    rng = np.random.default_rng(args.seed)
    with closing(make_env(args)) as env:
        obs_dim, num_actions = env.observation_space.shape[0], int(env.action_space.n)
    stored = None
    if args.dataset and (args.dataset.startswith("minari:") or Path(args.dataset).exists()):
        stored = load_dataset(args.dataset, args, obs_dim, num_actions)

    run_dir = make_run_dir(args)
    regressor = make_regressor(args.regressor, args.seed)
    with open_log(args, run_dir) as log:
        best, best_return, best_iteration, start_time = None, -math.inf, 0, time.time()
        iteration, data, q_values = 0, stored, None
        progress = tqdm(total=args.iterations, unit="iteration", disable=None)
        for part in range(1 if stored else args.collections):
            # Collect.
            if not stored:
                size = args.dataset_size // args.collections + (part < args.dataset_size % args.collections)
                new = collect(args, size, args.epsilon, best, rng)
                data = new if data is None else Dataset(*map(np.concatenate, zip(data, new, strict=True)))
                if args.dataset:
                    with Path(args.dataset).open("wb") as file:
                        np.savez_compressed(file, **data._asdict())
            q_values = QFunction(regressor, num_actions, args.action_coding)
            next_q = np.zeros((len(data.reward), num_actions))  # Q_0 = 0: the first targets are the rewards

            # Iterate.
            last = args.iterations * (part + 1) // (1 if stored else args.collections)
            while iteration < last:
                iteration += 1
                y = td_target(next_q, data.reward, data.terminated, args.gamma)
                q_values.fit(data, y)
                next_q = q_values(data.next_obs)
                progress.update()
                if iteration % args.eval_frequency == 0 or iteration == args.iterations:
                    q_taken = q_values(data.obs)[np.arange(len(y)), data.action]
                    residual = td_target(next_q, data.reward, data.terminated, args.gamma) - q_taken
                    metrics = {"losses/td_loss": float(np.mean((y - q_taken) ** 2))}
                    metrics |= {"losses/bellman_residual": float(np.sqrt(np.mean(residual**2)))}
                    returns, evaluated = evaluate(args, q_values, seed=1_000_000 + 1_000 * args.seed)
                    log(metrics | evaluated | {"losses/q_values": float(q_taken.mean())}, iteration)
                    line = "iteration {}: greedy return {:.1f} ± {:.1f}, Q predicted {:.2f}, realised {:.2f}"
                    progress.write(line.format(iteration, *evaluated.values()))
                    if evaluated["eval/episodic_return"] > best_return:
                        best_return, best_iteration = evaluated["eval/episodic_return"], iteration
                        best = q_values.frozen()
        progress.close()
        # The best iteration was chosen by the evaluations above, so it is reported on other episodes.
        finals = {}
        for name, q in (("last", q_values), ("best", best)):
            video = run_dir / "videos" / "final" if args.capture_video and name == "best" else None
            finals[name] = evaluate(args, q, 2_000_000_000 - 1_000 * args.seed, video)
        log({f"eval/{name}_return": one["eval/episodic_return"] for name, (_, one) in finals.items()}, iteration)

    seconds = time.time() - start_time
    returns, metrics = finals["last"]
    best_returns, best_metrics = finals["best"]
    result = metrics | {"returns": returns, "best_returns": best_returns, "best_iteration": best_iteration}
    result |= {"best_return": best_metrics["eval/episodic_return"], "global_step": len(data.reward)}
    result |= {"updates": iteration, "seconds": seconds, "sps": len(data.reward) * iteration / seconds}
    (run_dir / "result.part").write_text(json.dumps(result, indent=2))
    os.replace(run_dir / "result.part", run_dir / "result.json")  # last and at once: a run that has it is complete
    print(
        f"{args.env_id}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} after the last iteration, "
        f"{np.mean(best_returns):.1f} ± {np.std(best_returns):.1f} after the best one ({best_iteration}), over "
        f"{len(returns)} episodes each, {iteration} iterations in {seconds:.0f} s, see {run_dir}"
    )
    return run_dir


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C."""
    args = tyro.cli(Args, description=__doc__)
    try:
        train(args)
    except (BadInput, FloatingPointError, MemoryError, OSError, KeyboardInterrupt) as error:
        print(f"error: {error}" if str(error) else "interrupted", file=sys.stderr)
        sys.exit({BadInput: 2, KeyboardInterrupt: 130}.get(type(error), 1))


if __name__ == "__main__":
    main()
