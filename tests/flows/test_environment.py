"""Do the switches that keep the default offline leave the user's own values alone?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ragtide.flows import environment as switches
from ragtide.flows.environment import (
    OFFLINE,
    apply_offline_defaults,
    credentials,
    exit_on_sigterm,
    make_prefect_home,
    prepare_environment,
)

ROOT = Path(__file__).parent.parent.parent
PREFECT = ("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_LOGGING_LEVEL")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment in which nothing is set, for this test alone."""
    empty: dict[str, str] = {}
    monkeypatch.setattr(switches, "os", SimpleNamespace(environ=empty))
    return empty


def test_what_the_user_has_not_set_is_filled_in(environment: dict[str, str]) -> None:
    apply_offline_defaults()
    assert environment == OFFLINE


@pytest.mark.parametrize("key", OFFLINE)
def test_the_users_own_value_stands_and_the_rest_is_filled_in(key: str, environment: dict[str, str]) -> None:
    environment[key] = "of the user"
    apply_offline_defaults()
    assert environment == OFFLINE | {key: "of the user"}


@pytest.mark.parametrize(("address", "is_allowed"), [("http://minio:9000", True), ("https://minio:9000", False)])
def test_a_bucket_by_plain_http_is_allowed_where_the_user_names_one(
    address: str, is_allowed: bool, environment: dict[str, str]
) -> None:
    environment["AWS_ENDPOINT_URL"] = address
    apply_offline_defaults()
    assert ("AWS_ALLOW_HTTP" in environment) is is_allowed


def test_clients_show_the_servers_passwords_unless_the_user_has_others() -> None:
    servers = {"PREFECT_SERVER_API_AUTH_STRING": "admin:one", "MLFLOW_AUTH_ADMIN_PASSWORD": "two"}
    shown = {
        "PREFECT_API_AUTH_STRING": "admin:one",
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": "two",
    }
    assert credentials({}) == {}
    assert credentials(servers) == shown
    assert credentials(servers | {"PREFECT_API_AUTH_STRING": "me:mine"}).keys() == {
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    }


@pytest.mark.parametrize("key", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "MLFLOW_DISABLE_TELEMETRY"])
def test_even_an_empty_value_is_the_users_own(key: str, environment: dict[str, str]) -> None:
    environment[key] = ""
    apply_offline_defaults()
    assert environment[key] == ""


def test_importing_the_flows_has_set_every_switch() -> None:
    import flows

    assert flows.__doc__
    assert OFFLINE.keys() <= os.environ.keys()


@pytest.mark.parametrize(
    "key", [key for key in OFFLINE if key.endswith(("OFFLINE", "TRACK", "ANALYTICS", "TELEMETRY"))]
)
def test_each_switch_says_yes_to_staying_offline(key: str) -> None:
    assert OFFLINE[key] in ("1", "true")


def test_without_a_server_the_state_of_prefect_stays_in_the_project(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare_environment(Path("project"))
    assert environment["PREFECT_HOME"] == str(tmp_path / "project" / ".ragtide" / "prefect")
    assert environment["PREFECT_LOGGING_LEVEL"] == "WARNING"
    assert not list(tmp_path.iterdir())


def test_with_a_server_its_state_is_left_where_it_is(environment: dict[str, str], tmp_path: Path) -> None:
    environment["PREFECT_API_URL"] = "http://127.0.0.1:4200/api"
    prepare_environment(tmp_path)
    make_prefect_home()
    assert "PREFECT_HOME" not in environment
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", PREFECT)
def test_what_the_user_told_prefect_stands(key: str, environment: dict[str, str], tmp_path: Path) -> None:
    environment[key] = "of the user"
    prepare_environment(tmp_path)
    assert environment[key] == "of the user"


def test_the_folder_of_prefect_is_made_with_those_above_it_once_it_is_needed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    prepare_environment(tmp_path / "deep" / "project")
    for _ in range(2):
        make_prefect_home()
    assert Path(environment["PREFECT_HOME"]).is_dir()


def test_being_asked_to_stop_ends_the_program_in_order() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        exit_on_sigterm()
        with pytest.raises(SystemExit) as end:
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize("heavy", ["", "import sys; sys.modules['mlflow'] = sys; "], ids=["at once", "in order"])
def test_leaving_says_everything_and_keeps_the_code(heavy: str) -> None:
    code = f"{heavy}from ragtide.flows.environment import leave; print('said', end=''); leave(3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said", "")


def test_what_has_something_left_to_do_is_let_end_in_order() -> None:
    code = (
        "import atexit, sys; atexit.register(print, 'ended'); from ragtide.flows.environment import leave; "
        "sys.modules['prefect'] = sys; leave(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\n")
