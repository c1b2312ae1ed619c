"""A memory that begins anew, sequences of one episode, and what they learn."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import gradient, played, train
from scipy.stats import chisquare

import drqn

CPU = torch.device("cpu")


def summing_network(weight, bias=(0.0, 0.0)):
    """Q(h, ·) = weight * h + bias, where h = tanh(sum of the observations so far), each -1, 0 or 1.

    In an LSTM of one unit the gates i, f and o are 1 (the sigmoid of 100), and g is tanh(20 obs): -1, 0 or 1.
    """
    network = drqn.QNetwork(1, 2, drqn.Args(hidden_sizes=(1,)))
    values = {
        "lstm.weight_ih_l0": [[0.0], [0.0], [20.0], [0.0]],  # i, f, g, o
        "lstm.weight_hh_l0": [[0.0]] * 4,
        "lstm.bias_ih_l0": [100.0, 100.0, 0.0, 100.0],
        "lstm.bias_hh_l0": [0.0] * 4,
        "output.weight": [[weight[0]], [weight[1]]],
        "output.bias": list(bias),
    }
    network.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    return network


def random_network(seed, obs_dim=3, num_actions=2, hidden_sizes=(8, 5)):
    torch.manual_seed(seed)
    return drqn.QNetwork(obs_dim, num_actions, drqn.Args(hidden_sizes=hidden_sizes))


def acted(network, episode):
    """Q of every observation of an episode, (T, obs_dim), as acting computes it step by step: (T, num_actions)."""
    q, state = [], None
    for obs in episode:
        values, state = network.q_values(obs, state)
        q.append(values)
    return np.stack(q)


def batch_of(obs, action, reward, terminated, learned):
    """A batch from lists (B, T, ...), obs of one number each and one more of them than steps."""
    return drqn.Batch(torch.tensor(obs).unsqueeze(2), *map(torch.tensor, (action, reward, terminated, learned)))


# The network


@pytest.mark.parametrize("hidden_sizes", [(2,), (7,), (32, 15), (8, 8, 3)])
def test_acting_step_by_step_is_the_network_over_the_sequence(hidden_sizes):
    network = random_network(0, 6, 3, hidden_sizes)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        obs = torch.randn(1, 9, 6)
        q, _ = network(obs)
        assert q.shape == (1, 9, 3)
        assert acted(network, obs[0].numpy()) == pytest.approx(q[0].detach().numpy(), abs=1e-5)
        optimizer.zero_grad()
        q.square().sum().backward()
        optimizer.step()  # acting must follow it


def test_the_memory_is_of_all_observations_so_far():
    """After 1, 0, 1, -1 the sum is 1, 1, 2, 1."""
    network, sums = summing_network([1.0, -2.0]), np.tanh([1.0, 1.0, 2.0, 1.0])
    q, _ = network(torch.tensor([[[1.0], [0.0], [1.0], [-1.0]]]))
    assert q[0].detach().numpy() == pytest.approx(np.stack([sums, -2 * sums], axis=1), abs=1e-6)


def test_gates_far_from_zero_neither_overflow_nor_warn(recwarn):
    q = acted(summing_network([1.0, 1.0]), np.float32([[1e6], [-1e6]]))
    assert q[:, 0] == pytest.approx([np.tanh(1.0), 0.0], abs=1e-6)
    assert not recwarn.list


def test_the_lstm_needs_a_layer(small):
    with pytest.raises(ValueError, match="--hidden-sizes must have a layer for the LSTM"):
        small(drqn, hidden_sizes=())


def test_compile_is_refused_in_a_sentence(call_main, tmp_path):
    code, out, err = call_main(drqn, "--compile")
    assert code == 2 and out == ""
    assert "--compile is not possible here: PyTorch cannot compile an LSTM" in " ".join(err.split())
    assert list(tmp_path.iterdir()) == [], "no run folder"


# Where the memory begins, and that it sees everything


def test_each_episode_has_a_memory_of_its_own():
    network, one = summing_network([1.0, 1.0]), np.ones(1, np.float32)
    assert acted(network, [one] * 3)[:, 0] == pytest.approx(np.tanh([1.0, 2.0, 3.0]))
    q, first = network.q_values(one, None)
    assert q[0] == pytest.approx(np.tanh(1.0)), "a fresh one, not tanh(4)"
    assert acted(network, [one] * 3)[:, 0] == pytest.approx(np.tanh([1.0, 2.0, 3.0]))
    assert network.q_values(one, first)[0][0] == pytest.approx(np.tanh(2.0)), (
        "another episode leaves the state as it is"
    )


@pytest.mark.bug(36, 57)
def test_training_begins_anew_at_a_reset_and_steps_also_when_the_action_is_random(small, monkeypatch):
    """All actions are random. Yet each of Counter's episodes begins without a state, and each of its observations is
    given to the network once, in order, with the state that the observation before it left."""
    episodes = []

    def q_values(network, obs, state):
        if state is None:
            episodes.append([])
        else:
            assert state is episodes[-1]
        episodes[-1].append(obs.item())
        return np.zeros(2), episodes[-1]

    monkeypatch.setattr(drqn.QNetwork, "q_values", q_values)
    monkeypatch.setattr(drqn, "evaluate", lambda *_: (played(0.0), [0.0]))
    train(small(drqn, env_id="Counter-v0", start_e=1.0, end_e=1.0))
    assert episodes == [[1000.0 * episode + t for t in range(5)] for episode in range(400 // 5)]


@pytest.mark.bug(36)
def test_evaluation_begins_anew_at_a_reset(small, register):
    """Episodes of four ones: max Q is tanh of 1, 2, 3, 4, in the second episode too."""
    env_id = register(gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2), obs=np.ones(1, np.float32))
    args = small(drqn, env_id=env_id)
    metrics, _ = drqn.evaluate(drqn.make_env(args), summing_network([1.0, 0.0]).q_values, args, 2)
    assert metrics["eval/q_predicted"] == pytest.approx(np.tanh([1.0, 2.0, 3.0, 4.0]).mean())


@pytest.mark.bug(36)
def test_the_last_observation_of_a_truncated_episode_is_one_step_more(small, register):
    """Ones, cut off after three steps, pay 1 each: with the fourth observation in memory max Q is 9 tanh(4), and with
    γ = 1/2 the realised return is, from the end, 1 + 9 tanh(4) / 2 and so on. The first two of three states count."""
    env_id = register(gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2), obs=np.ones(1, np.float32))
    args = small(drqn, env_id=env_id, max_episode_steps=3, gamma=0.5)
    metrics, _ = drqn.evaluate(drqn.make_env(args), summing_network([9.0, 0.0]).q_values, args, 2)
    third = 1 + 0.5 * 9 * np.tanh(4.0)  # a fresh memory: 9 tanh(1); the one of the state before: 9 tanh(3)
    second = 1 + 0.5 * third
    first = 1 + 0.5 * second
    assert metrics["eval/q_realised"] == pytest.approx((first + second) / 2)
    assert metrics["eval/q_predicted"] == pytest.approx(9 * (np.tanh(1.0) + np.tanh(2.0)) / 2)


# Learning from sequences


@pytest.mark.bug(5, 8, 53)
def test_the_target_is_of_the_next_observation_with_all_before_it_in_memory():
    """Of the ones 1, 1, 1 and two steps: Q(h, a) is 3 tanh(1) and 4 tanh(2), Q_target's largest is 6 tanh(2) at the
    second observation and 6 tanh(3) at the third."""
    online, target = summing_network([3.0, 4.0]), summing_network([5.0, 6.0])
    batch = batch_of([[1.0, 1.0, 1.0]], [[0, 1]], [[1.0, 2.0]], [[False, False]], [[True, True]])
    loss, q_taken = drqn.compute_loss(online, target, batch, drqn.Args(gamma=0.5))
    q, y = (3 * np.tanh(1.0), 4 * np.tanh(2.0)), (1 + 0.5 * 6 * np.tanh(2.0), 2 + 0.5 * 6 * np.tanh(3.0))
    assert q_taken.tolist() == pytest.approx(q)
    assert loss.item() == pytest.approx(((q[0] - y[0]) ** 2 + (q[1] - y[1]) ** 2) / 2)
    loss.backward()
    assert all(parameter.grad is None for parameter in target.parameters()), "the target is a constant"


def test_a_terminal_step_has_no_future():
    online, target = summing_network([3.0, 4.0]), summing_network([5.0, 6.0])
    batch = batch_of([[1.0, 1.0]], [[0]], [[7.0]], [[True]], [[True]])
    loss, _ = drqn.compute_loss(online, target, batch, drqn.Args(gamma=0.5))
    assert loss.item() == pytest.approx((3 * np.tanh(1.0) - 7) ** 2)


@pytest.mark.bug(53)
def test_sequences_are_learned_with_the_state_in_which_one_acts():
    """Q and targets of whole episodes, drawn from the buffer, against the acting functions stepped through the same
    observations: r + γ max of the target network's, one observation on."""
    online, target = random_network(1), random_network(2)
    rng, buffer, episode = np.random.default_rng(0), drqn.ReplayBuffer(100, 3, 10, 0), []
    obs = rng.normal(size=(8, 3)).astype(np.float32)
    for t in range(7):
        episode.append((obs[t], int(rng.integers(2)), float(rng.normal()), obs[t + 1], False))
        buffer.add(*episode[-1], age=t)
    batch = buffer.sample(50, rng, CPU)
    (row,) = np.unique(np.flatnonzero(batch.learned.sum(1) == 7))[:1]  # one that begins where the episode does
    one = drqn.Batch(*(field[[row]] for field in batch))
    loss, q_taken = drqn.compute_loss(online, target, one, drqn.Args(gamma=0.9))
    actions, rewards = (np.array([step[i] for step in episode]) for i in (1, 2))
    q = acted(online, obs)[np.arange(7), actions]
    y = rewards + 0.9 * acted(target, obs)[1:].max(axis=1)
    assert q_taken.numpy() == pytest.approx(q, abs=1e-5)
    assert loss.item() == pytest.approx(((q - y) ** 2).mean(), rel=1e-4)


