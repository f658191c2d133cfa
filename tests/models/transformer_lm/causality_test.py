"""Causality, and the sown attention weights."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.models.transformer_lm import POSITIONS

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize(
    "options",
    [*({"positions": kind} for kind in POSITIONS), {"short_conv_width": 4}],
    ids=str,
)
def test_changing_a_token_leaves_earlier_logits_bit_identical(
    options, tiny, parameters, logits_of, tokens_of
):
    model, tokens = tiny(**options), tokens_of()
    original = logits_of(model, parameters(model), tokens)
    chex.assert_shape(original, (3, 8, 11))
    assert original.dtype == jnp.float32
    for t in (0, 3, 7):
        changed = tokens.copy()
        changed[:, t] = (changed[:, t] + 1) % 11
        perturbed = logits_of(model, parameters(model), changed)
        np.testing.assert_array_equal(perturbed[:, :t], original[:, :t])
        assert (np.abs(perturbed[:, t:] - original[:, t:]).max(axis=-1) > 0).all()


@pytest.mark.parametrize(
    ("options", "visible"),
    [
        ({}, lambda query, key: key <= query),
        ({"attention_window": 2}, lambda query, key: 0 <= query - key <= 2),
        ({"attention_window": 1}, lambda query, key: query == key),
        # Each of the two blocks has two convolutions that see the previous position.
        ({"attention_window": 1, "short_conv_width": 2}, lambda query, key: 0 <= query - key <= 4),
        ({"attention_window": 100}, lambda query, key: key <= query),
        ({"no_causal_mask": True}, lambda query, key: True),
    ],
)
def test_gradient_is_nonzero_exactly_at_visible_positions(
    options, visible, tiny, parameters, logits_of, tokens_of
):
    # The receptive field of two blocks with window w is 2 (w - 1) previous positions.
    model = tiny(positions="learned", **options)
    params = parameters(model)
    tokens = tokens_of(batch=1)

    def logit_sums(table):
        changed_params = params | {"position_embedding": {"embedding": table}}
        return jnp.square(logits_of(model, changed_params, tokens)).sum(axis=(0, 2))

    table = params["position_embedding"]["embedding"]
    influence = np.abs(jax.jit(jax.jacrev(logit_sums))(table)).max(axis=-1)
    expected = [[visible(query, key) for key in range(8)] for query in range(8)]
    np.testing.assert_array_equal(influence > 0, expected)


@pytest.mark.parametrize("kind", POSITIONS)
def test_order_of_the_tokens_matters(kind, tiny, parameters, logits_of):
    model = tiny(positions=kind)
    straight = logits_of(model, parameters(model), np.array([[1, 2, 3]], np.int32))
    swapped = logits_of(model, parameters(model), np.array([[2, 1, 3]], np.int32))
    assert np.abs(straight[0, 2] - swapped[0, 2]).max() > 1e-4


def test_attention_weights_of_every_block_are_sown(tiny, parameters, tokens_of):
    model = tiny()
    _, sown = model.apply({"params": parameters(model)}, tokens_of(), mutable="intermediates")
    for name in ("blocks_0", "blocks_1"):
        (weights,) = sown["intermediates"][name]["attention"]["weights"]
        chex.assert_shape(weights, (3, 2, 8, 8))
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        assert (weights * (1 - np.tri(8))[None, None] == 0).all()
