"""How does a decision explain itself? As one Markdown page and one picture, from what was decided and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ragtide.pipelines.params import Params
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Decision, Option
from ragtide.pipelines.records.evidence import Costs, Evidence, Gap, Measure, PastDecision
from ragtide.pipelines.reports.markdown import SHOWN, changes_markdown, escape_controls, markdown_list, markdown_table
from ragtide.pipelines.reports.signals import NOT_MEASURED, format_percent, signal_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAST_SHOWN = 8
CHOSEN, OTHER, RETRIEVED, RIGHT, LINE = "#3c8c5a", "#b6bec6", "#d98841", "#4179a8", "#555"
# Numbers stay readable where a line goes through them.
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1}


def decision_markdown(evidence: Evidence, decision: Decision) -> str:
    """Why this action: in a paragraph, by its reasons, by the evidence, beside every other action and the past ones.

    A section that would be empty is left out; what could not be measured is said with its reason.
    """
    return "\n\n".join(
        [
            f"# Decision: {decision.action}",
            *([" ".join(decision.explanation.split())] if decision.explanation else []),
            markdown_list(decision.reasons),
            "## What has changed",
            changes_markdown(evidence.changes),
            *_section("Set aside", _set_aside(evidence.quarantined)),
            "## Evidence",
            _evidence(evidence),
            *_section("Where the gaps are", _gaps("folder", evidence.groups), _gaps("kind of answer", evidence.kinds)),
            "## Actions",
            _actions(evidence, decision),
            describe_costs(evidence.costs),
            *_section("What earlier decisions brought", _past(evidence.past)),
            "## What would have changed it",
            markdown_list(decision.counterfactuals),
            *_section("What could not be measured", markdown_list(decision.unmeasured_signals)),
        ]
    )


def format_gain(option: Option) -> str:
    """Points of answer score with their interval."""
    if option.gain_points is None:
        return NOT_MEASURED
    low, high = (f"{end:.1f}" if end is not None else "?" for end in (option.gain_points_low, option.gain_points_high))
    return f"{option.gain_points:.1f} [{low}, {high}]"


def format_cost(option: Option, costs: Costs) -> str:
    """Seconds, and money where an hour has a price."""
    seconds = f"{option.cost_seconds:.0f} s"
    return seconds if option.cost_money is None else f"{seconds}, {option.cost_money:.2f} {costs.currency}".rstrip()


def describe_costs(costs: Costs) -> str:
    """Where the forecasts come from, and how good they were so far."""
    told = f"Costs: {costs.source}."
    if costs.error_share is None:
        return f"{told} No run has shown yet how far forecasts are off."
    runs = "1 run" if costs.error_runs == 1 else f"median of {costs.error_runs} runs"
    return f"{told} Forecasts were off by {format_percent(costs.error_share)} ({runs})."


# --- sections ------------------------------------------------------------------------------------------------------


def _section(title: str, *parts: str) -> list[str]:
    """A heading and what stands below it; nothing where nothing would."""
    filled = [part for part in parts if part]
    return [f"## {title}", *filled] if filled else []


def _set_aside(documents: Mapping[str, str]) -> str:
    rows = [(f"`{escape_controls(document)}`", why) for document, why in documents.items()]
    more = f"\n\n… and {len(rows) - SHOWN} more: `ragtide status` lists them." if len(rows) > SHOWN else ""
    return markdown_table(("document", "why"), rows[:SHOWN]) + more if rows else ""


def _evidence(evidence: Evidence) -> str:
    rows = [(one.signal, one.written, one.means, one.took) for one in signal_rows(evidence)]
    return markdown_table(("signal", "value", "what it means", "measured in"), rows)


def _gaps(of: str, gaps: Sequence[Gap]) -> str:
    """The group that loses most comes first."""
    worst_first = sorted(gaps, key=lambda gap: -max(gap.index_gap.value or 0.0, gap.model_gap.value or 0.0))
    rows = [(_named(gap.name), str(gap.index_gap), str(gap.model_gap), _more(gap)) for gap in worst_first[:SHOWN]]
    more = f"\n\n… and {len(gaps) - SHOWN} more, where less is lost." if len(gaps) > SHOWN else ""
    return markdown_table((of, "the index's gap", "the model's gap", "more is lost in"), rows) + more if rows else ""


def _named(name: str) -> str:
    """A folder as a path; kinds of answers, and questions without a folder, are named in words."""
    return f"`{escape_controls(name)}`" if name.endswith("/") else name


def _more(gap: Gap) -> str:
    """Which half loses more of this group's points."""
    index, model = gap.index_gap.value, gap.model_gap.value
    if index is None or model is None:
        return ""
    if max(index, model) <= 0:
        return "neither"
    return "both alike" if index == model else "the index" if index > model else "the model"


def _actions(evidence: Evidence, decision: Decision) -> str:
    head = ("action", "gain, points [low, high]", "cost", "points an hour", "worth it", "because")
    return markdown_table(head, [_action(option, evidence, decision) for option in decision.options])


def _action(option: Option, evidence: Evidence, decision: Decision) -> tuple[str, ...]:
    return (
        f"**{option.action}**" if option.action == decision.action else str(option.action),
        format_gain(option),
        format_cost(option, evidence.costs),
        "" if option.points_per_hour is None else f"{option.points_per_hour:.0f}",
        "yes" if option.worth_it else "no",
        option.because,
    )


def _past(past: Sequence[PastDecision]) -> str:
    """The last few that built something, the oldest first; of the others nothing came."""
    built = [one for one in past if one.action.builds]
    head = ("cycle", "action", "expected points", "recovered points", "forecast", "took", "outcome")
    return markdown_table(head, [_came_of(one) for one in built[-PAST_SHOWN:]]) if built else ""


