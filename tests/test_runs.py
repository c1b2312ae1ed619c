"""Whole runs learn, log, repeat themselves and leave the promised files."""

import hashlib
import importlib.util
import json
import math
import re
import sys
from contextlib import closing
from functools import partial
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import ROOT, Counter, Spaces, result, scalars, train
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple

import dqn
from tools.ladder import HERE, definitions, read

# Of a transition, beside dqn.py's: a tree of priorities; the end of an episode; both; its age in the episode.
MORE_BYTES = {"per_dqn": 16, "n_step_dqn": 1, "rainbow": 17, "drqn": 8}

MORE_SCALARS = {
    "per_dqn": "charts/beta",
    "noisy_dqn": "charts/sigma_1 charts/sigma_2",
    "c51": "losses/clipped_mass",
    "rainbow": "charts/beta losses/clipped_mass",
}


def weights(run_dir):
    return torch.cat([w.flatten() for w in torch.load(run_dir / "model.pt", weights_only=True).values()])


def assert_learned_something(run_dir, spied_updates):
    """The run made the 50 updates that its flags ask for, and its losses are numbers."""
    assert result(run_dir)["updates"] == len(spied_updates) == 50
    assert math.isfinite(result(run_dir)["eval/episodic_return"])
    losses = scalars(run_dir)["losses/td_loss"]
    assert [step for step, _ in losses] == [300, 400] and all(value > 0 for _, value in losses)


@pytest.mark.bug(40)
def test_weights_move(script, small, spy):
    updates = spy("compute_loss", script)
    run_dir = train(small(script, save_model=True))
    assert_learned_something(run_dir, updates)
    torch.manual_seed(1)
    sizes = (3, 1) if script.__name__ == "qt_opt" else (4, 2)
    first = dict(script.QNetwork(*sizes, small(script)).named_parameters())
    last = torch.load(run_dir / "model.pt", weights_only=True)
    assert all((last[name] - first[name]).abs().max() > 1e-3 for name in first), "every layer moved"
    assert all((parameter.grad != 0).any() for parameter in updates[-1][0][0].parameters())


@pytest.mark.bug(66)
@pytest.mark.parametrize(
    ("observation_space", "size"),
    [
        (Discrete(5), 5),
        (Box(-1, 1, (2, 3), np.float64), 6),
        (Tuple((Discrete(2), Box(-1, 1, (3,)))), 5),
        (Dict({"a": Discrete(3), "b": MultiBinary(2)}), 5),
        (Box(0, 255, (4, 4, 3), np.uint8), 48),
    ],
)
def test_observation_spaces(small, spy, register, observation_space, size):
    updates, buffers = spy("compute_loss"), spy("ReplayBuffer")
    run_dir = train(small(env_id=register(observation_space, Discrete(2)), buffer_size=1_000))
    assert_learned_something(run_dir, updates)
    assert buffers[0][1].obs.shape == (1_000, size)


def test_discrete_observations_are_one_hot(small, register):
    env = dqn.make_env(small(env_id=register(Discrete(5), Discrete(2), obs=3)))
    assert env.reset(seed=0)[0].tolist() == [0, 0, 0, 1, 0]


@pytest.mark.bug(41)
def test_pixels_are_scaled_once(small, spy, register):
    """A frame of 0, 51 and 255 enters the network as 0, 0.2 and 1."""
    frame = np.array([[0, 51, 255]], np.uint8)
    updates = spy("compute_loss")
    train(small(env_id=register(Box(0, 255, (1, 3), np.uint8), Discrete(2), obs=frame)))
    _, _, batch, _ = updates[-1][0]
    expected = torch.tensor([0 / 255, 51 / 255, 255 / 255])
    assert torch.allclose(batch.obs, expected) and torch.allclose(batch.next_obs, expected)


