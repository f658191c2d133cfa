"""Claims about batch norm are decided by the differences of every seed, on synthetic results."""

import numpy as np
import pytest

from jaxlabs.labs.normalization import activation_scale, norm_claims
from jaxlabs.labs.normalization.norm_claims import TARGET, WINDOW, Claim

NORMS = ("none", "batch", "layer")


def results(**changed):
    """Three norms, two rates, two seeds, 60 steps: batch norm is better in everything."""
    steps_to_fall = np.array([[[40, 45], [99, 99]], [[30, 35], [25, 25]], [[40, 40], [30, 50]]])
    steps = np.arange(1, 61)
    loss = np.where(steps < steps_to_fall[..., None] - WINDOW + 1, 3.0, TARGET / 2)
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
    return {claim.name: claim for claim in norm_claims.training_claims(arrays)}


def test_smoothed_equals_loop():
    losses = np.random.default_rng(0).random((2, 50))
    got = norm_claims.smoothed(losses)
    expected = [losses[:, end - WINDOW : end].mean(axis=-1) for end in range(WINDOW, 51)]
    np.testing.assert_allclose(got, np.transpose(expected), rtol=1e-12)
    np.testing.assert_allclose(norm_claims.smoothed(losses[:, :3])[:, 0], losses[:, :3].mean(-1))


def test_steps_to_target_use_smoothed_loss_and_ignore_divergence():
    steps = norm_claims.steps_to_target(results())
    np.testing.assert_array_equal(steps[0, 0], [40, 45])
    np.testing.assert_array_equal(steps[1], [[30, 35], [25, 25]])
    assert np.isinf(steps[0, 1]).all()
    high_then_low = np.full((1, 1, 1, 60), 2.3, np.float32)
    high_then_low[..., 5] = 1e30
    assert np.isinf(norm_claims.steps_to_target({"step_loss": high_then_low})).all()


def test_fastest_rate_is_by_median_of_seeds_or_else_by_loss():
    np.testing.assert_array_equal(norm_claims.fastest(results()), [0, 1, 0])
    slow = np.full((3, 2, 2, 60), 2.0)
    losses = np.array([[[0.3, 0.4], [0.1, np.nan]], [[0.2, 0.2], [0.1, 0.1]], [[1, 1], [2, 2]]])
    arrays = results(step_loss=slow, train_loss=losses)
    np.testing.assert_array_equal(norm_claims.fastest(arrays), [0, 1, 0])


def test_largest_rate_is_relative_to_best_accuracy_of_same_norm():
    np.testing.assert_allclose(norm_claims.largest_rate(results()), [[0.1] * 2, [1] * 2, [1] * 2])


def test_claims_use_their_own_values():
    claims = by_name(results())
    verdicts = {name: claim.verdict for name, claim in claims.items()}
    assert verdicts.pop("noise_regularizes") == "undecided"
    assert set(verdicts.values()) == {"held"}
    np.testing.assert_allclose(claims["noise_regularizes"].differences, [0.01, -0.01])
    np.testing.assert_allclose(claims["faster_at_the_plain_rate"].differences, [10, 10])
    np.testing.assert_allclose(claims["faster_at_its_own_rate"].differences, [15, 20])
    np.testing.assert_allclose(claims["larger_rates"].differences, [0.9, 0.9])
    np.testing.assert_allclose(claims["better_on_test_images"].differences, [0.1, 0.03])
    np.testing.assert_allclose(claims["smaller_gap"].differences, [0.4, 0.4])
    assert (
        "reaches 0.2 nats after 30, 35 steps with batch norm and after 40, 45 steps without"
        in str(claims["faster_at_the_plain_rate"])
    )
    assert "rates up to 1 with batch norm and up to 0.1 without" in claims["larger_rates"].evidence
    assert "4, 16, 64 images" in claims["noise_regularizes"].evidence
    alone = {"groups": np.array([64]), "group_test_accuracy": np.array([[0.9, 0.85]])}
    assert by_name(results(**alone))["noise_regularizes"].verdict == "undecided"


def test_wrong_claims_are_refuted():
    arrays = results()
    swapped = {name: values[[1, 0, 2]] for name, values in arrays.items() if len(values) == 3}
    swapped = {name: values for name, values in swapped.items() if "group" not in name}
    claims = by_name(arrays | swapped | {"norms": arrays["norms"]})
    assert claims["faster_at_its_own_rate"].verdict == "refuted"
    assert claims["larger_rates"].verdict == "refuted"
    assert claims["better_on_test_images"].verdict == "refuted"
    assert claims["smaller_gap"].verdict == "refuted"


def test_zero_difference_refutes_and_two_infinite_values_are_undecided():
    assert Claim("name", "It is so", "", np.zeros(3)).verdict == "refuted"
    never = results(step_loss=np.full((3, 2, 2, 60), 2.0))
    claim = by_name(never)["faster_at_its_own_rate"]
    assert claim.verdict == "undecided"
    assert "reaches 0.2 nats never with it and never without" in claim.evidence
    assert (
        str(Claim("name", "It is so", "1 is.", np.array([1, -1]))) == "“It is so”: undecided. 1 is."
    )
    assert norm_claims.metrics([claim]) == {"claim_faster_at_its_own_rate": 0.0}


def test_scale_claim_holds_if_drift_is_within_factor_for_all_gains():
    rms = np.ones((3, 2, 4))
    rms[0, 0, -1], rms[0, 1, -1], rms[1, 1, -1] = 1e-4, 1e4, 0.6
    arrays = {"norms": np.array(NORMS), "gains": np.array([0.5, 2.0]), "rms": rms}
    np.testing.assert_allclose(activation_scale.drift(arrays)[0], [1e4, 1e4])
    claim = norm_claims.scale_claim(arrays)
    assert claim.verdict == "held"
    assert "Over 4 untrained layers" in claim.evidence
    assert "1.67 with batch norm and 1e+04 without at a gain of 2" in claim.evidence
    rms[1, 0, 0] = 3
    assert norm_claims.scale_claim(arrays).verdict == "undecided"


def test_curves_are_at_selected_rates():
    arrays = results()
    curves = norm_claims.curves(arrays)
    smooth = norm_claims.smoothed(arrays["step_loss"])
    np.testing.assert_array_equal(curves["curves_at_plain_rate"], smooth[:, 0])
    np.testing.assert_array_equal(curves["curves_at_own_rate"][1], smooth[1, 1])
    assert curves["first_step"] == WINDOW
    assert curves["target"] == pytest.approx(TARGET)
