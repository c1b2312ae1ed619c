"""dqn_atari.py: its environments, its replay buffer, its loop and its command line."""

import importlib.metadata
import json
import resource
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import ROOT, gradient, played, result, scalars, train
from moviepy import VideoFileClip
from scipy.stats import chisquare

import dqn_atari
from dqn_atari import Args, ReplayBuffer, Stop, make_env, with_protocol

CPU = torch.device("cpu")


@pytest.fixture
def small(tmp_path):
    """small(**arguments) -> Args of a run of 400 steps and 50 updates."""

    def make(**arguments):
        defaults = {"total_timesteps": 400, "learning_starts": 200, "batch_size": 4, "buffer_size": 1_000}
        defaults |= {"target_network_frequency": 50, "eval_frequency": 200, "eval_episodes": 2, "max_frames": 400}
        defaults |= {"env_id": "ALE/Breakout-v5", "num_threads": 1, "cuda": False, "runs_dir": tmp_path / "runs"}
        return Args(**defaults | arguments)

    return make


# --- Environments ---


def test_as_gymnasiums_own_wrappers_frame_by_frame():
    """AtariPreprocessing and FrameStackObservation on the same actions; a stack is black before the game's start."""
    gym.register_envs(__import__("ale_py"))
    rng = np.random.default_rng(0)
    for name in ("Pong", "Breakout", "SpaceInvaders"):
        args = with_protocol(Args(env_id=f"ALE/{name}-v5", noop_max=0, fire_reset=False))
        theirs = gym.make(args.env_id, frameskip=1, repeat_action_probability=0.0)
        theirs = gym.wrappers.AtariPreprocessing(theirs, noop_max=0)
        theirs = gym.wrappers.FrameStackObservation(theirs, 4, padding_type="zero")
        ours = make_env(args, 1)
        assert ours.single_action_space.n == theirs.action_space.n
        obs, _ = ours.reset(seed=np.array([5]))
        their_obs, _ = theirs.reset(seed=5)
        steps, done = 0, False
        while not done:
            assert np.array_equal(obs[0], their_obs), (name, steps)
            action = rng.integers(theirs.action_space.n)
            obs, reward, terminated, truncated, info = ours.step(np.array([action]))
            their_obs, their_reward, their_terminated, their_truncated, their_info = theirs.step(action)
            assert (reward[0], terminated[0], truncated[0]) == (their_reward, their_terminated, their_truncated)
            assert info["lives"][0] == their_info["lives"]
            steps, done = steps + 1, their_terminated or their_truncated
        assert np.array_equal(obs[0], their_obs) and steps > 100, "the final observation too, of a whole game"
        ours.close(), theirs.close()


def test_protocols_reach_the_emulator(monkeypatch):
    from ale_py import vector_env

    seen = []
    monkeypatch.setattr(vector_env, "AtariVectorEnv", lambda *args, **kwargs: seen.append((args, kwargs)))
    for flags in ({}, {"protocol": "machado"}, {"protocol": "machado", "noop_max": 7, "max_frames": 18_000}):
        make_env(with_protocol(Args(env_id="SpaceInvadersNoFrameskip-v4", **flags)), 3)
    names = "repeat_action_probability noop_max use_fire_reset max_num_frames_per_episode frameskip".split()
    assert [[kwargs[name] for name in names] for _, kwargs in seen] == [
        [0.0, 30, True, 108_000, 4],
        [0.25, 0, False, 108_000, 4],
        [0.25, 7, False, 18_000, 4],
    ]
    for args, kwargs in seen:
        assert args == ("space_invaders", 3)
        assert not kwargs["reward_clipping"] and not kwargs["episodic_life"]
    assert (
        with_protocol(Args()).terminal_on_life_loss
        and not with_protocol(Args(protocol="machado")).terminal_on_life_loss
    )


def test_a_lost_life_is_neither_a_gained_one_nor_the_end_nor_a_new_game():
    before, after = np.array([3, 2, 3, 3, 1, 0]), np.array([2, 1, 3, 4, 0, 5])
    assert dqn_atari.life_lost(after, before).tolist() == [True, True, False, False, False, False]


@pytest.mark.bug(38)
def test_games_begin_differently():
    """Of the Nature protocol, by random no-ops. Machado's have none: they part with the first sticky action."""
    for protocol, different in (("nature", 8), ("machado", 1)):
        env = make_env(with_protocol(Args(env_id="ALE/Breakout-v5", protocol=protocol, max_frames=200)), 2)
        obs, _ = env.reset(seed=np.array([1, 2]))
        first, ended = [*obs], np.zeros(2, np.bool_)
        while len(first) < 20:
            obs, _, terminated, truncated, _ = env.step(np.zeros(2, np.int64))
            first += [*obs[ended]]
            ended = terminated | truncated
        assert len({obs.tobytes() for obs in first}) >= different
        assert different > 1 or len({obs.tobytes() for obs in first}) == 1
        env.close()


def test_the_emulator_hands_out_arrays_of_its_own():
    """What the loop keeps while the emulator goes on must not change."""
    env = make_env(with_protocol(Args()), 2)
    obs, info = env.reset(seed=np.array([1, 2]))
    for _ in range(20):
        copies = obs.copy(), info["lives"].copy()
        env.send(np.array([1, 3]))
        next_obs, _, _, _, next_info = env.recv()
        assert np.array_equal(obs, copies[0]) and np.array_equal(info["lives"], copies[1])
        obs, info = next_obs, next_info
    env.close()


@pytest.mark.bug(41)
def test_a_known_frame_gives_known_network_input():
    """Pixels 0, 51 and 255 enter the first layer as 0, 0.2 and 1: scaled once, also on the way through NumPy."""
    network, seen = dqn_atari.QNetwork(4, 4, Args()), []
    network.conv1.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    obs = np.zeros((1, 4, 84, 84), np.uint8)
    obs[0, 1, 2, :3] = 0, 51, 255
    q = network(torch.from_numpy(obs))
    assert np.allclose(network.q_values(obs), q.detach().numpy())
    for x in seen:
        assert x.dtype == torch.float32 and x.shape == (1, 4, 84, 84)
        assert x[0, 1, 2, :3].tolist() == pytest.approx(
            [0 / 255, 51 / 255, 255 / 255]
        ) and x.sum().item() == pytest.approx(1.2)


LAYERS = ("conv1", "conv2", "conv3", "hidden", "output")


