"""What does Prefect's page show of a turn? Its name, decision and verdict, and how far a long step is."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException

from ragtide.flows.prefect_server.runs import current_run
from ragtide.pipelines.ports import Advance

# A step that is shorter says nothing of how far it is; one that is longer says it no more often than that.
EVERY_SECONDS = 5.0
# What a server that is away, or that has forgotten the run, raises.
AWAY = (HTTPError, PrefectException, OSError, RuntimeError)


def show_markdown(key: str, markdown: str, description: str) -> None:
    """Put Markdown on the page of the run that is going on; a step that is called outside of a run has no page."""
    if TaskRunContext.get() is not None:
        create_markdown_artifact(markdown, key=key, description=description)


def rename_run(name: str) -> None:
    """Call the flow run that is going on by what came of it; its old name will do where the server is away."""
    run = current_run()
    if run is not None:
        with suppress(*AWAY), get_client(sync_client=True) as client:
            client.update_flow_run(run.id, name=name)


@contextmanager
def page_progress(label: str, total: int) -> Iterator[Advance]:
    """Show on the page of the run that is going on how far a long step is."""
    if TaskRunContext.get() is None:
        yield lambda _: None
        return
    shown = _Progress(label, total)
    yield shown.advance
    shown.end()


@dataclass
class _Progress:
    """A progress artifact, made once a step takes long; a server that is away is not asked again."""

    label: str
    total: int
    done: int = 0
    artifact: UUID | None = None
    is_away: bool = False

    def __post_init__(self) -> None:
        self.told_at = time.monotonic()

    def advance(self, amount: int) -> None:
        self.done += amount
        if time.monotonic() - self.told_at >= EVERY_SECONDS:
            self._tell()

    def end(self) -> None:
        """A step that came to its end does not stay at what was last told."""
        if self.artifact is not None:
            self._tell()

    def _tell(self) -> None:
        if self.is_away:
            return
        self.told_at = time.monotonic()
        share = min(100.0, 100 * self.done / self.total)
        told = f"{self.label}: {self.done} of {self.total}"
        try:
            if self.artifact is None:
                self.artifact = cast("UUID", create_progress_artifact(share, _key(self.label), told))
            else:
                update_progress_artifact(self.artifact, progress=share, description=told)
        except AWAY:
            self.is_away = True


def _key(label: str) -> str:
    """As Prefect wants it: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
