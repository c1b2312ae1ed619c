"""Writes a part of a Markdown page between marks, so its numbers are always from the last run of the command.

    <!-- NAME: written by `COMMAND` -->
    ...
    <!-- end of NAME -->

A page without these marks gets the part at its end.
"""

import re


def with_block(page: str, name: str, command: str, content: str) -> str:
    """The text of the page after this part was replaced, or added at its end."""
    content = content.strip("\n")
    block = f"<!-- {name}: written by `{command}` -->\n{content}\n<!-- end of {name} -->\n"
    marked = re.compile(rf"<!-- {re.escape(name)}: written by .*?<!-- end of {re.escape(name)} -->\n", re.DOTALL)
    if marked.search(page):
        return marked.sub(lambda _: block, page, count=1)
    return f"{page.rstrip()}\n\n{block}"
