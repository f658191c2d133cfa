"""One number of a worked problem: as the write-up has it, as computed here, and exactly."""

import dataclasses
import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from jaxlabs.published.worked_problems import Statement

SAME = 1e-9
"""Formulas that differ by no more than this give the same number."""

PRINTED, FORMULA = "printed", "formula"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """One number.

    Attributes:
      theme: what the problem is about.
      problem: what the number is.
      ours: computed by this project's functions.
      exact: computed by a closed form.
      write_up: as the write-up has it; None where it states none.
      write_up_from: "printed", "formula" where it is what the write-up's formula gives for these
        inputs, or "" where there is none.
      printed: the printed digits; empty where none are.
      mark: what is wrong with the write-up, a sentence; empty where nothing is. One error has one
        sentence, however many numbers are wrong by it.
    """

    theme: str
    problem: str
    ours: float
    exact: float
    write_up: float | None = None
    write_up_from: str = ""
    printed: str = ""
    mark: str = ""

    def __post_init__(self) -> None:
        if is_wrong(self.write_up, self.exact, self.printed) and not self.mark:
            raise ValueError(f"{self.problem}: {self.write_up} is wrong, and nothing says why")

    @property
    def difference(self) -> float:
        """Ours minus the exact number."""
        return self.ours - self.exact

    def entry(self) -> dict[str, Any]:
        """Returns the number's entry in summary.json."""
        return dataclasses.asdict(self) | {"difference": self.difference}


def is_wrong(write_up: float | None, exact: float, printed: str = "") -> bool:
    """Tells whether a write-up's number is off by more than its printed digits explain."""
    return write_up is not None and abs(write_up - exact) > rounding(printed) + SAME


def rounding(printed: str) -> float:
    """Returns half a unit of the last decimal; 0 where there is none, as of a whole number."""
    places = -Decimal(printed or "0").as_tuple().exponent
    return 10.0**-places / 2 if places > 0 else 0.0


def numbers(
    theme: str,
    name: str,
    ours: Any,
    exact: Any,
    write_up: Any = None,
    *,
    labels: Sequence[Sequence[str]] | None = None,
    mark: str = "",
) -> list[Number]:
    """Returns a row for every entry of an array, in C order.

    Args:
      theme: see `Number`.
      name: of the array.
      ours: the array, any shape.
      exact: of the same shape.
      write_up: of the same shape, or None; strings are what is printed, floats what a formula of
        the write-up gives.
      labels: names of the entries along each axis; None: [1, 2, ...]. A single number needs none.
      mark: the sentence for those entries where the write-up is wrong.
    """
    ours, exact = np.asarray(ours, np.float64), np.asarray(exact, np.float64)
    if ours.shape != exact.shape:
        raise ValueError(f"{name}: ours {ours.shape}, exact {exact.shape}")
    stated = None if write_up is None else np.broadcast_to(write_up, ours.shape)
    labels = labels or [[str(i + 1) for i in range(size)] for size in ours.shape]
    rows = []
    for place, where in zip(np.ndindex(ours.shape), itertools.product(*labels), strict=True):
        one = None if stated is None else stated[place]
        number = None if one is None else float(one)
        printed = str(one) if isinstance(one, str) else ""
        rows.append(
            Number(
                theme=theme,
                problem=f"{name} [{', '.join(where)}]" if where else name,
                ours=float(ours[place]) + 0.0,  # no -0
                exact=float(exact[place]),
                write_up=number,
                write_up_from="" if number is None else PRINTED if printed else FORMULA,
                printed=printed,
                mark=mark if is_wrong(number, exact[place], printed) else "",
            )
        )
    return rows


def in_words(rows: Sequence[Number], statements: Sequence[Statement]) -> str:
    """Returns the rows as a text table, by theme, with the marks below; then the statements."""
    width = max(len(row.problem) for row in rows)
    lines = []
    for theme, of_theme in itertools.groupby(rows, key=lambda row: row.theme):
        heads = ("write-up", "ours", "exact", "difference")
        lines += ["", theme, " " * width + "".join(f"{head:>14}" for head in heads)]
        said = ""
        for row in of_theme:
            stated = "" if row.write_up is None else row.printed or f"{row.write_up:.6g}"
            star = " *" if row.mark else ""
            lines.append(
                f"{row.problem:<{width}}{stated:>14}{row.ours:>14.6g}{row.exact:>14.6g}"
                f"{row.difference:>14.1e}{star}"
            )
            if row.mark and row.mark != said:
                lines.append(f"    * {row.mark}")
                said = row.mark
    lines += ["", "statements of the write-up, and what holds"]
    for statement in statements:
        star = " *" if statement.error else ""
        lines += [f"{statement.theme}: {statement.printed}{star}", f"    {statement.right}"]
    found = metrics(rows, statements)
    lines += ["", f"{found['errors']:g} errors of the write-up, {found['marked']:g} marks (*)"]
    return "\n".join(lines).strip()


def metrics(rows: Sequence[Number], statements: Sequence[Statement]) -> dict[str, float]:
    """Returns how many numbers, marks and errors there are, and how exact ours are.

    `marked` counts every number and statement that is wrong, `errors` the mistakes behind them:
    one that makes a whole table wrong is one.
    """
    relative = [abs(row.difference) / max(1.0, abs(row.exact)) for row in rows]
    marks = [row.mark for row in rows if row.mark]
    wrong = sum(statement.error for statement in statements)
    return {
        "numbers": float(len(rows)),
        "marked": float(len(marks) + wrong),
        "errors": float(len(set(marks)) + wrong),
        "largest_relative_difference": max(relative),
    }
