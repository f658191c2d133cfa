"""The recurrent character model: loss, carried states and decoding."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.config import UserError
from jaxlabs.decoding.adapters import RecurrentStepper
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.models.char_rnn import (
    CharRNN,
    CharRNNConfig,
    initial_states,
    loss,
    sample,
    train_step,
)
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.gradient_check import check
from jaxlabs.training.state import count_parameters, create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TINY = CharRNNConfig(
    vocab_size=7,
    embed_dim=4,
    hidden_size=6,
    num_layers=2,
    bptt_length=5,
    matmul_precision="highest",
)


SGD = optax.sgd(0.1)


def tiny(**options):
    return CharRNN(dataclasses.replace(TINY, **options))


def batch_of(batch=4, time=5, seed=0, is_first=True):
    text = np.random.default_rng(seed).integers(0, 7, (batch, time + 1), np.int32)
    return {
        "inputs": text[:, :-1],
        "targets": text[:, 1:],
        "weights": np.ones((batch, time), np.float32),
        "example_index": np.arange(batch, dtype=np.int32),
        "is_first": np.full(batch, is_first),
    }


@functools.cache
def parameters(model):
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 1), np.int32))["params"]
    return jax.tree.map(np.asarray, params)


def state_of(model, tx=None, batch=4, **options):
    variables = {"params": jax.tree.map(jnp.array, parameters(model))}
    carry = jax.tree.map(jnp.copy, initial_states(model.config, batch))  # a step donates them
    return create_state(model, variables, tx or optax.sgd(1.0), carry=carry, **options)


def evaluated(model, batch):
    evaluate = jax.jit(lambda params: loss(model, {"params": params}, batch, None, train=False))
    return evaluate(parameters(model))


def test_reference_has_the_parameters_of_the_table():
    model = CharRNN(CharRNNConfig(vocab_size=65))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    embedding, head = 65 * 128, 256 * 65 + 65
    gru = (128 + 256) * 3 * 256 + 3 * 256 + 256
    assert count_parameters(shapes["params"]) == embedding + gru + head == 320_961


@pytest.mark.parametrize("cell", CELLS)
def test_initial_loss_is_near_log_of_the_vocabulary(cell):
    output = evaluated(tiny(cell=cell), batch_of())
    assert output.weight_sum == 20
    assert float(output.loss_sum / output.weight_sum) == pytest.approx(np.log(7), rel=0.15)


@pytest.mark.parametrize("cell", CELLS)
def test_chunked_evaluation_equals_the_loss_of_the_whole_sequence(cell):
    model, batch = tiny(cell=cell), batch_of(time=13)  # chunks of 5: the last one is padded
    batch["weights"][:, 11:] = 0
    logits, _ = model.apply({"params": parameters(model)}, batch["inputs"])
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
    output = evaluated(model, batch)
    np.testing.assert_allclose(output.loss_sum, (nats * batch["weights"]).sum(), rtol=1e-5)
    assert output.weight_sum == batch["weights"].sum()


def test_training_carries_states_and_resets_first_rows():
    model = tiny(cell="lstm")
    first, second = batch_of(seed=1), batch_of(seed=2, is_first=False)
    second["is_first"][1] = True
    state = state_of(model, optax.sgd(0.0))
    variables = {"params": parameters(model)}
    state, _ = train_step(state, first, jax.random.key(0))
    _, states = model.apply(variables, first["inputs"])
    chex.assert_trees_all_close(state.carry, states, atol=1e-6)
    state, metrics = train_step(state, second, jax.random.key(0))
    states = jax.tree.map(lambda leaf: leaf.at[1].set(0), states)
    logits, states = model.apply(variables, second["inputs"], states)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, second["targets"])
    np.testing.assert_allclose(metrics["loss"], nats.mean(), rtol=1e-5)
    chex.assert_trees_all_close(state.carry, states, atol=1e-6)


def test_windows_need_no_states():
    model = tiny(stateful=False)
    state, batch = state_of(model).replace(carry=None), batch_of()
    del batch["is_first"]
    state, metrics = train_step(state, batch, jax.random.key(0))
    assert state.carry is None
    output = evaluated(model, batch)
    np.testing.assert_allclose(metrics["loss"], output.loss_sum / output.weight_sum, rtol=1e-5)


def test_micro_batches_have_the_dropout_and_states_of_the_whole_batch():
    model, results = tiny(dropout=0.3), []
    for count in (1, 2):
        state = state_of(model, SGD, grad_accum_steps=count)
        for seed in range(2):
            batch = batch_of(seed=seed, is_first=seed == 0)
            state, metrics = train_step(state, batch, jax.random.key(seed))
        results.append((state.params, state.carry, metrics))
    chex.assert_trees_all_close(*results, rtol=1e-4, atol=1e-6)


def test_steps_over_four_devices_equal_one():
    model, results = tiny(dropout=0.3), []
    for count in (1, 4):
        placement = data_parallel(jax.devices()[:count])
        state = placement.replicate(state_of(model, SGD))
        for seed in range(2):
            batch = jax.device_put(
                batch_of(seed=seed, is_first=seed == 0), placement.batch_sharding
            )
            state, metrics = train_step(state, batch, jax.random.key(seed))
        results.append(jax.device_get((state.params, state.carry, metrics)))
    chex.assert_trees_all_close(*results, rtol=1e-4, atol=1e-6)


def test_one_batch_is_overfit():
    model, batch = tiny(hidden_size=24, num_layers=1), batch_of()
    batch["inputs"][:, 0] = np.arange(4)
    state = state_of(model, optax.adam(0.02))
    for step in range(150):
        state, metrics = train_step(state, batch, jax.random.key(step))
    assert metrics["loss"] < 0.05
    assert metrics["accuracy"] == 1


def test_gradients_equal_central_differences_in_float64():
    model, batch = tiny(num_layers=1), batch_of(batch=2, time=4)
    states = jax.tree.map(lambda leaf: leaf + 0.1, initial_states(model.config, 2))

    def mean(params, states):
        logits, _ = model.apply({"params": params}, batch["inputs"], states)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"]).mean()

    found = check(mean, parameters(model), states, max_entries=20, key=jax.random.key(1))
    assert found.worst.relative_difference < 1e-7, str(found)


@pytest.mark.parametrize("cell", CELLS)
def test_decoded_logits_equal_those_of_the_whole_sequence(cell):
    model, tokens = tiny(cell=cell), batch_of(time=9)["inputs"]
    params, decoder = parameters(model), RecurrentStepper(model, initial_states)
    assert decoder.context_length is None
    assert decoder == RecurrentStepper(tiny(cell=cell), initial_states)
    assert hash(decoder) == hash(RecurrentStepper(tiny(cell=cell), initial_states))

    def predict(carry, column):
        return decoder.step(params, carry, column)

    carry, logits = jax.lax.scan(predict, decoder.init_carry(4), tokens.T)
    expected, states = model.apply({"params": params}, tokens)
    np.testing.assert_allclose(jnp.swapaxes(logits, 0, 1), expected, atol=1e-5)
    chex.assert_trees_all_close(carry, states, atol=1e-6)


def test_greedy_samples_continue_the_prompt():
    """Argmax continuations of prompts of different lengths."""
    model, prompts, lengths = tiny(), batch_of(batch=3, time=3)["inputs"], np.array([3, 1, 2])
    params, key = parameters(model), jax.random.key(0)
    tokens, ends = sample(model, params, prompts, lengths, key, max_new_tokens=8, temperature=0.0)
    np.testing.assert_array_equal(ends, lengths + 8)
    logits = jax.jit(lambda tokens: model.apply({"params": params}, tokens)[0])(tokens)
    expected = np.asarray(logits.argmax(-1))
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(tokens[row, :length], prompts[row, :length])
        sampled = tokens[row, length : length + 8]
        np.testing.assert_array_equal(sampled, expected[row, length - 1 : length + 7])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "gruu"}, "cell: 'gruu' is not accepted; one of rnn, lstm, gru"),
        ({"bptt_length": 0}, "bptt_length: 0 is not accepted; an integer of at least 1"),
        ({"hidden_size": 0}, "hidden_size: 0 is not accepted"),
        ({"num_layers": 0}, "num_layers: 0 is not accepted"),
        ({"dropout": 1.0}, "dropout: 1.0 is not accepted"),
        ({"recurrent_init": "identity"}, "one of uniform, orthogonal"),
    ],
)
def test_invalid_configs_are_refused_with_a_message(options, message):
    with pytest.raises(UserError) as error:
        dataclasses.replace(TINY, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_vocabulary_that_is_too_small_is_refused():
    with pytest.raises(UserError, match="vocab_size: 7 is too few"):
        TINY.with_vocabulary(8)
