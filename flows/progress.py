"""How far is it? Progress bars on the terminal's error stream; silent where nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.ports import Advance

console = Console(stderr=True)


@contextmanager
def bars(label: str, total: int) -> Iterator[Advance]:
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
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda amount: progress.advance(task, amount)
