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

from ragtide.flows import cycle_context, tasks
from ragtide.flows.conclusion import conclude, record_part
from ragtide.flows.cycle_context import CycleContext, open_cycle
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
from ragtide.pipelines.records.release import Cycle, Release
from ragtide.pipelines.registry.backup import backups
from ragtide.pipelines.release.proof import Proof
from ragtide.pipelines.workspace import Workspace
from tests.conftest import write_project
from tests.factories import UNCHANGED, UNMOVED, evidence, graded, release, scorecard, write

STEPS = ("observe", "decide", "refresh_index", "retrain_model", "prove", "publish", "run_maintenance")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an empty MLflow database, to be copied."""
    root = write_project(tmp_path_factory.mktemp("tasks") / "project")
    write(root / "data/kb/pump.md", "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n")
    golden = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["pump.md"]}
    write(root / "data/golden/q.jsonl", json.dumps(golden) + "\n")
    project = Project.open(root, no_progress)
    project.workspace.state.mkdir()
    MlflowClient(tracking_uri=project.workspace.tracking_uri).search_experiments()
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    shutil.copytree(template, tmp_path / "project")
    return Project.open(tmp_path / "project", no_progress)


def run_of(project: Project, context: CycleContext) -> Run:
    return MlflowClient(tracking_uri=project.workspace.tracking_uri).get_run(context.log.id)


# --- retries -------------------------------------------------------------------------------------------------------


def call_step(problems: list[Exception]) -> tuple[int, Exception | None]:
    """The number of calls of a step that raises `problems` one after the other, and its final error."""
    remaining, calls = list(problems), []

    def work() -> str:
        calls.append("called")
        if remaining:
            raise remaining.pop(0)
        return "done"

    # Prefect waits between two attempts; here without a delay.
    sample_step: Any = tasks.step("sample")(work)
    immediate = sample_step.with_options(retry_delay_seconds=0)

    @flow(name="sample", persist_result=False)
    def run_step() -> str:
        return str(immediate())

    try:
        assert run_step() == "done"
    except (UserError, OSError, ValueError) as problem:
        return len(calls), problem
    return len(calls), None


def test_a_step_without_an_error_is_called_once() -> None:
    assert call_step([]) == (1, None)


def test_a_user_error_is_not_retried() -> None:
    error = UserError("put the file right")
    assert call_step([error] * 9) == (1, error)


@pytest.mark.parametrize(
    "problem", [ConnectionError("the store is unavailable"), ValueError("locked"), OSError("no space")]
)
def test_another_error_is_retried_twice_and_then_raised(problem: Exception) -> None:
    assert call_step([problem] * 9) == (3, problem)


def test_a_transient_error_is_overcome_by_retries() -> None:
    assert call_step([ConnectionError("the store is unavailable")]) == (2, None)
    assert call_step([ConnectionError("the store is unavailable"), TimeoutError("a lock")]) == (3, None)


def test_a_user_error_ends_the_retries() -> None:
    error = UserError("the adapter is missing")
    assert call_step([ConnectionError("the store is unavailable"), error, error]) == (2, error)


@pytest.mark.parametrize("name", STEPS)
def test_each_step_has_retries_and_a_timeout_and_stores_no_result_in_prefect(name: str) -> None:
    step = getattr(tasks, name)
    assert step.name == name.replace("_", "-").removeprefix("run-").replace("maintenance", "maintain")
    assert (step.retries, step.persist_result, step.cache_policy) == (2, False, NO_CACHE)
    assert step.timeout_seconds


# --- cycles --------------------------------------------------------------------------------------------------------


def test_a_cycle_holds_the_lock_and_logs_its_settings(project: Project) -> None:
    second = project.workspace.write_lock()
    with open_cycle(project) as context, pytest.raises(UserError, match="another run is at work"), second:
        pytest.fail("two writers at once")
    with project.workspace.write_lock():
        run = run_of(project, context)
    assert run.info.status == "FINISHED"
    assert run.data.params["embed.model"] == "tests.fakes:CountingEmbedder"


def test_a_second_cycle_fails_before_anything_is_recorded(project: Project) -> None:
    with (
        project.workspace.write_lock(),
        pytest.raises(UserError, match="another run is at work"),
        open_cycle(project),
    ):
        pytest.fail("two cycles at once")
    assert project.registry.history() == []


def test_a_deployed_cycle_waits_for_the_current_writer_and_is_named_by_its_flow_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    own = RunQueue(uuid4(), "busy-bee", uuid4(), is_planned=True)
    monkeypatch.setattr(cycle_context, "coalesce_queue", lambda: nullcontext(own))
    monkeypatch.setattr(cycle_context, "get_run_logger", lambda: SimpleNamespace(warning=warnings.append))
    with ExitStack() as other:
        other.enter_context(project.workspace.write_lock(what="a command"))
        threading.Timer(1, other.close).start()
        with open_cycle(project):
            assert describe_holder(project.workspace.state).startswith("flow run busy-bee, process ")
    assert [warning.split(",")[0] for warning in warnings] == ["this run waits for a command"]


def test_a_failed_cycle_is_recorded_and_frees_the_lock(project: Project) -> None:
    with pytest.raises(ZeroDivisionError), open_cycle(project) as context:
        raise ZeroDivisionError("division by zero")
    assert run_of(project, context).info.status == "FAILED"
    assert project.registry.history()[-1].outcome == "failed"
    with project.workspace.write_lock():
        assert project.registry.champion() is None


def test_the_data_is_read_once_per_snapshot_with_the_quarantine_updated(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, bool]] = []
    original = Project.corpus

    def counted(opened: Project, snapshot: Snapshot, keep: bool = False) -> Corpus:
        read.append((snapshot.id, keep))
        return original(opened, snapshot, keep)

    monkeypatch.setattr(Project, "corpus", counted)
    first = take_snapshot(project.workspace)
    with open_cycle(project) as context:
        assert context.read(first) is context.read(first)
        write(project.workspace.kb / "late.md", "# Late\n\nCame later.\n")
        second = take_snapshot(project.workspace)
        assert set(context.read(second).knowledge.texts) == {"pump.md", "late.md"}
    assert read == [(first.id, True), (second.id, True)]


# --- outcomes ------------------------------------------------------------------------------------------------------


def verdict(project: Project, score: float) -> Verdict:
    """The gate's verdict on a candidate of that score, compared with a live release without errors."""
    after: GradedAnswer = graded(score=score)
    return judge_candidate(scorecard(graded()), scorecard(after), (), project.workspace.params)


