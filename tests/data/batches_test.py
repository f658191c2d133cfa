"""Batches are pure functions of (data set, seed, step)."""

import collections

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import stats

from jaxlabs.config import UserError
from jaxlabs.data.batches import (
    ContiguousStreams,
    Examples,
    TokenStream,
    batch_at,
    eval_batch,
    num_batches,
)

compiled_batch_at = jax.jit(batch_at, static_argnames="batch_size")

LENGTH, CONTEXT = 50, 6


def numbered_stream(length: int = LENGTH, context_length: int = CONTEXT) -> TokenStream:
    """A text in which every token is its own position."""
    return TokenStream(tokens=np.arange(length, dtype=np.uint8), context_length=context_length)


def numbered_examples(count: int) -> Examples:
    images = np.arange(count * 6, dtype=np.uint8).reshape(count, 2, 3)
    return Examples(arrays={"images": images, "labels": np.arange(count, dtype=np.int32)})


DATASETS = {"stream": numbered_stream(), "examples": numbered_examples(10)}


@pytest.fixture(params=DATASETS)
def dataset(request):
    return DATASETS[request.param]


def valid_labels(batch) -> list[int]:
    return np.asarray(batch["labels"])[np.asarray(batch["weights"]) > 0].tolist()


def test_window_is_contiguous_and_targets_are_shifted_by_one():
    text = np.random.default_rng(0).integers(0, 2**16, 300).astype(np.uint16)
    batch = compiled_batch_at(TokenStream(tokens=text, context_length=40), 0, 0, batch_size=5)
    windows = np.lib.stride_tricks.sliding_window_view(text, 41).tolist()
    for inputs, targets in zip(batch["inputs"].tolist(), batch["targets"].tolist(), strict=True):
        assert [*inputs, targets[-1]] in windows
        assert inputs[1:] == targets[:-1]


def test_stream_batch_shapes_and_dtypes():
    batch = compiled_batch_at(numbered_stream(), 0, 3, batch_size=4)
    assert batch.keys() == {"inputs", "targets", "weights", "example_index"}
    chex.assert_shape([batch["inputs"], batch["targets"], batch["weights"]], (4, CONTEXT))
    chex.assert_type([batch[name] for name in ("inputs", "targets", "example_index")], jnp.int32)
    chex.assert_type(batch["weights"], jnp.float32)
    np.testing.assert_array_equal(batch["weights"], 1.0)
    np.testing.assert_array_equal(batch["example_index"], np.arange(4))


def test_dtypes_do_not_depend_on_x64(dataset):
    def types():
        return jax.eval_shape(lambda: batch_at(dataset, 0, 1, 4))

    expected = types()
    with jax.enable_x64(True):
        assert types() == expected


def test_every_window_that_fits_is_equally_likely():
    sample = jax.jit(
        jax.vmap(lambda step: batch_at(numbered_stream(), 0, step, 20)["inputs"][:, 0])
    )
    starts = np.asarray(sample(jnp.arange(400))).ravel()
    # The last start leaves CONTEXT inputs and one more target.
    times = np.bincount(starts, minlength=LENGTH - CONTEXT)
    assert len(times) == LENGTH - CONTEXT
    assert stats.chisquare(times).pvalue > 1e-3


def test_text_of_exactly_one_window():
    batch = compiled_batch_at(numbered_stream(CONTEXT + 1), 5, 9, batch_size=3)
    np.testing.assert_array_equal(batch["inputs"], np.tile(np.arange(CONTEXT), (3, 1)))
    np.testing.assert_array_equal(batch["targets"], np.tile(np.arange(CONTEXT) + 1, (3, 1)))


def test_text_shorter_than_one_window_is_an_error_with_both_numbers():
    with pytest.raises(UserError) as caught:
        batch_at(numbered_stream(length=1024, context_length=1024), seed=0, step=0, batch_size=3)
    assert str(caught.value) == (
        "`context_length`=1024: the text (or its held-out part) has 1,024 tokens; "
        "one window needs at least 1,025"
    )


def test_compiled_batch_equals_the_eager_one(dataset):
    for seed, step in ((0, 0), (1, 7), (2**32 - 1, 1000)):
        eager = batch_at(dataset, seed, step, 4)
        traced = compiled_batch_at(dataset, np.uint32(seed), np.int32(step), batch_size=4)
        chex.assert_trees_all_equal(eager, traced)


def test_a_run_of_steps_compiles_once():
    traced = jax.jit(chex.assert_max_traces(lambda data, step: batch_at(data, 0, step, 4), n=1))
    dataset = jax.tree.map(jnp.asarray, numbered_examples(10))
    for step in range(7):
        traced(dataset, step)


def test_batch_does_not_depend_on_previous_steps(dataset):
    steps = jnp.arange(9)
    one_call = jax.jit(lambda data: jax.lax.map(lambda step: batch_at(data, 3, step, 4), steps))
    in_order = one_call(dataset)
    for step in (8, 2, 5):
        alone = compiled_batch_at(dataset, 3, step, batch_size=4)
        chex.assert_trees_all_equal(alone, jax.tree.map(lambda rows, at=step: rows[at], in_order))


