"""Which steps does the loop have? Thin Prefect tasks: each opens its MLflow run, calls the pipelines, logs, returns.

A task is a step, never a document: Prefect's fixed cost is 16 ms a task. Inputs are live objects, so nothing is
cached or persisted by Prefect; what must survive a kill is in LanceDB, DVC and MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar, cast

from matplotlib.figure import Figure
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from ragtide.flows.prefect_server.artifacts import rename_run, show_markdown
from ragtide.flows.prefect_server.queue import RunQueue, answer_queued, coalesce_queue
from ragtide.flows.prefect_server.runs import current_run, run_url
from ragtide.pipelines.build import build_index, build_model, write_index_artifact, write_model_artifact
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.data.dvc import check_stages, commit_stages
from ragtide.pipelines.data.imports import update_imports
from ragtide.pipelines.data.snapshot import record_snapshot
from ragtide.pipelines.data.snapshot import take_snapshot as look
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.evaluation.answers import answers_table, verdict_rows
from ragtide.pipelines.evaluation.evaluator import SystemUnderTest
from ragtide.pipelines.evaluation.gate import check_ranking, check_suites, judge_candidate
from ragtide.pipelines.evaluation.regression import regression_suites, score_suites
from ragtide.pipelines.history import costs
from ragtide.pipelines.history.approvals import approved_actions, consume_approvals, read_approvals
from ragtide.pipelines.history.freshness import measure_freshness, read_source_times
from ragtide.pipelines.history.history import (
    ACTION_SECONDS,
    EXPECTED_POINTS,
    FORECAST_SECONDS,
    LAG_SECONDS,
)
from ragtide.pipelines.lease import Lease
from ragtide.pipelines.planning.plan import headline, load_current_plan, make_plan, save_plan
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Decision, Plan
from ragtide.pipelines.records.evaluation import GoldenQuestion, Verdict
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
from ragtide.pipelines.registry.runs import RunLog
from ragtide.pipelines.release.cleanup import maintain_project as keep_up
from ragtide.pipelines.release.lineage import DeletedDocuments, flag_releases, releases_to_flag
from ragtide.pipelines.release.publish import publish_candidate as make_live
from ragtide.pipelines.reports.data import issues_markdown, maintenance_markdown, quarantine_markdown
from ragtide.pipelines.reports.decision import decision_markdown, decision_plot
from ragtide.pipelines.reports.markdown import list_some, markdown_table
from ragtide.pipelines.reports.page import write_page
from ragtide.pipelines.reports.signals import evidence_metrics
from ragtide.pipelines.reports.verdict import (
    failed_checks,
    retrieval_metrics,
    suite_metrics,
    verdict_markdown,
    verdict_plot,
)
from ragtide.pipelines.training.embedder_tuning import build_embedder
from ragtide.pipelines.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")
# A deployed run that has waited so long for the project fails, and the next trigger asks again.
WAIT_SECONDS = 6 * 3600.0
# What an action took, step by step.
_SECONDS = (costs.TUNE_SECONDS, costs.INDEX_SECONDS, costs.TRAIN_SECONDS, costs.PROVE_SECONDS)


@dataclass
class CycleContext:
    """One turn of the loop: the project, its MLflow run, what is live meanwhile, and the data once it has been read."""

    project: Project
    log: RunLog
    lease: Lease
    live: Release | None
    corpora: dict[str, Corpus] = field(default_factory=dict)

    def corpus(self, snapshot: Snapshot) -> Corpus:
        """The content of a snapshot, read once a turn."""
        if snapshot.id not in self.corpora:
            self.corpora[snapshot.id] = self.project.corpus(snapshot, keep=True)
        return self.corpora[snapshot.id]


@contextmanager
def open_cycle(project: Project, revision: str | None = None) -> Iterator[CycleContext]:
    """Hold the project for writing and open the turn's MLflow run, with the `revision` that a trigger named."""
    with (
        coalesce_queue() as queue,
        _held(project.workspace, queue) as lease,
        answer_queued(queue),
        project.registry.cycle() as log,
    ):
        log.tags({"trigger_rev": revision} if revision else {})
        log.tags({"prefect_run": address} if (address := run_url(current_run())) else {})
        log.params(project.workspace.params.model_dump(mode="json"))
        _close_killed(project, log)
        yield CycleContext(project, log, lease, project.registry.champion())


