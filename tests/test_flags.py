"""Every flag of every script acts: a run with another value differs in the effect of that flag.

One table a script. A row is the flag, another value, and the effect that must differ: the name of a scalar or of a
field of result.json, a file, or "folder", the run folder's name. A flag that no row and no other test has is an error.
A script is run for the flags that its own text reads. Where it reads a flag in definitions that have dqn.py's text, the
run of dqn.py is the test.
"""

import functools
import importlib
import json
import re
from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch
import wandb
from conftest import scalars, train

from tools.ladder import definitions, read

TRACKING = {"track": True, "wandb_project_name": "p", "wandb_entity": "e"}
ELSEWHERE = {  # flags with tests of their own
    "cuda": "test_cuda_without_a_gpu below, and tests that need a GPU",
    "compile": "test_compile_compiles below, test_drqn.py",
    "evaluate": "test_cli.py, test_tabular.py, test_atari.py",
    "num_eval_envs": "test_user_environments.py",
    "resume": "test_atari_resume.py",
    "checkpoint_frequency": "test_atari_resume.py",
    **dict.fromkeys(TRACKING, "test_tracking below"),
}
COMMON = {
    "exp_name": ("other", "folder"),
    "seed": (2, "eval/q_predicted"),
    "capture_video": (True, "videos"),
    "gamma": (0.5, "eval/q_predicted"),
    "eval_episodes": (3, "eval/q_predicted"),
    "final_eval_episodes": (3, "returns"),
}
RUN = {
    **COMMON,
    "save_model": (True, "model.pt"),
    "total_timesteps": (440, "global_step"),
    "learning_rate": (3e-3, "losses/td_loss"),
    "buffer_size": (100, "losses/td_loss"),
    "tau": (0.5, "losses/td_loss"),
    "target_network_frequency": (30, "losses/td_loss"),
    "batch_size": (8, "losses/td_loss"),
    "start_e": (0.2, "charts/episodic_return"),
    "end_e": (0.2, "charts/epsilon"),
    "exploration_fraction": (0.9, "charts/epsilon"),
    "train_frequency": (5, "updates"),
    "learning_starts": (240, "updates"),
    "loss": ("huber", "losses/td_loss"),
    "max_grad_norm": (1e-3, "losses/td_loss"),
    "eval_frequency": (100, "eval/episodic_return"),
    "stop_at_return": (-1e9, "global_step"),
}
DQN = {
    **RUN,
    "env_id": ("Acrobot-v1", "eval/episodic_return"),
    "env_kwargs": (("sutton_barto_reward=True",), "charts/episodic_return"),
    "eval_env_kwargs": (("sutton_barto_reward=True",), "eval/episodic_return"),
    "max_episode_steps": (7, "charts/episodic_length"),
    "action_bins": (3, "losses/q_values"),
    "anneal_lr": (False, "losses/td_loss"),
    "hidden_sizes": ((16, 16), "losses/td_loss"),
}
PER = {
    "prioritized_replay_alpha": (0.1, "losses/td_loss"),
    "prioritized_replay_beta": (0.9, "charts/beta"),
    "prioritized_replay_eps": (0.5, "losses/td_loss"),
}
N_STEP = {"n_step": (5, "losses/td_loss")}
NOISY = {"noisy_std": (0.1, "losses/td_loss")}
C51 = {
    "n_atoms": (5, "losses/td_loss"),
    "v_min": (-50.0, "losses/td_loss"),
    "v_max": (1.0, "losses/clipped_mass"),
}
NO_LOSS = {name: row for name, row in DQN.items() if name != "loss"}
DRQN = {"sequence_length": (5, "losses/td_loss"), "burn_in": (4, "losses/td_loss")}
QT_OPT = {
    **{name: row for name, row in DQN.items() if name not in ("action_bins", "env_id")},
    "env_id": ("MountainCarContinuous-v0", "eval/episodic_return"),
    "env_kwargs": (("g=5.0",), "charts/episodic_return"),
    "eval_env_kwargs": (("g=5.0",), "eval/episodic_return"),
    "target_lag": (50, "losses/td_loss"),
    "cem_iterations": (1, "losses/td_loss"),
    "cem_samples": (20, "losses/td_loss"),
    "cem_elites": (3, "losses/td_loss"),
}
REPLAY = {"buffer_size", "tau", "target_network_frequency", "batch_size", "train_frequency", "learning_starts", "loss"}
PQN = {
    **{name: row for name, row in DQN.items() if name not in REPLAY},
    "layer_norm": (False, "losses/td_loss"),
    "num_envs": (8, "updates"),
    "num_steps": (5, "updates"),
    "num_minibatches": (4, "updates"),
    "update_epochs": (3, "updates"),
    "q_lambda": (0.1, "losses/td_loss"),
}
TABULAR = {
    **COMMON,
    "seed": (2, "charts/episodic_return"),
    "gamma": (0.5, "losses/td_error"),
    "env_id": ("CliffWalking-v1", "eval/episodic_return"),
    "env_kwargs": (("is_slippery=False",), "charts/episodic_length"),
    "eval_env_kwargs": (("is_slippery=False",), "eval/info/prob"),
    "stop_at_return": (-1e9, "global_step"),
    "max_episode_steps": (7, "charts/episodic_length"),
    "observation_bins": (3, "eval/q_predicted"),
    "action_bins": (3, "charts/episodic_return"),
    "total_timesteps": (4_400, "global_step"),
    "learning_rate": (0.5, "losses/td_error"),
    "learning_rate_decay": (0.9, "losses/td_error"),
    "double": (True, "losses/td_error"),
    "start_e": (0.5, "charts/epsilon"),
    "end_e": (0.5, "charts/epsilon"),
    "exploration_fraction": (0.3, "charts/epsilon"),
    "eval_frequency": (1_000, "eval/q_predicted"),
}
FQI = {
    **COMMON,
    "env_id": ("Acrobot-v1", "eval/episodic_return"),
    "env_kwargs": (("sutton_barto_reward=True",), "losses/q_values"),
    "max_episode_steps": (7, "returns"),
    "action_bins": (3, "losses/q_values"),
    "dataset": ("stored.npz", "stored.npz"),
    "dataset_size": (300, "global_step"),
    "collections": (2, "losses/td_loss"),
    "epsilon": (0.9, "losses/td_loss"),
    "regressor": ("polynomial", "losses/td_loss"),
    "action_coding": ("one_hot", "losses/td_loss"),
    "iterations": (6, "updates"),
    "eval_frequency": (1, "eval/episodic_return"),
}
ATARI = {
    **{name: row for name, row in RUN.items() if name not in ("max_grad_norm", "final_eval_episodes")},
    "total_timesteps": (220, "global_step"),
    "max_grad_norm": (1e-5, "losses/q_values"),
    "learning_starts": (140, "updates"),
    "buffer_size": (60, "losses/td_loss"),
    "tau": (0.5, "losses/q_values"),
    "target_network_frequency": (150, "losses/q_values"),
    "eval_frequency": (50, "eval/episodic_return"),
    "env_id": ("ALE/Pong-v5", "losses/td_loss"),
    "num_envs": (2, "losses/td_loss"),
    "start_e": (0.2, "losses/td_loss"),
    "exploration_fraction": (1.0, "charts/epsilon"),
    "num_threads": (2, "threads"),
    "protocol": ("machado", "losses/td_loss"),
    "repeat_action_probability": (0.5, "losses/td_loss"),
    "terminal_on_life_loss": (False, "losses/td_loss"),
    "noop_max": (5, "losses/td_loss"),
    "fire_reset": (False, "losses/td_loss"),
    "eval_epsilon": (0.7, "eval/q_predicted"),
    "frame_skip": (2, "losses/td_loss"),
    "max_frames": (60, "charts/episodic_length"),
}
TWICE = {"eval_frequency": 200, "eval_episodes": 2, "final_eval_episodes": 2}
DQN_BASE = {
    **TWICE, "total_timesteps": 400, "learning_starts": 200, "batch_size": 16, "hidden_sizes": (16,), "tau": 1.0,
    "target_network_frequency": 20, "learning_rate": 1e-2,
}  # fmt: skip
BASE = {  # of a run of a tenth of a second, or, on Atari, of one
    "qt_opt": {**DQN_BASE, "max_episode_steps": 20, "train_frequency": 4},
    "pqn": {
        **TWICE, "total_timesteps": 400, "num_envs": 4, "num_steps": 10, "num_minibatches": 2, "update_epochs": 2,
        "hidden_sizes": (16,), "learning_rate": 1e-2,
    },
    "tabular_q": {**TWICE, "total_timesteps": 4_000, "eval_frequency": 2_000, "end_e": 0.3},
    "fqi": {"dataset_size": 400, "iterations": 4, "eval_frequency": 2, "eval_episodes": 2, "regressor": "linear"},
    "dqn_atari": {
        "env_id": "ALE/Breakout-v5", "total_timesteps": 200, "learning_starts": 100, "batch_size": 4, "cuda": False,
        "buffer_size": 500, "target_network_frequency": 20, "eval_frequency": 100, "eval_episodes": 2,
        "max_frames": 200, "num_threads": 1, "learning_rate": 1e-3, "exploration_fraction": 0.5,
    },
}  # fmt: skip
WHERE = {  # in which setting a flag acts at all
    "observation_bins": {"env_id": "CartPole-v1"},
    "action_bins": {"env_id": "Pendulum-v1"},
    "epsilon": {"collections": 2},
    "exploration_fraction": {"start_e": 0.9},
    "target_lag": {"env_id": "MountainCarContinuous-v0", "tau": 0.5},  # elsewhere values fall: the newer are smaller
}
TABLES = {
    "dqn": DQN, "double_dqn": DQN, "dueling_dqn": DQN, "per_dqn": DQN | PER, "n_step_dqn": DQN | N_STEP,
    "noisy_dqn": DQN | NOISY, "c51": NO_LOSS | C51, "rainbow": NO_LOSS | PER | N_STEP | NOISY | C51,
    "drqn": DQN | DRQN, "qt_opt": QT_OPT, "pqn": PQN,
    "tabular_q": TABULAR, "fqi": FQI, "dqn_atari": ATARI,
}  # fmt: skip


