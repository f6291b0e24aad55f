"""Does a removal of many documents wait until somebody has agreed to it, and to these very documents? (law 8)"""

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
from ragtide.pipelines.params import DeletionGuardParams, PolicyParams
from ragtide.pipelines.policy.decide import decide
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Approval, Plan
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.workspace import Workspace
from tests.factories import UNCHANGED, UNMOVED, evidence, measure, release, snapshot, workspace, write

law = settings(derandomize=True, deadline=None)
PLAN = "0123456789ab"
NAMES = st.sampled_from([f"{letter}.md" for letter in "abcdefgh"])
FOLDERS = st.dictionaries(NAMES, st.sampled_from("123456"), max_size=8)
LIMITS = st.builds(
    DeletionGuardParams,
    max_removed_documents=st.integers(0, 4),
    max_removed_share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
STRICT = DeletionGuardParams(max_removed_documents=0, max_removed_share=0)


def given_for(removals: dict[str, str], plan: str = PLAN) -> Approval:
    return Approval(plan=plan, removals=removals, why="by hand", at="2030-01-01T00:00:00+00:00")


APPROVALS = st.lists(FOLDERS.map(given_for), max_size=3)


def pages(count: int, first: int = 0) -> dict[str, str]:
    return {f"{number}.md": f"digest {number}" for number in range(first, first + count)}


# --- what is a removal ---------------------------------------------------------------------------------------------


@law
@given(FOLDERS, FOLDERS, st.sets(NAMES))
def test_a_removal_is_what_the_index_has_and_the_folder_has_not(
    indexed: dict[str, str], folder: dict[str, str], kept: set[str]
) -> None:
    gone = find_deleted(indexed, folder, kept)
    assert gone.items() <= indexed.items()
    assert not gone.keys() & (folder.keys() | kept)
    assert not set(gone.values()) & set(folder.values())
    still = {name for name in indexed if name not in gone}
    assert all(name in folder or name in kept or indexed[name] in folder.values() for name in still)


@law
@given(FOLDERS, FOLDERS)
def test_an_addition_or_an_edit_is_no_removal(indexed: dict[str, str], more: dict[str, str]) -> None:
    assert find_deleted(indexed, indexed | more, ()) == {}


@law
@given(FOLDERS, st.permutations([f"{number}.txt" for number in range(8)]))
def test_a_rename_is_no_removal(indexed: dict[str, str], names: list[str]) -> None:
    renamed = dict(zip(names, indexed.values(), strict=False))
    assert find_deleted(indexed, renamed, ()) == {}


@law
@given(FOLDERS, st.permutations([f"{number}.txt" for number in range(8)]))
def test_a_page_that_was_renamed_and_then_edited_is_no_removal(indexed: dict[str, str], names: list[str]) -> None:
    renamed = dict(zip(names, indexed.values(), strict=False))
    edited = {name: f"{digest} edited" for name, digest in renamed.items()}
    assert find_deleted(indexed, edited, (), [indexed, renamed]) == {}
    assert find_deleted(indexed, {}, (), [indexed, renamed]) == indexed


def test_earlier_states_are_looked_at_only_where_something_seems_to_be_gone() -> None:
    def never() -> Iterator[dict[str, str]]:
        raise AssertionError("nothing is gone")
        yield {}

    assert find_deleted({"a.md": "1"}, {"a.md": "2", "b.md": "3"}, (), never()) == {}


@law
@given(FOLDERS)
def test_an_empty_folder_removes_everything(indexed: dict[str, str]) -> None:
    assert find_deleted(indexed, {}, ()) == indexed


def test_of_two_pages_with_one_text_either_may_go() -> None:
    assert find_deleted({"a.md": "1", "b.md": "1"}, {"b.md": "1"}, ()) == {}
    assert find_deleted({"a.md": "1", "b.md": "1"}, {}, ()) == {"a.md": "1", "b.md": "1"}


# --- what has to wait ----------------------------------------------------------------------------------------------


@law
@given(FOLDERS, st.integers(0, 100), APPROVALS, LIMITS)
def test_what_waits_is_all_that_no_approval_covers_or_nothing(
    removals: dict[str, str], documents: int, given: list[Approval], params: DeletionGuardParams
) -> None:
    held = pending_deletions(removals, documents, given, params)
    covered = {pair for one in given for pair in one.removals.items()}
    rest = dict(removals.items() - covered)
    assert held in ({}, rest)
    assert bool(held) is (len(rest) > params.limit(documents))


@law
@given(FOLDERS, st.integers(0, 100), APPROVALS, FOLDERS.map(given_for), LIMITS)
def test_one_approval_more_never_holds_more_back(
    removals: dict[str, str], documents: int, given: list[Approval], more: Approval, params: DeletionGuardParams
) -> None:
    before, after = (
        pending_deletions(removals, documents, given, params),
        pending_deletions(removals, documents, [*given, more], params),
    )
    assert after.items() <= before.items()


@law
@given(FOLDERS, st.integers(0, 100), LIMITS)
def test_an_approval_of_what_is_held_lets_go_of_all_of_it(
    removals: dict[str, str], documents: int, params: DeletionGuardParams
) -> None:
    held = pending_deletions(removals, documents, [], params)
    assert pending_deletions(removals, documents, [given_for(held)], params) == {}


@law
@given(FOLDERS.filter(bool), FOLDERS)
def test_an_approval_covers_no_other_document_and_no_other_content(
    removals: dict[str, str], others: dict[str, str]
) -> None:
    elsewhere = given_for({name: digest for name, digest in others.items() if removals.get(name) != digest})
    assert pending_deletions(removals, 100, [elsewhere], STRICT) == removals


@law
@given(FOLDERS, st.integers(0, 100), APPROVALS, LIMITS)
def test_the_same_question_has_the_same_answer(
    removals: dict[str, str], documents: int, given: list[Approval], params: DeletionGuardParams
) -> None:
    turned = pending_deletions(dict(reversed(removals.items())), documents, list(reversed(given)), params)
    assert turned == pending_deletions(removals, documents, given, params)


@pytest.mark.parametrize(
    ("gone", "indexed", "waits"),
    [(10, 10, False), (11, 100, True), (11, 110, False), (12, 110, True), (20, 200, False), (21, 200, True)],
)
def test_as_many_as_the_larger_limit_may_go_and_no_more(gone: int, indexed: int, waits: bool) -> None:
    removals = pages(gone)
    assert pending_deletions(removals, indexed, [], DeletionGuardParams()) == (removals if waits else {})


def test_what_was_approved_does_not_count_against_the_limit() -> None:
    removals = pages(30)
    approved = given_for(pages(20))
    assert pending_deletions(removals, 100, [approved], DeletionGuardParams()) == {}
    assert pending_deletions(removals, 100, [given_for(pages(19))], DeletionGuardParams()) == pages(11, first=19)


# --- approvals -----------------------------------------------------------------------------------------------------


STILL: dict[str, Any] = {"changes": UNCHANGED, "delta": UNMOVED}
WEAK: dict[str, Any] = {"model_gap": measure(0.6), "score_gold": measure(0.35)}


def plan_of(limit: float | None = None, **signals: Any) -> Plan:
    """The plan of the default policy, where an action of more than `limit` seconds waits.

    A refresh takes 30 s here, a retrain 320 s, both 330 s.
    """
    gathered = evidence(**signals)
    decision = decide(gathered, PolicyParams(approve_above_seconds=limit))
    return Plan(evidence=gathered, decision=decision, params="p1")


def holding(removals: dict[str, str]) -> Plan:
    """A plan that holds these removals back, and has nothing else to do."""
    return plan_of(pending_deletions=removals, **STILL)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


def test_an_approval_is_kept_with_its_plan_its_documents_and_its_reason(space: Workspace) -> None:
    made = record_approval(space, PLAN, holding(pages(2)), "the product is discontinued")
    assert (made.plan, made.removals, made.why) == (PLAN, pages(2), "the product is discontinued")
    assert read_approvals(space) == [made]


def test_without_an_approval_there_is_none(space: Workspace) -> None:
    assert read_approvals(space) == []
    consume_approvals(space, {})
    assert not space.approvals.exists()


def test_a_plan_that_holds_nothing_back_cannot_be_approved(space: Workspace) -> None:
    for plan in (plan_of(), plan_of(**STILL), plan_of(limit=30)):
        with pytest.raises(UserError, match=f"^plan {PLAN} holds nothing back: there is nothing to approve$"):
            record_approval(space, PLAN, plan, "by hand")
    assert read_approvals(space) == []


@pytest.mark.parametrize(
    ("plan", "decided", "removals", "action"),
    [
        (holding(pages(2)), Action.HOLD, 2, None),
        (plan_of(pending_deletions=pages(2)), Action.REFRESH, 2, None),
        (plan_of(limit=29), Action.HOLD, 0, Action.REFRESH),
        (plan_of(limit=29, pending_deletions=pages(2)), Action.HOLD, 2, Action.REFRESH),
        (plan_of(limit=100, pending_deletions=pages(2), **STILL, **WEAK), Action.HOLD, 2, Action.RETRAIN),
        (plan_of(limit=100, **WEAK), Action.REFRESH, 0, Action.REFRESH.with_retrain()),
    ],
    ids=[
        "removals alone",
        "removals beside an action that goes ahead",
        "an action",
        "removals and an action",
        "removals and a retrain",
        "both halves, of which one goes ahead",
    ],
)
def test_an_approval_covers_what_the_plan_holds_back_and_no_more(
    plan: Plan, decided: Action, removals: int, action: Action | None, space: Workspace
) -> None:
    assert plan.decision.action == decided
    given = record_approval(space, PLAN, plan, "by hand")
    assert (given.removals, given.action) == (pages(removals), action)
    assert given.snapshot == (plan.evidence.snapshot if action else None)
    assert read_approvals(space) == [given]


def test_two_plans_have_an_approval_each_and_the_same_one_has_one(space: Workspace) -> None:
    record_approval(space, PLAN, holding(pages(2)), "first")
    record_approval(space, "ba9876543210", holding(pages(2, first=2)), "second")
    record_approval(space, PLAN, holding(pages(2)), "once more")
    assert [one.why for one in read_approvals(space)] == ["once more", "second"]


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
def test_an_approval_is_used_up_once_nothing_of_it_is_left_to_remove(
    indexed: dict[str, str], used_up: bool, space: Workspace
) -> None:
    record_approval(space, PLAN, holding(pages(2)), "by hand")
    consume_approvals(space, indexed)
    assert (read_approvals(space) == []) is used_up


def test_using_up_one_approval_leaves_the_other(space: Workspace) -> None:
    record_approval(space, PLAN, holding(pages(2)), "carried out")
    record_approval(space, "ba9876543210", holding(pages(2, first=2)), "still to do")
    consume_approvals(space, pages(2, first=2))
    assert [one.why for one in read_approvals(space)] == ["still to do"]


def test_an_approval_that_is_half_there_is_named(space: Workspace) -> None:
    write(space.approvals / f"{PLAN}.json", '{"plan": ')
    with pytest.raises(UserError, match=rf"{PLAN}\.json cannot be read as a Approval"):
        read_approvals(space)


# --- actions above the cost limit ----------------------------------------------------------------------------------

NOW = snapshot()
OTHER = snapshot({"late.md": "0" * 32})


def leave(action: str, plan: str = PLAN, **removals: str) -> Approval:
    given = given_for({f"{name}.md": digest for name, digest in removals.items()}, plan)
    return given.model_copy(update={"action": Action.named(action), "snapshot": NOW.id})


def made(decision: str, data: Snapshot = NOW) -> Release:
    return release(2, decision=Action.named(decision), snapshot=data)


def test_an_action_is_approved_for_the_very_data_of_its_plan() -> None:
    given = [leave("RETRAIN"), given_for(pages(2))]
    assert approved_actions(given, NOW.id) == (Action.RETRAIN,)
    assert approved_actions(given, OTHER.id) == ()


def test_who_says_yes_to_both_halves_says_yes_to_each() -> None:
    assert approved_actions([leave("REBUILD+RETRAIN")], NOW.id) == (
        Action.REBUILD,
        Action.RETRAIN,
        Action.REBUILD.with_retrain(),
    )
    assert approved_actions([leave("REBUILD"), leave("RETRAIN")], NOW.id) == (Action.REBUILD, Action.RETRAIN)


@pytest.mark.parametrize(
    ("action", "came", "waits"),
    [
        ("RETRAIN", None, True),
        ("RETRAIN", made("REFRESH"), True),
        ("RETRAIN", made("RETRAIN"), False),
        ("REFRESH", made("REFRESH"), False),
        ("REFRESH", made("REFRESH+RETRAIN"), False),
        ("REFRESH+RETRAIN", made("REFRESH"), True),
        ("REFRESH+RETRAIN", made("RETRAIN"), False),
        ("REFRESH+RETRAIN", made("REFRESH+RETRAIN"), False),
        ("REBUILD+RETRAIN", made("REBUILD"), True),
        ("RETRAIN", made("REFRESH", OTHER), False),
        ("RETRAIN", made("RETRAIN", OTHER), False),
    ],
    ids=lambda one: (
        f"{one.decision} of {'other' if one.snapshot == OTHER else 'this'} data"
        if isinstance(one, Release)
        else str(one)
    ),
)
def test_an_action_waits_until_it_is_carried_out_or_its_data_has_gone(
    action: str, came: Release | None, waits: bool, space: Workspace
) -> None:
    leave(action).write(space.approvals / f"{PLAN}.json")
    consume_approvals(space, {}, came)
    assert bool(read_approvals(space)) is waits


def test_an_approval_of_removals_and_an_action_waits_for_the_last_of_them(space: Workspace) -> None:
    leave("RETRAIN", gone="d1").write(space.approvals / f"{PLAN}.json")
    consume_approvals(space, {"gone.md": "d1"}, made("RETRAIN"))
    assert read_approvals(space)
    consume_approvals(space, {}, made("REFRESH"))
    assert read_approvals(space)
    consume_approvals(space, {}, made("RETRAIN"))
    assert read_approvals(space) == []


# --- a person's no -------------------------------------------------------------------------------------------------

COSTLY = PolicyParams(approve_above_seconds=0)


def kept(space: Workspace, params: PolicyParams, **signals: Any) -> tuple[str, Plan]:
    """A plan for that evidence, kept under its digest as every turn keeps it."""
    found = evidence(**({"approved": ()} | signals))
    plan = Plan(evidence=found, decision=decide(found, params), params="p1")
    plan.write(space.plan_file(plan.content_digest()))
    return plan.content_digest(), plan


def test_a_no_to_an_action_stands_for_this_data_under_these_params(space: Workspace) -> None:
    digest, plan = kept(space, COSTLY)
    assert plan.decision.proposed == Action.REFRESH
    record_rejection(space, digest, plan, "not before the fair")
    said = read_rejections(space)
    assert rejected_actions(said, "s1", "p1") == {Action.REFRESH: "a person declined it: not before the fair"}
    assert rejected_actions(said, "s2", "p1") == {}
    assert rejected_actions(said, "s1", "p2") == {}


def test_a_no_to_removals_stands_for_these_removals_and_no_more(space: Workspace) -> None:
    digest, plan = kept(space, PolicyParams(), pending_deletions=pages(2), delta=UNMOVED, refresh_gain=measure(0.0))
    assert (plan.decision.action, plan.needs_approval) == (Action.HOLD, True)
    assert record_rejection(space, digest, plan, "a mistake").actions == ()
    assert rejected_deletions_reason(read_rejections(space), pages(2)) == "a mistake"
    assert rejected_deletions_reason(read_rejections(space), pages(1)) == "a mistake"
    assert rejected_deletions_reason(read_rejections(space), pages(3)) is None
    assert rejected_deletions_reason(read_rejections(space), {"0.md": "another digest"}) is None
    assert rejected_deletions_reason(read_rejections(space), {}) is None


def test_a_no_to_both_halves_is_one_to_the_half_that_does_not_go_ahead(space: Workspace) -> None:
    digest, plan = kept(space, PolicyParams(approve_above_seconds=60), model_gap=measure(0.3))
    assert (plan.decision.action, plan.decision.proposed) == (Action.REFRESH, Action.REFRESH.with_retrain())
    assert record_rejection(space, digest, plan, "too dear").actions == (Action.RETRAIN, Action.REFRESH.with_retrain())


def test_the_last_word_about_the_same_thing_counts(space: Workspace) -> None:
    first, plan = kept(space, COSTLY)
    again, later = kept(space, COSTLY, spent_hours=1.0)
    assert (first != again, plan.approval_digest()) == (True, later.approval_digest())
    assert not is_answered(space, plan)
    record_approval(space, first, plan, "yes")
    assert is_answered(space, later)
    record_rejection(space, again, later, "no")
    assert (read_approvals(space), [one.why for one in read_rejections(space)]) == ([], ["no"])
    record_approval(space, first, plan, "yes after all")
    assert ([one.why for one in read_approvals(space)], read_rejections(space)) == (["yes after all"], [])


def test_a_yes_to_more_removals_takes_back_the_no_to_some_of_them(space: Workspace) -> None:
    still: dict[str, Any] = {"delta": UNMOVED, "refresh_gain": measure(0.0)}
    few, plan = kept(space, PolicyParams(), pending_deletions=pages(1), **still)
    record_rejection(space, few, plan, "a mistake")
    more, other = kept(space, PolicyParams(), pending_deletions=pages(2), **still)
    assert not is_answered(space, other)
    record_approval(space, more, other, "all of them")
    assert read_rejections(space) == []
    assert is_answered(space, plan)


def test_there_is_nothing_to_reject_where_nothing_is_held_back(space: Workspace) -> None:
    digest, plan = kept(space, PolicyParams())
    with pytest.raises(UserError, match=f"plan {digest} holds nothing back: there is nothing to reject"):
        record_rejection(space, digest, plan, "no")
    assert read_rejections(space) == []


def test_in_suggest_mode_a_yes_to_removals_is_one_to_the_action_that_makes_them(tmp_path: Path) -> None:
    params = {"mode": "suggest"}
    careful = workspace(tmp_path, policy=params)
    still = {"pending_deletions": pages(2), "delta": UNMOVED, "refresh_gain": measure(0.0)}
    digest, plan = kept(careful, PolicyParams.model_validate(params), **still)
    given = record_approval(careful, digest, plan, "yes")
    assert (given.removals, given.action) == (pages(2), Action.REFRESH)