@pytest.mark.bug(54)
def test_padding_is_not_learned_from():
    """A sequence of two steps and one of four, and in the padding of the first 1e3 or 1e6: equal to the bit, and as
    without padding."""
    torch.manual_seed(0)
    online, target = random_network(1), random_network(2)
    learned = torch.tensor([[True, True, False, False], [True] * 4])
    obs, reward = torch.randn(2, 5, 3), torch.randn(2, 4)
    action, terminated = torch.randint(2, (2, 4)), torch.zeros(2, 4, dtype=torch.bool)
    found = []
    for padding in (1e3, 1e6):
        for field in (obs[0, 3:], reward[0, 2:]):
            field[:] = padding
        action[0, 2:] = 1 - action[0, 2:]
        terminated[0, 2:] = ~terminated[0, 2:]
        online.zero_grad()
        loss, _ = drqn.compute_loss(online, target, drqn.Batch(obs, action, reward, terminated, learned), drqn.Args())
        loss.backward()
        found.append(torch.cat([loss.detach().reshape(1), gradient(online)]))
    assert torch.equal(*found)

    online.zero_grad()  # the two alone, weighted by their steps: 2 of 6 and 4 of 6
    for row, steps in ((0, 2), (1, 4)):
        fields = (obs[[row], : steps + 1], *(field[[row], :steps] for field in (action, reward, terminated, learned)))
        grads = [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in online.parameters()]
        online.zero_grad()
        drqn.compute_loss(online, target, drqn.Batch(*fields), drqn.Args())[0].backward()
        for parameter, before in zip(online.parameters(), grads, strict=True):
            parameter.grad.mul_(steps / 6).add_(before)
    assert torch.allclose(gradient(online), found[0][1:], atol=1e-6)


