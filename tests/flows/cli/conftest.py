"""Fixtures of the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltModel
from tests.factories import md5, write
from tests.fakes import SKILLS
from tests.flows.cli.commands import PAGE, MakeProject, at, fill
from tests.projects import release_of


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which no cell is broken into lines."""
    monkeypatch.setattr("ragtide.flows.cli.console.out._width", 200)


@pytest.fixture
def indexed(make_project: MakeProject) -> Path:
    """A project with an index and no release."""
    root = fill(make_project())
    assert at(root, "stage", "index")[0] == 0
    return root


@pytest.fixture
def trained(make_project: MakeProject) -> Path:
    """Two releases whose adapter was trained on answers of pump.md, with tank.md in the context."""
    root = fill(make_project())
    write(root / "data/kb/tank.md", PAGE.replace("Pump", "Tank"))
    project = Project.open(root, no_progress)
    write(project.workspace.adapters / "a1b2" / SKILLS, "{}")
    seen = {"pump.md": md5(PAGE), "tank.md": md5(PAGE.replace("Pump", "Tank"))}
    model = BuiltModel(
        base="reader-1", adapter="a1b2", examples=None, settings=None, trained_on=("d1",), documents=seen
    )
    for _ in range(2):
        release_of(project, model.model_copy(update={"source_documents": ("pump.md",)}))
    return root
