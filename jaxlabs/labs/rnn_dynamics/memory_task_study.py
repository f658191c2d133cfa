"""Memory span of recurrent cells: training on the adding problem and the copying task by length.

Each network has a few dozen units and a linear output, and is trained by Adam on new sequences at
every step, so the training loss is a loss on unseen data.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.toy_training import fit, progress
from jaxlabs.data import memory_tasks
from jaxlabs.labs.rnn_dynamics.network import Params, hidden_states, initial_params, output_layer
from jaxlabs.losses.cross_entropy import cross_entropy
from jaxlabs.training import jax_settings

BATCH, CLIP_NORM, LEARNING_RATE = 16, 1.0, 1e-2

WORKERS = 2
"""Networks that are trained in parallel; each uses one core."""


VARIANTS = {"rnn": "rnn", "lstm": "lstm", "gru": "gru", "lstm, chrono init": "lstm"}
"""Name -> cell; the gate biases of the last one have chrono initialization."""


class Task(NamedTuple):
    """A memory task.

    Attributes:
      inputs: number of input features.
      outputs: number of output features.
      loss: `(cell, params, key, length) -> []`, the mean over a batch sampled from the key.
      baseline: `length -> loss` of a constant guess.
    """

    inputs: int
    outputs: int
    loss: Callable[[str, Params, jax.Array, int], jax.Array]
    baseline: Callable[[int], float]


def adding_loss(cell: str, params: Params, key: jax.Array, length: int) -> jax.Array:
    """Returns the mean squared error `[]` of the output at the last step."""
    inputs, targets = memory_tasks.adding(key, BATCH, length)
    predictions = output_layer(params, hidden_states(cell, params, inputs)[:, -1])[:, 0]
    return jnp.mean(jnp.square(predictions - targets))


def copying_loss(cell: str, params: Params, key: jax.Array, length: int) -> jax.Array:
    """Returns the mean cross-entropy `[]` of all tokens, in nats."""
    tokens, targets = memory_tasks.copying(key, BATCH, length)
    inputs = jax.nn.one_hot(tokens, memory_tasks.DELIMITER + 1)
    logits = output_layer(params, hidden_states(cell, params, inputs))
    return jnp.mean(cross_entropy(logits, targets))


TASKS = {
    "adding": Task(2, 1, adding_loss, lambda length: memory_tasks.ADDING_BASELINE),
    "copying": Task(
        memory_tasks.DELIMITER + 1,
        memory_tasks.BLANK + 1,
        copying_loss,
        memory_tasks.copying_baseline,
    ),
}


def task_params(
    task: str, variant: str, length: int, hidden_size: int, seed: int
) -> dict[str, np.ndarray]:
    """Returns the initial parameters of a network."""
    inputs, outputs, *_ = TASKS[task]
    span = max(length, 3) if variant.endswith("chrono init") else None
    return initial_params(VARIANTS[variant], inputs, hidden_size, outputs, seed, span=span)


@functools.partial(jax.jit, static_argnames=("task", "cell", "length", "steps"))
def train(
    params: Params, seed: jax.Array, *, task: str, cell: str, length: int, steps: int
) -> tuple[Any, jax.Array]:
    """Returns the parameters after training and the loss of every step, `[steps]`."""
    loss = functools.partial(TASKS[task].loss, cell, length=length)
    options = {"steps": steps, "learning_rate": LEARNING_RATE, "grad_clip_norm": CLIP_NORM}
    return fit(loss, params, keys.stream(seed, "data"), **options)[:2]


def study(
    task: str, lengths: Sequence[int], hidden_size: int, steps: int, seeds: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[tuple[str, int], Any]]:
    """Trains every variant of the cells at every length of a task.

    The lengths, of the copying task the delays, are ascending.

    Returns:
      `task`, `lengths`, `kinds`, the names of the variants; `curves [kind, length, seed, step]`,
      the losses relative to the baseline, averaged over fiftieths of the steps; `final [kind,
      length, seed]`, those of the last tenth; `baseline [length]`. And the trained parameters of
      the first seed by (kind, length).
    """
    runs = list(itertools.product(VARIANTS, lengths, seeds))

    @jax_settings.fixed()  # settings are thread-local
    def run(run: tuple[str, int, int]) -> tuple[Any, np.ndarray]:
        variant, length, seed = run
        params = task_params(task, variant, length, hidden_size, seed)
        options = {"task": task, "cell": VARIANTS[variant], "length": length, "steps": steps}
        params, losses = train(params, np.uint32(seed), **options)
        return params, np.asarray(losses)

    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(progress(pool.map(run, runs), "run", len(runs)))
    pieces = [np.array_split(losses, min(steps, 50)) for _, losses in results]
    means = np.array([[piece.mean() for piece in of_run] for of_run in pieces])
    baseline = np.array([TASKS[task].baseline(length) for length in lengths])
    shape = (len(VARIANTS), len(lengths), len(seeds), -1)
    curves = means.reshape(shape) / baseline[None, :, None, None]
    result = {"task": task, "lengths": lengths, "kinds": list(VARIANTS), "baseline": baseline}
    final = curves[..., -max(curves.shape[-1] // 10, 1) :].mean(axis=-1)
    result |= {"curves": curves, "final": final, "steps": steps, "hidden_size": hidden_size}
    # Of equal (kind, length), the first seed comes last.
    trained = {run[:2]: params for run, (params, _) in zip(runs[::-1], results[::-1], strict=True)}
    return {name: np.asarray(value) for name, value in result.items()}, trained


def metrics(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns final losses of `study` relative to the baseline, medians over seeds, by name."""
    named = {}
    for kind, losses in zip(arrays["kinds"].tolist(), arrays["final"], strict=True):
        kind = kind.replace(", ", "_").replace(" ", "_")
        for length, by_seed in zip(arrays["lengths"], losses, strict=True):
            named[f"{arrays['task']}_{kind}_length_{length}"] = float(np.median(by_seed))
    return named
