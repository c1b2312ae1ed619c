"""Fitted Q iteration: Q-learning as a sequence of regressions on a fixed data set.

The data set holds transitions (s, a, r, s'), collected for example by a random policy. The best policy must be learned
from them alone, without new experience. Bellman's equation gives the true value of (s, a) if Q is known for all s'. So
start from Q_0 = 0. In iteration k any method of supervised learning learns Q_k from the inputs (s, a) and the outputs

    y = r                              if s' is terminal
    y = r + γ max_a' Q_(k-1)(s', a')   otherwise

Q_1 predicts the next reward, Q_2 the rewards of two steps, and so on. There is no step size, no exploration and no
replay. DQN will have to solve the same problems: the maximum selects overestimated actions, errors are carried from one
iteration to the next, and the regression has to guess where there is no data. So the returns rise and fall over the
iterations, and the last Q is often not the best one. The script reports both, on other episodes than those that
selected the best one.

Gordon (1995), "Stable function approximation in dynamic programming", ICML; Ernst, Geurts and Wehenkel (2005),
"Tree-based batch mode reinforcement learning", JMLR 6, figure 1; Riedmiller (2005), "Neural fitted Q iteration", ECML.

    python fqi.py --env-id CartPole-v1 --regressor kernel
    python fqi.py --env-id CartPole-v1 --regressor extra_trees --dataset transitions.npz
"""

import ast
import copy
import hashlib
import itertools
import json
import math
import random
import signal
import sys
import threading
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_type_hints

import gymnasium as gym
import numpy as np
import tyro
from pydantic import Field, PositiveInt, ValidationError, create_model
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

try:
    import sklearn
    from sklearn.base import RegressorMixin, clone
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LinearRegression, Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler
    from sklearn.tree import DecisionTreeRegressor
except ModuleNotFoundError as error:
    print(f'error: {error}; fqi.py needs scikit-learn: pip install -e ".[fqi]"', file=sys.stderr)
    sys.exit(2)

Fraction = Annotated[float, Field(ge=0, le=1)]
Regressor = Literal[
    "linear", "polynomial", "kernel", "k_neighbors", "decision_tree", "extra_trees", "gradient_boosting", "mlp"
]


@dataclass
class Args:
    exp_name: str = Path(__file__).stem  # name of the experiment, a part of the run folder's name
    seed: Annotated[int, Field(ge=0, le=900_000)] = 1  # seed of data, regression and environment
    track: bool = False  # log to Weights & Biases too (without internet: WANDB_MODE=offline, later `wandb sync`)
    wandb_project_name: str = "qladder"  # project in Weights & Biases
    wandb_entity: str | None = None  # team in Weights & Biases
    capture_video: bool = False  # record the first 1,000 frames of the final evaluation of the best Q in videos/
    runs_dir: Path = Path("runs")  # folder for the run folders

    env_id: str = "CartPole-v1"  # Gymnasium id, or module:id if importing the module registers it
    env_kwargs: tuple[str, ...] = ()  # arguments of the environment, such as is_slippery=False map_name=8x8
    max_episode_steps: PositiveInt | None = None  # time limit of an episode (default: the environment's, or 10,000)
    action_bins: Annotated[int, Field(ge=2)] = 11  # values per dimension into which a continuous action is divided
    dataset: Path | None = None  # .npz file to learn from (made if it does not exist), or minari:NAME
    dataset_size: PositiveInt = 50_000  # transitions to collect
    collections: PositiveInt = 1  # parts of the collection: the first at random, each later one by the best Q so far
    epsilon: Fraction = 0.1  # probability of a random action in the later parts
    regressor: Regressor = "kernel"  # method that learns Q from (s, a)
    action_coding: Literal["per_action", "one_hot"] = "per_action"  # a model per action, or one of s and one-hot a
    iterations: PositiveInt = 100  # regressions
    gamma: Fraction = 0.99  # discount factor γ
    eval_frequency: PositiveInt = 20  # iterations between greedy evaluations
    eval_episodes: PositiveInt = 20  # episodes of an evaluation during the iterations; they select the best iteration
    final_eval_episodes: PositiveInt = 20  # episodes of the evaluations at the end
    num_eval_envs: PositiveInt = 20  # environments that play them at the same time (1 if there can be only one)

    eval_env_kwargs = ()  # not a flag here: the environment that collects also evaluates

    def __post_init__(self):
        check(self)  # the types above, and flags that contradict each other


