"""Tests of the invariants incremental-equals-rebuild, durable-before-done and only-changes-embedded.

See docs/invariants.md. Most kills are an uncaught exception in this process; some are a SIGKILL of a child process
(tests/crash.py). RAGTIDE_EXAMPLES sets the number of random examples (200).
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from prefect.client.orchestration import get_client

from bench.faults import Library, endure
from bench.leaked_files import leaked
from ragtide.flows.keep_current import keep_current
from ragtide.pipelines.build import maintain_index
from ragtide.pipelines.index import source as source_module
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Document
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.release.verify import Mismatch, repair_mismatches, verify_project
from tests import fakes
from tests.changing_folder import CHANGES, PARAGRAPHS, WITH_A_YEAR, WITHOUT_NEW_TEXT, Page
from tests.conftest import write_project
from tests.crash import MAX_WORDS, WINDOW, Point, die
from tests.factories import HashEmbedder, write
from tests.index_lab import FATES, NO_REFRESH, POINTS, Lab, RecordingModel, Step, assert_same, clean_rows, rows_of
from tests.projects import Home

EXAMPLES = os.environ.get("RAGTIDE_EXAMPLES")
law = settings(
    max_examples=int(EXAMPLES or 200),
    derandomize=EXAMPLES is None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(scope="module", autouse=True)
def _several_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "WINDOW", WINDOW)
        yield


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("laws")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A folder with an index that is current."""
    lab = Lab(tmp_path)
    lab.refresh()
    return lab


numbers = st.integers(0, 99)
steps = st.builds(Step, st.sampled_from(CHANGES), numbers, numbers, st.sampled_from(FATES))


@pytest.mark.timeout(900)
@law
@given(steps=st.lists(steps, min_size=1, max_size=6))
def test_after_any_changes_and_faults_the_rows_equal_a_clean_build_and_no_text_is_embedded_twice(
    scratch: Path, steps: Sequence[Step]
) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as root:
        lab = Lab(Path(root))
        for step in steps:
            lab.take(step)
        lab.folder.repair_all()
        lab.refresh()
        assert_same(lab.rows, lab.clean())
        assert not lab.rows_without_full_text


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_the_rows_equal_a_clean_build_with_the_real_embedder(seed: int, tmp_path: Path) -> None:
    draw, embedder = random.Random(seed), RecordingModel()
    lab = Lab(tmp_path, embedder, embedder.real)
    for change in draw.sample(CHANGES, 6):
        lab.take(Step(change, draw.randrange(99), draw.randrange(99), draw.choice((None, NO_REFRESH, *POINTS))))
    lab.folder.repair_all()
    lab.refresh()
    assert_same(lab.rows, lab.clean(), embedder.within)


@pytest.mark.parametrize("change", WITHOUT_NEW_TEXT)
def test_a_change_without_new_text_embeds_nothing(change: str, lab: Lab) -> None:
    lab.take(Step("edit", 0, 0, None))
    before = list(lab.embedder.embedded)
    for what in range(12):
        lab.take(Step(change, what, 7 * what, None))
    assert lab.embedder.embedded == before


@pytest.mark.parametrize("paragraph", [*PARAGRAPHS, WITH_A_YEAR], ids=lambda text: text[:20])
def test_a_rewrap_at_any_width_changes_no_chunk(paragraph: str) -> None:
    params = ChunkParams(max_words=MAX_WORDS)
    chunkings = set()
    for width in range(1, 121):
        text = Page("Lantern", (paragraph,), width).encode("a.md").decode()
        chunks = chunk_document(Document(id="a.md", text=text, digest=""), params)
        chunkings.add(tuple(chunk.digest for chunk in chunks))
    assert len(chunkings) == 1


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
    ids=lambda value: str(value) if isinstance(value, Point) else ("first build" if value else "refresh"),
)
@pytest.mark.long
def test_a_real_kill_leaves_old_or_new_rows_and_the_next_refresh_completes_them(
    first_build: bool, point: Point, tmp_path: Path
) -> None:
    lab = Lab(tmp_path)
    if not first_build:
        lab.refresh()
    for change in ("edit", "rename_and_edit", "delete", "add", "edit"):
        lab.take(Step(change, 1, 3, NO_REFRESH))
    wanted = lab.wanted()
    die("refresh", tmp_path, point)
    lab.read_calls(tmp_path / "embedded.jsonl")
    lab.check(wanted, done=False, window_is_lost=True)
    lab.take(Step("rewrap", 0, 5, None))
    assert_same(lab.rows, lab.clean())
    assert not lab.rows_without_full_text


