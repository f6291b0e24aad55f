"""Process that reads, converts and cuts documents, one after the other, each within limits of time and memory.

A document is hostile until proven otherwise: it may make its converter or the Markdown parser compute for hours or take
all memory. The kernel ends this process at the deadline, even in the middle of a call of a C library, and the pool that
started it (pool.py) counts that as the document's fault. Requests and replies are lines of JSON, since a reply
may come from a process that a document has taken over.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any

from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.hashing import read_verified
from ragtide.pipelines.data.reading.sections import cut_text
from ragtide.pipelines.errors import UserError, summarize_error

READY = b"ready\n"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ReadingTask:
    """A document to read, and its limits.

    `cached` is the file of its converted text, None without one; `seconds` is computing time of the processor;
    `memory_mb` is what reading may add to the memory of the process; `max_characters` limits text and pieces together.
    """

    path: str
    file: str
    digest: str
    cached: str | None
    max_words: int
    seconds: float
    memory_mb: int
    max_characters: int


def read_document(task: ReadingTask) -> dict[str, Any]:
    """Return the reply: the text with its pieces, or why there are none. Raises MemoryError at the memory limit."""
    try:
        text = Path(task.cached).read_text(encoding="utf-8") if task.cached else _convert(task)
        return {"text": text, "pieces": _cut(task, text), "converted": task.cached is None}
    except DocumentError as problem:
        return {"unreadable": str(problem)}
    except UserError as problem:
        return {"failed": str(problem)}


def _convert(task: ReadingTask) -> str:
    return convert_document(task.path, read_verified(Path(task.file), task.digest))


def _cut(task: ReadingTask, text: str) -> list[tuple[str, str, bool]]:
    """The pieces as (heading path, text, whether it is the overview).

    Raises DocumentError where the text cannot be cut, or makes too much text.
    """
    size = len(text)
    pieces = []
    try:
        for piece in cut_text(task.path, text, task.max_words):
            size += len(piece.heading) + len(piece.body) + 1
            if size > task.max_characters:
                raise DocumentError(f"makes more than {task.max_characters} characters of text and chunks: split it")
            pieces.append((piece.heading, piece.body, piece.is_overview))
    except (DocumentError, MemoryError):
        raise
    except Exception as problem:
        raise DocumentError(f"cannot be cut: {type(problem).__name__}: {summarize_error(problem)}") from problem
    return pieces


@contextmanager
def _bounded(seconds: float, memory_mb: int) -> Iterator[None]:
    """Limits of computing time, at which the kernel kills this process, and of additional memory (Linux only)."""
    # Not everywhere part of the standard library, and this module is imported by the parent too.
    import resource

    before = soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    if (used := _data_bytes()) is not None:
        limit = used + memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (limit if soft == resource.RLIM_INFINITY else min(limit, soft), hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _data_bytes() -> int | None:
    """The private memory of this process in bytes; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _reply(line: bytes) -> bytes:
    """The reply to one request as a line; empty at the memory limit, after which this process must not go on."""
    task = ReadingTask(**json.loads(line))
    try:
        with _bounded(task.seconds, task.memory_mb):
            return json.dumps(read_document(task)).encode() + b"\n"
    except MemoryError:
        return b""


def _end_with_parent(parent: int) -> None:
    """Die when the thread that started this process does (Linux); elsewhere the end of the requests is the sign."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _take_pipes() -> tuple[BufferedReader, BufferedWriter]:
    """The pipes of requests and replies; what a library reads or prints goes nowhere."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nowhere, standard)
    replies.write(READY)
    replies.flush()
    # Until here, an error at the start could be seen.
    os.dup2(nowhere, 2)
    return requests, replies


def answer_requests() -> None:
    """Answer requests until there are no more; sys.argv[1] is the process id of the parent."""
    # Ctrl-C reaches every process of a terminal: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent(int(sys.argv[1]))
    requests, replies = _take_pipes()
    for line in requests:
        reply = _reply(line)
        replies.write(reply or b'{"memory": true}\n')
        replies.flush()
        if not reply:
            break


if __name__ == "__main__":
    answer_requests()
