"""Tests of kills aimed at the moments between tag, pointer and record (tests/aimed_kills.py)."""

from __future__ import annotations

import pytest

from tests.aimed_kills import MOMENTS, Aftermath, Moment, Shelter, kill_at, make_shelter

# bench/kills.py kills at each of them; here at every third, since a kill and its recovery take about a minute.
TRIED = MOMENTS[::3]


@pytest.fixture(scope="module")
def shelter(tmp_path_factory: pytest.TempPathFactory) -> Shelter:
    """One project for all kills: each leaves it whole for the next."""
    return make_shelter(tmp_path_factory.mktemp("kills") / "project")


@pytest.mark.long
@pytest.mark.parametrize("moment", TRIED, ids=str)
def test_a_kill_leaves_one_whole_release_and_nothing_is_lost(moment: Moment, shelter: Shelter) -> None:
    assert kill_at(shelter, moment) == Aftermath(torn=False, lost=())
