"""JAX settings that change numerical results: fixed in every run, independent of the environment.

JAX reads most of them from environment variables (`JAX_ENABLE_X64`, `JAX_DEFAULT_PRNG_IMPL`). A run
must not depend on them: its results follow from its settings. Compiler flags cannot be fixed here;
a resumed run must have those of its start.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxlabs.config import UserError

FIXED = {
    "enable_x64": False,
    "numpy_dtype_promotion": "standard",
    "default_prng_impl": "threefry2x32",
    "threefry_partitionable": True,
    "default_matmul_precision": None,
    "softmax_custom_jvp": False,
    "allow_f16_reductions": True,
    "disable_jit": False,
}
"""JAX's default values by name of the context manager."""

FIXED_FOR_ALL_THREADS = {
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
}
"""Settings without a context manager."""

COMPILER_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
"""Environment variables with flags of XLA and its libraries."""

HARMLESS_FLAGS = ("--xla_dump", "--xla_force_host_platform_device_count")
"""Prefixes of flags that do not change numerical results on the same devices."""


@contextlib.contextmanager
def fixed() -> Iterator[None]:
    """Fixes the JAX settings that change numerical results, in this thread."""
    before = {name: getattr(jax.config, name) for name in FIXED_FOR_ALL_THREADS}
    with applied(FIXED), contextlib.ExitStack() as stack:
        for name, value in FIXED_FOR_ALL_THREADS.items():
            jax.config.update(name, value)
            stack.callback(jax.config.update, name, before[name])
        yield


@contextlib.contextmanager
def applied(settings: Mapping[str, Any]) -> Iterator[None]:
    """Applies settings with a context manager, by its name, in this thread."""
    with contextlib.ExitStack() as stack:
        for name, value in settings.items():
            stack.enter_context(getattr(jax, name)(value))
        yield


def of_this_thread() -> dict[str, Any]:
    """Returns the settings of this thread that may change numerical results, see `applied`."""
    return {name: getattr(jax.config, f"jax_{name}") for name in FIXED}


def compiler_flags() -> dict[str, str]:
    """Returns the compiler flags that may change numerical results, by environment variable."""
    found = {}
    for name in COMPILER_VARIABLES:
        flags = os.environ.get(name, "").split()
        flags = sorted(flag for flag in flags if not flag.startswith(HARMLESS_FLAGS))
        if flags:
            found[name] = " ".join(flags)
    return found


def require_same_compiler_flags(stored: Mapping[str, str]) -> None:
    """Raises UserError unless the compiler flags are those of a stored run."""
    here = compiler_flags()
    for name in COMPILER_VARIABLES:
        there, now = stored.get(name, ""), here.get(name, "")
        if there != now:
            raise UserError(
                f"{name}: {now!r} would change the results of the stored run, which started with"
                f" {there!r}; restore that value, use another `workdir`, or `overwrite`"
            )