def test_the_network_is_that_of_the_paper():
    """Weights and biases: 8·8·4·32 + 32, 4·4·32·64 + 64, 3·3·64·64 + 64, 3136·512 + 512, 512·6 + 6.

    Strides are 4, 2 and 1. The input of a layer is max(0, the output of the layer before it).
    """
    sizes = [8224, 32832, 36928, 1606144, 3078]
    network, inputs, outputs = dqn_atari.QNetwork(4, 6, Args()), [], []

    def watched(layer, given, output):
        inputs.append(given[0].flatten())
        outputs.append(output.flatten())

    layers = [getattr(network, name) for name in LAYERS]
    assert [layer.weight.numel() + layer.bias.numel() for layer in layers] == sizes
    assert sum(parameter.numel() for parameter in network.parameters()) == sum(sizes)
    assert [layer.stride for layer in layers[:3]] == [(4, 4), (2, 2), (1, 1)]
    for layer in layers:
        layer.register_forward_hook(watched)
    q = network(torch.randint(256, (1, 4, 84, 84), dtype=torch.uint8))
    for before, after in zip(outputs, inputs[1:], strict=False):
        assert torch.equal(after, before.clamp(min=0)) and (before < 0).any()
    assert len(outputs) == 5 and torch.equal(outputs[-1], q.flatten()), "the last layer has no ReLU"


def test_the_first_weights_keep_the_size_of_signals():
    """W Wᵀ = 2 I: the rows are orthogonal, and make up for the half that a ReLU cuts off. Outputs begin near 0."""
    network = dqn_atari.QNetwork(4, 6, Args())
    for name, square in zip(LAYERS, [2, 2, 2, 2, 1e-4], strict=True):
        layer = getattr(network, name)
        rows = layer.weight.flatten(1)
        assert torch.allclose(rows @ rows.T, square * torch.eye(len(rows)), rtol=0, atol=1e-5 * square)
        assert not layer.bias.any()


# --- Replay: a frame's number stands in its first two pixels, its game in the third ---


def picture(number, game=0):
    frame = np.zeros((84, 84), np.uint8)
    frame[0, :3] = number // 256, number % 256, game
    return frame


def numbers(frames):
    """(..., 84, 84) -> the numbers of the frames, as nested lists. Black counts as 0."""
    return (frames[..., 0, 0].int() * 256 + frames[..., 0, 1]).tolist()


def add(buffer, number, action=0, reward=0, terminated=False, final=False):
    """Adds a row in which game g shows the frame `number`; the older frames of its stack are wrong on purpose."""
    obs = np.full((buffer.num_envs, 4, 84, 84), 99, np.uint8)
    obs[:, -1] = [picture(number, game) for game in range(buffer.num_envs)]
    wide = np.ones(buffer.num_envs, np.int64)
    buffer.add(obs, wide * action, wide * reward, wide * terminated > 0, wide * final > 0)


def transitions(buffer, draws=3_000):
    """Counts of all that can be drawn: {(frames of obs, frames of next_obs, action, reward, terminated): count}."""
    batch = buffer.sample(draws, np.random.default_rng(0), CPU)
    obs, next_obs = (map(tuple, numbers(frames)) for frames in (batch.obs, batch.next_obs))
    others = (tensor.tolist() for tensor in (batch.action, batch.reward, batch.terminated))
    return Counter(zip(obs, next_obs, *others, strict=True))


@pytest.mark.bug(27)
def test_stacks_stay_within_their_game():
    """Two games: frames 1 to 4, of which 4 is the final one of a game that terminated; then 5 to 7, truncated at 7."""
    buffer = ReplayBuffer(20, 1, CPU)
    add(buffer, 1, action=1)
    add(buffer, 2, action=2)
    add(buffer, 3, action=3, reward=1, terminated=True)
    add(buffer, 4, final=True)
    add(buffer, 5, action=4)
    add(buffer, 6, action=5)
    add(buffer, 7, final=True)
    add(buffer, 8, action=6)
    assert transitions(buffer).keys() == {
        ((0, 0, 0, 1), (0, 0, 1, 2), 1, 0, False),
        ((0, 0, 1, 2), (0, 1, 2, 3), 2, 0, False),
        ((0, 1, 2, 3), (1, 2, 3, 4), 3, 1, True),  # terminal, with its reward
        ((0, 0, 0, 5), (0, 0, 5, 6), 4, 0, False),
        ((0, 0, 5, 6), (0, 5, 6, 7), 5, 0, False),  # truncated: not terminal, and next_obs is the final one, not 8
    }


def test_a_lost_life_ends_the_episode_but_not_the_stack():
    """The game goes on, and the agent that plays sees the frames from before as well."""
    buffer = ReplayBuffer(20, 1, CPU)
    for number in (1, 2, 3, 4):
        add(buffer, number, terminated=number == 2)
    assert ((0, 1, 2, 3), (1, 2, 3, 4), 0, 0, False) in transitions(buffer)
    assert ((0, 0, 1, 2), (0, 1, 2, 3), 0, 0, True) in transitions(buffer)


@pytest.mark.bug(17, 19, 27)
@pytest.mark.parametrize(("added", "first", "last"), [(2, 1, 1), (10, 1, 9), (11, 5, 10), (25, 19, 24), (27, 21, 26)])
def test_ring_keeps_the_newest_and_no_stack_crosses_the_write_head(added, first, last):
    """A ring of 10, frames numbered from 1. Of 25, the frames 16 to 25 are left: 19 is the first whose stack 16, 17,
    18, 19 is whole, and 24 the last that has a next one. All are drawn equally often."""
    buffer = ReplayBuffer(10, 1, CPU)
    for number in range(1, added + 1):
        add(buffer, number, action=number % 7, reward=(-1) ** number)
    drawn = transitions(buffer)
    for obs, next_obs, action, reward, _ in drawn:
        n = obs[-1]
        assert obs == tuple(max(n - back, 0) for back in (3, 2, 1, 0)) and next_obs == (*obs[1:], n + 1)
        assert (action, reward) == (n % 7, (-1) ** n), "all arrays wrap together"
    assert sorted(obs[-1] for obs, *_ in drawn) == list(range(first, last + 1))
    assert len(drawn) == 1 or chisquare(list(drawn.values())).pvalue > 0.001


def test_a_game_that_began_behind_the_write_head_is_drawn_from_its_start():
    """Of 14 frames in a ring of 10, frames 5 to 14 are left. A game began with 6, so its stacks need nothing older."""
    buffer = ReplayBuffer(10, 1, CPU)
    for number in range(1, 15):
        add(buffer, number, final=number == 5)
    drawn = transitions(buffer)
    assert sorted(obs[-1] for obs, *_ in drawn) == list(range(6, 14))
    assert ((0, 0, 0, 6), (0, 0, 6, 7), 0, 0, False) in drawn