@functools.cache
def own_flags(name):
    """The flags that a script reads in definitions of its own: with another text than in dqn.py."""
    parts, theirs = definitions(read(f"{name}.py")), {} if name == "dqn" else definitions(read("dqn.py"))
    own = "\n".join(text for part, text in parts.items() if part != "Args" and text != theirs.get(part))
    return {flag for flag in re.findall(r"^    (\w+): ", parts["Args"], re.M) if re.search(rf"args\.{flag}\b", own)}


def is_own(name, flag):
    """Whether a script needs a run for this flag. All scripts but dqn.py read some flags only in dqn.py's text."""
    return name == "dqn" or flag in own_flags(name)


ROWS = [(name, flag, *row) for name, table in TABLES.items() for flag, row in table.items() if is_own(name, flag)]
FAMILY = [name for name, table in TABLES.items() if "hidden_sizes" in table]


def module(name):
    return importlib.import_module(name)


def outcome(script, folder, seen, **arguments):
    """Everything that a run leaves, by name: scalars without the clock, fields of result.json, files, the folder."""
    run_dir = train(script.Args(**{**BASE.get(script.__name__, DQN_BASE), "runs_dir": folder / "runs", **arguments}))
    result = json.loads((run_dir / "result.json").read_text())
    files = {path.name for place in (folder, run_dir) for path in place.iterdir()}
    name, _ = run_dir.name.rsplit("__", 1)  # without the time
    return {**result, **scalars(run_dir), **dict.fromkeys(files, True), "folder": name, "threads": seen.pop()}


