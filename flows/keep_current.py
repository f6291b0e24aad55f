"""The whole loop on one screen: observe, decide, build, prove, publish."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from ragtide.flows import tasks
from ragtide.flows.prefect_server import approvals, metrics, notifications
from ragtide.flows.prefect_server.runs import run_name_for
from ragtide.flows.progress import progress_bars
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
    """Bring the live release up to the data, if the evidence says that it is worth it.

    `project` is the project's folder. `plan` is the digest of a plan that `ragtide plan` printed: exactly that is
    carried out, or nothing where the world has moved since. `revision` is what a trigger says that the data is at:
    it is written down, and what is in the folders counts. Returns what was decided and what came of it; a deployed run
    that holds something back is suspended until a person has answered, and begins anew then.
    """
    opened = Project.open(Path(project), progress_bars)
    with tasks.open_cycle(opened, revision) as turn:
        answered = approvals.record_answer(opened)
        cycle = _turn(turn, None if answered else plan)
    metrics.write_metrics(opened)
    notifications.notify_of_cycle(opened, cycle)
    approvals.request_approval(opened, cycle)
    return cycle


def _turn(turn: tasks.CycleContext, plan: str | None) -> Cycle:
    snapshot = tasks.observe(turn, plan)
    decided = tasks.decide(turn, snapshot, plan)
    if not decided.decision.action.builds:
        return tasks.conclude(turn, decided, None, None)

    retriever = tasks.tune_embedder(turn, snapshot, decided)
    index = tasks.refresh_index(turn, snapshot, decided, retriever)
    model = tasks.retrain_model(turn, snapshot, decided, index)

    verdict = tasks.prove(turn, snapshot, decided, index, model)
    release = tasks.publish(turn, snapshot, decided, index, model, verdict) if verdict.accepted else None
    tasks.run_maintenance(turn)
    return tasks.conclude(turn, decided, verdict, release)
