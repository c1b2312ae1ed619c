"""Noisy DQN on numbers to follow on paper, and against dqn.py where noise is nothing."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import scalars, train

import dqn
import noisy_dqn

MU, SIGMA = ("weight", "bias"), ("sigma_weight", "sigma_bias")


def layers(network) -> list[noisy_dqn.NoisyLinear]:
    """A network's layers, first to last."""
    return [*network.hidden, network.output]


@pytest.fixture
def noise_of(monkeypatch):
    """noise_of(layer or network, f): new noise with these f(ε), for each layer of the inputs and then of the outputs.

    So ε is sgn(f) f², in the order of the draws.
    """

    def resample(it, f):
        rest = [math.copysign(number**2, number) for number in f]

        def randn(size, device):
            drawn = torch.tensor(rest[:size], device=device)
            del rest[:size]
            return drawn

        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn", randn)
            it.resample_noise()
        assert rest == [], "drawn to the last number"

    return resample


def network_of(*of_layers):
    """A network of such layers (weight, bias, σ of the weight, σ of the bias)."""
    sizes = [len(of_layers[0][0][0]), *(len(bias) for _, bias, _, _ in of_layers)]
    network = noisy_dqn.QNetwork(sizes[0], sizes[-1], noisy_dqn.Args(hidden_sizes=tuple(sizes[1:-1])))
    for layer, values in zip(layers(network), of_layers, strict=True):
        layer.load_state_dict({name: torch.tensor(value) for name, value in zip(MU + SIGMA, values, strict=True)})
    return network


def pair_of_networks(seed=0, hidden_sizes=(8, 6)):
    """dqn.py's network and noisy_dqn.py's with the same μ."""
    networks = []
    for script in (dqn, noisy_dqn):
        torch.manual_seed(seed)
        networks.append(script.QNetwork(4, 3, script.Args(hidden_sizes=hidden_sizes)))
    return networks


def of(network, kinds) -> list[torch.nn.Parameter]:
    """A noisy network's parameters of these names, layer by layer."""
    return [getattr(layer, name) for layer in layers(network) for name in kinds]


def random_batch(seed=1, n=32):
    rng = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, n, 4, generator=rng)
    action, ends = torch.randint(3, (n,), generator=rng), torch.rand(n, generator=rng) < 0.2
    return obs, action, torch.randn(n, generator=rng), next_obs, ends


# The layer


def test_a_layer_by_hand(noise_of):
    """x = (1, 2), f(ε_in) = (2, -1), f(ε_out) = (3, 5): weight [[1 + 0.5 * 3 * 2, 2 + 1 * 3 * -1], [0 + 0 * 5 * 2,
    1 + 2 * 5 * -1]] = [[4, -1], [0, -9]], bias (10 + 1 * 3, 20 + 0.1 * 5) = (13, 20.5)."""
    layer = noisy_dqn.NoisyLinear(2, 2, 0.5)
    values = ([[1.0, 2.0], [0.0, 1.0]], [10.0, 20.0], [[0.5, 1.0], [0.0, 2.0]], [1.0, 0.1])
    layer.load_state_dict({name: torch.tensor(value) for name, value in zip(MU + SIGMA, values, strict=True)})
    x, still = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), [[1 * 1 + 2 * 2 + 10, 0 * 1 + 1 * 2 + 20], [10, 20]]
    assert layer(x).tolist() == still, "μ alone until noise is drawn"
    noise_of(layer, [2.0, -1.0, 3.0, 5.0])
    assert layer(x).tolist() == [[4 * 1 - 1 * 2 + 13, 0 * 1 - 9 * 2 + 20.5], [13, 20.5]]
    assert layer.eval()(x).tolist() == still, "μ alone in eval mode"
    assert layer.train()(x).tolist() == [[4 * 1 - 1 * 2 + 13, 0 * 1 - 9 * 2 + 20.5], [13, 20.5]], "the same noise"


