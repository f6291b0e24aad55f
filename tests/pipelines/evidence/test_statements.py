"""Tests of the strict comparison of documents: what may be another fact, and what is another form."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.evidence.text_changes import compare_texts
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Chunk
from tests.factories import document

PAGE = """# Guide

The cluster is supported in Europe. It takes 1,000 nodes - "really".

## Limits

- Owner: Ada
- Port: 8080

| Plan | Price |
| --- | --- |
| Basic | 10 |
| Pro | 25 |

```
cp -r source target
stop
```

See [the site](https://example.com/3.1/guide) and [the map](maps/all.md).

1. Open the valve.
2. Wait ten minutes.
"""
ROWS = "<tr><th>Plan</th><th>Price</th></tr><tr><td>Basic</td><td>10</td></tr>"
HTML = f"<h1>Tool</h1><p>It ends on <b>3 May</b>.</p><table>{ROWS}</table>"
CHINESE = "# 指南\n\n该集群在欧洲受支持。负责人是王芳。\n"


def chunks(name: str, text: str) -> list[Chunk]:
    return chunk_document(document(name, convert_document(name, text.encode())), ChunkParams())


def substantive(before: dict[str, str], after: dict[str, str], held: tuple[str, ...] = ()) -> int:
    sides = ({name: chunks(name, text) for name, text in side.items()} for side in (before, after))
    return compare_texts(*sides, held).substantive


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("is supported", "is not supported"),
        ("nodes", "modes"),
        ("Ada", "Ida"),
        ("## Limits", "## Offers"),
        ("# Guide", "# Former guide"),
        ("| Basic | 10 |", "| 10 | Basic |"),
        ("| 25 |", "|  |"),
        ("| 25 |", "| - |"),
        ("| Pro | 25 |\n", ""),
        ("cp -r", "cp -R"),
        ("cp -r source target\nstop", "stop\ncp -r source target"),
        ("example.com/3.1", "example.com/3.2"),
        ("https://example.com/3.1/guide", "mailto:ada@example.com"),
        ("1. Open the valve.\n2. Wait ten minutes.", "1. Wait ten minutes.\n2. Open the valve."),
        ("1,000 nodes", "-1,000 nodes"),
        ("1,000 nodes", "≤ 1,000 nodes"),
        ("1,000 nodes", "1,000€ nodes"),
        ("The cluster is supported in Europe.", "~~The cluster is supported in Europe.~~"),
        (' It takes 1,000 nodes - "really".', ""),
    ],
)
def test_what_may_be_another_fact_is_substantive(old: str, new: str) -> None:
    assert old in PAGE
    assert substantive({"a.md": PAGE}, {"a.md": PAGE.replace(old, new)}) >= 1


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("a.html", HTML, HTML.replace("<td>10<", "<td>12<")),
        ("a.html", HTML, HTML.replace("ends", "begins")),
        ("a.csv", "plan,price\nBasic,10\nPro,25\n", "plan,price\nBasic,10\nPro,26\n"),
        ("a.csv", "plan,price\nBasic,10\n", "plan,discount\nBasic,10\n"),
        ("a.md", CHINESE, CHINESE.replace("受支持", "不受支持")),
        ("a.md", CHINESE, CHINESE.replace("王芳", "王丽")),
        ("a.md", "# 안내\n\n회의는 월요일에 있습니다.\n", "# 안내\n\n회의는 화요일에 있습니다.\n"),
        ("a.rst", "Guide\n=====\n\n:Port: 80\n", "Guide\n=====\n\n:Port: 81\n"),
        ("a.txt", "The owner is maria.\n", "The owner is marta.\n"),
        ("a.json", '{"limit": 40, "active": true}', '{"limit": 40, "active": false}'),
        ("a.md", "# The office is open\n", "# The office is closed\n"),
        ("a.md", "---\nowner: Ada\n---\n\n# A\n\nText.\n", "---\nowner: Bob\n---\n\n# A\n\nText.\n"),
    ],
)
def test_a_fact_of_any_format_is_substantive(name: str, before: str, after: str) -> None:
    assert substantive({name: before}, {name: after}) >= 1


@pytest.mark.parametrize(
    "after",
    [
        PAGE.replace("\n", "\r\n"),
        f"\ufeff{PAGE}",
        PAGE.replace("\n", "  \n"),
        PAGE.replace("Europe. It", "Europe.\nIt"),
        PAGE.replace("The cluster", "the CLUSTER"),
        PAGE.replace("## Limits", "## 1. LIMITS {#limits}"),
        PAGE.replace("## Limits", "## A) Limits ##"),
        PAGE.replace("- Owner", "* **Owner**").replace("- Port", "+ Port"),
        PAGE.replace("1. Open", "1) Open").replace("2. Wait", "2) Wait"),
        PAGE.replace("- Owner: Ada\n- Port: 8080", "- Port: 8080\n- Owner: Ada"),
        PAGE.replace("| Basic | 10 |\n| Pro | 25 |", "| Pro  |   25 |\n| Basic |  10 |"),
        PAGE.replace('1,000 nodes - "really"', "1000\u00a0nodes – “really”"),
        PAGE.replace("cluster", "clus\u00adter"),
        PAGE.replace("https://example.com/3.1/guide", "http://example.com/3.1/guide/"),
        PAGE.replace("maps/all.md", "../../maps/all.md"),
        PAGE.replace("```", "~~~"),
        f"{PAGE}\n<!-- a remark for those who write -->\n",
    ],
)
def test_another_form_is_not_substantive(after: str) -> None:
    assert after != PAGE
    assert substantive({"a.md": PAGE}, {"a.md": after}) == 0
    assert substantive({"a.md": PAGE}, {"moved/b.md": after}) == 0


def test_the_order_of_fields_and_the_form_of_letters_are_not_substantive() -> None:
    fields = ('{"name": "pump", "limit": 40, "active": true}', '{"active": true, "limit": 40, "name": "pump"}')
    toml = ('+++\ntitle = "x y"\nowner = "ada"\n+++\n\n# A\n', '+++\nowner = "ada"\ntitle = "x y"\n+++\n\n# A\n')
    text = "# Café\n\nDas Gerät für Zürich ist müde, ４０ Stück.\n"
    assert substantive({"a.json": fields[0]}, {"a.json": fields[1]}) == 0
    assert substantive({"a.md": toml[0]}, {"a.md": toml[1]}) == 0
    assert substantive({"a.md": text}, {"a.md": unicodedata.normalize("NFD", text).replace("４０", "40")}) == 0


def test_a_number_before_a_single_heading_may_be_a_fact() -> None:
    assert substantive({"a.md": "# 5 rules\n\nBe kind.\n"}, {"a.md": "# 6 rules\n\nBe kind.\n"}) == 1
    numbered = "# Guide\n\n## {} Start\n\nBegin.\n\n## {} End\n\nStop.\n"
    assert substantive({"a.md": numbered.format(1, 2)}, {"a.md": numbered.format(2, 3)}) == 0


def test_split_and_merged_pages_say_the_same() -> None:
    first, second = PAGE.split("## Limits")
    parts = {"a.md": first, "b.md": f"# Guide\n\n## Limits{second}"}
    assert substantive({"a.md": PAGE}, parts) == 0
    assert (
        substantive({"a.md": "# A\n\nOne.\n", "b.md": "# B\n\nTwo.\n"}, {"a.md": "# A\n\nOne.\n\n# B\n\nTwo.\n"}) == 0
    )


def test_a_fact_that_moved_under_another_heading_or_page_is_substantive() -> None:
    lists = "# Rules\n\n## Allowed\n\n- cats\n- big dogs\n\n## Forbidden\n\n- birds\n"
    other = "# Rules\n\n## Allowed\n\n- cats\n\n## Forbidden\n\n- birds\n- big dogs\n"
    assert substantive({"a.md": lists}, {"a.md": other}) >= 1
    pages = {"a.md": "# Device\n\n## Port\n\n80\n", "b.md": "# Device\n\n## Port\n\n90\n"}
    assert substantive(pages, pages | {"a.md": pages["b.md"]}) >= 1


def test_what_a_held_document_says_is_neither_new_nor_missing() -> None:
    assert substantive({"a.md": PAGE}, {}) >= 1
    assert substantive({"a.md": PAGE}, {}, held=("a.md",)) == 0
    assert substantive({"a.md": PAGE}, {"b.md": PAGE + "\nOne more.\n"}, held=("a.md",)) >= 1


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_texts_can_be_compared_and_equal_ones_are_equal(before: str, after: str) -> None:
    pages = [
        [Chunk(document="a.md", position=0, heading="", text=text, digest="", document_digest="")]
        for text in (before, after)
    ]
    assert compare_texts({"a.md": pages[0]}, {"a.md": pages[0]}).substantive == 0
    assert compare_texts({"a.md": pages[0]}, {"a.md": pages[1]}).substantive >= 0
