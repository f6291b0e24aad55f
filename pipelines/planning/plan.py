"""What would `ragtide run` do now, and why? A plan is data: one function prints it, another carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ragtide.pipelines.build import open_index
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.data.diff import diff_snapshots
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.evaluation.regression import regression_suites
from ragtide.pipelines.evidence.gather import EvidenceInputs, gather_evidence
from ragtide.pipelines.evidence.text_signals import LiveIndexView
from ragtide.pipelines.history.approvals import (
    approved_actions,
    read_approvals,
    read_rejections,
    rejected_actions,
    rejected_deletions_reason,
)
from ragtide.pipelines.history.costs import Workload, forecast_costs
from ragtide.pipelines.history.history import hours_since_retrain, past_decisions, rejected_before, spent_hours
from ragtide.pipelines.models.load import LoadedEmbedder, is_plugin
from ragtide.pipelines.policy.decide import decide
from ragtide.pipelines.policy.registry import load_policy
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.release.lineage import DeletedDocuments, deleted_training_documents
from ragtide.pipelines.training.embedder_tuning import TuningData, tuning_data
from ragtide.pipelines.training.samples import draw_unanswerable


def make_plan(project: Project, corpus: Corpus) -> Plan:
    """Gather the evidence about a snapshot's content and decide. Changes neither data nor index nor registry."""
    params = project.workspace.params
    # A name that is not known is to be known before the model is asked anything.
    load_policy(params.policy.name)
    examiner = project.evaluator(corpus)
    world = _world(project, corpus, examiner.golden)
    evidence = gather_evidence(
        world, examiner, project.system_under_test(world.live), _retriever(project, world.live).embedder, params
    )
    return Plan(evidence=evidence, decision=decide(evidence, params.policy), params=params.digest())


def save_plan(project: Project, plan: Plan) -> str:
    """Keep a plan under its digest, for `ragtide run --plan DIGEST`."""
    digest = plan.content_digest()
    plan.write(project.workspace.plan_file(digest))
    return digest


def read_plan(project: Project, digest: str) -> Plan:
    """A plan that was kept. Raises RefusalError where it is unknown, or was changed since."""
    path = project.workspace.plan_file(digest)
    if not path.is_file():
        raise UserError(f"there is no plan {digest} in {path.parent}: `ragtide plan` makes one and prints its digest")
    plan = Plan.read(path)
    if plan.content_digest() != digest:
        raise UserError(f"{path} was changed by hand and is no longer plan {digest}: make a new one, `ragtide plan`")
    return plan


def load_current_plan(project: Project, digest: str, snapshot: Snapshot, held: Mapping[str, str] | None = None) -> Plan:
    """The plan of that digest. Raises RefusalError where it is unknown or the world has moved since (law 7).

    `held` are the removals that wait now, where they are known already: an approval since then makes it another plan.
    """
    plan = read_plan(project, digest)
    live = project.registry.champion()
    moved = [
        what
        for what, then, now in (
            ("the data", plan.evidence.snapshot, snapshot.id),
            ("the live release", plan.evidence.live_release, live.id if live else None),
            ("params.yaml", plan.params, project.workspace.params.digest()),
            ("what was decided and done", plan.evidence.past, past_decisions(project.registry.history())),
            (
                "what is approved",
                plan.evidence.pending_deletions,
                plan.evidence.pending_deletions if held is None else dict(held),
            ),
        )
        if then != now
    ]
    if moved:
        raise UserError(f"{' and '.join(moved)} changed since plan {digest}: make a new one with `ragtide plan`")
    return plan


