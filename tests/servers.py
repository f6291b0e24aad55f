"""Helpers of tests with real servers: free ports, Prefect's server, child processes and waiting."""

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

# A deployed run takes 80 s and more where it shares one core with the servers and another test.
PATIENCE_SECONDS = 240


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def eventually(condition: Any) -> Any:
    """The first true result of `condition` within PATIENCE_SECONDS; None if there is none."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if result := condition():
                return result
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
    """A Prefect server, stopped at the end."""
    port = str(urlsplit(environment["PREFECT_API_URL"]).port)
    command = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", port)
    with log.open("w") as file, running(*command, env=environment, stdout=file, stderr=subprocess.STDOUT):
        yield


@contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A long-running module, such as a server or a worker; terminated at the end, and killed if that fails."""
    process = subprocess.Popen([sys.executable, "-m", *command], **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