def test_games_are_kept_apart():
    """Three games, twelve rows; frames carry their game, and no stack or next_obs mixes two."""
    buffer = ReplayBuffer(36, 3, CPU)
    for number in range(1, 30):
        add(buffer, number)
    batch = buffer.sample(2_000, np.random.default_rng(0), CPU)
    games = torch.cat([batch.obs, batch.next_obs], dim=1)[:, :, 0, 2]  # (2000, 8)
    assert (games == games[:, :1]).all()
    assert chisquare(np.unique(games[:, 0], return_counts=True)[1]).pvalue > 0.001 and len(games[:, 0].unique()) == 3
    assert sorted(set(batch.obs[:, -1, 0, 1].tolist())) == list(range(21, 29))


def test_rewards_are_clipped_for_learning():
    buffer = ReplayBuffer(20, 1, CPU)
    for number, reward in enumerate((7, -200, 0, 1, 5), start=1):
        add(buffer, number, reward=reward)
    assert {obs[-1]: reward for obs, _, _, reward, _ in transitions(buffer)} == {1: 1, 2: -1, 3: 0, 4: 1}


@pytest.mark.bug(18)
def test_add_and_sample_copy():
    buffer = ReplayBuffer(8, 1, CPU)
    obs = np.ones((1, 4, 84, 84), np.uint8)
    buffer.add(obs, np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1))
    obs[:] = 77
    assert buffer.frames[0].unique().tolist() == [1]
    for number in range(2, 9):
        add(buffer, number)
    batch = buffer.sample(8, np.random.default_rng(0), CPU)
    before = batch.obs.clone(), batch.next_obs.clone()
    for number in range(100, 110):
        add(buffer, number)
    assert torch.equal(batch.obs, before[0]) and torch.equal(batch.next_obs, before[1])


@pytest.mark.bug(27)
def test_stacks_are_those_the_emulator_showed():
    """Every pair that can be drawn after 300 steps of two games, which end every 20 steps, was seen in this way."""
    env = make_env(with_protocol(Args(max_frames=80)), 2)
    buffer, rng = ReplayBuffer(400, 2, CPU), np.random.default_rng(0)
    obs, _ = env.reset(seed=np.array([1, 2]))
    ended, seen, games = np.zeros(2, np.bool_), set(), 0
    for _ in range(300):
        next_obs, reward, terminated, truncated, _ = env.step(rng.integers(4, size=2))
        buffer.add(obs, np.zeros(2), reward, terminated, ended)
        seen |= {(obs[g].tobytes(), next_obs[g].tobytes()) for g in range(2) if not ended[g]}
        obs, ended = next_obs, terminated | truncated
        games += ended.sum()
        assert truncated[ended].all() and not terminated[ended].any(), "80 frames are a limit, not an end"
    assert games >= 20
    batch = buffer.sample(2_000, rng, CPU)
    for pair in zip(batch.obs.numpy(), batch.next_obs.numpy(), strict=True):
        assert tuple(frame.tobytes() for frame in pair) in seen
    env.close()


def test_a_transition_takes_7_kB():
    buffer = ReplayBuffer(1_000, 1, CPU)
    stored = buffer.state_dict()
    assert stored.pop("added") == 0 and sum(tensor.nbytes for tensor in stored.values()) / 1_000 <= 7_200


@pytest.mark.bug(65)
def test_a_replay_buffer_that_does_not_fit_is_refused(monkeypatch):
    """A million steps are 7,061 MB, which is 6.6 GiB, and 1 GiB is for the rest."""
    free = {}
    monkeypatch.setattr(dqn_atari.psutil, "virtual_memory", lambda: SimpleNamespace(available=free["cpu"] * 2**30))
    free["cpu"] = 8
    assert dqn_atari.place_replay(Args(buffer_size=1_000_000), CPU) == CPU
    free["cpu"] = 7
    for checkpoint_frequency in (0, 100):
        with pytest.raises(Stop) as error:
            dqn_atari.place_replay(Args(buffer_size=1_000_000, checkpoint_frequency=checkpoint_frequency), CPU)
        sentence, code = error.value.args
        assert code == 2 and sentence.startswith("--buffer-size 1,000,000 needs 7.6 GiB of memory; free are 7.0 GiB on")


# --- The target ---


@pytest.mark.bug(5)
def test_truncation_bootstraps_and_termination_does_not(small):
    """γ = 0.5 and max Q_target(s', ·) = 6: y = 1 + 0.5 · 6 = 4 for a truncated step, y = 1 for a terminal one."""
    args = small(gamma=0.5)
    y = dqn_atari.td_target(torch.tensor([[6.0, 2.0]] * 2), torch.ones(2), torch.tensor([False, True]), args.gamma)
    assert y.tolist() == [1 + 0.5 * 6, 1]
    for truncated in (True, False):
        buffer = ReplayBuffer(20, 1, CPU)
        add(buffer, 1, reward=9, terminated=not truncated)
        add(buffer, 2, final=True)
        add(buffer, 3)
        batch = buffer.sample(4, np.random.default_rng(0), CPU)
        networks = [dqn_atari.QNetwork(4, 2, Args()) for _ in range(2)]
        for network, q in zip(networks, ([3.0, 0.0], [6.0, 2.0]), strict=True):
            torch.nn.init.zeros_(network.output.weight)
            network.output.bias.data = torch.tensor(q)
        loss, q_taken = dqn_atari.compute_loss(*networks, batch, args)
        loss.backward()
        assert q_taken.tolist() == [3.0] * 4
        assert loss.item() == pytest.approx((3 - 4) ** 2 if truncated else (3 - 1) ** 2)
        assert gradient(networks[0])[-2].item() == pytest.approx(2 * (3 - 4) if truncated else 2 * (3 - 1))  # the bias
        assert all(parameter.grad is None for parameter in networks[1].parameters())


# --- The loop, on games whose every number is known ---


