"""What QT-Opt adds, and its targets, on numbers to follow on paper."""

import math
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import Counter, scalars, train
from gymnasium.spaces import Box, Discrete

import qt_opt


class Target(gym.Env):
    """One step: the reward is 1 less the squared distance of the action from (s, -s), in units of half the bounds.

    It remembers the actions that it was given, and refuses what is not in its action space.
    """

    observation_space = Box(-1, 1, (1,))
    received: list = []  # noqa: RUF012

    def __init__(self, low=(-1, -1), high=(1, 1)):
        self.action_space = Box(np.float32(low), np.float32(high))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.obs = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.obs, {}

    def step(self, action):
        assert action.dtype == np.float32 and action in self.action_space, f"{action!r}"
        Target.received.append(action.copy())
        low, high = self.action_space.low, self.action_space.high
        distance = (action - (low + high) / 2) / ((high - low) / 2) - [self.obs[0], -self.obs[0]]
        return self.obs, 1 - float(np.square(distance).sum()), True, False, {}


class ContinuousCounter(Counter):
    action_space = Box(-1, 1, (2,))


gym.register("Target-v0", Target, disable_env_checker=True)
gym.register("ContinuousCounter-v0", ContinuousCounter, disable_env_checker=True)


@pytest.fixture
def small(small):
    """The arguments of a run of 400 steps and 50 updates that takes a fifth of a second."""
    return partial(small, qt_opt, env_id="Target-v0", cem_samples=16, cem_elites=4)


def search(q, noise, num_elites):
    """The found action, (action_dim,), by the search on Q(s, a) = q(a) of one state.

    q takes (1, N, action_dim) and returns (1, N); noise is (rounds, N, action_dim).
    """
    values = []

    def watched(obs, action):
        assert obs.shape[:-1] == action.shape[:-1], "each action has its state beside it"
        values.append(q(action))
        return values[-1]

    noise = torch.tensor(np.asarray(noise, np.float32))
    found, value = qt_opt.cem(watched, torch.zeros(1, 1), noise.unsqueeze(1), num_elites)
    assert found.shape == (1, noise.shape[2]) and value.tolist() == [torch.cat(values).max().item()]
    return found[0].numpy()


# The search


def test_search_by_hand():
    """Q(a) = -(a - 0.34)². Samples -1, 0, 0.5 and 2, which becomes 1. The two best, 0 and 0.5, have the mean 0.25 and
    the deviation 0.25, so that 0, 1, -1 and 0.4 become 0.25, 0.5, 0 and 0.35, the best of all eight."""
    seen = []

    def q(a):
        seen.append(a.flatten().tolist())
        return -((a[..., 0] - 0.34) ** 2)

    noise = [[[-1], [0], [0.5], [2]], [[0], [1], [-1], [0.4]]]
    assert search(q, noise, 2) == pytest.approx([0.35])
    assert seen[0] == [-1, 0, 0.5, 1] and seen[1] == pytest.approx([0.25, 0.5, 0, 0.35])


class Watched:
    """Q(a) = the first number of a; it keeps the actions it was given, (N, action_dim) in each round."""

    def __init__(self):
        self.seen = []

    def __call__(self, a):
        self.seen.append(a[0].numpy())
        return a[..., 0]


def test_search_fits_every_dimension_by_itself():
    """Elites (0.2, -0.4) and (0.6, 0.4): means 0.4 and 0, deviations 0.2 and 0.4; so (1, -1) becomes (0.6, -0.4)."""
    q = Watched()
    noise = [[[0.2, -0.4], [0.6, 0.4], [-1, 0], [-0.9, 1]], [[1, -1], [0, 0], [-1, 0.5], [0, 1]]]
    search(q, noise, 2)
    assert q.seen[1] == pytest.approx(np.array([[0.6, -0.4], [0.4, 0], [0.2, 0.2], [0.4, 0.4]]))


@pytest.mark.bug(58)
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_search_makes_every_round(rounds):
    """Q is called once a round, and the samples of the last round count too: its noise alone leads up to 0.9."""
    q = Watched()
    noise = np.zeros((rounds, 4, 1))
    noise[:, :, 0] = [-0.1, 0.1, 0.0, 0.0]
    noise[-1, 0] = 1e3 if rounds > 1 else 0.9
    found = search(q, noise, 2)
    assert [len(samples) for samples in q.seen] == [4] * rounds
    assert found == pytest.approx([0.9 if rounds == 1 else 1.0])


