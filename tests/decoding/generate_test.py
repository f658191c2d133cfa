import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxlabs.decoding.generate import generate

VOCABULARY, FEATURES = 11, 6
TRACED = []  # one entry per trace of a decoder's step
LOGITS = []  # logits of every executed step of a `Recorder`


@dataclasses.dataclass(frozen=True)
class CausalMean:
    """Logits from the mean of all embeddings in the carry, each multiplied by a position factor."""

    context_length: int | None = None

    def init_carry(self, batch_size):
        return jnp.zeros((batch_size, FEATURES)), jnp.int32(0)

    def step(self, params, carry, tokens):
        TRACED.append(self)
        total, position = carry
        total += params["embedding"][tokens] * jnp.cos(params["rate"] * position)[None, :]
        return (total, position + 1), total / (position + 1) @ params["head"]

    def prefill(self, params, tokens):
        positions = jnp.arange(tokens.shape[1])
        factor = jnp.cos(positions[:, None] * params["rate"][None, :])
        total = jnp.einsum("btw,tw->bw", params["embedding"][tokens], factor)
        return total, jnp.int32(tokens.shape[1])


@dataclasses.dataclass(frozen=True)
class Recorder(CausalMean):
    """Records the logits of every executed step."""

    def step(self, params, carry, tokens):
        carry, logits = super().step(params, carry, tokens)
        jax.debug.callback(lambda x: LOGITS.append(np.asarray(x)), logits, ordered=True)
        return carry, logits


def uncached(params, tokens):
    """Logits after the last of `tokens [time]`, without a cache."""
    embedded = params["embedding"][tokens]
    factor = np.cos(np.arange(len(tokens))[:, None] * params["rate"])
    return (embedded * factor).mean(axis=0) @ params["head"].astype(np.float64)


def windows(context, count):
    """First visible token at each step, by the rule of the docstring of `generate`."""
    first = 0
    for time in range(count):
        if time - first == context:
            first = time - context // 2
        yield first


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    return {
        "embedding": rng.normal(size=(VOCABULARY, FEATURES)).astype(np.float32),
        "rate": rng.uniform(0.5, 2.0, size=FEATURES).astype(np.float32),
        "head": 3 * rng.normal(size=(FEATURES, VOCABULARY)).astype(np.float32),
    }


PROMPTS = np.asarray([[1, 2, 3, 4, 5, 6, 7], [8, 9, 0, 0, 0, 0, 0], [3, 1, 4, 1, 0, 0, 0]])
LENGTHS = np.asarray([7, 2, 4])


@pytest.mark.parametrize("context_length", [None, 1, 5, 6, 17, 18])
def test_every_step_equals_the_uncached_forward_on_the_visible_tokens(params, key, context_length):
    # 7 + 12 tokens fill the contexts 1 to 6 several times, also in the prompt.
    LOGITS.clear()
    tokens, lengths = generate(
        Recorder(context_length), params, PROMPTS, LENGTHS, key, max_new_tokens=12, temperature=0.0
    )
    jax.effects_barrier()
    chex.assert_shape(tokens, (3, 7 + 12))
    np.testing.assert_array_equal(lengths, LENGTHS + 12)
    tokens = np.asarray(tokens)
    assert len(LOGITS) == 7 + 12 - 1
    for time, first in enumerate(windows(context_length, len(LOGITS))):
        for row in range(3):
            if time + 1 >= lengths[row]:
                continue
            expected = uncached(params, tokens[row, first : time + 1])
            np.testing.assert_allclose(LOGITS[time][row], expected, rtol=1e-5, atol=1e-5)
            if time + 1 >= LENGTHS[row]:
                assert tokens[row, time + 1] == np.argmax(expected)


def test_prompts_are_kept_and_columns_past_the_end_are_zero(params, key):
    options = {"max_new_tokens": 12, "temperature": 0.0}
    free, _ = generate(CausalMean(5), params, PROMPTS, LENGTHS, key, **options)
    # Row 1 stops after its second new token, within the prompt columns of other rows.
    options["stop_token"] = int(free[1, LENGTHS[1] + 1])
    with_garbage = PROMPTS.copy()
    with_garbage[1, 2:] = 10
    clean, _ = generate(CausalMean(5), params, PROMPTS, LENGTHS, key, **options)
    tokens, lengths = generate(CausalMean(5), params, with_garbage, LENGTHS, key, **options)
    assert lengths[1] < 7
    np.testing.assert_array_equal(tokens, clean)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(tokens[row, :length], PROMPTS[row, :length])
        assert (np.asarray(tokens[row, lengths[row] :]) == 0).all()


def test_a_row_does_not_depend_on_the_other_rows(params, key):
    others, other_lengths = PROMPTS.copy(), LENGTHS.copy()
    others[[0, 2]] = 7
    other_lengths[[0, 2]] = 1, 6
    one, _ = generate(CausalMean(5), params, PROMPTS, LENGTHS, key, max_new_tokens=12)
    two, _ = generate(CausalMean(5), params, others, other_lengths, key, max_new_tokens=12)
    np.testing.assert_array_equal(one[1], two[1])
    assert (one[2] != two[2]).any()


def test_equal_prompts_in_different_rows_are_continued_differently(params, key):
    prompts = np.tile(PROMPTS[:1], (3, 1))
    tokens, _ = generate(CausalMean(5), params, prompts, [7, 7, 7], key, max_new_tokens=12)
    assert len({tuple(row) for row in np.asarray(tokens).tolist()}) == 3


