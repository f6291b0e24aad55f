"""Expected gain and forecast cost of each action: points of answer score against seconds."""

from __future__ import annotations

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, CostBenefit, ExpectedGain
from ragtide.pipelines.policy.learning import learned_share
from ragtide.pipelines.records.action import Action, Component
from ragtide.pipelines.records.evidence import Evidence, Limits, Measure, TrainingData
from ragtide.pipelines.records.reason import Reason, ReasonCode

HOUR = 3600.0
ENDS = ("value", "low", "high")
# A smaller gap than this does not wait for anything (0-1).
OPEN_GAP = 0.02
# So that no action is free: one whose forecast is no time is divided by this.
LEAST_SECONDS = 0.001


def weigh_components(evidence: Evidence, params: PolicyParams) -> ComponentOptions:
    """Each component's action with its gain and cost; where the live chunks cannot stay, the index is rebuilt."""
    index_action = Action.REBUILD if evidence.data.delta.rebuild else Action.REFRESH
    trained = retrain_gain(evidence, params)
    refresh = refresh_gain(evidence, trained.points)
    tune = tune_gain(evidence)

    def weigh(action: Action, gain: ExpectedGain, component: Component) -> CostBenefit:
        seconds = forecast_seconds(action, evidence.limits)
        return CostBenefit(action, gain, seconds, gain_cycles(evidence, params, component))

    return ComponentOptions(
        refresh=weigh(index_action, refresh, Component.INDEX),
        retrain=weigh(Action.RETRAIN, trained, Component.MODEL),
        tune=weigh(Action.TUNE_EMBEDDER, tune, Component.EMBEDDER) if tune else None,
    )


def forecast_seconds(action: Action, limits: Limits) -> float:
    """Forecast seconds of an action and of the proof after it; each answer is asked for in one proof only."""
    costs, parts = limits.costs, set(action.parts)
    index = costs.refresh_seconds if parts & {Action.REFRESH, Action.REBUILD, Action.REMOVE} else 0.0
    index += costs.tune_seconds if action.tunes else 0.0
    model = costs.retrain_seconds + costs.suite_seconds if action.retrains else 0.0
    keeps_answers = action == Action.REFRESH and costs.prove_refresh_seconds is not None
    proof = costs.prove_refresh_seconds if keeps_answers else costs.prove_seconds
    return max(LEAST_SECONDS, index + model + (proof or 0.0))


def points_per_hour(option: CostBenefit) -> float:
    """Points that an hour of this action gains at the lower end, over as many cycles as the gain is counted for."""
    return option.gain.low * option.lasts_cycles * HOUR / option.seconds


def gain_cycles(evidence: Evidence, params: PolicyParams, component: Component) -> float:
    """The number of cycles that a gain is counted for: `gain_lasts_cycles`, or more where the gap has been open longer.

    How long it will stay open is not known. Who rents by the day and could buy does well to buy once the rent has come
    to the price (ski rental: Karlin et al. 1988, "Competitive snoopy caching"). So a gap that was open for N cycles
    is counted for N + 1, and what is not worth its cost today is worth it in the end. Cycles that looked at the same
    data count as one: time has not passed because somebody looked.
    """
    open_states: list[str] = []
    for decision in reversed(evidence.limits.past):
        gap = decision.model_gap if component is Component.MODEL else decision.index_gap
        if (gap or 0.0) < OPEN_GAP or (decision.is_in_effect and decision.touched(component)):
            break
        open_states.append(decision.snapshot or decision.cycle)
    return max(params.gain_lasts_cycles, float(len({*open_states, evidence.data.snapshot})))


# --- the index -----------------------------------------------------------------------------------------------------


