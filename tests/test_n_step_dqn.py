"""N-step DQN on numbers that can be checked by hand."""

import json

import numpy as np
import pytest
import torch
from conftest import gradient, linear_network, scalars, train

import dqn
import n_step_dqn
from n_step_dqn import look_ahead

CPU = torch.device("cpu")
TERMINATED, TRUNCATED = {3, 4, 11, 19}, {8, 16, 22}  # numbers of the last steps of episodes; one is a single step long


def buffer_of(added, capacity, n_step, gamma=0.5):
    """Step k goes from observation k to k + 0.5, with action 3 k and reward k + 1."""
    buffer = n_step_dqn.ReplayBuffer(capacity, 1, n_step, gamma)
    for k in range(added):
        buffer.add(np.array([k]), 3 * k, k + 1.0, np.array([k + 0.5]), k in TERMINATED, k in TRUNCATED)
    return buffer


def draw(buffer, batch_size=500):
    """{number of the first step: (action, reward, next_obs, terminated, discount)} of every window that is drawn."""
    batch = buffer.sample(batch_size, np.random.default_rng(0), CPU)
    rows = zip(*(field.flatten().tolist() for field in batch), strict=True)
    return {int(obs): row for obs, *row in rows}


def walk(first, added, n_step, gamma=0.5):
    """What `draw` should say of a window: step after step, as if there were no ring."""
    total, k = 0.0, first
    for steps in range(n_step):
        k = first + steps
        total += gamma**steps * (k + 1)
        if k in TERMINATED or k in TRUNCATED or k == added - 1:
            break
    return [3 * first, total, k + 0.5, k in TERMINATED, gamma ** (steps + 1)]


# The window


@pytest.mark.bug(29)
def test_a_window_ends_with_its_episode():
    """Rewards 1 to 6 and n = 3: the third step terminates, the fifth is truncated, the sixth is the newest."""
    buffer = n_step_dqn.ReplayBuffer(10, 1, n_step=3, gamma=0.5)
    for k in range(6):
        buffer.add(np.array([k]), 0, k + 1.0, np.array([k + 0.5]), k == 2, k == 4)
    found = draw(buffer)
    assert found[0] == [0, 1 + 0.5 * 2 + 0.25 * 3, 2.5, True, 0.125]
    assert found[1] == [0, 2 + 0.5 * 3, 2.5, True, 0.25]
    assert found[2] == [0, 3, 2.5, True, 0.5]
    assert found[3] == [0, 4 + 0.5 * 5, 4.5, False, 0.25], "a truncation ends a window and bootstraps"
    assert found[4] == [0, 5, 4.5, False, 0.5]
    assert found[5] == [0, 6, 5.5, False, 0.5]


@pytest.mark.bug(17, 30)
def test_every_step_is_a_start():
    """Also the last n - 1 of an episode, and the newest ones: all equally often."""
    buffer = buffer_of(23, capacity=100, n_step=5)
    starts = buffer.sample(23_000, np.random.default_rng(0), CPU).obs[:, 0].numpy().astype(int)
    assert np.bincount(starts) == pytest.approx(1000, abs=5 * 1000**0.5)
    assert set(starts) == set(range(23))


@pytest.mark.bug(31)
def test_discount_is_gamma_to_the_steps_really_taken():
    """Without rewards and with V = 1 everywhere the target is γ^k. Windows of 3: 5, 6 and 7 lie in an episode that ends
    after 8; 9, 10 and 11 in one that terminates after 11, where there is no V; 12, 13 and 14 before the newest, 14."""
    buffer = buffer_of(15, capacity=100, n_step=3, gamma=0.9)
    buffer.reward[:] = 0
    batch = buffer.sample(500, np.random.default_rng(0), CPU)
    y = n_step_dqn.td_target(torch.ones(500, 2), batch.reward, batch.terminated, batch.discount)
    found = dict(zip(batch.obs[:, 0].int().tolist(), y.tolist(), strict=True))
    assert [found[k] for k in (5, 6, 7, 8)] == pytest.approx([0.9**3, 0.9**3, 0.9**2, 0.9])
    assert [found[k] for k in (9, 10, 11)] == [0, 0, 0]
    assert [found[k] for k in (12, 13, 14)] == pytest.approx([0.9**3, 0.9**2, 0.9])


