"""How many floating-point operations the dots and convolutions of a function take."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

BACKWARD = 2
"""A dot's two gradients cost as much as two dots, so that a training step is three times a pass."""


def dot_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Counts multiplications and additions of all dots and convolutions, from the traced function.

    Nothing is compiled, so that the count is that of the mathematics and not of what a compiler
    made of it. Bodies of scans count as often as they run, and of branches the most costly one. All
    else (norms, softmax, random numbers, the optimizer) is left out, as is usual for model FLOPs.

    Args:
      function: anything that jax can trace.
      arguments: its arrays, or their `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: a dot stands in a loop whose length is not known.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: core.Jaxpr) -> float:
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
    counts = [_count(inner) for inner in _inner(params)]
    if name == "while" and any(counts):
        raise ValueError("a dot stands in a loop whose length is not known")
    if name == "cond":
        return max(counts)
    return params["length"] * sum(counts) if name == "scan" else sum(counts)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yields the functions that an equation calls."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part
