"""How right is an answer, and how sure is a score? Pure functions: grading, and bootstrap intervals."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from pipelines.observe.values import fields
from pipelines.params import ScoreParams
from pipelines.prove.scorers import SCORERS
from pipelines.records import Measure, Question


def well_formed(answer: str, question: Question) -> bool:
    """Whether the whole answer has the question's format; without one, every answer that is not empty has it.

    What is graded by JSON fields has to be JSON in any case.
    """
    if question.scorer == "json_f1" and fields(answer) is None:
        return False
    return bool(re.fullmatch(question.format, answer)) if question.format else bool(answer.strip())


def grade(answer: str, question: Question) -> float:
    """How near the answer is to a right one, 0 to 1, by the question's scorer; 0 in another than the right format.

    What a judge is to grade is 0 until it has (prove/attribution.py).
    """
    if question.scorer == "judge" or not well_formed(answer, question):
        return 0.0
    return max(SCORERS[question.scorer](answer, right) for right in question.answers)


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
