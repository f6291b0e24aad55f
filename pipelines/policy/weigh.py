"""What may each action win back, and what does it take? Gain in points of answer score, cost in seconds."""

from __future__ import annotations

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, CostBenefit, ExpectedGain
from ragtide.pipelines.policy.learning import LearnedShare, learned_share
from ragtide.pipelines.records.action import Action, Component
from ragtide.pipelines.records.evidence import Evidence, Measure

HOUR = 3600.0
ENDS = ("value", "low", "high")
# A gap of less than this is nothing that waits (0-1).
STANDS = 0.02
# So that nothing is free: an action that no forecast puts a time to is divided by this.
LEAST_SECONDS = 0.001


def weigh_components(evidence: Evidence, params: PolicyParams) -> ComponentOptions:
    """Every half with its gain and cost; where the live rows cannot stay, the index is made anew."""
    index_action = Action.REBUILD if evidence.delta.rebuild else Action.REFRESH
    taught = retrain_gain(evidence, params)
    refresh, retrain = refresh_gain(evidence, taught.points), add_forgetting(taught, evidence, params)

    def weighed(action: Action, gain: ExpectedGain, half: Component) -> CostBenefit:
        return CostBenefit(action, gain, forecast_seconds(action, evidence), gain_cycles(evidence, params, half))

    return ComponentOptions(
        refresh=weighed(index_action, refresh, Component.INDEX),
        retrain=weighed(Action.RETRAIN, retrain, Component.MODEL),
        tune=weighed(Action.TUNE_EMBEDDER, gain, Component.EMBEDDER) if (gain := tune_gain(evidence)) else None,
    )


def forecast_seconds(action: Action, evidence: Evidence) -> float:
    """The forecast of an action and of the proof after it."""
    costs = evidence.costs
    refresh = costs.tune_seconds if action.tunes else costs.refresh_seconds if action.refreshes else 0.0
    retrain = costs.retrain_seconds + costs.suite_seconds if action.retrains else 0.0
    return max(LEAST_SECONDS, refresh + retrain + costs.prove_seconds)


def points_per_hour(weighed: CostBenefit) -> float:
    """Points an hour of this action buys at the lower end, counted for as many cycles as the gain is to last."""
    return weighed.gain.low * weighed.lasts_cycles * HOUR / weighed.seconds


def gain_cycles(evidence: Evidence, params: PolicyParams, half: Component) -> float:
    """For how many cycles a gain is counted: `gain_lasts_cycles`, and more where the gap has already stood for longer.

    How long it will stand is not known. Who pays by the day and could buy does well to buy once the rent has come to
    the price (ski rental: Karlin et al. 1988, "Competitive snoopy caching"): so a gap that has stood for so many cycles
    is counted for as many and this one, and what is not worth its cost today is at last worth it if nothing changes.
    """
    stood = 0
    for one in reversed(evidence.past):
        gap = one.model_gap if half is Component.MODEL else one.index_gap
        if (gap or 0.0) < STANDS or (one.is_in_effect and one.touched(half)):
            break
        stood += 1
    return max(params.gain_lasts_cycles, stood + 1.0)


# --- the index -----------------------------------------------------------------------------------------------------


def refresh_gain(evidence: Evidence, taught_points: float = 0.0) -> ExpectedGain:
    """What new rows can win back: measured on the questions they concern, and at least the share of news they hold.

    The golden questions sample the documents; a changed passage that none of them asks for is still asked for. Where
    the model fails whatever is before it, answers do not show what the rows lack: then what it could be taught
    (`taught_points`, a retrain's expected gain) is added to what it can do, and missing answers are counted by that.
    """
    if evidence.delta.is_empty:
        return ExpectedGain(0, 0, 0, "the live index holds these very chunks")
    learnt = learned_share(evidence.past, Component.INDEX)
    able = min(1.0, (evidence.score_gold.value or 0) + taught_points / 100)
    prior = 100 * able * _news(evidence)
    measured, because = evidence.refresh_gain, _what_is_new(evidence)
    if measured.value is None or measured.low is None:
        points = prior * learnt.share
        return ExpectedGain(
            points, points, points, f"{because}; {measured.why}, so {_stand_in(evidence)} stands in for it"
        )
    because += f"; on the questions they concern the right passage would win {100 * measured.value:.0f} points"
    missing = evidence.missing_answers
    if taught_points and able * (missing.value or 0) > measured.value:
        because += f", and with a model that has learnt to answer {100 * able * (missing.value or 0):.0f}"
        measured = _higher(measured, missing, able)
    return _gain(measured, learnt, 1.0, because, at_least=prior)


