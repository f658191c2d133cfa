"""Short and long sequences, and invalid configs."""

import dataclasses

import chex
import numpy as np
import pytest

from jaxlabs.config import UserError

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (3, 1)])
def test_short_sequences_and_single_examples(shape, tiny, parameters, logits_of, tokens_of):
    model = tiny(attention_window=100)
    logits = logits_of(model, parameters(model), tokens_of(*shape))
    chex.assert_shape(logits, (*shape, 11))
    assert np.isfinite(logits).all()


def test_more_tokens_than_the_context_length_are_refused(tiny, parameters, logits_of, tokens_of):
    model = tiny()
    with pytest.raises(ValueError, match="9 tokens do not fit into a context of 8"):
        logits_of(model, parameters(model), tokens_of(time=9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "num_heads: 3 does not divide `embed_dim` 16"),
        (
            {"num_heads": 16, "positions": "rotary"},
            "num_heads: 16 heads of 1 are not accepted",
        ),
        (
            {"attention_window": 2, "no_causal_mask": True},
            "attention_window: 2 is not accepted with `no_causal_mask`; none",
        ),
        (
            {"attention_window": 0},
            "attention_window: 0 is not accepted; an integer of at least 1",
        ),
        ({"positions": "rotery"}, "did you mean 'rotary'"),
        ({"init": "keras"}, "one of gpt2, pytorch"),
        ({"activation": "swish"}, "one of relu, gelu, gelu_tanh, squared_relu"),
        ({"norm": "batchnorm"}, "one of layernorm, rmsnorm"),
        ({"matmul_precision": "exact"}, "one of highest, default, bfloat16"),
        ({"embed_dim": -16}, "embed_dim: -16 is not accepted"),
        (
            {"short_conv_width": 0},
            "short_conv_width: 0 is not accepted; an integer of at least 1",
        ),
        ({"dropout": 1.0}, "dropout: 1.0 is not accepted"),
    ],
)
def test_invalid_configs_are_refused_with_a_message(options, message, tiny):
    config = tiny().config
    with pytest.raises(UserError) as error:
        dataclasses.replace(config, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
