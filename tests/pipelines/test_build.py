"""Tests of building candidates: index, maintenance, model, adapters, training settings and bases."""

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
from ragtide.pipelines.corpus import Corpus, read_corpus
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.fingerprint import index_fingerprint
from ragtide.pipelines.index.folder import IndexVersion
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.adapters import BASE, adapter_folder
from ragtide.pipelines.models.generator import TransformersGenerator
from ragtide.pipelines.models.load import LoadedEmbedder, Models
from ragtide.pipelines.params import ExampleParams, FinetuneParams, GenerateParams, Params
from ragtide.pipelines.ports import Message, TrainingSample, no_progress
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.training.replay import ReplayExamples
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
    """A project with three pages and some examples, its counting models, and functions that build with them."""

    workspace: Workspace
    models: Models

    @property
    def table(self) -> Index:
        return open_index(self.workspace, self.models.embedder)

    @property
    def corpus(self) -> Corpus:
        return read_corpus(self.workspace, take_snapshot(self.workspace), IndexVersion(self.table, self.table.latest()))

    def index(self, rebuild: bool = False) -> BuiltIndex:
        return build_index(
            self.workspace, LoadedEmbedder(self.models.embedder), self.corpus.knowledge, no_progress, rebuild
        )

    def alone(self, rebuild: bool = False) -> BuiltIndex:
        """Build the index as the DVC stage does, without a cycle."""
        return build_index_only(
            self.workspace, LoadedEmbedder(self.models.embedder), take_snapshot(self.workspace), no_progress, rebuild
        )

    def under(self, **blocks: dict[str, Any]) -> Yard:
        """The same project with other settings."""
        return Yard(workspace(self.workspace.root, **blocks), self.models)

    def model(self) -> BuiltModel:
        retriever = self.table.retriever(self.index().version)
        return build_model(self.workspace, self.models, self.corpus, retriever, no_progress)[0]

    def write_examples(self, examples: int, completion: str = "May") -> None:
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
    made.write_examples(4)
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


def test_rolling_back_an_index_writes_its_artifact_again(tmp_path: Path) -> None:
    made = yard(tmp_path)
    first = made.index()
    write(made.workspace.kb / "a.md", "# Page a.md\n\nAnother text.\n")
    second = made.index()
    write_index_artifact(made.workspace, first)
    assert BuiltIndex.read(made.workspace.artifacts / "index.json") == first != second


def test_the_index_is_stored_where_the_settings_say(tmp_path: Path) -> None:
    made = yard(tmp_path)
    assert Path(made.index().uri) == tmp_path / ".ragtide/lance"
    elsewhere = workspace(tmp_path, index={"uri": str(tmp_path / "elsewhere")})
    built = build_index(elsewhere, LoadedEmbedder(made.models.embedder), made.corpus.knowledge, no_progress)
    assert (built.uri, built.rows) == (str(tmp_path / "elsewhere"), 3)
    assert (tmp_path / "elsewhere").is_dir()


# --- the index without a cycle -------------------------------------------------------------------------------------

CAREFUL = {"max_removed_documents": 0, "max_removed_share": 0.0}
BROKEN = b"\xff is no UTF-8"


def test_the_index_without_a_cycle_equals_that_of_a_cycle(tmp_path: Path) -> None:
    stage, cycle = yard(tmp_path / "stage"), yard(tmp_path / "cycle")
    built = stage.alone()
    assert stage.table.rows() == {**stage.table.rows(), **cycle.table.rows(cycle.index().version)}
    assert (built.rows, built.embedded) == (3, 3)
    assert BuiltIndex.read(stage.workspace.artifacts / "index.json") == built


def test_the_index_without_a_cycle_embeds_only_what_differs(tmp_path: Path) -> None:
    made = yard(tmp_path)
    made.alone()
    write(made.workspace.kb / "a.md", "# Page a.md\n\nAnother text.\n")
    (made.workspace.kb / "b.md").rename(made.workspace.kb / "d.md")
    built = made.alone()
    assert (built.rows, built.embedded) == (3, 1)
    assert set(made.table.documents()) == {"a.md", "c.md", "d.md"}