@pytest.fixture
def seen(monkeypatch):
    """The number of threads at the last evaluation."""
    found = []

    def watch(script):
        evaluate = script.evaluate

        def watched(*arguments, **more):
            found[:] = [torch.get_num_threads()]
            return evaluate(*arguments, **more)

        monkeypatch.setattr(script, "evaluate", watched)
        return found

    return watch


@pytest.fixture(scope="module")
def without_flag():
    """The outcomes without another value of a flag: {(name of the script, *setting): outcome}."""
    return {}


@pytest.mark.bug(70)
@pytest.mark.parametrize("name", TABLES)
def test_every_flag_has_a_row(name):
    flags = {field.name for field in fields(module(name).Args)} - {"runs_dir"}  # every run here is given runs_dir
    assert flags - TABLES[name].keys() - ELSEWHERE.keys() == set()
    assert TABLES[name].keys() - flags == set()


@pytest.mark.parametrize("name", [name for name in TABLES if name != "dqn"])
def test_a_flag_without_a_run_is_read_in_the_text_of_dqn(name):
    """So that dqn.py's run is the test: the definitions that read the flag are the same there and here."""
    shared, theirs = definitions(read(f"{name}.py")), definitions(read("dqn.py"))
    text = "\n".join(part for key, part in shared.items() if key != "Args" and part == theirs.get(key))
    flags = {field.name for field in fields(module(name).Args)} - own_flags(name)
    flags -= {"compile"} if name == "drqn" else set()  # it has no effect there, and test_drqn.py sees the error
    for flag in flags:
        assert flag in {field.name for field in fields(module("dqn").Args)}, flag
        assert re.search(rf"args\.{flag}\b", text), f"{flag} is read nowhere"


