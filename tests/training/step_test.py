"""Tests of jaxlabs/training/step.py: sums over any split of the batch, and one division."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.training.optimizer_config import OptimizerConfig
from jaxlabs.training.optimizers import build_optimizer, except_frozen
from jaxlabs.training.state import create_state, leaf_names
from jaxlabs.training.step import build_train_step, nonfinite_names

# Gradient descent with rate 1: the change of the parameters is the gradient.
DESCENT = optax.sgd(1.0)


def adam(**settings):
    return build_optimizer(OptimizerConfig(**settings), optax.constant_schedule(1.0))


def copied(tree):
    """Returns numpy copies, which survive donation."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def assert_same_step(ours, theirs):
    """Compares loss and parameters to 1e-6 of their magnitude."""
    (state, metrics), (other_state, other_metrics) = ours, theirs
    np.testing.assert_allclose(metrics["loss"], other_metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(metrics["weight"], other_metrics["weight"])
    for name, leaf, other in zip(
        leaf_names(state.params),
        jax.tree.leaves(state.params),
        jax.tree.leaves(other_state.params),
        strict=True,
    ):
        scale = np.abs(other).max()
        np.testing.assert_allclose(leaf, other, rtol=0, atol=1e-6 * scale, err_msg=name)


@pytest.fixture(scope="module")
def big_batch_step(make_task, make_state, make_batch):
    """The step with dropout on the full batch on one device, the reference."""
    task = make_task(dropout=0.5)
    return copied(task.train_step(make_state(task, DESCENT), make_batch(), jax.random.key(0)))


@pytest.mark.parametrize("grad_accum_steps", [2, 8])
def test_micro_batches_of_unequal_weight_equal_the_full_batch(
    make_task, make_state, make_batch, key, big_batch_step, grad_accum_steps
):
    task, batch = make_task(dropout=0.5), make_batch()
    slices = batch["weights"].reshape(-1, grad_accum_steps, 6).sum((0, 2))
    assert len(set(slices)) > 1  # otherwise an average of averages would pass
    state = make_state(task, DESCENT, grad_accum_steps=grad_accum_steps)
    assert_same_step(task.train_step(state, batch, key), big_batch_step)


def test_pmap_over_four_devices_equals_one_device(
    make_task, make_state, make_batch, key, big_batch_step
):
    """All replicas need the same key, and indices of the examples over all replicas."""
    task = make_task(dropout=0.5)
    step = functools.partial(task.train_step, axis_name="batch")
    mapped = jax.pmap(step, axis_name="batch", in_axes=(None, 0, 0), devices=jax.devices()[:4])
    batch = {name: leaf.reshape(4, 2, *leaf.shape[1:]) for name, leaf in make_batch().items()}
    same_key = jnp.stack([key] * 4)
    states, metrics = mapped(make_state(task, DESCENT), batch, same_key)
    for device in range(4):
        one = jax.tree.map(lambda leaf, device=device: np.asarray(leaf)[device], (states, metrics))
        assert_same_step(one, big_batch_step)
    local = batch | {"example_index": np.tile(np.arange(2, dtype=np.int32), (4, 1))}
    for wrong in ((batch, jax.random.split(key, 4)), (local, same_key)):
        _, metrics = mapped(make_state(task, DESCENT), *wrong)
        assert abs(metrics["loss"][0] - big_batch_step[1]["loss"]) > 1e-3


@pytest.mark.parametrize("grad_accum_steps", [1, 2])
def test_sharded_mesh_equals_one_device(
    make_task, make_state, make_batch, make_placement, key, big_batch_step, grad_accum_steps
):
    task, placement = make_task(dropout=0.5), make_placement(4)
    state = placement.replicate(make_state(task, DESCENT, grad_accum_steps=grad_accum_steps))
    batch = jax.device_put(make_batch(), placement.batch_sharding)
    assert len(batch["inputs"].sharding.device_set) == 4
    assert_same_step(task.train_step(state, batch, key), big_batch_step)


@pytest.mark.parametrize("split", ["micro-batches", "mesh"])
def test_padding_of_weight_zero_changes_nothing(
    make_task, make_state, make_batch, make_placement, key, big_batch_step, split
):
    task, batch = make_task(dropout=0.5), make_batch()
    padding = {name: np.repeat(leaf[:1], 8, axis=0) for name, leaf in batch.items()}
    padding |= {"weights": np.zeros_like(batch["weights"]), "example_index": np.arange(8, 16)}
    padded = {
        name: np.concatenate([batch[name], padding[name]]).astype(batch[name].dtype)
        for name in batch
    }
    state = make_state(task, DESCENT, grad_accum_steps=2 if split == "micro-batches" else 1)
    if split == "mesh":  # two of the four devices have only padding
        placement = make_placement(4)
        state, padded = placement.replicate(state), jax.device_put(padded, placement.batch_sharding)
    assert_same_step(task.train_step(state, padded, key), big_batch_step)


def test_zero_weights_give_finite_parameters_and_metrics(make_task, make_state, make_batch, key):
    task, batch = make_task(), make_batch()
    batch["weights"] = np.zeros_like(batch["weights"])
    state = make_state(task, DESCENT)
    before = copied(state.params)
    state, metrics = task.train_step(state, batch, key)
    chex.assert_trees_all_equal(copied(state.params), before)
    assert metrics["loss"] == metrics["gradient_norm"] == metrics["skipped"] == 0
    assert int(state.step) == 1


def test_metrics_equal_numpy(make_task, make_state, make_batch, key):
    task, batch = make_task(), make_batch()
    state = make_state(task, DESCENT)
    params = copied(state.params)
    after, metrics = task.train_step(state, batch, key)
    hidden = params["embedding"]["embedding"][batch["inputs"]] @ params["block"]["kernel"]
    hidden = np.tanh(hidden + params["block"]["bias"][None, None])
    logits = hidden @ params["head"]["kernel"] + params["head"]["bias"][None, None]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -np.take_along_axis(log_p, batch["targets"][..., None], -1)[..., 0]
    weights = batch["weights"]
    gradients = jax.tree.map(np.subtract, params, copied(after.params))  # the rate is 1
    expected = {
        "loss": (weights * nats).sum() / weights.sum(),
        "accuracy": (weights * (logits.argmax(-1) == batch["targets"])).sum() / weights.sum(),
        "weight": weights.sum(),
        "gradient_norm": np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradients))),
        "skipped": 0,
        "nonfinite_leaf": -1,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_gradient_norm_is_reported_before_clipping(make_task, make_state, make_batch, key):
    task = make_task()
    clipped = optax.chain(optax.clip_by_global_norm(1e-3), DESCENT)
    state = make_state(task, clipped)
    before = copied(state.params)
    state, metrics = task.train_step(state, make_batch(), key)
    moved = optax.tree.norm(jax.tree.map(np.subtract, before, copied(state.params)))
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-3)
    assert metrics["gradient_norm"] > 0.1


