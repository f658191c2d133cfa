"""Whether something fits into memory: asked before it is taken, and told in one line after.

An operating system that runs out of memory ends whichever process it likes, without a word.
"""

import math
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core

from jaxlabs.config import UserError

CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
"""Where a container's limit stands, by version 2 and 1 of cgroups."""

WRITTEN = ("dot_general", "conv_general_dilated", "scan", "while")
"""What XLA writes the results of to memory; it fuses much of what is elementwise away."""

TOO_LARGE = ("array is too big", "Maximum allowed dimension", "Maximum allowed size")
"""How numpy refuses sizes that are no number of bytes."""


class TooLarge(UserError):
    """Something does not fit into memory. `command` puts the flags in front of it."""


def host_memory() -> int:
    """Returns the bytes of memory of this machine, or of the container that this process is in."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(pathlib.Path, CGROUP_LIMITS):
        text = path.read_text().strip() if path.is_file() else "max"
        limits += [int(text)] if text.isdigit() else []
    return min(limits)


def require_host(needed: int, what: str) -> None:
    """Raises TooLarge unless so many bytes, of `what`, fit into the memory of this machine."""
    if needed > host_memory():
        raise TooLarge(f"{what} needs {_gb(needed)}; this machine has {_gb(host_memory())}")


def require(needed: int, what: str) -> None:
    """Raises TooLarge unless so many bytes, of `what`, fit into the memory of each device."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":  # all of which share the machine's
        require_host(needed * jax.local_device_count(), what)
        return
    limit = (device.memory_stats() or {}).get("bytes_limit", math.inf)
    if needed > limit:
        raise TooLarge(f"{what} needs {_gb(needed)}; one {device.device_kind} has {_gb(limit)}")


def require_state(traced: jax.stages.Traced, what: str) -> None:
    """Raises TooLarge unless what a traced function returns fits into memory."""
    require(sum(map(_bytes, jax.tree.leaves(traced.out_info))), what)


def require_arrays(traced: jax.stages.Traced, what: str) -> None:
    """Raises TooLarge unless every single array fits that a traced function must write.

    It takes more than its largest array: see `require_program`, for which it has to be compiled.
    """
    require(max(map(_bytes, _written(traced.jaxpr.jaxpr)), default=0), what)


def require_program(compiled: jax.stages.Compiled, what: str) -> None:
    """Raises TooLarge unless a compiled program fits into memory with all that it works on."""
    found = compiled.memory_analysis()
    if found is None:  # some platforms do not tell
        return
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    require(found.argument_size_in_bytes + results + found.temp_size_in_bytes, what)


def in_a_line(error: BaseException) -> str | None:
    """Returns in a line what does not fit into memory; None for an error of another kind."""
    text = " ".join(str(error).split())
    if isinstance(error, TooLarge):
        return text
    if isinstance(error, jax.errors.JaxRuntimeError):
        if "RESOURCE_EXHAUSTED" not in text and "out of memory" not in text.lower():
            return None
        asked = re.search(r"allocat\w+ (\d+) bytes", text)
        return "out of memory" + (f"; {_gb(int(asked[1]))} more are needed" if asked else "")
    if isinstance(error, MemoryError):
        return f"out of memory{f'; {text}' if text else ''}"
    if isinstance(error, OverflowError) or text.startswith(TOO_LARGE):
        return f"too large to count with ({text})"
    return None


def _written(jaxpr: core.Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name in WRITTEN:
            yield from (result.aval for result in equation.outvars)
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _written(inner)


def _bytes(array: Any) -> int:
    return math.prod(array.shape) * array.dtype.itemsize


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
