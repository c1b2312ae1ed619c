"""Loss and gradient of our scripts and of released packages, from the same weights and the same batch.

python -m benchmark.peers gradients

Each comparison runs in the virtual environment of the package (audit/packages.toml). The table goes into docs/peers.md.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import c51
import dqn

COMMAND = "python -m benchmark.peers gradients"
SIZE, GAMMA = 32, 0.9  # transitions in the batch


@dataclass
class Args:
    folder: Path | None = None
    """where virtual environments are kept, outside the repository (default: a temporary folder)"""


def batch_of_32() -> dqn.Batch:
    """States of 4 numbers, 2 actions; a third of the steps is terminal, and some errors are beyond 1."""
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, SIZE, 4)).astype(np.float32)
    action, reward = rng.integers(2, size=SIZE), (3 * rng.normal(size=SIZE)).astype(np.float32)
    terminated = rng.random(SIZE) < 1 / 3
    return dqn.Batch(*map(torch.from_numpy, (obs, action, reward, next_obs, terminated)))


def copy_weights(layers: list, theirs: torch.nn.Module) -> None:
    """From our layers to their linear layers, in this order."""
    linear = [module for module in theirs.modules() if isinstance(module, torch.nn.Linear)]
    for layer, other in zip(layers, linear, strict=True):
        other.load_state_dict(layer.state_dict())


def gradients(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def ours(script, **flags):
    """Online and target network with random weights, and loss and gradient of compute_loss."""
    torch.manual_seed(0)
    args = script.Args(gamma=GAMMA, **flags)
    online = script.QNetwork(4, 2, args)
    target = online if script is c51 else script.QNetwork(4, 2, args)
    value = script.compute_loss(online, target, batch_of_32(), args)[0]
    value.backward()
    return online, target, value.item(), gradients(online)


def layers(network) -> list:
    return [*network.hidden, network.output]


def stable_baselines3():
    """DQN.train() with one gradient step on our batch. The optimizer does nothing, and no gradient is clipped."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.buffers import ReplayBufferSamples
    from stable_baselines3.common.logger import configure

    online, target, loss, gradient = ours(dqn, loss="huber")
    model = DQN("MlpPolicy", "CartPole-v1", gamma=GAMMA, max_grad_norm=1e9, device="cpu")
    model.set_logger(configure(None, []))
    copy_weights(layers(online), model.q_net)
    copy_weights(layers(target), model.q_net_target)
    b = batch_of_32()
    column = {"actions": b.action[:, None], "dones": b.terminated[:, None].float(), "rewards": b.reward[:, None]}
    samples = ReplayBufferSamples(observations=b.obs, next_observations=b.next_obs, **column)
    model.replay_buffer.sample = lambda *_, **__: samples
    model.policy.optimizer.step = lambda *_: None
    model.train(gradient_steps=1, batch_size=SIZE)
    return "dqn.py --loss huber", loss, model.logger.name_to_value["train/loss"], gradient, gradients(model.q_net)


def d3rlpy():
    """DQNImpl.compute_grad, with the default loss: Huber, the mean over the batch."""
    from d3rlpy.algos import DQNConfig
    from d3rlpy.models import VectorEncoderFactory
    from d3rlpy.torch_utility import TorchMiniBatch

    online, target, loss, gradient = ours(dqn, loss="huber")
    algo = DQNConfig(gamma=GAMMA, encoder_factory=VectorEncoderFactory([64, 64])).create(device="cpu:0")
    algo.create_impl((4,), 2)
    impl = algo.impl
    copy_weights(layers(online), impl.modules.q_funcs)
    copy_weights(layers(target), impl.modules.targ_q_funcs)
    b = batch_of_32()
    column = [part[:, None].float() for part in (b.action, b.reward, b.terminated)]
    rest = {"next_actions": column[0], "returns_to_go": torch.zeros(SIZE, 1), "intervals": torch.ones(SIZE, 1)}
    rest |= {"actions": column[0], "rewards": column[1], "terminals": column[2], "device": "cpu:0"}
    value = impl.compute_grad(TorchMiniBatch(observations=b.obs, next_observations=b.next_obs, **rest)).loss
    return "dqn.py --loss huber", loss, value.item(), gradient, gradients(impl.modules.q_funcs)


def tianshou():
    """C51.update on a buffer that holds our batch, without a target network: with one, it chooses a' as Double C51.

    What tianshou takes the logarithm of is p + 1e-8.
    """
    import gymnasium as gym
    from tianshou.algorithm.modelfree.c51 import C51, C51Policy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Batch, ReplayBuffer
    from tianshou.utils.net.common import Net

    online, _, loss, gradient = ours(c51, v_min=-10.0, v_max=10.0)
    net = Net(state_shape=(4,), action_shape=(2,), hidden_sizes=[64, 64], softmax=True, num_atoms=51)
    copy_weights(layers(online), net)
    space = gym.spaces.Discrete(2)
    policy = C51Policy(model=net, action_space=space, num_atoms=51, v_min=-10.0, v_max=10.0)
    algorithm = C51(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), gamma=GAMMA)
    b, buffer = batch_of_32(), ReplayBuffer(SIZE)
    for i in range(SIZE):
        names = ("obs", "act", "rew", "obs_next", "terminated")
        row = {name: part[i].numpy() for name, part in zip(names, b, strict=True)}
        buffer.add(Batch(**row, truncated=np.False_, done=row["terminated"], info={}))
    algorithm.optim.step = lambda value: value.backward()
    indices = np.arange(SIZE)
    batch = algorithm._preprocess_batch(buffer[indices], buffer, indices)
    value = algorithm._update_with_batch(batch).loss
    return "c51.py", loss, value, gradient, gradients(net)


PACKAGES = {"stable-baselines3": stable_baselines3, "d3rlpy": d3rlpy, "tianshou": tianshou}


def compare(name: str) -> dict:
    """Losses, and the largest difference of two components of the gradients, relative to the largest component."""
    script, our_loss, their_loss, our_gradient, their_gradient = PACKAGES[name]()
    difference = (our_gradient - their_gradient).abs().max() / our_gradient.abs().max()
    return {"script": script, "ours": our_loss, "theirs": their_loss, "gradient": difference.item()}


def run_all(args: Args) -> None:
    from benchmark.package_venv import last_line
    from benchmark.pages import markdown, write_block
    from benchmark.peers.audit.program import a_folder, read_table, run_in
    from benchmark.run_folder import ROOT

    lines = []
    with a_folder(args.folder) as folder:
        for name in PACKAGES:
            package = read_table()[name]
            _, code, out, err = run_in(name, package, ["benchmark.peers.gradients", name], folder, 900)
            if code:
                cells = [last_line(err, folder), "", "", ""]
            else:
                found = json.loads(out.splitlines()[-1])
                numbers = [f"{found['ours']:.7g}", f"{found['theirs']:.7g}", f"{found['gradient']:.1e}"]
                cells = [f"`{found['script']}`", *numbers]
            lines.append([f"{name} {package.version}", *cells])
            print(*lines[-1], flush=True)
    header = ["package", "ours", "our loss", "their loss", "largest difference of the gradients"]
    write_block(ROOT / "docs" / "peers.md", "gradients", COMMAND, markdown(header, lines))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(compare(sys.argv[1])))
