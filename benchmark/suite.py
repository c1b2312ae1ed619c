"""Makes the list of runs, scripts × environments × seeds, from the command line or from a TOML file.

    scripts = ["dqn.py", "dqn.py --loss huber"] # beside the suite's file, or in the repository; flags may follow
    peers = ["benchmark/peers/sb3_dqn.py"]      # only with --peers
    num_seeds = 10                              # first_seed = 1, time_limit = 60 (minutes a run)

    [arguments]                                 # flags of every run, named as in the scripts' Args
    final_eval_episodes = 50

    [environments."LunarLander-v3"]             # an environment, and the flags of all runs on it
    learning_rate = 5e-4
    env_kwargs = {enable_wind = true}
    "c51.py rainbow.py" = {v_min = -300}        # flags of these two scripts on this environment

    [environments."LunarLander-v3 --env-kwargs gravity=-5"]     # another task, with flags of its own

    [script_arguments."per_dqn.py"]             # flags of one script on all environments
    prioritized_replay_alpha = 0.5

    [references."LunarLander-v3"]               # for an environment without reference scores of ours
    random = -192.0                             # return of the random policy, 0 on the normalised scale
    solved = 200.0                              # return at which the task is solved, 1 on this scale

    [sweeps]                                    # one argument at a time, everything else as above
    buffer_size = [1_000, 10_000, 100_000]

A run is identified by the text of its script, its arguments and its seed; if one of them changes, it is another run.
The modules that a script imports do not count (benchmark/peers/sb3_dqn.py imports dqn.py).
"""

import ast
import difflib
import hashlib
import json
import re
import shlex
import sys
import tomllib
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from benchmark.run_folder import ROOT, finite, text_hash, write_json

SUITES = ROOT / "benchmark" / "suites"
OURS = {"env_id", "seed", "runs_dir", "track"}  # the harness sets these flags
OF_A_TASK = {"env_kwargs", "max_episode_steps"}  # flags that make another task of an environment
KEYS = {"scripts": list, "peers": list, "num_seeds": int, "first_seed": int, "time_limit": (int, float)}
KEYS |= dict.fromkeys("arguments environments script_arguments sweeps references".split(), dict)


class BadInput(ValueError):
    """The user's request cannot be done; the message is one sentence for the user."""


@dataclass(frozen=True)
class Run:
    """One script, environment, set of arguments and seed."""

    script: str  # absolute path
    label: str  # the contender's name in the report
    env_id: str
    flags: dict  # {name as in Args: bool, number, string, or a list of these}
    seed: int
    sha256: str  # of the script's text
    varied: dict = field(default_factory=dict)  # {flag: value} that a sweep changed
    reference: dict = field(default_factory=dict)  # {"random": return, "solved": return} on this environment, if given

    @property
    def folder(self) -> str:
        """The name of the run's folder: readable, safe as a file name, and different for every run."""
        identity = json.dumps([self.sha256, Path(self.script).stem, self.env_id, self.flags, self.seed], sort_keys=True)
        name = f"{slug(Path(self.script).stem)}__{slug(self.env_id)}__{self.seed}"
        return f"{name}__{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    def command(self, runs_dir: Path, track: bool) -> list[str]:
        """The argument list that starts the run, without a shell."""
        flags = [part for name, value in self.flags.items() for part in as_arguments(name, value)]
        own = [f"--env-id={self.env_id}", f"--seed={self.seed}", f"--runs-dir={runs_dir}"]
        return [sys.executable, self.script, *own, *flags, *(["--track"] if track else [])]


