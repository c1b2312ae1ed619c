"""pqn.py: λ-returns by hand, the ends of episodes in many environments, and the batches.

The tests look for these bugs: bootstrapping from the observation after a reset; a return that includes the next
episode; truncation taken for termination; the normaliser on the wrong axis; steps in no minibatch; steps counted once
for all environments; neighbouring seeds with the same environments.
"""

import json
import math

import numpy as np
import pytest
import torch
from conftest import Counter, gradient, played, scalars, train

import dqn
import pqn

F, T = False, True


def small(tmp_path, **arguments):
    """320 steps of 4 environments, in 10 phases of 8: two epochs of two minibatches each are 40 updates."""
    defaults = {"total_timesteps": 320, "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "update_epochs": 2}
    defaults |= {"hidden_sizes": (16,), "eval_frequency": 160, "eval_episodes": 2, "final_eval_episodes": 2}
    defaults |= {"runs_dir": tmp_path / "runs"}
    return pqn.Args(**defaults | arguments)


def returns_of(next_value, reward, terminated, truncated, gamma=0.5, q_lambda=0.5):
    tensors = (torch.tensor(one, dtype=torch.float32) for one in (next_value, reward))
    ends = (torch.tensor(one) for one in (terminated, truncated))
    return pqn.lambda_returns(*tensors, *ends, gamma, q_lambda).tolist()


@pytest.mark.bug(29, 31)
def test_lambda_returns_by_hand():
    """γ = λ = 1/2. The first environment terminates at its second step, the second one is truncated at its first.

    Last step: 5 + 50 / 2 = 30 and 6 + 60 / 2 = 36. Before it: 3, which ends the episode, and 4 + (40 / 2 + 36 / 2) / 2.
    First step: 1 + (10 / 2 + 3 / 2) / 2, and 2 + 20 / 2, which the return of the next episode is no part of.
    """
    found = returns_of(
        [[10, 20], [30, 40], [50, 60]],
        [[1, 2], [3, 4], [5, 6]],
        terminated=[[F, F], [T, F], [F, F]],
        truncated=[[F, T], [F, F], [F, F]],
    )
    assert found == [[4.25, 12.0], [3.0, 23.0], [30.0, 36.0]]


def test_both_ends_at_once_are_a_termination():
    assert returns_of([[10], [20]], [[1], [2]], terminated=[[T], [F]], truncated=[[T], [F]]) == [[1.0], [12.0]]


def test_lambda_0_is_dqns_target():
    rng = np.random.default_rng(0)
    next_q, reward = torch.tensor(rng.normal(size=(5, 3, 2))), torch.tensor(rng.normal(size=(5, 3)))
    terminated, truncated = (torch.tensor(rng.random((5, 3)) < 0.3) for _ in range(2))
    found = pqn.lambda_returns(next_q.amax(dim=2), reward, terminated, truncated, 0.9, 0.0)
    rows = [dqn.td_target(*row, 0.9) for row in zip(next_q, reward, terminated, strict=True)]
    assert torch.allclose(found, torch.stack(rows))


def test_lambda_1_is_the_return_until_q_takes_over():
    """1 + 2 / 2 + 4 / 4 + 16 / 8 = 5, then 2 + 4 / 2 + 16 / 4 = 8, then 4 + 16 / 2: the values between do not count."""
    nothing = [[F], [F], [F]]
    assert returns_of([[100], [100], [16]], [[1], [2], [4]], nothing, nothing, q_lambda=1.0) == [[5.0], [8.0], [12.0]]


class Sees(pqn.QNetwork):
    """Q(s, ·) = (s, s), and it stays so: the value of a state is the number that is seen there."""

    def __init__(self, obs_dim, num_actions, args):
        super().__init__(obs_dim, num_actions, args)
        with torch.no_grad():
            self.output.weight.fill_(1.0)
            self.output.bias.zero_()


@pytest.fixture
def counted(tmp_path, monkeypatch, spy):
    """The arguments of every call of lambda_returns, and the run folder, of four counters (see conftest.py)."""
    monkeypatch.setattr(pqn, "QNetwork", Sees)
    calls, batches = spy("lambda_returns", pqn), spy("compute_loss", pqn)
    run_dir = train(small(tmp_path, env_id="Counter-v0", hidden_sizes=(), learning_rate=1e-12))
    return [arguments for arguments, _ in calls], batches, run_dir


@pytest.mark.bug(10, 18)
def test_a_value_is_of_the_state_the_step_led_to_and_not_of_the_next_episode(counted):
    """In its k-th episode a counter shows 1000 k + 1, ..., 1000 k + 5; after that its reset shows 1000 (k + 1)."""
    calls, _, _ = counted
    values = torch.cat([next_value for next_value, *_ in calls])  # (80, 4)
    expected = [1000 * (step // 5) + step % 5 + 1 for step in range(80)]
    assert values.T.tolist() == [expected] * 4


@pytest.mark.bug(28)
def test_ends_and_rewards_reach_the_target(counted):
    """Episodes of 5 steps, terminated and truncated in turns, with the rewards 1 to 5, go on from phase to phase."""
    calls, _, _ = counted
    reward, terminated, truncated = (torch.cat([call[i] for call in calls])[:, 0].tolist() for i in (1, 2, 3))
    assert reward == [step % 5 + 1 for step in range(80)]
    assert terminated == [step % 10 == 4 for step in range(80)]
    assert truncated == [step % 10 == 9 for step in range(80)]


def test_every_step_is_in_one_minibatch_of_an_epoch(counted):
    """A phase has 8 steps of 4 environments that see the same: each of 8 observations 4 times, in 2 minibatches."""
    _, batches, _ = counted
    assert len(batches) == 40
    for phase in range(10):
        for epoch in range(2):
            first = 4 * phase + 2 * epoch
            parts = [arguments[1].obs[:, 0] for arguments, _ in batches[first : first + 2]]
            assert [len(part) for part in parts] == [16, 16] and sorted(parts[0]) != sorted(parts[1])
            steps = range(8 * phase, 8 * phase + 8)
            assert sorted(torch.cat(parts).tolist()) == sorted(1000 * (s // 5) + s % 5 for s in steps for _ in range(4))


def test_minibatches_are_drawn_anew_in_every_epoch(counted):
    """By which of the 8 steps of a phase are in the first half, and how often: hardly two of 20 epochs are alike."""
    _, batches, _ = counted
    seen = [arguments[1].obs[:, 0].sort().values for arguments, _ in batches[::2]]
    halves = [(obs // 1000 * 5 + obs % 1000 - 8 * (epoch // 2)).tolist() for epoch, obs in enumerate(seen)]
    assert set().union(*halves) == set(range(8)) and len(set(map(tuple, halves))) > 15


@pytest.mark.bug(9)
def test_each_observation_has_its_own_return(counted):
    """Terminated in step 5 of an even episode: there the return is the reward, 5, whatever Q says."""
    _, batches, _ = counted
    for arguments, _ in batches:
        for obs, returns in zip(arguments[1].obs[:, 0].tolist(), arguments[1].returns.tolist(), strict=True):
            if obs % 2000 == 4:
                assert returns == 5.0
            elif obs % 2000 == 1004:  # truncated: 5 + 0.99 times the last thing seen
                assert returns == pytest.approx(5 + 0.99 * (obs + 1))


@pytest.mark.bug(39)
def test_steps_of_all_environments_count(counted):
    _, _, run_dir = counted
    result, logged = json.loads((run_dir / "result.json").read_text()), scalars(run_dir)
    assert (result["global_step"], result["updates"]) == (320, 40)
    # Eight steps of four environments are a phase: at least one episode of five steps ends in each.
    assert logged["charts/episodic_return"] == [(32 * k, 15.0) for k in range(1, 11)]
    assert logged["charts/episodic_length"] == [(32 * k, 5.0) for k in range(1, 11)]
    assert [step for step, _ in logged["eval/episodic_return"]] == [160, 320]
    assert [step for step, _ in logged["losses/td_loss"]] == list(range(32, 321, 32))


@pytest.mark.parametrize(("epsilon", "least", "most"), [(0.0, 0, 0), (1.0, 50, 110)])
def test_acts_at_random_with_probability_epsilon(tmp_path, monkeypatch, epsilon, least, most):
    """The first of two actions always looks better; of 160 random ones half are the second."""

    class First(Sees):
        def __init__(self, *rest):
            super().__init__(*rest)
            self.output.bias.data[0] = 1.0

    taken, step = [], Counter.step

    def watched(self, action):
        taken.append(action)
        return step(self, action)

    monkeypatch.setattr(pqn, "warn_of_differences", lambda *_: None)  # it makes steps, too
    monkeypatch.setattr(Counter, "step", watched)
    monkeypatch.setattr(pqn, "QNetwork", First)
    flags = {"env_id": "Counter-v0", "hidden_sizes": (), "learning_rate": 1e-12, "eval_frequency": 320}
    train(small(tmp_path, **flags, start_e=epsilon, end_e=epsilon))
    assert least <= sum(taken[:160]) <= most and sum(taken[320:]) == 0, "and evaluations are greedy"


@pytest.mark.bug(16)
def test_epsilon_falls_with_the_steps_of_all_environments(tmp_path):
    """From 1 to 0 in 320 steps; logged is that of a phase's last step, before which 28, 60, 92, ... steps were made."""
    logged = scalars(train(small(tmp_path, start_e=1.0, end_e=0.0, exploration_fraction=1.0)))["charts/epsilon"]
    assert [value for _, value in logged] == pytest.approx([1 - (32 * k - 4) / 320 for k in range(1, 11)])


@pytest.mark.bug(64)
@pytest.mark.parametrize(("returns", "best_step"), [((9.0, 3.0), 160), ((3.0, 9.0), 320), ((7.0, 7.0), 160)])
def test_the_best_weights_are_kept(tmp_path, monkeypatch, returns, best_step):
    weights, left = [], list(returns)

    def fake(env, q_values, args, episodes):
        weights.append(torch.load(next(args.runs_dir.glob("*/model.pt")), weights_only=True)["hidden.0.weight"])
        return played(left.pop(0)), [0.0]

    monkeypatch.setattr(pqn, "evaluate", fake)
    run_dir = train(small(tmp_path, save_model=True))
    best = torch.load(run_dir / "best_model.pt", weights_only=True)["hidden.0.weight"]
    assert torch.equal(best, weights[best_step // 160 - 1]) and not torch.equal(*weights)
    assert json.loads((run_dir / "result.json").read_text())["best_step"] == best_step


def test_what_was_learned_is_kept_when_it_is_interrupted(tmp_path, monkeypatch):
    """In the 100th step of all environments, after three phases of 32 steps."""
    updates, made, step = [], [], Counter.step

    def interrupted(self, action):
        made.append(action)
        if len(made) == 100:
            raise KeyboardInterrupt
        return step(self, action)

    def look(network, *rest):
        updates.append(network)
        return compute_loss(network, *rest)

    compute_loss = pqn.compute_loss
    monkeypatch.setattr(pqn, "warn_of_differences", lambda *_: None)  # it makes steps, too
    monkeypatch.setattr(Counter, "step", interrupted)
    monkeypatch.setattr(pqn, "compute_loss", look)
    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path, env_id="Counter-v0", save_model=True))
    (path,) = (tmp_path / "runs").glob("*/model.pt")
    kept = torch.load(path, weights_only=True)["hidden.0.weight"]
    assert len(updates) == 12 and torch.equal(kept, updates[0].hidden[0].weight)


def test_each_layer_is_normalised_over_its_units():
    """Outputs 1, 2, 3 have mean 2 and variance 2/3, whatever else is in the batch; ReLU leaves the last one, √1.5."""
    network = pqn.QNetwork(1, 1, pqn.Args(hidden_sizes=(3,)))
    with torch.no_grad():
        network.hidden[0].weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        network.hidden[0].bias.zero_()
        network.output.weight.fill_(1.0)
        network.output.bias.zero_()
    batch = torch.tensor([[1.0], [10.0], [-1.0]])  # -1 turns them round: the first one is left
    assert network(batch)[:, 0].tolist() == pytest.approx([math.sqrt(1.5)] * 3, rel=1e-4)
    assert network(batch[:1]).item() == pytest.approx(math.sqrt(1.5), rel=1e-4)
    plain = pqn.QNetwork(1, 1, pqn.Args(hidden_sizes=(3,), layer_norm=False))
    plain.load_state_dict({name: value for name, value in network.state_dict().items() if "norms" not in name})
    assert plain(batch)[:, 0].tolist() == [6.0, 60.0, 0.0]


@pytest.mark.bug(12)
def test_gradient_by_hand():
    """Q(s, ·) = (s, 2 s). Q(3, 1) = 6 against 5: a loss of 1; Q(2, 0) = 2 against 5: one of 9.

    The mean is 5. By the first weight it changes by (2 - 5) 2, by the second by (6 - 5) 3, by the biases by -3 and 1.
    """
    network = pqn.QNetwork(1, 2, pqn.Args(hidden_sizes=()))
    network.load_state_dict({"output.weight": torch.tensor([[1.0], [2.0]]), "output.bias": torch.zeros(2)})
    batch = pqn.Batch(torch.tensor([[3.0], [2.0]]), torch.tensor([1, 0]), torch.tensor([5.0, 5.0]))
    loss, q_taken = pqn.compute_loss(network, batch, pqn.Args())
    loss.backward()
    assert loss.item() == 5.0 and q_taken.tolist() == [6.0, 2.0]
    assert gradient(network).tolist() == [-6.0, 3.0, -3.0, 1.0]


def test_a_long_gradient_is_scaled_down(tmp_path, spy):
    calls = spy("compute_loss", pqn)
    train(small(tmp_path, max_grad_norm=1e-3))
    assert all(gradient(arguments[0]).norm() <= 1e-3 * 1.001 for arguments, _ in calls[-1:])
    assert len(calls) == 40


def test_the_learning_rate_falls_to_zero(tmp_path, monkeypatch):
    """In the last of ten phases it is a tenth of the first one's."""
    rates, step = [], torch.optim.RAdam.step

    def watched(self):
        rates.append(self.param_groups[0]["lr"])
        return step(self)

    monkeypatch.setattr(torch.optim.RAdam, "step", watched)
    train(small(tmp_path, learning_rate=1.0))
    assert rates == pytest.approx([1 - k / 10 for k in range(10) for _ in range(4)])
    rates.clear()
    train(small(tmp_path, learning_rate=1e-3, anneal_lr=False))
    assert set(rates) == {1e-3}


@pytest.mark.bug(40)
def test_weights_move_and_a_run_can_be_repeated_to_the_bit(tmp_path):
    first, second = (train(small(tmp_path, save_model=True)) for _ in range(2))
    other = train(small(tmp_path, save_model=True, seed=2))
    weights = [torch.load(run_dir / "model.pt", weights_only=True) for run_dir in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["hidden.0.weight"], weights[2]["hidden.0.weight"])
    torch.manual_seed(1)
    fresh = pqn.QNetwork(4, 2, small(tmp_path)).state_dict()
    assert all((weights[0][name] - fresh[name]).abs().max() > 1e-4 for name in fresh)
    assert scalars(first).keys() == scalars(second).keys()


def test_compiled_is_eager_but_for_rounding(tmp_path):
    eager, compiled = (train(small(tmp_path, save_model=True, compile=compile)) for compile in (False, True))
    a, b = (torch.load(run_dir / "model.pt", weights_only=True) for run_dir in (eager, compiled))
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)


@pytest.mark.bug(37)
def test_neighbouring_seeds_share_no_environment(tmp_path, monkeypatch):
    """No first observation of seed 1 is one of seed 2, of 8 environments each; seed 1 again has the same ones."""
    seen, reset = [], pqn.gym.vector.SyncVectorEnv.reset

    def watched(self, **options):
        obs, info = reset(self, **options)
        seen.append([tuple(row) for row in obs.tolist()])
        return obs, info

    monkeypatch.setattr(pqn.gym.vector.SyncVectorEnv, "reset", watched)
    for seed in (1, 2, 1):
        train(small(tmp_path, num_envs=8, seed=seed))
    one, two, again = seen
    assert len({*one, *two}) == 16 and one == again


def test_one_environment_is_enough(tmp_path, spy):
    """If the only evaluation is the last one, no second environment is made."""
    made = spy("make_env", pqn)
    run_dir = train(small(tmp_path, num_envs=1, eval_frequency=321))
    assert len(made) == 1 and len(scalars(run_dir)["eval/episodic_return"]) == 1


def test_bad_input(tmp_path, call_main):
    for wrong, said in (
        ({"num_minibatches": 5}, "--num-envs times --num-steps must be a multiple of --num-minibatches"),
        ({"num_envs": 500}, "--num-envs times --num-steps is more than --total-timesteps"),
        ({"num_steps": 81}, "--num-envs times --num-steps is more than --total-timesteps"),
        ({"num_minibatches": 64}, "--num-envs times --num-steps must be a multiple of --num-minibatches"),
        ({"num_envs": 0}, "--num-envs: Input should be greater than 0"),
        ({"q_lambda": 1.5}, "--q-lambda: Input should be less than or equal to 1"),
    ):
        with pytest.raises(ValueError, match=said):
            small(tmp_path, **wrong)
    code, _, err = call_main(pqn, "--num-minibatches 5")
    assert code == 2 and "must be a multiple" in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()


def test_it_plays_again_what_it_learned(tmp_path, call_main):
    run_dir = train(small(tmp_path, save_model=True))
    result = json.loads((run_dir / "result.json").read_text())
    code, out, _ = call_main(pqn, f"--evaluate {run_dir}")
    assert code == 0 and f"greedy return {result['eval/episodic_return']:.1f} ±" in out


def test_it_learns_cartpole(tmp_path):
    """Half of the steps of its defaults, a few seconds; random play returns 22."""
    result = json.loads((train(pqn.Args(total_timesteps=100_000, runs_dir=tmp_path)) / "result.json").read_text())
    assert result["best_return"] > 150
