"""Targets, losses and networks on numbers small enough to follow on paper."""

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


@pytest.mark.bug(9)
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


@pytest.mark.bug(5)
def test_target_comes_from_the_target_network():
    target_network = linear_network(dqn, [2.0, 5.0], [0.0, 0.0])  # Q_target(1, ·) = 2, 5
    online = linear_network(dqn, [100.0, 200.0], [3.0, 4.0])  # Q(0, ·) = 3, 4 and Q(1, ·) = 103, 204
    args = dqn.Args(gamma=0.5, loss="mse")
    loss, q_taken = dqn.compute_loss(online, target_network, batch_of_one(), args)
    assert q_taken.tolist() == [3.0]  # Q(s, a) of the action taken
    assert loss.item() == (3 - (1 + 0.5 * 5)) ** 2
    perturbed = linear_network(dqn, [-7.0, 1e6], [3.0, 4.0])  # other values at s' = 1, the same at s = 0
    assert dqn.compute_loss(perturbed, target_network, batch_of_one(), args)[0] == loss


@pytest.mark.bug(8)
def test_no_gradient_through_the_target(spy):
    targets = spy("td_target")
    online = linear_network(dqn, [0.5, 0.5], [3.0, 4.0])
    # The same network on both sides: y = 1 + 0.5 * max(3.5, 4.5) = 3.25, error 3 - 3.25 = -0.25 at obs 0, action 0.
    loss, q_taken = dqn.compute_loss(online, online, batch_of_one(), dqn.Args(gamma=0.5, loss="mse"))
    loss.backward()
    assert targets[0][1].requires_grad is False and q_taken.requires_grad is False
    assert gradient(online).tolist() == [0.0, 0.0, 2 * -0.25, 0.0]  # two weights (obs is 0), two biases


def test_gradients_do_not_add_up_over_updates(small, monkeypatch):
    """Adam gets the gradient of this update's loss alone."""
    compute_loss, step, expected, compared = dqn.compute_loss, torch.optim.Adam.step, [], []

    def watched_loss(q_network, *rest):
        loss, q_taken = compute_loss(q_network, *rest)
        expected[:] = torch.autograd.grad(loss, list(q_network.parameters()), retain_graph=True)
        return loss, q_taken

    def watched_step(self):
        compared.extend(map(torch.equal, [p.grad for p in self.param_groups[0]["params"]], expected))
        step(self)

    monkeypatch.setattr(dqn, "compute_loss", watched_loss)
    monkeypatch.setattr(torch.optim.Adam, "step", watched_step)
    train(small(max_grad_norm=float("inf")))
    assert compared == [True] * (50 * 4)


@pytest.mark.parametrize("max_grad_norm", [1e-3, float("inf")])
def test_gradients_are_clipped_to_their_norm_if_a_limit_is_set(small, monkeypatch, max_grad_norm):
    """Adam sees gradients of norm 1e-3 at most, or gradients as they are."""
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


@pytest.mark.bug(6)
def test_target_network_is_not_an_alias(small, spy):
    """Between two target updates the online network moves and the target network stands still."""
    updates, syncs = spy("compute_loss"), spy("update_target")
    train(small(target_network_frequency=10_000))
    assert len(syncs) == 0 and len(updates) == 50
    q_network, target_network = updates[0][0][:2]
    torch.manual_seed(1)
    first = dqn.QNetwork(4, 2, small()).state_dict()
    for name, weight in target_network.state_dict().items():
        assert torch.equal(weight, first[name])
        assert not torch.equal(weight, q_network.state_dict()[name])
        assert weight.untyped_storage().data_ptr() != q_network.state_dict()[name].untyped_storage().data_ptr()


@pytest.mark.bug(7)
def test_target_update_counts_environment_steps(small, spy, monkeypatch):
    """Three periods: the target moves at the multiples of the period after learning_starts, whatever the updates."""
    steps, syncs, add = [], [], dqn.ReplayBuffer.add

    def watched_add(self, *row):
        steps.append(1)
        add(self, *row)

    monkeypatch.setattr(dqn.ReplayBuffer, "add", watched_add)
    monkeypatch.setattr(dqn, "update_target", lambda *_: syncs.append(len(steps)))
    train(small(learning_starts=100, total_timesteps=400, target_network_frequency=90, train_frequency=7))
    assert syncs == [180, 270, 360]


def test_polyak_moves_a_fraction_of_the_way():
    target, online = linear_network(dqn, [0.0, 10.0], [5.0, 5.0]), linear_network(dqn, [1.0, 20.0], [5.0, 6.0])
    dqn.update_target(target, online, tau=0.1)
    # 0.9 * 0 + 0.1 * 1, 0.9 * 10 + 0.1 * 20
    assert target.output.weight.flatten().tolist() == pytest.approx([0.1, 11.0])
    assert target.output.bias.tolist() == pytest.approx([5.0, 5.1])
    dqn.update_target(target, online, tau=1.0)
    assert target.output.weight.flatten().tolist() == [1.0, 20.0] and target.output.bias.tolist() == [5.0, 6.0]
    assert online.output.weight.flatten().tolist() == [1.0, 20.0], "the online one stays"
    assert all(parameter.grad_fn is None and parameter.grad is None for parameter in target.parameters())


