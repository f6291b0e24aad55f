"""How does an answered question become a row of MLflow's page for evaluations? As a trace with its assessments.

What was expected and how the answer was judged stand beside it, and one run can be held against another there.
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

# What a table of MLflow holds of a question, and of an answer, in characters.
PREVIEW = 1000
CODE, GOLDEN = AssessmentSource("CODE", "ragtide"), AssessmentSource("HUMAN", "golden")


def evaluation_traces(rows: Sequence[AnswerRow], run: Run, at: int) -> list[Trace]:
    """The rows on a run's page, the first on top; `at`: milliseconds since 1970."""
    # MLflow shows the latest first.
    return [_trace(row, run, at - position) for position, row in enumerate(rows)]


def _trace(row: AnswerRow, run: Run, at: int) -> Trace:
    name = f"tr-{secrets.token_hex(16)}"
    info = TraceInfo(
        trace_id=name,
        trace_location=TraceLocation.from_experiment_id(run.info.experiment_id),
        request_time=at,
        state=TraceState.OK,
        request_preview=row.question.question[:PREVIEW],
        response_preview=row.answered.answer[:PREVIEW],
        trace_metadata={"mlflow.sourceRun": run.info.run_id},
        tags={"mlflow.traceName": "evaluation"},
        assessments=list(_assessments(row, name)),
    )
    return Trace(info, TraceData(_spans(row, name, at)))


def _assessments(row: AnswerRow, trace: str) -> Iterator[Feedback | Expectation]:
    for key, value in row.marks.items():
        yield Feedback(key, value, source=CODE, trace_id=trace, rationale=row.why)
    yield Expectation("expected_response", row.expected, GOLDEN, trace_id=trace)


def _spans(row: AnswerRow, trace: str, at: int) -> list[Span]:
    """The answer, and in it what was found. Neither has an end: how long one question took is not known."""
    asked, root = row.question.question, secrets.token_hex(8)
    documents = [{"page_content": "", "metadata": {"doc_uri": source}} for source in row.answered.sources]

    def span(name: str, kind: str, key: str, parent: str | None, outputs: Any) -> Span:
        told = {"traceRequestId": trace, "spanType": kind, "spanInputs": asked, "spanOutputs": outputs}
        return Span.from_dict(
            {
                "name": name,
                "trace_id": trace,
                "span_id": key,
                "parent_span_id": parent,
                "start_time_unix_nano": at * 1_000_000,
                "status": {"code": "STATUS_CODE_OK"},
                "attributes": {f"mlflow.{part}": json.dumps(value) for part, value in told.items()},
            }
        )

    found = span("find", SpanType.RETRIEVER, secrets.token_hex(8), root, documents)
    return [span("evaluation", SpanType.CHAIN, root, None, row.answered.answer), found]
