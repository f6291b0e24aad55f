"""Which half is out of date? Golden questions answered with the right passage, and with what retrieval finds.

A wrong answer with the right page in front of the model is the model's fault; a wrong answer without it is the
index's. score(gold) - score(retrieved) is the index's gap, target - score(gold) the model's. "With the right passage"
is meant as the model serves: that passage among as many as retrieval brings up. Alone it makes a model look better than
it is, above all one that has not learnt to choose (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.evaluation.retrieval_metrics import score_rankings, unique_documents
from ragtide.pipelines.evaluation.scoring import grade_answer, is_well_formed, supports_answer
from ragtide.pipelines.index.search import Passage, Retriever
from ragtide.pipelines.models.prompts import question_prompt
from ragtide.pipelines.params import Params, ScoreParams
from ragtide.pipelines.ports import JudgeRequest
from ragtide.pipelines.records.evaluation import GoldenQuestion, GradedAnswer, RetrievalMetrics, Scorecard
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.sampling import evenly_spaced, measure_mean
from ragtide.pipelines.training.samples import rank_by_overlap

SEARCHES = ("hybrid", "vector", "text")
# Passages that are looked at to find ten documents: a document is often found by several of its own.
PASSAGES = 30


@dataclass(frozen=True)
class SystemUnderTest:
    """What is measured: a version of the index (None: none yet) and a model."""

    reader: Retriever | None
    model: BuiltModel


# Question -> what was found for it; None without an index.
FoundPassages = Mapping[str, Sequence[Passage] | None]


class Evaluator:
    """Asks one golden set of one corpus, under one answerer."""

    def __init__(self, knowledge: KnowledgeBase, golden: GoldenSet, answerer: Answerer, params: Params) -> None:
        self._knowledge = knowledge
        self.golden = golden
        self.answerer = answerer
        self._params = params

    def with_gold(self, subject: SystemUnderTest) -> list[GradedAnswer]:
        """Each question answered with the passage that holds its answer, among others of its page.

        One that names no document has no right passage: it gets what is found, so that whatever is wrong with its
        answer is the model's fault.
        """
        return self._with_gold(subject, self.golden.questions)

    def gold_scores(self, subject: SystemUnderTest, retrieved: Sequence[GradedAnswer]) -> list[float]:
        """Each question's score with the right passage, asking little: looking must stay cheap beside acting.

        What is right with retrieved passages is no fault of the index, and of the model neither: it counts as right.
        Where the right passage was among those retrieved, or the question names no document, there is nothing else to
        put before the model: the score stands. Of the rest a quarter is asked, and `evidence.questions` at least,
        evenly spaced; each of the others takes the score of the nearest of them (hot-deck imputation).
        """
        questions, scores = self.golden.questions, [one.score for one in retrieved]
        open_ = [
            at for at, one in enumerate(questions) if scores[at] < 1 and one.docs and not retrieved[at].gold_retrieved
        ]
        least = self._params.evidence.questions
        asked = evenly_spaced(open_, max(least, len(open_) // 4) if least else len(open_))
        graded = self._with_gold(subject, [questions[at] for at in asked])
        told = {at: one.score for at, one in zip(asked, graded, strict=True)}
        for at in open_:
            scores[at] = told[min(asked, key=lambda other: (abs(other - at), other))]
        return scores

    def _with_gold(self, subject: SystemUnderTest, questions: Sequence[GoldenQuestion]) -> list[GradedAnswer]:
        found = self._found(subject.reader, [question for question in questions if not question.docs])
        contexts = [
            gold_context(question, self._knowledge, self._params.index.top_k)
            if question.docs
            else [passage.text for passage in found[question.id] or ()]
            for question in questions
        ]
        return self._graded("answering with the right passage", questions, contexts, subject.model)

    def with_retrieval(self, subject: SystemUnderTest) -> list[GradedAnswer]:
        """Each question answered with what the subject's index finds; with nothing where it has no index."""
        found = self._found(subject.reader, self.golden.questions)
        contexts = [[passage.text for passage in passages or ()] for passages in found.values()]
        label = "answering with retrieved passages"
        return self._graded(label, self.golden.questions, contexts, subject.model, found)

    def _found(self, reader: Retriever | None, questions: Sequence[GoldenQuestion]) -> FoundPassages:
        """Question -> its passages; None without an index, where there is nothing to measure of retrieval."""
        if reader is None:
            return {question.id: None for question in questions}
        passages = reader.search([question.question for question in questions], self._params.index.top_k)
        return {question.id: some for question, some in zip(questions, passages, strict=True)}

    def asking(self, questions: Sequence[GoldenQuestion]) -> Evaluator:
        """The same with other questions."""
        return Evaluator(self._knowledge, GoldenSet(tuple(questions), ()), self.answerer, self._params)

    def scorecard(self, subject: SystemUnderTest, with_searches: bool = True) -> Scorecard:
        """How the subject answers this golden set, and with `with_searches` how well each way to search finds it."""
        graded = self.with_retrieval(subject)
        return Scorecard(
            snapshot=self._knowledge.snapshot.id,
            questions=self.golden.digest(),
            index_version=subject.reader.version if subject.reader else None,
            adapter=subject.model.adapter,
            answer_score=measure_mean([one.score for one in graded], self._params.score),
            retrieval_recall=_recall(graded, self._params.score),
            malformed_share=measure_mean([float(not one.well_formed) for one in graded], self._params.score),
            retrieval=self._retrieval(subject.reader) if with_searches else {},
            graded=tuple(graded),
        )

    def _retrieval(self, reader: Retriever | None) -> dict[str, RetrievalMetrics]:
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
                question.id: unique_documents(passage.document for passage in some)
                for question, some in zip(asked, passages, strict=True)
            }
            judged = score_rankings(rankings, relevant, top_k)
            recall, ndcg10, mrr10 = (round(value, 6) for value in (judged.recall, judged.ndcg10, judged.mrr))
            found[by] = RetrievalMetrics(k=top_k, recall=recall, ndcg10=ndcg10, mrr10=mrr10, n=len(asked))
        return found

    def _graded(
        self,
        label: str,
        questions: Sequence[GoldenQuestion],
        contexts: Sequence[Sequence[str]],
        model: BuiltModel,
        found: FoundPassages | None = None,
    ) -> list[GradedAnswer]:
        prompts = [question_prompt(one.question, texts) for one, texts in zip(questions, contexts, strict=True)]
        answers = self.answerer.answer(label, prompts, model)
        passages = found or {}
        graded = [_grade(one, said, passages.get(one.id)) for one, said in zip(questions, answers, strict=True)]
        return self._judged(questions, graded)

    def _judged(self, questions: Sequence[GoldenQuestion], graded: Sequence[GradedAnswer]) -> list[GradedAnswer]:
        """The answers to questions that ask for a judge get the score that it gives."""
        to_judge = [
            (at, JudgeRequest(question.question, one.answer, question.answers))
            for at, (question, one) in enumerate(zip(questions, graded, strict=True))
            if question.scorer == "judge" and one.well_formed
        ]
        opinions = self.answerer.opinions([claim for _, claim in to_judge])
        scores = {at: opinion for (at, _), opinion in zip(to_judge, opinions, strict=True)}
        return [one.model_copy(update={"score": scores[at]}) if at in scores else one for at, one in enumerate(graded)]


