"""Parts of Markdown pages that commands write, between marks, so that no number is older than its command's last run.

    <!-- NAME: written by `COMMAND` -->
    ...
    <!-- end of NAME -->

A page without these marks gets the part at its end.
"""

import re


def with_block(page: str, name: str, command: str, content: str) -> str:
    """The page's text with this part replaced, or added at the end."""
    content = content.strip("\n")
    block = f"<!-- {name}: written by `{command}` -->\n{content}\n<!-- end of {name} -->\n"
    marked = re.compile(rf"<!-- {re.escape(name)}: written by .*?<!-- end of {re.escape(name)} -->\n", re.DOTALL)
    if marked.search(page):
        return marked.sub(lambda _: block, page, count=1)
    return f"{page.rstrip()}\n\n{block}"
