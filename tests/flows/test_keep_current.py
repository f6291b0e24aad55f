"""Tests of whole cycles with real parts and fake models."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ragtide.flows import tasks
from ragtide.flows.cli.main import app
from ragtide.flows.cycle_context import CycleContext, open_cycle
from ragtide.flows.keep_current import keep_current
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.gate import check_rows, judge_candidate
from ragtide.pipelines.history.approvals import read_approvals, record_approval, record_rejection
from ragtide.pipelines.history.costs import forecast_costs
from ragtide.pipelines.history.history import past_decisions
from ragtide.pipelines.history.withheld import read_withheld
from ragtide.pipelines.params import FreshnessParams
from ragtide.pipelines.planning.plan import make_plan, read_plan
from ragtide.pipelines.planning.status import project_status
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Quarantine
from ragtide.pipelines.records.evidence import Workload
from ragtide.pipelines.records.reason import ReasonCode
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release import proof
from ragtide.pipelines.release.rollback import roll_back
from tests import fakes
from tests.factories import codes, values_of, write
from tests.flows.cycle_project import NEW, OLD, QUESTION, CycleProject, write_cycle_project


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> CycleProject:
    """A project after its first cycle: release 1 has the index, release 2 an adapter too."""
    home = write_cycle_project(tmp_path_factory.mktemp("keep") / "home")
    home.run_cycle()
    return home


@pytest.fixture
def home(first: CycleProject, tmp_path: Path) -> CycleProject:
    """A copy of the project after its first cycle."""
    return first.copy(tmp_path / "home")


def retry_immediately(monkeypatch: pytest.MonkeyPatch, name: str, retries: int) -> None:
    """Retry a step without a delay."""
    step: Any = getattr(tasks, name)
    monkeypatch.setattr(tasks, name, step.with_options(retries=retries, retry_delay_seconds=0))


def fail_first_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int) -> None:
    """Make a function raise an error in its first `times` calls."""
    original: Callable[..., Any] = getattr(owner, name)
    remaining = [None] * times

    def flaky(*arguments: Any, **options: Any) -> Any:
        if remaining:
            remaining.pop()
            raise ConnectionError("the store is unavailable")
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, flaky)


FINISHED = "FINISHED"


def test_a_cycle_is_one_run_with_a_run_for_each_step(first: CycleProject) -> None:
    [cycle] = first.history
    index, model = ["refresh-index", "prove accepted", "publish"], ["retrain-model", "prove accepted", "publish"]
    names = ["observe", "decide", *index, *model, "maintain"]
    assert first.steps(cycle) == [(name, FINISHED) for name in names]
    assert (cycle.decision, cycle.release) == ("REFRESH+RETRAIN", "2")
    run = first.run(cycle)
    assert (run.info.run_name, run.info.status) == ("cycle-0001 REFRESH+RETRAIN", FINISHED)
    assert run.data.tags["index_version"] == str(first.live.index.version)


def test_the_run_of_a_cycle_has_its_pages_datasets_and_score(first: CycleProject) -> None:
    [cycle] = first.history
    names = ("decision", "verdict-refresh", "verdict-retrain")
    pages = {f"{page}.{kind}" for page in names for kind in ("md", "html", "png")}
    index, model = first.artifacts(cycle) - pages
    assert index.startswith("release-")
    assert model.startswith("release-")
    assert pages < first.artifacts(cycle)
    assert "REFRESH is called for: there is no index yet" in first.run(cycle).data.tags["mlflow.note.content"]
    used = first.run(cycle).inputs
    assert used is not None
    digests = {used_input.dataset.name: used_input.dataset.digest for used_input in used.dataset_inputs}
    assert digests["kb"] == first.live.snapshot.kb_id
    assert (cycle.snapshot, cycle.score_after) == (first.live.snapshot.id, first.live.scorecard.answer_score.value)


def test_a_cycle_that_decides_nothing_is_a_run_of_two_steps_with_its_reason(home: CycleProject) -> None:
    before = home.live
    cycle = home.run_cycle()
    assert cycle.decision == "NOTHING"
    assert home.steps(cycle) == [("observe", FINISHED), ("decide", FINISHED)]
    run = home.run(cycle)
    assert (run.info.run_name, run.data.tags["accepted"]) == ("cycle-0002 NOTHING", "no candidate")
    assert run.data.tags["reason"] == cycle.reason == "nothing has changed since the live release"
    assert home.artifacts(cycle) == {"decision.md", "decision.html", "decision.png"}
    assert home.live == before


def test_an_idle_cycle_reads_no_document_asks_no_model_and_says_why(
    home: CycleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = home.run_cycle()
    assert (measured.decision, measured.measured_in) == ("NOTHING", "")
    monkeypatch.setattr(CycleContext, "read", None)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.outcome, cycle.measured_in) == ("NOTHING", "nothing", measured.name)
    assert (cycle.reason, cycle.inputs) == (measured.reason, measured.inputs)
    assert cycle.signals["score_retrieved"] == measured.signals["score_retrieved"]
    calls = [fakes.CountingEmbedder.embedded, fakes.CountingReader.prompts, fakes.CountingReader.judged]
    assert calls == [[], [], []]
    assert home.steps(cycle) == [("observe", FINISHED), ("decide", FINISHED)]
    assert project_status(home.project, datetime.now(UTC)).freshness.stale_since is None


def test_a_page_that_takes_an_answer_waits_for_a_person_and_is_not_proven_again(home: CycleProject) -> None:
    before = home.live
    home.page("Pump", NEW)
    rejected = home.run_cycle()
    assert (rejected.decision, rejected.outcome) == ("HOLD", "held")
    assert "answer score" in rejected.detail
    assert (rejected.release, home.run(rejected).data.tags["accepted"]) == (None, "False")
    assert [name for name, _ in home.steps(rejected)] == [
        "observe",
        "decide",
        "refresh-index",
        "prove rejected",
        "decide",
        "maintain",
    ]
    assert set(read_plan(home.project, rejected.plan).documents_to_approve) == {"Pump.md"}
    assert home.live == before
    assert home.answer("Pump") == OLD

    again = home.run_cycle()
    assert (again.decision, again.outcome) == ("HOLD", "held")
    assert set(read_plan(home.project, again.plan).documents_to_approve) == {"Pump.md"}
    assert home.steps(again) == [("observe", FINISHED), ("decide", FINISHED)]
    assert not fakes.CountingTrainer.lessons
    assert home.live == before

    # Once the stale question is corrected, its rows are already in the index and only have to be evaluated.
    home.golden(Pump=NEW)
    corrected = home.run_cycle()
    assert (corrected.decision, corrected.release) == ("REFRESH", "3")
    assert corrected.work["embedded_chunks"] == 0
    assert (home.answer("Pump"), home.live.previous) == (NEW, "2")


def test_the_run_command_has_an_exit_code_for_a_rejected_candidate(home: CycleProject) -> None:
    home.set("finetune", trainer="tests.fakes:SpoilingTrainer")
    by_hand = ["--action", "RETRAIN", "--why", "another trainer"]
    ended = CliRunner().invoke(app, ["run", "-p", str(home.root), *by_hand])
    assert (ended.exit_code, ended.stdout.split(":")[0]) == (5, "RETRAIN"), ended.output
    assert "rejected" in " ".join(ended.stdout.split())


def test_a_second_writer_fails_at_once_and_changes_nothing(home: CycleProject) -> None:
    before = (home.live, home.history)
    home.page("Tank", NEW)
    with home.project.workspace.write_lock(), pytest.raises(UserError, match="another run is at work in"):
        home.run_cycle()
    assert (home.live, home.history) == before
    assert not fakes.CountingReader.prompts


def test_after_a_failure_while_publishing_the_live_release_stays_and_the_next_cycle_publishes(
    home: CycleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = home.live
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    with monkeypatch.context() as patch:
        retry_immediately(patch, "publish", retries=0)
        fail_first_calls(patch, Registry, "set_live", times=1)
        with pytest.raises(ConnectionError):
            home.run_cycle()
    failed = home.history[-1]
    assert failed.outcome == "failed"
    assert home.run(failed).info.status == "FAILED"
    assert home.steps(failed)[-1] == ("publish", "FAILED")
    assert (home.live, home.answer("Tank")) == (before, OLD)

    cycle = home.run_cycle()
    assert (cycle.decision, cycle.release) == ("REFRESH", "4")
    assert cycle.work["embedded_chunks"] == 0
    assert (home.live.previous, home.answer("Tank")) == (before.id, NEW)


def test_a_rollback_during_a_cycle_is_not_undone_by_it(home: CycleProject, monkeypatch: pytest.MonkeyPatch) -> None:
    first = home.live
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    assert home.run_cycle().release == "3"
    home.page("Valve", NEW)
    home.golden(Tank=NEW, Valve=NEW)
    original = judge_candidate

    def judged_late(*arguments: Any) -> Any:
        roll_back(home.project.registry, None, "wrong answers")
        return original(*arguments)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(proof, "judge_candidate", judged_late)
        with pytest.raises(UserError, match=r"release 2 .* release 3"):
            home.run_cycle()
    assert home.live == first
    assert [cycle.outcome for cycle in home.history[-2:]] == ["failed", "rolled_back"]

    assert home.run_cycle().release == "4"
    assert (home.live.previous, home.answer("Valve")) == (first.id, NEW)


def test_a_publish_whose_response_is_lost_is_retried_and_makes_one_release(
    home: CycleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    original, calls = Registry.set_live, []

    def timing_out(*arguments: Any) -> None:
        original(*arguments)
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("no answer")

    retry_immediately(monkeypatch, "publish", retries=2)
    monkeypatch.setattr(Registry, "set_live", timing_out)
    cycle = home.run_cycle()
    assert (cycle.release, len(calls)) == ("3", 1)
    assert [release.id for release in home.project.registry.releases()] == ["1", "2", "3"]
    assert home.live.previous == "2"


# --- facts are due -------------------------------------------------------------------------------------------------


def test_a_fact_that_no_question_asks_for_goes_live_at_once(home: CycleProject) -> None:
    for number in range(200):
        home.page(f"Part{number}", OLD)
    assert home.run_cycle().outcome == "released"
    home.page("Part7", NEW)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.outcome, cycle.signals["substantive_sentences"]) == ("REFRESH", "released", 1)
    assert home.answer("Part7") == NEW
    # A heading in bold, another line width, other metadata, a moved page.
    write(home.root / "data/kb/Part8.md", f"# Part8\n\n## **Part8 1**\n\n*  End of life:\n   {OLD}\n")
    (home.root / "data/kb/Part9.md").rename(home.root / "data/kb/Moved.md")
    assert home.run_cycle().decision == "NOTHING"


def test_without_a_freshness_target_a_fact_waits_until_it_is_worth_it_and_counts_as_stale(home: CycleProject) -> None:
    home.set("freshness", max_lag_hours=None)
    home.set("policy", points_per_hour=1_000_000)
    home.run_cycle()
    home.page("Crane", NEW)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.outcome) == ("NOTHING", "nothing")
    status = project_status(home.project, datetime.now(UTC))
    assert status.freshness.stale_since is not None
    assert status.freshness.alarms(FreshnessParams(max_lag_hours=0)) != []
    assert status.freshness.alarms(FreshnessParams(max_lag_hours=None)) == []
    home.set("freshness", max_lag_hours=0)
    assert home.run_cycle().decision == "REFRESH"
    assert project_status(home.project, datetime.now(UTC)).freshness.stale_since is None


def test_a_fact_waits_where_the_budget_is_spent(home: CycleProject) -> None:
    home.set("policy", budget_hours_per_week=0.0000001)
    home.page("Crane", NEW)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.outcome) == ("NOTHING", "nothing")
    decision = read_plan(home.project, cycle.plan).decision
    codes = {reason.code for option in decision.options for reason in option.reasons}
    assert {ReasonCode.FACTS_DUE, ReasonCode.OVER_BUDGET} <= codes
    assert ReasonCode.FACTS_WAIT in {reason.code for reason in decision.reasons}


def test_a_cycle_that_lost_the_lease_publishes_nothing(home: CycleProject, monkeypatch: pytest.MonkeyPatch) -> None:
    before = home.live
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    original = judge_candidate

    def taken_over(*arguments: Any) -> Any:
        (home.root / ".ragtide/writer.lock").unlink()
        return original(*arguments)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(proof, "judge_candidate", taken_over)
        with pytest.raises(UserError, match="has taken over its lease"):
            home.run_cycle()
    assert home.live == before
    assert home.run_cycle().release == "3"


def test_a_transient_error_of_the_store_costs_one_retry(home: CycleProject, monkeypatch: pytest.MonkeyPatch) -> None:
    retry_immediately(monkeypatch, "decide", retries=2)
    fail_first_calls(monkeypatch, tasks, "make_current_plan", times=1)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.outcome) == ("NOTHING", "nothing")
    assert home.steps(cycle) == [("observe", FINISHED), ("decide", "FAILED"), ("decide", FINISHED)]
    assert home.run(cycle).info.status == FINISHED


def test_invalid_data_fails_without_a_retry_and_the_cycle_records_the_message(home: CycleProject) -> None:
    before = home.live
    home.set("examples", on_invalid="refuse")
    write(home.root / "data/train/t.jsonl", '{"prompt": "only half"}\n')
    with pytest.raises(UserError, match="should have prompt and completion") as error:
        home.run_cycle()
    cycle = home.history[-1]
    assert home.steps(cycle) == [("observe", FINISHED), ("decide", "FAILED")]
    assert cycle.outcome == "failed"
    assert str(error.value)[:150] in cycle.detail
    assert home.live == before


# --- pending deletions ---------------------------------------------------------------------------------------------


def test_pending_deletions_are_carried_out_once_after_an_approval(home: CycleProject) -> None:
    home.set("deletion_guard", max_removed_documents=1, max_removed_share=0.0)
    everything = home.documents()
    kept = {name: (home.root / f"data/kb/{name}.md").read_text(encoding="utf-8") for name in ("Motor", "Gear")}
    for name in kept:
        (home.root / f"data/kb/{name}.md").unlink()
    home.page("Late", OLD)
    added = home.run_cycle()
    assert (added.decision, added.release) == ("REFRESH", "3")
    assert home.documents() == everything | {"Late.md"}

    pending = home.run_cycle()
    digest = home.run(pending).data.tags["plan"]
    assert (pending.decision, pending.outcome) == ("HOLD", "held")
    assert pending.reason.startswith("2 deletions pending approval")
    plan = read_plan(home.project, digest)
    deletions = plan.evidence.data.pending_deletions
    record_approval(home.project.workspace, digest, plan, "discontinued")
    with pytest.raises(UserError, match="what was decided and done changed since plan"):
        keep_current(project=str(home.root), plan=digest)
    done = home.run_cycle()
    assert (done.decision, done.release) == ("REFRESH", "4")
    assert home.documents() == (everything | {"Late.md"}) - set(deletions)
    assert read_approvals(home.project.workspace) == []

    # The same pages are restored, indexed and deleted again: this needs an approval again.
    for name, text in kept.items():
        write(home.root / f"data/kb/{name}.md", text)
    assert home.run_cycle().release == "5"
    for name in kept:
        (home.root / f"data/kb/{name}.md").unlink()
    project = home.project
    assert dict(project.corpus(take_snapshot(project.workspace)).knowledge.pending_deletions) == deletions


def test_declined_deletions_stay_in_the_index_and_need_no_further_answer(home: CycleProject) -> None:
    home.set("deletion_guard", max_removed_documents=0, max_removed_share=0)
    everything = home.documents()
    (home.root / "data/kb/Motor.md").unlink()
    pending = home.run_cycle()
    assert pending.decision == "HOLD"
    record_rejection(
        home.project.workspace, pending.plan, read_plan(home.project, pending.plan), "it will be restored on Monday"
    )
    after = home.run_cycle()
    assert (after.decision, after.outcome) == ("NOTHING", "nothing")
    assert not read_plan(home.project, after.plan).needs_approval
    # Other deletions need an approval of their own, and other changes are released.
    home.page("Late", OLD)
    assert home.run_cycle().release == "3"
    assert home.documents() == everything | {"Late.md"}
    (home.root / "data/kb/Gear.md").unlink()
    pending = read_plan(home.project, home.run_cycle().plan)
    assert set(pending.deletions_to_approve) == {"Motor.md", "Gear.md"}


# --- emptied documents, and golden questions out of play --------------------------------------------------------------


def empty(home: CycleProject, *names: str, text: str = "This page was moved.") -> None:
    for name in names:
        write(home.root / f"data/kb/{name}.md", f"# {name}\n\n{text}\n")


def approve(home: CycleProject, cycle: Cycle) -> None:
    record_approval(home.project.workspace, cycle.plan, read_plan(home.project, cycle.plan), "it was meant")


def test_emptied_documents_over_the_limit_wait_and_one_approval_covers_them_and_their_questions(
    home: CycleProject,
) -> None:
    home.set("deletion_guard", max_removed_documents=1, max_removed_share=0)
    empty(home, "Tank", "Valve", "Motor")
    waiting = home.run_cycle()
    data = read_plan(home.project, waiting.plan).evidence.data
    assert (waiting.decision, set(data.pending_deletions)) == ("HOLD", {"Tank.md", "Valve.md", "Motor.md"})
    assert (data.emptied_documents, data.lost_rows) == (("Motor.md", "Tank.md", "Valve.md"), 3)
    assert (len(data.golden.lost), len(data.golden.pending), data.golden.in_play) == (0, 2, 3)
    assert "3 documents lose much of the text (3 rows, 2 golden questions)" in waiting.reason
    # Other changes go ahead meanwhile.
    home.page("Late", OLD)
    assert home.run_cycle().release == "3"
    assert home.answer("Tank") == OLD

    waiting = home.run_cycle()
    approve(home, waiting)
    # What a page says later is another removal.
    empty(home, "Motor", "Valve", text="Nothing is here.")
    again = home.run_cycle()
    data = read_plan(home.project, again.plan).evidence.data
    assert (again.release, set(data.pending_deletions)) == ("4", {"Motor.md", "Valve.md"})
    assert (home.answer("Tank") == OLD, home.answer("Valve")) == (False, OLD)
    approve(home, home.run_cycle())
    assert home.run_cycle().release == "5"
    assert home.answer("Valve") != OLD
    assert read_approvals(home.project.workspace) == []
    assert home.run_cycle().decision == "NOTHING"


def test_a_change_that_puts_many_golden_questions_out_of_play_waits_for_an_approval(home: CycleProject) -> None:
    empty(home, "Tank", "Valve")
    cycle = home.run_cycle()
    plan = read_plan(home.project, cycle.plan)
    assert (cycle.decision, plan.decision.proposed, home.live.id) == ("HOLD", Action.REFRESH, "2")
    assert values_of(plan.decision.reasons, ReasonCode.GOLDEN_LOST) == {"questions": 2, "in_play": 3}
    assert "2 golden questions" in cycle.reason
    approve(home, cycle)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.release) == ("REFRESH", "3")
    assert read_approvals(home.project.workspace) == []
    # They were out of play before the next change.
    home.page("Motor", NEW)
    assert home.run_cycle().release == "4"


def test_one_golden_question_may_go_out_of_play_and_so_may_deleted_lines(home: CycleProject) -> None:
    empty(home, "Tank")
    assert home.run_cycle().release == "3"
    write(home.root / "data/golden/q.jsonl", json.dumps({"question": QUESTION.format("Pump"), "answers": [OLD]}))
    empty(home, "Valve")
    assert home.run_cycle().release == "4"


def test_golden_lines_in_a_form_that_no_page_has_are_named_and_wait_for_an_answer(home: CycleProject) -> None:
    home.golden(Tank="the first day of that year", Valve="in the new year")
    cycle = home.run_cycle()
    plan = read_plan(home.project, cycle.plan)
    assert cycle.decision == "HOLD"
    lines = {line.where: line.answer for line in plan.evidence.data.golden.lines}
    assert lines == {"data/golden/q.jsonl:2": "the first day of that year", "data/golden/q.jsonl:3": "in the new year"}
    assert codes(plan.decision.reasons)[:3] == [ReasonCode.GOLDEN_LINES, *[ReasonCode.GOLDEN_LINE] * 2]
    record_rejection(home.project.workspace, cycle.plan, plan, "they will be corrected")
    assert home.run_cycle().decision == "NOTHING"
    home.golden()
    assert read_plan(home.project, home.run_cycle().plan).evidence.data.golden.lines == ()


# --- withheld documents --------------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(home: CycleProject) -> CycleProject:
    """The project with a page that copies the questions with other answers, beside an added and a deleted page."""
    records = "".join(f"## {name} 1\n\n- End of life: {NEW}\n\n" for name in ("Pump", "Tank", "Valve"))
    write(home.root / "data/kb/Copy.md", f"# When does it reach end of life?\n\n{records}")
    home.page("Late", OLD)
    (home.root / "data/kb/Gear.md").unlink()
    return home


def test_a_page_that_takes_the_answers_waits_while_the_rest_goes_live_and_is_not_proven_again(
    poisoned: CycleProject,
) -> None:
    cycle = poisoned.run_cycle()
    assert (cycle.decision, cycle.release) == ("REFRESH", "3")
    assert poisoned.documents() == {"Pump.md", "Tank.md", "Valve.md", "Motor.md", "Late.md"}
    assert [poisoned.answer(name) for name in ("Pump", "Tank", "Valve")] == [OLD, OLD, OLD]
    names = [name for name, _ in poisoned.steps(cycle)]
    assert names.count("refresh-index") == 2
    assert [name for name in names if name.startswith("prove")] == ["prove rejected", "prove accepted"]
    assert "Copy.md" in cycle.detail
    assert "withheld.md" in poisoned.artifacts(cycle)

    # The same page asks a person, costs no proof, and does not stop the next change.
    waiting = poisoned.run_cycle()
    assert (waiting.decision, waiting.outcome) == ("HOLD", "held")
    assert poisoned.steps(waiting) == [("observe", FINISHED), ("decide", FINISHED)]
    assert set(read_plan(poisoned.project, waiting.plan).documents_to_approve) == {"Copy.md"}
    poisoned.page("Later", OLD)
    later = poisoned.run_cycle()
    assert (later.decision, later.release) == ("REFRESH", "4")
    assert [name for name, _ in poisoned.steps(later)].count("prove accepted") == 1
    assert poisoned.documents() >= {"Late.md", "Later.md"}
    # Another name does not help it.
    (poisoned.root / "data/kb/Copy.md").rename(poisoned.root / "data/kb/Other.md")
    assert set(read_plan(poisoned.project, poisoned.run_cycle().plan).documents_to_approve) == {"Other.md"}
    assert "Other.md" not in poisoned.documents()


def test_an_approved_page_goes_live_although_it_takes_answers(poisoned: CycleProject) -> None:
    poisoned.run_cycle()
    waiting = poisoned.run_cycle()
    record_approval(poisoned.project.workspace, waiting.plan, read_plan(poisoned.project, waiting.plan), "it is right")
    approved = poisoned.run_cycle()
    assert (approved.decision, approved.release) == ("REFRESH", "4")
    assert "Copy.md" in poisoned.documents()
    assert read_approvals(poisoned.project.workspace) == []
    assert read_withheld(poisoned.project.workspace) == ()
    assert poisoned.run_cycle().decision == "NOTHING"


def test_a_declined_page_is_not_asked_about_again(poisoned: CycleProject) -> None:
    poisoned.run_cycle()
    waiting = poisoned.run_cycle()
    record_rejection(poisoned.project.workspace, waiting.plan, read_plan(poisoned.project, waiting.plan), "spam")
    after = poisoned.run_cycle()
    assert (after.decision, read_plan(poisoned.project, after.plan).needs_approval) == ("NOTHING", False)
    assert "Copy.md" not in poisoned.documents()


def test_a_corrected_page_and_one_whose_questions_were_corrected_go_live(poisoned: CycleProject) -> None:
    poisoned.run_cycle()
    poisoned.golden(Pump=NEW, Tank=NEW, Valve=NEW)
    for name in ("Pump", "Tank", "Valve"):
        poisoned.page(name, NEW)
    assert poisoned.run_cycle().release == "4"
    assert "Copy.md" in poisoned.documents()


def test_a_candidate_that_is_rejected_for_other_reasons_too_withholds_nothing(
    poisoned: CycleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second candidate misses rows, which no document explains."""
    original = check_rows

    def with_missing_rows(rows: Any, chunks: Any) -> Any:
        return original(dict(list(rows.items())[1:]), chunks)

    monkeypatch.setattr(proof, "check_rows", with_missing_rows)
    cycle = poisoned.run_cycle()
    assert cycle.outcome == "rejected"
    assert read_withheld(poisoned.project.workspace) == ()