def _close_killed(project: Project, log: RunLog) -> None:
    """Turns that say that they are running were killed: this one holds the project. A rollback needs no lease."""
    for one in project.registry.running_cycles():
        if one.run != log.id and not one.is_rollback:
            project.registry.close_killed(one)


def _held(workspace: Workspace, queue: RunQueue | None) -> AbstractContextManager[Lease]:
    """A deployed run waits for whoever is at work, a command is refused at once."""
    if queue is None:
        return workspace.write_lock()
    return workspace.write_lock(WAIT_SECONDS, f"flow run {queue.name}", get_run_logger().warning)


def _worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """A refusal stays a refusal; anything else (a lock, a store that is away) may pass."""
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
            retry_condition_fn=_worth_retrying,
            timeout_seconds=7200,
        )
        return cast("Callable[P, R]", decorate(function))

    return wrap


@step("observe")
def observe(turn: CycleContext, plan: str | None) -> Snapshot:
    """What is in the data folders? Versioned by DVC; with a plan's digest, only where the plan still holds."""
    project = turn.project
    with project.registry.step("observe", turn.log) as log:
        if plan:
            load_current_plan(project, plan, look(project.workspace))
        elif project.workspace.params.triggers.update_imports and not _is_approved_as_it_is(project):
            _update_imports(turn)
        check_stages(project.workspace)
        snapshot = record_snapshot(project.workspace)
        log.record("snapshot.json", snapshot)
        log.metrics({"documents": len(snapshot.documents)})
        log.datasets(snapshot)
        turn.log.datasets(snapshot)
        turn.log.tags({"data_rev": snapshot.id, "params": project.workspace.params.digest()})
        turn.log.metrics(_freshness(turn, snapshot))
        return snapshot


def _freshness(turn: CycleContext, snapshot: Snapshot) -> dict[str, float | None]:
    """How long the data has waited for this turn."""
    project, now = turn.project, datetime.now(UTC)
    found = measure_freshness(
        read_source_times(project.workspace, snapshot, now), turn.live, project.registry.history(), now
    )
    return {LAG_SECONDS: found.lag_seconds, "source_age_seconds": found.source_age_seconds}


def _is_approved_as_it_is(project: Project) -> bool:
    """Whether a person has said yes to an action on this very data: a change elsewhere must not undo that."""
    given = read_approvals(project.workspace)
    return bool(given) and bool(approved_actions(given, look(project.workspace).id))


def _update_imports(turn: CycleContext) -> None:
    """Bring in what has changed elsewhere. A source that is away stops nothing; that it was away is written down."""
    looked = update_imports(turn.project.workspace)
    away = [one for one in looked if one.problem]
    for one in away:
        get_run_logger().warning("import %s stays as it was: %s", one.name, one.problem)
    if looked:
        rows = [(one.name, one.source, str(one.changed), one.problem or "") for one in looked]
        turn.log.text("imports.md", markdown_table(("import", "from", "files changed", "why not updated"), rows))
        turn.log.metrics({"imports": len(looked), "imports_not_updated": len(away)})
    turn.log.tags({"imports_not_updated": ", ".join(one.name for one in away)} if away else {})


