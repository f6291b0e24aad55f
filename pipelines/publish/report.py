"""How are a decision and a verdict read? As Markdown, HTML and plots, for the terminal, Prefect and MLflow alike."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

from jinja2 import Template
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from pipelines.publish.decision_report import decision_markdown, decision_plot
from pipelines.publish.markdown import SHOWN, changes_markdown, one_line, table
from pipelines.publish.meaning import evidence_metrics, evidence_rows, left_out_told
from pipelines.records import Check, Finding, Measure, Question, Scorecard, SetAside, SkillScore, Upkeep, Verdict

# One door for who reads: a decision, its evidence and its changes are told in modules of their own.
__all__ = [
    "SHOWN",
    "as_html",
    "changes_markdown",
    "decision_markdown",
    "decision_plot",
    "evidence_metrics",
    "evidence_rows",
    "left_out_markdown",
    "left_out_told",
    "refusal",
    "retrieval_metrics",
    "set_aside_markdown",
    "skill_metrics",
    "upkeep_markdown",
    "verdict_markdown",
    "verdict_plot",
    "write_page",
]
NONE = "None."
PAGE = Template(
    """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #cfd8e0;padding:.3rem .6rem;text-align:left}
th{background:#eef3f7}code{background:#f2f5f7}img{max-width:100%}</style></head><body>{{ body }}</body></html>
"""
)


def set_aside_markdown(documents: Sequence[SetAside]) -> str:
    """What could not be read, why, how often it was tried, and since when."""
    rows = [(f"`{one_line(one.document)}`", one.reason, str(one.attempts), one.since) for one in documents]
    return table(("document", "why", "tries", "since"), rows)


def left_out_markdown(findings: Sequence[Finding]) -> str:
    """The lines of the training files that nothing is learnt from, and why."""
    return table(("line", "what", "why"), [(f"`{one_line(one.where)}`", one.kind, one.why) for one in findings])


def upkeep_markdown(steps: Sequence[Upkeep]) -> str:
    """A row for each step of maintenance: whether it was done, and why."""
    return table(("step", "done", "why"), [(one.step, "yes" if one.done else "no", one.why) for one in steps])


def verdict_markdown(verdict: Verdict, questions: Sequence[Question] = ()) -> str:
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
            table(("metric", "live", "candidate"), [(name, str(old), str(new)) for name, old, new in rows]),
            *_what_is_found(verdict),
            *_earlier_skills(verdict.skills, wordings),
            "## Checks",
            table(("check", "result", "numbers"), checks),
            "## Questions whose grade changed",
            _moved(verdict.before, verdict.after, wordings),
        ]
    )


def refusal(checks: Iterable[Check]) -> str:
    """The failed checks in one line."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.passed)


def write_page(folder: Path, name: str, markdown: str, plot: Figure) -> None:
    """Write NAME.md, NAME.html and NAME.png into `folder`."""
    (folder / f"{name}.md").write_text(markdown, encoding="utf-8")
    (folder / f"{name}.html").write_text(as_html(name.capitalize(), markdown, plot), encoding="utf-8")
    plot.savefig(folder / f"{name}.png")


def as_html(title: str, markdown: str, plot: Figure | None = None) -> str:
    """A page of its own from Markdown, with a plot below its heading; raw HTML in it is shown, not run.

    Pictures that the Markdown names are not fetched: an answer must not make the reader's browser call home.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(markdown)
    if plot is not None:
        body = body.replace("</h1>", f"</h1>{_picture(plot)}", 1)
    return str(PAGE.render(title=title, body=body))


def _picture(plot: Figure) -> str:
    content = BytesIO()
    plot.savefig(content, format="svg")
    encoded = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="plot" src="data:image/svg+xml;base64,{encoded}">'


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
    return ["## What the searches find", table(head, rows)] if rows else []


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


def _earlier_skills(skills: Sequence[SkillScore], wordings: Mapping[str, str]) -> list[str]:
    """A row a skill, and below it the questions of each whose grade changed."""
    if not skills:
        return []
    rows = [(one.name, str(one.before.answer_score), str(one.after.answer_score)) for one in skills]
    moved = [(one_line(one.name), _moved(one.before, one.after, wordings)) for one in skills]
    lists = [f"### {name}\n\n{answers}" for name, answers in moved if answers != NONE]
    return ["## Earlier skills", table(("skill", "live", "candidate"), rows), *lists]


def skill_metrics(verdict: Verdict) -> dict[str, float | None]:
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
    return table(("question", "live", "candidate"), rows[:SHOWN]) + more
