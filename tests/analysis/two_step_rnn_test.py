"""The two-step network's numbers are those of its homework, to the last digits of float64."""

import jax
import numpy as np
import pytest

from jaxlabs.analysis import two_step_rnn


@pytest.fixture(scope="module")
def found():
    return two_step_rnn.study(20)


def test_loss_gradient_and_curvature_at_the_start_are_exact(found):
    assert found["loss"] == pytest.approx(8 * 0.2**2, rel=1e-14)
    assert found["gradient"] == pytest.approx(-3.2, rel=1e-14)
    assert found["curvature"] == 16


def test_the_loss_is_the_parabola_everywhere():
    weights = np.linspace(-2, 3, 11)
    with jax.enable_x64(True):
        got = [float(two_step_rnn.loss(weight)) for weight in weights]
    np.testing.assert_allclose(got, 8 * (weights - 0.5) ** 2, rtol=1e-14, atol=1e-15)


def test_first_updates_are_those_of_the_homework(found):
    by_rate = dict(zip(found["rates"], found["weights"][:, 1], strict=True))
    assert by_rate[0.1] == pytest.approx(0.62, rel=1e-14)
    assert by_rate[1.0] == pytest.approx(3.5, rel=1e-14)
    assert by_rate[3.0] == pytest.approx(9.9, rel=1e-14)
    assert by_rate[0.0625] == pytest.approx(0.5, rel=1e-14)


def test_descent_equals_the_closed_form_at_every_step(found):
    error, expected = found["weights"] - found["expected"], found["expected"]
    assert np.abs(error / expected).max() < 1e-12


@pytest.mark.parametrize(
    ("rate", "expected", "last"),
    [
        (0.01, "converges", 0.5),
        (0.0625, "there in one step", 0.5),
        (0.1, "overshoots, converges", 0.5),
        (0.125, "swings for ever", 0.3),
        (0.126, "diverges", None),
    ],
)
def test_verdicts_are_what_many_steps_come_to(rate, expected, last):
    assert two_step_rnn.verdict(rate) == expected
    end = two_step_rnn.closed_form(np.array([rate]), 400)[0, -1]
    assert end == pytest.approx(last, abs=1e-6) if last else abs(end - 0.5) > 10


def test_the_table_has_both_answers_side_by_side(found):
    lines = two_step_rnn.in_words(found).splitlines()
    assert "loss 0.32, gradient -3.2, curvature 16" in lines[0]
    assert lines[3].split()[:4] == ["0.1", "-0.6", "0.62", "0.62"]
    assert lines[6].split()[:4] == ["3", "-47", "9.9", "9.9"]
