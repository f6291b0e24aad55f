"""What will each action cost? Forecasts in seconds, from the rates of the runs that MLflow holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pipelines.params import CostParams
from pipelines.records import Costs, Cycle

# A step's work and its time are recorded under these names (units in the names), and so found again here.
EMBEDDED_CHUNKS, INDEX_SECONDS = "embedded_chunks", "index_seconds"
TRAINED_EXAMPLES, TRAIN_SECONDS = "trained_examples", "train_seconds"
GRADED_QUESTIONS, PROVE_SECONDS = "graded_questions", "prove_seconds"
RECENT = 5
# A run of less than this much work tells what starting up costs, not what the work does.
ENOUGH = {EMBEDDED_CHUNKS: 100, TRAINED_EXAMPLES: 20, GRADED_QUESTIONS: 20}


@dataclass(frozen=True)
class Workload:
    """How much each step would have to do."""

    chunks: int
    examples: int
    questions: int


def forecast(workload: Workload, history: Sequence[Cycle], prior: CostParams) -> Costs:
    """Seconds of a refresh, a retrain and the proof after either, by the median rate of the last runs of each.

    `examples` counts examples times the passes over them. Without a run to learn from, the rate is the prior.
    """
    chunk, chunk_runs = _rate(history, INDEX_SECONDS, EMBEDDED_CHUNKS, prior.seconds_per_chunk)
    example, example_runs = _rate(history, TRAIN_SECONDS, TRAINED_EXAMPLES, prior.seconds_per_example)
    question, question_runs = _rate(history, PROVE_SECONDS, GRADED_QUESTIONS, prior.seconds_per_question)
    runs = {"refresh": chunk_runs, "retrain": example_runs, "proof": question_runs}
    return Costs(
        refresh_seconds=round(prior.seconds_fixed + chunk * workload.chunks, 3),
        retrain_seconds=round(prior.seconds_fixed + example * workload.examples, 3),
        prove_seconds=round(question * workload.questions, 3),
        source="rates of the last runs: " + ", ".join(f"{step} {count or 'prior'}" for step, count in runs.items()),
    )


def _rate(history: Sequence[Cycle], seconds: str, amount: str, prior: float) -> tuple[float, int]:
    runs = [cycle.work for cycle in history if cycle.work.get(amount, 0) >= ENOUGH[amount] and seconds in cycle.work]
    rates = [work[seconds] / work[amount] for work in runs]
    recent = rates[-RECENT:]
    return (median(recent), len(recent)) if recent else (prior, 0)
