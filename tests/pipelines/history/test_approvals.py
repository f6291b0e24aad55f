"""Tests of the deletion guard, approvals and rejections (invariant no-mass-deletion)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.approvals import (
    approved_actions,
    consume_approvals,
    is_answered,
    read_approvals,
    read_rejections,
    record_approval,
    record_rejection,
    rejected_actions,
    rejected_deletions_reason,
)
from ragtide.pipelines.history.deletions import find_deleted, pending_deletions
from ragtide.pipelines.history.lost_content import removal_digest
from ragtide.pipelines.params import DeletionGuardParams, PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Approval, Plan
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.workspace import Workspace
from tests.factories import UNCHANGED, UNMOVED, evidence, measure, release, snapshot, workspace, write

deterministic = settings(derandomize=True, deadline=None)
PLAN = "0123456789ab"
NAMES = st.sampled_from([f"{letter}.md" for letter in "abcdefgh"])
FOLDERS = st.dictionaries(NAMES, st.sampled_from("123456"), max_size=8)
LIMITS = st.builds(
    DeletionGuardParams,
    max_removed_documents=st.integers(0, 4),
    max_removed_share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
STRICT = DeletionGuardParams(max_removed_documents=0, max_removed_share=0)


def approval_of(removals: dict[str, str], plan: str = PLAN) -> Approval:
    return Approval(plan=plan, removals=removals, why="by hand", at="2030-01-01T00:00:00+00:00")


APPROVALS = st.lists(FOLDERS.map(approval_of), max_size=3)


def pages(count: int, first: int = 0) -> dict[str, str]:
    return {f"{number}.md": f"digest {number}" for number in range(first, first + count)}


# --- deletions -----------------------------------------------------------------------------------------------------


@deterministic
@given(FOLDERS, FOLDERS, st.sets(NAMES))
def test_a_document_is_deleted_where_the_index_has_it_and_the_folder_does_not(
    indexed: dict[str, str], folder: dict[str, str], kept: set[str]
) -> None:
    deleted = find_deleted(indexed, folder, kept)
    assert deleted.items() <= indexed.items()
    assert not deleted.keys() & (folder.keys() | kept)
    assert not set(deleted.values()) & set(folder.values())
    remaining = {name for name in indexed if name not in deleted}
    assert all(name in folder or name in kept or indexed[name] in folder.values() for name in remaining)


@deterministic
@given(FOLDERS, FOLDERS)
def test_an_addition_or_an_edit_is_no_deletion(indexed: dict[str, str], more: dict[str, str]) -> None:
    assert find_deleted(indexed, indexed | more, ()) == {}


@deterministic
@given(FOLDERS, st.permutations([f"{number}.txt" for number in range(8)]))
def test_a_rename_is_no_deletion(indexed: dict[str, str], names: list[str]) -> None:
    renamed = dict(zip(names, indexed.values(), strict=False))
    assert find_deleted(indexed, renamed, ()) == {}


@deterministic
@given(FOLDERS, st.permutations([f"{number}.txt" for number in range(8)]))
def test_a_page_that_was_renamed_and_then_edited_is_no_deletion(indexed: dict[str, str], names: list[str]) -> None:
    renamed = dict(zip(names, indexed.values(), strict=False))
    edited = {name: f"{digest} edited" for name, digest in renamed.items()}
    assert find_deleted(indexed, edited, (), [indexed, renamed]) == {}
    assert find_deleted(indexed, {}, (), [indexed, renamed]) == indexed


def test_earlier_states_are_read_only_where_a_document_seems_to_be_deleted() -> None:
    def never() -> Iterator[dict[str, str]]:
        raise AssertionError("no document is deleted")
        yield {}

    assert find_deleted({"a.md": "1"}, {"a.md": "2", "b.md": "3"}, (), never()) == {}


@deterministic
@given(FOLDERS)
def test_an_empty_folder_means_that_all_documents_are_deleted(indexed: dict[str, str]) -> None:
    assert find_deleted(indexed, {}, ()) == indexed


def test_one_of_two_pages_with_the_same_text_can_be_deleted_freely() -> None:
    assert find_deleted({"a.md": "1", "b.md": "1"}, {"b.md": "1"}, ()) == {}
    assert find_deleted({"a.md": "1", "b.md": "1"}, {}, ()) == {"a.md": "1", "b.md": "1"}


# --- the deletion guard --------------------------------------------------------------------------------------------


@deterministic
@given(FOLDERS, st.integers(0, 100), APPROVALS, LIMITS)
def test_over_the_limit_all_deletions_without_an_approval_are_pending(
    removals: dict[str, str], documents: int, approvals: list[Approval], params: DeletionGuardParams
) -> None:
    pending = pending_deletions(removals, documents, approvals, params)
    covered = {pair for approval in approvals for pair in approval.removals.items()}
    rest = dict(removals.items() - covered)
    assert pending in ({}, rest)
    assert bool(pending) is (len(rest) > params.limit(documents))


@deterministic
@given(FOLDERS, st.integers(0, 100), APPROVALS, FOLDERS.map(approval_of), LIMITS)
def test_another_approval_never_makes_more_deletions_pending(
    removals: dict[str, str], documents: int, approvals: list[Approval], more: Approval, params: DeletionGuardParams
) -> None:
    before, after = (
        pending_deletions(removals, documents, approvals, params),
        pending_deletions(removals, documents, [*approvals, more], params),
    )
    assert after.items() <= before.items()


@deterministic
@given(FOLDERS, st.integers(0, 100), LIMITS)
def test_an_approval_of_all_pending_deletions_leaves_none_pending(
    removals: dict[str, str], documents: int, params: DeletionGuardParams
) -> None:
    pending = pending_deletions(removals, documents, [], params)
    assert pending_deletions(removals, documents, [approval_of(pending)], params) == {}


@deterministic
@given(FOLDERS.filter(bool), FOLDERS)
def test_an_approval_covers_no_other_document_and_no_other_content(
    removals: dict[str, str], others: dict[str, str]
) -> None:
    elsewhere = approval_of({name: digest for name, digest in others.items() if removals.get(name) != digest})
    assert pending_deletions(removals, 100, [elsewhere], STRICT) == removals


@deterministic
@given(FOLDERS, st.integers(0, 100), APPROVALS, LIMITS)
def test_pending_deletions_do_not_depend_on_the_order_of_documents_or_approvals(
    removals: dict[str, str], documents: int, approvals: list[Approval], params: DeletionGuardParams
) -> None:
    reordered = pending_deletions(dict(reversed(removals.items())), documents, list(reversed(approvals)), params)
    assert reordered == pending_deletions(removals, documents, approvals, params)


@pytest.mark.parametrize(
    ("deleted", "indexed", "pending"),
    [(10, 10, False), (11, 100, True), (11, 110, False), (12, 110, True), (20, 200, False), (21, 200, True)],
)
def test_the_larger_of_the_two_limits_applies(deleted: int, indexed: int, pending: bool) -> None:
    removals = pages(deleted)
    assert pending_deletions(removals, indexed, [], DeletionGuardParams()) == (removals if pending else {})


def test_approved_deletions_do_not_count_towards_the_limit() -> None:
    removals = pages(30)
    approved = approval_of(pages(20))
    assert pending_deletions(removals, 100, [approved], DeletionGuardParams()) == {}
    assert pending_deletions(removals, 100, [approval_of(pages(19))], DeletionGuardParams()) == pages(11, first=19)


# --- approvals -----------------------------------------------------------------------------------------------------


STILL: dict[str, Any] = {"changes": UNCHANGED, "delta": UNMOVED}
WEAK: dict[str, Any] = {"model_gap": measure(0.6), "score_gold": measure(0.35)}


def plan_for(limit: float | None = None, **signals: Any) -> Plan:
    """The plan of the default policy, under which an action of more than `limit` seconds needs an approval.

    A refresh takes 30 s here, a retrain 320 s, both 330 s.
    """
    gathered = evidence(**signals)
    decision = make_decision(gathered, PolicyParams(approve_above_seconds=limit))
    return Plan(evidence=gathered, decision=decision, params="p1")


def plan_with_deletions(removals: dict[str, str]) -> Plan:
    """A plan whose only content is these pending deletions."""
    return plan_for(pending_deletions=removals, **STILL)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


def test_an_approval_records_its_plan_its_documents_and_its_reason(space: Workspace) -> None:
    approval = record_approval(space, PLAN, plan_with_deletions(pages(2)), "the product is discontinued")
    assert (approval.plan, approval.removals, approval.why) == (PLAN, pages(2), "the product is discontinued")
    assert read_approvals(space) == [approval]


def test_a_new_project_has_no_approvals(space: Workspace) -> None:
    assert read_approvals(space) == []
    consume_approvals(space, {})
    assert not space.approvals.exists()


def test_a_plan_with_nothing_pending_cannot_be_approved(space: Workspace) -> None:
    for plan in (plan_for(), plan_for(**STILL), plan_for(limit=30)):
        with pytest.raises(UserError, match=f"^plan {PLAN} holds nothing back: there is nothing to approve$"):
            record_approval(space, PLAN, plan, "by hand")
    assert read_approvals(space) == []


@pytest.mark.parametrize(
    ("plan", "decided", "removals", "action"),
    [
        (plan_with_deletions(pages(2)), Action.HOLD, 2, None),
        (plan_for(pending_deletions=pages(2)), Action.REFRESH, 2, None),
        (plan_for(limit=29), Action.HOLD, 0, Action.REFRESH),
        (plan_for(limit=29, pending_deletions=pages(2)), Action.HOLD, 2, Action.REFRESH),
        (plan_for(limit=100, pending_deletions=pages(2), **STILL, **WEAK), Action.HOLD, 2, Action.RETRAIN),
        (plan_for(limit=100, **WEAK), Action.REFRESH, 0, Action.REFRESH.with_retrain()),
    ],
    ids=[
        "removals alone",
        "removals beside an action that goes ahead",
        "an action",
        "removals and an action",
        "removals and a retrain",
        "both components, one within the limit",
    ],
)
def test_an_approval_covers_exactly_what_is_pending_in_its_plan(
    plan: Plan, decided: Action, removals: int, action: Action | None, space: Workspace
) -> None:
    assert plan.decision.action == decided
    approval = record_approval(space, PLAN, plan, "by hand")
    assert (approval.removals, approval.action) == (pages(removals), action)
    assert approval.snapshot == (plan.evidence.data.snapshot if action else None)
    assert read_approvals(space) == [approval]


def test_each_plan_has_at_most_one_approval(space: Workspace) -> None:
    record_approval(space, PLAN, plan_with_deletions(pages(2)), "first")
    record_approval(space, "ba9876543210", plan_with_deletions(pages(2, first=2)), "second")
    record_approval(space, PLAN, plan_with_deletions(pages(2)), "once more")
    assert [approval.why for approval in read_approvals(space)] == ["once more", "second"]


@pytest.mark.parametrize(
    ("indexed", "used_up"),
    [
        ({}, True),
        ({"9.md": "digest 9"}, True),
        ({"0.md": "another digest"}, True),
        (pages(1), False),
        (pages(9), False),
    ],
    ids=["empty index", "others", "other content", "one is left", "all are left"],
)
def test_an_approval_is_consumed_once_all_its_documents_are_deleted_from_the_index(
    indexed: dict[str, str], used_up: bool, space: Workspace
) -> None:
    record_approval(space, PLAN, plan_with_deletions(pages(2)), "by hand")
    consume_approvals(space, indexed)
    assert (read_approvals(space) == []) is used_up


@pytest.mark.parametrize(("digest", "used_up"), [("digest 0", False), ("now", True)])
def test_an_approval_of_an_emptied_document_is_consumed_once_its_old_rows_are_replaced(
    digest: str, used_up: bool, space: Workspace
) -> None:
    record_approval(space, PLAN, plan_with_deletions({"0.md": removal_digest("digest 0", "now")}), "by hand")
    consume_approvals(space, {"0.md": digest})
    assert (read_approvals(space) == []) is used_up


def test_consuming_an_approval_leaves_the_others(space: Workspace) -> None:
    record_approval(space, PLAN, plan_with_deletions(pages(2)), "carried out")
    record_approval(space, "ba9876543210", plan_with_deletions(pages(2, first=2)), "still to do")
    consume_approvals(space, pages(2, first=2))
    assert [approval.why for approval in read_approvals(space)] == ["still to do"]


def test_a_truncated_approval_file_is_named(space: Workspace) -> None:
    write(space.approvals / f"{PLAN}.json", '{"plan": ')
    with pytest.raises(UserError, match=rf"{PLAN}\.json cannot be read as a Approval"):
        read_approvals(space)


# --- actions above the cost limit ----------------------------------------------------------------------------------

NOW = snapshot()
OTHER = snapshot({"late.md": "0" * 32})


def action_approval(action: str, plan: str = PLAN, **removals: str) -> Approval:
    approval = approval_of({f"{name}.md": digest for name, digest in removals.items()}, plan)
    return approval.model_copy(update={"action": Action.named(action), "snapshot": NOW.id})


def released(decision: str, data: Snapshot = NOW) -> Release:
    return release(2, decision=Action.named(decision), snapshot=data)


def test_an_action_is_approved_only_for_the_data_of_its_plan() -> None:
    approvals = [action_approval("RETRAIN"), approval_of(pages(2))]
    assert approved_actions(approvals, NOW.id) == (Action.RETRAIN,)
    assert approved_actions(approvals, OTHER.id) == ()


def test_an_approval_of_a_joint_action_covers_each_of_its_components() -> None:
    assert approved_actions([action_approval("REBUILD+RETRAIN")], NOW.id) == (
        Action.REBUILD,
        Action.RETRAIN,
        Action.REBUILD.with_retrain(),
    )
    assert approved_actions([action_approval("REBUILD"), action_approval("RETRAIN")], NOW.id) == (
        Action.REBUILD,
        Action.RETRAIN,
    )


@pytest.mark.parametrize(
    ("action", "release_made", "pending"),
    [
        ("RETRAIN", None, True),
        ("RETRAIN", released("REFRESH"), True),
        ("RETRAIN", released("RETRAIN"), False),
        ("REFRESH", released("REFRESH"), False),
        ("REFRESH", released("REFRESH+RETRAIN"), False),
        ("REFRESH+RETRAIN", released("REFRESH"), True),
        ("REFRESH+RETRAIN", released("RETRAIN"), False),
        ("REFRESH+RETRAIN", released("REFRESH+RETRAIN"), False),
        ("REBUILD+RETRAIN", released("REBUILD"), True),
        ("RETRAIN", released("REFRESH", OTHER), False),
        ("RETRAIN", released("RETRAIN", OTHER), False),
    ],
    ids=lambda value: (
        f"{value.decision} of {'other' if value.snapshot == OTHER else 'this'} data"
        if isinstance(value, Release)
        else str(value)
    ),
)
def test_an_action_approval_is_consumed_once_it_is_carried_out_or_other_data_is_live(
    action: str, release_made: Release | None, pending: bool, space: Workspace
) -> None:
    action_approval(action).write(space.approvals / f"{PLAN}.json")
    consume_approvals(space, {}, release_made)
    assert bool(read_approvals(space)) is pending


def test_an_approval_of_deletions_and_an_action_is_consumed_with_the_last_of_them(space: Workspace) -> None:
    action_approval("RETRAIN", deleted="d1").write(space.approvals / f"{PLAN}.json")
    consume_approvals(space, {"deleted.md": "d1"}, released("RETRAIN"))
    assert read_approvals(space)
    consume_approvals(space, {}, released("REFRESH"))
    assert read_approvals(space)
    consume_approvals(space, {}, released("RETRAIN"))
    assert read_approvals(space) == []


# --- declined actions and deletions --------------------------------------------------------------------------------

COSTLY = PolicyParams(approve_above_seconds=0)


def saved_plan(space: Workspace, params: PolicyParams, **signals: Any) -> tuple[str, Plan]:
    """A plan for that evidence, saved under its digest as by each cycle, and the digest."""
    gathered = evidence(**({"approved_actions": ()} | signals))
    plan = Plan(evidence=gathered, decision=make_decision(gathered, params), params="p1")
    plan.write(space.plan_file(plan.content_digest()))
    return plan.content_digest(), plan


def test_a_declined_action_stays_declined_for_the_same_data_and_params(space: Workspace) -> None:
    digest, plan = saved_plan(space, COSTLY)
    assert plan.decision.proposed == Action.REFRESH
    record_rejection(space, digest, plan, "not before the fair")
    rejections = read_rejections(space)
    assert rejected_actions(rejections, "s1", "p1") == {Action.REFRESH: "a person declined it: not before the fair"}
    assert rejected_actions(rejections, "s2", "p1") == {}
    assert rejected_actions(rejections, "s1", "p2") == {}


def test_declined_deletions_stay_declined_and_cover_no_others(space: Workspace) -> None:
    digest, plan = saved_plan(
        space, PolicyParams(), pending_deletions=pages(2), delta=UNMOVED, refresh_gain=measure(0.0)
    )
    assert (plan.decision.action, plan.needs_approval) == (Action.HOLD, True)
    assert record_rejection(space, digest, plan, "a mistake").actions == ()
    assert rejected_deletions_reason(read_rejections(space), pages(2)) == "a mistake"
    assert rejected_deletions_reason(read_rejections(space), pages(1)) == "a mistake"
    assert rejected_deletions_reason(read_rejections(space), pages(3)) is None
    assert rejected_deletions_reason(read_rejections(space), {"0.md": "another digest"}) is None
    assert rejected_deletions_reason(read_rejections(space), {}) is None


def test_declining_a_joint_action_declines_the_component_that_is_pending(space: Workspace) -> None:
    digest, plan = saved_plan(space, PolicyParams(approve_above_seconds=60), model_gap=measure(0.3))
    assert (plan.decision.action, plan.decision.proposed) == (Action.REFRESH, Action.REFRESH.with_retrain())
    assert record_rejection(space, digest, plan, "too dear").actions == (Action.RETRAIN, Action.REFRESH.with_retrain())


def test_the_last_answer_to_the_same_approval_request_counts(space: Workspace) -> None:
    first, plan = saved_plan(space, COSTLY)
    again, later = saved_plan(space, COSTLY, spent_hours=1.0)
    assert (first != again, plan.approval_digest()) == (True, later.approval_digest())
    assert not is_answered(space, plan)
    record_approval(space, first, plan, "yes")
    assert is_answered(space, later)
    record_rejection(space, again, later, "no")
    assert (read_approvals(space), [rejection.why for rejection in read_rejections(space)]) == ([], ["no"])
    record_approval(space, first, plan, "yes after all")
    assert ([approval.why for approval in read_approvals(space)], read_rejections(space)) == (["yes after all"], [])


def test_an_approval_of_more_deletions_revokes_an_earlier_rejection_of_some_of_them(space: Workspace) -> None:
    still: dict[str, Any] = {"delta": UNMOVED, "refresh_gain": measure(0.0)}
    few, plan = saved_plan(space, PolicyParams(), pending_deletions=pages(1), **still)
    record_rejection(space, few, plan, "a mistake")
    more, other = saved_plan(space, PolicyParams(), pending_deletions=pages(2), **still)
    assert not is_answered(space, other)
    record_approval(space, more, other, "all of them")
    assert read_rejections(space) == []
    assert is_answered(space, plan)


def test_a_plan_with_nothing_pending_cannot_be_rejected(space: Workspace) -> None:
    digest, plan = saved_plan(space, PolicyParams())
    with pytest.raises(UserError, match=f"plan {digest} holds nothing back: there is nothing to reject"):
        record_rejection(space, digest, plan, "no")
    assert read_rejections(space) == []


def test_in_suggest_mode_an_approval_of_deletions_covers_the_action_that_carries_them_out(tmp_path: Path) -> None:
    params = {"mode": "suggest"}
    careful = workspace(tmp_path, policy=params)
    still = {"pending_deletions": pages(2), "delta": UNMOVED, "refresh_gain": measure(0.0)}
    digest, plan = saved_plan(careful, PolicyParams.model_validate(params), **still)
    approval = record_approval(careful, digest, plan, "yes")
    assert (approval.removals, approval.action) == (pages(2), Action.REFRESH)
