"""Tests of generated secrets: once, complete, and readable by their user only."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ragtide.flows.environment import PREFECT_AUTH, prefect_auth_file
from ragtide.flows.services.secret_files import prefect_auth, read_or_create_secret
from ragtide.pipelines.errors import UserError


def test_a_secret_is_generated_once_and_only_its_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "services" / "token"
    secret = read_or_create_secret(path)
    assert len(secret) >= 32
    assert read_or_create_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["token"]


def test_a_secret_that_others_could_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a restored backup of a token")
    path.chmod(0o644)
    assert read_or_create_secret(path) == "a restored backup of a token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_concurrent_callers_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: read_or_create_secret(tmp_path / "token"), range(64)))
    assert len(secrets) == 1


@pytest.mark.parametrize("content", ["", "short", "letters with an umlaut \xfc"])
def test_a_secret_that_is_empty_or_short_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(UserError, match="16"):
        read_or_create_secret(tmp_path / "token")


def test_prefects_password_comes_from_the_environment_or_is_generated(tmp_path: Path) -> None:
    assert prefect_auth(tmp_path, {PREFECT_AUTH: "me:mine"}) == "me:mine"
    assert not prefect_auth_file(tmp_path).exists()
    generated = prefect_auth(tmp_path, {PREFECT_AUTH: ""})
    assert generated.startswith("admin:")
    assert prefect_auth(tmp_path, {}) == generated == prefect_auth_file(tmp_path).read_text()