class Games:
    """In place of AtariVectorEnv: games of five steps, rewards 10, 0, -3, 0, 5, alternately terminated and truncated.

    A life is lost in the third step. Frames are numbered from 1 on, over all episodes, the final and the first one of
    the next episode included; all games are alike. Every array is a new one, as those of AtariVectorEnv are.
    """

    single_action_space = gym.spaces.Discrete(3)
    single_observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)

    def __init__(self, num_envs):
        self.num_envs, self.number, self.resets, self.sent = num_envs, 0, [], []

    def reset(self, seed):
        self.resets.append(seed.tolist())
        return self.begin(episode=0)

    def begin(self, episode):
        self.episode, self.t, self.stack = episode, 0, [picture(0)] * 4
        return self.show(), {"lives": np.full(self.num_envs, 3)}

    def show(self):
        self.number += 1
        self.stack = [*self.stack[1:], picture(self.number)]
        return np.stack([np.stack(self.stack)] * self.num_envs)

    def send(self, action):
        assert action.shape == (self.num_envs,) and action.dtype == np.int64 and set(action) <= {0, 1, 2}
        self.sent += action.tolist()

    def recv(self):
        wide = np.ones(self.num_envs, np.int32)
        if self.t == 5:  # autoreset
            obs, info = self.begin(self.episode + 1)
            return obs, 0 * wide, wide < 0, wide < 0, info
        self.t += 1
        ends, even = self.t == 5, self.episode % 2 == 0
        reward, lives = (10, 0, -3, 0, 5)[self.t - 1], 3 if self.t < 3 else 2
        return (
            self.show(),
            reward * wide,
            wide * (ends and even) > 0,
            wide * (ends and not even) > 0,
            {"lives": lives * wide},
        )

    def step(self, action):
        self.send(action)
        return self.recv()

    def close(self):
        pass


@pytest.fixture
def games(monkeypatch):
    """Puts Games in place of the emulator, and lists the ones that were made."""
    made = []

    def make_games(args, num_envs):
        made.append(Games(num_envs))
        return made[-1]

    monkeypatch.setattr(dqn_atari, "make_env", make_games)
    return made


@pytest.mark.bug(9, 10, 11, 28)
def test_loop_stores_every_step_and_nothing_else(small, spy, games):
    """Frames 1 to 6 are the first episode, 7 to 12 the second one. A life ends with the third step, from 3 to 4."""
    buffers = spy("ReplayBuffer", dqn_atari)
    train(small(total_timesteps=12, learning_starts=8, num_envs=2))  # six steps of two games: the reset is one
    add_next = buffers[0][1]
    drawn = {
        (obs[-1], next_obs[-1], reward, terminated) for obs, next_obs, _, reward, terminated in transitions(add_next)
    }
    assert drawn == {(1, 2, 1, False), (2, 3, 0, False), (3, 4, -1, True), (4, 5, 0, False), (5, 6, 1, True)}
    train(small(total_timesteps=26, learning_starts=8, num_envs=2, terminal_on_life_loss=False))
    drawn = {(obs[-1], next_obs[-1], reward, done) for obs, next_obs, _, reward, done in transitions(buffers[1][1])}
    first = {(1, 2, 1, False), (2, 3, 0, False), (3, 4, -1, False), (4, 5, 0, False), (5, 6, 1, True)}
    second = {(7, 8, 1, False), (8, 9, 0, False), (9, 10, -1, False), (10, 11, 0, False), (11, 12, 1, False)}
    assert drawn == first | second, "truncated at 12: not terminal; none from 6 to 7"


def test_a_checkpoint_cuts_off_as_a_time_limit_would(small, spy, games):
    """Of frames 1, 2, 3, 4 the last is the one at hand at the checkpoint: its row is final. 5 begins a new game."""
    buffers = spy("ReplayBuffer", dqn_atari)
    run_dir = train(small(total_timesteps=6, learning_starts=4, train_frequency=1, checkpoint_frequency=3, seed=7))
    drawn = {(obs, next_obs[-1], terminated) for obs, next_obs, _, _, terminated in transitions(buffers[0][1])}
    assert drawn == {
        ((0, 0, 0, 1), 2, False),
        ((0, 0, 1, 2), 3, False),
        ((0, 1, 2, 3), 4, True),  # the lost life; nothing from 4 to 5
        ((0, 0, 0, 5), 6, False),
        ((0, 0, 5, 6), 7, False),
    }
    seeds = [dqn_atari.game_seeds(1, 7, step).tolist() for step in (0, 3)]
    assert games[0].resets == seeds and seeds[0] != seeds[1]
    assert not (run_dir / "checkpoint.pt").exists(), "a run that is complete cannot be resumed"


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_acts_greedily_but_for_epsilon(small, games, monkeypatch, epsilon):
    """In training and in evaluation, which has an ε of its own; action 1 looks best in all states."""
    monkeypatch.setattr(dqn_atari.QNetwork, "q_values", lambda _, obs: np.tile([0.0, 1.0, 0.5], (len(obs), 1)))
    flags = {"start_e": epsilon, "end_e": epsilon, "eval_epsilon": 1 - epsilon}
    train(small(num_envs=2, total_timesteps=60, learning_starts=50, eval_episodes=20, **flags))
    greedy, random = {1}, {0, 1, 2}
    trained, evaluated = (set(game.sent) for game in games)
    assert (trained, evaluated) == ((random, greedy) if epsilon else (greedy, random))


def test_each_game_of_training_is_at_random_or_greedy_on_its_own(small, games, monkeypatch):
    """With ε = 1/2 the best of three actions, another one in each game, is taken with 1/2 + 1/2 · 1/3 = 2/3: 400 of 600
    times, give or take four σ of 11.5."""
    monkeypatch.setattr(dqn_atari.QNetwork, "q_values", lambda _, obs: np.eye(3)[[1, 2]])
    train(small(num_envs=2, total_timesteps=1_200, learning_starts=1_199, eval_episodes=2, start_e=0.5, end_e=0.5))
    actions = np.reshape(games[0].sent, (-1, 2))
    assert (actions == [1, 2]).sum(axis=0) == pytest.approx([400, 400], abs=46)


@pytest.mark.bug(70)
def test_evaluations_are_the_same_every_time_and_begin_elsewhere(small, games):
    """Other games than those of training, and the same random actions."""
    flags = {
        "total_timesteps": 60,
        "learning_starts": 50,
        "eval_frequency": 30,
        "eval_episodes": 3,
        "eval_epsilon": 0.5,
    }
    args = with_protocol(small(**flags, seed=7))
    train(args)
    training, evaluation = games
    assert evaluation.resets == [dqn_atari.game_seeds(3, 1_000_007).tolist()] * 2
    assert set(training.resets[0]).isdisjoint(evaluation.resets[0])
    one, two = Games(3), Games(3)
    for env in (one, two):
        dqn_atari.evaluate(env, lambda obs: np.zeros((len(obs), 3)), args)
    assert one.sent == two.sent and len(set(one.sent)) == 3


