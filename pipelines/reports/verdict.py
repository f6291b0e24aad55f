"""Verdict report: Markdown page, plot and MLflow metrics of how a candidate compares with the live release."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ragtide.pipelines.records.evaluation import GoldenQuestion, RetrievalMetrics, Scorecard, SuiteScore, Verdict
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.reports.decision_plot import error_bars
from ragtide.pipelines.reports.markdown import SHOWN, markdown_table
from ragtide.pipelines.reports.signals import count_of
from ragtide.pipelines.safe_text import escape_controls

NONE = "None."
SCALE = (
    "Scores and shares are on a scale from 0 to 1, with their confidence interval in brackets and the sample size n."
)
# The fields of a scorecard that the reports show, and their names there.
MEASURE_NAMES = {
    "answer_score": "answer score",
    "retrieval_recall": "retrieval recall",
    "malformed_share": "share of malformed answers",
}
# Bar colours: the live release, and a candidate that was accepted or rejected.
LIVE_COLOUR, ACCEPTED_COLOUR, REJECTED_COLOUR = "#b6bec6", "#3c8c5a", "#b3473f"


def verdict_markdown(verdict: Verdict, questions: Sequence[GoldenQuestion] = ()) -> str:
    """Return a page with the verdict, its checks and the questions whose score changed.

    `questions` gives their wording; a question that is not among them is named by its id.
    """
    wordings = {question.id: question.question for question in questions}
    title = "accepted" if verdict.accepted else "rejected"
    checks = [(check.name, "passed" if check.passed else "FAILED", check.detail) for check in verdict.checks]
    measures = [(name, str(live), str(candidate)) for name, live, candidate in _measures(verdict)]
    return "\n\n".join(
        [
            f"# Verdict: {title}",
            f"Answer score, candidate minus live release, on the same questions: {verdict.difference}.",
            SCALE,
            markdown_table(("measure", "live", "candidate"), measures),
            "## Checks",
            markdown_table(("check", "result", "details"), checks),
            *_alternatives_section(verdict),
            *_retrieval_section(verdict),
            *_suites_section(verdict.suites, wordings),
            *_behind_section(verdict, wordings),
            "## Questions whose score changed",
            _changed_answers(verdict.before, verdict.after, wordings),
        ]
    )


def failed_checks(verdict: Verdict) -> str:
    """Return the failed checks with their details, and the documents behind lost questions, in one line."""
    failed = [f"{check.name}: {check.detail}" for check in verdict.checks if not check.passed]
    behind = [
        f"{count_of(len(lost), 'question')} lost to `{escape_controls(document)}`"
        for document, lost in verdict.behind.items()
    ]
    return "; ".join([*failed, *(behind[:SHOWN] if failed else [])])


def verdict_plot(verdict: Verdict) -> Figure:
    """Return bar charts of live release and candidate with confidence intervals, one per measure."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    colours = [LIVE_COLOUR, ACCEPTED_COLOUR if verdict.accepted else REJECTED_COLOUR]
    measures = _measures(verdict)
    for axes, (title, live, candidate) in zip(figure.subplots(1, len(measures)), measures, strict=True):
        _draw_bars(axes, [live, candidate], colours)
        axes.set_title(title)
    return figure


def scorecard_measures(scorecard: Scorecard) -> dict[str, Measure]:
    """Return the measures that the reports show, by their field of the scorecard."""
    return {field: getattr(scorecard, field) for field in MEASURE_NAMES}


def retrieval_metrics(scorecard: Scorecard) -> dict[str, float | None]:
    """Return the retrieval metrics of each search mode as MLflow metrics, such as `hybrid_ndcg10`."""
    return {
        f"{search}_{name}": getattr(metrics, name)
        for search, metrics in scorecard.retrieval.items()
        for name in ("recall", "ndcg10", "mrr10")
    }


def suite_metrics(verdict: Verdict) -> dict[str, float | None]:
    """Return each regression suite's scores as MLflow metrics; characters that MLflow does not allow become "_"."""
    suites = {re.sub(r"[^\w.\- :/]", "_", suite.name): suite for suite in verdict.suites}
    return {
        f"suite_{name}_{when}": scorecard.answer_score.value
        for name, suite in suites.items()
        for when, scorecard in (("before", suite.before), ("after", suite.after))
    }


