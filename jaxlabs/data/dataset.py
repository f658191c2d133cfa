"""The training data and the evaluation sets of a run."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxlabs.data.batches import ContiguousStreams, Examples, TokenStream


@dataclasses.dataclass(frozen=True)
class DataModule:
    """A loaded data set with its splits.

    Attributes:
      train: training data, read by `batch_at`.
      eval_sets: finite sets by split name; the first is monitored: its loss selects the best
        checkpoint.
      final_eval_sets: builds further sets, evaluated once after the last step.
      dataset: `name`, `source`, `sha256` and other metadata, as JSON; a resumed run must find the
        same hash.
      comparable: whether published results are on these exact data.
      data_spec: metadata for the model and its samples (shapes, classes, tokenizer), as JSON, saved
        with every checkpoint.
      baselines: computes reference losses and other metrics without a model, by name.
      warning: one line for the user about the origin of the data, or None.
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
