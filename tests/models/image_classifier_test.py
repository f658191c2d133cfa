import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from jaxlabs.config import UserError
from jaxlabs.models import image_classifier
from jaxlabs.models.image_classifier import ImageClassifier, ImageClassifierConfig
from jaxlabs.training import gradient_check
from jaxlabs.training.state import count_parameters, create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SMALL = ImageClassifierConfig(channels=2, feature_dim=6, matmul_precision="highest")
KEY = jax.random.key(0)
NO_UPDATE = optax.identity()
LOSS = jax.jit(image_classifier.loss, static_argnums=0, static_argnames="train")


def build(config=SMALL, classes=3, shape=(8, 8, 1)):
    model = ImageClassifier(config, classes)
    params = jax.jit(model.init)(KEY, jnp.zeros((1, *shape)))["params"]
    return model, params


def batch_of(count=5, shape=(8, 8, 1)):
    random = np.random.default_rng(0)
    return {
        "images": random.integers(0, 256, (count, *shape), dtype=np.uint8),
        "labels": random.integers(0, 3, count, dtype=np.int32),
        "weights": np.ones(count, np.float32),
        "example_index": np.arange(count, dtype=np.int32),
    }


def test_default_network_has_the_parameters_of_the_table():
    model = ImageClassifier(ImageClassifierConfig(), 10)
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 28, 28, 1)))
    assert count_parameters(shapes) == 169_914


def reference(params, x):
    """Features and logits of the network in numpy."""
    params = jax.tree.map(np.float64, params)
    for index in range(3):
        layer = params[f"convolutions_{index}"]
        kernel, bias = layer["kernel"], layer["bias"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        y = np.zeros((*x.shape[:3], len(bias)))
        for row, column in np.ndindex(*x.shape[1:3]):
            patch = padded[:, row : row + 3, column : column + 3]
            y[:, row, column] = np.einsum("bhwi,hwio->bo", patch, kernel) + bias
        x = np.maximum(y, 0)
        if index < 2:
            corners = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
            x = np.max(corners, axis=0)
    hidden, head = params["hidden"], params["head"]
    features = np.maximum(x.reshape(len(x), -1) @ hidden["kernel"] + hidden["bias"], 0)
    return features, features @ head["kernel"] + head["bias"]


def test_network_and_loss_equal_numpy():
    model, params = build()
    params = jax.tree.map(lambda leaf: leaf + 0.05, params)  # nonzero biases
    batch = batch_of(4)
    batch["weights"][1] = 0
    features, logits = reference(params, batch["images"] / 255)
    got = image_classifier.predict(model, params, batch["images"])
    chex.assert_shape(got[0], (4, 6))
    np.testing.assert_allclose(got[0], features, atol=1e-5)
    np.testing.assert_allclose(got[1], scipy.special.softmax(logits, axis=1), atol=1e-6)
    output = LOSS(model, {"params": params}, batch, KEY, train=False)
    nll = -scipy.special.log_softmax(logits, axis=1)[np.arange(4), batch["labels"]]
    valid = batch["weights"] > 0
    assert output.weight_sum == 3
    assert output.loss_sum == pytest.approx(nll[valid].sum(), rel=1e-5)
    correct = (logits.argmax(axis=1) == batch["labels"])[valid]
    assert output.metric_sums["accuracy"] == correct.sum()


@pytest.mark.slow
def test_gradients_equal_finite_differences_in_float64():
    model, params = build()
    batch = batch_of(3) | {"images": np.random.default_rng(1).random((3, 8, 8, 1))}

    def total(params, batch):
        return image_classifier.loss(model, {"params": params}, batch, KEY, train=False).loss_sum

    report = gradient_check.check(total, params, batch, key=KEY, max_entries=20, directions=4)
    assert report.worst.relative_difference < 1e-6, report


def test_random_translation_is_uniform_and_fills_with_the_border_median():
    x = jnp.arange(1.0, 17).reshape(1, 4, 4, 1)
    keys = jax.random.split(KEY, 400)
    translated = np.asarray(image_classifier.random_translate(jnp.repeat(x, 400, axis=0), keys, 1))[
        ..., 0
    ]
    border = [*range(1, 6), 8, 9, *range(12, 17)]
    padded = np.pad(np.asarray(x)[0, ..., 0], 1, constant_values=np.median(border))
    allowed = {padded[r : r + 4, c : c + 4].tobytes() for r in range(3) for c in range(3)}
    counts = dict.fromkeys(allowed, 0)
    for image in translated:
        counts[image.tobytes()] += 1  # no other image occurs
    assert min(counts.values()) > 20  # the expected count is 44
    np.testing.assert_array_equal(image_classifier.random_translate(x, keys[:1], 0), x)


@pytest.mark.parametrize("channels", [1, 3])
def test_fill_value_is_the_background_of_each_image(channels):
    background = np.array([0.25, 0.5, 1.0], np.float32)[:channels]
    x = np.tile(background, (200, 8, 8, 1))
    x[:, 3:5, 2:6] = 0.0
    x[100:] = 1 - x[100:]  # a different background
    keys = jax.random.split(jax.random.key(0), 200)
    translated = np.asarray(image_classifier.random_translate(jnp.asarray(x), keys, 2))
    for images, border in ((translated[:100], background), (translated[100:], 1 - background)):
        corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        np.testing.assert_array_equal(corners, np.broadcast_to(border, corners.shape))
    assert (translated.reshape(200, -1) != x.reshape(200, -1)).any(axis=1).mean() > 0.9


def test_translation_and_dropout_depend_on_the_example_alone():
    model, params = build()
    variables, batch = {"params": params}, batch_of(4)
    whole = LOSS(model, variables, batch, KEY, train=True)
    halves = [
        LOSS(model, variables, jax.tree.map(lambda x, half=half: x[half], batch), KEY, train=True)
        for half in (slice(0, 2), slice(2, 4))
    ]
    assert whole.loss_sum == pytest.approx(float(halves[0].loss_sum + halves[1].loss_sum), rel=1e-5)
    evaluated = LOSS(model, variables, batch, KEY, train=False)
    assert abs(float(evaluated.loss_sum - whole.loss_sum)) > 1e-3
    other = LOSS(model, variables, batch, jax.random.key(1), train=True)
    assert abs(float(other.loss_sum - whole.loss_sum)) > 1e-3


def test_one_batch_is_overfit():
    model, params = build(dataclasses.replace(SMALL, feature_dim=16, dropout=0, max_translation=0))
    state = create_state(model, {"params": params}, optax.adam(2e-2))
    batch = batch_of(6)
    for step in range(80):
        state, metrics = image_classifier.train_step(state, batch, jax.random.key(step))
    assert metrics["loss"] < 0.05
    assert metrics["accuracy"] == 1


def test_image_sizes_not_divisible_by_four_are_refused():
    image_classifier.check_divisible((28, 8, 1))
    with pytest.raises(UserError, match=r"images of 30x28 are not accepted; .* multiples of 4"):
        image_classifier.check_divisible((30, 28, 1))
