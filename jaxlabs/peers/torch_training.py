"""A training step as PyTorch's users write it: its own AdamW, clipping, autocast and compiler."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from jaxlabs.training.optimizers import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class Mode:
    """How PyTorch runs a model.

    Attributes:
      compiled: by `torch.compile`, else eagerly.
      bfloat16: under `torch.autocast`, else in float32.
    """

    compiled: bool = False
    bfloat16: bool = False

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the context in which forward passes run."""
        import torch

        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)

    def ready(self, module: Any, **options: Any) -> Any:
        """Returns the module as it is called, compiled or not."""
        import torch

        if not self.compiled:
            return module
        torch._dynamo.config.allow_rnn = True  # otherwise recurrent layers stay eager, unsaid
        return torch.compile(module, **options)


def build_step(
    module: Any,
    loss: Callable[[Any], Any],
    config: OptimizerConfig,
    mode: Mode,
) -> Callable[[], float]:
    """Returns `step() -> loss`: gradients, clipping and AdamW at a constant rate.

    Args:
      module: whose parameters are trained.
      loss: of the module as it is called, `loss(module) -> []`, on the step's batch.
      config: rates, decay and clipping.
      mode: how to run it.
    """
    import torch

    if config.optimizer != "adamw" or config.lr_schedule != "constant" or config.warmup_steps:
        raise ValueError("the plain step has AdamW at a constant rate")
    matrices = [leaf for leaf in module.parameters() if leaf.ndim >= 2]
    vectors = [leaf for leaf in module.parameters() if leaf.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.adam_b1, config.adam_b2),
        fused=True,
    )
    called = mode.ready(module)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with mode.autocast():
            value = loss(called)
        value.backward()
        if config.grad_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), config.grad_clip_norm)
        optimizer.step()
        return float(value.detach())

    return step
