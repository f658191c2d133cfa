"""The flags of a command: their definition, parsing and validation."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxlabs import config as config_lib
from jaxlabs import paths
from jaxlabs.config import ArgumentError, Config, UserError
from jaxlabs.runner.lab import Experiment, Invocation, Lab

MODES = ("train", "sample", "evaluate", "analyze", "export", "lr_range", "replay")

RENAMED_MODES = {"analyse": "analyze"}
"""Earlier names of modes."""

Kinds = Mapping[str, tuple[type, bool]]
"""Type of each flag, bool, int, float or str, and whether it accepts "none"."""

TRUTH = {"true": True, "false": False, "1": True, "0": False}


def parse(lab: Experiment, arguments: Sequence[str]) -> Invocation | None:
    """Parses a command line; returns None for `--help`.

    Deprecated spellings are accepted; for each, one line on stderr names the present one.

    Raises:
      UserError: an unknown flag, an invalid value, a positional argument, or an argument that is
        not valid UTF-8.
    """
    for argument in arguments:
        if not paths.is_utf8(argument):
            raise UserError(f"{argument!r} is not accepted; text in UTF-8")
    kinds = {flag.name: (flag.kind, False) for flag in command_flags(lab)}
    kinds |= setting_flags(lab.config_class) | {"help": (bool, False), "h": (bool, False)}
    if isinstance(lab, Lab):
        kinds["lr_range_test"] = bool, False  # deprecated
    values = parse_values(kinds, arguments, config_lib.spellings(lab.config_class))
    if values.get("help") or values.get("h"):
        return None
    given = {name: value for name, value in values.items() if name in _setting_names(lab)}
    chosen = {flag.name: values.get(flag.name, flag.default) for flag in command_flags(lab)}
    lines = deprecations(lab.config_class, given)
    if isinstance(lab, Lab):
        chosen["mode"], deprecated = _resolve_mode(chosen, values.get("lr_range_test", False))
        lines += deprecated
    for line in lines:
        print(f"{lab.name}: {line}", file=sys.stderr)
    for flag in command_flags(lab):
        if flag.choices and (value := chosen[flag.name]) not in (*flag.choices, flag.default):
            hint = config_lib.nearest(value, flag.choices)
            accepted = f"one of {', '.join(flag.choices)}{hint}"
            raise UserError(f"--{flag.name}: {value!r} is not accepted; {accepted}")
    overrides = config_lib.canonical(lab.config_class, given)
    invocation = Invocation(lab=lab, arguments=tuple(arguments), overrides=overrides, **chosen)
    if isinstance(lab, Lab):
        _check_flags_of_mode(invocation)
    return invocation


class CommandFlag(NamedTuple):
    """A flag that is not a setting."""

    name: str
    kind: type
    default: Any
    help: str
    choices: Sequence[str] = ()


def command_flags(lab: Experiment) -> list[CommandFlag]:
    """Returns the flags of a command that are not settings."""
    presets = list(lab.presets)
    found = [
        CommandFlag("preset", str, presets[0], "name of the initial settings", presets),
        CommandFlag("overwrite", bool, False, "delete the run folder and start over"),
    ]
    if isinstance(lab, Lab):
        modes = (
            "mode of the command; lr_range: plot the loss against a rising learning rate;"
            " replay: repeat one step and print the RMS of every gradient"
        )
        step = "number of the step that --mode=replay repeats"
        checkpoint = "checkpoint to sample, evaluate or export"
        found += [
            CommandFlag("mode", str, "train", modes, MODES),
            CommandFlag("replay_step", int, None, step),
            CommandFlag("checkpoint", str, "latest", checkpoint, ("latest", "best")),
        ]
        if lab.sweeps:
            questions = "; ".join(f"{name}: {sweep.question}" for name, sweep in lab.sweeps.items())
            text = f"set of runs to train and compare; {questions}"
            found.append(CommandFlag("sweep", str, None, text, list(lab.sweeps)))
    return found


def setting_flags(config_class: type[Config]) -> Kinds:
    """Returns one flag for each setting and alias; without the flag the preset applies."""
    kinds = config_lib.value_types(config_class)
    return {alias: kinds[name] for alias, name in config_lib.spellings(config_class).items()}


def parse_values(
    kinds: Kinds, arguments: Sequence[str], present: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the values of `--name=value`, `--name value`, `--name` and `--noname`, as given.

    Args:
      kinds: the known flags.
      arguments: the command line.
      present: present name by name or alias, for the hint in the message.

    Raises:
      UserError: a positional argument, or an unknown flag.
      ArgumentError: a missing value, or one of another type.
    """
    values, rest = {}, list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            raise UserError(f"unexpected argument {argument!r}; use --name=value")
        name, equals, text = argument.lstrip("-").partition("=")
        positive = name.removeprefix("no")
        if not equals and name not in kinds and kinds.get(positive, (str, False))[0] is bool:
            name, equals, text = positive, "=", "false"
        if name not in kinds:
            hint = config_lib.nearest(name, kinds, present) or "; --help lists all flags"
            raise UserError(f"--{name}: unknown flag{hint}")
        kind, optional = kinds[name]
        if not equals:
            text = "true" if kind is bool else rest.pop(0) if rest else None
        values[name] = _value(name, kind, optional, text)
    return values


