"""Notifications through Prefect's blocks: pending approval, rejected candidate, rollback, failure and recovery.

A notifier that does not answer is logged as a warning and fails no run.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import isawaitable
from pathlib import Path
from typing import Any, cast

from httpx import HTTPError
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging import get_logger, get_run_logger
from prefect.utilities.asyncutils import run_coro_as_sync

from ragtide.flows.prefect_server.runs import current_run, deployed_run, run_url
from ragtide.pipelines.errors import UnavailableError, UserError, summarize_error
from ragtide.pipelines.history.history import last_decided_cycle
from ragtide.pipelines.params import NotificationKind, NotifyParams
from ragtide.pipelines.planning.plan import read_plan
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.release import Cycle, Outcome
from ragtide.pipelines.reports.wording import approval_subject, describe_outcome
from ragtide.pipelines.safe_text import mask_secrets
from ragtide.pipelines.workspace import Workspace

MAX_WHY_CHARACTERS = 500
SUBJECTS: dict[NotificationKind, str] = {
    "pending_approval": "Ragtide: an approval is pending",
    "rejected": "Ragtide: the gate rejected a candidate",
    "rolled_back": "Ragtide: an earlier release is live again",
    "failed": "Ragtide: a run failed",
    "recovered": "Ragtide: runs complete again",
}


@dataclass(frozen=True)
class Notification:
    """A message: what happened in one line, why, what to do, and a link to the run."""

    kind: NotificationKind
    line: str
    why: str
    remedy: str
    link: str | None = None

    @property
    def body(self) -> str:
        why = self.why if len(self.why) <= MAX_WHY_CHARACTERS else f"{self.why[:MAX_WHY_CHARACTERS]}…"
        return mask_secrets("\n".join(part for part in (self.line, why, self.remedy, self.link) if part))


def notify_all(params: NotifyParams, notifications: Sequence[Notification]) -> None:
    """Send the kinds in `notify.kinds` to every block of `notify.blocks`. Never raises: failures are logged."""
    for notification in notifications:
        if notification.kind not in params.kinds:
            continue
        for name in params.blocks:
            try:
                send_notification(name, notification)
            except Exception as problem:  # noqa: BLE001 - whatever a notifier does, the run goes on
                reason = summarize_error(problem)
                run_logger().warning("block %s could not send %r: %s", name, notification.line, reason)


def send_notification(block: str, notification: Notification) -> None:
    """Send to one block; raises whatever its notifier raises."""
    notifier = _load(block)
    with notifier.raise_on_failure():
        result: Any = notifier.notify(body=notification.body, subject=SUBJECTS[notification.kind])
        # Prefect's own blocks have sent it by now; blocks of other packages may return a coroutine.
        if isawaitable(result):
            run_coro_as_sync(cast("Coroutine[Any, Any, None]", result))


def check_blocks(params: NotifyParams) -> None:
    """Raise UserError for a block that does not exist in Prefect, or is no notification block."""
    for name in params.blocks:
        _load(name)


def notify_of_cycle(project: Project, cycle: Cycle) -> None:
    """Send the notifications of a completed cycle. Never raises."""
    params = project.workspace.params.notify
    if not params.blocks:
        return
    with _log_user_errors():
        history = project.registry.history()
        earlier = [past for past in history if past.run != cycle.run and not past.is_rollback]
        decided = last_decided_cycle(earlier)
        before = EarlierCycle(earlier[-1] if earlier else None, _plan(project, decided.plan) if decided else None)
        notify_all(params, cycle_notifications(cycle, read_plan(project, cycle.plan), before, run_url(deployed_run())))


@dataclass(frozen=True)
class EarlierCycle:
    """The preceding cycle and plan: what they have reported already is not sent again."""

    cycle: Cycle | None
    plan: Plan | None


def cycle_notifications(cycle: Cycle, plan: Plan, before: EarlierCycle, link: str | None) -> list[Notification]:
    """The notifications that a completed cycle calls for, with `link` to its run."""
    pending = _pending_approval(cycle, plan, before.plan)
    if pending and link:
        pending = replace(pending, remedy=f"{pending.remedy}, or on the page of the run")
    candidates = [_recovery(cycle, before.cycle), _rejection(cycle, plan), pending]
    return [replace(notification, link=link) for notification in candidates if notification]


def _recovery(cycle: Cycle, before: Cycle | None) -> Notification | None:
    if before is None or before.outcome.is_final:
        return None
    line = f"{cycle.name} completed: {describe_outcome(cycle)}"
    return Notification("recovered", line, f"{before.name} had not completed: {describe_outcome(before)}", "")


def _rejection(cycle: Cycle, plan: Plan) -> Notification | None:
    if cycle.outcome is not Outcome.REJECTED:
        return None
    remedy = "The live release is unchanged. The cycle's verdict in MLflow lists the questions that were lost."
    if deleted := plan.evidence.data.delta.documents_deleted - plan.evidence.data.delta.documents_renamed:
        noun = "document remains" if deleted == 1 else "documents remain"
        remedy += f" {deleted} deleted {noun} in the live index until data or params.yaml change."
    line = f"{cycle.name}: the gate rejected the candidate: {cycle.detail}"
    return Notification("rejected", line, f"The decision was {cycle.decision}: {cycle.reason}", remedy)


def _pending_approval(cycle: Cycle, plan: Plan, before: Plan | None) -> Notification | None:
    if not plan.needs_approval:
        return None
    if before and before.needs_approval and before.approval_digest() == plan.approval_digest():
        return None
    what = approval_subject(plan)
    remedy = f"Answer with `ragtide approve {cycle.plan}` or `ragtide reject {cycle.plan} --why TEXT`"
    subject = f"{cycle.name}: approval pending for {what}"
    return Notification("pending_approval", subject, cycle.reason, remedy)


def notify_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect's form
    """Hook of the flow: notify of a run that failed or crashed."""
    with _log_user_errors():
        workspace = Workspace.open(project_folder(flow_run))
        line = f"{flow_run.name} {state.name.lower() if state.name else 'failed'}"
        remedy = "The live release is unchanged and the next run tries again. See docs/runbook.md for what to check."
        notify_all(
            workspace.params.notify, [Notification("failed", line, state.message or "", remedy, run_url(flow_run))]
        )


def notify_rollback(params: NotifyParams, release: str, why: str) -> None:
    """Notify of a rollback to `release`."""
    remedy = "The undone release is not rebuilt from the same data. `ragtide status` shows the live release."
    notify_all(params, [Notification("rolled_back", f"release {release} is live again", why, remedy)])


def _load(name: str) -> NotificationBlock:
    try:
        block = Block.load(name)
    except ValueError as problem:
        remedy = "create it on Prefect's page under Blocks; `prefect block ls` lists the existing ones"
        raise UserError(f"notify.blocks names {name}, which does not exist in Prefect: {remedy}") from problem
    except (HTTPError, RuntimeError) as problem:
        raise UnavailableError(f"block {name} cannot be read from Prefect: {summarize_error(problem)}") from problem
    if not isinstance(block, NotificationBlock):
        raise UserError(f"notify.blocks names {name}, which is a {type(block).__name__} and not a notification block")
    return block


def _plan(project: Project, digest: str) -> Plan | None:
    try:
        return read_plan(project, digest)
    except UserError:
        return None


def project_folder(run: FlowRun) -> Path:
    """A run's project folder: a worker calls hooks elsewhere, so RAGTIDE_PROJECT is used, as in prefect.yaml."""
    named = Path(str((run.parameters or {}).get("project", ".")))
    return named if (named / "params.yaml").is_file() else Path(os.environ.get("RAGTIDE_PROJECT", "."), named)


@contextmanager
def _log_user_errors() -> Iterator[None]:
    try:
        yield
    except UserError as problem:
        run_logger().warning("no notification was sent: %s", problem)


def run_logger() -> Any:
    """The logger of the current run, shown on its page; outside of a run, a logger of Prefect's."""
    return get_run_logger() if current_run() else get_logger(__name__)
