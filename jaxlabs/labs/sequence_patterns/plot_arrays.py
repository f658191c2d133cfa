"""Arrays for the plots of sequence models: an example, an alignment, tagged sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.sequence_data import END, SPECIAL_TOKENS, load_vocabs
from jaxlabs.data.vocab import Vocab
from jaxlabs.decoding.beam import Beams
from jaxlabs.labs.sequence_patterns.sequence_predictions import Model, predict
from jaxlabs.models.seq2seq import Seq2Seq, translate
from jaxlabs.run_folder import RunFolder

EXAMPLE_LENGTHS = range(6, 10)
"""Lengths in words of the plotted test sentence."""

MAX_ALIGNMENT_LENGTH = 20
"""Maximum words of the sentence whose alignment is plotted."""

MAX_TAGGED = 5
"""Sentences of each split whose tags are plotted, those with errors first."""


def write_plot_arrays(
    folder: RunFolder, model: Model, params: Any, data: DataModule, backbone: str, batch_size: int
) -> None:
    """Writes the arrays that `jaxlabs.labs.sequence_patterns.plots` plots.

    `sequence_pattern`: a test sentence with prediction and target. For translation also
    `alignment`, the cross-attention of a long translation; for tagging also `tagged_words`.

    Args:
      backbone: name of the backbone.
    """
    splits = data.eval_sets | data.final_eval_sets()
    vocabs = load_vocabs(data.data_spec)
    test = data.eval_sets["test"]
    index = _index_of_length(test, EXAMPLE_LENGTHS)
    source, target_words, predicted = _example(model, params, test, index, vocabs)
    per_token = not isinstance(model, Seq2Seq) and model.per_token
    kind = "many_to_one" if not per_token else "aligned"
    folder.write_arrays(
        "sequence_pattern",
        kind="encoder_decoder" if isinstance(model, Seq2Seq) else kind,
        backbone=backbone,
        bidirectional=isinstance(model, Seq2Seq) or model.bidirectional,
        source=source,
        predicted=predicted,
        target=target_words,
    )
    if isinstance(model, Seq2Seq):
        index = int(np.argmax(_lengths(test) * (_lengths(test) <= MAX_ALIGNMENT_LENGTH)))
        folder.write_arrays("alignment", **_alignment(model, params, test, index, vocabs))
    if per_token:
        rows = [
            row
            for split, examples in splits.items()
            for row in _tagged(model, params, examples, split, vocabs, batch_size)
        ]
        folder.write_arrays("tagged_words", **_padded(rows))


def _lengths(examples: Examples) -> np.ndarray:
    return (np.asarray(examples.arrays["inputs"]) > END).sum(axis=1)


def _index_of_length(examples: Examples, lengths: range) -> int:
    """Returns the index of the first sentence with one of the lengths, else of the shortest."""
    counts = _lengths(examples)
    fits = np.isin(counts, lengths)
    return int(fits.argmax() if fits.any() else counts.argmin())


def _example(
    model: Model, params: Any, examples: Examples, index: int, vocabs: Sequence[Vocab]
) -> tuple[list[str], list[str], list[str]]:
    inputs = examples.arrays["inputs"][index : index + 1]
    source, target = vocabs
    target_words = target.decode(examples.arrays["targets"][index])
    return source.decode(inputs[0]), target_words, predict(model, params, inputs, target, 1)[0]


def _alignment(
    model: Seq2Seq, params: Any, examples: Examples, index: int, vocabs: Sequence[Vocab]
) -> Mapping[str, Any]:
    """Returns `maps [layers, target, source]`, means over heads, and the words of both axes."""
    source = vocabs[0].decode(examples.arrays["inputs"][index])
    inputs = examples.arrays["inputs"][index : index + 1, : len(source) + 1]

    @jax.jit
    def translate_and_attend(params: Any) -> tuple[Beams, Any]:
        beams = translate(model, params, inputs, beam_size=1)
        _, sown = model.apply(
            {"params": params}, inputs, beams.tokens[:, 0], mutable="intermediates"
        )
        return beams, sown["intermediates"]["decoder"]

    beams, decoder = translate_and_attend(params)
    generated = beams.tokens[0, 0, : int(beams.lengths[0, 0])].tolist()
    names = [f"blocks_{number}" for number in range(model.config.depth)]
    blocks = [decoder[name]["memory_attention"] for name in names if name in decoder]
    maps = [np.asarray(block["weights"][0][0]).mean(axis=0) for block in blocks or [decoder]]
    return {
        "maps": np.stack(maps)[:, : len(generated)],
        "source": [*source, SPECIAL_TOKENS[END]],
        "target": [vocabs[1].names[number] for number in generated],
    }


def _tagged(
    model: Model,
    params: Any,
    examples: Examples,
    split: str,
    vocabs: Sequence[Vocab],
    batch_size: int,
) -> list[tuple[str, list[str], list[str], list[str]]]:
    source, target = vocabs
    inputs = examples.arrays["inputs"]
    predicted = predict(model, params, inputs, target, batch_size)
    target_words = [target.decode(row) for row in examples.arrays["targets"]]
    errors = [
        sum(a != b for a, b in zip(*tags, strict=True))
        for tags in zip(predicted, target_words, strict=True)
    ]
    order = np.argsort(np.array(errors) == 0, kind="stable")[:MAX_TAGGED]
    return [(split, source.decode(inputs[i]), target_words[i], predicted[i]) for i in order]


def _padded(rows: Sequence[tuple[str, list[str], list[str], list[str]]]) -> Mapping[str, Any]:
    """Returns rows of words as arrays of strings, padded with empty strings."""
    splits, *columns = zip(*rows, strict=True)
    max_length = max(map(len, columns[0]))
    names = ("words", "target", "predicted")
    return {"splits": list(splits)} | {
        name: [[*row, *[""] * (max_length - len(row))] for row in column]
        for name, column in zip(names, columns, strict=True)
    }
