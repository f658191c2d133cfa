"""Training of tiny models on synthetic tasks in seconds."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from jax import lax
from jax.flatten_util import ravel_pytree

Loss = Callable[[Any, jax.Array], jax.Array]


def fit(
    loss: Loss,
    params: Any,
    key: jax.Array,
    *,
    steps: int,
    learning_rate: float | jax.Array,
    grad_clip_norm: float | None = None,
    grad_metric: Callable[[Any], jax.Array] = optax.tree.norm,
) -> tuple[Any, jax.Array, jax.Array]:
    """Minimizes a loss with Adam; pure, so it can be jitted and vmapped over models.

    The learning rate has linear warmup over the first tenth of the steps, then cosine decay to 0.

    Args:
      loss: `(params, key) -> []`, the loss of a batch sampled from the key.
      params: initial parameters.
      key: PRNG key of the batches; step n uses `fold_in(key, n)`.
      steps: number of steps, at least 1.
      learning_rate: peak; may be traced.
      grad_clip_norm: maximum global norm of the gradient; None: no clipping.
      grad_metric: function of every gradient before clipping; by default the global norm.

    Returns:
      The parameters after the last step, the loss `[steps]` of every step before its update, and
      the gradient metric `[steps]`.
    """
    warmup = max(steps // 10, 1)
    schedule = optax.warmup_cosine_decay_schedule(1 / warmup, 1.0, warmup, max(steps, warmup + 1))
    clip = optax.identity() if grad_clip_norm is None else optax.clip_by_global_norm(grad_clip_norm)
    optimizer = optax.chain(clip, optax.scale_by_adam(b2=0.99), optax.scale_by_schedule(schedule))
    # As one vector, the parameters have one update to compile and not one for every leaf.
    vector, unravel = ravel_pytree(params)

    def step(carry, index):
        vector, state = carry
        value, gradient = jax.value_and_grad(lambda vector, key: loss(unravel(vector), key))(
            vector, jax.random.fold_in(key, index)
        )
        updates, state = optimizer.update(gradient, state)
        measured = value, grad_metric(unravel(gradient))
        return (vector - learning_rate * updates, state), measured

    (vector, _), (losses, grad_metrics) = lax.scan(
        step, (vector, optimizer.init(vector)), jnp.arange(steps)
    )
    return unravel(vector), losses, grad_metrics


def progress(items: Iterable[Any], name: str, count: int | None = None) -> Iterable[Any]:
    """Yields the items, with a progress bar on standard error if that is a terminal."""
    return tqdm.tqdm(items, total=count, desc=name, unit=name, disable=None)


def stack(trees: Iterable[Any]) -> Any:
    """Returns the trees of arrays stacked along a new first axis, for `jax.vmap`."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def init_params(shapes: Any, seed: int | Sequence[int]) -> Any:
    """Initializes numpy parameters for a tree of shapes by the names of its leaves.

    `scale` is 1 and `bias` 0. The others are normal, with a standard deviation of `in ** -0.5`
    for a `kernel [..., in, out]` and 1 otherwise. They are sampled on the host, because compiling
    the initializers of linen takes longer than training such a model.
    """
    rng = np.random.default_rng(seed)

    def init(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        if name in ("scale", "bias"):
            return np.full(leaf.shape, float(name == "scale"), np.float32)
        std = leaf.shape[-2] ** -0.5 if name.endswith("kernel") else 1.0
        return np.float32(rng.normal(0, std, leaf.shape))

    return jax.tree_util.tree_map_with_path(init, shapes)
