"""Steps of the loop: thin Prefect tasks that open their MLflow run, call the pipelines, log and return.

A task is a step, never a document: Prefect's fixed cost is 16 ms a task. Inputs are live objects, so nothing is
cached or persisted by Prefect; what must survive a kill is in LanceDB, DVC and MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from ragtide.flows.cycle_context import CycleContext
from ragtide.flows.cycle_log import (
    freshness_metrics,
    log_decision,
    log_imports,
    log_index,
    log_inputs,
    log_issues,
    log_training,
    log_verdict,
)
from ragtide.pipelines.build import (
    build_index,
    build_model,
    require_index_space,
    write_index_artifact,
    write_model_artifact,
)
from ragtide.pipelines.data.dvc import check_stages
from ragtide.pipelines.data.imports import update_imports
from ragtide.pipelines.data.snapshot import record_snapshot, take_snapshot
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.evaluation.attribution import choose_withheld
from ragtide.pipelines.evaluation.gate import allowed_losses
from ragtide.pipelines.history import costs
from ragtide.pipelines.history.approvals import consume_approvals, is_action_approved
from ragtide.pipelines.history.withheld import (
    read_withheld,
    release_documents,
    withhold_documents,
    write_withheld,
)
from ragtide.pipelines.planning.by_hand import BY_HAND, Request, decide_by_hand
from ragtide.pipelines.planning.plan import load_current_plan, save_plan
from ragtide.pipelines.planning.reuse import make_current_plan
from ragtide.pipelines.planning.tuning_again import weigh_tuning_again
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evaluation import Verdict
from ragtide.pipelines.records.release import (
    BuiltEmbedder,
    BuiltIndex,
    BuiltModel,
    Candidate,
    MaintenanceStep,
    Release,
)
from ragtide.pipelines.registry.releases import EMBEDDER_FOLDER
from ragtide.pipelines.release.cleanup import maintain_project
from ragtide.pipelines.release.lineage import DeletedDocuments, flag_releases, releases_to_flag
from ragtide.pipelines.release.proof import Proof, prove_candidate
from ragtide.pipelines.release.publish import publish_candidate
from ragtide.pipelines.release.removal import build_removal, prove_removal
from ragtide.pipelines.reports.data import maintenance_markdown, withheld_markdown
from ragtide.pipelines.reports.markdown import list_some
from ragtide.pipelines.reports.reason_texts import reason_text
from ragtide.pipelines.reports.wording import main_reason
from ragtide.pipelines.training.embedder_tuning import build_embedder
from ragtide.pipelines.training.pairs import build_pairs

P = ParamSpec("P")
R = TypeVar("R")
# Documents that are withheld at once, at most: more of them show a fault of the golden set, or of the whole change.
MOST_WITHHELD = 50


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
def decide(cycle: CycleContext, snapshot: Snapshot, plan: str | None, request: Request | None = None) -> Plan:
    """Make a plan from the evidence, or load the one that is to be carried out, and log its decision.

    A person's `request` takes the place of what the policy decides.
    """
    project = cycle.project
    with project.registry.step("decide", cycle.log) as log:
        if plan:
            decided = load_current_plan(project, plan, snapshot, cycle.read(snapshot).knowledge.held)
        else:
            decided = log_inputs(cycle.log, make_current_plan(project, snapshot, cycle.read))
        decided = decide_by_hand(decided, request) if request else decided
        # Where nothing was read, nothing has changed: the flags are those of an earlier cycle.
        if corpus := cycle.corpora.get(snapshot.id):
            knowledge = corpus.knowledge
            deleted = DeletedDocuments(project.workspace, snapshot, knowledge.pending_deletions, knowledge.paths)
            flag_releases(project, releases_to_flag(project, decided.evidence), deleted)
        log_decision(project, cycle.logs(log), decided, save_plan(project, decided))
        log_issues(cycle.log, corpus)
        for line in decided.evidence.data.golden.lines:
            expected = f"the answer {line.answer!r} stands nowhere in {list_some(line.documents)}"
            get_run_logger().warning("stale golden line %s: %s", line.where, expected)
        return decided


@step("weigh-tuning")
def confirm_tuning(cycle: CycleContext, snapshot: Snapshot, plan: Plan) -> bool:
    """Whether the embedder is to be tuned now that the index was refreshed for the same decision."""
    project, live = cycle.project, cycle.live
    refresh = next((part for part in cycle.outcomes if part.action == Action.REFRESH), None)
    if refresh is None or live is None:
        return True
    if refresh.release is None:
        cycle.left_out[Action.TUNE_EMBEDDER] = "the refresh before it was rejected"
    elif plan.decision.policy != BY_HAND:
        project.answering.reset()
        option = weigh_tuning_again(project, plan, cycle.read(snapshot).knowledge, live)
        if option is None or not option.worth_it:
            why = reason_text(main_reason(option)) if option else "the policy does not consider it"
            cycle.left_out[Action.TUNE_EMBEDDER] = f"on the refreshed index, {why}"
    return Action.TUNE_EMBEDDER not in cycle.left_out


@step("tune-embedder")
def tune_embedder(cycle: CycleContext, snapshot: Snapshot) -> BuiltEmbedder | None:
    """Tune the embedder on the snapshot's pairs; None before there is an index to take hard negatives from."""
    project, live = cycle.project, cycle.live
    if live is None:
        return None
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
    """Refresh the index to the snapshot, with this tuned embedder or with that of params.yaml."""
    project = cycle.project
    cycle.lease.check()
    with project.registry.step("refresh-index", cycle.log) as log:
        # The plan knows whether the live rows can stay; others in the table are those of an abandoned build.
        knowledge, embedder = cycle.read(snapshot).knowledge, project.embedder_for(tuned)
        require_index_space(project.workspace, plan.evidence.data.delta, embedder.embedder.dimensions)
        built = build_index(project.workspace, embedder, knowledge, project.progress, rebuild=True)
        log_index(cycle.logs(log), built)
        return built