def refresh_gain(evidence: Evidence, trained_points: float = 0.0) -> ExpectedGain:
    """The gain of new chunks: measured on the golden questions, and at least the share of changed sentences.

    The golden questions sample the documents; users ask about changed passages that none of them asks about. Where the
    model fails with any context, its answers do not show what the index lacks: then what a retrain could add
    (`trained_points`, its expected gain) is added to the model's score, and missing answers are counted by that.
    """
    if evidence.data.delta.is_empty:
        return ExpectedGain.none(Reason.of(ReasonCode.INDEX_CURRENT))
    able = min(1.0, (evidence.scores.score_gold.value or 0) + trained_points / 100)
    prior = 100 * able * _changed_share(evidence)
    measured, changes = evidence.scores.refresh_gain, _describe_chunks(evidence)
    if measured.value is None or measured.low is None:
        points = prior * learned_share(evidence.limits.past, Component.INDEX).share
        by_chunks = evidence.text.changed_sentence_share.value is None
        estimated = Reason.of(ReasonCode.GAIN_ESTIMATED, by_chunks=by_chunks, why=measured.why, points=points)
        return ExpectedGain(points, points, points, (*changes, estimated))
    reasons = [*changes, Reason.of(ReasonCode.GAIN_MEASURED, points=100 * measured.value)]
    missing = evidence.scores.missing_answers
    if trained_points and able * (missing.value or 0) > measured.value:
        reasons.append(Reason.of(ReasonCode.GAIN_WITH_TRAINED_MODEL, points=100 * able * (missing.value or 0)))
        measured = _larger(measured, missing, able)
    return _gain(measured, evidence.limits, Component.INDEX, reasons, at_least=prior)


def _larger(measured: Measure, missing: Measure, able: float) -> Measure:
    """End by end the larger of what was measured and of the missing answers, as far as a model could give them."""
    ends = {end: max(getattr(measured, end) or 0.0, able * (getattr(missing, end) or 0.0)) for end in ENDS}
    return Measure(n=missing.n, **ends)


def _changed_share(evidence: Evidence) -> float:
    """The share of the corpus's sentences that say something else or new; without text to compare, of its chunks."""
    share = evidence.text.changed_sentence_share.value
    return evidence.data.delta.changed_share if share is None else share


def _describe_chunks(evidence: Evidence) -> tuple[Reason, ...]:
    delta, changed = evidence.data.delta, evidence.text.changed_sentence_share
    if delta.rebuild:
        return (Reason.of(ReasonCode.REBUILT_CHUNKS, chunks=delta.chunks_after, to_embed=delta.to_embed),)
    if evidence.data.live_release is None:
        return (Reason.of(ReasonCode.FIRST_INDEX, chunks=delta.chunks_after),)
    if not (delta.new or delta.removed):
        return (Reason.of(ReasonCode.MOVED_CHUNKS),)
    chunks = Reason.of(ReasonCode.CHANGED_CHUNKS, new=delta.new, chunks=delta.chunks_after, deleted=delta.removed)
    if changed.value is None:
        return (chunks,)
    return (chunks, Reason.of(ReasonCode.CHANGED_SENTENCES, share=changed.value))


# --- the model -----------------------------------------------------------------------------------------------------


def retrain_gain(evidence: Evidence, params: PolicyParams) -> ExpectedGain:
    """The gain of another adapter: the distance to the target that is left with gold context.

    Of that gap, as much as the examples that the live adapter was not trained on can close: the more there are (a
    learning curve that halves the rest every `policy.examples_half` examples), and the larger their excess loss.
    """
    gap, training = evidence.scores.model_gap, evidence.training
    if gap.value is None or gap.low is None:
        return ExpectedGain.none(Reason.of(ReasonCode.MODEL_GAP_UNMEASURED, why=gap.why))
    points = max(0.0, 100 * gap.value)
    score = evidence.scores.score_gold.value
    new_base = [Reason.of(ReasonCode.NEW_BASE_MODEL, model=training.new_base_model)] if training.new_base_model else []
    if points == 0:
        return ExpectedGain.none(Reason.of(ReasonCode.MODEL_AT_TARGET, score=score), *new_base)
    below = Reason.of(ReasonCode.MODEL_BELOW_TARGET, score=score, points=points)
    if obstacle := _training_obstacle(training):
        return ExpectedGain.none(obstacle.reasons[0], below, *new_base, needs=obstacle.needs)
    reasons = [below, *new_base, *_describe_examples(training)]
    return _gain(gap, evidence.limits, Component.MODEL, reasons, share=_learnable_share(training, params))


