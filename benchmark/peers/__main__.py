"""Other libraries' agents, held against ours.

python -m benchmark.peers audit           # which of the bugs of docs/known-bugs.md they have
python -m benchmark.peers gradients       # loss and gradient of theirs and of ours, on the same batch
python -m benchmark.peers fixed-points    # what the losses of our scripts converge to
"""

from typing import Annotated

import tyro
from tyro.conf import subcommand

from benchmark.peers import fixed_points, gradients
from benchmark.peers.audit import program

COMMANDS = {
    program.Args: ("audit", program.audit),
    gradients.Args: ("gradients", gradients.run_all),
    fixed_points.Args: ("fixed-points", fixed_points.fixed_points),
}


def main() -> None:
    audit, gradient, fixed_point = (Annotated[args, subcommand(name)] for args, (name, _) in COMMANDS.items())
    args = tyro.cli(audit | gradient | fixed_point, description=__doc__)
    _, command = COMMANDS[type(args)]
    command(args)


if __name__ == "__main__":
    main()
