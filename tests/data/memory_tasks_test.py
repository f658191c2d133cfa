"""The memory tasks and their baselines are those of the papers."""

import jax
import numpy as np
import pytest

from jaxlabs.data import memory_tasks


@pytest.fixture(scope="module")
def added(module_key):
    return [np.asarray(array) for array in memory_tasks.adding(module_key, 4096, 7)]


@pytest.fixture(scope="module")
def module_key():
    return jax.random.key(0)


def test_one_number_of_each_half_is_marked_uniformly(added):
    markers = added[0][..., 1]
    assert set(np.unique(markers)) == {0, 1}
    np.testing.assert_array_equal(markers[:, :3].sum(axis=1), 1)
    np.testing.assert_array_equal(markers[:, 3:].sum(axis=1), 1)
    np.testing.assert_allclose(markers.mean(axis=0), [1 / 3] * 3 + [1 / 4] * 4, atol=0.03)


def test_the_target_is_the_sum_of_the_marked_numbers(added):
    (values, markers), targets = np.moveaxis(added[0], -1, 0), added[1]
    expected = [row[marker == 1].sum() for row, marker in zip(values, markers, strict=True)]
    np.testing.assert_allclose(targets, expected, rtol=1e-6)
    assert 0 <= values.min() <= values.max() < 1


def test_constant_prediction_has_the_baseline_loss(added):
    errors = (added[1] - 1) ** 2
    assert errors.mean() == pytest.approx(memory_tasks.ADDING_BASELINE, abs=0.01)


def test_the_shortest_sum_has_both_numbers_marked(module_key):
    inputs, targets = memory_tasks.adding(module_key, 3, 2)
    np.testing.assert_array_equal(inputs[..., 1], 1)
    np.testing.assert_allclose(targets, inputs[..., 0].sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("delay", [1, 5])
def test_copy_task_layout(module_key, delay):
    tokens, targets = map(np.asarray, memory_tasks.copying(module_key, 64, delay))
    blank, delimiter = memory_tasks.BLANK, memory_tasks.DELIMITER
    assert tokens.shape == targets.shape == (64, delay + 20)
    assert set(np.unique(tokens[:, :10])) == set(range(8))
    np.testing.assert_array_equal(tokens[:, 10 : 9 + delay], blank)
    np.testing.assert_array_equal(tokens[:, 9 + delay], delimiter)
    np.testing.assert_array_equal(tokens[:, 10 + delay :], blank)
    np.testing.assert_array_equal(targets[:, :-10], blank)
    np.testing.assert_array_equal(targets[:, -10:], tokens[:, :10])


def test_uniform_symbols_have_the_baseline_loss(module_key):
    _, targets = memory_tasks.copying(module_key, 4, 100)
    prob = np.where(np.asarray(targets) == memory_tasks.BLANK, 1.0, 1 / 8)
    assert -np.log(prob).mean() == pytest.approx(memory_tasks.copying_baseline(100), rel=1e-6)
