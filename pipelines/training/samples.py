"""What does an example look like to the model? With passages before it, as retrieval returns them when it is asked."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ragtide.pipelines.data.text import NumberSet, stated_values
from ragtide.pipelines.index.search import Passage, Retriever
from ragtide.pipelines.models.prompts import conversation_prompt
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import TrainingSample
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.training.examples import Example

# Raised when lessons are made in another way, so that an adapter of the old ones is not taken for one of the new.
SAMPLES_VERSION = "some-without-the-answer"
# Passages that are looked through for those that do not answer: a page has seldom more that do.
NEIGHBOURS = 20


def training_samples(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], reader: Retriever, params: Params
) -> list[TrainingSample]:
    """What a training run sees: each example with the passage that answers it, and some once more without it."""
    right = samples_with_passages(examples, by_document, reader, params.index.top_k, params.finetune.seed)
    return [*right, *unanswerable_samples(examples, by_document, reader, params)]


def samples_with_passages(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], reader: Retriever, top_k: int, seed: int
) -> list[TrainingSample]:
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
) -> TrainingSample:
    contexts: list[Passage | Chunk] = [*found]
    if example.doc is not None:
        right = best_chunk(f"{example.question} {example.completion}", by_document[example.doc])
        contexts = [right if one.text == right.text else one for one in contexts]
        if right not in contexts:
            # The worst distractor makes room, and the right chunk stands anywhere: its place must not give it away.
            contexts = contexts[: top_k - 1]
            contexts.insert(shuffle.randint(0, len(contexts)), right)
    return _taught(example, contexts, example.completion)


def _taught(example: Example, contexts: Sequence[Passage | Chunk], completion: str) -> TrainingSample:
    prompt = conversation_prompt(example.turns, [one.text for one in contexts])
    return TrainingSample(prompt, completion, tuple(dict.fromkeys(one.document for one in contexts)))


def documents_in(some: Sequence[TrainingSample], by_document: Mapping[str, Sequence[Chunk]]) -> dict[str, str]:
    """Document -> digest of those whose passages stand in the lessons."""
    seen = {document for lesson in some for document in lesson.documents}
    return {name: by_document[name][0].document_digest for name in sorted(seen & by_document.keys())}


def unanswerable_samples(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], reader: Retriever, params: Params
) -> list[TrainingSample]:
    """Some examples once more, with near neighbours of the right passage alone and an honest answer to that.

    RAFT leaves the right passage out as well, but teaches the answer by heart. An example for which nothing but
    answers is found is left out.
    """
    drawn = draw_unanswerable(examples, params)
    found = reader.search([one.question for one in drawn], params.index.top_k + NEIGHBOURS)
    learnt = []
    for example, hits in zip(drawn, found, strict=True):
        right = best_chunk(f"{example.question} {example.completion}", by_document[str(example.doc)]).text
        others = [hit for hit in hits if hit.text != right and not _tells(hit.text, example)][: params.index.top_k]
        if others:
            learnt.append(
                _taught(example, others, decline_answer(example.completion, params.examples.unanswerable_reply))
            )
    return learnt


def draw_unanswerable(examples: Sequence[Example], params: Params) -> list[Example]:
    """`examples.unanswerable_share` of those with `doc`; one that is added or taken away moves no other."""
    share, seed = params.examples.unanswerable_share, params.finetune.seed
    return [one for one in examples if one.doc and draw_position(one, seed, "absent") < share]


def draw_position(example: Example, seed: int, what: str) -> float:
    """A number from 0 up to 1, by the example's own digest: its place in a draw of `what` that no other moves."""
    return int(json_digest([seed, what, example.digest]), 16) / 16**12


def decline_answer(completion: str, answer: str) -> str:
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
    if NumberSet.of("").lack(answer, question):
        return NumberSet.of(passage).lack(answer, question) is None
    news = _words(" ".join(stated_values(answer))) - _words(question)
    return 2 * len(news & _words(passage)) >= len(news)


def best_chunk(text: str, chunks: Sequence[Chunk]) -> Chunk:
    """The chunk that shares the most distinct words with `text`; of equals the first."""
    return rank_by_overlap(text, chunks)[0]


def rank_by_overlap(text: str, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks in the order of how many distinct words they share with `text`; equals in their order."""
    words = _words(text)
    return sorted(chunks, key=lambda chunk: (-len(words & _words(chunk.text)), chunk.position))


def _words(text: str) -> set[str]:
    return {word.strip(".").lower() for word in re.findall(r"[\w.\-]+", text)} - {""}
