"""Is a row of MLflow's page whole, in the order of the rows, and never longer than MLflow's tables take?"""

from __future__ import annotations

from mlflow.entities import Run, RunData, RunInfo

from ragtide.pipelines.evaluation.answers import AnswerRow
from ragtide.pipelines.registry.traces import PREVIEW, evaluation_traces
from tests.factories import graded, question

RUN = Run(RunInfo("run-7", "3", "me", "FINISHED", 0, 1, "active"), RunData())


def test_the_first_row_is_the_latest_which_is_what_mlflow_shows_on_top() -> None:
    rows = [AnswerRow(question(name), graded(name)) for name in ("q1", "q2", "q3")]
    made = evaluation_traces(rows, RUN, at=1_000_000)
    assert [one.info.request_preview for one in made] == ["What is q1?", "What is q2?", "What is q3?"]
    assert [one.info.request_time for one in made] == [1_000_000, 999_999, 999_998]
    assert {one.info.trace_metadata["mlflow.sourceRun"] for one in made} == {"run-7"}
    assert {one.info.experiment_id for one in made} == {"3"}


def test_a_row_without_end_is_cut_for_the_table_and_whole_in_its_spans() -> None:
    [made] = evaluation_traces([AnswerRow(question(question="why? " * 900), graded())], RUN, at=0)
    assert made.info.request_preview is not None
    assert len(made.info.request_preview) == PREVIEW
    assert [len(span.inputs) for span in made.data.spans] == [4500, 4500]


def test_no_span_claims_how_long_a_question_took() -> None:
    [made] = evaluation_traces([AnswerRow(question(), graded(sources=("a.md", "b.md")))], RUN, at=0)
    root, found = made.data.spans
    assert (root.end_time_ns, found.end_time_ns) == (None, None)
    assert (root.trace_id, root.parent_id) == (made.info.trace_id, None)
    assert [one["metadata"]["doc_uri"] for one in found.outputs] == ["a.md", "b.md"]


def test_every_mark_says_why() -> None:
    [made] = evaluation_traces([AnswerRow(question(), graded(score=0.5, gold_retrieved=False))], RUN, at=0)
    why = {one.name: one.rationale for one in made.info.assessments if one.name != "expected_response"}
    assert why.keys() == {"score", "well-formed", "passage found"}
    assert set(why.values()) == {"the right passage was not among those found"}
