"""Proof of a candidate: it answers the same questions as the live release, and its parts are compared with each other.

A candidate's adapter, live before or new, is compared with the base model on the same index, and a new one with the
live one as well: the combination that answers best goes live, so that neither part hides behind the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evaluation.attribution import attribute_lost, find_lost
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.gate import (
    accept_removal,
    check_alternatives,
    check_ranking,
    check_rows,
    check_suites,
    judge_candidate,
)
from ragtide.pipelines.evaluation.questions import earlier_lines
from ragtide.pipelines.evaluation.regression import regression_suites, score_suites
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import Check, GoldenQuestion, Scorecard, Verdict
from ragtide.pipelines.records.release import BuiltModel, Candidate, Release

BASE_MODEL, LIVE_MODEL = "base model", "live model"


@dataclass(frozen=True)
class Proof:
    """The verdict on a candidate, and the best combination of its parts.

    `verdict` is about the candidate as it was built. `best` with its verdict `best_verdict` is what may go live: the
    candidate itself, or its index with the base model where that answers better. `questions` were asked.
    """

    verdict: Verdict
    best: Candidate
    best_verdict: Verdict
    questions: tuple[GoldenQuestion, ...]

    @property
    def accepted(self) -> bool:
        """Whether a combination may go live."""
        return self.best_verdict.accepted


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the live release on one knowledge base, with the evaluator that asks both."""

    project: Project
    knowledge: KnowledgeBase
    evaluator: Evaluator
    candidate: Candidate
    live: Release | None
    before: Scorecard

    def score(self, model: BuiltModel, searched: Scorecard | None = None) -> Scorecard:
        """The candidate's index with this model; `searched` is a scorecard of the same index, if there is one."""
        system = SystemUnderTest(self.project.retriever(self.candidate.index), model)
        card = self.evaluator.scorecard(system, with_searches=searched is None)
        return card.model_copy(update={"retrieval": searched.retrieval}) if searched else card

    def judge(self, model: BuiltModel, after: Scorecard) -> Verdict:
        """The verdict on the candidate's index with this model, which answered as `after` says."""
        params, live = self.project.workspace.params, self.live
        excused = {question for document in self.knowledge.withheld.approved for question in document.questions}
        if self.candidate.decision == Action.DROP_ADAPTER:
            # A person has asked for it: no score can forbid that.
            return accept_removal(self.before, after, (), params)
        checks = self._check_index()
        verdict = judge_candidate(self.before, after, checks, params, excused)
        if live is not None and self.candidate.decision.refreshes and find_lost(self.before, after):
            live_documents = self.project.index.documents(live.index_tag).items()
            changed = {name for name, _ in self.knowledge.source.documents.items() - live_documents}
            behind = attribute_lost(self.before, after, self.evaluator.golden.questions, changed)
            verdict = verdict.model_copy(update={"behind": behind, "changed_lines": self._changed_lines(behind, live)})
        if self.candidate.decision.tunes:
            verdict = check_ranking(verdict, params)
        if live is not None and model != live.model:
            suites = regression_suites(self.project.workspace, self.knowledge, self.evaluator.golden)
            live_system = self.project.system_under_test(live)
            candidate_system = SystemUnderTest(self.project.retriever(self.candidate.index), model)
            scores = score_suites(suites, self.evaluator, live_system, candidate_system)
            verdict = check_suites(verdict, scores, params)
        return verdict

    def _changed_lines(self, behind: Mapping[str, Collection[str]], live: Release) -> tuple[str, ...]:
        """The lost questions whose golden line is not the one that the live release was proven with."""
        earlier = earlier_lines(self.project.workspace, live.snapshot.questions, self.knowledge.snapshot.questions)
        lost = {question for questions in behind.values() for question in questions}
        lines = {question.id: question for question in self.evaluator.golden.questions}
        return tuple(sorted(key for key in lost if earlier and lines[key].model_dump(exclude={"id"}) not in earlier))

    def _check_index(self) -> tuple[Check, ...]:
        """The check of the candidate's rows against a clean build; none where it has the live release's index."""
        if not self.candidate.decision.refreshes:
            return ()
        return (check_rows(self.project.index.rows(self.candidate.index.version), self.knowledge.chunks),)


def prove_candidate(project: Project, candidate: Candidate, live: Release | None, knowledge: KnowledgeBase) -> Proof:
    """Compare a candidate with the live release on the golden questions, and its index with the knowledge base.

    A tuned embedder must rank as well besides, and another model must pass the regression suites. Where the index
    changed, the verdict names the changed documents behind lost questions. A new adapter must answer at least as well
    as the base model and the live one on the same index; the live one stays unless the base model is surely better.
    """
    evaluator = project.evaluator(knowledge)
    before = evaluator.scorecard(project.system_under_test(live))
    comparison = Comparison(project, knowledge, evaluator, candidate, live, before)
    after, questions = comparison.score(candidate.model), evaluator.golden.questions
    verdict = comparison.judge(candidate.model, after)
    base = candidate.model.base_alone
    if candidate.model == base:
        return Proof(verdict, candidate, verdict, questions)
    alternatives = {BASE_MODEL: comparison.score(base, after)}
    if candidate.decision.retrains and live is not None and live.model != base:
        # A training keeps the live index, on which the live model has answered already.
        alternatives[LIVE_MODEL] = before
    verdict = check_alternatives(verdict, alternatives, candidate.decision.retrains, project.workspace.params)
    is_live = live is not None and live.model == base and not candidate.decision.refreshes
    if verdict.best_alternative == BASE_MODEL and not is_live:
        with_base = comparison.judge(base, alternatives[BASE_MODEL])
        if with_base.accepted:
            return Proof(verdict, candidate.model_copy(update={"model": base}), with_base, questions)
    return Proof(verdict, candidate, verdict, questions)
