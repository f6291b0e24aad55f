"""What do tests with real servers share? A free port on loopback, Prefect's server, and patience."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# A deployed run takes 80 s and more where one core serves it, the servers and another test.
PATIENCE_SECONDS = 240


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


def post(url: str, body: dict[str, Any], authorization: str | None = None) -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": authorization} if authorization else {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@contextmanager
def prefect_server(environment: dict[str, str], log: Path) -> Iterator[None]:
    """A real server, stopped by its own id."""
    port = str(urlsplit(environment["PREFECT_API_URL"]).port)
    command = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", port)
    with log.open("w") as file, running(*command, env=environment, stdout=file, stderr=subprocess.STDOUT):
        yield


@contextmanager
def running(*command: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A module that stays, such as a server or a worker; ended in order, and killed where it does not end."""
    process = subprocess.Popen([sys.executable, "-m", *command], **how)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
