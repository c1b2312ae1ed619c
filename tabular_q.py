"""Q-learning in a table: learn the value of every action in every state from one observed step at a time.

Q*(s, a) is the expected discounted return of taking action a in state s and the best actions afterwards. Q* obeys
Bellman's equation: Q*(s, a) is the mean of the target y over the possible steps (s, a, r, s'). Q-learning estimates Q*
in a table Q. It observes one step at a time and moves Q(s, a) towards the step's target, by a fraction α of the
difference:

    y = r                        if s' is terminal
    y = r + γ max_a' Q(s', a')   otherwise
    Q(s, a) ← Q(s, a) + α (y - Q(s, a))

Q converges to Q* if every action is tried again and again in every state, and if α decreases with the number n of
visits to (s, a), neither too fast nor too slowly: as n^-ω with 1/2 < ω <= 1. FrozenLake, CliffWalking and Taxi show
their model. There the script computes Q* exactly and reports the error of the table.

Watkins and Dayan (1992), "Q-learning", Machine Learning 8, equation 1; Sutton and Barto (2018), "Reinforcement
learning", section 6.5. --double: van Hasselt (2010), "Double Q-learning", NIPS, algorithm 1.

    python tabular_q.py --env-id FrozenLake-v1
    python tabular_q.py --env-id CliffWalking-v1 --double
    python tabular_q.py --env-id CartPole-v1 --observation-bins 10
    python tabular_q.py --evaluate runs/RUN --capture-video
"""

import ast
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
from bisect import bisect_right
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NamedTuple, get_type_hints

import gymnasium as gym
import numpy as np
import torch  # only writes the log for TensorBoard
import tyro
from pydantic import Field, FiniteFloat, PositiveInt, ValidationError, create_model
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]


@dataclass
class Args:
    exp_name: str = Path(__file__).stem  # name of the experiment, a part of the run folder's name
    seed: Annotated[int, Field(ge=0, le=2**31)] = 1  # seed of exploration and environment
    track: bool = False  # log to Weights & Biases too (without internet: WANDB_MODE=offline, later `wandb sync`)
    wandb_project_name: str = "qladder"  # project in Weights & Biases
    wandb_entity: str | None = None  # team in Weights & Biases
    capture_video: bool = False  # record the first 1,000 frames of every evaluation in videos/
    evaluate: Path | None = None  # do not train: play with the table in this run folder, or with this file
    runs_dir: Path = Path("runs")  # folder for the run folders

    env_id: str = "FrozenLake-v1"  # Gymnasium id, or module:id if importing the module registers it
    env_kwargs: tuple[str, ...] = ()  # arguments of the environment, such as is_slippery=False map_name=8x8
    eval_env_kwargs: tuple[str, ...] = ()  # arguments that only the environment of the evaluations gets as well
    max_episode_steps: PositiveInt | None = None  # time limit of an episode (default: the environment's, or 10,000)
    observation_bins: Annotated[int, Field(ge=2)] = 10  # bins per dimension of a continuous observation
    action_bins: Annotated[int, Field(ge=2)] = 11  # values per dimension into which a continuous action is divided
    total_timesteps: PositiveInt = 1_000_000  # environment steps to train for
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1.0  # α at the first visit of a state and action
    learning_rate_decay: Fraction = 0.6  # ω: α is learning-rate times n^-ω at the n-th visit (0: constant)
    gamma: Fraction = 0.99  # discount factor γ
    double: bool = False  # Double Q-learning, with two tables
    start_e: Fraction = 1.0  # ε, the probability of a random action, at the start
    end_e: Fraction = 0.1  # ε at the end
    exploration_fraction: Fraction = 1.0  # fraction of total-timesteps over which ε decreases
    eval_frequency: PositiveInt = 50_000  # environment steps between greedy evaluations
    eval_episodes: PositiveInt = 5  # episodes of an evaluation during training
    final_eval_episodes: PositiveInt = 20  # episodes of the evaluation at the end
    stop_at_return: FiniteFloat | None = None  # end the run when the mean return of an evaluation reaches this number

    def __post_init__(self):
        check(self)  # the types above, and flags that contradict each other


def td_target(next_q: list[float], reward: float, terminated: bool, gamma: float) -> float:
    """y = r + γ max_a' Q(s', a'), or r if s' is terminal. next_q is Q(s', ·)."""
    return reward if terminated else reward + gamma * max(next_q)


