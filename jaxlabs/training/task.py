"""The task of a lab: a model with its loss and its training step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxlabs.losses.loss_output import LossFunction
from jaxlabs.training.state import Tree


@dataclasses.dataclass(frozen=True)
class Task:
    """Model, loss and training step, without the data.

    Attributes:
      model: the linen module.
      init: `init(key) -> variables`.
      loss: the lab's loss, for evaluation.
      train_step: the lab's jitted step, `build_train_step(loss)`.
      derived_metrics: `metrics -> further metrics`, such as a perplexity from a loss.
      init_carry: `init_carry(batch_size) -> initial carry`; None for losses without a carry.
      batch_coupled: whether the loss of an example depends on the others of its batch, so that
        metrics depend on the batch size (contrastive losses, batch statistics).
      random: whether the training loss is stochastic or depends on the step.
    """

    model: nn.Module
    init: Callable[[jax.Array], dict[str, Tree]]
    loss: LossFunction
    train_step: Any
    derived_metrics: Callable[[dict[str, float]], dict[str, float]] = lambda metrics: {}
    init_carry: Callable[[int], Tree] = lambda batch_size: None
    batch_coupled: bool = False
    random: bool = False
