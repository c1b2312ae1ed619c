"""Noisy DQN on numbers to follow on paper (known bugs 35 and 49 to 52), and against dqn.py where noise is nothing."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import scalars, train

import dqn
import noisy_dqn

MU, SIGMA = ("weight", "bias"), ("sigma_weight", "sigma_bias")


def network_of(*layers):
    """A network of such layers (weight, bias, σ of the weight, σ of the bias)."""
    sizes = [len(layers[0][0][0]), *(len(bias) for _, bias, _, _ in layers)]
    network = noisy_dqn.QNetwork(sizes[0], sizes[-1], noisy_dqn.Args(hidden_sizes=tuple(sizes[1:-1])))
    for layer, values in zip(network, layers, strict=True):
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
    return [getattr(layer, name) for layer in network for name in kinds]


def random_batch(seed=1, n=32):
    rng = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, n, 4, generator=rng)
    action, ends = torch.randint(3, (n,), generator=rng), torch.rand(n, generator=rng) < 0.2
    return obs, action, torch.randn(n, generator=rng), next_obs, ends


# The layer


def test_a_layer_by_hand():
    """x = (1, 2), f(ε_in) = (2, -1), f(ε_out) = (3, 5): weight [[1 + 0.5 * 3 * 2, 2 + 1 * 3 * -1], [0 + 0 * 5 * 2,
    1 + 2 * 5 * -1]] = [[4, -1], [0, -9]], bias (10 + 1 * 3, 20 + 0.1 * 5) = (13, 20.5)."""
    layer = noisy_dqn.NoisyLinear(2, 2, 0.5)
    values = ([[1.0, 2.0], [0.0, 1.0]], [10.0, 20.0], [[0.5, 1.0], [0.0, 2.0]], [1.0, 0.1])
    layer.load_state_dict({name: torch.tensor(value) for name, value in zip(MU + SIGMA, values, strict=True)})
    x, noise = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([2.0, -1.0, 3.0, 5.0])
    assert layer(x, noise).tolist() == [[4 * 1 - 1 * 2 + 13, 0 * 1 - 9 * 2 + 20.5], [13, 20.5]]
    assert layer(x).tolist() == [[1 * 1 + 2 * 2 + 10, 0 * 1 + 1 * 2 + 20], [10, 20]], "μ alone"


def test_gradient_of_sigma_by_hand():
    """∂y_j / ∂σ^w_ji = f(ε_j) f(ε_i) x_i, and ∂y_j / ∂σ^b_j = f(ε_j); of μ it is x_i and 1, as without noise."""
    layer = noisy_dqn.NoisyLinear(2, 1, 0.5)
    layer(torch.tensor([[3.0, 7.0]]), torch.tensor([2.0, -1.0, 5.0])).sum().backward()
    assert layer.sigma_weight.grad.tolist() == [[5 * 2 * 3, 5 * -1 * 7]] and layer.sigma_bias.grad.tolist() == [5]
    assert layer.weight.grad.tolist() == [[3, 7]] and layer.bias.grad.tolist() == [1]


def test_noise_of_a_weight_matrix_has_rank_one():
    """With σ = 1, what noise adds to the unit vectors and to 0 is the noise of each weight and of the bias."""
    layer = noisy_dqn.NoisyLinear(7, 5, 0.5)
    torch.nn.init.ones_(layer.sigma_weight), torch.nn.init.ones_(layer.sigma_bias)
    noise = noisy_dqn.draw_noise(12, np.random.default_rng(0))
    x = torch.cat([torch.eye(7), torch.zeros(1, 7)])
    added = (layer(x, torch.from_numpy(noise)) - layer(x)).detach().numpy()
    bias, weight = added[7], (added[:7] - added[7]).T  # (5,) and (5, 7)
    singular_values = np.linalg.svd(weight, compute_uv=False)
    assert singular_values[0] > 1 and singular_values[1] < 1e-5
    assert weight == pytest.approx(np.array([[out * into for into in noise[:7]] for out in noise[7:]]), abs=1e-5)
    assert bias == pytest.approx(noise[7:], abs=1e-5)


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
    for layer, inputs in zip(network, (4, 25, 9), strict=True):
        assert layer.in_features == inputs
        assert {round(s, 6) for s in layer.sigma_weight.flatten().tolist() + layer.sigma_bias.tolist()} == {
            round(0.3 / math.sqrt(inputs), 6)
        }


def test_noise_is_the_signed_root_of_a_normal_number():
    """f(x) = sgn(x) √|x|: f² is |x| of a standard normal x, of mean √(2/π) = 0.798, where without f it would be 1."""
    noise = noisy_dqn.draw_noise(100_000, np.random.default_rng(0))
    normal = np.random.default_rng(0).standard_normal(100_000, np.float32)
    assert noise.dtype == np.float32 and noise.shape == (100_000,)
    assert noise == pytest.approx(np.sign(normal) * np.sqrt(abs(normal)))
    # Standard deviations of these means: √(1 - 2/π) / √100,000 = 0.002 and √0.8 / √100,000 = 0.003.
    assert np.square(noise).mean() == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noisy_dqn.draw_noise((2, 3), np.random.default_rng(0)).shape == (2, 3)


# The network


def test_a_network_by_hand():
    """One input, one hidden unit, two actions; noise: 2 for the layer of 1 + 1, then 3 for that of 1 + 2.

    At s = 1: hidden (1 + 0.5 * 3 * 2) * 1 + 0 + 1 * 3 = 7. Its input noise then is 1, its outputs' -1 and 2, so that
    Q = ((2 + 1 * -1 * 1) * 7 + 1, (-1 + 1 * 2 * 1) * 7 + 0) = (8, 7); without noise h = 1 and Q = (2 + 1, -1).
    """
    network = network_of(([[1.0]], [0.0], [[0.5]], [1.0]), ([[2.0], [-1.0]], [1.0, 0.0], [[1.0], [1.0]], [0.0, 0.0]))
    noise, q_values = [2.0, 3.0, 1.0, -1.0, 2.0], network.as_numpy_function()
    assert network.noise_size == 5
    assert network(torch.tensor([[1.0]]), torch.tensor(noise)).tolist() == [[8, 7]]
    assert network(torch.tensor([[1.0]])).tolist() == [[3, -1]]
    assert q_values(np.float32([1]), np.float32(noise)).tolist() == [8, 7]
    assert q_values(np.float32([1])).tolist() == [3, -1]
    assert network(torch.tensor([[-1.0]])).tolist() == [[1, 0]], "a ReLU between the layers"
    assert q_values(np.float32([-1])).tolist() == [1, 0]


@pytest.mark.parametrize("hidden_sizes", [(), (7,), (32, 16), (64, 64)])
def test_numpy_network_is_the_torch_network_under_the_same_noise(hidden_sizes):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = noisy_dqn.QNetwork(6, 3, noisy_dqn.Args(hidden_sizes=hidden_sizes))
    q_values = network.as_numpy_function()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        obs, noise = torch.randn(6), noisy_dqn.draw_noise(network.noise_size, rng)
        q = network(obs.unsqueeze(0), torch.from_numpy(noise))
        assert q_values(obs.numpy(), noise) == pytest.approx(q.detach().numpy()[0], rel=1e-4, abs=1e-4)
        still = network(obs.unsqueeze(0)).detach().numpy()[0]
        assert q_values(obs.numpy()) == pytest.approx(still, rel=1e-4, abs=1e-4)
        assert abs(q.detach().numpy()[0] - still).max() > 1e-2, "noise counts"
        optimizer.zero_grad()
        q.square().sum().backward()
        optimizer.step()  # the NumPy side must follow it, σ included


def test_noise_of_two_layers_is_their_own():
    """Every number of the noise acts, and in one layer alone: with the others at 0 it moves only what it should."""
    torch.manual_seed(0)
    network = noisy_dqn.QNetwork(3, 2, noisy_dqn.Args(hidden_sizes=(5, 4)))
    sizes = [3 + 5, 5 + 4, 4 + 2]
    assert network.noise_size == sum(sizes)
    seen = {}
    for i, layer in enumerate(network):
        layer.register_forward_hook(lambda layer, given, _, i=i: seen.update({i: given[1]}))
    noise = torch.arange(float(sum(sizes)))
    network(torch.randn(1, 3), noise)
    assert torch.equal(torch.cat([seen[i] for i in range(3)]), noise), "no number twice, none left out"
    assert [len(seen[i]) for i in range(3)] == sizes


def test_noise_of_two_layers_is_uncorrelated():
    """As the layers of a network get it in 4,000 draws: correlations have a standard deviation of 1/√4,000 = 0.016."""
    network = noisy_dqn.QNetwork(3, 2, noisy_dqn.Args(hidden_sizes=(5,)))
    rng = np.random.default_rng(0)
    draws = np.array([noisy_dqn.draw_noise(network.noise_size, rng) for _ in range(4_000)])
    first, second = (np.array(part).T for part in zip(*map(network.noise_of_layers, draws), strict=True))
    assert len(first) == 3 + 5 and len(second) == 5 + 2
    correlation = np.corrcoef(first, second)
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
    noise = torch.from_numpy(noisy_dqn.draw_noise((2, noisy.noise_size), np.random.default_rng(0)))
    if nothing == "noise":
        noise.zero_()
    else:
        for sigma in of(noisy, SIGMA) + of(noisy_target, SIGMA):
            torch.nn.init.zeros_(sigma)
    rows = random_batch()
    expected = dqn.backpropagate(plain, plain_target, dqn.Batch(*rows), dqn.Args(loss=loss))
    batch, args = noisy_dqn.Batch(*rows), noisy_dqn.Args(loss=loss)
    found = noisy_dqn.backpropagate(noisy, noisy_target, batch, noise, args)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    for one, other in zip(plain.parameters(), of(noisy, MU), strict=True):
        assert torch.equal(one.grad, other.grad) and one.grad.abs().max() > 1e-4
    assert all((sigma.grad.abs().max() > 1e-4) == (nothing == "σ") for sigma in of(noisy, SIGMA))


def one_action_network(weight, sigma):
    """Q(s, ·) = (weight + σ f(ε_out) f(ε_in)) s of a single number s, for both of two actions alike."""
    return network_of(([[weight], [weight]], [0.0, 0.0], [[sigma], [sigma]], [0.0, 0.0]))


def test_online_and_target_network_have_their_own_noise():
    """At s = 1 the online network has (1 + 2 * 3 * 1) * 1 = 7, at s' = 2 the target network (5 + 1 * 4 * -1) * 2 = 2:
    y = 10 + 0.5 * 2 = 11. With each other's noise it would be (1 - 8) = -7 against 10 + 0.5 * (5 + 3) * 2."""
    online, target = one_action_network(1.0, 2.0), one_action_network(5.0, 1.0)
    rows = ([[1.0]], [0], [10.0], [[2.0]], [False])
    batch, args = noisy_dqn.Batch(*map(torch.tensor, rows)), noisy_dqn.Args(gamma=0.5)
    noise = torch.tensor([[1.0, 3.0, 3.0], [-1.0, 4.0, 4.0]])
    loss, q_taken = noisy_dqn.backpropagate(online, target, batch, noise, args)
    assert q_taken.tolist() == [7] and loss.item() == (7 - 11) ** 2
    # ∂loss / ∂μ = 2 (7 - 11) s, ∂loss / ∂σ = 2 (7 - 11) f(ε_out) f(ε_in) s, both for the action taken alone
    assert online[0].weight.grad.tolist() == [[2 * -4], [0]]
    assert online[0].sigma_weight.grad.tolist() == [[2 * -4 * 3 * 1], [0]]
    assert all(parameter.grad is None for parameter in target.parameters())
    noise[1] = torch.tensor([0.0, 0.0, 0.0])  # of the target alone: y = 10 + 0.5 * 5 * 2 = 15
    loss, q_taken = noisy_dqn.backpropagate(online, target, batch, noise, args)
    assert q_taken.tolist() == [7] and loss.item() == (7 - 15) ** 2


