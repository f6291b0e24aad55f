"""Tests of error messages: one line that names the key or the reason."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ragtide.pipelines.errors import UserError, summarize_error


class Inner(BaseModel):
    """A part with a validator."""

    model_config = ConfigDict(extra="forbid")
    size: int = 0
    kind: Literal["large", "small"] = "small"

    @field_validator("size")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("an odd size")
        return value


class Outer(BaseModel):
    """A model with a list of parts."""

    name: str = ""
    parts: tuple[Inner, ...] = ()


def validation_error(content: object) -> ValidationError:
    with pytest.raises(ValidationError) as problem:
        Outer.model_validate(content)
    return problem.value


@settings(derandomize=True, deadline=None)
@given(st.text(min_size=1))
def test_a_message_becomes_one_line_with_every_word(text: str) -> None:
    line = summarize_error(RuntimeError(text))
    assert len(line.splitlines()) <= 1
    assert line.split() == (text.split() or ["RuntimeError"])
    assert line == line.strip()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": 3}, "name: Input should be a valid string"),
        ({"parts": [{}, {"size": "many"}]}, "parts.1.size: Input should be a valid integer"),
        ({"parts": [{"colour": "red"}]}, "parts.0.colour: Extra inputs are not permitted"),
        ({"parts": [{"size": 3}]}, "parts.0.size: Value error, an odd size"),
        ({"parts": [{"kind": "medium"}]}, "parts.0.kind: Input should be 'large' or 'small'"),
        ({"parts": 3}, "parts: Input should be a valid tuple"),
        ([], "Input should be a valid dictionary or instance of Outer"),
    ],
)
def test_an_invalid_field_is_named_by_its_path(content: object, message: str) -> None:
    assert summarize_error(validation_error(content)).startswith(message)


def test_the_first_of_several_invalid_fields_is_named() -> None:
    line = summarize_error(validation_error({"name": 3, "parts": [{"size": 1}]}))
    assert line.startswith("name: ")
    assert "parts" not in line


def test_invalid_json_is_described_in_one_line() -> None:
    with pytest.raises(ValidationError) as problem:
        Outer.model_validate_json("{\n\n")
    assert summarize_error(problem.value).startswith("Invalid JSON")
    assert "\n" not in summarize_error(problem.value)


def test_an_os_error_is_reduced_to_its_reason(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as problem:
        (tmp_path / "nothing").read_bytes()
    assert summarize_error(problem.value) == "No such file or directory"


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/secret"), "Permission denied"),
        (OSError("the store went\n  away"), "the store went away"),
        (ValueError("two\nlines"), "two lines"),
    ],
    ids=["with a reason", "without a reason", "no file at all"],
)
def test_other_errors_keep_their_message(problem: Exception, message: str) -> None:
    assert summarize_error(problem) == message


def test_a_yaml_error_of_several_lines_becomes_one(tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError) as problem:
        yaml.safe_load("a: {b\nc: d")
    assert str(problem.value).count("\n") >= 2
    line = summarize_error(problem.value)
    assert "\n" not in line
    assert "line 2" in line


def test_a_user_error_is_its_message() -> None:
    assert str(UserError("a.md is not UTF-8: save it as UTF-8")) == "a.md is not UTF-8: save it as UTF-8"


@pytest.mark.parametrize("kind", [ValueError, OSError, RuntimeError, KeyError])
def test_a_user_error_is_no_builtin_error(kind: type[Exception]) -> None:
    assert not issubclass(UserError, kind)
    assert issubclass(UserError, Exception)
