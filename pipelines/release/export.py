"""How does a release leave for elsewhere? Its model in a folder that says where it came from and how it is asked."""

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
USES = {
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
    """Where an exported model came from: `data` is the snapshot's id."""

    release: str
    data: str
    base: str
    adapter: str | None
    decision: str
    created: str
    answer_score: float | None
    format: str


def export_release(project: Project, release_id: str | None, form: ExportFormat, target: Path | None = None) -> Path:
    """Write a release's model (None: the live one's) into `target`, or export/ in the project; the folder it is in.

    Raises RefusalError where there is no such release, where its base or adapter is gone, or where the target holds
    something already.
    """
    release = _release(project, release_id)
    target = (target or project.workspace.root / "export" / f"release-{release.id}-{form}").absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there already: name another place with --to, or remove it")
    adapter = project.adapter(release)
    generator = load_generator_for(project.workspace, project.models, release.model)
    if not isinstance(generator, TransformersGenerator):
        raise UserError(f"generate.model = {project.workspace.params.generate.model!r} is code of your own")
    with atomic_directory(target) as unfinished:
        save_model(generator, adapter, form, unfinished)
        _card(release, form).write(unfinished / CARD)
        (unfinished / README).write_text(_readme(release, form, target.name), encoding="utf-8")
        _open_to_readers(unfinished)
    return target


def _release(project: Project, release_id: str | None) -> Release:
    live = project.registry.live()
    return live if release_id in (None, live.id) else project.registry.release(str(release_id))


def _open_to_readers(folder: Path) -> None:
    """Whoever serves the model may be another user than whoever exports it; temporary files are for one alone."""
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
    """For whoever finds the folder."""
    made = f"base `{release.model.base}`, adapter `{release.model.adapter or 'none'}`"
    use = indent(USES[form].format(folder=folder), "    ")
    prompt = question_prompt("QUESTION", ("PASSAGE", "PASSAGE"))
    turns = indent("\n".join(f"{turn.role}: {turn.content}" for turn in prompt), "    ")
    return f"""# Release {release.id}

The model of a Ragtide release: {made}. From which data it was made, and what it scored, stands in `{CARD}`.

{use}

It expects its passages, most relevant first, before the question, through its chat template:

{turns}
"""
