"""Client of the project's Prefect server, with its errors as UnavailableError."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from ragtide.flows.environment import credentials, generated_auth
from ragtide.pipelines.errors import UnavailableError, summarize_error
from ragtide.pipelines.workspace import Workspace


@contextmanager
def server_client(workspace: Workspace | None = None) -> Iterator[SyncPrefectClient]:
    """A client of the server at PREFECT_API_URL; where that is not set, of the server that `ragtide up` starts for the
    project.

    Raises UnavailableError where no server answers or it refuses the request: the caller may try again later.
    """
    default = f"{workspace.params.services.prefect_url}/api" if workspace else None
    address = PREFECT_API_URL.value() or default
    if address is None:
        raise UnavailableError("PREFECT_API_URL is not set: `ragtide up` starts a Prefect server and shows its address")
    auth = PREFECT_API_AUTH_STRING.value() or credentials(os.environ).get("PREFECT_API_AUTH_STRING")
    if auth is None and workspace is not None:
        # `ragtide watch` may have started before the server.
        auth = generated_auth(workspace.root, address)
    try:
        with (
            temporary_settings({PREFECT_API_URL: address, PREFECT_API_AUTH_STRING: auth}),
            get_client(sync_client=True) as client,
        ):
            yield client
    except HTTPStatusError as problem:
        code = problem.response.status_code
        why = "PREFECT_API_AUTH_STRING is not the server's password" if code == 401 else f"status {code}"
        raise UnavailableError(f"the Prefect server at {address} refused the request: {why}") from problem
    except HTTPError as problem:
        remedy = "start one with `ragtide up`, or set PREFECT_API_URL"
        raise UnavailableError(
            f"no Prefect server answers at {address} ({summarize_error(problem)}): {remedy}"
        ) from problem
