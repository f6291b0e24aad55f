"""Is the live release scored on the questions of now, as a run of its own that no decision learns from?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from flows import evaluate
from flows.evaluate import score_live
from pipelines.records import BuiltModel
from tests.conftest import write_project
from tests.factories import write
from tests.projects import Home, release_of

BASE = BuiltModel(base="reader-1", adapter=None, examples=None, settings=None)


def test_an_evaluation_is_a_run_with_a_row_a_question_and_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(write_project(tmp_path / "project"))
    write(home.root / "data/kb/Pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    questions = [
        {"question": "When does Pump reach end of life?", "answers": ["2027-01-01"], "docs": ["Pump.md"]},
        {"question": "When does Pump reach end of life, really?", "answers": ["2031-05-05"], "docs": []},
    ]
    write(home.root / "data/golden/q.jsonl", "\n".join(map(json.dumps, questions)))
    project = home.project
    release = release_of(project, BASE)
    turns = len(project.registry.history())

    shown: list[str] = []
    monkeypatch.setattr(evaluate, "show", lambda key, markdown, description: shown.append(markdown))

    scorecard = score_live.fn(home.project, release)

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
    assert asked == [one["question"] for one in questions]
    chain, find = known.data.spans
    assert (chain.inputs, chain.outputs) == (asked[0], known.info.response_preview)
    assert (find.parent_id, find.outputs[0]["metadata"]) == (chain.span_id, {"doc_uri": "Pump.md"})
    marks = [{one.name: one.value for one in trace.info.assessments} for trace in (known, unknown)]
    assert marks[0] == {"score": 0.0, "well-formed": True, "passage found": True, "expected_response": "2027-01-01"}
    assert marks[1].keys() == {"score", "well-formed", "expected_response"}
    [page] = shown
    assert "When does Pump reach end of life, really?" in page
    assert len(home.project.registry.history()) == turns