def _value(name: str, kind: type, optional: bool, text: str | None) -> Any:
    """Converts the text of a flag to its type."""
    if optional and text == "none":
        return None
    accepted = config_lib.ACCEPTED[kind] + (" or none" if optional else "")
    if text is None:
        raise ArgumentError(name, f"a value is missing; {accepted}")
    try:
        return TRUTH[text] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ArgumentError(name, f"{text!r} is not accepted; {accepted}") from None


def deprecations(config_class: type[Config], given: Mapping[str, Any]) -> list[str]:
    """Returns one line for each given setting with an earlier name or value."""
    lines = []
    for name, value in given.items():
        ((new, now),) = config_lib.canonical(config_class, {name: value}).items()
        if now is not value:  # nan is unequal to itself
            lines.append(f"--{name}={value} is deprecated; use --{new}={now}")
        elif new != name:
            lines.append(f"--{name} is deprecated; use --{new}")
    return lines


def error_line(lab: Experiment, error: UserError) -> str:
    """Returns the message of an error, with dashes before arguments that are flags of the lab."""
    is_flag = isinstance(error, ArgumentError) and error.argument in _flag_names(lab)
    return with_dashes(lab, f"--{error}" if is_flag else str(error))


def with_dashes(lab: Experiment, text: str) -> str:
    """Returns a text with dashes before names between backticks that are flags of the lab."""
    names = _flag_names(lab)
    return re.sub(r"`(\w+)`", lambda name: f"--{name[1]}" if name[1] in names else name[0], text)


def _flag_names(lab: Experiment) -> set[str]:
    return {flag.name for flag in command_flags(lab)} | _setting_names(lab)


def _setting_names(lab: Experiment) -> set[str]:
    return set(config_lib.spellings(lab.config_class))


def _resolve_mode(chosen: Mapping[str, Any], lr_range_test: bool) -> tuple[str, list[str]]:
    """Returns the mode, and one line for each deprecated spelling that selects it."""
    given, step = chosen["mode"], chosen["replay_step"]
    mode, lines = RENAMED_MODES.get(given, given), []
    if mode != given:
        lines.append(f"--mode={given} is deprecated; use --mode={mode}")
    if lr_range_test:
        if mode not in ("train", "lr_range"):
            raise UserError(f"--lr_range_test: not accepted with --mode={mode}; --mode=lr_range")
        mode = "lr_range"
        lines.append("--lr_range_test is deprecated; use --mode=lr_range")
    elif step is not None and mode == "train":
        mode = "replay"
        lines.append(
            f"--replay_step={step} without a mode is deprecated; use --mode=replay"
            f" --replay_step={step}"
        )
    return mode, lines


def _check_flags_of_mode(invocation: Invocation) -> None:
    """Raises UserError for a flag that the mode would ignore, or a step that does not exist."""
    mode, step, steps = invocation.mode, invocation.replay_step, invocation.config().steps
    ignored = {
        "overwrite": (invocation.overwrite and mode not in ("train", "lr_range"), "train"),
        "replay_step": (step is not None and mode != "replay", "replay"),
        "sweep": (invocation.sweep is not None and mode != "train", "train"),
    }
    for name, (is_ignored, accepted) in ignored.items():
        if is_ignored:
            raise UserError(f"--{name}: not accepted with --mode={mode}; --mode={accepted}")
    if step is None and mode == "replay":
        raise UserError("--replay_step: missing with --mode=replay; the number of a step")
    if step is not None and not 1 <= step <= steps:
        raise UserError(f"--replay_step: {step} is not accepted; a step from 1 to {steps}")
    if invocation.checkpoint != "latest" and mode not in ("sample", "evaluate", "export"):
        raise UserError(
            f"--checkpoint: {invocation.checkpoint!r} is not accepted with --mode={mode}; latest"
        )
