"""DQN on Atari: from pixels, with a convolutional network, a million frames in memory, on the GPU if there is one.

The algorithm is that of dqn.py: `td_target`, `compute_loss` and `update_target` are the same text. Pixels need more:

- An action is repeated for four frames. The agent sees the maximum of the last two, because the console draws some
  objects only in every other frame, in grey and 84x84. An observation is four such pictures in a row, so that it shows
  movement. ale-py's AtariVectorEnv does all this in C++, for several games at once.
- Rewards are clipped to -1, 0 and 1 for learning, so that one learning rate suits all games. The logged return is the
  raw score of the whole game.
- The replay buffer keeps each picture once, and builds the stacks of four when it draws them.

    y = r                               if s' is terminal
    y = r + γ max_a' Q_target(s', a')   otherwise

Mnih et al. (2015), "Human-level control through deep reinforcement learning", Nature 518. Scores depend on the
protocol as much as on the algorithm. There are two common protocols: `--protocol nature`, as in that paper and in
CleanRL, and `--protocol machado`, after Machado et al. (2018), "Revisiting the Arcade Learning Environment", as in
Dopamine. A flag such as `--noop-max 10` changes that one part of the protocol.

A step is one action of the agent in one game, so four frames. With several games, the steps of all games count: there
are as many updates a step as with one game. (The step that begins a game counts too.)

    python dqn_atari.py --env-id ALE/Pong-v5
    python dqn_atari.py --env-id BreakoutNoFrameskip-v4 --num-envs 8 --checkpoint-frequency 250000
    python dqn_atari.py --resume runs/RUN
    python dqn_atari.py --evaluate runs/RUN --capture-video
"""

import difflib
import hashlib
import io
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
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

try:
    import ale_py
    import psutil
except ModuleNotFoundError as error:
    print(f'error: {error}; dqn_atari.py needs: pip install -e ".[atari]"', file=sys.stderr)
    sys.exit(2)

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
THREADS = min(4, torch.get_num_threads())  # one for each core, or OMP_NUM_THREADS, but at most 4


@dataclass
class Args:
    exp_name: str = Path(__file__).stem  # name of the experiment, a part of the run folder's name
    seed: Annotated[int, Field(ge=0, le=2**31)] = 1  # seed of weights, exploration, replay and games
    cuda: bool = torch.cuda.is_available()  # learn on the GPU (default: if there is one)
    compile: bool = False  # compile loss and gradient with torch.compile, for a GPU (on a CPU it gains nothing)
    num_threads: PositiveInt = THREADS  # CPU threads of PyTorch (default: one for each core, but at most 4)
    track: bool = False  # log to Weights & Biases too (without internet: WANDB_MODE=offline, later `wandb sync`)
    wandb_project_name: str = "qladder"  # project in Weights & Biases
    wandb_entity: str | None = None  # team in Weights & Biases
    capture_video: bool = False  # record the agent's view of the first game of every evaluation in videos/
    save_model: bool = False  # keep the last weights (model.pt) and those of the best evaluation (best_model.pt)
    checkpoint_frequency: NonNegativeInt = 0  # steps between checkpoints, which cut off the running games (0: none)
    resume: Path | None = None  # continue the run of this folder from its last checkpoint; takes no other flag
    evaluate: Path | None = None  # do not train: play with the weights in this run folder, or in this file
    runs_dir: Path = Path("runs")  # folder for the run folders

    env_id: str = "BreakoutNoFrameskip-v4"  # Atari game, as ALE/Breakout-v5 or (the same here) BreakoutNoFrameskip-v4
    num_envs: PositiveInt = 1  # games played in parallel
    protocol: Literal["nature", "machado"] = "nature"  # sets the next four flags and eval-epsilon
    repeat_action_probability: Fraction | None = None  # of "sticky" frames (nature 0, machado 0.25)
    terminal_on_life_loss: bool | None = None  # lost lives are terminal for the learner (nature True, machado False)
    noop_max: NonNegativeInt | None = None  # a game begins with fewer idle frames (nature 30, machado 0)
    fire_reset: bool | None = None  # press fire as a game begins, not after a lost life (nature True, machado False)
    frame_skip: PositiveInt = 4  # frames for which an action is repeated
    max_frames: PositiveInt = 108_000  # frames after which a game is truncated (108,000: half an hour)
    total_timesteps: PositiveInt = 10_000_000  # steps to train for
    learning_rate: PositiveFloat = 1e-4  # step size of Adam
    buffer_size: PositiveInt = 1_000_000  # steps that the replay buffer keeps, at least 8 for each game
    gamma: Fraction = 0.99  # discount factor γ
    tau: PositiveFraction = 1.0  # τ, how far an update moves the target network towards the Q-network (1: a copy)
    target_network_frequency: PositiveInt = 1_000  # steps between target updates
    batch_size: PositiveInt = 32  # transitions in an update
    start_e: Fraction = 1.0  # ε, the probability of a random action, at the start
    end_e: Fraction = 0.01  # ε at the end
    exploration_fraction: Fraction = 0.10  # fraction of total-timesteps over which ε decreases
    train_frequency: PositiveInt = 4  # steps between updates
    learning_starts: PositiveInt = 80_000  # steps before the first update, at least 4 for each game
    loss: Literal["mse", "huber"] = "mse"  # squared error, or Huber's loss, which is linear for errors beyond 1
    max_grad_norm: PositiveFloat = math.inf  # longer gradients are scaled down to this norm (inf: never)
    eval_frequency: PositiveInt = 250_000  # steps between evaluations
    stop_at_return: FiniteFloat | None = None  # end the run when the mean return of an evaluation reaches this number
    eval_episodes: PositiveInt = 10  # games in an evaluation, played in parallel
    eval_epsilon: Fraction | None = None  # ε in evaluations (nature 0.05, machado 0.001)

    def __post_init__(self):
        check(self)  # the types above, and flags that contradict each other


