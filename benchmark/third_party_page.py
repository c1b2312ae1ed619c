"""Writes the tables of docs/environments.md from third_party.toml and environments.csv."""

import shlex
from pathlib import Path

from benchmark.pages import write_block

COMMAND = "python -m benchmark.third_party"
FOLLOWS = {  # what habits.py and the scripts' own warnings find, by its first words, and what follows
    "the seed reaches the first episode only": "seed every reset",
    "a seed does not repeat an episode": "no run repeats: average over many",
    "draws from the global generators": "seed them too; what else draws from them changes the episode",
    "a seed repeats no episode in a used environment": "evaluate in an environment made anew",
    "two copies differ": "training and evaluation are different tasks, or the seed does not reach all",
    "reset(seed=...) seeds": "a seeded evaluation rewinds training: put the generators back afterwards",
    "reset() makes a new action_space": "a seeded sampler is lost: draw from a generator of one's own",
    "reset() rewinds action_space.sample()": "exploration repeats itself: draw from a generator of one's own",
    "observations out of observation_space": "do not scale by the bounds blindly, and check nothing against them",
    "observations change after they were handed out": "copy every observation",
    "large observations": "scale them: a network hardly learns from numbers beyond 100",
    "codes declared as pixels": "do not divide them by 255",
    "rewards of shape": "a wrapper must make them one number",
    "close() raises": "close once, at the end; an error there is a warning",
    "no time limit": "registered without one: where no episode ends by itself, an evaluation takes 10,000 steps each",
}


def cell(text: str, most: int = 300) -> str:
    """Text for a table of Markdown."""
    return (text if len(text) <= most else f"{text[:most]}…").replace("|", "\\|").replace("<", "&lt;")


def table(header: str, lines: list[str]) -> str:
    return "\n".join([header, "| --- " * (header.count("|") - 1) + "|", *lines])


def found(row: dict[str, str]) -> list[str]:
    """The habits of an environment and the warnings of our scripts, without checks that could not be made."""
    both = f"{row['habits']}, {row['warnings']}".split(", ")
    return [each for each in both if each and "not checked" not in each and each != "close() fails"]


def registered(package) -> str:
    """How Gymnasium comes to know the id."""
    if package.register:
        return "a module of one's own"
    return f"`import {package.id.split(':')[0]}`" if ":" in package.id else "by itself"


def package_tables(packages: dict, rows: dict[str, dict[str, str]]) -> str:
    """The packages on which a script trained, by subject, and those where something failed."""
    trained, failed = [], []
    for name, package in sorted(packages.items(), key=lambda item: (item[1].field, item[0])):
        if (row := rows.get(name)) is None:
            continue
        pip = f" `{' '.join(package.pip)}`" if package.pip else ""
        start = f"{package.script} --env-id {package.id}"
        start += f" --env-kwargs {shlex.join(package.env_kwargs)}" if package.env_kwargs else ""
        first = f"| {name} {package.version}{pip} | {package.field} | `{start}` "
        know = "; ".join(filter(None, [*found(row), package.remark]))
        if row["failed"]:
            failed.append(f"{first}| {row['failed']}, {row['exit_code']} | {cell(row['last_line'])} | {know} |")
            continue
        spaces = f"{cell(row['observation'], 80)} / {cell(row['action'], 45)}"
        limit = "none" if "no time limit" in row["warnings"] else row["limit"]
        limit = f"{package.limit} (ours)" if package.limit else limit
        speed = f"{row['random_sps']} | {row['sps'] or '?'}"
        returns = f"{row['random_return'] or '?'} ({row['random_episodes']}) | {row['greedy_return']}"
        trained.append(f"{first}| {registered(package)} | {spaces} | {limit} | {speed} | {returns} | {know} |")
    days, each = sorted({row["date"] for row in rows.values()}), next(iter(rows.values()))
    origin = f"Run on {' to '.join(dict.fromkeys([days[0], days[-1]]))} with Python {each['python']}, Gymnasium "
    origin += (
        f"{each['gymnasium']}, NumPy {each['numpy']} and PyTorch {each['torch']}. {len(trained)} packages trained:"
    )
    header = (
        "| package | subject | command begins with | registered by | observations / actions | limit | steps/s, random "
    )
    header += "| steps/s, training | random return (episodes) | greedy return | what to know |"
    second = "| package | subject | command begins with | failed, exit code | last line | what to know |"
    return "\n\n".join([origin, table(header, trained), f"{len(failed)} failed:", table(second, failed)])


def habit_table(packages: dict, rows: dict[str, dict[str, str]]) -> str:
    """Each habit with the packages that have it."""
    lines = []
    for habit, follows in FOLLOWS.items():
        have = [name for name in packages if name in rows and any(x.startswith(habit) for x in found(rows[name]))]
        if have:
            shown = ", ".join(f"{name} {packages[name].version}" for name in have)
            lines.append(f"| {habit} | {len(have)} | {shown} | {follows} |")
    played = sum(bool(row["observation"]) for row in rows.values())
    text = f"Seen in the {played} environments that could be played at random. The CSV file names the checks that were "
    text += "left out, for want of time or because of an error:"
    return text + "\n\n" + table("| habit | seen | where | what follows for a trainer |", lines)


def write_page(path: Path, packages: dict, rows: dict[str, dict[str, str]]) -> None:
    write_block(path, "environments", COMMAND, package_tables(packages, rows))
    write_block(path, "habits", COMMAND, habit_table(packages, rows))
