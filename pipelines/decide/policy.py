"""Which action is worth its cost? The default policy: pure, evidence and params in, a decision out.

Gain and cost meet in one unit: points of answer score that an hour of compute is expected to buy, at the lower end of
the gain's interval. Refreshing is cheap and safe; a retrain has to be earned.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from pipelines.params import PolicyParams
from pipelines.records import Action, Decision, Evidence, Option

HOUR = 3600.0


@dataclass(frozen=True)
class Gain:
    """What an action may win back, in points of answer score (0-100), and why one thinks so.

    `needs` says what would have to be otherwise where there is a gap that this action cannot close.
    """

    points: float
    low: float
    because: str
    needs: str | None = None


def decide(evidence: Evidence, params: PolicyParams) -> Decision:
    """The action that the evidence calls for. Same evidence and params, same decision to the byte."""
    # Rows that were made under other settings cannot be refreshed, only made anew.
    index_action = Action.REBUILD if evidence.delta.rebuild else Action.REFRESH
    gains = {index_action: refresh_gain(evidence), Action.RETRAIN: retrain_gain(evidence)}
    refresh, retrain = (_option(action, gain, evidence, params) for action, gain in gains.items())
    retrain = _alone(refresh, retrain, evidence)
    return Decision(
        action=_together(refresh, retrain),
        reasons=_reasons(refresh, retrain, evidence),
        options=(_nothing(evidence), refresh, retrain, _both(refresh, retrain, evidence)),
        would_change=tuple(_would_change(one, gains[one.action], evidence, params) for one in (refresh, retrain)),
    )


def refresh_gain(evidence: Evidence) -> Gain:
    """What new rows can win back: measured on the questions they concern, and at least the share of chunks they are.

    The golden questions sample the documents; a changed passage that none of them asks for is still asked for.
    """
    delta, measured = evidence.delta, evidence.refresh_gain
    if delta.is_empty:
        return Gain(0, 0, "the live index holds these very chunks")
    prior = 100 * delta.changed_share * (evidence.score_gold.value or 0)
    because = f"{delta.new} of {delta.chunks_after} chunks are new, {delta.gone} old ones are gone"
    if evidence.live_release is None:
        because = f"all {delta.chunks_after} chunks are new"
    if not (delta.new or delta.gone):
        because = "the same chunks in other documents or places"
    if delta.rebuild:
        because = f"all {delta.chunks_after} chunks anew, {delta.to_embed} of them to be embedded"
    if measured.value is None or measured.low is None:
        return Gain(prior, prior, f"{because}; {measured.why}, so the share of chunks stands in for it")
    points, low = 100 * measured.value, 100 * measured.low
    because += f"; on the questions they concern the right passage would win {points:.0f} points"
    return Gain(max(points, prior), max(low, prior), because)


def retrain_gain(evidence: Evidence) -> Gain:
    """What another adapter can win back: the distance to the target that is left with the right passage in hand."""
    gap = evidence.model_gap
    if gap.value is None or gap.low is None:
        return Gain(0, 0, f"the model's gap was not measured: {gap.why}")
    points, low = max(0.0, 100 * gap.value), max(0.0, 100 * gap.low)
    score = evidence.score_gold.value
    answered = f"with the right passage the model scores {'nothing measured' if score is None else f'{score:.2f}'}"
    if points == 0:
        return Gain(0, 0, f"{answered}, which reaches the target")
    if evidence.adapter_is_current:
        why = f"a gap of {points:.0f} points, but the same examples would bring the same adapter"
        return Gain(0, 0, why, needs="there been other examples, or other settings of finetune")
    if evidence.examples < evidence.min_examples:
        why = f"a gap of {points:.0f} points, but {evidence.examples} examples are too few to learn from"
        return Gain(0, 0, why, needs=f"there been {evidence.min_examples} examples")
    return Gain(points, low, f"{answered}, {points:.0f} points below the target")


def _option(action: Action, gain: Gain, evidence: Evidence, params: PolicyParams) -> Option:
    seconds = _seconds(action, evidence)
    per_hour = gain.low / (seconds / HOUR)
    refused = evidence.refused.get(action)
    must = _must(action, evidence)
    worth_it = not refused and (bool(must) or (gain.low > 0 and per_hour >= params.points_per_hour))
    because = "; ".join(part for part in (must, gain.because, refused) if part)
    return Option(
        action=action,
        gain_points=round(gain.points, 2),
        gain_points_low=round(gain.low, 2),
        cost_seconds=round(seconds, 1),
        points_per_hour=round(per_hour, 1),
        worth_it=worth_it,
        because=because,
    )


def _must(action: Action, evidence: Evidence) -> str | None:
    """Without an index nothing is served; what was removed must not be (law 6), nor under a path that it has left.

    Vectors of two embedders never mix (law 9): who has set another one has asked for a rebuild.
    """
    delta = evidence.delta
    if not action.refreshes:
        return None
    if evidence.live_release is None:
        return "there is no index yet"
    if delta.rebuild:
        return delta.rebuild
    if not delta.documents_gone:
        return None
    told = "1 document is" if delta.documents_gone == 1 else f"{delta.documents_gone} documents are"
    return f"{told} gone from where the index has them: readers must not find what is gone"


def _seconds(action: Action, evidence: Evidence) -> float:
    costs = evidence.costs
    refresh = costs.refresh_seconds if action.refreshes else 0.0
    retrain = costs.retrain_seconds if action.retrains else 0.0
    return max(1.0, refresh + retrain + costs.prove_seconds)


def _alone(refresh: Option, retrain: Option, evidence: Evidence) -> Option:
    """A retrain waits where a refresh goes first: without an index, and where both at once were refused for this data.

    Of the two the refresh is the cheaper, and what it brings changes what a retrain is worth.
    """
    both_refused = evidence.refused.get(refresh.action.with_retrain())
    if retrain.worth_it and not refresh.worth_it and evidence.live_release is None:
        return retrain.model_copy(update={"worth_it": False, "because": "a model is not released without an index"})
    if retrain.worth_it and refresh.worth_it and both_refused:
        because = f"{retrain.because}; but with a refresh it waits, since together {both_refused}"
        return retrain.model_copy(update={"worth_it": False, "because": because})
    return retrain


def _together(refresh: Option, retrain: Option) -> Action:
    if refresh.worth_it and retrain.worth_it:
        return refresh.action.with_retrain()
    return refresh.action if refresh.worth_it else retrain.action if retrain.worth_it else Action.NOTHING


def _nothing(evidence: Evidence) -> Option:
    because = "nothing has changed" if evidence.changes.is_empty else "leaves the live release as it is"
    return Option(
        action=Action.NOTHING,
        gain_points=0.0,
        gain_points_low=0.0,
        cost_seconds=0.0,
        points_per_hour=None,
        worth_it=False,
        because=because,
    )


def _both(refresh: Option, retrain: Option, evidence: Evidence) -> Option:
    points = (refresh.gain_points or 0) + (retrain.gain_points or 0)
    low = (refresh.gain_points_low or 0) + (retrain.gain_points_low or 0)
    action = refresh.action.with_retrain()
    seconds = _seconds(action, evidence)
    return Option(
        action=action,
        gain_points=round(points, 2),
        gain_points_low=round(low, 2),
        cost_seconds=round(seconds, 1),
        points_per_hour=round(low / (seconds / HOUR), 1),
        worth_it=refresh.worth_it and retrain.worth_it,
        because="both halves at once" if refresh.worth_it and retrain.worth_it else "not both of them are worth it",
    )


def _reasons(refresh: Option, retrain: Option, evidence: Evidence) -> tuple[str, ...]:
    lines = [f"{_yes(option)} {option.action}: {option.because}." for option in (refresh, retrain)]
    if evidence.held:
        lines.append(
            f"{len(evidence.held)} documents are gone, more than the guard allows at once: their removal waits for "
            "`ragtide approve` with this plan's digest, and their passages stay until then."
        )
    if evidence.set_aside:
        lines.append(
            f"{len(evidence.set_aside)} documents cannot be read and are set aside; `ragtide status` says why."
        )
    if evidence.stale_questions:
        lines.append(f"{len(evidence.stale_questions)} golden questions are stale and were not scored.")
    return tuple(lines)


def _yes(option: Option) -> str:
    return "Yes to" if option.worth_it else "No to"


def _would_change(option: Option, gain: Gain, evidence: Evidence, params: PolicyParams) -> str:
    """What would have turned this option's yes into a no, or its no into a yes."""
    if option.worth_it:
        chosen = f"{option.action} would not have been chosen"
        if must := _must(option.action, evidence):
            return f"{chosen} only if it had been refused before: {must}"
        return f"{chosen} with policy.points_per_hour above {option.points_per_hour}"
    joint = (Action.REFRESH_RETRAIN, Action.REBUILD_RETRAIN)
    if {option.action, *joint} & set(evidence.refused):
        return f"{option.action} would be weighed again on other data, or under other params"
    if gain.needs:
        return f"{option.action} would have been weighed had {gain.needs}"
    needed = ceil(10 * max(params.points_per_hour * option.cost_seconds / HOUR, 0.1)) / 10
    bar = f"its gain, {floor(10 * gain.low) / 10:.1f} points at the lower end, been {needed:.1f} or more"
    return f"{option.action} would have been chosen had {bar}"
