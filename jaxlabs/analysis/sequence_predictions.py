"""What models of sequences say: of test sentences, of longer ones, and of a user's own."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.analysis.sequence_scores import bleu, exact_match, tag_span_f1
from jaxlabs.config import RUNTIME, Config, UserError, setting
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import Data
from jaxlabs.data.grammars import next_word
from jaxlabs.data.sequence_data import END, SPECIAL, Vocab, load_vocabs
from jaxlabs.data.sequence_files import words_of
from jaxlabs.models import seq2seq
from jaxlabs.models.seq2seq import Seq2Seq
from jaxlabs.models.sequence_classifier import PADDING, SequenceClassifier

Model = SequenceClassifier | Seq2Seq
CANDIDATES = 5
"""Likely next words that are told with their chances."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceSamplingConfig(Config):
    """What is shown, and how translations are looked for."""

    prompt: str | None = setting(
        None,
        "a sentence, words set apart by spaces, to go on with, classify, tag or translate; none: a"
        " few test sentences",
        kind=RUNTIME,
    )
    beam_size: int = setting(
        4,
        "translations kept at every length; 1 is greedy",
        minimum=1,
        maximum=1000,
        kind=RUNTIME,
        aliases=("beam",),
    )
    length_penalty: float = setting(
        0.0,
        "translations are ranked by log P / length ** this",
        minimum=0,
        maximum=100,
        kind=RUNTIME,
        aliases=("length_power",),
    )
    max_new_words: int = setting(20, "to go on with", minimum=1, maximum=100_000, kind=RUNTIME)


def require_known(prompt: str | None, vocabulary: Mapping[str, Any]) -> None:
    """Raises UserError for a prompt that is empty, too long, or has unknown words."""
    if prompt is None:
        return
    words, most = words_of(prompt), vocabulary["source_length"] - 1
    if not 1 <= len(words) <= most:
        raise UserError(f"--prompt: {len(words)} words in {prompt!r}; 1 to {most} are accepted")
    try:
        load_vocabs(vocabulary)[0].encode(words)
    except UserError as error:
        raise UserError(f"--prompt: {error}") from None


def guess(
    model: Model,
    params: Any,
    inputs: np.ndarray,
    target: Vocab,
    batch_size: int,
    beam_size: int = 1,
    length_penalty: float = 0.0,
) -> list[list[str]]:
    """Returns the likeliest labels, tags or translation of each row of `inputs [count, time]`.

    Args:
      model: the model.
      params: its parameters.
      inputs: sources, padded.
      target: the numbering of labels or target words.
      batch_size: rows at a time.
      beam_size: of translations, see `beam_search`.
      length_penalty: likewise.
    """
    rows = []
    for start in range(0, len(inputs), batch_size):
        part = inputs[start : start + batch_size]
        full = np.pad(part, ((0, batch_size - len(part)), (0, 0)))
        rows += list(_guess_batch(model, params, full, beam_size, length_penalty))[: len(part)]
    if isinstance(model, Seq2Seq):
        return [target.decode(row) for row in rows]
    lengths = (inputs != PADDING).sum(axis=1) - 1 if model.aligned else [1] * len(rows)
    return [
        [target.names[number] for number in row[:length]]
        for row, length in zip(rows, lengths, strict=True)
    ]


def _guess_batch(model: Model, params: Any, inputs: np.ndarray, *search: float) -> np.ndarray:
    if isinstance(model, Seq2Seq):
        return np.asarray(_translate(model, params, inputs, *search).tokens[:, 0])
    return np.asarray(_probabilities(model, params, inputs).argmax(axis=-1))


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(model: SequenceClassifier, params: Any, inputs: jax.Array) -> jax.Array:
    """Returns chances `[batch, time or 1, labels]`, none of them for a mark."""
    logits = model.apply({"params": params}, inputs)
    mark = jnp.arange(logits.shape[-1]) < len(SPECIAL)
    return jax.nn.softmax(jnp.where(mark[None, None, :], -jnp.inf, logits))


@functools.partial(jax.jit, static_argnums=(0, 3))
def _translate(model: Seq2Seq, params: Any, inputs: jax.Array, beam_size: int, power: float):
    return seq2seq.translate(model, params, inputs, beam_size, power)


