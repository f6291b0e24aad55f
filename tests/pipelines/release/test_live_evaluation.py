"""Is a release scored on the questions of now, as a run of its own that no decision learns from, and a page?"""

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
    """A page, and two questions about it of which one has no answer there."""
    home = Home(write_project(tmp_path / "project"))
    write(home.root / "data/kb/Pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    write(home.root / "data/golden/q.jsonl", "\n".join(map(json.dumps, QUESTIONS)))
    return home


def test_on_a_server_that_takes_no_spans_the_scores_and_the_table_are_there(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_old(*_: object, **__: object) -> None:
        raise NotImplementedError("log_spans is not supported: MLflow server version 3.3.0 is less than 3.4")

    release = release_of(home.project, BASE)
    monkeypatch.setattr(TracingClient, "log_spans", too_old)
    done = evaluate_release(home.project, release)
    run = done.address.rpartition("/")[2]
    client = MlflowClient(home.project.workspace.tracking_uri)
    assert client.get_run(run).info.status == "FINISHED"
    assert "answers.json" in {file.path for file in client.list_artifacts(run)}


def test_the_metrics_are_the_measures_and_what_each_search_finds() -> None:
    found = RetrievalMetrics(k=3, recall=0.5, ndcg10=0.4, mrr10=0.3, n=2)
    card = scorecard(graded("a", 1.0), graded("b", 0.0), retrieval={"hybrid": found})
    metrics = scorecard_metrics(card)
    assert metrics["answer_score"] == card.answer_score.value
    assert metrics["questions"] == 2
    assert (metrics["hybrid_recall"], metrics["hybrid_ndcg10"]) == (0.5, 0.4)


def test_the_page_lists_what_is_answered_worst_first_and_breaks_on_no_question() -> None:
    card = scorecard(graded("a", 1.0), graded("b", 0.5, gold_retrieved=True), graded("c", 0.0, gold_retrieved=False))
    asked = [question(name, question=words) for name, words in (("a", "A?"), ("b", "B?"), ("c", "C |\nor D?"))]
    page = scorecard_markdown(card, answer_rows(card, asked))
    assert "1 of 3 questions are answered in full." in page
    worst = [line for line in page.splitlines() if line.endswith(("found |", "were found |"))]
    assert worst == [
        "| C \\| or D? | 42 | 42 | the right passage was not among those found |",
        "| B? | 42 | 42 | wrong, with the right passage found |",
    ]


def test_a_page_without_mistakes_lists_none() -> None:
    card = scorecard(graded("a", 1.0))
    assert "Answered worst" not in scorecard_markdown(card, answer_rows(card, [question("a")]))


def test_an_evaluation_is_a_run_with_a_row_a_question_and_no_turn(home: Home, tmp_path: Path) -> None:
    project = home.project
    release = release_of(project, BASE)
    turns = len(project.registry.history())

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
    assert {one.dataset.name for one in run.inputs.dataset_inputs} == {"kb", "train", "golden"}
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"answers.json", "scorecard.json"} <= files
    rows = json.loads(Path(client.download_artifacts(run.info.run_id, "answers.json", str(tmp_path))).read_text())
    assert len(rows["data"]) == 2
    known, unknown = client.search_traces(locations=[home.project.registry.experiment], run_id=run.info.run_id)
    asked = [one.info.request_preview for one in (known, unknown)]
    assert asked == [one["question"] for one in QUESTIONS]
    chain, find = known.data.spans
    assert (chain.inputs, chain.outputs) == (asked[0], known.info.response_preview)
    assert (find.parent_id, find.outputs[0]["metadata"]) == (chain.span_id, {"doc_uri": "Pump.md"})
    marks = [{one.name: one.value for one in trace.info.assessments} for trace in (known, unknown)]
    assert marks[0] == {"score": 0.0, "well-formed": True, "passage found": True, "expected_response": "2027-01-01"}
    assert marks[1].keys() == {"score", "well-formed", "expected_response"}
    assert "When does Pump reach end of life, really?" in done.markdown
    assert done.address.endswith(run.info.run_id)
    assert len(home.project.registry.history()) == turns
