"""Texts on the host give the batches of texts on the devices, to the bit, and any of their rows."""

import chex
import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import host_streams
from jaxlabs.data.batches import ContiguousStreams, TokenStream, batch_at, on_host
from jaxlabs.data.host import HostExamples
from jaxlabs.data.host_streams import HostContiguousStreams, HostTokenStream
from jaxlabs.data.shards import ShardedTokens

TOKENS = np.random.default_rng(0).integers(0, 300, 250).astype(np.uint16)
SHARDED = ShardedTokens(np.split(TOKENS, [1, 60, 61, 200]))
PAIRS = [(HostTokenStream, TokenStream), (HostContiguousStreams, ContiguousStreams)]


@pytest.mark.parametrize(("host", "device"), PAIRS)
@pytest.mark.parametrize("batch_size", [1, 12])
def test_batches_equal_those_of_a_device_data_set(host, device, batch_size):
    ours, theirs = host(SHARDED, 7), device(tokens=TOKENS, context_length=7)
    traced = jax.jit(lambda seed, step: batch_at(theirs, seed, step, batch_size))
    assert on_host(ours)
    for seed in (0, 2**32 - 1):
        for step in (0, 1, 2, 17, 10**6):
            expected = jax.device_get(traced(np.uint32(seed), step))
            found = ours.batch_at(seed, step, batch_size)
            chex.assert_trees_all_equal(found, expected)
            chex.assert_trees_all_equal_dtypes(found, expected)


@pytest.mark.parametrize(
    "dataset",
    [
        HostTokenStream(SHARDED, 7),
        HostContiguousStreams(SHARDED, 7),
        HostExamples([{"x": i} for i in range(10)]),
        HostExamples(lambda i: {"x": i}, shuffle=False),
    ],
    ids=["windows", "streams", "examples", "order of their own"],
)
def test_rows_are_those_of_the_batch(dataset):
    for step in (0, 1, 5):
        batch = dataset.batch_at(3, step, 6)
        for start, stop in ((0, 6), (0, 2), (2, 5), (5, 6)):
            rows = dataset.rows_at(3, step, 6, start, stop)
            expected = {name: array[start:stop] for name, array in batch.items()}
            chex.assert_trees_all_equal(rows, expected)
            chex.assert_trees_all_equal_dtypes(rows, expected)


def test_only_the_examples_of_the_rows_are_read():
    read = []

    def example(i):
        read.append(i)
        return {"x": i}

    rows = HostExamples(example, 100).rows_at(0, 2, 10, 4, 7)
    assert read == rows["x"].tolist()
    assert len(read) == 3


def test_text_of_more_tokens_than_int32_is_read_as_a_whole(monkeypatch):
    monkeypatch.setattr(host_streams, "MAX_INDEX", 100)
    tokens = np.arange(250, dtype=np.uint16)
    stream = HostTokenStream(ShardedTokens([tokens]), 7)
    firsts = np.concatenate([stream.batch_at(0, step, 64)["inputs"][:, 0] for step in range(40)])
    assert set(firsts.tolist()) == set(range(243))
    # The mean of uniform integers in 0..242, within four standard errors.
    assert abs(firsts.mean() - 121) < 4 * 243 / np.sqrt(12 * firsts.size)


def test_text_that_is_too_short_names_the_setting():
    with pytest.raises(UserError, match=r"^`context_length`=250: the text .* at least 251"):
        HostTokenStream(SHARDED, 250).batch_at(0, 0, 1)
    with pytest.raises(UserError, match=r"^`batch_size`=50: the training text has 250 tokens"):
        HostContiguousStreams(SHARDED, 7).batch_at(0, 0, 50)
