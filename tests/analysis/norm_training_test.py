"""Mapped trainings are those that the common step makes one by one."""

import jax
import numpy as np
import optax
import pytest

from jaxlabs import keys
from jaxlabs.analysis import activation_scale, batch_noise, norm_training
from jaxlabs.config import UserError
from jaxlabs.data import images
from jaxlabs.data.batches import Examples, batch_at
from jaxlabs.models import batchnorm_net
from jaxlabs.models.batchnorm_net import NormalizedNetwork, NormalizedNetworkConfig
from jaxlabs.training.state import create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

CONFIG = NormalizedNetworkConfig(num_layers=1, hidden_size=4, matmul_precision="highest")
STEPS, BATCH, CLASSES = 4, 16, 3
RATES = np.array([0.05, 0.5])


def pictures_of(count, seed):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    return Examples({"images": pixels, "labels": np.int32(pixels[:, 0, 0, 0] % CLASSES)})


@pytest.fixture(scope="module")
def pictures():
    return norm_training.Pictures(*(pictures_of(40, seed) for seed in range(3)), classes=CLASSES)


@pytest.fixture(scope="module")
def trained(pictures):
    return norm_training.study(
        CONFIG,
        pictures,
        rates=RATES,
        seeds=(0, 7),
        steps=STEPS,
        batch_size=BATCH,
        progress=lambda items, name: items,
    )


