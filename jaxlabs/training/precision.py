"""Resolves `--matmul_precision=bfloat16`: bfloat16 matmuls where this CPU runs them faster."""

import functools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxlabs.config import Config
from jaxlabs.layers.matmul import matmul

ROWS, INPUTS, OUTPUTS = 2048, 384, 1536
"""The dot that decides: a feed-forward layer of the reference GPT on eight windows."""

ROUNDS = 5

SETTING = "matmul_precision"


def settle(config: Config, stored: str | None) -> str:
    """Returns what the dots of a run are to be made with, and says so in one line if it was asked.

    Only processors with bfloat16 dots (AMX, or AVX-512's) gain by it; on the others, converting
    costs more than the dot saves. So a run on a CPU that asks for `fast` measures once, when it
    starts, and keeps to that ever after. Accelerators are not asked.

    Args:
      config: the settings, with `matmul_precision` among them or not.
      stored: what an earlier sitting of the same run was made with, or None.
    """
    asked = config.flat().get(SETTING, "default")
    if asked != "bfloat16" or stored == "default" or jax.default_backend() != "cpu":
        return asked if stored is None else stored
    seconds = measure()
    faster = min(seconds, key=seconds.__getitem__)
    chosen = _agreed(faster) if stored is None else stored
    if jax.process_index() == 0:
        times = ", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in seconds.items())
        remark = f"the run goes on with {chosen}" if stored else f"{chosen} is used"
        if stored is None or faster != stored:
            print(
                f"--matmul_precision=bfloat16: a large dot takes {times}; {remark}", file=sys.stderr
            )
    return chosen


def with_precision(config: Config, chosen: str) -> Config:
    """Returns the settings with another `matmul_precision`, in whichever group it stands."""
    settings = config.flat()
    return type(config).from_flat(settings | {SETTING: chosen}) if SETTING in settings else config


def measure(rows: int = ROWS, inputs: int = INPUTS, outputs: int = OUTPUTS) -> dict[str, float]:
    """Returns the least seconds of a dot with its two gradients, by precision, taken in turns.

    The least and not the median: whatever else the machine does only adds to a time.
    """
    random = np.random.default_rng(0)
    x, kernel, gradient = (
        jnp.asarray(random.standard_normal(shape), jnp.float32)
        for shape in ((rows, inputs), (inputs, outputs), (rows, outputs))
    )
    seconds = {"bfloat16": [], "default": []}
    for _ in range(1 + ROUNDS):  # the first one compiles
        for name, taken in seconds.items():
            start = time.perf_counter()
            jax.block_until_ready(_forth_and_back(x, kernel, gradient, name))
            taken.append(time.perf_counter() - start)
    return {name: min(taken) for name, taken in seconds.items()}


@functools.partial(jax.jit, static_argnames="precision")
def _forth_and_back(x: jax.Array, kernel: jax.Array, gradient: jax.Array, precision: str):
    product, back = jax.vjp(lambda x, kernel: matmul(x, kernel, precision), x, kernel)
    return product, back(gradient)


def _agreed(name: str) -> str:
    """Returns what the first of several processes found."""
    if jax.process_count() == 1:
        return name
    first = multihost_utils.broadcast_one_to_all(np.int32(name == "bfloat16"))
    return "bfloat16" if first else "default"
