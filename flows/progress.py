"""How far is it? Progress bars on the terminal's error stream, silent where nobody watches, and on Prefect's page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ragtide.pipelines.ports import Advance, no_progress

console = Console(stderr=True)


class Verbosity(Enum):
    """How much is printed beside a result."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


_verbosity = Verbosity.NORMAL


def configure(verbosity: Verbosity) -> None:
    """Set how much progress this process prints."""
    global _verbosity  # noqa: PLW0603
    _verbosity = verbosity


@contextmanager
def progress_bars(label: str, total: int) -> Iterator[Advance]:
    """A bar for one long step; a step with nothing to do shows none."""
    if total == 0:
        yield lambda _: None
        return
    columns = (
        TextColumn("  {task.description:<38}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    screen = Progress(*columns, console=console, disable=not console.is_terminal or _verbosity is Verbosity.QUIET)
    with screen as progress, _on_page(label, total) as tell:
        task = progress.add_task(label, total=total)

        def advance(amount: int) -> None:
            progress.advance(task, amount)
            tell(amount)

        yield advance


def _on_page(label: str, total: int) -> AbstractContextManager[Advance]:
    """Nowhere where nobody has imported Prefect, which takes seconds: no run is going on then."""
    if "prefect.context" not in sys.modules:
        return no_progress(label, total)
    from ragtide.flows.prefect_server.artifacts import page_progress

    return page_progress(label, total)
