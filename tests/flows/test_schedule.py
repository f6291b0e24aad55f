"""Tests of the deployments with a real server: schedules, triggers and a worker (docs/decisions/0002)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from demo.pages import quarters, write_quarter
from ragtide.flows.triggers.watcher import Heartbeat
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.history.history import last_decided_cycle
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.workspace import Workspace
from tests.conftest import write_project
from tests.servers import PATIENCE_SECONDS, eventually, free_port, post, prefect_server, running

TOKEN = "a token that is long enough"
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Deployed:
    """A project that is deployed to a real server of its own, on loopback."""

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

    def runs(self, *states: str, deployment: str = "keep-current") -> Any:
        conditions = {
            "flow_runs": {"state": {"type": {"any_": states}}},
            "deployments": {"name": {"any_": [deployment]}},
        }
        return post(f"{self.api}/flow_runs/filter", conditions)

    def triggered(self, revision: str) -> Any:
        """The runs that a trigger with this revision has started."""
        states = ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED")
        return [run for run in self.runs(*states) if run["parameters"].get("revision") == revision]

    def running(self, *arguments: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """A long-running program of the project."""
        return running(*arguments, env=self.environment, cwd=self.root)

    def has_decided(self, revision: str) -> bool:
        """Whether the last completed cycle decided about the data of this revision."""
        cycle = last_decided_cycle(Registry(Workspace.open(self.root)).history())
        return cycle is not None and cycle.snapshot == revision

    def reconcile(self) -> str:
        """Run the flow in a process of its own, as a worker does."""
        script = "from ragtide.flows.scheduled import reconcile; print(reconcile())"
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ragtide(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ragtide", *arguments, "--project", str(self.root)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=150, check=False)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A user's project, outside this repository, deployed as in the README."""
    folder = tmp_path_factory.mktemp("schedule")
    root = write_project(folder / "project", services={"webhook_port": free_port()})
    shutil.copy(ROOT / "prefect.yaml", root)
    write_quarter(root, quarters()[0])
    environment = os.environ | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "RAGTIDE_PROJECT": str(root),
        "RAGTIDE_WEBHOOK_TOKEN": TOKEN,
        "PYTHONPATH": str(ROOT),  # For the counting fakes.
    }
    project = Deployed(root, environment)
    with prefect_server(environment, folder / "server.log"):
        assert eventually(lambda: urllib.request.urlopen(f"{project.api}/health", timeout=5).status == 200)
        project.prefect("work-pool", "create", "ragtide", "--type", "process")
        project.prefect("deploy", "--all")
        yield project


@pytest.mark.services
def test_every_cron_of_prefect_yaml_gets_scheduled_runs(deployed: Deployed) -> None:
    for deployment in ("keep-current", "reconcile", "evaluate", "maintain"):
        runs = eventually(partial(deployed.runs, "SCHEDULED", deployment=deployment))
        assert runs, deployment
        assert all(run["auto_scheduled"] for run in runs)


@pytest.mark.services
def test_a_worker_runs_a_deployment_up_to_the_release(deployed: Deployed) -> None:
    deployed.prefect("deployment", "run", "keep-current/keep-current")
    deployed.prefect("worker", "start", "--pool", "ragtide", "--run-once")
    assert eventually(lambda: deployed.runs("COMPLETED"))
    release = Registry(Workspace.open(deployed.root)).champion()
    assert release is not None
    assert (str(release.decision), release.previous) == ("RETRAIN", "1")


@pytest.mark.services
def test_a_trigger_starts_a_run_with_the_revision_of_the_data(deployed: Deployed) -> None:
    page = deployed.root / "data" / "kb" / "new.md"
    page.write_text("# New\n\nThe pump runs at 5 bar.", encoding="utf-8")
    done = deployed.ragtide("trigger", "--source", "test")
    revision = take_snapshot(Workspace.open(deployed.root)).id
    assert (done.returncode, revision in done.stdout) == (0, True), done.stderr
    [run] = eventually(lambda: deployed.triggered(revision))
    assert run["created_by"]["type"] == "AUTOMATION"


@pytest.mark.services
def test_reconcile_requests_the_run_of_a_lost_trigger_once(deployed: Deployed) -> None:
    page = deployed.root / "data" / "kb" / "lost.md"
    page.write_text("# Lost\n\nNobody sent an event for this page.", encoding="utf-8")
    for run in deployed.runs("SCHEDULED"):
        post(f"{deployed.api}/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    revision = take_snapshot(Workspace.open(deployed.root)).id
    results = [deployed.reconcile() for _ in range(2)]
    assert ["requested run" in result for result in results] == [True, False]
    assert len(deployed.triggered(revision)) == 1


@pytest.mark.services
@pytest.mark.long
def test_webhook_and_watcher_start_runs_and_a_wrong_token_starts_none(deployed: Deployed) -> None:
    states = ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED")
    webhook = Workspace.open(deployed.root).params.services.webhook_url
    page = deployed.root / "data" / "kb" / "live.md"
    with (
        deployed.running("ragtide", "webhook"),
        deployed.running("ragtide", "watch") as watcher,
    ):
        assert eventually(lambda: urllib.request.urlopen(f"{webhook}/health", timeout=5).status == 200)
        # At its start the watcher reports data that no cycle has decided about.
        assert eventually((deployed.root / ".ragtide" / "services" / "watcher.json").exists)
        assert eventually(lambda: Heartbeat.read(deployed.root / ".ragtide" / "services" / "watcher.json").sent)
        assert eventually(lambda: deployed.runs("SCHEDULED", "RUNNING", "PENDING"))
        time.sleep(5)
        before = len(deployed.runs(*states))
        with pytest.raises(urllib.error.HTTPError, match="401"):
            post(f"{webhook}/trigger", {"source": "test"}, "Bearer another token than that")
        time.sleep(5)
        assert len(deployed.runs(*states)) == before
        with deployed.running("prefect", "worker", "start", "--pool", "ragtide"):
            sent = post(f"{webhook}/trigger", {"source": "test"}, f"Bearer {TOKEN}")["revision"]
            assert sent == take_snapshot(Workspace.open(deployed.root)).id
            assert eventually(lambda: deployed.has_decided(sent))
            page.write_text("# Live\n\nWritten while the watcher looks.", encoding="utf-8")
            revision = take_snapshot(Workspace.open(deployed.root)).id
            assert eventually(lambda: deployed.triggered(revision))
            assert eventually(lambda: deployed.has_decided(revision))
        watcher.terminate()
        assert watcher.wait(timeout=PATIENCE_SECONDS) == 0
