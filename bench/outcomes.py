"""Outcome of an action in a recorded state: each of its parts is proven apart, as in flows/keep_current.py.

The index goes first, with the live model; a retrained model follows on it. A part that the gate rejects leaves live
what was live, or brings the base model live where that answers better; where a refresh is rejected, deleted documents
leave the index all the same. What the gate accepts depends on the recorded scores alone, so the recorder uses the same
function to know which states can become live.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.recorded_states import BASE, Seen, State
from ragtide.pipelines.evaluation.gate import check_alternatives, check_ranking, judge_candidate
from ragtide.pipelines.params import Params
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import Scorecard, Verdict
from ragtide.pipelines.release.proof import BASE_MODEL, LIVE_MODEL


@dataclass(frozen=True)
class PartResult:
    """One part of an action: the candidate beside what was live, and what is live after it.

    `accepted` is the gate's verdict on the candidate; a part that is not accepted may still have made a release, of the
    base model. `asked` are the states whose answers the proof needs.
    """

    part: Action
    before: Seen
    candidate: Seen
    live: Seen
    accepted: bool
    asked: tuple[Seen, ...]

    @property
    def is_released(self) -> bool:
        return self.accepted or self.live is not self.before


def carry_out(action: Action, origin: Seen, step: Mapping[str, Seen], params: Params) -> list[PartResult]:
    """Return the outcome of each part of an action that is taken where `origin` is live, in the order of the cycle.

    `step` has the assessed states of the step by their keys.
    """
    results: list[PartResult] = []
    live = origin
    for part in action.parts:
        result = _prove(part, origin, live, step, params)
        if part.refreshes and not result.accepted and not result.is_released and origin.removed:
            results.append(_prove(Action.REMOVE, origin, live, step, params))
            result = _prove(part, origin, results[-1].live, step, params)
        results.append(result)
        live = result.live
    return results


def _prove(part: Action, origin: Seen, live: Seen, step: Mapping[str, Seen], params: Params) -> PartResult:
    candidate = step[origin.after(part, live.state).key]
    if part == Action.REMOVE:
        return PartResult(part, live, candidate, candidate, accepted=True, asked=(live, candidate))
    verdict, base = _judge(part, live.scorecard, candidate.scorecard, params), _base_of(candidate.state, step)
    asked = (live, candidate, *([base] if base else []))
    if base is not None:
        verdict = _beside_alternatives(verdict, part, live, base, params)
    if verdict.accepted:
        return PartResult(part, live, candidate, candidate, accepted=True, asked=asked)
    is_live = live.state.model == BASE and not part.refreshes
    is_base_best = base is not None and verdict.best_alternative == BASE_MODEL and not is_live
    if base and is_base_best and _judge(part, live.scorecard, base.scorecard, params).accepted:
        return PartResult(part, live, candidate, base, accepted=False, asked=asked)
    return PartResult(part, live, candidate, live, accepted=False, asked=asked)


def _base_of(state: State, step: Mapping[str, Seen]) -> Seen | None:
    """Return the base model on a candidate's index; None for a candidate that is the base model itself."""
    return None if state.model == BASE else step.get(state.with_base_model.key)


def _beside_alternatives(verdict: Verdict, part: Action, live: Seen, base: Seen, params: Params) -> Verdict:
    alternatives = {BASE_MODEL: base.scorecard}
    if part.retrains and live.state.model != BASE:
        alternatives[LIVE_MODEL] = live.scorecard
    return check_alternatives(verdict, alternatives, part.retrains, params)


def _judge(part: Action, before: Scorecard, after: Scorecard, params: Params) -> Verdict:
    verdict = judge_candidate(before, after, (), params)
    return check_ranking(verdict, params) if part.tunes else verdict
