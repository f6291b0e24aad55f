"""Evaluator: golden questions answered with gold and with retrieved context, which tells index and model errors apart.

A wrong answer with the gold passage in the context is the model's error; a wrong answer without it is the index's.
score(gold) - score(retrieved) is the index gap, target - score(gold) the model gap. Gold context imitates serving: the
gold passage among as many passages as retrieval returns. A gold passage alone makes a model look better than it is,
above all one that cannot choose among passages (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.gold import GoldPassages, gold_context
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.evaluation.retrieval_metrics import score_rankings, unique_documents
from ragtide.pipelines.evaluation.scoring import grade_answer, is_well_formed, summarize_grades
from ragtide.pipelines.index.chunking import text_digest
from ragtide.pipelines.index.search import Passage, Retriever
from ragtide.pipelines.models.prompts import question_prompt
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import JudgeRequest
from ragtide.pipelines.records.evaluation import GoldenQuestion, GradedAnswer, RetrievalMetrics, Scorecard
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.sampling import evenly_spaced

SEARCHES = ("hybrid", "vector", "text")
# Passages retrieved to rank ten documents: a document is often found by several of its passages.
RANKED_PASSAGES = 30

# Question id -> retrieved passages; None without an index.
RetrievedPassages = Mapping[str, Sequence[Passage] | None]


@dataclass(frozen=True)
class SystemUnderTest:
    """What is evaluated: a model, and a reader of one index version (None where there is no index yet)."""

    reader: Retriever | None
    model: BuiltModel


class Evaluator:
    """Evaluates systems on one golden set of one corpus."""

    def __init__(self, knowledge: KnowledgeBase, golden: GoldenSet, answerer: Answerer, params: Params) -> None:
        self._knowledge = knowledge
        self.golden = golden
        self.answerer = answerer
        self._params = params
        self._gold: dict[str, GoldPassages] = {}

    def asking(self, questions: Sequence[GoldenQuestion]) -> Evaluator:
        """Return an evaluator with other questions on the same corpus."""
        return Evaluator(self._knowledge, GoldenSet(tuple(questions), ()), self.answerer, self._params)

    def with_gold(self, system: SystemUnderTest) -> list[GradedAnswer]:
        """Answer each question with gold context: its gold passage among others of the same documents.

        A question that names no document has no gold passage. It gets the retrieved passages, so that an error counts
        as the model's.
        """
        return self._with_gold(system, self.golden.questions)

    def with_retrieval(self, system: SystemUnderTest) -> list[GradedAnswer]:
        """Answer each question with the passages that the system retrieves; with none where it has no index."""
        retrieved = self._retrieve(system.reader, self.golden.questions)
        contexts = [[passage.text for passage in passages or ()] for passages in retrieved.values()]
        label = "answering with retrieved passages"
        return self._graded(label, self.golden.questions, contexts, system.model, retrieved)

    def gold_scores(self, system: SystemUnderTest, retrieved: Sequence[GradedAnswer]) -> list[float]:
        """Return each question's score with gold context from few answers, since measuring must stay cheap.

        A question answered correctly with retrieved context scores 1 in both conditions and is not asked again. Where a
        gold passage was retrieved, or the question names no document, gold context would be no different: the score
        stands. Of the rest a quarter, and at least `evidence.questions`, is asked, evenly spaced; each of the others
        takes the score of the nearest of these (hot-deck imputation).
        """
        questions, scores = self.golden.questions, [graded.score for graded in retrieved]
        unknown = [
            at
            for at, question in enumerate(questions)
            if scores[at] < 1 and question.docs and not retrieved[at].gold_retrieved
        ]
        minimum = self._params.evidence.questions
        asked = evenly_spaced(unknown, max(minimum, len(unknown) // 4) if minimum else len(unknown))
        graded = self._with_gold(system, [questions[at] for at in asked])
        measured = {at: answer.score for at, answer in zip(asked, graded, strict=True)}
        for at in unknown:
            scores[at] = measured[min(asked, key=lambda other: (abs(other - at), other))]
        return scores

    def scorecard(self, system: SystemUnderTest, with_searches: bool = True) -> Scorecard:
        """Score the system on this golden set; `with_searches` adds the retrieval metrics of each search mode."""
        graded = self.with_retrieval(system)
        return Scorecard(
            snapshot=self._knowledge.snapshot.id,
            questions=self.golden.digest(),
            index_version=system.reader.version if system.reader else None,
            adapter=system.model.adapter,
            **summarize_grades(graded, self._params.score),
            retrieval=self._retrieval_metrics(system.reader) if with_searches else {},
            graded=tuple(graded),
        )

    def gold(self, question: GoldenQuestion) -> GoldPassages:
        """A question's gold passages in this corpus, found once."""
        if question.id not in self._gold:
            self._gold[question.id] = GoldPassages.of(question, self._knowledge)
        return self._gold[question.id]

    def _with_gold(self, system: SystemUnderTest, questions: Sequence[GoldenQuestion]) -> list[GradedAnswer]:
        retrieved = self._retrieve(system.reader, [question for question in questions if not question.docs])
        contexts = [
            gold_context(question, self._knowledge, self._params.index.top_k, self._params.chunk.max_words)
            if question.docs
            else [passage.text for passage in retrieved[question.id] or ()]
            for question in questions
        ]
        return self._graded("answering with gold context", questions, contexts, system.model)

    def _retrieve(self, retriever: Retriever | None, questions: Sequence[GoldenQuestion]) -> RetrievedPassages:
        """Return each question's passages; None for all without an index, where there is no retrieval to measure."""
        if retriever is None:
            return {question.id: None for question in questions}
        results = retriever.contexts([question.question for question in questions], self._params.index.top_k)
        return {question.id: passages for question, passages in zip(questions, results, strict=True)}

    def _retrieval_metrics(self, retriever: Retriever | None) -> dict[str, RetrievalMetrics]:
        """Return how well each search mode finds the documents that the questions name."""
        questions = [question for question in self.golden.questions if question.docs]
        if retriever is None or not questions:
            return {}
        relevant = {question.id: dict.fromkeys(question.docs, 1) for question in questions}
        top_k, current = self._params.index.top_k, self._knowledge.paths.current
        metrics = {}
        for search in SEARCHES:
            results = retriever.search([question.question for question in questions], RANKED_PASSAGES, search)
            rankings = {
                question.id: unique_documents(current(passage.document) for passage in passages)
                for question, passages in zip(questions, results, strict=True)
            }
            scores = score_rankings(rankings, relevant, top_k)
            recall, ndcg10, mrr10 = (round(value, 6) for value in (scores.recall, scores.ndcg10, scores.mrr))
            metrics[search] = RetrievalMetrics(k=top_k, recall=recall, ndcg10=ndcg10, mrr10=mrr10, n=len(questions))
        return metrics

    def _graded(
        self,
        label: str,
        questions: Sequence[GoldenQuestion],
        contexts: Sequence[Sequence[str]],
        model: BuiltModel,
        retrieved: RetrievedPassages | None = None,
    ) -> list[GradedAnswer]:
        prompts = [
            question_prompt(question.question, texts) for question, texts in zip(questions, contexts, strict=True)
        ]
        answers = self.answerer.answer(label, prompts, model)
        passages = retrieved or {}
        graded = [
            _grade(question, answer, passages.get(question.id), self.gold(question))
            for question, answer in zip(questions, answers, strict=True)
        ]
        return self._judged(questions, graded)

    def _judged(self, questions: Sequence[GoldenQuestion], graded: Sequence[GradedAnswer]) -> list[GradedAnswer]:
        """Replace the scores of the well-formed answers to questions whose scorer is the judge."""
        requests = {
            at: JudgeRequest(question.question, answer.answer, question.answers)
            for at, (question, answer) in enumerate(zip(questions, graded, strict=True))
            if question.scorer == "judge" and answer.well_formed
        }
        scores = dict(zip(requests, self.answerer.judge_scores([*requests.values()]), strict=True))
        return [
            answer.model_copy(update={"score": scores[at]}) if at in scores else answer
            for at, answer in enumerate(graded)
        ]


def _grade(
    question: GoldenQuestion, answer: str, retrieved: Sequence[Passage] | None, gold: GoldPassages
) -> GradedAnswer:
    passages = retrieved or ()
    measurable = retrieved is not None and bool(question.docs)
    return GradedAnswer(
        question=question.id,
        answer=answer,
        score=grade_answer(answer, question),
        well_formed=is_well_formed(answer, question),
        gold_retrieved=gold.are_in({text_digest(passage.text) for passage in passages}) if measurable else None,
        sources=tuple(unique_documents(passage.document for passage in passages)),
    )
