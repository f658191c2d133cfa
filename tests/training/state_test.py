"""Tests of jaxlabs/training/state.py."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlabs.training.state import count_parameters, create_state, leaf_names

PARAMS = {"block": {"bias": np.zeros(2), "kernel": np.ones((3, 2))}, "scale": np.ones(())}


def test_leaf_names_follow_the_order_of_the_leaves():
    assert leaf_names(PARAMS) == ["block.bias", "block.kernel", "scale"]
    named = dict(zip(leaf_names(PARAMS), jax.tree.leaves(PARAMS), strict=True))
    assert named["block.kernel"] is PARAMS["block"]["kernel"]


def test_leaves_of_a_state_have_distinct_names(make_task, make_state):
    state = make_state(make_task(statistics=True), optax.adamw(1e-3), ema_decay=0.9)
    names = leaf_names(state)
    assert len(set(names)) == len(names)
    assert {"step", "skipped", "params.head.kernel", "ema_params.head.kernel"} < set(names)


def test_count_parameters_counts_scalars():
    assert count_parameters(PARAMS) == 2 + 6 + 1


def test_ema_is_kept_only_on_request():
    tx = optax.sgd(1.0)
    without = create_state(None, {"params": PARAMS}, tx)
    assert without.ema_params is None
    assert without.eval_params is without.params
    with_average = create_state(None, {"params": PARAMS}, tx, ema_decay=0.5)
    chex.assert_trees_all_equal(with_average.ema_params, with_average.params)
    assert with_average.eval_params is with_average.ema_params


def test_variables_include_batch_stats_if_present():
    tx = optax.sgd(1.0)
    assert create_state(None, {"params": PARAMS}, tx).variables(PARAMS) == {"params": PARAMS}
    state = create_state(None, {"params": PARAMS, "batch_stats": {"mean": 1}}, tx)
    assert state.variables({}) == {"params": {}, "batch_stats": {"mean": 1}}


def test_static_fields_are_no_leaves():
    state = create_state(
        None, {"params": PARAMS}, optax.sgd(1.0), grad_accum_steps=4, ema_decay=0.5
    )
    assert all(isinstance(leaf, np.ndarray | jnp.ndarray) for leaf in jax.tree.leaves(state))
    assert {"model", "tx", "ema_decay", "grad_accum_steps"}.isdisjoint(
        name.split(".")[0] for name in leaf_names(state)
    )


def test_optimizer_that_keeps_the_parameters_shares_no_array_with_them():
    """A step donates the state: no array may be in it twice."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    keeping = optax.GradientTransformation(lambda params: {"start": params}, None)
    state = create_state(None, {"params": params}, keeping)
    leaves = jax.tree.leaves((state.params, state.opt_state))
    assert len(set(map(id, leaves))) == len(leaves)
    chex.assert_trees_all_equal(state.opt_state["start"], params)
