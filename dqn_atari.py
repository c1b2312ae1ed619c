"""DQN on Atari: from pixels, with a convolutional network, a million frames in memory, on the GPU if there is one.

The algorithm is that of dqn.py: `td_target` and `backpropagate` are the same text. New is what pixels ask for:

- An action is repeated for four frames, and the agent sees the maximum of the last two, because the console draws some
  objects only in every other frame; grey, 84x84. Four such pictures in a row are one observation, so that movement
  can be seen. ale-py's AtariVectorEnv does all this in C++, for several games at once.
- Rewards are clipped to -1, 0 and 1 for learning, so that one learning rate suits all games. What is logged as
  return is the raw score of the whole game.
- The replay buffer keeps every picture once, and puts the stacks of four together when it draws them.

    y = r                               if s' is terminal
    y = r + γ max_a' Q_target(s', a')   otherwise

Mnih et al. (2015), "Human-level control through deep reinforcement learning", Nature 518. Scores depend on the
protocol as much as on the algorithm; the two common ones are `--protocol nature`, as in that paper and in CleanRL, and
`--protocol machado`, after Machado et al. (2018), "Revisiting the Arcade Learning Environment", as in Dopamine. A flag
such as `--noop-max 10` overrides that one part of the protocol.

A step is an action of the agent in one game, and so four frames. With several games, whatever is said in steps counts
those of all games: there are as many updates a step as with one. (The step that begins a game is counted too.)

    python dqn_atari.py --env-id ALE/Pong-v5
    python dqn_atari.py --env-id BreakoutNoFrameskip-v4 --num-envs 8 --checkpoint-frequency 250000
    python dqn_atari.py --resume runs/RUN
    python dqn_atari.py --evaluate runs/RUN --capture-video
"""

import difflib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_origin, get_type_hints

import gymnasium as gym
import numpy as np
import psutil
import torch
import torch.nn as nn
import torch.nn.functional as F
import tyro
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

Count = Annotated[int, 1, math.inf]  # types with their ranges
Whole = Annotated[int, 0, math.inf]
Share = Annotated[float, 0, 1]
PositiveShare = Annotated[float, 1e-12, 1]
Positive = Annotated[float, 1e-12, math.inf]
THREADS = min(4, torch.get_num_threads())  # one for each core, or OMP_NUM_THREADS, but at most 4


@dataclass
class Args:
    exp_name: str = Path(__file__).stem  # name of the experiment, a part of the run folder's name
    seed: Annotated[int, 0, 2**31] = 1  # seed of weights, exploration, replay and environment
    cuda: bool = torch.cuda.is_available()  # learn on the GPU (default: if there is one)
    compile: bool = False  # compute loss and gradient with torch.compile, for a GPU (on a CPU it gains nothing)
    num_threads: Count = THREADS  # CPU threads of PyTorch (default: one for each core, but at most 4)
    track: bool = False  # log to Weights & Biases too, not to TensorBoard alone
    wandb_project_name: str = "qladder"  # project in Weights & Biases
    wandb_entity: str | None = None  # team in Weights & Biases
    wandb_mode: Literal["online", "offline", "disabled"] | None = None  # offline: `wandb sync` later (None: WANDB_MODE)
    capture_video: bool = False  # record what the agent sees in the first game of every evaluation as mp4
    save_model: bool = False  # keep the last weights (model.pt), however the run ends, and the best (best_model.pt)
    checkpoint_frequency: Whole = 0  # steps between checkpoints, which cut off the games under way (0: none)
    resume: Path | None = None  # run folder to go on with, from its last checkpoint; takes no other flag
    evaluate: Path | None = None  # only play: a run's folder or weights, with the arguments in its args.json
    runs_dir: Path = Path("runs")  # where the run folder is made

    env_id: str = "BreakoutNoFrameskip-v4"  # Atari game, as ALE/Breakout-v5 or (the same here) BreakoutNoFrameskip-v4
    num_envs: Count = 1  # games played in parallel
    protocol: Literal["nature", "machado"] = "nature"  # that of scores; stands for the next four and eval-epsilon
    repeat_action_probability: Annotated[float | None, 0, 1] = None  # of "sticky" frames (nature 0, machado 0.25)
    terminal_on_life_loss: bool | None = None  # lost lives are terminal for the learner (nature True, machado False)
    noop_max: Annotated[int | None, 0, math.inf] = None  # a game begins with fewer idle frames (nature 30, machado 0)
    fire_reset: bool | None = None  # press fire as a game begins, not after a lost life (nature True, machado False)
    frame_skip: Count = 4  # frames for which an action is repeated
    max_frames: Count = 108_000  # games are truncated after so many frames (108,000: half an hour)
    total_timesteps: Count = 10_000_000  # steps to train for
    learning_rate: Positive = 1e-4  # step size of Adam
    buffer_size: Count = 1_000_000  # steps kept in the replay buffer, at least 8 a game
    gamma: Share = 0.99  # discount factor γ
    tau: PositiveShare = 1.0  # fraction of the way to the online network in a target update (1: a copy)
    target_network_frequency: Count = 1_000  # steps between target updates
    batch_size: Count = 32  # transitions in an update
    start_e: Share = 1.0  # ε, the probability of a random action, at the start
    end_e: Share = 0.01  # ε at the end
    exploration_fraction: PositiveShare = 0.10  # fraction of total-timesteps in which ε falls
    train_frequency: Count = 4  # steps between updates
    learning_starts: Count = 80_000  # steps before the first update, at least 4 a game
    loss: Literal["mse", "huber"] = "mse"  # loss of a TD error (huber: linear beyond 1)
    max_grad_norm: Positive = math.inf  # longer gradients are scaled down to this norm (inf: never)
    eval_frequency: Count = 250_000  # steps between evaluations
    eval_episodes: Count = 10  # games in an evaluation, played in parallel
    eval_epsilon: Annotated[float | None, 0, 1] = None  # ε in evaluations (default: nature 0.05, machado 0.001)


