"""The list of labs and `--help` import no slow library: they are there at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxlabs import labs

ROOT = Path(__file__).parents[1]

# What a run needs and `--help` does not; each takes a good part of a second to import.
SLOW = (
    "PIL",
    "jaxlabs.runner.modes",
    "matplotlib",
    "nltk",
    "orbax",
    "sacrebleu",
    "scipy",
    "tensorflow_datasets",
    "tensorstore",
)

# Prints the slow modules that the help of every lab has imported first, by lab.
HELP = f"""
import contextlib, io, sys
known = set(sys.modules)
from jaxlabs import labs
from jaxlabs.runner import cli
for name in labs.built_in():
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert cli.run(labs.load(name), ["--help"]) == 0
    assert "usage: " in shown.getvalue()
    found = [module for module in {SLOW} if module in set(sys.modules) - known]
    known |= set(sys.modules)
    if found:
        print(name, *found)
print("done", len(labs.built_in()))
"""


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_help_of_every_lab_imports_no_slow_library():
    assert python("-c", HELP).stdout == f"done {len(labs.built_in())}\n"


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"]])
def test_list_of_labs_imports_neither_jax_nor_a_lab(arguments):
    shown = python("-X", "importtime", "-m", "jaxlabs", *arguments)
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "jaxlabs.commands" in imported
    slow = {
        "jax",
        "flax",
        "optax",
        "absl",
        *SLOW,
        *(f"jaxlabs.labs.{name}" for name in labs.built_in()),
    }
    assert not imported & slow


def processor_seconds(*arguments):
    """Returns the least processor time of a Python process in three runs."""
    times = []
    for _ in range(3):
        before = os.times()
        python(*arguments)
        after = os.times()
        children = (after.children_user, after.children_system)
        times.append(sum(children) - before.children_user - before.children_system)
    return min(times)


@pytest.mark.benchmark
def test_list_of_labs_takes_less_than_half_a_second():
    assert processor_seconds("-m", "jaxlabs", "--help") < 0.5


@pytest.mark.benchmark
@pytest.mark.parametrize("name", ["gpt", "sequence_patterns"])
def test_help_of_a_lab_takes_little_more_than_importing_jax_flax_and_optax(name):
    needed = processor_seconds("-c", "import jax, flax.linen, optax")
    assert processor_seconds("-m", "jaxlabs", name, "--help") < 1.3 * needed
