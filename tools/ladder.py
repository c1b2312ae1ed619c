"""The ladder: the parent of each script, its idea, and the definitions in which a script may differ from its parent.

    python -m tools.ladder             # copy shared text from parents to rungs, and write the README's table
    python -m tools.ladder --check     # only print what would change; exit code 1 if anything would

The scripts share text and import nothing from each other. LADDER declares the definitions that belong to a rung's idea.
Every other definition has the same text as in the parent. A script without a parent shares the definitions that have
the same name in dqn.py. So change a shared definition in dqn.py and run this command: it copies the change to the other
scripts. Change a rung's own definitions by hand.

A rung can also take a definition from another rung. For a new one write `class SumTree: ...` at its place, and run the
command: it fills in the text.
"""

import ast
import difflib
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from tools.blocks import with_block

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Rung:
    """A script and its differences from its parent. Definitions go by the names of their functions and classes."""

    script: str
    idea: str
    parent: str | None = None  # the script has all definitions of its parent
    differs: tuple[str, ...] = ()  # its own definitions, changed or new
    takes: dict[str, str] = field(default_factory=dict)  # definitions copied from other rungs: {name: script}
    drops: tuple[str, ...] = ()  # flags and definitions of the parent that it does not have
    reaches: str = ""  # one result for the README; the page is docs/results/SCRIPT.md
    most_lines: int = 0  # code lines added and removed against the parent, without docstrings and blank lines


