"""The few pieces of HTML that the page is made of. Every text that goes in is escaped here."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any


def text(value: Any) -> str:
    """Returns any value as escaped text; samples may hold markup, and it must stay visible."""
    return html.escape(str(value))


def document(title: str, css: str, body: str) -> str:
    """Returns the whole page; it names no other file and asks nothing of the network."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty icon, or a browser would ask the server for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{css}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(anchor: str, title: str, *parts: str) -> str:
    """Returns a section with a heading, or nothing where all parts are empty."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{anchor}">\n<h2>{text(title)}</h2>\n{body}\n</section>' if body else ""


def note(words: str) -> str:
    """Returns a paragraph of small print."""
    return f'<p class="note">{text(words)}</p>'


def preformatted(words: str, *, label: str) -> str:
    """Returns text with its line breaks; the label tells a screen reader what it is."""
    return f'<pre aria-label="{text(label)}">{text(words)}</pre>'


def image(png: bytes, *, alt: str, caption: str) -> str:
    """Returns a figure with the picture inside the page."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return (
        f'<figure><img src="{source}" alt="{text(alt)}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def details(summary: str, body: str, *, group: str) -> str:
    """Returns a closed fold; of the folds of one group a browser keeps one open."""
    return f'<details name="{group}"><summary>{text(summary)}</summary>{body}</details>'


def headline(figures: Iterable[tuple[str, str]]) -> str:
    """Returns large figures, each (name, value)."""
    tiles = [f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in figures]
    return f'<dl class="headline">{"".join(tiles)}</dl>' if tiles else ""


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    cards: bool = False,
    marked: Sequence[bool] | None = None,
) -> str:
    """Returns a table whose first column names the row, or nothing where it has no row.

    Args:
      columns: headings.
      rows: cells, already HTML.
      numbers: the headings of columns that are set flush right.
      cards: whether each row becomes a card on a phone, for tables too wide for one.
      marked: which rows stand out; none do by default.
    """
    if not rows:
        return ""
    kinds = [' class="number"' if name in numbers else "" for name in columns]
    heads = "".join(
        f'<th scope="col"{kind}>{text(name)}</th>'
        for name, kind in zip(columns, kinds, strict=True)
    )
    body = []
    for row, mark in zip(rows, marked or [False] * len(rows), strict=True):
        cells = [f'<th scope="row">{row[0]}</th>']
        cells += [
            f'<td{kind} data-label="{text(name)}">{cell}</td>' if cell else "<td></td>"
            for name, kind, cell in zip(columns[1:], kinds[1:], row[1:], strict=True)
        ]
        emphasis = ' class="changed"' if mark else ""
        body.append(f"<tr{emphasis}>{''.join(cells)}</tr>")
    kind = ' class="cards"' if cards else ""
    return f"<table{kind}><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