def _higher(measured: Measure, missing: Measure, able: float) -> Measure:
    """End by end the higher of what was measured and of the missing answers, as far as a model could give them."""
    ends = {end: max(getattr(measured, end) or 0.0, able * (getattr(missing, end) or 0.0)) for end in ENDS}
    return Measure(n=missing.n, **ends)


def _news(evidence: Evidence) -> float:
    """The share of the corpus that says something else or new; without text to compare, that of the chunks."""
    share = evidence.changed_sentence_share.value
    return evidence.delta.changed_share if share is None else share


def _stand_in(evidence: Evidence) -> str:
    return (
        "the share of chunks"
        if evidence.changed_sentence_share.value is None
        else "the share of sentences that are news"
    )


def _what_is_new(evidence: Evidence) -> str:
    delta, news = evidence.delta, evidence.changed_sentence_share
    if delta.rebuild:
        return f"all {delta.chunks_after} chunks anew, {delta.to_embed} of them to be embedded"
    if evidence.live_release is None:
        return f"all {delta.chunks_after} chunks are new"
    if not (delta.new or delta.gone):
        return "the same chunks in other documents or places"
    because = f"{delta.new} of {delta.chunks_after} chunks are new, {delta.gone} old ones are gone"
    if news.value is None:
        return because
    told = "no sentence says anything new" if news.value == 0 else f"{news.value:.1%} of the sentences are news"
    return f"{because}; {told}"


# --- the model -----------------------------------------------------------------------------------------------------


def retrain_gain(evidence: Evidence, params: PolicyParams) -> ExpectedGain:
    """What another adapter can win back: the distance to the target that is left with the right passage in hand.

    Of that gap, as much as the examples that the live adapter never saw can teach: the more there are (a learning
    curve that halves what is left every `policy.examples_half` examples), and the more they surprise it.
    """
    gap = evidence.model_gap
    if gap.value is None or gap.low is None:
        return ExpectedGain(0, 0, 0, f"the model's gap was not measured: {gap.why}")
    points = max(0.0, 100 * gap.value)
    score = evidence.score_gold.value
    answered = f"with the right passage the model scores {'nothing measured' if score is None else f'{score:.2f}'}"
    if points == 0:
        return ExpectedGain(0, 0, 0, f"{answered}, which reaches the target{_start(evidence)}")
    if cannot := _cannot_learn(evidence):
        because = f"a gap of {points:.0f} points, but {cannot.because}{_start(evidence)}"
        return ExpectedGain(0, 0, 0, because, needs=cannot.needs)
    return _gain(
        gap,
        learned_share(evidence.past, Component.MODEL),
        _teaches(evidence, params),
        f"{answered}, {points:.0f} points below the target{_start(evidence)}{_lesson(evidence)}",
    )


def add_forgetting(taught: ExpectedGain, evidence: Evidence, params: PolicyParams) -> ExpectedGain:
    """A retrain's gain, and what it is worth besides that another adapter knows nothing of what is gone.

    The passages are others without the documents that are gone, so the same examples bring another adapter too.
    """
    many = len(evidence.deleted_training_documents)
    worth = min(100.0, params.forget_points * many)
    if not worth or evidence.examples < evidence.min_examples:
        return taught
    points, low, high = (min(100.0, end + worth) for end in (taught.points, taught.low, taught.high))
    gone = "1 document that is gone" if many == 1 else f"{many} documents that are gone"
    because = f"{taught.because}; the adapter was taught from {gone}: to forget that counts for {worth:g} points"
    return ExpectedGain(points, low, high, because, gap=taught.gap)


