"""Tests of signal rows and metrics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtide.pipelines.evidence.drift import BY_CHANCE, SHIFTED
from ragtide.pipelines.policy.decide import LISTED_SIGNALS
from ragtide.pipelines.records.evidence import NOT_REQUESTED, Costs, Evidence, Measure
from ragtide.pipelines.reports.signals import (
    SignalRow,
    evidence_metrics,
    format_percent,
    format_points,
    signal_name,
    signal_rows,
)
from tests.factories import evidence, measure

NOT_MEASURED = Measure.unmeasured("no questions")
OPTIONAL = [
    "embedder_gap",
    "missing_answers",
    "changed_sentence_share",
    "stale_facts",
    "resurfaced_deletions",
    "captured_questions",
    "novelty",
    "shift",
    "vocabulary",
    "excess_loss",
]


def row_of(gathered: Evidence, name: str) -> SignalRow:
    [row] = [row for row in signal_rows(gathered) if row.signal == name]
    return row


# --- meanings of values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "measured", "number"),
    [
        ("score_gold", measure(0.81), "81 %"),
        ("score_retrieved", measure(0.5), "50 %"),
        ("index_gap", measure(0.14), "14 points"),
        ("model_gap", measure(0.01), "1 point is"),
        ("refresh_gain", measure(0.1), "10 points"),
        ("missing_answers", measure(0.2), "20 %"),
        ("embedder_gap", measure(0.04), "4 points"),
        ("malformed_share", measure(0.06), "6 %"),
        ("changed_sentence_share", measure(0.021), "2.1 %"),
        ("stale_facts", measure(0.3, n=10), "3 of 10"),
        ("resurfaced_deletions", measure(0.05, n=20), "1 of 20 removed sentences is"),
        ("vocabulary", measure(0.25), "25 %"),
        ("excess_loss", measure(0.42, low=0.1), "0.42 nats"),
    ],
)
def test_a_meaning_contains_the_number_and_differs_for_0(field: str, measured: Measure, number: str) -> None:
    meaning = row_of(evidence(**{field: measured}), signal_name(field)).means
    assert number in meaning
    if not field.startswith("score_"):
        assert number not in row_of(evidence(**{field: measure(0.0)}), signal_name(field)).means


@pytest.mark.parametrize(("field", "edge"), [("novelty", BY_CHANCE), ("shift", SHIFTED), ("excess_loss", 0.0)])
def test_the_meaning_of_drift_depends_on_the_lower_bound(field: str, edge: float) -> None:
    within, beyond = (
        row_of(evidence(**{field: measure(0.3, low=low)}), signal_name(field)).means for low in (edge, edge + 0.01)
    )
    assert within != beyond


@pytest.mark.parametrize(
    ("signals", "number"),
    [
        ({"new_examples": 12}, "12 of them"),
        ({"new_examples": 0}, "none of them"),
        ({"examples": 3}, "20 are needed"),
        ({"new_examples": 1}, "1 of them is"),
        ({"examples": 0, "min_examples": 1}, "1 is needed"),
        ({"adapter_is_current": True}, "the same adapter"),
        ({"new_examples": 100, "new_base_model": "b2"}, "b2"),
    ],
)
def test_the_meaning_of_training_examples_follows_their_state(signals: dict[str, object], number: str) -> None:
    assert number in row_of(evidence(**signals), "training examples").means


@pytest.mark.parametrize(
    ("signals", "text"),
    [
        ({"pending_deletions": {"a.md": "1"}}, "`a.md`: its chunks"),
        ({"pending_deletions": {"a.md": "1", "b.md": "2"}}, "`b.md`: their chunks"),
        ({"deleted_training_documents": ("a.md",)}, "forgets it"),
        ({"deleted_training_documents": ("a.md", "b.md")}, "forgets them"),
    ],
)
def test_the_meaning_of_deletions_agrees_with_their_number(signals: dict[str, object], text: str) -> None:
    assert any(text in row.means for row in signal_rows(evidence(**signals)))


@pytest.mark.parametrize("field", ["refresh_gain", "embedder_gap"])
@pytest.mark.parametrize(("points", "end"), [(0.01, "gain it"), (0.1, "gain them")])
def test_the_meaning_of_a_gap_agrees_with_its_points(field: str, points: float, end: str) -> None:
    assert end in row_of(evidence(**{field: measure(points)}), signal_name(field)).means


@pytest.mark.parametrize("field", ["index_gap", "model_gap", "refresh_gain", "embedder_gap"])
@pytest.mark.parametrize(("low", "chance"), [(-0.01, True), (0.0, True), (0.01, False)])
def test_a_gap_whose_interval_includes_zero_may_be_chance(field: str, low: float, chance: bool) -> None:
    means = row_of(evidence(**{field: measure(0.1, low=low, high=0.2)}), signal_name(field)).means
    assert ("may be chance" in means) is chance


# --- unmeasured signals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", OPTIONAL)
def test_a_signal_that_was_not_requested_has_no_row(field: str) -> None:
    assert signal_name(field) not in {row.signal for row in signal_rows(evidence())}


@pytest.mark.parametrize("field", LISTED_SIGNALS)
def test_an_unmeasured_signal_has_its_reason_and_no_meaning(field: str) -> None:
    row = row_of(evidence(**{field: NOT_MEASURED}), signal_name(field))
    assert (row.written, row.means) == ("not measured (no questions)", "")


def test_a_score_that_was_not_requested_has_no_row() -> None:
    assert signal_name("malformed_share") not in {
        row.signal for row in signal_rows(evidence(malformed_share=NOT_REQUESTED))
    }


@pytest.mark.parametrize(
    ("signal_seconds", "took"), [({}, ""), ({"score_gold": 12.34}, "12.3 s"), ({"score_gold": 0.01}, "< 0.1 s")]
)
def test_a_signal_has_its_measuring_time_where_it_was_recorded(signal_seconds: dict[str, float], took: str) -> None:
    gathered = evidence(signal_seconds=signal_seconds)
    assert row_of(gathered, signal_name("score_gold")).took == took
    assert row_of(gathered, signal_name("index_gap")).took == ""


# --- metrics -------------------------------------------------------------------------------------------------------


def test_every_optional_signal_is_a_metric_named_by_its_field() -> None:
    signals = {field: measure(0.01 * place) for place, field in enumerate(OPTIONAL, 1)}
    metrics = evidence_metrics(evidence(**signals, new_examples=4, spent_hours=1.5))
    assert {field: metrics[field] for field in OPTIONAL} == {field: signal.value for field, signal in signals.items()}
    assert (metrics["new_examples"], metrics["spent_hours"]) == (4, 1.5)


def test_unmeasured_signals_have_no_number_among_the_metrics() -> None:
    metrics = evidence_metrics(evidence())
    missing = {name for name, value in metrics.items() if value is None}
    assert missing == {*OPTIONAL, "substantive_sentences", "new_examples", "forecast_error_share", "evidence_seconds"}


def test_the_seconds_of_the_evidence_are_the_sum_of_its_signals() -> None:
    metrics = evidence_metrics(evidence(signal_seconds={"score_gold": 1.5, "excess_loss": 2.0}))
    assert metrics["evidence_seconds"] == 3.5


def test_the_forecast_error_is_a_metric() -> None:
    costs = Costs(refresh_seconds=1, retrain_seconds=1, prove_seconds=1, source="runs", error_share=0.2, error_runs=5)
    assert evidence_metrics(evidence(costs=costs))["forecast_error_share"] == 0.2


def test_metric_names_stay_stable() -> None:
    """A renamed metric would split its column in MLflow."""
    assert set(evidence_metrics(evidence())) >= {
        "score_gold",
        "score_retrieved",
        "index_gap",
        "model_gap",
        "malformed_share",
        "changed_share",
        "documents_changed",
        "documents_removed",
        "deletions_pending",
        "documents_quarantined",
        "forecast_refresh_seconds",
        "forecast_retrain_seconds",
        "questions",
    }


# --- number formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "0 %"), (0.0001, "under 0.1 %"), (0.021, "2.1 %"), (0.07, "7 %"), (0.814, "81 %"), (1.0, "100 %")],
)
def test_a_share_is_written_in_per_cent(share: float, words: str) -> None:
    assert format_percent(share) == words


@pytest.mark.parametrize(
    ("points", "words"), [(1.0, "1 point"), (0.4, "0.4 points"), (14.2, "14 points"), (-0.0, "0 points")]
)
def test_points_are_rounded(points: float, words: str) -> None:
    assert format_points(points) == words


@given(st.floats(0, 1))
def test_only_a_share_of_zero_is_written_as_zero(share: float) -> None:
    assert (format_percent(share) == "0 %") is (share == 0)
