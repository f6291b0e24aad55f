"""Is a candidate what its data and settings make of it, named by its content, and is too little refused beforehand?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines import build
from ragtide.pipelines.build import (
    base_model_only,
    build_index,
    build_index_only,
    build_model,
    load_generator_for,
    maintain_index,
    open_built_index,
    open_index,
    training_settings,
    write_index_artifact,
    write_model_artifact,
)
from ragtide.pipelines.corpus import Corpus, IndexVersion, ReplayExamples, read_corpus
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.fingerprint import current_index, index_fingerprint
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.adapters import BASE, adapter_folder
from ragtide.pipelines.models.generator import TransformersGenerator
from ragtide.pipelines.models.load import LoadedEmbedder, Models
from ragtide.pipelines.params import ExampleParams, FinetuneParams, GenerateParams, Params
from ragtide.pipelines.ports import Message, TrainingSample, no_progress
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.workspace import Workspace
from tests import fakes
from tests.factories import HashEmbedder, workspace, write
from tests.fakes import CountingReader, CountingTrainer

OTHER_FINETUNING: dict[str, Any] = {
    "trainer": "own:Trainer",
    "rank": 4,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "epochs": 3,
    "min_steps": 7,
    "max_tokens": 99,
    "min_examples": 5,
    "held_out_share": 0.2,
    "check_every_steps": 5,
    "patience": 4,
    "max_minutes": 3,
    "seed": 8,
}
OTHER_SETTINGS: list[dict[str, dict[str, Any]]] = [
    {"policy": {"points_per_hour": 1}},
    {"score": {"target": 0.5}},
    {"gate": {"max_score_loss": 0.5}},
    {"costs": {"seconds_fixed": 1}},
    {"registry": {"experiment": "other"}},
    {"index": {"uri": "elsewhere"}},
    {"generate": {"max_new_tokens": 8}},
    {"generate": {"tokens_at_once": 999}},
    {"embed": {"tokens_at_once": 999}},
    {"data": {"max_document_bytes": 9}},
    {"examples": {"on_invalid": "refuse"}},
]


@dataclass
class Yard:
    """A project with three pages and some examples, its counting models, and what is built there."""

    workspace: Workspace
    models: Models

    @property
    def table(self) -> Index:
        return open_index(self.workspace, self.models.embedder)

    @property
    def corpus(self) -> Corpus:
        return read_corpus(self.workspace, take_snapshot(self.workspace), IndexVersion(self.table, self.table.latest()))

    def index(self, rebuild: bool = False) -> BuiltIndex:
        return build_index(self.workspace, LoadedEmbedder(self.models.embedder), self.corpus.knowledge, no_progress, rebuild)

    def alone(self, rebuild: bool = False) -> BuiltIndex:
        """The index without the loop."""
        return build_index_only(
            self.workspace, LoadedEmbedder(self.models.embedder), take_snapshot(self.workspace), no_progress, rebuild
        )

    def settled(self) -> BuiltIndex | None:
        return current_index(self.workspace, take_snapshot(self.workspace), self.models.embedder)

    def under(self, **blocks: dict[str, Any]) -> Yard:
        """The same project with other settings."""
        return Yard(workspace(self.workspace.root, **blocks), self.models)

    def model(self) -> BuiltModel:
        reader = self.table.retriever(self.index().version)
        return build_model(self.workspace, self.models, self.corpus, reader, no_progress)[0]

    def teach(self, examples: int, completion: str = "May") -> None:
        rows = [{"prompt": f"When {number}?", "completion": completion, "doc": "a.md"} for number in range(examples)]
        write(self.workspace.train / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def adapters(self) -> list[str]:
        return sorted(path.name for path in self.workspace.adapters.glob("*"))


Build = Callable[..., BuiltIndex]


def yard(root: Path, **finetune: Any) -> Yard:
    fakes.forget()
    settings = {"min_examples": 3, "min_steps": 1} | finetune
    made = Yard(workspace(root, finetune=settings), Models(HashEmbedder(), CountingReader(), CountingTrainer()))
    for name in ("a.md", "b.md", "c.md"):
        write(made.workspace.kb / name, f"# Page {name}\n\nText of {name}.\n")
    made.teach(4)
    return made


# --- the index -----------------------------------------------------------------------------------------------------


def test_the_index_is_built_from_the_corpus_and_written_for_dvc(tmp_path: Path) -> None:
    made = yard(tmp_path)
    built = made.index()
    params = made.workspace.params
    assert (built.rows, built.embedded, built.new, built.waiting) == (3, 3, 3, 0)
    assert built.documents == made.corpus.snapshot.kb_id
    assert built.fingerprint == index_fingerprint(made.models.embedder, params.chunk, params.embed)
    assert BuiltIndex.read(made.workspace.artifacts / "index.json") == built
    assert set(made.table.rows(built.version)) == {chunk.key for chunk in made.corpus.knowledge.chunks}


def test_going_back_to_an_index_writes_down_its_version_again(tmp_path: Path) -> None:
    made = yard(tmp_path)
    first = made.index()
    write(made.workspace.kb / "a.md", "# Page a.md\n\nAnother text.\n")
    second = made.index()
    write_index_artifact(made.workspace, first)
    assert BuiltIndex.read(made.workspace.artifacts / "index.json") == first != second


def test_the_index_lies_where_the_settings_say(tmp_path: Path) -> None:
    made = yard(tmp_path)
    assert Path(made.index().uri) == tmp_path / ".ragtide/lance"
    elsewhere = workspace(tmp_path, index={"uri": str(tmp_path / "elsewhere")})
    built = build_index(elsewhere, LoadedEmbedder(made.models.embedder), made.corpus.knowledge, no_progress)
    assert (built.uri, built.rows) == (str(tmp_path / "elsewhere"), 3)
    assert (tmp_path / "elsewhere").is_dir()


# --- the index without the loop ------------------------------------------------------------------------------------

CAREFUL = {"max_removed_documents": 0, "max_removed_share": 0.0}
BROKEN = b"\xff is no UTF-8"


def test_the_index_alone_holds_what_the_loop_would_put_there(tmp_path: Path) -> None:
    one, other = yard(tmp_path / "one"), yard(tmp_path / "other")
    built = one.alone()
    assert one.table.rows() == {**one.table.rows(), **other.table.rows(other.index().version)}
    assert (built.rows, built.embedded) == (3, 3)
    assert BuiltIndex.read(one.workspace.artifacts / "index.json") == built


def test_the_index_alone_embeds_and_reads_only_what_differs(tmp_path: Path) -> None:
    made = yard(tmp_path)
    made.alone()
    write(made.workspace.kb / "a.md", "# Page a.md\n\nAnother text.\n")
    (made.workspace.kb / "b.md").rename(made.workspace.kb / "d.md")
    built = made.alone()
    assert (built.rows, built.embedded) == (3, 1)
    assert set(made.table.documents()) == {"a.md", "c.md", "d.md"}


def test_the_index_alone_keeps_what_cannot_be_read_and_notes_it(tmp_path: Path) -> None:
    made = yard(tmp_path)
    rows = (made.alone(), made.table.rows())[1]
    write(made.workspace.kb / "a.md", BROKEN)
    built = made.alone()
    assert (made.table.rows(), built.waiting) == (rows, 1)
    assert "a.md" in made.workspace.quarantine_file.read_text(encoding="utf-8")


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["loop", "alone"])
def test_a_removal_that_waits_keeps_its_rows(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path).under(deletion_guard=CAREFUL)
    build(made)
    (made.workspace.kb / "a.md").unlink()
    built = build(made)
    assert (built.rows, built.waiting) == (3, 1)


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["loop", "alone"])
def test_a_removal_that_waits_keeps_its_rows_through_a_rebuild_too(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path).under(deletion_guard=CAREFUL)
    build(made)
    (made.workspace.kb / "a.md").unlink()
    other = made.under(deletion_guard=CAREFUL, embed={"document_prefix": "passage: "})
    built = build(other, True)
    assert (built.rows, built.waiting) == (3, 1)
    assert set(other.table.documents()) == {"a.md", "b.md", "c.md"}


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["loop", "alone"])
def test_a_document_that_cannot_be_read_keeps_its_rows_through_a_rebuild_too(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path)
    build(made)
    write(made.workspace.kb / "a.md", BROKEN)
    other = made.under(embed={"document_prefix": "passage: "})
    assert build(other, True).rows == 3
    assert set(other.table.documents()) == {"a.md", "b.md", "c.md"}


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["loop", "alone"])
def test_a_first_index_of_documents_that_cannot_be_read_is_refused(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path)
    for path in made.workspace.kb.iterdir():
        path.write_bytes(BROKEN)
    with pytest.raises(UserError, match="none of its 3 documents can be read"):
        build(made)
    assert made.table.latest() is None


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["loop", "alone"])
def test_other_settings_need_leave_to_build_anew(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path)
    first = build(made)
    other = made.under(chunk={"max_words": 20})
    with pytest.raises(UserError, match=r"built with chunk\.max_words = 160 \(now 20\): `ragtide plan`"):
        build(other)
    assert made.table.latest() == first.version
    assert BuiltIndex.read(made.workspace.artifacts / "index.json") == first
    built = build(other, True)
    assert (built.rows, built.embedded) == (3, 0)
    assert built.fingerprint != first.fingerprint


# --- the index of a release ----------------------------------------------------------------------------------------


def test_a_release_is_read_under_its_own_settings_while_others_stand_in_params(tmp_path: Path) -> None:
    made = yard(tmp_path).under(embed={"model": "tests.factories:HashEmbedder", "query_prefix": "query: "})
    built = made.index()
    made.table.tag("release-1", built.version)
    other = made.under(chunk={"max_words": 20}, embed={"model": "tests.factories:HashEmbedder"})
    other.index(rebuild=True)
    old = open_built_index(other.workspace, other.models.embedder, built)
    assert old.fingerprint == built.fingerprint != other.table.fingerprint
    assert len(old.retriever("release-1").search(["text of a.md"], 2)[0]) == 2
    with pytest.raises(UserError, match=r"built with .*embed\.query_prefix = 'query: ' \(now ''\)"):
        other.table.retriever("release-1")


def test_a_release_under_todays_settings_loads_no_second_embedder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = yard(tmp_path)
    built = made.index()
    monkeypatch.setattr(build, "load_embedder", None)
    assert open_built_index(made.workspace, made.models.embedder, built).fingerprint == built.fingerprint
    # One from before there were settings in a release.
    bare = built.model_copy(update={"settings": {}, "fingerprint": "other"})
    assert open_built_index(made.workspace, made.models.embedder, bare).fingerprint == built.fingerprint


def test_a_release_runs_on_the_device_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = yard(tmp_path).under(embed={"device": "cuda", "query_prefix": "query: "})
    built = made.index()
    seen: list[Any] = []
    monkeypatch.setattr(build, "load_embedder", lambda params: seen.append(params) or HashEmbedder())
    other = made.under(embed={"device": "cpu"})
    assert open_built_index(other.workspace, other.models.embedder, built).fingerprint == built.fingerprint
    assert [(one.device, one.query_prefix) for one in seen] == [("cpu", "query: ")]


# --- upkeep --------------------------------------------------------------------------------------------------------


def test_upkeep_does_what_the_settings_allow_and_says_why(tmp_path: Path) -> None:
    made = yard(tmp_path).under(maintenance={"keep_days": 0, "max_fragments": 1})
    first = made.index()
    made.table.tag("release-1", first.version)
    for number in range(3):
        write(made.workspace.kb / "a.md", f"# Page a.md\n\nText {number}.\n")
        made.index()
    rows = made.table.rows()
    would = maintain_index(made.workspace, made.models.embedder, dry_run=True)
    assert not any(one.done for one in would)
    done = maintain_index(made.workspace, made.models.embedder)
    assert {one.step: one.done for one in done} == {
        "compact": True,
        "prune": True,
        "sweep": False,
        "prune vectors": True,
    }
    assert made.table.rows() == rows
    assert set(made.table.rows("release-1")) == {("a.md", 0), ("b.md", 0), ("c.md", 0)}


def test_upkeep_of_no_index_is_nothing(tmp_path: Path) -> None:
    made = yard(tmp_path)
    assert maintain_index(made.workspace, made.models.embedder) == []
    assert made.table.latest() is None


# --- the model -----------------------------------------------------------------------------------------------------


def test_a_model_says_what_it_was_built_from(tmp_path: Path) -> None:
    made = yard(tmp_path, batch_size=2, epochs=3)
    built = made.model()
    assert built.base == CountingReader.base
    assert built.examples == made.corpus.snapshot.train_id
    assert built.settings == training_settings(made.workspace.params, CountingReader.base)
    assert (built.trained_examples, built.final_loss) == (12, 0.01)
    assert len(CountingTrainer.lessons) == 4


def test_a_model_names_the_examples_that_it_saw_in_an_order_of_their_own(tmp_path: Path) -> None:
    made = yard(tmp_path)
    seen = made.model().trained_on
    assert seen == tuple(sorted(one.digest for one in made.corpus.training.examples))
    assert len(seen) == 4
    rows = (made.workspace.train / "rows.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    write(made.workspace.train / "rows.jsonl", "".join([*rows[::-1], rows[0]]))
    assert made.model().trained_on == seen
    made.teach(5)
    assert set(seen) < set(made.model().trained_on)


def test_an_example_whose_page_is_gone_is_not_among_those_that_were_seen(tmp_path: Path) -> None:
    made = yard(tmp_path)
    made.teach(4)
    write(made.workspace.train / "gone.jsonl", json.dumps({"prompt": "Who?", "completion": "I", "doc": "gone.md"}))
    [orphan] = made.corpus.training.orphans
    seen = made.model().trained_on
    assert (len(seen), orphan.digest in seen) == (4, False)


def test_a_model_names_what_was_replayed_and_every_file_that_it_and_those_before_it_learnt_from(tmp_path: Path) -> None:
    made = yard(tmp_path)
    old = Example((Message("user", "When was it?"),), "June", "b.md")
    older = ReplayExamples((old,), {"gone.jsonl": "0" * 32})
    reader = made.table.retriever(made.index().version)
    built, _ = build_model(made.workspace, made.models, replace(made.corpus, training=replace(made.corpus.training, replay=older)), reader, no_progress)
    assert built.replayed == (old.digest,)
    assert built.trained_on == tuple(sorted([old.digest, *(one.digest for one in made.corpus.training.examples)]))
    assert built.files == {"gone.jsonl": "0" * 32, **made.corpus.snapshot.examples}
    assert built.source_documents == ("a.md", "b.md")
    assert [lesson.completion for lesson in CountingTrainer.lessons] == ["May"] * 4 + ["June"]


def test_a_share_of_the_examples_is_taught_once_more_without_the_passage_that_answers(tmp_path: Path) -> None:
    made = yard(tmp_path).under(finetune={"min_examples": 3, "min_steps": 1}, examples={"unanswerable_share": 1})
    assert made.model().trained_examples == 8
    assert [lesson.completion for lesson in CountingTrainer.lessons] == ["May"] * 4 + ["not in the documents"] * 4


def test_the_base_model_alone_has_seen_nothing(tmp_path: Path) -> None:
    assert base_model_only(yard(tmp_path).models).trained_on == ()


def test_the_losses_of_each_step_come_with_the_model(tmp_path: Path) -> None:
    made = yard(tmp_path)
    reader = made.table.retriever(made.index().version)
    _, trained = build_model(made.workspace, made.models, made.corpus, reader, no_progress)
    assert trained.losses == (1.0, 0.1, 0.01)


class PickyTrainer(CountingTrainer):
    """Cannot take the first of its lessons."""

    def too_long(self, lessons: Sequence[TrainingSample]) -> list[int]:
        return [0]


def test_a_lesson_that_the_trainer_cannot_take_is_left_out(tmp_path: Path) -> None:
    made = yard(tmp_path)
    picky = replace(made.models, trainer=PickyTrainer())
    CountingTrainer.lessons.clear()
    built, _ = build_model(made.workspace, picky, made.corpus, made.table.retriever(made.index().version), no_progress)
    assert len(CountingTrainer.lessons) == built.trained_examples == made.model().trained_examples - 1


def test_a_lesson_that_the_trainer_cannot_take_is_refused_where_params_say_so(tmp_path: Path) -> None:
    made = yard(tmp_path)
    strict = made.workspace.params.model_copy(
        update={"examples": ExampleParams(on_invalid="refuse", unanswerable_share=0)}
    )
    picky, reader = replace(made.models, trainer=PickyTrainer()), made.table.retriever(made.index().version)
    CountingTrainer.lessons.clear()
    with pytest.raises(UserError, match=r"^1 examples have an answer of over finetune\.max_tokens = 1024 tokens"):
        build_model(replace(made.workspace, params=strict), picky, made.corpus, reader, no_progress)
    assert not CountingTrainer.lessons
    assert made.adapters() == []


def test_lessons_about_behaviour_alone_have_passages_before_them_too(tmp_path: Path) -> None:
    made = yard(tmp_path)
    rows = [{"prompt": f"Greet {number}", "completion": "Hello"} for number in range(4)]
    write(made.workspace.train / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    made.model()
    assert len(CountingTrainer.lessons) == 4
    assert all(lesson.prompt[-1].content.startswith("Context:\n[1] ") for lesson in CountingTrainer.lessons)


def test_the_lessons_hold_the_page_that_answers(tmp_path: Path) -> None:
    yard(tmp_path).model()
    assert CountingTrainer.lessons
    assert all("Text of a.md." in lesson.prompt[-1].content for lesson in CountingTrainer.lessons)


def test_the_adapter_is_laid_out_for_dvc(tmp_path: Path) -> None:
    made = yard(tmp_path)
    built = made.model()
    artifacts = made.workspace.artifacts
    assert BuiltModel.read(artifacts / "model.json") == built
    assert {path.name for path in (artifacts / "adapter").iterdir()} == {fakes.SKILLS, BASE}
    folder = adapter_folder(made.workspace, built)
    assert folder == made.workspace.adapters / str(built.adapter)
    assert (artifacts / "adapter" / fakes.SKILLS).read_bytes() == (folder / fakes.SKILLS).read_bytes()


def test_an_adapter_is_named_by_its_content(tmp_path: Path) -> None:
    made = yard(tmp_path)
    first = made.model()
    again = made.model()
    assert again.adapter == first.adapter
    assert made.adapters() == [first.adapter]
    made.teach(4, completion='{"value": "May"}')
    other = made.model()
    assert other.adapter != first.adapter
    assert made.adapters() == sorted([str(first.adapter), str(other.adapter)])


def test_the_same_content_has_the_same_name_in_another_project(tmp_path: Path) -> None:
    assert yard(tmp_path / "one").model().adapter == yard(tmp_path / "two").model().adapter


def test_an_equal_adapter_that_is_there_already_stays_untouched(tmp_path: Path) -> None:
    made = yard(tmp_path)
    folder = made.workspace.adapters / str(made.model().adapter)
    before = (folder / fakes.SKILLS).stat()
    made.model()
    after = (folder / fakes.SKILLS).stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_what_a_killed_training_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    made = yard(tmp_path / "killed")
    write(made.workspace.state / "adapter.new/half", "half an adapter")
    assert made.model().adapter == yard(tmp_path / "clean").model().adapter
    assert not (made.workspace.state / "adapter.new").exists()


@pytest.mark.parametrize("examples", [0, 1, 2])
def test_too_few_examples_are_refused_before_anything_is_made(tmp_path: Path, examples: int) -> None:
    made = yard(tmp_path)
    made.teach(examples)
    with pytest.raises(UserError, match=f"holds {examples} examples and finetune.min_examples is 3") as refusal:
        made.model()
    assert "\n" not in str(refusal.value)
    assert not CountingTrainer.lessons
    assert made.adapters() == []
    assert not (made.workspace.artifacts / "model.json").exists()


def test_just_enough_examples_are_enough(tmp_path: Path) -> None:
    made = yard(tmp_path)
    made.teach(3)
    assert made.model().trained_examples == 3


def test_orphans_do_not_count_as_examples(tmp_path: Path) -> None:
    made = yard(tmp_path)
    (made.workspace.kb / "a.md").unlink()
    with pytest.raises(UserError, match="holds 0 examples"):
        build_model(made.workspace, made.models, made.corpus, None, no_progress)  # type: ignore[arg-type]


# --- which model is meant ------------------------------------------------------------------------------------------


def test_the_base_model_alone_has_no_adapter(tmp_path: Path) -> None:
    made = yard(tmp_path)
    model = base_model_only(made.models)
    assert model == BuiltModel(base=CountingReader.base, adapter=None, examples=None, settings=None)
    assert adapter_folder(made.workspace, model) is None


def test_going_back_to_the_base_model_empties_the_adapter_of_dvc(tmp_path: Path) -> None:
    made = yard(tmp_path)
    made.model()
    write_model_artifact(made.workspace, base_model_only(made.models))
    assert list((made.workspace.artifacts / "adapter").iterdir()) == []
    assert BuiltModel.read(made.workspace.artifacts / "model.json") == base_model_only(made.models)


def test_going_back_to_an_adapter_lays_it_out_again(tmp_path: Path) -> None:
    made = yard(tmp_path)
    built = made.model()
    write_model_artifact(made.workspace, base_model_only(made.models))
    write_model_artifact(made.workspace, built)
    assert {path.name for path in (made.workspace.artifacts / "adapter").iterdir()} == {fakes.SKILLS, BASE}


# --- what a training run depends on --------------------------------------------------------------------------------


def settings_of(base: str = "base", **blocks: dict[str, Any]) -> str:
    return training_settings(Params.model_validate(blocks), base)


def test_every_setting_of_fine_tuning_is_tried_below() -> None:
    assert OTHER_FINETUNING.keys() == FinetuneParams.model_fields.keys()


@pytest.mark.parametrize("key", OTHER_FINETUNING)
def test_training_settings_change_with_each_setting_of_fine_tuning(key: str) -> None:
    assert settings_of(finetune={key: OTHER_FINETUNING[key]}) != settings_of()


@pytest.mark.parametrize(
    ("key", "value"), [("unanswerable_share", 0.5), ("unanswerable_reply", "unknown"), ("replay_share", 0.3)]
)
def test_training_settings_change_with_what_else_is_taught(key: str, value: object) -> None:
    assert settings_of(examples={key: value}) != settings_of()


def test_training_settings_change_with_the_base_and_with_the_number_of_passages() -> None:
    assert len({settings_of(), settings_of("other"), settings_of(index={"top_k": 5})}) == 3


@pytest.mark.parametrize("name", ["SAMPLES_VERSION", "FORM"])
def test_training_settings_change_with_the_way_that_lessons_and_prompts_are_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = settings_of()
    monkeypatch.setattr(build, name, "another way")
    assert settings_of() != before


@pytest.mark.parametrize("blocks", OTHER_SETTINGS, ids=lambda blocks: "-".join([*blocks, *next(iter(blocks.values()))]))
def test_training_settings_do_not_change_with_other_settings(blocks: dict[str, dict[str, Any]]) -> None:
    assert settings_of(**blocks) == settings_of()


def test_a_missing_adapter_is_refused_before_anything_is_taken_away(tmp_path: Path) -> None:
    made = workspace(tmp_path)
    write(made.artifacts / "adapter/weights", "live")
    with pytest.raises(UserError, match="0123456789ab is missing"):
        write_model_artifact(made, BuiltModel(base="base", adapter="0123456789ab", examples=None, settings=None))
    assert (made.artifacts / "adapter/weights").read_text(encoding="utf-8") == "live"


# --- whose base it is ----------------------------------------------------------------------------------------------


def base_in(folder: Path, weights: str) -> TransformersGenerator:
    write(folder / "model.safetensors", weights)
    return TransformersGenerator(GenerateParams(model=str(folder)))


def test_a_model_of_todays_base_is_asked_of_todays_generator(tmp_path: Path) -> None:
    made = yard(tmp_path)
    assert load_generator_for(made.workspace, made.models, base_model_only(made.models)) is made.models.generator


def test_a_release_goes_on_with_its_own_base_after_another_was_set(tmp_path: Path) -> None:
    before, today = base_in(tmp_path / "before", "old"), base_in(tmp_path / "today", "new")
    models = Models(HashEmbedder(), today, CountingTrainer())
    model = BuiltModel(base=before.base, adapter=None, examples=None, settings=None)
    found = load_generator_for(workspace(tmp_path / "project", generate={"max_new_tokens": 5}), models, model)
    assert isinstance(found, TransformersGenerator)
    assert found.base == before.base != today.base
    assert found.identity.endswith("greedy-5")


def test_a_base_that_lies_elsewhere_now_is_the_same_base(tmp_path: Path) -> None:
    today = base_in(tmp_path / "today", "weights")
    model = BuiltModel(base=f"/gone@{today.base.split('@')[1]}", adapter=None, examples=None, settings=None)
    assert load_generator_for(workspace(tmp_path), Models(HashEmbedder(), today, CountingTrainer()), model) is today


@pytest.mark.parametrize("written", ["other weights", None])
def test_a_release_whose_base_is_no_more_what_it_was_is_refused(tmp_path: Path, written: str | None) -> None:
    before = base_in(tmp_path / "before", "old").base
    write(tmp_path / "before/model.safetensors", written) if written else shutil.rmtree(tmp_path / "before")
    models = Models(HashEmbedder(), base_in(tmp_path / "today", "new"), CountingTrainer())
    model = BuiltModel(base=before, adapter="a1", examples=None, settings=None)
    with pytest.raises(UserError, match=f"the release's model was made from {before}, and") as refusal:
        load_generator_for(workspace(tmp_path), models, model)
    assert "put it back, `ragtide rollback` to a release of another, or `ragtide run`" in str(refusal.value)
    assert "\n" not in str(refusal.value)