def _came_of(one: PastDecision) -> tuple[str, ...]:
    outcome = "rolled back" if one.rolled_back else "accepted" if one.accepted else "rejected"
    expected, recovered = (_number(value, ".1f") for value in (one.expected_points, one.recovered_points))
    forecast, took = (_number(value, ".0f", " s") for value in (one.forecast_seconds, one.seconds))
    return (one.cycle, str(one.action), expected, recovered, forecast, took, outcome)


def _number(value: float | None, form: str, unit: str = "") -> str:
    return NOT_MEASURED if value is None else f"{value:{form}}{unit}"


# --- the picture ---------------------------------------------------------------------------------------------------


def decision_plot(evidence: Evidence, decision: Decision, params: Params) -> Figure:
    """Left: where the score is lost. Middle: what each action may win back. Right: what it buys an hour."""
    figure = Figure(figsize=(10.5, 3.8), layout="constrained")
    scores, gains, hours = figure.subplots(1, 3, width_ratios=(1, 1.15, 1.15))
    _draw_scores(scores, evidence, params.score.target)
    options = [option for option in decision.options if option.points_per_hour is not None]
    if options:
        _draw_gains(gains, options)
        for label, option in zip(gains.get_yticklabels(), options, strict=True):
            label.set_fontweight("bold" if option.action == decision.action else "normal")
        _draw_hours(hours, options, params.policy.points_per_hour)
    else:
        for panel in (gains, hours):
            _say(panel, "no action was weighed")
            panel.set(xticks=[], yticks=[])
    gains.set_title("expected gain, points of answer score", fontsize="medium")
    hours.set_title("points an hour of compute buys", fontsize="medium")
    figure.suptitle(f"decision: {decision.action}", fontweight="bold")
    return figure


def _draw_scores(axes: Axes, evidence: Evidence, target: float) -> None:
    """A bar for what was measured, and words for what was not: an unmeasured score is no score of nought."""
    pairs = ((evidence.score_retrieved, RETRIEVED), (evidence.score_gold, RIGHT))
    for place, (measured, colour) in enumerate(pairs):
        if measured.value is None:
            why = fill(f"not measured: {measured.why}", 16, max_lines=7, placeholder=" …")
            axes.text(place, 0.04, why, ha="center", va="bottom", fontsize="small", color=LINE)
            continue
        axes.bar(place, measured.value, 0.7, color=colour, yerr=_error(measured), capsize=4)
        axes.text(place, 0.04, f"{measured.value:.2f}", ha="center", color="white" if measured.value > 0.12 else LINE)
    axes.axhline(target, color=LINE, linestyle="--", linewidth=1)
    axes.set_xlim(-0.6, 1.6)
    axes.set_xticks([0, 1], ["retrieved passages", "right passage"])
    axes.set_xlabel(f"dashed: the target, {target:g}", fontsize="small")
    axes.set_ylim(0, 1.05)
    axes.set_title("answer score of the live release", fontsize="medium")


def _error(measured: Measure) -> list[list[float]]:
    """How far the interval reaches below and above the value; nowhere where there is none."""
    value = measured.value or 0.0
    low, high = (value if end is None else end for end in (measured.low, measured.high))
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def _draw_gains(axes: Axes, options: Sequence[Option]) -> None:
    for place, option in enumerate(options):
        if option.gain_points is None:
            axes.text(0, place, f" {NOT_MEASURED}", va="center", fontsize="small", color=LINE)
            continue
        ends = Measure(value=option.gain_points, low=option.gain_points_low, high=option.gain_points_high)
        axes.errorbar(option.gain_points, place, xerr=_error(ends), fmt="o", capsize=5, color=_colour(option))
    farthest = max((end or 0.0) for one in options for end in (one.gain_points, one.gain_points_high))
    axes.set_xlim(min(0.0, *(one.gain_points_low or 0.0 for one in options)) - 0.03 * farthest - 0.03, None)
    # So that three gains of nought are seen to be that, and not stretched over the panel.
    axes.set_xlim(right=max(1.0, 1.08 * farthest))
    axes.axvline(0, color=LINE, linewidth=0.8)
    axes.set_xlabel("with its interval; green is worth it", fontsize="small")
    if farthest <= 0 and all(one.gain_points is not None for one in options):
        _say(axes, "no gain is expected of any action")
    _name_actions(axes, options)


def _draw_hours(axes: Axes, options: Sequence[Option], wanted: float) -> None:
    buys = [option.points_per_hour or 0.0 for option in options]
    bars = axes.barh(range(len(options)), buys, 0.6, color=[_colour(option) for option in options])
    axes.bar_label(bars, [f"{one:,.0f}" for one in buys], padding=4, fontsize="small", bbox=BEHIND)
    axes.axvline(wanted, color=LINE, linestyle="--", linewidth=1)
    axes.set_xscale("symlog")
    # A number stands to the right of the longest bar.
    axes.set_xlim(min(0.0, *buys), 25 * max(wanted, 1.0, *buys))
    axes.set_xlabel(f"at the lower end; dashed: policy.points_per_hour, {wanted:g}", fontsize="small")
    _name_actions(axes, options)
    axes.set_yticklabels([])


def _name_actions(axes: Axes, options: Sequence[Option]) -> None:
    names = ["+\n".join(map(str, option.action.parts)) for option in options]
    axes.set_yticks(range(len(options)), names)
    axes.set_ylim(len(options) - 0.4, -0.6)


def _colour(option: Option) -> str:
    return CHOSEN if option.worth_it else OTHER


def _say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", color=LINE, transform=axes.transAxes)