def test_a_cycle_closes_the_runs_of_a_killed_cycle_and_of_a_killed_rollback(home: CycleProject) -> None:
    """A living rollback holds the lock on the pointer for as long as its run is open."""
    registry = home.project.registry
    killed, rollback = (
        registry.cycle(),
        registry.manual_cycle("rollback", {"decision": "ROLLBACK", "undone_release": "2"}),
    )
    with rollback:
        killed.__enter__()
        home.run_cycle()
        assert [cycle.outcome for cycle in home.history] == ["released", "killed", "killed", "nothing"]
        # The pointer had not moved: nothing was taken back.
        assert home.history[1].undone is None
        killed.__exit__(None, None, None)


# --- actions over the cost limit -----------------------------------------------------------------------------------


def test_an_action_over_the_cost_limit_is_carried_out_once_on_the_approved_data(
    home: CycleProject,
) -> None:
    home.set("policy", approve_above_seconds=0.0)
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    before = home.live
    pending = home.run_cycle()
    digest = home.run(pending).data.tags["plan"]
    assert (pending.decision, pending.outcome) == ("HOLD", "held")
    assert home.steps(pending) == [("observe", FINISHED), ("decide", FINISHED)]
    assert home.run(pending).data.tags["proposed"] == "REFRESH"
    assert (home.live, home.answer("Tank")) == (before, OLD)
    # The cycle that left the action pending was a decision, too.
    with pytest.raises(UserError, match=f"^what was decided and done changed since plan {digest}"):
        keep_current(project=str(home.root), plan=digest)

    record_approval(home.project.workspace, digest, read_plan(home.project, digest), "worth it")
    home.page("Valve", NEW)
    assert home.planned().decision.action == Action.HOLD
    home.page("Valve", OLD)
    done = home.run_cycle()
    assert (done.decision, done.release, home.answer("Tank")) == ("REFRESH", "3", NEW)
    assert read_approvals(home.project.workspace) == []
    home.page("Tank", OLD)
    home.golden()
    assert home.planned().decision.action == Action.HOLD


