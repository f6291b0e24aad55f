"""Host names and origins under which the services answer; everything else is refused (docs/production.md)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import psutil

# The addresses that stand for all addresses of this machine, of these families.
ANY_ADDRESS = {"0.0.0.0": (socket.AF_INET,), "::": (socket.AF_INET, socket.AF_INET6)}


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_in_url(host: str) -> str:
    """A host as URLs and Host headers contain it: IPv6 addresses have brackets."""
    return f"[{host}]" if ":" in host else host


def allowed_hosts(host: str, port: int, named: Sequence[str] = ()) -> list[str]:
    """The values of the Host header under which a service on `host` and `port` answers, with and without the port.

    `named` are the names of `services.allowed_hosts`; only these may contain wildcards, where the user wrote them.
    """
    names = dict.fromkeys(name.lower() for name in (*_own_names(host), *named))
    return list(dict.fromkeys(value for name in names for value in _with_port(name, port)))


def allowed_origins(host: str, port: int, named: Sequence[str] = ()) -> list[str]:
    """The origins that may call such a service from a browser: its own pages, and `services.cors_origins`."""
    return list(dict.fromkeys([*(f"http://{name}:{port}" for name in _own_names(host)), *named]))


def _own_names(host: str) -> Iterator[str]:
    """The names of what listens on `host`: every name and address of this machine, if it is an unspecified address."""
    if families := ANY_ADDRESS.get(host):
        yield from ("localhost", socket.gethostname())
        for addresses in psutil.net_if_addrs().values():
            for address in addresses:
                if address.family in families:
                    yield host_in_url(address.address.partition("%")[0])
        return
    if host == "localhost":
        yield from ("127.0.0.1", "[::1]")
    yield host_in_url(host)
    if is_loopback(host):
        yield "localhost"


def _with_port(name: str, port: int) -> tuple[str, ...]:
    try:
        has_port = urlsplit(f"//{name}").port is not None
    except ValueError:
        has_port = True
    return (name,) if has_port or name == "*" else (name, f"{name}:{port}")
