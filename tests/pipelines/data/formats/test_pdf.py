"""Tests of PDF files as text."""

from __future__ import annotations

import io

import pytest

from ragtide.pipelines.data.formats.converter import convert_document
from tests.pipelines.data.formats.samples import (
    error_of,
    pdf,
)


def test_the_pages_of_a_pdf_are_paragraphs_with_whole_words() -> None:
    pytest.importorskip("markitdown")
    assert convert_document("a.pdf", pdf("The port\nis 8080.", "Page two.")) == "The port\nis 8080.\n\nPage two."


def test_ligatures_in_a_pdf_become_letters() -> None:
    pytest.importorskip("markitdown")
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    figure = Figure()
    figure.text(0.1, 0.5, "The ef\ufb01cient port")
    figure.savefig(stream, format="pdf")
    assert convert_document("a.pdf", stream.getvalue()) == "The efficient port"


def test_a_pdf_without_text_is_an_error() -> None:
    pytest.importorskip("markitdown")
    assert error_of("a.pdf", pdf("", "")) == "holds no text: it may be scanned"


def test_a_password_protected_pdf_is_an_error() -> None:
    pytest.importorskip("markitdown")
    lock = f"<< /Filter /Standard /V 1 /R 2 /O ({'o' * 32}) /U ({'u' * 32}) /P -4 >>"
    locked = pdf("The port is 8080.", trailer=f"/Encrypt {lock} /ID [(a) (a)]")
    assert error_of("a.pdf", locked) == "is protected by a password: save it without one"


def test_a_truncated_pdf_is_an_error() -> None:
    long = pdf(*["The port is 8080."] * 20)
    assert error_of("a.pdf", long[: len(long) // 2]) == "is truncated: the end of the PDF is missing"


def test_another_file_named_pdf_is_an_error() -> None:
    assert error_of("a.pdf", b"The port is 8080.") == "is not a PDF"


def test_a_damaged_pdf_is_an_error_with_the_librarys_message() -> None:
    pytest.importorskip("markitdown")
    damaged = b"%PDF-1.4\n" + b"rubbish " * 20 + b"%%EOF"
    assert error_of("a.pdf", damaged).startswith("its converter failed: PDFSyntaxError: No /Root object")
