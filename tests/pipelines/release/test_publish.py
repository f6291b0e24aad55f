"""Tests of publication and rollback on a real MLflow database, with faults at every step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb
import pytest
from mlflow.tracking import MlflowClient

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.fingerprint import TABLE
from ragtide.pipelines.index.source import InMemorySource
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
    "record_release": (Registry, "record_release"),
    "version tags": (Registry, "tag_release"),
    "point": (Registry, "set_live"),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database with its tables: creating one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@dataclass(frozen=True)
class Shop:
    """A project without flows and models: its index, its registry, and candidates to publish."""

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


def unavailable(*_: object, **__: object) -> None:
    raise ConnectionError("the store does not answer")


# --- going live ----------------------------------------------------------------------------------------------------


def test_the_published_candidate_is_live(shop: Shop) -> None:
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
    # A retry continues with a completely recorded release; an incomplete one is left under its own number.
    [("record", True, "3"), ("record_release", True, "2"), ("point", False, "2"), ("point", True, "2")],
)
def test_a_retry_in_the_same_cycle_makes_one_release_live(
    step: str, took_effect: bool, number: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.released("one", "first")
    candidate = shop.candidate("two", "second")
    with shop.registry.cycle() as log:
        with monkeypatch.context() as fault:
            fault.setattr(*STEPS[step], timing_out(*STEPS[step]) if took_effect else unavailable)
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
    """The step takes effect, but its response is lost."""
    original = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        original(*arguments, **options)
        unavailable()

    return call


def test_a_rejected_candidate_gets_no_release_number(shop: Shop) -> None:
    with pytest.raises(UserError, match="gate rejected"):
        shop.publish(shop.candidate("worse"), judged(accepted=False))
    assert shop.registry.champion() is None
    assert shop.released("better").id == "1"


def test_a_missing_adapter_raises_and_the_live_release_stays(shop: Shop) -> None:
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
        fault.setattr(*STEPS[step], unavailable)
        with pytest.raises(ConnectionError):
            shop.publish(candidate)
    assert shop.live == live
    assert shop.read(shop.live) == ("one", "first")
    # The next candidate has a later index version than the failed one.
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
        fault.setattr(*STEPS[step], unavailable)
        with pytest.raises(ConnectionError):
            shop.released("one", "first")
    assert shop.registry.champion() is None
    assert shop.read(shop.released("two", "second")) == ("two", "second")


def test_a_reader_between_two_steps_sees_one_complete_release(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- concurrent changes --------------------------------------------------------------------------------------------


def test_a_candidate_compared_with_another_release_is_not_published(shop: Shop) -> None:
    first, second = shop.released("one"), shop.released("two")
    candidate = shop.candidate("three")
    roll_back(shop.registry, None, "wrong answers")
    with pytest.raises(UserError, match=r"release 1 .* release 2"):
        shop.publish(candidate)
    assert shop.live == first
    assert shop.registry.releases() == [first, second]


def test_a_rollback_between_a_releases_record_and_the_pointer_is_not_undone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = shop.released("one"), shop.released("two")
    candidate = shop.candidate("three")
    original = Registry.record_release

    def late(*arguments: Any) -> None:
        original(*arguments)
        roll_back(shop.registry, None, "wrong answers")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "record_release", late)
        with pytest.raises(UserError, match="release 1 is live now"):
            shop.publish(candidate)
    assert shop.live == first
    assert shop.released("four").previous == first.id


def test_a_first_candidate_is_not_published_over_a_first_release(shop: Shop) -> None:
    late = shop.candidate("late")
    first = shop.released("first")
    with pytest.raises(UserError, match="no release"):
        shop.publish(late)
    assert shop.live == first


@pytest.mark.parametrize("calls_before", [0, 1], ids=["at the start", "before the pointer"])
def test_a_cycle_that_lost_the_lease_does_not_move_the_pointer(calls_before: int, shop: Shop) -> None:
    live, candidate = shop.released("one"), shop.candidate("two")
    held = iter(range(calls_before))

    def check_lease() -> None:
        if next(held, None) is None:
            raise UserError("another process has the lease")

    with shop.registry.cycle() as log, pytest.raises(UserError, match="another process has the lease"):
        publish_candidate(shop.project, log, candidate, judged(), check_lease)
    assert shop.live == live


def test_a_rollback_waits_for_the_pointer_lock_and_then_raises(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.released("one")
    second = shop.released("two")
    monkeypatch.setattr("ragtide.pipelines.workspace.POINTER_SECONDS", 0.1)
    with shop.registry.pointer_lock():
        assert "lock on the live release" in failed_rollback(shop, None)
    assert shop.live == second


# --- rollback ------------------------------------------------------------------------------------------------------


def test_rollback_moves_index_and_adapter_together_by_one_alias(shop: Shop) -> None:
    first, second = shop.released("one", "first"), shop.released("two", "second")
    assert shop.aliases() == {CHAMPION: int(second.id)}
    assert roll_back(shop.registry, None, "wrong answers") == first
    assert shop.aliases() == {CHAMPION: int(first.id)}
    assert shop.live == first
    assert shop.read(shop.live) == ("one", "first")


def test_rollback_embeds_nothing_and_writes_no_index_version(shop: Shop) -> None:
    shop.released("one", "first")
    shop.released("two", "second")
    before = (len(shop.embedder.embedded), shop.versions(), sorted(shop.space.adapters.iterdir()))
    roll_back(shop.registry, None, "wrong answers")
    assert (len(shop.embedder.embedded), shop.versions(), sorted(shop.space.adapters.iterdir())) == before


def test_rollback_can_skip_releases_and_go_forward_again(shop: Shop) -> None:
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


def test_a_rollback_is_in_the_history_with_its_reason(shop: Shop) -> None:
    shop.released("one")
    shop.released("two")
    roll_back(shop.registry, None, "wrong answers")
    cycle = shop.registry.history()[-1]
    assert (cycle.decision, cycle.reason, cycle.release, cycle.undone) == ("ROLLBACK", "wrong answers", "1", "2")


def test_only_the_release_that_was_left_is_tagged_with_the_reason(shop: Shop) -> None:
    first, second = shop.released("one"), shop.released("two")
    roll_back(shop.registry, None, "wrong answers")
    assert shop.tags(second)["rolled_back"] == "wrong answers"
    assert "rolled_back" not in shop.tags(first)


@pytest.mark.parametrize("step", ["tag_release", "set_live"])
def test_an_interrupted_rollback_is_in_the_history(step: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = shop.released("one"), shop.released("two")
    with monkeypatch.context() as fault:
        fault.setattr(Registry, step, unavailable)
        with pytest.raises(ConnectionError):
            roll_back(shop.registry, None, "wrong answers")
    cycle = shop.registry.history()[-1]
    assert (cycle.decision, cycle.undone, cycle.outcome) == ("ROLLBACK", second.id, "failed")
    assert shop.live == (second if step == "set_live" else first)


def test_a_release_that_cannot_be_served_is_no_target(shop: Shop) -> None:
    def not_servable(release: Release) -> None:
        raise UserError(f"release {release.id} cannot be served")

    shop.released("one")
    second = shop.released("two")
    before = state(shop)
    with pytest.raises(UserError, match="release 1 cannot be served"):
        roll_back(shop.registry, None, "a test", not_servable)
    assert (state(shop), shop.live) == (before, second)


def failed_rollback(shop: Shop, to: str | None) -> str:
    """The message of a rollback that raises; pointer, tags and history must stay as they were."""
    before = state(shop)
    with pytest.raises(UserError) as failure:
        roll_back(shop.registry, to, "a test")
    assert state(shop) == before
    return str(failure.value)


def state(shop: Shop) -> tuple[object, ...]:
    """The live release, its tags, and the history."""
    live = shop.registry.champion()
    return live, shop.tags(live) if live else None, shop.registry.history()


@pytest.mark.parametrize(
    ("to", "fragment"),
    [
        (None, "release 1 is the first"),
        ("1", "release 1 is already live"),
        ("7", "no release 7"),
        ("first", "no release first"),
    ],
)
def test_rollback_needs_another_complete_release(to: str | None, fragment: str, shop: Shop) -> None:
    shop.released("one")
    assert fragment in failed_rollback(shop, to)


@pytest.mark.parametrize("to", [None, "1"])
def test_before_the_first_release_rollback_raises(to: str | None, shop: Shop) -> None:
    assert failed_rollback(shop, to).startswith("nothing is live yet")


@pytest.mark.parametrize("step", ["tag", "record"])
def test_an_incomplete_release_is_no_target(step: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.released("one", "first")
    with monkeypatch.context() as fault:
        fault.setattr(*STEPS[step], unavailable)
        with pytest.raises(ConnectionError):
            shop.released("two", "second")
    shop.released("three", "third")
    message = failed_rollback(shop, "2")
    assert "no release 2" in message
    assert "\n" not in message