@pytest.mark.bug(12, 55)
def test_the_loss_is_divided_by_the_steps_that_count():
    """Q is 3 for action 0, whatever is seen, and γ = 0. Errors 3 - 1, 3 - 2, 3 - 5 and, in a sequence of one step,
    3 - 9: their squares over 4, not over the 2 x 3 places."""
    network = summing_network([0.0, 0.0], [3.0, 4.0])
    rows = [[1.0, 2.0, 5.0], [9.0, 0.0, 0.0]]
    learned = [[True, True, True], [True, False, False]]
    batch = batch_of(np.zeros((2, 4), np.float32).tolist(), [[0] * 3] * 2, rows, [[False] * 3] * 2, learned)
    loss, q_taken = drqn.compute_loss(network, network, batch, drqn.Args(gamma=0.0))
    assert loss.item() == pytest.approx(((3 - 1) ** 2 + (3 - 2) ** 2 + (3 - 5) ** 2 + (3 - 9) ** 2) / 4)
    assert q_taken.tolist() == [3.0] * 4
    loss.backward()
    assert network.output.bias.grad.tolist() == pytest.approx([2 * (2 + 1 - 2 - 6) / 4, 0.0])


# Replay of sequences


def filled(capacity, lengths, sequence_length, burn_in):
    """A buffer of episodes of these lengths, and the transitions that it should have kept, as (episode, step)."""
    buffer, all_steps = drqn.ReplayBuffer(capacity, 2, sequence_length, burn_in), []
    for episode, length in enumerate(lengths):
        for t in range(length):
            ends = t == length - 1 and episode % 2 == 0  # every second episode is only cut off
            buffer.add(np.array([episode, t]), t % 3, 100.0 * episode + t, np.array([episode, t + 1]), ends, age=t)
            all_steps.append((episode, t))
    return buffer, all_steps[-capacity:], lengths


