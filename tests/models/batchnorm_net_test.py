"""The normalized classifier, and batch norm in the training step."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.config import UserError
from jaxlabs.models import batchnorm_net
from jaxlabs.models.batchnorm_net import (
    NETWORKS,
    NORMS,
    NormNet,
    NormNetConfig,
)
from jaxlabs.training import gradient_check
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.state import count_parameters, create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

CLASSES, SHAPE = 3, (4, 4, 1)
SGD = optax.sgd(0.5)
LOSS = jax.jit(batchnorm_net.loss, static_argnums=0, static_argnames="train")


@functools.cache
def build(norm="batch", network="mlp", **sizes):
    sizes = {"num_layers": 2, "hidden_size": 5, "matmul_precision": "highest"} | sizes
    model = NormNet(NormNetConfig(network=network, **sizes), CLASSES, norm)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    # The head is initialized at zero, which blocks the gradient.
    head = np.random.default_rng(0).standard_normal(variables["params"]["head"]["kernel"].shape)
    variables["params"]["head"]["kernel"] = jnp.float32(head)
    return model, variables


def batch_of(count=8):
    random = np.random.default_rng(1)
    return {
        "images": random.integers(0, 256, (count, *SHAPE), dtype=np.uint8),
        "labels": random.integers(0, CLASSES, count, dtype=np.int32),
        "weights": np.ones(count, np.float32),
        "example_index": np.arange(count, dtype=np.int32),
    }


def state_of(model, variables, **options):
    return create_state(model, jax.tree.map(jnp.copy, variables), SGD, **options)


@pytest.mark.parametrize(("network", "parameters"), [("mlp", 67_850), ("cnn", 6_386)])
def test_number_of_parameters_is_that_of_the_table(network, parameters):
    model = NormNet(NormNetConfig(network=network), 10, "batch")
    x = jnp.zeros((2, 28, 28, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    assert count_parameters(shapes["params"]) == parameters


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("norm", NORMS)
def test_initial_logits_are_zero(network, norm):
    config = NormNetConfig(network=network, hidden_size=4)
    model = NormNet(config, 10, norm)
    x = np.random.default_rng(0).random((6, 8, 8, 1), np.float32)
    variables = model.init(jax.random.key(0), x)
    logits, _ = model.apply(variables, x, train=True, mutable=["batch_stats"])
    chex.assert_shape(logits, (6, 10))
    np.testing.assert_array_equal(logits, 0)
    assert ("batch_stats" in variables) == (norm == "batch")


def test_training_and_evaluation_equal_numpy():
    model, variables = build()
    params = jax.tree.map(lambda leaf: np.float64(leaf + 0.1), variables["params"])
    batch = batch_of()
    batch["weights"][5] = 0
    valid = batch["weights"] > 0

    def reference(statistics):
        x, kept = batch["images"].reshape(8, -1) / 255, {}
        for name in ("hidden_0", "hidden_1"):
            z = x @ params[name]["kernel"]
            mean, variance = statistics(z[valid])
            kept[name] = z[valid].mean(0), z[valid].var(0, ddof=1)
            y = (z - mean) / np.sqrt(variance + 1e-5)
            x = np.maximum(y * params[name]["norm"]["scale"] + params[name]["norm"]["bias"], 0)
        logits = x @ params["head"]["kernel"] + params["head"]["bias"]
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return -log_p[np.arange(8), batch["labels"]][valid].sum(), kept

    singles = jax.tree.map(np.float32, params)
    variables = {"params": singles, "batch_stats": variables["batch_stats"]}
    output = LOSS(model, variables, batch, jax.random.key(0), train=True)
    expected, kept = reference(lambda z: (z.mean(0), z.var(0)))
    assert output.weight_sum == 7
    np.testing.assert_allclose(output.loss_sum, expected, rtol=1e-5)
    for name, (mean, variance) in kept.items():
        got = output.new_batch_stats[name]["norm"]
        np.testing.assert_allclose(got["mean"], 0.1 * mean, atol=1e-6)
        np.testing.assert_allclose(got["variance"], 0.9 + 0.1 * variance, rtol=1e-5)
    output = LOSS(model, variables, batch, jax.random.key(0), train=False)
    np.testing.assert_allclose(output.loss_sum, reference(lambda z: (0, 1))[0], rtol=1e-5)
    assert output.new_batch_stats is None


@pytest.mark.parametrize(("network", "norm"), [("mlp", "batch"), ("cnn", "batch")])
def test_gradients_equal_finite_differences_in_float64(network, norm):
    model, variables = build(norm, network, num_layers=1, hidden_size=3)
    # Away from zero, where ReLU is not differentiable.
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.05), variables["params"])
    batch = batch_of(3) | {"images": np.random.default_rng(1).random((3, *SHAPE))}

    def total(params, batch):
        trained = {"params": params, "batch_stats": variables["batch_stats"]}
        return batchnorm_net.loss(model, trained, batch, jax.random.key(0), train=True).loss_sum

    report = gradient_check.check(total, params, batch, eps=1e-6)
    assert report.worst.relative_difference < 1e-6, report


@pytest.fixture(scope="module")
def padded_batch():
    batch = batch_of()
    batch["weights"][-2:] = 0  # the last of four devices has padding only
    return batch


@pytest.fixture(scope="module")
def one_device(padded_batch):
    model, variables = build()
    return batchnorm_net.train_step(state_of(model, variables), padded_batch, jax.random.key(0))


def assert_same(ours, theirs):
    for name in ("params", "batch_stats"):
        chex.assert_trees_all_close(
            getattr(ours[0], name), getattr(theirs[0], name), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_allclose(ours[1]["loss"], theirs[1]["loss"], rtol=1e-6)


def test_pmap_over_four_devices_equals_one(padded_batch, one_device):
    model, variables = build()
    step = functools.partial(batchnorm_net.train_step, axis_name="batch")
    mapped = jax.pmap(step, "batch", in_axes=(None, 0, None), devices=jax.devices()[:4])
    cut = {name: leaf.reshape(4, 2, *leaf.shape[1:]) for name, leaf in padded_batch.items()}
    states, metrics = mapped(state_of(model, variables), cut, jax.random.key(0))
    for device in range(4):
        one = jax.tree.map(lambda leaf, device=device: np.asarray(leaf)[device], (states, metrics))
        assert_same(one, one_device)


def test_mesh_of_four_devices_equals_one(padded_batch, one_device):
    model, variables = build()
    placement = data_parallel(jax.devices()[:4])
    state = placement.replicate(state_of(model, variables))
    batch = jax.device_put(padded_batch, placement.batch_sharding)
    assert_same(batchnorm_net.train_step(state, batch, jax.random.key(0)), one_device)


def test_micro_batches_are_normalized_separately(one_device):
    model, variables = build()
    batch = batch_of()
    state = state_of(model, variables, grad_accum_steps=2)
    outputs = [
        LOSS(model, variables, jax.tree.map(lambda leaf, i=i: leaf[i::2], batch), None, train=True)
        for i in range(2)
    ]
    state, metrics = batchnorm_net.train_step(state, batch, jax.random.key(0))
    np.testing.assert_allclose(
        metrics["loss"], sum(output.loss_sum for output in outputs) / 8, rtol=1e-6
    )
    means = jax.tree.map(
        lambda *leaves: sum(leaves) / 2, *(output.new_batch_stats for output in outputs)
    )
    chex.assert_trees_all_close(state.batch_stats, means, rtol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_nonfinite_step_keeps_parameters_and_statistics(norm):
    model, variables = build(norm)
    batch = batch_of() | {"images": np.full((8, *SHAPE), np.nan, np.float32)}
    state, metrics = batchnorm_net.train_step(state_of(model, variables), batch, jax.random.key(0))
    assert metrics["skipped"] == 1
    chex.assert_trees_all_equal(state.params, variables["params"])
    chex.assert_trees_all_equal(state.batch_stats, variables.get("batch_stats"))


def test_one_batch_is_overfit_also_in_evaluation():
    model, variables = build()
    state, batch = state_of(model, variables), batch_of()
    for step in range(200):
        state, metrics = batchnorm_net.train_step(state, batch, jax.random.key(step))
    assert metrics["loss"] < 0.05
    assert metrics["accuracy"] == 1
    output = LOSS(model, state.variables(state.params), batch, jax.random.key(0), train=False)
    assert output.loss_sum / 8 < 0.1
    assert output.metric_sums["accuracy"] == 8


def test_invalid_arguments_are_refused():
    model = NormNet(NormNetConfig(network="cnn"), 10, "batch")
    with pytest.raises(UserError, match=r"images of 6x8 are not accepted"):
        model.init(jax.random.key(0), jnp.zeros((1, 6, 8, 1)))
    with pytest.raises(UserError, match=r"init_gain: 0 is not accepted; a number above 0"):
        NormNetConfig(init_gain=0)
    with pytest.raises(UserError, match=r"network: 'rnn' is not accepted; one of mlp, cnn"):
        NormNetConfig(network="rnn")
