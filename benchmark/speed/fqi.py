"""An iteration of fitted Q iteration with 30 nearest neighbours, beside a tutorial's.

    python -m benchmark.speed fqi --tutorial ~/rlss23-dqn-tutorial

50 iterations on the same 50,000 random transitions of CartPole-v1, by fqi.py and by the unchanged functions of
araffin's tutorial, from a checkout of github.com/araffin/rlss23-dqn-tutorial. fqi.py has one model for each action, its
default; in the tutorial the action is a part of the input. Evaluations are not timed.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import fqi
from benchmark.speed.timing import in_turns, on_one_core, publish, report


@dataclass
class Args:
    tutorial: Path  # folder of a checkout of the tutorial
    repeats: int = 5  # times each program runs
    page: bool = False  # write the table into docs/results/fqi.md


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    on_one_core()
    sys.path.insert(0, str(args.tutorial))
    from dqn_tutorial.fqi import create_model_input, get_q_values
    from sklearn.neighbors import KNeighborsRegressor

    iterations, gamma, settings = 50, 0.99, fqi.Args()
    env = fqi.make_env(settings)
    data = fqi.collect(env, 50_000, 1.0, None, np.random.default_rng(1))
    learned = {}  # the last Q of each

    def ours() -> float:
        start = time.perf_counter()
        q = fqi.QFunction(fqi.make_regressor("k_neighbors", seed=1), 2, "per_action")
        next_q = np.zeros((len(data.reward), 2))
        for _ in range(iterations):
            q.fit(data, fqi.td_target(next_q, data.reward, data.terminated, gamma))
            next_q = q(data.next_obs)
        learned["fqi.py"] = q
        return (time.perf_counter() - start) / iterations * 1e6

    def theirs() -> float:  # the loop in the tutorial's __main__, which cannot be imported
        start = time.perf_counter()
        x = create_model_input(data.obs, data.action[:, None])
        model = KNeighborsRegressor(n_neighbors=30).fit(x, data.reward)
        for _ in range(iterations - 1):
            next_q = get_q_values(model, data.next_obs, n_actions=2).max(axis=1)
            model = KNeighborsRegressor(n_neighbors=30).fit(x, data.reward + gamma * (1 - data.terminated) * next_q)
        learned["tutorial"] = lambda obs: get_q_values(model, obs, n_actions=2)
        return (time.perf_counter() - start) / iterations * 1e6

    title = "an iteration with 30 nearest neighbours, 50,000 transitions"
    table = report(in_turns({"fqi.py": ours, "tutorial": theirs}, args.repeats, title), title, ["fqi.py"])
    for name, q in learned.items():
        _, returns = fqi.evaluate([env], q, settings, settings.final_eval_episodes, first_seed=1)
        print(f"  {name}: greedy return {np.mean(returns):.1f} ± {np.std(returns):.1f} over {len(returns)} episodes")
    publish("fqi", "fqi", args, [table])


if __name__ == "__main__":
    main()
