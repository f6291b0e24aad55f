"""Markdown building blocks that escape document names and answers: tables, lists and change summaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ragtide.pipelines.records.data import ChangeSet
from ragtide.pipelines.safe_text import escape_controls

SHOWN = 20


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; characters that would break out of a cell are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def markdown_list(lines: Iterable[str]) -> str:
    """Return a list with one line per item; line breaks within an item become spaces."""
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)


def list_some(paths: Sequence[str]) -> str:
    """Return the first paths, and how many more there are."""
    more = f" … and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(f"`{escape_controls(path)}`" for path in paths[:SHOWN]) + more


def changes_markdown(changes: ChangeSet) -> str:
    """Return the documents of a ChangeSet by kind of change; long lists are cut and end with a count."""
    if changes.is_empty:
        return "Nothing."
    kinds: list[tuple[str, Sequence[str]]] = [
        ("added", changes.added),
        ("edited", changes.edited),
        ("renamed", [f"{rename.before} -> {rename.after}" for rename in changes.renamed if not rename.edited]),
        ("renamed and edited", [f"{rename.before} -> {rename.after}" for rename in changes.renamed if rename.edited]),
        ("removed", changes.removed),
    ]
    lines = [f"- {len(paths)} {kind}: {list_some(paths)}" for kind, paths in kinds if paths]
    lines += ["- training examples changed"] if changes.examples_changed else []
    lines += ["- golden questions changed"] if changes.questions_changed else []
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
