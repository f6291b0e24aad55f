"""What must a Prefect server know of a project? Work pool, deployments, and the automation that finds killed runs.

Deploying once more changes nothing but what was edited.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

from flows import zombies
from flows.services import POOL
from flows.triggers import prefect_server
from pipelines.errors import RefusalError
from pipelines.workspace import Workspace


def deploy(workspace: Workspace) -> None:
    """Tell the server at PREFECT_API_URL of the project.

    Raises UnavailableError where no server answers, RefusalError with Prefect's last words where it does not take
    prefect.yaml.
    """
    make_pool()
    deploy_flows(workspace)


def make_pool() -> None:
    """The pool whose worker runs the flows as processes of its own machine; before its first run, the automation."""
    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template)
    with prefect_server() as server, suppress(ObjectAlreadyExists):
        server.create_work_pool(pool)
    zombies.ensure()


def deploy_flows(workspace: Workspace) -> None:
    """The deployments of prefect.yaml, with their schedules and triggers."""
    if not (workspace.root / "prefect.yaml").is_file():
        raise RefusalError(f"{workspace.root / 'prefect.yaml'} is missing: `ragtide init` puts one there")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    environment = os.environ | {"RAGTIDE_PROJECT": str(workspace.root)}
    done = subprocess.run(command, cwd=workspace.root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-400:]
        raise RefusalError(f"prefect deploy, in {workspace.root}: {said}")
