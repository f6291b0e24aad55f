"""Safe output of this process: consoles and log records without raw control characters, log records without secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ragtide.pipelines.safe_text import escape_controls, format_traceback, mask_secrets

# In messages of several lines, such as tracebacks.
LAYOUT = "\n\t"


class SafeConsole(Console):
    """A console that writes control characters of what it prints as escapes; styles of its own stay, links do not."""

    def render_str(self, text: str, *arguments: Any, **options: Any) -> Text:
        """The text to print, escaped before its width is measured."""
        return super().render_str(escape_controls(text, keep=LAYOUT), *arguments, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of `renderable`; those with control codes are made by rich, and never hold anyone's text."""
        return map(_safe_segment, super().render(renderable, options))


def _safe_segment(segment: Segment) -> Segment:
    text, style, control = segment
    if control:
        return segment
    if style is not None and style.link:
        style = style.update_link(None)
    return Segment(escape_controls(text, keep="\n"), style)


class _SafeRecord(logging.LogRecord):
    """A log record without secrets and control characters, whichever handler writes it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if isinstance(self.args, tuple):
            self.args = tuple(_safe_line(part) if isinstance(part, str) else part for part in self.args)
        self._make_message_safe()
        if self.exc_info and self.exc_info[1]:
            # Formatters take this instead of formatting the exception themselves.
            self.exc_text = escape_controls(format_traceback(self.exc_info[1]), keep=LAYOUT)

    def _make_message_safe(self) -> None:
        try:
            message = self.getMessage()
        except (TypeError, ValueError):  # Reported by the handler.
            return
        safe = _safe_line(message)
        if safe != message:
            self.msg, self.args = safe, ()


def _safe_line(text: str) -> str:
    return escape_controls(mask_secrets(text), keep=LAYOUT)


def make_logs_safe() -> None:
    """Mask secrets and escape control characters in every log record that this process makes from now on."""
    logging.setLogRecordFactory(_SafeRecord)


def print_traceback(_kind: type[BaseException], problem: BaseException, _trace: TracebackType | None) -> None:
    """Print an uncaught error as Python does, without secrets and control characters; for `sys.excepthook`."""
    sys.stderr.write(escape_controls(format_traceback(problem), keep=LAYOUT))
