import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.layers import masks
from jaxlabs.layers.masks import AttentionMask


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[character == "1" for character in row.split()] for row in rows])[None, None]


def test_causal_mask_is_the_lower_triangle():
    expected = mask_of(
        "1 0 0 0",
        "1 1 0 0",
        "1 1 1 0",
        "1 1 1 1",
    )
    np.testing.assert_array_equal(masks.causal(4), expected)


def test_window_of_two_is_the_position_and_the_previous_one():
    expected = mask_of(
        "1 0 0 0",
        "1 1 0 0",
        "0 1 1 0",
        "0 0 1 1",
    )
    np.testing.assert_array_equal(AttentionMask(window=2).to_array(4), expected)


def test_unlimited_window_is_causal_or_full():
    distance = np.array([[-2, 0, 5]])
    np.testing.assert_array_equal(masks.visible(distance, None), [[False, True, True]])
    assert masks.visible(distance, None, causal=False).all()


def test_window_of_one_sees_itself_only():
    np.testing.assert_array_equal(AttentionMask(window=1).to_array(5)[0, 0], np.eye(5, dtype=bool))


def test_every_query_after_the_first_ones_sees_window_keys():
    seen = AttentionMask(window=4).to_array(9).sum(axis=-1)[0, 0]
    np.testing.assert_array_equal(seen, [1, 2, 3, 4, 4, 4, 4, 4, 4])


def test_window_at_least_as_long_as_the_sequence_is_the_causal_mask():
    for window in (4, 5, 100):
        np.testing.assert_array_equal(AttentionMask(window=window).to_array(4), masks.causal(4))


def test_padding_masks_keys_of_weight_zero_for_every_query():
    mask = masks.padding(jnp.array([[1.0, 1.0, 0.0], [0.5, 0.0, 0.0]]))
    chex.assert_shape(mask, (2, 1, 1, 3))
    np.testing.assert_array_equal(mask[:, 0, 0], [[True, True, False], [True, False, False]])


def test_masks_combine_with_and():
    mask = masks.causal(3) & masks.padding(jnp.array([[1, 0, 1], [1, 1, 0]]))
    chex.assert_shape(mask, (2, 1, 3, 3))
    np.testing.assert_array_equal(mask[:1], mask_of("1 0 0", "1 0 0", "1 0 1"))
    np.testing.assert_array_equal(mask[1:], mask_of("1 0 0", "1 1 0", "1 1 0"))


def test_decode_mask_is_the_row_of_the_full_mask():
    for window in (None, 1, 3, 9):
        full = masks.causal(6) if window is None else AttentionMask(window=window).to_array(6)
        rows = [jax.jit(masks.decode_mask, static_argnums=(1, 2))(t, 6, window) for t in range(6)]
        chex.assert_shape(rows[0], (1, 1, 1, 6))
        np.testing.assert_array_equal(jnp.concatenate(rows, axis=2), full)


def test_length_one():
    for mask in (
        masks.causal(1),
        AttentionMask(window=3).to_array(1),
        masks.padding(jnp.ones((1, 1))),
    ):
        np.testing.assert_array_equal(mask, [[[[True]]]])
