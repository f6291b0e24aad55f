"""Is a person told once, in words that say what to do, and does a notifier that is away stop nothing?"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed

from ragtide.flows.keep_current import keep_current
from ragtide.flows.prefect_server.notifications import (
    EarlierCycle,
    Notification,
    check_blocks,
    cycle_notifications,
    notify_all,
    notify_failure,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import NotifyParams, PolicyParams
from ragtide.pipelines.policy.decide import decide
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.release import Cycle, Outcome
from tests.factories import delta, evidence, write
from tests.flows.cli.test_main import fill, ragtide
from tests.projects import release_of
from tests.servers import free_port

OPS, AWAY = "custom-webhook/ragtide-ops", "custom-webhook/ragtide-away"
SOME = Notification("waits", "cycle-1: REFRESH waits", "it costs", "say yes")
COSTLY = PolicyParams(approve_above_seconds=0)


class Receiver(BaseHTTPRequestHandler):
    """Takes every message, and keeps it."""

    got: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def webhook(name: str, port: int) -> None:
    body = {"subject": "{{subject}}", "body": "{{body}}"}
    url = f"http://127.0.0.1:{port}/hook"
    block = CustomWebhookNotificationBlock(name="Ragtide", url=url, json_data=body)
    block.save(name.partition("/")[2], overwrite=True)


@pytest.fixture(scope="module")
def blocks() -> Iterator[None]:
    """Two blocks of Prefect's: one whose receiver is there, and one whose receiver is not."""
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    webhook(OPS, server.server_port)
    webhook(AWAY, free_port())
    Secret(value="no notifier").save("ragtide-secret", overwrite=True)
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def received(blocks: None) -> list[dict[str, Any]]:
    Receiver.got.clear()
    return Receiver.got


def plan(params: PolicyParams = COSTLY, **signals: Any) -> Plan:
    found = evidence(**signals)
    return Plan(evidence=found, decision=decide(found, params), params="p")


def turn(outcome: str, decision: str = "REFRESH", of: Plan | None = None, detail: str = "") -> Cycle:
    digest = of.content_digest() if of else ""
    at = "2030-01-01T00:00:00+00:00"
    return Cycle(name="cycle-7", run="r7", at=at, detail=detail, reason="it pays", plan=digest, outcome=Outcome(outcome), action=Action.named(decision))


NEVER = EarlierCycle(None, None)
FREE = PolicyParams()


def occasions(cycle: Cycle, of: Plan, before: EarlierCycle = NEVER) -> list[str]:
    return [one.occasion for one in cycle_notifications(cycle, of, before, None)]


def test_what_waits_is_told_with_its_why_and_both_answers() -> None:
    asked = plan()
    [news] = cycle_notifications(turn("held", "HOLD", asked), asked, NEVER, "http://page/run")
    digest = asked.content_digest()
    assert news.body == (
        "cycle-7: REFRESH wait for a yes or a no\nit pays\n"
        f"`ragtide approve {digest}` or `ragtide reject {digest} --why TEXT`, or on the page\nhttp://page/run"
    )


def test_the_same_question_is_told_once() -> None:
    asked, again = plan(), plan(spent_hours=3.0)
    assert asked.content_digest() != again.content_digest()
    assert occasions(turn("held", "HOLD", again), again, EarlierCycle(turn("held", "HOLD", asked), asked)) == []
    other = plan(pending_deletions={"a.md": "1"})
    assert occasions(turn("held", "HOLD", other), other, EarlierCycle(turn("held", "HOLD", asked), asked)) == [
        "waits"
    ]


def test_a_release_is_no_news_and_a_refusal_is() -> None:
    assert occasions(turn("released"), plan(FREE)) == []
    [news] = cycle_notifications(turn("rejected", detail="the score fell by 0.3"), plan(FREE), NEVER, None)
    assert (news.occasion, news.line) == ("refused", "cycle-7: rejected by the gate: the score fell by 0.3")


def test_a_refusal_says_that_what_is_gone_is_still_served() -> None:
    [news] = cycle_notifications(
        turn("rejected"), plan(FREE, delta=delta(documents_deleted=3, documents_renamed=1)), NEVER, None
    )
    assert news.remedy.endswith("Readers still find 2 documents that are gone, until data or params.yaml change.")


@pytest.mark.parametrize("outcome", ["failed", "killed"])
def test_the_first_turn_that_comes_to_its_end_after_one_that_did_not_is_told(outcome: str) -> None:
    assert occasions(turn("released"), plan(FREE), EarlierCycle(turn(outcome), None)) == ["recovered"]
    assert occasions(turn("released"), plan(FREE), EarlierCycle(turn("released"), None)) == []


