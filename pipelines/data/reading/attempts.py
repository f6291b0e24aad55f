"""Notes of the documents that are being read, on disk before the reading begins.

If a document ends the whole run, because the system kills it for lack of memory, the note stays, and the next run
counts it as a failed attempt (invariant bad-document-isolated, docs/invariants.md).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeAlias
from uuid import uuid4

from ragtide.pipelines.records.base import make_folder

# (document, digest of its content, conditions of the reading).
Attempt: TypeAlias = tuple[str, str, str]


class AttemptNotes:
    """The notes of one reader: a file that it holds a lock on, which the system frees when the process dies."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"{uuid4().hex}.jsonl"
        self._lock = Lock()
        self._descriptor: int | None = None
        self._is_removed = False

    def start(self, attempt: Attempt) -> None:
        """Note that this document is being read now; may be called in any thread."""
        self._write(["start", *attempt])

    def finish(self, attempt: Attempt) -> None:
        """Note that this document was read."""
        self._write(["finish", *attempt])

    def remove(self) -> None:
        """Delete the notes: the results of all attempts are known."""
        with self._lock:
            self._is_removed = True
            if self._descriptor is not None:
                self._file.unlink(missing_ok=True)
                os.close(self._descriptor)
                self._descriptor = None

    def _write(self, note: list[str]) -> None:
        with self._lock:
            if self._is_removed:
                return
            if self._descriptor is None:
                self._descriptor = self._create()
            os.write(self._descriptor, json.dumps(note).encode() + b"\n")

    def _create(self) -> int:
        """The new file, locked before it has its name."""
        make_folder(self._file.parent)
        new = self._file.with_suffix(".new")
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        new.rename(self._file)
        return descriptor


@contextmanager
def noted_attempts(folder: Path) -> Iterator[AttemptNotes]:
    """Notes that are deleted when the reader is done, also after an error: only a killed reader leaves them."""
    notes = AttemptNotes(folder)
    try:
        yield notes
    finally:
        notes.remove()


@dataclass(frozen=True)
class InterruptedAttempts:
    """What dead readers were reading: how often each attempt was interrupted, and the files of the notes."""

    counts: Mapping[Attempt, int]
    files: tuple[Path, ...]

    def forget(self) -> None:
        """Delete these notes."""
        for file in self.files:
            file.unlink(missing_ok=True)


def interrupted_attempts(folder: Path) -> InterruptedAttempts:
    """The attempts that readers began and did not finish before they died."""
    files = tuple(file for file in sorted(folder.glob("*.jsonl")) if _is_abandoned(file))
    counts: Counter[Attempt] = Counter()
    for file in files:
        counts.update(_unfinished(file))
    return InterruptedAttempts(counts, files)


def _is_abandoned(file: Path) -> bool:
    try:
        with file.open("rb") as notes:
            fcntl.flock(notes, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Locked by its reader, or deleted by it in the meantime.
        return False
    return True


def _unfinished(file: Path) -> set[Attempt]:
    unfinished: set[Attempt] = set()
    # The last line of a killed process may be incomplete.
    for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
        kind, document, digest, conditions = json.loads(line)
        attempt = (document, digest, conditions)
        if kind == "start":
            unfinished.add(attempt)
        else:
            unfinished.discard(attempt)
    return unfinished
