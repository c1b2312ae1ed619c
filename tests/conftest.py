"""What several test files need: small runs, their scalars, and environments whose every number is known."""

import contextlib
import importlib
import io
import json
import signal
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import dqn
from benchmark.run_folder import ROOT, read_scalars
from tools.ladder import DQN_FAMILY

__all__ = ["ROOT", "Counter", "Spaces", "gradient", "linear_network", "played", "result", "scalars", "train"]


class Counter(gym.Env):
    """Observation = a number that no other step ever has; +1 a step, and on to the next thousand at a reset

    Episodes of 5 steps, alternately terminated and truncated. Rewards 1, 2, 3, 4, 5: an episode returns 15.
    """

    observation_space = gym.spaces.Box(0, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.episode, self.t = -1, 0
        self.buffer = np.zeros(1, np.float32)  # one array, changed in place: as careless environments do

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:  # begins again, in an evaluation with the number of its episode
            self.episode = seed % 1_000 - 1 if 1_000_000 <= seed < 2_000_000 else -1
        self.episode, self.t = self.episode + 1, 0
        self.buffer[0] = 1000 * self.episode
        return self.buffer, {}

    def step(self, action):
        self.t += 1
        self.buffer[0] += 1
        ends = self.t == 5
        return self.buffer, float(self.t), ends and self.episode % 2 == 0, ends and self.episode % 2 == 1, {}


class Spaces(gym.Env):
    """Episodes of 4 steps with any spaces; remembers the actions it was given."""

    def __init__(self, observation_space, action_space, obs=None, render_mode=None):
        self.observation_space, self.action_space, self.obs, self.actions = observation_space, action_space, obs, []

    def observe(self):
        return self.observation_space.sample() if self.obs is None else self.obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        self.actions.append(action)
        assert int(action) in self.action_space
        return self.observe(), 1.0, self.t == 4, False, {}


MARKERS = {  # of every test file, named without test_ and .py; what each marker means is in pyproject.toml
    "algorithm": "algorithm c51 drqn every_script exact n_step_dqn noisy_dqn pqn qt_opt rainbow replay rungs",
    "script": "atari atari_resume cli flags fqi learning runs tabular user_environments",
    "system": "benchmark claim_atari claim_base claim_c51 claim_double claim_drqn claim_dueling claim_n_step "
    "claim_noisy claim_per claim_pqn claim_qt_opt claim_rainbow claim_tabular docs envs habits harness "
    "human_scores ladder pages peers report slurm statistics third_party",
}
SLOW = ("compiled", "learns_cartpole")  # in a test's name: it takes seconds, so it counts as script


def pytest_collection_modifyitems(items):
    """Gives every test the marker of its file."""
    marker_of = {name: marker for marker, names in MARKERS.items() for name in names.split()}
    for item in items:
        if (name := item.path.stem.removeprefix("test_")) not in marker_of:
            raise pytest.UsageError(f"tests/{item.path.name} has no marker: name it in MARKERS of tests/conftest.py")
        slow = any(part in item.name for part in SLOW)
        item.add_marker("script" if marker_of[name] == "algorithm" and slow else marker_of[name])


signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell starts pytest in the background
gym.register("Counter-v0", entry_point=Counter, disable_env_checker=True)
FROZEN_LAKE = "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv"
gym.register("FrozenLakeNotSlippery-v0", FROZEN_LAKE, kwargs={"is_slippery": False}, max_episode_steps=100)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def call_main(tmp_path, monkeypatch, capsys):
    """call_main(script, "--flag value ...") -> (exit code, stdout, stderr) of its main(), run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(script, arguments):
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *arguments.split()])
        code = 0
        try:
            script.main()
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def register():
    """register(observation_space, action_space, obs=None) -> id of an environment with these spaces."""
    ids = []

    def make(observation_space, action_space, obs=None):
        ids.append(f"Spaces{len(ids)}-v0")
        kwargs = {"observation_space": observation_space, "action_space": action_space, "obs": obs}
        gym.register(ids[-1], entry_point=Spaces, kwargs=kwargs, disable_env_checker=True)
        return ids[-1]

    yield make
    for env_id in ids:
        del gym.registry[env_id]


@pytest.fixture(params=DQN_FAMILY)
def script(request):
    """Every script of the DQN family, as a module."""
    return importlib.import_module(request.param.removesuffix(".py"))


@pytest.fixture
def small(tmp_path):
    """small(script, **arguments) -> Args of a run of 400 steps and 50 updates that takes a tenth of a second."""

    def make(script=dqn, **arguments):
        defaults = {"total_timesteps": 400, "learning_starts": 200, "train_frequency": 4, "batch_size": 16}
        defaults |= {
            "hidden_sizes": (16,),
            "tau": 1.0,
            "target_network_frequency": 50,
            "eval_frequency": 200,
            "eval_episodes": 2,
            "final_eval_episodes": arguments.get("eval_episodes", 2),
            "runs_dir": tmp_path / "runs",
            "env_id": script.Args.env_id,  # that of the script: qt_opt.py has none in common with the others
        }
        return script.Args(**defaults | arguments)

    return make


@pytest.fixture
def spy(monkeypatch):
    """spy(name, script) -> a list to which every call of script.{name} appends (arguments, result)."""

    def install(name, script=dqn):
        calls, original = [], getattr(script, name)

        def wrapper(*args, **kwargs):
            result = original(*args, **kwargs)
            calls.append((args, result))
            return result

        monkeypatch.setattr(script, name, wrapper)
        return calls

    return install


def linear_network(script, weight, bias):
    """Q(s, ·) = weight * s + bias of a single number s, two actions, as a script's own QNetwork."""
    network = script.QNetwork(1, 2, script.Args(hidden_sizes=()))
    weights = {"output.weight": torch.tensor(weight).reshape(2, 1), "output.bias": torch.tensor(bias)}
    network.load_state_dict(weights)
    return network


def gradient(network) -> torch.Tensor:
    """The gradient by all parameters, (P,), as loss.backward() left it."""
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def train(args) -> Path:
    """`train` of the script whose Args these are, without its lines on the terminal."""
    with contextlib.redirect_stdout(io.StringIO()):
        return sys.modules[type(args).__module__].train(args)


def result(run_dir: Path) -> dict:
    """What a finished run left in result.json."""
    return json.loads((run_dir / "result.json").read_text())


def played(episodic_return: float) -> dict[str, float]:
    """The metrics of an evaluation that was never made."""
    rest = ("eval/episodic_return_std", "eval/q_predicted", "eval/q_realised")
    return {"eval/episodic_return": episodic_return} | dict.fromkeys(rest, 0.0)


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Every TensorBoard scalar of a run as {name: [(step, value), ...]}, without the clock."""
    return {name: [(step, value) for step, value, _ in events] for name, events in read_scalars(run_dir).items()}
