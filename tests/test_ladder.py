"""The rungs differ by their ideas alone, and the command that keeps it so does what it says."""

import importlib
import itertools
from dataclasses import fields

import pytest
from conftest import ROOT

from tools import ladder
from tools.ladder import HERE, Rung, code_changed, code_lines, definitions, diff_lines, outdated, read, rebuilt

RUNGS = [rung for rung in HERE if rung.parent]
# Defaults that the idea itself changes: noise explores; a batch of sequences is not one of transitions.
NO_EPSILON = {"start_e": 0.0, "end_e": 0.0}
OTHER_DEFAULTS = {
    "noisy_dqn.py": NO_EPSILON,
    "rainbow.py": NO_EPSILON,
    "qt_opt.py": {
        **{"env_id": "Pendulum-v1", "total_timesteps": 10_000, "learning_rate": 3e-3, "gamma": 0.98, "tau": 0.01},
        **{"target_network_frequency": 1, "batch_size": 64, "end_e": 0.05, "exploration_fraction": 0.2},
        **{"train_frequency": 1, "learning_starts": 500, "eval_frequency": 1_000},
    },
    "drqn.py": {"batch_size": 16, "learning_rate": 3e-3},
    "pqn.py": {
        **{"total_timesteps": 300_000, "learning_rate": 3e-3, "end_e": 0.05},
        "eval_frequency": 30_000,
    },
}
CURE = "run `python -m tools.ladder`, or declare the difference in LADDER of tools/ladder.py"


@pytest.mark.parametrize(("one", "two"), list(itertools.combinations(HERE, 2)), ids=lambda rung: rung.script)
def test_shared_definitions_have_the_same_text(one, two):
    first, second = definitions(read(one.script)), definitions(read(two.script))
    owner = {name: (one.takes.get(name, one.script), two.takes.get(name, two.script)) for name in first}
    own = {name for name, (here, there) in owner.items() if name in one.takes | two.takes and here != there}
    shared = first.keys() & second.keys() - {"docstring", *one.differs, *two.differs, *own}
    different = [name for name in shared if first[name] != second[name]]
    assert not different, f"{different} differ between {one.script} and {two.script}: {CURE}"


def test_nothing_is_left_to_carry():
    """Also catches what a rung lacks or has too much, and a README whose table is out of date."""
    said = {path.name: said for path, (_, said) in outdated().items()}
    assert not said, f"{said}: {CURE}"


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.script)
def test_declarations_are_needed_and_small(rung):
    parent, child = read(rung.parent), read(rung.script)
    theirs, own = definitions(parent), definitions(child)
    assert [name for name in rung.differs if own[name] == theirs.get(name)] == [], "declared, but the same"
    added, removed = code_changed(parent, child)
    assert 0 < added + removed <= rung.most_lines


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.script)
def test_flags_of_the_parent_are_kept(rung):
    """Args may be declared as different, because a rung adds flags, but those of its parent stay as they are.

    Or they are declared as dropped; defaults that the idea itself changes are listed above.
    """
    parent, child = (
        {field.name: (repr(field.type), field.default) for field in fields(importlib.import_module(script[:-3]).Args)}
        for script in (rung.parent, rung.script)
    )
    assert parent.keys() - child.keys() == set(rung.drops) & parent.keys()
    parent = {name: value for name, value in parent.items() if name not in rung.drops}
    parent["exp_name"] = (repr(str), rung.script.removesuffix(".py"))
    for name, default in OTHER_DEFAULTS.get(rung.script, {}).items():
        assert parent[name][1] != default
        parent[name] = (parent[name][0], default)
    assert parent.items() <= child.items()


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.script)
def test_the_docstring_teaches(rung):
    docstring = definitions(read(rung.script))["docstring"]
    for part in (f"Changed from {rung.parent}: ", f"python {rung.script} --env-id", "equation", " = ", "(20"):
        assert part in docstring, part
    for name in (*rung.differs, *rung.takes):
        assert name in ("imports", "Args", "check") or f"`{name}`" in docstring, f"{name} is its own and not named"


@pytest.mark.parametrize("rung", HERE, ids=lambda rung: rung.script)
def test_scripts_import_nothing_from_here(rung):
    imports = definitions(read(rung.script))["imports"]
    for local in ["benchmark", "tests", "tools", *(other.script.removesuffix(".py") for other in HERE)]:
        assert f"import {local}" not in imports and f"from {local}" not in imports


PARENT = '''"""Parent."""

import a

LIMIT = 1


def same():
    """Says what it does."""
    return 1


# why
def changed():
    return 2


if __name__ == "__main__":
    same()
'''
CHILD = '''"""Child."""

import a

LIMIT = 1


def same():
    """Says what it does."""
    return 1


def new():
    return 3


# why
def changed():
    return new()


if __name__ == "__main__":
    same()
'''
RUNG = Rung("child.py", "an idea", parent="parent.py", differs=("changed", "new"))


