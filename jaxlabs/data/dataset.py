"""A data set with its origin, and the training data and evaluation sets of a run."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from jaxlabs.data.batches import Examples, TrainingData

DataSpec = Mapping[str, Any]
"""What a model and its samples need to know of the data, as JSON: see `DataModule.data_spec`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set and its origin; subclasses hold its content.

    Attributes:
      name: a name that the `load` of its module knows, or the path.
      source: human-readable origin.
      sha256: hash of the content; a resumed run must find the same.
      warning: one line for the user if these are not the requested or not the published data, else
        None.
      comparable: whether published results are on these exact data.
    """

    name: str
    source: str
    sha256: str
    warning: str | None = None
    comparable: bool = False

    def describe(self) -> dict[str, Any]:
        """Returns the metadata that a run folder stores; subclasses extend it."""
        return {"name": self.name, "source": self.source, "sha256": self.sha256}

    def in_place_of(self, missing: str) -> Self:
        """Returns the data set as the fallback of another one; `missing` says why it is needed."""
        warning = (
            f"{missing}: training on {self.name} ({self.source}) instead, whose metrics are not"
            " comparable with published results"
        )
        return dataclasses.replace(self, warning=warning)


@dataclasses.dataclass(frozen=True)
class DataModule:
    """The training data and the evaluation sets of a run.

    Attributes:
      train: training data on the devices or on the host.
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
      text_tokens: number of targets of the whole text by evaluation set, further ones included, of
        those that `--eval_tokens` limits; a set with fewer targets is a sample. Empty if the data
        are no text; else the sets hold `inputs`, `targets` and `weights [count, time]`.
      loss_unit: unit of the loss, if it is another one than the lab's: with another tokenizer.
      token_bytes: number of UTF-8 bytes of each token `[vocab_size]`; None: no bits per byte.
    """

    train: TrainingData
    eval_sets: dict[str, Examples]
    final_eval_sets: Callable[[], dict[str, Examples]] = dict
    dataset: dict[str, Any] = dataclasses.field(default_factory=dict)
    comparable: bool = False
    data_spec: dict[str, Any] = dataclasses.field(default_factory=dict)
    baselines: Callable[[], dict[str, float]] = dict
    warning: str | None = None
    text_tokens: Mapping[str, int] = dataclasses.field(default_factory=dict)
    loss_unit: str | None = None
    token_bytes: np.ndarray | None = None

    @property
    def monitor(self) -> str:
        """Name of the monitored split, whose loss selects the best checkpoint."""
        return next(iter(self.eval_sets))
