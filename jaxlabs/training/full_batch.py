"""The training step of L-BFGS: all examples at once, and a line search.

The same contract as the step of mini-batches (`training.step`), for losses without randomness.
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
from jaxlabs.training.step import Metrics, accumulate, global_norm_and_nonfinite, update
from jaxlabs.training.task import Task


@functools.cache
def build_full_batch_step(loss: LossFunction) -> Any:
    """Returns the jitted L-BFGS step of a loss, see `training.step.build_train_step`.

    Loss and gradient of the accepted point come out of the line search, so that an iteration costs
    one evaluation as long as its first trial is good. The further sums of the loss are not among
    the metrics: evaluations report them.
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
        state, nonfinite_leaf = update(state, gradients, None, nonfinite_leaf, **search)
        metrics = {
            "loss": value,
            "gradient_norm": norm,
            "skipped": (nonfinite_leaf >= 0).astype(jnp.int32),
            "nonfinite_leaf": nonfinite_leaf,
        }
        return state, metrics

    return train_step


def _with_summed_gradient(loss, state, batch, key, axis_name):
    """Returns `params -> mean loss`, whose gradient is summed over micro-batches and devices."""

    def evaluate(params):
        parts, gradients = accumulate(
            loss, state.replace(params=params, axis_name=axis_name), batch, key
        )
        sums = (parts.total, parts.weight, gradients)
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
    """Raises UserError if an optimizer of the whole training set would see less, or another loss.

    A line search compares values of one and the same function, so nothing in it may be random.
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
            f"--optimizer: {settings.optimizer} needs a loss without random numbers (dropout,"
            " sampled codes) that is the same at every step; adamw or muon"
        )
    refused = {
        "batch_size": (config.batch_size, dataset.count, f"{dataset.count}, all training examples"),
        "grad_clip_norm": (settings.grad_clip_norm, None, "none"),
        "ema_decay": (settings.ema_decay, 0.0, "0"),
    }
    for name, (value, accepted, told) in refused.items():
        if value != accepted:
            raise UserError(
                f"--{name}: {value} is not accepted with --optimizer {settings.optimizer}; {told}"
            )
