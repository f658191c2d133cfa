"""Tests of jaxlabs/training/aot.py: one compilation, and a warning with the reason of another."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.training.aot import AotFunction


def doubling(traces):
    def double(tree, count):
        traces.append(1)
        return jax.tree.map(lambda leaf: 2 * leaf, tree), count

    return AotFunction(jax.jit(double))


def test_equal_shapes_compile_once_and_the_time_is_measured():
    traces = []
    double = doubling(traces)
    for number in range(3):
        tree, count = double({"a": jnp.full(2, number)}, np.int32(number))
        np.testing.assert_array_equal(tree["a"], 2 * number)
        assert int(count) == number
        assert len(traces) == 1
        if number == 0:
            seconds = double.compile_seconds
    assert double.compile_seconds == seconds > 0


@pytest.mark.parametrize(
    ("tree", "change"),
    [
        ({"a": jnp.ones(3)}, "[0]['a']: float32[2] -> float32[3]"),
        ({"a": np.ones(2, np.int32)}, "[0]['a']: float32[2] -> int32[2]"),
        ({"a": jnp.ones(2), "b": jnp.ones(())}, "[0]['b']: absent -> float32[]"),
        ({}, "[0]['a']: float32[2] -> absent"),
    ],
)
def test_recompilation_warns_with_the_changes(tree, change):
    traces = []
    double = doubling(traces)
    double({"a": np.ones(2, np.float32)}, np.int32(1))
    with pytest.warns(UserWarning, match=re.escape("recompiled, because of " + change)):
        result, _ = double(tree, np.int32(1))
    assert result.keys() == tree.keys()
    double(tree, np.int32(2))  # the newest executable is kept
    assert len(traces) == 2
