"""What stands in a folder of JSONL files? Lines checked one by one; a bad one is named by file and number."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from ragtide.pipelines.data.snapshot import read_earlier_file, read_verified
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.workspace import Workspace

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class InvalidLine:
    """Why a line is not what it should be, and what to do."""

    why: str


def read_lines(folder: Path, files: Mapping[str, str], model: type[Model]) -> Iterator[tuple[str, Model]]:
    """(FILE:NUMBER, parsed line) of each line that is not blank, of every .jsonl file in `files`, in order of path.

    `files` is a snapshot's part: path below `folder` -> MD5. Raises RefusalError for a file that changed since, and at
    the first line that is not UTF-8, not JSON or not a `model`, naming file, line and key.
    """
    for where, line in validate_lines(folder, files, model):
        if isinstance(line, InvalidLine):
            raise UserError(f"{folder / where}: {line.why}")
        yield str(folder / where), line


def validate_lines(
    folder: Path, files: Mapping[str, str], model: type[Model]
) -> Iterator[tuple[str, Model | InvalidLine]]:
    """As `read_lines`, but a bad line is told and not raised; FILE is below `folder`."""
    for path in _jsonl(files):
        for number, line in _lines(read_verified(folder / path, files[path]), model):
            yield f"{path}:{number}", line


def read_earlier_lines(
    workspace: Workspace, files: Mapping[str, str], model: type[Model]
) -> Iterator[tuple[str, Model]]:
    """As `read_lines`, but of files of an earlier snapshot, out of DVC's cache.

    A file that is not there any more is passed over, and so is a line that is no `model`: what once was good enough
    must not stop a run of today.
    """
    for path in _jsonl(files):
        for number, line in _lines(read_earlier_file(workspace, files[path]) or b"", model):
            if not isinstance(line, InvalidLine):
                yield f"{path}:{number}", line


def _jsonl(files: Mapping[str, str]) -> list[str]:
    return sorted(path for path in files if path.lower().endswith(".jsonl"))


def _lines(content: bytes, model: type[Model]) -> Iterator[tuple[int, Model | InvalidLine]]:
    # Cut before they are decoded, so that a line in another encoding spoils no other.
    for number, line in enumerate(content.removeprefix(BOM_UTF8).split(b"\n"), start=1):
        if line.strip():
            yield number, _parse(model, line)


def _parse(model: type[Model], line: bytes) -> Model | InvalidLine:
    try:
        return model.model_validate(json.loads(line.decode()))
    except UnicodeDecodeError as problem:
        return InvalidLine(f"is not UTF-8 (byte {problem.start}): save the file as UTF-8")
    except json.JSONDecodeError as problem:
        return InvalidLine(f"is not JSON ({problem.msg} at column {problem.colno}): mend the line")
    except (ValueError, RecursionError, OverflowError) as problem:
        return InvalidLine(f"{summarize_error(problem).replace('Value error, ', '', 1)}: mend the line")
