"""Is what stands in the way of a deployment told in one line?"""

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


def test_without_a_server_there_is_nobody_to_tell(workspace: Workspace) -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(UnavailableError, match=r"no Prefect server answers at http://127\.0\.0\.1:9/api"),
    ):
        deployment.deploy_project(workspace)


def test_a_project_without_prefect_yaml_is_told_how_to_get_one(workspace: Workspace) -> None:
    with pytest.raises(UserError, match=r"prefect\.yaml is missing: `ragtide init` puts one there"):
        deployment.deploy_flows(workspace)


def test_what_prefect_does_not_take_is_told_in_its_own_words(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def refuse(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append((command[1:], options["cwd"], options["env"]["RAGTIDE_PROJECT"]))
        return subprocess.CompletedProcess(command, 1, "", "invalid cron\n  '0 25 * * *'\n")

    monkeypatch.setattr(deployment.subprocess, "run", refuse)
    (workspace.root / "prefect.yaml").touch()
    with pytest.raises(UserError, match=r"invalid cron '0 25 \* \* \*'$"):
        deployment.deploy_flows(workspace)
    command = ["-m", "prefect", "--no-prompt", "deploy", "--all"]
    assert asked == [(command, workspace.root, str(workspace.root))]
