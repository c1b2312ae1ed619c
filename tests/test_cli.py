"""The command line as a user meets it: one sentence for bad input, and nothing lost when a run ends early."""

import importlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
import wandb
from conftest import ROOT, scalars, train
from gymnasium.envs.classic_control import CartPoleEnv

import dqn
from tools.ladder import DQN_FAMILY, HERE

EVALUATED = "--eval-episodes 2 --final-eval-episodes 2"
SMALL = f"--total-timesteps 400 --learning-starts 200 --batch-size 16 --hidden-sizes 16 {EVALUATED}".split()


@pytest.fixture
def main(call_main):
    """main("--flag value ...") -> (exit code, stdout, stderr) of dqn.py, run in an empty folder."""
    return partial(call_main, dqn)


POSITIVE, FRACTION = "Input should be greater than 0", "Input should be less than or equal to 1"
NO_UPDATE = "--learning-starts and --train-frequency leave no step for an update"
BAD_FLAGS = {
    "--batch-size 20000 --buffer-size 10000": "--batch-size is larger than --buffer-size",
    "--total-timesteps 500 --learning-starts 500": NO_UPDATE,
    "--total-timesteps 103 --learning-starts 100 --train-frequency 10": NO_UPDATE,
    "--total-timesteps 100 --learning-starts 10 --train-frequency 101": NO_UPDATE,
    "--total-timesteps 0": f"--total-timesteps: {POSITIVE}",
    "--learning-rate 0": f"--learning-rate: {POSITIVE}",
    "--learning-rate nan": f"--learning-rate: {POSITIVE}",
    "--learning-rate -0.1": f"--learning-rate: {POSITIVE}",
    "--gamma 1.5": f"--gamma: {FRACTION}",
    "--tau 0": "--tau: Input should be greater than 0",
    "--tau 1.5": f"--tau: {FRACTION}",
    "--buffer-size -1 --batch-size 1": f"--buffer-size: {POSITIVE}",
    "--batch-size 0": f"--batch-size: {POSITIVE}",
    "--train-frequency 0": f"--train-frequency: {POSITIVE}",
    "--target-network-frequency 0": f"--target-network-frequency: {POSITIVE}",
    "--start-e 2": f"--start-e: {FRACTION}",
    "--end-e -0.1": "--end-e: Input should be greater than or equal to 0",
    "--exploration-fraction 1.1": f"--exploration-fraction: {FRACTION}",
    "--learning-starts -1": "--learning-starts: Input should be greater than or equal to 0",
    "--max-grad-norm 0": f"--max-grad-norm: {POSITIVE}",
    "--eval-frequency 0": f"--eval-frequency: {POSITIVE}",
    "--eval-episodes 0": f"--eval-episodes: {POSITIVE}",
    "--final-eval-episodes 0": f"--final-eval-episodes: {POSITIVE}",
    "--stop-at-return nan": "--stop-at-return: Input should be a finite number",
    "--seed -1": "--seed: Input should be greater than or equal to 0",
    "--seed 99999999999999999999": "--seed: Input should be less than or equal to 2147483648",
    "--hidden-sizes 0": f"--hidden-sizes: {POSITIVE}",
    "--hidden-sizes 100000000 100000000": "--hidden-sizes: Input should be less than or equal to 10000",
    "--buffer-size 10000000000000000000": "--buffer-size: Input should be less than or equal to 1000000000000",
    "--max-episode-steps 0": f"--max-episode-steps: {POSITIVE}",
    "--env-id Pendulum-v1 --action-bins 1": "--action-bins: Input should be greater than or equal to 2",
    "--env-kwargs length": "--env-kwargs takes NAME=VALUE, each NAME once, not ('length',)",
    "--env-kwargs a=1 b=2 a=3": "--env-kwargs takes NAME=VALUE, each NAME once, not ('a=1', 'b=2', 'a=3')",
    "--env-kwargs a=1 --eval-env-kwargs a": "--eval-env-kwargs takes NAME=VALUE, each NAME once, not ('a',)",
    "--eval-env-kwargs =3": "--eval-env-kwargs takes NAME=VALUE, each NAME once, not ('=3',)",
}
BAD = {
    "--env-id CartPol-v1": "Did you mean: `CartPole`?",
    "--env-id cartpole-v1": "Did you mean: `CartPole`?",
    "--env-id CartPole-v9": "CartPole",
    "--env-id Taxi-v3": "Taxi-v4",
    "--env-id nonsense": "nonsense",
    "--env-id no_such_module:Env-v0": "no_such_module",
    "--env-id ALE/Pongg-v5": "Did you mean: `Pong`?",
    "--env-id BipedalWalker-v3": "Box with bounds, MultiDiscrete, MultiBinary and Tuples of Discrete with at most",
    "--env-id Counter-v0 --capture-video": "Counter-v0: its render() returns no picture",
    "--runs-dir /proc/no": "cannot make a run folder in /proc/no: No such file or directory",
    "--evaluate no/such/model.pt": "no/such/model.pt",
}


