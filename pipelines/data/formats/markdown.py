"""Shared clean-up of generated Markdown: short headings, separated tables, no trailing blanks."""

from __future__ import annotations

import re
import textwrap
from itertools import groupby

HEADING_CHARACTERS = 120


def shorten_heading(text: str) -> str:
    """A heading of at most HEADING_CHARACTERS characters, on one line."""
    return textwrap.shorten(text, HEADING_CHARACTERS, placeholder=" …")


def tidy_markdown(text: str) -> str:
    """Strip blanks at line ends, put blank lines around tables, and reduce runs of blank lines to one."""
    lines = (line.rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    blocks = ((is_row, "\n".join(block)) for is_row, block in groupby(lines, _is_row))
    separated = "\n".join(f"\n{block}\n" if is_row else block for is_row, block in blocks)
    return re.sub(r"\n{3,}", "\n\n", separated).strip()


def _is_row(line: str) -> bool:
    return len(line) > 1 and line.startswith("|") and line.endswith("|")