@pytest.mark.bug(19, 32)
@pytest.mark.parametrize("n_step", [1, 2, 3, 7, 10, 25])
@pytest.mark.parametrize("added", [1, 6, 10, 13, 20, 25])
def test_no_window_crosses_the_write_head(n_step, added):
    """A ring of 10 at every stage, up to two and a half times filled; windows that are longer than the ring too."""
    kept = range(max(0, added - 10), added)
    expected = {k: pytest.approx(walk(k, added, n_step)) for k in kept}
    assert draw(buffer_of(added, capacity=10, n_step=n_step)) == expected


def test_a_window_grows_with_what_is_added_behind_it():
    """Step 5 first is the newest, then has 6 behind it, then 6 and 7, and with n = 3 no more."""
    rewards = [draw(buffer_of(added, capacity=100, n_step=3))[5][1] for added in (6, 7, 8, 9)]
    assert rewards == [6, 6 + 0.5 * 7, 6 + 0.5 * 7 + 0.25 * 8, 6 + 0.5 * 7 + 0.25 * 8]


@pytest.mark.bug(43)
def test_obs_and_action_are_those_of_the_start():
    """Of step 5; next_obs and terminated are those of step 7, the window's last, not of what comes after it."""
    action, _, next_obs, terminated, _ = draw(buffer_of(23, capacity=100, n_step=3))[5]
    assert (action, next_obs, terminated) == (3 * 5, 7.5, False)
    action, _, next_obs, terminated, _ = draw(buffer_of(23, capacity=100, n_step=3))[17]
    assert (action, next_obs, terminated) == (3 * 17, 19.5, True)


def test_look_ahead_needs_no_buffer():
    """Arrays alone, of a ring of 4 whose newest step is at place 1, in the order of time 2, 3, 0, 1; 3 has an end."""
    reward, ended = np.array([1.0, 2.0, 4.0, 8.0], np.float32), np.array([False, False, False, True])
    start = np.array([2, 3, 0, 1, 2])
    total, discount, last = look_ahead(start, 3, 0.5, reward, ended, newest=1)
    assert total.tolist() == [4 + 0.5 * 8, 8, 1 + 0.5 * 2, 2, 4 + 0.5 * 8]
    assert discount.tolist() == [0.25, 0.5, 0.25, 0.5, 0.25]
    assert last.tolist() == [3, 3, 1, 1, 3]
    assert total.dtype == discount.dtype == np.float32


def test_gamma_of_zero_and_one():
    for gamma, total, discount in ((0.0, 2.0, 0.0), (1.0, 2 + 3 + 4, 1.0)):  # of steps 1, 2 and 3
        assert draw(buffer_of(23, capacity=100, n_step=3, gamma=gamma))[1][1::3] == [total, discount]


def test_sample_has_the_shapes_and_types_of_a_batch():
    batch = buffer_of(23, capacity=100, n_step=3).sample(4, np.random.default_rng(0), CPU)
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in batch._asdict().items()}
    assert shapes == {
        "obs": ((4, 1), torch.float32),
        "action": ((4,), torch.int64),
        "reward": ((4,), torch.float32),
        "next_obs": ((4, 1), torch.float32),
        "terminated": ((4,), torch.bool),
        "discount": ((4,), torch.float32),
    }


# The target


def test_target_is_the_windows_rewards_and_the_discounted_maximum():
    next_q = torch.tensor([[2.0, 5.0], [-3.0, -7.0], [float("nan"), 1.0]])  # nothing of a terminal state may leak in
    reward, discount = torch.tensor([1.0, 10.0, 4.0]), torch.tensor([0.5, 0.125, 0.25])
    y = n_step_dqn.td_target(next_q, reward, torch.tensor([False, False, True]), discount)
    assert y.tolist() == [1 + 0.5 * 5, 10 + 0.125 * -3, 4.0]


