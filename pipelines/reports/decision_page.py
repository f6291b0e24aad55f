"""Page of a decision: titles, sentences and rows, which the terminal and Markdown render alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragtide.pipelines.records.decision import Decision, Option, Plan
from ragtide.pipelines.records.evidence import Costs, Evidence, Gap, PastDecision
from ragtide.pipelines.reports.markdown import SHOWN, changes_markdown
from ragtide.pipelines.reports.signals import NOT_MEASURED, SignalRow, signal_rows
from ragtide.pipelines.reports.wording import (
    counterfactual_sentences,
    decision_sentences,
    describe_costs,
    headline,
    option_text,
    unmeasured_sentences,
)
from ragtide.pipelines.safe_text import escape_controls

PAST_SHOWN = 8
ACTIONS_HEAD = ("action", "gain, points [low, high]", "cost", "points an hour", "worth it", "why")
PAST_HEAD = ("cycle", "action", "expected points", "recovered points", "forecast", "took", "outcome")


@dataclass(frozen=True)
class ActionRow:
    """One option; `is_chosen` marks the one that was decided for."""

    action: str
    gain: str
    cost: str
    points_per_hour: str
    worth_it: bool
    why: str
    is_chosen: bool


@dataclass(frozen=True)
class GapTable:
    """The gaps of groups of questions, those that lose most first; `more` counts the groups that are not shown."""

    grouped_by: str
    rows: tuple[tuple[str, str, str, str], ...]
    more: int


@dataclass(frozen=True)
class DecisionPage:
    """Everything that is shown of a decision.

    `headline` is one line, `sentences` the explanation; `changes` is a Markdown list, None where nothing changed;
    `quarantined` are documents with their reason, of many the first, and `more_quarantined` counts the others.
    """

    action: str
    pending: str | None
    headline: str
    sentences: tuple[str, ...]
    actions: tuple[ActionRow, ...]
    costs: str
    signals: tuple[SignalRow, ...]
    counterfactuals: tuple[str, ...]
    unmeasured: tuple[str, ...]
    changes: str | None
    gaps: tuple[GapTable, ...]
    past: tuple[tuple[str, ...], ...]
    quarantined: tuple[tuple[str, str], ...]
    more_quarantined: int


def decision_page(plan: Plan) -> DecisionPage:
    """The page of a plan's decision."""
    evidence, decision = plan.evidence, plan.decision
    data, scores = evidence.data, evidence.scores
    quarantined = tuple(data.quarantined.items())
    return DecisionPage(
        action=str(decision.action),
        pending=str(decision.proposed) if decision.proposed else None,
        headline=headline(plan),
        sentences=tuple(decision_sentences(decision)),
        actions=tuple(_action_row(option, evidence, decision) for option in decision.options),
        costs=describe_costs(evidence.limits.costs),
        signals=tuple(signal_rows(evidence)),
        counterfactuals=tuple(counterfactual_sentences(decision)),
        unmeasured=tuple(unmeasured_sentences(decision)),
        changes=None if data.changes.is_empty else changes_markdown(data.changes),
        gaps=tuple(
            _gap_table(name, gaps)
            for name, gaps in (("folder", scores.groups), ("kind of answer", scores.kinds))
            if gaps
        ),
        past=_past_rows(evidence.limits.past),
        quarantined=quarantined[:SHOWN],
        more_quarantined=max(0, len(quarantined) - SHOWN),
    )


def format_gain(option: Option) -> str:
    """Points of answer score with their interval."""
    low, high = (f"{end:.1f}" if end is not None else "?" for end in (option.gain_points_low, option.gain_points_high))
    return f"{option.gain_points:.1f} [{low}, {high}]"


def format_cost(option: Option, costs: Costs) -> str:
    """Seconds, and money where an hour has a price."""
    seconds = f"{option.cost_seconds:.0f} s"
    return seconds if option.cost_money is None else f"{seconds}, {option.cost_money:.2f} {costs.currency}".rstrip()


def _action_row(option: Option, evidence: Evidence, decision: Decision) -> ActionRow:
    return ActionRow(
        action=str(option.action),
        gain=format_gain(option),
        cost=format_cost(option, evidence.limits.costs),
        points_per_hour="" if option.points_per_hour is None else f"{option.points_per_hour:,.0f}",
        worth_it=option.worth_it,
        why=option_text(option),
        is_chosen=option.action == decision.action,
    )


def _gap_table(grouped_by: str, gaps: Sequence[Gap]) -> GapTable:
    worst_first = sorted(gaps, key=lambda gap: -max(gap.index_gap.value or 0.0, gap.model_gap.value or 0.0))
    rows = tuple((gap.name, str(gap.index_gap), str(gap.model_gap), _larger_gap(gap)) for gap in worst_first[:SHOWN])
    return GapTable(grouped_by, rows, max(0, len(gaps) - SHOWN))


def _larger_gap(gap: Gap) -> str:
    """The component that loses more of this group's points."""
    index, model = gap.index_gap.value, gap.model_gap.value
    if index is None or model is None:
        return ""
    if max(index, model) <= 0:
        return "neither"
    return "both alike" if index == model else "the index" if index > model else "the model"


def _past_rows(past: Sequence[PastDecision]) -> tuple[tuple[str, ...], ...]:
    """The last few decisions that built something, the oldest first."""
    built = [decision for decision in past if decision.action.builds]
    return tuple(_past_row(decision) for decision in built[-PAST_SHOWN:])


def _past_row(decision: PastDecision) -> tuple[str, ...]:
    outcome = "rolled back" if decision.rolled_back else "accepted" if decision.accepted else "rejected"
    expected, recovered = (_number(points, ".1f") for points in (decision.expected_points, decision.recovered_points))
    forecast, took = (_number(seconds, ".0f", " s") for seconds in (decision.forecast_seconds, decision.seconds))
    return (decision.cycle, str(decision.action), expected, recovered, forecast, took, outcome)


def _number(value: float | None, form: str, unit: str = "") -> str:
    return NOT_MEASURED if value is None else f"{value:{form}}{unit}"


def format_group(name: str) -> str:
    """A folder as a path; kinds of answers, and questions without a folder, are named in words."""
    return f"`{escape_controls(name)}`" if name.endswith("/") else name
