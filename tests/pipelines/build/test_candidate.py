"""Is a candidate what its data and settings make of it, named by its content, and is too little refused beforehand?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.build.candidate import (
    adapter_folder,
    build_index,
    build_model,
    export_index,
    export_model,
    open_index,
    training_settings,
    untrained,
)
from pipelines.build.corpus import Corpus, read_corpus
from pipelines.build.index import index_fingerprint
from pipelines.build.models import Models
from pipelines.errors import RefusalError
from pipelines.observe.snapshot import observe
from pipelines.params import FinetuneParams, Params
from pipelines.ports import quiet
from pipelines.records import BuiltIndex, BuiltModel
from pipelines.workspace import Workspace
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
    {"generate": {"batch_size": 1}},
    {"embed": {"batch_size": 1}},
    {"observe": {"max_document_bytes": 9}},
]


@dataclass
class Yard:
    """A project with three pages and some examples, its counting models, and what is built there."""

    workspace: Workspace
    models: Models

    @property
    def corpus(self) -> Corpus:
        return read_corpus(self.workspace, observe(self.workspace))

    def index(self) -> BuiltIndex:
        return build_index(self.workspace, self.models, self.corpus, quiet)

    def model(self) -> BuiltModel:
        reader = open_index(self.workspace, self.models).reader(self.index().version)
        return build_model(self.workspace, self.models, self.corpus, reader, quiet)[0]

    def teach(self, examples: int, completion: str = "May") -> None:
        rows = [{"prompt": f"When {number}?", "completion": completion, "doc": "a.md"} for number in range(examples)]
        write(self.workspace.train / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def adapters(self) -> list[str]:
        return sorted(path.name for path in self.workspace.adapters.glob("*"))


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
    assert (built.rows, built.embedded, built.documents) == (3, 3, made.corpus.snapshot.id)
    assert built.fingerprint == index_fingerprint(made.models.embedder, made.workspace.params.chunk)
    assert BuiltIndex.read(made.workspace.artifacts / "index.json") == built
    assert set(open_index(made.workspace, made.models).rows(built.version)) == {
        chunk.key for chunk in made.corpus.chunks
    }


def test_going_back_to_an_index_writes_down_its_version_again(tmp_path: Path) -> None:
    made = yard(tmp_path)
    first = made.index()
    write(made.workspace.kb / "a.md", "# Page a.md\n\nAnother text.\n")
    second = made.index()
    export_index(made.workspace, first)
    assert BuiltIndex.read(made.workspace.artifacts / "index.json") == first != second


def test_the_index_lies_where_the_settings_say(tmp_path: Path) -> None:
    made = yard(tmp_path)
    assert Path(made.index().uri) == tmp_path / ".ragtide/lance"
    elsewhere = workspace(tmp_path, index={"uri": str(tmp_path / "elsewhere")})
    built = build_index(elsewhere, made.models, made.corpus, quiet)
    assert (built.uri, built.rows) == (str(tmp_path / "elsewhere"), 3)
    assert (tmp_path / "elsewhere").is_dir()


# --- the model -----------------------------------------------------------------------------------------------------


def test_a_model_says_what_it_was_built_from(tmp_path: Path) -> None:
    made = yard(tmp_path, batch_size=2, epochs=3)
    built = made.model()
    assert built.base == CountingReader.base
    assert built.examples == made.corpus.snapshot.train_id
    assert built.settings == training_settings(made.workspace.params, CountingReader.base)
    assert (built.trained_examples, built.final_loss) == (12, 0.01)
    assert len(CountingTrainer.lessons) == 4


def test_the_losses_of_each_step_come_with_the_model(tmp_path: Path) -> None:
    made = yard(tmp_path)
    reader = open_index(made.workspace, made.models).reader(made.index().version)
    _, losses = build_model(made.workspace, made.models, made.corpus, reader, quiet)
    assert losses == (1.0, 0.1, 0.01)


def test_the_lessons_hold_the_page_that_answers(tmp_path: Path) -> None:
    yard(tmp_path).model()
    assert CountingTrainer.lessons
    assert all("Text of a.md." in lesson.prompt[-1].content for lesson in CountingTrainer.lessons)


def test_the_adapter_is_laid_out_for_dvc(tmp_path: Path) -> None:
    made = yard(tmp_path)
    built = made.model()
    artifacts = made.workspace.artifacts
    assert BuiltModel.read(artifacts / "model.json") == built
    assert [path.name for path in (artifacts / "adapter").iterdir()] == [fakes.SKILLS]
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
    with pytest.raises(RefusalError, match=f"holds {examples} examples and finetune.min_examples is 3") as refusal:
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
    with pytest.raises(RefusalError, match="holds 0 examples"):
        build_model(made.workspace, made.models, made.corpus, None, quiet)  # type: ignore[arg-type]


# --- which model is meant ------------------------------------------------------------------------------------------


def test_the_base_model_alone_has_no_adapter(tmp_path: Path) -> None:
    made = yard(tmp_path)
    model = untrained(made.models)
    assert model == BuiltModel(base=CountingReader.base, adapter=None, examples=None, settings=None)
    assert adapter_folder(made.workspace, model) is None


def test_going_back_to_the_base_model_empties_the_adapter_of_dvc(tmp_path: Path) -> None:
    made = yard(tmp_path)
    made.model()
    export_model(made.workspace, untrained(made.models))
    assert list((made.workspace.artifacts / "adapter").iterdir()) == []
    assert BuiltModel.read(made.workspace.artifacts / "model.json") == untrained(made.models)


def test_going_back_to_an_adapter_lays_it_out_again(tmp_path: Path) -> None:
    made = yard(tmp_path)
    built = made.model()
    export_model(made.workspace, untrained(made.models))
    export_model(made.workspace, built)
    assert [path.name for path in (made.workspace.artifacts / "adapter").iterdir()] == [fakes.SKILLS]


@pytest.mark.parametrize("ask", [adapter_folder, export_model])
def test_an_adapter_that_is_gone_is_refused_with_its_place(tmp_path: Path, ask: Any) -> None:
    made = yard(tmp_path)
    gone = untrained(made.models).model_copy(update={"adapter": "0123456789ab"})
    with pytest.raises(RefusalError, match=r"adapters/0123456789ab is missing: `ragtide rollback`") as refusal:
        ask(made.workspace, gone)
    assert "\n" not in str(refusal.value)


# --- what a training run depends on --------------------------------------------------------------------------------


def settings_of(base: str = "base", **blocks: dict[str, Any]) -> str:
    return training_settings(Params.model_validate(blocks), base)


def test_every_setting_of_fine_tuning_is_tried_below() -> None:
    assert OTHER_FINETUNING.keys() == FinetuneParams.model_fields.keys()


@pytest.mark.parametrize("key", OTHER_FINETUNING)
def test_training_settings_change_with_each_setting_of_fine_tuning(key: str) -> None:
    assert settings_of(finetune={key: OTHER_FINETUNING[key]}) != settings_of()


def test_training_settings_change_with_the_base_and_with_the_number_of_passages() -> None:
    assert len({settings_of(), settings_of("other"), settings_of(index={"top_k": 5})}) == 3


@pytest.mark.parametrize("blocks", OTHER_SETTINGS, ids=lambda blocks: "-".join([*blocks, *next(iter(blocks.values()))]))
def test_training_settings_do_not_change_with_other_settings(blocks: dict[str, dict[str, Any]]) -> None:
    assert settings_of(**blocks) == settings_of()


def test_a_missing_adapter_is_refused_before_anything_is_taken_away(tmp_path: Path) -> None:
    made = workspace(tmp_path)
    write(made.artifacts / "adapter/weights", "live")
    with pytest.raises(RefusalError, match="0123456789ab is missing"):
        export_model(made, BuiltModel(base="base", adapter="0123456789ab", examples=None, settings=None))
    assert (made.artifacts / "adapter/weights").read_text(encoding="utf-8") == "live"
