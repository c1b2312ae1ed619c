"""Times of our scripts and of their peers on the same work, side by side in one run.

    python -m benchmark.speed
    python -m benchmark.speed --compile --train-frequencies 1
    python -m benchmark.speed --cleanrl ~/cleanrl --cleanrl-python ~/cleanrl/.venv/bin/python
    python -m benchmark.speed --what rungs
    python -m benchmark.speed --what replay
    python -m benchmark.speed --what atari --steps 5000 --skip 2000 --cleanrl FOLDER --cleanrl-python PYTHON
    python -m benchmark.speed --what atari-env
    python -m benchmark.speed --what atari-replay --replay-sizes 100000 1000000

**peers**: steps per second of dqn.py in steady state. The work is CleanRL's: CartPole-v1, network 120-84, batch 128,
Adam at 2.5e-4, mean squared error, no clipping, target copied every 500 steps, ε fixed at 0.05 so that nearly every
step needs the network. Every program runs in a process of its own with one thread, all on the same core (on Linux: a
log written by a thread on another core slows the first one down); they take turns, so that a machine that slows down
slows all of them; a time is that of the steps from `skip` to the end, after learning has started. CleanRL is not
installable as a package: give the folder of a checkout and a Python in which it runs, and its unchanged dqn.py takes
part.

**rungs**: the same work, done by all scripts that grew out of dqn.py.

**replay**: prioritized sampling of a batch of 32 and the update of its priorities, and one added transition, with
100,000 and a million transitions in the buffer: per_dqn.py, the same buffer with `numpy.random.choice(p=...)` in place
of the tree, and cpprb, which is written in C++ (`pip install cpprb`; it is left out where it is missing).

**atari**: dqn_atari.py on Pong in steady state, with one game and with eight, and CleanRL's unchanged dqn_atari.py:
batch 32, one update every 4 steps, ε fixed at 0.05. Nothing is tied to a core, and each has its default threads.

**atari-env**: the environment alone, random actions on Pong: what dqn_atari.py makes, against the wrappers of CleanRL's
dqn_atari.py (Stable-Baselines3's, from which CleanRL has them, and Gymnasium's, in a SyncVectorEnv of one).

**atari-replay**: resident memory of a transition and the time to draw 32, in dqn_atari.py and in a buffer that keeps
whole stacks, and next_obs as the row after it, as CleanRL's does. What does not fit in memory is left out.
"""

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from tqdm import tqdm

import dqn_atari
import per_dqn
from benchmark.ladder import DQN_FAMILY
from benchmark.runs import read_scalars, run_script


@dataclass
class Args:
    what: Literal["peers", "rungs", "replay", "atari", "atari-env", "atari-replay"] = "peers"
    """what to time"""
    train_frequencies: tuple[int, ...] = (10, 1)
    """environment steps between updates, one table for each"""
    repeats: int = 5
    """times each program runs"""
    steps: int = 12_000
    """environment steps of a run"""
    skip: int = 3_000
    """steps that are not timed; learning starts at 1,000"""
    compile: bool = False
    """time dqn.py --compile too"""
    cleanrl: Path | None = None
    """folder of a CleanRL checkout"""
    cleanrl_python: Path = Path(sys.executable)
    """Python with the packages that CleanRL pins"""
    replay_sizes: tuple[int, ...] = (100_000,)
    """transitions in the buffers of atari-replay"""