def test_non_finite_loss_changes_only_the_step_count(make_task, make_state, make_batch, key):
    task = make_task(statistics=True)
    state = make_state(task, adam(), ema_decay=0.9)
    state, _ = task.train_step(state, make_batch(), key)  # so that no moment is zero
    before = copied((state.params, state.opt_state, state.ema_params, state.batch_stats))
    bad = make_batch(1)
    bad["weights"][0, 0] = np.inf
    for skipped in (1, 2):
        state, metrics = task.train_step(state, bad, key)
        new = (state.params, state.opt_state, state.ema_params, state.batch_stats)
        chex.assert_trees_all_equal(copied(new), before)
        assert int(metrics["skipped"]) == 1
        assert (int(state.step), int(state.skipped)) == (1 + skipped, skipped)
    state, metrics = task.train_step(state, make_batch(), key)
    assert (int(state.step), int(state.skipped), int(metrics["skipped"])) == (4, 0, 0)
    moved = jax.tree.map(lambda new, old: (new != old).any(), copied(state.params), before[0])
    assert all(jax.tree.leaves(moved))


def power_loss(model, variables, batch, key, **_):
    """Sum of x ** power: for x = 0 and power 1/2 the value is 0 and the gradient infinite."""
    params = variables["params"]
    total = sum(jnp.sum(params[name] ** batch[name]) for name in params)
    return LossOutput(total, jnp.float32(1), {})


@pytest.mark.parametrize(("bad", "index"), [(("b",), 1), (("b", "c"), 1), (("a", "c"), 0)])
def test_first_leaf_with_a_non_finite_gradient_is_reported(bad, index, key):
    params = {name: jnp.array([1.0, 0.0]) for name in "abc"}
    state = create_state(None, {"params": params}, DESCENT)
    before = copied(params)
    batch = {name: np.float32(0.5 if name in bad else 2.0) for name in params}
    state, metrics = build_train_step(power_loss)(state, batch, key)
    assert jnp.isfinite(metrics["loss"])
    assert (int(metrics["skipped"]), int(metrics["nonfinite_leaf"])) == (1, index)
    chex.assert_trees_all_equal(copied(state.params), before)


def test_gradient_of_a_frozen_parameter_neither_counts_nor_skips_the_step(key):
    params = {name: jnp.array([1.0, 0.0]) for name in "abc"}
    tx = except_frozen(DESCENT, "b")
    state = create_state(None, {"params": params}, tx, freeze="b")
    batch = {"a": np.float32(2), "b": np.float32(0.5), "c": np.float32(2)}
    state, metrics = build_train_step(power_loss)(state, batch, key)
    assert (int(metrics["skipped"]), int(metrics["nonfinite_leaf"])) == (0, -1)
    np.testing.assert_allclose(metrics["gradient_norm"], np.sqrt(8), rtol=1e-6)
    np.testing.assert_array_equal(state.params["a"], [-1, 0])
    np.testing.assert_array_equal(state.params["b"], [1, 0])


