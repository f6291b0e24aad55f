"""Tests of the evaluation traces: order, previews, spans and assessments."""

from __future__ import annotations

from mlflow.entities import Run, RunData, RunInfo

from ragtide.pipelines.evaluation.answers import AnswerRow
from ragtide.pipelines.registry.traces import PREVIEW_CHARACTERS, evaluation_traces
from tests.factories import graded, question

RUN = Run(RunInfo("run-7", "3", "me", "FINISHED", 0, 1, "active"), RunData())


def test_the_first_row_is_the_latest_trace() -> None:
    rows = [AnswerRow(question(name), graded(name)) for name in ("q1", "q2", "q3")]
    traces = evaluation_traces(rows, RUN, at=1_000_000)
    assert [trace.info.request_preview for trace in traces] == ["What is q1?", "What is q2?", "What is q3?"]
    assert [trace.info.request_time for trace in traces] == [1_000_000, 999_999, 999_998]
    assert {trace.info.trace_metadata["mlflow.sourceRun"] for trace in traces} == {"run-7"}
    assert {trace.info.experiment_id for trace in traces} == {"3"}


def test_a_long_question_is_cut_in_the_preview_and_complete_in_the_spans() -> None:
    [trace] = evaluation_traces([AnswerRow(question(question="why? " * 900), graded())], RUN, at=0)
    assert trace.info.request_preview is not None
    assert len(trace.info.request_preview) == PREVIEW_CHARACTERS
    assert [len(span.inputs) for span in trace.data.spans] == [4500, 4500]


def test_spans_have_no_end() -> None:
    [trace] = evaluation_traces([AnswerRow(question(), graded(sources=("a.md", "b.md")))], RUN, at=0)
    root, retrieval = trace.data.spans
    assert (root.end_time_ns, retrieval.end_time_ns) == (None, None)
    assert (root.trace_id, root.parent_id) == (trace.info.trace_id, None)
    assert [document["metadata"]["doc_uri"] for document in retrieval.outputs] == ["a.md", "b.md"]


def test_every_assessment_has_a_rationale() -> None:
    [trace] = evaluation_traces([AnswerRow(question(), graded(score=0.5, gold_retrieved=False))], RUN, at=0)
    rationales = {item.name: item.rationale for item in trace.info.assessments if item.name != "expected_response"}
    assert rationales.keys() == {"score", "well_formed", "gold_retrieved"}
    assert set(rationales.values()) == {"wrong: no gold passage was retrieved"}
