import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxlabs.decoding import logits as logits_lib

top_k_top_p_mask = jax.jit(logits_lib.top_k_top_p_mask)
sample_token = jax.jit(logits_lib.sample_token)


def reference_mask(logits: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    """One row in float64: rank, truncate to k, truncate to probability p."""
    ranking = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    if top_k > 0:
        ranking = ranking[:top_k]
    probabilities = np.exp(logits[ranking] - np.max(logits))
    probabilities /= probabilities.sum()
    if top_p < 1:
        size = 1
        while size < len(ranking) and probabilities[:size].sum() < top_p:
            size += 1
        ranking = ranking[:size]
    kept = np.zeros(len(logits), bool)
    kept[ranking] = True
    return kept


def normal_rows(rows: int, vocabulary: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(rows, vocabulary)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=1)
def many_keys(key: jax.Array, count: int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))


@pytest.mark.parametrize("top_k", [0, 1, 3, 7, 20])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 1.0])
def test_truncation_equals_a_numpy_implementation(top_k, top_p):
    # Rounded logits, so that there are ties.
    logits = np.round(np.random.default_rng(0).normal(size=(40, 11)) * 2, 0)
    expected = [reference_mask(row, top_k, top_p) for row in logits]
    kept = top_k_top_p_mask(jnp.asarray(logits, jnp.float32), top_k, top_p)
    np.testing.assert_array_equal(kept, expected)


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = jnp.log(jnp.asarray([[0.125, 0.5, 0.125, 0.25]]))
    for top_p, expected in [
        (0.0, [0, 1, 0, 0]),
        (0.5, [0, 1, 0, 0]),
        (0.51, [0, 1, 0, 1]),
        (0.76, [1, 1, 0, 1]),
        (0.9, [1, 1, 1, 1]),
    ]:
        np.testing.assert_array_equal(top_k_top_p_mask(logits, 0, top_p)[0], expected)


def equal_tokens(sizes: np.ndarray) -> np.ndarray:
    """Logits `[len(sizes), max(sizes)]`: 0 for the first `size` tokens, -inf for the others."""
    return np.where(np.arange(sizes.max()) < sizes[:, None], 0, -np.inf).astype(np.float32)


@pytest.mark.parametrize("top_k", [False, True])
def test_top_p_of_j_of_n_equal_tokens_keeps_j(top_k):
    # All pairs up to 64; -inf or top-k leaves `size` tokens.
    sizes, shares = np.array([(size, j) for size in range(2, 65) for j in range(1, size)]).T
    assert len(sizes) == 2016
    logits = np.zeros((2016, 64), np.float32) if top_k else equal_tokens(sizes)
    kept = jax.jit(jax.vmap(lambda row, k, p: logits_lib.top_k_top_p_mask(row[None], k, p).sum()))(
        logits, sizes if top_k else np.zeros_like(sizes), np.float32(shares / sizes)
    )
    np.testing.assert_array_equal(kept, shares)


@pytest.mark.parametrize("size", [3, 50, 333, 50257])
def test_nucleus_size_of_equal_tokens_is_proportional_to_p(size):
    for share in (0.1, 0.3, 2 / 3, 0.9):
        kept = top_k_top_p_mask(jnp.zeros((1, size)), 0, share).sum()
        assert kept == np.ceil(np.round(size * share, 6))


@pytest.mark.parametrize("size", [3, 50])
def test_top_p_near_0_and_1(size):
    logits = jnp.zeros((1, size))
    for p in (0.0, 1e-45, 1e-38, 1e-7):
        assert top_k_top_p_mask(logits, 0, p).sum() == 1
    for p in (np.nextafter(np.float32(1), np.float32(0)), 1 - 1e-6):
        assert top_k_top_p_mask(logits, 0, p).sum() == size


def test_ties_are_broken_by_id():
    np.testing.assert_array_equal(
        top_k_top_p_mask(jnp.zeros((1, 5)), 2, 1.0), [[True, True, False, False, False]]
    )


def test_top_p_off_keeps_tokens_of_tiny_probability():
    logits = jnp.linspace(0, -90, 300)[None, :]
    assert top_k_top_p_mask(logits, 0, 1.0).all()


def test_top_p_is_applied_after_top_k():
    # Of 0.4, 0.3, 0.2, 0.1 top-k leaves 0.57 and 0.43, so the first one reaches 0.5.
    logits = jnp.log(jnp.asarray([[0.4, 0.3, 0.2, 0.1]]))
    np.testing.assert_array_equal(top_k_top_p_mask(logits, 2, 0.5), [[True, False, False, False]])


