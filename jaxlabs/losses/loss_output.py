"""What every loss of the project returns."""

from typing import Any, NamedTuple

import jax


class LossOutput(NamedTuple):
    """A loss before its one division: sums, which add up over micro-batches and devices.

    Attributes:
      total: [] sum of the loss over real examples or tokens; nats unless the loss says otherwise.
      weight: [] how many real examples or tokens were summed.
      sums: further sums over the same examples, by metric name, each [].
      updates: new running statistics (`batch_stats`), or None for a model that has none.
      carry: what the next batch goes on from, [batch, ...] each, or None.
    """

    total: jax.Array
    weight: jax.Array
    sums: dict[str, jax.Array]
    updates: Any = None
    carry: Any = None
