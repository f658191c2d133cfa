"""Settings: frozen dataclasses with validation, command-line flags and a JSON form."""

import dataclasses
import difflib
import math
import operator
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from absl import flags

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
    """

    def __init__(self, argument: str, message: str):
        super().__init__(f"{argument}: {message}")
        self.argument = argument


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
      path_unless: for a path, the accepted values that are not paths, such as names of data sets;
        the help text begins with them. None for every other setting.
      section: heading of `--help`; None: that of the base class or of the group.
      aliases: earlier names; flags and stored runs may still use them.
      value_aliases: earlier values, old -> new.
    """
    if path_unless:
        help = f"{', '.join(path_unless)}, or {help}"
    metadata = {"help": help, "kind": kind, "minimum": minimum, "maximum": maximum}
    metadata |= {"above": above, "below": below}
    metadata["choices"] = tuple(choices) if choices is not None else None
    metadata["path_unless"] = tuple(path_unless) if path_unless is not None else None
    metadata |= {"section": section, "aliases": tuple(aliases)}
    metadata["value_aliases"] = dict(value_aliases or {})
    return dataclasses.field(default=default, metadata=metadata)


def group(config_class: type, section: str | None = None) -> Any:
    """Declares a field that holds a nested group of settings; its flags join the others.

    Args:
      config_class: the settings of the group.
      section: heading of `--help` for them; None: that of the outer group, or the field name.
    """
    return dataclasses.field(default_factory=config_class, metadata={"section": section})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A frozen group of settings; types and ranges are checked whoever builds it.

    Raises:
      ArgumentError: a value of another type or out of range.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, group = getattr(self, field.name), _group(field)
            if group is None:
                _check_value(field, *field_type(type(self), field), value)
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
        group = _group(field)
        if group is None:
            yield field.name, field
        else:
            yield from settings(group)


SECTIONS = (
    *("run", "data", "model", "diffusion", "training", "optimizer", "sampling", "evaluation"),
    *("report", "logging and checkpoints", "multiple processes"),
)
"""The order of the headings of `--help`; others follow in the order of declaration."""


def sections(config_class: type[Config]) -> dict[str, list[tuple[str, dataclasses.Field]]]:
    """Returns the settings of a config class, (flag name, field), by heading of `--help`."""
    found: dict[str, list[tuple[str, dataclasses.Field]]] = {}
    for section, name, field in _with_section(config_class, None):
        found.setdefault(section, []).append((name, field))
    order = [*SECTIONS, *found]
    return {section: found[section] for section in sorted(found, key=order.index)}


def _with_section(
    config_class: type[Config], section: str | None
) -> Iterator[tuple[str, str, dataclasses.Field]]:
    for field in dataclasses.fields(config_class):
        own, group = _own_section(config_class, field), _group(field)
        if group is None:
            yield own or section or SECTIONS[0], field.name, field
        else:
            yield from _with_section(group, own or section or field.name)


def _own_section(config_class: type[Config], field: dataclasses.Field) -> str | None:
    """Returns the section that the class or one of its bases declares for a field."""
    for base in config_class.__mro__:
        declared = base.__dict__.get("__dataclass_fields__", {}).get(field.name)
        if declared is not None and declared.metadata.get("section"):
            return declared.metadata["section"]
    return None


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
        and values.get(name) not in (None, "", field.default, *words)
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
            raise ArgumentError(given, f"the same setting as {name}; give one of them")
        known = fields[name].metadata["value_aliases"] if name in fields else {}
        result[name] = known.get(value, value) if isinstance(value, str) else value
    return result


def spellings(config_class: type[Config]) -> dict[str, str]:
    """Returns the present flag name by name or alias."""
    return {
        spelling: name
        for name, field in settings(config_class)
        for spelling in (name, *field.metadata["aliases"])
    }


def deprecations(config_class: type[Config], given: Mapping[str, Any]) -> list[str]:
    """Returns one line for each given setting with an earlier name or value."""
    lines = []
    for name, value in given.items():
        ((new, now),) = canonical(config_class, {name: value}).items()
        if new != name or now is not value:  # nan is unequal to itself
            old, new = f"--{name}", f"--{new}"
            if now is not value:
                old, new = f"{old}={value}", f"{new}={now}"
            lines.append(f"{old} is deprecated; use {new}")
    return lines


def nearest(name: str, names: Iterable[str], present: Mapping[str, str] | None = None) -> str:
    """Returns "; did you mean 'x'?" for a near miss, else an empty string.

    Args:
      name: the unknown name.
      names: the known names.
      present: the present names by earlier name.
    """
    matches = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean '{(present or {}).get(matches[0], matches[0])}'?" if matches else ""


