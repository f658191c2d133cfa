"""Attention and convolutions within the documents of a row."""

import jax
import numpy as np
import pytest

from jaxlabs.models.transformer_lm import loss

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LENGTHS = [3, 1, 4]
SEGMENTS = np.tile(np.repeat([5, 6, 7], LENGTHS).astype(np.int32), (3, 1))
RELATIVE = [
    {"positions": "rotary", "short_conv_width": 4, "attention_window": 3},
    {"positions": "alibi", "pre_norm": False},
]


def apply(model, params, *inputs):
    return np.asarray(jax.jit(model.apply)({"params": params}, *inputs))


@pytest.mark.parametrize("options", RELATIVE, ids=lambda options: options["positions"])
def test_a_document_of_a_row_equals_the_document_alone(options, tiny, parameters, tokens_of):
    """With relative positions; the absolute ones are those in the row."""
    model, tokens = tiny(**options), tokens_of()
    params = parameters(model)
    logits = apply(model, params, tokens, SEGMENTS)
    for start, length in zip(np.cumsum([0, *LENGTHS]), LENGTHS, strict=False):
        inside = slice(start, start + length)
        alone = apply(model, params, tokens[:, inside])
        np.testing.assert_allclose(logits[:, inside], alone, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"no_causal_mask": True}, *RELATIVE], ids=["sinusoidal", "unmasked", 2, 3]
)
def test_no_bit_of_a_document_depends_on_another(options, tiny, parameters, tokens_of):
    model, tokens = tiny(**options), tokens_of()
    params, changed = parameters(model), tokens.copy()
    changed[:, 3] = (tokens[:, 3] + 1) % 11  # the second document
    before, after = (apply(model, params, each, SEGMENTS) for each in (tokens, changed))
    others = np.arange(8) != 3
    np.testing.assert_array_equal(after[:, others], before[:, others])
    assert (after[:, 3] != before[:, 3]).any()
    joined = apply(model, params, tokens), apply(model, params, changed)
    assert (joined[0][:, 4:] != joined[1][:, 4:]).any()


def test_one_document_equals_none_to_the_bit(tiny, parameters, batch_of, key):
    model, batch = tiny(short_conv_width=3, dropout=0.2), batch_of()
    one = batch | {"segments": np.full((3, 8), 9, np.int32)}

    @jax.jit
    def gradient(params, batch):
        return jax.value_and_grad(
            lambda params: loss(model, {"params": params}, batch, key, train=True).loss_sum
        )(params)

    found, expected = (gradient(parameters(model), each) for each in (one, batch))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
