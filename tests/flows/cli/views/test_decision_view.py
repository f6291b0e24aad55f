"""Tests of the decision page in a terminal, narrow and wide, with hostile names."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ragtide.flows.cli.views.decision import decision_renderables
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.decide import LISTED_SIGNALS, make_decision
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evidence import Costs, Measure
from ragtide.pipelines.reports.signals import signal_rows
from ragtide.pipelines.reports.wording import counterfactual_sentences, decision_sentences, headline
from tests.factories import evidence, measure
from tests.pipelines.reports.pages import full_plan
from tests.snapshots import assert_snapshot

WIDTHS = [80, 120]
PARAMS = PolicyParams()
FULL = {
    **{field: measure(0.3, 0.2, 0.4, n=3104) for field in LISTED_SIGNALS},
    "signal_seconds": {"score_gold": 1234.5},
    "costs": Costs(
        refresh_seconds=10, retrain_seconds=36000, prove_seconds=20, source="prior", price_per_hour=9, currency="EUR"
    ),
}


def decided(params: PolicyParams = PARAMS, **signals: object) -> Plan:
    gathered = evidence(**signals)
    return Plan(evidence=gathered, decision=make_decision(gathered, params), params="p1")


def shown(plan: Plan, width: int = 120, styles: bool = False) -> str:
    """What a terminal of this width would show."""
    console = Console(width=width, record=True, file=StringIO(), force_terminal=True, color_system="standard")
    console.print(*decision_renderables(plan), sep="\n")
    return console.export_text(styles=styles)


def run_on(text: str) -> str:
    """Words as one line, without the panel's sides."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut_short(width: int) -> None:
    text = shown(decided(**FULL), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_why_and_what_would_have_changed_it_are_there_word_for_word(width: int) -> None:
    plan = decided(**FULL)
    text = run_on(shown(plan, width))
    for sentence in (*decision_sentences(plan.decision), *counterfactual_sentences(plan.decision)):
        assert sentence.replace("`", "") in text


@pytest.mark.parametrize("width", WIDTHS)
def test_every_action_has_its_gain_cost_and_mark_on_one_line(width: int) -> None:
    lines = [run_on(line) for line in shown(decided(costs=FULL["costs"]), width=width).splitlines()]
    assert "REFRESH 8.0 [8.0, 8.0] 30 s, 0.07 EUR 4,800 ✓ yes" in lines
    assert "RETRAIN 0.0 [0.0, 0.0] 36020 s, 90.05 EUR 0 ✗ no" in lines


def test_a_yes_is_green_and_a_no_is_red() -> None:
    text = shown(decided(), styles=True)
    assert "\x1b[32m✓ yes" in text
    assert "\x1b[31m✗ no" in text


def test_every_signal_stands_with_its_value_below_its_name() -> None:
    plan = decided(**FULL)
    lines = [line.strip() for line in shown(plan).splitlines()]
    for row in signal_rows(plan.evidence):
        [at] = [at for at, line in enumerate(lines) if f"{line}  ".startswith(f"{row.signal}  ")]
        assert lines[at + 1].startswith(row.value)


def test_what_was_not_measured_says_why_where_its_meaning_would_stand() -> None:
    lines = shown(decided(excess_loss=Measure.unmeasured("no old examples"))).splitlines()
    [at] = [at for at, line in enumerate(lines) if "excess loss of new examples" in line]
    assert "no old examples" in lines[at]
    assert lines[at + 1].split() == ["not", "measured"]


def test_what_waits_for_a_yes_is_named_at_the_panel() -> None:
    assert " pending approval: REFRESH " in shown(decided(PolicyParams(approve_above_seconds=5)))
    assert "pending approval:" not in shown(decided())


def test_the_page_reads_as_its_snapshot() -> None:
    text = "\n".join(line.rstrip() for line in shown(full_plan(), width=100).splitlines())
    assert_snapshot(Path(__file__).parent / "snapshots" / "plan.txt", text + "\n")


def test_the_first_line_is_the_headline() -> None:
    assert shown(full_plan()).splitlines()[0].strip() == headline(full_plan())


@pytest.mark.parametrize("evil", ["[bold]a[/bold].md", "[/nothing]", "a\x1b[2J.md", "a\nb.md"])
def test_a_name_is_no_style_and_moves_no_cursor(evil: str) -> None:
    text = shown(decided(pending_deletions={evil: "1"}, rejected_actions={"REFRESH": evil}))
    assert "\x1b[2J" not in text
    assert run_on(evil.replace("\x1b", "\\x1b").replace("\n", "\\n")) in run_on(text)


def test_what_is_code_is_bold_and_not_in_ticks() -> None:
    text = shown(decided(pending_deletions={"a.md": "1"}), styles=True)
    assert "`" not in text
    assert "\x1b[1mragtide" in text
