"""Is every line of a training file checked, and does an example keep what it teaches?"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.build.examples import Example, read_examples
from pipelines.errors import RefusalError
from pipelines.ports import Message
from tests.factories import md5, write


def read(folder: Path, **files: str) -> list[Example]:
    """Write `files` (name without ending -> text) and read them as a snapshot names them."""
    paths = {f"{name}.jsonl": text for name, text in files.items()}
    for path, text in paths.items():
        write(folder / path, text)
    return read_examples(folder, {path: md5(text) for path, text in paths.items()})


def line(**fields: Any) -> str:
    return json.dumps(fields) + "\n"


ASKED = {"role": "user", "content": "When?"}
ANSWERED = {"role": "assistant", "content": "Now."}


def test_a_prompt_and_its_completion_are_one_turn_and_the_answer(tmp_path: Path) -> None:
    [one] = read(tmp_path, a=line(prompt="When?", completion="Now.", doc="a.md", id="x1"))
    assert one == Example((Message("user", "When?"),), "Now.", "a.md")
    assert one.question == "When?"


def test_messages_are_the_turns_before_the_last_answer(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, ASKED, {"role": "assistant", "content": "Soon."}, ASKED]
    [one] = read(tmp_path, a=line(messages=[*talk, ANSWERED]))
    assert one == Example(tuple(Message(**turn) for turn in talk), "Now.", None)
    assert one.question == "When?"


def test_both_forms_mean_the_same(tmp_path: Path) -> None:
    first, second = read(tmp_path, a=line(prompt="When?", completion="Now.") + line(messages=[ASKED, ANSWERED]))
    assert first == second


def test_the_same_example_has_the_same_digest_in_either_form_and_any_file(tmp_path: Path) -> None:
    first = read(tmp_path / "one", a=line(prompt="When?", completion="Now.", doc="a.md", id="x1"))
    again = read(tmp_path / "two", b=line(messages=[ASKED, ANSWERED], doc="a.md"))
    assert first[0].digest == again[0].digest
    assert re.fullmatch("[0-9a-f]{12}", first[0].digest)


def test_whatever_an_example_teaches_is_in_its_digest() -> None:
    asked, other = Message("user", "When?"), Message("user", "Where?")
    examples = [
        Example((asked,), "Now.", None),
        Example((asked,), "Soon.", None),
        Example((other,), "Now.", None),
        Example((Message("system", "When?"),), "Now.", None),
        Example((asked, other), "Now.", None),
        Example((other, asked), "Now.", None),
    ]
    assert len({one.digest for one in examples}) == len(examples)


def test_the_page_of_an_example_may_move_without_making_it_another_one() -> None:
    turns = (Message("user", "When?"),)
    assert len({Example(turns, "Now.", doc).digest for doc in (None, "a.md", "moved/a.md")}) == 1


def test_examples_come_in_order_of_file_and_line_and_blank_lines_are_nothing(tmp_path: Path) -> None:
    lines = [line(prompt=f"Q{number}", completion="A") for number in range(4)]
    files = {"b": lines[2] + "\n   \n" + lines[3], "a": "\ufeff" + lines[0] + "\r\n" + lines[1].rstrip("\n")}
    assert [one.question for one in read(tmp_path, **files)] == ["Q0", "Q1", "Q2", "Q3"]


GOOD = line(prompt="When?", completion="Now.")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{not json}\n", "is not JSON"),
        ("[1, 2]\n", "mend the line"),
        ('"text"\n', "mend the line"),
        ("{}\n", "should hold prompt and completion, or messages"),
        (line(prompt="When?"), "should hold prompt and completion, or messages"),
        (line(completion="Now."), "should hold prompt and completion, or messages"),
        (line(prompt="", completion="Now."), "prompt"),
        (line(prompt="When?", completion=""), "completion"),
        (line(prompt="When?", completion=3), "completion"),
        (line(prompt="When?", completion="Now.", documents="a.md"), "documents"),
        (line(prompt="When?", completion="Now.", doc=["a.md"]), "doc"),
        (line(prompt="When?", completion="Now.", messages=[ASKED, ANSWERED]), "should hold prompt and completion"),
        (line(prompt="When?", messages=[ASKED, ANSWERED]), "should hold prompt and completion"),
        (line(messages=[]), "should hold prompt and completion, or messages"),
        (line(messages=[ASKED]), "should end with a user's turn and the assistant's answer"),
        (line(messages=[ANSWERED]), "should end with a user's turn and the assistant's answer"),
        (line(messages=[ANSWERED, ASKED]), "should end with a user's turn and the assistant's answer"),
        (line(messages=[ASKED, ANSWERED, ANSWERED]), "should end with a user's turn and the assistant's answer"),
        (line(messages=[{"role": "tool", "content": "x"}, ANSWERED]), "messages.0.role"),
        (line(messages=[{"role": "user", "content": ""}, ANSWERED]), "messages.0.content"),
        (line(messages=[{"role": "user"}, ANSWERED]), "messages.0.content"),
        (line(messages="When?"), "messages"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, bad: str, said: str) -> None:
    with pytest.raises(RefusalError) as refusal:
        read(tmp_path, a=GOOD, b=GOOD + "\n" + bad + GOOD)
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path / 'b.jsonl'}:3")
    assert said in message
    assert "\n" not in message


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", b"\xff\xfe")
    with pytest.raises(RefusalError, match=r"a\.jsonl is not UTF-8"):
        read_examples(tmp_path, {"a.jsonl": hashlib.md5(b"\xff\xfe", usedforsecurity=False).hexdigest()})


def test_a_file_that_changed_since_the_snapshot_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(RefusalError, match=r"a\.jsonl changed while it was being read"):
        read_examples(tmp_path, {"a.jsonl": md5("before")})


def test_other_files_in_the_folder_are_not_examples(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "no examples")
    assert read_examples(tmp_path, {"README.md": md5("no examples")}) == []
