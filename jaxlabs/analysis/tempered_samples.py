"""Samples of a character-level model at several temperatures, and their metrics."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxlabs.analysis import text_samples
from jaxlabs.config import RUNTIME, setting
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_files import HEADING, SEPARATOR, Texts
from jaxlabs.run_folder import RunFolder

TEMPERATURES = (0.7, 1.0, 1.2)
"""Default temperatures: low ones give fluent text, high ones varied text."""

TEMPERATURE = "temperature "
"""Prefix of the heading of the samples at one temperature."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig(text_samples.SamplingConfig):
    """Sampling options."""

    num_samples: int = setting(
        1, "samples at each temperature", minimum=1, maximum=10_000, kind=RUNTIME
    )
    temperature: float | None = setting(
        None,
        f"sampling temperature; 0: greedy; none: {', '.join(map(str, TEMPERATURES))}",
        minimum=0,
        kind=RUNTIME,
    )


def sample_texts(
    generate: Callable[..., tuple[jax.Array, jax.Array]],
    config: SamplingConfig,
    vocabulary: Mapping[str, Any],
    key: jax.Array,
) -> Texts:
    """Returns samples at each temperature under a heading; see `text_samples.sample_texts`."""
    groups = {}
    for temperature in TEMPERATURES if config.temperature is None else (config.temperature,):
        options = dataclasses.replace(config, temperature=temperature)
        samples = text_samples.sample_texts(generate, options, vocabulary, key)
        groups[f"{TEMPERATURE}{temperature}"] = samples
    return Texts(groups)


def load_samples(folder: RunFolder) -> Texts:
    """Returns the samples of a finished run.

    Raises:
      UserError: the file of samples is missing or damaged.
    """
    samples = folder.read_texts("final")
    if isinstance(samples, Texts):
        return samples
    # The first version stored one text.
    groups = f"\n{samples}".split(f"\n{HEADING}{TEMPERATURE}")[1:]
    pairs = [group.partition("\n") for group in groups]
    return Texts({TEMPERATURE + value: texts.split(SEPARATOR) for value, _, texts in pairs})


def measure(samples: Texts, config: SamplingConfig, data: DataModule) -> dict[str, float]:
    """Returns the metrics of `text_samples.measure`, those of samples by temperature.

    Args:
      samples: result of `sample_texts`.
      config: its sampling options.
      data: the run's data.
    """
    metrics = {}
    for heading, texts in samples.groups.items():
        temperature = heading.removeprefix(TEMPERATURE)
        measured = text_samples.measure(texts, config, data)
        metrics |= {
            f"{name}_at_{temperature}" if name.startswith("sample") else name: value
            for name, value in measured.items()
        }
    return metrics
