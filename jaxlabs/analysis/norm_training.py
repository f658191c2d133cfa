"""Trains a network with each norm, at many learning rates, from several seeds, all at once.

Every training goes through the model's common `train_step`: rates and seeds are two mapped axes of
one compiled program, and a seed's first kernels and batches are the same with every norm.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.data import images
from jaxlabs.data.batches import Examples, batch_at, eval_batch, num_batches
from jaxlabs.models.batchnorm_net import (
    NORMS,
    NormalizedNetwork,
    NormalizedNetworkConfig,
    loss,
    train_step,
)
from jaxlabs.training.state import TrainState, create_state

EVALUATION_BATCH = 250
MIN_TOGETHER = 4
"""Pictures that share their statistics in the smallest of the groups that are tried."""

Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""`(what is gone through, its name) -> the same`, which shows how far it has come."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """`images` and `labels` to train on, to choose the rate by, and to report figures of."""

    train: Examples
    held_out: Examples
    test: Examples
    classes: int


def load(
    dataset: str, data_dir: str | None, train_images: int, evaluated: int
) -> tuple[Pictures, dict[str, Any], str | None]:
    """Reads pictures, what is known of them, and what the user should know, if anything.

    Those held out are the last to train on.

    Args:
      dataset: see `images.load`.
      data_dir: where data sets lie.
      train_images: pictures to train on, the first ones.
      evaluated: pictures that are held out, and as many, the first ones, to test on.

    Raises:
      UserError: there are no such pictures, not so many, or they have no classes.
    """
    found = images.load(dataset, data_dir)
    if len(found.classes) < 2:
        raise UserError(
            f"--dataset: {dataset} has {len(found.classes)} classes; at least two, as sub-folders,"
            " are needed"
        )
    for flag, wanted, there in (
        ("train_images", train_images + evaluated, found.train.count),
        ("evaluated", evaluated, found.test.count),
    ):
        if wanted > there:
            raise UserError(
                f"--{flag}: {wanted:,} pictures are not there, those held out included;"
                f" {found.name} has {there:,} of the kind"
            )
    rest, held_out = images.hold_out(found.train, evaluated)
    sets = (rest.take(slice(train_images)), held_out, found.test.take(slice(evaluated)))
    sets = [Examples({"images": part.images, "labels": part.labels}) for part in sets]
    return Pictures(*sets, classes=len(found.classes)), found.describe(), found.notice


def study(
    config: NormalizedNetworkConfig,
    pictures: Pictures,
    *,
    rates: np.ndarray,
    seeds: Sequence[int],
    steps: int,
    batch_size: int,
    progress: Progress,
) -> tuple[dict[str, np.ndarray], TrainState]:
    """Trains by plain SGD; nothing but the norm, the learning rate and the seed varies.

    The rate is constant for the first half of the steps and falls to 0 in the second, so that what
    is compared in the end is not how far large steps throw a network about.

    Batch norms are trained a second time, at their best rate, with every batch cut into groups that
    are normalized each by itself ("ghost batches", Hoffer et al. 2017): the gradient averages over
    the same pictures, and only the noise of the statistics grows.

    Args:
      config: of the network.
      pictures: the data.
      rates: [rate], rising.
      seeds: of first parameters and of the order of the pictures.
      steps: of every training.
      batch_size: pictures of each.
      progress: goes through the norms.

    Returns:
      Arrays: `norms`, `rates`; `step_loss [norm, rate, seed, step]`, of every batch before its
      update, in nats; `{train,held_out,test}_{loss,accuracy} [norm, rate, seed]` after the last
      step; `best_rate [norm]`, the place of the rate with the most held-out pictures right;
      `groups [group]`, pictures in a group, the whole batch last, and `group_train_loss`,
      `group_test_loss` and `group_test_accuracy [group, seed]`. And the trained state of the batch
      norm at its best rate from the first seed.
    """
    seeds, rates = np.array(seeds, np.uint32), np.float32(rates)
    train = functools.partial(_train, steps=steps, batch_size=batch_size)
    arrays, trained = {}, {}
    for norm in progress(NORMS, "norm"):
        model = NormalizedNetwork(config, pictures.classes, norm)
        states, losses = train(model, pictures.train, rates, seeds)
        for name, figures in _figures(states, losses, pictures).items():
            arrays.setdefault(name, []).append(figures)
        trained[norm] = states
    arrays = {name: np.stack(figures) for name, figures in arrays.items()}
    best = arrays["held_out_accuracy"].mean(axis=-1).argmax(axis=-1)
    batch = NORMS.index("batch")
    place = best[batch]
    model = NormalizedNetwork(config, pictures.classes, "batch")
    slices = [count for count in _slices(batch_size) if batch_size // count >= MIN_TOGETHER]
    grouped = []
    for count in progress(slices, "group"):
        states, losses = train(
            model, pictures.train, rates[place : place + 1], seeds, grad_accum_steps=count
        )
        grouped.append(_figures(states, losses, pictures))
    whole = {name: figures[batch, place][None] for name, figures in arrays.items()}
    for name in ("train_loss", "test_loss", "test_accuracy"):
        arrays[f"group_{name}"] = np.concatenate([*(one[name] for one in grouped), whole[name]])
    arrays |= {
        "norms": np.array(NORMS),
        "rates": rates,
        "best_rate": best,
        "groups": np.array([*(batch_size // count for count in slices), batch_size]),
    }
    return arrays, jax.tree.map(lambda leaf: leaf[place, 0], trained["batch"])


def figures(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the best rate of each norm and means over seeds at it, by name."""
    named = {}
    for row, (norm, place) in enumerate(zip(arrays["norms"], arrays["best_rate"], strict=True)):
        named[f"best_rate_{norm}"] = arrays["rates"][place]
        for name in ("train_loss", "test_loss", "test_accuracy"):
            named[f"{name}_{norm}"] = arrays[name][row, place].mean()
    return {name: float(value) for name, value in named.items()}


