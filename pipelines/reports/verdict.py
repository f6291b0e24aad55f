"""How are a decision and a verdict read? As Markdown, HTML and plots, for the terminal, Prefect and MLflow alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.figure import Figure

from ragtide.pipelines.records.evaluation import Check, GoldenQuestion, Scorecard, SuiteScore, Verdict
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.reports.markdown import SHOWN, escape_controls, markdown_table

NONE = "None."


def verdict_markdown(verdict: Verdict, questions: Sequence[GoldenQuestion] = ()) -> str:
    """Accepted or refused, each check with its numbers, and the questions whose grade has changed.

    Where `questions` are passed, those among them stand there in their words, and not as their ids.
    """
    wordings = {one.id: one.question for one in questions}
    title = "accepted" if verdict.accepted else "refused"
    checks = [(check.name, "passed" if check.passed else "FAILED", check.detail) for check in verdict.checks]
    rows = [
        ("answer score", verdict.before.answer_score, verdict.after.answer_score),
        ("retrieval recall", verdict.before.retrieval_recall, verdict.after.retrieval_recall),
        ("malformed share", verdict.before.malformed_share, verdict.after.malformed_share),
    ]
    return "\n\n".join(
        [
            f"# Verdict: {title}",
            f"Candidate minus live, on the same questions: {verdict.difference}.",
            markdown_table(("metric", "live", "candidate"), [(name, str(old), str(new)) for name, old, new in rows]),
            *_what_is_found(verdict),
            *_earlier_skills(verdict.skills, wordings),
            "## Checks",
            markdown_table(("check", "result", "numbers"), checks),
            "## Questions whose grade changed",
            _moved(verdict.before, verdict.after, wordings),
        ]
    )


def failed_checks(checks: Iterable[Check]) -> str:
    """The failed checks in one line."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.passed)


def verdict_plot(verdict: Verdict) -> Figure:
    """Live and candidate side by side."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    before, after = verdict.before, verdict.after
    for panel, title, pair in zip(
        panels,
        ("answer score", "retrieval recall", "malformed share"),
        (
            (before.answer_score, after.answer_score),
            (before.retrieval_recall, after.retrieval_recall),
            (before.malformed_share, after.malformed_share),
        ),
        strict=True,
    ):
        _bars(panel, ["live", "candidate"], list(pair), ["#b6bec6", "#3c8c5a" if verdict.accepted else "#b3473f"])
        panel.set_title(title)
    return figure


def _bars(axes: object, names: list[str], measures: list[Measure], colours: list[str]) -> None:
    heights = [measure.value or 0.0 for measure in measures]
    below = [
        max(0.0, height - (one.low if one.low is not None else height))
        for height, one in zip(heights, measures, strict=True)
    ]
    above = [
        max(0.0, (one.high if one.high is not None else height) - height)
        for height, one in zip(heights, measures, strict=True)
    ]
    axes.bar(names, heights, color=colours, yerr=[below, above], capsize=4)  # type: ignore[attr-defined]
    axes.set_ylim(0, 1.05)  # type: ignore[attr-defined]


def _what_is_found(verdict: Verdict) -> list[str]:
    rows = _searches(verdict)
    head = ("search", "of", "recall", "nDCG@10", "MRR@10", "questions")
    return ["## What the searches find", markdown_table(head, rows)] if rows else []


def _searches(verdict: Verdict) -> list[tuple[str, ...]]:
    """A row for each way to search, of the live release and of the candidate."""
    cards = (("live", verdict.before), ("candidate", verdict.after))
    return [
        (by, whose, f"{one.recall:.2f} (at {one.k})", f"{one.ndcg10:.3f}", f"{one.mrr10:.3f}", str(one.n))
        for whose, card in cards
        for by, one in card.retrieval.items()
    ]


def retrieval_metrics(scorecard: Scorecard) -> dict[str, float | None]:
    """What each way to search finds, as MLflow metrics."""
    return {
        f"{by}_{name}": getattr(one, name)
        for by, one in scorecard.retrieval.items()
        for name in ("recall", "ndcg10", "mrr10")
    }


def _earlier_skills(skills: Sequence[SuiteScore], wordings: Mapping[str, str]) -> list[str]:
    """A row a skill, and below it the questions of each whose grade changed."""
    if not skills:
        return []
    rows = [(one.name, str(one.before.answer_score), str(one.after.answer_score)) for one in skills]
    moved = [(escape_controls(one.name), _moved(one.before, one.after, wordings)) for one in skills]
    lists = [f"### {name}\n\n{answers}" for name, answers in moved if answers != NONE]
    return ["## Earlier skills", markdown_table(("skill", "live", "candidate"), rows), *lists]


def suite_metrics(verdict: Verdict) -> dict[str, float | None]:
    """Each skill's score before and after, as MLflow metrics, whose names hold few characters."""
    names = {re.sub(r"[^\w.\- :/]", "_", one.name): one for one in verdict.skills}
    return {
        f"skill_{name}_{when}": card.answer_score.value
        for name, one in names.items()
        for when, card in (("before", one.before), ("after", one.after))
    }


def _moved(before: Scorecard, after: Scorecard, wordings: Mapping[str, str]) -> str:
    pairs = [(old, new) for old, new in zip(before.graded, after.graded, strict=True) if old.score != new.score]
    if not pairs:
        return NONE
    rows = [
        (wordings.get(new.question, new.question), f"{old.score:.2g}: {old.answer}", f"{new.score:.2g}: {new.answer}")
        for old, new in pairs
    ]
    more = f"\n\n… and {len(rows) - SHOWN} more, in the tables beside this page." if len(rows) > SHOWN else ""
    return markdown_table(("question", "live", "candidate"), rows[:SHOWN]) + more
