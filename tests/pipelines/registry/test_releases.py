"""Tests of the release registry on a real MLflow database: drafts, records, the live pointer and adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.history import (
    live_since,
)
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel, Release
from ragtide.pipelines.registry.releases import CHAMPION, Registry
from ragtide.pipelines.workspace import Workspace
from tests.factories import release, write
from tests.projects import mlflow_client, recorded_release

ADAPTER = "0123456789ab"


def drafted(registry: Registry) -> str:
    """The number of a draft that was never completed."""
    with registry.cycle() as log:
        return registry.draft(log).id


def recorded_with_adapter(registry: Registry, folder: Path) -> Release:
    """A complete release whose adapter, the content of `folder`, is in the artifact store."""
    with registry.cycle() as log:
        model = BuiltModel(base="base", adapter=ADAPTER, examples="x", settings="s")
        draft = registry.draft(log)
        made = release(int(draft.id), model=model)
        log.folder(f"{draft.folder}/adapter", folder)
        registry.record_release(made, draft, log)
    return made


@pytest.mark.parametrize("prepare", [lambda registry: None, drafted, recorded_release])
def test_no_release_is_live_before_the_pointer_first_moves(
    prepare: Callable[[Registry], object], registry: Registry
) -> None:
    prepare(registry)
    assert registry.exists
    assert registry.champion() is None


def test_a_release_is_read_back_as_it_was_recorded(registry: Registry) -> None:
    made = recorded_release(registry)
    assert registry.release(made.id) == made
    registry.set_live(made)
    assert registry.champion() == made


def test_each_release_number_is_given_once(registry: Registry) -> None:
    assert [drafted(registry) for _ in range(3)] == ["1", "2", "3"]


def test_the_tags_name_data_index_and_adapter(registry: Registry, space: Workspace) -> None:
    index = BuiltIndex(uri="lance", version=17, fingerprint="f", documents="s1", rows=1, embedded=1, seconds=0.1)
    made = recorded_release(registry, index=index)
    tags = mlflow_client(space).get_model_version("ragtide", made.id).tags
    assert (tags["data_rev"], tags["index_version"], tags["index_tag"]) == (made.snapshot.id, "17", "release-1")
    assert (tags["adapter"], tags["previous"]) == ("none", "none")
    assert (tags["decision"], tags["answer_score"]) == ("REFRESH", "1.0")


def test_one_alias_marks_the_live_release(registry: Registry, space: Workspace) -> None:
    first, second = recorded_release(registry), recorded_release(registry)
    for live in (first, second, first):
        registry.set_live(live)
        assert mlflow_client(space).get_registered_model("ragtide").aliases == {CHAMPION: int(live.id)}
        assert registry.champion() == live


def test_a_release_is_live_since_its_creation_or_the_last_rollback_to_it(registry: Registry) -> None:
    first, second = (recorded_release(registry, created=f"20{year}-01-01T00:00:00+00:00") for year in (20, 21))
    registry.set_live(second)
    assert live_since(second, registry.history()) == second.created
    with registry.manual_cycle("rollback", {"decision": "ROLLBACK", "release": first.id, "undone_release": second.id}):
        pass
    assert live_since(first, registry.history()) == registry.history()[-1].at > second.created
    assert live_since(second, registry.history()) == second.created


def test_complete_releases_are_listed_oldest_first(registry: Registry) -> None:
    made = [recorded_release(registry) for _ in range(9)]
    drafted(registry)
    made += [recorded_release(registry) for _ in range(2)]
    assert [complete.id for complete in made][-3:] == ["9", "11", "12"]
    assert registry.releases() == made


def test_a_model_name_may_contain_a_quotation_mark(space: Workspace) -> None:
    params = space.params.registry.model_copy(update={"model": "it's ours"})
    named = Registry(replace(space, params=space.params.model_copy(update={"registry": params})))
    made = recorded_release(named)
    assert named.release(made.id) == made
    assert named.releases() == [made]


def test_the_live_release_id_is_that_of_the_pointer_even_for_a_draft(registry: Registry, space: Workspace) -> None:
    assert registry.live_release_id() is None
    made = recorded_release(registry)
    registry.set_live(made)
    assert registry.live_release_id() == made.id
    draft = drafted(registry)
    mlflow_client(space).set_registered_model_alias("ragtide", CHAMPION, draft)
    assert registry.live_release_id() == draft


def test_a_pointer_at_a_draft_raises_with_the_remedy(registry: Registry, space: Workspace) -> None:
    recorded_release(registry)
    mlflow_client(space).set_registered_model_alias("ragtide", CHAMPION, drafted(registry))
    with pytest.raises(UserError, match="ragtide verify") as failure:
        registry.champion()
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("number", ["2", "0", "-1", "first"])
def test_an_unknown_release_raises(number: str, registry: Registry) -> None:
    recorded_release(registry)
    with pytest.raises(UserError, match=f"no release {number}"):
        registry.release(number)


def test_a_draft_is_not_a_release(registry: Registry) -> None:
    number = drafted(registry)
    with pytest.raises(UserError, match=f"no release {number}") as failure:
        registry.release(number)
    assert "\n" not in str(failure.value)


def test_a_missing_adapter_is_downloaded(registry: Registry, space: Workspace, tmp_path: Path) -> None:
    stored = write(tmp_path / "elsewhere" / "weights.bin", b"\x00weights\xff").parent
    write(stored / "deep" / "config.json", "{}")
    made = recorded_with_adapter(registry, stored)
    target = space.adapters / ADAPTER
    registry.fetch_adapter(made, target)
    assert (target / "weights.bin").read_bytes() == b"\x00weights\xff"
    assert (target / "deep" / "config.json").read_text() == "{}"
    assert [path.name for path in space.adapters.iterdir()] == [ADAPTER]


def test_an_existing_adapter_is_not_downloaded(registry: Registry, space: Workspace, tmp_path: Path) -> None:
    made = recorded_with_adapter(registry, write(tmp_path / "elsewhere" / "weights.bin", "stored").parent)
    write(space.adapters / ADAPTER / "weights.bin", "here")
    registry.fetch_adapter(made, space.adapters / ADAPTER)
    assert (space.adapters / ADAPTER / "weights.bin").read_text() == "here"


def test_a_release_without_an_adapter_downloads_nothing(registry: Registry, space: Workspace) -> None:
    registry.fetch_adapter(recorded_release(registry), space.adapters / "none")
    assert not space.adapters.exists()


def test_the_description_of_a_release_links_to_its_run(registry: Registry, space: Workspace) -> None:
    with registry.cycle() as log:
        draft = registry.draft(log)
        registry.record_release(release(int(draft.id)), draft, log)
    version = mlflow_client(space).get_model_version("ragtide", draft.id)
    assert f"/runs/{log.id}/artifacts/decision.html" in version.description
