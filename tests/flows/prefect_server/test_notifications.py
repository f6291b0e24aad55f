"""Tests of notifications: each event is reported once, and a notifier that is down stops nothing."""

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
    SUBJECTS,
    EarlierCycle,
    Notification,
    check_blocks,
    cycle_notifications,
    notify_all,
    notify_failure,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import NotifyParams, PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.release import Cycle, Outcome
from tests.factories import delta, evidence, write
from tests.flows.cli.commands import fill, ragtide
from tests.projects import release_of
from tests.servers import free_port

OPS, DOWN = "custom-webhook/ragtide-ops", "custom-webhook/ragtide-down"
PENDING = Notification("pending_approval", "cycle-1: approval pending for REFRESH", "it is costly", "approve it")
COSTLY = PolicyParams(approve_above_seconds=0)


class Receiver(BaseHTTPRequestHandler):
    """Accepts every message and keeps it."""

    messages: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
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
    """Two blocks: one whose receiver answers, one whose receiver does not. And one that is no notifier."""
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    webhook(OPS, server.server_port)
    webhook(DOWN, free_port())
    Secret(value="no notifier").save("ragtide-secret", overwrite=True)
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def received(blocks: None) -> list[dict[str, Any]]:
    Receiver.messages.clear()
    return Receiver.messages


def plan(params: PolicyParams = COSTLY, **signals: Any) -> Plan:
    found = evidence(**signals)
    return Plan(evidence=found, decision=make_decision(found, params), params="p")


def make_cycle(outcome: str, decision: str = "REFRESH", applied: Plan | None = None, detail: str = "") -> Cycle:
    digest = applied.content_digest() if applied else ""
    at = "2030-01-01T00:00:00+00:00"
    return Cycle(
        name="cycle-7",
        run="r7",
        at=at,
        detail=detail,
        reason="it pays",
        plan=digest,
        outcome=Outcome(outcome),
        action=Action.named(decision),
    )


NO_EARLIER = EarlierCycle(None, None)
FREE = PolicyParams()


def kinds(cycle: Cycle, applied: Plan, before: EarlierCycle = NO_EARLIER) -> list[str]:
    return [notification.kind for notification in cycle_notifications(cycle, applied, before, None)]


def test_a_pending_approval_has_its_reason_both_answers_and_a_link() -> None:
    pending = plan()
    cycle = make_cycle("held", "HOLD", pending)
    [notification] = cycle_notifications(cycle, pending, NO_EARLIER, "http://page/run")
    digest = pending.content_digest()
    assert notification.kind == "pending_approval"
    assert "cycle-7" in notification.line
    assert "REFRESH" in notification.line
    assert notification.why == "it pays"
    assert f"`ragtide approve {digest}`" in notification.remedy
    assert f"`ragtide reject {digest} --why TEXT`" in notification.remedy
    assert notification.body.endswith("\nhttp://page/run")


def test_the_same_approval_is_reported_once() -> None:
    before, same, other = plan(), plan(spent_hours=3.0), plan(pending_deletions={"a.md": "1"})
    assert before.content_digest() != same.content_digest()
    earlier = EarlierCycle(make_cycle("held", "HOLD", before), before)
    assert kinds(make_cycle("held", "HOLD", same), same, earlier) == []
    assert kinds(make_cycle("held", "HOLD", other), other, earlier) == ["pending_approval"]


def test_a_release_is_not_reported_and_a_rejection_is() -> None:
    assert kinds(make_cycle("released"), plan(FREE)) == []
    rejected = make_cycle("rejected", detail="the score fell by 0.3")
    [notification] = cycle_notifications(rejected, plan(FREE), NO_EARLIER, None)
    assert notification.kind == "rejected"
    assert notification.line.endswith(": the score fell by 0.3")


def test_a_rejection_counts_the_deleted_documents_that_are_still_live() -> None:
    held = plan(FREE, delta=delta(documents_deleted=3, documents_renamed=1))
    [notification] = cycle_notifications(make_cycle("rejected", detail="the score fell"), held, NO_EARLIER, None)
    assert "2 deleted documents" in notification.remedy


@pytest.mark.parametrize("outcome", ["failed", "killed"])
def test_the_first_completed_cycle_after_a_failed_one_is_reported(outcome: str) -> None:
    assert kinds(make_cycle("released"), plan(FREE), EarlierCycle(make_cycle(outcome), None)) == ["recovered"]
    assert kinds(make_cycle("released"), plan(FREE), EarlierCycle(make_cycle("released"), None)) == []


