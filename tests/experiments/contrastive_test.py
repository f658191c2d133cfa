"""The command of contrastive pretraining: runs, resumption, sweeps, bad input."""

import math

import numpy as np
import PIL.Image
import pytest

from jaxlabs.data import digits
from jaxlabs.labs.contrastive.lab import LAB, SWEEP_PAIRS
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

TINY = "--channels=2 --projection_dim=8 --embed_dim=8 --num_heads=2 --mlp_dim=8 --warmup_steps=0"
TINY += (
    " --batch_size=16 --eval_batch_size=8 --num_eval_examples=12 --prompt=thin --max_translation=1"
)
PACE = "--steps=6 --eval_every=3 --checkpoint_every=3 --log_every=3"


@pytest.fixture(scope="module")
def digit_folder(tmp_path_factory):
    """Small digits as a folder of images, whose slant and thickness have to be measured."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels, _ = digits.render(160)
    for number, (image, label) in enumerate(zip(images[:, 2:26:2, 2:26:2, 0], labels, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        PIL.Image.fromarray(image).save(folder / str(label) / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, digit_folder):
    """`run(loss) -> (run folder, flags)`: short runs, each trained once."""
    trained = {}

    def run(loss):
        if loss not in trained:
            folder = RunFolder(tmp_path_factory.mktemp(loss) / "run")
            flags = [*TINY.split(), *PACE.split(), f"--dataset={digit_folder}", f"--loss={loss}"]
            assert cli.run(LAB, [*flags, f"--workdir={folder.path}"]) == 0
            trained[loss] = folder, flags
        return trained[loss]

    return run


@pytest.mark.parametrize("loss", ["clip", pytest.param("siglip", marks=pytest.mark.slow)])
def test_outputs_are_metrics_figures_and_baselines(runs, loss):
    folder, _ = runs(loss)
    summary, first = folder.read_summary(), folder.read_metrics()[0]
    metrics, known = summary["metrics"], summary["baselines"]
    for name in ("zero_shot_accuracy", "slant_accuracy", "text_to_image_recall_at_5"):
        assert 0 <= metrics[name] <= 1
    assert metrics["final_scale"] == pytest.approx(first["scale"], rel=0.1)
    assert ("bias" in first) == (loss == "siglip")
    assert 0 <= known["optimal"] < known["chance"]  # 0: no caption occurs twice in a batch
    if loss == "clip":
        assert known["chance"] == pytest.approx((8 * math.log(8) + 4 * math.log(4)) / 12)
        assert metrics["expected_pairs"] == pytest.approx(1)
    figures = {path.stem for path in folder.figures.iterdir()}
    assert figures >= {"similarity", "mean_similarity", "retrieval", "reliability", "loss"}
    with np.load(folder.arrays("reliability")) as arrays:
        classes, pairs = arrays["count"].sum(axis=1)
    assert classes == 12
    assert pairs == 8 * 8 + 4 * 4
    assert folder.read_config()["dataset"]["attributes"] == "measured"
    assert (folder.samples / "final.txt").read_text().startswith("thin\n")


def test_interrupted_run_resumes_to_the_same_end(runs, cut_off, require_same_end):
    unbroken, flags = runs("siglip")
    folder = cut_off(unbroken)
    assert cli.run(LAB, [*flags, f"--workdir={folder.path}"]) == 0
    require_same_end(folder, unbroken)


def test_finished_run_can_be_rerun_evaluated_and_analyzed(runs, rerun):
    rerun(LAB, runs("clip")[0])


def test_nearest_captions_of_a_prompt(runs, capsys):
    folder, _ = runs("clip")
    flags = ["--mode=sample", f"--workdir={folder.path}"]
    capsys.readouterr()
    assert cli.run(LAB, [*flags, "--prompt=a bold seven"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a bold seven"
    assert len(lines) == 7
    cosines = [float(line.split()[0]) for line in lines[1:]]
    assert cosines == sorted(cosines, reverse=True)
    assert cli.run(LAB, [*flags, "--prompt=a bold cat"]) == 2
    assert "--prompt: 'a bold cat' has unknown words" in capsys.readouterr().err


def test_runs_of_the_batch_size_sweep_train_on_equally_many_pairs():
    sweep = LAB.sweeps["batch_size"]
    for point in sweep.points():
        steps = sweep.derived_settings(point)["steps"]
        assert steps * point["batch_size"] == pytest.approx(SWEEP_PAIRS, rel=0.01)
    rates = [sweep.derived_settings({"batch_size": size})["learning_rate"] for size in (64, 256)]
    assert rates == pytest.approx([1.5e-3, 3e-3])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--batch_size=1", "--batch_size: 1 is not accepted; at least 2, since the other pairs"),
        (
            "--grad_accum_steps=2",
            "--grad_accum_steps: 2 is not accepted; 1, since the loss of an example",
        ),
        ("--loss=nce", "--loss: 'nce' is not accepted; one of clip, siglip"),
        ("--init_temperature=0", "--init_temperature: 0.0 is not accepted; a number above 0"),
        ("--context_length=4", "tokens; 1 to 4"),
        ("--num_heads=3", "--num_heads: 3 does not divide --embed_dim 8"),
    ],
)
def test_bad_input_is_an_error_of_one_line_without_a_run_folder(
    flag, message, digit_folder, refused
):
    assert message in refused(LAB, *TINY.split(), f"--dataset={digit_folder}", flag)


def test_classes_other_than_digits_are_an_error(tmp_path, refused):
    for number in range(20):
        (tmp_path / "images" / f"kind{number % 2}").mkdir(parents=True, exist_ok=True)
        path = tmp_path / "images" / f"kind{number % 2}" / f"{number}.png"
        PIL.Image.new("L", (8, 8), number).save(path)
    error = refused(LAB, f"--dataset={tmp_path / 'images'}")
    assert "has the classes kind0, kind1; the digits 0 to 9 are needed" in error
