"""Pool of processes that read documents: started when they are needed, shared by all readers of this process.

A process that a document hangs or crashes is killed, and the next document gets a new one. Threads of this process wait
for the replies, so that the pool works in any thread and forks nothing.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing.connection import wait
from threading import Lock, Thread
from typing import Any

from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.reading import process as reading_process
from ragtide.pipelines.data.reading.process import READY, ReadingTask
from ragtide.pipelines.data.reading.sections import Piece
from ragtide.pipelines.errors import UserError

# A process takes about 40 MB, or 200 MB once it has read Office files.
MAX_PROCESSES = 16
# An idle process ends after so many seconds.
IDLE_SECONDS = 60.0
# The deadline is computing time. By the clock a document may take so many times as long and so many seconds more, on a
# busy machine, or where reading waits and does not compute.
CLOCK_FACTOR = 5
CLOCK_SECONDS = 30
# A process that closed its pipe exits within so many seconds, with the code that says why.
EXIT_SECONDS = 5.0


@dataclass(frozen=True)
class ReadText:
    """A document's text with its pieces; `converted` unless the text was cached."""

    text: str
    pieces: tuple[Piece, ...]
    converted: bool


class _Process:
    """A process that reads documents, of one thread."""

    def __init__(self) -> None:
        # Without the current folder on its path: a project's folder may contain a json.py.
        command = [sys.executable, "-P", "-m", reading_process.__name__, str(os.getpid())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._is_killed = False
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        if self._replies.readline() != READY:
            code = self.end(EXIT_SECONDS)
            raise UserError(f"the process that reads documents ended at its start (exit code {code}): see above")

    @property
    def is_alive(self) -> bool:
        return not self._is_killed and self._process.poll() is None

    def read(self, task: ReadingTask) -> ReadText:
        """Raises DocumentError for a document that cannot be read within its limits, UserError for a changed file."""
        clock_seconds = CLOCK_FACTOR * task.seconds + CLOCK_SECONDS
        try:
            self._requests.write(json.dumps(asdict(task)).encode() + b"\n")
            self._requests.flush()
            is_answered = bool(wait([self._replies.fileno()], clock_seconds))
            line = self._replies.readline() if is_answered else b""
        except BrokenPipeError:
            is_answered, line = True, b""
        if not is_answered:
            self.end()
            raise DocumentError(f"took more than {clock_seconds:g} s")
        if not line.endswith(b"\n"):
            raise DocumentError(_ending(self.end(EXIT_SECONDS), task))
        reply = json.loads(line)
        if "memory" in reply:
            # The process ends itself: the next document must not meet it.
            self.end()
        return _read_text(reply, task)

    def kill(self) -> None:
        self._is_killed = True
        self._process.kill()

    def end(self, wait_seconds: float = 0) -> int:
        """Kill the process if it still lives after `wait_seconds`, and return its exit code."""
        try:
            self._process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        for pipe in (self._requests, self._replies):
            try:
                pipe.close()
            except BrokenPipeError:
                continue
        return self._process.wait()


def _read_text(reply: dict[str, Any], task: ReadingTask) -> ReadText:
    if "memory" in reply:
        raise DocumentError(f"needs more memory than data.document_memory_mb = {task.memory_mb}: split it")
    if "unreadable" in reply:
        raise DocumentError(reply["unreadable"])
    if "failed" in reply:
        raise UserError(reply["failed"])
    return ReadText(reply["text"], tuple(Piece(*piece) for piece in reply["pieces"]), reply["converted"])


def _ending(code: int, task: ReadingTask) -> str:
    """Why a process ended while it read a document, as a predicate of the document."""
    if code == -signal.SIGPROF:
        return f"takes longer to read than data.document_seconds = {task.seconds:g}: split it"
    if code == -signal.SIGKILL:
        return "ended the process that read it: the system killed it, which it does where memory is short"
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"crashes the process that reads it ({cause})"


@dataclass(frozen=True)
class _Call:
    task: ReadingTask
    notify_start: Callable[[], object]
    future: Future[ReadText]


class ReadingPool:
    """Reads documents in up to `size` processes at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._lock = Lock()
        self._threads = 0
        self._open_calls = 0
        self._reading: dict[Future[ReadText], _Process] = {}

    def submit(self, task: ReadingTask, notify_start: Callable[[], object]) -> Future[ReadText]:
        """Read a document soon; `notify_start` is called, in another thread, right before its process begins.

        The result may raise DocumentError and UserError.
        """
        future: Future[ReadText] = Future()
        with self._lock:
            self._open_calls += 1
            self._calls.put(_Call(task, notify_start, future))
            if self._threads < min(self.size, self._open_calls):
                self._threads += 1
                # The kernel kills a process together with the thread that started it: each thread keeps its own.
                Thread(target=self._serve, name="reading documents", daemon=True).start()
        return future

    def abandon(self, futures: Iterable[Future[ReadText]]) -> None:
        """Cancel what has not begun, and kill the processes of what has."""
        for future in futures:
            if not future.cancel():
                # Under the lock: a moment later its process may read another document.
                with self._lock:
                    if process := self._reading.get(future):
                        process.kill()

    def _serve(self) -> None:
        process: _Process | None = None
        try:
            while call := self._next_call():
                if call.future.set_running_or_notify_cancel():
                    process = self._run(call, process)
                with self._lock:
                    self._open_calls -= 1
        finally:
            if process:
                process.end()

    def _next_call(self) -> _Call | None:
        """The next call; None after IDLE_SECONDS without one, and this thread no longer counts."""
        try:
            return self._calls.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                if not self._calls.empty():
                    return self._calls.get()
                self._threads -= 1
            return None

    def _run(self, call: _Call, process: _Process | None) -> _Process | None:
        """Complete a call and return the process for the next one."""
        try:
            if process and not process.is_alive:
                process.end()
                process = None
            process = process or _Process()
            with self._lock:
                self._reading[call.future] = process
            call.notify_start()
            result = process.read(call.task)
        except BaseException as problem:  # noqa: BLE001 - it is raised where the result is asked for
            call.future.set_exception(problem)
        else:
            call.future.set_result(result)
        with self._lock:
            self._reading.pop(call.future, None)
        return process


@cache
def reading_pool() -> ReadingPool:
    """The pool of this process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ReadingPool(min(cores, MAX_PROCESSES))


# A forked process has none of the threads.
os.register_at_fork(after_in_child=reading_pool.cache_clear)
