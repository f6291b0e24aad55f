"""Prefect's server behind the checks of http_guard: what `prefect server start` runs, in one process.

`python -m ragtide.flows.services.run_prefect --host … --port … --allowed-hosts … --allowed-origins …`; everything else
is set by Prefect's own variables.
"""

from __future__ import annotations

import argparse

from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from ragtide.flows.services.http_guard import HostGuard, guarded_server


def run_prefect(arguments: argparse.Namespace) -> None:
    """Serve Prefect's API, pages and services until SIGTERM or Ctrl-C."""
    settings = get_current_settings().server
    app = create_app(final=True)
    guarded_server(
        HostGuard(app, arguments.allowed_hosts.split(","), arguments.allowed_origins.split(",")),
        host=arguments.host,
        port=arguments.port,
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        log_level=settings.logging_level.lower(),
    ).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="run_prefect")
    parser.add_argument("--port", type=int, required=True)
    for name in ("--host", "--allowed-hosts", "--allowed-origins"):
        parser.add_argument(name, required=True)
    run_prefect(parser.parse_args())
