"""A long text on the host, such as memory-mapped shards, as training data.

The batches are those of the device data sets with the same tokens, to the bit. A process of a run
of several reads the windows of its own rows only.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.data import documents
from jaxlabs.data.batches import require_window, steps_per_epoch
from jaxlabs.data.host import HostBatch, cpu
from jaxlabs.data.shards import ShardedTokens

MAX_INDEX = 2**31 - 1
"""Number of starts up to which they are sampled as on the devices, in int32."""


@dataclasses.dataclass(frozen=True, eq=False)
class HostTokenStream:
    """The batches of `jaxlabs.data.batches.TokenStream`, from tokens on the host."""

    tokens: ShardedTokens  #: `[length]`
    context_length: int  #: see `TokenStream`
    document_starts: np.ndarray | None = None  #: `[documents]`, see `TokenStream`

    def batch_at(self, seed: int, step: int, batch_size: int) -> HostBatch:
        """Returns windows with uniformly random starts, sampled at each step."""
        return self.rows_at(seed, step, batch_size, 0, batch_size)

    def rows_at(self, seed: int, step: int, batch_size: int, start: int, stop: int) -> HostBatch:
        """Returns the rows from `start` to before `stop` of a batch."""
        require_window(len(self.tokens), self.context_length)
        first = self._starts(seed, step, batch_size)[start:stop]
        batch = _rows(self.tokens, self.context_length, first, start)
        if self.document_starts is None:
            return batch
        position = first[:, None] + np.arange(self.context_length + 1)[None, :]
        return documents.separate(batch, documents.segments(self.document_starts, position))

    def _starts(self, seed: int, step: int, batch_size: int) -> np.ndarray:
        count, random = len(self.tokens) - self.context_length, (np.uint32(seed), step)
        with jax.default_device(cpu()):
            if count <= MAX_INDEX:
                return np.asarray(_random_starts((batch_size,), *random, np.int32(count)))
            high, low = np.asarray(_random_words((2, batch_size), *random)).astype(np.uint64)
        return ((high << np.uint64(32) | low) % np.uint64(count)).astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class HostContiguousStreams:
    """The batches of `jaxlabs.data.batches.ContiguousStreams`, from tokens on the host."""

    tokens: ShardedTokens  #: `[length]`
    context_length: int  #: tokens per row and step

    def windows(self, batch_size: int) -> int:
        """Returns the steps of an epoch, see `steps_per_epoch`."""
        return steps_per_epoch(len(self.tokens), batch_size, self.context_length)

    def batch_at(self, seed: int, step: int, batch_size: int) -> HostBatch:
        """Returns the next segment of every row."""
        return self.rows_at(seed, step, batch_size, 0, batch_size)

    def rows_at(self, seed: int, step: int, batch_size: int, start: int, stop: int) -> HostBatch:
        """Returns the rows from `start` to before `stop` of a batch."""
        windows = self.windows(batch_size)
        epoch, index = divmod(step, windows)
        stream_length = windows * self.context_length
        spare = len(self.tokens) - batch_size * stream_length
        with jax.default_device(cpu()):
            offset = int(_random_starts((), np.uint32(seed), epoch, np.int32(spare)))
        row = np.arange(start, stop, dtype=np.int64)
        first = offset + row * stream_length + index * self.context_length
        batch = _rows(self.tokens, self.context_length, first, start)
        return batch | {"is_first": np.full(len(first), index == 0)}


@functools.partial(jax.jit, static_argnums=0)
def _random_starts(
    shape: tuple[int, ...], seed: jax.Array, step: jax.Array, count: jax.Array
) -> jax.Array:
    """Returns uniform int32 in 0..count-1, as the device data sets sample them."""
    key = jax.random.fold_in(keys.stream(seed, "data"), step)
    return jax.random.randint(key, shape, 0, count, jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def _random_words(shape: tuple[int, ...], seed: jax.Array, step: jax.Array) -> jax.Array:
    """Returns uniform uint32."""
    key = jax.random.fold_in(keys.stream(seed, "data"), step)
    return jax.random.bits(key, shape, jnp.uint32)


def _rows(tokens: ShardedTokens, context_length: int, start: np.ndarray, first: int) -> HostBatch:
    """Returns the windows that start at `start [rows]`, the rows from `first` on."""
    window = tokens.windows(start, context_length + 1).astype(np.int32)
    return {
        "inputs": window[:, :-1],
        "targets": window[:, 1:],
        "weights": np.ones((len(start), context_length), np.float32),
        "example_index": np.arange(first, first + len(start), dtype=np.int32),
    }
