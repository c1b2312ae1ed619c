"""Fitted Q iteration: Q-learning as a sequence of regressions on a fixed data set.

Given transitions (s, a, r, s') that someone collected, at random for example, and no environment to try things in, what
is the best to do? Bellman's equation says what Q should be if Q were known for all s'. So start from Q_0 = 0, and in
iteration k let any regression method of supervised learning learn Q_k from the inputs (s, a) and the outputs

    y = r                              if s' is terminal
    y = r + γ max_a' Q_(k-1)(s', a')   otherwise

Q_1 predicts the next reward, Q_2 the rewards of two steps, and so on. There is no step size, no exploration and no
replay. What can go wrong is what DQN then has to deal with: the maximum picks what is overrated, errors go from one
iteration into the next, and outside of the data the regression has to guess. So returns rise and fall over the
iterations, and the last Q need not be the best one. Both are reported, on episodes by which the best one was not
chosen.

Gordon (1995), "Stable function approximation in dynamic programming", ICML; Ernst, Geurts and Wehenkel (2005),
"Tree-based batch mode reinforcement learning", JMLR 6, figure 1; Riedmiller (2005), "Neural fitted Q iteration", ECML.

    python fqi.py --env-id CartPole-v1 --regressor kernel
    python fqi.py --env-id CartPole-v1 --regressor extra_trees --dataset transitions.npz
"""

import ast
import copy
import importlib.util
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
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_origin, get_type_hints

import gymnasium as gym
import numpy as np
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

Count = Annotated[int, 1, math.inf]  # types with their ranges
Limit = Annotated[int | None, 1, math.inf]
Share = Annotated[float, 0, 1]
Regressor = Literal[
    "linear", "polynomial", "kernel", "k_neighbors", "decision_tree", "extra_trees", "gradient_boosting", "mlp"
]


@dataclass
class Args:
    exp_name: str = Path(__file__).stem  # name of the experiment, a part of the run folder's name
    seed: Annotated[int, 0, 900_000] = 1  # seed of data, regression and environment
    track: bool = False  # log to Weights & Biases too, not to TensorBoard alone
    wandb_project_name: str = "qladder"  # project in Weights & Biases
    wandb_entity: str | None = None  # team in Weights & Biases
    wandb_mode: Literal["online", "offline", "disabled"] | None = None  # offline: `wandb sync` later (None: WANDB_MODE)
    capture_video: bool = False  # record 1,000 frames of the first of the final episodes, in videos/ in the run folder
    runs_dir: Path = Path("runs")  # where the run folder is made

    env_id: str = "CartPole-v1"  # Gymnasium id, or module:id if importing the module registers it
    env_kwargs: tuple[str, ...] = ()  # arguments of the environment, as is_slippery=False map_name=8x8
    max_episode_steps: Limit = None  # truncate episodes after so many steps (default: the limit of env-id, or 10,000)
    action_bins: Annotated[int, 2, math.inf] = 11  # values into which a one-dimensional continuous action is divided
    dataset: str | None = None  # an .npz file to learn from (made if not there), or minari:NAME (default: collect anew)
    dataset_size: Count = 50_000  # transitions to collect
    collections: Count = 1  # parts to collect them in: the first at random, others by the best Q learned so far
    epsilon: Share = 0.1  # probability of a random action in those other parts
    regressor: Regressor = "kernel"  # what learns Q from (s, a)
    action_coding: Literal["per_action", "one_hot"] = "per_action"  # a model for each action, or one of s and one-hot a
    iterations: Count = 100  # regressions
    gamma: Share = 0.99  # discount factor γ
    eval_frequency: Count = 5  # iterations between greedy evaluations
    eval_episodes: Count = 20  # episodes in an evaluation
    num_eval_envs: Count = 20  # environments in which they are played at the same time (1 where there can be only one)