def test_best_sample_of_an_earlier_round_is_kept():
    """The second round, around 0.5 with a deviation of 0, has nothing better than 0.9 of the first to offer: of its
    elites 0.1 and 0.9 it draws the mean alone."""
    assert search(lambda a: a[..., 0], [[[0.1], [0.9], [-1], [-0.5]], [[0]] * 4], 2) == pytest.approx([0.9])


@pytest.mark.bug(59)
@pytest.mark.parametrize("sign", [1, -1])
def test_search_stays_within_the_bounds(sign):
    """A Q that grows without end: the bound itself in every dimension, and no sample beyond."""
    largest = []

    def q(a):
        largest.append(a.abs().max().item())
        return sign * a.sum(-1)

    noise = np.random.default_rng(0).standard_normal((3, 32, 2)) * 2
    assert search(q, noise, 4).tolist() == [sign, sign] and max(largest) == 1


@pytest.mark.bug(59)
def test_first_round_reaches_the_whole_of_the_bounds():
    """A standard deviation of 1, half of the distance between the bounds: 16 % of the samples lie on each bound."""
    q = Watched()
    search(q, np.random.default_rng(0).standard_normal((1, 10_000, 1)), 6)
    assert np.mean(q.seen[0] == 1) == pytest.approx(0.159, abs=0.01)
    assert np.mean(q.seen[0] == -1) == pytest.approx(0.159, abs=0.01)


@pytest.mark.bug(60)
def test_between_two_peaks_the_search_takes_one_of_them():
    """Q = |a| up to 0.5: elites of both peaks have their mean in the valley. A single round, so no second look."""
    noise = [[[-0.5], [0.5], [0.1], [-0.1]]]
    assert abs(search(lambda a: abs(a[..., 0]), noise, 2)) == pytest.approx([0.5])
    rng, two_peaks = np.random.default_rng(0), lambda a: -((abs(a[..., 0]) - 0.5) ** 2)
    for _ in range(20):
        assert abs(search(two_peaks, rng.standard_normal((2, 64, 1)), 6)) == pytest.approx([0.5], abs=0.1)


@pytest.mark.bug(61)
def test_one_elite_has_no_spread():
    """The second round is all at the elite 0.2, with a deviation of 0 and not of NaN."""
    q = Watched()
    assert search(q, [[[-0.5], [0.2]], [[5], [-5]]], 1) == pytest.approx([0.2])
    assert q.seen[1].flatten() == pytest.approx([0.2, 0.2])


@pytest.mark.bug(61)
def test_one_elite_learns(small):
    losses = scalars(train(small(cem_elites=1)))["losses/td_loss"]
    assert all(math.isfinite(value) for _, value in losses)


@pytest.mark.bug(62)
def test_search_of_a_batch_is_that_of_its_rows():
    """Each state has elites of its own: under the same noise a row alone finds the same action."""
    torch.manual_seed(0)
    obs, noise = torch.rand(5, 2) * 2 - 1, torch.randn(3, 5, 64, 2)

    def q(obs, action):  # its maximum is at a = s
        return -(action - obs).square().sum(dim=2)

    together, _ = qt_opt.cem(q, obs, noise, 6)
    alone = torch.cat([qt_opt.cem(q, obs[i : i + 1], noise[:, i : i + 1], 6)[0] for i in range(5)])
    assert torch.equal(together, alone) and torch.allclose(together, obs, atol=0.1)


def test_acting_is_the_search_for_one_observation():
    torch.manual_seed(0)
    args = qt_opt.Args(hidden_sizes=(16, 8), cem_iterations=3, cem_samples=32, cem_elites=5)
    network = qt_opt.QNetwork(3, 2, args)
    for seed in range(20):
        obs = torch.randn(3)
        noise = torch.randn(3, 1, 32, 2, generator=torch.Generator().manual_seed(seed))
        expected, _ = qt_opt.cem(network, obs.unsqueeze(0), noise, 5)
        action, q = network.best_action(obs.numpy(), args, torch.Generator().manual_seed(seed))
        assert action.dtype == np.float32 and action.tolist() == expected[0].tolist()
        assert q == pytest.approx(network(obs, torch.from_numpy(action)).item(), abs=1e-5)


