"""Which services does a project have, what are they told, and what is refused before a start?

Secrets are in the environment alone: they reach no file and no command line.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from configparser import RawConfigParser
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from ragtide.flows.environment import MLFLOW_AUTH, PREFECT_AUTH, credentials
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import ServicesParams
from ragtide.pipelines.workspace import Workspace

POOL = "ragtide"
# In the environment of whatever `ragtide up` starts, and so of all that those start: how `ragtide down` knows its own.
MARK = "RAGTIDE_SERVICES"
WEBHOOK_AUTH = "RAGTIDE_WEBHOOK_TOKEN"
# Seconds that a service has to end by itself before it is killed.
GRACE_SECONDS = 20
# A path for a unix socket may have 107 bytes (macOS: 103); supervisor adds a dot and its process id for a moment.
SOCKET_BYTES = 90


@dataclass(frozen=True)
class Service:
    """A program that supervisor keeps running: it is well when `url` answers, or when the file `beat` is touched.

    `needs_prefect`: it is started when Prefect's server answers.
    """

    name: str
    arguments: tuple[str, ...]
    url: str | None = None
    port: int | None = None
    beat: Path | None = None
    needs_prefect: bool = False

    @property
    def command(self) -> str:
        """As supervisor reads it: in the manner of a shell, and with `%` doubled."""
        first = ("ragtide.flows.services.port_cleanup",) if self.port else ()
        return " ".join(_quoted(word) for word in (sys.executable, "-m", *first, *self.arguments))


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def services_folder(workspace: Workspace) -> Path:
    """Where the services keep their settings and logs."""
    return workspace.state / "services"


def control_socket(workspace: Workspace) -> Path:
    """The socket over which supervisor is spoken to: beside its settings, or below a temporary folder of this user
    alone where that path is too long for a socket.
    """
    here = services_folder(workspace) / "control"
    if len(os.fsencode(here)) <= SOCKET_BYTES:
        return here
    name = sha256(os.fsencode(here)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"ragtide-{os.getuid()}" / name


def list_services(workspace: Workspace) -> list[Service]:
    """What `ragtide up` starts for a project, in the order in which it is needed."""
    params = workspace.params.services
    mlflow = [_mlflow(workspace)] if starts_mlflow(workspace) else []
    project = ("--project", str(workspace.root))
    watch, door = ("ragtide", "watch", *project), ("ragtide", "door", *project)
    return [
        Service("prefect", _prefect(params), f"{params.prefect_url}/api/health", params.prefect_port),
        *mlflow,
        Service("worker", _worker(params), needs_prefect=True),
        Service("watcher", watch, beat=services_folder(workspace) / "watcher.json", needs_prefect=True),
        Service("door", door, f"{params.webhook_url}/health", params.webhook_port, needs_prefect=True),
    ]


def _prefect(params: ServicesParams) -> tuple[str, ...]:
    return ("prefect", "server", "start", "--host", params.host, "--port", str(params.prefect_port))


def _worker(params: ServicesParams) -> tuple[str, ...]:
    named = ("--pool", POOL, "--type", "process", "--name", POOL)
    return ("prefect", "worker", "start", *named, "--limit", str(params.runs_at_once))


def _mlflow(workspace: Workspace) -> Service:
    params = workspace.params.services
    arguments = mlflow_arguments(workspace, params.host, params.mlflow_port)
    return Service("mlflow", arguments, f"{params.mlflow_url}/health", params.mlflow_port)


def mlflow_arguments(workspace: Workspace, host: str, port: int) -> tuple[str, ...]:
    """MLflow's server on the project's own store, light: one worker, 0.5 GB where its default takes 3 GB."""
    params = workspace.params.services
    where = ("--host", host, "--port", str(port), "--workers", "1")
    store = ("--backend-store-uri", mlflow_store(workspace), "--artifacts-destination", workspace.artifact_store)
    hosts = [*params.allowed_hosts, *_own_hosts(host, port)] if params.allowed_hosts else []
    named = ("--allowed-hosts", ",".join(hosts)) if hosts else ()
    cors = ("--cors-allowed-origins", ",".join(params.cors_origins)) if params.cors_origins else ()
    auth = ("--app-name", "basic-auth") if _mlflow_asks(os.environ) else ()
    return ("mlflow", "server", *store, *where, *named, *cors, *auth)


def _own_hosts(host: str, port: int) -> list[str]:
    """MLflow takes a list of hosts as the whole list: without these, this machine itself would be turned away."""
    return [name for one in dict.fromkeys(("localhost", "127.0.0.1", host)) for name in (one, f"{one}:{port}")]


def starts_mlflow(workspace: Workspace) -> bool:
    """Whether MLflow's server is ours to start: not where the project names one that is elsewhere."""
    uri = workspace.params.registry.tracking_uri
    return uri is None or not uri.startswith("http") or _same_place(uri, workspace.params.services.mlflow_url)


