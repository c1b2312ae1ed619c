"""CartPole is learned in seconds: not solved, that takes the defaults, but far beyond a random policy."""

import json

import pytest
from conftest import train

import dqn


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_cartpole_gets_five_times_better_than_random(tmp_path, loss):
    """A random policy returns 22 and an untrained greedy one 9; 6,000 steps reached 200 to 500 (seeds 1 to 5)."""
    run_dir = train(
        dqn.Args(
            total_timesteps=6_000,
            learning_starts=500,
            train_frequency=1,
            target_network_frequency=1,
            learning_rate=1e-3,
            tau=0.005,
            hidden_sizes=(64, 64),
            batch_size=64,
            loss=loss,
            eval_frequency=1_000,
            eval_episodes=10,
            final_eval_episodes=10,
            runs_dir=tmp_path,
        )
    )
    result = json.loads((run_dir / "result.json").read_text())
    assert result["updates"] == 5_500
    assert result["best_return"] > 5 * 22
