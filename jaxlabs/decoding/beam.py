"""Beam search over any step-by-step decoder in one compiled call."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlabs.config import UserError
from jaxlabs.decoding.generate import Decoder, empty_carry


class Beams(NamedTuple):
    """Sequences that a search has found, the best first.

    Attributes:
      tokens: [batch, beam, max_new_tokens] what follows the start token, 0 past the length.
      lengths: [batch, beam] how many tokens that is, the stop token included.
      scores: [batch, beam] `log P(tokens) / lengths ** length_penalty`, in nats; minus infinity
        where there are fewer sequences than beams.
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array


class _Search(NamedTuple):
    """What one turn hands to the next; rows are ordered by score.

    Attributes:
      time: [] how many tokens have been read.
      carry: the decoder's, with `batch * beam` rows.
      latest: [batch, beam] the token to be read next.
      tokens: [batch, beam, max_new_tokens].
      lengths: [batch, beam].
      surprise: [batch, beam] `-log P(tokens)`.
      done: [batch, beam] whether the stop token has come.
    """

    time: jax.Array
    carry: Any
    latest: jax.Array
    tokens: jax.Array
    lengths: jax.Array
    surprise: jax.Array
    done: jax.Array


def beam_search(
    decoder: Decoder,
    params: Any,
    start: jax.Array,
    *,
    beam_size: int,
    max_new_tokens: int,
    stop_token: int = -1,
    length_penalty: float = 0.0,
    carry: Any = None,
) -> Beams:
    """Finds likely continuations of one token by keeping the `beam` best at every length.

    A sequence that has ended keeps its place as long as its score is among the best. With one beam
    the search is greedy and gives what `generate` gives at temperature 0; with as many beams as
    there are sequences it is exhaustive.

    Args:
      decoder: the model; static and hashable.
      params: its parameters.
      start: [batch] the first token to be read, such as `<sos>`.
      beam: static, >= 1.
      max_new_tokens: static, >= 1 and at most the decoder's context.
      stop_token: ends a sequence and is kept as its last token; -1 never ends one.
      length_penalty: sequences are ranked by `log P / length ** length_penalty`: 0 by their
        probability, which favors short ones, 1 by its mean over tokens.
      carry: of `batch` rows, after whatever comes before `start`; every array in it but scalars
        has its rows first. None: `decoder.init_carry(batch)`.

    Raises:
      UserError: `beam` is below 1.
      ValueError: `max_new_tokens` is below 1, or more than the decoder's context.
    """
    if beam_size < 1:
        raise UserError(f"--beam_size: {beam_size} is not accepted; a whole number of at least 1")
    context = decoder.context_length or max_new_tokens
    if not 1 <= max_new_tokens <= context:
        raise ValueError(f"max_new_tokens: {max_new_tokens} is not one of 1 to {context}")
    start = jnp.asarray(start, jnp.int32)
    options = jnp.int32(stop_token), jnp.float32(length_penalty)
    return _search(decoder, params, start, carry, beam_size, max_new_tokens, *options)


@functools.partial(jax.jit, static_argnames=("decoder", "beam_size", "max_new_tokens"))
def _search(
    decoder: Decoder,
    params: Any,
    start: jax.Array,
    carry: Any,
    beam_size: int,
    max_new_tokens: int,
    stop_token: jax.Array,
    length_penalty: jax.Array,
) -> Beams:
    batch = start.shape[0]
    carry = empty_carry(decoder, params, batch) if carry is None else carry
    rows = jnp.arange(batch, dtype=jnp.int32)[:, None]

    def ranks(surprise: jax.Array, lengths: jax.Array) -> jax.Array:
        return -surprise / jnp.maximum(lengths, 1).astype(jnp.float32) ** length_penalty

    def turn(search: _Search) -> _Search:
        carry, logits = decoder.step(params, search.carry, search.latest.reshape(-1))
        costs = -jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(batch, beam_size, -1)
        size = costs.shape[-1]
        # What has ended has one continuation, which costs nothing: to stay as it is.
        stays = _only_first(size)[None, None, :]
        done = search.done[:, :, None]
        surprise = search.surprise[:, :, None] + jnp.where(done, stays, costs)
        lengths = search.lengths + (~search.done).astype(jnp.int32)
        scores = ranks(surprise, lengths[:, :, None]).reshape(batch, -1)
        _, best = jax.lax.top_k(scores, beam_size)
        parent, drawn = best // size, best % size

        of_parent = functools.partial(_of_parents, rows=rows, parent=parent)
        was_done = of_parent(search.done)
        tokens = of_parent(search.tokens).at[:, :, search.time].set(jnp.where(was_done, 0, drawn))
        return _Search(
            time=search.time + 1,
            carry=jax.tree.map(lambda leaf: _reordered(leaf, of_parent, (batch, beam_size)), carry),
            latest=drawn,
            tokens=tokens,
            lengths=of_parent(lengths),
            surprise=surprise.reshape(batch, -1)[rows, best],
            done=was_done | (drawn == stop_token),
        )

    def cond(search: _Search) -> jax.Array:
        alive = ~search.done & (search.surprise < jnp.inf)
        return (search.time < max_new_tokens) & alive.any()

    first = _only_first(beam_size)  # the others would be its copies
    end = jax.lax.while_loop(
        cond,
        turn,
        _Search(
            time=jnp.int32(0),
            carry=jax.tree.map(lambda leaf: _repeated(leaf, beam_size), carry),
            latest=jnp.tile(start[:, None], (1, beam_size)),
            tokens=jnp.zeros((batch, beam_size, max_new_tokens), jnp.int32),
            lengths=jnp.zeros((batch, beam_size), jnp.int32),
            surprise=jnp.tile(first[None, :], (batch, 1)),
            done=jnp.zeros((batch, beam_size), bool),
        ),
    )
    return Beams(end.tokens, end.lengths, ranks(end.surprise, end.lengths))


def _only_first(count: int) -> jax.Array:
    """Returns costs `[count]` float32: the first is free, no other can be paid."""
    return jnp.full((count,), jnp.inf, jnp.float32).at[0].set(0)


def _of_parents(leaf: jax.Array, rows: jax.Array, parent: jax.Array) -> jax.Array:
    """Returns `leaf [batch, beam, ...]` with the beams that `parent [batch, beam]` names."""
    return leaf[rows, parent]


def _reordered(leaf: jax.Array, of_parent: Any, shape: tuple[int, int]) -> jax.Array:
    """Returns a carry's `leaf [batch * beam, ...]` with every beam in the place of its child."""
    if leaf.ndim == 0:  # a clock, which all rows share
        return leaf
    return of_parent(leaf.reshape(*shape, *leaf.shape[1:])).reshape(leaf.shape)


def _repeated(leaf: jax.Array, beam_size: int) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return leaf if leaf.ndim == 0 else jnp.repeat(leaf, beam_size, axis=0)
