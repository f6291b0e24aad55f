"""Does one run and one wait, however many ask, and does a killed one make room by itself? A real server and worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.pages import quarters, write_quarter
from ragtide.pipelines.data.snapshot import take_snapshot
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


class PatientReader(fakes.CountingReader):
    """Does not answer as long as the file that the environment names is there: a run that goes on for hours."""

    def generate(self, *arguments: Any) -> list[str]:
        while Path(os.environ["RAGTIDE_TEST_HOLD"]).exists():
            time.sleep(0.1)
        return super().generate(*arguments)


@dataclass
class Town(Home):
    """A deployed project, its server, and workers that can be killed."""

    environment: dict[str, str]

    def prefect(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        subprocess.run(command, env=self.environment, cwd=self.root, check=True, capture_output=True, timeout=150)

    def python(self, script: str) -> None:
        subprocess.run([sys.executable, "-c", script], env=self.environment, cwd=self.root, check=True, timeout=150)

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Asked again, as Prefect's own client does: on SQLite a server that is written to by many answers 503."""
        return eventually(lambda: self._api(path, body) or EMPTY)

    def _api(self, path: str, body: dict[str, Any] | None) -> Any:
        address = f"{self.environment['PREFECT_API_URL']}/{path}"
        if body is not None:
            return post(address, body)
        with urllib.request.urlopen(address, timeout=30) as answer:
            return json.load(answer)

    def runs(self, *states: str) -> list[Any]:
        """Those that were asked for, not those that the cron has ready for the next nights."""
        found: list[Any] = []
        wanted = {"flow_runs": {"state": {"type": {"any_": states}}}, "sort": "START_TIME_ASC"}
        while (page := self.api("flow_runs/filter", wanted | {"limit": 200, "offset": len(found)})) is not EMPTY:
            found += page
        return [run for run in found if not run["auto_scheduled"]]

    def ask(self) -> str:
        """Ask for a run, as the automation of a trigger does: its id."""
        deployment = self.api(f"deployments/name/{KEEP_CURRENT}")["id"]
        return str(self.api(f"deployments/{deployment}/create_flow_run", {"parameters": {"revision": "x"}})["id"])

    def send(self, times: int) -> None:
        """The same through events and the automation of prefect.yaml."""
        script = "from pathlib import Path; from ragtide.flows.triggers.events import send"
        self.python(f"{script}; [send(Path(), 'test') for _ in range({times})]")

    @property
    def hold(self) -> Path:
        return Path(self.environment["RAGTIDE_TEST_HOLD"])

    def moves_on(self, name: str) -> None:
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
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Release 1 is to be made by the first run."""
    folder = tmp_path_factory.mktemp("town")
    plugin = "tests.flows.test_one_writer:PatientReader"
    root = write_project(folder / "project", generate={"model": plugin}, policy={"points_per_hour": 0.0})
    shutil.copy(ROOT / "prefect.yaml", root)
    write_quarter(root, quarters()[0])
    environment = os.environ | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "RAGTIDE_PROJECT": str(root),
        "RAGTIDE_TEST_HOLD": str(folder / "hold"),
        "PYTHONPATH": str(ROOT),  # Where the counting fakes are.
    }
    found = Town(root, environment)
    with prefect_server(environment, folder / "server.log"):
        assert eventually(lambda: found.api("health"))
        found.prefect("work-pool", "create", "ragtide", "--type", "process")
        # Twice: deploying once more changes nothing.
        found.python("from ragtide.flows.prefect_server.deployment import ensure; ensure(); ensure()")
        assert len(found.api("automations/filter", {})) == 2
        found.prefect("deploy", "-n", "keep-current")
        yield found


def within(seconds: float, claim: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := claim():
            return found
        time.sleep(1)
    return None


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_burst_of_triggers_during_a_run_is_one_follow_up_which_sees_the_last_state(town: Town) -> None:
    with town.worker():
        town.ask()
        assert within(120, lambda: len(town.runs("COMPLETED")) == 1)

        # A run is at work: it has looked at the data, and is kept from answering.
        town.hold.touch()
        town.moves_on("first")
        looked_at = take_snapshot(town.project.workspace).id
        at_work = town.ask()
        assert within(120, lambda: town.project.registry.history()[-1].snapshot == looked_at)

        for number in range(TRIGGERS):
            town.moves_on(f"page-{number % 7}")
            town.ask()
        town.send(EVENTS)
        town.moves_on("last")
        last = take_snapshot(town.project.workspace).id
        town.ask()
        assert within(120, lambda: len(town.runs("SCHEDULED")) == 1)
        for _ in range(10):
            assert [run["id"] for run in town.runs(*AT_WORK)] == [at_work]
            assert len(town.runs("SCHEDULED")) == 1
            time.sleep(0.5)

        town.hold.unlink()
        assert within(180, lambda: not town.runs("SCHEDULED", *AT_WORK))
    assert len(town.runs("COMPLETED")) == 3
    cancelled = town.runs("CANCELLED")
    assert len(cancelled) >= TRIGGERS
    assert all("answered by" in run["state"]["message"] for run in cancelled)
    assert not town.runs("FAILED", "CRASHED")
    turns = town.project.registry.history()
    assert [turn.snapshot for turn in turns[-2:]] == [looked_at, last]
    assert town.live.snapshot.id == last


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_with_its_worker_is_crashed_and_the_next_runs_within_two_minutes(town: Town) -> None:
    town.hold.touch()
    town.moves_on("killed")
    last = take_snapshot(town.project.workspace).id
    with town.worker() as worker:
        killed = town.ask()
        assert within(120, lambda: town.project.registry.history()[-1].snapshot == last)
        processes = [*worker.children(recursive=True), worker]
        follower = town.ask()
        for process in processes:
            process.send_signal(signal.SIGKILL)
        worker.wait(timeout=PATIENCE_SECONDS)
    died = time.monotonic()
    with town.worker():
        assert within(120, lambda: town.state(killed) == "CRASHED")
        crashed_seconds = time.monotonic() - died
        assert within(120, lambda: town.state(follower) == "RUNNING")
        began_seconds = time.monotonic() - died
        print(f"crashed after {crashed_seconds:.0f} s, the next began after {began_seconds:.0f} s")
        town.hold.unlink()
        assert within(120, lambda: town.state(follower) == "COMPLETED")
    assert began_seconds <= 120
    assert town.live.snapshot.id == last
