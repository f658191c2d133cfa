"""The command of the attention study: metrics, text, figures, bad flags."""

import numpy as np
import pytest

from jaxlabs.labs.attention.lab import STUDY
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

TINY = "--max_depth=2 --depth_steps=2 --max_heads=1 --heads_steps=2 --encoder_steps=2 --seeds=2"
FIGURES = {
    "scaled_dot_product",
    "attention_scaling",
    "attention_grid",
    "attention_close_up",
    "attention_rollout",
    "self_and_cross_attention",
    "attention_depth",
    "attention_heads",
}


@pytest.fixture(scope="module")
def measured(quickly_compiled, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "attention")
    flags = f"--platform=cpu --embed_dim=8 --num_heads=2 --workdir={folder.path} {TINY}".split()
    assert cli.run(STUDY, [*flags, "--attention_sentence=The old cat sat"]) == 0
    return folder


def test_figures_and_page_have_all_parts(measured):
    assert {path.stem for path in measured.figures.iterdir()} == FIGURES
    page = measured.report.read_text()
    assert "Effect of scaling by 1/√d_k" in page


def test_text_has_values_vectors_and_checks(measured):
    text = (measured.samples / "final.txt").read_text()
    assert "scaled scores, Q K^T / sqrt(d_k) [4 x 4]" in text
    assert "mini encoder: the old cat sat <PAD>" in text
    assert "contextual vectors [4 x 8]" in text
    assert "weights of cross-attention, by head [2 x 4 x 9]" in text
    checks = [line for line in text.splitlines() if line.endswith("  ok")]
    assert len(checks) == 2  # rows and padding


def test_metrics_match_the_arrays(measured):
    metrics = measured.read_summary()["metrics"]
    with np.load(measured.arrays("attention_depth")) as depth:
        assert depth["final_loss"].shape == depth["gradient_norm"].shape == (4, 2, 2)
        assert np.isfinite(depth["gradient_norm"]).all()
        expected = np.median(depth["final_loss"][0, -1])
        got = metrics["final_loss_residual_and_layernorm_2_blocks"]
        assert got == pytest.approx(expected, rel=1e-5)
    with np.load(measured.arrays("attention_heads")) as heads:
        assert heads["profiles_1"].shape == (2, 1, 7)
        assert heads["costs_1"].shape == (2, 1, 3)
        assert metrics["lookup_loss_of_1_heads"] == pytest.approx(heads["loss"][0].mean())
    with np.load(measured.arrays("attention_maps")) as maps:
        assert maps["maps"].shape == (2, 2, 9, 9)
        np.testing.assert_array_equal(maps["maps"][..., 4:], 0)
        assert list(maps["labels"]) == ["the", "old", "cat", "sat", *["<PAD>"] * 5]
    assert metrics["attention_padding_weight"] == 0


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--num_heads=3", "--num_heads: 3 does not divide --embed_dim 16; a divisor"),
        ("--attention_sentence= ", "--attention_sentence: ' ' is not accepted; at least one word"),
        ("--max_heads=33", "--max_heads: 33 is not accepted"),
        ("--depth_steps=0", "--depth_steps: 0 is not accepted"),
        ("--num_layers=2", "--num_layers: unknown flag"),
    ],
)
def test_bad_flags_are_errors_of_one_line_without_a_run_folder(refused, flag, complaint):
    assert complaint in refused(STUDY, flag)
