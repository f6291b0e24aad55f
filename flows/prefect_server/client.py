"""How does the news that data has moved reach the flow? As one Prefect event, which an automation answers with a run.

An event is a hint and no more: the run looks at what is in the folders itself. A hint that is lost is made up for by
flows/scheduled.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from ragtide.flows.environment import credentials
from ragtide.pipelines.errors import UnavailableError, summarize_error
from ragtide.pipelines.workspace import Workspace


@contextmanager
def server_client(workspace: Workspace | None = None) -> Iterator[SyncPrefectClient]:
    """A client of the server at PREFECT_API_URL; where that is not set, of the one that `ragtide up` starts for a
    project.

    Raises UnavailableError where no server answers, or where it says no: whoever asks can try again later.
    """
    usual = f"{workspace.params.services.prefect_url}/api" if workspace else None
    address = PREFECT_API_URL.value() or usual
    if address is None:
        raise UnavailableError("PREFECT_API_URL names no Prefect server: `ragtide up` starts one and says its address")
    auth = PREFECT_API_AUTH_STRING.value() or credentials(os.environ).get("PREFECT_API_AUTH_STRING")
    try:
        with (
            temporary_settings({PREFECT_API_URL: address, PREFECT_API_AUTH_STRING: auth}),
            get_client(sync_client=True) as client,
        ):
            yield client
    except HTTPStatusError as problem:
        code = problem.response.status_code
        why = "PREFECT_API_AUTH_STRING is not its own" if code == 401 else f"status {code}"
        raise UnavailableError(f"the Prefect server at {address} says no: {why}") from problem
    except HTTPError as problem:
        how = "`ragtide up` starts one, or PREFECT_API_URL names another"
        raise UnavailableError(
            f"no Prefect server answers at {address} ({summarize_error(problem)}): {how}"
        ) from problem
