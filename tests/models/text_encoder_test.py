import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.config import UserError
from jaxlabs.layers.positions import sinusoidal_embedding
from jaxlabs.models.text_encoder import (
    TextClassifier,
    TextClassifierConfig,
    TextEncoder,
    TextEncoderConfig,
    loss,
    predict,
    train_step,
)
from jaxlabs.training.gradient_check import check
from jaxlabs.training.state import count_parameters, create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TINY = TextClassifierConfig(
    vocab_size=11,
    context_length=6,
    embed_dim=8,
    num_layers=1,
    num_heads=2,
    mlp_dim=12,
    hidden_size=10,
)
WIDE = dataclasses.replace(TINY, ngram_hash_buckets=40)


# A full sentence, a padded one, a single word, padding alone.
TOKENS = np.array(
    [[2, 3, 4, 5, 6, 7], [8, 9, 2, 0, 0, 0], [4, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], np.int32
)


def batch_of():
    return {
        "inputs": TOKENS,
        "labels": np.array([0, 1, 2, 1], np.int32),
        "weights": np.ones(4, np.float32),
        "example_index": np.arange(4, dtype=np.int32),
    }


@functools.cache
def parameters(model):
    """Perturbed initial parameters: biases, scales and wide logits are neither 0 nor 1."""
    params = jax.jit(model.init)(jax.random.key(0), TOKENS)["params"]

    def perturbed(leaf):
        return np.asarray(leaf) + 0.1 * np.sin(np.arange(leaf.size, dtype=np.float32)).reshape(
            leaf.shape
        )

    return jax.tree.map(perturbed, params)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, tokens, dropout_keys=None):
    return model.apply({"params": params}, tokens, dropout_keys=dropout_keys)


@functools.partial(jax.jit, static_argnums=(0, 3))
def loss_output(model, params, batch, train):
    return loss(model, {"params": params}, batch, jax.random.key(0), train=train)


def test_reference_has_the_published_number_of_parameters():
    config = TextClassifierConfig(vocab_size=5755)
    shapes = jax.eval_shape(TextClassifier(config).init, jax.random.key(0), TOKENS)["params"]
    assert count_parameters(shapes) == 576_467
    assert count_parameters(shapes["encoder"]["embedding"]) == 368_320
    assert count_parameters(shapes["encoder"]["blocks_0"]) == 16_576 + 33_216
    assert count_parameters(shapes["hidden"]) + count_parameters(shapes["head"]) == 6_803


def test_initialization_of_linear_layers_equals_pytorch():
    config = TextClassifierConfig(vocab_size=500)
    params = jax.jit(TextClassifier(config).init)(jax.random.key(0), TOKENS)["params"]
    encoder = params["encoder"]
    np.testing.assert_allclose(encoder["embedding"]["embedding"].std(), 1, rtol=0.05)
    np.testing.assert_allclose(encoder["position_embedding"]["embedding"].std(), 1, rtol=0.05)
    block = encoder["blocks_0"]
    for leaf, fan_in in [
        (params["hidden"]["kernel"], 64),
        (params["hidden"]["bias"], 64),
        (block["attention"]["query_kernel"], 64),
        (block["attention"]["out"]["kernel"], 64),
        (block["ffn"]["up_proj"]["bias"], 64),
        (block["ffn"]["down_proj"]["kernel"], 256),
        (block["ffn"]["down_proj"]["bias"], 256),
    ]:
        # Uniform in +-1 / sqrt(fan_in): the maximum is just below the limit.
        limit = fan_in**-0.5
        assert 0.85 * limit < np.abs(leaf).max() <= limit
        np.testing.assert_allclose(leaf.std(), limit / 3**0.5, rtol=0.2)


def test_initial_loss_is_near_log_3():
    model = TextClassifier(TextClassifierConfig(vocab_size=500, context_length=16, num_layers=2))
    tokens = np.random.default_rng(0).integers(2, 500, (64, 16), np.int32)
    batch = {
        "inputs": tokens,
        "labels": np.arange(64, dtype=np.int32) % 3,
        "weights": np.ones(64, np.float32),
        "example_index": np.arange(64, dtype=np.int32),
    }

    @jax.jit
    def initial_loss(key):
        return loss(model, model.init(key, tokens), batch, key, train=False).loss_sum / 64

    for seed in range(3):
        assert float(initial_loss(jax.random.key(seed))) == pytest.approx(math.log(3), rel=0.03)