class Dataset(NamedTuple):
    """N transitions."""

    obs: np.ndarray  # (N, obs_dim) float32
    action: np.ndarray  # (N,) int64
    reward: np.ndarray  # (N,) float64
    next_obs: np.ndarray  # (N, obs_dim) float32
    terminated: np.ndarray  # (N,) bool; False if only a time limit ended the episode: then y includes Q of next_obs


class KNeighbors(KNeighborsRegressor):
    """The mean output of the 30 nearest inputs (scaled to equal variances they made worse policies on CartPole).

    From one iteration to the next only the outputs y change. So the tree is built once, and the neighbours of inputs
    that come again, those of the data set, are looked up once: an iteration takes milliseconds in place of seconds.
    """

    fitted = asked = None  # the last inputs of fit and of predict

    def fit(self, x: np.ndarray, y: np.ndarray):
        if x is not self.fitted:
            self.n_neighbors = min(30, len(x))  # an action can be rarer
            super().fit(x, y)
            self.fitted, self.asked = x, None
        self.y = y
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        if x is not self.asked:
            self.neighbors, self.asked = self.kneighbors(x, return_distance=False), x  # (len(x), 30)
        return self.y[self.neighbors].mean(axis=1)


def make_regressor(name: str, seed: int) -> RegressorMixin:
    """An untrained regressor. name: one of --regressor."""
    # Far from the data a sum of Gaussians without an intercept is 0. With positive rewards this is pessimistic, so the
    # greedy policy stays where Q is known. A polynomial grows without bound there.
    gaussians = Nystroem(gamma=0.1, n_components=200, random_state=seed)
    mlp = MLPRegressor(hidden_layer_sizes=(64, 64), max_iter=10, random_state=seed)  # 10 epochs an iteration
    return {
        "linear": LinearRegression(),
        "polynomial": make_pipeline(StandardScaler(), PolynomialFeatures(2), LinearRegression()),
        "kernel": make_pipeline(StandardScaler(), gaussians, Ridge(1.0, fit_intercept=False)),
        "k_neighbors": KNeighbors(),
        "decision_tree": DecisionTreeRegressor(min_samples_leaf=20, random_state=seed),
        "extra_trees": ExtraTreesRegressor(50, min_samples_leaf=5, random_state=seed),
        "gradient_boosting": HistGradientBoostingRegressor(random_state=seed),
        "mlp": make_pipeline(StandardScaler(), mlp),
    }[name]


