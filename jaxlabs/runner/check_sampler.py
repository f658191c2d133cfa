"""The properties of a check that concern `Lab.sample`."""

import contextlib
import pathlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxlabs import keys
from jaxlabs.run_folder import Sample
from jaxlabs.runner.check_result import Skipped
from jaxlabs.runner.check_setup import Setup
from jaxlabs.training import devices
from jaxlabs.training.checks import Failed
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.state import TrainState

LIBRARIES = tuple(str(pathlib.Path(module.__file__).parent) for module in (jax, np))
"""Folders whose lines are not those of a sampler."""


def one_key_gives_one_sample(setup: Setup) -> str:
    """Samples twice with one key, and once with another."""
    state, sample = _untrained(setup), _sampler(setup)
    first, again = (sample(state, _key(setup, 0)) for _ in range(2))
    if not _equal(first, again):
        raise Failed("two samples with one key differ")
    with compilations() as compiled:
        sample(state, _key(setup, 1))
    if compiled:
        raise Failed(f"another key compiles {len(compiled)} programs")
    return "one key gives one sample; another key compiles nothing"


def is_traceable(setup: Setup) -> str:
    """Traces `Lab.sample` in parameters and key, up to what it copies to the host.

    A text ends there, since it is made in Python. What comes before must not depend on a traced
    value in Python, such as a loop that ends at a stop token.
    """
    state, sample = _untrained(setup), _sampler(setup)

    def traced(params: Any, batch_stats: Any, key: jax.Array) -> list[jax.Array]:
        untied = state.replace(params=params, ema_params=None, batch_stats=batch_stats)
        sampled = sample(untied, key)
        return [leaf for leaf in jax.tree.leaves(sampled) if isinstance(leaf, jax.Array)]

    arguments = state.eval_params, state.batch_stats, _key(setup, 0)
    try:
        arrays = jax.eval_shape(traced, *arguments)
    except jax.errors.TracerArrayConversionError as error:
        shape = str(error).partition(" with shape ")[2].split("\n")[0].split()[0].rstrip(".")
        return f"traced up to {shape}, which {_place(error)} copies to the host"
    except jax.errors.JAXTypeError as error:
        what = str(error).split("\n")[0].rstrip(".:")
        raise Failed(f"{_place(error)} needs a value where it is traced: {what}") from None
    if not arrays:
        return "depends on neither parameters nor key"
    shapes = ", ".join(f"{array.dtype}{list(array.shape)}" for array in arrays)
    return f"traced to its end, {shapes}"


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Yields a list that grows by one with every compiled program."""
    found = []

    def listen(name: str, seconds: float, **_: Any) -> None:
        if name == "/jax/core/compile/backend_compile_duration":
            found.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _sampler(setup: Setup) -> Callable[[TrainState, jax.Array], Sample]:
    """Returns `(state, key) -> sample`; raises `Skipped` for a lab without one."""
    if setup.lab.sample is None:
        raise Skipped("the lab has no sampler")
    fixed = setup.config, setup.task, setup.data.data_spec
    return lambda state, key: setup.lab.sample(*fixed, state, key)


def _untrained(setup: Setup) -> TrainState:
    return devices.to_host(initial_state(setup.task, setup.config, setup.placement))


def _key(setup: Setup, number: int) -> jax.Array:
    return keys.at_step(setup.config.seed, "sample", number)


def _equal(one: Sample, other: Sample) -> bool:
    if isinstance(one, Mapping):
        return all(np.array_equal(one[name], other[name]) for name in one)
    return one == other


def _place(error: Exception) -> str:
    """Returns the last line of an error that is outside of JAX and numpy, `file:line`."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not frame.filename.startswith(LIBRARIES)]
    return f"{pathlib.Path(ours[-1].filename).name}:{ours[-1].lineno}"