def test_the_expectation_and_the_cost_of_a_cycle_are_used_for_later_forecasts(first: CycleProject) -> None:
    [cycle] = first.history
    past = past_decisions(first.history)
    assert [(str(part.action), part.accepted, part.rolled_back) for part in past] == [
        ("REFRESH", True, False),
        ("RETRAIN", True, False),
    ]
    decided = read_plan(first.project, first.run(cycle).data.tags["plan"]).decision
    for part in past:
        option = decided.option(part.action)
        assert option is not None
        assert (part.expected_points, part.forecast_seconds) == (option.gap_points, option.cost_seconds)
    assert cycle.score_after is not None
    assert cycle.score_before is not None
    recovered = sum(part.recovered_points or 0 for part in past)
    assert recovered == pytest.approx(100 * (cycle.score_after - cycle.score_before), abs=1e-4)
    seconds = sum(cycle.work[step] for step in ("index_seconds", "train_seconds", "prove_seconds"))
    assert sum(part.seconds or 0 for part in past) == pytest.approx(seconds, abs=0.01)
    option = decided.chosen
    assert option is not None
    costs = forecast_costs(
        Workload(chunks=1, examples=1, questions=1), first.history, first.project.workspace.params.costs
    )
    assert costs.error_runs == 1
    assert costs.error_share == pytest.approx(abs(option.cost_seconds - seconds) / seconds, abs=1e-4)


