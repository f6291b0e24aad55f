"""Tests of the MLflow model in process: schema, errors, following the pointer, and traces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from fastapi.testclient import TestClient
from mlflow.entities import Trace
from mlflow.pyfunc import PyFuncModel, load_model, scoring_server
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.evaluation.assistant import Answerer, Assistant
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.registry.releases import CHAMPION
from ragtide.pipelines.release.mlflow_model import SHORT_RETRIES
from tests import fakes
from tests.conftest import ROOT, write_project
from tests.factories import write
from tests.fakes import SKILLS
from tests.projects import release_of

PUMP = "When does Pump 1 reach end of life?"
OLD, NEW = "2027-01-01", "2031-05-05"


@dataclass
class Served:
    """A project with two releases, the second live, and MLflow's own server app on it."""

    root: Path
    model: PyFuncModel
    client: MlflowClient

    def post(self, body: object) -> Any:
        content = body if isinstance(body, str) else json.dumps(body)
        server = TestClient(scoring_server.init(self.model))
        return server.post("/invocations", content=content, headers={"Content-Type": "application/json"})

    def ask(self, *questions: str) -> list[dict[str, Any]]:
        answered = self.post({"inputs": [{"question": question} for question in questions]})
        assert answered.status_code == 200, answered.text
        return list(answered.json()["predictions"])

    def set_live(self, release: str) -> None:
        self.client.set_registered_model_alias("ragtide", CHAMPION, release)

    def traces(self, experiment: str = "ragtide") -> list[Trace]:
        """Newest first."""
        mlflow.flush_trace_async_logging()
        known = self.client.get_experiment_by_name(experiment)
        assert known is not None
        return list(self.client.search_traces([known.experiment_id]))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = write_project(tmp_path_factory.mktemp("pyfunc") / "project")
    write(root / "data/golden/q.jsonl", json.dumps({"question": PUMP, "answers": [OLD], "docs": ["pump.md"]}))
    for end_of_life in (OLD, NEW):
        write(root / "data/kb/pump.md", f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n")
        project = Project.open(root, no_progress)
        write(project.workspace.adapters / "a1" / SKILLS, json.dumps({"reads": True}))
        release_of(project, BuiltModel(base="reader-1", adapter="a1", examples=None, settings=None))
    uri = project.workspace.tracking_uri
    with pytest.MonkeyPatch.context() as patch:
        for key in (*SHORT_RETRIES, "MLFLOW_TRACKING_URI"):
            patch.setenv(key, "")
            patch.delenv(key)
        patch.setenv("RAGTIDE_PROJECT", str(root))
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(uri)
        yield Served(root, load_model(f"models:/ragtide@{CHAMPION}"), MlflowClient(uri, registry_uri=uri))
        mlflow.flush_trace_async_logging(terminate=True)
        mlflow.set_tracking_uri(before)


@pytest.fixture(autouse=True)
def _as_before(served: Served) -> None:
    """Release 2 is live and open, whatever an earlier test changed."""
    served.set_live("2")
    served.model.unwrap_python_model()._service._retry_at = 0.0
    assert served.ask(PUMP)[0]["release"] == "2"
    fakes.forget()


def unavailable(*_: object, **__: object) -> Any:
    raise UnavailableError("the model does not answer")


def broken(*_: object, **__: object) -> Any:
    raise RuntimeError("two\nlines")


# --- the model of a release ----------------------------------------------------------------------------------------


def test_the_model_has_a_typed_signature(served: Served) -> None:
    signature = served.model.metadata.signature.to_dict()
    [inputs], [outputs] = json.loads(signature["inputs"]), json.loads(signature["outputs"])
    assert inputs["properties"] == {"question": {"type": "string", "required": True}}
    assert set(outputs["properties"]) == {"answer", "sources", "release", "index_version", "adapter"}
    assert set(outputs["properties"]["sources"]["items"]["properties"]) == {"document", "position", "heading", "text"}


def test_a_release_contains_no_path_of_its_machine(served: Served) -> None:
    released, *_ = served.root.glob(".ragtide/mlartifacts/*/artifacts/release-*")
    texts = {path.name: path.read_text(encoding="utf-8") for path in released.iterdir() if path.is_file()}
    assert {"MLmodel", "served.py", "requirements.txt"} < set(texts)
    for name in set(texts) - {"release.json"}:
        assert str(served.root) not in texts[name]
        assert str(ROOT) not in texts[name]


# --- requests ------------------------------------------------------------------------------------------------------


def test_a_question_is_answered_with_its_sources_and_its_release(served: Served) -> None:
    [answer] = served.ask(PUMP)
    source = {"document": "pump.md", "position": 0, "heading": "Pump > Pump 1"}
    [found_source] = answer.pop("sources")
    assert NEW in found_source.pop("text")
    assert found_source == source
    assert answer == {"answer": NEW, "release": "2", "index_version": answer["index_version"], "adapter": "a1"}


def test_the_questions_of_a_request_are_answered_in_order_from_one_release(served: Served) -> None:
    answers = served.ask(PUMP, "What is the latest release of Pump 1?", PUMP)
    assert [answer["answer"] for answer in answers] == [NEW, "unknown", NEW]
    assert {answer["release"] for answer in answers} == {"2"}
    assert served.ask() == []


def test_the_served_model_follows_the_pointer(served: Served) -> None:
    for release, says in (("1", OLD), ("2", NEW), ("1", OLD)):
        served.set_live(release)
        [answer] = served.ask(PUMP)
        assert (answer["release"], answer["answer"]) == (release, says)


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        ({"inputs": [{"question": ""}]}, "at least 1 character"),
        ({"inputs": [{"question": "  "}]}, "at least 1 character"),
        ({"inputs": [{"question": "x" * 4001}]}, "at most 4000 characters"),
        ({"inputs": [{"question": 3}]}, "valid string"),
        ('{"inputs": [{"question": "\\ud800"}]}', "valid string"),
        ({"inputs": [{}]}, "Field required"),
        ({"inputs": [{"question": PUMP, "release": "1"}]}, "Extra inputs are not permitted"),
        ({"inputs": [{"question": PUMP}, {"question": ""}]}, "at least 1 character"),
        ({"inputs": "When?"}, "Expected list"),
        ({"dataframe_records": [{"question": PUMP}]}, "'inputs' key"),
        ({}, "'inputs' key"),
        ("When?", "valid JSON"),
    ],
)
def test_invalid_input_gets_a_message_and_calls_no_model(body: object, fragment: str, served: Served) -> None:
    response = served.post(body)
    assert response.status_code == 400
    assert fragment in response.json()["message"]
    assert "stack_trace" not in response.json()
    assert not fakes.CountingReader.prompts
    assert not fakes.CountingEmbedder.embedded


