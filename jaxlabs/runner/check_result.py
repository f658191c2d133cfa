"""The result of a check: one row for each property."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from jaxlabs.config import UserError
from jaxlabs.report import html
from jaxlabs.training.checks import Failed

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"


class Row(NamedTuple):
    """One line: the property, PASS, FAIL or SKIP, and its number or reason."""

    name: str
    verdict: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict}  {self.name:25}  {self.text}"


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The lines of a check; it shows itself as them, and in a notebook as a table.

    Attributes:
      rows: one for each property.
    """

    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether no property fails."""
        return all(row.verdict != FAIL for row in self.rows)

    def __repr__(self) -> str:
        return "\n".join(map(str, self.rows))

    def _repr_html_(self) -> str:
        cells = [[html.text(cell) for cell in row] for row in self.rows]
        return html.table(["property", "verdict", "number or reason"], cells)


class Skipped(Exception):
    """A property that a lab does not have, or cannot be checked; the message is the reason."""


def make_row(name: str, check: Callable[[], str]) -> Row:
    """Returns the row of a property, from what its check returns or raises."""
    try:
        return Row(name, PASS, check())
    except Skipped as reason:
        return Row(name, SKIP, str(reason))
    except (Failed, UserError) as error:
        return Row(name, FAIL, str(error))
    except Exception as error:  # whatever the lab raises
        text = " ".join(str(error).split())
        return Row(name, FAIL, f"{type(error).__name__}: {text[:300]}")
