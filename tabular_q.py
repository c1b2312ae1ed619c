"""Q-learning in a table: learn the value of every action in every state from one observed step at a time.

Q(s, a) is the discounted return to expect from action a in state s and the best actions after it. The best Q, called
Q*, obeys Bellman's equation: it equals, on average, the target y that one observed step (s, a, r, s') gives. Watkins'
Q-learning moves the table's entry towards the target of each step that it sees, by a fraction α of the way:

    y = r                        if s' is terminal
    y = r + γ max_a' Q(s', a')   otherwise
    Q(s, a) ← Q(s, a) + α (y - Q(s, a))

If every action is tried again and again in every state, and α falls with the visits n of (s, a), neither too fast nor
too slowly, as n^-ω does for 1/2 < ω <= 1, Q comes to equal Q*. Where an environment shows its model (FrozenLake,
CliffWalking and Taxi do), Q* is computed exactly, and the run says how far off the table is.

Watkins and Dayan (1992), "Q-learning", Machine Learning 8, equation 1. --double: van Hasselt (2010), "Double
Q-learning", NIPS, algorithm 1. The maximum picks what happens to be overrated; so of two tables one picks the action
and the other one says what it is worth.

    python tabular_q.py --env-id FrozenLake-v1
    python tabular_q.py --env-id CliffWalking-v1 --double
    python tabular_q.py --env-id CartPole-v1 --observation-bins 10
    python tabular_q.py --evaluate runs/RUN --capture-video
"""

import ast
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
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_origin, get_type_hints

import gymnasium as gym
import numpy as np
import tyro
from gymnasium.envs.toy_text import CliffWalkingEnv, FrozenLakeEnv
from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

Count = Annotated[int, 1, math.inf]  # types with their ranges
Limit = Annotated[int | None, 1, math.inf]
Share = Annotated[float, 0, 1]
PositiveShare = Annotated[float, 1e-12, 1]


@dataclass
class Args:
    exp_name: str = Path(__file__).stem  # name of the experiment, a part of the run folder's name
    seed: Annotated[int, 0, 2**31] = 1  # seed of exploration and environment
    track: bool = False  # log to Weights & Biases too, not to TensorBoard alone
    wandb_project_name: str = "qladder"  # project in Weights & Biases
    wandb_entity: str | None = None  # team in Weights & Biases
    wandb_mode: Literal["online", "offline", "disabled"] | None = None  # offline: `wandb sync` later (None: WANDB_MODE)
    capture_video: bool = False  # record 1,000 frames of every evaluation's first episode, in videos/
    evaluate: Path | None = None  # only play: a run's folder or table, with the arguments in its args.json
    runs_dir: Path = Path("runs")  # where the run folder is made

    env_id: str = "FrozenLake-v1"  # Gymnasium id, or module:id if importing the module registers it
    env_kwargs: tuple[str, ...] = ()  # arguments of the environment, as is_slippery=False map_name=8x8
    max_episode_steps: Limit = None  # truncate episodes after so many steps (default: the limit of env-id, or 10,000)
    observation_bins: Annotated[int, 2, math.inf] = 10  # bins for each dimension of a continuous observation
    action_bins: Annotated[int, 2, math.inf] = 11  # values into which a one-dimensional continuous action is divided
    total_timesteps: Count = 1_000_000  # environment steps to train for
    learning_rate: PositiveShare = 1.0  # α at the first visit of a state and action
    learning_rate_decay: Share = 0.6  # ω: at the n-th visit α is learning-rate times n^-ω (0: constant)
    gamma: Share = 0.99  # discount factor γ
    double: bool = False  # double Q-learning, with two tables
    start_e: Share = 1.0  # ε, the probability of a random action, at the start
    end_e: Share = 0.1  # ε at the end
    exploration_fraction: PositiveShare = 1.0  # fraction of total-timesteps in which ε falls
    eval_frequency: Count = 50_000  # environment steps between greedy evaluations
    eval_episodes: Count = 20  # episodes in an evaluation


def linear_schedule(start_e: float, end_e: float, duration: float, t: int) -> float:
    """The value after t environment steps: from start_e to end_e in `duration` steps, and constant from then on."""
    return start_e + (end_e - start_e) * min(t / duration, 1.0)


