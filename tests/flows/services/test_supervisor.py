"""Do the services start, survive a kill, and stop without a trace? And is what stands in their way told in one line?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from demo.pages import quarters, write_quarter
from ragtide.flows.environment import prepare_environment, running_server, server_file
from ragtide.flows.services.port_cleanup import is_alive
from ragtide.flows.services.settings import MARK, list_services, services_folder
from ragtide.flows.services.supervisor import (
    ServiceStart,
    check_port,
    is_healthy,
    last_lines,
    service_processes,
    starting_services,
    stop_services,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import ServicesParams
from ragtide.pipelines.workspace import Workspace
from tests.servers import PATIENCE_SECONDS, eventually
from tests.sites import Site

Make = Callable[..., Path]


def marked(workspace: Workspace, name: str | None = None, stubborn: bool = False) -> subprocess.Popen[bytes]:
    """A process as `ragtide up` leaves it behind; a stubborn one does not end when it is asked to."""
    told = {MARK: str(services_folder(workspace))} | ({"SUPERVISOR_PROCESS_NAME": name} if name else {})
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    script = f"import signal, time; {ignore}print('ready', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ | told, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        said.readline()
    return process


@pytest.fixture
def workspace(make_project: Make) -> Iterator[Workspace]:
    opened = Workspace.open(make_project())
    yield opened
    stop_services(opened)


def test_the_processes_of_a_project_are_known_by_their_environment(workspace: Workspace, make_project: Make) -> None:
    left = marked(workspace, "mlflow")
    assert [(part.process.pid, part.service) for part in service_processes(workspace)] == [(left.pid, "mlflow")]
    assert not service_processes(Workspace.open(make_project("another")))
    left.kill()
    left.wait()


def test_what_a_killed_supervisor_left_is_stopped_and_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragtide.flows.services.supervisor.GRACE_SECONDS", 1)
    left = [marked(workspace, "mlflow"), marked(workspace, "worker", stubborn=True)]
    assert sorted(stop_services(workspace)) == ["mlflow", "worker"]
    assert [process.wait() for process in left] == [-signal.SIGTERM, -signal.SIGKILL]


def test_stopping_what_does_not_run_stops_nothing(workspace: Workspace) -> None:
    assert stop_services(workspace) == []


def test_a_second_up_is_refused(workspace: Workspace) -> None:
    running = marked(workspace)
    with pytest.raises(UserError, match="are up already; `ragtide down` stops them"):
        ServiceStart(workspace, print).first()
    running.kill()
    running.wait()


def test_what_a_crash_left_is_named_before_a_new_start(workspace: Workspace) -> None:
    left = marked(workspace, "worker")
    with pytest.raises(UserError, match="has left worker running: `ragtide down` stops them"):
        ServiceStart(workspace, print).first()
    left.kill()
    left.wait()


def test_two_that_start_at_once_do_not_start_twice(workspace: Workspace) -> None:
    with (
        starting_services(workspace),
        pytest.raises(UserError, match="another `ragtide up` is at work"),
        starting_services(workspace),
    ):
        pass


def test_a_port_that_is_taken_is_named_with_its_setting(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        params = ServicesParams(mlflow_port=held.getsockname()[1])
        of = Workspace(workspace.root, workspace.params.model_copy(update={"services": params}))
        with pytest.raises(UserError, match=r"stop what holds it, or set services\.mlflow_port in params\.yaml"):
            check_port(params, list_services(of)[1])


def test_an_address_of_no_machine_of_ours_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UserError, match=r"192\.0\.2\.1 is no address of this machine"):
        check_port(ServicesParams(host="192.0.2.1"), list_services(workspace)[0])


def test_the_end_of_a_log_is_one_line(workspace: Workspace) -> None:
    services_folder(workspace).mkdir(parents=True)
    (services_folder(workspace) / "mlflow.log").write_text("Traceback\n\n  File x\nImportError: no module\n")
    assert last_lines(workspace, "mlflow").endswith("ends with: Traceback | File x | ImportError: no module")
    assert last_lines(workspace, "worker").endswith("says nothing")


def test_commands_use_the_server_of_up_while_it_lives(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    own = psutil.Process()
    note = '{"api": "http://127.0.0.1:4200/api", "pid": %d, "started": %f}'
    server_file(workspace.root).parent.mkdir(parents=True)
    server_file(workspace.root).write_text(note % (own.pid, own.create_time() - 60))
    assert running_server(workspace.root) is None  # A process that got the number of a dead one.
    server_file(workspace.root).write_text(note % (own.pid, own.create_time()))
    prepare_environment(workspace.root)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    monkeypatch.delenv("PREFECT_API_URL")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": 1}'])
def test_a_note_that_cannot_be_read_names_no_server(workspace: Workspace, content: str) -> None:
    server_file(workspace.root).parent.mkdir(parents=True)
    server_file(workspace.root).write_text(content)
    assert running_server(workspace.root) is None


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_up_leads_a_change_to_a_release_survives_a_kill_and_down_leaves_nothing(tmp_path: Path) -> None:
    site = Site.make(tmp_path / "project")
    with site.up() as told:
        for name in ("prefect", "mlflow", "door"):
            assert site.url(name) in told
        assert "They listen on 127.0.0.1, for this machine alone." in told
        assert "are up already" in site.refused("up", "--detach")

        # The watcher has found that the data of the first quarter was never built.
        assert site.becomes_live("1")
        write_quarter(site.root, quarters()[1])
        assert site.becomes_live("2")

        by_name = {part.service: part.process for part in service_processes(site.workspace)}
        assert set(by_name) >= {"supervisor", "prefect", "mlflow", "worker", "watcher", "door"}
        mlflow = next(part.process for part in service_processes(site.workspace) if "mlflow" in part.process.cmdline())
        mlflow.kill()
        assert eventually(lambda: not mlflow.is_running())
        assert eventually(lambda: is_healthy(f"{site.url('mlflow')}/health"))
        everything = [part.process for part in service_processes(site.workspace)]
    assert not service_processes(site.workspace)
    assert not [process for process in everything if is_alive(process)]
    assert "nothing was running" in site.ragtide("down")


@pytest.mark.services
@pytest.mark.long
def test_a_server_that_ends_at_its_start_is_told_with_its_last_lines_and_nothing_stays(tmp_path: Path) -> None:
    site = Site.make(tmp_path / "project", services={"prefect_database": "postgresql+asyncpg://me@127.0.0.1:1/none"})
    said = site.refused("up", "--detach")
    assert "prefect ended as it started" in said
    assert not service_processes(site.workspace)


@pytest.mark.services
@pytest.mark.long
def test_ctrl_c_stops_what_is_starting(tmp_path: Path) -> None:
    site = Site.make(tmp_path / "project")
    foreground = site.start("up")
    assert eventually(lambda: len(service_processes(site.workspace)) >= 3)
    foreground.send_signal(signal.SIGINT)
    foreground.communicate(timeout=PATIENCE_SECONDS)
    assert foreground.returncode != 0
    assert not service_processes(site.workspace)
