"""Typed lines of JSONL files, each validated on its own and located by file and line number."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from ragtide.pipelines.data.dvc_cache import read_earlier_file
from ragtide.pipelines.data.hashing import read_verified
from ragtide.pipelines.data.text import require_whole_characters
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.workspace import Workspace

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class InvalidLine:
    """Why a line is invalid, and how to fix it."""

    why: str


def read_lines(folder: Path, files: Mapping[str, str], model: type[Model]) -> Iterator[tuple[str, Model]]:
    """(FILE:NUMBER, parsed line) of each non-blank line of every .jsonl file in `files`, in order of path.

    `files` is part of a snapshot: path below `folder` -> MD5. Raises UserError for a file that changed since then, and
    at the first line that is not UTF-8, not JSON or not a `model`, naming file, line and key.
    """
    for where, line in validate_lines(folder, files, model):
        if isinstance(line, InvalidLine):
            raise UserError(f"{folder / where}: {line.why}")
        yield str(folder / where), line


def validate_lines(
    folder: Path, files: Mapping[str, str], model: type[Model]
) -> Iterator[tuple[str, Model | InvalidLine]]:
    """As `read_lines`, but an invalid line is returned and not raised; FILE is relative to `folder`."""
    for path in _jsonl_paths(files):
        for number, line in _parse_lines(read_verified(folder / path, files[path]), model):
            yield f"{path}:{number}", line


def read_earlier_lines(
    workspace: Workspace, files: Mapping[str, str], model: type[Model]
) -> Iterator[tuple[str, Model]]:
    """As `read_lines`, but for files of an earlier snapshot, from DVC's cache.

    A file that is no longer in the cache is skipped, and so is an invalid line: earlier data must not stop a run.
    """
    for path in _jsonl_paths(files):
        for number, line in _parse_lines(read_earlier_file(workspace, files[path]) or b"", model):
            if not isinstance(line, InvalidLine):
                yield f"{path}:{number}", line


def _jsonl_paths(files: Mapping[str, str]) -> list[str]:
    return sorted(path for path in files if path.lower().endswith(".jsonl"))


def _parse_lines(content: bytes, model: type[Model]) -> Iterator[tuple[int, Model | InvalidLine]]:
    # Split before decoding, so that a line in another encoding does not affect the others.
    for number, line in enumerate(content.removeprefix(BOM_UTF8).split(b"\n"), start=1):
        if line.strip():
            yield number, _parse_line(model, line)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON. Raises ValueError for a key that is given twice: one of the two values would be lost."""
    keys = Counter(key for key, _ in pairs)
    twice = next((key for key, count in keys.items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{twice[:60]}: the key is given twice")
    return dict(pairs)


def _parse_line(model: type[Model], line: bytes) -> Model | InvalidLine:
    try:
        text = line.decode()
        require_whole_characters(text)
        return model.model_validate(json.loads(text, object_pairs_hook=_unique_keys))
    except UnicodeDecodeError as problem:
        return InvalidLine(f"is not UTF-8 (byte {problem.start}): save the file as UTF-8")
    except json.JSONDecodeError as problem:
        return InvalidLine(f"is not JSON ({problem.msg} at column {problem.colno}): fix the line")
    except (ValueError, RecursionError, OverflowError) as problem:
        return InvalidLine(f"{summarize_error(problem).replace('Value error, ', '', 1)}: fix the line")
