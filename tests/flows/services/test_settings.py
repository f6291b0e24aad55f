"""Tests of the services' settings: commands, environment, secrets, and unsafe settings that are raised."""

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
from ragtide.flows.environment import (
    HUB_OFFLINE,
    LIBRARY_DEFAULTS,
    MLFLOW_GENERATED_AUTH,
    prefect_auth_file,
)
from ragtide.flows.services import settings
from ragtide.flows.services.access import is_loopback
from ragtide.flows.services.secret_files import mlflow_auth
from ragtide.flows.services.settings import (
    check_settings,
    control_socket,
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
    """The command of each program in supervisord.conf, as supervisor reads it: `%%` is `%`, then split into words."""
    parser = RawConfigParser()
    parser.read(write_settings(workspace), encoding="utf-8")
    names = [name for name in parser.sections() if name.startswith("program:")]
    return {name.removeprefix("program:"): shlex.split(parser[name]["command"].replace("%%", "%")) for name in names}


def test_five_services_run_and_each_is_restarted(make_project: Make) -> None:
    workspace = opened(make_project)
    parser = RawConfigParser()
    parser.read(write_settings(workspace))
    names = [name for name in parser.sections() if name.startswith("program:")]
    assert names == [f"program:{name}" for name in ("prefect", "mlflow", "worker", "watcher", "webhook")]
    for name in names:
        assert parser[name]["autorestart"] == "true"
        assert parser[name]["killasgroup"] == "true"
        assert parser[name]["stdout_logfile_backups"] == "3"
    assert [parser[name]["autostart"] for name in names] == ["true", "true", "false", "false", "false"]


def test_both_servers_listen_on_loopback_by_default(make_project: Make) -> None:
    commands = programs(opened(make_project))
    for name in ("prefect", "mlflow"):
        assert commands[name][commands[name].index("--host") + 1] == "127.0.0.1"


def test_mlflow_has_one_worker_and_the_projects_own_store(make_project: Make) -> None:
    workspace = opened(make_project)
    words = programs(workspace)["mlflow"]
    assert words[words.index("--workers") + 1] == "1"
    assert words[words.index("--backend-store-uri") + 1] == workspace.tracking_uri
    assert service_environment(workspace, {})["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_a_folder_with_blanks_quotes_and_percent_signs_is_passed_on_unchanged(make_project: Make) -> None:
    workspace = opened(make_project, 'a "b" 100% c')
    watcher = programs(workspace)["watcher"]
    assert watcher == [sys.executable, "-m", "ragtide", "watch", "--project", str(workspace.root)]


def test_the_environment_has_short_heartbeats_and_restricted_origins(make_project: Make) -> None:
    workspace = opened(make_project, services={"prefect_port": 4301, "cors_origins": ["https://kb.example.org"]})
    environment = service_environment(workspace, {})
    assert environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4301/api"
    origins = "http://127.0.0.1:4301,http://localhost:4301,https://kb.example.org"
    assert environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == origins


def test_telemetry_is_off_in_every_service_unless_the_user_set_it(make_project: Make) -> None:
    environment = service_environment(opened(make_project), {"DO_NOT_TRACK": "0"})
    assert environment.items() >= (LIBRARY_DEFAULTS | {"DO_NOT_TRACK": "0"}).items()
    # The worker outlives changes of params.yaml: each run decides by itself whether it needs the hub.
    assert not HUB_OFFLINE.keys() & environment.keys()


def hosts_of(words: list[str], option: str = "--allowed-hosts") -> list[str]:
    return words[words.index(option) + 1].split(",")


@pytest.mark.parametrize("name", ["prefect", "mlflow"])
def test_both_servers_answer_under_exact_names_and_no_patterns(make_project: Make, name: str) -> None:
    words = programs(opened(make_project, services={f"{name}_port": 4321}))[name]
    assert hosts_of(words) == ["127.0.0.1", "127.0.0.1:4321", "localhost", "localhost:4321"]


def test_named_hosts_and_origins_are_allowed_beside_this_machine(make_project: Make) -> None:
    services = {"allowed_hosts": ["kb.example.org", "*.intra:8443"], "cors_origins": ["https://kb.example.org"]}
    words = programs(opened(make_project, services=services))["mlflow"]
    assert hosts_of(words)[4:] == ["kb.example.org", "kb.example.org:5000", "*.intra:8443"]
    origins = ["http://127.0.0.1:5000", "http://localhost:5000", "https://kb.example.org"]
    assert hosts_of(words, "--cors-allowed-origins") == origins


def test_no_password_reaches_a_file(make_project: Make) -> None:
    workspace = opened(make_project)
    service_environment(workspace, PASSWORDS)
    write_settings(workspace)
    written = [path.read_text() for path in services_folder(workspace).iterdir() if path.is_file()]
    assert len(written) >= 2
    assert not [text for text in written if SECRET in text]


def test_the_services_folder_is_private(make_project: Make) -> None:
    workspace = opened(make_project)
    write_settings(workspace)
    assert services_folder(workspace).stat().st_mode & 0o777 == 0o700


def test_clients_get_the_servers_passwords(make_project: Make) -> None:
    environment = service_environment(opened(make_project), PASSWORDS)
    assert environment["PREFECT_API_AUTH_STRING"] == f"admin:{SECRET}"
    assert (environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"]) == ("admin", SECRET)
    assert len(environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]) == 64


def test_mlflows_password_is_generated_where_its_own_users_are_not_set_up(make_project: Make) -> None:
    workspace = opened(make_project)
    generated = service_environment(workspace, {})[MLFLOW_GENERATED_AUTH]
    assert generated == workspace.mlflow_auth_file.read_text() == mlflow_auth(workspace)
    assert generated.startswith("admin:")
    assert len(generated) > 40
    assert MLFLOW_GENERATED_AUTH not in service_environment(workspace, PASSWORDS)


def test_mlflow_requires_a_password_where_one_is_set(make_project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened(make_project)
    assert "--app-name" not in programs(workspace)["mlflow"]
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", SECRET)
    assert programs(workspace)["mlflow"][-2:] == ["--app-name", "basic-auth"]


def test_a_socket_with_too_long_a_path_is_created_in_a_private_folder(
    make_project: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "user_cache_path", lambda _: tmp_path / "short")
    short, long = Workspace(Path("/p"), opened(make_project).params), opened(make_project, "x" * 120)
    assert control_socket(short) == Path("/p/.ragtide/services/control")
    assert control_socket(long).parent == tmp_path / "short" / "sockets"
    write_settings(long)
    assert control_socket(long).parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.0.0.9", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("kb", False)],
)
def test_loopback_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("missing", PASSWORDS)
def test_a_public_host_needs_a_password_for_every_server(make_project: Make, missing: str) -> None:
    workspace = opened(make_project, services={"host": "0.0.0.0"})
    check_settings(workspace, PASSWORDS)
    with pytest.raises(UserError, match=f"set {missing} in the environment"):
        check_settings(workspace, {key: value for key, value in PASSWORDS.items() if key != missing})


def test_all_missing_passwords_are_named(make_project: Make) -> None:
    with pytest.raises(UserError, match=f"set {', '.join(PASSWORDS)} in the environment"):
        check_settings(opened(make_project, services={"host": "0.0.0.0"}), {})


def test_a_password_too_short_for_mlflow_is_an_error(make_project: Make) -> None:
    with pytest.raises(UserError, match="MLFLOW_AUTH_ADMIN_PASSWORD"):
        check_settings(opened(make_project), {"MLFLOW_AUTH_ADMIN_PASSWORD": "short"})


@pytest.mark.parametrize("key", ["prefect_database", "mlflow_database"])
def test_a_password_in_the_settings_is_an_error_that_does_not_repeat_it(make_project: Make, key: str) -> None:
    with pytest.raises(UserError, match=f"services.{key}") as raised:
        opened(make_project, services={key: f"postgresql://me:{SECRET}@db/kb"})
    assert SECRET not in str(raised.value)


def test_two_services_with_the_same_port_are_an_error(make_project: Make) -> None:
    with pytest.raises(UserError, match="4200, 4200, 5002"):
        check_settings(opened(make_project, services={"mlflow_port": 4200}), {})


def test_another_prefect_server_in_the_environment_is_an_error(make_project: Make) -> None:
    workspace = opened(make_project)
    check_settings(workspace, {"PREFECT_API_URL": "http://localhost:4200/api"})
    with pytest.raises(UserError, match="http://prefect:4200/api"):
        check_settings(workspace, {"PREFECT_API_URL": "http://prefect:4200/api"})


def test_a_missing_prefect_yaml_is_reported(make_project: Make) -> None:
    with pytest.raises(UserError, match=r"prefect\.yaml"):
        check_settings(Workspace.open(make_project()), {})


def test_an_mlflow_server_elsewhere_is_not_started_here(make_project: Make) -> None:
    assert not starts_mlflow(opened(make_project, registry={"tracking_uri": "https://mlflow.example.org"}))


def test_mlflows_server_uses_the_database_of_a_project_that_writes_through_it(make_project: Make) -> None:
    registry, database = {"tracking_uri": "http://localhost:5000"}, "postgresql://me@db/mlflow"
    through = opened(make_project, "through", registry=registry)
    assert starts_mlflow(through)
    assert mlflow_store(through) == f"sqlite:///{through.state / 'mlflow.db'}"
    on_postgres = opened(make_project, "postgres", registry=registry, services={"mlflow_database": database})
    assert mlflow_store(on_postgres) == database


def test_an_mlflow_database_that_no_run_writes_to_is_an_error(make_project: Make) -> None:
    workspace = opened(make_project, services={"mlflow_database": "postgresql://me@db/mlflow"})
    with pytest.raises(UserError, match=r"set registry\.tracking_uri to http://127\.0\.0\.1:5000"):
        check_settings(workspace, {})


def test_ragtide_ui_starts_mlflow_without_the_mark_of_the_services(
    make_project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = opened(make_project)
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda _, command, environment: started.append((command, environment)))
    done = CliRunner().invoke(app, ["ui", "--project", str(workspace.root), "--port", "5055"])
    assert done.exit_code == 0, done.output
    ((command, environment),) = started
    assert command[1:4] == ["-m", "mlflow", "server"]
    assert command[command.index("--port") + 1] == "5055"
    assert hosts_of(command) == ["127.0.0.1", "127.0.0.1:5055", "localhost", "localhost:5055"]
    assert "--http ragtide.flows.services.http_guard:GuardedMlflowProtocol" in command
    assert not prefect_auth_file(workspace.root).exists()
    assert settings.MARK not in environment


@pytest.mark.parametrize("command", ["up", "down", "deploy"])
def test_without_a_project_the_commands_change_nothing(command: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [command, "--project", str(tmp_path)])
    assert done.exit_code == 1
    assert "params.yaml" in done.output
    assert not list(tmp_path.iterdir())