LADDER = (
    Rung(
        "tabular_q.py",
        "Q-learning in a table, against exact Q*",
        differs=("imports", "Args", "check", "make_env", "td_target", "train", "Run", "play", "main"),
        reaches="optimal on FrozenLake, CliffWalking and Taxi, all of 20 seeds",
    ),
    Rung(
        "fqi.py",
        "Q-learning as a sequence of regressions on a fixed data set",
        differs=("imports", "Args", "check", "td_target", "evaluate", "train", "make_run_dir", "Run", "main"),
        reaches="CartPole 500, 10 of 10 seeds, from random play alone",
    ),
    Rung(
        "dqn.py",
        "a network for Q, a replay buffer, a target network",
        reaches="CartPole: predicted against realised values",
    ),
    Rung(
        "double_dqn.py",
        "one network chooses the action, the other one values it",
        parent="dqn.py",
        differs=("td_target", "compute_loss"),
        most_lines=15,
        reaches="Pendulum: DQN predicts 37.9 too much, Double 6.7 too little",
    ),
    Rung(
        "dueling_dqn.py",
        "the network says separately how good the state is and how much better each action",
        parent="dqn.py",
        differs=("Args", "QNetwork"),
        most_lines=30,
        reaches="a corridor: 1.22 times the error of one stream with 5 actions, 0.97 with 20",
    ),
    Rung(
        "per_dqn.py",
        "learn more often from what surprised more",
        parent="dqn.py",
        differs=("Args", "Batch", "SumTree", "ReplayBuffer", "compute_loss", "train"),
        most_lines=110,
        reaches="10.8 times fewer updates in the Blind Cliffwalk",
    ),
    Rung(
        "n_step_dqn.py",
        "n rewards in a target before Q takes over",
        parent="dqn.py",
        reaches="CartPole: 119.7 more on the way than with n = 1",
        differs=("Args", "Batch", "look_ahead", "ReplayBuffer", "td_target", "compute_loss", "train"),
        most_lines=45,
    ),
    Rung(
        "noisy_dqn.py",
        "the network explores by noise on its own weights, and learns how much of it",
        parent="dqn.py",
        reaches="DeepSea of size 8: 49 of 60 seeds, with ε = 0.1 it is 24",
        differs=("Args", "NoisyLinear", "QNetwork", "train"),
        most_lines=55,
    ),
    Rung(
        "c51.py",
        "learn the distribution of the return, not its mean alone",
        parent="dqn.py",
        reaches="FrozenLake: 0.011 from the exact distribution, a mean alone 0.237",
        differs=("imports", "Args", "QNetwork", "td_target", "project", "compute_loss", "train"),
        drops=("loss",),
        most_lines=80,
    ),
    Rung(
        "rainbow.py",
        "six ideas in one: Double, Dueling, prioritized replay, n-step, noise, distributions",
        parent="dqn.py",
        reaches="MinAtar Space Invaders: 1.65 times the return of DQN",
        differs=("imports", "Args", "QNetwork", "Batch", "ReplayBuffer", "td_target", "compute_loss", "train"),
        takes={
            "NoisyLinear": "noisy_dqn.py",
            "SumTree": "per_dqn.py",
            "look_ahead": "n_step_dqn.py",
            "project": "c51.py",
        },
        drops=("loss",),
        most_lines=250,
    ),
    Rung(
        "drqn.py",
        "a memory: an LSTM reads the observations of an episode one after the other",
        parent="dqn.py",
        reaches="a sign seen 8 steps before: all of 20 seeds, a stack of 4 guesses",
        differs=("Args", "QNetwork", "Batch", "ReplayBuffer", "compute_loss", "train", "evaluate"),
        drops=("compiled",),
        most_lines=130,
    ),
    Rung(
        "qt_opt.py",
        "continuous actions: a search for the maximum of Q(s, ·)",
        parent="dqn.py",
        differs=(
            "imports",
            *("Args", "QNetwork", "cem", "Batch", "ReplayBuffer", "td_target", "compute_loss"),
            *("train", "evaluate", "make_env", "scaled_actions", "play"),
        ),
        drops=("action_bins", "numbered_actions"),
        most_lines=170,
        reaches="two joints: reaches 0.845 of its goals, DQN on a grid of turns 0.712",
    ),
    Rung(
        "pqn.py",
        "many environments in place of a replay buffer, layer normalisation in place of a target network",
        parent="dqn.py",
        reaches="CartPole in 11 s, without replay buffer and target network",
        differs=(
            "imports",
            "Args",
            "QNetwork",
            "Batch",
            "lambda_returns",
            "compute_loss",
            "LastInfo",
            "train",
            "check",
        ),
        drops=(
            *("ReplayBuffer", "td_target", "update_target", "buffer_size", "tau", "loss"),
            *("target_network_frequency", "batch_size", "train_frequency", "learning_starts"),
        ),
        most_lines=215,
    ),
    Rung(
        "dqn_atari.py",
        "pixels, frame skipping, a convolutional network, the GPU",
        reaches="Pong on a CPU, one seed: 20.8 at best, 8.5 at the end",
        differs=(*"imports Args QNetwork Batch ReplayBuffer train evaluate check make_env summary play main".split(),),
    ),
)
HERE = tuple(rung for rung in LADDER if (ROOT / rung.script).exists())
# dqn.py and its rungs with a replay buffer: they have most flags in common.
DQN_FAMILY = tuple(
    rung.script for rung in HERE if "dqn.py" in (rung.script, rung.parent) and "ReplayBuffer" not in rung.drops
)


def definitions(source: str) -> dict[str, str]:
    """The parts of a script in their order: docstring, imports, each top-level definition, main.

    A part begins at the end of the part before it, so comments and constants above a definition belong to it.
    """
    lines, parts, start, defined = source.splitlines(), {}, 0, False
    for node in ast.parse(source).body:
        if defined and isinstance(node, ast.Assign):
            continue
        defined = defined or isinstance(node, ast.FunctionDef | ast.ClassDef)
        name = getattr(node, "name", "main" if defined else "imports" if parts else "docstring")
        text = "\n".join(lines[start : node.end_lineno])
        parts[name] = f"{parts[name]}\n{text}" if name in parts else text.strip("\n")
        start = node.end_lineno
    return parts


