"""Tests of the decision page in Markdown and of its picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pydantic import ValidationError

from ragtide.pipelines.params import Params, PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Option, Plan
from ragtide.pipelines.records.evidence import Costs, Gap, Measure, PastDecision
from ragtide.pipelines.reports.decision import decision_markdown
from ragtide.pipelines.reports.decision_page import PAST_SHOWN, format_cost, format_gain
from ragtide.pipelines.reports.decision_plot import decision_plot
from ragtide.pipelines.reports.markdown import SHOWN
from ragtide.pipelines.reports.wording import HEADLINE, describe_costs
from tests.factories import evidence, measure
from tests.pipelines.reports.pages import full_plan
from tests.snapshots import assert_snapshot

NOT_MEASURED = Measure.unmeasured("no questions")


def decided(**signals: object) -> Plan:
    gathered = evidence(**signals)
    return Plan(evidence=gathered, decision=make_decision(gathered, PolicyParams()), params="p1")


def section(text: str, title: str) -> str:
    """The text below a heading."""
    return text.partition(f"## {title}\n\n")[2].partition("\n\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of a section's tables, without the header rows."""
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("| ")]
    return [line.removeprefix("| ").removesuffix(" |").split(" | ") for table in tables for line in table[2:]]


def option(**fields: object) -> Option:
    usual = {"gain_points": 9.5, "gain_points_low": 7.1, "gain_points_high": 12.0, "cost_seconds": 320.4}
    rating = {"points_per_hour": 80.0, "worth_it": True, "reasons": ()}
    return Option.model_validate({"action": Action.RETRAIN, **usual, **rating, **fields})


def costs(**fields: object) -> Costs:
    usual = {"refresh_seconds": 10, "retrain_seconds": 300, "prove_seconds": 20, "source": "prior"}
    return Costs.model_validate(usual | fields)


def past(**fields: object) -> PastDecision:
    usual = {"expected_points": 6.0, "recovered_points": 4.5, "forecast_seconds": 310, "seconds": 402.2}
    return PastDecision.model_validate({"cycle": "cycle 1", "action": "REFRESH", "accepted": True, **usual, **fields})


def gap(name: str, index: Measure, model: Measure) -> Gap:
    return Gap(name=name, index_gap=index, model_gap=model)


# --- the page ------------------------------------------------------------------------------------------------------


def test_the_page_equals_its_snapshot() -> None:
    assert_snapshot(Path(__file__).parent / "snapshots" / "decision.md", decision_markdown(full_plan()) + "\n")


def test_the_headline_is_one_line_right_below_the_heading() -> None:
    heading, headline, *_ = decision_markdown(decided()).split("\n\n")
    assert heading == "# Decision: REFRESH"
    assert len(headline.strip("*")) <= HEADLINE


def test_a_rejection_reason_of_many_lines_adds_no_heading() -> None:
    text = decision_markdown(decided(rejected_actions={"REFRESH": "it lost:\n\n# Decision: RETRAIN\n- more"}))
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# Decision: NOTHING"]


# --- the sections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "title",
    ["Quarantined documents", "Where the gaps are", "What earlier decisions brought", "What could not be measured"],
)
def test_an_empty_section_is_omitted(title: str) -> None:
    assert f"## {title}" not in decision_markdown(decided())


def test_the_evidence_has_value_meaning_and_time() -> None:
    text = decision_markdown(decided(stale_facts=measure(0.3, 0.1, 0.5, n=10), signal_seconds={"stale_facts": 3.4}))
    [row] = [row for row in rows(section(text, "Evidence")) if row[0] == "stale facts"]
    assert (row[1], row[3]) == ("0.30 [0.10, 0.50] (n=10)", "3.4 s")
    assert "3 of 10" in row[2]


def test_folders_are_sorted_by_loss() -> None:
    groups = (
        gap("a/", NOT_MEASURED, measure(0.0)),
        gap("b/", measure(0.1), measure(0.05)),
        gap("top folder", measure(0.0), measure(0.3)),
    )
    table = rows(section(decision_markdown(decided(groups=groups)), "Where the gaps are"))
    assert [(row[0], row[3]) for row in table] == [
        ("top folder", "the model"),
        ("`b/`", "the index"),
        ("`a/`", ""),
    ]
    assert table[2][1] == "not measured (no questions)"


@pytest.mark.parametrize(
    ("index", "model", "more"),
    [(0.2, 0.1, "the index"), (0.1, 0.2, "the model"), (0.1, 0.1, "both alike"), (0.0, -0.1, "neither")],
)
def test_a_group_names_the_component_that_loses_more(index: float, model: float, more: str) -> None:
    kinds = (gap("number", measure(index), measure(model)),)
    [row] = rows(section(decision_markdown(decided(kinds=kinds)), "Where the gaps are"))
    assert (row[0], row[3]) == ("number", more)


def test_a_long_list_of_folders_is_cut_with_a_count() -> None:
    groups = tuple(gap(f"{number}/", measure(0.1), measure(0.1)) for number in range(SHOWN + 3))
    listed = section(decision_markdown(decided(groups=groups)), "Where the gaps are")
    assert len(rows(listed)) == SHOWN
    assert "and 3 more" in listed


def test_unmeasured_signals_are_listed_with_their_reason() -> None:
    text = decision_markdown(decided(excess_loss=NOT_MEASURED))
    assert section(text, "What could not be measured") == "- excess loss of new examples: no questions"


