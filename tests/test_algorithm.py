"""Targets, losses and networks on numbers small enough to follow on paper (known bugs 5 to 13 and 16)."""

import numpy as np
import pytest
import torch
from conftest import train

import dqn


def linear_network(weight, bias):
    """Q(s, ·) = weight * s + bias for a single number s, two actions."""
    network = dqn.QNetwork(obs_dim=1, num_actions=2, hidden_sizes=())
    state = {"0.weight": torch.tensor(weight).reshape(2, 1), "0.bias": torch.tensor(bias)}
    network.load_state_dict(state)
    return network


def batch_of_one(obs=0.0, action=0, reward=1.0, next_obs=1.0, terminated=False):
    return dqn.Batch(
        torch.tensor([[obs]]),
        torch.tensor([action]),
        torch.tensor([reward]),
        torch.tensor([[next_obs]]),
        torch.tensor([terminated]),
    )


def test_target_is_reward_plus_discounted_maximum():
    next_q = torch.tensor([[2.0, 5.0], [-3.0, -7.0]])
    y = dqn.td_target(next_q, torch.tensor([1.0, 10.0]), torch.tensor([False, False]), gamma=0.5)
    assert y.tolist() == [1 + 0.5 * 5, 10 + 0.5 * -3]


def test_target_of_a_terminal_state_is_the_reward():
    next_q = torch.tensor([[2.0, 5.0], [float("nan"), float("inf")]])  # nothing of s' may leak in
    y = dqn.td_target(next_q, torch.tensor([1.0, 10.0]), torch.tensor([True, True]), gamma=0.5)
    assert y.tolist() == [1.0, 10.0]


