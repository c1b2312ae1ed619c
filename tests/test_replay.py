"""The replay buffer, and what the loop puts into it."""

import numpy as np
import pytest
import torch
from conftest import train
from scipy.stats import chisquare

import dqn

CPU = torch.device("cpu")


def fill(buffer, numbers):
    """Transition k goes from observation k to k + 0.5, with action k % 3, reward 10 k, terminal if k is even."""
    for k in numbers:
        buffer.add(np.array([k]), k % 3, 10.0 * k, np.array([k + 0.5]), k % 2 == 0)


@pytest.mark.bug(19)
def test_ring_keeps_exactly_the_newest():
    buffer = dqn.ReplayBuffer(capacity=10, obs_dim=1)
    fill(buffer, range(25))
    assert buffer.size == 10
    assert sorted(buffer.obs[:, 0]) == list(range(15, 25))
    k = buffer.obs[:, 0]
    assert (buffer.next_obs[:, 0] == k + 0.5).all(), "all five arrays wrap together"
    assert (buffer.action == k % 3).all()
    assert (buffer.reward == 10 * k).all()
    assert (buffer.terminated == (k % 2 == 0)).all()


@pytest.mark.bug(17)
@pytest.mark.parametrize("added", [2, 6, 10, 13])
def test_every_transition_is_drawn_equally_often(added):
    buffer = dqn.ReplayBuffer(capacity=10, obs_dim=1)
    fill(buffer, range(added))
    draws = buffer.sample(100_000, np.random.default_rng(0), CPU).obs[:, 0].numpy()
    numbers, counts = np.unique(draws, return_counts=True)
    assert numbers.tolist() == list(range(max(0, added - 10), added))
    assert chisquare(counts).pvalue > 0.001


def test_sample_has_the_shapes_and_types_of_a_batch():
    buffer = dqn.ReplayBuffer(capacity=10, obs_dim=1)
    fill(buffer, range(10))
    batch = buffer.sample(4, np.random.default_rng(0), CPU)
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in batch._asdict().items()}
    assert shapes == {
        "obs": ((4, 1), torch.float32),
        "action": ((4,), torch.int64),
        "reward": ((4,), torch.float32),
        "next_obs": ((4, 1), torch.float32),
        "terminated": ((4,), torch.bool),
    }
    k = batch.obs[:, 0]
    assert torch.equal(batch.reward, 10 * k) and torch.equal(batch.next_obs[:, 0], k + 0.5), "rows stay together"


@pytest.mark.bug(18)
def test_add_copies():
    buffer = dqn.ReplayBuffer(capacity=4, obs_dim=2)
    obs, next_obs = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    buffer.add(obs, 0, 0.0, next_obs, False)
    obs[:], next_obs[:] = -1, -1
    assert buffer.obs[0].tolist() == [1, 2] and buffer.next_obs[0].tolist() == [3, 4]


def test_sample_copies():
    buffer = dqn.ReplayBuffer(capacity=4, obs_dim=1)
    fill(buffer, range(4))
    batch = buffer.sample(8, np.random.default_rng(0), CPU)
    before = batch.obs.clone()
    fill(buffer, range(100, 104))
    assert torch.equal(batch.obs, before)


@pytest.mark.bug(10, 11, 18, 28)
def test_loop_stores_every_step_and_nothing_else(small, spy):
    """Counter has a number for every observation: 100 steps are 20 episodes of 5, and what is stored is these."""
    buffers = spy("ReplayBuffer")
    train(small(env_id="Counter-v0", total_timesteps=100, learning_starts=10))
    buffer = buffers[0][1]
    expected = [1000 * episode + t for episode in range(20) for t in range(5)]
    assert buffer.size == 100
    assert buffer.obs[:100, 0].tolist() == expected, "every step once, in order, none from a final to a reset state"
    assert buffer.next_obs[:100, 0].tolist() == [obs + 1 for obs in expected], "the final observation, not the reset's"
    assert buffer.reward[:100].tolist() == [1, 2, 3, 4, 5] * 20, "the terminal reward 5 is there"
    assert buffer.terminated[:100].tolist() == ([False] * 4 + [True] + [False] * 5) * 10
