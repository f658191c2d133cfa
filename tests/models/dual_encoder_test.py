"""Both encoders against numpy, the losses at initialization, and steps on four devices."""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.losses import contrastive
from jaxlabs.models import dual_encoder
from jaxlabs.models.dual_encoder import DualEncoder, DualEncoderConfig
from jaxlabs.models.text_encoder import TextEncoder
from jaxlabs.training import gradient_check
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.state import count_parameters, create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SMALL = DualEncoderConfig(
    **{"vocab_size": 12, "embed_dim": 8, "num_heads": 2, "mlp_dim": 8, "projection_dim": 6},
    **{"channels": 2, "context_length": 5, "max_translation": 0, "matmul_precision": "highest"},
)
KEY = jax.random.key(0)
ADAM = optax.adam(1e-2)


def batch_of(count=8, shape=(8, 8, 1)):
    random = np.random.default_rng(0)
    tokens = random.integers(1, 12, (count, 5), dtype=np.int32)
    tokens[np.arange(5)[None, :] > random.integers(1, 5, count)[:, None]] = 0
    return {
        "images": random.integers(0, 256, (count, *shape), dtype=np.uint8),
        "tokens": tokens,
        "weights": np.ones(count, np.float32),
        "example_index": np.arange(count, dtype=np.int32),
    }


@functools.cache
def build(loss):
    model = DualEncoder(dataclasses.replace(SMALL, loss=loss))
    batch = batch_of(1)
    init = jax.jit(functools.partial(model.init, KEY))
    return model, jax.device_get(init(batch["images"] / 255.0, batch["tokens"])["params"])


def state_of(loss):
    model, params = build(loss)
    return create_state(model, {"params": jax.tree.map(jnp.array, params)}, ADAM)


def test_default_model_has_the_parameters_of_the_table():
    model = DualEncoder(DualEncoderConfig(vocab_size=27))
    inputs = jnp.zeros((1, 28, 28, 1)), jnp.ones((1, 8), jnp.int32)
    params = jax.eval_shape(model.init, KEY, *inputs)["params"]
    sizes = {name: count_parameters(part) for name, part in params.items()}
    text = sizes.pop("text_encoder")
    expected = {"image_encoder": 160 + 4_640 + 13_872, "image_projection": 150_528}
    assert sizes == expected | {"text_projection": 4_096, "log_scale": 1}
    block = 4 * 64**2 + 64 + 128 + 2 * 64 * 128 + 128 + 64 + 128
    assert text == 27 * 64 + 8 * 64 + block + 128


