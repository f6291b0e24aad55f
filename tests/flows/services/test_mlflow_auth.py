"""Tests of MLflow's server with a password, path by path: the routes are read off its applications."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ragtide.flows.services.settings import services_folder
from tests.listeners import Answer, Listener, known_routes, request
from tests.servers import eventually, free_port, running
from tests.sites import Site

PASSWORD = "a-password-of-length"
pytestmark = [pytest.mark.services, pytest.mark.long]
# What MLflow answers to everybody: that it lives, its version, and which features it has.
STATIC = "/static-files/"  # the pages' programs and pictures
PUBLIC = {"/health", "/version", "/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info"}


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    """MLflow's server as `ragtide ui` starts it, with a password and all routes of its applications."""
    pytest.importorskip("flask_wtf", reason="the extra `auth` is not installed")
    site, port = Site.make(tmp_path_factory.mktemp("auth") / "project"), free_port()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW"))}
    environment = inherited | site.environment | {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
    log = Path(site.root.parent / "ui.log")
    command = ("ragtide", "ui", "--port", str(port))
    with log.open("w") as file, running(*command, cwd=site.root, env=environment, stdout=file, stderr=file):
        assert eventually(lambda: is_up(f"http://127.0.0.1:{port}/health")), log.read_text()
        auth = {
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_AUTH_CONFIG_PATH": str(services_folder(site.workspace) / "mlflow-auth.ini"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "0" * 64,
        }
        yield Listener("mlflow", "127.0.0.1", port, known_routes(auth)["mlflow"])


def is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def answers(listener: Listener, headers: dict[str, str]) -> list[Answer]:
    with httpx.Client(base_url=listener.url, timeout=60, trust_env=False) as client:
        plan = [(method, path) for path, methods in listener.paths if path for method in methods]
        return [request(client, listener, method, path, headers) for method, path in plan]


def test_without_a_password_only_health_version_and_features_are_answered(listener: Listener) -> None:
    answered = [answer for answer in answers(listener, {}) if not answer.is_refusal]
    assert len(listener.paths) > 400
    # A preflight of a browser has no credentials, and its answer no content.
    open_paths = {answer.path for answer in answered if answer.method != "OPTIONS" or answer.text}
    assert {path for path in open_paths if not path.startswith(STATIC)} <= PUBLIC


def test_no_user_of_mlflow_reaches_the_assistant(listener: Listener) -> None:
    url = f"{listener.url}/ajax-api/3.0/mlflow/assistant/config"
    for auth in (None, ("admin", PASSWORD)):
        assert httpx.get(url, auth=auth, timeout=60).status_code == 403


def test_with_the_password_the_owner_is_answered(listener: Listener) -> None:
    body = {"max_results": 1}
    url = f"{listener.url}/api/2.0/mlflow/experiments/search"
    assert httpx.post(url, json=body, timeout=60).status_code == 401
    assert httpx.post(url, json=body, auth=("admin", PASSWORD), timeout=60).status_code == 200
    assert httpx.post(url, json=body, auth=("admin", "another-password"), timeout=60).status_code == 401
