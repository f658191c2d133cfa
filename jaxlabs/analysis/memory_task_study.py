"""Which cell learns to remember for how long: the adding problem and the copy task.

Each network is an `h` of a few dozen units with a linear read-out, trained by Adam on fresh
sequences at every step: its loss is its loss on unseen ones.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.functional_rnn import Params, hidden_states, initial_params, read_out
from jaxlabs.analysis.toy_training import fit
from jaxlabs.data import memory_tasks
from jaxlabs.losses.cross_entropy import cross_entropy
from jaxlabs.training import jax_settings

BATCH, CLIP_NORM, LEARNING_RATE = 16, 1.0, 1e-2

WORKERS = 2
"""Networks that are trained at once: none of them keeps more than one core busy."""


class Kind(NamedTuple):
    """A network: its cell, and whether its gates start with a memory as long as the task."""

    cell: str
    spread: bool = False


KINDS = {
    "rnn": Kind("rnn"),
    "lstm": Kind("lstm"),
    "gru": Kind("gru"),
    "lstm, gates spread": Kind("lstm", spread=True),
}


class Task(NamedTuple):
    """A memory task.

    Attributes:
      inputs: numbers that come in at every step.
      outputs: numbers that are read out.
      loss: `(cell, params, key, length) -> []`, the mean over a batch drawn from the key.
      baseline: the loss of guessing, by length.
    """

    inputs: int
    outputs: int
    loss: Callable[[str, Params, jax.Array, int], jax.Array]
    baseline: Callable[[int], float]


def adding_loss(cell: str, params: Params, key: jax.Array, length: int) -> jax.Array:
    """Returns the mean squared error `[]` of the sum that is read out after the last number."""
    inputs, targets = memory_tasks.adding(key, BATCH, length)
    answers = read_out(params, hidden_states(cell, params, inputs)[-1])[:, 0]
    return jnp.mean(jnp.square(answers - targets))


def copying_loss(cell: str, params: Params, key: jax.Array, length: int) -> jax.Array:
    """Returns the mean cross-entropy `[]` of all tokens, in nats."""
    tokens, targets = memory_tasks.copying(key, BATCH, length)
    inputs = jax.nn.one_hot(tokens, memory_tasks.DELIMITER + 1)
    logits = read_out(params, hidden_states(cell, params, inputs))
    return jnp.mean(cross_entropy(logits, targets.T))


TASKS = {
    "adding": Task(2, 1, adding_loss, lambda length: memory_tasks.ADDING_BASELINE),
    "copying": Task(
        memory_tasks.DELIMITER + 1,
        memory_tasks.BLANK + 1,
        copying_loss,
        memory_tasks.copying_baseline,
    ),
}


def start(task: str, kind: str, length: int, hidden: int, seed: int) -> dict[str, np.ndarray]:
    """Returns the parameters that a network starts a task with."""
    cell, spread = KINDS[kind]
    inputs, outputs = TASKS[task].inputs, TASKS[task].outputs
    return initial_params(
        cell, inputs, hidden, outputs, seed, span=max(length, 3) if spread else None
    )


@functools.partial(jax.jit, static_argnames=("task", "cell", "length", "steps"))
def train(
    params: Params,
    seed: jax.Array,
    *,
    task: str,
    cell: str,
    length: int,
    steps: int,
) -> tuple[Any, jax.Array]:
    """Returns the parameters after training and the loss of every step, `[steps]`."""
    loss = functools.partial(TASKS[task].loss, cell)
    fitted, losses, _ = fit(
        lambda params, key: loss(params, key, length),
        params,
        keys.stream(seed, "data"),
        steps=steps,
        learning_rate=LEARNING_RATE,
        grad_clip_norm=CLIP_NORM,
    )
    return fitted, losses


Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""`(what is gone through, how many, their name) -> the same`, which shows how far it has come."""


def study(
    task: str,
    lengths: Sequence[int],
    hidden: int,
    steps: int,
    seeds: Sequence[int],
    progress: Progress,
) -> tuple[dict[str, np.ndarray], dict[tuple[str, int], Any]]:
    """Trains every kind of network at every length of a task.

    Args:
      task: a name in `TASKS`.
      lengths: of the sequences, or delays of the copy task, in rising order.
      hidden: size of the state.
      steps: of training each.
      seeds: one for each run of a kind.
      progress: goes through the runs.

    Returns:
      `task`, `lengths`, `kinds`; `curves [kind, length, seed, step]`, the losses as shares of the
      baseline, averaged over fiftieths of the steps; `final [kind, length, seed]`, over the last
      tenth; `baseline [length]`; and the trained parameters of the first seed by (kind, length).
    """
    runs = list(itertools.product(KINDS, lengths, seeds))

    @jax_settings.fixed()  # they hold for a thread
    def run(run: tuple[str, int, int]) -> tuple[Any, np.ndarray]:
        kind, length, seed = run
        params = start(task, kind, length, hidden, seed)
        cell = KINDS[kind].cell
        params, losses = train(
            params, np.uint32(seed), task=task, cell=cell, length=length, steps=steps
        )
        return params, np.asarray(losses)

    with ThreadPoolExecutor(WORKERS) as pool:
        done = list(progress(pool.map(run, runs), len(runs), "run"))
    parts = [[part.mean() for part in np.array_split(losses, min(steps, 50))] for _, losses in done]
    shape = (len(KINDS), len(lengths), len(seeds))
    baseline = np.array([TASKS[task].baseline(length) for length in lengths])
    curves = np.array(parts).reshape(*shape, -1) / baseline[None, :, None, None]
    found = {"task": task, "lengths": lengths, "kinds": list(KINDS), "baseline": baseline}
    final = curves[..., -max(curves.shape[-1] // 10, 1) :].mean(axis=-1)
    found |= {"curves": curves, "final": final, "steps": steps, "hidden": hidden}
    trained = {
        run[:2]: params for run, (params, _) in zip(runs, done, strict=True) if run[2] == seeds[0]
    }
    return {name: np.asarray(value) for name, value in found.items()}, trained


def figures(found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the final losses of `study` as shares of the baseline, medians of seeds, by name."""
    return {
        f"{found['task']}_{kind.replace(', ', '_').replace(' ', '_')}_length_{length}": float(
            np.median(found["final"][row, column])
        )
        for row, kind in enumerate(found["kinds"].tolist())
        for column, length in enumerate(found["lengths"].tolist())
    }
