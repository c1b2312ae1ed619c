"""Whole runs: that they learn, log, repeat themselves and leave what they promise (known bugs 37 to 41)."""

import json
import math
from functools import partial
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import Counter, Spaces, scalars, train
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple

import c51
import dqn
import drqn
import fqi
import n_step_dqn
import noisy_dqn
import per_dqn
import qt_opt
import rainbow

# A transition, beside dqn.py's: priorities and errors; where episodes ended; both without the errors; its age.
MORE_BYTES = {per_dqn: 40, n_step_dqn: 1, rainbow: 33, drqn: 8}

MORE_SCALARS = {
    per_dqn: "charts/beta",
    noisy_dqn: "charts/sigma_1 charts/sigma_2",
    c51: "losses/edge_mass losses/clipped_mass",
    rainbow: "charts/beta losses/clipped_mass",
}


def weights(run_dir):
    return torch.cat([w.flatten() for w in torch.load(run_dir / "model.pt", weights_only=True).values()])


def result(run_dir):
    return json.loads((run_dir / "result.json").read_text())


def assert_learned_something(run_dir, spied_updates):
    """Updates were made, as many as the flags say, and the weights are not those of the start."""
    assert result(run_dir)["updates"] == len(spied_updates) == 50
    assert math.isfinite(result(run_dir)["eval/episodic_return"])
    losses = scalars(run_dir)["losses/td_loss"]
    assert [step for step, _ in losses] == [300, 400] and all(value > 0 for _, value in losses)


def test_weights_move(script, small, spy):
    updates = spy("backpropagate", script)
    run_dir = train(small(script, save_model=True))
    assert_learned_something(run_dir, updates)
    torch.manual_seed(1)
    sizes = (3, 1) if script is qt_opt else (4, 2)
    first = dict(script.QNetwork(*sizes, small(script)).named_parameters())
    last = torch.load(run_dir / "model.pt", weights_only=True)
    assert all((last[name] - first[name]).abs().max() > 1e-3 for name in first), "every layer moved"
    assert all((parameter.grad != 0).any() for parameter in updates[-1][0][0].parameters())


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
    updates, buffers = spy("backpropagate"), spy("ReplayBuffer")
    run_dir = train(small(env_id=register(observation_space, Discrete(2)), buffer_size=1_000))
    assert_learned_something(run_dir, updates)
    assert buffers[0][1].obs.shape == (1_000, size)


def test_discrete_observations_are_one_hot(small, register):
    env = dqn.make_env(small(env_id=register(Discrete(5), Discrete(2), obs=3)))
    assert env.reset(seed=0)[0].tolist() == [0, 0, 0, 1, 0]


def test_pixels_are_scaled_once(small, spy, register):
    """A frame of 0, 51 and 255 enters the network as 0, 0.2 and 1."""
    frame = np.array([[0, 51, 255]], np.uint8)
    updates = spy("backpropagate")
    train(small(env_id=register(Box(0, 255, (1, 3), np.uint8), Discrete(2), obs=frame)))
    _, _, batch, _ = updates[-1][0]
    expected = torch.tensor([0 / 255, 51 / 255, 255 / 255])
    assert torch.allclose(batch.obs, expected) and torch.allclose(batch.next_obs, expected)


@pytest.mark.parametrize("script", [dqn, fqi])
def test_pixels_are_scaled_inside_of_a_dict_and_a_tuple_too(small, register, script):
    """A picture of 0, 51 and 255 beside a number, a choice of three and bytes up to 3: each as it is alone."""
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


def test_a_replay_buffer_that_does_not_fit_is_refused_before_training(script, small, capsys, monkeypatch):
    """CartPole: 2 x 4 numbers of 4 bytes, 8 for the action, 4 for the reward, 1 for the end; some take more."""
    needed = 100_000_000 * (2 * 4 * 4 + 8 + 4 + 1 + MORE_BYTES.get(script, 0))
    if script is qt_opt:  # Pendulum: 2 x 3 numbers, and one of 4 bytes for the action
        needed = 100_000_000 * (2 * 3 * 4 + 4 + 4 + 1)
    monkeypatch.setattr(script.psutil, "virtual_memory", lambda: SimpleNamespace(available=needed - 1))
    with pytest.raises(script.BadInput, match="lower --buffer-size"):
        train(small(script, buffer_size=100_000_000))
    assert not small().runs_dir.exists(), "no run folder"
    monkeypatch.setattr(script.psutil, "virtual_memory", lambda: SimpleNamespace(available=needed))
    script.train(small(script, buffer_size=100_000_000, total_timesteps=240))  # untouched memory is not taken
    script.train(small(script))
    assert capsys.readouterr().out.count("replay buffer: ") == 1, "only where it is large"


