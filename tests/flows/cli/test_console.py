"""Tests of the parts that commands share: JSON output, defects, and output without colours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from pydantic_core import CoreSchema, core_schema

from ragtide.flows.cli.console import MAX_ERROR_LENGTH, emit_json, exit_with_error, report_errors
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.base import RECORD_VERSION
from ragtide.pipelines.records.data import Rename
from tests.flows.cli.commands import MakeProject, at, errors

NOISY = """
import os, subprocess, sys
import typer
from ragtide.flows.cli.console import emit_json, out, report_errors
from ragtide.pipelines.errors import UserError

@report_errors
def command(as_json, fail):
    early = sys.stdout
    print("printed")
    out.print("printed by rich")
    os.write(1, b"written to the descriptor\\n")
    subprocess.run(["echo", "printed by a child"], check=True)
    early.write("printed to a kept stream\\n")
    if fail:
        raise UserError("it failed")
    emit_json("test", value=1)

try:
    command(as_json=True, fail=len(sys.argv) > 1)
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


@dataclass(frozen=True)
class Named:
    """A dataclass that pydantic writes as its name, as it does an action."""

    name: str

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        write = core_schema.plain_serializer_function_ser_schema(lambda named: named.name)
        return core_schema.is_instance_schema(cls, serialization=write)


@dataclass(frozen=True)
class Pair:
    rename: Rename
    score: float
    named: Named


def test_a_document_holds_its_kind_the_version_and_the_records(capsys: pytest.CaptureFixture[str]) -> None:
    renamed = Rename(before="ä.md", after="b.md")
    pair = Pair(renamed, float("nan"), Named("x"))
    emit_json("test", renamed=renamed, pairs=(pair,), named={"y": Named("y")}, path=Path("a/b"), none=None)
    content = json.loads(capsys.readouterr().out)
    plain = {"record_version": RECORD_VERSION, "before": "ä.md", "after": "b.md", "edited": False}
    assert content == {
        "kind": "test",
        "record_version": RECORD_VERSION,
        "renamed": plain,
        "pairs": [{"rename": plain, "score": None, "named": "x"}],
        "named": {"y": "y"},
        "path": "a/b",
        "none": None,
    }


def test_only_the_document_is_written_to_stdout() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["value"] == 1
    assert len(done.stderr.splitlines()) == 5


def test_an_error_leaves_stdout_empty() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY, "fail"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, errors(done.stderr)) == (1, "", ["ragtide: it failed"])


def test_the_message_of_an_error_stays_on_one_line_of_limited_length(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as end:
        exit_with_error("[bold]a\nb" + "x" * 2 * MAX_ERROR_LENGTH)
    line = capsys.readouterr().err
    assert end.value.exit_code == 1
    assert line.startswith(r"ragtide: [bold]a\nbx")
    assert (line.count("\n"), len(line) < MAX_ERROR_LENGTH + 20) == (1, True)


def test_a_defect_names_itself_and_the_file_of_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @report_errors
    def command(project: Path) -> None:
        raise ZeroDivisionError("unexpected")

    monkeypatch.delenv("RAGTIDE_TRACEBACKS", raising=False)
    with pytest.raises(ZeroDivisionError):
        command(project=tmp_path)
    (tmp_path / ".ragtide").mkdir()
    with pytest.raises(typer.Exit) as end:
        command(project=tmp_path)
    [path] = (tmp_path / ".ragtide/logs").iterdir()
    [line] = errors(capsys.readouterr().err)
    assert end.value.exit_code == 1
    assert "ZeroDivisionError: unexpected" in line
    assert str(path) in line
    assert "in command" in path.read_text(encoding="utf-8")
    monkeypatch.setenv("RAGTIDE_TRACEBACKS", "1")
    with pytest.raises(ZeroDivisionError):
        command(project=tmp_path)


def test_text_that_is_not_utf_8_is_a_user_error(capsys: pytest.CaptureFixture[str]) -> None:
    @report_errors
    def command(why: str) -> None:
        raise UserError("not reached")

    with pytest.raises(typer.Exit):
        command(why="caf\udce9")
    [line] = errors(capsys.readouterr().err)
    assert "why" in line
    assert "UTF-8" in line


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_colour_is_printed_if_no_color_is_set(variables: dict[str, str], coloured: bool, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ragtide", "status", "--project", str(tmp_path)]
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    environment = plain | {"FORCE_COLOR": "1", "TERM": "xterm-256color"} | variables
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert ("\x1b[1;31m" in done.stderr) is coloured
    assert ("31m" in done.stderr) is coloured


def test_commands_that_need_an_extra_name_it(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_project()
    monkeypatch.setattr("ragtide.flows.cli.console.find_spec", lambda _: None)
    for command in ("up", "down", "watch"):
        code, stdout, stderr = at(root, command)
        assert (code, stdout) == (1, "")
        [line] = errors(stderr)
        assert "[services]" in line
