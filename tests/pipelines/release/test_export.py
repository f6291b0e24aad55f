"""Tests of the export of a release: weights, card, README, permissions, and no output on failure."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.adapters import store_adapter
from ragtide.pipelines.models.generator import TransformersGenerator
from ragtide.pipelines.models.save import ExportFormat
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.release import export as module
from ragtide.pipelines.release.export import CARD, README, ReleaseCard, export_release
from tests.conftest import write_project
from tests.factories import BASE, write
from tests.projects import release_of
from tests.tiny import one_thread, write_byte_model, write_random_adapter

__all__ = ["one_thread"]  # A fixture: pytest finds it here.

PAGE = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
MERGED = ExportFormat.SAFETENSORS


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Release 1 is the base model alone, release 2, which is live, has an adapter."""
    home = tmp_path_factory.mktemp("export")
    base = write_byte_model(home / "base")
    settings = {"model": str(base), "device": "cpu", "dtype": "float32"}
    project = Project.open(write_project(home / "project", generate=settings), no_progress)
    write(project.workspace.kb / "pump.md", PAGE)
    name = project.models.generator.base
    adapter = store_adapter(write_random_adapter(base, home / "adapter"), project.workspace.adapters, name)
    for chosen in (None, adapter):
        release_of(project, BuiltModel(base=name, adapter=chosen, examples=None, settings=None))
    return project


def logits(model: object) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model.eval()(input_ids=torch.arange(6, 46)[None]).logits  # type: ignore[attr-defined]
        return result


def test_the_exported_model_has_the_logits_of_the_release(released: Project, tmp_path: Path) -> None:
    folder = export_release(released, None, MERGED, tmp_path / "out")
    assert folder == tmp_path / "out"
    generator = released.models.generator
    assert isinstance(generator, TransformersGenerator)
    live = released.registry.champion()
    assert live is not None
    written = logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    assert torch.equal(written, logits(generator.load(released.adapter(live))))
    assert not torch.equal(written, logits(generator.load(None)))


def test_card_and_readme_record_the_origin(released: Project, tmp_path: Path) -> None:
    release = released.registry.release("2")
    folder = export_release(released, "2", MERGED, tmp_path / "out")
    card = ReleaseCard.read(folder / CARD)
    assert (card.release, card.data, card.base, card.adapter) == (
        "2",
        release.snapshot.id,
        release.model.base,
        release.model.adapter,
    )
    assert (card.format, card.answer_score) == ("safetensors", 1.0)
    readme = (folder / README).read_text(encoding="utf-8")
    assert all(
        word in readme for word in ("# Release 2", str(release.model.adapter), 'from_pretrained("out")', "PASSAGE")
    )
    assert {CARD, README, "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


def test_an_earlier_release_is_exported_to_a_folder_of_its_own(released: Project) -> None:
    folder = export_release(released, "1", MERGED)
    assert folder == released.workspace.root / "export/release-1-safetensors"
    card = ReleaseCard.read(folder / CARD)
    assert (card.release, card.adapter) == ("1", None)
    with pytest.raises(UserError, match="release-1-safetensors already exists"):
        export_release(released, "1", MERGED)


def test_the_adapter_alone_names_its_base(released: Project, tmp_path: Path) -> None:
    folder = export_release(released, "2", ExportFormat.ADAPTER, tmp_path / "out")
    assert {"base.json", "adapter_model.safetensors", CARD, README} <= {path.name for path in folder.iterdir()}


def test_an_empty_target_is_filled_and_readable_by_others(released: Project, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_release(released, None, MERGED, tmp_path / "out")
    assert (tmp_path / "out" / CARD).is_file()
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o644}


@pytest.mark.parametrize("there", ["out/kept", "out"])
def test_a_target_that_is_not_empty_is_unchanged(released: Project, tmp_path: Path, there: str) -> None:
    kept = write(tmp_path / there, "mine")
    with pytest.raises(UserError, match="out already exists") as failure:
        export_release(released, None, MERGED, tmp_path / "out")
    assert "\n" not in str(failure.value)
    assert kept.read_text(encoding="utf-8") == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_a_failed_export_leaves_nothing(released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_half_way(*arguments: object) -> None:
        write(Path(str(arguments[3])) / "half", "half")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "save_model", fail_half_way)
    with pytest.raises(OSError, match="no space left"):
        export_release(released, None, MERGED, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["3", "0", "none"])
def test_an_unknown_release_raises(released: Project, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"no release {name}"):
        export_release(released, name, MERGED, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_base_model_alone_has_no_adapter_to_export(released: Project, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no adapter"):
        export_release(released, "1", ExportFormat.ADAPTER, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [None, "1"])
def test_before_the_first_release_there_is_nothing_to_export(tmp_path: Path, name: str | None) -> None:
    project = Project.open(write_project(tmp_path / "project"), no_progress)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="nothing is live yet"):
        export_release(project, name, MERGED)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_custom_generator_cannot_be_exported(tmp_path: Path) -> None:
    project = Project.open(write_project(tmp_path / "project"), no_progress)
    write(project.workspace.kb / "pump.md", PAGE)
    release_of(project, BASE)
    with pytest.raises(UserError, match="CountingReader"):
        export_release(project, None, MERGED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_release_without_its_base_model_raises(released: Project, tmp_path: Path) -> None:
    """The folder that the release names has other weights now."""
    base = Path(released.workspace.params.generate.model)
    shutil.copytree(base, tmp_path / "kept")
    try:
        write_byte_model(base, seed=9)
        with pytest.raises(UserError, match="base") as failure:
            export_release(Project.open(released.workspace.root, no_progress), None, MERGED, tmp_path / "out")
    finally:
        shutil.copytree(tmp_path / "kept", base, dirs_exist_ok=True)
    assert "\n" not in str(failure.value)
    assert not (tmp_path / "out").exists()
