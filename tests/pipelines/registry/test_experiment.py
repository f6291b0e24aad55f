"""Tests of the MLflow experiment: creation, unavailable stores, page layout and addresses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from mlflow.tracking import MlflowClient

from ragtide.pipelines.errors import UnavailableError
from ragtide.pipelines.registry.client import CREDENTIALS, MlflowStore
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.workspace import Workspace
from tests.factories import workspace, write
from tests.projects import mlflow_client, recorded_release

UNREACHABLE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "read",
    [
        Registry.history,
        Registry.champion,
        Registry.releases,
        Registry.live_release_id,
        Registry.running_cycles,
        lambda registry: registry.exists,
    ],
)
def test_reading_creates_no_database(read: Callable[[Registry], object], tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    space = workspace(tmp_path / "project")
    assert not read(Registry(space))
    assert not space.state.exists()
    assert not {path.name for path in set(tmp_path.rglob("*")) - before} & {"mlflow.db", "mlruns"}


def test_opening_a_new_database_waits_for_the_process_that_creates_its_tables(tmp_path: Path) -> None:
    space = workspace(tmp_path / "new")
    database = space.state / "mlflow.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    making = FileLock(f"{database}.lock")
    with ThreadPoolExecutor(1) as pool:
        with making:
            experiment = pool.submit(lambda: Registry(space).experiment)
            with pytest.raises(TimeoutError):
                experiment.result(timeout=1)
            assert not database.exists()
        assert experiment.result(timeout=60)


def test_an_experiment_that_another_process_just_created_is_used(
    registry: Registry, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = registry.experiment
    lookups = iter([None])
    known = MlflowClient.get_experiment_by_name

    def late(client: MlflowClient, name: str) -> object:
        return next(lookups, known(client, name))

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", late)
    assert Registry(space).experiment == made


@pytest.mark.parametrize("read", [Registry.champion, Registry.history, Registry.releases, Registry.live_release_id])
def test_an_unavailable_store_raises_instead_of_looking_empty(
    read: Callable[[Registry], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    registry = Registry(workspace(tmp_path, registry={"tracking_uri": UNREACHABLE}))
    assert registry.exists
    with pytest.raises(UnavailableError, match=UNREACHABLE) as failure:
        read(registry)
    assert "\n" not in str(failure.value)


def test_two_projects_on_one_server_are_separate(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shared = f"sqlite:///{shutil.copy(tables, tmp_path / 'shared.db')}"
    ours, theirs = (
        Registry(workspace(tmp_path / name, registry={"tracking_uri": shared, "experiment": name, "model": name}))
        for name in ("ours", "theirs")
    )
    ours.set_live(recorded_release(ours))
    assert len(ours.history()) == 1
    assert theirs.history() == []
    assert theirs.champion() is None


def test_an_edited_description_of_the_experiment_is_kept(registry: Registry, space: Workspace) -> None:
    with registry.cycle():
        pass
    mlflow = mlflow_client(space)
    tags = mlflow.get_experiment(registry.experiment).tags
    assert {"mlflow.sharedViewState.cycles", "mlflow.sharedViewState.metrics-by-cycle"} <= set(tags)
    mlflow.set_experiment_tag(registry.experiment, "mlflow.note.content", "ours")
    with registry.cycle():
        pass
    assert mlflow.get_experiment(registry.experiment).tags["mlflow.note.content"] == "ours"


@pytest.mark.parametrize(
    ("uri", "server"),
    [(None, "http://127.0.0.1:5000"), ("http://127.0.0.1:5001/", "http://127.0.0.1:5001")],
)
def test_the_address_of_a_run_is_on_the_configured_server(
    registry: Registry, space: Workspace, uri: str | None, server: str
) -> None:
    with registry.cycle() as log:
        pass
    params = space.params.model_copy(
        update={"registry": space.params.registry.model_copy(update={"tracking_uri": uri})}
    )
    elsewhere = Registry(replace(space, params=params))
    elsewhere.__dict__["experiment"] = registry.experiment
    assert elsewhere.address(log) == f"{server}/#/experiments/{registry.experiment}/runs/{log.id}"


# --- the password of the project's own server ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "is_own"),
    [
        ("http://127.0.0.1:5000", True),
        ("http://localhost:5000/", True),
        ("http://127.0.0.1:5001", False),
        ("http://mlflow.example.org:5000", False),
        ("sqlite:///mlflow.db", False),
        (None, False),
    ],
)
def test_the_generated_password_is_sent_to_the_own_server_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str | None, is_own: bool
) -> None:
    for name in CREDENTIALS:
        # Set first, so that what the client sets is undone.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    space = workspace(tmp_path, registry={"tracking_uri": uri})
    assert space.writes_through_own_server is is_own
    store = MlflowStore(space.tracking_uri, space.mlflow_auth_file if is_own else None)
    monkeypatch.setattr(MlflowStore, "_client", SimpleNamespace(ping=lambda: os.environ.get(CREDENTIALS[1])))
    # The server may be started after the project was opened.
    assert store.ping() is None
    write(space.mlflow_auth_file, "admin:hunter2:2\n")
    assert store.ping() == ("hunter2:2" if is_own else None)


def test_credentials_of_the_user_go_before_the_generated_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "mine")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    monkeypatch.setattr(MlflowStore, "_client", SimpleNamespace(ping=lambda: os.environ.get(CREDENTIALS[1])))
    assert MlflowStore("http://127.0.0.1:5000", write(tmp_path / "auth", "admin:hunter2")).ping() is None
