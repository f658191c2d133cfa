"""Tests of jaxlabs/training/evaluation.py: means over all examples, each counted once."""

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest

from jaxlabs import keys
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.training.evaluation import Evaluator, RunEvaluation, standard_error
from jaxlabs.training.state import create_state
from jaxlabs.training.task import Task


def examples(make_batch, count, seed=3):
    batch = make_batch(seed, count)
    return Examples({name: batch[name] for name in ("inputs", "targets", "weights")})


def by_numpy(params, arrays):
    """Loss and accuracy over all tokens of weight 1."""
    hidden = params["embedding"]["embedding"][arrays["inputs"]] @ params["block"]["kernel"]
    hidden = np.tanh(hidden + params["block"]["bias"][None, None])
    logits = hidden @ params["head"]["kernel"] + params["head"]["bias"][None, None]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -np.take_along_axis(log_p, arrays["targets"][..., None], -1)[..., 0]
    hits = logits.argmax(-1) == arrays["targets"]
    weights = arrays["weights"]
    return {
        "loss": (weights * nats).sum() / weights.sum(),
        "accuracy": (weights * hits).sum() / weights.sum(),
    }


@pytest.mark.parametrize("count", [1, 4, 10])
@pytest.mark.parametrize("devices", [1, 4])
def test_padded_last_batch_gives_the_mean_over_all_examples(
    make_task, make_state, make_batch, make_config, make_placement, count, devices
):
    task, placement = make_task(dropout=0.5), make_placement(devices)  # no dropout in evaluation
    state = placement.replicate(make_state(task, optax.sgd(1.0)))
    evaluate = Evaluator(task, placement, make_config(eval_batch_size=4))
    data = examples(make_batch, count)
    metrics = evaluate(state, placement.replicate(data))
    expected = by_numpy(jax.device_get(state.params), data.arrays)
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)


def test_ema_parameters_are_evaluated(
    make_task, make_state, make_batch, make_config, make_placement
):
    task = make_task()
    state = make_state(task, optax.sgd(1.0), ema_decay=0.9)
    average = jax.tree.map(lambda leaf: 3 * leaf + 0.1, state.params)
    evaluate = Evaluator(task, make_placement(), make_config())
    data = examples(make_batch, 5)
    metrics = evaluate(state.replace(ema_params=average), data)
    np.testing.assert_allclose(
        metrics["loss"], by_numpy(jax.device_get(average), data.arrays)["loss"], rtol=1e-5
    )
    assert abs(metrics["loss"] - evaluate(state, data)["loss"]) > 0.01


def test_sets_of_equal_shape_share_one_executable(
    make_task, make_state, make_batch, make_config, make_placement
):
    task, traces = make_task(statistics=True), []

    def loss(*arguments, train):
        traces.append(train)
        return task.loss(*arguments, train=train)

    state = make_state(task, optax.sgd(1.0))
    evaluate = Evaluator(dataclasses.replace(task, loss=loss), make_placement(), make_config())
    metrics = [evaluate(state, examples(make_batch, 9, seed)) for seed in (1, 2, 1)]
    assert traces == [False]  # one trace, with train=False
    assert metrics[0] == metrics[2] != metrics[1]


def test_set_without_weight_gives_nan_and_no_warning(
    make_task, make_state, make_batch, make_config, make_placement
):
    task = make_task()
    data = examples(make_batch, 4)
    data.arrays["weights"] = np.zeros_like(data.arrays["weights"])
    evaluate = Evaluator(task, make_placement(), make_config())
    assert math.isnan(evaluate(make_state(task, optax.sgd(1.0)), data)["loss"])


COUNT = 6


def test_random_numbers_are_those_of_the_example_for_every_batch_size(make_config, make_placement):
    def loss(model, variables, batch, key, *, train):
        noise = jax.vmap(jax.random.uniform)(keys.per_example(key, batch["example_index"]))
        noise = noise * batch["weights"]  # 0 for padding
        of_each = {str(i): ((batch["index"] == i) * noise).sum() for i in range(COUNT)}
        return LossOutput(noise.sum(), batch["weights"].sum(), of_each)

    state = create_state(None, {"params": {"a": np.ones(1)}}, optax.sgd(1.0))
    task = Task(model=None, init=None, loss=loss, train_step=None)
    data = Examples({"index": np.arange(COUNT)})
    by_size = [
        Evaluator(task, make_placement(), make_config(eval_batch_size=size))(state, data)
        for size in (4, 4, 8)
    ]
    noise = [[metrics[str(i)] for i in range(COUNT)] for metrics in by_size]
    assert noise[0] == noise[1] == noise[2]
    assert len({*noise[0]}) == COUNT


