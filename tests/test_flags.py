"""Every flag of every script acts: a run with another value differs where that flag is meant to act.

One table a script. A row is the flag, another value, and what must differ: the name of a scalar or of a field of
result.json, a file, or "folder", the run folder's name. A flag that no row and no other test has is an error.
"""

import json
from dataclasses import fields
from types import SimpleNamespace

import pytest
import wandb
from conftest import scalars, train

import c51
import double_dqn
import dqn
import dqn_atari
import drqn
import dueling_dqn
import fqi
import n_step_dqn
import noisy_dqn
import per_dqn
import pqn
import qt_opt
import rainbow
import tabular_q

TRACKING = {"track": True, "wandb_project_name": "p", "wandb_entity": "e", "wandb_mode": "offline"}
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
    "eval_episodes": (3, "returns"),
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
}
DQN = {
    **RUN,
    "env_id": ("Acrobot-v1", "folder"),
    "env_kwargs": (("sutton_barto_reward=True",), "charts/episodic_return"),
    "max_episode_steps": (7, "charts/episodic_length"),
    "action_bins": (3, "losses/q_values"),
    "anneal_lr": (False, "losses/td_loss"),
    "hidden_sizes": ((16, 16), "losses/td_loss"),
}
PER = {
    "priority": ("rank", "losses/td_loss"),
    "prioritized_replay_alpha": (0.1, "losses/td_loss"),
    "prioritized_replay_beta": (0.9, "charts/beta"),
    "prioritized_replay_eps": (0.5, "losses/td_loss"),
}
N_STEP = {"n_step": (5, "losses/td_loss")}
NOISY = {"noisy_std": (0.1, "losses/td_loss")}
C51 = {
    "n_atoms": (5, "losses/td_loss"),
    "v_min": (-50.0, "losses/edge_mass"),
    "v_max": (1.0, "losses/clipped_mass"),
}
NO_LOSS = {name: row for name, row in DQN.items() if name != "loss"}
RAINBOW = {name: row for name, row in PER.items() if name != "priority"} | {"v_min": (-50.0, "losses/td_loss")}
DRQN = {"sequence_length": (5, "losses/td_loss"), "burn_in": (4, "losses/td_loss")}
QT_OPT = {
    **{name: row for name, row in DQN.items() if name not in ("action_bins", "env_id")},
    "env_id": ("MountainCarContinuous-v0", "folder"),
    "env_kwargs": (("g=5.0",), "charts/episodic_return"),
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
    "env_id": ("CliffWalking-v1", "folder"),
    "env_kwargs": (("is_slippery=False",), "charts/episodic_length"),
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
    "env_id": ("Acrobot-v1", "folder"),
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
    **{name: row for name, row in RUN.items() if name not in ("total_timesteps", "max_grad_norm")},
    "total_timesteps": (220, "global_step"),
    "max_grad_norm": (1e-5, "losses/q_values"),
    "learning_starts": (140, "updates"),
    "buffer_size": (60, "losses/td_loss"),
    "tau": (0.5, "losses/q_values"),
    "target_network_frequency": (150, "losses/q_values"),
    "eval_frequency": (50, "eval/episodic_return"),
    "env_id": ("ALE/Pong-v5", "folder"),
    "num_envs": (2, "losses/td_loss"),
    "start_e": (0.2, "losses/td_loss"),
    "exploration_fraction": (1.0, "charts/epsilon"),
    "num_threads": (2, "threads"),
    "protocol": ("machado", "protocol"),
    "repeat_action_probability": (0.5, "protocol"),
    "terminal_on_life_loss": (False, "protocol"),
    "noop_max": (5, "protocol"),
    "fire_reset": (False, "protocol"),
    "eval_epsilon": (0.7, "protocol"),
    "frame_skip": (2, "frames"),
    "max_frames": (60, "charts/episodic_length"),
}
BASE = {  # of a run of a tenth of a second, or, on Atari, of one
    dqn: {
        "total_timesteps": 400, "learning_starts": 200, "batch_size": 16, "hidden_sizes": (16,), "tau": 1.0,
        "target_network_frequency": 20, "eval_frequency": 200, "eval_episodes": 2, "learning_rate": 1e-2,
    },
    pqn: {
        "total_timesteps": 400, "num_envs": 4, "num_steps": 10, "num_minibatches": 2, "update_epochs": 2,
        "hidden_sizes": (16,), "eval_frequency": 200, "eval_episodes": 2, "learning_rate": 1e-2,
    },
    tabular_q: {"total_timesteps": 4_000, "eval_frequency": 2_000, "eval_episodes": 2, "end_e": 0.3},
    fqi: {"dataset_size": 400, "iterations": 4, "eval_frequency": 2, "eval_episodes": 2, "regressor": "linear"},
    dqn_atari: {
        "env_id": "ALE/Breakout-v5", "total_timesteps": 200, "learning_starts": 100, "batch_size": 4, "cuda": False,
        "buffer_size": 500, "target_network_frequency": 20, "eval_frequency": 100, "eval_episodes": 2,
        "max_frames": 200, "num_threads": 1, "learning_rate": 1e-3, "exploration_fraction": 0.5,
    },
}  # fmt: skip
BASE |= {script: BASE[dqn] for script in (double_dqn, dueling_dqn, per_dqn, n_step_dqn, noisy_dqn, c51, rainbow, drqn)}
BASE[qt_opt] = BASE[dqn] | {"max_episode_steps": 20, "train_frequency": 4}
WHERE = {  # in which setting a flag acts at all
    "observation_bins": {"env_id": "CartPole-v1"},
    "action_bins": {"env_id": "Pendulum-v1"},
    "epsilon": {"collections": 2},
    "exploration_fraction": {"start_e": 0.9},
    "target_lag": {"env_id": "MountainCarContinuous-v0"},  # on Pendulum-v1 values fall at first: the newer are smaller
}
TABLES = {
    dqn: DQN, double_dqn: DQN, dueling_dqn: DQN, per_dqn: DQN | PER, n_step_dqn: DQN | N_STEP,
    noisy_dqn: DQN | NOISY, c51: NO_LOSS | C51, rainbow: NO_LOSS | N_STEP | NOISY | C51 | RAINBOW,
    drqn: DQN | DRQN, qt_opt: QT_OPT, pqn: PQN,
    tabular_q: TABULAR, fqi: FQI, dqn_atari: ATARI,
}  # fmt: skip
ROWS = [(script, name, *row) for script, table in TABLES.items() for name, row in table.items()]


