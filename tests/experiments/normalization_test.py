"""The command of the normalization study: metrics, verdicts, figures, bad flags."""

import html

import numpy as np
import pytest

from jaxlabs.data import images
from jaxlabs.labs.normalization.lab import STUDY
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

TINY = (
    "--dataset=rendered_digits --train_images=32 --num_eval_examples=16 --steps=3 --batch_size=16"
)
TINY += " --seeds=2 --num_learning_rates=2 --scale_layers=2 --num_layers=1 --hidden_size=3"
FIGURES = {
    "normalization_rates",
    "normalization_speed",
    "normalization_generalization",
    "activation_scale",
    "batch_noise",
}


@pytest.fixture(scope="module", params=["mlp", pytest.param("cnn", marks=pytest.mark.slow)])
def measured(request, quickly_compiled, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "normalization")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "RENDERED_COUNTS", {"train": 60, "test": 20})
        flags = [*TINY.split(), "--platform=cpu", f"--network={request.param}"]
        assert cli.run(STUDY, [*flags, f"--workdir={folder.path}"]) == 0
    return folder


def test_outputs_are_figures_claims_and_metrics(measured):
    assert {path.stem for path in measured.figures.iterdir()} == FIGURES
    summary = measured.read_summary()
    assert summary["dataset"] == "rendered_digits"
    claims = summary["claims"]
    assert len(claims) == 7
    assert {claim["verdict"] for claim in claims} <= {"held", "refuted", "undecided"}
    text = (measured.samples / "final.txt").read_text()
    page = measured.report.read_text()
    for claim in claims:
        assert claim["evidence"] in text
        assert html.escape(claim["evidence"]) in page
    with np.load(measured.arrays("norm_training")) as arrays:
        assert arrays["step_loss"].shape == (3, 2, 2, 3)
        np.testing.assert_allclose(arrays["step_loss"][..., 0], np.log(10), rtol=1e-5)
        expected = arrays["test_loss"][1, arrays["best_rate"][1]].mean()
        assert summary["metrics"]["test_loss_batch"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--max_learning_rate=0.001", "--max_learning_rate: 0.001 is not accepted; at least"),
        ("--batch_size=1", "--batch_size: 1 is not accepted"),
        ("--network=rnn", "--network: 'rnn' is not accepted; one of mlp, cnn"),
        ("--norm=batch", "--norm: unknown flag"),
        ("--num_eval_examples=7", "--num_eval_examples: 7 is not accepted"),
    ],
)
def test_bad_flags_are_errors_of_one_line_without_a_run_folder(refused, flag, complaint):
    assert complaint in refused(STUDY, flag)


def test_too_few_images_are_an_error(tmp_path, capsys, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(images, "RENDERED_COUNTS", {"train": 60, "test": 20})
    flags = ["--dataset=rendered_digits", f"--workdir={tmp_path / 'run'}", "--overwrite"]
    assert cli.run(STUDY, flags) == 2
    assert (
        "--train_images: 4,000 training images, held-out ones included" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()
    for number in range(20):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number}.png")
    assert cli.run(STUDY, [f"--dataset={tmp_path}", f"--workdir={tmp_path / 'other'}"]) == 2
    assert "has 0 classes; at least two" in capsys.readouterr().err
