"""Double, Dueling and Prioritized DQN on numbers that can be checked by hand."""

import numpy as np
import pytest
import torch
from conftest import gradient, linear_network, scalars, train
from scipy.stats import chisquare

import double_dqn
import dqn
import dueling_dqn
import per_dqn

CPU = torch.device("cpu")


# Double DQN


def test_double_target_is_the_target_networks_value_of_the_online_networks_choice():
    online_next_q, next_q = torch.tensor([[1.0, 3.0], [8.0, 0.0]]), torch.tensor([[20.0, 10.0], [5.0, 7.0]])
    y = double_dqn.td_target(online_next_q, next_q, torch.tensor([1.0, 2.0]), torch.tensor([False, False]), gamma=0.5)
    assert y.tolist() == [1 + 0.5 * 10, 2 + 0.5 * 5]  # DQN: 1 + 0.5 * 20 and 2 + 0.5 * 7


def test_double_target_of_a_terminal_state_is_the_reward():
    nan = torch.full((1, 2), float("nan"))
    assert double_dqn.td_target(nan, nan, torch.tensor([3.0]), torch.tensor([True]), gamma=0.5).tolist() == [3.0]


@pytest.mark.bug(3, 4, 8)
def test_double_chooses_with_the_online_network_at_next_obs():
    """At obs 0 the online network prefers action 0 (3 to 2), at next_obs 1 action 1 (4 to 12); the target network,
    with 9 and 5 there, prefers action 0. So y = 1 + 0.5 * 5, and neither 1 + 0.5 * 9 nor online values."""
    online = linear_network(double_dqn, [1.0, 10.0], [3.0, 2.0])
    target = linear_network(double_dqn, [9.0, 5.0], [0.0, 0.0])
    rows = ([[0.0]], [0], [1.0], [[1.0]], [False])
    batch = double_dqn.Batch(*map(torch.tensor, rows))
    loss, q_taken = double_dqn.compute_loss(online, target, batch, double_dqn.Args(gamma=0.5, loss="mse"))
    loss.backward()
    assert q_taken.tolist() == [3.0]
    assert loss.item() == (3 - (1 + 0.5 * 5)) ** 2
    assert gradient(online).tolist() == [0, 0, 2 * (3 - (1 + 0.5 * 5)), 0], "none through the choice or the target"
    assert all(parameter.grad is None for parameter in target.parameters())


# Dueling DQN


def dueling_network():
    """Shared h = relu(s), relu(-s) + 1; V = 2 relu(h_0) + 1; A = (3 u, -u + 2, 1) with u = relu(h_1)."""
    network = dueling_dqn.QNetwork(1, 3, dueling_dqn.Args(hidden_sizes=(2, 1)))
    state = {
        "hidden.0.weight": [[1.0], [-1.0]],
        "hidden.0.bias": [0.0, 1.0],
        "value_hidden.weight": [[1.0, 0.0]],
        "value_hidden.bias": [0.0],
        "value.weight": [[2.0]],
        "value.bias": [1.0],
        "advantage_hidden.weight": [[0.0, 1.0]],
        "advantage_hidden.bias": [0.0],
        "output.weight": [[3.0], [-1.0], [0.0]],
        "output.bias": [0.0, 2.0, 1.0],
    }
    network.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    return network


def test_dueling_adds_value_and_advantage_less_its_mean():
    """At s = 0.5: h = 0.5, 0.5; V = 2; A = 1.5, 1.5, 1, of mean 4/3. At s = -1: h = 0, 2; V = 1; A = 6, 0, 1: 7/3."""
    q = dueling_network()(torch.tensor([[0.5], [-1.0]])).detach().numpy()
    assert q[0] == pytest.approx([2 + 1.5 - 4 / 3, 2 + 1.5 - 4 / 3, 2 + 1 - 4 / 3])
    assert q[1] == pytest.approx([1 + 6 - 7 / 3, 1 + 0 - 7 / 3, 1 + 1 - 7 / 3])


@pytest.mark.bug(2)
def test_dueling_mean_over_actions_is_the_value():
    obs = torch.tensor([[0.5], [-1.0], [3.0]])
    assert dueling_network()(obs).mean(dim=1).tolist() == pytest.approx([2 * 0.5 + 1, 1, 2 * 3 + 1])


