"""Is every service told what it should be, no secret written down, and a setting that would do harm refused?"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from configparser import RawConfigParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.flows.services import settings
from ragtide.flows.services.settings import (
    check_settings,
    control_socket,
    is_loopback,
    mlflow_store,
    service_environment,
    services_folder,
    starts_mlflow,
    write_settings,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.workspace import Workspace

Make = Callable[..., Path]
SECRET = "correct-horse-battery"
PASSWORDS = {
    "PREFECT_SERVER_API_AUTH_STRING": f"admin:{SECRET}",
    "MLFLOW_AUTH_ADMIN_PASSWORD": SECRET,
    "RAGTIDE_WEBHOOK_TOKEN": SECRET,
}


def opened(make_project: Make, name: str = "project", **blocks: dict[str, object]) -> Workspace:
    root = make_project(name, **blocks)
    (root / "prefect.yaml").touch()
    return Workspace.open(root)


def programs(workspace: Workspace) -> dict[str, list[str]]:
    """The command of each program in supervisord.conf, as supervisor reads it: `%%` is `%`, then in words."""
    parser = RawConfigParser()
    parser.read(write_settings(workspace), encoding="utf-8")
    found = {name: parser[name] for name in parser.sections() if name.startswith("program:")}
    return {
        name.removeprefix("program:"): shlex.split(one["command"].replace("%%", "%")) for name, one in found.items()
    }


def test_five_services_run_and_each_is_restarted(make_project: Make) -> None:
    workspace = opened(make_project)
    parser = RawConfigParser()
    parser.read(write_settings(workspace))
    names = [name for name in parser.sections() if name.startswith("program:")]
    assert names == [f"program:{name}" for name in ("prefect", "mlflow", "worker", "watcher", "door")]
    for name in names:
        assert parser[name]["autorestart"] == "true"
        assert parser[name]["killasgroup"] == "true"
        assert parser[name]["stdout_logfile_backups"] == "3"
    assert [parser[name]["autostart"] for name in names] == ["true", "true", "false", "false", "false"]


def test_both_servers_listen_on_this_machine_alone_by_default(make_project: Make) -> None:
    told = programs(opened(make_project))
    for name in ("prefect", "mlflow"):
        assert told[name][told[name].index("--host") + 1] == "127.0.0.1"


def test_mlflow_is_started_light_and_on_the_projects_own_runs(make_project: Make) -> None:
    workspace = opened(make_project)
    words = programs(workspace)["mlflow"]
    assert words[words.index("--workers") + 1] == "1"
    assert words[words.index("--backend-store-uri") + 1] == workspace.tracking_uri
    assert service_environment(workspace, {})["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_a_folder_with_blanks_quotes_and_percent_signs_reaches_the_programs_whole(make_project: Make) -> None:
    workspace = opened(make_project, 'a "b" 100% c')
    watcher = programs(workspace)["watcher"]
    assert watcher == [sys.executable, "-m", "ragtide.flows.cli.main", "watch", "--project", str(workspace.root)]


def test_killed_runs_are_missed_soon_and_prefect_answers_its_own_pages_alone(make_project: Make) -> None:
    workspace = opened(make_project, services={"prefect_port": 4301, "cors_origins": ["https://kb.example.org"]})
    told = service_environment(workspace, {})
    assert told["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert told["PREFECT_API_URL"] == "http://127.0.0.1:4301/api"
    origins = "http://127.0.0.1:4301,http://localhost:4301,https://kb.example.org"
    assert told["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == origins


def test_named_hosts_are_allowed_beside_this_machine(make_project: Make) -> None:
    words = programs(opened(make_project, services={"allowed_hosts": ["kb.example.org"]}))["mlflow"]
    hosts = words[words.index("--allowed-hosts") + 1].split(",")
    assert hosts == ["kb.example.org", "localhost", "localhost:5000", "127.0.0.1", "127.0.0.1:5000"]


def test_no_password_reaches_a_file(make_project: Make) -> None:
    workspace = opened(make_project)
    service_environment(workspace, PASSWORDS)
    write_settings(workspace)
    written = [path.read_text() for path in services_folder(workspace).iterdir() if path.is_file()]
    assert len(written) >= 2
    assert not [text for text in written if SECRET in text]


def test_the_folder_of_the_services_is_for_this_user_alone(make_project: Make) -> None:
    workspace = opened(make_project)
    write_settings(workspace)
    assert services_folder(workspace).stat().st_mode & 0o777 == 0o700


def test_clients_show_the_passwords_that_the_servers_ask_for(make_project: Make) -> None:
    told = service_environment(opened(make_project), PASSWORDS)
    assert told["PREFECT_API_AUTH_STRING"] == f"admin:{SECRET}"
    assert (told["MLFLOW_TRACKING_USERNAME"], told["MLFLOW_TRACKING_PASSWORD"]) == ("admin", SECRET)
    assert len(told["MLFLOW_FLASK_SERVER_SECRET_KEY"]) == 64


def test_mlflow_asks_for_a_password_where_one_is_set(make_project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened(make_project)
    assert "--app-name" not in programs(workspace)["mlflow"]
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", SECRET)
    assert programs(workspace)["mlflow"][-2:] == ["--app-name", "basic-auth"]


def test_a_socket_that_no_path_may_name_is_made_below_the_temporary_folder(
    make_project: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings.tempfile, "gettempdir", lambda: str(tmp_path / "short"))
    short, long = Workspace(Path("/p"), opened(make_project).params), opened(make_project, "x" * 120)
    assert control_socket(short) == Path("/p/.ragtide/services/control")
    assert control_socket(long).parent == tmp_path / "short" / f"ragtide-{os.getuid()}"
    (tmp_path / "short").mkdir()
    write_settings(long)
    assert control_socket(long).parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("127.0.0.1", True), ("127.0.0.9", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("kb", False)],
)
def test_an_address_of_this_machine_alone_is_told_from_others(host: str, is_here: bool) -> None:
    assert is_loopback(host) is is_here


@pytest.mark.parametrize("missing", PASSWORDS)
def test_other_machines_are_let_in_only_with_a_password_on_every_door(make_project: Make, missing: str) -> None:
    workspace = opened(make_project, services={"host": "0.0.0.0"})
    check_settings(workspace, PASSWORDS)
    with pytest.raises(UserError, match=f"all three need a password: set {missing} in the environment"):
        check_settings(workspace, {key: value for key, value in PASSWORDS.items() if key != missing})


def test_without_any_password_all_three_are_named_in_one_line(make_project: Make) -> None:
    with pytest.raises(UserError, match=f"set {', '.join(PASSWORDS)} in the environment, or host to 127.0.0.1"):
        check_settings(opened(make_project, services={"host": "0.0.0.0"}), {})


def test_a_password_that_mlflow_would_not_take_is_refused(make_project: Make) -> None:
    with pytest.raises(UserError, match="MLFLOW_AUTH_ADMIN_PASSWORD is too short"):
        check_settings(opened(make_project), {"MLFLOW_AUTH_ADMIN_PASSWORD": "short"})


@pytest.mark.parametrize("key", ["prefect_database", "mlflow_database"])
def test_a_password_in_the_settings_is_refused_and_not_repeated(make_project: Make, key: str) -> None:
    workspace = opened(make_project, services={key: f"postgresql://me:{SECRET}@db/kb"})
    with pytest.raises(UserError, match=f"services.{key} holds a password") as refused:
        check_settings(workspace, {})
    assert SECRET not in str(refused.value)


def test_one_port_for_two_is_refused(make_project: Make) -> None:
    with pytest.raises(UserError, match="one port twice: 4200, 4200, 5002"):
        check_settings(opened(make_project, services={"mlflow_port": 4200}), {})


def test_a_prefect_server_of_the_users_own_is_not_passed_over_in_silence(make_project: Make) -> None:
    workspace = opened(make_project)
    check_settings(workspace, {"PREFECT_API_URL": "http://localhost:4200/api"})
    with pytest.raises(UserError, match=r"names another server \(http://prefect:4200/api\)"):
        check_settings(workspace, {"PREFECT_API_URL": "http://prefect:4200/api"})


def test_a_project_without_prefect_yaml_is_told_how_to_get_one(make_project: Make) -> None:
    with pytest.raises(UserError, match=r"prefect.yaml is missing: `ragtide init` puts one there"):
        check_settings(Workspace.open(make_project()), {})


def test_an_mlflow_server_elsewhere_is_not_started_here(make_project: Make) -> None:
    assert not starts_mlflow(opened(make_project, registry={"tracking_uri": "https://mlflow.example.org"}))


def test_a_project_that_writes_through_the_server_has_it_read_its_database(make_project: Make) -> None:
    registry, database = {"tracking_uri": "http://localhost:5000"}, "postgresql://me@db/mlflow"
    through = opened(make_project, "through", registry=registry)
    assert starts_mlflow(through)
    assert mlflow_store(through) == f"sqlite:///{through.state / 'mlflow.db'}"
    on_postgres = opened(make_project, "postgres", registry=registry, services={"mlflow_database": database})
    assert mlflow_store(on_postgres) == database


def test_a_database_that_the_projects_runs_would_not_reach_is_refused(make_project: Make) -> None:
    workspace = opened(make_project, services={"mlflow_database": "postgresql://me@db/mlflow"})
    with pytest.raises(UserError, match=r"set registry\.tracking_uri to http://127\.0\.0\.1:5000"):
        check_settings(workspace, {})


def test_mlflows_page_by_itself_is_none_of_what_down_stops(make_project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened(make_project)
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda _, command, told: started.append((command, told)))
    done = CliRunner().invoke(app, ["ui", "--project", str(workspace.root), "--port", "5055"])
    assert done.exit_code == 0, done.output
    ((command, told),) = started
    assert command[1:4] == ["-m", "mlflow", "server"]
    assert command[command.index("--port") + 1] == "5055"
    assert settings.MARK not in told


@pytest.mark.parametrize("command", ["up", "down", "deploy"])
def test_without_a_project_nothing_is_started_or_stopped(command: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [command, "--project", str(tmp_path)])
    assert done.exit_code == 1
    assert "params.yaml is missing" in done.output
    assert not list(tmp_path.iterdir())
