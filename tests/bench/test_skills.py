"""Tests of the skills benchmark: training in sequence, replay, held-out questions and the retained share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import skills
from bench.skills import TRAINED, Retained, measure, questions, retained_share, table
from ragtide.pipelines.models.load import Models
from tests import fakes
from tests.factories import write
from tests.fakes import CountingEmbedder, CountingReader, CountingTrainer

LINES = range(TRAINED + 5)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for skill, service in (("sgd_v0", "Events_2"), ("nl2bash", ""), ("sgd_v5", "Events_25")):
        # Both versions of the API have the same dialogues.
        prefix = skill.split("_")[0]
        calls = [json.dumps({"service": service, "of": skill, "at": at}) if service else f"ls {at}" for at in LINES]
        other = json.dumps({"service": "Weather_1"}) if service else "ls 0"
        rows = [{"prompt": f"{prefix} {at}?", "completion": call} for at, call in zip(LINES, calls, strict=True)]
        rows = [{"prompt": f"{prefix} 0?" if not service else "Rain?", "completion": other}, *rows]
        write(tmp_path / f"behaviour/{skill}_train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.slow
def test_each_skill_is_trained_alone_and_earlier_valid_skills_are_replayed_and_scored(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.forget()
    monkeypatch.setattr(
        skills, "load_models", lambda _: Models(CountingEmbedder(), CountingReader(), CountingTrainer())
    )
    retained = measure(data, tmp_path / "work", [0, 0.2])
    assert [(row.replay_share, row.skill, row.after, row.replayed, row.questions) for row in retained] == [
        (0, "sgd_v0", "nl2bash", 0, 5),
        (0, "nl2bash", "sgd_v5", 0, 5),
        (0.2, "sgd_v0", "nl2bash", 12, 5),
        (0.2, "nl2bash", "sgd_v5", 12, 5),
    ]
    names = ("sgd_v0", "sgd_v5", "ls")
    seen = [next(name for name in names if name in sample.completion) for sample in CountingTrainer.lessons]
    alone = ["sgd_v0"] * TRAINED + ["ls"] * TRAINED + ["sgd_v5"] * TRAINED
    assert seen == alone + ["ls"] * TRAINED + ["sgd_v0"] * 12 + ["sgd_v5"] * TRAINED + ["ls"] * 12


def test_questions_are_held_out_lines_with_the_scorer_of_their_skill(data: Path) -> None:
    golden = questions(data / "behaviour", "nl2bash")
    assert [(question.question, question.answers) for question in golden] == [
        (f"nl2bash {at}?", (f"ls {at}",)) for at in LINES[TRAINED:]
    ]
    assert {question.scorer for question in golden} == {"token_f1"}
    assert {question.scorer for question in questions(data / "behaviour", "sgd_v5")} == {"json_f1"}


def retained(before: float, after: float, replay_share: float = 0.2) -> Retained:
    return Retained(
        replay_share=replay_share,
        skill="a",
        after="b",
        questions=40,
        score_trained=before,
        score_after=after,
        score_new=0.3,
        replayed=16,
    )


def test_the_retained_share_is_that_of_the_skill_that_loses_most() -> None:
    rows = [retained(0.5, 0.4), retained(0.5, 0.6), retained(0.8, 0.76), retained(0.5, 0.1, replay_share=0)]
    assert retained_share(rows) == pytest.approx(0.8)
    assert retained_share([retained(0.0, 0.0)]) == 0
    assert "| 0.2 | a | b | 16 | 40 | 0.500 | 0.400 | 80% | 0.300 |" in table(rows)