def test_gradient_of_sigma_by_hand(noise_of):
    """∂y_j / ∂σ^w_ji = f(ε_j) f(ε_i) x_i, and ∂y_j / ∂σ^b_j = f(ε_j); of μ it is x_i and 1, as without noise."""
    layer = noisy_dqn.NoisyLinear(2, 1, 0.5)
    noise_of(layer, [2.0, -1.0, 5.0])
    layer(torch.tensor([[3.0, 7.0]])).sum().backward()
    assert layer.sigma_weight.grad.tolist() == [[5 * 2 * 3, 5 * -1 * 7]] and layer.sigma_bias.grad.tolist() == [5]
    assert layer.weight.grad.tolist() == [[3, 7]] and layer.bias.grad.tolist() == [1]


@pytest.mark.bug(35)
def test_noise_of_a_weight_matrix_has_rank_one():
    """With σ = 1, what noise adds to the unit vectors and to 0 is the noise of each weight and of the bias."""
    layer = noisy_dqn.NoisyLinear(7, 5, 0.5)
    torch.nn.init.ones_(layer.sigma_weight), torch.nn.init.ones_(layer.sigma_bias)
    torch.manual_seed(0)
    layer.resample_noise()
    torch.manual_seed(0)
    epsilon = torch.randn(7 + 5).numpy()
    noise = np.sign(epsilon) * np.sqrt(np.abs(epsilon))
    x = torch.cat([torch.eye(7), torch.zeros(1, 7)])
    added = (layer.train()(x) - layer.eval()(x)).detach().numpy()
    bias, weight = added[7], (added[:7] - added[7]).T  # (5,) and (5, 7)
    singular_values = np.linalg.svd(weight, compute_uv=False)
    assert singular_values[0] > 1 and singular_values[1] < 1e-5
    assert weight == pytest.approx(np.array([[out * into for into in noise[:7]] for out in noise[7:]]), abs=1e-5)
    assert bias == pytest.approx(noise[7:], abs=1e-5)


@pytest.mark.bug(52)
@pytest.mark.parametrize("noisy_std", [0.5, 0.1])
def test_first_sigma_is_sigma_0_by_the_root_of_the_inputs(noisy_std):
    """Of 16 inputs: σ₀ / 4, for the bias too, and μ is uniform between -1/4 and 1/4."""
    torch.manual_seed(0)
    layer = noisy_dqn.NoisyLinear(16, 1_000, noisy_std)
    for sigma in (layer.sigma_weight, layer.sigma_bias):
        assert sigma.flatten().tolist() == pytest.approx([noisy_std / 4] * sigma.numel())
    for mu in (layer.weight.detach(), layer.bias.detach()):
        assert mu.abs().max() <= 1 / 4 and mu.min() < -0.245 and mu.max() > 0.245
        assert mu.std().item() == pytest.approx(0.5 / math.sqrt(12), rel=0.05)  # of a uniform one of width 0.5


def test_first_sigma_of_every_layer_follows_the_flag():
    network = noisy_dqn.QNetwork(4, 2, noisy_dqn.Args(hidden_sizes=(25, 9), noisy_std=0.3))
    for layer, inputs in zip(layers(network), (4, 25, 9), strict=True):
        assert layer.in_features == inputs
        assert {round(s, 6) for s in layer.sigma_weight.flatten().tolist() + layer.sigma_bias.tolist()} == {
            round(0.3 / math.sqrt(inputs), 6)
        }


