import dataclasses
import functools
import math
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from jaxlabs.config import UserError
from jaxlabs.losses.cross_entropy import cross_entropy
from jaxlabs.models.transformer_lm import (
    POSITIONS,
    TransformerDecoder,
    TransformerLM,
    TransformerLMConfig,
    loss,
    sample,
    train_step,
)
from jaxlabs.training.state import count_parameters, create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TINY = TransformerLMConfig(
    vocabulary_size=11, context=8, width=16, layers=2, heads=2, ffn_width=24, dropout=0.0
)


def tiny(**options):
    return TransformerLM(dataclasses.replace(TINY, **options))


def tokens_of(batch=3, time=8, vocabulary=11):
    return np.random.default_rng(0).integers(0, vocabulary, (batch, time)).astype(np.int32)


def batch_of(batch=3, time=8):
    tokens = tokens_of(batch, time + 1)
    return {
        "inputs": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "weights": np.ones((batch, time), np.float32),
        "example": np.arange(batch, dtype=np.int32),
    }


@functools.cache
def parameters(model):
    """Initial parameters, moved so that biases and scales are neither 0 nor 1."""
    params = jax.jit(model.init)(jax.random.key(0), tokens_of())["params"]
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * np.sin(np.arange(leaf.size)).reshape(leaf.shape), params
    )


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, tokens, dropout_keys=None):
    return model.apply({"params": params}, tokens, dropout_keys=dropout_keys)


# Sizes and start


def test_reference_has_the_published_number_of_parameters():
    shapes = jax.eval_shape(
        TransformerLM(TransformerLMConfig(vocabulary_size=65)).init, jax.random.key(0), tokens_of()
    )
    params = shapes["params"]
    assert count_parameters(params) == 10_690_625
    assert count_parameters(params["embedding"]) == 24_960
    for layer in range(6):
        assert count_parameters(params[f"blocks_{layer}"]) == 1_773_312
    assert count_parameters(params["final_norm"]) == 768
    assert count_parameters(params["head"]) == 25_025
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_loss_at_the_start_is_within_two_percent_of_uniform(key):
    # Logits start as sums of 384 numbers of unit variance times weights of deviation 0.02, so the
    # loss exceeds ln 65 by half their variance, 384 * 0.02^2 / 2 = 0.077 nats or 1.84 %. Every
    # target counts the same here: how the characters of a text are spread adds or takes a percent.
    model = TransformerLM(TransformerLMConfig(vocabulary_size=65, layers=2, context=64))
    tokens = tokens_of(batch=4, time=64, vocabulary=65)

    @jax.jit
    def loss_at_start(key):
        logits = model.apply(model.init(key, tokens), tokens)
        targets = jnp.broadcast_to(jnp.arange(65)[:, None, None], (65, 4, 64))
        return cross_entropy(jnp.broadcast_to(logits[None], (65, *logits.shape)), targets).mean()

    losses = [loss_at_start(jax.random.fold_in(key, seed)) for seed in range(4)]
    assert abs(np.mean(losses) - math.log(65)) < 0.02 * math.log(65)


@dataclasses.dataclass(frozen=True)
class Holder:
    """What the loss reads of a state."""

    model: TransformerLM


def test_initial_deviations_are_those_of_gpt2(key):
    model = TransformerLM(
        TransformerLMConfig(vocabulary_size=65, width=192, ffn_width=256, layers=2, qkv_bias=True)
    )
    params = jax.jit(model.init)(key, tokens_of())["params"]
    block = params["blocks_1"]
    for kernel, stddev in [
        (params["embedding"]["embedding"], 0.02),
        (params["head"]["kernel"], 0.02),
        (block["attention"]["query_kernel"], 0.02),
        (block["ffn"]["expand"]["kernel"], 0.02),
        (block["attention"]["out"]["kernel"], 0.01),
        (block["ffn"]["contract"]["kernel"], 0.01),
    ]:
        np.testing.assert_allclose(kernel.std(), stddev, rtol=0.05)
        assert abs(kernel.mean()) < 5 * stddev / kernel.size**0.5
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    biases = [leaf for path, leaf in paths if "bias" in str(path[-1])]
    assert len(biases) == 2 * 9 - 2 + 1 + 1
    assert all((leaf == 0).all() for leaf in biases)


