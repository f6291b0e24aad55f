"""Tests of the difference between snapshots: before + changes = after, and no path is counted twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.diff import diff_snapshots
from ragtide.pipelines.data.snapshot import compose_snapshot
from ragtide.pipelines.records.data import ChangeSet, Rename, Snapshot

# Few paths and fewer contents, so that renames, twins and swaps are common.
FILES = st.dictionaries(st.sampled_from(["a.md", "b.md", "c/a.md", "d.md", "e.md"]), st.sampled_from("xyz"))
LINES = st.dictionaries(st.sampled_from(["one.jsonl", "two.jsonl"]), st.sampled_from("xy"))
SNAPSHOTS = st.builds(compose_snapshot, FILES, LINES, LINES)
law = settings(derandomize=True, deadline=None)


def kb(**files: str) -> Snapshot:
    """A snapshot whose documents are `files`, named without their ending."""
    return compose_snapshot({f"{name}.md": digest for name, digest in files.items()}, {}, {})


def applied(before: Snapshot, changes: ChangeSet, after: Snapshot) -> dict[str, str]:
    """The documents of `before` after `changes`; only the content of new and edited ones is looked up."""
    old = before.documents
    left = {*changes.removed, *(rename.before for rename in changes.renamed)}
    kept = {path: digest for path, digest in old.items() if path not in left}
    moved = {rename.after: old[rename.before] for rename in changes.renamed}
    return kept | moved | {path: after.documents[path] for path in (*changes.added, *changes.edited)}


@law
@given(SNAPSHOTS, SNAPSHOTS)
def test_before_plus_changes_equals_after(before: Snapshot, after: Snapshot) -> None:
    changes = diff_snapshots(before, after)
    assert applied(before, changes, after) == after.documents
    assert (changes.before, changes.after) == (before.id, after.id)


@law
@given(SNAPSHOTS, SNAPSHOTS)
def test_a_change_set_is_empty_exactly_when_the_ids_are_equal(before: Snapshot, after: Snapshot) -> None:
    assert diff_snapshots(before, after).is_empty is (before.id == after.id)


@law
@given(SNAPSHOTS)
def test_a_snapshot_does_not_differ_from_itself(same: Snapshot) -> None:
    turned = compose_snapshot(
        *(dict(reversed(files.items())) for files in (same.documents, same.examples, same.questions))
    )
    assert diff_snapshots(same, turned) == ChangeSet(before=same.id, after=same.id)


@law
@given(SNAPSHOTS, SNAPSHOTS)
def test_changes_of_documents_examples_and_questions_are_distinguished(before: Snapshot, after: Snapshot) -> None:
    changes = diff_snapshots(before, after)
    assert changes.touches_documents is (before.kb_id != after.kb_id)
    assert changes.examples_changed is (before.train_id != after.train_id)
    assert changes.questions_changed is (before.golden_id != after.golden_id)


@law
@given(SNAPSHOTS, SNAPSHOTS)
def test_no_path_is_counted_twice(before: Snapshot, after: Snapshot) -> None:
    changes = diff_snapshots(before, after)
    sources, targets = ({getattr(rename, end) for rename in changes.renamed} for end in ("before", "after"))
    named = [*changes.added, *changes.edited, *changes.removed, *sources, *targets]
    assert len(named) == len(set(named))
    assert len(sources) == len(targets) == len(changes.renamed)


@law
@given(SNAPSHOTS, SNAPSHOTS)
def test_renames_pair_all_equal_contents(before: Snapshot, after: Snapshot) -> None:
    changes = diff_snapshots(before, after)
    for rename in changes.renamed:
        assert before.documents[rename.before] == after.documents[rename.after]
        assert rename.before not in after.documents
        assert rename.after not in before.documents
    lost = {before.documents[path] for path in changes.removed}
    assert not lost & {after.documents[path] for path in changes.added}


@law
@given(SNAPSHOTS, SNAPSHOTS)
def test_the_reverse_difference_is_the_inverse(before: Snapshot, after: Snapshot) -> None:
    there, back = diff_snapshots(before, after), diff_snapshots(after, before)
    assert (back.added, back.removed, back.edited) == (there.removed, there.added, there.edited)
    assert {(rename.after, rename.before) for rename in back.renamed} == {
        (rename.before, rename.after) for rename in there.renamed
    }


@law
@given(SNAPSHOTS)
def test_before_the_first_release_everything_is_added(after: Snapshot) -> None:
    changes = diff_snapshots(None, after)
    assert changes.added == tuple(sorted(after.documents))
    assert (changes.before, changes.edited, changes.removed, changes.renamed) == (None, (), (), ())
    assert (changes.examples_changed, changes.questions_changed) == (bool(after.examples), bool(after.questions))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (kb(a="x"), kb(a="x", b="y"), {"added": ("b.md",)}),
        (kb(a="x", b="y"), kb(b="y"), {"removed": ("a.md",)}),
        (kb(a="x"), kb(a="y"), {"edited": ("a.md",)}),
        (kb(a="x"), kb(b="x"), {"renamed": (Rename(before="a.md", after="b.md"),)}),
        (kb(a="x", b="y"), kb(a="y", b="x"), {"edited": ("a.md", "b.md")}),
        (kb(a="x"), kb(b="y"), {"added": ("b.md",), "removed": ("a.md",)}),
        (kb(a="x"), kb(a="x", b="x"), {"added": ("b.md",)}),
    ],
    ids=["added", "removed", "edited", "renamed", "swapped", "renamed and edited", "copied"],
)
def test_each_kind_of_change_is_recognised(before: Snapshot, after: Snapshot, expected: dict[str, object]) -> None:
    wanted = ChangeSet.model_validate({"before": before.id, "after": after.id, **expected})
    assert diff_snapshots(before, after) == wanted


def test_duplicates_are_paired_in_order_of_path() -> None:
    changes = diff_snapshots(kb(d="x", a="x", b="x"), kb(f="x", e="x"))
    assert changes.renamed == (Rename(before="a.md", after="e.md"), Rename(before="b.md", after="f.md"))
    assert changes.removed == ("d.md",)
    assert not changes.added


def test_lists_are_in_order_of_path() -> None:
    changes = diff_snapshots(kb(r="1", q="2", m="3", n="4"), kb(z="5", y="6", n="7", m="8"))
    assert (changes.added, changes.edited, changes.removed) == (("y.md", "z.md"), ("m.md", "n.md"), ("q.md", "r.md"))


def test_a_rename_with_an_edit_is_one_where_the_new_path_is_known() -> None:
    before, after = kb(a="x", b="y", c="z"), kb(d="x2", e="y")
    changes = diff_snapshots(before, after, {"a.md": "d.md", "b.md": "d.md", "c.md": "d.md"}.get)
    assert changes.renamed == (
        Rename(before="a.md", after="d.md", edited=True),
        Rename(before="b.md", after="e.md"),
    )
    assert (changes.added, changes.removed) == ((), ("c.md",))


@law
@given(SNAPSHOTS, SNAPSHOTS, st.dictionaries(st.sampled_from(["a.md", "b.md"]), st.sampled_from(["d.md", "x.md"])))
def test_known_moves_count_no_path_twice(before: Snapshot, after: Snapshot, moves: dict[str, str]) -> None:
    changes = diff_snapshots(before, after, moves.get)
    edited = {rename.after: after.documents[rename.after] for rename in changes.renamed if rename.edited}
    assert applied(before, changes, after) | edited == after.documents
    sources, targets = ([getattr(rename, end) for rename in changes.renamed] for end in ("before", "after"))
    named = [*changes.added, *changes.edited, *changes.removed, *sources, *targets]
    assert len(named) == len(set(named))
