"""Tests of the process environment: defaults that the user may override, imports without side effects, credentials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

from ragtide.flows import environment as environment_module
from ragtide.flows.environment import (
    HUB_OFFLINE,
    LIBRARY_DEFAULTS,
    OFFLINE,
    apply_offline_defaults,
    credentials,
    make_prefect_home,
    prefect_auth_file,
    prepare_environment,
    server_file,
    uses_hub_model,
)
from ragtide.pipelines.params import Params

ROOT = Path(__file__).parent.parent.parent
PREFECT = ("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_LOGGING_LEVEL")
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
# Imports every module and reports each change of os.environ whose direct caller is a file of the package.
IMPORT_EVERYTHING = """
import importlib, json, os, pkgutil, sys

changes, environ = [], type(os.environ)

def recorded(method):
    def call(self, key, *value):
        frame = sys._getframe(1)
        while any(part in frame.f_code.co_filename for part in ("os.py", "_collections_abc.py", "frozen")):
            frame = frame.f_back
        changes.append((frame.f_code.co_filename, str(key)))
        return method(self, key, *value)
    return call

for name in ("__setitem__", "__delitem__"):
    setattr(environ, name, recorded(getattr(environ, name)))
before = dict(os.environ)
import ragtide
assert dict(os.environ) == before
os.environ["RAGTIDE_TEST"] = "recorded"
names = [module.name for module in pkgutil.walk_packages(ragtide.__path__, "ragtide.")]
for name in names:
    if name != "ragtide.__main__":
        importlib.import_module(name)
print(json.dumps({"modules": names, "changes": changes}))
"""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An empty environment for this test."""
    empty: dict[str, str] = {}
    monkeypatch.setattr(environment_module, "os", SimpleNamespace(environ=empty))
    return empty


# --- offline and telemetry defaults ----------------------------------------------------------------------------------


def test_unset_variables_get_their_defaults(environment: dict[str, str]) -> None:
    apply_offline_defaults()
    assert environment == OFFLINE


@pytest.mark.parametrize("key", OFFLINE)
@pytest.mark.parametrize("value", ["of the user", ""])
def test_a_variable_of_the_user_is_kept(key: str, value: str, environment: dict[str, str]) -> None:
    environment[key] = value
    apply_offline_defaults()
    assert environment == OFFLINE | {key: value}


@pytest.mark.parametrize("setting", [("embed", "model"), ("generate", "model"), ("index", "rerank")])
def test_the_hub_stays_reachable_where_params_name_a_hub_id(
    setting: tuple[str, str], environment: dict[str, str], tmp_path: Path
) -> None:
    block, key = setting
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({block: {key: HUB_ID}}), encoding="utf-8")
    apply_offline_defaults(tmp_path)
    assert environment == LIBRARY_DEFAULTS


@pytest.mark.parametrize("content", [None, "", "embed: [", "no_such_block: 1"])
def test_the_hub_is_switched_off_with_default_models_and_without_readable_params(
    content: str | None, environment: dict[str, str], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "params.yaml").write_text(content, encoding="utf-8")
    apply_offline_defaults(str(tmp_path))
    assert environment == HUB_OFFLINE | LIBRARY_DEFAULTS


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("packaged:anything", False),
        ("my_models.embedder:Embedder", False),
        ("models/own", False),
        (HUB_ID, True),
        ("models/missing", True),
    ],
)
def test_a_hub_id_is_neither_packaged_nor_a_plugin_nor_a_folder(model: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "models/own").mkdir(parents=True)
    assert uses_hub_model(Params.model_validate({"embed": {"model": model}}), tmp_path) is expected
    assert uses_hub_model(Params.model_validate({"index": {"rerank": model}}), tmp_path) is expected


def test_a_command_applies_the_defaults_of_its_project(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"generate": {"model": HUB_ID}}), encoding="utf-8")
    prepare_environment(tmp_path)
    assert environment.items() >= LIBRARY_DEFAULTS.items()
    assert not HUB_OFFLINE.keys() & environment.keys()


