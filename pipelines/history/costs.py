"""Cost forecasts of each action, in seconds, from the rates of the runs that MLflow holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
# Of a training, its tokens as they are estimated beforehand; of a proof, the answers that were not kept from before.
TRAINED_TOKENS = "trained_tokens"
ASKED_QUESTIONS, ANSWER_SECONDS = "asked_questions", "answer_seconds"
# The rest of a proof: retrieving and grading, which every question takes.
RETRIEVE_SECONDS = "retrieve_seconds"
# Tokens of a usual training sample, which costs.seconds_per_example is for.
USUAL_TOKENS = 200
RECENT = 5
# A run of less work than this shows what starting up takes, not what the work takes.
ENOUGH = {
    EMBEDDED_CHUNKS: 100,
    TRAINED_TOKENS: 20 * USUAL_TOKENS,
    TRAINED_PAIRS: 100,
    GRADED_QUESTIONS: 20,
    ASKED_QUESTIONS: 20,
}


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

    def of(self, amount: float) -> float:
        return self.fixed + self.each * amount


REFRESH = CostStep(INDEX_SECONDS, EMBEDDED_CHUNKS)
RETRAIN = CostStep(TRAIN_SECONDS, TRAINED_TOKENS)
TUNE = CostStep(TUNE_SECONDS, TRAINED_PAIRS)
ANSWER = CostStep(ANSWER_SECONDS, ASKED_QUESTIONS)
RETRIEVE = CostStep(RETRIEVE_SECONDS, GRADED_QUESTIONS)


def forecast_costs(workload: Workload, history: Sequence[Cycle], prior: CostParams) -> Costs:
    """Seconds of a refresh, a retrain, a tuning and the proof after each, by the median rate of their last runs.

    Without a run to learn from, the rate is the prior.
    """
    sample_tokens = (workload.training_tokens or 0) / workload.examples if workload.examples else 0.0
    works = [_completed_work(cycle.work, sample_tokens or USUAL_TOKENS) for cycle in history]
    refresh = _rate(works, REFRESH, CostRate(prior.seconds_fixed, prior.seconds_per_chunk, 0))
    retrain = _rate(works, RETRAIN, CostRate(prior.seconds_fixed, prior.seconds_per_example / USUAL_TOKENS, 0))
    tune = _rate(works, TUNE, CostRate(prior.seconds_fixed, prior.seconds_per_pair, 0))
    answer = _rate(works, ANSWER, CostRate(0.0, prior.seconds_per_question, 0))
    retrieve = _rate(works, RETRIEVE, CostRate(0.0, 0.0, 0))
    runs = {"refresh": refresh.runs, "retrain": retrain.runs, "proof": max(answer.runs, retrieve.runs)}
    # The live release and the candidate are both graded on every question.
    grading, errors = retrieve.of(2 * workload.questions), _errors(history)
    after_refresh = workload.asked_after_refresh
    return Costs(
        refresh_seconds=round(refresh.of(workload.chunks), 3),
        retrain_seconds=round(_training_seconds(retrain, workload), 3),
        prove_seconds=round(answer.of(workload.questions) + grading, 3),
        prove_refresh_seconds=None if after_refresh is None else round(_asking(answer, after_refresh) + grading, 3),
        tune_seconds=round(tune.of(workload.pairs) + refresh.of(workload.all_chunks), 3) if workload.pairs else 0.0,
        suite_seconds=round(answer.each * workload.suite_questions_asked, 3),
        source="rates of the last runs: "
        + ", ".join(f"{step} {count or 'default rate'}" for step, count in runs.items()),
        error_share=round(median(errors), 4) if errors else None,
        error_runs=len(errors),
        price_per_hour=prior.price_per_hour,
        currency=prior.currency if prior.price_per_hour is not None else "",
    )


def _training_seconds(rate: CostRate, workload: Workload) -> float:
    """Seconds of a training, which its time limit bounds."""
    tokens = workload.examples * USUAL_TOKENS if workload.training_tokens is None else workload.training_tokens
    limit = workload.training_limit_seconds
    return rate.of(tokens) if limit is None else min(rate.of(tokens), rate.fixed + limit)


def _asking(rate: CostRate, questions: int) -> float:
    """Seconds of answering: none where every answer is kept, since the model is not even loaded."""
    return rate.of(questions) if questions else 0.0


def _completed_work(work: Mapping[str, float], sample_tokens: float) -> dict[str, float]:
    """The work of a cycle in today's units, also where an earlier version recorded it.

    That counted samples instead of tokens, and a proof as if it had asked every question that it graded.
    """
    completed = dict(work)
    if TRAINED_EXAMPLES in work:
        completed.setdefault(TRAINED_TOKENS, work[TRAINED_EXAMPLES] * sample_tokens)
    if ANSWER_SECONDS in work and PROVE_SECONDS in work:
        completed[RETRIEVE_SECONDS] = max(0.0, work[PROVE_SECONDS] - work[ANSWER_SECONDS])
    elif PROVE_SECONDS in work and GRADED_QUESTIONS in work:
        completed |= {ASKED_QUESTIONS: work[GRADED_QUESTIONS], ANSWER_SECONDS: work[PROVE_SECONDS]}
    return completed


def _rate(recorded: Sequence[Mapping[str, float]], step: CostStep, prior: CostRate) -> CostRate:
    """Seconds for a unit of work, from the runs that had enough of it; the remainder is what every run takes."""
    works = [work for work in recorded if step.seconds in work and work.get(step.amount)]
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
