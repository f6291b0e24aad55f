"""What stands in a folder of JSONL files? Lines checked one by one; a bad one is named by file and number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.errors import RefusalError
from pipelines.observe.snapshot import files_below

Model = TypeVar("Model", bound=BaseModel)


def read_lines(folder: Path, model: type[Model]) -> Iterator[tuple[str, Model]]:
    """(FILE:NUMBER, parsed line) of each line that is not blank, of every .jsonl file below `folder`, in order.

    Raises RefusalError at the first line that is not JSON or not a `model`, naming file, line and key.
    """
    for path in files_below(folder):
        if path.endswith(".jsonl"):
            for where, line in _lines(folder / path):
                yield where, _parse(model, where, line)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise RefusalError(f"{path} cannot be read as UTF-8 text: {problem}") from problem
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def _parse(model: type[Model], where: str, line: str) -> Model:
    try:
        return model.model_validate(json.loads(line))
    except json.JSONDecodeError as problem:
        raise RefusalError(f"{where} is not JSON ({problem.msg} at column {problem.colno}): mend the line") from problem
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the line"
        raise RefusalError(f"{where}: {key}: {first['msg']}: mend the line") from problem
