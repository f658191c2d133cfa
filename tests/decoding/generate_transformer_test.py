import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxlabs.config import UserError
from jaxlabs.decoding.generate import generate
from jaxlabs.models.transformer_lm import TransformerLM, TransformerLMConfig, TransformerStepper

VOCABULARY, CONTEXT = 11, 8
PROMPTS = np.random.default_rng(3).integers(VOCABULARY, size=(3, 11))
LENGTHS = np.asarray([5, 11, 1])
NEW_TOKENS = 10
LOGITS = []  # logits of every executed step of a `Recorder`
TRACED = []


@dataclasses.dataclass(frozen=True)
class Recorder(TransformerStepper):
    """Records the logits of every executed step."""

    def step(self, params, carry, tokens):
        TRACED.append(self)
        carry, logits = super().step(params, carry, tokens)
        jax.debug.callback(lambda x: LOGITS.append(np.asarray(x)), logits, ordered=True)
        return carry, logits


def build(**settings):
    settings = {"positions": "sinusoidal", "matmul_precision": "highest"} | settings
    sizes = {
        "context_length": CONTEXT,
        "embed_dim": 16,
        "num_layers": 2,
        "num_heads": 2,
        "mlp_dim": 24,
    }
    return TransformerLM(TransformerLMConfig(vocab_size=VOCABULARY, **sizes, **settings))


def random_params(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, CONTEXT), jnp.int32))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: np.float32(0.5 * rng.normal(size=leaf.shape)), shapes["params"]
    )


def uncached(model, params, sequences):
    """Logits after each of `sequences`, which are padded on the right."""
    padded = np.stack([np.pad(s, (0, CONTEXT - len(s))) for s in sequences])
    logits = jax.jit(model.apply)({"params": params}, jnp.asarray(padded, jnp.int32))
    return np.asarray(logits, np.float64)[
        np.arange(len(sequences)), [len(s) - 1 for s in sequences]
    ]


def first_visible(time):
    """With a context of 8, the cache is refilled with 4 tokens at times 8, 12, 16, ..."""
    return 0 if time < 8 else (time // 4 - 1) * 4


@pytest.mark.parametrize(
    "settings",
    [
        {"positions": "sinusoidal"},
        {"positions": "learned", "pre_norm": False},
        {"positions": "rotary", "qk_norm": True, "norm": "rmsnorm"},
        {"positions": "alibi", "tie_embeddings": True},
        {"positions": "rotary", "attention_window": 3},
        {"positions": "rotary", "short_conv_width": 4},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_cached_equals_uncached_logits_up_to_the_context(settings):
    model = build(**settings)
    params = random_params(model)
    tokens = jnp.asarray(PROMPTS[:, :CONTEXT], jnp.int32)
    decoder = TransformerStepper(model)

    @jax.jit
    def cached(params, tokens):
        carry = decoder.init_carry(3)
        return jax.lax.scan(lambda c, column: decoder.step(params, c, column), carry, tokens.T)[1]

    logits = cached(params, tokens).swapaxes(0, 1)
    chex.assert_shape(logits, (3, CONTEXT, VOCABULARY))
    expected = jax.jit(model.apply)({"params": params}, tokens)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"positions": "sinusoidal"}, {"positions": "rotary", "short_conv_width": 4}],
    ids=str,
)
def test_every_step_beyond_the_context_equals_the_uncached_forward(settings, key):
    # 21 tokens fill the context at times 8, 12 and 16, in row 1 at 8 within its prompt.
    model = build(**settings)
    params = random_params(model)
    LOGITS.clear()
    tokens, lengths = generate(
        Recorder(model), params, PROMPTS, LENGTHS, key, max_new_tokens=NEW_TOKENS
    )
    jax.effects_barrier()
    tokens = np.asarray(tokens)
    np.testing.assert_array_equal(lengths, LENGTHS + NEW_TOKENS)
    steps = [(row, t) for row in range(3) for t in range(int(lengths[row]) - 1)]
    expected = uncached(model, params, [tokens[row, first_visible(t) : t + 1] for row, t in steps])
    cached = np.stack([LOGITS[t][row] for row, t in steps])
    np.testing.assert_allclose(cached, expected, rtol=1e-5, atol=1e-5)


def last_of(row, stop):
    """The tokens that a sliding window sees before position `stop`."""
    return row[max(0, stop - CONTEXT) : stop]


def test_logits_beyond_the_context_equal_a_sliding_window_only_when_the_cache_is_full(key):
    model = build()
    params = random_params(model)
    LOGITS.clear()
    tokens, _ = generate(Recorder(model), params, PROMPTS, LENGTHS, key, max_new_tokens=NEW_TOKENS)
    jax.effects_barrier()
    row = np.asarray(tokens)[1]  # 21 tokens
    windows = [last_of(row, t + 1) for t in range(len(row) - 1)]
    sliding = uncached(model, params, windows)
    cached = np.stack([logits[1] for logits in LOGITS[: len(windows)]])
    errors = np.abs(cached - sliding).max(axis=1)
    same = [t for t, difference in enumerate(errors) if difference < 1e-4]
    assert same == [*range(CONTEXT), 11, 15, 19]
    assert errors[CONTEXT] > 0.01