def test_a_long_why_is_cut() -> None:
    assert len(Notification("failed", "it failed", "because " * 1000, "look").body) < 600


# --- how it is sent -------------------------------------------------------------------------------------------------


def test_a_message_reaches_every_block_that_is_named_and_no_other_occasion_does(received: list[dict[str, Any]]) -> None:
    notify_all(NotifyParams(blocks=[OPS, OPS], about=["waits"]), [SOME])
    assert received == [{"subject": "Ragtide: something waits for a yes or a no", "body": SOME.body}] * 2
    notify_all(NotifyParams(blocks=[OPS], about=["failed"]), [SOME])
    assert len(received) == 2


def test_a_notifier_that_is_away_is_logged_and_the_next_is_told(
    received: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        notify_all(NotifyParams(blocks=[AWAY, "custom-webhook/ragtide-none", OPS]), [SOME])
    assert len(received) == 1
    assert [AWAY in one or "ragtide-none" in one for one in caplog.messages] == [True, True]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("custom-webhook/ragtide-none", "Prefect has no such block"),
        ("no-such-type/ops", "Prefect has no such block"),
        ("secret/ragtide-secret", "is no notification block but a Secret"),
    ],
)
@pytest.mark.usefixtures("blocks")
def test_a_block_that_is_none_is_named(block: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^notify.blocks names {block}.*{said}"):
        check_blocks(NotifyParams(blocks=[OPS, block]))


# --- in a run ------------------------------------------------------------------------------------------------------


def test_a_turn_that_holds_something_back_tells_it_once(
    received: list[dict[str, Any]], make_project: Callable[..., Path]
) -> None:
    root = fill(make_project(policy={"approve_above_seconds": 0}, notify={"blocks": [AWAY, OPS]}))
    first = keep_current(project=str(root))
    assert keep_current(project=str(root)).decision == "HOLD"
    [message] = received
    assert f"`ragtide approve {first.plan}` or `ragtide reject {first.plan} --why TEXT`" in message["body"]


def test_a_run_that_fails_or_crashes_is_told(
    received: list[dict[str, Any]], make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(make_project(notify={"blocks": [OPS]}))
    write(root / "data/golden/questions.jsonl", "no JSON")
    with pytest.raises(UserError):
        keep_current(project=str(root))
    assert received[0]["subject"] == "Ragtide: a run failed"
    assert "questions.jsonl:1: is not JSON" in received[0]["body"]
    # The hook of a worker, which is not in the project's folder.
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("RAGTIDE_PROJECT", str(root))
    run = FlowRun(flow_id="00000000-0000-0000-0000-000000000000", name="keep-current house", parameters={})
    notify_failure(keep_current, run, Crashed(message="SIGKILL"))
    assert received[1]["body"].startswith("keep-current house crashed\nSIGKILL\n")


def test_going_back_is_told(received: list[dict[str, Any]], make_project: Callable[..., Path]) -> None:
    root = fill(make_project(notify={"blocks": [OPS]}))
    project = Project.open(root, no_progress)
    for _ in range(2):
        release_of(project, project.current_model(None))
    assert ragtide("rollback", "--why", "it was wrong", "-p", str(root))[0] == 0
    [message] = received
    assert message["body"].startswith("release 1 is live again\nit was wrong\n")


def test_notify_lists_who_is_told_and_sends_a_test(
    received: list[dict[str, Any]], make_project: Callable[..., Path]
) -> None:
    root = fill(make_project(notify={"blocks": [OPS], "about": ["failed"]}))
    assert ragtide("notify", "-p", str(root))[:2] == (0, f"{OPS}: told of failed\n")
    assert received == []
    assert ragtide("notify", "--test", "-p", str(root))[1].endswith(f"{OPS}: sent\n")
    assert len(received) == 1


@pytest.mark.usefixtures("blocks")
def test_a_block_that_does_not_exist_or_does_not_answer_is_one_line(make_project: Callable[..., Path]) -> None:
    root = fill(make_project("none", notify={"blocks": ["custom-webhook/ragtide-none"]}))
    for command in ("run", "notify"):
        code, _, err = ragtide(command, "-p", str(root))
        assert (code, err.count("\n")) == (1, 1)
        assert "Prefect has no such block" in err
    assert not (root / ".ragtide/plans").exists()
    root = fill(make_project("away", notify={"blocks": [AWAY]}))
    code, _, err = ragtide("notify", "--test", "-p", str(root))
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"ragtide: {AWAY} did not take the message: ")
