"""Separate documents, against the documents one by one."""

import dataclasses
import json

import chex
import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import texts, windows
from jaxlabs.data.batches import TokenStream, batch_at
from jaxlabs.data.host_streams import HostTokenStream
from jaxlabs.data.lm_data import lm_data
from jaxlabs.data.shards import ShardedTokens
from jaxlabs.data.texts import TextDataset

CONTEXT = 7
LENGTHS = [1, 1, 20, 2, 1, 9, 40, 3]
STARTS = np.cumsum([0, *LENGTHS[:-1]])
NUMBERS = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
TOKENS = np.arange(len(NUMBERS), dtype=np.uint8)  # each token is its position


def require_documents(arrays, weights=1):
    """The documents of windows whose tokens are positions; `weights` if they were joined."""
    inputs, targets = np.asarray(arrays["inputs"]), np.asarray(arrays["targets"])
    number = NUMBERS[np.minimum(inputs, len(NUMBERS) - 1)]
    same = np.asarray(arrays["segments"])[:, :, None] == np.asarray(arrays["segments"])[:, None, :]
    np.testing.assert_array_equal(same, number[:, :, None] == number[:, None, :])
    begins = np.isin(targets, STARTS)
    np.testing.assert_array_equal(arrays["weights"], np.where(begins, 0, weights))
    assert begins.any()


@pytest.mark.parametrize(
    "build",
    [
        lambda **options: windows.consecutive_windows(TOKENS, CONTEXT, **options),
        lambda **options: windows.consecutive_windows(TOKENS, CONTEXT, 30, **options),
        lambda **options: windows.random_windows(TOKENS, CONTEXT, 50, 0, **options),
        lambda **options: windows.evenly_spaced_windows(TOKENS, CONTEXT, 9, **options),
        lambda **options: windows.sliding_windows(TOKENS, CONTEXT, 2, **options),
        lambda **options: windows.sliding_windows(TOKENS, CONTEXT, 2, 30, **options),
    ],
)
def test_evaluation_windows_have_the_documents_of_their_tokens(build):
    joined, separate = build().arrays, build(documents=STARTS).arrays
    valid = joined["weights"].any(axis=1)
    assert "segments" not in joined
    assert separate["segments"].dtype == np.int32
    np.testing.assert_array_equal(separate["inputs"], joined["inputs"])
    inside = joined["targets"][valid] == joined["inputs"][valid] + 1  # no padding
    rows = {name: array[valid][inside.all(axis=1)] for name, array in separate.items()}
    require_documents(rows, joined["weights"][valid][inside.all(axis=1)])


def test_training_windows_are_equal_on_the_device_and_on_the_host():
    device = TokenStream(TOKENS, CONTEXT, STARTS.astype(np.int32))
    host = HostTokenStream(ShardedTokens(np.split(TOKENS, [3, 40])), CONTEXT, STARTS)
    traced = jax.jit(lambda step: batch_at(device, 5, step, 16))
    for step in range(3):
        expected = jax.device_get(traced(step))
        require_documents(expected)
        found = host.batch_at(5, step, 16)
        chex.assert_trees_all_equal(found, expected)
        chex.assert_trees_all_equal_dtypes(found, expected)
        chex.assert_trees_all_equal(
            host.rows_at(5, step, 16, 3, 8), {name: rows[3:8] for name, rows in found.items()}
        )


def test_documents_longer_than_a_window_leave_it_as_it_is():
    joined = windows.consecutive_windows(TOKENS, CONTEXT).arrays
    one = windows.consecutive_windows(TOKENS, CONTEXT, documents=np.zeros(1, np.int64)).arrays
    assert (one.pop("segments") == 1).all()
    chex.assert_trees_all_equal(one, joined)


WORDS = ["a b\n", "see é\n", "\n", "a last line of some more words\n"]
TEXT = TextDataset.of(
    "words", "".join(WORDS), "written", document_starts=np.cumsum([0, *map(len, WORDS[:-1])])
)


def data_of(dataset, documents):
    return lm_data(dataset, 3, 0, lambda *_: {}, tokenizer="bytes", documents=documents)


def test_documents_of_a_text_are_those_of_its_tokens():
    data, joined = data_of(TEXT, "separate"), data_of(TEXT, "joined")
    assert data.train.document_starts.tolist() == [0, 4, 11, 12]
    np.testing.assert_array_equal(data.train.tokens, joined.train.tokens)
    decoded = bytes(data.train.tokens).decode()
    assert decoded == TEXT.text[: len(decoded)]
    # The cut document continues in the held-out part.
    (held_out,) = np.unique(data.eval_sets["held_out"].arrays["segments"])
    assert held_out == 1
    sets = data.eval_sets | data.final_eval_sets()
    assert all("segments" in examples.arrays for examples in sets.values())
    others = joined.eval_sets | joined.final_eval_sets()
    assert not any("segments" in examples.arrays for examples in others.values())
    assert joined.train.document_starts is None


@pytest.mark.parametrize("documents", ["separate", "joined"])
def test_whole_evaluation_scores_all_targets_of_the_text(documents):
    words = WORDS * 10
    starts = np.cumsum([0, *map(len, words[:-1])])
    text = TextDataset.of("words", "".join(words), "written", document_starts=starts)
    data = data_of(text, documents)
    for name, examples in (data.eval_sets | data.final_eval_sets()).items():
        if name in data.text_tokens:
            assert examples.arrays["weights"].sum() == data.text_tokens[name]


def test_separate_documents_of_one_text_are_refused():
    one = TextDataset.of("one", TEXT.text, "written")
    expected = "documents: 'separate' is not accepted with one document; a folder of texts, or JSON"
    for dataset in (one, dataclasses.replace(one, document_starts=np.zeros(1, int))):
        with pytest.raises(UserError, match=expected):
            data_of(dataset, "separate")


@pytest.mark.parametrize("tokenizer", ["char", "bytes"])
def test_documents_of_json_lines_are_equal_in_memory_and_in_shards(tokenizer, tmp_path):
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice(list("abc é"), size)) for size in rng.integers(1, 60, 40)]
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), "utf-8")
    in_memory, in_shards = (
        lm_data(
            texts.load(str(path), tmp_path, files=texts.TextFilesConfig(memory_limit=limit)),
            CONTEXT,
            0,
            lambda *_: {},
            tokenizer=tokenizer,
            data_dir=tmp_path,
            documents="separate",
        )
        for limit in (None, 0)
    )
    assert isinstance(in_shards.train, HostTokenStream)
    for step in range(3):
        expected = jax.device_get(batch_at(in_memory.train, 1, step, 64))
        assert (expected["weights"] == 0).any()
        chex.assert_trees_all_equal(in_shards.train.batch_at(1, step, 64), expected)
    sets = [data.eval_sets | data.final_eval_sets() for data in (in_memory, in_shards)]
    for name, examples in sets[0].items():
        chex.assert_trees_all_equal(sets[1][name].arrays, examples.arrays)