@pytest.mark.parametrize("config", [TINY, WIDE], ids=["plain", "wide"])
def test_padding_does_not_change_the_logits(config):
    model = TextClassifier(config)
    params = parameters(model)
    padded = logits_of(model, params, TOKENS)
    assert padded.shape == (4, 3)
    assert padded.dtype == jnp.float32
    assert np.isfinite(padded).all()
    for row, length in enumerate([6, 3, 1]):
        alone = logits_of(model, params, TOKENS[row : row + 1, :length])
        np.testing.assert_allclose(alone[0], padded[row], atol=1e-5)
    # The embedding of padding does not matter either.
    moved = params["encoder"]["embedding"]["embedding"] + 5.0 * (np.arange(11) == 0)[:, None]
    params = params | {"encoder": params["encoder"] | {"embedding": {"embedding": moved}}}
    np.testing.assert_array_equal(logits_of(model, params, TOKENS), padded)


def test_logits_of_a_fully_padded_sentence_are_those_of_the_zero_vector():
    model = TextClassifier(TINY)
    params = parameters(model)
    hidden = np.maximum(params["hidden"]["bias"], 0)
    expected = hidden @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(logits_of(model, params, TOKENS)[3], expected, atol=1e-5)

    def total(params):
        return loss(model, {"params": params}, batch_of(), jax.random.key(0), train=True).loss_sum

    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(params))
    )


def test_every_valid_token_attends_to_all_valid_tokens_only():
    encoder = TextEncoder(TINY)
    params = parameters(encoder)

    def vectors(table):
        moved = params | {"embedding": {"embedding": table}}
        return jnp.square(encoder.apply({"params": moved}, TOKENS[1:2])).sum(axis=-1)[0]

    table = params["embedding"]["embedding"]
    influence = np.abs(jax.jit(jax.jacrev(vectors))(table)).max(axis=-1)  # [position, word]
    assert (influence[:3][:, [8, 9, 2]] > 0).all()
    assert (influence[:3, 0] == 0).all()