@step("decide")
def decide(turn: CycleContext, snapshot: Snapshot, plan: str | None) -> Plan:
    """Which half is out of date, and what is worth its cost?"""
    project = turn.project
    with project.registry.step("decide", turn.log) as log:
        corpus = turn.corpus(snapshot)
        decided = (
            load_current_plan(project, plan, snapshot, corpus.pending_deletions) if plan else make_plan(project, corpus)
        )
        evidence, decision = decided.evidence, decided.decision
        flag_releases(
            project,
            releases_to_flag(project, evidence),
            DeletedDocuments(project.workspace, snapshot, corpus.pending_deletions),
        )
        digest = save_plan(project, decided)
        markdown = decision_markdown(evidence, decision)
        plot = decision_plot(evidence, decision, project.workspace.params)
        _log_page((log, turn.log), "decision", markdown, plot)
        address = project.registry.address(turn.log)
        show_markdown("decision", f"[The run in MLflow]({address})\n\n{markdown}", f"plan {digest}, {address}")
        log.record("plan.json", decided)
        if evidence.quarantined:
            turn.log.text("quarantined.md", quarantine_markdown(corpus.quarantined))
        if corpus.filtered:
            turn.log.text("examples.md", issues_markdown(corpus.filtered))
        turn.log.metrics(evidence_metrics(evidence) | _expected(decision))
        tags = {"decision": decision.action, "policy": decision.policy, "reason": headline(decided), "plan": digest}
        turn.log.tags(tags | ({"proposed": decision.proposed} if decision.proposed else {}))
        turn.log.describe("\n\n".join([decision.explanation, *(f"- {reason}" for reason in decision.reasons)]))
        turn.log.rename(f"{turn.log.name} {decision.action}")
        rename_run(f"keep-current {project.workspace.root.name}: {decision.action}")
        return decided


@step("tune-retriever")
def tune_embedder(turn: CycleContext, snapshot: Snapshot, plan: Plan) -> BuiltEmbedder | None:
    """Tune the retriever on the snapshot's pairs, or keep the live one where the plan does not call for it."""
    project = turn.project
    live = turn.live
    if not plan.decision.action.tunes or live is None:
        return live.index.tuned_embedder if live else None
    with project.registry.step("tune-retriever", turn.log) as log:
        pairs, reader = project.pairs(turn.corpus(snapshot)), project.retriever(live.index, live.index_tag)
        built = build_embedder(project.workspace, pairs, reader, project.progress)
        # Kept once, in the run that made it: a hundred megabytes that every later release would hold again.
        log.folder("retriever", project.workspace.tuned_embedders / built.digest)
        built = built.model_copy(update={"run": log.id})
        log.record("retriever.json", built)
        taught = project.workspace.params.embedder_tuning.trained_pairs(built.pairs)
        work = {costs.TRAINED_PAIRS: taught, costs.TUNE_SECONDS: built.seconds}
        log.metrics({**work, "final_loss": built.final_loss})
        turn.log.metrics({f"work.{key}": value for key, value in work.items()})
        return built


@step("refresh-index")
def refresh_index(turn: CycleContext, snapshot: Snapshot, plan: Plan, tuned: BuiltEmbedder | None) -> BuiltIndex:
    """Bring the index up to the snapshot, or keep the live one where the plan does not call for it."""
    project = turn.project
    live = turn.live
    if not plan.decision.action.refreshes and live is not None:
        write_index_artifact(project.workspace, live.index)
        return live.index
    turn.lease.check()
    with project.registry.step("refresh-index", turn.log) as log:
        # The plan knows whether the live rows can stay; others in the table are those of a build that was given up.
        corpus, retriever = turn.corpus(snapshot), project.embedder_for(tuned)
        built = build_index(project.workspace, retriever, corpus, project.progress, rebuild=True)
        log.record("index.json", built)
        work = {costs.EMBEDDED_CHUNKS: built.embedded, costs.INDEX_SECONDS: built.seconds}
        log.metrics({**work, "rows": built.rows, "new_chunks": built.new, "index_version": built.version})
        log.tags({"vector_index": built.vector_index})
        turn.log.metrics({f"work.{key}": value for key, value in work.items()})
        return built