# The flags that --protocol sets where they are not given, and their values.
PROTOCOL = ("repeat_action_probability", "terminal_on_life_loss", "noop_max", "fire_reset", "eval_epsilon")
PROTOCOLS = {"nature": (0.0, True, 30, True, 0.05), "machado": (0.25, False, 0, False, 0.001)}


class QNetwork(nn.Module):
    """Q(s, ·), one output for each action: (B, 4, 84, 84) uint8 -> (B, num_actions), as in the Nature paper."""

    def __init__(self, num_frames: int, num_actions: int, args: Args):
        super().__init__()
        self.conv1 = nn.Conv2d(num_frames, 32, kernel_size=8, stride=4)  # -> (B, 32, 20, 20)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=4, stride=2)  # -> (B, 64, 9, 9)
        self.conv3 = nn.Conv2d(64, 64, kernel_size=3)  # -> (B, 64, 7, 7)
        self.hidden = nn.Linear(64 * 7 * 7, 512)
        self.output = nn.Linear(512, num_actions)
        # From PyTorch's own, smaller weights units die and the ball hardly shows in the output. √2 makes up for the
        # half that a ReLU cuts off. The output begins near 0: otherwise the first targets are optimistic, because a
        # target takes the largest of several random numbers.
        for layer in self.children():
            nn.init.orthogonal_(layer.weight, gain=0.01 if layer is self.output else math.sqrt(2))
            nn.init.zeros_(layer.bias)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        x = obs.to(torch.float32, memory_format=torch.channels_last)  # the layout in which convolutions are fastest
        x = x.div_(255)  # pixels are scaled only here; in place, because fresh memory is slow
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = F.relu(self.hidden(x.flatten(1)))
        return self.output(x)

    def q_values(self, obs: np.ndarray) -> np.ndarray:
        """Q(s, ·) of one observation of each game, to act: (num_envs, 4, 84, 84) -> (num_envs, num_actions)."""
        with torch.inference_mode():
            return self(to_device(torch.from_numpy(obs), self.output.weight.device)).cpu().numpy()


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device. The CPU does not wait for a copy to a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if tensor.device.type != device.type else tensor


class Batch(NamedTuple):
    """B transitions."""

    obs: torch.Tensor  # (B, 4, 84, 84) uint8
    action: torch.Tensor  # (B,) int64
    reward: torch.Tensor  # (B,) float32, clipped
    next_obs: torch.Tensor  # (B, 4, 84, 84) uint8
    terminated: torch.Tensor  # (B,) bool; False if only a time limit ended the game: then y includes Q of next_obs


