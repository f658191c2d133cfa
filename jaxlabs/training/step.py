"""One training step: sums over micro-batches and devices, one division, one guarded update.

The step never averages averages. Totals, weights and gradients of totals add up over micro-batches
and devices, and only the grand sums are divided. So padded batches, micro-batches of different
numbers of real tokens and any number of devices all give what one big batch gives.

A carry belongs to its examples: it is cut along with the batch, put together again, never added.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlabs.losses.parts import LossOutput
from jaxlabs.training.state import LossFunction, TrainState, Tree, leaf_names

Metrics = dict[str, jax.Array]


def build_train_step(loss: LossFunction) -> Any:
    """Returns the jitted step of a loss.

    The step is `train_step(state, batch, key, *, axis_name=None) -> (state, metrics)`; `state` is
    donated. Under `jax.pmap(train_step, axis_name="batch")` pass that name; under `jax.jit` on a
    mesh pass none, since there the arrays are global. `metrics` holds scalars: `loss` (per unit of
    weight), every further sum of the loss per unit of weight, `weight`, `gradient_norm` (before
    clipping), `skipped` (0 or 1) and `nonfinite_leaf` (-1 when all is well, else a place in
    `bad_names`).
    """

    @functools.partial(jax.jit, static_argnames="axis_name", donate_argnums=0)
    def train_step(
        state: TrainState,
        batch: dict[str, jax.Array],
        key: jax.Array,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        parts, gradients = accumulate(loss, state.replace(axis_name=axis_name), batch, key)
        if axis_name is not None:
            updates, carry = jax.lax.pmean(parts.updates, axis_name), parts.carry
            sums = parts._replace(updates=None, carry=None)
            parts, gradients = jax.lax.psum((sums, gradients), axis_name)
            parts = parts._replace(updates=updates, carry=carry)
        weight = jnp.where(parts.weight > 0, parts.weight, 1)
        # XLA fuses a product into each of its readers; a quotient of every leaf is written first.
        scale = 1 / weight
        gradients = jax.tree.map(lambda leaf: leaf * scale, gradients)
        norm, nonfinite_leaf = global_norm_and_nonfinite(gradients, parts.total)
        state, nonfinite_leaf = update(
            state, gradients, parts.updates, nonfinite_leaf, carry=parts.carry
        )
        metrics = {
            name: total.astype(weight.dtype) / weight for name, total in parts.sums.items()
        } | {
            "loss": parts.total / weight,
            "weight": parts.weight,
            "gradient_norm": norm,
            "skipped": (nonfinite_leaf >= 0).astype(jnp.int32),
            "nonfinite_leaf": nonfinite_leaf,
        }
        return state, metrics

    return train_step


def accumulate(
    loss: LossFunction, state: TrainState, batch: dict[str, jax.Array], key: jax.Array
) -> tuple[LossOutput, Tree]:
    """Returns the parts of the loss and the gradients of its total, over all micro-batches."""

    def parts_and_gradients(examples, carry):
        def total(params):
            parts = loss(params, examples, key, state.replace(carry=carry), True)
            return parts.total, parts

        gradients, parts = jax.grad(total, has_aux=True)(state.params)
        return parts, gradients

    count = state.grad_accum_steps
    if count == 1:
        return parts_and_gradients(batch, state.carry)

    def sums_and_carry(slices):
        parts, gradients = parts_and_gradients(*slices)
        return (parts._replace(carry=None), gradients), parts.carry

    def add(sums, slices):
        more, carry = sums_and_carry(slices)
        return jax.tree.map(jnp.add, sums, more), carry

    slices = jax.tree.map(functools.partial(split_microbatches, count=count), (batch, state.carry))
    shapes, _ = jax.eval_shape(sums_and_carry, jax.tree.map(lambda leaf: leaf[0], slices))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (parts, gradients), carry = jax.lax.scan(add, zeros, slices)
    means = jax.tree.map(lambda leaf: leaf / count, parts.updates)
    carry = jax.tree.map(merge_microbatches, carry)
    return parts._replace(updates=means, carry=carry), gradients


def split_microbatches(leaf: jax.Array, *, count: int) -> jax.Array:
    """Splits [batch, ...] into [count, batch / count, ...]; slice i holds examples i, i + count...

    A batch that is sharded in blocks over devices stays sharded that way inside every slice.
    """
    return jnp.swapaxes(leaf.reshape(-1, count, *leaf.shape[1:]), 0, 1)


def merge_microbatches(leaf: jax.Array) -> jax.Array:
    """Undoes `split_microbatches`."""
    return jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])


def global_norm_and_nonfinite(gradients: Tree, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the global norm, and the first leaf that is not finite (-1: all of them are)."""
    squares = jnp.stack([jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradients)])
    first = _first(~jnp.isfinite(jnp.append(squares, total)))
    return jnp.sqrt(squares.sum()), first