def test_a_long_reason_is_shortened() -> None:
    assert len(Notification("failed", "it failed", "because " * 1000, "look").body) < 600


# --- delivery -------------------------------------------------------------------------------------------------------


def test_every_block_gets_the_kinds_of_notify_kinds_only(received: list[dict[str, Any]]) -> None:
    notify_all(NotifyParams(blocks=[OPS, OPS], kinds=["pending_approval"]), [PENDING])
    assert received == [{"subject": SUBJECTS["pending_approval"], "body": PENDING.body}] * 2
    notify_all(NotifyParams(blocks=[OPS], kinds=["failed"]), [PENDING])
    assert len(received) == 2


def test_a_notifier_that_is_down_is_logged_and_the_next_one_is_used(
    received: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        notify_all(NotifyParams(blocks=[DOWN, "custom-webhook/ragtide-none", OPS]), [PENDING])
    assert len(received) == 1
    assert [DOWN in line or "ragtide-none" in line for line in caplog.messages] == [True, True]


@pytest.mark.parametrize(
    ("block", "fragment"),
    [("custom-webhook/ragtide-none", ""), ("no-such-type/ops", ""), ("secret/ragtide-secret", "a Secret")],
)
@pytest.mark.usefixtures("blocks")
def test_an_unusable_block_is_named(block: str, fragment: str) -> None:
    with pytest.raises(UserError, match=f"{block}.*{fragment}"):
        check_blocks(NotifyParams(blocks=[OPS, block]))


# --- in a run ------------------------------------------------------------------------------------------------------


def test_a_cycle_with_a_pending_approval_reports_it_once(
    received: list[dict[str, Any]], make_project: Callable[..., Path]
) -> None:
    root = fill(make_project(policy={"approve_above_seconds": 0}, notify={"blocks": [DOWN, OPS]}))
    first = keep_current(project=str(root))
    assert keep_current(project=str(root)).decision == "HOLD"
    [message] = received
    assert f"`ragtide approve {first.plan}` or `ragtide reject {first.plan} --why TEXT`" in message["body"]


def test_a_run_that_fails_or_crashes_is_reported(
    received: list[dict[str, Any]], make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(make_project(notify={"blocks": [OPS]}))
    write(root / "data/golden/questions.jsonl", "no JSON")
    with pytest.raises(UserError):
        keep_current(project=str(root))
    assert received[0]["subject"] == SUBJECTS["failed"]
    assert "questions.jsonl:1" in received[0]["body"]
    # A worker does not call the hook in the project's folder.
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("RAGTIDE_PROJECT", str(root))
    run = FlowRun(flow_id="00000000-0000-0000-0000-000000000000", name="keep-current house", parameters={})
    notify_failure(keep_current, run, Crashed(message="SIGKILL"))
    assert received[1]["body"].startswith("keep-current house crashed\nSIGKILL\n")


def test_a_rollback_is_reported(received: list[dict[str, Any]], make_project: Callable[..., Path]) -> None:
    root = fill(make_project(notify={"blocks": [OPS]}))
    project = Project.open(root, no_progress)
    for _ in range(2):
        release_of(project, project.current_model(None))
    assert ragtide("rollback", "--why", "it was wrong", "-p", str(root))[0] == 0
    [message] = received
    assert message["subject"] == SUBJECTS["rolled_back"]
    assert "\nit was wrong\n" in message["body"]


def test_notify_lists_the_blocks_and_sends_a_test(
    received: list[dict[str, Any]], make_project: Callable[..., Path]
) -> None:
    root = fill(make_project(notify={"blocks": [OPS], "kinds": ["failed"]}))
    code, out, _ = ragtide("notify", "-p", str(root))
    assert (code, OPS in out, "failed" in out) == (0, True, True)
    assert received == []
    assert ragtide("notify", "--test", "-p", str(root))[0] == 0
    assert len(received) == 1


@pytest.mark.usefixtures("blocks")
def test_a_block_that_does_not_exist_or_does_not_answer_is_reported_in_one_line(
    make_project: Callable[..., Path],
) -> None:
    root = fill(make_project("none", notify={"blocks": ["custom-webhook/ragtide-none"]}))
    for command in ("run", "notify"):
        code, _, err = ragtide(command, "-p", str(root))
        assert (code, err.count("\n")) == (1, 1)
        assert "custom-webhook/ragtide-none" in err
    assert not (root / ".ragtide/plans").exists()
    root = fill(make_project("away", notify={"blocks": [DOWN]}))
    code, _, err = ragtide("notify", "--test", "-p", str(root))
    assert (code, err.count("\n")) == (1, 1)
    assert DOWN in err