@pytest.mark.bug(41, 66)
@pytest.mark.parametrize("name", ["dqn", "fqi"])
def test_pixels_are_scaled_inside_of_a_dict_and_a_tuple_too(small, register, name):
    """A picture of 0, 51 and 255 beside a number, a choice of three and bytes up to 3: each as it is alone."""
    script = importlib.import_module(name)
    picture, few = Box(0, 255, (1, 3), np.uint8), Box(0, 3, (2,), np.uint8)
    parts = {"a": picture, "b": Box(-99, 99, (1,)), "c": Discrete(3), "d": few}
    obs = {"a": np.array([[0, 51, 255]], np.uint8), "b": np.float32([51]), "c": 2, "d": np.uint8([2, 3])}
    expected = [0, 0.2, 1, 51, 0, 0, 1, 2, 3]
    for space, sent in (
        (Dict(parts), obs),
        (Tuple(parts.values()), tuple(obs.values())),
        (Dict({"deeper": Tuple(parts.values())}), {"deeper": tuple(obs.values())}),
    ):
        env = script.make_env(script.Args(env_id=register(space, Discrete(2), obs=sent)))
        found, _ = env.reset(seed=0)
        assert found.tolist() == pytest.approx(expected) and found.dtype == np.float32
        assert env.observation_space.shape == found.shape


@pytest.mark.bug(65)
def test_a_transition_takes_no_more_memory_than_its_numbers(script, small, spy):
    """CartPole: 2 x 4 numbers of 4 bytes, 8 for the action, 4 for the reward, 1 for the end; some take more."""
    buffers = spy("ReplayBuffer", script)
    train(small(script, buffer_size=2**10))
    buffer = buffers[0][1]
    arrays = [*vars(buffer).values(), *vars(getattr(buffer, "tree", None) or SimpleNamespace()).values()]
    taken = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
    least = (
        2 * 3 * 4 + 4 + 4 + 1 if script.__name__ == "qt_opt" else 2 * 4 * 4 + 8 + 4 + 1
    )  # Pendulum's action is a number
    assert 2**10 * least <= taken <= 2**10 * (least + MORE_BYTES.get(script.__name__, 0))


def test_other_observations_are_not_scaled(small, register):
    obs = np.array([0.0, 51.0, 255.0])
    env = dqn.make_env(small(env_id=register(Box(0, 255, (3,), np.float64), Discrete(2), obs=obs)))
    assert env.reset(seed=0)[0].tolist() == [0, 51, 255] and env.reset()[0].dtype == np.float32


@pytest.mark.parametrize("space", [Box(0, 1, (3,), np.uint8), Discrete(3, dtype=np.uint8)])
def test_bytes_that_are_no_pixels_are_not_scaled(small, register, space):
    obs = np.array([0, 1, 0], np.uint8) if isinstance(space, Box) else 1
    env = dqn.make_env(small(env_id=register(space, Discrete(2), obs=obs)))
    assert env.reset(seed=0)[0].tolist() == [0, 1, 0] and env.reset()[0].dtype == np.float32


def test_environment_that_takes_no_render_mode(small, spy):
    entry_point = partial(Spaces, Discrete(2), Discrete(3))
    gym.register("Plain-v0", lambda: entry_point(), disable_env_checker=True)
    updates = spy("compute_loss")
    assert_learned_something(train(small(env_id="Plain-v0")), updates)
    gym.register("Wanting-v0", lambda size: entry_point(), disable_env_checker=True)
    with pytest.raises(dqn.Stop, match=r"cannot make Wanting-v0: .*size"):
        train(small(env_id="Wanting-v0"))


