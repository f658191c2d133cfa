"""Labs of other packages, by their entry points."""

import importlib
import sys
from pathlib import Path

import pytest

from jaxlabs import commands, labs
from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("here")

STUDY = (Path(__file__).parent / "fixtures" / "count.py").read_text()


@pytest.fixture
def package(here, monkeypatch):
    """`package(text, *lines)`: installs a package `counting` with entry points."""

    def install(text, *lines):
        site = here / "site"
        info = site / "counting-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join([f"[{labs.GROUP}]", *lines]))
        (site / "counting").mkdir()
        (site / "counting" / "__init__.py").touch()
        (site / "counting" / "labs.py").write_text(text)
        sys.path.insert(0, str(site))

    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "counting"]:
        del sys.modules[name]


@pytest.mark.parametrize("value", ["counting.labs", "counting.labs:STUDY"])
def test_lab_of_another_package_is_found_by_its_entry_point(value, package, here, capsys):
    package(STUDY, f"count = {value}", "gpt = counting.labs")
    assert labs.names() == [*labs.built_in(), "count"]
    assert commands.run([]) == 0
    assert "\n  count               Counts to three.\n" in capsys.readouterr().out
    assert "counting" not in sys.modules
    assert labs.load("gpt").source.source == "built-in"
    lab = labs.load("count")
    assert cli.run(lab, []) == 0
    config = RunFolder("runs/count-quick").read_config()
    assert config["command"] == "jaxlabs count"
    assert config["lab"] == {
        "source": "entry point",
        "name": "count",
        "path": str(here / "site" / "counting" / "labs.py"),
        "sha256": lab.source.sha256,
    }
    assert labs.load_stored(config).source == lab.source


@pytest.mark.parametrize(
    ("text", "entry", "line"),
    [
        (STUDY, "number = counting.labs", "its lab is named 'count'; both need the same name"),
        ("import jaxlab", "count = counting.labs", "ModuleNotFoundError: No module named 'jaxlab'"),
        ("x = 1", "count = counting.labs:x", "it defines neither LAB, a Lab, nor STUDY, a Study"),
        (STUDY, "count = counting.labs:LAB", "AttributeError: module 'counting.labs' has no"),
    ],
)
def test_entry_point_without_a_lab_gives_one_line(text, entry, line, package, capsys):
    package(text, entry)
    name = entry.partition(" ")[0]
    assert commands.run([name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"jaxlabs: '{name}' of counting: {line}")
    assert error.count("\n") == 1


def test_broken_package_and_reserved_name_leave_the_list_of_labs(package, here, capsys):
    package("def f(:", "broken = counting.labs", "gone = counting.none", "check = counting.labs")
    assert commands.run([]) == 0
    listed = capsys.readouterr().out
    assert "\n  broken              a lab of counting\n" in listed
    assert "\n  gone                a lab of counting\n" in listed
    line = "a lab of counting, which cannot run: check is a command"
    assert f"\n  check               {line}\n" in listed
    with pytest.raises(UserError, match=r"^'check' of counting: the name of a command; another"):
        labs.load("check")


def test_lab_of_a_package_without_a_file_is_loaded(package, monkeypatch):
    package(STUDY, "count = counting.labs")
    module = importlib.import_module("counting.labs")
    for file in (None, "/packages.zip/counting/labs.py"):
        monkeypatch.setattr(module, "__file__", file)
        lab = labs.load("count")
        assert (lab.source.path, lab.source.sha256) == (None, None)
