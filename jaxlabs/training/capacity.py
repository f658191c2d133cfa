"""Memory limits: checks before an allocation, and one line for an out-of-memory error.

The checks matter because the out-of-memory killer of the operating system leaves no message.
"""

import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import psutil
from jax.extend import core

from jaxlabs.config import UserError

CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
"""Files with the memory limit of a container, of cgroups version 2 and 1."""

MATERIALIZED = ("dot_general", "conv_general_dilated", "scan", "while")
"""Primitives whose results XLA writes to memory; elementwise ones are mostly fused."""

TOO_LARGE = ("array is too big", "Maximum allowed dimension", "Maximum allowed size")
"""Beginnings of numpy's error messages for sizes that overflow."""


class TooLarge(UserError):
    """Something does not fit into memory; `command` prepends the flags.

    Attributes:
      remedy: what makes it fit, such as "a smaller --batch_size"; empty if several settings do.
    """

    def __init__(self, message: str, remedy: str = ""):
        super().__init__(message)
        self.remedy = remedy


REMEDIES = {
    "a training step": "a smaller --batch_size, or more --grad_accum_steps",
    "an evaluation batch": "a smaller --eval_batch_size",
    "an evaluation": "a smaller --eval_batch_size",
    "the final evaluation of the text": "a smaller --eval_tokens",
}
"""What makes something fit, by what does not."""


def host_memory() -> int:
    """Returns the memory of this machine, or of the container of this process, in bytes."""
    limits = [psutil.virtual_memory().total]
    for path in map(pathlib.Path, CGROUP_LIMITS):
        text = path.read_text(encoding="ascii").strip() if path.is_file() else "max"
        limits += [int(text)] if text.isdigit() else []
    return min(limits)


def device_memory() -> int | None:
    """Returns the memory of a device in bytes; None on CPUs, or where it is not known."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return None
    return (device.memory_stats() or {}).get("bytes_limit")


def require_host(needed: int, what: str) -> None:
    """Raises TooLarge unless `needed` bytes fit into host memory; `what` names the data."""
    if needed > host_memory():
        message = f"{what} needs {_gb(needed)}; this machine has {_gb(host_memory())}"
        raise TooLarge(message, REMEDIES.get(what, ""))


def require(needed: int, what: str) -> None:
    """Raises TooLarge unless `needed` bytes fit into the memory of each device."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":  # CPU devices share the host memory
        require_host(needed * jax.local_device_count(), what)
        return
    limit = device_memory()
    if limit is not None and needed > limit:
        message = f"{what} needs {_gb(needed)}; one {device.device_kind} has {_gb(limit)}"
        raise TooLarge(message, REMEDIES.get(what, ""))


def require_state(traced: jax.stages.Traced, what: str) -> None:
    """Raises TooLarge unless the results of a traced function fit into memory."""
    require(size_of(traced.out_info), what)


def require_arrays(traced: jax.stages.Traced, what: str, devices: int = 1) -> None:
    """Raises TooLarge unless the largest array that a traced function materializes fits.

    This is a lower bound, since an array may be split over all `devices`; `require_program` checks
    the compiled function.
    """
    largest = max(map(size_of, _materialized(traced.jaxpr.jaxpr)), default=0)
    require(largest // devices, what)


class ProgramMemory(NamedTuple):
    """Memory of a compiled program on each device, in bytes."""

    arrays: int  #: arguments, and results that do not replace them
    temporaries: int  #: intermediate arrays


def program_memory(compiled: jax.stages.Compiled) -> ProgramMemory | None:
    """Returns the memory of a compiled program; None where the platform does not report it."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return ProgramMemory(found.argument_size_in_bytes + results, found.temp_size_in_bytes)


def require_program(compiled: jax.stages.Compiled, what: str) -> None:
    """Raises TooLarge unless a compiled program fits: arguments, results and temporaries."""
    found = program_memory(compiled)
    if found is not None:
        require(sum(found), what)


def in_a_line(error: BaseException) -> str | None:
    """Returns one line for an out-of-memory error; None for any other error."""
    text = " ".join(str(error).split())
    if isinstance(error, TooLarge):
        return text
    if isinstance(error, jax.errors.JaxRuntimeError):
        if "RESOURCE_EXHAUSTED" not in text and "out of memory" not in text.lower():
            return None
        asked = re.search(r"allocat\w+ (\d+) bytes", text)
        return "out of memory" + (f"; {_gb(int(asked[1]))} more needed" if asked else "")
    if isinstance(error, MemoryError):
        return f"out of memory{f'; {text}' if text else ''}"
    if isinstance(error, OverflowError) or text.startswith(TOO_LARGE):
        return f"number too large ({text})"
    return None


def _materialized(jaxpr: core.Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name in MATERIALIZED:
            yield from (result.aval for result in equation.outvars)
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _materialized(inner)


def size_of(tree: Any) -> int:
    """Returns the bytes of the arrays of a tree, or of their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
