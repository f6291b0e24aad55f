"""Tests of the supervisor: start, restart after a kill, complete stop, and errors in one line."""

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
from tests.sites import FIRST, SECOND, Site

Make = Callable[..., Path]


def marked(workspace: Workspace, name: str | None = None, stubborn: bool = False) -> subprocess.Popen[bytes]:
    """A process as left by `ragtide up`; a stubborn one ignores SIGTERM."""
    variables = {MARK: str(services_folder(workspace))} | ({"SUPERVISOR_PROCESS_NAME": name} if name else {})
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    script = f"import signal, time; {ignore}print('ready', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ | variables, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        output.readline()
    return process


@pytest.fixture
def workspace(make_project: Make) -> Iterator[Workspace]:
    opened = Workspace.open(make_project())
    yield opened
    stop_services(opened)


def test_the_processes_of_a_project_are_found_by_their_environment(workspace: Workspace, make_project: Make) -> None:
    orphan = marked(workspace, "mlflow")
    assert [(part.process.pid, part.service) for part in service_processes(workspace)] == [(orphan.pid, "mlflow")]
    assert not service_processes(Workspace.open(make_project("another")))
    orphan.kill()
    orphan.wait()


def test_orphans_of_a_killed_supervisor_are_stopped_and_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragtide.flows.services.supervisor.GRACE_SECONDS", 1)
    orphans = [marked(workspace, "mlflow"), marked(workspace, "worker", stubborn=True)]
    assert sorted(stop_services(workspace)) == ["mlflow", "worker"]
    assert [process.wait() for process in orphans] == [-signal.SIGTERM, -signal.SIGKILL]


def test_stopping_without_running_services_stops_nothing(workspace: Workspace) -> None:
    assert stop_services(workspace) == []


def test_a_second_up_is_an_error(workspace: Workspace) -> None:
    running = marked(workspace)
    with pytest.raises(UserError, match="already running"):
        ServiceStart(workspace, print).first()
    running.kill()
    running.wait()


def test_orphans_are_named_before_a_start(workspace: Workspace) -> None:
    orphan = marked(workspace, "worker")
    with pytest.raises(UserError, match="left worker running"):
        ServiceStart(workspace, print).first()
    orphan.kill()
    orphan.wait()


def test_the_second_of_two_concurrent_starts_is_an_error(workspace: Workspace) -> None:
    with (
        starting_services(workspace),
        pytest.raises(UserError, match="another `ragtide up`"),
        starting_services(workspace),
    ):
        pass


def test_a_port_in_use_is_named_with_its_setting(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        params = ServicesParams(mlflow_port=held.getsockname()[1])
        other = Workspace(workspace.root, workspace.params.model_copy(update={"services": params}))
        with pytest.raises(UserError, match=r"services\.mlflow_port"):
            check_port(params, list_services(other)[1])


def test_an_address_of_another_machine_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(UserError, match=r"192\.0\.2\.1"):
        check_port(ServicesParams(host="192.0.2.1"), list_services(workspace)[0])


def test_the_last_lines_of_a_log_are_joined(workspace: Workspace) -> None:
    services_folder(workspace).mkdir(parents=True)
    (services_folder(workspace) / "mlflow.log").write_text("Traceback\n\n  File x\nImportError: no module\n")
    assert last_lines(workspace, "mlflow").endswith(": Traceback | File x | ImportError: no module")
    assert "worker.log" in last_lines(workspace, "worker")


def test_commands_use_the_server_of_ragtide_up_while_it_runs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    own = psutil.Process()
    record = '{"api": "http://127.0.0.1:4200/api", "pid": %d, "started": %f}'
    server_file(workspace.root).parent.mkdir(parents=True)
    server_file(workspace.root).write_text(record % (own.pid, own.create_time() - 60))
    assert running_server(workspace.root) is None  # Another process with the id of an ended one.
    server_file(workspace.root).write_text(record % (own.pid, own.create_time()))
    prepare_environment(workspace.root)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    monkeypatch.delenv("PREFECT_API_URL")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": 1}'])
def test_an_unreadable_server_file_names_no_server(workspace: Workspace, content: str) -> None:
    server_file(workspace.root).parent.mkdir(parents=True)
    server_file(workspace.root).write_text(content)
    assert running_server(workspace.root) is None


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_up_releases_a_change_and_restarts_a_killed_service_and_down_leaves_no_process(tmp_path: Path) -> None:
    site = Site.make(tmp_path / "project")
    with site.up() as output:
        for name in ("prefect", "mlflow", "webhook"):
            assert site.url(name) in output
        assert "already running" in site.refused("up", "--detach")

        # The watcher has reported the data of the first quarter, which was never built.
        assert site.becomes_live(FIRST)
        write_quarter(site.root, quarters()[1])
        assert site.becomes_live(SECOND)

        by_name = {part.service: part.process for part in service_processes(site.workspace)}
        assert set(by_name) >= {"supervisor", "prefect", "mlflow", "worker", "watcher", "webhook"}
        mlflow = next(part.process for part in service_processes(site.workspace) if "mlflow" in part.process.cmdline())
        mlflow.kill()
        assert eventually(lambda: not mlflow.is_running())
        assert eventually(lambda: is_healthy(f"{site.url('mlflow')}/health"))
        everything = [part.process for part in service_processes(site.workspace)]
    assert not service_processes(site.workspace)
    assert not [process for process in everything if is_alive(process)]
    assert "stopped:" not in site.ragtide("down")


@pytest.mark.services
@pytest.mark.long
def test_a_server_that_ends_during_the_start_is_reported_and_no_process_remains(tmp_path: Path) -> None:
    site = Site.make(tmp_path / "project", services={"prefect_database": "postgresql+asyncpg://me@127.0.0.1:1/none"})
    output = site.refused("up", "--detach")
    assert "prefect ended" in output
    assert not service_processes(site.workspace)


@pytest.mark.services
@pytest.mark.long
def test_ctrl_c_during_the_start_stops_all_services(tmp_path: Path) -> None:
    site = Site.make(tmp_path / "project")
    foreground = site.start("up")
    assert eventually(lambda: len(service_processes(site.workspace)) >= 3)
    foreground.send_signal(signal.SIGINT)
    foreground.communicate(timeout=PATIENCE_SECONDS)
    assert foreground.returncode != 0
    assert not service_processes(site.workspace)
