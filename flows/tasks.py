"""Steps of the loop: thin Prefect tasks that open their MLflow run, call the pipelines, log and return.

A task is a step, never a document: Prefect's fixed cost is 16 ms a task. Inputs are live objects, so nothing is
cached or persisted by Prefect; what must survive a kill is in LanceDB, DVC and MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from ragtide.flows.cycle_log import (
    StepLogs,
    freshness_metrics,
    log_decision,
    log_imports,
    log_inputs,
    log_issues,
    log_training,
    log_verdict,
)
from ragtide.flows.prefect_server.artifacts import rename_run
from ragtide.flows.prefect_server.notifications import run_logger
from ragtide.flows.prefect_server.queue import RunQueue, answer_queued, coalesce_queue
from ragtide.flows.prefect_server.runs import current_run, run_url
from ragtide.pipelines.build import (
    build_index,
    build_model,
    require_index_space,
    write_index_artifact,
    write_model_artifact,
)
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.data.dvc import check_stages, commit_stages
from ragtide.pipelines.data.imports import update_imports
from ragtide.pipelines.data.snapshot import record_snapshot, take_snapshot
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.evaluation.attribution import choose_withheld
from ragtide.pipelines.evaluation.gate import allowed_losses
from ragtide.pipelines.history import costs
from ragtide.pipelines.history.approvals import consume_approvals, is_action_approved
from ragtide.pipelines.history.history import ACTION_SECONDS
from ragtide.pipelines.history.withheld import (
    read_withheld,
    release_documents,
    withhold_documents,
    write_withheld,
)
from ragtide.pipelines.lease import Lease
from ragtide.pipelines.planning.plan import load_current_plan, save_plan
from ragtide.pipelines.planning.reuse import make_current_plan
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot, WithheldDocument
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evaluation import Verdict
from ragtide.pipelines.records.release import (
    BuiltEmbedder,
    BuiltIndex,
    BuiltModel,
    Candidate,
    Cycle,
    MaintenanceStep,
    Outcome,
    Release,
)
from ragtide.pipelines.registry.backup import back_up
from ragtide.pipelines.registry.releases import EMBEDDER_FOLDER
from ragtide.pipelines.registry.runs import RunLog
from ragtide.pipelines.release.cleanup import maintain_project
from ragtide.pipelines.release.lineage import DeletedDocuments, flag_releases, releases_to_flag
from ragtide.pipelines.release.proof import prove_candidate
from ragtide.pipelines.release.publish import publish_candidate
from ragtide.pipelines.reports.data import maintenance_markdown, withheld_markdown
from ragtide.pipelines.reports.markdown import list_some
from ragtide.pipelines.reports.verdict import failed_checks
from ragtide.pipelines.training.embedder_tuning import build_embedder
from ragtide.pipelines.training.pairs import build_pairs
from ragtide.pipelines.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")
# A deployed run that has waited this long for the project fails, and the next trigger starts another.
WAIT_SECONDS = 6 * 3600.0
# Documents that are withheld at once, at most: more of them show a fault of the golden set, or of the whole change.
MOST_WITHHELD = 50
# The seconds of an action, step by step.
_SECONDS = (costs.TUNE_SECONDS, costs.INDEX_SECONDS, costs.TRAIN_SECONDS, costs.PROVE_SECONDS)


@dataclass
class CycleContext:
    """One cycle: the project, its MLflow run, the live release, the data once it has been read, and the work done.

    `withheld_before` is the list of withheld documents at the start, once the cycle has withheld others.
    """

    project: Project
    log: RunLog
    lease: Lease
    live: Release | None
    corpora: dict[str, Corpus] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    withheld_before: tuple[WithheldDocument, ...] | None = None

    def logs(self, step: RunLog) -> StepLogs:
        """The logs of a step, which add its work to that of the cycle."""
        return StepLogs(step, self.log, self.work)

    def read(self, snapshot: Snapshot) -> Corpus:
        """The corpus of a snapshot, read once a cycle."""
        if snapshot.id not in self.corpora:
            self.corpora[snapshot.id] = self.project.corpus(snapshot, keep=True)
        return self.corpora[snapshot.id]


@contextmanager
def open_cycle(project: Project, revision: str | None = None) -> Iterator[CycleContext]:
    """Hold the project for writing and open the cycle's MLflow run, with the `revision` that a trigger named."""
    with (
        coalesce_queue() as queue,
        _write_lease(project.workspace, queue) as lease,
        answer_queued(queue),
        project.registry.cycle() as log,
    ):
        log.tags({"trigger_rev": revision} if revision else {})
        log.tags({"prefect_run": address} if (address := run_url(current_run())) else {})
        log.params(project.workspace.params.model_dump(mode="json"))
        _close_killed(project, log)
        yield CycleContext(project, log, lease, project.registry.champion())


