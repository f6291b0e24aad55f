"""Does a bar say what is being done and how far it is, on the error stream, and end with the step?"""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from ragtide.flows import progress
from ragtide.pipelines.ports import Advance


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What a terminal would be sent."""
    screen = StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, color_system=None, _environ={"TERM": "xterm"})
    monkeypatch.setattr(progress, "console", terminal)
    return screen


def test_a_bar_names_its_step_and_counts_to_the_end(shown: StringIO) -> None:
    with progress.progress_bars("embedding chunks", 5) as advance:
        advance(2)
        advance(3)
    assert "embedding chunks" in shown.getvalue()
    assert "5/5" in shown.getvalue()


def test_a_bar_counts_what_was_done_and_no_more(shown: StringIO) -> None:
    with progress.progress_bars("answering", 300) as advance:
        advance(7)
    assert "7/300" in shown.getvalue()
    assert "300/300" not in shown.getvalue()


def test_a_step_with_nothing_to_do_shows_no_bar(shown: StringIO) -> None:
    with progress.progress_bars("embedding chunks", 0) as advance:
        advance(0)
    assert shown.getvalue() == ""


def fail_after_one(advance: Advance) -> None:
    advance(1)
    raise ConnectionError("the model went away")


def test_a_step_that_fails_leaves_the_terminal_to_the_next(shown: StringIO) -> None:
    with pytest.raises(ConnectionError), progress.progress_bars("first", 4) as advance:
        fail_after_one(advance)
    with progress.progress_bars("second", 2) as advance:
        advance(2)
    written = shown.getvalue()
    assert "1/4" in written
    assert "2/2" in written
    # The cursor is hidden while a bar moves, and shown again after each.
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 2


def test_bars_go_to_the_error_stream(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.console.stderr
    monkeypatch.setattr(progress, "console", Console(stderr=True, force_terminal=True, width=120))
    with progress.progress_bars("answering", 1) as advance:
        advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "answering" in err