# What --protocol stands for, where a flag does not say otherwise.
PROTOCOLS = {
    "nature": {
        "repeat_action_probability": 0.0,
        "terminal_on_life_loss": True,
        "noop_max": 30,
        "fire_reset": True,
        "eval_epsilon": 0.05,
    },
    "machado": {
        "repeat_action_probability": 0.25,
        "terminal_on_life_loss": False,
        "noop_max": 0,
        "fire_reset": False,
        "eval_epsilon": 0.001,
    },
}


class QNetwork(nn.Sequential):
    """Q(s, ·) of a batch of observations: (B, 4, 84, 84) uint8 -> (B, num_actions). The network of the Nature paper."""

    def __init__(self, num_frames: int, num_actions: int, args: Args):
        super().__init__(
            nn.Conv2d(num_frames, 32, kernel_size=8, stride=4),  # -> (B, 32, 20, 20)
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),  # -> (B, 64, 9, 9)
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3),  # -> (B, 64, 7, 7)
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, 512),
            nn.ReLU(),
            nn.Linear(512, num_actions),
        )
        # With PyTorch's own, smaller initial weights a ball hardly shows in the output, and units die.
        # √2 makes up for the half that a ReLU cuts off. The last layer begins near 0: the largest of several random
        # outputs would be an optimistic first target.
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(layer.weight, gain=0.01 if layer is self[-1] else math.sqrt(2))
                nn.init.zeros_(layer.bias)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        x = obs.to(torch.float32, memory_format=torch.channels_last)  # the layout in which convolutions are fastest
        return super().forward(x.div_(255))  # pixels are scaled here and nowhere else; in place: fresh memory is slow

    @torch.inference_mode()
    def q_values(self, obs: np.ndarray) -> np.ndarray:
        """The same from NumPy to NumPy, without gradient."""
        device = next(self.parameters()).device
        return self(to_device(torch.from_numpy(obs), device)).cpu().numpy()


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device; on its way to a GPU the CPU does not wait for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if tensor.device.type != device.type else tensor


class Batch(NamedTuple):
    """B transitions. Not "done" but `terminated`: an episode cut off by a time limit would have gone on."""

    obs: torch.Tensor  # (B, 4, 84, 84) uint8
    action: torch.Tensor  # (B,) int64
    reward: torch.Tensor  # (B,) float32, clipped
    next_obs: torch.Tensor  # (B, 4, 84, 84) uint8
    terminated: torch.Tensor  # (B,) bool


