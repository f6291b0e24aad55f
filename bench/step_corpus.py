"""Corpus of a stream's step, as the product reads it from its folders: moves, deletions, and the training set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

from bench.streams import Step
from ragtide.pipelines.corpus import Corpus, KnowledgeBase, TrainingSet, documents_from_chunks
from ragtide.pipelines.data.diff import pair_renames
from ragtide.pipelines.data.moves import DocumentPaths, Page, Surroundings, find_moves
from ragtide.pipelines.data.snapshot import compose_snapshot
from ragtide.pipelines.evaluation.questions import follow_docs
from ragtide.pipelines.history.deletions import pending_deletions
from ragtide.pipelines.history.lost_content import LostContent, count_lost_rows, find_emptied, removal_digest
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.index.folder import SAMPLED_DOCUMENTS
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.params import ChunkParams, Params
from ragtide.pipelines.ports import Message
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import Chunk, Document, Snapshot
from ragtide.pipelines.records.evaluation import GoldenQuestion
from ragtide.pipelines.sampling import evenly_spaced
from ragtide.pipelines.training.examples import Example, follow_documents, validate_examples
from ragtide.pipelines.training.pairs import TrainingPair, build_pairs

Chunks = Mapping[str, Sequence[Chunk]]


def corpus_of(
    step: Step,
    indexed: Mapping[str, str],
    params: Params,
    rows: Sequence[Chunk] = (),
    earlier: Sequence[Mapping[str, str]] = (),
) -> Corpus:
    """Return the corpus of a step's data; documents whose removal is pending stay as the rows hold them.

    `indexed` are the documents of the live index (name -> digest), `rows` its chunks, and `earlier` the documents of
    the previous steps. Former paths of releases are not needed: golden and training lines follow their pages.
    """
    knowledge = _knowledge(step, indexed, params, InMemorySource.of(rows).by_document, earlier)
    texts = {name: text for name, text in knowledge.texts.items() if name in knowledge.chunks_by_document}
    lines = follow_documents(examples_of(step), knowledge.paths)
    validated = validate_examples(lines, texts, [question.question for question in step.truth], params)
    return Corpus(knowledge, TrainingSet(validated.examples, validated.orphans, validated.filtered))


def _knowledge(
    step: Step, indexed: Mapping[str, str], params: Params, live: Chunks, earlier: Sequence[Mapping[str, str]]
) -> KnowledgeBase:
    present = digests_of(step)
    now = {name: _chunked(name, text, params.chunk) for name, text in step.documents.items()}
    vanished = {name: digest for name, digest in indexed.items() if name not in present}
    moves = _find_moves(vanished, indexed, present, now, live, earlier) if vanished else {}
    deleted = {name: digest for name, digest in vanished.items() if name not in moves}
    changed = {name: chunks for name, chunks in now.items() if indexed.get(name) != present[name] and chunks}
    emptied = {
        name: removal_digest(indexed[name], present[name])
        for name in find_emptied({name: live[name] for name in changed if name in live}, changed)
    }
    pending = pending_deletions(deleted | emptied, len(indexed), (), params.deletion_guard)
    lost = [chunk for name in (*emptied, *deleted) for chunk in live.get(name, ())]
    kept = [chunk for name in pending for chunk in live.get(name, ())]
    chunks = [chunk for name, of_document in now.items() if name not in pending for chunk in of_document]
    documents = [
        Document(id=name, text=text, digest=present[name])
        for name, text in step.documents.items()
        if name not in pending
    ]
    documents += documents_from_chunks(kept)
    return KnowledgeBase(
        snapshot=snapshot_of(step),
        documents=tuple(sorted(documents, key=lambda document: document.id)),
        chunks=tuple(sorted([*chunks, *kept], key=lambda chunk: chunk.key)),
        pending_deletions=pending,
        deleted={name: digest for name, digest in deleted.items() if name not in pending},
        waiting=len(pending),
        paths=DocumentPaths(present | {name: indexed[name] for name in pending}, moves, {}, lambda: reversed(earlier)),
        lost=LostContent(emptied, count_lost_rows(lost, changed), {name: _joined(changed[name]) for name in emptied}),
    )


def _find_moves(
    vanished: Mapping[str, str],
    indexed: Mapping[str, str],
    present: Mapping[str, str],
    now: Chunks,
    live: Chunks,
    earlier: Sequence[Mapping[str, str]],
) -> dict[str, str]:
    """Documents of the index that left their path -> where they are now, as the product's DocumentFolder finds them."""
    new = {name: digest for name, digest in present.items() if name not in indexed}
    anywhere = {digest: name for name, digest in sorted(present.items(), reverse=True)}
    moves = {name: anywhere[digest] for name, digest in vanished.items() if digest in anywhere}
    moves |= {rename.before: rename.after for rename in pair_renames(vanished, new)}
    edited = {name: digest for name, digest in vanished.items() if name not in moves}
    if not edited:
        return moves
    since = {digest: name for state in earlier for name, digest in state.items() if name in present}
    known = {name: since[digest] for name, digest in edited.items() if digest in since}
    candidates = sorted((new.keys() | {*known.values()}) - {*moves.values()})
    staying = sorted(indexed.keys() - vanished.keys())
    samples = [Page.of(live[name]) for name in evenly_spaced(staying, SAMPLED_DOCUMENTS) if name in live]
    old = {name: Page.of(live[name]) for name in edited if name in live}
    pages = {name: Page.of(now[name]) for name in candidates}
    return moves | find_moves(old, pages, Surroundings(staying, samples, known))


@lru_cache(maxsize=20_000)
def _chunked(name: str, text: str, params: ChunkParams) -> tuple[Chunk, ...]:
    return tuple(chunk_document(Document(id=name, text=text, digest=_md5(text)), params))


def _joined(chunks: Sequence[Chunk]) -> str:
    return "\n\n".join(chunk.text for chunk in chunks)


def golden_of(step: Step, paths: DocumentPaths) -> tuple[GoldenQuestion, ...]:
    """Return the golden questions of a step; those about a document that has moved name it by today's path."""
    return follow_docs(step.truth, paths)


def pairs_of(step: Step, corpus: Corpus) -> list[TrainingPair]:
    """Return the pairs for tuning the embedder, without those of golden questions."""
    golden = [question.question for question in step.truth]
    return build_pairs(corpus.knowledge.chunks_by_document, corpus.training.examples, golden)


def examples_of(step: Step) -> list[Example]:
    """Return the lines of the training file."""
    return [
        Example((Message("user", line["prompt"]),), line["completion"], line.get("doc"), f"examples.jsonl:{number}")
        for number, line in enumerate(step.examples, start=1)
    ]


def digests_of(step: Step) -> dict[str, str]:
    """Return the documents of a step, name -> digest."""
    return {name: _md5(text) for name, text in step.documents.items()}


def snapshot_of(step: Step) -> Snapshot:
    """Return the snapshot that the product would take of a step's data."""
    train = json_digest(sorted(example.digest for example in examples_of(step)))
    golden = json_digest([question.model_dump(mode="json") for question in step.truth])
    return compose_snapshot(digests_of(step), {"examples.jsonl": train}, {"golden.jsonl": golden})


@lru_cache(maxsize=20_000)
def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
