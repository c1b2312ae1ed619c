"""Exact solutions of a tabular_q.Model that tabular_q.py does not need: the references of its tests and of dqn.py's."""

import numpy as np

from tabular_q import Model


def policy_iteration(model: Model, gamma: float) -> np.ndarray:
    """Q*, (S, A), in another way: value a policy exactly, make it greedy, until it does not change. Needs γ < 1."""
    policy = np.zeros(len(model.reward), np.int64)
    while True:
        value = policy_value(model, policy, gamma)
        q = model.reward + gamma * model.transition @ value
        better = np.where(q.max(axis=1) > value + 1e-10, q.argmax(axis=1), policy)
        if (better == policy).all():
            return q
        policy = better


def policy_value(model: Model, policy: np.ndarray, gamma: float) -> np.ndarray:
    """V of a policy, (S,), the solution of V = r + γ P V. Needs γ < 1."""
    states = np.arange(len(policy))
    transition, reward = model.transition[states, policy], model.reward[states, policy]  # (S, S), (S,)
    return np.linalg.solve(np.eye(len(policy)) - gamma * transition, reward)
