"""One training step: gradient accumulation over micro-batches and devices, one guarded update.

The step never averages averages. Loss sums, weight sums and gradients of loss sums are added over
micro-batches and devices, and divided once. So padded batches, micro-batches with different numbers
of valid tokens and any number of devices give the same result as one large batch.

The carry is split and merged along with the batch, and never summed.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlabs.losses.loss_output import Batch, LossFunction, LossOutput
from jaxlabs.training.sharding import regather
from jaxlabs.training.state import TrainState, Tree, frozen_leaves, leaf_names

Metrics = dict[str, jax.Array]


def build_train_step(loss: LossFunction) -> Any:
    """Returns the jitted step of a loss.

    The step is `train_step(state, batch, key, *, axis_name=None) -> (state, metrics)`; `state` is
    donated. Under `jax.pmap(train_step, axis_name="batch")` pass that name; under `jax.jit` on a
    mesh pass none, since there the arrays are global. All replicas get the same `key`, and each
    batch has the global `example_index` of its examples, from which the keys of the examples
    derive: then any number of devices gives the result of one.

    `metrics` holds scalars: `loss` and the metrics of the loss, divided by the weight sum;
    `weight`; `gradient_norm` (before clipping, without frozen parameters); `skipped` (0 or 1);
    `nonfinite_leaf` (-1 for a finite step, else an index into `nonfinite_names`).
    """

    @functools.partial(jax.jit, static_argnames="axis_name", donate_argnums=0)
    def train_step(
        state: TrainState,
        batch: Batch,
        key: jax.Array,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        output, gradients = accumulate_gradients(loss, state, batch, key, axis_name)
        if axis_name is not None:
            updates, carry = jax.lax.pmean(output.new_batch_stats, axis_name), output.carry
            sums = output._replace(new_batch_stats=None, carry=None)
            output, gradients = jax.lax.psum((sums, gradients), axis_name)
            output = output._replace(new_batch_stats=updates, carry=carry)
        weight = jnp.where(output.weight_sum > 0, output.weight_sum, 1)
        # XLA fuses a product into its consumers, but materializes a quotient of every leaf.
        scale = 1 / weight
        gradients = jax.tree.map(lambda leaf: leaf * scale, gradients)
        if state.freeze is not None:  # neither clipped nor a reason to skip the step
            zeros = jax.tree.map(jnp.zeros_like, gradients)
            gradients = keep_frozen(state.freeze, zeros, gradients)
        norm, nonfinite_leaf = global_norm_and_nonfinite(gradients, output.loss_sum)
        mean_loss = output.loss_sum / weight
        state, nonfinite_leaf = apply_gradients(
            state,
            gradients,
            output.new_batch_stats,
            nonfinite_leaf,
            carry=output.carry,
            value=mean_loss,
            grad=gradients,
        )
        metrics = {
            name: total.astype(weight.dtype) / weight for name, total in output.metric_sums.items()
        } | {
            "loss": mean_loss,
            "weight": output.weight_sum,
            "gradient_norm": norm,
            "skipped": (nonfinite_leaf >= 0).astype(jnp.int32),
            "nonfinite_leaf": nonfinite_leaf,
        }
        return state, metrics

    return train_step


def accumulate_gradients(
    loss: LossFunction,
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    axis_name: str | None = None,
) -> tuple[LossOutput, Tree]:
    """Returns the loss output and the gradients of the loss sum, over all micro-batches."""

    def loss_and_gradients(examples, carry):
        def loss_sum(params):
            output = loss(
                state.model,
                state.variables(params),
                examples,
                key,
                train=True,
                step=state.step,
                axis_name=axis_name,
                carry=carry,
            )
            return output.loss_sum, output

        gradients, output = jax.grad(regather(loss_sum, state.mesh), has_aux=True)(state.params)
        return output, gradients

    count = state.grad_accum_steps
    if count == 1:
        return loss_and_gradients(batch, state.carry)

    @functools.partial(jax.jit, inline=True)  # traced once, for the shapes and for the scan
    def sums_and_carry(slices):
        output, gradients = loss_and_gradients(*slices)
        return (output._replace(carry=None), gradients), output.carry

    def add(sums, slices):
        more, carry = sums_and_carry(slices)
        return jax.tree.map(jnp.add, sums, more), carry

    slices = jax.tree.map(functools.partial(split_microbatches, count=count), (batch, state.carry))
    shapes, _ = jax.eval_shape(sums_and_carry, jax.tree.map(lambda leaf: leaf[0], slices))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (output, gradients), carry = jax.lax.scan(add, zeros, slices)
    means = jax.tree.map(lambda leaf: leaf / count, output.new_batch_stats)
    carry = jax.tree.map(merge_microbatches, carry)
    return output._replace(new_batch_stats=means, carry=carry), gradients


def split_microbatches(leaf: jax.Array, *, count: int) -> jax.Array:
    """Splits [batch, ...] into [count, batch / count, ...]; micro-batch i has i, i + count...

    A batch that is sharded in blocks over devices remains sharded so within every micro-batch.
    """
    return jnp.swapaxes(leaf.reshape(-1, count, *leaf.shape[1:]), 0, 1)


def merge_microbatches(leaf: jax.Array) -> jax.Array:
    """Inverts `split_microbatches`."""
    return jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])


def global_norm_and_nonfinite(gradients: Tree, loss: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the global norm, and the index of the first non-finite leaf (-1: none)."""
    # Not `vdot`, whose reshape to a vector would gather a gradient that is split over devices.
    square = functools.partial(jnp.tensordot, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.stack([square(g, g, g.ndim) for g in jax.tree.leaves(gradients)])
    first = _first(~jnp.isfinite(jnp.append(squares, loss)))
    return jnp.sqrt(squares.sum()), first


def _first(nonfinite: jax.Array) -> jax.Array:
    """Returns the first true index of `nonfinite [leaves]`, [] int32; -1 if none is true."""
    return jnp.where(nonfinite.any(), jnp.argmax(nonfinite), -1).astype(jnp.int32)


def apply_gradients(
    state: TrainState,
    gradients: Tree,
    batch_stats: Tree,
    nonfinite_leaf: jax.Array,
    *,
    carry: Tree = None,
    **extra: Any,
) -> tuple[TrainState, jax.Array]:
    """Applies the optimizer's update; a non-finite step changes only the step count.

    Args:
      state: the state before the step.
      gradients: gradients of the mean loss.
      batch_stats: new running statistics, or None to keep the old ones.
      nonfinite_leaf: [] index from `global_norm_and_nonfinite`.
      carry: the carry of the next batch, or None to keep the old one.
      extra: further arguments of the optimizer's update.

    Returns:
      The state, and the index into `nonfinite_names`, [] int32; -1 for a finite step.
    """
    update = optax.with_extra_args_support(state.tx).update
    with jax.numpy_dtype_promotion("standard"):  # optax takes powers with integer exponents
        updates, opt_state = update(gradients, state.opt_state, state.params, **extra)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
        ema_params = optax.incremental_update(params, ema_params, 1 - state.ema_decay)
    if state.freeze is not None:  # to the bit, which an average of equal numbers is not
        params = keep_frozen(state.freeze, state.params, params)
        ema_params = keep_frozen(state.freeze, state.ema_params, ema_params)
    batch_stats = state.batch_stats if batch_stats is None else batch_stats
    new = (params, opt_state, ema_params, batch_stats, state.carry if carry is None else carry)
    old = (state.params, state.opt_state, state.ema_params, state.batch_stats, state.carry)
    # Without the barrier XLA would fuse the check with the update and change its rounding.
    new = jax.lax.optimization_barrier(new)
    nonfinite = jnp.stack([~jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(new[0])])
    nonfinite_update = jnp.where(nonfinite.any(), len(nonfinite) + 1 + _first(nonfinite), -1)
    nonfinite_leaf = jnp.where(nonfinite_leaf < 0, nonfinite_update, nonfinite_leaf)
    kept = jax.lax.cond(nonfinite_leaf < 0, lambda: new, lambda: old)
    params, opt_state, ema_params, batch_stats, carry = kept
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


def keep_frozen(pattern: str, old: Tree, new: Tree) -> Tree:
    """Returns the new parameters, or the old ones where the name matches the pattern."""
    frozen = frozen_leaves(old, pattern)
    return jax.tree.map(lambda kept, old, new: old if kept else new, frozen, old, new)


def nonfinite_names(params: Tree) -> list[str]:
    """Returns the names of the values of the metric `nonfinite_leaf`, from 0 on."""
    names = leaf_names(params)
    return [*names, "the loss", *(f"the update of {name}" for name in names)]
