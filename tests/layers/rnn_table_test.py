"""Recurrent layers above an embedding table, of which they project the rows or the whole."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.layers.cpu import dispatch
from jaxlabs.layers.rnn import Recurrent
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.training.gradient_check import check

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BATCH, TIME, FEATURES, HIDDEN = 4, 6, 3, 5
MASK = np.arange(TIME)[None, :] < np.array([6, 3, 0, 1])[:, None]


def module(cell, **options):
    sizes = {"features": FEATURES, "hidden_size": HIDDEN, "precision": "highest"}
    return Recurrent(cell=cell, **sizes | options)


@functools.cache
def parameters(model):
    """Nonzero parameters."""
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((BATCH, TIME, FEATURES)))["params"]
    return jax.tree.map(lambda leaf: leaf + 0.1, params)


def lookup(seed=3, count=9):
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((count, FEATURES)).astype(np.float32)
    return table, rng.integers(0, count, (BATCH, TIME))


@pytest.mark.parametrize("cell", CELLS)
def test_rows_of_a_table_equal_the_inputs_that_they_are(cell, monkeypatch):
    monkeypatch.setattr(dispatch, "TOKENS_PER_ROW", 0)
    model, (table, tokens) = module(cell, num_layers=2, bidirectional=True), lookup()
    variables = {"params": parameters(model)}

    @jax.jit
    def whole(variables, table):
        def loss(variables, x, **options):
            outputs, states = model.apply(variables, x, mask=MASK, **options)
            return jnp.sum(outputs**2), (outputs, states)

        def from_rows(variables, table):
            return loss(variables, table[tokens])

        def from_table(variables, table):
            return loss(variables, table, tokens=tokens)

        return [
            jax.value_and_grad(f, argnums=(0, 1), has_aux=True)(variables, table)
            for f in (from_rows, from_table)
        ]

    chex.assert_trees_all_close(*whole(variables, table), rtol=1e-5, atol=1e-5)


def test_gradient_of_a_table_equals_central_differences_in_float64(monkeypatch):
    monkeypatch.setattr(dispatch, "TOKENS_PER_ROW", 0)
    model, (table, tokens) = module("gru"), lookup()

    def loss(params, table):
        return jnp.sum(model.apply({"params": params}, table, tokens=tokens)[0] ** 2)

    found = check(loss, parameters(model), table, max_entries=20, key=jax.random.key(1))
    assert found.worst.relative_difference < 1e-7, str(found)


def test_only_cpus_project_the_table(monkeypatch):
    monkeypatch.setattr(dispatch, "TOKENS_PER_ROW", 0)
    model, (table, tokens) = module("lstm"), lookup()
    traced = jax.jit(lambda p, t: model.apply(p, t, tokens=tokens)).trace(
        {"params": parameters(model)}, table
    )
    cpu, tpu = (traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "tpu"))
    for text, rows in ((cpu, len(table)), (tpu, tokens.size)):
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert any(f"tensor<{rows}x{4 * HIDDEN}xf32>" in line for line in products)
    assert f"tensor<{tokens.size}x{FEATURES}xf32>" not in cpu


def test_a_table_is_projected_where_tokens_are_many_more_than_its_rows():
    devices = jax.device_count()  # each of them projects the table
    assert dispatch.projects_table(64, 128 * devices, devices)
    assert not dispatch.projects_table(64, 127, devices)
    assert dispatch.projects_table(64, 128, 1)
    assert not dispatch.projects_table(65, 128, 1)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_gradient_of_a_table_is_summed_in_float32(platform, monkeypatch):
    monkeypatch.setattr(dispatch, "TOKENS_PER_ROW", 0)
    model, (table, tokens) = module("gru", dtype=jnp.bfloat16), lookup()

    def loss(table):
        return model.apply({"params": parameters(model)}, table, tokens=tokens)[0].sum()

    traced = jax.jit(jax.grad(loss)).trace(table)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    scatters = re.findall(r"stablehlo\.scatter.*?\n.*?-> tensor<(\w+)>", text, re.DOTALL)
    assert scatters
    assert not any("bf16" in result for result in scatters)


def test_tokens_need_a_table():
    with pytest.raises(ValueError, match=r"^tokens select rows of a table \[count, features\]"):
        module("gru").init(
            jax.random.key(0),
            np.zeros((BATCH, TIME, FEATURES)),
            tokens=np.zeros((BATCH, TIME), int),
        )
