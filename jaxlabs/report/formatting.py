"""Formats numbers, durations and sizes for the report."""

import math
from typing import Any

UNITS_OMITTED = ("", "parameters", "perplexity", "fraction")
"""Units that are not written after the value."""


def format_value(value: Any, unit: str = "", *, as_stated: bool = False) -> str:
    """Formats one value with its unit; a value that is no number is converted to text.

    None is shown as a dash. "seconds" and "bytes" are scaled; any other unit follows the number,
    except those in UNITS_OMITTED. `as_stated` keeps the digits of a published value.
    """
    if value is None:
        return "—"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "not finite"
    if unit == "seconds":
        return format_duration(value)
    if unit == "bytes":
        return format_bytes(value)
    digits = f"{value:g}" if as_stated and abs(value) < 10_000 else _digits(value)
    return digits if unit in UNITS_OMITTED else f"{digits} {unit}"


def format_with_error(value: Any, error: Any, unit: str = "") -> str:
    """Formats a value and its error with as many decimals, at least two digits of the error."""
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in (value, error)):
        return f"{format_value(value)} ± {format_value(error, unit)}"
    decimals = 1 - math.floor(math.log10(error)) if 0 < error < 0.001 else 4
    text = f"{value:,.{decimals}f} ± {error:,.{decimals}f}"
    return text if unit in UNITS_OMITTED else f"{text} {unit}"


def _digits(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if 0.001 <= abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:,.1f}" if 10 <= abs(value) < 1e6 else f"{value:.3g}"


def format_duration(seconds: float) -> str:
    """Formats a duration in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def format_bytes(count: float) -> str:
    """Formats a number of bytes in decimal units."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
