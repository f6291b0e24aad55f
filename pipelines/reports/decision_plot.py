"""Picture of a decision: answer scores, expected gains, and points gained an hour."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ragtide.pipelines.params import Params
from ragtide.pipelines.records.decision import Decision, Option
from ragtide.pipelines.records.evidence import AnswerScores, Evidence, Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHOSEN, OTHER, RETRIEVED, GOLD, LINE = "#3c8c5a", "#b6bec6", "#d98841", "#4179a8", "#555"
# Numbers stay readable where a line crosses them.
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1}


def decision_plot(evidence: Evidence, decision: Decision, params: Params) -> Figure:
    """Left: the answer scores. Middle: the expected gain of each action. Right: the points that an hour of it gains."""
    figure = Figure(figsize=(10.5, 3.8), layout="constrained")
    left, gains, hours = figure.subplots(1, 3, width_ratios=(1, 1.15, 1.15))
    _draw_scores(left, evidence.scores, params.score.target)
    options = [option for option in decision.options if option.points_per_hour is not None]
    if options:
        _draw_gains(gains, options)
        for label, option in zip(gains.get_yticklabels(), options, strict=True):
            label.set_fontweight("bold" if option.action == decision.action else "normal")
        _draw_hours(hours, options, params.policy.points_per_hour)
    else:
        for panel in (gains, hours):
            _write(panel, "no action was weighed")
            panel.set(xticks=[], yticks=[])
    gains.set_title("expected gain, points of answer score", fontsize="medium")
    hours.set_title("points gained an hour of compute", fontsize="medium")
    figure.suptitle(f"decision: {decision.action}", fontweight="bold")
    return figure


def _draw_scores(axes: Axes, scores: AnswerScores, target: float) -> None:
    """A bar for a measured score, and words for an unmeasured one, which is not a score of 0."""
    pairs = ((scores.score_retrieved, RETRIEVED), (scores.score_gold, GOLD))
    for place, (measured, colour) in enumerate(pairs):
        if measured.value is None:
            why = fill(f"not measured: {measured.why}", 16, max_lines=7, placeholder=" …")
            axes.text(place, 0.04, why, ha="center", va="bottom", fontsize="small", color=LINE)
            continue
        axes.bar(place, measured.value, 0.7, color=colour, yerr=error_bars([measured]), capsize=4)
        axes.text(place, 0.04, f"{measured.value:.2f}", ha="center", color="white" if measured.value > 0.12 else LINE)
    axes.axhline(target, color=LINE, linestyle="--", linewidth=1)
    axes.set_xlim(-0.6, 1.6)
    axes.set_xticks([0, 1], ["retrieved context", "gold context"])
    axes.set_xlabel(f"dashed: the target, {target:g}", fontsize="small")
    axes.set_ylim(0, 1.05)
    axes.set_title("answer score of the live release", fontsize="medium")


def error_bars(measures: Sequence[Measure]) -> list[list[float]]:
    """How far each interval reaches below its value, and above it; 0 where there is none."""
    values = [measured.value or 0.0 for measured in measures]
    ends = [
        (value if measured.low is None else measured.low, value if measured.high is None else measured.high)
        for value, measured in zip(values, measures, strict=True)
    ]
    below = [max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)]
    return [below, above]


def _draw_gains(axes: Axes, options: Sequence[Option]) -> None:
    for place, option in enumerate(options):
        gain = Measure(value=option.gain_points, low=option.gain_points_low, high=option.gain_points_high)
        axes.errorbar(option.gain_points, place, xerr=error_bars([gain]), fmt="o", capsize=5, color=_colour(option))
    farthest = max((end or 0.0) for option in options for end in (option.gain_points, option.gain_points_high))
    axes.set_xlim(min(0.0, *(option.gain_points_low or 0.0 for option in options)) - 0.03 * farthest - 0.03, None)
    # So that gains of 0 are not stretched over the panel.
    axes.set_xlim(right=max(1.0, 1.08 * farthest))
    axes.axvline(0, color=LINE, linewidth=0.8)
    axes.set_xlabel("with its interval; green is worth it", fontsize="small")
    if farthest <= 0:
        _write(axes, "no gain is expected of any action")
    _name_actions(axes, options)


def _draw_hours(axes: Axes, options: Sequence[Option], wanted: float) -> None:
    points = [option.points_per_hour or 0.0 for option in options]
    bars = axes.barh(range(len(options)), points, 0.6, color=[_colour(option) for option in options])
    axes.bar_label(bars, [f"{number:,.0f}" for number in points], padding=4, fontsize="small", bbox=BEHIND)
    axes.axvline(wanted, color=LINE, linestyle="--", linewidth=1)
    axes.set_xscale("symlog")
    # A number stands to the right of the longest bar.
    axes.set_xlim(min(0.0, *points), 25 * max(wanted, 1.0, *points))
    axes.set_xlabel(f"at the lower end; dashed: policy.points_per_hour, {wanted:g}", fontsize="small")
    _name_actions(axes, options)
    axes.set_yticklabels([])


def _name_actions(axes: Axes, options: Sequence[Option]) -> None:
    names = ["+\n".join(map(str, option.action.parts)) for option in options]
    axes.set_yticks(range(len(options)), names)
    axes.set_ylim(len(options) - 0.4, -0.6)


def _colour(option: Option) -> str:
    return CHOSEN if option.worth_it else OTHER


def _write(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", color=LINE, transform=axes.transAxes)
