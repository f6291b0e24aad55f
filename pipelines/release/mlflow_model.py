"""MLflow model (pyfunc) that serves the live release with typed questions and answers; each request is a trace."""

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
from ragtide.pipelines.evaluation.assistant import Answer, Assistant, Passages
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release.serving import AnswerService, Reply, ServedQuestion, make_reply
from ragtide.pipelines.workspace import Workspace

# By default MLflow retries an unavailable store seven times, for minutes, and a request would wait as long.
SHORT_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
log = logging.getLogger(__name__)


class ServedAssistant(PythonModel):
    """Serves the project in RAGTIDE_PROJECT, or in the current folder: a release does not record its project."""

    def load_context(self, context: Any) -> None:  # noqa: ARG002 - MLflow's signature
        """Open the live release. Raises UserError where there is no project, or no release that can be opened."""
        for key, value in SHORT_RETRIES.items():
            os.environ.setdefault(key, value)
        root = Path(os.environ.get("RAGTIDE_PROJECT", "."))
        if not (root / "params.yaml").is_file():
            raise UserError(
                f"{root.resolve()} is not a Ragtide project: set RAGTIDE_PROJECT to the folder of the project to serve"
            )
        workspace = Workspace.open(root)
        mlflow.set_tracking_uri(workspace.tracking_uri)
        self._trace_location = MlflowExperimentLocation(Registry(workspace).experiment)
        self._service = AnswerService(root)
        # Once the server reports that it is ready, its release must be open and its model loaded.
        with self._service.live() as assistant:
            self.release = assistant.release.id

    def predict(self, model_input: list[ServedQuestion]) -> list[Reply]:  # type: ignore[override]  # MLflow's signature
        """Answer all questions of a request from one release."""
        try:
            return self.answer(model_input)
        except UserError as problem:
            raise MlflowException(str(problem), error_code=TEMPORARILY_UNAVAILABLE) from problem
        except Exception as problem:
            # Otherwise MLflow would report it as the client's error, with the traceback.
            log.exception("answering a request failed")
            raise MlflowException(summarize_error(problem), error_code=INTERNAL_ERROR) from problem

    def answer(self, asked: Sequence[ServedQuestion]) -> list[Reply]:
        """Answer all questions from one release. Raises UserError where no release can answer."""
        with self._service.live() as assistant:
            return self._answer(assistant, [item.question for item in asked])

    def _answer(self, assistant: Assistant, questions: Sequence[str]) -> list[Reply]:
        release = assistant.release
        with mlflow.start_span("answer", SpanType.CHAIN, trace_destination=self._trace_location) as span:
            span.set_inputs({"questions": questions})
            _tag_trace(release)
            contexts = [_retrieve(assistant, question) for question in questions]
            replies = [make_reply(release, answer) for answer in _generate(assistant, questions, contexts)]
            span.set_outputs([reply.answer for reply in replies])
        return replies


def _tag_trace(release: Release) -> None:
    """Tag the trace with the release that answers; there is none where tracing is off or the request is not sampled."""
    if mlflow.get_current_active_span() is not None:
        adapter = release.model.adapter or "none"
        index_version = str(release.index.version)
        mlflow.update_current_trace({"release": release.id, "index_version": index_version, "adapter": adapter})


def _retrieve(assistant: Assistant, question: str) -> Passages:
    with mlflow.start_span("retrieve", SpanType.RETRIEVER) as span:
        span.set_inputs({"question": question})
        passages = assistant.retrieve(question)
        span.set_outputs(
            [Document(passage.text, {"doc_uri": passage.document, "heading": passage.heading}) for passage in passages]
        )
    return passages


def _generate(assistant: Assistant, questions: Sequence[str], contexts: Sequence[Passages]) -> list[Answer]:
    with mlflow.start_span("generate", SpanType.LLM, {"model": assistant.release.model.base}) as span:
        span.set_inputs({"questions": questions})
        answers = assistant.generate(questions, contexts)
        span.set_outputs([answer.text for answer in answers])
    return answers
