"""Samples of a character-level language model, and their metrics."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlabs.analysis.sample_quality import sample_quality
from jaxlabs.config import RUNTIME, Config, UserError, setting
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.run_files import SEPARATOR
from jaxlabs.run_folder import RunFolder

PLAY_PROMPT = "ROMEO:"
"""The usual prompt of models of tiny Shakespeare."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """Sampling options."""

    prompt: str | None = setting(
        None,
        f"prompt of the samples; none: {PLAY_PROMPT!r}, or a newline if the text lacks these"
        " characters",
        kind=RUNTIME,
    )
    num_samples: int = setting(3, "number of samples", minimum=1, maximum=10_000, kind=RUNTIME)
    max_new_tokens: int = setting(
        500,
        "characters per sample; beyond its context length, a Transformer prefills the last half of"
        " the"
        " context again and continues, where nanoGPT uses a sliding window of a whole context",
        minimum=1,
        maximum=1_000_000,
        kind=RUNTIME,
    )
    temperature: float = setting(0.8, "sampling temperature; 0: greedy", minimum=0, kind=RUNTIME)
    top_k: int = setting(
        0,
        "top-k sampling: number of most likely characters to sample from; 0: all",
        minimum=0,
        kind=RUNTIME,
    )
    top_p: float = setting(
        1.0,
        "top-p (nucleus) sampling: probability mass to sample from; 1: all",
        above=0,
        maximum=1,
        kind=RUNTIME,
    )

    def check(self) -> None:
        if self.prompt == "":
            raise UserError("--prompt: '' is not accepted; one character or more")


def require_known(text: str | None, vocabulary: Mapping[str, Any], flag: str = "prompt") -> None:
    """Raises UserError if a flag has characters outside of the vocabulary; the error names them.

    Checked before a run starts, not at its first sample.
    """
    try:
        CharTokenizer.from_json(vocabulary).encode(text or "")
    except UserError as error:
        raise UserError(f"--{flag}: {error}") from None


def sample_texts(
    generate: Callable[..., tuple[jax.Array, jax.Array]],
    config: SamplingConfig,
    vocabulary: Mapping[str, Any],
    key: jax.Array,
) -> list[str]:
    """Returns samples that continue the prompt, prompt included.

    Args:
      generate: `(prompts, lengths, key, **options) -> (tokens, lengths)` of a trained model.
      config: sampling options.
      vocabulary: the tokenizer as JSON.
      key: PRNG key.

    Raises:
      UserError: the prompt is empty or has characters outside of the vocabulary.
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


def load_samples(folder: RunFolder) -> list[str]:
    """Returns the samples of a finished run.

    Raises:
      UserError: the file of samples is missing or damaged.
    """
    samples = folder.read_texts("final")
    if isinstance(samples, str):  # stored by the first version
        return samples.split(SEPARATOR)
    return [text for texts in samples.groups.values() for text in texts]


def measure(samples: Sequence[str], config: SamplingConfig, data: DataModule) -> dict[str, float]:
    """Returns metrics of the samples after the prompt, and of held-out text of the same length.

    Args:
      samples: result of `sample_texts`.
      config: its sampling options.
      data: the run's data; the monitored set has consecutive windows of held-out text.
    """
    tokenizer = CharTokenizer.from_json(data.data_spec)
    prompt = _prompt(config, tokenizer)
    texts = [sample.removeprefix(prompt) for sample in samples]
    held_out = tokenizer.decode(data.eval_sets[data.monitor].arrays["inputs"].ravel())
    size = len(texts[0])
    pieces = [held_out[i * size : (i + 1) * size] for i in range(len(texts))]
    training_text = tokenizer.decode(data.train.tokens)
    return {
        f"{name}_{metric}": value
        for name, group in {"sample": texts, "held_out_text": pieces}.items()
        for metric, value in sample_quality(group, training_text).items()
    }
