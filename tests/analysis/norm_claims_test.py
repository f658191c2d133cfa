"""Claims are judged by the differences of every seed, on figures made up for the purpose."""

import numpy as np
import pytest

from jaxlabs.analysis import activation_scale, norm_claims
from jaxlabs.analysis.norm_claims import SPAN, TARGET, Claim

NORMS = ("none", "batch", "layer")


def found(**changed):
    """Three norms, two rates, two seeds, 60 steps: batch norm is better in everything."""
    falls = np.array([[[40, 45], [99, 99]], [[30, 35], [25, 25]], [[40, 40], [30, 50]]])
    steps = np.arange(1, 61)
    loss = np.where(steps < falls[..., None] - SPAN + 1, 3.0, TARGET / 2)
    loss[0, 1] = 1e30  # diverged
    loss[0, 1, 1, 30:] = np.nan
    accuracy = np.array([[[0.8, 0.82], [0.1, 0.1]], [[0.8, 0.8], [0.9, 0.85]], [[0.8, 0.8]] * 2])
    arrays = {
        "norms": np.array(NORMS),
        "rates": np.array([0.1, 1.0]),
        "step_loss": np.float32(loss),
        "best_rate": np.array([0, 1, 0]),
        "test_accuracy": accuracy,
        "train_loss": np.array([[[0.1, 0.1], [9, np.nan]], [[0.1, 0.1]] * 2, [[0.1, 0.1]] * 2]),
        "test_loss": np.array([[[0.8, 0.7], [9, 9]], [[0.5, 0.5], [0.4, 0.3]], [[0.5, 0.5]] * 2]),
        "groups": np.array([4, 16, 64]),
        "group_test_accuracy": np.array([[0.5, 0.5], [0.91, 0.84], [0.9, 0.85]]),
    }
    return arrays | changed


def by_name(arrays):
    return {claim.name: claim for claim in norm_claims.of_training(arrays)}


def test_means_of_steps_equal_a_loop():
    losses = np.random.default_rng(0).random((2, 50))
    got = norm_claims.smoothed(losses)
    expected = [losses[:, end - SPAN : end].mean(axis=-1) for end in range(SPAN, 51)]
    np.testing.assert_allclose(got, np.transpose(expected), rtol=1e-12)
    np.testing.assert_allclose(norm_claims.smoothed(losses[:, :3])[:, 0], losses[:, :3].mean(-1))


def test_steps_are_counted_until_the_mean_is_low_enough_and_never_by_what_diverged():
    steps = norm_claims.steps_to_target(found())
    np.testing.assert_array_equal(steps[0, 0], [40, 45])
    np.testing.assert_array_equal(steps[1], [[30, 35], [25, 25]])
    assert np.isinf(steps[0, 1]).all()
    high_then_low = np.full((1, 1, 1, 60), 2.3, np.float32)
    high_then_low[..., 5] = 1e30
    assert np.isinf(norm_claims.steps_to_target({"step_loss": high_then_low})).all()


def test_fastest_rate_is_by_the_median_of_seeds_or_else_by_the_loss():
    np.testing.assert_array_equal(norm_claims.fastest(found()), [0, 1, 0])
    slow = np.full((3, 2, 2, 60), 2.0)
    losses = np.array([[[0.3, 0.4], [0.1, np.nan]], [[0.2, 0.2], [0.1, 0.1]], [[1, 1], [2, 2]]])
    arrays = found(step_loss=slow, train_loss=losses)
    np.testing.assert_array_equal(norm_claims.fastest(arrays), [0, 1, 0])


def test_a_rate_is_tolerated_by_what_the_same_norm_reaches_at_its_best():
    np.testing.assert_allclose(norm_claims.largest_rate(found()), [[0.1] * 2, [1] * 2, [1] * 2])


def test_every_claim_is_judged_by_its_own_figures():
    claims = by_name(found())
    verdicts = {name: claim.verdict for name, claim in claims.items()}
    assert verdicts.pop("noise_regularizes") == "undecided"
    assert set(verdicts.values()) == {"held"}
    np.testing.assert_allclose(claims["noise_regularizes"].differences, [0.01, -0.01])
    np.testing.assert_allclose(claims["faster_at_the_plain_rate"].differences, [10, 10])
    np.testing.assert_allclose(claims["faster_at_its_own_rate"].differences, [15, 20])
    np.testing.assert_allclose(claims["larger_rates"].differences, [0.9, 0.9])
    np.testing.assert_allclose(claims["better_on_test_pictures"].differences, [0.1, 0.03])
    np.testing.assert_allclose(claims["smaller_gap"].differences, [0.4, 0.4])
    assert "reached after 30, 35 steps with it and after 40, 45 steps without" in str(
        claims["faster_at_the_plain_rate"]
    )
    assert "rates up to 1 with it and up to 0.1 without" in claims["larger_rates"].found
    assert "4, 16, 64 pictures" in claims["noise_regularizes"].found
    alone = {"groups": np.array([64]), "group_test_accuracy": np.array([[0.9, 0.85]])}
    assert by_name(found(**alone))["noise_regularizes"].verdict == "undecided"


def test_claims_that_are_wrong_are_refuted():
    arrays = found()
    swapped = {name: values[[1, 0, 2]] for name, values in arrays.items() if len(values) == 3}
    swapped = {name: values for name, values in swapped.items() if "group" not in name}
    claims = by_name(arrays | swapped | {"norms": arrays["norms"]})
    assert claims["faster_at_its_own_rate"].verdict == "refuted"
    assert claims["larger_rates"].verdict == "refuted"
    assert claims["better_on_test_pictures"].verdict == "refuted"
    assert claims["smaller_gap"].verdict == "refuted"


def test_no_difference_is_no_support_and_never_against_never_says_nothing():
    assert Claim("name", "It is so", "", np.zeros(3)).verdict == "refuted"
    never = found(step_loss=np.full((3, 2, 2, 60), 2.0))
    claim = by_name(never)["faster_at_its_own_rate"]
    assert claim.verdict == "undecided"
    assert "0.2 nats are reached never with it and never without" in claim.found
    assert (
        str(Claim("name", "It is so", "1 is.", np.array([1, -1]))) == "“It is so”: undecided. 1 is."
    )
    assert norm_claims.figures([claim]) == {"claim_faster_at_its_own_rate": 0.0}


def test_scale_is_steady_where_all_gains_stay_within_a_factor():
    rms = np.ones((3, 2, 4))
    rms[0, 0, -1], rms[0, 1, -1], rms[1, 1, -1] = 1e-4, 1e4, 0.6
    arrays = {"norms": np.array(NORMS), "gains": np.array([0.5, 2.0]), "rms": rms}
    np.testing.assert_allclose(activation_scale.drift(arrays)[0], [1e4, 1e4])
    claim = norm_claims.of_scale(arrays)
    assert claim.verdict == "held"
    assert "Over 4 untrained layers" in claim.found
    assert "1.67 with it and 1e+04 without at a gain of 2" in claim.found
    rms[1, 0, 0] = 3
    assert norm_claims.of_scale(arrays).verdict == "undecided"


def test_curves_are_those_of_the_chosen_rates():
    arrays = found()
    curves = norm_claims.curves(arrays)
    smooth = norm_claims.smoothed(arrays["step_loss"])
    np.testing.assert_array_equal(curves["curves_at_plain_rate"], smooth[:, 0])
    np.testing.assert_array_equal(curves["curves_at_own_rate"][1], smooth[1, 1])
    assert curves["first_step"] == SPAN
    assert curves["target"] == pytest.approx(TARGET)
