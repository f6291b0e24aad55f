"""The whole loop on one screen: observe, decide, build, prove, publish."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows import asking, metrics, notify, tasks
from flows.progress import bars
from flows.runs import named
from pipelines.publish.project import Project
from pipelines.records import Cycle


@flow(
    name="keep-current",
    flow_run_name=named("keep-current"),
    persist_result=False,
    validate_parameters=True,
    on_failure=[notify.on_failure, metrics.on_failure],
    on_crashed=[notify.on_failure, metrics.on_failure],
)
def keep_current(project: str = ".", plan: str | None = None, revision: str | None = None) -> Cycle:
    """Bring the live release up to the data, if the evidence says that it is worth it.

    `project` is the project's folder. `plan` is the digest of a plan that `ragtide plan` printed: exactly that is
    carried out, or nothing where the world has moved since. `revision` is what a trigger says that the data is at:
    it is written down, and what is in the folders counts. Returns what was decided and what came of it; a deployed run
    that holds something back is suspended until a person has answered, and begins anew then.
    """
    opened = Project.open(Path(project), bars)
    with tasks.cycle(opened, revision) as turn:
        answered = asking.write_down_answer(opened)
        cycle = _turn(turn, None if answered else plan)
    metrics.write(opened)
    notify.tell_of_turn(opened, cycle)
    asking.ask(opened, cycle)
    return cycle


def _turn(turn: tasks.Turn, plan: str | None) -> Cycle:
    snapshot = tasks.observe(turn, plan)
    decided = tasks.decide(turn, snapshot, plan)
    if not decided.decision.action.builds:
        return tasks.conclude(turn, decided, None, None)

    retriever = tasks.tune_retriever(turn, snapshot, decided)
    index = tasks.refresh_index(turn, snapshot, decided, retriever)
    model = tasks.retrain_model(turn, snapshot, decided, index)

    verdict = tasks.prove(turn, snapshot, decided, index, model)
    release = tasks.publish(turn, snapshot, decided, index, model, verdict) if verdict.accepted else None
    tasks.maintain(turn)
    return tasks.conclude(turn, decided, verdict, release)
