"""The one runner behind every experiment: its command line, its help, its errors."""

import contextlib
import dataclasses
import inspect
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from jaxlabs import config as config_lib
from jaxlabs import modes, paths, reproduction, standard_streams, studies, sweeps
from jaxlabs.config import UserError
from jaxlabs.lab import Experiment, Invocation, Lab, Study, Suite
from jaxlabs.training import capacity, hosts, jax_settings, memory, signals
from jaxlabs.training.signals import Interrupted

MODES = ("train", "sample", "evaluate", "analyze", "export")

READER_GONE = 128 + 13
"""The exit status of a command whose reader hung up, as of one that SIGPIPE ends."""


def main(lab: Experiment) -> None:
    """Runs a command line and exits with its status.

    0 done; 1 a lab failed, or another process of the run was lost; 2 bad input; 130 Ctrl-C; 143
    SIGTERM; 141 whoever read the output hung up.
    """
    standard_streams.make_usable()
    signals.guard()
    memory.configure_malloc()
    status = run(lab, sys.argv[1:])
    if status:
        hosts.abandon(status)
    sys.exit(status)


def run(lab: Experiment, arguments: Sequence[str]) -> int:
    """Runs one command line; what ends it early becomes one line on stderr and a status."""
    with jax_settings.fixed(), signals.listening():
        try:
            status = _carry_out(lab, arguments)
            print(end="", flush=True)  # what cannot be printed is an error too
            return status
        except Interrupted as interruption:
            return _say(lab, interruption, interruption.status)
        except KeyboardInterrupt:
            return _say(lab, Interrupted(signal.SIGINT), 128 + signal.SIGINT)
        except UserError as error:
            return _say(lab, error, 2)
        except BrokenPipeError:
            _drop_unprinted()
            return READER_GONE
        except OSError as error:
            place = "" if error.filename is None else f"{error.filename}: "
            _drop_unprinted()
            return _say(lab, f"{place}{error.strerror or error}", 2)
        except Exception as error:
            if (number := signals.requested()) is not None:  # it was raised as something else
                return _say(lab, Interrupted(number), 128 + number)
            if lost := hosts.lost(error):
                return _say(lab, lost, hosts.STATUS)
            raise


def _say(lab: Experiment, line: object, status: int) -> int:
    print(f"{lab.name}: {line}", file=sys.stderr)
    return status


def _drop_unprinted() -> None:
    """Drops what a stream cannot be rid of, which Python would try once more at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _carry_out(lab: Experiment, arguments: Sequence[str]) -> int:
    request = parse(lab, arguments)
    if request is None:
        print(help_text(lab))
        return 0
    with _memory_named(request):
        return _do(request)


def _do(request: Invocation) -> int:
    if isinstance(request.lab, Suite):
        return reproduction.run(request)
    if isinstance(request.lab, Study):
        studies.measure(request)
    elif request.sweep is not None:
        sweeps.run(request)
    else:
        modes.run(request)
    return 0


@contextlib.contextmanager
def _memory_named(request: Invocation) -> Iterator[None]:
    """Turns what does not fit into memory into a line that begins with the flags to blame.

    Raises:
      UserError: something did not fit.
    """
    try:
        yield
    except Exception as error:
        line = capacity.in_a_line(error)
        if line is None:
            raise
        raise UserError(f"{_enlarging(request)}: {line}; smaller ones are needed") from None


def _enlarging(request: Invocation) -> str:
    """Returns the given numbers that exceed the preset's by far, most first; else the preset."""
    preset = request.preset_config().flat()
    ratios = {
        name: value / (preset[name] or 1)
        for name, value in request.given.items()
        if isinstance(value, int | float) and not name.endswith("seed")
    }
    least = math.sqrt(max([1.0, *ratios.values()]))
    names = sorted((name for name in ratios if ratios[name] > least), key=ratios.get, reverse=True)
    if not names:
        return f"--preset={request.preset}"
    return ", ".join(f"--{name}={request.given[name]}" for name in names)


