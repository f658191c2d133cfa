import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import log_softmax

from jaxlabs.losses.cross_entropy import cross_entropy, is_top1, perplexity


def case(shape=(3, 4), classes=7, dtype=np.float32):
    random = np.random.default_rng(0)
    logits = random.standard_normal((*shape, classes)).astype(dtype) * 4
    return logits, random.integers(0, classes, shape)


def test_equals_scipy_without_reduction():
    logits, labels = case()
    log_probabilities = log_softmax(logits.astype(np.float64), axis=-1)
    expected = -np.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
    got = cross_entropy(logits, jnp.asarray(labels))
    chex.assert_shape(got, (3, 4))
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_uniform_logits_cost_log_of_the_classes():
    got = cross_entropy(jnp.full((2, 65), 3.0), jnp.array([0, 64]))
    np.testing.assert_allclose(got, np.log(65), rtol=1e-6)


def test_gradient_is_softmax_minus_one_hot():
    logits, labels = case()
    gradient = jax.grad(lambda x: cross_entropy(x, jnp.asarray(labels)).sum())(logits)
    np.testing.assert_allclose(
        gradient, jax.nn.softmax(logits) - jax.nn.one_hot(labels, 7), atol=1e-6
    )


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_value_and_gradient_are_finite_at_huge_logits(scale):
    logits = jnp.array([[scale, -scale, 0.0]] * 3)
    value, gradient = jax.value_and_grad(lambda x: cross_entropy(x, jnp.arange(3)).sum())(logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    got = cross_entropy(logits, jnp.arange(3))
    np.testing.assert_allclose(got, [0, 2 * scale, scale], rtol=1e-6)


def test_float64_stays_float64_and_its_gradient_is_right():
    with jax.enable_x64(True):
        logits, labels = case(shape=(2,), dtype=np.float64)
        assert cross_entropy(logits, jnp.asarray(labels)).dtype == jnp.float64
        check_grads(jax.jit(lambda x: cross_entropy(x, jnp.asarray(labels))), (logits,), order=2)


def test_bfloat16_is_computed_in_float32():
    logits, labels = case()
    narrow = jnp.asarray(logits, jnp.bfloat16)
    got = cross_entropy(narrow, jnp.asarray(labels))
    assert got.dtype == jnp.float32
    expected = cross_entropy(narrow.astype(jnp.float32), jnp.asarray(labels))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", [(3, 4), (1,), ()])
def test_top1_label_is_the_first_maximum(shape):
    logits = np.random.default_rng(0).integers(0, 3, (*shape, 7)).astype(np.float32)  # many ties
    for label in range(7):
        got = is_top1(jnp.asarray(logits), jnp.full(shape, label))
        np.testing.assert_array_equal(got, logits.argmax(axis=-1) == label)


def test_exactly_one_label_per_row_is_top1_when_compiled_together():
    x, kernel = case(shape=(50,))[0], case(shape=(7,), classes=9)[0]

    @jax.jit
    def counts(x):
        logits = 0.3 * (x @ kernel) + 0.7
        every = jnp.broadcast_to(jnp.arange(9), (50, 9))
        return jax.vmap(is_top1, (None, 1))(logits, every).sum(axis=0)

    np.testing.assert_array_equal(counts(x), np.ones(50))


def test_no_label_is_top1_among_nans():
    assert not is_top1(jnp.full((7, 7), jnp.nan), jnp.arange(7)).any()


@pytest.mark.peers
def test_loss_and_gradient_equal_pytorch():
    torch = pytest.importorskip("torch")
    logits, labels = case(shape=(12,))
    weights = np.random.default_rng(1).uniform(size=12).astype(np.float32)
    ours, gradient = jax.value_and_grad(
        lambda x: jnp.sum(cross_entropy(x, jnp.asarray(labels)) * weights)
    )(logits)
    leaf = torch.tensor(logits, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(leaf, torch.tensor(labels), reduction="none")
    theirs = (losses * torch.tensor(weights)).sum()
    theirs.backward()
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), atol=1e-6)


def test_one_class_has_zero_loss():
    np.testing.assert_array_equal(cross_entropy(jnp.ones((1, 1)), jnp.zeros(1, jnp.int32)), [0])


def test_perplexity_of_uniform_predictions_is_the_number_of_classes():
    assert perplexity({"loss": math.log(65), "accuracy": 0.1}) == pytest.approx({"perplexity": 65})
    assert perplexity({"loss": 0.0}) == {"perplexity": 1.0}
    assert perplexity({"loss": 1e4})["perplexity"] < math.inf
    assert math.isnan(perplexity({"loss": math.nan})["perplexity"])
