"""Tests of the steps: retries, leases, outcomes and imports."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from prefect import flow
from prefect.cache_policies import NO_CACHE

from ragtide.flows import tasks
from ragtide.flows.prefect_server.queue import RunQueue
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.data.imports import ImportUpdate
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.gate import judge_candidate
from ragtide.pipelines.history.history import ACTION_SECONDS
from ragtide.pipelines.lease import describe_holder
from ragtide.pipelines.params import PolicyParams, TriggerParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Approval, Plan
from ragtide.pipelines.records.evaluation import GradedAnswer, Verdict
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.workspace import Workspace
from tests.conftest import write_project
from tests.factories import UNCHANGED, UNMOVED, evidence, graded, release, scorecard, write

STEPS = ("observe", "decide", "refresh_index", "retrain_model", "prove", "publish", "run_maintenance")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an MLflow database in which nothing is, to be copied."""
    root = write_project(tmp_path_factory.mktemp("tasks") / "project")
    write(root / "data/kb/pump.md", "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n")
    golden = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["pump.md"]}
    write(root / "data/golden/q.jsonl", json.dumps(golden) + "\n")
    project = Project.open(root, no_progress)
    project.workspace.state.mkdir()
    MlflowClient(tracking_uri=project.workspace.tracking_uri).search_experiments()
    return root


@pytest.fixture
def project(told: Path, tmp_path: Path) -> Project:
    shutil.copytree(told, tmp_path / "project")
    return Project.open(tmp_path / "project", no_progress)


def run_of(project: Project, turn: tasks.CycleContext) -> Run:
    return MlflowClient(tracking_uri=project.workspace.tracking_uri).get_run(turn.log.id)


# --- tried again ---------------------------------------------------------------------------------------------------


def tried(problems: list[Exception]) -> tuple[int, Exception | None]:
    """How often a step is called that raises `problems` one after the other, and how that ended."""
    left, calls = list(problems), []

    def work() -> str:
        calls.append("called")
        if left:
            raise left.pop(0)
        return "done"

    # The waiting between two tries is Prefect's; here it takes no time.
    probe: Any = tasks.step("probe")(work)
    patient = probe.with_options(retry_delay_seconds=0)

    @flow(name="probe", persist_result=False)
    def probing() -> str:
        return str(patient())

    try:
        assert probing() == "done"
    except (UserError, OSError, ValueError) as problem:
        return len(calls), problem
    return len(calls), None


def test_a_step_that_goes_well_is_called_once() -> None:
    assert tried([]) == (1, None)


def test_a_refusal_stays_a_refusal() -> None:
    refusal = UserError("put the file right")
    assert tried([refusal] * 9) == (1, refusal)


@pytest.mark.parametrize("problem", [ConnectionError("the store is away"), ValueError("locked"), OSError("no space")])
def test_anything_else_is_tried_twice_more_and_then_told(problem: Exception) -> None:
    assert tried([problem] * 9) == (3, problem)


def test_what_passes_by_is_got_over() -> None:
    assert tried([ConnectionError("the store is away")]) == (2, None)
    assert tried([ConnectionError("the store is away"), TimeoutError("a lock")]) == (3, None)


def test_a_refusal_ends_the_trying() -> None:
    refusal = UserError("the adapter is gone")
    assert tried([ConnectionError("the store is away"), refusal, refusal]) == (2, refusal)


@pytest.mark.parametrize("name", STEPS)
def test_each_step_has_retries_and_a_limit_and_keeps_nothing_in_prefect(name: str) -> None:
    step = getattr(tasks, name)
    assert step.name == name.replace("_", "-").removeprefix("run-").replace("maintenance", "maintain")
    assert (step.retries, step.persist_result, step.cache_policy) == (2, False, NO_CACHE)
    assert step.timeout_seconds


# --- a turn --------------------------------------------------------------------------------------------------------


def test_a_turn_has_the_project_for_itself_and_its_settings_in_mlflow(project: Project) -> None:
    second = project.workspace.write_lock()
    with tasks.open_cycle(project) as turn, pytest.raises(UserError, match="another run is at work"), second:
        pytest.fail("two writers at once")
    with project.workspace.write_lock():
        run = run_of(project, turn)
    assert run.info.status == "FINISHED"
    assert run.data.params["embed.model"] == "tests.fakes:CountingEmbedder"


def test_a_second_turn_is_refused_before_anything_is_recorded(project: Project) -> None:
    with (
        project.workspace.write_lock(),
        pytest.raises(UserError, match="another run is at work"),
        tasks.open_cycle(project),
    ):
        pytest.fail("two turns at once")
    assert project.registry.history() == []


def test_a_deployed_turn_waits_for_whoever_is_at_work_and_is_named_by_its_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    own = RunQueue(uuid4(), "busy-bee", uuid4(), is_planned=True)
    monkeypatch.setattr(tasks, "coalesce_queue", lambda: nullcontext(own))
    monkeypatch.setattr(tasks, "get_run_logger", lambda: SimpleNamespace(warning=told.append))
    with ExitStack() as other:
        other.enter_context(project.workspace.write_lock(what="a command"))
        threading.Timer(1, other.close).start()
        with tasks.open_cycle(project):
            assert describe_holder(project.workspace.state).startswith("flow run busy-bee, process ")
    assert [one.split(",")[0] for one in told] == ["this run waits for a command"]


