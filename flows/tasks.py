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

from flows.report import name_run, show
from flows.runs import current_run, page_of
from flows.waiting import Queue, answering, one_waits
from pipelines.build.candidate import build_index, build_model, export_index, export_model
from pipelines.build.corpus import Corpus
from pipelines.build.retriever import build_retriever
from pipelines.errors import RefusalError, UnavailableError
from pipelines.lease import Lease
from pipelines.observe import costs
from pipelines.observe.freshness import freshness, read_source
from pipelines.observe.guard import approvals, approved_actions, use_up
from pipelines.observe.imports import update_imports
from pipelines.observe.past import ACTION_SECONDS, EXPECTED_POINTS, FORECAST_SECONDS, LAG_SECONDS, REFUSED, ROLLBACK
from pipelines.observe.snapshot import check_stages, commit_stages
from pipelines.observe.snapshot import observe as look
from pipelines.observe.snapshot import record as record_snapshot
from pipelines.prove.attribution import Subject
from pipelines.prove.gate import hold_to_ranking, hold_to_skills, judge
from pipelines.prove.regression import examine, skills
from pipelines.publish import report
from pipelines.publish.answers import answers_table, proof_rows
from pipelines.publish.lineage import Deletions, concerned, flag
from pipelines.publish.markdown import some, table
from pipelines.publish.plan import headline, keep_plan, kept_plan, make_plan
from pipelines.publish.project import Project
from pipelines.publish.registry import RunLog
from pipelines.publish.release import publish as make_live
from pipelines.publish.upkeep import maintain as keep_up
from pipelines.records import (
    Action,
    BuiltIndex,
    BuiltModel,
    BuiltRetriever,
    Candidate,
    Cycle,
    Decision,
    Plan,
    Question,
    Release,
    Snapshot,
    Upkeep,
    Verdict,
)
from pipelines.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")
# A deployed run that has waited so long for the project fails, and the next trigger asks again.
WAIT_SECONDS = 6 * 3600.0
# What an action took, step by step.
_SECONDS = (costs.TUNE_SECONDS, costs.INDEX_SECONDS, costs.TRAIN_SECONDS, costs.PROVE_SECONDS)


@dataclass
class Turn:
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
def cycle(project: Project, revision: str | None = None) -> Iterator[Turn]:
    """Hold the project for writing and open the turn's MLflow run, with the `revision` that a trigger named."""
    with (
        one_waits() as queue,
        _held(project.workspace, queue) as lease,
        answering(queue),
        project.registry.cycle() as log,
    ):
        log.tags({"trigger_rev": revision} if revision else {})
        log.tags({"prefect_run": address} if (address := page_of(current_run())) else {})
        log.params(project.workspace.params.model_dump(mode="json"))
        _close_killed(project, log)
        yield Turn(project, log, lease, project.registry.champion())


def _close_killed(project: Project, log: RunLog) -> None:
    """Turns that say that they are running were killed: this one holds the project. A rollback needs no lease."""
    for one in project.registry.unfinished():
        if one.run != log.id and one.decision != ROLLBACK:
            project.registry.close_killed(one)


def _held(workspace: Workspace, queue: Queue | None) -> AbstractContextManager[Lease]:
    """A deployed run waits for whoever is at work, a command is refused at once."""
    if queue is None:
        return workspace.writing()
    return workspace.writing(WAIT_SECONDS, f"flow run {queue.name}", get_run_logger().warning)


def _worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """A refusal stays a refusal; anything else (a lock, a store that is away) may pass."""
    problem = state.result(raise_on_failure=False)
    return isinstance(problem, UnavailableError) or not isinstance(problem, RefusalError)


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
def observe(turn: Turn, plan: str | None) -> Snapshot:
    """What is in the data folders? Versioned by DVC; with a plan's digest, only where the plan still holds."""
    project = turn.project
    with project.registry.step("observe", turn.log) as log:
        if plan:
            kept_plan(project, plan, look(project.workspace))
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