WORDS = TransformerLMConfig(
    **{"vocabulary_size": 5755, "context": 32, "width": 64, "layers": 4, "heads": 2},
    **{"ffn_width": 100, "positions": "learned", "init": "pytorch", "dropout": 0.0},
)
"""The word-level decoder of the speeches."""


def test_word_decoder_has_the_published_number_of_parameters(key):
    shapes = jax.eval_shape(TransformerLM(WORDS).init, key, tokens_of())["params"]
    assert count_parameters(shapes) == 863_243
    assert count_parameters(shapes["embedding"]) == 5755 * 64
    assert count_parameters(shapes["position_embedding"]) == 32 * 64
    assert count_parameters(shapes["blocks_3"]) == 4 * 64**2 + 64 + 2 * 6400 + 164 + 4 * 64
    assert count_parameters(shapes["head"]) == 65 * 5755


SHALLOW_WORDS = dataclasses.replace(WORDS, layers=1)  # quick to initialise


@pytest.fixture(scope="module")
def word_decoders():
    """Initial parameters of several seeds."""
    init = jax.jit(TransformerLM(SHALLOW_WORDS).init)
    return [init(jax.random.key(seed), tokens_of())["params"] for seed in range(8)]


def test_loss_at_the_start_of_the_word_decoder_is_the_published_one(word_decoders):
    # The final norm gives 64 numbers of unit variance; head weights and biases have a variance of
    # 1 / (3 * 64). So logits have a variance of 65 / 192 = 0.339, and the mean loss exceeds
    # ln 5755 = 8.658 by half of it: 8.827. Published, of one batch of one seed: 8.85.
    tokens = tokens_of(batch=4, time=32, vocabulary=5755)

    @jax.jit
    def mean_loss(params):
        logits = TransformerLM(SHALLOW_WORDS).apply({"params": params}, tokens)
        return (jax.nn.logsumexp(logits, axis=-1) - logits.mean(axis=-1)).mean()

    losses = np.array([mean_loss(params) for params in word_decoders])
    np.testing.assert_allclose(losses.mean(), math.log(5755) + 65 / 384, atol=0.02)
    assert (np.abs(losses - losses.mean()) < 0.05).all()


@pytest.mark.peers
def test_pytorch_initialisation_has_the_distributions_of_pytorch(word_decoders):
    torch = pytest.importorskip("torch")
    from jaxlabs.peers.torch_gpt import build_gpt, copy_parameters

    torch.manual_seed(0)
    theirs = [dict(build_gpt(SHALLOW_WORDS).named_parameters()) for _ in word_decoders]
    twin, ours = build_gpt(SHALLOW_WORDS), []
    for params in word_decoders:
        copy_parameters(twin, params)
        ours.append({name: leaf.detach().clone() for name, leaf in twin.named_parameters()})
    for name in theirs[0]:
        expected, got = (
            torch.stack([run[name] for run in runs]).detach().numpy() for runs in (theirs, ours)
        )
        slack = 4 * expected.std() / expected.size**0.5  # four standard errors
        np.testing.assert_allclose(got.mean(), expected.mean(), atol=2 * slack, err_msg=name)
        np.testing.assert_allclose(got.std(), expected.std(), atol=2 * slack, err_msg=name)
        np.testing.assert_allclose(np.abs(got).max(), np.abs(expected).max(), rtol=0.25)


def test_residual_projections_start_at_zero_when_asked(key):
    model = tiny(zero_init_residual=True, positions="rotary", pre_norm=True)
    params = jax.jit(model.init)(key, tokens_of())["params"]
    for name in ("blocks_0", "blocks_1"):
        assert not params[name]["attention"]["out"]["kernel"].any()
        assert not params[name]["ffn"]["contract"]["kernel"].any()


