"""The parts of QT-Opt's claims on numbers to follow on paper, and the peer's run folder."""

import json

import numpy as np
import pytest
import torch

import qt_opt
from benchmark.claims import base
from benchmark.claims import qt_opt as claim
from benchmark.peers import sb3_continuous
from benchmark.run_folder import read_scalars


@pytest.mark.parametrize("dimensions", [1, 2])
def test_maximum_of_the_peaks_is_one(dimensions):
    """A dense grid finds no more than 1, and not much less, in every state."""
    q = claim.Peaks(20, dimensions, torch.Generator().manual_seed(0))
    axis = torch.linspace(-1, 1, 101)
    grid = torch.cartesian_prod(*[axis] * dimensions).reshape(1, -1, dimensions)
    maximum = q(None, grid).amax(dim=1)
    assert (maximum <= 1).all() and (maximum > 0.99).all()
    top = q.places[:, 0, :1]  # (states, 1, dimensions): the place of the first peak
    assert q(None, top).flatten().tolist() == [1.0] * 20


def test_a_peak_by_hand():
    """In 4 dimensions the width is 0.3 * 2: at a distance of 0.6 from a peak of height 0.8, 0.8 exp(-1/2)."""
    q = claim.Peaks(1, 4, torch.Generator(), peaks=1)
    q.places, q.heights = torch.zeros(1, 1, 1, 4), torch.tensor([[[0.8]]])
    assert q(None, torch.tensor([[[0.6, 0, 0, 0], [0, 0, 0, 0]]])).tolist()[0] == pytest.approx(
        [0.8 * np.exp(-0.5), 0.8]
    )


def test_more_rounds_leave_a_smaller_error():
    one, two = (claim.search_error(2, rounds, 64, seed=0) for rounds in (1, 2))
    assert 0 < two < one < 0.2


def test_seconds_of_training_leave_out_evaluations():
    """100 and 200 steps at 10 a second are 10 and 20 seconds on the clock; the first evaluation took 3 of them."""
    scalars = {
        "charts/SPS": [(100, 10.0, 1010.0), (150, 10.0, 1015.0), (200, 10.0, 1020.0)],
        "eval/episodic_return": [(100, -5.0, 1013.0), (200, -4.0, 1023.0)],
    }
    assert base.training_seconds(scalars).tolist() == [10.0, 20.0 - 3.0]


def test_return_at_equal_seconds():
    """In 5 seconds the first run came to its second evaluation, the second one to none: its first counts."""
    returns, seconds = np.array([[-9.0, -8, -7], [-6, -5, -4]]), np.array([[2.0, 5, 8], [6, 12, 18]])
    assert base.at_seconds(returns, seconds, 5.0).tolist() == [-8, -6]


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_the_peer_learns_under_our_command_line(tmp_path, algorithm):
    args = sb3_continuous.Args(algorithm, learning_starts=280, total_timesteps=300, eval_frequency=200, eval_episodes=1)
    args.runs_dir, args.final_eval_episodes = tmp_path, 1
    run_dir = sb3_continuous.train(args)
    result = json.loads((run_dir / "result.json").read_text())
    assert result["updates"] == 300 - 280 and len(result["returns"]) == 1 and result["global_step"] == 300
    logged = read_scalars(run_dir)
    assert [step for step, *_ in logged["eval/episodic_return"]] == [200, 300]
    assert [step for step, *_ in logged["charts/episodic_return"]] == [200]
    assert len(base.training_seconds(logged)) == 2
    stored = json.loads((run_dir / "args.json").read_text())
    assert stored["learning_rate"] == 1e-3 and stored["learning_starts"] == 280 and stored["algorithm"] == algorithm
    assert "cem_samples" not in stored and "batch_size" not in stored


def test_settings_name_flags_that_exist():
    settings = claim.PENDULUM_SETTINGS | claim.DRIFT_SETTINGS
    settings |= {name: ("qt_opt.py", flags) for name, flags in claim.OTHERS_SETTINGS.items()}
    for script, flags in settings.values():
        if script == "qt_opt.py":
            qt_opt.Args(**flags)  # raises ValueError for flags that it does not take
