"""Q-learning in a table: learn the value of every action in every state from one observed step at a time.

Q(s, a) is the discounted return to expect from action a in state s and the best actions after it. The best Q, called
Q*, obeys Bellman's equation: it equals, on average, the target y that one observed step (s, a, r, s') gives. Watkins'
Q-learning moves the table's entry towards the target of each step that it sees, by a fraction α of the way:

    y = r                        if s' is terminal
    y = r + γ max_a' Q(s', a')   otherwise
    Q(s, a) ← Q(s, a) + α (y - Q(s, a))

If every action is tried again and again in every state, and α falls with the visits n of (s, a), neither too fast nor
too slowly, as n^-ω does for 1/2 < ω <= 1, Q comes to equal Q*. Where an environment shows its model (`P`, as
FrozenLake, CliffWalking and Taxi do) Q* is computed exactly, by value iteration, and the run says how far off the table
is. Policy iteration stands beside it: another way to the same Q*, which checks the first.

Watkins and Dayan (1992), "Q-learning", Machine Learning 8, equation 1. With --double, van Hasselt (2010), "Double
Q-learning", NIPS, algorithm 1: the maximum picks what happens to be overrated; of two tables one picks and the other
values.

    python tabular_q.py --env-id FrozenLake-v1
    python tabular_q.py --env-id CliffWalking-v1 --double
    python tabular_q.py --env-id CartPole-v1 --observation-bins 10
    python tabular_q.py --evaluate runs/RUN/q.npy --capture-video
"""

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
from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm


@dataclass
class Args:
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run folder's name"""
    seed: int = 1
    """seed of exploration and environment"""
    track: bool = False
    """log to Weights & Biases too, not to TensorBoard alone"""
    wandb_project_name: str = "qladder"
    """project in Weights & Biases"""
    wandb_entity: str | None = None
    """team in Weights & Biases"""
    wandb_mode: Literal["online", "offline", "disabled"] | None = None
    """offline runs are uploaded later with `wandb sync` (default: WANDB_MODE, else online)"""
    capture_video: bool = False
    """record the first episode of every evaluation as mp4"""
    evaluate: Path | None = None
    """load this table and only play"""
    runs_dir: Path = Path("runs")
    """where the run folder is made"""

    env_id: str = "FrozenLake-v1"
    """Gymnasium id, or module:id if importing the module registers it"""
    max_episode_steps: int | None = None
    """truncate episodes after so many steps (default: the environment's limit, or 10,000 if it has none)"""
    observation_bins: int = 10
    """values into which each dimension of a continuous observation is divided"""
    action_bins: int = 11
    """values into which a one-dimensional continuous action is divided"""
    total_timesteps: int = 1_000_000
    """environment steps to train for"""
    learning_rate: float = 1.0
    """α at the first visit of a state and action"""
    learning_rate_decay: float = 0.6
    """ω: at the n-th visit α is learning-rate times n^-ω (0: constant)"""
    gamma: float = 0.99
    """discount factor γ"""
    double: bool = False
    """double Q-learning, with two tables"""
    start_e: float = 1.0
    """ε, the probability of a random action, at the start"""
    end_e: float = 0.1
    """ε at the end"""
    exploration_fraction: float = 1.0
    """fraction of total-timesteps in which ε falls"""
    eval_frequency: int = 50_000
    """environment steps between greedy evaluations"""
    eval_episodes: int = 20
    """episodes in an evaluation"""


class BadInput(ValueError):
    """What was asked for cannot be done; the message is one sentence for the user."""


def check(args: Args) -> None:
    """Raises BadInput for the first argument that makes no sense."""
    low = dict.fromkeys("total_timesteps max_episode_steps eval_frequency eval_episodes".split(), 1)
    low |= dict.fromkeys("observation_bins action_bins".split(), 2)
    low |= dict.fromkeys("seed learning_rate_decay gamma start_e end_e".split(), 0)
    low |= dict.fromkeys("learning_rate exploration_fraction".split(), 1e-12)
    high = dict.fromkeys("learning_rate learning_rate_decay gamma start_e end_e exploration_fraction".split(), 1)
    for name, least in low.items():
        value, most = getattr(args, name), high.get(name, math.inf)
        if value is not None and not least <= value <= most:
            raise BadInput(f"--{name.replace('_', '-')} must be between {least} and {most}, not {value}")
    for wanted, package in ((args.track, "wandb"), (args.capture_video, "moviepy")):
        if wanted and not importlib.util.find_spec(package):
            raise BadInput(f"{package} is missing: pip install {package}")


