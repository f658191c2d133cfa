"""Sampling from any `Decoder` in one compiled call, also beyond its context length."""

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.config import ArgumentError
from jaxlabs.decoding.logits import sample_token

PAST_CONTEXT = ("half", "slide")
"""What a full carry keeps: half of the context, or all but one token of it."""


class Decoder(Protocol):
    """An autoregressive model; its carry is a KV cache or a recurrent state.

    A decoder is a static argument of the compiled call: equal instances share one executable.
    """

    context_length: int | None  #: how many tokens the carry holds; None: unlimited

    def init_carry(self, batch_size: int) -> Any:
        """Returns the initial carry of `batch_size` rows."""

    def step(self, params: Any, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes `tokens [batch]`; returns the carry and logits `[batch, vocabulary]`."""

    def prefill(self, params: Any, tokens: jax.Array) -> Any:
        """Returns the carry after `tokens [batch, time]` from position 0.

        Not needed if the carry is unlimited or never full.
        """


def empty_carry(decoder: Decoder, params: Any, batch_size: int) -> Any:
    """Returns `decoder.init_carry(batch_size)`; a float32 carry in the dtype of the parameters."""

    def is_float(leaf: jax.Array) -> bool:
        return jnp.issubdtype(leaf.dtype, jnp.floating)

    carry = decoder.init_carry(batch_size)
    floats = [leaf.dtype for leaf in jax.tree.leaves(params) if is_float(leaf)]
    if not floats:
        return carry
    dtype = jnp.result_type(*floats)
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf, carry
    )


class _Loop(NamedTuple):
    """State of the sampling loop."""

    time: jax.Array  #: [] step counter of all rows; column `time` of `tokens` is the next input
    position: jax.Array  #: [] number of tokens in the carry
    carry: Any  #: the decoder's carry
    tokens: jax.Array  #: [batch, prompt_time + max_new_tokens] prompts and generated tokens
    lengths: jax.Array  #: [batch] number of tokens per row so far
    done: jax.Array  #: [batch] whether a row has its stop token or all of its new tokens


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
    past_context: str = "half",
) -> tuple[jax.Array, jax.Array]:
    """Continues every prompt by up to `max_new_tokens` tokens.

    All rows share one step counter: at time t the input of a row is its prompt's token while t is
    inside the prompt, afterwards its own sampled token. So prompts of different lengths need no
    left padding. When the carry is full, it is refilled from position 0 with its last tokens, also
    in prompts longer than the context; see `past_context`. Each sample's key depends on the row and
    the position in it alone, so a row's tokens do not depend on the other rows. All arrays may be
    traced, as under `jax.vmap` and `jax.pmap`.

    Args:
      decoder: the model; static and hashable.
      params: its parameters.
      prompts: [batch, prompt_time] token ids; those past a row's length are ignored.
      lengths: [batch] length of each prompt, 1 to prompt_time; traced ones are clipped.
      key: PRNG key of all samples.
      max_new_tokens: static, >= 0; of the other arguments only the decoder, the shape of the
        prompts and `past_context` are static.
      temperature: >= 0; 0 is greedy.
      top_k: >= 0; 0 is off.
      top_p: in [0, 1]; 1 is off.
      stop_token: ends a row and is kept as its last token; -1: none.
      carry: initial carry, such as an encoded source; None: `decoder.init_carry(batch)`.
      past_context: "half": a full carry keeps `context_length // 2` tokens, so that a token sees
        between half a context and a whole one. "slide": every token is sampled from the last
        `context_length` tokens, which are computed again for it (nanoGPT's `generate`).

    Returns:
      `tokens [batch, prompt_time + max_new_tokens]` int32, each row its prompt and its new tokens,
      0 past its length, and `lengths [batch]` int32, of prompt and new tokens.

    Raises:
      ValueError: `max_new_tokens` is negative, `past_context` is unknown, or a prompt is empty or
        longer than its row (unless the lengths are traced).
    """
    prompts = jnp.asarray(prompts, jnp.int32)
    lengths = _valid_lengths(lengths, prompts.shape)
    if max_new_tokens < 0:
        raise ArgumentError("max_new_tokens", f"{max_new_tokens} is negative")
    if past_context not in PAST_CONTEXT:
        accepted = ", ".join(PAST_CONTEXT)
        raise ArgumentError("past_context", f"{past_context!r} is not accepted; one of {accepted}")
    return _generate(
        decoder,
        params,
        prompts,
        lengths,
        key,
        max_new_tokens,
        jnp.float32(temperature),
        jnp.int32(top_k),
        jnp.float32(top_p),
        jnp.int32(stop_token),
        carry,
        past_context,
    )


def _valid_lengths(lengths: Any, prompts_shape: tuple[int, int]) -> jax.Array:
    """Returns the lengths of prompts; raises ArgumentError for invalid ones, clips traced ones."""
    rows, time = prompts_shape
    traced = isinstance(lengths, jax.core.Tracer)
    lengths = lengths.astype(jnp.int32) if traced else np.asarray(lengths, np.int32)
    if lengths.shape != (rows,):
        raise ArgumentError("lengths", f"shape {lengths.shape} for prompts {prompts_shape}")
    if traced:
        return jnp.clip(lengths, 1, time)
    for row, length in enumerate(lengths):
        if not 1 <= length <= time:
            found = "empty prompt" if length == 0 else f"length {length}"
            raise ArgumentError(f"lengths[{row}]", f"{found}; a row has 1 to {time} tokens")
    return jnp.asarray(lengths)


@functools.partial(jax.jit, static_argnames=("decoder", "max_new_tokens", "past_context"))
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
    past_context: str,
) -> tuple[jax.Array, jax.Array]:
    batch_size, prompt_time = prompts.shape
    row_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size, dtype=jnp.int32))
    in_prompt = jnp.arange(prompt_time, dtype=jnp.int32)[None, :] < prompt_lengths[:, None]
    tokens = jnp.pad(jnp.where(in_prompt, prompts, 0), ((0, 0), (0, max_new_tokens)))

    def body(loop: _Loop) -> _Loop:
        carry, position = _evict_and_prefill(decoder, params, loop, past_context)
        inputs = jax.lax.dynamic_index_in_dim(loop.tokens, loop.time, axis=1, keepdims=False)
        carry, logits = decoder.step(params, carry, inputs)

        time = loop.time + 1
        since_prompt = jnp.maximum(time - prompt_lengths, 0)
        step_keys = jax.vmap(jax.random.fold_in)(row_keys, since_prompt)
        sampled = sample_token(step_keys, logits, temperature, top_k, top_p)

        writes = (time >= prompt_lengths) & ~loop.done
        current = jax.lax.dynamic_index_in_dim(loop.tokens, time, axis=1, keepdims=False)
        column = jnp.where(writes, sampled, current)
        lengths = jnp.where(writes, time + 1, loop.lengths)
        stopped = (writes & (sampled == stop_token)) | (lengths == prompt_lengths + max_new_tokens)
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
    end = jax.lax.while_loop(lambda loop: ~jnp.all(loop.done), body, start)
    return end.tokens, end.lengths


def _evict_and_prefill(
    decoder: Decoder, params: Any, loop: _Loop, past_context: str
) -> tuple[Any, jax.Array]:
    """Returns carry and position with space for one more token; refills a full carry."""
    # The last token is no input. If all others fit, no refill is compiled.
    context = decoder.context_length
    if context is None or loop.tokens.shape[1] - 1 <= context:
        return loop.carry, loop.position
    kept = context - 1 if past_context == "slide" else context // 2

    def prefill_again() -> Any:
        if kept == 0:
            return empty_carry(decoder, params, loop.tokens.shape[0])
        recent = jax.lax.dynamic_slice_in_dim(loop.tokens, loop.time - kept, kept, axis=1)
        return decoder.prefill(params, recent)

    refills = full = loop.position == context
    if past_context == "slide":  # inside all prompts, no logits are read and the carry is not kept
        refills = full & jnp.any(loop.time + 1 >= loop.lengths)
    carry = jax.lax.cond(refills, prefill_again, lambda: loop.carry)
    return carry, jnp.where(full, kept, loop.position)
