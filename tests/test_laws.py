"""Are laws 1 to 3 kept whatever happens? Changes of a folder in any order, faults and kills at any point.

Incremental equals rebuild; nothing is called done before it is durable; only new texts are embedded. Most kills are an
exception that nothing catches, thrown into this process; some are a real SIGKILL of a child (tests/crash.py).
RAGTIDE_EXAMPLES=5000 looks further than the tests do by themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import lancedb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from prefect.client.orchestration import get_client

from bench.faults import Library, endure
from bench.leaked_files import leaked
from ragtide.flows.keep_current import keep_current
from ragtide.pipelines.build import build_index_only, maintain_index
from ragtide.pipelines.data.formats import convert_document
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index import table as index_module
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.index.fingerprint import TABLE
from ragtide.pipelines.models.load import LoadedEmbedder, load_embedder
from ragtide.pipelines.models.weights import has_native_bfloat16
from ragtide.pipelines.params import ChunkParams, EmbedParams, IndexParams
from ragtide.pipelines.ports import Embedder, Vectors, no_progress
from ragtide.pipelines.records.data import Chunk, Document
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.release.verify import Mismatch, repair_mismatches, verify_project
from ragtide.pipelines.workspace import Workspace
from tests import fakes
from tests.conftest import write_project
from tests.crash import MAX_WORDS, WINDOW, Point, Witness, die, laboratory, struck
from tests.factories import HashEmbedder, write
from tests.projects import Home

EXAMPLES = os.environ.get("RAGTIDE_EXAMPLES")
law = settings(
    max_examples=int(EXAMPLES or 200),
    derandomize=EXAMPLES is None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# --- a folder that changes -----------------------------------------------------------------------------------------

NAMES = ("a.md", "guide/b.md", "guide/c.txt", "Neu ü/it's.md", "guide/deep/d.markdown")
TITLES = ("Lantern", "Harbour")
PARAGRAPHS = (
    "The lantern burns for nine hours on one filling of oil.",
    "A harbour pilot comes aboard two miles before the light.",
    "Orders over fifty crowns are sent without a fee, by the next post that leaves the town in the morning. What comes "
    "in after ten is sent on the day after, and nothing leaves the town on a Sunday or while the ferry is laid up.",
    "| part | price |\n| --- | --- |\n| wick | 2 |\n| glass | 7 |\n| oil, a can of it | 11 |\n| hook for a wall | 3 |",
)
# A line that begins with a number and a dot is no item of a list, where no list has begun.
WITH_A_YEAR = (
    "Version 4 of the lantern, first sold in spring, reaches the end of its life in May 2031. After that day it gets "
    "no mend. Whoever has it in use by then is asked to write to the office, and to say why that is so"
)
UNREADABLE = (b"", b" \n", b"\x80 no text", b"a\0b")


@dataclass(frozen=True)
class Page:
    """What a document says, and how its lines are broken; neither makes a difference to the other."""

    title: str
    paragraphs: tuple[str, ...]
    width: int = 60
    line_end: str = "\n"

    def find_written(self, path: str) -> bytes:
        parts = [paragraph if "|" in paragraph else self._wrapped(paragraph) for paragraph in self.paragraphs]
        if not path.lower().endswith(".txt"):
            parts = [f"# {self.title}", *parts[:-1], "## The last part", parts[-1]]
        return ("\n\n".join(parts) + "\n").replace("\n", self.line_end).encode()

    def _wrapped(self, paragraph: str) -> str:
        return textwrap.fill(paragraph, self.width, break_on_hyphens=False, break_long_words=False)


class Folder:
    """Documents on a disk. Each change is chosen by two numbers; where it is not possible, nothing changes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pages: dict[str, Page] = {}
        self.unreadable: dict[str, bytes] = {}
        self._earlier: dict[str, list[Page]] = {}
        self._numbers = count(1)
        for at in range(3):
            self._put(NAMES[at], Page(TITLES[at % 2], PARAGRAPHS[at : at + 2]))

    def content(self, path: str) -> bytes:
        return self.unreadable.get(path, self.pages[path].written(path))

    # What brings text, which may be new.

    def add(self, which: int, what: int) -> None:
        free = [name for name in NAMES if name not in self.pages]
        if free:
            self._put(free[which % len(free)], Page(TITLES[what % 2], (self._text(what), self._text(what + 1))))

    def edit(self, which: int, what: int) -> None:
        path, page = self._pick(which)
        at = what % len(page.paragraphs)
        self._put(path, self._with(page, at, at + 1, self._text(which + what)))

    def insert(self, which: int, what: int) -> None:
        path, page = self._pick(which)
        at = what % len(page.paragraphs)
        self._put(path, self._with(page, at, at, self._text(which + what)))

    def rename_and_edit(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self.rename(which, what)
        self.edit(sorted(self.pages).index(path) if path in self.pages else which, what)

    def cut(self, which: int, what: int) -> None:
        path, page = self._pick(which)
        if len(page.paragraphs) > 1:
            at = what % len(page.paragraphs)
            self._put(path, self._with(page, at, at + 1))

    # What brings none.

    def delete(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        if len(self.pages) > 1:
            (self.root / path).unlink()
            self._forget(path)

    def rename(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self._move({path: str(PurePosixPath(path).with_stem(f"named {what % 3}"))})

    def move_folder(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        old, new = PurePosixPath(path).parent, PurePosixPath(("guide", "manual", "Guide/deep")[what % 3])
        inside = [one for one in self.pages if old == PurePosixPath(one).parent]
        self._move({one: str(new / PurePosixPath(one).name) for one in inside})

    def change_case(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self._move({path: path.swapcase()})

    def swap(self, which: int, what: int) -> None:
        (one, page), (other, with_page) = self._pick(which), self._pick(what)
        if PurePosixPath(one).suffix == PurePosixPath(other).suffix:
            self._put(one, with_page)
            self._put(other, page)

    def touch(self, which: int, what: int) -> None:
        os.utime(self.root / self._pick(which)[0], (what, what))

    def rewrap(self, which: int, what: int) -> None:
        path, page = self._pick(which)
        self._put(path, replace(page, width=20 + what % 80, line_end=("\n", "\r\n")[what % 2]))

    def revert(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self._put(path, self._earlier[path][what % len(self._earlier[path])])

    def spoil(self, which: int, what: int) -> None:
        path, _ = self._pick(which)
        self.unreadable[path] = write(self.root / path, UNREADABLE[what % len(UNREADABLE)]).read_bytes()

    def mend(self, which: int, what: int) -> None:
        if self.unreadable:
            path = sorted(self.unreadable)[which % len(self.unreadable)]
            self._put(path, self.pages[path])

    def mend_all(self) -> None:
        while self.unreadable:
            self.mend(0, 0)

    def _pick(self, which: int) -> tuple[str, Page]:
        return sorted(self.pages.items())[which % len(self.pages)]

    def _text(self, what: int) -> str:
        """A paragraph that may stand elsewhere too, or one that stands nowhere."""
        usual = PARAGRAPHS[what % len(PARAGRAPHS)]
        return usual if what % 3 else f"Notice {next(self._numbers)}: {usual}".replace(": |", ":\n\n|")

    def _with(self, page: Page, start: int, end: int, *new: str) -> Page:
        return replace(page, paragraphs=(*page.paragraphs[:start], *new, *page.paragraphs[end:]))

    def _put(self, path: str, page: Page) -> None:
        self.unreadable.pop(path, None)
        self.pages[path] = page
        self._earlier.setdefault(path, []).append(page)
        write(self.root / path, page.written(path))

    def _move(self, names: dict[str, str]) -> None:
        if set(names.values()) & set(self.pages):
            return
        for old, new in names.items():
            page, bad = self.pages[old], self.unreadable.get(old)
            (self.root / new).parent.mkdir(parents=True, exist_ok=True)
            (self.root / old).rename(self.root / new)
            self._forget(old)
            self.pages[new] = page
            self._earlier.setdefault(new, []).append(page)
            if bad is not None:
                self.unreadable[new] = bad

    def _forget(self, path: str) -> None:
        del self.pages[path]
        self.unreadable.pop(path, None)


BRING_NOTHING = ("delete", "rename", "move_folder", "change_case", "touch", "rewrap", "revert", "spoil", "mend", "swap")
CHANGES = ("add", "edit", "insert", "rename_and_edit", "cut", *BRING_NOTHING)


# --- an index that is to follow it ---------------------------------------------------------------------------------

Rows = dict[tuple[str, int], dict[str, Any]]


class Killed(BaseException):
    """What a SIGKILL is to the code that it meets: nothing catches it."""


@dataclass(frozen=True)
class Fails:
    """The embedder goes away after so many texts."""

    after: int


Fate = Point | Fails | None
# Nothing is refreshed yet: changes gather.
WAITS = "waits"


@dataclass(frozen=True)
class Step:
    """A change, and what becomes of the refresh after it: it comes to its end (None), fails, is killed; or waits."""

    change: str
    which: int
    what: int
    fate: Fate | str


POINTS = (
    *(Point("before", "window", nth) for nth in (1, 2)),
    *(Point(when, "vectors", nth) for when in ("before", "after") for nth in (1, 2)),
    *(Point(when, place) for when in ("before", "after") for place in ("commit", "text index")),
    Point("before", "note"),
)
FATES = (*[None] * 8, *[WAITS] * 4, *map(Fails, (0, 1, 2, 4)), *POINTS)


class Lab:
    """A folder, the index that follows it, and a judge of its rows and of what was embedded for them."""

    def __init__(self, root: Path, embedder: Witness | None = None, reference: Embedder | None = None) -> None:
        self.workspace = laboratory(root)
        self.folder = Folder(self.workspace.kb)
        self.embedder = embedder or Witness()
        self.reference = reference or HashEmbedder()
        self.rows: Rows = {}
        self._embedded: set[str] = set()
        self._judged = 0

    def take(self, step: Step) -> None:
        getattr(self.folder, step.change)(step.which, step.what)
        if not isinstance(step.fate, str):
            self.refresh(step.fate)

    def refresh(self, fate: Fate = None) -> None:
        """Refresh, and judge what came of it."""
        wanted = self.wanted()
        try:
            with self._meeting(fate):
                build_index_only(
                    self.workspace, LoadedEmbedder(self.embedder), take_snapshot(self.workspace), no_progress
                )
        except (Killed, ConnectionError):
            self.judge(wanted, done=False, window_is_lost=loses_a_window(fate))
        except UserError:
            assert set(self.folder.unreadable) == set(self.folder.pages)
            self.judge(wanted, done=False)
        else:
            self.judge(wanted)

    def judge(self, wanted: Rows, done: bool = True, window_is_lost: bool = False) -> None:
        """A refresh that was done has all rows; one that was not has these or those before it, and no mixture."""
        found = rows_of(self.workspace)
        expected = wanted if done or plain(found) == plain(wanted) else self.rows
        assert_same(found, expected, self.embedder.within)
        self.rows = found
        self._judge_calls({normal(row["text"]) for row in wanted.values()}, window_is_lost)

    def wanted(self) -> Rows:
        """What the rows should be: those of a clean cut, and of an unreadable document those that it has."""
        cut = [chunk for path in self.folder.pages if path not in self.folder.unreadable for chunk in self._cut(path)]
        kept = {key: row for key, row in self.rows.items() if key[0] in self.folder.unreadable}
        return {**{chunk.key: self._row(chunk) for chunk in cut}, **kept}

    def clean(self) -> Rows:
        """The rows of a first build of the same folder, in a database of its own."""
        return clean_rows(self.workspace, self.reference)

    def witness(self, file: Path) -> None:
        """Hear what a child embedded before it died."""
        self.embedder.calls += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    @property
    def rows_without_full_text(self) -> int:
        table = table_of(self.workspace)
        names = [one.name for one in table.list_indices() if "text" in one.columns]
        return int(table.index_stats(names[0]).num_unindexed_rows) if names else int(table.count_rows())

    def _cut(self, path: str) -> list[Chunk]:
        content = self.folder.pages[path].written(path)
        text = convert_document(path, content)
        return chunk_document(Document(id=path, text=text, digest=digest_of(content)), self.workspace.params.chunk)

    def _row(self, chunk: Chunk) -> dict[str, Any]:
        [vector] = self.reference.embed([chunk.text])
        return {**chunk.model_dump(exclude={"record_version"}), "vector": vector}

    def _judge_calls(self, texts_of_rows: set[str], window_is_lost: bool) -> None:
        """No text is embedded that no row holds, and none twice; but a window that was lost may be embedded again."""
        calls, self._judged = self.embedder.calls[self._judged :], len(self.embedder.calls)
        for call in calls:
            texts = [normal(text) for text in call]
            assert len(texts) == len(set(texts))
            assert set(texts) <= texts_of_rows
            assert not set(texts) & self._embedded
            if not (window_is_lost and call is calls[-1]):
                self._embedded |= set(texts)

    @contextmanager
    def _meeting(self, fate: Fate) -> Iterator[None]:
        self.embedder.fails_in = fate.after if isinstance(fate, Fails) else None
        with struck(fate, die_here) if isinstance(fate, Point) else nullcontext():
            yield
        self.embedder.fails_in = None


class RealWitness(Witness):
    """The packaged embedder, overheard.

    Where the CPU computes in bfloat16, a vector depends a little on the texts that it was embedded beside.
    """

    within = 1e-3 if has_native_bfloat16("cpu") else 1e-6

    def __init__(self) -> None:
        super().__init__()
        self.real = load_embedder(EmbedParams())
        self.fingerprint, self.dimensions = self.real.fingerprint, self.real.dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        self.calls.append(list(texts))
        return self.real.embed(texts)


def loses_a_window(fate: Fate) -> bool:
    """Whether what a window had embedded was not kept yet."""
    return isinstance(fate, Fails) or fate in (Point("before", "vectors", nth) for nth in (1, 2))


def die_here() -> NoReturn:
    raise Killed


def table_of(workspace: Workspace) -> Any:
    return lancedb.connect(workspace.index_uri).open_table(TABLE)


def rows_of(workspace: Workspace, version: int | str | None = None) -> Rows:
    """Every row whole, by key; {} where there is no table yet."""
    try:
        table = table_of(workspace)
    except ValueError:
        return {}
    if version is not None:
        table.checkout(version)
    rows = table.to_arrow().to_pylist()
    assert len({(row["document"], row["position"]) for row in rows}) == len(rows)
    return {(row["document"], row["position"]): row for row in rows}


def clean_rows(workspace: Workspace, embedder: Embedder) -> Rows:
    """The rows of a first build of the same folder, in a database of its own."""
    with tempfile.TemporaryDirectory(dir=workspace.root) as folder:
        params = workspace.params.model_copy(update={"index": IndexParams(uri=f"{folder}/lance")})
        elsewhere = replace(workspace, params=params)
        build_index_only(elsewhere, LoadedEmbedder(embedder), take_snapshot(elsewhere), no_progress)
        return rows_of(elsewhere)


def digest_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def plain(rows: Rows) -> Rows:
    """Without the vectors."""
    return {key: {name: value for name, value in row.items() if name != "vector"} for key, row in rows.items()}


def assert_same(found: Rows, wanted: Rows, within: float = Witness.within) -> None:
    assert plain(found) == plain(wanted)
    for key, row in wanted.items():
        np.testing.assert_allclose(found[key]["vector"], row["vector"], rtol=0, atol=within)


def normal(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module", autouse=True)
def _several_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "WINDOW", WINDOW)
        yield


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("laws")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """The index is as the folder is."""
    lab = Lab(tmp_path)
    lab.refresh()
    return lab


# --- incremental equals rebuild (law 1), and only what changed is embedded (law 3) ---------------------------------

numbers = st.integers(0, 99)
steps = st.builds(Step, st.sampled_from(CHANGES), numbers, numbers, st.sampled_from(FATES))


@pytest.mark.timeout(900)
@law
@given(steps=st.lists(steps, min_size=1, max_size=6))
def test_whatever_happens_the_rows_are_those_of_a_clean_build_and_no_text_is_embedded_twice(
    scratch: Path, steps: Sequence[Step]
) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as root:
        lab = Lab(Path(root))
        for step in steps:
            lab.take(step)
        lab.folder.mend_all()
        lab.refresh()
        assert_same(lab.rows, lab.clean())
        assert not lab.rows_without_full_text


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_the_rows_are_those_of_a_clean_build_with_the_real_embedder_too(seed: int, tmp_path: Path) -> None:
    draw, embedder = random.Random(seed), RealWitness()
    lab = Lab(tmp_path, embedder, embedder.real)
    for change in draw.sample(CHANGES, 6):
        lab.take(Step(change, draw.randrange(99), draw.randrange(99), draw.choice((None, WAITS, *POINTS))))
    lab.folder.mend_all()
    lab.refresh()
    assert_same(lab.rows, lab.clean(), embedder.within)


@pytest.mark.parametrize("change", BRING_NOTHING)
def test_a_change_that_brings_no_text_embeds_nothing(change: str, lab: Lab) -> None:
    lab.take(Step("edit", 0, 0, None))
    before = list(lab.embedder.embedded)
    for what in range(12):
        lab.take(Step(change, what, 7 * what, None))
    assert lab.embedder.embedded == before


@pytest.mark.parametrize("paragraph", [*PARAGRAPHS, WITH_A_YEAR], ids=lambda text: text[:20])
def test_a_rewrap_moves_no_cut_at_whatever_width(paragraph: str) -> None:
    params = ChunkParams(max_words=MAX_WORDS)
    cuts = set()
    for width in range(1, 121):
        text = Page("Lantern", (paragraph,), width).written("a.md").decode()
        chunks = chunk_document(Document(id="a.md", text=text, digest=""), params)
        cuts.add(tuple(chunk.digest for chunk in chunks))
    assert len(cuts) == 1


@pytest.mark.parametrize(
    ("first_build", "point"),
    [
        (True, Point("within", "vectors-*.lance/data/*")),
        (True, Point("within", "chunks.lance/data/*")),
        (False, Point("before", "commit")),
        (False, Point("within", "chunks.lance/data/*")),
        (False, Point("within", "chunks.lance/_transactions/*")),
        (False, Point("within", "chunks.lance/_indices/*")),
    ],
    ids=lambda one: str(one) if isinstance(one, Point) else ("first build" if one else "refresh"),
)
@pytest.mark.long
def test_a_real_kill_leaves_the_rows_before_it_or_after_it_and_the_next_refresh_ends_it(
    first_build: bool, point: Point, tmp_path: Path
) -> None:
    lab = Lab(tmp_path)
    if not first_build:
        lab.refresh()
    for change in ("edit", "rename_and_edit", "delete", "add", "edit"):
        lab.take(Step(change, 1, 3, WAITS))
    wanted = lab.wanted()
    die("refresh", tmp_path, point)
    lab.witness(tmp_path / "embedded.jsonl")
    lab.judge(wanted, done=False, window_is_lost=True)
    lab.take(Step("rewrap", 0, 5, None))
    assert_same(lab.rows, lab.clean())
    assert not lab.rows_without_full_text


@pytest.mark.parametrize("written", ["data/*", "_indices/*/*"])
@pytest.mark.long
def test_upkeep_leaves_no_file_of_a_killed_writer(written: str, lab: Lab) -> None:
    database = Path(lab.workspace.index_uri)
    # Where the machine is slow, the kill can come after the commit: then once more.
    while not leaked(database):
        lab.take(Step("edit", 0, 3, WAITS))
        die("refresh", lab.workspace.root, Point("within", f"chunks.lance/{written}"))
    maintain_index(lab.workspace, HashEmbedder())
    assert leaked(database) == {}
    lab.refresh()
    assert_same(lab.rows, lab.clean())


@pytest.mark.long
def test_kills_at_random_moments_lose_no_row_and_tear_no_read_and_upkeep_leaves_nothing_of_them(tmp_path: Path) -> None:
    faults = endure(Library(tmp_path / "library", pages=40), kills=5)
    assert (faults.kills, faults.lost_rows, faults.torn_reads, faults.failed_reads) == (5, 0, 0, 0), faults.problems
    assert faults.reads > 5
    assert faults.tagged_are_whole
    assert faults.leaked_after == {}


# --- nothing is called done before it is durable (law 2) -----------------------------------------------------------

QUESTION = "When does {} 1 reach end of life?"


@dataclass
class House(Home):
    """A project on which the whole loop turns; the pages of the pump and the tank are asked about."""

    year: int = 2030

    def moves_on(self) -> None:
        """Another year: what is live is out of date."""
        self.year += 1
        for name in ("Pump", "Tank", "Valve", "Motor"):
            write(self.root / f"data/kb/{name}.md", f"# {name}\n\n## {name} 1\n\n- End of life: {self.year}\n")
        golden = [
            {"question": QUESTION.format(name), "answers": [str(self.year)], "docs": [f"{name}.md"]}
            for name in ("Pump", "Tank")
        ]
        train = [{"prompt": QUESTION.format(name), "completion": "2020"} for name in ("Valve", "Motor")]
        for folder, rows in (("golden", golden), ("train", train)):
            write(self.root / f"data/{folder}/it.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def turn(self) -> Cycle:
        return keep_current(project=str(self.root))

    def check_servable(self, year: int) -> bool:
        """Whether what is live is whole, and of that year."""
        release, answer = self.project.ask(QUESTION.format("Pump"))
        texts = [row["text"] for row in rows_of(self.project.workspace, release.index_tag).values()]
        whole = self.project.index.content(release.index_tag) == release.content
        return whole and len(texts) == 4 and all(str(year) in text for text in [*texts, answer.text])

    def verify(self) -> list[Mismatch]:
        project = self.project
        with project.workspace.write_lock():
            return verify_project(project)

    def runs_at_work(self) -> list[str]:
        """The runs and steps that MLflow calls running."""
        client = MlflowClient(tracking_uri=self.project.workspace.tracking_uri)
        experiments = [one.experiment_id for one in client.search_experiments()]
        return [run.info.run_name for run in client.search_runs(experiments, "attributes.status = 'RUNNING'")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A release is live."""
    house = House(write_project(tmp_path_factory.mktemp("house") / "project", policy={"points_per_hour": 0.0}))
    house.moves_on()
    house.turn()
    return house


@pytest.mark.long
@pytest.mark.parametrize(
    ("point", "left", "is_live"),
    [
        (Point("before", "vectors"), [], False),
        (Point("within", "chunks.lance/data/*"), [], False),
        (Point("before", "tag"), [], False),
        (Point("before", "description"), ["belongs to no release"], False),
        (Point("before", "pointer"), [], False),
        (Point("after", "pointer"), [], True),
    ],
    ids=lambda one: str(one) if isinstance(one, Point) else "",
)
def test_a_run_that_is_killed_leaves_a_whole_release_live_and_the_next_run_makes_it_good(
    point: Point, left: list[str], is_live: bool, house: House
) -> None:
    before = house.year
    house.moves_on()
    die("loop", house.root, point, PREFECT_API_URL=str(get_client(sync_client=True).api_url))
    assert house.check_servable(house.year if is_live else before)

    found = house.verify()
    for what in ("says that it is running", *left):
        assert [one for one in found if what in one.what], f"nothing is said of what {what}"
    with house.project.workspace.write_lock():
        mended, not_mended = repair_mismatches(found)
    assert (mended, not_mended) == (found, [])
    assert not house.verify()

    cycle, project = house.turn(), house.project
    assert cycle.decision == ("NOTHING" if is_live else "REFRESH")
    assert house.check_servable(house.year)
    rows = rows_of(project.workspace, house.live.index_tag)
    assert_same(rows, clean_rows(project.workspace, fakes.CountingEmbedder()))
    assert not house.verify()


def test_a_repair_closes_the_steps_of_a_killed_run_with_it(tmp_path: Path) -> None:
    house = House(write_project(tmp_path / "project"))
    registry = house.project.registry
    # As a run that is killed in the midst of a step leaves them: begun, and not closed.
    with registry.cycle() as log, registry.step("publish", log):
        assert len(house.runs_at_work()) == 2
        repair_mismatches(verify_project(house.project))
        assert not house.runs_at_work()