def make_env(args: Args, video: Path | None = None) -> gym.Env:
    """An environment with observations 0 .. num_states - 1 and actions 0 .. num_actions - 1.

    Continuous observations are divided into bins; a dimension x without bounds first becomes arctan(x), which has them
    and puts the finest bins around 0. Raises BadInput if there is no such environment or no table for its spaces.
    """
    try:
        rendering = {"render_mode": "rgb_array"} if video else {}  # not all environments take the argument
        env = gym.make(args.env_id, max_episode_steps=args.max_episode_steps, **rendering)
        if args.capture_video and not video and "rgb_array" in env.metadata.get("render_modes", []):
            with closing(gym.make(args.env_id, render_mode="rgb_array")) as drawn:
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

    space = env.observation_space
    if isinstance(space, gym.spaces.Box) and args.observation_bins ** math.prod(space.shape) <= 10_000_000:
        bounded = (space.low > -1e6) & (space.high < 1e6)  # some environments write "no bound" as a huge number
        low, high = (np.where(bounded, b, np.arctan(b)).astype(np.float64) for b in (space.low, space.high))
        finite = gym.spaces.Box(low, high, dtype=np.float64)
        env = gym.wrappers.TransformObservation(env, lambda obs: np.where(bounded, obs, np.arctan(obs)), finite)
        return gym.wrappers.DiscretizeObservation(env, args.observation_bins)
    if isinstance(space, gym.spaces.Tuple) and all(isinstance(part, gym.spaces.Discrete) for part in space):
        sizes, starts = [int(part.n) for part in space], [int(part.start) for part in space]
        single = gym.spaces.Discrete(math.prod(sizes))
        return gym.wrappers.TransformObservation(
            env, lambda obs: int(np.ravel_multi_index(np.subtract(obs, starts), sizes)), single
        )
    if isinstance(space, gym.spaces.Discrete) and not space.start:
        return env
    raise BadInput(
        f"{args.env_id} has observations {space}; a table needs Discrete, a Tuple of Discrete, "
        f"or a Box with at most 10,000,000 bins in all"
    )


def linear_schedule(start_e: float, end_e: float, duration: float, t: int) -> float:
    """The value after t environment steps: from start_e to end_e in `duration` steps, and constant from then on."""
    return start_e + (end_e - start_e) * min(t / duration, 1.0)


def td_target(next_q: list[float], other_next_q: list[float], reward: float, terminated: bool, gamma: float) -> float:
    """y = r + γ Q_other(s', argmax_a' Q(s', a')), without the second term where s' is terminal.

    next_q is Q(s', ·) of the table that learns: it picks the action, and the other table values it. In plain Q-learning
    both are the same table, and y = r + γ max_a' Q(s', a').
    """
    return reward if terminated else reward + gamma * other_next_q[next_q.index(max(next_q))]


def step_size(learning_rate: float, decay: float, visits: int) -> float:
    """α at the n-th visit of a state and action: learning_rate n^-ω."""
    return learning_rate * visits**-decay


class Model(NamedTuple):
    """What a tabular environment shows of itself. Terminal states are not in `transition`: nothing follows them."""

    transition: np.ndarray  # (S, A, S): the probability to go on from s by a in s'
    reward: np.ndarray  # (S, A): the expected reward of a in s
    start: np.ndarray  # (S,): the probability to start in s


def read_model(env: gym.Env) -> Model | None:
    """The model of an environment that has `P[s][a] = [(probability, s', reward, terminated), ...]`, else None."""
    table, start = getattr(env.unwrapped, "P", None), getattr(env.unwrapped, "initial_state_distrib", None)
    if table is None or start is None or len(table) != env.observation_space.n:
        return None
    num_states, num_actions = len(table), int(env.action_space.n)
    transition, reward = np.zeros((num_states, num_actions, num_states)), np.zeros((num_states, num_actions))
    for state in range(num_states):
        for action in range(num_actions):
            for probability, next_state, r, terminated in table[state][action]:
                reward[state, action] += probability * r
                transition[state, action, next_state] += 0 if terminated else probability
    return Model(transition, reward, np.array(start))


def value_iteration(model: Model, gamma: float) -> np.ndarray:
    """Q* (S, A), within 1e-10, by applying Bellman's equation until nothing changes. Needs γ < 1."""
    q = np.zeros_like(model.reward)
    while True:
        backup = model.reward + gamma * model.transition @ q.max(axis=1)
        if np.abs(backup - q).max() < 1e-10 * (1 - gamma):
            return backup
        q = backup


