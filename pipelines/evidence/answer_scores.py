"""Answer scores: golden questions answered with gold context and with retrieved context.

They say which component is out of date. A wrong answer with gold context is the model's fault; a wrong answer without
it is the index's. score(gold) - score(retrieved) is the index gap, target - score(gold) the model gap. Gold context is
given as the model is used: the gold passage among as many as retrieval returns. Alone it makes a model look better than
it is, above all one that cannot choose (docs/log.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evidence.live_index import LiveIndexView, Stopwatch
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.records.evaluation import GoldenQuestion, GradedAnswer
from ragtide.pipelines.records.evidence import AnswerScores, Gap, Measure
from ragtide.pipelines.sampling import measure_mean, paired_difference

# As many groups of questions as fit into a table that one can read.
GROUPS = 12
NOT_MISSING = "the live index holds the answer to every golden question"
ALL_MISSING = "the live index holds the answer to no golden question"


@dataclass(frozen=True)
class AttributedScores:
    """Every golden question, answered with gold context and with retrieved context."""

    questions: Sequence[GoldenQuestion]
    gold: Sequence[float]
    retrieved: Sequence[GradedAnswer]

    @property
    def scores(self) -> list[float]:
        return [answer.score for answer in self.retrieved]


def measure_answers(
    evaluator: Evaluator,
    live: SystemUnderTest,
    index: LiveIndexView | None,
    params: ScoreParams,
    watch: Stopwatch,
) -> AnswerScores:
    """Answer the golden questions with the live release, or before the first with the base model alone.

    `index` is None before the first release.
    """
    with watch("score_retrieved"):
        retrieved = evaluator.with_retrieval(live)
    with watch("score_gold"):
        answered = AttributedScores(evaluator.golden.questions, evaluator.gold_scores(live, retrieved), retrieved)
    missing = [_is_missing(question, index, evaluator) for question in answered.questions]
    return _scores(answered, missing, params).model_copy(update={"stale_questions": evaluator.golden.stale})


def _scores(answered: AttributedScores, missing: Sequence[bool], params: ScoreParams) -> AnswerScores:
    gold, scores = list(answered.gold), answered.scores
    lost = [right - now for right, now in zip(gold, scores, strict=True)]
    score_gold = measure_mean(gold, params)
    return AnswerScores(
        score_gold=score_gold,
        score_retrieved=measure_mean(scores, params),
        index_gap=paired_difference(scores, gold, params),
        model_gap=_shortfall(score_gold, params.target),
        refresh_gain=_regained(lost, missing, NOT_MISSING, params),
        missing_answers=measure_mean([float(is_missing) for is_missing in missing], params),
        embedder_gap=_regained(lost, [not is_missing for is_missing in missing], ALL_MISSING, params),
        malformed_share=measure_mean([float(not answer.well_formed) for answer in answered.retrieved], params),
        groups=_gaps(answered, folder_of, params),
        kinds=_gaps(answered, kind_of_answer, params),
    )


def _shortfall(score: Measure, target: float) -> Measure:
    """target - score, with the score's interval reversed."""
    if score.value is None or score.low is None or score.high is None:
        return Measure.unmeasured(score.why or "no score")
    return Measure(
        value=round(target - score.value, 6),
        n=score.n,
        low=round(target - score.high, 6),
        high=round(target - score.low, 6),
    )


def _is_missing(question: GoldenQuestion, index: LiveIndexView | None, evaluator: Evaluator) -> bool:
    """Whether the live index holds none of a question's gold passages, so that only new chunks can bring its answer."""
    if index is None:
        return True
    return bool(question.docs) and not evaluator.gold(question).are_in(index.digests)


def _regained(lost: Sequence[float], concerned: Sequence[bool], why: str, params: ScoreParams) -> Measure:
    """What would be gained if the questions `concerned` were answered as with gold context, over all of them."""
    if not any(concerned):
        return Measure.unmeasured(why)
    return measure_mean([points * touched for points, touched in zip(lost, concerned, strict=True)], params)


def _gaps(answered: AttributedScores, name_of: Callable[[GoldenQuestion], str], params: ScoreParams) -> tuple[Gap, ...]:
    """Both gaps of each group of questions, the largest groups first."""
    members: dict[str, list[int]] = {}
    for place, question in enumerate(answered.questions):
        members.setdefault(name_of(question), []).append(place)
    largest = sorted(members.items(), key=lambda group: (-len(group[1]), group[0]))[:GROUPS]
    gold, scores = answered.gold, answered.scores
    return tuple(
        Gap(
            name=name,
            index_gap=paired_difference([scores[at] for at in places], [gold[at] for at in places], params),
            model_gap=_shortfall(measure_mean([gold[at] for at in places], params), params.target),
        )
        for name, places in largest
    )


def folder_of(question: GoldenQuestion) -> str:
    """The first folder of the question's document; questions about behaviour alone name none."""
    if not question.docs:
        return "no document"
    folder, slash, _ = question.docs[0].partition("/")
    return f"{folder}/" if slash else "top folder"


def kind_of_answer(question: GoldenQuestion) -> str:
    """What the answer is: of a demanded format, a date, a version or number, a few words, or a text."""
    if question.format or question.scorer in ("json_f1", "command"):
        return "demanded format"
    answer = question.answers[0]
    if re.fullmatch(r"\d{4}-\d{2}(-\d{2})?|\d{1,2}[./]\d{1,2}[./]\d{2,4}", answer):
        return "date"
    if re.search(r"\d", answer) and len(answer.split()) <= 2:
        return "number or version"
    return "a few words" if len(answer.split()) <= 4 else "text"