def test_derived_metrics_come_from_the_means(
    make_task, make_state, make_batch, make_config, make_placement
):
    task = dataclasses.replace(
        make_task(), derived_metrics=lambda means: {"perplexity": math.exp(means["loss"])}
    )
    evaluate = Evaluator(task, make_placement(), make_config(eval_batch_size=4))
    metrics = evaluate(make_state(task, optax.sgd(1.0)), examples(make_batch, 10))
    assert metrics["perplexity"] == math.exp(metrics["loss"])


TOKEN_BYTES = np.array([1, 2, 1, 3, 4, 1, 5])


@pytest.fixture
def text_data(make_data):
    """Data whose evaluation sets are windows of a text."""
    return dataclasses.replace(make_data(), text_tokens={"held_out": 50}, token_bytes=TOKEN_BYTES)


@pytest.mark.parametrize("devices", [1, 4])
def test_windows_of_a_text_have_a_standard_error_and_bits_per_byte(
    make_task, make_state, make_batch, make_config, make_placement, text_data, devices
):
    task, placement, config = make_task(), make_placement(devices), make_config(eval_batch_size=4)
    state = placement.replicate(make_state(task, optax.sgd(1.0)))
    data = examples(make_batch, 10)
    data.arrays["weights"][3] = 0  # a window that scores nothing does not count
    plain = Evaluator(task, placement, config)(state, placement.replicate(data))
    metrics = Evaluator(task, placement, config, text_data)(state, placement.replicate(data))
    assert plain.items() <= metrics.items()  # to the bit
    assert metrics.keys() - plain.keys() == {"loss_stderr", "bits_per_byte"}

    params, kept = jax.device_get(state.params), [i for i in range(10) if i != 3]
    weights = data.arrays["weights"].sum(axis=1)
    windows = [{name: array[i : i + 1] for name, array in data.arrays.items()} for i in kept]
    means = np.array([by_numpy(params, window)["loss"] for window in windows])
    mean = np.average(means, weights=weights[kept])
    squares = (weights[kept] * (means - mean)) ** 2
    expected = np.sqrt(9 / 8 * squares.sum()) / weights.sum()
    np.testing.assert_allclose(metrics["loss_stderr"], expected, rtol=1e-5)

    scored = TOKEN_BYTES[data.arrays["targets"][data.arrays["weights"] > 0]]
    bits = metrics["loss"] * int(weights.sum()) / np.log(2) / scored.sum()
    np.testing.assert_allclose(metrics["bits_per_byte"], bits, rtol=1e-12)


def test_cost_counts_the_tokens_of_a_text_and_other_examples(
    make_task, make_config, make_placement, make_data, text_data
):
    for data, size in ((make_data(), 1), (text_data, 6)):
        costs = RunEvaluation(make_task(), data, make_config(), make_placement(), None)
        for part in data.eval_sets.values():
            assert costs._size(part) == size * part.count


def test_standard_error_of_equal_windows_is_that_of_their_mean():
    means = np.random.default_rng(0).normal(2, 0.3, 50)
    expected = means.std(ddof=1) / np.sqrt(50)
    weights = np.full(50, 16.0)
    np.testing.assert_allclose(standard_error(16 * means, weights), expected, rtol=1e-12)
    assert standard_error(np.array([3.0, 0.0]), np.array([2.0, 0.0])) is None


def test_standard_error_is_the_spread_of_means_of_independent_texts():
    rng, errors, means = np.random.default_rng(1), [], []
    for _ in range(2000):
        weights = rng.integers(1, 9, 40)
        losses = weights * rng.gamma(4, 0.5, 40)
        means.append(losses.sum() / weights.sum())
        errors.append(standard_error(losses, weights))
    np.testing.assert_allclose(np.mean(errors), np.std(means), rtol=0.05)


def test_bits_per_byte_of_a_uniform_model_are_exact(make_batch, make_config, make_placement):
    """Each of the 7 tokens costs log2(7) bits."""

    def loss(model, variables, batch, key, *, train):
        weights = batch["weights"]
        return LossOutput(weights.sum() * math.log(7), weights.sum(), {})

    state = create_state(None, {"params": {"a": np.ones(1)}}, optax.sgd(1.0))
    data = examples(make_batch, 10)
    facts = DataModule(None, {}, text_tokens={"held_out": 1}, token_bytes=np.full(7, 3))
    evaluate = Evaluator(Task(None, None, loss), make_placement(), make_config(), facts)
    metrics = evaluate(state, data)
    assert metrics["bits_per_byte"] == pytest.approx(math.log2(7) / 3, rel=1e-6)
    assert metrics["loss_stderr"] == pytest.approx(0, abs=1e-6)