def test_definitions_of_a_file():
    assert definitions(PARENT) == {
        "docstring": '"""Parent."""',
        "imports": "import a\n\nLIMIT = 1",
        "same": 'def same():\n    """Says what it does."""\n    return 1',
        "changed": "# why\ndef changed():\n    return 2",
        "main": 'if __name__ == "__main__":\n    same()',
    }


def test_a_constant_belongs_to_the_definition_behind_it():
    found = definitions(PARENT.replace("# why", "# why\nTABLE = 1\n\n"))
    assert found["changed"] == "# why\nTABLE = 1\n\n\ndef changed():\n    return 2"
    assert found["main"] == definitions(PARENT)["main"]


def test_a_change_is_carried():
    """What is shared follows the parent, what is declared stays, what was removed goes, what is new comes."""
    assert rebuilt(RUNG, PARENT, CHILD) == CHILD
    better = PARENT.replace("return 1", "return 7").replace("import a", "import b").replace("return 2", "return 9")
    assert rebuilt(RUNG, better, CHILD) == CHILD.replace("return 1", "return 7").replace("import a", "import b")
    longer = PARENT.replace("# why", "def more():\n    pass\n\n\n# why")
    assert "def more():\n    pass\n\n\n# why\ndef changed():\n    return new()" in rebuilt(RUNG, longer, CHILD)
    assert rebuilt(RUNG, PARENT, rebuilt(RUNG, longer, CHILD)) == CHILD


def test_a_script_without_a_parent_takes_over_what_has_the_same_name():
    alone = Rung("child.py", "an idea", differs=("changed",))
    better = PARENT.replace("return 1", "return 7").replace("# why", "def more():\n    pass\n\n\n# why")
    assert rebuilt(alone, better, CHILD) == CHILD.replace("return 1", "return 7"), "nothing new comes, nothing goes"
    several = Rung("child.py", "an idea", differs=("changed", "newer"))  # behind one that dqn.py lacks
    longer = CHILD.replace("# why", "def newer():\n    pass\n\n\n# why")
    assert rebuilt(several, PARENT, longer) == longer


def test_what_is_taken_from_another_rung_is_its_text():
    """New definitions stand where the script has one of that name, and where the parent has it, it is the other's."""
    combined = Rung(
        "child.py", "an idea", parent="parent.py", differs=("changed",), takes={"new": "a.py", "same": "b.py"}
    )
    taken = {"new": "def new():\n    return 8", "same": "def same():\n    return 5"}
    begun = CHILD.replace("def new():\n    return 3", "def new(): ...")
    expected = CHILD.replace("return 3", "return 8").replace('"""Says what it does."""\n    return 1', "return 5")
    assert rebuilt(combined, PARENT, begun, taken) == expected.replace("\n\n\n\n#", "\n\n\n#")
    assert rebuilt(combined, PARENT, expected, taken) == rebuilt(combined, PARENT, begun, taken)


def test_lines_are_counted_without_docstrings_and_blanks():
    assert code_lines(PARENT) == [
        "import a",
        "LIMIT = 1",
        "def same():",
        "    return 1",
        "# why",
        "def changed():",
        "    return 2",
        'if __name__ == "__main__":',
        "    same()",
    ]
    assert code_changed(PARENT, CHILD) == (3, 1)  # added: def new, return 3, return new(); removed: return 2


def test_the_readme_counts_the_lines_that_diff_prints(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "ROOT", tmp_path)
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "child.py").write_text(CHILD)
    # Added: the docstring, def new, its return, two blank lines, return new(). Removed: the docstring, return 2.
    assert diff_lines("parent.py", "child.py") == (6, 2)


def test_the_command_says_what_it_changed(tmp_path, monkeypatch, capsys):
    for rung in HERE:
        (tmp_path / rung.script).write_text(read(rung.script))
    (tmp_path / "README.md").write_text(read("README.md"))
    monkeypatch.setattr(ladder, "ROOT", tmp_path)
    ladder.main()
    assert capsys.readouterr().out == "nothing to change\n"
    old = "return end if t >= duration else start + (end - start) * (t / duration)"
    changed = read("dqn.py").replace(old, f"{old}  # a line")
    (tmp_path / "dqn.py").write_text(changed)
    with pytest.raises(SystemExit):
        ladder.main(check=True)
    assert (tmp_path / "per_dqn.py").read_text() == (ROOT / "per_dqn.py").read_text(), "--check changes nothing"
    capsys.readouterr()
    ladder.main()
    said = capsys.readouterr().out
    for rung in RUNGS:
        assert f"{rung.script}: linear_schedule as in dqn.py; its own are still {', '.join(rung.differs)}\n" in said
        assert f"{old}  # a line" in (tmp_path / rung.script).read_text()
