"""Records of published results, and their comparison with the metrics of a run."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

PER_TOKEN = "nats per "
"""Start of the unit of a loss whose tokens are not those of the published results."""


@dataclasses.dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
      quantity: name of the quantity in the report.
      metric: our metric, a key of the summary's `metrics`, or `parameters` or `seconds`.
      value: the published value, in `unit`.
      unit: "nats" (per target), "seconds", "parameters", "perplexity", "fraction" (0 to 1), ...
      note: measurement of the source; if not comparable, the reason.
      presets: presets of the lab that are compared with it.
      source: the document.
      comparable: whether both are measured in the same way.
    """

    quantity: str
    metric: str
    value: float
    unit: str
    _: dataclasses.KW_ONLY
    note: str
    presets: tuple[str, ...]
    source: str
    comparable: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedCurve:
    """A published learning curve.

    Attributes:
      presets: see `Published`.
      split: our split in metrics.jsonl.
      metric: our metric in these rows.
      steps: optimizer steps of the values, increasing.
      values: one per step, in `unit`.
      unit: see `Published`.
      source: the document.
      note: measurement of the source, and differences.
      label: legend entry in the report.
      window: number of steps, up to its own, over which a value is the mean.
    """

    presets: tuple[str, ...]
    split: str
    metric: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    unit: str
    source: str
    note: str
    label: str = "published"
    window: int = 1

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ValueError(f"{len(self.steps)} steps, {len(self.values)} values")


def compare(
    records: Iterable[Published | PublishedCurve],
    preset: str,
    metrics: Mapping[str, float],
    *,
    not_comparable_reason: str = "",
) -> list[dict[str, Any]]:
    """Compares the metrics of a run with the published results of its preset.

    Args:
      records: the published results of a lab; curves among them have no row.
      preset: name of the preset; without published results there are no rows.
      metrics: our metrics by name, including `parameters` and `seconds`.
      not_comparable_reason: why the whole run differs from the published one (other data, other
        steps); empty if it does not.

    Returns:
      Rows `quantity, metric, unit, published, ours, source, comparable, not_comparable_reason,
      note`, JSON values. `ours` is None if the run lacks the metric; `not_comparable_reason` is
      empty if comparable; `note` describes the measurement of the source.
    """
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
        if isinstance(record, Published) and preset in record.presets
    ]


def in_unit(
    records: Iterable[Published | PublishedCurve], loss_unit: str
) -> list[Published | PublishedCurve]:
    """Returns the records that a run with this unit of the loss can be compared with.

    A loss in nats per token of another tokenizer, such as "nats per byte", is no published one, nor
    is its perplexity.
    """
    if not loss_unit.startswith(PER_TOKEN):
        return list(records)
    return [record for record in records if record.unit not in ("nats", "perplexity")]


def curves(records: Iterable[Published | PublishedCurve], preset: str) -> list[PublishedCurve]:
    """Returns the published curves of a preset."""
    return [
        record
        for record in records
        if isinstance(record, PublishedCurve) and preset in record.presets
    ]
