"""Parts of pages between marks: replaced or added, whole, with everything else as it was."""

import os
from pathlib import Path

import pytest

from benchmark.pages import markdown, write_block
from tools.blocks import with_block

BLOCK = "<!-- {0}: written by `{1}` -->\n{2}\n<!-- end of {0} -->\n"


def test_a_part_is_added_at_the_end():
    assert with_block("# Title\n\nText.\n", "a", "make a", "\n1\n\n") == "# Title\n\nText.\n\n" + BLOCK.format(
        "a", "make a", "1"
    )


def test_a_part_is_replaced_where_it_is_and_others_are_not():
    """Among them one whose name begins as its own does, before it and after it."""
    others = [BLOCK.format("a b", "make b", "2"), BLOCK.format("ab", "make ab", "3")]
    page = f"Before.\n{others[0]}" + "{}" + f"After.\n{others[1]}"
    new, empty = BLOCK.format("a", "make a", "new"), "<!-- a: written by `make a` -->\n<!-- end of a -->\n"
    for old in (BLOCK.format("a", "make a --old", "1\n\nold"), empty):
        assert with_block(page.format(old), "a", "make a", "new") == page.format(new)


@pytest.mark.parametrize("page", ["Text.\n", "Text.\n\n" + BLOCK.format("a", "make", "old")])
def test_content_is_not_a_pattern(page):
    r"""\1 and \g<0> are groups to re.sub, and \d is an error."""
    content = r"\1 \g<0> \d \\ $1 (.*)"
    assert with_block(page, "a", "make", content) == "Text.\n\n" + BLOCK.format("a", "make", content)


def test_a_name_is_not_a_pattern():
    page = BLOCK.format("axb", "make", "1")
    assert with_block(page, "a.b", "make", "2") == page + "\n" + BLOCK.format("a.b", "make", "2")


def test_a_page_that_is_missing_begins_with_a_title_or_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_block(tmp_path / "page.md", "a", "make", "1")
    for content in "12":
        write_block(tmp_path / "page.md", "a", "make", content, begun="# Title\n")
        assert (tmp_path / "page.md").read_text() == "# Title\n\n" + BLOCK.format("a", "make", content)


@pytest.mark.parametrize("fails", ["writing", "replacing"])
def test_what_cannot_be_written_leaves_the_page_as_it_was(tmp_path, monkeypatch, fails):
    """The disk is full after ten characters, or the page cannot be replaced."""
    page = tmp_path / "page.md"
    page.write_text(before := "# Title\n\n" + BLOCK.format("a", "make", "old"))
    write_text = Path.write_text

    def write_ten(self, text):
        write_text(self, text[:10])
        raise OSError(28, "No space left on device")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(*((Path, "write_text", write_ten) if fails == "writing" else (os, "replace", refuse)))
        with pytest.raises(OSError):
            write_block(page, "a", "make", "new")
    assert page.read_text() == before and os.listdir(tmp_path) == ["page.md"]


def test_markdown():
    assert markdown(["x", "y"], [["a", "1"], ["b", "2"]]) == "| x | y |\n| --- | ---: |\n| a | 1 |\n| b | 2 |"
