"""The whole loop on one screen: observe, decide, build, prove, publish."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from ragtide.flows import tasks
from ragtide.flows.conclusion import conclude, record_part
from ragtide.flows.cycle_context import CycleContext, open_cycle
from ragtide.flows.environment import apply_offline_defaults
from ragtide.flows.prefect_server import approvals, metrics, notifications
from ragtide.flows.prefect_server.runs import run_name_for, watch_signals_of_deployed_run
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.disk import RUN_BYTES, require_space
from ragtide.pipelines.planning.by_hand import Request
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.release.proof import Proof


@flow(
    name="keep-current",
    flow_run_name=run_name_for("keep-current"),
    persist_result=False,
    validate_parameters=True,
    on_failure=[notifications.notify_failure, metrics.record_failure],
    on_crashed=[notifications.notify_failure, metrics.record_failure],
)
def keep_current(
    project: str = ".", plan: str | None = None, revision: str | None = None, request: Request | None = None
) -> Cycle:
    """Make the live release current with the data, where the evidence says that it is worth its cost.

    `project` is the project's folder. `plan` is the digest of a plan that `ragtide plan` printed: exactly that is
    carried out, and it fails where data, params or the live release changed since. `revision` is the data revision that
    a trigger named: it is recorded, and what is in the folders counts. `request` is an action that a person asks for by
    hand. Returns the decision and its outcome; a deployed run that holds something back is suspended until a person has
    answered, and starts over then.
    """
    apply_offline_defaults(project)
    watch_signals_of_deployed_run()
    opened = Project.open(Path(project), progress_bars)
    require_space(opened.workspace.state, RUN_BYTES, "a run")
    with open_cycle(opened, revision) as cycle:
        answered = approvals.record_answer(opened)
        recorded = _run_cycle(cycle, None if answered else plan, request)
    metrics.write_metrics(opened)
    notifications.notify_of_cycle(opened, recorded)
    approvals.request_approval(opened, recorded)
    return recorded


def _run_cycle(cycle: CycleContext, plan: str | None, request: Request | None) -> Cycle:
    snapshot = tasks.observe(cycle, plan)
    decided = tasks.decide(cycle, snapshot, plan, request)
    # The index goes live before an embedder or a model is trained: what the documents say does not wait for that.
    for part in decided.decision.action.parts:
        _carry_out(cycle, snapshot, decided, part)
    if cycle.waits_for_a_person:
        # The gate lost answers to documents that now wait, and nothing else changed: this plan asks for them.
        decided = tasks.decide(cycle, snapshot, None)
    if cycle.outcomes:
        tasks.run_maintenance(cycle)
    return conclude(cycle, decided)


def _carry_out(cycle: CycleContext, snapshot: Snapshot, plan: Plan, part: Action) -> None:
    """Build, prove and publish one part of the action as a release of its own."""
    if cycle.live is None and not part.refreshes:
        return
    if part.tunes and not tasks.confirm_tuning(cycle, snapshot, plan):
        return
    if part == Action.REMOVE:
        if removal := tasks.remove_deleted(cycle, snapshot):
            _release(cycle, snapshot, plan, part, removal)
        return
    embedder = tasks.tune_embedder(cycle, snapshot) if part.tunes else cycle.tuned_embedder
    index = tasks.refresh_index(cycle, snapshot, plan, embedder) if part.refreshes else tasks.keep_index(cycle)
    model = tasks.retrain_model(cycle, snapshot, index) if part.retrains else tasks.keep_model(cycle, part)

    proof = tasks.prove(cycle, snapshot, part, index, model)
    while part.refreshes and not proof.accepted and tasks.withhold(cycle, snapshot, part, proof.verdict):
        index = tasks.refresh_index(cycle, snapshot, plan, embedder)
        proof = tasks.prove(cycle, snapshot, part, index, model)
    # What was deleted leaves the live index whether or not the gate accepts what is new; and what is new answers for
    # itself alone then, not for the answers that went with the deleted documents.
    if part.refreshes and not proof.accepted and (removal := tasks.remove_deleted(cycle, snapshot)):
        _release(cycle, snapshot, plan, Action.REMOVE, removal)
        proof = tasks.prove(cycle, snapshot, part, index, model)
    _release(cycle, snapshot, plan, part, proof)


def _release(cycle: CycleContext, snapshot: Snapshot, plan: Plan, part: Action, proof: Proof) -> None:
    """Publish what the gate accepted, and record the outcome of the part either way."""
    release = tasks.publish(cycle, snapshot, proof) if proof.accepted else None
    record_part(cycle, plan, part, proof, release)
