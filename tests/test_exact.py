"""Learned Q against exact Q*, by value iteration on the environment's own model."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import train
from exact_solutions import policy_value

import dqn
from tabular_q import Model, read_model, value_iteration

GAMMA = 0.99


def test_value_iteration_itself():
    """The reference value of FrozenLake's start, and a chain worked out by hand: 0 -> 1 -> end, reward 1 at the end."""
    frozen_lake = read_model(gym.make("FrozenLake-v1"))
    assert value_iteration(frozen_lake, GAMMA)[0].max() == pytest.approx(0.5420, abs=5e-5)
    transition = np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]])
    chain = Model(transition, np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([1.0, 0.0]), set())
    assert value_iteration(chain, GAMMA) == pytest.approx(np.array([[0.99, 0.99**2], [1.0, 0.99**2]]))
    assert policy_value(chain, np.array([0, 0]), GAMMA) == pytest.approx([0.99, 1.0])


@pytest.mark.parametrize(
    ("env_id", "bound", "flags"),
    [
        (
            "FrozenLakeNotSlippery-v0",
            0.05,
            {"total_timesteps": 10_000, "target_network_frequency": 50, "batch_size": 64},
        ),
        (
            "FrozenLake-v1",
            0.15,
            {
                "total_timesteps": 100_000,
                "target_network_frequency": 400,
                "batch_size": 512,
                "train_frequency": 20,
                "end_e": 0.3,
            },
        ),
        (
            "CliffWalking-v1",
            5.0,  # of values down to -112
            {
                "total_timesteps": 20_000,
                "target_network_frequency": 100,
                "train_frequency": 5,
                "learning_rate": 5e-3,
                "end_e": 0.5,
            },
        ),
    ],
)
def test_learned_q_is_the_optimal_q(tmp_path, spy, env_id, bound, flags):
    """The greedy policy is optimal in every visited state, and |Q - Q*| of every visited pair is below the bound."""
    buffers = spy("ReplayBuffer")
    defaults = {
        "learning_rate": 2e-3,
        "train_frequency": 2,
        "batch_size": 128,
        "end_e": 1.0,
        "exploration_fraction": 0.5,
    }
    fixed = {"hidden_sizes": (64,), "loss": "mse", "gamma": GAMMA, "anneal_lr": True, "buffer_size": 100_000}
    fixed |= {"learning_starts": 500, "tau": 1.0, "max_episode_steps": 100}
    fixed |= {"eval_frequency": 10**6, "eval_episodes": 1, "final_eval_episodes": 1}
    args = dqn.Args(env_id=env_id, save_model=True, runs_dir=tmp_path, **fixed | defaults | flags)
    run_dir = train(args)

    model = read_model(gym.make(env_id))
    exact = value_iteration(model, GAMMA)
    network = dqn.QNetwork(*exact.shape, args)
    network.load_state_dict(torch.load(run_dir / "model.pt", weights_only=True))
    learned = network(torch.eye(len(exact))).detach().numpy()
    buffer = buffers[0][1]
    visited = np.zeros(exact.shape, bool)
    visited[buffer.obs[: buffer.size].argmax(axis=1), buffer.action[: buffer.size]] = True
    assert visited.sum() > visited.size / 2

    states = visited.any(axis=1)
    loss = exact.max(axis=1) - policy_value(model, learned.argmax(axis=1), GAMMA)
    assert loss[states].max() < 1e-6, "the greedy policy is optimal"
    assert np.abs(learned - exact)[visited].max() < bound
