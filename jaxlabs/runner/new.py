"""Writes a new lab, a file that runs at once, and its test.

The lab trains a small network on generated data. Replace its data, model and loss by yours.
"""

import argparse
import importlib.util
import keyword
from importlib import resources
from pathlib import Path

from jaxlabs import labs
from jaxlabs.config import UserError
from jaxlabs.runner import program

TEMPLATES = ("my_lab.py", "my_lab_test.py")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("name", help="name of the lab and of its file, such as my_lab")


def run(options: argparse.Namespace) -> int:
    """Writes the two files into the working directory and prints what to type next."""
    name = options.name.removesuffix(".py")
    lab, test = write(name, Path())
    print(f"wrote {lab} and {test}; next:")
    print(f"  {program.name()} {lab} --steps=100")
    print(f"  {program.name()} check {lab}")
    print(f"  python -m pytest {test}")
    return 0


def write(name: str, folder: Path) -> list[Path]:
    """Writes a lab and its test, and returns their paths.

    Raises:
      UserError: the name is not accepted, or a file exists.
    """
    written = [folder / template.replace("my_lab", name) for template in TEMPLATES]
    _require_name(name)
    if existing := [str(path) for path in written if path.exists() or path.is_symlink()]:
        verb = "exist" if len(existing) > 1 else "exists"
        raise UserError(f"{' and '.join(existing)} {verb}; another name, or another folder")
    _require_new(name)
    for template, path in zip(TEMPLATES, written, strict=True):
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(content(template, name))
    return written


def content(template: str, name: str) -> str:
    """Returns a template with the name of the lab and of its class of settings."""
    text = resources.files("jaxlabs.runner.new_lab").joinpath(template).read_text("utf-8")
    words = "".join(word.capitalize() for word in name.split("_"))
    return text.replace("my_lab", name).replace("MyLab", words)


def _require_name(name: str) -> None:
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        accepted = "letters, digits and _, not at first a digit, such as my_lab"
        raise UserError(f"{name!r} is not accepted as a name; {accepted}")


def _require_new(name: str) -> None:
    """Raises UserError if the name would hide a lab or another module."""
    if name in labs.names():
        raise UserError(f"{name!r} is the name of a lab; another name")
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"{name!r} is the name of a Python module, which the file would hide")
