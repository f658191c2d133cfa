"""What a run trains and evaluates on."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxlabs.data.batches import ContiguousStreams, Examples, TokenStream


@dataclasses.dataclass(frozen=True)
class Data:
    """A loaded data set, split.

    Attributes:
      train: what `batch_at` reads.
      evaluations: finite sets by split name; the first is the headline, whose loss picks the best
        checkpoint.
      final_eval_sets: makes further sets, evaluated once, after the last step.
      dataset: `name`, `source`, `sha256` and whatever else is worth keeping, as JSON; a resumed run
        must find the same hash.
      comparable: whether published figures are about these very data.
      vocabulary: what turns model output back into symbols, as JSON, saved with every checkpoint.
      baselines: measures the figures that stand beside the losses, in their unit, by name.
      notice: one line for the user about where the data came from, or None.
    """

    train: TokenStream | ContiguousStreams | Examples
    evaluations: dict[str, Examples]
    final_eval_sets: Callable[[], dict[str, Examples]]
    dataset: dict[str, Any]
    comparable: bool
    vocabulary: dict[str, Any]
    baselines: Callable[[], dict[str, float]]
    notice: str | None = None

    @property
    def headline(self) -> str:
        """Name of the split whose loss is the run's headline."""
        return next(iter(self.evaluations))
