"""The command of the study of recurrent networks: metrics, text, figures, bad flags."""

import numpy as np
import pytest

from jaxlabs.labs.rnn_dynamics.lab import STUDY
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

TINY = (
    "--updates=3 --sweep_hidden_size=4 --gradient_steps=6 --clipping_steps=2 --rule_steps=3"
    " --seeds=2"
    " --max_length=3 --adding_hidden_size=4 --adding_steps=2 --copying_hidden_size=4"
    " --copying_steps=2"
)
FIGURES = {
    "two_step_rnn",
    "spectral_sweep",
    "gradient_through_time",
    "cell_paths",
    "gates",
    "clipping",
    "weight_sharing",
    "weight_sharing_rules",
    "memory_adding",
    "memory_copying",
}


@pytest.fixture(scope="module")
def measured(quickly_compiled, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "dynamics")
    flags = f"--platform=cpu --workdir={folder.path} {TINY}".split()
    assert cli.run(STUDY, flags) == 0
    return folder


def test_figures_and_text_have_all_parts(measured):
    assert {path.stem for path in measured.figures.iterdir()} == FIGURES
    text = (measured.samples / "final.txt").read_text()
    assert "two-step scalar RNN at w = 0.3: loss 0.32, gradient -3.2, curvature 16" in text
    assert "overshoots, converges" in text
    assert "copying_lstm_chrono_init_length_3" in text


def test_metrics_match_the_arrays(measured):
    metrics = measured.read_summary()["metrics"]
    with np.load(measured.arrays("weight_sharing_rules")) as rules:
        loss = rules["loss"]
        assert loss.shape == (2, 3, 2, 3)
        assert list(rules["parameters"]) == [305, 16 * 305, 305 + 16 * 16]
        assert not np.isclose(loss[..., 0, 0], loss[..., 1, 0]).any()
        got = metrics["loss_unshared_rule_position_independent"]
        assert got == pytest.approx(np.median(loss[0, 1, :, -1]))
    for task, baseline in (("adding", 1 / 6), ("copying", 10 * np.log(8) / 23)):
        with np.load(measured.arrays(f"memory_{task}")) as found:
            assert found["curves"].shape == (4, 1, 1, 2)
            assert found["baseline"] == pytest.approx(baseline)
            got = metrics[f"{task}_gru_length_3"]
            assert got == pytest.approx(found["final"][2, 0, 0])
    with np.load(measured.arrays("gradient_through_time")) as through:
        assert through["before_lstm_c"].shape == (6, 3)
        assert metrics["gradient_norm_ratio_after_gru_6_steps"] == through["after_gru_h"][0, 1]
    assert metrics["cell_path_stop_gradient_error"] < 1e-12
    assert metrics["largest_relative_error_of_geometric_prediction"] < 1e-12


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--max_length=1", "--max_length: 1 is not accepted"),
        ("--gradient_steps=0", "--gradient_steps: 0 is not accepted"),
        ("--cell=lstm", "--cell: unknown flag"),
    ],
)
def test_bad_flags_are_errors_of_one_line_without_a_run_folder(refused, flag, complaint):
    assert complaint in refused(STUDY, flag)
