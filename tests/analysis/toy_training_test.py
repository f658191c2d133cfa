"""Toy training: Adam on new batches, parameters initialized by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.analysis.toy_training import fit, init_params, progress, stack


def loss(params, key):
    target = 1.0 + 0.1 * jax.random.normal(key, (2,))
    return jnp.sum(jnp.square(params["a"] - target)) + jnp.square(params["b"]["c"])


@pytest.fixture(scope="module")
def fitted():
    start = {"a": np.zeros(2, np.float32), "b": {"c": np.float32(3)}}
    train = jax.jit(lambda key: fit(loss, start, key, steps=40, learning_rate=0.3))
    return start, *train(jax.random.key(1))


def test_fit_equals_optax_adam(fitted):
    params, got, losses, norms = fitted
    schedule = optax.warmup_cosine_decay_schedule(0.075, 0.3, 4, 40)
    optimizer = optax.adam(schedule, b2=0.99)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    value_and_grad = jax.jit(jax.value_and_grad(loss))
    for step in range(3):
        value, gradient = value_and_grad(params, jax.random.fold_in(jax.random.key(1), step))
        np.testing.assert_allclose(losses[step], value, rtol=1e-5)
        np.testing.assert_allclose(norms[step], optax.tree.norm(gradient), rtol=1e-5)
        updates, state = update(gradient, state)
        params = jax.tree.map(np.add, params, updates)
    assert jax.tree.structure(got) == jax.tree.structure(params)
    assert losses[-1] < losses[0] / 10


def test_grad_metric_gets_gradient_as_tree():
    start = {"a": np.zeros(2, np.float32), "b": {"c": np.float32(3)}}
    options = {"steps": 1, "learning_rate": 0.1, "grad_metric": lambda gradient: gradient["b"]["c"]}
    metric = jax.jit(lambda key: fit(loss, start, key, **options)[2])(jax.random.key(0))
    np.testing.assert_allclose(metric, [6.0])


def test_init_params_depend_on_name():
    shapes = {"norm": {"scale": (7,), "bias": (7,)}, "embedding": (500, 64)}
    shapes["layers"] = {"query_kernel": (3, 400, 20)}
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        shapes,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    params = init_params(shapes, 0)
    np.testing.assert_array_equal(params["norm"]["scale"], 1)
    np.testing.assert_array_equal(params["norm"]["bias"], 0)
    assert params["embedding"].std() == pytest.approx(1, rel=0.02)
    assert params["layers"]["query_kernel"].std() == pytest.approx(1 / 20, rel=0.02)
    assert not np.allclose(params["embedding"], init_params(shapes, 1)["embedding"])


def test_gradients_are_clipped_before_adam():
    start, key, rate = {"a": np.float32(3), "b": np.float32(0)}, jax.random.key(0), 0.1

    def loss(params, _):  # a gradient far above the limit, which the step then brings below it
        return jnp.square(params["a"] - 2.95) + 1e-3 * params["b"]

    options = {"steps": 4, "learning_rate": rate, "grad_clip_norm": 0.02}
    got = jax.jit(lambda key: fit(loss, start, key, **options)[0])(key)
    schedule = optax.warmup_cosine_decay_schedule(rate, rate, 1, 4)
    optimizer = optax.chain(optax.clip_by_global_norm(0.02), optax.adam(schedule, b2=0.99))
    params, state = start, optimizer.init(start)
    update, gradient = jax.jit(optimizer.update), jax.jit(jax.grad(loss))
    for _ in range(4):
        updates, state = update(gradient(params, key), state)
        params = jax.tree.map(np.add, params, updates)
    for name, value in params.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5)


def test_trees_are_stacked_for_vmap():
    stacked = stack({"a": np.full(2, n), "b": (n,)} for n in (1, 3))
    np.testing.assert_array_equal(stacked["a"], [[1, 1], [3, 3]])
    np.testing.assert_array_equal(stacked["b"][0], [1, 3])


def test_progress_yields_the_items_and_is_silent_without_a_terminal(capsys):
    assert list(progress((n for n in "ab"), "letter", 2)) == ["a", "b"]
    assert capsys.readouterr().err == ""