@pytest.mark.bug(1)
def test_dueling_of_one_state_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    network, obs = dueling_dqn.QNetwork(4, 3, dueling_dqn.Args(hidden_sizes=(8, 6))), torch.randn(5, 4)
    alone = torch.cat([network(row.unsqueeze(0)) for row in obs])
    assert torch.allclose(network(obs), alone, atol=1e-6)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2), "the states differ"


def test_dueling_streams_share_what_is_before_them_and_nothing_else():
    """Q's mean over actions, which is V, has no gradient in the advantage stream, and a difference of two Q none in
    the value stream; both have one in the shared layer."""
    network, obs = dueling_network(), torch.tensor([[0.5]])
    value = torch.nn.ModuleList([network.value_hidden, network.value])
    advantage = torch.nn.ModuleList([network.advantage_hidden, network.output])
    for loss, stream, other in (
        (network(obs).mean(), value, advantage),
        (network(obs)[0, 0] - network(obs)[0, 1], advantage, value),
    ):
        network.zero_grad()
        loss.backward()
        assert gradient(other).abs().max() < 1e-6 < gradient(stream).abs().max()
        assert gradient(network.hidden).abs().max() > 0.1


@pytest.mark.parametrize(("hidden_sizes", "units"), [((64, 32), 32), ((7,), 7), ((5, 1), 1)])
def test_dueling_streams_have_the_units_of_the_last_hidden_layer(hidden_sizes, units):
    network = dueling_dqn.QNetwork(4, 2, dueling_dqn.Args(hidden_sizes=hidden_sizes))
    assert network.value_hidden.out_features == network.advantage_hidden.out_features == units
    assert (network.value.out_features, network.output.out_features) == (1, 2)
    assert [layer.out_features for layer in network.hidden] == list(hidden_sizes[:-1])


@pytest.mark.parametrize("hidden_sizes", [(2,), (7,), (32, 15)])
def test_dueling_acts_by_the_network_that_learns(hidden_sizes):
    """q_values of one observation, without a batch, is a row of the batch's values, also after updates."""
    network = dueling_dqn.QNetwork(6, 3, dueling_dqn.Args(hidden_sizes=hidden_sizes))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        obs = torch.randn(6)
        q = network(obs.unsqueeze(0))
        assert network.q_values(obs.numpy()) == pytest.approx(q.detach().numpy()[0], abs=1e-5)
        optimizer.zero_grad()
        q.square().sum().backward()
        optimizer.step()


def test_dueling_needs_a_layer_for_the_streams(small):
    with pytest.raises(ValueError, match="--hidden-sizes needs at least one layer"):
        train(small(dueling_dqn, hidden_sizes=()))
    assert not (small().runs_dir).exists(), "no run folder"


# Prioritized replay: the sum tree


def tree_of(*values):
    tree = per_dqn.SumTree(len(values))
    tree.set(np.arange(len(values)), np.array(values, float))
    return tree


def test_sum_tree_of_the_docstring():
    tree = tree_of(1, 2, 3, 4)
    assert tree.nodes[1:].tolist() == [10, 3, 7, 1, 2, 3, 4]
    assert tree.find(np.array([5.5])).tolist() == [2]
    tree.set_one(1, 7.0)
    assert tree.nodes[1:].tolist() == [15, 8, 7, 1, 7, 3, 4]
    tree.set(np.array([3, 0]), np.array([0.0, 2.0]))
    assert tree.nodes[1:].tolist() == [12, 9, 3, 2, 7, 3, 0]


@pytest.mark.parametrize("capacity", [1, 2, 3, 5, 8, 100])
def test_sum_tree_against_adding_up(capacity):
    """Every leaf is found by every u between the sum before it and the sum with it, its lower end included."""
    values = np.random.default_rng(0).integers(1, 10, capacity).astype(float)
    tree, sums = tree_of(*values), values.cumsum()
    assert tree.nodes[1] == values.sum() and (tree.get(np.arange(capacity)) == values).all()
    assert (tree.find(sums - values) == np.arange(capacity)).all()
    assert (tree.find(sums - values / 2) == np.arange(capacity)).all()
    assert (tree.find(sums - 1e-9) == np.arange(capacity)).all()


def test_sum_tree_never_finds_a_zero():
    tree = tree_of(0, 3, 0, 0, 2, 0)
    found = tree.find(np.linspace(0, 5, 1000, endpoint=False))
    assert np.unique(found, return_counts=True)[1].tolist() == [600, 400] and set(found) == {1, 4}