def test_one_noise_for_the_whole_batch():
    """Rows that are alike have the same value under the same noise."""
    online, target = one_action_network(1.0, 2.0), one_action_network(5.0, 1.0)
    batch = noisy_dqn.Batch(*(torch.tensor(row * 4) for row in ([[1.0]], [0], [10.0], [[2.0]], [False])))
    _, q_taken = noisy_dqn.backpropagate(
        online, target, batch, torch.tensor([[1.0, 3.0, 3.0], [-1.0, 4.0, 4.0]]), noisy_dqn.Args()
    )
    assert q_taken.tolist() == [7] * 4


def test_target_update_moves_sigma_too():
    target, online = one_action_network(0.0, 1.0), one_action_network(1.0, 2.0)
    noisy_dqn.update_target(target, online, tau=0.25)
    assert target[0].weight.flatten().tolist() == [0.25, 0.25]
    assert target[0].sigma_weight.flatten().tolist() == [0.75 * 1 + 0.25 * 2] * 2


# The loop


@pytest.fixture
def run(small, spy, monkeypatch):
    """A run of 400 steps and 50 updates: (arguments of every update, noise of every act, noise of every draw, scalars).

    The noise of an act is None where there was none.
    """
    acts, acting = [], noisy_dqn.QNetwork.as_numpy_function

    def watched(self):
        q_values = acting(self)

        def function(obs, noise=None):
            acts.append(noise)
            return q_values(obs, noise)

        return function

    monkeypatch.setattr(noisy_dqn.QNetwork, "as_numpy_function", watched)
    updates, draws = spy("backpropagate", noisy_dqn), spy("draw_noise", noisy_dqn)
    logged = scalars(train(small(noisy_dqn)))
    return [arguments for arguments, _ in updates], acts, [draw for _, draw in draws], logged


