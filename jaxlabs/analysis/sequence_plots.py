"""What a report draws of a model of sequences: a pattern, an alignment, tags."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlabs.analysis.sequence_predictions import Model, guess
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import Data
from jaxlabs.data.sequence_data import END, SPECIAL, Vocab, load_vocabs
from jaxlabs.decoding.beam import Beams
from jaxlabs.models.seq2seq import Seq2Seq, translate
from jaxlabs.run_folder import RunFolder

DRAWN_LENGTHS = range(6, 10)
"""Words of the test sentence that is drawn: enough to say something, few enough to read."""

ALIGNED_LENGTH = 20
"""Most words of the sentence whose alignment is drawn."""

TAGGED = 5
"""Sentences of each split whose tags are drawn, those with errors first."""


def write_pictures(
    folder: RunFolder, model: Model, params: Any, data: Data, backbone: str, batch_size: int
) -> None:
    """Writes the arrays that `jaxlabs.report.sequence_patterns` draws.

    `sequence_pattern`: a test sentence, what the model makes of it and what is right. Of a
    translator also `alignment`: what each word of a long translation attends to. Of a tagger also
    `tagged_words`.

    Args:
      folder: of the run.
      model: the model.
      params: its parameters.
      data: the run's data.
      backbone: its name.
      batch_size: sentences at a time.
    """
    splits = data.evaluations | data.final_eval_sets()
    both = load_vocabs(data.vocabulary)
    test = data.evaluations["test"]
    place = _first_of_length(test, DRAWN_LENGTHS)
    source, right, predicted = _example(model, params, test, place, both)
    aligned = not isinstance(model, Seq2Seq) and model.aligned
    kind = "many_to_one" if not aligned else "aligned"
    folder.write_arrays(
        "sequence_pattern",
        kind="encoder_decoder" if isinstance(model, Seq2Seq) else kind,
        backbone=backbone,
        bidirectional=isinstance(model, Seq2Seq) or model.bidirectional,
        source=source,
        predicted=predicted,
        right=right,
    )
    if isinstance(model, Seq2Seq):
        place = int(np.argmax(_lengths(test) * (_lengths(test) <= ALIGNED_LENGTH)))
        folder.write_arrays("alignment", **_alignment(model, params, test, place, both))
    if aligned:
        rows = [
            row
            for split, part in splits.items()
            for row in _tagged(model, params, part, split, both, batch_size)
        ]
        folder.write_arrays("tagged_words", **_padded(rows))


def _lengths(part: Examples) -> np.ndarray:
    return (np.asarray(part.arrays["inputs"]) > END).sum(axis=1)


def _first_of_length(part: Examples, lengths: range) -> int:
    """Returns the place of the first sentence whose length is wanted, else of the shortest."""
    counts = _lengths(part)
    fits = np.isin(counts, lengths)
    return int(fits.argmax() if fits.any() else counts.argmin())


def _example(
    model: Model, params: Any, part: Examples, place: int, both: Sequence[Vocab]
) -> tuple[list[str], list[str], list[str]]:
    inputs = part.arrays["inputs"][place : place + 1]
    source, target = both
    right = target.decode(part.arrays["targets"][place])
    return source.decode(inputs[0]), right, guess(model, params, inputs, target, 1)[0]


def _alignment(
    model: Seq2Seq, params: Any, part: Examples, place: int, both: Sequence[Vocab]
) -> Mapping[str, Any]:
    """Returns `maps [layers, target, source]`, means over heads, and the words of both axes."""
    source = both[0].decode(part.arrays["inputs"][place])
    inputs = part.arrays["inputs"][place : place + 1, : len(source) + 1]

    @jax.jit
    def write(params: Any) -> tuple[Beams, Any]:
        found = translate(model, params, inputs, 1)
        _, kept = model.apply(
            {"params": params}, inputs, found.tokens[:, 0], mutable="intermediates"
        )
        return found, kept["intermediates"]["decoder"]

    found, decoder = write(params)
    written = found.tokens[0, 0, : int(found.lengths[0, 0])].tolist()
    names = [f"blocks_{number}" for number in range(model.config.depth)]
    blocks = [decoder[name]["memory_attention"] for name in names if name in decoder]
    maps = [np.asarray(one["weights"][0][0]).mean(axis=0) for one in blocks or [decoder]]
    return {
        "maps": np.stack(maps)[:, : len(written)],
        "source": [*source, SPECIAL[END]],
        "target": [both[1].names[number] for number in written],
    }


def _tagged(
    model: Model,
    params: Any,
    part: Examples,
    split: str,
    both: Sequence[Vocab],
    batch_size: int,
) -> list[tuple[str, list[str], list[str], list[str]]]:
    source, target = both
    inputs = part.arrays["inputs"]
    predicted = guess(model, params, inputs, target, batch_size)
    right = [target.decode(row) for row in part.arrays["targets"]]
    wrong = [
        sum(a != b for a, b in zip(*tags, strict=True))
        for tags in zip(predicted, right, strict=True)
    ]
    order = np.argsort(np.array(wrong) == 0, kind="stable")[:TAGGED]
    return [(split, source.decode(inputs[i]), right[i], predicted[i]) for i in order]


def _padded(rows: Sequence[tuple[str, list[str], list[str], list[str]]]) -> Mapping[str, Any]:
    """Returns rows of words as arrays of strings, empty ones at the ends."""
    splits, *columns = zip(*rows, strict=True)
    longest = max(map(len, columns[0]))
    names = ("words", "right", "predicted")
    return {"splits": list(splits)} | {
        name: [[*row, *[""] * (longest - len(row))] for row in column]
        for name, column in zip(names, columns, strict=True)
    }
