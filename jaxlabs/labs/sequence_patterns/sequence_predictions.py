"""Predictions of sequence models: scores on test sets, and output for single sentences."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.config import ArgumentError, Config, UserError, runtime
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.grammars import next_word
from jaxlabs.data.sequence_data import SPECIAL_TOKENS, load_vocabs
from jaxlabs.data.sequence_files import words_of
from jaxlabs.data.vocab import END, Vocab
from jaxlabs.labs.sequence_patterns.sequence_scores import bleu, exact_match, tag_span_f1
from jaxlabs.models import seq2seq
from jaxlabs.models.seq2seq import Seq2Seq
from jaxlabs.models.sequence_classifier import PADDING, SequenceClassifier

Model = SequenceClassifier | Seq2Seq
NUM_CANDIDATES = 5
"""Top next words or labels that are printed with their probabilities."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceSamplingConfig(Config):
    """Options of the output for single sentences and of beam search."""

    prompt: str | None = runtime(
        None,
        "sentence to continue, classify, tag or translate, words separated by spaces; none: a few "
        "test sentences",
    )
    beam_size: int = runtime(
        4,
        "beam size of translation; 1: greedy decoding",
        minimum=1,
        maximum=1000,
        aliases=("beam",),
    )
    length_penalty: float = runtime(
        0.0,
        "length penalty of beam search: the score is log P / length ** length_penalty",
        minimum=0,
        maximum=100,
        aliases=("length_power",),
    )
    max_new_words: int = runtime(20, "words per continuation", minimum=1, maximum=100_000)

    @property
    def beams(self) -> dict[str, Any]:
        """Options of `beam_search`."""
        return {"beam_size": self.beam_size, "length_penalty": self.length_penalty}


def require_known(prompt: str | None, data_spec: Mapping[str, Any]) -> None:
    """Raises UserError for a prompt that is empty, too long, or has unknown words."""
    if prompt is None:
        return
    words, max_words = words_of(prompt), data_spec["source_length"] - 1
    if not 1 <= len(words) <= max_words:
        raise ArgumentError(
            "prompt", f"{len(words)} words in {prompt!r}; 1 to {max_words} are accepted"
        )
    try:
        load_vocabs(data_spec)[0].encode(words)
    except UserError as error:
        raise ArgumentError("prompt", f"{error}") from None


def predict(
    model: Model, params: Any, inputs: np.ndarray, target: Vocab, batch_size: int, **beams: Any
) -> list[list[str]]:
    """Returns the predicted labels, tags or translation of each row of `inputs [count, time]`.

    `beams` are the options of `beam_search` for a translation; by default it is greedy.
    """
    rows = []
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        padded = np.pad(batch, ((0, batch_size - len(batch)), (0, 0)))
        if isinstance(model, Seq2Seq):
            options = {"beam_size": 1, "length_penalty": 0.0} | beams
            output = seq2seq.translate(model, params, padded, **options).tokens[:, 0]
        else:
            output = _probabilities(model, params, padded).argmax(axis=-1)
        rows += list(np.asarray(output))[: len(batch)]
    if isinstance(model, Seq2Seq):
        return [target.decode(row) for row in rows]
    lengths = (inputs != PADDING).sum(axis=1) - 1 if model.per_token else [1] * len(rows)
    pairs = zip(rows, lengths, strict=True)
    return [[target.names[number] for number in row[:length]] for row, length in pairs]


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(model: SequenceClassifier, params: Any, inputs: jax.Array) -> jax.Array:
    """Returns probabilities `[batch, time or 1, labels]`, 0 for special tokens."""
    logits = model.apply({"params": params}, inputs)
    special = jnp.arange(logits.shape[-1]) < len(SPECIAL_TOKENS)
    return jax.nn.softmax(jnp.where(special[None, None, :], -jnp.inf, logits))


