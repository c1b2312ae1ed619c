"""Targets, losses and networks on numbers small enough to follow on paper (known bugs 5 to 13 and 16)."""

import numpy as np
import pytest
import torch
from conftest import gradient, linear_network, train

import dqn


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
    next_q = linear_network(dqn, [3.0, 2.0], [0.0, 0.0])(torch.from_numpy(buffer.next_obs[[row]]))
    y = dqn.td_target(next_q, torch.tensor([5.0]), torch.from_numpy(buffer.terminated[[row]]), gamma=0.9)
    assert y.item() == pytest.approx(5 + 0.9 * 3 * 1005)


def test_target_comes_from_the_target_network():
    target_network = linear_network(dqn, [2.0, 5.0], [0.0, 0.0])  # Q_target(1, ·) = 2, 5
    online = linear_network(dqn, [100.0, 200.0], [3.0, 4.0])  # Q(0, ·) = 3, 4 and Q(1, ·) = 103, 204
    args = dqn.Args(gamma=0.5, loss="mse")
    loss, q_taken = dqn.backpropagate(online, target_network, batch_of_one(), args)
    assert q_taken.tolist() == [3.0]  # Q(s, a) of the action taken
    assert loss.item() == (3 - (1 + 0.5 * 5)) ** 2
    perturbed = linear_network(dqn, [-7.0, 1e6], [3.0, 4.0])  # other values at s' = 1, the same at s = 0
    assert dqn.backpropagate(perturbed, target_network, batch_of_one(), args)[0] == loss


def test_no_gradient_through_the_target(spy):
    targets = spy("td_target")
    online = linear_network(dqn, [0.5, 0.5], [3.0, 4.0])
    # The same network on both sides: y = 1 + 0.5 * max(3.5, 4.5) = 3.25, error 3 - 3.25 = -0.25 at obs 0, action 0.
    dqn.backpropagate(online, online, batch_of_one(), dqn.Args(gamma=0.5, loss="mse"))
    assert targets[0][1].requires_grad is False
    assert gradient(online).tolist() == [
        0.0,
        0.0,
        2 * -0.25,
        0.0,
    ]  # two weights (obs is 0), two biases


def test_gradients_do_not_add_up_over_updates(small, monkeypatch):
    """Each update begins without the gradient of the one before."""
    left_over, backpropagate = [], dqn.backpropagate

    def watched(q_network, *rest):
        left_over.extend(p.grad is not None and p.grad.abs().sum().item() > 0 for p in q_network.parameters())
        return backpropagate(q_network, *rest)

    monkeypatch.setattr(dqn, "backpropagate", watched)
    train(small())
    assert len(left_over) == 50 * 4 and not any(left_over)


@pytest.mark.parametrize("max_grad_norm", [1e-3, float("inf")])
def test_gradients_are_clipped_to_their_norm_if_a_limit_is_set(small, monkeypatch, max_grad_norm):
    """What Adam sees: gradients of norm 1e-3 at most, or as they are."""
    norms, step = [], torch.optim.Adam.step

    def watched(self):
        norms.append(torch.cat([p.grad.flatten() for p in self.param_groups[0]["params"]]).norm().item())
        return step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    train(small(max_grad_norm=max_grad_norm))
    assert len(norms) == 50
    if max_grad_norm == 1e-3:
        assert norms == pytest.approx([1e-3] * 50, rel=1e-2)
    else:
        assert min(norms) > 1e-2


def test_target_network_is_not_an_alias(small, spy):
    """Between two target updates the online network moves and the target network stands still."""
    updates, syncs = spy("backpropagate"), spy("update_target")
    train(small(target_network_frequency=10_000))
    assert len(syncs) == 0 and len(updates) == 50
    q_network, target_network = updates[0][0][:2]
    torch.manual_seed(1)
    first = dqn.QNetwork(4, 2, small()).state_dict()
    for name, weight in target_network.state_dict().items():
        assert torch.equal(weight, first[name])
        assert not torch.equal(weight, q_network.state_dict()[name])
        assert weight.untyped_storage().data_ptr() != q_network.state_dict()[name].untyped_storage().data_ptr()


def test_target_update_counts_environment_steps(small, spy, monkeypatch):
    """Three periods: the target moves at the multiples of the period after learning_starts, whatever the updates."""
    steps, syncs, add = [], [], dqn.ReplayBuffer.add
    monkeypatch.setattr(dqn.ReplayBuffer, "add", lambda self, *row: (steps.append(1), add(self, *row))[1])
    monkeypatch.setattr(dqn, "update_target", lambda *_: syncs.append(len(steps)))
    train(small(learning_starts=100, total_timesteps=400, target_network_frequency=90, train_frequency=7))
    assert syncs == [180, 270, 360]


def test_polyak_moves_a_fraction_of_the_way():
    target, online = linear_network(dqn, [0.0, 10.0], [5.0, 5.0]), linear_network(dqn, [1.0, 20.0], [5.0, 6.0])
    dqn.update_target(target, online, tau=0.1)
    assert target[0].weight.flatten().tolist() == pytest.approx([0.1, 11.0])  # 0.9 * 0 + 0.1 * 1, 0.9 * 10 + 0.1 * 20
    assert target[0].bias.tolist() == pytest.approx([5.0, 5.1])
    dqn.update_target(target, online, tau=1.0)
    assert target[0].weight.flatten().tolist() == [1.0, 20.0] and target[0].bias.tolist() == [5.0, 6.0]
    assert online[0].weight.flatten().tolist() == [1.0, 20.0], "the online one stays"
    assert all(parameter.grad_fn is None and parameter.grad is None for parameter in target.parameters())


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
def test_learning_rate_falls_linearly(small, monkeypatch, anneal_lr):
    rates, step = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self)))
    train(small(learning_rate=0.1, anneal_lr=anneal_lr))  # updates at steps 204, 208, ..., 400 of 400
    expected = [0.1 * (1 - (t - 1) / 400) if anneal_lr else 0.1 for t in range(204, 401, 4)]
    assert rates == pytest.approx(expected)


def test_one_update_is_one_step_of_adam(small, spy):
    """With one gradient g, m / √v = g / |g|: a first step of lr against the gradient's sign, whatever its size."""
    updates = spy("backpropagate")
    run_dir = train(small(learning_starts=396, learning_rate=0.01, anneal_lr=False, save_model=True))
    torch.manual_seed(1)
    first, last = dqn.QNetwork(4, 2, small()), torch.load(run_dir / "model.pt", weights_only=True)
    (((q_network, *_), _),) = updates
    for (name, before), parameter in zip(first.named_parameters(), q_network.parameters(), strict=True):
        moves = parameter.grad.abs() > 1e-4  # 1e-8 is added to √v: for the smallest gradients it counts
        assert moves.any()
        step = (last[name] - before)[moves] / -parameter.grad.sign()[moves]
        assert step.detach().numpy() == pytest.approx(0.01, rel=1e-3)


def test_numpy_network_is_the_torch_network():
    network = dqn.QNetwork(6, 3, dqn.Args(hidden_sizes=(32, 16)))
    q_values = network.as_numpy_function()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        obs = torch.randn(6)
        q = network(obs)
        assert q_values(obs.numpy()) == pytest.approx(q.detach().numpy(), abs=1e-5)
        optimizer.zero_grad()
        q.square().sum().backward()
        optimizer.step()  # the NumPy side must follow it