@pytest.mark.bug(25)
def test_sum_tree_does_not_drift():
    """A million random changes, of values over nine orders of magnitude: in float32 the root would be off by far."""
    rng, tree, leaves = np.random.default_rng(0), per_dqn.SumTree(1000), np.zeros(1000)
    for _ in range(1000):
        i, values = rng.integers(1000, size=900), 10.0 ** rng.uniform(-6, 3, 900)
        tree.set(i, values)
        leaves[i] = values  # with NumPy too, the last one of the same i counts
        for k, value in zip(rng.integers(1000, size=100).tolist(), 10.0 ** rng.uniform(-6, 3, 100), strict=True):
            tree.set_one(k, value)
            leaves[k] = value
    assert (tree.get(np.arange(1000)) == leaves).all()
    assert tree.nodes[1] == pytest.approx(leaves.sum(), rel=1e-12)


# Prioritized replay: the buffer


def buffer_of(n, capacity=None, alpha=0.5, eps=0.01):
    """Transition k has observation k, and all transitions have the priority of new ones."""
    buffer = per_dqn.ReplayBuffer(capacity or n, 1, alpha, eps)
    for k in range(n):
        buffer.add(np.array([k]), 0, 0.0, np.array([k]), False)
    return buffer


def leaves(buffer):
    return buffer.tree.get(np.arange(buffer.size))


@pytest.mark.bug(20)
def test_priority_is_the_error_to_the_power_of_alpha():
    """Not the loss, not δ² and α not twice; the sign does not matter."""
    buffer = buffer_of(3)
    assert leaves(buffer).tolist() == [1.0, 1.0, 1.0]
    buffer.update_priorities(np.array([0, 2]), np.array([-4.0, 0.25], np.float32))
    assert leaves(buffer) == pytest.approx([(4 + 0.01) ** 0.5, 1.0, (0.25 + 0.01) ** 0.5])


@pytest.mark.bug(24)
def test_new_transitions_have_the_largest_priority_so_far():
    """Also where they overwrite others, and also if that largest error has become smaller since."""
    buffer = buffer_of(3)
    buffer.update_priorities(np.arange(3), np.array([0.0, 8.99, 2.0]))
    buffer.update_priorities(np.array([1]), np.array([0.0]))
    buffer.add(np.array([3]), 0, 0.0, np.array([3]), False)
    assert buffer.obs[:, 0].tolist() == [3, 1, 2]
    assert leaves(buffer) == pytest.approx([(8.99 + 0.01) ** 0.5, 0.01**0.5, (2 + 0.01) ** 0.5])


@pytest.mark.bug(19)
def test_ring_of_priorities():
    buffer = buffer_of(25, capacity=10)
    assert sorted(buffer.obs[:, 0]) == list(range(15, 25)) and leaves(buffer).tolist() == [1.0] * 10
    assert buffer.tree.nodes[1] == 10


