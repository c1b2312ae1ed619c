"""Steps per second in steady state, side by side with peers on the same work, in one run.

    python -m benchmark.speed
    python -m benchmark.speed --compile --train-frequencies 1
    python -m benchmark.speed --cleanrl ~/cleanrl --cleanrl-python ~/cleanrl/.venv/bin/python

The work is CleanRL's: CartPole-v1, network 120-84, batch 128, Adam at 2.5e-4, mean squared error, no clipping,
target copied every 500 steps, ε fixed at 0.05 so that nearly every step needs the network. Every program runs in a
process of its own with one thread, all on the same core (on Linux: a log written by a thread on another core slows the
first one down); they take turns, so that a machine that slows down slows all of them; a time is that of the steps
from `skip` to the end, after learning has started. CleanRL is not installable as a package: give
the folder of a checkout and a Python in which it runs, and its unchanged dqn.py takes part.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from benchmark.runs import read_scalars, run_script


@dataclass
class Args:
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


def ours(args: Args, train_frequency: int, compile: bool = False) -> float:
    """Microseconds a step of dqn.py, from the clock of its TensorBoard events."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = run_script(
            "dqn.py",
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
    """Microseconds a step of CleanRL's dqn.py, from the moments at which it prints its SPS, every 100 steps."""
    flags = f"--start-e 0.05 --learning-starts 1000 --train-frequency {train_frequency} --total-timesteps {args.steps}"
    command = [str(args.cleanrl_python), "-u", str(args.cleanrl / "cleanrl" / "dqn.py"), *flags.split()]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(args.cleanrl)}
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
        clocks = [time.perf_counter() for line in process.stdout if line.startswith("SPS")]  # steps 1100, 1200, ...
        if process.wait() != 0:
            raise subprocess.CalledProcessError(process.returncode, command)
    clocks = clocks[-(args.steps - args.skip) // 100 :]
    return (clocks[-1] - clocks[0]) / (len(clocks) - 1) / 100 * 1e6


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    programs = {"dqn.py": ours, "Stable-Baselines3": stable_baselines3}
    if args.compile:
        programs["dqn.py --compile"] = lambda args, train_frequency: ours(args, train_frequency, compile=True)
    if args.cleanrl:
        programs["CleanRL"] = cleanrl
    for train_frequency in args.train_frequencies:
        times = {name: [] for name in programs}
        for _ in tqdm(range(args.repeats), desc=f"train every {train_frequency}"):
            for name, program in programs.items():
                times[name].append(program(args, train_frequency))
        print(
            f"\none update every {train_frequency} steps: median microseconds a step of {args.repeats} runs (min, max)"
        )
        mine = [name for name in programs if name.startswith("dqn.py")]
        for name, values in times.items():
            line = f"  {name:20} {statistics.median(values):7.0f} ({min(values):.0f}, {max(values):.0f})"
            for own in mine if name not in mine else ():
                ratios = [peer / us for peer, us in zip(values, times[own], strict=True)]
                line += f"   {own} is {statistics.median(ratios):.2f} times as fast"
            print(line)


if __name__ == "__main__":
    main()
