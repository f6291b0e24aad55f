"""What do tests with real servers share? A free port on loopback, and patience."""

from __future__ import annotations

import socket
import time
from typing import Any

PATIENCE_SECONDS = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(claim: Any) -> Any:
    """The first true answer of `claim` within the time that a loaded machine may need."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if found := claim():
                return found
        except OSError:
            pass
        time.sleep(0.5)
    return None