def measure(
    model: Model,
    params: Any,
    data: DataModule,
    task: str,
    config: SequenceSamplingConfig,
    batch_size: int,
    synthetic: bool,
) -> dict[str, float]:
    """Returns the scores on `test` and `long` by name, and their ratio to the optimum.

    Translation: `exact_match` and `bleu`, with greedy decoding and with beam search. Next word with
    the synthetic grammar: `expected_accuracy`, the mean probability of the predicted word under the
    true distribution. `relative_score`, the ratio to the optimum, is returned for synthetic data.
    """
    source, target = load_vocabs(data.data_spec)
    metrics = {}
    for split, examples in (data.eval_sets | data.final_eval_sets()).items():
        inputs = examples.arrays["inputs"]
        targets = [target.decode(row) for row in examples.arrays["targets"]]
        predictions = predict(model, params, inputs, target, batch_size)
        if task == "translation":
            beams = predict(model, params, inputs, target, batch_size, **config.beams)
            for name, outputs in (("greedy", predictions), ("beam", beams)):
                metrics[f"{split}_{name}_exact_match"] = exact_match(outputs, targets)
                metrics[f"{split}_{name}_bleu"] = bleu(outputs, targets)
            ratio = metrics[f"{split}_greedy_exact_match"]
        elif task == "tagging":
            ratio = tag_span_f1(predictions, targets)
        elif task == "next_word" and synthetic:
            probabilities = [next_word.next_word_probs(source.decode(row)) for row in inputs]
            expected = [p.get(g[0], 0.0) for p, g in zip(probabilities, predictions, strict=True)]
            metrics[f"{split}_expected_accuracy"] = float(np.mean(expected))
            ratio = float(np.mean(expected) / np.mean([max(p.values()) for p in probabilities]))
        else:
            ratio = exact_match(predictions, targets)
        if synthetic:
            metrics[f"{split}_relative_score"] = ratio
    return metrics


def format_predictions(
    model: Model,
    params: Any,
    data_spec: Mapping[str, Any],
    config: SequenceSamplingConfig,
    key: jax.Array,
) -> str:
    """Returns the model's output for the prompt, or for a few test sentences, as text.

    Raises:
      UserError: see `require_known`.
    """
    require_known(config.prompt, data_spec)
    sentences = data_spec["examples"] if config.prompt is None else [(config.prompt, None)]
    length, vocabs = data_spec["source_length"], load_vocabs(data_spec)
    output = functools.partial(_output, model, params, length, vocabs, config)
    keys = jax.random.split(key, len(sentences))
    return "\n\n".join(
        f"{sentence}\n{output(key, words_of(sentence))}"
        + (f"\n  (target: {target})" if target else "")
        for key, (sentence, target) in zip(keys, sentences, strict=True)
    )


def _output(model, params, length, vocabs, config, key, words: tuple[str, ...]) -> str:
    source, target = vocabs
    ids = source.encode(words)
    inputs = np.zeros((1, length), np.int32)
    inputs[0, : len(ids) + 1] = [*ids, END]
    if isinstance(model, Seq2Seq):
        beams = seq2seq.translate(model, params, inputs, **config.beams)
        hypotheses = zip(np.asarray(beams.tokens[0]), np.asarray(beams.scores[0]), strict=True)
        found = [(score, target.decode(row)) for row, score in hypotheses if score > -1e9]
        return "\n".join(f"  {score:8.3f} {' '.join(words)}" for score, words in found)
    probabilities, names = np.asarray(_probabilities(model, params, inputs)[0]), target.names
    if model.per_token:
        best = probabilities.argmax(axis=-1)
        return "  " + " ".join(f"{w}/{names[i]}" for w, i in zip(words, best, strict=False))
    (row,) = probabilities
    order = np.argsort(-row)[:NUM_CANDIDATES]
    lines = "  " + ", ".join(f"{names[i]} {row[i]:.3f}" for i in order if row[i] > 0)
    if model.bidirectional:  # predicts a label and not the next word
        return lines
    input_ids = np.array([source.ids.get(name, END) for name in names], np.int32)
    continuation = sample_words(model, params, inputs[0], input_ids, key, config.max_new_words)
    ending = source.decode(np.asarray(continuation))
    stop = ending.index(".") + 1 if "." in ending else len(ending)
    return f"{lines}\n  {' '.join([*words, *ending[:stop]])}"


@functools.partial(jax.jit, static_argnums=(0, 5))
def sample_words(
    model: SequenceClassifier,
    params: Any,
    inputs: jax.Array,
    input_ids: jax.Array,
    key: jax.Array,
    count: int,
) -> jax.Array:
    """Samples `count` words from a next-word model.

    `inputs [time]` are words, `<eos>` and padding; when it is full, the first word is dropped.
    `input_ids [labels]` has the input token of each label.
    """

    def body(step, state):
        inputs, sampled = state
        probabilities = _probabilities(model, params, inputs[None])[0, 0]
        label = jax.random.categorical(jax.random.fold_in(key, step), jnp.log(probabilities))
        word, end = input_ids[label], jnp.sum(inputs != PADDING) - 1
        appended = inputs.at[end].set(word).at[end + 1].set(END, mode="drop")
        shifted = jnp.roll(inputs, -1).at[-2].set(word).at[-1].set(END)
        inputs = jnp.where(end + 1 < len(inputs), appended, shifted)
        return inputs, sampled.at[step].set(word)

    return jax.lax.fori_loop(0, count, body, (inputs, jnp.zeros(count, jnp.int32)))[1]
