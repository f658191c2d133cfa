"""All published results that runs are compared with, each with its source."""

from collections.abc import Mapping
from typing import Any

from jaxlabs.published import autoencoders, char_rnn, ddpm, gpt, speeches
from jaxlabs.published.records import Published, PublishedCurve, compare_with

PUBLISHED_RESULTS: tuple[Published, ...] = (
    *gpt.PUBLISHED_RESULTS,
    *speeches.PUBLISHED_RESULTS,
    *autoencoders.PUBLISHED_RESULTS,
    *ddpm.PUBLISHED_RESULTS,
    *char_rnn.PUBLISHED_RESULTS,
)
CURVES: tuple[PublishedCurve, ...] = (*speeches.CURVES, *ddpm.CURVES)


def compare(
    experiment: str, preset: str, metrics: Mapping[str, float], *, not_comparable_reason: str = ""
) -> list[dict[str, Any]]:
    """Compares the metrics of a run with the published results of its experiment and preset.

    Args:
      experiment: name of the experiment.
      preset: name of the preset; without published results there are no rows.
      metrics: our metrics by name, including `parameters` and `seconds`.
      not_comparable_reason: why the whole run differs from the published one (other data, other
        steps); empty if it does not.

    Returns:
      Rows `quantity, metric, unit, published, ours, source, comparable, not_comparable_reason,
      note`, JSON values. `ours` is None if the run lacks the metric; `not_comparable_reason` is
      empty if comparable; `note` describes the measurement of the source.
    """
    records = [r for r in PUBLISHED_RESULTS if r.experiment == experiment and preset in r.presets]
    return compare_with(records, metrics, not_comparable_reason)


def curves(experiment: str, preset: str) -> list[PublishedCurve]:
    """Returns the published curves of an experiment and preset."""
    return [c for c in CURVES if c.experiment == experiment and preset in c.presets]
