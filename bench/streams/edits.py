"""Cosmetic edits of Markdown that keep every word: pure functions from text to text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping

Edit = Callable[[str], str]
BULLET = r"^([-*+] )"
# The beginning of a line with a meaning in Markdown; a paragraph that would get such a line by wrapping is not wrapped.
MARKED = re.compile(r"(?m)^(\s|[-*+>|#!<:{~`=_]|\d+[.)]|\[[^\]]*\]:)")
WIDE = 10**6


def words(text: str) -> list[str]:
    """Return the words and numbers of a text in order, in lower case and without punctuation: an edit keeps them."""
    return re.findall(r"[^\W_]+", text.casefold())


def wrap(text: str, width: int) -> str:
    """Re-wrap paragraphs at `width` characters; lists, tables and other marked-up blocks are not changed."""
    return "".join(_wrap(block, width) for block in re.split(r"(\n{2,})", text))


def _wrap(block: str, width: int) -> str:
    if MARKED.search(block) or re.search(r"(  |\\)$", block, re.MULTILINE):
        return block
    end = "\n" if block.endswith("\n") else ""
    new = textwrap.fill(" ".join(block.split()), width, break_long_words=False, break_on_hyphens=False)
    return block if MARKED.search(new) else new + end


def bullets(text: str) -> str:
    """Use stars as bullets of list items."""
    return re.sub(r"(?m)^[-+] ", "* ", text)


def bold_labels(text: str) -> str:
    """Set the label before a list item's colon in bold."""
    return re.sub(rf"(?m){BULLET}([^\W_][^:*_\n]*:) ", r"\1**\2** ", text)


def capitals(text: str) -> str:
    """Write headings in capitals."""
    return re.sub(r"(?m)^#+ .+$", lambda heading: heading[0].upper(), text)


def small_letters(text: str) -> str:
    """Write headings in lower case."""
    return re.sub(r"(?m)^#+ .+$", lambda heading: heading[0].lower(), text)


def full_stops(text: str) -> str:
    """End list items with a full stop."""
    return re.sub(rf"(?m){BULLET}(.*[^\W_])$", r"\1\2.", text)


def blank_lines(text: str) -> str:
    """Add one more blank line wherever there are blank lines."""
    return re.sub(r"\n{2,}", lambda lines: lines[0] + "\n", text)


EDITS: Mapping[str, Edit] = {
    "paragraphs wrapped at 72": lambda text: wrap(text, 72),
    "bullets are stars": bullets,
    "labels in bold": bold_labels,
    "headings in capitals": capitals,
    "list items end with a full stop": full_stops,
    "more blank lines": blank_lines,
    "paragraphs not wrapped": lambda text: wrap(text, WIDE),
    "headings in small letters": small_letters,
}
