"""Every published figure that a run is compared with, once, with the document it came from."""

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
    """Sets a run's figures against the published ones of its experiment and preset.

    Args:
      experiment: name of the experiment.
      preset: name of the preset; one without published figures gives no rows.
      metrics: our figures by name; `parameters` and `seconds` count among them.
      not_comparable_reason: what makes the whole run differ from the published ones (other data,
        other steps); empty when nothing does.

    Returns:
      Rows `figure, metric, unit, published, ours, source, comparable, not_comparable_reason, note`,
      plain values fit for JSON. `ours` is None where the run has no such figure;
      `not_comparable_reason` is empty where comparable, and `note` holds how the document measured.
    """
    records = [r for r in PUBLISHED_RESULTS if r.experiment == experiment and preset in r.presets]
    return compare_with(records, metrics, not_comparable_reason)


def curves(experiment: str, preset: str) -> list[PublishedCurve]:
    """Returns the published curves of an experiment and preset."""
    return [c for c in CURVES if c.experiment == experiment and preset in c.presets]
