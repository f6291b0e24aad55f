"""Tests of the package: one import root, the wheel, and projects whose folders have common names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import FAKES
from tests.sites import FIRST, Site

ROOT = Path(__file__).parent.parent
# Folder names that a user's project is likely to have, and that an earlier version installed as top-level packages.
COMMON = ("flows", "pipelines", "tests", "demo")
# The fakes under a module name of the project's own, since `tests` is one of its folders.
OWN = "assistant_models"


def own_models() -> dict[str, dict[str, object]]:
    """The settings of the counting fakes, loaded from the project's own module."""
    renamed = {
        block: {
            key: value.replace("tests.fakes", OWN) if isinstance(value, str) else value for key, value in fields.items()
        }
        for block, fields in FAKES.items()
    }
    return {block: dict(fields) for block, fields in renamed.items()}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A project with packages of common names that fail when they are imported."""
    site = Site.make(tmp_path / "project", **own_models())
    shutil.copy(ROOT / "tests" / "fakes.py", site.root / f"{OWN}.py")
    for name in COMMON:
        (site.root / name).mkdir()
        (site.root / name / "__init__.py").write_text(
            f"raise AssertionError('the project\\'s own {name} was imported')\n"
        )
    # The project's folder comes first, as it does for `python -m` and for Prefect's worker.
    site.environment["PYTHONPATH"] = os.pathsep.join([str(site.root), str(ROOT)])
    return site


@pytest.mark.slow
def test_run_works_in_a_project_whose_folders_have_common_names(site: Site) -> None:
    assert f"release {FIRST}" in site.ragtide("run")
    assert site.live_release() == FIRST


@pytest.mark.services
@pytest.mark.long
@pytest.mark.timeout(900)
def test_services_and_a_deployed_run_work_there_too(site: Site) -> None:
    with site.up():
        site.ragtide("trigger")
        assert site.becomes_live(FIRST)


def test_no_module_is_importable_under_a_second_root() -> None:
    script = (
        "import pkgutil, sys, ragtide\n"
        "names = [m.name for m in pkgutil.walk_packages(ragtide.__path__, 'ragtide.')]\n"
        "assert len(names) > 100, len(names)\n"
        "import ragtide.flows.cli.main\n"
        "assert not {'flows', 'pipelines'} & {name.partition('.')[0] for name in sys.modules}\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], cwd=ROOT.parent, env=environment, check=True)


@pytest.mark.long
def test_the_wheel_made_from_the_sdist_holds_one_package_with_templates_and_types(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "artifacts", "__pycache__")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in files if ".dist-info" not in name} == {"ragtide"}
    assert {
        "ragtide/py.typed",
        "ragtide/flows/keep_current.py",
        "ragtide/pipelines/policy/decide.py",
        "ragtide/templates/params.yaml",
        "ragtide/templates/dvc.yaml",
        "ragtide/templates/prefect.yaml",
    } <= files
