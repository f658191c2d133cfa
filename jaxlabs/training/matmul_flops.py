"""Counts the floating-point operations of the matmuls and convolutions of a function."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def matmul_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Counts multiplications and additions of all matmuls and convolutions of the traced function.

    The function is not compiled, so the count does not depend on compiler optimizations. The body
    of a scan counts once per iteration; of a conditional, the most expensive branch counts. All
    other operations (norms, softmax, random numbers, Adam) are not counted, as is usual.

    Args:
      function: a function that JAX can trace.
      *arguments: its arrays, or their `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: a matmul is inside a while loop of unknown length.
    """
    return count_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def count_flops(jaxpr: core.Jaxpr) -> float:
    """Counts those of a traced function, see `matmul_flops`."""
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: core.JaxprEqn) -> float:
    name, params = equation.primitive.name, equation.params
    shapes = [variable.aval.shape for variable in equation.invars[:2]]
    if name == "dot_general":
        (_, contracted), (_, batched) = params["dimension_numbers"]
        free = [
            size
            for axis, size in enumerate(shapes[1])
            if axis not in contracted and axis not in batched
        ]
        return 2.0 * math.prod(shapes[0]) * math.prod(free)
    if name == "conv_general_dilated":
        features_out = params["dimension_numbers"].rhs_spec[0]
        taps = math.prod(shapes[1]) // shapes[1][features_out]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * taps
    counts = [count_flops(inner) for inner in _inner(params)]
    if name == "while" and any(counts):
        raise ValueError("a matmul is inside a while loop of unknown length")
    if name == "cond":
        return max(counts)
    return params["length"] * sum(counts) if name == "scan" else sum(counts)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yields the jaxprs that an equation calls."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part
