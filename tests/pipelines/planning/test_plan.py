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
class Shelf:
    """A registry that knows what is live, and the turns that there were."""

    live: Release | None
    turns: tuple[Cycle, ...] = ()

    def champion(self) -> Release | None:
        return self.live

    def history(self) -> list[Cycle]:
        return list(self.turns)


def project(root: Path, live: Release | None = None, **blocks: dict[str, Any]) -> Project:
    return Project(workspace(root, **blocks), MODELS, cast("Registry", Shelf(live)), no_progress)


def after(opened: Project, *turns: Cycle) -> Project:
    """The same project, once there were these turns."""
    return replace(opened, registry=cast("Registry", Shelf(opened.registry.champion(), turns)))


def plan_for(opened: Project, **signals: Any) -> Plan:
    """A plan for SNAPSHOT, under whatever is live and set in this project."""
    live = opened.registry.champion()
    known: dict[str, Any] = {"snapshot": SNAPSHOT.id, "live_release": live.id if live else None}
    known["past"] = past_decisions(opened.registry.history())
    gathered = evidence(**(known | signals))
    params = opened.workspace.params
    return Plan(evidence=gathered, decision=make_decision(gathered, params.policy), params=params.digest())


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- what it says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [None, "packaged:other"])
def test_a_plan_for_a_retrain_names_another_base_model_in_the_params_as_a_reason(
    base: str | None, tmp_path: Path
) -> None:
    plan = plan_for(project(tmp_path, release(3)), model_gap=measure(0.9), new_base_model=base)
    assert plan.decision.action.retrains
    assert (ReasonCode.NEW_BASE_MODEL in codes(option_of(plan.decision, Action.RETRAIN).reasons)) is bool(base)


# --- kept by digest ------------------------------------------------------------------------------------------------


def test_a_plan_is_kept_under_its_digest_and_comes_back_the_same(tmp_path: Path) -> None:
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
def test_an_unknown_digest_is_refused_with_where_it_would_be_and_how_to_get_one(digest: str, tmp_path: Path) -> None:
    opened = project(tmp_path)
    save_plan(opened, plan_for(opened))
    with pytest.raises(UserError) as refusal:
        load_current_plan(opened, digest, SNAPSHOT)
    where = f"there is no plan {digest} in {tmp_path / '.ragtide' / 'plans'}"
    assert str(refusal.value) == f"{where}: `ragtide plan` makes one and prints its digest"


def moved_data(root: Path) -> tuple[Project, Snapshot]:
    return project(root, release(3)), snapshot({"late.md": "0" * 32})


def moved_release(root: Path) -> tuple[Project, Snapshot]:
    return project(root, release(4)), SNAPSHOT


def rolled_back_to_none(root: Path) -> tuple[Project, Snapshot]:
    return project(root, None), SNAPSHOT


def moved_params(root: Path) -> tuple[Project, Snapshot]:
    return project(root, release(3), policy={"points_per_hour": 51}), SNAPSHOT


def moved_all(root: Path) -> tuple[Project, Snapshot]:
    return project(root, release(4), gate={"max_score_loss": 0.3}), snapshot({"late.md": "0" * 32})


@pytest.mark.parametrize(
    ("moved", "what"),
    [
        (moved_data, "the data"),
        (moved_release, "the live release"),
        (rolled_back_to_none, "the live release"),
        (moved_params, "params.yaml"),
        (moved_all, "the data and the live release and params.yaml"),
    ],
)
def test_a_plan_is_void_once_the_world_has_moved(moved: Any, what: str, tmp_path: Path) -> None:
    before = project(tmp_path, release(3))
    digest = save_plan(before, plan_for(before))
    now, data = moved(tmp_path)
    with pytest.raises(UserError) as refusal:
        load_current_plan(now, digest, data)
    assert str(refusal.value) == f"{what} changed since plan {digest}: make a new one with `ragtide plan`"
    assert load_current_plan(before, digest, SNAPSHOT).params == before.workspace.params.digest()


def test_a_plan_made_before_the_first_release_is_void_after_it(tmp_path: Path) -> None:
    before = project(tmp_path)
    digest = save_plan(before, plan_for(before))
    assert load_current_plan(before, digest, SNAPSHOT).evidence.data.live_release is None
    with pytest.raises(UserError, match="the live release changed since"):
        load_current_plan(project(tmp_path, release(1)), digest, SNAPSHOT)


