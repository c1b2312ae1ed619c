"""DQN's claim: with the defaults of dqn.py, CartPole-v1 is solved by the final weights of nearly every seed.

    python -m benchmark.claims.dqn
    python -m benchmark.claims.dqn --loss huber     # why mean squared error is the default

The figure shows the learning curves of all seeds. Complete runs are not repeated. Runs of another version of dqn.py do
not count.
"""

from dataclasses import dataclass
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
import tyro

from benchmark.claims import base
from benchmark.report.statistics import draw_mean, said


@dataclass
class Args(base.Args):
    loss: Literal["mse", "huber"] = "mse"  # loss of a TD error
    threshold: float = 475.0  # least mean greedy return of a solved CartPole-v1 (Gymnasium's value)


def draw(runs: base.Runs, loss: str) -> plt.Figure:
    """Greedy return, and predicted against realised value, over environment steps."""
    scalars = base.scalars_of(runs)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    steps, returns = base.series(scalars, "eval/episodic_return")
    left.plot(steps, returns.T, color="C0", alpha=0.15, linewidth=0.8)
    draw_mean(left, steps, returns, color="C0", label=f"mean of {len(runs)} seeds, 95 % interval")
    left.set(title=f"DQN on CartPole-v1 ({loss}): greedy return", xlabel="environment steps", ylabel="return")
    left.set_ylim(0, 510)
    draw_mean(right, *base.series(scalars, "eval/q_predicted"), color="C1", label="predicted: max Q")
    draw_mean(right, *base.series(scalars, "eval/q_realised"), color="C2", label="realised: discounted return")
    right.set(title="Are the Q-values accurate?", xlabel="environment steps", ylabel="value", ylim=(0, None))
    return figure


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    part = "" if args.loss == "mse" else args.loss
    found = base.Findings("dqn", args, __doc__, part)
    runs = found.run({"DQN": ("dqn.py", {"env_id": "CartPole-v1", "loss": args.loss})})["DQN"]
    rows = [
        {
            "seed": seed,
            "final_return": result["eval/episodic_return"],
            "best_return": result["best_return"],
            "steps": result["global_step"],
            "updates": result["updates"],
            "seconds": round(result["seconds"], 1),
        }
        for seed, (_, result) in runs.items()
    ]
    returns = np.array([row["final_return"] for row in rows])
    solved = int((returns >= args.threshold).sum())
    share = scipy.stats.binomtest(solved, len(rows)).proportion_ci()
    found.say(
        f"{solved} of {len(rows)} seeds end at {args.threshold:g} or more, 95 % interval of their share "
        f"{share.low:.2f} to {share.high:.2f}."
    )
    found.say(f"Final greedy return: {said(returns, 1)}, lowest {returns.min():.1f}.")
    seconds = np.median([row["seconds"] for row in rows])
    steps, updates = rows[0]["steps"], rows[0]["updates"]
    found.say(f"{steps:,} environment steps, {updates:,} updates, median {seconds:.0f} s a run.")
    name = f"dqn_cartpole_{part}".rstrip("_")
    found.csv(rows, name)
    shows = f"Greedy return of {len(rows)} seeds on CartPole-v1, and predicted against realised value"
    found.figure(draw(runs, args.loss), name, shows)
    found.write()


if __name__ == "__main__":
    main()
