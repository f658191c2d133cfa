"""Trains a network with each norm, at many learning rates and from several seeds, in parallel.

All runs use the model's `train_step`, mapped over learning rates and seeds in one compiled
function. Initial kernels and batches of a seed are the same for every norm.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxlabs import keys
from jaxlabs.analysis.toy_training import progress, stack
from jaxlabs.config import ArgumentError
from jaxlabs.data import images
from jaxlabs.data.batches import Examples, eval_batch, num_batches
from jaxlabs.models.batchnorm_net import NORMS, NormNet, NormNetConfig, loss, train_step
from jaxlabs.training import capacity
from jaxlabs.training.advance import step_inputs
from jaxlabs.training.state import TrainState, create_state

EVAL_BATCH = 250
MIN_GROUP_SIZE = 4
"""Smallest number of images that share their batch statistics."""


class ImageSplits(NamedTuple):
    """`images` and `labels` of the training, validation (`held_out`) and test set."""

    train: Examples
    held_out: Examples
    test: Examples
    num_classes: int


def load(
    name: str, data_dir: str | None, train_images: int, num_eval_examples: int
) -> tuple[ImageSplits, dict[str, Any], str | None]:
    """Loads a data set; returns its splits, its metadata, and a warning or None.

    The training and test images are the first ones, the held-out images the last ones of the
    training set, as many as test images.

    Raises:
      UserError: the data set does not exist, is too small, or has fewer than two classes.
    """
    dataset = images.load(name, data_dir)
    if len(dataset.classes) < 2:
        raise ArgumentError(
            "dataset",
            f"{name} has {len(dataset.classes)} classes; at least two, as sub-folders, are needed",
        )
    held_out = "training images, held-out ones included,"
    for flag, requested, available, kind in (
        ("train_images", train_images + num_eval_examples, dataset.train.count, held_out),
        ("num_eval_examples", num_eval_examples, dataset.test.count, "test images"),
    ):
        if requested > available:
            raise ArgumentError(
                flag,
                f"{requested:,} {kind} are more than the {available:,} of {dataset.name}",
            )
    rest, held_out = images.hold_out(dataset.train, num_eval_examples)
    sets = (rest.take(slice(train_images)), held_out, dataset.test.take(slice(num_eval_examples)))
    sets = [Examples({"images": split.images, "labels": split.labels}) for split in sets]
    return ImageSplits(*sets, num_classes=len(dataset.classes)), dataset.describe(), dataset.warning


def study(
    config: NormNetConfig,
    splits: ImageSplits,
    *,
    rates: np.ndarray,
    seeds: Sequence[int],
    steps: int,
    batch_size: int,
) -> tuple[dict[str, np.ndarray], TrainState]:
    """Trains by SGD; only the norm, the learning rate and the seed vary.

    The learning rate is constant for the first half of the steps and decays linearly to 0 in the
    second half, so that the final comparison does not depend on the noise of large steps.

    Batch norm is also trained at its best rate with every batch split into groups that are
    normalized separately ("ghost batches", Hoffer et al. 2017). The gradient is averaged over the
    same images; only the noise of the statistics increases. `rates [rate]` are ascending.

    Returns:
      Arrays: `norms`, `rates`; `step_loss [norm, rate, seed, step]` of every batch before its
      update, in nats; `{train,held_out,test}_{loss,accuracy} [norm, rate, seed]` after the last
      step; `best_rate [norm]`, the index of the rate with the best held-out accuracy; `groups
      [group]`, group sizes, the whole batch last, and `group_train_loss`, `group_test_loss` and
      `group_test_accuracy [group, seed]`. And the trained state with batch norm at its best rate
      from the first seed.

    Raises:
      TooLarge: the runs do not fit into memory together.
    """
    seeds, rates = np.array(seeds, np.uint32), np.float32(rates)
    models = {norm: NormNet(config, splits.num_classes, norm) for norm in NORMS}
    traced = _train.trace(
        models["batch"], splits.train, rates, seeds, steps=steps, batch_size=batch_size
    )
    capacity.require_state(traced, "the state of all runs")
    capacity.require_arrays(traced, "a training step of all runs")
    train = functools.partial(_train, steps=steps, batch_size=batch_size)
    trained = {
        norm: train(model, splits.train, rates, seeds)
        for norm, model in progress(models.items(), "norm")
    }
    arrays = stack(_metrics(*runs, splits) for runs in trained.values())
    best = arrays["held_out_accuracy"].mean(axis=-1).argmax(axis=-1)
    batch = NORMS.index("batch")
    best_index = best[batch]
    best_rate = rates[best_index : best_index + 1]
    # Powers of 4 that divide the batch, descending.
    counts = [4**power for power in range(1, batch_size.bit_length())][::-1]
    counts = [n for n in counts if batch_size % n == 0 and batch_size // n >= MIN_GROUP_SIZE]
    grouped = []
    for count in progress(counts, "group"):
        runs = train(models["batch"], splits.train, best_rate, seeds, grad_accum_steps=count)
        grouped.append(_metrics(*runs, splits))
    for name in ("train_loss", "test_loss", "test_accuracy"):
        whole = arrays[name][batch, best_index][None]
        arrays[f"group_{name}"] = np.concatenate([*(group[name] for group in grouped), whole])
    groups = np.array([*(batch_size // count for count in counts), batch_size])
    arrays |= {"norms": np.array(NORMS), "rates": rates, "best_rate": best, "groups": groups}
    states, _ = trained["batch"]
    return arrays, jax.tree.map(lambda leaf: leaf[best_index, 0], states)


def metrics(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the best rate of each norm and means over seeds at that rate, by name."""
    named = {}
    for row, (norm, index) in enumerate(zip(arrays["norms"], arrays["best_rate"], strict=True)):
        named[f"best_rate_{norm}"] = arrays["rates"][index]
        for name in ("train_loss", "test_loss", "test_accuracy"):
            named[f"{name}_{norm}"] = arrays[name][row, index].mean()
    return {name: float(value) for name, value in named.items()}


