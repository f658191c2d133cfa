"""The command line of every experiment: flags, help text, errors and exit status."""

import contextlib
import dataclasses
import inspect
import math
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from absl import flags

from jaxlabs import config as config_lib
from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.runner import modes, reproduce, standard_streams, studies, sweeps
from jaxlabs.runner.lab import Experiment, Invocation, Lab, Study, Suite
from jaxlabs.training import capacity, hosts, jax_settings, malloc, signals
from jaxlabs.training.signals import Interrupted

MODES = ("train", "sample", "evaluate", "analyze", "export", "lr_range", "replay")

RENAMED_MODES = {"analyse": "analyze"}
"""Earlier names of modes."""

BROKEN_PIPE_STATUS = 128 + 13
"""The exit status after EPIPE: the same as that of a process killed by SIGPIPE."""


def main(lab: Experiment) -> None:
    """Runs a command line and exits with its status.

    0 success; 1 a lab failed, or another process of the run was lost; 2 invalid input or an
    operating-system error; 130 Ctrl-C; 143 SIGTERM; 141 standard output was closed.
    """
    standard_streams.make_usable()
    signals.guard()
    malloc.configure_malloc()
    status = run(lab, sys.argv[1:])
    if status:
        hosts.abandon(status)
    sys.exit(status)


def run(lab: Experiment, arguments: Sequence[str]) -> int:
    """Runs one command line; an expected error becomes one line on stderr and an exit status."""
    with jax_settings.fixed(), signals.listening():
        try:
            status = _run(lab, arguments)
            print(end="", flush=True)  # raises now if the output cannot be written
            return status
        except Interrupted as interruption:
            return _print_error(lab, interruption, interruption.status)
        except KeyboardInterrupt:
            return _print_error(lab, Interrupted(signal.SIGINT), 128 + signal.SIGINT)
        except UserError as error:
            return _print_error(lab, error_line(lab, error), 2)
        except BrokenPipeError:
            _discard_buffered_output()
            return BROKEN_PIPE_STATUS
        except OSError as error:
            path = "" if error.filename is None else f"{error.filename}: "
            _discard_buffered_output()
            return _print_error(lab, f"{path}{error.strerror or error}", 2)
        except Exception as error:
            if (number := signals.requested()) is not None:  # a library wrapped the interruption
                return _print_error(lab, Interrupted(number), 128 + number)
            if lost := hosts.lost(error):
                return _print_error(lab, lost, hosts.STATUS)
            raise


def error_line(lab: Experiment, error: UserError) -> str:
    """Returns the message of an error, with dashes before arguments that are flags of the lab.

    Those are the argument of an `ArgumentError`, and names between backticks.
    """
    flag_names = {name for name, *_ in _command_flags(lab)}
    flag_names |= config_lib.spellings(lab.config_class).keys()
    is_flag = isinstance(error, ArgumentError) and error.argument in flag_names
    line = f"--{error}" if is_flag else str(error)
    return re.sub(
        r"`(\w+)`", lambda name: f"--{name[1]}" if name[1] in flag_names else name[0], line
    )


def _print_error(lab: Experiment, line: object, status: int) -> int:
    print(f"{lab.name}: {line}", file=sys.stderr)
    return status