@pytest.mark.parametrize("name", ["evaluate", "maintain", "reconcile"])
def test_a_scheduled_flow_applies_the_defaults_before_it_opens_the_project(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ragtide.flows import scheduled

    class AppliedError(Exception):
        pass

    def apply(project: str) -> None:
        raise AppliedError(project)

    monkeypatch.setattr(scheduled, "apply_offline_defaults", apply)
    with pytest.raises(AppliedError, match=str(tmp_path)):
        getattr(scheduled, name).fn(str(tmp_path))


def test_prefect_yaml_applies_the_defaults_before_the_flow_is_imported() -> None:
    steps = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["pull"]
    function = f"{apply_offline_defaults.__module__}.{apply_offline_defaults.__qualname__}"
    assert {function: {"project": "{{ $RAGTIDE_PROJECT }}"}} in steps


def test_importing_any_module_changes_no_environment_variable() -> None:
    unset = {key: value for key, value in os.environ.items() if key not in OFFLINE}
    unset |= {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-c", IMPORT_EVERYTHING]
    done = subprocess.run(command, env=unset, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert {"ragtide.flows.keep_current", "ragtide.pipelines.registry.releases"} <= set(report["modules"])
    assert ["<string>", "RAGTIDE_TEST"] in report["changes"]
    folders = tuple(str(ROOT / folder) for folder in ("ragtide", "flows", "pipelines"))
    assert not [change for change in report["changes"] if change[0].startswith(folders)]


@pytest.mark.parametrize(("address", "is_allowed"), [("http://minio:9000", True), ("https://minio:9000", False)])
def test_plain_http_to_a_bucket_is_allowed_where_the_user_set_such_an_address(
    address: str, is_allowed: bool, environment: dict[str, str]
) -> None:
    environment["AWS_ENDPOINT_URL"] = address
    apply_offline_defaults()
    assert ("AWS_ALLOW_HTTP" in environment) is is_allowed


def test_client_credentials_come_from_the_servers_passwords_unless_the_user_set_others() -> None:
    servers = {"PREFECT_SERVER_API_AUTH_STRING": "admin:one", "MLFLOW_AUTH_ADMIN_PASSWORD": "two"}
    derived = {
        "PREFECT_API_AUTH_STRING": "admin:one",
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": "two",
    }
    assert credentials({}) == {}
    assert credentials(dict.fromkeys(servers, "")) == {}
    assert credentials(servers) == derived
    assert credentials(servers | {"PREFECT_API_AUTH_STRING": "me:mine"}).keys() == {
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    }


@pytest.mark.parametrize(
    "key", [key for key in OFFLINE if key.endswith(("OFFLINE", "TRACK", "ANALYTICS", "TELEMETRY"))]
)
def test_each_offline_and_telemetry_switch_is_on(key: str) -> None:
    assert OFFLINE[key] in ("1", "true")


def test_without_a_server_prefects_state_is_kept_in_the_project(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare_environment(Path("project"))
    assert environment["PREFECT_HOME"] == str(tmp_path / "project" / ".ragtide" / "prefect")
    assert environment["PREFECT_LOGGING_LEVEL"] == "WARNING"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def running_project(tmp_path: Path) -> Path:
    """A project whose server of `ragtide up` is this process, with a generated password."""
    process = psutil.Process()
    record = {"api": "http://127.0.0.1:4200/api", "pid": process.pid, "started": process.create_time()}
    server_file(tmp_path).parent.mkdir(parents=True)
    server_file(tmp_path).write_text(json.dumps(record))
    prefect_auth_file(tmp_path).write_text("admin:generated")
    return tmp_path


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:4200/api", "http://localhost:4200/api/"])
def test_commands_take_the_generated_password_of_the_running_server(
    url: str | None, environment: dict[str, str], running_project: Path
) -> None:
    environment.update({"PREFECT_API_URL": url} if url else {})
    prepare_environment(running_project)
    assert environment["PREFECT_API_AUTH_STRING"] == "admin:generated"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:4201/api", "http://prefect.example.org/api", "http://127.0.0.1:4200"]
)
def test_the_generated_password_is_sent_to_no_other_server(
    url: str, environment: dict[str, str], running_project: Path
) -> None:
    environment["PREFECT_API_URL"] = url
    prepare_environment(running_project)
    assert "PREFECT_API_AUTH_STRING" not in environment


def test_the_generated_password_is_not_sent_while_the_server_is_down(
    environment: dict[str, str], running_project: Path
) -> None:
    server_file(running_project).unlink()
    environment["PREFECT_API_URL"] = "http://127.0.0.1:4200/api"
    prepare_environment(running_project)
    assert "PREFECT_API_AUTH_STRING" not in environment


def test_a_password_of_the_user_wins(environment: dict[str, str], running_project: Path) -> None:
    environment["PREFECT_SERVER_API_AUTH_STRING"] = "me:mine"
    prepare_environment(running_project)
    assert environment["PREFECT_API_AUTH_STRING"] == "me:mine"


@pytest.mark.slow
def test_the_temporary_server_of_a_run_has_a_password(tmp_path: Path) -> None:
    """Prefect starts a server for a flow where none is set: it answers its own run and nobody else."""
    program = """
import httpx
from ragtide.flows.environment import apply_offline_defaults, protect_temporary_server
apply_offline_defaults()
protect_temporary_server()
from prefect import flow
from prefect.server.api.server import SubprocessASGIServer

@flow
def ask():
    [server] = set(SubprocessASGIServer._instances.values())
    return httpx.post(f"{server.api_url}/flow_runs/filter", json={}, timeout=60).status_code

print(ask())
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW"))}
    environment |= {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "401"


def test_with_a_server_prefects_home_is_not_set(environment: dict[str, str], tmp_path: Path) -> None:
    environment["PREFECT_API_URL"] = "http://127.0.0.1:4200/api"
    prepare_environment(tmp_path)
    make_prefect_home()
    assert "PREFECT_HOME" not in environment
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", PREFECT)
def test_a_prefect_setting_of_the_user_is_kept(key: str, environment: dict[str, str], tmp_path: Path) -> None:
    environment[key] = "of the user"
    prepare_environment(tmp_path)
    assert environment[key] == "of the user"


def test_prefects_home_is_created_with_its_parents(environment: dict[str, str], tmp_path: Path) -> None:
    prepare_environment(tmp_path / "deep" / "project")
    for _ in range(2):
        make_prefect_home()
    assert Path(environment["PREFECT_HOME"]).is_dir()


@pytest.mark.parametrize("heavy", ["", "import sys; sys.modules['mlflow'] = sys; "], ids=["fast", "normal"])
def test_fast_exit_flushes_the_output_and_keeps_the_code(heavy: str) -> None:
    code = f"{heavy}from ragtide.flows.environment import fast_exit; print('printed', end=''); fast_exit(3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "printed", "")


def test_exit_handlers_run_where_prefect_is_imported() -> None:
    code = (
        "import atexit, sys; atexit.register(print, 'ended'); from ragtide.flows.environment import fast_exit; "
        "sys.modules['prefect'] = sys; fast_exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\n")
