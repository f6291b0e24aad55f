"""Tests of progress: bars on a terminal, lines in a log file, verbosity, NO_COLOR."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

from ragtide.flows import progress
from ragtide.flows.progress import LINE_SECONDS, Verbosity, configure, progress_bars
from ragtide.pipelines.ports import Advance

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")


class Clock:
    """The time in seconds, as the test sets it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock() -> Iterator[Clock]:
    clock = Clock()
    configure(Verbosity.NORMAL, clock)
    yield clock
    configure(Verbosity.NORMAL)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """The output that a terminal would receive."""
    return show_on_terminal(monkeypatch, {"TERM": "xterm"})


def show_on_terminal(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> StringIO:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system="standard", _environ=environment)
    monkeypatch.setattr(progress, "console", console)
    return screen


@pytest.fixture
def log_file(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """The output where standard error is a file."""
    file = StringIO()
    monkeypatch.setattr(progress, "console", Console(file=file, force_terminal=False))
    return file


def fail_after_one(advance: Advance, clock: Clock | None = None) -> None:
    advance(1)
    if clock is not None:
        clock.now += 1
    raise ConnectionError("the model does not answer")


# --- on a terminal ---------------------------------------------------------------------------------------------------


def test_a_bar_names_its_step_and_counts_to_the_end(terminal: StringIO) -> None:
    with progress_bars("embedding chunks", 5) as advance:
        advance(2)
        advance(3)
    assert "embedding chunks" in terminal.getvalue()
    assert "5/5" in terminal.getvalue()


def test_a_bar_counts_only_what_was_done(terminal: StringIO) -> None:
    with progress_bars("answering", 300) as advance:
        advance(7)
    assert "7/300" in terminal.getvalue()
    assert "300/300" not in terminal.getvalue()


def test_a_failed_step_releases_the_terminal_to_the_next(terminal: StringIO) -> None:
    with pytest.raises(ConnectionError), progress_bars("first", 4) as advance:
        fail_after_one(advance)
    with progress_bars("second", 2) as advance:
        advance(2)
    written = terminal.getvalue()
    assert "1/4" in written
    assert "2/2" in written
    # The cursor is hidden while a bar is shown, and visible after each.
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 2


@pytest.mark.parametrize(("extra", "has_colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_respected(extra: dict[str, str], has_colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = show_on_terminal(monkeypatch, {"TERM": "xterm", **extra})
    with progress_bars("answering", 2) as advance:
        advance(2)
    assert bool(COLOUR.search(screen.getvalue())) is has_colour


def test_bars_go_to_standard_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.console.stderr
    monkeypatch.setattr(progress, "console", Console(stderr=True, force_terminal=True, width=120))
    with progress_bars("answering", 1) as advance:
        advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "answering" in err


# --- in a log file ---------------------------------------------------------------------------------------------------


def test_a_short_step_has_a_first_and_a_last_line(log_file: StringIO, clock: Clock) -> None:
    with progress_bars("embedding chunks", 5) as advance:
        advance(2)
        clock.now = 2.5
        advance(3)
    assert log_file.getvalue().splitlines() == [
        "embedding chunks: started, 5 to do",
        "embedding chunks: finished, 5 of 5 in 2.5 s",
    ]


def test_a_long_step_has_a_line_every_half_minute(log_file: StringIO, clock: Clock) -> None:
    with progress_bars("answering", 100) as advance:
        for _ in range(100):
            clock.now += 1
            advance(1)
    assert LINE_SECONDS == 30
    assert log_file.getvalue().splitlines()[1:-1] == [
        "answering: 30 of 100 after 30 s",
        "answering: 60 of 100 after 60 s",
        "answering: 90 of 100 after 90 s",
    ]


def test_the_last_line_of_a_failed_step_says_how_far_it_came(log_file: StringIO, clock: Clock) -> None:
    clock.now = 7.0
    with pytest.raises(ConnectionError), progress_bars("answering", 4) as advance:
        fail_after_one(advance, clock)
    assert log_file.getvalue().splitlines()[-1] == "answering: failed at 1 of 4 after 1.0 s"


def test_lines_have_no_control_characters_and_are_not_wrapped(log_file: StringIO) -> None:
    label = "a [bold]label[/] of many words " * 10
    with progress_bars(label, 1) as advance:
        advance(1)
    assert log_file.getvalue().splitlines()[0] == f"{label}: started, 1 to do"
    assert "\x1b" not in log_file.getvalue()


# --- verbosity -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["terminal", "log_file"])
def test_a_step_with_nothing_to_do_shows_nothing(output: str, request: pytest.FixtureRequest) -> None:
    written: StringIO = request.getfixturevalue(output)
    with progress_bars("embedding chunks", 0) as advance:
        advance(0)
    assert written.getvalue() == ""


@pytest.mark.parametrize("output", ["terminal", "log_file"])
def test_quiet_shows_no_progress(output: str, request: pytest.FixtureRequest) -> None:
    written: StringIO = request.getfixturevalue(output)
    configure(Verbosity.QUIET)
    with progress_bars("embedding chunks", 2) as advance:
        advance(2)
    logging.getLogger("ragtide.pipelines").debug("not shown")
    assert written.getvalue() == ""


def test_verbose_shows_debug_records_of_ragtide_and_of_no_library(log_file: StringIO) -> None:
    for _ in range(2):
        configure(Verbosity.VERBOSE)
    logging.getLogger("ragtide.pipelines.lease").debug("took the lease after %d s", 3)
    logging.getLogger("some_library").debug("not shown")
    assert log_file.getvalue().splitlines() == ["debug ragtide.pipelines.lease: took the lease after 3 s"]
    configure(Verbosity.NORMAL)
    logging.getLogger("ragtide.pipelines.lease").debug("not shown")
    assert len(log_file.getvalue().splitlines()) == 1
