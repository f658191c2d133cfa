"""The command of diffusion on rendered digits: outputs, evaluation, resumption, bad input."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from jaxlabs.config import UserError
from jaxlabs.data import images
from jaxlabs.labs.ddpm import diffusion_samples, fid_eval
from jaxlabs.labs.ddpm import lab as ddpm
from jaxlabs.labs.mnist_classifier import lab as mnist_classifier
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.training.state import count_parameters

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

TINY = (
    "--dataset=rendered_digits --base_channels=4 --num_groups=2 --time_embed_dim=4 --steps=4"
    " --batch_size=8"
)
TINY += " --grad_accum_steps=1 --eval_batch_size=16 --num_eval_examples=16 --eval_every=2"
TINY += " --checkpoint_every=2 --log_every=1 --warmup_steps=1 --num_samples=8 --sampler_steps=4"
TINY += " --class_conditional --nll_images=16 --nll_strata=4"
SMALL_CLASSIFIER = "--dataset=rendered_digits --steps=2 --warmup_steps=1"


def run(lab, folder, *flags):
    assert cli.run(lab, [f"--workdir={folder}", *flags]) == 0
    return RunFolder(folder)


@pytest.fixture(scope="module", autouse=True)
def few_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "RENDERED_COUNTS", {"train": 300, "test": 60})
        yield


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier") / "run"
    return run(mnist_classifier.LAB, folder, *SMALL_CLASSIFIER.split())


@pytest.fixture(scope="module")
def measured(classifier):
    """Flags of an evaluation of samples by the small classifier."""
    return [
        *TINY.split(),
        f"--fid_classifier={classifier.path}",
        "--fid_samples=8",
        "--fid_steps=4",
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, measured):
    """A run of the quick preset with class-conditional, evaluated samples."""
    return run(ddpm.LAB, tmp_path_factory.mktemp("ddpm") / "run", *measured)


def test_quick_preset_outputs(whole):
    metrics = whole.read_summary()["metrics"]
    assert metrics["dpm_solver_4_fid"] > metrics["real_data_8_fid"] > 0
    assert 0 <= metrics["dpm_solver_4_precision"] <= 1
    assert metrics["nearest_to_sample"] > 0
    assert metrics["bits_per_dimension"] > 0
    assert metrics["whole_test_loss"] == pytest.approx(metrics["test_loss"], rel=0.5)
    with np.load(whole.samples / "final.npz") as samples:
        assert samples["images"].shape == (8, 28, 28, 1)
        assert samples["images"].min() >= 0
        assert samples["images"].max() <= 1
    with np.load(whole.arrays("forward_process")) as arrays:
        assert arrays["timesteps"].tolist() == [0, 250, 500, 999]
        assert arrays["images"].shape == (4, 8, 28, 28, 1)
    with np.load(whole.arrays("trajectory")) as arrays:
        assert arrays["timesteps"].tolist() == [999, 900, 750, 500, 250, 100, 50, 0]
    with np.load(whole.arrays("animation")) as arrays:
        assert arrays["images"].shape == (5, 16, 28, 28, 1)
    with np.load(whole.arrays("class_histogram")) as arrays:
        assert arrays["samples"].sum() == 8
    figures = {path.stem for path in whole.figures.iterdir()}
    assert figures >= {
        "forward_process",
        "trajectory",
        "animation",
        "fid_by_steps",
        "final_samples",
    }
    assert figures >= {"class_histogram", "neighbors", "loss_by_timestep", "loss"}


def test_finished_run_can_be_rerun_evaluated_and_analyzed(whole, rerun):
    rerun(ddpm.LAB, whole)


def test_untrained_loss_is_the_variance_of_v(whole):
    """The initial output is 0, so the squared error is the mean square of v.

    It is between those of x0 and of noise; for rendered digits in [-1, 1] the former is about 0.9.
    """
    first = whole.read_metrics()[0]
    assert (first["step"], first["split"]) == (0, "test")
    assert 0.85 < first["squared_error"] < 1.05


def test_interrupted_run_resumes_to_the_same_end(
    whole, cut_off, require_same_end, measured, capsys
):
    folder = cut_off(whole)
    run(ddpm.LAB, folder.path, *measured)
    assert "resuming at step 2" in capsys.readouterr().err
    require_same_end(folder, whole)


def test_samples_of_one_class_from_a_finished_run(whole, measured, tmp_path):
    folder = shutil.copytree(whole.path, tmp_path / "run")
    flags = ["--mode=sample", "--class_label=3", "--guidance_scale=2.0", "--num_samples=4"]
    run(ddpm.LAB, folder, *measured, *flags)
    with np.load(max((folder / "samples").iterdir(), key=lambda path: path.stat().st_mtime)) as new:
        assert new["images"].shape == (4, 28, 28, 1)
    with Image.open(folder / "figures" / "samples.png") as image:
        assert min(image.size) > 28


@pytest.mark.slow
def test_analysis_resumes_with_the_stored_samples(whole, measured, tmp_path, monkeypatch):
    folder = RunFolder(shutil.copytree(whole.path, tmp_path / "run"))
    flags = [f"--workdir={folder.path}", *measured, "--mode=analyze"]
    path = "samples/samples_dpm_solver_4.npz"
    calls = []

    def sample_images(model, params, config, key, count=None, first=0):
        calls.append((first, count))
        if first == 4 and calls.count((4, 8)) == 1:
            raise KeyboardInterrupt
        return original(model, params, config, key, count, first)

    original = diffusion_samples.sample_images
    monkeypatch.setattr(diffusion_samples, "sample_images", sample_images)
    monkeypatch.setattr(diffusion_samples, "CHUNK", 4)
    monkeypatch.setattr(fid_eval, "SAVE_EVERY", 1)
    assert cli.run(ddpm.LAB, flags) == 0
    assert calls == []  # the stored samples are reused
    (folder.path / path).unlink()
    assert cli.run(ddpm.LAB, flags) == 130
    assert cli.run(ddpm.LAB, flags) == 0
    assert calls == [(0, 4), (4, 8), (4, 8)]
    with np.load(folder.path / path) as ours, np.load(whole.path / path) as theirs:
        np.testing.assert_array_equal(ours["images"], theirs["images"])
    assert cli.run(ddpm.LAB, [*flags, "--guidance_scale=1.5"]) == 0
    assert calls[3:] == [(0, 4), (4, 8)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--class_label=10", "--class_label: 10 is not accepted; below 10"),
        ("--noclass_conditional --class_label=3", "--class_label: 3 is not accepted without"),
        (
            "--noclass_conditional --guidance_scale=2",
            "--guidance_scale: 2.0 is not accepted without",
        ),
        (
            "--class_dropout=0 --nll_images=0 --guidance_scale=2",
            "--guidance_scale: 2.0 is not accepted with --class_dropout 0; 1",
        ),
        (
            "--class_dropout=0 --nll_images=2 --guidance_scale=1",
            "--nll_images: 2 is not accepted with --class_dropout 0; 0, since",
        ),
        ("--sampler_steps=1001", "--sampler_steps: 1001"),
        ("--fid_steps=ten", "--fid_steps: 'ten' is not accepted; integers"),
        ("--fid_steps=2²", "--fid_steps: '2²' is not accepted; integers"),
        (
            "--fid_samples=100 --fid_steps=4,1001",
            "--fid_steps: 1001 is not accepted; at most --num_timesteps 1",
        ),
        ("--fid_samples=3", "--fid_samples: 3 is not accepted with --fid_steps 20; 0, or"),
        ("--nll_images=1", "--nll_images: 1 is not accepted; 0, or an integer of at least 2"),
        ("--fid_samplers=euler", "--fid_samplers: 'euler' is not accepted; of ancestral"),
        (
            "--fid_classifier=nowhere",
            "--fid_classifier: nowhere has no finished run; train one with",
        ),
        ("--num_groups=3", "--num_groups: 3 does not divide --base_channels 4"),
    ],
)
def test_bad_input_is_an_error_of_one_line_without_a_run_folder(flags, message, refused):
    assert message in refused(ddpm.LAB, *TINY.split(), "--fid_samples=8", *flags.split())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("summary.json", "[]", "has no finished run; train one with"),
        ("config.json", "null", "has no finished run; train one with"),
        ("config.json", {"dataset": {}}, "was trained on None and not on these images"),
        ("config.json", {"settings": {"batch_size": "x"}}, "--batch_size: 'x' is not accepted"),
        ("summary.json", {"metrics": {}}, "has no test_accuracy; train it again with"),
    ],
)
def test_damaged_classifier_is_an_error_of_one_line(
    file, content, message, classifier, tmp_path, refused
):
    folder = shutil.copytree(classifier.path, tmp_path / "classifier")
    if isinstance(content, dict):
        content = json.dumps(json.loads((folder / file).read_text()) | content)
    (folder / file).write_text(content)
    error = refused(ddpm.LAB, *TINY.split(), "--fid_samples=8", f"--fid_classifier={folder}")
    assert f"--fid_classifier: {folder}" in error
    assert message in error


def test_damaged_samples_are_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create()
    folder.write_sample("final", {"images": np.zeros((2, 4, 4, 1), np.float32)})
    np.testing.assert_array_equal(
        diffusion_samples.load_samples(folder, (4, 4, 1)), -np.ones((2, 4, 4, 1), np.float32)
    )
    damaged = [{"images": np.zeros((2, 4, 5, 1))}, {"other": np.zeros(3)}, {"images": np.zeros(0)}]
    for arrays in [*damaged, {"images": np.full((1, 4, 4, 1), "x")}]:
        folder.write_sample("final", arrays)
        with pytest.raises(UserError, match=r"final\.npz: holds no images of shape \[4, 4, 1\]"):
            diffusion_samples.load_samples(folder, (4, 4, 1))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            (10, 8),
            "--dataset: images of 10x8 are not accepted; height and width must be multiples of 4",
        ),
        ((8, 8), "or pass --noclass_conditional --guidance_scale=1"),
    ],
)
def test_size_that_is_not_divisible_and_missing_classes_are_errors(
    size, message, tmp_path, refused
):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(20):
        Image.fromarray(np.full(size, number, np.uint8)).save(folder / f"{number}.png")
    assert message in refused(ddpm.LAB, f"--dataset={folder}")


def test_best_is_class_conditional_with_fewer_parameters_than_the_reference():
    counts = {}
    for preset in ("reference", "best"):
        config = ddpm.DDPMRunConfig.from_flat(ddpm.PRESETS[preset])
        task = ddpm.build_task(config, {"shape": [28, 28, 1], "classes": [*"0123456789"]})
        params = jax.eval_shape(task.init, jax.random.key(0))["params"]
        counts[preset] = count_parameters(params)
    assert params["class_embedding"]["embedding"].shape == (11, 96)
    assert counts == {"reference": 1_011_969, "best": 984_289}


def test_mean_losses_of_complete_epochs():
    rows = [{"step": step, "split": "train", "loss": float(step)} for step in (1, 2, 3, 4, 5, 6, 7)]
    rows.append({"step": 2, "split": "test", "loss": 100.0})
    assert ddpm.mean_losses(rows, 3) == {"epoch_1_loss": 2.0, "epoch_2_loss": 5.0}
