"""Tests of imports with DVC itself: updates from folders, git, HTTP and S3, and sources that are unavailable."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ragtide.pipelines.data.dvc import ensure_repository, run_dvc
from ragtide.pipelines.data.dvc_cache import cached_object
from ragtide.pipelines.data.imports import ImportCopy, list_imports, update_imports
from ragtide.pipelines.data.snapshot import record_snapshot, take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.workspace import Workspace
from tests.factories import write


@pytest.fixture
def workspace(make_project: Callable[..., Path]) -> Workspace:
    """A project in DVC, with a document of its own."""
    root = make_project()
    (root / "data" / "kb" / "own.md").write_text("# Own\n\nOurs.", encoding="utf-8")
    ensure_repository(root)
    return Workspace.open(root)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder outside the project, in place of a bucket or a network share."""
    folder = tmp_path / "elsewhere" / "docs"
    folder.mkdir(parents=True)
    (folder / "a.md").write_text("# A\n\nOne.", encoding="utf-8")
    (folder / "b.md").write_text("# B\n\nTwo.", encoding="utf-8")
    return folder


def import_url(workspace: Workspace, source: Path | str, name: str = "docs") -> Path:
    folder = workspace.imports / "kb"
    folder.mkdir(parents=True, exist_ok=True)
    run_dvc(workspace.root, ["import-url", str(source), str((folder / name).relative_to(workspace.root))])
    return folder / name


def documents(workspace: Workspace) -> set[str]:
    return set(take_snapshot(workspace).documents)


def test_an_imported_folder_is_copied_next_to_own_documents(workspace: Workspace, source: Path) -> None:
    import_url(workspace, source)
    [updated] = update_imports(workspace)
    assert (updated.name, updated.source, updated.problem, updated.changed) == ("kb/docs", str(source), None, 2)
    assert documents(workspace) == {"own.md", "docs/a.md", "docs/b.md"}
    assert record_snapshot(workspace).id == take_snapshot(workspace).id


def test_edits_additions_and_removals_at_the_source_are_copied(workspace: Workspace, source: Path) -> None:
    import_url(workspace, source)
    update_imports(workspace)
    (source / "a.md").write_text("# A\n\nAnother.", encoding="utf-8")
    (source / "c.md").write_text("# C\n\nThree.", encoding="utf-8")
    (source / "b.md").unlink()
    [updated] = update_imports(workspace)
    assert updated.changed == 3
    assert documents(workspace) == {"own.md", "docs/a.md", "docs/c.md"}
    assert (workspace.kb / "docs" / "a.md").read_text(encoding="utf-8") == "# A\n\nAnother."
    [again] = update_imports(workspace)
    assert again.changed == 0


def test_a_removal_interrupted_by_a_kill_is_finished_by_the_next_update(workspace: Workspace, source: Path) -> None:
    import_url(workspace, source)
    update_imports(workspace)
    (source / "b.md").unlink()
    [data_import] = list_imports(workspace)
    # As if the run had been killed after DVC's update.
    run_dvc(workspace.root, ["update", str(data_import.pointer)])
    update_imports(workspace)
    assert documents(workspace) == {"own.md", "docs/a.md"}


def test_an_unavailable_source_changes_nothing(workspace: Workspace, source: Path) -> None:
    folder = import_url(workspace, source)
    update_imports(workspace)
    before, record = take_snapshot(workspace).id, workspace.state / "imports" / "kb" / "docs.json"
    answered = ImportCopy.read(record)
    shutil.rmtree(source)
    [updated] = update_imports(workspace)
    assert updated.problem is not None
    assert "does not exist" in updated.problem
    assert take_snapshot(workspace).id == before
    assert {file.name for file in folder.iterdir()} == {"a.md", "b.md"}
    assert ImportCopy.read(record) == answered


def test_an_unavailable_source_does_not_block_another(workspace: Workspace, source: Path) -> None:
    other = source.with_name("more")
    shutil.copytree(source, other)
    import_url(workspace, other, "more")
    import_url(workspace, source)
    update_imports(workspace)
    shutil.rmtree(source)
    (other / "a.md").write_text("# A\n\nNew.", encoding="utf-8")
    unavailable, available = update_imports(workspace)
    assert unavailable.problem
    assert (available.problem, available.changed) == (None, 1)


def test_an_import_does_not_overwrite_an_own_file(workspace: Workspace, source: Path) -> None:
    own = workspace.kb / "docs" / "c.md"
    import_url(workspace, source)
    update_imports(workspace)
    own.write_text("# Mine", encoding="utf-8")
    (source / "c.md").write_text("# Theirs", encoding="utf-8")
    (source / "a.md").write_text("# A\n\nAnother.", encoding="utf-8")
    [updated] = update_imports(workspace)
    assert updated.problem is not None
    assert "is a file of your own" in updated.problem
    assert own.read_text(encoding="utf-8") == "# Mine"


