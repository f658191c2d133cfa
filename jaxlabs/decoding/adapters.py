"""Adapts models to the `Decoder` protocol of `jaxlabs.decoding.generate`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class TransformerStepper:
    """A Transformer as a `Decoder`; steppers of equal models are equal.

    The carry is `(caches, position)`: its KV caches and the number of tokens in them.

    Beyond `context_length` tokens, `generate` refills the caches: with `past_context="half"` from
    the last `context_length // 2` tokens, so that a token sees between half a context and a whole
    one; with "slide" for every new token from the last `context_length - 1` tokens, as nanoGPT's
    `generate` does. Both give the same logits until the context is full, and again in each step
    that fills the caches.
    """

    #: a linen module with `config.context_length` and methods `empty_caches`, `decode` and
    #: `prefill`, such as `jaxlabs.models.transformer_lm.TransformerLM`
    model: nn.Module
    #: number of tokens that can be sampled, if the model's vocabulary is padded; None: all
    vocab_size: int | None = None

    @property
    def context_length(self) -> int:
        """How many tokens the caches hold."""
        return self.model.config.context_length

    def init_carry(self, batch_size: int) -> Any:
        """Returns empty caches at position 0."""
        return self.model.empty_caches(batch_size), jnp.zeros((), jnp.int32)

    def step(self, params: Any, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes `tokens [batch]`; returns the carry and logits `[batch, vocabulary]`."""
        caches, position = carry
        logits, caches = self.model.apply(
            {"params": params}, tokens, caches, position, method="decode"
        )
        return (caches, position + 1), logits[:, : self.vocab_size]

    def prefill(self, params: Any, tokens: jax.Array) -> Any:
        """Returns the carry after `tokens [batch, time]` from position 0."""
        caches = self.model.apply({"params": params}, tokens, method="prefill")
        return caches, jnp.full((), tokens.shape[1], jnp.int32)


@dataclasses.dataclass(frozen=True)
class RecurrentStepper:
    """A recurrent model as a `Decoder`; the carry is its states.

    Steppers of equal models are equal.
    """

    #: a linen module with `config` and a method `decode`, such as `jaxlabs.models.char_rnn.CharRNN`
    model: nn.Module
    initial_states: Callable[[Any, int], Any]  #: `(config, batch_size) -> states`
    #: number of tokens that can be sampled, if the model's vocabulary is padded; None: all
    vocab_size: int | None = None

    @property
    def context_length(self) -> None:
        """Unlimited."""
        return None

    def init_carry(self, batch_size: int) -> Any:
        """Returns the initial states."""
        return self.initial_states(self.model.config, batch_size)

    def step(self, params: Any, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes `tokens [batch]`; returns the states and logits `[batch, vocabulary]`."""
        logits, carry = self.model.apply({"params": params}, tokens, carry, method="decode")
        return carry, logits[:, : self.vocab_size]