@pytest.mark.bug(70)
@pytest.mark.parametrize(("name", "flag", "value", "effect"), ROWS, ids=[f"{name}-{flag}" for name, flag, *_ in ROWS])
def test_the_flag_acts(tmp_path, tmp_path_factory, monkeypatch, without_flag, seen, name, flag, value, effect):
    monkeypatch.chdir(tmp_path)
    where, script = WHERE.get(flag, {}), module(name)
    found = seen(script)
    (tmp_path / "with").mkdir()
    if flag == "dataset":
        value = str(tmp_path / "with" / value)
    if (name, *where.items()) not in without_flag:  # once for all flags of a script that act in the same setting
        without_flag[name, *where.items()] = outcome(script, tmp_path_factory.mktemp("without"), found, **where)
    without = without_flag[name, *where.items()]
    given = {**BASE.get(name, DQN_BASE), **where}
    assert getattr(script.Args(**given), flag) != value, "another value"
    changed = outcome(script, tmp_path / "with", found, **where, **{flag: value})
    assert effect in {**without, **changed}
    assert changed.get(effect) != without.get(effect)


@pytest.mark.parametrize("name", [name for name in TABLES if is_own(name, "track")])
def test_tracking(tmp_path, monkeypatch, seen, name):
    """--track starts a W&B run with the other flags, and the scalars go to TensorBoard and to W&B."""
    started, logged, axes = [], [], []

    def init(**options):
        started.append(options)
        return SimpleNamespace(log=logged.append, finish=lambda exit_code: None, define_metric=define)

    def define(name, step_metric):
        axes.append((name, step_metric))

    monkeypatch.setattr(wandb, "init", init)
    found = outcome(module(name), tmp_path, seen(module(name)), **TRACKING)
    (options,) = started
    assert (options["project"], options["entity"]) == ("p", "e") and axes == [("*", "global_step")]
    here = [metrics["eval/q_predicted"] for metrics in logged if "eval/q_predicted" in metrics]
    assert here == pytest.approx([value for _, value in found["eval/q_predicted"]])


@pytest.mark.parametrize("name", [name for name in TABLES if is_own(name, "compile")])
def test_compile_compiles(tmp_path, monkeypatch, seen, name):
    script, asked = module(name), []

    def watched(compute_loss, args):
        asked.append((compute_loss, args.compile))
        return compute_loss

    monkeypatch.setattr(script, "compiled", watched)
    outcome(script, tmp_path, seen(script))
    assert asked == []
    outcome(script, tmp_path, seen(script), compile=True)
    assert asked == [(script.compute_loss, True)]


@pytest.mark.parametrize("name", FAMILY)
def test_cuda_without_a_gpu(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--cuda needs a GPU"):
        module(name).Args(cuda=True)