class QFunction:
    """Q(s, ·) of N observations, (N, obs_dim) -> (N, num_actions), by one regressor per action or one for all."""

    def __init__(self, regressor: RegressorMixin, num_actions: int, action_coding: str):
        self.num_actions, self.one_hot = num_actions, action_coding == "one_hot"
        self.models = [clone(regressor) for _ in range(1 if self.one_hot else num_actions)]
        self.inputs = {}  # {index of a model: (its inputs from the data set, their rows there)}

    def with_action(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """(N, obs_dim) and (N,) -> (N, obs_dim + num_actions). One-hot, because actions have no order."""
        return np.hstack([obs, np.eye(self.num_actions, dtype=obs.dtype)[action]])

    def fit(self, data: Dataset, y: np.ndarray) -> None:
        """Learns Q(s, a) from the targets y, (N,)."""
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


def collect(env: gym.Env, size: int, epsilon: float, q_values: Callable | None, rng: np.random.Generator) -> Dataset:
    """Plays `size` steps, at random with probability ε, else greedily by q_values: (1, obs_dim) -> (1, num_actions)."""
    rows, num_actions = [], int(env.action_space.n)
    obs, _ = env.reset(seed=int(rng.integers(2**31)))
    for _ in range(size):
        greedy = q_values is not None and rng.random() >= epsilon
        action = q_values(obs[None]).argmax() if greedy else rng.integers(num_actions)
        next_obs, reward, terminated, truncated, _ = env.step(int(action))
        rows.append((obs, action, reward, next_obs, bool(terminated)))
        obs = env.reset()[0] if terminated or truncated else next_obs
    data = Dataset(*map(np.array, zip(*rows, strict=True)))
    if not all(np.isfinite(array).all() for array in data):
        raise Stop(f"{env.spec.id} sent a number that is not finite", 1)
    return data


def train(args: Args) -> Path:
    """Collects or loads the data, iterates, evaluates. Returns the run folder. Raises Stop."""
    warnings.filterwarnings("ignore", category=ConvergenceWarning)  # the MLP learns only a few epochs an iteration
    warnings.filterwarnings("ignore", message="n_components > n_samples")  # with little data there are fewer Gaussians
    rng = np.random.default_rng(args.seed)  # draws actions
    source = str(args.dataset or "")
    stored = source.startswith("minari:") or Path(source).is_file()
    with closed_at_end(env := make_env(args)):
        num_actions = int(env.action_space.n)
        data = load_dataset(source, env) if stored else None
    parts = 1 if stored else args.collections

    run_dir = make_run_dir(args)
    regressor = make_regressor(args.regressor, args.seed)
    # Different --seed up to 900,000 never lead to the same episode, neither in these evaluations nor in the final ones.
    first_seed, final_seed = 1_000_000 + 1_000 * args.seed, 2_000_000_000 - 1_000 * args.seed
    best, best_return, best_iteration, start_time = None, -math.inf, 0, time.time()
    with Run(args, run_dir) as run, ExitStack() as stack:  # closes all, however the run ends
        num_envs = min(args.num_eval_envs, max(args.eval_episodes, args.final_eval_episodes))
        video_dirs = [run_dir / "videos", *[None] * (num_envs - 1)]  # only the first environment records
        envs = []
        for video_dir in video_dirs:
            envs.append(make_env(args, video_dir))
            stack.enter_context(closed_at_end(envs[-1]))
        warn_of_differences(envs[0], envs[-1], args)
        progress = stack.enter_context(tqdm(total=args.iterations, unit="iteration", disable=None))
        for part, steps in enumerate(np.array_split(range(args.dataset_size), parts)):
            # Collect.
            if not stored:
                new = collect(envs[0], len(steps), args.epsilon, best, rng)
                data = new if data is None else Dataset(*map(np.concatenate, zip(data, new, strict=True)))
                if args.dataset:
                    with args.dataset.open("wb") as file:
                        np.savez_compressed(file, **data._asdict())

            # Iterate. With more data begin again at Q_0 = 0: the first targets are the rewards.
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
                    mse, rms = float(np.mean((y - q_taken) ** 2)), float(np.sqrt(np.mean(residual**2)))
                    run.log({"losses/td_loss": mse, "losses/bellman_residual": rms}, iteration)
                    run.log({"losses/q_values": float(q_taken.mean())}, iteration)
                    with same_random_state():  # the evaluation must not change what is collected later
                        metrics, returns = evaluate(envs, q_values, args, args.eval_episodes, first_seed)
                    run.log(metrics, iteration)
                    progress.write(f"iteration {iteration}: {summary(metrics, returns)}")
                    if metrics["eval/episodic_return"] > best_return:
                        best_return, best_iteration = metrics["eval/episodic_return"], iteration
                        best = copy.deepcopy(q_values)  # further fitting does not change the copy

        # The evaluations above selected the best iteration, so it is reported on other episodes.
        metrics, returns = evaluate(envs, q_values, args, args.final_eval_episodes, final_seed)
        if args.capture_video:
            envs[0].start_recording("final-episode-0")  # by RecordVideo, in make_env
        best_metrics, best_returns = evaluate(envs, best, args, args.final_eval_episodes, final_seed)
        last_return, best_return = metrics["eval/episodic_return"], best_metrics["eval/episodic_return"]
        run.log({"eval/last_return": last_return, "eval/best_return": best_return}, iteration)
        chosen = {"best_returns": best_returns, "best_iteration": best_iteration, "best_return": best_return}
        result = {**metrics, "returns": returns, **chosen, "updates": iteration}
        run.finish(result, len(data.reward), seconds=time.time() - start_time)
    return run_dir


def evaluate(envs: list[gym.Env], q_values: Callable, args: Args, episodes: int, first_seed: int):
    """Plays greedily, in all environments at the same time: a regressor needs the same time for 1 or 20 observations.

    Returns metrics, and the undiscounted return of each episode. eval/q_predicted is the mean of max_a Q(s, a) over the
    visited states, eval/q_realised the mean of the discounted return that followed them: predicted above realised is
    overestimation. If a time limit ended the episode, the later rewards are unknown, and max_a Q of the last state
    replaces them. Then only the first half of the states is counted, where γ gives this estimate little weight.
    eval/info/NAME is the mean of a number in the episodes' last `info`.
    """
    max_q, rewards = [[] for _ in range(episodes)], [[] for _ in range(episodes)]
    predicted, realised, infos = [], [], []
    for first in range(0, episodes, len(envs)):
        running = list(range(first, min(first + len(envs), episodes)))
        env_of = dict(zip(running, envs, strict=False))
        obs = {k: env_of[k].reset(seed=first_seed + k)[0] for k in running}
        while running:
            q = q_values(np.array([obs[k] for k in running]))  # (running, num_actions)
            for k, values in zip(running.copy(), q, strict=True):
                max_q[k].append(values.max())
                obs[k], reward, terminated, truncated, info = env_of[k].step(int(values.argmax()))
                rewards[k].append(reward)
                if terminated or truncated:
                    running.remove(k)
                    infos.append(info_numbers(info))
                    return_from = np.zeros(len(rewards[k]) + 1)  # return_from[t]: the discounted return from step t on
                    return_from[-1] = 0.0 if terminated else q_values(obs[k][None]).max()
                    for t in reversed(range(len(rewards[k]))):
                        return_from[t] = rewards[k][t] + args.gamma * return_from[t + 1]
                    counted = len(rewards[k]) if terminated else (len(rewards[k]) + 1) // 2
                    predicted.extend(max_q[k][:counted])
                    realised.extend(return_from[:counted])
    returns = [sum(episode) for episode in rewards]
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
    minari = str(args.dataset).startswith("minari:")
    for wrong, sentence in (
        (args.collections > args.dataset_size, "--collections is larger than --dataset-size"),
        (args.track and not find_spec("wandb"), "--track needs: pip install wandb"),
        (args.capture_video and not find_spec("moviepy"), "--capture-video needs: pip install moviepy"),
        (minari and not find_spec("minari"), "--dataset minari:NAME needs: pip install minari"),
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


def load_dataset(source: str, env: gym.Env) -> Dataset:
    """An .npz file with the fields of Dataset, or minari:NAME. Raises Stop for data that do not fit the environment."""
    arrays = read_minari(source, env) if source.startswith("minari:") else read_npz(source)
    if missing := [name for name in Dataset._fields if name not in arrays]:
        raise Stop(f"{source} lacks {', '.join(missing)}; a data set has {', '.join(Dataset._fields)}", 2)
    size, obs_dim = len(arrays["obs"]) if arrays["obs"].ndim else 0, env.observation_space.shape[0]
    shapes = {"obs": (size, obs_dim), "next_obs": (size, obs_dim)}
    for name, array in arrays.items():
        if array.shape != shapes.get(name, (size,)):
            raise Stop(f"{name} in {source} has the shape {array.shape}, not {shapes.get(name, (size,))}", 2)
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise Stop(f"{name} in {source} holds something that is no finite number", 2)
    if size == 0:
        raise Stop(f"{source} is empty", 2)
    action = arrays["action"]
    if (action != action.astype(np.int64)).any() or action.min() < 0 or action.max() >= env.action_space.n:
        raise Stop(f"action in {source} must be whole numbers from 0 to {env.action_space.n - 1}", 2)
    types = (np.float32, np.int64, np.float64, np.float32, np.bool_)
    return Dataset(*(arrays[name].astype(kind) for name, kind in zip(Dataset._fields, types, strict=True)))


def read_npz(path: str) -> dict[str, np.ndarray]:
    """The arrays of a file that have the names of Dataset's fields. Raises Stop."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in Dataset._fields if name in file}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise Stop(f"{path} is not a data set: {str(error).splitlines()[0]}", 2) from error


def read_minari(source: str, env: gym.Env) -> dict[str, np.ndarray]:
    """The same arrays from a Minari data set that was downloaded. Raises Stop."""
    import minari  # only minari:NAME needs it

    def step(values, t: int):  # Minari keeps an episode as arrays, or as dicts and tuples of arrays
        if isinstance(values, dict):
            return {name: step(value, t) for name, value in values.items()}
        return tuple(step(value, t) for value in values) if isinstance(values, tuple) else values[t]

    name, parts = source.removeprefix("minari:"), []
    while not isinstance(env, gym.wrappers.TransformObservation):  # its func makes the observations of make_env
        env = env.env
    to_vector, space = env.func, env.env.observation_space
    while not isinstance(env, gym.wrappers.TransformAction):  # its func makes the environment's actions of numbers
        env = env.env
    number_of = {str(np.asarray(env.func(i)).tolist()): i for i in range(env.action_space.n)}

    def number(action) -> int:
        text = str(np.asarray(action).tolist())
        if text not in number_of:
            raise Stop(f"{source} holds the action {text}, none of the {len(number_of):,} actions of {env.spec.id}", 2)
        return number_of[text]

    try:
        for episode in minari.load_dataset(name).iterate_episodes():
            length = len(episode.rewards)
            if isinstance(space, gym.spaces.Box) and (shape := np.shape(episode.observations))[1:] != space.shape:
                raise Stop(f"obs in {source} has the shape {shape}, not {(length + 1, *space.shape)}", 2)
            obs = np.array([to_vector(step(episode.observations, t)) for t in range(length + 1)])
            action = np.array([number(step(episode.actions, t)) for t in range(length)])
            parts.append((obs[:-1], action, episode.rewards, obs[1:], episode.terminations))
        return dict(zip(Dataset._fields, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    except FileNotFoundError as error:
        raise Stop(f"{name} is not on this machine: minari download {name}", 2) from error
    except (ImportError, LookupError, ValueError, TypeError, OSError) as error:
        raise Stop(f"cannot read {name} for {env.spec.id}: {str(error).splitlines()[0]}", 2) from error


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
    versions = {package.__name__: str(package.__version__) for package in (sklearn, gym, np)}
    content = {**asdict(args), "command": sys.argv, "sha256": sha256, "python": sys.version.split()[0], **versions}
    (run_dir / "args.json").write_text(json.dumps(content, indent=2, default=str))
    return run_dir


class Run:
    """The files of a run: scalars for TensorBoard and, with --track, W&B; result.json."""

    def __init__(self, args: Args, run_dir: Path):
        self.args, self.run_dir, self.wandb = args, run_dir, None
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

    def log(self, metrics: dict[str, float], iteration: int) -> None:
        """Writes scalars. Raises Stop if one is not finite."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, iteration)
        if self.wandb:
            self.wandb.log({**metrics, "global_step": iteration})
        for name, value in metrics.items():
            if not math.isfinite(value):
                reason = "the regression diverges, or the environment sent a number that is not finite"
                raise Stop(f"{name} is {value} in iteration {iteration:,}: {reason}", 1)

    def finish(self, result: dict, transitions: int, seconds: float) -> None:
        """Writes result.json last: its presence marks a finished run. Prints a summary."""
        part, iterations = self.run_dir / "result.part", result["updates"]
        self.writer.flush()  # raises here if the disk is full
        result |= {"global_step": transitions, "seconds": seconds}
        part.write_text(json.dumps(result, indent=2))
        part.replace(self.run_dir / "result.json")
        best = f"best iteration {result['best_iteration']}: return {result['best_return']:.1f}"
        trained = f"{iterations} iterations over {transitions:,} transitions in {seconds:.0f} s"
        print(f"{self.args.env_id}: {summary(result, result['returns'])}; {best}; {trained}, see {self.run_dir}")

    def __exit__(self, kind, error, _) -> None:
        try:
            if error and kind is not KeyboardInterrupt:
                text = error.args[0] if kind is Stop else "".join(traceback.format_exception(error))
                (self.run_dir / "error.txt").write_text(f"{text}\n")
            self.writer.close()
        finally:
            if self.wandb:
                for path in sorted(self.run_dir.glob("videos/*.mp4")):
                    self.wandb.log({f"videos/{path.stem}": sys.modules["wandb"].Video(str(path))})
                self.wandb.finish(exit_code=0 if (self.run_dir / "result.json").exists() else 1)


def summary(metrics: dict, returns: list[float]) -> str:
    values = "Q predicted {eval/q_predicted:.2f}, realised {eval/q_realised:.2f}".format_map(metrics)
    return f"greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes, {values}"


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    # Hides an OSError of TensorBoard's thread: the next add_scalar raises the same error in this thread.
    threading.excepthook = lambda error: issubclass(error.exc_type, OSError) or threading.__excepthook__(error)
    sys.path.append(str(Path.cwd()))  # for --env-id module:id
    args = tyro.cli(Args, description=__doc__)
    try:
        for flag in ("--env-kwargs",):
            if sum(word.split("=")[0].replace("_", "-") == flag for word in sys.argv) > 1:
                raise Stop(f"{flag} is given twice: write all its values after one {flag}", 2)
        train(args)
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
