"""Settings: frozen dataclasses that check types and ranges, with a JSON form."""

import dataclasses
import difflib
import fnmatch
import functools
import math
import operator
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

IDENTITY = "identity"
RUNTIME = "runtime"

MAX_WHOLE = 2**31 - 1
"""Default maximum of integer settings: steps are int32."""

MIN_FLOAT, MAX_FLOAT = 1.18e-38, 3.4e38
"""Smallest and largest normal float32; XLA flushes subnormals to 0."""


class UserError(ValueError):
    """Invalid input; the message is one line that names the value and what is accepted."""


class ArgumentError(UserError):
    """An invalid argument or setting; the message is one line, `argument: message`.

    The command line shows it with dashes if the argument is one of its flags.

    Attributes:
      argument: name of the argument.
      message: the rest of the line.
    """

    def __init__(self, argument: str, message: str):
        super().__init__(f"{argument}: {message}")
        self.argument, self.message = argument, message


def setting(
    default: Any,
    help: str,
    *,
    choices: Iterable[str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    kind: str = IDENTITY,
    path_unless: Iterable[str] | None = None,
    section: str | None = None,
    aliases: Iterable[str] = (),
    value_aliases: Mapping[str, str] | None = None,
    retired: Iterable[str] = (),
) -> Any:
    """Declares one field of a `Config`.

    Integers are limited to `MAX_WHOLE`, other numbers to the range of float32.

    Args:
      default: value without a preset or a flag.
      help: noun phrase with the unit or range, shown by `--help`.
      choices: accepted strings; None: all.
      minimum: inclusive lower bound.
      maximum: inclusive upper bound.
      above: exclusive lower bound.
      below: exclusive upper bound.
      kind: "identity" when the field affects the result (model, data, seed, steps, precision), so
        that a resumed run must have the same value; "runtime" otherwise (platform, folders).
      path_unless: for a path, the accepted values that are not paths, such as names of data sets,
        a * in them for any text; the help text begins with them. None for every other setting.
      section: heading of `--help`; None: that of the base class or of the group.
      aliases: earlier names; flags and stored runs may still use them.
      value_aliases: earlier values, old -> new.
      retired: values of stored runs beside `choices`, which no new run may have.
    """
    if path_unless:
        help = f"{', '.join(path_unless)}, or {help}"
    metadata = {
        "help": help,
        "choices": None if choices is None else tuple(choices),
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "below": below,
        "kind": kind,
        "path_unless": None if path_unless is None else tuple(path_unless),
        "section": section,
        "aliases": tuple(aliases),
        "value_aliases": dict(value_aliases or {}),
        "retired": tuple(retired),
    }
    return dataclasses.field(default=default, metadata=metadata)


def runtime(default: Any, help: str, **options: Any) -> Any:
    """Declares a `setting` that does not affect the result; a resumed run may change it."""
    return setting(default, help, kind=RUNTIME, **options)


def positive(default: Any, help: str, **options: Any) -> Any:
    """Declares a `setting` that is an integer of at least 1."""
    return setting(default, help, minimum=1, **options)


def group(config_class: type, section: str | None = None) -> Any:
    """Declares a field that holds a nested group of settings; its flags join the others.

    Args:
      config_class: the settings of the group.
      section: heading of `--help` for them; None: that of the outer group, or the field name.
    """
    return dataclasses.field(default_factory=config_class, metadata={"section": section})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A frozen group of settings; types and ranges are checked when one is made.

    Raises:
      ArgumentError: a value of another type or out of range.
    """

    def __post_init__(self) -> None:
        kinds = value_types(type(self))
        for field in dataclasses.fields(self):
            value, group = getattr(self, field.name), group_class(field)
            if group is None:
                _check_value(field, *kinds[field.name], value)
            elif not isinstance(value, group):
                raise ArgumentError(field.name, f"{value!r} is not accepted; {group.__name__}")
        self.check()

    def check(self) -> None:
        """Raises ArgumentError for incompatible values of several fields; subclasses extend it."""

    def flat(self) -> dict[str, Any]:
        """Returns all settings by flag name, nested groups included."""
        values = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values |= value.flat() if isinstance(value, Config) else {field.name: value}
        return values

    def identity(self) -> dict[str, Any]:
        """Returns the settings that affect the result of a run."""
        kinds = {name: field.metadata["kind"] for name, field in settings(type(self))}
        return {name: value for name, value in self.flat().items() if kinds[name] == IDENTITY}

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> typing.Self:
        """Builds the config from values by flag name; missing settings keep their defaults.

        Raises:
          ArgumentError: an unknown setting, or an invalid value.
        """
        values = canonical(cls, values)
        names = [name for name, _ in settings(cls)]
        for name in values:
            if name not in names:
                raise ArgumentError(name, f"unknown setting{nearest(name, names)}")
        return _build(cls, values)


def settings(config_class: type[Config]) -> Iterator[tuple[str, dataclasses.Field]]:
    """Yields (flag name, field) of a config class, nested groups included, as declared."""
    for field in dataclasses.fields(config_class):
        group = group_class(field)
        if group is None:
            yield field.name, field
        else:
            yield from settings(group)


def differences(
    config_class: type[Config], stored: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Returns (stored, present) values of every identity setting that differs.

    Args:
      config_class: class of the settings.
      stored: settings of a stored run, by flag name. A missing setting is newer than the run and
        counts as its default.
      values: present settings, by flag name.
    """
    stored, values = canonical(config_class, stored), canonical(config_class, values)
    before = {
        name: stored.get(name, field.default)
        for name, field in settings(config_class)
        if field.metadata["kind"] == IDENTITY and name in values
    }
    return {name: (old, values[name]) for name, old in before.items() if old != values[name]}


def path_settings(config_class: type[Config], values: Mapping[str, Any]) -> dict[str, str]:
    """Returns the settings that are paths, by flag name, without defaults."""
    return {
        name: values[name]
        for name, field in settings(config_class)
        if (words := field.metadata["path_unless"]) is not None
        and values.get(name) not in (None, "", field.default)
        and not any(fnmatch.fnmatchcase(values[name], word) for word in words)
    }


def canonical(config_class: type[Config], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with earlier names and values replaced by the present ones.

    Unknown names are kept.

    Raises:
      ArgumentError: one setting is given under two names.
    """
    fields, present = dict(settings(config_class)), spellings(config_class)
    result: dict[str, Any] = {}
    for given, value in values.items():
        name = present.get(given, given)
        if name in result:
            raise ArgumentError(given, f"the same setting as `{name}`; give one of them")
        known = fields[name].metadata["value_aliases"] if name in fields else {}
        result[name] = known.get(value, value) if isinstance(value, str) else value
    return result


@functools.cache
def spellings(config_class: type[Config]) -> Mapping[str, str]:
    """Returns the present flag name by name or alias."""
    return {
        spelling: name
        for name, field in settings(config_class)
        for spelling in (name, *field.metadata["aliases"])
    }


def nearest(name: str, names: Iterable[str], present: Mapping[str, str] | None = None) -> str:
    """Returns "; did you mean 'x'?" for a near miss, else an empty string.

    Args:
      name: the unknown name.
      names: the known names.
      present: the present names by earlier name.
    """
    matches = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean '{(present or {}).get(matches[0], matches[0])}'?" if matches else ""


@functools.cache
def value_types(config_class: type[Config]) -> dict[str, tuple[type, bool]]:
    """Returns the (type, is optional) of every setting, declared as `T` or `T | None`."""
    hints, found = typing.get_type_hints(config_class), {}
    for field in dataclasses.fields(config_class):
        group = group_class(field)
        if group is not None:
            found |= value_types(group)
        elif isinstance(hint := hints[field.name], types.UnionType):
            (kind,) = set(typing.get_args(hint)) - {types.NoneType}
            found[field.name] = kind, True
        else:
            found[field.name] = hint, False
    return found


def group_class(field: dataclasses.Field) -> type[Config] | None:
    """Returns the class of a nested group of settings; None for a single setting."""
    factory = field.default_factory
    is_group = isinstance(factory, type) and issubclass(factory, Config)
    return factory if is_group else None


ACCEPTED = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
"""Description of the values of a type, for error messages."""

_MAX = {int: MAX_WHOLE, float: MAX_FLOAT}


def _build(cls: type[Config], values: Mapping[str, Any]) -> Any:
    arguments = {}
    for field in dataclasses.fields(cls):
        group = group_class(field)
        if group is not None:
            arguments[field.name] = _build(group, values)
        elif field.name in values:
            arguments[field.name] = values[field.name]
    return cls(**arguments)


def _check_value(field: dataclasses.Field, kind: type, optional: bool, value: Any) -> None:
    limits = field.metadata
    if limits["choices"] is not None and value not in limits["choices"] + limits["retired"]:
        accepted = ", ".join(limits["choices"])
        hint = nearest(str(value), limits["choices"])
        raise ArgumentError(field.name, f"{value!r} is not accepted; one of {accepted}{hint}")
    if value is None and optional:
        return
    accepted = int | float if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        or_none = " or none" if optional else ""
        raise ArgumentError(field.name, f"{value!r} is not accepted; {ACCEPTED[kind]}{or_none}")
    if kind in (str, bool):
        return
    most, lowest, highest = _MAX[kind], limits["minimum"], limits["maximum"]
    if highest is None and value > most and value != math.inf:
        highest = most
    if lowest is None and value < -most and value != -math.inf:
        lowest = -most
    held = value if kind is int else _in_float32(value)
    bounds = [
        ("of at least", lowest, value, operator.ge),
        ("of at most", highest, value, operator.le),
        ("above", limits["above"], held, operator.gt),
        ("below", limits["below"], held, operator.lt),
    ]
    bounds = [bound for bound in bounds if bound[1] is not None]
    infinite = kind is float and not math.isfinite(held)
    if infinite or not all(holds(number, bound) for _, bound, number, holds in bounds):
        limit = " and ".join(f"{words} {bound}" for words, bound, *_ in bounds)
        if not infinite and all(holds(value, bound) for _, bound, _, holds in bounds):
            limit += " in float32"
        accepted = f"{ACCEPTED[kind]} {limit or 'that is finite'}{' or none' if optional else ''}"
        raise ArgumentError(field.name, f"{value} is not accepted; {accepted}")


def _in_float32(value: float) -> float:
    """Returns a number as XLA's float32: subnormals become 0, large numbers infinite."""
    if abs(value) > MAX_FLOAT:
        return math.copysign(math.inf, value)
    return 0.0 if abs(value) < MIN_FLOAT else float(np.float32(value))
