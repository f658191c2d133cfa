"""The sequence models `sequence_classifier` and `seq2seq`."""

import functools
import math

import chex
import jax
import numpy as np
import optax
import pytest

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.decoding.generate import generate
from jaxlabs.models import seq2seq, sequence_classifier
from jaxlabs.models.seq2seq import END, START, Seq2Seq, Seq2SeqStepper, translate
from jaxlabs.models.sequence_classifier import BACKBONES, SequenceClassifier, SequenceConfig
from jaxlabs.training.state import count_parameters, create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LABELS = ("<pad>", "<sos>", "<eos>", "B-PER", "I-PER", "O")
SOURCE_VOCAB, TARGET_VOCAB, SOURCE_TIME, TARGET_TIME = 9, 8, 6, 5
# A full row, a short one, a single <eos>, and padding alone.
INPUTS = np.array([[3, 4, 5, 6, 7, 2], [8, 3, 2, 0, 0, 0], [2, 0, 0, 0, 0, 0], [0] * 6], np.int32)
TRANSLATED = np.array([[3, 4, 5, 6, 2], [7, 2, 0, 0, 0], [2, 0, 0, 0, 0], [0] * 5], np.int32)


def config_of(backbone, **options):
    sizes = {"embed_dim": 8, "num_layers": 1, "num_heads": 2, "mlp_dim": 12} | options
    return SequenceConfig(backbone=backbone, **sizes)


def labeler(backbone, per_token=True, bidirectional=True, **options):
    return SequenceClassifier(
        config_of(backbone, **options), SOURCE_VOCAB, LABELS, SOURCE_TIME, per_token, bidirectional
    )


def translator(backbone, **options):
    return Seq2Seq(
        config_of(backbone, **options), SOURCE_VOCAB, TARGET_VOCAB, SOURCE_TIME, TARGET_TIME
    )