class ReplayBuffer:
    """The last `capacity` steps of all games, in a ring of rows, with one row for a step of all games.

    A row holds the newest frame of each observation, the action taken there and its reward, so every frame is stored
    once. The next row holds the newest frame of next_obs. So the final frame of a game has a row too. No action was
    taken in this row, and it is never drawn.
    """

    def __init__(self, capacity: int, num_envs: int, device: torch.device):
        self.rows, self.num_envs, self.added = capacity // num_envs, num_envs, 0
        shape = self.rows, num_envs
        # Row r of game g is frame r * num_envs + g. The last frame stays black: it stands before the start of a game.
        self.frames = torch.zeros((self.rows * num_envs + 1, 84, 84), dtype=torch.uint8, device=device)
        self.action = np.zeros(shape, np.uint8)
        self.reward = np.zeros(shape, np.int8)  # clipped
        self.terminated = np.zeros(shape, np.bool_)
        self.age = np.zeros(shape, np.uint8)  # steps since the start of the game, at most 3
        self.final = np.ones(shape, np.bool_)  # the last row of a game; True at first, because row 0 begins a game

    def state_dict(self) -> dict:
        """All that is stored, for checkpoints, without copies."""
        arrays = {name: getattr(self, name) for name in ("action", "reward", "terminated", "age", "final")}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {"added": self.added, "frames": self.frames, **tensors}

    def load_state_dict(self, state: dict) -> None:
        self.added = state["added"]
        for name, tensor in self.state_dict().items():
            if name != "added":
                tensor.copy_(state[name])

    def add(self, obs, action, reward, terminated, final) -> None:
        """Copies one row: obs (num_envs, 4, 84, 84), the rest (num_envs,). `final`: no action was taken in it."""
        row, before = self.added % self.rows, (self.added - 1) % self.rows
        first = row * self.num_envs
        self.frames[first : first + self.num_envs] = to_device(torch.from_numpy(obs[:, -1]), self.frames.device)
        self.action[row], self.reward[row], self.terminated[row] = action, np.clip(reward, -1, 1), terminated
        self.age[row] = np.where(self.final[before], 0, np.minimum(self.age[before] + 1, 3))
        self.final[row] = final
        self.added += 1

    def sample(self, batch_size: int, rng: np.random.Generator, device: torch.device) -> Batch:
        """Draws uniformly, with replacement, from the transitions that still have all their five frames."""
        size = min(self.added, self.rows)
        k, game = np.zeros((2, batch_size), np.int64)  # k: the place of the row, 0 for the oldest
        missing = np.ones(batch_size, np.bool_)
        while missing.any():
            k[missing] = rng.integers(size - 1, size=missing.sum())  # the newest row has no next_obs yet
            game[missing] = rng.integers(self.num_envs, size=missing.sum())
            row = (self.added - size + k) % self.rows
            missing = self.final[row, game] | (self.age[row, game] > k)  # its first frames were overwritten
        back = np.array([3, 2, 1, 0, -1])  # five frames: obs is the first four, next_obs the last four
        index = (row[:, None] - back) % self.rows * self.num_envs + game[:, None]  # (B, 5)
        before_start = back > self.age[row, game][:, None]
        index = np.where(before_start, self.rows * self.num_envs, index)  # the black frame
        others = (array[row, game] for array in (self.action, self.reward, self.terminated))
        numbers = torch.from_numpy(np.column_stack((index, *others)))  # (B, 8) int64: one copy to the GPU for all
        numbers = to_device(numbers, self.frames.device)
        frames = self.frames.index_select(0, numbers[:, :5].flatten()).view(batch_size, 5, 84, 84)
        frames, numbers = to_device(frames, device), to_device(numbers, device)
        return Batch(frames[:, :4], numbers[:, 5], numbers[:, 6].float(), frames[:, 1:], numbers[:, 7].bool())


def linear_schedule(start: float, end: float, duration: float, t: int) -> float:
    """The value after t steps: from `start` to `end` in `duration` steps, then constant."""
    return end if t >= duration else start + (end - start) * (t / duration)


def td_target(next_q: torch.Tensor, reward: torch.Tensor, terminated: torch.Tensor, gamma: float) -> torch.Tensor:
    """y = r + γ max_a' Q_target(s', a'), or r where s' is terminal. next_q is Q_target(s', ·), (B, num_actions)."""
    return reward + gamma * next_q.amax(dim=1).masked_fill(terminated, 0.0)  # (B,)


