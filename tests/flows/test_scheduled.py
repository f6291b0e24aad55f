"""Tests of the scheduled evaluation: scores on Prefect's page and in the terminal, and no live release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragtide.flows import scheduled
from ragtide.flows.cli.main import app
from tests.conftest import write_project
from tests.factories import BASE, write
from tests.projects import Home, release_of

QUESTION = "When does Pump reach end of life?"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(write_project(tmp_path / "project"))
    write(home.root / "data/kb/Pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    golden = {"question": QUESTION, "answers": ["2027-01-01"], "docs": ["Pump.md"]}
    write(home.root / "data/golden/q.jsonl", json.dumps(golden))
    return home


def test_prefects_page_shows_the_scores_with_a_link_to_mlflow(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    release = release_of(home.project, BASE)
    shown: list[tuple[str, str, str]] = []
    monkeypatch.setattr(
        scheduled,
        "show_markdown",
        lambda _, markdown, description, address: shown.append((markdown, description, address)),
    )
    scorecard = scheduled.score_live.fn(home.project, release)
    [(markdown, description, address)] = shown
    assert (scorecard.snapshot, QUESTION in markdown) == (release.snapshot.id, True)
    assert description == f"release {release.id}"
    assert address.startswith("http://127.0.0.1:5000/#/experiments/")


def test_the_command_prints_the_scores_and_their_address_in_mlflow(home: Home) -> None:
    command = ["evaluate", "-p", str(home.root)]
    without_release = CliRunner().invoke(app, command)
    assert (without_release.exit_code, without_release.stderr.count("\n")) == (1, 1)
    release_of(home.project, BASE)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "0 of 1" in done.stdout
    assert f"{home.project.registry.experiment}/runs/" in done.stdout