def td_target(next_q: list[float], other_next_q: list[float], reward: float, terminated: bool, gamma: float) -> float:
    """y = r + γ max_a' Q(s', a'), or r where s' is terminal.

    next_q is Q(s', ·) of the table that learns, and picks the action. other_next_q is Q(s', ·) of the table that says
    what this action is worth: the other one with --double, else the same.
    """
    if terminated:
        return reward
    next_action = next_q.index(max(next_q))
    return reward + gamma * other_next_q[next_action]


def step_size(learning_rate: float, decay: float, visits: int) -> float:
    """α at the n-th visit of a state and action: learning_rate n^-ω."""
    return learning_rate * visits**-decay


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises BadInput, FloatingPointError, OSError."""
    check(args)
    random.seed(args.seed)  # some environments draw from the generators that Python and NumPy share out
    np.random.seed(args.seed)
    rng = np.random.default_rng(args.seed)
    env = make_env(args)
    num_states, num_actions = int(env.observation_space.n), int(env.action_space.n)
    # Lists, because reading and writing single numbers is several times faster than in NumPy arrays.
    q_a = [[0.0] * num_actions for _ in range(num_states)]
    visits_a = [[0] * num_actions for _ in range(num_states)]
    q_b, visits_b = q_a, visits_a  # without --double one table in both roles
    if args.double:
        q_b, visits_b = [row.copy() for row in q_a], [row.copy() for row in visits_a]
    model = read_model(env) if args.gamma < 1 else None  # what computes Q* below needs γ < 1
    exact_q = value_iteration(model, args.gamma) if model else None

    run_dir = make_run_dir(args)
    exploration_steps = args.exploration_fraction * args.total_timesteps
    with closing(env), open_log(args, run_dir) as log, ExitStack() as at_exit:
        at_exit.callback(lambda: np.save(run_dir / "q.npy", np.mean([q_a, q_b], axis=0)))
        rewards, ended, best_return, start_time = [], [], -math.inf, time.time()
        obs, _ = env.reset(seed=args.seed)
        progress = tqdm(range(1, args.total_timesteps + 1), unit="step", disable=None)
        for global_step in progress:
            # Act: at random with probability ε, else greedily, by the sum of both tables.
            epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step - 1)
            if rng.random() < epsilon:
                action = int(rng.random() * num_actions)  # rng.integers takes three times as long
            else:
                values = [a + b for a, b in zip(q_a[obs], q_b[obs], strict=True)]
                action = values.index(max(values))
            next_obs, reward, terminated, truncated, _ = env.step(action)

            # Learn.
            q, visits, other_q = q_a, visits_a, q_b
            if args.double and rng.random() < 0.5:
                q, visits, other_q = q_b, visits_b, q_a
            y = td_target(q[next_obs], other_q[next_obs], reward, terminated, args.gamma)
            visits[obs][action] += 1
            alpha = step_size(args.learning_rate, args.learning_rate_decay, visits[obs][action])
            td_error = y - q[obs][action]
            q[obs][action] += alpha * td_error

            obs = next_obs
            rewards.append(reward)
            if terminated or truncated:
                ended.append((sum(rewards), len(rewards)))
                obs, _ = env.reset()
                rewards.clear()

            # Report. Episodes are short and many, so their means over 1,000 steps are logged.
            if global_step % 1_000 == 0 and ended:
                mean_return, mean_length = np.mean(ended, axis=0).tolist()
                log({"charts/episodic_return": mean_return, "charts/episodic_length": mean_length}, global_step)
                progress.set_postfix({"return": mean_return, "ε": epsilon}, refresh=False)
                ended.clear()
            if global_step % args.eval_frequency == 0 or global_step == args.total_timesteps:
                learned = np.mean([q_a, q_b], axis=0)  # (S, A), so that learned[s] is Q(s, ·)
                np.save(run_dir / "q.npy", learned)
                if global_step == args.total_timesteps:
                    env.close()  # of some environments there can be only one, and evaluate makes its own
                returns, played = evaluate(args, learned.__getitem__, run_dir / "videos" / f"step-{global_step}")
                exact = exact_metrics(model, learned, exact_q, env.spec.max_episode_steps) if model else {}
                sps = global_step / (time.time() - start_time)
                current = {"losses/td_error": abs(td_error), "charts/epsilon": epsilon, "charts/SPS": sps}
                metrics = {**played, **current, **exact}
                log(metrics, global_step)
                line = "step {:,}: greedy return {:.1f} ± {:.1f}, Q predicted {:.2f}, realised {:.2f}"
                line += ", exactly {:.4f} of {:.4f}, max |Q - Q*| {:.4f}" if model else ""
                progress.write(line.format(global_step, *played.values(), *exact.values()))
                if metrics["eval/episodic_return"] > best_return:
                    best_return, best_step = metrics["eval/episodic_return"], global_step
        draw(env, learned, exact_q, reachable(model) if model else np.full(num_states, True), run_dir / "q.png")
        best = {"best_return": best_return, "best_step": best_step}
        result = {**metrics, "returns": returns, **best, "global_step": global_step, "updates": global_step}
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


class Model(NamedTuple):
    """What a tabular environment shows of itself. A step into a terminal state is no transition: nothing follows it."""

    transition: np.ndarray  # (S, A, S): the probability to go on from s by a in s'
    reward: np.ndarray  # (S, A): the expected reward of a in s
    start: np.ndarray  # (S,): the probability to start in s


def read_model(env: gym.Env) -> Model | None:
    """The model of an environment that has `P[s][a] = [(probability, s', reward, terminated), ...]`, else None."""
    num_states, num_actions = int(env.observation_space.n), int(env.action_space.n)
    outcomes, start = getattr(env.unwrapped, "P", None), getattr(env.unwrapped, "initial_state_distrib", None)
    if outcomes is None or start is None or len(outcomes) != num_states:
        return None
    transition, reward = np.zeros((num_states, num_actions, num_states)), np.zeros((num_states, num_actions))
    for state, action in np.ndindex(num_states, num_actions):
        for probability, next_state, r, terminated in outcomes[state][action]:
            reward[state, action] += probability * r
            transition[state, action, next_state] += 0 if terminated else probability
    return Model(transition, reward, np.array(start))


def value_iteration(model: Model, gamma: float) -> np.ndarray:
    """Q* (S, A), within 1e-10, by applying Bellman's equation until nothing changes. Needs γ < 1."""
    q = np.zeros_like(model.reward)
    while True:
        new_q = model.reward + gamma * model.transition @ q.max(axis=1)
        if np.abs(new_q - q).max() < 1e-10 * (1 - gamma):
            return new_q
        q = new_q


