"""Jupyter notebooks: Markdown cells as they are, code cells as fenced code, without outputs."""

from __future__ import annotations

import re

from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.formats.json_records import parse_json
from ragtide.pipelines.data.formats.text import decode_text


def convert_notebook(content: bytes) -> str:
    """The sources of a notebook's cells. Raises DocumentError for a format older than 4."""
    notebook = parse_json(decode_text(content))
    try:
        language = notebook.get("metadata", {}).get("language_info", {}).get("name", "python")
        cells = [_cell_markdown(cell["cell_type"], "".join(cell["source"]), language) for cell in notebook["cells"]]
    except (AttributeError, KeyError, TypeError) as problem:
        raise DocumentError("is not a notebook of format 4: save it with a current Jupyter") from problem
    return "\n\n".join(filter(None, cells))


def _cell_markdown(kind: str, source: str, language: str) -> str:
    source = source.replace("\r\n", "\n").strip("\n")
    if kind != "code" or not source.strip():
        return source.strip()
    fence = max(["``", *re.findall(r"`+", source)], key=len) + "`"
    return f"{fence}{language}\n{source}\n{fence}"