def test_temperature_zero_and_top_k_one_agree_for_any_key(params, key):
    arguments = CausalMean(5), params, PROMPTS, LENGTHS
    greedy, _ = generate(*arguments, key, max_new_tokens=12, temperature=0.0)
    for options in [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.0}]:
        tokens, _ = generate(*arguments, jax.random.key(5), max_new_tokens=12, **options)
        np.testing.assert_array_equal(tokens, greedy)


def test_a_stop_token_ends_its_row_and_is_kept(params, key):
    arguments = CausalMean(5), params, PROMPTS, LENGTHS, key
    free, _ = generate(*arguments, max_new_tokens=12, temperature=0.0)
    free = np.asarray(free)
    stop = int(free[1, LENGTHS[1] + 3])
    tokens, lengths = generate(*arguments, max_new_tokens=12, temperature=0.0, stop_token=stop)
    for row, start in enumerate(LENGTHS):
        new = free[row, start : start + 12].tolist()
        kept = new[: new.index(stop) + 1] if stop in new else new
        assert lengths[row] == start + len(kept)
        np.testing.assert_array_equal(tokens[row, start : lengths[row]], kept)
        assert (np.asarray(tokens[row, lengths[row] :]) == 0).all()
    assert lengths[1] <= LENGTHS[1] + 4


def test_a_stop_token_inside_a_prompt_is_ignored(params, key):
    arguments = CausalMean(5), params, PROMPTS, LENGTHS, key
    free, _ = generate(*arguments, max_new_tokens=12, temperature=0.0)
    generated = {int(x) for row, start in enumerate(LENGTHS) for x in free[row, start : start + 12]}
    only_in_prompts = ({2, 3, 4, 5, 6, 7} | {9} | {1, 4}) - generated
    assert only_in_prompts
    for stop in only_in_prompts:
        _, lengths = generate(*arguments, max_new_tokens=12, temperature=0.0, stop_token=stop)
        np.testing.assert_array_equal(lengths, LENGTHS + 12)


def test_the_loop_ends_when_all_rows_have_stopped(params, key):
    four = np.arange(VOCABULARY) == 4
    always_four = {
        "embedding": np.ones((VOCABULARY, FEATURES), np.float32),
        "rate": np.zeros(FEATURES, np.float32),
        "head": np.tile(four.astype(np.float32), (FEATURES, 1)),
    }
    LOGITS.clear()
    _, lengths = generate(
        Recorder(),
        always_four,
        PROMPTS,
        LENGTHS,
        key,
        max_new_tokens=500,
        temperature=0.0,
        stop_token=4,
    )
    jax.effects_barrier()
    np.testing.assert_array_equal(lengths, LENGTHS + 1)
    assert len(LOGITS) == max(LENGTHS)


def test_no_new_tokens_returns_the_prompts(params, key):
    tokens, lengths = generate(CausalMean(5), params, PROMPTS, LENGTHS, key, max_new_tokens=0)
    np.testing.assert_array_equal(tokens, PROMPTS)
    np.testing.assert_array_equal(lengths, LENGTHS)


def test_an_equal_decoder_and_new_sampling_parameters_do_not_recompile(params, key):
    generate(CausalMean(5), params, PROMPTS, LENGTHS, key, max_new_tokens=12)
    traced = len(TRACED)
    generate(
        CausalMean(5),
        jax.tree.map(jnp.negative, params),
        PROMPTS[::-1],
        LENGTHS[::-1].tolist(),
        jax.random.key(3),
        max_new_tokens=12,
        temperature=0,
        top_k=3,
        top_p=np.float64(0.5),
        stop_token=2,
    )
    assert len(TRACED) == traced
    generate(CausalMean(4), params, PROMPTS, LENGTHS, key, max_new_tokens=12)
    assert len(TRACED) > traced


def test_frequencies_of_first_tokens_match_the_softmax(params, key):
    rows = 4000
    prompts = np.tile(PROMPTS[2:, :4], (rows, 1))
    tokens, _ = generate(
        CausalMean(), params, prompts, np.full(rows, 4), key, max_new_tokens=2, temperature=2.0
    )
    tokens = np.asarray(tokens)
    first = np.exp(uncached(params, PROMPTS[2, :4]) / 2.0)
    observed = np.bincount(tokens[:, 4], minlength=VOCABULARY)
    assert scipy.stats.chisquare(observed, first / first.sum() * rows).pvalue > 1e-3
    # The second token is independent given the first.
    given = tokens[tokens[:, 4] == observed.argmax()]
    second = np.exp(uncached(params, given[0, :5]) / 2.0)
    observed = np.bincount(given[:, 5], minlength=VOCABULARY)
    assert scipy.stats.chisquare(observed, second / second.sum() * len(given)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("lengths", "new_tokens", "words"),
    [
        ([7, 0, 4], 3, "lengths[1]: empty prompt"),
        ([7, 2, 8], 3, "lengths[2]: length 8; a row has 1 to 7 tokens"),
        ([7, 2], 3, "lengths: shape (2,) for prompts (3, 7)"),
        ([7, 2, 4], -1, "max_new_tokens: -1 is negative"),
    ],
)
def test_invalid_arguments_are_refused(params, key, lengths, new_tokens, words):
    with pytest.raises(ValueError, match=r".*") as caught:
        generate(CausalMean(), params, PROMPTS, lengths, key, max_new_tokens=new_tokens)
    assert words in str(caught.value)
