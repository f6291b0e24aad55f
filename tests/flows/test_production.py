"""Tests of the settings of docs/production.md: PostgreSQL under both servers, passwords, and a bucket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.pages import quarters, write_quarter
from tests.servers import eventually, free_port
from tests.sites import FIRST, SECOND, Site

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
pytestmark = [pytest.mark.services, pytest.mark.long, pytest.mark.timeout(900)]
PASSWORD = "a-password-of-length"
BUCKET = "knowledge"


@pytest.fixture
def database() -> Iterator[str]:
    """A PostgreSQL server that requires a password; yields its user and address without the password."""
    if not POSTGRES:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # PostgreSQL refuses to run as root.
    user = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody"))
    user = user if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder, port = Path(tempfile.mkdtemp(prefix="ragtide-postgres-")), free_port()
    (folder / "password").write_text(PASSWORD)
    if os.getuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)

    def program(name: str, *words: str) -> list[str]:
        return [str(POSTGRES[-1].with_name(name)), *words]

    data = str(folder / "data")
    initdb = program("initdb", "-D", data, "-U", "ragtide", "-A", "scram-sha-256", "--pwfile", f"{folder}/password")
    subprocess.run(initdb, user=user if os.getuid() == 0 else None, cwd=folder, capture_output=True, check=True)
    serve = program("postgres", "-D", data, "-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1")
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(serve, user=user if os.getuid() == 0 else None, cwd=folder, stdout=log, stderr=log)
    try:
        server_options = ["-h", "127.0.0.1", "-p", str(port), "-U", "ragtide"]
        environment = os.environ | {"PGPASSWORD": PASSWORD}
        for name in ("prefect", "mlflow"):
            command = program("createdb", *server_options, name)
            assert eventually(
                lambda createdb=command: not subprocess.run(createdb, env=environment, check=False).returncode
            )
        yield f"ragtide@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=60)
        shutil.rmtree(folder)


def test_a_deployed_run_on_postgresql_with_passwords_makes_a_release(tmp_path: Path, database: str) -> None:
    site = Site.make(
        tmp_path / "project",
        services={
            "prefect_database": f"postgresql+asyncpg://{database}/prefect",
            "mlflow_database": f"postgresql://{database}/mlflow",
            "mlflow_port": (port := free_port()),
        },
        registry={"tracking_uri": f"http://127.0.0.1:{port}"},
    )
    site.environment |= {
        "PGPASSWORD": PASSWORD,
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{PASSWORD}",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "RAGTIDE_WEBHOOK_TOKEN": PASSWORD,
    }
    with site.up(), httpx.Client(timeout=60) as http:
        prefect, mlflow, webhook = (site.url(name) for name in ("prefect", "mlflow", "webhook"))
        runs, experiments = f"{prefect}/api/flow_runs/filter", f"{mlflow}/api/2.0/mlflow/experiments/search"
        completed = {"state": {"type": {"any_": ["COMPLETED"]}}, "deployment_id": {"is_null_": False}}
        admin = ("admin", PASSWORD)
        for answer in (
            http.post(runs, json={}),
            http.post(experiments, json={"max_results": 1}),
            http.post(f"{webhook}/trigger", json={}),
        ):
            assert answer.status_code == 401
        token = {"Authorization": f"Bearer {PASSWORD}"}
        assert http.post(f"{webhook}/trigger", json={}, headers=token).is_success
        assert site.becomes_live(FIRST)
        assert eventually(lambda: http.post(runs, json={"flow_runs": completed}, auth=admin).json())
        assert http.post(experiments, json={"max_results": 9}, auth=admin).json()["experiments"]
        write_quarter(site.root, quarters()[1])
        assert site.becomes_live(SECOND)
        site.ragtide("rollback")
        assert site.live_release() == FIRST
    assert not (site.root / ".ragtide" / "mlflow.db").exists()


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A bucket of an S3 server on this machine; yields the environment variables that name it."""
    moto = pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    assert moto
    address = f"http://127.0.0.1:{(port := free_port())}"
    environment = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    environment |= {"AWS_ENDPOINT_URL": address}
    with (tmp_path / "moto.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log)
    try:
        assert eventually(lambda: httpx.get(address, timeout=60).is_success if _listens(port) else False)
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket=BUCKET)
        yield environment
    finally:
        server.terminate()
        server.wait(timeout=30)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_index_releases_and_data_are_stored_in_a_bucket(tmp_path: Path, bucket: dict[str, str]) -> None:
    site = Site.make(
        tmp_path / "project",
        index={"uri": f"s3://{BUCKET}/index"},
        registry={"artifacts": f"s3://{BUCKET}/mlflow"},
    )
    site.environment |= bucket
    assert f"release {FIRST}" in site.ragtide("run")
    site.dvc("remote", "add", "-d", "store", f"s3://{BUCKET}/dvc")
    site.dvc("push")
    write_quarter(site.root, quarters()[1])
    assert f"release {SECOND}" in site.ragtide("run")
    site.ragtide("ask", "What is the latest release of Node.js?")
    site.ragtide("rollback")
    assert site.live_release() == FIRST
    site.ragtide("maintain")
    site.ragtide("verify")
    assert not (site.root / ".ragtide" / "lance").exists()
    assert not (site.root / ".ragtide" / "mlartifacts").exists()
    shutil.rmtree(site.root / ".ragtide" / "adapters")
    site.ragtide("ask", "What is the latest release of Node.js?")
