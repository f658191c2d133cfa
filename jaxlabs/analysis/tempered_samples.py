"""Samples of a character model at several temperatures, and what each set is measured by."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxlabs.analysis import text_samples
from jaxlabs.config import RUNTIME, setting
from jaxlabs.data.dataset import Data
from jaxlabs.run_files import HEADING, RULE, Texts
from jaxlabs.run_folder import RunFolder

TEMPERATURES = (0.7, 1.0, 1.2)
"""Bolder from one to the next; the first ones are more fluent, the last ones more varied."""

TEMPERATURE = "temperature "
"""Begins the heading of the samples at one temperature."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig(text_samples.SamplingConfig):
    """How samples are drawn."""

    num_samples: int = setting(
        1, "samples at each temperature", minimum=1, maximum=10_000, kind=RUNTIME
    )
    temperature: float | None = setting(
        None,
        f"0 takes the likeliest character; none: {', '.join(map(str, TEMPERATURES))} in turn",
        minimum=0,
        kind=RUNTIME,
    )


def draw(
    generate: Callable[..., tuple[jax.Array, jax.Array]],
    config: SamplingConfig,
    vocabulary: Mapping[str, Any],
    key: jax.Array,
) -> Texts:
    """Returns samples at each temperature under a heading; see `text_samples.draw`."""
    groups = {}
    for temperature in TEMPERATURES if config.temperature is None else (config.temperature,):
        one = dataclasses.replace(config, temperature=temperature)
        drawn = text_samples.draw(generate, one, vocabulary, key)
        groups[f"{TEMPERATURE}{temperature}"] = drawn
    return Texts(groups)


def read(folder: RunFolder) -> Texts:
    """Returns the samples of a run that has ended.

    Raises:
      UserError: there are none, or their file is damaged.
    """
    drawn = folder.read_texts("final")
    if isinstance(drawn, Texts):
        return drawn
    # A run of the first version kept them as one text.
    parts = f"\n{drawn}".split(f"\n{HEADING}{TEMPERATURE}")[1:]
    found = [part.partition("\n") for part in parts]
    return Texts({TEMPERATURE + value: texts.split(RULE) for value, _, texts in found})


def measure(drawn: Texts, config: SamplingConfig, data: Data) -> dict[str, float]:
    """Returns the figures of `text_samples.measure`, those of samples by temperature.

    Args:
      drawn: what `draw` returned.
      config: how it was drawn.
      data: the run's data.
    """
    figures = {}
    for heading, samples in drawn.groups.items():
        temperature = heading.removeprefix(TEMPERATURE)
        measured = text_samples.measure(samples, config, data)
        figures |= {
            f"{name}_at_{temperature}" if name.startswith("sample") else name: value
            for name, value in measured.items()
        }
    return figures
