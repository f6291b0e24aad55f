"""Which half is out of date? Golden questions answered with the right passage, and with what retrieval finds.

A wrong answer with the right page in front of the model is the model's fault; a wrong answer without it is the
index's. score(gold) - score(retrieved) is the index's gap, target - score(gold) the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.build.candidate import training_settings
from pipelines.build.corpus import Corpus
from pipelines.build.examples import best_chunk
from pipelines.build.prompts import question_prompt
from pipelines.build.search import Passage, Reader
from pipelines.params import Params, ScoreParams
from pipelines.prove.answer import Answerer
from pipelines.prove.questions import GoldenSet
from pipelines.prove.retrieval import each_once, judge_rankings
from pipelines.prove.score import difference, grade, holds, measure, well_formed
from pipelines.records import (
    BuiltModel,
    ChangeSet,
    Costs,
    Evidence,
    Graded,
    IndexDelta,
    Measure,
    Question,
    Release,
    Retrieval,
    Scorecard,
)

SEARCHES = ("hybrid", "vector", "text")
# Passages that are looked at to find ten documents: a document is often found by several of its own.
PASSAGES = 30


@dataclass(frozen=True)
class Subject:
    """What is measured: a version of the index (None: none yet) and a model."""

    reader: Reader | None
    model: BuiltModel


@dataclass(frozen=True)
class World:
    """What the evidence is gathered about, besides scores: the data, the release that is live, past and costs."""

    corpus: Corpus
    changes: ChangeSet
    delta: IndexDelta
    live: Release | None
    costs: Costs
    refused: dict[str, str]


class Examiner:
    """Asks one golden set of one corpus, under one answerer."""

    def __init__(self, corpus: Corpus, golden: GoldenSet, answerer: Answerer, params: Params) -> None:
        self._corpus = corpus
        self.golden = golden
        self._answerer = answerer
        self._params = params

    def with_gold(self, model: BuiltModel) -> list[Graded]:
        """Each question answered with the passage that holds its answer."""
        contexts = [gold_context(question, self._corpus) for question in self.golden.questions]
        return self._graded("answering with the right passage", contexts, model, [None] * len(contexts))

    def with_retrieval(self, subject: Subject) -> list[Graded]:
        """Each question answered with what the subject's index finds; with nothing where it has no index."""
        found = _search(subject.reader, self.golden.questions, self._params.index.top_k)
        contexts = [[passage.text for passage in passages or ()] for passages in found]
        return self._graded("answering with retrieved passages", contexts, subject.model, found)

    def scorecard(self, subject: Subject) -> Scorecard:
        """How the subject answers this golden set."""
        graded = self.with_retrieval(subject)
        return Scorecard(
            snapshot=self._corpus.snapshot.id,
            questions=self.golden.digest(),
            index_version=subject.reader.version if subject.reader else None,
            adapter=subject.model.adapter,
            answer_score=measure([one.score for one in graded], self._params.score),
            retrieval_recall=_recall(graded, self._params.score),
            malformed_share=measure([float(not one.well_formed) for one in graded], self._params.score),
            retrieval=self._retrieval(subject.reader),
            graded=tuple(graded),
        )

    def _retrieval(self, reader: Reader | None) -> dict[str, Retrieval]:
        """How well each way to search finds the documents that the questions name."""
        asked = [question for question in self.golden.questions if question.docs]
        if reader is None or not asked:
            return {}
        relevant = {question.id: dict.fromkeys(question.docs, 1) for question in asked}
        top_k = self._params.index.top_k
        found = {}
        for by in SEARCHES:
            passages = reader.search([question.question for question in asked], PASSAGES, by)
            rankings = {
                question.id: each_once(passage.document for passage in some)
                for question, some in zip(asked, passages, strict=True)
            }
            judged = judge_rankings(rankings, relevant, top_k)
            recall, ndcg10, mrr10 = (round(value, 6) for value in (judged.recall, judged.ndcg10, judged.mrr))
            found[by] = Retrieval(k=top_k, recall=recall, ndcg10=ndcg10, mrr10=mrr10, n=len(asked))
        return found

    def _graded(
        self,
        label: str,
        contexts: Sequence[Sequence[str]],
        model: BuiltModel,
        found: Sequence[Sequence[Passage] | None],
    ) -> list[Graded]:
        questions = self.golden.questions
        prompts = [question_prompt(one.question, texts) for one, texts in zip(questions, contexts, strict=True)]
        answers = self._answerer.answer(label, prompts, model)
        return [_grade(*one) for one in zip(questions, answers, found, strict=True)]