def step_size(learning_rate: float, decay: float, visits: int) -> float:
    """α at the n-th visit of a state and action: learning_rate n^-ω."""
    return learning_rate * visits**-decay


class QTable:
    """Q-learning in a list of lists: to read one number of a NumPy array takes several times longer."""

    def __init__(self, num_states: int, num_actions: int, args: Args):
        self.q = [[0.0] * num_actions for _ in range(num_states)]
        self.visits = [[0] * num_actions for _ in range(num_states)]
        self.learning_rate, self.decay, self.gamma = args.learning_rate, args.learning_rate_decay, args.gamma

    def q_values(self, s: int) -> list[float]:
        """Q(s, ·)."""
        return self.q[s]

    def update(self, s: int, a: int, r: float, next_s: int, terminated: bool) -> float:
        """Learns from one step. Returns the TD error y - Q(s, a)."""
        return self.move(s, a, td_target(self.q[next_s], r, terminated, self.gamma))

    def move(self, s: int, a: int, y: float) -> float:
        """Q(s, a) ← Q(s, a) + α (y - Q(s, a)). Returns y - Q(s, a)."""
        q, visits = self.q[s], self.visits[s]
        visits[a] += 1
        alpha = step_size(self.learning_rate, self.decay, visits[a])
        td_error = y - q[a]
        q[a] += alpha * td_error
        return td_error

    def array(self) -> np.ndarray:
        """The table, (S, A)."""
        return np.array(self.q)


def double_td_target(next_q: list[float], other_next_q: list[float], reward: float, terminated: bool, gamma: float):
    """y = r + γ Q_other(s', argmax_a' Q(s', a')), or r if s' is terminal."""
    return reward if terminated else reward + gamma * other_next_q[next_q.index(max(next_q))]


class DoubleQTable:
    """Double Q-learning (--double): the maximum prefers actions that are overestimated by chance.

    So there are two tables. A coin selects the table that learns. This table chooses the best next action, and the
    other table, whose errors are independent, values it.
    """

    def __init__(self, num_states: int, num_actions: int, args: Args, rng: np.random.Generator):
        self.tables = [QTable(num_states, num_actions, args) for _ in range(2)]
        self.gamma, self.rng = args.gamma, rng

    def q_values(self, s: int) -> list[float]:
        """The mean of both tables."""
        return [(one + two) / 2 for one, two in zip(self.tables[0].q[s], self.tables[1].q[s], strict=True)]

    def update(self, s: int, a: int, r: float, next_s: int, terminated: bool) -> float:
        """Learns from one step. Returns the TD error y - Q(s, a)."""
        learner, other = reversed(self.tables) if self.rng.random() < 0.5 else self.tables
        return learner.move(s, a, double_td_target(learner.q[next_s], other.q[next_s], r, terminated, self.gamma))

    def array(self) -> np.ndarray:
        """The mean of both tables, (S, A)."""
        return np.mean([table.q for table in self.tables], axis=0)


def linear_schedule(start: float, end: float, duration: float, t: int) -> float:
    """The value after t steps: from `start` to `end` in `duration` steps, then constant."""
    return end if t >= duration else start + (end - start) * (t / duration)


