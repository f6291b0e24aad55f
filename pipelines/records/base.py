"""Base class of all records (frozen, versioned JSON files), and atomic writes of files and folders."""

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
# Prefix of the folders that a killed writer leaves behind.
PARTIAL_PREFIX = ".unfinished-"

# The folder of a project's state. Its mode protects everything below it: databases, tokens, logs, caches.
STATE = ".ragtide"


class Record(BaseModel):
    """A frozen value that can be written to and read from a JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    record_version: Literal[1] = RECORD_VERSION

    def write(self, path: Path) -> None:
        """Write this record to `path` atomically."""
        write_text_atomically(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record that `write` wrote. Raises UserError naming the file if it has another form or version."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as problem:
            raise UserError(f"{path} cannot be read as a {cls.__name__}: {summarize_error(problem)}") from problem

    def content_digest(self) -> str:
        """Twelve hex digits of the SHA-256 of the content."""
        return json_digest(self.model_dump(mode="json"))


def make_folder(folder: Path) -> None:
    """Create `folder` with its parents where they are missing; a project's state is created closed to other users."""
    for state in (path for path in (folder, *folder.parents) if path.name == STATE):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        close_to_others(state)
    folder.mkdir(parents=True, exist_ok=True)


def close_to_others(folder: Path) -> None:
    """Take all permissions on `folder` from other users; nothing where it does not exist."""
    if folder.is_dir() and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a file through a temporary one, so that readers never see it incomplete; line ends are kept."""
    make_folder(path.parent)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)


@contextmanager
def atomic_directory(path: Path, first_stays: bool = False) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `path` on success; an existing folder of that name is replaced.

    After an error or a kill, `path` is unchanged. With `first_stays`, a folder that another process has created in the
    meantime is kept and this one discarded: for equal contents that others may already be reading.
    """
    make_folder(path.parent)
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
    """Twelve hex digits of the SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]
