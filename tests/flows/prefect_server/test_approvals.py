"""Can a person say yes or no to what a deployed run holds back, on Prefect's page and in the terminal? Real servers."""

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
class Desk(Home):
    """A deployed project, and what a person does with it: on Prefect's page, or in the terminal."""

    environment: dict[str, str]

    def run(self, *module: str) -> str:
        command = [sys.executable, "-m", *module]
        done = subprocess.run(
            command, env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ragtide(self, *arguments: str) -> str:
        return " ".join(self.run("ragtide.flows.cli.main", *arguments).split())

    def work(self) -> None:
        """A worker that does all that is due, and ends."""
        self.run("prefect", "worker", "start", "--pool", "ragtide", "--run-once")

    def turn(self) -> Any:
        """One deployed run, by a worker of its own; the run as it is then."""
        self.run("prefect", "--no-prompt", "deployment", "run", "keep-current/keep-current")
        self.work()
        return eventually(self.newest_at_rest)

    def newest_at_rest(self) -> Any:
        [run] = self.api("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1, **STARTED})
        return run if run["state_type"] in (SUSPENDED, COMPLETED, "FAILED", "CRASHED") else None

    def state(self, run: Any) -> Any:
        return self.get(f"flow_runs/{run['id']}")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.environment['PREFECT_API_URL']}/{path}", timeout=10) as got:
            return json.load(got)

    def api(self, path: str, body: dict[str, Any]) -> Any:
        return post(f"{self.environment['PREFECT_API_URL']}/{path}", body)

    def waiting(self) -> list[str]:
        found = self.api("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": [SUSPENDED]}}}})
        return [run["id"] for run in found]

    def page(self, name: str) -> Path:
        return self.root / f"data/kb/{name}.md"

    def documents(self) -> set[str]:
        return set(self.project.index.documents(self.live.index_tag))

    @property
    def last(self) -> Cycle:
        return self.project.registry.history()[-1]


STARTED = {"flow_runs": {"start_time": {"is_null_": False}}}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Release 1 is live; a single page that vanishes is asked about."""
    folder = tmp_path_factory.mktemp("asking")
    root = write_project(folder / "project", deletion_guard={"max_removed_documents": 0, "max_removed_share": 0})
    shutil.copy(ROOT / "prefect.yaml", root)
    for name in NAMES:
        write(root / f"data/kb/{name}.md", f"# {name}\n\n## {name} 1\n\n- End of life: 2027-01-01\n")
    asked = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["Pump.md"]}
    write(root / "data/golden/q.jsonl", json.dumps(asked) + "\n")
    environment = os.environ | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_LOGGING_LEVEL": "INFO",
        "RAGTIDE_PROJECT": str(root),
        "PYTHONPATH": str(ROOT),  # Where the counting fakes are.
    }
    found = Desk(root, environment)
    with prefect_server(environment, folder / "server.log"):
        assert eventually(
            lambda: urllib.request.urlopen(f"{environment['PREFECT_API_URL']}/health", timeout=5).status == 200
        )
        found.run("prefect", "work-pool", "create", "ragtide", "--type", "process")
        found.run("prefect", "--no-prompt", "deploy", "-n", "keep-current")
        first = found.turn()
        assert first["state_type"] == COMPLETED, first
        yield found


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_person_answers_a_run_that_waits(desk: Desk) -> None:
    """One story, since each of its turns takes a worker and half a minute."""
    # A page vanishes: the run waits, and holds neither the project nor the deployment.
    motor = desk.page("Motor").read_text()
    desk.page("Motor").unlink()
    waits = desk.turn()
    assert (waits["state_type"], waits["state_name"]) == (SUSPENDED, "Suspended"), waits["state"]["message"]
    digest = desk.last.plan
    assert f"plan:{digest}" in waits["tags"]
    assert desk.documents() == {f"{name}.md" for name in NAMES}
    form = desk.get(f"flow_runs/{waits['id']}/input/suspended-{digest}-description")
    assert f"Plan `{digest}` of project waits for a yes or a no" in form
    assert "**Removals that wait:** `Motor.md`" in form
    assert "# Decision: HOLD" in form

    # The same question is not asked twice: the next run ends, and the first goes on waiting.
    assert desk.turn()["state_type"] == COMPLETED
    assert desk.last.decision == "HOLD"
    assert desk.waiting() == [waits["id"]]

    # An answer that is none is not taken; a yes through Prefect's API is carried out by the same run.
    assert desk.api(f"flow_runs/{waits['id']}/resume", {"run_input": {"approve": "perhaps"}})["status"] == "REJECT"
    assert (
        desk.api(f"flow_runs/{waits['id']}/resume", {"run_input": {"approve": True, "why": "ok"}})["status"] == "ACCEPT"
    )
    desk.work()
    assert eventually(lambda: desk.state(waits)["state_type"] == COMPLETED)
    assert desk.documents() == {f"{name}.md" for name in NAMES if name != "Motor"}

    # A no in the terminal leaves all as it was, resumes the run, and is remembered.
    write(desk.page("Motor"), motor)
    assert desk.turn()["state_type"] == COMPLETED
    desk.page("Gear").unlink()
    waits = desk.turn()
    assert waits["state_type"] == SUSPENDED, waits["state"]["message"]
    said = desk.ragtide("reject", desk.last.plan, "--why", "Gear comes back on Monday")
    assert f"the run {waits['name']}, resumed, goes on without it" in said
    desk.work()
    assert eventually(lambda: desk.state(waits)["state_type"] == COMPLETED)
    assert "Gear.md" in desk.documents()
    assert [one.why for one in read_rejections(desk.project.workspace)] == ["Gear comes back on Monday"]
    assert desk.turn()["state_type"] == COMPLETED
    assert desk.last.decision == "NOTHING"

    # What is asked for is another thing now: the run that asked for less is cancelled, and says why.
    desk.page("Valve").unlink()
    old = desk.turn()
    desk.page("Tank").unlink()
    new = desk.turn()
    assert (old["state_type"], new["state_type"]) == (SUSPENDED, SUSPENDED)
    assert desk.state(old)["state_type"] == CANCELLED
    assert "Superseded" in desk.state(old)["state"]["message"]

    # A yes in the terminal resumes the run, and the release holds what was approved.
    assert f"the run {new['name']}, resumed, goes ahead" in desk.ragtide("approve", desk.last.plan)
    desk.work()
    assert eventually(lambda: desk.state(new)["state_type"] == COMPLETED)
    assert desk.documents() == {"Pump.md", "Motor.md"}
    assert desk.waiting() == []
