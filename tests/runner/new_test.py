"""`jaxlabs new`: two files that run, and names that are refused in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxlabs import commands, labs
from jaxlabs.config import UserError
from jaxlabs.runner import new

ROOT = Path(__file__).parents[2]


def test_lab_and_test_have_the_given_name_and_the_next_commands_are_printed(here, capsys):
    assert commands.run(["new", "spiral_arms"]) == 0
    assert {path.name for path in here.iterdir()} == {"spiral_arms.py", "spiral_arms_test.py"}
    assert capsys.readouterr().out.splitlines() == [
        "wrote spiral_arms.py and spiral_arms_test.py; next:",
        "  jaxlabs spiral_arms.py --steps=100",
        "  jaxlabs check spiral_arms.py",
        "  python -m pytest spiral_arms_test.py",
    ]
    lab = labs.load("spiral_arms.py")
    assert (lab.name, lab.config_class.__name__) == ("spiral_arms", "SpiralArmsConfig")
    for path in here.iterdir():
        assert "my_lab" not in path.read_text().lower()
        assert b"\r" not in path.read_bytes()


NAMES = "letters, digits and _, not at first a digit, such as my_lab"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *[(name, f"{name!r} is not accepted as a name; {NAMES}") for name in ("my-lab", "2d", "")],
        *[(name, f"{name!r} is not accepted as a name; {NAMES}") for name in ("a/b", "class", "ä")],
        ("gpt", "'gpt' is the name of a lab; another name"),
        ("random", "'random' is the name of a Python module, which the file would hide"),
        ("numpy", "'numpy' is the name of a Python module, which the file would hide"),
    ],
)
def test_name_that_is_not_accepted_gives_one_line_and_no_file(name, reason, here, capsys):
    assert commands.run(["new", name]) == 2
    assert capsys.readouterr().err == f"jaxlabs new: {reason}\n"
    assert list(here.iterdir()) == []


def test_name_may_have_the_suffix_of_the_file(here):
    assert commands.run(["new", "mine.py"]) == 0
    assert (here / "mine.py").exists()


@pytest.mark.parametrize("existing", ["mine.py", "mine_test.py", "dangling"])
def test_existing_file_is_never_overwritten(existing, here):
    if existing == "dangling":
        (here / "mine.py").symlink_to("nowhere")
    else:
        (here / existing).write_text("mine")
    before = {path.name: os.path.lexists(path) for path in here.iterdir()}
    with pytest.raises(UserError, match=r"^mine(_test)?\.py exists; another name, or another"):
        new.write("mine", Path())
    assert {path.name: os.path.lexists(path) for path in here.iterdir()} == before
    assert existing == "dangling" or (here / existing).read_text() == "mine"


def test_tests_of_the_written_lab_pass(here):
    new.write("mine", Path())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine_test.py"]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "2 passed" in result.stdout


def test_written_lab_passes_the_check(here):
    new.write("mine", Path())
    command = [sys.executable, "-m", "jaxlabs", "check", "mine.py"]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "FAIL" not in result.stdout
