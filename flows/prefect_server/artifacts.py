"""Artifacts on Prefect's page of a run: its name, decision and verdict, and the progress of long steps."""

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
from ragtide.pipelines.safe_text import literal_links, mask_secrets

# Progress is updated no more often than this; a shorter step shows none.
EVERY_SECONDS = 5.0
# Raised where the server does not answer, or no longer has the run.
SERVER_ERRORS = (HTTPError, PrefectException, OSError, RuntimeError)


def show_markdown(key: str, markdown: str, description: str, mlflow: str | None = None) -> None:
    """Put Markdown on the page of the current task run, below a link to `mlflow`; does nothing outside of a run.

    Other links and pictures are shown as text, and secrets are masked.
    """
    if TaskRunContext.get() is not None:
        link = f"[The run in MLflow]({mlflow})\n\n" if mlflow else ""
        page = link + literal_links(mask_secrets(markdown))
        create_markdown_artifact(page, key=key, description=literal_links(mask_secrets(description)))


def rename_run(name: str) -> None:
    """Rename the current flow run after its result; keeps the old name where the server does not answer."""
    run = current_run()
    if run is not None:
        with suppress(*SERVER_ERRORS), get_client(sync_client=True) as client:
            client.update_flow_run(run.id, name=name)


@contextmanager
def page_progress(label: str, total: int) -> Iterator[Advance]:
    """Show the progress of a long step on the page of the current run."""
    if TaskRunContext.get() is None:
        yield lambda _: None
        return
    artifact = _ProgressArtifact(label, total)
    yield artifact.advance
    artifact.finish()


@dataclass
class _ProgressArtifact:
    """A progress artifact, created once a step takes long; after a failed request no other is made."""

    label: str
    total: int
    done: int = 0
    artifact: UUID | None = None
    has_failed: bool = False

    def __post_init__(self) -> None:
        self.updated_at = time.monotonic()

    def advance(self, amount: int) -> None:
        self.done += amount
        if time.monotonic() - self.updated_at >= EVERY_SECONDS:
            self._update()

    def finish(self) -> None:
        """Show the final progress, if any was shown before."""
        if self.artifact is not None:
            self._update()

    def _update(self) -> None:
        if self.has_failed:
            return
        self.updated_at = time.monotonic()
        share = min(100.0, 100 * self.done / self.total)
        description = f"{self.label}: {self.done} of {self.total}"
        try:
            if self.artifact is None:
                self.artifact = cast("UUID", create_progress_artifact(share, _key(self.label), description))
            else:
                update_progress_artifact(self.artifact, progress=share, description=description)
        except SERVER_ERRORS:
            self.has_failed = True


def _key(label: str) -> str:
    """An artifact key in the form that Prefect requires: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
