"""Tests of outages: a full disk, a read-only folder, a server that is down, a wrong clock.

Each time there is one clear error, the live release stays whole, and the next cycle completes the work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from prefect import Task
from typer.testing import CliRunner

from ragtide.flows import tasks
from ragtide.flows.cli.main import app
from ragtide.pipelines.index import maintenance
from ragtide.pipelines.models.adapters import adapter_digest
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release.verify import repair_mismatches, verify_project
from tests.conftest import ROOT, write_project
from tests.factories import write
from tests.fakes import SKILLS
from tests.flows.test_bad_input import tree
from tests.projects import Home, forget_databases, release_of
from tests.servers import eventually, free_port

PUMP = "When does Pump 1 reach end of life?"
OLD, NEW = "2027-01-01", "2031-05-05"


@pytest.fixture(autouse=True)
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retries after seconds, so that the tests do not wait for them."""
    for step in vars(tasks).values():
        if isinstance(step, Task):
            monkeypatch.setattr(step, "retries", 0)


def page(day: str, pages: int = 1) -> str:
    return "# Pump\n\n" + "".join(f"## Pump {n}\n\n- End of life: {day}\n\n" for n in range(1, pages + 1))


def outdated_project(root: Path, **blocks: dict[str, object]) -> Home:
    """A project whose live release 1 answers with the old date, while the document has the new one."""
    write_project(root, **blocks)
    write(root / "data/kb/pump.md", page(OLD))
    write(root / "data/golden/q.jsonl", json.dumps({"question": PUMP, "answers": [OLD, NEW], "docs": ["pump.md"]}))
    project = Project.open(root, no_progress)
    drafted = project.workspace.adapters / "draft"
    write(drafted / SKILLS, json.dumps({"reads": True}))
    adapter = adapter_digest(drafted)
    drafted.rename(drafted.with_name(adapter))
    release_of(project, BuiltModel(base="reader-1", adapter=adapter, examples=None, settings=None))
    write(root / "data/kb/pump.md", page(NEW))
    return Home(root)