def policy_iteration(model: Model, gamma: float) -> np.ndarray:
    """Q* (S, A) in another way: value a policy exactly, make it greedy, until it stays as it is. Needs γ < 1."""
    policy = np.zeros(len(model.reward), np.int64)
    while True:
        value = policy_value(model, policy, gamma)
        q = model.reward + gamma * model.transition @ value
        better = np.where(q.max(axis=1) > value + 1e-10, q.argmax(axis=1), policy)
        if (better == policy).all():
            return q
        policy = better


def policy_value(model: Model, policy: np.ndarray, gamma: float) -> np.ndarray:
    """V of a policy (S,), the solution of V = r + γ P V. Needs γ < 1."""
    states = np.arange(len(policy))
    transition, reward = model.transition[states, policy], model.reward[states, policy]  # (S, S), (S,)
    return np.linalg.solve(np.eye(len(policy)) - gamma * transition, reward)


def expected_return(model: Model, policy: np.ndarray, steps: int) -> float:
    """The expected undiscounted return of an episode of at most so many steps; `evaluate` estimates it by playing."""
    states = np.arange(len(policy))
    transition, reward = model.transition[states, policy], model.reward[states, policy]  # (S, S), (S,)
    here, total = model.start, 0.0  # here (S,): the probability that the episode goes on in s
    for _ in range(steps):
        total += here @ reward
        here = here @ transition
    return float(total)


def reachable(model: Model) -> np.ndarray:
    """Which states (S,) some sequence of actions leads to."""
    leads_to = (model.transition > 0).any(axis=1)  # (S, S)
    seen = model.start > 0
    while True:
        more = seen | (seen @ leads_to)
        if (more == seen).all():
            return seen
        seen = more


def exact_metrics(model: Model, q: np.ndarray, exact_q: np.ndarray, steps: int) -> dict[str, float]:
    """What the greedy policies of Q and Q* return, computed instead of played, and max |Q - Q*|."""
    return {
        "eval/exact_return": expected_return(model, q.argmax(axis=1), steps),
        "eval/optimal_return": expected_return(model, exact_q.argmax(axis=1), steps),
        "charts/q_error": float(np.abs(q - exact_q)[reachable(model)].max()),
    }


