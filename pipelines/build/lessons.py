"""What does an example look like to the model? With passages before it, as retrieval returns them when it is asked."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.build.examples import Example
from pipelines.build.prompts import conversation_prompt
from pipelines.build.search import Passage, Reader
from pipelines.observe.values import Numbers, told
from pipelines.params import Params
from pipelines.ports import Lesson
from pipelines.records import Chunk, digest_of

# Raised when lessons are made in another way, so that an adapter of the old ones is not taken for one of the new.
LESSONS = "some-without-the-answer"
# Passages that are looked through for those that do not answer: a page has seldom more that do.
NEIGHBOURS = 20


def all_lessons(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], reader: Reader, params: Params
) -> list[Lesson]:
    """What a training run sees: each example with the passage that answers it, and some once more without it."""
    right = lessons(examples, by_document, reader, params.index.top_k, params.finetune.seed)
    return [*right, *absent_lessons(examples, by_document, reader, params)]


def lessons(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], reader: Reader, top_k: int, seed: int
) -> list[Lesson]:
    """Examples with what retrieval really returns for them, and the right chunk always among it.

    So the model learns to find the answer among near misses (RAFT, Zhang et al. 2024, arXiv:2403.10131). An example
    without `doc` is about behaviour alone: it has no right chunk, but passages before it, as it will have when it is
    asked. A `doc` is a key of `by_document`.
    """
    found = reader.search([example.question for example in examples], top_k)
    shuffle = random.Random(seed)
    return [_lesson(example, hits, by_document, top_k, shuffle) for example, hits in zip(examples, found, strict=True)]


def _lesson(
    example: Example,
    found: Sequence[Passage],
    by_document: Mapping[str, Sequence[Chunk]],
    top_k: int,
    shuffle: random.Random,
) -> Lesson:
    contexts: list[Passage | Chunk] = [*found]
    if example.doc is not None:
        right = best_chunk(f"{example.question} {example.completion}", by_document[example.doc])
        contexts = [right if one.text == right.text else one for one in contexts]
        if right not in contexts:
            # The worst distractor makes room, and the right chunk stands anywhere: its place must not give it away.
            contexts = contexts[: top_k - 1]
            contexts.insert(shuffle.randint(0, len(contexts)), right)
    return _taught(example, contexts, example.completion)


def _taught(example: Example, contexts: Sequence[Passage | Chunk], completion: str) -> Lesson:
    prompt = conversation_prompt(example.turns, [one.text for one in contexts])
    return Lesson(prompt, completion, tuple(dict.fromkeys(one.document for one in contexts)))


def seen_in(some: Sequence[Lesson], by_document: Mapping[str, Sequence[Chunk]]) -> dict[str, str]:
    """Document -> digest of those whose passages stand in the lessons."""
    seen = {document for lesson in some for document in lesson.documents}
    return {name: by_document[name][0].document_digest for name in sorted(seen & by_document.keys())}


def absent_lessons(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], reader: Reader, params: Params
) -> list[Lesson]:
    """Some examples once more, with near neighbours of the right passage alone and an honest answer to that.

    RAFT leaves the right passage out as well, but teaches the answer by heart. An example for which nothing but
    answers is found is left out.
    """
    drawn = drawn_absent(examples, params)
    found = reader.search([one.question for one in drawn], params.index.top_k + NEIGHBOURS)
    learnt = []
    for example, hits in zip(drawn, found, strict=True):
        right = best_chunk(f"{example.question} {example.completion}", by_document[str(example.doc)]).text
        others = [hit for hit in hits if hit.text != right and not _tells(hit.text, example)][: params.index.top_k]
        if others:
            learnt.append(_taught(example, others, honest(example.completion, params.examples.absent_answer)))
    return learnt


def drawn_absent(examples: Sequence[Example], params: Params) -> list[Example]:
    """`examples.absent_share` of those with `doc`; one that is added or taken away moves no other."""
    share, seed = params.examples.absent_share, params.finetune.seed
    return [one for one in examples if one.doc and place(one, seed, "absent") < share]


def place(example: Example, seed: int, what: str) -> float:
    """A number from 0 up to 1, by the example's own digest: its place in a draw of `what` that no other moves."""
    return int(digest_of([seed, what, example.digest]), 16) / 16**12


def honest(completion: str, answer: str) -> str:
    """What to say in place of `completion`: `answer`; in place of a JSON object, the same object with it as values."""
    try:
        content = json.loads(completion)
    except (ValueError, RecursionError):
        return answer
    return json.dumps(_filled(content, answer), ensure_ascii=False) if isinstance(content, dict) else answer


def _filled(value: Any, answer: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, answer) for key, one in value.items()}
    return [] if isinstance(value, list) else answer


def _tells(passage: str, example: Example) -> bool:
    """Whether a passage may hold the answer: its numbers, or where it states none, half of its words at least.

    What the question says already is none of the answer.
    """
    answer, question = example.completion, example.question
    if Numbers.of("").lack(answer, question):
        return Numbers.of(passage).lack(answer, question) is None
    news = _words(" ".join(told(answer))) - _words(question)
    return 2 * len(news & _words(passage)) >= len(news)


def best_chunk(text: str, chunks: Sequence[Chunk]) -> Chunk:
    """The chunk that shares the most distinct words with `text`; of equals the first."""
    return by_likeness(text, chunks)[0]


def by_likeness(text: str, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks in the order of how many distinct words they share with `text`; equals in their order."""
    words = _words(text)
    return sorted(chunks, key=lambda chunk: (-len(words & _words(chunk.text)), chunk.position))


def _words(text: str) -> set[str]:
    return {word.strip(".").lower() for word in re.findall(r"[\w.\-]+", text)} - {""}
