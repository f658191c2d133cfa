"""Tiny models are trained by Adam, on fresh batches, from parameters that their names describe."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.analysis.toy_training import draw_params, fit


def loss(params, key):
    target = 1.0 + 0.1 * jax.random.normal(key, (2,))
    return jnp.sum(jnp.square(params["a"] - target)) + jnp.square(params["b"]["c"])


@pytest.fixture(scope="module")
def fitted():
    start = {"a": np.zeros(2, np.float32), "b": {"c": np.float32(3)}}
    train = jax.jit(lambda key: fit(loss, start, key, steps=40, learning_rate=0.3))
    return start, *train(jax.random.key(1))


def test_fit_equals_adam_step_by_step(fitted):
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


def test_what_is_watched_sees_the_gradient_as_a_tree():
    start = {"a": np.zeros(2, np.float32), "b": {"c": np.float32(3)}}
    options = {"steps": 1, "learning_rate": 0.1, "watch": lambda gradient: gradient["b"]["c"]}
    watched = jax.jit(lambda key: fit(loss, start, key, **options)[2])(jax.random.key(0))
    np.testing.assert_allclose(watched, [6.0])


def test_parameters_are_drawn_by_name():
    shapes = {"norm": {"scale": (7,), "bias": (7,)}, "embedding": (500, 64)}
    shapes["num_layers"] = {"query_kernel": (3, 400, 20)}
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        shapes,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    params = draw_params(shapes, 0)
    np.testing.assert_array_equal(params["norm"]["scale"], 1)
    np.testing.assert_array_equal(params["norm"]["bias"], 0)
    assert params["embedding"].std() == pytest.approx(1, rel=0.02)
    assert params["num_layers"]["query_kernel"].std() == pytest.approx(1 / 20, rel=0.02)
    assert not np.allclose(params["embedding"], draw_params(shapes, 1)["embedding"])


def test_clipped_gradients_are_cut_before_adam_sees_them():
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