@pytest.mark.bug(16)
def test_epsilon_decides_between_chance_and_greed(script, small, spy, monkeypatch):
    """Greedy is action 1, and chance 0 or 1: action 0 has the probability ε / 2."""
    if script.__name__ == "qt_opt":
        pytest.skip("its actions are continuous: see test_qt_opt.py")

    def greedy(*_):
        q = np.array([0.0, 1.0])
        return (q, None) if script.__name__ == "drqn" else q

    monkeypatch.setattr(script.QNetwork, "q_values", greedy)
    buffers = spy("ReplayBuffer", script)
    train(small(script, env_id="Counter-v0", start_e=0.0, end_e=0.0))
    assert buffers[0][1].action[:400].tolist() == [1] * 400
    train(small(script, env_id="Counter-v0", start_e=1.0, end_e=0.0, exploration_fraction=0.5))  # 0 after 200 steps
    action = buffers[1][1].action[:400]
    assert action[200:].tolist() == [1] * 200
    # ε falls from 1 to 0.5 in the first 100 steps and on to 0 in the next: 37.5 and 12.5 are expected, σ 4.8 and 3.3
    zeros = [(action[first : first + 100] == 0).sum() for first in (0, 100)]
    assert abs(zeros[0] - 37.5) < 15 and abs(zeros[1] - 12.5) < 10


def test_actions_that_do_not_start_at_zero(small, spy, register):
    env_id = register(Box(-1, 1, (2,)), Discrete(3, start=5))
    updates = spy("compute_loss")
    assert_learned_something(train(small(env_id=env_id)), updates)
    with closing(dqn.make_env(small(env_id=env_id))) as env:
        env.reset(seed=0)
        for action in range(3):
            env.step(action)
        assert env.unwrapped.actions == [5, 6, 7]


def test_one_dimensional_box_actions_are_discretised(small, spy):
    updates = spy("compute_loss")
    assert_learned_something(train(small(env_id="Pendulum-v1", action_bins=5)), updates)
    seen = []
    with closing(dqn.make_env(small(env_id="Pendulum-v1", action_bins=5))) as env:
        env.reset(seed=0)

        def watched(torque):
            seen.append(float(torque[0]))
            return np.zeros(3), 0.0, False, False, {}

        env.unwrapped.step = watched
        for action in range(5):
            env.step(action)
    assert len(set(seen)) == 5 and seen == sorted(seen) and -2 <= seen[0] < -1 and 1 < seen[-1] <= 2


@pytest.mark.parametrize("env_id", ["Acrobot-v1", "MountainCar-v0", "LunarLander-v3", "FrozenLake-v1", "Taxi-v4"])
def test_environments_of_the_ladder(small, spy, env_id):
    updates = spy("compute_loss")
    assert_learned_something(train(small(env_id=env_id, eval_episodes=1)), updates)


def test_atari_by_its_usual_name(small, spy):
    """Whole frames through a small fully connected network: it need not learn, but it must run."""
    updates = spy("compute_loss")
    run_dir = train(small(env_id="ALE/Pong-v5", max_episode_steps=100, buffer_size=300))
    assert_learned_something(run_dir, updates)
    assert run_dir.name.startswith("ALE-Pong-v5__dqn__1__")


