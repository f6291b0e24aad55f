"""What stands in a folder of JSONL files? Lines checked one by one; a bad one is named by file and number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from pipelines.errors import RefusalError, one_line
from pipelines.observe.snapshot import read_file

Model = TypeVar("Model", bound=BaseModel)


def read_lines(folder: Path, files: Mapping[str, str], model: type[Model]) -> Iterator[tuple[str, Model]]:
    """(FILE:NUMBER, parsed line) of each line that is not blank, of every .jsonl file in `files`, in order of path.

    `files` is a snapshot's part: path below `folder` -> MD5. Raises RefusalError for a file that changed since, and at
    the first line that is not JSON or not a `model`, naming file, line and key.
    """
    for path in sorted(files):
        if path.lower().endswith(".jsonl"):
            for where, line in _lines(folder / path, files[path]):
                yield where, _parse(model, where, line)


def _lines(path: Path, digest: str) -> Iterator[tuple[str, str]]:
    try:
        text = read_file(path, digest).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise RefusalError(f"{path} is not UTF-8 (byte {problem.start}): save it as UTF-8") from problem
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def _parse(model: type[Model], where: str, line: str) -> Model:
    try:
        return model.model_validate(json.loads(line))
    except json.JSONDecodeError as problem:
        raise RefusalError(f"{where} is not JSON ({problem.msg} at column {problem.colno}): mend the line") from problem
    except (ValueError, RecursionError, OverflowError) as problem:
        raise RefusalError(f"{where}: {one_line(problem)}: mend the line") from problem
