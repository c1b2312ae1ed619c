"""Bugs that the loop or the loss of any script could have, looked for in every script (docs/known-bugs.md)."""

import importlib
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import gradient, result, scalars, train

import c51
import fqi
import per_dqn
import pqn
import qt_opt
import rainbow
import tabular_q
from tools.ladder import DQN_FAMILY

FAMILY = [importlib.import_module(name.removesuffix(".py")) for name in DQN_FAMILY]
SCRIPTS = [*FAMILY, pqn, tabular_q, fqi]
NAMES = [script.__name__ for script in SCRIPTS]
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
family = pytest.mark.parametrize("script", FAMILY, ids=[script.__name__ for script in FAMILY])


class Steps(gym.Env):
    """The t-th step of an episode of `length` steps leads to observation t and pays 1. The last one is terminal, with
    `truncates` only in every second episode."""

    def __init__(self, length=1, box=False, global_numbers=False, truncates=False):
        self.length, self.global_numbers, self.truncates, self.odd = length, global_numbers, truncates, False
        self.observation_space = gym.spaces.Discrete(length + 1)
        self.action_space = gym.spaces.Box(-1, 1, (1,)) if box else gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.global_numbers and seed is not None:  # as careless environments do
            random.seed(seed)
            np.random.seed(seed)
        self.t, self.odd = 0, seed is None and not self.odd
        return 0, {}

    def step(self, action):
        self.t += 1
        reward = 1.0
        if self.global_numbers:
            reward = random.random() + np.random.random() + self.np_random.random()
        ends, cut = self.t == self.length, self.truncates and self.odd
        return self.t, reward, ends and not cut, ends and cut, {}


@pytest.fixture
def steps(tmp_path):
    """steps(script, **arguments) -> Args of a short run on Steps, which gets length, global_numbers and truncates."""
    ids = []

    def make(script, length=1, global_numbers=False, truncates=False, **arguments):
        ids.append(f"Steps{len(ids)}-v0")
        kwargs = {"length": length, "box": script is qt_opt, "global_numbers": global_numbers}
        kwargs["truncates"] = truncates
        gym.register(ids[-1], Steps, kwargs=kwargs, max_episode_steps=100, disable_env_checker=True)
        flags = {"total_timesteps": 400, "learning_starts": 100, "train_frequency": 1, "batch_size": 16}
        flags |= {
            "buffer_size": 1_000,
            "learning_rate": 0.1 if script is tabular_q else 1e-2,
            "hidden_sizes": (16,),
            "v_min": 0.0,
            "v_max": 2.0,
        }
        flags |= {"num_envs": 4, "num_steps": 5, "dataset_size": 400, "iterations": 4, "regressor": "linear"}
        flags |= {"eval_frequency": 2 if script is fqi else 200, "eval_episodes": 2, "final_eval_episodes": 2}
        known = {name: value for name, value in flags.items() if name in script.Args.__dataclass_fields__}
        return script.Args(**known | {"env_id": ids[-1], "runs_dir": tmp_path / "runs"} | arguments)

    yield make
    for env_id in ids:
        del gym.registry[env_id]


@pytest.mark.bug(71)
@every_script
def test_an_episode_of_one_step_is_worth_its_reward(steps, script):
    """Q = 1, whatever the discount. Joined to the next episode it would be worth 1 + γ + γ² + ..., up to 100."""
    flags = {} if script is fqi else {"total_timesteps": 1_000, "eval_frequency": 500}
    found = result(train(steps(script, gamma=0.99, **flags)))
    assert found["eval/q_realised"] == 1
    assert found["eval/q_predicted"] == pytest.approx(1, abs=0.05)


@pytest.mark.bug(71)
@family
def test_every_episode_of_one_step_is_stored_as_terminal(steps, script, spy):
    buffers = spy("ReplayBuffer", script)
    train(steps(script, total_timesteps=300))
    buffer = buffers[0][1]
    assert buffer.size == 300
    assert buffer.terminated[:300].tolist() == [True] * 300
    assert buffer.reward[:300].tolist() == [1.0] * 300


@pytest.mark.bug(72)
@every_script
def test_looking_at_q_changes_nothing(steps, script, monkeypatch):
    """Every evaluation is made twice: the second one is equal, and the run is that with single evaluations."""
    args, repeated, evaluate = steps(script, length=3), [], script.evaluate
    once = scalars(train(args))

    def twice(*arguments, **keywords):
        first, second = evaluate(*arguments, **keywords), evaluate(*arguments, **keywords)
        repeated.append(first == second)
        return first

    monkeypatch.setattr(script, "evaluate", twice)
    both = scalars(train(args))
    assert repeated == [True] * len(repeated) and len(repeated) >= 2
    once.pop("charts/SPS", None), both.pop("charts/SPS", None)
    assert both == once