def test_options_add_and_remove_the_parameters_that_they_name(key):
    def names(**options):
        shapes = jax.eval_shape(tiny(**options).init, key, tokens_of())["params"]
        return {
            jax.tree_util.keystr(path, simple=True, separator=".")
            for path, _ in jax.tree_util.tree_flatten_with_path(shapes)[0]
        }

    plain = names()
    assert names(positions="learned") - plain == {"position_embedding.embedding"}
    assert names(positions="rotary") == names(positions="alibi") == plain
    assert names(qk_norm=True) == names(attention_window=2) == plain
    assert plain - names(tie_embeddings=True) == {"head.kernel", "head.bias"}
    assert {name for name in plain if name.endswith("bias")} == plain - names(bias=False)
    assert not {name for name in names(norm="rmsnorm") if "norm" in name}
    assert plain - names(pre_norm=False) == {"final_norm.scale", "final_norm.bias"}
    assert len(names(qkv_bias=True) - plain) == 6
    tables = {f"ngram_embedding.runs_of_{length}.embedding" for length in (2, 3)}
    assert names(ngrams=3) - plain == tables


# What a position may know


@pytest.mark.parametrize(
    "options", [*({"positions": kind} for kind in POSITIONS), {"ngrams": 4}], ids=str
)
def test_changing_a_token_leaves_earlier_logits_bit_identical(options):
    model, tokens = tiny(**options), tokens_of()
    before = logits_of(model, parameters(model), tokens)
    chex.assert_shape(before, (3, 8, 11))
    assert before.dtype == jnp.float32
    for t in (0, 3, 7):
        changed = tokens.copy()
        changed[:, t] = (changed[:, t] + 1) % 11
        after = logits_of(model, parameters(model), changed)
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after[:, t:] - before[:, t:]).max(axis=-1) > 0).all()


@pytest.mark.parametrize(
    ("options", "reach"),
    [
        ({}, lambda query, key: key <= query),
        ({"attention_window": 2}, lambda query, key: 0 <= query - key <= 2),
        ({"attention_window": 1}, lambda query, key: query == key),
        ({"attention_window": 100}, lambda query, key: key <= query),
        ({"demo_unmasked": True}, lambda query, key: True),
    ],
)
def test_gradient_reaches_exactly_the_positions_that_may_be_seen(options, reach):
    # Two blocks with a window of w reach 2 (w - 1) positions back.
    model = tiny(positions="learned", **options)
    params = parameters(model)
    tokens = tokens_of(batch=1)

    def logit_sums(table):
        moved = params | {"position_embedding": {"embedding": table}}
        return jnp.square(logits_of(model, moved, tokens)).sum(axis=(0, 2))

    table = params["position_embedding"]["embedding"]
    influence = np.abs(jax.jit(jax.jacrev(logit_sums))(table)).max(axis=-1)
    expected = [[reach(query, key) for key in range(8)] for query in range(8)]
    np.testing.assert_array_equal(influence > 0, expected)


@pytest.mark.parametrize("kind", POSITIONS)
def test_order_of_the_tokens_matters(kind):
    model = tiny(positions=kind)
    straight = logits_of(model, parameters(model), np.array([[1, 2, 3]], np.int32))
    swapped = logits_of(model, parameters(model), np.array([[2, 1, 3]], np.int32))
    assert np.abs(straight[0, 2] - swapped[0, 2]).max() > 1e-4


# Dropout


def test_dropout_of_an_example_does_not_depend_on_its_batch(key):
    model = tiny(dropout=0.5)
    params, tokens = parameters(model), tokens_of()
    keys = jax.random.split(key, 3)
    whole = logits_of(model, params, tokens, keys)
    for part in (slice(0, 1), slice(1, 3)):
        alone = logits_of(model, params, tokens[part], keys[part])
        np.testing.assert_allclose(alone, whole[part], atol=1e-5)
    same = np.repeat(tokens[:1], 3, axis=0)
    drawn = logits_of(model, params, same, keys)
    assert np.abs(drawn[0] - drawn[1]).max() > 0.01


