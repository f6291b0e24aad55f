"""Which nouns does Ragtide speak of? Frozen records, written and read as versioned JSON.

The vocabulary is the same in the code, on the command line, in MLflow and in the documentation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ragtide.pipelines.errors import UserError, summarize_error

RECORD_VERSION: Literal[1] = 1
# What a killed writer leaves of a folder begins like this.
PARTIAL_PREFIX = ".unfinished-"


class Record(BaseModel):
    """A frozen value that knows how to be a JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    record_version: Literal[1] = RECORD_VERSION

    def write(self, path: Path) -> None:
        """Write this record to `path`; a reader never sees half of it."""
        write_text_atomically(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record that `write` wrote; a file of another form or version is refused by name."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as problem:
            raise UserError(f"{path} cannot be read as a {cls.__name__}: {summarize_error(problem)}") from problem

    def content_digest(self) -> str:
        """Twelve hex digits of the SHA-256 of the content: same content, same digest."""
        return json_digest(self.model_dump(mode="json"))


def write_text_atomically(path: Path, text: str) -> None:
    """Write a file by way of a temporary one, so that a reader never sees half of it; line ends stay as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text, encoding="utf-8", newline="")
    unfinished.replace(path)


@contextmanager
def atomic_directory(path: Path, first_stays: bool = False) -> Iterator[Path]:
    """A folder to be filled, which gets the name `path` once it is whole; one that is there already makes room.

    After an error or a kill, `path` is what it was before. With `first_stays` a folder that another process has made
    in the meantime is kept, and this one is not: for what two of them make alike, and may be reading.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{PARTIAL_PREFIX}{path.name}-", dir=path.parent) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        yield folder
        if path.is_dir() and first_stays:
            return
        if path.is_dir():
            path.replace(Path(scratch) / "old")
        folder.replace(path)


def json_digest(value: Any) -> str:
    """Twelve hex digits of the SHA-256 of a JSON value; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]
