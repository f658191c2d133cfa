"""What a published figure is, and a run's figures set against it."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """One figure as its document states it.

    Attributes:
      experiment: the command under `experiments/` that the figure belongs to.
      presets: the presets of that command that are set against it.
      figure: what the document calls it, in a few words.
      metric: our name for it, a key of the summary's `metrics`, or `parameters` or `seconds`.
      value: the figure, in `unit`.
      unit: "nats" (per target), "seconds", "parameters", "perplexity", "share" (0 to 1), ...
      source: the document.
      comparable: whether both figures measure the same thing in the same way.
      note: how the document measured; where not comparable, why not.
    """

    experiment: str
    presets: tuple[str, ...]
    quantity: str
    metric: str
    value: float
    unit: str
    source: str
    comparable: bool
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedCurve:
    """A figure that a document states at several steps of a run.

    Attributes:
      experiment: see `Published`.
      presets: see `Published`.
      split: our split, as in metrics.jsonl, whose rows it is set against.
      metric: our name for the figure, a key of those rows.
      steps: the optimizer steps that the values belong to, rising.
      values: one for every step, in `unit`.
      unit: see `Published`.
      source: the document.
      note: how the document measured, and what differs.
      label: what the report calls the values.
      masked_mean: a value is the mean over so many steps, up to its own; 1: that of its step.
    """

    experiment: str
    presets: tuple[str, ...]
    split: str
    metric: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    unit: str
    source: str
    note: str
    label: str = "published"
    masked_mean: int = 1

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ValueError(f"{len(self.steps)} steps, {len(self.values)} values")


def compare_with(
    records: Iterable[Published], metrics: Mapping[str, float], not_comparable_reason: str
) -> list[dict[str, Any]]:
    """Returns one row for each record, see `jaxlabs.published.compare`."""
    return [
        {
            "quantity": record.quantity,
            "metric": record.metric,
            "unit": record.unit,
            "published": record.value,
            "ours": metrics.get(record.metric),
            "source": record.source,
            "comparable": record.comparable and not not_comparable_reason,
            "not_comparable_reason": "; ".join(
                filter(None, (not_comparable_reason, "" if record.comparable else record.note))
            ),
            "note": record.note,
        }
        for record in records
    ]
