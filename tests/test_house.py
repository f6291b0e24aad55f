"""Tests of the code's own rules: layers, sizes, names and words. Modules are parsed, not imported."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parent.parent
# Outermost first: a package may import itself and every package after it.
ROOMS = (
    "ragtide.flows",
    "ragtide.pipelines.planning",
    "ragtide.pipelines.stages",
    "ragtide.pipelines.release",
    "ragtide.pipelines.reports",
    "ragtide.pipelines.project",
    "ragtide.pipelines.registry",
    "ragtide.pipelines.evidence",
    "ragtide.pipelines.evaluation",
    "ragtide.pipelines.build",
    "ragtide.pipelines.corpus",
    "ragtide.pipelines.training",
    "ragtide.pipelines.index",
    "ragtide.pipelines.models",
    "ragtide.pipelines.history",
    "ragtide.pipelines.data",
    "ragtide.pipelines.workspace",
    "ragtide.pipelines.sampling",
    "ragtide.pipelines.policy",
    "ragtide.pipelines.params",
    "ragtide.pipelines.lease",
    "ragtide.pipelines.disk",
    "ragtide.pipelines.records",
    "ragtide.pipelines.ports",
    "ragtide.pipelines.errors",
    "ragtide.pipelines.safe_text",
)
PREDICATES = ("where", "delete", "when_not_matched_by_source_delete")
FORMATTED = (ast.JoinedStr, ast.BinOp)
MEDIAN_LINES = 12
MAX_FUNCTION_LINES, MAX_FILE_LINES = 40, 400
MAX_FOLDER_FILES, MAX_FOLDER_LINES = 14, 2000
LANCEDB = {
    f"ragtide.pipelines.index.{name}" for name in ("maintenance", "rows", "search", "table", "vector_cache", "writer")
}


@dataclass(frozen=True)
class Module:
    """One file of the product, parsed."""

    name: str
    tree: ast.Module
    lines: int
    is_package: bool

    @property
    def room(self) -> str | None:
        return room_of(self.name)


def read(path: Path) -> Module:
    name = ".".join(("ragtide", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    text = path.read_text(encoding="utf-8")
    return Module(name, ast.parse(text), text.count("\n"), path.name == "__init__.py")


MODULES = [read(path) for folder in ("flows", "pipelines") for path in sorted((ROOT / folder).rglob("*.py"))]
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def room_of(name: str) -> str | None:
    return next((room for room in ROOMS if name == room or name.startswith(f"{room}.")), None)


def imports(module: Module) -> Iterator[str]:
    """Every module that is imported, in functions too; of `from a import b` both `a` and `a.b`, since b may be one."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.name} imports relatively"
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))


def importers(*libraries: str) -> set[str]:
    return {module.name for module in MODULES if {one.split(".")[0] for one in imports(module)} & set(libraries)}


