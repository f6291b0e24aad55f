"""Tests of idle cycles: unchanged inputs reuse the last evidence, any other state is measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.history.withheld import withhold_documents
from ragtide.pipelines.models.load import Models
from ragtide.pipelines.planning import reuse
from ragtide.pipelines.planning.plan import make_plan, save_plan
from ragtide.pipelines.planning.reuse import CurrentPlan, digest_inputs, make_current_plan
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Approval, Rejection
from ragtide.pipelines.reports.signals import evidence_metrics
from tests import fakes
from tests.conftest import write_project
from tests.factories import BASE, write
from tests.fakes import CountingEmbedder, CountingReader, CountingTrainer
from tests.projects import Home, release_of

ROOT = Path(__file__).parents[3]
PAGE = "# {0}\n\n## {0} 1\n\n- End of life: {1}\n"
QUESTION = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["Pump.md"]}
WITHOUT_MODELS = """
import sys
for name in ("torch", "transformers", "openvino", "sentence_transformers", "tokenizers"):
    sys.modules[name] = None
"""


@dataclass
class IdleProject(Home):
    """A project with a live release; `read` are the snapshots whose corpus a plan read."""

    read: list[str] = field(default_factory=list)

    def page(self, name: str, end_of_life: str = "2027-01-01") -> None:
        write(self.root / f"data/kb/{name}.md", PAGE.format(name, end_of_life))

    def plan(self, project: Project | None = None) -> CurrentPlan:
        """The current plan, with what was read and asked counted anew."""
        fakes.forget()
        self.read.clear()
        opened = project or self.project

        def corpus(snapshot: Snapshot) -> Corpus:
            self.read.append(snapshot.id)
            return opened.corpus(snapshot, keep=True)

        return make_current_plan(opened, take_snapshot(opened.workspace), corpus)

    def decide(self, project: Project | None = None, **tags: str) -> CurrentPlan:
        """A cycle that decides and builds nothing, as MLflow records it."""
        opened = project or self.project
        current = self.plan(opened)
        with opened.registry.cycle() as log:
            recorded = {"data_rev": current.plan.evidence.data.snapshot, "params": current.plan.params}
            recorded |= {"decision": str(current.plan.decision.action), "outcome": "nothing", "inputs": current.inputs}
            recorded |= {"plan": save_plan(opened, current.plan), "measured_in": current.measured_in or ""}
            log.tags(recorded | tags)
            log.metrics(evidence_metrics(current.plan.evidence))
        return current

    @property
    def is_idle(self) -> bool:
        """Whether the next plan reuses evidence, reads nothing and asks no model."""
        current = self.plan()
        calls = [*CountingEmbedder.embedded, *CountingReader.prompts, *CountingReader.judged]
        assert bool(self.read) is not bool(current.measured_in)
        return current.measured_in is not None and not calls


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = IdleProject(write_project(tmp_path_factory.mktemp("idle") / "home"))
    for name in ("Pump", "Tank", "Valve"):
        home.page(name)
    write(home.root / "data/golden/q.jsonl", json.dumps(QUESTION) + "\n")
    release_of(home.project, BASE)
    home.decide()
    return home.root


@pytest.fixture
def home(template: Path, tmp_path: Path) -> IdleProject:
    shutil.copytree(template, tmp_path / "home")
    return IdleProject(tmp_path / "home")


def test_unchanged_inputs_read_nothing_ask_no_model_and_give_the_plan_that_measuring_gives(home: IdleProject) -> None:
    current = home.plan()
    assert (home.read, CountingEmbedder.embedded, CountingReader.prompts, CountingReader.judged) == ([], [], [], [])
    assert (current.measured_in, current.plan.evidence.signal_seconds) == ("cycle-0002", {})
    project = home.project
    measured = make_plan(project, project.corpus(take_snapshot(project.workspace)))
    assert current.plan.content_digest() == measured.content_digest()
    assert current.plan.decision.action == Action.NOTHING


def test_reused_evidence_names_the_cycle_that_measured_it_however_often_it_is_reused(home: IdleProject) -> None:
    assert [home.decide().measured_in for _ in range(3)] == ["cycle-0002"] * 3
    assert len(home.plan().plan.evidence.limits.past) == 4


def edit(home: IdleProject) -> None:
    home.page("Tank", "2031-05-05")


def ask_more(home: IdleProject) -> None:
    write(home.root / "data/golden/more.jsonl", json.dumps(QUESTION | {"question": "When does Pump 1 end?"}) + "\n")


def set_params(home: IdleProject) -> None:
    home.set("policy", points_per_hour=51.0)


def release_again(home: IdleProject) -> None:
    release_of(home.project, BASE)


def approve(home: IdleProject) -> None:
    approval = Approval(plan="p1", removals={"Old.md": "d1"}, why="gone", at="2030-01-01T00:00:00+00:00")
    approval.write(home.root / ".ragtide/approvals/p1.json")


def reject(home: IdleProject) -> None:
    rejection = Rejection(
        plan="p1", removals={"Old.md": "d1"}, actions=(), snapshot="s", params="p", why="no", at="2030"
    )
    rejection.write(home.root / ".ragtide/rejections/p1.json")


def withhold(home: IdleProject) -> None:
    workspace = home.project.workspace
    withhold_documents(workspace, take_snapshot(workspace), {"Tank.md": ("q1",)})


def lose_plans(home: IdleProject) -> None:
    shutil.rmtree(home.root / ".ragtide/plans")


def damage_plans(home: IdleProject) -> None:
    for file in (home.root / ".ragtide/plans").glob("*.json"):
        file.write_text('{"record_version": 2}', encoding="utf-8")


def add_unusable_file(home: IdleProject) -> None:
    (home.root / "data/kb/Lost.md").symlink_to("/nowhere")


@pytest.mark.parametrize(
    "change",
    [
        edit,
        ask_more,
        set_params,
        release_again,
        approve,
        reject,
        withhold,
        lose_plans,
        damage_plans,
        add_unusable_file,
    ],
)
def test_any_other_state_is_measured(change: Callable[[IdleProject], None], home: IdleProject) -> None:
    assert home.is_idle
    change(home)
    assert not home.is_idle
    home.decide()
    assert home.is_idle


@pytest.mark.parametrize(
    ("owner", "name"),
    [(CountingEmbedder, "fingerprint"), (CountingReader, "base"), (reuse, "CHUNKER"), (reuse, "FORM")],
)
def test_other_weights_and_another_version_of_the_software_are_other_inputs(
    owner: Any, name: str, home: IdleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = take_snapshot(home.project.workspace)
    before = digest_inputs(home.project, snapshot)
    monkeypatch.setattr(owner, name, "another")
    assert digest_inputs(home.project, snapshot) != before


@pytest.mark.parametrize(("tags", "is_idle"), [({"outcome": "failed"}, True), ({"inputs": "other"}, False)])
def test_only_the_last_cycle_that_came_to_its_end_counts(
    tags: dict[str, str], is_idle: bool, home: IdleProject
) -> None:
    home.decide(**tags)
    assert home.is_idle is is_idle


def test_a_document_that_is_to_be_tried_again_is_read_until_its_attempts_are_used_up(home: IdleProject) -> None:
    write(home.root / "data/kb/Bad.md", b"caf\xe9 \xff\x00")
    limit = home.project.workspace.params.data.max_attempts
    assert [bool(home.decide().measured_in) for _ in range(limit + 1)] == [False] * limit + [True]
    assert home.is_idle


def test_a_fact_that_waited_becomes_due_without_measuring(home: IdleProject, monkeypatch: pytest.MonkeyPatch) -> None:
    home.set("freshness", max_lag_hours=24.0)
    # A fact alone is worth nothing.
    home.set("policy", points_per_hour=1_000_000.0)
    schedule = "deployments: [{entrypoint: 'flows/keep_current.py:keep_current', schedules: [{interval: 3600}]}]"
    write(home.root / "prefect.yaml", schedule)
    home.page("Tank", "2031-05-05")
    waiting = home.decide().plan
    assert (waiting.decision.action, waiting.evidence.data.facts_are_due) == (Action.NOTHING, False)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            return cls.fromtimestamp((datetime.now(UTC) + timedelta(hours=23.5)).timestamp(), tz)

    assert home.plan().plan.decision.action == Action.NOTHING
    monkeypatch.setattr(reuse, "datetime", Later)
    current = home.plan()
    assert (current.plan.decision.action, current.measured_in, home.read) == (Action.REFRESH, "cycle-0003", [])


def test_the_plan_command_on_unchanged_inputs_imports_no_library_of_models(home: IdleProject, tmp_path: Path) -> None:
    for block in ("embed", "generate"):
        write(tmp_path / block / "config.json", f'{{"name": "{block}"}}')
        home.set(block, model=str(tmp_path / block))
    home.set("finetune", trainer="lora")
    real = home.project
    fake = replace(real, models=Models(CountingEmbedder(), CountingReader(), CountingTrainer()))
    home.decide(fake, inputs=digest_inputs(real, take_snapshot(real.workspace)))
    write(tmp_path / "site/sitecustomize.py", WITHOUT_MODELS)
    finished = subprocess.run(
        [sys.executable, "-m", "ragtide", "plan", "--json", "-p", str(home.root)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["measured_in"] == "cycle-0003"
