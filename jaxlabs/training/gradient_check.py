"""Checks gradients against central differences in float64."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

TABLE_ROWS = 10


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Analytic and numeric directional derivatives with respect to one parameter array.

    Attributes:
      name: the array's path in the parameter tree, joined with dots.
      analytic: `[directions]` directional derivatives by automatic differentiation.
      numeric: `[directions]` directional derivatives by central differences.
      every_entry: whether the directions are the array's entries in C order or random.
    """

    name: str
    analytic: np.ndarray
    numeric: np.ndarray
    every_entry: bool

    @property
    def relative_difference(self) -> float:
        """`||analytic - numeric|| / ||analytic + numeric||`; 0 if both are zero."""
        difference = np.linalg.norm(self.analytic - self.numeric)
        total = np.linalg.norm(self.analytic + self.numeric)
        if difference == 0:
            return 0.0
        return float(difference / total) if total > 0 and np.isfinite(difference) else math.inf

    def row(self) -> str:
        """A table row with the direction of the largest difference."""
        worst = int(np.argmax(np.abs(self.analytic - self.numeric)))
        kind = "entry" if self.every_entry else "random direction"
        return (
            f"{self.relative_difference:8.1e}  {self.name}: {kind} {worst} of {len(self.analytic)}"
            f": analytic {self.analytic[worst]:.9g}, numeric {self.numeric[worst]:.9g}"
        )


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """Comparisons of all parameters, worst first; its string is a table of the worst ones."""

    comparisons: tuple[Comparison, ...]

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest relative difference."""
        return self.comparisons[0]

    @property
    def all_params(self) -> Comparison:
        """The comparison of all parameters as one vector."""
        analytic, numeric = (
            np.concatenate([getattr(row, side) for row in self.comparisons])
            for side in ("analytic", "numeric")
        )
        every_entry = all(row.every_entry for row in self.comparisons)
        return Comparison("all parameters", analytic, numeric, every_entry)

    def __str__(self) -> str:
        rows = [comparison.row() for comparison in self.comparisons[:TABLE_ROWS]]
        return "\n".join(["relative difference of the gradient by parameter", *rows])


def check(
    loss_fn: Callable[..., jax.Array],
    params: Any,
    *args: Any,
    eps: float = 1e-4,
    key: jax.Array | None = None,
    max_entries: int = 500,
    directions: int = 20,
) -> GradientCheck:
    """Compares the gradient of a loss with central differences for each parameter array.

    The relative difference is defined as in Stanford's UFLDL notes ("Gradient checking and advanced
    optimization"). With the default eps, a correct gradient of a small sigmoid network has a
    relative difference below 1e-9, that of a loss with larger third derivatives up to 1e-7 (the
    truncation error grows with eps ** 2). Wrong gradients differ by orders of magnitude more.
    Everything is computed in float64, which is enabled for the duration of the call only.

    Args:
      loss_fn: `loss_fn(params, *args)` returns a scalar; jittable, and smooth near `params`.
      params: the pytree of floating-point arrays to differentiate with respect to.
      *args: further arguments; their floating-point arrays are cast to float64.
      eps: step size of the central differences.
      key: PRNG key of the random directions; required if an array exceeds `max_entries`.
      max_entries: arrays of up to this size are checked entry by entry, larger ones along random
        unit vectors.
      directions: number of random directions.

    Raises:
      ValueError: an array exceeds `max_entries` and there is no key, or is not floating-point.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"{_name(path)} is {leaf.dtype}; only floating-point arrays have gradients"
            )
        if leaf.size > max_entries and key is None:
            raise ValueError(
                f"{_name(path)} has {leaf.size} entries, more than max_entries={max_entries}:"
                " random directions need a key"
            )
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(_to_float64(params))
        args = _to_float64(args)

        @jax.jit
        def directional_derivative(direction: jax.Array) -> jax.Array:
            ahead = loss_fn(unravel(flat + eps * direction), *args)
            behind = loss_fn(unravel(flat - eps * direction), *args)
            return (ahead - behind) / (2 * eps)

        gradient = np.asarray(jax.jit(jax.grad(lambda x: loss_fn(unravel(x), *args)))(flat))
        comparisons, offset = [], 0
        for index, (path, leaf) in enumerate(jax.tree.leaves_with_path(params)):
            entries = slice(offset, offset + leaf.size)
            offset = entries.stop
            every_entry = leaf.size <= max_entries
            if every_entry:
                along = np.eye(leaf.size)
            else:
                along = _random_directions(jax.random.fold_in(key, index), directions, leaf.size)
            numeric = np.empty(len(along))
            for row, direction in enumerate(along):
                vector = np.zeros(flat.size)
                vector[entries] = direction
                numeric[row] = directional_derivative(vector)
            comparisons.append(
                Comparison(_name(path), along @ gradient[entries], numeric, every_entry)
            )
    return GradientCheck(tuple(sorted(comparisons, key=lambda row: -row.relative_difference)))


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _random_directions(key: jax.Array, count: int, size: int) -> np.ndarray:
    normal = np.asarray(jax.random.normal(key, (count, size)))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _to_float64(tree: Any) -> Any:
    def convert(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, jnp.float64) if floating else leaf

    return jax.tree.map(convert, tree)
