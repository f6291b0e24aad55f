"""Shared clean-up of generated Markdown: short headings, separated tables, no trailing blanks."""

from __future__ import annotations

import re
import textwrap

HEADING_CHARACTERS = 120


def shorten_heading(text: str) -> str:
    """A heading of at most HEADING_CHARACTERS characters, on one line."""
    return textwrap.shorten(text, HEADING_CHARACTERS, placeholder=" …")


def tidy_markdown(text: str) -> str:
    """Strip blanks at line ends, put blank lines around tables, and reduce runs of blank lines to one."""
    lines = "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    separated = re.sub(r"(?:^\|.*\|(?:\n|\Z))+", r"\n\g<0>\n", lines, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", separated).strip()
