"""Is the judge that score.judge names asked through MLflow, and what it says taken for a score?"""

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

CLAIM = JudgeRequest("When does it end?", "It ends in May.", ("May", "the fifth month"))


@dataclass
class Model:
    """A model behind an OpenAI-compatible door on this machine: what it was asked, and what it says."""

    says: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    told = Model()

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            message = {"role": "assistant", "content": told.says.pop(0)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            head = {"id": "1", "object": "chat.completion", "created": 1, "model": "some", "usage": usage}
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(head | {"choices": [choice]}).encode())

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Door)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


def opinion(result: str) -> str:
    return json.dumps({"result": result, "rationale": "It says so."})


def test_without_a_name_there_is_no_judge() -> None:
    assert load_judge(ScoreParams()) is None


def test_a_judge_is_another_with_another_model() -> None:
    judges = [load_judge(ScoreParams(judge=f"openai:/{name}")) for name in ("one", "two", "one")]
    one, two, again = (judge.identity for judge in judges if judge)
    assert one == again != two
    assert "openai:/one" in one


@pytest.mark.services
@pytest.mark.parametrize(
    ("says", "score"), [(["yes"], 1.0), (["no", "yes"], 1.0), (["no", "no"], 0.0)], ids=["first", "second", "none"]
)
def test_an_answer_is_right_where_it_says_what_one_of_the_right_ones_says(
    says: list[str], score: float, model: Model
) -> None:
    model.says = [*map(opinion, says)]
    assert MlflowJudge("openai:/some").judge(CLAIM) == score
    prompt = str(model.asked[0]["messages"])
    assert all(part in prompt for part in (CLAIM.question, CLAIM.answer, CLAIM.right[0]))
    assert model.asked[0]["model"] == "some"
    assert len(model.asked) == len(says)


@pytest.mark.services
def test_a_judge_that_says_something_else_or_nothing_is_unavailable(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.says = [opinion("perhaps")]
    with pytest.raises(UnavailableError, match=r"score\.judge = 'openai:/some' said neither yes nor no: unknown"):
        MlflowJudge("openai:/some").judge(CLAIM)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UnavailableError, match=r"score\.judge = 'openai:/some' does not answer: .*OPENAI_API_KEY"):
        MlflowJudge("openai:/some").judge(CLAIM)
