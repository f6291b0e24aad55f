"""What do all tests share? The offline switches, and projects made of small documents with the counting fakes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ragtide.flows.environment import prepare_environment
from ragtide.pipelines.params import Params
from tests import fakes

ROOT = Path(__file__).parent.parent
FAKES = {
    "embed": {"model": "tests.fakes:CountingEmbedder"},
    "generate": {"model": "tests.fakes:CountingReader"},
    "finetune": {"trainer": "tests.fakes:CountingTrainer", "min_examples": 2},
}

# One Prefect database a test run: the ephemeral server starts once.
_HOME = tempfile.TemporaryDirectory(prefix="ragtide-prefect-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _HOME.name
# A defect is to fail a test as what it is.
os.environ["RAGTIDE_TRACEBACKS"] = "1"
prepare_environment(ROOT)

# A worker of pytest-xdist keeps to one core: models that take all of them slow each other down many times over.
# macOS cannot say so.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if _WORKER and hasattr(os, "sched_setaffinity"):
    _CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_CORES[int(_WORKER.removeprefix("gw")) % len(_CORES)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: of two workers, none is to wait for the other's last long file."""
    slow = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("services")}
    items.sort(key=lambda item: item.path not in slow)


def write_project(root: Path, **blocks: dict[str, object]) -> Path:
    """A project's folder with params.yaml (the fakes, and what is passed), dvc.yaml and empty data folders."""
    for folder in ("kb", "train", "golden"):
        (root / "data" / folder).mkdir(parents=True)
    settings = Params.model_validate(FAKES | blocks).model_dump(mode="json")
    (root / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", root)
    fakes.forget()
    return root


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Path]:
    """Makes projects below the test's own folder."""

    def make(name: str = "project", **blocks: dict[str, object]) -> Path:
        return write_project(tmp_path / name, **blocks)

    return make
