"""Progress of long steps: bars on a terminal, plain lines in a log file, and Prefect's page of the run."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import IntEnum

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ragtide.flows.terminal import SafeConsole
from ragtide.pipelines.ports import Advance, no_progress

# The time between two lines of a step that is still running, where standard error is no terminal.
LINE_SECONDS = 30.0
Clock = Callable[[], float]
# Standard error, looked up at each write. Rich leaves colours out where NO_COLOR is set.
console = SafeConsole(stderr=True)


class Verbosity(IntEnum):
    """How much a command writes to standard error beside its errors."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


class _StderrHandler(logging.Handler):
    """Writes log records to the console of the progress bars, which would otherwise overwrite them."""

    def emit(self, record: logging.LogRecord) -> None:
        _write_line(f"{record.levelname.lower()} {record.name}: {record.getMessage()}")


@dataclass
class _Settings:
    """The settings of this process; `configure` changes them."""

    verbosity: Verbosity = Verbosity.NORMAL
    clock: Clock = time.monotonic
    handler: logging.Handler = field(default_factory=_StderrHandler)


_settings = _Settings()
log = logging.getLogger(__name__)


def configure(verbosity: Verbosity, clock: Clock = time.monotonic) -> None:
    """Set for this process how much is shown: QUIET no progress, VERBOSE also the debug records of Ragtide's modules.

    `clock` returns seconds; tests pass their own. Calling it again replaces the earlier settings.
    """
    _settings.verbosity, _settings.clock = verbosity, clock
    logger = logging.getLogger("ragtide")
    logger.removeHandler(_settings.handler)
    logger.setLevel(logging.NOTSET)
    if verbosity is Verbosity.VERBOSE:
        logger.addHandler(_settings.handler)
        logger.setLevel(logging.DEBUG)


@contextmanager
def progress_bars(label: str, total: int) -> Iterator[Advance]:
    """Show the progress of one long step of `total` units; a step with nothing to do shows nothing."""
    if total == 0:
        yield lambda _: None
        return
    started = _settings.clock()
    log.debug("%s: %d units", label, total)
    with _display(label, total) as advance_display, _prefect_page(label, total) as advance_page:

        def advance(amount: int) -> None:
            advance_display(amount)
            advance_page(amount)

        yield advance
    log.debug("%s: ended after %.1f s", label, _settings.clock() - started)


def _display(label: str, total: int) -> AbstractContextManager[Advance]:
    if _settings.verbosity is Verbosity.QUIET:
        return no_progress(label, total)
    return _bar(label, total) if console.is_terminal and not console.is_dumb_terminal else _lines(label, total)


@contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    columns = (
        TextColumn("  {task.description:<38}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total)
        yield lambda amount: progress.advance(task, amount)


@contextmanager
def _lines(label: str, total: int) -> Iterator[Advance]:
    """A line when the step begins, one when it ends, and one every LINE_SECONDS while it advances."""
    lines = _StepLines(label, total, _settings.clock)
    lines.start()
    try:
        yield lines.advance
    except BaseException:
        lines.fail()
        raise
    lines.finish()


@dataclass
class _StepLines:
    label: str
    total: int
    clock: Clock
    done: int = 0

    def start(self) -> None:
        self.started = self.last_line = self.clock()
        _write_line(f"{self.label}: started, {self.total} to do")

    def advance(self, amount: int) -> None:
        self.done += amount
        now = self.clock()
        if now - self.last_line >= LINE_SECONDS and self.done < self.total:
            self.last_line = now
            _write_line(f"{self.label}: {self.done} of {self.total} after {now - self.started:.0f} s")

    def finish(self) -> None:
        _write_line(f"{self.label}: finished, {self.done} of {self.total} in {self.clock() - self.started:.1f} s")

    def fail(self) -> None:
        _write_line(f"{self.label}: failed at {self.done} of {self.total} after {self.clock() - self.started:.1f} s")


def _write_line(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _prefect_page(label: str, total: int) -> AbstractContextManager[Advance]:
    """Progress on the page of the flow run; nothing unless Prefect is imported, which takes seconds by itself."""
    if "prefect.context" not in sys.modules:
        return no_progress(label, total)
    from ragtide.flows.prefect_server.artifacts import page_progress

    return page_progress(label, total)
