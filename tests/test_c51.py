"""C51 on distributions of three atoms, to follow on paper, and learned ones."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import gradient, scalars, train

import c51
import dqn

ATOMS = torch.tensor([0.0, 10.0, 20.0])


def network(*p, v_min=0.0, v_max=20.0):
    """A network whose distributions are p[s][a] in state s, which is observed as one-hot vector."""
    p = torch.tensor(p)  # (states, actions, atoms)
    made = c51.QNetwork(*p.shape[:2], c51.Args(hidden_sizes=(), n_atoms=p.shape[2], v_min=v_min, v_max=v_max))
    with torch.no_grad():
        made.output.weight.copy_(p.clamp(min=1e-30).log().flatten(1).T)
        made.output.bias.zero_()
    return made


def batch_of(*rows, states=2):
    """Rows (state, action, reward, next state, terminated)."""
    s, action, reward, next_s, terminated = (torch.tensor(column) for column in zip(*rows, strict=True))
    return c51.Batch(torch.eye(states)[s], action, reward, torch.eye(states)[next_s], terminated)


def target(next_p, reward, terminated, gamma, atoms=ATOMS):
    """The projected target of a batch of next distributions, (B, actions, n_atoms)."""
    next_p, reward, terminated = torch.tensor(next_p), torch.tensor(reward), torch.tensor(terminated)
    return c51.project(*c51.td_target(next_p.log(), reward, terminated, atoms, gamma), atoms)


# The projection


def test_a_value_is_shared_by_the_atoms_beside_it():
    """13 is 0.3 of the way from 10 to 20; 5 is halfway; beyond the edges all goes to the edge."""
    values = torch.tensor([[13.0, 5.0, 5.0], [-7.0, 21.0, 10.0]])
    m = c51.project(values, torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]), ATOMS)
    assert m[0].tolist() == pytest.approx([0.5 * 0.5, 0.5 * 0.5 + 0.5 * 0.7, 0.5 * 0.3])
    assert m[1].tolist() == [0.25, 0.25, 0.5]


@pytest.mark.bug(33)
@pytest.mark.parametrize(("v_min", "v_max", "n_atoms"), [(0, 4, 5), (-2, 2, 3), (0, 1, 2), (-25, 25, 51), (0, 100, 51)])
def test_projection_neither_loses_nor_adds_mass(v_min, v_max, n_atoms):
    """A value on an atom, the first and the last included, gives that atom all of its probability, and nothing is lost
    or counted twice: one bug leaves nothing where lower and upper atom are the same, its usual repair twice as much."""
    atoms = torch.linspace(v_min, v_max, n_atoms)
    p = torch.full((1, n_atoms), 2.0**-6)  # sums of these are exact
    p[0, 0] += 1 - n_atoms * 2**-6
    assert c51.project(atoms.unsqueeze(0), p, atoms).tolist() == p.tolist()
    for k in range(n_atoms):
        m = c51.project(atoms[k].expand(1, n_atoms), p, atoms)
        assert m[0, k].item() == m.sum().item() == 1
    for beyond in (v_min - 1e9, v_max + 1e9):
        m = c51.project(torch.full((1, n_atoms), beyond), p, atoms)
        assert m[0, 0 if beyond < v_min else -1].item() == m.sum().item() == 1


@pytest.mark.bug(33)
@pytest.mark.parametrize(("v_min", "v_max", "n_atoms"), [(0, 4, 5), (-3, 1, 2), (-10, 10, 51), (0, 100, 51)])
def test_projection_against_the_papers_equation(v_min, v_max, n_atoms):
    """Equation 7, atom by atom: m_i = Σ_j p_j max(0, 1 - |clip(value_j) - z_i| / Δz)."""
    generator = torch.Generator().manual_seed(0)
    width = v_max - v_min
    values = v_min + width * (1.4 * torch.rand(8, n_atoms, generator=generator) - 0.2)  # some beyond the edges
    values[0] = values[0].round()
    p = torch.rand(8, n_atoms, generator=generator).softmax(dim=1)
    m = c51.project(values, p, torch.linspace(v_min, v_max, n_atoms))
    assert m.sum(dim=1).tolist() == pytest.approx([1] * 8, abs=1e-6)
    delta_z = width / (n_atoms - 1)
    for row in range(8):
        for i in range(n_atoms):
            z = v_min + i * delta_z
            clipped = [min(max(value, v_min), v_max) for value in values[row].tolist()]
            shares = [max(0.0, 1 - abs(value - z) / delta_z) for value in clipped]
            assert m[row, i].item() == pytest.approx(np.dot(shares, p[row].tolist()), abs=2e-6)


# The target


def test_target_is_the_distribution_one_step_further_on():
    """r + γ z = 5 + 0, 5 + 5, 5 + 10 for γ = 1/2, with probabilities 1/4, 1/4, 1/2: 5 and 15 halve theirs."""
    m = target([[[0.25, 0.25, 0.5]]], [5.0], [False], gamma=0.5)
    assert m[0].tolist() == pytest.approx([0.25 / 2, 0.25 / 2 + 0.25 + 0.5 / 2, 0.5 / 2])


def test_target_of_a_terminal_state_is_the_reward_alone():
    """All mass on 10, or between 0 and 10 for 2.5; and a reward of 0 on the first atom, as v_min = 0 says."""
    m = target([[[0.25, 0.25, 0.5]]] * 3, [10.0, 2.5, 0.0], [True] * 3, gamma=0.5)
    assert m.flatten().tolist() == pytest.approx([0, 1, 0, 0.75, 0.25, 0, 1, 0, 0])


@pytest.mark.bug(47)
def test_mean_of_the_target_is_dqns_target():
    generator = torch.Generator().manual_seed(0)
    atoms = torch.linspace(-2, 2, 51)
    logits = 3 * torch.randn(256, 4, 51, generator=generator)
    reward, terminated = torch.rand(256, generator=generator) * 0.2 - 0.1, torch.rand(256, generator=generator) < 0.2
    values, next_p = c51.td_target(logits, reward, terminated, atoms, gamma=0.9)
    assert values.abs().max() < 2, "inside the support"
    mean = c51.project(values, next_p, atoms) @ atoms
    y = dqn.td_target(logits.softmax(dim=2) @ atoms, reward, terminated, gamma=0.9)
    assert (mean - y).abs().max() < 2e-6


@pytest.mark.bug(46)
def test_next_action_has_the_largest_mean_not_the_likeliest_atom():
    """Action 0 has 20 with 0.4, else 0: mean 8. Action 1 has 10 with 0.7, else 0: mean 7, though its likeliest atom is
    higher and likelier. The maximum taken atom by atom would be 0.6, 0.7, 0.4."""
    p = [[0.6, 1e-9, 0.4], [0.3, 0.7, 1e-9]]
    assert target([p], [0.0], [False], gamma=1.0)[0].tolist() == pytest.approx([0.6, 0, 0.4], abs=1e-6)
    assert network(p).q_values(np.ones(1, np.float32)) == pytest.approx([0.4 * 20, 0.7 * 10])


@pytest.mark.bug(5, 8, 45)
def test_target_network_chooses_and_values_the_next_action():
    """In state 1 the target network means 0.5 * 20 = 10 by action 0 and 5 by action 1, the online one the reverse: 4
    and 12. So m is that of the target network's action 0, of 0 or 20; Double's would be its action 1."""
    first = [[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]
    online = network(first, [[0.6, 0.4, 0.0], [0.4, 0.0, 0.6]])
    lagged = network([[1.0, 0.0, 0.0]] * 2, [[0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    batch = batch_of((0, 1, 0.0, 1, False))
    loss, q_taken, _ = c51.compute_loss(online, lagged, batch, c51.Args(gamma=1.0))
    loss.backward()
    assert loss.item() == pytest.approx(-0.5 * math.log(0.5) - 0.5 * math.log(0.25))  # p(0, 1) = 0.5, 0.25, 0.25
    assert q_taken.item() == pytest.approx(0.25 * 10 + 0.25 * 20)
    # The gradient by a logit is p - m, at the action taken alone, and none reaches the target network.
    by_logits = online.output.bias.grad.view(2, 3)
    assert by_logits.flatten().tolist() == pytest.approx([0, 0, 0, 0.5 - 0.5, 0.25 - 0, 0.25 - 0.5], abs=1e-6)
    assert all(parameter.grad is None for parameter in lagged.parameters())
    other = network(first, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert c51.compute_loss(other, lagged, batch, c51.Args(gamma=1.0))[0].item() == pytest.approx(loss.item())


# The loss


def loss_of(monkeypatch, logits, m):
    """compute_loss of rows with these logits of their one action and these targets, both (B, n_atoms)."""

    def network_of(logits):
        def function(obs):
            return logits.unsqueeze(1)

        function.atoms = torch.arange(float(logits.shape[1]))
        return function

    with monkeypatch.context() as patch:
        patch.setattr(c51, "project", lambda values, p, atoms: m)
        rows = batch_of(*[(0, 0, 0.0, 0, True)] * len(logits))
        return c51.compute_loss(network_of(logits), network_of(logits.detach()), rows, c51.Args())[0]


@pytest.mark.bug(34)
@pytest.mark.parametrize("p", [2e-9, 1e-40])
def test_gradient_of_a_tiny_probability_is_whole(monkeypatch, p):
    """All of the target on an atom of probability 2e-9: the gradient by its logit is p - m = -1. A clamp of p at 1e-5
    would leave 0; log(softmax) would be -inf where p is 0 in float32."""
    logits = torch.tensor([[0.0, math.log(p)]], requires_grad=True)
    loss = loss_of(monkeypatch, logits, torch.tensor([[0.0, 1.0]]))
    assert loss.item() == pytest.approx(-math.log(p), rel=1e-6)
    loss.backward()
    assert logits.grad[0].tolist() == pytest.approx([1.0, -1.0])


@pytest.mark.bug(12)
def test_loss_is_the_cross_entropy_of_each_transition(monkeypatch):
    logits = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.25, 0.25]]).log()
    m = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.25, 0.25]])
    loss = [loss_of(monkeypatch, logits[row], m[row]).item() for row in (slice(0, 1), slice(1, 2), slice(0, 2))]
    entropy = -0.5 * math.log(0.5) - 2 * 0.25 * math.log(0.25)
    assert loss[:2] == pytest.approx([-math.log(0.3), entropy]), "what is left of a perfect prediction"
    assert loss[2] == pytest.approx((-math.log(0.3) + entropy) / 2)
    with pytest.raises(ValueError, match="to match target"):
        loss_of(monkeypatch, logits, torch.zeros(1, 3))


def test_loss_is_the_mean_over_the_batch():
    """Rewards 10 and 20 of terminal steps: -log p of their atoms, 0.5 and 0.125, and half of each gradient p - m."""
    online = network([[0.25, 0.5, 0.25], [0.5, 0.375, 0.125]], [[1.0, 0.0, 0.0]] * 2)
    batch = batch_of((0, 0, 10.0, 1, True), (0, 1, 20.0, 1, True))
    loss, q_taken, _ = c51.compute_loss(online, online, batch, c51.Args())
    loss.backward()
    assert loss.item() == pytest.approx((-math.log(0.5) - math.log(0.125)) / 2)
    assert q_taken.tolist() == pytest.approx([0.5 * 10 + 0.25 * 20, 0.375 * 10 + 0.125 * 20])
    expected = [0.25 / 2, (0.5 - 1) / 2, 0.25 / 2, 0.5 / 2, 0.375 / 2, (0.125 - 1) / 2]
    assert online.output.bias.grad.tolist() == pytest.approx(expected, abs=1e-6)


# The support


@pytest.mark.bug(47)
def test_mass_clipped_to_the_edges():
    """γ = 1/2. In the first row 0 + 0, 5, 10 with 1/4, 1/4, 1/2: nothing is clipped. In the second 12 + 0, 5, 10: 22 is
    clipped, 1/2. The third is an end without a reward: all on the first atom, and not clipped."""
    online = network([[0.25, 0.25, 0.5]], [[0.25, 0.25, 0.5]])
    batch = batch_of((0, 0, 0.0, 1, False), (0, 0, 12.0, 1, False), (0, 0, 0.0, 1, True))
    *_, clipped = c51.compute_loss(online, online, batch, c51.Args(gamma=0.5))
    assert clipped.item() == pytest.approx(0.5 / 3)


def clipped_mass(monkeypatch, values, p, atoms):
    """The third result of compute_loss for targets of these values and probabilities, both (B, n_atoms)."""
    made = network([p[0].tolist()], v_min=atoms[0].item(), v_max=atoms[-1].item())
    with monkeypatch.context() as patch:
        patch.setattr(c51, "td_target", lambda *_: (values, p))
        rows = batch_of(*[(0, 0, 0.0, 0, False)] * len(p), states=1)
        return c51.compute_loss(made, made, rows, c51.Args())[2]


def test_clipping_begins_beyond_the_edges(monkeypatch):
    """A reward of 1 and γ = 0.99: 1 + 0.99 z leaves no support up to 100, but that up to 50 by half an atom."""
    for v_max, share in ((100.0, 0.0), (50.0, 1 / 51), (1.0, 50 / 51)):  # 1 + 0.99 * 0 is at 1, not beyond
        atoms, p = torch.linspace(0, v_max, 51), torch.full((1, 51), 1 / 51)
        assert clipped_mass(monkeypatch, 1 + 0.99 * atoms.unsqueeze(0), p, atoms).item() == pytest.approx(share)
    values, p = torch.tensor([[-11.0, 0.0, 15.0]]), torch.tensor([[0.2, 0.5, 0.3]])
    assert clipped_mass(monkeypatch, values, p, ATOMS) == 0.2
    edges = ATOMS[0], ATOMS[-1]
    for beyond, clipped in ((0.005, 0.0), (0.015, 0.7)):  # of the distance of two atoms; 0.01 may be rounding
        values = torch.stack([edges[0] - 10 * beyond, torch.tensor(0.0), edges[1] + 10 * beyond]).unsqueeze(0)
        p = torch.tensor([[0.3, 0.3, 0.4]])
        assert clipped_mass(monkeypatch, values, p, ATOMS).item() == pytest.approx(clipped)


@pytest.mark.bug(47)
@pytest.mark.parametrize(
    ("flags", "warnings"),
    [
        ({"v_max": 1.0}, 1),
        ({}, 0),
        ({"env_id": "FrozenLake-v1", "v_max": 1.0}, 0),
        ({"env_id": "Pendulum-v1", "v_min": -5.0, "v_max": 0.0}, 1),
    ],
)
def test_a_support_that_is_too_narrow_is_warned_of_once(small, capsys, flags, warnings):
    """CartPole's rewards are 1, but its returns reach 100; FrozenLake's episodes mostly end with 0, which is v_min."""
    run_dir = train(small(c51, eval_frequency=100, **flags))  # three evaluations after updates
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == warnings
    clipped = np.array(scalars(run_dir)["losses/clipped_mass"])[:, 1]
    assert (clipped > 0.05).all() if warnings else (clipped == 0).all()
    if warnings:
        assert f"outside --v-min {flags.get('v_min', 0):g} to --v-max {flags['v_max']:g}" in lines[0]
        assert lines[0].startswith(f"warning: {clipped[-1]:.0%} of the targets'"), "that of the last update"


@pytest.mark.parametrize(("share", "warnings"), [(0.04, 0), (0.06, 1)])
def test_the_warning_begins_at_a_share_of_5_percent(small, capsys, monkeypatch, share, warnings):
    compute_loss = c51.compute_loss

    def clipped(*arguments):
        return *compute_loss(*arguments)[:2], torch.tensor(share)

    monkeypatch.setattr(c51, "compute_loss", clipped)
    train(small(c51))
    assert capsys.readouterr().err.count("warning: 6% of") == warnings


BAD = {
    "--v-min 1 --v-max 1": "--v-min must be below --v-max, which 1 and 1 are not",
    "--v-min 101": "--v-min must be below --v-max, which 101 and 100 are not",
    "--v-min 1e8 --v-max 100000001": "--v-min must be below --v-max",  # the same in float32
    "--v-max nan": "--v-max: Input should be less than or equal to",
    "--v-max inf": "--v-max: Input should be less than or equal to",
    "--n-atoms 1": "--n-atoms: Input should be greater than or equal to 2",
}


@pytest.mark.parametrize(("arguments", "said"), BAD.items())
def test_bad_supports_are_one_sentence(call_main, tmp_path, arguments, said):
    code, out, err = call_main(c51, arguments)
    assert code == 2 and said in " ".join(err.replace("│", " ").split()) and out == ""
    assert list(tmp_path.iterdir()) == [], "no run folder"


def test_there_is_no_loss_to_choose(call_main):
    code, _, err = call_main(c51, "--loss mse")
    assert code == 2 and "--loss" in err


def test_weights_bring_their_support(call_main, small):
    """--evaluate without the run's --v-max plays and values as in the run; another number of atoms does not fit."""
    run_dir = train(small(c51, v_max=40.0, save_model=True))
    model, obs = run_dir / "model.pt", np.ones(4, np.float32)
    networks = [c51.QNetwork(4, 2, small(c51, v_max=v_max)) for v_max in (40.0, 100.0)]
    for made in networks:
        made.load_state_dict(torch.load(model, weights_only=True))
    assert networks[1].atoms[-1] == 40
    assert networks[1].q_values(obs).tolist() == networks[0].q_values(obs).tolist()
    code, _, err = call_main(c51, f"--evaluate {model} --hidden-sizes 16 --n-atoms 11")
    assert code == 2 and "size mismatch" in err and err.count("\n") == 1