@pytest.mark.parametrize("decision", ["REFRESH", "HOLD", "NOTHING"])
def test_a_plan_is_void_once_another_turn_was_decided(decision: str, tmp_path: Path) -> None:
    before = after(project(tmp_path, release(3)), turn(name="cycle-0003", score_after=0.9))
    digest = save_plan(before, plan_for(before))
    assert load_current_plan(before, digest, SNAPSHOT).evidence.limits.past
    later = turn(action=decision, score_after=0.9 if decision == "REFRESH" else None)
    now = after(before, *before.registry.history(), later)
    with pytest.raises(UserError) as refusal:
        load_current_plan(now, digest, SNAPSHOT)
    what = "what was decided and done changed since plan"
    assert str(refusal.value) == f"{what} {digest}: make a new one with `ragtide plan`"


@pytest.mark.parametrize("outcome", ["running", "killed", "failed"])
def test_a_plan_outlives_a_turn_that_did_not_come_to_its_end(outcome: str, tmp_path: Path) -> None:
    before = project(tmp_path, release(3))
    plan = plan_for(before)
    died = turn(outcome=outcome, release=None, score_after=0.9)
    assert load_current_plan(after(before, died), save_plan(before, plan), SNAPSHOT) == plan


def test_how_long_measuring_took_makes_no_other_plan(tmp_path: Path) -> None:
    opened = project(tmp_path)
    slow, quick = (plan_for(opened, signal_seconds={"novelty": seconds}) for seconds in (9.5, 0.1))
    assert slow != quick
    digest = save_plan(opened, slow)
    assert save_plan(opened, quick) == digest
    assert read_plan(opened, digest) == quick


def test_a_plan_file_that_is_half_there_is_named(tmp_path: Path) -> None:
    opened = project(tmp_path)
    digest = save_plan(opened, plan_for(opened))
    write(opened.workspace.plan_file(digest), '{"evidence": ')
    with pytest.raises(UserError, match=rf"{digest}\.json cannot be read as a Plan"):
        load_current_plan(opened, digest, SNAPSHOT)


# --- refused before ------------------------------------------------------------------------------------------------


def turn(**fields: Any) -> Cycle:
    """A turn on snapshot s1 under params p1."""
    usual = {"name": "cycle-0004", "run": "r", "at": "2030", "action": "REFRESH", "outcome": "released"}
    return Cycle(**(usual | {"reason": "", "snapshot": "s1", "params": "p1", "release": "2"} | fields))


def undone(release_id: str, why: str = "wrong answers") -> Cycle:
    return turn(
        name="rollback",
        action=None,
        outcome="rolled_back",
        reason=why,
        snapshot="",
        params="",
        release="1",
        undone=release_id,
    )


REFUSED_TURN = turn(outcome="rejected", release=None)


@pytest.mark.parametrize("decision", ["REFRESH", "RETRAIN", "REFRESH+RETRAIN"])
def test_what_the_gate_refused_for_this_data_is_not_tried_again(decision: str) -> None:
    refused = rejected_before([turn(action=decision, outcome="rejected", release=None)], "s1", "p1")
    assert [str(action) for action in refused] == [decision]
    assert "cycle-0004" in refused[Action.named(decision)]


@pytest.mark.parametrize(
    ("decision", "actions"),
    [
        ("REFRESH", {"REFRESH"}),
        ("RETRAIN", {"RETRAIN"}),
        ("REFRESH+RETRAIN", {"REFRESH", "RETRAIN", "REFRESH+RETRAIN"}),
    ],
)
def test_what_was_taken_back_is_not_brought_back_whole_or_in_parts(decision: str, actions: set[str]) -> None:
    refused = rejected_before([turn(action=decision), undone("2")], "s1", "p1")
    assert set(map(str, refused)) == actions
    assert set(refused.values()) == {"release 2, made from this data, was rolled back (wrong answers)"}


def test_going_forward_again_clears_what_going_back_had_marked() -> None:
    forward = undone("1").model_copy(update={"release": "2"})
    assert rejected_before([turn(), undone("2"), forward], "s1", "p1") == {}
    assert rejected_before([turn(), undone("2"), forward, undone("2")], "s1", "p1")


