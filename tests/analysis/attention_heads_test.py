"""Where heads look, how special they are and what they are needed for, on heads made by hand."""

import jax
import numpy as np
import pytest

from jaxlabs.analysis import attention_heads as study

FIRST = max(study.OFFSETS)


def looking_back(offset):
    """Weights `[time, time]` of a head that looks so many places back, or at the first place."""
    weights = np.zeros((study.LENGTH, study.LENGTH))
    weights[np.arange(study.LENGTH), np.maximum(np.arange(study.LENGTH) - offset, 0)] = 1
    return weights


def test_profiles_tell_the_offset_of_each_head():
    weights = np.stack([looking_back(3), (looking_back(0) + looking_back(6)) / 2])[None]
    profiles = study.offset_profiles(np.repeat(weights, 2, axis=0))
    np.testing.assert_allclose(profiles[0], [0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_allclose(profiles[1], [0.5, 0, 0, 0, 0, 0, 0.5])


def test_specialization_is_one_for_one_offset_and_zero_for_all_alike():
    profiles = np.array([[0, 0.2, 0, 0], [0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(study.specialization(profiles), [1, 0, 0.5], atol=1e-12)


def test_any_number_of_heads_has_as_many_parameters():
    counts = [1, 2, 8, study.WIDTH]
    leaves = [jax.tree.leaves(study.initial_params(0, heads)) for heads in counts]
    assert len({sum(leaf.size for leaf in one) for one in leaves}) == 1


@pytest.fixture(scope="module")
def by_hand():
    """Parameters of four heads: heads 0, 1 and 2 fetch one look-up each, head 3 does nothing."""
    params = jax.tree.map(np.zeros_like, study.initial_params(0, 4))
    wide = study.WIDTH // 4
    assert wide >= study.SYMBOLS
    # Symbols and places share no coordinate; head h's query turns a place into the one before.
    params["embedding"][:, : study.SYMBOLS] = np.eye(study.SYMBOLS)
    angles = 2 * np.pi * np.arange(study.LENGTH)[:, None] * np.array([1, 3])[None] / study.LENGTH
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    params["place"][:, study.SYMBOLS : study.SYMBOLS + 4] = waves
    attention = params["attention"]
    for head, offset in enumerate(study.OFFSETS):
        columns = slice(head * wide, head * wide + 4)
        turn = 2 * np.pi * offset * np.array([1, 3]) / study.LENGTH
        rotation = np.block(
            [
                [np.diag(np.cos(turn)), -np.diag(np.sin(turn))],
                [np.diag(np.sin(turn)), np.diag(np.cos(turn))],
            ]
        )
        places = slice(study.SYMBOLS, study.SYMBOLS + 4)
        attention["query_kernel"][places, columns] = 60 * rotation
        attention["key_kernel"][places, columns] = np.eye(4)
        values = slice(head * wide, head * wide + study.SYMBOLS)
        attention["value_kernel"][: study.SYMBOLS, values] = np.eye(study.SYMBOLS)
        part = slice(head * study.SYMBOLS, (head + 1) * study.SYMBOLS)
        params["kernel"][values, part] = 20 * np.eye(study.SYMBOLS)
    attention["out"]["kernel"][:] = np.eye(study.WIDTH)
    return params


@pytest.fixture(scope="module")
def symbols():
    return jax.random.randint(jax.random.key(0), (4, study.LENGTH), 0, study.SYMBOLS)


def test_heads_that_fetch_one_symbol_each_solve_all_look_ups(by_hand, symbols):
    look = jax.jit(study.lookup_losses, static_argnums=1)
    losses, weights = look(by_hand, 4, symbols)
    np.testing.assert_allclose(losses, 0, atol=1e-3)
    profiles = np.asarray(study.offset_profiles(weights))
    assert list(profiles[:3].argmax(axis=-1)) == list(study.OFFSETS)
    assert profiles[:3].max(axis=-1).min() > 0.99


def test_silencing_a_head_costs_its_own_look_up_and_no_other(by_hand, symbols):
    silence = jax.jit(study.removal_costs, static_argnums=1)
    costs = np.asarray(silence(by_hand, 4, symbols))
    expected = np.concatenate([np.eye(3), np.zeros((1, 3))]) * np.log(study.SYMBOLS)
    np.testing.assert_allclose(costs, expected, atol=1e-2)
