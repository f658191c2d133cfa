"""The contract of all loss functions: their arguments, and what they return."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax

Variables = Mapping[str, Any]
"""The variables of a linen module: `params`, and `batch_stats` where the module has them."""

Batch = Mapping[str, jax.Array]
"""Arrays [batch, ...] by name."""

Key = jax.Array
"""A typed PRNG key, []."""


class LossOutput(NamedTuple):
    """Sums of a loss and its metrics, which add up over micro-batches and devices."""

    #: [] sum of the loss over valid examples or tokens; in nats unless stated otherwise
    loss_sum: jax.Array
    weight_sum: jax.Array  #: [] sum of the weights of the examples or tokens
    #: sums of further metrics over the same examples, by name, each []
    metric_sums: dict[str, jax.Array]
    new_batch_stats: Any = None  #: new running statistics (`batch_stats`), or None
    carry: Any = None  #: recurrent states for the next batch, [batch, ...] each, or None


class LossFunction(Protocol):
    """A loss in training and evaluation; it accepts every argument and reads what it needs."""

    def __call__(
        self,
        model: nn.Module,
        variables: Variables,
        batch: Batch,
        key: Key,
        *,
        train: bool,
        step: int | jax.Array = 0,
        axis_name: str | None = None,
        carry: Any = None,
    ) -> LossOutput:
        """Returns sums over the valid examples or tokens of a batch.

        Args:
          model: the linen module.
          variables: its variables; training differentiates with respect to `params`.
          batch: the examples, with their weights.
          key: that of the training step or of the evaluation batch.
          train: whether regularization applies, and running statistics are updated.
          step: [] number of steps taken, for schedules; 0 in evaluation.
          axis_name: the mapped axis over which the batch is split, for statistics of the whole
            batch; None if the arrays are global.
          carry: arrays `[batch, ...]` from the loss of the previous batch, or None.
        """