def measure(
    model: Model,
    params: Any,
    data: Data,
    task: str,
    config: SequenceSamplingConfig,
    batch_size: int,
    made_up: bool,
) -> dict[str, float]:
    """Returns the scores of `test` and `longer` by name, and what share of the optimum they are.

    Tags: `span_f1`. Translations: `exact_match` and `bleu`, greedy and with the beam_size. Next
      words
    from the grammar: `expected_accuracy`, how often the guess is right on average over what the
    true chances let follow. The share, `of_optimum`, is told only of made-up data.
    """
    source, target = load_vocabs(data.vocabulary)
    figures = {}
    for split, part in (data.evaluations | data.final_eval_sets()).items():
        inputs, wanted = part.arrays["inputs"], _wanted(part, target, task)
        guesses = guess(model, params, inputs, target, batch_size)
        if task == "translation":
            search = batch_size, config.beam_size, config.length_penalty
            beams = guess(model, params, inputs, target, *search)
            for name, found in (("greedy", guesses), ("beam_size", beams)):
                figures[f"{split}_{name}_exact_match"] = exact_match(found, wanted)
                figures[f"{split}_{name}_bleu"] = bleu(found, wanted)
            share = figures[f"{split}_greedy_exact_match"]
        elif task == "tagging":
            share = tag_span_f1(guesses, wanted)
        elif task == "next_word" and made_up:
            chances = [next_word.chances(source.decode(row)) for row in inputs]
            expected = [p.get(g[0], 0.0) for p, g in zip(chances, guesses, strict=True)]
            figures[f"{split}_expected_accuracy"] = float(np.mean(expected))
            share = float(np.mean(expected) / np.mean([max(p.values()) for p in chances]))
        else:
            share = exact_match(guesses, wanted)
        if made_up:
            figures[f"{split}_of_optimum"] = share
    return figures


def _wanted(part: Examples, target: Vocab, task: str) -> list[list[str]]:
    return [target.decode(row) for row in part.arrays["targets"]]


def told(
    model: Model,
    params: Any,
    vocabulary: Mapping[str, Any],
    config: SequenceSamplingConfig,
    key: jax.Array,
) -> str:
    """Returns what the model makes of the prompt, or of a few test sentences, in lines of text.

    Raises:
      UserError: as `require_known`.
    """
    require_known(config.prompt, vocabulary)
    shown = vocabulary["shown"] if config.prompt is None else [(config.prompt, None)]
    length, both = vocabulary["source_length"], load_vocabs(vocabulary)
    say = functools.partial(_said, model, params, length, both, config, key)
    return "\n\n".join(
        f"{sentence}\n{say(words_of(sentence))}" + (f"\n  (right: {right})" if right else "")
        for sentence, right in shown
    )


def _said(model, params, length, both, config, key, words: tuple[str, ...]) -> str:
    source, target = both
    numbers = source.encode(words)
    inputs = np.zeros((1, length), np.int32)
    inputs[0, : len(numbers) + 1] = [*numbers, END]
    if isinstance(model, Seq2Seq):
        beams = _translate(model, params, inputs, config.beam_size, config.length_penalty)
        found = zip(np.asarray(beams.tokens[0]), np.asarray(beams.scores[0]), strict=True)
        return "\n".join(
            f"  {score:8.3f} {' '.join(target.decode(row))}" for row, score in found if score > -1e9
        )
    chances, names = np.asarray(_probabilities(model, params, inputs)[0]), target.names
    if model.aligned:
        best = chances.argmax(axis=-1)
        return "  " + " ".join(f"{w}/{names[i]}" for w, i in zip(words, best, strict=False))
    order = np.argsort(-chances[0])[:CANDIDATES]
    lines = "  " + ", ".join(f"{names[i]} {chances[0, i]:.3f}" for i in order if chances[0, i] > 0)
    if model.bidirectional:  # a label and no next word
        return lines
    follows = np.array([source.number_of(name, otherwise=END) for name in names], np.int32)
    drawn = continued(model, params, inputs[0], follows, key, config.max_new_words)
    ending = source.decode(np.asarray(drawn))
    stop = ending.index(".") + 1 if "." in ending else len(ending)
    return f"{lines}\n  {' '.join([*words, *ending[:stop]])}"


@functools.partial(jax.jit, static_argnums=(0, 5))
def continued(
    model: SequenceClassifier,
    params: Any,
    inputs: jax.Array,
    follows: jax.Array,
    key: jax.Array,
    count: int,
) -> jax.Array:
    """Draws `count` words one after the other from a model of the next word.

    Args:
      model: reads a sequence, tells the next word's chances.
      params: its parameters.
      inputs: [time] words, `<eos>`, padding; when it is full, the first word is forgotten.
      follows: [labels] the number among the words to read of each word that may be drawn.
      key: chooses them.
      count: static.
    """

    def turn(step, state):
        inputs, drawn = state
        chances = _probabilities(model, params, inputs[None])[0, 0]
        label = jax.random.categorical(jax.random.fold_in(key, step), jnp.log(chances))
        word, end = follows[label], jnp.sum(inputs != PADDING) - 1
        longer = inputs.at[end].set(word).at[end + 1].set(END, mode="drop")
        moved = jnp.roll(inputs, -1).at[-2].set(word).at[-1].set(END)
        inputs = jnp.where(end + 1 < len(inputs), longer, moved)
        return inputs, drawn.at[step].set(word)

    return jax.lax.fori_loop(0, count, turn, (inputs, jnp.zeros(count, jnp.int32)))[1]