class Dataset(NamedTuple):
    """N transitions. Not "done" but `terminated`: an episode cut off by a time limit would have gone on."""

    obs: np.ndarray  # (N, obs_dim) float32
    action: np.ndarray  # (N,) int64
    reward: np.ndarray  # (N,) float64
    next_obs: np.ndarray  # (N, obs_dim) float32
    terminated: np.ndarray  # (N,) bool


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
    # Without an intercept a sum of Gaussians is 0 far from the data. Where rewards are positive that is pessimistic, so
    # the greedy policy stays where Q is known. A polynomial grows without bound there.
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
        self.inputs = {}  # of each model: its inputs x from the data set, and their rows there

    def with_action(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """(N, obs_dim) and (N,) -> (N, obs_dim + num_actions). One-hot: action 2 is not more than action 1."""
        return np.hstack([obs, np.eye(self.num_actions, dtype=obs.dtype)[action]])

    def fit(self, data: Dataset, y: np.ndarray) -> None:
        """Learns Q(s, a) from the targets y (N,)."""
        if not self.inputs and self.one_hot:
            self.inputs[0] = self.with_action(data.obs, data.action), np.arange(len(y))
        elif not self.inputs:
            for action in np.unique(data.action):
                rows = np.flatnonzero(data.action == action)
                self.inputs[int(action)] = data.obs[rows], rows
        for model, (x, rows) in self.inputs.items():
            self.models[model].fit(x, y[rows])

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        q = np.full((len(obs), self.num_actions), -np.inf)  # an action that was never tried is never chosen
        for action in range(self.num_actions):
            if self.one_hot:
                q[:, action] = self.models[0].predict(self.with_action(obs, np.full(len(obs), action)))
            elif action in self.inputs:
                q[:, action] = self.models[action].predict(obs)
        return q


def td_target(next_q: np.ndarray, reward: np.ndarray, terminated: np.ndarray, gamma: float) -> np.ndarray:
    """y = r + γ max_a' Q_(k-1)(s', a'), or r where s' is terminal. next_q is Q_(k-1)(s', ·), (N, num_actions)."""
    return reward + gamma * np.where(terminated, 0.0, next_q.max(axis=1))  # (N,), as reward and terminated are


def collect(args: Args, size: int, epsilon: float, q_values: Callable | None, rng: np.random.Generator) -> Dataset:
    """Plays `size` steps, at random with probability ε, else greedily by q_values: (1, obs_dim) -> (1, num_actions)."""
    rows = []
    with closing(make_env(args)) as env:
        num_actions = int(env.action_space.n)
        obs, _ = env.reset(seed=int(rng.integers(2**31)))
        for _ in range(size):
            greedy = q_values is not None and rng.random() >= epsilon
            action = q_values(obs[None]).argmax() if greedy else rng.integers(num_actions)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            rows.append((obs, action, reward, next_obs, terminated))
            obs = env.reset()[0] if terminated or truncated else next_obs
    return Dataset(*map(np.array, zip(*rows, strict=True)))


def train(args: Args) -> Path:
    """Collects or loads the data, iterates, evaluates, and returns the run folder. Raises BadInput and OSError."""
    check(args)
    warnings.filterwarnings("ignore", category=ConvergenceWarning)  # of the MLP: a few epochs an iteration are meant
    warnings.filterwarnings("ignore", message="n_components > n_samples")  # with little data there are fewer Gaussians
    random.seed(args.seed)  # some environments draw from the generators that Python and NumPy share out
    np.random.seed(args.seed)
    rng = np.random.default_rng(args.seed)
    with closing(make_env(args)) as env:
        obs_dim, num_actions = env.observation_space.shape[0], int(env.action_space.n)
    source = str(args.dataset or "")
    stored = source.startswith("minari:") or (source and Path(source).exists())
    data = load_dataset(source, args, obs_dim, num_actions) if stored else None
    parts = 1 if stored else args.collections

    run_dir = make_run_dir(args)
    regressor = make_regressor(args.regressor, args.seed)
    with open_log(args, run_dir) as log:
        best, best_return, best_iteration, start_time = None, -math.inf, 0, time.time()
        progress = tqdm(total=args.iterations, unit="iteration", disable=None)
        for part, steps in enumerate(np.array_split(range(args.dataset_size), parts)):
            # Collect.
            if not stored:
                new = collect(args, len(steps), args.epsilon, best, rng)
                data = new if data is None else Dataset(*map(np.concatenate, zip(data, new, strict=True)))
                if args.dataset:
                    with open(source, "wb") as file:
                        np.savez_compressed(file, **data._asdict())

            # Iterate. With more data it begins again at Q_0 = 0: the first targets are the rewards.
            q_values = QFunction(regressor, num_actions, args.action_coding)
            next_q = np.zeros((len(data.reward), num_actions))
            for iteration in range(args.iterations * part // parts + 1, args.iterations * (part + 1) // parts + 1):
                y = td_target(next_q, data.reward, data.terminated, args.gamma)
                q_values.fit(data, y)
                next_q = q_values(data.next_obs)
                progress.update()

                # Report.
                if iteration % args.eval_frequency == 0 or iteration == args.iterations:
                    q_taken = q_values(data.obs)[np.arange(len(y)), data.action]
                    residual = td_target(next_q, data.reward, data.terminated, args.gamma) - q_taken
                    returns, metrics = evaluate(args, q_values, seed=1_000_000 + 1_000 * args.seed)
                    mse, rms = float(np.mean((y - q_taken) ** 2)), float(np.sqrt(np.mean(residual**2)))
                    losses = {"losses/td_loss": mse, "losses/bellman_residual": rms, "losses/q_values": q_taken.mean()}
                    log({**losses, **metrics}, iteration)
                    line = "iteration {}: greedy return {:.1f} ± {:.1f}, Q predicted {:.2f}, realised {:.2f}"
                    progress.write(line.format(iteration, *metrics.values()))
                    if metrics["eval/episodic_return"] > best_return:
                        best_return, best_iteration = metrics["eval/episodic_return"], iteration
                        best = copy.deepcopy(q_values)  # further fitting does not change it
        progress.close()

        # The best iteration was chosen by the evaluations above, so it is reported on other episodes. (Seeds up to
        # 900,000 never lead to the same ones.)
        final_seed = 2_000_000_000 - 1_000 * args.seed
        returns, metrics = evaluate(args, q_values, final_seed)
        best_returns, best_metrics = evaluate(args, best, final_seed, run_dir / "videos" / "final")
        last_return, best_return = metrics["eval/episodic_return"], best_metrics["eval/episodic_return"]
        log({"eval/last_return": last_return, "eval/best_return": best_return}, iteration)
        chosen = {"best_returns": best_returns, "best_iteration": best_iteration, "best_return": best_return}
        result = {**metrics, "returns": returns, **chosen, "global_step": len(data.reward), "updates": iteration}
        write_result(args, run_dir, result, seconds=time.time() - start_time)
    return run_dir


def evaluate(args: Args, q_values: Callable, seed: int, video: Path | None = None):
    """Plays greedily, episodes at the same time, because a regressor takes as long for one state as for many.

    Returns the list of undiscounted returns, and the metrics. eval/q_predicted is the mean of max_a Q(s, a) over
    visited states s, eval/q_realised that of the discounted return that followed: predicted above realised is
    overestimation. A truncated episode would have gone on, so its unseen tail counts as γ^n max_a Q(last obs, a),
    and only the first half of its states counts at all, where n is large.
    """
    episodes, num_envs = range(args.eval_episodes), min(args.num_eval_envs, args.eval_episodes)
    max_q, rewards, predicted, realised = [[] for _ in episodes], [[] for _ in episodes], [], []
    with ExitStack() as stack:
        envs = [stack.enter_context(closing(make_env(args, None if k else video))) for k in range(num_envs)]
        for first in range(0, args.eval_episodes, num_envs):
            running = list(episodes[first : first + num_envs])
            env_of = dict(zip(running, envs, strict=False))
            obs = {k: env_of[k].reset(seed=seed + k)[0] for k in running}
            while running:
                q = q_values(np.array([obs[k] for k in running]))  # (running, num_actions)
                for k, values in zip(running.copy(), q, strict=True):
                    max_q[k].append(values.max())
                    obs[k], reward, terminated, truncated, _ = env_of[k].step(values.argmax())
                    rewards[k].append(reward)
                    if terminated or truncated:
                        running.remove(k)
                        discounted = [0.0 if terminated else q_values(obs[k][None]).max()]
                        for reward in reversed(rewards[k]):
                            discounted.append(reward + args.gamma * discounted[-1])
                        counted = len(rewards[k]) if terminated else (len(rewards[k]) + 1) // 2
                        predicted += max_q[k][:counted]
                        realised += discounted[: -counted - 1 : -1]  # it was built from the end
    returns = [sum(episode) for episode in rewards]
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
    tighter = {"collections": args.dataset_size}
    for name, hint in get_type_hints(Args, include_extras=True).items():
        if get_origin(hint) is Annotated and (value := getattr(args, name)) is not None:
            least, most = hint.__metadata__[0], tighter.get(name, hint.__metadata__[1])
            if not least <= value <= most:
                raise BadInput(f"--{name.replace('_', '-')} must be between {least} and {most}, not {value}")
            setattr(args, name, value if hint.__origin__ is float else int(value))
    minari = str(args.dataset).startswith("minari:")
    needed = {"wandb": args.track, "moviepy": args.capture_video, "minari": minari, "ale_py": "ALE/" in args.env_id}
    for package, wanted in needed.items():
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
        with np.load(path) as file:
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
    versions = {package.__name__: str(package.__version__) for package in (gym, np)}
    origin = {"command": sys.argv, "commit": commit, "python": platform.python_version(), **versions}
    machine = {"platform": platform.platform(), "processor": platform.processor(), "cpu_count": os.cpu_count()}
    (run_dir / "args.json").write_text(json.dumps({**asdict(args), **origin, **machine}, indent=2, default=str))
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


def write_result(args: Args, run_dir: Path, result: dict, seconds: float) -> None:
    """Writes result.json, last and at once, because a run that has it is complete; says how it went."""
    speed = result["global_step"] * result["updates"] / seconds
    (run_dir / "result.part").write_text(json.dumps({**result, "seconds": seconds, "sps": speed}, indent=2))
    os.replace(run_dir / "result.part", run_dir / "result.json")
    last, best = (f"{np.mean(result[name]):.1f} ± {np.std(result[name]):.1f}" for name in ("returns", "best_returns"))
    greedy = f"greedy return {last} after the last iteration, {best} after the best one ({result['best_iteration']})"
    episodes = f"over {len(result['returns'])} episodes each"
    print(f"{args.env_id}: {greedy}, {episodes}, {result['updates']} iterations in {seconds:.0f} s, see {run_dir}")


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args = tyro.cli(Args, description=__doc__)
    try:
        train(args)
    except (BadInput, FloatingPointError, MemoryError, OSError, KeyboardInterrupt) as error:
        if of_environment(error):
            raise
        print(f"error: {error}" if str(error) else "interrupted", file=sys.stderr)
        sys.exit({BadInput: 2, KeyboardInterrupt: 130}.get(type(error), 1))


if __name__ == "__main__":
    main()
