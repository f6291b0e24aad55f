"""Cost forecasts of each action, in seconds, from the rates of the runs that MLflow holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ragtide.pipelines.history.history import ACTION_SECONDS, FORECAST_SECONDS
from ragtide.pipelines.params import CostParams
from ragtide.pipelines.records.evidence import Costs, Workload
from ragtide.pipelines.records.release import Cycle

# A step's work and its time are logged under these names, with their units, and read again here.
EMBEDDED_CHUNKS, INDEX_SECONDS = "embedded_chunks", "index_seconds"
TRAINED_EXAMPLES, TRAIN_SECONDS = "trained_examples", "train_seconds"
TRAINED_PAIRS, TUNE_SECONDS = "trained_pairs", "tune_seconds"
GRADED_QUESTIONS, PROVE_SECONDS = "graded_questions", "prove_seconds"
RECENT = 5
# A run of less work than this shows what starting up takes, not what the work takes.
ENOUGH = {EMBEDDED_CHUNKS: 100, TRAINED_EXAMPLES: 20, TRAINED_PAIRS: 100, GRADED_QUESTIONS: 20}


@dataclass(frozen=True)
class CostStep:
    """The names under which a step's seconds and its amount of work are logged."""

    seconds: str
    amount: str


@dataclass(frozen=True)
class CostRate:
    """Fixed seconds of a step, seconds for each unit of work, and the number of runs that they were estimated from."""

    fixed: float
    each: float
    runs: int

    def of(self, amount: int) -> float:
        return self.fixed + self.each * amount


REFRESH = CostStep(INDEX_SECONDS, EMBEDDED_CHUNKS)
RETRAIN = CostStep(TRAIN_SECONDS, TRAINED_EXAMPLES)
TUNE = CostStep(TUNE_SECONDS, TRAINED_PAIRS)
PROVE = CostStep(PROVE_SECONDS, GRADED_QUESTIONS)


def forecast_costs(workload: Workload, history: Sequence[Cycle], prior: CostParams) -> Costs:
    """Seconds of a refresh, a retrain, a tuning and the proof after each, by the median rate of their last runs.

    `workload.examples` counts examples times the passes over them. Without a run to learn from, the rate is the prior.
    """
    refresh = _rate(history, REFRESH, CostRate(prior.seconds_fixed, prior.seconds_per_chunk, 0))
    retrain = _rate(history, RETRAIN, CostRate(prior.seconds_fixed, prior.seconds_per_example, 0))
    tune = _rate(history, TUNE, CostRate(prior.seconds_fixed, prior.seconds_per_pair, 0))
    proof = _rate(history, PROVE, CostRate(0.0, prior.seconds_per_question, 0))
    runs = {"refresh": refresh.runs, "retrain": retrain.runs, "proof": proof.runs}
    errors = _errors(history)
    return Costs(
        refresh_seconds=round(refresh.of(workload.chunks), 3),
        retrain_seconds=round(retrain.of(workload.examples), 3),
        prove_seconds=round(proof.of(workload.questions), 3),
        tune_seconds=round(tune.of(workload.pairs) + refresh.of(workload.all_chunks), 3) if workload.pairs else 0.0,
        suite_seconds=round(proof.each * workload.suite_questions_asked, 3),
        source="rates of the last runs: "
        + ", ".join(f"{step} {count or 'default rate'}" for step, count in runs.items()),
        error_share=round(median(errors), 4) if errors else None,
        error_runs=len(errors),
        price_per_hour=prior.price_per_hour,
        currency=prior.currency if prior.price_per_hour is not None else "",
    )


def _rate(history: Sequence[Cycle], step: CostStep, prior: CostRate) -> CostRate:
    """Seconds for a unit of work, from the runs that had enough of it; the remainder is what every run takes."""
    works = [cycle.work for cycle in history if step.seconds in cycle.work and cycle.work.get(step.amount)]
    enough = [work for work in works if work[step.amount] >= ENOUGH[step.amount]][-RECENT:]
    each = median(work[step.seconds] / work[step.amount] for work in enough) if enough else prior.each
    few = [work for work in works if work[step.amount] < ENOUGH[step.amount]][-RECENT:]
    # The rate of runs with enough work includes what is fixed.
    fixed = 0.0 if enough else prior.fixed
    if few:
        fixed = median(max(0.0, work[step.seconds] - each * work[step.amount]) for work in few)
    return CostRate(fixed=fixed, each=each, runs=len(enough) + len(few))


def _errors(history: Sequence[Cycle]) -> list[float]:
    """Errors of the last forecasts, as a share of the seconds that were really taken."""
    pairs = [(cycle.signals.get(FORECAST_SECONDS), cycle.signals.get(ACTION_SECONDS)) for cycle in history]
    return [abs(forecast - took) / took for forecast, took in pairs if forecast is not None and took][-RECENT:]