def compute_loss(q_network: QNetwork, target_network: QNetwork, batch: Batch, args: Args):
    """The mean loss over the batch, a scalar, and, for the log, Q(s, a) of the actions taken, (B,)."""
    with torch.no_grad():  # the target is a constant: no gradient flows through it
        next_q = target_network(batch.next_obs)  # (B, num_actions)
        y = td_target(next_q, batch.reward, batch.terminated, args.gamma)  # (B,)
    q = q_network(batch.obs)  # (B, num_actions)
    q_taken = q.gather(1, batch.action.unsqueeze(1)).squeeze(1)  # Q(s, a) of the action taken in each row: (B,)
    assert q_taken.shape == y.shape  # a (B,) and a (B, 1) would silently broadcast to (B, B)
    loss = F.mse_loss(q_taken, y) if args.loss == "mse" else F.huber_loss(q_taken, y)
    return loss, q_taken.detach()


@torch.no_grad()
def update_target(target_network: QNetwork, q_network: QNetwork, tau: float) -> None:
    """θ_target ← θ_target + τ (θ - θ_target), in place."""
    for target_parameter, parameter in zip(target_network.parameters(), q_network.parameters(), strict=True):
        target_parameter.lerp_(parameter, tau)


def life_lost(lives: np.ndarray, lives_before: np.ndarray) -> np.ndarray:
    """In which games a step lost a life and left another; with the last life the game itself ends."""
    return (lives > 0) & (lives < lives_before)


