"""MinAtar's games for every script: `--env-id benchmark.minatar:MinAtar/SpaceInvaders-v1`, from the repository's root.

Young and Tian (2019), "MinAtar: An Atari-inspired testbed for thorough and reproducible reinforcement learning
experiments". Ten by ten cells with four to ten channels; -v1 has only the actions that a game knows. The package is an
option (its licence is the GPL), and importing it registers nothing: pip install -e ".[minatar]".
"""

import minatar.gym

minatar.gym.register_envs()
