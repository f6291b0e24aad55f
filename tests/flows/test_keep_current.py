"""Tests of whole cycles with real parts and fake models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from ragtide.flows import tasks
from ragtide.flows.cli.main import app
from ragtide.flows.keep_current import keep_current
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.gate import judge_candidate
from ragtide.pipelines.history.approvals import read_approvals, record_approval, record_rejection
from ragtide.pipelines.history.costs import Workload, forecast_costs
from ragtide.pipelines.history.history import past_decisions
from ragtide.pipelines.planning.plan import make_plan, read_plan
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Quarantine
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release.lineage import SAW_DELETED
from ragtide.pipelines.release.rollback import roll_back
from tests import fakes
from tests.conftest import write_project
from tests.factories import write
from tests.projects import Home

OLD, NEW = "2027-01-01", "2031-05-05"
QUESTION = "When does {} 1 reach end of life?"


@dataclass
class House(Home):
    """A project on which the loop turns.

    Pump, Tank and Valve are asked about. The question about the pump names no page, so nobody notices that it is
    stale: a refresh that brings another date for the pump loses it, and the gate refuses.
    """

    @property
    def history(self) -> list[Cycle]:
        return self.project.registry.history()

    def page(self, name: str, end_of_life: str) -> None:
        write(self.root / f"data/kb/{name}.md", f"# {name}\n\n## {name} 1\n\n- End of life: {end_of_life}\n")

    def documents(self) -> set[str]:
        """What readers of the live release find."""
        return set(self.project.index.documents(self.live.index_tag))

    def golden(self, **moved: str) -> None:
        """What is asked; the right answer is the old date, where `moved` has no other."""
        rows = [
            {"question": QUESTION.format(name), "answers": [moved.get(name, OLD)], "docs": docs}
            for name, docs in (("Pump", []), ("Tank", ["Tank.md"]), ("Valve", ["Valve.md"]))
        ]
        write(self.root / "data/golden/q.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def turn(self) -> Cycle:
        fakes.forget()
        return keep_current(project=str(self.root))

    def answer(self, name: str) -> str:
        return self.project.ask(QUESTION.format(name))[1].text

    def run(self, cycle: Cycle) -> Run:
        return self._client.get_run(cycle.run)

    def steps(self, cycle: Cycle) -> list[tuple[str, str]]:
        """(name, status) of the runs below a turn, in order."""
        return [(one.info.run_name, one.info.status) for one in self.runs_below(cycle)]

    def runs_below(self, cycle: Cycle) -> list[Run]:
        mine = f"tags.`mlflow.parentRunId` = '{cycle.run}'"
        experiment = self.run(cycle).info.experiment_id
        return list(self._client.search_runs([experiment], mine, order_by=["attributes.start_time ASC"]))

    def flags(self) -> dict[str, str]:
        """Release -> the deleted documents that it is flagged with."""
        name = self.project.workspace.params.registry.model
        versions = [self._client.get_model_version(name, one.id) for one in self.project.registry.releases()]
        return {str(one.version): one.tags[SAW_DELETED] for one in versions if SAW_DELETED in one.tags}

    def artifacts(self, cycle: Cycle) -> set[str]:
        return {one.path for one in self._client.list_artifacts(cycle.run)}

    @property
    def _client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.project.workspace.tracking_uri)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> House:
    """The loop has turned once: release 1 is live, with an index and an adapter."""
    house = House(write_project(tmp_path_factory.mktemp("keep") / "house"))
    for name in ("Pump", "Tank", "Valve", "Motor", "Gear"):
        house.page(name, OLD)
    train = [{"prompt": QUESTION.format(one), "completion": OLD, "doc": f"{one}.md"} for one in ("Motor", "Gear")]
    write(house.root / "data/train/t.jsonl", "".join(json.dumps(row) + "\n" for row in train))
    house.golden()
    house.turn()
    return house


@pytest.fixture
def house(first: House, tmp_path: Path) -> House:
    """A copy of it, to go on with."""
    shutil.copytree(first.root, tmp_path / "house")
    fakes.forget()
    return House(tmp_path / "house")


def at_once(monkeypatch: pytest.MonkeyPatch, name: str, retries: int) -> None:
    """Have a step tried again without waiting."""
    step: Any = getattr(tasks, name)
    monkeypatch.setattr(tasks, name, step.with_options(retries=retries, retry_delay_seconds=0))


def failing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int) -> None:
    """Have a function raise the first `times` that it is called."""
    original: Callable[..., Any] = getattr(owner, name)
    left = [None] * times

    def flaky(*arguments: Any, **options: Any) -> Any:
        if left:
            left.pop()
            raise ConnectionError("the store went away")
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, flaky)


FINISHED = "FINISHED"


def test_a_turn_is_one_run_with_a_run_for_each_step(first: House) -> None:
    [cycle] = first.history
    names = ["observe", "decide", "refresh-index", "retrain-model", "prove accepted", "publish", "maintain"]
    assert first.steps(cycle) == [(name, FINISHED) for name in names]
    assert (cycle.decision, cycle.release) == ("REFRESH+RETRAIN", "1")
    run = first.run(cycle)
    assert (run.info.run_name, run.info.status) == ("cycle-0001 REFRESH+RETRAIN", FINISHED)
    assert run.data.tags["index_version"] == str(first.live.index.version)


def test_a_turn_can_be_understood_from_its_own_page(first: House) -> None:
    [cycle] = first.history
    pages = {f"{page}.{kind}" for page in ("decision", "verdict") for kind in ("md", "html", "png")}
    [release] = first.artifacts(cycle) - pages
    assert release.startswith("release-")
    assert pages < first.artifacts(cycle)
    assert "REFRESH is called for: there is no index yet" in first.run(cycle).data.tags["mlflow.note.content"]
    used = first.run(cycle).inputs
    assert used is not None
    digests = {one.dataset.name: one.dataset.digest for one in used.dataset_inputs}
    assert digests["kb"] == first.live.snapshot.kb_id
    assert (cycle.snapshot, cycle.score_after) == (first.live.snapshot.id, first.live.scorecard.answer_score.value)


def test_a_nothing_is_a_run_of_two_steps_that_says_why(house: House) -> None:
    before = house.live
    cycle = house.turn()
    assert cycle.decision == "NOTHING"
    assert house.steps(cycle) == [("observe", FINISHED), ("decide", FINISHED)]
    run = house.run(cycle)
    assert (run.info.run_name, run.data.tags["accepted"]) == ("cycle-0002 NOTHING", "no candidate")
    assert run.data.tags["reason"] == cycle.reason == "nothing has changed since the live release"
    assert house.artifacts(cycle) == {"decision.md", "decision.html", "decision.png"}
    assert house.live == before


def test_what_the_gate_refuses_does_not_go_live_and_is_not_tried_again_on_the_same_data(house: House) -> None:
    before = house.live
    house.page("Pump", NEW)
    refused = house.turn()
    assert refused.decision == "REFRESH"
    assert refused.outcome == "rejected"
    assert "regression suite dates" in refused.detail
    assert (refused.release, house.run(refused).data.tags["accepted"]) == (None, "False")
    assert [name for name, _ in house.steps(refused)] == [
        "observe",
        "decide",
        "refresh-index",
        "prove rejected",
        "maintain",
    ]
    assert house.live == before
    assert house.answer("Pump") == OLD

    again = house.turn()
    assert (again.decision, again.outcome) == ("NOTHING", "nothing")
    assert "the gate rejected it for this data in cycle-0002" in again.reason
    assert house.steps(again) == [("observe", FINISHED), ("decide", FINISHED)]
    assert not fakes.CountingTrainer.lessons
    assert house.live == before

    # Once somebody mends the stale question, the rows are there already and only have to be proven.
    house.golden(Pump=NEW)
    mended = house.turn()
    assert (mended.decision, mended.release) == ("REFRESH", "2")
    assert mended.work["embedded_chunks"] == 0
    assert (house.answer("Pump"), house.live.previous) == (NEW, "1")


def test_a_run_in_a_terminal_whose_candidate_the_gate_refuses_ends_with_a_code_of_its_own(house: House) -> None:
    house.page("Pump", NEW)
    ended = CliRunner().invoke(app, ["run", "-p", str(house.root)])
    assert (ended.exit_code, ended.stdout.split(":")[0]) == (5, "REFRESH"), ended.output
    assert "rejected" in " ".join(ended.stdout.split())


def test_a_second_writer_is_refused_at_once_and_leaves_no_trace(house: House) -> None:
    before = (house.live, house.history)
    house.page("Tank", NEW)
    with house.project.workspace.write_lock(), pytest.raises(UserError, match="another run is at work in"):
        house.turn()
    assert (house.live, house.history) == before
    assert not fakes.CountingReader.prompts


def test_a_turn_that_dies_while_publishing_leaves_what_is_live_and_the_next_one_publishes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = house.live
    house.page("Tank", NEW)
    house.golden(Tank=NEW)
    with monkeypatch.context() as patch:
        at_once(patch, "publish", retries=0)
        failing(patch, Registry, "set_live", times=1)
        with pytest.raises(ConnectionError):
            house.turn()
    died = house.history[-1]
    assert died.outcome == "failed"
    assert house.run(died).info.status == "FAILED"
    assert house.steps(died)[-1] == ("publish", "FAILED")
    assert (house.live, house.answer("Tank")) == (before, OLD)

    cycle = house.turn()
    assert (cycle.decision, cycle.release) == ("REFRESH", "3")
    assert cycle.work["embedded_chunks"] == 0
    assert (house.live.previous, house.answer("Tank")) == (before.id, NEW)


def test_a_rollback_while_a_turn_is_at_work_is_not_undone_by_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first = house.live
    house.page("Tank", NEW)
    house.golden(Tank=NEW)
    assert house.turn().release == "2"
    house.page("Valve", NEW)
    house.golden(Tank=NEW, Valve=NEW)
    whole = judge_candidate

    def judged_late(*arguments: Any) -> Any:
        roll_back(house.project.registry, None, "wrong answers")
        return whole(*arguments)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(tasks, "judge_candidate", judged_late)
        with pytest.raises(UserError, match=r"release 1 .* release 2"):
            house.turn()
    assert house.live == first
    assert [turn.outcome for turn in house.history[-2:]] == ["failed", "rolled_back"]

    assert house.turn().release == "3"
    assert (house.live.previous, house.answer("Valve")) == (first.id, NEW)


def test_a_publish_whose_answer_is_lost_is_tried_again_and_makes_one_release(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.page("Tank", NEW)
    house.golden(Tank=NEW)
    whole, calls = Registry.set_live, []

    def timing_out(*arguments: Any) -> None:
        whole(*arguments)
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("no answer")

    at_once(monkeypatch, "publish", retries=2)
    monkeypatch.setattr(Registry, "set_live", timing_out)
    cycle = house.turn()
    assert (cycle.release, len(calls)) == ("2", 1)
    assert [one.id for one in house.project.registry.releases()] == ["1", "2"]
    assert house.live.previous == "1"


def test_a_turn_that_lost_the_project_to_another_publishes_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = house.live
    house.page("Tank", NEW)
    house.golden(Tank=NEW)
    whole = judge_candidate

    def taken_over(*arguments: Any) -> Any:
        (house.root / ".ragtide/writer.lock").unlink()
        return whole(*arguments)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(tasks, "judge_candidate", taken_over)
        with pytest.raises(UserError, match="another has taken its place"):
            house.turn()
    assert house.live == before
    assert house.turn().release == "2"


def test_a_store_that_is_away_for_a_moment_costs_one_more_try(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch, "decide", retries=2)
    failing(monkeypatch, tasks, "make_plan", times=1)
    cycle = house.turn()
    assert (cycle.decision, cycle.outcome) == ("NOTHING", "nothing")
    assert house.steps(cycle) == [("observe", FINISHED), ("decide", "FAILED"), ("decide", FINISHED)]
    assert house.run(cycle).info.status == FINISHED


def test_data_that_cannot_be_used_is_refused_once_and_the_turn_says_what_to_do(house: House) -> None:
    before = house.live
    house.set("examples", on_invalid="refuse")
    write(house.root / "data/train/t.jsonl", '{"prompt": "only half"}\n')
    with pytest.raises(UserError, match="should hold prompt and completion") as refusal:
        house.turn()
    cycle = house.history[-1]
    assert house.steps(cycle) == [("observe", FINISHED), ("decide", "FAILED")]
    assert cycle.outcome == "failed"
    assert str(refusal.value)[:150] in cycle.detail
    assert house.live == before


# --- removals that wait --------------------------------------------------------------------------------------------


def test_removals_wait_for_an_approval_and_are_carried_out_once(house: House) -> None:
    house.set("deletion_guard", max_removed_documents=1, max_removed_share=0.0)
    everything = house.documents()
    kept = {name: (house.root / f"data/kb/{name}.md").read_text(encoding="utf-8") for name in ("Motor", "Gear")}
    for name in kept:
        (house.root / f"data/kb/{name}.md").unlink()
    house.page("Late", OLD)
    added = house.turn()
    assert (added.decision, added.release) == ("REFRESH", "2")
    assert house.documents() == everything | {"Late.md"}

    waits = house.turn()
    digest = house.run(waits).data.tags["plan"]
    assert (waits.decision, waits.outcome) == ("HOLD", "held")
    assert waits.reason.startswith("2 deletions pending approval")
    plan = read_plan(house.project, digest)
    held = plan.evidence.data.pending_deletions
    record_approval(house.project.workspace, digest, plan, "discontinued")
    with pytest.raises(UserError, match="what was decided and done changed since plan"):
        keep_current(project=str(house.root), plan=digest)
    done = house.turn()
    assert (done.decision, done.release) == ("REFRESH", "3")
    assert house.documents() == (everything | {"Late.md"}) - set(held)
    assert read_approvals(house.project.workspace) == []

    # The very same pages come back, are indexed, and vanish again: that is asked about again.
    for name, text in kept.items():
        write(house.root / f"data/kb/{name}.md", text)
    assert house.turn().release == "4"
    for name in kept:
        (house.root / f"data/kb/{name}.md").unlink()
    project = house.project
    assert dict(project.corpus(take_snapshot(project.workspace)).knowledge.pending_deletions) == held


def test_removals_that_a_person_said_no_to_stay_and_are_not_asked_about_again(house: House) -> None:
    house.set("deletion_guard", max_removed_documents=0, max_removed_share=0)
    everything = house.documents()
    (house.root / "data/kb/Motor.md").unlink()
    waits = house.turn()
    assert waits.decision == "HOLD"
    record_rejection(
        house.project.workspace, waits.plan, read_plan(house.project, waits.plan), "it comes back on Monday"
    )
    after = house.turn()
    assert (after.decision, after.outcome) == ("NOTHING", "nothing")
    assert not read_plan(house.project, after.plan).needs_approval
    # Another page is another matter, and whatever else changes goes ahead.
    house.page("Late", OLD)
    assert house.turn().release == "2"
    assert house.documents() == everything | {"Late.md"}
    (house.root / "data/kb/Gear.md").unlink()
    asked = read_plan(house.project, house.turn().plan)
    assert set(asked.deletions_to_approve) == {"Motor.md", "Gear.md"}


def test_a_turn_closes_the_record_of_a_killed_one_and_leaves_a_rollback_alone(house: House) -> None:
    registry = house.project.registry
    killed, going_back = (
        registry.cycle(),
        registry.manual_cycle("rollback", {"decision": "ROLLBACK", "undone_release": "1"}),
    )
    with going_back:
        killed.__enter__()
        house.turn()
        assert [one.outcome for one in house.history] == ["released", "running", "killed", "nothing"]
        killed.__exit__(None, None, None)


# --- what costs more than the limit --------------------------------------------------------------------------------


def test_an_action_above_the_limit_builds_nothing_and_is_carried_out_once_on_the_data_that_was_approved(
    house: House,
) -> None:
    house.set("policy", approve_above_seconds=0.0)
    house.page("Tank", NEW)
    house.golden(Tank=NEW)
    before = house.live
    waits = house.turn()
    digest = house.run(waits).data.tags["plan"]
    assert (waits.decision, waits.outcome) == ("HOLD", "held")
    assert house.steps(waits) == [("observe", FINISHED), ("decide", FINISHED)]
    assert house.run(waits).data.tags["proposed"] == "REFRESH"
    assert (house.live, house.answer("Tank")) == (before, OLD)
    # The turn that found it waiting was a decision of its own.
    with pytest.raises(UserError, match=f"^what was decided and done changed since plan {digest}"):
        keep_current(project=str(house.root), plan=digest)

    record_approval(house.project.workspace, digest, read_plan(house.project, digest), "worth it")
    house.page("Valve", NEW)
    assert house.planned().decision.action == Action.HOLD
    house.page("Valve", OLD)
    done = house.turn()
    assert (done.decision, done.release, house.answer("Tank")) == ("REFRESH", "2", NEW)
    assert read_approvals(house.project.workspace) == []
    house.page("Tank", OLD)
    house.golden()
    assert house.planned().decision.action == Action.HOLD


def test_what_a_turn_expected_and_took_is_learnt_from(first: House) -> None:
    [cycle] = first.history
    [past] = past_decisions(first.history)
    assert (str(past.action), past.accepted, past.rolled_back) == ("REFRESH+RETRAIN", True, False)
    decided = read_plan(first.project, first.run(cycle).data.tags["plan"]).decision
    [option] = [one for one in decided.options if one.action == past.action]
    assert option.gap_points is not None
    assert (past.expected_points, past.forecast_seconds) == (option.gap_points, option.cost_seconds)
    assert cycle.score_after is not None
    assert cycle.score_before is not None
    assert past.recovered_points == pytest.approx(100 * (cycle.score_after - cycle.score_before), abs=1e-4)
    seconds = sum(cycle.work[step] for step in ("index_seconds", "train_seconds", "prove_seconds"))
    assert past.seconds == pytest.approx(seconds)
    costs = forecast_costs(Workload(1, 1, 1), first.history, first.project.workspace.params.costs)
    assert costs.error_runs == 1
    assert costs.error_share == pytest.approx(abs(option.cost_seconds - seconds) / seconds, abs=1e-4)


# --- documents that cannot be read ---------------------------------------------------------------------------------


def test_a_training_line_that_cannot_be_learnt_from_is_listed_and_stops_nothing(house: House) -> None:
    write(house.root / "data/train/more.jsonl", "{\n")
    house.page("Tank", NEW)
    house.golden(Tank=NEW)
    cycle = house.turn()
    assert cycle.release == "2"
    assert "examples.md" in house.artifacts(cycle)
    assert house.run(cycle).data.metrics["examples_filtered"] == 1


def test_a_document_that_cannot_be_read_is_set_aside_and_the_rest_goes_live(house: House) -> None:
    write(house.root / "data/kb/Pump.md", b"caf\xe9 \xff\x00")
    house.page("Tank", NEW)
    house.golden(Tank=NEW)
    cycle = house.turn()
    assert (cycle.decision, cycle.release) == ("REFRESH", "2")
    assert (house.answer("Pump"), house.answer("Tank")) == (OLD, NEW)
    assert "quarantined.md" in house.artifacts(cycle)
    assert house.run(cycle).data.metrics["documents_quarantined"] == 1
    kept = Quarantine.read(house.project.workspace.quarantine_file)
    assert [(one.document, one.attempts) for one in kept.documents] == [("Pump.md", 1)]
    house.page("Pump", NEW)
    house.golden(Tank=NEW, Pump=NEW)
    assert house.turn().release == "3"
    assert house.answer("Pump") == NEW
    assert Quarantine.read(house.project.workspace.quarantine_file).documents == ()


# --- another embedder ----------------------------------------------------------------------------------------------


def test_another_embedder_means_a_rebuild_and_the_live_release_answers_until_then_and_after_a_rollback(
    house: House,
) -> None:
    before = house.live
    house.set("embed", document_prefix="passage: ")
    assert house.answer("Tank") == OLD
    fakes.forget()
    cycle = house.turn()
    assert (cycle.decision, cycle.release, cycle.work["embedded_chunks"]) == ("REBUILD", "2", 5)
    assert (house.answer("Tank"), house.live.previous) == (OLD, before.id)
    assert house.live.index.settings["embed"]["document_prefix"] == "passage: "
    assert house.turn().decision == "NOTHING"

    roll_back(house.project.registry, None, "a test", house.project.check_servable)
    assert (house.live.id, house.answer("Tank")) == ("1", OLD)
    again = house.turn()
    assert (again.decision, house.live.id) == ("NOTHING", "1")
    # Back under the old settings: its rows are made anew in the table, from vectors that are still known.
    house.set("embed", document_prefix="")
    house.page("Tank", NEW)
    house.golden(Tank=NEW)
    back = house.turn()
    assert (back.decision, back.release, back.work["embedded_chunks"]) == ("REFRESH", "3", 1)
    assert house.answer("Tank") == NEW


@pytest.mark.parametrize("name", ["retrain_model", "prove"])
def test_a_retrain_alone_keeps_the_live_index_under_its_own_settings(name: str, house: House) -> None:
    """As where the gate has refused the rebuild, and a retrain is worth it."""
    house.set("embed", document_prefix="passage: ")
    with tasks.open_cycle(house.project) as turn:
        snapshot = take_snapshot(turn.project.workspace)
        made = make_plan(turn.project, turn.read(snapshot))
        assert made.decision.action == Action.REBUILD
        plan = made.model_copy(update={"decision": made.decision.model_copy(update={"action": Action.RETRAIN})})
        index = tasks.refresh_index.fn(turn, snapshot, plan, None)
        assert index == house.live.index
        if name == "retrain_model":
            assert tasks.retrain_model.fn(turn, snapshot, plan, index).adapter
        else:
            assert tasks.prove.fn(turn, snapshot, plan, index, house.live.model).accepted


# --- earlier skills, and what is to be forgotten -------------------------------------------------------------------


def test_a_new_model_that_has_lost_an_earlier_skill_is_refused_unless_it_may(house: House) -> None:
    as_json = r'\{"value": ".+"\}'
    asks = {"question": QUESTION.format("Tank"), "answers": [OLD]}
    write(house.root / "data/golden/q.jsonl", json.dumps(asks | {"docs": ["Tank.md"], "format": as_json}) + "\n")
    write(house.root / "data/golden/regression/dates.jsonl", json.dumps(asks | {"format": r"\d{4}-\d\d-\d\d"}) + "\n")
    answer = json.dumps({"value": OLD})
    rows = [{"prompt": QUESTION.format(one), "completion": answer, "doc": f"{one}.md"} for one in ("Motor", "Gear")]
    write(house.root / "data/train/t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    refused = house.turn()
    assert (refused.decision, refused.release) == ("RETRAIN", None)
    assert refused.outcome == "rejected"
    assert read_plan(house.project, refused.plan).evidence.limits.costs.suite_seconds > 0
    [prove] = [run for run in house.runs_below(refused) if run.info.run_name == "prove rejected"]
    metrics = prove.data.metrics
    assert (metrics["suite_dates_before"], metrics["suite_dates_after"]) == (1.0, 0.0)

    house.set("gate", suites={"dates": 1.0})
    assert house.turn().release == "2"
    assert house.answer("Tank") == answer


def test_a_refresh_is_held_to_no_skill(house: House) -> None:
    asks = {"question": "Say nothing of it.", "answers": ["a secret"]}
    write(house.root / "data/golden/regression/secrets.jsonl", json.dumps(asks) + "\n")
    house.page("Tank", NEW)
    house.golden(Tank=NEW)
    assert house.turn().decision == "REFRESH"
    assert not any(prompt.endswith(asks["question"]) for prompt in fakes.CountingReader.prompts)


def test_a_deleted_document_flags_whoever_saw_it_and_is_a_reason_to_train_again(house: House) -> None:
    (house.root / "data/kb/Motor.md").unlink()
    cycle = house.turn()
    assert (cycle.decision, cycle.release) == ("REFRESH", "2")
    evidence = read_plan(house.project, cycle.plan).evidence
    assert evidence.data.deleted_training_documents == ("Motor.md",)
    assert house.flags() == {"1": "`Motor.md`", "2": "`Motor.md`"}

    house.set("policy", forget_points=60.0)
    house.set("finetune", min_examples=1)
    cycle = house.turn()
    assert (cycle.decision, cycle.release) == ("RETRAIN", "3")
    assert "trained on 1 deleted document" in cycle.reason
    assert "Motor.md" not in house.live.model.documents
    assert set(house.flags()) == {"1", "2"}
    assert read_plan(house.project, house.turn().plan).evidence.data.deleted_training_documents == ()