# From here on: arguments, environments, files, the command line. Nothing of it is particular to the algorithm.


class BadInput(ValueError):
    """What was asked for cannot be done; the message is one sentence for the user."""


def check(args: Args) -> None:
    """Raises BadInput for the first argument out of its range. Takes 1e5 for a whole number too."""
    for name, hint in get_type_hints(Args, include_extras=True).items():
        if get_origin(hint) is Annotated and (value := getattr(args, name)) is not None:
            least, most = hint.__metadata__
            if not least <= value <= most:
                raise BadInput(f"--{name.replace('_', '-')} must be between {least} and {most}, not {value}")
            setattr(args, name, value if hint.__origin__ is float else int(value))
    for wanted, package in ((args.track, "wandb"), (args.capture_video, "moviepy")):
        if wanted and not importlib.util.find_spec(package):
            raise BadInput(f"{package} is missing: pip install {package}")


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


def bin_edges(low: float, high: float, whole: bool, bins: int) -> list[float]:
    """What lies between the values of one dimension: of a few whole numbers each is one, else there are bins.

    Without bounds (some environments write that as a huge number) arctan(x) has equal bins: the finest are around 0.
    """
    if whole and high - low < 1_000:
        return list(range(int(low) + 1, int(high) + 1))
    if low > -1e6 and high < 1e6:
        return np.linspace(low, high, bins + 1)[1:-1].tolist()
    return np.tan(np.linspace(np.arctan(low), np.arctan(high), bins + 1)[1:-1]).tolist()


def finite(space: gym.Space, bins: int) -> tuple[list[int], Callable]:
    """How many values each part of an observation has, and a function that says which one, 0, 1, 2, ..., each part is.

    The function says -1 where a number is not finite. Raises BadInput.
    """
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        keys = list(space) if isinstance(space, gym.spaces.Dict) else range(len(space))
        parts = [(key, *finite(space[key], bins)) for key in keys]
        sizes = [size for _, part_sizes, _ in parts for size in part_sizes]
        return sizes, lambda obs: [value for key, _, values in parts for value in values(obs[key])]
    if isinstance(space, gym.spaces.Discrete):
        return [int(space.n)], lambda obs: [int(obs) - int(space.start)]
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.nvec.ravel().tolist(), lambda obs: np.ravel(obs - space.start).tolist()
    if isinstance(space, gym.spaces.MultiBinary):
        return [2] * math.prod(space.shape), lambda obs: np.ravel(obs).tolist()
    if not isinstance(space, gym.spaces.Box):
        raise BadInput(f"its observations hold a {space}, which no table has a place for: wrap it to leave that out")
    whole = np.issubdtype(space.dtype, np.integer)
    low, high = space.low.ravel().tolist(), space.high.ravel().tolist()
    edges = [bin_edges(*bounds, whole, bins) for bounds in zip(low, high, strict=True)]

    def values(obs) -> list[int]:
        pairs = zip(edges, np.ravel(obs).tolist(), strict=True)
        return [bisect_right(edge, x) if math.isfinite(x) else -1 for edge, x in pairs]

    return [len(edge) + 1 for edge in edges], values


