"""The return type of all loss functions."""

from typing import Any, NamedTuple

import jax


class LossOutput(NamedTuple):
    """Sums of a loss and its metrics, which add up over micro-batches and devices.

    Attributes:
      loss_sum: [] sum of the loss over valid examples or tokens; in nats unless stated otherwise.
      weight_sum: [] sum of the weights of the examples or tokens.
      metric_sums: sums of further metrics over the same examples, by name, each [].
      new_batch_stats: new running statistics (`batch_stats`), or None.
      carry: recurrent states for the next batch, [batch, ...] each, or None.
    """

    loss_sum: jax.Array
    weight_sum: jax.Array
    metric_sums: dict[str, jax.Array]
    new_batch_stats: Any = None
    carry: Any = None