def outcome(script, folder, seen, **arguments):
    """All that a run leaves, by name: scalars without the clock, fields of result.json, files, the folder's name."""
    run_dir = train(script.Args(**{**BASE[script], "runs_dir": folder / "runs", **arguments}))
    result = json.loads((run_dir / "result.json").read_text())
    files = {path.name for place in (folder, run_dir) for path in place.iterdir()}
    name, _ = run_dir.name.rsplit("__", 1)  # without the time
    return {**result, **scalars(run_dir), **dict.fromkeys(files, True), "folder": name, "threads": seen.pop()}


@pytest.fixture
def seen(monkeypatch):
    """The number of threads at the last evaluation."""
    found = []
    for script in TABLES:
        evaluate = script.evaluate

        def watched(*arguments, evaluate=evaluate, **more):
            found[:] = [dqn.torch.get_num_threads()]
            return evaluate(*arguments, **more)

        monkeypatch.setattr(script, "evaluate", watched)
    return found


@pytest.fixture(scope="module")
def without_flag():
    """What a script leaves without another value of a flag: {(script, *setting): outcome}."""
    return {}


@pytest.mark.parametrize("script", TABLES, ids=lambda script: script.__name__)
def test_every_flag_has_a_row(script):
    names = {field.name for field in fields(script.Args)} - {"runs_dir"}  # which every run here is given
    assert names - TABLES[script].keys() - ELSEWHERE.keys() == set()
    assert TABLES[script].keys() - names == set()


@pytest.mark.parametrize(
    ("script", "name", "value", "what"), ROWS, ids=[f"{script.__name__}-{name}" for script, name, *_ in ROWS]
)
def test_the_flag_acts(tmp_path, tmp_path_factory, monkeypatch, without_flag, seen, script, name, value, what):
    monkeypatch.chdir(tmp_path)
    where = WHERE.get(name, {})
    (tmp_path / "with").mkdir()
    if name == "dataset":
        value = str(tmp_path / "with" / value)
    if (script, *where.items()) not in without_flag:  # once for all flags of a script that act in the same setting
        folder = tmp_path_factory.mktemp("without")
        without_flag[script, *where.items()] = outcome(script, folder, seen, **where)
    without = without_flag[script, *where.items()]
    assert getattr(script.Args(**{**BASE[script], **where}), name) != value, "another value"
    changed = outcome(script, tmp_path / "with", seen, **where, **{name: value})
    assert what in {**without, **changed}
    assert changed.get(what) != without.get(what)


@pytest.mark.parametrize("script", TABLES, ids=lambda script: script.__name__)
def test_tracking(tmp_path, monkeypatch, seen, script):
    """--track starts a W&B run with the other flags, and what goes to TensorBoard goes there too."""
    started, logged = [], []
    run = SimpleNamespace(log=logged.append, finish=lambda exit_code: None)
    monkeypatch.setattr(wandb, "init", lambda **options: started.append(options) or run)
    found = outcome(script, tmp_path, seen, **TRACKING)
    (options,) = started
    assert {name: options[name] for name in ("project", "entity", "mode")} == {
        "project": "p", "entity": "e", "mode": "offline",
    }  # fmt: skip
    here = [metrics["eval/q_predicted"] for metrics in logged if "eval/q_predicted" in metrics]
    assert here == pytest.approx([value for _, value in found["eval/q_predicted"]])


FAMILY = [script for script in TABLES if "compile" in {field.name for field in fields(script.Args)}]


@pytest.mark.parametrize("script", [one for one in FAMILY if one is not drqn], ids=lambda script: script.__name__)
def test_compile_compiles(tmp_path, monkeypatch, seen, script):
    asked = []
    monkeypatch.setattr(script, "compiled", lambda function, cuda: asked.append((function, cuda)) or function)
    outcome(script, tmp_path, seen)
    assert asked == []
    outcome(script, tmp_path, seen, compile=True)
    assert asked == [(script.backpropagate, False)]


@pytest.mark.parametrize("script", FAMILY, ids=lambda script: script.__name__)
def test_cuda_without_a_gpu(monkeypatch, script):
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: False)
    with pytest.raises(script.BadInput, match="--cuda needs a GPU"):
        script.check(script.Args(cuda=True))
