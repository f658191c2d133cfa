"""Generation from any step-by-step decoder in one compiled call, past its context too."""

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.decoding.logits import sample_token


class Decoder(Protocol):
    """A model that reads one token at a time; its carry is a key-value cache or a recurrent state.

    It is a static argument of the compiled call: instances that compare equal and hash alike share
    one executable.

    Attributes:
      context: how many tokens the carry holds, or None when there is no limit.
    """

    context_length: int | None

    def init_carry(self, batch_size: int) -> Any:
        """Returns the carry of `batch_size` rows that have read nothing."""

    def step(self, params: Any, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Reads `tokens` [batch]; returns the carry and the logits [batch, vocabulary]."""

    def prefill(self, params: Any, tokens: jax.Array) -> Any:
        """Returns the carry after `tokens` [batch, time] alone, read from position 0 on.

        A decoder whose carry has no limit, or is never filled, need not have it.
        """


def empty_carry(decoder: Decoder, params: Any, batch_size: int) -> Any:
    """Returns `decoder.init_carry(batch_size)` with floats as wide as those of the parameters."""
    leaves = jax.tree.leaves(params)
    floats = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    carry = decoder.init_carry(batch_size)
    if not floats:
        return carry
    dtype = jnp.result_type(*floats)

    def as_wide(leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(as_wide, carry)


class _Loop(NamedTuple):
    """What one turn of the loop hands to the next.

    Attributes:
      time: [] clock that all rows share; column `time` of `tokens` is read next.
      position: [] how many tokens the carry holds.
      carry: the decoder's.
      tokens: [batch, prompt_time + max_new_tokens] prompts and what has been generated so far.
      lengths: [batch] how many of them are filled in.
      done: [batch] whether a row has had its stop token or all of its new tokens.
    """

    time: jax.Array
    position: jax.Array
    carry: Any
    tokens: jax.Array
    lengths: jax.Array
    done: jax.Array


def generate(
    decoder: Decoder,
    params: Any,
    prompts: jax.Array,
    lengths: jax.Array,
    key: jax.Array,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop_token: int = -1,
    carry: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """Continues every prompt by up to `max_new_tokens` tokens.

    Rows share one clock: at time t a row reads its prompt's token while t is inside the prompt and
    the token that it drew itself afterwards. Prompts of different lengths thus need no padding on
    the left. When the carry is full, the last `context // 2` tokens are read again from
    position 0, in prompts longer than the context as well; a sliding window, as in nanoGPT, gives
    other tokens from there on, see `TransformerDecoder`. Row and position in the row choose the
    key of every draw, so a row's tokens depend neither on the other rows nor on their lengths.

    Args:
      decoder: the model; static and hashable.
      params: its parameters.
      prompts: `[batch, prompt_time]` token ids; what lies past a row's length is ignored.
      lengths: `[batch]` real tokens of each prompt, 1..prompt_time.
      key: decides every draw of the call.
      max_new_tokens: static, >= 0; all other arguments but the decoder and the shape of the prompts
        change without a new compilation.
      temperature: >= 0; 0 is greedy.
      top_k: >= 0; 0 is off.
      top_p: 0..1; 1 is off.
      stop_token: a row ends with this token, which is kept as its last; -1 never ends one.
      carry: what the decoder knows before it reads a prompt, such as a sentence to translate; None:
        nothing, `decoder.init_carry(batch)`.

    Returns:
      `tokens` [batch, prompt_time + max_new_tokens] int32, each row its prompt and then its new
      tokens, 0 past its length, and `lengths` [batch] int32, both together.

    Raises:
      ValueError: a prompt is empty or longer than its row, or `max_new_tokens` is negative.
    """
    prompts = jnp.asarray(prompts, jnp.int32)
    lengths = np.asarray(lengths, np.int32)
    if lengths.shape != prompts.shape[:1]:
        raise ValueError(f"lengths has shape {lengths.shape}, prompts {prompts.shape}: one per row")
    for row, length in enumerate(lengths):
        if not 1 <= length <= prompts.shape[1]:
            found = "empty prompt" if length == 0 else f"length {length}"
            raise ValueError(f"lengths[{row}]: {found}; a row has 1 to {prompts.shape[1]} tokens")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens: {max_new_tokens} is negative")
    return _generate(
        decoder,
        params,
        prompts,
        jnp.asarray(lengths),
        key,
        max_new_tokens,
        jnp.float32(temperature),
        jnp.int32(top_k),
        jnp.float32(top_p),
        jnp.int32(stop_token),
        carry,
    )


@functools.partial(jax.jit, static_argnames=("decoder", "max_new_tokens"))
def _generate(
    decoder: Decoder,
    params: Any,
    prompts: jax.Array,
    prompt_lengths: jax.Array,
    key: jax.Array,
    max_new_tokens: int,
    temperature: jax.Array,
    top_k: jax.Array,
    top_p: jax.Array,
    stop_token: jax.Array,
    carry: Any,
) -> tuple[jax.Array, jax.Array]:
    batch_size, prompt_time = prompts.shape
    row_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size, dtype=jnp.int32))
    in_prompt = jnp.arange(prompt_time, dtype=jnp.int32)[None, :] < prompt_lengths[:, None]
    tokens = jnp.pad(jnp.where(in_prompt, prompts, 0), ((0, 0), (0, max_new_tokens)))

    def turn(loop: _Loop) -> _Loop:
        carry, position = _evict_and_prefill(decoder, params, loop)
        read = jax.lax.dynamic_index_in_dim(loop.tokens, loop.time, axis=1, keepdims=False)
        carry, logits = decoder.step(params, carry, read)

        time = loop.time + 1
        since_prompt = jnp.maximum(time - prompt_lengths, 0)
        draw_keys = jax.vmap(jax.random.fold_in)(row_keys, since_prompt)
        drawn = sample_token(draw_keys, logits, temperature, top_k, top_p)

        writes = (time >= prompt_lengths) & ~loop.done
        present = jax.lax.dynamic_index_in_dim(loop.tokens, time, axis=1, keepdims=False)
        column = jnp.where(writes, drawn, present)
        lengths = jnp.where(writes, time + 1, loop.lengths)
        stopped = (writes & (drawn == stop_token)) | (lengths == prompt_lengths + max_new_tokens)
        return _Loop(
            time=time,
            position=position + 1,
            carry=carry,
            tokens=jax.lax.dynamic_update_index_in_dim(loop.tokens, column, time, axis=1),
            lengths=lengths,
            done=loop.done | stopped,
        )

    start = _Loop(
        time=jnp.int32(0),
        position=jnp.int32(0),
        carry=empty_carry(decoder, params, batch_size) if carry is None else carry,
        tokens=tokens,
        lengths=prompt_lengths,
        done=jnp.full((batch_size,), max_new_tokens == 0),
    )
    end = jax.lax.while_loop(lambda loop: ~jnp.all(loop.done), turn, start)
    return end.tokens, end.lengths


def _evict_and_prefill(decoder: Decoder, params: Any, loop: _Loop) -> tuple[Any, jax.Array]:
    """Returns the carry and position with room for one more token."""
    # The last token is never read. When all others fit, no code to read again is compiled.
    if decoder.context_length is None or loop.tokens.shape[1] - 1 <= decoder.context_length:
        return loop.carry, loop.position
    half = decoder.context_length // 2

    def prefill_again() -> Any:
        if half == 0:
            return empty_carry(decoder, params, loop.tokens.shape[0])
        recent = jax.lax.dynamic_slice_in_dim(loop.tokens, loop.time - half, half, axis=1)
        return decoder.prefill(params, recent)

    full = loop.position == decoder.context_length
    carry = jax.lax.cond(full, prefill_again, lambda: loop.carry)
    return carry, jnp.where(full, half, loop.position)
