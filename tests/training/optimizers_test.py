"""Tests of jaxlabs/training/optimizers.py against closed forms."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from jaxlabs.training.optimizer_config import OptimizerConfig
from jaxlabs.training.optimizers import build_optimizer, except_frozen, needs_value_fn
from jaxlabs.training.param_labels import HEAD, HIDDEN, VECTOR, label_params
from jaxlabs.training.schedules import build_schedule

PARAMS = {
    "embedding": {"embedding": np.linspace(-1, 1, 35, dtype=np.float32).reshape(7, 5)},
    "block_0": {
        "kernel": np.linspace(-2, 1, 20, dtype=np.float32).reshape(5, 4),
        "bias": np.ones(4, np.float32),
        "norm": {"scale": np.ones(5, np.float32)},
        "convolution": {"kernel": np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 1, 5)},
    },
    "head": {"kernel": np.linspace(-1, 2, 35, dtype=np.float32).reshape(5, 7)},
}
CONSTANT = optax.constant_schedule(1.0)


def gradients(seed=0):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), PARAMS)


def zeros():
    return jax.tree.map(np.zeros_like, PARAMS)


def test_task_may_label_its_parameters_itself():
    """Muon takes what the labels say, whatever the names."""
    kernels = {name: np.ones((4, 4), np.float32) for name in ("a", "b")}
    config = OptimizerConfig(optimizer="muon", muon_learning_rate=0.02, weight_decay=0.0)
    patterns = ((r"^a$", HIDDEN), (r"^b$", HEAD))
    optimizer = build_optimizer(config, CONSTANT, lambda params: label_params(params, patterns))
    gradient = {name: np.diag(np.float32([1, 2, 3, 4])) for name in kernels}
    updates, _ = optimizer.update(gradient, optimizer.init(kernels), kernels)
    assert np.abs(np.diagonal(updates["a"])).min() > 0.6 * 0.02
    np.testing.assert_allclose(np.diagonal(updates["b"]), updates["b"][0, 0], rtol=1e-3)
    assert 0.9e-3 < np.abs(updates["b"]).max() < 2e-3  # a step of Adam


def test_adamw_equals_its_paper():
    config = OptimizerConfig(learning_rate=0.1, adam_b1=0.8, adam_b2=0.9, weight_decay=0.3)
    optimizer = build_optimizer(config, build_schedule(config, 10))
    params, state = PARAMS, optimizer.init(PARAMS)
    ours = {"kernel": PARAMS["head"]["kernel"], "bias": PARAMS["block_0"]["bias"]}
    first = second = {"kernel": 0.0, "bias": 0.0}
    for step in range(1, 4):
        gradient = gradients(step)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        flat = {"kernel": gradient["head"]["kernel"], "bias": gradient["block_0"]["bias"]}
        first = {name: 0.8 * first[name] + 0.2 * flat[name] for name in flat}
        second = {name: 0.9 * second[name] + 0.1 * flat[name] ** 2 for name in flat}
        for name, decay in (("kernel", 0.3), ("bias", 0.0)):
            direction = first[name] / (1 - 0.8**step)
            direction = direction / (np.sqrt(second[name] / (1 - 0.9**step)) + 1e-8)
            ours[name] = ours[name] - 0.1 * (direction + decay * ours[name])
    np.testing.assert_allclose(params["head"]["kernel"], ours["kernel"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(params["block_0"]["bias"], ours["bias"], rtol=1e-5, atol=1e-6)


def test_schedule_scales_every_update():
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(config, lambda step: 1.0 / (step + 1))
    state = optimizer.init(PARAMS)
    for step in range(3):  # without a gradient only the decay remains, rate * decay * matrix
        updates, state = optimizer.update(zeros(), state, PARAMS)
        expected = -0.1 / (step + 1) * 0.5 * PARAMS["head"]["kernel"]
        np.testing.assert_allclose(updates["head"]["kernel"], expected, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weight_decay_is_that_of_the_help_text(optimizer):
    config = OptimizerConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    tx = build_optimizer(config, CONSTANT)
    updates, _ = tx.update(zeros(), tx.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["block_0"]["bias"], 0)
    np.testing.assert_array_equal(updates["block_0"]["norm"]["scale"], 0)
    np.testing.assert_array_equal(updates["block_0"]["convolution"]["kernel"], 0)
    rate = {"adamw": config.learning_rate, "muon": config.muon_learning_rate}[optimizer]
    expected = -rate * 0.5 * PARAMS["block_0"]["kernel"]
    np.testing.assert_allclose(updates["block_0"]["kernel"], expected, rtol=1e-6)
    decay = {"adamw": -0.1 * 0.5, "muon": 0.0}[optimizer]
    for module, name in (("embedding", "embedding"), ("head", "kernel")):
        expected = decay * PARAMS[module][name]
        np.testing.assert_allclose(updates[module][name], expected, rtol=1e-6)


DECAYED = jax.tree.map(lambda label: label != VECTOR, label_params(PARAMS))
OPTAX = {
    "sgd": ({}, optax.sgd(0.1)),
    "momentum": ({"momentum": 0.8}, optax.sgd(0.1, momentum=0.8)),
    "nesterov": (
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.3},
        optax.chain(optax.add_decayed_weights(0.3, DECAYED), optax.sgd(0.1, 0.8, nesterov=True)),
    ),
    "adam": ({"adam_b1": 0.7, "adam_b2": 0.9, "weight_decay": 0.5}, optax.adam(0.1, 0.7, 0.9)),
    "lion": (
        {"lion_b1": 0.7, "lion_b2": 0.8, "weight_decay": 0.3},
        optax.lion(0.1, b1=0.7, b2=0.8, weight_decay=0.3, mask=DECAYED),
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_updates_are_those_of_plain_optax(name):
    settings, plain = OPTAX[name]
    optimizer = "sgd" if name in ("momentum", "nesterov") else name
    settings = {"optimizer": optimizer, "learning_rate": 0.1, "weight_decay": 0.0} | settings
    tx = build_optimizer(OptimizerConfig(**settings), CONSTANT)
    params, (state, other) = PARAMS, (tx.init(PARAMS), plain.init(PARAMS))
    for step in range(3):
        updates, state = tx.update(gradients(step), state, params)
        expected, other = plain.update(gradients(step), other, params)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), updates, expected)
        params = optax.apply_updates(params, updates)


def test_frozen_parameters_have_no_optimizer_state_and_no_share_in_the_clipping():
    config = OptimizerConfig(optimizer="sgd", learning_rate=1.0, weight_decay=0.0, momentum=0.9)
    clipped_sgd = optax.chain(optax.clip_by_global_norm(1e-3), build_optimizer(config, CONSTANT))
    tx = except_frozen(clipped_sgd, r"^(embedding|block_0)\.")
    state = tx.init(PARAMS)
    assert [leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim] == [(5, 7)]
    huge = jax.tree.map(lambda leaf: 1e6 * leaf, gradients())
    updates, _ = tx.update(huge, state, PARAMS)
    np.testing.assert_allclose(np.linalg.norm(updates["head"]["kernel"]), 1e-3, rtol=1e-5)
    frozen = jax.tree.leaves([updates["embedding"], updates["block_0"]])
    assert not any(leaf.any() for leaf in frozen)


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (optax.adamw(0.1), False),
        (optax.polyak_sgd(), False),
        (optax.contrib.reduce_on_plateau(), False),
        (optax.lbfgs(), True),
        (optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)), True),
    ],
    ids=["adamw", "polyak", "plateau", "lbfgs", "backtracking"],
)
def test_optimizer_that_evaluates_the_loss_is_found_by_tracing(tx, expected):
    assert needs_value_fn(tx, PARAMS) == expected


@pytest.mark.parametrize(("grad_clip_norm", "expected"), [(0.5, 0.5), (1e6, None), (None, None)])
def test_gradients_are_clipped_by_their_global_norm(grad_clip_norm, expected):
    config = OptimizerConfig(grad_clip_norm=grad_clip_norm, adam_b1=0.0)
    optimizer = build_optimizer(config, CONSTANT)
    gradient = gradients()
    _, state = optimizer.update(gradient, optimizer.init(PARAMS), PARAMS)
    moment = optax.tree.get(state, "mu")  # with b1 = 0 the clipped gradient
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    factor = 1 if expected is None else expected / norm
    for leaf, given in zip(jax.tree.leaves(moment), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(leaf, factor * given, rtol=1e-5)


def test_muon_orthogonalizes_block_matrices_and_leaves_the_rest_to_adam():
    config = OptimizerConfig(
        optimizer="muon", learning_rate=1e-3, muon_learning_rate=0.02, weight_decay=0.0
    )
    optimizer = build_optimizer(config, CONSTANT)
    updates, _ = optimizer.update(gradients(), optimizer.init(PARAMS), PARAMS)
    singular = np.linalg.svd(updates["block_0"]["kernel"], compute_uv=False) / 0.02
    assert 0.6 < singular.min() <= singular.max() < 1.3
    for leaf in (
        updates["embedding"]["embedding"],
        updates["head"]["kernel"],
        updates["block_0"]["bias"],
        updates["block_0"]["norm"]["scale"],
        updates["block_0"]["convolution"]["kernel"],
    ):  # the first step of Adam has equal magnitude everywhere
        np.testing.assert_allclose(np.abs(leaf), np.abs(leaf).ravel()[0], rtol=1e-3)
        assert 0.9e-3 < np.abs(leaf).max() < 2e-3


def test_muon_reshapes_a_kernel_to_a_matrix_of_patches():
    config = OptimizerConfig(optimizer="muon", muon_learning_rate=0.02, weight_decay=0.0)
    optimizer = build_optimizer(config, CONSTANT)
    names = ("block", "time_output", "input", "output")
    kernels = {name: {"kernel": np.ones((3, 3, 2, 6), np.float32)} for name in names}
    random = np.random.default_rng(0)
    gradient = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), kernels)
    updates, _ = optimizer.update(gradient, optimizer.init(kernels), kernels)
    spreads = {}
    for name in kernels:
        values = np.linalg.svd(updates[name]["kernel"].reshape(18, 6), compute_uv=False)
        spreads[name] = values.max() / values.min()
    taken = {name for name, spread in spreads.items() if spread < 1.8}
    assert taken == {"block", "time_output"}


def jordans_muon(gradients, rate, weights, decay=0.95):
    """Returns the updates of Jordan's Muon in float64 for one matrix `[in, out]`.

    The momentum is weighted by `weights [steps]`; in the original by 1.
    """
    momentum, updates = 0, []
    for gradient, weight in zip(gradients, weights, strict=True):
        momentum = decay * momentum + (1 - decay) * gradient
        x = decay * weight * momentum + (1 - decay) * gradient
        x = x / np.linalg.norm(x)
        for _ in range(5):
            square = x @ x.T
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
        updates.append(-rate * max(1, x.shape[1] / x.shape[0]) ** 0.5 * x)
    return np.stack(updates)


def test_muon_has_bias_correction_unlike_the_original():
    config = OptimizerConfig(optimizer="muon", muon_learning_rate=0.02, weight_decay=0.0)
    optimizer = build_optimizer(config, CONSTANT)
    params = {"block": {"kernel": np.zeros((8, 16), np.float32)}}
    random = np.random.default_rng(0).normal(size=(60, 8, 16))
    state, ours = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for gradient in random:
        updates, state = update({"block": {"kernel": np.float32(gradient)}}, state, params)
        ours.append(updates["block"]["kernel"])
    step = np.arange(1, 61)
    factor = (1 - 0.95**step) / (1 - 0.95 ** (step + 1))
    np.testing.assert_allclose(ours, jordans_muon(random, 0.02, factor), atol=1e-6)

    difference = np.stack(ours) - jordans_muon(random, 0.02, np.ones(60))
    largest = np.abs(difference).max(axis=(1, 2))
    assert largest[0] < 1e-6
    assert 1e-3 < largest[1] < 1e-2
    assert 5e-6 < largest[59] < 5e-5
    (field,) = [field for field in dataclasses.fields(config) if field.name == "optimizer"]
    assert "with bias correction" in field.metadata["help"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lion", "muon"])
def test_optimizers_minimize_a_quadratic(optimizer):
    rates = {"learning_rate": 0.05, "muon_learning_rate": 0.05}
    config = OptimizerConfig(optimizer=optimizer, weight_decay=0.0, **rates)
    tx = build_optimizer(config, CONSTANT)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(params, state, params)  # the gradient of half the squared norm
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(60):
        params, state = step(params, state)
    assert optax.tree.norm(params) < 0.3 * optax.tree.norm(PARAMS)