@pytest.mark.parametrize("written", ["data/*", "_indices/*/*"])
@pytest.mark.long
def test_maintenance_deletes_all_files_of_killed_writers(written: str, lab: Lab) -> None:
    database = Path(lab.workspace.index_uri)
    # On a slow machine the kill can come after the commit: then try again.
    while not leaked(database):
        lab.take(Step("edit", 0, 3, NO_REFRESH))
        die("refresh", lab.workspace.root, Point("within", f"chunks.lance/{written}"))
    maintain_index(lab.workspace, HashEmbedder())
    assert leaked(database) == {}
    lab.refresh()
    assert_same(lab.rows, lab.clean())


@pytest.mark.long
def test_random_kills_lose_no_row_tear_no_read_and_leave_no_file_after_maintenance(tmp_path: Path) -> None:
    faults = endure(Library(tmp_path / "library", pages=40), kills=5)
    assert (faults.kills, faults.lost_rows, faults.torn_reads, faults.failed_reads) == (5, 0, 0, 0), faults.problems
    assert faults.reads > 5
    assert faults.tagged_are_whole
    assert faults.leaked_after == {}


QUESTION = "When does {} 1 reach end of life?"


@dataclass
class ProductProject(Home):
    """A project with the whole loop; its golden questions are about the pump and the tank."""

    year: int = 2030

    def advance_year(self) -> None:
        """Move every date to the next year, so that the live release is out of date."""
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

    def run_cycle(self) -> Cycle:
        return keep_current(project=str(self.root))

    def check_servable(self, year: int) -> bool:
        """Whether the live release is complete and states that year."""
        release, answer = self.project.ask(QUESTION.format("Pump"))
        texts = [row["text"] for row in rows_of(self.project.workspace, release.index_tag).values()]
        is_complete = self.project.index.content(release.index_tag) == release.content
        return is_complete and len(texts) == 4 and all(str(year) in text for text in [*texts, answer.text])

    def verify(self) -> list[Mismatch]:
        project = self.project
        with project.workspace.write_lock():
            return verify_project(project)

    def running(self) -> list[str]:
        """The names of the runs and steps with MLflow's status RUNNING."""
        client = MlflowClient(tracking_uri=self.project.workspace.tracking_uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return [run.info.run_name for run in client.search_runs(experiments, "attributes.status = 'RUNNING'")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> ProductProject:
    """A project with a live release."""
    house = ProductProject(write_project(tmp_path_factory.mktemp("house") / "project", policy={"points_per_hour": 0.0}))
    house.advance_year()
    house.run_cycle()
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
    ids=lambda value: str(value) if isinstance(value, Point) else "",
)
def test_a_killed_run_leaves_a_complete_release_live_and_the_next_run_repairs_the_project(
    point: Point, left: list[str], is_live: bool, house: ProductProject
) -> None:
    before = house.year
    house.advance_year()
    die("loop", house.root, point, PREFECT_API_URL=str(get_client(sync_client=True).api_url))
    assert house.check_servable(house.year if is_live else before)

    mismatches = house.verify()
    for text in ("is recorded as running", *left):
        assert [mismatch for mismatch in mismatches if text in mismatch.what]
    with house.project.workspace.write_lock():
        repaired, unrepaired = repair_mismatches(mismatches)
    assert (repaired, unrepaired) == (mismatches, [])
    assert not house.verify()

    cycle, project = house.run_cycle(), house.project
    assert cycle.decision == ("NOTHING" if is_live else "REFRESH")
    assert house.check_servable(house.year)
    rows = rows_of(project.workspace, house.live.index_tag)
    assert_same(rows, clean_rows(project.workspace, fakes.CountingEmbedder()))
    assert not house.verify()


def test_a_repair_closes_the_steps_of_a_killed_run(tmp_path: Path) -> None:
    house = ProductProject(write_project(tmp_path / "project"))
    registry = house.project.registry
    # Begun and not closed, as a run that is killed during a step leaves them.
    with registry.cycle() as log, registry.step("publish", log):
        assert len(house.running()) == 2
        repair_mismatches(verify_project(house.project))
        assert not house.running()
