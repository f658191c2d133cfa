"""Both answers of every worked problem agree, and are the ones that stand in the homework."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.analysis.worked_problems import (
    attention,
    closed_form,
    contrastive,
    normalisation,
    optimisation,
    probability,
)
from jaxlabs.analysis.worked_problems.rows import Number, in_words, is_wrong, metrics, numbers
from jaxlabs.published import worked_problems as given

pytestmark = pytest.mark.usefixtures("quickly_compiled")

THEMES = (attention, optimisation, normalisation, contrastive, probability)


@pytest.fixture(scope="module")
def solved():
    return [row for theme in THEMES for row in theme.problems()]


def find(rows, start, theme=""):
    found = [row for row in rows if row.problem.startswith(start) and row.theme.startswith(theme)]
    assert found, start
    return found


def values(rows, start, theme=""):
    return [row.ours for row in find(rows, start, theme)]


def test_both_answers_agree_to_float64(solved):
    # A search finds a kink to the root of the precision, a defective eigenvalue likewise.
    loose = ("best momentum, by search", "best momentum: factor per step")
    for row in solved:
        tolerance = 1e-7 if row.problem in loose else 1e-12
        assert row.ours == pytest.approx(row.exact, rel=tolerance, abs=1e-15), row.problem


def test_every_wrong_number_has_a_sentence_and_no_right_one_has(solved):
    for row in solved:
        if row.write_up is not None:
            assert bool(row.mark) == (abs(row.write_up - row.exact) > 5e-4), row.problem


def test_every_known_slip_is_marked(solved):
    marked = [row for row in solved if row.mark]
    assert find(marked, "softmax of [3, 6, 9] [3]")[0].write_up == 0.98
    assert find(marked, "softmax of [3, 6, 9] [3]")[0].exact == pytest.approx(0.9503, abs=1e-4)
    assert find(marked, "softmax of [2, 4, 6] [3]")[0].exact == pytest.approx(0.8668, abs=1e-4)
    (sharp,) = find(marked, "sharp weights")
    assert (sharp.write_up, round(sharp.exact, 3)) == (0.18, 0.173)
    assert len(find(marked, "cosine of query and key")) == 2
    assert len(find(marked, "dL/ds", "InfoNCE")) == 9
    assert [row.exact for row in find(marked, "dh2/dw")] == [pytest.approx(2.6)]
    assert find(marked, "log p(x) from the ELBO")
    first, second, third = find(marked, "distance from the best")
    assert first.exact < 0.2 < second.exact < third.exact
    assert "converges" in first.mark
    assert "diverges" in second.mark
    assert len(find(marked, "mean of entry [0, 1]")) == 1
    assert len(find(marked, "variance of entry [0, 1]")) == 1
    assert not [row for row in marked if row.theme == normalisation.THEMES["misprint mended"]]


def test_printed_answers_that_are_right_are_ours_to_their_digits(solved):
    np.testing.assert_allclose(values(solved, "output A V"), [1, 0.5, 1.340, 0.330], atol=5e-4)
    heads = [0.5, 0.5, 0.5, 0.5, 0.3302, 0.6698, 0.3302, 0.6698]
    np.testing.assert_allclose(values(solved, "two heads"), heads, atol=5e-5)
    np.testing.assert_allclose(values(solved, "theta by SGD"), [0.96, 0.98])
    np.testing.assert_allclose(values(solved, "theta by momentum"), [0.96, 0.944])
    np.testing.assert_allclose(values(solved, "velocity"), [-0.04, -0.016])
    assert values(solved, "one-hot weights: variance") == [0.1875]
    assert values(solved, "one-hot weights: gradient") == [0]
    np.testing.assert_allclose(values(solved, "weight after 1 update"), [0.62, 3.5, 9.9])


@pytest.mark.parametrize(
    ("reading", "mean", "variance"), [("as printed", 4.75, 6.1875), ("misprint mended", 5.0, 6.5)]
)
def test_both_readings_of_the_samples_have_36_normalised_values(solved, reading, mean, variance):
    theme = normalisation.THEMES[reading]
    assert len(find(solved, "normalised", theme)) == 36
    assert values(solved, "mean of entry [0, 1]", theme) == [mean]
    assert values(solved, "variance of entry [0, 1]", theme) == [variance]
    training = np.array(values(solved, "normalised [H", theme)).reshape(4, 6)
    np.testing.assert_allclose(training.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(training.std(axis=0), 1)
    (entry,) = values(solved, "normalised [test 2, 0, 1]", theme)
    assert entry == pytest.approx((7 - mean) / math.sqrt(variance))


def test_undivided_scores_sharpen_the_softmax_and_starve_the_gradient(solved):
    divided, raw = (
        values(solved, f"d_k = 64, one key a deviation ahead, {way}")
        for way in ("with 1/sqrt", "without")
    )
    assert divided[0] < 0.1 * raw[0]  # variance
    assert divided[2] > 100 * raw[2]  # gradient
    found = attention.arrays(seed=0)
    assert found["raw_variance"][-1, 1] == pytest.approx(0.1875, rel=1e-3)
    assert found["raw_gradient"][-1, 1] < 1e-3 < 0.3 < found["scaled_gradient"][-1, 1]
    np.testing.assert_allclose(found["raw_variance"][0], found["scaled_variance"][0])


def test_softmax_jacobian_norm_is_that_of_the_matrix():
    shares = np.array(closed_form.softmax([0.3, -1.0, 2.0]))
    matrix = np.diag(shares) - np.outer(shares, shares)
    assert closed_form.softmax_jacobian_norm(shares) == pytest.approx(np.linalg.norm(matrix))


def test_best_momentum_is_polyaks_and_no_setting_near_it_shrinks_faster():
    ratio = max(given.RAVINE_CURVATURES) / min(given.RAVINE_CURVATURES)
    root = math.sqrt(ratio)
    expected = ((root - 1) / (root + 1)) ** 2
    assert pytest.approx(expected) == optimisation.BEST_MOMENTUM
    with jax.enable_x64(True):
        best = optimisation.shrinkage(optimisation.BEST_RATE, expected)
        for rate, momentum in ((1.02, 1.0), (0.98, 1.0), (1.0, 1.05), (1.0, 0.95)):
            near = optimisation.BEST_RATE * rate, expected * momentum
            assert optimisation.shrinkage(*near) > best + 1e-4


def test_trajectories_are_those_of_a_loop_by_hand():
    for (rate, momentum), path in zip(
        optimisation.METHODS.values(), optimisation.trajectories(), strict=True
    ):
        place, velocity = np.array(given.RAVINE_START), np.zeros(2)
        for got in path:
            np.testing.assert_allclose(got, place, atol=1e-12)
            velocity = momentum * velocity - rate * np.array(given.RAVINE_CURVATURES) * place
            place = place + velocity


def test_info_nce_pulls_pairs_pushes_others_and_siglip_looks_at_one_pair_at_a_time(solved):
    signs = np.reshape(values(solved, "sign of dL/ds"), (3, 3))
    np.testing.assert_array_equal(signs, 1 - 2 * np.eye(3))
    siglip, info_nce = values(solved, "s_32 raised by 0.5: change of dL/ds_33")
    assert siglip == 0
    assert info_nce < -0.01
    assert values(solved, "s_32 raised by 0.5: largest change") == [0]


def test_a_low_temperature_leaves_the_push_to_the_nearest_negative(solved):
    shares = [
        value
        for name in (0.07, 0.2, 1)
        for value in values(solved, f"temperature {name:g}: share of its nearest")
    ]
    assert shares[0] > 0.99 > shares[1] > shares[2] > 0.5
    found = contrastive.arrays()
    np.testing.assert_allclose(found["gradients"].sum(axis=1), 0, atol=1e-13)
    scores = found["cosines"][None] / found["temperatures"][:, None]
    shares = np.array([closed_form.softmax(row) for row in scores])
    own = (shares[:, 0] - 1) / found["temperatures"]
    np.testing.assert_allclose(found["gradients"][:, 0], own, atol=1e-12)


def test_the_divergence_of_two_normal_densities_is_the_integral():
    q, p = probability.NormalDist(0.5, 0.6), probability.NormalDist(1.0, 0.9)
    z = np.linspace(-6, 6, 20001)
    ratio = [q.pdf(x) * (math.log(q.pdf(x)) - math.log(p.pdf(x))) for x in z]
    assert probability._divergence(q, p) == pytest.approx(np.sum(ratio) * (z[1] - z[0]), rel=1e-9)


def test_a_wrong_number_without_a_sentence_is_refused():
    with pytest.raises(ValueError, match=r"0\.98 is wrong, and nothing says why"):
        Number(theme="t", problem="p", ours=0.95, exact=0.95, write_up=0.98)
    with pytest.raises(ValueError, match="ours"):
        numbers("t", "p", [1.0], [1.0, 2.0])
    assert not is_wrong(0.670, 0.6697616)
    assert not is_wrong(None, 1.0)


def test_the_table_has_all_columns_and_a_sentence_once():
    rows = numbers("t", "p", [1.0, 2.0], [1.0, 2.0], [1.5, 2.5], mark="Half too much.")
    text = in_words(rows)
    assert text.splitlines()[1].split() == ["write-up", "ours", "exact", "difference"]
    assert "p [1]           1.5             1             1       0.0e+00 *" in text
    assert text.count("Half too much.") == 1
    assert metrics(rows) == {"numbers": 2, "marked": 2, "largest_relative_difference": 0}
    entry = rows[0].entry()
    assert entry["write_up_from"] == "printed"
    assert entry["difference"] == 0


def test_ours_is_the_layers_answer_and_not_the_closed_forms(monkeypatch):
    real = attention.attention_parts

    def planted(query, key, value, **options):
        return real(query * 2, key, value, **options)

    monkeypatch.setattr(attention, "attention_parts", planted)
    monkeypatch.setattr(optimisation.optax, "sgd", lambda rate, momentum=None: optax.adam(rate))
    with jax.enable_x64(True):
        assert any(abs(row.difference) > 0.01 for row in attention._one_head())
        assert any(abs(row.difference) > 0.01 for row in optimisation._two_updates())
        assert jnp.zeros(()).dtype == jnp.float64