def test_an_update_past_its_time_limit_is_stopped(make_project: Callable[..., Path], source: Path) -> None:
    root = make_project(triggers={"update_minutes": 1e-6})
    ensure_repository(root)
    workspace = Workspace.open(root)
    folder = import_url(workspace, source)
    [updated] = update_imports(workspace)
    assert updated.problem is not None
    assert "did not finish within" in updated.problem
    assert (folder / "a.md").is_file()


def test_an_import_inside_the_knowledge_base_is_an_error(workspace: Workspace, source: Path) -> None:
    run_dvc(workspace.root, ["import-url", str(source / "a.md"), "data/kb/a.md"])
    with pytest.raises(UserError, match=r"`dvc remove` it, and import to data/imports/kb/a\.md"):
        update_imports(workspace)


def test_a_knowledge_base_that_is_itself_an_import_is_not_updated(workspace: Workspace, source: Path) -> None:
    shutil.rmtree(workspace.kb)
    run_dvc(workspace.root, ["import-url", str(source), "data/kb"])
    shutil.rmtree(source)
    [updated] = update_imports(workspace)
    assert updated.problem is not None
    assert "import to data/imports/kb/NAME instead" in updated.problem
    assert documents(workspace) == {"a.md", "b.md"}


def test_without_imports_nothing_happens(workspace: Workspace) -> None:
    record_snapshot(workspace)
    assert update_imports(workspace) == []
    assert not (workspace.state / "imports").exists()


