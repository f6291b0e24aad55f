"""Does the model learn from what retrieval really returns, the right passage always among it?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.build.corpus import InMemory
from pipelines.build.examples import Example, best_chunk, lessons, read_examples
from pipelines.build.index import Index
from pipelines.build.prompts import SYSTEM, question_prompt
from pipelines.build.search import Reader
from pipelines.errors import RefusalError
from pipelines.params import ChunkParams
from pipelines.ports import Lesson, Message, quiet
from pipelines.records import Chunk
from tests.factories import HashEmbedder, Shelf, chunk, md5, write

PAGES = 40
# No word of the questions stands in the passages, so that retrieval finds now the right one and now others.
CHUNKS = [chunk(f"{number}.md", f"passage {number} holds value-{number}") for number in range(PAGES)]
BY_DOCUMENT = {one.document: [one] for one in CHUNKS}


@pytest.fixture(scope="module")
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture(scope="module")
def reader(embedder: HashEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    index = Index(str(tmp_path_factory.mktemp("examples") / "lance"), embedder, ChunkParams())
    return index.reader(index.refresh(InMemory.of(CHUNKS), "snapshot", quiet).version)


def example(number: int, doc: str | None = "", question: str | None = None) -> Example:
    """An example about page `number`; `doc` "" names that page."""
    asked = question or f"What about {number}?"
    page = f"{number}.md" if doc == "" else doc
    return Example((Message("user", asked),), f"value-{number}", page)


EXAMPLES = [example(number, question=f"Topic {number * 31}?") for number in range(PAGES)]


def taught(examples: Sequence[Example], reader: Reader, top_k: int = 3, seed: int = 7) -> list[Lesson]:
    return lessons(examples, BY_DOCUMENT, reader, top_k, seed)


def contexts(lesson: Lesson) -> list[str]:
    return re.findall(r"^\[\d+\] (.+)$", lesson.prompt[-1].content, flags=re.MULTILINE)


def found(example: Example, reader: Reader, top_k: int = 3) -> list[str]:
    return [hit.text for hit in reader.search([example.question], top_k)[0]]


# --- lessons -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 2, 3, 10])
def test_the_right_passage_is_always_there_and_there_are_top_k(reader: Reader, top_k: int) -> None:
    for one, lesson in zip(EXAMPLES, taught(EXAMPLES, reader, top_k), strict=True):
        shown = contexts(lesson)
        assert BY_DOCUMENT[str(one.doc)][0].text in shown
        assert len(shown) == len(set(shown)) == top_k


def test_the_other_passages_are_the_best_that_retrieval_returns(reader: Reader) -> None:
    for one, lesson in zip(EXAMPLES, taught(EXAMPLES, reader), strict=True):
        right = BY_DOCUMENT[str(one.doc)][0].text
        distractors = [text for text in contexts(lesson) if text != right]
        assert distractors == [text for text in found(one, reader) if text != right][:2]


def test_where_retrieval_finds_the_right_passage_its_order_stands(reader: Reader) -> None:
    asked = [example(number, question=f"passage {number} holds value-{number}") for number in range(PAGES)]
    shown = [contexts(lesson) for lesson in taught(asked, reader)]
    assert shown == [found(one, reader) for one in asked]
    assert shown[4][0] == CHUNKS[4].text


def test_the_place_of_the_right_passage_does_not_give_it_away(reader: Reader) -> None:
    missed = [one for one in EXAMPLES if BY_DOCUMENT[str(one.doc)][0].text not in found(one, reader)]
    assert len(missed) > PAGES / 2
    learnt = zip(missed, taught(missed, reader), strict=True)
    places = [contexts(lesson).index(BY_DOCUMENT[str(one.doc)][0].text) for one, lesson in learnt]
    assert min(places.count(place) for place in range(3)) > len(missed) / 10


def test_the_same_seed_gives_the_same_lessons_and_another_seed_others(reader: Reader) -> None:
    assert taught(EXAMPLES, reader) == taught(EXAMPLES, reader)
    other = taught(EXAMPLES, reader, seed=8)
    assert other != taught(EXAMPLES, reader)
    assert [set(contexts(one)) for one in other] == [set(contexts(one)) for one in taught(EXAMPLES, reader)]


@pytest.mark.parametrize("top_k", [1, 3])
def test_an_example_about_behaviour_alone_gets_what_is_found_as_it_will_when_it_is_asked(
    reader: Reader, top_k: int
) -> None:
    one = example(1, doc=None)
    passages = found(one, reader, top_k)
    assert len(passages) == top_k
    assert taught([one], reader, top_k) == [Lesson(question_prompt(one.question, passages), one.completion)]


def test_without_any_passage_an_example_about_behaviour_stands_alone(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "lance"))
    shelf.refresh(CHUNKS[:1])
    empty = shelf.index.reader(shelf.refresh([]).version)
    assert taught([example(1, doc=None)], empty) == [Lesson((Message("user", "What about 1?"),), "value-1")]


def test_an_example_about_behaviour_does_not_move_the_right_passages_of_the_others(reader: Reader) -> None:
    some = EXAMPLES[:9]
    mixed = [one for number, about in enumerate(some) for one in (example(number, doc=None), about)]
    assert taught(mixed, reader)[1::2] == taught(some, reader)


def test_examples_with_and_without_a_page_keep_their_order(reader: Reader) -> None:
    mixed = [example(0, doc=None), example(1), example(2, doc=None), example(3), example(1)]
    learnt = taught(mixed, reader)
    assert [lesson.completion for lesson in learnt] == [one.completion for one in mixed]
    assert [len(contexts(lesson)) for lesson in learnt] == [3] * len(mixed)
    assert all(
        CHUNKS[int(str(one.doc).removesuffix(".md"))].text in contexts(lesson)
        for one, lesson in zip(mixed, learnt, strict=True)
        if one.doc
    )


def test_no_examples_make_no_lessons(reader: Reader) -> None:
    assert taught([], reader) == []


def test_a_conversation_keeps_its_turns_and_its_last_one_gets_the_passages(reader: Reader) -> None:
    turns = (Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "What about 5?"))
    [lesson] = taught([Example(turns, "value-5", "5.md")], reader)
    assert lesson.prompt[0] == Message("system", SYSTEM)
    assert lesson.prompt[1:3] == turns[:2]
    assert CHUNKS[5].text in contexts(lesson)
    assert lesson.prompt[-1].content.endswith("Question: What about 5?")


def test_the_right_passage_of_a_page_is_the_one_that_answers(reader: Reader) -> None:
    page = [chunk("0.md", f"Quill {at} ends in {month}", at) for at, month in enumerate(["May", "June", "May"])]
    asked = Example((Message("user", "When does Quill end?"),), "In June.", "0.md")
    named = Example((Message("user", "When does Quill 2 end?"),), "In May.", "0.md")
    learnt = lessons([asked, named], {"0.md": page}, reader, 1, 7)
    assert [contexts(lesson) for lesson in learnt] == [["Quill 1 ends in June"], ["Quill 2 ends in May"]]


# --- which passage is meant ----------------------------------------------------------------------------------------


def passages(*texts: str) -> list[Chunk]:
    return [chunk("a.md", text, position) for position, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "texts", "best"),
    [
        ("end of Quill", ["start of Pen", "the end of Quill"], 1),
        ("QUILL", ["pen", "quill."], 1),
        ("1.2.3", ["version 1.2.4", "version 1.2.3."], 1),
        ("pen pen pen quill ink", ["pen pen pen", "quill and ink"], 1),
        ("nothing shared", ["a", "b"], 0),
        ("same", ["the same", "same again"], 0),
        ("日本", ["英国", "日本"], 1),
        ("", ["a", "b"], 0),
    ],
)
def test_the_best_chunk_shares_the_most_distinct_words_and_of_equals_is_the_first(
    text: str, texts: list[str], best: int
) -> None:
    chunks = passages(*texts)
    assert best_chunk(text, chunks) == chunks[best]
    assert best_chunk(text, list(reversed(chunks))) == chunks[best]


# --- the files -----------------------------------------------------------------------------------------------------


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
