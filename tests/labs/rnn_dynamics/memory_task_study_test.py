"""Memory task study: baselines of the tasks, final losses, chrono initialization."""

import jax
import numpy as np
import pytest

from jaxlabs.data import memory_tasks
from jaxlabs.labs.rnn_dynamics import memory_task_study


def test_constant_output_has_adding_baseline_loss():
    params = memory_task_study.task_params("adding", "rnn", 4, 2, 0)
    params = {name: np.zeros_like(array) for name, array in params.items()}
    params["head_bias"] = np.float32([1])
    loss = jax.jit(jax.vmap(lambda key: memory_task_study.adding_loss("rnn", params, key, 4)))
    assert loss(jax.random.split(jax.random.key(0), 200)).mean() == pytest.approx(1 / 6, rel=0.07)


def test_uniform_symbols_after_delimiter_have_copying_baseline_loss():
    # h is 1 after the delimiter and 0 before.
    params = memory_task_study.task_params("copying", "rnn", 5, 1, 0)
    params = {name: np.zeros_like(array) for name, array in params.items()}
    params["input_kernel"][memory_tasks.DELIMITER] = 20
    params["recurrent_kernel"][:] = 20
    params["head_kernel"][0, memory_tasks.BLANK] = -200
    params["head_bias"][memory_tasks.BLANK] = 100
    loss = memory_task_study.copying_loss("rnn", params, jax.random.key(0), 5)
    # The delimiter comes one step before the first target symbol.
    early = (100 + np.log(8)) / 25
    assert float(loss) == pytest.approx(memory_tasks.copying_baseline(5) + early, rel=1e-4)


def test_final_losses_are_last_tenth_relative_to_baseline(monkeypatch):
    ramp = np.arange(100.0)
    monkeypatch.setattr(memory_task_study, "train", lambda params, seed, **_: (params, ramp + seed))
    result, trained = memory_task_study.study("adding", [3, 5], 2, 100, (0, 1))
    assert result["final"].shape == (4, 2, 2)
    np.testing.assert_allclose(result["final"][..., 1] / 6, 94.5 + 1)
    np.testing.assert_allclose(result["curves"][0, 0, 0] / 6, ramp.reshape(50, 2).mean(axis=1))
    assert memory_task_study.metrics(result)["adding_lstm_chrono_init_length_5"] == pytest.approx(
        6 * 95
    )
    assert trained["gru", 5]["recurrent_kernel"].shape == (2, 6)


def test_only_chrono_init_starts_with_long_memory():
    default, chrono = (
        memory_task_study.task_params("adding", kind, 500, 64, 0)["bias"]
        for kind in ("lstm", "lstm, chrono init")
    )
    np.testing.assert_array_equal(default[64:128], 1)
    assert np.median(chrono[64:128]) > 4
