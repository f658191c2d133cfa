"""Times the two full-batch optimizers against numpy and scipy, interleaved.

On a busy machine set OPENBLAS_NUM_THREADS=1, without which numpy can be 10 times slower.
"""

import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.benchmark.peers import numpy_sparse_autoencoder
from jaxlabs.benchmark.peers.scipy_solver import solve
from jaxlabs.data import natural_images
from jaxlabs.data.natural_images import patch_data
from jaxlabs.labs.sparse_autoencoder.lab import LAB, build_task
from jaxlabs.training.advance import Advance
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.initial_state import initial_state

ROUNDS = 3
STEPS = int(os.environ.get("JAXLABS_BENCHMARK_STEPS", "400"))


@pytest.mark.benchmark
def test_optax_is_faster_than_numpy_at_the_same_cost(capsys):
    values = {"steps": STEPS, "steps_per_call": STEPS}
    config = LAB.config_class.from_flat(dict(LAB.presets["reference"]) | values)
    photographs = natural_images.load("natural_images")
    data = patch_data(photographs, config.patches, config.model.patch_size, config.seed)
    patches = data.train.arrays["patches"].astype(np.float64)
    task, placement = build_task(config, {}), data_parallel(jax.devices()[:1])
    advance = Advance(task, config, placement, data.train)
    initial = jax.block_until_ready(initial_state(task, config, placement))

    def with_numpy(_):
        return numpy_sparse_autoencoder.train(patches, config.model, STEPS)[1:]

    def with_scipy(state):
        _, costs = solve(task, state, data.train, 0, STEPS)
        return costs[-1], len(costs)

    def with_optax(state):
        state, log = advance(state, STEPS)
        return float(log["loss"][-1]), int(state.step)

    methods = {"numpy and scipy": with_numpy, "jax and scipy": with_scipy, "optax": with_optax}
    with_optax(jax.tree.map(jnp.copy, initial))  # compiles
    seconds, results = {name: [] for name in methods}, {}
    for _ in range(ROUNDS):
        for name, method in methods.items():
            state, start = jax.tree.map(jnp.copy, initial), time.perf_counter()
            results[name] = method(state)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    with capsys.disabled():
        for name, (cost, taken) in results.items():
            ratio = medians[name] / medians["numpy and scipy"]
            print(
                f"\n{name}: {medians[name]:.2f} s ({ratio:.2f} of numpy's), {taken} iterations,"
                f" cost {cost:.4f}, all: {', '.join(f'{s:.2f}' for s in seconds[name])}"
            )
    np.testing.assert_allclose(
        [cost for cost, _ in results.values()], results["optax"][0], rtol=0.01
    )
    assert medians["optax"] < medians["numpy and scipy"]