def keep_index(cycle: CycleContext) -> BuiltIndex:
    """The live index, for a part that changes the model alone. Raises ValueError where nothing is live."""
    if cycle.live is None:
        raise ValueError("there is no live index to keep")
    write_index_artifact(cycle.project.workspace, cycle.live.index)
    return cycle.live.index


@step("retrain-model")
def retrain_model(cycle: CycleContext, snapshot: Snapshot, index: BuiltIndex) -> BuiltModel:
    """Train an adapter on the snapshot's examples, with passages of this index."""
    project = cycle.project
    cycle.lease.check()
    with project.registry.step("retrain-model", cycle.log) as log:
        retriever, corpus = project.retriever(index), cycle.read(snapshot)
        built, trained = build_model(project.workspace, project.models, corpus, retriever, project.progress)
        log_training(cycle.logs(log), built, trained)
        if missing := corpus.training.replay.missing:
            log.tags({"replay_lacks": list_some(missing)})
        return built


def keep_model(cycle: CycleContext, part: Action) -> BuiltModel:
    """The live model, for a part that trains none; without its adapter where that is to be dropped."""
    kept = cycle.project.current_model(cycle.live)
    kept = kept.base_alone if part == Action.DROP_ADAPTER else kept
    write_model_artifact(cycle.project.workspace, kept)
    return kept


@step("prove")
def prove(cycle: CycleContext, snapshot: Snapshot, part: Action, index: BuiltIndex, model: BuiltModel) -> Proof:
    """Compare the candidate with the live release and with its other combinations, and its index with the documents."""
    live, knowledge = cycle.live, cycle.read(snapshot).knowledge
    candidate = Candidate(
        snapshot=snapshot,
        index=index,
        model=model,
        decision=part,
        previous=live.id if live else None,
        former_paths=knowledge.paths.former_paths(),
    )
    return _logged_proof(cycle, part, lambda: prove_candidate(cycle.project, candidate, live, knowledge))


def _logged_proof(cycle: CycleContext, part: Action, prove_it: Callable[[], Proof]) -> Proof:
    """A proof in a step of its own, with its verdict logged."""
    project, started = cycle.project, time.perf_counter()
    with project.registry.step("prove", cycle.log) as log:
        project.answering.reset()
        proof = prove_it()
        proof.best_verdict.after.write(project.workspace.artifacts / "scorecard.json")
        log_verdict(project, cycle.logs(log), part, proof, time.perf_counter() - started)
        return proof


@step("withhold")
def withhold(cycle: CycleContext, snapshot: Snapshot, part: Action, verdict: Verdict) -> bool:
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
    live = cycle.live
    remaining = project.index.delta(cycle.read(snapshot).knowledge.chunks, live.index.version if live else None)
    return part.tunes or not remaining.is_empty


@step("remove-deleted")
def remove_deleted(cycle: CycleContext, snapshot: Snapshot) -> Proof | None:
    """Build the live index without the rows of deleted documents, for where the gate rejected all that is new.

    None where no live row is to be removed.
    """
    project, live, knowledge = cycle.project, cycle.live, cycle.read(snapshot).knowledge
    if live is None or not knowledge.deleted:
        return None
    cycle.lease.check()
    with project.registry.step("remove-deleted", cycle.log) as log:
        removal = build_removal(project, live, knowledge)
        log_index(cycle.logs(log), removal.index)
    return _logged_proof(cycle, Action.REMOVE, lambda: prove_removal(project, removal, live, knowledge))


@step("publish")
def publish(cycle: CycleContext, snapshot: Snapshot, proof: Proof) -> Release:
    """Make index and adapter live together, by one pointer that moves last."""
    project = cycle.project
    with project.registry.step("publish", cycle.log):
        release = publish_candidate(project, cycle.log, proof.best, proof.best_verdict, cycle.lease.check)
        knowledge = cycle.read(snapshot).knowledge
        deleted = DeletedDocuments(project.workspace, snapshot, knowledge.pending_deletions, knowledge.paths)
        flag_releases(project, [release], deleted)
        indexed = project.index.documents(release.index_tag)
        release_documents(project.workspace, indexed)
        consume_approvals(project.workspace, indexed, release)
        cycle.live = release
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
