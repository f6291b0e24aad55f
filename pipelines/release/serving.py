"""Answer service: keeps the live release open, and switches to another one only when that is completely loaded.

MLflow's server and `ragtide ask` use the same Assistant; this service adds that it stays open and follows the pointer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.evaluation.assistant import WARM_UP_QUESTION, Answer, Assistant
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.workspace import Workspace

# How long a registry that does not answer is left alone, so that not every question waits for it.
RETRY_SECONDS = 5.0
log = logging.getLogger(__name__)


class ServedQuestion(BaseModel):
    """A question of at most 4000 characters: a longer one would push the passages out of the model's context."""

    model_config = ConfigDict(extra="forbid")
    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


def parse_question(text: str) -> str:
    """Return the question without surrounding white space. Raises UserError for one that is empty or too long."""
    try:
        return ServedQuestion(question=text).question
    except ValidationError as problem:
        raise UserError(summarize_error(problem)) from problem


class AnswerSource(BaseModel):
    """A passage that the model had as context."""

    document: str
    position: int
    heading: str
    text: str


class Reply(BaseModel):
    """An answer, its sources, most relevant first, and the release, index and adapter that gave it."""

    answer: str
    sources: list[AnswerSource]
    release: str
    index_version: int
    # Without a default, MLflow records no type for an optional field.
    adapter: str | None = None


def make_reply(release: Release, answer: Answer) -> Reply:
    """Return an answer in the form in which it is served."""
    sources = [
        AnswerSource(document=passage.document, position=passage.position, heading=passage.heading, text=passage.text)
        for passage in answer.passages
    ]
    index, adapter = release.index.version, release.model.adapter
    return Reply(answer=answer.text, sources=sources, release=release.id, index_version=index, adapter=adapter)


class AnswerService:
    """Keeps the live release of the project at `root` open between questions.

    Where the registry does not answer, or its live release cannot be opened, the open release continues to answer: it
    is complete, and every reply names it. Where no release is live any more, none answers.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._project = Project.open(root, no_progress)
        self._clock = clock
        self._lock = Lock()
        self._open: Assistant | None = None
        self._warm: tuple[Project, BuiltModel] | None = None
        self._retry_at = clock()

    @contextmanager
    def live(self) -> Iterator[Assistant]:
        """Hold the live release while questions are answered; other callers wait.

        Raises UserError where no release is live, and on the first call where the live release cannot be opened.
        """
        with self._lock:
            yield self._current()

    def _current(self) -> Assistant:
        """Return the open release, after switching to the live one where the pointer has moved."""
        if self._open is not None and self._clock() < self._retry_at:
            return self._open
        try:
            live = self._project.registry.live_release_id()
            if live is None:
                self._open = None
            if self._open is None or self._open.release.id != live:
                self._open = self._open_live()
        except Exception as problem:
            if self._open is None:
                raise
            self._retry_at = self._clock() + RETRY_SECONDS
            expected = isinstance(problem, UserError)
            log.warning(
                "the live release cannot be opened, so release %s continues to answer: %s",
                self._open.release.id,
                problem,
                exc_info=not expected,
            )
        return self._open

    def _open_live(self) -> Assistant:
        """Open the live release under today's params.yaml, with its models loaded."""
        workspace = Workspace.open(self._project.workspace.root)
        if workspace.params != self._project.workspace.params:
            self._project = Project.open(workspace.root, no_progress)
        assistant = self._project.assistant()
        assistant.retrieve(WARM_UP_QUESTION)
        if self._warm != (self._project, assistant.release.model):
            assistant.warm_up()
            self._warm = self._project, assistant.release.model
        log.info("release %s is open and answers", assistant.release.id)
        return assistant
