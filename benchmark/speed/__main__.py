"""Times our scripts and other programs on the same work, side by side in one run. Each part has its own --help.

python -m benchmark.speed peers           # steps of dqn.py, beside Stable-Baselines3 and CleanRL
python -m benchmark.speed rungs           # steps of dqn.py and its rungs
python -m benchmark.speed pqn             # steps of pqn.py, beside CleanRL's
python -m benchmark.speed replay          # prioritized replay, beside cpprb and numpy.random.choice
python -m benchmark.speed fqi             # an iteration of fitted Q iteration, beside a tutorial's
python -m benchmark.speed tabular         # steps in a table, beside the bare environment
python -m benchmark.speed harness         # the cost of the harness for a run, and the gain of a second worker
python -m benchmark.speed atari           # steps of dqn_atari.py, beside CleanRL's
python -m benchmark.speed atari_env       # the game alone, beside CleanRL's wrappers
python -m benchmark.speed atari_replay    # bytes of a transition, and the time to draw
python -m benchmark.speed atari_parts     # the parts of a step of dqn_atari.py
"""

import importlib
import sys

PARTS = ("peers", "rungs", "pqn", "replay", "fqi", "tabular", "harness")
PARTS += ("atari", "atari_env", "atari_replay", "atari_parts")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in PARTS:
        asked = sys.argv[1:2] == ["--help"]
        print(__doc__ if asked else f"error: give one of {', '.join(PARTS)}", file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    part = sys.argv.pop(1)
    importlib.import_module(f"benchmark.speed.{part}").main()


if __name__ == "__main__":
    main()