def train(args: Args) -> Path:
    """Trains and evaluates one agent. Returns its run folder. Raises Stop, a message that ends the program."""
    rng = np.random.default_rng(args.seed)  # draws actions and the coins of --double
    env = make_env(args)
    run_dir = make_run_dir(args)
    # Some simulators allow one instance. If the only evaluation is after training, it reuses env, which cannot record.
    one_env = args.eval_frequency > args.total_timesteps and not (args.capture_video or args.eval_env_kwargs)
    eval_env = env if one_env else make_env(args, run_dir / "videos")
    num_states, num_actions = int(env.observation_space.n), int(env.action_space.n)

    table = DoubleQTable(num_states, num_actions, args, rng) if args.double else QTable(num_states, num_actions, args)
    model = read_model(env) if args.gamma < 1 and not args.eval_env_kwargs else None  # Q* of the same task, with γ < 1
    exact_q = value_iteration(model, args.gamma) if model else None
    exploration_steps = args.exploration_fraction * args.total_timesteps

    with Run(args, run_dir, table) as run, closed_at_end(env, eval_env):  # however the run ends
        warn_of_differences(env, eval_env, args)
        obs, _ = env.reset(seed=args.seed)
        episodes, episodic_return, episodic_length = [], 0.0, 0  # episodes: the finished ones, until they are logged
        sum_td_error, evaluated, best_return, start_time = 0.0, 0, -math.inf, time.time()
        progress = tqdm(range(1, args.total_timesteps + 1), unit="step", disable=None)  # None: only on a terminal
        for global_step in progress:
            # Act: at random with probability ε, else greedily.
            epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step - 1)
            if rng.random() < epsilon:
                action = int(rng.random() * num_actions)  # rng.integers takes three times as long
            else:
                q = table.q_values(obs)
                action = q.index(max(q))
            next_obs, reward, terminated, truncated, info = env.step(action)
            if model and (obs, action, reward, next_obs, terminated) not in model.outcomes:
                progress.write(f"no exact values: step {global_step:,} cannot happen in the model P of {args.env_id}")
                model = None

            # Learn.
            td_error = table.update(obs, action, reward, next_obs, terminated)
            sum_td_error += abs(td_error)
            obs = next_obs
            episodic_return += reward
            episodic_length += 1
            if terminated or truncated:
                episode = {"episodic_return": episodic_return, "episodic_length": episodic_length}
                episodes.append(episode | info_numbers(info))
                obs, _ = env.reset()
                episodic_return, episodic_length = 0.0, 0

            # Report. Episodes are short and many, so their means over 1,000 steps are logged.
            if global_step % 1_000 == 0 and episodes:
                run.log(means(episodes, "charts/"), global_step)
                progress.set_postfix({"return": episodes[-1]["episodic_return"], "ε": epsilon}, refresh=False)
                episodes = []
            last = global_step == args.total_timesteps
            if global_step % args.eval_frequency == 0 or last:
                run.save()
                mean, sps = sum_td_error / (global_step - evaluated), global_step / (time.time() - start_time)
                run.log({"losses/td_error": mean, "charts/epsilon": epsilon, "charts/SPS": sps}, global_step)
                sum_td_error, evaluated = 0.0, global_step
                if args.capture_video:
                    eval_env.start_recording(f"step-{global_step}")  # by RecordVideo, in make_env
                learned, num_episodes = table.array(), args.final_eval_episodes if last else args.eval_episodes
                with same_random_state():  # the evaluation must not change the training
                    metrics, returns = evaluate(eval_env, learned.__getitem__, args, num_episodes)
                line = f"step {global_step:,}: {summary(metrics, returns)}"
                if model:
                    metrics |= exact_metrics(model, learned, exact_q, env.spec.max_episode_steps)
                    line += ", exactly {eval/exact_return:.4f} of {eval/optimal_return:.4f}".format_map(metrics)
                    line += ", max |Q - Q*| {charts/q_error:.4f}".format_map(metrics)
                run.log(metrics, global_step)
                progress.write(line)
                if metrics["eval/episodic_return"] > best_return:
                    best_return, best_step = metrics["eval/episodic_return"], global_step
                if args.stop_at_return is not None and metrics["eval/episodic_return"] >= args.stop_at_return:
                    break
        best = {"best_return": best_return, "best_step": best_step}
        result = {**metrics, "returns": returns, **best, "updates": global_step}
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


class Model(NamedTuple):
    """The model that a tabular environment shows. In a step to a terminal state the probability to go on is 0."""

    transition: np.ndarray  # (S, A, S): probability that action a in state s leads to s' and the episode goes on
    reward: np.ndarray  # (S, A): expected reward of action a in state s
    start: np.ndarray  # (S,): probability that an episode starts in s
    outcomes: set[tuple]  # every (s, a, r, s', terminated) that can happen


