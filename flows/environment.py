"""Process environment: offline and telemetry switches, credentials of the servers, and the end of the program.

Importing the package sets no environment variable. The command line, the services of `ragtide up`, the pull step of
prefect.yaml and the flows set what is missing before a heavy library is imported; what the user has set stays.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ragtide.pipelines.params import Params

# Keep huggingface_hub and transformers from the network. Both are read when these libraries are imported.
HUB_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
# Telemetry, progress bars, logging and retries of the libraries, whichever models a project uses.
LIBRARY_DEFAULTS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
    # Ragtide shows its own progress (flows/progress.py), which bars of the libraries would overwrite.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # Through a server, MLflow would print each run's address to stdout, between the lines of --json.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's default of seven retries takes minutes to report a server that is down; this takes seconds.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
OFFLINE = HUB_OFFLINE | LIBRARY_DEFAULTS
PREFECT_AUTH = "PREFECT_SERVER_API_AUTH_STRING"
MLFLOW_AUTH = "MLFLOW_AUTH_ADMIN_PASSWORD"
# `USER:PASSWORD` of MLflow's server, generated where MLflow's own users are not set up.
MLFLOW_GENERATED_AUTH = "RAGTIDE_MLFLOW_AUTH_STRING"


def apply_offline_defaults(project: Path | str | None = None) -> None:
    """Set the variables above that the user has not set.

    HUB_OFFLINE is not set where params.yaml of `project` names a model by its hub id. Without a project, or with a
    params.yaml that cannot be read, all are set. Also a pull step of prefect.yaml. The process's logs are made safe.
    """
    from ragtide.flows.terminal import make_logs_safe

    make_logs_safe()
    defaults = LIBRARY_DEFAULTS if project is not None and _project_uses_hub(Path(project)) else OFFLINE
    for key, value in defaults.items():
        os.environ.setdefault(key, value)
    # LanceDB refuses an S3 server over plain HTTP without this variable, although the address was set on purpose.
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        os.environ.setdefault("AWS_ALLOW_HTTP", "true")


def uses_hub_model(params: Params, root: Path) -> bool:
    """Whether `params` name a model by its Hugging Face hub id: neither packaged, nor a folder, nor `module:Class`.

    A relative folder is looked for in the current directory and in the project's folder `root`.
    """
    from ragtide.pipelines.models.load import is_plugin

    models = [params.embed.model, params.generate.model, params.index.rerank]
    named = [model for model in models if model and not model.startswith("packaged:") and not is_plugin(model)]
    return any(not Path(model).is_dir() and not (root / model).is_dir() for model in named)


def _project_uses_hub(project: Path) -> bool:
    from ragtide.pipelines.errors import UserError
    from ragtide.pipelines.params import read_params

    try:
        return uses_hub_model(read_params(project / "params.yaml"), project)
    except (UserError, OSError, ValueError):
        # The command or the flow opens the project next and reports what is wrong with it.
        return False


def prepare_environment(project: Path) -> None:
    """Prepare the environment of a command: offline defaults, quiet Prefect logs, credentials and Prefect's state.

    Where no Prefect server is set or running, its state is kept in the project's folder. The password of a server of
    `ragtide up` is read from its file.
    """
    apply_offline_defaults(project)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    # Prefect's event service reports a server that starts slowly or has ended; nothing of a command depends on it.
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    # Prefect waits 20 s for the server that it starts for a run; on a loaded machine the start has taken longer.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.update(credentials(os.environ))
    if "PREFECT_API_URL" not in os.environ:
        os.environ.setdefault("PREFECT_HOME", str(project.resolve() / ".ragtide" / "prefect"))
        if (running := running_server(project)) is not None:
            os.environ["PREFECT_API_URL"] = running
    if (password := generated_auth(project, os.environ.get("PREFECT_API_URL"))) is not None:
        os.environ.setdefault("PREFECT_API_AUTH_STRING", password)


def protect_temporary_server() -> None:
    """Give the server that Prefect starts for a run where none is set a password of its own.

    Prefect reads its settings when it is imported, so this must come before.
    """
    if "PREFECT_API_URL" in os.environ or "PREFECT_API_AUTH_STRING" in os.environ or "prefect" in sys.modules:
        return
    os.environ[PREFECT_AUTH] = f"ragtide:{secrets.token_urlsafe(32)}"
    os.environ.update(credentials(os.environ))


def server_file(project: Path) -> Path:
    """The file in which `ragtide up` records its Prefect server: address, process id and start time."""
    return project.resolve() / ".ragtide" / "services" / "server.json"


def prefect_auth_file(project: Path) -> Path:
    """The file of the password that `ragtide up` generates for its Prefect server."""
    return project.resolve() / ".ragtide" / "services" / "prefect-password"


def generated_auth(project: Path, address: str | None) -> str | None:
    """The generated password of the Prefect server at `address`, if that is the one that `ragtide up` keeps running."""
    if address is None or (running := running_server(project)) is None:
        return None
    if address.replace("//localhost:", "//127.0.0.1:").rstrip("/") != running:
        return None
    try:
        return prefect_auth_file(project).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def running_server(project: Path) -> str | None:
    """The API address of the Prefect server that `ragtide up` keeps running for a project; None if there is none.

    The start time is compared as well, since the system reuses process ids.
    """
    try:
        recorded = json.loads(server_file(project).read_text(encoding="utf-8"))
        pid, started, api = int(recorded["pid"]), float(recorded["started"]), str(recorded["api"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    import psutil

    try:
        return api if abs(psutil.Process(pid).create_time() - started) < 2 else None
    except psutil.Error:
        return None


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """The clients' credentials, derived from the servers' passwords in `environment`, except those set already."""
    derived = {}
    if environment.get(PREFECT_AUTH):
        derived["PREFECT_API_AUTH_STRING"] = environment[PREFECT_AUTH]
    if environment.get(MLFLOW_AUTH):
        derived["MLFLOW_TRACKING_USERNAME"] = environment.get("MLFLOW_AUTH_ADMIN_USERNAME", "admin")
        derived["MLFLOW_TRACKING_PASSWORD"] = environment[MLFLOW_AUTH]
    return {key: value for key, value in derived.items() if key not in environment}


def fast_exit(code: int) -> NoReturn:
    """End the program with `code`, without the interpreter's teardown where no library needs it.

    The teardown of LanceDB and pandas takes half a second, a fifth of a small refresh (docs/log.md). Prefect, MLflow
    and torch run exit handlers of their own, so these programs end in the usual way.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if not {"prefect", "mlflow", "torch"} & sys.modules.keys():
        os._exit(code)
    sys.exit(code)


def prefect_database() -> Path:
    """The database of the Prefect server that this process starts, or of the one that `ragtide up` runs."""
    return Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect")) / "prefect.db"


def make_prefect_home() -> None:
    """Create PREFECT_HOME with its parents: Prefect itself creates only the last folder."""
    if "PREFECT_HOME" in os.environ:
        from ragtide.pipelines.records.base import make_folder

        make_folder(Path(os.environ["PREFECT_HOME"]))