def test_a_proof_records_the_answers_that_were_not_kept(home: CycleProject) -> None:
    home.page("Crane", OLD)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.outcome) == ("REFRESH", "released")
    assert cycle.work["asked_questions"] == len(fakes.CountingReader.prompts)
    assert cycle.work["graded_questions"] == 9
    assert cycle.work["answer_seconds"] <= cycle.work["prove_seconds"]
    workload = read_plan(home.project, cycle.plan).evidence.limits.workload
    assert workload is not None
    assert workload.asked_after_refresh is not None


# --- documents that cannot be read ---------------------------------------------------------------------------------


def test_an_invalid_training_line_is_listed_and_the_cycle_continues(home: CycleProject) -> None:
    write(home.root / "data/train/more.jsonl", "{\n")
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    cycle = home.run_cycle()
    assert cycle.release == "3"
    assert "examples.md" in home.artifacts(cycle)
    assert home.run(cycle).data.metrics["examples_filtered"] == 1


def test_an_unreadable_document_is_quarantined_and_the_others_go_live(home: CycleProject) -> None:
    write(home.root / "data/kb/Pump.md", b"caf\xe9 \xff\x00")
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.release) == ("REFRESH", "3")
    assert (home.answer("Pump"), home.answer("Tank")) == (OLD, NEW)
    assert "quarantined.md" in home.artifacts(cycle)
    assert home.run(cycle).data.metrics["documents_quarantined"] == 1
    quarantine = Quarantine.read(home.project.workspace.quarantine_file)
    assert [(document.document, document.attempts) for document in quarantine.documents] == [("Pump.md", 1)]
    home.page("Pump", NEW)
    home.golden(Tank=NEW, Pump=NEW)
    assert home.run_cycle().release == "4"
    assert home.answer("Pump") == NEW
    assert Quarantine.read(home.project.workspace.quarantine_file).documents == ()


