"""Does a deployed cron get a scheduled run, and a worker carry one out? "The server is up" proves nothing (0002)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from demo.pages import quarters, write_quarter
from pipelines.publish.registry import Registry
from pipelines.workspace import Workspace
from tests.conftest import write_project
from tests.servers import eventually, free_port

ROOT = Path(__file__).parent.parent.parent


def post(url: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@dataclass(frozen=True)
class Deployed:
    """A project whose prefect.yaml is deployed to a real server of its own, on loopback."""

    root: Path
    environment: dict[str, str]

    @property
    def api(self) -> str:
        return self.environment["PREFECT_API_URL"]

    def prefect(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def runs(self, state: str) -> Any:
        body = {"flow_runs": {"state": {"type": {"any_": [state]}}}, "limit": 5}
        return post(f"{self.api}/flow_runs/filter", body)


@contextmanager
def prefect_server(environment: dict[str, str], log: Path) -> Iterator[None]:
    """A real server, stopped by its own id."""
    port = urlsplit(environment["PREFECT_API_URL"]).port
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            server.terminate()
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A user's project, outside this repository, deployed as the README says."""
    folder = tmp_path_factory.mktemp("schedule")
    root = write_project(folder / "project")
    shutil.copy(ROOT / "prefect.yaml", root)
    write_quarter(root, quarters()[0])
    environment = os.environ | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "RAGTIDE_PROJECT": str(root),
        "PYTHONPATH": str(ROOT),  # Where the counting fakes are.
    }
    project = Deployed(root, environment)
    with prefect_server(environment, folder / "server.log"):
        assert eventually(lambda: urllib.request.urlopen(f"{project.api}/health", timeout=5).status == 200)
        project.prefect("work-pool", "create", "ragtide", "--type", "process")
        project.prefect("deploy", "--all")
        yield project


@pytest.mark.services
def test_the_nightly_cron_of_prefect_yaml_gets_scheduled_runs(deployed: Deployed) -> None:
    runs = eventually(lambda: deployed.runs("SCHEDULED"))
    assert runs
    assert all(run["auto_scheduled"] for run in runs)


@pytest.mark.services
def test_a_worker_carries_a_deployed_run_out_up_to_the_release(deployed: Deployed) -> None:
    deployed.prefect("deployment", "run", "keep-current/keep-current")
    deployed.prefect("worker", "start", "--pool", "ragtide", "--run-once")
    assert eventually(lambda: deployed.runs("COMPLETED"))
    release = Registry(Workspace.open(deployed.root)).champion()
    assert release is not None
    assert release.decision == "REFRESH+RETRAIN"
