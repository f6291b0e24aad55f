"""Self-contained report pages: Markdown, HTML and a plot of one decision or verdict."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

from jinja2 import Template
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from ragtide.pipelines.safe_text import literal_links

PAGE = Template(
    """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #cfd8e0;padding:.3rem .6rem;text-align:left}
th{background:#eef3f7}code{background:#f2f5f7}img{max-width:100%}</style></head><body>{{ body }}</body></html>
"""
)


def write_page(folder: Path, name: str, markdown: str, plot: Figure) -> None:
    """Write NAME.md, NAME.html and NAME.png into `folder`."""
    (folder / f"{name}.md").write_text(literal_links(markdown), encoding="utf-8")
    (folder / f"{name}.html").write_text(markdown_to_html(name.capitalize(), markdown, plot), encoding="utf-8")
    plot.savefig(folder / f"{name}.png")


def markdown_to_html(title: str, markdown: str, plot: Figure | None = None) -> str:
    """Return a self-contained page from Markdown, with a plot below its heading; links, images and HTML are text."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
    body = renderer.render(literal_links(markdown))
    if plot is not None:
        body = body.replace("</h1>", f"</h1>{_image(plot)}", 1)
    return str(PAGE.render(title=title, body=body))


def _image(plot: Figure) -> str:
    content = BytesIO()
    plot.savefig(content, format="svg")
    encoded = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="plot" src="data:image/svg+xml;base64,{encoded}">'
