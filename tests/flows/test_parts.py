"""Tests of the parts of an action: each is proven by itself, and the best combination goes live."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.pipelines.planning.status import project_status
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import Check
from ragtide.pipelines.release import proof
from ragtide.pipelines.release.rollback import roll_back
from tests import fakes
from tests.factories import write
from tests.flows.cycle_project import NEW, OLD, QUESTION, CycleProject, write_cycle_project

# Questions about this page are answered by the base model too (tests/fakes.py).
SPOILING = "tests.fakes:SpoilingTrainer"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> CycleProject:
    """A project before its first cycle."""
    return write_cycle_project(tmp_path_factory.mktemp("parts") / "home")


@pytest.fixture(scope="module")
def trained(fresh: CycleProject, tmp_path_factory: pytest.TempPathFactory) -> CycleProject:
    """A project after its first cycle, in which a good adapter went live."""
    home = fresh.copy(tmp_path_factory.mktemp("trained") / "home")
    home.run_cycle()
    return home


@pytest.fixture
def home(trained: CycleProject, tmp_path: Path) -> CycleProject:
    return trained.copy(tmp_path / "home")


def parts(home: CycleProject) -> list[tuple[Action, bool, str | None]]:
    return [(part.action, part.accepted, part.release) for part in home.history[-1].parts]


def test_the_index_goes_live_before_the_model_that_was_trained_on_it(trained: CycleProject) -> None:
    assert parts(trained) == [(Action.REFRESH, True, "1"), (Action.RETRAIN, True, "2")]
    index, model = trained.project.registry.releases()
    assert (index.model.adapter, index.decision, model.previous) == (None, Action.REFRESH, "1")
    assert (model.index.version, model.decision) == (index.index.version, Action.RETRAIN)
    first, second = trained.history[-1].parts
    assert first.score_after == second.score_before
    assert (trained.history[-1].score_before, trained.history[-1].score_after) == (0.0, second.score_after)


def test_rolling_back_takes_back_the_model_alone(home: CycleProject) -> None:
    assert roll_back(home.project.registry, None, "worse answers").id == "1"
    assert home.live.model.adapter is None
    again = home.run_cycle()
    assert (again.decision, home.live.id) == ("NOTHING", "1")


def test_a_first_adapter_that_answers_worse_than_the_base_model_does_not_go_live(
    fresh: CycleProject, tmp_path: Path
) -> None:
    home = fresh.copy(tmp_path / "home")
    home.set("finetune", trainer=SPOILING)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.outcome) == ("REFRESH+RETRAIN", "released")
    assert parts(home) == [(Action.REFRESH, True, "1"), (Action.RETRAIN, False, None)]
    assert home.live.model.adapter is None
    assert "base model" in cycle.detail


def test_a_spoilt_model_does_not_hide_behind_a_good_refresh_nor_drag_it_down(home: CycleProject) -> None:
    home.set("finetune", trainer=SPOILING)
    home.page("Tank", NEW)
    home.golden(Tank=NEW)
    result = CliRunner().invoke(
        app, ["run", "--action", "REFRESH+RETRAIN", "--why", "to see", "--json", "-p", str(home.root)]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["cycle"]["outcome"] == "released"
    assert parts(home) == [(Action.REFRESH, True, "3"), (Action.RETRAIN, False, None)]
    assert (home.answer("Tank"), home.answer("Valve")) == (NEW, OLD)


def test_a_harmful_adapter_that_is_live_gives_way_to_the_base_model(home: CycleProject) -> None:
    """It had been released before parts were compared."""
    live = home.live
    assert live.model.adapter is not None
    skills = home.project.workspace.adapters / live.model.adapter / fakes.SKILLS
    skills.write_text(json.dumps({"spoils": True}))
    shutil.rmtree(home.project.workspace.answers)
    write(home.root / "data/golden/q.jsonl", _golden_for_the_base_model(home))
    home.page("Late", OLD)
    cycle = home.run_cycle()
    assert parts(home) == [(Action.REFRESH, False, "3")]
    assert (cycle.outcome, home.live.model.adapter) == ("released", None)


def _golden_for_the_base_model(home: CycleProject) -> str:
    """Questions that the fake base model answers, as it does one in three."""
    names = [name for name in map(_name, range(60)) if not len(QUESTION.format(name)) % 3][:8]
    for name in names:
        home.page(name, OLD)
    rows = [{"question": QUESTION.format(name), "answers": [OLD], "docs": [f"{name}.md"]} for name in names]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _name(number: int) -> str:
    return f"Part{'x' * (number % 7)}{number}"


def test_deleted_documents_leave_the_index_although_the_gate_rejects_their_refresh(home: CycleProject) -> None:
    """The question about the pump names no page: its answer is lost to the deletion, and to no changed page."""
    (home.root / "data/kb/Pump.md").unlink()
    home.page("Motor", NEW)
    cycle = home.run_cycle()
    assert (cycle.decision, cycle.outcome) == ("REFRESH", "released")
    assert parts(home) == [(Action.REMOVE, True, "3"), (Action.REFRESH, True, "4")]
    assert home.documents() == {"Tank.md", "Valve.md", "Motor.md", "Gear.md"}
    assert home.answer("Motor") == NEW
    removal = home.project.registry.release("3")
    assert (removal.decision, removal.snapshot) == (Action.REMOVE, home.project.registry.release("2").snapshot)
    assert home.run_cycle().decision == "NOTHING"


def test_deleted_documents_leave_the_index_although_nothing_else_may(
    home: CycleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = proof.judge_candidate

    def judged(*arguments: Any) -> Any:
        broken = Check(name="answer score", passed=False, detail="worse")
        return original(*arguments).model_copy(update={"accepted": False, "checks": (broken,)})

    monkeypatch.setattr(proof, "judge_candidate", judged)
    (home.root / "data/kb/Motor.md").unlink()
    home.page("Tank", NEW)
    cycle = home.run_cycle()
    assert (cycle.outcome, cycle.release) == ("rejected", "3")
    assert parts(home) == [(Action.REMOVE, True, "3"), (Action.REFRESH, False, None)]
    assert home.documents() == {"Pump.md", "Tank.md", "Valve.md", "Gear.md"}
    assert home.answer("Tank") == OLD
    assert project_status(home.project, datetime.now(UTC)).freshness.stale_since is not None


def test_an_action_by_hand_is_recorded_with_who_and_why(home: CycleProject) -> None:
    run = CliRunner()
    asked = ["run", "-p", str(home.root), "--action", "RETRAIN"]
    assert run.invoke(app, asked).exit_code == 1
    assert run.invoke(app, [*asked[:3], "--action", "SLEEP", "--why", "tired"]).exit_code == 1
    before = home.history
    assert run.invoke(app, [*asked, "--why", "a better trainer"]).exit_code == 0
    [cycle] = home.history[len(before) :]
    assert (cycle.decision, cycle.outcome) == ("RETRAIN", "released")
    assert "a better trainer" in cycle.reason
    assert home.run(cycle).data.tags["policy"] == "by hand"


def test_the_adapter_can_be_dropped_by_hand_whatever_it_answers(home: CycleProject) -> None:
    before = home.live
    dropped = CliRunner().invoke(app, ["release", "--without-adapter", "--why", "it must go", "-p", str(home.root)])
    assert dropped.exit_code == 0, dropped.output
    assert (home.live.model.adapter, home.live.index) == (None, before.index)
    assert (home.history[-1].decision, home.live.previous) == ("DROP_ADAPTER", before.id)
    assert home.run_cycle().decision == "NOTHING"
