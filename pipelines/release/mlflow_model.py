"""How does MLflow serve the live release? As a pyfunc with typed questions and answers, each request a trace."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Document, SpanType
from mlflow.entities.trace_location import MlflowExperimentLocation
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE
from mlflow.pyfunc.model import PythonModel

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.evaluation.assistant import Answer, Assistant, Found
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release.serving import AnswerService, Reply, ServedQuestion, make_reply
from ragtide.pipelines.workspace import Workspace

# MLflow tries a store that is away seven times, for minutes: a request would wait for as long.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
log = logging.getLogger(__name__)


class ServedAssistant(PythonModel):
    """The project in RAGTIDE_PROJECT, or in the current folder: a release does not say where its project is."""

    def load_context(self, context: Any) -> None:  # noqa: ARG002 - MLflow's form
        """Open the live release. Raises RefusalError where there is no project, or nothing that can be opened."""
        for key, value in IMPATIENT.items():
            os.environ.setdefault(key, value)
        root = Path(os.environ.get("RAGTIDE_PROJECT", "."))
        if not (root / "params.yaml").is_file():
            raise UserError(f"{root.resolve()} is no project: RAGTIDE_PROJECT names the folder of the one to serve")
        workspace = Workspace.open(root)
        mlflow.set_tracking_uri(workspace.tracking_uri)
        self._traces = MlflowExperimentLocation(Registry(workspace).experiment)
        self._service = AnswerService(root)
        # What says that it is ready has its release open and its model loaded.
        with self._service.live():
            pass

    def predict(self, model_input: list[ServedQuestion]) -> list[Reply]:  # type: ignore[override]  # MLflow's form
        """Answer every question from one and the same release."""
        try:
            with self._service.live() as assistant:
                return self._answer(assistant, [one.question for one in model_input])
        except UserError as problem:
            raise MlflowException(str(problem), error_code=TEMPORARILY_UNAVAILABLE) from problem
        except Exception as problem:
            # MLflow would call it the client's mistake, and send it the traceback.
            log.exception("a question could not be answered")
            raise MlflowException(summarize_error(problem), error_code=INTERNAL_ERROR) from problem

    def _answer(self, assistant: Assistant, questions: Sequence[str]) -> list[Reply]:
        release = assistant.release
        with mlflow.start_span("answer", SpanType.CHAIN, trace_destination=self._traces) as span:
            span.set_inputs({"questions": questions})
            _tag(release)
            found = [_find(assistant, question) for question in questions]
            replies = [make_reply(release, answer) for answer in _say(assistant, questions, found)]
            span.set_outputs([one.answer for one in replies])
        return replies


def _tag(release: Release) -> None:
    """Have the trace say what answered. Where traces are off or this one is not sampled, there is none."""
    if mlflow.get_current_active_span() is not None:
        adapter = release.model.adapter or "none"
        index_version = str(release.index.version)
        mlflow.update_current_trace({"release": release.id, "index_version": index_version, "adapter": adapter})


def _find(assistant: Assistant, question: str) -> Found:
    with mlflow.start_span("find", SpanType.RETRIEVER) as span:
        span.set_inputs({"question": question})
        found = assistant.find(question)
        span.set_outputs([Document(one.text, {"doc_uri": one.document, "heading": one.heading}) for one in found])
    return found


def _say(assistant: Assistant, questions: Sequence[str], found: Sequence[Found]) -> list[Answer]:
    with mlflow.start_span("say", SpanType.LLM, {"model": assistant.release.model.base}) as span:
        span.set_inputs({"questions": questions})
        answers = assistant.say(questions, found)
        span.set_outputs([answer.text for answer in answers])
    return answers