CASES = {
    "not yet full": (100, [5, 1, 7, 3, 9]),
    "full": (40, [8] * 5),
    # The newest step has age 1 and lies just before the oldest one, of age 2 in another episode.
    "ages that go on over the write head": (20, [5] * 5 + [2]),
    "wrapped often": (37, [4, 1, 11, 6, 2, 9, 1, 1, 8, 12, 5, 3, 10, 7, 6, 4, 13]),
    "one episode, longer than the buffer": (16, [50]),
    "shorter than a sequence": (3, [2, 2, 7]),
}


@pytest.mark.bug(19, 56)
@pytest.mark.parametrize("burn_in", [0, 3])
@pytest.mark.parametrize(("capacity", "lengths"), CASES.values(), ids=CASES)
def test_sequences_keep_to_one_episode_and_to_what_the_ring_has(capacity, lengths, burn_in):
    """Every drawn row against a walk by hand from the first learned step on; every kept step is that of some row."""
    buffer, kept, _ = filled(capacity, lengths, 4, burn_in)
    batch = buffer.sample(2_000, np.random.default_rng(0), CPU)
    assert batch.obs.shape == (2_000, burn_in + 4 + 1, 2) and batch.learned.shape == (2_000, burn_in + 4)
    firsts = set()
    for obs, action, reward, terminated, learned in zip(*(field.numpy() for field in batch), strict=True):
        places = np.flatnonzero(learned)
        episode, t = obs[places[0]].astype(int).tolist()
        firsts.add((episode, t))
        steps = [(episode, t + k) for k in range(-burn_in, 4 + burn_in) if (episode, t + k) in kept]
        before = [step for step in steps if step[1] < t]
        assert places[0] == len(before), "as much burn-in as there is, at the sequence's beginning"
        assert obs[: len(before)].tolist() == [list(step) for step in before]
        after = steps[len(before) :][: len(places)]
        assert len(places) == min(burn_in + 4 - len(before), sum(step[1] >= t for step in steps))
        assert places.tolist() == list(range(len(before), len(before) + len(after)))
        assert obs[places].tolist() == [list(step) for step in after], "successive steps of one episode"
        assert obs[places + 1].tolist() == [[e, s + 1] for e, s in after], "and what was seen after each of them"
        assert action[places].tolist() == [s % 3 for _, s in after]
        assert reward[places].tolist() == [100.0 * e + s for e, s in after]
        assert terminated[places].tolist() == [s == lengths[e] - 1 and e % 2 == 0 for e, s in after]
    assert firsts == set(kept), "every kept step is learned from"