@pytest.mark.bug(16)
def test_what_is_due_is_done_by_the_next_step_of_all_games(small, games):
    """Three games make 3, 6, 9, ... steps; ε falls from 1 to 0.1 in 360, and 99 of them are over before 100 to 102."""
    flags = {"start_e": 1.0, "end_e": 0.1, "exploration_fraction": 1.0}
    run_dir = train(small(num_envs=3, total_timesteps=360, learning_starts=90, eval_frequency=100, **flags))
    logged = scalars(run_dir)
    assert result(run_dir)["best_step"] == 102, "of those that are equal the first"
    assert [step for step, _ in logged["eval/episodic_return"]] == [102, 201, 300, 360]
    assert logged["charts/frames"] == [(step, 4.0 * step) for step in (102, 201, 300)]
    assert logged["charts/epsilon"][0][1] == pytest.approx(1 - 0.9 * 99 / 360)


def test_a_run_ends_at_the_evaluation_that_reaches_a_score(small, games, monkeypatch):
    scores = iter([3.0, 7.0, 9.0])
    monkeypatch.setattr(dqn_atari, "evaluate", lambda *_: (played(next(scores)), [0.0]))
    found = result(train(small(total_timesteps=300, learning_starts=90, eval_frequency=100, stop_at_return=7.0)))
    assert (found["global_step"], found["best_step"], found["frames"]) == (200, 200, 800)


@pytest.mark.bug(6)
def test_the_target_network_begins_as_the_online_one(small, games, monkeypatch):
    differences, compute_loss = [], dqn_atari.compute_loss

    def look(q_network, target_network, *rest):
        pairs = zip(q_network.parameters(), target_network.parameters(), strict=True)
        differences.append(max((one - other).abs().max().item() for one, other in pairs))
        return compute_loss(q_network, target_network, *rest)

    monkeypatch.setattr(dqn_atari, "compute_loss", look)
    train(small(total_timesteps=60, learning_starts=50, target_network_frequency=1_000))
    assert differences[0] == 0 < differences[1], "and it stays behind"


def test_what_a_run_logs_and_leaves(small, games):
    """By the names that dashboards know. Steps by steps a second are seconds, fewer than those of the whole run."""
    run_dir = train(small(total_timesteps=360, learning_starts=90, eval_frequency=100))
    logged, final = scalars(run_dir), result(run_dir)
    assert set(logged) == {
        *("charts/episodic_return", "charts/episodic_length", "charts/epsilon", "charts/frames", "charts/SPS"),
        *("losses/td_loss", "losses/q_values", "eval/episodic_return", "eval/episodic_return_std"),
        *("eval/q_predicted", "eval/q_realised"),
    }
    seconds = [step / sps for step, sps in logged["charts/SPS"]]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < final["seconds"] < 60
    assert final["best_return"] == 12 and final["ale_py"] == importlib.metadata.version("ale_py")


@pytest.mark.bug(39)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_logged_return_is_the_raw_score_of_the_whole_game(small, games, num_envs):
    """10 + 0 - 3 + 0 + 5 = 12, over both lives and not clipped. An episode is five steps and one for the reset."""
    run_dir = train(small(num_envs=num_envs, total_timesteps=360, learning_starts=340))
    logged = scalars(run_dir)
    ends = [step for step in range(5 * num_envs, 361, 6 * num_envs) for _ in range(num_envs)]
    assert logged["charts/episodic_return"] == [(step, 10.0 + 0 - 3 + 0 + 5) for step in ends]
    assert logged["charts/episodic_length"] == [(step, 5.0) for step in ends]
    assert {value for _, value in logged["eval/episodic_return"]} == {12.0}
    final = result(run_dir)
    assert final["global_step"] == 360 and final["frames"] == 4 * 360 and final["returns"] == [12.0, 12.0]


@pytest.mark.bug(7)
@pytest.mark.parametrize("num_envs", [1, 2, 8])
def test_as_many_updates_a_step_for_any_number_of_games(small, spy, games, num_envs):
    """After the first 41 steps: updates at 44, 48, ..., 120, which are 20, and targets at 50, 60, ..., 120."""
    copies = spy("update_target", dqn_atari)
    run_dir = train(small(num_envs=num_envs, total_timesteps=120, learning_starts=41, target_network_frequency=10))
    assert result(run_dir)["updates"] == 20 and len(copies) == 8


def test_predicted_and_realised_value(small):
    """With γ = 1/2, clipped rewards 1, 0, -1, 0, 1 and a life that ends with the third step, the first life realises,
    from its end, -1, -1/2 and 1 - 1/4 = 3/4; the second one 1 and 1/2. Q is the frame's number, so 1 to 5 is
    predicted."""
    args = with_protocol(small(gamma=0.5, eval_episodes=3))

    def q_values(obs):
        return obs[:, -1, 0, 1, None] * np.array([1.0, 0.5, 0.0])

    metrics, returns = dqn_atari.evaluate(Games(3), q_values, args)
    assert returns == [12.0] * 3
    assert metrics["eval/q_predicted"] == pytest.approx((1 + 2 + 3 + 4 + 5) / 5)
    assert metrics["eval/q_realised"] == pytest.approx((3 / 4 - 1 / 2 - 1 + 1 / 2 + 1) / 5)
    Games.begin, begin = lambda self, episode: begin(self, 1), Games.begin  # now a truncated episode
    try:
        metrics, _ = dqn_atari.evaluate(Games(3), q_values, args)
        whole, _ = dqn_atari.evaluate(Games(2), q_values, with_protocol(small(gamma=0.5, protocol="machado")))
    finally:
        Games.begin = begin
    # The tail counts as Q of frame 6, which is 6: 1 + 6/2 = 4 and 4/2 = 2; only the first three states count.
    assert metrics["eval/q_predicted"] == pytest.approx((1 + 2 + 3) / 3)
    assert metrics["eval/q_realised"] == pytest.approx((3 / 4 - 1 / 2 - 1) / 3)
    assert whole["eval/q_realised"] == pytest.approx((1 + 0 + 0) / 3), "no life ends: 1 + 6/2, 4/2, -1 + 2/2, 0, 1"
    args = with_protocol(small(gamma=0.5, protocol="machado"))  # whole games: 1, 1/2, -1 + 1/4, ...
    metrics, _ = dqn_atari.evaluate(Games(2), q_values, args)
    assert metrics["eval/q_realised"] == pytest.approx((1 + 1 / 2 - 3 / 4 - 3 / 8 + (1 - 3 / 16)) / 5)