def gold_context(question: GoldenQuestion, knowledge: KnowledgeBase, passages: int) -> list[str]:
    """So many passages of the question's own documents, the one that holds its answer among them.

    The nearest to the question, in that order; fewer where there are not so many, none where it names no documents.
    """
    every = [chunk for doc in question.docs for chunk in knowledge.chunks_by_document.get(doc, [])]
    nearest = rank_by_overlap(question.question, every)
    right = next((chunk for chunk in nearest if supports_answer(chunk.text, question)), None)
    if right is None or right in nearest[:passages]:
        return [chunk.text for chunk in nearest[:passages]]
    return [chunk.text for chunk in (*nearest[: passages - 1], right)]


def is_gold_passage(passage: Passage, question: GoldenQuestion) -> bool:
    """Whether it is a right passage: of one of the question's documents, and it holds the answer."""
    return passage.document in question.docs and supports_answer(passage.text, question)


def _grade(question: GoldenQuestion, answer: str, passages: Sequence[Passage] | None) -> GradedAnswer:
    found = passages or ()
    return GradedAnswer(
        question=question.id,
        answer=answer,
        score=grade_answer(answer, question),
        well_formed=is_well_formed(answer, question),
        gold_retrieved=None
        if passages is None or not question.docs
        else any(is_gold_passage(one, question) for one in found),
        sources=tuple(dict.fromkeys(passage.document for passage in found)),
    )


def _recall(graded: Sequence[GradedAnswer], params: ScoreParams) -> Measure:
    return measure_mean([float(one.gold_retrieved) for one in graded if one.gold_retrieved is not None], params)
