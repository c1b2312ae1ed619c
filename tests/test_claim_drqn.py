"""The environments of the DRQN claim, and that its verdicts can go both ways."""

import gymnasium as gym
import numpy as np
import pytest

import dqn
import drqn
from benchmark.claims import base
from benchmark.claims import drqn as claim


def test_the_sign_is_seen_once_and_asked_for_after_the_delay():
    """With a delay of 3: the sign, twice nothing, the question; what is done before it does not matter."""
    env, signs = claim.Cue(delay=3), set()
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        sign, asked = obs.tolist()
        signs.add(sign)
        assert abs(sign) == 1 and asked == 0
        for expected in ([0, 0], [0, 0], [0, 1]):
            obs, reward, terminated, truncated, _ = env.step(seed % 2)
            assert obs.tolist() == expected and (reward, terminated, truncated) == (0.0, False, False)
        answer = seed // 2 % 2
        _, reward, terminated, truncated, _ = env.step(answer)
        assert reward == (answer == (sign + 1) / 2) and terminated and not truncated
    assert signs == {-1, 1}


def test_the_claims_cue_lies_beyond_the_stack_and_the_short_sequence():
    """From the sign to the question, both counted, there are 9 observations."""
    env = gym.make("CueStack-v0")
    stack, _ = env.reset(seed=0)
    assert stack.shape == (4, 2) and (stack[:, 0] == stack[0, 0]).all(), "the first one stands for those before it"
    seen = 1
    while not stack[-1, 1]:
        stack, *_ = env.step(0)
        seen += 1
    assert seen == claim.DELAY + 1 == 9 and not stack[:, 0].any()
    assert claim.SETTINGS["cue"][claim.SHORT][1]["sequence_length"] == 8 < seen <= drqn.Args.sequence_length


@pytest.mark.parametrize(
    ("env_id", "seen"), [("Positions-v0", [0, 2]), ("Flicker0-v0", [0, 1, 2, 3]), ("FlickerStack0-v0", [0, 1, 2, 3])]
)
def test_what_is_seen_of_cartpole(env_id, seen):
    env, cartpole = gym.make(env_id), gym.make("CartPole-v1")
    obs, state = env.reset(seed=3)[0], cartpole.reset(seed=3)[0]
    # A coin is thrown for the blanks, from the same generator, so only the first episode is the same.
    for action in (0, 1, 1, 0, 1):
        assert obs.ravel()[-len(seen) :].tolist() == state[seen].tolist()
        obs, state = env.step(action)[0], cartpole.step(action)[0]
    assert env.spec.max_episode_steps == cartpole.spec.max_episode_steps == 500


def test_a_stack_is_of_successive_observations():
    env, stacked = gym.make("Positions-v0"), gym.make("PositionsStack-v0")
    seen, (stack, _) = [env.reset(seed=1)[0].ravel()], stacked.reset(seed=1)
    for action in (0, 1, 1, 0, 1):
        seen.append(env.step(action)[0].ravel())
        stack, *_ = stacked.step(action)
    assert stack.tolist() == np.array(seen[-4:]).tolist() and len(np.unique(stack, axis=0)) == 4


@pytest.mark.parametrize("blank", claim.BLANKS)
def test_share_of_blank_observations(blank):
    """Of 2,000: the share is off by less than four standard deviations, and what is not blank is whole."""
    with dqn.closing(dqn.make_env(dqn.Args(env_id=claim.name_of(blank)))) as env:
        seen = [env.reset(seed=0)[0]]
        while len(seen) < 2_000:
            obs, _, terminated, truncated, _ = env.step(len(seen) % 2)
            seen.append(env.reset()[0] if terminated or truncated else obs)
    blanks = (np.array(seen) == 0).all(axis=1)
    assert blanks.mean() == pytest.approx(blank, abs=4 * (blank * (1 - blank) / 2_000) ** 0.5)
    assert (np.array(seen)[~blanks] != 0).all()


def test_one_seed_flickers_alike_and_two_do_not():
    def blanks(seed):
        env = gym.make("Flicker50-v0")
        seen = [env.reset(seed=seed)[0], *(env.step(t % 2)[0] for t in range(8))]
        return [not obs.any() for obs in seen]

    assert blanks(1) == blanks(1) and len({tuple(blanks(seed)) for seed in range(10)}) > 5


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