@pytest.mark.parametrize("pre_norm", [True, False])
def test_encoder_returns_contextual_vectors(pre_norm):
    sizes = {
        "vocab_size": 11,
        "context_length": 6,
        "embed_dim": 8,
        "num_layers": 1,
        "num_heads": 2,
    }
    config = TextEncoderConfig(**sizes, positions="sinusoidal", pre_norm=pre_norm)
    encoder = TextEncoder(config)
    params = jax.jit(encoder.init)(jax.random.key(0), TOKENS)["params"]
    vectors = np.asarray(logits_of(encoder, params, TOKENS))
    assert vectors.shape == (4, 6, 8)
    assert ("final_norm" in params) == pre_norm
    assert "position_embedding" not in params
    # Both forms end with a layer norm with scale 1.
    np.testing.assert_allclose(vectors[0].mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(vectors[0].std(axis=-1), 1, atol=1e-3)
    # The same word at two positions: only the sinusoids differ.
    twice = np.asarray(logits_of(encoder, params, np.array([[4, 4]], np.int32)))[0]
    assert np.abs(twice[0] - twice[1]).max() > 0.01
    assert sinusoidal_embedding(2, 8).shape == (2, 8)


def test_sentences_longer_than_the_context_are_an_error():
    with pytest.raises(ValueError, match="7 tokens do not fit into a context of 6"):
        TextClassifier(TINY).init(jax.random.key(0), np.ones((1, 7), np.int32))
    with pytest.raises(UserError, match="num_heads: 3 does not divide `embed_dim` 8"):
        dataclasses.replace(TINY, num_heads=3)
    with pytest.raises(UserError, match="11 is too few for the data; at least 12"):
        TINY.with_vocabulary(12)
    assert TINY.with_vocabulary(5).vocab_size == 11


def test_word_dropout_replaces_words_by_unknown():
    model = TextClassifier(dataclasses.replace(TINY, word_dropout=0.99))
    params = parameters(model)
    keys = jax.random.split(jax.random.key(3), 4)
    unknown = np.where(TOKENS > 0, 1, 0)
    expected = logits_of(model, params, unknown)
    dropped = logits_of(model, params, TOKENS, keys)
    close = np.isclose(dropped, expected, atol=1e-5).all(axis=1)
    assert close.sum() >= 3  # 10 words at 1 %: few are kept
    assert np.abs(logits_of(model, params, TOKENS) - expected)[:3].max() > 1e-3


def test_loss_uses_weights_and_smooths_labels_in_training_only():
    model = TextClassifier(dataclasses.replace(TINY, label_smoothing=0.3))
    params, batch = parameters(model), batch_of()
    batch["weights"] = np.array([1, 1, 0, 0], np.float32)
    logs = np.asarray(jax.nn.log_softmax(logits_of(model, params, TOKENS)))
    plain = -(logs[0, 0] + logs[1, 1])
    uniform = -(logs[0].mean() + logs[1].mean())
    output = loss_output(model, params, batch, False)
    assert float(output.loss_sum) == pytest.approx(plain, rel=1e-5)
    assert float(output.weight_sum) == 2
    assert float(output.metric_sums["accuracy"]) == (logs[:2].argmax(axis=1) == [0, 1]).sum()
    output = loss_output(model, params, batch, True)
    assert float(output.loss_sum) == pytest.approx(0.7 * plain + 0.3 * uniform, rel=1e-5)


def test_gradient_of_the_loss_in_float64():
    # GELU, since ReLU is not differentiable at 0.
    config = dataclasses.replace(WIDE, embed_dim=4, mlp_dim=4, hidden_size=4, activation="gelu")
    model, batch = TextClassifier(config), batch_of()

    def total(params):
        return loss(model, {"params": params}, batch, jax.random.key(0), train=False).loss_sum

    assert check(total, parameters(model)).worst.relative_difference < 1e-6


def test_one_batch_is_overfit():
    model, batch = TextClassifier(WIDE), batch_of()
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    state = create_state(model, variables, optax.adam(1e-2))
    for step in range(100):
        state, metrics = train_step(state, batch, jax.random.key(step))
    assert float(metrics["loss"]) < 0.02
    assert float(metrics["accuracy"]) == 1
    probabilities = jax.jit(functools.partial(predict, model))(state.params, TOKENS)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
    assert probabilities.argmax(axis=-1).tolist() == batch["labels"].tolist()


def test_a_step_over_four_devices_equals_one():
    config = dataclasses.replace(WIDE, dropout=0.3, word_dropout=0.3, head_dropout=0.3)
    model, batch, key = TextClassifier(config), batch_of(), jax.random.key(5)
    batch["weights"][1] = 0

    def state():
        params = jax.tree.map(jnp.array, parameters(model))
        return create_state(model, {"params": params}, optax.sgd(1.0))

    one, metrics = train_step(state(), batch, key)
    step = functools.partial(train_step, axis_name="batch")
    mapped = jax.pmap(step, "batch", in_axes=(None, 0, None), devices=jax.devices()[:4])
    four, spread = mapped(state(), {name: leaf[:, None] for name, leaf in batch.items()}, key)
    assert float(spread["loss"][0]) == pytest.approx(float(metrics["loss"]), rel=1e-6)
    for ours, theirs in zip(*map(jax.tree.leaves, (one.params, four.params)), strict=True):
        np.testing.assert_allclose(theirs[3], ours, atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "pre_norm": False, "positions": "sinusoidal"}]
)
def test_logits_and_gradients_equal_pytorch(options, copy_parameters):
    torch = pytest.importorskip("torch")
    from jaxlabs.benchmark.peers import torch_models

    config = dataclasses.replace(TINY, matmul_precision="highest", **options)
    model = TextClassifier(config)
    params, tokens = parameters(model), TOKENS[:3]
    torch_classifier = torch_models.TextClassifier(config)
    copy_parameters(torch_classifier, params)
    token_ids = torch.from_numpy(tokens).long()
    np.testing.assert_allclose(
        logits_of(model, params, tokens), torch_classifier(token_ids).detach().numpy(), atol=1e-5
    )
    vectors = logits_of(TextEncoder(config), params["encoder"], tokens)
    theirs = torch_classifier.encode(token_ids).detach().numpy()
    np.testing.assert_allclose(vectors[tokens > 0], theirs[tokens > 0], atol=1e-5)

    batch = {name: leaf[:3] for name, leaf in batch_of().items()}

    def total(params):
        return loss(model, {"params": params}, batch, jax.random.key(0), train=False).loss_sum

    gradients = jax.jit(jax.grad(total))(params)
    labels = torch.from_numpy(batch["labels"]).long()
    torch.nn.functional.cross_entropy(
        torch_classifier(token_ids), labels, reduction="sum"
    ).backward()
    ours = torch_models.TextClassifier(config)
    copy_parameters(ours, gradients)
    for (name, gradient), parameter in zip(
        ours.named_parameters(), torch_classifier.parameters(), strict=True
    ):
        np.testing.assert_allclose(
            gradient.detach().numpy(), parameter.grad.numpy(), atol=1e-5, err_msg=name
        )