def _world(project: Project, corpus: Corpus, golden: GoldenSet) -> EvidenceInputs:
    params = project.workspace.params
    live = project.registry.champion()
    history, now = project.registry.history(), datetime.now(UTC)
    case, rejected = (corpus.snapshot.id, params.digest()), read_rejections(project.workspace)
    index = open_index(project.workspace, _retriever(project, live).embedder)
    delta = index.delta(corpus.chunks, live.index.version if live else None)
    changes = diff_snapshots(live.snapshot if live else None, corpus.snapshot)
    taught = len(corpus.training_examples) + len(draw_unanswerable(corpus.training_examples, params))
    tunable = _tunable(project, corpus, live)
    workload = Workload(
        chunks=delta.to_embed,
        all_chunks=delta.chunks_after,
        pairs=params.embedder_tuning.trained_pairs(tunable.pairs) if tunable else 0,
        examples=taught * params.finetune.passes(taught),
        questions=len(golden.questions),
        suite_questions_asked=_skill_questions(project, corpus, golden) if live else 0,
    )
    return EvidenceInputs(
        corpus=corpus,
        changes=changes,
        delta=delta,
        live=live,
        costs=forecast_costs(workload, history, params.costs),
        rejected_actions=rejected_before(history, *case) | rejected_actions(rejected, *case),
        deletions_rejected_reason=rejected_deletions_reason(rejected, corpus.pending_deletions),
        before=_before(project, corpus, golden, live, bool(delta.rebuild)),
        approved_actions=approved_actions(read_approvals(project.workspace), corpus.snapshot.id),
        past=past_decisions(history),
        spent_hours=spent_hours(history, now),
        hours_since_retrain=hours_since_retrain(history, now),
        tunable=tunable,
        deleted_training_documents=deleted_training_documents(
            live.model, DeletedDocuments(project.workspace, corpus.snapshot, corpus.pending_deletions)
        )
        if live
        else (),
    )


def _retriever(project: Project, live: Release | None) -> LoadedEmbedder:
    """The retriever that a refresh goes on with."""
    return project.embedder_for(live.index.tuned_embedder if live else None)


def _tunable(project: Project, corpus: Corpus, live: Release | None) -> TuningData | None:
    """What the retriever could be tuned on; None for code of the user's own, and before there is an index."""
    params = project.workspace.params
    if live is None or is_plugin(params.embed.model):
        return None
    return tuning_data(params, project.pairs(corpus), _retriever(project, live).tuned)


def _skill_questions(project: Project, corpus: Corpus, golden: GoldenSet) -> int:
    """How many questions about earlier skills a new model would be asked."""
    return sum(len(skill.questions) for skill in regression_suites(project.workspace, corpus, golden))


def _before(
    project: Project, corpus: Corpus, golden: GoldenSet, live: Release | None, rebuild: bool
) -> LiveIndexView | None:
    """The live index as it was built; a sample of its vectors only where new ones can be compared with them."""
    if live is None:
        return None
    index = project.index_of(live.index)
    asked = {doc for question in golden.questions for doc in question.docs}
    return LiveIndexView.of(
        index, live.index_tag, corpus, asked, 0 if rebuild else project.workspace.params.evidence.old_chunks
    )


def headline(plan: Plan) -> str:
    """The decision in one line, for the history."""
    evidence = plan.evidence
    unmoved = evidence.changes.is_empty and evidence.delta.is_empty and not evidence.pending_deletions
    if plan.decision.action == Action.NOTHING and unmoved:
        return "nothing has changed since the live release"
    single = [one for one in plan.decision.options if not one.action.is_joint and one.action != Action.NOTHING]
    chosen = [one for one in single if one.worth_it]
    if plan.decision.action == Action.HOLD and plan.decision.proposed and chosen:
        return f"{plan.decision.proposed} waits for an approval: " + "; ".join(one.because for one in chosen)
    if not chosen and plan.deletions_to_approve and plan.evidence.delta.is_empty:
        return f"{len(plan.deletions_to_approve)} removals wait for an approval; nothing else has changed"
    if not chosen:
        # An action that was refused, or taken back, may be worth a lot: its own words say why it is not offered again.
        prefix = "not done" if plan.evidence.rejected_actions else "not worth its cost"
        return f"{prefix}: " + "; ".join(f"{one.action} ({one.because})" for one in single)
    return "; ".join(one.because for one in chosen)