# --- gains and costs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "9.5 [7.1, 12.0]"),
        ({"gain_points_high": None}, "9.5 [7.1, ?]"),
    ],
)
def test_a_gain_has_its_interval(fields: dict[str, object], expected: str) -> None:
    assert format_gain(option(**fields)) == expected


def test_an_option_without_a_gain_is_invalid() -> None:
    with pytest.raises(ValidationError, match="gain_points"):
        option(gain_points=None)


@pytest.mark.parametrize(
    ("money", "currency", "expected"),
    [(None, "EUR", "320 s"), (0.216, "EUR", "320 s, 0.22 EUR"), (0.216, "", "320 s, 0.22")],
)
def test_a_cost_includes_money_where_an_hour_has_a_price(money: float | None, currency: str, expected: str) -> None:
    assert format_cost(option(cost_money=money), costs(currency=currency)) == expected


def test_the_money_of_every_action_is_on_the_page() -> None:
    text = decision_markdown(decided(costs=costs(price_per_hour=3.6, currency="CHF")))
    assert [row[2] for row in rows(section(text, "Actions"))] == [
        "0 s",
        "30 s, 0.03 CHF",
        "320 s, 0.32 CHF",
        "330 s, 0.33 CHF",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "Costs: prior. No run has shown yet how far forecasts are off."),
        ({"error_share": 0.2, "error_runs": 5}, "Costs: prior. Forecasts were off by 20 % (median of 5 runs)."),
        ({"error_share": 0.0, "error_runs": 1}, "Costs: prior. Forecasts were off by 0 % (1 run)."),
    ],
)
def test_costs_give_the_error_of_past_forecasts(fields: dict[str, object], expected: str) -> None:
    assert describe_costs(costs(**fields)) == expected


# --- past decisions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["cycle 1", "REFRESH", "6.0", "4.5", "310 s", "402 s", "accepted"]),
        ({"rolled_back": True}, ["cycle 1", "REFRESH", "6.0", "4.5", "310 s", "402 s", "rolled back"]),
        (
            {"accepted": False, "recovered_points": None, "seconds": None},
            ["cycle 1", "REFRESH", "6.0", "not measured", "310 s", "not measured", "rejected"],
        ),
        ({"recovered_points": 0.0}, ["cycle 1", "REFRESH", "6.0", "0.0", "310 s", "402 s", "accepted"]),
    ],
)
def test_a_past_decision_has_its_expected_and_measured_gain_and_cost(
    fields: dict[str, object], expected: list[str]
) -> None:
    text = decision_markdown(decided(past=(past(**fields),)))
    assert rows(section(text, "What earlier decisions brought")) == [expected]


def test_only_the_last_decisions_that_built_something_are_listed() -> None:
    idle = [past(action=action) for action in ("NOTHING", "HOLD")]
    built = [past(cycle=f"cycle {number}") for number in range(1, PAST_SHOWN + 4)]
    text = decision_markdown(decided(past=(*built, *idle)))
    cycles = [row[0] for row in rows(section(text, "What earlier decisions brought"))]
    assert cycles == [f"cycle {number}" for number in range(4, PAST_SHOWN + 4)]


# --- the picture ---------------------------------------------------------------------------------------------------


def plot(plan: Plan) -> Figure:
    return decision_plot(plan.evidence, plan.decision, Params())


def with_options(*options: Option) -> Plan:
    plan = decided()
    return plan.model_copy(update={"decision": plan.decision.model_copy(update={"options": options})})


def words(figure: Figure, panel: int) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in figure.axes[panel].texts)


def test_an_unmeasured_score_has_no_bar() -> None:
    figure = plot(decided(score_retrieved=NOT_MEASURED, score_gold=measure(0.5)))
    assert [bar.get_height() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)] == [0.5]
    assert words(figure, 0) == "not measured: no questions 0.50"


def test_each_action_is_plotted_with_its_gain_and_interval() -> None:
    plan = decided(refresh_gain=measure(0.1, 0.05, 0.15))
    decision, gains = plan.decision, plot(plan).axes[1]
    names = [label.get_text().replace("\n", "") for label in gains.get_yticklabels()]
    assert names == [str(option.action) for option in decision.options[1:]]
    drawn = gains.containers[0]
    assert isinstance(drawn, ErrorbarContainer)
    [spread] = drawn.lines[2]
    [[low, high]] = [segment[:, 0].tolist() for segment in spread.get_segments()]
    chosen = decision.options[1]
    assert (low, high) == pytest.approx((chosen.gain_points_low, chosen.gain_points_high))


def test_the_name_of_the_chosen_action_is_bold() -> None:
    gains = plot(decided()).axes[1]
    assert [label.get_fontweight() for label in gains.get_yticklabels()] == ["bold", "normal", "normal"]


def test_the_plot_says_so_where_no_gain_is_expected() -> None:
    flat = {"refresh_gain": measure(0.0), "score_gold": measure(0.0), "adapter_is_current": True}
    assert words(plot(decided(**flat)), 1) == "no gain is expected of any action"
    assert words(plot(decided()), 1) == ""


def test_without_any_action_both_panels_say_so() -> None:
    figure = plot(with_options())
    assert words(figure, 1) == words(figure, 2) == "no action was weighed"