def test_the_replay_buffer_takes_what_it_says():
    for script, *more in (
        (dqn,),
        (per_dqn, "proportional", 0.6, 1e-6),
        (n_step_dqn, 3, 0.99),
        (rainbow, rainbow.Args()),
        (drqn, 20, 0),
    ):
        buffer = script.ReplayBuffer(2**10, 3, *more)
        arrays = [*vars(buffer).values(), *vars(getattr(buffer, "tree", script)).values()]
        taken = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
        assert 2**10 * (8 * 3 + 13) <= taken <= 2**10 * (8 * 3 + 13 + MORE_BYTES.get(script, 0))
    buffer = qt_opt.ReplayBuffer(2**10, 3, 2)
    taken = sum(array.nbytes for array in vars(buffer).values() if isinstance(array, np.ndarray))
    assert taken == 2**10 * (8 * 3 + 4 * 2 + 4 + 1)


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
    updates = spy("backpropagate")
    assert_learned_something(train(small(env_id="Plain-v0")), updates)
    gym.register("Wanting-v0", lambda size: entry_point(), disable_env_checker=True)
    with pytest.raises(dqn.BadInput, match=r"cannot make Wanting-v0: .*size"):
        train(small(env_id="Wanting-v0"))


def test_epsilon_decides_between_chance_and_greed(script, small, spy, monkeypatch):
    """Greedy is action 1, and chance 0 or 1: action 0 has the probability ε / 2."""
    if script is qt_opt:
        pytest.skip("its actions are continuous: see test_qt_opt.py")

    def greedy(*_):
        return np.array([0.0, 1.0])

    acting = (lambda: greedy) if script is drqn else greedy  # drqn.py's is made anew for each episode
    monkeypatch.setattr(script.QNetwork, "as_numpy_function", lambda self: acting)
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
    updates = spy("backpropagate")
    assert_learned_something(train(small(env_id=env_id)), updates)
    with dqn.closing(dqn.make_env(small(env_id=env_id))) as env:
        env.reset(seed=0)
        for action in range(3):
            env.step(action)
        assert env.unwrapped.actions == [5, 6, 7]


def test_one_dimensional_box_actions_are_discretised(small, spy):
    updates = spy("backpropagate")
    assert_learned_something(train(small(env_id="Pendulum-v1", action_bins=5)), updates)
    seen = []
    with dqn.closing(dqn.make_env(small(env_id="Pendulum-v1", action_bins=5))) as env:
        env.reset(seed=0)
        env.unwrapped.step = lambda torque: (seen.append(float(torque[0])), (np.zeros(3), 0.0, False, False, {}))[1]
        for action in range(5):
            env.step(action)
    assert len(set(seen)) == 5 and seen == sorted(seen) and -2 <= seen[0] < -1 and 1 < seen[-1] <= 2


@pytest.mark.parametrize("env_id", ["Acrobot-v1", "MountainCar-v0", "LunarLander-v3", "FrozenLake-v1", "Taxi-v4"])
def test_environments_of_the_ladder(small, spy, env_id):
    updates = spy("backpropagate")
    assert_learned_something(train(small(env_id=env_id, eval_episodes=1)), updates)


def test_atari_by_its_usual_name(small, spy):
    """Whole frames through a small fully connected network: it need not learn, but it must run."""
    updates = spy("backpropagate")
    run_dir = train(small(env_id="ALE/Pong-v5", max_episode_steps=100, buffer_size=300))
    assert_learned_something(run_dir, updates)
    assert run_dir.name.startswith("ALE-Pong-v5__dqn__1__")