class ReplayBuffer:
    """The last `capacity` steps of all games: a ring of rows, one row a step of all games, every frame stored once.

    A row holds the newest frame of the observation, the action taken there, and its reward. next_obs is found in the
    row after it. For that the final frame of a game has a row too, in which no action was taken: it is never drawn.
    """

    def __init__(self, capacity: int, num_envs: int, device: torch.device):
        self.rows, self.num_envs, self.added = capacity // num_envs, num_envs, 0
        shape = self.rows, num_envs
        # Row r of game g is frame r * num_envs + g. One more stays black: it stands for what was before a game's start.
        self.frames = torch.zeros((self.rows * num_envs + 1, 84, 84), dtype=torch.uint8, device=device)
        self.action = np.zeros(shape, np.uint8)
        self.reward = np.zeros(shape, np.int8)  # clipped
        self.terminated = np.zeros(shape, np.bool_)
        self.age = np.zeros(shape, np.uint8)  # steps since the game's start, 3 if there are more
        # The last row of a game; the row after it has age 0. True at first, because with the first row games begin.
        self.final = np.ones(shape, np.bool_)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that is stored, for checkpoints; no copies."""
        arrays = {name: getattr(self, name) for name in ("action", "reward", "terminated", "age", "final")}
        return {"frames": self.frames} | {name: torch.from_numpy(array) for name, array in arrays.items()}

    def add(self, obs, action, reward, terminated, final) -> None:
        """Copies in a row: obs (num_envs, 4, 84, 84), the rest (num_envs,). `final`: no action was taken in it."""
        row, before = self.added % self.rows, (self.added - 1) % self.rows
        first = row * self.num_envs
        self.frames[first : first + self.num_envs] = to_device(torch.from_numpy(obs[:, -1]), self.frames.device)
        self.action[row], self.reward[row], self.terminated[row] = action, np.clip(reward, -1, 1), terminated
        self.age[row] = np.where(self.final[before], 0, np.minimum(self.age[before] + 1, 3))
        self.final[row] = final
        self.added += 1

    def sample(self, batch_size: int, rng: np.random.Generator, device: torch.device) -> Batch:
        """Draws uniformly, with replacement, among the transitions of which all five frames are there."""
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
        numbers = torch.from_numpy(np.column_stack((index, *others)))  # (B, 8) int64: all in one copy to the GPU
        numbers = to_device(numbers, self.frames.device)
        frames = self.frames.index_select(0, numbers[:, :5].flatten()).view(batch_size, 5, 84, 84)
        frames, numbers = to_device(frames, device), to_device(numbers, device)
        return Batch(frames[:, :4], numbers[:, 5], numbers[:, 6].float(), frames[:, 1:], numbers[:, 7].bool())


def linear_schedule(start_e: float, end_e: float, duration: float, t: int) -> float:
    """The value after t environment steps: from start_e to end_e in `duration` steps, and constant from then on."""
    return start_e + (end_e - start_e) * min(t / duration, 1.0)


def td_target(next_q: torch.Tensor, reward: torch.Tensor, terminated: torch.Tensor, gamma: float) -> torch.Tensor:
    """y = r + γ max_a' Q_target(s', a'), or r where s' is terminal. next_q is Q_target(s', ·), (B, num_actions)."""
    return reward + gamma * next_q.amax(dim=1).masked_fill(terminated, 0.0)  # (B,), as reward and terminated are


def td_loss(q_taken: torch.Tensor, y: torch.Tensor, loss: str) -> torch.Tensor:
    """The loss of each transition, from Q(s, a) of the action taken and its target; all three (B,)."""
    assert q_taken.shape == y.shape  # (B,) against (B, 1) would silently broadcast to (B, B)
    elementwise = F.huber_loss if loss == "huber" else F.mse_loss
    return elementwise(q_taken, y, reduction="none")


def backpropagate(q_network: QNetwork, target_network: QNetwork, batch: Batch, args: Args):
    """Puts the gradient of the mean loss into the parameters' .grad; returns that loss () and Q(s, a) (B,)."""
    with torch.no_grad():  # the target counts as a constant
        next_q = target_network(batch.next_obs)  # (B, num_actions)
        y = td_target(next_q, batch.reward, batch.terminated, args.gamma)  # (B,)
    q = q_network(batch.obs)  # (B, num_actions)
    q_taken = q.gather(1, batch.action.unsqueeze(1)).squeeze(1)  # (B, num_actions) -> (B, 1) -> (B,)
    loss = td_loss(q_taken, y, args.loss).mean()
    loss.backward()
    return loss.detach(), q_taken.detach()


@torch.no_grad()
def update_target(target_network: QNetwork, q_network: QNetwork, tau: float) -> None:
    """θ_target ← τ θ + (1 - τ) θ_target, in place."""
    for target_parameter, parameter in zip(target_network.parameters(), q_network.parameters(), strict=True):
        target_parameter.lerp_(parameter, tau)


def life_lost(lives: np.ndarray, lives_before: np.ndarray) -> np.ndarray:
    """Of each game, whether a life was lost in a step and one is left; with the last one the game itself ends."""
    return (lives > 0) & (lives < lives_before)


def train(args: Args) -> Path:
    """Trains and evaluates one agent and returns its run folder. Raises BadInput, FloatingPointError, OSError.

    The state of the emulators cannot be stored. So every checkpoint cuts off the games under way, as a time limit would
    (for the learner they are truncated, their scores are not logged), and begins new ones, with seeds that follow from
    --seed and the step. A resumed run begins the same games, and on a CPU goes on equal to the bit.
    """
    run_dir, saved = Path(args.resume or ""), None
    if args.resume:
        args, saved = load_checkpoint(args)
    check(args)
    args = with_protocol(args)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    device = torch.device("cuda" if args.cuda else "cpu")
    if args.cuda:
        torch.set_float32_matmul_precision("high")  # TF32, as convolutions have it by default

    env = make_env(args, args.num_envs)
    num_frames, num_actions = env.single_observation_space.shape[0], int(env.single_action_space.n)
    place = place_replay(args, device)
    start = saved["counters"] if saved else (0, 0, -math.inf, 0, 0.0)
    first_step, updates, best_return, best_step, seconds = start
    run_dir = run_dir if saved else make_run_dir(args)
    protocol, exploration_steps = print_protocol(args), args.exploration_fraction * args.total_timesteps
    video_folder = run_dir / "videos" if args.capture_video else None
    with (
        closing(env),
        open_log(args, run_dir, first_step) as log,
        torch_threads(args.num_threads),
        ExitStack() as at_exit,
    ):
        buffer = ReplayBuffer(args.buffer_size, args.num_envs, place)
        size = buffer.frames.nbytes / 2**30
        print(f"replay buffer: {args.buffer_size:,} steps, {size:.2f} GiB of frames on the {place.type}")
        q_network = QNetwork(num_frames, num_actions, args).to(device)
        target_network = QNetwork(num_frames, num_actions, args).to(device)
        target_network.load_state_dict(q_network.state_dict())
        optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate, fused=True)
        compute_gradient = compiled(backpropagate, args.cuda) if args.compile else backpropagate

        learners = {"q_network": q_network, "target_network": target_network, "optimizer": optimizer}
        start_time = time.time() - seconds
        if saved:
            restore(saved, learners, buffer, rng)
            del saved  # and with it the file that is mapped
        at_exit.callback(save_weights, args, q_network, run_dir / "model.pt")
        games_begin = first_step

        def due(every: int) -> bool:
            return global_step // every > step_before // every

        progress = tqdm(total=args.total_timesteps, initial=first_step, unit="step", disable=None)
        for global_step in range(first_step + args.num_envs, args.total_timesteps + args.num_envs, args.num_envs):
            step_before = global_step - args.num_envs
            if step_before == games_begin:  # at the start, and behind every checkpoint
                obs, info = env.reset(seed=game_seeds(args.num_envs, args.seed, step_before))
                ended, lives = np.zeros(args.num_envs, np.bool_), info["lives"]
                episodic_return, episodic_length = np.zeros((2, args.num_envs))

            # Act: in each game at random with probability ε, else greedily.
            epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, step_before)
            explore, action = rng.random(args.num_envs) < epsilon, rng.integers(num_actions, size=args.num_envs)
            if not explore.all():
                action = np.where(explore, action, q_network.q_values(obs).argmax(axis=1))
            env.send(action)

            # Learn, while the emulators are at work: from what was stored before, as often as with one game.
            for step in range(max(step_before, args.learning_starts) + 1, global_step + 1):
                if step % args.train_frequency == 0:
                    batch = buffer.sample(args.batch_size, rng, device)
                    optimizer.zero_grad()
                    loss, q_taken = compute_gradient(q_network, target_network, batch, args)
                    if args.max_grad_norm < math.inf:
                        nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
                    optimizer.step()
                    updates += 1
                if step % args.target_network_frequency == 0:
                    update_target(target_network, q_network, args.tau)

            # Store the step. Where the game had ended before, the action was ignored, and a next game has begun.
            next_obs, reward, terminated, truncated, info = env.recv()
            lost, lives = life_lost(info["lives"], lives) & args.terminal_on_life_loss, info["lives"]
            buffer.add(obs, action, reward, terminated | lost, final=ended)
            episodic_return += reward
            episodic_length += ~ended
            obs, ended = next_obs, terminated | truncated
            for i in np.flatnonzero(ended):
                score, length = episodic_return[i], episodic_length[i]
                log({"charts/episodic_return": score, "charts/episodic_length": length}, global_step)
                progress.set_postfix({"return": score, "ε": epsilon}, refresh=False)
                episodic_return[i], episodic_length[i] = 0.0, 0.0

            # Report.
            progress.update(args.num_envs)
            if due(100) and updates > 0:
                losses = {"losses/td_loss": loss.item(), "losses/q_values": q_taken.mean().item()}
                sps = global_step / (time.time() - start_time)
                charts = {"charts/epsilon": epsilon, "charts/frames": global_step * args.frame_skip, "charts/SPS": sps}
                log({**losses, **charts}, global_step)
            if due(args.eval_frequency) or global_step >= args.total_timesteps:
                save_weights(args, q_network, run_dir / "model.pt")
                returns, metrics = evaluate(args, q_network.q_values, video_folder, f"step-{global_step}")
                log(metrics, global_step)
                line = "step {:,}: return {:.1f} ± {:.1f}, Q predicted {:.2f}, realised {:.2f}"
                progress.write(line.format(global_step, *metrics.values()))
                if metrics["eval/episodic_return"] > best_return:
                    best_return, best_step = metrics["eval/episodic_return"], global_step
                    save_weights(args, q_network, run_dir / "best_model.pt")

            # Checkpoint: the observation at hand becomes the final one of its game, and new games begin.
            if args.checkpoint_frequency and due(args.checkpoint_frequency) and global_step < args.total_timesteps:
                nothing = np.zeros(args.num_envs)
                buffer.add(obs, nothing, nothing, nothing, final=True)
                counters = global_step, updates, best_return, best_step, time.time() - start_time
                save_checkpoint(run_dir, args, learners, buffer, rng, counters)
                games_begin = global_step
        progress.close()
        best = {"best_return": best_return, "best_step": best_step, "protocol": protocol}
        result = {**metrics, "returns": returns, **best, "global_step": global_step, "updates": updates}
        more = {"frames": global_step * args.frame_skip, "ale_py": importlib.metadata.version("ale_py")}
        write_result(args, run_dir, {**result, **more}, seconds=time.time() - start_time)
        (run_dir / "checkpoint.pt").unlink(missing_ok=True)
    return run_dir


