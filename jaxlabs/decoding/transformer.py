"""A Transformer as a step-by-step decoder: its carry is what the model keeps of a text."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class TransformerDecoder:
    """A model as `jaxlabs.decoding.generate` wants it; equal models make equal decoders.

    The carry is `(caches, position)`, where position counts the tokens in the caches.

    Past the context, `generate` encodes the last `context // 2` tokens again and continues from
    there: a token then sees between half a context and a whole one. nanoGPT's `generate` encodes
    the last `context` tokens again for every new token, a sliding window. Both give the same logits
    until the context is full. After that they differ, but for the steps that fill the caches.

    Attributes:
      model: a linen module with `config.context_length` and with methods `empty_caches`, `decode`
        and `prefill` as `jaxlabs.models.transformer_lm.TransformerLM` has them.
      tokens: only the first so many are drawn, spare rows of the vocabulary not; None: all.
    """

    model: nn.Module
    tokens: int | None = None

    @property
    def context(self) -> int:
        """How many tokens the caches hold."""
        return self.model.config.context_length

    def init_carry(self, batch_size: int) -> Any:
        """Returns empty caches at position 0."""
        return self.model.empty_caches(batch_size), jnp.zeros((), jnp.int32)

    def step(self, params: Any, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes in `tokens [batch]`; returns the carry and logits `[batch, vocabulary]`."""
        caches, position = carry
        logits, caches = self.model.apply(
            {"params": params}, tokens, caches, position, method="decode"
        )
        return (caches, position + 1), logits[:, : self.tokens]

    def prefill(self, params: Any, tokens: jax.Array) -> Any:
        """Returns the carry after `tokens [batch, half]`, encoded anew from position 0."""
        caches = self.model.apply({"params": params}, tokens, method="prefill")
        return caches, jnp.full((), tokens.shape[1], jnp.int32)