@pytest.mark.bug(52)
def test_noise_is_the_signed_root_of_a_normal_number():
    """f(x) = sgn(x) √|x|: f² is |x| of a standard normal x, of mean √(2/π) = 0.798, where without f it would be 1."""
    layer = noisy_dqn.NoisyLinear(1, 100_000, 0.5)
    torch.manual_seed(0)
    layer.resample_noise()
    torch.manual_seed(0)
    into, *normal = torch.randn(1 + 100_000).tolist()
    noise = layer.noise_bias.numpy()
    assert noise.dtype == np.float32 and noise.shape == (100_000,)
    assert noise == pytest.approx(np.sign(normal) * np.sqrt(np.abs(normal)))
    assert layer.noise_weight[:, 0].numpy() == pytest.approx(noise * math.copysign(math.sqrt(abs(into)), into))
    # Standard deviations of these means: √(1 - 2/π) / √100,000 = 0.002 and √0.8 / √100,000 = 0.003.
    assert np.square(noise).mean() == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)
    assert noise.mean() == pytest.approx(0, abs=0.01)


# The network


def test_a_network_by_hand(noise_of):
    """One input, one hidden unit, two actions; noise: 2 for the layer of 1 + 1, then 3 for that of 1 + 2.

    At s = 1: hidden (1 + 0.5 * 3 * 2) * 1 + 0 + 1 * 3 = 7. Its input noise then is 1, its outputs' -1 and 2, so that
    Q = ((2 + 1 * -1 * 1) * 7 + 1, (-1 + 1 * 2 * 1) * 7 + 0) = (8, 7); without noise h = 1 and Q = (2 + 1, -1).
    """
    network = network_of(([[1.0]], [0.0], [[0.5]], [1.0]), ([[2.0], [-1.0]], [1.0, 0.0], [[1.0], [1.0]], [0.0, 0.0]))
    assert network(torch.tensor([[1.0]])).tolist() == [[3, -1]], "no noise before the first draw"
    noise_of(network, [2.0, 3.0, 1.0, -1.0, 2.0])
    assert network(torch.tensor([[1.0]])).tolist() == [[8, 7]]
    assert network.q_values(np.float32([1])).tolist() == [8, 7]
    network.eval()
    assert network(torch.tensor([[1.0]])).tolist() == [[3, -1]]
    assert network.q_values(np.float32([1])).tolist() == [3, -1]
    assert network(torch.tensor([[-1.0]])).tolist() == [[1, 0]], "a ReLU between the layers"
    assert network.q_values(np.float32([-1])).tolist() == [1, 0]


def test_noise_is_not_saved_and_loaded_weights_have_none():
    """So model.pt plays without noise in a new network, as --evaluate does it."""
    networks = [noisy_dqn.QNetwork(4, 3, noisy_dqn.Args()) for _ in range(2)]
    names = [name for name, _ in networks[0].named_parameters()]
    networks[0].resample_noise()
    assert list(networks[0].state_dict()) == names
    networks[1].load_state_dict(networks[0].state_dict())
    obs = torch.randn(5, 4)
    assert not torch.equal(networks[0](obs), networks[1](obs))
    assert torch.equal(networks[0].eval()(obs), networks[1](obs))


@pytest.mark.bug(50)
def test_noise_of_two_layers_is_uncorrelated():
    """Of each layer's outputs in 4,000 draws: correlations have a standard deviation of 1/√4,000 = 0.016. The noise of
    a weight is noise of an input times that of its output, and that of an input of a layer alone is seen in their
    ratio."""
    network = noisy_dqn.QNetwork(3, 2, noisy_dqn.Args(hidden_sizes=(5,)))
    torch.manual_seed(0)
    rows = []
    for _ in range(4_000):
        network.resample_noise()
        of_outputs = [layer.noise_bias for layer in layers(network)]
        of_inputs = [layer.noise_weight[0] / layer.noise_bias[0] for layer in layers(network)]
        rows.append(torch.cat([*of_inputs, *of_outputs]).numpy())
    correlation = np.corrcoef(np.array(rows).T)
    assert correlation.shape == (3 + 5 + 5 + 2,) * 2
    assert abs(correlation - np.eye(15)).max() < 5 * 0.016


# The update, against dqn.py's


