"""Heads study: profiles, specialization and ablation costs of hand-constructed heads."""

import jax
import numpy as np
import pytest

from jaxlabs.labs.attention import attention_heads as study

FIRST = max(study.OFFSETS)


def head_at_offset(offset):
    """Weights `[time, time]` of a head that attends `offset` positions back or to index 0."""
    weights = np.zeros((study.LENGTH, study.LENGTH))
    weights[np.arange(study.LENGTH), np.maximum(np.arange(study.LENGTH) - offset, 0)] = 1
    return weights


def test_offset_profiles_have_weight_at_offset_of_each_head():
    weights = np.stack([head_at_offset(3), (head_at_offset(0) + head_at_offset(6)) / 2])[None]
    profiles = study.offset_profiles(np.repeat(weights, 2, axis=0))
    np.testing.assert_allclose(profiles[0], [0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_allclose(profiles[1], [0.5, 0, 0, 0, 0, 0, 0.5])


def test_specialization_is_one_for_single_offset_and_zero_for_uniform():
    profiles = np.array([[0, 0.2, 0, 0], [0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(study.specialization(profiles), [1, 0, 0.5], atol=1e-12)


def test_parameter_count_does_not_depend_on_number_of_heads():
    counts = [1, 2, 8, study.EMBED_DIM]
    leaves = [jax.tree.leaves(study.initial_params(0, heads)) for heads in counts]
    assert len({sum(leaf.size for leaf in tree) for tree in leaves}) == 1


@pytest.fixture(scope="module")
def constructed_params():
    """Parameters of four heads: heads 0, 1 and 2 attend to one offset each, head 3 is unused."""
    params = jax.tree.map(np.zeros_like, study.initial_params(0, 4))
    head_dim = study.EMBED_DIM // 4
    assert head_dim >= study.SYMBOLS
    # Symbols and positions use separate coordinates; queries are rotated by the head's offset.
    params["embedding"][:, : study.SYMBOLS] = np.eye(study.SYMBOLS)
    angles = 2 * np.pi * np.arange(study.LENGTH)[:, None] * np.array([1, 3])[None] / study.LENGTH
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    params["position_embedding"][:, study.SYMBOLS : study.SYMBOLS + 4] = waves
    attention = params["attention"]
    for head, offset in enumerate(study.OFFSETS):
        columns = slice(head * head_dim, head * head_dim + 4)
        angle = 2 * np.pi * offset * np.array([1, 3]) / study.LENGTH
        rotation = np.block(
            [
                [np.diag(np.cos(angle)), -np.diag(np.sin(angle))],
                [np.diag(np.sin(angle)), np.diag(np.cos(angle))],
            ]
        )
        position_rows = slice(study.SYMBOLS, study.SYMBOLS + 4)
        attention["query_kernel"][position_rows, columns] = 60 * rotation
        attention["key_kernel"][position_rows, columns] = np.eye(4)
        values = slice(head * head_dim, head * head_dim + study.SYMBOLS)
        attention["value_kernel"][: study.SYMBOLS, values] = np.eye(study.SYMBOLS)
        columns_out = slice(head * study.SYMBOLS, (head + 1) * study.SYMBOLS)
        params["kernel"][values, columns_out] = 20 * np.eye(study.SYMBOLS)
    attention["out"]["kernel"][:] = np.eye(study.EMBED_DIM)
    return params


@pytest.fixture(scope="module")
def symbols():
    return jax.random.randint(jax.random.key(0), (4, study.LENGTH), 0, study.SYMBOLS)


def test_one_head_per_offset_solves_all_lookups(constructed_params, symbols):
    lookup = jax.jit(study.lookup_losses, static_argnums=1)
    losses, weights = lookup(constructed_params, 4, symbols)
    np.testing.assert_allclose(losses, 0, atol=1e-3)
    profiles = np.asarray(study.offset_profiles(weights))
    assert list(profiles[:3].argmax(axis=-1)) == list(study.OFFSETS)
    assert profiles[:3].max(axis=-1).min() > 0.99


def test_ablated_head_affects_only_its_own_lookup(constructed_params, symbols):
    ablate = jax.jit(study.ablation_costs, static_argnums=1)
    costs = np.asarray(ablate(constructed_params, 4, symbols))
    expected = np.concatenate([np.eye(3), np.zeros((1, 3))]) * np.log(study.SYMBOLS)
    np.testing.assert_allclose(costs, expected, atol=1e-2)
