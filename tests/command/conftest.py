"""What the tests of the command line start from."""

import pytest

from experiments.gpt import LAB
from jaxlabs import command


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test starts in an empty folder of its own, so that `runs/` would be seen there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tiny_flags, reused_executables, tmp_path_factory):
    """The folder of a run that has ended; tests read it only."""
    path = tmp_path_factory.mktemp("trained") / "run"
    assert command.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={path}"]) == 0
    return path


@pytest.fixture
def refused(capsys):
    """`refused(*flags) -> line`: holds one command line to status 2 and one line on stderr."""

    def refuse(*flags):
        capsys.readouterr()
        status = command.run(LAB, flags)
        out, err = capsys.readouterr()
        assert status == 2, err
        assert out == ""
        assert err.startswith("gpt: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        return err.removeprefix("gpt: ").removesuffix("\n")

    return refuse
