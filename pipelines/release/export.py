"""Export of a release's model to a folder with a card of its origin and a README with usage instructions."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

from ragtide.pipelines.build import load_generator_for
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.generator import TransformersGenerator
from ragtide.pipelines.models.prompts import question_prompt
from ragtide.pipelines.models.save import ExportFormat, save_model
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.base import Record, atomic_directory
from ragtide.pipelines.records.release import Release

CARD, README = "release.json", "README.md"
USAGE = {
    ExportFormat.SAFETENSORS: (
        'model = AutoModelForCausalLM.from_pretrained("{folder}")\n'
        'tokenizer = AutoTokenizer.from_pretrained("{folder}")'
    ),
    ExportFormat.ADAPTER: (
        'base = AutoModelForCausalLM.from_pretrained("THE BASE MODEL")\n'
        'model = PeftModel.from_pretrained(base, "{folder}")'
    ),
}


class ReleaseCard(Record):
    """The origin of an exported model; `data` is the id of the snapshot that it was built from."""

    release: str
    data: str
    base: str
    adapter: str | None
    decision: str
    created: str
    answer_score: float | None
    format: str


def export_release(project: Project, release_id: str | None, form: ExportFormat, target: Path | None = None) -> Path:
    """Write a release's model (None: the live one's) to `target`, by default below export/; returns that folder.

    Raises UserError where there is no such release, where its base model or adapter is missing, and where the target
    is not empty.
    """
    release = _release(project, release_id)
    target = (target or project.workspace.root / "export" / f"release-{release.id}-{form}").absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} already exists: choose another folder with --to, or delete it")
    adapter = project.adapter(release)
    generator = load_generator_for(project.workspace, project.models, release.model)
    if not isinstance(generator, TransformersGenerator):
        raise UserError(
            f"generate.model = {project.workspace.params.generate.model!r} is custom code, which cannot be exported"
        )
    with atomic_directory(target) as unfinished:
        save_model(generator, adapter, form, unfinished)
        _card(release, form).write(unfinished / CARD)
        (unfinished / README).write_text(_readme(release, form, target.name), encoding="utf-8")
        _make_readable(unfinished)
    return target


def _release(project: Project, release_id: str | None) -> Release:
    live = project.registry.live()
    return live if release_id in (None, live.id) else project.registry.release(str(release_id))


def _make_readable(folder: Path) -> None:
    """Let every user read the folder, as temporary folders are private: another user may serve the model."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _card(release: Release, form: ExportFormat) -> ReleaseCard:
    return ReleaseCard(
        release=release.id,
        data=release.snapshot.id,
        base=release.model.base,
        adapter=release.model.adapter,
        decision=str(release.decision),
        created=release.created,
        answer_score=release.scorecard.answer_score.value,
        format=form,
    )


def _readme(release: Release, form: ExportFormat, folder: str) -> str:
    """Return the README of an exported model: what it is, how it is loaded and how it is prompted."""
    model = f"base model `{release.model.base}`, adapter `{release.model.adapter or 'none'}`"
    usage = indent(USAGE[form].format(folder=folder), "    ")
    prompt = question_prompt("QUESTION", ("PASSAGE", "PASSAGE"))
    messages = indent("\n".join(f"{message.role}: {message.content}" for message in prompt), "    ")
    return f"""# Release {release.id}

The model of a Ragtide release: {model}. `{CARD}` records the data that it was trained on and its score.

{usage}

The model expects the retrieved passages, most relevant first, and then the question, in this form and through its chat
template:

{messages}
"""
