"""Contrastive losses against numpy and the papers' pseudo-code, and on several devices."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.sharding import NamedSharding, PartitionSpec

from jaxlabs.losses import contrastive
from jaxlabs.training import gradient_check

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(5, 5)).astype(np.float32) * 3
BATCH, WIDTH = 8, 4
IMAGES, TEXTS = (
    x / np.linalg.norm(x, axis=1, keepdims=True)
    for x in RANDOM.normal(size=(2, BATCH, WIDTH)).astype(np.float32)
)
# Padding on two of four devices, one of which has nothing else.
WEIGHTS = np.array([1, 1, 1, 0, 1, 1, 0, 0], np.float32)
VALID = WEIGHTS > 0


def total(params, weights, kind, axis_name=None):
    """The sum of a loss over the local examples."""
    scale = contrastive.clamp_logit_scale(params["log_scale"])
    both = params["images"], params["texts"]
    if kind == "clip":
        return contrastive.clip_loss(*both, scale, weights, axis_name=axis_name).sum()
    return contrastive.siglip_loss(*both, scale, params["bias"], weights, axis_name=axis_name).sum()


PARAMS = {"images": IMAGES, "texts": TEXTS, "log_scale": np.float32(2), "bias": np.float32(-3)}
WHOLE = jax.jit(jax.value_and_grad(total), static_argnums=2)


def clip_reference(images, texts, scale):
    logits = scale * images.astype(np.float64) @ texts.T
    rows, columns = (scipy.special.log_softmax(logits, axis=axis) for axis in (1, 0))
    return -(np.diagonal(rows) + np.diagonal(columns)) / 2


def siglip_reference(images, texts, scale, bias):
    logits = scale * images.astype(np.float64) @ texts.T + bias
    signs = 2 * np.eye(len(images)) - 1
    return np.logaddexp(0, -signs * logits).sum(axis=1)


def test_one_direction_is_a_cross_entropy_whose_gradient_is_softmax_minus_positive():
    found = contrastive.info_nce(jnp.asarray(LOGITS))
    chex.assert_shape(found, (5,))
    expected = -np.diagonal(scipy.special.log_softmax(LOGITS, axis=1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    gradient = jax.grad(lambda logits: contrastive.info_nce(logits).mean())(jnp.asarray(LOGITS))
    softmax = scipy.special.softmax(LOGITS, axis=1)
    np.testing.assert_allclose(gradient, (softmax - np.eye(5)) / 5, atol=1e-7)


def test_one_direction_takes_other_positives_and_more_keys_than_queries():
    found = contrastive.info_nce(jnp.asarray(LOGITS[:2]), jnp.array([3, 0]))
    expected = -scipy.special.log_softmax(LOGITS[:2], axis=1)[[0, 1], [3, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_both_losses_equal_numpy_and_ignore_padding():
    clip = contrastive.clip_loss(IMAGES, TEXTS, 14.0, WEIGHTS)
    siglip = contrastive.siglip_loss(IMAGES, TEXTS, 10.0, -3.0, WEIGHTS)
    for found in (clip, siglip):
        chex.assert_shape(found, (BATCH,))
        np.testing.assert_array_equal(np.asarray(found)[~VALID], 0)
    expected = clip_reference(IMAGES[VALID], TEXTS[VALID], 14.0)
    np.testing.assert_allclose(np.asarray(clip)[VALID], expected, rtol=1e-5)
    expected = siglip_reference(IMAGES[VALID], TEXTS[VALID], 10.0, -3.0)
    np.testing.assert_allclose(np.asarray(siglip)[VALID], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_padding_has_zero_gradient_and_a_fully_padded_batch_zero_loss(kind):
    for weights in (WEIGHTS, np.zeros_like(WEIGHTS)):
        value, grads = WHOLE(PARAMS, weights, kind)
        assert np.isfinite(value)
        assert weights.any() or value == 0
        for name in ("images", "texts"):
            np.testing.assert_array_equal(np.asarray(grads[name])[weights == 0], 0)
            assert np.isfinite(grads[name]).all()


def test_equal_logits_cost_log_of_the_batch_size():
    found = contrastive.symmetric_info_nce(jnp.full((7, 7), 3.0))
    np.testing.assert_allclose(found, math.log(7), rtol=1e-6)


def test_a_batch_of_one_pair_has_no_negatives():
    one = jnp.full((1, 1), -2.0)
    np.testing.assert_allclose(contrastive.symmetric_info_nce(one), 0, atol=1e-7)
    np.testing.assert_allclose(contrastive.pairwise_sigmoid(one), np.logaddexp(0, 2), rtol=1e-6)


def test_term_of_a_pair_does_not_depend_on_other_logits():
    grad = jax.jit(jax.grad(lambda logits: contrastive.pairwise_sigmoid(logits).sum()))
    changed = LOGITS.copy()
    changed[0, 1] += 5
    difference = np.array(grad(jnp.asarray(changed)) - grad(jnp.asarray(LOGITS)))
    assert difference[0, 1] > 0.01
    difference[0, 1] = 0
    np.testing.assert_array_equal(difference, 0)
    # In contrast, the softmax of a row changes in all entries.
    grad = jax.jit(jax.grad(lambda logits: contrastive.info_nce(logits).sum()))
    difference = np.asarray(grad(jnp.asarray(changed)) - grad(jnp.asarray(LOGITS)))
    assert (np.abs(difference[0]) > 1e-4).all()


@pytest.mark.parametrize("loss", [contrastive.symmetric_info_nce, contrastive.pairwise_sigmoid])
def test_value_and_gradient_are_finite_at_huge_logits(loss):
    correct = 1e4 * (2 * jnp.eye(3) - 1)
    both = jax.jit(jax.value_and_grad(lambda x: loss(x, jnp.ones(3)).sum()))
    for logits, expected in ((correct, 0.0), (-correct, None)):
        value, grad = both(logits)
        assert np.isfinite(grad).all()
        assert np.isfinite(value)
        assert value == expected if expected is not None else value > 1e4


def test_half_precision_is_computed_in_float32():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    for loss in (contrastive.symmetric_info_nce, contrastive.pairwise_sigmoid):
        assert loss(logits, jnp.ones(5)).dtype == jnp.float32
    halves = (jnp.asarray(x, jnp.bfloat16) for x in (IMAGES, TEXTS))
    assert contrastive.similarity_logits(*halves, 1.0).dtype == jnp.float32


def test_logit_scale_is_clamped_with_nonzero_gradient():
    value, grad = jax.value_and_grad(contrastive.clamp_logit_scale)(jnp.log(30.0))
    np.testing.assert_allclose([value, grad], 30, rtol=1e-5)
    value, grad = jax.value_and_grad(contrastive.clamp_logit_scale)(jnp.log(5000.0))
    np.testing.assert_allclose([value, grad], 100, rtol=1e-5)
    np.testing.assert_allclose(
        contrastive.clamp_logit_scale(contrastive.CLIP_LOGIT_SCALE), 1 / 0.07
    )


def test_gradients_equal_finite_differences():
    def total_loss(params, weights):
        images, texts = (
            x / jnp.linalg.norm(x, axis=1, keepdims=True)
            for x in (params["images"], params["texts"])
        )
        scale = contrastive.clamp_logit_scale(params["log_scale"])
        clip = contrastive.clip_loss(images, texts, scale, weights)
        siglip = contrastive.siglip_loss(images, texts, scale, params["bias"], weights)
        return clip.sum() + siglip.sum()

    params = {"images": IMAGES, "texts": TEXTS, "log_scale": np.array(1.5), "bias": np.array(-2.0)}
    report = gradient_check.check(total_loss, params, WEIGHTS)
    assert report.worst.relative_difference < 1e-8, str(report)


@pytest.mark.peers
def test_losses_and_gradients_equal_the_pseudo_code_of_the_papers_in_pytorch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    params = {"images": IMAGES * 2, "texts": TEXTS * 3, "t": np.log(9.0), "b": np.array(-4.0)}

    def theirs(kind, images, texts, t, b):
        images, texts = functional.normalize(images), functional.normalize(texts)
        if kind == "clip":  # Radford et al. 2021, figure 3
            logits = images @ texts.T * torch.exp(t)
            labels = torch.arange(BATCH)
            image_loss = functional.cross_entropy(logits, labels)
            text_loss = functional.cross_entropy(logits.T, labels)
            return (image_loss + text_loss) / 2
        logits = images @ texts.T * torch.exp(t) + b  # Zhai et al. 2023, algorithm 1
        labels = 2 * torch.eye(BATCH) - torch.ones(BATCH, BATCH)
        return -torch.sum(functional.logsigmoid(labels * logits)) / BATCH

    def ours(params, kind):
        images, texts = (
            x / jnp.linalg.norm(x, axis=1, keepdims=True)
            for x in (params["images"], params["texts"])
        )
        scale, weights = contrastive.clamp_logit_scale(params["t"]), jnp.ones(BATCH)
        if kind == "clip":
            return contrastive.clip_loss(images, texts, scale, weights).mean()
        return contrastive.siglip_loss(images, texts, scale, params["b"], weights).mean()

    params = {name: np.float32(value) for name, value in params.items()}
    for kind in ("clip", "siglip"):
        leaves = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
        expected = theirs(kind, **leaves)
        expected.backward()
        value, grads = jax.jit(jax.value_and_grad(ours), static_argnums=1)(params, kind)
        np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
        for name, grad in grads.items():
            other = leaves[name].grad
            other = np.zeros_like(grad) if other is None else other.numpy()
            np.testing.assert_allclose(grad, other, rtol=1e-4, atol=1e-6, err_msg=name)


REPLICATED = {"images": False, "texts": False, "log_scale": True, "bias": True}


def over_devices(kind, route):
    """Value and gradient on four devices, each with its shard of the batch."""
    step = functools.partial(total, kind=kind, axis_name="batch")

    def value_and_gradient(params, weights):
        value, grad = jax.value_and_grad(step)(params, weights)
        shared = jax.lax.psum(
            {name: grad[name] for name, is_shared in REPLICATED.items() if is_shared}, "batch"
        )
        return jax.lax.psum(value, "batch"), grad | shared

    if route == "pmap":
        axes = {name: None if is_shared else 0 for name, is_shared in REPLICATED.items()}
        mapped = jax.pmap(value_and_gradient, axis_name="batch", in_axes=(axes, 0))
        split = {
            name: leaf if REPLICATED[name] else leaf.reshape(4, -1, WIDTH)
            for name, leaf in PARAMS.items()
        }
        value, grad = mapped(split, WEIGHTS.reshape(4, -1))
        rows = {name: np.asarray(leaf) for name, leaf in grad.items()}
        return np.asarray(value)[0], {
            name: leaf[0] if REPLICATED[name] else leaf.reshape(-1, WIDTH)
            for name, leaf in rows.items()
        }
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, rows = PartitionSpec(), PartitionSpec("batch")
    specs = {name: whole if is_shared else rows for name, is_shared in REPLICATED.items()}
    mapped = jax.shard_map(
        value_and_gradient,
        mesh=mesh,
        in_specs=(specs, rows),
        out_specs=(whole, specs),
        check_vma=False,
    )
    if route == "mesh":  # global arrays, partitioned by the compiler
        mapped = jax.value_and_grad(functools.partial(total, kind=kind))
        placed = jax.tree.map(
            lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), PARAMS, specs
        )
        return jax.jit(mapped)(placed, jax.device_put(WEIGHTS, NamedSharding(mesh, rows)))
    return jax.jit(mapped)(PARAMS, WEIGHTS)


@pytest.mark.parametrize("route", ["pmap", "shard_map", "mesh"])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_four_devices_equal_one_with_the_whole_batch(kind, route):
    value, grads = WHOLE(PARAMS, WEIGHTS, kind)
    found, found_grads = over_devices(kind, route)
    np.testing.assert_allclose(found, value, rtol=1e-6)
    for name, grad in grads.items():
        scale = np.abs(grad).max()
        np.testing.assert_allclose(found_grads[name], grad, rtol=0, atol=1e-6 * scale, err_msg=name)


def test_ring_never_materializes_logits_of_all_texts():
    local = {name: leaf if REPLICATED[name] else leaf[:2] for name, leaf in PARAMS.items()}

    def holds(kind):
        step = functools.partial(total, kind=kind, axis_name="batch")
        traced = jax.make_jaxpr(jax.grad(step), axis_env=[("batch", 4)])(local, WEIGHTS[:2])
        return "[2,8]" in str(traced)  # logits of two images and eight texts

    assert holds("clip")
    assert not holds("siglip")
