"""Proof of a candidate: it answers the same questions as the live release, and the gate compares both."""

from __future__ import annotations

from dataclasses import dataclass

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evaluation.attribution import attribute_lost, find_lost
from ragtide.pipelines.evaluation.evaluator import SystemUnderTest
from ragtide.pipelines.evaluation.gate import check_ranking, check_suites, judge_candidate
from ragtide.pipelines.evaluation.regression import regression_suites, score_suites
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.evaluation import GoldenQuestion, Verdict
from ragtide.pipelines.records.release import Candidate, Release


@dataclass(frozen=True)
class Proof:
    """The verdict on a candidate, and the questions that it was asked."""

    verdict: Verdict
    questions: tuple[GoldenQuestion, ...]


def prove_candidate(project: Project, candidate: Candidate, live: Release | None, knowledge: KnowledgeBase) -> Proof:
    """Compare a candidate with the live release on the golden questions, and its index with the knowledge base.

    A tuned embedder must rank as well besides, and a new model must pass the regression suites. Where the index
    changed, the verdict names the changed documents behind lost questions.
    """
    params, action = project.workspace.params, candidate.decision
    evaluator = project.evaluator(knowledge)
    candidate_system = SystemUnderTest(project.retriever(candidate.index), candidate.model)
    live_system = project.system_under_test(live)
    before, after = evaluator.scorecard(live_system), evaluator.scorecard(candidate_system)
    excused = {question for document in knowledge.withheld.approved for question in document.questions}
    rows = project.index.rows(candidate.index.version)
    verdict = judge_candidate(before, after, rows, knowledge.chunks, params, excused)
    if live is not None and action.refreshes and find_lost(before, after):
        live_documents = project.index.documents(live.index_tag).items()
        changed = {name for name, _ in knowledge.source.documents.items() - live_documents}
        behind = attribute_lost(before, after, evaluator.golden.questions, changed)
        verdict = verdict.model_copy(update={"behind": behind})
    if action.tunes:
        verdict = check_ranking(verdict, params)
    if live is not None and action.retrains:
        suites = regression_suites(project.workspace, knowledge, evaluator.golden)
        verdict = check_suites(verdict, score_suites(suites, evaluator, live_system, candidate_system), params)
    return Proof(verdict, evaluator.golden.questions)