@pytest.mark.parametrize("nothing", ["σ", "noise"])
@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_without_noise_loss_and_gradient_are_dqns_to_the_bit(nothing, loss):
    """The gradient by μ, that is: the one by σ is not zero only because σ is, so σ would not stay 0."""
    plain, noisy = pair_of_networks(seed=0)
    plain_target, noisy_target = pair_of_networks(seed=1)
    for one, other in zip(plain.parameters(), of(noisy, MU), strict=True):
        assert torch.equal(one, other), "the same first weights"
    if nothing == "σ":
        noisy.resample_noise(), noisy_target.resample_noise()
        for sigma in of(noisy, SIGMA) + of(noisy_target, SIGMA):
            torch.nn.init.zeros_(sigma)
    rows = random_batch()
    expected = dqn.compute_loss(plain, plain_target, dqn.Batch(*rows), dqn.Args(loss=loss))
    found = noisy_dqn.compute_loss(noisy, noisy_target, noisy_dqn.Batch(*rows), noisy_dqn.Args(loss=loss))
    expected[0].backward(), found[0].backward()
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    for one, other in zip(plain.parameters(), of(noisy, MU), strict=True):
        assert torch.equal(one.grad, other.grad) and one.grad.abs().max() > 1e-4
    assert all((sigma.grad.abs().max() > 1e-4) == (nothing == "σ") for sigma in of(noisy, SIGMA))


def one_action_network(weight, sigma):
    """Q(s, ·) = (weight + σ f(ε_out) f(ε_in)) s of a single number s, for both of two actions alike."""
    return network_of(([[weight], [weight]], [0.0, 0.0], [[sigma], [sigma]], [0.0, 0.0]))


@pytest.mark.bug(50)
def test_online_and_target_network_have_their_own_noise(noise_of):
    """At s = 1 the online network has (1 + 2 * 3 * 1) * 1 = 7, at s' = 2 the target network (5 + 1 * 4 * -1) * 2 = 2:
    y = 10 + 0.5 * 2 = 11. With each other's noise it would be (1 - 8) = -7 against 10 + 0.5 * (5 + 3) * 2."""
    online, target = one_action_network(1.0, 2.0), one_action_network(5.0, 1.0)
    rows = ([[1.0]], [0], [10.0], [[2.0]], [False])
    batch, args = noisy_dqn.Batch(*map(torch.tensor, rows)), noisy_dqn.Args(gamma=0.5)
    noise_of(online, [1.0, 3.0, 3.0]), noise_of(target, [-1.0, 4.0, 4.0])
    loss, q_taken = noisy_dqn.compute_loss(online, target, batch, args)
    loss.backward()
    assert q_taken.tolist() == [7] and loss.item() == (7 - 11) ** 2
    # ∂loss / ∂μ = 2 (7 - 11) s, ∂loss / ∂σ = 2 (7 - 11) f(ε_out) f(ε_in) s, both for the action taken alone
    assert online.output.weight.grad.tolist() == [[2 * -4], [0]]
    assert online.output.sigma_weight.grad.tolist() == [[2 * -4 * 3 * 1], [0]]
    assert all(parameter.grad is None for parameter in target.parameters())
    noise_of(target, [0.0, 0.0, 0.0])  # of the target alone: y = 10 + 0.5 * 5 * 2 = 15
    loss, q_taken = noisy_dqn.compute_loss(online, target, batch, args)
    assert q_taken.tolist() == [7] and loss.item() == (7 - 15) ** 2


def test_one_noise_for_the_whole_batch(noise_of):
    """Rows that are alike have the same value under the same noise."""
    online, target = one_action_network(1.0, 2.0), one_action_network(5.0, 1.0)
    batch = noisy_dqn.Batch(*(torch.tensor(row * 4) for row in ([[1.0]], [0], [10.0], [[2.0]], [False])))
    noise_of(online, [1.0, 3.0, 3.0]), noise_of(target, [-1.0, 4.0, 4.0])
    _, q_taken = noisy_dqn.compute_loss(online, target, batch, noisy_dqn.Args())
    assert q_taken.tolist() == [7] * 4