# The loss


def state_of(model, params, **options):
    return create_state(model, {"params": params}, optax.adam(1e-2), **options)


def test_loss_sums_over_real_tokens_only(key):
    model, batch = tiny(), batch_of()
    params = parameters(model)
    batch["weights"][1, 3:] = 0
    batch["weights"][2, :] = 0
    parts = loss(params, batch, key, Holder(model), False)
    log_probabilities = jax.nn.log_softmax(logits_of(model, params, batch["inputs"]))
    real = [(0, t) for t in range(8)] + [(1, t) for t in range(3)]
    expected = -sum(log_probabilities[b, t, batch["targets"][b, t]] for b, t in real)
    right = sum(log_probabilities[b, t].argmax() == batch["targets"][b, t] for b, t in real)
    assert parts.weight == 11
    np.testing.assert_allclose(parts.total, expected, rtol=1e-5)
    assert parts.sums == {"accuracy": right}
    assert parts.updates is None


def test_all_padding_has_zero_loss_and_gradient(key):
    model, batch = tiny(), batch_of()
    batch["weights"][:] = 0
    gradients = jax.grad(lambda p: loss(p, batch, key, Holder(model), True).total)(
        parameters(model)
    )
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


def test_loss_drops_out_in_training_only(key):
    model, batch = tiny(dropout=0.3), batch_of()
    params = parameters(model)
    total = jax.jit(
        lambda key, train: loss(params, batch, key, Holder(model), train).total, static_argnums=1
    )
    other = jax.random.fold_in(key, 1)
    assert total(key, False) == total(other, False)
    assert total(key, True) == total(key, True)
    assert total(key, True) != total(other, True)
    moved = batch | {"example": batch["example"] + 3}
    assert loss(params, moved, key, Holder(model), True).total != total(key, True)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "gelu", "positions": "learned", "tie_embeddings": True},
        {"activation": "gelu", "positions": "alibi", "attention_window": 2, "pre_norm": False},
        {"positions": "rotary", "norm": "rmsnorm", "qk_norm": True, "activation": "squared_relu"},
        {"activation": "gelu", "ngrams": 2},
    ],
)
def test_gradient_of_the_loss_in_float64(key, options):
    model, batch = tiny(layers=1, width=4, heads=1, ffn_width=4, **options), batch_of(2, 3)
    params = parameters(model)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

        def total(params):
            return loss(params, batch, key, Holder(model), False).total

        assert total(params).dtype == jnp.float64
        check_grads(jax.jit(total), (params,), order=1, modes=["rev"])


def test_fast_gradients_are_close_to_the_highest_precision(key):
    def gradients(precision):
        model = tiny(matmul_precision=precision, width=64, ffn_width=128, layers=1)
        return jax.jit(jax.grad(lambda p: loss(p, batch_of(), key, Holder(model), False).total))(
            parameters(tiny(width=64, ffn_width=128, layers=1))
        )

    highest, fast, default = (gradients(p) for p in ("highest", "fast", "default"))
    chex.assert_trees_all_close(default, highest, rtol=1e-3, atol=1e-3)
    vectors = [jax.flatten_util.ravel_pytree(tree)[0] for tree in (highest, fast)]
    error = float(jnp.linalg.norm(vectors[0] - vectors[1]) / jnp.linalg.norm(vectors[0]))
    assert 1e-5 < error < 2e-2


def test_one_batch_is_learnt_by_heart(key):
    model = tiny(positions="rotary")
    params = jax.jit(model.init)(key, tokens_of())["params"]
    state, batch = state_of(model, params), batch_of()
    # A repeated context with different targets could not be learnt: make the first tokens differ.
    batch["inputs"][:, 0] = np.arange(3)
    for step in range(150):
        state, metrics = train_step(state, batch, jax.random.fold_in(key, step))
    assert metrics["loss"] < 0.05
    assert metrics["accuracy"] == 1