def policy_iteration(model: Model, gamma: float) -> np.ndarray:
    """Q* (S, A): value a policy exactly, make it greedy, and again until it stays as it is. Needs γ < 1."""
    policy = np.zeros(len(model.reward), np.int64)
    while True:
        q = model.reward + gamma * model.transition @ policy_value(model, policy, gamma)
        better = np.where(q.max(axis=1) > q[np.arange(len(q)), policy] + 1e-10, q.argmax(axis=1), policy)
        if (better == policy).all():
            return q
        policy = better


def policy_value(model: Model, policy: np.ndarray, gamma: float) -> np.ndarray:
    """V of a policy (S,), the solution of V = R + γ P V. Needs γ < 1."""
    states = np.arange(len(policy))
    matrix = np.eye(len(policy)) - gamma * model.transition[states, policy]
    return np.linalg.solve(matrix, model.reward[states, policy])


def expected_return(model: Model, policy: np.ndarray, steps: int) -> float:
    """The expected undiscounted return of an episode of at most so many steps; `evaluate` estimates it by playing."""
    states, total = np.arange(len(policy)), 0.0
    here = model.start  # (S,): the probability that the episode goes on in s
    for _ in range(steps):
        total += here @ model.reward[states, policy]
        here = here @ model.transition[states, policy]
    return float(total)


def reachable(model: Model) -> np.ndarray:
    """Which states (S,) some sequence of actions leads to."""
    seen = model.start > 0
    while True:
        more = seen | (seen @ model.transition.sum(axis=1) > 0)
        if (more == seen).all():
            return seen
        seen = more


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


