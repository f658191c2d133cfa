"""Tests of jaxlabs/labs/normalization/plots.py: figures and captions show their arrays."""

import numpy as np
import pytest

from jaxlabs.labs.normalization import plots as normalization
from jaxlabs.report import style

NORMS = np.array(["none", "batch", "layer"])
CLAIMS = (
    "faster_at_the_plain_rate",
    "faster_at_its_own_rate",
    "larger_rates",
    "steady_scale",
    "better_on_test_images",
    "smaller_gap",
    "noise_regularizes",
)


@pytest.fixture(autouse=True)
def mpl_style():
    with style.mpl_style():
        yield


def training_arrays(rates=(0.1, 1.0), seeds=2):
    random = np.random.default_rng(0)
    shape = (3, len(rates), seeds)
    loss = random.uniform(0.01, 0.2, shape)
    loss[0, -1] = np.nan if len(rates) > 1 else 0.1
    curves = random.uniform(0.01, 2, (3, seeds, 7))
    return {
        "norms": NORMS,
        "rates": np.array(rates),
        "test_accuracy": random.uniform(0.1, 0.9, shape),
        "train_loss": loss,
        "best_rate": np.array([0, len(rates) - 1, 0]),
        "fastest": np.array([0, len(rates) - 1, 0]),
        "curves_at_plain_rate": curves,
        "curves_at_own_rate": curves[::-1],
        "first_step": np.array(20),
        "target": np.array(0.2),
        "groups": np.array([4, 16]),
        "group_test_accuracy": random.uniform(0.5, 0.9, (2, seeds)),
    } | {f"claim_{name}": np.array(f"What of {name}?") for name in CLAIMS}


def lines(axes):
    return [line.get_ydata() for line in axes.get_lines()]


def test_training_plots_rates_speed_and_generalization():
    arrays = training_arrays()
    rates, speed, generalization = normalization.training(arrays)
    upper, lower = rates.figure.axes
    np.testing.assert_allclose(lines(upper), 100 * arrays["test_accuracy"].mean(-1))
    assert lines(lower)[0][1] > lower.get_ylim()[1]  # diverged runs are above the axis
    assert "What of larger_rates?" in rates.caption
    same, own = speed.figure.axes
    np.testing.assert_array_equal(lines(same)[2], arrays["curves_at_plain_rate"][1, 0])
    np.testing.assert_array_equal(lines(own)[2], arrays["curves_at_own_rate"][1, 0])
    assert same.get_lines()[0].get_xdata()[0] == 20
    names = [text.get_text() for text in own.get_legend().get_texts()]
    assert names == ["no norm, 0.1", "batch norm, 1", "layer norm, 0.1"]
    for name in CLAIMS[:2]:
        assert f"What of {name}?" in speed.caption
    above, below = generalization.figure.axes
    np.testing.assert_allclose(above.get_lines()[3].get_xdata(), arrays["train_loss"][1, 1])
    np.testing.assert_allclose(lines(below)[0], 100 * arrays["group_test_accuracy"].mean(-1))
    for name in CLAIMS[4:]:
        assert f"What of {name}?" in generalization.caption


def test_activations_are_plotted_for_every_norm_and_gain():
    rms = np.random.default_rng(0).uniform(0.1, 10, (3, 2, 5))
    claim = {"claim_steady_scale": np.array("What of steady_scale?")}
    arrays = {"norms": NORMS, "gains": np.array([0.5, 2.0]), "rms": rms} | claim
    item = normalization.activation_scale(arrays)
    np.testing.assert_array_equal(lines(item.figure.axes[0]), rms.reshape(6, 5))
    assert "What of steady_scale?" in item.caption
    assert "a gain of 0.5, 2" in item.caption


def noise_arrays(sizes=(4, 16, 64)):
    errors = np.tile(np.array(sizes) ** -0.5, (2, 1))
    return {
        "sizes": np.array(sizes),
        "batch_size": np.array(16),
        "num_images": np.array(200),
        "mean_error": errors,
        "variance_error": 2 * errors,
        "running_mean_error": np.array([0.01, 0.03]),
        "running_variance_error": np.array([0.1, 0.1]),
        "accuracy": np.linspace(0.5, 0.8, len(sizes)),
        "running_accuracy": np.array(0.875),
    }


def test_batch_noise_plots_theory_and_reports_the_training_batch_size():
    item = normalization.batch_noise(noise_arrays())
    upper, lower = item.figure.axes
    theory = [line for line in upper.get_lines() if "√" in str(line.get_label())]
    sizes = np.array([4, 16, 64])
    np.testing.assert_allclose(theory[0].get_ydata(), np.sqrt(1 / sizes - 1 / 200))
    np.testing.assert_allclose(lines(lower)[0], [50, 65, 80])
    assert "With 16 images the error of the mean is 0.25" in item.caption
    assert "of the running mean 0.02" in item.caption
    assert "50.0% at batch size 4; with running statistics 87.5%" in item.caption


def test_single_rate_seed_and_size_are_plotted():
    figures = normalization.training(training_arrays((0.1,), 1))
    figures.append(normalization.batch_noise(noise_arrays((4,))))
    for item in figures:
        assert style.png(item.figure).startswith(b"\x89PNG")