def parse(lab: Experiment, arguments: Sequence[str]) -> Invocation | None:
    """Parses a command line; None means that help was asked for.

    Raises:
      UserError: an unknown flag, a value that is not accepted, a word that is no flag or not
        UTF-8.
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
        hint = config_lib.nearest(error.flagname, list(values))
        raise UserError(
            f"--{error.flagname}: no such flag{hint or '; --help lists them'}"
        ) from None
    except flags.IllegalFlagValueError as error:
        if isinstance(error.__context__, UserError):  # the one line that our own parser made
            raise error.__context__ from None
        raise UserError(" ".join(str(error).split())) from None
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from None
    if values["help"].value:
        return None
    if rest:
        raise UserError(f"{rest[0]!r} is no flag; settings are given as --name=value")
    given = config_lib.given_flags(lab.config_class, values)
    for line in config_lib.deprecations(lab.config_class, given):
        print(f"{lab.name}: {line}", file=sys.stderr)
    request = Invocation(
        lab=lab,
        arguments=tuple(arguments),
        given=config_lib.canonical(lab.config_class, given),
        **{name: values[name].value for name, *_ in _command_flags(lab)},
    )
    _check_choice("preset", request.preset, lab.presets)
    if isinstance(lab, Lab):
        _check_lab_flags(request)
    return request


def _check_lab_flags(request: Invocation) -> None:
    _check_choice("mode", request.mode, MODES)
    _check_choice("checkpoint", request.checkpoint, ("latest", "best"))
    _check_mode(request)
    if request.sweep is not None:
        _check_choice("sweep", request.sweep, request.lab.sweeps or ("none, as this lab has none",))
        if request.mode != "train" or request.lr_range_test or request.replay_step is not None:
            raise UserError(f"--sweep: {request.sweep!r} trains; it goes with no other mode")
    if request.replay_step is not None and not 1 <= request.replay_step <= request.config().steps:
        accepted = f"a step from 1 to {request.config().steps}"
        raise UserError(f"--replay_step: {request.replay_step} is not accepted; {accepted}")


def _check_mode(request: Invocation) -> None:
    """Raises UserError for a flag that the mode would pass over in silence."""
    of_training = ("overwrite", "lr_range_test", "replay_step")
    given = [name for name in of_training if getattr(request, name) not in (False, None)]
    if given and request.mode != "train":
        raise UserError(f"--{given[0]}: it goes with --mode=train, not with {request.mode}")
    if "replay_step" in given and len(given) > 1:
        raise UserError(f"--{given[0]}: it does not go with --replay_step; leave one of them out")
    if request.checkpoint != "latest" and request.mode in ("train", "analyze"):
        why = {"train": "a run resumes from its end", "analyze": "a run is analyzed at its end"}
        raise UserError(f"--checkpoint: {why[request.mode]}; latest")


def _command_flags(lab: Experiment) -> list[tuple[str, type, Any, str]]:
    """Returns (name, type, default, help) of the flags that choose what to do rather than how."""
    presets = ", ".join(lab.presets)
    common = [
        ("preset", str, next(iter(lab.presets)), f"settings to start from [{presets}]"),
        ("overwrite", bool, False, "throw the run folder's contents away and start anew"),
    ]
    if not isinstance(lab, Lab):
        return common
    range_test = "instead of training, raise the learning rate step by step and draw the losses"
    replay = "instead of training, repeat this step and print the size of every gradient"
    flags_of_labs = [
        ("mode", str, "train", f"what to do [{', '.join(MODES)}]"),
        ("lr_range_test", bool, False, range_test),
        ("replay_step", int, None, replay),
        ("checkpoint", str, "latest", "which one to sample, evaluate or export [latest, best]"),
    ]
    if lab.sweeps:
        questions = "; ".join(f"{name}: {sweep.question}" for name, sweep in lab.sweeps.items())
        flags_of_labs.append(
            ("sweep", str, None, f"train many runs and compare them [{questions}]")
        )
    return common + flags_of_labs


def _define_command_flags(lab: Experiment, values: flags.FlagValues) -> None:
    for name, kind, default, text in _command_flags(lab):
        config_lib.define_flag(values, name, kind, default, text, optional=False)
    flags.DEFINE_boolean("help", False, "show this text", short_name="h", flag_values=values)


def _check_choice(name: str, value: str, accepted: Any) -> None:
    if value not in accepted:
        hint = config_lib.nearest(value, accepted)
        raise UserError(f"--{name}: {value!r} is not accepted; one of {', '.join(accepted)}{hint}")


def help_text(lab: Experiment) -> str:
    """Returns the text of `--help`: every setting with its value per preset."""
    lines = [
        inspect.cleandoc(lab.description),
        "",
        f"usage: python -m experiments.{lab.name} [flags]",
        "",
    ]
    for name, _, default, text in _command_flags(lab):
        lines += [f"  --{name}={_show(default)}", f"      {text}"]
    lines += ["", f"settings, with their values in the presets {', '.join(lab.presets)}:", ""]
    configs = [lab.config_class.from_flat(preset).flat() for preset in lab.presets.values()]
    for name, field in config_lib.settings(lab.config_class):
        values = [_show(config[name]) for config in configs]
        shown = values[0] if len(set(values)) == 1 else " | ".join(values)
        lines.append(f"  --{name}={shown}")
        lines.append(f"      {field.metadata['help']}{_accepted(field)}")
    return "\n".join(lines)


def _accepted(field: dataclasses.Field) -> str:
    limits = field.metadata
    if limits["choices"]:
        return f" [{', '.join(limits['choices'])}]"
    bounds = [("at least", "minimum"), ("at most", "maximum")]
    bounds += [("above", "above"), ("below", "below")]
    words = [f"{word} {limits[key]}" for word, key in bounds if limits[key] is not None]
    return f" [{', '.join(words)}]" if words else ""


def _show(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