@functools.cache
def parameters(model):
    inputs = (INPUTS, TRANSLATED) if isinstance(model, Seq2Seq) else (INPUTS,)
    return jax.device_get(jax.jit(model.init)(jax.random.key(0), *inputs)["params"])


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, *inputs):
    return model.apply({"params": params}, *inputs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def loss_output(loss, model, params, batch):
    return loss(model, {"params": params}, batch, jax.random.key(0), train=False)


def batch_of(targets):
    return {
        "inputs": INPUTS,
        "targets": targets,
        "weights": (targets != 0).astype(np.float32),
        "example_index": np.arange(4, dtype=np.int32),
    }


# Labels


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
@pytest.mark.parametrize("per_token", [True, False], ids=["per_token", "many_to_one"])
def test_padding_does_not_change_the_logits_and_fully_padded_rows_are_finite(backbone, per_token):
    model = labeler(backbone, per_token)
    params = parameters(model)
    logits = logits_of(model, params, INPUTS)
    chex.assert_shape(logits, (4, SOURCE_TIME if per_token else 1, len(LABELS)))
    assert np.isfinite(logits).all()
    short = logits_of(model, params, INPUTS[1:3, :3])
    for row, length in enumerate([3, 1]):
        ours = short[row, : length if per_token else 1]
        np.testing.assert_allclose(ours, logits[1 + row, : len(ours)], atol=1e-5)


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_later_words_are_visible_only_if_bidirectional(backbone, bidirectional):
    model = labeler(backbone, bidirectional=bidirectional)
    params, other = parameters(model), INPUTS.copy()
    other[0, 4] = 3
    outputs = [np.asarray(logits_of(model, params, x)[0, :4]) for x in (INPUTS, other)]
    assert np.allclose(*outputs, atol=1e-6) != bidirectional


def test_order_matters_to_every_backbone():
    for backbone in BACKBONES:
        model = labeler(backbone, per_token=False)
        swapped = INPUTS[:1, [1, 0, 2, 3, 4, 5]]
        logits = [logits_of(model, parameters(model), x) for x in (INPUTS[:1], swapped)]
        assert not np.allclose(*logits, atol=1e-4), backbone


def test_number_of_parameters_is_that_of_the_layers():
    count = count_parameters(parameters(labeler("lstm", embed_dim=8)))
    encoder = SOURCE_VOCAB * 8 + 2 * (4 * 8 * (8 + 8) + 4 * 8)
    assert count == encoder + (16 + 1) * len(LABELS)


def test_metric_sums_hold_span_counts_for_the_f1():
    model = labeler("gru")
    targets = np.array([[3, 4, 5, 3, 5], [3, 5, 0, 0, 0], [0] * 5, [0] * 5], np.int32)
    output = loss_output(sequence_classifier.loss, model, parameters(model), batch_of(targets))
    assert float(output.weight_sum) == 7
    assert int(output.metric_sums["spans_gold"]) == 3
    metrics = {name: float(value / 7) for name, value in output.metric_sums.items()}
    logits = logits_of(model, parameters(model), INPUTS)[:, :5]
    correct = (np.argmax(logits, -1) == targets)[targets > 0]
    assert metrics["accuracy"] == pytest.approx(correct.mean())
    assert 0 <= sequence_classifier.derived_metrics(metrics)["span_f1"] <= 1
    assert sequence_classifier.derived_metrics({"accuracy": 1.0}) == {}


def test_invalid_sizes_are_refused_with_a_message():
    with pytest.raises(UserError, match="num_heads: 3 does not divide `embed_dim` 8"):
        config_of("transformer", num_heads=3)
    with pytest.raises(UserError, match="num_heads: 8 heads of 1 are not accepted"):
        config_of("transformer", num_heads=8)
    assert config_of("lstm", num_heads=3).num_heads == 3  # unused by recurrent networks
    with pytest.raises(UserError, match=r"backbone: 'lsmt' is not accepted.*did you mean 'lstm'"):
        config_of("lsmt")
    for backbone in ("gru", "transformer"):
        with pytest.raises(ValueError, match="of length 0"):
            labeler(backbone).init(jax.random.key(0), INPUTS[:, :0])


# Translation


@pytest.mark.parametrize("backbone", ["lstm", "transformer"])
def test_step_by_step_decoding_equals_teacher_forcing(backbone):
    """Greedily decoded tokens are the argmax under teacher forcing with those tokens."""
    model = translator(backbone, num_layers=2)
    params = jax.tree.map(
        lambda leaf: 3 * leaf, parameters(model)
    )  # larger, for more varied predictions
    beams = jax.jit(lambda params: translate(model, params, INPUTS, beam_size=1))(params)
    tokens, lengths = np.asarray(beams.tokens[:, 0]), np.asarray(beams.lengths[:, 0])
    logits = np.array(logits_of(model, params, INPUTS, tokens))
    logits[..., :END] = -np.inf  # padding and <sos> are never generated
    scores = np.asarray(jax.nn.log_softmax(logits))
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(tokens[row, :length], logits[row, :length].argmax(-1))
        chosen = scores[row, np.arange(length), tokens[row, :length]]
        assert float(beams.scores[row, 0]) == pytest.approx(chosen.sum(), abs=1e-4)
    carry = jax.jit(lambda params: model.apply({"params": params}, INPUTS, method="init_carry"))(
        params
    )
    generated, _ = generate(
        Seq2SeqStepper(model),
        params,
        np.full((4, 1), START),
        np.ones(4),
        jax.random.key(0),
        max_new_tokens=TARGET_TIME,
        temperature=0.0,
        stop_token=END,
        carry=carry,
    )
    np.testing.assert_array_equal(generated[:, 1:], tokens)


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_logits_depend_on_the_source_and_previous_words_only(backbone):
    model = translator(backbone)
    params = parameters(model)
    logits = logits_of(model, params, INPUTS, TRANSLATED)
    chex.assert_shape(logits, (4, TARGET_TIME, TARGET_VOCAB))
    assert np.isfinite(logits).all()
    later = TRANSLATED.copy()
    later[0, 2] = 7
    changed = logits_of(model, params, INPUTS, later)
    np.testing.assert_allclose(changed[0, :3], logits[0, :3], atol=1e-6)
    assert not np.allclose(changed[0, 3], logits[0, 3], atol=1e-4)
    source = INPUTS.copy()
    source[1, 0] = 4
    changed = logits_of(model, params, source, TRANSLATED)
    assert not np.allclose(changed[1], logits[1], atol=1e-4)
    np.testing.assert_allclose(changed[0], logits[0], atol=1e-6)
    truncated = logits_of(model, params, INPUTS[:3, :5][1:], TRANSLATED[1:3])
    np.testing.assert_allclose(truncated[:2], logits[1:3], atol=1e-5)


def test_attention_of_the_rnn_decoder_equals_numpy():
    model = translator("gru")
    params = parameters(model)
    logits, kept = model.apply(
        {"params": params},
        INPUTS,
        TRANSLATED,
        mutable=["intermediates"],
        capture_intermediates=True,
    )
    inner = kept["intermediates"]
    memory = np.asarray(inner["memory"]["__call__"][0], np.float64)
    states = np.asarray(inner["decoder"]["recurrent"]["__call__"][0][0], np.float64)
    decoder = params["decoder"]
    scores = np.einsum("btw,wv,bsv->bts", states, decoder["score"]["kernel"], memory)
    scores = np.where((INPUTS != 0)[:, None], scores, -1e9)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    joined = np.concatenate([weights @ memory, states], -1) @ decoder["joined"]["kernel"]
    joined = np.tanh(joined + decoder["joined"]["bias"])
    expected = joined @ decoder["head"]["kernel"] + decoder["head"]["bias"]
    np.testing.assert_allclose(logits[:3], expected[:3], atol=1e-5)  # the fourth source is empty


def test_exact_match_counts_fully_correct_sentences():
    model = translator("gru")
    params = parameters(model)
    predicted = np.asarray(logits_of(model, params, INPUTS, TRANSLATED).argmax(-1))
    targets = TRANSLATED.copy()
    targets[1, :1] = predicted[1, 0]  # a correct sentence of one word
    batch = batch_of(targets) | {"weights": np.float32(targets != 0)}
    batch["weights"][1, 1:] = 0
    output = loss_output(seq2seq.loss, model, params, batch)
    assert int(output.metric_sums["sentences"]) == 3
    correct = [(predicted[i] == targets[i])[batch["weights"][i] > 0].all() for i in range(3)]
    assert int(output.metric_sums["sentences_correct"]) == sum(correct) >= 1
    metrics = {name: float(value) for name, value in output.metric_sums.items()}
    assert seq2seq.derived_metrics(metrics)["exact_match"] == pytest.approx(sum(correct) / 3)


# Both


@pytest.fixture(scope="module")
def new_state():
    def state_of(model, tx, **options):
        params = jax.tree.map(np.array, parameters(model))
        return create_state(model, {"params": params}, tx, **options)

    return state_of


def test_initial_losses_are_near_log_of_the_classes():
    for model, module, classes in [
        (labeler("gru"), sequence_classifier, len(LABELS)),
        (translator("gru"), seq2seq, TARGET_VOCAB),
    ]:
        batch = batch_of(np.minimum(TRANSLATED, 5))
        output = loss_output(module.loss, model, parameters(model), batch)
        assert float(output.loss_sum / output.weight_sum) == pytest.approx(
            math.log(classes), abs=0.35
        )


def test_one_batch_is_overfit(new_state):
    model = translator("gru")
    state = new_state(model, optax.adam(3e-2))
    for step in range(60):
        state, metrics = seq2seq.train_step(state, batch_of(TRANSLATED), keys.stream(step, "step"))
    assert float(metrics["loss"]) < 0.05


def test_a_step_over_four_devices_equals_one(new_state):
    model = translator("gru", dropout=0.3)
    states = [new_state(model, optax.sgd(1.0)) for _ in range(2)]
    batch, key = batch_of(TRANSLATED), keys.stream(3, "step")
    one, metrics = seq2seq.train_step(states[0], batch, key)
    split = jax.tree.map(lambda leaf: leaf.reshape(4, 1, *leaf.shape[1:]), batch)
    mapped = jax.pmap(
        functools.partial(seq2seq.train_step, axis_name="batch"),
        axis_name="batch",
        in_axes=(None, 0, None),
        devices=jax.devices()[:4],
    )
    four, theirs = mapped(states[1], split, key)
    np.testing.assert_allclose(theirs["loss"], np.tile(metrics["loss"], 4), rtol=1e-5)
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[0], four.params), one.params, atol=1e-5
    )
