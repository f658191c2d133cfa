"""`--vary NAME=VALUE,VALUE` and `--seeds=N`: a sweep without code."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jaxlabs import config as config_lib
from jaxlabs.config import RUNTIME, ArgumentError, UserError, canonical, nearest
from jaxlabs.runner.config_file import NOT_TAKEN
from jaxlabs.runner.flag_parser import NONE, FlagParser
from jaxlabs.runner.lab import Invocation, Lab
from jaxlabs.training.optimizer_config import require_used

MAX_RUNS = 10_000
"""Largest number of runs of a sweep."""


def with_axes(invocation: Invocation, given: Sequence[str] | None, seeds: int | None) -> Invocation:
    """Returns the command line of a sweep over the values of some settings.

    Args:
      invocation: the command line without these flags.
      given: the values of `--vary`.
      seeds: the value of `--seeds`.

    Raises:
      UserError: an unknown setting, an invalid value, or a conflict with another flag.
    """
    if not given and seeds is None:
        return invocation
    if invocation.sweep is not None:
        flag = "vary" if given else "seeds"
        raise ArgumentError(flag, f"not accepted with --sweep={invocation.sweep}; one of them")
    axes: dict[str, list[Any]] = {}
    for text in given or ():
        name, values = _axis(invocation, text)
        if name in axes:
            raise ArgumentError("vary", f"{name} is given twice; one list of values")
        axes[name] = values
    if seeds is not None:
        if "seed" in axes:
            raise ArgumentError("seeds", "--vary varies the seed; one of them")
        if not 1 <= seeds <= MAX_RUNS:
            accepted = f"an integer of at least 1 and of at most {MAX_RUNS}"
            raise ArgumentError("seeds", f"{seeds} is not accepted; {accepted}")
        axes["seed"] = dataclasses.replace(invocation, axes=axes).config().seeds_from(seeds)
    runs = math.prod(map(len, axes.values()))
    if runs > MAX_RUNS:
        message = f"{runs} runs are not accepted; at most {MAX_RUNS}"
        raise ArgumentError("vary" if given else "seeds", message)
    invocation = dataclasses.replace(invocation, axes=axes, sweep="-".join(["vary", *axes]))
    _check_points(invocation)
    return invocation


def _axis(invocation: Invocation, text: str) -> tuple[str, list[Any]]:
    """Returns the setting and the values of one `--vary`."""
    config_class = invocation.lab.config_class
    present, kinds = config_lib.spellings(config_class), config_lib.value_types(config_class)
    given, equals, values = text.partition("=")
    if not equals or not values:
        example = "name=value,value, such as learning_rate=0.001,0.003"
        raise ArgumentError("vary", f"{text!r} is not accepted; {example}")
    fields = dict(config_lib.settings(config_class))
    varied = {
        spelling: name
        for spelling, name in present.items()
        if name not in NOT_TAKEN and fields[name].metadata["kind"] != RUNTIME
    }
    if given not in varied:
        why = ", since it does not change the result" if given in present else ""
        hint = "" if why else nearest(given, varied, varied)
        raise ArgumentError("vary", f"{given!r} is no setting that a sweep can vary{why}{hint}")
    name = varied[given]
    if name in invocation.overrides:
        raise ArgumentError(name, "--vary varies it; leave it out")
    parser = FlagParser(given, *kinds[name])
    try:
        parsed = [parser.parse(value) for value in values.split(",")]
    except UserError as error:
        raise ArgumentError("vary", str(error)) from None
    parsed = [None if value is NONE else value for value in parsed]
    parsed = [canonical(config_class, {given: value})[name] for value in parsed]
    if len({*parsed}) < len(parsed):
        raise ArgumentError("vary", f"{text!r} is not accepted; every value once")
    return name, parsed


def _check_points(invocation: Invocation) -> None:
    """Raises ArgumentError unless the settings of every run are valid, before the first starts."""
    for point in invocation.plan().points():
        try:
            config = invocation.config(point)
            if isinstance(invocation.lab, Lab):
                require_used([config.optimization], point)
        except UserError as error:
            if str(error) == _error_without_point(invocation):
                raise
            raise ArgumentError("vary", str(error)) from None


def _error_without_point(invocation: Invocation) -> str | None:
    """Returns what is wrong with the other flags alone; None if nothing is."""
    try:
        invocation.config()
    except UserError as error:
        return str(error)
    return None