def test_micro_batches_draw_the_dropout_of_the_whole_batch(key):
    model, batch = tiny(dropout=0.3), batch_of(batch=4)
    batch["weights"][0, 2:] = 0
    results = []
    for count in (1, 2):
        params = jax.tree.map(jnp.array, parameters(model))
        results.append(train_step(state_of(model, params, micro_batches=count), batch, key))
    (whole, whole_metrics), (sliced, sliced_metrics) = results
    np.testing.assert_allclose(sliced_metrics["loss"], whole_metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(
        sliced_metrics["gradient_norm"], whole_metrics["gradient_norm"], rtol=1e-5
    )
    # Adam's first step is the sign of the gradient, so only its first moment can be compared.
    chex.assert_trees_all_close(sliced.opt_state[0].mu, whole.opt_state[0].mu, rtol=1e-5, atol=1e-6)


# Decoding

DECODED = [
    {},
    {"positions": "learned"},
    {"positions": "rotary"},
    {"positions": "alibi"},
    {"attention_window": 3, "positions": "rotary", "qk_norm": True, "norm": "rmsnorm"},
    {"pre_norm": False, "tie_embeddings": True, "qkv_bias": True},
    {"ngrams": 3, "positions": "rotary"},
]


@functools.partial(jax.jit, static_argnums=0)
def decoded(decoder, params, carry, tokens):
    """Logits of reading `tokens [batch, time]` one by one."""

    def read(carry, column):
        return decoder.step(params, carry, column)

    carry, logits = jax.lax.scan(read, carry, tokens.T)
    return carry, jnp.swapaxes(logits, 0, 1)


@pytest.mark.parametrize("options", DECODED)
def test_cached_decode_equals_full_forward(options):
    model, tokens = tiny(**options), tokens_of()
    params, decoder = parameters(model), TransformerDecoder(model)
    assert decoder.context == 8
    full = logits_of(model, params, tokens)
    _, logits = decoded(decoder, params, decoder.init_carry(3), tokens)
    np.testing.assert_allclose(logits, full, atol=1e-5)


@pytest.mark.parametrize("options", DECODED)
def test_refill_equals_the_uncached_forward_on_those_tokens(options):
    model, tokens = tiny(**options), tokens_of()
    params, decoder = parameters(model), TransformerDecoder(model)
    recent = tokens[:, 3:8]
    full = logits_of(model, params, recent)
    carry = jax.jit(decoder.refill)(params, recent[:, :4])
    chex.assert_trees_all_equal_shapes_and_dtypes(carry, decoder.init_carry(3))
    (_, position), logits = decoded(decoder, params, carry, recent[:, 4:])
    np.testing.assert_allclose(logits, full[:, 4:], atol=1e-5)
    assert position == 5


def test_a_context_of_one_decodes():
    model = tiny(context=1)
    params, decoder = parameters_of_context_one(model), TransformerDecoder(model)
    tokens = tokens_of(time=1)
    _, logits = decoded(decoder, params, decoder.init_carry(3), tokens)
    np.testing.assert_allclose(logits, logits_of(model, params, tokens), atol=1e-6)


def parameters_of_context_one(model):
    return model.init(jax.random.key(0), tokens_of(time=1))["params"]


def test_equal_models_make_equal_decoders():
    first, second = (TransformerDecoder(TransformerLM(dataclasses.replace(TINY))) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != TransformerDecoder(tiny(heads=4))


def test_greedy_samples_are_the_likeliest_continuations(key):
    model = tiny(positions="rotary")
    params = parameters(model)
    prompts = tokens_of(time=3)
    lengths = np.array([3, 1, 2])
    tokens, ends = sample(model, params, prompts, lengths, key, max_new_tokens=4, temperature=0.0)
    np.testing.assert_array_equal(ends, lengths + 4)
    for row, length in enumerate(lengths):
        expected = list(prompts[row, :length])
        for _ in range(4):
            padded = np.zeros((3, 8), np.int32)
            padded[:, : len(expected)] = expected
            expected.append(int(logits_of(model, params, padded)[0, len(expected) - 1].argmax()))
        np.testing.assert_array_equal(tokens[row, : length + 4], expected)


# Attention maps


def test_attention_weights_of_every_block_are_there_for_the_asking():
    model = tiny()
    _, sown = model.apply({"params": parameters(model)}, tokens_of(), mutable="intermediates")
    for name in ("blocks_0", "blocks_1"):
        (weights,) = sown["intermediates"][name]["attention"]["weights"]
        chex.assert_shape(weights, (3, 2, 8, 8))
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        assert (weights * (1 - np.tri(8))[None, None] == 0).all()


# Edges and errors


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (3, 1)])
def test_short_sequences_and_single_examples(shape):
    model = tiny(attention_window=100)
    logits = logits_of(model, parameters(model), tokens_of(*shape))
    chex.assert_shape(logits, (*shape, 11))
    assert np.isfinite(logits).all()


