"""Training samples: examples with retrieved passages in the prompt, as at inference, some without the gold passage."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ragtide.pipelines.data.text import NumberSet, require_whole_characters, stated_values
from ragtide.pipelines.index.search import Passage, Retriever
from ragtide.pipelines.models.prompts import conversation_prompt
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import TrainingSample
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.training.examples import Example

# Part of the training settings: change it when samples are built differently, so that older adapters count as old.
SAMPLES_VERSION = "contexts-of-serving"
# Extra passages searched for some that do not answer: a page seldom has more that do.
EXTRA_CANDIDATES = 20
# As a rule of thumb for English; forecasts and recorded work use the same.
CHARACTERS_PER_TOKEN = 4


def training_samples(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], retriever: Retriever, params: Params
) -> list[TrainingSample]:
    """The samples of a training run: each example with its gold passage, and some again without it."""
    answerable = samples_with_passages(examples, by_document, retriever, params.index.top_k, params.finetune.seed)
    return [*answerable, *unanswerable_samples(examples, by_document, retriever, params)]


def samples_with_passages(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], retriever: Retriever, top_k: int, seed: int
) -> list[TrainingSample]:
    """Each example with the context that it would have in serving, the gold passage always in it.

    So the model learns to find the answer among distractors (RAFT, Zhang et al. 2024, arXiv:2403.10131). An example
    without `doc` trains behaviour only: it has no gold passage, but retrieved passages as at inference. Every `doc`
    must be a key of `by_document`.
    """
    retrieved = retriever.contexts([example.question for example in examples], top_k)
    shuffle = random.Random(seed)
    return [
        _sample_with_gold(example, passages, by_document, top_k, shuffle)
        for example, passages in zip(examples, retrieved, strict=True)
    ]


def _sample_with_gold(
    example: Example,
    passages: Sequence[Passage],
    by_document: Mapping[str, Sequence[Chunk]],
    top_k: int,
    shuffle: random.Random,
) -> TrainingSample:
    contexts: list[Passage | Chunk] = [*passages]
    if example.doc is not None:
        gold = best_chunk(f"{example.question} {example.completion}", by_document[example.doc])
        contexts = [gold if context.text == gold.text else context for context in contexts]
        if gold not in contexts:
            # It replaces the lowest-ranked passage, at a random position, so that its position gives nothing away.
            contexts = contexts[:-1] if len(contexts) >= top_k else contexts
            contexts.insert(shuffle.randint(0, len(contexts)), gold)
    return _make_sample(example, contexts, example.completion)


def _make_sample(example: Example, contexts: Sequence[Passage | Chunk], completion: str) -> TrainingSample:
    prompt = conversation_prompt(example.turns, [context.text for context in contexts])
    return TrainingSample(prompt, completion, tuple(dict.fromkeys(context.document for context in contexts)))


def documents_in(samples: Sequence[TrainingSample], by_document: Mapping[str, Sequence[Chunk]]) -> dict[str, str]:
    """Document -> digest, for the documents with a passage in the samples."""
    documents = {document for sample in samples for document in sample.documents}
    return {name: by_document[name][0].document_digest for name in sorted(documents & by_document.keys())}


def unanswerable_samples(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], retriever: Retriever, params: Params
) -> list[TrainingSample]:
    """Some examples again, with passages that do not answer them and `examples.unanswerable_reply` as the answer.

    RAFT also has samples without the gold passage, but keeps the answer, to be memorised. An example for which
    only answering passages are retrieved makes no sample.
    """
    drawn = draw_unanswerable(examples, params)
    retrieved = retriever.search([example.question for example in drawn], params.index.top_k + EXTRA_CANDIDATES)
    samples = []
    for example, passages in zip(drawn, retrieved, strict=True):
        gold = best_chunk(f"{example.question} {example.completion}", by_document[str(example.doc)]).text
        distractors = [
            passage for passage in passages if passage.text != gold and not _may_answer(passage.text, example)
        ]
        if distractors:
            reply = decline_answer(example.completion, params.examples.unanswerable_reply)
            samples.append(_make_sample(example, distractors[: params.index.top_k], reply))
    return samples


def draw_unanswerable(examples: Sequence[Example], params: Params) -> list[Example]:
    """A share `examples.unanswerable_share` of the examples with `doc`, each drawn independently of the others."""
    share, seed = params.examples.unanswerable_share, params.finetune.seed
    return [example for example in examples if example.doc and draw_position(example, seed, "absent") < share]


def estimate_training_tokens(examples: Sequence[Example], chunks: Sequence[Chunk], params: Params) -> int:
    """The tokens of a training on these examples with its repeats, estimated from characters without a tokenizer.

    Each sample has its question, its answer and `index.top_k` passages of average length, up to finetune.max_tokens.
    """
    passages = params.index.top_k * sum(len(chunk.text) for chunk in chunks) / max(1, len(chunks))
    samples = [*examples, *draw_unanswerable(examples, params)]
    lengths = (passages + len(sample.question) + len(sample.completion) for sample in samples)
    tokens = sum(min(params.finetune.max_tokens, length / CHARACTERS_PER_TOKEN) for length in lengths)
    return round(tokens * params.finetune.passes(len(samples)))


def draw_position(example: Example, seed: int, purpose: str) -> float:
    """A pseudo-random number in [0, 1) from the example's digest, the seed and the purpose of the draw."""
    return int(json_digest([seed, purpose, example.digest]), 16) / 16**12


def decline_answer(completion: str, reply: str) -> str:
    """`reply` in the form of `completion`: a JSON object keeps its keys and gets `reply` as each value."""
    try:
        require_whole_characters(completion)
        content = json.loads(completion)
    except (ValueError, RecursionError):
        return reply
    return json.dumps(_fill_values(content, reply), ensure_ascii=False) if isinstance(content, dict) else reply


def _fill_values(value: Any, reply: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill_values(item, reply) for key, item in value.items()}
    return [] if isinstance(value, list) else reply


def _may_answer(passage: str, example: Example) -> bool:
    """Whether a passage may contain the answer: its numbers, or at least half of its words if it has no numbers.

    Numbers and words of the question do not count.
    """
    answer, question = example.completion, example.question
    if NumberSet.of("").lack(answer, question):
        return NumberSet.of(passage).lack(answer, question) is None
    answer_words = _words(" ".join(stated_values(answer))) - _words(question)
    return 2 * len(answer_words & _words(passage)) >= len(answer_words)


def best_chunk(text: str, chunks: Sequence[Chunk]) -> Chunk:
    """The passage that shares the most distinct words with `text`; the first of equals."""
    return rank_by_overlap(text, [chunk for chunk in chunks if not chunk.is_overview])[0]


def rank_by_overlap(text: str, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks sorted by the number of distinct words shared with `text`, most first; equals by position."""
    words = _words(text)
    return sorted(chunks, key=lambda chunk: (-len(words & _words(chunk.text)), chunk.position))


def _words(text: str) -> set[str]:
    return {word.strip(".").lower() for word in re.findall(r"[\w.\-]+", text)} - {""}