@pytest.mark.parametrize(("data", "params"), [("s2", "p1"), ("s1", "p2"), ("s2", "p2")])
def test_other_data_or_other_params_get_a_new_chance(data: str, params: str) -> None:
    assert rejected_before([REFUSED_TURN, turn(), undone("2")], data, params) == {}


@pytest.mark.parametrize(
    "history",
    [
        [],
        [turn()],
        [turn(action="NOTHING", outcome="nothing", release=None)],
        [turn(outcome="failed", release=None)],
        [turn(outcome="running", release=None)],
        [turn(), undone("3")],
        [undone("2")],
    ],
)
def test_what_went_well_or_never_ended_may_be_tried_again(history: list[Cycle]) -> None:
    assert rejected_before(history, "s1", "p1") == {}


# --- in one line ---------------------------------------------------------------------------------------------------


def said(limit: float | None = None, **signals: Any) -> str:
    gathered = evidence(**signals)
    decision = make_decision(gathered, PolicyParams(approve_above_seconds=limit))
    return headline(Plan(evidence=gathered, decision=decision, params="p1"))


def test_the_headline_of_data_that_has_not_moved_says_so() -> None:
    assert said(changes=UNCHANGED, delta=UNMOVED) == "nothing has changed since the live release"


def test_the_headline_is_one_line_of_a_hundred_characters() -> None:
    long = "release 2, made from this data, was rolled back (" + "it gave wrong answers; " * 9 + ")"
    for line in (said(), said(limit=29), said(rejected_actions={"REFRESH": long}), said(live_release=None)):
        assert len(line) <= HEADLINE
        assert "\n" not in line


def test_the_headline_names_only_what_is_worth_it() -> None:
    assert "10 points" in said()
    assert "model" not in said()


def test_the_headline_of_a_rebuild_that_was_rejected_on_unchanged_data_says_why() -> None:
    anew = UNMOVED.model_copy(update={"rebuild": "the index was built with another embedder"})
    line = said(changes=UNCHANGED, delta=anew, rejected_actions={"REBUILD": "release 2 was rolled back (a test)"})
    assert "release 2 was rolled back (a test)" in line


def test_the_headline_of_a_joint_action_names_both_components() -> None:
    refresh, retrain = said(model_gap=measure(0.6), score_gold=measure(0.35)).split("; ")
    assert ("index" in refresh, "10 points" in refresh) == (True, True)
    assert ("model" in retrain, "60 points" in retrain) == (True, True)


def test_the_headline_of_an_action_that_waits_names_it_and_says_why() -> None:
    assert said(limit=29).startswith("REFRESH is pending approval: ")
    assert "pending" not in said(limit=30)


def test_the_headline_of_deletions_that_wait_alone_counts_them() -> None:
    line = said(changes=UNCHANGED, delta=UNMOVED, pending_deletions={"a.md": "1", "b.md": "2"})
    assert line.startswith("2 deletions pending approval")


def test_the_headline_of_a_change_that_is_not_worth_it_says_so() -> None:
    line = said(delta=UNMOVED, changes=ChangeSet(before="s0", after="s1", examples_changed=True))
    assert line.startswith("no action is worth its cost: ")


def test_a_rejected_action_is_in_the_headline() -> None:
    assert "the gate rejected it" in said(rejected_actions={"REFRESH": "the gate rejected it"})


# --- made without changing anything --------------------------------------------------------------------------------


def page(end_of_life: str) -> str:
    return f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n"


def fill(space: Workspace, end_of_life: str, answer: str = "") -> Snapshot:
    write(space.kb / "pump.md", page(end_of_life))
    write(space.golden / "q.jsonl", json.dumps(QUESTION | {"answers": [answer or end_of_life]}) + "\n")
    return take_snapshot(space)