def _cannot_learn(evidence: Evidence) -> ExpectedGain | None:
    if evidence.adapter_is_current:
        needs = "there been other examples, or other settings of finetune"
        return ExpectedGain(0, 0, 0, "the same examples would bring the same adapter", needs)
    if evidence.examples < evidence.min_examples:
        because = f"{evidence.examples} examples are too few to learn from"
        return ExpectedGain(0, 0, 0, because, f"there been {evidence.min_examples} examples")
    if evidence.new_examples == 0:
        return ExpectedGain(0, 0, 0, "the adapter has seen every example", "there been examples that it has not seen")
    return None


def _teaches(evidence: Evidence, params: PolicyParams) -> float:
    """The share of the model's gap that the new examples can be expected to close, at best."""
    enough = 1.0
    if evidence.new_examples is not None:
        enough = 1 - 0.5 ** (evidence.new_examples / params.examples_half)
    surprise = evidence.excess_loss.low
    surprising = 1.0 if surprise is None else min(1.0, max(0.0, surprise / params.excess_loss_full))
    return enough * surprising


def _start(evidence: Evidence) -> str:
    """That it would be another model altogether."""
    if evidence.new_base_model is None:
        return ""
    return f"; params.yaml names another base model now, {evidence.new_base_model}, and a retrain starts from it"


def _lesson(evidence: Evidence) -> str:
    if evidence.new_examples is None:
        return ""
    told = f"; {evidence.new_examples} of {evidence.examples} examples are new to it"
    if evidence.excess_loss.value is None:
        return told
    return f"{told} and surprise it by {evidence.excess_loss.value:.2f} nats a token"


# --- the retriever -------------------------------------------------------------------------------------------------


def tune_gain(evidence: Evidence) -> ExpectedGain | None:
    """What another retriever can win back: answers that the rows hold and that it does not bring up.

    Of that as much as the pairs that the live one was not tuned on can teach. None where it cannot be tuned at all.
    """
    if evidence.pairs is None or evidence.live_release is None:
        return None
    gap = evidence.embedder_gap
    if gap.value is None or gap.low is None:
        return ExpectedGain(0, 0, 0, f"what only a better retriever can win back was not measured: {gap.why}")
    points = max(0.0, 100 * gap.value)
    told = f"the rows hold answers that are not brought up: a better retriever would win {points:.0f} points at most"
    if points == 0:
        return ExpectedGain(0, 0, 0, "what the rows hold is brought up")
    if evidence.pairs < evidence.min_pairs:
        needs = f"there been {evidence.min_pairs} pairs"
        return ExpectedGain(0, 0, 0, f"{told}, but {evidence.pairs} pairs are too few to learn from", needs=needs)
    if evidence.new_pairs == 0:
        return ExpectedGain(0, 0, 0, f"{told}, but it was tuned on these very pairs", needs="there been other pairs")
    because = f"{told}; {evidence.new_pairs:.0%} of {evidence.pairs} pairs are new to it"
    return _gain(gap, learned_share(evidence.past, Component.EMBEDDER), evidence.new_pairs, because)


# --- all -----------------------------------------------------------------------------------------------------------


def _gain(gap: Measure, learnt: LearnedShare, share: float, because: str, at_least: float = 0.0) -> ExpectedGain:
    """A measured gap as the gain to expect of it: times what such an action has recovered so far."""
    points, low, high = (
        max(100 * (end or 0.0) * share, at_least) * learnt.share for end in (gap.value, gap.low, gap.high)
    )
    if learnt.cycles:
        because += f"; such an action has recovered about {learnt.share:.0%} of what was expected ({learnt.cycles}x)"
    return ExpectedGain(points, low, max(points, high), because, gap=100 * (gap.value or 0.0) * share)