@step("retrain-model")
def retrain_model(turn: CycleContext, snapshot: Snapshot, plan: Plan, index: BuiltIndex) -> BuiltModel:
    """Train an adapter on the snapshot's examples, or keep the live one where the plan does not call for it."""
    project = turn.project
    live = turn.live
    if not plan.decision.action.retrains:
        kept = project.current_model(live)
        write_model_artifact(project.workspace, kept)
        return kept
    turn.lease.check()
    with project.registry.step("retrain-model", turn.log) as log:
        reader, corpus = project.retriever(index), turn.corpus(snapshot)
        built, trained = build_model(project.workspace, project.models, corpus, reader, project.progress)
        log.record("model.json", built)
        log.series("loss", enumerate(trained.losses))
        log.series("held_out_loss", ((one.step, one.loss) for one in trained.watched))
        log.series("held_out_score", ((one.step, one.score) for one in trained.watched))
        log.tags({"stopped": built.stopped, "resumed_at_step": trained.resumed_at} if built.stopped else {})
        work = {costs.TRAINED_EXAMPLES: built.trained_examples, costs.TRAIN_SECONDS: built.seconds}
        log.metrics({**work, "final_loss": built.final_loss, "replayed_examples": len(built.replayed)})
        if corpus.replay.missing:
            log.tags({"replay_lacks": list_some(corpus.replay.missing)})
        turn.log.metrics({f"work.{key}": value for key, value in work.items()})
        return built


@step("prove")
def prove(turn: CycleContext, snapshot: Snapshot, plan: Plan, index: BuiltIndex, model: BuiltModel) -> Verdict:
    """Is the candidate better than what is live, on the same questions? And is its index what it should be?"""
    project = turn.project
    started = time.perf_counter()
    with project.registry.step("prove", turn.log) as log:
        corpus = turn.corpus(snapshot)
        examiner = project.evaluator(corpus)
        live, candidate = project.system_under_test(turn.live), SystemUnderTest(project.retriever(index), model)
        before, after = examiner.scorecard(live), examiner.scorecard(candidate)
        rows = project.index.rows(index.version)
        verdict = judge_candidate(before, after, rows, corpus.chunks, project.workspace.params)
        if plan.decision.action.tunes:
            verdict = check_ranking(verdict, project.workspace.params)
        if turn.live is not None and plan.decision.action.retrains:
            asked = regression_suites(project.workspace, corpus, examiner.golden)
            verdict = check_suites(verdict, score_suites(asked, examiner, live, candidate), project.workspace.params)
        after.write(project.workspace.artifacts / "scorecard.json")
        _log_verdict(turn, log, verdict, examiner.golden.questions, time.perf_counter() - started)
        commit_stages(project.workspace, _rebuilt(plan))
        return verdict


@step("publish")
def publish(
    turn: CycleContext, snapshot: Snapshot, plan: Plan, index: BuiltIndex, model: BuiltModel, verdict: Verdict
) -> Release:
    """Index and adapter go live together, by one pointer that moves last."""
    project = turn.project
    with project.registry.step("publish", turn.log):
        before = turn.live.id if turn.live else None
        action = plan.decision.action
        candidate = Candidate(snapshot=snapshot, index=index, model=model, decision=action, previous=before)
        release = make_live(project, turn.log, candidate, verdict, turn.lease.check)
        flag_releases(
            project, [release], DeletedDocuments(project.workspace, snapshot, turn.corpus(snapshot).pending_deletions)
        )
        consume_approvals(project.workspace, project.index.documents(release.index_tag), release)
        return release


@step("maintain")
def run_maintenance(turn: CycleContext) -> list[MaintenanceStep]:
    """Keep the index small and fast, and the disk free of what nothing needs.

    What was done, what was not, and why, stands in the step's run.
    """
    project = turn.project
    turn.lease.check()
    with project.registry.step("maintain", turn.log) as log:
        steps = keep_up(project)
        log.text("maintenance.md", maintenance_markdown(steps))
        log.tags({one.step.replace(" ", "_"): one.why for one in steps if one.done})
        return steps


