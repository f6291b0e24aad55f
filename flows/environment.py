"""Which switches keep the embedded default offline and on this machine? Set before a heavy library is imported.

A user with a hub or a server sets any of them beforehand, and theirs stands.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
    # Ragtide shows its own progress bars; those of the libraries would break into them.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # MLflow tries a server that is away seven times, for minutes; so it is known after some seconds.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
PREFECT_AUTH = "PREFECT_SERVER_API_AUTH_STRING"
MLFLOW_AUTH = "MLFLOW_AUTH_ADMIN_PASSWORD"


def apply_offline_defaults() -> None:
    """Fill in what the user has not set; for the command line and for a worker alike."""
    for key, value in OFFLINE.items():
        os.environ.setdefault(key, value)
    # Who names an S3 server by plain HTTP means it; LanceDB asks to be told so once more.
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        os.environ.setdefault("AWS_ALLOW_HTTP", "true")


def prepare_environment(project: Path) -> None:
    """For the command line: without a Prefect server, its state stays in the project's folder, and it logs little."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    # Prefect gives the server that it starts for a run 20 s; a loaded machine has been seen to need more.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.update(credentials(os.environ))
    if "PREFECT_API_URL" in os.environ:
        return
    os.environ.setdefault("PREFECT_HOME", str(project.resolve() / ".ragtide" / "prefect"))
    if (running := running_server(project)) is not None:
        os.environ["PREFECT_API_URL"] = running


def server_file(project: Path) -> Path:
    """Where `ragtide up` notes its Prefect server."""
    return project.resolve() / ".ragtide" / "services" / "server.json"


def running_server(project: Path) -> str | None:
    """The API of the Prefect server that `ragtide up` keeps running for a project; None where it does not.

    The number of a process says little alone, since it is given again: its start counts too.
    """
    try:
        noted = json.loads(server_file(project).read_text(encoding="utf-8"))
        pid, started, api = int(noted["pid"]), float(noted["started"]), str(noted["api"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    import psutil

    try:
        return api if abs(psutil.Process(pid).create_time() - started) < 2 else None
    except psutil.Error:
        return None


def credentials(given: Mapping[str, str]) -> dict[str, str]:
    """What clients of the servers show: the servers' own passwords, where the user has not set others."""
    shown = {}
    if PREFECT_AUTH in given:
        shown["PREFECT_API_AUTH_STRING"] = given[PREFECT_AUTH]
    if MLFLOW_AUTH in given:
        shown["MLFLOW_TRACKING_USERNAME"] = given.get("MLFLOW_AUTH_ADMIN_USERNAME", "admin")
        shown["MLFLOW_TRACKING_PASSWORD"] = given[MLFLOW_AUTH]
    return {key: value for key, value in shown.items() if key not in given}


def exit_on_sigterm() -> None:
    """Have SIGTERM end the program as Ctrl-C does, so that Prefect stops the server that it started for the run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def fast_exit(code: int) -> NoReturn:
    """End the program with `code`. What has nothing left to do at the end is not taken down piece by piece.

    LanceDB and pandas need half a second for that, which is a fifth of a small refresh (docs/log.md).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if not {"prefect", "mlflow", "torch"} & sys.modules.keys():
        os._exit(code)
    sys.exit(code)


def make_prefect_home() -> None:
    """Prefect makes its folder, but not the folders above it."""
    if "PREFECT_HOME" in os.environ:
        Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