def test_every_game_of_an_evaluation_has_its_own_actions_and_values(small, monkeypatch):
    """In game k = 1, 2, 3 action k - 1 looks best, and Q is k times the frame's number. Whole games, truncated after
    five steps: the tail of game k is 6 k, so its fifth state realises 1 + 6 k / 2, the third one -1 + (1 + 3 k) / 4 =
    3 (k - 1) / 4, the second half of it, the first 1 + 3 (k - 1) / 16; these three count, together 1 + 21 (k - 1) / 16.
    """
    begin = Games.begin
    monkeypatch.setattr(Games, "begin", lambda self, episode: begin(self, 1))
    args = with_protocol(small(gamma=0.5, eval_episodes=3, eval_epsilon=0.0, protocol="machado"))
    k = np.array([1, 2, 3])

    def q_values(obs):
        return (k * obs[:, -1, 0, 1])[:, None] * np.eye(3)

    env = Games(3)
    metrics, _ = dqn_atari.evaluate(env, q_values, args)
    assert np.reshape(env.sent, (-1, 3)).tolist() == [[0, 1, 2]] * 5
    assert metrics["eval/q_predicted"] == pytest.approx(((1 + 2 + 3) * k).sum() / 9)
    assert metrics["eval/q_realised"] == pytest.approx((1 + 21 * (k - 1) / 16).sum() / 9)
    env = Games(3)
    dqn_atari.evaluate(env, q_values, replace(args, eval_epsilon=1.0))
    assert any(len(set(actions)) > 1 for actions in np.reshape(env.sent, (-1, 3)).tolist())


def test_games_of_an_evaluation_end_on_their_own_and_a_video_is_of_the_first(small, monkeypatch, tmp_path):
    """The first of two is truncated after four steps, with 10 + 0 - 3 + 0 = 7, the other one terminated after five,
    with 12. Q is the number of the frame: 1 + 2, the first half, counts of the one, 1 + 2 + 3 + 4 + 5 of the other."""

    class Uneven(Games):
        def show(self):
            obs = super().show()
            obs[:, :, 0, 2] = np.arange(self.num_envs)[:, None]  # which game it is
            return obs

        def recv(self):
            obs, reward, terminated, truncated, info = super().recv()
            truncated[0] |= self.t == 4
            return obs, reward, terminated, truncated, info

    written = []

    def write_video(*arguments):
        written.append(arguments)

    monkeypatch.setattr(dqn_atari, "write_video", write_video)
    args, video = with_protocol(small(eval_epsilon=0.0, protocol="machado")), tmp_path / "videos" / "step-9.mp4"

    def q_values(obs):
        return obs[:, -1, 0, 1, None] * np.eye(3)[0]

    metrics, returns = dqn_atari.evaluate(Uneven(2), q_values, args, video)
    assert returns == [7.0, 12.0] and metrics["eval/episodic_return_std"] == 2.5
    assert metrics["eval/q_predicted"] == pytest.approx((1 + 2 + 1 + 2 + 3 + 4 + 5) / 7)
    ((frames, fps, path),) = written
    assert [frame[0, :3].tolist() for frame in frames] == [[0, number, 0] for number in (1, 2, 3, 4)]
    assert fps == 60 / 4 and path == video, "60 frames a second, of which three are skipped"


# --- Whole runs ---


def weights(run_dir):
    return torch.cat([w.flatten() for w in torch.load(run_dir / "model.pt", weights_only=True).values()])


@pytest.mark.bug(37, 40)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_weights_move_and_the_same_seed_is_equal_to_the_bit(small, spy, num_envs):
    updates = spy("compute_loss", dqn_atari)
    runs = [train(small(save_model=True, num_envs=num_envs, seed=seed)) for seed in (7, 7, 8)]
    assert [result(run_dir)["updates"] for run_dir in runs] == [50, 50, 50] and len(updates) == 150
    assert all((parameter.grad != 0).any() for parameter in updates[-1][0][0].parameters())
    torch.manual_seed(7)
    first = dqn_atari.QNetwork(4, 4, Args()).state_dict()
    last = torch.load(runs[0] / "model.pt", weights_only=True)
    assert all((last[name] - first[name]).abs().max() > 1e-4 for name in first), "every layer moved"
    one, two = (scalars(run_dir) for run_dir in runs[:2])
    del one["charts/SPS"], two["charts/SPS"]  # the clock is the one thing that may differ
    assert one == two and {"losses/td_loss", "losses/q_values", "eval/q_predicted", "charts/frames"} <= one.keys()
    assert torch.equal(weights(runs[0]), weights(runs[1])) and not torch.equal(weights(runs[0]), weights(runs[2]))


def test_seeds_of_games_differ_between_games_runs_and_checkpoints():
    seeds = np.concatenate([dqn_atari.game_seeds(4, seed, step) for seed in (1, 2) for step in (0, 100)])
    assert len(set(seeds)) == 16 and seeds.min() >= 0


def learn(device):
    """The loss and the weights after three updates from 40 numbered frames, the buffer being on the device as well."""
    torch.manual_seed(1)
    args, rng = Args(batch_size=8, gamma=0.9), np.random.default_rng(1)
    buffer = ReplayBuffer(40, 1, device)
    for number in range(1, 41):
        add(buffer, number, action=number % 3, reward=number % 2, final=number % 9 == 0)
    networks = [dqn_atari.QNetwork(4, 3, Args()).to(device) for _ in range(2)]
    optimizer = torch.optim.Adam(networks[0].parameters(), lr=1e-3, fused=True)
    for _ in range(3):
        batch = buffer.sample(args.batch_size, rng, device)
        loss, _ = dqn_atari.compute_loss(*networks, batch, args)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        dqn_atari.update_target(networks[1], networks[0], 0.5)
        if device.type == "cuda":  # from the second update on, nothing may make the CPU wait
            torch.cuda.set_sync_debug_mode("error")
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("default")
    return loss.item(), torch.nn.utils.parameters_to_vector(networks[0].parameters()).detach().cpu()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_update_on_the_gpu_never_waits_and_is_that_of_the_cpu():
    (loss, vector), (expected_loss, expected) = learn(torch.device("cuda")), learn(CPU)
    assert loss == pytest.approx(expected_loss, rel=1e-2)
    assert (vector - expected).abs().max() < 1e-2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compile", [False, True])
def test_whole_run_on_the_gpu(small, spy, compile):
    buffers = spy("ReplayBuffer", dqn_atari)
    run_dir = train(small(cuda=True, num_envs=2, checkpoint_frequency=150, compile=compile))
    assert result(run_dir)["updates"] == 50 and buffers[0][1].frames.is_cuda


