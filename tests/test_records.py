"""Tests of the records: frozen, versioned, written atomically, and identified by their content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.action import ACTIONS, Action, Component
from ragtide.pipelines.records.base import PARTIAL_PREFIX, RECORD_VERSION, atomic_directory, json_digest
from ragtide.pipelines.records.data import ChangeSet, Quarantine, QuarantinedDocument, Rename
from ragtide.pipelines.records.decision import Approval
from ragtide.pipelines.records.evidence import Costs, Measure
from tests.factories import delta, evidence, measure, past, release, write

REFRESH_AND_TUNE = Action.REFRESH | Action.TUNE_EMBEDDER
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner, max_size=3)
)
COSTS = Costs(refresh_seconds=1, retrain_seconds=2, prove_seconds=3, source="prior")


APPROVAL = Approval(plan="0123456789ab", removals={"a.md": "0" * 32}, why="by hand", at="2030-01-01T00:00:00+00:00")
QUARANTINED = QuarantinedDocument(
    document="b.pdf", digest=None, reason="a loop", attempts=2, since="2030-01-01T00:00:00+00:00"
)


@pytest.mark.parametrize(
    "record",
    [
        COSTS,
        measure(0.5),
        evidence(pending_deletions={"a.md": "0" * 32}, quarantined={QUARANTINED.document: QUARANTINED.reason}),
        release(2),
        Quarantine(converter="convert-1", documents=(QUARANTINED,)),
        APPROVAL,
        APPROVAL.model_copy(update={"removals": {}, "action": Action.RETRAIN, "snapshot": "s1"}),
        evidence(
            past=(past(), past("HOLD", accepted=False)), approved_actions=("RETRAIN",), signal_seconds={"novelty": 0.25}
        ),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_is_read_as_it_was_written(record: Costs, tmp_path: Path) -> None:
    record.write(tmp_path / "deep" / "record.json")
    assert type(record).read(tmp_path / "deep" / "record.json") == record
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["record.json"]


def test_a_record_contains_its_version(tmp_path: Path) -> None:
    COSTS.write(tmp_path / "costs.json")
    assert json.loads((tmp_path / "costs.json").read_text(encoding="utf-8"))["record_version"] == RECORD_VERSION


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        COSTS.source = "another"  # type: ignore[misc]


def other_version() -> bytes:
    return COSTS.model_copy(update={"record_version": RECORD_VERSION + 1}).model_dump_json().encode()


@pytest.mark.parametrize(
    "content",
    [b"", b"not JSON", b'{"refresh_seconds": 1}', b"\xff\xfe\x00", other_version()],
    ids=["empty", "not JSON", "keys missing", "not UTF-8", "other version"],
)
def test_a_malformed_file_or_one_of_another_version_raises_with_its_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_bytes(content)
    with pytest.raises(UserError, match=r"costs\.json") as error:
        Costs.read(tmp_path / "costs.json")
    assert "\n" not in str(error.value)


def test_a_missing_file_raises_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.json"):
        Costs.read(tmp_path / "nothing.json")


def test_an_unknown_field_raises() -> None:
    with pytest.raises(ValidationError, match="euros"):
        Costs.model_validate(COSTS.model_dump() | {"euros": 3})


@settings(derandomize=True, deadline=None)
@given(st.dictionaries(st.text(), JSON, min_size=1), st.data())
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object], data: st.DataObject) -> None:
    keys = data.draw(st.permutations(list(value)))
    assert json_digest({key: value[key] for key in keys}) == json_digest(value)
    assert len(json_digest(value)) == 12


def test_other_content_has_another_digest() -> None:
    digests = {COSTS.model_copy(update={"source": source}).content_digest() for source in ("a", "b", "ä", "")}
    assert len(digests) == 4


def test_actions_know_which_components_they_change() -> None:
    index = [Action.REFRESH, Action.REBUILD, Action.TUNE_EMBEDDER, REFRESH_AND_TUNE]
    trained = [action.with_retrain() for action in index]
    tunes = [Action.TUNE_EMBEDDER, REFRESH_AND_TUNE, *trained[2:]]
    assert [action for action in ACTIONS.values() if action.refreshes] == [Action.REMOVE, *index, *trained]
    assert [action for action in ACTIONS.values() if action.retrains] == [Action.RETRAIN, *trained]
    assert [action for action in ACTIONS.values() if action.is_joint] == [REFRESH_AND_TUNE, *trained]
    assert [action for action in ACTIONS.values() if action.tunes] == tunes
    rebuilds = {Action.REBUILD, Action.REBUILD.with_retrain(), *tunes}
    assert {action for action in ACTIONS.values() if action.rebuilds} == rebuilds


def test_an_action_touches_the_components_that_it_is_taken_for() -> None:
    by_component = {
        component: [action for action in ACTIONS.values() if action.touches(component)] for component in Component
    }
    assert by_component == {
        Component.INDEX: [
            Action.REMOVE,
            Action.REFRESH,
            Action.REBUILD,
            REFRESH_AND_TUNE,
            Action.REFRESH.with_retrain(),
            Action.REBUILD.with_retrain(),
            REFRESH_AND_TUNE.with_retrain(),
        ],
        Component.EMBEDDER: [
            Action.TUNE_EMBEDDER,
            REFRESH_AND_TUNE,
            Action.TUNE_EMBEDDER.with_retrain(),
            REFRESH_AND_TUNE.with_retrain(),
        ],
        Component.MODEL: [
            Action.DROP_ADAPTER,
            Action.RETRAIN,
            Action.REFRESH.with_retrain(),
            Action.REBUILD.with_retrain(),
            Action.TUNE_EMBEDDER.with_retrain(),
            REFRESH_AND_TUNE.with_retrain(),
        ],
    }


def test_a_joint_action_is_written_as_its_parts() -> None:
    assert str(Action.REFRESH | Action.RETRAIN) == "REFRESH+RETRAIN"
    assert str(Action.TUNE_EMBEDDER | Action.REFRESH) == "REFRESH+TUNE_EMBEDDER"
    assert all(Action.named(str(action)) == action for action in ACTIONS.values())
    assert all(str(action) == "+".join(map(str, action.parts)) for action in ACTIONS.values() if action.builds)
    with pytest.raises(ValueError, match="RETRAIN\\+REFRESH"):
        Action.named("RETRAIN+REFRESH")
    trained = [action for action in ACTIONS.values() if action.retrains]
    assert [action.with_retrain() for action in trained] == trained


def test_the_stages_of_an_action_leave_out_its_last_parts() -> None:
    everything = REFRESH_AND_TUNE.with_retrain()
    assert everything.parts == (Action.REFRESH, Action.TUNE_EMBEDDER, Action.RETRAIN)
    assert everything.stages == (everything, REFRESH_AND_TUNE, Action.REFRESH)
    assert Action.REBUILD.with_retrain().stages == (Action.REBUILD.with_retrain(), Action.REBUILD)
    assert (Action.REMOVE.stages, Action.NOTHING.stages) == ((Action.REMOVE,), ())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("first_stays", [True, False])
def test_a_folder_gets_its_name_only_once_it_is_complete(tmp_path: Path, first_stays: bool) -> None:
    target = tmp_path / "deep" / "model"
    with atomic_directory(target, first_stays) as folder:
        assert folder.is_dir()
        (folder / "file").write_text("1", encoding="utf-8")
        assert not target.exists()
        # A process killed here leaves only the partial folder behind.
        assert all(name.startswith(PARTIAL_PREFIX) for name in names(target.parent))
    assert names(target.parent) == ["model"]
    assert names(target) == ["file"]


def test_an_older_folder_stays_until_the_new_one_is_complete_and_is_replaced_entirely(tmp_path: Path) -> None:
    target = tmp_path / "model"
    write(target / "old", "old")
    with atomic_directory(target) as folder:
        (folder / "new").write_text("new", encoding="utf-8")
        assert names(target) == ["old"]
    assert names(target) == ["new"]
    assert names(tmp_path) == ["model"]


def test_with_first_stays_the_first_completed_folder_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_directory(target, first_stays=True) as folder:
        write(folder / "late", "late")
        write(target / "early", "early")
    assert names(target) == ["early"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [(), ("old",)])
def test_an_error_leaves_the_folder_as_it_was(tmp_path: Path, error: BaseException, existing: tuple[str, ...]) -> None:
    for name in existing:
        write(tmp_path / "model" / name, name)

    def fill() -> None:
        with atomic_directory(tmp_path / "model") as folder:
            write(folder / "partial", "partial")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        f"model/{name}" for name in existing
    ]
    assert names(tmp_path) == (["model"] if existing else [])


def test_a_new_folder_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with atomic_directory(tmp_path / "model"):
        pass
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_actions_are_ordered_by_cost_with_hold_last() -> None:
    single = ["NOTHING", "REMOVE", "DROP_ADAPTER", "REFRESH", "REBUILD", "TUNE_EMBEDDER", "RETRAIN"]
    trained = ["REFRESH+RETRAIN", "REBUILD+RETRAIN", "TUNE_EMBEDDER+RETRAIN", "REFRESH+TUNE_EMBEDDER+RETRAIN"]
    assert list(ACTIONS) == [*single, "REFRESH+TUNE_EMBEDDER", *trained, "HOLD"]
    assert sorted(ACTIONS.values(), reverse=True) == list(ACTIONS.values())[::-1]


def test_every_action_on_a_component_builds_a_candidate() -> None:
    assert [action for action in ACTIONS.values() if not action.builds] == [Action.NOTHING, Action.HOLD]
    built = [action.refreshes or action.retrains or action == Action.DROP_ADAPTER for action in ACTIONS.values()]
    assert [action.builds for action in ACTIONS.values()] == built


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        (measure(0.5, 0.4, 0.6, n=7), "0.50 [0.40, 0.60] (n=7)"),
        (Measure(value=0.5, n=7), "0.50 (n=7)"),
        (Measure.unmeasured("no questions"), "not measured (no questions)"),
    ],
)
def test_a_measure_is_shown_with_its_sample_size_and_interval(measured: Measure, text: str) -> None:
    assert str(measured) == text


def test_an_unmeasured_value_is_none() -> None:
    unmeasured = Measure.unmeasured("why")
    assert (unmeasured.value, unmeasured.low, unmeasured.high, unmeasured.n) == (None, None, None, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"added": ("a",)},
        {"edited": ("a",)},
        {"removed": ("a",)},
        {"renamed": (Rename(before="a", after="b"),)},
        {"examples_changed": True},
        {"questions_changed": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_kind_of_change_makes_a_change_set_that_is_not_empty(change: dict[str, object]) -> None:
    changes = ChangeSet.model_validate({"before": "x", "after": "y", **change})
    assert not changes.is_empty
    assert changes.touches_documents is not (changes.examples_changed or changes.questions_changed)
    assert ChangeSet(before="x", after="y").is_empty


@pytest.mark.parametrize(
    ("numbers", "share"),
    [
        ({"new": 3, "removed": 1}, 0.3),
        ({"new": 1, "removed": 4}, 0.4),
        ({"new": 0, "removed": 30}, 1.0),
        ({"new": 0, "removed": 0}, 0.0),
        ({"chunks_after": 0, "new": 0, "removed": 5}, 1.0),
    ],
)
def test_the_changed_share_lies_between_0_and_1(numbers: dict[str, int], share: float) -> None:
    assert delta(**numbers).changed_share == pytest.approx(share)


def test_a_delta_is_empty_when_no_row_changes_and_no_rebuild_is_needed() -> None:
    unchanged = delta(upserted=0, deleted=0)
    assert unchanged.is_empty
    assert not unchanged.model_copy(update={"rebuild": "another embedder"}).is_empty
    assert not delta(upserted=1, deleted=0).is_empty
    assert not delta(upserted=0, deleted=1).is_empty
