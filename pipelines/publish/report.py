"""How are a decision and a verdict read? As Markdown, HTML and plots, for the terminal, Prefect and MLflow alike."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO

from jinja2 import Template
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from pipelines.params import Params
from pipelines.records import (
    ChangeSet,
    Check,
    Decision,
    Evidence,
    Measure,
    Option,
    Scorecard,
    SetAside,
    Upkeep,
    Verdict,
)

SHOWN = 20
PAGE = Template(
    """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #cfd8e0;padding:.3rem .6rem;text-align:left}
th{background:#eef3f7}code{background:#f2f5f7}img{max-width:100%}</style></head><body>{{ body }}</body></html>
"""
)


def decision_markdown(evidence: Evidence, decision: Decision) -> str:
    """Why this action: reasons, the evidence, every action's gain and cost, and what would have changed it."""
    return "\n\n".join(
        [
            f"# Decision: {decision.action}",
            "\n".join(f"- {reason}" for reason in decision.reasons),
            "## What has changed",
            changes_markdown(evidence.changes),
            *(["## Set aside", _reasons(evidence.set_aside)] if evidence.set_aside else []),
            "## Evidence",
            _table(("signal", "value"), evidence_rows(evidence)),
            "## Actions",
            _table(
                ("action", "gain, points (lower end)", "cost", "points an hour", "worth it", "because"),
                _options(decision),
            ),
            f"Costs: {evidence.costs.source}.",
            "## What would have changed it",
            "\n".join(f"- {line}" for line in decision.would_change),
        ]
    )


def evidence_rows(evidence: Evidence) -> list[tuple[str, str]]:
    """(signal, value with interval and n), in the order in which one reads them."""
    delta = evidence.delta
    return [
        ("live release", evidence.live_release or "none yet"),
        ("score with the right passage", str(evidence.score_gold)),
        ("score with retrieved passages", str(evidence.score_retrieved)),
        ("the index's gap", str(evidence.index_gap)),
        ("the model's gap", str(evidence.model_gap)),
        ("what a refresh can win back", str(evidence.refresh_gain)),
        ("malformed answers", str(evidence.malformed_share)),
        ("chunks new / gone / to embed", f"{delta.new} / {delta.gone} / {delta.to_embed}, of {delta.chunks_after}"),
        ("training examples", _examples(evidence)),
        ("stale golden questions", str(len(evidence.stale_questions))),
        ("removals that wait for an approval", _some(tuple(evidence.held)) or "0"),
        ("documents that cannot be read", str(len(evidence.set_aside))),
    ]


def set_aside_markdown(documents: Sequence[SetAside]) -> str:
    """What could not be read, why, how often it was tried, and since when."""
    rows = [(f"`{_one_line(one.document)}`", one.reason, str(one.attempts), one.since) for one in documents]
    return _table(("document", "why", "tries", "since"), rows)


def _examples(evidence: Evidence) -> str:
    parts = [str(evidence.examples)]
    parts += [f"and {evidence.orphaned_examples} whose page is gone"] if evidence.orphaned_examples else []
    parts += ["as the adapter saw them"] if evidence.adapter_is_current else []
    return ", ".join(parts)


def _reasons(set_aside: Mapping[str, str]) -> str:
    rows = [(f"`{_one_line(document)}`", why) for document, why in set_aside.items()]
    more = f"\n\n… and {len(rows) - SHOWN} more: `ragtide status` lists them." if len(rows) > SHOWN else ""
    return _table(("document", "why"), rows[:SHOWN]) + more


def upkeep_markdown(steps: Sequence[Upkeep]) -> str:
    """A row for each step of maintenance: whether it was done, and why."""
    return _table(("step", "done", "why"), [(one.step, "yes" if one.done else "no", one.why) for one in steps])


def evidence_metrics(evidence: Evidence) -> dict[str, float | None]:
    """The evidence as MLflow metrics; None where a signal was not measured."""
    return {
        "score_gold": evidence.score_gold.value,
        "score_retrieved": evidence.score_retrieved.value,
        "index_gap": evidence.index_gap.value,
        "model_gap": evidence.model_gap.value,
        "malformed_share": evidence.malformed_share.value,
        "changed_share": evidence.delta.changed_share,
        "documents_changed": len(evidence.changes.added) + len(evidence.changes.edited),
        "documents_removed": len(evidence.changes.removed),
        "documents_held": len(evidence.held),
        "documents_set_aside": len(evidence.set_aside),
        "forecast_refresh_seconds": evidence.costs.refresh_seconds,
        "forecast_retrain_seconds": evidence.costs.retrain_seconds,
        "questions": evidence.score_gold.n,
    }


def changes_markdown(changes: ChangeSet) -> str:
    """The documents of a ChangeSet, by kind; long lists are cut with a count."""
    if changes.is_empty:
        return "Nothing."
    kinds: list[tuple[str, Sequence[str]]] = [
        ("added", changes.added),
        ("edited", changes.edited),
        ("renamed", [f"{one.before} -> {one.after}" for one in changes.renamed]),
        ("removed", changes.removed),
    ]
    lines = [f"- {len(paths)} {kind}: {_some(paths)}" for kind, paths in kinds if paths]
    lines += ["- training examples changed"] if changes.examples_changed else []
    lines += ["- golden questions changed"] if changes.questions_changed else []
    return "\n".join(lines)


def verdict_markdown(verdict: Verdict) -> str:
    """Accepted or refused, each check with its numbers, and the questions whose grade has changed."""
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
            _table(("metric", "live", "candidate"), [(name, str(old), str(new)) for name, old, new in rows]),
            *_what_is_found(verdict),
            "## Checks",
            _table(("check", "result", "numbers"), checks),
            "## Questions whose grade changed",
            _moved(verdict.before, verdict.after),
        ]
    )


