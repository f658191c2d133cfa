"""Tests of jaxlabs/training/lr_finder.py: one run from scratch with a rising learning rate."""

import jax
import numpy as np
import optax

from jaxlabs import keys
from jaxlabs.data.batches import batch_at
from jaxlabs.training.lr_finder import MAX_RATIO, MIN_RATIO, range_test


def test_rates_are_log_spaced_around_the_configured_one(
    make_task, make_data, make_config, make_placement
):
    config = make_config(learning_rate=1e-2)
    curve = range_test(make_task(), make_data(), config, make_placement(), steps=11)
    rates = curve["learning_rate"]
    np.testing.assert_allclose(rates[[0, -1]], [1e-2 * MIN_RATIO, 1e-2 * MAX_RATIO], rtol=1e-6)
    np.testing.assert_allclose(
        np.diff(np.log(rates)), np.log(MAX_RATIO / MIN_RATIO) / 10, rtol=1e-6
    )
    assert curve["loss"].shape == (11,)
    assert np.isfinite(curve["loss"]).all()


def test_rates_of_muon_are_those_of_its_flag(make_task, make_data, make_config, make_placement):
    config = make_config(optimizer="muon", muon_learning_rate=0.5, learning_rate=1e-3)
    curve = range_test(make_task(), make_data(), config, make_placement(), steps=3)
    expected = [0.5 * MIN_RATIO, 0.5 * (MIN_RATIO * MAX_RATIO) ** 0.5, 0.5 * MAX_RATIO]
    np.testing.assert_allclose(curve["muon_learning_rate"], expected, rtol=1e-6)
    assert "learning_rate" not in curve


def test_losses_equal_adam_at_the_returned_rates(
    make_task, make_data, make_config, make_placement, make_state
):
    task, data, steps = make_task(), make_data(), 6
    config = make_config(
        learning_rate=0.1, grad_clip_norm=None, weight_decay=0.0, ema_decay=0.0, warmup_steps=0
    )
    curve = range_test(task, data, config, make_placement(), steps=steps)
    tx = optax.inject_hyperparams(optax.adam)(learning_rate=0.0)
    state = make_state(task, tx)
    losses = []
    for step in range(steps):
        state.opt_state.hyperparams["learning_rate"] = np.float32(curve["learning_rate"][step])
        batch = batch_at(data.train, config.seed, step, config.batch_size)
        key = jax.random.fold_in(keys.stream(config.seed, "step"), step)
        state, metrics = task.train_step(state, batch, key)
        losses.append(metrics["loss"])
    np.testing.assert_allclose(curve["loss"], losses, rtol=1e-4)


def test_curve_ends_with_the_last_step_taken(make_task, make_data, make_config, make_placement):
    curve = range_test(
        make_task(nonfinite_from=3), make_data(), make_config(), make_placement(), 40
    )
    assert len(curve["loss"]) == len(curve["learning_rate"]) == 13
    np.testing.assert_array_equal(np.isfinite(curve["loss"]), np.arange(13) < 3)
