"""Plans of a person's own: an action that is carried out by hand, whatever the policy says."""

from __future__ import annotations

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.action import ACTIONS, Action
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.reason import Reason, ReasonCode

# The policy that is recorded with such a decision.
BY_HAND = "by hand"


class Request(Record):
    """The action that a person asked for, why, and who it was."""

    action: Action
    why: str
    by: str


def parse_request(action: str, why: str | None, by: str) -> Request:
    """The request for an action by its text. Raises UserError for one that nobody can ask for, and without a reason."""
    known = [name for name, value in ACTIONS.items() if value.builds and value != Action.REMOVE]
    if action not in known:
        raise UserError(f"there is no action {action!r} to run by hand: known are {', '.join(known)}")
    if not (why or "").strip():
        raise UserError(f"{action} by hand needs a reason, which is recorded: --why TEXT")
    return Request(action=Action.named(action), why=str(why), by=by)


def decide_by_hand(plan: Plan, request: Request) -> Plan:
    """The plan with the action that a person asked for; what the guard holds back stays held back.

    Raises UserError where nothing is live that the action could change.
    """
    action, data = request.action, plan.evidence.data
    if data.live_release is None and not action.refreshes:
        raise UserError(f"nothing is live yet that {action} could change: `ragtide run` makes the first release")
    if Action.REFRESH in action.parts and data.delta.rebuild:
        action = Action.REBUILD.with_retrain() if action.retrains else Action.REBUILD
    reason = Reason.of(ReasonCode.BY_HAND, action=str(action), by=request.by, why=request.why)
    decision = plan.decision.model_copy(
        update={"action": action, "policy": BY_HAND, "proposed": None, "reasons": (reason, *plan.decision.reasons)}
    )
    return plan.model_copy(update={"decision": decision})
