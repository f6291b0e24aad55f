"""JSON and JSON Lines: each record becomes a paragraph of `key: value` lines under its title."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.formats.markdown import shorten_heading
from ragtide.pipelines.data.formats.text import decode_text

JSONL = frozenset({".jsonl", ".ndjson"})
_TITLE_KEYS = ("title", "name", "id")


def convert_json(content: bytes) -> str:
    """A JSON document: the fields of an object, or the records of a list."""
    value = parse_json(decode_text(content))
    blocks = _members(value) if isinstance(value, dict) else _records(value if isinstance(value, list) else [value])
    return "\n\n".join(filter(None, blocks))


def convert_jsonl(content: bytes) -> str:
    """The records of a JSON Lines file; blank lines are skipped."""
    lines = enumerate(decode_text(content).split("\n"), start=1)
    return "\n\n".join(_records([parse_json(line, f"line {number} ") for number, line in lines if line.strip()]))


def parse_json(text: str, where: str = "") -> Any:
    """The value of a JSON text, with numbers as they are written: 1.10 stays "1.10".

    Raises DocumentError with the place of the error; `where` names the line that `text` is, if it is one of several.
    """
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as problem:
        place = f"column {problem.colno}" if where else f"line {problem.lineno}, column {problem.colno}"
        raise DocumentError(f"{where}is not JSON ({place}: {problem.msg})") from problem


def _members(document: dict[str, Any]) -> Iterator[str]:
    """An object's own fields, then a paragraph for each object in it, then a section for each list of objects."""
    lists = {key: value for key, value in document.items() if _is_list_of_objects(value)}
    objects = {key: value for key, value in document.items() if isinstance(value, dict)}
    yield _field_lines({key: value for key, value in document.items() if key not in lists and key not in objects})
    for key, value in objects.items():
        yield _field_lines(value, key)
    for key, value in lists.items():
        yield f"# {shorten_heading(key)}"
        yield from _records(value, level=2)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _records(records: list[Any], level: int = 1) -> Iterator[str]:
    """Each record as a paragraph under its title.

    If any record has a title, those without get the heading "Record", so that they do not fall under another's title.
    """
    titles = [_title(record) for record in records]
    are_titled = any(titles)
    for record, title in zip(records, titles, strict=True):
        body = _field_lines(record)
        if body and are_titled:
            yield f"{'#' * level} {title or 'Record'}"
        if body:
            yield body


def _title(record: object) -> str:
    if not isinstance(record, dict):
        return ""
    fields = {key.lower(): value for key, value in record.items() if isinstance(value, str)}
    return next((shorten_heading(fields[key]) for key in _TITLE_KEYS if fields.get(key, "").strip()), "")


def _field_lines(value: object, key: str = "") -> str:
    """A line `key: value` for each text in `value`; a text of several lines starts below its key."""
    texts = [(name, text, "\n" if "\n" in text else " ") for name, text in _fields(value, key) if text]
    return "\n".join(f"{name}:{gap}{text}" if name else text for name, text, gap in texts)


def _fields(value: object, key: str) -> Iterator[tuple[str, str]]:
    """(keys joined by dots, text) of every text in `value`; a list of scalars is one text."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _fields(member, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, item in enumerate(value, start=1):
            yield from _fields(item, f"{key}.{number}" if key else str(number))
    elif isinstance(value, list):
        yield key, ", ".join(filter(None, map(_scalar_text, value)))
    else:
        yield key, _scalar_text(value)


def _scalar_text(value: object) -> str:
    """A scalar as text; headings in it are moved two levels down, below the record's own heading."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).replace("\r\n", "\n").replace("\r", "\n").strip()
    return re.sub(r"^(?=#{1,6}\s)", "##", text, flags=re.MULTILINE)
