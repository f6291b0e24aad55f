"""Tests of Office files as Markdown, and of damaged, encrypted and hostile ones."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.data.formats import office
from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.data.formats.office import MAX_UNPACKED_BYTES
from tests.pipelines.data.formats.samples import (
    DOCTYPE,
    OFFICE,
    OLD_OFFICE,
    declaring,
    docx,
    error_of,
    outcome,
    paragraph,
    parts_of,
    pptx,
    sample,
    slide,
    xlsx,
    zipped,
)


def test_word_titles_and_headings_become_headings_in_any_language() -> None:
    pytest.importorskip("markitdown")
    body = paragraph("Handbook", "Titel") + paragraph("Ports", "berschrift1") + paragraph("Set max_ports to *80*.")
    assert convert_document("a.docx", docx(body)) == "# Handbook\n\n## Ports\n\nSet max_ports to *80*."


def test_the_first_row_of_a_word_table_is_its_header() -> None:
    pytest.importorskip("markitdown")
    rows = [["name", "port"], ["web", "8080"]]
    cells = ["".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) for row in rows]
    table = "".join(f"<w:tr>{row}</w:tr>" for row in cells)
    text = convert_document("a.docx", docx(f"{paragraph('Above.')}<w:tbl>{table}</w:tbl>{paragraph('Below.')}"))
    assert text == "Above.\n\n| name | port |\n| --- | --- |\n| web | 8080 |\n\nBelow."


def test_a_slide_becomes_a_section_with_its_notes() -> None:
    pytest.importorskip("markitdown")
    show = pptx(slide("Ports\vof the web", "8080\n443", notes="Say so."), slide("", "No title"), slide("The end"))
    assert convert_document("a.pptx", show) == (
        "# Ports of the web\n\n8080\n443\n\n### Notes:\nSay so.\n\n# Slide 2\n\nNo title\n\n# The end\n\nThe end"
    )


def test_a_slide_keeps_tables_and_picture_descriptions_but_no_picture_names() -> None:
    pytest.importorskip("markitdown")
    image = pytest.importorskip("PIL.Image")

    def draw(slide: Any) -> None:
        slide.shapes.title.text = "Ports"
        table = slide.shapes.add_table(2, 1, 0, 10**6, 10**6, 10**6).table
        table.cell(0, 0).text, table.cell(1, 0).text = "name", "web"
        for description in ("A map of ports", "", "image.png"):
            stream = io.BytesIO()
            image.new("RGB", (4, 4)).save(stream, "PNG")
            picture = slide.shapes.add_picture(stream, 0, 10**7)
            picture._element._nvXxPr.cNvPr.set("descr", description)

    assert convert_document("a.pptx", pptx(draw)) == "# Ports\n\n| name |\n| --- |\n| web |\n\nA map of ports"


def test_a_sheet_becomes_a_table_with_cells_as_displayed() -> None:
    pytest.importorskip("markitdown")
    day, hour = datetime(2030, 1, 2), datetime(2030, 1, 2, 3, 4)
    rows = [["Prices"], [], ["name", None, "price", "since"], ["web", None, 3.0, day], ["mail", None, 0.1 + 0.2, hour]]
    assert convert_document("a.xlsx", xlsx(Prices=rows, Blank=[], Notes=[["a | b"], [None], [True]])) == (
        "# Prices\n\nPrices\n\n| name | price | since |\n| --- | --- | --- |\n| web | 3 | 2030-01-02 |\n"
        "| mail | 0.3 | 2030-01-02 03:04:00 |\n\n# Notes\n\n| a \\| b |\n| --- |\n| True |"
    )


def test_empty_columns_before_a_distant_cell_are_dropped() -> None:
    pytest.importorskip("markitdown")
    far: list[object] = [None] * 16383
    assert (
        convert_document("a.xlsx", xlsx(Far=[["near"], [*far, "far"]]))
        == "# Far\n\n| near |  |\n| --- | --- |\n|  | far |"
    )


@pytest.mark.parametrize("ending", OFFICE)
def test_an_office_file_without_text_is_an_error(ending: str) -> None:
    pytest.importorskip("markitdown")
    blank = {".docx": lambda: docx(paragraph(" ")), ".pptx": pptx, ".xlsx": lambda: xlsx(Blank=[[None]])}
    assert error_of(f"a{ending}", blank[ending]()) == "holds no text"


@pytest.mark.parametrize("ending", OFFICE)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_office_file_is_an_error(ending: str, share: float) -> None:
    content = sample(ending)
    assert (
        error_of(f"a{ending}", content[: int(len(content) * share)]) == f"is damaged, truncated, or not a {ending} file"
    )


@pytest.mark.parametrize("ending", OFFICE)
def test_an_office_file_with_a_damaged_part_is_an_error(ending: str) -> None:
    content = bytearray(sample(ending))
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        largest = max(package.infolist(), key=lambda part: (part.filename.endswith(".xml"), part.compress_size))
    content[largest.header_offset + 30 + len(largest.filename) + largest.compress_size // 2] ^= 0xFF
    assert error_of(f"a{ending}", bytes(content)) == f"is damaged, truncated, or not a {ending} file"


def test_a_word_file_with_broken_xml_is_an_error_and_logs_nothing() -> None:
    parts = parts_of(sample(".docx"))
    parts["word/document.xml"] = parts["word/document.xml"].replace(b"</w:pPr>", b":p><wpPr>", 1)
    assert error_of("a.docx", zipped(parts)) == "holds no text"


@pytest.mark.parametrize("ending", OFFICE)
def test_another_file_with_an_office_ending_is_an_error(ending: str) -> None:
    assert error_of(f"a{ending}", b"The port is 8080.") == f"is damaged, truncated, or not a {ending} file"
    other = sample(".xlsx" if ending == ".docx" else ".docx")
    assert error_of(f"a{ending}", other).startswith("its converter failed: ")


@pytest.mark.parametrize("ending", OFFICE)
def test_an_encrypted_office_file_is_an_error(ending: str) -> None:
    encrypted = OLD_OFFICE + bytes(500) + "EncryptedPackage".encode("utf-16-le") + bytes(500)
    assert error_of(f"a{ending}", encrypted) == "is protected by a password: save it without one"
    locked = zipped({"[Content_Types].xml": b"<Types/>"}).replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1")
    assert error_of(f"a{ending}", locked) == "is protected by a password: save it without one"


@pytest.mark.parametrize("ending", OFFICE)
def test_a_file_of_an_old_office_version_is_an_error(ending: str) -> None:
    assert error_of(f"a{ending}", OLD_OFFICE + bytes(500)) == f"is a file of an old Office version: save it as {ending}"


@pytest.mark.parametrize("ending", OFFICE)
def test_a_zip_bomb_is_an_error_before_it_is_unpacked(ending: str) -> None:
    size = MAX_UNPACKED_BYTES[ending] + 1
    bomb = zipped({"word/document.xml": bytes(size)})
    assert len(bomb) < 200_000
    assert f"unpacks from {len(bomb)} to {size} bytes" in error_of(f"a{ending}", bomb)


def test_a_large_file_with_a_normal_ratio_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = sample(".xlsx")
    monkeypatch.setitem(MAX_UNPACKED_BYTES, ".xlsx", 10)
    assert convert_document("a.xlsx", content)


@pytest.mark.parametrize("ending", OFFICE)
def test_an_office_file_that_defines_entities_is_an_error(ending: str) -> None:
    main = {".docx": "word/document.xml", ".pptx": "ppt/presentation.xml", ".xlsx": "xl/workbook.xml"}[ending]
    parts = parts_of(sample(ending))
    with_entity = declaring(parts[main], DOCTYPE)
    for declared in (with_entity, with_entity.decode().encode("utf-16")):
        content = zipped(parts | {main: declared})
        assert error_of(f"a{ending}", content) == "defines XML entities, which no Office file does"


@pytest.mark.parametrize("ending", OFFICE)
def test_the_libraries_resolve_no_external_entity(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET", encoding="utf-8")
    monkeypatch.setattr(office, "_check_package", lambda content, ending: None)
    doctype = DOCTYPE.replace("file:///secret", secret.as_uri())
    parts = parts_of(sample(ending))
    for name, part in parts.items():
        if b"8080" in part and name.endswith(".xml"):
            parts[name] = declaring(part.replace(b"8080", b"&x;"), doctype)
    assert any(b"&x;" in part for part in parts.values())
    assert "SECRET" not in outcome(f"a{ending}", zipped(parts))[1]