@pytest.mark.bug(17)
def test_first_steps_are_drawn_equally_often():
    buffer, kept, _ = filled(12, [5, 4, 8], 4, 2)
    batch = buffer.sample(60_000, np.random.default_rng(0), CPU)
    first = batch.obs[torch.arange(60_000), batch.learned.int().argmax(dim=1)].numpy()
    numbers, counts = np.unique(first @ [100, 1], return_counts=True)
    assert len(numbers) == len(kept) == 12 and chisquare(counts).pvalue > 0.001


@pytest.mark.bug(18, 28, 56)
def test_the_loop_stores_the_age_of_each_step(small, spy):
    buffers = spy("ReplayBuffer", drqn)
    train(small(drqn, env_id="Counter-v0", total_timesteps=100, learning_starts=10))
    buffer = buffers[0][1]
    assert buffer.age[:100].tolist() == [0, 1, 2, 3, 4] * 20
    assert buffer.obs[:100, 0].tolist() == [1000 * episode + t for episode in range(20) for t in range(5)]


def test_burn_in_is_read_and_not_learned_from():
    """Three ones, and one learned step with two of burn-in before it: Q of it is tanh(3). Where the episode has fewer
    steps before it, those that follow it are learned from in their place: two, or three."""
    network, buffer = summing_network([1.0, 1.0]), drqn.ReplayBuffer(10, 1, 1, 2)
    for t in range(3):
        buffer.add(np.ones(1), 0, 0.0, np.ones(1), t == 2, age=t)
    batch, found = buffer.sample(200, np.random.default_rng(0), CPU), {}
    for steps in (1, 2, 3):
        some = batch.learned.sum(dim=1) == steps
        assert 40 < some.sum() < 100
        rows = drqn.Batch(*(field[some][:1] for field in batch))
        _, found[steps] = drqn.compute_loss(network, network, rows, drqn.Args(gamma=0.0))
    for steps, sums in {1: [3.0], 2: [2.0, 3.0], 3: [1.0, 2.0, 3.0]}.items():
        assert found[steps].tolist() == pytest.approx(np.tanh(sums).tolist())


# Whole runs


def cue(tmp_path, **arguments):
    """A run of the claim's task with a delay of 3 steps: the sign and the answer are 4 observations."""
    from benchmark.envs import Cue

    if "Cue3-v0" not in gym.registry:
        gym.register("Cue3-v0", Cue, kwargs={"delay": 3})
    fixed = {"total_timesteps": 3_000, "learning_starts": 200, "hidden_sizes": (16,), "tau": 0.1, "gamma": 0.5}
    fixed |= {"eval_frequency": 10_000, "eval_episodes": 40, "learning_rate": 1e-2, "end_e": 1.0, "save_model": True}
    return drqn.Args(env_id="Cue3-v0", runs_dir=tmp_path, **fixed | arguments)


def test_learned_q_is_the_optimal_q(tmp_path):
    """The right answer pays 1, so Q* = 1 for it and 0 for the other, and V* = γ^k with k steps to go: 1/8 at first."""
    args = cue(tmp_path, sequence_length=4)
    run_dir = train(args)
    assert json.loads((run_dir / "result.json").read_text())["eval/episodic_return"] == 1.0
    network = drqn.QNetwork(2, 2, args)
    network.load_state_dict(torch.load(run_dir / "model.pt", weights_only=True))
    for right in (0, 1):
        q = acted(network, np.float32([[2 * right - 1, 0], [0, 0], [0, 0], [0, 1]]))
        assert q.max(axis=1) == pytest.approx([1 / 8, 1 / 4, 1 / 2, 1], abs=0.1)
        assert q[:3].min(axis=1) == pytest.approx([1 / 8, 1 / 4, 1 / 2], abs=0.1), "before, all actions are alike"
        assert q[3] == pytest.approx([1 - right, right], abs=0.1)


def test_sequences_that_are_too_short_do_not_learn_it(tmp_path):
    """The same with sequences of 3 steps: never are the sign and the answer in the same one."""
    result = json.loads((train(cue(tmp_path, sequence_length=3, total_timesteps=2_000)) / "result.json").read_text())
    assert 0.2 < result["eval/episodic_return"] < 0.8
    assert result["eval/q_predicted"] < 0.5 * (1 + 1 / 2 + 1 / 4 + 1 / 8) / 4 + 0.1, "half of V*"
