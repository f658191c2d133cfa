import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers import positions


def test_sinusoids_equal_the_formula_of_the_paper():
    table = positions.sinusoidal_embedding(50, 6)
    assert table.dtype == np.float32
    chex.assert_shape(table, (50, 6))
    for t in (0, 1, 7, 49):
        for i in range(3):
            angle = t / 10_000 ** (2 * i / 6)
            assert table[t, 2 * i] == np.float32(math.sin(angle))
            assert table[t, 2 * i + 1] == np.float32(math.cos(angle))


def test_sinusoids_of_odd_width_and_one_position():
    np.testing.assert_array_equal(positions.sinusoidal_embedding(1, 5), [[0, 1, 0, 1, 0]])


def rotated(x, offset=0):
    tables = positions.rope_tables(64, x.shape[-1])
    return positions.apply_rope(x, *(jnp.asarray(t[offset : offset + x.shape[2]]) for t in tables))


def test_rotation_equals_complex_multiplication():
    x = np.random.default_rng(0).standard_normal((1, 1, 5, 6)).astype(np.float32)
    y = rotated(x)
    for t in range(5):
        for i in range(3):
            pair = complex(x[0, 0, t, i], x[0, 0, t, i + 3])
            expected = pair * np.exp(1j * t * 10_000 ** (-2 * i / 6))
            np.testing.assert_allclose(y[0, 0, t, i], expected.real, atol=1e-6)
            np.testing.assert_allclose(y[0, 0, t, i + 3], expected.imag, atol=1e-6)


def test_rotated_scores_depend_on_the_distance_alone():
    query, key = np.random.default_rng(0).standard_normal((2, 1, 1, 1, 8)).astype(np.float32)
    scores = [
        float(jnp.sum(rotated(query, offset + 3) * rotated(key, offset))) for offset in (0, 10, 40)
    ]
    np.testing.assert_allclose(scores, scores[0], atol=1e-5)
    assert abs(scores[0] - float(np.sum(query * key))) > 1e-3


def test_rotation_preserves_norms_and_position_zero():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 8)).astype(np.float32)
    y = rotated(x)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(y[:, :, 0], x[:, :, 0])


def test_gradient_of_rotation_in_float64():
    with jax.enable_x64(True):
        x = np.random.default_rng(0).standard_normal((1, 2, 3, 4))
        assert rotated(x).dtype == jnp.float64
        check_grads(jax.jit(lambda x: jnp.sin(rotated(x))), (x,), order=1)


def test_rotary_tables_refuse_an_odd_head_size():
    with pytest.raises(ValueError, match="even head size, not 5"):
        positions.rope_tables(4, 5)


def test_alibi_slopes_are_those_of_the_paper():
    np.testing.assert_array_equal(
        positions.alibi_slopes(8), [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    )
    np.testing.assert_allclose(positions.alibi_slopes(16)[:2], [2**-0.5, 2**-1], rtol=1e-6)


def test_alibi_bias_falls_with_the_distance():
    bias = positions.alibi_bias(
        np.array([0.5, 0.25], np.float32), jnp.array([2, 0]), jnp.array([0, 1, 2])
    )
    expected = [[[-1.0, -0.5, 0.0], [0.0, -0.5, -1.0]], [[-0.5, -0.25, 0.0], [0.0, -0.25, -0.5]]]
    np.testing.assert_array_equal(bias, np.array(expected)[None])