def test_an_import_from_a_git_repository_is_updated(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "docs").mkdir(parents=True)
    git(other, "init", "--quiet")
    ensure_repository(other)

    def publish(text: str) -> None:
        (other / "docs" / "a.md").write_text(text, encoding="utf-8")
        run_dvc(other, ["add", "docs"])
        git(other, "add", "--all")
        git(other, "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "--quiet", "--message", text)

    publish("# One")
    folder = workspace.imports / "kb"
    folder.mkdir(parents=True)
    run_dvc(workspace.root, ["import", str(other), "docs", "--out", "data/imports/kb/docs"])
    update_imports(workspace)
    assert (workspace.kb / "docs" / "a.md").read_text(encoding="utf-8") == "# One"
    publish("# Two")
    [updated] = update_imports(workspace)
    assert (updated.source, updated.changed) == (f"{other} docs", 1)
    assert (workspace.kb / "docs" / "a.md").read_text(encoding="utf-8") == "# Two"


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


class Page(BaseHTTPRequestHandler):
    """A page with an ETag, by which DVC detects changes."""

    content = b""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("ETag", hashlib.md5(Page.content, usedforsecurity=False).hexdigest())
        self.send_header("Content-Length", str(len(Page.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(Page.content)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://user:secret@127.0.0.1:{server.server_port}/page.md"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_import_over_http_is_updated_without_showing_its_password(workspace: Workspace, address: str) -> None:
    Page.content = b"# One"
    import_url(workspace, address, "page.md")
    update_imports(workspace)
    assert (workspace.kb / "page.md").read_bytes() == b"# One"
    Page.content = b"# Two"
    [updated] = update_imports(workspace)
    assert (workspace.kb / "page.md").read_bytes() == b"# Two"
    assert updated.changed == 1
    assert "secret" not in updated.source


@pytest.mark.services
def test_an_import_from_a_bucket_is_updated(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("dvc_s3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        bucket = boto3.resource("s3").create_bucket(Bucket="handbook")
        bucket.put_object(Key="docs/a.md", Body=b"# One")
        import_url(workspace, "s3://handbook/docs")
        update_imports(workspace)
        assert (workspace.kb / "docs" / "a.md").read_bytes() == b"# One"
        bucket.put_object(Key="docs/a.md", Body=b"# Two, which is longer")
        [updated] = update_imports(workspace)
        assert (updated.source, updated.problem, updated.changed) == ("s3://handbook/docs", None, 1)
        assert (workspace.kb / "docs" / "a.md").read_bytes() == b"# Two, which is longer"
    finally:
        server.stop()


# --- hostile sources -------------------------------------------------------------------------------------------------


def tree(folder: Path) -> set[str]:
    """Every file and link below a folder, but for DVC's own and git's."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {path.as_posix() for path in paths if not {".dvc", ".git", ".ragtide"} & set(path.parts)}


def put_list(root: Path, *paths: str) -> str:
    """Put the list of a folder with these paths into the cache, each with the content of a.md; returns its hash."""
    content = hashlib.md5(b"# A\n\nOne.").hexdigest()
    cached_object(root, content).parent.mkdir(parents=True, exist_ok=True)
    cached_object(root, content).write_bytes(b"# A\n\nOne.")
    listed = json.dumps([{"md5": content, "relpath": path} for path in paths], sort_keys=True).encode()
    digest = hashlib.md5(listed).hexdigest() + ".dir"
    cached_object(root, digest).parent.mkdir(parents=True, exist_ok=True)
    cached_object(root, digest).write_bytes(listed)
    return digest


ESCAPES = ["../evil.md", "sub/../../evil.md", "../../../../../evil.md", "/ABSOLUTE/evil.md"]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_hostile_repository_writes_nothing_outside_of_the_folder(
    path: str, workspace: Workspace, tmp_path: Path
) -> None:
    repository = tmp_path / "hostile"
    write(repository / "docs" / "a.md", "# A\n\nOne.")
    for command in ("init --quiet", "config user.email a@b.c", "config user.name a"):
        subprocess.run(["git", *command.split()], cwd=repository, check=True)
    run_dvc(repository, ["init"])
    run_dvc(repository, ["add", "docs"])
    run_dvc(repository, ["remote", "add", "-d", "store", str(repository / ".dvc/cache")])
    subprocess.run(["git", "add", "-A"], cwd=repository, check=True)
    subprocess.run(["git", "commit", "--quiet", "-m", "honest"], cwd=repository, check=True)
    folder = workspace.imports / "kb"
    folder.mkdir(parents=True)
    run_dvc(workspace.root, ["import", repository.as_uri(), "docs", "-o", "data/imports/kb/docs"])
    update_imports(workspace)
    before = tree(tmp_path)

    digest = put_list(repository, "a.md", path.replace("/ABSOLUTE", str(tmp_path)))
    pointer = yaml.safe_load((repository / "docs.dvc").read_text(encoding="utf-8"))
    pointer["outs"][0] |= {"md5": digest, "nfiles": 2}
    (repository / "docs.dvc").write_text(yaml.safe_dump(pointer), encoding="utf-8")
    shutil.rmtree(repository / "docs")
    subprocess.run(["git", "commit", "--quiet", "-am", "hostile"], cwd=repository, check=True)
    [updated] = update_imports(workspace)
    assert tree(tmp_path) == before - {"hostile/docs/a.md"}
    assert documents(workspace) == {"own.md", "docs/a.md"}
    # DVC itself leaves an absolute path out.
    assert (updated.problem is None) is path.startswith("/")
    assert updated.problem is None or "leaves its folder" in updated.problem


@pytest.mark.parametrize("path", ESCAPES)
def test_a_hostile_list_in_the_cache_is_not_restored(
    path: str, workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    """`dvc checkout`, which restores the files of a source that does not answer, would write it outside."""
    folder = import_url(workspace, source)
    update_imports(workspace)
    pointer = folder.with_name("docs.dvc")
    content = yaml.safe_load(pointer.read_text(encoding="utf-8"))
    content["outs"][0]["md5"] = put_list(workspace.root, path.replace("/ABSOLUTE", str(tmp_path)))
    pointer.write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.rmtree(source)
    before = tree(tmp_path)
    [updated] = update_imports(workspace)
    assert updated.problem is not None
    assert "evil.md" in updated.problem
    assert tree(tmp_path) == before


def test_a_damaged_file_is_not_restored_for_a_source_that_does_not_answer(workspace: Workspace, source: Path) -> None:
    folder = import_url(workspace, source)
    update_imports(workspace)
    damaged = cached_object(workspace.root, hashlib.md5(b"# A\n\nOne.").hexdigest())
    damaged.chmod(0o644)
    damaged.write_bytes(b"# A\n\nRot.")
    shutil.rmtree(source)
    shutil.rmtree(folder)
    [updated] = update_imports(workspace)
    assert updated.problem is not None
    assert str(damaged) in updated.problem
    assert not folder.exists()
    assert (workspace.kb / "docs" / "a.md").read_text(encoding="utf-8") == "# A\n\nOne."


@pytest.mark.parametrize("output", ["../../../../evil", "/tmp/evil", "other"])
def test_a_pointer_that_writes_elsewhere_is_refused(output: str, workspace: Workspace, source: Path) -> None:
    folder = import_url(workspace, source)
    pointer = folder.with_name("docs.dvc")
    content = yaml.safe_load(pointer.read_text(encoding="utf-8"))
    content["outs"][0]["path"] = output
    pointer.write_text(yaml.safe_dump(content), encoding="utf-8")
    before = tree(workspace.root)
    [updated] = update_imports(workspace)
    assert updated.problem is not None
    assert output in updated.problem
    assert tree(workspace.root) == before


def test_a_link_that_leaves_a_local_source_is_refused(workspace: Workspace, source: Path, tmp_path: Path) -> None:
    import_url(workspace, source)
    update_imports(workspace)
    write(tmp_path / "secret.md", "# Secret")
    (source / "link.md").symlink_to(tmp_path / "secret.md")
    [updated] = update_imports(workspace)
    assert updated.problem is not None
    assert "link.md is a link that leaves the folder" in updated.problem
    assert documents(workspace) == {"own.md", "docs/a.md", "docs/b.md"}
