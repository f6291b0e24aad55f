"""Tests of invariant single-writer with a real server and worker: coalesced triggers, and recovery from a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.pages import quarters, write_quarter
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.ports import Vectors
from tests import fakes
from tests.conftest import write_project
from tests.factories import write
from tests.projects import Home
from tests.servers import PATIENCE_SECONDS, eventually, free_port, post, prefect_server, running

ROOT = Path(__file__).parent.parent.parent
TRIGGERS, EVENTS = 90, 10
KEEP_CURRENT = "keep-current/keep-current"
AT_WORK = ("PENDING", "RUNNING", "CANCELLING")
EMPTY = object()


class PatientEmbedder(fakes.CountingEmbedder):
    """Embeds nothing while the file RAGTIDE_TEST_HOLD exists: a run that takes hours.

    Answers may be kept from before, but every run embeds the golden questions.
    """

    def embed(self, texts: Sequence[str]) -> Vectors:
        while Path(os.environ["RAGTIDE_TEST_HOLD"]).exists():
            time.sleep(0.1)
        return super().embed(texts)


@dataclass
class DeployedProject(Home):
    """A deployed project, its server, and workers that can be killed."""

    environment: dict[str, str]

    def prefect(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        subprocess.run(command, env=self.environment, cwd=self.root, check=True, capture_output=True, timeout=150)

    def python(self, script: str) -> None:
        subprocess.run([sys.executable, "-c", script], env=self.environment, cwd=self.root, check=True, timeout=150)

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """A request with retries, as in Prefect's own client: on SQLite a server under load answers 503."""
        return eventually(lambda: self._api(path, body) or EMPTY)

    def _api(self, path: str, body: dict[str, Any] | None) -> Any:
        address = f"{self.environment['PREFECT_API_URL']}/{path}"
        if body is not None:
            return post(address, body)
        with urllib.request.urlopen(address, timeout=30) as answer:
            return json.load(answer)

    def runs(self, *states: str) -> list[Any]:
        """The runs in these states, or in any, that were triggered and not created by the schedule."""
        runs: list[Any] = []
        in_states = {"state": {"type": {"any_": states}}} if states else {}
        conditions = {"flow_runs": in_states, "sort": "START_TIME_ASC"}
        while (page := self.api("flow_runs/filter", conditions | {"limit": 200, "offset": len(runs)})) is not EMPTY:
            runs += page
        return [run for run in runs if not run["auto_scheduled"]]

    def request_run(self) -> str:
        """Create a run, as the automation of a trigger does; returns its id."""
        deployment = self.api(f"deployments/name/{KEEP_CURRENT}")["id"]
        return str(self.api(f"deployments/{deployment}/create_flow_run", {"parameters": {"revision": "x"}})["id"])

    def send(self, times: int) -> None:
        """Trigger runs through events and the automation of prefect.yaml."""
        script = "from pathlib import Path; from ragtide.flows.triggers.events import send_event"
        self.python(f"{script}; [send_event(Path(), 'test') for _ in range({times})]")

    @property
    def hold(self) -> Path:
        return Path(self.environment["RAGTIDE_TEST_HOLD"])

    def change_data(self, name: str) -> None:
        write(self.root / f"data/kb/{name}.md", f"# {name}\n\n- Latest release: {time.time_ns()}\n")

    def state(self, run: str) -> str:
        return str(self.api(f"flow_runs/{run}")["state_type"])

    @contextmanager
    def worker(self) -> Iterator[psutil.Process]:
        command = ("prefect", "worker", "start", "--pool", "ragtide", "--limit", "2")
        with (
            (self.root.parent / "worker.log").open("a") as log,
            running(*command, env=self.environment, cwd=self.root, stdout=log, stderr=log) as process,
        ):
            yield psutil.Process(process.pid)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedProject]:
    """A deployed project without a release."""
    folder = tmp_path_factory.mktemp("one-writer")
    plugin = "tests.flows.test_one_writer:PatientEmbedder"
    root = write_project(folder / "project", embed={"model": plugin}, policy={"points_per_hour": 0.0})
    shutil.copy(ROOT / "prefect.yaml", root)
    write_quarter(root, quarters()[0])
    environment = os.environ | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "RAGTIDE_PROJECT": str(root),
        "RAGTIDE_TEST_HOLD": str(folder / "hold"),
        "PYTHONPATH": str(ROOT),  # For the counting fakes.
    }
    deployed = DeployedProject(root, environment)
    with prefect_server(environment, folder / "server.log"):
        assert eventually(lambda: deployed.api("health"))
        deployed.prefect("work-pool", "create", "ragtide", "--type", "process")
        # Twice: the second call changes nothing.
        deployed.python(
            "from ragtide.flows.prefect_server.deployment import ensure_automations as ensure; ensure(); ensure()"
        )
        assert len(deployed.api("automations/filter", {})) == 2
        deployed.prefect("deploy", "-n", "keep-current")
        yield deployed


