"""The whole loop on one screen: observe, decide, build, prove, publish."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows import tasks
from flows.progress import bars
from pipelines.publish.project import Project
from pipelines.records import Cycle


@flow(name="keep-current", flow_run_name="keep-current {project}", persist_result=False, validate_parameters=True)
def keep_current(project: str = ".", plan: str | None = None, revision: str | None = None) -> Cycle:
    """Bring the live release up to the data, if the evidence says that it is worth it.

    `project` is the project's folder. `plan` is the digest of a plan that `ragtide plan` printed: exactly that is
    carried out, or nothing where the world has moved since. `revision` is what a trigger says that the data is at:
    it is written down, and what is in the folders counts. Returns what was decided and what came of it.
    """
    with tasks.cycle(Project.open(Path(project), bars), revision) as turn:
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
