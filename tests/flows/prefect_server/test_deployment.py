"""Tests of deployments: errors of the server, of prefect.yaml and of `prefect deploy`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from ragtide.flows.prefect_server import deployment
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.workspace import Workspace


@pytest.fixture
def workspace(make_project: Callable[..., Path]) -> Workspace:
    return Workspace.open(make_project())


def test_a_server_that_does_not_answer_is_reported(workspace: Workspace) -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:9/api"),
    ):
        deployment.deploy_project(workspace)


def test_a_missing_prefect_yaml_is_reported(workspace: Workspace) -> None:
    with pytest.raises(UserError, match=r"prefect\.yaml"):
        deployment.deploy_flows(workspace)


def test_an_error_of_prefect_deploy_is_reported_with_its_own_message(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def fail(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append((command[1:], options["cwd"], options["env"]["RAGTIDE_PROJECT"]))
        return subprocess.CompletedProcess(command, 1, "", "invalid cron\n  '0 25 * * *'\n")

    monkeypatch.setattr(deployment.subprocess, "run", fail)
    (workspace.root / "prefect.yaml").touch()
    with pytest.raises(UserError, match=r"invalid cron '0 25 \* \* \*'$"):
        deployment.deploy_flows(workspace)
    command = ["-m", "prefect", "--no-prompt", "deploy", "--all"]
    assert calls == [(command, workspace.root, str(workspace.root))]
