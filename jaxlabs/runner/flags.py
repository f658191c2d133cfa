"""The flags of a command: their definition, parsing and validation."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from jaxlabs import config as config_lib
from jaxlabs import paths
from jaxlabs.config import ArgumentError, Config, UserError
from jaxlabs.runner import config_file, program, vary
from jaxlabs.runner.flag_parser import NONE, FlagParser
from jaxlabs.runner.lab import Experiment, Invocation, Lab, Study
from jaxlabs.training.optimizer_config import require_used

MODES = ("train", "sample", "evaluate", "analyze", "export", "lr_range", "replay", "plan")

RENAMED_MODES = {"analyse": "analyze"}
"""Earlier names of modes."""


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
    values = _defined(lab)
    rest = _parse_values(lab, arguments, values)
    if values["help"].value:
        return None
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; use --name=value")
    given = given_flags(lab.config_class, values)
    chosen = {flag.name: values[flag.name].value for flag in command_flags(lab)}
    lines = deprecations(lab.config_class, given)
    if isinstance(lab, Lab):
        chosen["mode"], deprecated = _resolve_mode(values)
        del chosen["plan"]
        lines += deprecated
    for line in lines:
        print(f"{lab.name}: {line}", file=sys.stderr)
    _check_choices(lab, chosen)
    file, varied, seeds = (chosen.pop(name, None) for name in ("config", "vary", "seeds"))
    if file is not None:
        preset, chosen["stored"] = config_file.read(file, lab)
        given_preset = chosen["preset"] if values["preset"].present else None
        chosen["preset"] = config_file.preset_with(file, preset, given_preset, lab)
    overrides = config_lib.canonical(lab.config_class, given)
    invocation = Invocation(
        lab=lab, arguments=tuple(arguments), overrides=overrides, config_file=file, **chosen
    )
    invocation = vary.with_axes(invocation, varied, seeds)
    if isinstance(lab, Lab):
        _check_flags_of_mode(invocation)
    return invocation


class CommandFlag(NamedTuple):
    """A flag that is not a setting; one that is `repeated` has a list of values."""

    name: str
    kind: type
    default: Any
    help: str
    choices: Sequence[str] = ()
    repeated: bool = False


def command_flags(lab: Experiment) -> list[CommandFlag]:
    """Returns the flags of a command that are not settings."""
    presets = list(lab.presets)
    found = [
        CommandFlag("preset", str, presets[0], "name of the initial settings", presets),
        CommandFlag("overwrite", bool, False, "delete the run folder and start over"),
    ]
    if isinstance(lab, Lab | Study):
        config = "config.json of a run whose settings to repeat; flags override them"
        varied = "setting and values, NAME=VALUE,VALUE: trains one run for each, and compares them"
        found.append(CommandFlag("config", str, None, config))
        found.append(CommandFlag("vary", str, None, varied, repeated=True))
        if "seeds" not in config_lib.spellings(lab.config_class):
            seeds = "number of runs of each setting, with consecutive seeds from --seed on"
            found.append(CommandFlag("seeds", int, None, seeds))
    if isinstance(lab, Lab):
        modes = (
            "mode of the command; lr_range: plot the loss against a rising learning rate;"
            " replay: repeat one step and print the RMS of every gradient; plan: see --plan"
        )
        plan = (
            "print the bytes per device and the FLOPs of a training step on the devices of --mesh,"
            " which this machine need not have; trains nothing"
        )
        step = "number of the step that --mode=replay repeats"
        checkpoint = "checkpoint to sample, evaluate or export"
        found += [
            CommandFlag("mode", str, "train", modes, MODES),
            CommandFlag("plan", bool, False, plan),
            CommandFlag("replay_step", int, None, step),
            CommandFlag("checkpoint", str, "latest", checkpoint, ("latest", "best")),
        ]
        if lab.sweeps:
            questions = "; ".join(f"{name}: {sweep.question}" for name, sweep in lab.sweeps.items())
            text = f"set of runs to train and compare; {questions}"
            found.append(CommandFlag("sweep", str, None, text, list(lab.sweeps)))
    return found


def _defined(lab: Experiment) -> flags.FlagValues:
    """Returns all flags of a lab, without values.

    Raises:
      UserError: a setting of the lab has the name of a flag that every lab has.
    """
    taken = {"help", "h", *(flag.name for flag in command_flags(lab))}
    for name in config_lib.spellings(lab.config_class):
        if name in taken:
            raise UserError(
                f"--{name}: the lab has a setting with the name of this flag of every lab"
            )
    values = flags.FlagValues()
    define_flags(lab.config_class, values)
    for flag in command_flags(lab):
        if flag.repeated:
            parser, serializer = FlagParser(flag.name, flag.kind), flags.ArgumentSerializer()
            flags.DEFINE_multi(parser, serializer, flag.name, None, flag.help, flag_values=values)
        else:
            _define_flag(values, flag.name, flag.kind, flag.default, flag.help)
    if isinstance(lab, Lab):  # deprecated
        _define_flag(values, "lr_range_test", bool, False, "")
    flags.DEFINE_boolean("help", False, "", short_name="h", flag_values=values)
    return values


def define_flags(config_class: type[Config], values: flags.FlagValues) -> None:
    """Defines one absl flag per setting and alias; without the flag the preset applies."""
    kinds = config_lib.value_types(config_class)
    for name, field in config_lib.settings(config_class):
        kind, optional = kinds[name]
        for spelling in (name, *field.metadata["aliases"]):
            _define_flag(values, spelling, kind, None, field.metadata["help"], optional)


def _define_flag(
    values: flags.FlagValues,
    name: str,
    kind: type,
    default: Any,
    help: str,
    optional: bool = False,
) -> None:
    """Defines one absl flag whose error messages name the accepted values."""
    parser = FlagParser(name, kind, optional)
    if kind is bool:
        flags.DEFINE_flag(flags.BooleanFlag(name, default, help), values)
        values[name].parser = parser
    else:
        flags.DEFINE(parser, name, default, help, flag_values=values)


def given_flags(config_class: type[Config], values: flags.FlagValues) -> dict[str, Any]:
    """Returns the settings given on the command line, under the names used there."""
    names = [name for name in config_lib.spellings(config_class) if values[name].present]
    given = {name: values[name].value for name in names}
    return {name: None if value is NONE else value for name, value in given.items()}


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
    line = with_dashes(lab, f"--{error}" if is_flag else str(error))
    return program.with_typed_commands(line)


def with_dashes(lab: Experiment, text: str) -> str:
    """Returns a text with dashes before names between backticks that are flags of the lab."""
    names = _flag_names(lab)
    return re.sub(r"`(\w+)`", lambda name: f"--{name[1]}" if name[1] in names else name[0], text)


def _flag_names(lab: Experiment) -> set[str]:
    return {name for name, *_ in command_flags(lab)} | config_lib.spellings(lab.config_class).keys()


def _parse_values(lab: Experiment, arguments: Sequence[str], values: flags.FlagValues) -> list[str]:
    """Parses the arguments into `values` and returns the positional ones."""
    try:
        return values([lab.name, *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        present = config_lib.spellings(lab.config_class)
        hint = config_lib.nearest(error.flagname, values, present)
        raise UserError(
            f"--{error.flagname}: unknown flag{hint or '; --help lists all flags'}"
        ) from None
    except flags.Error as error:
        if isinstance(error.__context__, UserError):  # the message of our own parser
            raise error.__context__ from None
        raise UserError(" ".join(str(error).split())) from None


def _resolve_mode(values: flags.FlagValues) -> tuple[str, list[str]]:
    """Returns the mode, and one line for each deprecated spelling that selects it."""
    given, step = values["mode"].value, values["replay_step"].value
    mode, lines = RENAMED_MODES.get(given, given), []
    if mode != given:
        lines.append(f"--mode={given} is deprecated; use --mode={mode}")
    if values["plan"].value:
        if mode not in ("train", "plan"):
            raise UserError(f"--plan: not accepted with --mode={mode}; without a mode")
        mode = "plan"
    if values["lr_range_test"].value:
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


def _check_choices(lab: Experiment, chosen: Mapping[str, Any]) -> None:
    """Raises UserError for a value of a flag that is not a setting and not among its choices."""
    for flag in command_flags(lab):
        if flag.choices and (value := chosen[flag.name]) not in (*flag.choices, flag.default):
            hint = config_lib.nearest(value, flag.choices)
            accepted = f"one of {', '.join(flag.choices)}{hint}"
            raise UserError(f"--{flag.name}: {value!r} is not accepted; {accepted}")


def _check_flags_of_mode(invocation: Invocation) -> None:
    """Raises UserError for a flag that the mode would ignore, or a step that does not exist."""
    mode, step, config = invocation.mode, invocation.replay_step, invocation.config()
    steps = config.steps
    if mode == "sample" and invocation.lab.sample is None:
        raise UserError(f"--mode: 'sample' is not accepted; {invocation.lab.name} has no sampler")
    writing = ("train", "lr_range")
    if mode in (*writing, "plan"):
        runs = [config.optimization for config in invocation.configs()]
        require_used(runs, invocation.overrides)
    only_seeds = list(invocation.axes) == ["seed"]
    flag = ("seeds" if only_seeds else "vary") if invocation.axes else "sweep"
    ignored = {
        "replay_step": (step is not None and mode != "replay", "replay"),
        "config": (invocation.config_file is not None and mode not in (*writing, "plan"), "train"),
        "overwrite": (invocation.overwrite and mode not in writing, "train"),
        flag: (invocation.sweep is not None and mode != "train", "train"),
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