class Catch:
    """A ball falls through one of seven columns in six steps; +1 if a paddle, three wide, is below it then, else -1."""

    single_action_space = gym.spaces.Discrete(3)
    single_observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)

    def __init__(self, num_envs):
        self.num_envs = num_envs

    def reset(self, seed):
        self.rng = np.random.default_rng(seed)
        self.frames = np.zeros((self.num_envs, 4, 84, 84), np.uint8)
        self.t, self.ball, self.paddle = 0, self.rng.integers(7, size=self.num_envs), np.full(self.num_envs, 3)
        return self.show(), {"lives": np.zeros(self.num_envs, np.int32)}

    def show(self):
        frame = np.zeros((self.num_envs, 84, 84), np.uint8)
        for i, (ball, paddle) in enumerate(zip(self.ball, self.paddle, strict=True)):
            frame[i, 12 * self.t : 12 * self.t + 12, 12 * ball : 12 * ball + 12] = 255
            frame[i, 78:, max(12 * paddle - 12, 0) : 12 * paddle + 24] = 128
        self.frames = np.concatenate([self.frames[:, 1:], frame[:, None]], axis=1)
        return self.frames.copy()

    def send(self, action):
        self.action = action

    def recv(self):
        lives, never = np.zeros(self.num_envs, np.int32), np.zeros(self.num_envs, np.bool_)
        if self.t == 6:
            self.frames[:] = 0
            self.t, self.ball, self.paddle = 0, self.rng.integers(7, size=self.num_envs), np.full(self.num_envs, 3)
            return self.show(), 0 * lives, never, never, {"lives": lives}
        self.t += 1
        self.paddle = np.clip(self.paddle + self.action - 1, 0, 6)
        caught = np.abs(self.ball - self.paddle) <= 1
        reward = (np.where(caught, 1, -1) if self.t == 6 else 0 * lives).astype(np.int32)
        return self.show(), reward, np.full(self.num_envs, self.t == 6), never, {"lives": lives}

    def step(self, action):
        self.send(action)
        return self.recv()

    def close(self):
        pass


def test_learns_to_catch_from_pixels(small, monkeypatch):
    """Random play catches about 1 of 2 balls; the network, the buffer and the loop learn to catch nearly all."""
    monkeypatch.setattr(dqn_atari, "make_env", lambda args, num_envs: Catch(num_envs))
    learn = {"total_timesteps": 4_000, "learning_starts": 400, "buffer_size": 4_000, "num_envs": 4, "batch_size": 16}
    learn |= {"learning_rate": 5e-4, "exploration_fraction": 0.5, "target_network_frequency": 100, "gamma": 0.9}
    run_dir = train(small(**learn, eval_frequency=4_000, eval_episodes=50, eval_epsilon=0.0))
    assert result(run_dir)["eval/episodic_return"] > 0.8
    assert 0.3 < result(run_dir)["eval/q_predicted"] < 1.5


# --- The command line ---

SMALL = "--total-timesteps 60 --learning-starts 40 --batch-size 2 --buffer-size 100 --eval-episodes 1 --max-frames 80"


@pytest.fixture
def main(call_main):
    """main("--flag value ...") -> (exit code, stdout, stderr) of dqn_atari.py, run in an empty folder."""
    return partial(call_main, dqn_atari)


OUT_OF_RANGE = {
    "--num-envs 0": "--num-envs: Input should be greater than 0",
    "--num-envs 8 --learning-starts 31": "--learning-starts must be at least 4 times --num-envs",
    "--num-envs 8 --buffer-size 63 --batch-size 1": "--buffer-size must be at least 8 times --num-envs",
    "--batch-size 2000 --buffer-size 1000": "--batch-size is larger than --buffer-size",
    "--total-timesteps 500 --learning-starts 500": "--learning-starts and --train-frequency leave no step",
    "--frame-skip 0": "--frame-skip: Input should be greater than 0",
    "--noop-max -1": "--noop-max: Input should be greater than or equal to 0",
    "--max-frames 0": "--max-frames: Input should be greater than 0",
    "--repeat-action-probability 1.5": "--repeat-action-probability: Input should be less than or equal to 1",
    "--eval-epsilon 2": "--eval-epsilon: Input should be less than or equal to 1",
    "--checkpoint-frequency -1": "--checkpoint-frequency: Input should be greater than or equal to 0",
    "--num-threads 0": "--num-threads: Input should be greater than 0",
    "--learning-rate nan": "--learning-rate: Input should be greater than 0",
    "--train-frequency 0": "--train-frequency: Input should be greater than 0",
    "--seed -1": "--seed: Input should be greater than or equal to 0",
    "--tau 0": "--tau: Input should be greater than 0",
    "--resume no/such/run --evaluate no/such/model.pt": "--evaluate plays and --resume trains: give one of them",
}
BAD = {
    "--env-id ALE/Pongg-v5": "nearest names: ALE/Pong-v5",
    "--env-id PongNoFrameSkip-v4": "nearest names: PongNoFrameskip-v4",
    "--env-id CartPole-v1": "CartPole-v1 is not an Atari game",
    "--env-id BreakoutNoFrameskip-v4 --buffer-size 100000000": "needs 658.6 GiB of memory",
    "--runs-dir /proc/no --buffer-size 1000": "/proc/no",
    "--evaluate no/such/model.pt": "no/such/model.pt",
    "--resume no/such/run": "no/such/run has no whole checkpoint",
    "--resume no/such/run --seed 3": "give no others",
}


@pytest.mark.parametrize(("arguments", "said"), OUT_OF_RANGE.items())
def test_flags_out_of_their_range_are_named(main, tmp_path, arguments, said):
    """In tyro's box."""
    code, out, err = main(arguments)
    assert code == 2 and said in " ".join(err.replace("│", " ").split()) and "Traceback" not in err and out == ""
    assert list(tmp_path.iterdir()) == [], "no run folder"


@pytest.mark.parametrize(("arguments", "said"), BAD.items())
def test_bad_input_is_one_sentence_and_exit_code_2(main, tmp_path, arguments, said):
    code, out, err = main(arguments)
    assert code == 2
    assert err.startswith("error: ") and said in err and err.count("\n") == 1 and out == ""
    assert list(tmp_path.iterdir()) == [], "no run folder"


