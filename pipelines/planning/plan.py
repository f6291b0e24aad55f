"""Plans: five records of evidence, a decision, and the digest by which a plan is carried out.

A plan is data: one function prints it, another carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.regression import outdated_suite_paths
from ragtide.pipelines.evidence.answer_scores import measure_answers
from ragtide.pipelines.evidence.data_change import describe_data_change
from ragtide.pipelines.evidence.golden_losses import find_asked, find_golden_losses
from ragtide.pipelines.evidence.limits import read_limits
from ragtide.pipelines.evidence.live_index import Stopwatch
from ragtide.pipelines.evidence.text_signals import measure_text
from ragtide.pipelines.evidence.training_data import measure_training_data
from ragtide.pipelines.history.approvals import read_rejections
from ragtide.pipelines.history.freshness import measure_freshness, read_source_times
from ragtide.pipelines.history.history import past_decisions
from ragtide.pipelines.planning.due_facts import with_due_facts
from ragtide.pipelines.planning.workload import forecast_workload, live_embedder, tuning_data_of, view_live_index
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.registry import load_policy
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.release.lineage import DeletedDocuments, deleted_training_documents


def make_plan(project: Project, corpus: Corpus) -> Plan:
    """Gather the evidence about a snapshot and decide. Changes neither data nor index nor registry."""
    # An unknown name is reported before the model is asked anything.
    load_policy(project.workspace.params.policy.name)
    return decide_on(project, gather_evidence(project, corpus))


def decide_on(project: Project, evidence: Evidence) -> Plan:
    """The plan that the evidence calls for under the project's params."""
    params = project.workspace.params
    return Plan(evidence=evidence, decision=make_decision(evidence, params.policy), params=params.digest())


def gather_evidence(project: Project, corpus: Corpus) -> Evidence:
    """The five records of evidence about a snapshot, compared with the live release."""
    workspace, params, knowledge = project.workspace, project.workspace.params, corpus.knowledge
    evaluator, release, watch = project.evaluator(knowledge), project.registry.champion(), Stopwatch()
    history, now = project.registry.history(), datetime.now(UTC)
    embedder = live_embedder(project, release).embedder
    index = view_live_index(project, knowledge, evaluator.golden, release)
    tuning = tuning_data_of(project, corpus, release)
    deletions = DeletedDocuments(workspace, knowledge.snapshot, knowledge.pending_deletions, knowledge.paths)
    deleted = deleted_training_documents(release.model, deletions) if release else ()
    outdated = {
        **outdated_suite_paths(workspace, knowledge),
        **evaluator.golden.outdated_paths,
        **corpus.training.outdated_paths,
    }
    answered = find_asked(release, project.registry.release)
    golden = find_golden_losses(workspace, evaluator.golden, knowledge, release, answered)
    data = describe_data_change(knowledge, release, index.delta, read_rejections(workspace), deleted, golden)
    data = data.model_copy(update={"outdated_paths": dict(sorted(outdated.items()))})
    live = project.system_under_test(release)
    scores = measure_answers(evaluator, live, index.view, params.score, watch)
    text = measure_text(knowledge, index.view, live.reader, embedder, params, watch)
    asked = text.affected_questions
    # A live adapter is compared with its base model, which is asked as well.
    asked = asked * 2 if asked and release and release.model.adapter else asked
    workload = forecast_workload(project, corpus, evaluator.golden, index, tuning, asked)
    limits = read_limits(workspace, history, workload, knowledge.snapshot, now)
    arrival = measure_freshness(read_source_times(workspace, knowledge.snapshot, now), release, history, now)
    data = with_due_facts(data, text.substantive_sentences, arrival.stale_since, workspace, now)
    with watch("excess_loss"):
        training = measure_training_data(corpus, release, live, evaluator.answerer, tuning, params)
    return Evidence(data=data, scores=scores, text=text, training=training, limits=limits, signal_seconds=watch.seconds)


def save_plan(project: Project, plan: Plan) -> str:
    """Store a plan under its digest, for `ragtide run --plan DIGEST`."""
    digest = plan.content_digest()
    plan.write(project.workspace.plan_file(digest))
    return digest


def read_plan(project: Project, digest: str) -> Plan:
    """A stored plan. Raises UserError where it is unknown, or was changed since."""
    path = project.workspace.plan_file(digest)
    if not path.is_file():
        raise UserError(f"there is no plan {digest} in {path.parent}: `ragtide plan` makes one and prints its digest")
    plan = Plan.read(path)
    if plan.content_digest() != digest:
        raise UserError(f"{path} was changed by hand and is no longer plan {digest}: make a new one, `ragtide plan`")
    return plan


def load_current_plan(project: Project, digest: str, snapshot: Snapshot, held: Mapping[str, str] | None = None) -> Plan:
    """The plan of that digest. Raises UserError where it is unknown or no longer current.

    That is where data, params, history, approvals or the live release changed since (invariant plan-is-what-happens).
    `held` are the documents that wait for an approval now, where they are known: an approval since then makes another
    plan.
    """
    plan = read_plan(project, digest)
    changed = [what for what, then, now in _compared(project, plan, snapshot, held) if then != now]
    if changed:
        raise UserError(f"{' and '.join(changed)} changed since plan {digest}: make a new one with `ragtide plan`")
    return plan


def _compared(
    project: Project, plan: Plan, snapshot: Snapshot, held: Mapping[str, str] | None
) -> tuple[tuple[str, object, object], ...]:
    """What a plan depends on, as it was then and as it is now."""
    data, release = plan.evidence.data, project.registry.champion()
    return (
        ("the data", data.snapshot, snapshot.id),
        ("the live release", data.live_release, release.id if release else None),
        ("params.yaml", plan.params, project.workspace.params.digest()),
        ("what was decided and done", plan.evidence.limits.past, past_decisions(project.registry.history())),
        ("what is approved", data.held, data.held if held is None else dict(held)),
    )
