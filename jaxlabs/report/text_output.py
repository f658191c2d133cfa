"""Text output of a study on the page: its matrices as heat maps, and its full text."""

import re
from collections.abc import Iterator

import numpy as np

from jaxlabs.report import html

MATRIX_TITLE = re.compile(r"(.+) \[(\d+(?: x \d+)+)\]")
"""Title line of a printed array, such as `Q [4 x 8]`."""

COLUMN_GAP = re.compile(r"\S {2,}\S|^\|.*\|$|^\[+[-+ .\d]+\]")
"""Two spaces between words, a table row, or a row of a printed array."""

MAX_OPACITY = 0.55
"""Of the background color of the largest value; text stays legible on it."""


def has_columns(text: str) -> bool:
    """Returns whether some line of a text has aligned columns, so that it must not wrap."""
    return any(COLUMN_GAP.search(line.strip()) for line in text.splitlines())


def text_output(text: str) -> list[str]:
    """Returns the matrices of a text as heat maps, and the text in a collapsible section."""
    matrices = [matrix for name, array in arrays(text) for matrix in slices(name, array)]
    tables = [heat_map(title, matrix) for title, matrix in matrices]
    body = html.preformatted(text, label="Text output", wrap=False)
    grid = f'<div class="matrices">{"".join(tables)}</div>' if tables else ""
    return [grid, html.details(f"Full text ({len(text.splitlines()):,} lines)", body, group="text")]


def arrays(text: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the arrays of a text that are printed below a `MATRIX_TITLE`, with their titles."""
    lines = text.splitlines()
    for index, line in enumerate(lines):
        found = MATRIX_TITLE.fullmatch(line.strip())
        if found is None:
            continue
        shape = [int(size) for size in found[2].split(" x ")]
        depth, numbers = 0, []
        for row in lines[index + 1 :]:
            depth += row.count("[") - row.count("]")
            numbers += row.replace("[", " ").replace("]", " ").split()
            if depth <= 0:
                break
        try:
            yield found[1], np.array(numbers, float).reshape(shape)
        except ValueError:  # no printed array, or an abbreviated one
            continue


def slices(name: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the matrices `[rows, columns]` of an array with a title for each."""
    for index in np.ndindex(*array.shape[:-2]):
        number = ", ".join(str(position + 1) for position in index)
        yield (f"{name} [{number}]" if number else name), array[index]


def heat_map(title: str, matrix: np.ndarray) -> str:
    """Returns a table of `matrix [rows, columns]`, blue where positive, orange where negative."""
    scale = np.abs(matrix).max() or 1.0

    def cell(value: float) -> str:
        color = "0, 100, 163" if value >= 0 else "200, 90, 0"
        background = f"rgba({color}, {MAX_OPACITY * abs(value) / scale:.2f})"
        return f'<td style="background: {background}">{value:.2f}</td>'

    rows = [f"<tr>{''.join(map(cell, row))}</tr>" for row in matrix]
    # A block that scrolls takes the focus, so that the keyboard can scroll it.
    return (
        f'<div class="matrix" tabindex="0"><table><caption>{html.text(title)}</caption>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
