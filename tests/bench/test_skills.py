"""Does the benchmark teach one skill after the other, and ask each while it is still valid?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import skills
from bench.skills import TAUGHT, Retained, measure, questions, retained_share, table
from ragtide.pipelines.models.load import Models
from tests import fakes
from tests.factories import write
from tests.fakes import CountingEmbedder, CountingReader, CountingTrainer

LINES = range(TAUGHT + 5)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for skill, service in (("sgd_v0", "Events_2"), ("nl2bash", ""), ("sgd_v5", "Events_25")):
        # The second API is asked by the same dialogues as the first.
        asked = skill.split("_")[0]
        calls = [json.dumps({"service": service, "of": skill, "at": at}) if service else f"ls {at}" for at in LINES]
        other = json.dumps({"service": "Weather_1"}) if service else "ls 0"
        rows = [{"prompt": f"{asked} {at}?", "completion": call} for at, call in zip(LINES, calls, strict=True)]
        rows = [{"prompt": f"{asked} 0?" if not service else "Rain?", "completion": other}, *rows]
        write(tmp_path / f"behaviour/{skill}_train.jsonl", "".join(json.dumps(one) + "\n" for one in rows))
    return tmp_path


@pytest.mark.slow
def test_each_skill_is_taught_alone_and_an_earlier_one_that_is_valid_is_replayed_and_asked(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.forget()
    monkeypatch.setattr(
        skills, "load_models", lambda _: Models(CountingEmbedder(), CountingReader(), CountingTrainer())
    )
    found = measure(data, tmp_path / "work", [0, 0.2])
    assert [(one.replay_share, one.skill, one.after, one.replayed, one.questions) for one in found] == [
        (0, "sgd_v0", "nl2bash", 0, 5),
        (0, "nl2bash", "sgd_v5", 0, 5),
        (0.2, "sgd_v0", "nl2bash", 12, 5),
        (0.2, "nl2bash", "sgd_v5", 12, 5),
    ]
    names = ("sgd_v0", "sgd_v5", "ls")
    seen = [next(name for name in names if name in lesson.completion) for lesson in CountingTrainer.lessons]
    alone = ["sgd_v0"] * TAUGHT + ["ls"] * TAUGHT + ["sgd_v5"] * TAUGHT
    assert seen == alone + ["ls"] * TAUGHT + ["sgd_v0"] * 12 + ["sgd_v5"] * TAUGHT + ["ls"] * 12


def test_a_skill_is_asked_by_held_out_lines_and_its_own_scorer(data: Path) -> None:
    asked = questions(data / "behaviour", "nl2bash")
    assert [(one.question, one.answers) for one in asked] == [
        (f"nl2bash {at}?", (f"ls {at}",)) for at in LINES[TAUGHT:]
    ]
    assert {one.scorer for one in asked} == {"token_f1"}
    assert {one.scorer for one in questions(data / "behaviour", "sgd_v5")} == {"json_f1"}


def retained(before: float, after: float, replay_share: float = 0.2) -> Retained:
    return Retained(
        replay_share=replay_share,
        skill="a",
        after="b",
        questions=40,
        score_taught=before,
        score_after=after,
        score_new=0.3,
        replayed=16,
    )


def test_what_is_retained_is_told_by_the_skill_that_loses_most() -> None:
    some = [retained(0.5, 0.4), retained(0.5, 0.6), retained(0.8, 0.76), retained(0.5, 0.1, replay_share=0)]
    assert retained_share(some) == pytest.approx(0.8)
    assert retained_share([retained(0.0, 0.0)]) == 0
    assert "| 0.2 | a | b | 16 | 40 | 0.500 | 0.400 | 80% | 0.300 |" in table(some)