def unboxed(err):
    """The text inside the box that tyro draws, in one line."""
    lines = [line.strip("│╭╮╰╯─ ") for line in err.splitlines()]
    return " ".join(word for line in lines if line.strip("-") for word in line.split())


@pytest.mark.parametrize(("arguments", "said"), BAD_FLAGS.items())
def test_a_bad_flag_is_one_sentence_and_exit_code_2(main, tmp_path, arguments, said):
    code, out, err = main(arguments)
    assert code == 2
    assert unboxed(err).startswith(f"Value error Error parsing Args: {said}"), err
    assert "Traceback" not in err and out == ""
    assert list(tmp_path.iterdir()) == [], "no run folder"


TWICE = {
    "--env-kwargs a=1 --env-kwargs b=2": "--env-kwargs",
    "--env_kwargs a=1 --env-kwargs=b=2": "--env-kwargs",
    "--eval-env-kwargs a=1 --eval-env-kwargs b=2": "--eval-env-kwargs",
    "--hidden-sizes 64 --hidden-sizes 64": "--hidden-sizes",
}


@pytest.mark.parametrize(("arguments", "flag"), TWICE.items())
def test_a_list_given_twice_is_refused(main, tmp_path, arguments, flag):
    """The last one alone would count."""
    assert main(arguments) == (2, "", f"error: {flag} is given twice: write all its values after one {flag}\n")
    assert list(tmp_path.iterdir()) == [], "no run folder"


@pytest.mark.parametrize("script", ["tabular_q", "fqi", "pqn", "qt_opt"])
def test_a_list_given_twice_is_refused_by_every_script(call_main, script):
    module = importlib.import_module(script)
    for flag in ("--env-kwargs", *(["--hidden-sizes"] if script in ("pqn", "qt_opt") else [])):
        code, _, err = call_main(module, f"{flag} 1 {flag} 2" if "sizes" in flag else f"{flag} a=1 {flag} b=2")
        assert code == 2 and err.startswith(f"error: {flag} is given twice")