def ours(args: Args, train_frequency: int, script: str = "dqn.py", compile: bool = False) -> float:
    """Microseconds a step of one of our scripts, from the clock of its TensorBoard events."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = run_script(
            script,
            Path(folder),
            total_timesteps=args.steps,
            train_frequency=train_frequency,
            compile=compile,
            learning_starts=1_000,
            start_e=0.05,
            end_e=0.05,
            hidden_sizes=(120, 84),
            buffer_size=10_000,
            batch_size=128,
            learning_rate=2.5e-4,
            target_network_frequency=500,
            tau=1.0,
            loss="mse",
            max_grad_norm="inf",
            eval_frequency=args.steps,
            eval_episodes=1,
        )
        times = {step: clock for step, _, clock in read_scalars(run_dir)["losses/td_loss"]}
    return (times[args.steps] - times[args.skip]) / (args.steps - args.skip) * 1e6


def stable_baselines3(args: Args, train_frequency: int) -> float:
    """Microseconds a step of Stable-Baselines3's DQN, which always clips and always takes the Huber loss."""
    code = f"""
import time, gymnasium, torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
class Clock(BaseCallback):
    def _on_step(self):
        if self.num_timesteps in ({args.skip}, {args.steps}):
            print(time.perf_counter())
        return True
torch.set_num_threads(1)
model = DQN("MlpPolicy", gymnasium.make("CartPole-v1"), learning_rate=2.5e-4, buffer_size=10_000, batch_size=128,
            learning_starts=1_000, train_freq={train_frequency}, gradient_steps=1, target_update_interval=500,
            exploration_initial_eps=0.05, exploration_final_eps=0.05, policy_kwargs=dict(net_arch=[120, 84]),
            seed=1, device="cpu")
model.learn({args.steps}, callback=Clock())
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    begin, end = map(float, out.split())
    return (end - begin) / (args.steps - args.skip) * 1e6


def cleanrl(args: Args, train_frequency: int) -> float:
    """Microseconds a step of CleanRL's dqn.py."""
    flags = f"--start-e 0.05 --learning-starts 1000 --train-frequency {train_frequency} --total-timesteps {args.steps}"
    return cleanrl_clocks(args, "dqn.py", flags, os.environ | {"OMP_NUM_THREADS": "1"})


