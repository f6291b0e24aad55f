"""Property test of invariant incremental-equals-rebuild (docs/invariants.md) on the index alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.search import Passage
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Chunk
from tests.factories import HashEmbedder, Shelf, document
from tests.pipelines.index.chunk_pages import (
    NAMES,
    SENTENCES,
    Renamed,
    Wider,
    digests_of,
    ledger_of,
)

Pages = dict[str, str]
Step = Callable[["Story"], None]


class Story:
    """A changing knowledge base with its index, refreshed in windows of two chunks."""

    def __init__(self, uri: str) -> None:
        self.shelf = Shelf(uri)
        self.pages: Pages = {}
        self.past: list[Pages] = [{}]
        self.tagged: dict[str, list[dict[str, Any]]] = {}
        self.shelf.refresh([])

    @property
    def chunks(self) -> list[Chunk]:
        return chunk_documents([document(name, text) for name, text in sorted(self.pages.items())], self.shelf.chunk)

    def refresh(self, fails_in: int | None) -> None:
        known = self.shelf.cached()
        new = digests_of(self.chunks) - known
        if fails_in is not None and fails_in < len(new):
            self.fail(fails_in)
            return
        embedded = self.shelf.embeds(self.chunks, rebuild=True)
        assert len(embedded) == len(new)
        assert self.shelf.index.rows() == ledger_of(self.chunks)
        self.past.append(dict(self.pages))
        self.tag()

    def fail(self, after: int) -> None:
        rows, version, known = self.shelf.content(), self.shelf.latest, self.shelf.cached()
        self.shelf.embedder.fails_in = after
        with pytest.raises(ConnectionError):
            self.shelf.refresh(self.chunks, rebuild=True)
        self.shelf.embedder.fails_in = None
        assert (self.shelf.content(), self.shelf.latest) == (rows, version)
        # Texts embedded in earlier windows stay in the cache.
        assert known <= self.shelf.cached()

    def tag(self) -> None:
        version = self.shelf.latest
        if version not in self.shelf.index.tags().values():
            self.shelf.index.tag(f"release-{version}", version)
            self.tagged[f"release-{version}"] = self.shelf.content(version)


def write(name: str, text: str) -> Step:
    return lambda story: story.pages.update({name: text})


def rename(before: str, after: str) -> Step:
    return lambda story: story.pages.update({after: story.pages.pop(before)} if before in story.pages else {})


def delete(name: str) -> Step:
    def step(story: Story) -> None:
        story.pages.pop(name, None)

    return step


def re_wrap(name: str) -> Step:
    return lambda story: story.pages.update(
        {name: story.pages[name].replace(" of ", "\nof ")} if name in story.pages else {}
    )


def revert(back: int) -> Step:
    def step(story: Story) -> None:
        story.pages = dict(story.past[-1 - back % len(story.past)])

    return step


def refresh(fails_in: int | None) -> Step:
    return lambda story: story.refresh(fails_in)


def change_settings(embedder: type[HashEmbedder], max_words: int) -> Step:
    """Change the embedder and the chunker: the next refresh is a rebuild."""

    def step(story: Story) -> None:
        story.shelf.embedder, story.shelf.chunk = embedder(), ChunkParams(max_words=max_words)

    return step


def maintain() -> Step:
    return lambda story: story.shelf.maintain() and None


TEXTS = st.just("") | st.lists(st.sampled_from(SENTENCES), max_size=4).map(
    lambda sentences: "\n\n".join(["# Page", *sentences])
)
NAME = st.sampled_from(NAMES)
STEPS = st.lists(
    st.builds(write, NAME, TEXTS)
    | st.builds(rename, NAME, NAME)
    | st.builds(delete, NAME)
    | st.builds(re_wrap, NAME)
    | st.builds(revert, st.integers(0, 5))
    | st.builds(refresh, st.none() | st.integers(0, 3))
    | st.builds(change_settings, st.sampled_from([HashEmbedder, Renamed, Wider]), st.integers(20, 22))
    | st.builds(maintain),
    min_size=4,
    max_size=14,
)


def search_all(shelf: Shelf) -> tuple[list[list[Passage]], list[set[str]]]:
    """Passages by vector with their scores, and the texts that full-text search finds.

    Full-text scores are not compared: lance counts deleted rows in its statistics until their segment is merged.
    """
    questions = [*SENTENCES, "end of life"]
    by_text = shelf.search(shelf.latest, *questions, top_k=99, by="text")
    return shelf.search(shelf.latest, *questions, top_k=5, by="vector"), [
        {hit.text for hit in hits} for hits in by_text
    ]


@pytest.mark.usefixtures("small_windows")
@settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_after_any_changes_and_failures_the_rows_equal_a_clean_build(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    folder = tmp_path_factory.mktemp("story")
    story = Story(str(folder / "grown"))
    for step in steps:
        step(story)
    story.refresh(None)
    clean = Shelf(str(folder / "clean"), type(story.shelf.embedder)(), story.shelf.chunk)
    clean.refresh(story.chunks)
    assert story.shelf.content() == clean.content()
    assert search_all(story.shelf) == search_all(clean)
    # Neither maintenance nor a rebuild has deleted or changed a tagged version.
    assert {tag: story.shelf.content(tag) for tag in story.tagged} == story.tagged
    assert story.shelf.index.defects(story.shelf.latest) == []