def make_env(args: Args, video: Path | None = None) -> gym.Env:
    """An environment with observations 0 .. num_states - 1 and actions 0 .. num_actions - 1. Raises BadInput."""
    drawing = {"render_mode": "rgb_array"} if args.capture_video else {}  # not all environments take the argument
    if unusable := [pair for pair in args.env_kwargs if "=" not in pair]:
        raise BadInput(f"--env-kwargs takes NAME=VALUE, not {unusable[0]}")
    kwargs = {name: literal(value) for name, _, value in (pair.partition("=") for pair in args.env_kwargs)}
    try:
        env = gym.make(args.env_id, max_episode_steps=args.max_episode_steps, **kwargs, **drawing)
        if drawing:  # what is missing for it is missed here, not after hours at the first evaluation
            env.reset()
            if np.shape(env.render())[2:] != (3,):
                raise BadInput("its render() returns no picture (height, width, 3)")
        if isinstance(env.action_space, gym.spaces.Box) and env.action_space.shape == (1,):
            env = gym.wrappers.DiscretizeAction(env, args.action_bins)
        if env.spec.max_episode_steps is None:  # a greedy policy may walk in circles for ever
            env = gym.wrappers.TimeLimit(env, 10_000)
        sizes, values = finite(env.observation_space, args.observation_bins)
        if math.prod(sizes) > 10_000_000:
            raise BadInput(f"its observations make {math.prod(sizes):.3g} states, and a table takes at most 10,000,000")

        def to_state(obs) -> int | None:
            state = 0
            for size, value in zip(sizes, values(obs), strict=True):
                if not 0 <= value < size:
                    return None
                state = state * size + value
            return int(state)

        env = PlainEnv(env, gym.spaces.Discrete(math.prod(sizes)), to_state)
    except Exception as error:
        if of_environment(error):
            raise
        raise BadInput(f"cannot make {args.env_id}: {str(error) or 'it draws no pictures'}") from error
    if drawing and video:
        warnings.filterwarnings("ignore", ".*Overwriting existing videos")  # the folder is there, their names differ
        options = {"name_prefix": video.name, "video_length": 1_000}  # so many frames are kept in memory, no more
        env = gym.wrappers.RecordVideo(env, str(video.parent), lambda episode: episode == 0, **options)
    return env


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
    steps, returns, speed = result["global_step"], result["returns"], result["global_step"] / seconds
    (run_dir / "result.part").write_text(json.dumps({**result, "seconds": seconds, "sps": speed}, indent=2))
    os.replace(run_dir / "result.part", run_dir / "result.json")
    greedy = f"greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes"
    trained = f"trained {steps:,} steps in {seconds:.0f} s ({speed:,.0f} steps/s)"
    print(f"{args.env_id}: {greedy}, {trained}, see {run_dir}")


def draw(env: gym.Env, q: np.ndarray, exact_q: np.ndarray | None, states: np.ndarray, path: Path) -> None:
    """V and greedy actions as a grid, or else Q as a heat map, of `states` (S,) bool; beside it Q* if it is known."""
    world = env.unwrapped
    arrows = {FrozenLakeEnv: "←↓→↑", CliffWalkingEnv: "↑→↓←"}.get(type(world))  # what actions 0 to 3 mean
    tables = {"learned": q} if exact_q is None else {"learned": q, "optimal": exact_q}
    shown = [np.where(states[:, None], table, np.nan) for table in tables.values()]
    if arrows:
        grid = world.desc.shape if type(world) is FrozenLakeEnv else world.shape
        shown = [table.max(axis=1).reshape(grid) for table in shown]
    colours = {"vmin": np.nanmin(shown), "vmax": np.nanmax(shown)}  # in both pictures the same ones mean the same
    figure = Figure(figsize=(6 * len(tables), 6), layout="compressed")
    plots = figure.subplots(1, len(tables), squeeze=False)[0]
    for plot, (title, table), values in zip(plots, tables.items(), shown, strict=True):
        image = plot.imshow(values, interpolation="nearest", aspect="equal" if arrows else "auto", **colours)
        if arrows:
            plot.set(title=f"{title}: V(s) and the greedy action", xticks=[], yticks=[])
            for state in np.flatnonzero(states & (np.ptp(table, axis=1) > 0)):  # where it matters which
                y, x = divmod(state, grid[1])
                plot.text(x, y, arrows[table[state].argmax()], color="white", ha="center", va="center")
        else:
            plot.set(title=f"{title}: Q(s, a)", xlabel="action", ylabel="state")
    figure.colorbar(image, ax=plots)
    figure.savefig(path, dpi=110, bbox_inches="tight")


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
    """Loads the table at args.evaluate, plays and prints the return. Raises BadInput if it does not fit."""
    check(args)
    path, trained_on = Path(args.evaluate), as_trained(args).env_id
    path = path / "q.npy" if path.is_dir() else path
    if trained_on != args.env_id:
        raise BadInput(f"{path} does not hold a table for {args.env_id}: it was made on {trained_on}")
    with closing(make_env(args)) as env:
        shape = int(env.observation_space.n), int(env.action_space.n)
    try:
        q = np.load(path)
        if q.shape != shape or q.dtype != np.float64:
            raise ValueError(f"it holds {q.dtype} of shape {q.shape}")
    except Exception as error:  # reading a file that holds something else can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"{path} does not hold a table for {args.env_id}, of shape {shape} ({reason:.200})") from error
    returns, _ = evaluate(args, q.__getitem__, path.parent / "videos" / "eval")
    print(f"{args.env_id}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes")


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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
