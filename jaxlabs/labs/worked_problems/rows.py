"""Values of worked problems: from the write-up, computed by this project, and in closed form."""

import dataclasses
import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from jaxlabs.labs.worked_problems.published import Statement

TOLERANCE = 1e-9
"""Values that differ by at most this are equal."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Value:
    """One value of a worked problem.

    Attributes:
      theme: topic of the problem.
      problem: name of the value.
      ours: computed by this project's functions.
      exact: computed in closed form.
      reference: the value of the write-up; None if it states none.
      reference_from: "printed", "formula" if the write-up's formula gives the value for these
        inputs, or "" without a reference.
      printed: the printed digits; may be empty.
      erratum: a sentence about the error in the write-up; empty if it is correct. All values that
        are wrong by the same error have the same sentence.
    """

    theme: str
    problem: str
    ours: float
    exact: float
    reference: float | None = None
    reference_from: str = ""
    printed: str = ""
    erratum: str = ""

    def __post_init__(self) -> None:
        if is_wrong(self.reference, self.exact, self.printed) and not self.erratum:
            raise ValueError(f"{self.problem}: {self.reference} is wrong, but erratum is empty")

    @property
    def difference(self) -> float:
        """Ours minus the exact value."""
        return self.ours - self.exact

    def entry(self) -> dict[str, Any]:
        """Returns the entry of the value in summary.json."""
        return dataclasses.asdict(self) | {"difference": self.difference}


def is_wrong(reference: float | None, exact: float, printed: str = "") -> bool:
    """Returns whether the write-up's value differs by more than the rounding of its digits.

    Digits round to half a unit of the last decimal; integers are exact.
    """
    decimals = -Decimal(printed or "0").as_tuple().exponent
    rounding = 10.0**-decimals / 2 if decimals > 0 else 0.0
    return reference is not None and abs(reference - exact) > rounding + TOLERANCE


def compare(
    theme: str,
    name: str,
    ours: Any,
    exact: Any,
    reference: Any = None,
    *,
    labels: Sequence[Sequence[str]] | None = None,
    erratum: str = "",
) -> list[Value]:
    """Returns a `Value` for every entry of an array, in C order.

    The array of the write-up, `reference`, has printed values as strings, values of its formula as
    floats. `labels` are the names of the entries along each axis, by default [1, 2, ...]; `erratum`
    is the sentence for those entries for which the write-up is wrong.
    """
    ours, exact = np.asarray(ours, np.float64), np.asarray(exact, np.float64)
    if ours.shape != exact.shape:
        raise ValueError(f"{name}: ours {ours.shape}, exact {exact.shape}")
    stated = np.broadcast_to(np.array(reference, object), ours.shape)
    labels = labels or [[str(i + 1) for i in range(size)] for size in ours.shape]
    rows = []
    for index, label in zip(np.ndindex(ours.shape), itertools.product(*labels), strict=True):
        number = None if stated[index] is None else float(stated[index])
        printed = stated[index] if isinstance(stated[index], str) else ""
        rows.append(
            Value(
                theme=theme,
                problem=f"{name} [{', '.join(label)}]" if label else name,
                ours=float(ours[index]) + 0.0,  # no -0
                exact=float(exact[index]),
                reference=number,
                reference_from="" if number is None else "printed" if printed else "formula",
                printed=printed,
                erratum=erratum if is_wrong(number, exact[index], printed) else "",
            )
        )
    return rows


def format_table(rows: Sequence[Value], statements: Sequence[Statement]) -> str:
    """Returns the rows as a text table by theme, with errata, followed by the statements."""
    width = max(len(row.problem) for row in rows)
    heads = "".join(f"{head:>14}" for head in ("write-up", "ours", "exact", "difference"))
    lines = []
    for theme, of_theme in itertools.groupby(rows, key=lambda row: row.theme):
        lines += ["", theme, " " * width + heads]
        explained = ""
        for row in of_theme:
            stated = "" if row.reference is None else row.printed or f"{row.reference:.6g}"
            star = " *" if row.erratum else ""
            lines.append(
                f"{row.problem:<{width}}{stated:>14}{row.ours:>14.6g}{row.exact:>14.6g}"
                f"{row.difference:>14.1e}{star}"
            )
            if row.erratum not in ("", explained):
                lines.append(f"    * {row.erratum}")
                explained = row.erratum
    lines += ["", "statements of the write-up, with corrections"]
    for statement in statements:
        star = " *" if statement.error else ""
        lines += [f"{statement.theme}: {statement.printed}{star}", f"    {statement.correct}"]
    counts = metrics(rows, statements)
    errors, wrong = counts["errors"], counts["wrong_values_and_statements"]
    count = f"{errors:g} errors, {wrong:g} wrong values and statements (*) of the write-up"
    return "\n".join([*lines, "", count]).strip()


def metrics(rows: Sequence[Value], statements: Sequence[Statement]) -> dict[str, float]:
    """Returns the numbers of values and errors, and the largest relative difference.

    `wrong_values_and_statements` counts those of the write-up, `errors` their causes: an error that
    affects a whole table counts once.
    """
    errata = [row.erratum for row in rows if row.erratum]
    wrong = sum(statement.error for statement in statements)
    return {
        "values": float(len(rows)),
        "wrong_values_and_statements": float(len(errata) + wrong),
        "errors": float(len(set(errata)) + wrong),
        "largest_relative_difference": max(
            abs(row.difference) / max(1.0, abs(row.exact)) for row in rows
        ),
    }