def rebuilt(rung: Rung, parent: str, child: str, taken: dict[str, str] | None = None) -> str:
    """The child's source: its docstring and declared definitions stay, all other definitions get the parent's text.

    taken: {name: text} of the definitions that it takes from other rungs. For a script without a parent, `parent` is
    the source of dqn.py; the script keeps its definitions in their order, and shared names get dqn.py's text.
    """
    theirs, own = definitions(parent), definitions(child)
    if rung.parent:
        names = [name for name in theirs if name not in rung.drops]
        # A new definition of the child keeps its place behind the same neighbour.
        for before, name in zip(own, list(own)[1:], strict=False):
            if name not in theirs and name in (*rung.differs, *rung.takes):
                names.insert(names.index(before) + 1, name)
    else:
        names, theirs = list(own), own | theirs
    theirs |= taken or {}
    parts = {name: own[name] if name in (*rung.differs, "docstring") else theirs[name] for name in names}
    docstring, imports, *rest = parts.values()
    return "\n\n\n".join([f"{docstring}\n\n{imports}", *rest]) + "\n"


def code_lines(source: str) -> list[str]:
    """The lines of a script without blank lines and docstrings, also without the docstrings of fields."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return [line for line in lines if line.strip()]


def code_changed(parent: str, child: str) -> tuple[int, int]:
    """Code lines (added, removed) from the parent to the child; most_lines bounds their sum."""
    changes = [line[0] for line in difflib.ndiff(code_lines(parent), code_lines(child))]
    return changes.count("+"), changes.count("-")


def diff_lines(parent: str, child: str) -> tuple[int, int]:
    """Lines (added, removed) that the command `diff parent child` prints for two scripts."""
    shown = subprocess.run(["diff", parent, child], capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    return tuple(sum(line.startswith(mark) for line in shown) for mark in (">", "<"))


def read(script: str) -> str:
    return (ROOT / script).read_text()


def table() -> str:
    """The README's ladder, in Markdown."""
    rows = ["| file | the idea | against its parent | its claim |", "|---|---|---|---|"]
    for rung in LADDER:
        name, versus, reached = f"[`{rung.script}`]({rung.script})", "", ""
        if rung not in HERE:
            name, versus = f"`{rung.script}`", "coming"
        elif rung.parent:
            added, removed = diff_lines(rung.parent, rung.script)
            versus = f"`diff {rung.parent} {rung.script}`: +{added}, -{removed}"
        if rung.reaches:
            reached = f"[{rung.reaches}](docs/results/{Path(rung.script).stem}.md)"
        rows.append(f"| {name} | {rung.idea} | {versus} | {reached} |")
    return "\n".join(rows)


def outdated(scripts: tuple[str, ...] = ()) -> dict[Path, tuple[str, str]]:
    """The files, of these scripts or of all, whose shared text is out of date: {file: (new text, a sentence)}."""
    files = {}
    for rung in [rung for rung in HERE if not scripts or rung.script in scripts]:
        source = rung.parent or "dqn.py"
        taken = {name: definitions(read(other))[name] for name, other in rung.takes.items()}
        old, new = read(rung.script), rebuilt(rung, read(source), read(rung.script), taken)
        before, after = definitions(old), definitions(new)
        changed = [name for name in before | after if before.get(name) != after.get(name)]
        if new != old:
            sources = {rung.takes.get(name, source) for name in changed} or {source}
            said = f"{', '.join(changed) or 'blank lines'} as in {', '.join(sorted(sources))}"
            files[ROOT / rung.script] = new, f"{said}; its own are still {', '.join(rung.differs)}"
    new = with_block(read("README.md"), "ladder", "python -m tools.ladder", table())
    if new != read("README.md") and not scripts:
        files[ROOT / "README.md"] = new, "the ladder's table"
    return files


def main(scripts: tyro.conf.Positional[tuple[str, ...]] = (), check: bool = False) -> None:
    """Copies shared text from parents to their rungs.

    scripts: change only these files (default: all scripts and the README)
    check: change nothing, and exit with code 1 if anything is out of date
    """
    found = False
    # Again after writing, because the README's table counts lines of the scripts.
    while files := outdated(scripts):
        found = True
        for path, (text, said) in files.items():
            print(f"{path.name}: {said}")
            if not check:
                path.write_text(text)
        if check:
            sys.exit(1)
    if not found:
        print("nothing to change")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