# --- another embedder ----------------------------------------------------------------------------------------------


def test_another_embedder_leads_to_a_rebuild_and_the_old_release_still_answers_before_it_and_after_a_rollback(
    home: CycleProject,
) -> None:
    before = home.live
    home.set("embed", document_prefix="passage: ")
    assert home.answer("Tank") == OLD
    fakes.forget()
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.release, cycle.work["embedded_chunks"]) == ("REBUILD", "3", 5)
    assert (home.answer("Tank"), home.live.previous) == (OLD, before.id)
    assert home.live.index.settings["embed"]["document_prefix"] == "passage: "
    assert home.run_cycle().decision == "NOTHING"

    roll_back(home.project.registry, None, "a test", home.project.check_servable)
    assert (home.live.id, home.answer("Tank")) == ("2", OLD)
    again = home.run_cycle()
    assert (again.decision, home.live.id) == ("NOTHING", "2")
    # With the old settings again, the rows are rebuilt from cached vectors.
    home.set("embed", document_prefix="")
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    back = home.run_cycle()
    assert (back.decision, back.release, back.work["embedded_chunks"]) == ("REFRESH", "4", 1)
    assert home.answer("Tank") == NEW


@pytest.mark.parametrize("name", ["retrain_model", "prove"])
def test_a_retrain_alone_keeps_the_live_index_under_its_own_settings(name: str, home: CycleProject) -> None:
    """A retrain is worth its cost after the gate rejected the rebuild."""
    home.set("embed", document_prefix="passage: ")
    with open_cycle(home.project) as context:
        snapshot = take_snapshot(context.project.workspace)
        rebuild = make_plan(context.project, context.read(snapshot))
        assert rebuild.decision.action == Action.REBUILD
        index = tasks.keep_index(context)
        assert index == home.live.index
        if name == "retrain_model":
            assert tasks.retrain_model.fn(context, snapshot, index).adapter
        else:
            assert tasks.prove.fn(context, snapshot, Action.RETRAIN, index, home.live.model).accepted