def gather(world: World, examiner: Examiner, subject: Subject, params: Params) -> Evidence:
    """Every signal about `world`, with the live release (or, before the first, the base model alone) as `subject`."""
    gold = [one.score for one in examiner.with_gold(subject.model)]
    retrieved = examiner.with_retrieval(subject)
    scores = [one.score for one in retrieved]
    asked = examiner.golden.questions
    moved = _moved(world, asked)
    won_back = [(right - now) * touched for right, now, touched in zip(gold, scores, moved, strict=True)]
    score_gold = measure(gold, params.score)
    return Evidence(
        snapshot=world.corpus.snapshot.id,
        live_release=world.live.id if world.live else None,
        changes=world.changes,
        delta=world.delta,
        score_gold=score_gold,
        score_retrieved=measure(scores, params.score),
        index_gap=difference(scores, gold, params.score),
        model_gap=_shortfall(score_gold, params.score.target),
        refresh_gain=_refresh_gain(won_back, moved, params.score),
        malformed_share=measure([float(not one.well_formed) for one in retrieved], params.score),
        stale_questions=examiner.golden.stale,
        examples=len(world.corpus.examples),
        orphaned_examples=len(world.corpus.orphans),
        min_examples=params.finetune.min_examples,
        adapter_is_current=_adapter_is_current(world, subject.model, params),
        refused=world.refused,
        held=dict(world.corpus.held),
        set_aside={one.document: one.reason for one in world.corpus.set_aside},
        costs=world.costs,
    )


def gold_context(question: Question, corpus: Corpus) -> list[str]:
    """The passage of the question's own documents that holds its answer; nothing where it names no documents."""
    chunks = [chunk for doc in question.docs for chunk in corpus.chunks_by_document.get(doc, [])]
    holding = [chunk for chunk in chunks if holds(chunk.text, question.answers)]
    return [best_chunk(question.question, holding or chunks).text] if chunks else []


def _grade(question: Question, answer: str, passages: Sequence[Passage] | None) -> Graded:
    found = passages or ()
    right = [one for one in found if one.document in question.docs and holds(one.text, question.answers)]
    return Graded(
        question=question.id,
        answer=answer,
        score=grade(answer, question),
        well_formed=well_formed(answer, question),
        hit=None if passages is None or not question.docs else bool(right),
        sources=tuple(dict.fromkeys(passage.document for passage in found)),
    )


def _search(reader: Reader | None, questions: Sequence[Question], top_k: int) -> Sequence[Sequence[Passage] | None]:
    """The passages of each question; None without an index, where there is nothing to measure of retrieval."""
    if reader is None:
        return [None for _ in questions]
    return reader.search([question.question for question in questions], top_k)


def _recall(graded: Sequence[Graded], params: ScoreParams) -> Measure:
    return measure([float(one.hit) for one in graded if one.hit is not None], params)


def _shortfall(score: Measure, target: float) -> Measure:
    """target - score, with the score's interval turned round."""
    if score.value is None or score.low is None or score.high is None:
        return Measure.unmeasured(score.why or "no score")
    return Measure(
        value=round(target - score.value, 6),
        n=score.n,
        low=round(target - score.high, 6),
        high=round(target - score.low, 6),
    )


def _moved(world: World, questions: Sequence[Question]) -> list[bool]:
    """Which questions ask for a document that is not in the live index as it now is."""
    changes = world.changes
    touched = {*changes.added, *changes.edited, *(rename.after for rename in changes.renamed)}
    return [world.live is None or bool(touched & set(question.docs)) for question in questions]


def _refresh_gain(won_back: Sequence[float], moved: Sequence[bool], params: ScoreParams) -> Measure:
    if not any(moved):
        return Measure.unmeasured("no golden question asks for a changed document")
    return measure(won_back, params)


def _adapter_is_current(world: World, model: BuiltModel, params: Params) -> bool:
    """Whether a retrain would see the same examples under the same settings, and so bring the same adapter."""
    return model.examples == world.corpus.snapshot.train_id and model.settings == training_settings(params, model.base)