def conclude_with(context: CycleContext, plan: Plan, judged: Verdict | None, live: Release | None) -> Cycle:
    """Conclude a cycle whose one candidate got this verdict and became this release."""
    context.live = live
    context.work.update({"index_seconds": 2, "prove_seconds": 0.5})
    if judged is not None:
        record_part(context, plan, plan.decision.action, Proof(judged, live or release(4), judged, ()), live)
    return conclude(context, plan)


def plan_of(limit: float | None = None, **signals: Any) -> Plan:
    gathered = evidence(**signals)
    decision = make_decision(gathered, PolicyParams(approve_above_seconds=limit))
    return Plan(evidence=gathered, decision=decision, params="p1")


NOTHING = plan_of(changes=UNCHANGED, delta=UNMOVED)
REFRESH = plan_of()
OVER_LIMIT = plan_of(limit=0)
DELETIONS = plan_of(changes=UNCHANGED, delta=UNMOVED, pending_deletions={"a.md": "1"})


@pytest.mark.parametrize(
    ("plan", "score", "live", "outcome", "accepted"),
    [
        (NOTHING, None, None, "nothing", "no candidate"),
        (OVER_LIMIT, None, None, "held", "no candidate"),
        (DELETIONS, None, None, "held", "no candidate"),
        (
            REFRESH,
            0.0,
            None,
            "rejected",
            "False",
        ),
        (REFRESH, 1.0, release(4), "released", "True"),
    ],
    ids=["nothing", "a pending action", "pending deletions", "rejected", "released"],
)
def test_the_outcome_of_a_cycle_is_returned_and_recorded(
    plan: Plan, score: float | None, live: Release | None, outcome: str, accepted: str, project: Project
) -> None:
    with open_cycle(project) as context:
        judged = None if score is None else verdict(project, score)
        cycle = conclude_with(context, plan, judged, live)
    assert cycle.outcome == outcome
    assert cycle.release == (live.id if live else None)
    assert cycle.signals.get(ACTION_SECONDS) == (2.5 if plan is REFRESH else None)
    tags = run_of(project, context).data.tags
    assert (tags["outcome"], tags["accepted"]) == (outcome, accepted)
    assert tags.get("index_version") == ("3" if live else None)
    # The project is no DVC repository: its stages cannot be committed, which is noted and changes no outcome.
    assert ("stages_not_committed" in tags) is (plan is REFRESH)
    kept = [backup.name for backup in backups(project.workspace.mlflow_database)]
    assert kept == ([f"mlflow-release-{live.id}.db"] if live else [])


def test_a_release_that_cannot_be_backed_up_is_released_all_the_same(project: Project) -> None:
    write(project.workspace.state / "backups", "a file in the way")
    with open_cycle(project) as context:
        cycle = conclude_with(context, REFRESH, verdict(project, 1.0), release(4))
    assert cycle.outcome == "released"
    assert "not_backed_up" in run_of(project, context).data.tags


# --- imports -------------------------------------------------------------------------------------------------------


@pytest.fixture
def updated(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[Workspace]:
    """The projects whose imports were updated; one of two sources is unavailable."""
    updated: list[Workspace] = []

    def update(workspace: Workspace) -> list[ImportUpdate]:
        updated.append(workspace)
        return [
            ImportUpdate("kb/docs", "s3://docs", changed=2),
            ImportUpdate("kb/wiki", "https://wiki", "is unavailable"),
        ]

    monkeypatch.setattr(tasks, "update_imports", update)
    return updated


def test_an_unavailable_import_source_is_recorded_and_the_cycle_continues(
    project: Project, updated: list[Workspace]
) -> None:
    with open_cycle(project) as context:
        assert tasks.observe.fn(context, None).documents
    data = run_of(project, context).data
    assert data.tags["imports_not_updated"] == "kb/wiki"
    assert (data.metrics["imports"], data.metrics["imports_not_updated"]) == (2, 1)
    assert len(updated) == 1


def test_imports_are_not_updated_while_an_approval_covers_the_current_data(
    project: Project, updated: list[Workspace]
) -> None:
    approval = Approval(
        plan="p",
        removals={},
        why="",
        at="2030-01-01",
        action=Action.RETRAIN,
        snapshot=take_snapshot(project.workspace).id,
    )
    approval.write(project.workspace.approvals / "p.json")
    with open_cycle(project) as context:
        tasks.observe.fn(context, None)
    assert updated == []


def test_imports_can_be_turned_off(project: Project, updated: list[Workspace]) -> None:
    without_updates = project.workspace.params.model_copy(update={"triggers": TriggerParams(update_imports=False)})
    with open_cycle(replace(project, workspace=replace(project.workspace, params=without_updates))) as context:
        tasks.observe.fn(context, None)
    assert updated == []