def released(opened: Project, data: Snapshot) -> Release:
    """Make a release of what is in the folders, with an adapter that can read."""
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
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a live release, to be copied; real MLflow and LanceDB."""
    root = tmp_path_factory.mktemp("plan") / "project"
    space = workspace(root)
    space.state.mkdir()
    MlflowClient(tracking_uri=space.tracking_uri).search_experiments()
    released(Project(space, MODELS, Registry(space), no_progress), fill(space, "2027-01-01"))
    return root


@pytest.fixture
def opened(told: Path, tmp_path: Path) -> Project:
    root = tmp_path / "project"
    shutil.copytree(told, root)
    space = workspace(root)
    fakes.forget()
    return Project(space, MODELS, Registry(space), no_progress)


def planned(opened: Project, data: Snapshot) -> Plan:
    return make_plan(opened, opened.corpus(data))


def test_making_and_keeping_a_plan_changes_only_plans_and_answers(opened: Project) -> None:
    data = fill(opened.workspace, "2031-05-05")
    before = files(opened.workspace.root)
    plan = planned(opened, data)
    save_plan(opened, plan)
    after = files(opened.workspace.root)
    changed = {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
    assert changed
    assert {name for name in changed if not name.startswith((".ragtide/plans/", ".ragtide/answers/"))} == set()
    # What is embedded: the question, the new passage (is it novel?), and the moved fact without its value (a probe).
    passage = "Pump > Pump 1\n- End of life: 2031-05-05"
    assert set(CountingEmbedder.embedded) == {QUESTION["question"], passage, "Pump > Pump 1\nEnd of life: …"}
    assert not CountingTrainer.lessons


def test_a_plan_weighs_the_data_against_the_live_release(opened: Project) -> None:
    live = opened.registry.champion()
    assert live is not None
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    assert plan.evidence.data.live_release == live.id
    assert plan.evidence.data.changes.edited == ("pump.md",)
    assert (plan.evidence.scores.index_gap.value, plan.decision.action) == (1.0, Action.REFRESH)
    assert plan.params == opened.workspace.params.digest()


def test_the_same_world_makes_the_same_plan_and_asks_the_model_once(opened: Project) -> None:
    data = fill(opened.workspace, "2031-05-05")
    first = planned(opened, data)
    asked = len(CountingReader.prompts)
    assert planned(opened, data).content_digest() == first.content_digest()
    assert len(CountingReader.prompts) == asked
    assert load_current_plan(opened, save_plan(opened, first), data) == first


def test_data_as_the_live_release_knows_it_calls_for_nothing(opened: Project) -> None:
    plan = planned(opened, fill(opened.workspace, "2027-01-01"))
    assert plan.decision.action == Action.NOTHING
    assert headline(plan) == "nothing has changed since the live release"


def test_stale_questions_are_named_in_the_evidence(opened: Project) -> None:
    write(opened.workspace.golden / "late.jsonl", json.dumps(QUESTION | {"id": "late", "answers": ["2044"]}) + "\n")
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    assert plan.evidence.scores.stale_questions == ("late",)
    assert plan.evidence.scores.score_gold.n == 1


# --- what waits, and what is set aside -----------------------------------------------------------------------------


def shelved(opened: Project, count: int) -> Release:
    """A release of the pump and of as many pages more, past what may vanish without being asked about."""
    for number in range(count):
        write(opened.workspace.kb / f"page{number:02}.md", f"# Page {number}\n\nThis is page {number}.\n")
    return released(opened, take_snapshot(opened.workspace))


def pages(opened: Project) -> list[Path]:
    return sorted(opened.workspace.kb.glob("page*.md"))


def remove(opened: Project, count: int) -> None:
    for path in pages(opened)[:count]:
        path.unlink()


def plan_now(opened: Project) -> Plan:
    return planned(opened, take_snapshot(opened.workspace))


@pytest.mark.parametrize(("gone", "waits"), [(10, False), (11, True), (12, True)])
def test_removals_past_the_limit_wait_and_what_the_index_holds_of_them_stays(
    gone: int, waits: bool, opened: Project
) -> None:
    shelved(opened, 12)
    remove(opened, gone)
    plan = plan_now(opened)
    assert len(plan.evidence.data.pending_deletions) == (gone if waits else 0)
    assert plan.evidence.data.delta.documents_deleted == (0 if waits else gone)
    assert plan.decision.action == (Action.HOLD if waits else Action.REFRESH)
    if waits:
        assert plan.decision.proposed == Action.REFRESH
        assert headline(plan).startswith(f"{gone} deletions pending approval")
        assert values_of(plan.decision.reasons, ReasonCode.DELETIONS_PENDING) == {"documents": gone}


def test_additions_and_edits_go_ahead_while_removals_wait(opened: Project) -> None:
    shelved(opened, 12)
    remove(opened, 12)
    write(opened.workspace.kb / "late.md", "# Late\n\nCame later.\n")
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    assert (len(plan.evidence.data.pending_deletions), plan.decision.action) == (12, Action.REFRESH)
    assert (plan.evidence.data.delta.new, plan.evidence.data.delta.documents_deleted) == (2, 0)


def test_documents_that_come_back_wait_no_longer(opened: Project) -> None:
    shelved(opened, 12)
    content = {path: path.read_text(encoding="utf-8") for path in pages(opened)}
    remove(opened, 12)
    assert len(plan_now(opened).evidence.data.pending_deletions) == 12
    for path, text in list(content.items())[:2]:
        write(path, text)
    assert plan_now(opened).evidence.data.pending_deletions == {}


def test_a_folder_that_is_renamed_is_no_removal(opened: Project) -> None:
    shelved(opened, 12)
    for path in pages(opened):
        write(opened.workspace.kb / "moved" / path.name, path.read_text(encoding="utf-8"))
        path.unlink()
    plan = plan_now(opened)
    assert (plan.evidence.data.pending_deletions, plan.decision.action) == ({}, Action.NOTHING)
    assert (plan.evidence.data.delta.to_embed, plan.evidence.data.delta.documents_renamed) == (0, 12)
    eager = opened.workspace.params.policy.model_copy(update={"refresh_on_rename": True})
    assert make_decision(plan.evidence, eager).action == Action.REFRESH


def test_documents_that_are_renamed_to_what_nobody_reads_are_removed(opened: Project) -> None:
    shelved(opened, 12)
    for path in pages(opened):
        path.rename(path.with_suffix(".md.bak"))
    assert len(plan_now(opened).evidence.data.pending_deletions) == 12


def test_an_approval_covers_the_plans_documents_and_no_others(opened: Project) -> None:
    shelved(opened, 24)
    remove(opened, 12)
    plan = plan_now(opened)
    record_approval(opened.workspace, save_plan(opened, plan), plan, "discontinued")
    approved = plan_now(opened)
    assert (approved.evidence.data.pending_deletions, approved.evidence.data.delta.documents_deleted) == ({}, 12)
    remove(opened, 12)
    more = plan_now(opened)
    assert len(more.evidence.data.pending_deletions) == 12
    assert not more.evidence.data.pending_deletions.keys() & plan.evidence.data.pending_deletions.keys()
    assert more.evidence.data.delta.documents_deleted == 12


def test_a_plan_is_void_once_what_it_holds_back_was_approved(opened: Project) -> None:
    shelved(opened, 12)
    remove(opened, 12)
    plan, data = plan_now(opened), take_snapshot(opened.workspace)
    digest = save_plan(opened, plan)
    assert load_current_plan(opened, digest, data, plan.evidence.data.pending_deletions) == plan
    with pytest.raises(UserError, match="what is approved changed since plan"):
        load_current_plan(opened, digest, data, {})
    assert read_plan(opened, digest) == plan


def test_an_action_above_the_limit_waits_until_it_is_approved_for_this_very_data(opened: Project) -> None:
    careful = under(opened, policy={"approve_above_seconds": 0})
    released(careful, take_snapshot(careful.workspace))
    data = fill(careful.workspace, "2031-05-05")
    waits = planned(careful, data)
    assert (waits.decision.action, waits.decision.proposed) == (Action.HOLD, Action.REFRESH)
    record_approval(careful.workspace, save_plan(careful, waits), waits, "by hand")
    assert (approved := planned(careful, data)).decision.action == Action.REFRESH
    assert (approved.evidence.limits.approved_actions, approved.decision.proposed) == ((Action.REFRESH,), None)
    other = planned(careful, fill(careful.workspace, "2033-03-03"))
    assert (other.evidence.limits.approved_actions, other.decision.action) == ((), Action.HOLD)


def test_a_plan_knows_what_was_decided_before_and_what_the_week_has_cost(opened: Project) -> None:
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


def test_a_turn_that_goes_on_makes_no_other_plan_of_the_same_world(opened: Project) -> None:
    data = fill(opened.workspace, "2031-05-05")
    before = planned(opened, data)
    runs, an_hour_ago = MlflowClient(tracking_uri=opened.workspace.tracking_uri), datetime.now(UTC) - timedelta(hours=1)
    [experiment] = runs.search_experiments(filter_string="name = 'ragtide'")
    began = int(an_hour_ago.timestamp() * 1000)
    goes_on = runs.create_run(experiment.experiment_id, start_time=began, tags={"ragtide.kind": "cycle"})
    assert goes_on.info.run_id in {turn.run for turn in opened.registry.running_cycles()}
    assert planned(opened, data).content_digest() == before.content_digest()


def test_a_plan_that_was_changed_by_hand_is_refused(opened: Project) -> None:
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    digest = save_plan(opened, plan)
    file = opened.workspace.plan_file(digest)
    file.write_text(file.read_text(encoding="utf-8").replace('"examples": 0', '"examples": 9'), encoding="utf-8")
    with pytest.raises(UserError, match=rf"was changed by hand and is no longer plan {digest}: make a new one"):
        read_plan(opened, digest)


def test_what_cannot_be_read_is_in_the_plan_and_the_rest_goes_ahead(opened: Project) -> None:
    write(opened.workspace.kb / "bad.md", b"caf\xe9 \xff\x00")
    plan = planned(opened, fill(opened.workspace, "2031-05-05"))
    assert list(plan.evidence.data.quarantined) == ["bad.md"]
    assert plan.decision.action == Action.REFRESH
    assert values_of(plan.decision.reasons, ReasonCode.QUARANTINED) == {"documents": 1}
    assert not opened.workspace.quarantine_file.exists()


def test_a_page_that_becomes_unreadable_stays_as_the_index_has_it(opened: Project) -> None:
    write(opened.workspace.kb / "pump.md", b"caf\xe9 \xff\x00")
    write(opened.workspace.kb / "late.md", "# Late\n\nCame later.\n")
    plan = plan_now(opened)
    assert (plan.evidence.data.pending_deletions, plan.evidence.scores.stale_questions) == ({}, ())
    assert (
        plan.evidence.data.delta.new,
        plan.evidence.data.delta.removed,
        plan.evidence.data.delta.documents_deleted,
    ) == (1, 0, 0)


def test_a_plan_of_the_same_world_has_one_digest_whenever_it_is_made(
    opened: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def under(opened: Project, **blocks: dict[str, Any]) -> Project:
    """The project under other settings; the embedder is named in them, as in a real one."""
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
def test_other_settings_call_for_a_rebuild_and_say_what_it_costs(
    blocks: dict[str, Any], to_embed: int, opened: Project
) -> None:
    before, live = under(opened), released(under(opened), take_snapshot(opened.workspace))
    now = under(opened, **blocks)
    rows = files(opened.workspace.root / ".ragtide/lance")
    plan = plan_now(now)
    assert plan.decision.action == Action.REBUILD
    assert plan.evidence.data.delta.rebuild is not None
    assert plan.evidence.data.delta.to_embed == to_embed
    rebuild = option_of(plan.decision, Action.REBUILD).reasons
    assert values_of(rebuild, ReasonCode.REBUILT_CHUNKS) == {"chunks": 1, "to_embed": to_embed}
    # Looked at through the settings that it was built under: the live release answers as before.
    assert plan.evidence.scores.score_retrieved == plan_now(before).evidence.scores.score_retrieved
    assert files(opened.workspace.root / ".ragtide/lance") == rows
    assert (
        open_built_index(now.workspace, now.models.embedder, live.index).settings
        == live.index.settings
        != now.index.settings
    )


@pytest.mark.parametrize("name", ["CONVERTER", "CHUNKER"])
def test_a_new_version_of_ragtide_that_reads_or_cuts_otherwise_calls_for_a_rebuild_and_answers_until_then(
    name: str, opened: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = under(opened)
    released(now, take_snapshot(now.workspace))
    monkeypatch.setattr(fingerprint, name, "a later version")
    later = under(opened)
    assert later.ask(QUESTION["question"])[1].text == "2027-01-01"
    plan = plan_now(later)
    assert (plan.decision.action, plan.evidence.data.delta.to_embed) == (Action.REBUILD, 0)


def test_settings_of_the_hardware_call_for_nothing(opened: Project) -> None:
    assert plan_now(under(opened, embed={"device": "cpu", "tokens_at_once": 512})).decision.action == Action.NOTHING