# The network


@pytest.mark.parametrize("hidden_sizes", [(), (32, 16)])
def test_q_values_are_the_means(hidden_sizes):
    made = c51.QNetwork(6, 3, c51.Args(hidden_sizes=hidden_sizes, n_atoms=7, v_min=-1, v_max=2))
    obs = torch.randn(6)
    logits = made(obs.unsqueeze(0))
    assert logits.shape == (1, 3, 7)
    q = logits.softmax(dim=2) @ torch.linspace(-1, 2, 7)
    assert made.q_values(obs.numpy()) == pytest.approx(q.detach().numpy()[0], abs=1e-5)
    with torch.no_grad():
        made.output.bias[2] = 1e4  # exp would overflow
    assert made.q_values(obs.numpy())[0] == pytest.approx(-1 + 2 * 0.5)  # the third atom
    assert made.q_values(obs.numpy())[1:] == pytest.approx(q.detach().numpy()[0, 1:], abs=1e-5), "none lost to it"


def test_initial_distributions_are_nearly_even():
    """So that Q begins in the middle of the support, and not with a guess that is sure of itself."""
    made = c51.QNetwork(4, 2, c51.Args())
    assert made(torch.zeros(1, 4)).softmax(dim=2).max() < 3 / 51


class Coin(gym.Env):
    """State 0 leads to state 1 with reward 1; there action 0 pays 0 or 10, as a coin falls, and action 1 pays 4."""

    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 0
        return 0, {}

    def step(self, action):
        if self.state == 0:
            self.state = 1
            return 1, 1.0, False, False, {}
        return 1, float(10 * self.np_random.integers(2) if action == 0 else 4), True, False, {}


