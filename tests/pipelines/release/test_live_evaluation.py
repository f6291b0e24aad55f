"""Tests of the evaluation of the live release: MLflow run, traces, table and page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.tracing.client import TracingClient
from mlflow.tracking import MlflowClient

from ragtide.pipelines.evaluation.answers import answer_rows
from ragtide.pipelines.records.evaluation import RetrievalMetrics
from ragtide.pipelines.release.live_evaluation import evaluate_release
from ragtide.pipelines.reports.evaluation import scorecard_markdown, scorecard_metrics
from tests.conftest import write_project
from tests.factories import BASE, graded, question, scorecard, write
from tests.projects import Home, release_of

QUESTIONS = [
    {"question": "When does Pump reach end of life?", "answers": ["2027-01-01"], "docs": ["Pump.md"]},
    {"question": "When does Pump reach end of life, really?", "answers": ["2031-05-05"], "docs": []},
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A project with one page and two questions, of which the page answers one."""
    home = Home(write_project(tmp_path / "project"))
    write(home.root / "data/kb/Pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    write(home.root / "data/golden/q.jsonl", "\n".join(map(json.dumps, QUESTIONS)))
    return home


def test_a_server_without_spans_still_gets_scores_and_table(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old(*_: object, **__: object) -> None:
        raise NotImplementedError("log_spans is not supported: MLflow server version 3.3.0 is less than 3.4")

    release = release_of(home.project, BASE)
    monkeypatch.setattr(TracingClient, "log_spans", too_old)
    done = evaluate_release(home.project, release)
    run = done.address.rpartition("/")[2]
    client = MlflowClient(home.project.workspace.tracking_uri)
    assert client.get_run(run).info.status == "FINISHED"
    assert "answers.json" in {file.path for file in client.list_artifacts(run)}


def test_metrics_include_the_measures_and_each_search_mode() -> None:
    metrics_of_search = RetrievalMetrics(k=3, recall=0.5, ndcg10=0.4, mrr10=0.3, n=2)
    card = scorecard(graded("a", 1.0), graded("b", 0.0), retrieval={"hybrid": metrics_of_search})
    metrics = scorecard_metrics(card)
    assert metrics["answer_score"] == card.answer_score.value
    assert metrics["questions"] == 2
    assert (metrics["hybrid_recall"], metrics["hybrid_ndcg10"]) == (0.5, 0.4)


def test_the_page_lists_the_worst_answers_first_and_escapes_questions() -> None:
    card = scorecard(graded("a", 1.0), graded("b", 0.5, gold_retrieved=True), graded("c", 0.0, gold_retrieved=False))
    questions = [question(name, question=words) for name, words in (("a", "A?"), ("b", "B?"), ("c", "C |\nor D?"))]
    page = scorecard_markdown(card, answer_rows(card, questions))
    assert "1 of 3 questions" in page
    worst = [line for line in page.splitlines() if line.endswith("retrieved |")]
    assert worst == [
        "| C \\| or D? | 42 | 42 | wrong: no gold passage was retrieved |",
        "| B? | 42 | 42 | wrong although a gold passage was retrieved |",
    ]


def test_a_page_without_wrong_answers_lists_none() -> None:
    card = scorecard(graded("a", 1.0))
    assert "Worst answers" not in scorecard_markdown(card, answer_rows(card, [question("a")]))


def test_an_evaluation_is_a_run_with_one_row_per_question_and_not_a_cycle(home: Home, tmp_path: Path) -> None:
    project = home.project
    release = release_of(project, BASE)
    cycles = len(project.registry.history())

    done = evaluate_release(home.project, release)
    scorecard = done.scorecard

    assert scorecard.snapshot == release.snapshot.id
    client = MlflowClient(home.project.workspace.tracking_uri)
    [run] = client.search_runs([home.project.registry.experiment], "tags.`ragtide.kind` = 'evaluation'")
    assert run.info.run_name == f"evaluation of release {release.id}"
    assert run.data.tags["release"] == release.id
    assert run.data.tags["data_rev"] == release.snapshot.id
    assert run.data.metrics["answer_score"] == scorecard.answer_score.value
    assert run.data.metrics["questions"] == 2
    assert {item.dataset.name for item in run.inputs.dataset_inputs} == {"kb", "train", "golden"}
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"answers.json", "scorecard.json"} <= files
    rows = json.loads(Path(client.download_artifacts(run.info.run_id, "answers.json", str(tmp_path))).read_text())
    assert len(rows["data"]) == 2
    known, unknown = client.search_traces(locations=[home.project.registry.experiment], run_id=run.info.run_id)
    questions = [trace.info.request_preview for trace in (known, unknown)]
    assert questions == [line["question"] for line in QUESTIONS]
    chain, retrieval = known.data.spans
    assert (chain.inputs, chain.outputs) == (questions[0], known.info.response_preview)
    assert (retrieval.parent_id, retrieval.outputs[0]["metadata"]) == (chain.span_id, {"doc_uri": "Pump.md"})
    assessments = [{item.name: item.value for item in trace.info.assessments} for trace in (known, unknown)]
    assert assessments[0] == {
        "score": 0.0,
        "well_formed": True,
        "gold_retrieved": True,
        "expected_response": "2027-01-01",
    }
    assert assessments[1].keys() == {"score", "well_formed", "expected_response"}
    assert "When does Pump reach end of life, really?" in done.markdown
    assert done.address.endswith(run.info.run_id)
    assert len(home.project.registry.history()) == cycles
