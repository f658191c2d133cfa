"""What a run trains and evaluates on."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxlabs.data.batches import ContiguousStreams, Examples, TokenStream


@dataclasses.dataclass(frozen=True)
class DataModule:
    """A loaded data set, split.

    Attributes:
      train: what `batch_at` reads.
      eval_sets: finite sets by split name; the first is monitored: its loss selects the best
        checkpoint.
      final_eval_sets: makes further sets, evaluated once, after the last step.
      dataset: `name`, `source`, `sha256` and whatever else is worth keeping, as JSON; a resumed run
        must find the same hash.
      comparable: whether published figures are about these very data.
      data_spec: what the model and its samples need to know of the data (shapes, classes,
        tokenizer), as JSON, saved with every checkpoint.
      baselines: measures the figures that stand beside the losses, in their unit, by name.
      warning: one line for the user about where the data came from, or None.
    """

    train: TokenStream | ContiguousStreams | Examples
    eval_sets: dict[str, Examples]
    final_eval_sets: Callable[[], dict[str, Examples]]
    dataset: dict[str, Any]
    comparable: bool
    data_spec: dict[str, Any]
    baselines: Callable[[], dict[str, float]]
    warning: str | None = None

    @property
    def monitor(self) -> str:
        """Name of the monitored split, whose loss selects the best checkpoint."""
        return next(iter(self.eval_sets))