def test_search_has_no_gradient():
    network = qt_opt.QNetwork(3, 2, qt_opt.Args())
    for found in qt_opt.cem(network, torch.zeros(1, 3), torch.randn(2, 1, 64, 2), 6):
        assert found.requires_grad is False


# The network


def test_network_is_one_layer_of_state_and_action_side_by_side():
    """Two units: relu(2 s + 3 a_0 - a_1 + 1) and relu(-s + a_0 + 2 a_1); Q = first - 2 second + 0.5."""
    network = qt_opt.QNetwork(1, 2, qt_opt.Args(hidden_sizes=(2,)))
    state = {
        "hidden.0.weight": [[2.0, 3.0, -1.0], [-1.0, 1.0, 2.0]],
        "hidden.0.bias": [1.0, 0.0],
        "output.weight": [[1.0, -2.0]],
        "output.bias": [0.5],
    }
    network.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    obs = torch.tensor([[[1.0], [1.0]], [[-1.0], [-1.0]]])
    action = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 1.0], [0.0, 0.0]]])
    # s = 1: relu(2 + 3 + 1) = 6 and relu(-1 + 1) = 0; relu(2 - 1 + 1) = 2 and relu(-1 + 2) = 1.
    # s = -1: relu(-2 - 3 - 1 + 1) = 0 and relu(1 - 1 + 2) = 2; relu(-2 + 1) = 0 and relu(1) = 1.
    assert network(obs, action).tolist() == [[6 + 0.5, 2 - 2 * 1 + 0.5], [-2 * 2 + 0.5, -2 * 1 + 0.5]]


# Targets


class Peak(torch.nn.Module):
    """Q(s, a) = height - (a - place * s)² for one number a and one number s."""

    def __init__(self, height, place):
        super().__init__()
        self.height = torch.nn.Parameter(torch.tensor(height))
        self.place = place

    def forward(self, obs, action):
        return self.height - (action[..., 0] - self.place * obs[..., 0]) ** 2


def batch_of_one(action=0.5, terminated=False):
    rows = ([[0.0]], [[action]], [1.0], [[1.0]], [terminated])
    return qt_opt.Batch(*map(torch.tensor, rows))


def test_target_by_hand():
    next_q, lagged = torch.tensor([4.0, -3.0, 1.0]), torch.tensor([6.0, -5.0, 1.0])
    y = qt_opt.td_target(next_q, lagged, torch.tensor([1.0, 10.0, 0.0]), torch.zeros(3, dtype=torch.bool), gamma=0.5)
    assert y.tolist() == [1 + 0.5 * 4, 10 + 0.5 * -5, 0.5]


def test_target_of_a_terminal_state_is_the_reward():
    nan = torch.tensor([float("nan")])
    assert qt_opt.td_target(nan, nan, torch.tensor([3.0]), torch.tensor([True]), gamma=0.5).tolist() == [3.0]


@pytest.mark.bug(5)
@pytest.mark.parametrize(
    ("lagged_height", "y"),
    [
        (10.0, 1 + 0.5 * 5.0),  # at a* = 0.5 Q_1 is 5 and Q_2 10 - (0.5 + 0.5)² = 9, so Q_1 counts
        (2.0, 1 + 0.5 * (2.0 - 1.0)),  # Q_2 is 2 - 1 there, although 2 at its own peak
    ],
)
def test_action_of_the_target_is_searched_on_the_average_and_valued_by_both(lagged_height, y):
    """At s' = 1 the average has its peak at 0.5, the lagged network at -0.5, the online one at 0; at s = 0 all at 0."""
    torch.manual_seed(0)
    online, target, lagged = Peak(3.0, 0.0), Peak(5.0, 0.5), Peak(lagged_height, -0.5)
    args = qt_opt.Args(gamma=0.5, cem_iterations=4)
    loss, q_taken = qt_opt.compute_loss(online, target, lagged, batch_of_one(), args)
    loss.backward()
    assert q_taken.tolist() == [3 - 0.5**2]
    assert loss.item() == pytest.approx((3 - 0.5**2 - y) ** 2, abs=0.05)
    assert online.height.grad.item() == pytest.approx(2 * (3 - 0.5**2 - y), abs=0.05)
    assert target.height.grad is None and lagged.height.grad is None
    perturbed = Peak(3.0, 0.0)
    perturbed.forward = lambda obs, action: online(obs, action) + 100 * obs[..., 0]  # other values at s' = 1 alone
    torch.manual_seed(0)
    same, _ = qt_opt.compute_loss(perturbed, target, lagged, batch_of_one(), args)
    assert same.item() == pytest.approx(loss.item(), abs=1e-5)