def all_differ(noises) -> bool:
    """Whether no two of these vectors share a number, which normal numbers in float32 hardly ever do."""
    numbers = np.concatenate([np.ravel(noise) for noise in noises])
    return len(np.unique(numbers)) > 0.99 * len(numbers)


def test_noise_is_drawn_anew_for_every_act_and_every_update(run):
    updates, acts, draws, _ = run
    acts = [noise for noise in acts if noise is not None]
    of_updates = [noise.numpy() for *_, noise, _ in updates]
    assert len(acts) == 400 and all(noise.shape == (4 + 16 + 16 + 2,) for noise in acts)
    assert len(of_updates) == 50 and all(noise.shape == (2, 4 + 16 + 16 + 2) for noise in of_updates)
    assert all_differ(acts[:200]), "before the first update too"
    assert all_differ(acts + of_updates), "and the two of an update are not the same"
    assert len(draws) == 400 + 50


def test_evaluation_has_no_noise(run):
    """All that plays in an evaluation is without noise; two evaluations of 2 episodes of at least 8 steps."""
    _, acts, _, logged = run
    still = [noise for noise in acts if noise is None]
    assert len(still) >= 2 * 2 * 8 and len(logged["eval/q_predicted"]) == 2


def test_evaluating_twice_is_equal_and_acting_twice_is_not():
    """Of two actions that are worth the same, noise takes each in its turn, and evaluation always the first one."""
    args = noisy_dqn.Args(eval_episodes=2)
    torch.manual_seed(0)
    network = noisy_dqn.QNetwork(4, 2, args)
    q_values, rng, obs = network.as_numpy_function(), np.random.default_rng(0), np.float32([1, 2, 3, 4])
    assert noisy_dqn.evaluate(args, q_values) == noisy_dqn.evaluate(args, q_values)
    one, two = (q_values(obs, noisy_dqn.draw_noise(network.noise_size, rng)) for _ in range(2))
    assert abs(one - two).max() > 1e-2
    even = one_action_network(1.0, 1.0).as_numpy_function()
    actions = [even(np.float32([1]), noisy_dqn.draw_noise(3, rng)).argmax() for _ in range(1_000)]
    assert abs(np.mean(actions) - 0.5) < 0.08  # five standard deviations of √(0.25 / 1,000)
    assert even(np.float32([1])).tolist() == [1, 1]


