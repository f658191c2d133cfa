"""Samples of a language model of words."""

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
    """How samples are drawn, a word or punctuation mark at a time."""

    prompt: str | None = setting(
        None,
        "known words that samples go on from; none: the first line end's, a full stop",
        kind=RUNTIME,
    )
    max_new_tokens: int = setting(
        60, "words per sample", minimum=1, maximum=1_000_000, kind=RUNTIME
    )
    temperature: float = setting(
        0.8, "0 takes the likeliest word, 1 draws as the model says", minimum=0, kind=RUNTIME
    )


def known_tokens(prompt: str | None, vocabulary: Mapping[str, Any]) -> np.ndarray:
    """Returns the tokens [length] of a prompt.

    Without one it is a full stop, after which a sentence begins (or the first word, where there is
    no full stop).

    Raises:
      UserError: the prompt has no word, or words that the vocabulary lacks, which it names.
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


def draw(
    model: TransformerLM,
    params: Any,
    config: WordSamplingConfig,
    vocabulary: Mapping[str, Any],
    key: jax.Array,
) -> list[str]:
    """Returns samples that continue the prompt.

    Args:
      model: a model of words.
      params: its parameters.
      config: prompt, number, length and temperature.
      vocabulary: the tokenizer as JSON.
      key: chooses the samples.

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
        tokens=tokenizer.vocabulary_size,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
    )
    first = len(prompt) if config.prompt is None else 0
    return [tokenizer.decode(row[first:]) for row in np.asarray(tokens)]
