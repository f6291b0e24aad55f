"""How right is an answer, and how sure is a score? Pure functions: grading, and bootstrap intervals."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from pipelines.params import ScoreParams
from pipelines.records import Measure, Question


def holds(text: str, answers: Sequence[str]) -> bool:
    """Whether `text` holds one of `answers` as a whole: not as part of a longer word, number, version or date.

    Case, the kind of white space, and a `v` before a version do not matter.
    """
    text = unicodedata.normalize("NFC", text)
    return any(re.search(_whole(unicodedata.normalize("NFC", answer)), text, re.IGNORECASE) for answer in answers)


def _whole(answer: str) -> str:
    """A pattern for `answer` that no letter or digit touches, be it across one of the marks that join numbers."""
    words = r"\s+".join(re.escape(word) for word in answer.split())
    version = "v?" if answer[:1].isdigit() else ""
    return rf"(?<![\w\-])(?<!\w[.,:/]){version}{words}(?![\w\-+#]|[.,:/]\w)"


def well_formed(answer: str, question: Question) -> bool:
    """Whether the whole answer has the question's format; without one, every answer that is not empty has it."""
    return bool(re.fullmatch(question.format, answer)) if question.format else bool(answer.strip())


def grade(answer: str, question: Question) -> float:
    """1.0 where the answer holds a right value in the right format, else 0.0."""
    return float(well_formed(answer, question) and holds(answer, question.answers))


def measure(values: Sequence[float], params: ScoreParams) -> Measure:
    """The mean of `values` with its percentile bootstrap interval (Efron 1979); None where there are none.

    For a paired comparison pass the differences. The interval of values that are all alike has no width: with few
    questions that says little, which is why `n` stands beside it.
    """
    if not values:
        return Measure.unmeasured("no questions")
    sample = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(params.seed)
    means = sample[random.integers(0, len(sample), (params.resamples, len(sample)))].mean(axis=1)
    tail = (1 - params.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Measure(
        value=round(float(sample.mean()), 6), n=len(sample), low=round(float(low), 6), high=round(float(high), 6)
    )


def difference(before: Sequence[float], after: Sequence[float], params: ScoreParams) -> Measure:
    """after - before, question by question, with its interval."""
    return measure([new - old for old, new in zip(before, after, strict=True)], params)