def test_a_module_in_the_current_folder(main, tmp_path, monkeypatch):
    """As `--env-id module:id` names it."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    cartpole = "gymnasium.envs.classic_control:CartPoleEnv"
    text = f"import gymnasium\ngymnasium.register('Own-v0', '{cartpole}', max_episode_steps=9)\n"
    (tmp_path / "module_of_the_user.py").write_text(text)
    try:
        assert main(" ".join([*SMALL, "--env-id module_of_the_user:Own-v0"]))[0] == 0
    finally:
        sys.modules.pop("module_of_the_user", None)
        dqn.gym.registry.pop("Own-v0", None)


def test_runs_that_start_at_the_same_instant(small, tmp_path, monkeypatch):
    """Each sees that there is no folder yet, and makes its own: at second 1000, 1001 and 1002."""
    monkeypatch.setattr(dqn.time, "time", lambda: 1000.9)
    monkeypatch.setattr(dqn.Path, "exists", lambda self: False)
    folders = [dqn.make_run_dir(small()).name for _ in range(3)]
    assert folders == [f"CartPole-v1__dqn__1__{second}" for second in (1000, 1001, 1002)]


@pytest.mark.parametrize(("arguments", "said"), BAD.items())
def test_bad_input_is_one_sentence_and_exit_code_2(main, tmp_path, arguments, said):
    code, out, err = main(arguments)
    assert code == 2
    assert err.startswith("error: ") and said in err and err.count("\n") == 1
    assert "Traceback" not in err and out == ""
    assert list(tmp_path.iterdir()) == [], "no run folder"


def test_a_buffer_larger_than_memory(main):
    code, _, err = main("--buffer-size 1000000000000")  # the observations alone: 1e12 * 4 * 4 bytes
    needed = 1e12 * 4 * 4 / 2**40
    assert code == 1 and err.startswith(f"error: Unable to allocate {needed:.1f} TiB") and err.count("\n") == 1


def test_arguments_as_a_notebook_gives_them(small, tmp_path):
    """Text for a path, a float for a whole number, a list for a tuple."""
    given = {"total_timesteps": 4e2, "batch_size": 16.0, "hidden_sizes": [16], "max_episode_steps": 5e2}
    run_dir = train(small(**given, runs_dir=str(tmp_path / "text")))
    assert run_dir.parent == tmp_path / "text" and json.loads((run_dir / "result.json").read_text())["updates"] == 50
    plain = train(small())
    assert scalars(run_dir)["losses/td_loss"] == scalars(plain)["losses/td_loss"]


@pytest.mark.parametrize("arguments", ["--learning-rat 1", "--seed one", "--loss l1"])
def test_flags_that_do_not_parse(main, tmp_path, arguments):
    code, _, err = main(arguments)
    assert code == 2 and arguments.split()[0] in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_runs_folder_that_is_a_file(main, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    code, _, err = main("")
    assert code == 2 and err.startswith("error: cannot make a run folder in runs: ") and err.count("\n") == 1


def test_observations_without_a_fixed_length(main, tmp_path, register):
    space = dqn.gym.spaces.Sequence(dqn.gym.spaces.Discrete(3))
    code, _, err = main(f"--env-id {register(space, dqn.gym.spaces.Discrete(2))}")
    assert code == 2 and "no vector of fixed length: remove it" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_say_what_to_install(main, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] in ("Box2D", "ale_py")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d", raising=False)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d.lunar_lander", raising=False)
    for env_id in [env_id for env_id in dqn.gym.registry if env_id.startswith("ALE/")]:
        monkeypatch.delitem(dqn.gym.registry, env_id)
    for module in ("Box2D", "ale_py", "wandb", "moviepy"):
        monkeypatch.setitem(sys.modules, module, None)
    for arguments, package in {
        "--env-id LunarLander-v3": 'pip install "gymnasium[box2d]"',
        "--env-id ALE/Pong-v5": "ale_py",
        "--track": "pip install wandb",
        "--capture-video": "pip install moviepy",
    }.items():
        code, _, err = main(arguments)
        assert code == 2 and package in unboxed(err) and "Traceback" not in err
        assert err.count("\n") == 1 or "Error parsing Args" in err
        assert "Did you mean" not in err, "the name is right"


def test_what_drawing_lacks_is_said_before_training(main, tmp_path, monkeypatch):
    class NoArgument(CartPoleEnv):
        def __init__(self):
            super().__init__()

    dqn.gym.register("NoArgument-v0", NoArgument)
    monkeypatch.setitem(sys.modules, "pygame", None)
    for env_id, said in {"CartPole-v1": "gymnasium[classic-control]", "NoArgument-v0": "render_mode"}.items():
        code, _, err = main(f"--env-id {env_id} --capture-video")
        assert code == 2 and said in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "no run folder"


def test_weights_that_do_not_fit(main, small, tmp_path):
    model = train(small(save_model=True)) / "model.pt"
    for name, content in {"junk": b"not a model", "empty": b"", "text": b"hello world", "csv": b"a,b\n1,2\n"}.items():
        (tmp_path / name).write_bytes(content)
    torch.save([1, 2], tmp_path / "list")
    torch.save({1: 2}, tmp_path / "numbers")
    for arguments, reason in {
        f"{model} --hidden-sizes 64 64": "size mismatch",  # hidden sizes 64 64 against 16
        f"{model} --env-id Acrobot-v1": "the weights were trained on CartPole-v1",
        **{f"{tmp_path / name}": "" for name in ("junk", "empty", "text", "csv", "list", "numbers", "")},
    }.items():
        code, out, err = main(f"--evaluate {arguments}")
        assert code == 2 and "does not hold weights for" in err and err.count("\n") == 1 and out == ""
        assert reason in err


def test_evaluate_plays_and_does_not_train(main, small, monkeypatch):
    run_dir = train(small(save_model=True))
    monkeypatch.setattr(dqn, "train", None)
    before = sorted(run_dir.parent.rglob("*"))
    code, out, _ = main(f"--evaluate {run_dir}")  # --hidden-sizes and --final-eval-episodes are in its args.json
    final = json.loads((run_dir / "result.json").read_text())
    mean, std = final["eval/episodic_return"], final["eval/episodic_return_std"]
    values = f"Q predicted {final['eval/q_predicted']:.2f}, realised {final['eval/q_realised']:.2f}"
    assert code == 0 and out == f"CartPole-v1: greedy return {mean:.1f} ± {std:.1f} over 2 episodes, {values}\n"
    assert sorted(run_dir.parent.rglob("*")) == before
    code, out, _ = main(f"--evaluate {run_dir / 'model.pt'} --final-eval-episodes 3 --capture-video")
    (video,) = (run_dir / "videos").iterdir()
    assert code == 0 and "over 3 episodes, " in out, "a flag that is given wins"
    assert video.suffix == ".mp4" and video.stat().st_size > 1000


def test_weights_are_loaded_without_unpickling_code(main, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"output.weight": Evil()}, tmp_path / "evil.pt")
    code, _, err = main(f"--evaluate {tmp_path / 'evil.pt'}")
    assert code == 2 and "does not hold weights" in err and not (tmp_path / "pwned").exists()


def test_video_of_every_evaluation(small, recwarn):
    run_dir = train(small(capture_video=True))
    assert not [warning for warning in recwarn if "Overwriting" in str(warning.message)]
    names = sorted(path.name for path in (run_dir / "videos").iterdir())
    assert names == ["step-200.mp4", "step-400.mp4"]


def test_last_line_says_how_it_went(main):
    code, out, _ = main(" ".join(SMALL))
    final = json.loads(next(iter(dqn.Path("runs").glob("*/result.json"))).read_text())
    last = out.splitlines()[-1]
    assert code == 0
    assert last.startswith(f"CartPole-v1: greedy return {final['eval/episodic_return']:.1f} ± ")
    assert "over 2 episodes" in last and "400 steps" in last and "steps/s" in last and "runs/CartPole-v1__dqn" in last


def test_what_the_terminal_shows_of_a_run(small, monkeypatch):
    """A bar over all steps, not drawn into files, with return and ε of the last episode; a line an evaluation.

    Counter's episodes of 5 steps return 15. ε falls from 1 to 0.1 in the first half of 400 steps.
    """
    bars = []

    class Bar(list):
        def __init__(self, steps, **options):
            super().__init__(steps)
            self.options, self.shown, self.lines, self.write = options, [], [], lambda line: self.lines.append(line)
            bars.append(self)

        def set_postfix(self, values, refresh):
            self.shown.append((values["return"], values["ε"], refresh, len(values)))

    monkeypatch.setattr(dqn, "tqdm", Bar)
    train(small(env_id="Counter-v0", exploration_fraction=0.5))
    (bar,) = bars
    assert bar == list(range(1, 401)) and bar.options == {"unit": "step", "disable": None}
    epsilons = [1 - 0.9 * min(step - 1, 200) / 200 for step in range(5, 401, 5)]
    assert [epsilon for _, epsilon, _, _ in bar.shown] == pytest.approx(epsilons)
    assert {(total, refresh, entries) for total, _, refresh, entries in bar.shown} == {(15.0, False, 2)}
    first, second = bar.lines
    for step, line in ((200, first), (400, second)):
        values = r"Q predicted -?\d+\.\d\d, realised -?\d+\.\d\d"
        assert re.fullmatch(rf"step {step}: greedy return 15\.0 ± 0\.0 over 2 episodes, {values}", line)


def test_divergence_stops_the_run(main, tmp_path):
    code, _, err = main(" ".join(SMALL) + " --learning-rate 1e30 --loss mse")
    assert code == 1
    assert err.startswith("error: losses/") and "nan" in err and err.count("\n") == 1
    assert "--learning-rate is too high, or the environment sent a number that is not finite" in err
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert not (run_dir / "result.json").exists()
    rows = scalars(run_dir)["charts/episodic_return"]
    assert [step for step, _ in rows] == [100, 200, 300], "what was logged is readable"


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield
    wandb.teardown()  # it keeps its settings for the next run of the process


@pytest.mark.parametrize("mode", ["online", "nonsense"])
def test_track_without_an_account_or_in_a_bad_mode(main, no_account, tmp_path, monkeypatch, mode):
    """One sentence, before training."""
    monkeypatch.setenv("WANDB_MODE", mode)
    code, out, err = main(" ".join(SMALL) + " --track")
    last = err.splitlines()[-1]
    assert code == 2 and last.startswith("error: W&B does not start (") and "WANDB_MODE=offline" in last
    assert "Traceback" not in err and "greedy return" not in out
    assert not list(tmp_path.glob("runs/*/events.*"))


def test_track_offline(main, no_account, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    code, out, _ = main(" ".join(SMALL) + " --track --wandb-project-name p")
    assert code == 0 and "greedy return" in out
    wandb.teardown()  # W&B's own process writes the file: wait until it has ended
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = log.read_bytes()
    for name in (b"charts/episodic_return", b"losses/td_loss", b"eval/q_predicted", b"global_step"):
        assert name in content


@pytest.mark.parametrize(("arguments", "code"), [("", 0), ("--learning-rate 1e30", 1)])
def test_wandb_is_told_whether_the_run_is_complete(main, monkeypatch, arguments, code):
    runs = []

    class Run:
        def __init__(self, **options):
            self.options, self.logged, self.exit_codes, self.axes = options, [], [], []
            runs.append(self)

        def define_metric(self, name, step_metric):
            self.axes.append((name, step_metric))

        def log(self, metrics):
            self.logged.append(metrics)

        def finish(self, exit_code):
            self.exit_codes.append(exit_code)

    monkeypatch.setattr(wandb, "init", Run)
    flags = "--track --wandb-project-name p --wandb-entity e"
    assert main(" ".join([*SMALL, flags, arguments]))[0] == code
    (run,) = runs
    assert run.exit_codes == [code] and run.axes == [("*", "global_step")]
    assert [run.options[name] for name in ("project", "entity")] == ["p", "e"]
    assert run.options["config"]["hidden_sizes"] == (16,)
    assert any("charts/episodic_return" in metrics and metrics["global_step"] > 0 for metrics in run.logged)


def start(folder, *arguments, script="dqn.py", **options):
    command = [sys.executable, "-u", script, *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


ALONE = dict.fromkeys(DQN_FAMILY, (SMALL, (400 - 200) / 4))
ALONE["qt_opt.py"] = SMALL, 400 - 200
ALONE["pqn.py"] = (
    f"--total-timesteps 400 --num-envs 4 --num-steps 10 --eval-frequency 200 {EVALUATED}".split(),
    160,
)
ALONE["tabular_q.py"] = f"--total-timesteps 2000 --eval-frequency 1000 {EVALUATED}".split(), 2000
ALONE["fqi.py"] = "--dataset-size 300 --iterations 4 --eval-frequency 2 --eval-episodes 2".split(), 4
ATARI = "--env-id ALE/Pong-v5 --total-timesteps 300 --learning-starts 200 --batch-size 4 --buffer-size 250"
ALONE["dqn_atari.py"] = (
    f"{ATARI} --max-frames 200 --eval-episodes 2 --num-envs 2 --num-threads 1".split(),
    (300 - 200) / 4,
)


@pytest.mark.parametrize("script", [rung.script for rung in HERE])
def test_script_alone_in_an_empty_folder(tmp_path, script):
    shutil.copy(ROOT / script, tmp_path)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    flags, updates = ALONE[script]
    process = start(tmp_path, *flags, script=script, env=env)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Warning" not in err
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert json.loads((run_dir / "result.json").read_text())["updates"] == updates
    assert str(run_dir.relative_to(tmp_path)) in out.splitlines()[-1]


@pytest.mark.parametrize("script", ["tabular_q.py", "fqi.py"])
def test_bad_input_of_the_lower_rungs(tmp_path, script):
    process = start(ROOT, "--env-id", "nonsense", "--runs-dir", str(tmp_path / "runs"), script=script)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2 and out == ""
    assert err.startswith("error: cannot make nonsense") and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_latest_start_of_learning_leaves_one_update(small):
    """Of 403 steps with an update every 4, the last update is at 400: after 399 steps it is the only one."""
    run_dir = train(small(total_timesteps=403, learning_starts=399))
    assert json.loads((run_dir / "result.json").read_text())["updates"] == 1
    with pytest.raises(ValueError, match="leave no step for an update"):
        small(total_timesteps=403, learning_starts=400)


@pytest.mark.parametrize(
    ("compiled", "number"),
    [("--no-compile", signal.SIGINT), ("--no-compile", signal.SIGTERM), ("--compile", signal.SIGINT)],
)
def test_ctrl_c_ends_cleanly(tmp_path, compiled, number):
    flags = f"--total-timesteps 10000000 --runs-dir {tmp_path} --eval-frequency 1000 --learning-starts 1000"
    process = start(ROOT, *flags.split(), compiled)
    assert [process.stdout.readline()[:10] for _ in range(2)] == ["step 1,000", "step 2,000"], "it has begun to learn"
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    lines = err.splitlines()
    if compiled == "--compile":  # the CUDA build of PyTorch 2.14 warns by itself where nvcc is, but no GPU
        lines = [line for line in lines if "No CUDA runtime is found" not in line]
    assert lines == ["interrupted"]
    (run_dir,) = tmp_path.iterdir()
    assert not (run_dir / "result.json").exists()
    assert scalars(run_dir)["eval/episodic_return"][0][0] == 1000


def test_ctrl_c_arrives_at_any_moment_of_a_compiled_update():
    """An exception in a Python guard of torch.compile is lost, so there are no guards: with guards some of these 100
    interrupts, at random moments, do not arrive."""
    args = dqn.Args(hidden_sizes=(16,))
    networks = dqn.QNetwork(4, 2, args), dqn.QNetwork(4, 2, args)
    rows = torch.randn(8, 4), torch.randint(2, (8,)), torch.randn(8), torch.randn(8, 4), torch.rand(8) < 0.2
    loss_function, rng, lost = dqn.compiled(dqn.compute_loss, args), np.random.default_rng(0), 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        loss_function(*networks, dqn.Batch(*rows), args)
        for _ in range(100):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 1e-3))
                deadline = time.perf_counter() + 0.05
                while time.perf_counter() < deadline:
                    loss, _ = loss_function(*networks, dqn.Batch(*rows), args)
                    networks[0].zero_grad()
                    loss.backward()
                lost += 1
            except KeyboardInterrupt:
                pass
    finally:
        signal.signal(signal.SIGALRM, before)
    assert lost == 0


def test_full_disk_stops_the_run(tmp_path):
    """No file may grow beyond 20 kB: the log meets the error that a full disk gives. The name of the script's folder
    is no reason to take the error for one of Gymnasium's."""
    (folder := tmp_path / "gymnasium-trials").mkdir()
    shutil.copy(ROOT / "dqn.py", folder)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    began = time.time()
    process = start(folder, "--total-timesteps", "10000000", preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and time.time() - began < 100
    assert err.startswith("error: ") and "File too large" in err and err.count("\n") == 1
    (run_dir,) = (folder / "runs").iterdir()
    assert not (run_dir / "result.json").exists()
    assert len(scalars(run_dir)["charts/episodic_return"]) > 10, "what was logged is readable"


def test_full_disk_while_weights_are_saved(main, tmp_path):
    """No file may grow beyond 100 kB; 40,000 weights of the layer in the middle are more."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        code, _, err = main(" ".join(SMALL).replace("sizes 16", "sizes 200 200") + " --save-model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and err.startswith("error: ") and "File too large" in err and err.count("\n") == 1
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert not (run_dir / "result.json").exists() and scalars(run_dir)["charts/episodic_return"]
    assert not list(run_dir.glob("*.pt")), "no weights are half written"