def evaluate(args: Args, q_values: Callable, video_folder: Path | None = None, video_name: str = "eval"):
    """Plays eval_episodes whole games in parallel with ε = eval_epsilon, from the same starts every time.

    Returns the list of raw scores, and the metrics. eval/q_predicted is the mean of max_a Q(s, a) over visited states
    s, eval/q_realised that of the discounted, clipped return that followed, up to the loss of a life if that is
    terminal for the learner: predicted above realised is overestimation. A truncated game would have gone on, so its
    unseen tail counts as γ^n max_a Q(last obs, a), and only the first half of its states counts at all.
    """
    num_games, rng = args.eval_episodes, np.random.default_rng(args.seed + 1_000_000)
    steps, max_q, video = [], [], []  # steps: what the loops below need of each
    with closing(make_env(args, num_games)) as env:
        num_actions = int(env.single_action_space.n)
        obs, info = env.reset(seed=game_seeds(num_games, args.seed + 1_000_000))
        running, lives = np.ones(num_games, np.bool_), info["lives"]
        while running.any():
            q = q_values(obs)  # (num_games, num_actions)
            explore, action = rng.random(num_games) < args.eval_epsilon, rng.integers(num_actions, size=num_games)
            if video_folder and running[0]:
                video.append(obs[0, -1].copy())  # a view would keep all games' pictures in memory
            obs, reward, terminated, truncated, info = env.step(np.where(explore, action, q.argmax(axis=1)))
            lost, lives = life_lost(info["lives"], lives) & args.terminal_on_life_loss, info["lives"]
            max_q.append(q.max(axis=1))
            steps.append((running, reward, terminated | lost, truncated))
            running = running & ~(terminated | truncated)  # a game that has ended goes on with a next one: not counted
        max_q.append(q_values(obs).max(axis=1))

    running, reward, terminated, truncated = map(np.array, zip(*steps, strict=True))  # (steps, num_games) each
    discounted = np.zeros((len(steps) + 1, num_games))
    for t in reversed(range(len(steps))):
        after = np.where(truncated[t], max_q[t + 1], discounted[t + 1])
        discounted[t] = np.clip(reward[t], -1, 1) + args.gamma * np.where(terminated[t], 0.0, after)
    length, cut = running.sum(axis=0), (running & truncated).any(axis=0)  # (num_games,)
    counted = np.arange(len(steps))[:, None] < np.where(cut, (length + 1) // 2, length)
    returns = (reward * running).sum(axis=0, dtype=float).tolist()
    if video_folder:
        write_video(video, 60 / args.frame_skip, video_folder / f"{video_name}-episode-0.mp4")
    predicted, realised = np.array(max_q[:-1])[counted], discounted[:-1][counted]
    return returns, {
        "eval/episodic_return": float(np.mean(returns)),
        "eval/episodic_return_std": float(np.std(returns)),
        "eval/q_predicted": float(predicted.mean()),
        "eval/q_realised": float(realised.mean()),
    }


# From here on: arguments, environments, files, the command line. Nothing of it is particular to the algorithm.


class BadInput(ValueError):
    """What was asked for cannot be done; the message is one sentence for the user."""


def check(args: Args) -> None:
    """Raises BadInput for the first argument out of its range. Takes 1e5 for a whole number too."""
    latest = args.total_timesteps - args.total_timesteps % max(args.train_frequency, 1) - 1  # before the last update
    lower = {"buffer_size": 8 * args.num_envs, "learning_starts": 4 * args.num_envs}
    upper = {"batch_size": args.buffer_size, "train_frequency": args.total_timesteps, "learning_starts": latest}
    for name, hint in get_type_hints(Args, include_extras=True).items():
        if get_origin(hint) is Annotated and (value := getattr(args, name)) is not None:
            least, most = lower.get(name, hint.__metadata__[0]), upper.get(name, hint.__metadata__[1])
            if not least <= value <= most:
                raise BadInput(f"--{name.replace('_', '-')} must be between {least} and {most}, not {value}")
            setattr(args, name, int(value) if hint.__origin__ in (int, int | None) else value)
    if args.cuda and not torch.cuda.is_available():
        raise BadInput("--cuda needs a GPU and a PyTorch built for it; this one finds none")
    for wanted, package in ((args.track, "wandb"), (args.capture_video, "moviepy")):
        if wanted and not importlib.util.find_spec(package):
            raise BadInput(f"{package} is missing: pip install {package}")


def with_protocol(args: Args) -> Args:
    """The arguments with what was left open (None) as the protocol has it."""
    parts = PROTOCOLS[args.protocol].items()
    return replace(args, **{name: value for name, value in parts if getattr(args, name) is None})


def print_protocol(args: Args) -> dict:
    """Prints and returns all that scores depend on besides the agent."""
    protocol = {name: getattr(args, name) for name in ("protocol", *PROTOCOLS["nature"], "frame_skip", "max_frames")}
    print(f"{args.env_id}: {', '.join(f'{name} {value}' for name, value in protocol.items())}")
    return protocol


def game_name(env_id: str) -> str:
    """ALE/BeamRider-v5 or BeamRiderNoFrameskip-v4 -> beam_rider. Raises BadInput if there is no such game."""
    try:
        from ale_py import roms
    except ImportError as error:
        raise BadInput("Atari games need ale-py: pip install ale-py") from error
    names = {}
    for name in roms.get_all_rom_ids():
        title = name.title().replace("_", "")
        names |= {f"ALE/{title}-v5": name, f"{title}NoFrameskip-v4": name}
    if env_id not in names:
        near = difflib.get_close_matches(env_id, names)
        hint = f"; nearest names: {', '.join(near)}" if near else ", whose names are such as ALE/Pong-v5"
        raise BadInput(f"{env_id} is not an Atari game{hint}")
    return names[env_id]


def make_env(args: Args, num_envs: int) -> gym.vector.VectorEnv:
    """num_envs games with observations (num_envs, 4, 84, 84) uint8, the newest frame last; black before a game's start.

    The step after a game's end ignores its action and returns the first observation of the next game, with reward 0.
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
            reward_clipping=False,  # for the raw score; the learner clips by itself
            episodic_life=False,  # it would begin a new game after every life
        )
    except (AssertionError, OSError, RuntimeError) as error:
        raise BadInput(f"cannot make {args.env_id}: {error}") from error


def game_seeds(num_envs: int, *key: int) -> np.ndarray:
    """Seeds of num_envs games (num_envs,), others for every key."""
    return np.random.SeedSequence(key).generate_state(num_envs).astype(np.int64) % 2**31


def place_replay(args: Args, device: torch.device) -> torch.device:
    """Where the replay buffer goes: on the device if it fits there, else on the CPU. Raises BadInput if it does not."""
    needed, spare = args.buffer_size * (84 * 84 + 5), 2**30  # spare: for networks, batches and the emulators
    free = {"cuda": torch.cuda.mem_get_info()[0]} if device.type == "cuda" else {}
    free["cpu"] = psutil.virtual_memory().available
    through_cpu = ["cpu"] if args.checkpoint_frequency else []  # a checkpoint's way to the disk
    fits = [name for name in free if all(needed + spare <= free[place] for place in (name, *through_cpu))]
    if not fits:
        found = ", ".join(f"{size / 2**30:.1f} GiB free on the {name}" for name, size in free.items())
        size = f"{needed / 2**30:.1f} GiB and 1 GiB to spare"
        raise BadInput(f"a --buffer-size of {args.buffer_size:,} needs {size}; {found}")
    return torch.device(fits[0])


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """So many threads, and tiny numbers as 0; afterwards all is as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    torch.set_flush_denormal(True)  # Adam's moments of idle units shrink into numbers that a CPU is slow with
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


def compiled(function: Callable, cuda: bool) -> Callable:
    """The function, with its backward pass, as one graph by torch.compile."""
    torch.compiler.reset()  # forgets other runs of this process, which without guards would be taken for this one
    torch._dynamo.config.trace_autograd_ops = True  # loss.backward() too goes into the graph
    # No guards: within a run nothing changes that they look at, and an exception such as Ctrl-C gets lost in them.
    options = {"cpp_wrapper": not cuda, "guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    return torch.compile(function, fullgraph=True, options={**options, "triton.cudagraphs": cuda})


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
def open_log(args: Args, run_dir: Path, first_step: int) -> Iterator[Callable]:
    """Yields log(metrics, global_step). What was logged is on disk however the run ends."""
    run = start_wandb(args, run_dir.name) if args.track else None
    with open(run_dir / f"events.out.tfevents.{time.time_ns()}", "wb") as file:
        writer = RecordWriter(file)  # what is below SummaryWriter, which takes four times as long, and a thread

        def write(**content) -> None:
            writer.write(Event(wall_time=time.time(), **content).SerializeToString())
            writer.flush()

        def log(metrics: dict[str, float], global_step: int) -> None:
            values = [{"tag": name, "simple_value": value} for name, value in metrics.items()]
            write(step=global_step, summary={"value": values})
            if run:
                run.log({**metrics, "global_step": global_step})
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise FloatingPointError(f"{name} is {value} at step {global_step:,} (lower --learning-rate?)")

        try:
            write(file_version="brain.Event:2")  # by which TensorBoard knows its files
            # TensorBoard drops what the process that ended had logged behind the checkpoint where this one goes on.
            write(step=first_step + 1, session_log=SessionLog(status=SessionLog.START))
            yield log
        finally:
            if run:
                for path in sorted(run_dir.glob("videos/*.mp4")):
                    run.log({f"videos/{path.stem}": sys.modules["wandb"].Video(str(path))})
                run.finish(exit_code=0 if (run_dir / "result.json").exists() else 1)


def save(content, path: Path) -> None:
    """torch.save: a process killed at any moment leaves the old file or the new one, whole. Raises OSError."""
    part = path.with_suffix(".part")
    try:
        with open(part, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:  # behind it torch hides the OSError of a full disk
        part.unlink()
        raise error.__context__ or error from None
    os.replace(part, path)


def save_checkpoint(run_dir: Path, args: Args, learners: dict, buffer: ReplayBuffer, rng, counters: tuple) -> None:
    """Writes checkpoint.pt: all that train() needs in order to go on."""
    content = {
        "args": json.dumps(asdict(args), default=str),
        "learners": {name: learner.state_dict() for name, learner in learners.items()},
        "replay": buffer.tensors(),
        "rng": rng.bit_generator.state,
        "torch_rng": torch.get_rng_state(),
        "counters": counters,
        "added": buffer.added,
    }
    save(content, run_dir / "checkpoint.pt")


def load_checkpoint(args: Args) -> tuple[Args, dict]:
    """The arguments and the last checkpoint of the run in the folder args.resume. Raises BadInput."""
    run_dir = Path(args.resume)
    if replace(args, resume=None) != Args():
        raise BadInput("--resume goes on with the arguments of the run: give no others")
    if (run_dir / "result.json").exists():
        raise BadInput(f"{run_dir} is complete: there is nothing to resume")
    try:
        stored = json.loads((run_dir / "args.json").read_text())
        # Mapped, not read: what it holds goes straight to where it belongs, and is in memory but once.
        saved = torch.load(run_dir / "checkpoint.pt", weights_only=True, map_location="cpu", mmap=True)
        own = json.loads(saved["args"])
    except Exception as error:  # reading a file that is cut short or holds something else can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"{run_dir} has no whole checkpoint ({reason:.200})") from error
    for name, value in own.items():
        if value != stored.get(name):
            raise BadInput(f"{run_dir}/checkpoint.pt is of another run, with {name} {value}, not {stored.get(name)}")
    return Args(**{**own, "runs_dir": Path(own["runs_dir"])}), saved


def restore(saved: dict, learners: dict, buffer: ReplayBuffer, rng: np.random.Generator) -> None:
    """Puts a checkpoint's content, but for the counters, where it belongs."""
    for name, learner in learners.items():
        learner.load_state_dict(saved["learners"][name])
    for name, tensor in buffer.tensors().items():
        tensor.copy_(saved["replay"][name])
    rng.bit_generator.state = saved["rng"]
    torch.set_rng_state(saved["torch_rng"])
    buffer.added = saved["added"]


def write_video(frames: list[np.ndarray], fps: float, path: Path) -> None:
    """Writes pictures (84, 84) uint8 as mp4, four times as large."""
    from moviepy import VideoClip  # only --capture-video needs it

    def picture(seconds: float) -> np.ndarray:
        frame = frames[min(round(seconds * fps), len(frames) - 1)]
        return np.kron(frame, np.ones((4, 4), np.uint8))[:, :, None].repeat(3, axis=2)

    path.parent.mkdir(exist_ok=True)
    VideoClip(picture, duration=len(frames) / fps).write_videofile(str(path), fps=fps, logger=None)


def write_result(args: Args, run_dir: Path, result: dict, seconds: float) -> None:
    """Writes result.json, last and at once, because a run that has it is complete; says how it went."""
    steps, returns, speed = result["global_step"], result["returns"], result["global_step"] / seconds
    (run_dir / "result.part").write_text(json.dumps({**result, "seconds": seconds, "sps": speed}, indent=2))
    os.replace(run_dir / "result.part", run_dir / "result.json")
    score = f"return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} games"
    trained = f"trained {steps:,} steps in {seconds:.0f} s ({speed:,.0f} steps/s)"
    print(f"{args.env_id}: {score}, {trained}, see {run_dir}")


def save_weights(args: Args, network: nn.Module, path: Path) -> None:
    """With --save-model writes a state_dict, in place of an older one only if whole and finite. Raises OSError."""
    if args.save_model and all(parameter.isfinite().all() for parameter in network.parameters()):
        save(network.state_dict(), path)


def as_trained(args: Args) -> Args:
    """The arguments with env_id and all below it as in the args.json beside the weights, where there is one.

    What the protocol says is left to the protocol, so that another --protocol is that in all its parts.
    """
    path = Path(args.evaluate)
    stored = path / "args.json" if path.is_dir() else path.with_name("args.json")
    try:
        content = json.loads(stored.read_text()) if stored.exists() else {}
    except ValueError as error:
        raise BadInput(f"{stored} is not what a run writes: {error}") from error
    names = [field.name for field in fields(Args)]
    kept = {name: content[name] for name in names[names.index("env_id") :] if name in content}
    protocol = PROTOCOLS[kept.get("protocol", args.protocol)]
    return replace(args, **{name: value for name, value in kept.items() if value != protocol.get(name)})


def play(args: Args) -> None:
    """Loads the weights at args.evaluate, plays and prints the return. Raises BadInput if they do not fit."""
    if args.resume:
        raise BadInput("--evaluate plays and --resume trains: give one of them")
    check(args)
    path, trained_on = Path(args.evaluate), as_trained(args).env_id  # many games have equally many actions
    path, args = path / "model.pt" if path.is_dir() else path, with_protocol(args)
    if game_name(trained_on) != game_name(args.env_id):
        raise BadInput(f"{path} does not hold weights for {args.env_id}: they were trained on {trained_on}")
    with closing(make_env(args, 1)) as env:
        q_network = QNetwork(env.single_observation_space.shape[0], int(env.single_action_space.n), args)
    try:
        q_network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    except Exception as error:  # reading a file that holds something else can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"{path} does not hold weights for {args.env_id} ({reason:.200})") from error
    print_protocol(args)
    q_values = q_network.to("cuda" if args.cuda else "cpu").q_values
    returns, _ = evaluate(args, q_values, path.parent / "videos" if args.capture_video else None)
    print(f"{args.env_id}: return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} games")


def main() -> None:
    """The command line. Exit code 2: bad input; 1: the run failed; 130: Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args = tyro.cli(Args, description=__doc__)
    try:
        # Flags that are given win over those of the run that is played again.
        play(tyro.cli(Args, default=as_trained(args))) if args.evaluate else train(args)
    except (BadInput, FloatingPointError, MemoryError, OSError, KeyboardInterrupt) as error:
        print(f"error: {error}" if str(error) else "interrupted", file=sys.stderr)
        sys.exit({BadInput: 2, KeyboardInterrupt: 130}.get(type(error), 1))


if __name__ == "__main__":
    main()
