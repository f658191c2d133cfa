"""What a lab hands to the engine beside its data: a model with its loss and its step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxlabs.training.state import LossFunction, Tree


@dataclasses.dataclass(frozen=True)
class Task:
    """A learning problem without its data.

    Attributes:
      model: the linen module.
      init: `init(key) -> variables`.
      loss: the lab's loss, used for evaluation.
      train_step: the lab's jitted step, `build_train_step(loss)`.
      derive: further figures from the means of an evaluation, such as a perplexity from a loss.
      init_carry: `init_carry(batch_size)` makes what the first batch goes on from; None for losses
        that carry nothing from batch to batch.
      random: whether the training loss draws random numbers, or changes from step to step.
    """

    model: nn.Module
    init: Callable[[jax.Array], dict[str, Tree]]
    loss: LossFunction
    train_step: Any
    derive: Callable[[dict[str, float]], dict[str, float]] = lambda figures: {}
    init_carry: Callable[[int], Tree] = lambda batch_size: None
    random: bool = False
