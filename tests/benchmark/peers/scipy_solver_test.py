"""Tests of jaxlabs/benchmark/peers/scipy_solver.py on a ridge regression."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.benchmark.peers.scipy_solver import solve
from jaxlabs.data.batches import Examples
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.initial_state import inference_state
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.task import Task

COUNT, SIZE, DECAY = 40, 6, 0.01
X = np.random.default_rng(0).normal(size=(COUNT, SIZE)).astype(np.float32)
Y = (X @ np.arange(SIZE) + np.sin(5 * X[:, 0])).astype(np.float32)
SOLUTION = np.linalg.solve(
    X.T.astype(np.float64) @ X / COUNT + DECAY * np.eye(SIZE), X.T.astype(np.float64) @ Y / COUNT
)
MINIMUM = np.mean((X @ SOLUTION - Y) ** 2) / 2 + DECAY / 2 * np.sum(SOLUTION**2)


def loss(model, variables, batch, key, **_):
    y, weights = model.apply(variables, batch["x"])[:, 0], batch["weights"]
    decay = DECAY / 2 * jnp.sum(variables["params"]["kernel"] ** 2)
    total = jnp.sum(jnp.square(y - batch["y"]) / 2 * weights) + decay * weights.sum()
    return LossOutput(total, weights.sum(), {})


def solved(start=None, x=X):
    """Returns the kernel at the minimum and the loss of every iteration."""
    model = nn.Dense(1, use_bias=False)
    task = Task(model, lambda key: model.init(key, jnp.zeros((1, SIZE))), loss, train_step=None)
    state = inference_state(task, RunConfig(), data_parallel())
    if start is not None:
        state = state.replace(params={"kernel": start[:, None]})
    params, costs = solve(task, state, Examples({"x": x, "y": Y}), seed=0, steps=200)
    return params["kernel"][:, 0], costs


def test_minimum_equals_the_normal_equations():
    kernel, costs = solved()
    np.testing.assert_allclose(kernel, SOLUTION, atol=1e-4)
    np.testing.assert_allclose(costs[-1], MINIMUM, rtol=1e-6)
    assert 3 < len(costs) < 60
    assert np.all(np.diff(costs) <= 0)


def test_solver_ends_at_once_at_the_minimum():
    _, costs = solved(start=SOLUTION)
    assert len(costs) < 3


def test_nan_in_the_loss_is_an_error():
    with pytest.raises(FloatingPointError, match="not finite"):
        solved(x=X * np.float32("nan"))
