"""Tests of plans: made without changes, stored by digest, void once data or params changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from mlflow.tracking import MlflowClient

from ragtide.pipelines.build import build_index, open_built_index
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.evaluator import SystemUnderTest
from ragtide.pipelines.history.approvals import record_approval
from ragtide.pipelines.history.history import past_decisions, rejected_before, spent_hours
from ragtide.pipelines.index import fingerprint
from ragtide.pipelines.models.load import LoadedEmbedder, Models
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.planning.plan import load_current_plan, make_plan, read_plan, save_plan
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import ChangeSet, Snapshot
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evaluation import Verdict
from ragtide.pipelines.records.reason import ReasonCode
from ragtide.pipelines.records.release import BuiltModel, Candidate, Cycle, Release
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release.publish import publish_candidate
from ragtide.pipelines.reports.wording import HEADLINE, headline
from ragtide.pipelines.workspace import Workspace
from tests import fakes
from tests.factories import (
    UNCHANGED,
    UNMOVED,
    codes,
    evidence,
    measure,
    option_of,
    release,
    snapshot,
    values_of,
    workspace,
    write,
)
from tests.fakes import SKILLS, CountingEmbedder, CountingReader, CountingTrainer

SNAPSHOT = snapshot()
MODELS = Models(CountingEmbedder(), CountingReader(), CountingTrainer())
QUESTION: dict[str, Any] = {
    "question": "When does Pump 1 reach end of life?",
    "answers": ["2027-01-01"],
    "docs": ["pump.md"],
}


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    fakes.forget()


@dataclass(frozen=True)
class FakeRegistry:
    """A registry with a live release and a history of cycles."""

    live: Release | None
    cycles: tuple[Cycle, ...] = ()

    def champion(self) -> Release | None:
        return self.live

    def history(self) -> list[Cycle]:
        return list(self.cycles)


def project(root: Path, live: Release | None = None, **blocks: dict[str, Any]) -> Project:
    return Project(workspace(root, **blocks), MODELS, cast("Registry", FakeRegistry(live)), no_progress)


def with_history(opened: Project, *cycles: Cycle) -> Project:
    """The same project with this history."""
    return replace(opened, registry=cast("Registry", FakeRegistry(opened.registry.champion(), cycles)))


def plan_for(opened: Project, **signals: Any) -> Plan:
    """A plan for SNAPSHOT with_settings the live release and the params of this project."""
    live = opened.registry.champion()
    known: dict[str, Any] = {"snapshot": SNAPSHOT.id, "live_release": live.id if live else None}
    known["past"] = past_decisions(opened.registry.history())
    gathered = evidence(**(known | signals))
    params = opened.workspace.params
    return Plan(evidence=gathered, decision=make_decision(gathered, params.policy), params=params.digest())


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- reasons -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [None, "packaged:other"])
def test_a_retrain_has_another_base_model_in_the_params_as_a_reason(base: str | None, tmp_path: Path) -> None:
    plan = plan_for(project(tmp_path, release(3)), model_gap=measure(0.9), new_base_model=base)
    assert plan.decision.action.retrains
    assert (ReasonCode.NEW_BASE_MODEL in codes(option_of(plan.decision, Action.RETRAIN).reasons)) is bool(base)


# --- saved plans ---------------------------------------------------------------------------------------------------


def test_a_plan_is_saved_under_its_digest_and_read_unchanged(tmp_path: Path) -> None:
    opened = project(tmp_path, release(3))
    plan = plan_for(opened)
    digest = save_plan(opened, plan)
    assert load_current_plan(opened, digest, SNAPSHOT) == plan
    assert save_plan(opened, plan) == digest
    assert [path.name for path in (tmp_path / ".ragtide/plans").iterdir()] == [f"{digest}.json"]


def test_another_decision_has_another_digest(tmp_path: Path) -> None:
    opened = project(tmp_path)
    digests = {save_plan(opened, plan_for(opened, **signals)) for signals in ({}, {"examples": 7}, {"examples": 8}, {})}
    assert len(digests) == 3


@pytest.mark.parametrize("digest", ["0123456789ab", "REFRESH", ""])
def test_an_unknown_digest_is_an_error_that_names_the_folder_and_the_command(digest: str, tmp_path: Path) -> None:
    opened = project(tmp_path)
    save_plan(opened, plan_for(opened))
    with pytest.raises(UserError) as error:
        load_current_plan(opened, digest, SNAPSHOT)
    where = f"there is no plan {digest} in {tmp_path / '.ragtide' / 'plans'}"
    assert str(error.value) == f"{where}: `ragtide plan` makes one and prints its digest"


def changed_data(root: Path) -> tuple[Project, Snapshot]:
    return project(root, release(3)), snapshot({"late.md": "0" * 32})


def changed_release(root: Path) -> tuple[Project, Snapshot]:
    return project(root, release(4)), SNAPSHOT


def rolled_back_to_none(root: Path) -> tuple[Project, Snapshot]:
    return project(root, None), SNAPSHOT


def changed_params(root: Path) -> tuple[Project, Snapshot]:
    return project(root, release(3), policy={"points_per_hour": 51}), SNAPSHOT


def changed_all(root: Path) -> tuple[Project, Snapshot]:
    return project(root, release(4), gate={"max_score_loss": 0.3}), snapshot({"late.md": "0" * 32})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (changed_data, "the data"),
        (changed_release, "the live release"),
        (rolled_back_to_none, "the live release"),
        (changed_params, "params.yaml"),
        (changed_all, "the data and the live release and params.yaml"),
    ],
)
def test_a_plan_is_void_after_a_change_of_data_params_or_live_release(change: Any, what: str, tmp_path: Path) -> None:
    before = project(tmp_path, release(3))
    digest = save_plan(before, plan_for(before))
    now, data = change(tmp_path)
    with pytest.raises(UserError) as error:
        load_current_plan(now, digest, data)
    assert str(error.value) == f"{what} changed since plan {digest}: make a new one with `ragtide plan`"
    assert load_current_plan(before, digest, SNAPSHOT).params == before.workspace.params.digest()


def test_a_plan_made_before_the_first_release_is_void_after_it(tmp_path: Path) -> None:
    before = project(tmp_path)
    digest = save_plan(before, plan_for(before))
    assert load_current_plan(before, digest, SNAPSHOT).evidence.data.live_release is None
    with pytest.raises(UserError, match="the live release changed since"):
        load_current_plan(project(tmp_path, release(1)), digest, SNAPSHOT)


@pytest.mark.parametrize("decision", ["REFRESH", "HOLD", "NOTHING"])
def test_a_plan_is_void_after_another_cycle_decided(decision: str, tmp_path: Path) -> None:
    before = with_history(project(tmp_path, release(3)), cycle(name="cycle-0003", score_after=0.9))
    digest = save_plan(before, plan_for(before))
    assert load_current_plan(before, digest, SNAPSHOT).evidence.limits.past
    later = cycle(action=decision, score_after=0.9 if decision == "REFRESH" else None)
    now = with_history(before, *before.registry.history(), later)
    with pytest.raises(UserError) as error:
        load_current_plan(now, digest, SNAPSHOT)
    what = "what was decided and done changed since plan"
    assert str(error.value) == f"{what} {digest}: make a new one with `ragtide plan`"


@pytest.mark.parametrize("outcome", ["running", "killed", "failed"])
def test_a_plan_stays_valid_after_a_cycle_that_did_not_finish(outcome: str, tmp_path: Path) -> None:
    before = project(tmp_path, release(3))
    plan = plan_for(before)
    unfinished = cycle(outcome=outcome, release=None, score_after=0.9)
    assert load_current_plan(with_history(before, unfinished), save_plan(before, plan), SNAPSHOT) == plan


def test_the_digest_of_a_plan_does_not_depend_on_measuring_times(tmp_path: Path) -> None:
    opened = project(tmp_path)
    slow, quick = (plan_for(opened, signal_seconds={"novelty": seconds}) for seconds in (9.5, 0.1))
    assert slow != quick
    digest = save_plan(opened, slow)
    assert save_plan(opened, quick) == digest
    assert read_plan(opened, digest) == quick


def test_a_truncated_plan_file_is_named(tmp_path: Path) -> None:
    opened = project(tmp_path)
    digest = save_plan(opened, plan_for(opened))
    write(opened.workspace.plan_file(digest), '{"evidence": ')
    with pytest.raises(UserError, match=rf"{digest}\.json cannot be read as a Plan"):
        load_current_plan(opened, digest, SNAPSHOT)


# --- actions rejected before ---------------------------------------------------------------------------------------


def cycle(**fields: Any) -> Cycle:
    """A cycle on snapshot s1 with_settings params p1."""
    usual = {"name": "cycle-0004", "run": "r", "at": "2030", "action": "REFRESH", "outcome": "released"}
    return Cycle(**(usual | {"reason": "", "snapshot": "s1", "params": "p1", "release": "2"} | fields))


def undone(release_id: str, why: str = "wrong answers") -> Cycle:
    return cycle(
        name="rollback",
        action=None,
        outcome="rolled_back",
        reason=why,
        snapshot="",
        params="",
        release="1",
        undone=release_id,
    )


REJECTED_CYCLE = cycle(outcome="rejected", release=None)


@pytest.mark.parametrize("decision", ["REFRESH", "RETRAIN", "REFRESH+RETRAIN"])
def test_an_action_rejected_for_this_data_is_not_tried_again(decision: str) -> None:
    rejected = rejected_before([cycle(action=decision, outcome="rejected", release=None)], "s1", "p1")
    assert [str(action) for action in rejected] == [decision]
    assert "cycle-0004" in rejected[Action.named(decision)]


@pytest.mark.parametrize(
    ("decision", "actions"),
    [
        ("REFRESH", {"REFRESH"}),
        ("RETRAIN", {"RETRAIN"}),
        ("REFRESH+RETRAIN", {"REFRESH", "RETRAIN", "REFRESH+RETRAIN"}),
    ],
)
def test_an_action_that_was_rolled_back_is_not_repeated_in_whole_or_in_part(decision: str, actions: set[str]) -> None:
    rejected = rejected_before([cycle(action=decision), undone("2")], "s1", "p1")
    assert set(map(str, rejected)) == actions
    assert set(rejected.values()) == {"release 2, made from this data, was rolled back (wrong answers)"}


def test_rolling_forward_again_allows_the_action_again() -> None:
    forward = undone("1").model_copy(update={"release": "2"})
    assert rejected_before([cycle(), undone("2"), forward], "s1", "p1") == {}
    assert rejected_before([cycle(), undone("2"), forward, undone("2")], "s1", "p1")


@pytest.mark.parametrize(("data", "params"), [("s2", "p1"), ("s1", "p2"), ("s2", "p2")])
def test_a_rejection_does_not_apply_to_other_data_or_params(data: str, params: str) -> None:
    assert rejected_before([REJECTED_CYCLE, cycle(), undone("2")], data, params) == {}


@pytest.mark.parametrize(
    "history",
    [
        [],
        [cycle()],
        [cycle(action="NOTHING", outcome="nothing", release=None)],
        [cycle(outcome="failed", release=None)],
        [cycle(outcome="running", release=None)],
        [undone("2")],
    ],
)
def test_successful_and_unfinished_cycles_reject_nothing(history: list[Cycle]) -> None:
    assert rejected_before(history, "s1", "p1") == {}


# --- headlines -----------------------------------------------------------------------------------------------------


def headline_for(limit: float | None = None, **signals: Any) -> str:
    gathered = evidence(**signals)
    decision = make_decision(gathered, PolicyParams(approve_above_seconds=limit))
    return headline(Plan(evidence=gathered, decision=decision, params="p1"))


def test_the_headline_of_unchanged_data_says_so() -> None:
    assert headline_for(changes=UNCHANGED, delta=UNMOVED) == "nothing has changed since the live release"


def test_the_headline_is_one_line_of_a_hundred_characters() -> None:
    long = "release 2, made from this data, was rolled back (" + "it gave wrong answers; " * 9 + ")"
    for line in (
        headline_for(),
        headline_for(limit=29),
        headline_for(rejected_actions={"REFRESH": long}),
        headline_for(live_release=None),
    ):
        assert len(line) <= HEADLINE
        assert "\n" not in line


def test_the_headline_names_only_actions_that_are_worth_their_cost() -> None:
    assert "10 points" in headline_for()
    assert "model" not in headline_for()


def test_the_headline_of_a_rebuild_that_was_rejected_on_unchanged_data_says_why() -> None:
    rebuild_needed = UNMOVED.model_copy(update={"rebuild": "the index was built with another embedder"})
    line = headline_for(
        changes=UNCHANGED, delta=rebuild_needed, rejected_actions={"REBUILD": "release 2 was rolled back (a test)"}
    )
    assert "release 2 was rolled back (a test)" in line


def test_the_headline_of_a_joint_action_names_both_components() -> None:
    refresh, retrain = headline_for(model_gap=measure(0.6), score_gold=measure(0.35)).split("; ")
    assert ("index" in refresh, "10 points" in refresh) == (True, True)
    assert ("model" in retrain, "60 points" in retrain) == (True, True)


def test_the_headline_of_a_pending_action_names_it_and_says_why() -> None:
    assert headline_for(limit=29).startswith("REFRESH is pending approval: ")
    assert "pending" not in headline_for(limit=30)


def test_the_headline_of_pending_deletions_alone_counts_them() -> None:
    line = headline_for(changes=UNCHANGED, delta=UNMOVED, pending_deletions={"a.md": "1", "b.md": "2"})
    assert line.startswith("2 deletions pending approval")


def test_the_headline_of_a_change_that_is_not_worth_it_says_so() -> None:
    line = headline_for(delta=UNMOVED, changes=ChangeSet(before="s0", after="s1", examples_changed=True))
    assert line.startswith("no action is worth its cost: ")


def test_the_headline_says_until_when_facts_wait_and_nothing_of_them_without_a_time() -> None:
    waiting = {"refresh_gain": measure(0.0), "changed_sentence_share": measure(0.0), "substantive_sentences": 3}
    line = headline_for(**waiting, facts_due_by="2031-05-05T06:30:59+00:00")
    assert ("3 " in line, "2031-05-05 06:30 UTC" in line, "worth" in line) == (True, True, False)
    assert headline_for(**waiting).startswith("no action is worth its cost")


def test_the_headline_counts_pending_deletions_besides_changes_that_are_not_worth_it() -> None:
    unworthy = {"refresh_gain": measure(0.0), "changed_sentence_share": measure(0.0)}
    line = headline_for(**unworthy, pending_deletions={"a.md": "1"})
    assert line.startswith("1 deletion pending approval")


def test_a_rejected_action_is_in_the_headline() -> None:
    assert "the gate rejected it" in headline_for(rejected_actions={"REFRESH": "the gate rejected it"})


# --- plans of a real project ---------------------------------------------------------------------------------------


def page(end_of_life: str) -> str:
    return f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n"


def fill(space: Workspace, end_of_life: str, answer: str = "") -> Snapshot:
    write(space.kb / "pump.md", page(end_of_life))
    write(space.golden / "q.jsonl", json.dumps(QUESTION | {"answers": [answer or end_of_life]}) + "\n")
    return take_snapshot(space)


def released(opened: Project, data: Snapshot) -> Release:
    """Release the current data, with an adapter that answers from the context."""
    space = opened.workspace
    write(space.adapters / "a1" / SKILLS, '{"reads": true}')
    model = BuiltModel(base="reader-1", adapter="a1", examples=data.train_id, settings="s")
    corpus = opened.corpus(data)
    index = build_index(space, LoadedEmbedder(opened.models.embedder), corpus.knowledge, no_progress)
    card = opened.evaluator(corpus.knowledge).scorecard(SystemUnderTest(opened.index.retriever(index.version), model))
    verdict = Verdict(accepted=True, checks=(), before=card, after=card, difference=measure(0.0))
    live = opened.registry.live_release_id()
    candidate = Candidate(snapshot=data, index=index, model=model, decision=Action.REFRESH, previous=live)
    with opened.registry.cycle() as log:
        return publish_candidate(opened, log, candidate, verdict)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a live release, to be copied; real MLflow and LanceDB."""
    root = tmp_path_factory.mktemp("plan") / "project"
    space = workspace(root)
    space.state.mkdir()
    MlflowClient(tracking_uri=space.tracking_uri).search_experiments()
    released(Project(space, MODELS, Registry(space), no_progress), fill(space, "2027-01-01"))
    return root