def test_sigma_of_every_layer_is_logged_as_its_mean_absolute_value(run, small):
    """At the first report, step 300, and at the last, step 400: what the network has then."""
    updates, _, _, logged = run
    names = ["charts/sigma_1", "charts/sigma_2"]
    assert [name for name in logged if name.startswith("charts/sigma")] == names
    for name, layer in zip(names, updates[-1][0], strict=True):
        assert [step for step, _ in logged[name]] == [300, 400]
        assert logged[name][-1][1] == pytest.approx(layer.sigma_weight.abs().mean().item(), rel=1e-6)
        assert logged[name][-1][1] != pytest.approx(0.5 / math.sqrt(layer.in_features), rel=1e-4), "it learns"


def test_epsilon_is_off_unless_it_is_asked_for(small, spy):
    assert (noisy_dqn.Args().start_e, noisy_dqn.Args().end_e) == (0, 0)
    calls = spy("linear_schedule", noisy_dqn)
    train(small(noisy_dqn))
    assert {epsilon for _, epsilon in calls} == {0.0}


def test_no_noise_at_all_is_refused(call_main):
    """σ = 0 would not be DQN: σ has a gradient there, and leaves it."""
    code, _, err = call_main(noisy_dqn, "--noisy-std 0")
    assert code == 2 and "--noisy-std must be between" in err and err.count("\n") == 1


def test_sigma_falls_where_noise_only_does_harm(small, register):
    """Every step pays 1 and γ is 0: Q without noise comes to be 1, and noise adds to the loss alone."""
    env_id = register(gym.spaces.Discrete(2), gym.spaces.Discrete(2))
    args = small(noisy_dqn, env_id=env_id, gamma=0.0, total_timesteps=2_000, batch_size=64)  # 450 updates
    logged = scalars(train(args))
    assert logged["eval/q_predicted"][-1][1] == pytest.approx(1, abs=0.05)
    for name in ("charts/sigma_1", "charts/sigma_2"):
        sigma = [value for _, value in logged[name]]
        assert sigma[-1] < 0.7 * sigma[0]
