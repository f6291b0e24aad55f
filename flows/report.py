"""What does Prefect's page show of a turn? The decision and the verdict, as artifacts of the run that made them."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact
from prefect.context import TaskRunContext


def show(key: str, markdown: str, description: str) -> None:
    """Put Markdown on the page of the run that is going on; a step that is called outside of a run has no page."""
    if TaskRunContext.get() is not None:
        create_markdown_artifact(markdown, key=key, description=description)
