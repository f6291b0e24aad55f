"""Who is told that something waits, was refused, was taken back or failed? Prefect's notification blocks.

A notifier that is away is a line in the log: it fails no run.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from ragtide.pipelines.reports.wording import describe_outcome
from ragtide.pipelines.workspace import Workspace

LONGEST_WHY = 500
SUBJECTS: dict[NotificationKind, str] = {
    "waits": "Ragtide: something waits for a yes or a no",
    "refused": "Ragtide: the gate refused a candidate",
    "rolled_back": "Ragtide: an earlier release is live again",
    "failed": "Ragtide: a run failed",
    "recovered": "Ragtide: runs come to their end again",
}


@dataclass(frozen=True)
class Notification:
    """What is told: one line, why, what to do, and where to look."""

    occasion: NotificationKind
    line: str
    why: str
    remedy: str
    link: str | None = None

    @property
    def body(self) -> str:
        why = self.why if len(self.why) <= LONGEST_WHY else f"{self.why[:LONGEST_WHY]}…"
        return "\n".join(part for part in (self.line, why, self.remedy, self.link) if part)


def notify_all(params: NotifyParams, news: Sequence[Notification]) -> None:
    """Send what `notify.kinds` names to every block of `notify.blocks`. Never raises: what went wrong is logged."""
    for one in news:
        if one.occasion not in params.kinds:
            continue
        for name in params.blocks:
            try:
                send_notification(name, one)
            except Exception as problem:  # noqa: BLE001 - whatever a notifier does, the run goes on
                run_logger().warning("%s was not told that %s: %s", name, one.line, summarize_error(problem))


def send_notification(block: str, news: Notification) -> None:
    """Send to one block; raises whatever goes wrong on the way."""
    notifier = _load(block)
    with notifier.raise_on_failure():
        done: Any = notifier.notify(body=news.body, subject=SUBJECTS[news.occasion])
        # Prefect's own blocks are done by now; one of another package may know no other way than asyncio.
        if isawaitable(done):
            run_coro_as_sync(cast("Coroutine[Any, Any, None]", done))


def check_blocks(params: NotifyParams) -> None:
    """Raise RefusalError for a block that Prefect does not have, or that notifies nobody."""
    for name in params.blocks:
        _load(name)


def notify_of_cycle(project: Project, cycle: Cycle) -> None:
    """What a turn has to tell, when it has come to its end. Never raises."""
    params = project.workspace.params.notify
    if not params.blocks:
        return
    with _logged():
        earlier = [one for one in project.registry.history() if one.run != cycle.run and not one.is_rollback]
        judged = last_decided_cycle(earlier)
        before = EarlierCycle(earlier[-1] if earlier else None, _plan(project, judged.plan) if judged else None)
        notify_all(params, cycle_notifications(cycle, read_plan(project, cycle.plan), before, run_url(deployed_run())))


@dataclass(frozen=True)
class EarlierCycle:
    """The turn before this one, and the plan before this one's: what was told then is not told again."""

    cycle: Cycle | None
    plan: Plan | None


def cycle_notifications(cycle: Cycle, plan: Plan, before: EarlierCycle, link: str | None) -> list[Notification]:
    """What is worth a message of a turn that came to its end."""
    found: list[Notification] = []
    if before.cycle and not before.cycle.outcome.is_final:
        line = f"{cycle.name} came to its end again: {describe_outcome(cycle)}"
        why = f"{before.cycle.name} had not: {describe_outcome(before.cycle)}"
        found.append(Notification("recovered", line, why, "", link))
    if cycle.outcome is Outcome.REJECTED:
        line = f"{cycle.name}: {describe_outcome(cycle)}"
        remedy = "The live release stays. The turn's verdict in MLflow says which questions were lost."
        if gone := plan.evidence.delta.documents_deleted - plan.evidence.delta.documents_renamed:
            remedy += f" Readers still find {gone} documents that are gone, until data or params.yaml change."
        found.append(Notification("refused", line, f"It was to {cycle.decision}: {cycle.reason}", remedy, link))
    if plan.needs_approval and not (
        before.plan and before.plan.needs_approval and before.plan.approval_digest() == plan.approval_digest()
    ):
        what = [f"{len(plan.deletions_to_approve)} removals"] if plan.deletions_to_approve else []
        what += [str(plan.decision.proposed)] if plan.decision.proposed else []
        line = f"{cycle.name}: {' and '.join(what)} wait for a yes or a no"
        answer = f"`ragtide approve {cycle.plan}` or `ragtide reject {cycle.plan} --why TEXT`"
        found.append(Notification("waits", line, cycle.reason, f"{answer}{', or on the page' if link else ''}", link))
    return found


def notify_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect's form
    """Prefect's hook for a run that failed or crashed."""
    with _logged():
        workspace = Workspace.open(project_folder(flow_run))
        line = f"{flow_run.name} {state.name.lower() if state.name else 'failed'}"
        remedy = "The live release stays. The next run tries again; docs/runbook.md says what to look at."
        notify_all(
            workspace.params.notify, [Notification("failed", line, state.message or "", remedy, run_url(flow_run))]
        )


def notify_rollback(params: NotifyParams, release: str, why: str) -> None:
    """Tell that a release was gone back to."""
    remedy = "The same data does not bring back what was taken back; `ragtide status` says what is live."
    notify_all(params, [Notification("rolled_back", f"release {release} is live again", why, remedy)])


def _load(name: str) -> NotificationBlock:
    try:
        block = Block.load(name)
    except ValueError as problem:
        how = "Prefect's page makes one under Blocks, `prefect block ls` lists them"
        raise UserError(f"notify.blocks names {name}, and Prefect has no such block: {how}") from problem
    except (HTTPError, RuntimeError) as problem:
        raise UnavailableError(f"block {name} cannot be looked up: {summarize_error(problem)}") from problem
    if not isinstance(block, NotificationBlock):
        raise UserError(f"notify.blocks names {name}, which is no notification block but a {type(block).__name__}")
    return block


def _plan(project: Project, digest: str) -> Plan | None:
    try:
        return read_plan(project, digest)
    except UserError:
        return None


def project_folder(run: FlowRun) -> Path:
    """A run's project. A hook of a worker is not called in its folder: RAGTIDE_PROJECT is what prefect.yaml goes by."""
    named = Path(str((run.parameters or {}).get("project", ".")))
    return named if (named / "params.yaml").is_file() else Path(os.environ.get("RAGTIDE_PROJECT", "."), named)


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except UserError as problem:
        run_logger().warning("nobody was told: %s", problem)


def run_logger() -> Any:
    """The run's own log, which its page shows; outside of a run, Prefect's."""
    return get_run_logger() if current_run() else get_logger(__name__)