def functions() -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for module in MODULES:
        yield from (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
            yield node


def is_built_from_values(argument: ast.AST) -> bool:
    """Whether a text is put together anywhere in an argument: f-string, `+`, `%`, `.format` or `.join`."""
    pasted = any(isinstance(node, FORMATTED) for node in ast.walk(argument))
    return pasted or any(calls(argument, "format", "join", "replace"))


def predicates(module: Module) -> list[ast.expr]:
    """What LanceDB is asked with; a tag is taken away by its name, which is none."""
    asked = [call for call in calls(module.tree, *PREDICATES) if not ast.unparse(call.func).endswith(".tags.delete")]
    return [argument for call in asked for argument in [*call.args, *(keyword.value for keyword in call.keywords)]]


def is_built_from_columns(argument: ast.expr) -> bool:
    """Whether a predicate is made on the spot over `col(...)`: a name could hide where a text comes from."""
    makers = {
        node.func.id for node in ast.walk(argument) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return isinstance(argument, ast.Call | ast.Compare) and "col" in makers


def runs_dvc(module: Module) -> bool:
    """Whether a list or a tuple in the module holds "-m" and then "dvc"."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.List | ast.Tuple):
            words = [one.value if isinstance(one, ast.Constant) else None for one in node.elts]
            if ("-m", "dvc") in pairwise(words):
                return True
    return False


@every_module
def test_imports_run_one_way(module: Module) -> None:
    if module.room is None:
        assert module.name == "ragtide.pipelines"
        assert not list(imports(module))
        return
    outer = set(ROOMS[: ROOMS.index(module.room)])
    assert not {name for name in imports(module) if room_of(name) in outer}


@every_module
def test_what_is_imported_of_the_product_has_a_room(module: Module) -> None:
    own = {name for name in imports(module) if name.split(".")[0] in ("ragtide", "flows", "pipelines")}
    assert {name for name in own if room_of(name) is None} <= {"ragtide", "ragtide.pipelines"}


@pytest.mark.parametrize(
    ("libraries", "doors"),
    [
        (["lancedb", "lance"], LANCEDB),
        (["pyarrow"], {f"ragtide.pipelines.index.{name}" for name in ("rows", "vector_cache", "writer")}),
        (["openvino", "nncf"], {"ragtide.pipelines.models.openvino_export"}),
        (["datasets"], {"ragtide.pipelines.training.embedder_tuning"}),
        (
            ["mlflow"],
            {
                f"ragtide.pipelines.registry.{name}"
                for name in ("client", "cycles", "experiment", "releases", "runs", "traces")
            }
            | {f"ragtide.pipelines.release.{name}" for name in ("mlflow_model", "served")}
            | {"ragtide.pipelines.evaluation.judge"},
        ),
        (["diskcache"], {"ragtide.pipelines.evaluation.assistant"}),
        (["rapidfuzz"], {"ragtide.pipelines.training.leakage"}),
        (["markdownify", "bs4"], {"ragtide.pipelines.data.formats.html"}),
        (["pdfminer"], {"ragtide.pipelines.data.formats.pdf"}),
        (["openpyxl", "markitdown"], {"ragtide.pipelines.data.formats.office"}),
        (["dvc", "dvc_data", "dvc_objects"], set()),
    ],
)
def test_a_heavy_library_has_one_door(libraries: list[str], doors: set[str]) -> None:
    assert importers(*libraries) == doors


def test_only_the_modules_that_run_a_model_import_its_libraries() -> None:
    names = ("openvino_export", "generator", "lora", "reranker", "weights")
    rooms = {f"ragtide.pipelines.models.{name}" for name in names} | {"ragtide.pipelines.training.embedder_tuning"}
    assert importers("torch", "transformers", "peft", "sentence_transformers") == rooms


def test_prefect_is_imported_in_the_flows_alone() -> None:
    assert {name.split(".")[1] for name in importers("prefect")} == {"flows"}


def test_dvc_is_run_by_the_snapshot_alone() -> None:
    assert {module.name for module in MODULES if runs_dvc(module)} == {"ragtide.pipelines.data.dvc"}


@every_module
def test_a_module_opens_with_a_statement_and_not_a_question(module: Module) -> None:
    first = (ast.get_docstring(module.tree) or "").split("\n\n")[0]
    assert first.endswith((".", ":"))
    assert "?" not in first


@pytest.mark.parametrize(
    ("argument", "built"),
    [
        ("f'document = {name}'", True),
        ("'document = ' + name", True),
        ("'document = %s' % name", True),
        ("'document = {}'.format(name)", True),
        ("col('document').isin(sorted(names))", False),
    ],
)
def test_a_predicate_that_holds_pasted_values_is_told_from_one_that_does_not(argument: str, built: bool) -> None:
    assert is_built_from_values(ast.parse(argument, mode="eval").body) is built


@pytest.mark.parametrize(
    ("argument", "built"),
    [
        ("col('document').isin(names)", True),
        ("col('at') < lit(before)", True),
        ("predicate", False),
        ("'document = 1'", False),
        ("text.strip()", False),
    ],
)
def test_a_predicate_over_columns_is_told_from_a_text(argument: str, built: bool) -> None:
    assert is_built_from_columns(ast.parse(argument, mode="eval").body) is built


def test_values_never_become_query_text() -> None:
    asking = [module for module in MODULES if module.name in LANCEDB]
    found = [(module.name, argument) for module in asking for argument in predicates(module)]
    assert len(found) >= 6
    assert {name for name, _ in found} <= LANCEDB
    assert not [(name, ast.unparse(one)) for name, one in found if is_built_from_values(one)]
    assert not [(name, ast.unparse(one)) for name, one in found if not is_built_from_columns(one)]


def test_nobody_else_asks_a_table() -> None:
    others = [module for module in MODULES if module.name not in LANCEDB]
    asked = {module.name for module in others if list(calls(module.tree, "where", "merge_insert", "open_table"))}
    assert asked == set()


@every_module
def test_no_module_is_a_drawer_for_everything(module: Module) -> None:
    assert not {"utils", "util", "common", "helpers", "misc"} & set(module.name.split("."))


# --- sizes and names -----------------------------------------------------------------------------------------------


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_functions_are_short() -> None:
    lengths = [lines_of(function) for function in functions()]
    assert len(lengths) > 100
    assert median(lengths) <= MEDIAN_LINES


@every_module
def test_no_function_is_longer_than_a_screen(module: Module) -> None:
    found = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not [(node.name, lines_of(node)) for node in found if lines_of(node) > MAX_FUNCTION_LINES]


@every_module
def test_no_file_is_long(module: Module) -> None:
    assert module.lines <= MAX_FILE_LINES


def test_no_folder_is_crowded() -> None:
    """`__init__.py` does not count: it holds a docstring."""
    folders: dict[str, list[Module]] = {}
    for module in MODULES:
        if not module.is_package:
            folders.setdefault(module.name.rpartition(".")[0], []).append(module)
    crowded = {name: len(found) for name, found in folders.items() if len(found) > MAX_FOLDER_FILES}
    long = {
        name: total for name, found in folders.items() if (total := sum(one.lines for one in found)) > MAX_FOLDER_LINES
    }
    assert not crowded
    assert not long


def test_no_public_name_stands_in_two_modules() -> None:
    places: dict[str, set[str]] = {}
    for module in MODULES:
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith(
                "_"
            ):
                places.setdefault(node.name, set()).add(module.name)
    assert not {name: sorted(modules) for name, modules in places.items() if len(modules) > 1}


# --- words ---------------------------------------------------------------------------------------------------------

# Words of the project's former dialect. docs/glossary.md has the terms that replace them.
BANNED_TEXT = re.compile(
    r"""\b(
      anew | nought | mend(s|ed|ing)? | upkeep | let\ be | the\ world\ has\ moved | what\ of | foret(old|ells?)
    | (is|are|was|were|be)\ told | set(s|ting)?\ aside | lessons? | (un)?taught | learnt | pupils? | examiners?
    | probes? | canar(y|ies) | surpris\w+ | news | (bring(s|ing)?|brought)\ up | the\ door | (come|comes|came)\ back
    | gone | right\ passages? | near\ miss(es)? | (go|goes|going|went)\ back | look(s|ed)?\ after
    | (came|comes?)\ of | in\ earnest | as\ it\ comes | laws?\ \d+ | whoever | riddl\w+ | what\ is\ live
    | (a|the|each|every|next|last|this|per|one)\ turns?(?!\ (in|on|off|to|of\ the\ (user|conversation)))
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
ALLOWED_TEXT = re.compile(r"deleted-is-gone", re.IGNORECASE)
BANNED_NAME_PARTS = {
    *("anew", "canary", "desk", "door", "examiner", "foretold", "gone", "halves", "lesson", "lessons", "mend", "news"),
    *("nought", "probe", "probes", "pupil", "refusal", "refused", "surprise", "taught", "tells", "told", "upkeep"),
}
# A variable says what it holds.
BANNED_NAMES = {"found", "one", "said", "some", "told"}


def texts(source: str) -> Iterator[str]:
    """Every string constant, docstrings included, and every comment."""
    yield from (node.value for node in ast.walk(ast.parse(source)) if is_text(node))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def bound_names(source: str) -> Iterator[str]:
    """Every function, class, argument, assigned name and assigned attribute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def name_parts(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def banned(source: str) -> set[str]:
    """The banned words of a module."""
    found = {match[0] for text in texts(source) for match in BANNED_TEXT.finditer(ALLOWED_TEXT.sub("", text))}
    names = set(bound_names(source))
    return found | (names & BANNED_NAMES) | {name for name in names if name_parts(name) & BANNED_NAME_PARTS}


@pytest.mark.parametrize("path", sorted(p for d in ("flows", "pipelines") for p in (ROOT / d).rglob("*.py")))
def test_no_module_uses_the_former_dialect(path: Path) -> None:
    assert banned(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "source",
    ['"""What was told is set aside."""', "# mend it", "x = 'as it comes'", "told = 1", "class Lesson: ...", "one = 1"],
)
def test_a_module_in_the_former_dialect_fails(source: str) -> None:
    assert banned(source)
