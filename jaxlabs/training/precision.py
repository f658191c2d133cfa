"""Resolves the precision of a run: `--compute_dtype=auto`, `--matmul_precision=bfloat16` on CPUs.

What a new run resolves is stored with it, and a resumed run keeps it, on any machine.
"""

import functools
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxlabs.config import Config
from jaxlabs.layers.matmul import matmul
from jaxlabs.training.optimizer_config import FULL_BATCH

ROWS, INPUTS, OUTPUTS = 2048, 384, 1536
"""Shape of the timed matmul: a feed-forward layer of the reference GPT on eight sequences."""

REPEATS = 5

SETTING = "matmul_precision"
DTYPE_SETTING = "compute_dtype"

STRICT = {SETTING: "highest", DTYPE_SETTING: "float32"}
"""The precision of checks and references: float32 throughout."""

MIN_CAPABILITY = 8
"""Compute capability from which NVIDIA GPUs multiply bfloat16."""


def resolve(config: Config, stored: Mapping[str, Any] | None) -> dict[str, str]:
    """Returns the resolved settings of a run, by name.

    Args:
      config: the settings, with or without those of the precision.
      stored: the resolved settings of a run that is resumed, else None.
    """
    kept = {} if stored is None else stored
    chosen = {SETTING: resolve_precision(config, kept.get(SETTING))}
    if DTYPE_SETTING in config.flat():
        chosen[DTYPE_SETTING] = resolve_dtype(config, stored)
    return chosen


def resolve_dtype(config: Config, stored: Mapping[str, Any] | None) -> str:
    """Returns the `compute_dtype` of a run: `float32` or `bfloat16`.

    `auto` is bfloat16 on devices with fast bfloat16 matmuls. It is float32 where the settings ask
    for more: with `--matmul_precision=highest`, or with a full-batch optimizer, whose line search
    compares losses that differ in late digits. The runs of versions without the setting were
    float32. A new run on an accelerator prints one line.

    Args:
      config: the settings, with `compute_dtype`.
      stored: see `resolve`.
    """
    settings = config.flat()
    if settings[DTYPE_SETTING] != "auto":
        return settings[DTYPE_SETTING]
    if stored is not None:
        return stored.get(DTYPE_SETTING, "float32")
    device = jax.devices()[0]
    exact = settings.get(SETTING) == "highest" or settings.get("optimizer") in FULL_BATCH
    chosen = "bfloat16" if not exact and has_fast_bfloat16(device) else "float32"
    if device.platform != "cpu" and jax.process_index() == 0:
        print(f"compute_dtype: {chosen} on {device.device_kind}", file=sys.stderr)
    return chosen


def has_fast_bfloat16(device: Any) -> bool:
    """Whether a `jax.Device` is a TPU, or a GPU of compute capability 8 and above."""
    if device.platform != "gpu":
        return device.platform == "tpu"
    major = str(device.compute_capability).partition(".")[0]  # "gfx90a" on AMD's
    return major.isdecimal() and int(major) >= MIN_CAPABILITY


def resolve_precision(config: Config, stored: str | None) -> str:
    """Returns the precision of a run's matmuls: on a CPU `bfloat16` only if it is faster.

    Only CPUs with bfloat16 instructions (AMX, AVX-512 BF16) are faster in bfloat16; on others the
    conversion costs more than it saves. A run on a CPU with `--matmul_precision=bfloat16` times
    both at its start, prints one line, and keeps the result when it is resumed. Accelerators are
    not timed.

    Args:
      config: the settings, with or without `matmul_precision`.
      stored: the resolved precision of a run that is resumed, else None.
    """
    requested = config.flat().get(SETTING, "default")
    if requested != "bfloat16" or stored == "default" or jax.default_backend() != "cpu":
        return requested if stored is None else stored
    seconds = measure()
    faster = min(seconds, key=seconds.__getitem__)
    chosen = _broadcast_choice(faster) if stored is None else stored
    if jax.process_index() == 0:
        names = {"bfloat16": "bfloat16", "default": "float32"}
        times = [f"{1e3 * seconds[name]:.1f} ms" for name in names]
        if stored is None or faster != stored:
            reason = "" if stored is None else ", as before"
            using = f"using {names.get(chosen, chosen)}{reason}"
            print(f"bfloat16 matmul: {times[0]}, float32: {times[1]}; {using}", file=sys.stderr)
    return chosen


def with_precision(config: Config, chosen: Mapping[str, str]) -> Config:
    """Returns the settings with those that a run has resolved, as far as they have them."""
    settings = config.flat()
    known = {name: value for name, value in chosen.items() if name in settings}
    return type(config).from_flat(settings | known) if known else config


def measure(rows: int = ROWS, inputs: int = INPUTS, outputs: int = OUTPUTS) -> dict[str, float]:
    """Returns the minimum time of a matmul with its gradients, in seconds, by precision.

    The measurements are interleaved. The minimum is used because other processes only add time.
    """
    rng = np.random.default_rng(0)
    x, kernel, gradient = (
        jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for shape in ((rows, inputs), (inputs, outputs), (rows, outputs))
    )
    seconds = {"bfloat16": [], "default": []}
    for _ in range(1 + REPEATS):  # the first one compiles
        for name, taken in seconds.items():
            start = time.perf_counter()
            jax.block_until_ready(_forward_and_backward(x, kernel, gradient, name))
            taken.append(time.perf_counter() - start)
    return {name: min(taken) for name, taken in seconds.items()}


@functools.partial(jax.jit, static_argnames="precision")
def _forward_and_backward(x: jax.Array, kernel: jax.Array, gradient: jax.Array, precision: str):
    product, backward = jax.vjp(lambda x, kernel: matmul(x, kernel, precision), x, kernel)
    return product, backward(gradient)


def _broadcast_choice(name: str) -> str:
    """Returns the choice of process 0."""
    if jax.process_count() == 1:
        return name
    first = multihost_utils.broadcast_one_to_all(np.int32(name == "bfloat16"))
    return "bfloat16" if first else "default"
