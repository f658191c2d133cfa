"""Runs of the character GPT in the process of the tests, and what they export."""

import contextlib

import pytest

from experiments.gpt import LAB
from jaxlabs import command
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.export import load_safetensors


@pytest.fixture
def ours(tiny_flags, tmp_path):
    """`ours(*flags, name="run") -> RunFolder`: one command in this process, with tiny settings."""

    def run(*flags, name="run"):
        folder = RunFolder(tmp_path / name)
        assert command.run(LAB, [*tiny_flags, f"--workdir={folder.path}", *flags]) == 0
        return folder

    return run


@pytest.fixture(scope="session")
def exported():
    """Exports a run, and takes the file away again: other tests read the folder too.

    Used as `with exported(folder) as (params, metadata)`.
    """

    @contextlib.contextmanager
    def export(folder):
        path = folder.path / "parameters.safetensors"
        try:
            assert command.run(LAB, ["--mode=export", f"--workdir={folder.path}"]) == 0
            yield load_safetensors(path)
        finally:
            path.unlink(missing_ok=True)

    return export
