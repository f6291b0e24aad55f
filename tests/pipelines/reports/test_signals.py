"""Is every signal put into words that follow from its value, and none told that was not measured? Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtide.pipelines.evidence.drift import BY_CHANCE, SHIFTED
from ragtide.pipelines.policy.decide import SIGNALS
from ragtide.pipelines.records.evidence import NOT_REQUESTED, Costs, Evidence, Measure
from ragtide.pipelines.reports.signals import (
    SCORES,
    SignalRow,
    evidence_metrics,
    format_percent,
    points_are,
    signal_rows,
)
from tests.factories import evidence, measure

NOT_MEASURED = Measure.unmeasured("no probes")
OPTIONAL = [
    "embedder_gap",
    "missing_answers",
    "changed_sentence_share",
    "stale_facts",
    "resurfaced_deletions",
    "novelty",
    "shift",
    "vocabulary",
    "excess_loss",
]


def told(gathered: Evidence, name: str) -> SignalRow:
    [row] = [row for row in signal_rows(gathered) if row.signal == name]
    return row


# --- what a value means --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "signals", "means"),
    [
        (
            "score with the right passage",
            {"score_gold": measure(0.81)},
            "the model answers 81 % right; what is missing",
        ),
        ("score with retrieved passages", {"score_retrieved": measure(0.5)}, "50 % are answered right"),
        ("the index's gap", {"index_gap": measure(0.14)}, "14 points are lost because the index does not bring up"),
        ("the index's gap", {"index_gap": measure(0.0)}, "nothing is lost in it"),
        ("the index's gap", {"index_gap": measure(-0.02)}, "nothing is lost in it"),
        ("the model's gap", {"model_gap": measure(0.01)}, "1 point is missing to the target"),
        ("the model's gap", {"model_gap": measure(-0.05)}, "reaches the target"),
        ("what a refresh can win back", {"refresh_gain": measure(0.1)}, "new rows can win them"),
        ("what a refresh can win back", {"refresh_gain": measure(0.0)}, "would win nothing"),
        ("answers that the live rows lack", {"missing_answers": measure(0.2)}, "to 20 % of the questions no live row"),
        (
            "answers that the live rows lack",
            {"missing_answers": measure(0.0)},
            "hold the answer to every golden question",
        ),
        ("what only a better retriever can win back", {"embedder_gap": measure(0.04)}, "4 points are lost although"),
        ("what only a better retriever can win back", {"embedder_gap": measure(0.0)}, "the search brings up"),
        ("malformed answers", {"malformed_share": measure(0.06)}, "6 % of the answers break their format"),
        ("malformed answers", {"malformed_share": measure(0.0)}, "no answer breaks its format"),
        ("sentences that are news", {"changed_sentence_share": measure(0.021)}, "2.1 % of the sentences"),
        ("sentences that are news", {"changed_sentence_share": measure(0.0)}, "no sentence says anything new"),
        ("stale answers", {"stale_facts": measure(0.3, n=10)}, "3 of 10 moved facts are still answered from the old"),
        ("stale answers", {"stale_facts": measure(0.0, n=10)}, "no moved fact"),
        (
            "removed text that comes back",
            {"resurfaced_deletions": measure(0.05, n=20)},
            "1 of 20 removed sentences is still",
        ),
        ("removed text that comes back", {"resurfaced_deletions": measure(0.0)}, "no removed sentence"),
        ("novelty of new chunks", {"novelty": measure(0.3, low=BY_CHANCE + 0.01)}, "a new subject"),
        ("novelty of new chunks", {"novelty": measure(0.3, low=BY_CHANCE)}, "nothing unusual"),
        ("shift of the documents", {"shift": measure(0.2, low=SHIFTED + 0.01)}, "of another subject"),
        ("shift of the documents", {"shift": measure(0.2, low=SHIFTED)}, "of the old ones' subject"),
        ("new vocabulary", {"vocabulary": measure(0.25)}, "25 % stand in no old one"),
        ("new vocabulary", {"vocabulary": measure(0.0)}, "no new words"),
        ("surprise of new examples", {"excess_loss": measure(0.42, low=0.1)}, "0.42 nats a token more"),
        ("surprise of new examples", {"excess_loss": measure(0.42, low=-0.1)}, "little to learn"),
        ("training examples", {"new_examples": 12}, "12 of them are new to the adapter"),
        ("training examples", {"new_examples": 0}, "none of them are new to the adapter"),
        ("training examples", {"examples": 3}, "too few to learn from: it takes 20"),
        ("training examples", {"adapter_is_current": True}, "would bring the same adapter"),
        ("training examples", {"new_examples": 100, "new_base_model": "b2"}, "names b2 now, another base model"),
        ("the last retrain", {"hours_since_retrain": 30}, "policy.cool_down_hours"),
    ],
)
def test_a_value_is_put_into_words_that_follow_from_it(name: str, signals: dict[str, object], means: str) -> None:
    assert means in told(evidence(**signals), name).means


@pytest.mark.parametrize("field", ["index_gap", "model_gap", "refresh_gain", "embedder_gap"])
@pytest.mark.parametrize(("low", "chance"), [(-0.01, True), (0.0, True), (0.01, False)])
def test_a_gap_whose_interval_reaches_nought_may_be_chance(field: str, low: float, chance: bool) -> None:
    [name] = [one.name for one in SCORES if one.field == field]
    means = told(evidence(**{field: measure(0.1, low=low, high=0.2)}), name).means
    assert ("may be chance" in means) is chance


# --- what was not measured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, field in SIGNALS if field in OPTIONAL])
def test_a_signal_that_was_not_asked_for_has_no_row(name: str) -> None:
    assert name not in {row.signal for row in signal_rows(evidence())}


@pytest.mark.parametrize(("name", "field"), SIGNALS)
def test_a_signal_that_could_not_be_measured_says_why_and_means_nothing(name: str, field: str) -> None:
    """Under the name that the decision's list of what it lacks has for it."""
    row = told(evidence(**{field: NOT_MEASURED}), name)
    assert (row.written, row.means) == ("not measured (no probes)", "")


