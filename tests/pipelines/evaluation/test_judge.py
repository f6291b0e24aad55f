"""Tests of the LLM judge against a fake OpenAI-compatible server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from ragtide.pipelines.errors import UnavailableError
from ragtide.pipelines.evaluation.judge import MlflowJudge, load_judge
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.ports import JudgeRequest

REQUEST = JudgeRequest("When does it end?", "It ends in May.", ("May", "the fifth month"))


@dataclass
class Model:
    """A fake model server: the requests that it got, and the responses that it gives."""

    responses: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    fake = Model()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            fake.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            message = {"role": "assistant", "content": fake.responses.pop(0)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            head = {"id": "1", "object": "chat.completion", "created": 1, "model": "some", "usage": usage}
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(head | {"choices": [choice]}).encode())

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


def response(result: str) -> str:
    return json.dumps({"result": result, "rationale": "It says so."})


def test_without_a_model_there_is_no_judge() -> None:
    assert load_judge(ScoreParams()) is None


def test_the_identity_of_a_judge_changes_with_its_model() -> None:
    judges = [load_judge(ScoreParams(judge=f"openai:/{name}")) for name in ("one", "two", "one")]
    first, second, again = (judge.identity for judge in judges if judge)
    assert first == again != second
    assert "openai:/one" in first


@pytest.mark.services
@pytest.mark.parametrize(
    ("results", "score"), [(["yes"], 1.0), (["no", "yes"], 1.0), (["no", "no"], 0.0)], ids=["first", "second", "none"]
)
def test_an_answer_is_correct_where_it_agrees_with_an_accepted_one(
    results: list[str], score: float, model: Model
) -> None:
    model.responses = [*map(response, results)]
    assert MlflowJudge("openai:/some").judge(REQUEST) == score
    prompt = str(model.requests[0]["messages"])
    assert all(part in prompt for part in (REQUEST.question, REQUEST.answer, REQUEST.right[0]))
    assert model.requests[0]["model"] == "some"
    assert len(model.requests) == len(results)


@pytest.mark.services
def test_a_judge_without_a_valid_response_is_unavailable(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model.responses = [response("perhaps")]
    with pytest.raises(UnavailableError, match=r"openai:/some.*unknown"):
        MlflowJudge("openai:/some").judge(REQUEST)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UnavailableError, match=r"openai:/some.*OPENAI_API_KEY"):
        MlflowJudge("openai:/some").judge(REQUEST)
