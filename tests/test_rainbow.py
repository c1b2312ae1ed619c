"""rainbow.py: what its six ideas make of each other. What each is by itself, its own file's tests show: the definitions
that it takes are those files' text (test_ladder.py)."""

import math

import numpy as np
import pytest
import torch
from conftest import gradient, scalars, train

import dueling_dqn
import n_step_dqn
import rainbow

CPU = torch.device("cpu")
TINY = {"hidden_sizes": (6, 4), "n_atoms": 5, "v_min": 0.0, "v_max": 4.0}


def logs(*rows):
    """Probabilities as logits, (1, actions, atoms)."""
    return torch.tensor([rows]).log()


def network(seed=0, obs_dim=3, num_actions=2, **flags):
    torch.manual_seed(seed)
    return rainbow.QNetwork(obs_dim, num_actions, rainbow.Args(**TINY | flags))


def noisy(network):
    """The network, with new noise."""
    network.resample_noise()
    return network


def layers(network) -> list[rainbow.NoisyLinear]:
    return [layer for layer in network.modules() if isinstance(layer, rainbow.NoisyLinear)]


def noise(network) -> torch.Tensor:
    """A copy of the noise of all weights and biases."""
    parts = [part for layer in layers(network) for part in (layer.noise_weight, layer.noise_bias)]
    return torch.cat([part.flatten() for part in parts])


def without_draws(monkeypatch, *networks):
    """Sets the noise of these networks to 0, and lets compute_loss draw none."""
    for layer in [layer for network in networks for layer in layers(network)]:
        layer.noise_weight.zero_(), layer.noise_bias.zero_()
    monkeypatch.setattr(rainbow.QNetwork, "resample_noise", lambda self: None)


