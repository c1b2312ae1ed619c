"""The command line as a user meets it: one sentence for bad input, and nothing lost when a run ends early."""

import importlib.util
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

SMALL = "--total-timesteps 400 --learning-starts 200 --batch-size 16 --hidden-sizes 16 --eval-episodes 2".split()


@pytest.fixture
def main(call_main):
    """main("--flag value ...") -> (exit code, stdout, stderr) of dqn.py, run in an empty folder."""
    return partial(call_main, dqn)


BAD = {
    "--env-id CartPol-v1": "Did you mean: `CartPole`?",
    "--env-id cartpole-v1": "Did you mean: `CartPole`?",
    "--env-id CartPole-v9": "CartPole",
    "--env-id Taxi-v3": "Taxi-v4",
    "--env-id nonsense": "nonsense",
    "--env-id no_such_module:Env-v0": "no_such_module",
    "--env-id ALE/Pongg-v5": "Did you mean: `Pong`?",
    "--env-id BipedalWalker-v3": "Box of shape (1,)",
    "--batch-size 20000 --buffer-size 10000": "--batch-size must be between 1 and 10000, not 20000",
    "--total-timesteps 500 --learning-starts 500": "--learning-starts must be between 0 and 499, not 500",
    "--total-timesteps 103 --learning-starts 100 --train-frequency 10": "must be between 0 and 99, not 100",
    "--total-timesteps 100 --learning-starts 10 --train-frequency 101": "--train-frequency must be between 1 and 100",
    "--total-timesteps 12345678 --learning-starts 12345678": "between 0 and 12345675, not 12345678",
    "--total-timesteps 0": "--total-timesteps",
    "--learning-rate 0": "--learning-rate",
    "--learning-rate nan": "--learning-rate",
    "--learning-rate -0.1": "--learning-rate",
    "--gamma 1.5": "--gamma must be between 0 and 1, not 1.5",
    "--tau 0": "--tau",
    "--buffer-size -1 --batch-size 1": "--buffer-size",
    "--train-frequency 0": "--train-frequency",
    "--target-network-frequency 0": "--target-network-frequency",
    "--start-e 2": "--start-e",
    "--end-e -0.1": "--end-e",
    "--exploration-fraction 0": "--exploration-fraction",
    "--max-grad-norm 0": "--max-grad-norm",
    "--eval-frequency 0": "--eval-frequency",
    "--eval-episodes 0": "--eval-episodes",
    "--seed -1": "--seed",
    "--seed 99999999999999999999": "--seed must be between 0 and 2147483648, not 99999999999999999999",
    "--env-id Counter-v0 --capture-video": "Counter-v0: it draws no pictures",
    "--hidden-sizes 0": "--hidden-sizes",
    "--hidden-sizes 100000000 100000000": "--hidden-sizes must be between 1 and 10000",
    "--buffer-size 10000000000000000000": "--buffer-size must be between 1 and 1000000000000",
    "--max-episode-steps 0": "--max-episode-steps",
    "--env-id Pendulum-v1 --action-bins 1": "--action-bins",
    "--runs-dir /proc/no": "/proc/no",
    "--evaluate no/such/model.pt": "no/such/model.pt",
}


@pytest.mark.parametrize(("arguments", "said"), BAD.items())
def test_bad_input_is_one_sentence_and_exit_code_2(main, tmp_path, arguments, said):
    code, out, err = main(arguments)
    assert code == 2
    assert err.startswith("error: ") and said in err and err.count("\n") == 1
    assert "Traceback" not in err and out == ""
    assert list(tmp_path.iterdir()) == [], "no run folder"


def test_a_buffer_larger_than_memory(main, tmp_path):
    code, _, err = main("--buffer-size 1000000000000")  # of 2 * 4 * 4 + 8 + 4 + 1 bytes
    needed = 1e12 * (2 * 4 * 4 + 8 + 4 + 1) / 2**30
    assert code == 2 and f"the replay buffer needs {needed:,.2f} GiB, and " in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_arguments_as_a_notebook_gives_them(small, tmp_path):
    """Text for a path, a float for a whole number, a list for a tuple."""
    given = small(total_timesteps=4e2, batch_size=16.0, hidden_sizes=[16], max_episode_steps=5e2)
    given.runs_dir = str(tmp_path / "text")
    run_dir = train(given)
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
    assert code == 2 and "no vector of fixed length: wrap it" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_say_what_to_install(main, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] in ("Box2D", "ale_py")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d", raising=False)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d.lunar_lander", raising=False)
    for env_id in [env_id for env_id in dqn.gym.registry if env_id.startswith("ALE/")]:
        monkeypatch.delitem(dqn.gym.registry, env_id)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("wandb", "moviepy") else find_spec(name)
    )
    for arguments, package in {
        "--env-id LunarLander-v3": 'pip install "gymnasium[box2d]"',
        "--env-id ALE/Pong-v5": "pip install ale-py",
        "--track": "pip install wandb",
        "--capture-video": "pip install moviepy",
    }.items():
        code, _, err = main(arguments)
        assert code == 2 and package in err and err.count("\n") == 1
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
        f"{model} --env-id Acrobot-v1": "they were trained on CartPole-v1",
        **{f"{tmp_path / name}": "" for name in ("junk", "empty", "text", "csv", "list", "numbers", "")},
    }.items():
        code, out, err = main(f"--evaluate {arguments}")
        assert code == 2 and "does not hold weights for" in err and err.count("\n") == 1 and out == ""
        assert reason in err


