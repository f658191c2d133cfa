"""A recurrent network as a step-by-step decoder: its carry is the state, which never fills up."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax


@dataclasses.dataclass(frozen=True)
class RecurrentDecoder:
    """A model as `jaxlabs.decoding.generate` wants it; equal models make equal decoders.

    Reading the prompt is what warms the state up.

    Attributes:
      model: a linen module with `config` and with a method `decode` as
        `jaxlabs.models.char_rnn.CharRNN` has it.
      initial_states: `(config, batch_size) -> states` that have read nothing.
      tokens: only the first so many are drawn, spare rows of the vocabulary not; None: all.
    """

    model: nn.Module
    initial_states: Callable[[Any, int], Any]
    tokens: int | None = None

    @property
    def context(self) -> None:
        """There is no limit to what the carry has read."""
        return None

    def init_carry(self, batch_size: int) -> Any:
        """Returns the states of rows that have read nothing."""
        return self.initial_states(self.model.config, batch_size)

    def step(self, params: Any, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes in `tokens [batch]`; returns the states and logits `[batch, vocabulary]`."""
        logits, carry = self.model.apply({"params": params}, tokens, carry, method="decode")
        return carry, logits[:, : self.tokens]