def _slices(batch_size: int) -> list[int]:
    """Returns into how many parts a batch is cut, the most first: powers of 4 that divide it."""
    counts = [4**power for power in range(1, batch_size.bit_length()) if batch_size % 4**power == 0]
    return counts[::-1]


@functools.partial(jax.jit, static_argnames=("model", "steps", "batch_size", "grad_accum_steps"))
def _train(
    model: NormalizedNetwork,
    pictures: Examples,
    rates: jax.Array,
    seeds: jax.Array,
    *,
    steps: int,
    batch_size: int,
    grad_accum_steps: int = 1,
) -> tuple[TrainState, jax.Array]:
    """Returns states `[rate, seed, ...]` and the losses `[rate, seed, step]` of all steps."""
    descent = optax.chain(
        optax.inject_hyperparams(optax.sgd)(learning_rate=1.0),
        optax.scale_by_schedule(optax.linear_schedule(1, 0, steps - steps // 2, steps // 2)),
    )
    shape = (1, *pictures.arrays["images"].shape[1:])

    def start(rate: jax.Array, seed: jax.Array) -> TrainState:
        variables = model.init(keys.stream(seed, "init"), jnp.zeros(shape, jnp.float32))
        state = create_state(model, variables, descent, grad_accum_steps=grad_accum_steps)
        return state.replace(opt_state=optax.tree.set(state.opt_state, learning_rate=rate))

    def step(states: TrainState, index: jax.Array) -> tuple[TrainState, jax.Array]:
        def of_seed(states: TrainState, seed: jax.Array) -> tuple[TrainState, jax.Array]:
            # Outside the map over rates: they share their batch, and so one large first product.
            batch = batch_at(pictures, seed, index, batch_size)
            key = jax.random.fold_in(keys.stream(seed, "step"), index)
            states, metrics = jax.vmap(train_step, (0, None, None))(states, batch, key)
            return states, metrics["loss"]

        return jax.vmap(of_seed, (1, 0), 1)(states, seeds)

    states = jax.vmap(jax.vmap(start, (None, 0)), (0, None))(rates, seeds)
    states, losses = lax.scan(step, states, jnp.arange(steps))
    return states, jnp.moveaxis(losses, 0, -1)


def _figures(states: TrainState, losses: jax.Array, pictures: Pictures) -> dict[str, np.ndarray]:
    """Returns `step_loss` and the loss and accuracy of every set of pictures."""
    figures = {"step_loss": losses}
    for name in ("train", "held_out", "test"):
        total, correct = evaluate(states, getattr(pictures, name))
        figures |= {f"{name}_loss": total, f"{name}_accuracy": correct}
    return {name: np.asarray(values) for name, values in figures.items()}


@jax.jit
def evaluate(states: TrainState, pictures: Examples) -> tuple[jax.Array, jax.Array]:
    """Returns the mean loss in nats and the accuracy of states `[rate, seed, ...]`, both so."""

    def measured(index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        batch = eval_batch(pictures, index, EVALUATION_BATCH)

        def of_state(state: TrainState) -> tuple[jax.Array, jax.Array, jax.Array]:
            parts = loss(state.params, batch, keys.root(0), state, False)
            return parts.total, parts.sums["accuracy"], parts.weight

        return jax.vmap(jax.vmap(of_state))(states)

    batches = jnp.arange(num_batches(pictures, EVALUATION_BATCH))
    total, correct, weight = (sums.sum(axis=0) for sums in lax.map(measured, batches))
    return total / weight, correct / weight