def test_micro_batches_are_traced_once(make_task, make_state, make_batch, key):
    task, traces = make_task(dropout=0.5), []

    def loss(*arguments, **options):
        traces.append(1)
        return task.loss(*arguments, **options)

    build_train_step(loss)(make_state(task, DESCENT, grad_accum_steps=2), make_batch(), key)
    assert len(traces) == 1


def test_nonfinite_leaf_is_past_the_leaves_for_a_non_finite_loss(key):
    def loss(model, variables, batch, key, **_):
        return LossOutput(variables["params"]["a"] + batch, jnp.float32(1), {})

    state = create_state(None, {"params": {"a": jnp.float32(1)}}, DESCENT)
    _, metrics = build_train_step(loss)(state, np.float32(np.inf), key)
    assert (int(metrics["skipped"]), int(metrics["nonfinite_leaf"])) == (1, 1)


def infinite(leaf):
    """An optimizer that overflows in one leaf, from its second step on."""

    def update(updates, count, params=None):
        names = leaf_names(updates)
        scale = {name: jnp.where((name == leaf) & (count > 0), jnp.inf, 1) for name in names}
        leaves = [scale[name] * x for name, x in zip(names, jax.tree.leaves(updates), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(updates), leaves), count + 1

    return optax.GradientTransformation(lambda params: jnp.int32(0), update)


@pytest.mark.parametrize("leaf", ["block.bias", "embedding.embedding"])
def test_non_finite_update_changes_only_the_step_count(
    leaf, make_task, make_state, make_batch, key
):
    task = make_task(statistics=True)
    state = make_state(task, optax.chain(adam(), infinite(leaf)), ema_decay=0.9)
    state, metrics = task.train_step(state, make_batch(), key)
    assert (int(metrics["skipped"]), int(metrics["nonfinite_leaf"])) == (0, -1)
    before = copied((state.params, state.opt_state, state.ema_params, state.batch_stats))
    for skipped in (1, 2):
        state, metrics = task.train_step(state, make_batch(), key)
        new = (state.params, state.opt_state, state.ema_params, state.batch_stats)
        chex.assert_trees_all_equal(copied(new), before)
        assert jnp.isfinite(metrics["loss"])
        assert jnp.isfinite(metrics["gradient_norm"])
        assert (int(metrics["skipped"]), int(state.skipped)) == (1, skipped)
        assert (
            nonfinite_names(state.params)[int(metrics["nonfinite_leaf"])] == f"the update of {leaf}"
        )
    assert int(state.step) == 3


def test_ema_equals_its_closed_form(make_task, make_state, make_batch, key):
    task, decay, steps = make_task(), 0.8, 6
    state = make_state(task, adam(learning_rate=0.05), ema_decay=decay)
    path = [copied(state.params)]
    for number in range(steps):
        state, _ = task.train_step(state, make_batch(number), key)
        path.append(copied(state.params))
    weights = [decay**steps] + [(1 - decay) * decay ** (steps - k) for k in range(1, steps + 1)]
    np.testing.assert_allclose(sum(weights), 1)
    closed_form = jax.tree.map(
        lambda *leaves: sum(weight * leaf for weight, leaf in zip(weights, leaves, strict=True)),
        *path,
    )
    chex.assert_trees_all_close(copied(state.ema_params), closed_form, rtol=1e-5, atol=1e-7)
    assert state.eval_params is state.ema_params


def test_batch_stats_are_averaged_over_micro_batches_and_devices(
    make_task, make_state, make_batch, key
):
    task, batch = make_task(statistics=True), make_batch()
    state = make_state(task, DESCENT)
    table = copied(state.params)["embedding"]["embedding"]
    expected = 0.1 * table[batch["inputs"]].mean((0, 1))  # the running mean starts at 0
    accumulated = task.train_step(make_state(task, DESCENT, grad_accum_steps=4), batch, key)[0]
    whole = task.train_step(state, batch, key)[0]
    shards = {name: leaf.reshape(4, 2, *leaf.shape[1:]) for name, leaf in batch.items()}
    mapped = jax.pmap(
        functools.partial(task.train_step, axis_name="batch"),
        axis_name="batch",
        in_axes=(None, 0, None),
        devices=jax.devices()[:4],
    )(make_state(task, DESCENT), shards, key)[0]
    for mean in (
        whole.batch_stats["mean"],
        accumulated.batch_stats["mean"],
        *np.asarray(mapped.batch_stats["mean"]),
    ):
        np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-7)


def test_state_is_donated_and_the_second_call_does_not_recompile(
    make_task, make_state, make_batch, key
):
    task = make_task()
    traces = []

    def loss(*arguments, **options):
        traces.append(1)
        return task.loss(*arguments, **options)

    train_step = build_train_step(loss)
    state = make_state(task, adam(), ema_decay=0.9)
    donated = jax.tree.leaves((state.params, state.opt_state, state.ema_params))
    for number in range(3):
        state, _ = train_step(state, make_batch(number), jax.random.fold_in(key, number))
    assert len(traces) == train_step._cache_size() == 1
    assert all(leaf.is_deleted() for leaf in donated)
