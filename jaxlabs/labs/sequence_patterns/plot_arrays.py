"""Arrays for the plots of sequence models: an example, an alignment, tagged sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.sequence_data import SPECIAL_TOKENS, load_vocabs
from jaxlabs.data.vocab import END, Vocab
from jaxlabs.labs.sequence_patterns.sequence_predictions import Model, predict
from jaxlabs.models.seq2seq import Seq2Seq, translate
from jaxlabs.run_folder import RunFolder

EXAMPLE_LENGTHS = range(6, 10)
"""Lengths in words of the plotted test sentence."""

MAX_ALIGNMENT_LENGTH = 20
"""Maximum words of the sentence whose alignment is plotted."""

COLUMNS = ("source", "target", "predicted")

MAX_TAGGED = 5
"""Sentences of each split whose tags are plotted, those with errors first."""


def write_plot_arrays(
    folder: RunFolder, model: Model, params: Any, data: DataModule, backbone: str, batch_size: int
) -> None:
    """Writes the arrays that `jaxlabs.labs.sequence_patterns.plots` plots.

    `sequence_pattern`: a test sentence with prediction and target. For translation also
    `alignment`, the cross-attention of a long translation; for tagging also `tagged_words`.
    """
    vocabs, test = load_vocabs(data.data_spec), data.eval_sets["test"]
    translates = isinstance(model, Seq2Seq)
    kind = "encoder_decoder" if translates else "aligned" if model.per_token else "many_to_one"
    bidirectional = translates or model.bidirectional
    lengths = (np.asarray(test.arrays["inputs"]) > END).sum(axis=1)
    # The first sentence with one of the lengths, else the shortest.
    fits = np.isin(lengths, EXAMPLE_LENGTHS)
    index = int(fits.argmax() if fits.any() else lengths.argmin())
    example = test.take(slice(index, index + 1))
    (words,) = _predicted(model, params, example, vocabs, 1)
    setup = {"kind": kind, "backbone": backbone, "bidirectional": bidirectional}
    folder.write_arrays("sequence_pattern", **setup, **dict(zip(COLUMNS, words, strict=True)))
    if translates:
        index = int(np.argmax(lengths * (lengths <= MAX_ALIGNMENT_LENGTH)))
        folder.write_arrays("alignment", **_alignment(model, params, test, index, vocabs))
    elif model.per_token:
        rows = []
        for split, examples in (data.eval_sets | data.final_eval_sets()).items():
            found = _predicted(model, params, examples, vocabs, batch_size)
            found.sort(key=lambda row: row[1] == row[2])  # those with errors first
            rows += [(split, *row) for row in found[:MAX_TAGGED]]
        folder.write_arrays("tagged_words", **_padded(rows))


def _predicted(model, params, examples, vocabs, batch_size):
    """Returns (words, target, prediction) of every example."""
    source, target = vocabs
    inputs, targets = examples.arrays["inputs"], examples.arrays["targets"]
    predicted = predict(model, params, inputs, target, batch_size)
    words = ([source.decode(row) for row in inputs], [target.decode(row) for row in targets])
    return list(zip(*words, predicted, strict=True))


def _alignment(
    model: Seq2Seq, params: Any, examples: Examples, index: int, vocabs: Sequence[Vocab]
) -> Mapping[str, Any]:
    """Returns `maps [layers, target, source]`, means over heads, and the words of both axes."""
    source = vocabs[0].decode(examples.arrays["inputs"][index])
    inputs = examples.arrays["inputs"][index : index + 1, : len(source) + 1]

    @jax.jit
    def translate_and_attend(params):
        beams = translate(model, params, inputs, beam_size=1)
        variables, tokens = {"params": params}, beams.tokens[:, 0]
        _, sown = model.apply(variables, inputs, tokens, mutable="intermediates")
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


def _padded(rows):
    """Returns rows of words as arrays of strings, padded with empty strings."""
    splits, *columns = zip(*rows, strict=True)
    max_length = max(map(len, columns[0]))
    return {"splits": list(splits)} | {
        name: [[*row, *[""] * (max_length - len(row))] for row in column]
        for name, column in zip(("words", "target", "predicted"), columns, strict=True)
    }
