"""Fixtures for tests of the index: an empty index, and small windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragtide.pipelines.index import source as source_module
from tests.factories import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "lance"))


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of two chunks, so that a few chunks take several windows."""
    monkeypatch.setattr(source_module, "WINDOW", 2)