def _freshness(turn: Turn, snapshot: Snapshot) -> dict[str, float | None]:
    """How long the data has waited for this turn."""
    project, now = turn.project, datetime.now(UTC)
    found = freshness(read_source(project.workspace, snapshot, now), turn.live, project.registry.history(), now)
    return {LAG_SECONDS: found.lag_seconds, "source_age_seconds": found.source_age_seconds}


def _is_approved_as_it_is(project: Project) -> bool:
    """Whether a person has said yes to an action on this very data: a change elsewhere must not undo that."""
    given = approvals(project.workspace)
    return bool(given) and bool(approved_actions(given, look(project.workspace).id))


def _update_imports(turn: Turn) -> None:
    """Bring in what has changed elsewhere. A source that is away stops nothing; that it was away is written down."""
    looked = update_imports(turn.project.workspace)
    away = [one for one in looked if one.problem]
    for one in away:
        get_run_logger().warning("import %s stays as it was: %s", one.name, one.problem)
    if looked:
        rows = [(one.name, one.source, str(one.changed), one.problem or "") for one in looked]
        turn.log.text("imports.md", table(("import", "from", "files changed", "why not updated"), rows))
        turn.log.metrics({"imports": len(looked), "imports_not_updated": len(away)})
    turn.log.tags({"imports_not_updated": ", ".join(one.name for one in away)} if away else {})


@step("decide")
def decide(turn: Turn, snapshot: Snapshot, plan: str | None) -> Plan:
    """Which half is out of date, and what is worth its cost?"""
    project = turn.project
    with project.registry.step("decide", turn.log) as log:
        corpus = turn.corpus(snapshot)
        decided = kept_plan(project, plan, snapshot, corpus.held) if plan else make_plan(project, corpus)
        evidence, decision = decided.evidence, decided.decision
        flag(project, concerned(project, evidence), Deletions(project.workspace, snapshot, corpus.held))
        digest = keep_plan(project, decided)
        markdown = report.decision_markdown(evidence, decision)
        plot = report.decision_plot(evidence, decision, project.workspace.params)
        _log_page((log, turn.log), "decision", markdown, plot)
        address = project.registry.address(turn.log)
        show("decision", f"[The run in MLflow]({address})\n\n{markdown}", f"plan {digest}, {address}")
        log.record("plan.json", decided)
        if evidence.set_aside:
            turn.log.text("set_aside.md", report.set_aside_markdown(corpus.set_aside))
        if corpus.left_out:
            turn.log.text("examples.md", report.left_out_markdown(corpus.left_out))
        turn.log.metrics(report.evidence_metrics(evidence) | _expected(decision))
        tags = {"decision": decision.action, "policy": decision.policy, "reason": headline(decided), "plan": digest}
        turn.log.tags(tags | ({"proposed": decision.proposed} if decision.proposed else {}))
        turn.log.describe("\n\n".join([decision.explanation, *(f"- {reason}" for reason in decision.reasons)]))
        turn.log.rename(f"{turn.log.name} {decision.action}")
        name_run(f"keep-current {project.workspace.root.name}: {decision.action}")
        return decided


@step("tune-retriever")
def tune_retriever(turn: Turn, snapshot: Snapshot, plan: Plan) -> BuiltRetriever | None:
    """Tune the retriever on the snapshot's pairs, or keep the live one where the plan does not call for it."""
    project = turn.project
    live = turn.live
    if not plan.decision.action.tunes or live is None:
        return live.index.retriever if live else None
    with project.registry.step("tune-retriever", turn.log) as log:
        pairs, reader = project.pairs(turn.corpus(snapshot)), project.reader(live.index, live.index_tag)
        built = build_retriever(project.workspace, pairs, reader, project.progress)
        # Kept once, in the run that made it: a hundred megabytes that every later release would hold again.
        log.folder("retriever", project.workspace.retrievers / built.digest)
        built = built.model_copy(update={"run": log.id})
        log.record("retriever.json", built)
        taught = project.workspace.params.tune.taught(built.pairs)
        work = {costs.TAUGHT_PAIRS: taught, costs.TUNE_SECONDS: built.seconds}
        log.metrics({**work, "final_loss": built.final_loss})
        turn.log.metrics({f"work.{key}": value for key, value in work.items()})
        return built


