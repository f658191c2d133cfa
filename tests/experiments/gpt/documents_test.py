"""A run on separate documents, in memory and resumed on shards."""

import json

import numpy as np
import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

# Not without optimizations, which merge a batch and its step in another way.
pytestmark = pytest.mark.usefixtures("reused_executables")


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """JSON lines of 1 to 60 characters."""
    path, rng = tmp_path_factory.mktemp("text") / "lines.jsonl", np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcd "), size)) for size in rng.integers(1, 60, 200)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return path


def test_run_on_separate_documents_is_resumed_on_shards(
    lines, tiny_flags, tmp_path, cut_off, require_same_end
):
    flags = [*tiny_flags, f"--dataset={lines}", f"--data_dir={tmp_path}", "--steps=8"]
    flags += ["--documents=separate", "--short_conv_width=3", "--past_context=slide"]
    flags += ["--max_new_tokens=20"]  # more than the context
    assert cli.run(LAB, [*flags, f"--workdir={tmp_path / 'run'}"]) == 0
    run = RunFolder(tmp_path / "run")
    rest = cut_off(run)
    assert cli.run(LAB, [*flags, f"--workdir={rest.path}", "--memory_limit=0"]) == 0
    require_same_end(rest, run)


def test_separate_documents_of_a_single_text_are_refused(play, refused):
    error = refused(LAB, f"--dataset={play}", "--documents=separate")
    assert error.startswith("gpt: --documents: 'separate' is not accepted with one document;")
