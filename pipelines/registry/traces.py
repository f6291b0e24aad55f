"""Evaluation traces: one MLflow trace per question, with the expected answer and the assessments of the actual one.

MLflow's evaluation page shows them as rows and can compare two runs.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from mlflow.entities import AssessmentSource, Expectation, Feedback, Run, Span, SpanType, Trace, TraceData, TraceInfo
from mlflow.entities.trace_location import TraceLocation
from mlflow.entities.trace_state import TraceState

from ragtide.pipelines.evaluation.answers import AnswerRow

# How much of a question, and of an answer, MLflow's tables show, in characters.
PREVIEW_CHARACTERS = 1000
SCORER_SOURCE, GOLDEN_SOURCE = AssessmentSource("CODE", "ragtide"), AssessmentSource("HUMAN", "golden")


def evaluation_traces(rows: Sequence[AnswerRow], run: Run, at: int) -> list[Trace]:
    """Return one trace per row, in the order in which the page lists them; `at`: milliseconds since 1970."""
    # MLflow lists the latest trace first.
    return [_trace(row, run, at - position) for position, row in enumerate(rows)]


def _trace(row: AnswerRow, run: Run, at: int) -> Trace:
    trace_id = f"tr-{secrets.token_hex(16)}"
    info = TraceInfo(
        trace_id=trace_id,
        trace_location=TraceLocation.from_experiment_id(run.info.experiment_id),
        request_time=at,
        state=TraceState.OK,
        request_preview=row.question.question[:PREVIEW_CHARACTERS],
        response_preview=row.graded.answer[:PREVIEW_CHARACTERS],
        trace_metadata={"mlflow.sourceRun": run.info.run_id},
        tags={"mlflow.traceName": "evaluation"},
        assessments=list(_assessments(row, trace_id)),
    )
    return Trace(info, TraceData(_spans(row, trace_id, at)))


def _assessments(row: AnswerRow, trace_id: str) -> Iterator[Feedback | Expectation]:
    for name, value in row.assessments.items():
        yield Feedback(name, value, source=SCORER_SOURCE, trace_id=trace_id, rationale=row.explanation)
    yield Expectation("expected_response", row.expected, GOLDEN_SOURCE, trace_id=trace_id)


def _spans(row: AnswerRow, trace_id: str, at: int) -> list[Span]:
    """Return the answer's span and, within it, that of its retrieval; no span ends: the durations are not known."""
    question, root_id = row.question.question, secrets.token_hex(8)
    documents = [{"page_content": "", "metadata": {"doc_uri": source}} for source in row.graded.sources]

    def span(name: str, kind: str, span_id: str, parent: str | None, outputs: Any) -> Span:
        values = {"traceRequestId": trace_id, "spanType": kind, "spanInputs": question, "spanOutputs": outputs}
        return Span.from_dict(
            {
                "name": name,
                "trace_id": trace_id,
                "span_id": span_id,
                "parent_span_id": parent,
                "start_time_unix_nano": at * 1_000_000,
                "status": {"code": "STATUS_CODE_OK"},
                "attributes": {f"mlflow.{key}": json.dumps(value) for key, value in values.items()},
            }
        )

    retrieval = span("retrieve", SpanType.RETRIEVER, secrets.token_hex(8), root_id, documents)
    return [span("evaluation", SpanType.CHAIN, root_id, None, row.graded.answer), retrieval]
