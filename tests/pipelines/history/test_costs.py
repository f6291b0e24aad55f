"""Tests of cost forecasts from recorded runs and from the prior."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.history import costs as costs_module
from ragtide.pipelines.history.costs import (
    ANSWER_SECONDS,
    ASKED_QUESTIONS,
    EMBEDDED_CHUNKS,
    GRADED_QUESTIONS,
    INDEX_SECONDS,
    PROVE_SECONDS,
    TRAIN_SECONDS,
    TRAINED_EXAMPLES,
    TRAINED_TOKENS,
    USUAL_TOKENS,
    forecast_costs,
)
from ragtide.pipelines.history.history import ACTION_SECONDS, FORECAST_SECONDS
from ragtide.pipelines.params import CostParams
from ragtide.pipelines.policy.weigh import forecast_seconds
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Costs, Workload
from ragtide.pipelines.records.release import Cycle, Outcome
from tests.factories import evidence

PRIOR = CostParams(seconds_per_chunk=0.5, seconds_per_example=2, seconds_per_question=0.25, seconds_fixed=10)
WORK = Workload(chunks=100, examples=40, questions=8)
STEPS = [
    (EMBEDDED_CHUNKS, INDEX_SECONDS, "refresh_seconds"),
    (TRAINED_EXAMPLES, TRAIN_SECONDS, "retrain_seconds"),
    (GRADED_QUESTIONS, PROVE_SECONDS, "prove_seconds"),
]
every_step = pytest.mark.parametrize(("amount", "seconds", "forecasted"), STEPS, ids=[step[2] for step in STEPS])
AMOUNTS = st.integers(0, 10**6)


# By the unit that a work was recorded in; the tests of the rates have samples of the usual length.
ENOUGH = costs_module.ENOUGH | {TRAINED_EXAMPLES: costs_module.ENOUGH[TRAINED_TOKENS] // USUAL_TOKENS}


def cycle(**work: float) -> Cycle:
    return Cycle(
        name="c", run="r", at="2030-01-01", action=Action.REFRESH, outcome=Outcome.RELEASED, reason="why", work=work
    )


def rates(amount: str, seconds: str, *each: float) -> list[Cycle]:
    """One cycle per rate, each of just enough units to measure the rate."""
    units = float(ENOUGH[amount])
    return [cycle(**{amount: units, seconds: units * rate}) for rate in each]


def small_runs(amount: str, seconds: str, *durations: float) -> list[Cycle]:
    """One cycle per duration, each of half the units that are needed to measure the rate."""
    return [cycle(**{amount: ENOUGH[amount] / 2, seconds: duration}) for duration in durations]


def cycle_with_forecast(forecast: float | None, took: float | None) -> Cycle:
    """A cycle with a forecast of `forecast` seconds that took `took` seconds."""
    signals = {FORECAST_SECONDS: forecast, ACTION_SECONDS: took}
    return cycle().model_copy(update={"signals": {key: value for key, value in signals.items() if value is not None}})


def units(amount: str) -> int:
    return {EMBEDDED_CHUNKS: WORK.chunks, TRAINED_EXAMPLES: WORK.examples, GRADED_QUESTIONS: WORK.questions}[amount]


def test_without_a_run_the_prior_is_used() -> None:
    costs = forecast_costs(WORK, [], PRIOR)
    assert (costs.refresh_seconds, costs.retrain_seconds, costs.prove_seconds) == (60, 90, 2)
    assert costs.source == "rates of the last runs: refresh default rate, retrain default rate, proof default rate"


@every_step
def test_a_run_replaces_only_the_prior_of_its_own_step(amount: str, seconds: str, forecasted: str) -> None:
    costs = forecast_costs(WORK, rates(amount, seconds, 7), PRIOR)
    assert getattr(costs, forecasted) == pytest.approx(7 * units(amount))
    others = {step for _, _, step in STEPS} - {forecasted}
    prior = forecast_costs(WORK, [], PRIOR)
    assert {step: getattr(costs, step) for step in others} == {step: getattr(prior, step) for step in others}


@every_step
def test_one_slow_run_among_others_does_not_move_the_forecast(amount: str, seconds: str, forecasted: str) -> None:
    usual = forecast_costs(WORK, rates(amount, seconds, 1, 1, 1), PRIOR)
    with_outlier = forecast_costs(WORK, rates(amount, seconds, 1, 1, 1000, 1), PRIOR)
    assert getattr(with_outlier, forecasted) == getattr(usual, forecasted)


@every_step
def test_only_the_last_five_runs_count(amount: str, seconds: str, forecasted: str) -> None:
    history = rates(amount, seconds, 100, 100, 100, 100, 1, 2, 3, 4, 5)
    costs = forecast_costs(WORK, history, PRIOR)
    assert getattr(costs, forecasted) == pytest.approx(3 * units(amount))
    assert " 5" in costs.source


@every_step
def test_runs_without_work_in_a_step_do_not_change_its_rate(amount: str, seconds: str, forecasted: str) -> None:
    idle = [cycle(), cycle(**{amount: 0.0, seconds: 3.0})] * 5
    assert forecast_costs(WORK, idle, PRIOR) == forecast_costs(WORK, [], PRIOR)
    costs = forecast_costs(WORK, rates(amount, seconds, 2) + idle, PRIOR)
    assert getattr(costs, forecasted) == pytest.approx(2 * units(amount))


@every_step
def test_a_small_run_gives_the_fixed_part_and_not_the_rate(amount: str, seconds: str, forecasted: str) -> None:
    nightly = small_runs(amount, seconds, 500, 500, 500)
    prior_each = {EMBEDDED_CHUNKS: 0.5, TRAINED_EXAMPLES: 2, GRADED_QUESTIONS: 0.25}[amount]
    for history, each in ((nightly, prior_each), (rates(amount, seconds, 2) + nightly, 2)):
        fixed = 500 - each * ENOUGH[amount] / 2
        seconds_forecast = getattr(forecast_costs(WORK, history, PRIOR), forecasted)
        assert seconds_forecast == pytest.approx(fixed + each * units(amount))


@every_step
def test_the_fixed_part_is_the_median_of_the_last_five_small_runs(amount: str, seconds: str, forecasted: str) -> None:
    usual = forecast_costs(WORK, small_runs(amount, seconds, 300, 300, 300), PRIOR)
    mixed = forecast_costs(WORK, small_runs(amount, seconds, 9000, 9000, 9000, 100, 200, 300, 8000, 7000), PRIOR)
    assert (
        getattr(mixed, forecasted) == getattr(usual, forecasted) > getattr(forecast_costs(WORK, [], PRIOR), forecasted)
    )


@every_step
def test_small_runs_faster_than_the_rate_give_no_negative_fixed_part(
    amount: str, seconds: str, forecasted: str
) -> None:
    costs = forecast_costs(WORK, rates(amount, seconds, 7) + small_runs(amount, seconds, 0.001), PRIOR)
    assert getattr(costs, forecasted) == pytest.approx(7 * units(amount))


def test_work_without_a_recorded_duration_is_ignored() -> None:
    assert forecast_costs(WORK, [cycle(**{EMBEDDED_CHUNKS: 1000.0})], PRIOR) == forecast_costs(WORK, [], PRIOR)


def test_the_source_gives_the_number_of_runs_behind_each_rate() -> None:
    history = rates(EMBEDDED_CHUNKS, INDEX_SECONDS, 1, 1) + rates(GRADED_QUESTIONS, PROVE_SECONDS, 1)
    assert (
        forecast_costs(WORK, history, PRIOR).source
        == "rates of the last runs: refresh 2, retrain default rate, proof 1"
    )
    history += small_runs(TRAINED_EXAMPLES, TRAIN_SECONDS, 9) + small_runs(GRADED_QUESTIONS, PROVE_SECONDS, 1)
    assert forecast_costs(WORK, history, PRIOR).source == "rates of the last runs: refresh 2, retrain 1, proof 2"


@settings(derandomize=True, deadline=None)
@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_more_work_never_costs_less(chunks: int, examples: int, questions: int, more: int) -> None:
    history = [cycle(**{EMBEDDED_CHUNKS: 300.0, INDEX_SECONDS: 200.0, GRADED_QUESTIONS: 70.0, PROVE_SECONDS: 10.0})]
    history += small_runs(EMBEDDED_CHUNKS, INDEX_SECONDS, 50) + small_runs(TRAINED_EXAMPLES, TRAIN_SECONDS, 90)
    less = forecast_costs(Workload(chunks=chunks, examples=examples, questions=questions), history, PRIOR)
    larger = forecast_costs(
        Workload(chunks=chunks + more, examples=examples + more, questions=questions + more), history, PRIOR
    )
    for _, _, step in STEPS:
        assert 0 <= getattr(less, step) <= getattr(larger, step)


def test_no_work_costs_the_fixed_part_and_no_evaluation() -> None:
    costs = forecast_costs(Workload(chunks=0, examples=0, questions=0), [], PRIOR)
    assert (costs.refresh_seconds, costs.retrain_seconds, costs.prove_seconds) == (10, 10, 0)


def test_regression_suites_cost_per_question_without_a_fixed_part() -> None:
    few_questions = [cycle(**{GRADED_QUESTIONS: 10.0, PROVE_SECONDS: 30.0})]
    with_suites = Workload(chunks=0, examples=0, questions=8, suite_questions_asked=4)
    plain, costs = (forecast_costs(work, few_questions, PRIOR) for work in (WORK, with_suites))
    assert (plain.suite_seconds, costs.suite_seconds) == (0, 4 * PRIOR.seconds_per_question)
    assert costs.prove_seconds == plain.prove_seconds


# --- forecast errors and prices ------------------------------------------------------------------------------------


def test_the_error_is_the_median_of_the_last_five_forecasts() -> None:
    long_ago = [cycle_with_forecast(1000, 10)] * 4
    costs = forecast_costs(
        WORK, [*long_ago, *(cycle_with_forecast(forecast, 100) for forecast in (110, 80, 130, 60, 200))], PRIOR
    )
    assert (costs.error_share, costs.error_runs) == (0.3, 5)


@pytest.mark.parametrize(
    "history",
    [[], [cycle()], [cycle_with_forecast(10, None)], [cycle_with_forecast(None, 10)], [cycle_with_forecast(10, 0)]],
    ids=["no run", "neither", "never ended", "no forecast", "no time at all"],
)
def test_without_a_forecast_and_a_duration_the_error_is_not_measured(history: list[Cycle]) -> None:
    costs = forecast_costs(WORK, history, PRIOR)
    assert (costs.error_share, costs.error_runs) == (None, 0)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=9))
def test_exact_forecasts_have_an_error_of_zero(seconds: list[float]) -> None:
    costs = forecast_costs(WORK, [cycle_with_forecast(duration, duration) for duration in seconds], PRIOR)
    assert (costs.error_share, costs.error_runs) == (0, min(5, len(seconds)))


@pytest.mark.parametrize(("price", "currency"), [(None, ""), (0.0, "CHF"), (2.5, "CHF")])
def test_an_hour_has_a_price_where_one_is_set(price: float | None, currency: str) -> None:
    costs = forecast_costs(WORK, [], PRIOR.model_copy(update={"price_per_hour": price, "currency": "CHF"}))
    assert (costs.price_per_hour, costs.currency) == (price, currency)


# --- tokens, and answers that are kept -------------------------------------------------------------------------------


def trained(tokens: float, seconds: float, **work: float) -> Cycle:
    return cycle(**{TRAINED_EXAMPLES: tokens / 100, TRAINED_TOKENS: tokens, TRAIN_SECONDS: seconds, **work})


def test_a_training_costs_by_its_tokens_and_not_by_its_examples() -> None:
    short, long = (WORK.model_copy(update={"examples": 100, "training_tokens": 100 * tokens}) for tokens in (100, 1000))
    history = [trained(tokens=50_000, seconds=500)]
    assert forecast_costs(short, history, PRIOR).retrain_seconds == 100
    assert forecast_costs(long, history, PRIOR).retrain_seconds == 1000
    assert forecast_costs(long, [], PRIOR).retrain_seconds == 10 + 100_000 / USUAL_TOKENS * PRIOR.seconds_per_example


def test_work_that_an_earlier_version_recorded_counts_with_the_tokens_of_todays_samples() -> None:
    earlier = [cycle(**{TRAINED_EXAMPLES: 200.0, TRAIN_SECONDS: 400.0})]
    work = WORK.model_copy(update={"examples": 100, "training_tokens": 60_000})
    assert forecast_costs(work, earlier, PRIOR).retrain_seconds == 200


def test_a_time_limit_bounds_the_forecast_of_a_training() -> None:
    work = WORK.model_copy(update={"training_tokens": 1_000_000, "training_limit_seconds": 300.0})
    assert forecast_costs(work, [], PRIOR).retrain_seconds == PRIOR.seconds_fixed + 300
    quick = work.model_copy(update={"training_tokens": 200})
    assert forecast_costs(quick, [], PRIOR).retrain_seconds == PRIOR.seconds_fixed + PRIOR.seconds_per_example


def proved(asked: float, answer: float, seconds: float) -> Cycle:
    work = {GRADED_QUESTIONS: 100.0, PROVE_SECONDS: seconds, ASKED_QUESTIONS: asked, ANSWER_SECONDS: answer}
    return cycle(**work)


def test_a_proof_costs_by_the_answers_that_are_not_kept() -> None:
    history = [proved(50, 1000, 1010), proved(0, 0, 10), proved(50, 1000, 1010)]
    work = WORK.model_copy(update={"questions": 50, "asked_after_refresh": 1})
    costs = forecast_costs(work, history, PRIOR)
    assert (costs.prove_seconds, costs.prove_refresh_seconds) == (1010, 30)
    kept = forecast_costs(work.model_copy(update={"asked_after_refresh": 0}), history, PRIOR)
    assert kept.prove_refresh_seconds == 10
    assert forecast_costs(WORK, history, PRIOR).prove_refresh_seconds is None


def test_only_a_refresh_alone_keeps_answers() -> None:
    limits = evidence(costs=Costs(refresh_seconds=1, retrain_seconds=2, prove_seconds=100, source="")).limits
    keeping = limits.model_copy(update={"costs": limits.costs.model_copy(update={"prove_refresh_seconds": 3.0})})
    assert [forecast_seconds(Action.REFRESH, known) for known in (limits, keeping)] == [101, 4]
    others = (Action.REBUILD, Action.RETRAIN, Action.REFRESH.with_retrain(), Action.TUNE_EMBEDDER)
    assert all(forecast_seconds(action, limits) == forecast_seconds(action, keeping) for action in others)
