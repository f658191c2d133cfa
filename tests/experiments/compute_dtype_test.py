"""A run of the GPT in bfloat16: stored, resumed to the bit, sampled, on a machine without it."""

import dataclasses

import pytest

import jaxlabs as jl
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.training import precision

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

FLAGS = ["--steps=8", "--max_new_tokens=24", "--positions=rotary", "--short_conv_width=3"]


@pytest.fixture(scope="module")
def whole(tiny_flags, tmp_path_factory):
    """An uninterrupted run on a machine where `auto` is bfloat16; read only."""
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "has_fast_bfloat16", lambda device: True)
        assert cli.run(LAB, [*tiny_flags, *FLAGS, f"--workdir={folder.path}"]) == 0
    return folder


def test_resolved_dtype_is_stored(whole):
    stored = whole.read_config()
    assert stored["settings"]["compute_dtype"] == "auto"
    assert stored["tuned"]["compute_dtype"] == "bfloat16"


def test_run_resumes_to_the_same_end_on_another_machine(
    whole, cut_off, require_same_end, tiny_flags, capsys
):
    folder = cut_off(whole)
    assert cli.run(LAB, [*tiny_flags, *FLAGS, f"--workdir={folder.path}"]) == 0
    assert "resuming at step 4" in capsys.readouterr().err
    require_same_end(folder, whole)


def test_samples_and_evaluation_use_the_stored_dtype(whole, rerun, capsys):
    rerun(LAB, whole)
    capsys.readouterr()
    final = (whole.samples / "final.txt").read_text()
    assert len(final) > 24  # beyond the context, with a refilled bfloat16 cache
    flags = [f"--workdir={whole.path}", "--mode=sample", "--compute_dtype=float32"]
    assert cli.run(LAB, flags) == 2
    line = "--compute_dtype: float32 differs from auto of the run"
    assert line in capsys.readouterr().err


def test_sampler_of_a_loaded_run_gets_the_stored_dtype(whole):
    seen = []
    sample = lambda config, task, *_: seen.append(task.model.config) or "text"  # noqa: E731
    run = jl.load_run(whole.path, lab=dataclasses.replace(LAB, sample=sample))
    assert run.sample() == "text"
    assert seen[0].compute_dtype == "bfloat16"


def test_analysis_gets_the_stored_dtype(whole):
    seen = []
    lab = dataclasses.replace(LAB, analyze=lambda config, *_: seen.append(config) or {})
    assert cli.run(lab, [f"--workdir={whole.path}", "--mode=analyze"]) == 0
    assert seen[0].model.compute_dtype == "bfloat16"
