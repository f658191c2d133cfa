"""The command of the digit classifier, and its use as a feature extractor."""

import math

import numpy as np
import pytest

import jaxlabs as jl
from jaxlabs.analysis.feature_extractor import restore_feature_extractor
from jaxlabs.config import UserError
from jaxlabs.data import images
from jaxlabs.labs.mnist_classifier.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

TINY = "--dataset=rendered_digits --channels=2 --feature_dim=8 --steps=8 --batch_size=16"
TINY += " --eval_every=4 --checkpoint_every=4 --log_every=4 --ema_decay=0.5 --warmup_steps=0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist_classifier") / "run"
    assert cli.run(LAB, [*TINY.split(), f"--workdir={folder}"]) == 0
    return RunFolder(folder)


def test_outputs_are_confusion_matrix_errors_and_metrics(whole):
    summary = whole.read_summary()
    first, metrics = whole.read_metrics()[0], summary["metrics"]
    assert first["loss"] == pytest.approx(math.log(10), abs=0.4)
    assert summary["baselines"]["chance"] == pytest.approx(math.log(10))
    with np.load(whole.arrays("confusion")) as arrays:
        assert arrays["counts"].shape == (1, 10, 10)
        assert arrays["counts"].sum() == 2000
        correct = np.trace(arrays["counts"][0])
    assert metrics["errors"] == 2000 - correct
    assert metrics["test_accuracy"] == pytest.approx(correct / 2000)
    with np.load(whole.arrays("misclassified")) as arrays:
        assert arrays["images"].shape == (100, 28, 28, 1)
        assert (arrays["labels"] != arrays["predicted"]).all()
    figures = {path.stem for path in whole.figures.iterdir()}
    assert figures >= {"confusion", "misclassified", "loss"}


def test_lab_without_a_sampler_writes_no_samples_and_refuses_to_sample(whole, capsys):
    assert not [*whole.samples.glob("*")]
    assert "Samples" not in whole.report.read_text("utf-8")
    assert cli.run(LAB, ["--mode=sample", f"--workdir={whole.path}"]) == 2
    line = "--mode: 'sample' is not accepted; mnist_classifier has no sampler"
    assert capsys.readouterr().err == f"mnist_classifier: {line}\n"
    with pytest.raises(UserError, match=r"^jl.Run.sample: mnist_classifier has no sampler$"):
        jl.load_run(whole.path).sample()


def test_finished_run_can_be_rerun_evaluated_and_analyzed(whole, rerun):
    rerun(LAB, whole)


def test_feature_extractor_uses_the_ema_parameters(whole):
    dataset = images.load("rendered_digits")
    extractor = restore_feature_extractor(str(whole.path), dataset.describe())
    features, probabilities = extractor.extract(dataset.test.images[:507])
    assert features.shape == (507, 8)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    metrics = whole.read_summary()["metrics"]
    assert extractor.accuracy == metrics["test_accuracy"]
    _, probabilities = extractor.extract(dataset.test.images)
    correct = probabilities.argmax(axis=1) == dataset.test.labels
    assert correct.mean() == pytest.approx(metrics["test_accuracy"])


def test_missing_or_wrong_feature_extractor_is_an_error(whole, tmp_path):
    known = {"name": "mnist", "sha256": "x", "classes": ["0"], "shape": [28, 28, 1]}
    with pytest.raises(UserError, match=r"^fid_classifier: .*none has no finished run; train one"):
        restore_feature_extractor(str(tmp_path / "none"), known)
    with pytest.raises(UserError, match=r"was trained on rendered_digits and not on these"):
        restore_feature_extractor(str(whole.path), known)


def test_images_without_classes_are_an_error(tmp_path, refused):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for number in range(20):
        Image.new("L", (8, 8), number).save(tmp_path / "images" / f"{number}.png")
    assert "has 0 classes; at least two" in refused(LAB, f"--dataset={tmp_path / 'images'}")
