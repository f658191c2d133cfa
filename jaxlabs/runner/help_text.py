"""The text of `--help`: every setting with its value by preset, under headings."""

import dataclasses
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from jaxlabs.config import Config, group_class
from jaxlabs.runner import program
from jaxlabs.runner.flags import CommandFlag, command_flags, with_dashes
from jaxlabs.runner.lab import Experiment
from jaxlabs.runner.sweep_plan import flag_value
from jaxlabs.training.run_config import has_data_choice

HELP = "show this help message and exit"

SECTIONS = (
    "run",
    "data",
    "model",
    "diffusion",
    "training",
    "optimizer",
    "sampling",
    "evaluation",
    "report",
    "logging and checkpoints",
    "devices",
    "multiple processes",
)
"""The order of the headings; others follow in the order of declaration."""


def help_text(lab: Experiment) -> str:
    """Returns the text of `--help`."""
    lines = [
        program.with_typed_commands(inspect.cleandoc(lab.description)),
        "",
        f"usage: {program.command(lab)} [flags]",
        "",
        "command",
    ]
    flags = [*command_flags(lab), CommandFlag("help", bool, False, HELP)]
    for flag in flags:
        text = flag.help + (f" [{', '.join(flag.choices)}]" if flag.choices else "")
        lines += _flag_lines(flag.name, [flag.default], text)
    configs = [lab.config_class.from_flat(preset).flat() for preset in lab.presets.values()]
    lines += ["", f"settings, with their values in the presets {' | '.join(lab.presets)}"]
    for section, fields in sections(lab.config_class).items():
        lines += ["", section]
        for name, field in fields:
            text = with_dashes(lab, field.metadata["help"]) + _accepted(field)
            lines += _flag_lines(name, [config[name] for config in configs], text)
    return "\n".join(lines)


def sections(config_class: type[Config]) -> dict[str, list[tuple[str, dataclasses.Field]]]:
    """Returns the accepted settings of a config class, (flag name, field), by heading."""
    found: dict[str, list[tuple[str, dataclasses.Field]]] = {}
    for section, field in _with_section(config_class, None):
        if field.name == "dataset" and not has_data_choice(config_class):
            continue
        found.setdefault(section, []).append((field.name, field))
    order = [*SECTIONS, *found]
    return {section: found[section] for section in sorted(found, key=order.index)}


def _with_section(
    config_class: type[Config], outer: str | None
) -> Iterator[tuple[str, dataclasses.Field]]:
    """Yields (section, field); a group's section applies to its fields without their own."""
    for field in dataclasses.fields(config_class):
        section = _declared_section(config_class, field) or outer
        group = group_class(field)
        if group is None:
            yield section or SECTIONS[0], field
        else:
            yield from _with_section(group, section or field.name)


def _declared_section(config_class: type[Config], field: dataclasses.Field) -> str | None:
    """Returns the section that the class or one of its bases declares for a field."""
    for base in config_class.__mro__:
        declared = base.__dict__.get("__dataclass_fields__", {}).get(field.name)
        if declared is not None and declared.metadata.get("section"):
            return declared.metadata["section"]
    return None


def _flag_lines(name: str, values: Iterable[Any], text: str) -> list[str]:
    words = [flag_value(value) for value in values]
    shown = words[0] if len(set(words)) == 1 else " | ".join(words)
    return [f"  --{name}={shown}", f"      {text}"]


def _accepted(field: dataclasses.Field) -> str:
    limits = field.metadata
    if limits["choices"]:
        return f" [{', '.join(limits['choices'])}]"
    bounds = {"at least": "minimum", "at most": "maximum", "above": "above", "below": "below"}
    words = [f"{word} {limits[key]}" for word, key in bounds.items() if limits[key] is not None]
    return f" [{', '.join(words)}]" if words else ""