def train(args: Args) -> Path:
    """Trains and evaluates one agent. Returns its run folder. Raises Stop, to end the program with a sentence.

    The state of the emulators cannot be stored. So a checkpoint cuts off the running games as a time limit would: for
    the learner they are truncated, and their scores are not logged. New games begin, with seeds that follow from --seed
    and the step. A resumed run begins the same games, and on a CPU it continues equal to the bit.
    """
    run_dir, saved = args.resume, None
    if args.resume:
        args, saved = load_checkpoint(args)
    args = with_protocol(args)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)  # draws actions and batches
    device = torch.device("cuda" if args.cuda else "cpu")
    if args.cuda:
        torch.set_float32_matmul_precision("high")  # TF32, as convolutions have it by default
        torch._inductor.config.triton.cudagraphs = True  # for --compile: the CPU launches an update at once
    env, eval_env = make_env(args, args.num_envs), make_env(args, args.eval_episodes)
    place = place_replay(args, device)
    run_dir = run_dir or make_run_dir(args)
    protocol = print_protocol(args)
    num_frames, num_actions = env.single_observation_space.shape[0], int(env.single_action_space.n)

    with torch_threads(args.num_threads), closing(env), closing(eval_env):
        q_network = QNetwork(num_frames, num_actions, args).to(device)
        target_network = QNetwork(num_frames, num_actions, args).to(device)
        target_network.load_state_dict(q_network.state_dict())
        optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate, fused=True)  # fused: faster
        loss_function = compiled(compute_loss, args) if args.compile else compute_loss  # both: backward() fills .grad
        buffer = ReplayBuffer(args.buffer_size, args.num_envs, place)
        size = buffer.frames.nbytes / 2**30
        print(f"replay buffer: {args.buffer_size:,} steps, {size:.2f} GiB of frames on the {place.type}")
        exploration_steps = args.exploration_fraction * args.total_timesteps

        learners = {"q": q_network, "target": target_network, "optimizer": optimizer, "buffer": buffer}
        first_step, updates, best_return, best_step, seconds = 0, 0, -math.inf, 0, 0.0
        if saved:
            first_step, updates, best_return, best_step, seconds = saved["counters"]
            rng.bit_generator.state = saved["rng"]
            torch.set_rng_state(saved["torch_rng"])
            for name, learner in learners.items():
                learner.load_state_dict(saved["learners"][name])
        games_begin, start_time = first_step, time.time() - seconds

        def due(every: int) -> bool:
            """Whether the last step of all games reached or passed a multiple of `every` steps; never if that is 0."""
            return every > 0 and global_step // every > step_before // every

        with Run(args, run_dir, q_network) as run:
            for name in ("WANDB_RUN_ID", "WANDB_RESUME") if saved and saved.get("wandb_id") else ():
                del os.environ[name]  # a later run of this process is another one
            progress = tqdm(total=args.total_timesteps, initial=first_step, unit="step", disable=None)
            for step_before in range(first_step, args.total_timesteps, args.num_envs):
                global_step = step_before + args.num_envs
                if step_before == games_begin:  # at the start, and after each checkpoint
                    obs, info = env.reset(seed=game_seeds(args.num_envs, args.seed, step_before))
                    ended, lives = np.zeros(args.num_envs, np.bool_), info["lives"]
                    episodic_return, episodic_length = np.zeros((2, args.num_envs))

                # Act: in each game at random with probability ε, else greedily.
                epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, step_before)
                explore, action = rng.random(args.num_envs) < epsilon, rng.integers(num_actions, size=args.num_envs)
                if not explore.all():
                    action = np.where(explore, action, q_network.q_values(obs).argmax(axis=1))
                env.send(action)

                # Learn from earlier steps while the emulators work, as often per step as with one game.
                for step in range(max(step_before, args.learning_starts) + 1, global_step + 1):
                    if step % args.train_frequency == 0:
                        batch = buffer.sample(args.batch_size, rng, device)
                        loss, q_taken = loss_function(q_network, target_network, batch, args)
                        optimizer.zero_grad()
                        loss.backward()
                        if args.max_grad_norm < math.inf:
                            nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
                        optimizer.step()
                        updates += 1
                    if step % args.target_network_frequency == 0:
                        update_target(target_network, q_network, args.tau)

                # Store the step. If the game had ended before, the action was ignored and the next game has begun.
                next_obs, reward, terminated, truncated, info = env.recv()
                lost, lives = life_lost(info["lives"], lives) & args.terminal_on_life_loss, info["lives"]
                buffer.add(obs, action, reward, terminated | lost, final=ended)
                episodic_return += reward
                episodic_length += ~ended
                obs, ended = next_obs, terminated | truncated
                for i in np.flatnonzero(ended):
                    run.log({"charts/episodic_return": episodic_return[i]}, global_step)
                    run.log({"charts/episodic_length": episodic_length[i]}, global_step)
                    progress.set_postfix({"return": episodic_return[i], "ε": epsilon}, refresh=False)
                    episodic_return[i], episodic_length[i] = 0.0, 0

                # Report.
                progress.update(args.num_envs)
                if due(100) and updates > 0:
                    run.log({"losses/td_loss": loss.item(), "losses/q_values": q_taken.mean().item()}, global_step)
                    run.log({"charts/epsilon": epsilon, "charts/frames": global_step * args.frame_skip}, global_step)
                    run.log({"charts/SPS": global_step / (time.time() - start_time)}, global_step)
                last = global_step >= args.total_timesteps
                if due(args.eval_frequency) or last:
                    run.save("model.pt")  # if --save-model
                    video = run_dir / "videos" / f"step-{global_step}-episode-0.mp4" if args.capture_video else None
                    metrics, returns = evaluate(eval_env, q_network.q_values, args, video)
                    run.log(metrics, global_step)
                    progress.write(f"step {global_step:,}: {summary(metrics, returns)}")
                    if metrics["eval/episodic_return"] > best_return:
                        best_return, best_step = metrics["eval/episodic_return"], global_step
                        run.save("best_model.pt")
                    if args.stop_at_return is not None and metrics["eval/episodic_return"] >= args.stop_at_return:
                        break
                if due(args.checkpoint_frequency) and not last:
                    counters = global_step, updates, best_return, best_step, time.time() - start_time
                    games_begin = save_checkpoint(run, learners, rng, obs, counters)
            progress.close()
            best = {"best_return": best_return, "best_step": best_step, "updates": updates, "protocol": protocol}
            more = {"frames": global_step * args.frame_skip, "ale_py": ale_py.__version__}
            run.finish({**metrics, "returns": returns, **best, **more}, global_step, seconds=time.time() - start_time)
            (run_dir / "checkpoint.pt").unlink(missing_ok=True)
    return run_dir


