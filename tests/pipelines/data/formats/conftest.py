"""A fixture for all conversions: no library may print or log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_output(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No library prints or logs anything during a conversion."""
    yield
    assert capfd.readouterr() == ("", "")
    assert caplog.get_records("call") == []