def conclude(cycle: CycleContext, plan: Plan, verdict: Verdict | None, release: Release | None) -> Cycle:
    """Log what came of the cycle, a NOTHING as well, and return it as it is recorded."""
    action, detail = plan.decision.action, ""
    outcome = Outcome.HELD if action == Action.HOLD else Outcome.NOTHING
    if release is not None:
        outcome = Outcome.RELEASED
        cycle.log.tags({"release": release.id, "index_version": release.index.version})
    elif verdict is not None:
        outcome, detail = Outcome.REJECTED, failed_checks(verdict.checks)
    if verdict is not None:
        name = f"release {release.id}" if release else str(outcome)
        rename_run(f"keep-current {cycle.project.workspace.root.name}: {action}, {name}")
    cycle.log.metrics({ACTION_SECONDS: _action_seconds(cycle)} if action.builds else {})
    accepted = verdict.accepted if verdict else "no candidate"
    cycle.log.tags({"outcome": outcome.value, "outcome_detail": detail, "accepted": accepted})
    return cycle.project.registry.read(cycle.log)


def _expected(decision: Decision) -> dict[str, float | None]:
    """What the chosen action was thought to bring and to take: the next decisions learn from it."""
    if not decision.action.builds:
        return {}
    [chosen] = [one for one in decision.options if one.action == decision.action]
    return {EXPECTED_POINTS: chosen.gap_points, FORECAST_SECONDS: chosen.cost_seconds}


def _action_seconds(turn: CycleContext) -> float:
    """What index, training and proof took together."""
    work = turn.project.registry.read(turn.log).work
    return sum(work.get(key, 0.0) for key in _SECONDS)


def _rebuilt(plan: Plan) -> list[str]:
    action = plan.decision.action
    stages = {"index": action.refreshes, "finetune": action.retrains, "score": True}
    return [stage for stage, done in stages.items() if done]


def _log_page(runs: Iterable[RunLog], name: str, markdown: str, plot: Figure) -> None:
    """A decision or a verdict in the forms that people read, made once for all runs: to draw takes a second."""
    with TemporaryDirectory() as folder:
        write_page(Path(folder), name, markdown, plot)
        for run in runs:
            run.folder(None, Path(folder))


def _log_verdict(
    turn: CycleContext, log: RunLog, verdict: Verdict, questions: Sequence[GoldenQuestion], seconds: float
) -> None:
    log.rename(f"{log.name} {'accepted' if verdict.accepted else 'refused'}")
    log.tags({"accepted": verdict.accepted})
    markdown = verdict_markdown(verdict, questions)
    plot = verdict_plot(verdict)
    _log_page((log, turn.log), "verdict", markdown, plot)
    address = turn.project.registry.address(turn.log)
    show_markdown("verdict", f"[The run in MLflow]({address})\n\n{markdown}", address)
    log.table("answers.json", answers_table(verdict_rows(verdict, questions)))
    log.record("verdict.json", verdict)
    skills_asked = [card for one in verdict.skills for card in (one.before, one.after)]
    graded = sum(len(card.graded) for card in (verdict.before, verdict.after, *skills_asked))
    work = {costs.GRADED_QUESTIONS: graded, costs.PROVE_SECONDS: seconds}
    scores = {"score_before": verdict.before.answer_score.value, "score_after": verdict.after.answer_score.value}
    recall = {
        "recall_before": verdict.before.retrieval_recall.value,
        "recall_after": verdict.after.retrieval_recall.value,
    }
    more = retrieval_metrics(verdict.after) | suite_metrics(verdict)
    log.metrics({**work, **scores, **recall, **more})
    turn.log.metrics({**{f"work.{key}": value for key, value in work.items()}, **scores, **recall})
