"""Does the soak tell what is lost and what is torn, and does a project in operation come through three kills?"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from bench.soak import EDITION, ROOT, Pages, facts_by_page, page_text, torn
from ragtide.pipelines.evaluation.assistant import Answer
from ragtide.pipelines.index.search import Passage
from tests.factories import md5, release, snapshot

FACTS = facts_by_page(ROOT / "demo" / "facts.csv")


def pages(root: Path) -> Pages:
    made = Pages(root / "project/data/kb", FACTS, random.Random(7))
    made.begin()
    return made


def of(made: Pages) -> dict[str, str]:
    return {path.name: md5(path.read_text(encoding="utf-8")) for path in made.folder.iterdir()}


def test_every_change_is_lost_until_it_is_live(tmp_path: Path) -> None:
    made = pages(tmp_path)
    live = release(snapshot=snapshot(of(made)))
    assert (made.lost(None), made.lost(live)) == (60, 0)
    for _ in range(40):
        made.change()
        assert made.lost(live) > 0
        live = release(snapshot=snapshot(of(made)))
        assert made.lost(live) == 0
    assert set(of(made)) == set(made.there)
    assert made.there["page-000.md"] == (0, 0)


@pytest.mark.parametrize(("edition", "is_torn"), [(0, False), (9, True)])
def test_a_passage_of_another_edition_than_the_releases_is_torn(edition: int, is_torn: bool, tmp_path: Path) -> None:
    made = pages(tmp_path)
    live = release(snapshot=snapshot(of(made)))
    text = page_text(FACTS[3], 3, edition)
    passage = Passage(document="page-003.md", position=0, heading="", text=text, score=1.0)
    assert bool(torn(tmp_path / "project", live, Answer("", (passage,)))) is is_torn
    assert torn(tmp_path / "project", live, Answer("", ()))


def test_every_section_says_of_which_edition_it_is() -> None:
    text = page_text(FACTS[3], 3, 5)
    assert len(EDITION.findall(text)) == text.count("# ")
    assert set(EDITION.findall(text)) == {("5", "3")}


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_project_in_operation_comes_through_three_kills(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.soak", "--kills", "3", "--dry", "--work", str(tmp_path / "soak")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1480)
    assert done.returncode == 0, done.stdout + done.stderr