def _training_obstacle(training: TrainingData) -> ExpectedGain | None:
    """Why a retrain can learn nothing, and what it needs; None where it can."""
    if training.adapter_is_current:
        needs = Reason.of(ReasonCode.IF_OTHER_EXAMPLES)
        return ExpectedGain.none(Reason.of(ReasonCode.SAME_ADAPTER), needs=needs)
    if training.cut_short_after is not None:
        seen = Reason.of(ReasonCode.CUT_SHORT, seen=training.cut_short_after, examples=training.examples)
        return ExpectedGain.none(seen, needs=Reason.of(ReasonCode.IF_MORE_MINUTES))
    if training.examples < training.min_examples:
        few, needs = too_few_examples(training)
        return ExpectedGain.none(few, needs=needs)
    if training.new_examples == 0:
        return ExpectedGain.none(Reason.of(ReasonCode.NO_NEW_EXAMPLES), needs=Reason.of(ReasonCode.IF_UNSEEN_EXAMPLES))
    return None


def too_few_examples(training: TrainingData) -> tuple[Reason, Reason]:
    """That there are too few examples to train on, and how many would be enough."""
    few = Reason.of(ReasonCode.TOO_FEW_EXAMPLES, examples=training.examples, needed=training.min_examples)
    return few, Reason.of(ReasonCode.IF_EXAMPLES, examples=training.min_examples)


def _learnable_share(training: TrainingData, params: PolicyParams) -> float:
    """The share of the model gap that the new examples can be expected to close, at best."""
    enough = 1.0
    if training.new_examples is not None:
        enough = 1 - 0.5 ** (training.new_examples / params.examples_half)
    excess = training.excess_loss.low
    informative = 1.0 if excess is None else min(1.0, max(0.0, excess / params.excess_loss_full))
    return enough * informative


def _describe_examples(training: TrainingData) -> list[Reason]:
    if training.new_examples is None:
        return []
    reasons = [Reason.of(ReasonCode.NEW_EXAMPLES, new=training.new_examples, examples=training.examples)]
    if training.excess_loss.value is not None:
        reasons.append(Reason.of(ReasonCode.EXCESS_LOSS, nats=training.excess_loss.value))
    return reasons


# --- the embedder --------------------------------------------------------------------------------------------------


def tune_gain(evidence: Evidence) -> ExpectedGain | None:
    """The gain of a tuned embedder: answers that the index holds and that are not retrieved.

    Of that as much as the pairs that the live one was not tuned on can close. None where it cannot be tuned at all.
    """
    training, gap = evidence.training, evidence.scores.embedder_gap
    if training.pairs is None or evidence.data.live_release is None:
        return None
    if gap.value is None or gap.low is None:
        return ExpectedGain.none(Reason.of(ReasonCode.EMBEDDER_GAP_UNMEASURED, why=gap.why))
    points = max(0.0, 100 * gap.value)
    if points == 0:
        return ExpectedGain.none(Reason.of(ReasonCode.NO_EMBEDDER_GAP))
    open_gap = Reason.of(ReasonCode.EMBEDDER_GAP, points=points)
    if training.pairs < training.min_pairs:
        few = Reason.of(ReasonCode.TOO_FEW_PAIRS, pairs=training.pairs, needed=training.min_pairs)
        return ExpectedGain.none(few, open_gap, needs=Reason.of(ReasonCode.IF_PAIRS, pairs=training.min_pairs))
    if training.new_pairs == 0:
        same = Reason.of(ReasonCode.SAME_PAIRS)
        return ExpectedGain.none(same, open_gap, needs=Reason.of(ReasonCode.IF_OTHER_PAIRS))
    reasons = [open_gap, Reason.of(ReasonCode.NEW_PAIRS, share=training.new_pairs, pairs=training.pairs)]
    return _gain(gap, evidence.limits, Component.EMBEDDER, reasons, share=training.new_pairs)


# --- all -----------------------------------------------------------------------------------------------------------


def _gain(
    gap: Measure,
    limits: Limits,
    component: Component,
    reasons: list[Reason],
    share: float = 1.0,
    at_least: float = 0.0,
) -> ExpectedGain:
    """The gain to expect of a measured gap: times the share of their expected gain that such actions have achieved."""
    learned = learned_share(limits.past, component)
    points, low, high = (
        max(100 * (end or 0.0) * share, at_least) * learned.share for end in (gap.value, gap.low, gap.high)
    )
    if learned.cycles:
        past = Reason.of(ReasonCode.PAST_GAIN, component=component.value, share=learned.share, cycles=learned.cycles)
        reasons = [*reasons, past]
    return ExpectedGain(points, low, max(points, high), tuple(reasons), gap=100 * (gap.value or 0.0) * share)