gym.register("Coin-v0", Coin, disable_env_checker=True)


def test_a_coin_is_learned_as_a_coin(small):
    """γ = 1/2. In state 1: 0 and 10 with 1/2 each, or 4 for certain; in state 0, where action 0 follows (5 > 4),
    1 + 0 and 1 + 5. The atoms are 0, 1, ..., 10."""
    flags = {"n_atoms": 11, "v_max": 10.0, "gamma": 0.5, "end_e": 1.0, "eval_frequency": 10**6}
    flags |= {"total_timesteps": 4_000, "batch_size": 128, "learning_rate": 0.02}
    run_dir = train(small(c51, env_id="Coin-v0", save_model=True, **flags))
    made = c51.QNetwork(2, 2, small(c51, n_atoms=11))
    made.load_state_dict(torch.load(run_dir / "model.pt", weights_only=True))
    p = made(torch.eye(2)).softmax(dim=2).detach().numpy()  # (states, actions, atoms)
    expected = np.zeros((2, 2, 11))
    expected[1, 0, [0, 10]] = 0.5
    expected[1, 1, 4] = 1.0
    expected[0, :, [1, 6]] = 0.5
    assert np.abs(p - expected).max() < 0.05
    assert made.q_values(np.float32([0, 1])) == pytest.approx([5, 4], abs=0.3)


def test_gradient_moves_the_distribution_and_not_the_support():
    made = network([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]])
    c51.compute_loss(made, made, batch_of((0, 0, 10.0, 0, True), states=1), c51.Args())[0].backward()
    assert gradient(made)[1].item() == pytest.approx(0.3 - 1)
    assert not made.atoms.requires_grad
    assert [name for name, _ in made.named_parameters()] == ["output.weight", "output.bias"]