def test_environment_that_registers_itself_on_import(small, spy, tmp_path, monkeypatch):
    (tmp_path / "third_party.py").write_text(
        "import gymnasium as gym\ngym.register('Mine-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    updates = spy("compute_loss")
    assert_learned_something(train(small(env_id="third_party:Mine-v0")), updates)


def test_environment_without_a_limit_is_given_one(small):
    assert gym.spec("CliffWalking-v1").max_episode_steps is None
    for flag, limit in ((None, 10_000), (7, 7)):
        env = dqn.make_env(small(env_id="CliffWalking-v1", max_episode_steps=flag))
        env.reset(seed=0)
        for t in range(1, limit + 1):
            _, _, terminated, truncated, _ = env.step(0)  # up: it stays at the upper edge
            assert not terminated and truncated == (t == limit)


WITH_NETWORK = [rung.script[:-3] for rung in HERE if "class QNetwork" in read(rung.script)]
# Beside 500 steps with ε = 0: environments at once, or a smaller run; and the acts before the last evaluation.
RUN_ONCE = {
    "pqn": ({"num_envs": 5, "num_steps": 20, "num_minibatches": 2, "update_epochs": 2}, 500 // 5),
    "dqn_atari": ({"total_timesteps": 60, "learning_starts": 30, "batch_size": 4, "buffer_size": 60}, 60),
}
RUN_ONCE["dqn_atari"][0].update(num_threads=1, max_frames=80, cuda=False, eval_frequency=61, eval_episodes=1)


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """edited(name) -> the script as a module, with one more linear layer at one place of its network."""

    def load(name):
        parts = definitions(read(f"{name}.py"))
        size = {"qt_opt": "obs_dim + action_dim", "dqn_atari": "84"}.get(name, "obs_dim")
        begin, forward = parts["QNetwork"].split("    def forward(")
        assert begin.count("super().__init__()\n") == 1
        begin = begin.replace(
            "super().__init__()\n", f"super().__init__()\n        self.inserted = nn.Linear({size}, {size})\n"
        )
        forward = re.sub(r"(\n        x = .*\n)", r"\1        x = self.inserted(x)\n", forward, count=1)
        assert forward.count("self.inserted(x)") == 1
        path = tmp_path / f"edited_{name}.py"
        path.write_text(read(f"{name}.py").replace(parts["QNetwork"], f"{begin}    def forward({forward}"))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_the_network_is_written_once(edited, tmp_path, monkeypatch, name):
    """A layer is inserted at one place of the script's text. Each act calls the layer, each update learns it, and the
    values that the script acts by are those of forward."""
    script, networks, acts, learned = edited(name), [], [], []
    act = "best_action" if name == "qt_opt" else "q_values"
    make, acting, evaluate = script.QNetwork, getattr(script.QNetwork, act), script.evaluate

    def called(layer, *_):
        if acts and acts[-1] is None:
            acts[-1] = layer
        elif torch.is_grad_enabled():
            learned.append(layer)

    def watched_make(*arguments):
        networks.append(make(*arguments))
        networks[-1].inserted.register_forward_hook(called)
        networks[-1].first = networks[-1].inserted.weight.detach().clone()
        return networks[-1]

    def watched_act(self, *arguments):
        acts.append(None)
        return acting(self, *arguments)

    def watched_evaluate(*arguments):
        seen.append(list(acts))
        return evaluate(*arguments)

    seen = []
    monkeypatch.setattr(script, "QNetwork", watched_make)
    monkeypatch.setattr(make, act, watched_act)
    monkeypatch.setattr(script, "evaluate", watched_evaluate)
    more, expected = RUN_ONCE.get(name, ({"learning_starts": 100, "batch_size": 16}, 500))
    flags = {"total_timesteps": 500, "start_e": 0.0, "end_e": 0.0, "eval_frequency": 501, "runs_dir": tmp_path}
    flags |= {} if name == "dqn_atari" else {"hidden_sizes": (16,), "eval_episodes": 1, "final_eval_episodes": 1}
    run_dir = train(script.Args(**{**flags, **more}))
    network = networks[0]
    assert seen[0] == [network.inserted] * expected, "each act before the evaluation"
    assert set(acts) == {network.inserted}, "and in it"
    assert learned == [network.inserted] * result(run_dir)["updates"], "each update"
    assert (network.inserted.weight - network.first).abs().max() > 1e-4 and (network.inserted.weight.grad != 0).any()

    network.eval()  # without noise
    obs = torch.rand(network.first.shape[0]) if name != "dqn_atari" else torch.randint(256, (1, 4, 84, 84)).byte()
    obs = obs[: -network.action_dim] if name == "qt_opt" else obs
    values = []
    for _ in range(2):
        if name == "qt_opt":
            action, q = network.best_action(obs.numpy(), script.Args())
            forward = network(obs, torch.from_numpy(action))
        elif name == "drqn":
            (q, _), (forward, _) = network.q_values(obs.numpy(), None), network(obs.unsqueeze(0))
        else:
            q, forward = network.q_values(obs.numpy()), network(obs)
        forward = forward.softmax(dim=-1) @ network.atoms if name in ("c51", "rainbow") else forward
        assert np.ravel(q) == pytest.approx(forward.detach().flatten().numpy(), rel=1e-4, abs=1e-5)
        values.append(np.ravel(q).tolist())
        with torch.no_grad():
            network.inserted.weight.mul_(-2)
    assert values[0] != pytest.approx(values[1], rel=1e-2, abs=1e-4), "the layer's weights decide"


@pytest.mark.bug(37)
def test_same_seed_twice_is_equal_to_the_bit(script, small):
    runs = [train(small(script, save_model=True, seed=7)) for _ in range(2)]
    assert runs[0] != runs[1]
    first, second = (scalars(run_dir) for run_dir in runs)
    assert {"charts/episodic_return", "losses/td_loss", "losses/q_values", "eval/q_predicted"} <= first.keys()
    del first["charts/SPS"], second["charts/SPS"]  # only the clock may differ
    assert first == second
    assert torch.equal(weights(runs[0]), weights(runs[1]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_with_cuda_networks_and_batches_are_on_the_gpu(script, small, spy):
    updates = spy("compute_loss", script)
    run_dir = train(small(script, cuda=True, save_model=True))
    assert_learned_something(run_dir, updates)
    for (*networks, batch, _), _ in updates:
        found = [parameter.device.type for network in networks for parameter in network.parameters()]
        assert {*found, *(part.device.type for part in batch)} == {"cuda"}


@pytest.mark.bug(37)
def test_two_seeds_differ_in_weights_actions_and_resets(small, spy):
    networks, buffers = spy("QNetwork"), spy("ReplayBuffer")
    for seed in (1, 2):
        train(small(seed=seed, learning_starts=396, learning_rate=1e-6))  # one small update: the weights of the start
    first, second = (networks[i][1].state_dict()["hidden.0.weight"] for i in (0, 2))
    assert (first - second).abs().max() > 0.1
    one, two = (buffer for _, buffer in buffers)
    assert not np.array_equal(one.action[:100], two.action[:100])
    assert not np.array_equal(one.obs[0], two.obs[0])


@pytest.mark.bug(38)
def test_episodes_start_differently(small, spy):
    buffers = spy("ReplayBuffer")
    train(small())
    buffer = buffers[0][1]
    starts = buffer.obs[1 : buffer.size][buffer.terminated[: buffer.size - 1]]
    assert len(starts) > 5 and len(np.unique(starts, axis=0)) == len(starts)


@pytest.mark.bug(39)
def test_logged_return_is_the_sum_of_raw_rewards(small):
    logged = scalars(train(small(env_id="Counter-v0")))
    rows = [(step, 1.0 + 2 + 3 + 4 + 5) for step in range(100, 401, 100)]
    assert logged["charts/episodic_return"] == rows
    assert logged["charts/episodic_length"] == [(step, 5.0) for step, _ in rows]
    assert logged["eval/episodic_return"] == [(200, 15.0), (400, 15.0)]


def test_metrics_have_their_usual_names(script, small):
    logged = scalars(train(small(script)))
    expected = "charts/episodic_return charts/episodic_length charts/SPS charts/epsilon losses/td_loss losses/q_values "
    expected += "eval/episodic_return eval/episodic_return_std eval/q_predicted eval/q_realised"
    assert set(logged) == {*expected.split(), *MORE_SCALARS.get(script.__name__, "").split()}
    assert [step for step, _ in logged["eval/episodic_return"]] == [200, 400]


def test_losses_are_logged_from_the_first_update_on(small):
    logged = scalars(train(small(total_timesteps=200, learning_starts=199)))  # at step 200 there is one
    assert [step for step, _ in logged["losses/td_loss"]] == [200]


def test_speed_is_steps_by_seconds(small, monkeypatch):
    """By a clock that a step moves on by half a second: 2 steps a second, 200 seconds in all."""
    clock, add = [1e9], dqn.ReplayBuffer.add

    def slow(self, *row):
        clock[0] += 0.5
        add(self, *row)

    monkeypatch.setattr(dqn.ReplayBuffer, "add", slow)
    monkeypatch.setattr(dqn, "time", SimpleNamespace(time=lambda: clock[0], time_ns=lambda: int(clock[0])))
    run_dir = train(small())
    assert scalars(run_dir)["charts/SPS"] == [(300, 2.0), (400, 2.0)]
    assert (result(run_dir)["seconds"], result(run_dir)["sps"]) == (200.0, 2.0)


def test_predicted_and_realised_value(small):
    """Counter pays 1 to 5. With γ = 1/2, an episode that terminates realises, from its end, 5, 4 + 5/2 = 6.5,
    3 + 6.5/2 = 6.25, 2 + 6.25/2 = 5.125 and 1 + 5.125/2 = 3.5625. One that is truncated goes on for max Q = 8:
    5 + 8/2 = 9, 4 + 9/2 = 8.5, 3 + 8.5/2 = 7.25, 2 + 7.25/2 = 5.625 and 1 + 5.625/2 = 3.8125; the last two of its five
    states are too near the end to count."""
    args = small(env_id="Counter-v0", gamma=0.5)

    def q_values(obs):  # max Q is 8 at the two final observations 5 and 1005, elsewhere the observation's number
        return np.array([0.0, 8.0 if obs[0] % 1000 == 5 else obs[0]])

    metrics, returns = dqn.evaluate(dqn.make_env(args), q_values, args, 2)
    assert returns == [15.0, 15.0]
    assert metrics["eval/q_predicted"] == pytest.approx((0 + 1 + 2 + 3 + 4 + 1000 + 1001 + 1002) / 8)
    terminated, truncated = [5, 6.5, 6.25, 5.125, 3.5625], [7.25, 5.625, 3.8125]
    assert metrics["eval/q_realised"] == pytest.approx(sum(terminated + truncated) / 8)
    assert metrics["eval/episodic_return"] == 15.0 and metrics["eval/episodic_return_std"] == 0.0


def test_the_first_half_of_a_truncated_episode_counts_if_its_length_is_even_too(small):
    """Rewards 1 to 4, then max Q = 4 and γ = 1/2: 4 + 4/2 = 6, 3 + 6/2 = 6, 2 + 6/2 = 5 and 1 + 5/2 = 3.5."""
    args = small(env_id="Counter-v0", gamma=0.5, max_episode_steps=4)
    metrics, _ = dqn.evaluate(dqn.make_env(args), lambda obs: np.array([-1.0, obs[0]]), args, 1)
    assert metrics["eval/q_predicted"] == (0 + 1) / 2 and metrics["eval/q_realised"] == (3.5 + 5) / 2


@pytest.mark.bug(70)
def test_each_episode_of_an_evaluation_has_its_own_seed(small, monkeypatch):
    """1,000 for each seed of a run, and a million away from the seeds that training uses."""
    seeds, reset = [], Counter.reset

    def watched(self, *, seed=None, **rest):
        seeds.append(seed)
        return reset(self, seed=seed)

    monkeypatch.setattr(Counter, "reset", watched)
    args = small(env_id="Counter-v0", seed=7)
    dqn.evaluate(dqn.make_env(args), lambda obs: np.array([0.0, 1.0]), args, 3)
    assert seeds == [1_007_000, 1_007_001, 1_007_002]


def test_evaluation_is_greedy_and_seeded(small, monkeypatch):
    """The same Q gives the same episodes every time, other than those of another seed."""
    args, other, env = small(), small(seed=2), dqn.make_env(small())
    q_values = dqn.QNetwork(4, 2, args).q_values
    assert dqn.evaluate(env, q_values, args, 3) == dqn.evaluate(env, q_values, args, 3)
    assert dqn.evaluate(env, q_values, args, 3)[0] != dqn.evaluate(env, q_values, other, 3)[0]
    actions = []

    def watched(self, action):
        actions.append(action)
        return self.observe(), 1.0, True, False, {}

    monkeypatch.setattr(Spaces, "step", watched)
    gym.register("Greedy-v0", Spaces, kwargs={"observation_space": Discrete(2), "action_space": Discrete(3)})
    dqn.evaluate(dqn.make_env(small(env_id="Greedy-v0")), lambda obs: np.array([0.0, 2.0, 1.0]), args, 30)
    assert actions == [1] * 30


@pytest.mark.bug(63, 72)
def test_evaluations_are_equal_when_repeated_and_leave_training_alone(script, small, monkeypatch):
    """One run is evaluated 16 times, each time twice with the same result, the other run once: equal to the bit."""
    seldom, evaluate, repeated = train(small(script, save_model=True, eval_frequency=401)), script.evaluate, []

    def twice(*arguments):
        first, second = evaluate(*arguments), evaluate(*arguments)
        repeated.append(first == second)
        return first

    monkeypatch.setattr(script, "evaluate", twice)
    often = train(small(script, save_model=True, eval_frequency=25, eval_episodes=1))
    assert repeated == [True] * 16
    one, two = scalars(often), scalars(seldom)
    for name in ("charts/episodic_return", "charts/episodic_length", "losses/td_loss", "losses/q_values"):
        assert one[name] == two[name]
    assert torch.equal(weights(often), weights(seldom))


def test_run_folder(small):
    run_dir = train(small(save_model=True, seed=3))
    names = sorted(path.name for path in run_dir.iterdir())
    assert [name for name in names if not name.startswith("events.out.")] == [
        "args.json",
        "best_model.pt",
        "model.pt",
        "result.json",
    ]
    assert len(names) == 5
    env_id, exp_name, seed, unix_time = run_dir.name.split("__")
    assert (env_id, exp_name, seed) == ("CartPole-v1", "dqn", "3") and int(unix_time) > 1.7e9
    args = json.loads((run_dir / "args.json").read_text())
    assert args["learning_starts"] == 200 and args["hidden_sizes"] == [16] and args["seed"] == 3
    assert {"command", "python", "torch", "gymnasium", "numpy"} <= args.keys()
    assert args["sha256"] == hashlib.sha256((ROOT / "dqn.py").read_bytes()).hexdigest()
    final = result(run_dir)
    assert final["global_step"] == 400 and final["updates"] == 50 and final["sps"] > 0
    assert final["eval/episodic_return"] == pytest.approx(sum(final["returns"]) / 2)
    logged = dict(scalars(run_dir)["eval/episodic_return"])
    assert final["best_return"] == pytest.approx(max(logged.values()))
    assert logged[final["best_step"]] == pytest.approx(final["best_return"])


def test_two_runs_of_the_same_second_get_two_folders(small, monkeypatch):
    monkeypatch.setattr(dqn.time, "time", lambda: 1_800_000_000.5)
    folders = [dqn.make_run_dir(small()) for _ in range(3)]
    assert [folder.name[-10:] for folder in folders] == ["1800000000", "1800000001", "1800000002"]


def test_best_weights_are_those_of_the_best_evaluation(small, monkeypatch):
    """Evaluations return 1, 5, 3 and 5: the best weights are those of the second, which was there first."""
    seen, evaluate = [], dqn.evaluate

    def fake(env, q_values, *rest):
        metrics, returns = evaluate(env, q_values, *rest)
        seen.append(q_values(np.ones(4, np.float32)))
        return metrics | {"eval/episodic_return": [1.0, 5.0, 3.0, 5.0][len(seen) - 1]}, returns

    monkeypatch.setattr(dqn, "evaluate", fake)
    run_dir = train(small(total_timesteps=800, save_model=True))
    network = dqn.QNetwork(4, 2, small())
    for file, i in (("best_model.pt", 1), ("model.pt", 3)):
        network.load_state_dict(torch.load(run_dir / file, weights_only=True))
        assert network.q_values(np.ones(4, np.float32)) == pytest.approx(seen[i])
    assert result(run_dir)["best_step"] == 400
