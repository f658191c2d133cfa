"""Tests of jaxlabs/training/param_labels.py."""

import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.training.param_labels import EMBEDDING, HEAD, HIDDEN, VECTOR, label_params

LABELS = {
    "embedding.embedding": EMBEDDING,
    "encoder.embedding.embedding": EMBEDDING,
    "decoder.embedding.embedding": EMBEDDING,
    "text_encoder.position_embedding.embedding": EMBEDDING,
    "class_embedding.embedding": EMBEDDING,
    "wide_logits.table": EMBEDDING,
    "head.kernel": HEAD,
    "decoder.head.kernel": HEAD,
    "input.kernel": HEAD,
    "output.kernel": HEAD,
    "decoder.output.kernel": HEAD,
    "blocks_0.attention.query_kernel": HIDDEN,
    "blocks_0.attention.out.kernel": HIDDEN,
    "blocks_0.ffn.up_proj.kernel": HIDDEN,
    "time_output.kernel": HIDDEN,
    "encoder.recurrent.stack_0.input_kernel": HIDDEN,
    "decoder.first_state.kernel": HIDDEN,
    "convolutions_1.kernel": HIDDEN,
    "blocks_0.attention_convolution.kernel": VECTOR,
    "blocks_0.attention.query_bias": VECTOR,
    "decoder.head.bias": VECTOR,
    "hidden_0.norm.scale": VECTOR,
    "log_scale": VECTOR,
}


@pytest.mark.parametrize("name", LABELS)
def test_label_is_that_of_the_full_path(name):
    assert jax.tree.leaves(label_params(nested(name, np.ones((2, 2))))) == [LABELS[name]]


def nested(name, leaf):
    """Returns a tree with one parameter of a dotted path."""
    for module in reversed(name.split(".")):
        leaf = {module: leaf}
    return leaf


def test_parameter_without_a_label_is_named():
    with pytest.raises(UserError, match=r"^params: 'block.weight' matches none of .*Task.label_fn"):
        label_params({"block": {"weight": np.ones(2)}})