@step("refresh-index")
def refresh_index(turn: Turn, snapshot: Snapshot, plan: Plan, tuned: BuiltRetriever | None) -> BuiltIndex:
    """Bring the index up to the snapshot, or keep the live one where the plan does not call for it."""
    project = turn.project
    live = turn.live
    if not plan.decision.action.refreshes and live is not None:
        export_index(project.workspace, live.index)
        return live.index
    turn.lease.check()
    with project.registry.step("refresh-index", turn.log) as log:
        # The plan knows whether the live rows can stay; others in the table are those of a build that was given up.
        corpus, retriever = turn.corpus(snapshot), project.retriever(tuned)
        built = build_index(project.workspace, retriever, corpus, project.progress, rebuild=True)
        log.record("index.json", built)
        work = {costs.EMBEDDED_CHUNKS: built.embedded, costs.INDEX_SECONDS: built.seconds}
        log.metrics({**work, "rows": built.rows, "new_chunks": built.new, "index_version": built.version})
        log.tags({"vector_index": built.vector_index})
        turn.log.metrics({f"work.{key}": value for key, value in work.items()})
        return built


@step("retrain-model")
def retrain_model(turn: Turn, snapshot: Snapshot, plan: Plan, index: BuiltIndex) -> BuiltModel:
    """Train an adapter on the snapshot's examples, or keep the live one where the plan does not call for it."""
    project = turn.project
    live = turn.live
    if not plan.decision.action.retrains:
        kept = project.kept(live)
        export_model(project.workspace, kept)
        return kept
    turn.lease.check()
    with project.registry.step("retrain-model", turn.log) as log:
        reader, corpus = project.reader(index), turn.corpus(snapshot)
        built, trained = build_model(project.workspace, project.models, corpus, reader, project.progress)
        log.record("model.json", built)
        log.series("loss", enumerate(trained.losses))
        log.series("held_out_loss", ((one.step, one.loss) for one in trained.watched))
        log.series("held_out_score", ((one.step, one.score) for one in trained.watched))
        log.tags({"stopped": built.stopped, "resumed_at_step": trained.resumed_at} if built.stopped else {})
        work = {costs.TRAINED_EXAMPLES: built.trained_examples, costs.TRAIN_SECONDS: built.seconds}
        log.metrics({**work, "final_loss": built.final_loss, "replayed_examples": len(built.replayed)})
        if corpus.older.missing:
            log.tags({"replay_lacks": some(corpus.older.missing)})
        turn.log.metrics({f"work.{key}": value for key, value in work.items()})
        return built


@step("prove")
def prove(turn: Turn, snapshot: Snapshot, plan: Plan, index: BuiltIndex, model: BuiltModel) -> Verdict:
    """Is the candidate better than what is live, on the same questions? And is its index what it should be?"""
    project = turn.project
    started = time.perf_counter()
    with project.registry.step("prove", turn.log) as log:
        corpus = turn.corpus(snapshot)
        examiner = project.examiner(corpus)
        live, candidate = project.subject(turn.live), Subject(project.reader(index), model)
        before, after = examiner.scorecard(live), examiner.scorecard(candidate)
        rows = project.index.rows(index.version)
        verdict = judge(before, after, rows, corpus.chunks, project.workspace.params)
        if plan.decision.action.tunes:
            verdict = hold_to_ranking(verdict, project.workspace.params)
        if turn.live is not None and plan.decision.action.retrains:
            asked = skills(project.workspace, corpus, examiner.golden)
            verdict = hold_to_skills(verdict, examine(asked, examiner, live, candidate), project.workspace.params)
        after.write(project.workspace.artifacts / "scorecard.json")
        _log_verdict(turn, log, verdict, examiner.golden.questions, time.perf_counter() - started)
        commit_stages(project.workspace, _rebuilt(plan))
        return verdict


