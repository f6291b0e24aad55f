"""Is a release one thing, whole, that goes live last and can be taken back? Faults at every step; the real MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb
import pytest
from mlflow.tracking import MlflowClient

from ragtide.pipelines.corpus import InMemorySource
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.fingerprint import TABLE
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.load import Models
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import Verdict
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel, Candidate, Release
from ragtide.pipelines.registry.releases import CHAMPION, Registry
from ragtide.pipelines.registry.runs import RunLog
from ragtide.pipelines.release.publish import publish_candidate
from ragtide.pipelines.release.rollback import roll_back
from ragtide.pipelines.workspace import Workspace
from tests.factories import HashEmbedder, chunk, measure, scorecard, snapshot, workspace, write
from tests.fakes import CountingReader, CountingTrainer

STEPS = {
    "draft": (Registry, "draft"),
    "tag": (Index, "tag"),
    "adapter": (RunLog, "folder"),
    "model": (RunLog, "model"),
    "record": (RunLog, "record"),
    "describe": (Registry, "describe"),
    "version tags": (Registry, "mark"),
    "point": (Registry, "point"),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in it: making one takes seconds, a copy none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@dataclass(frozen=True)
class Shop:
    """A project without a flow or models: its index, its registry, and candidates to publish."""

    project: Project
    embedder: HashEmbedder

    @property
    def space(self) -> Workspace:
        return self.project.workspace

    @property
    def registry(self) -> Registry:
        return self.project.registry

    @property
    def index(self) -> Index:
        return self.project.index

    @property
    def live(self) -> Release:
        live = self.registry.champion()
        assert live is not None
        return live

    def build(self, text: str) -> BuiltIndex:
        return self.index.refresh(InMemorySource.of([chunk("a.md", text)]), text, no_progress)

    def candidate(self, text: str, adapter: str | None = None) -> Candidate:
        """An index that holds `text`, and the adapter of that name."""
        if adapter:
            write(self.space.adapters / adapter / "weights.bin", f"weights of {adapter}")
        model = BuiltModel(base="base", adapter=adapter, examples="x" if adapter else None, settings=None)
        built, live = self.build(text), self.registry.live_release_id()
        return Candidate(snapshot=snapshot(), index=built, model=model, decision=Action.REFRESH, previous=live)

    def publish(self, candidate: Candidate, verdict: Verdict | None = None) -> Release:
        with self.registry.cycle() as log:
            return publish_candidate(self.project, log, candidate, verdict or judged())

    def released(self, text: str, adapter: str | None = None) -> Release:
        return self.publish(self.candidate(text, adapter))

    def read(self, release: Release) -> tuple[str, str | None]:
        """What readers of a release get: the text by its index tag, and its adapter."""
        [[passage]] = self.index.retriever(release.index_tag).search(["anything?"], 1)
        return passage.text, release.model.adapter

    def versions(self) -> int:
        return len(lancedb.connect(self.space.index_uri).open_table(TABLE).list_versions())

    def aliases(self) -> dict[str, int]:
        return dict(self._client.get_registered_model("ragtide").aliases)

    def tags(self, release: Release) -> dict[str, str]:
        return dict(self._client.get_model_version("ragtide", release.id).tags)

    @property
    def _client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.space.tracking_uri, registry_uri=self.space.tracking_uri)


@pytest.fixture
def shop(tables: Path, tmp_path: Path) -> Shop:
    space = workspace(tmp_path)
    space.state.mkdir()
    shutil.copy(tables, space.state / "mlflow.db")
    embedder = HashEmbedder()
    models = Models(embedder, generator=CountingReader(), trainer=CountingTrainer())
    return Shop(Project(space, models, Registry(space), no_progress), embedder)


def judged(accepted: bool = True) -> Verdict:
    return Verdict(
        accepted=accepted,
        checks=(),
        before=scorecard(),
        after=scorecard(answer_score=measure(0.75)),
        difference=measure(0.0),
    )


def away(*_: object, **__: object) -> None:
    raise ConnectionError("the store went away")


# --- going live ----------------------------------------------------------------------------------------------------


def test_what_was_published_is_what_is_live(shop: Shop) -> None:
    candidate = shop.candidate("the first text", "first")
    release = shop.publish(candidate)
    assert shop.live == release
    assert dict(candidate).items() <= dict(release).items()
    assert (release.id, release.index_tag, release.previous) == ("1", "release-1", None)
    assert release.scorecard == judged().after
    assert shop.read(release) == ("the first text", "first")


def test_a_release_names_the_one_before_it(shop: Shop) -> None:
    releases = [shop.released(text) for text in ("one", "two", "three")]
    assert [release.previous for release in releases] == [None, "1", "2"]
    assert [shop.read(release)[0] for release in releases] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("step", "took_effect", "number"),
    # What was written down to its end is gone on with; anything less stays as it is, under its own number.
    [("record", True, "3"), ("describe", True, "2"), ("point", False, "2"), ("point", True, "2")],
)
def test_a_publish_that_is_tried_again_in_one_turn_makes_one_release_live(
    step: str, took_effect: bool, number: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.released("one", "first")
    candidate = shop.candidate("two", "second")
    with shop.registry.cycle() as log:
        with monkeypatch.context() as fault:
            fault.setattr(*STEPS[step], timing_out(*STEPS[step]) if took_effect else away)
            with pytest.raises(ConnectionError):
                publish_candidate(shop.project, log, candidate, judged())
        release = publish_candidate(shop.project, log, candidate, judged())
        assert publish_candidate(shop.project, log, candidate, judged()) == release
    assert (release.id, release.previous) == (number, before.id)
    assert shop.live == release
    assert shop.read(shop.live) == ("two", "second")
    assert shop.registry.releases() == [before, release]
    assert roll_back(shop.registry, None, "a test") == before


def timing_out(owner: type, name: str) -> Callable[..., Any]:
    """The step does what it does, and its answer is lost."""
    whole = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        whole(*arguments, **options)
        away()

    return call


def test_what_the_gate_refused_gets_not_even_a_number(shop: Shop) -> None:
    with pytest.raises(UserError, match="gate refused"):
        shop.publish(shop.candidate("worse"), judged(accepted=False))
    assert shop.registry.champion() is None
    assert shop.released("better").id == "1"


def test_an_adapter_that_is_nowhere_is_refused_and_what_is_live_stays(shop: Shop) -> None:
    live = shop.released("one", "first")
    candidate = shop.candidate("two", "second")
    shutil.rmtree(shop.space.adapters / "second")
    with pytest.raises(UserError, match="second is missing"):
        shop.publish(candidate)
    assert shop.live == live


@pytest.mark.parametrize("step", STEPS)
def test_a_fault_at_any_step_leaves_the_live_release_and_the_next_publish_succeeds(
    step: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = shop.released("one", "first")
    candidate = shop.candidate("two", "second")
    with monkeypatch.context() as fault:
        fault.setattr(*STEPS[step], away)
        with pytest.raises(ConnectionError):
            shop.publish(candidate)
    assert shop.live == live
    assert shop.read(shop.live) == ("one", "first")
    # By now the index has moved on to another version than the one that failed.
    late = shop.released("three", "third")
    assert shop.live == late
    assert int(late.id) >= 2
    assert late.index.version > candidate.index.version
    assert (shop.read(late), late.previous) == (("three", "third"), live.id)
    assert roll_back(shop.registry, None, "a test") == live


@pytest.mark.parametrize("step", ["draft", "adapter", "point"])
def test_a_fault_in_the_first_publish_leaves_nothing_live(
    step: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as fault:
        fault.setattr(*STEPS[step], away)
        with pytest.raises(ConnectionError):
            shop.released("one", "first")
    assert shop.registry.champion() is None
    assert shop.read(shop.released("two", "second")) == ("two", "second")


def test_whoever_looks_between_two_steps_sees_one_release_whole(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shop.released("one", "first")
    candidate = shop.candidate("two", "second")
    seen: list[tuple[str, tuple[str, str | None]]] = []

    def spied(owner: type, name: str) -> Callable[..., Any]:
        original = getattr(owner, name)

        def spy(*arguments: Any, **options: Any) -> Any:
            seen.append((shop.live.id, shop.read(shop.live)))
            result = original(*arguments, **options)
            seen.append((shop.live.id, shop.read(shop.live)))
            return result

        return spy

    for owner, name in STEPS.values():
        monkeypatch.setattr(owner, name, spied(owner, name))
    after = shop.publish(candidate)
    old, new = (before.id, ("one", "first")), (after.id, ("two", "second"))
    assert len(seen) >= 2 * len(STEPS)
    assert seen == [old] * (len(seen) - 1) + [new]


def test_a_reader_stays_with_its_release_while_the_next_goes_live(shop: Shop) -> None:
    reader = shop.index.retriever(shop.released("one").index_tag)
    shop.released("two")
    [[passage]] = reader.search(["anything?"], 1)
    assert passage.text == "one"


# --- what moved meanwhile ------------------------------------------------------------------------------------------


def test_what_was_held_against_another_release_is_not_published_over_the_live_one(shop: Shop) -> None:
    first, second = shop.released("one"), shop.released("two")
    candidate = shop.candidate("three")
    roll_back(shop.registry, None, "wrong answers")
    with pytest.raises(UserError) as refusal:
        shop.publish(candidate)
    said = "release 1 is live by now, and the candidate was held against release 2"
    assert str(refusal.value) == f"{said}: it is not published over it; the next run looks anew"
    assert shop.live == first
    assert shop.registry.releases() == [first, second]


def test_a_rollback_between_a_releases_record_and_the_pointer_is_not_undone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = shop.released("one"), shop.released("two")
    candidate = shop.candidate("three")
    whole = Registry.describe

    def late(*arguments: Any) -> None:
        whole(*arguments)
        roll_back(shop.registry, None, "wrong answers")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Registry, "describe", late)
        with pytest.raises(UserError, match="release 1 is live by now"):
            shop.publish(candidate)
    assert shop.live == first
    assert shop.released("four").previous == first.id


def test_a_first_candidate_is_not_published_over_a_first_release(shop: Shop) -> None:
    late = shop.candidate("late")
    first = shop.released("first")
    with pytest.raises(UserError, match="the candidate was held against nothing"):
        shop.publish(late)
    assert shop.live == first


@pytest.mark.parametrize("calls_before", [0, 1], ids=["at the start", "before the pointer"])
def test_a_turn_that_lost_the_project_moves_no_pointer(calls_before: int, shop: Shop) -> None:
    live, candidate = shop.released("one"), shop.candidate("two")
    left = iter(range(calls_before))

    def lost() -> None:
        if next(left, None) is None:
            raise UserError("another has taken its place")

    with shop.registry.cycle() as log, pytest.raises(UserError, match="another has taken its place"):
        publish_candidate(shop.project, log, candidate, judged(), lost)
    assert shop.live == live


def test_a_rollback_waits_for_who_moves_the_pointer_and_says_so_where_it_takes_too_long(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.released("one")
    second = shop.released("two")
    monkeypatch.setattr("ragtide.pipelines.workspace.POINTER_SECONDS", 0.1)
    with shop.registry.pointer_lock():
        assert refused_rollback(shop, None).startswith("another process has been moving the pointer")
    assert shop.live == second


# --- going back ----------------------------------------------------------------------------------------------------


def test_going_back_moves_index_and_adapter_together_by_one_alias(shop: Shop) -> None:
    first, second = shop.released("one", "first"), shop.released("two", "second")
    assert shop.aliases() == {CHAMPION: int(second.id)}
    assert roll_back(shop.registry, None, "wrong answers") == first
    assert shop.aliases() == {CHAMPION: int(first.id)}
    assert shop.live == first
    assert shop.read(shop.live) == ("one", "first")


def test_going_back_embeds_nothing_and_writes_no_version_of_the_index(shop: Shop) -> None:
    shop.released("one", "first")
    shop.released("two", "second")
    before = (len(shop.embedder.embedded), shop.versions(), sorted(shop.space.adapters.iterdir()))
    roll_back(shop.registry, None, "wrong answers")
    assert (len(shop.embedder.embedded), shop.versions(), sorted(shop.space.adapters.iterdir())) == before


def test_one_can_go_back_by_more_than_one_and_forward_again(shop: Shop) -> None:
    first, _, third = (shop.released(text) for text in ("one", "two", "three"))
    assert roll_back(shop.registry, first.id, "far back") == shop.live == first
    assert roll_back(shop.registry, third.id, "forward") == shop.live == third


def test_the_release_after_a_rollback_follows_the_one_that_is_live(shop: Shop) -> None:
    first, second = shop.released("one"), shop.released("two")
    roll_back(shop.registry, None, "wrong answers")
    third = shop.released("three")
    assert (third.id, third.previous) == ("3", first.id)
    assert roll_back(shop.registry, None, "again") == first
    assert shop.read(second)[0] == "two"


def test_going_back_is_told_in_the_history_with_its_reason(shop: Shop) -> None:
    shop.released("one")
    shop.released("two")
    roll_back(shop.registry, None, "wrong answers")
    turn = shop.registry.history()[-1]
    assert (turn.decision, turn.reason, turn.release, turn.undone) == ("ROLLBACK", "wrong answers", "1", "2")


def test_the_release_that_was_left_is_marked_with_the_reason_and_no_other(shop: Shop) -> None:
    first, second = shop.released("one"), shop.released("two")
    roll_back(shop.registry, None, "wrong answers")
    assert shop.tags(second)["rolled_back"] == "wrong answers"
    assert "rolled_back" not in shop.tags(first)


@pytest.mark.parametrize("step", ["mark", "point"])
def test_a_rollback_that_dies_half_way_is_in_the_history_as_undoing_the_release(
    step: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shop.released("one"), shop.released("two")
    with monkeypatch.context() as fault:
        fault.setattr(Registry, step, away)
        with pytest.raises(ConnectionError):
            roll_back(shop.registry, None, "wrong answers")
    turn = shop.registry.history()[-1]
    assert (turn.decision, turn.undone, turn.outcome) == ("ROLLBACK", second.id, "failed")
    assert shop.live == (second if step == "point" else first)


def test_a_release_that_could_not_be_served_is_not_gone_back_to(shop: Shop) -> None:
    def lost(release: Release) -> None:
        raise UserError(f"release {release.id} is not whole")

    shop.released("one")
    second = shop.released("two")
    before = told(shop)
    with pytest.raises(UserError, match="release 1 is not whole"):
        roll_back(shop.registry, None, "a test", lost)
    assert (told(shop), shop.live) == (before, second)


def refused_rollback(shop: Shop, to: str | None) -> str:
    """What a rollback that is refused says; it must leave pointer, marks and history as they were."""
    before = told(shop)
    with pytest.raises(UserError) as refusal:
        roll_back(shop.registry, to, "a test")
    assert told(shop) == before
    return str(refusal.value)


def told(shop: Shop) -> tuple[object, ...]:
    """All that the registry tells about what is live and how it came to be so."""
    live = shop.registry.champion()
    return live, shop.tags(live) if live else None, shop.registry.history()


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (None, "release 1 is the first: there is none before it"),
        ("1", "release 1 is live already"),
        ("7", "there is no release 7: `ragtide history` lists them"),
        ("first", "there is no release first: `ragtide history` lists them"),
    ],
)
def test_there_must_be_something_to_go_back_to(to: str | None, said: str, shop: Shop) -> None:
    shop.released("one")
    assert refused_rollback(shop, to) == said


@pytest.mark.parametrize("to", [None, "1"])
def test_before_the_first_release_there_is_nothing_to_go_back_to(to: str | None, shop: Shop) -> None:
    assert refused_rollback(shop, to).startswith("nothing is live yet")


@pytest.mark.parametrize("step", ["tag", "record"])
def test_a_release_that_was_never_finished_cannot_be_gone_back_to(
    step: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.released("one", "first")
    with monkeypatch.context() as fault:
        fault.setattr(*STEPS[step], away)
        with pytest.raises(ConnectionError):
            shop.released("two", "second")
    shop.released("three", "third")
    said = refused_rollback(shop, "2")
    assert said.startswith("there is no release 2: ")
    assert "\n" not in said