def evaluate(env: gym.vector.VectorEnv, q_values: Callable, args: Args, video: Path | None = None):
    """Plays one whole game in each emulator, with ε = eval_epsilon. Returns metrics, and the raw score of each game.

    eval/q_predicted is the mean of max_a Q(s, a) over the visited states, eval/q_realised the mean of the discounted,
    clipped return that followed them, up to the loss of a life if that is terminal for the learner: predicted above
    realised is overestimation. If a time limit ended the game, the later rewards are unknown, and max_a Q of the last
    state replaces them. Then only the first half of the states is counted, where γ makes this estimate small.
    """
    num_games, num_actions = env.num_envs, int(env.single_action_space.n)
    rng = np.random.default_rng(1_000_000 + args.seed)
    obs, info = env.reset(seed=game_seeds(num_games, 1_000_000 + args.seed))  # the same starts every time
    running, lives = np.ones(num_games, np.bool_), info["lives"]
    max_q, steps, frames = [], [], []
    while running.any():
        q = q_values(obs)  # (num_games, num_actions)
        max_q.append(q.max(axis=1))
        explore, action = rng.random(num_games) < args.eval_epsilon, rng.integers(num_actions, size=num_games)
        if video and running[0]:
            frames.append(obs[0, -1].copy())  # a view would keep the observations of all games in memory
        obs, reward, terminated, truncated, info = env.step(np.where(explore, action, q.argmax(axis=1)))
        lost, lives = life_lost(info["lives"], lives) & args.terminal_on_life_loss, info["lives"]
        steps.append((running, reward, terminated | lost, truncated))
        running = running & ~(terminated | truncated)  # after its end a game continues with another: not counted
    max_q.append(q_values(obs).max(axis=1))

    running, reward, terminated, truncated = map(np.array, zip(*steps, strict=True))  # (steps, num_games) each
    return_from = np.zeros((len(steps) + 1, num_games))  # return_from[t]: the discounted return from step t to the end
    for t in reversed(range(len(steps))):
        rest = np.where(truncated[t], max_q[t + 1], return_from[t + 1])
        return_from[t] = np.clip(reward[t], -1, 1) + args.gamma * np.where(terminated[t], 0.0, rest)
    length, cut = running.sum(axis=0), (running & truncated).any(axis=0)  # (num_games,)
    counted = np.arange(len(steps))[:, None] < np.where(cut, (length + 1) // 2, length)
    returns = (reward * running).sum(axis=0, dtype=float).tolist()
    metrics = {
        "eval/episodic_return": float(np.mean(returns)),
        "eval/episodic_return_std": float(np.std(returns)),
        "eval/q_predicted": float(np.array(max_q[:-1])[counted].mean()),
        "eval/q_realised": float(return_from[:-1][counted].mean()),
    }
    if video:
        write_video(frames, 60 / args.frame_skip, video)
    return metrics, returns


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
    last_update = args.total_timesteps - args.total_timesteps % args.train_frequency
    for wrong, sentence in (
        (args.resume and args.evaluate, "--evaluate plays and --resume trains: give one of them"),
        (args.buffer_size < 8 * args.num_envs, "--buffer-size must be at least 8 times --num-envs"),
        (args.learning_starts < 4 * args.num_envs, "--learning-starts must be at least 4 times --num-envs"),
        (args.batch_size > args.buffer_size, "--batch-size is larger than --buffer-size"),
        (args.learning_starts >= last_update, "--learning-starts and --train-frequency leave no step for an update"),
        (args.cuda and not torch.cuda.is_available(), "--cuda needs a GPU and a PyTorch built for it"),
        (args.track and not find_spec("wandb"), "--track needs: pip install wandb"),
        (args.capture_video and not find_spec("moviepy"), "--capture-video needs: pip install moviepy"),
    ):
        if wrong:
            raise ValueError(sentence)


def with_protocol(args: Args) -> Args:
    """The arguments, with the protocol's values for the flags that were not given (None)."""
    parts = zip(PROTOCOL, PROTOCOLS[args.protocol], strict=True)
    return replace(args, **{name: value for name, value in parts if getattr(args, name) is None})


def print_protocol(args: Args) -> dict:
    """Prints and returns everything that scores depend on except the agent."""
    protocol = {name: getattr(args, name) for name in ("protocol", *PROTOCOL, "frame_skip", "max_frames")}
    print(f"{args.env_id}: {', '.join(f'{name} {value}' for name, value in protocol.items())}")
    return protocol


def game_name(env_id: str) -> str:
    """ALE/BeamRider-v5 or BeamRiderNoFrameskip-v4 -> beam_rider. Raises Stop if there is no such game."""
    try:
        from ale_py import roms
    except ImportError as error:
        raise Stop("Atari games need ale-py: pip install ale-py", 2) from error
    names = {}
    for name in roms.get_all_rom_ids():
        title = name.title().replace("_", "")
        names |= {f"ALE/{title}-v5": name, f"{title}NoFrameskip-v4": name}
    if env_id not in names:
        near = ", ".join(difflib.get_close_matches(env_id, names, cutoff=0))
        raise Stop(f"{env_id} is not an Atari game; nearest names: {near}", 2)
    return names[env_id]


def make_env(args: Args, num_envs: int) -> gym.vector.VectorEnv:
    """num_envs games with observations (num_envs, 4, 84, 84) uint8, the newest frame last; black before a game's start.

    The step after the end of a game ignores its action and returns the first observation of the next, with reward 0.
    """
    game = game_name(args.env_id)
    from ale_py.vector_env import AtariVectorEnv

    try:
        return AtariVectorEnv(
            game,
            num_envs,
            max_num_frames_per_episode=args.max_frames,
            repeat_action_probability=args.repeat_action_probability,
            frameskip=args.frame_skip,
            noop_max=args.noop_max,
            use_fire_reset=args.fire_reset,
            reward_clipping=False,  # the raw score is logged; the replay buffer clips
            episodic_life=False,  # it would begin a new game after every life
        )
    except (AssertionError, OSError, RuntimeError) as error:
        raise Stop(f"cannot make {args.env_id}: {error}", 2) from error


def game_seeds(num_envs: int, *key: int) -> np.ndarray:
    """Seeds of num_envs games, (num_envs,), different for every key."""
    return np.random.SeedSequence(key).generate_state(num_envs).astype(np.int64) % 2**31


def place_replay(args: Args, device: torch.device) -> torch.device:
    """The GPU if the replay buffer fits there, else the CPU. Raises Stop if it fits nowhere."""
    needed = args.buffer_size * (84 * 84 + 5) + 2**30  # with 1 GiB for networks, batches and the emulators
    gpu = torch.cuda.mem_get_info()[0] if device.type == "cuda" else 0
    cpu = psutil.virtual_memory().available
    if needed > (cpu if args.checkpoint_frequency else max(gpu, cpu)):  # a checkpoint passes through the CPU
        free = f"free are {cpu / 2**30:.1f} GiB on the CPU and {gpu / 2**30:.1f} GiB on the GPU"
        raise Stop(f"--buffer-size {args.buffer_size:,} needs {needed / 2**30:.1f} GiB of memory; {free}", 2)
    return device if gpu >= needed else torch.device("cpu")


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """PyTorch computes with this number of threads, and afterwards with the number before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    return f"return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} games, {values}"


def save_checkpoint(run: Run, learners: dict, rng: np.random.Generator, obs: np.ndarray, counters: tuple) -> int:
    """Cuts off the running games at obs, and writes all that train needs to continue. Returns the step."""
    learners["buffer"].add(obs, action=0, reward=0, terminated=False, final=True)
    run.writer.flush()
    content = {
        "args": json.dumps(asdict(run.args), default=str),
        "counters": counters,
        "rng": rng.bit_generator.state,
        "torch_rng": torch.get_rng_state(),
        "wandb_id": run.wandb.id if run.wandb else "",
        "learners": {name: learner.state_dict() for name, learner in learners.items()},
        "events": {path.name: path.stat().st_size for path in run.run_dir.glob("events.*")},
    }
    part = run.run_dir / "checkpoint.part"
    try:
        with part.open("wb") as file:
            torch.save(content, file)
            os.fsync(file.fileno())
    except RuntimeError as error:  # behind it torch.save hides the error of a full disk
        part.unlink()
        raise error.__context__ or error from None
    part.replace(run.run_dir / "checkpoint.pt")  # a process killed at any moment leaves a whole one
    return counters[0]


def load_checkpoint(args: Args) -> tuple[Args, dict]:
    """The arguments and the last checkpoint of the run in args.resume. Undoes later logs. Raises Stop."""
    run_dir = args.resume
    if replace(args, resume=None) != Args():
        raise Stop("--resume continues with the arguments of the run: give no others", 2)
    if (run_dir / "result.json").exists():
        raise Stop(f"{run_dir} is complete: there is nothing to resume", 2)
    try:
        stored = json.loads((run_dir / "args.json").read_text())
        # mmap: the arrays go from the file to their places, and are never twice in memory.
        saved = torch.load(run_dir / "checkpoint.pt", weights_only=True, map_location="cpu", mmap=True)
        own = json.loads(saved["args"])
    except Exception as error:  # the file may hold anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Stop(f"{run_dir} has no whole checkpoint ({reason:.80}): start anew, or remove the file", 2) from error
    for name, value in own.items():
        if value != stored.get(name):
            raise Stop(f"{run_dir}/checkpoint.pt is of another run, with {name} {value}, not {stored.get(name)}", 2)
    if saved.get("wandb_id"):  # W&B keeps what it has: steps after the checkpoint are there twice
        os.environ |= {"WANDB_RUN_ID": saved["wandb_id"], "WANDB_RESUME": "allow"}
    for path in run_dir.glob("events.*"):
        os.truncate(path, saved["events"].get(path.name, 0))
    (run_dir / "error.txt").unlink(missing_ok=True)  # it goes on
    return Args(**own), saved


def write_video(frames: list[np.ndarray], fps: float, path: Path) -> None:
    """Writes pictures (84, 84) uint8 as mp4, four times as large."""
    from moviepy import VideoClip  # takes half a second, so only where it is asked for

    def picture(seconds: float) -> np.ndarray:
        frame = frames[min(round(seconds * fps), len(frames) - 1)]
        return np.kron(frame[:, :, None], np.ones((4, 4, 3), np.uint8))

    path.parent.mkdir(exist_ok=True)
    VideoClip(picture, duration=len(frames) / fps).write_videofile(str(path), fps=fps, logger=None)


def play(args: Args) -> None:
    """Plays with stored weights. args.json gives env_id and the fields below it, the command line wins. Raises Stop."""
    path = args.evaluate / "model.pt" if args.evaluate.is_dir() else args.evaluate
    stored, names = path.with_name("args.json"), [field.name for field in fields(Args)]
    try:
        content = json.loads(stored.read_text()) if stored.exists() else {}
        kept = {name: content[name] for name in names[names.index("env_id") :] if name in content}
        protocol = dict(zip(PROTOCOL, PROTOCOLS[kept.get("protocol", args.protocol)], strict=True))
        # The protocol's own values are left out, so that another --protocol changes all of them.
        trained = replace(args, **{name: value for name, value in kept.items() if value != protocol.get(name)})
    except (ValueError, KeyError) as error:
        raise Stop(f"{stored} is not what a run writes: {error}", 2) from error
    args = with_protocol(tyro.cli(Args, default=trained))  # reads the command line again, over the stored flags
    with torch_threads(args.num_threads), closing(make_env(args, args.eval_episodes)) as env:
        q_network = QNetwork(env.single_observation_space.shape[0], int(env.single_action_space.n), args)
        try:
            if game_name(args.env_id) != game_name(trained.env_id):  # many games have equally many actions
                raise ValueError(f"the weights were trained on {trained.env_id}")
            q_network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        except Exception as error:  # the file may hold anything
            reason = " ".join(str(error).split())
            raise Stop(f"{path} does not hold weights for {args.env_id}: {reason:.300}", 2) from error
        print_protocol(args)
        q_network.to("cuda" if args.cuda else "cpu")
        video = path.parent / "videos" / "eval-episode-0.mp4" if args.capture_video else None
        print(f"{args.env_id}: {summary(*evaluate(env, q_network.q_values, args, video))}")


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    # Hides an OSError of TensorBoard's thread: the next add_scalar raises the same error in this thread.
    threading.excepthook = lambda error: issubclass(error.exc_type, OSError) or threading.__excepthook__(error)
    torch.set_flush_denormal(True)  # a CPU is slow with tiny numbers, which Adam's averages reach where gradients are 0
    args = tyro.cli(Args, description=__doc__)
    try:
        play(args) if args.evaluate else train(args)
    except (Stop, OSError, MemoryError) as error:
        sentence, code = error.args if isinstance(error, Stop) else (error, 1)
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