def _same_place(one: str, other: str) -> bool:
    left, right = urlsplit(one.replace("localhost", "127.0.0.1")), urlsplit(other)
    return (left.hostname, left.port) == (right.hostname, right.port)


def mlflow_store(workspace: Workspace) -> str:
    """The database that MLflow's server reads: the one that the project's runs write to."""
    if workspace.params.services.mlflow_database:
        return workspace.params.services.mlflow_database
    through_server = workspace.tracking_uri.startswith("http")
    return f"sqlite:///{workspace.state / 'mlflow.db'}" if through_server else workspace.tracking_uri


# --- what they are told ---------------------------------------------------------------------------------------------


def service_environment(workspace: Workspace, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of all services: what is `given`, what belongs to the project, and passwords for the clients."""
    params = workspace.params.services
    origins = [params.prefect_url, params.prefect_url.replace("127.0.0.1", "localhost"), *params.cors_origins]
    ours = {
        MARK: str(services_folder(workspace)),
        "RAGTIDE_PROJECT": str(workspace.root),
        "PREFECT_API_URL": f"{params.prefect_url}/api",
        # Prefect's default is any page, and without a password that is any page that a user of this machine opens.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(dict.fromkeys(origins)),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if params.prefect_database:
        ours["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = params.prefect_database
    defaults = {
        "PREFECT_HOME": str(workspace.state / "prefect"),
        # Of a killed run, the automation of flows/prefect_server/deployment.py learns by the beats that stay out.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # A run that waits for its turn looks again so often. Prefect's default is half a minute.
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "10",
        # A burst of triggers on SQLite waits for the database, where Prefect's 10 s would drop what was asked for.
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PYTHONUNBUFFERED": "1",
    }
    told = defaults | dict(given) | ours
    # Programs of this environment, such as uvicorn, where it was not activated.
    told["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), told.get("PATH", os.defpath)])
    return told | credentials(told) | _mlflow_auth(workspace, told)


def _mlflow_asks(given: Mapping[str, str]) -> bool:
    return MLFLOW_AUTH in given or "MLFLOW_AUTH_CONFIG_PATH" in given


def _mlflow_auth(workspace: Workspace, given: Mapping[str, str]) -> dict[str, str]:
    """Where MLflow finds who may what. Its own default would be a database in the folder that it was started in."""
    if not _mlflow_asks(given):
        return {}
    told = {
        "MLFLOW_AUTH_CONFIG_PATH": str(services_folder(workspace) / "mlflow-auth.ini"),
        # Signs the forms of MLflow's pages; a new one ends what is open in a browser, and nothing else.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }
    return {key: value for key, value in told.items() if key not in given}


def write_settings(workspace: Workspace) -> Path:
    """Write what supervisor and MLflow's auth read; returns supervisor's file."""
    where = services_folder(workspace)
    where.mkdir(parents=True, exist_ok=True)
    where.chmod(0o700)
    socket = control_socket(workspace)
    socket.parent.mkdir(mode=0o700, exist_ok=True)
    if socket.parent.stat().st_uid != os.getuid():
        raise UserError(f"{socket.parent} belongs to another user: set TMPDIR to a folder of your own")
    auth = {"mlflow": {"default_permission": "READ", "admin_username": "admin"}}
    auth["mlflow"] |= {
        "database_uri": f"sqlite:///{workspace.state / 'mlflow-auth.db'}",
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    _write_ini(where / "mlflow-auth.ini", auth)
    _write_ini(where / "supervisord.conf", dict(supervisor_settings(workspace)))
    return where / "supervisord.conf"


def _write_ini(path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    parser = RawConfigParser()
    parser.read_dict(sections)
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


def supervisor_settings(workspace: Workspace) -> Iterator[tuple[str, dict[str, str]]]:
    """The sections of supervisord.conf."""
    where = str(services_folder(workspace)).replace("%", "%%")
    socket = str(control_socket(workspace)).replace("%", "%%")
    runner = {"nodaemon": "true", "silent": "true", "logfile": f"{where}/supervisor.log", "logfile_maxbytes": "5MB"}
    runner |= {
        "logfile_backups": "2",
        "pidfile": f"{where}/supervisor.pid",
        "childlogdir": where,
        "umask": f"{_umask():03o}",
    }
    # Without it, supervisor warns a user who is root.
    runner |= {"user": "root"} if os.getuid() == 0 else {}
    yield "supervisord", runner
    yield "unix_http_server", {"file": socket, "chmod": "0700"}
    factory = "supervisor.rpcinterface:make_main_rpcinterface"
    yield "rpcinterface:supervisor", {"supervisor.rpcinterface_factory": factory}
    yield "supervisorctl", {"serverurl": f"unix://{socket}"}
    for place, service in enumerate(list_services(workspace), start=1):
        yield f"program:{service.name}", _program(workspace, service, place)


def _umask() -> int:
    """The user's own, which supervisor would replace by 022. There is no reading it without setting it."""
    current = os.umask(0o077)
    os.umask(current)
    return current


def _program(workspace: Workspace, service: Service, place: int) -> dict[str, str]:
    where = str(services_folder(workspace)).replace("%", "%%")
    return {
        "command": service.command,
        "directory": str(workspace.root).replace("%", "%%"),
        # Supervisor stops them in the opposite order.
        "priority": str(place),
        "autostart": str(not service.needs_prefect).lower(),
        "autorestart": "true",
        "startsecs": "5",
        # A database may be away for a night: each try waits a second longer than the one before.
        "startretries": "10000",
        "stopwaitsecs": str(GRACE_SECONDS),
        "stopasgroup": "false",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"{where}/{service.name}.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "3",
    }


# --- what is refused ------------------------------------------------------------------------------------------------


def check_settings(workspace: Workspace, given: Mapping[str, str]) -> None:
    """Raise RefusalError for what cannot be started as it is set, or should not be."""
    params = workspace.params.services
    _check_ports(params)
    _check_host(params, given)
    _check_databases(workspace)
    _check_server(workspace, given)
    if not (workspace.root / "prefect.yaml").is_file():
        raise UserError(f"{workspace.root / 'prefect.yaml'} is missing: `ragtide init` puts one there")
    if starts_mlflow(workspace) and _mlflow_asks(given) and find_spec("flask_wtf") is None:
        raise UserError("MLflow asks for passwords only with another package: pip install 'ragtide[auth]'")
    if MLFLOW_AUTH in given and len(given[MLFLOW_AUTH]) < 12:
        raise UserError(f"{MLFLOW_AUTH} is too short: MLflow wants 12 characters")


def _check_ports(params: ServicesParams) -> None:
    ports = [params.prefect_port, params.mlflow_port, params.webhook_port]
    if len(set(ports)) < len(ports):
        raise UserError(f"params.yaml: services names one port twice: {', '.join(map(str, ports))}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_host(params: ServicesParams, given: Mapping[str, str]) -> None:
    """Elsewhere than on this machine, each door needs its password."""
    if is_loopback(params.host):
        return
    mlflow = MLFLOW_AUTH if "MLFLOW_AUTH_CONFIG_PATH" not in given else "MLFLOW_AUTH_CONFIG_PATH"
    missing = [name for name in (PREFECT_AUTH, mlflow, WEBHOOK_AUTH) if not given.get(name)]
    if missing:
        line = f"services.host = {params.host} can be reached from other machines, so all three need a password"
        raise UserError(f"{line}: set {', '.join(missing)} in the environment, or host to 127.0.0.1")


def _check_databases(workspace: Workspace) -> None:
    params, uri = workspace.params.services, workspace.params.registry.tracking_uri
    databases = {
        "services.prefect_database": params.prefect_database,
        "services.mlflow_database": params.mlflow_database,
        "registry.tracking_uri": uri,
    }
    for key, url in databases.items():
        if url and urlsplit(url).password:
            raise UserError(f"params.yaml: {key} holds a password: take it out, and set PGPASSWORD or ~/.pgpass")
    if params.mlflow_database and not (uri and _same_place(uri, params.mlflow_url)):
        line = "params.yaml: services.mlflow_database is for runs that are written through MLflow's server"
        raise UserError(f"{line}: set registry.tracking_uri to {params.mlflow_url}, or to the database alone")
    if mlflow_store(workspace).startswith("postgresql") and find_spec("psycopg2") is None:
        raise UserError("PostgreSQL needs its driver: pip install 'ragtide[postgres]'")


def _check_server(workspace: Workspace, given: Mapping[str, str]) -> None:
    ours, theirs = f"{workspace.params.services.prefect_url}/api", given.get("PREFECT_API_URL")
    if theirs and not _same_place(theirs, ours):
        line = f"PREFECT_API_URL names another server ({theirs}) than the one at {ours} that would be started"
        raise UserError(f"{line}: unset it; or `ragtide deploy` and a worker, for the server that you have")