def _discard_buffered_output() -> None:
    """Discards output that cannot be written; Python would try to write it again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(lab: Experiment, arguments: Sequence[str]) -> int:
    request = parse(lab, arguments)
    if request is None:
        print(help_text(lab))
        return 0
    with _memory_errors_as_user_errors(request):
        return _dispatch(request)


def _dispatch(request: Invocation) -> int:
    if isinstance(request.lab, Suite):
        return reproduce.run(request)
    if isinstance(request.lab, Study):
        studies.measure(request)
    elif request.sweep is not None:
        sweeps.run(request)
    else:
        modes.run(request)
    return 0


@contextlib.contextmanager
def _memory_errors_as_user_errors(request: Invocation) -> Iterator[None]:
    """Replaces an out-of-memory error by one line that begins with the flags to lower.

    Raises:
      UserError: something did not fit into memory.
    """
    try:
        yield
    except Exception as error:
        line = capacity.in_a_line(error)
        if line is None:
            raise
        raise UserError(f"{_enlarged_flags(request)}: {line}; use smaller values") from None


def _enlarged_flags(request: Invocation) -> str:
    """Returns the flags that exceed the preset's values by far, largest ratio first.

    Without any such flag it returns the preset.
    """
    preset = request.preset_config().flat()
    ratios = {
        name: value / (preset[name] or 1)
        for name, value in request.overrides.items()
        if isinstance(value, int | float) and not name.endswith("seed")
    }
    threshold = math.sqrt(max([1.0, *ratios.values()]))
    names = [name for name in ratios if ratios[name] > threshold]
    if not names:
        return f"--preset={request.preset}"
    names.sort(key=ratios.get, reverse=True)
    return ", ".join(f"--{name}={request.overrides[name]}" for name in names)


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
    values = flags.FlagValues()
    config_lib.define_flags(lab.config_class, values)
    _define_command_flags(lab, values)
    try:
        rest = values([lab.name, *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        present = config_lib.spellings(lab.config_class)
        hint = config_lib.nearest(error.flagname, values, present)
        raise UserError(
            f"--{error.flagname}: unknown flag{hint or '; --help lists all flags'}"
        ) from None
    except flags.IllegalFlagValueError as error:
        if isinstance(error.__context__, UserError):  # the message of our own parser
            raise error.__context__ from None
        raise UserError(" ".join(str(error).split())) from None
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from None
    if values["help"].value:
        return None
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; use --name=value")
    given = config_lib.given_flags(lab.config_class, values)
    chosen = {name: values[name].value for name, *_ in _command_flags(lab)}
    deprecations = config_lib.deprecations(lab.config_class, given)
    if isinstance(lab, Lab):
        chosen["mode"], deprecated = _resolve_mode(values)
        deprecations += deprecated
    for line in deprecations:
        print(f"{lab.name}: {line}", file=sys.stderr)
    request = Invocation(
        lab=lab,
        arguments=tuple(arguments),
        overrides=config_lib.canonical(lab.config_class, given),
        **chosen,
    )
    _check_choice("preset", request.preset, lab.presets)
    if isinstance(lab, Lab):
        _check_lab_flags(request)
    return request


def _resolve_mode(values: flags.FlagValues) -> tuple[str, list[str]]:
    """Returns the mode, and one line for each deprecated spelling that selects it."""
    given, step = values["mode"].value, values["replay_step"].value
    mode, lines = RENAMED_MODES.get(given, given), []
    if mode != given:
        lines.append(f"--mode={given} is deprecated; use --mode={mode}")
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


def _check_lab_flags(request: Invocation) -> None:
    _check_choice("mode", request.mode, MODES)
    _check_choice("checkpoint", request.checkpoint, ("latest", "best"))
    _check_flags_of_mode(request)
    if request.sweep is not None:
        _check_choice("sweep", request.sweep, request.lab.sweeps or ("none, as this lab has none",))
        if request.mode != "train":
            raise UserError(f"--sweep: not accepted with --mode={request.mode}; --mode=train")
    if request.replay_step is not None and not 1 <= request.replay_step <= request.config().steps:
        accepted = f"a step from 1 to {request.config().steps}"
        raise UserError(f"--replay_step: {request.replay_step} is not accepted; {accepted}")


def _check_flags_of_mode(request: Invocation) -> None:
    """Raises UserError for a flag that the mode would ignore."""
    if request.overwrite and request.mode not in ("train", "lr_range"):
        raise UserError(f"--overwrite: not accepted with --mode={request.mode}; --mode=train")
    if request.replay_step is not None and request.mode != "replay":
        raise UserError(f"--replay_step: not accepted with --mode={request.mode}; --mode=replay")
    if request.replay_step is None and request.mode == "replay":
        raise UserError("--replay_step: missing with --mode=replay; the number of a step")
    reads_checkpoint = request.mode in ("sample", "evaluate", "export")
    if request.checkpoint != "latest" and not reads_checkpoint:
        raise UserError(
            f"--checkpoint: {request.checkpoint!r} is not accepted with --mode={request.mode};"
            " latest"
        )


def _command_flags(lab: Experiment) -> list[tuple[str, type, Any, str]]:
    """Returns (name, type, default, help) of the flags that are not settings."""
    presets = ", ".join(lab.presets)
    common = [
        ("preset", str, next(iter(lab.presets)), f"name of the initial settings [{presets}]"),
        ("overwrite", bool, False, "delete the run folder and start over"),
    ]
    if not isinstance(lab, Lab):
        return common
    flags_of_labs = [
        (
            "mode",
            str,
            "train",
            f"what to do [{', '.join(MODES)}]; lr_range: plot the loss against a rising learning"
            " rate; replay: repeat one step and print the RMS of every gradient",
        ),
        ("replay_step", int, None, "number of the step that --mode=replay repeats"),
        (
            "checkpoint",
            str,
            "latest",
            "checkpoint to sample, evaluate or export [latest, best]",
        ),
    ]
    if lab.sweeps:
        questions = "; ".join(f"{name}: {sweep.question}" for name, sweep in lab.sweeps.items())
        flags_of_labs.append(
            ("sweep", str, None, f"set of runs to train and compare [{questions}]")
        )
    return common + flags_of_labs


def _define_command_flags(lab: Experiment, values: flags.FlagValues) -> None:
    for name, kind, default, text in _command_flags(lab):
        config_lib.define_flag(values, name, kind, default, text, optional=False)
    if isinstance(lab, Lab):  # deprecated
        config_lib.define_flag(values, "lr_range_test", bool, False, "", optional=False)
    flags.DEFINE_boolean("help", False, "show this text", short_name="h", flag_values=values)


def _check_choice(name: str, value: str, accepted: Any) -> None:
    if value not in accepted:
        hint = config_lib.nearest(value, accepted)
        raise UserError(f"--{name}: {value!r} is not accepted; one of {', '.join(accepted)}{hint}")


def help_text(lab: Experiment) -> str:
    """Returns the text of `--help`: every setting with its value by preset, by section."""
    lines = [
        inspect.cleandoc(lab.description),
        "",
        f"usage: python -m experiments.{lab.name} [flags]",
        "",
        "command",
    ]
    for name, _, default, text in _command_flags(lab):
        lines += _help_lines(name, [default], text)
    configs = [lab.config_class.from_flat(preset).flat() for preset in lab.presets.values()]
    lines += ["", f"settings, with their values in the presets {' | '.join(lab.presets)}"]
    for section, fields in config_lib.sections(lab.config_class).items():
        lines += ["", section]
        for name, field in fields:
            text = field.metadata["help"] + _accepted(field)
            lines += _help_lines(name, [config[name] for config in configs], text)
    return "\n".join(lines)


def _help_lines(name: str, values: Iterable[Any], text: str) -> list[str]:
    words = [_format(value) for value in values]
    shown = words[0] if len(set(words)) == 1 else " | ".join(words)
    return [f"  --{name}={shown}", f"      {text}"]


def _accepted(field: dataclasses.Field) -> str:
    limits = field.metadata
    if limits["choices"]:
        return f" [{', '.join(limits['choices'])}]"
    bounds = [("at least", "minimum"), ("at most", "maximum")]
    bounds += [("above", "above"), ("below", "below")]
    words = [f"{word} {limits[key]}" for word, key in bounds if limits[key] is not None]
    return f" [{', '.join(words)}]" if words else ""


def _format(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