def within(seconds: float, condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(1)
    return None


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_burst_of_triggers_during_a_run_makes_one_follow_up_run_that_sees_the_last_state(
    deployed: DeployedProject,
) -> None:
    with deployed.worker():
        deployed.request_run()
        assert within(120, lambda: len(deployed.runs("COMPLETED")) == 1)

        # A run is active: it has read the data, and its embedder is kept from embedding.
        deployed.hold.touch()
        deployed.change_data("first")
        read_revision = take_snapshot(deployed.project.workspace).id
        active = deployed.request_run()
        assert within(120, lambda: deployed.project.registry.history()[-1].snapshot == read_revision)

        for number in range(TRIGGERS):
            deployed.change_data(f"page-{number % 7}")
            deployed.request_run()
        deployed.send(EVENTS)
        deployed.change_data("last")
        last = take_snapshot(deployed.project.workspace).id
        deployed.request_run()
        # Prefect's automation creates the runs of the events some seconds later.
        requested = 2 + TRIGGERS + EVENTS + 1
        assert within(180, lambda: len(deployed.runs()) == requested)
        assert within(120, lambda: len(deployed.runs("SCHEDULED")) == 1)
        for _ in range(10):
            assert [run["id"] for run in deployed.runs(*AT_WORK)] == [active]
            assert len(deployed.runs("SCHEDULED")) == 1
            time.sleep(0.5)

        deployed.hold.unlink()
        assert within(180, lambda: not deployed.runs("SCHEDULED", *AT_WORK))
    ended = deployed.runs()
    failed = [run["state"] for run in ended if run["state_type"] not in ("COMPLETED", "CANCELLED")]
    assert not failed
    cancelled = [run["state"]["message"] for run in ended if run["state_type"] == "CANCELLED"]
    assert len(cancelled) == requested - 3
    assert all("replaced by" in message for message in cancelled)
    cycles = deployed.project.registry.history()
    assert [cycle.snapshot for cycle in cycles[-2:]] == [read_revision, last]
    assert deployed.live.snapshot.id == last


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_killed_with_its_worker_is_crashed_and_the_next_one_starts_within_two_minutes(
    deployed: DeployedProject,
) -> None:
    deployed.hold.touch()
    deployed.change_data("killed")
    last = take_snapshot(deployed.project.workspace).id
    with deployed.worker() as worker:
        killed = deployed.request_run()
        assert within(120, lambda: deployed.project.registry.history()[-1].snapshot == last)
        processes = [*worker.children(recursive=True), worker]
        follower = deployed.request_run()
        for process in processes:
            process.send_signal(signal.SIGKILL)
        worker.wait(timeout=PATIENCE_SECONDS)
    died = time.monotonic()
    with deployed.worker():
        assert within(120, lambda: deployed.state(killed) == "CRASHED")
        crashed_seconds = time.monotonic() - died
        assert within(120, lambda: deployed.state(follower) == "RUNNING")
        start_seconds = time.monotonic() - died
        print(f"crashed after {crashed_seconds:.0f} s, the next started after {start_seconds:.0f} s")
        deployed.hold.unlink()
        assert within(120, lambda: deployed.state(follower) == "COMPLETED")
    assert start_seconds <= 120
    assert deployed.live.snapshot.id == last