@pytest.mark.bug(5, 12, 31)
def test_update_discounts_each_window_by_its_own_steps():
    """Two windows from obs 0 to obs 1 with the sum of rewards 1, of one step and of three, γ = 1/2; Q(0, ·) = 3, 4 and
    Q_target(1, ·) = 2, 5: targets 1 + 5/2 and 1 + 5/8. γ in Args is not looked at again."""
    online = linear_network(n_step_dqn, [7.0, 7.0], [3.0, 4.0])
    target = linear_network(n_step_dqn, [2.0, 5.0], [0.0, 0.0])
    rows = ([[0.0]] * 2, [0, 1], [1.0, 1.0], [[1.0]] * 2, [False, False], [0.5, 0.125])
    batch = n_step_dqn.Batch(*map(torch.tensor, rows))
    loss, q_taken = n_step_dqn.compute_loss(online, target, batch, n_step_dqn.Args(gamma=0.9))
    loss.backward()
    errors = 3 - (1 + 5 / 2), 4 - (1 + 5 / 8)
    assert q_taken.tolist() == [3.0, 4.0]
    assert loss.item() == (errors[0] ** 2 + errors[1] ** 2) / 2
    assert gradient(online).tolist() == [0, 0, *errors], "2 δ / 2 each; none through the target"


# The loop


@pytest.mark.bug(28)
def test_loop_stores_where_episodes_end(small, spy):
    """Counter's episodes have 5 steps and end alternately by termination and by truncation."""
    buffers = spy("ReplayBuffer", n_step_dqn)
    train(small(n_step_dqn, env_id="Counter-v0", total_timesteps=100, learning_starts=10))
    buffer = buffers[0][1]
    assert buffer.ended[:100].tolist() == [False, False, False, False, True] * 20
    assert buffer.terminated[:100].tolist() == ([False] * 4 + [True] + [False] * 5) * 10


@pytest.mark.bug(9, 10, 18, 29)
def test_loop_learns_from_windows_of_single_episodes(small, spy):
    """Counter's observation is 1000 times the episode plus t, and its rewards are 1, 2, 3, 4, 5. A window from t has 3
    steps, or 5 - t, or as many as there are up to the newest. Each batch of a run against that, γ = 1/2."""
    updates = spy("compute_loss", n_step_dqn)
    train(small(n_step_dqn, env_id="Counter-v0", gamma=0.5))  # updates at steps 204, 208, ..., 400
    assert len(updates) == 50
    for (_, _, batch, _), global_step in zip([call for call, _ in updates], range(204, 401, 4), strict=True):
        episode, t = np.divmod(batch.obs[:, 0].numpy().astype(int), 1000)
        k = np.minimum(np.minimum(3, 5 - t), global_step - (5 * episode + t))
        assert (batch.next_obs[:, 0].numpy() == batch.obs[:, 0].numpy() + k).all()
        assert (batch.terminated.numpy() == ((t + k == 5) & (episode % 2 == 0))).all()
        assert (batch.discount.numpy() == 0.5**k).all()
        total = (t + 1) + (k > 1) * 0.5 * (t + 2) + (k > 2) * 0.25 * (t + 3)
        assert (batch.reward.numpy() == total).all()


@pytest.mark.bug(6, 7, 44)
def test_n_step_1_is_dqn_to_the_bit(small):
    """Everything that the two runs log, their returns, and their last weights."""
    left = []
    for script, flags in ((dqn, {}), (n_step_dqn, {"n_step": 1}), (n_step_dqn, {"n_step": 2})):
        run_dir = train(small(script, total_timesteps=1_000, save_model=True, target_network_frequency=10, **flags))
        logged = {name: rows for name, rows in scalars(run_dir).items() if name != "charts/SPS"}
        weights = torch.load(run_dir / "model.pt", weights_only=True)
        returns = json.loads((run_dir / "result.json").read_text())["returns"]
        left.append((logged, returns, {name: weight.tolist() for name, weight in weights.items()}))
    assert left[1] == left[0]
    assert left[2][2] != left[0][2], "which two steps are not"


@pytest.mark.parametrize(
    ("n_step", "limit"), [(0, "greater than or equal to 1"), (10_001, "less than or equal to 10000")]
)
def test_n_out_of_its_range(small, n_step, limit):
    with pytest.raises(ValueError, match=f"^--n-step: Input should be {limit}$"):
        train(small(n_step_dqn, n_step=n_step))
