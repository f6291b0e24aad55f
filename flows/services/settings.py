"""Services of a project: their commands, environment and supervisor settings, and the checks before a start.

Secrets stay in the environment: they are written to no command line and to no file but their own (secret_files).
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from configparser import RawConfigParser
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_path

from ragtide.flows.environment import LIBRARY_DEFAULTS, MLFLOW_AUTH, MLFLOW_GENERATED_AUTH, PREFECT_AUTH, credentials
from ragtide.flows.services.access import allowed_hosts, allowed_origins, is_loopback
from ragtide.flows.services.secret_files import mlflow_auth, mlflow_password_place
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import ServicesParams
from ragtide.pipelines.records.base import close_to_others, make_folder
from ragtide.pipelines.workspace import Workspace, is_same_server

POOL = "ragtide"
# How often a deployed run sends a heartbeat: the shortest interval that Prefect accepts.
HEARTBEAT_SECONDS = 30
# A variable of every process that `ragtide up` starts, and of their children: `ragtide down` finds them by it.
MARK = "RAGTIDE_SERVICES"
WEBHOOK_AUTH = "RAGTIDE_WEBHOOK_TOKEN"
# The HTTP protocol of MLflow's server, with the checks of http_guard.
GUARD = "ragtide.flows.services.http_guard:GuardedMlflowProtocol"
# Seconds that a service has to end after SIGTERM before it is killed.
GRACE_SECONDS = 20
# The path of a unix socket may have 107 bytes (macOS: 103); supervisor temporarily appends a dot and its process id.
SOCKET_BYTES = 90


@dataclass(frozen=True)
class Service:
    """A program that supervisor keeps running: it is healthy when `url` answers, or when the file `beat` is written.

    `needs_prefect`: it is started only when Prefect's server answers.
    """

    name: str
    arguments: tuple[str, ...]
    url: str | None = None
    port: int | None = None
    beat: Path | None = None
    needs_prefect: bool = False

    @property
    def command(self) -> str:
        """The command line in supervisor's form: quoted as for a shell, and with `%` doubled."""
        wrapper = ("ragtide.flows.services.port_cleanup",) if self.port else ()
        return " ".join(_quoted(word) for word in (sys.executable, "-m", *wrapper, *self.arguments))


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def services_folder(workspace: Workspace) -> Path:
    """The folder of the services' settings and logs."""
    return workspace.state / "services"


def heartbeat_file(workspace: Workspace) -> Path:
    """The file of the watcher's heartbeat."""
    return services_folder(workspace) / "watcher.json"


def control_socket(workspace: Workspace) -> Path:
    """Supervisor's control socket: beside its settings, or in the user's cache folder if that path is too long."""
    path = services_folder(workspace) / "control"
    if len(os.fsencode(path)) <= SOCKET_BYTES:
        return path
    name = sha256(os.fsencode(path)).hexdigest()[:16]
    return user_cache_path("ragtide") / "sockets" / name


def list_services(workspace: Workspace) -> list[Service]:
    """The services that `ragtide up` starts for a project, in the order in which they depend on each other."""
    params = workspace.params.services
    mlflow = [_mlflow(workspace)] if starts_mlflow(workspace) else []
    project = ("--project", str(workspace.root))
    watch, webhook = ("ragtide", "watch", *project), ("ragtide", "webhook", *project)
    return [
        Service("prefect", _prefect(params), f"{params.prefect_url}/api/health", params.prefect_port),
        *mlflow,
        Service("worker", _worker(params), needs_prefect=True),
        Service("watcher", watch, beat=heartbeat_file(workspace), needs_prefect=True),
        Service("webhook", webhook, f"{params.webhook_url}/health", params.webhook_port, needs_prefect=True),
    ]


def _prefect(params: ServicesParams) -> tuple[str, ...]:
    address = (params.host, params.prefect_port)
    hosts = ("--allowed-hosts", ",".join(allowed_hosts(*address, params.allowed_hosts)))
    origins = ("--allowed-origins", ",".join(allowed_origins(*address, params.cors_origins)))
    server = ("--host", params.host, "--port", str(params.prefect_port))
    return ("ragtide.flows.services.run_prefect", *server, *hosts, *origins)


def _worker(params: ServicesParams) -> tuple[str, ...]:
    pool = ("--pool", POOL, "--type", "process", "--name", POOL)
    return ("prefect", "worker", "start", *pool, "--limit", str(params.runs_at_once))


def _mlflow(workspace: Workspace) -> Service:
    params = workspace.params.services
    arguments = mlflow_arguments(workspace, params.host, params.mlflow_port)
    return Service("mlflow", arguments, f"{params.mlflow_url}/health", params.mlflow_port)