def read_model(env: gym.Env) -> Model | None:
    """The model of an environment with `P[s][a] = [(probability, s', reward, terminated), ...]`, else None."""
    num_states, num_actions = int(env.observation_space.n), int(env.action_space.n)
    outcomes, start = getattr(env.unwrapped, "P", None), getattr(env.unwrapped, "initial_state_distrib", None)
    transition, reward = np.zeros((num_states, num_actions, num_states)), np.zeros((num_states, num_actions))
    possible = set()
    try:
        if start is None or len(outcomes) != num_states:
            return None
        for s, a in np.ndindex(num_states, num_actions):
            for probability, next_s, r, terminated in outcomes[s][a]:
                reward[s, a] += probability * r
                transition[s, a, next_s] += 0 if terminated else probability
                if probability > 0:
                    possible.add((s, a, r, next_s, terminated))
            if not math.isclose(sum(outcome[0] for outcome in outcomes[s][a]), 1, abs_tol=1e-6):
                return None
    except (TypeError, ValueError, LookupError):  # no P, or one of another form
        return None
    return Model(transition, reward, np.array(start), possible)


def value_iteration(model: Model, gamma: float) -> np.ndarray:
    """Q*, (S, A), within 1e-10: applies Bellman's equation until nothing changes. Needs γ < 1."""
    q = np.zeros_like(model.reward)
    while True:
        new_q = model.reward + gamma * model.transition @ q.max(axis=1)
        if np.abs(new_q - q).max() < 1e-10 * (1 - gamma):
            return new_q
        q = new_q


def expected_return(model: Model, policy: np.ndarray, steps: int) -> float:
    """The expected undiscounted return of an episode with a time limit of `steps`; `evaluate` estimates it."""
    states = np.arange(len(policy))
    transition, reward = model.transition[states, policy], model.reward[states, policy]  # (S, S), (S,)
    here, total = model.start, 0.0  # here: (S,), the probability that the episode goes on in s
    for _ in range(steps):
        total += here @ reward
        here = here @ transition
    return float(total)


def reachable(model: Model) -> np.ndarray:
    """(S,) bool: whether some sequence of actions leads to the state."""
    leads_to = (model.transition > 0).any(axis=1)  # (S, S)
    seen = model.start > 0
    while (more := seen | (seen @ leads_to)).sum() > seen.sum():
        seen = more
    return seen


def exact_metrics(model: Model, q: np.ndarray, exact_q: np.ndarray, steps: int) -> dict[str, float]:
    """Expected returns of the greedy policies of Q and of Q*, and max |Q - Q*| over the reachable states."""
    return {
        "eval/exact_return": expected_return(model, q.argmax(axis=1), steps),
        "eval/optimal_return": expected_return(model, exact_q.argmax(axis=1), steps),
        "charts/q_error": float(np.abs(q - exact_q)[reachable(model)].max()),
    }


# The algorithm ends here. The rest is environments, files and the command line, the same in every script here.


class Stop(Exception):
    """Stop(sentence, code) ends the program; code 2: bad input, 1: the run failed."""


def check(args: Args) -> None:
    """Raises ValueError, which tyro prints (exit code 2), for a flag out of its range or a missing package."""
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
    for wrong, sentence in (
        (args.track and not find_spec("wandb"), "--track needs: pip install wandb"),
        (args.capture_video and not find_spec("moviepy"), "--capture-video needs: pip install moviepy"),
    ):
        if wrong:
            raise ValueError(sentence)


