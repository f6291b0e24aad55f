"""May the candidate go live? Compared with the live release on the same questions; refused where it is worse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from ragtide.pipelines.params import Params
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evaluation import Check, Scorecard, SuiteScore, Verdict
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.sampling import paired_difference

# With fewer than twenty questions, one of them is too much to lose unasked.
LARGEST_QUESTION = 0.05
Rows = Mapping[tuple[str, int], tuple[str, str]]


def judge_candidate(
    before: Scorecard, after: Scorecard, rows: Rows, chunks: Iterable[Chunk], params: Params
) -> Verdict:
    """Hold the candidate's scorecard against the live release's, and its rows against a clean cut of the snapshot.

    `rows` is what the candidate index holds: (document, position) -> (chunk digest, document digest). Tolerances are
    for the mean of the paired difference: with few questions an interval's lower end would refuse every refresh. For
    the same reason a tolerance is at least one question where there are twenty or more of them.
    """
    gained = _gained(before, after, params)
    wanted = {chunk.key: (chunk.digest, chunk.document_digest) for chunk in chunks}
    checks = (
        _same_questions(before, after),
        _no_loss("answer score", gained, params.gate.max_score_loss),
        _no_fall("retrieval recall", before.retrieval_recall, after.retrieval_recall, params.gate.max_retrieval_loss),
        _no_fall("well-formed share", _rest(before), _rest(after), params.gate.max_score_loss),
        _same_rows(rows, wanted),
    )
    return Verdict(
        accepted=all(check.passed for check in checks), checks=checks, before=before, after=after, difference=gained
    )


def check_suites(verdict: Verdict, skills: Sequence[SuiteScore], params: Params) -> Verdict:
    """The verdict with a check for each skill: none may fall by more than its tolerance."""
    checks = tuple(
        _no_fall(
            f"skill {one.name}", one.before.answer_score, one.after.answer_score, params.gate.allowed_loss(one.name)
        )
        for one in skills
    )
    return _with(verdict, checks).model_copy(update={"skills": tuple(skills)})


def check_ranking(verdict: Verdict, params: Params) -> Verdict:
    """The verdict with what another retriever is for: the documents that the questions name must not be found lower."""
    before, after = (_ranking(card, params.index.search) for card in (verdict.before, verdict.after))
    return _with(verdict, [_no_fall("ranking (nDCG@10)", before, after, params.gate.max_retrieval_loss)])


def _ranking(card: Scorecard, search: str) -> Measure:
    found = card.retrieval.get(search)
    return Measure(value=found.ndcg10, n=found.n) if found else Measure.unmeasured("no question names a document")


def _with(verdict: Verdict, checks: Sequence[Check]) -> Verdict:
    accepted = verdict.accepted and all(check.passed for check in checks)
    return verdict.model_copy(update={"accepted": accepted, "checks": (*verdict.checks, *checks)})


def _gained(before: Scorecard, after: Scorecard, params: Params) -> Measure:
    """Candidate minus live, question by question."""
    then, now = ({one.question: one.score for one in card.graded} for card in (before, after))
    if then.keys() != now.keys():
        return Measure.unmeasured("not the same questions")
    return paired_difference([then[key] for key in now], list(now.values()), params.score)


def _same_questions(before: Scorecard, after: Scorecard) -> Check:
    same = before.questions == after.questions
    detail = f"{len(after.graded)} questions, set {after.questions}" + ("" if same else f" against {before.questions}")
    return Check(name="same questions", passed=same, detail=detail)


def _no_loss(name: str, gained: Measure, tolerance: float) -> Check:
    allowed = _allowed(tolerance, gained)
    passed = gained.value is not None and gained.value >= -allowed
    return Check(name=name, passed=passed, detail=f"candidate - live = {gained}; may lose {allowed:.2f}")


def _no_fall(name: str, before: Measure, after: Measure, tolerance: float) -> Check:
    if before.value is None or after.value is None:
        detail = f"live {before}; candidate {after}"
        return Check(name=name, passed=before.value is None, detail=detail)
    allowed = _allowed(tolerance, before)
    passed = round(after.value - before.value, 6) >= -allowed
    return Check(name=name, passed=passed, detail=f"{before.value:.2f} -> {after.value:.2f}; may lose {allowed:.2f}")


def _allowed(tolerance: float, measured: Measure) -> float:
    """A tolerance, widened to one of the questions measured unless that is a large share; 0 forbids any loss.

    Rounded up as a Measure is rounded, so that the loss of just one question is within it.
    """
    if not (tolerance and measured.n):
        return tolerance
    question = ceil(1e6 / measured.n) / 1e6
    return max(tolerance, question) if question <= LARGEST_QUESTION else tolerance


def _rest(scorecard: Scorecard) -> Measure:
    share = scorecard.malformed_share
    return share if share.value is None else Measure(value=1 - share.value, n=share.n)


def _same_rows(rows: Rows, wanted: Rows) -> Check:
    missing, extra = len(wanted.items() - rows.items()), len(rows.keys() - wanted.keys())
    detail = f"{len(rows)} rows; {missing} missing or other, {extra} too many"
    return Check(name="index equals a clean cut of the snapshot", passed=not (missing or extra), detail=detail)