@pytest.mark.bug(8)
def test_no_gradient_through_the_target(spy):
    targets = spy("td_target", qt_opt)
    network = Peak(3.0, 0.0)
    loss, _ = qt_opt.compute_loss(network, network, network, batch_of_one(action=0.0), qt_opt.Args(gamma=0.5))
    loss.backward()
    assert targets[0][1].requires_grad is False
    assert network.height.grad.item() == pytest.approx(2 * (3 - (1 + 0.5 * 3)), abs=0.01)


@pytest.mark.bug(62)
def test_lagged_network_is_the_average_as_it_was(small, monkeypatch):
    """At every update it equals the average after the last step that 50 divides, and never the online network."""
    online, average, lagged, compute_loss = {}, {}, {}, qt_opt.compute_loss

    def flat(network):
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    def watched(q_network, target_network, lagged_network, *rest):
        step = 200 + len(online) + 1
        online[step], average[step], lagged[step] = map(flat, (q_network, target_network, lagged_network))
        return compute_loss(q_network, target_network, lagged_network, *rest)

    monkeypatch.setattr(qt_opt, "compute_loss", watched)
    train(small(train_frequency=1, target_network_frequency=1, tau=0.1, target_lag=50))
    assert list(lagged) == list(range(201, 401))
    for step, parameters in lagged.items():
        copied = (step - 1) // 50 * 50  # the last step before this update that 50 divides
        assert torch.equal(parameters, average[copied + 1])  # what the average was when that step had ended
        assert step < 202 or not torch.equal(parameters, online[step])
    assert len(torch.stack(list(lagged.values())).unique(dim=0)) == 4


@pytest.mark.bug(6)
def test_networks_share_no_storage(small, spy):
    updates = spy("compute_loss", qt_opt)
    train(small(target_lag=10_000, target_network_frequency=10_000))
    (q_network, target_network, lagged_network, *_), _ = updates[-1]
    torch.manual_seed(1)
    first = qt_opt.QNetwork(1, 2, small()).state_dict()
    for name, weight in q_network.state_dict().items():
        assert torch.equal(target_network.state_dict()[name], first[name]) and not torch.equal(weight, first[name])
        assert torch.equal(lagged_network.state_dict()[name], first[name])
        assert lagged_network.state_dict()[name].data_ptr() != target_network.state_dict()[name].data_ptr()


# Actions and their bounds


@pytest.mark.bug(59)
@pytest.mark.parametrize(("low", "high"), [((-2, 0), (2, 10)), ((-1, -1), (1, 1)), ((0.1, -0.3), (0.7, 1e-3))])
def test_stored_action_is_what_the_environment_received(small, spy, monkeypatch, low, high):
    """-1 is the lower bound, 1 the upper one, in training and in evaluation; Target refuses anything beyond."""
    monkeypatch.setattr(Target, "received", [])
    gym.register("Bounds-v0", Target, kwargs={"low": low, "high": high}, disable_env_checker=True)
    monkeypatch.setattr(qt_opt, "warn_of_differences", lambda *_: None)  # it makes steps, too
    buffers = spy("ReplayBuffer", qt_opt)
    train(small(env_id="Bounds-v0", eval_frequency=400))
    stored, received = buffers[0][1].action[:400], np.stack(Target.received)
    assert len(received) == 400 + 2 and stored.shape == (400, 2) and stored.dtype == np.float32
    expected = np.array(low) + (stored + 1) / 2 * np.subtract(high, low)
    assert received[:400] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert abs(stored).max() <= 1 and len(np.unique(stored)) > 300


