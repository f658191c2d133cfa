"""Samples of a character language model: how they are drawn, and what they are measured by."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlabs.analysis.sample_quality import sample_quality
from jaxlabs.config import RUNTIME, Config, UserError, setting
from jaxlabs.data.dataset import Data
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.run_files import RULE
from jaxlabs.run_folder import RunFolder

PLAY_PROMPT = "ROMEO:"
"""What the write-ups of tiny Shakespeare let their models go on from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How samples are drawn."""

    prompt: str | None = setting(
        None,
        f"what samples go on from; none: {PLAY_PROMPT!r}, or a new line where the text lacks these",
        kind=RUNTIME,
    )
    num_samples: int = setting(3, "samples to draw", minimum=1, maximum=10_000, kind=RUNTIME)
    max_new_tokens: int = setting(
        500,
        "characters per sample; past its context a Transformer reads the last half of it again and"
        " continues, where nanoGPT slides a window of a whole context along",
        minimum=1,
        maximum=1_000_000,
        kind=RUNTIME,
    )
    temperature: float = setting(
        0.8, "0 takes the likeliest character, 1 draws as the model says", minimum=0, kind=RUNTIME
    )
    top_k: int = setting(0, "draw from the k likeliest only; 0: from all", minimum=0, kind=RUNTIME)
    top_p: float = setting(
        1.0, "draw from the fewest that hold this mass", above=0, maximum=1, kind=RUNTIME
    )

    def check(self) -> None:
        if self.prompt == "":
            raise UserError("--prompt: '' is not accepted; one character or more")


def require_known(text: str | None, vocabulary: Mapping[str, Any], flag: str = "prompt") -> None:
    """Raises UserError unless the vocabulary has all characters of a flag; it names the others.

    Asked before a run starts: its first sample, or its end, would be too late.
    """
    try:
        CharTokenizer.from_json(vocabulary).encode(text or "")
    except UserError as error:
        raise UserError(f"--{flag}: {error}") from None


def draw(
    generate: Callable[..., tuple[jax.Array, jax.Array]],
    config: SamplingConfig,
    vocabulary: Mapping[str, Any],
    key: jax.Array,
) -> list[str]:
    """Returns samples that continue the prompt, which they begin with.

    Args:
      generate: `(prompts, lengths, key, **options) -> (tokens, lengths)` of a trained model.
      config: prompt, number, length and temperature.
      vocabulary: the tokenizer as JSON.
      key: chooses the samples.

    Raises:
      UserError: the prompt is empty or has a character that the vocabulary lacks.
    """
    tokenizer = CharTokenizer.from_json(vocabulary)
    prompt = tokenizer.encode(_prompt(config, tokenizer))
    tokens, _ = generate(
        np.tile(prompt, (config.num_samples, 1)),
        np.full(config.num_samples, len(prompt), np.int32),
        key,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
    )
    return [tokenizer.decode(row) for row in np.asarray(tokens)]


def _prompt(config: SamplingConfig, tokenizer: CharTokenizer) -> str:
    if config.prompt is not None:
        return config.prompt
    known = set(tokenizer.alphabet)
    candidates = [text for text in (PLAY_PROMPT, "\n") if known.issuperset(text)]
    return candidates[0] if candidates else tokenizer.alphabet[0]


def read(folder: RunFolder) -> list[str]:
    """Returns the samples of a run that has ended.

    Raises:
      UserError: there are none, or their file is damaged.
    """
    drawn = folder.read_texts("final")
    if isinstance(drawn, str):  # of a run of the first version
        return drawn.split(RULE)
    return [text for texts in drawn.groups.values() for text in texts]


def measure(drawn: Sequence[str], config: SamplingConfig, data: Data) -> dict[str, float]:
    """Returns figures of what follows the prompt in samples, and of held-out text of their length.

    Args:
      drawn: what `draw` returned.
      config: how it was drawn.
      data: the run's data; the first evaluation is consecutive windows of held-out text.
    """
    tokenizer = CharTokenizer.from_json(data.vocabulary)
    prompt = _prompt(config, tokenizer)
    samples = [sample.removeprefix(prompt) for sample in drawn]
    held_out = tokenizer.decode(data.evaluations[data.headline].arrays["inputs"].ravel())
    size = len(samples[0])
    pieces = [held_out[i * size : (i + 1) * size] for i in range(len(samples))]
    training_text = tokenizer.decode(data.train.tokens)
    return {
        f"{name}_{figure}": value
        for name, texts in {"sample": samples, "held_out_text": pieces}.items()
        for figure, value in sample_quality(texts, training_text).items()
    }
