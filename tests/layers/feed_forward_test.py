import jax
import numpy as np
import pytest
from scipy.special import erf

from jaxlabs.layers.feed_forward import FeedForward


def tokens_of(batch=2, time=6, features=8, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((batch, time, features)).astype(dtype)


def perturbed(params):
    """Parameters whose biases and scales are neither 0 nor 1."""
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * np.sin(np.arange(leaf.size)).reshape(leaf.shape), params
    )


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("squared_relu", lambda x: np.maximum(x, 0) ** 2),
        ("gelu", lambda x: x * (1 + erf(x / 2**0.5)) / 2),
        ("gelu_tanh", lambda x: x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2),
    ],
)
def test_feed_forward_equals_numpy(key, activation, function):
    x, layer = tokens_of(), FeedForward(16, activation)
    params = perturbed(layer.init(key, x)["params"])
    up_proj, down_proj = params["up_proj"], params["down_proj"]
    hidden = function(x @ up_proj["kernel"] + up_proj["bias"][None, None])
    expected = hidden @ down_proj["kernel"] + down_proj["bias"][None, None]
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-5)


def test_unknown_activation_lists_the_accepted_ones(key):
    with pytest.raises(
        ValueError, match="'swish' is not one of relu, gelu, gelu_tanh, squared_relu"
    ):
        FeedForward(16, "swish").init(key, tokens_of())
