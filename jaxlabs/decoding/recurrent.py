"""Adapts a recurrent model to `jaxlabs.decoding.generate`; the carry is its state."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax


@dataclasses.dataclass(frozen=True)
class RecurrentStepper:
    """A recurrent model as a `Decoder`; steppers of equal models are equal.

    Attributes:
      model: a linen module with `config` and a method `decode`, such as
        `jaxlabs.models.char_rnn.CharRNN`.
      initial_states: `(config, batch_size) -> states`.
      vocab_size: number of tokens that can be sampled, if the model's vocabulary is padded; None:
        all.
    """

    model: nn.Module
    initial_states: Callable[[Any, int], Any]
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
