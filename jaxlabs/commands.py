"""Reference implementations of course-scale deep learning in JAX and Flax.

usage: {program} LAB [flags]            a lab by its name, or by the path of its file: my_lab.py
       {program} COMMAND [arguments]
       {program} --version

`{program} LAB --help` lists the flags of a lab with their values in its presets.
"""

import argparse
import importlib
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import jaxlabs
from jaxlabs import labs
from jaxlabs.config import ArgumentError, UserError, nearest
from jaxlabs.runner import exit_status, program

if TYPE_CHECKING:
    from jaxlabs.runner.lab import Experiment

MODULES = {
    "compare": "jaxlabs.runner.compare",
    "check": "jaxlabs.runner.check",
    "new": "jaxlabs.runner.new",
    "doctor": "jaxlabs.runner.doctor",
    "reproduce": "jaxlabs.runner.reproduce",
    "benchmark": "jaxlabs.benchmark.lab",
}
"""The modules of the commands beside the labs; the first line of the docstring is in the list.

The last two have flags and a run folder like a lab. Each of the others defines
`add_arguments(parser: argparse.ArgumentParser)` and `run(options: argparse.Namespace) -> int`.
"""

LIKE_LABS = ("reproduce", "benchmark")


def run(arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit status; a lab exits from the process itself."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        return exit_status.of("jaxlabs", lambda: _print(overview()))
    if name == "--version":
        return exit_status.of("jaxlabs", lambda: _print(f"jaxlabs {jaxlabs.__version__}"))
    if name in _commands() and name not in LIKE_LABS:
        return _run_command(name, rest)
    try:
        experiment = _experiment(name)
    except UserError as error:
        return exit_status.refuse("jaxlabs", error)
    # Imported only now, with JAX, which the list of labs and a wrong name do not need.
    from jaxlabs.runner import cli

    cli.main(experiment, rest)


def overview() -> str:
    """Returns the usage, and the labs and commands with one line each; imports none of them."""
    found = labs.summaries()
    commands = {name: labs.docstring_line(file) for name, file in _commands().items()}
    width = max(map(len, [*found, *commands]))
    lines = [__doc__.format(program=program.name())]
    for heading, entries in (("labs", found), ("commands", commands)):
        lines += [heading, *(f"  {name:{width}}  {line}" for name, line in entries.items()), ""]
    return "\n".join(lines).rstrip()


def _print(text: str) -> int:
    print(text)
    return 0


def _commands() -> dict[str, pathlib.Path]:
    """Returns the files of the commands by name."""
    specs = {name: importlib.util.find_spec(module) for name, module in MODULES.items()}
    return {name: pathlib.Path(spec.origin) for name, spec in specs.items() if spec is not None}


def _experiment(name: str) -> "Experiment":
    """Returns a lab, or the command of that name.

    Raises:
      UserError: the name is unknown, or its lab cannot be loaded.
    """
    if name == "benchmark":
        return importlib.import_module(MODULES[name]).STUDY
    if name == "reproduce":
        suite = importlib.import_module(MODULES[name]).suite
        return suite(labs.Labs(), labs.load, labs.load_stored)
    if name.startswith("-"):
        raise UserError(f"{name!r}: the name of a lab or a command comes first")
    known = [*labs.names(), *_commands()]
    if not labs.is_file(name) and name not in known:
        files = [f"{name}.py"] if pathlib.Path(f"{name}.py").is_file() else []
        hint = nearest(name, [*known, *files]) or "; jaxlabs lists all"
        raise UserError(f"{name!r}: unknown lab or command{hint}")
    return labs.load(name)


class _Parser(argparse.ArgumentParser):
    """Raises UserError for invalid arguments."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help shows what is accepted")


def _run_command(name: str, arguments: Sequence[str]) -> int:
    """Runs a command that has arguments instead of the flags of a lab."""
    module = importlib.import_module(MODULES[name])
    parser = _Parser(
        prog=f"{program.name()} {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    usage = parser.format_usage()

    def action() -> int:
        if {"-h", "--help"} & set(arguments):
            return _print(parser.format_help().rstrip())
        return module.run(parser.parse_args(arguments))

    def line(error: UserError) -> str:
        """Returns the message, with dashes before the argument if it is an option."""
        is_option = isinstance(error, ArgumentError) and f"--{error.argument}" in usage
        return f"--{error}" if is_option else str(error)

    return exit_status.of(f"jaxlabs {name}", action, line)