def test_a_score_that_was_not_asked_for_has_no_row_either() -> None:
    assert "malformed answers" not in {row.signal for row in signal_rows(evidence(malformed_share=NOT_REQUESTED))}


@pytest.mark.parametrize(
    ("signal_seconds", "took"), [({}, ""), ({"score_gold": 12.34}, "12.3 s"), ({"score_gold": 0.01}, "< 0.1 s")]
)
def test_the_time_that_a_signal_took_stands_beside_it_where_it_was_taken(
    signal_seconds: dict[str, float], took: str
) -> None:
    gathered = evidence(signal_seconds=signal_seconds)
    assert told(gathered, "score with the right passage").took == took
    assert told(gathered, "the index's gap").took == ""


# --- metrics -------------------------------------------------------------------------------------------------------


def test_every_new_signal_is_a_metric_by_its_fields_name() -> None:
    signals = {field: measure(0.01 * place) for place, field in enumerate(OPTIONAL, 1)}
    metrics = evidence_metrics(evidence(**signals, new_examples=4, spent_hours=1.5))
    assert {field: metrics[field] for field in OPTIONAL} == {field: one.value for field, one in signals.items()}
    assert (metrics["new_examples"], metrics["spent_hours"]) == (4, 1.5)


def test_what_was_not_measured_is_no_number_among_the_metrics() -> None:
    metrics = evidence_metrics(evidence())
    missing = {name for name, value in metrics.items() if value is None}
    assert missing == {*OPTIONAL, "new_examples", "forecast_error_share", "evidence_seconds"}


def test_what_the_evidence_took_is_the_sum_of_its_parts() -> None:
    metrics = evidence_metrics(evidence(signal_seconds={"score_gold": 1.5, "excess_loss": 2.0}))
    assert metrics["evidence_seconds"] == 3.5


def test_how_far_forecasts_were_off_is_a_metric() -> None:
    costs = Costs(refresh_seconds=1, retrain_seconds=1, prove_seconds=1, source="runs", error_share=0.2, error_runs=5)
    assert evidence_metrics(evidence(costs=costs))["forecast_error_share"] == 0.2


def test_the_names_that_earlier_runs_were_logged_under_are_kept() -> None:
    """A column of MLflow's breaks where its name changes."""
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


# --- numbers in words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "0 %"), (0.0001, "under 0.1 %"), (0.021, "2.1 %"), (0.07, "7 %"), (0.814, "81 %"), (1.0, "100 %")],
)
def test_a_share_is_said_in_per_cent(share: float, words: str) -> None:
    assert format_percent(share) == words


@pytest.mark.parametrize(("share", "words"), [(0.01, "1 point is"), (0.004, "0.4 points are"), (0.14, "14 points are")])
def test_a_difference_is_said_in_points(share: float, words: str) -> None:
    assert points_are(share) == words


@given(st.floats(0, 1))
def test_a_share_that_is_not_nought_is_never_said_to_be(share: float) -> None:
    assert (format_percent(share) == "0 %") is (share == 0)