@pytest.mark.parametrize(
    "settings",
    [
        {"positions": "sinusoidal"},
        {"positions": "learned", "pre_norm": False},
        {"positions": "rotary", "attention_window": 6},
        {"positions": "alibi", "short_conv_width": 4},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_a_sliding_window_equals_the_uncached_forward_of_the_last_tokens(settings, key):
    model = build(**settings)
    params = random_params(model)
    LOGITS.clear()
    options = {"max_new_tokens": NEW_TOKENS, "past_context": "slide"}
    tokens, lengths = generate(Recorder(model), params, PROMPTS, LENGTHS, key, **options)
    jax.effects_barrier()
    tokens = np.asarray(tokens)
    steps = [(row, t) for row in range(3) for t in range(int(lengths[row]) - 1)]
    expected = uncached(model, params, [last_of(tokens[row], t + 1) for row, t in steps])
    cached = np.stack([LOGITS[t][row] for row, t in steps])
    np.testing.assert_allclose(cached, expected, rtol=1e-5, atol=1e-5)


def test_prompts_longer_than_the_context_are_cropped_by_a_sliding_window(model, params, key):
    """The caches are refilled only where a token is sampled."""
    prompts, lengths = np.tile(PROMPTS, (1, 2)), [22, 19, 20]
    options = {"max_new_tokens": 3, "past_context": "slide"}
    LOGITS.clear()
    tokens, _ = generate(Recorder(model), params, prompts, lengths, key, **options)
    jax.effects_barrier()
    tokens = np.asarray(tokens)
    steps = [(row, lengths[row] + new) for row in range(3) for new in range(3)]
    expected = uncached(model, params, [last_of(tokens[row], t) for row, t in steps])
    cached = np.stack([LOGITS[t - 1][row] for row, t in steps])
    np.testing.assert_allclose(cached, expected, rtol=1e-5, atol=1e-5)


def test_unknown_rule_past_the_context_is_refused(model, params, key):
    with pytest.raises(UserError, match="past_context: 'drop' is not accepted; one of half, slide"):
        generate(
            Recorder(model), params, PROMPTS, LENGTHS, key, max_new_tokens=1, past_context="drop"
        )


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def params(model):
    return random_params(model)


def test_a_row_does_not_depend_on_the_other_rows(model, params, key):
    others, other_lengths = PROMPTS.copy(), LENGTHS.copy()
    others[[0, 2]] = 7
    other_lengths[[0, 2]] = 1, 9
    arguments = {"key": key, "max_new_tokens": NEW_TOKENS}
    one, _ = generate(Recorder(model), params, PROMPTS, LENGTHS, **arguments)
    two, _ = generate(Recorder(model), params, others, other_lengths, **arguments)
    np.testing.assert_array_equal(one[1], two[1])
    assert (one[2] != two[2]).any()


def test_an_equal_model_does_not_recompile(params, key):
    arguments = {"key": key, "max_new_tokens": NEW_TOKENS}
    generate(Recorder(build()), params, PROMPTS, LENGTHS, **arguments)
    traced = len(TRACED)
    options = {"temperature": 0.5, "top_k": 4, "top_p": 0.9, "stop_token": 3}
    generate(Recorder(build()), params, PROMPTS[::-1], LENGTHS[::-1], **arguments, **options)
    assert len(TRACED) == traced


def test_temperature_zero_and_top_k_one_equal_the_argmax(model, params, key):
    arguments = Recorder(model), params, PROMPTS, LENGTHS
    greedy, _ = generate(*arguments, key, max_new_tokens=NEW_TOKENS, temperature=0)
    other_key = jax.random.key(7)
    top_one, _ = generate(*arguments, other_key, max_new_tokens=NEW_TOKENS, top_k=1)
    np.testing.assert_array_equal(greedy, top_one)
    greedy = np.asarray(greedy)
    steps = [(row, t) for row in range(3) for t in range(LENGTHS[row] - 1, LENGTHS[row] + 9)]
    logits = uncached(model, params, [greedy[row, first_visible(t) : t + 1] for row, t in steps])
    np.testing.assert_array_equal(
        np.argmax(logits, axis=1), [greedy[row, t + 1] for row, t in steps]
    )


def test_a_stop_token_ends_its_row_and_is_kept(model, params, key):
    arguments = Recorder(model), params, PROMPTS, LENGTHS, key
    free, _ = generate(*arguments, max_new_tokens=NEW_TOKENS)
    free = np.asarray(free)
    stop = int(free[0, LENGTHS[0] + 2])
    tokens, lengths = generate(*arguments, max_new_tokens=NEW_TOKENS, stop_token=stop)
    for row, start in enumerate(LENGTHS):
        new = free[row, start : start + NEW_TOKENS].tolist()
        kept = new[: new.index(stop) + 1] if stop in new else new
        assert lengths[row] == start + len(kept)
        np.testing.assert_array_equal(tokens[row, start : lengths[row]], kept)


def test_frequencies_match_the_softmax(model, params, key):
    rows = 3000
    prompts = np.tile(PROMPTS[:1, :5], (rows, 1))
    tokens, _ = generate(
        TransformerStepper(model),
        params,
        prompts,
        np.full(rows, 5),
        key,
        max_new_tokens=1,
        temperature=4.0,
    )
    expected = np.exp(uncached(model, params, [PROMPTS[0, :5]])[0] / 4.0)
    observed = np.bincount(np.asarray(tokens)[:, 5], minlength=VOCABULARY)
    assert scipy.stats.chisquare(observed, expected / expected.sum() * rows).pvalue > 1e-3
