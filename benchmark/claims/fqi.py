"""Fitted Q iteration's claim: from 50,000 transitions of a random policy, which regressions learn to balance the pole?

    python -m benchmark.claims.fqi
    python -m benchmark.claims.fqi --slow            # without the slow regressors

fqi.py on CartPole-v1: every regressor with one model for each action. The linear regressor also runs with the action as
a one-hot vector. Then Q(s, a) = w s + v_a has the same best action in every state, so the policy always pushes in one
direction, which lasts about 9.4 steps. Each seed has its own data set. We report the last iteration and the best one.
Evaluations every 5 iterations choose the best one; its return is measured on 20 other episodes.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import tyro

from benchmark.claims import base
from benchmark.report.statistics import draw_mean, said

LINEAR_ONE_HOT = "linear, one-hot"


@dataclass
class Args(base.Args):
    quick: tuple[str, ...] = ("linear", "polynomial", "kernel")  # regressors with about a second an iteration
    num_seeds: int = 10  # data sets for the quick regressors
    slow: tuple[str, ...] = ("k_neighbors", "decision_tree", "extra_trees", "gradient_boosting", "mlp")  # the others
    num_slow_seeds: int = 3  # data sets for the slow regressors
    iterations: int = 50  # regressions of a run


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    found = base.Findings("fqi", args, __doc__)
    common = {"env_id": "CartPole-v1", "iterations": args.iterations, "eval_frequency": 5}
    quick = {LINEAR_ONE_HOT: ("fqi.py", {"regressor": "linear", "action_coding": "one_hot"} | common)}
    quick |= {name: ("fqi.py", {"regressor": name} | common) for name in args.quick}
    slow = {name: ("fqi.py", {"regressor": name} | common) for name in args.slow}
    runs = found.run(quick)
    runs |= found.run(slow, range(args.first_seed, args.first_seed + args.num_slow_seeds))

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    rows, lines = [], []
    for name, own in runs.items():
        draw_mean(axes, *base.series(base.scalars_of(own), "eval/episodic_return"), label=name)
        for seed, (_, result) in own.items():
            row = {"regressor": name, "seed": seed, "best_return": result["best_return"]}
            row |= {"best_iteration": result["best_iteration"], "last_return": result["eval/episodic_return"]}
            rows.append(row | {"iterations": result["updates"], "seconds": round(result["seconds"])})
        results = [result for _, result in own.values()]
        best, last, seconds = (
            np.array([result[key] for result in results]) for key in ("best_return", "eval/episodic_return", "seconds")
        )
        at_450 = f"{(best >= 450).sum()} of {len(best)}"
        lines.append([name, said(best, 1), f"{last.mean():.1f}", at_450, f"{np.median(seconds):.0f}"])
    header = ["regressor", "best iteration (95 % interval)", "last iteration", "data sets with 450 or more", "seconds"]
    found.table(header, lines)
    axes.set(title="CartPole-v1 from 50,000 random transitions", xlabel="iteration", ylabel="greedy return")
    figure.legend(loc="outside right upper")
    found.csv(rows, "fqi")
    found.figure(figure, "fqi", "Greedy return over the iterations of each regressor", legend=False)
    found.write()


if __name__ == "__main__":
    main()
