"""Samples of a word-level language model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxlabs.analysis.text_samples import SamplingConfig
from jaxlabs.config import RUNTIME, UserError, setting
from jaxlabs.data.tokenizers import UNKNOWN, WordTokenizer, split_words
from jaxlabs.models.transformer_lm import TransformerLM, sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordSamplingConfig(SamplingConfig):
    """Sampling options of word-level models."""

    prompt: str | None = setting(
        None,
        "prompt of the samples, known words only; none: a full stop",
        kind=RUNTIME,
    )
    max_new_tokens: int = setting(
        60, "words per sample", minimum=1, maximum=1_000_000, kind=RUNTIME
    )
    temperature: float = setting(0.8, "sampling temperature; 0: greedy", minimum=0, kind=RUNTIME)


def known_tokens(prompt: str | None, vocabulary: Mapping[str, Any]) -> np.ndarray:
    """Returns the tokens [length] of a prompt.

    The default prompt is a full stop, after which a sentence starts, or the first word of the
    vocabulary if it has no full stop.

    Raises:
      UserError: the prompt has no words or unknown words, which the error names.
    """
    tokenizer = WordTokenizer.from_json(vocabulary)
    if prompt is None:
        prompt = "." if "." in tokenizer.words else tokenizer.words[0]
    words, tokens = split_words(prompt), tokenizer.encode(prompt)
    if not words:
        raise UserError(f"--prompt: {prompt!r} is not accepted; one word or more")
    unknown = [word for word, token in zip(words, tokens, strict=True) if token == UNKNOWN]
    if unknown:
        named = ", ".join(map(repr, dict.fromkeys(unknown)))
        raise UserError(
            f"--prompt: unknown words {named}; words of the training text are accepted, of which"
            f" there are {len(tokenizer.words):,}"
        )
    return tokens


def sample_texts(
    model: TransformerLM,
    params: Any,
    config: WordSamplingConfig,
    vocabulary: Mapping[str, Any],
    key: jax.Array,
) -> list[str]:
    """Returns samples that continue the prompt.

    Args:
      model: a word-level model.
      params: its parameters.
      config: sampling options.
      vocabulary: the tokenizer as JSON.
      key: PRNG key.

    Raises:
      UserError: see `known_tokens`.
    """
    tokenizer = WordTokenizer.from_json(vocabulary)
    prompt = known_tokens(config.prompt, vocabulary)
    tokens, _ = sample(
        model,
        params,
        np.tile(prompt.astype(np.int32), (config.num_samples, 1)),
        np.full(config.num_samples, len(prompt), np.int32),
        key,
        vocab_size=tokenizer.vocab_size,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
    )
    start = len(prompt) if config.prompt is None else 0
    return [tokenizer.decode(row[start:]) for row in np.asarray(tokens)]
