"""Beam search with any `Decoder`, in one compiled call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlabs.config import ArgumentError
from jaxlabs.decoding.generate import Decoder, empty_carry


class Beams(NamedTuple):
    """The sequences of a beam search, best first."""

    #: [batch, beam, max_new_tokens] tokens after the start token, 0 past the length
    tokens: jax.Array
    lengths: jax.Array  #: [batch, beam] number of tokens, with the stop token
    #: [batch, beam] `log P(tokens) / lengths ** length_penalty`, in nats; -inf where there are
    #: fewer sequences than beams
    scores: jax.Array


class _Search(NamedTuple):
    """State of the search loop; beams are ordered by score."""

    time: jax.Array  #: [] number of decoding steps
    carry: Any  #: the decoder's carry, with `batch * beam` rows
    last_token: jax.Array  #: [batch, beam] the input of the next step
    tokens: jax.Array  #: [batch, beam, max_new_tokens]
    lengths: jax.Array  #: [batch, beam]
    nll: jax.Array  #: [batch, beam] `-log P(tokens)`
    done: jax.Array  #: [batch, beam] whether the stop token was generated


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
    """Finds likely continuations of start tokens, such as `<sos>`, by beam search.

    A finished sequence stays in the beam as long as its score is among the best. With one beam the
    search is greedy and equals `generate` at temperature 0; with as many beams as sequences it is
    exhaustive. All arrays may be traced, as under `jax.vmap` and `jax.pmap`.

    Args:
      decoder: the model; static and hashable.
      params: its parameters.
      start: [batch] tokens.
      beam_size: static, >= 1.
      max_new_tokens: static, >= 1 and at most `decoder.context_length`.
      stop_token: ends a sequence and is kept as its last token; -1: none.
      length_penalty: sequences are ranked by `log P / length ** length_penalty`: 0 ranks by
        probability, which favors short ones, 1 by the mean log probability per token.
      carry: initial carry with `batch` rows; all arrays but scalars have the batch axis first.
        None: `decoder.init_carry(batch)`.

    Raises:
      ValueError: `beam_size` or `max_new_tokens` is below 1, or the latter exceeds
        `decoder.context_length`.
    """
    if beam_size < 1:
        raise ArgumentError("beam_size", f"{beam_size} is not accepted; an integer of at least 1")
    context = decoder.context_length or max_new_tokens
    if not 1 <= max_new_tokens <= context:
        raise ArgumentError("max_new_tokens", f"{max_new_tokens} is not one of 1 to {context}")
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

    def scores_of(nll: jax.Array, lengths: jax.Array) -> jax.Array:
        return -nll / jnp.maximum(lengths, 1).astype(jnp.float32) ** length_penalty

    def body(search: _Search) -> _Search:
        carry, logits = decoder.step(params, search.carry, search.last_token.reshape(-1))
        token_nll = -jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(batch, beam_size, -1)
        vocab_size = token_nll.shape[-1]
        # A finished sequence has one continuation, with nll 0.
        finished_nll = _zero_then_inf(vocab_size)[None, None, :]
        done = search.done[:, :, None]
        nll = search.nll[:, :, None] + jnp.where(done, finished_nll, token_nll)
        lengths = search.lengths + (~search.done).astype(jnp.int32)
        scores = scores_of(nll, lengths[:, :, None]).reshape(batch, -1)
        _, best = jax.lax.top_k(scores, beam_size)
        parent, token = best // vocab_size, best % vocab_size

        def gather(leaf: jax.Array) -> jax.Array:
            """Returns `leaf [batch, beam, ...]` at the parents."""
            return leaf[rows, parent]

        def reorder(leaf: jax.Array) -> jax.Array:
            """Likewise for `leaf [batch * beam, ...]`."""
            return gather(leaf.reshape(batch, beam_size, *leaf.shape[1:])).reshape(leaf.shape)

        was_done = gather(search.done)
        tokens = gather(search.tokens).at[:, :, search.time].set(jnp.where(was_done, 0, token))
        return _Search(
            time=search.time + 1,
            carry=_by_row(reorder, carry),
            last_token=token,
            tokens=tokens,
            lengths=gather(lengths),
            nll=nll.reshape(batch, -1)[rows, best],
            done=was_done | (token == stop_token),
        )

    def cond(search: _Search) -> jax.Array:
        active = ~search.done & (search.nll < jnp.inf)
        return (search.time < max_new_tokens) & active.any()

    initial_nll = _zero_then_inf(beam_size)  # otherwise all beams would be equal
    end = jax.lax.while_loop(
        cond,
        body,
        _Search(
            time=jnp.int32(0),
            carry=_by_row(lambda leaf: jnp.repeat(leaf, beam_size, axis=0), carry),
            last_token=jnp.tile(start[:, None], (1, beam_size)),
            tokens=jnp.zeros((batch, beam_size, max_new_tokens), jnp.int32),
            lengths=jnp.zeros((batch, beam_size), jnp.int32),
            nll=jnp.tile(initial_nll[None, :], (batch, 1)),
            done=jnp.zeros((batch, beam_size), bool),
        ),
    )
    return Beams(end.tokens, end.lengths, scores_of(end.nll, end.lengths))


def _zero_then_inf(count: int) -> jax.Array:
    """Returns `[0, inf, inf, ...]`, `[count]` float32."""
    return jnp.full((count,), jnp.inf, jnp.float32).at[0].set(0)


def _by_row(function: Callable[[jax.Array], jax.Array], carry: Any) -> Any:
    """Applies a function to the arrays of a carry but scalars, which all rows share."""
    leaves = jax.tree.map(jnp.asarray, carry)
    return jax.tree.map(lambda leaf: function(leaf) if leaf.ndim else leaf, leaves)