@pytest.fixture
def opened(template: Path, tmp_path: Path) -> Project:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    space = workspace(root)
    fakes.forget()
    return Project(space, MODELS, Registry(space), no_progress)


def planned(opened: Project, data: Snapshot) -> Plan:
    return make_plan(opened, opened.corpus(data))


def test_making_and_saving_a_plan_writes_only_plans_and_answers(opened: Project) -> None:
    data = fill(opened.workspace, "2031-05-05")
    before = files(opened.workspace.root)
    plan = planned(opened, data)
    save_plan(opened, plan)
    after = files(opened.workspace.root)
    changed = {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
    assert changed
    assert {name for name in changed if not name.startswith((".ragtide/plans/", ".ragtide/answers/"))} == set()
    # Embedded are the question, the new passage (for novelty) and the changed fact without its value (a fact check).
    passage = "Pump > Pump 1\n- End of life: 2031-05-05"
    assert set(CountingEmbedder.embedded) == {QUESTION["question"], passage, "Pump > Pump 1\nEnd of life: …"}
    assert not CountingTrainer.lessons


def test_a_plan_compares_the_data_with_the_live_release(opened: Project) -> None:
    live = opened.registry.champion()
    assert live is not None
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    assert plan.evidence.data.live_release == live.id
    assert plan.evidence.data.changes.edited == ("pump.md",)
    assert (plan.evidence.scores.index_gap.value, plan.decision.action) == (1.0, Action.REFRESH)
    assert plan.params == opened.workspace.params.digest()


def test_a_second_plan_of_the_same_state_is_equal_and_calls_no_model(opened: Project) -> None:
    data = fill(opened.workspace, "2031-05-05")
    first = planned(opened, data)
    prompts_before = len(CountingReader.prompts)
    assert planned(opened, data).content_digest() == first.content_digest()
    assert len(CountingReader.prompts) == prompts_before
    assert load_current_plan(opened, save_plan(opened, first), data) == first


def test_the_data_of_the_live_release_calls_for_nothing(opened: Project) -> None:
    plan = planned(opened, fill(opened.workspace, "2027-01-01"))
    assert plan.decision.action == Action.NOTHING
    assert headline(plan) == "nothing has changed since the live release"


def test_stale_questions_are_named_in_the_evidence(opened: Project) -> None:
    write(opened.workspace.golden / "late.jsonl", json.dumps(QUESTION | {"id": "late", "answers": ["2044"]}) + "\n")
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    assert plan.evidence.scores.stale_questions == ("late",)
    assert plan.evidence.scores.score_gold.n == 1


# --- pending deletions and quarantined documents -------------------------------------------------------------------


def release_with_pages(opened: Project, count: int) -> Release:
    """A release of the pump and of `count` more pages, so that the deletion guard can apply."""
    for number in range(count):
        write(opened.workspace.kb / f"page{number:02}.md", f"# Page {number}\n\nThis is page {number}.\n")
    return released(opened, take_snapshot(opened.workspace))


def pages(opened: Project) -> list[Path]:
    return sorted(opened.workspace.kb.glob("page*.md"))


def delete_pages(opened: Project, count: int) -> None:
    for path in pages(opened)[:count]:
        path.unlink()


def plan_now(opened: Project) -> Plan:
    return planned(opened, take_snapshot(opened.workspace))


@pytest.mark.parametrize(("deleted", "pending"), [(10, False), (11, True), (12, True)])
def test_deletions_over_the_limit_are_pending_and_their_rows_stay(deleted: int, pending: bool, opened: Project) -> None:
    release_with_pages(opened, 12)
    delete_pages(opened, deleted)
    plan = plan_now(opened)
    assert len(plan.evidence.data.pending_deletions) == (deleted if pending else 0)
    assert plan.evidence.data.delta.documents_deleted == (0 if pending else deleted)
    assert plan.decision.action == (Action.HOLD if pending else Action.REFRESH)
    if pending:
        assert plan.decision.proposed == Action.REFRESH
        assert headline(plan).startswith(f"{deleted} deletions pending approval")
        assert values_of(plan.decision.reasons, ReasonCode.DELETIONS_PENDING) == {"documents": deleted}


def test_additions_and_edits_are_carried_out_while_deletions_are_pending(opened: Project) -> None:
    release_with_pages(opened, 12)
    delete_pages(opened, 12)
    write(opened.workspace.kb / "late.md", "# Late\n\nCame later.\n")
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    assert (len(plan.evidence.data.pending_deletions), plan.decision.action) == (12, Action.REFRESH)
    assert (plan.evidence.data.delta.new, plan.evidence.data.delta.documents_deleted) == (2, 0)


def test_restored_documents_are_no_longer_pending(opened: Project) -> None:
    release_with_pages(opened, 12)
    content = {path: path.read_text(encoding="utf-8") for path in pages(opened)}
    delete_pages(opened, 12)
    assert len(plan_now(opened).evidence.data.pending_deletions) == 12
    for path, text in list(content.items())[:2]:
        write(path, text)
    assert plan_now(opened).evidence.data.pending_deletions == {}


def test_a_renamed_folder_is_no_deletion(opened: Project) -> None:
    release_with_pages(opened, 12)
    for path in pages(opened):
        write(opened.workspace.kb / "moved" / path.name, path.read_text(encoding="utf-8"))
        path.unlink()
    plan = plan_now(opened)
    assert (plan.evidence.data.pending_deletions, plan.decision.action) == ({}, Action.NOTHING)
    assert (plan.evidence.data.delta.to_embed, plan.evidence.data.delta.documents_renamed) == (0, 12)
    eager = opened.workspace.params.policy.model_copy(update={"refresh_on_rename": True})
    assert make_decision(plan.evidence, eager).action == Action.REFRESH


def test_documents_renamed_to_an_unsupported_suffix_count_as_deleted(opened: Project) -> None:
    release_with_pages(opened, 12)
    for path in pages(opened):
        path.rename(path.with_suffix(".md.bak"))
    assert len(plan_now(opened).evidence.data.pending_deletions) == 12


def test_an_approval_covers_the_plans_documents_and_no_others(opened: Project) -> None:
    release_with_pages(opened, 24)
    delete_pages(opened, 12)
    plan = plan_now(opened)
    record_approval(opened.workspace, save_plan(opened, plan), plan, "discontinued")
    approved = plan_now(opened)
    assert (approved.evidence.data.pending_deletions, approved.evidence.data.delta.documents_deleted) == ({}, 12)
    delete_pages(opened, 12)
    more = plan_now(opened)
    assert len(more.evidence.data.pending_deletions) == 12
    assert not more.evidence.data.pending_deletions.keys() & plan.evidence.data.pending_deletions.keys()
    assert more.evidence.data.delta.documents_deleted == 12


def test_a_plan_is_void_once_its_pending_deletions_were_approved(opened: Project) -> None:
    release_with_pages(opened, 12)
    delete_pages(opened, 12)
    plan, data = plan_now(opened), take_snapshot(opened.workspace)
    digest = save_plan(opened, plan)
    assert load_current_plan(opened, digest, data, plan.evidence.data.pending_deletions) == plan
    with pytest.raises(UserError, match="what is approved changed since plan"):
        load_current_plan(opened, digest, data, {})
    assert read_plan(opened, digest) == plan


def test_an_action_above_the_cost_limit_is_pending_until_approved_for_the_same_data(opened: Project) -> None:
    careful = with_settings(opened, policy={"approve_above_seconds": 0})
    released(careful, take_snapshot(careful.workspace))
    data = fill(careful.workspace, "2031-05-05")
    pending = planned(careful, data)
    assert (pending.decision.action, pending.decision.proposed) == (Action.HOLD, Action.REFRESH)
    record_approval(careful.workspace, save_plan(careful, pending), pending, "by hand")
    assert (approved := planned(careful, data)).decision.action == Action.REFRESH
    assert (approved.evidence.limits.approved_actions, approved.decision.proposed) == ((Action.REFRESH,), None)
    other = planned(careful, fill(careful.workspace, "2033-03-03"))
    assert (other.evidence.limits.approved_actions, other.decision.action) == ((), Action.HOLD)


def test_a_plan_has_the_past_decisions_and_the_hours_spent_this_week(opened: Project) -> None:
    data = fill(opened.workspace, "2031-05-05")
    first = planned(opened, data)
    assert (first.evidence.limits.past, first.evidence.limits.hours_since_retrain) == ((), None)
    digest = save_plan(opened, first)
    with opened.registry.cycle() as log:
        log.tags({"decision": "RETRAIN", "outcome": "released", "release": "2"})
        log.metrics({"expected_points": 20, "score_before": 0.5, "score_after": 0.6})
    with pytest.raises(UserError, match=f"^what was decided and done changed since plan {digest}"):
        load_current_plan(opened, digest, data)
    second = planned(opened, data)
    [past] = second.evidence.limits.past
    assert (past.action, past.expected_points, past.recovered_points) == (Action.RETRAIN, 20, 10)
    assert second.evidence.limits.hours_since_retrain == 0
    assert second.evidence.limits.spent_hours == spent_hours(opened.registry.history(), datetime.now(UTC))
    assert second.content_digest() != digest


def test_a_running_cycle_does_not_change_the_plan(opened: Project) -> None:
    data = fill(opened.workspace, "2031-05-05")
    before = planned(opened, data)
    runs, an_hour_ago = MlflowClient(tracking_uri=opened.workspace.tracking_uri), datetime.now(UTC) - timedelta(hours=1)
    [experiment] = runs.search_experiments(filter_string="name = 'ragtide'")
    began = int(an_hour_ago.timestamp() * 1000)
    running = runs.create_run(experiment.experiment_id, start_time=began, tags={"ragtide.kind": "cycle"})
    assert running.info.run_id in {cycle.run for cycle in opened.registry.running_cycles()}
    assert planned(opened, data).content_digest() == before.content_digest()


def test_a_plan_that_was_changed_by_hand_is_an_error(opened: Project) -> None:
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    digest = save_plan(opened, plan)
    file = opened.workspace.plan_file(digest)
    file.write_text(file.read_text(encoding="utf-8").replace('"examples": 0', '"examples": 9'), encoding="utf-8")
    with pytest.raises(UserError, match=rf"was changed by hand and is no longer plan {digest}: make a new one"):
        read_plan(opened, digest)


def test_an_unreadable_document_is_in_the_plan_and_the_others_are_refreshed(opened: Project) -> None:
    write(opened.workspace.kb / "bad.md", b"caf\xe9 \xff\x00")
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    assert list(plan.evidence.data.quarantined) == ["bad.md"]
    assert plan.decision.action == Action.REFRESH
    assert values_of(plan.decision.reasons, ReasonCode.QUARANTINED) == {"documents": 1}
    assert not opened.workspace.quarantine_file.exists()


def test_a_page_that_becomes_unreadable_keeps_its_rows(opened: Project) -> None:
    write(opened.workspace.kb / "pump.md", b"caf\xe9 \xff\x00")
    write(opened.workspace.kb / "late.md", "# Late\n\nCame later.\n")
    plan = plan_now(opened)
    assert (plan.evidence.data.pending_deletions, plan.evidence.scores.stale_questions) == ({}, ())
    assert (
        plan.evidence.data.delta.new,
        plan.evidence.data.delta.removed,
        plan.evidence.data.delta.documents_deleted,
    ) == (1, 0, 0)


def test_the_digest_of_a_plan_does_not_depend_on_the_time(opened: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from ragtide.pipelines.data import documents

    class Clock:
        hour = 1

        @classmethod
        def now(cls, _zone: object) -> datetime:
            return datetime(2030, 1, 1, cls.hour, tzinfo=UTC)

    monkeypatch.setattr(documents, "datetime", Clock)
    write(opened.workspace.kb / "bad.md", b"caf\xe9 \xff\x00")
    first = plan_now(opened).content_digest()
    Clock.hour = 2
    assert plan_now(opened).content_digest() == first


# --- other settings ------------------------------------------------------------------------------------------------


def with_settings(opened: Project, **blocks: dict[str, Any]) -> Project:
    """The project with other settings, which name the embedder as those of a real project do."""
    embed = {"model": "tests.fakes:CountingEmbedder"} | blocks.get("embed", {})
    return replace(opened, workspace=workspace(opened.workspace.root, **(blocks | {"embed": embed})))


@pytest.mark.parametrize(
    ("blocks", "to_embed"),
    [
        ({"embed": {"document_prefix": "passage: "}}, 1),
        ({"embed": {"query_prefix": "query: "}}, 1),
        ({"chunk": {"max_words": 40}}, 0),
    ],
    ids=["prefix", "query prefix", "chunker"],
)
def test_other_index_settings_call_for_a_rebuild_with_its_cost(
    blocks: dict[str, Any], to_embed: int, opened: Project
) -> None:
    before, live = with_settings(opened), released(with_settings(opened), take_snapshot(opened.workspace))
    now = with_settings(opened, **blocks)
    rows = files(opened.workspace.root / ".ragtide/lance")
    plan = plan_now(now)
    assert plan.decision.action == Action.REBUILD
    assert plan.evidence.data.delta.rebuild is not None
    assert plan.evidence.data.delta.to_embed == to_embed
    rebuild = option_of(plan.decision, Action.REBUILD).reasons
    assert values_of(rebuild, ReasonCode.REBUILT_CHUNKS) == {"chunks": 1, "to_embed": to_embed}
    # The live release is searched with the settings that it was built with, so its scores stay the same.
    assert plan.evidence.scores.score_retrieved == plan_now(before).evidence.scores.score_retrieved
    assert files(opened.workspace.root / ".ragtide/lance") == rows
    assert (
        open_built_index(now.workspace, now.models.embedder, live.index).settings
        == live.index.settings
        != now.index.settings
    )


@pytest.mark.parametrize("name", ["CONVERTER", "CHUNKER"])
def test_a_new_converter_or_chunker_calls_for_a_rebuild_and_the_live_release_answers_until_then(
    name: str, opened: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = with_settings(opened)
    released(now, take_snapshot(now.workspace))
    monkeypatch.setattr(fingerprint, name, "a later version")
    later = with_settings(opened)
    assert later.ask(QUESTION["question"])[1].text == "2027-01-01"
    plan = plan_now(later)
    assert (plan.decision.action, plan.evidence.data.delta.to_embed) == (Action.REBUILD, 0)


def test_hardware_settings_call_for_nothing(opened: Project) -> None:
    assert (
        plan_now(with_settings(opened, embed={"device": "cpu", "tokens_at_once": 512})).decision.action
        == Action.NOTHING
    )
