"""The demonstrated numbers are those of the definition."""

import numpy as np
import pytest
from scipy.special import entr, softmax

from jaxlabs.analysis import attention_demo


def test_one_step_equals_the_definition():
    step = attention_demo.scaled_dot_product(0, tokens=3, head_dim=16)
    scores = step["query"] @ step["key"].T
    np.testing.assert_allclose(step["raw_scores"], scores, atol=1e-5)
    np.testing.assert_allclose(step["scaled_scores"], scores / 4, atol=1e-5)
    np.testing.assert_allclose(step["raw_weights"], softmax(scores, axis=-1), atol=1e-6)
    weights = softmax(scores / 4, axis=-1)
    np.testing.assert_allclose(step["weights"], weights, atol=1e-6)
    np.testing.assert_allclose(step["output"], weights @ step["value"], atol=1e-5)


def test_printed_step_has_every_matrix_with_its_shape():
    step = attention_demo.scaled_dot_product(0, tokens=2, head_dim=4)
    text = attention_demo.in_words(step, attention_demo.STEP)
    assert text.count("[2 x 4]") == 4  # Q, K, V and the output
    assert text.count("[2 x 2]") == 4
    assert f"{step['weights'][0, 1]:.3f}" in text


def test_sharpness_is_entropy_and_the_norm_of_the_jacobian():
    scores = np.random.default_rng(0).normal(size=(2, 5)) * 3
    entropy, norm = attention_demo.sharpness(np.float32(scores))
    for row, got_entropy, got_norm in zip(softmax(scores, axis=-1), entropy, norm, strict=True):
        assert got_entropy == pytest.approx(entr(row).sum(), rel=1e-5)
        jacobian = np.diag(row) - np.outer(row, row)
        assert got_norm == pytest.approx(np.sqrt((jacobian**2).sum()), rel=1e-5)


def test_only_raw_scores_sharpen_with_the_size_of_a_head():
    found = attention_demo.scaling_study((4, 64, 1024), seed=0)
    raw, scaled = found["raw_entropy"], found["scaled_entropy"]
    assert raw[0] > 1.5 > raw[1] > 0.2 > raw[2]
    assert np.ptp(scaled) < 0.1
    medians = found["raw_gradient"][:, 1] / found["scaled_gradient"][:, 1]
    assert medians[2] < 1e-2 < medians[1]
    figures = attention_demo.figures(found)
    assert figures["raw_entropy_at_1024"] == raw[2]
    assert figures["scaled_gradient_at_1024"] == found["scaled_gradient"][2, 1]


def test_cross_attention_sees_nothing_of_the_padding():
    random = np.random.default_rng(0)
    x, memory = (np.float32(random.normal(size=(time, 4))) for time in (3, 5))
    there = np.float32([1, 1, 1, 0, 0])
    changed = np.where(there[:, None] > 0, memory, np.float32(7))
    found = attention_demo.multi_head(x, memory, there, num_heads=2, seed=0)
    other = attention_demo.multi_head(x, changed, there, num_heads=2, seed=0)
    assert found["self_weights"].shape == (2, 3, 3)
    assert found["cross_weights"].shape == (2, 3, 5)
    np.testing.assert_array_equal(found["cross_weights"][..., 3:], 0)
    np.testing.assert_allclose(found["cross_weights"].sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found["cross_output"], other["cross_output"])
