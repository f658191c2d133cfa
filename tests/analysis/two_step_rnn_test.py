"""Two-step network: values equal the closed form in float64."""

import jax
import numpy as np
import pytest

from jaxlabs.analysis import two_step_rnn


@pytest.fixture(scope="module")
def result():
    return two_step_rnn.study(20)


def test_initial_loss_gradient_and_curvature_are_exact(result):
    assert result["loss"] == pytest.approx(8 * 0.2**2, rel=1e-14)
    assert result["gradient"] == pytest.approx(-3.2, rel=1e-14)
    assert result["curvature"] == 16


def test_loss_is_parabola():
    weights = np.linspace(-2, 3, 11)
    with jax.enable_x64(True):
        got = [float(two_step_rnn.loss(weight)) for weight in weights]
    np.testing.assert_allclose(got, 8 * (weights - 0.5) ** 2, rtol=1e-14, atol=1e-15)


def test_first_updates_equal_those_of_homework(result):
    by_rate = dict(zip(result["rates"], result["weights"][:, 1], strict=True))
    assert by_rate[0.1] == pytest.approx(0.62, rel=1e-14)
    assert by_rate[1.0] == pytest.approx(3.5, rel=1e-14)
    assert by_rate[3.0] == pytest.approx(9.9, rel=1e-14)
    assert by_rate[0.0625] == pytest.approx(0.5, rel=1e-14)


def test_descent_equals_closed_form(result):
    error, expected = result["weights"] - result["expected"], result["expected"]
    assert np.abs(error / expected).max() < 1e-12


@pytest.mark.parametrize(
    ("rate", "expected", "last"),
    [
        (0.01, "converges", 0.5),
        (0.0625, "converges in one step", 0.5),
        (0.1, "overshoots, converges", 0.5),
        (0.125, "oscillates", 0.3),
        (0.126, "diverges", None),
    ],
)
def test_verdict_agrees_with_closed_form(rate, expected, last):
    assert two_step_rnn.verdict(rate) == expected
    end = two_step_rnn.closed_form(np.array([rate]), 400)[0, -1]
    assert end == pytest.approx(last, abs=1e-6) if last else abs(end - 0.5) > 10


def test_table_has_weights_and_closed_form(result):
    lines = two_step_rnn.format_table(result).splitlines()
    assert "loss 0.32, gradient -3.2, curvature 16" in lines[0]
    assert lines[3].split()[:4] == ["0.1", "-0.6", "0.62", "0.62"]
    assert lines[6].split()[:4] == ["3", "-47", "9.9", "9.9"]
