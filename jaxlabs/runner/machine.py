"""What `jaxlabs doctor` finds with JAX: devices, the rate of matmuls, data sets, variables."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxlabs import labs
from jaxlabs.config import UserError
from jaxlabs.data import mnist, natural_images, sources, speeches, texts
from jaxlabs.runner.doctor import CUDA_13_DRIVER, FAIL, NOTE, Finding
from jaxlabs.training import devices, jax_settings

REPEATS = 5

SIZES = {"cpu": 1024}
"""Rows of the measured matrices by platform; others have MAX_SIZE."""

MAX_SIZE = 8192

FILES = {
    texts.TINY_SHAKESPEARE.name: (f"{texts.TINY_SHAKESPEARE.name}.txt",),
    "mnist": tuple(f"mnist/{file.name}" for file in mnist.FILES.values()),
    speeches.PUBLISHED: tuple(f"{speeches.PUBLISHED}/{name}" for name in speeches.FILES),
    natural_images.PHOTOGRAPHS: (natural_images.PHOTOGRAPHS,),
}
"""Files of the published data sets below the data folder."""

DOWNLOADED = (texts.TINY_SHAKESPEARE.name, "mnist")
"""Data sets with a public address, which tensorflow-datasets has as well."""


def findings(driver: str | None) -> Iterator[Finding]:
    """Yields all findings; `driver` is the version of NVIDIA's driver, or None."""
    yield from variables()
    try:
        devices.start("auto")
    except UserError as error:
        selected = [name for name in devices.PLATFORM_VARIABLES if os.environ.get(name)]
        remedy = f"unset {' '.join(selected)}" if selected else "give commands --platform=cpu"
        yield Finding("devices", str(error), FAIL, remedy)
        return
    yield from listed(driver)
    yield Finding("matmul", ", ".join(f"{name} {_rate(name)}" for name in ("float32", "bfloat16")))
    yield from data_sets()


def variables() -> Iterator[Finding]:
    """Yields the environment variables that change what a run does, with their effect."""
    fixed = [name.removeprefix("jax_") for name in jax_settings.FIXED_FOR_ALL_THREADS]
    effects = dict.fromkeys(
        devices.PLATFORM_VARIABLES, "selects the device; --platform overrides it"
    )
    effects |= {
        f"JAX_{name.upper()}": "ignored: runs set it" for name in [*jax_settings.FIXED, *fixed]
    }
    effects |= dict.fromkeys(
        jax_settings.COMPILER_VARIABLES, "may change results; a run resumes with the same flags"
    )
    for name, effect in effects.items():
        if value := os.environ.get(name):
            yield Finding(name, f"{value} ({effect})", NOTE)


def listed(driver: str | None) -> Iterator[Finding]:
    """Yields the devices, and a note if a GPU of NVIDIA is not used."""
    found = jax.devices()
    memory = (found[0].memory_stats() or {}).get("bytes_limit")
    text = f"{len(found)} x {found[0].device_kind} ({found[0].platform})"
    text += f", {memory / 1e9:.1f} GB" if memory else ""
    if found[0].platform == "gpu":  # its version of CUDA, or of ROCm
        text += f", {found[0].client.platform_version.splitlines()[-1]}"
    yield Finding("devices", text)
    if driver is None:
        return
    yield Finding("driver", f"NVIDIA {driver}")
    if found[0].platform != "gpu" and not os.environ.get("JAX_PLATFORMS"):
        # A driver without a version in numbers gets the older CUDA, which requires less.
        number = re.match("[0-9]*", driver)[0]
        extra = "cuda13" if int(number or 0) >= CUDA_13_DRIVER else "cuda12"
        text = "JAX does not use the GPU: its CUDA plugin is missing or does not fit the driver"
        yield Finding("CUDA", text, NOTE, f"pip install 'jaxlabs[{extra}]'")


def _rate(dtype: str) -> str:
    """Returns the highest rate of a square matmul, with its unit."""
    size = SIZES.get(jax.default_backend(), MAX_SIZE)
    matrix = jnp.ones((size, size), dtype)
    # Without `highest`, a GPU multiplies float32 numbers as TF32.
    multiply = jax.jit(lambda matrix: jnp.matmul(matrix, matrix, precision="highest"))
    multiply(matrix).block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        multiply(matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return f"{2 * size**3 / min(seconds) / 1e9:,.0f} GFLOP/s"


def data_sets() -> Iterator[Finding]:
    """Yields the published data sets, found or missing, and the labs that read them."""
    readers = {name: [] for name in FILES}
    for name in labs.names():
        try:
            lab = labs.load(name)
            settings = lab.config_class.from_flat(next(iter(lab.presets.values()))).flat()
        except UserError as error:
            yield Finding(name, str(error), NOTE)
            continue
        if (dataset := settings.get("dataset")) in readers:
            readers[dataset].append(name)
    home = sources.data_home(None)
    for name, wanted in readers.items():
        yield _data_set(name, ", ".join(wanted), home)


def _data_set(name: str, readers: str, home: Path) -> Finding:
    if all((home / file).exists() for file in FILES[name]):
        return Finding(name, f"found in {home} (for {readers})")
    if name not in DOWNLOADED:
        remedy = f"put {', '.join(FILES[name])} into {home}"
        return Finding(name, f"missing; generated data instead in {readers}", NOTE, remedy)
    if folder := sources.find_tfds(name, home):
        return Finding(name, f"found in {folder} (for {readers})")
    return Finding(name, f"not here yet; the first run of {readers} downloads it", NOTE)