def test_temperature_is_applied_before_top_p(key):
    # At temperature 2 the first token falls from 0.8 to 0.56 and the nucleus of 0.7 holds two.
    logits = jnp.tile(jnp.log(jnp.asarray([[0.8, 0.15, 0.05]])), (300, 1))
    keys = many_keys(key, 300)
    assert set(np.asarray(sample_token(keys, logits, 1.0, 0, 0.7)).tolist()) == {0}
    assert set(np.asarray(sample_token(keys, logits, 2.0, 0, 0.7)).tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 0, 1.0), (1.3, 4, 1.0), (1.0, 0, 0.8)]
)
def test_frequencies_match_the_truncated_softmax(key, temperature, top_k, top_p):
    count = 20_000
    row = np.random.default_rng(1).normal(size=6)
    scaled = row / temperature
    kept = reference_mask(scaled, top_k, top_p)
    expected = np.where(kept, np.exp(scaled), 0)
    expected *= count / expected.sum()
    tokens = sample_token(
        many_keys(key, count), jnp.tile(row[None, :], (count, 1)), temperature, top_k, top_p
    )
    observed = np.bincount(tokens, minlength=6)
    assert observed[~kept].sum() == 0
    assert scipy.stats.chisquare(observed[kept], expected[kept]).pvalue > 1e-3


def test_temperature_zero_is_greedy_and_so_is_top_k_one(key):
    logits = normal_rows(200, 12)
    keys = many_keys(key, 200)
    greedy = sample_token(keys, logits, 0.0, 0, 1.0)
    chex.assert_shape(greedy, (200,))
    chex.assert_type(greedy, jnp.int32)
    np.testing.assert_array_equal(greedy, np.argmax(logits, axis=1))
    np.testing.assert_array_equal(sample_token(keys, logits, 1.0, 1, 1.0), greedy)
    np.testing.assert_array_equal(sample_token(keys, logits, 1.0, 0, 0.0), greedy)


def test_the_smallest_temperature_overflows_to_greedy(key):
    logits = normal_rows(200, 12)
    tokens = sample_token(many_keys(key, 200), 1e3 * logits, 2e-38, 0, 1.0)
    np.testing.assert_array_equal(tokens, np.argmax(logits, axis=1))


def test_greedy_takes_the_lowest_id_among_ties(key):
    tied = jnp.asarray([[0.0, 2.0, 2.0]])
    for temperature, top_k in [(0.0, 0), (1.0, 1)]:
        assert sample_token(many_keys(key, 1), tied, temperature, top_k, 1.0)[0] == 1


def test_truncation_changes_only_rows_that_sampled_truncated_tokens(key):
    logits = normal_rows(200, 12)
    keys = many_keys(key, 200)
    full = np.asarray(sample_token(keys, logits, 1.0, 0, 1.0))
    truncated = np.asarray(sample_token(keys, logits, 1.0, 5, 1.0))
    kept = np.asarray(top_k_top_p_mask(logits, 5, 1.0))[np.arange(200), full]
    assert 0 < kept.sum() < 200
    np.testing.assert_array_equal(truncated[kept], full[kept])


def test_a_row_does_not_depend_on_the_others(key):
    logits = normal_rows(200, 12)
    changed = logits.copy()
    changed[::2] = 5 * logits[::-2]
    keys = many_keys(key, 200)
    tokens, with_changed = (sample_token(keys, x, 1.0, 6, 0.9) for x in (logits, changed))
    np.testing.assert_array_equal(tokens[1::2], with_changed[1::2])
    assert (tokens[::2] != with_changed[::2]).any()


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_huge_logits_stay_finite(key, scale):
    logits = jnp.asarray([[0.0, 1.0, 0.5]]) * scale
    token = sample_token(many_keys(key, 1), logits, 0.01, 0, 0.95)
    assert token[0] == jnp.argmax(logits)


def test_half_precision_logits_give_the_samples_of_float32(key):
    half = jnp.asarray(normal_rows(200, 12), jnp.bfloat16)
    keys = many_keys(key, 200)
    np.testing.assert_array_equal(
        sample_token(keys, half, 1.0, 0, 0.9),
        sample_token(keys, half.astype(jnp.float32), 1.0, 0, 0.9),
    )


def test_new_sampling_parameters_do_not_recompile(key):
    traced = jax.jit(chex.assert_max_traces(logits_lib.sample_token, n=1))
    logits = jnp.zeros((3, 7))
    for temperature, top_k, top_p in [(1.0, 0, 1.0), (0.0, 3, 0.5), (0.7, 2, 0.9)]:
        traced(many_keys(key, 3), logits, temperature, top_k, top_p)