def test_embeddings_equal_numpy():
    model, params = build("clip")
    batch = batch_of(3)
    x = batch["images"] / 255.0
    for index in range(3):
        layer = params["image_encoder"][f"convolutions_{index}"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        y = np.zeros((*x.shape[:3], layer["bias"].size))
        for row, column in np.ndindex(*x.shape[1:3]):
            patch = padded[:, row : row + 3, column : column + 3]
            y[:, row, column] = np.einsum("bhwi,hwio->bo", patch, layer["kernel"]) + layer["bias"]
        x = np.maximum(y, 0)
        if index < 2:
            corners = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
            x = np.max(corners, axis=0)
    embeddings = x.reshape(3, -1) @ params["image_projection"]["kernel"]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = dual_encoder.embed_images(model, params, batch["images"])
    chex.assert_shape(found, (3, 6))
    np.testing.assert_allclose(found, embeddings, atol=1e-5)

    tokens = batch["tokens"]
    vectors = jax.jit(TextEncoder(model.config).apply)({"params": params["text_encoder"]}, tokens)
    means = [
        row[one != 0].mean(axis=0) for row, one in zip(np.asarray(vectors), tokens, strict=True)
    ]
    embeddings = np.stack(means) @ params["text_projection"]["kernel"]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = dual_encoder.embed_texts(model, params, tokens)
    np.testing.assert_allclose(found, embeddings, atol=1e-5)


def logits_of(loss, batch):
    model, params = build(loss)
    images = np.asarray(dual_encoder.embed_images(model, params, batch["images"]), np.float64)
    texts = np.asarray(dual_encoder.embed_texts(model, params, batch["tokens"]), np.float64)
    return images @ texts.T


def test_initial_loss_equals_that_of_the_papers():
    batch = batch_of()
    found = dual_encoder.train_step(state_of("clip"), batch, KEY)[1]
    assert found["scale"] == pytest.approx(1 / 0.07)
    # At scale 1: the log of the batch size plus half the variance within rows and columns.
    state = state_of("clip")
    state.params["log_scale"] = jnp.zeros(())
    cosines = logits_of("clip", batch)
    variance = sum(cosines.var(axis=axis).mean() for axis in (0, 1)) / 4
    off = np.diagonal(cosines).mean() - cosines.mean()
    found = dual_encoder.train_step(state, batch, KEY)[1]
    assert found["loss"] == pytest.approx(math.log(8) + variance - off, abs=0.05)

    cosines = logits_of("siglip", batch)
    found = dual_encoder.train_step(state_of("siglip"), batch, KEY)[1]
    assert found["scale"] == pytest.approx(10)
    assert found["bias"] == -10
    # A pair costs 10 (1 - cosine), all other terms are negligible.
    assert found["loss"] == pytest.approx(10 - 10 * np.diagonal(cosines).mean(), abs=0.2)


def test_translation_is_applied_in_training_only_and_padding_is_ignored():
    batch = batch_of()
    state = state_of("siglip")
    model, variables = state.model, {"params": state.params}
    loss = jax.jit(dual_encoder.loss, static_argnums=0, static_argnames="train")
    translating = DualEncoder(dataclasses.replace(model.config, max_translation=1))
    whole = loss(model, variables, batch, KEY, train=False)
    cosines = logits_of("siglip", batch)
    logits = 10 * cosines - 10
    expected = np.logaddexp(0, (1 - 2 * np.eye(8)) * logits).sum()
    np.testing.assert_allclose(whole.loss_sum, expected, rtol=1e-4)
    translated = loss(translating, variables, batch, KEY, train=True)
    assert abs(float(translated.loss_sum - whole.loss_sum)) > 1e-3
    batch["weights"][[2, 5]] = 0
    valid = np.flatnonzero(batch["weights"])
    masked = loss(model, variables, batch, KEY, train=False)
    logits = logits[np.ix_(valid, valid)]
    expected = np.logaddexp(0, (1 - 2 * np.eye(6)) * logits).sum()
    np.testing.assert_allclose(masked.loss_sum, expected, rtol=1e-4)
    assert masked.weight_sum == 6


def assert_same_step(ours, theirs):
    """Equal losses and gradients, with a relative tolerance of 1e-6."""
    (moments, metrics), (other_moments, other_metrics) = ours, theirs
    np.testing.assert_allclose(metrics["loss"], other_metrics["loss"], rtol=1e-6)
    difference = jax.tree.map(np.subtract, moments, other_moments)
    assert optax.tree.norm(difference) < 1e-6 * optax.tree.norm(other_moments)


def gradients_of(state, metrics):
    """After one step Adam's first moment is 0.1 times the gradient."""
    return jax.tree.map(np.asarray, (state.opt_state[0].mu, metrics))


# All combinations of loss and route: tests/losses/contrastive_test.py.
@pytest.mark.parametrize(
    ("loss", "route"), [("clip", "pmap"), ("siglip", "pmap"), ("clip", "mesh")]
)
def test_step_over_four_devices_equals_one(loss, route):
    batch = batch_of()
    batch["weights"][5] = 0
    one = gradients_of(*dual_encoder.train_step(state_of(loss), batch, KEY))
    if route == "mesh":
        placement = data_parallel(jax.devices()[:4])
        state, split = (
            placement.replicate(state_of(loss)),
            jax.device_put(batch, placement.batch_sharding),
        )
        assert_same_step(gradients_of(*dual_encoder.train_step(state, split, KEY)), one)
        return
    step = functools.partial(dual_encoder.train_step, axis_name="batch")
    mapped = jax.pmap(step, axis_name="batch", in_axes=(None, 0, None), devices=jax.devices()[:4])
    split = {name: leaf.reshape(4, 2, *leaf.shape[1:]) for name, leaf in batch.items()}
    found = gradients_of(*mapped(state_of(loss), split, KEY))
    for device in range(4):
        of_device = jax.tree.map(lambda leaf, device=device: leaf[device], found)
        assert_same_step(of_device, one)


@pytest.mark.parametrize("loss", dual_encoder.LOSSES)
def test_one_batch_is_overfit(loss):
    state, batch = state_of(loss), batch_of()
    for _ in range(200):
        state, metrics = dual_encoder.train_step(state, batch, KEY)
    assert metrics["loss"] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("loss", dual_encoder.LOSSES)
def test_gradients_equal_finite_differences_in_float64(loss):
    model, params = build(loss)
    batch = batch_of(4) | {"images": np.random.default_rng(1).random((4, 8, 8, 1))}

    def total(params, batch):
        return dual_encoder.loss(model, {"params": params}, batch, KEY, train=False).loss_sum

    report = gradient_check.check(total, params, batch, key=KEY, max_entries=20, directions=4)
    assert report.worst.relative_difference < 1e-5, report


@pytest.mark.parametrize(
    ("settings", "expected", "learned"),
    [
        (
            {"loss": "siglip", "init_temperature": 0.05, "init_logit_bias": -3.0},
            (20, -3),
            {"log_scale", "bias"},
        ),
        ({"init_temperature": 0.5, "learn_temperature": False}, (2, 0), set()),
        ({"init_temperature": 0.001}, (contrastive.MAX_LOGIT_SCALE, 0), {"log_scale"}),
    ],
)
def test_temperature_and_bias_are_initialized_and_learned_as_configured(
    settings, expected, learned
):
    model = DualEncoder(dataclasses.replace(SMALL, **settings))
    params = model.init(KEY, method="logit_scale").get("params", {})
    assert params.keys() == learned
    assert dual_encoder.logit_scale(model, params) == pytest.approx(expected)
