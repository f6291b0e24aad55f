"""Deep verification: the content of what DVC's cache, the stored weights and the index hold, hashed again.

It reads everything once, which takes as long as copying it; `ragtide verify` alone compares what is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ragtide.pipelines.data.dvc_cache import cached_object, is_damaged, restore_object
from ragtide.pipelines.data.hashing import file_hash, folder_hash, folder_list
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.models.weights import weights_digest
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.base import make_folder
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.registry.client import QUOTED_CHARACTERS
from ragtide.pipelines.release.verify import Mismatch, replace_embedder
from ragtide.pipelines.workspace import Workspace

NOT_READ = (
    "not read: the files in DVC's cache, the weights of embedders, and the texts in the index; "
    "`ragtide verify --deep` hashes them"
)


def verify_contents(project: Project) -> Iterator[Mismatch]:
    """Yield every content of a release that is not what its digest stands for. Changes nothing."""
    releases = project.registry.releases()
    live = project.registry.live_release_id()
    for release in releases:
        yield from _check_texts(project, release)
    yield from _check_embedders(project, releases)
    yield from _check_cache(project.workspace, releases, live)


def _check_texts(project: Project, release: Release) -> Iterator[Mismatch]:
    """Every text and vector of a release's index must be readable, and every text the one of its digest."""
    where = f"index of release {release.id}"
    remedy = "run `ragtide run`, which builds damaged rows again, or roll back to an intact release"
    try:
        documents = project.index.damaged_documents(release.index.version)
    except (UserError, RuntimeError, ValueError, OSError) as problem:
        yield Mismatch(where, f"its rows cannot be read ({summarize_error(problem)[:QUOTED_CHARACTERS]})", remedy)
        return
    if documents:
        yield Mismatch(where, f"the texts of {', '.join(documents[:5])} are not those that were indexed", remedy)


def _check_embedders(project: Project, releases: list[Release]) -> Iterator[Mismatch]:
    """The weights of each release's fine-tuned embedder must be those that its name stands for."""
    tuned = {embedder.digest: embedder for release in releases if (embedder := release.index.tuned_embedder)}
    for digest, embedder in tuned.items():
        folder = project.workspace.tuned_embedders / digest
        if folder.is_dir() and weights_digest(folder, reread=True) != digest:
            what = f"the weights of {folder} are not those that its name, a digest, stands for"
            yield Mismatch("embedder", what, "download it from MLflow", partial(replace_embedder, project, embedder))


def _check_cache(workspace: Workspace, releases: list[Release], live: str | None) -> Iterator[Mismatch]:
    """Every object of the releases' snapshots that DVC's cache has must be whole; the live ones must be there."""
    root, intact = workspace.root, _intact_contents(workspace, releases)
    wanted = {digest: path for release in releases for digest, path in _objects(release.snapshot).items()}
    needed = {digest for release in releases if release.id == live for digest in _objects(release.snapshot)}
    for digest, path in sorted(wanted.items(), key=lambda item: item[1]):
        damaged, file = is_damaged(root, digest), cached_object(root, digest)
        if not damaged and (file.is_file() or digest not in needed or not (root / ".dvc").is_dir()):
            continue
        what = f"{file}, the content of {path}, is {'damaged' if damaged else 'missing'}"
        if digest in intact:
            yield Mismatch("DVC's cache", what, "write it again", partial(restore_object, root, digest, intact[digest]))
        elif damaged:
            aside = workspace.state / "damaged" / digest
            remedy = f"move it to {aside}, so that nothing restores it; a backup or `dvc fetch` may have it"
            yield Mismatch("DVC's cache", what, remedy, partial(_set_aside, file, aside))
        else:
            yield Mismatch("DVC's cache", what, "`dvc fetch`, or a backup, may have it")


def _folders(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """The files (path -> MD5) of the three data folders of a snapshot."""
    return {"kb": snapshot.documents, "train": snapshot.examples, "golden": snapshot.questions}


def _objects(snapshot: Snapshot) -> dict[str, str]:
    """MD5 -> path of the files of a snapshot, and of the lists of its folders that are not empty."""
    folders = _folders(snapshot)
    lists = {folder_hash(files): f"{name}, a list of files" for name, files in folders.items() if files}
    return lists | {digest: f"{name}/{path}" for name, files in folders.items() for path, digest in files.items()}


def _intact_contents(workspace: Workspace, releases: list[Release]) -> dict[str, Path | bytes]:
    """MD5 -> its content: a file that is in the data folders now, or the list of a folder of a release."""
    files = (path for folder in workspace.data_folders.values() for path in sorted(folder.rglob("*")))
    lists = [files for release in releases for files in _folders(release.snapshot).values()]
    return {folder_hash(files): folder_list(files) for files in lists} | {
        file_hash(path): path for path in files if path.is_file() and not path.is_symlink()
    }


def _set_aside(file: Path, aside: Path) -> None:
    make_folder(aside.parent)
    file.replace(aside)