@pytest.mark.bug(12)
def test_loss_refuses_shapes_that_broadcast(monkeypatch):
    """A target (B, 1) and Q(s, a), (B,), would make a loss of B x B errors."""
    networks = linear_network(dqn, [0.0, 0.0], [3.0, 4.0]), linear_network(dqn, [0.0, 0.0], [0.0, 0.0])
    batch = dqn.Batch(*(torch.cat([part, part]) for part in batch_of_one()))
    assert dqn.compute_loss(*networks, batch, dqn.Args())[1].shape == (2,)
    td_target = dqn.td_target
    monkeypatch.setattr(dqn, "td_target", lambda *given: td_target(*given).unsqueeze(1))
    with pytest.raises(AssertionError):
        dqn.compute_loss(*networks, batch, dqn.Args())


def loss_of(q_taken, reward, loss):
    """The loss, and its gradient by Q(s, a), of rows with Q(s, a) = q_taken and the target y = reward."""
    n, network = len(q_taken), linear_network(dqn, [1.0, 0.0], [0.0, 0.0])  # Q(s, 0) = s
    obs, zero = torch.tensor(q_taken).unsqueeze(1).requires_grad_(), torch.zeros(n, dtype=torch.int64)
    batch = dqn.Batch(obs, zero, torch.tensor(reward), torch.zeros(n, 1), torch.ones(n, dtype=torch.bool))
    mean, _ = dqn.compute_loss(network, network, batch, dqn.Args(loss=loss))
    mean.backward()
    return mean.item(), obs.grad.flatten().tolist()


@pytest.mark.bug(13)
def test_huber_keeps_its_gradient_beyond_one():
    q, losses, gradients = [1.0, 5.0, -5.0, 0.5], [0.5, 5 - 0.5, 5 - 0.5, 0.5 * 0.5**2], [1.0, 1.0, -1.0, 0.5]
    for row in zip(q, losses, gradients, strict=True):
        assert loss_of([row[0]], [0.0], "huber") == (row[1], [row[2]])
    assert loss_of(q, [0.0] * 4, "huber") == (sum(losses) / 4, [one / 4 for one in gradients]), "the mean of a batch"


def test_mse_is_the_square():
    assert loss_of([3.0], [1.0], "mse") == ((3 - 1) ** 2, [2 * (3 - 1)])
    assert loss_of([3.0, 1.0], [1.0, 5.0], "mse") == ((2**2 + 4**2) / 2, [2.0, -4.0]), "the mean of a batch"


@pytest.mark.bug(16)
def test_epsilon_schedule():
    epsilons = [dqn.linear_schedule(1.0, 0.1, duration=100, t=t) for t in range(200)]
    assert epsilons[0] == 1.0
    assert epsilons[50] == pytest.approx(1 - 0.9 / 2)
    assert epsilons[100] == pytest.approx(0.1)
    assert epsilons[100:] == [epsilons[100]] * 100
    assert epsilons == sorted(epsilons, reverse=True)
    assert dqn.linear_schedule(1.0, 0.1, duration=0, t=0) == 0.1, "--exploration-fraction 0"


@pytest.mark.bug(16)
@pytest.mark.parametrize("train_frequency", [1, 50])
def test_epsilon_depends_on_environment_steps_alone(small, spy, train_frequency):
    calls = spy("linear_schedule")
    train(small(train_frequency=train_frequency, exploration_fraction=0.5, end_e=0.2))
    epsilons = [arguments for arguments, _ in calls if arguments[0] == 1.0]  # the other calls are the learning rate's
    assert epsilons == [(1.0, 0.2, 0.5 * 400, t) for t in range(400)]


@pytest.mark.parametrize("anneal_lr", [True, False])
def test_learning_rate_falls_linearly(small, monkeypatch, anneal_lr):
    rates, step = [], torch.optim.Adam.step

    def watched(self):
        rates.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    train(small(learning_rate=0.1, anneal_lr=anneal_lr))  # updates at steps 204, 208, ..., 400 of 400
    expected = [0.1 * (1 - (t - 1) / 400) if anneal_lr else 0.1 for t in range(204, 401, 4)]
    assert rates == pytest.approx(expected)


def test_one_update_is_one_step_of_adam(small, spy):
    """With one gradient g, m / √v = g / |g|: a first step of lr against the gradient's sign, whatever its size."""
    updates = spy("compute_loss")
    run_dir = train(small(learning_starts=396, learning_rate=0.01, anneal_lr=False, save_model=True))
    torch.manual_seed(1)
    first, last = dqn.QNetwork(4, 2, small()), torch.load(run_dir / "model.pt", weights_only=True)
    (((q_network, *_), _),) = updates
    for (name, before), parameter in zip(first.named_parameters(), q_network.parameters(), strict=True):
        moves = parameter.grad.abs() > 1e-4  # 1e-8 is added to √v: for the smallest gradients it counts
        assert moves.any()
        step = (last[name] - before)[moves] / -parameter.grad.sign()[moves]
        assert step.detach().numpy() == pytest.approx(0.01, rel=1e-3)


def test_acting_calls_the_network():
    """q_values is forward on one observation, and follows each update of the weights."""
    network, found = dqn.QNetwork(6, 3, dqn.Args(hidden_sizes=(32, 16))), []
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
    obs = torch.randn(6)
    for _ in range(3):
        q = network(obs)
        found.append(network.q_values(obs.numpy()))
        assert isinstance(found[-1], np.ndarray) and found[-1].tolist() == q.tolist()
        optimizer.zero_grad()
        q.square().sum().backward()
        optimizer.step()
    assert found[0].tolist() != found[1].tolist() != found[2].tolist()