def one_by_one(pictures, norm, rate, seed, grad_accum_steps=1):
    """Returns the state after all steps of one training, and its losses."""
    model = NormalizedNetwork(CONFIG, CLASSES, norm)
    variables = model.init(keys.stream(seed, "init"), np.zeros((1, 4, 4, 1), np.float32))
    descent = optax.sgd(optax.linear_schedule(rate, 0, STEPS // 2, STEPS // 2))
    state = create_state(model, variables, descent, grad_accum_steps=grad_accum_steps)
    losses = []
    for step in range(STEPS):
        batch = batch_at(pictures.train, seed, step, BATCH)
        state, metrics = batchnorm_net.train_step(state, batch, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    return state, losses


@pytest.mark.parametrize(("norm", "row"), [("none", 0), ("batch", 1)])
def test_a_mapped_training_is_the_one_that_the_common_step_makes(pictures, trained, norm, row):
    state, losses = one_by_one(pictures, norm, 0.5, 7)
    arrays, _ = trained
    np.testing.assert_allclose(arrays["step_loss"][row, 1, 1], losses, rtol=1e-5)
    test = pictures.test.arrays
    batch = test | {"weights": np.ones(40, np.float32)}
    parts = batchnorm_net.loss(state.params, batch, None, state, False)
    np.testing.assert_allclose(arrays["test_loss"][row, 1, 1], parts.total / 40, rtol=1e-5)
    right = parts.sums["accuracy"] / 40
    np.testing.assert_allclose(arrays["test_accuracy"][row, 1, 1], right, rtol=1e-6)


def test_groups_are_trained_at_the_batch_norms_best_rate(pictures, trained):
    arrays, state = trained
    np.testing.assert_array_equal(arrays["groups"], [4, 16])
    best = arrays["best_rate"][1]
    assert best == arrays["held_out_accuracy"][1].mean(axis=-1).argmax()
    np.testing.assert_array_equal(arrays["group_test_loss"][-1], arrays["test_loss"][1, best])
    slow, _ = one_by_one(pictures, "batch", float(RATES[best]), 0, grad_accum_steps=4)
    batch = pictures.train.arrays | {"weights": np.ones(40, np.float32)}
    parts = batchnorm_net.loss(slow.params, batch, None, slow, False)
    np.testing.assert_allclose(arrays["group_train_loss"][0, 0], parts.total / 40, rtol=1e-4)
    parts = batchnorm_net.loss(state.params, batch, None, state, False)
    np.testing.assert_allclose(arrays["train_loss"][1, best, 0], parts.total / 40, rtol=1e-5)


def test_all_kinds_start_from_a_guess_and_figures_are_named(trained):
    arrays, _ = trained
    np.testing.assert_allclose(arrays["step_loss"][..., 0], np.log(CLASSES), rtol=1e-5)
    named = norm_training.figures(arrays)
    assert named["best_rate_batch"] == pytest.approx(RATES[arrays["best_rate"][1]])
    means = arrays["test_accuracy"].mean(axis=-1)
    assert named["test_accuracy_layer"] == pytest.approx(means[2, arrays["best_rate"][2]])


def test_padding_of_an_evaluation_does_not_count(pictures, trained, monkeypatch):
    _, state = trained
    states = jax.tree.map(lambda leaf: leaf[None, None], state)
    whole = norm_training.evaluate.__wrapped__(states, pictures.test)
    monkeypatch.setattr(norm_training, "EVALUATION_BATCH", 17)
    cut = norm_training.evaluate.__wrapped__(states, pictures.test)
    for ours, theirs in zip(cut, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_statistics_of_mini_batches_are_off_by_the_theory_of_finite_sets(trained):
    _, state = trained
    train, test = pictures_of(2000, 5), pictures_of(200, 6)
    found = batch_noise.study(state, train, test, batch_size=16, seed=0)
    np.testing.assert_array_equal(found["sizes"], [4, 16, 64])
    theory = np.sqrt(1 / found["sizes"] - 1 / 2000)
    np.testing.assert_allclose(found["mean_error"][0], theory, rtol=0.2)
    pixels = train.arrays["images"].reshape(2000, -1) / 255
    z = pixels @ np.float64(state.params["hidden_0"]["kernel"])
    batches = z[np.random.default_rng(0).permutation(2000)].reshape(500, 4, -1)
    error = np.sqrt(np.mean((batches.var(axis=1, ddof=1) / z.var(axis=0, ddof=1) - 1) ** 2))
    np.testing.assert_allclose(found["variance_error"][0, 0], error, rtol=1e-4)
    running = state.batch_stats["hidden_0"]["norm"]
    error = np.sqrt(np.mean(((running["mean"] - z.mean(0)) / z.std(0)) ** 2))
    np.testing.assert_allclose(found["running_mean_error"], error, rtol=1e-3)
    error = np.sqrt(np.mean((running["variance"] / z.var(0) - 1) ** 2))
    np.testing.assert_allclose(found["running_variance_error"], error, rtol=1e-2)
    assert batch_noise.figures(found)["mean_error_at_16"] == found["mean_error"][0, 1]


def test_accuracy_by_a_batchs_statistics_is_that_of_its_batches(trained):
    _, state = trained
    test = pictures_of(16, 6)
    found = batch_noise.study(state, pictures_of(16, 5), test, batch_size=4, seed=0)
    np.testing.assert_array_equal(found["sizes"], [4])
    random = np.random.default_rng(0)
    random.permutation(16)  # of the pictures to train on
    order, variables, right = random.permutation(16), state.variables(state.params), 0
    for rows in order.reshape(4, 4):
        x = test.arrays["images"][rows] / np.float32(255)
        logits, _ = state.model.apply(variables, x, train=True, mutable=["batch_stats"])
        right += (np.argmax(logits, axis=-1) == test.arrays["labels"][rows]).sum()
    assert found["accuracy"][0] == pytest.approx(right / 16)
    logits = state.model.apply(variables, test.arrays["images"] / np.float32(255))
    expected = np.mean(np.argmax(logits, axis=-1) == test.arrays["labels"])
    assert found["running_accuracy"] == pytest.approx(expected)


def test_activations_grow_by_the_gain_unless_they_are_normalized():
    config = NormalizedNetworkConfig(hidden_size=256)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 1), dtype=np.uint8)
    found = activation_scale.study(config, pixels, 6, 0)
    assert found["rms"].shape == (3, 3, 6)
    none, batch, layer = found["rms"]
    growth = none[:, 1:] / none[:, :-1]
    np.testing.assert_allclose(growth / found["gains"][:, None], 1, atol=0.25)
    np.testing.assert_allclose(batch, np.sqrt(0.5), rtol=0.1)
    np.testing.assert_allclose(layer, np.sqrt(0.5), rtol=0.1)
    drift = activation_scale.figures(found)["activation_drift_none_gain_2"]
    assert drift == pytest.approx(none[2, -1] / none[2, 0])


def test_sets_of_pictures_do_not_overlap_and_missing_ones_are_told(monkeypatch):
    monkeypatch.setattr(images, "RENDERED_COUNTS", {"train": 100, "test": 20})
    pictures, facts, _ = norm_training.load("rendered_digits", None, 80, 20)
    assert facts["name"] == "rendered_digits"
    assert (pictures.train.count, pictures.held_out.count, pictures.test.count) == (80, 20, 20)
    seen = {image.tobytes() for image in pictures.train.arrays["images"]}
    for other in (pictures.held_out, pictures.test):
        assert not seen & {image.tobytes() for image in other.arrays["images"]}
    with pytest.raises(UserError, match=r"--train_images: 101 pictures are not there"):
        norm_training.load("rendered_digits", None, 81, 20)
    with pytest.raises(UserError, match=r"--num_eval_examples: 21 .* has 20 of the kind"):
        norm_training.load("rendered_digits", None, 50, 21)