def _first(bad: jax.Array) -> jax.Array:
    """Returns the first place of `bad [leaves]` that is true, [] int32; -1 where none is."""
    return jnp.where(bad.any(), jnp.argmax(bad), -1).astype(jnp.int32)


def update(
    state: TrainState,
    gradients: Tree,
    statistics: Tree,
    nonfinite_leaf: jax.Array,
    *,
    carry: Tree = None,
    **extra: Any,
) -> tuple[TrainState, jax.Array]:
    """Takes the optimizer's step, or keeps everything but the step count when it is not finite.

    Args:
      state: before the step.
      gradients: of the mean loss.
      statistics: new running statistics, or None to keep the old ones.
      nonfinite_leaf: [] from `global_norm_and_nonfinite`.
      carry: what the next batch goes on from, or None to keep the old one.
      extra: what else the optimizer wants to know.

    Returns:
      The state, and what of the step is not finite, [] int32, as `bad_names` lists it.
    """
    with jax.numpy_dtype_promotion("standard"):  # optax takes powers with integer exponents
        updates, opt_state = state.tx.update(gradients, state.opt_state, state.params, **extra)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
        ema_params = optax.incremental_update(params, ema_params, 1 - state.ema_decay)
    statistics = state.batch_stats if statistics is None else statistics
    new = (params, opt_state, ema_params, statistics, state.carry if carry is None else carry)
    old = (state.params, state.opt_state, state.ema_params, state.batch_stats, state.carry)
    new = _where(nonfinite_leaf < 0, new, old)
    # Without the barrier the check would be fused with the update, and change its rounding.
    new = jax.lax.optimization_barrier(new)
    finite = functools.reduce(
        jnp.logical_and, (jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(new[0]))
    )
    kept, bad_update = jax.lax.cond(finite, _accept, _undo, new, old)
    params, opt_state, ema_params, batch_stats, carry = kept
    nonfinite_leaf = jnp.where(nonfinite_leaf < 0, bad_update, nonfinite_leaf)
    state = state.replace(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        ema_params=ema_params,
        batch_stats=batch_stats,
        carry=carry,
        skipped=jnp.where(nonfinite_leaf < 0, 0, state.skipped + 1),
    )
    return state, nonfinite_leaf


def _where(condition: jax.Array, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), new, old)


def _accept(new: Tree, old: Tree) -> tuple[Tree, jax.Array]:
    return new, jnp.int32(-1)


def _undo(new: Tree, old: Tree) -> tuple[Tree, jax.Array]:
    """Returns the old parameters and all else, and which update is not finite, see `bad_names`."""
    bad = jnp.stack([~jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(new[0])])
    return old, len(bad) + 1 + _first(bad)


def bad_names(params: Tree) -> list[str]:
    """Returns in words what each value of the metric `nonfinite_leaf` from 0 on stands for."""
    names = leaf_names(params)
    return [*names, "the loss", *(f"the update of {name}" for name in names)]