def cleanrl_clocks(args: Args, script: str, flags: str, env: dict[str, str]) -> float:
    """Microseconds a step of one of CleanRL's scripts, from the moments at which it prints its SPS, every 100 steps."""
    command = [str(args.cleanrl_python), "-u", str(args.cleanrl / "cleanrl" / script), *flags.split()]
    env = env | {"PYTHONPATH": str(args.cleanrl)}
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
        clocks = [time.perf_counter() for line in process.stdout if line.startswith("SPS")]  # steps 1100, 1200, ...
        if process.wait() != 0:
            raise subprocess.CalledProcessError(process.returncode, command)
    clocks = clocks[-(args.steps - args.skip) // 100 :]
    return (clocks[-1] - clocks[0]) / (len(clocks) - 1) / 100 * 1e6


def in_turns(programs: dict[str, Callable[[], float]], repeats: int, title: str) -> dict[str, list[float]]:
    """Microseconds of every program, `repeats` of each, taking turns."""
    times = {name: [] for name in programs}
    for _ in tqdm(range(repeats), desc=title):
        for name, program in programs.items():
            times[name].append(program())
    return times


def report(times: dict[str, list[float]], title: str, mine: list[str]) -> None:
    """Prints medians, and by how much `mine` are faster than the others: the median of the ratios of each turn."""
    print(f"\n{title}: median microseconds of {len(next(iter(times.values())))} runs (min, max)")
    for name, values in times.items():
        line = f"  {name:20} {statistics.median(values):7.1f} ({min(values):.1f}, {max(values):.1f})"
        for own in mine if name not in mine else ():
            ratios = [peer / us for peer, us in zip(values, times[own], strict=True)]
            line += f"   {own} is {statistics.median(ratios):.2f} times as fast"
        print(line)


def steps(args: Args) -> None:
    """Times whole scripts: peers or rungs."""
    if args.what == "rungs":
        programs = {script: partial(ours, args, script=script) for script in DQN_FAMILY}
    else:
        programs = {"dqn.py": partial(ours, args), "Stable-Baselines3": partial(stable_baselines3, args)}
        if args.compile:
            programs["dqn.py --compile"] = partial(ours, args, compile=True)
        if args.cleanrl:
            programs["CleanRL"] = partial(cleanrl, args)
    mine = [name for name in programs if name.startswith("dqn.py")]
    for every in args.train_frequencies:
        title = f"a step, one update every {every} steps"
        turns = {name: partial(program, train_frequency=every) for name, program in programs.items()}
        report(in_turns(turns, args.repeats, title), title, mine)


class ChoiceReplayBuffer(per_dqn.ReplayBuffer):
    """per_dqn.py's buffer, with the priorities in a plain array, drawn with numpy.random.choice."""

    class Tree:
        def __init__(self, capacity: int):
            self.values = np.zeros(capacity)

        def set_one(self, i, value):
            self.values[i] = value

        set = set_one

        def get(self, i):
            return self.values[i]

        def find(self, u):
            return np.random.choice(len(self.values), len(u), p=self.values / self.nodes[1])

        @property
        def nodes(self):
            return 0.0, self.values.sum()

    def __init__(self, capacity: int, *arguments):
        super().__init__(capacity, *arguments)
        self.tree = self.Tree(capacity)


class Cpprb:
    """The same three calls to cpprb's PrioritizedReplayBuffer."""

    def __init__(self, capacity: int, obs_dim: int, priority: str, alpha: float, eps: float):
        from cpprb import PrioritizedReplayBuffer

        vector = {"shape": obs_dim}
        fields = {"obs": vector, "action": {"dtype": np.int64}, "reward": {}, "next_obs": vector}
        fields["terminated"] = {"dtype": np.bool_}
        self.buffer = PrioritizedReplayBuffer(capacity, fields, alpha=alpha, eps=eps)

    def add(self, obs, action, reward, next_obs, terminated):
        self.buffer.add(obs=obs, action=action, reward=reward, next_obs=next_obs, terminated=terminated)

    def sample(self, batch_size, beta, rng, device):
        batch = self.buffer.sample(batch_size, beta)
        return batch, batch["indexes"]

    def update_priorities(self, i, td_error):
        self.buffer.update_priorities(i, td_error)


def median_time(call: Callable[[], None], times: int) -> float:
    """Median microseconds of a call."""
    clocks = [time.perf_counter()]
    for _ in range(times):
        call()
        clocks.append(time.perf_counter())
    return statistics.median(np.diff(clocks)) * 1e6


def full_buffer(kind: Callable, size: int, batch_size: int = 32, obs_dim: int = 4) -> tuple[Callable, Callable]:
    """Fills a buffer and returns two calls: one draws a batch and sets its priorities, one adds a transition."""
    rng = np.random.default_rng(1)
    buffer = kind(size, obs_dim, "proportional", 0.6, 1e-6)
    obs, errors = np.ones(obs_dim, np.float32), rng.exponential(size=batch_size).astype(np.float32)

    def draw() -> None:
        _, i = buffer.sample(batch_size, 0.4, rng, torch.device("cpu"))
        buffer.update_priorities(i, errors)

    def add() -> None:
        buffer.add(obs, 1, 1.0, obs, False)

    for _ in tqdm(range(size), desc=f"{kind.__module__}.{kind.__name__}: adding {size:,}"):
        add()
    return draw, add


def replay(args: Args) -> None:
    """Times prioritized replay alone."""
    kinds = {"per_dqn.py": (per_dqn.ReplayBuffer, 1_000), "numpy.random.choice": (ChoiceReplayBuffer, 30)}
    if importlib.util.find_spec("cpprb"):
        kinds["cpprb"] = Cpprb, 1_000
    else:
        print("cpprb is missing (pip install cpprb) and left out")
    for size in (100_000, 1_000_000):
        draws, adds = {}, {}
        for name, (kind, times) in kinds.items():
            draw, add = full_buffer(kind, size)
            draws[name], adds[name] = partial(median_time, draw, times), partial(median_time, add, 10_000)
        for calls, what in ((draws, "sample 32 and update their priorities"), (adds, "add one")):
            title = f"{what}, {size:,} transitions"
            report(in_turns(calls, args.repeats, title), title, ["per_dqn.py"])


ATARI = {"learning_starts": 1_000, "start_e": 0.05, "end_e": 0.05, "buffer_size": 10_000}


def ours_atari(args: Args, num_envs: int) -> float:
    """Microseconds a step of dqn_atari.py, from the clock of its TensorBoard events."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ATARI | {"total_timesteps": args.steps, "num_envs": num_envs, "cuda": False}
        # The evaluation comes behind what is timed: one short game.
        flags |= {"eval_frequency": args.steps, "eval_episodes": 1, "max_frames": 2_000, "compile": args.compile}
        run_dir = run_script("dqn_atari.py", Path(folder), env_id="PongNoFrameskip-v4", **flags)
        clocks = [(step, clock) for step, _, clock in read_scalars(run_dir)["losses/td_loss"] if step >= args.skip]
    (first, begin), *_, (last, end) = clocks
    return (end - begin) / (last - first) * 1e6


def cleanrl_atari(args: Args) -> float:
    """Microseconds a step of CleanRL's dqn_atari.py."""
    flags = ATARI | {"total-timesteps": args.steps, "env-id": "PongNoFrameskip-v4"}
    line = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in flags.items())
    return cleanrl_clocks(args, "dqn_atari.py", f"{line} --no-cuda", dict(os.environ))


def atari(args: Args) -> None:
    """Times dqn_atari.py and CleanRL's."""
    programs = {f"dqn_atari.py, {n} game{'s' * (n > 1)}": partial(ours_atari, args, n) for n in (1, 8)}
    mine = list(programs)
    if args.cleanrl:
        programs["CleanRL"] = partial(cleanrl_atari, args)
    title = "a step of DQN on Pong"
    report(in_turns(programs, args.repeats, title), title, mine)


