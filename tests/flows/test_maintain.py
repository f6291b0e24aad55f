"""Tests of scheduled maintenance: its report on Prefect's page, and the release of the write lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragtide.flows import scheduled
from ragtide.flows.scheduled import maintain_step
from tests.conftest import write_project
from tests.factories import BASE, write
from tests.projects import Home, release_of


def test_prefects_page_shows_the_steps_and_the_sizes_of_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(write_project(tmp_path / "project"))
    write(home.root / "data/kb/Pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    release_of(home.project, BASE)
    shown: list[str] = []
    monkeypatch.setattr(scheduled, "show_markdown", lambda key, markdown, description: shown.append(markdown))

    steps = maintain_step.fn(home.project)

    assert steps
    [page] = shown
    assert all(step.step in page for step in steps)
    assert "MLflow database" in page
    with home.project.workspace.write_lock():
        pass  # The lease is free again.