def test_a_turn_that_fails_says_so_and_frees_the_project(project: Project) -> None:
    with pytest.raises(ZeroDivisionError), tasks.open_cycle(project) as turn:
        raise ZeroDivisionError("by nought")
    assert run_of(project, turn).info.status == "FAILED"
    assert project.registry.history()[-1].outcome == "failed"
    with project.workspace.write_lock():
        assert project.registry.champion() is None


def test_the_data_is_read_once_a_turn_and_what_cannot_be_read_is_written_down(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, bool]] = []
    original = Project.corpus

    def counted(opened: Project, snapshot: Snapshot, keep: bool = False) -> Corpus:
        read.append((snapshot.id, keep))
        return original(opened, snapshot, keep)

    monkeypatch.setattr(Project, "corpus", counted)
    first = take_snapshot(project.workspace)
    with tasks.open_cycle(project) as turn:
        assert turn.read(first) is turn.read(first)
        write(project.workspace.kb / "late.md", "# Late\n\nCame later.\n")
        second = take_snapshot(project.workspace)
        assert set(turn.read(second).knowledge.texts) == {"pump.md", "late.md"}
    assert read == [(first.id, True), (second.id, True)]


# --- what came of it -----------------------------------------------------------------------------------------------


def verdict(project: Project, score: float) -> Verdict:
    """The gate's own verdict on a candidate of that score, against a live release without fault."""
    after: GradedAnswer = graded(score=score)
    return judge_candidate(scorecard(graded()), scorecard(after), {}, (), project.workspace.params)


def plan_of(limit: float | None = None, **signals: Any) -> Plan:
    gathered = evidence(**signals)
    decision = make_decision(gathered, PolicyParams(approve_above_seconds=limit))
    return Plan(evidence=gathered, decision=decision, params="p1")


NOTHING = plan_of(changes=UNCHANGED, delta=UNMOVED)
REFRESH = plan_of()
TOO_DEAR = plan_of(limit=0)
REMOVALS = plan_of(changes=UNCHANGED, delta=UNMOVED, pending_deletions={"a.md": "1"})


@pytest.mark.parametrize(
    ("plan", "score", "live", "outcome", "accepted"),
    [
        (NOTHING, None, None, "nothing", "no candidate"),
        (TOO_DEAR, None, None, "held", "no candidate"),
        (REMOVALS, None, None, "held", "no candidate"),
        (
            REFRESH,
            0.0,
            None,
            "rejected",
            "False",
        ),
        (REFRESH, 1.0, release(4), "released", "True"),
    ],
    ids=["nothing", "an action waits", "removals wait", "refused", "released"],
)
def test_what_came_of_a_turn_is_returned_and_written_down(
    plan: Plan, score: float | None, live: Release | None, outcome: str, accepted: str, project: Project
) -> None:
    with tasks.open_cycle(project) as turn:
        judged = None if score is None else verdict(project, score)
        turn.log.metrics({"work.index_seconds": 2, "work.embedded_chunks": 90, "work.prove_seconds": 0.5})
        cycle = tasks.conclude(turn, plan, judged, live)
    assert cycle.outcome == outcome
    assert cycle.release == (live.id if live else None)
    assert cycle.signals.get(ACTION_SECONDS) == (2.5 if plan is REFRESH else None)
    tags = run_of(project, turn).data.tags
    assert (tags["outcome"], tags["accepted"]) == (outcome, accepted)
    assert tags.get("index_version") == ("3" if live else None)


# --- imports -------------------------------------------------------------------------------------------------------


@pytest.fixture
def looked(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[Workspace]:
    """The projects whose imports were updated; one of two sources is away."""
    looked: list[Workspace] = []

    def update(workspace: Workspace) -> list[ImportUpdate]:
        looked.append(workspace)
        return [ImportUpdate("kb/docs", "s3://docs", changed=2), ImportUpdate("kb/wiki", "https://wiki", "is away")]

    monkeypatch.setattr(tasks, "update_imports", update)
    monkeypatch.setattr(tasks, "get_run_logger", lambda: SimpleNamespace(warning=lambda *_: None))
    return looked


def test_a_source_that_is_away_stops_no_turn_and_is_written_down(project: Project, looked: list[Workspace]) -> None:
    with tasks.open_cycle(project) as turn:
        assert tasks.observe.fn(turn, None).documents
    data = run_of(project, turn).data
    assert data.tags["imports_not_updated"] == "kb/wiki"
    assert (data.metrics["imports"], data.metrics["imports_not_updated"]) == (2, 1)
    assert len(looked) == 1


def test_imports_are_left_as_they_are_for_a_yes_to_this_very_data(project: Project, looked: list[Workspace]) -> None:
    given = Approval(
        plan="p",
        removals={},
        why="",
        at="2030-01-01",
        action=Action.RETRAIN,
        snapshot=take_snapshot(project.workspace).id,
    )
    given.write(project.workspace.approvals / "p.json")
    with tasks.open_cycle(project) as turn:
        tasks.observe.fn(turn, None)
    assert looked == []


def test_imports_can_be_turned_off(project: Project, looked: list[Workspace]) -> None:
    still = project.workspace.params.model_copy(update={"triggers": TriggerParams(update_imports=False)})
    with tasks.open_cycle(replace(project, workspace=replace(project.workspace, params=still))) as turn:
        tasks.observe.fn(turn, None)
    assert looked == []
