"""Fixtures of the registry tests: a project with an empty MLflow database, and helpers to record releases in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.workspace import Workspace
from tests.factories import workspace


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database with its tables: creating one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def space(tables: Path, tmp_path: Path) -> Workspace:
    """A project with an empty MLflow database."""
    space = workspace(tmp_path)
    space.state.mkdir()
    shutil.copy(tables, space.state / "mlflow.db")
    return space


@pytest.fixture
def registry(space: Workspace) -> Registry:
    return Registry(space)
