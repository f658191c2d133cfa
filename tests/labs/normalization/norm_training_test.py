"""Mapped runs equal single runs of `train_step`."""

import jax
import numpy as np
import optax
import pytest

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.data import images
from jaxlabs.data.batches import Examples, batch_at
from jaxlabs.labs.normalization import activation_scale, batch_noise, norm_training
from jaxlabs.models import batchnorm_net
from jaxlabs.models.batchnorm_net import NormNet, NormNetConfig
from jaxlabs.training.state import create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

CONFIG = NormNetConfig(num_layers=1, hidden_size=4, matmul_precision="highest")
STEPS, BATCH, CLASSES = 4, 16, 3
RATES = np.array([0.05, 0.5])


def random_examples(count, seed):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    return Examples({"images": pixels, "labels": np.int32(pixels[:, 0, 0, 0] % CLASSES)})


@pytest.fixture(scope="module")
def splits():
    return norm_training.ImageSplits(
        *(random_examples(40, seed) for seed in range(3)), num_classes=CLASSES
    )


@pytest.fixture(scope="module")
def trained(splits):
    return norm_training.study(
        CONFIG,
        splits,
        rates=RATES,
        seeds=(0, 7),
        steps=STEPS,
        batch_size=BATCH,
    )


def train_single(splits, norm, rate, seed, grad_accum_steps=1):
    """Returns the final state of one run, and its losses."""
    model = NormNet(CONFIG, CLASSES, norm)
    variables = model.init(keys.stream(seed, "init"), np.zeros((1, 4, 4, 1), np.float32))
    descent = optax.sgd(optax.linear_schedule(rate, 0, STEPS // 2, STEPS // 2))
    state = create_state(model, variables, descent, grad_accum_steps=grad_accum_steps)
    losses = []
    for step in range(STEPS):
        batch = batch_at(splits.train, seed, step, BATCH)
        state, metrics = batchnorm_net.train_step(state, batch, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    return state, losses


@pytest.mark.parametrize(("norm", "row"), [("none", 0), ("batch", 1)])
def test_mapped_run_equals_single_run(splits, trained, norm, row):
    state, losses = train_single(splits, norm, 0.5, 7)
    arrays, _ = trained
    np.testing.assert_allclose(arrays["step_loss"][row, 1, 1], losses, rtol=1e-5)
    test = splits.test.arrays
    batch = test | {"weights": np.ones(40, np.float32)}
    output = batchnorm_net.loss(
        state.model, state.variables(state.params), batch, None, train=False
    )
    np.testing.assert_allclose(arrays["test_loss"][row, 1, 1], output.loss_sum / 40, rtol=1e-5)
    correct = output.metric_sums["accuracy"] / 40
    np.testing.assert_allclose(arrays["test_accuracy"][row, 1, 1], correct, rtol=1e-6)


def test_groups_use_best_rate_of_batch_norm(splits, trained):
    arrays, state = trained
    np.testing.assert_array_equal(arrays["groups"], [4, 16])
    best = arrays["best_rate"][1]
    assert best == arrays["held_out_accuracy"][1].mean(axis=-1).argmax()
    np.testing.assert_array_equal(arrays["group_test_loss"][-1], arrays["test_loss"][1, best])
    grouped, _ = train_single(splits, "batch", float(RATES[best]), 0, grad_accum_steps=4)
    batch = splits.train.arrays | {"weights": np.ones(40, np.float32)}
    output = batchnorm_net.loss(
        grouped.model, grouped.variables(grouped.params), batch, None, train=False
    )
    np.testing.assert_allclose(arrays["group_train_loss"][0, 0], output.loss_sum / 40, rtol=1e-4)
    output = batchnorm_net.loss(
        state.model, state.variables(state.params), batch, None, train=False
    )
    np.testing.assert_allclose(arrays["train_loss"][1, best, 0], output.loss_sum / 40, rtol=1e-5)


def test_initial_loss_is_log_of_classes_and_metrics_are_named(trained):
    arrays, _ = trained
    np.testing.assert_allclose(arrays["step_loss"][..., 0], np.log(CLASSES), rtol=1e-5)
    metrics = norm_training.metrics(arrays)
    assert metrics["best_rate_batch"] == pytest.approx(RATES[arrays["best_rate"][1]])
    means = arrays["test_accuracy"].mean(axis=-1)
    assert metrics["test_accuracy_layer"] == pytest.approx(means[2, arrays["best_rate"][2]])


def test_padding_of_eval_batch_does_not_count(splits, trained, monkeypatch):
    _, state = trained
    states = jax.tree.map(lambda leaf: leaf[None, None], state)
    expected = norm_training.evaluate.__wrapped__(states, splits.test)
    monkeypatch.setattr(norm_training, "EVAL_BATCH", 17)
    padded = norm_training.evaluate.__wrapped__(states, splits.test)
    for ours, theirs in zip(padded, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_errors_of_batch_statistics_equal_finite_population_theory(trained):
    _, state = trained
    train, test = random_examples(2000, 5), random_examples(200, 6)
    result = batch_noise.study(state, train, test, batch_size=16, seed=0)
    np.testing.assert_array_equal(result["sizes"], [4, 16, 64])
    theory = np.sqrt(1 / result["sizes"] - 1 / 2000)
    np.testing.assert_allclose(result["mean_error"][0], theory, rtol=0.2)
    pixels = train.arrays["images"].reshape(2000, -1) / 255
    z = pixels @ np.float64(state.params["hidden_0"]["kernel"])
    batches = z[np.random.default_rng(0).permutation(2000)].reshape(500, 4, -1)
    error = np.sqrt(np.mean((batches.var(axis=1, ddof=1) / z.var(axis=0, ddof=1) - 1) ** 2))
    np.testing.assert_allclose(result["variance_error"][0, 0], error, rtol=1e-4)
    running = state.batch_stats["hidden_0"]["norm"]
    error = np.sqrt(np.mean(((running["mean"] - z.mean(0)) / z.std(0)) ** 2))
    np.testing.assert_allclose(result["running_mean_error"], error, rtol=1e-3)
    error = np.sqrt(np.mean((running["variance"] / z.var(0) - 1) ** 2))
    np.testing.assert_allclose(result["running_variance_error"], error, rtol=1e-2)
    assert batch_noise.metrics(result)["mean_error_at_16"] == result["mean_error"][0, 1]


def test_accuracy_with_batch_statistics_equals_loop_over_batches(trained):
    _, state = trained
    test = random_examples(16, 6)
    result = batch_noise.study(state, random_examples(16, 5), test, batch_size=4, seed=0)
    np.testing.assert_array_equal(result["sizes"], [4])
    random = np.random.default_rng(0)
    random.permutation(16)  # of the training images
    order, variables, correct = random.permutation(16), state.variables(state.params), 0
    for rows in order.reshape(4, 4):
        x = test.arrays["images"][rows] / np.float32(255)
        logits, _ = state.model.apply(variables, x, train=True, mutable=["batch_stats"])
        correct += (np.argmax(logits, axis=-1) == test.arrays["labels"][rows]).sum()
    assert result["accuracy"][0] == pytest.approx(correct / 16)
    logits = state.model.apply(variables, test.arrays["images"] / np.float32(255))
    expected = np.mean(np.argmax(logits, axis=-1) == test.arrays["labels"])
    assert result["running_accuracy"] == pytest.approx(expected)


def test_activations_grow_by_gain_unless_normalized():
    config = NormNetConfig(hidden_size=256)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 1), dtype=np.uint8)
    result = activation_scale.study(config, pixels, 6, 0)
    assert result["rms"].shape == (3, 3, 6)
    none, batch, layer = result["rms"]
    growth = none[:, 1:] / none[:, :-1]
    np.testing.assert_allclose(growth / result["gains"][:, None], 1, atol=0.25)
    np.testing.assert_allclose(batch, np.sqrt(0.5), rtol=0.1)
    np.testing.assert_allclose(layer, np.sqrt(0.5), rtol=0.1)
    drift = activation_scale.metrics(result)["activation_drift_none_gain_2"]
    assert drift == pytest.approx(none[2, -1] / none[2, 0])


def test_splits_do_not_overlap_and_excess_counts_are_refused(monkeypatch):
    monkeypatch.setattr(images, "RENDERED_COUNTS", {"train": 100, "test": 20})
    splits, facts, _ = norm_training.load("rendered_digits", None, 80, 20)
    assert facts["name"] == "rendered_digits"
    assert (splits.train.count, splits.held_out.count, splits.test.count) == (80, 20, 20)
    train_bytes = {image.tobytes() for image in splits.train.arrays["images"]}
    for other in (splits.held_out, splits.test):
        assert not train_bytes & {image.tobytes() for image in other.arrays["images"]}
    with pytest.raises(UserError, match=r"train_images: 101 training images, held-out"):
        norm_training.load("rendered_digits", None, 81, 20)
    with pytest.raises(
        UserError, match=r"num_eval_examples: 21 .*more than the 20 of rendered_digits"
    ):
        norm_training.load("rendered_digits", None, 50, 21)
