"""One number of a worked problem: as the write-up has it, as computed here, and exactly."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

ROUNDING = 5e-4
"""A write-up that is off by more than this is wrong and not rounded."""

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
      mark: what is wrong with the write-up, a sentence; empty where nothing is.
    """

    theme: str
    problem: str
    ours: float
    exact: float
    write_up: float | None = None
    write_up_from: str = ""
    mark: str = ""

    def __post_init__(self) -> None:
        if is_wrong(self.write_up, self.exact) and not self.mark:
            raise ValueError(f"{self.problem}: {self.write_up} is wrong, and nothing says why")

    @property
    def difference(self) -> float:
        """Ours minus the exact number."""
        return self.ours - self.exact

    def entry(self) -> dict[str, Any]:
        """Returns the number's entry in summary.json."""
        return dataclasses.asdict(self) | {"difference": self.difference}


def is_wrong(write_up: float | None, exact: float) -> bool:
    """Tells whether a write-up's number is off by more than its rounding."""
    return write_up is not None and abs(write_up - exact) > ROUNDING * (1 + 1e-9)


def numbers(
    theme: str,
    name: str,
    ours: Any,
    exact: Any,
    write_up: Any = None,
    *,
    labels: Sequence[Sequence[str]] | None = None,
    formula: bool = False,
    mark: str = "",
) -> list[Number]:
    """Returns a row for every entry of an array, in C order.

    Args:
      theme: see `Number`.
      name: of the array.
      ours: the array, any shape.
      exact: of the same shape.
      write_up: of the same shape, or None.
      labels: names of the entries along each axis; None: [1, 2, ...]. A single number needs none.
      formula: whether the write-up states a formula, and `write_up` is what it gives.
      mark: the sentence for those entries where the write-up is wrong; with `write_up` None it
        stands at every entry.
    """
    ours, exact = np.asarray(ours, np.float64), np.asarray(exact, np.float64)
    if ours.shape != exact.shape:
        raise ValueError(f"{name}: ours {ours.shape}, exact {exact.shape}")
    stated = None if write_up is None else np.broadcast_to(np.float64(write_up), ours.shape)
    labels = labels or [[str(i + 1) for i in range(size)] for size in ours.shape]
    rows = []
    for place, where in zip(np.ndindex(ours.shape), itertools.product(*labels), strict=True):
        number = None if stated is None else float(stated[place])
        marked = number is None or is_wrong(number, exact[place])
        rows.append(
            Number(
                theme=theme,
                problem=f"{name} [{', '.join(where)}]" if where else name,
                ours=float(ours[place]) + 0.0,  # no -0
                exact=float(exact[place]),
                write_up=number,
                write_up_from="" if number is None else FORMULA if formula else PRINTED,
                mark=mark if marked else "",
            )
        )
    return rows


def in_words(rows: Sequence[Number]) -> str:
    """Returns the rows as a text table, by theme, with the marks below their rows."""
    width = max(len(row.problem) for row in rows)
    lines = []
    for theme, of_theme in itertools.groupby(rows, key=lambda row: row.theme):
        heads = ("write-up", "ours", "exact", "difference")
        lines += ["", theme, " " * width + "".join(f"{head:>14}" for head in heads)]
        said = ""
        for row in of_theme:
            stated = "" if row.write_up is None else f"{row.write_up:.6g}"
            star = " *" if row.mark else ""
            lines.append(
                f"{row.problem:<{width}}{stated:>14}{row.ours:>14.6g}{row.exact:>14.6g}"
                f"{row.difference:>14.1e}{star}"
            )
            if row.mark and row.mark != said:
                lines.append(f"    * {row.mark}")
                said = row.mark
    return "\n".join(lines).strip()


def metrics(rows: Sequence[Number]) -> dict[str, float]:
    """Returns how many numbers there are, how many are marked, and how exact ours are."""
    relative = [abs(row.difference) / max(1.0, abs(row.exact)) for row in rows]
    return {
        "numbers": float(len(rows)),
        "marked": float(sum(bool(row.mark) for row in rows)),
        "largest_relative_difference": max(relative),
    }
