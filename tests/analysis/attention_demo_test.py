"""Attention demo: values equal the definition of scaled dot-product attention."""

import numpy as np
import pytest
from scipy.special import entr, softmax

from jaxlabs.analysis import attention_demo


def test_scaled_dot_product_equals_definition():
    step = attention_demo.scaled_dot_product(0, tokens=3, head_dim=16)
    scores = step["query"] @ step["key"].T
    np.testing.assert_allclose(step["raw_scores"], scores, atol=1e-5)
    np.testing.assert_allclose(step["scaled_scores"], scores / 4, atol=1e-5)
    np.testing.assert_allclose(step["raw_weights"], softmax(scores, axis=-1), atol=1e-6)
    weights = softmax(scores / 4, axis=-1)
    np.testing.assert_allclose(step["weights"], weights, atol=1e-6)
    np.testing.assert_allclose(step["output"], weights @ step["value"], atol=1e-5)


def test_format_arrays_prints_every_matrix_with_its_shape():
    step = attention_demo.scaled_dot_product(0, tokens=2, head_dim=4)
    text = attention_demo.format_arrays(step, attention_demo.STEP)
    assert text.count("[2 x 4]") == 4  # Q, K, V and the output
    assert text.count("[2 x 2]") == 4
    assert f"{step['weights'][0, 1]:.3f}" in text


def test_softmax_sharpness_is_entropy_and_jacobian_norm():
    scores = np.random.default_rng(0).normal(size=(2, 5)) * 3
    entropy, norm = attention_demo.softmax_sharpness(np.float32(scores))
    for row, got_entropy, got_norm in zip(softmax(scores, axis=-1), entropy, norm, strict=True):
        assert got_entropy == pytest.approx(entr(row).sum(), rel=1e-5)
        jacobian = np.diag(row) - np.outer(row, row)
        assert got_norm == pytest.approx(np.sqrt((jacobian**2).sum()), rel=1e-5)


def test_only_unscaled_scores_saturate_with_head_dim():
    result = attention_demo.scaling_study((4, 64, 1024), seed=0)
    raw, scaled = result["raw_entropy"], result["scaled_entropy"]
    assert raw[0] > 1.5 > raw[1] > 0.2 > raw[2]
    assert np.ptp(scaled) < 0.1
    medians = result["raw_gradient"][:, 1] / result["scaled_gradient"][:, 1]
    assert medians[2] < 1e-2 < medians[1]
    metrics = attention_demo.metrics(result)
    assert metrics["raw_entropy_at_1024"] == raw[2]
    assert metrics["scaled_gradient_at_1024"] == result["scaled_gradient"][2, 1]


def test_cross_attention_ignores_padding():
    random = np.random.default_rng(0)
    x, memory = (np.float32(random.normal(size=(time, 4))) for time in (3, 5))
    valid = np.float32([1, 1, 1, 0, 0])
    changed = np.where(valid[:, None] > 0, memory, np.float32(7))
    result = attention_demo.multi_head(x, memory, valid, num_heads=2, seed=0)
    other = attention_demo.multi_head(x, changed, valid, num_heads=2, seed=0)
    assert result["self_weights"].shape == (2, 3, 3)
    assert result["cross_weights"].shape == (2, 3, 5)
    np.testing.assert_array_equal(result["cross_weights"][..., 3:], 0)
    np.testing.assert_allclose(result["cross_weights"].sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(result["cross_output"], other["cross_output"])