def is_text(text: str) -> bool:
    """Whether this can be an argument of a program: no NUL, and valid UTF-8 on the command line."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def underscored(flags: dict) -> dict:
    """Flags with underscores, as in Args. A table, for example env_kwargs, becomes a list of NAME=VALUE."""
    return {
        name.replace("-", "_"): [f"{key}={one!r}" for key, one in value.items()] if isinstance(value, dict) else value
        for name, value in flags.items()
    }


def merged(*tables: dict) -> dict:
    """The flags of all tables; a later value counts, in env_kwargs for each name."""
    flags = {}
    for table in map(underscored, tables):
        given = [flags.get("env_kwargs", []), table.get("env_kwargs", [])]
        pairs = [str(pair) for pairs in given for pair in (pairs if isinstance(pairs, list) else [pairs])]
        flags |= table
        if pairs:
            flags["env_kwargs"] = list({pair.partition("=")[0]: pair for pair in pairs}.values())
    return flags


def task(env_id: str, args: dict) -> str:
    """The name of an environment with its arguments and limit: FrozenLake-v1 (is_slippery=False, 50 steps).

    A game of Atari has one name. A name that has its arguments already stays as it is.
    """
    parts, words = [], {"true": True, "false": False, "none": None, "null": None}
    for flag, prefix in (("env_kwargs", ""), ("eval_env_kwargs", "evaluated with ")):
        given = args.get(flag) or []
        for name, _, text in (str(pair).partition("=") for pair in ([given] if isinstance(given, str) else given)):
            value = words.get(text.lower(), text)  # read as the scripts read it
            with suppress(ValueError, SyntaxError):
                value = ast.literal_eval(text)
            parts.append(f"{prefix}{name}={value!r}")
    parts.sort()
    if args.get("max_episode_steps"):
        parts.append(f"{args['max_episode_steps']} steps")
    shown = f" ({', '.join(parts)})" if parts else ""
    env_id = env_id.removeprefix("ale_py:").removesuffix(shown)
    if "protocol" in args:  # of dqn_atari.py, for which both are the game
        env_id = re.sub(r"^(\w+)NoFrameskip-v4$", r"ALE/\1-v5", env_id)
    return env_id + shown


def as_arguments(name: str, value) -> list[str]:
    """A flag for the command line: --name for True, --no-name for False, --name A B for a list, else --name=A."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list | tuple):
        return [f"--{flag}", *map(str, value)]
    return [f"--{flag}={value}"]  # one word, because a value may begin with a dash