def refusal(checks: Iterable[Check]) -> str:
    """The failed checks in one line."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.passed)


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


def scorecard_table(scorecard: Scorecard) -> dict[str, list[str]]:
    """A row a question, as columns."""
    graded = scorecard.graded
    return {
        "question": [one.question for one in graded],
        "answer": [one.answer for one in graded],
        "score": [str(one.score) for one in graded],
        "well_formed": [str(one.well_formed) for one in graded],
        "right_passage_found": [str(one.hit) for one in graded],
        "sources": [", ".join(one.sources) for one in graded],
    }


def decision_plot(evidence: Evidence, decision: Decision, params: Params) -> Figure:
    """Left: where the score is lost, between retrieval and model. Right: what each action buys an hour."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = ["retrieved\npassages", "right\npassage"]
    _bars(left, names, [evidence.score_retrieved, evidence.score_gold], ["#d98841", "#4179a8"])
    left.axhline(params.score.target, color="#555", linestyle="--", linewidth=1, label="target")
    left.legend(loc="lower right")
    left.set_title("answer score under the live release")
    options = [option for option in decision.options if option.points_per_hour is not None]
    chosen = ["#3c8c5a" if option.worth_it else "#b6bec6" for option in options]
    right.barh([option.action for option in options], [option.points_per_hour or 0 for option in options], color=chosen)
    right.axvline(
        params.policy.points_per_hour, color="#555", linestyle="--", linewidth=1, label="policy.points_per_hour"
    )
    right.set_xscale("symlog")
    right.set_xlabel("points an hour of compute buys, at the lower end")
    right.set_title(f"decision: {decision.action}")
    right.legend(loc="lower right")
    return figure


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


def _options(decision: Decision) -> list[tuple[str, ...]]:
    return [
        (
            f"**{option.action}**" if option.action is decision.action else str(option.action),
            _gain(option),
            f"{option.cost_seconds:.0f} s",
            "" if option.points_per_hour is None else f"{option.points_per_hour:.0f}",
            "yes" if option.worth_it else "no",
            option.because,
        )
        for option in decision.options
    ]


def _gain(option: Option) -> str:
    return f"{option.gain_points or 0:.1f} ({option.gain_points_low or 0:.1f})"


def _what_is_found(verdict: Verdict) -> list[str]:
    rows = _searches(verdict)
    head = ("search", "of", "recall", "nDCG@10", "MRR@10", "questions")
    return ["## What the searches find", _table(head, rows)] if rows else []


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


def _moved(before: Scorecard, after: Scorecard) -> str:
    pairs = [(old, new) for old, new in zip(before.graded, after.graded, strict=True) if old.score != new.score]
    if not pairs:
        return "None."
    rows = [(new.question, f"{old.score:.0f}: {old.answer}", f"{new.score:.0f}: {new.answer}") for old, new in pairs]
    more = f"\n\n… and {len(rows) - SHOWN} more, in the tables beside this page." if len(rows) > SHOWN else ""
    return _table(("question", "live", "candidate"), rows[:SHOWN]) + more


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _some(paths: Sequence[str]) -> str:
    more = f" … and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(f"`{_one_line(path)}`" for path in paths[:SHOWN]) + more


def _one_line(path: str) -> str:
    """A path with line breaks and the like made visible, so that it cannot break out of a list."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in path)