def mlflow_arguments(workspace: Workspace, host: str, port: int) -> tuple[str, ...]:
    """Arguments of MLflow's server on the project's own store; one worker takes 0.5 GB, MLflow's default 3 GB."""
    params = workspace.params.services
    server = ("--host", host, "--port", str(port), "--workers", "1")
    store = ("--backend-store-uri", mlflow_store(workspace), "--artifacts-destination", workspace.artifact_store)
    # Without these lists MLflow would accept patterns of names, such as 10.*, that anybody can register.
    hosts = ("--allowed-hosts", ",".join(allowed_hosts(host, port, params.allowed_hosts)))
    origins = ("--cors-allowed-origins", ",".join(allowed_origins(host, port, params.cors_origins)))
    guard = ("--uvicorn-opts", f"--http {GUARD}")
    auth = ("--app-name", "basic-auth") if _mlflow_needs_password(os.environ) else ()
    return ("mlflow", "server", *store, *server, *hosts, *origins, *guard, *auth)


def starts_mlflow(workspace: Workspace) -> bool:
    """Whether `ragtide up` starts MLflow's server: not where registry.tracking_uri names another server."""
    uri = workspace.params.registry.tracking_uri
    return uri is None or not uri.startswith("http") or is_same_server(uri, workspace.params.services.mlflow_url)


def mlflow_store(workspace: Workspace) -> str:
    """The database of MLflow's server: the one that the project's runs are written to."""
    if workspace.params.services.mlflow_database:
        return workspace.params.services.mlflow_database
    through_server = workspace.tracking_uri.startswith("http")
    return f"sqlite:///{workspace.state / 'mlflow.db'}" if through_server else workspace.tracking_uri


def service_addresses(workspace: Workspace, prefect_password: str) -> list[str]:
    """A line for each service with a page or an interface: its address, and where its password is."""
    params = workspace.params.services
    mlflow = params.mlflow_url if starts_mlflow(workspace) else workspace.tracking_uri
    access = "this machine only" if is_loopback(params.host) else "other machines with a password"
    return [
        f"Prefect  {params.prefect_url}, whose page asks for a password: {prefect_password}",
        f"MLflow   {mlflow}{mlflow_password_place(workspace)}",
        f"webhook  {params.webhook_url}",
        f"The services listen on {params.host}, reachable from {access}.",
    ]


# --- environment and settings ---------------------------------------------------------------------------------------