@functools.partial(jax.jit, static_argnames=("model", "steps", "batch_size", "grad_accum_steps"))
def _train(model, examples, rates, seeds, *, steps, batch_size, grad_accum_steps=1):
    """Returns states `[rate, seed, ...]` and the losses `[rate, seed, step]` of all steps."""
    descent = optax.chain(
        optax.inject_hyperparams(optax.sgd)(learning_rate=1.0),
        optax.scale_by_schedule(optax.linear_schedule(1, 0, steps - steps // 2, steps // 2)),
    )
    shape = (1, *examples.arrays["images"].shape[1:])

    def start(rate, seed):
        variables = model.init(keys.stream(seed, "init"), jnp.zeros(shape, jnp.float32))
        state = create_state(model, variables, descent, grad_accum_steps=grad_accum_steps)
        return state.replace(opt_state=optax.tree.set(state.opt_state, learning_rate=rate))

    def step(states, index):
        def of_seed(states, seed):
            # Outside of the map over rates, which share the batch and so the first large matmul.
            batch, key = step_inputs(examples, seed, index, batch_size)
            states, metrics = jax.vmap(train_step, (0, None, None))(states, batch, key)
            return states, metrics["loss"]

        return jax.vmap(of_seed, (1, 0), 1)(states, seeds)

    states = jax.vmap(jax.vmap(start, (None, 0)), (0, None))(rates, seeds)
    states, losses = lax.scan(step, states, jnp.arange(steps))
    return states, jnp.moveaxis(losses, 0, -1)


def _metrics(states, losses, splits):
    """Returns `step_loss` and the loss and accuracy of every split."""
    values = {"step_loss": losses}
    for name in ("train", "held_out", "test"):
        total, correct = evaluate(states, getattr(splits, name))
        values |= {f"{name}_loss": total, f"{name}_accuracy": correct}
    return {name: np.asarray(value) for name, value in values.items()}


@jax.jit
def evaluate(states: TrainState, examples: Examples) -> tuple[jax.Array, jax.Array]:
    """Returns mean loss in nats and accuracy `[rate, seed]` of states `[rate, seed, ...]`."""

    def measured(index):
        batch = eval_batch(examples, index, EVAL_BATCH)

        def of_state(state):
            variables = state.variables(state.params)
            output = loss(state.model, variables, batch, keys.root(0), train=False)
            return output.loss_sum, output.metric_sums["accuracy"], output.weight_sum

        return jax.vmap(jax.vmap(of_state))(states)

    batches = jnp.arange(num_batches(examples, EVAL_BATCH))
    total, correct, weight = (sums.sum(axis=0) for sums in lax.map(measured, batches))
    return total / weight, correct / weight
