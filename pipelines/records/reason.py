"""Reasons in codes and values: what a policy returns instead of sentences.

reports/wording.py renders them; each code names the values that belong to it there.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from pydantic import Field

from ragtide.pipelines.records.base import Record

Value: TypeAlias = bool | int | float | str | None


class ReasonCode(StrEnum):
    """What a reason says; CUSTOM is the free text of a policy of the user's own."""

    CUSTOM = "custom"

    # The gain of a refresh.
    INDEX_CURRENT = "index_current"
    FIRST_INDEX = "first_index"
    REBUILT_CHUNKS = "rebuilt_chunks"
    MOVED_CHUNKS = "moved_chunks"
    CHANGED_CHUNKS = "changed_chunks"
    CHANGED_SENTENCES = "changed_sentences"
    GAIN_ESTIMATED = "gain_estimated"
    GAIN_MEASURED = "gain_measured"
    GAIN_WITH_TRAINED_MODEL = "gain_with_trained_model"

    # The gain of a retrain.
    MODEL_GAP_UNMEASURED = "model_gap_unmeasured"
    MODEL_AT_TARGET = "model_at_target"
    MODEL_BELOW_TARGET = "model_below_target"
    NEW_BASE_MODEL = "new_base_model"
    SAME_ADAPTER = "same_adapter"
    CUT_SHORT = "cut_short"
    TOO_FEW_EXAMPLES = "too_few_examples"
    NO_NEW_EXAMPLES = "no_new_examples"
    NEW_EXAMPLES = "new_examples"
    EXCESS_LOSS = "excess_loss"

    # The gain of a tuned embedder.
    EMBEDDER_GAP_UNMEASURED = "embedder_gap_unmeasured"
    NO_EMBEDDER_GAP = "no_embedder_gap"
    EMBEDDER_GAP = "embedder_gap"
    TOO_FEW_PAIRS = "too_few_pairs"
    SAME_PAIRS = "same_pairs"
    NEW_PAIRS = "new_pairs"

    # What such actions have brought.
    PAST_GAIN = "past_gain"

    # What must be done under every policy.
    NO_INDEX = "no_index"
    REBUILD_NEEDED = "rebuild_needed"
    DELETED_IN_INDEX = "deleted_in_index"
    RENAMED_IN_INDEX = "renamed_in_index"
    DOCUMENTS_APPROVED = "documents_approved"
    FACTS_DUE = "facts_due"

    # What a person asked for.
    BY_HAND = "by_hand"

    # What is not done under any policy.
    REJECTED_BEFORE = "rejected_before"
    REJECTED_WITH_REFRESH = "rejected_with_refresh"
    OVER_BUDGET = "over_budget"
    COOL_DOWN = "cool_down"
    REBUILD_FIRST = "rebuild_first"
    TUNES_WITH_CHANGES = "tunes_with_changes"
    INDEX_FIRST = "index_first"

    # What the baselines go by.
    CHANGED_SINCE_RELEASE = "changed_since_release"
    POLICY_NEVER = "policy_never"
    CYCLES_SINCE_BUILD = "cycles_since_build"
    SHARE = "share"
    SCORE_FELL = "score_fell"
    SCORE_UNMEASURED = "score_unmeasured"
    DRIFT = "drift"
    STALENESS_COST = "staleness_cost"
    BACKLOG = "backlog"

    # What would have changed a recommendation.
    IF_FACTS_MAY_WAIT = "if_facts_may_wait"
    IF_REJECTED_BEFORE = "if_rejected_before"
    IF_OTHER_DATA = "if_other_data"
    IF_BUDGET_LEFT = "if_budget_left"
    IF_COOLED_DOWN = "if_cooled_down"
    IF_PRICE_ABOVE = "if_price_above"
    IF_GAIN_AT_LEAST = "if_gain_at_least"
    IF_EXAMPLES = "if_examples"
    IF_OTHER_EXAMPLES = "if_other_examples"
    IF_MORE_MINUTES = "if_more_minutes"
    IF_UNSEEN_EXAMPLES = "if_unseen_examples"
    IF_PAIRS = "if_pairs"
    IF_OTHER_PAIRS = "if_other_pairs"
    IF_CHANGED = "if_changed"
    IF_UNCHANGED = "if_unchanged"
    IF_OTHER_POLICY = "if_other_policy"
    IF_PERIOD = "if_period"
    IF_QUANTITY = "if_quantity"

    # The options that are no action on one component.
    NOTHING_CHANGED = "nothing_changed"
    KEEPS_LIVE = "keeps_live"
    BOTH_WANTED = "both_wanted"
    NOT_BOTH_WANTED = "not_both_wanted"

    # What an operator should know besides.
    DELETIONS_PENDING = "deletions_pending"
    DELETIONS_DECLINED = "deletions_declined"
    DOCUMENTS_EMPTIED = "documents_emptied"
    GOLDEN_LOST = "golden_lost"
    GOLDEN_LINES = "golden_lines"
    GOLDEN_LINE = "golden_line"
    DOCUMENTS_WITHHELD = "documents_withheld"
    WITHHELD_DECLINED = "withheld_declined"
    QUESTIONS_CAPTURED = "questions_captured"
    QUARANTINED = "quarantined"
    FILTERED = "filtered"
    SUSPECTS = "suspects"
    TRAINED_ON_DELETED = "trained_on_deleted"
    STALE_QUESTIONS = "stale_questions"
    OUTDATED_PATHS = "outdated_paths"
    FACTS_WAIT = "facts_wait"
    APPROVAL_ONLY = "approval_only"
    SUGGEST_MODE = "suggest_mode"
    OVER_COST_LIMIT = "over_cost_limit"


class Reason(Record):
    """A code and its values, by name."""

    code: ReasonCode
    values: dict[str, Value] = Field(default_factory=dict)

    @classmethod
    def of(cls, code: ReasonCode, **values: Value) -> Reason:
        """A reason with its values."""
        return cls(code=code, values=values)

    @classmethod
    def custom(cls, text: str) -> Reason:
        """The free text of a policy of the user's own: a clause without a full stop."""
        return cls.of(ReasonCode.CUSTOM, text=text)