def _measures(verdict: Verdict) -> list[tuple[str, Measure, Measure]]:
    """Return name, live value and candidate's value of each measure."""
    live, candidate = scorecard_measures(verdict.before), scorecard_measures(verdict.after)
    return [(name, live[field], candidate[field]) for field, name in MEASURE_NAMES.items()]


def _draw_bars(axes: Axes, measures: Sequence[Measure], colours: Sequence[str]) -> None:
    heights = [measure.value or 0.0 for measure in measures]
    axes.bar(["live", "candidate"], heights, color=colours, yerr=error_bars(measures), capsize=4)
    axes.set_ylim(0, 1.05)


def _alternatives_section(verdict: Verdict) -> list[str]:
    """Return a table with one row per other model on the candidate's index, or nothing where none was compared."""
    rows = [
        (name, str(difference), "better" if name in verdict.beaten_by else "not better")
        for name, difference in verdict.alternatives.items()
    ]
    head = ("model", "its answer score minus the candidate's", "result")
    return ["## Other models on the candidate's index", markdown_table(head, rows)] if rows else []


def _retrieval_section(verdict: Verdict) -> list[str]:
    """Return a table with one row per search mode and system, or nothing where retrieval was not measured."""
    rows = [
        (search, system, *_metric_cells(metrics))
        for system, scorecard in (("live", verdict.before), ("candidate", verdict.after))
        for search, metrics in scorecard.retrieval.items()
    ]
    head = ("search", "system", "recall", "nDCG@10", "MRR@10", "questions")
    return ["## Retrieval by search mode", markdown_table(head, rows)] if rows else []


def _metric_cells(metrics: RetrievalMetrics) -> tuple[str, ...]:
    recall = f"{metrics.recall:.2f} (at {metrics.k})"
    return recall, f"{metrics.ndcg10:.3f}", f"{metrics.mrr10:.3f}", str(metrics.n)


def _suites_section(suites: Sequence[SuiteScore], wordings: Mapping[str, str]) -> list[str]:
    """Return a table with one row per regression suite, and for each the questions whose score changed."""
    if not suites:
        return []
    rows = [(suite.name, str(suite.before.answer_score), str(suite.after.answer_score)) for suite in suites]
    changed = [(escape_controls(suite.name), _changed_answers(suite.before, suite.after, wordings)) for suite in suites]
    lists = [f"### {name}\n\n{answers}" for name, answers in changed if answers != NONE]
    return ["## Regression suites", markdown_table(("suite", "live", "candidate"), rows), *lists]


def _behind_section(verdict: Verdict, wordings: Mapping[str, str]) -> list[str]:
    """Return a table of the lost questions with the changed documents behind them, and those that a person gave up."""
    rows = [
        (document, wordings.get(question, question), "changed" if question in verdict.changed_lines else "unchanged")
        for document, lost in verdict.behind.items()
        for question in lost
    ]
    head = ("changed document", "lost question", "its golden line")
    hint = "Where a page changed and the golden line did not, the line's answer may be the one that is out of date."
    more = f"… and {len(rows) - SHOWN} more." if len(rows) > SHOWN else ""
    title = "## Changed documents behind lost questions"
    table = [title, hint, markdown_table(head, rows[:SHOWN]), *([more] if more else [])] if rows else []
    excused = f"{len(verdict.excused)} questions do not count: a person approved the documents that took their answers."
    return [*table, *([excused] if verdict.excused else [])]


def _changed_answers(before: Scorecard, after: Scorecard, wordings: Mapping[str, str]) -> str:
    """Return a table of the questions whose score changed, each answer after its score."""
    rows = [
        (wordings.get(new.question, new.question), f"{old.score:.2g}: {old.answer}", f"{new.score:.2g}: {new.answer}")
        for old, new in zip(before.graded, after.graded, strict=True)
        if old.score != new.score
    ]
    if not rows:
        return NONE
    more = f"\n\n… and {len(rows) - SHOWN} more, in `verdict.json` of the step `prove`." if len(rows) > SHOWN else ""
    return markdown_table(("question", "live", "candidate"), rows[:SHOWN]) + more
