"""Worked problems: values agree with closed forms, and errata of the write-up are marked."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from jaxlabs.labs.worked_problems import (
    attention,
    closed_form,
    contrastive,
    normalization,
    optimization,
    probability,
)
from jaxlabs.labs.worked_problems import published as given
from jaxlabs.labs.worked_problems.rows import Value, compare, format_table, is_wrong, metrics

pytestmark = pytest.mark.usefixtures("quickly_compiled")

THEMES = (attention, optimization, normalization, contrastive, probability)


@pytest.fixture(scope="module")
def solved():
    return [row for theme in THEMES for row in theme.problems()]


def find(rows, start, theme=""):
    result = [row for row in rows if row.problem.startswith(start) and row.theme.startswith(theme)]
    assert result, start
    return result


def computed(rows, start, theme=""):
    return [row.ours for row in find(rows, start, theme)]


def test_values_equal_closed_forms_in_float64(solved):
    # A numerical search and a defective eigenvalue are accurate to the root of the precision.
    loose = ("best momentum, by numerical search", "best momentum: factor per step")
    for row in solved:
        tolerance = 1e-7 if row.problem in loose else 1e-12
        assert row.ours == pytest.approx(row.exact, rel=tolerance, abs=1e-15), row.problem


def test_exactly_the_wrong_values_have_errata(solved):
    for row in solved:
        if row.reference is not None:
            decimals = len(row.printed.partition(".")[2])
            tolerance = 0.5 * 10**-decimals if decimals else 0
            assert bool(row.erratum) == (abs(row.reference - row.exact) > tolerance + 1e-9), (
                row.problem
            )
        else:
            assert not row.erratum, row.problem


def test_wrong_values_and_errors_are_counted_separately(solved):
    counted = Counter(row.erratum for row in solved if row.erratum)
    assert sorted(counted.values()) == [1, 1, 1, 1, 1, 1, 2, 2, 2, 6, 9, 17]
    wrong = [statement for statement in given.STATEMENTS if statement.error]
    assert len(wrong) == 6
    result = metrics(solved, given.STATEMENTS)
    assert (result["wrong_values_and_statements"], result["errors"]) == (44 + 6, 12 + 6)
    assert "18 errors, 50 wrong values and statements (*) of the write-up" in format_table(
        solved, given.STATEMENTS
    )


def test_known_errata_are_marked(solved):
    marked = [row for row in solved if row.erratum]
    (sharp,) = find(marked, "sharp weights")
    assert (sharp.printed, round(sharp.exact, 3)) == ("0.18", 0.173)
    assert len(find(marked, "cosine of query and key")) == 2
    assert len(find(marked, "dL/ds", "InfoNCE")) == 9
    assert find(marked, "log p(x) from the ELBO")
    assert len(find(marked, "mean of entry [0, 1]")) == 1
    assert len(find(marked, "variance of entry [0, 1]")) == 1


def test_nine_printed_softmax_values_are_compared_and_three_are_wrong(solved):
    rows = find(solved, "softmax of")
    expected = scipy.special.softmax(np.array([[1, 2, 3], [2, 4, 6], [3, 6, 9]], float), axis=1)
    np.testing.assert_allclose([row.exact for row in rows], expected.ravel(), rtol=1e-14)
    printed = ["0.09", "0.24", "0.67", "0.02", "0.12", "0.86", "0.00", "0.02", "0.98"]
    assert [row.printed for row in rows] == printed
    assert [row.printed for row in rows if row.erratum] == ["0.86", "0.02", "0.98"]


def test_denominator_of_last_weight_has_summand_one(solved):
    power = np.exp(1 / np.sqrt(2))
    (row,) = find(solved, "weights A [2, 2], as a fraction")
    assert row.exact == pytest.approx(1 / (power + 1))
    assert f"{row.exact:.3f}" == "0.330" == given.PRINTED_WEIGHTS[1][1]
    assert row.reference == pytest.approx(1 / (2 * power))
    assert row.erratum


def test_sqrt_d_k_is_standard_deviation_of_dot_product_and_not_product_of_norms(solved):
    random = np.random.default_rng(0)
    (deviation,) = find(solved, "d_k = 64, entries ±1: standard deviation of the dot product")
    assert deviation.erratum
    for width in (16, 64):
        query, key = random.standard_normal((2, 20_000, width))
        assert np.std(np.sum(query * key, axis=1)) == pytest.approx(width**0.5, rel=0.03)
        norms = np.linalg.norm(query, axis=1) * np.linalg.norm(key, axis=1)
        assert norms.mean() == pytest.approx(width, rel=0.05)
    assert (deviation.exact, deviation.reference) == (8, 64)


def test_log_term_without_brackets_has_wrong_sign(solved):
    logits = np.array(given.COSINES) / given.TEMPERATURE
    pairs, logs = np.diag(logits), [scipy.special.logsumexp(logits, axis=a) for a in (1, 0)]
    rows = find(solved, "loss of query")
    np.testing.assert_allclose([row.exact for row in rows], -(pairs - logs[0]))
    np.testing.assert_allclose([row.reference for row in rows], -pairs - logs[0])
    rows += (clip := find(solved, "CLIP's loss of pair"))
    np.testing.assert_allclose([row.exact for row in clip], -(pairs - sum(logs) / 2))
    np.testing.assert_allclose([row.reference for row in clip], -pairs - sum(logs) / 2)
    assert all(row.erratum and row.exact > 0 > row.reference for row in rows)
    assert len({row.erratum for row in rows}) == 1


def test_batch_norm_divides_by_standard_deviation(solved):
    values = np.array([1.0, 4, 2, 9])
    (row,) = find(solved, "normalized [H1, 0, 0], by the stated rule")
    assert row.exact == pytest.approx((1 - values.mean()) / values.std())
    assert row.exact == pytest.approx(-0.97333, abs=5e-6)
    assert row.reference == pytest.approx((1 - values.mean()) / values.var())
    assert row.erratum
    (text,) = find(solved, "normalized [H1, 0, 0], in the text")
    assert (text.printed, text.erratum) == ("-0.9733", "")


def test_printed_normalized_values_with_wrong_fourth_decimal_are_marked(solved):
    samples = np.array(given.SAMPLES, float)
    samples[given.MISPRINT] = given.MEANT
    tables = {"H": samples, "test ": np.array(given.TEST_SAMPLES[:1], float)}
    wrong = {}
    for letter, of_letter in tables.items():
        expected = (of_letter - samples.mean(0)) / samples.std(0)
        theme = normalization.THEMES[normalization.CORRECTED]
        rows = [
            row
            for number in range(len(of_letter))
            for row in find(solved, f"normalized [{letter}{number + 1}", theme)
            if row.problem.endswith("]")
        ]
        np.testing.assert_allclose([row.exact for row in rows], expected.ravel(), atol=1e-15)
        is_off = [float(row.printed) != round(row.exact, 4) for row in rows]
        assert [bool(row.erratum) for row in rows] == is_off
        wrong[letter] = [row.printed for row in rows if row.erratum]
        assert max(abs(row.reference - row.exact) for row in rows) < 4e-4
    assert (len(wrong["H"]), wrong["test "]) == (15, ["-0.3245", "0.6546"])
    assert "0.0932" in wrong["H"]  # 0.09325048: half a unit and 5e-7
    assert all(row.reference is None for row in find(solved, "normalized [test 2", theme))


def test_printed_gradient_from_first_state_is_correct(solved):
    printed, other = find(solved, "dh2/dw_h from h0")
    assert (printed.printed, printed.exact, printed.erratum) == ("2", 2, "")
    assert (other.reference, other.exact) == (None, pytest.approx(0.3 * 1 + 2 + 0.3 * 1))


def statement(start):
    (result,) = [one for one in given.STATEMENTS if one.printed.startswith(start)]
    return result


def test_statements_about_learning_rates(solved):
    loss = lambda w: (2 * (w * 2 + 0.5) - 3) ** 2 / 2  # noqa: E731
    curvature = loss(1.5) - 2 * loss(0.5) + loss(-0.5)
    (trained,) = scipy.optimize.minimize(lambda w: loss(w[0]), [0.3]).x
    assert (trained, curvature) == (pytest.approx(0.5), 16)
    assert statement("w_x = 0.5 when trained").error  # w_h is trained

    first, *large = find(solved, "distance from the best")
    assert 0.3 - 0.1 * -3.2 > 0.5 > 0.3
    assert first.exact < 0.2
    assert not statement("At rate 0.1 the first step overshoots").error
    assert [row.exact > 0.2 for row in large] == [True, True]
    claim = statement("Rates of 1 and 3 might struggle")
    assert claim.error
    assert "Both diverge" in claim.correct
    assert [1 - curvature * rate for rate in (1, 3)] == [-15, -47]
    assert "-15 and -47; the limit is the rate 0.125" in claim.correct
    assert 2 / curvature == 0.125
    assert not any(row.erratum for row in (first, *large))
    assert not statement("dh2/dw_h = 2").error


@pytest.mark.parametrize(("w", "explodes"), [(2, True), (-2, True), (0.5, False), (-0.5, False)])
def test_gradient_explodes_for_large_absolute_weight(w, explodes):
    h = [1.0]
    for _ in range(40):
        h.append(w * h[-1])
    assert h[-1] == w**4 * h[-1 - 4] != w**4 * h[-1 - 3]  # the fourth term has h(t-4)
    assert "h(t-4)" in statement("The unrolled recurrence has h(t-3) twice").correct
    assert (abs(h[-1]) > 1e6) == explodes == (abs(w) > 1)
    assert "|w| > 1" in statement("The gradient explodes for w > 1").correct


def test_log_p_times_integral_of_q_is_log_p():
    q = scipy.stats.norm(*given.POSTERIOR_GUESS)
    assert scipy.integrate.quad(q.pdf, -10, 10)[0] == pytest.approx(1)
    assert "dz" in statement("log p(x) times the integral").correct
    open_run = statement("A bracket of the ELBO")
    assert open_run.error
    assert open_run.correct.count("(") == open_run.correct.count(")")
    assert open_run.correct.count("[") == open_run.correct.count("]")


def test_values_equal_correct_printed_ones(solved):
    np.testing.assert_allclose(computed(solved, "output A V"), [1, 0.5, 1.340, 0.330], atol=5e-4)
    heads = [0.5, 0.5, 0.5, 0.5, 0.3302, 0.6698, 0.3302, 0.6698]
    np.testing.assert_allclose(computed(solved, "two heads"), heads, atol=5e-5)
    np.testing.assert_allclose(computed(solved, "theta by SGD"), [0.96, 0.98])
    np.testing.assert_allclose(computed(solved, "theta by momentum"), [0.96, 0.944])
    np.testing.assert_allclose(computed(solved, "velocity"), [-0.04, -0.016])
    assert computed(solved, "one-hot weights: variance") == [0.1875]
    assert computed(solved, "one-hot weights: gradient") == [0]
    np.testing.assert_allclose(computed(solved, "weight after 1 update"), [0.62, 3.5, 9.9])


@pytest.mark.parametrize(
    ("variant", "mean", "variance"),
    [("as printed", 4.75, 6.1875), ("misprint corrected", 5.0, 6.5)],
)
def test_both_variants_of_samples_have_36_normalized_values(solved, variant, mean, variance):
    theme = normalization.THEMES[variant]
    assert len([row for row in find(solved, "normalized", theme) if row.problem[-1] == "]"]) == 36
    assert computed(solved, "mean of entry [0, 1]", theme) == [mean]
    assert computed(solved, "variance of entry [0, 1]", theme) == [variance]
    training = np.array(computed(solved, "normalized [H", theme)[:24]).reshape(4, 6)
    np.testing.assert_allclose(training.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(training.std(axis=0), 1)
    (entry,) = computed(solved, "normalized [test 2, 0, 1]", theme)
    assert entry == pytest.approx((7 - mean) / math.sqrt(variance))


def test_unscaled_scores_saturate_softmax_and_reduce_gradient(solved):
    scaled, raw = (
        computed(solved, f"d_k = 64, one score a standard deviation above the others, {kind}")
        for kind in ("with 1/sqrt", "without")
    )
    assert scaled[0] < 0.1 * raw[0]  # variance
    assert scaled[2] > 100 * raw[2]  # gradient
    result = attention.arrays(seed=0)
    assert result["raw_variance"][-1, 1] == pytest.approx(0.1875, rel=1e-3)
    assert result["raw_gradient"][-1, 1] < 1e-3 < 0.3 < result["scaled_gradient"][-1, 1]
    np.testing.assert_allclose(result["raw_variance"][0], result["scaled_variance"][0])


def test_softmax_jacobian_norm_equals_matrix_norm():
    probabilities = np.array(closed_form.softmax([0.3, -1.0, 2.0]))
    matrix = np.diag(probabilities) - np.outer(probabilities, probabilities)
    assert closed_form.softmax_jacobian_norm(probabilities) == pytest.approx(np.linalg.norm(matrix))


def test_best_momentum_is_polyaks_and_converges_faster_than_nearby_settings():
    ratio = max(given.RAVINE_CURVATURES) / min(given.RAVINE_CURVATURES)
    root = math.sqrt(ratio)
    expected = ((root - 1) / (root + 1)) ** 2
    assert pytest.approx(expected) == optimization.BEST_MOMENTUM
    with jax.enable_x64(True):
        best = optimization.convergence_factor(optimization.BEST_RATE, expected)
        for rate, momentum in ((1.02, 1.0), (0.98, 1.0), (1.0, 1.05), (1.0, 0.95)):
            near = optimization.BEST_RATE * rate, expected * momentum
            assert optimization.convergence_factor(*near) > best + 1e-4


def test_trajectories_equal_explicit_loop():
    for (rate, momentum), path in zip(
        optimization.METHODS.values(), optimization.trajectories(), strict=True
    ):
        position, velocity = np.array(given.RAVINE_START), np.zeros(2)
        for got in path:
            np.testing.assert_allclose(got, position, atol=1e-12)
            velocity = momentum * velocity - rate * np.array(given.RAVINE_CURVATURES) * position
            position = position + velocity


def test_info_nce_gradient_signs_and_siglip_independence_of_other_pairs(solved):
    signs = np.reshape(computed(solved, "sign of dL/ds"), (3, 3))
    np.testing.assert_array_equal(signs, 1 - 2 * np.eye(3))
    siglip, info_nce = computed(solved, "s_32 raised by 0.5: change of dL/ds_33")
    assert siglip == 0
    assert info_nce < -0.01
    assert computed(solved, "s_32 raised by 0.5: largest change") == [0]


def test_low_temperature_concentrates_gradient_on_nearest_negative(solved):
    probabilities = [
        value
        for name in (0.07, 0.2, 1)
        for value in computed(solved, f"temperature {name:g}: fraction of the nearest")
    ]
    assert probabilities[0] > 0.99 > probabilities[1] > probabilities[2] > 0.5
    result = contrastive.arrays()
    np.testing.assert_allclose(result["gradients"].sum(axis=1), 0, atol=1e-13)
    scores = result["cosines"][None] / result["temperatures"][:, None]
    probabilities = np.array([closed_form.softmax(row) for row in scores])
    own = (probabilities[:, 0] - 1) / result["temperatures"]
    np.testing.assert_allclose(result["gradients"][:, 0], own, atol=1e-12)


def test_divergence_of_gaussians_equals_integral():
    q, p = probability.NormalDist(0.5, 0.6), probability.NormalDist(1.0, 0.9)
    z = np.linspace(-6, 6, 20001)
    ratio = [q.pdf(x) * (math.log(q.pdf(x)) - math.log(p.pdf(x))) for x in z]
    assert probability._divergence(q, p) == pytest.approx(np.sum(ratio) * (z[1] - z[0]), rel=1e-9)


def test_wrong_value_without_erratum_is_refused():
    with pytest.raises(ValueError, match=r"0\.98 is wrong, but erratum is empty"):
        Value(theme="t", problem="p", ours=0.95, exact=0.95, reference=0.98)
    with pytest.raises(ValueError, match="ours"):
        compare("t", "p", [1.0], [1.0, 2.0])
    assert not is_wrong(0.670, 0.6697616, "0.670")
    assert is_wrong(0.670, 0.6697616)
    assert is_wrong(0.6703, 0.6697616, "0.6703")
    assert is_wrong(5.0, 4.75, "5")
    assert not is_wrong(None, 1.0)


def test_table_has_all_columns_and_each_erratum_once():
    rows = compare("t", "p", [1.0, 2.0], [1.0, 2.0], ["1.50", "2.5"], erratum="Half too much.")
    claim = given.Statement("t", "One is two.", "It is one.")
    text = format_table(rows, [claim, claim._replace(printed="One is one.", error=False)])
    assert text.splitlines()[1].split() == ["write-up", "ours", "exact", "difference"]
    assert "p [1]          1.50             1             1       0.0e+00 *" in text
    assert text.count("Half too much.") == 1
    assert "t: One is two. *\n    It is one.\nt: One is one.\n" in text
    result = metrics(rows, [claim])
    assert result == {
        "values": 2,
        "wrong_values_and_statements": 3,
        "errors": 2,
        "largest_relative_difference": 0,
    }
    entry = rows[0].entry()
    assert (entry["reference"], entry["printed"]) == (1.5, "1.50")
    assert entry["reference_from"] == "printed"
    (row,) = compare("t", "p", 1.0, 1.0, 1.0)
    assert (row.printed, row.reference_from) == ("", "formula")
    assert entry["difference"] == 0


def test_computed_values_use_layers_and_not_closed_forms(monkeypatch):
    original = attention.attention_output

    def wrong_attention(query, key, value, **options):
        return original(query * 2, key, value, **options)

    monkeypatch.setattr(attention, "attention_output", wrong_attention)
    monkeypatch.setattr(optimization.optax, "sgd", lambda rate, momentum=None: optax.adam(rate))
    with jax.enable_x64(True):
        assert any(abs(row.difference) > 0.01 for row in attention._one_head())
        assert any(abs(row.difference) > 0.01 for row in optimization._two_updates())
        assert jnp.zeros(()).dtype == jnp.float64