@pytest.mark.bug(59)
def test_bounds_are_reached_exactly():
    gym.register("Bounds-v0", Target, kwargs={"low": (0.1, -0.3), "high": (0.7, 1e-3)}, disable_env_checker=True)
    env = qt_opt.make_env(qt_opt.Args(env_id="Bounds-v0"))
    env.reset(seed=0)
    for a, expected in ((1, (0.7, 1e-3)), (-1, (0.1, -0.3)), (0, (0.4, -0.1495))):
        env.step(np.full(2, a, np.float32))
        assert Target.received[-1] == pytest.approx(np.float32(expected), rel=1e-6 if a == 0 else 0, abs=0)


def test_rounding_leads_past_no_bound():
    """Bounds so near to each other that without a limit many of these actions end beyond; Target refuses them."""
    gym.register("Bounds-v0", Target, kwargs={"low": (0.1, 0.1), "high": (0.1000001,) * 2}, disable_env_checker=True)
    env = qt_opt.make_env(qt_opt.Args(env_id="Bounds-v0"))
    env.reset(seed=0)
    for k in range(100):
        env.step(np.float32([1 - k / 2**24, -1 + k / 2**24]))


@pytest.mark.parametrize(
    ("space", "action_dim"),
    [
        (Box(-2, 3, (2, 3)), 6),
        (Box(0, 1, ()), 1),
        (Box(-1, 1, (3,), np.float64), 3),
        (Box(-1, 1, (1,), np.float16), 1),
    ],
)
def test_shapes_and_types_of_actions(small, spy, space, action_dim):
    class Any(Target):
        def __init__(self):
            self.action_space = space

        def step(self, action):
            assert action in self.action_space and action.dtype == space.dtype and action.shape == space.shape
            return self.obs, 1.0, True, False, {}

    gym.register("Any-v0", Any, disable_env_checker=True)
    buffers = spy("ReplayBuffer", qt_opt)
    train(small(env_id="Any-v0"))
    assert buffers[0][1].action.shape == (100_000, action_dim)


@pytest.mark.parametrize(
    "space",
    [Discrete(3), Box(-np.inf, np.inf, (2,)), Box(np.float32([0, 0]), np.float32([1, np.inf])), Box(0, 9, (1,), int)],
)
def test_actions_that_cannot_be_searched_are_refused_in_a_sentence(call_main, tmp_path, space):
    class Other(Target):
        def __init__(self):
            self.action_space = space

    gym.register("Other-v0", Other, disable_env_checker=True)
    code, out, err = call_main(qt_opt, "--env-id Other-v0")
    assert (
        code == 2
        and out == ""
        and err.count("\n") == 1
        and err.startswith("error: cannot make Other-v0: its actions are ")
    )
    assert "dqn.py" in err and "finite" in err
    assert not list(tmp_path.iterdir()), "no run folder"


def test_discrete_actions_of_a_known_environment(call_main):
    code, _, err = call_main(qt_opt, "--env-id CartPole-v1")
    assert code == 2 and "cannot make CartPole-v1: its actions are Discrete(2)" in err and "dqn.py" in err


def test_more_elites_than_samples(call_main, tmp_path):
    code, _, err = call_main(qt_opt, "--cem-samples 5 --cem-elites 6")
    assert code == 2 and "--cem-elites is larger than --cem-samples" in " ".join(err.split())
    assert not list(tmp_path.iterdir())


# Whole runs


def test_epsilon_decides_between_chance_and_greed(small, spy, monkeypatch):
    """Q = a_0 - a_1: greedy is (1, -1), found by 64 samples in nearly every search, and chance is anything."""
    learned = qt_opt.QNetwork.forward

    def forward(self, obs, action):
        return 0 * learned(self, obs, action) + action[..., 0] - action[..., 1]

    monkeypatch.setattr(qt_opt.QNetwork, "forward", forward)
    buffers = spy("ReplayBuffer", qt_opt)
    train(small(start_e=0.0, end_e=0.0, cem_samples=64))
    greedy = buffers[0][1].action[:400]
    assert greedy.mean(axis=0) == pytest.approx([1, -1], abs=0.02)
    train(small(start_e=1.0, end_e=1.0))
    chance = buffers[1][1].action[:400]  # uniform: mean 0 and variance (1 - -1)² / 12, with 800 numbers
    assert chance.mean() == pytest.approx(0, abs=0.1) and chance.var() == pytest.approx(4 / 12, abs=0.04)


