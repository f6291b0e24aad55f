"""Tests of the commands that decide and act: plan, run, approve, reject, policies, replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragtide.pipelines.history.history import ACTION_SECONDS
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.planning.plan import save_plan
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.interface import ComponentOptions, Recommendation, Recommendations
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.reason import Reason
from ragtide.pipelines.records.release import Cycle, Outcome
from ragtide.pipelines.registry.releases import Registry
from tests.factories import evidence
from tests.flows.cli.commands import (
    MakeProject,
    add_examples,
    at,
    cells,
    document,
    errors,
    files,
    fill,
    plan_digest,
)
from tests.flows.cli.test_data import FINE, LEAK


def test_a_plan_changes_neither_data_nor_registry_nor_index(make_project: MakeProject) -> None:
    root = fill(make_project())
    before = files(root)
    found = document(root, "plan")
    assert (found["kind"], found["plan"]["evidence"]["data"]["live_release"], found["pending_approval"]) == (
        "plan",
        None,
        None,
    )
    code, stdout, _ = at(root, "plan")
    assert (code, f"`ragtide run --plan {found['digest']}`" in stdout) == (0, True)
    assert plan_digest(root) == found["digest"]
    new = files(root).keys() - before.keys()
    assert all(name.startswith((".ragtide/plans", ".ragtide/answers")) for name in new)
    assert {name: content for name, content in files(root).items() if name in before} == before


def test_a_plan_counts_the_examples_that_are_filtered_out(make_project: MakeProject) -> None:
    root = add_examples(fill(make_project()), FINE, LEAK)
    code, stdout, _ = at(root, "plan")
    assert (code, "1 leak" in " ".join(stdout.split())) == (0, True)


def test_a_plan_that_needs_no_approval_cannot_be_approved(make_project: MakeProject) -> None:
    root = fill(make_project())
    assert at(root, "plan")[0] == 0
    code, stdout, stderr = at(root, "approve", plan_digest(root))
    assert (code, stdout) == (1, "")
    [line] = errors(stderr)
    assert plan_digest(root) in line


def test_a_declined_action_is_not_proposed_again_until_it_is_approved(make_project: MakeProject) -> None:
    root = fill(make_project(policy={"mode": "suggest"}))
    found = document(root, "run", code=3)
    digest = plan_digest(root)
    assert found["pending_approval"] == {"plan": digest, "action": "REFRESH", "removals": {}, "documents": {}}
    assert document(root, "status")["pending_approval"] == found["pending_approval"]
    assert at(root, "reject", digest)[0] == 2
    code, stdout, _ = at(root, "reject", digest, "--why", "not before the fair")
    assert (code, "REFRESH" in stdout) == (0, True)
    assert document(root, "status")["pending_approval"] is None
    code, stdout, _ = at(root, "run")
    assert (code, stdout.split(":")[0]) == (0, "NOTHING")
    assert "not before the fair" in " ".join(stdout.split())
    assert at(root, "approve", digest)[0] == 0
    assert at(root, "run")[1].split(":")[0] == "REFRESH"


def test_an_action_above_the_limit_is_carried_out_once_it_is_approved(make_project: MakeProject) -> None:
    root = fill(make_project(policy={"approve_above_seconds": 0}))
    code, stdout, _ = at(root, "run")
    digest = plan_digest(root)
    assert (code, stdout.split(":")[0]) == (3, "HOLD")
    assert f"`ragtide approve {digest}`" in stdout
    assert not files(root / ".ragtide/lance")
    code, stdout, _ = at(root, "approve", digest)
    assert (code, "REFRESH" in stdout) == (0, True)
    found = document(root, "run")
    assert (found["kind"], found["cycle"]["release"], found["pending_approval"]) == ("run", "1", None)
    assert found["plan"] == found["cycle"]["plan"]
    assert not list((root / ".ragtide/approvals").iterdir())
    answer, evaluation = document(root, "ask", "When?"), document(root, "evaluate")
    assert (answer["kind"], answer["release"], answer["question"]) == ("answer", "1", "When?")
    assert [passage["document"] for passage in answer["passages"]] == ["pump.md"]
    assert (evaluation["kind"], evaluation["release"], "answer_score" in evaluation["scorecard"]) == (
        "evaluation",
        "1",
        True,
    )
    history = document(root, "history")
    assert (history["kind"], [cycle["release"] for cycle in history["cycles"]]) == ("history", [None, "1"])


def test_a_history_without_a_cycle_names_the_command_that_runs_one(make_project: MakeProject) -> None:
    root = make_project()
    assert document(root, "history")["cycles"] == []
    code, stdout, _ = at(root, "history")
    assert (code, "`ragtide run`" in stdout) == (0, True)


# --- policies and replay -------------------------------------------------------------------------------------------

KNOWN = ("evidence", "always", "never", "periodic", "amount", "cusum", "drift", "cara", "modyn")


class Eager:
    """Recommends whatever [can] be built,
    at once.

    The rest is for readers of the code.
    """

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:
        build = Recommendation(True, (Reason.custom("why not"),), Reason.custom("under no other evidence"))
        return Recommendations(refresh=build, retrain=build)


def recorded(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, **blocks: dict[str, object]) -> Path:
    """A project with one recorded cycle: a refresh that took 42 s and gained 25 points."""
    root = make_project(**blocks)
    seen = evidence()
    plan = Plan(evidence=seen, decision=make_decision(seen, PolicyParams()), params="p1")
    cycle = Cycle(
        name="cycle-0001",
        run="",
        at="2030-01-01T12:34:56+00:00",
        action=Action.REFRESH,
        outcome=Outcome.RELEASED,
        reason="",
        plan=save_plan(Project.open(root, no_progress), plan),
        release="2",
        score_before=0.5,
        score_after=0.75,
        signals={ACTION_SECONDS: 42.0},
    )
    monkeypatch.setattr(Registry, "history", lambda _: [cycle])
    return root


@pytest.mark.usefixtures("wide")
def test_the_policies_are_listed_and_the_active_one_is_marked(make_project: MakeProject) -> None:
    root = make_project(policy={"name": "never"})
    found = document(root, "policies")
    assert (found["kind"], found["active"], tuple(found["policies"])) == ("policies", "never", KNOWN)
    assert all(description.endswith(".") for description in found["policies"].values())
    rows = cells(at(root, "policies")[1])
    assert tuple(row[1] for row in rows) == KNOWN
    assert [row[1] for row in rows if row[0]] == ["never"]


@pytest.mark.usefixtures("wide")
def test_an_active_policy_of_the_users_own_is_listed_too(make_project: MakeProject) -> None:
    name = f"{__name__}:Eager"
    code, stdout, _ = at(make_project(policy={"name": name}), "policies")
    assert code == 0
    assert cells(stdout)[-1] == ["→", name, "Recommends whatever [can] be built, at once."]


@pytest.mark.usefixtures("wide")
def test_all_policies_are_replayed_by_default_and_summed_up(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = recorded(make_project, monkeypatch)
    found = document(root, "replay")
    assert (found["kind"], tuple(total["policy"] for total in found["totals"])) == ("replay", KNOWN)
    assert [(total["points"], total["seconds"]) for total in found["totals"][:3]] == [
        (25.0, 42.0),
        (8.0, 330.0),
        (0.0, 0.0),
    ]
    code, stdout, _ = at(root, "replay")
    rows = cells(stdout)
    assert code == 0
    assert tuple(row[0] for row in rows[1:]) == KNOWN
    assert [row[1:] for row in rows[:4]] == [
        ["+25.0", "42", "0", ""],
        ["+25.0", "42", "0", "0"],
        ["+8.0", "330", "1", "1"],
        ["+0.0", "0", "0", "1"],
    ]


@pytest.mark.usefixtures("wide")
def test_a_named_policy_is_replayed_cycle_by_cycle(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    root = recorded(make_project, monkeypatch)
    arguments = ("replay", "--policy", "never", "--policy", "always")
    found = document(root, *arguments)
    assert [[cycle["would"] for cycle in cycles] for cycles in found["cycles"].values()] == [
        ["NOTHING"],
        ["REFRESH+RETRAIN"],
    ]
    code, stdout, _ = at(root, *arguments)
    rows = cells(stdout)
    assert code == 0
    assert rows[0] == ["2030-01-01 12:34", "REFRESH", "NOTHING", "+25.0 → +0.0", "42 → 0"]
    assert rows[1] == ["2030-01-01 12:34", "REFRESH", "REFRESH+RETRAIN", "+25.0 → +8.0", "42 → 330"]
    assert [row[0] for row in rows[3:]] == ["never", "always"]


def test_a_replay_uses_the_projects_own_settings(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    root = recorded(make_project, monkeypatch, policy={"points_per_hour": 100000.0})
    [cycle] = document(root, "replay", "--policy", "evidence")["cycles"]["evidence"]
    assert (cycle["was"], cycle["would"]) == ("REFRESH", "NOTHING")


def test_a_replay_changes_nothing(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    root = recorded(make_project, monkeypatch)
    before = files(root)
    assert at(root, "replay")[0] == 0
    assert files(root) == before


@pytest.mark.parametrize("name", ["nonsense", "tests:Nobody", "no_such_module:Policy"])
def test_an_unknown_policy_cannot_be_replayed(
    name: str, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, stdout, stderr = at(recorded(make_project, monkeypatch), "replay", "--policy", name)
    assert (code, stdout) == (1, "")
    [line] = errors(stderr)
    assert f"policy.name = {name!r}" in line


def test_an_unknown_policy_in_the_settings_is_an_error_that_lists_the_known_ones(make_project: MakeProject) -> None:
    code, stdout, stderr = at(make_project(policy={"name": "nonsense"}), "policies")
    assert (code, stdout) == (1, "")
    [line] = errors(stderr)
    assert all(name in line for name in KNOWN)


def test_a_replay_needs_a_recorded_cycle(make_project: MakeProject) -> None:
    code, stdout, stderr = at(make_project(), "replay")
    assert (code, stdout) == (1, "")
    [line] = errors(stderr)
    assert "`ragtide run`" in line


@pytest.mark.parametrize("command", ["policies", "replay"])
def test_outside_of_a_project_the_error_names_init(command: str, tmp_path: Path) -> None:
    code, stdout, stderr = at(tmp_path, command)
    assert (code, stdout) == (1, "")
    [line] = errors(stderr)
    assert "ragtide init" in line
    assert not list(tmp_path.iterdir())