def test_a_user_error_is_reported_as_temporarily_unavailable(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Assistant, "retrieve", unavailable)
    response = served.post({"inputs": [{"question": PUMP}]})
    assert (response.status_code, response.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert "the model does not answer" in response.json()["message"]
    assert "stack_trace" not in response.json()


def test_an_unexpected_error_is_one_line_and_its_traceback_is_logged(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Answerer, "answer", broken)
        failed = served.post({"inputs": [{"question": PUMP}]})
    assert (failed.status_code, failed.json()["error_code"]) == (500, "INTERNAL_ERROR")
    assert failed.json()["message"].endswith("Error: two lines")
    assert "stack_trace" not in failed.json()
    assert any(record.exc_info for record in caplog.records if record.name == "ragtide.pipelines.release.mlflow_model")
    assert served.ask(PUMP)[0]["answer"] == NEW


# --- traces --------------------------------------------------------------------------------------------------------


def test_a_request_is_a_trace_of_retrieval_and_generation(served: Served) -> None:
    before = len(served.traces())
    served.ask(PUMP)
    trace, *earlier = served.traces()
    assert len(earlier) == before
    chain, retrieval, generation = trace.data.spans
    assert [(span.span_type, span.parent_id) for span in (chain, retrieval, generation)] == [
        ("CHAIN", None),
        ("RETRIEVER", chain.span_id),
        ("LLM", chain.span_id),
    ]
    assert (chain.inputs, chain.outputs) == ({"questions": [PUMP]}, [NEW])
    [document] = retrieval.outputs
    assert NEW in document["page_content"]
    assert document["metadata"] == {"doc_uri": "pump.md", "heading": "Pump > Pump 1"}
    assert generation.outputs == [NEW]
    assert served.traces("Default") == []


def test_a_trace_names_the_release_that_answered(served: Served) -> None:
    for release in ("1", "2"):
        served.set_live(release)
        [answer] = served.ask(PUMP)
        tags = served.traces()[0].info.tags
        assert (tags["release"], tags["adapter"]) == (release, "a1")
        assert tags["index_version"] == str(answer["index_version"])


def test_a_failed_request_has_a_failed_trace(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Answerer, "answer", unavailable)
        served.post({"inputs": [{"question": PUMP}]})
    [trace, *_] = served.traces()
    assert trace.info.state == "ERROR"
    assert trace.info.tags["release"] == "2"


def test_a_failure_to_log_the_trace_does_not_fail_the_request(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "log_spans", broken)
        patch.setattr(SqlAlchemyStore, "start_trace", broken)
        assert served.ask(PUMP)[0]["answer"] == NEW
        mlflow.flush_trace_async_logging()
    assert served.ask(PUMP)[0]["answer"] == NEW


def test_without_tracing_the_answer_is_the_same_and_nothing_is_logged(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(served.traces())
    mlflow.tracing.disable()
    try:
        assert served.ask(PUMP)[0]["answer"] == NEW
    finally:
        mlflow.tracing.enable()
    assert len(served.traces()) == before
    assert not [record for record in caplog.records if "trace" in record.getMessage().lower()]


# --- the project folder --------------------------------------------------------------------------------------------


def test_without_a_project_the_setting_is_named(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGTIDE_PROJECT", str(tmp_path))
    with pytest.raises(UserError, match="RAGTIDE_PROJECT"):
        load_model(f"models:/ragtide@{CHAMPION}")


def test_the_current_folder_is_the_project_where_none_is_named(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAGTIDE_PROJECT")
    monkeypatch.chdir(served.root)
    [answer] = load_model(f"models:/ragtide@{CHAMPION}").predict([{"question": PUMP}])
    assert answer.answer == NEW
