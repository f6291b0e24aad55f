"""Release gate: compares a candidate with the live release on the same questions and rejects one that is worse."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil

from ragtide.pipelines.evaluation.scoring import summarize_grades
from ragtide.pipelines.params import Params
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evaluation import Check, Scorecard, SuiteScore, Verdict
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.sampling import paired_difference

# Below twenty questions, a single one is too large a share to be lost without the tolerance allowing for it.
LARGEST_QUESTION_SHARE = 0.05
# (document, position) -> (chunk digest, document digest).
IndexRows = Mapping[tuple[str, int], tuple[str, str]]


def judge_candidate(
    before: Scorecard,
    after: Scorecard,
    index_checks: Sequence[Check],
    params: Params,
    excused: Collection[str] = frozenset(),
) -> Verdict:
    """Compare the candidate's scorecard with the live release's; `index_checks` are those of its rows.

    The tolerances apply to the mean of the paired difference: with few questions, the lower end of an interval would
    reject every refresh. For the same reason a tolerance is at least one question where there are twenty or more of
    them. The questions that a person has `excused` (ids) do not count.
    """
    live, candidate = (_without(scorecard, excused, params) for scorecard in (before, after))
    difference = _paired_difference(live, candidate, params)
    compared = _compare_scores(live, candidate, difference, params) if live.graded or not excused else ()
    checks = (_check_same_questions(before, after), *compared, *index_checks)
    return Verdict(
        accepted=all(check.passed for check in checks),
        checks=checks,
        before=before,
        after=after,
        difference=difference,
        excused=tuple(sorted(excused)),
    )


def _compare_scores(live: Scorecard, candidate: Scorecard, difference: Measure, params: Params) -> tuple[Check, ...]:
    gate = params.gate
    well_formed = _well_formed_share(live), _well_formed_share(candidate)
    return (
        _check_difference("answer score", difference, gate.max_score_loss),
        _check_drop("retrieval recall", live.retrieval_recall, candidate.retrieval_recall, gate.max_retrieval_loss),
        _check_drop("well-formed share", *well_formed, gate.max_score_loss),
    )


def allowed_losses(questions: int, params: Params) -> int:
    """The number of lost questions, of so many, that no tolerance of the gate forbids."""
    tolerance = min(params.gate.max_score_loss, params.gate.max_retrieval_loss)
    return int(_allowed_loss(tolerance, Measure(value=0.0, n=questions)) * questions)


def _without(scorecard: Scorecard, excused: Collection[str], params: Params) -> Scorecard:
    """A scorecard without the excused questions."""
    if not excused:
        return scorecard
    graded = tuple(answer for answer in scorecard.graded if answer.question not in excused)
    return scorecard.model_copy(update={"graded": graded, **summarize_grades(graded, params.score)})


def check_suites(verdict: Verdict, suites: Sequence[SuiteScore], params: Params) -> Verdict:
    """Add a check for each regression suite: no suite's score may drop by more than its tolerance."""
    checks = [
        _check_drop(
            f"regression suite {suite.name}",
            suite.before.answer_score,
            suite.after.answer_score,
            params.gate.allowed_loss(suite.name),
        )
        for suite in suites
    ]
    return _with_checks(verdict, checks).model_copy(update={"suites": tuple(suites)})


def check_alternatives(
    verdict: Verdict, alternatives: Mapping[str, Scorecard], is_new: bool, params: Params
) -> Verdict:
    """Add a check that no other model on the same index (name -> scorecard) answers better than the candidate's.

    A new adapter must earn its place: it is beaten by any better mean. The live one stays unless another model is
    better at the lower end of the interval, since a few questions more or less are noise.
    """
    if not alternatives:
        return verdict
    candidate = _without(verdict.after, verdict.excused, params)
    differences = {
        name: _paired_difference(candidate, _without(scorecard, verdict.excused, params), params)
        for name, scorecard in alternatives.items()
    }
    better = [
        name for name, measured in differences.items() if ((measured.value if is_new else measured.low) or 0.0) > 0
    ]
    detail = "; ".join(f"{name} minus candidate's model is {measured}" for name, measured in differences.items())
    check = Check(name="best model for this index", passed=not better, detail=detail)
    update = {"alternatives": differences, "beaten_by": tuple(better)}
    return _with_checks(verdict, [check]).model_copy(update=update)


