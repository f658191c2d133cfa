"""In-process runs of the character GPT, and exports."""

import contextlib
import json

import pytest
from flax.traverse_util import unflatten_dict

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.training.export import read_safetensors


@pytest.fixture
def ours(tiny_flags, tmp_path):
    """`ours(*flags, name="run") -> RunFolder`: an in-process run with tiny settings."""

    def run(*flags, name="run"):
        folder = RunFolder(tmp_path / name)
        assert cli.run(LAB, [*tiny_flags, f"--workdir={folder.path}", *flags]) == 0
        return folder

    return run


@pytest.fixture(scope="session")
def exported():
    """Exports a run and deletes the file afterwards, since other tests read the folder.

    Usage: `with exported(folder) as (params, metadata)`.
    """

    @contextlib.contextmanager
    def export(folder):
        path = folder.path / "parameters.safetensors"
        try:
            assert cli.run(LAB, ["--mode=export", f"--workdir={folder.path}"]) == 0
            arrays, header = read_safetensors(path)
            metadata = {name: json.loads(text) for name, text in header.items()}
            yield unflatten_dict(arrays, sep="."), metadata
        finally:
            path.unlink(missing_ok=True)

    return export
