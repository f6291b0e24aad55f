"""Does scheduled upkeep hold the project while it works, and tell what was done and how large everything is?"""

from __future__ import annotations

from pathlib import Path

import pytest

from ragtide.flows import scheduled
from ragtide.flows.scheduled import maintain_step
from tests.conftest import write_project
from tests.factories import BASE, write
from tests.projects import Home, release_of


def test_upkeep_is_told_on_prefects_page_with_the_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(write_project(tmp_path / "project"))
    write(home.root / "data/kb/Pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    release_of(home.project, BASE)
    shown: list[str] = []
    monkeypatch.setattr(scheduled, "show_markdown", lambda key, markdown, description: shown.append(markdown))

    steps = maintain_step.fn(home.project)

    assert steps
    [page] = shown
    assert all(one.step in page for one in steps)
    assert "MLflow's database" in page
    with home.project.workspace.write_lock():
        pass  # It has let the project go.