@pytest.mark.bug(26)
@pytest.mark.parametrize("batch_size", [1, 7, 32])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_draws_follow_the_priorities(alpha, batch_size):
    buffer, errors = buffer_of(5, capacity=8, alpha=alpha, eps=0.0), np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    buffer.update_priorities(np.arange(5), errors)
    rng = np.random.default_rng(0)
    draws = np.concatenate([buffer.sample(batch_size, 0.4, rng, CPU)[1] for _ in range(20_000 // batch_size)])
    expected = errors**alpha / (errors**alpha).sum() * len(draws)
    assert chisquare(np.bincount(draws, minlength=5), expected).pvalue > 0.001


def test_one_transition_from_each_part_of_the_sum():
    buffer = buffer_of(8, alpha=1.0, eps=0.0)
    for _ in range(10):
        _, i = buffer.sample(8, 0.4, np.random.default_rng(0), CPU)
        assert i.tolist() == list(range(8))


def test_rows_stay_together_and_the_weight_is_that_of_their_priority():
    """P = 1/10, 2/10, 3/10, 4/10, N = 4: with β = 1, w = 1 / (4 P) = 2.5, 1.25, 5/6, 0.625, divided by the largest."""
    buffer = buffer_of(4, alpha=1.0, eps=0.0)
    buffer.update_priorities(np.arange(4), np.array([1.0, 2.0, 3.0, 4.0]))
    batch, i = buffer.sample(1000, 1.0, np.random.default_rng(0), CPU)
    assert set(i) == {0, 1, 2, 3} and batch.obs[:, 0].tolist() == i.tolist()
    assert batch.weight.dtype == torch.float32
    assert batch.weight.numpy() == pytest.approx(np.array([1.0, 1 / 2, 1 / 3, 1 / 4])[i])
    half, i = buffer.sample(1000, 0.5, np.random.default_rng(0), CPU)
    assert half.weight.numpy() == pytest.approx(np.array([1.0, 1 / 2, 1 / 3, 1 / 4])[i] ** 0.5)
    uniform, _ = buffer.sample(1000, 0.0, np.random.default_rng(0), CPU)
    assert (uniform.weight == 1).all()


# Prioritized replay: the update


def weighted(weight, loss="mse"):
    """Of Q(0, 0) = 3 and Q(0, 1) = 4, which are biases, and the rewards 1 and 10 of terminal steps: what is returned,
    and the gradient by the two weights and the two biases."""
    online = linear_network(per_dqn, [0.0, 0.0], [3.0, 4.0])
    rows = ([[0.0], [0.0]], [0, 1], [1.0, 10.0], [[1.0], [1.0]], [True, True], weight)
    batch = per_dqn.Batch(*map(torch.tensor, rows))
    loss, *logged = per_dqn.compute_loss(online, online, batch, per_dqn.Args(loss=loss))
    loss.backward()
    return loss, *logged, gradient(online)


@pytest.mark.bug(12, 14, 15)
def test_weights_scale_each_transitions_loss():
    """Errors 1 - 3 = -2 and 10 - 4 = 6: loss (w_0 4 + w_1 36) / 2, gradient w_i 2 (Q - y) / 2. With w inside the square
    it would be w² in place of w, and with w on the mean the two parts would not keep their own."""
    loss, q_taken, td_error, both = weighted([1.0, 0.25])
    assert loss.item() == (1 * 4 + 0.25 * 36) / 2
    assert q_taken.tolist() == [3.0, 4.0] and td_error.tolist() == [-2.0, 6.0]
    assert both.tolist() == [0, 0, 1 * 2, 0.25 * -6]
    assert not q_taken.requires_grad and not td_error.requires_grad
    assert weighted([1.0, 1.0])[3].tolist() == [0, 0, 2, -6]


@pytest.mark.bug(13)
def test_weights_scale_huber_losses_too():
    """Errors -2 and 6 lie in the linear part: |δ| - 1/2, with the gradient -1 or 1, times w_i / 2."""
    loss, _, _, both = weighted([1.0, 0.25], "huber")
    assert loss.item() == (1 * 1.5 + 0.25 * 5.5) / 2
    assert both.tolist() == [0, 0, 1 / 2, 0.25 * -1 / 2]


@pytest.mark.bug(23)
def test_priorities_do_not_depend_on_weights_or_loss():
    """What becomes the priority is δ itself, whatever β made of the weights, and whatever the loss is."""
    for weight in ([1.0, 1.0], [1.0, 0.01]):
        for loss in ("mse", "huber"):
            assert weighted(weight, loss)[2].tolist() == [-2.0, 6.0]


@pytest.mark.bug(15, 21)
def test_weights_change_the_gradient_of_a_drawn_batch():
    """With P = 1/4 and 3/4 and β = 1, w = 1 and 1/3: of two equal errors the rarer one weighs three times as much."""
    buffer = buffer_of(2, alpha=1.0, eps=0.0)
    buffer.update_priorities(np.arange(2), np.array([1.0, 3.0]))
    buffer.action[:], buffer.reward[:], buffer.terminated[:] = [0, 1], [3.0 + 1, 4.0 + 1], True
    batch, i = buffer.sample(4, 1.0, np.random.default_rng(0), CPU)
    assert i.tolist() == [0, 1, 1, 1]
    online = linear_network(per_dqn, [0.0, 0.0], [3.0, 4.0])
    per_dqn.compute_loss(online, online, batch, per_dqn.Args(loss="mse"))[0].backward()
    assert gradient(online)[2:].tolist() == pytest.approx([1 * -2 / 4, 3 * (1 / 3) * -2 / 4]), "as if drawn uniformly"


@pytest.mark.bug(22)
def test_beta_is_annealed_to_one(small, monkeypatch):
    """From 0.4 at the start linearly to 1 at the end: never multiplied onto itself, never beyond 1."""
    betas, sample = [], per_dqn.ReplayBuffer.sample

    def record(self, batch_size, beta, rng, device):
        betas.append(beta)
        return sample(self, batch_size, beta, rng, device)

    monkeypatch.setattr(per_dqn.ReplayBuffer, "sample", record)
    train(small(per_dqn))  # updates at steps 204, 208, ..., 400 of 400
    assert betas == pytest.approx([0.4 + 0.6 * t / 400 for t in range(204, 401, 4)])
    assert per_dqn.linear_schedule(0.4, 1.0, 100, 0) == 0.4
    assert per_dqn.linear_schedule(0.4, 1.0, 100, 50) == pytest.approx(0.7)
    assert per_dqn.linear_schedule(0.4, 1.0, 100, 200) == 1.0


def test_loop_updates_the_priorities_of_what_it_drew(small, spy, monkeypatch):
    updates, calls, update = spy("compute_loss", per_dqn), [], per_dqn.ReplayBuffer.update_priorities

    def record(self, i, td_error):
        calls.append((self.obs[i], td_error))
        update(self, i, td_error)

    monkeypatch.setattr(per_dqn.ReplayBuffer, "update_priorities", record)
    train(small(per_dqn))
    assert len(calls) == len(updates) == 50
    for (obs, td_error), ((_, _, batch, _), (_, _, returned)) in zip(calls, updates, strict=True):
        assert (obs == batch.obs.numpy()).all() and (td_error == returned.numpy()).all()


# All of them


def test_without_priorities_it_is_uniform_replay(small, spy):
    """α = 0: all weights 1, and the error of every transition counts alike."""
    updates = spy("compute_loss", per_dqn)
    train(small(per_dqn, prioritized_replay_alpha=0.0))
    assert all((batch.weight == 1).all() for (_, _, batch, _), _ in updates)


def test_compiled_gradient_equals_the_eager_one(script):
    if script.__name__ in ("drqn", "qt_opt", "rainbow"):
        pytest.skip("drqn.py cannot be compiled, the others draw noise in their graph: see their own tests")
    torch.manual_seed(0)
    args = script.Args(hidden_sizes=(32, 16))
    networks = script.QNetwork(4, 2, args), script.QNetwork(4, 2, args)
    rows = [torch.randn(64, 4), torch.randint(2, (64,)), torch.randn(64), torch.randn(64, 4), torch.rand(64) < 0.2]
    if script.__name__ in ("per_dqn", "n_step_dqn"):
        rows.append(torch.rand(64))  # a weight, or a discount
    for network in networks:
        if hasattr(network, "resample_noise"):
            network.resample_noise()
    found = []
    for function in (script.compute_loss, script.compiled(script.compute_loss, args)):
        networks[0].zero_grad()
        loss, *logged = function(*networks, script.Batch(*rows), args)
        loss.backward()
        found.append((loss, *logged, gradient(networks[0])))
    for eager, compiled in zip(*found, strict=True):
        assert torch.allclose(eager, compiled, atol=1e-6)
    assert found[0][-1].abs().max() > 1e-3


def test_compiled_runs_of_one_process_keep_their_own_arguments(small):
    """They have no guards, so the second would go on with what was compiled for the first one's γ."""
    q = {}
    for gamma, compiled in ((0.0, False), (0.0, True), (0.9, False), (0.9, True)):
        args = small(gamma=gamma, compile=compiled, target_network_frequency=4, learning_rate=0.05, end_e=1.0)
        q[gamma, compiled] = scalars(train(args))["losses/q_values"][-1][1]
    assert q[0.0, True] == pytest.approx(q[0.0, False], rel=0.01)
    assert q[0.9, True] == pytest.approx(q[0.9, False], rel=0.01)
    assert abs(q[0.9, False] - q[0.0, False]) > 0.1


def test_dqn_overestimates_where_double_does_not():
    """All actions are worth 0, and two networks see independent noise of standard deviation 1: of two such values the
    larger one is 1/√π on average, while the second network's value of the first one's choice is 0 on average."""
    one, two = torch.randn(2, 100_000, 2, generator=torch.Generator().manual_seed(0))
    zero, going_on = torch.zeros(100_000), torch.zeros(100_000, dtype=torch.bool)
    assert dqn.td_target(two, zero, going_on, gamma=1.0).mean().item() == pytest.approx(np.pi**-0.5, abs=0.01)
    assert double_dqn.td_target(one, two, zero, going_on, gamma=1.0).mean().item() == pytest.approx(0, abs=0.01)
