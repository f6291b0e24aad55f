"""Tests of the server of `ragtide serve` in process: limits, and errors in one line that repeat nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from ragtide.flows.services.answers import MAX_BODY_BYTES, MAX_QUESTIONS, answers_app
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import ServicesParams
from ragtide.pipelines.release.serving import Reply, ServedQuestion

SECRET = "/srv/knowledge/.ragtide/mlflow.db"
QUESTION = {"question": "When?"}


class CountingAssistant:
    """Replaces the assistant: repeats each question, and counts the calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.problem: Exception | None = None

    def answer(self, asked: Sequence[ServedQuestion]) -> list[Reply]:
        self.calls += 1
        if self.problem:
            raise self.problem
        return [Reply(answer=item.question, sources=[], release="1", index_version=1) for item in asked]


@pytest.fixture
def assistant() -> CountingAssistant:
    return CountingAssistant()


@pytest.fixture
def client(assistant: CountingAssistant) -> Iterator[TestClient]:
    app = answers_app(assistant, ServicesParams(), 5001)  # type: ignore[arg-type]  # it has the one method that is used
    with TestClient(app, base_url="http://127.0.0.1:5001", raise_server_exceptions=False) as test_client:
        yield test_client


def post(client: TestClient, content: bytes | str, **headers: str) -> Any:
    return client.post("/invocations", content=content, headers={"Content-Type": "application/json"} | headers)


def test_questions_are_answered_in_mlflows_form(client: TestClient) -> None:
    answer = post(client, json.dumps({"inputs": [QUESTION, {"question": "Where?"}]}))
    assert answer.status_code == 200
    assert [reply["answer"] for reply in answer.json()["predictions"]] == ["When?", "Where?"]
    assert answer.json()["predictions"][0]["adapter"] is None


def test_as_many_questions_as_permitted_are_answered(client: TestClient) -> None:
    longest = {"question": "\U0001f409" * 4000}
    answer = post(client, json.dumps({"inputs": [longest] * MAX_QUESTIONS}, ensure_ascii=False))
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == MAX_QUESTIONS


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (json.dumps({"inputs": [QUESTION] * (MAX_QUESTIONS + 1)}), {}, 400),
        (json.dumps({"inputs": []}), {}, 400),
        (json.dumps({"inputs": [QUESTION | {SECRET: 1}]}), {}, 400),
        (json.dumps({"inputs": [QUESTION], SECRET: 1}), {}, 400),
        (json.dumps({"inputs": [QUESTION], "params": {}}), {}, 400),
        (json.dumps({"dataframe_split": {"columns": [SECRET], "data": []}}), {}, 400),
        (json.dumps({"inputs": [{"question": SECRET + "x" * 4000}]}), {}, 400),
        (json.dumps([SECRET]), {}, 400),
        ("[" * 100_000, {}, 400),
        ('{"inputs":' + "[" * 100_000 + "]" * 100_000 + "}", {}, 400),
        ('{"inputs": [{"question": "\\ud800"}]}', {}, 400),
        ('{"inputs": [{"question": NaN}]}', {}, 400),
        (b"\xff" + SECRET.encode(), {}, 400),
        (b"", {}, 400),
        (SECRET * 40_000, {}, 413),
        ("question\n" + SECRET, {"Content-Type": "text/csv"}, 415),
        (b"PAR1" + SECRET.encode(), {"Content-Type": "application/vnd.apache.parquet"}, 415),
        (json.dumps({"inputs": [QUESTION]}), {"Content-Type": "text/plain"}, 415),
        (json.dumps({"inputs": [QUESTION]}), {"Content-Type": ""}, 415),
    ],
)
def test_an_invalid_request_gets_one_short_line_that_repeats_nothing(
    client: TestClient, assistant: CountingAssistant, content: str | bytes, headers: dict[str, str], status: int
) -> None:
    answer = post(client, content, **headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert len(answer.text) < 200
    assert "\\n" not in answer.text
    assert SECRET not in answer.text
    assert assistant.calls == 0


def test_a_body_over_the_limit_is_not_read_to_its_end(client: TestClient) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(2 + MAX_BODY_BYTES // 65536):
            yield b" " * 65536

    answer = client.post("/invocations", content=parts(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("problem", "status"), [(UserError(f"{SECRET} cannot be read"), 503), (RuntimeError(f"two\nlines {SECRET}"), 500)]
)
def test_the_reason_of_a_failure_is_in_the_log_and_not_in_the_answer(
    client: TestClient,
    assistant: CountingAssistant,
    caplog: pytest.LogCaptureFixture,
    problem: Exception,
    status: int,
) -> None:
    assistant.problem = problem
    answer = post(client, json.dumps({"inputs": [QUESTION]}))
    assert answer.status_code == status
    assert SECRET not in answer.text
    assert "\\n" not in answer.text
    assert SECRET in caplog.text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/", "/invocations/"])
def test_there_is_no_other_page(client: TestClient, path: str) -> None:
    assert client.get(path, follow_redirects=False).status_code in (404, 307)
    assert client.get("/invocations").status_code == 405


def test_health_and_version_are_mlflows(client: TestClient) -> None:
    assert {path: client.get(path).status_code for path in ("/ping", "/health")} == {"/ping": 200, "/health": 200}
    assert client.get("/version").text.count(".") >= 2


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Host": "[::1]:5001"}, {"Origin": "null"}])
def test_a_foreign_page_is_refused(client: TestClient, assistant: CountingAssistant, headers: dict[str, str]) -> None:
    assert post(client, json.dumps({"inputs": [QUESTION]}), **headers).status_code == 403
    assert assistant.calls == 0
