"""What is there to be learnt besides facts? Real calls of an API under two sets of names, and real shell commands."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragtide.pipelines.records.evaluation import GoldenQuestion

# (service, intent) pairs that the training and the test files share: few enough to be learnt from so few examples.
CALLS = (("Weather_1", "GetWeather"), ("Movies_1", "FindMovies"), ("RideSharing_2", "GetRide"))
CALL_FORMAT = r'\{"service": "\w+", "intent": "\w+"\}'
TAUGHT_A_CALL, ASKED_A_CALL = 14, 8
LATER_CALLS = 8
DIALOGUE_WORDS = 40
# How often each command stands in a portion of examples and among the questions.
PORTION = {"find": 5, "ls": 3, "mkdir": 4}
ASKED_COMMANDS = {"find": 9, "ls": 4, "mkdir": 3}
PORTIONS = 6
LONGEST_COMMAND, LONGEST_REQUEST = 80, 160
SEED = 20261124


@dataclass(frozen=True)
class Call:
    """A dialogue's end, and the call that it asks for under each version's names."""

    prompt: str
    completions: Mapping[str, str]

    def example(self, version: str) -> dict[str, str]:
        return {"prompt": self.prompt, "completion": self.completions[version]}


@dataclass(frozen=True)
class Calls:
    """`taught` first, then `later` in two halves; `asked` are golden."""

    taught: tuple[Call, ...]
    later: tuple[Call, ...]
    asked: tuple[Call, ...]

    def questions(self, version: str) -> tuple[GoldenQuestion, ...]:
        """The golden questions under one version's names; their ids do not depend on it."""
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
    """Examples in portions, the first of them too small to learn from; `questions` are graded by the first word."""

    portions: tuple[tuple[dict[str, str], ...], ...]
    questions: tuple[GoldenQuestion, ...]


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_calls(folder: Path) -> Calls:
    """42 calls to teach, 8 to add, 24 to ask; the same dialogues under both versions."""
    draw = random.Random(SEED)
    train, test = _by_call(folder, "train"), _by_call(folder, "test")
    taught, asked = {}, {}
    for key in CALLS:
        asked[key] = draw.sample(test[key], ASKED_A_CALL)
        known = {call.prompt for call in asked[key]}
        taught[key] = draw.sample([call for call in train[key] if call.prompt not in known], TAUGHT_A_CALL + 3)
    later = [call for key in CALLS for call in taught[key][TAUGHT_A_CALL:]]
    return Calls(
        _by_turns([taught[key][:TAUGHT_A_CALL] for key in CALLS]),
        tuple(draw.sample(later, LATER_CALLS)),
        _by_turns([asked[key] for key in CALLS]),
    )


def _by_turns(groups: Sequence[Sequence[Call]]) -> tuple[Call, ...]:
    return tuple(call for turn in zip(*groups, strict=True) for call in turn)


def _by_call(folder: Path, part: str) -> dict[tuple[str, str], list[Call]]:
    """Every dialogue by its first names, each prompt once; refuses files whose lines do not belong together."""
    found: dict[tuple[str, str], dict[str, Call]] = defaultdict(dict)
    files = [_rows(folder / f"sgd_{version}_{part}.jsonl") for version in ("v0", "v5")]
    for old, new in zip(*files, strict=True):
        if old["prompt"] != new["prompt"]:
            raise ValueError(f"sgd_v0_{part} and sgd_v5_{part} should hold the same dialogues line by line")
        names = json.loads(old["completion"])
        call = Call(short_dialogue(old["prompt"]), {"v0": _call(old), "v5": _call(new)})
        found[names["service"], names["intent"]].setdefault(call.prompt, call)
    return {key: list(calls.values()) for key, calls in found.items()}


def short_dialogue(text: str) -> str:
    """The end of a dialogue as a question."""
    return "Which API call? " + " ".join(text.split()[-DIALOGUE_WORDS:])


def _call(row: Mapping[str, str]) -> str:
    whole = json.loads(row["completion"])
    return json.dumps({"service": whole["service"], "intent": whole["intent"]})


def read_commands(folder: Path) -> Commands:
    """One portion of three examples and six of twelve, and sixteen questions."""
    draw = random.Random(SEED)
    asked = [row for word, count in ASKED_COMMANDS.items() for row in draw.sample(_usable(folder, "test", word), count)]
    known = {row["prompt"] for row in asked}
    taught = {
        word: draw.sample(
            [row for row in _usable(folder, "train", word) if row["prompt"] not in known], 1 + count * PORTIONS
        )
        for word, count in PORTION.items()
    }
    first = tuple(_example(rows.pop()) for rows in taught.values())
    others = [
        tuple(_example(taught[word].pop()) for word, count in PORTION.items() for _ in range(count))
        for _ in range(PORTIONS)
    ]
    return Commands((first, *others), tuple(_command_question(number, row) for number, row in enumerate(asked)))


def _usable(folder: Path, part: str, word: str) -> list[dict[str, str]]:
    """Short requests, each once, whose command begins with `word`; none names it, or an echo of it could be right."""
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
