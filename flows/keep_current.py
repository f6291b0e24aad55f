"""The whole loop on one screen: observe, decide, build, prove, publish."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from ragtide.flows import tasks
from ragtide.flows.environment import apply_offline_defaults
from ragtide.flows.prefect_server import approvals, metrics, notifications
from ragtide.flows.prefect_server.runs import run_name_for, watch_signals_of_deployed_run
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.disk import RUN_BYTES, require_space
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import Cycle


@flow(
    name="keep-current",
    flow_run_name=run_name_for("keep-current"),
    persist_result=False,
    validate_parameters=True,
    on_failure=[notifications.notify_failure, metrics.record_failure],
    on_crashed=[notifications.notify_failure, metrics.record_failure],
)
def keep_current(project: str = ".", plan: str | None = None, revision: str | None = None) -> Cycle:
    """Make the live release current with the data, where the evidence says that it is worth its cost.

    `project` is the project's folder. `plan` is the digest of a plan that `ragtide plan` printed: exactly that is
    carried out, and it fails where data, params or the live release changed since. `revision` is the data revision that
    a trigger named: it is recorded, and what is in the folders counts. Returns the decision and its outcome; a deployed
    run that holds something back is suspended until a person has answered, and starts over then.
    """
    apply_offline_defaults(project)
    watch_signals_of_deployed_run()
    opened = Project.open(Path(project), progress_bars)
    require_space(opened.workspace.state, RUN_BYTES, "a run")
    with tasks.open_cycle(opened, revision) as cycle:
        answered = approvals.record_answer(opened)
        recorded = _run_cycle(cycle, None if answered else plan)
    metrics.write_metrics(opened)
    notifications.notify_of_cycle(opened, recorded)
    approvals.request_approval(opened, recorded)
    return recorded


def _run_cycle(cycle: tasks.CycleContext, plan: str | None) -> Cycle:
    snapshot = tasks.observe(cycle, plan)
    decided = tasks.decide(cycle, snapshot, plan)
    if not decided.decision.action.builds:
        return tasks.conclude(cycle, decided, None, None)

    embedder = tasks.tune_embedder(cycle, snapshot, decided)
    index = tasks.refresh_index(cycle, snapshot, decided, embedder)
    model = tasks.retrain_model(cycle, snapshot, decided, index)

    verdict = tasks.prove(cycle, snapshot, decided, index, model)
    while not verdict.accepted and tasks.withhold(cycle, snapshot, decided, verdict):
        index = tasks.refresh_index(cycle, snapshot, decided, embedder)
        verdict = tasks.prove(cycle, snapshot, decided, index, model)
    release = tasks.publish(cycle, snapshot, decided, index, model, verdict) if verdict.accepted else None
    tasks.run_maintenance(cycle)
    return tasks.conclude(cycle, decided, verdict, release)
