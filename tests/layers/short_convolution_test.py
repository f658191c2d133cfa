import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers.short_convolution import ShortConvolution, short_convolution


def x_of(batch=2, time=6, features=4, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((batch, time, features)).astype(dtype)


def kernel_of(size, features=4, dtype=np.float32):
    return np.random.default_rng(1).standard_normal((size, 1, features)).astype(dtype)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(("batch", "time"), [(2, 6), (1, 1), (3, 2)])
def test_equals_a_depthwise_convolution_and_the_residual(size, batch, time):
    x, kernel = x_of(batch, time), kernel_of(size)
    out, _ = short_convolution(x, kernel)
    # In flax the last row of the kernel multiplies the current position.
    theirs = nn.Conv(4, (size,), padding="CAUSAL", feature_group_count=4, use_bias=False)
    expected = x + theirs.apply({"params": {"kernel": kernel[::-1]}}, x)
    chex.assert_shape(out, (batch, time, 4))
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_a_sequence_in_chunks_equals_the_whole():
    x, kernel = x_of(time=7), kernel_of(4)
    whole, last = short_convolution(x, kernel)
    chunks, conv_state = [], np.zeros((2, 3, 4), np.float32)
    for start, stop in [(0, 1), (1, 3), (3, 7)]:
        chunk, conv_state = short_convolution(x[:, start:stop], kernel, conv_state)
        chunks.append(chunk)
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), whole, atol=1e-6)
    np.testing.assert_array_equal(conv_state, last)
    np.testing.assert_array_equal(last, x[:, 4:])


def test_initialization_is_the_identity(key):
    x = x_of()
    layer = ShortConvolution(3)
    out, _ = layer.apply(layer.init(key, x), x)
    np.testing.assert_array_equal(out, x)


def test_module_is_the_function_with_its_kernel():
    x, kernel, conv_state = x_of(), kernel_of(3), x_of(time=2)
    ours = ShortConvolution(3).apply({"params": {"kernel": kernel}}, x, conv_state)
    chex.assert_trees_all_equal(ours, short_convolution(x, kernel, conv_state))


def test_gradient_in_float64():
    with jax.enable_x64(True):
        x, kernel = x_of(time=4, dtype=np.float64), kernel_of(3, dtype=np.float64)
        conv_state = np.random.default_rng(2).standard_normal((2, 2, 4))

        def total(kernel, x, conv_state):
            out, last = short_convolution(x, kernel, conv_state)
            assert out.dtype == jnp.float64
            return jnp.sin(out).sum() + jnp.cos(last).sum()

        check_grads(total, (kernel, x, conv_state), order=1, modes=["rev"])


def test_kernel_gradient_is_summed_over_a_batch_of_one_at_once():
    """A sum over time alone, with the batch kept, is 60 times slower on CPUs (jax 0.10)."""
    x, kernel = jnp.ones((1, 6, 4)), kernel_of(2)

    def total(kernel):
        return short_convolution(x, kernel)[0].sum()

    steps = jax.make_jaxpr(jax.grad(total))(kernel).eqns
    sums = [step.params["axes"] for step in steps if step.primitive.name == "reduce_sum"]
    assert sums == [(0, 1, 2), (0, 1), (0, 1)]


@pytest.mark.parametrize("lengths", [[6], [1, 1, 1, 1, 1, 1], [2, 1, 3], [5, 1]])
def test_a_segment_is_convolved_as_a_sequence_of_its_own(lengths):
    x, kernel = x_of(), kernel_of(4)
    segments = np.tile(np.repeat(np.arange(len(lengths)), lengths), (2, 1))
    found, _ = short_convolution(x, kernel, segments=segments)
    alone = [
        short_convolution(x[:, start : start + length], kernel)[0]
        for start, length in zip(np.cumsum([0, *lengths]), lengths, strict=False)
    ]
    np.testing.assert_allclose(found, np.concatenate(alone, axis=1), atol=1e-6)


def test_segments_shorter_than_the_kernel_and_their_gradient_in_float64():
    with jax.enable_x64(True):
        x, kernel = x_of(time=3, dtype=np.float64), kernel_of(5, dtype=np.float64)
        segments = np.array([[0, 0, 1], [0, 1, 1]])
        convolve = lambda x, kernel: short_convolution(x, kernel, segments=segments)[0]  # noqa: E731
        check_grads(convolve, (x, kernel), order=1, modes=["rev"])