def test_batch_over_four_devices_equals_the_batch_of_one(dataset):
    assert jax.device_count() >= 4
    mesh = jax.make_mesh((4,), ("batch",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    rows = NamedSharding(mesh, PartitionSpec("batch"))
    sharded = jax.jit(lambda data: batch_at(data, 1, 2, 8), out_shardings=rows)(dataset)
    whole = compiled_batch_at(dataset, 1, 2, batch_size=8)
    chex.assert_trees_all_equal(sharded, whole)
    for shard in sharded["example_index"].addressable_shards:
        # Rows keep their global indices on each device.
        np.testing.assert_array_equal(shard.data, np.arange(8)[shard.index])


def test_steps_and_seeds_change_the_batch(dataset):
    first = jax.tree.leaves(compiled_batch_at(dataset, 0, 0, batch_size=4))
    for seed, step in ((0, 1), (1, 0)):
        other = jax.tree.leaves(compiled_batch_at(dataset, seed, step, batch_size=4))
        assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (8, 4), (10, 4), (3, 10)])
def test_each_epoch_reads_every_example_once(count, batch_size):
    examples = numbered_examples(count)
    per_epoch = num_batches(examples, batch_size)
    assert per_epoch == int(np.ceil(count / batch_size))
    for epoch in range(3):
        seen = collections.Counter()
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            batch = compiled_batch_at(examples, 0, step, batch_size=batch_size)
            chex.assert_shape(batch["images"], (batch_size, 2, 3))
            seen.update(valid_labels(batch))
        assert seen == collections.Counter(range(count))


def test_each_epoch_and_each_seed_has_its_own_order():
    examples = numbered_examples(30)
    orders = {
        tuple(compiled_batch_at(examples, seed, epoch, batch_size=30)["labels"].tolist())
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    }
    assert len(orders) == 3


def test_arrays_of_an_example_stay_together_and_keep_their_types():
    examples = numbered_examples(10)
    batch = compiled_batch_at(examples, 0, 1, batch_size=4)
    chex.assert_type(batch["images"], jnp.uint8)
    np.testing.assert_array_equal(batch["images"], examples.arrays["images"][batch["labels"]])


def test_eval_batches_read_every_example_in_stored_order():
    examples = numbered_examples(10)
    read = jax.jit(eval_batch, static_argnames="batch_size")
    batches = [read(examples, index, batch_size=4) for index in range(num_batches(examples, 4))]
    assert [valid_labels(batch) for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    np.testing.assert_array_equal(batches[-1]["weights"], [1, 1, 0, 0])
    np.testing.assert_array_equal(batches[-1]["example_index"], [8, 9, 10, 11])


def test_stored_weights_are_kept_and_padding_has_weight_0():
    stored = np.random.default_rng(0).uniform(size=(5, 3)).astype(np.float32)
    examples = Examples(arrays={"labels": np.arange(5), "weights": stored})
    last = eval_batch(examples, 1, batch_size=4)
    expected = np.concatenate([stored[4:], np.zeros((3, 3))])
    np.testing.assert_array_equal(last["weights"], expected)
    shuffled = compiled_batch_at(examples, 0, 0, batch_size=8)
    np.testing.assert_array_equal(shuffled["weights"][:5], stored[shuffled["labels"][:5]])
    np.testing.assert_array_equal(shuffled["weights"][5:], 0.0)


def test_contiguous_streams_continue_until_the_epoch_ends():
    streams = ContiguousStreams(tokens=np.arange(100, dtype=np.uint8), context_length=CONTEXT)
    windows = streams.windows(3)
    assert windows == 4  # 99 // 18 - 1
    epochs = []
    for epoch in range(3):
        batches = [
            compiled_batch_at(streams, 0, epoch * windows + index, batch_size=3)
            for index in range(windows)
        ]
        read = np.concatenate([batch["inputs"] for batch in batches], axis=1)
        targets = np.concatenate([batch["targets"] for batch in batches], axis=1)
        np.testing.assert_array_equal(targets, read + 1)
        # Tokens are positions: rows are contiguous, and each starts where another ends.
        np.testing.assert_array_equal(read.ravel(), read[0, 0] + np.arange(read.size))
        assert read.max() + 1 < 100
        for index, batch in enumerate(batches):
            np.testing.assert_array_equal(batch["is_first"], [index == 0] * 3)
            chex.assert_shape([batch["inputs"], batch["weights"]], (3, CONTEXT))
        epochs.append(int(read[0, 0]))
    assert len(set(epochs)) > 1  # other offsets in other epochs


def test_shortest_text_of_contiguous_streams():
    streams = ContiguousStreams(tokens=np.arange(13, dtype=np.uint8), context_length=CONTEXT)
    assert streams.windows(2) == 1
    batch = compiled_batch_at(streams, 0, 5, batch_size=2)
    np.testing.assert_array_equal(np.ravel(batch["targets"]), np.arange(1, 13))
    with pytest.raises(UserError, match=r"`batch_size`=3: the training text has 13 tokens; .* 19"):
        compiled_batch_at(streams, 0, 0, batch_size=3)