def test_the_index_without_a_cycle_keeps_and_quarantines_unreadable_documents(tmp_path: Path) -> None:
    made = yard(tmp_path)
    rows = (made.alone(), made.table.rows())[1]
    write(made.workspace.kb / "a.md", BROKEN)
    built = made.alone()
    assert (made.table.rows(), built.waiting) == (rows, 1)
    assert "a.md" in made.workspace.quarantine_file.read_text(encoding="utf-8")


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["cycle", "stage"])
def test_a_pending_deletion_keeps_its_rows(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path).under(deletion_guard=CAREFUL)
    build(made)
    (made.workspace.kb / "a.md").unlink()
    built = build(made)
    assert (built.rows, built.waiting) == (3, 1)


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["cycle", "stage"])
def test_an_emptied_document_over_the_limit_keeps_its_rows(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path).under(deletion_guard=CAREFUL)
    build(made)
    before = made.table.rows()
    write(made.workspace.kb / "a.md", "# Page a.md\n\nMoved.\n")
    write(made.workspace.kb / "d.md", "# Page d.md\n\nNew.\n")
    built = build(made)
    assert (built.rows, built.waiting) == (4, 1)
    assert made.table.rows().items() >= before.items()


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["cycle", "stage"])
def test_a_pending_deletion_keeps_its_rows_through_a_rebuild(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path).under(deletion_guard=CAREFUL)
    build(made)
    (made.workspace.kb / "a.md").unlink()
    other = made.under(deletion_guard=CAREFUL, embed={"document_prefix": "passage: "})
    built = build(other, True)
    assert (built.rows, built.waiting) == (3, 1)
    assert set(other.table.documents()) == {"a.md", "b.md", "c.md"}


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["cycle", "stage"])
def test_an_unreadable_document_keeps_its_rows_through_a_rebuild(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path)
    build(made)
    write(made.workspace.kb / "a.md", BROKEN)
    other = made.under(embed={"document_prefix": "passage: "})
    assert build(other, True).rows == 3
    assert set(other.table.documents()) == {"a.md", "b.md", "c.md"}


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["cycle", "stage"])
def test_a_first_index_of_unreadable_documents_is_an_error(tmp_path: Path, build: Build) -> None:
    made = yard(tmp_path)
    for path in made.workspace.kb.iterdir():
        path.write_bytes(BROKEN)
    with pytest.raises(UserError, match=r"none of (its|the) 3 documents can be read"):
        build(made)
    assert made.table.latest() is None


@pytest.mark.parametrize("build", [Yard.index, Yard.alone], ids=["cycle", "stage"])
def test_other_settings_need_an_explicit_rebuild(tmp_path: Path, build: Build) -> None:
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


def test_a_release_is_read_with_its_own_settings_after_params_changed(tmp_path: Path) -> None:
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


def test_a_release_with_the_current_settings_loads_no_second_embedder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = yard(tmp_path)
    built = made.index()
    monkeypatch.setattr(build, "load_embedder", None)
    assert open_built_index(made.workspace, made.models.embedder, built).fingerprint == built.fingerprint


def test_a_release_runs_on_the_current_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = yard(tmp_path).under(embed={"device": "cuda", "query_prefix": "query: "})
    built = made.index()
    seen: list[Any] = []
    monkeypatch.setattr(build, "load_embedder", lambda params: seen.append(params) or HashEmbedder())
    other = made.under(embed={"device": "cpu"})
    assert open_built_index(other.workspace, other.models.embedder, built).fingerprint == built.fingerprint
    assert [(params.device, params.query_prefix) for params in seen] == [("cpu", "query: ")]


# --- maintenance ---------------------------------------------------------------------------------------------------


def test_maintenance_follows_the_settings(tmp_path: Path) -> None:
    made = yard(tmp_path).under(maintenance={"keep_days": 0, "max_fragments": 1})
    first = made.index()
    made.table.tag("release-1", first.version)
    for number in range(3):
        write(made.workspace.kb / "a.md", f"# Page a.md\n\nText {number}.\n")
        made.index()
    rows = made.table.rows()
    would = maintain_index(made.workspace, made.models.embedder, dry_run=True)
    assert not any(step.done for step in would)
    done = maintain_index(made.workspace, made.models.embedder)
    assert {step.step: step.done for step in done} == {
        "compact": True,
        "prune": True,
        "sweep": False,
        "prune vectors": True,
    }
    assert made.table.rows() == rows
    assert set(made.table.rows("release-1")) == {("a.md", 0), ("b.md", 0), ("c.md", 0)}


def test_maintenance_without_an_index_does_nothing(tmp_path: Path) -> None:
    made = yard(tmp_path)
    assert maintain_index(made.workspace, made.models.embedder) == []
    assert made.table.latest() is None