def ragtide(root: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; an unexpected exception is not caught, since a user would see a traceback."""
    result = CliRunner().invoke(app, [*arguments, "--project", str(root)], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def assert_one_error(result: tuple[int, str, str]) -> str:
    code, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("ragtide: ")]
    assert (code, len(lines), "Traceback" in err) == (1, 1, False), result
    return lines[0]


def assert_recovers(home: Home, is_refreshed: bool = False) -> None:
    """The live release is whole, the next cycle releases the new document, and what remains can be repaired.

    With `is_refreshed` the new index had gone live before the failure.
    """
    assert home.live.id == ("2" if is_refreshed else "1")
    assert home.project.ask(PUMP)[1].text == (NEW if is_refreshed else OLD)
    code, out, err = ragtide(home.root, "run")
    assert code == 0, (out, err)
    assert home.live.id != "1"
    assert home.project.ask(PUMP)[1].text == NEW
    assert repair_mismatches(verify_project(home.project))[1] == []
    assert verify_project(home.project) == []


# --- the disk --------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small file system, which only an administrator can mount."""
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=False)
    if mount.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, spare_kilobytes: int) -> Path:
    """Fill the disk up to `spare_kilobytes`; returns the file that takes the space."""
    filler, state = disk / "filler", os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - spare_kilobytes * 1024)
    return filler


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts as Linux does")
@pytest.mark.parametrize("spare_kilobytes", [0, 64, 320])
def test_a_full_disk_is_reported_and_the_next_cycle_with_space_succeeds(spare_kilobytes: int, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        home = outdated_project(disk / "project")
        filler = fill(disk, spare_kilobytes)
        result = ragtide(home.root, "run")
        filler.unlink()
        assert f"{home.root / '.ragtide'} has 0 MB free" in assert_one_error(result)
        assert_recovers(home)


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts as Linux does")
@pytest.mark.parametrize(
    ("owner", "name"), [(maintenance, "update_text_index"), (Registry, "record_release"), (Registry, "set_live")]
)
def test_a_disk_that_fills_up_during_a_cycle_is_named(
    owner: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        home = outdated_project(disk / "project")
        with monkeypatch.context() as patched:
            act_before(patched, owner, name, lambda: fill(disk, 0))
            line = assert_one_error(ragtide(home.root, "run"))
        assert f"the disk is full: {home.root / '.ragtide'} has 0.0 MB free" in line
        (disk / "filler").unlink()
        assert_recovers(home)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount the folder over itself as read-only, even for an administrator."""
    forget_databases()
    if subprocess.run(["mount", "--bind", folder, folder], check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        forget_databases()
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts as Linux does")
def test_a_read_only_project_can_be_inspected_and_writing_commands_fail(tmp_path: Path) -> None:
    home = outdated_project(tmp_path / "project")
    before = tree(home.root)
    with read_only(home.root):
        for command in ("run", "plan", "snapshot", "rollback", "maintain"):
            assert_one_error(ragtide(home.root, command))
        assert ragtide(home.root, "status")[0] == 0
        assert ragtide(home.root, "history")[0] == 0
    assert tree(home.root) == before
    assert_recovers(home)


# --- MLflow ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_mlflow_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("no_mlflow_retries")
@pytest.mark.parametrize(
    "command", [["status"], ["plan"], ["run"], ["ask", PUMP], ["rollback"], ["history"], ["verify"]]
)
def test_a_command_reports_that_mlflows_server_is_down(command: list[str], tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    root = write_project(tmp_path / "project", registry={"tracking_uri": address})
    write(root / "data/kb/pump.md", page(OLD))
    write(root / "data/golden/q.jsonl", json.dumps({"question": PUMP, "answers": [OLD], "docs": ["pump.md"]}))
    assert f"MLflow at {address}" in assert_one_error(ragtide(root, *command))
    assert not (root / ".ragtide" / "lance").exists()


@contextmanager
def mlflow_server(state: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{state / 'server.db'}"]
    command += ["--artifacts-destination", str(state / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (state / "mlflow.log").open("ab") as log:
        server = subprocess.Popen(
            [*command, "--workers", "1"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            assert eventually(lambda: answers(port))
            yield server
        finally:
            stop(server)


def answers(port: int) -> bool:
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
        return bool(response.status == 200)


def stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, 9)
    server.wait()


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_cycle_that_loses_mlflow_changes_no_live_release_and_the_next_one_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is down at the start, or ends during the index build, at the description or at the pointer."""
    port = free_port()
    with mlflow_server(tmp_path, port):
        home = outdated_project(tmp_path / "project", registry={"tracking_uri": f"http://127.0.0.1:{port}"})
    assert "MLflow at" in assert_one_error(ragtide(home.root, "run"))
    # The error comes after seconds: MLflow's default of seven retries takes minutes.
    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 2
    for owner, name in ((maintenance, "update_text_index"), (Registry, "record_release"), (Registry, "set_live")):
        with mlflow_server(tmp_path, port) as server, monkeypatch.context() as patched:
            act_before(patched, owner, name, lambda: stop(server))
            assert "MLflow at" in assert_one_error(ragtide(home.root, "run")), name
        with mlflow_server(tmp_path, port):
            assert home.live.id == "1"
            assert home.project.ask(PUMP)[1].text == OLD
    with mlflow_server(tmp_path, port):
        assert_recovers(home)


def act_before(patched: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> None:
    """Do something as soon as this function is called."""
    original = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        act()
        return original(*arguments, **options)

    patched.setattr(owner, name, call)


# --- Prefect and DVC -------------------------------------------------------------------------------------------------


@pytest.mark.services
@pytest.mark.long
@pytest.mark.parametrize("command", ["run", "trigger"])
def test_a_command_reports_that_prefects_server_is_down(command: str, tmp_path: Path) -> None:
    home = outdated_project(tmp_path / "project")
    environment = os.environ | {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api", "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", "ragtide", command, "--project", str(home.root)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert "Prefect" in assert_one_error((done.returncode, done.stdout, done.stderr))
    assert_recovers(home)


def test_a_dvc_remote_that_is_down_stops_nothing(tmp_path: Path) -> None:
    home = outdated_project(tmp_path / "project")
    assert ragtide(home.root, "snapshot")[0] == 0
    settings = home.root / ".dvc/config"
    content = settings.read_text(encoding="utf-8").replace("[core]", "[core]\n    remote = far")
    remote = f"['remote \"far\"']\n    url = http://127.0.0.1:{free_port()}/dvc\n"
    settings.write_text(f"{content}{remote}", encoding="utf-8")
    write(home.root / "data/kb/more.md", "# More\n\nA page.\n")
    assert_recovers(home)


# --- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("days", [-400, 400])
def test_a_cycle_after_a_change_of_the_clock_does_the_same(
    days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow records the time of each run, so earlier cycles appear to lie far in the past or in the future."""
    home = outdated_project(tmp_path / "project", policy={"budget_hours_per_week": 1.0, "cool_down_hours": 24.0})
    usual = time.time
    monkeypatch.setattr(time, "time", lambda: usual() + days * 86400)
    assert_recovers(home)
    monkeypatch.setattr(time, "time", usual)
    write(home.root / "data/kb/pump.md", page(OLD))
    assert ragtide(home.root, "run")[0] == 0
    assert home.project.ask(PUMP)[1].text == OLD
    assert verify_project(home.project) == []
