"""The sparse autoencoder against numpy and finite differences, and its step on 4 devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from jaxlabs.config import UserError
from jaxlabs.models.sparse_autoencoder import (
    SparseAutoencoder,
    SparseAutoencoderConfig,
    loss,
    train_step,
)
from jaxlabs.training import gradient_check
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.state import count_parameters, create_state

KEY_SEED = 7


def make(count=16, tx=None, **settings):
    """Returns a state and a batch of patches in [0.1, 0.9]."""
    config = SparseAutoencoderConfig(**settings)
    model = SparseAutoencoder(config)
    patches = np.random.default_rng(1).uniform(0.1, 0.9, (count, config.visible))
    batch = {"patches": patches.astype(np.float32), "weights": np.ones(count, np.float32)}
    variables = model.init(jax.random.key(KEY_SEED), jnp.zeros((1, config.visible)))
    return create_state(model, variables, tx or optax.sgd(0.1)), batch


def by_numpy(params, patches, config):
    """The three terms of the cost in float64."""
    w1, b1, b3 = (
        np.asarray(params[name], np.float64)
        for name in ("encoder_kernel", "encoder_bias", "decoder_bias")
    )
    w2 = w1.T if config.tied else np.asarray(params["decoder_kernel"], np.float64)
    a2 = scipy.special.expit(patches @ w1 + b1)
    if config.k_sparse is not None:
        smallest = np.sort(a2, axis=1)[:, -config.k_sparse][:, None]
        a2 = np.where(a2 >= smallest, a2, 0)
    a3 = scipy.special.expit(a2 @ w2 + b3)
    rho, means = config.sparsity_rho, a2.mean(axis=0)
    kl = scipy.special.rel_entr(rho, means) + scipy.special.rel_entr(1 - rho, 1 - means)
    kernels = [w1] if config.tied else [w1, w2]
    return {
        "reconstruction": 0.5 * np.mean(np.sum((a3 - patches) ** 2, axis=1)),
        "weight_term": config.l2_penalty / 2 * sum(np.sum(w**2) for w in kernels),
        "sparsity_term": config.sparsity_weight * kl.sum() if config.sparsity_weight else 0.0,
    }


def cost(state, batch):
    evaluate = jax.jit(functools.partial(loss, state.model, train=True))
    output = evaluate({"params": state.params}, batch, None)
    return {
        name: float(value / output.weight_sum) for name, value in output.metric_sums.items()
    } | {"loss": float(output.loss_sum / output.weight_sum)}


def test_reference_has_3289_parameters():
    state, _ = make()
    assert count_parameters(state.params) == 2 * 64 * 25 + 25 + 64 == 3289


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tied": True},
        {"k_sparse": 3, "hidden_size": 9, "sparsity_weight": 0.0},
        {"patch_size": 1, "hidden_size": 1},
    ],
)
@pytest.mark.parametrize("count", [1, 16])
def test_every_term_of_the_cost_equals_numpy(settings, count):
    state, batch = make(count, **settings)
    expected = by_numpy(state.params, batch["patches"].astype(np.float64), state.model.config)
    found = cost(state, batch)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, err_msg=name)
    np.testing.assert_allclose(found["loss"], sum(expected.values()), rtol=2e-4)


def test_padding_is_ignored():
    state, batch = make(8)
    padded = {name: np.concatenate([rows, rows[:3] * 0]) for name, rows in batch.items()}
    padded["patches"][8:] = 0.77
    assert cost(state, padded) == pytest.approx(cost(state, batch), rel=1e-5)


def test_gradient_equals_finite_differences_below_1e_9():
    """10 samples, 5 hidden units, eps 1e-4."""
    state, batch = make(10, hidden_size=5)
    batch = {name: rows.astype(np.float64) for name, rows in batch.items()}

    def mean_cost(params, batch):
        output = loss(state.model, {"params": params}, batch, None, train=True)
        return output.loss_sum / output.weight_sum

    report = gradient_check.check(mean_cost, state.params, batch, eps=1e-4)
    assert report.all_params.relative_difference < 1e-9, str(report)
    assert report.worst.relative_difference < 1e-8, str(report)


def test_initial_cost_is_nearly_all_sparsity():
    """The mean activation is 1/2: 25 units times beta 3 times KL(0.01 || 1/2), 0.637 nats."""
    state, batch = make()

    def terms(key):
        params = state.model.init(key, jnp.zeros((1, 64)))["params"]
        output = loss(state.model, {"params": params}, batch, None, train=True)
        return output.metric_sums[
            "sparsity_term"
        ] / output.weight_sum, output.loss_sum / output.weight_sum

    sparsity, total = jax.jit(jax.vmap(terms))(jax.random.split(jax.random.key(0), 40))
    half = 3 * 25 * (0.01 * np.log(0.02) + 0.99 * np.log(1.98))
    np.testing.assert_allclose(sparsity.mean(), half, rtol=0.12)
    assert sparsity.mean() > 0.95 * total.mean()


@pytest.mark.parametrize("route", ["mesh", "pmap"])
def test_a_step_over_four_devices_equals_one(route):
    one_state, batch = make()
    one, metrics = train_step(one_state, batch, jax.random.key(0))
    four, _ = make()
    if route == "mesh":
        placement = data_parallel()
        step = jax.jit(lambda state, batch: train_step(state, placement.shard_batch(batch), None))
        four, many = step(placement.replicate(four), batch)
    else:
        four = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), four)
        split = jax.tree.map(lambda leaf: leaf.reshape(4, -1, *leaf.shape[1:]), batch)
        step = jax.pmap(
            lambda state, batch: train_step(state, batch, None, axis_name="batch"),
            axis_name="batch",
        )
        four, many = step(four, split)
        four, many = jax.tree.map(lambda leaf: leaf[0], (four, many))
    chex.assert_trees_all_close(one.params, four.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], many["loss"], rtol=1e-6)


def test_one_batch_is_overfit():
    state, batch = make(4, tx=optax.adam(0.03), hidden_size=8, sparsity_weight=0.0, l2_penalty=0.0)
    first = cost(state, batch)["reconstruction"]
    for _ in range(400):
        state, _ = train_step(state, batch, None)
    assert cost(state, batch)["reconstruction"] < 0.01 * first


def test_k_sparse_above_hidden_size_is_refused():
    with pytest.raises(UserError, match=r"k_sparse: 26 is not accepted; at most `hidden_size` 25"):
        SparseAutoencoderConfig(k_sparse=26)


def test_gradient_equals_the_hand_written_numpy_one():
    from jaxlabs.benchmark.peers import numpy_sparse_autoencoder as reference

    state, batch = make(12, hidden_size=6)
    params = {name: np.asarray(leaf, np.float64) for name, leaf in state.params.items()}
    theta = np.concatenate(
        [
            params["encoder_kernel"].T.ravel(),
            params["decoder_kernel"].T.ravel(),
            params["encoder_bias"],
            params["decoder_bias"],
        ]
    )
    patches = batch["patches"].astype(np.float64)
    value, gradient = reference.cost_and_gradient(theta, patches, state.model.config)

    def mean_cost(params):
        output = loss(state.model, {"params": params}, batch, None, train=True)
        return output.loss_sum / output.weight_sum

    ours, grads = jax.jit(jax.value_and_grad(mean_cost))(state.params)
    w1, w2, b1, b2 = reference.unpack(gradient, state.model.config)
    np.testing.assert_allclose(ours, value, rtol=1e-5)
    expected = {"encoder_kernel": w1.T, "decoder_kernel": w2.T}
    expected |= {"encoder_bias": b1, "decoder_bias": b2}
    chex.assert_trees_all_close(grads, expected, rtol=1e-4, atol=1e-6)
