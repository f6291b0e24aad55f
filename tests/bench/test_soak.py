"""Tests of the soak benchmark: lost changes, torn reads, and the recovery of a running project from three kills."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from bench.soak import ROOT, torn_read
from bench.soak_pages import EDITION, Pages, facts_by_page, page_text
from ragtide.pipelines.evaluation.assistant import Answer
from ragtide.pipelines.index.search import Passage
from tests.factories import md5, release, snapshot

FACTS = facts_by_page()


def pages(root: Path) -> Pages:
    written = Pages(root / "project/data/kb", FACTS, random.Random(7))
    written.begin()
    return written


def digests(written: Pages) -> dict[str, str]:
    return {path.name: md5(path.read_text(encoding="utf-8")) for path in written.folder.iterdir()}


def test_a_changed_page_is_outdated_until_it_is_live(tmp_path: Path) -> None:
    written = pages(tmp_path)
    live = release(snapshot=snapshot(digests(written)))
    assert (written.count_outdated(None), written.count_outdated(live)) == (60, 0)
    for _ in range(40):
        written.change()
        assert written.count_outdated(live) > 0
        live = release(snapshot=snapshot(digests(written)))
        assert written.count_outdated(live) == 0
    assert set(digests(written)) == set(written.expected)
    assert written.expected["page-000.md"] == (0, 0)


@pytest.mark.parametrize(("edition", "is_torn"), [(0, False), (9, True)])
def test_a_passage_of_another_edition_than_the_releases_is_torn(edition: int, is_torn: bool, tmp_path: Path) -> None:
    written = pages(tmp_path)
    live = release(snapshot=snapshot(digests(written)))
    text = page_text(FACTS[3], 3, edition)
    passage = Passage(document="page-003.md", position=0, heading="", text=text, score=1.0)
    assert bool(torn_read(tmp_path / "project", live, Answer("", (passage,)))) is is_torn
    assert torn_read(tmp_path / "project", live, Answer("", ()))


def test_every_section_names_its_edition() -> None:
    text = page_text(FACTS[3], 3, 5)
    assert len(EDITION.findall(text)) == text.count("# ")
    assert set(EDITION.findall(text)) == {("5", "3")}


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_running_project_recovers_from_three_kills(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.soak", "--kills", "3", "--dry", "--work", str(tmp_path / "soak")]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1480)
    assert process.returncode == 0, process.stdout + process.stderr
