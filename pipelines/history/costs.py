"""What will each action cost? Forecasts in seconds, from the rates of the runs that MLflow holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ragtide.pipelines.history.history import ACTION_SECONDS, FORECAST_SECONDS
from ragtide.pipelines.params import CostParams
from ragtide.pipelines.records.evidence import Costs
from ragtide.pipelines.records.release import Cycle

# A step's work and its time are recorded under these names (units in the names), and so found again here.
EMBEDDED_CHUNKS, INDEX_SECONDS = "embedded_chunks", "index_seconds"
TRAINED_EXAMPLES, TRAIN_SECONDS = "trained_examples", "train_seconds"
TRAINED_PAIRS, TUNE_SECONDS = "trained_pairs", "tune_seconds"
GRADED_QUESTIONS, PROVE_SECONDS = "graded_questions", "prove_seconds"
RECENT = 5
# A run of less than this much work tells what starting up costs, not what the work does.
ENOUGH = {EMBEDDED_CHUNKS: 100, TRAINED_EXAMPLES: 20, TRAINED_PAIRS: 100, GRADED_QUESTIONS: 20}


@dataclass(frozen=True)
class Workload:
    """How much each step would have to do; `suite_questions_asked` are asked besides where the model is another one.

    Another retriever takes `pairs` to tune it, counted with their repeats, and `all_chunks` to be embedded.
    """

    chunks: int
    examples: int
    questions: int
    suite_questions_asked: int = 0
    pairs: int = 0
    all_chunks: int = 0


@dataclass(frozen=True)
class CostStep:
    """Under which names a step's seconds and its amount of work are recorded."""

    seconds: str
    amount: str


@dataclass(frozen=True)
class CostRate:
    """Seconds that a step takes whatever it does, seconds for each piece of work, and the runs behind them."""

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
    """Seconds of a refresh, a retrain and the proof after either, by the median rate of the last runs of each.

    `examples` counts examples times the passes over them. Without a run to learn from, the rate is the prior.
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
        source="rates of the last runs: " + ", ".join(f"{step} {count or 'prior'}" for step, count in runs.items()),
        error_share=round(median(errors), 4) if errors else None,
        error_runs=len(errors),
        price_per_hour=prior.price_per_hour,
        currency=prior.currency if prior.price_per_hour is not None else "",
    )


def _rate(history: Sequence[Cycle], step: CostStep, prior: CostRate) -> CostRate:
    """What one piece of work takes, from the runs that had enough of it; what is left over is what each run takes."""
    works = [cycle.work for cycle in history if step.seconds in cycle.work and cycle.work.get(step.amount)]
    enough = [work for work in works if work[step.amount] >= ENOUGH[step.amount]][-RECENT:]
    each = median(work[step.seconds] / work[step.amount] for work in enough) if enough else prior.each
    few = [work for work in works if work[step.amount] < ENOUGH[step.amount]][-RECENT:]
    # Runs with enough work have what is fixed in their rate; a first run says nothing of it otherwise.
    fixed = 0.0 if enough else prior.fixed
    if few:
        fixed = median(max(0.0, work[step.seconds] - each * work[step.amount]) for work in few)
    return CostRate(fixed=fixed, each=each, runs=len(enough) + len(few))


def _errors(history: Sequence[Cycle]) -> list[float]:
    """How far the last forecasts were off, as a share of what it really took."""
    pairs = [(one.signals.get(FORECAST_SECONDS), one.signals.get(ACTION_SECONDS)) for one in history]
    return [abs(told - took) / took for told, took in pairs if told is not None and took][-RECENT:]