def test_environment_that_registers_itself_on_import(small, spy, tmp_path, monkeypatch):
    (tmp_path / "third_party.py").write_text(
        "import gymnasium as gym\ngym.register('Mine-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    updates = spy("backpropagate")
    assert_learned_something(train(small(env_id="third_party:Mine-v0")), updates)


def test_environment_without_a_limit_is_given_one(small):
    assert gym.spec("CliffWalking-v1").max_episode_steps is None
    for flag, limit in ((None, 10_000), (7, 7)):
        env = dqn.make_env(small(env_id="CliffWalking-v1", max_episode_steps=flag))
        env.reset(seed=0)
        for t in range(1, limit + 1):
            _, _, terminated, truncated, _ = env.step(0)  # up: it stays at the upper edge
            assert not terminated and truncated == (t == limit)


def test_same_seed_twice_is_equal_to_the_bit(script, small):
    runs = [train(small(script, save_model=True, seed=7)) for _ in range(2)]
    assert runs[0] != runs[1]
    first, second = (scalars(run_dir) for run_dir in runs)
    assert {"charts/episodic_return", "losses/td_loss", "losses/q_values", "eval/q_predicted"} <= first.keys()
    del first["charts/SPS"], second["charts/SPS"]  # the clock is the one thing that may differ
    assert first == second
    assert torch.equal(weights(runs[0]), weights(runs[1]))


def test_with_cuda_networks_batches_and_noise_go_to_the_gpu(script, small, monkeypatch):
    """Without one: what would move there is noted and stays, and what comes back is a copy, as it would be. So a run
    that still acts with the weights of before an update would differ from that of the CPU."""
    runs, gpu, moved = [scalars(train(small(script)))], object(), []

    def watched(kind, to):
        def move(self, *where, **more):
            if where != (gpu,):
                return to(self, *where, **more)
            moved.append(kind)
            return self

        return move

    for kind in (torch.nn.Module, torch.Tensor):
        monkeypatch.setattr(kind, "to", watched(kind.__name__, kind.to))
    if script is not drqn:  # whose third network acts, and is on the CPU in any case
        monkeypatch.setattr(torch.Tensor, "cpu", torch.Tensor.clone)
    there = SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "none", manual_seed_all=lambda _: None)
    pretended = {"cuda": there, "device": lambda name: {"cuda": gpu}[name]}
    monkeypatch.setattr(script, "torch", SimpleNamespace(**vars(torch) | pretended))
    runs.append(scalars(train(small(script, cuda=True))))
    assert moved.count("Module") == (3 if script is qt_opt else 2)
    noise = script in (noisy_dqn, rainbow)
    assert moved.count("Tensor") == 50 * (len(script.Batch._fields) + noise)
    for run in runs:
        del run["charts/SPS"]
    assert runs[0] == runs[1]


def test_two_seeds_differ_in_weights_actions_and_resets(small, spy):
    networks, buffers = spy("QNetwork"), spy("ReplayBuffer")
    for seed in (1, 2):
        train(small(seed=seed, learning_starts=396, learning_rate=1e-6))  # one small update: the weights of the start
    first, second = (networks[i][1].state_dict()["0.weight"] for i in (0, 2))
    assert (first - second).abs().max() > 0.1
    one, two = (buffer for _, buffer in buffers)
    assert not np.array_equal(one.action[:100], two.action[:100])
    assert not np.array_equal(one.obs[0], two.obs[0])


def test_episodes_start_differently(small, spy):
    buffers = spy("ReplayBuffer")
    train(small())
    buffer = buffers[0][1]
    starts = buffer.obs[1 : buffer.size][buffer.terminated[: buffer.size - 1]]
    assert len(starts) > 5 and len(np.unique(starts, axis=0)) == len(starts)


def test_logged_return_is_the_sum_of_raw_rewards(small):
    logged = scalars(train(small(env_id="Counter-v0")))
    episodes = [(step, 1.0 + 2 + 3 + 4 + 5) for step in range(5, 401, 5)]
    assert logged["charts/episodic_return"] == episodes
    assert logged["charts/episodic_length"] == [(step, 5.0) for step, _ in episodes]
    assert logged["eval/episodic_return"] == [(200, 15.0), (400, 15.0)]