def cleanrl_wrappers() -> gym.Env:
    """Pong as CleanRL's dqn_atari.py wraps it."""
    from stable_baselines3.common import atari_wrappers

    env = gym.make("ale_py:PongNoFrameskip-v4")
    env = gym.wrappers.RecordEpisodeStatistics(env)
    env = atari_wrappers.NoopResetEnv(env, noop_max=30)
    env = atari_wrappers.MaxAndSkipEnv(env, skip=4)
    env = atari_wrappers.EpisodicLifeEnv(env)
    env = atari_wrappers.FireResetEnv(env)
    env = atari_wrappers.ClipRewardEnv(env)
    env = gym.wrappers.ResizeObservation(env, (84, 84))
    env = gym.wrappers.GrayscaleObservation(env)
    return gym.wrappers.FrameStackObservation(env, 4)


def atari_env(args: Args) -> None:
    """Times the environment alone."""
    ours = dqn_atari.with_protocol(dqn_atari.Args(env_id="PongNoFrameskip-v4"))
    envs = {f"dqn_atari.py, {n} game{'s' * (n > 1)}": dqn_atari.make_env(ours, n) for n in (1, 8)}
    mine = list(envs)
    envs["CleanRL's wrappers"] = gym.vector.SyncVectorEnv([cleanrl_wrappers])

    def microseconds(env: gym.vector.VectorEnv) -> float:
        n, rng = env.num_envs, np.random.default_rng(1)
        env.reset(seed=1)
        begin = time.perf_counter()
        for _ in range(args.steps // n):
            env.step(rng.integers(6, size=n))
        return (time.perf_counter() - begin) / (args.steps // n * n) * 1e6

    title = "a step of Pong alone"
    report(in_turns({name: partial(microseconds, env) for name, env in envs.items()}, args.repeats, title), title, mine)


class StackBuffer:
    """A replay buffer with whole stacks; next_obs is the stack of the row after it."""

    def __init__(self, capacity: int):
        self.obs = np.zeros((capacity, 4, 84, 84), np.uint8)
        self.others = [np.zeros(capacity, dtype) for dtype in (np.int64, np.float32, np.float32)]
        self.capacity, self.added = capacity, 0

    def add(self, obs, action, reward, terminated, final):
        i = self.added % self.capacity
        for array, value in zip((self.obs, *self.others), (obs, action, reward, terminated), strict=True):
            array[i] = value[0]
        self.added += 1

    def sample(self, batch_size: int, rng: np.random.Generator, device: torch.device):
        i = rng.integers(self.capacity - 1, size=batch_size)
        arrays = self.obs[i], self.obs[i + 1], *(array[i] for array in self.others)
        return [torch.from_numpy(array).to(device) for array in arrays]


def atari_replay(args: Args) -> None:
    """Resident bytes of a transition, and the time to draw 32."""
    cpu, rng = torch.device("cpu"), np.random.default_rng(1)
    kinds = {
        "dqn_atari.py": (lambda size: dqn_atari.ReplayBuffer(size, 1, cpu), 7_100),
        "stacks": (StackBuffer, 28_300),
    }
    obs, zero = rng.integers(256, size=(1, 4, 84, 84), dtype=np.uint8), np.zeros(1, np.int64)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for size in args.replay_sizes:
        for name, (kind, each) in kinds.items():
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            if size * each > free:
                print(f"{name}: {size:,} transitions need {size * each / 2**30:.1f} GiB, {free / 2**30:.1f} are free")
                continue
            before, buffer = resident(), kind(size)
            for t in tqdm(range(size), desc=f"{name}: adding {size:,}"):
                buffer.add(obs, zero, zero, zero, np.array([t % 1_000 == 999]))
            memory = (resident() - before) / size
            times = [median_time(lambda buffer=buffer: buffer.sample(32, rng, cpu), 300) for _ in range(args.repeats)]
            line = f"{name}, {size:,} transitions: {memory:,.0f} bytes each, sampling 32 takes"
            print(f"{line} {statistics.median(times):.0f} µs ({min(times):.0f}, {max(times):.0f})")
            del buffer


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    others = {"replay": replay, "atari": atari, "atari-env": atari_env, "atari-replay": atari_replay}
    if hasattr(os, "sched_setaffinity") and not args.what.startswith("atari"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    others.get(args.what, steps)(args)


if __name__ == "__main__":
    main()