def field_type(config_class: type[Config], field: dataclasses.Field) -> tuple[type, bool]:
    """Returns the (type, is optional) of a field declared as `T` or `T | None`."""
    hint = _hints(config_class)[field.name]
    if isinstance(hint, types.UnionType):
        (inner,) = [option for option in typing.get_args(hint) if option is not type(None)]
        return inner, True
    return hint, False


def define_flags(config_class: type[Config], values: flags.FlagValues) -> None:
    """Defines one absl flag per setting and alias; without the flag the preset applies."""
    for name, field in settings(config_class):
        kind, optional = field_type(_owner(config_class, name), field)
        for spelling in (name, *field.metadata["aliases"]):
            define_flag(values, spelling, kind, None, field.metadata["help"], optional=optional)


def define_flag(
    values: flags.FlagValues, name: str, kind: type, default: Any, help: str, *, optional: bool
) -> None:
    """Defines one absl flag whose error messages name the accepted values.

    Args:
      values: the flags that it joins.
      name: without dashes.
      kind: bool, int, float or str.
      default: value when the flag is not given.
      help: one line.
      optional: whether "none" is accepted.
    """
    parser = _Parser(name, kind, optional)
    if kind is bool:
        flags.DEFINE_flag(flags.BooleanFlag(name, default, help), values)
        values[name].parser = parser
    else:
        flags.DEFINE(parser, name, default, help, flag_values=values)


NONE = object()
"""Value of a flag after `--flag=none`, distinct from that of an absent flag."""


_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_MAX = {int: MAX_WHOLE, float: MAX_FLOAT}
_ACCEPTED = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


class _Parser(flags.ArgumentParser):
    """Converts the text of a flag to a value; the error names the accepted values."""

    def __init__(self, name: str, kind: type, optional: bool):
        super().__init__()
        self.name, self.kind, self.optional = name, kind, optional

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        if self.optional and argument == "none":
            return NONE
        try:
            return _TRUTH[argument] if self.kind is bool else self.kind(argument)
        except (KeyError, ValueError):
            accepted = _ACCEPTED[self.kind] + (" or none" if self.optional else "")
            raise UserError(f"--{self.name}: {argument!r} is not accepted; {accepted}") from None

    def flag_type(self) -> str:
        return self.kind.__name__


def given_flags(config_class: type[Config], values: flags.FlagValues) -> dict[str, Any]:
    """Returns the settings given on the command line, under the names used there."""
    names = [name for name in spellings(config_class) if values[name].present]
    given = {name: values[name].value for name in names}
    return {name: None if value is NONE else value for name, value in given.items()}


def _build(cls: type[Config], values: Mapping[str, Any]) -> Any:
    arguments = {}
    for field in dataclasses.fields(cls):
        group = _group(field)
        if group is not None:
            arguments[field.name] = _build(group, values)
        elif field.name in values:
            arguments[field.name] = values[field.name]
    return cls(**arguments)


def _group(field: dataclasses.Field) -> type[Config] | None:
    factory = field.default_factory
    is_group = isinstance(factory, type) and issubclass(factory, Config)
    return factory if is_group else None


def _owner(cls: type[Config], name: str) -> type[Config]:
    """Returns the class, `cls` or one of its groups, that declares the setting."""
    for field in dataclasses.fields(cls):
        group = _group(field)
        if group is not None and name in dict(settings(group)):
            return _owner(group, name)
    return cls


def _hints(cls: type[Config]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _check_value(field: dataclasses.Field, kind: type, optional: bool, value: Any) -> None:
    limits = field.metadata
    if limits["choices"] is not None and value not in limits["choices"]:
        accepted = ", ".join(limits["choices"])
        hint = nearest(str(value), limits["choices"])
        raise ArgumentError(field.name, f"{value!r} is not accepted; one of {accepted}{hint}")
    if value is None and optional:
        return
    accepted = int | float if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        or_none = " or none" if optional else ""
        raise ArgumentError(field.name, f"{value!r} is not accepted; {_ACCEPTED[kind]}{or_none}")
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
        accepted = f"{_ACCEPTED[kind]} {limit or 'that is finite'}{' or none' if optional else ''}"
        raise ArgumentError(field.name, f"{value} is not accepted; {accepted}")


def _in_float32(value: float) -> float:
    """Returns a number as XLA's float32: subnormals become 0, large numbers infinite."""
    if abs(value) > MAX_FLOAT:
        return math.copysign(math.inf, value)
    return 0.0 if abs(value) < MIN_FLOAT else float(np.float32(value))
