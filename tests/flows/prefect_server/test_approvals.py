"""Test of approvals with real servers: a suspended run is answered on Prefect's page and in the terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.history.approvals import read_rejections
from ragtide.pipelines.records.release import Cycle
from tests.conftest import write_project
from tests.factories import write
from tests.projects import Home
from tests.servers import eventually, free_port, post, prefect_server

ROOT = Path(__file__).parents[3]
NAMES = ("Pump", "Tank", "Valve", "Motor", "Gear")
SUSPENDED, COMPLETED, CANCELLED = "PAUSED", "COMPLETED", "CANCELLED"


@dataclass
class DeployedProject(Home):
    """A deployed project, and what a person does with it on Prefect's page or in the terminal."""

    environment: dict[str, str]

    def run(self, *module: str) -> str:
        command = [sys.executable, "-m", *module]
        done = subprocess.run(
            command, env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ragtide(self, *arguments: str) -> str:
        return " ".join(self.run("ragtide", *arguments).split())

    def run_worker(self) -> None:
        """Run a worker that carries out all runs that are due, and ends."""
        self.run("prefect", "worker", "start", "--pool", "ragtide", "--run-once")

    def run_deployment(self) -> Any:
        """Carry out one deployed run; returns it in its final or suspended state."""
        self.run("prefect", "--no-prompt", "deployment", "run", "keep-current/keep-current")
        self.run_worker()
        return eventually(self.newest_finished_run)

    def newest_finished_run(self) -> Any:
        [run] = self.api("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1, **STARTED})
        return run if run["state_type"] in (SUSPENDED, COMPLETED, "FAILED", "CRASHED") else None

    def state(self, run: Any) -> Any:
        return self.get(f"flow_runs/{run['id']}")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.environment['PREFECT_API_URL']}/{path}", timeout=10) as response:
            return json.load(response)

    def api(self, path: str, body: dict[str, Any]) -> Any:
        return post(f"{self.environment['PREFECT_API_URL']}/{path}", body)

    def suspended(self) -> list[str]:
        runs = self.api("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": [SUSPENDED]}}}})
        return [run["id"] for run in runs]

    def page(self, name: str) -> Path:
        return self.root / f"data/kb/{name}.md"

    def documents(self) -> set[str]:
        return set(self.project.index.documents(self.live.index_tag))

    @property
    def last(self) -> Cycle:
        return self.project.registry.history()[-1]


STARTED = {"flow_runs": {"start_time": {"is_null_": False}}}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedProject]:
    """A project with release 1 live, where every deletion needs an approval."""
    folder = tmp_path_factory.mktemp("approvals")
    root = write_project(folder / "project", deletion_guard={"max_removed_documents": 0, "max_removed_share": 0})
    shutil.copy(ROOT / "prefect.yaml", root)
    for name in NAMES:
        write(root / f"data/kb/{name}.md", f"# {name}\n\n## {name} 1\n\n- End of life: 2027-01-01\n")
    golden = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["Pump.md"]}
    write(root / "data/golden/q.jsonl", json.dumps(golden) + "\n")
    environment = os.environ | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_LOGGING_LEVEL": "INFO",
        "RAGTIDE_PROJECT": str(root),
        "PYTHONPATH": str(ROOT),  # For the counting fakes.
    }
    deployed = DeployedProject(root, environment)
    with prefect_server(environment, folder / "server.log"):
        assert eventually(
            lambda: urllib.request.urlopen(f"{environment['PREFECT_API_URL']}/health", timeout=5).status == 200
        )
        deployed.run("prefect", "work-pool", "create", "ragtide", "--type", "process")
        deployed.run("prefect", "--no-prompt", "deploy", "-n", "keep-current")
        first = deployed.run_deployment()
        assert first["state_type"] == COMPLETED, first
        yield deployed


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_person_answers_suspended_runs(deployed: DeployedProject) -> None:
    """One story, since each of its runs takes a worker and half a minute."""
    # A document is deleted: the run is suspended, and holds neither the project nor the deployment.
    motor = deployed.page("Motor").read_text()
    deployed.page("Motor").unlink()
    suspended = deployed.run_deployment()
    assert (suspended["state_type"], suspended["state_name"]) == (SUSPENDED, "Suspended"), suspended["state"]["message"]
    digest = deployed.last.plan
    assert f"plan:{digest}" in suspended["tags"]
    assert deployed.documents() == {f"{name}.md" for name in NAMES}
    form = deployed.get(f"flow_runs/{suspended['id']}/input/suspended-{digest}-description")
    assert digest in form
    assert "`Motor.md`" in form
    assert "HOLD" in form

    # The same approval is not requested twice: the next run ends, and the first stays suspended.
    assert deployed.run_deployment()["state_type"] == COMPLETED
    assert deployed.last.decision == "HOLD"
    assert deployed.suspended() == [suspended["id"]]

    # An invalid answer is rejected; an approval through Prefect's API is carried out by the same run.
    assert (
        deployed.api(f"flow_runs/{suspended['id']}/resume", {"run_input": {"approve": "perhaps"}})["status"] == "REJECT"
    )
    assert (
        deployed.api(f"flow_runs/{suspended['id']}/resume", {"run_input": {"approve": True, "why": "ok"}})["status"]
        == "ACCEPT"
    )
    deployed.run_worker()
    assert eventually(lambda: deployed.state(suspended)["state_type"] == COMPLETED)
    assert deployed.documents() == {f"{name}.md" for name in NAMES if name != "Motor"}

    # A document is declined in the terminal: the index is unchanged, the run is resumed and the answer is recorded.
    write(deployed.page("Motor"), motor)
    assert deployed.run_deployment()["state_type"] == COMPLETED
    deployed.page("Gear").unlink()
    suspended = deployed.run_deployment()
    assert suspended["state_type"] == SUSPENDED, suspended["state"]["message"]
    output = deployed.ragtide("reject", deployed.last.plan, "--why", "Gear returns on Monday")
    assert suspended["name"] in output
    deployed.run_worker()
    assert eventually(lambda: deployed.state(suspended)["state_type"] == COMPLETED)
    assert "Gear.md" in deployed.documents()
    assert [rejection.why for rejection in read_rejections(deployed.project.workspace)] == ["Gear returns on Monday"]
    assert deployed.run_deployment()["state_type"] == COMPLETED
    assert deployed.last.decision == "NOTHING"

    # Another approval is needed now: the run that asked for less is cancelled with a reason.
    deployed.page("Valve").unlink()
    old = deployed.run_deployment()
    deployed.page("Tank").unlink()
    new = deployed.run_deployment()
    assert (old["state_type"], new["state_type"]) == (SUSPENDED, SUSPENDED)
    assert deployed.state(old)["state_type"] == CANCELLED
    assert "Superseded" in deployed.state(old)["state"]["message"]

    # An approval in the terminal resumes the run, and the release has what was approved.
    assert new["name"] in deployed.ragtide("approve", deployed.last.plan)
    deployed.run_worker()
    assert eventually(lambda: deployed.state(new)["state_type"] == COMPLETED)
    assert deployed.documents() == {"Pump.md", "Motor.md"}
    assert deployed.suspended() == []