@pytest.mark.bug(73)
@every_script
def test_a_second_run_in_one_process_is_a_first_one(steps, script):
    """Nothing of the run before is left: all that is logged is equal, while another seed's differs."""
    args = steps(script, length=3, global_numbers=True)
    first, between, second = (scalars(train(each)) for each in (args, steps(script, length=2, seed=2), args))
    for logged in (first, between, second):
        logged.pop("charts/SPS", None)
    assert first == second != between


@pytest.mark.bug(9, 10, 11, 28, 29, 73)
@family
def test_the_loop_stores_every_step_as_it_was(steps, script, spy):
    """Evaluations every 7 steps, in the middle of episodes of 5: the stored rows still lead from 0 to 1 to ... to 5. Of
    the ends every second one is terminal; scripts with windows of several steps know the other ones, too."""
    buffers = spy("ReplayBuffer", script)
    train(steps(script, length=5, truncates=True, total_timesteps=200, eval_frequency=7))
    buffer = buffers[0][1]
    states = [(t, t + 1) for t in range(5)] * 40
    assert list(zip(buffer.obs[:200].argmax(axis=1), buffer.next_obs[:200].argmax(axis=1), strict=True)) == states
    assert buffer.terminated[:200].tolist() == ([False] * 4 + [True] + [False] * 5) * 20
    if hasattr(buffer, "ended"):
        assert buffer.ended[:200].tolist() == ([False] * 4 + [True]) * 40


@pytest.mark.bug(6, 7)
@family
def test_the_target_network_moves_every_so_many_steps_and_is_no_alias(steps, script, spy, monkeypatch):
    """Every 50 environment steps after the first 100, while an update is made in every 4: a copy, and then still."""
    buffers, moved, update = spy("ReplayBuffer", script), [], script.update_target

    def watched(target, online, tau):
        weights = [parameter.detach().clone() for parameter in target.parameters()]
        update(target, online, tau)
        differ = any(not torch.equal(*pair) for pair in zip(weights, target.parameters(), strict=True))
        shared = {p.data_ptr() for p in target.parameters()} & {p.data_ptr() for p in online.parameters()}
        moved.append((buffers[0][1].size, differ, len(shared)))

    monkeypatch.setattr(script, "update_target", watched)
    train(steps(script, length=5, train_frequency=4, tau=1.0, target_network_frequency=50))
    assert moved == [(step, True, 0) for step in range(150, 401, 50)]


def learned_from(steps, script, spy, **flags):
    """The arguments of the last compute_loss of a run: networks, batch, args."""
    calls = spy("compute_loss", script)
    train(steps(script, length=5, truncates=True, **flags))
    *networks, batch, args = calls[-1][0]
    return networks, batch, args


@pytest.mark.bug(5, 8)
@family
def test_the_target_is_the_target_networks_and_a_constant(steps, script, spy):
    """Q_target higher by 1 everywhere moves the loss, and no gradient reaches the target network."""
    (online, target, *rest), batch, args = learned_from(steps, script, spy, gamma=0.5)
    assert all(parameter.grad is None for parameter in target.parameters())
    losses = []
    for more in (0.0, 1.0):
        with torch.no_grad():
            for name, module in [pair for network in (target, *rest) for pair in network.named_modules()]:
                if name in ("output", "value"):
                    module.bias += more * (torch.arange(len(module.bias)) if script in (c51, rainbow) else 1)
        torch.manual_seed(0)  # the same noise
        losses.append(script.compute_loss(online, target, *rest, batch, args)[0].item())
    assert losses[0] != losses[1]