def test_target_update_moves_sigma_too():
    target, online = one_action_network(0.0, 1.0), one_action_network(1.0, 2.0)
    noisy_dqn.update_target(target, online, tau=0.25)
    assert target.output.weight.flatten().tolist() == [0.25, 0.25]
    assert target.output.sigma_weight.flatten().tolist() == [0.75 * 1 + 0.25 * 2] * 2


# The loop


def noise(network) -> np.ndarray:
    """A copy of the noise of all weights and biases."""
    parts = [part for layer in layers(network) for part in (layer.noise_weight, layer.noise_bias)]
    return torch.cat([part.flatten() for part in parts]).numpy()


@pytest.fixture
def run(small, spy, monkeypatch):
    """A run of 400 steps and 50 updates: (noise of every act, noises of every update, number of draws, the networks of
    the last update, scalars). The noise of an act is None in eval mode."""
    acts, updates, q_values = [], [], noisy_dqn.QNetwork.q_values
    compute_loss, resample_noise, draws = noisy_dqn.compute_loss, noisy_dqn.QNetwork.resample_noise, []

    def acting(self, obs):
        acts.append(noise(self) if self.training else None)
        return q_values(self, obs)

    def learning(q_network, target_network, *rest):
        assert q_network.training and target_network.training
        updates.append((noise(q_network), noise(target_network)))
        return compute_loss(q_network, target_network, *rest)

    def drawing(self):
        draws.append(self)
        resample_noise(self)

    monkeypatch.setattr(noisy_dqn.QNetwork, "q_values", acting)
    monkeypatch.setattr(noisy_dqn.QNetwork, "resample_noise", drawing)
    monkeypatch.setattr(noisy_dqn, "compute_loss", learning)
    networks = spy("QNetwork", noisy_dqn)
    logged = scalars(train(small(noisy_dqn)))
    return acts, updates, draws, networks[0][1], logged


def all_differ(noises) -> bool:
    """Whether no two of these vectors share a number, which normal numbers in float32 hardly ever do."""
    numbers = np.concatenate([np.ravel(noise) for noise in noises])
    return len(np.unique(numbers)) > 0.99 * len(numbers)


@pytest.mark.bug(6, 49)
def test_noise_is_drawn_anew_for_every_act_and_every_update(run):
    acts, updates, draws, q_network, _ = run
    acts = [of_act for of_act in acts if of_act is not None]
    size = (4 * 16 + 16) + (16 * 2 + 2)
    assert len(acts) == 400 and all(of_act.shape == (size,) for of_act in acts)
    assert len(updates) == 50 and all(np.shape(of_update) == (2, size) for of_update in updates)
    assert all_differ(acts[:200]), "before the first update too"
    assert all_differ(acts + updates), "and the two of an update are not the same"
    assert len(draws) == 400 + 2 * 50
    assert sum(network is q_network for network in draws) == 400 + 50


@pytest.mark.bug(51)
def test_evaluation_has_no_noise(run):
    """All that plays in an evaluation is without noise; two evaluations of 2 episodes of at least 8 steps."""
    acts, _, _, _, logged = run
    still = [of_act for of_act in acts if of_act is None]
    assert len(still) >= 2 * 2 * 8 and len(logged["eval/q_predicted"]) == 2


def test_evaluations_do_not_change_the_training(small):
    """They draw nothing and leave the network in train mode."""
    runs = [scalars(train(small(noisy_dqn, eval_frequency=frequency))) for frequency in (20, 400)]
    assert [len(run["eval/q_predicted"]) for run in runs] == [20, 1]
    for name in ("charts/episodic_return", "losses/td_loss", "charts/sigma_1"):
        assert runs[0][name] == runs[1][name], name


