"""Tables: CSV and TSV files, and rows of cells as Markdown tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import datetime, time
from io import StringIO
from itertools import islice

from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.formats.text import decode_text

TABLES = frozenset({".csv", ".tsv"})
# A few bytes of a sheet can name a cell in the last of 16384 columns, which implies all cells before it.
MAX_CELLS = 2_000_000


def convert_csv(content: bytes) -> str:
    """A file of separated values as a Markdown table; the delimiter (`,` `;` or tab) is detected."""
    text = decode_text(content)
    try:
        return pipe_table(csv.reader(StringIO(text), delimiter=_detect_delimiter(text)))
    except csv.Error as problem:
        raise DocumentError(f"is not a table of comma-separated values ({problem})") from problem


def _detect_delimiter(text: str) -> str:
    """The delimiter that cuts the first 50 rows most regularly; of equals the one that makes most columns."""

    def regularity(delimiter: str) -> tuple[float, int]:
        rows = [row for row in islice(csv.reader(StringIO(text), delimiter=delimiter), 50) if any(row)]
        widths = [len(row) for row in rows]
        usual = max(widths, key=widths.count, default=0)
        return (widths.count(usual) / len(widths), usual) if usual > 1 else (0, 0)

    return max(",;\t", key=regularity)


def pipe_table(rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table with the first row as its header; a single cell above a wide table becomes a paragraph."""
    cells = _clean_cells(rows)
    if not cells:
        return ""
    width = max(map(len, cells))
    first = next(at for at, row in enumerate(cells) if len(row) > 1) if width > 2 else 0
    captions, cells = [row[0] for row in cells[:first]], cells[first:]
    header = cells[0] + [""] * (width - len(cells[0]))
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * width, *cells[1:])]
    return "\n\n".join([*captions, "\n".join(lines)])


def _clean_cells(rows: Iterable[Iterable[object]]) -> list[list[str]]:
    """Rows of text without blank rows, trailing blank cells and empty columns. Raises DocumentError past MAX_CELLS."""
    kept: list[list[str]] = []
    count = 0
    for row in rows:
        cells = _strip_end([_cell_text(value) for value in row])
        count += len(cells)
        if count > MAX_CELLS:
            raise DocumentError(f"is a table of more than {MAX_CELLS} cells: split it")
        if cells:
            kept.append(cells)
    used_columns = {column for row in kept for column, cell in enumerate(row) if cell}
    return [[cell for column, cell in enumerate(row) if column in used_columns] for row in kept]


def _strip_end(cells: list[str]) -> list[str]:
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _cell_text(value: object) -> str:
    """A cell on one line, as a spreadsheet shows it: 3.0 is 3, a date has no time of day."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime) and value.time() == time.min:
        value = value.date()
    return " ".join(str(value).split()).replace("|", "\\|")
