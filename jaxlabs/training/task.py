"""The task of a lab: a model with its loss and its training step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from jaxlabs.config import ArgumentError
from jaxlabs.data.batches import Examples, batch_at
from jaxlabs.losses.loss_output import LossFunction
from jaxlabs.training.optimizers import FULL_BATCH, label_params
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import Tree


@dataclasses.dataclass(frozen=True)
class Task:
    """Model, loss and training step, without the data.

    Attributes:
      model: the linen module.
      init: `init(key) -> variables`.
      loss: the lab's loss, for evaluation.
      train_step: the lab's jitted step, `build_train_step(loss)`.
      derived_metrics: `metrics -> further metrics`, such as a perplexity from a loss.
      init_carry: `init_carry(batch_size) -> initial carry`; None for losses without a carry.
      batch_coupled: whether the loss of an example depends on the other examples of its batch
        (BatchNorm, mean activations, contrastive negatives). Such a loss is refused with more than
        one micro-batch; leave it False in a lab that documents what micro-batches mean there.
      label_fn: `params -> labels`, which decide the optimizer and the weight decay of each
        parameter; a function of the paths, since optax also calls it with some leaves masked. See
        `jaxlabs.training.optimizers.label_params`.
    """

    model: nn.Module
    init: Callable[[jax.Array], dict[str, Tree]]
    loss: LossFunction
    train_step: Any
    derived_metrics: Callable[[dict[str, float]], dict[str, float]] = lambda metrics: {}
    init_carry: Callable[[int], Tree] = lambda batch_size: None
    batch_coupled: bool = False
    label_fn: Callable[[Tree], Tree] = label_params


def is_stochastic(task: Task, dataset: Any, batch_size: int) -> bool:
    """Returns whether the training loss depends on its key or on the step; it is only traced."""

    def loss(key, step, variables, batch, carry):
        output = task.loss(task.model, variables, batch, key, train=True, step=step, carry=carry)
        return output.loss_sum, output.weight_sum

    key, step = jax.random.key(0), jnp.int32(0)
    variables = jax.eval_shape(task.init, key)
    batch = jax.eval_shape(lambda: batch_at(dataset, 0, 0, batch_size))
    carry = jax.eval_shape(lambda: task.init_carry(batch_size))
    jaxpr = jax.make_jaxpr(loss)(key, step, variables, batch, carry).jaxpr
    _, (uses_key, uses_step, *_) = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return uses_key or uses_step


def require_trainable(task: Task, config: RunConfig, dataset: Any) -> None:
    """Raises ArgumentError unless the optimizer settings suit the loss and the data.

    A full-batch optimizer needs all examples in a batch, and a line search compares values of one
    function, which must be deterministic.
    """
    settings = config.optimization
    if settings.optimizer == "scipy":
        raise ArgumentError(
            "optimizer", "scipy is no longer accepted; lbfgs minimizes the same loss"
        )
    if task.batch_coupled and settings.grad_accum_steps > 1:
        raise ArgumentError(
            "grad_accum_steps",
            f"{settings.grad_accum_steps} is not accepted; 1, since the loss of an example depends"
            " on the others of its batch",
        )
    if settings.optimizer not in FULL_BATCH:
        return
    if not isinstance(dataset, Examples):
        raise ArgumentError(
            "optimizer", f"{settings.optimizer} needs a finite set of examples; adamw or muon"
        )
    required = {
        "batch_size": (config.batch_size, dataset.count, f"{dataset.count}, all training examples"),
        "grad_clip_norm": (settings.grad_clip_norm, None, "none"),
        "ema_decay": (settings.ema_decay, 0.0, "0"),
    }
    for name, (value, accepted, words) in required.items():
        if value != accepted:
            raise ArgumentError(
                name, f"{value} is not accepted with `optimizer` {settings.optimizer}; {words}"
            )
    if is_stochastic(task, dataset, config.batch_size):
        raise ArgumentError(
            "optimizer",
            f"{settings.optimizer} needs a deterministic loss (no dropout, no sampled latents);"
            " adamw or muon",
        )
