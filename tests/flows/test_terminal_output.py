"""Test that no command writes control characters of documents, names, answers and arguments to a terminal."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import ColorSystem
from typer.testing import CliRunner

from ragtide.flows import progress
from ragtide.flows.cli import console
from ragtide.flows.cli.main import app
from ragtide.flows.cli.reference import every_command
from ragtide.flows.terminal import SafeConsole
from ragtide.flows.triggers import watcher
from tests.conftest import write_project
from tests.factories import write
from tests.flows.cli.commands import keep_commands_short
from tests.projects import Home

COMMANDS: dict[str, Any] = {entry.words: entry.command for entry in every_command()}
# A style that no view of ours has, an OSC link, a bell, C1, carriage return, backspace, bidirectional and zero-width.
NASTY = "\x1b[31;5;35m\x1b]8;;http://evil/\x07\x9b2J\r\x08\u202e\u2066\u200b\u2028\x7f"
SHORT = "\x1b[31;5;35m\u202e"
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Styles, and the cursor of progress bars.
OF_RICH = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|1A|2K)|\r")
CONSOLES: tuple[SafeConsole, ...] = (console.out, console.err, progress.console, watcher.console)
# An argument for each required parameter, and options that show more.
OPTIONS = {
    "plan": [[], ["--json"], ["-v"]],
    "run": [[], ["--json"]],
    "status": [[], ["--check"], ["--json"]],
    "diff": [[], ["--json"], [SHORT]],
    "examples": [[], ["--json"]],
    "history": [[], ["--json"]],
    "policies": [[], ["--json"]],
    "replay": [[], ["--policy", "always"], ["--policy", SHORT], ["--json"]],
    "ask": [[f"When does Pump {SHORT} reach end of life?"], ["When does Pump reach end of life?", "--json"]],
    "lineage": [[], ["--document", f"{SHORT}.md"], ["--json"], [SHORT]],
    "approve": [[SHORT], ["0123456789ab", "--why", NASTY]],
    "reject": [[SHORT, "--why", "x"]],
    "rollback": [["--to", SHORT], ["--why", NASTY]],
    "export": [[SHORT], ["--to", SHORT]],
    "stage": [["index"], [SHORT]],
    "trigger": [["--source", SHORT], ["--if-moved"]],
    "evaluate": [[], ["--json"]],
    "maintain": [[], ["--dry-run"]],
    "verify": [[], ["--json"], ["--repair"]],
    "notify": [["--test"]],
    "init": [[]],
}
CASES = [(name, arguments) for name in sorted(COMMANDS) for arguments in OPTIONS.get(name, [[]])]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a release and a history, in which every name and every text holds control characters.

    LanceDB takes no escape character in the path of a project.
    """
    root = write_project(tmp_path_factory.mktemp("terminal") / "project\u202e")
    page = f"# Pump {NASTY}\n\n## Pump {NASTY} 1\n\n- End of life: {NASTY}2027-01-01{NASTY}\n\nText {NASTY} text.\n"
    for name in (f"{SHORT}.md", "plain.md"):
        write(root / "data/kb" / name, page)
    write(root / "data/kb" / f"bad{SHORT}.pdf", NASTY)
    golden = {
        "question": f"When does Pump {NASTY} 1 reach end of life?",
        "answers": ["2027-01-01", f"2027{NASTY}"],
        "docs": ["plain.md"],
    }
    write(root / "data/golden" / "questions.jsonl", json.dumps(golden) + "\n")
    lines = [
        {"prompt": f"How old {NASTY}?", "completion": f"Old {NASTY}.", "doc": f"gone{SHORT}.md"},
        {"prompt": NASTY, "completion": ""},
        {"prompt": "again?", "completion": NASTY},
        {"prompt": "again?", "completion": f"no {NASTY}"},
        {NASTY: 1},
    ]
    write(root / "data/train" / f"lines{SHORT}.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines) + NASTY)
    result = CliRunner().invoke(app, ["run", "--project", str(root)])
    assert result.exit_code == 0, result.output
    Home(root).set("policy", approve_above_seconds=0)
    write(root / "data/kb" / "plain.md", page.replace("2027", "2029"))
    return root


@pytest.fixture(params=["plain", "terminal"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Output to a file, or to a terminal with colours."""
    if request.param == "terminal":
        for target in CONSOLES:
            monkeypatch.setattr(target, "_force_terminal", True)
            monkeypatch.setattr(target, "_color_system", ColorSystem.TRUECOLOR)
    keep_commands_short(monkeypatch)
    yield request.param
    progress.configure(progress.Verbosity.NORMAL)


def unsafe(text: str, mode: str) -> list[str]:
    """The control characters in the output of a command, but for line breaks and, on a terminal, those of rich."""
    if mode == "terminal":
        assert "31;5;35" not in re.sub(r"\\x1b\[31;5;35|\\u001b\[31;5;35", "", text)
        text = OF_RICH.sub("", text)
    return [char for char in text if char != "\n" and unicodedata.category(char) in UNSAFE]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=lambda value: re.sub(r"\W+", "-", ascii(value)))
def test_no_command_writes_a_control_character_of_anyone_else(
    name: str, arguments: list[str], mode: str, root: Path
) -> None:
    project = (
        ["--project", str(root)] if any(option.name == "project" for option in COMMANDS[name].params) else [str(root)]
    )
    result = CliRunner().invoke(app, [*name.split(), *arguments, *project])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert not unsafe(result.stdout, mode), ascii(result.stdout)
    assert not unsafe(result.stderr, mode), ascii(result.stderr)


@pytest.mark.parametrize(
    "line", [[SHORT], ["plan", SHORT], ["plan", f"--{SHORT}"], ["hooks", SHORT], ["serve", "--port", SHORT]]
)
def test_a_usage_error_repeats_no_control_character(line: list[str], mode: str) -> None:
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 2
    assert not unsafe(result.stderr, "terminal"), ascii(result.stderr)
    assert "Usage:" in result.stderr


def test_the_output_names_what_it_escapes(root: Path) -> None:
    result = CliRunner().invoke(app, ["status", "--project", str(root)])
    assert f"bad{SHORT}.pdf".encode("unicode_escape").decode() in result.stdout
    answer = CliRunner().invoke(app, ["ask", "When does Pump 1 reach end of life?", "--project", str(root)])
    assert "Pump \\x1b[31;5;35m" in answer.stdout
    document = CliRunner().invoke(app, ["diff", "--json", "--project", str(root)]).stdout
    assert json.loads(document)["kind"] == "diff"


def test_the_watcher_reports_without_control_characters(
    capsys: pytest.CaptureFixture[str], make_project: Callable[..., Path]
) -> None:
    from threading import Event

    watcher.Watcher(make_project(), Event())._report(f"failed: {NASTY}")
    assert not unsafe(capsys.readouterr().err, "plain")