def service_environment(workspace: Workspace, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of all services: `given`, the project's own variables, and the clients' credentials."""
    environment = {**LIBRARY_DEFAULTS, **_prefect_defaults(workspace), **given, **_project_variables(workspace)}
    # Programs such as uvicorn must be found where the virtual environment was not activated.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return environment | credentials(environment) | _mlflow_auth(workspace, environment)


def _project_variables(workspace: Workspace) -> dict[str, str]:
    """The variables that a user must not override."""
    params = workspace.params.services
    origins = allowed_origins(params.host, params.prefect_port, params.cors_origins)
    variables = {
        MARK: str(services_folder(workspace)),
        "RAGTIDE_PROJECT": str(workspace.root),
        "PREFECT_API_URL": f"{params.prefect_url}/api",
        # Prefect allows any origin by default.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if params.prefect_database:
        variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = params.prefect_database
    return variables


def _prefect_defaults(workspace: Workspace) -> dict[str, str]:
    """Defaults that a user may override."""
    return {
        "PREFECT_HOME": str(workspace.state / "prefect"),
        # The automations of flows/prefect_server/deployment.py detect a killed run by its missing heartbeats.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        # The interval at which a queued run tries to start. Prefect's default is 30 s.
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "10",
        # During a burst of triggers SQLite is locked for longer than Prefect's default of 10 s, which would lose runs.
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PYTHONUNBUFFERED": "1",
    }


def _mlflow_needs_password(given: Mapping[str, str]) -> bool:
    return MLFLOW_AUTH in given or "MLFLOW_AUTH_CONFIG_PATH" in given


def _mlflow_auth(workspace: Workspace, given: Mapping[str, str]) -> dict[str, str]:
    """MLflow's auth settings, or the generated password where its own users are not set up.

    By default MLflow would create its user database in the current directory.
    """
    if not _mlflow_needs_password(given):
        return {MLFLOW_GENERATED_AUTH: mlflow_auth(workspace)} if starts_mlflow(workspace) else {}
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(services_folder(workspace) / "mlflow-auth.ini"),
        # Signs the forms of MLflow's pages: a new key invalidates forms that are open in a browser, and nothing else.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }
    return {key: value for key, value in variables.items() if key not in given}


def write_settings(workspace: Workspace) -> Path:
    """Write the settings of supervisor and of MLflow's auth; returns supervisor's file."""
    folder = services_folder(workspace)
    make_folder(folder)
    close_to_others(folder)
    socket = control_socket(workspace)
    make_folder(socket.parent)
    close_to_others(socket.parent)
    auth = {"mlflow": {"default_permission": "READ", "admin_username": "admin"}}
    auth["mlflow"] |= {
        "database_uri": f"sqlite:///{workspace.state / 'mlflow-auth.db'}",
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    _write_ini(folder / "mlflow-auth.ini", auth)
    _write_ini(folder / "supervisord.conf", dict(supervisor_settings(workspace)))
    return folder / "supervisord.conf"


def _write_ini(path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    parser = RawConfigParser()
    parser.read_dict(sections)
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


def supervisor_settings(workspace: Workspace) -> Iterator[tuple[str, dict[str, str]]]:
    """The sections of supervisord.conf."""
    folder = str(services_folder(workspace)).replace("%", "%%")
    socket = str(control_socket(workspace)).replace("%", "%%")
    daemon = {
        "nodaemon": "true",
        "silent": "true",
        "logfile": f"{folder}/supervisor.log",
        "logfile_maxbytes": "5MB",
        "logfile_backups": "2",
        "pidfile": f"{folder}/supervisor.pid",
        "childlogdir": folder,
        "umask": f"{_umask():03o}",
    }
    # Supervisor warns when it runs as root without this setting.
    daemon |= {"user": "root"} if os.getuid() == 0 else {}
    yield "supervisord", daemon
    yield "unix_http_server", {"file": socket, "chmod": "0700"}
    factory = "supervisor.rpcinterface:make_main_rpcinterface"
    yield "rpcinterface:supervisor", {"supervisor.rpcinterface_factory": factory}
    yield "supervisorctl", {"serverurl": f"unix://{socket}"}
    for priority, service in enumerate(list_services(workspace), start=1):
        yield f"program:{service.name}", _program(workspace, service, priority)


def _umask() -> int:
    """The user's umask, which supervisor would replace by 022. It can be read only by setting it."""
    current = os.umask(0o077)
    os.umask(current)
    return current


def _program(workspace: Workspace, service: Service, priority: int) -> dict[str, str]:
    folder = str(services_folder(workspace)).replace("%", "%%")
    return {
        "command": service.command,
        "directory": str(workspace.root).replace("%", "%%"),
        # Supervisor stops the programs in the opposite order.
        "priority": str(priority),
        "autostart": str(not service.needs_prefect).lower(),
        "autorestart": "true",
        "startsecs": "5",
        # A database may be down for a night. Each retry waits a second longer than the one before.
        "startretries": "10000",
        "stopwaitsecs": str(GRACE_SECONDS),
        "stopasgroup": "false",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"{folder}/{service.name}.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "3",
    }


# --- checks before a start ------------------------------------------------------------------------------------------


def require_prefect_yaml(workspace: Workspace) -> None:
    """Raise UserError if the project has no prefect.yaml."""
    if not (workspace.root / "prefect.yaml").is_file():
        raise UserError(f"{workspace.root / 'prefect.yaml'} is missing: `ragtide init` writes one")


def check_settings(workspace: Workspace, given: Mapping[str, str]) -> None:
    """Raise UserError for settings with which the services cannot start, or would be unsafe."""
    params = workspace.params.services
    _check_ports(params)
    _check_host(params, given)
    _check_databases(workspace)
    _check_server(workspace, given)
    require_prefect_yaml(workspace)
    if starts_mlflow(workspace) and _mlflow_needs_password(given) and find_spec("flask_wtf") is None:
        raise UserError("passwords for MLflow need another package: pip install 'ragtide[auth]'")
    if MLFLOW_AUTH in given and len(given[MLFLOW_AUTH]) < 12:
        raise UserError(f"{MLFLOW_AUTH} is too short: MLflow requires 12 characters")


def _check_ports(params: ServicesParams) -> None:
    ports = [params.prefect_port, params.mlflow_port, params.webhook_port]
    if len(set(ports)) < len(ports):
        raise UserError(f"params.yaml: two services have the same port: {', '.join(map(str, ports))}")


def _check_host(params: ServicesParams, given: Mapping[str, str]) -> None:
    """Require a password for each server where other machines can reach them."""
    if is_loopback(params.host):
        return
    mlflow = MLFLOW_AUTH if "MLFLOW_AUTH_CONFIG_PATH" not in given else "MLFLOW_AUTH_CONFIG_PATH"
    missing = [name for name in (PREFECT_AUTH, mlflow, WEBHOOK_AUTH) if not given.get(name)]
    if missing:
        problem = f"services.host = {params.host} is reachable from other machines, so each server needs a password"
        raise UserError(f"{problem}: set {', '.join(missing)} in the environment, or services.host to 127.0.0.1")


def _check_databases(workspace: Workspace) -> None:
    params, uri = workspace.params.services, workspace.params.registry.tracking_uri
    if params.mlflow_database and not (uri and is_same_server(uri, params.mlflow_url)):
        problem = "params.yaml: services.mlflow_database needs runs that are written through MLflow's server"
        raise UserError(f"{problem}: set registry.tracking_uri to {params.mlflow_url}, or only to the database")
    if mlflow_store(workspace).startswith("postgresql") and find_spec("psycopg2") is None:
        raise UserError("PostgreSQL needs its driver: pip install 'ragtide[postgres]'")


def _check_server(workspace: Workspace, given: Mapping[str, str]) -> None:
    own, current = f"{workspace.params.services.prefect_url}/api", given.get("PREFECT_API_URL")
    if current and not is_same_server(current, own):
        problem = f"PREFECT_API_URL is {current}, but `ragtide up` would start a server at {own}"
        raise UserError(f"{problem}: unset it, or use `ragtide deploy` and a worker with the existing server")
