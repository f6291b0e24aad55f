"""Generated secrets of the services: created once, in files that only their user can read."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ragtide.flows.environment import MLFLOW_GENERATED_AUTH, PREFECT_AUTH, prefect_auth_file
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.base import make_folder
from ragtide.pipelines.workspace import Workspace

MIN_CHARACTERS = 16


def read_or_create_secret(path: Path, prefix: str = "") -> str:
    """The secret in `path`; one that begins with `prefix` is generated if there is none.

    Raises UserError for a secret of fewer than 16 ASCII characters.
    """
    if not path.exists():
        make_folder(path.parent)
        # mkstemp creates the file with mode 0600. The link makes it appear complete; the first of two processes wins.
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(prefix + secrets.token_urlsafe(32))
        with suppress(FileExistsError):
            os.link(temporary, path)
        Path(temporary).unlink()
    path.chmod(0o600)
    return check_secret(path.read_text(encoding="utf-8").strip(), str(path))


def check_secret(secret: str, source: str) -> str:
    """Return `secret`. Raises UserError, which names its `source`, if it has fewer than 16 ASCII characters."""
    if len(secret) < MIN_CHARACTERS or not secret.isascii():
        problem = f"the secret in {source} is not {MIN_CHARACTERS} or more ASCII characters"
        raise UserError(f"{problem}: change or remove it")
    return secret


def prefect_auth(project: Path, given: Mapping[str, str]) -> str:
    """The auth string of the project's Prefect server: from the variables `given`, or generated once into a file."""
    return given.get(PREFECT_AUTH) or read_or_create_secret(prefect_auth_file(project), prefix="admin:")


def mlflow_auth(workspace: Workspace) -> str:
    """The auth string of the project's MLflow server, generated once into a file."""
    return read_or_create_secret(workspace.mlflow_auth_file, prefix="admin:")


def mlflow_password_place(workspace: Workspace) -> str:
    """Where the password for MLflow's page is, for a message; empty where it was not generated."""
    if MLFLOW_GENERATED_AUTH not in os.environ:
        return ""
    return f", whose page asks for a password: the line in {workspace.mlflow_auth_file}"