def test_evaluate_plays_and_does_not_train(main, small, monkeypatch):
    run_dir = train(small(save_model=True))
    monkeypatch.setattr(dqn, "train", None)
    before = sorted(run_dir.parent.rglob("*"))
    code, out, _ = main(f"--evaluate {run_dir}")  # --hidden-sizes and --eval-episodes are in its args.json
    final = json.loads((run_dir / "result.json").read_text())
    mean, std = final["eval/episodic_return"], final["eval/episodic_return_std"]
    assert code == 0 and out == f"CartPole-v1: greedy return {mean:.1f} ± {std:.1f} over 2 episodes\n"
    assert sorted(run_dir.parent.rglob("*")) == before
    code, out, _ = main(f"--evaluate {run_dir / 'model.pt'} --eval-episodes 3 --capture-video")
    (video,) = (run_dir / "videos").iterdir()
    assert code == 0 and out.endswith("over 3 episodes\n"), "a flag that is given wins"
    assert video.suffix == ".mp4" and video.stat().st_size > 1000


def test_weights_are_loaded_without_unpickling_code(main, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"0.weight": Evil()}, tmp_path / "evil.pt")
    code, _, err = main(f"--evaluate {tmp_path / 'evil.pt'}")
    assert code == 2 and "does not hold weights" in err and not (tmp_path / "pwned").exists()


def test_video_of_every_evaluation(small, recwarn):
    run_dir = train(small(capture_video=True))
    assert not [warning for warning in recwarn if "Overwriting" in str(warning.message)]
    names = sorted(path.name for path in (run_dir / "videos").iterdir())
    assert names == ["step-200-episode-0.mp4", "step-400-episode-0.mp4"]


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
        said = rf"step {step}: greedy return 15\.0 ± 0\.0, Q predicted -?\d+\.\d\d, realised -?\d+\.\d\d"
        assert re.fullmatch(said, line)


def test_divergence_stops_the_run(main, tmp_path):
    code, _, err = main(" ".join(SMALL) + " --learning-rate 1e30 --loss mse")
    assert code == 1
    assert err.startswith("error: losses/") and "nan" in err and "--learning-rate" in err and err.count("\n") == 1
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert not (run_dir / "result.json").exists()
    assert len(scalars(run_dir)["charts/episodic_return"]) > 5, "what was logged is readable"


def test_track_without_an_account_goes_on_offline(main, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    code, out, err = main(" ".join(SMALL) + " --track --wandb-project-name p")
    said = [line for line in err.splitlines() if line.startswith("W&B is out of reach")]
    assert code == 0 and len(said) == 1 and "offline" in said[0] and "wandb sync" in said[0]
    wandb.teardown()  # W&B's own process writes the file: wait until it has ended
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = log.read_bytes()
    for name in (b"charts/episodic_return", b"losses/td_loss", b"eval/q_predicted", b"global_step"):
        assert name in content
    assert "greedy return" in out


@pytest.mark.parametrize(("arguments", "code"), [("", 0), ("--learning-rate 1e30", 1)])
def test_wandb_is_told_whether_the_run_is_complete(main, monkeypatch, arguments, code):
    runs = []

    class Run:
        def __init__(self, **options):
            self.options, self.logged, self.exit_codes = options, [], []
            runs.append(self)

        def log(self, metrics):
            self.logged.append(metrics)

        def finish(self, exit_code):
            self.exit_codes.append(exit_code)

    monkeypatch.setattr(wandb, "init", Run)
    flags = "--track --wandb-mode offline --wandb-project-name p --wandb-entity e"
    assert main(" ".join([*SMALL, flags, arguments]))[0] == code
    (run,) = runs
    assert run.exit_codes == [code]
    assert [run.options[name] for name in ("mode", "project", "entity")] == ["offline", "p", "e"]
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
    "--total-timesteps 400 --num-envs 4 --num-steps 10 --eval-frequency 200 --eval-episodes 2".split(),
    160,
)
ALONE["tabular_q.py"] = "--total-timesteps 2000 --eval-frequency 1000 --eval-episodes 2".split(), 2000
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
    with pytest.raises(dqn.BadInput, match="between 0 and 399, not 400"):
        train(small(total_timesteps=403, learning_starts=400))


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


def test_ctrl_c_arrives_at_any_moment_of_a_compiled_gradient():
    """An exception that comes while a Python guard of torch.compile is evaluated is lost. So there are no guards: with
    them some of these 500 interrupts, at random moments, do not arrive."""
    args = dqn.Args(hidden_sizes=(16,))
    networks = dqn.QNetwork(4, 2, args), dqn.QNetwork(4, 2, args)
    rows = torch.randn(8, 4), torch.randint(2, (8,)), torch.randn(8), torch.randn(8, 4), torch.rand(8) < 0.2
    gradient, rng, lost = dqn.compiled(dqn.backpropagate, cuda=False), np.random.default_rng(0), 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        gradient(*networks, dqn.Batch(*rows), args)
        for _ in range(500):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 1e-3))
                deadline = time.perf_counter() + 0.05
                while time.perf_counter() < deadline:
                    networks[0].zero_grad()
                    gradient(*networks, dqn.Batch(*rows), args)
                lost += 1
            except KeyboardInterrupt:
                pass
    finally:
        signal.signal(signal.SIGALRM, before)
    assert lost == 0


def test_full_disk_stops_the_run(tmp_path):
    """No file may grow beyond 20 kB: the log meets the error that a full disk gives."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    began = time.time()
    process = start(ROOT, "--total-timesteps", "10000000", "--runs-dir", str(tmp_path), preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and time.time() - began < 100
    assert err.startswith("error: ") and "File too large" in err and err.count("\n") == 1
    (run_dir,) = tmp_path.iterdir()
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