# --- regression suites and deleted training documents --------------------------------------------------------------


def test_a_model_that_fails_a_regression_suite_is_rejected_unless_the_suite_allows_it(home: CycleProject) -> None:
    as_json = r'\{"value": ".+"\}'
    asks = {"question": QUESTION.format("Tank"), "answers": [OLD]}
    write(home.root / "data/golden/q.jsonl", json.dumps(asks | {"docs": ["Tank.md"], "format": as_json}) + "\n")
    write(home.root / "data/golden/regression/dates.jsonl", json.dumps(asks | {"format": r"\d{4}-\d\d-\d\d"}) + "\n")
    answer = json.dumps({"value": OLD})
    rows = [{"prompt": QUESTION.format(name), "completion": answer, "doc": f"{name}.md"} for name in ("Motor", "Gear")]
    write(home.root / "data/train/t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    rejected = home.run_cycle()
    assert (rejected.decision, rejected.release) == ("RETRAIN", None)
    assert rejected.outcome == "rejected"
    assert "regression suite dates" in rejected.detail
    assert read_plan(home.project, rejected.plan).evidence.limits.costs.suite_seconds > 0
    [prove] = [run for run in home.runs_below(rejected) if run.info.run_name == "prove rejected"]
    metrics = prove.data.metrics
    assert (metrics["suite_dates_before"], metrics["suite_dates_after"]) == (1.0, 0.0)

    home.set("gate", suites={"dates": 1.0})
    assert home.run_cycle().release == "3"
    assert home.answer("Tank") == answer


def test_a_refresh_is_not_checked_against_regression_suites(home: CycleProject) -> None:
    asks = {"question": "Say nothing of it.", "answers": ["a secret"]}
    write(home.root / "data/golden/regression/secrets.jsonl", json.dumps(asks) + "\n")
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    assert home.run_cycle().decision == "REFRESH"
    assert not any(prompt.endswith(asks["question"]) for prompt in fakes.CountingReader.prompts)


def test_a_deleted_document_flags_the_releases_trained_on_it_until_a_retrain(home: CycleProject) -> None:
    (home.root / "data/kb/Motor.md").unlink()
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.release) == ("REFRESH", "3")
    evidence = read_plan(home.project, cycle.plan).evidence
    assert evidence.data.deleted_training_documents == ("Motor.md",)
    assert home.flags() == {"2": "`Motor.md`", "3": "`Motor.md`"}

    home.set("finetune", min_examples=1)
    assert home.run_cycle().decision == "NOTHING"
    home.set("policy", name="always")
    write(
        home.root / "data/train/t.jsonl",
        json.dumps({"prompt": "Which gear?", "completion": "Gear 1", "doc": "Gear.md"}),
    )
    cycle = home.run_cycle()
    assert cycle.release == "5"
    assert "Motor.md" not in home.live.model.documents
    assert set(home.flags()) == {"2", "3", "4"}
    assert read_plan(home.project, home.run_cycle().plan).evidence.data.deleted_training_documents == ()
