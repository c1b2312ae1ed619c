"""Times of our scripts and of their peers on the same work, side by side in one run.

    python -m benchmark.speed
    python -m benchmark.speed --compile --train-frequencies 1
    python -m benchmark.speed --cleanrl ~/cleanrl --cleanrl-python ~/cleanrl/.venv/bin/python --jax
    python -m benchmark.speed --compile --before ~/qladder-as-it-was
    python -m benchmark.speed --what rungs
    python -m benchmark.speed --what replay
    python -m benchmark.speed --what fqi --tutorial ~/rlss23-dqn-tutorial
    python -m benchmark.speed --what harness
    python -m benchmark.speed --what atari --steps 5000 --skip 2000 --cleanrl FOLDER --cleanrl-python PYTHON
    python -m benchmark.speed --what atari-env
    python -m benchmark.speed --what atari-replay --replay-sizes 100000 1000000
    python -m benchmark.speed --what atari-parts --cuda --num-envs 1 8 16 32

**peers**: steps per second of dqn.py in steady state. The work is CleanRL's: CartPole-v1, network 120-84, batch 128,
Adam at 2.5e-4, mean squared error, no clipping, target copied every 500 steps, ε fixed at 0.05 so that nearly every
step needs the network. Every program runs in a process of its own with one thread, all on the same core (on Linux: a
log written by a thread on another core slows the first one down); they take turns, so that a machine that slows down
slows all of them; a time is that of the steps from `skip` to the end, after learning has started. CleanRL is not
installable as a package: give the folder of a checkout and a Python in which it runs, and its unchanged dqn.py takes
part, and with `--jax` its dqn_jax.py. With `--before`, the dqn.py of another checkout of this repository takes part.

**rungs**: the same work, done by all scripts that grew out of dqn.py. (drqn.py, whose batch is one of sequences, learns
from as many steps: 16 sequences of 8. qt_opt.py runs on Pendulum-v1, because its actions are continuous.)

**replay**: prioritized sampling of a batch of 32 and the update of its priorities, and one added transition, with
100,000 and a million transitions in the buffer: per_dqn.py, the same buffer with `numpy.random.choice(p=...)` in place
of the tree, and cpprb, which is written in C++ (`pip install cpprb`; it is left out where it is missing).

**fqi**: 50 iterations of fitted Q iteration with 30 nearest neighbours on the same 50,000 random transitions of
CartPole-v1, by fqi.py and by the unchanged functions of araffin's tutorial, from a checkout of
github.com/araffin/rlss23-dqn-tutorial. Ours has a model for each action, its default; there the action is a part of the
input. Evaluations are not timed.

**tabular**: steps of tabular_q.py on FrozenLake-v1, with its evaluations and its log, and of the bare environment with
random actions.

**harness**: eight runs of dqn.py, `steps` each, by `python -m benchmark run` with one worker and with two, and started
one after the other without it: the throughput of a second worker, and the seconds that the harness adds to a run.

**atari**: dqn_atari.py on Pong in steady state, with one game and with eight, and CleanRL's unchanged dqn_atari.py:
batch 32, one update every 4 steps, ε fixed at 0.05. Nothing is tied to a core, and each has its default threads. Both
learn on the CPU, or with `--cuda` on the GPU.

**atari-env**: the environment alone, random actions on Pong: what dqn_atari.py makes, against the wrappers of CleanRL's
dqn_atari.py (Stable-Baselines3's, from which CleanRL has them, and Gymnasium's, in a SyncVectorEnv of one).

**atari-replay**: resident memory of a transition and the time to draw 32, in dqn_atari.py and in a buffer that keeps
whole stacks, and next_obs as the row after it, as CleanRL's does. What does not fit in memory is left out.

**atari-parts**: what a step of dqn_atari.py is made of, each part by itself and waited for. In the script the games are
played while the network learns, and a GPU is not waited for after an update, so a step takes less than the sum.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
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
import fqi
import per_dqn
from benchmark.ladder import DQN_FAMILY
from benchmark.runs import ROOT, read_scalars, run_script


@dataclass
class Args:
    what: Literal[
        "peers", "rungs", "replay", "fqi", "tabular", "harness", "atari", "atari-env", "atari-replay", "atari-parts"
    ] = "peers"
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
    before: Path | None = None
    """folder of another checkout of this repository, whose dqn.py takes part"""
    cleanrl: Path | None = None
    """folder of a CleanRL checkout"""
    cleanrl_python: Path = Path(sys.executable)
    """Python with the packages that CleanRL pins"""
    jax: bool = False
    """time CleanRL's dqn_jax.py too"""
    tutorial: Path | None = None
    """folder of a checkout of araffin's tutorial"""
    replay_sizes: tuple[int, ...] = (100_000,)
    """transitions in the buffers of atari-replay"""
    num_envs: tuple[int, ...] = (1, 8)
    """games in parallel, of atari, atari-env and atari-parts"""
    cuda: bool = False
    """learn on the GPU, of atari and atari-parts"""