@pytest.mark.bug(51)
def test_evaluating_twice_is_equal_and_acting_twice_is_not():
    """Of two actions that are worth the same, noise takes each in its turn, and evaluation always the first one."""
    args = noisy_dqn.Args()
    torch.manual_seed(0)
    network, obs = noisy_dqn.QNetwork(4, 2, args).eval(), np.float32([1, 2, 3, 4])
    network.resample_noise()
    with noisy_dqn.make_env(args) as env:
        one, two = (noisy_dqn.evaluate(env, network.q_values, args, 2) for _ in range(2))
    assert one == two
    one, two = (played_once(network.train(), obs) for _ in range(2))
    assert abs(one - two).max() > 1e-2
    even, state = one_action_network(1.0, 1.0), np.float32([1])
    actions = [played_once(even, state).argmax() for _ in range(1_000)]
    assert abs(np.mean(actions) - 0.5) < 0.08  # five standard deviations of √(0.25 / 1,000)
    assert even.eval().q_values(state).tolist() == [1, 1]


def played_once(network, obs) -> np.ndarray:
    """The values by which it acts, under new noise."""
    network.resample_noise()
    return network.q_values(obs)


def test_compiled_updates_follow_the_noise():
    """One graph for all updates: its loss is that of compute_loss under each new noise, and moves with each."""
    torch.manual_seed(0)
    online, target = (noisy_dqn.QNetwork(4, 3, noisy_dqn.Args(hidden_sizes=(8,))) for _ in range(2))
    args, batch, losses = noisy_dqn.Args(), noisy_dqn.Batch(*random_batch()), []
    loss_function = noisy_dqn.compiled(noisy_dqn.compute_loss, args)
    for resampled in ([online, target], [online], [target], []):
        for network in resampled:
            network.resample_noise()
        loss, _ = loss_function(online, target, batch, args)
        assert loss.item() == pytest.approx(noisy_dqn.compute_loss(online, target, batch, args)[0].item(), rel=1e-5)
        losses.append(loss.item())
    assert len(set(losses)) == 3 and losses[3] == losses[2]


def test_sigma_of_every_layer_is_logged_as_its_mean_absolute_value(run):
    """At the first report, step 300, and at the last, step 400: what the network has then."""
    _, _, _, q_network, logged = run
    names = ["charts/sigma_1", "charts/sigma_2"]
    assert [name for name in logged if name.startswith("charts/sigma")] == names
    for name, layer in zip(names, layers(q_network), strict=True):
        assert [step for step, _ in logged[name]] == [300, 400]
        assert logged[name][-1][1] == pytest.approx(layer.sigma_weight.abs().mean().item(), rel=1e-6)
        assert logged[name][-1][1] != pytest.approx(0.5 / math.sqrt(layer.in_features), rel=1e-4), "it learns"


def test_epsilon_is_off_unless_it_is_asked_for(small, spy):
    assert (noisy_dqn.Args().start_e, noisy_dqn.Args().end_e) == (0, 0)
    calls = spy("linear_schedule", noisy_dqn)
    train(small(noisy_dqn, anneal_lr=False))
    assert [epsilon for _, epsilon in calls] == [0.0] * 400


def test_no_noise_at_all_is_refused(call_main):
    """σ = 0 would not be DQN: σ has a gradient there, and leaves it."""
    code, _, err = call_main(noisy_dqn, "--noisy-std 0")
    assert code == 2 and "--noisy-std: Input should be greater than 0" in err


def test_sigma_falls_where_noise_only_does_harm(small, register):
    """Every step pays 1 and γ is 0: Q without noise comes to be 1, and noise adds to the loss alone."""
    env_id = register(gym.spaces.Discrete(2), gym.spaces.Discrete(2))
    args = small(noisy_dqn, env_id=env_id, gamma=0.0, total_timesteps=2_000, batch_size=64)  # 450 updates
    logged = scalars(train(args))
    assert logged["eval/q_predicted"][-1][1] == pytest.approx(1, abs=0.05)
    for name in ("charts/sigma_1", "charts/sigma_2"):
        sigma = [value for _, value in logged[name]]
        assert sigma[-1] < 0.7 * sigma[0]