@step("publish")
def publish(
    turn: Turn, snapshot: Snapshot, plan: Plan, index: BuiltIndex, model: BuiltModel, verdict: Verdict
) -> Release:
    """Index and adapter go live together, by one pointer that moves last."""
    project = turn.project
    with project.registry.step("publish", turn.log):
        before = turn.live.id if turn.live else None
        action = plan.decision.action
        candidate = Candidate(snapshot=snapshot, index=index, model=model, decision=action, previous=before)
        release = make_live(project, turn.log, candidate, verdict, turn.lease.check)
        flag(project, [release], Deletions(project.workspace, snapshot, turn.corpus(snapshot).held))
        use_up(project.workspace, project.index.documents(release.index_tag), release)
        return release


@step("maintain")
def maintain(turn: Turn) -> list[Upkeep]:
    """Keep the index small and fast, and the disk free of what nothing needs.

    What was done, what was not, and why, stands in the step's run.
    """
    project = turn.project
    turn.lease.check()
    with project.registry.step("maintain", turn.log) as log:
        steps = keep_up(project)
        log.text("maintenance.md", report.upkeep_markdown(steps))
        log.tags({one.step.replace(" ", "_"): one.why for one in steps if one.done})
        return steps


def conclude(turn: Turn, plan: Plan, verdict: Verdict | None, release: Release | None) -> Cycle:
    """Write down what came of the turn; a "nothing" is recorded too."""
    outcome = "nothing to do"
    if plan.decision.action is Action.HOLD:
        outcome = f"waits for `ragtide approve {plan.content_digest()}`"
    if release is not None:
        outcome = f"release {release.id}"
        name_run(f"keep-current {turn.project.workspace.root.name}: {plan.decision.action}, {outcome}")
        turn.log.tags({"release": release.id, "index_version": release.index.version})
    elif verdict is not None:
        name_run(f"keep-current {turn.project.workspace.root.name}: {plan.decision.action}, refused")
        outcome = f"{REFUSED}: {report.refusal(verdict.checks)}"
    turn.log.metrics({ACTION_SECONDS: _action_seconds(turn)} if plan.decision.action.builds else {})
    turn.log.tags({"outcome": outcome, "accepted": verdict.accepted if verdict else "no candidate"})
    return turn.project.registry.read(turn.log)


def _expected(decision: Decision) -> dict[str, float | None]:
    """What the chosen action was thought to bring and to take: the next decisions learn from it."""
    if not decision.action.builds:
        return {}
    [chosen] = [one for one in decision.options if one.action is decision.action]
    return {EXPECTED_POINTS: chosen.gap_points, FORECAST_SECONDS: chosen.cost_seconds}


def _action_seconds(turn: Turn) -> float:
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
        report.write_page(Path(folder), name, markdown, plot)
        for run in runs:
            run.folder(None, Path(folder))


def _log_verdict(turn: Turn, log: RunLog, verdict: Verdict, questions: Sequence[Question], seconds: float) -> None:
    log.rename(f"{log.name} {'accepted' if verdict.accepted else 'refused'}")
    log.tags({"accepted": verdict.accepted})
    markdown = report.verdict_markdown(verdict, questions)
    plot = report.verdict_plot(verdict)
    _log_page((log, turn.log), "verdict", markdown, plot)
    address = turn.project.registry.address(turn.log)
    show("verdict", f"[The run in MLflow]({address})\n\n{markdown}", address)
    log.table("answers.json", answers_table(proof_rows(verdict, questions)))
    log.record("verdict.json", verdict)
    skills_asked = [card for one in verdict.skills for card in (one.before, one.after)]
    graded = sum(len(card.graded) for card in (verdict.before, verdict.after, *skills_asked))
    work = {costs.GRADED_QUESTIONS: graded, costs.PROVE_SECONDS: seconds}
    scores = {"score_before": verdict.before.answer_score.value, "score_after": verdict.after.answer_score.value}
    recall = {
        "recall_before": verdict.before.retrieval_recall.value,
        "recall_after": verdict.after.retrieval_recall.value,
    }
    more = report.retrieval_metrics(verdict.after) | report.skill_metrics(verdict)
    log.metrics({**work, **scores, **recall, **more})
    turn.log.metrics({**{f"work.{key}": value for key, value in work.items()}, **scores, **recall})