def ours(args: Args, train_frequency: int, script: str | Path = "dqn.py", compile: bool = False) -> float:
    """Microseconds a step of one of our scripts, from the clock of its TensorBoard events."""
    sequences = Path(script).name == "drqn.py"
    batch = {"batch_size": 16, "sequence_length": 8} if sequences else {"batch_size": 128}
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
            learning_rate=2.5e-4,
            target_network_frequency=500,
            tau=1.0,
            max_grad_norm="inf",
            eval_frequency=args.steps,
            eval_episodes=1,
            **batch,
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


def cleanrl(args: Args, train_frequency: int, script: str = "dqn.py") -> float:
    """Microseconds a step of CleanRL's dqn.py or dqn_jax.py, with one thread."""
    flags = f"--start-e 0.05 --learning-starts 1000 --train-frequency {train_frequency} --total-timesteps {args.steps}"
    xla = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return cleanrl_clocks(args, script, flags, os.environ | {"OMP_NUM_THREADS": "1", "XLA_FLAGS": xla})


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
    """The times that every program returns, `repeats` of each, taking turns."""
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
        if args.before:
            earlier = args.before.resolve() / "dqn.py"
            programs["before"] = partial(ours, args, script=earlier)
            if args.compile:
                programs["before --compile"] = partial(ours, args, script=earlier, compile=True)
        if args.cleanrl:
            programs["CleanRL"] = partial(cleanrl, args)
            if args.jax:
                programs["CleanRL dqn_jax.py"] = partial(cleanrl, args, script="dqn_jax.py")
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


def neighbors(args: Args) -> None:
    """Times fitted Q iteration with nearest neighbours."""
    if not args.tutorial:
        sys.exit("error: --what fqi needs --tutorial, the folder of a checkout of araffin's tutorial")
    sys.path.insert(0, str(args.tutorial))
    from dqn_tutorial.fqi import create_model_input, get_q_values
    from sklearn.neighbors import KNeighborsRegressor

    iterations, gamma, settings = 50, 0.99, fqi.Args()
    data = fqi.collect(settings, 50_000, 1.0, None, np.random.default_rng(1))
    learned = {}  # the last Q of each

    def ours() -> float:
        start = time.perf_counter()
        q = fqi.QFunction(fqi.make_regressor("k_neighbors", seed=1), 2, "per_action")
        next_q = np.zeros((len(data.reward), 2))
        for _ in range(iterations):
            q.fit(data, fqi.td_target(next_q, data.reward, data.terminated, gamma))
            next_q = q(data.next_obs)
        learned["fqi.py"] = q
        return (time.perf_counter() - start) / iterations * 1e6

    def theirs() -> float:  # the loop under their __main__, which cannot be imported
        start = time.perf_counter()
        x = create_model_input(data.obs, data.action[:, None])
        model = KNeighborsRegressor(n_neighbors=30).fit(x, data.reward)
        for _ in range(iterations - 1):
            next_q = get_q_values(model, data.next_obs, n_actions=2).max(axis=1)
            model = KNeighborsRegressor(n_neighbors=30).fit(x, data.reward + gamma * (1 - data.terminated) * next_q)
        learned["tutorial"] = lambda obs: get_q_values(model, obs, n_actions=2)
        return (time.perf_counter() - start) / iterations * 1e6

    title = "an iteration with 30 nearest neighbours, 50,000 transitions"
    report(in_turns({"fqi.py": ours, "tutorial": theirs}, args.repeats, title), title, ["fqi.py"])
    for name, q in learned.items():
        returns, _ = fqi.evaluate(settings, q, seed=1)
        print(f"  {name}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes")


def tabular(args: Args) -> None:
    """Times steps in a table against the environment alone."""
    steps = 300_000

    def bare() -> float:
        rng = np.random.default_rng(1)
        with closing(gym.make("FrozenLake-v1")) as env:
            env.reset(seed=1)
            start = time.perf_counter()
            for _ in range(steps):
                _, _, terminated, truncated, _ = env.step(int(rng.integers(4)))
                if terminated or truncated:
                    env.reset()
            return (time.perf_counter() - start) / steps * 1e6

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            run_dir = run_script("tabular_q.py", Path(folder), env_id="FrozenLake-v1", total_timesteps=steps)
            return 1e6 / json.loads((run_dir / "result.json").read_text())["sps"]

    title = "a step on FrozenLake-v1"
    report(in_turns({"tabular_q.py": ours, "environment alone": bare}, args.repeats, title), title, ["tabular_q.py"])


