"""Addresses of `ragtide up` and `ragtide serve`: answers to foreign Host names and foreign origins.

`python -m bench.doors` starts both on a temporary project with the tests' models, reads what listens off the sockets of
the processes, and sends each address what a page of another site can send. The goal is no answer but to health checks.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bench.tables import update_results
from tests.listeners import Answer, find_listeners, foreign_origin_answers, rebound_answers, serving
from tests.sites import FIRST, Site


def main() -> None:
    """Write `doors`, `rebound_answers` and `foreign_origin_answers` to results/safe.json."""
    with tempfile.TemporaryDirectory(prefix="ragtide-doors-") as folder:
        site = Site.make(Path(folder) / "project")
        with site.up():
            if not site.becomes_live(FIRST):
                raise SystemExit("the project made no release in time")
            with serving(site):
                listeners = find_listeners(site.workspace)
                hosts = [listener.host for listener in listeners]
                rebound: list[Answer] = []
                foreign: list[Answer] = []
                for listener in listeners:
                    start = time.monotonic()
                    rebound += [answer for answer in rebound_answers(listener, hosts) if not answer.is_health]
                    foreign += [answer for answer in foreign_origin_answers(listener) if not answer.is_health]
                    sys.stdout.write(f"{listener.service} {listener.url}: {time.monotonic() - start:.0f} s\n")
    for answer in rebound + foreign:
        sys.stdout.write(f"{answer.listener.service} {answer.method} {answer.path} {answer.headers} {answer.status}\n")
    counts = {"doors": len(listeners), "rebound_answers": len(rebound), "foreign_origin_answers": len(foreign)}
    update_results("safe", "doors", counts)
    sys.stdout.write(f"{counts}\n")


if __name__ == "__main__":
    main()
