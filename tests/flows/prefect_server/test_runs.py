"""Tests of the names of flow runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ragtide.flows.prefect_server import runs
from ragtide.flows.prefect_server.runs import run_name_for


@pytest.mark.parametrize("given", [{}, {"project": "."}, {"project": "../support"}])
def test_a_run_is_named_by_its_flow_and_the_folder(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "support").mkdir()
    monkeypatch.chdir(tmp_path / "support")
    monkeypatch.setattr(runs, "flow_run", SimpleNamespace(parameters=given))
    assert run_name_for("reconcile")() == "reconcile support"