@pytest.mark.bug(12, 13)
@pytest.mark.parametrize("script", [script for script in FAMILY if "loss" in script.Args.__dataclass_fields__])
def test_huber_keeps_its_gradient_and_every_row_its_own(steps, script, spy):
    """Errors near 1,000 and near 2,000 have the same gradient, not 0. With one huge reward among the rows, the loss is
    that row's error over their number; a (B, B) of differences would have B of them in every row."""
    networks, batch, args = learned_from(steps, script, spy, loss="huber")
    found = []
    for reward in (1_000.0, 2_000.0):
        networks[0].zero_grad()
        torch.manual_seed(0)
        script.compute_loss(*networks, batch._replace(reward=torch.full_like(batch.reward, reward)), args)[0].backward()
        found.append(gradient(networks[0]))
    assert found[0].abs().sum() > 0 and torch.allclose(found[0], found[1], atol=1e-6)
    one = torch.zeros_like(batch.reward)
    place = tuple(batch.learned.nonzero()[0]) if hasattr(batch, "learned") else 0
    one[place] = 1e6
    rows = int(batch.learned.sum()) if hasattr(batch, "learned") else len(one)
    weight = batch.weight[0].item() if hasattr(batch, "weight") else 1.0
    torch.manual_seed(0)
    loss = script.compute_loss(*networks, batch._replace(reward=one), args)[0].item()
    assert loss == pytest.approx(weight * 1e6 / rows, rel=1e-3)


@pytest.mark.bug(19)
@family
def test_a_full_buffer_keeps_the_newest(steps, script, spy):
    """400 steps of episodes of 7 into a ring of 100: it holds the steps 300 to 399."""
    buffers = spy("ReplayBuffer", script)
    train(steps(script, length=7, buffer_size=100))
    buffer = buffers[0][1]
    order = [(buffer.position + k) % 100 for k in range(100)]  # from the oldest to the newest
    assert buffer.size == 100
    assert buffer.obs[order].argmax(axis=1).tolist() == [t % 7 for t in range(300, 400)]


@pytest.mark.bug(73)
def test_collections_of_fqi_begin_with_a_reset(steps, tmp_path):
    """Four collections of 101 steps, so the first ends in the middle of an episode of 5: no row leads into the next."""
    args = steps(fqi, length=5, collections=4, dataset_size=404, iterations=8, dataset=tmp_path / "data.npz")
    train(args)
    with np.load(tmp_path / "data.npz") as data:
        obs, next_obs = data["obs"].argmax(axis=1), data["next_obs"].argmax(axis=1)
    assert (next_obs == obs + 1).all() and obs[[0, 101, 202, 303]].tolist() == [0, 0, 0, 0]


def weighted_gradient(script, weight, **arguments):
    """The gradient of the loss of two rows, whose weights these are, under the same noise every time."""
    torch.manual_seed(0)
    args = script.Args(hidden_sizes=(4,), **arguments)
    online, target = script.QNetwork(1, 2, args), script.QNetwork(1, 2, args)
    batch = {"obs": torch.tensor([[1.0], [2.0]]), "action": torch.tensor([0, 1]), "reward": torch.tensor([3.0, 5.0])}
    batch |= {"next_obs": torch.zeros(2, 1), "terminated": torch.tensor([True, False])}
    batch |= {"discount": torch.full((2,), 0.9), "weight": torch.tensor(weight)}
    batch = script.Batch(**{name: batch[name] for name in script.Batch._fields})
    script.compute_loss(online, target, batch, args)[0].backward()
    return gradient(online)


@pytest.mark.bug(74)
@pytest.mark.parametrize(
    ("script", "arguments"), [(per_dqn, {"loss": "mse"}), (per_dqn, {"loss": "huber"}), (rainbow, {})]
)
def test_importance_weights_reach_the_step(script, arguments):
    """A quarter of the weight is a quarter of the gradient; both weights halved, half of it: they do not cancel."""
    first, second, both = (weighted_gradient(script, w, **arguments) for w in ([1.0, 0.0], [0.0, 0.25], [1.0, 0.25]))
    assert first.abs().sum() > 0 and second.abs().sum() > 0
    assert torch.allclose(first + second, both, atol=1e-6)
    assert torch.allclose(second, weighted_gradient(script, [0.0, 1.0], **arguments) / 4, atol=1e-6)
    assert torch.allclose(both / 2, weighted_gradient(script, [0.5, 0.125], **arguments), atol=1e-6)


@pytest.mark.bug(38, 75)
@every_script
def test_evaluations_do_not_rewind_the_training(steps, script):
    """The environment seeds Python's and NumPy's own generators in each seeded reset and pays by them."""
    flags = {"length": 5, "global_numbers": True} | ({"total_timesteps": 3_000} if script is tabular_q else {})
    seldom, often = steps(script, **flags), steps(script, **flags, eval_frequency=1 if script is fqi else 100)
    episodes = [scalars(train(args)).get("charts/episodic_return") for args in (seldom, often)]
    assert episodes[0] == episodes[1]
    if script is not fqi:  # it logs no episodes
        returns = [mean for _, mean in episodes[0]]
        assert len(set(returns)) == len(returns), "no episode comes again"
