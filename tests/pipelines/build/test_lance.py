"""Is LanceDB imported as it is, but for checks that nobody needs? And is pydantic left as it was?"""

from __future__ import annotations

import pydantic
import pytest

from pipelines.build import lance


def test_pydantic_checks_calls_again_once_lancedb_is_imported() -> None:
    @pydantic.validate_call
    def double(number: int) -> int:
        return 2 * number

    assert lance.lancedb.__version__
    with pytest.raises(pydantic.ValidationError):
        double("many")  # type: ignore[arg-type]


@pytest.mark.parametrize("decorate", ["plain", "called"])
def test_within_the_import_a_function_stays_what_it_is(decorate: str) -> None:
    with lance._unchecked():
        wrap = pydantic.validate_call if decorate == "plain" else pydantic.validate_call(validate_return=True)

        @wrap
        def double(number: int) -> int:
            return 2 * number

    assert double("ha") == "haha"  # type: ignore[arg-type,comparison-overlap]


def test_an_import_that_fails_leaves_pydantic_as_it_was() -> None:
    before = pydantic.validate_call
    with pytest.raises(ImportError), lance._unchecked():
        raise ImportError
    assert pydantic.validate_call is before