def slug(text: str) -> str:
    """The letters, digits, dots, dashes and underscores of text, at most 60, without a dot or dash at the start."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-")[:60].rstrip(".-") or "unnamed"


def is_literal(value) -> bool:
    """Whether a script has this value again when it reads its repr with ast.literal_eval; not so for a date or inf."""
    try:
        return ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError):
        return False


def check_flags(flags: dict, where: str) -> None:
    """Raises BadInput for names that cannot be flags, flags that the harness sets, and values that are no arguments."""
    for name, value in flags.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
            raise BadInput(f"{name!r} in {where} is not the name of a flag")
        if name.replace("-", "_") in OURS:
            raise BadInput(f"{name} in {where} is set by the harness itself")
        if isinstance(value, dict) and name.replace("-", "_") == "env_kwargs":
            for key, own in value.items():
                if not key.isidentifier():
                    raise BadInput(f"{key!r} in {name} in {where} is not the name of an argument")
                if not is_literal(own):
                    raise BadInput(f"{key} in {name} in {where} cannot be {own!r}: a script reads Python's literals")
            value = []
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, bool | int | float | str) and is_text(str(one)) for one in values):
            raise BadInput(f"{name} in {where} must be a number, a string, true, false or a list of these")
        if isinstance(value, list) and any(str(one).startswith("--") for one in value):
            raise BadInput(f"{name} in {where}: a value in a list cannot begin with two dashes")


def parse_argument(text: str) -> tuple[str, object]:
    """NAME=VALUE as (name, value); the value is read as TOML, or else is a string. Raises BadInput without a "="."""
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"{text!r} is not of the form NAME=VALUE")
    try:
        parsed = tomllib.loads(f"value = {value}")
        value = parsed["value"] if len(parsed) == 1 else value
    except tomllib.TOMLDecodeError:
        pass  # a string without quotes
    return name.strip().lstrip("-").replace("-", "_"), value


def with_flags(contender: str) -> tuple[str, dict]:
    """The name and the flags of a contender or environment, as on a command line: "dqn.py --loss huber --no-anneal-lr".

    A flag without a value is true, or false with --no-; a flag with several values is a list. Raises BadInput.
    """
    script, *given = contender.split(" --")
    flags = {}
    try:
        for text in given:
            first, *values = shlex.split(text)
            name, equals, value = first.partition("=")
            values = [parse_argument(f"{name}={one}")[1] for one in ([value] if equals else values)]
            if values:
                flags[name] = values if len(values) > 1 else values[0]
            else:
                flags[name.removeprefix("no-")] = not name.startswith("no-")
    except ValueError as error:
        raise BadInput(f"{contender!r} is not a name with flags: {error}") from error
    check_flags(flags, contender)
    return script.strip(), underscored(flags)


def find_suite(name: str) -> Path:
    """The TOML file with this path, or the shipped suite with this name. Raises BadInput if there is none."""
    for path in (Path(name), SUITES / f"{name}.toml"):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.stem for path in SUITES.glob("*.toml")))
    raise BadInput(f"there is no suite {name!r}: give a TOML file or one of {shipped}")


def read_suite(path: Path) -> dict:
    """The table in a suite's file, after checks. Raises BadInput."""
    try:
        suite = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    for key, value in suite.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            raise BadInput(f"{path}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):
            raise BadInput(f"{path}: {key} cannot be {value!r}")
    for key in ("scripts", "peers"):
        if not all(isinstance(script, str) for script in suite.get(key, [])):
            raise BadInput(f"{path}: {key} must be a list of paths")
    tables = {"[arguments]": suite.get("arguments", {})}
    for key in ("environments", "script_arguments"):
        for name, flags in suite.get(key, {}).items():
            tables[f"[{key}.{name!r}]"] = flags
            if key == "environments" and isinstance(flags, dict):
                common, of_scripts = by_script(flags)
                tables[f"[{key}.{name!r}]"] = common
                tables |= {f"[{key}.{name!r}.{script!r}]": own for script, own in of_scripts.items()}
    for where, flags in tables.items():
        if not isinstance(flags, dict):
            raise BadInput(f"{path}: {where} must be a table of flags")
        check_flags(flags, f"{path}: {where}")
    for name, own in suite.get("references", {}).items():
        given = [finite(own.get(key)) for key in ("random", "solved")] if isinstance(own, dict) else [None]
        if name not in suite.get("environments", {}) or None in given or len(set(given)) < 2 or len(own) > 2:
            needs = "an environment of the suite, and two different numbers, random and solved"
            raise BadInput(f"{path}: [references.{name!r}] needs {needs}")
    for name, values in suite.get("sweeps", {}).items():
        if not isinstance(values, list) or not values:
            raise BadInput(f"{path}: [sweeps] {name} must be a list of values")
        for value in values:
            check_flags({name: value}, f"{path}: [sweeps]")
    return suite


def by_script(flags: dict) -> tuple[dict, dict[str, dict]]:
    """An environment's flags for all scripts, and {"c51.py rainbow.py": the flags of only these scripts}."""
    of_scripts = {name: own for name, own in flags.items() if name.endswith(".py")}
    return {name: value for name, value in flags.items() if name not in of_scripts}, of_scripts


def find_script(name: str, folder: Path) -> Path:
    """A script beside the suite's file (or in the current folder), or else in the repository. Raises BadInput."""
    for path in (folder / name, ROOT / name):
        if path.is_file():
            return path.resolve()
    raise BadInput(f"there is no script {name}")


def labels(scripts: list[Path]) -> dict[Path, str]:
    """A name for each script: its file name, with as many folders in front as make the name unique."""
    named = {}
    for script in scripts:
        for length in range(1, len(script.parts) + 1):
            label = "/".join(script.parts[-length:])
            if all(other == script or "/".join(other.parts[-length:]) != label for other in scripts):
                break
        named[script] = label
    return named


def expand(
    suite: dict, folder: Path, scripts=(), env_ids=(), num_seeds=None, first_seed=None, arguments=None, peers=False
) -> list[Run]:
    """All runs, ordered by seed, so every contender has its first seeds early.

    The other arguments override the suite. Raises BadInput if something is missing.
    """
    names = [*(scripts or suite.get("scripts", [])), *(suite.get("peers", []) if peers else [])]
    env_ids = list(env_ids) or list(suite.get("environments", {}))
    for what, given in (("--scripts", names), ("--env-ids", env_ids)):
        if not given:
            raise BadInput(f"give {what}, or a --suite that names them")
    num_seeds = suite.get("num_seeds", 10) if num_seeds is None else num_seeds
    first_seed = suite.get("first_seed", 1) if first_seed is None else first_seed
    if num_seeds < 1 or first_seed < 0:
        raise BadInput("--num-seeds must be at least 1 and --first-seed at least 0")
    if unusable := [env_id for env_id in env_ids if not is_text(env_id) or not env_id]:
        raise BadInput(f"{unusable[0]!r} is not the name of an environment")
    tasks = {name: with_flags(name) for name in env_ids}
    if unusable := [name for name, (_, own) in tasks.items() if own.keys() - OF_A_TASK]:
        raise BadInput(f"{unusable[0]!r}: behind an environment stand only --env-kwargs and --max-episode-steps")
    check_flags(arguments or {}, "--arguments")

    where = Path.cwd() if scripts else folder
    contenders = []  # (script, its own flags)
    for script, own in map(with_flags, names):
        if (contender := (find_script(script, where), own)) not in contenders:
            contenders.append(contender)
    paths = list(dict.fromkeys(path for path, _ in contenders))
    known = {Path(with_flags(name)[0]).name for name in (*names, *suite.get("scripts", []), *suite.get("peers", []))}
    for env_id, flags in suite.get("environments", {}).items():
        for scripts_named in by_script(flags)[1]:
            if unknown := set(scripts_named.split()) - known:
                raise BadInput(f"{min(unknown)} under {env_id} is none of the suite's scripts")
    text = {path: text_hash(path) for path in paths}
    same = {(path.name, text[path]): path for path in paths}
    if len(same) < len(paths):
        raise BadInput("two of the scripts have the same name and the same text: there is nothing to compare")
    special = {find_script(name, folder): flags for name, flags in suite.get("script_arguments", {}).items()}
    named = labels(paths)
    everywhere, sweeps = suite.get("arguments", {}), underscored(suite.get("sweeps", {}))
    variants = [{}] + [underscored({name: value}) for name, values in sweeps.items() for value in values]
    runs = {}
    for seed in range(first_seed, first_seed + num_seeds):
        for name, (env_id, of_task) in tasks.items():
            scale = suite.get("references", {}).get(name, {})
            for path, own in contenders:
                common, of_scripts = by_script(suite.get("environments", {}).get(name, {}))
                theirs = [flags for scripts_named, flags in of_scripts.items() if path.name in scripts_named.split()]
                flags = merged(everywhere, common, special.get(path, {}), *theirs, arguments or {}, of_task, own)
                for varied in variants:
                    changed = {flag: value for flag, value in varied.items() if flags.get(flag) != value}
                    shown = (own | changed).items()
                    label = " ".join([named[path], *(part for f, v in shown for part in as_arguments(f, v))])
                    run = Run(str(path), label, env_id, merged(flags, changed), seed, text[path], changed, scale)
                    runs.setdefault(run.folder, run)
    return list(runs.values())


def write_plan(suite_dir: Path, runs: list[Run], sweeps: dict) -> None:
    """Writes the list of the suite's runs into its folder, for `status` and `report`."""
    suite_dir.mkdir(parents=True, exist_ok=True)
    write_json(suite_dir / "plan.json", {"sweeps": sweeps, "runs": [asdict(run) for run in runs]})


def read_plan(suite_dir: Path) -> tuple[list[Run], dict]:
    """The runs of the last `run` command in this folder, and its sweeps. Raises BadInput if there are none."""
    try:
        plan = json.loads((suite_dir / "plan.json").read_text())
        runs = [Run(**run) for run in plan["runs"]]
        for run in runs:
            for one in fields(run):
                if not isinstance(getattr(run, one.name), one.type):
                    raise TypeError(f"{one.name} cannot be {getattr(run, one.name)!r}")
        return runs, dict(plan["sweeps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{suite_dir} holds no suite that was run: {error}") from error
