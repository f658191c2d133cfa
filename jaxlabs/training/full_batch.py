"""The full-batch training step of L-BFGS with a line search.

Its signature is that of the mini-batch step (`training.step`); the loss must be deterministic.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlabs.config import UserError
from jaxlabs.data.batches import Examples
from jaxlabs.training.optimizers import FULL_BATCH
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import LossFunction, TrainState
from jaxlabs.training.step import (
    Metrics,
    accumulate_gradients,
    apply_gradients,
    global_norm_and_nonfinite,
)
from jaxlabs.training.task import Task


@functools.cache
def build_full_batch_step(loss: LossFunction) -> Any:
    """Returns the jitted L-BFGS step of a loss, see `training.step.build_train_step`.

    Loss and gradient of the accepted point come from the line search, so an iteration costs one
    evaluation if the first step size is accepted. `metric_sums` of the loss are not among the
    metrics: evaluations report them.
    """

    @functools.partial(jax.jit, static_argnames="axis_name", donate_argnums=0)
    def train_step(
        state: TrainState,
        batch: dict[str, jax.Array],
        key: jax.Array,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        mean_loss = _with_summed_gradient(loss, state, batch, key, axis_name)
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
            loss, state.replace(params=params, axis_name=axis_name), batch, key
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


def require_whole_set(task: Task, config: RunConfig, dataset: Any) -> None:
    """Raises UserError if a full-batch optimizer has smaller batches or a stochastic loss.

    A line search compares values of one function, which must be deterministic.
    """
    settings = config.optimization
    if settings.optimizer not in FULL_BATCH:
        return
    if not isinstance(dataset, Examples):
        raise UserError(
            f"--optimizer: {settings.optimizer} needs a finite set of examples; adamw or muon"
        )
    if task.random:
        raise UserError(
            f"--optimizer: {settings.optimizer} needs a deterministic loss (no dropout, no sampled"
            " latents); adamw or muon"
        )
    required = {
        "batch_size": (config.batch_size, dataset.count, f"{dataset.count}, all training examples"),
        "grad_clip_norm": (settings.grad_clip_norm, None, "none"),
        "ema_decay": (settings.ema_decay, 0.0, "0"),
    }
    for name, (value, accepted, words) in required.items():
        if value != accepted:
            raise UserError(
                f"--{name}: {value} is not accepted with --optimizer {settings.optimizer}; {words}"
            )
