"""Skills besides facts: real calls of an API under two sets of names, and real shell commands."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragtide.pipelines.records.evaluation import GoldenQuestion

# (service, intent) pairs in both the training and the test files: few enough to be learned from so few examples.
CALLS = (("Weather_1", "GetWeather"), ("Movies_1", "FindMovies"), ("RideSharing_2", "GetRide"))
CALL_FORMAT = r'\{"service": "\w+", "intent": "\w+"\}'
EXAMPLES_PER_CALL, QUESTIONS_PER_CALL = 14, 8
LATER_CALLS = 8
DIALOGUE_WORDS = 40
# Number of examples of each command in a portion, and of questions.
PORTION = {"find": 5, "ls": 3, "mkdir": 4}
ASKED_COMMANDS = {"find": 9, "ls": 4, "mkdir": 3}
PORTIONS = 6
LONGEST_COMMAND, LONGEST_REQUEST = 80, 160
SEED = 20261124


@dataclass(frozen=True)
class Call:
    """The end of a dialogue, and the API call that it requires under each version's names."""

    prompt: str
    completions: Mapping[str, str]

    def example(self, version: str) -> dict[str, str]:
        return {"prompt": self.prompt, "completion": self.completions[version]}


@dataclass(frozen=True)
class Calls:
    """API calls: `training` are used from the start, `later` are added in two parts; `asked` are golden."""

    training: tuple[Call, ...]
    later: tuple[Call, ...]
    asked: tuple[Call, ...]

    def questions(self, version: str) -> tuple[GoldenQuestion, ...]:
        """Return the golden questions under one version's names; their ids do not depend on the version."""
        return tuple(
            GoldenQuestion(
                id=f"call|{number:02}",
                question=call.prompt,
                answers=(call.completions[version],),
                docs=(),
                format=CALL_FORMAT,
            )
            for number, call in enumerate(self.asked)
        )


@dataclass(frozen=True)
class Commands:
    """Examples in portions, the first of which is too small to learn from; answers are graded by the first word."""

    portions: tuple[tuple[dict[str, str], ...], ...]
    questions: tuple[GoldenQuestion, ...]


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_calls(folder: Path) -> Calls:
    """Draw 42 calls for training, 8 to add later and 24 to ask; both versions have the same dialogues."""
    draw = random.Random(SEED)
    train, test = _by_call(folder, "train"), _by_call(folder, "test")
    training, asked = {}, {}
    for key in CALLS:
        asked[key] = draw.sample(test[key], QUESTIONS_PER_CALL)
        known = {call.prompt for call in asked[key]}
        training[key] = draw.sample([call for call in train[key] if call.prompt not in known], EXAMPLES_PER_CALL + 3)
    later = [call for key in CALLS for call in training[key][EXAMPLES_PER_CALL:]]
    return Calls(
        _interleaved([training[key][:EXAMPLES_PER_CALL] for key in CALLS]),
        tuple(draw.sample(later, LATER_CALLS)),
        _interleaved([asked[key] for key in CALLS]),
    )


def _interleaved(groups: Sequence[Sequence[Call]]) -> tuple[Call, ...]:
    return tuple(call for calls in zip(*groups, strict=True) for call in calls)


def _by_call(folder: Path, part: str) -> dict[tuple[str, str], list[Call]]:
    """Group the dialogues by service and intent, each prompt once; raise if the two files do not match."""
    groups: dict[tuple[str, str], dict[str, Call]] = defaultdict(dict)
    files = [_rows(folder / f"sgd_{version}_{part}.jsonl") for version in ("v0", "v5")]
    for old, new in zip(*files, strict=True):
        if old["prompt"] != new["prompt"]:
            raise ValueError(f"sgd_v0_{part} and sgd_v5_{part} must have the same dialogues on the same lines")
        names = json.loads(old["completion"])
        call = Call(short_dialogue(old["prompt"]), {"v0": _call(old), "v5": _call(new)})
        groups[names["service"], names["intent"]].setdefault(call.prompt, call)
    return {key: list(calls.values()) for key, calls in groups.items()}


def short_dialogue(text: str) -> str:
    """Return the end of a dialogue as a question."""
    return "Which API call? " + " ".join(text.split()[-DIALOGUE_WORDS:])


def _call(row: Mapping[str, str]) -> str:
    whole = json.loads(row["completion"])
    return json.dumps({"service": whole["service"], "intent": whole["intent"]})


def read_commands(folder: Path) -> Commands:
    """Draw one portion of three examples and six of twelve, and sixteen questions."""
    draw = random.Random(SEED)
    asked = [row for word, count in ASKED_COMMANDS.items() for row in draw.sample(_usable(folder, "test", word), count)]
    known = {row["prompt"] for row in asked}
    training = {
        word: draw.sample(
            [row for row in _usable(folder, "train", word) if row["prompt"] not in known], 1 + count * PORTIONS
        )
        for word, count in PORTION.items()
    }
    first = tuple(_example(rows.pop()) for rows in training.values())
    others = [
        tuple(_example(training[word].pop()) for word, count in PORTION.items() for _ in range(count))
        for _ in range(PORTIONS)
    ]
    return Commands((first, *others), tuple(_command_question(number, row) for number, row in enumerate(asked)))


def _usable(folder: Path, part: str, word: str) -> list[dict[str, str]]:
    """Return short requests whose command begins with `word`, each once; none contains `word` itself."""
    rows = {row["prompt"]: row for row in _rows(folder / f"nl2bash_{part}.jsonl")}
    return [
        row
        for row in rows.values()
        if row["completion"].split()[0] == word
        and not re.search(rf"\b{word}\b", row["prompt"])
        and len(row["completion"]) <= LONGEST_COMMAND
        and len(row["prompt"]) <= LONGEST_REQUEST
        and "\n" not in row["completion"]
    ]


def _prompt(row: Mapping[str, str]) -> str:
    return f"Shell command: {row['prompt']}"


def _example(row: Mapping[str, str]) -> dict[str, str]:
    return {"prompt": _prompt(row), "completion": row["completion"]}


def _command_question(number: int, row: Mapping[str, str]) -> GoldenQuestion:
    word = row["completion"].split()[0]
    return GoldenQuestion(
        id=f"command|{number:02}", question=_prompt(row), answers=(word,), docs=(), format=rf"{word}\b.*"
    )
