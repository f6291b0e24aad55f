"""Which release answers, while the pointer moves? The live one, opened whole before its first answer, one at a time.

MLflow and `ragtide ask` answer by the same Assistant; what is added here is to stay open and to follow the pointer.
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
from ragtide.pipelines.evaluation.assistant import Answer, Assistant
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.workspace import Workspace

# A registry that is away is not waited for at every question.
RETRY_SECONDS = 5.0
log = logging.getLogger(__name__)


class ServedQuestion(BaseModel):
    """What is asked. Far more than a question would push the passages out of what the model can see."""

    model_config = ConfigDict(extra="forbid")
    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


def parse_question(text: str) -> str:
    """A question that can be answered. Raises RefusalError for one that is empty, too long, or no text."""
    try:
        return ServedQuestion(question=text).question
    except ValidationError as problem:
        raise UserError(summarize_error(problem)) from problem


class AnswerSource(BaseModel):
    """A passage that was before the model."""

    document: str
    position: int
    heading: str
    text: str


class Reply(BaseModel):
    """An answer, its sources, most relevant first, and what gave it: one release's index and adapter."""

    answer: str
    sources: list[AnswerSource]
    release: str
    index_version: int
    # MLflow writes down no type of an optional field without a default.
    adapter: str | None = None


def make_reply(release: Release, answer: Answer) -> Reply:
    """An answer as it is served."""
    sources = [
        AnswerSource(document=one.document, position=one.position, heading=one.heading, text=one.text)
        for one in answer.passages
    ]
    index, adapter = release.index.version, release.model.adapter
    return Reply(answer=answer.text, sources=sources, release=release.id, index_version=index, adapter=adapter)


class AnswerService:
    """The live release of the project at `root`, kept open from question to question.

    Where the registry is away, or what it points at cannot be opened, the open release goes on answering: it is whole,
    and each reply names it. Where nothing is live any more, nothing answers.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._project = Project.open(root, no_progress)
        self._clock = clock
        self._lock = Lock()
        self._open: Assistant | None = None
        self._warm: tuple[Project, BuiltModel] | None = None
        self._look_again_at = clock()

    @contextmanager
    def live(self) -> Iterator[Assistant]:
        """The live release, for as long as it takes to answer; whoever asks meanwhile waits.

        Raises RefusalError where nothing is live, and at first where the live release cannot be opened.
        """
        with self._lock:
            yield self._followed()

    def _followed(self) -> Assistant:
        if self._open is not None and self._clock() < self._look_again_at:
            return self._open
        try:
            pointed_at = self._project.registry.live_release_id()
            if pointed_at is None:
                self._open = None
            if self._open is None or self._open.release.id != pointed_at:
                self._open = self._opened()
        except Exception as problem:
            if self._open is None:
                raise
            self._look_again_at = self._clock() + RETRY_SECONDS
            expected = isinstance(problem, UserError)
            log.warning("release %s goes on answering: %s", self._open.release.id, problem, exc_info=not expected)
        return self._open

    def _opened(self) -> Assistant:
        """The live release under the params.yaml of now, with its models loaded."""
        workspace = Workspace.open(self._project.workspace.root)
        if workspace.params != self._project.workspace.params:
            self._project = Project.open(workspace.root, no_progress)
        assistant = self._project.assistant()
        assistant.find("Are you there?")
        if self._warm != (self._project, assistant.release.model):
            assistant.warm_up()
            self._warm = self._project, assistant.release.model
        log.info("release %s answers", assistant.release.id)
        return assistant