def harness(args: Args) -> None:
    """Times the harness: what a second worker gives, and what a run takes beyond its script."""
    runs = 8

    def with_workers(workers: int) -> float:
        command = [sys.executable, "-m", "benchmark", "run", "--scripts", "dqn.py", "--env-ids", "CartPole-v1"]
        command += ["--num-seeds", str(runs), "--workers", str(workers)]
        with tempfile.TemporaryDirectory() as folder:
            command += ["--runs-dir", folder, "--arguments", f"total_timesteps={args.steps}"]
            begin = time.perf_counter()
            subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            return time.perf_counter() - begin

    def without() -> float:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            for seed in range(1, runs + 1):
                run_script("dqn.py", Path(folder), env_id="CartPole-v1", seed=seed, total_timesteps=args.steps)
            return time.perf_counter() - begin

    programs = {"alone": without, "one": partial(with_workers, 1), "two": partial(with_workers, 2)}
    times = in_turns(programs, args.repeats, "harness")
    ratios = [one / two for one, two in zip(times["one"], times["two"], strict=True)]
    added = [(one - alone) / runs for one, alone in zip(times["one"], times["alone"], strict=True)]
    for name, values in times.items():
        print(f"  {name:6} {statistics.median(values):7.1f} s ({min(values):.1f}, {max(values):.1f})")
    print(
        f"two workers are {statistics.median(ratios):.2f} times as fast as one ({min(ratios):.2f}, {max(ratios):.2f})"
    )
    print(f"the harness adds {statistics.median(added):.2f} s to a run ({min(added):.2f}, {max(added):.2f})")


ATARI = {"learning_starts": 1_000, "start_e": 0.05, "end_e": 0.05, "buffer_size": 10_000}


def ours_atari(args: Args, num_envs: int) -> float:
    """Microseconds a step of dqn_atari.py, from the clock of its TensorBoard events."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ATARI | {"total_timesteps": args.steps, "num_envs": num_envs, "cuda": args.cuda}
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
    return cleanrl_clocks(args, "dqn_atari.py", f"{line} --{'' if args.cuda else 'no-'}cuda", dict(os.environ))


def atari(args: Args) -> None:
    """Times dqn_atari.py and CleanRL's."""
    programs = {f"dqn_atari.py, {n} game{'s' * (n > 1)}": partial(ours_atari, args, n) for n in args.num_envs}
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
    envs = {f"dqn_atari.py, {n} game{'s' * (n > 1)}": dqn_atari.make_env(ours, n) for n in args.num_envs}
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


def parts_of_a_step(env: gym.vector.VectorEnv, own: dqn_atari.Args, device: torch.device) -> dict:
    """{name: (call, steps that a call serves)} of dqn_atari.py, in the order in which they come."""
    n, rng = env.num_envs, np.random.default_rng(1)
    buffer = dqn_atari.ReplayBuffer(10_000, n, device)
    q_network, target_network = (dqn_atari.QNetwork(4, 6, own).to(device) for _ in range(2))
    optimizer = torch.optim.Adam(q_network.parameters(), lr=own.learning_rate, fused=True)
    (obs, _), zeros = env.reset(seed=1), np.zeros(n, np.int64)

    def write() -> None:
        buffer.add(obs, zeros, zeros, zeros, zeros)

    def update() -> None:
        optimizer.zero_grad()
        dqn_atari.backpropagate(q_network, target_network, batch, own)
        optimizer.step()

    for _ in range(10_000 // n):
        write()
    batch = buffer.sample(own.batch_size, rng, device)
    return {
        "acting, with both transfers": (lambda: q_network.q_values(obs), n),
        "of that the pictures' transfer": (lambda: dqn_atari.to_device(torch.from_numpy(obs), device), n),
        "games": (lambda: env.step(rng.integers(6, size=n)), n),
        "replay write": (write, n),
        "sampling": (lambda: buffer.sample(own.batch_size, rng, device), own.train_frequency),
        "update": (update, own.train_frequency),
    }


def atari_parts(args: Args) -> None:
    """Times the parts of a step."""
    own = dqn_atari.with_protocol(dqn_atari.Args(env_id="PongNoFrameskip-v4", cuda=args.cuda))
    device = torch.device("cuda" if args.cuda else "cpu")
    calls = max(args.steps // 20, 1)  # of each part; few, because an update takes tens of milliseconds on a CPU
    torch.set_num_threads(own.num_threads)
    wait = torch.cuda.synchronize if args.cuda else lambda: None
    for n in args.num_envs:
        print(
            f"\n{n} game{'s' * (n > 1)}, on the {device.type}: median microseconds of a call (min, max), and of a step"
        )
        with closing(dqn_atari.make_env(own, n)) as env:
            for name, (call, steps) in parts_of_a_step(env, own, device).items():

                def waited_for(call: Callable = call) -> None:
                    call()
                    wait()

                rows = {name: waited_for} | ({"until it is launched": call} if args.cuda else {})
                for what, timed in rows.items():
                    waited_for()
                    each = [median_time(timed, calls) for _ in range(args.repeats)]
                    took = statistics.median(each)
                    print(f"  {what:30} {took:9.1f} ({min(each):.1f}, {max(each):.1f}) {took / steps:9.1f}")


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    if args.cuda and not torch.cuda.is_available():
        sys.exit("error: --cuda needs a GPU and a PyTorch built for it; this one finds none")
    others = {"replay": replay, "fqi": neighbors, "tabular": tabular, "harness": harness}
    others |= {"atari": atari, "atari-env": atari_env, "atari-replay": atari_replay, "atari-parts": atari_parts}
    if hasattr(os, "sched_setaffinity") and args.what != "harness" and not args.what.startswith("atari"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    others.get(args.what, steps)(args)


if __name__ == "__main__":
    main()