def make_env(args: Args, video_dir: Path | None = None) -> gym.Env:
    """The environment, with observations 0 .. num_states - 1 and actions 0 .. num_actions - 1. Raises Stop.

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
        env = numbered_states(float_rewards(numbered_actions(env, args.action_bins)), args.observation_bins)
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


def numbered_states(env: gym.Env, bins: int) -> gym.Env:
    """The environment with observations 0, 1, 2, ... of type int, and rewards of type float."""
    space, dimensions = env.observation_space, divided(env.observation_space, bins)
    num_states = math.prod(len(edges) + 1 for _, _, edges in dimensions)
    if num_states > 10_000_000:
        raise gym.error.Error("its observations make more than 10,000,000 states, too many for a table")

    def to_state(obs) -> int:
        state = 0
        for (low, high, edges), number in zip(dimensions, numbers(space, obs), strict=True):
            if not low <= number <= high:
                raise Stop(f"{env.spec.id} sent {obs}: not finite, or not in its observation space", 1)
            state = state * (len(edges) + 1) + bisect_right(edges, number)
        return state

    return gym.wrappers.TransformObservation(env, to_state, gym.spaces.Discrete(num_states))


def float_rewards(env: gym.Env) -> gym.Env:
    """The environment with rewards of type float."""

    def to_float(reward) -> float:
        if np.size(reward) != 1:
            advice = "a wrapper must make it one number, for example gymnasium.wrappers.TransformReward(env, sum)"
            raise Stop(f"the reward of {env.spec.id} has shape {np.shape(reward)}; {advice}", 2)
        return float(np.asarray(reward).item())

    return gym.wrappers.TransformReward(env, to_float)


def numbers(space: gym.Space, obs) -> list[float]:
    """All numbers of an observation, one after the other."""
    if isinstance(space, gym.spaces.Discrete):
        return [obs]
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        keys = space if isinstance(space, gym.spaces.Dict) else range(len(space))
        return [number for key in keys for number in numbers(space[key], obs[key])]
    return np.ravel(obs).tolist()


def divided(space: gym.Space, bins: int) -> list[tuple[float, float, list[float]]]:
    """(lowest value, highest value, edges between the bins) of each number of an observation.

    Every whole number has its own bin, unless a Box has more than 1,000 of them. A range without bounds, or with bounds
    so large that they mean none, is divided into equal bins of arctan(x): they are finest around 0.
    """
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        parts = space.values() if isinstance(space, gym.spaces.Dict) else space
        return [dimension for part in parts for dimension in divided(part, bins)]
    if isinstance(space, gym.spaces.Box):
        bounds = space.low, space.high
    elif isinstance(space, gym.spaces.MultiBinary):
        bounds = np.zeros(space.shape, int), np.ones(space.shape, int)
    elif isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        sizes = space.n if isinstance(space, gym.spaces.Discrete) else space.nvec
        bounds = space.start, space.start + sizes - 1
    else:
        raise gym.error.Error(f"its observations hold a {space}, which no table can hold: wrap it to leave that out")
    dimensions, largest = [], sys.float_info.max
    for low, high in zip(*(np.ravel(bound).tolist() for bound in bounds), strict=True):
        if isinstance(low, int) and (high - low < 1_000 or not isinstance(space, gym.spaces.Box)):
            dimensions.append((low, high, list(range(low + 1, high + 1))))
        elif low > -1e6 and high < 1e6:
            dimensions.append((-largest, largest, np.linspace(low, high, bins + 1)[1:-1].tolist()))
        else:
            angles = np.linspace(np.arctan(low), np.arctan(high), bins + 1)[1:-1]
            dimensions.append((-largest, largest, np.tan(angles).tolist()))
    return dimensions


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
    """The files of a run: scalars for TensorBoard and, with --track, W&B; the table; result.json."""

    def __init__(self, args: Args, run_dir: Path, table: QTable | DoubleQTable):
        self.args, self.run_dir, self.table, self.wandb = args, run_dir, table, None
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

    def save(self) -> None:
        """Writes the table to q.part and renames it, so that no file is half written."""
        with (self.run_dir / "q.part").open("wb") as file:
            np.save(file, self.table.array())
        (self.run_dir / "q.part").replace(self.run_dir / "q.npy")

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
            self.save()  # also if the run was interrupted
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
    """Plays with a stored table. args.json gives env_id and the fields below it, the command line wins. Raises Stop."""
    path = args.evaluate / "q.npy" if args.evaluate.is_dir() else args.evaluate
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
    shape = int(env.observation_space.n), int(env.action_space.n)
    try:
        if args.env_id != trained.env_id:
            raise ValueError(f"the table was trained on {trained.env_id}")
        q = np.load(path)
        if q.shape != shape or q.dtype != np.float64:
            raise ValueError(f"it holds {q.dtype} of shape {q.shape}, not {shape}")
    except Exception as error:  # the file may hold anything
        raise Stop(f"{path} does not hold a table for {args.env_id}: {' '.join(str(error).split()):.300}", 2) from error
    with closed_at_end(env):
        if args.capture_video:
            env.start_recording("eval-episode-0")
        print(f"{args.env_id}: {summary(*evaluate(env, q.__getitem__, args, args.final_eval_episodes))}")


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    # Hides an OSError of TensorBoard's thread: the next add_scalar raises the same error in this thread.
    threading.excepthook = lambda error: issubclass(error.exc_type, OSError) or threading.__excepthook__(error)
    sys.path.append(str(Path.cwd()))  # for --env-id module:id
    args = tyro.cli(Args, description=__doc__)
    try:
        for flag in ("--env-kwargs", "--eval-env-kwargs"):
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