def test_ale_py_that_is_missing(main, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "ale_py"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    code, _, err = main("")
    assert code == 2 and "pip install ale-py" in err and err.count("\n") == 1


def test_rom_that_is_missing(main, monkeypatch):
    from ale_py import roms

    monkeypatch.setattr(roms, "get_rom_path", lambda name: None)
    code, _, err = main("--env-id ALE/Pong-v5")
    assert code == 2 and err.startswith("error: cannot make ALE/Pong-v5: ") and err.count("\n") == 1


def test_protocol_is_printed_and_stored(main):
    code, out, _ = main(f"{SMALL} --protocol machado --noop-max 5 --env-id ALE/Pong-v5")
    (run_dir,) = dqn_atari.Path("runs").iterdir()
    expected = {"protocol": "machado", "repeat_action_probability": 0.25, "terminal_on_life_loss": False, "noop_max": 5}
    expected |= {"fire_reset": False, "eval_epsilon": 0.001, "frame_skip": 4, "max_frames": 80}
    assert code == 0 and result(run_dir)["protocol"] == expected
    lines = out.splitlines()
    assert lines[0] == "ALE/Pong-v5: " + ", ".join(f"{name} {value}" for name, value in expected.items())
    assert lines[1] == "replay buffer: 100 steps, 0.00 GiB of frames on the cpu"
    assert lines[-1].startswith("ALE/Pong-v5: return ") and f"see {run_dir}" in lines[-1]
    stored = json.loads((run_dir / "args.json").read_text())
    assert {name: stored[name] for name in expected} == expected and stored["env_id"] == "ALE/Pong-v5"


def test_evaluate_plays_with_video_and_knows_another_game(main, small, tmp_path):
    run_dir = train(small(save_model=True, env_id="ALE/Pong-v5", total_timesteps=220))
    model = run_dir / "model.pt"
    code, out, _ = main(
        f"--env-id PongNoFrameskip-v4 --evaluate {model} --eval-episodes 2 --max-frames 400 --capture-video"
    )
    final = result(run_dir)
    mean, std = final["eval/episodic_return"], final["eval/episodic_return_std"]
    protocol, last = out.splitlines()
    values = f"Q predicted {final['eval/q_predicted']:.2f}, realised {final['eval/q_realised']:.2f}"
    assert code == 0 and last == f"PongNoFrameskip-v4: return {mean:.1f} ± {std:.1f} over 2 games, {values}"
    assert protocol.startswith("PongNoFrameskip-v4: protocol nature, repeat_action_probability 0.0, ")
    (video,) = (run_dir / "videos").iterdir()
    assert video.name == "eval-episode-0.mp4"
    with VideoFileClip(str(video)) as clip:  # 400 frames at most, of which the no-ops are not shown
        assert clip.size == [336, 336] and clip.fps == 15 and (400 - 30) / 60 - 0.1 < clip.duration < 6.7
        pictures = [frame[:, :, 0].astype(int) for frame in clip.iter_frames()]
    assert all(abs(one - other).max() > 50 for one, other in pairwise(pictures[40:])), "the ball moves in every picture"
    code, _, err = main(f"--env-id ALE/SpaceInvaders-v5 --evaluate {model}")  # six actions as well
    assert code == 2 and "the weights were trained on ALE/Pong-v5" in err and err.count("\n") == 1
    shutil.copy(model, tmp_path / "model.pt")
    model.write_bytes(model.read_bytes()[:1000])
    (tmp_path / "cut").mkdir()
    shutil.copy(tmp_path / "model.pt", tmp_path / "cut")
    (tmp_path / "cut" / "args.json").write_text('{"seed": 1')
    models = f"ALE/Pong-v5 --evaluate {model}", f"ALE/Breakout-v5 --evaluate {tmp_path}/model.pt"
    for arguments in (*models, f"ALE/Pong-v5 --evaluate {tmp_path}/cut/model.pt"):
        code, _, err = main(f"--env-id {arguments}")
        assert code == 2 and err.count("\n") == 1
        assert "does not hold weights for" in err or "args.json is not what a run writes" in err


def test_playing_again_reads_the_run(main, small):
    """Game and protocol; another protocol is that in all its parts, and a part that differed is kept."""
    own = {"env_id": "ALE/Pong-v5", "protocol": "machado", "noop_max": 3, "total_timesteps": 220}
    run_dir = train(small(save_model=True, **own))
    code, out, _ = main(f"--evaluate {run_dir} --eval-episodes 1 --max-frames 80")
    assert (
        code == 0 and "ALE/Pong-v5: protocol machado, repeat_action_probability 0.25, " in out and "noop_max 3," in out
    )
    code, out, _ = main(f"--evaluate {run_dir} --protocol nature --eval-episodes 1 --max-frames 80")
    assert code == 0 and "protocol nature, repeat_action_probability 0.0, " in out and "noop_max 3," in out


def test_what_was_learned_is_kept_when_it_is_interrupted(small, monkeypatch, tmp_path):
    """Between two evaluations; the weights are those of that moment, not of the evaluation before."""
    seen, original = [], dqn_atari.compute_loss

    def interrupted(q_network, *rest):
        seen.append(q_network)
        if len(seen) == 15:
            raise KeyboardInterrupt
        return original(q_network, *rest)

    monkeypatch.setattr(dqn_atari, "compute_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(small(save_model=True, eval_frequency=1_000))
    (run_dir,) = (tmp_path / "runs").iterdir()
    kept = torch.load(run_dir / "model.pt", weights_only=True)
    assert all(torch.equal(kept[name], value.cpu()) for name, value in seen[0].state_dict().items())


def test_a_full_disk_is_one_sentence(main, tmp_path):
    """Files may have 3 MB here; a checkpoint has the weights, 1.7 million numbers, twice."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, limits[1]))
    try:
        for flags in ("--checkpoint-frequency 44", "--save-model --total-timesteps 110"):
            code, _, err = main(f"{SMALL} {flags} --exp-name {flags[2:6]}")
            assert code == 1 and err.endswith("error: [Errno 27] File too large\n") and "Traceback" not in err
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for run_dir in (tmp_path / "runs").iterdir():
        assert not list(run_dir.glob("*.pt")) and not (run_dir / "result.json").exists()
        assert not (run_dir / "checkpoint.part").exists(), "on a full disk gigabytes are given back"
        assert ("losses/td_loss" in scalars(run_dir)) == ("save" in run_dir.name), "what came before, at 100, is kept"


@pytest.mark.parametrize("missing", ["ale_py", "psutil"])
def test_what_the_script_needs_is_named_where_it_is_missing(tmp_path, missing):
    shutil.copy(ROOT / "dqn_atari.py", tmp_path)
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{missing}'\")")
    run = subprocess.run([sys.executable, "dqn_atari.py"], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"error: No module named '{missing}'; dqn_atari.py needs: pip install -e \".[atari]\"\n"