def accept_removal(before: Scorecard, after: Scorecard, index_checks: Sequence[Check], params: Params) -> Verdict:
    """The verdict on a candidate from which something was only taken away: no score forbids that."""
    difference = _paired_difference(before, after, params)
    accepted = all(check.passed for check in index_checks)
    return Verdict(accepted=accepted, checks=tuple(index_checks), before=before, after=after, difference=difference)


def check_ranking(verdict: Verdict, params: Params) -> Verdict:
    """Add a check for a fine-tuned embedder: the documents that the questions name must not rank lower."""
    before, after = (_ranking(scorecard, params.index.search) for scorecard in (verdict.before, verdict.after))
    return _with_checks(verdict, [_check_drop("ranking (nDCG@10)", before, after, params.gate.max_retrieval_loss)])


def _ranking(scorecard: Scorecard, search: str) -> Measure:
    metrics = scorecard.retrieval.get(search)
    return Measure(value=metrics.ndcg10, n=metrics.n) if metrics else Measure.unmeasured("no question names a document")


def _with_checks(verdict: Verdict, checks: Sequence[Check]) -> Verdict:
    accepted = verdict.accepted and all(check.passed for check in checks)
    return verdict.model_copy(update={"accepted": accepted, "checks": (*verdict.checks, *checks)})


def _paired_difference(before: Scorecard, after: Scorecard, params: Params) -> Measure:
    """Return candidate minus live, question by question."""
    live, candidate = ({answer.question: answer.score for answer in scorecard.graded} for scorecard in (before, after))
    if live.keys() != candidate.keys():
        return Measure.unmeasured("the questions differ")
    return paired_difference([live[key] for key in candidate], list(candidate.values()), params.score)


def _check_same_questions(before: Scorecard, after: Scorecard) -> Check:
    same = before.questions == after.questions
    detail = (
        f"both answered the same {len(after.graded)} questions (set {after.questions})"
        if same
        else f"the live release answered question set {before.questions} ({len(before.graded)} questions), "
        f"the candidate {after.questions} ({len(after.graded)} questions)"
    )
    return Check(name="same questions", passed=same, detail=detail)


def _check_difference(name: str, difference: Measure, tolerance: float) -> Check:
    allowed = _allowed_loss(tolerance, difference)
    passed = difference.value is not None and difference.value >= -allowed
    detail = f"candidate minus live is {difference}; the largest allowed loss is {allowed:.2f}"
    return Check(name=name, passed=passed, detail=detail)


def _check_drop(name: str, before: Measure, after: Measure, tolerance: float) -> Check:
    if before.value is None or after.value is None:
        return Check(name=name, passed=before.value is None, detail=f"live {before}, candidate {after}")
    allowed = _allowed_loss(tolerance, before)
    passed = round(after.value - before.value, 6) >= -allowed
    detail = f"live {before.value:.2f}, candidate {after.value:.2f}; the largest allowed loss is {allowed:.2f}"
    return Check(name=name, passed=passed, detail=detail)


def _allowed_loss(tolerance: float, measured: Measure) -> float:
    """Return a tolerance, widened to one of the measured questions unless that is a large share; 0 allows no loss.

    Rounded up as a Measure is rounded, so that the loss of exactly one question is within it.
    """
    if not (tolerance and measured.n):
        return tolerance
    question = ceil(1e6 / measured.n) / 1e6
    return max(tolerance, question) if question <= LARGEST_QUESTION_SHARE else tolerance


def _well_formed_share(scorecard: Scorecard) -> Measure:
    malformed = scorecard.malformed_share
    return malformed if malformed.value is None else Measure(value=1 - malformed.value, n=malformed.n)


def check_rows(rows: IndexRows, chunks: Iterable[Chunk]) -> Check:
    """The check of an index's rows against the chunks that it is to hold."""
    expected = {chunk.key: (chunk.digest, chunk.document_digest) for chunk in chunks}
    wrong, extra = len(expected.items() - rows.items()), len(rows.keys() - expected.keys())
    detail = f"{len(rows)} rows in the index: {wrong} rows missing or different, {extra} rows too many"
    return Check(name="index equals a clean build", passed=not (wrong or extra), detail=detail)
