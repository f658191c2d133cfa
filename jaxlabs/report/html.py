"""HTML elements of the page. All text is escaped here."""

import base64
import html
import importlib.resources
from collections.abc import Iterable, Sequence
from typing import Any

_NOT_IN_HTML = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], "\ufffd")


def text(value: Any) -> str:
    """Returns a value as escaped text; samples may contain markup, which must stay visible.

    Control characters, which HTML does not have, are U+FFFD.
    """
    return html.escape(str(value).translate(_NOT_IN_HTML))


def document(title: str, body: str) -> str:
    """Returns the whole page; it is self-contained and loads nothing over the network."""
    css = importlib.resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty icon keeps browsers from requesting one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>\n{css}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(anchor: str, title: str, *parts: str) -> str:
    """Returns a section with a heading, or nothing if all parts are empty."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{anchor}">\n<h2>{text(title)}</h2>\n{body}\n</section>' if body else ""


def note(content: str) -> str:
    """Returns a paragraph in small type."""
    return f'<p class="note">{text(content)}</p>'


def preformatted(content: str, *, label: str, wrap: bool = True) -> str:
    """Returns preformatted text with a name for screen readers.

    Long lines wrap; otherwise the block scrolls horizontally, for tables.
    """
    # A block that scrolls takes the focus, so that the keyboard can scroll it.
    kind = "" if wrap else ' class="wide" tabindex="0"'
    return f'<pre{kind} aria-label="{text(label)}">{text(content)}</pre>'


def image(png: bytes, *, alt: str, caption: str, width: int | None = None) -> str:
    """Returns a figure element with the PNG as a data URL, `width` pixels wide without the CSS."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    size = f' width="{width}"' if width else ""
    return (
        f'<figure><img src="{source}"{size} alt="{text(alt)}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def details(summary: str, body: str, *, group: str) -> str:
    """Returns a closed <details>; a browser keeps at most one of a group open."""
    return f'<details name="{group}"><summary>{text(summary)}</summary>{body}</details>'


def stat_tiles(stats: Iterable[tuple[str, str]]) -> str:
    """Returns tiles of (name, value) pairs."""
    tiles = [f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in stats]
    return f'<dl class="stats">{"".join(tiles)}</dl>' if tiles else ""


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    cards: bool = False,
    highlighted: Sequence[bool] | None = None,
) -> str:
    """Returns a table whose first column is the row header, or nothing without rows.

    Cells are already HTML. Columns named in `numbers` are right-aligned, `highlighted` rows bold;
    with `cards`, each row becomes a card on narrow screens.
    """
    if not rows:
        return ""
    kinds = [' class="number"' if name in numbers else "" for name in columns]
    heads = "".join(
        f'<th scope="col"{kind}>{text(name)}</th>'
        for name, kind in zip(columns, kinds, strict=True)
    )
    body = []
    for row, bold in zip(rows, highlighted or [False] * len(rows), strict=True):
        cells = [f'<th scope="row">{row[0]}</th>']
        cells += [
            f'<td{kind} data-label="{text(name)}">{cell}</td>' if cell else "<td></td>"
            for name, kind, cell in zip(columns[1:], kinds[1:], row[1:], strict=True)
        ]
        emphasis = ' class="changed"' if bold else ""
        body.append(f"<tr{emphasis}>{''.join(cells)}</tr>")
    kind = ' class="cards"' if cards else ""
    return f"<table{kind}><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
