"""Samples of language models, and their metrics relative to the training text."""

import bisect
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from jaxlabs.config import ArgumentError, Config, UserError, runtime
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.tokenizers import (
    UNKNOWN,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    load,
    split_words,
)
from jaxlabs.decoding.generate import PAST_CONTEXT
from jaxlabs.run_folder.files import Texts

PLAY_PROMPT = "ROMEO:"
"""The usual prompt of models of tiny Shakespeare."""

TEMPERATURES = (0.7, 1.0, 1.2)
"""Default temperatures of several: low ones give fluent text, high ones varied text."""

TEMPERATURE = "temperature "
"""Prefix of the heading of the samples at one temperature."""

# Letters of any alphabet, with apostrophes inside: "o'er" is one word, "'tis" is "tis".
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# A line of its own that ends in a colon and starts with a capital: "KING HENRY VI:".
NAME = re.compile(r"[A-Z][A-Za-z.'’ -]*:")
MIN_PLAY_FRACTION = 0.5

MAX_TRAINING_CHARACTERS = 2_000_000
"""Characters of the training text, from the first on, that samples are compared with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """Sampling options of language models, by default of characters."""

    prompt: str | None = runtime(
        None,
        f"prompt of the samples; none: {PLAY_PROMPT!r} if the tokens are characters that the text"
        " has, else a newline",
    )
    num_samples: int = runtime(3, "number of samples", minimum=1, maximum=10_000)
    max_new_tokens: int = runtime(500, "tokens per sample", minimum=1, maximum=1_000_000)
    temperature: float = runtime(0.8, "sampling temperature; 0: greedy", minimum=0)
    top_k: int = runtime(
        0, "top-k sampling: number of most likely tokens to sample from; 0: all", minimum=0
    )
    top_p: float = runtime(
        1.0, "top-p (nucleus) sampling: probability mass to sample from; 1: all", above=0, maximum=1
    )

    default_prompts: ClassVar[tuple[str, ...]] = (PLAY_PROMPT, "\n")
    """Default prompts of a character model, the first that its text has; the last one of others."""

    shows_default_prompt: ClassVar[bool] = True
    """Whether samples include the prompt if it is the default one, except that of a word model."""

    def check(self) -> None:
        if self.prompt == "":
            raise ArgumentError("prompt", "'' is not accepted; one character or more")

    @property
    def temperatures(self) -> dict[str, float]:
        """Temperatures by the heading of their samples."""
        return {"": self.temperature}

    @property
    def options(self) -> dict[str, Any]:
        """Options of `decoding.generate` at every temperature."""
        return {"max_new_tokens": self.max_new_tokens, "top_k": self.top_k, "top_p": self.top_p}

    def prompt_text(self, tokenizer: Tokenizer) -> str:
        """Returns the prompt, or the default one of the tokenizer.

        That of words is a full stop, after which a sentence starts, or the first word.
        """
        if self.prompt is not None:
            return self.prompt
        if isinstance(tokenizer, WordTokenizer):
            return "." if "." in tokenizer.words else tokenizer.words[0]
        if isinstance(tokenizer, CharTokenizer):
            candidates = (*self.default_prompts, tokenizer.alphabet[0])
            return next(text for text in candidates if set(text) <= set(tokenizer.alphabet))
        return self.default_prompts[-1]

    def encode_prompt(self, tokenizer: Tokenizer) -> np.ndarray:
        """Returns the tokens `[length]` of the prompt.

        Raises:
          ArgumentError: the prompt has unknown characters or words, or no word.
        """
        prompt = self.prompt_text(tokenizer)
        if isinstance(tokenizer, WordTokenizer):
            _require_words(prompt, tokenizer)
        return encode(prompt, tokenizer, "prompt")

    def hidden_tokens(self, prompt: np.ndarray, tokenizer: Tokenizer) -> int:
        """Returns the number of first tokens of a sample that it does not show."""
        hides = not self.shows_default_prompt or isinstance(tokenizer, WordTokenizer)
        return len(prompt) if self.prompt is None and hides else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerSamplingConfig(SamplingConfig):
    """Sampling options of a model with a limited context."""

    past_context: str = runtime(
        "half",
        "samples longer than the context: keep half of it whenever it is full and continue (half);"
        " or compute the last `context_length` tokens again for every token, many times slower"
        " (slide, as nanoGPT)",
        choices=PAST_CONTEXT,
    )

    @property
    def options(self) -> dict[str, Any]:
        return super().options | {"past_context": self.past_context}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemperedSamplingConfig(SamplingConfig):
    """Sampling options, by default at several temperatures."""

    num_samples: int = runtime(1, "samples at each temperature", minimum=1, maximum=10_000)
    temperature: float | None = runtime(
        None,
        f"sampling temperature; 0: greedy; none: {', '.join(map(str, TEMPERATURES))}",
        minimum=0,
    )

    @property
    def temperatures(self) -> dict[str, float]:
        values = TEMPERATURES if self.temperature is None else (self.temperature,)
        return {f"{TEMPERATURE}{value}": value for value in values}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordSamplingConfig(TransformerSamplingConfig):
    """Sampling options of language models of sentences, by default of words."""

    prompt: str | None = runtime(
        None,
        "prompt of the samples, of known words if the tokens are words; none: a full stop, or a"
        " newline",
    )
    max_new_tokens: int = runtime(60, "tokens per sample", minimum=1, maximum=1_000_000)

    default_prompts: ClassVar[tuple[str, ...]] = ("\n",)
    shows_default_prompt: ClassVar[bool] = False


def _require_words(prompt: str, tokenizer: WordTokenizer) -> None:
    """Raises ArgumentError unless a prompt has words, and all of them are known."""
    words = split_words(prompt)
    if not words:
        raise ArgumentError("prompt", f"{prompt!r} is not accepted; one word or more")
    tokens = tokenizer.encode(prompt)
    unknown = [word for word, token in zip(words, tokens, strict=True) if token == UNKNOWN]
    if unknown:
        named = ", ".join(map(repr, dict.fromkeys(unknown)))
        raise ArgumentError(
            "prompt",
            f"unknown words {named}; words of the training text are accepted, of which there"
            f" are {len(tokenizer.words):,}",
        )


def encode(text: str, tokenizer: Tokenizer, argument: str) -> np.ndarray:
    """Returns the tokens `[length]` of a text.

    Raises:
      ArgumentError: the text has unknown characters; names `argument`.
    """
    try:
        return tokenizer.encode(text)
    except UserError as error:
        raise ArgumentError(argument, str(error)) from None


def sample_texts(
    generate: Callable[..., tuple[jax.Array, jax.Array]],
    config: SamplingConfig,
    tokenizer: Tokenizer,
    key: jax.Array,
) -> Texts:
    """Returns samples that continue the prompt, prompt included, at each temperature.

    `generate` of a trained model is `(prompts, lengths, key, **options) -> (tokens, lengths)`. The
    key is the same at every temperature.

    Raises:
      ArgumentError: the prompt is not accepted.
    """
    prompt = config.encode_prompt(tokenizer)
    start = config.hidden_tokens(prompt, tokenizer)
    groups = {}
    for heading, temperature in config.temperatures.items():
        tokens, _ = generate(
            np.tile(prompt, (config.num_samples, 1)),
            np.full(config.num_samples, len(prompt), np.int32),
            key,
            vocab_size=tokenizer.vocab_size,
            temperature=temperature,
            **config.options,
        )
        groups[heading] = [tokenizer.decode(row[start:]) for row in np.asarray(tokens)]
    return Texts(groups)


def sampler(generate: Callable[..., tuple[jax.Array, jax.Array]]) -> Callable[..., Texts]:
    """Returns the `sample` function of a lab, which continues the prompt at each temperature.

    `generate` is `(model, params, prompts, lengths, key, **options) -> (tokens, lengths)`.
    """

    def sample(config, task, data_spec, state, key) -> Texts:
        trained = functools.partial(generate, task.model, state.eval_params)
        return sample_texts(trained, config.sampling, load(data_spec), key)

    return sample


def measure(samples: Texts, config: SamplingConfig, data: DataModule) -> dict[str, float]:
    """Returns metrics of samples after the prompt, and of held-out text of the same length.

    The metrics are those of `sample_quality`; those of samples at one of several temperatures end
    in that temperature. The monitored set of the data has windows of held-out text. Of the training
    text the first `MAX_TRAINING_CHARACTERS` are read.
    """
    tokenizer = load(data.data_spec)
    prompt = tokenizer.decode(config.encode_prompt(tokenizer))
    first_tokens = data.train.tokens[:MAX_TRAINING_CHARACTERS]
    training_text = tokenizer.decode(first_tokens)[:MAX_TRAINING_CHARACTERS]
    held_out = tokenizer.decode(data.eval_sets[data.monitor].arrays["inputs"].ravel())
    metrics = {}
    for heading, texts in samples.groups.items():
        texts = [text.removeprefix(prompt) for text in texts]
        for name, value in sample_quality(texts, training_text).items():
            metrics[f"sample_{name}{heading.replace(TEMPERATURE, '_at_')}"] = value
    first, *_ = samples.groups.values()
    size = len(first[0].removeprefix(prompt))
    pieces = [held_out[i * size : (i + 1) * size] for i in range(len(first))]
    quality = sample_quality(pieces, training_text)
    return metrics | {f"held_out_text_{name}": value for name, value in quality.items()}


def sample_quality(samples: Sequence[str], training_text: str) -> dict[str, float]:
    """Returns metrics of `samples` by name.

    - "real_words": fraction of the samples' words that occur in the training text, ignoring case. A
      word that may be truncated by the end of a sample does not count.
    - "named_speeches": fraction of the speeches that start with a line `NAME:`. A speech starts at
      the first nonempty line of a sample or after an empty line. Only returned if most speeches of
      the training text start so, that is, for plays.
    - "longest_copy": length in characters of the longest substring of a sample that occurs in the
      training text.

    All three depend on the length of the texts, so compare with held-out text that is split into
    pieces of the length of the samples. No substring spans two of the samples.
    """
    known = {word.casefold() for word in WORD.findall(training_text)}
    words = [
        match.group().casefold()
        for sample in samples
        for match in WORD.finditer(sample)
        if match.end() < len(sample)
    ]
    metrics = {
        "real_words": _mean(word in known for word in words),
        "longest_copy": float(longest_copy(samples, training_text)),
    }
    if _named_speeches([training_text]) > MIN_PLAY_FRACTION:
        metrics["named_speeches"] = _named_speeches(samples)
    return metrics


def longest_copy(samples: Sequence[str], training_text: str) -> int:
    """Returns the length of the longest common substring of a sample and the training text.

    A common substring of length n contains one of length n - 1, so the length is found by
    doubling, then bisection. Each step passes over the training text once and holds substrings of
    less than twice the result.
    """

    def substrings(text: str, length: int) -> Iterator[str]:
        return (text[i : i + length] for i in range(len(text) - length + 1))

    def too_long(length: int) -> bool:
        copies = {text for sample in samples for text in substrings(sample, length)}
        return copies.isdisjoint(substrings(training_text, length))

    longest = max(map(len, samples), default=0)
    above = 1
    while above <= longest and not too_long(above):
        above *= 2
    return bisect.bisect_left(range(1, min(above, longest + 1)), True, key=too_long)


def _named_speeches(texts: Sequence[str]) -> float:
    openings = []
    for text in texts:
        lines = ["", *text.split("\n")]
        pairs = itertools.pairwise(lines)
        openings += [line for before, line in pairs if line.strip() and not before.strip()]
    return _mean(NAME.fullmatch(line.strip()) is not None for line in openings)


def _mean(hits: Iterable[bool]) -> float:
    hits = list(hits)
    return sum(hits) / len(hits) if hits else 0.0
