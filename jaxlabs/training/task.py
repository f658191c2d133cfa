"""What a lab hands to the engine once its data are loaded."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxlabs.data.batches import Examples, TokenStream
from jaxlabs.training.state import LossFunction, Tree


@dataclasses.dataclass(frozen=True)
class Task:
    """One lab's model, data and functions, as the engine sees them.

    Attributes:
      model: the linen module.
      init: `init(key) -> variables`.
      loss: the lab's loss, used for evaluation.
      train_step: the lab's jitted step, `build_train_step(loss)`.
      train_data: what `batch_at` reads.
      evaluations: finite sets by split name; the first is the headline, whose loss picks the best
        checkpoint.
      dataset: name, source, hash and facts of the data, as JSON; a resumed run must find the same hash.
      vocabulary: what turns model output back into symbols, as JSON, saved with every checkpoint.
      baselines: figures to stand beside the losses, by name.
    """

    model: nn.Module
    init: Callable[[jax.Array], dict[str, Tree]]
    loss: LossFunction
    train_step: Any
    train_data: TokenStream | Examples
    evaluations: dict[str, Examples]
    dataset: dict[str, Any]
    vocabulary: dict[str, Any]
    baselines: dict[str, float]

    @property
    def headline(self) -> str:
        """Name of the split whose loss is the run's headline."""
        return next(iter(self.evaluations))