def test_truncation_bootstraps(small, spy):
    """Counter's odd episodes are truncated: their last step is stored with a future, next_obs its own last one."""
    buffers = spy("ReplayBuffer")
    train(small(env_id="Counter-v0", total_timesteps=210))
    buffer = buffers[0][1]
    last_steps = buffer.obs[:, 0] % 1000 == 4
    truncated = last_steps & (buffer.obs[:, 0] // 1000 % 2 == 1)
    assert truncated.sum() >= 20
    assert not buffer.terminated[truncated].any()
    assert buffer.terminated[last_steps & ~truncated].all()
    # With that row the target is r + γ max Q(final observation): 5 + 0.9 * max(3 * 1005, 2 * 1005).
    row = np.flatnonzero(buffer.obs[:, 0] == 1004)[0]
    next_q = linear_network([3.0, 2.0], [0.0, 0.0])(torch.from_numpy(buffer.next_obs[[row]]))
    y = dqn.td_target(next_q, torch.tensor([5.0]), torch.from_numpy(buffer.terminated[[row]]), gamma=0.9)
    assert y.item() == pytest.approx(5 + 0.9 * 3 * 1005)


def test_target_comes_from_the_target_network():
    target_network = linear_network([2.0, 5.0], [0.0, 0.0])  # Q_target(1, ·) = 2, 5
    online = linear_network([100.0, 200.0], [3.0, 4.0])  # Q(0, ·) = 3, 4 and Q(1, ·) = 103, 204
    args = dqn.Args(gamma=0.5, loss="mse", max_grad_norm=float("inf"))
    loss, q_taken, _ = dqn.loss_and_gradient(online, target_network, batch_of_one(), args)
    assert q_taken.tolist() == [3.0]  # Q(s, a) of the action taken
    assert loss.item() == (3 - (1 + 0.5 * 5)) ** 2
    perturbed = linear_network([-7.0, 1e6], [3.0, 4.0])  # other values at s' = 1, the same at s = 0
    assert dqn.loss_and_gradient(perturbed, target_network, batch_of_one(), args)[0] == loss


def test_no_gradient_through_the_target(spy):
    targets = spy("td_target")
    online = linear_network([0.5, 0.5], [3.0, 4.0])
    args = dqn.Args(gamma=0.5, loss="mse", max_grad_norm=float("inf"))
    # The same network on both sides: y = 1 + 0.5 * max(3.5, 4.5) = 3.25, error 3 - 3.25 = -0.25 at obs 0, action 0.
    *_, gradient = dqn.loss_and_gradient(online, online, batch_of_one(), args)
    assert targets[0][1].requires_grad is False
    assert gradient.tolist() == [0.0, 0.0, 2 * -0.25, 0.0]  # weights (obs is 0), then biases: only Q(s, a) moves


def test_gradient_is_clipped_to_its_norm():
    online, target = linear_network([0.0, 0.0], [30.0, 40.0]), linear_network([0.0, 0.0], [0.0, 0.0])
    args = dqn.Args(loss="mse", max_grad_norm=10.0)
    *_, gradient = dqn.loss_and_gradient(online, target, batch_of_one(obs=0.0, reward=0.0), args)
    assert gradient.tolist() == pytest.approx([0, 0, 10.0, 0])  # 2 * 30 = 60 before, and far longer than 10
    *_, gradient = dqn.loss_and_gradient(online, target, batch_of_one(obs=0.0, reward=28.0), args)
    assert gradient.tolist() == [0, 0, 2 * (30 - 28), 0]  # 4 is short enough to stay


def test_target_network_is_not_an_alias(small, spy):
    """Between two target updates the online network moves and the target network stands still."""
    updates, syncs = spy("loss_and_gradient"), spy("update_target")
    train(small(target_network_frequency=10_000))
    (target_vector, q_vector), _ = syncs[0]
    assert len(syncs) == 1, "only the copy at the start"
    assert len(updates) == 50
    assert target_vector.untyped_storage().data_ptr() != q_vector.untyped_storage().data_ptr()
    assert not torch.equal(target_vector, q_vector)
    q_network, target_network = updates[0][0][:2]
    torch.manual_seed(1)
    first_weights = torch.nn.utils.parameters_to_vector(dqn.QNetwork(4, 2, (16,)).parameters())
    assert torch.equal(torch.nn.utils.parameters_to_vector(target_network.parameters()), first_weights)
    assert torch.equal(torch.nn.utils.parameters_to_vector(q_network.parameters()), q_vector)


def test_parameters_are_views_of_the_vector():
    network = dqn.QNetwork(3, 2, (5,))
    before = [p.clone() for p in network.parameters()]
    vector = dqn.as_vector(network)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    vector.fill_(7.0)
    assert all((p == 7.0).all() for p in network.parameters())


def test_target_update_counts_environment_steps(small, spy, monkeypatch):
    """Three periods: the target moves at the multiples of the period after learning_starts, whatever the updates."""
    steps, syncs, add = [], [], dqn.ReplayBuffer.add
    monkeypatch.setattr(dqn.ReplayBuffer, "add", lambda self, *row: (steps.append(1), add(self, *row))[1])
    monkeypatch.setattr(dqn, "update_target", lambda *_, tau=None: syncs.append(len(steps)))
    train(small(learning_starts=100, total_timesteps=400, target_network_frequency=90, train_frequency=7))
    assert syncs == [0, 180, 270, 360]


def test_polyak_moves_a_fraction_of_the_way():
    target, online = torch.tensor([0.0, 10.0]), torch.tensor([1.0, 20.0])
    dqn.update_target(target, online, tau=0.1)
    assert target.tolist() == pytest.approx([0.1, 11.0])
    dqn.update_target(target, online, tau=1.0)
    assert target.tolist() == [1.0, 20.0]


def test_loss_refuses_shapes_that_broadcast():
    with pytest.raises(AssertionError):
        dqn.td_loss(torch.zeros(3), torch.zeros(3, 1), "mse")
    assert dqn.td_loss(torch.zeros(3), torch.zeros(3), "mse").shape == (3,)


def test_huber_keeps_its_gradient_beyond_one():
    q = torch.tensor([1.0, 5.0, -5.0, 0.5], requires_grad=True)
    loss = dqn.td_loss(q, torch.zeros(4), "huber")
    assert loss.tolist() == [0.5, 5 - 0.5, 5 - 0.5, 0.5 * 0.5**2]
    loss.sum().backward()
    assert q.grad.tolist() == [1.0, 1.0, -1.0, 0.5]


def test_mse_is_the_square():
    assert dqn.td_loss(torch.tensor([3.0]), torch.tensor([1.0]), "mse").tolist() == [(3 - 1) ** 2]


def test_epsilon_schedule():
    epsilons = [dqn.linear_schedule(1.0, 0.1, duration=100, t=t) for t in range(200)]
    assert epsilons[0] == 1.0
    assert epsilons[50] == pytest.approx(1 - 0.9 / 2)
    assert epsilons[100] == pytest.approx(0.1)
    assert epsilons[100:] == [epsilons[100]] * 100
    assert epsilons == sorted(epsilons, reverse=True)


@pytest.mark.parametrize("train_frequency", [1, 50])
def test_epsilon_depends_on_environment_steps_alone(small, spy, train_frequency):
    calls = spy("linear_schedule")
    train(small(train_frequency=train_frequency, exploration_fraction=0.5, end_e=0.2))
    assert [arguments for arguments, _ in calls] == [(1.0, 0.2, 0.5 * 400, t) for t in range(400)]


@pytest.mark.parametrize("anneal_lr", [True, False])
def test_learning_rate_falls_linearly(small, spy, anneal_lr):
    steps = spy("adam_step")
    train(small(learning_rate=0.1, anneal_lr=anneal_lr))  # updates at steps 204, 208, ..., 400 of 400
    expected = [0.1 * (1 - (t - 1) / 400) if anneal_lr else 0.1 for t in range(204, 401, 4)]
    assert [lr for (_, _, _, lr), _ in steps] == pytest.approx(expected)


def test_adam_by_hand():
    """With one gradient g, m / √v = g / |g|: a step of lr against its sign. With g = 4, then 3, corrected for
    the start, m = (0.9 * 0.4 + 0.1 * 3) / (1 - 0.9²) and v = (0.999 * 0.016 + 0.001 * 9) / (1 - 0.999²)."""
    vector, moments = torch.tensor([1.0, 1.0]), [[torch.zeros(2)], [torch.zeros(2)], [torch.zeros(())]]
    dqn.adam_step(vector, torch.tensor([4.0, -0.01]), moments, lr=0.1)
    assert vector.tolist() == pytest.approx([1 - 0.1, 1 + 0.1])
    dqn.adam_step(vector, torch.tensor([3.0, -0.01]), moments, lr=0.01)
    m, v = (0.9 * 0.4 + 0.1 * 3) / (1 - 0.9**2), (0.999 * 0.016 + 0.001 * 9) / (1 - 0.999**2)
    assert vector.tolist() == pytest.approx([0.9 - 0.01 * m / v**0.5, 1.1 + 0.01])


def test_numpy_network_is_the_torch_network():
    network = dqn.QNetwork(obs_dim=6, num_actions=3, hidden_sizes=(32, 16))
    vector = dqn.as_vector(network)
    q_values = network.numpy()
    for _ in range(3):
        obs = torch.randn(6)
        assert q_values(obs.numpy()) == pytest.approx(network(obs).detach().numpy(), abs=1e-5)
        vector += 0.1 * torch.randn_like(vector)  # an update: the NumPy side must follow it
