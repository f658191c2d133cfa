"""The full-batch training step of optimizers that evaluate the loss: L-BFGS with a line search.

Its signature is that of the mini-batch step (`training.step`); the loss must be deterministic.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlabs.losses.loss_output import Batch, LossFunction
from jaxlabs.training.state import TrainState
from jaxlabs.training.step import (
    Metrics,
    accumulate_gradients,
    apply_gradients,
    global_norm_and_nonfinite,
)


@functools.cache
def build_full_batch_step(loss: LossFunction) -> Any:
    """Returns the jitted full-batch step of a loss, see `training.step.build_train_step`.

    Loss and gradient of the accepted point come from the line search, if it keeps them, so an
    iteration costs one evaluation if the first step size is accepted. `metric_sums` of the loss are
    not among the metrics: evaluations report them.
    """

    @functools.partial(jax.jit, static_argnames="axis_name", donate_argnums=0)
    def train_step(
        state: TrainState,
        batch: Batch,
        key: jax.Array,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        mean_loss = _with_summed_gradient(loss, state, batch, key, axis_name)
        if optax.tree.get(state.opt_state, "grad") is None:
            value, gradients = jax.value_and_grad(mean_loss)(state.params)
        else:
            value, gradients = optax.value_and_grad_from_state(mean_loss)(
                state.params, state=state.opt_state
            )
        norm, nonfinite_leaf = global_norm_and_nonfinite(gradients, value)
        search = {"value": value, "grad": gradients, "value_fn": mean_loss}
        state, nonfinite_leaf = apply_gradients(state, gradients, None, nonfinite_leaf, **search)
        metrics = {
            "loss": value,
            "gradient_norm": norm,
            "skipped": (nonfinite_leaf >= 0).astype(jnp.int32),
            "nonfinite_leaf": nonfinite_leaf,
        }
        return state, metrics

    return train_step


def _with_summed_gradient(loss, state, batch, key, axis_name):
    """Returns `params -> mean loss`, with the gradient summed over micro-batches and devices."""

    def evaluate(params):
        output, gradients = accumulate_gradients(
            loss, state.replace(params=params), batch, key, axis_name
        )
        sums = (output.loss_sum, output.weight_sum, gradients)
        total, weight, gradients = sums if axis_name is None else jax.lax.psum(sums, axis_name)
        return total / weight, jax.tree.map(lambda leaf: leaf / weight, gradients)

    @jax.custom_vjp
    def mean_loss(params):
        return evaluate(params)[0]

    def backward(gradients, cotangent):
        return (jax.tree.map(lambda leaf: cotangent * leaf, gradients),)

    mean_loss.defvjp(evaluate, backward)
    return mean_loss