@pytest.mark.bug(63)
def test_evaluations_do_not_change_training(small):
    """Their search draws from a generator of their own: the weights are equal to the bit."""
    runs = [train(small(save_model=True, eval_frequency=n, eval_episodes=m)) for n, m in ((25, 3), (400, 1))]
    often, seldom = (torch.load(run_dir / "model.pt", weights_only=True) for run_dir in runs)
    assert all(torch.equal(often[name], seldom[name]) for name in often)
    often, seldom = map(scalars, runs)
    assert len(often["eval/episodic_return"]) == 16 and often["losses/td_loss"] == seldom["losses/td_loss"]


def test_evaluation_repeats_itself(small):
    args, other = small(), small(seed=2)
    env, best_action = qt_opt.make_env(args), qt_opt.QNetwork(1, 2, args).best_action
    first = qt_opt.evaluate(env, best_action, args, 3)
    assert qt_opt.evaluate(env, best_action, args, 3) == first
    assert qt_opt.evaluate(env, best_action, other, 3)[0] != first[0]


def test_predicted_and_realised_value(small):
    """The numbers of test_runs.py: rewards 1 to 5, γ = 1/2; one episode terminates, one is truncated where Q is 8."""
    args = small(env_id="ContinuousCounter-v0", gamma=0.5)

    def best_action(obs, args, generator):
        return np.zeros(2, np.float32), 8.0 if obs[0] % 1000 == 5 else obs[0]

    metrics, returns = qt_opt.evaluate(qt_opt.make_env(args), best_action, args, 2)
    assert returns == [15.0, 15.0]
    assert metrics["eval/q_predicted"] == pytest.approx((0 + 1 + 2 + 3 + 4 + 1000 + 1001 + 1002) / 8)
    terminated, truncated = [5, 6.5, 6.25, 5.125, 3.5625], [7.25, 5.625, 3.8125]
    assert metrics["eval/q_realised"] == pytest.approx(sum(terminated + truncated) / 8)


@pytest.mark.bug(9, 10, 18)
def test_truncation_bootstraps(small, spy):
    """Counter's odd episodes are truncated: their last step is stored with a future, next_obs its own last one."""
    buffers = spy("ReplayBuffer", qt_opt)
    train(small(env_id="ContinuousCounter-v0", total_timesteps=210))
    buffer = buffers[0][1]
    last_steps = buffer.obs[:, 0] % 1000 == 4
    truncated = last_steps & (buffer.obs[:, 0] // 1000 % 2 == 1)
    assert truncated.sum() >= 20 and not buffer.terminated[truncated].any()
    assert buffer.terminated[last_steps & ~truncated].all()
    assert (buffer.next_obs[last_steps] == buffer.obs[last_steps] + 1).all()


def test_learns_a_target_that_depends_on_the_state(small):
    """The best action is (s, -s), worth 1; an action at random is worth 1 - 4/3 on average."""
    flags = {"total_timesteps": 1_200, "train_frequency": 1, "hidden_sizes": (32, 32)}
    run_dir = train(small(**flags, tau=0.01, target_network_frequency=1, eval_frequency=1_200, eval_episodes=50))
    assert scalars(run_dir)["eval/episodic_return"][-1][1] > 0.9


@pytest.mark.parametrize("samples", [400, 2])
def test_compiled_loss_is_near_the_eager_one(samples):
    """torch.compile has random numbers of its own, so that the search finds slightly other actions: with 400 samples
    the targets, and with them the loss, hardly differ; with 2 they do, at every call."""
    torch.manual_seed(0)
    args = qt_opt.Args(hidden_sizes=(16,), cem_samples=samples, cem_elites=1)
    networks = [qt_opt.QNetwork(3, 1, args) for _ in range(3)]
    obs, next_obs, action = torch.randn(64, 3), torch.randn(64, 3), torch.rand(64, 1)
    batch = qt_opt.Batch(obs, action, torch.randn(64), next_obs, torch.rand(64) < 0.2)
    functions = qt_opt.compute_loss, qt_opt.compiled(qt_opt.compute_loss, args)
    found = [function(*networks, batch, args)[0].item() for function in functions for _ in range(2)]
    if samples == 2:
        assert len(set(found)) == 4
    else:
        assert found == pytest.approx([found[0]] * 4, rel=1e-3)
