"""Fixtures of the tests of the command line."""

import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.runner import cli


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Runs every test in its own empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tiny_flags, reused_executables, tmp_path_factory):
    """The folder of a complete run; read-only."""
    path = tmp_path_factory.mktemp("trained") / "run"
    assert cli.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={path}"]) == 0
    return path


@pytest.fixture
def refused(capsys):
    """`refused(*flags) -> line`: asserts status 2 and one line on stderr, and returns it.

    Nothing is on stdout, unless `late=True`: then a part of the work was done before.
    """

    def refuse(*flags, late=False):
        capsys.readouterr()
        status = cli.run(LAB, flags)
        out, err = capsys.readouterr()
        assert status == 2, err
        assert late or out == ""
        assert err.startswith("gpt: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        return err.removeprefix("gpt: ").removesuffix("\n")

    return refuse