def _close_killed(project: Project, log: RunLog) -> None:
    """Cycles recorded as running were killed: this one holds the project, and no rollback holds the pointer."""
    with project.registry.pointer_lock():
        for cycle in project.registry.running_cycles():
            if cycle.run != log.id:
                project.registry.close_killed(cycle)


def _write_lease(workspace: Workspace, queue: RunQueue | None) -> AbstractContextManager[Lease]:
    """A deployed run waits for the writer at work; a command fails at once."""
    if queue is None:
        return workspace.write_lock()
    return workspace.write_lock(WAIT_SECONDS, f"flow run {queue.name}", get_run_logger().warning)


def _is_retryable(_task: Any, _run: Any, state: Any) -> bool:
    """A user error stays one; anything else (a lock, a store that does not answer) may pass."""
    problem = state.result(raise_on_failure=False)
    return isinstance(problem, UnavailableError) or not isinstance(problem, UserError)


def step(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A Prefect task with the retries and the time limit that every step has."""

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        decorate: Any = task(
            name=name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=2,
            retry_delay_seconds=[2, 10],
            retry_condition_fn=_is_retryable,
            timeout_seconds=7200,
        )
        return cast("Callable[P, R]", decorate(function))

    return wrap


@step("observe")
def observe(cycle: CycleContext, plan: str | None) -> Snapshot:
    """Record the data folders as a snapshot, versioned by DVC; with a plan's digest, only where it is still current."""
    project = cycle.project
    with project.registry.step("observe", cycle.log) as log:
        if plan:
            load_current_plan(project, plan, take_snapshot(project.workspace))
        elif project.workspace.params.triggers.update_imports and not is_action_approved(project.workspace):
            log_imports(cycle.log, update_imports(project.workspace))
        check_stages(project.workspace)
        snapshot = record_snapshot(project.workspace)
        log.record("snapshot.json", snapshot)
        log.metrics({"documents": len(snapshot.documents)})
        log.datasets(snapshot)
        cycle.log.datasets(snapshot)
        cycle.log.tags({"data_rev": snapshot.id, "params": project.workspace.params.digest()})
        cycle.log.metrics(freshness_metrics(project, cycle.live, snapshot))
        return snapshot


@step("decide")
def decide(cycle: CycleContext, snapshot: Snapshot, plan: str | None) -> Plan:
    """Make a plan from the evidence, or load the one that is to be carried out, and log its decision."""
    project = cycle.project
    with project.registry.step("decide", cycle.log) as log:
        if plan:
            decided = load_current_plan(project, plan, snapshot, cycle.read(snapshot).knowledge.held)
        else:
            decided = log_inputs(cycle.log, make_current_plan(project, snapshot, cycle.read))
        deleted = DeletedDocuments(project.workspace, snapshot, decided.evidence.data.pending_deletions)
        flag_releases(project, releases_to_flag(project, decided.evidence), deleted)
        log_decision(project, cycle.logs(log), decided, save_plan(project, decided))
        log_issues(cycle.log, cycle.corpora.get(snapshot.id))
        return decided


@step("tune-embedder")
def tune_embedder(cycle: CycleContext, snapshot: Snapshot, plan: Plan) -> BuiltEmbedder | None:
    """Tune the embedder on the snapshot's pairs, or keep the live one where the plan does not call for it."""
    project, live = cycle.project, cycle.live
    if not plan.decision.action.tunes or live is None:
        return live.index.tuned_embedder if live else None
    with project.registry.step("tune-embedder", cycle.log) as log:
        corpus, retriever = cycle.read(snapshot), project.retriever(live.index, live.index_tag)
        pairs = build_pairs(corpus.knowledge.chunks_by_document, corpus.training.examples, corpus.training.golden)
        built = build_embedder(project.workspace, pairs, retriever, project.progress)
        # Stored once, in the run that made it: a hundred megabytes that every later release would store again.
        log.folder(EMBEDDER_FOLDER, project.workspace.tuned_embedders / built.digest)
        built = built.model_copy(update={"run": log.id})
        log.record("tuned_embedder.json", built)
        log.metrics({"final_loss": built.final_loss})
        trained = project.workspace.params.embedder_tuning.trained_pairs(built.pairs)
        cycle.logs(log).work({costs.TRAINED_PAIRS: trained, costs.TUNE_SECONDS: built.seconds})
        return built


@step("refresh-index")
def refresh_index(cycle: CycleContext, snapshot: Snapshot, plan: Plan, tuned: BuiltEmbedder | None) -> BuiltIndex:
    """Refresh the index to the snapshot, or keep the live one where the plan does not call for it."""
    project, live = cycle.project, cycle.live
    if not plan.decision.action.refreshes and live is not None:
        write_index_artifact(project.workspace, live.index)
        return live.index
    cycle.lease.check()
    with project.registry.step("refresh-index", cycle.log) as log:
        # The plan knows whether the live rows can stay; others in the table are those of an abandoned build.
        knowledge, embedder = cycle.read(snapshot).knowledge, project.embedder_for(tuned)
        require_index_space(project.workspace, plan.evidence.data.delta, embedder.embedder.dimensions)
        built = build_index(project.workspace, embedder, knowledge, project.progress, rebuild=True)
        log.record("index.json", built)
        log.metrics({"rows": built.rows, "new_chunks": built.new, "index_version": built.version})
        log.tags({"vector_index": built.vector_index})
        cycle.logs(log).work({costs.EMBEDDED_CHUNKS: built.embedded, costs.INDEX_SECONDS: built.seconds})
        return built


@step("retrain-model")
def retrain_model(cycle: CycleContext, snapshot: Snapshot, plan: Plan, index: BuiltIndex) -> BuiltModel:
    """Train an adapter on the snapshot's examples, or keep the live one where the plan does not call for it."""
    project = cycle.project
    if not plan.decision.action.retrains:
        kept = project.current_model(cycle.live)
        write_model_artifact(project.workspace, kept)
        return kept
    cycle.lease.check()
    with project.registry.step("retrain-model", cycle.log) as log:
        retriever, corpus = project.retriever(index), cycle.read(snapshot)
        built, trained = build_model(project.workspace, project.models, corpus, retriever, project.progress)
        log_training(cycle.logs(log), built, trained)
        if missing := corpus.training.replay.missing:
            log.tags({"replay_lacks": list_some(missing)})
        return built


@step("prove")
def prove(cycle: CycleContext, snapshot: Snapshot, plan: Plan, index: BuiltIndex, model: BuiltModel) -> Verdict:
    """Compare the candidate with the live release on the same questions, and its index with the knowledge base."""
    project, started = cycle.project, time.perf_counter()
    with project.registry.step("prove", cycle.log) as log:
        candidate = Candidate(snapshot=snapshot, index=index, model=model, decision=plan.decision.action)
        project.answering.reset()
        proof = prove_candidate(project, candidate, cycle.live, cycle.read(snapshot).knowledge)
        verdict = proof.verdict
        verdict.after.write(project.workspace.artifacts / "scorecard.json")
        seconds = time.perf_counter() - started
        log_verdict(project, cycle.logs(log), verdict, proof.questions, seconds)
        return verdict


@step("withhold")
def withhold(cycle: CycleContext, snapshot: Snapshot, plan: Plan, verdict: Verdict) -> bool:
    """Withhold the documents behind the lost questions of a rejected candidate; returns whether to build without them.

    Where the candidate is rejected for other reasons too, nothing is withheld in the end. Where nothing else has
    changed, the documents wait and nothing is built.
    """
    project, workspace = cycle.project, cycle.project.workspace
    chosen = choose_withheld(verdict, allowed_losses(len(verdict.after.graded), workspace.params))
    if not chosen or len(chosen) > MOST_WITHHELD:
        if cycle.withheld_before is not None:
            write_withheld(workspace, cycle.withheld_before)
        return False
    cycle.lease.check()
    if cycle.withheld_before is None:
        cycle.withheld_before = read_withheld(workspace)
    withhold_documents(workspace, snapshot, chosen)
    cycle.log.text("withheld.md", withheld_markdown(read_withheld(workspace)))
    cycle.log.tags({"withheld": list_some(tuple(chosen))})
    get_run_logger().warning("withheld, since the gate lost answers to them: %s", list_some(tuple(chosen)))
    cycle.corpora.clear()
    action, live = plan.decision.action, cycle.live
    remaining = project.index.delta(cycle.read(snapshot).knowledge.chunks, live.index.version if live else None)
    return action.retrains or action.tunes or not remaining.is_empty


@step("publish")
def publish(
    cycle: CycleContext, snapshot: Snapshot, plan: Plan, index: BuiltIndex, model: BuiltModel, verdict: Verdict
) -> Release:
    """Make index and adapter live together, by one pointer that moves last."""
    project = cycle.project
    with project.registry.step("publish", cycle.log):
        before = cycle.live.id if cycle.live else None
        action = plan.decision.action
        candidate = Candidate(snapshot=snapshot, index=index, model=model, decision=action, previous=before)
        release = publish_candidate(project, cycle.log, candidate, verdict, cycle.lease.check)
        pending = cycle.read(snapshot).knowledge.pending_deletions
        flag_releases(project, [release], DeletedDocuments(project.workspace, snapshot, pending))
        indexed = project.index.documents(release.index_tag)
        release_documents(project.workspace, indexed)
        consume_approvals(project.workspace, indexed, release)
        return release


@step("maintain")
def run_maintenance(cycle: CycleContext) -> list[MaintenanceStep]:
    """Compact the index and delete what nothing refers to any more; the step's run says what was done and why."""
    project = cycle.project
    cycle.lease.check()
    with project.registry.step("maintain", cycle.log) as log:
        steps = maintain_project(project)
        log.text("maintenance.md", maintenance_markdown(steps))
        log.tags({done.step.replace(" ", "_"): done.why for done in steps if done.done})
        return steps


def conclude(cycle: CycleContext, plan: Plan, verdict: Verdict | None, release: Release | None) -> Cycle:
    """Log the outcome of the cycle, also of NOTHING, and return it as it is recorded."""
    action, detail = plan.decision.action, ""
    outcome = Outcome.HELD if action == Action.HOLD else Outcome.NOTHING
    if release is not None:
        outcome = Outcome.RELEASED
        cycle.log.tags({"release": release.id, "index_version": release.index.version})
        detail = f"without {list_some(_newly_withheld(cycle))}" if cycle.withheld_before is not None else ""
    elif verdict is not None:
        outcome, detail = Outcome.REJECTED, failed_checks(verdict)
    if verdict is not None:
        name = f"release {release.id}" if release else str(outcome)
        rename_run(f"keep-current {cycle.project.workspace.root.name}: {action}, {name}")
    cycle.log.metrics({ACTION_SECONDS: _action_seconds(cycle)} if action.builds else {})
    accepted = verdict.accepted if verdict else "no candidate"
    cycle.log.tags({"outcome": outcome.value, "outcome_detail": detail, "accepted": accepted})
    _commit_stages(cycle, action)
    if release is not None:
        _back_up_records(cycle, release)
    return cycle.project.registry.read(cycle.log)


def _newly_withheld(cycle: CycleContext) -> list[str]:
    """The documents that this cycle has withheld."""
    before = cycle.withheld_before or ()
    return [entry.document for entry in read_withheld(cycle.project.workspace) if entry not in before]


def _action_seconds(cycle: CycleContext) -> float:
    """Seconds of tuning, index, training and proof together."""
    work = cycle.project.registry.read(cycle.log).work
    return sum(work.get(key, 0.0) for key in _SECONDS)


def _commit_stages(cycle: CycleContext, action: Action) -> None:
    """Record the rebuilt stages in dvc.lock. A failure is noted: the outcome is recorded, and nothing depends on it."""
    try:
        commit_stages(cycle.project.workspace, _rebuilt_stages(action) if action.builds else [])
    except UserError as problem:
        run_logger().warning("dvc.lock is not up to date: %s", problem)
        cycle.log.tags({"stages_not_committed": problem})


def _back_up_records(cycle: CycleContext, release: Release) -> None:
    """Back up MLflow's database with the new release in it. A failure is noted: the release is live."""
    try:
        back_up(cycle.project.workspace.mlflow_database, release.id)
    except UserError as problem:
        run_logger().warning("%s", problem)
        cycle.log.tags({"not_backed_up": problem})


def _rebuilt_stages(action: Action) -> list[str]:
    """The DVC stages whose outputs a cycle has made."""
    stages = {"index": action.refreshes, "finetune": action.retrains, "score": True}
    return [stage for stage, done in stages.items() if done]