# --- the model -----------------------------------------------------------------------------------------------------


def test_a_model_records_what_it_was_built_from(tmp_path: Path) -> None:
    made = yard(tmp_path, batch_size=2, epochs=3)
    built = made.model()
    assert built.base == CountingReader.base
    assert built.examples == made.corpus.snapshot.train_id
    assert built.settings == training_settings(made.workspace.params, CountingReader.base)
    assert (built.trained_examples, built.final_loss) == (12, 0.01)
    assert len(CountingTrainer.lessons) == 4


def test_a_model_records_the_digests_of_its_examples_in_sorted_order(tmp_path: Path) -> None:
    made = yard(tmp_path)
    seen = made.model().trained_on
    assert seen == tuple(sorted(example.digest for example in made.corpus.training.examples))
    assert len(seen) == 4
    rows = (made.workspace.train / "rows.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    write(made.workspace.train / "rows.jsonl", "".join([*rows[::-1], rows[0]]))
    assert made.model().trained_on == seen
    made.write_examples(5)
    assert set(seen) < set(made.model().trained_on)


def test_an_example_of_a_deleted_page_is_not_trained_on(tmp_path: Path) -> None:
    made = yard(tmp_path)
    made.write_examples(4)
    write(
        made.workspace.train / "deleted.jsonl", json.dumps({"prompt": "Who?", "completion": "I", "doc": "deleted.md"})
    )
    [orphan] = made.corpus.training.orphans
    seen = made.model().trained_on
    assert (len(seen), orphan.digest in seen) == (4, False)


def test_a_model_records_replayed_examples_and_all_training_files_so_far(tmp_path: Path) -> None:
    made = yard(tmp_path)
    old = Example((Message("user", "When was it?"),), "June", "b.md")
    replay = ReplayExamples((old,), {"deleted.jsonl": "0" * 32})
    retriever = made.table.retriever(made.index().version)
    built, _ = build_model(
        made.workspace,
        made.models,
        replace(made.corpus, training=replace(made.corpus.training, replay=replay)),
        retriever,
        no_progress,
    )
    assert built.replayed == (old.digest,)
    assert built.trained_on == tuple(
        sorted([old.digest, *(example.digest for example in made.corpus.training.examples)])
    )
    assert built.files == {"deleted.jsonl": "0" * 32, **made.corpus.snapshot.examples}
    assert built.source_documents == ("a.md", "b.md")
    assert [sample.completion for sample in CountingTrainer.lessons] == ["May"] * 4 + ["June"]


def test_a_share_of_the_examples_is_trained_again_without_the_gold_passage(tmp_path: Path) -> None:
    made = yard(tmp_path).under(finetune={"min_examples": 3, "min_steps": 1}, examples={"unanswerable_share": 1})
    assert made.model().trained_examples == 8
    assert [sample.completion for sample in CountingTrainer.lessons] == ["May"] * 4 + ["not in the documents"] * 4


def test_the_base_model_alone_was_trained_on_nothing(tmp_path: Path) -> None:
    assert base_model_only(yard(tmp_path).models).trained_on == ()


def test_the_losses_of_each_step_come_with_the_model(tmp_path: Path) -> None:
    made = yard(tmp_path)
    retriever = made.table.retriever(made.index().version)
    _, trained = build_model(made.workspace, made.models, made.corpus, retriever, no_progress)
    assert trained.losses == (1.0, 0.1, 0.01)


class PickyTrainer(CountingTrainer):
    """Reports the first sample as too long."""

    def too_long(self, samples: Sequence[TrainingSample]) -> list[int]:
        return [0]


def test_a_sample_that_is_too_long_for_the_trainer_is_dropped(tmp_path: Path) -> None:
    made = yard(tmp_path)
    picky = replace(made.models, trainer=PickyTrainer())
    CountingTrainer.lessons.clear()
    built, _ = build_model(made.workspace, picky, made.corpus, made.table.retriever(made.index().version), no_progress)
    assert len(CountingTrainer.lessons) == built.trained_examples == made.model().trained_examples - 1


def test_a_sample_that_is_too_long_for_the_trainer_is_an_error_in_strict_mode(tmp_path: Path) -> None:
    made = yard(tmp_path)
    strict = made.workspace.params.model_copy(
        update={"examples": ExampleParams(on_invalid="refuse", unanswerable_share=0)}
    )
    picky, retriever = replace(made.models, trainer=PickyTrainer()), made.table.retriever(made.index().version)
    CountingTrainer.lessons.clear()
    with pytest.raises(UserError, match=r"finetune\.max_tokens = 1024 tokens"):
        build_model(replace(made.workspace, params=strict), picky, made.corpus, retriever, no_progress)
    assert not CountingTrainer.lessons
    assert made.adapters() == []


def test_samples_without_a_page_have_passages_too(tmp_path: Path) -> None:
    made = yard(tmp_path)
    rows = [{"prompt": f"Greet {number}", "completion": "Hello"} for number in range(4)]
    write(made.workspace.train / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    made.model()
    assert len(CountingTrainer.lessons) == 4
    assert all(sample.prompt[-1].content.startswith("Context:\n[1] ") for sample in CountingTrainer.lessons)


def test_the_samples_hold_the_page_with_the_answer(tmp_path: Path) -> None:
    yard(tmp_path).model()
    assert CountingTrainer.lessons
    assert all("Text of a.md." in sample.prompt[-1].content for sample in CountingTrainer.lessons)


def test_the_adapter_is_written_for_dvc(tmp_path: Path) -> None:
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
    made.write_examples(4, completion='{"value": "May"}')
    other = made.model()
    assert other.adapter != first.adapter
    assert made.adapters() == sorted([str(first.adapter), str(other.adapter)])


def test_the_same_content_has_the_same_name_in_another_project(tmp_path: Path) -> None:
    assert yard(tmp_path / "one").model().adapter == yard(tmp_path / "two").model().adapter


def test_an_existing_equal_adapter_stays_untouched(tmp_path: Path) -> None:
    made = yard(tmp_path)
    folder = made.workspace.adapters / str(made.model().adapter)
    before = (folder / fakes.SKILLS).stat()
    made.model()
    after = (folder / fakes.SKILLS).stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_the_remains_of_a_killed_training_are_replaced(tmp_path: Path) -> None:
    made = yard(tmp_path / "killed")
    write(made.workspace.state / "adapter.new/half", "half an adapter")
    assert made.model().adapter == yard(tmp_path / "clean").model().adapter
    assert not (made.workspace.state / "adapter.new").exists()


@pytest.mark.parametrize("examples", [0, 1, 2])
def test_too_few_examples_are_an_error_before_anything_is_built(tmp_path: Path, examples: int) -> None:
    made = yard(tmp_path)
    made.write_examples(examples)
    with pytest.raises(UserError, match=f"{examples} examples and finetune.min_examples is 3") as raised:
        made.model()
    assert "\n" not in str(raised.value)
    assert not CountingTrainer.lessons
    assert made.adapters() == []
    assert not (made.workspace.artifacts / "model.json").exists()


def test_just_enough_examples_are_enough(tmp_path: Path) -> None:
    made = yard(tmp_path)
    made.write_examples(3)
    assert made.model().trained_examples == 3


def test_orphans_do_not_count_as_examples(tmp_path: Path) -> None:
    made = yard(tmp_path)
    (made.workspace.kb / "a.md").unlink()
    with pytest.raises(UserError, match="holds 0 examples"):
        build_model(made.workspace, made.models, made.corpus, None, no_progress)  # type: ignore[arg-type]


# --- model artifacts -----------------------------------------------------------------------------------------------


def test_the_base_model_alone_has_no_adapter(tmp_path: Path) -> None:
    made = yard(tmp_path)
    model = base_model_only(made.models)
    assert model == BuiltModel(base=CountingReader.base, adapter=None, examples=None, settings=None)
    assert adapter_folder(made.workspace, model) is None


def test_rolling_back_to_the_base_model_empties_the_adapter_artifact(tmp_path: Path) -> None:
    made = yard(tmp_path)
    made.model()
    write_model_artifact(made.workspace, base_model_only(made.models))
    assert list((made.workspace.artifacts / "adapter").iterdir()) == []
    assert BuiltModel.read(made.workspace.artifacts / "model.json") == base_model_only(made.models)


def test_rolling_back_to_an_adapter_writes_its_artifact_again(tmp_path: Path) -> None:
    made = yard(tmp_path)
    built = made.model()
    write_model_artifact(made.workspace, base_model_only(made.models))
    write_model_artifact(made.workspace, built)
    assert {path.name for path in (made.workspace.artifacts / "adapter").iterdir()} == {fakes.SKILLS, BASE}


# --- training settings ---------------------------------------------------------------------------------------------


def settings_of(base: str = "base", **blocks: dict[str, Any]) -> str:
    return training_settings(Params.model_validate(blocks), base)


def test_the_table_covers_every_fine_tuning_setting() -> None:
    assert OTHER_FINETUNING.keys() == FinetuneParams.model_fields.keys()


@pytest.mark.parametrize("key", OTHER_FINETUNING)
def test_the_training_settings_change_with_each_fine_tuning_setting(key: str) -> None:
    assert settings_of(finetune={key: OTHER_FINETUNING[key]}) != settings_of()


@pytest.mark.parametrize(
    ("key", "value"), [("unanswerable_share", 0.5), ("unanswerable_reply", "unknown"), ("replay_share", 0.3)]
)
def test_the_training_settings_change_with_the_sample_settings(key: str, value: object) -> None:
    assert settings_of(examples={key: value}) != settings_of()


def test_training_settings_change_with_the_base_and_with_the_number_of_passages() -> None:
    assert len({settings_of(), settings_of("other"), settings_of(index={"top_k": 5})}) == 3


@pytest.mark.parametrize("name", ["SAMPLES_VERSION", "FORM"])
def test_the_training_settings_change_with_the_versions_of_samples_and_prompts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = settings_of()
    monkeypatch.setattr(build, name, "another version")
    assert settings_of() != before


@pytest.mark.parametrize("blocks", OTHER_SETTINGS, ids=lambda blocks: "-".join([*blocks, *next(iter(blocks.values()))]))
def test_training_settings_do_not_change_with_other_settings(blocks: dict[str, dict[str, Any]]) -> None:
    assert settings_of(**blocks) == settings_of()


def test_a_missing_adapter_is_an_error_that_leaves_the_artifact_unchanged(tmp_path: Path) -> None:
    made = workspace(tmp_path)
    write(made.artifacts / "adapter/weights", "live")
    with pytest.raises(UserError, match="0123456789ab is missing"):
        write_model_artifact(made, BuiltModel(base="base", adapter="0123456789ab", examples=None, settings=None))
    assert (made.artifacts / "adapter/weights").read_text(encoding="utf-8") == "live"


# --- bases of releases ---------------------------------------------------------------------------------------------


def base_in(folder: Path, weights: str) -> TransformersGenerator:
    write(folder / "model.safetensors", weights)
    return TransformersGenerator(GenerateParams(model=str(folder)))


def test_a_model_of_the_current_base_uses_the_current_generator(tmp_path: Path) -> None:
    made = yard(tmp_path)
    assert load_generator_for(made.workspace, made.models, base_model_only(made.models)) is made.models.generator


def test_a_release_keeps_its_own_base_after_params_changed(tmp_path: Path) -> None:
    before, current = base_in(tmp_path / "before", "old"), base_in(tmp_path / "current", "new")
    models = Models(HashEmbedder(), current, CountingTrainer())
    model = BuiltModel(base=before.base, adapter=None, examples=None, settings=None)
    generator = load_generator_for(workspace(tmp_path / "project", generate={"max_new_tokens": 5}), models, model)
    assert isinstance(generator, TransformersGenerator)
    assert generator.base == before.base != current.base
    assert generator.identity.endswith("greedy-5")


def test_a_base_in_another_folder_is_the_same_base(tmp_path: Path) -> None:
    current = base_in(tmp_path / "current", "weights")
    model = BuiltModel(base=f"/deleted@{current.base.split('@')[1]}", adapter=None, examples=None, settings=None)
    assert load_generator_for(workspace(tmp_path), Models(HashEmbedder(), current, CountingTrainer()), model) is current


@pytest.mark.parametrize("written", ["other weights", None])
def test_a_release_whose_base_is_missing_or_changed_is_an_error(tmp_path: Path, written: str | None) -> None:
    before = base_in(tmp_path / "before", "old").base
    write(tmp_path / "before/model.safetensors", written) if written else shutil.rmtree(tmp_path / "before")
    models = Models(HashEmbedder(), base_in(tmp_path / "current", "new"), CountingTrainer())
    model = BuiltModel(base=before, adapter="a1", examples=None, settings=None)
    with pytest.raises(UserError, match=f"base model {before} ") as raised:
        load_generator_for(workspace(tmp_path), models, model)
    assert "`ragtide rollback`" in str(raised.value)
    assert "\n" not in str(raised.value)