def batch(size=8, weight=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return rainbow.Batch(
        obs=torch.randn(size, 3, generator=generator),
        action=torch.randint(2, (size,), generator=generator),
        reward=torch.rand(size, generator=generator),
        next_obs=torch.randn(size, 3, generator=generator),
        terminated=torch.arange(size) % 4 == 0,
        discount=torch.full((size,), 0.9**3),
        weight=torch.full((size,), weight),
    )


@pytest.mark.bug(3, 31, 45)
def test_the_mean_of_the_target_is_the_double_n_step_target():
    """Atoms 0, 1, 2. Online: action 0 is worth 1.1 and action 1 1.0, so a* = 0, which the target network values at
    0.5 x 0 + 0.3 x 1 + 0.2 x 2 = 0.7; its own choice would be action 1, worth 1.8. With the n-step return 0.25 and
    γ^k = 0.5 the mean is 0.25 + 0.5 x 0.7 = 0.6, and 0.25 where s_k is terminal."""
    atoms = torch.tensor([0.0, 1.0, 2.0])
    online = logs([0.2, 0.5, 0.3], [0.25, 0.5, 0.25]).expand(2, -1, -1)
    target = logs([0.5, 0.3, 0.2], [0.05, 0.1, 0.85]).expand(2, -1, -1)
    reward, terminated, discount = torch.full((2,), 0.25), torch.tensor([False, True]), torch.full((2,), 0.5)
    values, p = rainbow.td_target(online, target, reward, terminated, discount, atoms)
    assert values.tolist() == [[0.25, 0.75, 1.25], [0.25, 0.25, 0.25]]
    m = rainbow.project(values, p, atoms)
    assert (m @ atoms).tolist() == pytest.approx([0.6, 0.25], abs=2e-6) and m.sum(dim=1).tolist() == pytest.approx(
        [1, 1]
    )


@pytest.mark.bug(46)
def test_the_choice_is_by_the_mean_not_by_the_likeliest_atom():
    """Action 0: mostly 0, mean 0.8; action 1: mostly 1, mean 0.7."""
    atoms = torch.tensor([0.0, 1.0, 2.0])
    online = logs([0.6, 1e-9, 0.4], [0.3, 0.7, 1e-9])
    target = logs([1.0, 1e-9, 1e-9], [1e-9, 1e-9, 1.0])
    values, p = rainbow.td_target(online, target, torch.zeros(1), torch.tensor([False]), torch.ones(1), atoms)
    assert (values * p).sum().item() == pytest.approx(0.0, abs=1e-6), "a* = 0, worth 0 to the target network"


@pytest.mark.bug(48)
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("hidden_sizes", [(4,), (7,), (6, 4), (5, 6, 8)], ids=str)
def test_logits_of_an_atom_are_the_dueling_network_of_its_outputs(hidden_sizes, noise):
    """dueling_dqn.py's network with the same weights, or those that noise has made of them: w + σ ε."""
    q_network, obs = network(hidden_sizes=hidden_sizes), torch.randn(5, 3)
    noisy(q_network).train(noise)
    logits, dueling = q_network(obs), dueling_dqn.QNetwork(3, 2, dueling_dqn.Args(hidden_sizes=hidden_sizes))
    for atom in range(5):
        weights = {}
        for name, layer in q_network.named_modules():
            if isinstance(layer, rainbow.NoisyLinear):
                weight = layer.weight + noise * layer.sigma_weight * layer.noise_weight
                bias = layer.bias + noise * layer.sigma_bias * layer.noise_bias
                own = slice(atom, None, 5) if name in ("value", "output") else slice(None)
                weights |= {f"{name}.weight": weight[own], f"{name}.bias": bias[own]}
        dueling.load_state_dict(weights)
        assert torch.allclose(logits[..., atom], dueling(obs), atol=1e-6)
    assert torch.allclose(q_network(obs[:1]), logits[:1], atol=1e-6), "alone as in a batch"


@pytest.mark.bug(48)
def test_streams_are_subtracted_over_actions_for_each_atom():
    q_network, obs = network(), torch.randn(5, 3)
    for _ in range(2):
        logits = q_network(obs)
        x = torch.relu(q_network.hidden[0](obs))
        value = q_network.value(torch.relu(q_network.value_hidden(x)))  # (B, n_atoms)
        assert torch.allclose(logits.mean(dim=1), value, atol=1e-6), "the mean over actions is V's"
        assert torch.allclose(q_network(obs[:1]), logits[:1], atol=1e-6), "alone as in a batch"
        q_network.resample_noise()


@pytest.mark.parametrize("hidden_sizes", [(4,), (7,), (6, 4), (5, 6, 8)], ids=str)
def test_q_values_are_the_means_under_the_same_noise(hidden_sizes):
    q_network, obs = network(hidden_sizes=hidden_sizes), torch.randn(3)
    still = q_network.q_values(obs.numpy())
    noisy(q_network)
    expected = q_network(obs[None]).softmax(dim=2) @ q_network.atoms
    found = q_network.q_values(obs.numpy())
    assert found.shape == (2,) and np.allclose(found, expected.detach()[0], atol=1e-5)
    assert not np.allclose(still, found, atol=1e-3), "noise does something"
    q_network.eval()
    assert q_network.q_values(obs.numpy()).tolist() == still.tolist(), "and in eval mode nothing"
    with torch.no_grad():
        q_network.output.bias[2] = 1e4  # one action is sure of an atom, and the other one loses nothing by it
    expected = q_network(obs[None]).softmax(dim=2) @ q_network.atoms
    assert np.allclose(q_network.q_values(obs.numpy()), expected.detach()[0], atol=1e-5)


def test_noise_of_every_layer_is_drawn():
    q_network = network(hidden_sizes=(5, 6, 8))
    assert len(layers(q_network)) == 6 and (noise(q_network) == 0).all()
    one, two = (noise(noisy(q_network)) for _ in range(2))
    assert (one != 0).all() and (one != two).all()


@pytest.mark.bug(5, 50)
def test_each_noise_acts_where_it_belongs():
    """The prediction's moves Q(s, a), the target's the target alone, that of the choice the target where a* changes.

    compute_loss draws the prediction's noise itself, after the choice.
    """
    args, rows = rainbow.Args(**TINY), batch(64)

    def found(of_choice, of_target, of_prediction):
        q_network, target_network = network(noisy_std=3.0), network(1)
        torch.manual_seed(of_choice), q_network.resample_noise()
        torch.manual_seed(of_target), target_network.resample_noise()
        torch.manual_seed(of_prediction)
        _, q_taken, _, divergence = rainbow.compute_loss(q_network, target_network, rows, args)
        return q_taken, divergence

    q_taken, divergence = found(1, 2, 3)
    for what, seeds in (("choice", (5, 2, 3)), ("target", (1, 5, 3)), ("prediction", (1, 2, 5))):
        changed_q, changed_divergence = found(*seeds)
        assert torch.equal(changed_q, q_taken) == (what != "prediction")
        moved = (changed_divergence != divergence)[~rows.terminated]
        assert moved.any() and (moved.all() or what == "choice"), what


@pytest.mark.bug(20)
def test_a_priority_is_the_divergence_of_target_and_prediction(monkeypatch):
    """Terminal with reward 1.5: half on atom 1, half on 2, entropy log 2. The prediction is even over 5 atoms, so the
    cross-entropy is log 5, and the divergence log 5 - log 2; where the prediction is the target, it is 0."""
    q_network = network(hidden_sizes=(4,))
    for parameter in q_network.parameters():
        torch.nn.init.zeros_(parameter)
    rows = batch(2)._replace(reward=torch.full((2,), 1.5), terminated=torch.tensor([True, True]))
    args = rainbow.Args(**TINY)
    without_draws(monkeypatch, q_network)
    loss, _, _, divergence = rainbow.compute_loss(q_network, q_network, rows, args)
    assert divergence.tolist() == pytest.approx([math.log(5) - math.log(2)] * 2, abs=1e-6)
    assert loss.item() == pytest.approx(math.log(5), abs=1e-6), "the loss itself is the cross-entropy"
    with torch.no_grad():
        q_network.value.bias.copy_(torch.tensor([-40.0, 0, 0, -40, -40]))  # V's: half on atom 1, half on 2
    _, _, _, divergence = rainbow.compute_loss(q_network, q_network, rows, args)
    assert divergence.tolist() == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.bug(14, 21, 23)
def test_weights_scale_the_gradient_and_not_the_priority():
    q_network, args = network(), rainbow.Args(**TINY)
    found = []
    for weight in (1.0, 0.25):
        torch.manual_seed(0)
        noisy(q_network).zero_grad()
        loss, _, _, divergence = rainbow.compute_loss(q_network, network(1), batch(weight=weight), args)
        loss.backward()
        found.append((loss, gradient(q_network), divergence))
    assert torch.allclose(found[1][1], 0.25 * found[0][1], atol=1e-7) and found[0][1].abs().max() > 1e-3
    assert found[1][0].item() == pytest.approx(0.25 * found[0][0].item())
    assert torch.equal(found[0][2], found[1][2])


def filled(steps, capacity=10, **flags):
    """A ring of steps with observation t and reward t + 1; an episode's end at t = 4, 9 (truncated), 14, ..."""
    buffer = rainbow.ReplayBuffer(capacity, 1, rainbow.Args(**flags))
    other = n_step_dqn.ReplayBuffer(capacity, 1, 3, 0.99)
    for t in range(steps):
        terminated, truncated = t % 10 == 4, t % 10 == 9
        for one in (buffer, other):
            one.add(np.array([t]), t % 2, t + 1, np.array([t + 1]), terminated, truncated)
    return buffer, other


@pytest.mark.bug(17, 19, 29, 30, 31, 32, 43)
def test_windows_are_those_of_n_step_dqn():
    """Of every place, at the start and with the ring filled 2.5 times, what the other file's buffer gives."""
    for steps in (7, 25):
        buffer, other = filled(steps)
        rows, i = buffer.sample(64, 0.4, np.random.default_rng(0), CPU)
        assert set(i) == set(range(min(steps, 10))), "every transition begins a window"

        class Same:
            def integers(self, *_, i=i, **__):
                return i

        expected = other.sample(64, Same(), CPU)
        for name, column in expected._asdict().items():
            assert torch.equal(getattr(rows, name), column), name


@pytest.mark.bug(20, 24)
def test_what_is_new_has_the_largest_priority_and_what_was_seen_its_own():
    buffer, _ = filled(4, prioritized_replay_alpha=0.5, prioritized_replay_eps=0.25)
    assert buffer.tree.get(np.arange(5)).tolist() == [1, 1, 1, 1, 0]
    buffer.update_priorities(np.array([0, 1]), np.array([2.0, 0.0]))
    assert buffer.tree.get(np.arange(2)).tolist() == [1.5, 0.5]  # √(2 + 1/4), √(0 + 1/4)
    buffer.add(np.array([4]), 0, 5.0, np.array([5]), True, False)
    assert buffer.tree.get(np.array([4])).tolist() == [1.5]


@pytest.mark.bug(21, 26)
def test_importance_weights():
    """Priorities with α = 1 are 3 and 1 of 4. (N P)^-β with N = 2, β = 1: 1 / 1.5 and 1 / 0.5, and by the largest of
    them 1/3 and 1."""
    buffer, _ = filled(2, prioritized_replay_alpha=1.0, prioritized_replay_eps=1e-12)
    buffer.update_priorities(np.array([0, 1]), np.array([3.0, 1.0]))
    rows, i = buffer.sample(8, 1.0, np.random.default_rng(0), CPU)
    assert np.bincount(i).tolist() == [6, 2], "of 8 equal parts of the sum, six are the first one's"
    assert rows.weight.tolist() == pytest.approx(np.where(i == 0, 1 / 3, 1.0).tolist())


@pytest.mark.bug(6, 22, 49, 50, 51)
def test_the_loop_draws_noise_for_every_act_and_three_for_every_update_and_anneals_beta(small, spy, monkeypatch):
    """400 acts, and updates at steps 204, 208, ..., 400; β from 0.4 linearly to 1 at the end."""
    acts, choices, targets, predictions, betas = [], [], [], [], []
    q_values, compute_loss, sample = rainbow.QNetwork.q_values, rainbow.compute_loss, rainbow.ReplayBuffer.sample

    def acting(self, obs):
        acts.append(noise(self) if self.training else None)
        return q_values(self, obs)

    def learning(q_network, target_network, *rest):
        choices.append(noise(q_network)), targets.append(noise(target_network))
        result = compute_loss(q_network, target_network, *rest)
        predictions.append(noise(q_network))
        return result

    def sampling(self, batch_size, beta, *rest):
        betas.append(beta)
        return sample(self, batch_size, beta, *rest)

    monkeypatch.setattr(rainbow.QNetwork, "q_values", acting)
    monkeypatch.setattr(rainbow, "compute_loss", learning)
    monkeypatch.setattr(rainbow.ReplayBuffer, "sample", sampling)
    networks = spy("QNetwork", rainbow)
    logged = scalars(train(small(rainbow, hidden_sizes=(8,))))
    noises, size = [of_act for of_act in acts if of_act is not None], len(noise(networks[0][1]))
    assert [of_act.shape for of_act in noises] == [(size,)] * 400 and len(acts) > 400, "evaluation has none"
    assert [len(of_updates) for of_updates in (choices, targets, predictions)] == [50] * 3
    numbers = torch.cat([*noises, *choices, *targets, *predictions]).numpy()
    assert len(np.unique(numbers)) > 0.99 * len(numbers), "none is used twice"
    assert betas == pytest.approx([0.4 + 0.6 * t / 400 for t in range(204, 401, 4)])
    assert [step for step, _ in logged["charts/beta"]] == [300, 400]
    assert [beta for _, beta in logged["charts/beta"]] == pytest.approx([0.4 + 0.6 * 300 / 400, 1.0])


def test_compiled_updates_have_three_noises():
    """Each call draws the prediction's noise. The gradient by σ is that by μ times this noise: ∂y/∂σ = ∂y/∂μ ⊙ ε. With
    all σ at 0 loss, logged values and the gradient by μ are those of compute_loss."""
    args, rows = rainbow.Args(**TINY), batch(64)
    q_network, target_network = network(noisy_std=3.0), noisy(network(1, noisy_std=3.0))
    loss_function = rainbow.compiled(rainbow.compute_loss, args)
    noises, divergences = [noise(noisy(q_network))], []
    for _ in range(3):
        loss, *_, divergence = loss_function(q_network, target_network, rows, args)
        loss.backward()
        noises.append(noise(q_network)), divergences.append(divergence)
        assert (noises[-1] != noises[-2]).all(), "drawn anew"
        for layer in layers(q_network):
            assert torch.allclose(layer.sigma_weight.grad, layer.weight.grad * layer.noise_weight, atol=1e-6)
            assert torch.allclose(layer.sigma_bias.grad, layer.bias.grad * layer.noise_bias, atol=1e-6)
    assert (divergences[0] != divergences[1]).any() and (divergences[1] != divergences[2]).any()
    for layer in layers(q_network) + layers(target_network):
        torch.nn.init.zeros_(layer.sigma_weight), torch.nn.init.zeros_(layer.sigma_bias)
    found = []
    for function in (rainbow.compute_loss, loss_function):
        q_network.zero_grad()
        results = function(q_network, target_network, rows, args)
        results[0].backward()
        of_mu = [parameter.grad for layer in layers(q_network) for parameter in (layer.weight, layer.bias)]
        found.append([result.detach() for result in results] + of_mu)
    for eager, compiled in zip(*found, strict=True):
        assert torch.allclose(eager, compiled, atol=1e-5)
    assert max(part.abs().max() for part in found[0][4:]) > 1e-3


@pytest.mark.bug(47)
def test_a_support_that_is_too_narrow_is_warned_of_once(small, capsys):
    """With the share of the last update, at step 400. CartPole's returns are beyond 1."""
    logged = scalars(train(small(rainbow, eval_frequency=100, v_max=1.0)))
    (line,) = capsys.readouterr().err.splitlines()
    _, (step, share) = logged["losses/clipped_mass"]
    assert step == 400 and line.startswith(f"warning: {share:.0%} of the targets' probability lies outside --v-min 0 ")
    assert share > 0.05 and line.endswith("--v-max 1")
    train(small(rainbow, eval_frequency=100))
    assert capsys.readouterr().err == ""