def test_metrics_have_their_usual_names(script, small):
    logged = scalars(train(small(script)))
    expected = "charts/episodic_return charts/episodic_length charts/SPS charts/epsilon losses/td_loss losses/q_values "
    expected += "eval/episodic_return eval/episodic_return_std eval/q_predicted eval/q_realised"
    assert set(logged) == {*expected.split(), *MORE_SCALARS.get(script, "").split()}
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
    args = small(env_id="Counter-v0", gamma=0.5, eval_episodes=2)
    # max Q is 8 at the two final observations 5 and 1005, and the number of the observation before that.
    returns, metrics = dqn.evaluate(args, lambda obs: np.array([0.0, 8.0 if obs[0] % 1000 == 5 else obs[0]]))
    assert returns == [15.0, 15.0]
    assert metrics["eval/q_predicted"] == pytest.approx((0 + 1 + 2 + 3 + 4 + 1000 + 1001 + 1002) / 8)
    terminated, truncated = [5, 6.5, 6.25, 5.125, 3.5625], [7.25, 5.625, 3.8125]
    assert metrics["eval/q_realised"] == pytest.approx(sum(terminated + truncated) / 8)
    assert metrics["eval/episodic_return"] == 15.0 and metrics["eval/episodic_return_std"] == 0.0


def test_the_first_half_of_a_truncated_episode_counts_if_its_length_is_even_too(small):
    """Rewards 1 to 4, then max Q = 4 and γ = 1/2: 4 + 4/2 = 6, 3 + 6/2 = 6, 2 + 6/2 = 5 and 1 + 5/2 = 3.5."""
    args = small(env_id="Counter-v0", gamma=0.5, eval_episodes=1, max_episode_steps=4)
    _, metrics = dqn.evaluate(args, lambda obs: np.array([-1.0, obs[0]]))
    assert metrics["eval/q_predicted"] == (0 + 1) / 2 and metrics["eval/q_realised"] == (3.5 + 5) / 2


def test_evaluation_seeds_its_first_episode_and_no_other(small, monkeypatch):
    """A million away from the seeds that training uses."""
    seeds, reset = [], Counter.reset
    monkeypatch.setattr(Counter, "reset", lambda self, *, seed=None, **rest: (seeds.append(seed), reset(self))[1])
    dqn.evaluate(small(env_id="Counter-v0", seed=7, eval_episodes=3), lambda obs: np.array([0.0, 1.0]))
    assert seeds == [1_000_007, None, None]


def test_evaluation_is_greedy_seeded_and_apart(small, spy, monkeypatch):
    """The same Q gives the same episodes every time, other than those of another seed, and touches no training."""
    args = small(eval_episodes=3)
    policy = dqn.QNetwork(4, 2, args).as_numpy_function()
    assert dqn.evaluate(args, policy) == dqn.evaluate(args, policy)
    assert dqn.evaluate(args, policy)[1] != dqn.evaluate(small(eval_episodes=3, seed=2), policy)[1]
    often, seldom = (scalars(train(small(eval_frequency=n, eval_episodes=n // 25))) for n in (25, 400))
    assert often["losses/td_loss"] == seldom["losses/td_loss"]
    actions = []
    monkeypatch.setattr(Spaces, "step", lambda self, a: (actions.append(a), (self.observe(), 1.0, True, False, {}))[1])
    gym.register("Greedy-v0", Spaces, kwargs={"observation_space": Discrete(2), "action_space": Discrete(3)})
    dqn.evaluate(small(env_id="Greedy-v0", eval_episodes=30), lambda obs: np.array([0.0, 2.0, 1.0]))
    assert actions == [1] * 30


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
    assert {"command", "commit", "python", "torch", "gymnasium", "numpy", "platform", "cpu_count"} <= args.keys()
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

    def fake(args, q_values, *rest):
        returns, metrics = evaluate(args, q_values, *rest)
        seen.append(q_values(np.ones(4, np.float32)))
        return returns, metrics | {"eval/episodic_return": [1.0, 5.0, 3.0, 5.0][len(seen) - 1]}

    monkeypatch.setattr(dqn, "evaluate", fake)
    run_dir = train(small(total_timesteps=800, save_model=True))
    network = dqn.QNetwork(4, 2, small())
    for file, i in (("best_model.pt", 1), ("model.pt", 3)):
        network.load_state_dict(torch.load(run_dir / file, weights_only=True))
        assert network.as_numpy_function()(np.ones(4, np.float32)) == pytest.approx(seen[i])
    assert result(run_dir)["best_step"] == 400
