"""Tests of the names and origins under which the services answer."""

from __future__ import annotations

import socket

import psutil
import pytest
from pydantic import ValidationError

from ragtide.flows.services.access import allowed_hosts, allowed_origins, host_in_url, is_loopback
from ragtide.pipelines.params import ServicesParams


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.0.0.9", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("kb", False)],
)
def test_loopback_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", ["127.0.0.1", "localhost"]),
        ("::1", ["[::1]", "localhost"]),
        ("localhost", ["127.0.0.1", "[::1]", "localhost"]),
        ("192.0.2.7", ["192.0.2.7"]),
        ("KB.example.org", ["kb.example.org"]),
    ],
)
def test_a_service_answers_under_the_names_of_its_address_only(host: str, names: list[str]) -> None:
    assert allowed_hosts(host, 4200) == [value for name in names for value in (name, f"{name}:4200")]


def test_a_service_on_every_address_answers_under_the_names_of_this_machine() -> None:
    for host, family in (("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)):
        addresses = {
            host_in_url(address.address.partition("%")[0])
            for interface in psutil.net_if_addrs().values()
            for address in interface
            if address.family == family
        }
        hosts = allowed_hosts(host, 4200)
        assert {"127.0.0.1:4200", "localhost", socket.gethostname().lower(), *addresses} <= set(hosts)
        assert not [name for name in hosts if "*" in name or "%" in name]
    assert "[::1]" not in allowed_hosts("0.0.0.0", 4200)


def test_named_hosts_are_taken_as_they_are_written() -> None:
    named = ("kb.example.org", "Proxy:8443", "*.intra", "*")
    assert allowed_hosts("127.0.0.1", 80, named)[4:] == [
        *("kb.example.org", "kb.example.org:80", "proxy:8443", "*.intra", "*.intra:80", "*"),
    ]


def test_own_pages_and_named_origins_may_call() -> None:
    origins = ["http://[::1]:4200", "http://localhost:4200", "https://kb.example.org"]
    assert allowed_origins("::1", 4200, ("https://kb.example.org",)) == origins


@pytest.mark.parametrize(
    ("host", "url"),
    [("::1", "http://[::1]:4200"), ("::", "http://[::1]:4200"), ("2001:db8::5", "http://[2001:db8::5]:4200")],
)
def test_an_ipv6_address_has_brackets_in_urls(host: str, url: str) -> None:
    assert ServicesParams(host=host).prefect_url == url


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("allowed_hosts", "https://kb.example.org"),
        ("allowed_hosts", "kb.example.org, other"),
        ("allowed_hosts", ""),
        ("cors_origins", "kb.example.org"),
        ("cors_origins", "https://kb.example.org/"),
        ("cors_origins", "null"),
    ],
)
def test_what_no_header_can_equal_is_an_error(key: str, value: str) -> None:
    with pytest.raises(ValidationError):
        ServicesParams.model_validate({key: [value]})
    assert ServicesParams(allowed_hosts=("kb:1", "*.b"), cors_origins=("https://kb:1", "*")).allowed_hosts
