"""Ahead-of-time compilation of a jitted function, with a warning at every recompilation."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import jax

from jaxlabs.training import capacity


class AotFunction:
    """A jitted function that is compiled before or at its first call, timed apart from execution.

    A later call with other shapes, dtypes or tree structure recompiles it, after a warning that
    names the differences.

    Attributes:
      compile_seconds: time spent compiling so far.
    """

    def __init__(self, jitted: Callable[..., Any], devices: int = 1):
        """Takes the function, and the number of devices that its arrays may be split over."""
        self._jitted, self._devices = jitted, devices
        self._compiled: Any = None
        self._signature: dict[str, str] = {}
        self.compile_seconds = 0.0

    @property
    def memory(self) -> capacity.ProgramMemory | None:
        """Memory of the compiled function; None before, or where the platform reports none."""
        return None if self._compiled is None else capacity.program_memory(self._compiled)

    def trace(self, *arguments: Any) -> jax.stages.Traced:
        """Traces the function; JAX remembers the trace of a call with the same shapes."""
        return self._jitted.trace(*arguments)

    def __call__(self, *arguments: Any) -> Any:
        self.compile(*arguments)
        return self._compiled(*arguments)

    def compile(self, *arguments: Any) -> None:
        """Compiles the function for these arguments, unless it is.

        Raises:
          TooLarge: it does not fit into memory.
        """
        signature = _signature(arguments)
        if signature == self._signature:
            return
        if self._compiled is not None:
            names = sorted(signature.keys() | self._signature.keys())
            changed = [
                f"{name}: {self._signature.get(name, 'absent')} -> {signature.get(name, 'absent')}"
                for name in names
                if self._signature.get(name) != signature.get(name)
            ]
            warnings.warn("recompiled, because of " + "; ".join(changed), stacklevel=3)
        start = time.perf_counter()
        traced = self.trace(*arguments)
        capacity.require_arrays(traced, "a training step", self._devices)
        self._compiled = traced.lower().compile()
        capacity.require_program(self._compiled, "a training step")
        self._signature = signature
        self.compile_seconds += time.perf_counter() - start


def _signature(arguments: tuple[Any, ...]) -> dict[str, str]:
    leaves = jax.tree_util.tree_flatten_with_path(arguments)[0]
    return {
        jax.tree_util.keystr(path): str(jax.api_util.shaped_abstractify(leaf))
        for path, leaf in leaves
    }
