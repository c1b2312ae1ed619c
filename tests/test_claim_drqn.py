"""The DRQN claim: its delay is longer than what the others remember, and its verdicts can go both ways."""

import gymnasium as gym
import numpy as np

import drqn
from benchmark.claims import base
from benchmark.claims import drqn as claim
from benchmark.envs import DELAY


def test_the_claims_cue_lies_beyond_the_stack_and_the_short_sequence():
    """From the sign to the question, both counted, there are 9 observations."""
    env = gym.make("benchmark.envs:CueStack-v0")
    stack, _ = env.reset(seed=0)
    assert stack.shape == (4, 2) and (stack[:, 0] == stack[0, 0]).all(), "the first one stands for those before it"
    seen = 1
    while not stack[-1, 1]:
        stack, *_ = env.step(0)
        seen += 1
    assert seen == DELAY + 1 == 9 and not stack[:, 0].any()
    assert claim.SETTINGS["cue"][claim.SHORT][1]["sequence_length"] == 8 < seen <= drqn.Args.sequence_length


def test_baselines_differ_from_drqn_in_script_and_stack_alone():
    for task, own in claim.SETTINGS.items():
        (script, flags), (other, stacked) = own[claim.LSTM], own[claim.FRAMES]
        assert (script, other) == ("drqn.py", "dqn.py") and own[claim.ONE] == ("dqn.py", flags)
        assert {**flags, "env_id": ""} == {**stacked, "env_id": ""} and "Stack" in stacked["env_id"], task


def test_verdicts_can_go_both_ways(capsys, tmp_path):
    found = base.Findings("drqn", base.Args(output=tmp_path), "a claim")
    rng = np.random.default_rng(0)
    high, low, guess = 400 + rng.normal(size=20), 100 + rng.normal(size=20), np.full(20, 0.5)
    for lstm, stack, words in ((high, low, "reproduces: "), (low, high, "does NOT reproduce: ")):
        claim.report(found, "positions", {claim.LSTM: lstm, claim.FRAMES: stack, claim.ONE: stack})
        assert [line.startswith(words) for line in capsys.readouterr().out.splitlines()] == [True, True]
    methods = (claim.LSTM, claim.SHORT, claim.FRAMES, claim.ONE)
    claim.report(found, "cue", dict(zip(methods, (np.ones(20), guess, guess, guess), strict=True)))
    assert capsys.readouterr().out.count("reproduces: ") == 4
    claim.report(found, "cue", dict(zip(methods, (guess, np.ones(20), np.ones(20), np.ones(20)), strict=True)))
    assert capsys.readouterr().out.count("does NOT reproduce") == 4
    claim.report(found, "cue", dict(zip(methods, (np.ones(2), guess[:2], guess[:2], guess[:2]), strict=True)))
    assert capsys.readouterr().out.count("too few seeds to tell: ") == 4
    # By share of blanks, 0 to 0.9: what is lost at 0.5 is 300 in the one and 100 in the other.
    steep, flat = (np.array([400, 350, at_half, 20, 10]) + rng.normal(size=(20, 5)) for at_half in (100, 300))
    for task, lstm, stack in (("flickering", steep, flat), ("whole", flat, steep)):
        claim.report_blanks(found, task, {claim.LSTM: lstm, claim.FRAMES: stack})
        assert "does NOT" not in capsys.readouterr().out
        claim.report_blanks(found, task, {claim.LSTM: stack, claim.FRAMES: lstm})
        assert capsys.readouterr().out.count("does NOT reproduce") == 1