def draw(env: gym.Env, q: np.ndarray, exact_q: np.ndarray | None, states: np.ndarray, path: Path) -> None:
    """V and greedy actions of `states` (S,) bool as a grid, or Q as a heat map, beside the optimum if it is known."""
    lake = getattr(env.unwrapped, "nrow", 0), getattr(env.unwrapped, "ncol", 0)
    rows, columns = getattr(env.unwrapped, "shape", lake)
    grid = rows * columns == len(q)
    tables = {"learned": q} if exact_q is None else {"learned": q, "optimal": exact_q}
    shown = np.stack(list(tables.values()))[:, states]
    shown = shown.max(axis=2) if grid else shown
    scale = {"vmin": shown.min(), "vmax": shown.max()}  # the same colours mean the same values
    height = 1.5 + 5 * rows / columns if grid else 6
    figure = Figure(figsize=(6 * len(tables), height), layout="constrained")
    for axes, (title, table) in zip(np.atleast_1d(figure.subplots(1, len(tables))), tables.items(), strict=True):
        if grid:
            image = axes.imshow(np.where(states, table.max(axis=1), np.nan).reshape(rows, columns), **scale)
            arrows = "↑→↓←" if "Cliff" in env.spec.id else "←↓→↑"  # what the actions of these environments mean
            matters = states & (np.ptp(table, axis=1) > 0)  # not where all actions are worth the same
            for state in np.flatnonzero(matters):
                place = {"x": state % columns, "y": state // columns, "ha": "center", "va": "center"}
                axes.text(s=arrows[table[state].argmax()], color="white", **place)
            axes.set(title=f"{title}: V(s) and the greedy action", xticks=[], yticks=[])
        else:
            image = axes.imshow(table, aspect="auto", interpolation="nearest", **scale)
            axes.set(title=f"{title}: Q(s, a)", xlabel="action", ylabel="state")
        figure.colorbar(image, shrink=0.8)
    figure.savefig(path, dpi=110)


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises BadInput, FloatingPointError, OSError."""
    check(args)
    rng = np.random.default_rng(args.seed)
    env = make_env(args)
    num_states, num_actions = int(env.observation_space.n), int(env.action_space.n)
    # Lists, because reading and writing single numbers is several times faster than in NumPy arrays.
    q_a, q_b = ([[0.0] * num_actions for _ in range(num_states)] for _ in range(2))
    visits_a, visits_b = ([[0] * num_actions for _ in range(num_states)] for _ in range(2))
    if not args.double:
        q_b, visits_b = q_a, visits_a  # one table in both roles
    model = read_model(env) if args.gamma < 1 else None
    exact_q, states = None, np.ones(num_states, np.bool_)
    if model:
        exact_q, states, limit = value_iteration(model, args.gamma), reachable(model), env.spec.max_episode_steps
        optimal_return = expected_return(model, exact_q.argmax(axis=1), limit)

    run_dir = make_run_dir(args)
    exploration_steps = args.exploration_fraction * args.total_timesteps
    with closing(env), open_log(args, run_dir) as log:
        episodic_return, episodic_length, best_return, start_time = 0.0, 0, -math.inf, time.time()
        ended: list[tuple[float, int]] = []  # (return, length) of the episodes since the last report
        obs, _ = env.reset(seed=args.seed)
        progress = tqdm(range(1, args.total_timesteps + 1), unit="step", disable=None)
        for global_step in progress:
            # Act: at random with probability ε, else greedily.
            epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step - 1)
            if rng.random() < epsilon:
                action = int(rng.random() * num_actions)
            else:
                values = [a + b for a, b in zip(q_a[obs], q_b[obs], strict=True)]
                action = values.index(max(values))
            next_obs, reward, terminated, truncated, _ = env.step(action)

            # Learn.
            q, visits, other_q = q_a, visits_a, q_b
            if args.double and rng.random() < 0.5:
                q, visits, other_q = q_b, visits_b, q_a
            y = td_target(q[next_obs], other_q[next_obs], float(reward), terminated, args.gamma)
            visits[obs][action] += 1
            td_error = y - q[obs][action]
            q[obs][action] += step_size(args.learning_rate, args.learning_rate_decay, visits[obs][action]) * td_error

            obs = next_obs
            episodic_return += float(reward)
            episodic_length += 1
            if terminated or truncated:
                ended.append((episodic_return, episodic_length))
                obs, _ = env.reset()
                episodic_return, episodic_length = 0.0, 0

            # Report. Episodes are short and many, so their means over 1,000 steps are logged.
            if global_step % 1_000 == 0 and ended:
                mean_return, mean_length = np.mean(ended, axis=0).tolist()
                log({"charts/episodic_return": mean_return, "charts/episodic_length": mean_length}, global_step)
                progress.set_postfix({"return": mean_return, "ε": epsilon}, refresh=False)
                ended = []
            if global_step % args.eval_frequency == 0 or global_step == args.total_timesteps:
                learned = np.mean([q_a, q_b], axis=0)  # (S, A)
                returns, metrics = evaluate(args, learned.__getitem__, run_dir / "videos" / f"step-{global_step}")
                line = "step {:,}: greedy return {:.1f} ± {:.1f}, Q predicted {:.2f}, realised {:.2f}"
                line = line.format(global_step, *metrics.values())
                sps = global_step / (time.time() - start_time)
                metrics |= {"losses/td_error": abs(td_error), "charts/epsilon": epsilon, "charts/SPS": sps}
                if model:
                    metrics["eval/exact_return"] = expected_return(model, learned.argmax(axis=1), limit)
                    metrics["eval/optimal_return"] = optimal_return
                    metrics["charts/q_error"] = float(np.abs(learned - exact_q)[states].max())
                    line += ", exactly {eval/exact_return:.4f} of {eval/optimal_return:.4f}".format_map(metrics)
                    line += f", max |Q - Q*| {metrics['charts/q_error']:.4f}"
                log(metrics, global_step)
                progress.write(line)
                if metrics["eval/episodic_return"] > best_return:
                    best_return, best_step = metrics["eval/episodic_return"], global_step

    np.save(run_dir / "q.npy", learned)
    draw(env, learned, exact_q, states, run_dir / "q.png")
    seconds = time.time() - start_time
    result = metrics | {"returns": returns, "best_return": best_return, "best_step": best_step}
    result |= {"global_step": global_step, "updates": global_step, "seconds": seconds, "sps": global_step / seconds}
    (run_dir / "result.part").write_text(json.dumps(result, indent=2))
    os.replace(run_dir / "result.part", run_dir / "result.json")  # last and at once: a run that has it is complete
    print(
        f"{args.env_id}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes, "
        f"trained {global_step:,} steps in {seconds:.0f} s ({global_step / seconds:,.0f} steps/s), see {run_dir}"
    )
    return run_dir


def play(args: Args) -> None:
    """Loads the table at args.evaluate, plays and prints the return. Raises BadInput if it does not fit."""
    check(args)
    with closing(make_env(args)) as env:
        shape = int(env.observation_space.n), int(env.action_space.n)
    try:
        q = np.load(args.evaluate, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise BadInput(f"{args.evaluate} does not hold a table: {str(error).splitlines()[0]}") from error
    if not isinstance(q, np.ndarray) or q.shape != shape or q.dtype != np.float64:
        raise BadInput(f"{args.evaluate} does not hold a table of {shape[0]} states and {shape[1]} actions")
    returns, _ = evaluate(args, q.__getitem__, args.evaluate.parent / "videos" / "eval")
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