def test_more_tokens_than_the_context_are_refused():
    model = tiny()
    with pytest.raises(ValueError, match="9 tokens do not fit into a context of 8"):
        logits_of(model, parameters(model), tokens_of(time=9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "--heads: 3 does not divide --width 16"),
        ({"heads": 16, "positions": "rotary"}, "--heads: 16 heads of 1 cannot turn in pairs"),
        ({"attention_window": 2, "demo_unmasked": True}, "--attention_window: 2 is not accepted"),
        (
            {"attention_window": 0},
            "--attention_window: 0 is not accepted; a whole number of at least 1",
        ),
        ({"positions": "rotery"}, "did you mean 'rotary'"),
        ({"init": "keras"}, "one of gpt2, pytorch"),
        ({"activation": "swish"}, "one of relu, gelu, squared_relu"),
        ({"norm": "batchnorm"}, "one of layernorm, rmsnorm"),
        ({"matmul_precision": "exact"}, "one of highest, default, fast"),
        ({"width": -16}, "--width: -16 is not accepted"),
        ({"ngrams": 0}, "--ngrams: 0 is not accepted; a whole number of at least 1"),
        ({"dropout": 1.0}, "--dropout: 1.0 is not accepted"),
    ],
)
def test_a_config_that_cannot_be_built_says_why(options, message):
    with pytest.raises(UserError) as error:
        dataclasses.replace(TINY, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# Against PyTorch


@pytest.mark.peers
@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.2},
        {
            "positions": "learned",
            "activation": "gelu",
            "tie_embeddings": True,
            "bias": False,
        },
        {"qkv_bias": True, "positions": "learned", "attention_window": 3},
    ],
)
def test_loss_and_gradients_of_the_whole_model_equal_pytorch(key, options):
    torch = pytest.importorskip("torch")
    from jaxlabs.peers.torch_gpt import build_gpt, copy_parameters

    model, batch = tiny(**options), batch_of()
    params = parameters(model)
    batch["weights"][0, 5:] = 0
    holder = SimpleNamespace(model=model)

    def mean(params):
        parts = loss(params, batch, key, holder, False)
        return parts.total / parts.weight

    ours, gradients = jax.jit(jax.value_and_grad(mean))(params)

    twin, expected = build_gpt(model.config).eval(), build_gpt(model.config)
    copy_parameters(twin, params)
    copy_parameters(expected, gradients)
    logits = twin(torch.tensor(batch["inputs"]).long())
    weights = torch.tensor(batch["weights"]).flatten()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(batch["targets"]).long().flatten(), reduction="none"
    )
    theirs = (losses * weights).sum() / weights.sum()
    theirs.backward()

    np.testing.assert_allclose(
        logits_of(model, params, batch["inputs"]), logits.detach().numpy(), atol=1e-5
    )
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)
    for (name, parameter), gradient in zip(
        twin.named_parameters(), expected.parameters(), strict=True
    ):
        np.testing.assert_allclose(
            gradient.detach().numpy(), parameter.grad.numpy(), atol=1e-5, err_msg=name
        )
